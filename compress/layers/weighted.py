"""The layers with weights: Brevitas's own, with a shorter way to the same numbers."""

from __future__ import annotations

from typing import Any

import brevitas.nn as bnn
import torch
from torch import Tensor, nn

from compress.fakequant import SMALLEST_RANGE, Grid, accumulated, fake_quantize_parameter, fake_quantized_linear
from compress.layers.activations import QuantIdentity
from compress.layers.quantizers import bias_quantizer, weight_quantizer
from compress.layers.state import NEVER, Seen, is_in_other_use, is_plain, is_set
from compress.mask import Mask
from compress.spec import QuantSpec, Range, Scale

_DEFAULT = QuantSpec()


class WeightedLayer(nn.Module):
    """What the layers with weights add to Brevitas's.

    ``output`` quantizes the results where ``spec.output_width`` asks for it, and is None elsewhere; before it the sums
    are stored in ``spec.accumulator``. A learned range of the weights starts, at the first forward, from their
    largest magnitude (binary: their mean magnitude), in eval mode too; ``range_found`` in the state dict says that it
    has.

    The shorter way takes power-of-two weight scales that are one per tensor and constant or from the largest magnitude,
    under a pruning mask too. All other weight quantizers are Brevitas's own modules.
    """

    weight: Tensor
    bias: Tensor | None
    weight_quant: Any
    bias_quant: Any
    output: QuantIdentity | None
    range_found: Tensor
    _modules: dict[str, Any]

    def _prepare(self, spec: QuantSpec, lean: bool) -> None:
        self.spec = spec
        self.lean = lean
        grid, found = spec.weight_grid, spec.range_of_weights
        per_tensor = spec.weight_scale is Scale.POWER_OF_TWO and not spec.weight_per_channel and not grid.binary
        self._lean_grid = grid if per_tensor and found in (None, Range.LARGEST) else None
        self._bias_grid = spec.bias_grid if self.bias is not None else None
        self.output = None
        if spec.output_width is not None:
            behind = QuantSpec(input_width=spec.output_width, input_frac=spec.output_frac)
            self.output = QuantIdentity(spec=behind, lean=lean).to(self.weight.device, self.weight.dtype)
        if found is Range.LEARNED:
            self.register_buffer("range_found", torch.tensor(False, device=self.weight.device))

    @property
    def weight_range(self) -> nn.Parameter | None:
        """The learned range of the weights (its logarithm to base 2, rounded up when used, for power-of-two scales).

        None unless ``spec.weight_range`` is LEARNED. No dimensions, or those of the weight, all but the first 1.
        """
        if self.spec.range_of_weights is not Range.LEARNED:
            return None
        parameter: nn.Parameter = self.weight_quant.tensor_quant.scaling_impl.value
        return parameter

    def forward(self, x: Tensor) -> Tensor:
        grid = self._lean_grid
        if grid is not None and self.lean and is_plain(x) and not is_in_other_use(self, "weight_quant", "bias_quant"):
            weight, kept = _trained(self)
            y = self._lean_forward(x, weight, None if kept is None else self._factors(kept, weight), grid)
        else:
            refuse_masked_binary(self)
            self.ensure_range()
            y = super().forward(x)
        if self.spec.accumulator is not None:
            y = accumulated(y, self.spec.accumulator)
        return y if self.output is None else self.output(y)

    def _lean_forward(self, x: Tensor, weight: Tensor, kept: Tensor | None, grid: Grid) -> Tensor:
        raise NotImplementedError

    def _factors(self, kept: Tensor, weight: Tensor) -> Tensor:
        """A mask as 0 and 1 in the type of the weight, made anew when something has written to the mask."""
        seen: Seen = self.__dict__.get("_seen_mask", NEVER)
        if not seen.of(kept) or seen.found.dtype is not weight.dtype:
            seen = self.__dict__["_seen_mask"] = Seen(kept, kept.to(weight.dtype))
        found: Tensor = seen.found
        return found

    @torch.no_grad()
    def ensure_range(self) -> None:
        """Start a learned range of the weights, from the weights as they are, if it has not been started yet."""
        value = self.weight_range
        if value is None or is_set(self, "range_found"):
            return
        rows = self.weight.abs().reshape(value.numel(), -1)
        found = rows.mean(dim=1) if self.spec.weight_grid.binary else rows.amax(dim=1)
        found = found.clamp_min(SMALLEST_RANGE)
        if self.spec.weight_scale is Scale.POWER_OF_TWO:
            # In the middle of the logarithms that round up to it, so that learning does not undo it at once.
            found = found.log2().ceil() - 0.5
        value.copy_(found.reshape(value.shape))
        self.range_found.fill_(True)

    def __repr__(self) -> str:
        spec = self.spec
        bias = "no" if self.bias is None else "float" if spec.bias_width is None else f"{spec.bias_width}-bit"
        says = [self._shape(), f"{_weights(spec)}, {bias} bias"]
        if spec.accumulator is not None:
            says.append(f"{spec.accumulator} accumulator")
        if self.output is not None:
            says.append(f"output {', '.join(self.output._says())}")
        return f"{_plain_name(self)}({', '.join(says)})"

    def _shape(self) -> str:
        raise NotImplementedError


class QuantLinear(WeightedLayer, bnn.QuantLinear):
    """``y = x @ quantized(weight).T + quantized(bias)`` for ``x`` of shape (..., in_features), plain float tensors."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        spec: QuantSpec = _DEFAULT,
        lean: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        bnn.QuantLinear.__init__(
            self, in_features, out_features, bias, **_quantizers(spec, bias), device=device, dtype=dtype
        )
        self._prepare(spec, lean)

    def _lean_forward(self, x: Tensor, weight: Tensor, kept: Tensor | None, grid: Grid) -> Tensor:
        return fake_quantized_linear(x, weight, self.bias, grid, self._bias_grid, kept)

    def _shape(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class _Convolution(WeightedLayer):
    """The shorter way quantizes weights and bias in one step each; the convolution itself is torch's own."""

    inner_forward_impl: Any

    def _lean_forward(self, x: Tensor, weight: Tensor, kept: Tensor | None, grid: Grid) -> Tensor:
        quantized_weight = fake_quantize_parameter(weight, grid, kept)
        bias = self.bias
        if bias is not None and self._bias_grid is not None:
            bias = fake_quantize_parameter(bias, self._bias_grid)
        y: Tensor = self.inner_forward_impl(x, quantized_weight, bias)
        return y

    def _shape(self) -> str:
        return self.extra_repr().removesuffix(", bias=False")


class QuantConv1d(_Convolution, bnn.QuantConv1d):
    """A convolution with quantized weights and bias, of plain float tensors (rows, in_channels, length).

    Arguments as of ``torch.nn.Conv1d``; ``padding="same"`` also with a stride (see :class:`QuantConv2d`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: str | int | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        spec: QuantSpec = _DEFAULT,
        lean: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        bnn.QuantConv1d.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
            bias,
            **_quantizers(spec, bias),
            device=device,
            dtype=dtype,
        )
        self._prepare(spec, lean)


class QuantConv2d(_Convolution, bnn.QuantConv2d):
    """A convolution with quantized weights and bias, of plain float tensors (rows, in_channels, height, width).

    Arguments as of ``torch.nn.Conv2d``. ``padding="same"`` also with a stride, which torch refuses: then the output
    has the size of the input over the stride, rounded up, and an odd row of zeros goes to the end
    (``is_same_padded_strided`` is True and ``padding`` 0).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        spec: QuantSpec = _DEFAULT,
        lean: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        bnn.QuantConv2d.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
            bias,
            **_quantizers(spec, bias),
            device=device,
            dtype=dtype,
        )
        self._prepare(spec, lean)


def refuse_masked_binary(layer: nn.Module) -> None:
    """Raises ``ValueError`` for a pruning mask on binary weights."""
    if isinstance(layer, WeightedLayer) and layer.spec.weight_grid.binary and _trained(layer)[1] is not None:
        raise ValueError(
            f"{layer}: binary weights have no zero to prune to; leave this layer out of the pruning, or use "
            "weight_width=2, whose codes are -1, 0 and +1"
        )


def _trained(layer: WeightedLayer) -> tuple[Tensor, Tensor | None]:
    """The weight as it is trained and, under a pruning mask, which of it is kept: the mask itself is in neither."""
    weight = layer._parameters.get("weight")
    if weight is not None:
        return weight, None
    # Through the dictionaries of modules: attributes of a module take five times as long, at every step.
    chain = layer._modules["parametrizations"]._modules["weight"]
    links = chain._modules
    if len(links) != 1 or type(links["0"]) is not Mask:
        return layer.weight, None
    return chain._parameters["original"], links["0"]._buffers["kept"]


def _quantizers(spec: QuantSpec, bias: bool) -> dict[str, Any]:
    grid = spec.bias_grid if bias else None
    return {"weight_quant": weight_quantizer(spec), "bias_quant": grid and bias_quantizer(grid)}


def _weights(spec: QuantSpec) -> str:
    """The weights in the words that ``repr`` uses; what is the default goes without saying."""
    says = ["float scale"] if spec.weight_scale is Scale.FLOAT else []
    if spec.weight_per_channel:
        says.append("one scale per channel")
    if spec.weight_frac is not None:
        says.append(f"{spec.weight_frac} fraction bits")
    elif spec.weight_range is not None:
        says.append(f"{spec.weight_range.value} {'range' if spec.weight_range is Range.LEARNED else 'magnitude'}")
    width = "binary" if spec.weight_grid.binary else f"{spec.weight_width}-bit"
    return f"{width} weights ({', '.join(says)})" if says else f"{width} weights"


def _plain_name(layer: nn.Module) -> str:
    """The class as it was before a mask made it one of its own."""
    return nn.utils.parametrize.type_before_parametrizations(layer).__name__
