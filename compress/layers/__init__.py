"""The quantized layers, and what can be read off them. The only room that names Brevitas.

Each layer *is* the Brevitas layer of its name, with Brevitas's quantizers inside, so whatever works on those works on
these. Its ``forward`` takes a shorter way to the same numbers (:mod:`compress.fakequant`); with ``lean=False`` it takes
Brevitas's own. Layers take and return plain float tensors.

The readers also accept plain Brevitas layers: nobody else has to know what those look like inside.
"""

from compress.layers.modules import QuantIdentity, QuantLinear, QuantReLU, calibrate
from compress.layers.readers import Kind, activation_of, bias_of, format_of, is_quantized, kind, weight_of, width_of
from compress.readout import ActivationQuantizer, QuantizedArray, UncalibratedQuantizer, UnreadableQuantizer
from compress.spec import QuantSpec, QuantSpecError

__all__ = [
    "ActivationQuantizer",
    "Kind",
    "QuantIdentity",
    "QuantLinear",
    "QuantReLU",
    "QuantSpec",
    "QuantSpecError",
    "QuantizedArray",
    "UncalibratedQuantizer",
    "UnreadableQuantizer",
    "activation_of",
    "bias_of",
    "calibrate",
    "format_of",
    "is_quantized",
    "kind",
    "weight_of",
    "width_of",
]
