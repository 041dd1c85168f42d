"""From a float network to one whose widths are learned, and from that to integers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.borrowed import mode
from compress.learned.layers import Granularity, LearnedActivation, LearnedLinear

_PASSED = (nn.Dropout, nn.Identity)


def learn_precision(
    network: nn.Sequential,
    x: Tensor,
    granularity: Granularity = Granularity.WEIGHT,
    *,
    weight_frac: float = 5.0,
    activation_frac: float = 4.0,
) -> nn.Sequential:
    """A copy of ``network`` whose weights and activations have learned widths, the widths' first values generous.

    ``network`` is a chain of linear layers with a ReLU between any two; batch norm behind a linear layer is folded into
    it as it stands in eval mode, dropout is left out. ``x`` (batch, features) are typical inputs, from which the ranges
    of the activations start; ``weight_frac`` and ``activation_frac`` are the fraction bits at the start. In the result
    a ``LearnedActivation`` stands before every ``LearnedLinear``; the first quantizes the input, the others are ReLUs.

    Raises ``ValueError`` naming the first layer that does not fit, and for inputs that are not finite.
    """
    if not torch.isfinite(x).all():
        raise ValueError("x: NaN or infinite features; the ranges of the activations need typical inputs")
    with mode(network, training=False), torch.no_grad():
        chain = _linear_layers(network)
        modules: list[nn.Module] = []
        for number, (name, linear) in enumerate(chain):
            if x.shape[1:] != (linear.in_features,):
                raise ValueError(f"{name}: takes {linear.in_features} features, what comes in has shape {x.shape[1:]}")
            activation = LearnedActivation(linear.in_features, number == 0, granularity, activation_frac)
            activation.cover(x)
            modules += [activation, LearnedLinear(linear, granularity, weight_frac)]
            x = linear(x).relu()
    return nn.Sequential(*modules)


def freeze(model: nn.Sequential) -> nn.Sequential:
    """The network in integers: the same numbers as ``model`` in eval mode, bit for bit in float64.

    Raises ``ValueError`` for a layer of another kind and for weights that are not finite.
    """
    frozen: list[nn.Module] = []
    for name, module in model.named_children():
        if not isinstance(module, (LearnedLinear, LearnedActivation)):
            raise ValueError(
                f"{name}: a {type(module).__name__} has no learned widths; freeze takes what learn_precision made"
            )
        try:
            frozen.append(module.freeze())
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return nn.Sequential(*frozen).eval()


def _linear_layers(network: nn.Sequential) -> list[tuple[str, nn.Linear]]:
    """The linear layers, batch norm folded in; checks that a ReLU stands between any two and nothing else anywhere."""
    found: list[tuple[str, nn.Linear]] = []
    rectified = True
    for name, module in network.named_children():
        if type(module) is nn.Linear and rectified:
            found.append((name, module))
            rectified = False
        elif isinstance(module, nn.BatchNorm1d) and found and not rectified:
            found[-1] = (found[-1][0], _folded(found[-1][1], module))
        elif isinstance(module, nn.ReLU) and found and not rectified:
            rectified = True
        elif not isinstance(module, _PASSED):
            raise ValueError(
                f"{name}: a {type(module).__name__} does not fit here; precision is learned for a Sequential of Linear "
                "layers, each followed by BatchNorm1d (if any) and each but the last by ReLU"
            )
    if not found or rectified:
        raise ValueError("the network must end in a Linear layer, and have one; put no ReLU behind its last layer")
    return found


def _folded(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """One layer that computes both in eval mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch norm without running statistics depends on the batch; set track_running_stats=True")
    gain = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight
    folded = nn.Linear(linear.in_features, linear.out_features)
    bias = 0.0 if linear.bias is None else linear.bias
    folded.weight.copy_(linear.weight * gain[:, None])
    folded.bias.copy_((bias - norm.running_mean) * gain + (0.0 if norm.bias is None else norm.bias))
    return folded
