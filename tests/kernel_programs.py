"""Programs that put samples through kernels, compiled for any number type, and the codes they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cxx import Flavour, build, codes_of, run, words_of

from compress.fixed import Codes, FixedPoint, Overflow, Rounding, cast

N_IN, SAMPLES = 6, 64


@dataclass(frozen=True)
class Type:
    """A format with the modes that a conversion into it obeys; ``overflow=None``: proved absent."""

    fmt: FixedPoint
    rounding: Rounding = Rounding.TRN
    overflow: Overflow | None = Overflow.WRAP

    def cast(self, code: int, frac: int) -> int:
        if self.overflow is None:
            exact = cast(code, frac, FixedPoint(64, self.fmt.frac), self.rounding, Overflow.WRAP)
            assert self.fmt.min_code <= int(exact) <= self.fmt.max_code, "the test's own proof is wrong"
            return int(exact)
        return int(cast(code, frac, self.fmt, self.rounding, self.overflow))

    def spell(self, flavour: Flavour, scalar: bool = False) -> str:
        return flavour.spell(self.fmt, self.rounding, self.overflow, scalar)


X = Type(FixedPoint.of(6, 3))


def inputs() -> Codes:
    """Samples (SAMPLES, N_IN) of X: at random, and the ends of the range."""
    x = np.random.default_rng(6).integers(X.fmt.min_code, X.fmt.max_code + 1, (SAMPLES, N_IN))
    x[0], x[1] = X.fmt.min_code, X.fmt.max_code
    return x


@dataclass(frozen=True)
class Kernel:
    """One call ``call`` from x to y, and ``reference``: one sample's codes to the codes it must give."""

    call: str
    y: Type
    size: int
    reference: Callable[[list[int]], list[int]]


def braces(values: Iterable[object]) -> str:
    return "{" + ", ".join(str(v) for v in values) + "}"


def array(flavour: Flavour, name: str, kind: Type, codes: Codes) -> str:
    """A table of constants."""
    reals = codes / 2**kind.fmt.frac
    rows = braces(map(float, reals)) if codes.ndim == 1 else braces(braces(map(float, row)) for row in reals)
    shape = "".join(f"[{n}]" for n in codes.shape)
    return f"static const {kind.spell(flavour, scalar=True)} {name}{shape} = {rows};"


def program(flavour: Flavour, headers: Sequence[str], constants: Sequence[str], kernels: Mapping[str, Kernel]) -> str:
    """One that includes ``headers``, declares ``constants`` and calls ``kernels``, by name, on every sample."""
    lines = [*constants, f"typedef {X.spell(flavour)} x_t;"]
    calls = []
    for name, kernel in kernels.items():
        y = kernel.y.spell(flavour)
        lines.append(
            f"struct run_{name} {{ typedef {y} y_t; static constexpr int size = {kernel.size};\n"
            f"    static void of(const x_t (&x)[{N_IN}], y_t (&y)[size]) {{ qapsule::{kernel.call}; }} }};"
        )
        calls.append(f"        layer<run_{name}>(x);")
    includes = "".join(f'#include "qapsule/{header}.h"\n' for header in headers)
    return (
        includes
        + "\n".join(lines)
        + f"""
template <class KERNEL> void layer(const x_t (&x)[{N_IN}]) {{
    typename KERNEL::y_t y[KERNEL::size];
    KERNEL::of(x, y);
    QAPSULE_TRACE("y", y)
    for (int i = 0; i < KERNEL::size; ++i) {{
        std::uint64_t words[LANES];
        unpack(y[i], words);
        for (int k = 0; k < LANES; ++k) put(words[k]);
    }}
}}
int main() {{
    for (int done = 0; done < {SAMPLES}; done += LANES) {{
        std::uint64_t words[{N_IN}][LANES];
        for (int k = 0; k < LANES; ++k)
            for (int i = 0; i < {N_IN}; ++i) words[i][k] = get();
        x_t x[{N_IN}];
        for (int i = 0; i < {N_IN}; ++i) pack(words[i], x[i]);
"""
        + "\n".join(calls)
        + "\n    }\n}\n"
    )


def outputs(
    source: str, kernels: Mapping[str, Kernel], flavour: Flavour, folder: Path, *flags: str, cxx: str = "g++"
) -> dict[str, Codes]:
    """The codes (SAMPLES, size) that each kernel of a program gives, compiled for a flavour."""
    words = run(build(source, folder / "kernels", flavour, *flags, cxx=cxx), words_of(inputs()))
    batches = words.reshape(SAMPLES // flavour.lanes, -1)
    result, at = {}, 0
    for name, kernel in kernels.items():
        length = kernel.size * flavour.lanes
        chunk = batches[:, at : at + length].reshape(-1, kernel.size, flavour.lanes).swapaxes(1, 2)
        result[name] = codes_of(chunk.ravel(), kernel.y.fmt).reshape(SAMPLES, kernel.size)
        at += length
    assert at == batches.shape[1]
    return result


def expected_of(kernels: Mapping[str, Kernel]) -> dict[str, Codes]:
    """What each kernel must give, (SAMPLES, size)."""
    return {
        name: np.array([kernel.reference([int(v) for v in sample]) for sample in inputs()])
        for name, kernel in kernels.items()
    }


def assert_equal(got: Mapping[str, Codes], expected: Mapping[str, Codes]) -> None:
    wrong = {name: int((got[name] != codes).sum()) for name, codes in expected.items() if (got[name] != codes).any()}
    assert wrong == {}
