"""The lean quantizer against Brevitas's own, bit for bit, forward and backward."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.fakequant import Grid, range_exponent
from compress.layers import QuantIdentity, QuantLinear, QuantReLU, QuantSpec

DTYPES = (torch.float32, torch.float64)


def twins(spec: QuantSpec, dtype: torch.dtype, make: str = "linear", bias: bool = True) -> tuple[nn.Module, nn.Module]:
    """A layer on the lean way and the same one on Brevitas's."""
    pair = []
    for lean in (True, False):
        torch.manual_seed(0)
        layer = {
            "linear": lambda lean=lean: QuantLinear(7, 5, bias, spec=spec, lean=lean),
            "relu": lambda lean=lean: QuantReLU(spec=spec, lean=lean),
            "identity": lambda lean=lean: QuantIdentity(spec=spec, lean=lean),
        }[make]()
        pair.append(layer.to(dtype))
    return pair[0], pair[1]


def run(layer: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, the gradient of the input and those of the parameters."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(upstream)
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


def assert_equal(lean: nn.Module, brevitas: nn.Module, x: Tensor, upstream: Tensor) -> None:
    ours, theirs = run(lean, x, upstream), run(brevitas, x, upstream)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), (a - b).abs().max()


def hard_numbers(rng: torch.Generator, shape: tuple[int, ...], shift: int, dtype: torch.dtype) -> Tensor:
    """Ties, clip edges, zeros, repeated maxima and ordinary numbers around a grid of ``2**shift``."""
    ordinary = torch.randn(shape, generator=rng, dtype=torch.float64)
    halves = torch.randint(-140, 140, shape, generator=rng) * 2.0 ** (shift - 1)
    powers = 2.0 ** torch.randint(-3, 4, shape, generator=rng) * torch.randint(-1, 2, shape, generator=rng)
    pick = torch.randint(0, 3, shape, generator=rng)
    return torch.where(pick == 0, ordinary, torch.where(pick == 1, halves, powers)).to(dtype)


widths = st.integers(2, 32)
cases = {"seed": st.integers(0, 10**6), "dtype": st.sampled_from(DTYPES), "shift": st.integers(-12, 3)}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(weight=widths, bias=widths, constant=st.booleans(), **cases)
def test_linear_equals_brevitas(weight, bias, constant, seed, dtype, shift):
    fracs = {"weight_frac": -shift, "bias_frac": -shift} if constant else {}
    lean, brevitas = twins(QuantSpec(weight_width=weight, bias_width=bias, **fracs), dtype)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in ("weight", "bias"):
            values = hard_numbers(rng, getattr(lean, name).shape, shift, dtype)
            getattr(lean, name).copy_(values)
            getattr(brevitas, name).copy_(values)
    x = hard_numbers(rng, (33, 7), shift, dtype)
    assert_equal(lean, brevitas, x, torch.randn(33, 5, generator=rng, dtype=torch.float64).to(dtype))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    width=widths,
    kind=st.sampled_from(["relu", "identity"]),
    signed=st.booleans(),
    constant=st.booleans(),
    fraction=st.floats(-0.999, 0),
    **cases,
)
def test_activation_equals_brevitas(width, kind, signed, constant, fraction, seed, dtype, shift):
    fracs = {"activation_frac": -shift, "input_frac": -shift} if constant else {}
    spec = QuantSpec(activation_width=width, input_width=width, input_signed=signed, **fracs)
    lean, brevitas = twins(spec, dtype, kind)
    rng = torch.Generator().manual_seed(seed)
    x = hard_numbers(rng, (33, 11), shift, dtype)
    # The range is set, not found, so that much of the data lies at and beyond the clip.
    for layer in (lean, brevitas):
        layer.calibrated.fill_(True)
        if layer.log2_range is not None:
            with torch.no_grad():
                layer.log2_range.fill_(min(shift + width, 3) + fraction)
    assert_equal(lean, brevitas, x, torch.randn(33, 11, generator=rng, dtype=torch.float64).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", range(1, 33))
def test_gradient_stops_exactly_where_brevitas_clips(width, dtype):
    """Every float within a few units of both ends of the range, and of zero."""
    for kind in ("relu", "identity"):
        signed = kind == "identity" and width > 1
        spec = QuantSpec(activation_width=width, input_width=width, input_signed=signed)
        lean, brevitas = twins(spec, dtype, kind)
        grid = lean._grid
        edges = [grid.low - 0.5, grid.low, 0.0, 0.5, grid.high, grid.high + 0.5]
        near = torch.tensor(edges, dtype=torch.float64).to(dtype) * 2.0**-grid.magnitude_bits
        points = [near]
        for direction in (-math.inf, math.inf):
            step = near
            for _ in range(3):
                step = torch.nextafter(step, torch.full_like(step, direction))
                points.append(step)
        x = torch.cat(points)
        for layer in (lean, brevitas):
            layer.calibrated.fill_(True)
            nn.init.constant_(layer.log2_range, 0.0)
        # Subnormal inputs cannot be scaled exactly; the sum over them is the one place where that would show.
        x = x[(x == 0) | (x.abs() > 1e-30)]
        assert_equal(lean, brevitas, x, torch.linspace(-1, 1, len(x), dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 1e-12, 1e-10, 2e-10, 0.5, 1.0, -1.0, 64.0])
def test_constant_weights_and_biases_equal_brevitas(value, dtype):
    """All zero, below the smallest range, and all tied for the largest magnitude."""
    lean, brevitas = twins(QuantSpec(weight_width=6), dtype)
    for layer in (lean, brevitas):
        nn.init.constant_(layer.weight, value)
        nn.init.constant_(layer.bias, -value)
    torch.manual_seed(1)
    assert_equal(lean, brevitas, torch.randn(9, 7, dtype=dtype), torch.randn(9, 5, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bias_width", [None, 12])
def test_other_shapes_and_no_bias_equal_brevitas(bias, bias_width, dtype):
    lean, brevitas = twins(QuantSpec(bias_width=bias_width), dtype, bias=bias)
    torch.manual_seed(2)
    for shape in ((7,), (4, 7), (3, 4, 7), (0, 7)):
        x = torch.randn(shape, dtype=dtype)
        assert_equal(lean, brevitas, x, torch.randn(*shape[:-1], 5, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_range_exponent_is_torchs_own(dtype):
    """Including the floats just above a power of two whose float32 logarithm is rounded down to a whole number."""
    torch.manual_seed(3)
    powers = 2.0 ** torch.arange(-33, 34, dtype=dtype)
    values = [powers, torch.rand(4000, dtype=dtype) * 2.0 ** torch.randint(-33, 34, (4000,))]
    for direction in (0.0, math.inf):
        step = powers
        for _ in range(4):
            step = torch.nextafter(step, torch.full_like(step, direction))
            values.append(step)
    for value in torch.cat(values):
        assert range_exponent(value.item(), dtype) == int(value.log2().ceil()), value.item()


@pytest.mark.parametrize("dtype", DTYPES)
def test_brevitas_powers_of_two_are_exact(dtype):
    exponents = torch.arange(-64, 65, dtype=dtype)
    assert [math.frexp(v)[0] for v in (2.0**exponents).tolist()] == [0.5] * len(exponents)


def test_wide_codes_stay_inside_their_width():
    """In float32 the highest 32-bit code rounds to 2**31, one too many for the format; the limit must round inwards."""
    for width in range(25, 33):
        for grid in (Grid(width), Grid(width, narrow=True), Grid(width, signed=False)):
            low, high = grid.limits(torch.float32)
            for limit in (low, high):
                assert torch.tensor(float(limit), dtype=torch.float32).item() == limit
                assert grid.low <= limit <= grid.high
            assert torch.nextafter(torch.tensor(float(high)), torch.tensor(math.inf)).item() > grid.high
            assert grid.limits(torch.float64) == (grid.low, grid.high)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_parameter_is_seen_in_every_output(value):
    lean, brevitas = twins(QuantSpec(), torch.float32)
    for layer in (lean, brevitas):
        with torch.no_grad():
            layer.weight[0, 0] = value
        assert layer(torch.ones(2, 7)).isnan().all()


def test_a_second_derivative_is_refused():
    lean, _ = twins(QuantSpec(), torch.float64)
    y = lean(torch.ones(2, 7, dtype=torch.float64, requires_grad=True)).sum()
    with pytest.raises(RuntimeError, match=r"no second derivative; build the layers with lean=False"):
        torch.autograd.grad(y, lean.weight, create_graph=True)
