"""Other weights for a design whose weights are loaded: what it computes with them, and the words to load.

    design = for_any_weights(to_graph(first, (16,)))
    to_hls(design, "build/asic", backend="catapult", weights="reloadable", tmr=True)
    words = packed_words(loaded(design, to_graph(second, (16,))), tmr=True)

    to_hls(design, "build/fpga", backend="vitis", weights="reloadable")
    words = bus_words(loaded(design, to_graph(second, (16,))))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.fixed import Codes, FixedPoint
from export.arithmetic import shifted
from export.firmware.design import Firmware
from export.firmware.storage import Delivery
from export.intervals import Bounds
from export.ir import Const, Graph, GraphError, Op, Tensor
from export.ops import (
    Add,
    Cast,
    Concat,
    Conv,
    Dense,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Rearrange,
    ReLU,
    Reshape,
    Sparse,
    SparseConv,
    SparseDense,
    Subtract,
    Table,
)
from export.streams.access import Io

_EXACT = (
    Add, Concat, Conv, Dense, Maximum, MaxPool, Minimum, Multiply, Rearrange, ReLU, Reshape, SparseConv, SparseDense,
    Subtract,
)  # fmt: skip


def packed_words(
    graph: Graph, tmr: bool | Collection[str] = False, *, io: Io | str = Io.PARALLEL
) -> dict[str, NDArray[np.uint64]]:
    """The words of every member of the design's argument of weights (catapult), (entries, fields), in their order.

    ``tmr`` and ``io`` must be those of the design.
    """
    firmware = Firmware(graph, Io.of(io), tmr, Delivery.WIRES)
    return {name: each.codes for step in firmware for each in step.stored for name in each.names}


def bus_words(
    graph: Graph, tmr: bool | Collection[str] = False, *, io: Io | str = Io.PARALLEL
) -> dict[str, NDArray[np.uint32]]:
    """The 32-bit words of every argument of the design that lies on its bus (vitis), in their order.

    ``tmr`` and ``io`` must be those of the design.
    """
    firmware = Firmware(graph, Io.of(io), tmr, Delivery.BUS)
    return {step.words.value: np.concatenate([each.words for each in step.loads]) for step in firmware.loading}


def loaded(design: Graph, trained: Graph) -> Graph:
    """What ``design`` computes with the constants of ``trained``, a network of the same layers.

    Raises GraphError, naming the layer, where they do not fit: other shapes, another quantization, finer or larger
    numbers than the design has bits for, or sums that leave its accumulators.
    """
    if len(design.ops) != len(trained.ops):
        raise design.inputs[0].fail(f"{len(design.ops)} operations in the design, {len(trained.ops)} in the network")
    ops = tuple(_with_constants(op, other) for op, other in zip(design.ops, trained.ops, strict=True))
    return replace(design, ops=ops).verify()


def rearranged(design: Graph) -> Graph:
    """``design`` with its constants in other places: something to load that differs wherever it can.

    Those of every op stand the other way round; where its law, or that of one behind it, forbids this (sums would leave
    an accumulator), they are what they were.
    """
    turned = [_turned(op) for op in design]
    if (whole := _verified(replace(design, ops=tuple(turned)))) is not None:
        return whole
    found = design
    for place, op in enumerate(turned):
        if op != found.ops[place]:
            found = _verified(replace(found, ops=(*found.ops[:place], op, *found.ops[place + 1 :]))) or found
    return found


def _turned(op: Op) -> Op:
    for axes in (None, 0):  # all of them, or outputs and channels alone
        turned: dict[str, Any] = {name: Const(np.flip(c.codes, axes), c.format) for name, c in op.constants.items()}
        with suppress(GraphError):
            return replace(op, **turned)
    return op


def _verified(graph: Graph) -> Graph | None:
    with suppress(GraphError):
        return graph.verify()
    return None


def _with_constants(op: Op, other: Op) -> Op:
    if type(op) is not type(other) or op.output.shape != other.output.shape:
        raise op.fail(
            f"the design has {type(op).__name__} of shape {op.output.shape} here, the network {other.name}: "
            f"{type(other).__name__} of shape {other.output.shape}; train a network of the same layers"
        )
    if not _is_exact(op) and op.output.format != other.output.format:
        raise op.fail(
            f"makes {op.output.format} in the design, {other.output.format} in the network; quantize both alike, with "
            "constant scales"
        )
    for name, value in _settings(op).items():
        if value != _settings(other)[name]:
            raise op.fail(f"{name} is {value} in the design, {_settings(other)[name]} in the network; make them alike")
    changed: dict[str, Any] = {}
    for name, const in op.constants.items():
        theirs = other.constants[name]
        if theirs.shape != const.shape:
            raise op.fail(f"{name} is stored with shape {const.shape}, the network has {theirs.shape}")
        changed[name] = _stored_as(op, name, theirs, const.format)
    if isinstance(op, Sparse) and isinstance(other, Sparse):
        changed |= {"rows": other.rows, "cols": other.cols}
    return replace(op, **changed) if changed else op


def _is_exact(op: Op) -> bool:
    """Whether any format that holds the numbers gives the same numbers."""
    return isinstance(op, _EXACT) and getattr(op, "modes", None) is None


def _settings(op: Op) -> dict[str, Any]:
    """What an op computes beside its tensors and constants; how many share a multiplier is the design's affair."""
    settings: dict[str, Any] = {}
    for each in dataclasses.fields(op):
        value = getattr(op, each.name)
        parts = value if isinstance(value, tuple) else (value,)
        if each.name not in ("reuse_factor", "rows", "cols") and not any(isinstance(v, Tensor | Const) for v in parts):
            settings[each.name] = value
    if isinstance(op, Table):  # which is read by codes
        settings["format"] = op.x.format
    return settings


def _stored_as(op: Op, name: str, const: Const, fmt: FixedPoint) -> Const:
    """The same numbers in the format that the design stores."""
    up = fmt.frac - const.format.frac
    codes = const.codes if up >= 0 else np.asarray(const.codes) >> -up
    if up < 0 and np.any(codes << -up != const.codes):
        raise op.fail(f"{name} is stored as {fmt}, the network's is {const.format} and uses the bits between")
    codes = shifted(codes, max(up, 0))
    if codes.size and (int(codes.min()) < fmt.min_code or int(codes.max()) > fmt.max_code):
        raise op.fail(f"{name} is stored as {fmt}, the network's {const.format} exceeds it; store a wider format")
    return Const(codes, fmt)


def for_any_weights(graph: Graph) -> Graph:
    """The same network with accumulators that no weights of the stored formats can leave.

    Raises GraphError for an op between two accumulators whose format would have to follow and cannot.
    """
    made: dict[Tensor, Tensor] = {}
    ops: list[Op] = []
    for op in graph:
        read = {t: made[t] for t in op.inputs if made[t] != t}
        ops.append(_widened(op, read))
        made[op.output] = ops[-1].output
    outputs = tuple(made[t] for t in graph.outputs)
    return Graph(graph.name, tuple(ops), outputs, graph.notes).verify()


def _widened(op: Op, read: dict[Tensor, Tensor]) -> Op:
    x = next((read.get(t, t) for t in op.inputs), None)
    match op:
        case Dense() | SparseDense() if op.modes is None and x is not None:
            fmt = _any_sums(op, x.format).format(max(x.format.frac + op.weight.format.frac, op.bias.format.frac))
        case ReLU() if x is not None:
            fmt = ReLU.positive(x.format)
        case Reshape() if x is not None:
            fmt = x.format
        case Input() | Cast():
            fmt = op.output.format
        case _ if not read:
            fmt = op.output.format
        case _:
            raise op.fail(
                f"{type(op).__name__} follows accumulators that hold any weights, and its own constants and formats "
                "are made for one network; quantize with a cast before it"
            )
    return op.moved({**read, op.output: Tensor(op.name, op.output.shape, fmt)})


def _any_sums(op: Dense | SparseDense, x: FixedPoint) -> Bounds:
    """What a partial sum reaches, whatever the codes of x, weights and bias."""
    weight, bias = op.weight.format, op.bias.format
    product_frac = x.frac + weight.frac
    frac = max(product_frac, bias.frac)
    corners = [a * b for a in (x.min_code, x.max_code) for b in (weight.min_code, weight.max_code)]

    def total(product: int, offset: int) -> Codes:
        terms = op.x.size * (product << (frac - product_frac)) + (offset << (frac - bias.frac))
        return np.array([terms], dtype=object)

    return Bounds(total(min(0, *corners), min(0, bias.min_code)), total(max(0, *corners), max(0, bias.max_code)))
