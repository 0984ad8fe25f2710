"""Cost: what the unit of a datapath, or a function unit, takes at a technology node, as a whole and part by part.

Three tiers say what hardware takes. This is the first: in an instant, parts priced by what was fitted to measured
designs (``technology``), or, where a published table has that very unit at a node without a library, its numbers. The
second are the tables of those designs (``silicon/tables``, ``silicon.characterize``). The third measures the unit
itself on the operands of a run (``kernels.hardware``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .counts import Part
from .datapath import Datapath
from .errors import HalfulpError
from .functions import Function
from .ledger import Operation, dot_operations
from .orders import Blocked, Systolic
from .plan import Plan, plan
from .rounding import Rounding
from .rtl.design import subject
from .technology import QUANTITIES, Price, Technology, UnitCost, total_of

MOST_RANKS = 3  #: of pipeline registers, as ``rtl.dot.DotUnit`` has them
STEPS = 1024  #: of a long dot product

#: Unit of a quantity, in print.
UNITS = {"energy_pj": "pJ", "area_um2": "um2", "delay_ns": "ns"}


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
    macs_per_cycle: int  #: of a function unit, operations
    basis: dict[str, str]  #: per quantity, the weakest basis among its terms
    band: dict[str, tuple[float, float]]  #: per quantity, low and high estimate
    sources: tuple[str, ...]
    parts: tuple[tuple[str, int, UnitCost], ...]  #: name, number in the unit, prices of them all for one clock
    components: tuple[Component, ...]  #: the same, by job: areas and energies add up to the unit's
    meaning: dict[str, str]  #: basis -> how such a number came about, in a sentence
    warnings: tuple[str, ...] = ()  #: where the unit lies outside of what was measured
    per: str = "MAC"  #: what the energy is of, and what is done in a cycle

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
            lines.append(f"  {q.split('_')[0]:<7}{value:<28} {band:<20} {self.basis[q]}")
        width = max(len(part.name) for part in self.components)
        lines.append(f"  {'part':<{width}}  number  area um2   share  energy pJ   share")
        for part in self.components:
            area = f"{_figures(part.area_um2):>8}  {part.area_share:6.1%}"
            energy = f"{_figures(part.energy_pj):>9}  {part.energy_share:6.1%}" if part.energy_pj else f"{'-':>9}"
            lines.append(f"  {part.name:<{width}}  {part.number:>6}  {area}  {energy}")
        lines += [f"  {basis}: {sentence}" for basis, sentence in self.meaning.items()]
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
    published: bool = True,
) -> Cost:
    """Area, energy and delay of a unit, with its parts, sources and error band.

    Parameters
    ----------
    unit : a datapath, or a function unit (``"fp16_fma"``, ``"fp32_to_bf16"``), or its name.
    node, published : a node, or the path of a fitted library, and whether published prices count: see ``Technology``.
    pipeline : ranks of registers of a datapath's unit besides that of the sum, 0 to 3, as of ``rtl.dot.DotUnit``.
    rounding : of a function unit, RNE unless told; a datapath has its own.

    The unit is that of ``rtl.dot`` or ``rtl.units``, all of its parts and registers. What works once per dot product
    (the rounding into an output format, the last sum of lanes) counts in area and delay only: a run's energy includes
    it, and an outer accumulator's addition counts once per block. Where the published table has every unit of a
    sequential datapath, or a function unit, these are taken as printed, without registers.
    """
    what = subject(unit, "RNE" if rounding is None else rounding)
    if isinstance(what, Function):
        if pipeline:
            raise HalfulpError(f"registers inside of function units have no price: measure {what.name} with them.")
        return _function_cost(what, Technology(node, published))
    if rounding is not None:
        raise HalfulpError(f"a datapath has its own rounding: write {what.name.split('@')[0]}@{rounding}.")
    if not 0 <= pipeline <= MOST_RANKS:
        raise HalfulpError(f"a datapath's unit has 0 to {MOST_RANKS} ranks of pipeline registers, not {pipeline}.")
    return _datapath_cost(what, Technology(node, published), pipeline)


@lru_cache(maxsize=4096)
def _datapath_cost(datapath: Datapath, technology: Technology, pipeline: int) -> Cost:
    planned = plan(datapath, pipeline)
    whole = replace(datapath, output=datapath.accumulator, output_rounding=datapath.rounding)
    block = datapath.order.length if isinstance(datapath.order, Blocked) else planned.macs
    span = block * STEPS if isinstance(datapath.inner_order, Systolic) else block  # lanes are summed up at the end
    operations = dot_operations(whole, span)
    energies = [(technology.unit(op).energy_pj, n / span) for op, n in operations.items()]
    if technology.has_published(datapath):
        parts = [
            _Priced(str(op), str(op), n, technology.unit(op), 1 / planned.macs)
            for op, n in dot_operations(datapath, planned.macs).items()
        ]
        areas = [(part.unit.area_um2, part.number) for part in parts]
        delays = [(part.unit.delay_ns, 1) for part in parts]
        parts = [part._replace(unit=_times(part.unit, part.number)) for part in parts]
        return _put_together(datapath.name, technology, planned.macs, energies, areas, delays, parts)
    often = {"output": 0.0, "outer": 1 / block}
    parts = [
        _Priced(part.name, _job(part), part.number, technology.parts([part]), often.get(part.role, 1 / planned.macs))
        for part in planned.parts
    ]
    energies += [(part.unit.energy_pj, 1 / planned.macs) for part in parts if part.job == "registers"]
    areas = [(part.unit.area_um2, 1) for part in parts]
    delays = [(technology.longest(planned), 1)]
    found = _put_together(datapath.name, technology, planned.macs, energies, areas, delays, parts)
    return replace(found, warnings=_warnings(technology, planned))


@lru_cache(maxsize=4096)
def _function_cost(function: Function, technology: Technology) -> Cost:
    planned = plan(function)
    whole = technology.whole(planned)
    parts = [_Priced(part.name, _job(part), part.number, technology.parts([part]), 1) for part in planned.parts]
    operation, warnings = _operation(function), _warnings(technology, planned)
    if operation is not None:
        published = [technology.published(operation, quantity) for quantity in QUANTITIES]
        if any(published):
            whole = UnitCost(*(row or own for row, own in zip(published, whole, strict=True)))
            parts, warnings = [_Priced(function.name, function.name, 1, whole, 1)], ()
    energy, area, delay = ([(price, 1.0)] for price in whole)
    name = f"{function.name} {function.described}"
    found = _put_together(name, technology, 1, energy, area, delay, parts)
    return replace(found, warnings=warnings, per="operation")


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
    energy, area, delay = unit
    return UnitCost(energy._replace(value=energy.value * number), area._replace(value=area.value * number), delay)


def _put_together(
    name: str,
    technology: Technology,
    macs: int,
    energies: Iterable[tuple[Price, float]],
    areas: Iterable[tuple[Price, float]],
    delays: Iterable[tuple[Price, float]],
    parts: list[_Priced],
) -> Cost:
    totals = {q: total_of(t) for q, t in zip(QUANTITIES, (energies, areas, delays), strict=True)}
    basis = {q: total.basis for q, (total, _) in totals.items()}
    return Cost(
        unit=name,
        node=technology.node,
        energy_pj=totals["energy_pj"][0].value,
        area_um2=totals["area_um2"][0].value,
        delay_ns=totals["delay_ns"][0].value,
        macs_per_cycle=macs,
        basis=basis,
        band={q: band for q, (_, band) in totals.items()},
        sources=tuple(sorted(frozenset[str]().union(*(total.sources for total, _ in totals.values())))),
        parts=tuple((part.name, part.number, part.unit) for part in parts),
        components=_components(parts, totals["area_um2"][0].value, totals["energy_pj"][0].value),
        meaning={b: technology.meaning(b) for b in dict.fromkeys(basis.values())},
    )


def _components(parts: list[_Priced], area_um2: float, energy_pj: float) -> tuple[Component, ...]:
    """Parts by job. Energies are those of parts by themselves, all made larger alike to add up to the unit's."""
    jobs: dict[str, list[float]] = {}
    for part in parts:
        job = jobs.setdefault(part.job, [0, 0.0, 0.0])
        for i, value in enumerate((part.number, part.unit.area_um2.value, part.unit.energy_pj.value * part.often)):
            job[i] += value
    areas, energies = (sum(job[i] for job in jobs.values()) or 1.0 for i in (1, 2))
    return tuple(
        Component(name, int(n), area_um2 * a / areas, energy_pj * e / energies, a / areas, e / energies)
        for name, (n, a, e) in jobs.items()
    )


def _warnings(technology: Technology, planned: Plan) -> tuple[str, ...]:
    outside = dict.fromkeys(w for library in technology.libraries for w in library.outside(planned))
    return (f"larger than all that was measured: {', '.join(outside)}",) if outside else ()
