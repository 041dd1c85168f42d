"""Names from a user's model as C++ identifiers: legal, unique, and the same ones every time."""

from __future__ import annotations

import re
import unicodedata

_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class compl
concept const const_cast consteval constexpr constinit continue co_await co_return co_yield decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
"""

# What the headers of C, of POSIX and of the vendors put into the global scope in lower case: macros and objects that a
# name must not meet, and files, namespaces and arguments of the project itself.
_GLOBALS = """
assert complex component daylight environ errno imaginary linux load main offsetof optarg opterr optind optopt setjmp
signgam std stderr stdin stdout timezone types unix va_arg va_copy va_end
va_start weights
"""

# Types with the suffix that the types of tensors have.
_SYSTEM_TYPES = """
blkcnt blksize caddr char16 char32 char8 clock clockid comparison_fn cookie_io_functions daddr dev div double errno
error float fpos fsblkcnt fsfilcnt fsid gid id idtype imaxdiv ino int int16 int32 int64 int8 int_fast16 int_fast32
int_fast64 int_fast8 int_least16 int_least32 int_least64 int_least8 intmax intptr key ldiv lldiv locale loff max_align
mbstate mode nlink nullptr off once pid ptrdiff quad register rlim sa_family sig_atomic sigset size ssize suseconds
time timer u_int16 u_int32 u_int64 u_int8 u_quad uid uint uint16 uint32 uint64 uint8 uint_fast16 uint_fast32
uint_fast64 uint_fast8 uint_least16 uint_least32 uint_least64 uint_least8 uintmax uintptr useconds wchar wctrans wctype
wint
"""

_RESERVED = frozenset((_KEYWORDS + _GLOBALS).split()) | {f"{name}_t" for name in _SYSTEM_TYPES.split()}

# Beginnings that belong to the kernels and to the vendors.
_PREFIXES = ("ac_", "ap_", "hls", "ihc", "qapsule")

# The C++ standard asks compilers for 1,024 significant characters; HLS tools derive longer names from ours.
_LONGEST = 64


class Identifiers:
    """Hands out identifiers that differ from each other even where case does not count, as in file names."""

    def __init__(self) -> None:
        self._taken = set(_RESERVED)

    def claim(self, name: str, *suffixes: str) -> str:
        """An identifier for ``name`` such that it and it with each of ``suffixes`` are free; all are taken then."""
        stem = legal(name)
        candidate, number = stem, 1
        while not (family := {candidate, *(candidate + s for s in suffixes)}).isdisjoint(self._taken):
            number += 1
            candidate = f"{stem}_{number}"
        self._taken |= family
        return candidate


def legal(name: str) -> str:
    """``name`` in lower case ASCII letters, digits and single underscores, with a letter first.

    All lower case: the macros of every system and vendor header are upper case. Two names may become one.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() if name.isprintable() else name
    stem = re.sub(r"[^a-z0-9]+", "_", plain.lower())[:_LONGEST].strip("_")
    if not stem:
        return "tensor"
    # Suffixes and numbers follow after an underscore: "ap" would become "ap_t" and "ap_2".
    return stem if stem[0].isalpha() and not f"{stem}_".startswith(_PREFIXES) else f"layer_{stem}"


def quoted(text: str) -> str:
    """``text`` as a C++ string literal of printable ASCII, which can end neither itself nor the line it stands on."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode(errors="surrogatepass")) + '"'
