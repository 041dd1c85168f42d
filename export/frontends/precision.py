"""Post-training precision for plain float layers, the classic way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from compress.fixed import FixedPoint
from compress.profile import Suggestion
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


class Formats(TypedDict):
    """Arguments of ``to_graph``, ``to_hls`` and ``emulate``."""

    input_format: FixedPoint
    precision: Mapping[str, Precision]


def suggested(suggestion: Suggestion) -> Formats:
    """The formats that a profile suggests, with exact sums: ``to_hls(model, out, shape, **suggested(suggestion))``."""
    modes = Modes(suggestion.rounding, suggestion.overflow)
    return Formats(
        input_format=suggestion.input,
        precision={
            name: Precision(
                weight=formats.weight or _CLASSIC, bias=formats.bias or _CLASSIC, result=formats.result, modes=modes
            )
            for name, formats in suggestion.layers.items()
        },
    )
