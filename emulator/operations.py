"""The definition, continued: IEEE 754's other operations that round, each its exact result and one ``round_pack``.

Where a result has infinitely many digits (a quotient, a root) it is carried to ``_finest``'s bit and one sticky bit,
which no format or mode can tell from the exact value. Rules as in ``arithmetic``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .arithmetic import (
    INVALID_NAN,
    NAN,
    Flags,
    Result,
    exact_max,
    exact_product,
    exact_sum,
    propagated,
    round_at,
    round_pack,
)
from .conventions import RISCV, Conventions
from .errors import HalfulpError
from .formats import FixedFormat, Format, Kind, Unpacked
from .rounding import RNE, Rounding


def _finest(fmt: Format, rounding: Rounding, leading: int) -> int:
    """Exponent of a bit that rounding a result into ``fmt`` need not see, if a sticky bit stands below it.

    Rounding looks at p bits (in fixed point: at those down to the last place), at the k bits of SR, and whether what
    remains is below, at or above one half. ``leading`` is the exponent of the result's leading bit or one less.
    """
    last = leading - fmt.precision
    if isinstance(fmt, FixedFormat):
        last = min(last, fmt.quantum_exponent)
    return last - rounding.random_bits - 2


def negated(x: Unpacked) -> Unpacked:
    """-x; a NaN stays as it is."""
    return x if x.kind is Kind.NAN else x._replace(negative=not x.negative)


def sub(
    x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """x - y rounded once into ``fmt``."""
    return round_pack(exact_sum(x, negated(y), rounding), fmt, rounding, random, conventions)


def div(
    x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """x / y rounded once into ``fmt``; a finite non-zero x over zero is an infinity and raises divide-by-zero."""
    negative = x.negative != y.negative
    if Kind.NAN in (x.kind, y.kind):
        quotient = propagated(x, y)
    elif (x.is_zero and y.is_zero) or x.kind is y.kind is Kind.INFINITY:
        quotient = INVALID_NAN
    elif x.kind is Kind.INFINITY:
        quotient = Unpacked(Kind.INFINITY, negative)
    elif y.is_zero:
        signless = fmt.has_infinity and not fmt.has_negative_zero  # of a P3109 format: no infinity is the right one
        pole = NAN if signless else Unpacked(Kind.INFINITY, negative)
        code, flags = round_pack(pole, fmt, rounding, random, conventions)
        return Result(code, flags | Flags.DIVIDE_BY_ZERO)
    elif x.is_zero or y.kind is Kind.INFINITY:
        quotient = Unpacked(Kind.FINITE, negative)
    else:
        leading = x.significand.bit_length() + x.exponent - y.significand.bit_length() - y.exponent - 1
        exponent = min(_finest(fmt, rounding, leading), x.exponent - y.exponent)
        whole, rest = divmod(x.significand << (x.exponent - y.exponent - exponent), y.significand)
        quotient = Unpacked(Kind.FINITE, negative, whole << 1 | (rest != 0), exponent - 1)
    return round_pack(quotient, fmt, rounding, random, conventions)


def sqrt(
    x: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """The square root of x rounded once into ``fmt``; of -0 it is -0, of anything else negative invalid."""
    if x.kind is Kind.NAN or x.is_zero:
        return round_pack(x, fmt, rounding, random, conventions)
    if x.negative:
        return round_pack(INVALID_NAN, fmt, rounding, random, conventions)
    if x.kind is Kind.INFINITY:
        return round_pack(x, fmt, rounding, random, conventions)
    leading = (x.significand.bit_length() - 1 + x.exponent) // 2
    exponent = min(_finest(fmt, rounding, leading), x.exponent // 2)
    radicand = x.significand << (x.exponent - 2 * exponent)
    root = math.isqrt(radicand)
    return round_pack(
        Unpacked(Kind.FINITE, False, root << 1 | (root * root != radicand), exponent - 1),
        fmt,
        rounding,
        random,
        conventions,
    )


def rem(
    x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """IEEE remainder x - y n, n the integer nearest to x / y (ties to even), rounded once into ``fmt``.

    Exact where ``fmt`` holds both operands. A zero result has the sign of x.
    """
    if Kind.NAN in (x.kind, y.kind):
        return round_pack(propagated(x, y), fmt, rounding, random, conventions)
    if x.kind is Kind.INFINITY or y.is_zero:
        return round_pack(INVALID_NAN, fmt, rounding, random, conventions)
    if y.kind is Kind.INFINITY or x.is_zero:
        return round_pack(x, fmt, rounding, random, conventions)
    exponent = min(x.exponent, y.exponent)
    divisor = y.significand << (y.exponent - exponent)
    n, rest = divmod(x.significand << (x.exponent - exponent), divisor)
    if 2 * rest > divisor or (2 * rest == divisor and n & 1):
        rest -= divisor
    difference = Unpacked(Kind.FINITE, x.negative != (rest < 0), abs(rest), exponent)
    return round_pack(difference, fmt, rounding, random, conventions)


def round_to_integral(
    x: Unpacked,
    fmt: Format,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
    exact: bool = False,
) -> Result:
    """x rounded to an integer in ``rounding``'s mode, as a value of ``fmt``.

    ``exact`` is roundToIntegralExact; without it a changed value raises no flag. An integer that ``fmt``
    does not hold is rounded on into it in the same mode.
    """
    if x.kind is not Kind.FINITE or x.is_zero:
        return round_pack(x, fmt, rounding, random, conventions)
    integer = Unpacked(Kind.FINITE, x.negative, round_at(x, 0, rounding, random), 0)
    code, flags = round_pack(integer, fmt, rounding, random, conventions)
    if exact and integer.fraction != x.fraction:
        flags |= Flags.INEXACT
    return Result(code, flags)


def to_integer(
    x: Unpacked,
    fmt: FixedFormat,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
    exact: bool = False,
) -> Result:
    """IEEE 754-2019 convertToInteger (section 5.8): x rounded to an integer of ``fmt``, which has FL = 0.

    ``exact`` is convertToIntegerExact; without it a changed value raises no flag. What lies out of range after
    rounding, and a NaN, raises invalid alone and gives the end of the range on its side, a NaN the upper end
    (RISC-V ``fcvt``); with ``conventions.nan="x86"`` the integer indefinite 100...0, unsigned 111...1 (AVX-512). Of
    posits function units give 100...0 instead.
    """
    if fmt.fraction_bits:
        raise HalfulpError(f"{fmt} is no integer format: its FL must be 0, as in q32.0; quantize into {fmt} instead.")
    rounding.check(random)
    if x.kind is Kind.FINITE:
        integer = Unpacked(Kind.FINITE, x.negative, round_at(x, 0, rounding, random), 0)
        signed = -integer.significand if x.negative else integer.significand
        if fmt.min_integer <= signed <= fmt.max_integer:
            changed = exact and integer.fraction != x.fraction
            return Result(signed & ((1 << fmt.bits) - 1), Flags.INEXACT if changed else Flags.NONE)
    if conventions.nan == "x86":
        return Result(1 << (fmt.bits - 1) if fmt.signed else (1 << fmt.bits) - 1, Flags.INVALID)
    return Result(fmt.pack(exact_max(fmt, x.negative and x.kind is not Kind.NAN)), Flags.INVALID)


def scalb(
    x: Unpacked, n: int, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """x * 2^n rounded once into ``fmt``."""
    n = max(-20_000, min(n, 20_000))  # as far out of every format's reach as anything beyond
    scaled = x._replace(exponent=x.exponent + n) if x.kind is Kind.FINITE else x
    return round_pack(scaled, fmt, rounding, random, conventions)


def logb(
    x: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """floor(log2 |x|) rounded into ``fmt``; of zero -infinity and divide-by-zero, of an infinity +infinity."""
    if x.kind is Kind.NAN:
        return round_pack(x, fmt, rounding, random, conventions)
    if x.kind is Kind.INFINITY:
        return round_pack(Unpacked(Kind.INFINITY), fmt, rounding, random, conventions)
    if x.is_zero:
        code, flags = round_pack(Unpacked(Kind.INFINITY, True), fmt, rounding, random, conventions)
        return Result(code, flags | Flags.DIVIDE_BY_ZERO)
    exponent = x.significand.bit_length() - 1 + x.exponent
    return round_pack(Unpacked(Kind.FINITE, exponent < 0, abs(exponent), 0), fmt, rounding, random, conventions)


def sum(
    terms: Iterable[Unpacked],
    fmt: Format,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
) -> Result:
    """The sum of all terms, exact, rounded once into ``fmt``: an unbounded (Kulisch) accumulator.

    Starts at the first term, so that a sum of negative zeros is a negative zero; an empty sum is +0.
    """
    total: Unpacked | None = None
    for term in terms:
        total = term if total is None else exact_sum(total, term, rounding)
    return round_pack(total or Unpacked(Kind.FINITE), fmt, rounding, random, conventions)


def dot(
    pairs: Iterable[tuple[Unpacked, Unpacked]],
    fmt: Format,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
) -> Result:
    """The ``sum`` of the products of all pairs: exact, rounded once into ``fmt``."""
    return sum((exact_product(x, y) for x, y in pairs), fmt, rounding, random, conventions)
