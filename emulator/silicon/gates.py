"""Simulation of gates: settled values of every net, and the transitions on the way there.

Two simulators. ``settle`` has no delays: 64 vectors of a combinational design at a time, one cycle of a clocked one.
``switch`` has the delays that static timing found, and inertia: a pulse shorter than a gate's delay is swallowed by it.
Either begins with the first vector settled and every flip-flop as if it had clocked in zeros, and is deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index

import numpy as np
from numba import njit

from ..errors import HalfulpError
from .cells import WIDEST
from .netlist import ONE, Netlist
from .timing import Timing

_SLOTS = 4096  #: of the wheel of events
_TICKS = 64.0  #: that the median delay is divided into


@dataclass(frozen=True, eq=False)
class Activity:
    """What the nets did over a stream of vectors."""

    vectors: int
    bits: np.ndarray  #: (words, nets) uint64: settled values, vector 64 w + b in bit b of word w
    toggles: np.ndarray  #: (nets, 2) int64: (rise, fall) from one vector's settled value to the next one's
    inertial: np.ndarray | None = None  #: (nets, 2) int64: all transitions, glitches too


def pack(codes: Sequence[int] | np.ndarray, width: int) -> np.ndarray:
    """(words, width) uint64: bit i of code v is bit v % 64 of word v // 64 in column i; codes of negative numbers wrap.

    Raises HalfulpError if a code does not fit.
    """
    if isinstance(codes, np.ndarray) and codes.dtype.kind in "iub" and width <= 64:
        low, high = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
        data = codes.astype("<i8" if codes.dtype.kind == "i" else "<u8").view(np.uint8)
    else:
        try:
            values = [index(code) for code in codes]
        except TypeError:
            raise HalfulpError("the codes of a stimulus are integers.") from None
        low, high = min(values, default=0), max(values, default=0)
        data = np.frombuffer(
            b"".join((code % (1 << width)).to_bytes(-(-width // 8), "little") for code in values), np.uint8
        )
    if low < -(1 << width - 1) or high >= 1 << width:
        raise HalfulpError(f"a code does not fit in {width} bits: they lie in {low}...{high}.")
    rows = np.unpackbits(data.reshape(len(codes), -1), axis=1, bitorder="little")
    padded = np.zeros((-(-len(rows) // 64) * 64, width), np.uint8)
    padded[: len(rows)] = rows[:, :width]
    columns = np.packbits(padded.reshape(-1, 64, width), axis=1, bitorder="little")  # (words, 8, width)
    return np.ascontiguousarray(columns.transpose(0, 2, 1)).view("<u8")[:, :, 0]


def unpack(bits: np.ndarray, nets: Sequence[int], vectors: int) -> np.ndarray:
    """(vectors,) codes that the nets, lowest bit first, spell: uint64, or Python integers beyond 64 nets."""
    columns = np.ascontiguousarray(bits[:, list(nets)]).view(np.uint8).reshape(len(bits), len(nets), 8)
    rows = np.unpackbits(columns.transpose(0, 2, 1).reshape(-1, 8, len(nets)), axis=1, bitorder="little")
    rows = rows.reshape(len(bits), 8, 8, len(nets)).reshape(-1, len(nets))[:vectors]
    if len(nets) <= 64:
        return (rows.astype(np.uint64) << np.arange(len(nets), dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    data = np.packbits(rows, axis=1, bitorder="little")
    return np.array([int.from_bytes(row.tobytes(), "little") for row in data], object)


def _stimulus(netlist: Netlist, stimulus: Mapping[str, Sequence[int] | np.ndarray]) -> tuple[int, np.ndarray]:
    """Number of vectors, and (words, nets) bits of all input ports but the clock."""
    read = {net for gate in netlist.gates for net in gate.inputs} | {
        n for nets in netlist.outputs.values() for n in nets
    }
    idle = {name for name, nets in netlist.inputs.items() if not read & set(nets)}  # such as a clock of nothing
    data = {name: nets for name, nets in netlist.inputs.items() if nets != (netlist.clock,)}
    data = {name: nets for name, nets in data.items() if name in stimulus or name not in idle}
    if set(stimulus) != set(data):
        raise HalfulpError(f"the inputs of {netlist.top} are {', '.join(data)}, not {', '.join(stimulus) or 'none'}.")
    lengths = {len(codes) for codes in stimulus.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise HalfulpError("a stimulus has the same number of codes for each input, two at least.")
    vectors = lengths.pop()
    bits = np.zeros((-(-vectors // 64), netlist.net_count), np.uint64)
    bits[:, ONE] = ~np.uint64(0)
    for name, nets in data.items():
        bits[:, list(nets)] = pack(stimulus[name], len(nets))
    return vectors, bits


@njit(cache=True)
def _evaluate(i, first, inputs, start, truth, values, room):
    """The word of function i: its truth table, folded input by input."""
    count = first[i + 1] - first[i]
    size = 1 << count
    for s in range(size):
        room[s] = ~np.uint64(0) if truth[start[i] + s] else np.uint64(0)
    for j in range(count):
        x = values[inputs[first[i] + j]]
        size >>= 1
        for s in range(size):
            room[s] = (room[2 * s] & ~x) | (room[2 * s + 1] & x)
    return room[0]


@njit(cache=True)
def _settle(first, inputs, start, truth, output, bits):
    room = np.empty(1 << WIDEST + 1, np.uint64)
    for word in range(len(bits)):
        for i in range(len(output)):
            bits[word, output[i]] = _evaluate(i, first, inputs, start, truth, bits[word], room)


@njit(cache=True)
def _settle_clocked(first, inputs, start, truth, output, bits, states, nexts, initial, vectors):
    """As ``_settle``; the states of a cycle are the next states of the one before."""
    room = np.empty(1 << WIDEST + 1, np.uint64)
    values = np.zeros(bits.shape[1], np.uint64)
    current = initial.copy()
    for v in range(vectors):
        word, bit = v // 64, np.uint64(v % 64)
        for net in range(len(values)):  # all but the inputs are still 0 there
            values[net] = bits[word, net] >> bit & np.uint64(1)
        for k in range(len(states)):
            values[states[k]] = current[k]
            bits[word, states[k]] |= current[k] << bit
        for i in range(len(output)):
            value = _evaluate(i, first, inputs, start, truth, values, room) & np.uint64(1)
            values[output[i]] = value
            bits[word, output[i]] |= value << bit
        for k in range(len(states)):
            current[k] = values[nexts[k]]


@njit(cache=True)
def _count_toggles(bits, vectors, toggles):
    for net in range(bits.shape[1]):
        before = bits[0, net] & np.uint64(1)
        for v in range(1, vectors):
            now = bits[v // 64, net] >> np.uint64(v % 64) & np.uint64(1)
            if now != before:
                toggles[net, 1 - np.int64(now)] += 1
            before = now


def settle(netlist: Netlist, stimulus: Mapping[str, Sequence[int] | np.ndarray]) -> Activity:
    """The settled values of all nets, without delays.

    Parameters
    ----------
    netlist : the design.
    stimulus : input port (the clock left out) -> its codes, one a vector; one vector a clock where there is one.

    Raises
    ------
    HalfulpError
        A port is missing, unknown, or has a code too wide.
    """
    functions = netlist.functions
    vectors, bits = _stimulus(netlist, stimulus)
    common = functions.first, functions.inputs, functions.start, functions.truth, functions.output, bits
    if netlist.clock is None:
        _settle(*common)
    else:
        _settle_clocked(*common, *_states(netlist), vectors)
    toggles = np.zeros((netlist.net_count, 2), np.int64)
    _count_toggles(bits, vectors, toggles)
    toggles[_clock(netlist)] = vectors - 1
    return Activity(vectors, bits, toggles)


def _clock(netlist: Netlist) -> list[int]:
    """The clock, which rises and falls between any two vectors."""
    return [] if netlist.clock is None else [netlist.clock]


def _states(netlist: Netlist) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nets of the flip-flops' states and next states, and the states that they start in: next states of zeros."""
    flipflops = [gate for gate in netlist.gates if gate.state and gate.cell.flipflop]
    states = np.array([gate.state[0] for gate in flipflops], np.int64)  # type: ignore[index]
    nexts = np.array([gate.state[1] for gate in flipflops], np.int64)  # type: ignore[index]
    zeros = [sum(1 << i for i, net in enumerate(gate.inputs) if net == ONE) for gate in flipflops]
    initial = [gate.cell.flipflop.next_state >> s & 1 for gate, s in zip(flipflops, zeros, strict=True)]  # type: ignore[union-attr]
    return states, nexts, np.array(initial, np.uint64)


@njit(cache=True)
def _link(e, slot, heads, after, previous):
    after[e], previous[e] = heads[slot], -1
    if heads[slot] >= 0:
        previous[heads[slot]] = e
    heads[slot] = e


@njit(cache=True)
def _unlink(e, slot, heads, after, previous):
    if previous[e] >= 0:
        after[previous[e]] = after[e]
    else:
        heads[slot] = after[e]
    if after[e] >= 0:
        previous[after[e]] = previous[e]


@njit(cache=True)
def _switch(first, users, user, pin, start, truth, output, delay, bits, sources, vectors, toggles):
    """Count all transitions. ``sources`` are the nets that change at time 0 of a cycle, ``users`` and ``user`` list for
    each net the functions that read it, at which pin.

    A function waits for at most one change of its output, in a slot of a wheel of times: the next ``_SLOTS`` ticks,
    and those that many later, and so on.
    """
    count, slots = len(output), _SLOTS
    value, state = np.zeros(bits.shape[1], np.uint8), np.zeros(count, np.int64)
    heads = np.full(slots, -1)
    after, previous, when = np.full(count, -1), np.full(count, -1), np.full(count, -1)
    touched, cause, marked = np.empty(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.uint8)
    changed = np.empty(bits.shape[1], np.int64)
    for net in range(bits.shape[1]):
        value[net] = bits[0, net] & np.uint64(1)
        for u in range(users[net], users[net + 1]):
            state[user[u]] |= np.int64(value[net]) << pin[u]
    for v in range(1, vectors):
        waiting, now, changes = 0, 0, 0
        for k in range(len(sources)):
            if bits[v // 64, sources[k]] >> np.uint64(v % 64) & np.uint64(1) != value[sources[k]]:
                changed[changes] = sources[k]
                changes += 1
        while True:
            marks = 0
            for k in range(changes):
                net = changed[k]
                value[net] ^= 1
                toggles[net, 1 - value[net]] += 1
                for u in range(users[net], users[net + 1]):
                    e = user[u]
                    state[e] ^= 1 << pin[u]
                    cause[e] = first[e] + pin[u]
                    if not marked[e]:
                        marked[e] = 1
                        touched[marks] = e
                        marks += 1
            for k in range(marks):
                e = touched[k]
                marked[e] = 0
                goal = truth[start[e] + state[e]]
                if goal == value[output[e]]:
                    if when[e] >= 0:  # a pulse too short
                        _unlink(e, when[e] % slots, heads, after, previous)
                        when[e] = -1
                        waiting -= 1
                elif when[e] < 0:
                    when[e] = now + delay[cause[e], 1 - goal]
                    _link(e, when[e] % slots, heads, after, previous)
                    waiting += 1
            if not waiting:
                break
            changes = 0
            while changes == 0:
                now += 1
                e = heads[now % slots]
                while e >= 0:
                    following = after[e]
                    if when[e] == now:
                        _unlink(e, now % slots, heads, after, previous)
                        when[e] = -1
                        waiting -= 1
                        changed[changes] = output[e]
                        changes += 1
                    e = following
    return value


def switch(netlist: Netlist, timing: Timing, activity: Activity) -> Activity:
    """The same vectors with delays: ``activity`` of ``settle``, with its ``inertial`` transitions.

    Each vector's transitions end before the next one. Delays are whole ticks, 64 to the median delay, one at least.
    """
    functions = netlist.functions
    reads = np.repeat(np.arange(len(functions)), np.diff(functions.first))  # function by position
    order = np.argsort(functions.inputs, kind="stable")
    users = np.searchsorted(functions.inputs[order], np.arange(netlist.net_count + 1))
    positions = np.arange(len(reads)) - functions.first[reads]
    given = timing.delay_ns[timing.delay_ns > 0]
    tick = float(np.median(given)) / _TICKS if len(given) else 1.0
    delay = np.maximum(np.rint(timing.delay_ns / tick), 1).astype(np.int64)
    driven = np.zeros(netlist.net_count, bool)
    driven[functions.output] = True
    toggles = np.zeros((netlist.net_count, 2), np.int64)
    last = _switch(
        functions.first, users, reads[order], positions[order], functions.start, functions.truth, functions.output,
        delay, activity.bits, np.flatnonzero(~driven), activity.vectors, toggles,
    )  # fmt: skip
    toggles[_clock(netlist)] = end = activity.vectors - 1
    settled = (activity.bits[end // 64] >> np.uint64(end % 64) & np.uint64(1)).astype(np.uint8)
    if not np.array_equal(last, settled):
        raise AssertionError("the two simulators disagree")
    return Activity(activity.vectors, activity.bits, activity.toggles, toggles)
