"""The quantized layers, and what can be read off them. The only room that names Brevitas.

Each layer *is* a Brevitas layer, with Brevitas's quantizers inside, so whatever works on those works on these. Its
``forward`` takes a shorter way to the same numbers (:mod:`compress.fakequant`) where there is one; with ``lean=False``
it takes Brevitas's own. Layers take and return plain float tensors.

The readers also accept plain Brevitas layers: nobody else has to know what those look like inside.
"""

from compress.layers.activations import (
    QuantGELU,
    QuantHardSigmoid,
    QuantHardTanh,
    QuantIdentity,
    QuantLeakyReLU,
    QuantPReLU,
    QuantReLU,
    QuantReLU6,
    QuantSigmoid,
    QuantSiLU,
    QuantTanh,
)
from compress.layers.calibration import calibrate
from compress.layers.readers import (
    Kind,
    accumulator_of,
    activation_of,
    bias_of,
    format_of,
    is_quantized,
    kind,
    output_of,
    scale_of,
    slopes_of,
    weight_of,
    width_of,
)
from compress.layers.weighted import QuantConv1d, QuantConv2d, QuantLinear
from compress.readout import (
    ActivationQuantizer,
    BinaryQuantizer,
    QuantizedArray,
    UncalibratedQuantizer,
    UnreadableQuantizer,
)
from compress.spec import QuantSpec, QuantSpecError, Range, Scale

__all__ = [
    "ActivationQuantizer",
    "BinaryQuantizer",
    "Kind",
    "QuantConv1d",
    "QuantConv2d",
    "QuantGELU",
    "QuantHardSigmoid",
    "QuantHardTanh",
    "QuantIdentity",
    "QuantLeakyReLU",
    "QuantLinear",
    "QuantPReLU",
    "QuantReLU",
    "QuantReLU6",
    "QuantSiLU",
    "QuantSigmoid",
    "QuantSpec",
    "QuantSpecError",
    "QuantTanh",
    "QuantizedArray",
    "Range",
    "Scale",
    "UncalibratedQuantizer",
    "UnreadableQuantizer",
    "accumulator_of",
    "activation_of",
    "bias_of",
    "calibrate",
    "format_of",
    "is_quantized",
    "kind",
    "output_of",
    "scale_of",
    "slopes_of",
    "weight_of",
    "width_of",
]
