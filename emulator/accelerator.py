"""Array: from a unit to an accelerator, a systolic array of it with SRAM and DRAM.

``dataflow`` says how long it takes and what it moves, ``cost`` what its units cost and ``memories`` what its storage
does. What this does not model: control and address generation, wires between units, the clock's tree and its gates (a
register is clocked when it is written, and only then), leakage of SRAM, DRAM's latency, refresh and access patterns,
and SRAM's ports and banks (one SRAM of the whole capacity is priced).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import NamedTuple

from . import memories as storage
from .blocks import BlockFormat
from .cost import Cost, cost
from .dataflow import DATAFLOWS, Conv, Flow, Matmul, Schedule, Spmv, element_bits, sparse_flows, sparse_steps
from .datapath import Datapath
from .errors import HalfulpError
from .estimates import Price, RunEnergy, total_of
from .ledger import Ledger, dot_operations, output_operation
from .orders import multipliers
from .plan import plan
from .technology import Technology

LEVELS = ("register", "accumulator", "sram", "dram")  #: of storage: of operands, of sums in the units, ...
_KIB = 8192  #: bits


class Part(NamedTuple):
    """One kind of part of an array."""

    name: str
    number: int
    area_um2: Price  #: of one
    leakage_nw: Price | None  #: of one; None of memories, whose tables have none


@dataclass(frozen=True)
class Array:
    """A systolic array of ``rows`` x ``cols`` units of a datapath, with one SRAM and a DRAM.

    Parameters
    ----------
    datapath : the unit, or its text form. A unit with n lanes does n multiply-accumulations a cycle.
    sram_kib : capacity of the SRAM that A, B and C share, KiB.
    dram : standard of the DRAM, as in the table of memories: ``"HBM2"``, ``"DDR4"``, ``"GDDR6"``, ``"LPDDR4"``, ...
    clock_mhz, clock_ghz : one of the two; ``warnings`` says where a unit is slower.
    dataflow : which operand stays in the array: ``"output"`` (C), ``"weight"`` (B) or ``"input"`` (A).
    node : technology of logic, registers and SRAM.
    memories : path of a table of the user's (columns of ``memories.csv``) that replaces the published one.
        SRAM is scaled to nodes that it lacks, if it has two (``memories``). Operands' registers are flip-flops of the
        node's library, or scaled between two, where the table has no price of registers; they leak as these do.
    dram_devices : stacks, devices or channels that the table's bandwidth is multiplied by.

    Raises
    ------
    HalfulpError
        A size is not positive, a name is unknown, or the table has no price for one of the memories.
    """

    rows: int
    cols: int
    datapath: Datapath
    sram_kib: float
    dram: str = "HBM2"
    clock_mhz: float | None = None
    clock_ghz: float | None = None
    dataflow: str = "output"
    node: str = "45nm"
    memories: str | None = None
    dram_devices: int = 1
    _table: tuple[storage.Row, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "datapath", Datapath.parse(self.datapath))
        if self.memories is None:
            table = storage.published()
        else:
            object.__setattr__(self, "memories", str(self.memories))
            table = storage.load(str(self.memories))
        object.__setattr__(self, "_table", table)
        if (self.clock_mhz is None) == (self.clock_ghz is None):
            raise HalfulpError("an Array has a clock_mhz or a clock_ghz, one of the two.")
        clock = "clock_mhz" if self.clock_ghz is None else "clock_ghz"
        for name in ("rows", "cols", "dram_devices"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise HalfulpError(f"the {name} of an Array is an integer of at least 1, not {value!r}.")
        for name in ("sram_kib", clock):
            value = getattr(self, name)
            if not isinstance(value, Real) or value <= 0 or not value < math.inf:
                raise HalfulpError(f"the {name} of an Array is a positive number, not {value!r}.")
        if self.dataflow not in DATAFLOWS:
            raise HalfulpError(f"the dataflow of an Array is {', '.join(DATAFLOWS)}, not {self.dataflow!r}.")
        object.__setattr__(self, "node", Technology(self.node).node)
        for level in LEVELS:
            self.energy_per_bit_pj(level)
        for kind in ("register", "sram"):
            self._memory(kind, "area_um2_per_bit")
        self._memory("dram", "bandwidth_gb_per_s")

    # ---- rates ----------------------------------------------------------------------------------------------------

    @property
    def clock_hz(self) -> float:
        return 1e6 * self.clock_mhz if self.clock_ghz is None else 1e9 * self.clock_ghz  # type: ignore[operator]

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulations a cycle if all units work."""
        return self.rows * self.cols * multipliers(self.datapath.order)

    @property
    def peak_ops_per_s(self) -> float:
        """Operations a second if all units work: 2 for each multiply-accumulation."""
        return 2 * self.macs_per_cycle * self.clock_hz

    @property
    def dram_bytes_per_s(self) -> float:
        """Peak bandwidth of all DRAM devices."""
        return 1e9 * self.dram_devices * self._memory("dram", "bandwidth_gb_per_s").value

    # ---- area -----------------------------------------------------------------------------------------------------

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What the array is made of.

        Of the units, as ``cost`` prices them, the multipliers of block scales are told apart. Every unit has registers
        for its operands; that of the sum is a part of the unit. There is
        one output rounding unit for each column, where the output format is not the accumulator's (Gupta et al. 2015,
        arXiv:1502.02551: 28 for 784 units).
        """
        dp, technology, units = self.datapath, Technology(self.node), self.rows * self.cols
        area, leakage = self.unit.price("area_um2"), self.unit.price("leakage_nw")
        parts = []
        if isinstance(dp.a, BlockFormat) and isinstance(dp.b, BlockFormat):
            scaling = next(op for op in dot_operations(self._whole, 1) if op.kind == "mul" and op.a == dp.a.scale)
            each, number = technology.unit(scaling), -(-multipliers(dp.order) // dp.a.size)
            area = area._replace(value=area.value - number * each.area_um2.value)
            leakage = leakage._replace(value=leakage.value - number * each.leakage_nw.value)
            parts.append(Part("block scale multipliers", units * number, each.area_um2, each.leakage_nw))
        parts = [Part("units", units, area, leakage), *parts]
        register = self._memory("register", "area_um2_per_bit")
        leaks = technology.register.leakage_nw
        parts.append(Part("operand registers", units * self._operand_bits, register, leaks))
        output = output_operation(dp)
        if output is not None:
            rounds = technology.unit(output)
            parts.append(Part("output rounding units", self.cols, rounds.area_um2, rounds.leakage_nw))
        sram = self._memory("sram", "area_um2_per_bit")
        return (*parts, Part("SRAM", math.ceil(self.sram_kib * _KIB), sram, None))

    @property
    def _operand_bits(self) -> int:
        """Bits of one unit's operand registers."""
        n = multipliers(self.datapath.order)
        formats = (self.datapath.a, self.datapath.b)
        scales = sum(-(-n // fmt.size) * fmt.scale.bits for fmt in formats if isinstance(fmt, BlockFormat))
        return n * sum(map(element_bits, formats)) + scales

    @property
    def area_by_part_um2(self) -> dict[str, float]:
        """The break-down of ``area_um2``."""
        return {part.name: part.number * part.area_um2.value for part in self.parts}

    @property
    def area_um2(self) -> float:
        return sum(self.area_by_part_um2.values())

    @property
    def area_band_um2(self) -> tuple[float, float]:
        """Low and high estimate of the area."""
        return total_of((part.area_um2, part.number) for part in self.parts)[1]

    @cached_property
    def unit(self) -> Cost:
        """Of one unit, without the rounding into an output format, which is each column's."""
        return cost(self._whole, self.node)

    @property
    def _whole(self) -> Datapath:
        """The datapath of one unit."""
        return replace(self.datapath, output=self.datapath.accumulator)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful of its prices, and whether the clock is faster than a unit, or a column's rounding."""
        unit, output, period_ns = self.unit, output_operation(self.datapath), 1e9 / self.clock_hz
        delays = {"a unit": unit.delay_ns}
        if output is not None:
            delays["an output rounding unit"] = Technology(self.node).unit(output).delay_ns.value
        name, delay_ns = max(delays.items(), key=lambda item: item[1])
        if delay_ns <= period_ns:
            return unit.warnings
        slow = (
            f"the clock leaves {period_ns:.3g} ns, {name}, mapped for the least area, takes {delay_ns:.3g} ns: take at"
            f" most {math.floor(1e3 / delay_ns)} MHz, or see what a faster one costs (halfulp cost --measured --clock,"
            " or --pipeline)"
        )
        return (*unit.warnings, slow)

    def __str__(self) -> str:
        low, high = self.area_band_um2
        area = [
            f"  {part.name:<24}{part.number * part.area_um2.value / 1e6:>10.4g} mm2  {part.area_um2.basis}"
            for part in self.parts
        ]
        sources = sorted(frozenset[str]().union(*(part.area_um2.sources for part in self.parts)))
        return "\n".join(
            [
                f"{self.rows} x {self.cols} units of {self.datapath.name} at {self.node}, {self.clock_hz / 1e6:g} MHz,"
                f" {self.dataflow} stationary, {self.sram_kib:g} KiB SRAM, {self.dram_devices} x {self.dram}",
                f"  peak {self.peak_ops_per_s / 1e9:.4g} G-ops/s, DRAM {self.dram_bytes_per_s / 1e9:.4g} GB/s",
                f"  {'area':<24}{self.area_um2 / 1e6:>10.4g} mm2  [{low / 1e6:.3g} ... {high / 1e6:.3g}]",
                *area,
                *(f"  warning: {warning}" for warning in self.warnings),
                *(f"  source: {source}" for source in sources),
            ]
        )

    # ---- energy ---------------------------------------------------------------------------------------------------

    def _memory(self, kind: str, quantity: str) -> Price:
        told = any(row.kind == kind and storage.QUANTITIES[row.quantity][0] == quantity for row in self._table)
        if kind == "register" and not told:
            register = Technology(self.node).register
            return register.area_um2 if quantity == "area_um2_per_bit" else register.energy_pj
        technology = self.dram if kind == "dram" else Technology(self.node).memory_node
        return storage.price(self._table, kind, technology, quantity, self.sram_kib if kind == "sram" else None)

    def energy_per_bit_pj(self, level: str) -> Price:
        """Energy of moving one bit to or from "dram" or "sram", or into an operand's "register".

        Of the "accumulator" it is what the registers of a unit take a clock, as ``cost`` prices them, over the bits of
        the accumulator's format: with its operations, a run's energy is that of its units.
        """
        if level not in LEVELS:
            raise HalfulpError(f"an Array has no storage level {level!r}; its levels are {', '.join(LEVELS)}.")
        if level != "accumulator":
            return self._memory(level, "energy_pj_per_bit")
        technology, bits = Technology(self.node), self.datapath.accumulator.bits
        held = [part for part in plan(self._whole).parts if part.kind == "registers"]
        return total_of((technology.part(part).energy_pj, 1 / bits) for part in held)[0]

    def price(self, ledger: Ledger) -> RunEnergy:
        """The energy of a run: operations at this array's node, bits moved in its memories.

        A ``Machine``'s ledger has each call's compulsory traffic at the level "sram"; that of a run on this array
        (``run(workload).ledger``) has all levels. What leaks meanwhile is in ``run(workload).energy``.
        """
        return self._energy(ledger, 0.0)

    def _energy(self, ledger: Ledger, seconds: float) -> RunEnergy:
        technology = Technology(self.node)
        terms = [(technology.unit(op).energy_pj, n) for op, n in ledger.operations.items()]
        memory = [(self.energy_per_bit_pj(level), n) for level, n in ledger.bits_moved.items()]
        leaks = [(p.leakage_nw, 1e3 * p.number * seconds) for p in self.parts if p.leakage_nw is not None]
        return RunEnergy.of(terms, memory, leaks)  # a nanowatt is a pJ a ms

    # ---- runs -----------------------------------------------------------------------------------------------------

    def run(self, workload: Matmul | Conv | Spmv) -> Run:
        """What a workload takes on this array.

        Raises
        ------
        HalfulpError
            The workload is none of the three, or cannot run on operands in blocks.
        """
        dp, sram_bits = self.datapath, int(self.sram_kib * _KIB)
        if not isinstance(workload, Matmul | Conv | Spmv):
            raise HalfulpError(f"an Array runs a Matmul, a Conv or an Spmv, not {type(workload).__name__}.")
        if dp.in_blocks and not isinstance(workload, Matmul):
            raise HalfulpError(f"{type(workload).__name__} on {dp.name}: only a Matmul's operands are in blocks.")
        ledger = Ledger()
        if isinstance(workload, Spmv):
            cycles = -(-workload.rows // self.rows) * sparse_steps(dp, workload)
            flows = sparse_flows(dp, workload, sram_bits)
            short, longer = divmod(workload.nnz, workload.rows)
            dots = {short: workload.rows - longer, short + 1: longer}
        else:
            schedule = Schedule(self.rows, self.cols, dp, self.dataflow, workload, sram_bits)
            cycles, flows = schedule.cycles, schedule.flows()
            dots = {workload.k: workload.m * workload.n}
        for length, count in dots.items():
            for operation, times in dot_operations(dp, length).items():
                ledger.count(operation, count * times)
        for flow in flows:
            ledger.move(flow.read_bits + flow.written_bits, flow.level)
        return Run(self, workload, cycles, tuple(flows), ledger)


@dataclass(frozen=True)
class Run:
    """A workload on an array."""

    array: Array
    workload: Matmul | Conv | Spmv
    cycles: int  #: of the array, if it never waits for DRAM
    flows: tuple[Flow, ...]  #: bits moved, by level and kind of data
    ledger: Ledger  #: operations, and bits moved by level

    @property
    def utilisation(self) -> float:
        """Share of the multiply-accumulations that the array could do in its cycles."""
        return self.workload.macs / max(self.cycles * self.array.macs_per_cycle, 1)

    def bits(self, level: str, kind: str | None = None) -> int:
        """Bits read and written at a level, of one kind of data or of all."""
        return sum(f.read_bits + f.written_bits for f in self.flows if f.level == level and kind in (None, f.kind))

    @property
    def dram_seconds(self) -> float:
        """What DRAM's bandwidth allows."""
        return self.bits("dram") / 8 / self.array.dram_bytes_per_s

    @property
    def seconds(self) -> float:
        """The longer of the array's time and of DRAM's, which overlap."""
        return max(self.cycles / self.array.clock_hz, self.dram_seconds)

    @property
    def bound(self) -> str:
        """What takes the time: "array" or "dram"."""
        return "dram" if self.dram_seconds > self.cycles / self.array.clock_hz else "array"

    @property
    def ops_per_s(self) -> float:
        """Achieved throughput, 2 operations for each multiply-accumulation."""
        return 2 * self.workload.macs / self.seconds if self.seconds else 0.0

    @cached_property
    def energy(self) -> RunEnergy:
        """Of its operations, of the bits moved, and of what all but the memories leaks as long as it takes."""
        return self.array._energy(self.ledger, self.seconds)

    @property
    def energy_by_part_pj(self) -> dict[tuple[str, str], float]:
        """The break-down of ``energy``: by operation ("operation", name), by level and kind of data, and ("leakage",
        part of the array)."""
        unit, operations = Technology(self.array.node).unit, self.ledger.operations.items()
        parts: dict[tuple[str, str], float] = defaultdict(float)
        for op, n in operations:
            parts["operation", str(op)] += n * unit(op).energy_pj.value
        for flow in self.flows:
            each = self.array.energy_per_bit_pj(flow.level).value
            parts[flow.level, flow.kind] = (flow.read_bits + flow.written_bits) * each
        for part in self.array.parts:
            if part.leakage_nw is not None:
                parts["leakage", part.name] = 1e3 * part.number * part.leakage_nw.value * self.seconds
        return dict(parts)

    def __str__(self) -> str:
        energy, levels = self.energy, defaultdict[str, float](float)
        low, high = (pj / 1e6 for pj in energy.band_pj)
        for (level, _), pj in self.energy_by_part_pj.items():
            levels[level] += pj
        of = ", ".join(f"{level} {pj / 1e6:.4g}" for level, pj in levels.items())
        return "\n".join(
            [
                f"{self.workload}: {self.cycles:,} cycles, utilisation {self.utilisation:.1%}",
                f"{1e3 * self.seconds:.4g} ms, bound by {self.bound}, {self.ops_per_s / 1e9:.4g} G-ops/s",
                f"{energy.total_pj / 1e6:.4g} uJ  [{low:.3g} ... {high:.3g}]  {energy.basis}",
                f"of it {of}",
                *(
                    f"{f.level:>8}  {f.kind:<12} {f.read_bits:>16,} bits read {f.written_bits:>16,} written"
                    for f in self.flows
                ),
                *(f"warning: {warning}" for warning in self.array.warnings),
                *(f"source: {source}" for source in energy.sources),
            ]
        )
