"""Terms: arrays of numbers taken apart, and bits that change from one to the next, for ``observation``."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ..emulator.formats import FixedFormat, Format
from .arrays import encode
from .subset import bits_of, compiled, leading_zeros

NONE = 1 << 20  #: where a number has no bits: the exponent of its lowest; of its highest -NONE


class Terms(NamedTuple):
    """Finite numbers other than zero as odd * 2^low, ``odd`` modulo 2^64."""

    finite: np.ndarray
    some: np.ndarray  #: whether there is such a number: finite, not zero
    exponent: np.ndarray  #: floor(log2|x|); -NONE where there is none
    low: np.ndarray  #: NONE where there is none
    odd: np.ndarray  #: 0 where there is none


def apart(x: np.ndarray) -> Terms:
    """The numbers of a float64 array, taken apart."""
    exponent, low, odd = (np.empty(x.size, np.int64) for _ in range(3))
    _take_apart(x.reshape(-1), exponent, low, odd)
    return Terms(np.isfinite(x), *(v.reshape(x.shape) for v in (odd != 0, exponent, low, odd)))


@compiled
def _take_apart(x: np.ndarray, exponent: np.ndarray, low: np.ndarray, odd: np.ndarray) -> None:
    for i in range(x.size):
        pattern: int = bits_of(x[i])  # type: ignore[call-arg]
        biased = (pattern >> 52) & 0x7FF
        fraction = pattern & 0xFFFFFFFFFFFFF
        exponent[i] = -NONE
        low[i] = NONE
        odd[i] = 0
        if biased < 0x7FF and (biased > 0 or fraction > 0):
            m = fraction | (1 << 52) if biased > 0 else fraction
            zeros = 63 - leading_zeros(m & -m)  # type: ignore[call-arg]
            last = max(biased, 1) - 1075
            exponent[i] = last + 63 - leading_zeros(m)  # type: ignore[call-arg]
            low[i] = last + zeros
            odd[i] = -(m >> zeros) if pattern < 0 else m >> zeros


def same(x: Terms, y: Terms) -> np.ndarray:
    """Whether two numbers are one; y has at most 53 bits, so that the last 64 tell."""
    return (x.odd == y.odd) & (x.low == y.low) & (x.exponent == y.exponent)


def shifted(x: Terms, lowest: np.ndarray) -> np.ndarray:
    """Numbers in units of 2^lowest, modulo 2^64."""
    shift = x.low - lowest
    return np.where(shift < 64, x.odd << np.minimum(shift, 63), 0)


class Sum(NamedTuple):
    """Exact sums, as far as they are looked at."""

    finite: np.ndarray  #: of finite terms
    lowest: np.ndarray  #: exponent of the lowest bit of the terms
    largest: np.ndarray  #: exponent of the largest
    terms: int  #: how many
    word: np.ndarray  #: the last 64 bits, in units of 2^lowest
    exactly: Callable[[int], Fraction]  #: the sum of one place


def lowest_bit_of(total: Sum, where: np.ndarray) -> int:
    """Exponent of the lowest bit of the sums at some places."""
    word, lowest = total.word[where], total.lowest[where]
    found = int((lowest[word != 0] + _trailing_zeros(word[word != 0])).min(initial=NONE))
    far = total.largest[where] - lowest + total.terms.bit_length() > 62  # or else it is zero
    for i in np.flatnonzero(where)[(word == 0) & far]:
        exactly = total.exactly(int(i))
        if exactly:
            last = exactly.numerator & -exactly.numerator
            found = min(found, last.bit_length() - exactly.denominator.bit_length())
    return found


def _trailing_zeros(word: np.ndarray) -> np.ndarray:
    return (np.frexp(np.abs((word & -word).astype(np.float64)))[1] - 1).astype(np.int64)


@compiled
def _ones(x: int) -> int:
    """How many bits of a 64-bit word are set."""
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    return (((x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F) * 0x0101010101010101) >> 56


@compiled
def code_changes(codes: np.ndarray, before: np.ndarray) -> int:
    """How many bits differ in all."""
    changed = 0
    for i in range(codes.size):
        changed += _ones(codes[i] ^ before[i])
    return changed


@compiled
def product_changes(a: np.ndarray, b: np.ndarray) -> int:
    """Of the products of significands below 2^53, a (rows, depth) and b (columns, depth)."""
    changed = 0
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            low_before = 0
            high_before = 0
            for k in range(a.shape[1]):
                x1, x0 = a[i, k] >> 27, a[i, k] & 0x7FFFFFF
                y1, y0 = b[j, k] >> 27, b[j, k] & 0x7FFFFFF
                middle = x1 * y0 + x0 * y1
                last = x0 * y0 + ((middle & 0x7FFFFFF) << 27)
                low = last & 0x3FFFFFFFFFFFFF
                high = x1 * y1 + (middle >> 27) + (last >> 54)
                changed += _ones(low ^ low_before) + _ones(high ^ high_before)
                low_before = low
                high_before = high
    return changed


def codes_of(values: np.ndarray, fmt: Format) -> np.ndarray:
    """Codes, as words of 64 bits."""
    return encode(values, fmt).astype(np.int64)


def significands(x: Terms, fmt: Format) -> np.ndarray:
    """Integers in units of each number's last place."""
    if isinstance(fmt, FixedFormat):
        quantum = np.full(x.low.shape, -fmt.fraction_bits)
    else:
        quantum = np.maximum(x.exponent, fmt.emin) - (fmt.precision - 1)
    return np.where(x.some, np.abs(x.odd) << np.where(x.some, x.low - quantum, 0), 0)
