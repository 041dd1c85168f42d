from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compress.fixed import FixedPoint, Overflow, Rounding
from compress.layers import QuantHardTanh, QuantIdentity, QuantLinear, QuantSpec
from export.frontends.torch import lower
from export.ir import Const, Graph, Op, Tensor
from export.modes import Modes
from export.ops import BinaryDense, Cast, Dense, Input, Reshape, Threshold
from export.ops.binary import SIGN
from export.passes import PIPELINE, run, set_reuse
from export.passes.binarize import binarize
from export.verification.check import check

WEIGHT = np.where(np.random.default_rng(0).random((3, 6)) < 0.5, -1, 1)


def graph(weight=WEIGHT, modes=None, signs=True, start=(-1, 1), leaves=False, reader: type | None = None) -> Graph:
    """An input of (2, 3), its signs, flattened, and a layer."""
    entry = Input(Tensor("x", (2, 3), FixedPoint(4, 1)), Modes(Rounding.TRN, Overflow.SAT))
    sign = Threshold(
        Tensor("sign", (2, 3), FixedPoint(3, -1)), entry.output, Const([[2], [-1]], entry.output.format),
        Const(list(start), FixedPoint(3, -1)), Const([2, -2] if signs else [1, -1], FixedPoint(3, -1)),
    )  # fmt: skip
    flat = Reshape(Tensor("flat", (6,), sign.output.format), sign.output)
    const = Const(weight, FixedPoint(4, 3))
    layer = Dense(Tensor("fc", (3,), FixedPoint(12, 4)), flat.output, const, Const([5, -3, 0], FixedPoint(5, 4)), modes)
    ops: list[Op] = [entry, sign, flat, layer]
    if reader is not None:
        ops.append(Cast(Tensor("other", (6,), FixedPoint(3, 0)), flat.output, Modes()))
    outputs = [layer.output, *([ops[-1].output] if reader else []), *([sign.output] if leaves else [])]
    return Graph("g", tuple(ops), tuple(outputs)).verify()


def codes() -> np.ndarray:
    return np.random.default_rng(1).integers(-8, 8, size=(200, 2, 3))


@pytest.mark.parametrize("magnitude", [1, 2, 4])
def test_signs_times_signs_are_counted(magnitude):
    before = graph(WEIGHT * magnitude)
    after = binarize(before).verify()
    assert [type(op) for op in after] == [Input, Threshold, Reshape, BinaryDense]
    assert after.ops[1].output.format == after.ops[2].output.format == SIGN
    assert np.array_equal(before.eval(codes()), after.eval(codes()))
    assert after.notes == ("signs times signs, without a multiplier: fc",)
    assert len(np.unique(after.eval(codes()), axis=0)) > 20
    assert binarize(after) == after


@pytest.mark.parametrize(
    "kept",
    [
        graph(np.where(WEIGHT > 0, 3, -3)),  # no power of two
        graph(np.where(np.arange(18).reshape(3, 6) == 4, 0, WEIGHT)),  # a pruned weight
        graph(np.where(np.arange(18).reshape(3, 6) == 4, 2, WEIGHT)),
        graph(modes=Modes()),  # a sum that is cast on its way
        graph(signs=False),  # -1 and 0
        graph(start=(1, 2), signs=False),  # 1 and 2
        graph(leaves=True),  # somebody outside expects -1
        graph(reader=Cast),
    ],
    ids=["three", "zero", "two magnitudes", "modes", "no signs", "a start that is none", "output", "another reader"],
)
def test_what_is_no_product_of_signs_stays(kept):
    assert binarize(kept) == kept


def network(width: int) -> tuple[nn.Sequential, np.ndarray]:
    """Batch norm and a step of ``width`` bits, twice, between layers of weights as wide."""
    torch.manual_seed(0)
    spec = QuantSpec(weight_width=width, activation_width=width, input_width=6)
    step = (nn.BatchNorm1d(20), QuantHardTanh(spec=spec))
    model = nn.Sequential(
        QuantIdentity(spec=spec), QuantLinear(8, 20, spec=spec), *step, QuantLinear(20, 20, spec=spec),
        nn.BatchNorm1d(20), QuantHardTanh(spec=spec), QuantLinear(20, 4, spec=replace(spec, output_width=8)),
    )  # fmt: skip
    x = torch.randn(300, 8)
    with torch.no_grad():
        for _ in range(3):
            model.train()(x)
    return model.eval(), np.random.default_rng(0).normal(size=(400, 8))


@pytest.mark.parametrize("width", [1, 2], ids=["binary", "ternary"])
def test_batch_norm_and_a_step_are_comparisons(width):
    model, x = network(width)
    lowered = lower(model, (8,))
    after = run(lowered)
    steps = [op for op in after if isinstance(op, Threshold)]
    assert [op.level.shape for op in steps] == [(20, width)] * 2
    assert sum(isinstance(op, BinaryDense) for op in after) == (2 if width == 1 else 0)
    codes = lowered.inputs[0].encode(x)
    assert np.array_equal(lowered.eval(codes), after.eval(codes))
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(x)).numpy()
    assert (after.outputs[0].format.values(after.eval(codes)) == expected).all()
    assert len(np.unique(expected, axis=0)) > 20
    assert all(pair.equal for pair in check(after, x) if pair.skipped is None)


def test_there_is_no_multiplier_to_share():
    after = binarize(graph())
    assert set_reuse(4)(after) == after
    with pytest.raises(ValueError) as error:
        set_reuse({"fc": 2})(after)
    assert str(error.value) == "fc: multiplies signs, so that there is no multiplier to share; name no factor"


def test_it_comes_after_what_moves_biases():
    order = [apply.__name__ for apply in PIPELINE]
    assert order.index("fold_affine") < order.index("binarize") < order.index("choose_sparse")
