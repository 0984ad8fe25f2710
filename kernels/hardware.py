"""Hardware measured on data: a datapath's unit, mapped on a cell library, with the operands of a run through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.orders import lanes
from ..emulator.rtl.design import design
from ..emulator.silicon.measure import Measurement, measure_netlist
from ..emulator.silicon.synthesis import synthesise
from .capture import Dot
from .machine import Machine
from .stimulus import captured_stimulus


@dataclass(frozen=True)
class MeasuredCost:
    """What the unit of a datapath takes on a library, for the operands that it was given (tier 3)."""

    datapath: Datapath
    operands: str  #: what they were
    whole: Measurement  #: mapped as one module; its totals are those below
    parts: Measurement  #: mapped module by module, for the shares of components

    @property
    def area_um2(self) -> float:
        return self.whole.area_um2

    @property
    def delay_ns(self) -> float:
        """The longest path, registers' set-up included."""
        return self.whole.delay_ns

    @property
    def macs_per_cycle(self) -> int:
        return lanes(self.datapath.order)

    @property
    def energy_pj(self) -> float:
        """Per multiply-accumulate, with the glitches that get through gates with inertia."""
        return self.whole.energy_inertial_pj / self.macs_per_cycle

    @property
    def energy_settled_pj(self) -> float:
        """Per multiply-accumulate, of transitions between settled values only: a lower bound."""
        return self.whole.energy_settled_pj / self.macs_per_cycle

    def shares(self) -> dict[str, dict[str, float]]:
        """Component -> its share of area and energy; instances in a component count with it, ``top`` is the rest."""
        totals: dict[str, dict[str, float]] = {}
        for path, values in self.parts.by_component.items():
            part = totals.setdefault(path.split(".")[0] or "top", {"area": 0.0, "energy": 0.0})
            part["area"] += values["area_um2"] / self.parts.area_um2
            part["energy"] += values["energy_inertial_pj"] / self.parts.energy_inertial_pj
        return totals

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        return {
            "datapath": self.datapath.name,
            "operands": self.operands,
            "area_um2": self.area_um2,
            "energy_pj": self.energy_pj,
            "energy_settled_pj": self.energy_settled_pj,
            "delay_ns": self.delay_ns,
            "leakage_nw": self.whole.leakage_nw,
            "macs_per_cycle": self.macs_per_cycle,
            "shares": self.shares(),
            "library": self.whole.library,
            "library_digest": self.whole.library_digest,
            "tool": self.whole.tool,
        }


def measured_cost(
    datapath: Datapath | str,
    liberty: str | Path,
    dots: Sequence[Dot],
    operands: str = "captured",
    clock_ns: float | None = None,
    pipeline: int = 0,
    seed: int = 1,
    random: str | None = None,
    eager: bool = False,
) -> MeasuredCost:
    """Make, map and simulate a datapath's unit on dot products, as ``Machine.capture`` gives them.

    Parameters
    ----------
    liberty : path of the cell library.
    operands : what they are, for reports.
    clock_ns : map for this clock and wait so long between steps; None: for the least area, at the longest path.
    seed : of the random bits of stochastic rounding.
    random, eager : as ``rtl.design.design`` takes them: the unit's own LFSR; eager stochastic rounding.
    """
    datapath = Datapath.parse(datapath)
    if not dots:
        raise HalfulpError("there are no operands to measure with: capture some dot products.")
    made = design(datapath, pipeline=pipeline, random=random, eager=eager)
    stimulus = captured_stimulus(datapath, dots, seed, made.random)
    whole, parts = (
        measure_netlist(synthesise(made.verilog, made.name, liberty, clock_ns, hierarchy), stimulus, clock_ns)[0]
        for hierarchy in (False, True)
    )
    return MeasuredCost(datapath, operands, whole, parts)


def normal_dots(datapath: Datapath, n_dots: int = 16, length: int = 64, seed: int = 0) -> list[Dot]:
    """Dot products of normally distributed operands of standard deviation 1, of fixed point a quarter of the range."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 0]))
    machine = Machine(datapath, seed=seed, on_inexact="quantize")
    sigma = [min(1.0, fmt.max_finite / 4) for fmt in (datapath.a, datapath.b)]
    with machine.capture(n_dots) as sample:
        side = max(round(n_dots**0.5), 1)
        machine.matmul(draw.normal(0, sigma[0], (side, length)), draw.normal(0, sigma[1], (length, -(-n_dots // side))))
    return sample.dots
