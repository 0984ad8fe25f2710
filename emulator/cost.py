"""Prices: what the units of datapaths, and single operations, take at a technology node.

Nodes with a library (``prices.LIBRARIES``) are priced part by part by what was fitted to measured designs (``fitted``;
``extrapolated``, with half as much again in the band, where a part is larger than all that was measured). Between them
``scaling`` interpolates (``scaled``). Where the published table ``units.csv`` has that very unit at a node without a
library, its number is handed out as printed (``table``). Rounding into posits, of which there is no hardware here, is
``assumed`` to take a shifter.

Energy of fitted units lies between that of settled values alone and that with all glitches which pass gates with
inertia, of normally distributed operands; the value is their geometric mean, and the band goes from one to the other,
wider by the 90th percentile of the fit's errors. Wires, clock trees and random generators are not in it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import NamedTuple

from . import names, prices, scaling
from .counts import Part
from .datapath import Datapath
from .errors import HalfulpError
from .formats import FixedFormat, Format, PositFormat
from .functions import Function, function
from .ledger import Ledger, Operation, dot_operations
from .orders import Blocked, Fusing
from .plan import Plan, operation_plan, plan

QUANTITIES = ("energy_pj", "area_um2", "delay_ns")
SETTLED, INERTIAL = "settled_gaussian_pj", "inertial_gaussian_pj"  #: the fitted quantities that energy is made of

#: How a number came about, best first, and the factor x/÷ within which we expect the truth, which comes on top of the
#: fit's own errors for what is scaled. Published tables of one node differ by about 2; others are judgement.
BANDS = {"table": 2.0, "fitted": 1.0, "interpolated": 2.5, "extrapolated": 3.0, "assumed": 4.0, "scaled": 2.0}
_ORDER = list(BANDS)
FAR = 1.5  #: the same of fitted parts that are larger than all that was measured

#: Nodes that are listed; any other between the largest and the smallest is priced as well.
NODES = tuple(
    "130nm 90nm 65nm 45nm 40nm 32nm 28nm 22nm 20nm 16nm 14nm 12nm 10nm 7nm 5nm 3nm 2nm".split()  # noqa: SIM905
)

#: Storage level -> the table's row that prices it.
MEMORIES = {"sram": ("sram_read_64b", "32KiB")}


class Row(NamedTuple):
    node: str
    unit: str
    format: str
    quantity: str
    value: float
    source: str
    doi: str
    note: str


class Price(NamedTuple):
    """One number, its basis (a key of BANDS), the factor of its band, and its sources."""

    value: float
    basis: str
    band: float
    sources: frozenset[str]


class UnitCost(NamedTuple):
    """Prices of one operation."""

    energy_pj: Price
    area_um2: Price
    delay_ns: Price


@cache
def table() -> tuple[Row, ...]:
    """Every row of ``units.csv``."""
    with resources.files(__package__).joinpath("units.csv").open(encoding="utf-8") as file:
        return tuple(
            Row(c["node"], c["unit"], c["format"], c["quantity"], float(c["value"]), c["source"], c["doi"], c["note"])
            for c in csv.DictReader(file)
        )


def nodes() -> list[str]:
    """Technology nodes, largest first."""
    return list(NODES)


def _cite(row: Row) -> str:
    """The source, with its identifier and a word where nobody of us has seen the original."""
    doubt = " (not re-verified against the original)" if "not re-verified" in row.note else ""
    return f"{row.source}; {row.doi if row.doi.startswith('isbn') else 'doi:' + row.doi}{doubt}"


def _total(terms: Iterable[tuple[Price, float]]) -> tuple[Price, tuple[float, float]]:
    """The sum of prices, each so many times, with the weakest basis and all sources; and its band, all off alike."""
    known = [(price, n) for price, n in terms if n]
    value = sum(price.value * n for price, n in known)
    low, high = (sum(price.value * n * price.band**side for price, n in known) for side in (-1, 1))
    basis = max((price.basis for price, _ in known), key=_ORDER.index, default="table")
    sources = frozenset[str]().union(*(price.sources for price, _ in known))
    return Price(value, basis, high / value if value else 1.0, sources), (low, high)


class Technology:
    """Prices of one node.

    Parameters
    ----------
    node : ``"130nm"`` (IHP SG13G2), ``"7nm"`` (ASAP7, predictive), ``"2nm"`` (GT2N, predictive), or a node in between,
        as in ``"28nm"``, which is scaled.
    """

    def __init__(self, node: str = "45nm") -> None:
        nm = scaling.nanometres(node)
        sizes = sorted(map(scaling.nanometres, prices.LIBRARIES))
        if not sizes[0] <= nm <= sizes[-1]:
            raise HalfulpError(f"no prices for node {node!r}: choose {', '.join(NODES[:-1])} or {NODES[-1]}.")
        self.node = node  #: technologies of one node are the same
        fitted = sorted(prices.LIBRARIES, key=scaling.nanometres, reverse=True)
        #: The libraries that the node lies between, the larger first; one if it has its own.
        self.between: tuple[str, ...] = (
            (node,)
            if node in prices.LIBRARIES
            else next(pair for pair in pairwise(fitted) if nm > scaling.nanometres(pair[1]))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Technology) and self.node == other.node

    def __hash__(self) -> int:
        return hash(self.node)

    # ---- from libraries

    def _fitted(
        self, library: prices.Library, energy: tuple[float, float], area: float, delay: float, far: bool
    ) -> UnitCost:
        """Prices from a fit's numbers."""
        low = max(energy[0], 0.0)
        high = max(energy[1], low)
        width = math.sqrt(high / low) if low else 1.0
        widest = 1 + max(library.errors[q].p90 for q in (SETTLED, INERTIAL))
        one = _fitted(library, area, "area_um2", far)
        return UnitCost(
            one._replace(value=math.sqrt(low * high), band=_extra(far) * width * widest),
            one,
            _fitted(library, delay, "delay_ns", far),
        )

    def _between(self, quantity: str, found: Sequence[Price]) -> Price:
        """The price between those of two libraries."""
        if len(found) == 1:
            return found[0]
        a, b = found
        share = scaling.position(self.node, self.between[0], self.between[1], quantity)
        value = math.exp((1 - share) * math.log(a.value) + share * math.log(b.value)) if a.value and b.value else 0.0
        return Price(value, "scaled", BANDS["scaled"] * max(a.band, b.band), a.sources | b.sources | {scaling.SOURCE})

    def _scaled(self, costs: list[UnitCost]) -> UnitCost:
        return UnitCost(
            *(self._between(q, found) for q, found in zip(QUANTITIES, zip(*costs, strict=True), strict=True))
        )

    def _whole(self, planned: Plan) -> UnitCost:
        """Prices of a unit; its energy is a clock's."""
        costs = []
        for node in self.between:
            library = prices.library(node)
            energy = (library.price(planned, SETTLED), library.price(planned, INERTIAL))
            area, delay = library.price(planned, "area_um2"), library.delay_ns(planned)
            costs.append(self._fitted(library, energy, area, delay, bool(library.outside(planned))))
        return self._scaled(costs)

    def _longest(self, planned: Plan) -> Price:
        """The longest way between registers."""
        return self._whole(replace(planned, parts=tuple(replace(p, number=0) for p in planned.parts))).delay_ns

    def _parts(self, parts: Iterable[Part]) -> UnitCost:
        """Prices of parts that work together, one behind the other."""
        return self._whole(Plan(tuple(replace(part, stage=0) for part in parts)))

    def _within(self, operation: Operation, datapath: Datapath) -> UnitCost:
        """What adding up, or normalising a fused sum, takes in a datapath's unit: what its other operations leave."""
        planned = plan(datapath)
        if operation.kind == "normalise":
            return self._parts(p for p in planned.parts if p.role == "normalise")
        own = [part for part in planned.parts if part.role in ("product", "add")]
        others = [(op, n) for op, n in dot_operations(datapath, planned.macs).items() if op.kind == "mul"]
        costs = []
        for node in self.between:
            library = prices.library(node)

            def left(quantity: str, library: prices.Library = library) -> float:
                whole = sum(library.part(p, quantity) for p in own)
                rest = sum(n * library.price(operation_plan(op), quantity) for op, n in others)
                return max(whole - rest, 0.0) / planned.macs

            adding = [replace(p, stage=0) for p in own if p.role == "add"]
            far = bool(library.outside(planned))
            delay = library.delay_ns(Plan(tuple(adding)))
            costs.append(self._fitted(library, (left(SETTLED), left(INERTIAL)), left("area_um2"), delay, far))
        return self._scaled(costs)

    # ---- operations

    @lru_cache(maxsize=4096)  # noqa: B019  (few technologies live)
    def unit(self, operation: Operation) -> UnitCost:
        """Energy, area and delay of one operation.

        What adds up in a datapath's unit (``operation.within``) is priced as that unit does it, per term: with the
        multiplications, the prices add up to those of the unit without its registers.
        """
        within = operation.within
        if within is not None and not self._published_datapath(within):
            return self._within(operation, within)
        found = self._parts(operation_plan(replace(operation, within=None)).parts)
        if isinstance(operation.result, PositFormat):
            found = UnitCost(*(p._replace(basis="assumed", band=max(p.band, BANDS["assumed"])) for p in found))
        published = [self._published(operation, quantity) for quantity in QUANTITIES]
        return UnitCost(*(row or own for row, own in zip(published, found, strict=True)))

    def function(self, unit: Function | str) -> UnitCost:
        """Energy, area and delay of a function unit, as of ``fp16_add`` or ``bf16_to_fp8_e4m3``: without registers.

        Raises
        ------
        HalfulpError
            There is no such hardware.
        """
        asked = function(unit) if isinstance(unit, str) else unit
        kind = {"add": "add", "sub": "add", "mul": "mul", "convert": "round"}.get(asked.operation)
        if kind is None:
            return self._whole(plan(asked))
        numbers = asked.numbers
        return self.unit(Operation(kind, numbers[0], numbers[-1], asked.result, asked.rounding))

    def leakage_nw(self, unit: Datapath | Function | str, pipeline: int = 0) -> Price:
        """Leakage of a unit, in nW: a datapath's (or its text form), or a function unit."""
        planned = plan(unit, pipeline)
        libraries = [prices.library(node) for node in self.between]
        found = [
            _fitted(library, library.price(planned, "leakage_nw"), "leakage_nw", bool(library.outside(planned)))
            for library in libraries
        ]
        return self._between("leakage_nw", found)

    def _published(self, operation: Operation, quantity: str) -> Price | None:
        """The published price of that very unit, at a node without a library."""
        op = operation
        if self.node in prices.LIBRARIES or op.kind not in ("mul", "add") or op.width or op.rounding.random_bits:
            return None
        fmt: Format | None = op.result or op.b
        if op.kind == "mul":
            fmt = op.a if op.a == op.b else None
        for row in _rows(self.node, op.kind, quantity):
            known = names.scalar_format(row.format)
            widths_alike = isinstance(fmt, FixedFormat) and isinstance(known, FixedFormat) and fmt.bits == known.bits
            if fmt is not None and (known == fmt or widths_alike):
                return Price(row.value, "table", BANDS["table"], frozenset([_cite(row)]))
        return None

    @lru_cache(maxsize=1024)  # noqa: B019
    def _published_datapath(self, datapath: Datapath) -> bool:
        """Whether the table has all units of a datapath."""
        if isinstance(datapath.inner_order, Fusing):
            return False
        operations = dot_operations(datapath, 1)
        return all(self._published(op, q) is not None for op in operations for q in ("energy_pj", "area_um2"))

    def energy_per_bit_pj(self, level: str) -> Price:
        """Energy of moving one bit to or from a storage level, from the table's 64-bit access.

        At nodes without a published one, a power law of the node's name through those that have one.
        """
        unit, capacity = MEMORIES[level]
        rows = [r for r in table() if (r.unit, r.format, r.quantity) == (unit, capacity, "energy_pj")]
        for row in rows:
            if row.node == self.node:
                return Price(row.value / 64, "table", BANDS["table"], frozenset([_cite(row)]))
        (n0, v0), (n1, v1) = [(scaling.nanometres(row.node), row.value / 64) for row in rows]
        power = math.log(v1 / v0) / math.log(n1 / n0)
        value = v0 * (scaling.nanometres(self.node) / n0) ** power
        return Price(value, "scaled", BANDS["table"] * BANDS["scaled"], frozenset(map(_cite, rows)))

    def price(self, ledger: Ledger) -> RunEnergy:
        """The energy of a run: Ledger x Technology, in pJ."""
        arithmetic = [(self.unit(op).energy_pj, n) for op, n in ledger.operations.items()]
        memory = [(self.energy_per_bit_pj(level), n) for level, n in ledger.bits_moved.items()]
        total, band = _total(arithmetic + memory)
        return RunEnergy(
            sum(price.value * n for price, n in arithmetic),
            sum(price.value * n for price, n in memory),
            band,
            tuple(sorted(total.sources)),
            total.basis,
        )


def _extra(far: bool) -> float:
    """The factor of the band besides the fit's errors."""
    return FAR if far else BANDS["fitted"]


def _fitted(library: prices.Library, value: float, quantity: str, far: bool) -> Price:
    """A fit's number."""
    band = _extra(far) * (1 + library.errors[quantity].p90)
    return Price(max(value, 0.0), "extrapolated" if far else "fitted", band, frozenset([library.source]))


@cache
def _rows(node: str, unit: str, quantity: str) -> tuple[Row, ...]:
    return tuple(r for r in table() if (r.node, r.unit, r.quantity) == (node, unit, quantity))


class RunEnergy(NamedTuple):
    """Energy of a run."""

    arithmetic_pj: float
    memory_pj: float
    band_pj: tuple[float, float]  #: low and high estimate of the total
    sources: tuple[str, ...]
    basis: str  #: the weakest basis among the numbers used

    @property
    def total_pj(self) -> float:
        return self.arithmetic_pj + self.memory_pj


@dataclass(frozen=True)
class Cost:
    """Price of a datapath at a node."""

    node: str
    energy_pj: float  #: per multiply-accumulate, memory excluded
    area_um2: float  #: of the whole unit, which does ``macs_per_cycle``
    delay_ns: float  #: the longest way between registers, or from operands to the sum
    macs_per_cycle: int
    basis: dict[str, str]  #: per quantity, the weakest basis among its terms
    band: dict[str, tuple[float, float]]  #: per quantity, low and high estimate
    sources: tuple[str, ...]
    parts: tuple[tuple[str, int, UnitCost], ...]  #: name, number in the unit, prices of them all for one clock
    warnings: tuple[str, ...] = ()  #: where the unit lies outside of what was measured

    def __str__(self) -> str:
        lines = [
            f"{'per MAC' if q == 'energy_pj' else 'unit':>8}  {q:<10} {getattr(self, q):>10.4g}"
            f"  [{self.band[q][0]:.3g} ... {self.band[q][1]:.3g}]  {self.basis[q]}"
            for q in QUANTITIES
        ]
        return "\n".join(
            [
                f"node {self.node}, {self.macs_per_cycle} MAC per cycle",
                *lines,
                *(f"  warning: {warning}" for warning in self.warnings),
                *(f"  source: {s}" for s in self.sources),
            ]
        )


@lru_cache(maxsize=4096)
def _cost(datapath: Datapath, node: str, pipeline: int) -> Cost:
    technology = Technology(node)
    planned = plan(datapath, pipeline)
    whole = replace(datapath, output=datapath.accumulator, output_rounding=datapath.rounding)
    span = datapath.order.length if isinstance(datapath.order, Blocked) else planned.macs
    operations = dot_operations(whole, span)
    energies = [(technology.unit(op).energy_pj, n / span) for op, n in operations.items()]
    if technology._published_datapath(datapath):
        parts = [(str(op), n, technology.unit(op)) for op, n in dot_operations(datapath, planned.macs).items()]
        areas = [(unit.area_um2, n) for _, n, unit in parts]
        delays = [(unit.delay_ns, 1) for _, _, unit in parts]
        warnings: tuple[str, ...] = ()
    else:
        units = [technology._parts([part]) for part in planned.parts]
        parts = [(part.name, part.number, unit) for part, unit in zip(planned.parts, units, strict=True)]
        areas = [(unit.area_um2, 1) for unit in units]
        registers = [u for part, u in zip(planned.parts, units, strict=True) if part.role == "registers"]
        energies += [(unit.energy_pj, 1 / planned.macs) for unit in registers]
        delays = [(technology._longest(planned), 1)]
        warnings = _warnings(technology, planned)
    terms: tuple[list[tuple[Price, float]], ...] = (energies, areas, delays)  # type: ignore[assignment]
    totals = {q: _total(t) for q, t in zip(QUANTITIES, terms, strict=True)}
    return Cost(
        node,
        energy_pj=totals["energy_pj"][0].value,
        area_um2=totals["area_um2"][0].value,
        delay_ns=totals["delay_ns"][0].value,
        macs_per_cycle=planned.macs,
        basis={q: total.basis for q, (total, _) in totals.items()},
        band={q: band for q, (_, band) in totals.items()},
        sources=tuple(sorted(frozenset[str]().union(*(total.sources for total, _ in totals.values())))),
        parts=tuple(parts),
        warnings=warnings,
    )


def _warnings(technology: Technology, planned: Plan) -> tuple[str, ...]:
    outside = dict.fromkeys(w for node in technology.between for w in prices.library(node).outside(planned))
    return (f"larger than all that was measured: {', '.join(outside)}",) if outside else ()


def cost(datapath: Datapath | str, node: str = "45nm", pipeline: int = 0) -> Cost:
    """Area, energy per MAC and delay of a datapath's unit, with sources and error band.

    Parameters
    ----------
    datapath : the unit, or its text form.
    node : see ``Technology``.
    pipeline : ranks of registers besides that of the sum, as of ``rtl.dot.DotUnit``.

    The unit is that of ``rtl.dot``, all of its parts and registers. What works once per dot product (the rounding into
    an output format, the last sum of lanes) counts in area and delay only: a run's energy includes it, and an outer
    accumulator's addition counts once per block. Where the table has every unit of a sequential datapath, these are
    added up as printed, without registers.
    """
    return _cost(Datapath.parse(datapath), node, pipeline)
