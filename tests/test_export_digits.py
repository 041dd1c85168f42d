"""Layers whose weights are signs: found, stored in one or two bits where they share hardware, and never multiplied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from designs import assert_equal_traces, exact_dense, samples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.fixed import FixedPoint
from compress.layers import QuantSpec, Range
from compress.quantize import quantize
from export import to_graph, to_hls
from export.backends import BACKENDS
from export.costs import estimate_op, multipliers_of
from export.costs.basis import Target
from export.emulation.emulator import Emulator
from export.firmware.design import Firmware
from export.firmware.storage import Delivery
from export.ir import Const, Graph, Op, Tensor
from export.ops import Dense, Input, Modes, SparseDense
from export.ops.digits import OneDigit, one_digit
from export.passes import lay_out

BINARY, TERNARY = [[1, -1, 1, 1], [-1, -1, 1, -1]], [[1, 0, 0, -1], [0, -1, 1, 0]]


def layer(weight: list[list[int]], reuse_factor: int, size: int = 1) -> Graph:
    """An input of four numbers and one layer, ``size`` being that of every weight that is not zero."""
    x = Tensor("x", (4,), FixedPoint(6, 3))
    entry: tuple[Op, ...] = (Input(x, Modes()),)
    const = Const(np.array(weight) * size, FixedPoint(4, 2))
    bias = Const([3, -5], FixedPoint(4, 3))
    fc = exact_dense("fc", x, const, bias, entry, reuse_factor)
    return Graph("net", (*entry, fc), (fc.output,)).verify()


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=6), st.integers(0, 5), st.integers(-3, 9))
def test_what_is_found_is_what_the_weights_are(signs: list[int], exponent: int, frac: int) -> None:
    weight = Const(np.array(signs) << exponent, FixedPoint(7, frac))
    digit = one_digit(weight)
    if not any(signs):
        assert digit is None
        return
    assert digit is not None and digit.has_zeros == (0 in signs)
    assert np.array_equal(weight.format.values(weight.codes), np.ldexp(np.array(signs, dtype=float), -digit.frac))
    for sign in set(signs):
        assert digit.format.min_code <= sign <= digit.format.max_code


@pytest.mark.parametrize("codes", [[1, 2], [3, -3], [0, 0], [1, -1, 4], []])
def test_others_are_numbers(codes: list[int]) -> None:
    assert one_digit(Const(np.array(codes, dtype=np.int64), FixedPoint(5, 1))) is None


def test_a_bit_is_not_stored_in_two() -> None:
    assert one_digit(Const([0, 1, 1], FixedPoint(1, 3, signed=False))) is None
    assert one_digit(Const([1, 1], FixedPoint(1, 3, signed=False))) == OneDigit(3, has_zeros=False)


@pytest.mark.parametrize("reuse_factor", [2, 8], ids=["shared", "serial"])
@pytest.mark.parametrize(("weight", "spelled"), [(BINARY, "binary"), (TERNARY, "ternary")])
def test_shared_hardware_has_signs_for_weights(weight: list[list[int]], spelled: str, reuse_factor: int) -> None:
    graph = layer(weight, reuse_factor, size=4)
    types = BACKENDS["vitis"].render(graph).files["firmware/types.h"]
    assert f"typedef qapsule::{spelled}<ap_fixed<2, 2>, 0> fc_weight_t;" in types
    assert '#include "qapsule/digits.h"' in types
    assert_equal_traces(graph, Emulator(graph), samples(graph, 100))


@pytest.mark.parametrize("weight", [BINARY, TERNARY])
def test_a_constant_of_its_own_product_stays_a_number(weight: list[list[int]]) -> None:
    files = BACKENDS["vitis"].render(layer(weight, 1)).files
    assert "typedef ap_fixed<4, 2> fc_weight_t;" in files["firmware/types.h"]
    assert "firmware/qapsule/digits.h" not in files


def test_what_may_be_loaded_is_any_number() -> None:
    """Another network's weights need not be signs."""
    for delivery in Delivery:
        (step,) = (s for s in Firmware(layer(BINARY, 2), delivery=delivery).steps if s.tables)
        assert next(kind for kind in step.types if kind.name == "fc_weight_t").digit is None


def test_redundant_copies_are_bits() -> None:
    """Step by step, input by input: those of the two outputs."""
    for weight, words in ((BINARY, [1, 0, 0, 0, 1, 1, 1, 0]), (TERNARY, [1, 0, 0, 3, 0, 1, 3, 0])):
        (step,) = (s for s in Firmware(layer(weight, 2), tmr=True).steps if s.tables)
        (stored,) = (each for each in step.stored if each.table.name == "fc_weight")
        assert stored.codes.ravel().tolist() == words


def test_they_take_no_multiplier_and_a_memory_of_bits() -> None:
    for weight, bits in ((BINARY, 1), (TERNARY, 2)):
        fc = layer(weight, 2).ops[1]
        assert isinstance(fc, Dense)
        assert multipliers_of(fc, 2).count == 0
        estimate = estimate_op(fc, Target())
        assert (estimate.multipliers, estimate.dsp, estimate.memory_bits) == (0, 0, 8 * bits)
        assert estimate.adders == 4
        numbers = replace(fc, weight=Const(fc.weight.codes * 3, fc.weight.format))
        assert multipliers_of(numbers, 2).count == 4 and estimate_op(numbers, Target()).memory_bits == 8 * 4


def test_a_weight_of_coo_may_be_a_place_left_over() -> None:
    sparse = SparseDense.of(replace(layer(TERNARY, 1).ops[1]), reuse_factor=3)  # type: ignore[arg-type]
    assert sparse.digit == OneDigit(2, has_zeros=True) and sparse.weight_bits == 2


@pytest.mark.parametrize("io", ["parallel", "stream"])
@pytest.mark.parametrize(
    ("spec", "spelled"),
    [
        (QuantSpec(weight_width=1, activation_width=5, input_width=6), "binary"),
        (QuantSpec(weight_width=2, weight_range=Range.AVERAGE, activation_width=5, input_width=6), "ternary"),
    ],
    ids=["binary", "ternary"],
)
def test_trained_signs_with_wider_inputs(spec: QuantSpec, spelled: str, io: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 3))
    model = quantize(network, {"*": spec})
    x = torch.randn(300, 2, 8)
    with torch.no_grad():
        model.train()(x)
        expected = model.double().eval()(x.double()).numpy()
    reuse = {"0": 3, "3": 12, "5": 6}
    project = to_hls(model, tmp_path / "net", (2, 8), backend="catapult", reuse_factor=reuse, io=io, strategy="dense")
    types = project.files["firmware/types.h"]
    assert types.count(f"qapsule::{spelled}<ac_fixed<2") == 3
    graph = lay_out(reuse, "dense")(to_graph(model, (2, 8)))
    assert np.array_equal(Emulator(graph, io=io).predict(x.numpy()), expected)
    assert len(np.unique(expected, axis=0)) > 50
