"""Observation: a product of matrices, bit for bit, with its ``Events``.

The order's program (``emulator.orders``) is interpreted a step at a time over panels of results, by the arithmetic over
arrays that tells flags and with the random bits that the kernels draw: every bit is that of ``Machine.matmul``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..emulator.arithmetic import Flags
from ..emulator.blocks import BlockFormat
from ..emulator.datapath import Datapath
from ..emulator.formats import FixedFormat, Format
from ..emulator.orders import Do, Exact, Fused, Order, Step, TwoStage, program
from ..emulator.rounding import Rounding
from .arrays import mul
from .backends import Backend
from .backends import backend as make_backend
from .blocks import with_least
from .compute import compute
from .contraction import integer_unit
from .events import Events
from .fused import GROUPED, INTEGER, TWO_STAGE, aligned_step, exact_step, grouped_step, two_stage_step
from .operands import Operand
from .paths import ONE, Op, Path, mac_path
from .products import Draw
from .structs import GIVEN_DRAWS, Draws, FusedUnit, Target
from .subset import compiled
from .target import target, tensor_core
from .terms import (
    NONE,
    Sum,
    Terms,
    apart,
    code_changes,
    codes_of,
    lowest_bit_of,
    product_changes,
    same,
    shifted,
    significands,
)

_PANEL = 1 << 16  #: results that are worked on side by side
_INEXACT, _UNDERFLOW, _OVERFLOW, _INVALID = map(int, (Flags.INEXACT, Flags.UNDERFLOW, Flags.OVERFLOW, Flags.INVALID))


def observe(datapath: Datapath, x: Operand, y: Operand, out: Any, backend: Backend, draw: Draw) -> Events:
    """The events of a product of matrices (M, K) and (K, N); the accumulators' sums go to ``out``, flat."""
    host = backend if backend.name == "cpu" else make_backend("cpu", backend.threads)
    a, b = (_Side.of(operand, fmt, backend) for operand, fmt in ((x, datapath.a), (y, datapath.b)))
    run = _Run(datapath, a, b, host, draw)
    (rows, _depth), columns = a.values.shape, b.values.shape[1]
    height = max(_PANEL // columns, 1)
    for first in range(0, rows, height):
        last = min(first + height, rows)
        out[first * columns : last * columns] = backend.array(run.rows(first, last))
    return run.events()


@compiled
def _fuse(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    flags: np.ndarray,
    width: int,
    u: np.ndarray,
    unit: FusedUnit,
    limbs: np.ndarray,
    t: Target,
) -> None:
    """A fused or exact step on registers c (rows * width), a being (rows, terms) and b (terms * width)."""
    rows, terms = a.shape
    for i in range(rows):
        for j in range(width):
            at = i * width + j
            drawn = u[at] if t.random_bits > 0 else 0.0
            y = b[j : (terms - 1) * width + j + 1]
            if unit.way == INTEGER:
                c[at], flags[at] = aligned_step(c[at], a[i], terms, y, width, unit, t, drawn)
            elif unit.way == GROUPED:
                c[at], flags[at] = grouped_step(c[at], a[i], terms, y, width, unit, t, drawn)
            elif unit.way == TWO_STAGE:
                c[at], flags[at] = two_stage_step(c[at], a[i], terms, y, width, unit, t, drawn)
            else:
                c[at], flags[at] = exact_step(c[at], a[i], terms, y, width, limbs, unit, t, drawn)


class _Level:
    """An accumulator under observation."""

    def __init__(self, fmt: Format, rounding: Rounding) -> None:
        self.fmt, self.target = fmt, target(fmt, rounding)
        self.events = Events()
        self.shifts: Counter[int] = Counter()
        self.codes: dict[int, np.ndarray] = {}  #: of registers

    def shift(self, by: np.ndarray, where: np.ndarray) -> None:
        """Notes the shifts at some places."""
        counts = np.bincount(by[where])
        for distance in np.flatnonzero(counts):
            self.shifts[int(distance)] += int(counts[distance])

    def rounded(
        self,
        register: int,
        value: np.ndarray,
        held: Terms,
        flags: np.ndarray,
        total: Sum,
        additions: int,
        swamped: int,
    ) -> None:
        """Notes the results of a rounding, ``held`` being them taken apart."""
        inexact, over = flags & _INEXACT != 0, flags & _OVERFLOW != 0
        lost = over & held.finite
        wraps = over & total.finite if isinstance(self.fmt, FixedFormat) and self.fmt.wrap else np.zeros_like(over)
        ends = (lost & ~wraps) | ((flags & _INVALID != 0) & held.finite)
        carried = held.some & total.finite & ~over
        bounded = inexact & ~over & held.finite
        least = np.where(held.some, held.exponent - (held.exponent == held.low), np.int64(_below(self.fmt)))
        codes = codes_of(value, self.fmt)
        before = self.codes.get(register)
        self.codes[register] = codes
        magnitudes = np.abs(value[held.some])
        numbers = value[held.finite]
        count = lambda where: int(np.count_nonzero(where))  # noqa: E731
        lowest_bits = (
            int(held.low[~inexact & total.finite].min(initial=NONE)),
            lowest_bit_of(total, inexact & total.finite),
        )
        self.events += Events(
            additions,
            value.size,
            count(inexact),
            count(over) - count(lost),
            count(ends),
            count(wraps),
            count(flags & _UNDERFLOW),
            swamped,
            largest_carry=int((held.exponent - total.largest)[carried].max(initial=0)),
            highest=float(numbers.max(initial=0.0)),
            lowest=float(numbers.min(initial=0.0)),
            least=float(magnitudes.min()) if magnitudes.size else None,
            lowest_bit=_found(min(lowest_bits)),
            lowest_held=_found(int(held.low.min())),
            least_inexact=_found(int(least[bounded].min(initial=NONE))),
            widest=int((held.exponent - held.low)[held.some].max(initial=-1)) + 1,
            toggled={"accumulator": code_changes(codes, np.zeros_like(codes) if before is None else before)},
            steps={"accumulator": value.size},
        )


def _found(exponent: int) -> int | None:
    return None if exponent == NONE else exponent


def _below(fmt: Format) -> int:
    """An exponent below all of a format's."""
    return (fmt.emin if isinstance(fmt, FixedFormat) else fmt.emin - fmt.precision + 1) - 1


class _Side(NamedTuple):
    """An operand: its numbers, and what its registers hold, in blocks elements."""

    values: np.ndarray
    terms: Terms
    units: np.ndarray  #: significands in [1, 2)
    codes: np.ndarray
    significands: np.ndarray  #: as a multiplier gets them
    places: np.ndarray  #: exponents as a fused unit aligns them, with those of scales
    scales: np.ndarray  #: those of scales alone
    block_codes: np.ndarray | None

    @classmethod
    def of(cls, operand: Operand, fmt: Format | BlockFormat, backend: Backend) -> _Side:
        values = np.require(backend.to_host(operand.values), np.float64, ["C", "W"])
        terms = elements = apart(values)
        element, codes = fmt, operand.codes
        if isinstance(fmt, BlockFormat):
            element, codes = fmt.element, np.ascontiguousarray(operand.codes)
            elements = apart(np.asarray(fmt.element.decode(codes), np.float64))
        assert not isinstance(element, BlockFormat)
        units = np.ldexp(np.abs(np.where(terms.some, values, 0.0)), -np.where(terms.some, terms.exponent, 0))
        scales = np.zeros(values.shape, np.int64)
        if isinstance(fmt, BlockFormat):
            ratio = np.divide(values, fmt.element.decode(codes), out=np.ones(values.shape), where=terms.some)
            scales = np.maximum(np.frexp(ratio)[1] - 1, fmt.scale.emin).astype(np.int64)
        places = np.maximum(elements.exponent, element.emin) + scales
        found = codes_of(values, element) if codes is None else codes.astype(np.int64)
        return cls(values, terms, units, found, significands(elements, element), places, scales, codes)


class _Run:
    """A call under observation, a panel of results at a time."""

    def __init__(self, datapath: Datapath, x: _Side, y: _Side, backend: Backend, draw: Draw) -> None:
        self.datapath, self.x, self.y, self.backend, self.draw = datapath, x, y, backend, draw
        self.a, self.b = a, b = x.values, y.values
        grouped = getattr(datapath.inner_order, "group", None)  # they are aligned by their scales
        self.places = [side.scales if grouped else side.places for side in (x, y)]
        self.random = np.empty(a.shape[0] * b.shape[1])
        self.levels = [_Level(fmt, rounding) for fmt, rounding in datapath.accumulators]
        if getattr(datapath.inner_order, "tensor_core", False):
            self.levels[-1].target = tensor_core(self.levels[-1].target)
        self.paths = [self._path(level) for level in range(len(self.levels))]
        self.call = Events()

    def _path(self, level: int) -> Path:
        """A path for all additions of an accumulator."""
        dp, held = self.datapath, self.datapath.accumulators
        fmt, rounding = held[level]
        added: list[tuple[Format, Format]] = [(fmt, ONE)]
        if level < len(held) - 1:
            added.append((held[-1][0], ONE))
        else:
            added.append((dp.product, ONE) if dp.product else (dp.a, dp.b))
        return max(mac_path(x, y, fmt, fmt, rounding, True) for x, y in added)

    def events(self) -> Events:
        outer, *inner = (level.events + Events(shifts=dict(sorted(level.shifts.items()))) for level in self.levels)
        return outer + self.call + (Events(inner=inner[0]) if inner else Events())

    def rows(self, first: int, last: int) -> np.ndarray:
        """The sums of rows first, ..., last - 1; and their events."""
        self.first, self.last, self.size = first, last, (last - first) * self.b.shape[1]
        nothing = np.zeros(self.size)
        self.cleared = nothing, apart(nothing)
        self.registers: dict[int, tuple[np.ndarray, Terms]] = {}
        for level in self.levels:
            level.codes = {}
        for step in program(self.datapath.order, self.a.shape[1]):
            self._do(step)
        self.call += self._operands()
        return self.registers.get(0, self.cleared)[0]

    def _operands(self) -> Events:
        """What does not depend on the order."""
        rows, (depth, columns) = self.last - self.first, self.b.shape
        a = self.a[self.first : self.last]
        changed = {}
        part = slice(self.first, self.last)
        for name, codes, times in (("a", self.x.codes[part], columns), ("b", self.y.codes.T.copy(), rows)):
            before = np.zeros_like(codes)
            before[:, 1:] = codes[:, :-1]
            changed[name] = times * code_changes(codes.reshape(-1), before.reshape(-1))
        changed["product"] = product_changes(self.x.significands[part], self.y.significands.T.copy())
        pairs = np.count_nonzero(a != 0, axis=0).astype(object) * np.count_nonzero(self.b != 0, axis=1)
        zeros = self.size * depth - int(pairs.sum())
        return Events(zero_operands=zeros, toggled=changed, steps=dict.fromkeys(changed, self.size * depth))

    def _do(self, step: Step) -> None:
        r = step.register
        match step.do:
            case Do.MAC:
                for k in range(step.first, step.last):
                    self._accumulate(step, k)
            case Do.LOAD:
                value = self._rounded_product(step.first)
                if value is None:
                    value = self._operand(self.a, step.first) * self._second(step.first)
                self.registers[r] = value, apart(value)
            case Do.ADD:
                value, terms = self.registers.get(step.first, self.cleared)
                self._add(step, step.draw, Op.ADD, (value,), terms)
            case Do.FUSE:
                self._fuse(step)
            case Do.CLEAR:
                self.registers[r] = self.cleared

    def _operand(self, a: np.ndarray, k: int) -> np.ndarray:
        """Column k of what belongs to the first operand, once for each result."""
        return np.repeat(a[self.first : self.last, k], self.b.shape[1])

    def _second(self, k: int) -> np.ndarray:
        return np.tile(self.b[k], self.last - self.first)

    def _product(self, k: int) -> Terms:
        """The exact products of operands k, taken apart."""
        x = Terms(*(v[self.first : self.last, k, None] for v in self.x.terms))
        y = Terms(*(v[k] for v in self.y.terms))
        some = x.some & y.some
        units_a, units_b = self.x.units[self.first : self.last, k, None], self.y.units[k]
        narrow = sum(map(_width, (self.datapath.a, self.datapath.b))) <= 53
        carries = (units_a * units_b if narrow else mul(units_a, units_b, "fp64", "RTZ")) >= 2.0
        exponent = np.where(some, x.exponent + y.exponent + carries, -NONE)
        low = np.where(some, x.low + y.low, NONE)
        return Terms(*(v.reshape(-1) for v in (x.finite & y.finite, some, exponent, low, x.odd * y.odd)))

    def _rounded_product(self, k: int) -> np.ndarray | None:
        """Products of operands k in the product format; None where there is none."""
        dp = self.datapath
        if dp.product is None:
            return None
        t, path = target(dp.product, dp.product_rounding), mac_path(dp.a, dp.b, ONE, dp.product, dp.product_rounding)
        operands = self._operand(self.a, k), self._second(k)
        return self._compute(Op.MUL, operands, path, t, self._drawn(self.draw.product, k, t))[0]

    def _drawn(self, d: Draws, step: int, t: Target) -> np.ndarray:
        """The random fractions of a step, where its mode has some."""
        begin, end = self.first * self.b.shape[1], self.last * self.b.shape[1]
        if t.random_bits:
            self.backend.run("draw", begin, end, self.random, d, step, t)
        return self.random[begin:end]

    def _compute(self, op: Op, operands: Iterable[np.ndarray], path: Path, t: Target, u: np.ndarray) -> Any:
        flags = np.zeros(self.size, np.uint8)
        raised = None if path is Path.NATIVE else flags
        return compute(self.backend, op, tuple(operands), t, path, GIVEN_DRAWS, None, raised, u), flags

    def _accumulate(self, step: Step, k: int) -> None:
        draw, value = step.draw + k - step.first, self._rounded_product(k)
        if value is None:
            self._add(step, draw, Op.FMA, (self._operand(self.a, k), self._second(k)), self._product(k))
        else:
            self._add(step, draw, Op.ADD, (value,), apart(value))

    def _add(self, step: Step, draw: int, op: Op, operands: tuple[np.ndarray, ...], addend: Terms) -> None:
        """A register plus an addend, a number or the product of two."""
        level = self.levels[step.level]
        before, terms = self.registers.get(step.register, self.cleared)
        u = self._drawn(self.draw.accumulator, draw, level.target)
        value, flags = self._compute(op, (*operands, before), self.paths[step.level], level.target, u)
        both = addend.some & terms.some
        level.shift(np.abs(addend.exponent - terms.exponent), both)
        lowest = np.minimum(addend.low, terms.low)
        total = Sum(
            addend.finite & terms.finite,
            lowest,
            np.maximum(addend.exponent, terms.exponent),
            2,
            shifted(addend, lowest) + shifted(terms, lowest),
            lambda i: Fraction(float(before[i])) + _fraction(operands, i),
        )
        held = apart(value)
        swamped = int(np.count_nonzero(both & (same(addend, held) | same(terms, held))))
        level.rounded(step.register, value, held, flags, total, self.size, swamped)
        self.registers[step.register] = value, held

    def _fuse(self, step: Step) -> None:
        dp, level, columns = self.datapath, self.levels[step.level], self.b.shape[1]
        order, unit = dp.inner_order, integer_unit(dp, self.a.shape[1])
        before, terms = self.registers.get(step.register, self.cleared)
        a = np.ascontiguousarray(self.a[self.first : self.last, step.first : step.last])
        b = np.ascontiguousarray(self.b[step.first : step.last])
        x, y = a, b
        if unit.with_least:
            one, other = (None if side.block_codes is None else side.block_codes for side in (self.x, self.y))
            one = None if one is None else one[self.first : self.last, step.first : step.last].T
            other = None if other is None else other[step.first : step.last]
            size = unit.group or len(b)
            x = with_least(a.T, dp.a, one, size, unit.group > 0).T.copy()
            y = with_least(b, dp.b, other, size, unit.group > 0)
        value, flags = before.copy(), np.zeros(self.size, np.uint8)
        u = self._drawn(self.draw.accumulator, step.draw, level.target)
        _fuse(x, y.reshape(-1), value, flags, columns, u, unit, np.zeros(unit.limbs + 1, np.int64), level.target)

        place = terms.exponent if isinstance(order, Exact) else self._aligned(terms)
        finite, lowest, largest = terms.finite, terms.low, place
        for term, own, _ in self._addends(step, order):
            finite, lowest, largest = finite & term.finite, np.minimum(lowest, term.low), np.maximum(largest, own)
        word = shifted(terms, lowest)
        for term, own, top in self._addends(step, order):
            level.shift((largest if top is None else top) - own, finite & term.some)
            word += shifted(term, lowest)
        level.shift(largest - place, finite & terms.some)

        def exactly(i: int) -> Fraction:
            row, column = divmod(i, columns)
            pairs = zip(a[row].tolist(), self.b[step.first : step.last, column].tolist(), strict=True)
            return sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(float(before[i])))

        held, products = apart(value), step.last - step.first
        total = Sum(finite, lowest, largest, products + 1, word, exactly)
        some, kept = finite & terms.some, unit.kept_bits
        if isinstance(order, Exact):
            swamped = some & (flags & _INEXACT != 0) & (value == before)
        elif isinstance(order, TwoStage):
            flags |= np.where(finite & self._differs(held, total), _INEXACT, 0).astype(np.uint8)
            dropped = (place < largest - kept - 1) if order.interleaved else np.zeros(self.size, bool)
            swamped = some & (dropped | ((terms.exponent < largest - kept) & (before > 0)))
        else:
            quantum = np.maximum(largest, unit.floor) - kept if unit.floating else np.full(self.size, -kept)
            flags |= np.where(finite & (lowest < quantum), _INEXACT, 0).astype(np.uint8)
            swamped = some & (terms.exponent < quantum)
        lost = int(np.count_nonzero(swamped))
        highest = -NONE
        for term, _, top in self._addends(step, order) if not isinstance(order, Exact) else ():
            cut = quantum if top is None else top - kept
            lost += int(np.count_nonzero(finite & term.some & (term.exponent < cut)))
            highest = max(highest, int(term.exponent[finite].max(initial=-NONE)))
        level.rounded(step.register, value, held, flags, total, self.size * products, lost)
        any_term = finite & (lowest < NONE)
        level.events += Events(
            lowest_term=_found(int(lowest[any_term].min(initial=NONE))),
            highest_term=highest if isinstance(order, TwoStage) and highest > -NONE else None,
            reach=int((largest - lowest)[any_term].max(initial=0)),
        )
        self.registers[step.register] = value, held

    def _addends(self, step: Step, order: Order) -> Iterator[tuple[Terms, np.ndarray, np.ndarray | None]]:
        """What a step adds to its register, where each is aligned, and the largest such place of its stage, if that is
        not the step's; one by one, as all of them may take much memory."""
        every = range(step.first, step.last)
        if isinstance(order, TwoStage):
            emax, apart_by = self.levels[-1].fmt.emax, 1 + order.interleaved  # type: ignore[union-attr]
            stages = [
                np.maximum.reduce([self._aligned_product(k) for k in every[i::apart_by]]) if i < len(every) else None
                for i in range(apart_by)
            ]
            for i, k in enumerate(every):
                product = self._product(k)
                ended = product.finite & (product.exponent <= emax)  # or it is an infinity
                yield product._replace(finite=ended), self._aligned_product(k), stages[i % apart_by]
        elif isinstance(order, Fused) and order.group:
            for start in every[:: order.group]:
                part = range(start, min(start + order.group, step.last))
                with np.errstate(invalid="ignore"):
                    sums = self.a[self.first : self.last, part.start : part.stop] @ self.b[part.start : part.stop]
                place = np.maximum.reduce([self._aligned_product(k) for k in part])
                yield apart(sums.reshape(-1)), place, None
        else:
            for k in every:
                product = self._product(k)
                yield product, product.exponent if isinstance(order, Exact) else self._aligned_product(k), None

    def _differs(self, held: Terms, total: Sum) -> np.ndarray:
        """Where results are not the exact sums."""
        other = (shifted(held, total.lowest) != total.word) | (held.some & (held.low < total.lowest)) | ~held.finite
        wide = np.maximum(total.largest, held.exponent) - total.lowest + total.terms.bit_length() > 62
        for i in np.flatnonzero(total.finite & ~other & wide & (total.lowest < NONE)):
            exponent = Fraction(2) ** int(held.low[i])
            other[i] = (int(held.odd[i]) * exponent if held.some[i] else 0) != total.exactly(int(i))
        return other

    def _aligned(self, total: Terms) -> np.ndarray:
        """The exponents of a register as a fused unit aligns them."""
        emin = self.levels[-1].fmt.emin
        return np.where(total.some, np.maximum(total.exponent, emin), -NONE)

    def _aligned_product(self, k: int) -> np.ndarray:
        """And of products: the sums of the operands' exponents."""
        some = self.x.terms.some[self.first : self.last, k, None] & self.y.terms.some[k]
        places = self.places[0][self.first : self.last, k, None] + self.places[1][k]
        return np.where(some, places, -NONE).reshape(-1)


def _width(fmt: Format | BlockFormat) -> int:
    """Significant bits of an operand's numbers, with those of scales."""
    return fmt.precision + (fmt.scale.precision if isinstance(fmt, BlockFormat) else 0)


def _fraction(operands: tuple[np.ndarray, ...], i: int) -> Fraction:
    product = Fraction(1)
    for x in operands:
        product *= Fraction(float(x[i]))
    return product
