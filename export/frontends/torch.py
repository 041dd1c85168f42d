"""From a torch module to the integer graph: traced by torch.fx, read layer by layer, exact or refused by name.

Lowered are the layers of :mod:`compress.layers`, plain Brevitas linear, ReLU and identity layers, plain activations
before a quantizer, and plain float layers with a stated :class:`Precision`. Another layer is another branch of
``_module``; another activation function, of :func:`_activation`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from compress import layers
from compress.fixed import FixedPoint, encode
from compress.learned.frozen import FrozenActivation, FrozenLinear
from compress.quantize import LayerTracer
from export.frontends.builder import Builder, UnsupportedLayer, quantizer_modes, rationals, weight_const
from export.frontends.functions import (
    HARD_SIGMOID,
    RELU,
    RELU6,
    SIGMOID,
    TANH,
    Activation,
    hard_tanh,
    leaky_relu,
)
from export.frontends.precision import Precision
from export.frontends.value import ONE, Rationals, Raw, Value
from export.ir import Const, Graph
from export.modes import Modes

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Tanh, nn.Sigmoid)
_PLAIN = (nn.Linear, nn.BatchNorm1d, nn.Flatten, nn.Identity, nn.Dropout, *_ACTIVATIONS)
_FROZEN = (FrozenLinear, FrozenActivation)
_RELU_CALLS = (torch.relu, nn.functional.relu, "relu")
_FLATTEN_CALLS = (torch.flatten, "flatten")
_SUPPORTED = (
    "linear, ReLU, ReLU6, LeakyReLU, hard tanh, hard sigmoid, tanh, sigmoid, identity, BatchNorm1d, Flatten and "
    "Dropout layers"
)


def lower(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    name: str = "network",
    input_format: FixedPoint | None = None,
    precision: Precision | Mapping[str, Precision] | None = None,
) -> Graph:
    """The integer graph of ``model`` in eval mode.

    ``input_shape`` is that of one sample. ``input_format`` is needed where the model does not quantize its input,
    ``precision`` where layers are plain float ones: one for all, or one by layer name.
    Raises UnsupportedLayer, naming the layer, for whatever cannot be lowered exactly.
    """
    modules = dict(model.named_modules())
    if isinstance(precision, Mapping):
        for unknown in sorted(set(precision) - set(modules)):
            known = ", ".join(n for n in modules if n)
            raise ValueError(f"precision names {unknown!r}, which is no layer of the model; its layers are {known}")
    _check_finite(model)
    if input_format is None and precision and not any(layers.is_quantized(m) for m in modules.values()):
        first = precision if isinstance(precision, Precision) else next(iter(precision.values()))
        input_format = first.result
    if _Tracer().is_leaf_module(model, ""):  # a single layer is traced as the only one of a model
        return lower(nn.Sequential(model), input_shape, name=name, input_format=input_format, precision=precision)
    return _Walk(modules, tuple(input_shape), name, input_format, precision).graph(_Tracer().trace(model))


class _Tracer(LayerTracer):
    """Stops at every layer that can be read as a whole, whoever wrote it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A subclass with a forward of its own is another function, and traced like any module of the user's.
        known = any(isinstance(m, layer) and type(m).forward is layer.forward for layer in (*_PLAIN, *_FROZEN))
        return known or super().is_leaf_module(m, module_qualified_name)


class _Walk:
    """One walk along one traced model."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        input_shape: tuple[int, ...],
        name: str,
        input_format: FixedPoint | None,
        precision: Precision | Mapping[str, Precision] | None,
    ) -> None:
        self.modules = modules
        self.input_shape = input_shape
        self.input_format = input_format
        self.precision = precision
        self.build = Builder(name)

    def graph(self, traced: fx.Graph) -> Graph:
        known: dict[fx.Node, Value | Raw] = {}
        for node in traced.nodes:
            label = str(node.target) if node.op in ("call_module", "get_attr", "placeholder") else _call(node)
            match node.op:
                case "placeholder":
                    if known:
                        raise UnsupportedLayer(f"{label}: the model has several inputs; export it for one of them")
                    known[node] = self.enter(label)
                case "output":
                    result = node.args[0]
                    if not isinstance(result, fx.Node):
                        kind = type(result).__name__.removeprefix("immutable_")  # fx's own list and dict
                        raise UnsupportedLayer(f"output: the model returns a {kind}, not one tensor")
                    return self.build.graph(self.build.leave(_settled("output", known[result])))
                case "get_attr":
                    raise UnsupportedLayer(f"{label}: a bare parameter is part of the computation; put it in a layer")
                case "call_module":
                    if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
                        given = len(node.args) + len(node.kwargs)
                        raise UnsupportedLayer(f"{label}: is called with {given} arguments, not with one tensor alone")
                    known[node] = self._module(label, self.modules[label], known[node.args[0]])
                case _:
                    known[node] = self._call(label, node, known)
        raise UnsupportedLayer("the model returns nothing")

    def enter(self, label: str) -> Value | Raw:
        if self.input_format is None:
            return Raw(label, self.input_shape)
        return self.build.enter(label, self.input_shape, self.input_format)

    def _module(self, label: str, module: nn.Module, x: Value | Raw) -> Value | Raw:
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnsupportedLayer(
                f"{label}: has forward hooks, which may change what it computes; remove them "
                "(torch.nn.utils.prune.remove for its masks, or prune with compress.mask)"
            )
        match layers.kind(module):
            case layers.Kind.LINEAR:
                return self._quantized_linear(label, module, _settled(label, x))
            case layers.Kind.RELU:
                rectified = self.build.activate(f"{label}.relu", _settled(label, x), RELU)
                return self._quantized(label, module, rectified)
            case layers.Kind.IDENTITY:
                return self._quantized(label, module, x)
            case None:
                pass
            case _:
                if (activation := _activation(module)) is not None:
                    return self._quantized(label, module, self.build.pending(label, _settled(label, x), activation))
                raise UnsupportedLayer(
                    f"{label} ({type(module).__name__}): has no exact lowering; supported are {_SUPPORTED}"
                )
        match module:
            case FrozenLinear():
                weight, bias = module.weight_codes(), _reals(module.bias_codes())
                return self.build.linear(label, _settled(label, x), *weight_const(weight.codes, weight.scale), bias)
            case FrozenActivation():
                return self._by_channel(label, module, x)
            case nn.Identity() | nn.Dropout():
                return x
            case nn.Flatten(start_dim=1, end_dim=-1):
                return self.build.flatten(label, x)
            case nn.BatchNorm1d():
                return self._batch_norm(label, module, _settled(label, x))
            case nn.Linear():
                return self._float_linear(label, module, _settled(label, x))
        if (activation := _activation(module)) is not None:
            # Those that only leave numbers out keep the format of what they read.
            precision = None if isinstance(module, nn.ReLU | nn.ReLU6) else self._precision(label)
            return self.build.activate(label, _settled(label, x), activation, precision)
        raise UnsupportedLayer(
            f"{label} ({module}): has no exact lowering; supported are {_SUPPORTED}: "
            "replace it, or leave it out of the exported part"
        )

    def _call(self, label: str, node: fx.Node, known: Mapping[fx.Node, Value | Raw]) -> Value | Raw:
        x = known[node.args[0]] if node.args and isinstance(node.args[0], fx.Node) else None
        axes = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        if x is not None and node.target in _RELU_CALLS:
            return self.build.activate(label, _settled(label, x), RELU)
        whole = axes in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1})
        if x is not None and node.target in _FLATTEN_CALLS and whole:
            return self.build.flatten(label, x)
        if (node.target is getattr and node.args[1:] == ("shape",)) or node.target in ("size", operator.getitem):
            raise UnsupportedLayer(f"{label}: reshapes by hand, which hides the axes; use nn.Flatten() or x.flatten(1)")
        raise UnsupportedLayer(
            f"{label}: this call has no exact lowering; supported are relu and flatten(1) as calls, and {_SUPPORTED}"
        )

    # -- layers

    def _quantized_linear(self, label: str, module: nn.Module, x: Value) -> Value:
        array = layers.weight_of(module, label)
        if array is None:
            return self._float_linear(label, module, x)
        weight, scale = weight_const(array.codes, array.scale)
        bias = layers.bias_of(module, x.scale[0] * x.tensor.format.lsb if len(x.scale) == 1 else None, label)
        register, output = layers.accumulator_of(module, label), layers.output_of(module, label)
        exact = label if register is None and output is None else f"{label}.sum"
        y = self.build.linear(exact, x, weight, scale, _reals(bias))
        if register is not None:  # truncated and wrapped, as the vendors' types are by default
            y = self.build.cast(label if output is None else f"{label}.stored", y, register, Modes())
        return y if output is None else self._rounded(label, y, output)

    def _float_linear(self, label: str, module: nn.Module, x: Value) -> Value:
        precision = self._precision(label)
        if precision is None:
            raise UnsupportedLayer(
                f"{label}: has float weights and no precision; quantize() the model, or pass precision=Precision(...)"
            )
        weights = _array(module.weight)
        biases = np.zeros(len(weights)) if module.bias is None else _array(module.bias)
        weight, bias = (
            Const(encode(values, fmt), fmt) for values, fmt in ((weights, precision.weight), (biases, precision.bias))
        )
        return self.build.linear_with_precision(label, x, weight, bias, precision)

    def _batch_norm(self, label: str, module: nn.BatchNorm1d, x: Value) -> Value:
        if module.running_mean is None or module.running_var is None:
            raise UnsupportedLayer(f"{label}: keeps no running statistics; build it with track_running_stats=True")
        if x.tensor.shape[0] != module.num_features:
            raise UnsupportedLayer(f"{label}: normalises {module.num_features} features, but reads {x.tensor}")
        # The user's function is this one in double precision, taken as exact rationals from here on.
        scale = rationals(1 / np.sqrt(_array(module.running_var) + module.eps))
        offset = tuple(-m * s for m, s in zip(rationals(_array(module.running_mean)), scale, strict=True))
        if module.affine:
            gamma, beta = rationals(_array(module.weight)), rationals(_array(module.bias))
            offset = tuple(g * o + b for g, o, b in zip(gamma, offset, beta, strict=True))
            scale = tuple(g * s for g, s in zip(gamma, scale, strict=True))
        return self.build.affine(label, x, scale, offset, self._precision(label))

    def _quantized(self, label: str, module: nn.Module, x: Value | Raw) -> Value:
        quantizer = layers.activation_of(module, label)
        return _settled(label, x) if quantizer is None else self._rounded(label, x, quantizer)

    def _rounded(self, label: str, x: Value | Raw, q: layers.ActivationQuantizer | layers.BinaryQuantizer) -> Value:
        if isinstance(q, layers.BinaryQuantizer):
            return self.build.sign(label, x, q.scale)
        modes = quantizer_modes(label, q.rounding, q.narrow, q.signed)
        return self.build.quantize(label, x, q.width, q.signed, q.scale, modes)

    def _by_channel(self, label: str, module: FrozenActivation, x: Value | Raw) -> Value:
        if module.rectify:
            x = self.build.activate(f"{label}.relu", _settled(label, x), RELU)
        learned = module.channel_formats()
        return self.build.quantize_channels(label, x, learned.formats, Modes(learned.rounding, learned.overflow))

    def _precision(self, label: str) -> Precision | None:
        return self.precision.get(label) if isinstance(self.precision, Mapping) else self.precision


def _activation(module: nn.Module) -> Activation | None:
    """The function that a layer computes before it quantizes, or plainly; None for one that is not known."""
    match module:
        case nn.ReLU():
            return RELU
        case nn.ReLU6() | layers.QuantReLU6():
            return RELU6
        case nn.LeakyReLU() | layers.QuantLeakyReLU():
            return leaky_relu(module.negative_slope)
        case nn.Hardtanh() | layers.QuantHardTanh():
            return hard_tanh(module.min_val, module.max_val)
        case nn.Hardsigmoid() | layers.QuantHardSigmoid():
            return HARD_SIGMOID
        case nn.Tanh() | layers.QuantTanh():
            return TANH
        case nn.Sigmoid() | layers.QuantSigmoid():
            return SIGMOID
    return None


def _settled(label: str, x: Value | Raw) -> Value:
    if isinstance(x, Raw):
        raise UnsupportedLayer(
            f"{label}: the input width is missing: nothing quantizes the model's input before it; put a QuantIdentity "
            "in front of the model, or pass input_format=FixedPoint(width, frac)"
        )
    return x


def _call(node: fx.Node) -> str:
    """What a functional call is called in messages and in the graph."""
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    stack = node.meta.get("nn_module_stack") or {}
    owner = list(stack)[-1] if stack else ""
    return ".".join(filter(None, (owner, target)))


def _reals(bias: layers.QuantizedArray | Any | None) -> Rationals:
    """A bias in the user's numbers, exactly."""
    if bias is None:
        return (ONE * 0,)
    if isinstance(bias, layers.QuantizedArray):
        scales = bias.scale * len(bias.codes) if len(bias.scale) == 1 else bias.scale
        return tuple(int(code) * scale for code, scale in zip(bias.codes, scales, strict=True))
    return rationals(bias)


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _check_finite(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{name}: {bad} of {tensor.numel()} values are NaN or infinite; the training diverged: restore an "
                "earlier checkpoint or lower the learning rate"
            )
