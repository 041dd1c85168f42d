"""Post-training precision for plain float layers, the classic way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from compress.fixed import FixedPoint
from compress.profile import Suggestion
from export.ops import Modes
from export.ops.lookup import MAX_INDEX_WIDTH

_CLASSIC = FixedPoint.of(16, 6)
_CLASSIC_MODES = Modes()


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Formats of one float layer. The defaults are hls4ml's: ``ap_fixed<16,6>``, truncating and wrapping.

    Weights and biases are rounded half to even and saturated into theirs. ``accumulator`` None keeps every sum exact;
    a format casts the bias, each product and each partial sum into it with ``modes``, in the order of the kernel.
    The layer's result is cast to ``result`` with ``modes``.

    Tanh, sigmoid, SiLU and GELU that no quantizer follows are read from a table, which holds the real function rounded
    to nearest and saturated, by the upper ``table_width`` bits of what they read; the graph's notes state the error.
    So do they that of a softmax, whose tables have as many places; it subtracts its largest input first where
    ``stable``, else a constant that none exceeds.
    """

    weight: FixedPoint = _CLASSIC
    bias: FixedPoint = _CLASSIC
    result: FixedPoint = _CLASSIC
    accumulator: FixedPoint | None = None
    modes: Modes = _CLASSIC_MODES
    table_width: int = 12
    stable: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.table_width <= MAX_INDEX_WIDTH:
            raise ValueError(f"a table's index has 1 to {MAX_INDEX_WIDTH} bits, got table_width={self.table_width}")


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
