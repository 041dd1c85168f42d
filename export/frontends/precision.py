"""Post-training precision for plain float layers, the classic way."""

from __future__ import annotations

from dataclasses import dataclass

from compress.fixed import FixedPoint
from export.ops import Modes

_CLASSIC = FixedPoint.of(16, 6)
_CLASSIC_MODES = Modes()


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Formats of one float layer. The defaults are hls4ml's: ``ap_fixed<16,6>``, truncating and wrapping.

    Weights and biases are rounded half to even and saturated into theirs. ``accumulator`` None keeps every sum exact;
    a format casts the bias, each product and each partial sum into it with ``modes``, in the order of the kernel.
    The layer's result is cast to ``result`` with ``modes``.
    """

    weight: FixedPoint = _CLASSIC
    bias: FixedPoint = _CLASSIC
    result: FixedPoint = _CLASSIC
    accumulator: FixedPoint | None = None
    modes: Modes = _CLASSIC_MODES
