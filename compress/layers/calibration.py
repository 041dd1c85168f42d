"""Setting every learned activation range from one batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compress.layers.ranges import LearnedRange
from compress.layers.state import in_eval_mode
from compress.readout import UncalibratedQuantizer


def calibrate(model: nn.Module, x: Tensor) -> None:
    """Set every learned activation range from one batch ``x``, in the order the model runs, in eval mode.

    Replaces what they were; a layer that is called several times gets one range for all that comes in. Raises
    ``UncalibratedQuantizer``, naming the layers, where the batch is all zeros or is not used at all.
    """
    ranges = {name: module for name, module in model.named_modules() if isinstance(module, LearnedRange)}
    layers = {name: layer for name, layer in ranges.items() if layer.learned_range is not None}
    silent = set(layers)
    entered: dict[str, list[Tensor]] = {name: [] for name in layers}

    def before(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            entered[name].append(args[0])
            if layers[name].calibrate_on(*entered[name]):
                silent.discard(name)

        return hook

    hooks = [layer.register_forward_pre_hook(before(name)) for name, layer in layers.items()]
    try:
        with in_eval_mode(model), torch.no_grad():
            model(x)
    except UncalibratedQuantizer:
        pass  # of a layer in ``silent``; the error below knows its name
    finally:
        for hook in hooks:
            hook.remove()
    if silent:
        raise UncalibratedQuantizer(
            f"{', '.join(sorted(silent))}: the calibration batch of {len(x)} rows brings no activation but zero here; "
            "use a larger or more typical batch, or fix the binary point with activation_frac, input_frac "
            "or output_frac"
        )
