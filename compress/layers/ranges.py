"""What every activation layer shares: a range that is either constant or found, then learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from compress.fakequant import SMALLEST_RANGE, Grid, fake_quantize_activation, range_exponent
from compress.layers.state import is_in_other_use, is_plain, is_set, uncalibrated
from compress.readout import UncalibratedQuantizer
from compress.spec import QuantSpec, Scale

#: Float ranges are sought among this many per power of two, from twice the largest magnitude down to a 64th of it.
_STEPS_PER_OCTAVE = 16
_EXPONENTS = range(-6 * _STEPS_PER_OCTAVE, _STEPS_PER_OCTAVE + 1)


class LearnedRange(nn.Module):
    """What our activation layers add to Brevitas's: a range that is either constant or found, then learned.

    The state dict holds the range (its logarithm, for a power of two) and ``calibrated``, and nothing else decides what
    a forward does: the first training batch that is not all zeros calibrates, and a restored state behaves as the saved
    one did. The shorter way takes power-of-two scales of grids that are not binary; the others go through Brevitas.
    """

    #: Whether the quantizer itself sets negative numbers to zero, which then is all that ``function`` does.
    _rectify = False
    calibrated: Tensor
    _modules: dict[str, Any]

    def _prepare(self, spec: QuantSpec, grid: Grid, scale: Scale, lean: bool) -> None:
        self.spec = spec
        self.lean = lean
        self._grid = grid
        self._scale = scale
        self._lean_grid = grid if scale is Scale.POWER_OF_TWO and not grid.binary else None
        self.register_buffer("calibrated", torch.tensor(grid.frac is not None))

    @property
    def learned_range(self) -> nn.Parameter | None:
        """The trained parameter: the range itself for a float scale, else as ``log2_range``. None where it is fixed."""
        if self._grid.frac is not None:
            return None
        # Through the dictionaries of modules: attributes of a module take five times as long, at every step.
        proxy = self._modules["act_quant"]._modules["fused_activation_quant_proxy"]
        parameter: nn.Parameter = proxy._modules["tensor_quant"]._modules["scaling_impl"].value
        return parameter

    @property
    def log2_range(self) -> nn.Parameter | None:
        """The learned logarithm of the range, rounded up when used; None for a constant binary point or float scale."""
        return self.learned_range if self._scale is Scale.POWER_OF_TWO else None

    def function(self, x: Tensor) -> Tensor:
        """The activation function whose result is quantized."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        if not is_set(self, "calibrated"):
            if not self.training:
                raise UncalibratedQuantizer(uncalibrated(type(self).__name__))
            self.calibrate_on(x)
        return self._quantized(x if self._rectify else self.function(x))

    def _quantized(self, real: Tensor) -> Tensor:
        grid = self._lean_grid
        if grid is None or not self.lean or is_in_other_use(self, "act_quant") or not is_plain(real):
            through_brevitas: Tensor = super().forward(real)
            return through_brevitas
        return fake_quantize_activation(real, self.learned_range, grid, self._rectify)

    @torch.no_grad()
    def calibrate_on(self, *inputs: Tensor) -> bool:
        """Take the range with the least squared error on ``inputs``. False if these give but zeros, which tell nothing.

        A power of two is found exactly, and its logarithm put in the middle of those that round up to it, so that
        learning does not undo it at once; a float range is found to within a twentieth. Raises ``ValueError`` for NaN
        and infinity.
        """
        learned = self.learned_range
        made = [self.function(x) for x in inputs]
        real = made[0] if len(made) == 1 else torch.cat([each.flatten() for each in made])
        if not all(torch.isfinite(x).all() for x in inputs):
            raise ValueError(f"{type(self).__name__}: cannot calibrate on NaN or infinite activations; check the data")
        largest = real.abs().max().item() if real.numel() else 0.0
        if learned is None or largest == 0:
            return learned is None
        before = learned.clone()

        def error(value: float) -> float:
            learned.fill_(value)
            return (self._quantized(real) - real).square().sum().item()

        try:
            best = _least(error, largest, self._scale, real.dtype)
        except BaseException:
            learned.copy_(before)
            raise
        learned.fill_(best)
        self.calibrated.fill_(True)
        return True

    def _says(self) -> list[str]:
        """What is quantized how, in the words that ``repr`` uses."""
        grid = self._grid
        width = "binary" if grid.binary else f"{grid.width}-bit {'signed' if grid.signed else 'unsigned'}"
        point = "learned range" if grid.frac is None else f"{grid.frac} fraction bits"
        return [width, point, *(["float scale"] if self._scale is Scale.FLOAT else [])]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._says())})"


def _least(error: Callable[[float], float], largest: float, scale: Scale, dtype: torch.dtype) -> float:
    """The value of a learned range that makes ``error`` smallest, for data up to ``largest``."""
    if scale is Scale.FLOAT:
        return min((largest * 2.0 ** (k / _STEPS_PER_OCTAVE) for k in _EXPONENTS), key=error)
    # One above the next power of two: a largest magnitude that is itself one would saturate at the next.
    exponent = range_exponent(max(largest, SMALLEST_RANGE), dtype) + 1
    while error(exponent - 1.5) < error(exponent - 0.5):
        exponent -= 1
    return exponent - 0.5
