"""Hardware measured on data: a unit, mapped on a cell library, with the operands of a run through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.functions import Function
from ..emulator.orders import lanes, macs_per_clock
from ..emulator.random import LFSR
from ..emulator.rounding import Rounding
from ..emulator.rtl.design import design, subject
from ..emulator.silicon.designs import normal
from ..emulator.silicon.measure import Measurement, measure_netlist
from ..emulator.silicon.synthesis import synthesise
from .arrays import encode, quantize
from .capture import Dot, load_arrays
from .machine import Machine
from .stimulus import Columns, captured_stimulus

VECTORS = 1000  #: of normally distributed operands of a function unit


@dataclass(frozen=True)
class MeasuredCost:
    """What a unit takes on a library, for the operands that it was given (tier 3)."""

    unit: Datapath | Function
    operands: str  #: what they were
    whole: Measurement  #: mapped as one module; its totals are those below
    parts: Measurement  #: mapped module by module, for the shares of components
    clock_ns: float | None = None  #: that it was mapped for; None: for the least area

    @property
    def name(self) -> str:
        unit = self.unit
        return unit.name if isinstance(unit, Datapath) else f"{unit.name} {unit.described}"

    @property
    def per(self) -> str:
        """What the energy is of."""
        return "MAC" if isinstance(self.unit, Datapath) else "operation"

    @property
    def area_um2(self) -> float:
        return self.whole.area_um2

    @property
    def delay_ns(self) -> float:
        """The longest path, registers' set-up included."""
        return self.whole.delay_ns

    @property
    def macs_per_cycle(self) -> int:
        """At most, by all lanes; of a function unit, operations."""
        return lanes(self.unit.order) if isinstance(self.unit, Datapath) else 1

    @property
    def _macs_per_clock(self) -> float:
        """Multiply-accumulations, or operations, on average."""
        return macs_per_clock(self.unit.order) if isinstance(self.unit, Datapath) else 1

    @property
    def energy_pj(self) -> float:
        """Per multiply-accumulate, or operation, with the glitches that get through gates with inertia."""
        return self.whole.energy_inertial_pj / self._macs_per_clock

    @property
    def energy_settled_pj(self) -> float:
        """The same, of transitions between settled values only: a lower bound."""
        return self.whole.energy_settled_pj / self._macs_per_clock

    @property
    def clock_met(self) -> bool | None:
        """None: no clock was asked for."""
        return None if self.clock_ns is None else self.delay_ns <= self.clock_ns

    @property
    def conditions(self) -> str:
        """What the numbers hold for."""
        goal = "the least area" if self.clock_ns is None else f"a clock of {self.clock_ns:g} ns"
        return f"mapped for {goal}, {self.whole.voltage_v:g} V, the library's corner, no wires"

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
            "unit": self.name,
            "energy_is_per": self.per,
            "operands": self.operands,
            "area_um2": self.area_um2,
            "energy_pj": self.energy_pj,
            "energy_settled_pj": self.energy_settled_pj,
            "delay_ns": self.delay_ns,
            "leakage_nw": self.whole.leakage_nw,
            "clock_ns": self.clock_ns,
            "clock_met": self.clock_met,
            "conditions": self.conditions,
            "macs_per_cycle": self.macs_per_cycle,
            "shares": self.shares(),
            "library": self.whole.library,
            "library_digest": self.whole.library_digest,
            "tool": self.whole.tool,
        }


def measured_cost(
    unit: Datapath | Function | str,
    liberty: str | Path,
    data: Sequence[Dot] | Mapping[str, ArrayLike],
    operands: str = "captured",
    clock_ns: float | None = None,
    pipeline: int = 0,
    seed: int = 1,
    rounding: Rounding | str | None = None,
    random: str | None = None,
    eager: bool = False,
) -> MeasuredCost:
    """Make, map and simulate a unit on data.

    Parameters
    ----------
    unit : a datapath, or a function unit, or its name.
    liberty : path of the cell library.
    data : for a datapath dot products, as ``Machine.capture`` gives them; for a function unit the values of each of
        its operands ``a``, ``b``, ``c``, one an operation, which are rounded to nearest into their formats.
    operands : what they are, for reports.
    clock_ns : map for this clock and wait so long between steps; None: for the least area, at the longest path.
    seed : of the random bits of stochastic rounding.
    rounding : of a function unit, RNE unless told; a datapath has its own.
    random, eager : as ``rtl.design.design`` takes them: the unit's own LFSR; eager stochastic rounding.
    """
    unit = subject(unit, "RNE" if rounding is None else rounding)
    if isinstance(unit, Datapath):
        if rounding is not None:
            raise HalfulpError(f"a datapath has its own rounding: write {unit.name.split('@')[0]}@{rounding}.")
        if isinstance(data, Mapping):
            raise HalfulpError(f"{unit.name} is measured on dot products that Machine.capture saved.")
        if not data:
            raise HalfulpError("there are no operands to measure with: capture some dot products.")
        made = design(unit, pipeline=pipeline, random=random, eager=eager)
        stimulus = captured_stimulus(unit, data, seed, made.random)
    else:
        if not isinstance(data, Mapping):
            raise HalfulpError(f"{unit.name} is a function unit: it is measured on the values of its operands.")
        made = design(unit, pipeline=pipeline, random=random, eager=eager)
        stimulus = _function_stimulus(unit, data, seed, made.random)
    whole, parts = (
        measure_netlist(synthesise(made.verilog, made.name, liberty, clock_ns, hierarchy), stimulus, clock_ns)[0]
        for hierarchy in (False, True)
    )
    return MeasuredCost(unit, operands, whole, parts, clock_ns)


def normal_dots(datapath: Datapath, n_dots: int = 16, length: int = 64, seed: int = 0) -> list[Dot]:
    """Dot products of normally distributed operands (``silicon.designs.normal``)."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 0]))
    machine = Machine(datapath, seed=seed, on_inexact="quantize")
    side = max(round(n_dots**0.5), 1)
    a, b = (side, length), (length, -(-n_dots // side))
    with machine.capture(n_dots) as sample:
        machine.matmul(normal(datapath.a, a, draw), normal(datapath.b, b, draw))
    return sample.dots


# ---- function units


def normal_values(function: Function, number: int = VECTORS, seed: int = 0) -> dict[str, np.ndarray]:
    """Normally distributed operands, as those of ``normal_dots``."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 0]))
    formats = zip("abc", function.numbers, strict=False)
    return {name: normal(fmt, (number,), draw) for name, fmt in formats}


def load_values(path: str | Path, function: Function) -> dict[str, np.ndarray]:
    """The operands of a function unit from an .npz file with an array of values for each of them, ``a``, ``b``, ``c``.

    Raises
    ------
    HalfulpError
        There is no such file, or it holds something else.
    """
    wanted, stored = "abc"[: len(function.numbers)], load_arrays(path)
    if sorted(stored) != list(wanted):
        raise HalfulpError(
            f"{path} holds {', '.join(stored) or 'nothing'}: the operands of {function.name} are arrays of values named"
            f" {', '.join(wanted)}."
        )
    _checked(stored, str(path))
    return stored


def _checked(values: Mapping[str, np.ndarray], where: str) -> None:
    shapes = {array.shape for array in values.values()}
    if any(array.dtype.kind not in "fiub" for array in values.values()):
        raise HalfulpError(f"{where}: operands are real numbers.")
    if len(shapes) != 1 or min(array.size for array in values.values()) < 2:
        raise HalfulpError(f"{where}: operands are arrays of one shape, of two values at least.")


def _function_stimulus(function: Function, data: Mapping[str, ArrayLike], seed: int, lfsr: LFSR | None) -> Columns:
    """The codes of each port, operation by operation; an LFSR of the unit's own is loaded first."""
    values = {name: np.asarray(array) for name, array in data.items()}
    _checked(values, f"operands of {function.name}")
    columns = {}
    for name, fmt in zip("abc", function.numbers, strict=False):
        flat = quantize(values[name].astype(np.float64).ravel(), fmt)
        columns[name] = encode(flat, fmt).tolist()
    count = len(columns["a"])
    if lfsr is not None:
        columns |= {"seed_load": [1] + [0] * (count - 1), "seed": [lfsr.seed] * count}
    elif function.random_bits:
        draw = np.random.Generator(np.random.Philox(key=[seed, 2]))
        columns["random"] = draw.integers(0, 1 << function.random_bits, count, dtype=np.uint64).tolist()
    return columns
