"""One walk along a model that decides everything: what each layer becomes, and where a quantizer has to stand.

A tensor of the network is either on the grid of a quantizer or a wide number that waits for one: the sums of a linear
layer, a batch norm, a sum of tensors, an average. With power-of-two scales throughout it is *exact*, a fixed-point
number; else it is a rational multiple of an integer. The rules:

* linear and convolutional layers read numbers on a grid;
* a sum of tensors needs one scale: operands that are not exact are quantized first, unless all have the same scale;
* pooling reads numbers that are exact or on a grid; an average is not exact;
* a product of tensors, and a curve that turns (SiLU, GELU), read numbers on a grid;
* a concatenation of grids is a grid where all are exact; with other scales in it, it waits for a quantizer;
* a padding by another constant than zero goes beside exact numbers, and waits for a quantizer that rounds it too;
* activations and batch norms read anything, and so does whoever takes the output.

A quantizer stands right behind the call whose result it quantizes, and everybody who reads that reads the quantizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import fx, nn
from torch.nn.utils import parametrize

from compress.layers import Kind, Scale, is_quantized, kind, width_of
from compress.layers.readers import ACTIVATIONS, TURNING, WEIGHTED
from compress.quantize.calls import (
    ADD_CALLS,
    ARGMAX_CALLS,
    CAT_CALLS,
    EXTREME_CALLS,
    MEAN_CALLS,
    MULTIPLY_CALLS,
    REDUCED_EXTREME_CALLS,
    SUBTRACT_CALLS,
    layer_of,
    padding_constant,
    writes_in_place,
)
from compress.quantize.counterparts import (
    AVERAGE,
    BATCH_NORM,
    CONVERTED,
    DROPOUT,
    MAXIMUM,
    inserted_spec,
    moves_numbers,
    quantized,
    quantizer,
    refusal,
)
from compress.quantize.decisions import STAYS, Call, Choice, Decisions, Flow, Inserted, Row
from compress.quantize.keys import Keys, Specs
from compress.quantize.tracing import SHAPE_CALLS, UnsupportedLayer, call_of, trace

_NEVER_NEGATIVE = (Kind.RELU, Kind.RELU6, Kind.SIGMOID, Kind.HARD_SIGMOID)


def decide(model: nn.Module, specs: Specs, input_quantizer: bool) -> Decisions:
    """The decisions for ``model``, which stays as it is. Raises what :func:`compress.quantize.explain` does."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise UnsupportedLayer(f"{name or 'the model'}: it is masked or parametrized; quantize before pruning")
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnsupportedLayer(
                f"{name or 'the model'}: it has forward hooks, which may change what it computes; remove them"
            )
    return _Walk(model, trace(model), Keys(specs), input_quantizer).run()


class _Walk:
    def __init__(self, model: nn.Module, graph: fx.Graph, keys: Keys, input_quantizer: bool) -> None:
        self.owner = type(model).__name__
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.keys = keys
        self.input_quantizer = input_quantizer
        self.decisions = Decisions(graph)
        self.order = {node: index for index, node in enumerate(graph.nodes)}
        self.flows: dict[fx.Node, Flow | None] = {}  # None: a number, not a tensor
        self.settled: dict[fx.Node, Flow] = {}  # behind an inserted quantizer, by what that stands behind
        self.rows: dict[tuple[int, bool], Row] = {}
        self.attributes = {*dir(model), *dir(fx.GraphModule)}
        self.taken = self.attributes | {"input", "model"}
        self.layers = dict(self._layers())
        self.choices = {
            name: keys.of_layer(self._names(name, layer), type(layer))
            for name, layer in dict(self.layers.values()).items()
            if type(layer) in CONVERTED
        }
        chosen = ((name, choice.spec) for name, choice in self.choices.items() if choice.spec is not None)
        self.first = next((Choice(spec, f"as {name}") for name, spec in chosen), None)

    def run(self) -> Decisions:
        for node in self.decisions.graph.nodes:
            self.flows[node] = self._behind(node)
        self.keys.check()
        self.decisions.rows = [self.rows[place] for place in sorted(self.rows)]
        return self.decisions

    def _layers(self) -> Iterator[tuple[fx.Node, tuple[str, nn.Module]]]:
        """Every call of a layer, and every call that stands for one, with the layer's name."""
        for node in self.decisions.graph.nodes:
            if node.op == "call_module":
                yield node, (str(node.target), self.modules[str(node.target)])
            elif node.op in ("call_function", "call_method") and (layer := layer_of(node)) is not None:
                yield node, (self._free(node.name), layer)

    def _names(self, name: str, layer: nn.Module) -> list[str]:
        """``name`` and, of a shared module, all its others."""
        return [name, *(other for other, module in self.modules.items() if module is layer and other != name)]

    def _free(self, name: str) -> str:
        """``name``, or one like it that nothing in the model has yet."""
        free, number = name, 1
        while free in self.taken or free in self.modules:
            free, number = f"{name}_{number}", number + 1
        self.taken.add(free)
        return free

    def _row(self, node: fx.Node, row: Row, *, behind: bool = False) -> None:
        calls = [other for other, (name, _) in self.layers.items() if name == row.name]
        if behind or node not in calls or node is calls[0]:  # a layer called again is told of once
            self.rows[self.order[node], behind] = row

    def _behind(self, node: fx.Node) -> Flow | None:
        """What is known of what ``node`` makes."""
        match node.op:
            case "placeholder":
                return self._enter(node)
            case "get_attr":
                raise UnsupportedLayer(f"{node.target}: a bare parameter is part of the computation; put it in a layer")
            case "output":
                return None
        name, layer = self.layers.get(node, (node.name, None))
        tensors = [self._flow(source) for source in node.all_input_nodes if self.flows[source] is not None]
        if not tensors:
            return None
        if writes_in_place(node, layer):
            self._refuse_later_readers(node, tensors[0].source)
        return self._call(node, tensors) if layer is None else self._layer(node, name, layer, tensors)

    def _flow(self, node: fx.Node) -> Flow:
        """What is known of the tensor that ``node`` makes, or of that behind a quantizer right behind it."""
        flow = self.flows[node]
        assert flow is not None, "a number where a tensor is needed"
        return self.settled.get(flow.source, flow)

    def _refuse_later_readers(self, writer: fx.Node, source: fx.Node) -> None:
        """The converted model writes nowhere in place, so nobody may have relied on it."""
        for node, flow in self.flows.items():
            for reader in node.users if flow is not None and flow.source is source else ():
                if self.order[reader] > self.order[writer]:
                    raise UnsupportedLayer(
                        f"{writer.name}: changes in place a tensor that {reader.name} reads later; drop inplace=True, "
                        "or write x = x + y"
                    )

    # -- quantizers

    def _enter(self, node: fx.Node) -> Flow:
        entering = Flow(node, f"the input {node.name}", True, True, True, node.name, None)
        is_settled = all(user in self.layers and kind(self.layers[user][1]) is Kind.IDENTITY for user in node.users)
        if is_settled or self.first is None or not self.input_quantizer:
            return entering
        inputs = [other for other in self.decisions.graph.nodes if other.op == "placeholder" and other.users]
        name = "input" if len(inputs) == 1 else f"input_{node.name}"
        if name in self.attributes:
            raise ValueError(f"something in the model is called {name!r}, as the input quantizer would be; rename it")
        choice = self.keys.of_quantizer(name, self.first)
        if choice.spec is None:
            self._row(node, Row(name, "", "nothing", choice.key, "left out: who brings the input quantizes it"))
            return entering
        self.decisions.inputs[node] = Inserted(name, choice.spec)
        self._row(node, Row(name, "", repr(quantizer(choice.spec)), choice.key, "what enters the network"))
        exact = choice.spec.input_scale is Scale.POWER_OF_TWO
        return Flow(node, f"the {name}", True, exact, choice.spec.input_signed, name, Choice(choice.spec, f"as {name}"))

    def _on_grid(self, flow: Flow, reader: str) -> Flow:
        return flow if flow.on_grid else self._quantized(flow, reader)

    def _exact_or_on_grid(self, flow: Flow, reader: str) -> Flow:
        return flow if flow.exact else self._on_grid(flow, reader)

    def _quantized(self, flow: Flow, reader: str) -> Flow:
        """``flow`` behind a quantizer of its own."""
        source = flow.source
        if source in self.settled:  # on behalf of another operand
            return self.settled[source]
        name = str(source.target) if source.op == "call_module" else self.layers.get(source, (source.name,))[0]
        is_call = source.op != "call_module" and source not in self.layers and source.op != "placeholder"
        name = self._free(name if is_call else f"{name}_quant")
        choice = self.keys.of_quantizer(name, flow.choice or self.first)
        if choice.spec is None:
            row = Row(name, "", "nothing", choice.key, f"left out: {reader} reads {flow.what} as it is")
        else:
            spec = inserted_spec(choice.spec, flow.signed)
            self.decisions.behind[source] = Inserted(name, spec)
            row = Row(name, "", repr(quantizer(spec)), choice.key, f"{reader} reads {flow.what}")
        self._row(source, row, behind=True)
        self.settled[source] = replace(flow, what=f"what {name} makes", on_grid=True, exact=True, scale=name)
        return self.settled[source]

    # -- layers

    def _layer(self, node: fx.Node, name: str, layer: nn.Module, tensors: list[Flow]) -> Flow:
        if len(tensors) > 1:
            raise UnsupportedLayer(f"{name}: is called with {len(tensors)} tensors; a layer here reads one")
        x, choice = tensors[0], self.choices.get(name)
        if choice is None or choice.spec is None:
            if node.op != "call_module":
                self.decisions.calls[node] = Call(name, layer, None)
            if is_quantized(layer):
                self._say(node, name, layer, why="is quantized already")
                return self._of_quantized(node, name, layer, x)
            return self._kept(node, name, layer, x) if choice is None else self._left(node, name, layer, x, choice)
        try:
            counterpart = quantized(layer, choice.spec)
        except ValueError as error:
            raise UnsupportedLayer(f"{name}: {error}") from error
        if node.op == "call_module":
            self.decisions.layers[name] = choice.spec
        else:
            self.decisions.calls[node] = Call(name, layer, choice.spec)
        times = [other for other, _ in self.layers.values()].count(name)
        shared = f"called {times} times, one layer for all" if times > 1 else ""
        self._say(node, name, layer, repr(counterpart), choice.key, shared)
        return self._of_quantized(node, name, counterpart, x)

    def _say(self, node: fx.Node, name: str, layer: nn.Module, becomes: str = "", key: str = "", why: str = "") -> None:
        is_module = node.op == "call_module"
        was = type(layer).__name__ if is_module else f"call of {call_of(node)}"
        self._row(node, Row(name, was, becomes or (STAYS if is_module else repr(layer)), key, why))

    def _of_quantized(self, node: fx.Node, name: str, layer: nn.Module, x: Flow) -> Flow:
        """Behind a quantized layer."""
        what, spec = kind(layer), getattr(layer, "spec", None)
        choice = x.choice if spec is None else Choice(spec, f"as {name}")
        if what in WEIGHTED:
            x = self._on_grid(x, name)
            if spec is not None and spec.output_width is not None:
                return Flow(node, f"the output of {name}", True, True, True, name, choice)
            exact = x.exact and spec is not None and spec.weight_scale is Scale.POWER_OF_TWO
            return Flow(node, f"the sums of {name}", False, exact, True, node.name, choice)
        if what in TURNING:
            x = self._on_grid(x, name)
        if what in ACTIVATIONS and width_of(layer, name) is None:  # a plain Brevitas layer, its quantizer switched off
            return x if what is Kind.IDENTITY else self._of_float(node, name, layer, x)
        scale = None if spec is None else spec.input_scale if what is Kind.IDENTITY else spec.activation_scale
        match what:
            case Kind.IDENTITY:
                signed = spec is None or spec.input_signed
            case Kind.HARD_TANH:
                signed = bool(getattr(layer, "min_val", -1) < 0)
            case _:
                signed = what not in _NEVER_NEGATIVE
        return Flow(node, f"what {name} makes", True, scale is Scale.POWER_OF_TWO, signed, name, choice)

    def _left(self, node: fx.Node, name: str, layer: nn.Module, x: Flow, choice: Choice) -> Flow:
        """Behind a layer that a spec of None leaves as it is."""
        self._say(node, name, layer, key=choice.key, why="a float layer: not exact, up to the next quantizer")
        return self._of_float(node, name, layer, x)

    def _of_float(self, node: fx.Node, name: str, layer: nn.Module, x: Flow) -> Flow:
        """Behind a float layer: only a ReLU leaves numbers on the grid that they are on."""
        if isinstance(layer, nn.ReLU) or kind(layer) is Kind.RELU:
            return replace(x, source=node, what=f"what {name} makes", signed=False)
        return Flow(node, f"the floats of {name}", False, False, True, node.name, x.choice)

    def _kept(self, node: fx.Node, name: str, layer: nn.Module, x: Flow) -> Flow:
        """Behind a layer that needs no counterpart."""
        if getattr(layer, "return_indices", False):
            raise UnsupportedLayer(f"{name}: returns indices with its maxima; use return_indices=False")
        if moves_numbers(layer):
            self._say(node, name, layer, why="moves numbers only")
            return x
        if type(layer) in DROPOUT:
            self._say(node, name, layer, why="does nothing in eval mode")
            return replace(x, source=node)
        if type(layer) in BATCH_NORM:
            self._say(node, name, layer, why="rescales, up to the next quantizer")
            return Flow(node, f"the batch norm {name}, which rescales", False, False, True, node.name, x.choice)
        if type(layer) in MAXIMUM + AVERAGE:
            x = self._exact_or_on_grid(x, name)
            if type(layer) in MAXIMUM:
                self._say(node, name, layer, why="the largest of numbers on one scale")
                return replace(x, source=node, what=f"the maxima of {name}")
            self._say(node, name, layer, why="a sum, then a division")
            return Flow(node, f"the averages of {name}", False, False, x.signed, node.name, x.choice)
        choice = self.keys.of_float_layer([name], type(layer))
        if choice is None or choice.spec is not None:
            raise UnsupportedLayer(f"{name}: {refusal(layer)}")
        return self._left(node, name, layer, x, choice)

    # -- calls

    def _call(self, node: fx.Node, tensors: list[Flow]) -> Flow | None:
        name, call = node.name, call_of(node)
        if node.target is getattr or node.target in ("size", "dim"):
            return None
        if (constant := padding_constant(node)) != 0:
            return self._padded(node, constant, tensors[0])
        if node.target in SHAPE_CALLS:
            return tensors[0]
        if node.target in ADD_CALLS | SUBTRACT_CALLS | EXTREME_CALLS:
            return self._on_one_scale(node, tensors)
        if node.target in MULTIPLY_CALLS:
            return self._product(node, tensors)
        if node.target in REDUCED_EXTREME_CALLS:
            x = self._exact_or_on_grid(tensors[0], name)
            self._row(node, Row(name, f"call of {call}", STAYS, why="one of numbers on one scale"))
            return replace(x, source=node, what=f"what {name} makes")
        if node.target in CAT_CALLS:
            return self._concatenation(node, tensors)
        if node.target in ARGMAX_CALLS:
            x = self._exact_or_on_grid(tensors[0], name)
            self._row(node, Row(name, f"call of {call}", STAYS, why="the index of the largest of numbers on one scale"))
            return Flow(node, f"the index {name}", True, True, False, name, x.choice)
        if node.target in MEAN_CALLS:
            x = self._exact_or_on_grid(tensors[0], name)
            self._row(node, Row(name, f"call of {call}", STAYS, why="a sum, then a division"))
            return Flow(node, f"the averages of {name}", False, False, x.signed, name, x.choice)
        choice = self.keys.of_float_layer([name], nn.Module)
        if choice is None or choice.spec is not None:
            raise UnsupportedLayer(
                f"{self.owner}.forward calls {call} ({name}), which cannot be quantized; make it a layer of its own, "
                f"such as nn.ReLU or nn.Linear, or let it stay a float call with the spec None for {name!r}"
            )
        self._row(node, Row(name, f"call of {call}", STAYS, choice.key, "floats: not exact, up to the next quantizer"))
        return Flow(node, f"the floats of {name}", False, False, True, name, tensors[0].choice)

    def _on_one_scale(self, node: fx.Node, tensors: list[Flow]) -> Flow:
        """Behind a sum, a difference, or the larger or smaller of two tensors."""
        self._check_operands(node, "put it in the bias of a layer")
        if node.kwargs.get("alpha", 1) != 1:
            raise UnsupportedLayer(f"{node.name}: adds with alpha={node.kwargs['alpha']}; scale in a layer, then add")
        if len({x.scale for x in tensors}) > 1:
            tensors = [x if x.exact else self._quantized(x, node.name) for x in tensors]
        what = "sum" if node.target in ADD_CALLS else "difference" if node.target in SUBTRACT_CALLS else "choice"
        self._row(node, Row(node.name, f"call of {call_of(node)}", STAYS, why=f"an exact {what}"))
        signed = what == "difference" or any(x.signed for x in tensors)
        exact = all(x.exact for x in tensors)
        return Flow(node, f"the {what} {node.name}", False, exact, signed, node.name, tensors[0].choice)

    def _product(self, node: fx.Node, tensors: list[Flow]) -> Flow:
        self._check_operands(node, "put it in the weights of a layer")
        tensors = [self._on_grid(x, node.name) for x in tensors]
        self._row(node, Row(node.name, f"call of {call_of(node)}", STAYS, why="an exact product"))
        exact, signed = all(x.exact for x in tensors), any(x.signed for x in tensors)
        return Flow(node, f"the product {node.name}", False, exact, signed, node.name, tensors[0].choice)

    def _check_operands(self, node: fx.Node, cure: str) -> None:
        """Refuse constants beside the one tensor."""
        operands = [*node.args, *(node.kwargs[key] for key in ("other",) if key in node.kwargs)]
        if len(operands) != 2 or not all(isinstance(a, fx.Node) and self.flows[a] is not None for a in operands):
            raise UnsupportedLayer(f"{node.name}: {call_of(node)} with a constant; {cure}")

    def _padded(self, node: fx.Node, constant: float, x: Flow) -> Flow:
        """Behind a padding by a constant, which no range that is learned need have a code for."""
        if not x.exact:
            x = self._quantized(x, node.name)
        self._row(node, Row(node.name, "call of pad", STAYS, why=f"{constant} need not be on the grid of {x.what}"))
        what, signed = f"the numbers that {node.name} puts beside {constant}", x.signed or constant < 0
        return Flow(node, what, False, False, signed, node.name, x.choice)

    def _concatenation(self, node: fx.Node, tensors: list[Flow]) -> Flow:
        tensors = [self._exact_or_on_grid(x, node.name) for x in tensors]
        self._row(node, Row(node.name, f"call of {call_of(node)}", STAYS, why="moves numbers only"))
        exact, signed = all(x.exact for x in tensors), any(x.signed for x in tensors)
        same = len({x.scale for x in tensors}) == 1
        on_grid = all(x.on_grid for x in tensors) and (exact or same)
        scale, choice = tensors[0].scale if same else node.name, tensors[0].choice
        return Flow(node, f"the concatenation {node.name}", on_grid, exact, signed, scale, choice)
