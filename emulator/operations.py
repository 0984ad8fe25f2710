"""The definition, continued: IEEE 754's other operations that round, each its exact result and one ``round_pack``.

Where a result has infinitely many digits (a quotient, a root) it is carried to thousands of bits and one sticky bit,
which no format or mode can tell from the exact value. Rules as in ``arithmetic``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .arithmetic import INVALID_NAN, Flags, Result, exact, exact_product, exact_sum, round_at, round_pack
from .formats import Format, Kind, Unpacked
from .rounding import RNE, Rounding

_ROOT_BITS = 2048  #: kept below a root's leading bit


def negated(x: Unpacked) -> Unpacked:
    """-x; a NaN stays as it is."""
    return x if x.kind is Kind.NAN else x._replace(negative=not x.negative)


def sub(x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """x - y rounded once into ``fmt``."""
    return round_pack(exact_sum(x, negated(y), rounding), fmt, rounding, random)


def div(x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """x / y rounded once into ``fmt``; a finite non-zero x over zero is an infinity and raises divide-by-zero."""
    negative = x.negative != y.negative
    if Kind.NAN in (x.kind, y.kind):
        quotient = Unpacked(Kind.NAN, signaling=x.signaling or y.signaling)
    elif (x.is_zero and y.is_zero) or x.kind is y.kind is Kind.INFINITY:
        quotient = INVALID_NAN
    elif x.kind is Kind.INFINITY:
        quotient = Unpacked(Kind.INFINITY, negative)
    elif y.is_zero:
        code, flags = round_pack(Unpacked(Kind.INFINITY, negative), fmt, rounding, random)
        return Result(code, flags | Flags.DIVIDE_BY_ZERO)
    elif x.is_zero or y.kind is Kind.INFINITY:
        quotient = Unpacked(Kind.FINITE, negative)
    else:
        quotient = exact(x.fraction / y.fraction)
    return round_pack(quotient, fmt, rounding, random)


def sqrt(x: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """The square root of x rounded once into ``fmt``; of -0 it is -0, of anything else negative invalid."""
    if x.kind is Kind.NAN or x.is_zero:
        return round_pack(x, fmt, rounding, random)
    if x.negative:
        return round_pack(INVALID_NAN, fmt, rounding, random)
    if x.kind is Kind.INFINITY:
        return round_pack(x, fmt, rounding, random)
    shift = 2 * _ROOT_BITS + (x.exponent & 1)
    radicand = x.significand << shift
    root = math.isqrt(radicand)
    sticky = root * root != radicand
    return round_pack(
        Unpacked(Kind.FINITE, False, root << 1 | sticky, (x.exponent - shift) // 2 - 1), fmt, rounding, random
    )


def rem(x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """IEEE remainder x - y n, n the integer nearest to x / y (ties to even), rounded once into ``fmt``.

    Exact where ``fmt`` holds both operands. A zero result has the sign of x.
    """
    if Kind.NAN in (x.kind, y.kind):
        return round_pack(Unpacked(Kind.NAN, signaling=x.signaling or y.signaling), fmt, rounding, random)
    if x.kind is Kind.INFINITY or y.is_zero:
        return round_pack(INVALID_NAN, fmt, rounding, random)
    if y.kind is Kind.INFINITY or x.is_zero:
        return round_pack(x, fmt, rounding, random)
    rest = x.fraction - y.fraction * round(x.fraction / y.fraction)  # Python rounds ties to even
    return round_pack(exact(rest) if rest else Unpacked(Kind.FINITE, x.negative), fmt, rounding, random)


def round_to_integral(
    x: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, signal_inexact: bool = False
) -> Result:
    """x rounded to an integer in ``rounding``'s mode, as a value of ``fmt``.

    ``signal_inexact`` is roundToIntegralExact; without it a changed value raises no flag. An integer that ``fmt``
    does not hold is rounded on into it in the same mode.
    """
    if x.kind is not Kind.FINITE or x.is_zero:
        return round_pack(x, fmt, rounding, random)
    integer = round_at(x, 0, rounding, random)
    code, flags = round_pack(Unpacked(Kind.FINITE, x.negative, integer, 0), fmt, rounding, random)
    if signal_inexact and integer != abs(x.fraction):
        flags |= Flags.INEXACT
    return Result(code, flags)


def scalb(x: Unpacked, n: int, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """x * 2^n rounded once into ``fmt``."""
    n = max(-20_000, min(n, 20_000))  # as far out of every format's reach as anything beyond
    scaled = x._replace(exponent=x.exponent + n) if x.kind is Kind.FINITE else x
    return round_pack(scaled, fmt, rounding, random)


def logb(x: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """floor(log2 |x|) rounded into ``fmt``; of zero -infinity and divide-by-zero, of an infinity +infinity."""
    if x.kind is Kind.NAN:
        return round_pack(x, fmt, rounding, random)
    if x.kind is Kind.INFINITY:
        return round_pack(Unpacked(Kind.INFINITY), fmt, rounding, random)
    if x.is_zero:
        code, flags = round_pack(Unpacked(Kind.INFINITY, True), fmt, rounding, random)
        return Result(code, flags | Flags.DIVIDE_BY_ZERO)
    return round_pack(exact(x.significand.bit_length() - 1 + x.exponent), fmt, rounding, random)


def dot(pairs: Iterable[tuple[Unpacked, Unpacked]], fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """The sum of products, exact, rounded once into ``fmt``: an unbounded (Kulisch) accumulator.

    Starts at the first product, so that a sum of negative zeros is a negative zero; an empty sum is +0.
    """
    total: Unpacked | None = None
    for x, y in pairs:
        product = exact_product(x, y)
        total = product if total is None else _accumulated(total, product, rounding)
    return round_pack(total or Unpacked(Kind.FINITE), fmt, rounding, random)


def _accumulated(total: Unpacked, term: Unpacked, rounding: Rounding) -> Unpacked:
    """exact_sum, but an invalid operation once met stays one."""
    result = exact_sum(total, term, rounding)
    return result._replace(signaling=True) if result.kind is Kind.NAN and total.signaling else result
