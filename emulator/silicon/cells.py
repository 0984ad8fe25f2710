"""Standard cells as a library describes them, in one set of units: ns, fF, fJ, nW, µm², V."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit

from ..errors import HalfulpError

RISE, FALL = 0, 1
WIDEST = 12  #: inputs of a cell


@njit(cache=True)
def _segment(numbers, start, count, x):
    """The segment of an axis that x is read from, and how far x lies along it: below 0 or above 1 outside."""
    if count == 1:
        return 0, 0.0
    i = 0
    while i < count - 2 and x > numbers[start + i + 1]:
        i += 1
    low, high = numbers[start + i], numbers[start + i + 1]
    return i, (x - low) / (high - low)


@njit(cache=True)
def look_up(numbers, start, x, y):
    """Bilinear interpolation in a packed table, linear extrapolation beyond its ends, as timing tools do."""
    n, m = int(numbers[start]), int(numbers[start + 1])
    i, u = _segment(numbers, start + 2, n, x)
    j, v = _segment(numbers, start + 2 + n, m, y)
    at = start + 2 + n + m + i * m + j
    right, down = int(m > 1), m * int(n > 1)
    upper = numbers[at] + v * (numbers[at + right] - numbers[at])
    lower = numbers[at + down] + v * (numbers[at + down + right] - numbers[at + down])
    return upper + u * (lower - upper)


@dataclass(frozen=True, eq=False)
class Table:
    """A function of the input's slew (ns) and the output's load (fF), tabled; an axis of length 1 does not matter.

    Of a setup time, the first axis is the slew of the data pin and the second that of the clock.
    """

    first: np.ndarray  #: (n,), increasing
    second: np.ndarray  #: (m,), increasing
    values: np.ndarray  #: (n, m)

    @cached_property
    def packed(self) -> np.ndarray:
        """What ``look_up`` reads: n, m, the axes, the values row by row."""
        return np.concatenate([self.values.shape, self.first, self.second, self.values.ravel()]).astype(np.float64)

    def at(self, first: float, second: float) -> float:
        """The value at a point; beyond the table's ends it goes on linearly."""
        return float(look_up(self.packed, 0, first, second))


class Bank:
    """Many tables in one array, for compiled code."""

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}
        self._tables: list[Table] = []
        self._size = 0

    def add(self, table: Table) -> int:
        """Where the table starts in ``numbers``."""
        if id(table) not in self._starts:
            self._starts[id(table)] = self._size
            self._tables.append(table)
            self._size += len(table.packed)
        return self._starts[id(table)]

    @property
    def numbers(self) -> np.ndarray:
        return np.concatenate([table.packed for table in self._tables] or [np.zeros(1)])


_TOKEN = re.compile(r"\s*([A-Za-z_][\w\[\].]*|[01]|[!'^*&+|()])")


class _Expression:
    """A parser of Liberty's Boolean expressions; a value is a truth table, bit s the result in state s.

    Highest to lowest: ``!`` and ``'``, ``^``, then ``*``, ``&`` or nothing, then ``+`` or ``|``.
    """

    def __init__(self, text: str, variables: dict[str, int], full: int) -> None:
        text = text.strip()
        self.tokens = _TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s", "", text):
            raise ValueError(text)
        self.variables, self.full = variables, full

    def parse(self) -> int:
        value = self._or()
        if self.tokens:
            raise ValueError(self.tokens)
        return value

    def _next(self, among: str) -> bool:
        return bool(self.tokens) and self.tokens[0] in tuple(among)

    def _or(self) -> int:
        value = self._and()
        while self._next("+|"):
            self.tokens.pop(0)
            value |= self._and()
        return value

    def _and(self) -> int:
        value = self._xor()
        while self.tokens and not self._next("+|)"):
            if self._next("*&"):
                self.tokens.pop(0)
            value &= self._xor()
        return value

    def _xor(self) -> int:
        value = self._unary()
        while self._next("^"):
            self.tokens.pop(0)
            value ^= self._unary()
        return value

    def _unary(self) -> int:
        token = self.tokens.pop(0)
        if token == "!":
            return self._unary() ^ self.full
        if token == "(":
            value = self._or()
            if self.tokens.pop(0) != ")":
                raise ValueError(token)
        else:
            value = {"0": 0, "1": self.full}.get(token, -1)
            value = self.variables[token] if value < 0 else value
        while self._next("'"):
            self.tokens.pop(0)
            value ^= self.full
        return value


def variable(i: int, count: int) -> int:
    """The truth table of the i-th of ``count`` variables: bit s is bit i of s."""
    return sum(1 << s for s in range(1 << count) if s >> i & 1)


def truth_table(text: str, names: Sequence[str], defined: dict[str, int] | None = None) -> int:
    """The truth table of a Liberty expression over variables, bit s its result where variable i is bit i of s.

    ``defined`` names truth tables that may appear as well. Raises HalfulpError if it is no expression over these.
    """
    full = (1 << (1 << len(names))) - 1
    tables = {**(defined or {}), **{name: variable(i, len(names)) for i, name in enumerate(names)}}
    try:
        return _Expression(text, tables, full).parse()
    except (KeyError, ValueError, IndexError):
        raise HalfulpError(f"{text!r} is no Boolean expression over {', '.join(names) or 'nothing'}.") from None


@dataclass(frozen=True)
class Pin:
    name: str
    capacitance_ff: float
    max_capacitance_ff: float | None = None


@dataclass(frozen=True, eq=False)
class Arc:
    """How an input's transition becomes one of an output; tables by the *output's* edge, (rise, fall)."""

    output: str
    related: str  #: input pin; of a flip-flop's output, the clock
    sense: str  #: positive_unate, negative_unate, non_unate
    delay: tuple[Table | None, Table | None]
    slew: tuple[Table | None, Table | None]


@dataclass(frozen=True, eq=False)
class Power:
    """Energy (fJ) inside the cell per transition of a pin, without what charges the pin's load.

    ``rise`` and ``fall`` are the pin's own edges. Where ``related`` is set, the pin is an output that the input
    ``related`` made switch; where it is not, an input. One of several *rails* holds a part: they add up.
    """

    pin: str
    related: str | None
    rail: str
    when: int | None  #: truth table over the cell's variables; None: all states that no other one covers
    energy: tuple[Table, Table]  #: (rise, fall)


@dataclass(frozen=True)
class FlipFlop:
    """An edge-triggered one. Truth tables over the cell's variables, the last of which is its state."""

    clock: str
    rising: bool
    next_state: int
    forced: tuple[int, ...]  #: states in which an asynchronous pin sets or clears it


@dataclass(frozen=True, eq=False)
class Cell:
    name: str
    area_um2: float
    inputs: tuple[Pin, ...]
    outputs: tuple[Pin, ...]
    functions: tuple[int, ...]  #: truth tables of the outputs over ``variables``
    leakage_nw: float
    leakages: tuple[tuple[int, float], ...] = ()  #: (when, nW): states and their leakage; else ``leakage_nw``
    arcs: tuple[Arc, ...] = ()
    powers: tuple[Power, ...] = ()
    setups: tuple[tuple[str, tuple[Table, Table]], ...] = ()  #: (data pin, (rise, fall))
    flipflop: FlipFlop | None = None
    variables: tuple[str, ...] = field(default=())  #: input pins, then a flip-flop's state

    def __repr__(self) -> str:
        return f"Cell({self.name})"


@dataclass(frozen=True, eq=False)
class Library:
    """A cell library. ``cells`` are the ones that can be used: gates, constants, edge-triggered flip-flops.

    Slews are kept as the file measures them (between ``slew_thresholds`` of the supply, times ``slew_derate``): its
    tables read what its tables wrote.
    """

    name: str
    voltage_v: float
    digest: str  #: the first 16 hexadecimal digits of the SHA-256 of the file
    cells: dict[str, Cell]
    unused: dict[str, str]  #: other cells -> why not
    slew_thresholds: tuple[float, float]  #: lower, upper; % of the supply
    slew_derate: float

    def cell(self, name: str) -> Cell:
        """A cell by its name. Raises HalfulpError if there is none that can be used."""
        if name not in self.cells:
            why = self.unused.get(name, "it is not in the library")
            raise HalfulpError(f"the cell {name} of {self.name} cannot be used: {why}.")
        return self.cells[name]

    def smallest(self, function: int, inputs: int) -> Cell | None:
        """The gate with the least area that has one output and this truth table; None if there is none."""
        found = [
            cell
            for cell in self.cells.values()
            if cell.functions == (function,) and len(cell.inputs) == inputs and not cell.flipflop
        ]
        return min(found, key=lambda cell: (cell.area_um2, cell.name), default=None)

    @cached_property
    def input_slew_ns(self) -> float:
        """The slew assumed at primary inputs and clocks: that of the smallest inverter that drives four of its own."""
        inverter = self.smallest(0b01, 1)
        if inverter is None:
            raise HalfulpError(f"{self.name} has no inverter.")
        slew, (arc, *_) = 0.0, inverter.arcs
        for _ in range(20):  # to its fixed point
            slews = [table.at(slew, 4 * inverter.inputs[0].capacitance_ff) for table in arc.slew if table]
            slew = sum(slews) / len(slews)
        return slew
