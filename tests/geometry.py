"""Windows and convolutions of every shape, drawn for the property tests of the ops that have them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from export.ops.windows import Sliding, Window


@st.composite
def slidings(draw: DrawFn, most_padding: int = 3, one_sided: bool = False) -> Sliding:
    """One axis. Padding is alike on both sides, as torch's is, unless ``one_sided``."""
    kernel, dilation, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    before = draw(st.integers(0, most_padding))
    after = draw(st.integers(0, most_padding)) if one_sided else before
    least = max(1, dilation * (kernel - 1) + 1 - before - after)
    return Sliding(draw(st.integers(least, least + 4)), kernel, stride, dilation, before, after)


def windows(one_sided: bool = False) -> st.SearchStrategy[Window]:
    return st.lists(slidings(one_sided=one_sided), min_size=1, max_size=2).map(lambda axes: Window(tuple(axes)))


@dataclass(frozen=True)
class Channels:
    """Of a convolution: each group of ``groups`` reads and makes so many."""

    groups: int
    read: int
    made: int


CHANNELS = st.builds(Channels, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
SEEDS = st.integers(0, 1 << 30)
