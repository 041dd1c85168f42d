"""The networks of the recipes: plain float perceptrons, from which the quantized ones are derived."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from compress.layers import QuantSpec
from compress.quantize import Specs, quantize
from recipes.recipe import Network, Recipe


def float_network(network: Network, inputs: int, outputs: int, seed: int) -> nn.Sequential:
    """``fc1, bn1, relu1, fc2, ...`` with weights drawn from ``seed``; the caller's random state is left alone."""
    widths = (inputs, *network.hidden, outputs)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            layers[f"fc{number}"] = nn.Linear(fan_in, fan_out)
            if number <= len(network.hidden):
                if network.batch_norm:
                    layers[f"bn{number}"] = nn.BatchNorm1d(fan_out)
                layers[f"relu{number}"] = nn.ReLU()
    return nn.Sequential(layers)


def quantized_network(recipe: Recipe, inputs: int, outputs: int) -> nn.Module:
    """The recipe's network with quantized layers and an input quantizer in front, with the same initial weights."""
    network = float_network(recipe.network, inputs, outputs, recipe.pruning.training.seed)
    return quantize(network, specs_of(recipe))


def specs_of(recipe: Recipe) -> Specs:
    """The spec of every dense layer and ReLU by name; a binary point stated in the recipe moves with the width."""
    spec, hidden = recipe.spec, len(recipe.network.hidden)
    weights = recipe.weight_widths or (spec.weight_width,) * (hidden + 1)
    activations = recipe.activation_widths or (spec.activation_width,) * hidden
    specs: dict[str | type[nn.Module], QuantSpec | None] = {}
    for number, width in enumerate(weights, start=1):
        frac = _moved(spec.weight_frac, width - spec.weight_width)
        specs[f"fc{number}"] = replace(spec, weight_width=width, weight_frac=frac)
    for number, width in enumerate(activations, start=1):
        frac = _moved(spec.activation_frac, width - spec.activation_width)
        specs[f"relu{number}"] = replace(spec, activation_width=width, activation_frac=frac)
    return specs


def _moved(frac: int | None, bits: int) -> int | None:
    return None if frac is None else frac + bits
