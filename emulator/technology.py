"""Technology: what single operations and parts of units take at a node, and so what a run takes.

Nodes with a library (``prices.LIBRARIES``), and libraries that a user characterised, are priced part by part by what
was fitted to measured designs (``fitted``; ``extrapolated``, with half as much again in the band, where a part is
larger than all that was measured). Between nodes with a library ``scaling`` interpolates (``scaled``). Rounding into
posits, of which there is no hardware here, is ``assumed`` to take a shifter. A price is a sum over parts, each of which
grows with its counts: a wider unit costs more, unless it is built of less (``tests/test_monotone.py``).

Published numbers (``units.csv``) differ from those, and from each other, by factors; a unit priced by them would cost
more or less than one of a bit more that is not. They come out only of ``Technology(published=True)``, as printed
(``table``), at nodes without a library.

Energy of a part lies between that of settled values alone and that with all glitches which pass gates with inertia, of
normally distributed operands; the value is their geometric mean, and the band goes from one to the other, wider by the
90th percentile of the fit's errors. Wires and clock trees are not in it; random
generators are where a unit has one of its own.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from . import memories, names, prices, scaling
from .counts import Part
from .datapath import Datapath
from .errors import HalfulpError
from .estimates import BANDS, FAR, Price, RunEnergy, cited, total_of
from .formats import FixedFormat, Format, PositFormat
from .ledger import Ledger, Operation, dot_operations
from .orders import Fusing
from .parts import registers
from .plan import Plan, operation_plan, plan

QUANTITIES = ("energy_pj", "area_um2", "delay_ns", "leakage_nw")
#: Libraries' transistors leak as their thresholds are chosen: a flip-flop of SG13G2 and of ASAP7 0.6 nW, of GT2N 50.
#: What one of another node leaks may be off by as much.
_LEAKS = 100.0
_DELAY, _LEAKAGE = QUANTITIES.index("delay_ns"), QUANTITIES.index("leakage_nw")

#: Nodes that are listed; any other between the largest and the smallest is priced as well.
NODES = tuple(
    "130nm 90nm 65nm 45nm 40nm 32nm 28nm 22nm 20nm 16nm 14nm 12nm 10nm 7nm 5nm 3nm 2nm".split()  # noqa: SIM905
)

SRAM_KIB = 32.0  #: of the memory that a run's operands are in, unless an ``Array`` says otherwise


class Row(NamedTuple):
    node: str
    unit: str
    format: str
    quantity: str
    value: float
    source: str
    doi: str
    note: str

    @property
    def cite(self) -> str:
        return cited(self.source, self.doi, self.note)


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


class Technology:
    """Prices of one node.

    Parameters
    ----------
    node : ``"130nm"`` (IHP SG13G2), ``"7nm"`` (ASAP7, predictive), ``"2nm"`` (GT2N, predictive), or a node in between,
        as in ``"28nm"``, which is scaled; or the path of a fitted library, a .json file of ``halfulp cost --fit``.
    published : hand out published prices where the table has a unit, at nodes without a library; as they stand beside
        others that the table lacks, a wider unit may then cost less.

    Technologies of one node are equal, and so are those of one path, as long as the file has not changed.
    """

    def __init__(self, node: str | Path = "45nm", published: bool = False) -> None:
        self.node = scaling.node_name(str(node))
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
        kits = [node for node in self.between if node in prices.PREDICTIVE]
        predictive = f"; the kit of {' and of '.join(kits)} is predictive, nobody's process" if kits else ""
        return {
            "table": f"numbers of a published table for {self.node}, as printed; tables differ by about 2",
            "fitted": "parts priced by a fit to designs that were mapped on this cell library for the least area and"
            f" simulated{predictive}",
            "extrapolated": "parts priced by a fit to designs on this cell library, mapped for the least area, some"
            f" larger than all that it saw{predictive}",
            "scaled": f"no cell library of {self.node} is here: between the fits of {' and '.join(self.between)}, "
            f"mapped for the least area, as published factors go{predictive}",
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

    @cached_property
    def _shares(self) -> tuple[float, ...]:
        """Where the node lies between its two libraries, by quantity."""
        return tuple(scaling.position(self.node, self.between[0], self.between[1], quantity) for quantity in QUANTITIES)

    @cached_property
    def _sources(self) -> frozenset[str]:
        sources = [library.source for library in self.libraries]
        return frozenset(sources if self.has_library else [*sources, scaling.SOURCE])

    def part(self, part: Part) -> UnitCost:
        """Prices of a part, all of its number; at nodes in between it is scaled by itself."""
        return UnitCost(*self._between([_fitted(library, part) for library in self.libraries], range(len(QUANTITIES))))

    def delay(self, parts: Sequence[Part]) -> Price:
        """Delay of parts one behind the other, ns."""
        found = []
        for library in self.libraries:
            far = any(map(library.far, parts))
            found.append((far, [(library.way(parts), (FAR if far else 1.0) * library.factors[_DELAY])]))
        return self._between(found, (_DELAY,))[0]

    def _between(self, found: list[_Fitted], quantities: Sequence[int]) -> list[Price]:
        """Prices of some quantities (indices of QUANTITIES), from what each library says of them."""
        (far, own), sources = found[0], self._sources
        if len(found) == 1:
            basis = "extrapolated" if far else "fitted"
            return [Price(value, basis, band, sources) for value, band in own]
        scaled, shares = [], self._shares
        for q, (a, band_a), (b, band_b) in zip(quantities, own, found[1][1], strict=True):
            value = a ** (1 - shares[q]) * b ** shares[q] if a and b else 0.0
            band = BANDS["scaled"] * max(band_a, band_b)
            if q == _LEAKAGE:
                band *= _LEAKS
            scaled.append(Price(value, "scaled", band, sources))
        return scaled

    def total(self, parts: Iterable[Part]) -> UnitCost:
        """Prices of parts that work together, one behind the other."""
        parts = list(parts)
        each = list(map(self.part, parts))
        energy, area, _, leakage = (total_of((p, 1) for p in of)[0] for of in zip(*each, strict=True))
        return UnitCost(energy, area, self.delay(parts), leakage)

    def check(self, planned: Plan) -> None:
        """Raises HalfulpError where a library was fitted to no such parts."""
        for library in self.libraries:
            library.check(planned)

    def _within(self, operation: Operation, datapath: Datapath) -> UnitCost:
        """What adding up, or normalising a fused sum, takes in a datapath's unit: what its other operations leave."""
        planned = plan(datapath)
        self.check(planned)
        if operation.kind == "normalise":
            return self.total(p for p in planned.parts if p.role == "normalise")
        whole = self.total(p for p in planned.parts if p.role in ("product", "add"))
        others = [(op, n) for op, n in dot_operations(datapath, planned.macs).items() if op.kind == "mul"]
        products = [(self.unit(op), n) for op, n in others]
        left = [
            price._replace(value=max(price.value - sum(n * unit[i].value for unit, n in products), 0.0) / planned.macs)
            for i, price in enumerate(whole)
        ]
        return UnitCost(*left)._replace(delay_ns=self.delay([p for p in planned.parts if p.role == "add"]))

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
        planned = operation_plan(replace(operation, within=None))
        self.check(planned)
        found = self.total(planned.parts)
        if isinstance(operation.result, PositFormat):
            found = UnitCost(*(p._replace(basis="assumed", band=max(p.band, BANDS["assumed"])) for p in found))
        if not self.reads_table:
            return found
        published = [self.published(operation, quantity) for quantity in QUANTITIES]
        return UnitCost(*(row or own for row, own in zip(published, found, strict=True)))

    def published(self, operation: Operation, quantity: str) -> Price | None:
        """The published price of that very unit, at a node without a library."""
        op = operation
        if not self.reads_table or op.kind not in ("mul", "add") or op.width or op.rounding.random_bits:
            return None
        fmt: Format | None = op.result or op.b
        if op.kind == "mul":
            fmt = op.a if op.a == op.b and op.result in (None, op.a) else None
        for row in _rows(self.node, op.kind, quantity):
            known = names.scalar_format(row.format)
            widths_alike = isinstance(fmt, FixedFormat) and isinstance(known, FixedFormat) and fmt.bits == known.bits
            if fmt is not None and (known == fmt or widths_alike):
                return Price(row.value, "table", BANDS["table"], frozenset([row.cite]))
        return None

    @lru_cache(maxsize=1024)  # noqa: B019
    def has_published(self, datapath: Datapath) -> bool:
        """Whether the table has all units of a datapath."""
        if not self.reads_table or isinstance(datapath.inner_order, Fusing):
            return False
        operations = dot_operations(datapath, 1)
        return all(self.published(op, q) is not None for op in operations for q in ("energy_pj", "area_um2"))

    @cached_property
    def register(self) -> UnitCost:
        """One bit of a register: a flip-flop, into which a clock moves a bit. Its own delay is not known."""
        flipflop = registers(1, 0)
        self.check(Plan((flipflop,)))
        return self.part(flipflop)

    def energy_per_bit_pj(self, level: str) -> Price:
        """Energy of moving one bit into a register, or to or from another level (``memories``), SRAM of 32 KiB."""
        if level == "register":
            return self.register.energy_pj
        return memories.price(memories.published(), level, self.memory_node, "energy_pj_per_bit", SRAM_KIB)

    def price(self, ledger: Ledger) -> RunEnergy:
        """The energy of a run: Ledger x Technology, in pJ: of operations and of memory traffic.

        Units' own registers, operands' registers and leakage are an ``Array``'s to price: the first are up to half of
        what ``cost`` says of a unit (of ``int8/int32`` at 7nm 41 %).
        """
        arithmetic = [(self.unit(op).energy_pj, n) for op, n in ledger.operations.items()]
        memory = [(self.energy_per_bit_pj(level), n) for level, n in ledger.bits_moved.items()]
        return RunEnergy.of(arithmetic, memory)


#: Whether a part is larger than all that was measured; value and band of quantities.
_Fitted = tuple[bool, list[tuple[float, float]]]


def _fitted(library: prices.Library, part: Part) -> _Fitted:
    """Value and band of each quantity of a part from a fit, and whether it is larger than all that were measured."""
    far = library.far(part)
    area, leakage, low, high = library.figures(part)
    high = max(low, high)
    values = (math.sqrt(low * high), area, library.way([part]), leakage)
    energy, *others = [FAR * factor for factor in library.factors] if far else library.factors
    bands = (energy * math.sqrt(high / low) if low else energy, *others)
    return far, list(zip(values, bands, strict=True))


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
