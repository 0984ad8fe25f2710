"""Operands to test function units with: all of them where they are few, otherwise directed and weighted random ones.

The scheme is TestFloat's (John Hauser, release 3e, ``genCases``): operands are put together from interesting exponents
and interesting significands; every m-th case runs through all combinations of a table of such operands, the cases
between are random, weighted toward the same pieces. Added to it are operands related to each other, so that sums
cancel, terms meet at every distance, and products and quotients land on the edges of the range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..emulator.blocks import BlockFormat
from ..emulator.errors import HalfulpError
from ..emulator.floats import FloatFormat
from ..emulator.formats import Format
from ..emulator.functions import function
from .evaluate import evaluate
from .lines import split

BLOCK = 1 << 14  #: cases that are drawn together
_EXHAUSTIVE_BITS = {1: 16, 2: 24}  #: operands of so many bits altogether are run through, by level
_PERIOD = {1: {1: 3, 2: 6, 3: 9}, 2: {1: 2, 2: 2, 3: 2}}  #: m, by level and number of operands
_AT_LEAST = {1: 1 << 16, 2: 1 << 22}  #: cases of a level


def _exponents(fmt: FloatFormat, wide: bool) -> list[int]:
    """Fields at the edges of the range, around one, and where sums begin to lose their smaller term."""
    top, bias, p = (1 << fmt.exponent_bits) - 1, int(fmt.bias or 0), fmt.precision
    offsets = [-p, -2, -1, 0, 1, 2, p]
    if wide:
        integers = [e + d for e in (30, 62) for d in (-1, 0, 1, 2)]  # the ends of 32- and 64-bit integers
        offsets += [-2 * p, -p - 1, 1 - p, -4, -3, 3, 4, p - 1, p + 1, 2 * p, *integers]
    fields = [0, 1, top - 1, top, *([2, top - 2] if wide else []), *(bias + offset for offset in offsets)]
    return sorted({field for field in fields if 0 <= field <= top})


def _patterns(bits: int, wide: bool) -> list[int]:
    """Words with few changes of digit: all zeros and ones, and, if ``wide``, one odd bit or two runs."""
    ones = (1 << bits) - 1
    words = {0, 1 & ones, ones, ones & ~1}
    if wide:
        for k in range(bits):
            words |= {1 << k, ones ^ 1 << k, (1 << k) - 1, ones ^ (1 << k) - 1}
    return sorted(words)


def _words(fmt: Format, wide: bool) -> list[int]:
    """Codes of a format without exponent field: runs of equal bits, their neighbours and negatives."""
    bits, ones = fmt.bits, (1 << fmt.bits) - 1
    middle = getattr(fmt, "fraction_bits", bits // 2)  # the place of one, in fixed point
    places = range(bits) if wide else [0, 1, 2, bits // 2, middle - 1, middle, middle + 1, bits - 3, bits - 2, bits - 1]
    runs = {(1 << k) + d for k in places if 0 <= k < bits for d in (-1, 0, 1)}
    return sorted({word & ones for run in runs for word in (run, -run, ~run)})


def directed(fmt: Format, exponents: bool = False, significands: bool = False) -> np.ndarray:
    """Interesting codes of a format: uint64, ascending; more of them with wide ``exponents`` or ``significands``."""
    if not isinstance(fmt, FloatFormat):
        return np.array(_words(fmt, exponents or significands), np.uint64)
    t = fmt.trailing_bits
    signs = (0, 1 << (fmt.bits - 1)) if fmt.bits > fmt.exponent_bits + t else (0,)
    return np.array(
        sorted(
            sign | field << t | pattern
            for sign in signs
            for field in _exponents(fmt, exponents)
            for pattern in _patterns(t, significands)
        ),
        np.uint64,
    )


def _pick(table: np.ndarray, sixteen_bits: np.ndarray) -> np.ndarray:
    return table[(sixteen_bits & np.uint64(0xFFFF)) * np.uint64(len(table)) >> np.uint64(16)]


@dataclass(frozen=True)
class Cases:
    """An endless sequence of operands, the same for the same fields, however it is cut.

    A level is every combination if the operands have at most 16 (level 2: 24) bits altogether (and no smaller
    ``number`` is wanted), otherwise all combinations of directed codes with random cases between them. What follows is
    the same again, with other random cases.
    """

    operands: tuple[Format | BlockFormat, ...]
    random_bits: int = 0  #: of a further operand, the random bits of stochastic rounding
    level: int = 1  #: 1 or 2
    seed: int = 1
    number: int | None = None  #: of cases wanted; None: as many as the level has

    def __post_init__(self) -> None:
        if self.level not in (1, 2):
            raise HalfulpError(f"the level is 1 or 2, not {self.level}.")
        if not 0 <= self.seed < 1 << 64:
            raise HalfulpError(f"seed must lie in [0, 2**64), not {self.seed}.")

    @property
    def bits(self) -> tuple[int, ...]:
        """The width of each column."""
        random = (self.random_bits,) if self.random_bits else ()
        return tuple(fmt.bits for fmt in self.operands) + random

    @cached_property
    def exhaustive(self) -> bool:
        """Whether every combination is run through."""
        bits = sum(self.bits)
        return bits <= _EXHAUSTIVE_BITS[self.level] and (self.number is None or self.number >= 1 << bits)

    @property
    def total(self) -> int:
        """The number of cases wanted."""
        if self.number is not None:
            return self.number
        if self.exhaustive:
            return 1 << sum(self.bits)
        return max(self._period * self._combinations if self._tables else 0, _AT_LEAST[self.level])

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """The directed codes of each operand; none where the operands are too many to combine them, or blocks."""
        single = [fmt for fmt in self.operands if not isinstance(fmt, BlockFormat)]
        if len(single) < len(self.operands) or len(single) > 3:
            return []
        return [directed(fmt, len(single) == 1, self.level == 2) for fmt in single]

    @cached_property
    def _combinations(self) -> int:
        return math.prod(len(table) for table in self._tables)

    @property
    def _period(self) -> int:
        return _PERIOD[self.level][len(self.operands)]

    def columns(self, begin: int, end: int) -> np.ndarray:
        """Cases ``begin`` to ``end``: uint64, a row per operand and one of random bits, a column per case.

        An operand wider than 64 bits has several rows, as ``lines.limbs`` tells.
        """
        if self.exhaustive:
            return self._enumerated(begin, end)
        blocks = [self._block(block) for block in range(begin // BLOCK, -(-end // BLOCK))]
        first = begin // BLOCK * BLOCK
        return np.concatenate(blocks, axis=1)[:, begin - first : end - first]

    def _enumerated(self, begin: int, end: int) -> np.ndarray:
        index = np.arange(begin, end, dtype=np.uint64)
        rows: list[np.ndarray] = []
        for bits in reversed(self.bits):
            rows.insert(0, index & np.uint64((1 << bits) - 1))
            index = index >> np.uint64(bits)
        return np.stack(rows)

    def _block(self, block: int) -> np.ndarray:
        """The cases [block * BLOCK, (block + 1) * BLOCK)."""
        philox = np.random.Philox(key=[self.seed, block])
        rows: list[np.ndarray] = []
        for fmt in self.operands:
            drawn, choice = _drawn(fmt, philox), philox.random_raw(BLOCK)
            if rows and fmt == self.operands[0] and not isinstance(fmt, BlockFormat):
                drawn = _related(fmt, drawn, rows, choice)
            rows.append(drawn)
        if self._tables:
            self._combine(block, rows)
        if self.random_bits:
            rows.append(_drawn_bits(self.random_bits, philox.random_raw(BLOCK)))
        return np.concatenate([split(row, width) for row, width in zip(rows, self.bits, strict=True)])

    def _combine(self, block: int, rows: list[np.ndarray]) -> None:
        """Put the combinations of directed codes at every ``_period``-th case, scattered."""
        first = block * BLOCK
        places = np.arange(-(first + 1) % self._period, BLOCK, self._period)
        stride = int(self._combinations * 0.6180339887) | 1
        while math.gcd(stride, self._combinations) > 1:
            stride += 2
        start = (first + int(places[0])) // self._period * stride % self._combinations
        index = (start + np.arange(len(places)) * stride) % self._combinations
        for row, table in zip(rows, self._tables, strict=True):
            row[places] = table[index % len(table)]
            index //= len(table)


def _drawn(fmt: Format | BlockFormat, philox: np.random.Philox) -> np.ndarray:
    """BLOCK random codes, weighted toward interesting ones; those of a block are packed (Python integers)."""
    if isinstance(fmt, BlockFormat):
        parts = [_drawn(part, philox) for part in [fmt.scale, *[fmt.element] * fmt.size]]
        packed = parts[0].astype(object)
        for part in parts[1:]:
            packed = packed << fmt.element.bits | part.astype(object)
        return packed
    choice, noise = philox.random_raw(2 * BLOCK).reshape(2, BLOCK)
    return _drawn_float(fmt, choice, noise) if isinstance(fmt, FloatFormat) else _drawn_word(fmt, choice, noise)


def _drawn_float(fmt: FloatFormat, choice: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Random codes: exponents from the table or near one, significands the sum of two patterns or any."""
    t, w = fmt.trailing_bits, fmt.exponent_bits
    top, bias = (1 << w) - 1, int(fmt.bias or 0)
    reach = (choice >> np.uint64(32)) % np.uint64(w + 1)  # near one: so many bits away from it
    near = (choice >> np.uint64(40) & ((np.uint64(1) << reach) - np.uint64(1))).astype(np.int64)
    near = np.clip(np.where(choice >> np.uint64(56) & np.uint64(1), bias + near, bias - near), 0, top)
    listed = _pick(np.array(_exponents(fmt, True)), choice)
    field = np.where(choice >> np.uint64(57) & np.uint64(1), listed, near).astype(np.uint64)
    patterns = np.array(_patterns(t, True), np.uint64)
    few = _pick(patterns, choice >> np.uint64(16)) + _pick(patterns, noise)
    trailing = np.where(choice >> np.uint64(58) & np.uint64(3), few, noise) & np.uint64((1 << t) - 1)
    sign = noise >> np.uint64(63) << np.uint64(fmt.bits - 1) if fmt.bits > w + t else np.uint64(0)
    return sign | field << np.uint64(t) | trailing


def _drawn_word(fmt: Format, choice: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Random codes of a format without exponent field: with a random number of leading equal bits, or listed ones."""
    shift = choice % np.uint64(fmt.bits)  # arithmetic, so that the leading bits repeat
    shifted = (noise.astype(np.int64) >> shift.astype(np.int64)).astype(np.uint64) >> np.uint64(64 - fmt.bits)
    listed = _pick(np.array(_words(fmt, True), np.uint64), choice >> np.uint64(16))
    return np.where(choice >> np.uint64(32) & np.uint64(3), shifted, listed)


def _drawn_bits(bits: int, noise: np.ndarray) -> np.ndarray:
    """Random bits, often all zeros or all ones."""
    ones = np.uint64((1 << bits) - 1)
    kind = noise >> np.uint64(61)
    return np.where(kind == 0, np.uint64(0), np.where(kind == 1, ones, noise & ones))


def _related(fmt: Format, drawn: np.ndarray, before: Sequence[np.ndarray], choice: np.ndarray) -> np.ndarray:
    """``drawn``, at half of the places replaced by codes that stand in a relation to the operands ``before``."""
    kind = choice & np.uint64(15)
    step = (choice >> np.uint64(4)) % np.uint64(5) - np.uint64(2)  # -2 ... 2, modulo 2^64
    ones = np.uint64((1 << fmt.bits) - 1)
    close = kind == 0
    other = before[0].copy()
    if len(before) == 2:  # the third operand of a fused multiply-add: minus the product, nearly
        multiply = function(f"{fmt}_mul")
        other[close] = evaluate(multiply, *(row[close] for row in before[:2]))[0]
    if not isinstance(fmt, FloatFormat):
        return np.where(close, np.where(choice >> np.uint64(8) & np.uint64(1), other, -other) + step, drawn) & ones
    flip = (choice >> np.uint64(8) & np.uint64(1)) << np.uint64(fmt.bits - 1)
    codes = np.where(close, (other ^ flip) + step & ones, drawn)
    field = _related_field(fmt, before, kind, choice)
    w, t = fmt.exponent_bits, fmt.trailing_bits
    mask = np.uint64(((1 << w) - 1) << t)
    return np.where((kind > 0) & (kind < 8), codes & ~mask | field << np.uint64(t), codes)


def _related_field(fmt: FloatFormat, before: Sequence[np.ndarray], kind: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Exponent fields at a distance where sums round (kinds 1 to 4), or that bring products (5, 6) and quotients (7)
    to the edges of the range."""
    w, t, p, bias = fmt.exponent_bits, fmt.trailing_bits, fmt.precision, int(fmt.bias or 0)
    fields = [(row >> np.uint64(t)).astype(np.int64) & ((1 << w) - 1) for row in before]
    base = fields[0] if len(fields) == 1 else fields[0] + fields[1] - bias
    reach = (p + 2) * len(fields[:2])
    distance = (choice >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int64) % (2 * reach + 1) - reach
    edges = np.array([-t - 1, -t, -1, 0, 1, 2, (1 << w) - 2, (1 << w) - 1], np.int64)
    edge = _pick(edges, choice >> np.uint64(32))
    field = np.where(kind < 5, base + distance, np.where(kind < 7, edge - fields[0] + bias, fields[0] - edge + bias))
    return np.clip(field, 0, (1 << w) - 1).astype(np.uint64)
