"""Measure a design: its Verilog, a cell library and the operands that go through it -> area, delay, energy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import HalfulpError
from .gates import Activity, settle, switch, unpack
from .netlist import Netlist
from .power import PARTS, energies_fj, state_shares
from .power import leakage_nw as gate_leakage_nw
from .synthesis import synthesise
from .timing import Step, analyse


@dataclass(frozen=True)
class Measurement:
    """What a design takes on a library, for a stream of vectors. Components are paths of module instances; the empty
    path is the top module itself, without what is inside of its instances."""

    top: str
    library: str
    library_digest: str  #: the first 16 hexadecimal digits of the SHA-256 of its file
    voltage_v: float
    vectors: int
    period_ns: float  #: between vectors, for the leakage
    area_um2: float
    leakage_nw: float  #: averaged over the vectors
    delay_ns: float  #: the longest path
    energy_settled_pj: float  #: per vector, of transitions between settled values only: a lower bound
    energy_inertial_pj: float  #: per vector, with the glitches that get through gates with inertia
    by_part: dict[str, float]  #: internal, load, clock, leakage -> their share of energy_inertial_pj, pJ
    by_component: dict[str, dict[str, float]]  #: path -> area_um2, leakage_nw, energy_settled_pj, energy_inertial_pj
    cell_counts: dict[str, int]
    critical_path: tuple[Step, ...]
    tool: str  #: what mapped the design, with its version
    script: str = field(repr=False)  #: what it ran

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        return asdict(self) | {"critical_path": [asdict(step) for step in self.critical_path]}


def measure(
    verilog_text: str,
    top: str,
    library: str | Path,
    stimulus: Mapping[str, Sequence[int] | np.ndarray],
    clock_ns: float | None = None,
    period_ns: float | None = None,
    keep_hierarchy: bool = True,
) -> Measurement:
    """Map a design on a cell library, send vectors through it, and say what it takes.

    Parameters
    ----------
    verilog_text : (System)Verilog.
    top : name of the top module.
    library : path of a Liberty file.
    stimulus : input port (the clock left out) -> its codes, one a vector (a clock); any width.
    clock_ns : map for this clock, see ``synthesise``; None: for the least area.
    period_ns : time between vectors; None: the clock, else the delay.
    keep_hierarchy : map module by module, see ``synthesise``; False: as one component.

    Raises
    ------
    HalfulpError
        What ``synthesise`` and ``settle`` raise.
    """
    netlist = synthesise(verilog_text, top, library, clock_ns, keep_hierarchy)
    return measure_netlist(netlist, stimulus, clock_ns if period_ns is None else period_ns)[0]


def measure_netlist(
    netlist: Netlist,
    stimulus: Mapping[str, Sequence[int] | np.ndarray],
    period_ns: float | None = None,
    wire_ff_per_fanout: float = 0.0,
) -> tuple[Measurement, dict[str, np.ndarray]]:
    """``measure`` of a mapped design, and what it put out: output port -> its settled code for each vector."""
    timing = analyse(netlist, wire_ff_per_fanout)
    period = timing.critical_ns if period_ns is None else period_ns
    if not period >= 0:
        raise HalfulpError(f"a period is not negative, so not {period} ns.")
    activity = switch(netlist, timing, settle(netlist, stimulus))
    settled, inertial = (energy / 1000 for energy in energies_fj(netlist, timing, activity, period, wire_ff_per_fanout))
    columns = {
        "area_um2": [gate.cell.area_um2 for gate in netlist.gates],
        "leakage_nw": _leakages(netlist, activity),
        "energy_settled_pj": settled.sum(axis=1),
        "energy_inertial_pj": inertial.sum(axis=1),
    }
    measurement = Measurement(
        top=netlist.top,
        library=netlist.library.name,
        library_digest=netlist.library.digest,
        voltage_v=netlist.library.voltage_v,
        vectors=activity.vectors,
        period_ns=period,
        delay_ns=timing.critical_ns,
        **{name: float(sum(values)) for name, values in columns.items()},
        by_part=dict(zip(PARTS, inertial.sum(axis=0).tolist(), strict=True)),
        by_component=_by_component(netlist, columns),
        cell_counts=netlist.cell_counts,
        critical_path=timing.path,
        tool=netlist.tool,
        script=netlist.script,
    )
    outputs = {name: unpack(activity.bits, nets, activity.vectors) for name, nets in netlist.outputs.items()}
    return measurement, outputs


def _leakages(netlist: Netlist, activity: Activity) -> list[float]:
    shares = state_shares(netlist, activity)
    return [gate_leakage_nw(gate.cell, s) for gate, s in zip(netlist.gates, shares, strict=True)]


def _by_component(netlist: Netlist, columns: Mapping[str, Iterable[float]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(columns, 0.0))
    for name, values in columns.items():
        for gate, value in zip(netlist.gates, values, strict=True):
            found[gate.component][name] += float(value)
    return dict(sorted(found.items()))
