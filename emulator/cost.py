"""Prices: what the units of datapaths, and single operations, take at a technology node.

Nodes with a library (``prices.LIBRARIES``) are priced part by part by what was fitted to measured designs (``fitted``;
``extrapolated``, with half as much again in the band, where a part is larger than all that was measured). Between them
``scaling`` interpolates (``scaled``). Rounding into posits, of which there is no hardware here, is ``assumed`` to take
a shifter. A price is a sum over parts, each of which grows with every width, and so does the sum.

Published numbers (``units.csv``) differ from those, and from each other, by factors; a unit that is priced by them
would cost more or less than one of a bit more that is not. They come out only of ``Technology(published=True)``, as
printed (``table``).

Energy of a part lies between that of settled values alone and that with all glitches which pass gates with inertia, of
normally distributed operands; the value is their geometric mean, and the band goes from one to the other, wider by the
90th percentile of the fit's errors. Wires, clock trees and random generators are not in it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from importlib import resources
from itertools import pairwise
from typing import NamedTuple

from . import names, prices, scaling
from .counts import Part
from .datapath import Datapath
from .errors import HalfulpError
from .formats import FixedFormat, Format, PositFormat
from .ledger import Ledger, Operation, dot_operations
from .orders import Blocked, Fusing
from .plan import Plan, operation_plan, plan

QUANTITIES = ("energy_pj", "area_um2", "delay_ns", "leakage_nw")

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
    """Prices of one operation, or of some parts."""

    energy_pj: Price
    area_um2: Price
    delay_ns: Price
    leakage_nw: Price


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
    published : whether operations that ``units.csv`` has at the node are priced as printed there.
    """

    def __init__(self, node: str = "45nm", published: bool = False) -> None:
        nm = scaling.nanometres(node)
        sizes = sorted(map(scaling.nanometres, prices.LIBRARIES))
        if not sizes[0] <= nm <= sizes[-1]:
            raise HalfulpError(f"no prices for node {node!r}: choose {', '.join(NODES[:-1])} or {NODES[-1]}.")
        self.node, self.published = node, published  #: technologies that have both in common are the same
        fitted = sorted(prices.LIBRARIES, key=scaling.nanometres, reverse=True)
        #: The libraries that the node lies between, the larger first; one if it has its own.
        self.between: tuple[str, ...] = (
            (node,)
            if node in prices.LIBRARIES
            else next(pair for pair in pairwise(fitted) if nm > scaling.nanometres(pair[1]))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Technology) and (self.node, self.published) == (other.node, other.published)

    def __hash__(self) -> int:
        return hash((self.node, self.published))

    # ---- from libraries

    @cached_property
    def _libraries(self) -> tuple[prices.Library, ...]:
        return tuple(map(prices.library, self.between))

    @cached_property
    def _shares(self) -> tuple[float, ...]:
        """Where the node lies between its two libraries, by quantity."""
        larger, smaller = self.between
        return tuple(scaling.position(self.node, larger, smaller, quantity) for quantity in QUANTITIES)

    @cached_property
    def _sources(self) -> frozenset[str]:
        sources = [library.source for library in self._libraries]
        return frozenset(sources if len(sources) == 1 else [*sources, scaling.SOURCE])

    def _price(self, i: int, found: Sequence[tuple[float, float]], far: bool) -> Price:
        """Of QUANTITIES[i], from value and band on each library."""
        a, band = found[0]
        if len(found) == 1:
            return Price(a, "extrapolated" if far else "fitted", band, self._sources)
        (b, other), share = found[1], self._shares[i]
        if not (a and b):
            return Price(0.0, "scaled", 1.0, self._sources)
        value, band = a ** (1 - share) * b**share, BANDS["scaled"] * max(band, other)
        if QUANTITIES[i] == "leakage_nw":  # the libraries' transistors leak differently, by orders of magnitude
            band = max(band, a / value, value / a, b / value, value / b)
        return Price(value, "scaled", band, self._sources)

    def _part(self, part: Part) -> UnitCost:
        """Prices of parts alike, all of their number; the delay is that on the longest way."""
        found, far = list[list[tuple[float, float]]](), False
        for library in self._libraries:
            area, leakage, low, high = library.figures(part)
            high, beyond = max(low, high), bool(library.beyond(part))
            energy, *others = [FAR * factor for factor in library.factors] if beyond else library.factors
            values = (math.sqrt(low * high), area, library.way([part]), leakage)
            bands = (energy * math.sqrt(high / low) if low else energy, *others)
            found.append(list(zip(values, bands, strict=True)))
            far |= beyond
        return UnitCost(*[self._price(i, pair, far) for i, pair in enumerate(zip(*found, strict=True))])

    def _delay(self, ways: Iterable[Sequence[Part]]) -> Price:
        """Of the longest way, each of parts one behind the other."""
        ways = list(ways)
        far = any(library.beyond(part) for library in self._libraries for way in ways for part in way)
        extra = FAR if far else 1.0
        found = [(max(map(library.way, ways), default=0.0), extra * library.factors[2]) for library in self._libraries]
        return self._price(2, found, far)

    def _sum(self, parts: Iterable[Part]) -> UnitCost:
        """Prices of parts that work together, one behind the other."""
        parts = list(parts)
        energy, area, _, leakage = [_total((p, 1) for p in of)[0] for of in zip(*map(self._part, parts), strict=True)]
        return UnitCost(energy, area, self._delay([parts]), leakage)

    def _within(self, operation: Operation, datapath: Datapath) -> UnitCost:
        """What adding up, or normalising a fused sum, takes in a datapath's unit: what its other operations leave."""
        planned = plan(datapath)
        if operation.kind == "normalise":
            return self._sum(p for p in planned.parts if p.role == "normalise")
        whole = self._sum(p for p in planned.parts if p.role in ("product", "add"))
        others = [(op, n) for op, n in dot_operations(datapath, planned.macs).items() if op.kind == "mul"]
        products = [(self._sum(operation_plan(op).parts), n) for op, n in others]
        left = [
            price._replace(value=max(price.value - sum(n * unit[i].value for unit, n in products), 0.0) / planned.macs)
            for i, price in enumerate(whole)
        ]
        return UnitCost(*left)._replace(delay_ns=self._delay([[p for p in planned.parts if p.role == "add"]]))

    # ---- operations

    @lru_cache(maxsize=4096)  # noqa: B019  (few technologies live)
    def unit(self, operation: Operation) -> UnitCost:
        """Energy, area and delay of one operation.

        What adds up in a datapath's unit (``operation.within``) is priced as that unit does it, per term: with the
        multiplications, the prices add up to those of the unit without its registers.
        """
        within = operation.within
        if within is not None and not (self.published and self._published_datapath(within)):
            return self._within(operation, within)
        found = self._sum(operation_plan(replace(operation, within=None)).parts)
        if isinstance(operation.result, PositFormat):
            found = UnitCost(*(p._replace(basis="assumed", band=max(p.band, BANDS["assumed"])) for p in found))
        if not self.published:
            return found
        published = [self._published(operation, quantity) for quantity in QUANTITIES]
        return UnitCost(*(row or own for row, own in zip(published, found, strict=True)))

    def _published(self, operation: Operation, quantity: str) -> Price | None:
        """The published price of that very unit."""
        op = operation
        if op.kind not in ("mul", "add") or op.width or op.rounding.random_bits:
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
    leakage_nw: float  #: of the whole unit
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
    technology, planned = _technology(node), plan(datapath, pipeline)
    units = [technology._part(part) for part in planned.parts]
    span = datapath.order.length if isinstance(datapath.order, Blocked) else planned.macs
    energies = []
    for part, unit in zip(planned.parts, units, strict=True):
        if part.stage < 2:
            energies.append((unit.energy_pj, 1 / (span if part.role == "outer" else planned.macs)))
    terms: dict[str, list[tuple[Price, float]]] = {
        "energy_pj": energies,
        "area_um2": [(unit.area_um2, 1) for unit in units],
        "delay_ns": [(technology._delay(prices.stages(planned)), 1)],
        "leakage_nw": [(unit.leakage_nw, 1) for unit in units],
    }
    totals = {q: _total(terms[q]) for q in QUANTITIES}
    return Cost(
        node,
        **{q: total.value for q, (total, _) in totals.items()},
        macs_per_cycle=planned.macs,
        basis={q: total.basis for q, (total, _) in totals.items()},
        band={q: band for q, (_, band) in totals.items()},
        sources=tuple(sorted(technology._sources)),
        parts=tuple([(part.name, part.number, unit) for part, unit in zip(planned.parts, units, strict=True)]),
        warnings=_warnings(technology, planned),
    )


@cache
def _technology(node: str) -> Technology:
    return Technology(node)


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
    an output format, that of an exact accumulator, the last sum of lanes) counts in all but energy: a run's energy
    includes it; an outer accumulator's addition counts once per block.
    """
    return _cost(Datapath.parse(datapath), node, pipeline)
