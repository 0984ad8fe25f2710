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


def _share(table: int, shares: np.ndarray) -> float:
    return float(sum(shares[s] for s in np.flatnonzero(shares) if table >> int(s) & 1))


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


class _Meter:
    """The energy of one gate after the other."""

    def __init__(self, netlist: Netlist, timing: Timing, toggles: np.ndarray, loads_ff: np.ndarray) -> None:
        self.netlist, self.timing, self.toggles, self.loads_ff = netlist, timing, toggles, loads_ff

    def transition(self, powers: list[Power], edge: int, slew_ns: float, load_ff: float, shares: np.ndarray) -> float:
        """Energy of one transition, fJ, of a pin whose groups these are: one related pin, several rails."""
        energy = 0.0
        for rail in dict.fromkeys(power.rail for power in powers):
            groups = [power for power in powers if power.rail == rail]
            weights = _weights([power.when for power in groups], shares)
            # an output has switched, so that one of the states was there; an input's groups may leave states out
            whole = sum(weights) if groups[0].related else 1.0
            if whole == 0:
                weights, whole = [1.0] * len(groups), len(groups)
            energy += sum(
                w / whole * power.energy[edge].at(slew_ns, load_ff)
                for w, power in zip(weights, groups, strict=True)
                if w
            )
        return energy

    def output(self, gate: Gate, index: int, shares: np.ndarray) -> float:
        """Internal energy of an output's transitions: of each input's as often as that input has switched."""
        net, energy = gate.outputs[index], 0.0
        if net < 0 or not self.toggles[net].any():
            return 0.0
        powers = [p for p in gate.cell.powers if p.related and p.pin == gate.cell.outputs[index].name]
        nets = {pin.name: n for pin, n in zip(gate.cell.inputs, gate.inputs, strict=True)}
        related = [name for name in dict.fromkeys(p.related for p in powers) if name in nets]
        causes = np.array([self.toggles[nets[name]].sum() for name in related], float)
        causes = causes / causes.sum() if causes.sum() else np.full(len(related), 1 / max(len(related), 1))
        for name, part in zip(related, causes, strict=True):
            if part:
                own = [p for p in powers if p.related == name]
                slew = float(self.timing.slew_ns[nets[name]].mean())
                for edge in (RISE, FALL):
                    each = self.transition(own, edge, slew, float(self.loads_ff[net]), shares)
                    energy += part * self.toggles[net, edge] * each
        return energy

    def input(self, gate: Gate, index: int, shares: np.ndarray, wire_ff: float) -> tuple[float, float]:
        """Internal and load energy of an input pin's transitions."""
        net, pin = gate.inputs[index], gate.cell.inputs[index]
        rise, fall = self.toggles[net]
        powers = [p for p in gate.cell.powers if not p.related and p.pin == pin.name]
        load = 0.5 * (pin.capacitance_ff + wire_ff) * self.netlist.library.voltage_v**2 * (rise + fall)
        internal = 0.0
        for edge, count in ((RISE, rise), (FALL, fall)):
            if count and powers:
                internal += count * self.transition(powers, edge, float(self.timing.slew_ns[net, edge]), 0.0, shares)
        return internal, float(load)


def energy_fj(
    netlist: Netlist,
    timing: Timing,
    activity: Activity,
    period_ns: float,
    inertial: bool,
    wire_ff_per_fanout: float = 0.0,
) -> np.ndarray:
    """Energy of each gate per vector, fJ: (gates, 4), the columns as in PARTS.

    Parameters
    ----------
    netlist, timing, activity : the design, with what ``analyse``, and ``settle`` or ``switch``, found.
    period_ns : time between vectors, during which the gates leak.
    inertial : count all transitions, else those of settled values only.
    wire_ff_per_fanout : capacitance of wire for each pin on a net, fF.
    """
    toggles = activity.inertial if inertial else activity.toggles
    assert toggles is not None
    meter = _Meter(netlist, timing, toggles, netlist.loads_ff(wire_ff_per_fanout))
    parts = np.zeros((len(netlist.gates), len(PARTS)))
    for i, (gate, shares) in enumerate(zip(netlist.gates, state_shares(netlist, activity), strict=True)):
        internal = sum(meter.output(gate, k, shares) for k in range(len(gate.outputs)))
        clock = load = 0.0
        for k in range(len(gate.inputs)):
            inside, charge = meter.input(gate, k, shares, wire_ff_per_fanout)
            if gate.inputs[k] == netlist.clock:
                clock += inside + charge
            else:
                internal, load = internal + inside, load + charge
        steps = activity.vectors - 1
        # 1 nW for 1 ns is 1e-3 fJ
        parts[i] = internal / steps, load / steps, clock / steps, leakage_nw(gate.cell, shares) * period_ns * 1e-3
    return parts
