"""First-cut prices from a table of published numbers (``units.csv``), every one with its source.

A unit that the table holds is handed out as printed there (``table``). Others *say so*: ``interpolated`` or
``extrapolated`` as a power law in the operand precision (log-log, piecewise between the table's points), ``scaled``
from another node, ``assumed`` by the rules below. What this first cut does not model:

* Exponent width: a float is priced by its precision. Float units include rounding and normalisation.
* A rounding (a conversion, an output stage) is priced as an integer adder of the result's width; SR with k bits adds
  an integer adder of k bits. The random generator itself is not priced.
* A fused unit's aligned addition is priced as an integer adder of the aligned width and half of what a float adder of
  the accumulator's precision costs beyond an integer one (alignment); its one normalisation and rounding per step is
  priced as the other half.
* Storage: reads and writes alike at the table's read of a 32 KiB SRAM.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

from . import names
from .datapath import Datapath
from .errors import HalfulpError
from .formats import FixedFormat, Format
from .ledger import Ledger, Operation, aligned_width, dot_operations, output_operation
from .orders import Blocked, Fusing, Order, Systolic, Tree

QUANTITIES = ("energy_pj", "area_um2", "delay_ns")

#: How a number came about, best first, and the factor x/÷ within which we expect the truth; scaling from another node
#: doubles the factor of what is scaled. Published tables of one node differ by about 2; the wider bands are judgement,
#: to be replaced by measured leave-one-out errors.
BANDS = {"table": 2.0, "interpolated": 2.5, "extrapolated": 3.0, "assumed": 4.0, "scaled": 2.0}
_ORDER = list(BANDS)

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
    """Technology nodes that have a table, largest first."""
    return sorted({row.node for row in table()}, key=lambda name: -float(name.removesuffix("nm")))


def _cite(row: Row) -> str:
    """The source, with its identifier and a word where nobody of us has seen the original."""
    doubt = " (not re-verified against the original)" if "not re-verified" in row.note else ""
    return f"{row.source}; {row.doi if row.doi.startswith('isbn') else 'doi:' + row.doi}{doubt}"


def _from_rows(value: float, basis: str, *rows: Row) -> Price:
    return Price(value, basis, BANDS[basis], frozenset(map(_cite, rows)))


def _join(value: float, *prices: Price, basis: str = "table") -> Price:
    """A value computed from prices: the weakest basis, the widest band, all sources."""
    worst = max((basis, *(price.basis for price in prices)), key=_ORDER.index)
    widest = max((BANDS[basis], *(price.band for price in prices)))
    return Price(value, worst, widest, frozenset().union(*(price.sources for price in prices)))


_BASE_NODE = "45nm"


class Technology:
    """Prices of one node.

    Parameters
    ----------
    node : ``"45nm"`` (energy: Horowitz, ISSCC 2014) or ``"7nm"`` (energy: Jouppi et al., ISCA 2021; area and delay
        are carried over from 45 nm with the factors of Stillmaker & Baas 2017 and are marked ``scaled``).
    """

    def __init__(self, node: str = "45nm") -> None:
        if node not in nodes():
            raise HalfulpError(f"no table for node {node!r}: choose {' or '.join(nodes())}.")
        self.node = node

    def _points(self, unit: str, is_float: bool, quantity: str) -> list[tuple[int, Row]]:
        rows = [r for r in table() if (r.node, r.unit, r.quantity) == (self.node, unit, quantity)]
        parsed = [(names.scalar_format(r.format), r) for r in rows]
        return sorted((f.precision, r) for f, r in parsed if isinstance(f, FixedFormat) != is_float)

    def _scalar(self, unit: str, is_float: bool, precision: float, quantity: str, fmt: Format | None = None) -> Price:
        """A unit's price at a (possibly non-integer) precision in bits; ``fmt`` if it is that very format's unit."""
        points = self._points(unit, is_float, quantity)
        if not points:
            base = Technology(_BASE_NODE)._scalar(unit, is_float, precision, quantity, fmt)
            (factor,) = [r for r in table() if (r.node, r.unit, r.quantity) == (self.node, "scale_from_45nm", quantity)]
            return Price(base.value * factor.value, "scaled", 2.0 * base.band, base.sources | {_cite(factor)})
        for p, row in points:
            if p == precision:
                same = not is_float or names.scalar_format(row.format) == fmt
                return _from_rows(row.value, "table" if same else "interpolated", row)
        if len(points) == 1:  # only delays: a carry- or shift-tree's depth goes with log2 of the width
            ((p, row),) = points
            return _from_rows(row.value * math.log2(precision + 1) / math.log2(p + 1), "assumed", row)
        above = next((i for i, (p, _) in enumerate(points) if p > precision), len(points) - 1)
        (p0, row0), (p1, row1) = points[max(above - 1, 0)], points[max(above, 1)]
        slope = math.log(row1.value / row0.value) / math.log(p1 / p0)
        basis = "interpolated" if p0 < precision < p1 else "extrapolated"
        return _from_rows(row0.value * (precision / p0) ** slope, basis, row0, row1)

    def _beyond_integer(self, precision: int, quantity: str) -> Price:
        """Half of what a float adder costs beyond an integer one: alignment, or normalisation and rounding."""
        float_add = self._scalar("add", True, precision, quantity)
        integer_add = self._scalar("add", False, precision, quantity)
        return _join(max(float_add.value - integer_add.value, 0.0) / 2, float_add, integer_add, basis="assumed")

    @lru_cache(maxsize=4096)  # noqa: B019  (few technologies live)
    def unit(self, operation: Operation) -> UnitCost:
        """Energy, area and delay of one operation."""
        return UnitCost(*(self._price(operation, quantity) for quantity in QUANTITIES))

    def _price(self, operation: Operation, quantity: str) -> Price:
        def is_float(*formats: Format) -> bool:
            return any(not isinstance(f, FixedFormat) for f in formats)

        if operation.kind == "mul":
            same = operation.a if operation.a == operation.b else None
            precision = math.sqrt(operation.a.precision * operation.b.precision)
            price = self._scalar("mul", is_float(operation.a, operation.b), precision, quantity, same)
        elif operation.kind == "add" and operation.width:
            price = self._scalar("add", False, operation.width, quantity)
            if is_float(operation.b):
                alignment = self._beyond_integer(operation.b.precision, quantity)
                price = _join(price.value + alignment.value, price, alignment)
        elif operation.kind == "add":
            destination = operation.result or operation.b
            price = self._scalar("add", is_float(destination), destination.precision, quantity, destination)
        else:
            assert operation.result is not None
            if operation.kind == "normalise" and is_float(operation.a):
                price = self._beyond_integer(operation.a.precision, quantity)
            else:
                price = self._scalar("add", False, operation.result.bits, quantity)
        if operation.rounding.random_bits:
            extra = self._scalar("add", False, operation.rounding.random_bits, quantity)
            price = _join(price.value + extra.value, price, extra)
        return price

    def energy_per_bit_pj(self, level: str) -> Price:
        """Energy of moving one bit to or from a storage level, from the table's 64-bit access."""
        unit, capacity = MEMORIES[level]
        (row,) = [
            r for r in table() if (r.node, r.unit, r.format, r.quantity) == (self.node, unit, capacity, "energy_pj")
        ]
        return _from_rows(row.value / 64, "table", row)

    def price(self, ledger: Ledger) -> RunEnergy:
        """The energy of a run: Ledger x Technology, in pJ."""
        terms = [(self.unit(op).energy_pj, n) for op, n in ledger.operations.items()]
        memory = [(self.energy_per_bit_pj(level), n) for level, n in ledger.bits_moved.items()]
        used = [price for price, _ in terms + memory]
        low, high = (sum(p.value * n * p.band**s for p, n in terms + memory) for s in (-1, 1))
        return RunEnergy(
            sum(price.value * n for price, n in terms),
            sum(price.value * n for price, n in memory),
            (low, high),
            tuple(sorted(frozenset().union(*(p.sources for p in used)))),
            max((p.basis for p in used), key=_ORDER.index, default="table"),
        )


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
    delay_ns: float  #: from operands to accumulator, unpipelined
    macs_per_cycle: int
    basis: dict[str, str]  #: per quantity, the weakest basis among its terms
    band: dict[str, tuple[float, float]]  #: per quantity, low and high estimate
    sources: tuple[str, ...]
    parts: tuple[tuple[str, int, UnitCost], ...]  #: operation, number in the unit, its prices

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
                *(f"  source: {s}" for s in self.sources),
            ]
        )


def _lanes(order: Order) -> int:
    """Multipliers that work side by side."""
    if isinstance(order, Systolic):
        return order.lanes
    return order.terms or 1 if isinstance(order, Fusing | Tree) else 1


def cost(datapath: Datapath | str, node: str = "45nm") -> Cost:
    """Area, energy per MAC and delay of a datapath's unit, with sources and error band.

    The unit is one multiplier and one accumulating adder (sequential), or n multipliers, n aligned adders and one
    rounding (fused, exact), n multipliers and as many adders (tree, systolic), an outer accumulator besides (blocked),
    and one output stage where the output format is not the accumulator's. The output stage counts in area only: it
    works once per dot product (a run's energy includes it). Delay is that of multiplier, adder, for fused, exact and
    tree units ceil(log2 n) further adders, and rounding.
    """
    datapath = Datapath.parse(datapath)
    technology = Technology(node)
    inner = datapath.inner_order
    lanes = _lanes(inner)
    whole = replace(datapath, output=datapath.accumulator)
    span = datapath.order.length if isinstance(datapath.order, Blocked) else lanes
    output = output_operation(datapath)
    parts = [(op, n, technology.unit(op)) for op, n in dot_operations(whole, lanes).items()]
    stage = [] if output is None else [(output, 1, technology.unit(output))]
    levels = math.ceil(math.log2(lanes))
    energies = [(technology.unit(op).energy_pj, n) for op, n in dot_operations(whole, span).items()]
    areas = [(unit.area_um2, n) for _, n, unit in parts + stage]
    delays = [(unit.delay_ns, 1) for _, _, unit in parts]
    if isinstance(inner, Fusing) and levels:
        delays.append((technology._scalar("add", False, aligned_width(datapath), "delay_ns"), levels))
    if isinstance(inner, Tree) and levels:
        delays.append((parts[-1][2].delay_ns, levels))

    def total(terms: list[tuple[Price, int]]) -> Price:
        return _join(sum(price.value * n for price, n in terms), *(price for price, _ in terms))

    totals = dict(zip(QUANTITIES, map(total, (energies, areas, delays)), strict=True))
    totals["energy_pj"] = totals["energy_pj"]._replace(value=totals["energy_pj"].value / span)
    return Cost(
        node,
        energy_pj=totals["energy_pj"].value,
        area_um2=totals["area_um2"].value,
        delay_ns=totals["delay_ns"].value,
        macs_per_cycle=lanes,
        basis={q: price.basis for q, price in totals.items()},
        band={q: (price.value / price.band, price.value * price.band) for q, price in totals.items()},
        sources=tuple(sorted(frozenset().union(*(price.sources for price in totals.values())))),
        parts=tuple((str(op), n, unit) for op, n, unit in parts + stage),
    )
