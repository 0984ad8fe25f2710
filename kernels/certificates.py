"""Certificates: when a BLAS call gives the very bits of a datapath, because nothing is ever rounded.

The operands' values are multiples of 2^qa and 2^qb, so that every product and every partial sum, in whatever order, is
a multiple of 2^(qa + qb), and none is larger than K max|a| max|b|, or than the largest norm of a row of A times that of
a column of B, which is N such units. Where binary32 or binary64 and the accumulator hold all multiples of that unit up
to N, every step is exact in both, and in every rounding mode. What must hold is checked here, on exact integers,
against the formats' largest magnitudes, or the data's own; norms with room for what they are rounded by.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..emulator.alignment import alignment_quantum
from ..emulator.blocks import exponents
from ..emulator.datapath import Datapath
from ..emulator.formats import FixedFormat, FloatFormat, Format
from ..emulator.orders import Fused, TwoStage
from ..emulator.rounding import Mode
from .paths import BINARY32, BINARY64

if TYPE_CHECKING:
    from .backends import Backend
    from .operands import Operand

_TYPES = {"float32": BINARY32, "float64": BINARY64}  #: of BLAS, the cheaper one first
_FEW = 4  #: lines that are looked at before all are


class Certificate(NamedTuple):
    """Whether BLAS may be called, in which type, and why (not)."""

    dtype: str | None
    reason: str


@lru_cache(maxsize=256)
def certificate(
    datapath: Datapath, length: int, largest_a: float, largest_b: float, most: int | None = None
) -> Certificate:
    """The certificate for dot products of ``length`` terms whose operands have at most these magnitudes.

    length : K. largest_a, largest_b : max|a| and max|b|, values of the datapath's formats, or the infinity or NaN that
    is among them. most : units that no sum exceeds, if the operands tell less. Exact: nothing is estimated.

    The caller sees to it that the operands are values of the datapath's formats, and that a zero result becomes +0.
    """
    if datapath.product is not None:
        return Certificate(None, "the datapath rounds its products")
    if datapath.in_blocks:
        return Certificate(None, "operands in blocks have many scales")
    if not (math.isfinite(largest_a) and math.isfinite(largest_b)):
        return Certificate(None, "there are infinities or NaNs among the operands")
    low_a, low_b = exponents(datapath.a)[0], exponents(datapath.b)[0]
    unit = low_a + low_b
    n = length * _units(largest_a, low_a) * _units(largest_b, low_b)
    n = n if most is None else min(n, most)
    said = f"sums of {length} products are at most {_power(n)} times 2^{unit}"
    for accumulator, rounding in datapath.accumulators:
        lacking = _lacks(accumulator, n, unit)
        if lacking:
            return Certificate(None, f"{said}; the accumulator {accumulator} {lacking}")
        if rounding.mode is Mode.RTN and _has_negative_zero(accumulator):
            return Certificate(None, "under RTN a sum that cancels is -0")
    if _cuts(datapath, largest_a, largest_b, n, unit):
        return Certificate(None, f"{said}; the fused unit may cut some of their bits off")
    for dtype, carrier in _TYPES.items():
        fits = min(low_a, low_b, unit) >= 1 - carrier.emax and n.bit_length() + unit <= carrier.emax
        fits = fits and max(math.frexp(x)[1] for x in (largest_a, largest_b)) <= carrier.emax  # the operands, too
        if fits and n <= 1 << carrier.precision:
            return Certificate(dtype, f"{said}; the accumulator {datapath.accumulator} and {dtype} hold them all")
    return Certificate(None, f"{said}; float64 does not hold them all")


@lru_cache(maxsize=1024)
def certificate_of_all(datapath: Datapath, length: int) -> Certificate:
    """The certificate for any operands at all, which need not be looked at; of formats without infinities and NaNs."""
    if not all(isinstance(fmt, FixedFormat) for fmt in (datapath.a, datapath.b)):
        return Certificate(None, "some may not be finite")
    return certificate(datapath, length, *_tops(datapath))


def _tops(datapath: Datapath) -> tuple[float, float]:
    """The largest magnitudes of its operands' formats."""
    a, b = (max(abs(fmt.min_finite), fmt.max_finite) for fmt in (datapath.a, datapath.b))
    return a, b


def certificate_of_norms(datapath: Datapath, x: Operand, y: Operand, backend: Backend) -> Certificate | None:
    """That of binary32 where one in binary64 holds for any numbers of the formats, by the norms of the rows of x,
    (M, K), and the columns of y, (K, N): by Cauchy and Schwarz a dot product, and each of its partial sums, is at most
    the product of two. None if they are too large; a few are looked at first."""
    found, limit = _limit_of_norms(datapath, x.values.shape[1])
    sides = x.values, y.values.T
    few = [lines[len(lines) // 2 :][:_FEW] for lines in sides]
    products = (math.prod(_largest_norm(lines, backend) for lines in given) for given in (few, sides))
    return found if limit and all(product <= limit for product in products) else None


def _largest_norm(lines: np.ndarray, backend: Backend) -> float:
    """The largest squared norm of a line."""
    found: list[float] = []

    def part(begin: int, end: int) -> None:
        found.append(float(np.einsum("ij,ij->i", lines[begin:end], lines[begin:end]).max()))

    backend.share(part, len(lines), lines.shape[1], grain=1)
    return max(found)


@lru_cache(maxsize=256)
def _limit_of_norms(datapath: Datapath, length: int) -> tuple[Certificate, float]:
    """The certificate of sums of as many units as binary32 holds, and what two squared norms may then multiply to; 0
    if there is none. Norms may be added up in binary32, where no square is to be too small or too large, and each
    square and addition adds at most 2^-24 of the sum: the limit is lower by twice as much."""
    most, tops = 1 << BINARY32.precision, _tops(datapath)
    found = certificate(datapath, length, *tops, most)
    low_a, low_b = exponents(datapath.a)[0], exponents(datapath.b)[0]
    if found.dtype != "float32" or min(low_a, low_b) < -60 or max(tops) > 2.0**50:
        return found, 0.0
    return found, (most * 2.0 ** (low_a + low_b)) ** 2 * max(1 - (length + 2) * 2.0**-22, 0.0)


def _cuts(datapath: Datapath, largest_a: float, largest_b: float, n: int, unit: int) -> bool:
    """Whether a fused unit, aligned to the largest exponent there can be, cuts off bits of weight 2^unit or more.

    One of two stages keeps as many bits in each, or more; an accumulator that it drops or floors has lower ones.
    """
    order = datapath.inner_order
    if not isinstance(order, (Fused, TwoStage)):
        return False
    tops = [max(math.frexp(x)[1] - 1, fmt.emin) for x, fmt in ((largest_a, datapath.a), (largest_b, datapath.b))]
    accumulator = datapath.accumulators[-1][0]
    return alignment_quantum(accumulator, order, max(sum(tops), n.bit_length() - 1 + unit)) > unit


def _units(magnitude: float, exponent: int) -> int:
    """A magnitude in units of 2^exponent, of which it is a multiple."""
    units = Fraction(magnitude) / Fraction(2) ** exponent
    assert units.denominator == 1, "an operand is none of its format's values"
    return units.numerator


def _power(n: int) -> str:
    return str(n) if n < 1000 else f"2^{math.log2(n):.1f}"


def _lacks(accumulator: Format, n: int, unit: int) -> str:
    """What an accumulator lacks of holding every multiple of 2^unit up to n of them, either sign; empty if nothing."""
    largest = n * Fraction(2) ** unit
    low, _high = exponents(accumulator)
    if isinstance(accumulator, FixedFormat):
        lowest, highest = (x * Fraction(2) ** low for x in (accumulator.min_integer, accumulator.max_integer))
    else:
        highest = Fraction(accumulator.max_finite)
        lowest = -highest if accumulator.min_finite < 0 else Fraction(0)
        if not isinstance(accumulator, FloatFormat) or not accumulator.has_zero:
            return "has no exact zero to begin with"
        low = low if accumulator.subnormals else accumulator.emin
        if n > 1 << accumulator.precision:
            return f"has a significand of {accumulator.precision} bits"
    if n and unit < low:
        return f"drops what is below 2^{low}"
    return "" if -lowest >= largest <= highest else f"ends at {float(min(-lowest, highest)):g}"


def _has_negative_zero(fmt: Format) -> bool:
    return isinstance(fmt, FloatFormat) and fmt.has_negative_zero
