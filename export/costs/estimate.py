"""What a graph will take in hardware: multipliers, adders, cycles, and about how many LUTs, FFs, DSPs and block RAMs.

    print(estimate(graph, clock_ns=5.0, part="xcvu9p-flga2577-2-e"))

**Counted**, from the weights and the kernels, and as such exact: products, multipliers and their kind, adders, bits of
memory, and the interval, the cycles from one sample to the next that the kernels are written for. **Estimated**, with
constants chosen on modules that Vivado HLS and Vitis HLS really synthesized: LUTs, FFs, DSPs, block RAMs and the
latency, for which the tool decides where registers stand. ``benchmarks/estimate.py`` puts the rules to those modules,
all of them fully connected layers that hls4ml wrote; ``benchmarks/results/estimate.json`` has every error. In short:

- R = 1, given the weights: multipliers equal in 122 of 122 layers; adders 0.8 % off in the repository with most
  layers, 1.6 % in all. Which multipliers take DSPs is a rule that its finders saw obeyed in 22 layers of 22; it needs
  the weights themselves, which are not in the table.
- R = 1: LUTs, as the HLS tool estimates them, 8 and 9 % off in the two repositories that the constants were chosen
  on, 18 % in one kept apart and 90 % in the one layer of 28 bits, whose multipliers the tool cuts up. FFs 40 %. Latency
  of a layer half a cycle in 1 to 9, 2 cycles in the repository kept apart, 10 at 28 bits; that of a design 4 % from
  those of its modules. Only four of these layers are of UltraScale+, all with a latency of one cycle.
- R > 1: interval equal in 23 layers of 23, DSPs in 20, block RAMs in 20. LUTs and FFs are counts of what our kernels
  are made of, for which the designs have no counterpart, and so are those of sparse layers, windows and all that is no
  layer: an order of magnitude (LUTs of a ReLU with its cast are 24 % off).
- Over streams: seven pools of nine report an interval of three cycles more than the packets that pass, since the
  pipeline of a loop drains before it begins anew; two took two cycles for each packet.
- Vivado's synthesis leaves 0.17 to 0.71 of the LUTs that an HLS tool estimates, about half where all is parallel.

An op that no rule knows is named, and in none of the numbers. Weights are taken to be constants of the design, stored
once: ones that are loaded, or stored three times, take more. So do FIFOs, which are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from compress.columns import columns
from export.costs import OpEstimate, Target, estimate_op
from export.costs.cautions import cautions
from export.ir import Graph, Tensor
from export.streams.access import Access, Io
from export.streams.flow import estimate_process, flow, latency
from export.streams.plan import accesses

#: Lookup tables after Vivado's synthesis for each that the HLS tool estimates, fully parallel layers.
SYNTHESIZED_LUT = 0.54

_FIELDS = ("products", "multipliers", "in_dsp", "shift_adds", "adders", "memory_bits", "interval",
           "latency", "lut", "ff", "dsp", "bram18")  # fmt: skip
_HEAD = ("products", "multipliers", "in DSP", "shift-adds", "adders", "memory bits", "interval",
         "latency", "LUT", "FF", "DSP", "BRAM18")  # fmt: skip

_Made: TypeAlias = Mapping[Tensor, OpEstimate | None]


@dataclass(frozen=True)
class Estimate:
    """A design. ``latency`` is from the first input to the last output; ``unknown`` ops are in none of the numbers.

    ``cautions`` say where it asks for more at a time than an HLS tool may bear.
    """

    name: str
    target: Target
    ops: tuple[OpEstimate, ...]
    unknown: tuple[str, ...]
    latency: int
    cautions: tuple[str, ...] = ()

    @property
    def interval(self) -> int:
        """Cycles from one sample to the next: those of the slowest op."""
        return max((op.interval for op in self.ops), default=1)

    def total(self, field: str) -> int:
        """One of the numbers of ops for the design: the sum over all, but for interval and latency."""
        if field in ("interval", "latency"):
            return self.interval if field == "interval" else self.latency
        return sum(getattr(op, field) for op in self.ops)

    @property
    def synthesized_lut(self) -> int:
        """LUTs that Vivado's synthesis will leave, about."""
        return round(SYNTHESIZED_LUT * self.total("lut"))

    def __str__(self) -> str:
        rows = [
            (op.name, op.kind, str(op.reuse_factor), *(f"{getattr(op, field):,}" for field in _FIELDS))
            for op in self.ops
        ]
        total = ("all", "", "", *(f"{self.total(field):,}" for field in _FIELDS))
        period, pace = self.target.clock_ns, 1e3 / (self.interval * self.target.clock_ns)
        return "\n".join(
            [
                f"{self.name} at {period:g} ns on {self.target.part}",
                f"latency {self.latency:,} cycles or {self.latency * period:,.0f} ns, "
                f"interval {self.interval:,} cycles or {pace:,.3g} million samples a second",
                "",
                *columns([("", "op", "R", *_HEAD), *rows, total]),
                "",
                "Up to the interval these are counts; from the latency on they estimate what the HLS tool will say.",
                f"Vivado's synthesis leaves about {self.synthesized_lut:,} of the LUTs.",
                *(f"not estimated: {what}" for what in self.unknown),
                *(f"caution: {sentence}" for sentence in self.cautions),
            ]
        )


def estimate(graph: Graph, clock_ns: float = 5.0, part: str = Target.part, io: Io | str = Io.PARALLEL) -> Estimate:
    """What ``graph``, after its passes, takes in hardware, with layers that hand on arrays or (``io``) packets.

    Raises ValueError for a part that is none of Xilinx's.
    """
    target, streamed = Target(clock_ns, part), Io.of(io) is Io.STREAM
    ways = accesses(graph) if streamed else {}
    if streamed:
        made = {op.output: estimate_process(op, ways.get(op.output), target) for op in graph}
    else:
        made = {op.output: estimate_op(op, target) for op in graph}
    return Estimate(
        graph.name,
        target,
        tuple(own for own in made.values() if own),
        tuple(f"{op.name} ({type(op).__name__})" for op in graph if made[op.output] is None),
        _side_by_side(graph, ways, made) if streamed else _one_after_another(graph, made),
        cautions(graph, io),
    )


def _one_after_another(graph: Graph, made: _Made) -> int:
    """An op begins when its inputs are complete."""
    arrival: dict[Tensor, int] = {}
    for op in graph:
        own = made[op.output]
        arrival[op.output] = max((arrival[t] for t in op.inputs), default=0) + (own.latency if own else 0)
    return max(arrival[t] for t in graph.outputs)


def _side_by_side(graph: Graph, ways: Mapping[Tensor, Access], made: _Made) -> int:
    """A process begins with the first packet."""
    flows = {}
    for op in graph:
        if how := ways.get(op.output):
            own = made[op.output]
            flows[op.output] = replace(flow(how, op), stages=own.latency - own.interval if own else 0)
    return latency(graph, flows)
