"""What a training borrows from its surroundings and gives back as it was: threads, module modes, random generators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch compute with ``number`` threads; the caller's number is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put ``model`` into train or eval mode; every submodule's own mode is restored."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in before:
            module.training = flag


@contextmanager
def preserved(generators: Mapping[str, torch.Generator]) -> Iterator[None]:
    """Restore the states of ``generators`` afterwards."""
    before = {name: generator.get_state() for name, generator in generators.items()}
    try:
        yield
    finally:
        for name, generator in generators.items():
            generator.set_state(before[name])


def generators_of(device: torch.device) -> dict[str, torch.Generator]:
    """``order``: a new one for the order of the data; the others are torch's own, which a model may draw from."""
    found = {"order": torch.Generator(), "cpu": torch.default_generator}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.default_generators[device.index or 0]
    return found


def own_generators(device: torch.device) -> dict[str, torch.Generator]:
    """Those of :func:`generators_of`, all new: for a training that shares torch's own with others and does not draw."""
    found = {"order": torch.Generator(), "cpu": torch.Generator()}
    if device.type == "cuda":
        found["cuda"] = torch.Generator(device)
    return found
