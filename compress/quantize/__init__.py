"""Drop-in conversion: a float model and a QuantSpec per layer make a quantized model with the same weights."""

from compress.quantize.calls import layer_of, writes_in_place
from compress.quantize.decisions import Row
from compress.quantize.keys import Specs
from compress.quantize.plan import Plan, explain, quantize
from compress.quantize.tracing import SHAPE_CALLS, LayerTracer, UnsupportedLayer

__all__ = [
    "SHAPE_CALLS",
    "LayerTracer",
    "Plan",
    "Row",
    "Specs",
    "UnsupportedLayer",
    "explain",
    "layer_of",
    "quantize",
    "writes_in_place",
]
