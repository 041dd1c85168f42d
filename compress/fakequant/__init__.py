"""Fake quantization onto fixed-point grids: what Brevitas computes with a hundred small tensor operations, in a few.

With a power-of-two scale, dividing by the scale is exact, and the gradient of the scale collapses to two sums. Each
function here is therefore equal, as numbers, to the Brevitas quantizers it stands for (those :mod:`compress.layers`
builds), forward and backward, in float32 and in float64. The one condition is that no *intermediate* value of
Brevitas's longer way leaves the normal range of the float type; where one does, this shorter way is the more exact of
the two. ``tests/test_compress_fakequant.py`` holds them against each other.

The rules, in words: round half to even; clip to the grid; a gradient passes straight through the rounding. Of a
parameter it also passes through the clip, and reaches the largest magnitude (shared evenly among ties) through the
scale; of an activation it stops where the clip acts, and reaches the learned logarithm of the range through the scale.
"""

from compress.fakequant.accumulator import accumulated
from compress.fakequant.grid import FLOAT32_BITS, SMALLEST_RANGE, Grid, range_exponent
from compress.fakequant.nodes import fake_quantize_activation, fake_quantize_parameter, fake_quantized_linear

__all__ = [
    "FLOAT32_BITS",
    "SMALLEST_RANGE",
    "Grid",
    "accumulated",
    "fake_quantize_activation",
    "fake_quantize_parameter",
    "fake_quantized_linear",
    "range_exponent",
]
