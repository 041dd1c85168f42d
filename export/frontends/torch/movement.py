"""What moves numbers and computes none.

Torch itself says where each number goes: the very layer or call runs on numbers that count the places, so that every
option means what it means there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from compress.quantize.calls import CAT_CALLS
from export.frontends.moving import Move, concatenated, joined_raw, moved
from export.frontends.torch.lowering import BATCH, Batch, Constant, Operand, Site, of_call, of_layer
from export.frontends.value import Raw, UnsupportedLayer
from export.ops.movement import NOWHERE

#: How many samples run through a call to see where their numbers go: several, so that it shows whether they stay apart,
#: and of two numbers, so that it shows whether the call is meant for one number alone.
_SAMPLES = (2, 3)

_LAYERS = (
    *(nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold),
    *(nn.Upsample, nn.UpsamplingNearest2d),
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d),
)
#: Functions and methods that move numbers.
FUNCTIONS = (
    *(torch.flatten, torch.unflatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose),
    *(torch.swapaxes, torch.swapdims, torch.movedim, torch.moveaxis, torch.t, torch.narrow, torch.select),
    *(torch.chunk, torch.split, torch.tensor_split, torch.unbind, torch.flip, torch.fliplr, torch.roll, torch.rot90),
    *(torch.tile, torch.repeat_interleave, torch.broadcast_to, torch.diagonal, torch.tril, torch.triu),
    *(F.pad, F.interpolate, F.upsample, F.pixel_shuffle, F.pixel_unshuffle, torch.channel_shuffle, F.unfold),
)
#: Those that take numbers by indices, which may be the model's own.
TAKING = (operator.getitem, torch.index_select)
METHODS = (
    *("flatten", "unflatten", "reshape", "view", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes"),
    *("swapdims", "movedim", "moveaxis", "t", "narrow", "select", "chunk", "split", "tensor_split", "unbind"),
    *("flip", "fliplr", "roll", "rot90", "tile", "repeat", "repeat_interleave", "expand", "broadcast_to"),
    *("diagonal", "tril", "triu", "unfold", "contiguous", "clone", "detach"),
)


@of_layer(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
def identity(site: Site, module: nn.Module, x: Operand) -> Operand:
    """Dropout drops nothing in eval mode."""
    return x


@of_call("float", "double")
def real(site: Site, x: Operand) -> Operand:
    return x


@of_layer(*_LAYERS)
def layer(site: Site, module: nn.Module, x: Operand) -> Any:
    return rearranged(site, x, module)


def _call(function: Callable[..., Any], site: Site, x: Operand, *args: Any, **kwargs: Any) -> Any:
    def call(counted: torch.Tensor) -> Any:
        given, named = _sized((args, kwargs), len(counted))
        return function(counted, *given, **named)

    return rearranged(site, x, call)


def _method(name: str, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return getattr(x, name)(*args, **kwargs)


for _function in FUNCTIONS:
    of_call(_function)(partial(_call, _function))
for _name in METHODS:
    of_call(_name)(partial(_call, partial(_method, _name)))
for _taking in TAKING:
    of_call(_taking, constants=True)(partial(_call, _taking))
of_call("index_select", constants=True)(partial(_call, torch.index_select))


@of_call(*CAT_CALLS)
def concatenation(site: Site, tensors: Sequence[Operand], dim: int = 0, axis: int | None = None) -> Operand:
    along = sample_axis(site, tensors[0], dim if axis is None else axis)
    raw = [part for part in tensors if isinstance(part, Raw)]
    if len(raw) == len(tensors) and (joined := joined_raw(site.label, raw, along)) is not None:
        return joined
    return concatenated(site.build, site.label, [site.settled(part) for part in tensors], along)


@of_call(torch.stack)
def stack(site: Site, tensors: Sequence[Operand], dim: int = 0) -> Operand:
    """Along an axis of its own."""
    apart = [rearranged(site, part, lambda counted: counted.unsqueeze(dim)) for part in tensors]
    return concatenation(site, apart, dim)


def sample_axis(site: Site, x: Operand, dim: int) -> int:
    """Torch's axis ``dim`` of a batch, counted without the batch."""
    axes = len(shape_of(x))
    axis = dim + axes + 1 if dim < 0 else dim
    if axis == 0:
        raise site.refusal(f"acts along axis {dim}, which is the batch's; every sample has to stay by itself")
    if not 1 <= axis <= axes:
        raise site.refusal(f"acts along axis {dim} of samples with the axes 1 to {axes}")
    return axis - 1


def shape_of(x: Operand) -> tuple[int, ...]:
    """Of one sample."""
    return x.shape if isinstance(x, Raw) else x.tensor.shape


def _sized(arguments: Any, samples: int) -> Any:
    """The arguments as torch takes them, with a number of samples in the place of the batch's size."""
    match arguments:
        case Batch():
            return samples
        case Constant():
            return torch.from_numpy(arguments.values)
        case dict():
            return {name: _sized(value, samples) for name, value in arguments.items()}
        case slice():
            return slice(*_sized((arguments.start, arguments.stop, arguments.step), samples))
        case tuple() | list():
            return type(arguments)(_sized(value, samples) for value in arguments)
    return arguments


def rearranged(site: Site, x: Operand, call: Callable[[torch.Tensor], Any]) -> Any:
    """What ``call`` makes of ``x``: one operand, or several in a tuple."""
    (moves, alone), (others, _) = (_seen(site, shape_of(x), call, samples) for samples in _SAMPLES)
    for move, other in zip(moves, others, strict=True):
        if not np.array_equal(move.source, other.source):
            raise _mixing(site)
    made = tuple(moved(site.build, site.label, x, move) for move in moves)
    return made[0] if alone else made


def _seen(
    site: Site, shape: tuple[int, ...], call: Callable[[torch.Tensor], Any], samples: int
) -> tuple[list[Move], bool]:
    """Where ``call`` takes the numbers of samples, for each tensor that it makes; and whether it makes one alone."""
    size = int(np.prod(shape))
    counted = torch.arange(1, samples * size + 1, dtype=torch.float64).reshape(samples, *shape)
    drawn = torch.rand(counted.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            results = [call(numbers) for numbers in (counted, counted + counted.numel(), drawn)]
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        raise site.refusal(
            f"does not work on samples of shape {shape}, however many ({' '.join(str(error).split())})"
        ) from error
    if isinstance(results[0], torch.Tensor):
        return [_move(site, size, results, drawn)], True
    return [_move(site, size, each, drawn) for each in zip(*results, strict=True)], False


def _move(site: Site, size: int, made: Sequence[torch.Tensor], drawn: torch.Tensor) -> Move:
    """Where each number of a sample of ``size`` comes from, as seen on three inputs of which ``drawn`` is the last."""
    if made[0].ndim < 2:
        raise site.refusal("leaves no axis beside the batch's; keep one (x[:, 0:1] in place of x[:, 0])")
    one, other, last = (numbers.numpy() for numbers in made)
    constant = one == other
    source = np.where(constant, NOWHERE + 1, one).astype(np.int64) - 1
    expected = np.where(constant, one, drawn.numpy().ravel()[np.clip(source, 0, drawn.numel() - 1)])
    fills = np.unique(one[constant])
    if not np.array_equal(last, expected) or len(fills) > 1 or not np.isfinite(fills).all():
        raise site.refusal(
            "computes numbers with these arguments; only what moves them is lowered, such as mode='nearest' or a "
            "padding by one constant"
        )
    samples = np.arange(len(one)).reshape(-1, *(1,) * (one.ndim - 1))
    within = np.where(constant, NOWHERE, source % size)
    if len(one) != len(drawn) or not (constant | (source // size == samples)).all() or (within != within[:1]).any():
        raise _mixing(site)
    return Move(within[0], Fraction(float(fills[0])) if len(fills) else Fraction(0))


def _mixing(site: Site) -> UnsupportedLayer:
    return site.refusal("mixes the batch's axis with the others; every sample has to stay by itself")


# -- asking for a shape


@of_call("size")
def size(site: Site, x: Operand, dim: int | None = None) -> Any:
    sizes = (BATCH, *shape_of(x))
    return sizes if dim is None else sizes[dim]


@of_call("dim", "ndimension")
def dim(site: Site, x: Operand) -> int:
    return 1 + len(shape_of(x))


@of_call(getattr)
def attribute(site: Site, x: Operand, name: str) -> Any:
    match name:
        case "shape":
            return size(site, x)
        case "ndim":
            return dim(site, x)
    raise site.refusal(f"asks a tensor for its {name}, which has no exact lowering")
