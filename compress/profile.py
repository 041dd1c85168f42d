"""Post-training quantization the classic way: what a float network's numbers are like, and formats that suit them.

    found = profile(network, x_calibration)
    print(found)                    # every tensor: range, and a histogram of its magnitudes by powers of two
    suggestion = found.suggest(16)  # an ap_fixed<16,I> for each of them
    print(suggestion)               # with what saturates and how much noise the rounding makes

It is there to compare with: networks that were quantized while they trained (:mod:`compress.quantize`) need fewer bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import fx, nn

from compress.borrowed import mode
from compress.columns import columns
from compress.fixed import MAX_WIDTH, FixedPoint, Overflow, Rounding, encode, rescaled
from compress.layers import is_quantized
from compress.quantize import LayerTracer

#: Layers that hand numbers on as they are, or not at all; they need no format of their own.
_WIRES = (nn.ReLU, nn.ReLU6, nn.Identity, nn.Dropout, nn.Flatten, nn.MaxPool1d, nn.MaxPool2d)
#: What makes any negative number zero, so that nobody behind it can tell them apart.
_RECTIFIERS = (nn.ReLU, nn.ReLU6)
_RECTIFIER_CALLS = frozenset({torch.relu, nn.functional.relu, nn.functional.relu6, "relu"})
#: Constants are rounded and saturated thus, whatever the modes of the results.
_NEAREST = (Rounding.RND_CONV, Overflow.SAT)
_BARS = " ▁▂▃▄▅▆▇█"
_MAX_OCTAVES = 32


class Role(Enum):
    INPUT = "input"
    WEIGHT = "weight"
    BIAS = "bias"
    EXACT = "exact"  # scale and shift of a normalisation, which the exporter takes as the exact numbers they are
    RESULT = "result"


@dataclass(frozen=True)
class Largest:
    """Integer bits for the largest magnitude: nothing of the calibration set saturates."""


@dataclass(frozen=True)
class Percentile:
    """Integer bits for this percentage of the magnitudes; the larger ones may saturate."""

    percent: float

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise ValueError(f"Percentile({self.percent}): a percentage lies above 0 and at most at 100, e.g. 99.9")


@dataclass(frozen=True)
class LeastSquares:
    """The integer bits, at most those of the largest magnitude, with the least summed squared error of the cast."""


#: How the integer bits of a format are chosen.
Fit = Largest | Percentile | LeastSquares
_LEAST_SQUARES = LeastSquares()


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorProfile:
    """The numbers of one tensor over the whole calibration set."""

    name: str  # "fc1.weight", "fc1.bias", "fc1" for the layer's result, or the name of the model's input
    role: Role
    values: NDArray[np.floating]  # flat, finite
    rectified: bool = False  # all that read it begin with a ReLU: negative numbers are as good as zero

    @property
    def lowest(self) -> float:
        return float(self.values.min())

    @property
    def highest(self) -> float:
        return float(self.values.max())

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.values, dtype=np.float64))))

    @cached_property
    def octaves(self) -> Mapping[int, int]:
        """How many magnitudes lie in ``[2**(e-1), 2**e)``, by ``e``, ascending; zeros are left out."""
        exponents, counts = np.unique(np.frexp(self.values[self.values != 0])[1], return_counts=True)
        return dict(zip(exponents.tolist(), counts.tolist(), strict=True))

    def fit(self, width: int, fit: Fit, rounding: Rounding, overflow: Overflow) -> FixedPoint:
        """The format of ``width`` bits for a cast in these modes; unsigned where no number that matters is negative."""
        values = self._mattering(overflow)
        low, high = float(values.min()), float(values.max())
        if low == high == 0:
            return FixedPoint(width, 0, signed=False)
        match fit:
            case Largest():
                return _covering(low, high, width, rounding)
            case Percentile(percent):
                magnitudes = np.abs(values)
                kept = values[magnitudes <= np.percentile(magnitudes, percent, method="higher")]
                return _covering(float(kept.min()), float(kept.max()), width, rounding, signed=low < 0)
            case LeastSquares():
                return _least_squares(values, _covering(low, high, width, rounding), rounding, overflow)

    def error(self, target: FixedPoint, rounding: Rounding, overflow: Overflow) -> tuple[float, float]:
        """Share of the numbers outside the range of ``target`` by more than a unit of its last place, and the
        signal-to-noise ratio of the cast in decibels."""
        values = self._mattering(overflow)
        outside = float(np.mean(_distance(values, target) > float(target.lsb)))
        signal, noise = float(np.sum(values**2)), _squared_error(values, target, rounding, overflow)
        if noise == 0:
            return outside, float("inf")
        return outside, 10 * float(np.log10(signal / noise)) if signal else float("-inf")

    def _mattering(self, overflow: Overflow) -> NDArray[np.float64]:
        """As float64. A saturating cast makes negative numbers zero on the way to an unsigned format: a ReLU for free.

        One that wraps does not, so that then all of them matter.
        """
        values = self.values.astype(np.float64)
        return np.maximum(values, 0) if self.rectified and overflow is not Overflow.WRAP else values


@dataclass(frozen=True, kw_only=True)
class LayerFormats:
    """The formats of one layer's numbers; None for what it does not have, or what is not rounded."""

    weight: FixedPoint | None
    bias: FixedPoint | None
    result: FixedPoint


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How well a suggested format suits its tensor, over the calibration set."""

    name: str
    format: FixedPoint
    outside: float  # share of the numbers beyond the format's range
    snr_db: float  # signal over quantization noise


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A format for every tensor: the input's, and by layer. Results are cast in the modes ``rounding``, ``overflow``;
    weights, biases and the input are always rounded half to even and saturated."""

    input: FixedPoint
    layers: Mapping[str, LayerFormats]
    rounding: Rounding
    overflow: Overflow
    fitted: tuple[Fitted, ...]

    def __str__(self) -> str:
        rows = [(row.name, f"ap_{row.format}", f"{row.outside:.3%}", f"{row.snr_db:.1f}") for row in self.fitted]
        title = f"results are cast with {self.rounding.value}, {self.overflow.value}"
        return "\n".join([*columns([("tensor", "format", "outside", "S/N dB"), *rows]), title])


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """Every tensor of a float network in the order it is computed, a layer's weights before its result."""

    tensors: tuple[TensorProfile, ...]
    layers: tuple[str, ...] = field(default=())  # those whose results need a format

    def __getitem__(self, name: str) -> TensorProfile:
        found = {tensor.name: tensor for tensor in self.tensors}
        if name not in found:
            raise ValueError(f"there is no tensor {name!r} in this profile; it has {', '.join(found)}")
        return found[name]

    def suggest(
        self,
        width: int,
        *,
        input_width: int | None = None,
        bias_width: int | None = None,
        result_width: int | None = None,
        fit: Fit = _LEAST_SQUARES,
        rounding: Rounding = Rounding.RND_CONV,
        overflow: Overflow = Overflow.SAT,
    ) -> Suggestion:
        """An ``ap_fixed<width,I>`` for every tensor, or ``ap_ufixed`` where no number that matters is negative.

        ``I`` is chosen by ``fit`` for the cast that the tensor will undergo: in the modes given for results, rounded
        half to even and saturated for everything else. The other widths are ``width`` where they are not given.
        Raises ``ValueError`` for a width outside 1 to 64.
        """
        asked = {Role.INPUT: input_width, Role.WEIGHT: width, Role.BIAS: bias_width, Role.RESULT: result_width}
        widths = {role: width if other is None else other for role, other in asked.items()}
        formats: dict[str, FixedPoint] = {}
        fitted = []
        for tensor in self.tensors:
            if tensor.role is Role.EXACT or (tensor.role is Role.RESULT and tensor.name not in self.layers):
                continue
            modes = (rounding, overflow) if tensor.role is Role.RESULT else _NEAREST
            chosen = formats[tensor.name] = tensor.fit(widths[tensor.role], fit, *modes)
            outside, snr_db = tensor.error(chosen, *modes)
            fitted.append(Fitted(name=tensor.name, format=chosen, outside=outside, snr_db=snr_db))
        (entry,) = (tensor.name for tensor in self.tensors if tensor.role is Role.INPUT)
        layers = {
            name: LayerFormats(
                weight=formats.get(f"{name}.weight"), bias=formats.get(f"{name}.bias"), result=formats[name]
            )
            for name in self.layers
        }
        return Suggestion(
            input=formats[entry], layers=layers, rounding=rounding, overflow=overflow, fitted=tuple(fitted)
        )

    def __str__(self) -> str:
        octaves = sorted({octave for tensor in self.tensors for octave in tensor.octaves})
        top = octaves[-1] if octaves else 0
        bottom = max(octaves[0], top - _MAX_OCTAVES + 1) if octaves else 0
        rows = [
            (
                tensor.name,
                f"{tensor.values.size:,}",
                f"{tensor.lowest:.4g}",
                f"{tensor.highest:.4g}",
                f"{tensor.rms:.3g}",
                f"{np.mean(tensor.values == 0):.1%}",
                _sparkline(tensor.octaves, bottom, top),
            )
            for tensor in self.tensors
        ]
        span = f"magnitudes, 2^{bottom - 1} to 2^{top}"
        return "\n".join(columns([("tensor", "numbers", "lowest", "highest", "rms", "zeros", span), *rows]))


def profile(model: nn.Module, calibration_x: torch.Tensor | ArrayLike) -> Profile:
    """What every tensor of a float ``model`` in eval mode is on ``calibration_x`` (samples, \\*shape of one).

    The model is traced by torch.fx. All numbers are kept, so that ranges and errors are exact and not estimates: a few
    thousand samples say what there is to say. Batch norm is a layer of its own; fold it first
    (``torch.nn.utils.fusion``) where the hardware will not keep its result. A layer called several times has one
    profile, of all its calls. Raises ``ValueError`` for layers that are quantized already, no samples, a model that
    torch.fx cannot trace, and NaN or infinite numbers, naming the tensor.
    """
    if quantized := [name or "the model" for name, module in model.named_modules() if is_quantized(module)]:
        raise ValueError(
            f"{', '.join(quantized)}: quantized already; profile the float model, or read the formats that were "
            "trained with compress.layers.format_of"
        )
    tracer = LayerTracer()
    # The root's own leaves alone would be one call without a name; inside an nn.Sequential they have one.
    root = nn.Sequential(model) if tracer.is_leaf_module(model, "") else model
    graph = tracer.trace(root)
    entries = [node for node in graph.nodes if node.op == "placeholder"]
    if len(entries) != 1:
        raise ValueError(f"{type(model).__name__}: takes {len(entries)} inputs; profile a model of one tensor")
    tensors = list(model.parameters())
    x = torch.as_tensor(calibration_x)
    if x.ndim < 2 or not len(x):
        raise ValueError(f"calibration samples of shape {tuple(x.shape)}; at least one row of numbers is needed")
    if tensors:
        x = x.to(tensors[0])
    observer = _Observer(fx.GraphModule(root, graph))
    with mode(model, training=False), torch.no_grad():
        observer.run(x)
    return observer.profile()


class _Observer(fx.Interpreter):
    """Runs a traced model and keeps what every node computes."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self._found: dict[str, tuple[Role, list[NDArray[np.floating]], bool]] = {}
        self._layers: list[str] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output" or not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return result
        name = n.name
        if n.op == "call_module":
            name = str(n.target)
            layer = self.fetch_attr(name)
            if not isinstance(layer, _WIRES) and name not in self._layers:
                self._layers.append(name)
                self._keep_parameters(name, layer)
        role = Role.INPUT if n.op == "placeholder" else Role.RESULT
        self._keep(name, role, result, rectified=bool(n.users) and all(self._rectifies(user) for user in n.users))
        return result

    def profile(self) -> Profile:
        return Profile(
            tensors=tuple(
                TensorProfile(name=name, role=role, values=np.concatenate(parts), rectified=rectified)
                for name, (role, parts, rectified) in self._found.items()
            ),
            layers=tuple(self._layers),
        )

    def _keep_parameters(self, name: str, layer: Any) -> None:
        weight = getattr(layer, "weight", None)
        multiplies = isinstance(weight, torch.Tensor) and weight.dim() > 1
        for part, role in (("weight", Role.WEIGHT), ("bias", Role.BIAS)):
            parameter = getattr(layer, part, None)
            if isinstance(parameter, torch.Tensor):
                self._keep(f"{name}.{part}", role if multiplies else Role.EXACT, parameter)

    def _keep(self, name: str, role: Role, tensor: torch.Tensor, rectified: bool = False) -> None:
        exact = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
        values = exact.detach().cpu().numpy().ravel()
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise ValueError(
                f"{name}: {bad} of {values.size} numbers are NaN or infinite; look at the weights and the samples"
            )
        _, parts, before = self._found.get(name, (role, [], True))
        self._found[name] = (role, [*parts, values], rectified and before)

    def _rectifies(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return isinstance(self.fetch_attr(str(n.target)), _RECTIFIERS)
        return n.target in _RECTIFIER_CALLS


def _covering(low: float, high: float, width: int, rounding: Rounding, signed: bool | None = None) -> FixedPoint:
    """The finest format of ``width`` bits in which all from ``low`` to ``high`` is in range once it is rounded."""
    signed = low < 0 if signed is None else signed
    exponent = int(np.frexp(max(abs(low), abs(high)))[1])
    # One more bit for the sign, and one for what rounding up may add.
    for integer in range(exponent, exponent + 3):
        target = FixedPoint.of(width, integer, signed)
        if target.min_code <= _rounded(low, target, rounding) and _rounded(high, target, rounding) <= target.max_code:
            return target
    raise AssertionError(f"no format of {width} bits covers {low} to {high}")


def _rounded(value: float, target: FixedPoint, rounding: Rounding) -> int:
    """The code of ``value``, were there no end to the range."""
    numerator, denominator = value.as_integer_ratio()
    return int(rescaled([numerator], denominator.bit_length() - 1, target.frac, rounding)[0])


def _least_squares(
    values: NDArray[np.float64], covering: FixedPoint, rounding: Rounding, overflow: Overflow
) -> FixedPoint:
    best, least = covering, _squared_error(values, covering, rounding, overflow)
    for fewer in range(1, MAX_WIDTH):
        target = FixedPoint(covering.width, covering.frac + fewer, covering.signed)
        # No cast brings a number closer than the end of the range is, and the range only shrinks from here on.
        if float(np.sum(_distance(values, target) ** 2)) >= least:
            break
        error = _squared_error(values, target, rounding, overflow)
        if error < least:
            best, least = target, error
    return best


def _squared_error(values: NDArray[np.float64], target: FixedPoint, rounding: Rounding, overflow: Overflow) -> float:
    # In units of the last place, where every difference is exact up to one rounding.
    codes = encode(values, target, rounding, overflow).astype(np.float64)
    return float(np.sum((codes - np.ldexp(values, target.frac)) ** 2)) * float(target.lsb) ** 2


def _distance(values: NDArray[np.float64], target: FixedPoint) -> NDArray[np.float64]:
    """How far each number lies outside the range of ``target``."""
    low, high = target.min_code * float(target.lsb), target.max_code * float(target.lsb)
    return np.maximum(np.maximum(low - values, values - high), 0)


def _sparkline(octaves: Mapping[int, int], bottom: int, top: int) -> str:
    """One bar per power of two, in shares of the fullest; what lies below ``bottom`` is counted there."""
    counts = [octaves.get(octave, 0) for octave in range(bottom, top + 1)]
    counts[0] += sum(count for octave, count in octaves.items() if octave < bottom)
    full = max(counts) or 1
    # Rounded up, so that a single number is visible.
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // full)] for count in counts)
