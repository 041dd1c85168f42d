"""Compiles and runs test programs that are written once and instantiated on every number type.

A *flavour* is a number type: the project's own with one lane or several, Xilinx's, Siemens'. Programs read 64-bit words
from standard input and write 64-bit words to standard output; a word is a code, sign-extended on its way in and to be
reduced to its width on its way out (:func:`codes_of`).
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, as_codes
from export.emulation.vendor_headers import ac_include, ap_include

HEADERS = Path(__file__).parent.parent / "hls_lib"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZE = ("-O0", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")

_PRELUDE = """\
#include <cstdint>
#include <cstdio>
inline std::uint64_t get() {
    std::uint64_t bits = 0;
    if (std::fread(&bits, sizeof bits, 1, stdin) != 1) bits = 0;
    return bits;
}
inline void put(std::uint64_t bits) { std::fwrite(&bits, sizeof bits, 1, stdout); }
"""

_OWN = """\
#include "qapsule/fixed.h"
using namespace qapsule;
enum : int { LANES = 1 };
template <class T> void pack(const std::uint64_t* codes, T& x) {
    typedef typename T::raw_type raw;
    x = T::from_raw(T::is_signed ? static_cast<raw>(static_cast<std::int64_t>(*codes)) : static_cast<raw>(*codes));
}
template <class T> void unpack(const T& x, std::uint64_t* codes) { *codes = static_cast<std::uint64_t>(x.raw()); }
"""

_LANES = """\
#include "qapsule/fixed.h"
using namespace qapsule;
template <class T> void pack(const std::uint64_t* codes, T& x) {
    typename T::raw_type raw{};
    for (int k = 0; k < LANES; ++k) raw[k] = static_cast<typename T::word::element>(codes[k]);
    x = T::from_raw(raw);
}
template <class T> void unpack(const T& x, std::uint64_t* codes) {
    const typename T::raw_type raw = x.raw();
    for (int k = 0; k < LANES; ++k) codes[k] = static_cast<std::uint64_t>(raw[k]);
}
"""

_AP = """\
#include <ap_fixed.h>
#include "qapsule/numbers.h"
using qapsule::select;
enum : int { LANES = 1 };
template <class T> void pack(const std::uint64_t* codes, T& x) {
    x.range(T::width - 1, 0) = ap_uint<64>(static_cast<unsigned long long>(*codes));
}
template <class T> void unpack(const T& x, std::uint64_t* codes) { *codes = T(x).range(T::width - 1, 0).to_uint64(); }
"""

_AC = """\
#include <ac_fixed.h>
#include "qapsule/numbers.h"
using qapsule::select;
enum : int { LANES = 1 };
template <class T> void pack(const std::uint64_t* codes, T& x) {
    x.set_slc(0, ac_int<T::width, false>(static_cast<unsigned long long>(*codes)));
}
template <class T> void unpack(const T& x, std::uint64_t* codes) { *codes = x.template slc<T::width>(0).to_uint64(); }
"""


@dataclass(frozen=True)
class Flavour:
    """A number type that programs are instantiated on."""

    name: str
    prelude: str
    lanes: int = 1

    def flags(self) -> list[str]:
        """Include paths; skips the test, by name, where a vendor's headers are absent."""
        flags = ["-std=c++14", f"-I{HEADERS}"]
        if self.lanes > 1:  # of wider vectors than the machine has GCC also speaks where word.h cannot silence it
            flags.append("-Wno-psabi")
        for name, folder in (("ap", ap_include()), ("ac", ac_include())):
            if self.name == name:
                if folder is None:
                    pytest.skip(f"{name}_fixed.h is not here: install hls4ml, or set QAPSULE_{name.upper()}_INCLUDE")
                # Without NDEBUG ap_private asserts where a cast drops more bits than there are; its result is right.
                flags += ["-isystem", str(folder), "-DNDEBUG"]
        return flags

    def spell(
        self,
        fmt: FixedPoint,
        rounding: Rounding = Rounding.TRN,
        overflow: Overflow | None = Overflow.WRAP,
        scalar: bool = False,
    ) -> str:
        """The C++ name of a format; ``overflow=None`` means proved absent, ``scalar`` one lane in any flavour."""
        modes = f"{rounding.value}, {overflow.value if overflow else 'PROVED'}"
        if self.name in ("own", "lanes"):
            lanes = 1 if scalar else self.lanes
            return f"fixed<{fmt.width}, {fmt.integer}, {str(fmt.signed).lower()}, {modes}, {lanes}>"
        kind = self.name.upper()
        modes = f"{kind}_{rounding.value}, {kind}_{overflow.value if overflow else 'WRAP'}"
        if self.name == "ap":
            return f"ap_{'' if fmt.signed else 'u'}fixed<{fmt.width}, {fmt.integer}, {modes}>"
        return f"ac_fixed<{fmt.width}, {fmt.integer}, {str(fmt.signed).lower()}, {modes}>"


def in_lanes(count: int) -> Flavour:
    """The project's own type with ``count`` samples side by side."""
    return Flavour("lanes", f"{_PRELUDE}enum : int {{ LANES = {count} }};\n{_LANES}", lanes=count)


OWN = Flavour("own", _PRELUDE + _OWN)
LANES = in_lanes(4)
AP = Flavour("ap", _PRELUDE + _AP)
AC = Flavour("ac", _PRELUDE + _AC)
FLAVOURS = (OWN, LANES, AP, AC)


def compiler(name: str) -> str:
    """The path of a compiler; skips the test, by name, where it is absent."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def build(source: str, program: Path, flavour: Flavour, *flags: str, cxx: str = "g++") -> Path:
    """Compiles ``source`` behind the flavour's prelude, warnings being errors."""
    run = try_build(source, program, flavour, *flags, cxx=cxx)
    assert run.returncode == 0, run.stderr[:4000]
    return program


def try_build(
    source: str, program: Path, flavour: Flavour, *flags: str, cxx: str = "g++"
) -> subprocess.CompletedProcess[str]:
    """As :func:`build`, for programs that ought not to compile."""
    text = program.with_suffix(".cpp")
    text.write_text(flavour.prelude + source)
    command = [compiler(cxx), *flavour.flags(), *WARNINGS, *flags, str(text), "-o", str(program)]
    return subprocess.run(command, capture_output=True, text=True)


def run(program: Path, words: np.ndarray) -> np.ndarray:
    """Feeds 64-bit words to a program; returns the words it wrote (uint64)."""
    done = subprocess.run([str(program)], input=words.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    return np.frombuffer(done.stdout, dtype=np.uint64)


def words_of(codes: Codes) -> np.ndarray:
    """Codes as sign-extended 64-bit words."""
    return np.array([int(c) & (1 << 64) - 1 for c in np.ravel(codes)], dtype=np.uint64)


def codes_of(words: np.ndarray, fmt: FixedPoint) -> Codes:
    """The codes of ``fmt`` that stand in the lowest bits of 64-bit words."""
    modulus = 1 << fmt.width
    reduced = [int(w) % modulus for w in words]
    return as_codes(np.array([c - modulus if c > fmt.max_code else c for c in reduced], dtype=object))
