"""Energy from what the nets did, the energies that the library tables, and the loads.

Four parts, each per gate:

* *internal*: per transition of an output (by the input that caused it, and by the state) and of an input. Liberty's
  internal_power leaves out what charges the load at the output (Liberty User Guide, vol. 1, "Modeling internal
  power"), so that this comes on top:
* *load*: V²/2 times the capacitance of each input pin, per transition. It belongs to the gate whose pin it is, whoever
  drives it: a design pays for its own inputs, not for what it drives outside.
* *clock*: both for the clock pins of flip-flops, two transitions a cycle.
* *leakage*: power times period, by the state.

States are those in which the vectors settle. A group ``when`` counts for its share of them; for an output, of those
that any group names, as one of them it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numba import njit

from .cells import FALL, RISE, Cell, Power
from .gates import Activity
from .netlist import Gate, Netlist
from .timing import Timing

PARTS = ("internal", "load", "clock", "leakage")


@njit(cache=True)
def _histograms(first, nets, bits, vectors, starts, counts):
    """How often a gate's variables are in each state: counts[starts[g] + state]."""
    for g in range(len(starts)):
        for v in range(vectors):
            word, bit, state = v // 64, np.uint64(v % 64), 0
            for j in range(first[g], first[g + 1]):
                state |= np.int64(bits[word, nets[j]] >> bit & np.uint64(1)) << (j - first[g])
            counts[starts[g] + state] += 1


def state_shares(netlist: Netlist, activity: Activity) -> list[np.ndarray]:
    """For each gate, the share of vectors in which its variables settle in each state; clocks are 0 half the time."""
    nets = [gate.variables for gate in netlist.gates]
    first = np.cumsum([0] + [len(n) for n in nets])
    starts = np.cumsum([0] + [1 << len(n) for n in nets])
    counts = np.zeros(starts[-1], np.int64)
    flat = np.array([net for n in nets for net in n], np.int64)
    _histograms(first, flat, activity.bits, activity.vectors, starts[:-1], counts)
    shares = [counts[a:b] / activity.vectors for a, b in pairwise(starts)]
    for i, gate in enumerate(netlist.gates):
        if netlist.clock in gate.variables and gate.state:
            bit = 1 << gate.variables.index(netlist.clock)
            low = shares[i]
            shares[i] = (low + np.roll(low, bit)) / 2  # no vector has the clock at 1
    return shares


@lru_cache(maxsize=4096)
def _states(table: int, count: int) -> np.ndarray:
    """The states in which a truth table over them is 1."""
    return np.array([table >> state & 1 for state in range(count)], bool)


def _share(table: int, shares: np.ndarray) -> float:
    return float(shares[_states(table, len(shares))].sum())


def _weights(whens: list[int | None], shares: np.ndarray) -> list[float]:
    """The share of the states that each group stands for; one without ``when`` for those that no other one names."""
    named = 0
    for when in whens:
        named |= when or 0
    full = (1 << len(shares)) - 1
    return [_share(full & ~named if when is None else when, shares) for when in whens]


def leakage_nw(cell: Cell, shares: np.ndarray) -> float:
    """Leakage, nW: by state where the library has it so."""
    weights = _weights([None, *(when for when, _ in cell.leakages)], shares)
    values = [cell.leakage_nw, *(nw for _, nw in cell.leakages)]
    return sum(w * nw for w, nw in zip(weights, values, strict=True)) / (sum(weights) or 1.0)


Edges = tuple[float, float]  #: energy, fJ, of a rise and of a fall


def _transitions(powers: list[Power], slews_ns: Edges, load_ff: float, shares: np.ndarray) -> Edges:
    """Internal energy of a rise and of a fall of a pin whose groups these are: one related pin, several rails."""
    rise = fall = 0.0
    for rail in dict.fromkeys(power.rail for power in powers):
        groups = [power for power in powers if power.rail == rail]
        weights = _weights([power.when for power in groups], shares)
        # an output has switched, so that one of the states was there; an input's groups may leave states out
        whole = sum(weights) if groups[0].related else 1.0
        if whole == 0:
            weights, whole = [1.0] * len(groups), len(groups)
        for weight, power in zip(weights, groups, strict=True):
            if weight:
                rise += weight / whole * power.energy[RISE].at(slews_ns[RISE], load_ff)
                fall += weight / whole * power.energy[FALL].at(slews_ns[FALL], load_ff)
    return rise, fall


@dataclass
class _Pins:
    """Energy of the transitions of one gate's pins, whatever makes them switch."""

    outputs: list[tuple[int, list[tuple[int, Edges]]]]  #: net, and for each input's net those that it causes
    inputs: list[tuple[int, float, Edges]]  #: net, load of a transition, and internal energy


def _pins(
    gate: Gate, timing: Timing, loads_ff: np.ndarray, shares: np.ndarray, half_v2: float, wire_ff: float
) -> _Pins:
    nets = {pin.name: n for pin, n in zip(gate.cell.inputs, gate.inputs, strict=True)}
    outputs = []
    for pin, net in zip(gate.cell.outputs, gate.outputs, strict=True):
        if net >= 0:
            powers = [p for p in gate.cell.powers if p.related in nets and p.pin == pin.name]
            causes = []
            for name in dict.fromkeys(str(p.related) for p in powers):
                slew = float(timing.slew_ns[nets[name]].mean())
                own = [p for p in powers if p.related == name]
                causes.append((nets[name], _transitions(own, (slew, slew), float(loads_ff[net]), shares)))
            outputs.append((net, causes))
    inputs = []
    for pin, net in zip(gate.cell.inputs, gate.inputs, strict=True):
        powers = [p for p in gate.cell.powers if not p.related and p.pin == pin.name]
        slews = float(timing.slew_ns[net, RISE]), float(timing.slew_ns[net, FALL])
        inside = _transitions(powers, slews, 0.0, shares) if powers else (0.0, 0.0)
        inputs.append((net, half_v2 * (pin.capacitance_ff + wire_ff), inside))
    return _Pins(outputs, inputs)


def _spent(pins: _Pins, toggles: np.ndarray, clock: int | None) -> tuple[float, float, float]:
    """Internal, load and clock energy of a gate. An output's transitions are of each input's making as often as that
    input has switched."""
    internal = load = clocked = 0.0
    for net, causes in pins.outputs:
        rise, fall = toggles[net]
        if causes and (rise or fall):
            counts = np.array([toggles[cause].sum() for cause, _ in causes], float)
            parts = counts / counts.sum() if counts.sum() else np.full(len(causes), 1 / len(causes))
            internal += sum(
                part * (rise * each[RISE] + fall * each[FALL]) for part, (_, each) in zip(parts, causes, strict=True)
            )
    for net, charge, each in pins.inputs:
        rise, fall = toggles[net]
        inside, loaded = rise * each[RISE] + fall * each[FALL], charge * (rise + fall)
        if net == clock:
            clocked += inside + loaded
        else:
            internal, load = internal + inside, load + loaded
    return internal, load, clocked


def energies_fj(
    netlist: Netlist,
    timing: Timing,
    activity: Activity,
    period_ns: float,
    wire_ff_per_fanout: float = 0.0,
) -> list[np.ndarray]:
    """Energy of each gate per vector, fJ: (gates, 4), the columns as in PARTS; of transitions between settled values
    only, and, if the activity has them, of all.

    Parameters
    ----------
    netlist, timing, activity : the design, with what ``analyse``, and ``settle`` or ``switch``, found.
    period_ns : time between vectors, during which the gates leak.
    wire_ff_per_fanout : capacitance of wire for each pin on a net, fF.
    """
    kinds = [toggles for toggles in (activity.toggles, activity.inertial) if toggles is not None]
    loads_ff, half_v2 = netlist.loads_ff(wire_ff_per_fanout), 0.5 * netlist.library.voltage_v**2
    found = [np.zeros((len(netlist.gates), len(PARTS))) for _ in kinds]
    steps = activity.vectors - 1
    for i, (gate, shares) in enumerate(zip(netlist.gates, state_shares(netlist, activity), strict=True)):
        pins = _pins(gate, timing, loads_ff, shares, half_v2, wire_ff_per_fanout)
        leakage = leakage_nw(gate.cell, shares) * period_ns * 1e-3  # 1 nW for 1 ns is 1e-3 fJ
        for parts, toggles in zip(found, kinds, strict=True):
            internal, load, clock = _spent(pins, toggles, netlist.clock)
            parts[i] = internal / steps, load / steps, clock / steps, leakage
    return found
