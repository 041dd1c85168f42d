"""The parameters of all replicas side by side in one piece of memory, with their gradients and Adam's moments.

The models' own parameters become views of it, so whatever reads or restores a model sees what is being trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from compress.training import TrainConfig

#: Floats in a cache line, and at most in a vector register. Products and sums may round differently on tensors that
#: start elsewhere than torch's own do, so every replica's share of a block starts on such a line.
LINE = 16


#: Of torch's Adam, which the trainings here leave as they are.
_BETAS, _EPS = (0.9, 0.999), 1e-8


def lines(floats: int) -> int:
    """``floats`` rounded up to whole lines."""
    return -(-floats // LINE) * LINE


@dataclass(frozen=True)
class Block:
    """One parameter of every replica: replica i's begins at float ``start + i * stride``."""

    name: str
    shape: torch.Size
    start: int
    stride: int

    @property
    def numel(self) -> int:
        return self.shape.numel()

    def of(self, flat: Tensor, first: int, last: int) -> Tensor:
        """The share of replicas ``first`` to ``last`` (excluded) in ``flat``, of shape (replicas, *shape)."""
        inner = torch.empty(self.shape, device="meta").stride()
        return flat.as_strided((last - first, *self.shape), (self.stride, *inner), self.start + first * self.stride)

    def rows(self, flat: Tensor, replicas: int) -> Tensor:
        """What ``flat`` holds for this block, of shape (replicas, stride): the gaps between the shares included."""
        return flat[self.start : self.start + replicas * self.stride].view(replicas, self.stride)


class Arena:
    """The parameters of ``replicas`` (by plain name), in the order of ``names``, block after block.

    Making one copies the parameters and optimiser states in and turns the parameters into views; :meth:`release` gives
    every parameter memory of its own again.
    """

    def __init__(self, replicas: Sequence[Mapping[str, nn.Parameter]], names: Sequence[str]) -> None:
        self.replicas = replicas
        self.blocks: dict[str, Block] = {}
        size = 0
        for name in names:
            shape = replicas[0][name].shape
            self.blocks[name] = Block(name, shape, size, lines(shape.numel()))
            size += len(replicas) * self.blocks[name].stride
        device = replicas[0][names[0]].device
        self.values, self.gradients, self.means, self.squares = (torch.zeros(size, device=device) for _ in range(4))
        for name, block in self.blocks.items():
            shares = block.of(self.values, 0, len(replicas))
            for parameters, share in zip(replicas, shares, strict=True):
                share.copy_(parameters[name].detach())
                parameters[name].data = share

    def __len__(self) -> int:
        return len(self.replicas)

    def all_of(self, flat: Tensor, name: str) -> Tensor:
        return self.blocks[name].of(flat, 0, len(self))

    def release(self) -> None:
        for parameters in self.replicas:
            for parameter in parameters.values():
                parameter.data = parameter.data.clone()


class Adam:
    """The optimisers of all replicas as one; equal, element by element, to each one's own steps.

    The fused kernel rounds differently in whole vector registers and in the odd elements behind them. So whole lines
    are stepped together, however many, and a parameter with odd elements is stepped alone, as its own optimiser would.
    """

    def __init__(
        self, arena: Arena, optimizers: Sequence[torch.optim.AdamW], configs: Sequence[TrainConfig], decayed: set[str]
    ) -> None:
        self.arena = arena
        self.optimizers = optimizers
        self.rates: Sequence[float] | None = None
        self._load()
        self.calls: list[tuple[int, float, list[Tensor], list[Tensor], list[Tensor], list[Tensor]]] = []
        keys = [(config.learning_rate, config.weight_decay) for config in configs]
        for (_, decay), group in groupby(range(len(keys)), key=keys.__getitem__):
            run = list(group)
            for names in self._alike(decayed if decay else set()):
                spans = list(_spans([arena.blocks[name] for name in names], run[0], run[-1] + 1))
                lists = [
                    [flat[first:last] for first, last in spans]
                    for flat in (arena.values, arena.gradients, arena.means, arena.squares)
                ]
                self.calls.append((run[0], decay if names[0] in decayed else 0.0, *lists))  # type: ignore[arg-type]

    def step(self, rates: Sequence[float]) -> None:
        """One step at these learning rates of the replicas."""
        self.rates = rates
        self.count.add_(1)
        for replica, decay, values, gradients, means, squares in self.calls:
            torch._fused_adamw_(
                values,
                gradients,
                means,
                squares,
                [],
                [self.count] * len(values),
                lr=rates[replica],
                weight_decay=decay,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                eps=_EPS,
                amsgrad=False,
                maximize=False,
            )

    def write_back(self) -> None:
        """Make the optimisers' states what they would be, had they stepped themselves."""
        if not (steps := self.count.item()):
            return
        for i, (optimizer, parameters) in enumerate(zip(self.optimizers, self.arena.replicas, strict=True)):
            names = {parameter: name for name, parameter in parameters.items()}
            for group in optimizer.param_groups:
                group["lr"] = self.rates[i] if self.rates else group["lr"]
                for parameter in group["params"]:
                    block = self.arena.blocks[names[parameter]]
                    optimizer.state[parameter] = {
                        "step": torch.tensor(steps, dtype=torch.float32, device=self.count.device),
                        "exp_avg": block.of(self.arena.means, i, i + 1)[0],
                        "exp_avg_sq": block.of(self.arena.squares, i, i + 1)[0],
                    }

    def release(self) -> None:
        """Give every optimiser memory of its own again."""
        self.write_back()
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                state.update({name: tensor.clone() for name, tensor in state.items()})

    def _load(self) -> None:
        counts = set()
        for i, (optimizer, parameters) in enumerate(zip(self.optimizers, self.arena.replicas, strict=True)):
            for name, block in self.arena.blocks.items():
                state = optimizer.state.get(parameters[name], {})
                counts.add(float(state.get("step", 0.0)))
                for flat, moment in ((self.arena.means, "exp_avg"), (self.arena.squares, "exp_avg_sq")):
                    if moment in state:
                        block.of(flat, i, i + 1)[0].copy_(state[moment])
        if len(counts) > 1:
            raise ValueError(
                f"the optimisers of the replicas have done different numbers of steps ({sorted(counts)}); "
                "start all replicas from snapshots of one step, or train them alone"
            )
        self.count = torch.tensor(counts.pop(), dtype=torch.float32, device=self.arena.values.device)

    def _alike(self, decayed: set[str]) -> Iterator[list[str]]:
        """The names of the parameters that are stepped with one weight decay."""
        for wanted in (True, False):
            if names := [name for name in self.arena.blocks if (name in decayed) is wanted]:
                yield names


def _spans(blocks: Sequence[Block], first: int, last: int) -> Iterator[tuple[int, int]]:
    """What to step of ``blocks`` for replicas ``first`` to ``last`` (excluded), in as few spans as can be."""
    pending: tuple[int, int] | None = None
    for block in blocks:
        if block.numel < block.stride:
            for begin in range(block.start + first * block.stride, block.start + last * block.stride, block.stride):
                yield begin, begin + block.numel
            continue
        begin, end = (block.start + replica * block.stride for replica in (first, last))
        if pending and pending[1] == begin:
            begin = pending[0]
        elif pending:
            yield pending
        pending = begin, end
    if pending:
        yield pending
