"""Which element every tap reads: counted one by one, and as torch's own padding and unfolding say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from geometry import slidings, windows
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from export.ops.windows import PADDING, Adaptive, Sliding, Window, adaptive


@given(slidings(one_sided=True))
def test_a_sliding_window_reads_what_stands_there(axis):
    padded = [PADDING] * axis.before + list(range(axis.size)) + [PADDING] * axis.after
    starts = range(0, len(padded) - axis.dilation * (axis.kernel - 1), axis.stride)
    assert axis.reads.tolist() == [[padded[s + t * axis.dilation] for t in range(axis.kernel)] for s in starts]
    assert axis.positions == len(starts)


@given(windows())
def test_over_two_axes_as_torch_unfolds(window):
    axes = window.axes if len(window.axes) == 2 else (Sliding(1, 1), *window.axes)
    places = torch.arange(1.0, 1 + axes[0].size * axes[1].size).reshape(1, 1, axes[0].size, axes[1].size)
    kernel, stride, dilation, before = (tuple(getattr(a, f) for a in axes)
                                        for f in ("kernel", "stride", "dilation", "before"))  # fmt: skip
    taken = F.unfold(places, kernel, dilation, before, stride)[0].T.numpy()
    assert np.array_equal(window.reads, np.where(taken == 0, PADDING, taken - 1))
    assert np.array_equal(window.counts, (taken != 0).sum(axis=1).reshape(window.positions))
    assert window.taps == window.reads.shape[1] == taken.shape[1]


@given(st.integers(1, 12), st.integers(1, 12))
def test_adaptive_windows_are_those_of_torch(size, positions):
    """The sum of 1, 4, 16, ... tells which elements a window reads; torch gives the mean."""
    powers = 4.0 ** np.arange(size)
    means = F.adaptive_avg_pool1d(torch.tensor(powers)[None, None], positions)[0, 0].numpy()
    axis = adaptive(size, positions)
    for reads, mean in zip(axis.reads, means, strict=True):
        inside = reads[reads != PADDING]
        assert powers[inside].sum() == mean * len(inside)
    assert axis.positions == positions and axis.kernel == (axis.reads != PADDING).sum(axis=1).max()
    assert isinstance(axis, Sliding) == (size % positions == 0)


def test_taken():
    window = Window((Sliding(3, 2, before=1),))
    codes = np.arange(12).reshape(2, 2, 3)
    assert window.taken(codes, padding=-9).tolist() == [
        [[[-9, 0], [0, 1], [1, 2]], [[-9, 3], [3, 4], [4, 5]]],
        [[[-9, 6], [6, 7], [7, 8]], [[-9, 9], [9, 10], [10, 11]]],
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sliding(3, 3, dilation=2), "a window spans 5 elements, the axis has 3 with its padding"),
        (
            lambda: Sliding(3, 3, stride=0),
            "sizes, kernels, strides and dilations begin at 1, paddings at 0; got "
            "Sliding(size=3, kernel=3, stride=0, dilation=1, before=0, after=0)",
        ),
        (
            lambda: Sliding(3, 1, after=-1),
            "sizes, kernels, strides and dilations begin at 1, paddings at 0; got "
            "Sliding(size=3, kernel=1, stride=1, dilation=1, before=0, after=-1)",
        ),
        (
            lambda: Adaptive(3, 0),
            "an axis has at least one element and one position, got Adaptive(size=3, positions=0)",
        ),
        (lambda: Window((Sliding(1, 1),) * 3), "windows have one or two axes, got 3"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
