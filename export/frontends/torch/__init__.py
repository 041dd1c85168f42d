"""From a torch module to the integer graph: traced by torch.fx, read layer by layer, exact or refused by name.

A layer or a call gets its lowering in one of the files beside this one (:mod:`export.frontends.torch.lowering` says
how); another file is another line below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from compress import layers
from compress.fixed import FixedPoint
from export.frontends.precision import Precision
from export.frontends.torch import (  # noqa: F401 - each fills the tables of lowerings
    activations,
    arithmetic,
    convolution,
    linear,
    movement,
    pooling,
)
from export.frontends.torch.lowering import supported
from export.frontends.torch.walk import Tracer, Walk
from export.ir import Graph

#: The shape of one sample, or one for each input.
Shapes = Sequence[int] | Sequence[Sequence[int]]

__all__ = ["lower", "supported"]


def lower(
    model: nn.Module,
    input_shape: Shapes,
    *,
    name: str = "network",
    input_format: FixedPoint | None = None,
    precision: Precision | Mapping[str, Precision] | None = None,
) -> Graph:
    """The integer graph of ``model`` in eval mode.

    ``input_shape`` is that of one sample, or a list of them for several inputs. ``input_format`` is needed where the
    model does not quantize its input, ``precision`` where layers are plain float ones: one for all, or one by layer
    name.
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
    if Tracer().is_leaf_module(model, ""):  # a single layer is traced as the only one of a model
        return lower(nn.Sequential(model), input_shape, name=name, input_format=input_format, precision=precision)
    return Walk(modules, shapes_of(input_shape), name, input_format, precision).graph(Tracer().trace(model))


def shapes_of(given: Shapes) -> tuple[tuple[int, ...], ...]:
    """One shape for each input."""
    several = [tuple(each) for each in given if isinstance(each, Sequence)]
    return tuple(several) if several else (tuple(n for n in given if isinstance(n, int)),)


def _check_finite(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{name}: {bad} of {tensor.numel()} values are NaN or infinite; the training diverged: restore an "
                "earlier checkpoint or lower the learning rate"
            )
