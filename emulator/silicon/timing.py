"""Static timing: when each net has settled at the latest, and how steep its edges are (non-linear delay model)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from .cells import FALL, RISE, Bank, look_up
from .netlist import Netlist

_BOTH, _SAME, _OPPOSITE = 0, 1, 2  #: which edges of the input cause an edge of the output
_SENSES = {"positive_unate": _SAME, "negative_unate": _OPPOSITE}


@dataclass(frozen=True)
class Step:
    """One gate of a path."""

    gate: str
    cell: str
    edge: str  #: of its output, "rise" or "fall"
    delay_ns: float
    arrival_ns: float  #: at its output


@dataclass(frozen=True, eq=False)
class Timing:
    """Inputs arrive, and the clock ticks, at 0 with the library's ``input_slew_ns``. Edges are (rise, fall)."""

    arrival_ns: np.ndarray  #: (nets, 2), the latest
    slew_ns: np.ndarray  #: (nets, 2), the slowest
    delay_ns: np.ndarray  #: (inputs of all functions, 2) from an input's transition to the output's edge, the slowest
    critical_ns: float  #: the longest path, to an output or to a flip-flop with its setup time
    path: tuple[Step, ...]  #: the gates on it


@njit(cache=True)
def _propagate(first, inputs, output, arcs, senses, delays, slews, numbers, loads, arrival, slew, delay, cause):
    """Fill in arrivals, slews, delays, and causes (position of the input, its edge), function by function."""
    for i in range(len(output)):
        net = output[i]
        for j in range(first[i], first[i + 1]):
            for a in range(arcs[j], arcs[j + 1]):
                for edge in range(2):
                    for before in range(2):
                        inverts = before != edge
                        if (
                            delays[a, edge] < 0
                            or (senses[a] == _SAME and inverts)
                            or (senses[a] == _OPPOSITE and not inverts)
                        ):
                            continue
                        came, steep = arrival[inputs[j], before], slew[inputs[j], before]
                        d = max(look_up(numbers, delays[a, edge], steep, loads[net]), 0.0)
                        delay[j, edge] = max(delay[j, edge], d)
                        if came + d > arrival[net, edge]:
                            arrival[net, edge] = came + d
                            cause[net, edge, 0], cause[net, edge, 1] = j, before
                        s = look_up(numbers, slews[a, edge], steep, loads[net])
                        slew[net, edge] = max(slew[net, edge], s)


def analyse(netlist: Netlist, wire_ff_per_fanout: float = 0.0) -> Timing:
    """Static timing of a design.

    Parameters
    ----------
    netlist : the design.
    wire_ff_per_fanout : capacitance of wire for each pin on a net, fF.
    """
    functions, library = netlist.functions, netlist.library
    bank, arcs, senses, delays, slews = Bank(), [0], [], [], []
    for i in range(len(functions)):
        gate = netlist.gates[functions.gate[i]]
        pins = [gate.cell.flipflop.clock] if gate.cell.flipflop else [pin.name for pin in gate.cell.inputs]
        name = gate.cell.outputs[functions.pin[i]].name if functions.pin[i] >= 0 else None
        for j in range(functions.first[i + 1] - functions.first[i]):
            for arc in gate.cell.arcs if name else ():
                if arc.output == name and arc.related == pins[j]:
                    senses.append(_BOTH if gate.state else _SENSES.get(arc.sense, _BOTH))
                    delays.append([-1 if table is None else bank.add(table) for table in arc.delay])
                    slews.append([-1 if table is None else bank.add(table) for table in arc.slew])
            arcs.append(len(senses))
    arrival, slew = np.full((netlist.net_count, 2), -np.inf), np.zeros((netlist.net_count, 2))
    starts = [net for nets in netlist.inputs.values() for net in nets]
    starts += [gate.state[0] for gate in netlist.gates if gate.state]
    arrival[starts], slew[starts] = 0.0, library.input_slew_ns
    delay = np.zeros((len(functions.inputs), 2))
    cause = np.full((netlist.net_count, 2, 2), -1)
    tables = [np.array(x, np.int64).reshape(-1, 2) for x in (delays, slews)]
    _propagate(
        functions.first, functions.inputs, functions.output, np.array(arcs), np.array(senses, np.int64), *tables,
        bank.numbers, netlist.loads_ff(wire_ff_per_fanout), arrival, slew, delay, cause,
    )  # type: ignore[call-arg] # fmt: skip
    critical, net, edge = max(_ends(netlist, arrival, slew), default=(0.0, 0, RISE))
    return Timing(arrival, slew, delay, max(critical, 0.0), _path(netlist, arrival, cause, net, edge))


def _ends(netlist: Netlist, arrival: np.ndarray, slew: np.ndarray) -> list[tuple[float, int, int]]:
    """(time, net, edge) where paths end: at outputs, and at flip-flops with their setup time."""
    ends = [(float(arrival[net, e]), net, e) for nets in netlist.outputs.values() for net in nets for e in (RISE, FALL)]
    for gate in netlist.gates:
        pins = {pin.name: net for pin, net in zip(gate.cell.inputs, gate.inputs, strict=True)}
        for pin, tables in gate.cell.setups if gate.state else ():
            net = pins[pin]
            for edge in (RISE, FALL):
                if arrival[net, edge] >= 0:
                    setup = tables[edge].at(slew[net, edge], netlist.library.input_slew_ns)
                    ends.append((float(arrival[net, edge]) + setup, net, edge))
    return ends


def _path(netlist: Netlist, arrival: np.ndarray, cause: np.ndarray, net: int, edge: int) -> tuple[Step, ...]:
    """The gates on the way to a net's edge, first to last."""
    functions, path = netlist.functions, []
    while cause[net, edge, 0] >= 0:
        position, before = cause[net, edge]
        i = int(np.searchsorted(functions.first, position, side="right")) - 1
        source, gate = functions.inputs[position], netlist.gates[functions.gate[i]]
        came, now = float(arrival[source, before]), float(arrival[net, edge])
        path.append(Step(gate.name, gate.cell.name, ("rise", "fall")[edge], now - came, now))
        net, edge = source, before
    return tuple(reversed(path))
