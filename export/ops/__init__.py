"""The ops of the integer graph. Each owns its law, its meaning in integers, and what it can reach.

``eval`` is the reference that the C++ kernel of the same name must equal bit for bit. Channels are the first axis of
a sample, as in torch; per-channel constants have shape (channels,).
"""

from export.modes import Modes
from export.ops.activations import Clip, ReLU, Threshold
from export.ops.binary import BinaryDense
from export.ops.casts import Cast, ChannelCast, Input
from export.ops.conv import Conv, Convolution, SparseConv
from export.ops.elementwise import Add, ArgMax, BySign, Maximum, Minimum, Multiply, Subtract
from export.ops.linear import Dense, Full, Linear, Sparse, SparseDense, SumOfProducts
from export.ops.lookup import Table
from export.ops.movement import Concat, Rearrange, Reshape
from export.ops.pooling import MaxPool, SumPool
from export.ops.requantization import Affine, Requantize
from export.ops.softmax import Softmax

__all__ = [
    "Add",
    "Affine",
    "ArgMax",
    "BinaryDense",
    "BySign",
    "Cast",
    "ChannelCast",
    "Clip",
    "Concat",
    "Conv",
    "Convolution",
    "Dense",
    "Full",
    "Input",
    "Linear",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Modes",
    "Multiply",
    "ReLU",
    "Rearrange",
    "Requantize",
    "Reshape",
    "Softmax",
    "Sparse",
    "SparseConv",
    "SparseDense",
    "Subtract",
    "SumOfProducts",
    "SumPool",
    "Table",
    "Threshold",
]
