"""Published anchors: numbers of the literature beside ours, misses shown and explained.

``anchors.csv`` holds the published numbers, one a row, with the unit of ours that each is compared with;
``anchors.toml`` what each paper did, and why we miss it where we do; ``measured/anchors.csv`` what was measured on
mapped designs. Ours is what the fitted libraries say, scaled to the paper's node, never a published price
(``Technology``).

A unit of ours reads ``[N x ]UNIT[ at NODE]``: UNIT is ``add``, ``mul`` or ``fma`` with a format (of floats rounded
once; of integers exact, an array of full adders and a carry chain), or a datapath, whose area and energy are per
multiply-accumulate, or ``logic``, the geometric mean of LOGIC.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from ..emulator import names, prices
from ..emulator.cost import cost
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.estimates import BANDS
from ..emulator.formats import FixedFormat
from ..emulator.functions import Function, function
from ..emulator.ledger import Operation
from ..emulator.plan import operation_plan, plan
from ..emulator.prices import INERTIAL, SETTLED
from ..emulator.scaling import nanometres
from ..emulator.technology import QUANTITIES, Technology

#: What a ratio is of; a count of gates is held against an area.
RATIOS = {"area_ratio": "area_um2", "gates_ratio": "area_um2", "energy_ratio": "energy_pj", "delay_ratio": "delay_ns"}
NODELESS = "7nm"  #: where ratios are priced whose node is not told
LOGIC = tuple(f"{kind} {fmt}" for fmt in ("int8", "int32", "fp16", "fp32") for kind in ("add", "mul"))
FAR = 2.0  #: a ratio beyond is a miss even within our band
MEASURED = 1.1  #: x/÷ within which we expect ratios of designs mapped alike, libraries' differences aside

_UNIT = re.compile(r"(?:(?P<times>\d+) x )?(?P<unit>(?:(?:add|mul|fma) )?\S+)(?: at (?P<node>\S+))?")


@dataclass(frozen=True)
class Anchor:
    """A row of ``anchors.csv``: one published number."""

    anchor: str  #: the paper, a table of ``anchors.toml``
    node: str  #: as in 45nm; or none, unknown, ...
    quantity: str  #: one of QUANTITIES or RATIOS
    subject: str  #: what the paper priced
    versus: str  #: of a ratio: against what
    value: float
    low: float  #: the published range; the value where there is none
    high: float
    ours: str  #: the unit of ours that it is compared with; "" where there is none
    ours_versus: str
    unpriced: str  #: why there is none
    miss: str  #: explanation, by its name in ``anchors.toml``, of a number outside of our band
    source: str
    doi: str
    note: str  #: how the number was seen


class Ours(NamedTuple):
    """Our number, its band and how it came about."""

    value: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True)
class Comparison:
    """A published number beside ours (None: not priced)."""

    anchor: Anchor
    ours: Ours | None

    @property
    def ratio(self) -> float | None:
        """Ours / published."""
        return self.ours.value / self.anchor.value if self.ours else None

    @property
    def outside(self) -> bool:
        """Whether what is published, range included, lies outside of our band."""
        return self.ours is not None and not (self.ours.low <= self.anchor.high and self.anchor.low <= self.ours.high)

    @property
    def missed(self) -> bool:
        """Whether it lies outside of the band, or is more than a factor FAR from ours, however wide the band."""
        return self.outside or (self.ratio is not None and not 1 / FAR <= self.ratio <= FAR)

    def as_dict(self) -> dict[str, Any]:
        """In types that JSON knows."""
        return vars(self.anchor) | {
            "missed": self.missed,
            "ratio": self.ratio,
            "priced": self.ours._asdict() if self.ours else None,
        }


def _read(*path: str) -> str:
    return resources.files(__package__).joinpath(*path).read_text(encoding="utf-8")


@cache
def anchors() -> tuple[Anchor, ...]:
    """Every row of ``anchors.csv``."""
    found = []
    for row in csv.DictReader(_read("anchors.csv").splitlines()):
        value = float(row["value"])
        numbers = {"value": value} | {end: float(row[end] or value) for end in ("low", "high")}
        found.append(Anchor(**(row | numbers)))  # type: ignore[arg-type]
    return tuple(found)


@cache
def papers() -> dict[str, dict[str, Any]]:
    """``anchors.toml``: anchor -> title, about, misses; in the order of the report."""
    return tomllib.loads(_read("anchors.toml"))


@cache
def measured() -> tuple[dict[str, str], ...]:
    """Every row of ``measured/anchors.csv``: ratios of designs mapped on a library."""
    return tuple(csv.DictReader(_read("measured", "anchors.csv").splitlines()))


# ---- our numbers


class Unit(NamedTuple):
    """So many of a unit of ours, at a node."""

    times: int
    unit: str
    node: str

    @property
    def subject(self) -> Operation | Function | Datapath:
        """What one is."""
        kind, _, name = self.unit.partition(" ")
        if not name:
            return Datapath.parse(self.unit)
        fmt = names.scalar_format(name)
        return Operation(kind, fmt, fmt, None) if isinstance(fmt, FixedFormat) else function(f"{name}_{kind}")

    def price(self, quantity: str) -> Ours:
        """What the libraries say."""
        if self.unit == "logic":
            each = [Unit(self.times, unit, self.node).price(quantity) for unit in LOGIC]
            value, low, high = (geometric_mean(end) for end in zip(*(ours[:3] for ours in each), strict=True))
            return Ours(value, low, high, each[0].basis)
        what = self.subject
        if isinstance(what, Operation):
            price = getattr(Technology(self.node).unit(what), quantity)
            macs, value, basis = 1, price.value, price.basis
            low, high = value / price.band, value * price.band
        else:
            found = cost(what, self.node)
            macs, value, basis = found.macs_per_cycle, getattr(found, quantity), found.basis[quantity]
            low, high = found.band[quantity]
        scale = self.times / (macs if quantity == "area_um2" else 1)
        return Ours(value * scale, low * scale, high * scale, basis)

    def on(self, library: prices.Library, quantity: str) -> list[float]:
        """The same on one library, without a band; energy of settled values and with glitches."""
        what = self.subject
        planned = operation_plan(what) if isinstance(what, Operation) else plan(what)
        if quantity == "delay_ns":
            return [self.times * library.delay_ns(planned)]
        each = (SETTLED, INERTIAL) if quantity == "energy_pj" else (quantity,)
        return [self.times * library.price(planned, q) / planned.macs for q in each]


def unit(text: str, node: str) -> Unit:
    """The unit that a text of ``anchors.csv`` denotes, at a node unless it names one."""
    match = _UNIT.fullmatch(text)
    if match is None:
        raise HalfulpError(f"{text!r} is not [N x ]UNIT[ at NODE], as in 'add fp16' or '4 x fp8_e4m3/fp32:fused4'.")
    return Unit(int(match["times"] or 1), match["unit"], match["node"] or node)


def ratio(one: Unit, other: Unit, quantity: str) -> Ours:
    """Of two units at one node: what the libraries around it say apart, wider by the fits' errors of both.

    Of one unit at two nodes: within what we expect of scaling.
    """
    value = one.price(quantity).value / other.price(quantity).value
    if one.node != other.node:
        return Ours(value, value / BANDS["scaled"], value * BANDS["scaled"], "scaled")
    low = high = value
    for library in Technology(one.node).libraries:
        name = INERTIAL if quantity == "energy_pj" else quantity
        widened = library.errors[name].factor ** math.sqrt(2)  # the errors of both do not go together
        pairs = zip(one.on(library, quantity), other.on(library, quantity), strict=True)
        apart = [a / b for a, b in pairs]
        low, high = min(low, min(apart) / widened), max(high, max(apart) * widened)
    return Ours(value, low, high, "ratio")


def _measured(anchor: Anchor) -> Ours | None:
    """What was measured of the very pair, over the libraries."""
    found = [
        float(row["value"])
        for row in measured()
        if all(row[key] == getattr(anchor, key) for key in ("anchor", "quantity", "subject", "versus"))
    ]
    if not found:
        return None
    return Ours(geometric_mean(found), min(found) / MEASURED, max(found) * MEASURED, "measured")


def compare(anchor: Anchor) -> Comparison:
    """A published number beside ours: measured where the very pair was, else priced."""
    ours = _measured(anchor)
    if ours is None and anchor.ours:
        node = NODELESS if math.isnan(nanometres(anchor.node)) else anchor.node
        one = unit(anchor.ours, node)
        if anchor.quantity in QUANTITIES:
            ours = one.price(anchor.quantity)
        else:
            ours = ratio(one, unit(anchor.ours_versus, node), RATIOS[anchor.quantity])
    return Comparison(anchor, ours)


@cache
def comparisons() -> tuple[Comparison, ...]:
    """All of them, paper by paper as ``anchors.toml`` orders them."""
    order = list(papers())
    return tuple(map(compare, sorted(anchors(), key=lambda row: order.index(row.anchor))))


# ---- summaries


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


class Summary(NamedTuple):
    """Of the priced numbers of one quantity in one paper: ours / published."""

    anchor: str
    quantity: str
    rows: int  #: all
    priced: int
    mean: float | None  #: geometric
    spread: float | None  #: x/÷, the standard deviation of the logarithms
    least: float | None
    most: float | None
    missed: int


def summaries() -> list[Summary]:
    """Paper by paper, quantity by quantity."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for found in comparisons():
        groups.setdefault((found.anchor.anchor, found.anchor.quantity), []).append(found)
    return [_summary(*key, rows) for key, rows in groups.items()]


def _summary(anchor: str, quantity: str, rows: list[Comparison]) -> Summary:
    ratios = [found.ratio for found in rows if found.ratio is not None]
    missed = sum(found.missed for found in rows)
    if not ratios:
        return Summary(anchor, quantity, len(rows), 0, None, None, None, None, missed)
    mean = geometric_mean(ratios)
    spread = math.exp(math.sqrt(sum(math.log(r / mean) ** 2 for r in ratios) / len(ratios)))
    return Summary(anchor, quantity, len(rows), len(ratios), mean, spread, min(ratios), max(ratios), missed)


def unexplained() -> list[str]:
    """What is wrong with the explanations: misses without one, ones of no miss, ones that nobody uses."""
    found, used = [], set()
    for row in comparisons():
        a = row.anchor
        name = f"{a.anchor} {a.quantity} {a.subject}"
        known = papers()[a.anchor].get("misses", {})
        if row.missed and not a.miss:
            found.append(f"{name}: a miss without an explanation")
        if a.miss and not row.missed:
            found.append(f"{name}: explains what is no miss")
        if a.miss and a.miss not in known:
            found.append(f"{name}: no explanation {a.miss}")
        used.add((a.anchor, a.miss))
    return found + [
        f"{anchor}: explanation {name} is used by no row"
        for anchor, paper in papers().items()
        for name in paper.get("misses", {})
        if (anchor, name) not in used
    ]
