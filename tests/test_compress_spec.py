"""The specification of a layer: what it refuses, and the grids it stands for."""

import copy
from dataclasses import FrozenInstanceError, replace

import pytest

from compress.fakequant import Grid
from compress.fixed import FixedPoint
from compress.layers import QuantSpec, QuantSpecError, Range, Scale

SIX = QuantSpec(weight_width=6, bias_width=12, activation_width=6, input_width=10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_bitwidth": 3}, "QuantSpec has no field 'weight_bitwidth'; did you mean weight_width?"),
        ({"colour": 3}, "QuantSpec has no field 'colour'; its fields are weight_width, bias_width, "),
        ({"weight_width": 0}, "weight_width is a whole number of bits from 1 to 32, got 0"),
        ({"bias_width": 33}, "bias_width is a whole number of bits from 1 to 32, got 33"),
        ({"activation_width": 6.0}, "activation_width is a whole number of bits from 1 to 32, got 6.0"),
        ({"input_width": None}, "input_width is a whole number of bits from 1 to 32, got None"),
        ({"input_width": True}, "input_width is a whole number of bits from 1 to 32, got True"),
        ({"output_width": 40}, "output_width is a whole number of bits from 1 to 32, got 40"),
        ({"weight_frac": 65}, "weight_frac is a whole number of fraction bits from -64 to 64, or None"),
        ({"activation_frac": "2"}, "or None for a range found from the data; got '2'"),
        ({"input_signed": 1}, "input_signed is True or False, got 1"),
        ({"weight_per_channel": 1}, "weight_per_channel is True or False, got 1"),
        ({"weight_scale": "float"}, "weight_scale is one of Scale.POWER_OF_TWO, Scale.FLOAT, got 'float'"),
        ({"input_scale": None}, "input_scale is one of Scale.POWER_OF_TWO, Scale.FLOAT, got None"),
        ({"weight_range": "max"}, "weight_range is one of Range.LARGEST, Range.AVERAGE, Range.LEARNED, got 'max'"),
        ({"bias_width": 1}, "bias_width=1: binary biases have no zero; use at least 2 bits, or no bias"),
        ({"bias_width": None, "bias_frac": 3}, "bias_frac=3 for a float bias; give bias_width too, or drop bias_frac"),
        ({"output_frac": 3}, "output_frac=3 for outputs that are not quantized; give output_width too, or drop"),
        (
            {"weight_frac": 3, "weight_scale": Scale.FLOAT},
            "weight_frac=3 is a power-of-two scale, but weight_scale is FLOAT; drop one of the two",
        ),
        ({"activation_frac": 3, "activation_scale": Scale.FLOAT}, "activation_frac=3 is a power-of-two scale, but"),
        ({"input_frac": 3, "input_scale": Scale.FLOAT}, "input_frac=3 is a power-of-two scale, but input_scale is"),
        (
            {"weight_frac": 3, "weight_range": Range.LARGEST},
            "weight_frac=3 fixes the range of all weights, but weight_range=Range.LARGEST; drop one of the two",
        ),
        (
            {"weight_frac": 3, "weight_per_channel": True},
            "weight_frac=3 fixes the range of all weights, but weight_per_channel=True; drop one of the two",
        ),
        ({"accumulator": 16}, r"accumulator is a FixedPoint\(width, frac, signed\) or None, got 16"),
        ({"accumulator": FixedPoint(54, 2)}, "accumulator=fixed<54,52>: a float64 holds the codes of at most 53 bits"),
    ],
)
def test_a_wrong_spec_is_refused(fields, message):
    with pytest.raises(QuantSpecError, match=message):
        QuantSpec(**fields)


def test_a_spec_is_a_frozen_value():
    assert replace(SIX, weight_width=4).weight_width == 4
    assert copy.deepcopy(SIX) == SIX and hash(SIX) == hash(copy.copy(SIX))
    with pytest.raises(QuantSpecError, match="did you mean weight_width"):
        replace(SIX, weigth_width=4)
    with pytest.raises(FrozenInstanceError):
        SIX.weight_width = 3


def test_one_signed_bit_is_binary_and_two_are_ternary():
    one = QuantSpec(weight_width=1, activation_width=1, input_width=1, output_width=1)
    for grid in (one.weight_grid, one.signed_activation_grid, one.input_grid, one.output_grid):
        assert grid.binary and (grid.low, grid.high) == (-1, 1)
    assert not one.activation_grid.binary and (one.activation_grid.low, one.activation_grid.high) == (0, 1)
    assert not replace(one, input_signed=False).input_grid.binary
    two = QuantSpec(weight_width=2, activation_width=2, input_width=2, output_width=2)
    for grid in (two.weight_grid, two.signed_activation_grid, two.input_grid, two.output_grid):
        assert (grid.low, grid.high) == (-1, 1) and grid.magnitude_bits == 1
    three = QuantSpec(weight_width=3, input_width=3)
    assert (three.weight_grid.low, three.input_grid.low) == (-3, -4)


def test_a_constant_binary_point_uses_all_codes():
    spec = QuantSpec(weight_width=2, weight_frac=1, activation_width=2, activation_frac=0, input_width=2, input_frac=3)
    for grid in (spec.weight_grid, spec.signed_activation_grid, spec.input_grid):
        assert (grid.low, grid.high) == (-2, 1)
    assert spec.input_grid == Grid(2, signed=True, frac=3)


def test_the_range_of_weights_by_default():
    assert QuantSpec().range_of_weights is Range.LARGEST
    assert QuantSpec(weight_width=1).range_of_weights is Range.AVERAGE
    assert QuantSpec(weight_width=1, weight_range=Range.LARGEST).range_of_weights is Range.LARGEST
    assert QuantSpec(weight_frac=3).range_of_weights is None


def test_there_is_no_output_grid_without_a_width():
    assert QuantSpec().output_grid is None and QuantSpec(bias_width=None).bias_grid is None
    assert QuantSpec(output_width=9, output_frac=4).output_grid == Grid(9, signed=True, frac=4)
