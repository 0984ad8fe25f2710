"""Technology: what single operations and parts of units take at a node, and so what a run takes.

Nodes with a library (``prices.LIBRARIES``), and libraries that a user characterised, are priced part by part by what
was fitted to measured designs (``fitted``; ``extrapolated``, with half as much again in the band, where a part is
larger than all that was measured). Between nodes with a library ``scaling`` interpolates (``scaled``). Where the
published table ``units.csv`` has that very unit at a node without a library, its number is handed out as printed
(``table``). Rounding into posits, of which there is no hardware here, is ``assumed`` to take a shifter.

Energy of fitted units lies between that of settled values alone and that with all glitches which pass gates with
inertia, of normally distributed operands; the value is their geometric mean, and the band goes from one to the other,
wider by the 90th percentile of the fit's errors. Wires, clock trees and random generators are not in it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from . import names, prices, scaling
from .counts import Part
from .datapath import Datapath
from .errors import HalfulpError
from .formats import FixedFormat, Format, PositFormat
from .functions import Function
from .ledger import Ledger, Operation, dot_operations
from .orders import Fusing
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


def total_of(terms: Iterable[tuple[Price, float]]) -> tuple[Price, tuple[float, float]]:
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
        as in ``"28nm"``, which is scaled; or the path of a fitted library, a .json file of ``halfulp cost --fit``.
    published : hand out published prices where the table has a unit (at nodes without a library); False: always what
        the libraries say.

    Technologies of one node are equal, and so are those of one path, as long as the file has not changed.
    """

    def __init__(self, node: str | Path = "45nm", published: bool = True) -> None:
        self.node = str(node)
        #: The nodes that it is priced between, the larger first; itself, if it has a library.
        self.between: tuple[str, ...] = (self.node,)
        if self.node.endswith(".json"):
            self.libraries = (prices.load(node),)
        else:
            if self.node not in prices.LIBRARIES:
                self.between = _neighbours(self.node)
            self.libraries = tuple(map(prices.library, self.between))  # type: ignore[assignment]
        #: Whether published prices are handed out.
        self.reads_table = published and not self.has_library
        self._key = (self.node, self.reads_table, *(library.digest for library in self.libraries))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Technology) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def has_library(self) -> bool:
        return len(self.libraries) == 1

    def meaning(self, basis: str) -> str:
        """How numbers of a basis came about, in a sentence."""
        return {
            "table": f"numbers of a published table for {self.node}, as printed; tables differ by about 2",
            "fitted": "parts priced by a fit to designs that were mapped on this cell library and simulated",
            "extrapolated": "parts priced by a fit to designs on this cell library, some larger than all that it saw",
            "scaled": f"no cell library of {self.node} is here: between the fits of {' and '.join(self.between)},"
            " as published factors go",
            "assumed": "there is no hardware of this here: a guess",
        }[basis]

    @property
    def memory_node(self) -> str:
        """The node at which memories are priced: this one, or that which a user's library was fitted for."""
        if not self.node.endswith(".json"):
            return self.node
        if "node" not in self.libraries[0].header:
            raise HalfulpError(
                f"memories are priced by node, and {self.node} names none: fit its table again with --node, as in"
                " halfulp cost --fit TABLE.csv --node 28nm."
            )
        return self.libraries[0].header["node"]

    # ---- from libraries

    def _fitted(
        self, library: prices.Library, energy: tuple[float, float], area: float, delay: float, far: bool
    ) -> UnitCost:
        """Prices from a fit's numbers."""
        low = max(energy[0], 0.0)
        high = max(energy[1], low)
        width = math.sqrt(high / low) if low else 1.0
        widest = 1 + max(library.errors[q].p90 for q in (SETTLED, INERTIAL))
        area_um2 = _price(library, area, "area_um2", far)
        energy_pj = area_um2._replace(value=math.sqrt(low * high), band=_extra(far) * width * widest)
        return UnitCost(energy_pj, area_um2, _price(library, delay, "delay_ns", far))

    def _scaled(self, costs: list[UnitCost]) -> UnitCost:
        """Prices between those of two libraries."""
        return UnitCost(
            *(self._between(q, found) for q, found in zip(QUANTITIES, zip(*costs, strict=True), strict=True))
        )

    def _between(self, quantity: str, found: Sequence[Price]) -> Price:
        """The price between those of two libraries; that of the only one."""
        if len(found) == 1:
            return found[0]
        a, b = found
        share = scaling.position(self.node, self.between[0], self.between[1], quantity)
        value = math.exp((1 - share) * math.log(a.value) + share * math.log(b.value)) if a.value and b.value else 0.0
        return Price(value, "scaled", BANDS["scaled"] * max(a.band, b.band), a.sources | b.sources | {scaling.SOURCE})

    def whole(self, planned: Plan) -> UnitCost:
        """Prices of a unit; its energy is a clock's."""
        costs = []
        for library in self.libraries:
            library.check(planned)
            energy = (library.price(planned, SETTLED), library.price(planned, INERTIAL))
            area, delay = library.price(planned, "area_um2"), library.delay_ns(planned)
            costs.append(self._fitted(library, energy, area, delay, bool(library.outside(planned))))
        return self._scaled(costs)

    def longest(self, planned: Plan) -> Price:
        """The longest way between registers."""
        return self.whole(replace(planned, parts=tuple(replace(p, number=0) for p in planned.parts))).delay_ns

    def parts(self, parts: Iterable[Part]) -> UnitCost:
        """Prices of parts that work together, one behind the other."""
        return self.whole(Plan(tuple(replace(part, stage=0) for part in parts)))

    def _within(self, operation: Operation, datapath: Datapath) -> UnitCost:
        """What adding up, or normalising a fused sum, takes in a datapath's unit: what its other operations leave."""
        planned = plan(datapath)
        if operation.kind == "normalise":
            return self.parts(p for p in planned.parts if p.role == "normalise")
        own = [part for part in planned.parts if part.role in ("product", "add")]
        others = [(op, n) for op, n in dot_operations(datapath, planned.macs).items() if op.kind == "mul"]
        costs = []
        for library in self.libraries:
            library.check(planned)

            def left(quantity: str, library: prices.Library = library) -> float:
                whole = sum(library.part(p, quantity) for p in own)
                rest = sum(n * library.price(operation_plan(op), quantity) for op, n in others)
                return max(whole - rest, 0.0) / planned.macs

            adding = [replace(p, stage=0) for p in own if p.role == "add"]
            far = bool(library.outside(planned))
            delay = library.delay_ns(Plan(tuple(adding)))
            costs.append(self._fitted(library, (left(SETTLED), left(INERTIAL)), left("area_um2"), delay, far))
        return self._scaled(costs)

    def leakage_nw(self, unit: Datapath | Function | str, pipeline: int = 0) -> Price:
        """Leakage, nW, of a datapath's unit (or its text form's), or of a function unit."""
        planned, found = plan(unit, pipeline), []
        for library in self.libraries:
            library.check(planned)
            far = bool(library.outside(planned))
            found.append(_price(library, library.price(planned, "leakage_nw"), "leakage_nw", far))
        return self._between("leakage_nw", found)

    # ---- operations

    @lru_cache(maxsize=4096)  # noqa: B019  (few technologies live)
    def unit(self, operation: Operation) -> UnitCost:
        """Energy, area and delay of one operation.

        What adds up in a datapath's unit (``operation.within``) is priced as that unit does it, per term: with the
        multiplications, the prices add up to those of the unit without its registers.
        """
        within = operation.within
        if within is not None and not self.has_published(within):
            return self._within(operation, within)
        found = self.parts(operation_plan(replace(operation, within=None)).parts)
        if isinstance(operation.result, PositFormat):
            found = UnitCost(*(p._replace(basis="assumed", band=max(p.band, BANDS["assumed"])) for p in found))
        published = [self.published(operation, quantity) for quantity in QUANTITIES]
        return UnitCost(*(row or own for row, own in zip(published, found, strict=True)))

    def published(self, operation: Operation, quantity: str) -> Price | None:
        """The published price of that very unit, at a node without a library."""
        op = operation
        if not self.reads_table or op.kind not in ("mul", "add") or op.width or op.rounding.random_bits:
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
    def has_published(self, datapath: Datapath) -> bool:
        """Whether the table has all units of a datapath."""
        if isinstance(datapath.inner_order, Fusing):
            return False
        operations = dot_operations(datapath, 1)
        return all(self.published(op, q) is not None for op in operations for q in ("energy_pj", "area_um2"))

    def energy_per_bit_pj(self, level: str) -> Price:
        """Energy of moving one bit to or from a storage level, from the table's 64-bit access.

        At nodes without a published one, a power law of the node's name through those that have one.
        """
        unit, capacity = MEMORIES[level]
        rows = [r for r in table() if (r.unit, r.format, r.quantity) == (unit, capacity, "energy_pj")]
        node = self.memory_node
        for row in rows:
            if row.node == node:
                return Price(row.value / 64, "table", BANDS["table"], frozenset([_cite(row)]))
        (n0, v0), (n1, v1) = [(scaling.nanometres(row.node), row.value / 64) for row in rows]
        power = math.log(v1 / v0) / math.log(n1 / n0)
        value = v0 * (scaling.nanometres(node) / n0) ** power
        return Price(value, "scaled", BANDS["table"] * BANDS["scaled"], frozenset(map(_cite, rows)))

    def price(self, ledger: Ledger) -> RunEnergy:
        """The energy of a run: Ledger x Technology, in pJ."""
        arithmetic = [(self.unit(op).energy_pj, n) for op, n in ledger.operations.items()]
        memory = [(self.energy_per_bit_pj(level), n) for level, n in ledger.bits_moved.items()]
        total, band = total_of(arithmetic + memory)
        return RunEnergy(
            sum(price.value * n for price, n in arithmetic),
            sum(price.value * n for price, n in memory),
            band,
            tuple(sorted(total.sources)),
            total.basis,
        )


def _extra(far: bool) -> float:
    """The factor of a band besides the fit's errors."""
    return FAR if far else BANDS["fitted"]


def _price(library: prices.Library, value: float, quantity: str, far: bool) -> Price:
    """A fit's number."""
    band = _extra(far) * (1 + library.errors[quantity].p90)
    return Price(max(value, 0.0), "extrapolated" if far else "fitted", band, frozenset([library.source]))


def _neighbours(node: str) -> tuple[str, ...]:
    """The two nodes with a library that another lies between. Raises HalfulpError where there are none."""
    fitted = sorted(prices.LIBRARIES, key=scaling.nanometres, reverse=True)
    nm = scaling.nanometres(node)
    for pair in pairwise(fitted):
        if scaling.nanometres(pair[0]) >= nm >= scaling.nanometres(pair[1]):
            return pair
    raise HalfulpError(
        f"no prices for node {node!r}: choose {', '.join(NODES[:-1])} or {NODES[-1]}, or the .json file of a library"
        " that halfulp cost --characterize and --fit made."
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
