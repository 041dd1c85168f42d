"""Moving numbers: transposing, slicing, padding and repeating, of what has a scale or waits for a quantizer too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.fixed import FixedPointError
from export.arithmetic import binary_places
from export.frontends.functions import Clamp, Curve, Function, Leak
from export.frontends.value import ONE, ZERO, Rationals, Raw, UnsupportedLayer, Value, spread
from export.ir import Const, Tensor
from export.ops.casts import covering
from export.ops.movement import NOWHERE, Concat, Rearrange, Reshape

if TYPE_CHECKING:
    from export.frontends.builder import Builder


@dataclass(frozen=True, eq=False)
class Move:
    """Where each number of a tensor of this shape comes from.

    ``source`` counts the numbers of the tensor read, row-major; -1 stands for the constant ``fill``.
    """

    source: NDArray[np.int64]
    fill: Fraction = ZERO

    @property
    def is_filled(self) -> bool:
        return bool((self.source == NOWHERE).any())

    @property
    def is_row_major(self) -> bool:
        """Whether all numbers stay in their order, so that only the axes change."""
        return bool(np.array_equal(self.source.ravel(), np.arange(self.source.size)))


def moved(build: Builder, label: str, x: Value | Raw, move: Move) -> Value | Raw:
    """The numbers of ``x``, moved."""
    shape = move.source.shape
    if isinstance(x, Raw):
        if move.is_filled and move.fill != ZERO:
            raise UnsupportedLayer(
                f"{label}: puts {float(move.fill)} beside the model's input, which is not quantized yet; put a "
                "QuantIdentity before it"
            )
        return replace(x, shape=shape, moves=(*x.moves, (label, move)))
    if move.is_row_major and shape == x.tensor.shape:
        return x
    x = build.with_precision(x)
    try:
        return _on(build, label, x, move)
    except UnsupportedLayer:
        if x.unscaled or (exact := build.exactly(x)) is None:
            raise
        return _on(build, label, exact, move)


def _on(build: Builder, label: str, x: Value, move: Move) -> Value:
    """With the scales and slopes of ``x`` moved along."""
    shape, channels = move.source.shape, _channels_behind(label, x, move)
    fill = _filling(label, x, move, channels) if move.is_filled else ZERO
    name = build.unique(label)
    if move.is_row_major and x.tensor.size == move.source.size:
        tensor = build.add(Reshape(Tensor(name, shape, x.tensor.format), x.tensor))
    else:
        places = binary_places([fill]) or 0
        constant = Const.fitting([int(fill * 2**places)], places)
        try:
            fmt = covering((x.tensor.format, constant.format)) if move.is_filled else x.tensor.format
        except FixedPointError as error:
            raise UnsupportedLayer(f"{label}: {x.label} and its padding have no common format ({error})") from None
        source = tuple(move.source.ravel().tolist())
        tensor = build.add(Rearrange(Tensor(name, shape, fmt), x.tensor, source, int(fill / fmt.lsb)))
    scale, offset = zip(*(x.lines[channel] for channel in channels), strict=True)
    slopes = slopes_of(x)
    function = x.function if slopes is None else Leak(tuple(slopes[channel] for channel in channels))
    return replace(x, tensor=tensor, scale=scale, offset=offset, function=function)


def slopes_of(x: Value) -> Rationals | None:
    """Those of a leak that waits, one for each channel."""
    return spread(x.function.slopes, x.tensor.shape[0]) if isinstance(x.function, Leak) else None


def _channels_behind(label: str, x: Value, move: Move) -> Sequence[int]:
    """For each channel of the result one of ``x`` that is scaled as all that it comes from; one for all if possible."""
    first: dict[object, int] = {}
    traits = zip(x.lines, slopes_of(x) or [ONE] * x.tensor.shape[0], strict=True)
    kinds = [first.setdefault(trait, channel) for channel, trait in enumerate(traits)]
    if len(set(kinds)) == 1:
        return [0]
    source = move.source.reshape(len(move.source), -1)
    found = np.array(kinds)[np.maximum(source, 0) // (x.tensor.size // len(kinds))]
    behind = [set(kind[real].tolist()) for kind, real in zip(found, source != NOWHERE, strict=True)]
    if any(len(kinds) > 1 for kinds in behind):
        raise UnsupportedLayer(
            f"{label}: moves numbers of {x.label} that are scaled in different ways into one channel; put a "
            "QuantIdentity between them"
        )
    return [kinds.pop() if kinds else 0 for kinds in behind]


def _filling(label: str, x: Value, move: Move, channels: Sequence[int]) -> Fraction:
    """The number of the tensor that becomes ``fill`` by the function and the scale of ``x``."""
    number = _original(x.function, move.fill)
    filled = (move.source == NOWHERE).reshape(len(move.source), -1).any(axis=1)
    behind = channels if len(channels) == 1 else [c for c, here in zip(channels, filled, strict=True) if here]
    lines = [x.lines[channel] for channel in behind]
    found = {(number - offset) / scale for scale, offset in lines if scale and number is not None}
    wrong = number is None or any(scale == 0 and offset != number for scale, offset in lines)
    if wrong or len(found) > 1 or binary_places(list(found or (ZERO,))) is None:
        raise UnsupportedLayer(
            f"{label}: puts {float(move.fill)} beside the numbers of {x.label}, which are scaled and not quantized; "
            "put a QuantIdentity between them"
        )
    return found.pop() if found else ZERO


def _original(function: Function | None, number: Fraction) -> Fraction | None:
    """What the function makes ``number`` of, where that is ``number`` itself."""
    match function:
        case None:
            return number
        case Clamp():
            return number if function.of(number) == number else None
        case Leak() | Curve.TANH:
            return number if number == ZERO else None
    return None


def joined_raw(label: str, parts: Sequence[Raw], axis: int) -> Raw | None:
    """Parts of the model's input before it is quantized; None where they are of several inputs."""
    first = parts[0]
    if any(part.name != first.name for part in parts):
        return None
    source = np.concatenate([_origin(part) for part in parts], axis)
    return replace(first, shape=source.shape, moves=((label, Move(source)),))


def _origin(x: Raw) -> NDArray[np.int64]:
    """Where each number comes from; what its moves put beside them is zero."""
    source = np.arange(np.prod(x.entering)).reshape(x.entering)
    for _, move in x.moves:
        source = np.append(source, NOWHERE)[move.source]  # "nowhere" looks behind the last
    return source


def concatenated(build: Builder, label: str, parts: Sequence[Value], axis: int) -> Value:
    """``parts`` along ``axis`` of a sample, each in its own scale where they are other channels."""
    parts = [build.with_precision(part) for part in parts]
    if axis > 0 and any(part.lines != parts[0].lines for part in parts):
        parts = [build.exactly(part) or part for part in parts]
    first, function = parts[0], _joined_function(label, parts, axis)
    for part in parts[1:]:
        if axis > 0 and part.lines != first.lines:
            raise UnsupportedLayer(
                f"{label}: joins {first.label} and {part.label}, which have other scales, in the same channels; put a "
                "QuantIdentity behind each"
            )
    try:
        fmt = covering([part.tensor.format for part in parts])
    except FixedPointError as error:
        names = ", ".join(part.label for part in parts)
        raise UnsupportedLayer(f"{label}: {names} have no common format ({error}); bring them closer") from None
    shape = list(first.tensor.shape)
    shape[axis] = sum(part.tensor.shape[axis] for part in parts)
    tensors = tuple(part.tensor for part in parts)
    tensor = build.add(Concat(Tensor(build.unique(label), tuple(shape), fmt), tensors, axis))
    lines = [line for part in parts for line in part.lines] if axis == 0 else list(first.lines)
    if set(lines) == {(ONE, ZERO)}:
        return Value(tensor, label, function=function)
    return Value(tensor, label, tuple(s for s, _ in lines), tuple(o for _, o in lines), function)


def _joined_function(label: str, parts: Sequence[Value], axis: int) -> Function | None:
    """What waits for a quantizer behind every one of ``parts``; leaks of other channels have slopes of their own."""
    slopes = [slopes_of(part) for part in parts]
    if axis == 0 and None not in slopes:
        return Leak(tuple(slope for some in slopes for slope in some or ()))
    first = parts[0]
    for part in parts[1:]:
        if part.function != first.function:
            pending = first if part.function is None else part
            raise UnsupportedLayer(
                f"{label}: joins {first.label} and {part.label}, and no quantizer follows the {pending.function}; put "
                "a QuantIdentity behind each"
            )
    return first.function
