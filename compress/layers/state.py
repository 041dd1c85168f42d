"""What decides how a layer computes: flags in its state, its mode, what else it is being used for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_LEAN_DTYPES = (torch.float32, torch.float64)


def is_plain(x: Tensor) -> bool:
    """Whether these are numbers that the lean way knows, and not a tensor class of Brevitas or another float type."""
    return type(x) is Tensor and x.dtype in _LEAN_DTYPES


def is_in_other_use(layer: Any, *proxies: str) -> bool:
    """Whether one of Brevitas's tools has switched the layer to exporting or one of its quantizers off."""
    if layer.export_mode:
        return True
    for proxy in proxies:  # noqa: SIM110 (twice as fast as any(), at every step)
        if layer._modules[proxy].disable_quant:
            return True
    return False


class Seen:
    """A tensor at the moment it was looked at, with what was ``found`` out about it then."""

    __slots__ = ("found", "tensor", "version")

    def __init__(self, tensor: Tensor | None, found: Any = None) -> None:
        self.tensor = tensor
        # A tensor made in inference mode does not count who writes to it.
        self.version = None if tensor is None or tensor.is_inference() else tensor._version
        self.found = found

    def of(self, tensor: Tensor) -> bool:
        """Whether this is ``tensor``, unchanged since."""
        return self.tensor is tensor and self.version is not None and self.version == tensor._version


NEVER = Seen(None)


def is_set(module: nn.Module, flag: str) -> bool:
    """Whether the boolean buffer ``flag`` of ``module`` is True.

    A tensor on a GPU is waited for only where something has written to it since it was last seen to be True.
    """
    buffer = module._buffers[flag]
    assert buffer is not None, flag
    if module.__dict__.get("_seen", NEVER).of(buffer):
        return True
    if not buffer:
        return False
    module.__dict__["_seen"] = Seen(buffer)
    return True


def uncalibrated(label: str) -> str:
    return (
        f"{label}: its range has not seen any data yet; train for a step, load a trained state, call "
        "compress.layers.calibrate(model, batch), or fix the binary point in its QuantSpec"
    )


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
