"""The explained conversion: what becomes of every layer of a model and why, before and while it is done."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from compress.quantize.decisions import Decisions, Row
from compress.quantize.keys import Specs
from compress.quantize.rewriting import as_graph, reason_for_graph, with_layers_replaced
from compress.quantize.tracing import LayerTracer
from compress.quantize.walk import decide

_HEAD = ("layer", "was", "becomes", "spec", "why")


@dataclass(frozen=True)
class Plan:
    """What :func:`compress.quantize.quantize` does to ``model``, in the order the network runs; printed, it is a table.

    ``graph_because`` says why the model becomes an ``fx.GraphModule``; it is None where the model keeps its class.
    """

    model: nn.Module
    rows: tuple[Row, ...]
    graph_because: str | None
    _decisions: Decisions
    _alone: bool

    def place_of(self, name: str) -> str:
        """What the layer called ``name`` in ``rows`` or in the model is called in the quantized model."""
        inputs = [inserted.name for inserted in self._decisions.inputs.values()]
        same = self.graph_because is not None or self._alone or type(self.model) is nn.Sequential
        return name if same or not inputs or name in inputs else f"model.{name}"

    def apply(self) -> nn.Module:
        """The quantized copy, with the weights, biases and statistics that ``model`` has now."""
        model = _held(self.model) if self._alone else self.model
        if self.graph_because is not None:
            return as_graph(model, self._decisions)
        made = with_layers_replaced(model, self._decisions)
        return made.get_submodule("model") if self._alone and not self._decisions.inputs else made

    def __str__(self) -> str:
        owner = type(self.model).__name__
        form = (
            "keeps its class" if self.graph_because is None else f"a torch.fx.GraphModule, since {self.graph_because}"
        )
        table = [_HEAD, *((row.name, row.was or "-", row.becomes, row.key or "-", row.why) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join([f"{owner}: {form}", "", lines[0], "-" * max(map(len, lines)), *lines[1:]])


def explain(model: nn.Module, specs: Specs, *, input_quantizer: bool = True) -> Plan:
    """What ``quantize`` with the same arguments would do, without doing it; ``print`` it. Raises what that raises."""
    alone = LayerTracer().is_leaf_module(model, "")
    held = _held(model) if alone else model
    decisions = decide(held, specs, input_quantizer)
    return Plan(model, tuple(decisions.rows), reason_for_graph(held, decisions), decisions, alone)


def quantize(model: nn.Module, specs: Specs, *, input_quantizer: bool = True) -> nn.Module:
    """A quantized copy of ``model`` with its weights, biases and statistics; ``model`` stays as it is.

    Any model that torch.fx can trace, with its layers and calls in the tables of ``counterparts.py`` and ``calls.py``:

    * ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` and activations get their quantized counterpart, under their names. A
      functional activation becomes a layer named after its call as fx names it (``relu``, ``relu_1``).
    * Batch norm, pooling, dropout, flattening, sums and concatenations stay, and so do layers that are quantized.
    * A ``QuantIdentity`` called ``input`` goes in front, and others where the hardware needs a format, by the rules of
      ``walk.py``: behind an average that a linear layer reads, say, or a batch norm whose results are added to others.
      They have ``activation_width`` bits on a power-of-two scale, signed where their numbers can be negative, and are
      called ``<layer>_quant``, or as the call (``add``) where there is no layer. ``input_quantizer=False`` leaves out
      ``input``, for models whose input is on a grid already.
    * A layer used in several places stays one, so a shared ReLU has one range for all of them.

    ``specs`` is one for all, or goes by key: the name of a layer decides, else the first pattern (``block*.fc?``) or
    class that fits. An inserted quantizer that none fits has the spec of the layer whose results it quantizes, and
    ``input`` that of the first converted layer. None leaves a layer as it is: what it makes counts as floats,
    which no hardware computes exactly, until the next quantizer; a layer that reads floats gets one in front. A layer
    or call that cannot be quantized may stay only in this way. None for the name of an inserted quantizer leaves that
    out.

    The result has the class of ``model`` where other layers in the old ones' places are enough; then it is the second
    layer, ``model``, of an ``nn.Sequential`` behind ``input``, unless it is an ``nn.Sequential`` itself, which takes
    ``input`` in. Otherwise it is a ``torch.fx.GraphModule``, whose layers and parameters have the names they had.
    ``explain`` tells beforehand.

    Raises ``UnsupportedLayer``, naming the place, for layers and calls that need a quantizer but cannot have one, and
    ``ValueError`` for a key of ``specs`` that fits no layer and a layer that no key fits.
    """
    return explain(model, specs, input_quantizer=input_quantizer).apply()


def _held(layer: nn.Module) -> nn.Module:
    """A single layer as the only one of a model."""
    held = nn.Sequential(OrderedDict(model=layer))
    held.training = layer.training
    return held
