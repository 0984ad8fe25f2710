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

import numpy as np
from numba import njit

from .cells import FALL, RISE, Cell, Power, variable
from .gates import Activity
from .netlist import Gate, Netlist
from .timing import Timing

PARTS = ("internal", "load", "clock", "leakage")


@dataclass(frozen=True, eq=False)
class Energy:
    """Energy of each gate per vector, fJ: (gates, 4), the columns as in PARTS."""

    parts_fj: np.ndarray

    @property
    def total_pj(self) -> float:
        return float(self.parts_fj.sum()) / 1000


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
    """For each gate, the share of vectors in which its variables settle in each state; a clock is 0 half of the time."""
    nets = [gate.variables for gate in netlist.gates]
    first = np.cumsum([0] + [len(n) for n in nets])
    starts = np.cumsum([0] + [1 << len(n) for n in nets])
    counts = np.zeros(starts[-1], np.int64)
    flat = np.array([net for n in nets for net in n], np.int64)
    _histograms(first, flat, activity.bits, activity.vectors, starts[:-1], counts)
    shares = [counts[a:b] / activity.vectors for a, b in zip(starts[:-1], starts[1:], strict=True)]
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


def _leakage_nw(cell: Cell, shares: np.ndarray) -> float:
    """Leakage, nW: by state where the library has it so."""
    weights = _weights([None, *(when for when, _ in cell.leakages)], shares)
    values = [cell.leakage_nw, *(nw for _, nw in cell.leakages)]
    return sum(w * nw for w, nw in zip(weights, values, strict=True)) / (sum(weights) or 1.0)


def _groups(powers: list[Power]) -> list[list[Power]]:
    """Those of one pin, related pin and rail together: one of each list at a time is what happens."""
    found: dict[tuple[str, str | None, str], list[Power]] = {}
    for power in powers:
        found.setdefault((power.pin, power.related, power.rail), []).append(power)
    return list(found.values())
