"""Cost: what the unit of a datapath, or a function unit, takes at a technology node, as a whole and part by part.

Three tiers say what hardware takes. This is the first: in an instant, parts priced by what was fitted to measured
designs (``technology``). The second are the tables of those designs (``silicon/tables``, ``silicon.characterize``). The
third measures the unit itself on the operands of a run (``kernels.hardware``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .counts import Part
from .datapath import Datapath
from .errors import HalfulpError
from .estimates import Price, total_of
from .formats import FloatFormat
from .functions import Function
from .ledger import Operation, dot_operations
from .orders import Blocked, Exact, Fused, TwoStage, macs_per_clock
from .plan import Plan, plan
from .prices import stages
from .random import LFSR
from .rounding import Mode, Rounding
from .rtl.design import lfsr_of, subject
from .technology import QUANTITIES, Technology, UnitCost

MOST_RANKS = 3  #: of pipeline registers, as ``rtl.dot.DotUnit`` has them

#: Unit of a quantity, in print.
UNITS = {"energy_pj": "pJ", "area_um2": "um2", "delay_ns": "ns", "leakage_nw": "nW"}


class Component(NamedTuple):
    """What parts of a unit that do the same job take together."""

    name: str
    number: int
    area_um2: float
    energy_pj: float  #: per multiply-accumulate, or operation; 0 of what works once per dot product
    area_share: float
    energy_share: float


@dataclass(frozen=True)
class Cost:
    """Price of a unit at a node."""

    unit: str  #: its name
    node: str
    energy_pj: float  #: per multiply-accumulate, of a function unit per operation; memory excluded
    area_um2: float  #: of the whole unit, which does ``macs_per_cycle``
    delay_ns: float  #: the longest way between registers, or from operands to the sum
    leakage_nw: float  #: of the whole unit
    macs_per_cycle: int  #: at most, by all of its lanes; of a function unit, operations
    basis: dict[str, str]  #: per quantity, the weakest basis among its terms
    band: dict[str, tuple[float, float]]  #: per quantity, low and high estimate
    sources: tuple[str, ...]
    parts: tuple[tuple[str, int, UnitCost], ...]  #: name, number in the unit, prices of them all for one clock
    components: tuple[Component, ...]  #: the same, by job: areas and energies add up to the unit's
    meaning: dict[str, str]  #: basis -> how such a number came about, in a sentence
    warnings: tuple[str, ...] = ()  #: where the unit lies outside of what was measured
    per: str = "MAC"  #: what the energy is of, and what is done in a cycle

    def price(self, quantity: str) -> Price:
        """One of QUANTITIES with its band."""
        value = getattr(self, quantity)
        band = self.band[quantity][1] / value if value else 1.0
        return Price(value, self.basis[quantity], band, frozenset(self.sources))

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        told = ("unit", "node", *QUANTITIES, "macs_per_cycle", "basis", "band", "sources", "meaning", "warnings")
        return {name: getattr(self, name) for name in told} | {
            "energy_is_per": self.per,
            "parts": [part._asdict() for part in self.components],
        }

    def __str__(self) -> str:
        lines = [f"{self.unit} at {self.node}, {self.macs_per_cycle} {self.per} per cycle"]
        for q in QUANTITIES:
            low, high = self.band[q]
            unit = UNITS[q] + f" per {self.per}" * (q == "energy_pj")
            value, band = f"{_figures(getattr(self, q), 4):>10} {unit}", f"{_figures(low)} ... {_figures(high)}"
            lines.append(f"  {q.split('_')[0]:<9}{value:<28} {band:<20} {self.basis[q]}")
        width = max(len(part.name) for part in self.components)
        lines.append(f"  {'part':<{width}}  number  area um2   share  energy pJ   share")
        for part in self.components:
            area = f"{_figures(part.area_um2):>8}  {part.area_share:6.1%}"
            energy = f"{_figures(part.energy_pj):>9}  {part.energy_share:6.1%}" if part.energy_pj else f"{'-':>9}"
            lines.append(f"  {part.name:<{width}}  {part.number:>6}  {area}  {energy}")
        lines += [f"  {basis}: {sentence}" for basis, sentence in self.meaning.items()]
        if self.energy_pj and self.basis["energy_pj"] != "table":
            lines.append("  energy: between that without glitches and that with all of them, which the band has")
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join(lines + [f"  source: {source}" for source in self.sources])


def _figures(value: float, significant: int = 3) -> str:
    """Significant figures, without an exponent where that is shorter."""
    rounded = f"{value:.{significant}g}"
    return f"{float(rounded):.0f}" if 1000 <= value < 1e7 else rounded


class _Priced(NamedTuple):
    """A part, with the clocks in which it works per multiply-accumulate."""

    name: str
    job: str
    number: int
    unit: UnitCost
    often: float


def cost(
    unit: Datapath | Function | str,
    node: str | Path = "45nm",
    pipeline: int = 0,
    rounding: Rounding | str | None = None,
    published: bool = False,
    random: LFSR | str | None = None,
    eager: bool = False,
) -> Cost:
    """Area, energy and delay of a unit, with its parts, sources and error band.

    Parameters
    ----------
    unit : a datapath, or a function unit (``"fp16_fma"``, ``"fp32_to_bf16"``), or its name.
    node, published : a node, or the path of a fitted library, and whether published prices count: see ``Technology``.
    pipeline : ranks of registers of a datapath's unit besides that of the sum, 0 to 3, as of ``rtl.dot.DotUnit``.
    rounding : of a function unit, RNE unless told; a datapath has its own.
    random, eager : the unit's own LFSR (``"lfsr16"``), and eager stochastic rounding, as of ``rtl.design``.

    The unit is that of ``rtl.dot`` or ``rtl.units``, all of its parts and registers. What works once per dot product
    (the rounding into an output format, that of an exact accumulator, the last sum of lanes) counts in all but energy:
    a run's energy includes it; an outer accumulator's addition counts once per block. If published prices count, and
    the table has the function unit or all of a sequential datapath's, they are taken as printed, without registers.
    """
    what = subject(unit, "RNE" if rounding is None else rounding)
    lfsr = lfsr_of(what, random)
    if isinstance(unit, Function) and rounding is not None and Rounding.parse(rounding) != unit.rounding:
        raise HalfulpError(f"{unit.name} has its own rounding, {unit.rounding}, not {rounding}.")
    if eager:
        _check_eager(what)
    technology = _technology(node, published)
    if isinstance(what, Function):
        if pipeline:
            raise HalfulpError(f"registers inside of function units have no price: measure {what.name} with them.")
        found = _function_cost(what, technology, lfsr, eager)
        return _told(found, technology) if published else found
    if rounding is not None:
        raise HalfulpError(f"a datapath has its own rounding: write {what.name.split('@')[0]}@{rounding}.")
    if pipeline not in range(MOST_RANKS + 1):
        raise HalfulpError(f"a datapath's unit has 0 to {MOST_RANKS} ranks of pipeline registers, not {pipeline!r}.")
    found = _datapath_cost(what, technology, pipeline, lfsr, eager)
    return _told(found, technology) if published else found


def _told(found: Cost, technology: Technology) -> Cost:
    """Says so where published prices were asked for and some are not."""
    others = [q for q, basis in found.basis.items() if basis != "table"]
    if technology.has_library:
        none = f"published prices are those of nodes without a cell library, which {found.node} has"
    elif others:
        none = f"no published table here has {', '.join(others)} of {found.unit} at {found.node}"
    return replace(found, warnings=(*found.warnings, none)) if others else found


def _technology(node: str | Path, published: bool) -> Technology:
    """A file may change; what is said of a node stays."""
    return Technology(node, published) if str(node).endswith(".json") else _at_node(str(node), published)


@lru_cache(maxsize=64)
def _at_node(node: str, published: bool) -> Technology:
    return Technology(node, published)


@lru_cache(maxsize=4096)
def _datapath_cost(datapath: Datapath, technology: Technology, pipeline: int, lfsr: LFSR | None, eager: bool) -> Cost:
    planned = plan(datapath, pipeline, lfsr, eager)
    if technology.has_published(datapath):
        if pipeline:
            raise HalfulpError(f"the published price of {datapath.name} is without registers: pipeline=0.")
        operations = dot_operations(datapath, planned.macs)
        units = [(str(op), n, technology.unit(op)) for op, n in operations.items()]
        parts = [_Priced(name, name, n, _times(unit, n), 1 / planned.macs) for name, n, unit in units]
        return _put_together(datapath.name, technology, planned.macs, [unit.delay_ns for *_, unit in units], parts)
    often = 1 / macs_per_clock(datapath.order)
    outer = {"outer": 1 / datapath.order.length} if isinstance(datapath.order, Blocked) else {}
    parts = _priced(planned, technology, often, outer)
    ways = [technology.delay(stage) for stage in stages(planned)]
    longest = max(ways, key=lambda price: price.value)
    found = _put_together(datapath.name, technology, planned.macs, [longest], parts)
    return replace(found, warnings=_warnings(technology, planned))


@lru_cache(maxsize=4096)
def _function_cost(function: Function, technology: Technology, lfsr: LFSR | None, eager: bool) -> Cost:
    planned, name = plan(function, 0, lfsr, eager), f"{function.name} {function.described}"
    operation = _operation(function)
    if operation is not None and any(technology.published(operation, quantity) for quantity in QUANTITIES):
        unit = technology.unit(operation)
        parts = [_Priced(function.name, function.name, 1, unit, 1)]
        found = _put_together(name, technology, 1, [unit.delay_ns], parts)
    else:
        parts, delay = _priced(planned, technology, 1, {}), technology.delay(planned.parts)
        found = _put_together(name, technology, 1, [delay], parts)
        found = replace(found, warnings=_warnings(technology, planned))
    return replace(found, per="operation")


def _check_eager(what: Datapath | Function) -> None:
    """Refuses units of which there is no eager RTL (``rtl.eager``)."""
    if isinstance(what, Function):
        sums = [(what.result, what.rounding)] if what.operation in ("add", "sub", "fma") else []
    else:
        order = what.inner_order
        sums = [] if isinstance(order, Fused | TwoStage) or order == Exact() else list(what.accumulators)
    plain = [isinstance(fmt, FloatFormat) and how.mode is Mode.SR and not how.corrected for fmt, how in sums]
    if not plain or not all(plain):
        raise HalfulpError(
            f"{what.name}: eager rounding is that of sums of two floats by plain SR<k>; here are others, or none."
        )


def _priced(planned: Plan, technology: Technology, often: float, roles: dict[str, float]) -> list[_Priced]:
    """The parts of a plan; what comes behind the register works once per dot product."""
    technology.check(planned)
    return [
        _Priced(
            part.name,
            _job(part),
            part.number,
            technology.part(part),
            0.0 if part.stage > 1 else roles.get(part.role, often),
        )
        for part in planned.parts
    ]


def _operation(function: Function) -> Operation | None:
    """The operation of a published table that a function unit carries out."""
    kind = {"mul": "mul", "add": "add", "sub": "add"}.get(function.operation)
    if kind is None:
        return None
    a, b = function.numbers
    return Operation(kind, a, b, function.result, function.rounding)


def _job(part: Part) -> str:
    """What a part is called in print."""
    return {"output": f"output {part.name}", "outer": f"block's {part.name}", "registers": "registers"}.get(
        part.role, part.name
    )


def _times(unit: UnitCost, number: int) -> UnitCost:
    energy, area, leakage = (
        price._replace(value=price.value * number) for price in (unit.energy_pj, unit.area_um2, unit.leakage_nw)
    )
    return UnitCost(energy, area, unit.delay_ns, leakage)


def _put_together(name: str, technology: Technology, macs: int, delays: list[Price], parts: list[_Priced]) -> Cost:
    """The price of a unit of parts; ``delays`` add up."""
    terms = {
        "energy_pj": [(part.unit.energy_pj, part.often) for part in parts],
        "area_um2": [(part.unit.area_um2, 1.0) for part in parts],
        "delay_ns": [(delay, 1.0) for delay in delays],
        "leakage_nw": [(part.unit.leakage_nw, 1.0) for part in parts],
    }
    totals = {q: total_of(terms[q]) for q in QUANTITIES}
    basis = {q: total.basis for q, (total, _) in totals.items()}
    values = {q: total.value for q, (total, _) in totals.items()}
    return Cost(
        unit=name,
        node=technology.node,
        energy_pj=values["energy_pj"],
        area_um2=values["area_um2"],
        delay_ns=values["delay_ns"],
        leakage_nw=values["leakage_nw"],
        macs_per_cycle=macs,
        basis=basis,
        band={q: band for q, (_, band) in totals.items()},
        sources=tuple(sorted(frozenset[str]().union(*(total.sources for total, _ in totals.values())))),
        parts=tuple((part.name, part.number, part.unit) for part in parts),
        components=_components(parts),
        meaning={b: technology.meaning(b) for b in dict.fromkeys(basis.values())},
    )


def _components(parts: list[_Priced]) -> tuple[Component, ...]:
    """Parts by job."""
    jobs: dict[str, list[float]] = {}
    for part in parts:
        job = jobs.setdefault(part.job, [0, 0.0, 0.0])
        for i, value in enumerate((part.number, part.unit.area_um2.value, part.unit.energy_pj.value * part.often)):
            job[i] += value
    area, energy = (sum(job[i] for job in jobs.values()) or 1.0 for i in (1, 2))
    return tuple(Component(name, int(n), a, e, a / area, e / energy) for name, (n, a, e) in jobs.items())


def _warnings(technology: Technology, planned: Plan) -> tuple[str, ...]:
    outside = dict.fromkeys(w for library in technology.libraries for w in library.outside(planned))
    return (f"larger than all that was measured: {', '.join(outside)}",) if outside else ()
