"""The networks of the recipes: plain float perceptrons, from which the quantized ones are derived."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn

from compress.quantize import quantize
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
    return quantize(float_network(recipe.network, inputs, outputs, recipe.pruning.training.seed), recipe.spec)
