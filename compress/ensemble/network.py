"""The replicas as one network: one forward, one backward, one step of all their optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from compress.ensemble.arena import LINE, Adam, Arena, lines
from compress.ensemble.grids import ActivationGrids, ParameterGrids
from compress.ensemble.layers import Kind, Layer, layers_of
from compress.ensemble.stages import Activation, BatchNorm, CrossEntropy, Linear, Memory, ReLU, Stage
from compress.mask import masks_of, plain_parameters, prunable
from compress.train import Loop

#: Floats of one activation of a group: what stays in a core's own cache between one pass over it and the next.
GROUP_FLOATS = 1 << 17


class Network:
    """The models of ``loops``, computed together; until :meth:`release` their tensors are views of one memory.

    A few replicas at a time go through all layers: that decides how well the caches are used, and nothing else.
    """

    def __init__(self, loops: Sequence[Loop], rows: int) -> None:
        models = [loop.model for loop in loops]
        self.layers = layers_of(models)
        grids = {
            layer.name_of(name): of_parameter
            for layer in self.layers
            if layer.kind is Kind.LINEAR
            for name, of_parameter in (("weight", layer.grids), ("bias", layer.bias_grids))
            if of_parameter is not None
        }
        parameters = [plain_parameters(model) for model in models]
        decayed = set(prunable(models[0]))
        found = [name for name in grids if grids[name][0].frac is None]
        constant = [name for name in grids if grids[name][0].frac is not None]
        rest = [name for name in parameters[0] if name not in grids]
        # Whole lines that the optimiser treats alike are best neighbours.
        order = [
            name
            for names in (found, constant, rest)
            for name in sorted(names, key=lambda name: (name not in decayed, parameters[0][name].numel() % LINE > 0))
        ]
        self.arena = Arena(parameters, order)
        configs = [loop.config for loop in loops]
        self.adam = Adam(self.arena, [loop.optimizer for loop in loops], configs, decayed)
        self.parameter_grids = ParameterGrids(self.arena, {name: grids[name] for name in order if name in grids})
        self.kept = self._kept(loops)
        self.l1 = self._l1(loops, decayed)
        self.statistics = [_Statistics(layer) for layer in self.layers if layer.kind is Kind.NORM]
        activations = [layer for layer in self.layers if layer.kind is Kind.ACTIVATION]
        learned = [_range_name(layer, parameters[0]) for layer in activations]
        self.learned = [None if name is None else self.arena.all_of(self.arena.values, name) for name in learned]
        self.of_ranges = [None if name is None else self.arena.all_of(self.arena.gradients, name) for name in learned]
        self.activation_grids = ActivationGrids(
            [layer.grids or () for layer in activations],
            [layer.rectifies for layer in activations],
            self.learned,
            self.arena.values.device,
        )
        self.groups = self._grouped(loops, rows)

    def step(self, rows: Tensor, losses: Tensor, rates: Sequence[float]) -> None:
        """One step of every replica on rows ``rows[replica]`` of the training data; ``losses`` receives theirs.

        Nothing in it waits for the device, a calibration of ranges aside.
        """
        self.parameter_grids.quantize()
        self.activation_grids.update()
        for group in self.groups:
            group.run(rows, losses)
        self.activation_grids.backward(self.of_ranges)
        self.parameter_grids.backward()
        gradients = self.arena.gradients
        if self.kept is not None:
            torch.ops.aten.threshold_backward.grad_input(gradients, self.kept, 0, grad_input=gradients)
        if self.l1 is not None:
            gradients.addcmul_(self.arena.values.sign(), self.l1)
        self.adam.step(rates)
        for statistics in self.statistics:
            statistics.count.add_(1)

    def release(self) -> None:
        """Give every model and optimiser memory of its own again."""
        self.adam.release()
        self.arena.release()
        for statistics in self.statistics:
            statistics.release()

    def _kept(self, loops: Sequence[Loop]) -> Tensor | None:
        """1 where a gradient may reach a parameter, 0 where a mask has pruned it; None without any mask."""
        kept = None
        for i, loop in enumerate(loops):
            for name, mask in masks_of(loop.model).items():
                kept = torch.ones_like(self.arena.values) if kept is None else kept
                self.arena.all_of(kept, name)[i] = mask
                # A tensor behind a mask is nobody's to read; here it is read, so it has to be what the layer shows.
                self.arena.all_of(self.arena.values, name)[i].masked_fill_(~mask, 0.0)
        return kept

    def _l1(self, loops: Sequence[Loop], decayed: set[str]) -> Tensor | None:
        """The L1 factor of every parameter; None if all are zero."""
        if not any(loop.config.l1 for loop in loops):
            return None
        l1 = torch.zeros_like(self.arena.values)
        for name in decayed:
            for share, loop in zip(self.arena.all_of(l1, name), loops, strict=True):
                share.fill_(loop.config.l1)
        return l1

    def _grouped(self, loops: Sequence[Loop], rows: int) -> list[_Group]:
        shapes = [layer.modules[0].weight.shape for layer in self.layers if layer.kind is Kind.LINEAR]
        size = min(max(1, GROUP_FLOATS // (rows * max(outputs for outputs, _ in shapes))), len(loops))
        if self.arena.values.is_cuda:
            size = len(loops)
        memory = Memory(self.arena.values.device)
        for piece in (0, 1):
            memory.reserve(f"gradient {piece}", size * lines(rows * max(map(max, shapes))))
        return [
            _Group(self, loops, rows, first, min(first + size, len(loops)), memory)
            for first in range(0, len(loops), size)
        ]


class _Group:
    """Replicas ``first`` to ``last`` (excluded) and their way through the layers."""

    def __init__(self, network: Network, loops: Sequence[Loop], rows: int, first: int, last: int, memory: Memory):
        self.part = slice(first, last)
        self.x, self.y = loops[0].train_data
        self.entering = memory.floats("features", last - first, rows, self.x.shape[1])
        self.labels = torch.zeros(last - first, rows, dtype=torch.int64, device=self.x.device)
        self.each = list(zip(self.entering, self.labels, strict=True))
        self.stages: list[Stage] = []
        self.wanted: list[bool] = []
        entering, linears, learns = self.entering, 0, False
        activations = iter(range(len(network.learned)))
        norms = iter(network.statistics)
        for number, layer in enumerate(network.layers):
            stage: Stage
            match layer.kind:
                case Kind.LINEAR:
                    stage = self._linear(network, memory, linears, layer, entering)
                    linears += 1
                case Kind.NORM:
                    stage = self._norm(network, memory, number, layer, entering, next(norms))
                case Kind.RELU:
                    stage = ReLU(memory, number, entering)
                case Kind.ACTIVATION:
                    stage = self._activation(network, memory, number, layer, entering, next(activations))
            self.wanted.append(learns)
            learns = learns or layer.learns
            self.stages.append(stage)
            entering = stage.leaving
        self.loss = CrossEntropy(memory, linears, entering, self.labels)
        self.needed = self.wanted.index(True) - 1 if True in self.wanted else len(self.wanted) - 1

    def run(self, rows: Tensor, losses: Tensor) -> None:
        """Forward and backward; ``rows`` and ``losses`` are those of all replicas."""
        for (entering, labels), chosen in zip(self.each, rows[self.part].unbind(), strict=True):
            torch.index_select(self.x, 0, chosen, out=entering)
            torch.index_select(self.y, 0, chosen, out=labels)
        for stage in self.stages:
            stage.forward()
        self.loss.forward(losses[self.part])
        gradient: Tensor | None = self.loss.backward()
        for stage, wanted in zip(self.stages[self.needed :][::-1], self.wanted[self.needed :][::-1], strict=True):
            assert gradient is not None
            gradient = stage.backward(gradient, wanted)

    def _linear(self, network: Network, memory: Memory, number: int, layer: Layer, entering: Tensor) -> Linear:
        arena, first, last = network.arena, self.part.start, self.part.stop

        def share(name: str, flat: Tensor, quantized: bool) -> Tensor:
            flat = network.parameter_grids.quantized if quantized else flat
            return arena.blocks[layer.name_of(name)].of(flat, first, last)

        has_bias = layer.modules[0].bias is not None
        return Linear(
            memory,
            number,
            entering,
            share("weight", arena.values, layer.grids is not None),
            share("bias", arena.values, layer.bias_grids is not None) if has_bias else None,
            share("weight", arena.gradients, False),
            share("bias", arena.gradients, False) if has_bias else None,
        )

    def _norm(
        self, network: Network, memory: Memory, number: int, layer: Layer, entering: Tensor, statistics: _Statistics
    ) -> BatchNorm:
        blocks = [network.arena.blocks[layer.name_of(name)] for name in ("weight", "bias")]
        weight, bias, of_weight, of_bias = (
            block.of(flat, self.part.start, self.part.stop)
            for flat in (network.arena.values, network.arena.gradients)
            for block in blocks
        )
        norm = layer.modules[0]
        return BatchNorm(
            memory,
            number,
            entering,
            (weight, bias),
            (of_weight, of_bias),
            (statistics.mean[self.part], statistics.variance[self.part]),
            norm.momentum,
            norm.eps,
        )

    def _activation(
        self, network: Network, memory: Memory, number: int, layer: Layer, entering: Tensor, row: int
    ) -> Activation:
        modules, grids = layer.modules[self.part], layer.grids
        assert grids is not None
        waiting = [(i, module) for i, module in enumerate(modules) if not module.calibrated]
        bits = max(grid.magnitude_bits for grid in grids)
        return Activation(memory, number, entering, network.activation_grids, row, self.part, bits, waiting)


class _Statistics:
    """The buffers of one batch norm of all replicas, side by side."""

    def __init__(self, layer: Layer) -> None:
        self.modules = layer.modules
        self.mean = self._joined("running_mean")
        self.variance = self._joined("running_var")
        self.count = self._joined("num_batches_tracked")

    def _joined(self, name: str) -> Tensor:
        buffers = [getattr(module, name) for module in self.modules]
        joined = torch.stack(buffers)
        for buffer, share in zip(buffers, joined, strict=True):
            buffer.data = share
        return joined

    def release(self) -> None:
        for buffer in chain.from_iterable(module.buffers(recurse=False) for module in self.modules):
            buffer.data = buffer.data.clone()


def _range_name(layer: Layer, parameters: dict[str, torch.nn.Parameter]) -> str | None:
    """The plain name of a layer's learned range; None where its binary point is a constant."""
    learned = layer.modules[0].log2_range
    return next((name for name, parameter in parameters.items() if parameter is learned), None)
