"""What every rule of costs speaks of: the target, what an op takes, and what adders, multiplexers and memories cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from export.costs.multipliers import Multipliers
from export.ir import Op

#: Lookup tables of an HLS estimate for each bit of an adder of a sum, of a shift-and-add, and for each output.
ADDER_LUT, SHIFT_LUT, OUTPUT_LUT = 1.3, 0.3, 23.0
#: For each bit of a comparison, of a choice between two, and for each input more of a multiplexer.
COMPARE_LUT, CHOICE_LUT, MUX_LUT = 0.8, 1.0, 1 / 3
#: Registers for each bit of an accumulator, non-zero weight and cycle of latency.
LAYER_FF = 0.2
#: What Vitis HLS keeps of a clock period for the wires, unless it is told otherwise.
UNCERTAINTY = 0.27
#: Bits of a memory up to which an HLS tool takes lookup tables, and what one of them holds.
_SMALL_MEMORY, BITS_OF_LUT = 1024, 64
#: Bits of a word of a block RAM by its greatest depth.
_BLOCK_RAM = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


@dataclass(frozen=True)
class Delays:
    """Nanoseconds through a multiplier and through an adder (or anything else with one carry), wires left out."""

    multiply: float
    add: float


SERIES_7, ULTRASCALE_PLUS = Delays(1.5, 3.4), Delays(2.5, 0.9)


@dataclass(frozen=True)
class Target:
    """The device, which decides how long an adder takes, and the clock."""

    clock_ns: float = 5.0
    part: str = "xcvu9p-flga2577-2-e"
    uncertainty: float = UNCERTAINTY

    def __post_init__(self) -> None:
        if not self.clock_ns > 0:
            raise ValueError(f"clock_ns is the clock period in nanoseconds; got {self.clock_ns!r}")
        if not self.part.startswith("xc"):
            raise ValueError(f"{self.part!r} is no Xilinx part, and estimates are for those, e.g. xcvu9p-flga2577-2-e")

    def cycles(self, multipliers: int, adders: int) -> int:
        """Registers that the tool puts between so many multipliers and adders in a row."""
        delays = SERIES_7 if self.part.startswith("xc7") else ULTRASCALE_PLUS
        total = multipliers * delays.multiply + adders * delays.add
        return int(total / (self.clock_ns * (1 - self.uncertainty)))


@dataclass(frozen=True, kw_only=True)
class OpEstimate:
    """One op. ``multipliers`` do what wires and one adder cannot; ``latency`` and ``interval`` are in cycles."""

    name: str
    kind: str
    reuse_factor: int = 1
    products: int = 0  # by weights that are not zero, for one sample
    multipliers: int = 0
    in_dsp: int = 0  # those of them that take DSP blocks; the others are made of LUTs
    shift_adds: int = 0  # products by constants of two digits
    adders: int = 0
    memory_bits: int = 0
    interval: int = 1
    latency: int = 0
    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram18: int = 0


@singledispatch
def estimate_op(op: Op, target: Target) -> OpEstimate | None:
    """What ``op`` takes; None for one that no rule knows."""
    return None


def adder_lut(sums: int, acc: int, shifts: int, product: int, outputs: int) -> float:
    """Lookup tables of a layer at R = 1 without its multipliers: adders of ``acc`` and of ``product`` bits."""
    return ADDER_LUT * sums * acc + SHIFT_LUT * shifts * product + OUTPUT_LUT * outputs


def pipeline_ff(nonzero: int, acc: int, depth: int) -> float:
    """Registers of a layer at R = 1 with so many weights that are not zero."""
    return LAYER_FF * nonzero * acc * max(1, depth)


def levels(terms: int) -> int:
    """Adders in a row of a tree with so many leaves."""
    return (max(terms, 1) - 1).bit_length()


def block_rams(word: int, depth: int) -> int:
    """Block RAMs of 18 Kbit of a memory of ``depth`` constant words of ``word`` bits."""
    if word * depth <= _SMALL_MEMORY:
        return 0
    width = next((width for deepest, width in _BLOCK_RAM if depth <= deepest), None)
    return -(-word // width) if width else -(-word * depth // _BLOCK_RAM[-1][0])


def copied(op: Op, target: Target, *, copies: int, lut: float, depth: tuple[int, int] = (0, 1), adders: int = 0,
                 multipliers: Multipliers | None = None, memory_bits: int = 0) -> OpEstimate:  # fmt: skip
    """``copies`` of the same circuit at once, of so many LUTs and adders; ``depth``: multipliers, adders in a row."""
    work, stages = multipliers or Multipliers(), target.cycles(*depth)
    return OpEstimate(
        name=op.name,
        kind=type(op).__name__,
        multipliers=work.count,
        in_dsp=work.in_dsp,
        shift_adds=work.shift_adds,
        adders=copies * adders + work.shift_adds + work.negations,
        memory_bits=memory_bits,
        interval=op.interval,
        latency=op.interval + stages,
        lut=round(copies * lut + work.lut),
        ff=copies * op.output.format.width * (1 + stages),
        dsp=work.dsp,
    )
