"""Builds the integer graph for any frontend: from what its layers say in rationals to ops, exact or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np

from compress.fixed import MAX_WIDTH, FixedPoint, Overflow, Rounding, code_width
from export.arithmetic import binary_places, codes_of
from export.frontends.approximation import approximated
from export.frontends.curves import Curve
from export.frontends.functions import RELU, Activation, Clamp
from export.frontends.moving import moved
from export.frontends.precision import Precision
from export.frontends.rounding import covered, rounded, sign
from export.frontends.value import (
    ONE,
    ZERO,
    Rationals,
    Raw,
    UnsupportedLayer,
    Value,
    exponent_of,
    fixed_part,
    spread,
)
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.ops import Affine, Cast, Clip, Conv, Dense, Input, Modes, ReLU
from export.ops.casts import Formats
from export.ops.windows import Window
from export.scales import Reading

#: Bits by which aligning per-channel power-of-two scales may widen the weights; beyond, they stay scales.
MAX_ALIGNMENT = 16

#: Bits of a result that float64 holds.
_WIDEST_NUMBER = 53

#: A bias needing more bits than this becomes part of the next requantization, where few of them survive.
MAX_BIAS_WIDTH = 40


class Builder:
    """Collects the ops of one network. Every method takes the label of the layer that it lowers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._ops: list[Op] = []
        self._reach: dict[Tensor, Bounds] = {}
        self._entered: dict[str, Input] = {}
        self._notes: list[str] = []
        self._readings: dict[Tensor, Reading] = {}

    def graph(self, output: Tensor) -> Graph:
        """What leads to ``output``, and every input."""
        needed = {output}
        for op in reversed(self._ops):
            if op.output in needed:
                needed.update(op.inputs)
        ops = tuple(op for op in self._ops if op.output in needed or isinstance(op, Input))
        readings = (self._readings[output],) if output in self._readings else ()
        return Graph(self.name, ops, (output,), tuple(self._notes), readings).verify()

    def reach(self, tensor: Tensor) -> Bounds:
        return self._reach[tensor]

    def add(self, op: Op) -> Tensor:
        self._reach[op.output] = op.bounds(*(self._reach[t] for t in op.inputs))
        self._ops.append(op)
        return op.output

    def note(self, sentence: str) -> None:
        """Something that the user should know of this graph."""
        self._notes.append(sentence)

    def unique(self, label: str) -> str:
        """A tensor name nobody has: a layer that is called twice makes two tensors."""
        taken = {op.name for op in self._ops}
        candidates = (label if n == 1 else f"{label}_{n}" for n in range(1, len(taken) + 2))
        return next(c for c in candidates if c not in taken)

    # -- the edges of the network

    def enter(
        self,
        label: str,
        shape: tuple[int, ...],
        fmt: FixedPoint,
        modes: Modes | None = None,
        formats: Formats | None = None,
        scale: Fraction = ONE,
    ) -> Value:
        """The model's input ``label``, which enters once, whoever reads it; ``scale`` is beside its format."""
        known = self._entered.get(label)
        tensor = Tensor(self.unique(label), shape, fmt) if known is None else replace(known.output, format=fmt)
        entry = Input(tensor, formats=formats) if modes is None else Input(tensor, modes, formats, scale)
        if known is None:
            self._entered[label] = entry
            self.add(entry)
        elif entry != known:
            raise UnsupportedLayer(
                f"{label}: the model's input is quantized as {_described(known)} and as {_described(entry)} by two "
                "layers; put one QuantIdentity in front of the model"
            )
        return Value(tensor, label)

    def enter_raw(self, x: Raw, fmt: FixedPoint, modes: Modes, scale: Fraction = ONE) -> Value:
        """The model's input as it is after its moves, rounded on entering."""
        value: Value | Raw = self.enter(x.name, x.entering, fmt, modes, scale=scale)
        for label, move in x.moves:
            value = moved(self, label, value, move)
        assert isinstance(value, Value)
        return value

    def exactly(self, x: Value) -> Value | None:
        """``x`` with its scale and offset applied; None where no fixed-point number of 64 bits holds the result."""
        scale_frac, offset_frac = binary_places(x.scale), binary_places(x.offset)
        if x.function is not None or scale_frac is None or offset_frac is None:
            return None
        if x.unscaled:
            return x
        channels = x.tensor.shape[0]
        widest = FixedPoint(MAX_WIDTH, max(x.tensor.format.frac + scale_frac, offset_frac))
        output = Tensor(self.unique(f"{x.label}.out"), x.tensor.shape, widest)
        with suppress(ValueError):
            scale = Const.fitting(codes_of(spread(x.scale, channels), scale_frac), scale_frac)
            offset = Const.fitting(codes_of(spread(x.offset, channels), offset_frac), offset_frac)
            draft = Affine(output, x.tensor, scale, offset, Modes())
            need = draft.exact_sums(self._reach[x.tensor]).format(draft.exact_frac)
            return Value(self.add(replace(draft, output=replace(output, format=need))), x.label)
        return None

    def leave(self, x: Value) -> Tensor:
        """The result without any error: a fixed-point tensor, or one with the scales by which it is to be read."""
        x = self.with_precision(x)
        if x.function is not None:
            raise UnsupportedLayer(
                f"{x.label}: leaves the network with scale {float(x.scale[0])} and a {x.function}, which no "
                "fixed-point format says; end with a quantizer (QuantIdentity or QuantReLU)"
            )
        if (exact := self.exactly(x)) is not None and exact.tensor.format.width <= _WIDEST_NUMBER:
            return exact.tensor
        scale, offset = zip(*x.lines, strict=True)
        self._readings[x.tensor] = Reading(scale, offset)
        self.note(
            f"{x.label}: its numbers are scale * value + offset by channel, with the float scales of the network, "
            "which predict() applies; the hardware's output is the value"
        )
        return x.tensor

    # -- sums of products

    def linear(
        self, label: str, x: Value, weight: Const, scale: Rationals, bias: Rationals, window: Window | None = None
    ) -> Value:
        """``scale * (weight * x) + bias``, bias in the user's numbers; exact, with the scales carried along.

        Fully connected without a ``window``, a convolution with one.
        """
        x = self.with_precision(x)
        if set(x.offset) != {ZERO}:
            x = self.exactly(x) or x
        if x.function is not None or set(x.offset) != {ZERO} or len(set(x.scale)) != 1:
            raise UnsupportedLayer(
                f"{label}: reads {x.label}, whose result is scaled or shifted per channel and not quantized; put a "
                "QuantIdentity or QuantReLU between them"
            )
        n_out = weight.shape[0]
        weight, scale = _absorbed(weight, scale)
        unit = tuple(x.scale[0] * s for s in scale)
        in_units = tuple(b / u for b, u in zip(spread(bias, n_out), spread(unit, n_out), strict=True))
        places = binary_places(in_units)
        if places is not None:
            codes = codes_of(in_units, places)
            if code_width(int(codes.min()), int(codes.max())) <= MAX_BIAS_WIDTH:
                with suppress(GraphError):  # so fine a bias that no accumulator holds the sum is no part of it either
                    total = self.products(label, x.tensor, weight, Const.fitting(codes, places), window)
                    return Value(total, label, unit)
        zero = Const.fitting(np.zeros(n_out, dtype=np.int64), 0)
        return Value(self.products(label, x.tensor, weight, zero, window), label, unit).mapped((ONE,), bias)

    def linear_with_precision(
        self, label: str, x: Value, weight: Const, bias: Const, precision: Precision, window: Window | None = None
    ) -> Value:
        """A float layer in stated formats: the sum, then a cast of it."""
        x = self.with_precision(x)
        if not x.plain:
            raise UnsupportedLayer(f"{label}: reads {x.label}, which is scaled and not quantized; quantize it first")
        acc = precision.accumulator
        modes = None if acc is None else precision.modes
        total = self.products(f"{label}.sum", x.tensor, weight, bias, window, acc, modes)
        result = Tensor(self.unique(label), total.shape, precision.result)
        return Value(self.add(Cast(result, total, precision.modes)), label)

    def products(
        self,
        label: str,
        x: Tensor,
        weight: Const,
        bias: Const,
        window: Window | None = None,
        accumulator: FixedPoint | None = None,
        modes: Modes | None = None,
    ) -> Tensor:
        """A Dense or a Conv; without a stated accumulator an exact one, wide enough for every partial sum."""
        if window is None and len(x.shape) != 1:
            raise UnsupportedLayer(f"{label}: acts on one of the several axes of {x}; flatten it first")
        widest = FixedPoint(MAX_WIDTH, max(x.format.frac + weight.format.frac, bias.format.frac))
        shape = bias.shape if window is None else (*bias.shape, *window.positions)
        made = Tensor(self.unique(label), shape, accumulator or widest)
        op: Dense | Conv
        if window is None:
            op = Dense(made, x, weight, bias, modes)
        else:
            op = Conv(made, x, weight, bias, modes, window=window)
        if accumulator is None:
            op = replace(op, output=replace(made, format=op.accumulator(self._reach[x])))
        return self.add(op)

    def affine(self, label: str, x: Value, scale: Rationals, offset: Rationals, precision: Precision | None) -> Value:
        """Batch normalisation and its kin: remembered, and applied by the next quantizer."""
        if x.function is not None:
            raise UnsupportedLayer(
                f"{label}: follows a {x.function} that no quantizer follows; use a quantized layer before it"
            )
        return replace(x.mapped(scale, offset), label=label, precision=precision)

    # -- activations

    def activate(self, label: str, x: Value, activation: Activation, precision: Precision | None = None) -> Value:
        """A function of ``x``, taken at once where its result has a code, else by the quantizer that follows.

        With a ``precision`` the result is cast to it, if no quantizer follows.
        """
        x, exact = self.with_precision(x), label if precision is None else f"{label}.exact"
        if x.plain and (made := self._clamped(exact, x.tensor, activation)) is not None:
            clipped = Value(made, label)
            return clipped if precision is None else self.cast(label, clipped, precision.result, precision.modes)
        pending = self.pending(label, x, activation)
        return pending if precision is None else replace(pending, label=label, precision=precision)

    def pending(self, label: str, x: Value, activation: Activation) -> Value:
        """A function of ``x``, taken by the quantizer that follows."""
        x, function, line = self.with_precision(x), activation.function, (activation.slope, activation.offset)
        if x.function is None:
            return replace(x.mapped(*((v,) for v in line)), label=label, function=function)
        if isinstance(function, Clamp) and isinstance(x.function, Clamp) and line == (ONE, ZERO):
            return replace(x, function=function.after(x.function))
        raise UnsupportedLayer(f"{label}: follows a {x.function} that is not quantized; put a quantizer between them")

    def _clamped(self, label: str, x: Tensor, activation: Activation) -> Tensor | None:
        """The clip of codes that are the user's numbers; None for other functions, and where a limit is no code."""
        fmt, clamp = x.format, activation.function
        if activation == RELU:
            return self.add(ReLU(Tensor(self.unique(label), x.shape, ReLU.positive(fmt)), x))
        if not isinstance(clamp, Clamp) or activation != Activation(clamp):
            return None
        limits = [clamp.of(code * fmt.lsb) / fmt.lsb for code in (fmt.min_code, fmt.max_code)]
        low, high = map(int, limits)
        if limits != [low, high] or low < fmt.min_code or high > fmt.max_code:
            return None
        return self.clip(label, x, [low] * x.shape[0], [high] * x.shape[0])

    def clip(self, label: str, x: Tensor, low: Sequence[int], high: Sequence[int]) -> Tensor:
        """``x`` between limits in its own codes, one of each per channel."""
        fmt = FixedPoint.covering(min(0, *low), max(0, *high), x.format.frac)
        limits = (Const(np.array(codes, dtype=object), x.format) for codes in (low, high))
        return self.add(Clip(Tensor(self.unique(label), x.shape, fmt), x, *limits))

    def quantize(self, label: str, x: Value | Raw, width: int, signed: bool, scale: Fraction, modes: Modes) -> Value:
        """Round into codes of ``width`` bits that stand for ``code * scale``."""
        fmt, rest = fixed_part(width, signed, scale)
        if isinstance(x, Raw):
            if rest != ONE:
                self.note(
                    f"{label}: the hardware's input is a code, worth {float(scale)} each; predict() takes numbers and "
                    "rounds their exact quotients"
                )
            return replace(self.enter_raw(x, fmt, modes, scale=rest), scale=(rest,))
        return replace(self.cast(label, x, fmt, modes, rest), scale=(rest,))

    def quantize_channels(self, label: str, x: Value | Raw, formats: Formats, modes: Modes) -> Value:
        """Round each channel into a format of its own."""
        shape = x.shape if isinstance(x, Raw) else x.tensor.shape
        if isinstance(x, Raw) and x.moves:
            raise UnsupportedLayer(
                f"{label}: rounds each channel of the input in its own way, after its numbers have moved; put it in "
                "front of the model"
            )
        if len(formats) != shape[0]:
            raise UnsupportedLayer(f"{label}: has formats for {len(formats)} channels, reads {shape[0]}")
        alike = formats[0] if len(set(formats)) == 1 else None
        if not isinstance(x, Raw):
            return self.cast(label, x, alike or formats, modes)
        if alike is not None:
            return self.enter(x.name, x.shape, alike, modes)
        return self.enter(x.name, x.shape, covered(label, formats), modes, formats)

    def sign(self, label: str, x: Value | Raw, scale: Fraction) -> Value:
        """``+scale`` where ``x`` is zero or more, else ``-scale``."""
        fmt, rest = fixed_part(2, True, scale)
        if isinstance(x, Raw):  # one signed bit, truncated and saturated, is -1 below zero and 0 elsewhere
            x = self.enter_raw(x, FixedPoint(1, 0), Modes(Rounding.TRN, Overflow.SAT))
        return replace(Value(sign(self, label, x, fmt), label), scale=(rest,))

    def cast(self, label: str, x: Value, target: FixedPoint | Formats, modes: Modes, unit: Fraction = ONE) -> Value:
        """``x / unit`` rounded once into ``target``, one format or one per channel, its function applied."""
        return Value(rounded(self, label, x, target, modes, unit), label)

    def with_precision(self, x: Value) -> Value:
        """Where no quantizer follows, a stated precision settles what is pending."""
        if x.plain or x.precision is None:
            return x
        if isinstance(x.function, Curve):
            return approximated(self, x, x.function, x.precision)
        return self.cast(x.label, x, x.precision.result, x.precision.modes)


def quantizer_modes(label: str, rounding: Rounding, narrow: bool, signed: bool) -> Modes:
    """The cast that a quantization-aware quantizer is."""
    if narrow and not signed:
        raise UnsupportedLayer(f"{label}: an unsigned narrow range is no fixed-point range; use narrow_range=False")
    return Modes(rounding, Overflow.SAT_SYM if narrow else Overflow.SAT)


def weight_const(codes: np.ndarray, scale: Rationals) -> tuple[Const, Rationals]:
    """Integer weights (outputs, ...) in the narrowest format that holds them, and the scales beside them.

    Per-channel scales that are all powers of two are aligned, so that they need no scale any more.
    """
    if not np.any(codes):  # an unset quantizer has a meaningless scale
        return Const.fitting(codes, 0), (ONE,)
    exponents = [exponent_of(s) for s in scale]
    known = [e for e in exponents if e is not None]
    if len(known) == len(scale) and max(known) - min(known) <= MAX_ALIGNMENT:
        shifts = np.array([e - min(known) for e in known], dtype=object)
        aligned = codes.astype(object) * (2**shifts).reshape(-1, *[1] * (codes.ndim - 1))
        return Const.fitting(aligned, -min(known)), (ONE,)
    return Const.fitting(codes, 0), scale


def _described(entry: Input) -> str:
    return f"{entry.output.format}{'' if entry.scale == ONE else f' times {float(entry.scale)}'}"


def _absorbed(weight: Const, scale: Rationals) -> tuple[Const, Rationals]:
    """A common power of two in the scales is a place of the binary point."""
    exponent = exponent_of(scale[0]) if len(set(scale)) == 1 else None
    if exponent is None:
        return weight, scale
    return Const(weight.codes, replace(weight.format, frac=weight.format.frac - exponent)), (ONE,)


def rationals(values: Sequence[float] | np.ndarray) -> Rationals:
    """Floats as the exact rationals they are."""
    return tuple(Fraction(float(v)) for v in np.asarray(values, dtype=np.float64).ravel())
