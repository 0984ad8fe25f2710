"""First-cut prices from a table of published numbers (``units.csv``), every one with its source.

A unit that the table holds is handed out as printed there. Other widths are interpolated as a power law in the
operand precision (log-log, piecewise between the table's points) and *say so*, as do extrapolations and numbers
carried from one node to another. Float units include rounding and normalisation; exponent width is not a
parameter of this first cut. Conversions and the roundings of fused units are priced as an integer adder of the
result's width; SR with k bits adds an integer adder of k bits (carry chain and generator).
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

from . import names
from .datapath import Datapath, Fused
from .errors import HalfulpError
from .formats import FixedFormat, Format
from .ledger import Ledger, Operation, dot_operations

QUANTITIES = ("energy_pj", "area_um2", "delay_ns")

#: How a number came about, best first, and the factor x/÷ within which we expect the truth. Published tables of
#: one node differ by about 2; the wider bands are judgement, to be replaced by measured leave-one-out errors.
BANDS = {"table": 2.0, "interpolated": 2.2, "extrapolated": 3.0, "scaled": 4.0, "assumed": 4.0}
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
    """One number with its basis (a key of BANDS) and sources."""

    value: float
    basis: str
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
    return f"{row.source}; {row.doi if row.doi.startswith('isbn') else 'doi:' + row.doi}"


def _join(*prices: Price, value: float) -> Price:
    worst = max((price.basis for price in prices), key=_ORDER.index)
    return Price(value, worst, frozenset().union(*(price.sources for price in prices)))


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
        parsed = [(names.format(r.format), r) for r in rows]
        return sorted((f.precision, r) for f, r in parsed if isinstance(f, FixedFormat) != is_float)

    def _scalar(self, unit: str, is_float: bool, precision: float, quantity: str) -> Price:
        """A unit's price at a (possibly non-integer) precision in bits."""
        points = self._points(unit, is_float, quantity)
        if not points:
            (factor,) = [r for r in table() if (r.node, r.unit, r.quantity) == (self.node, "scale_from_45nm", quantity)]
            base = Technology("45nm")._scalar(unit, is_float, precision, quantity)
            return Price(
                base.value * factor.value, max("scaled", base.basis, key=_ORDER.index), base.sources | {_cite(factor)}
            )
        for p, row in points:
            if p == precision:
                return Price(row.value, "table", frozenset({_cite(row)}))
        if len(points) == 1:  # only delays: a carry- or shift-tree's depth goes with log2 of the width
            ((p, row),) = points
            return Price(row.value * math.log2(precision + 1) / math.log2(p + 1), "assumed", frozenset({_cite(row)}))
        above = next((i for i, (p, _) in enumerate(points) if p > precision), len(points) - 1)
        (p0, row0), (p1, row1) = points[max(above - 1, 0)], points[max(above, 1)]
        slope = math.log(row1.value / row0.value) / math.log(p1 / p0)
        basis = "interpolated" if p0 < precision < p1 else "extrapolated"
        return Price(row0.value * (precision / p0) ** slope, basis, frozenset({_cite(row0), _cite(row1)}))

    @lru_cache(maxsize=4096)  # noqa: B019  (few technologies live)
    def unit(self, operation: Operation) -> UnitCost:
        """Energy, area and delay of one operation."""
        return UnitCost(*(self._price(operation, quantity) for quantity in QUANTITIES))

    def _price(self, operation: Operation, quantity: str) -> Price:
        def is_float(*formats: Format | None) -> bool:
            return any(f is not None and not isinstance(f, FixedFormat) for f in formats)

        if operation.kind == "mul":
            precision = math.sqrt(operation.a.precision * operation.b.precision)
            price = self._scalar("mul", is_float(operation.a, operation.b), precision, quantity)
        elif operation.kind == "add":
            destination = operation.result or operation.b
            price = self._scalar("add", is_float(destination), destination.precision, quantity)
        else:
            price = self._scalar("add", False, (operation.result or operation.a).bits, quantity)
        if operation.rounding.random_bits:
            extra = self._scalar("add", False, operation.rounding.random_bits, quantity)
            price = _join(price, extra, value=price.value + extra.value)
        return price

    def energy_per_bit_pj(self, level: str) -> Price:
        """Energy of moving one bit to or from a storage level, from the table's 64-bit access."""
        unit, capacity = MEMORIES[level]
        (row,) = [
            r for r in table() if (r.node, r.unit, r.format, r.quantity) == (self.node, unit, capacity, "energy_pj")
        ]
        return Price(row.value / 64, "table", frozenset({_cite(row)}))

    def price(self, ledger: Ledger) -> RunEnergy:
        """The energy of a run: Ledger x Technology, in pJ."""
        terms = [(self.unit(op).energy_pj, n) for op, n in ledger.operations.items()]
        memory = [(self.energy_per_bit_pj(level), n) for level, n in ledger.bits_moved.items()]
        used = [price for price, _ in terms + memory]
        low, high = (sum(p.value * n * BANDS[p.basis] ** s for p, n in terms + memory) for s in (-1, 1))
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


def cost(datapath: Datapath | str, node: str = "45nm") -> Cost:
    """Area, energy per MAC and delay of a datapath's unit, with sources and error band.

    The unit is one multiplier and one accumulating adder (sequential), or n multipliers, n aligned adders and one
    rounding (fused). Delay is that of the multiplier, the accumulating adder, for fused units ceil(log2 n) integer
    adders of the accumulator's width, and the rounding.
    """
    datapath = Datapath.parse(datapath)
    technology = Technology(node)
    lanes = datapath.order.terms if isinstance(datapath.order, Fused) else 1
    operations = dot_operations(datapath, lanes)
    if datapath.output != datapath.accumulator:  # the output stage is shared by all terms of a dot product
        operations = {op: n for op, n in operations.items() if op.result != datapath.output}
    parts = tuple((op, n, technology.unit(op)) for op, n in operations.items())
    tree = math.ceil(math.log2(lanes)) if lanes > 1 else 0
    totals: dict[str, Price] = {}
    for quantity in QUANTITIES:
        prices = [(getattr(unit, quantity), n) for _, n, unit in parts]
        if quantity == "delay_ns":
            prices = [(price, 1) for price, _ in prices]
            if tree:
                prices.append((technology._scalar("add", False, datapath.accumulator.bits, quantity), tree))
        value = sum(price.value * n for price, n in prices) / (lanes if quantity == "energy_pj" else 1)
        totals[quantity] = _join(*(price for price, _ in prices), value=value)
    return Cost(
        node,
        energy_pj=totals["energy_pj"].value,
        area_um2=totals["area_um2"].value,
        delay_ns=totals["delay_ns"].value,
        macs_per_cycle=lanes,
        basis={q: totals[q].basis for q in QUANTITIES},
        band={
            q: (totals[q].value / BANDS[totals[q].basis], totals[q].value * BANDS[totals[q].basis]) for q in QUANTITIES
        },
        sources=tuple(sorted(frozenset().union(*(p.sources for p in totals.values())))),
        parts=tuple((str(op), n, unit) for op, n, unit in parts),
    )
