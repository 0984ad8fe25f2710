"""The definition: exact result, then one rounding.

Every operation decodes its operands to exact integers, forms the exact result, and hands it to one
``round_pack``, which returns a code and the IEEE flags. It is written to be read and checked, not to be fast;
the kernels are proven equal to it, code for code.

Rules where standards leave a choice
------------------------------------
* NaN results are the destination's canonical NaN (RISC-V). A destination without NaN receives its largest
  positive value and raises invalid (PTX ``satfinite``, RISC-V ``fcvt``).
* An infinity that the destination cannot hold is treated as overflow.
* 0 * inf raises invalid even when the addend is a quiet NaN (RISC-V).
* ``ftz`` formats: a result that is tiny after rounding becomes a zero of its sign.
* Fixed point: negative zero becomes zero; an infinity saturates, also in a wrapping format.
* Posits: the code is rounded, see ``_round_posit``; negative zero becomes zero.
* All modes, SR included, act on the magnitude.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import IntFlag
from fractions import Fraction
from numbers import Integral
from typing import NamedTuple

from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Kind, PositFormat, Unpacked
from .rounding import RNE, Mode, Rounding


class Flags(IntFlag):
    """IEEE 754 exceptions, in the bit order of RISC-V's fflags."""

    NONE = 0
    INEXACT = 1
    UNDERFLOW = 2
    OVERFLOW = 4
    DIVIDE_BY_ZERO = 8
    INVALID = 16

    def __str__(self) -> str:
        return "|".join(flag.name.lower() for flag in Flags if flag in self) or "-"  # type: ignore[union-attr]


class Result(NamedTuple):
    """What an operation returns: the code in the destination format and the flags raised."""

    code: int
    flags: Flags


NAN = Unpacked(Kind.NAN)
INVALID_NAN = Unpacked(Kind.NAN, signaling=True)


_DECIMAL_REACH = 5000


def _fraction(text: str) -> Fraction:
    """The number a text denotes; beyond 10^+-5000 one of that size, which no format can tell from it."""
    if "/" in text:
        return Fraction(text)
    if match := re.fullmatch(r"(?i)(.*)e([+-]?[\d_]+)", text.strip()):
        # an exponent of many digits is cut to one that Decimal takes, and that is just as far out of reach
        text = f"{match[1]}e{max(-999_999, min(int(match[2]), 999_999))}"
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    if number and abs(number.adjusted()) > _DECIMAL_REACH:
        reach = Fraction(10) ** (_DECIMAL_REACH if number.adjusted() > 0 else -_DECIMAL_REACH)
        return -reach if number < 0 else reach
    return Fraction(number)


def exact(value: float | int | str | Fraction) -> Unpacked:
    """The datum of a number, exact for floats, integers and dyadic fractions.

    A decimal string or any other fraction keeps 4096 bits below its leading digit and one sticky bit, which no
    format or rounding mode can tell from the exact value.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text) if text.lower().lstrip("+-") in ("nan", "inf", "infinity") else _fraction(text)
        except (ValueError, ArithmeticError):
            raise HalfulpError(f"{text!r} is not a number: write 0.3, -1e-9, nan or inf.") from None
        if value == 0:
            return Unpacked(Kind.FINITE, text.startswith("-"))
    if isinstance(value, Fraction):
        numerator, denominator = abs(value.numerator), value.denominator
        shift = (
            denominator.bit_length() - 1 if denominator & (denominator - 1) == 0 else 4096 + denominator.bit_length()
        )
        significand, rest = divmod(numerator << shift, denominator)
        return Unpacked(Kind.FINITE, value < 0, significand << 1 | (rest != 0), -shift - 1)
    if isinstance(value, Integral):
        return Unpacked(Kind.FINITE, value < 0, abs(int(value)), 0)
    value = float(value)
    if value != value:
        return NAN
    negative = str(value).startswith("-")
    if value in (float("inf"), float("-inf")):
        return Unpacked(Kind.INFINITY, negative)
    numerator, denominator = abs(value).as_integer_ratio()
    return Unpacked(Kind.FINITE, negative, numerator, 1 - denominator.bit_length())


def _increments(mode: Mode, negative: bool, kept: int, rest: int, shift: int, k: int, random: int) -> bool:
    """Whether a magnitude (kept + rest / 2^shift) moves up to kept + 1."""
    half = 1 << (shift - 1)
    match mode:
        case Mode.RNE:
            return rest > half or (rest == half and kept & 1 == 1)
        case Mode.RNA:
            return rest >= half
        case Mode.RTZ:
            return False
        case Mode.RTP:
            return rest > 0 and not negative
        case Mode.RTN:
            return rest > 0 and negative
        case Mode.RTO:
            return rest > 0 and kept & 1 == 0
        case Mode.SR:
            return (rest << k >> shift) + random >= 1 << k


def round_at(datum: Unpacked, quantum: int, rounding: Rounding, random: int) -> int:
    """The integer number of 2^quantum nearest to |datum| in the sense of the mode."""
    shift = quantum - datum.exponent
    if shift <= 0:
        return datum.significand << -shift
    kept, rest = datum.significand >> shift, datum.significand & ((1 << shift) - 1)
    return kept + _increments(rounding.mode, datum.negative, kept, rest, shift, rounding.random_bits, random)


def _leading_exponent(datum: Unpacked) -> int:
    return datum.significand.bit_length() - 1 + datum.exponent


def round_pack(
    datum: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, tininess: str = "after"
) -> Result:
    """Round an exact datum once into ``fmt``.

    Parameters
    ----------
    random : the k random bits of SR, as an integer in [0, 2^k); otherwise ignored.
    tininess : ``"after"`` (RISC-V, x86) or ``"before"`` (Arm) rounding; only the underflow flag depends on it.
    """
    if rounding.random_bits and not 0 <= random < 1 << rounding.random_bits:
        raise HalfulpError(f"{rounding} takes a random integer below 2**{rounding.random_bits}, not {random}.")
    if isinstance(fmt, FixedFormat):
        return _round_fixed(datum, fmt, rounding, random)
    if isinstance(fmt, PositFormat):
        return _round_posit(datum, fmt, rounding, random)
    return _round_float(datum, fmt, rounding, random, tininess)


def _without_nan(fmt: Format) -> Result:
    return Result(fmt.pack(exact_max(fmt)), Flags.INVALID)


def exact_max(fmt: Format, negative: bool = False) -> Unpacked:
    """The largest finite datum of a sign."""
    if isinstance(fmt, FixedFormat):
        integer = fmt.min_integer if negative else fmt.max_integer
        return Unpacked(Kind.FINITE, negative and integer != 0, abs(integer), -fmt.fraction_bits)
    return exact(fmt.min_finite if negative else fmt.max_finite)


def _infinite(negative: bool, fmt: FloatFormat) -> int:
    """Where an infinity lands in a float format."""
    if fmt.saturate or not (fmt.has_infinity or fmt.has_nan):
        return fmt.pack(exact_max(fmt, negative))
    return fmt.pack(Unpacked(Kind.INFINITY, negative)) if fmt.has_infinity else fmt.nan_code


def _round_float(datum: Unpacked, fmt: FloatFormat, rounding: Rounding, random: int, tininess: str) -> Result:
    negative = datum.negative
    if datum.kind is Kind.NAN:
        if not fmt.has_nan:
            return _without_nan(fmt)
        return Result(fmt.nan_code, Flags.INVALID if datum.signaling else Flags.NONE)
    if datum.kind is Kind.INFINITY:
        held = fmt.has_infinity and not fmt.saturate
        return Result(_infinite(negative, fmt), Flags.NONE if held else Flags.OVERFLOW | Flags.INEXACT)
    zero = Unpacked(Kind.FINITE, negative and fmt.has_negative_zero)
    if datum.is_zero:
        return Result(fmt.pack(zero), Flags.NONE)

    free = _leading_exponent(datum) - fmt.precision + 1  # the quantum of an unbounded exponent range
    quantum = free if fmt.quantum_exponent is None else max(free, fmt.quantum_exponent)
    result = Unpacked(Kind.FINITE, negative, round_at(datum, quantum, rounding, random), quantum)
    flags = Flags.NONE if result.fraction == datum.fraction else Flags.INEXACT

    smallest_normal = Fraction(2) ** fmt.emin
    rounded_freely = Fraction(round_at(datum, free, rounding, random)) * Fraction(2) ** free
    tiny = (abs(datum.fraction) if tininess == "before" and fmt.subnormals else rounded_freely) < smallest_normal
    if tiny and not fmt.subnormals:
        return Result(fmt.pack(zero), Flags.UNDERFLOW | Flags.INEXACT)
    if tiny and flags:
        flags |= Flags.UNDERFLOW
    if abs(result.fraction) > Fraction(fmt.max_finite):
        toward_zero = rounding.mode in (Mode.RTZ, Mode.RTO) or rounding.mode is (Mode.RTP if negative else Mode.RTN)
        code = fmt.pack(exact_max(fmt, negative)) if toward_zero else _infinite(negative, fmt)
        return Result(code, Flags.OVERFLOW | Flags.INEXACT)
    return Result(fmt.pack(result if result.significand else zero), flags)


def _round_fixed(datum: Unpacked, fmt: FixedFormat, rounding: Rounding, random: int) -> Result:
    if datum.kind is Kind.NAN:
        return _without_nan(fmt)
    beyond = Flags.OVERFLOW | Flags.INEXACT
    if datum.kind is Kind.INFINITY:
        return Result(fmt.pack(exact_max(fmt, datum.negative)), beyond)
    integer = round_at(datum, -fmt.fraction_bits, rounding, random) * (-1 if datum.negative else 1)
    if fmt.min_integer <= integer <= fmt.max_integer:
        changed = integer * Fraction(2) ** -fmt.fraction_bits != datum.fraction
        return Result(integer & ((1 << fmt.bits) - 1), Flags.INEXACT if changed else Flags.NONE)
    if fmt.wrap:
        return Result(integer & ((1 << fmt.bits) - 1), beyond)
    return Result(fmt.pack(exact_max(fmt, integer < 0)), beyond)


def _round_posit(datum: Unpacked, fmt: PositFormat, rounding: Rounding, random: int) -> Result:
    """Round the code as a real number (``PositFormat.body``) to an integer between those of minpos and maxpos.

    RNE is the rounding of the Standard for Posit Arithmetic (2022), section 4.1: ties go to the even code, and no
    number but zero becomes zero or NaR. It has no other modes; here each acts on the code of the magnitude, and then
    minpos and maxpos bound the result: RTZ of what is below minpos is minpos, RTO takes the odd code, and SR rounds up
    with the chance of the part of the code that is cut off, which between values of one exponent is that of the value.

    Nor has it flags. Here ``inexact`` is a changed value, with ``overflow`` for a magnitude above maxpos and
    ``underflow`` for one below minpos; ``invalid`` is a NaR that no operand was (an infinity becomes NaR).
    """
    if datum.kind is not Kind.FINITE:
        quiet = datum.kind is Kind.NAN and not datum.signaling
        return Result(fmt.nan_code, Flags.NONE if quiet else Flags.INVALID)
    if datum.is_zero:
        return Result(0, Flags.NONE)
    body = fmt.body(datum)
    code = min(max(round_at(body, 0, rounding, random), 1), fmt.max_code)
    exact_code = abs(body.fraction)
    flags = Flags.NONE if exact_code == code else Flags.INEXACT
    if exact_code > fmt.max_code:
        flags |= Flags.OVERFLOW
    elif exact_code < 1:
        flags |= Flags.UNDERFLOW
    return Result(fmt.signed(code, datum.negative), flags)


def quantize(datum: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """Convert: round a datum once into ``fmt``."""
    return round_pack(datum, fmt, rounding, random)


def exact_product(x: Unpacked, y: Unpacked) -> Unpacked:
    """x * y, exact; an invalid operation comes back as a signaling NaN."""
    negative = x.negative != y.negative
    if Kind.NAN in (x.kind, y.kind):
        return Unpacked(Kind.NAN, signaling=x.signaling or y.signaling)
    if Kind.INFINITY in (x.kind, y.kind):
        return INVALID_NAN if x.is_zero or y.is_zero else Unpacked(Kind.INFINITY, negative)
    return Unpacked(Kind.FINITE, negative, x.significand * y.significand, x.exponent + y.exponent)


def exact_sum(x: Unpacked, y: Unpacked, rounding: Rounding = RNE) -> Unpacked:
    """x + y, exact; the mode decides the sign of an exact zero (IEEE 754-2019 section 6.3)."""
    if Kind.NAN in (x.kind, y.kind):
        return Unpacked(Kind.NAN, signaling=x.signaling or y.signaling)
    if x.kind is Kind.INFINITY and y.kind is Kind.INFINITY and x.negative != y.negative:
        return INVALID_NAN
    if Kind.INFINITY in (x.kind, y.kind):
        return x if x.kind is Kind.INFINITY else y
    exponent = min(x.exponent, y.exponent)
    total = sum((-1 if z.negative else 1) * z.significand << (z.exponent - exponent) for z in (x, y))
    if total == 0:
        negative = (x.negative and y.negative) or ((x.negative or y.negative) and rounding.mode is Mode.RTN)
        return Unpacked(Kind.FINITE, negative)
    return Unpacked(Kind.FINITE, total < 0, abs(total), exponent)


def add(x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """x + y rounded once into ``fmt``."""
    return round_pack(exact_sum(x, y, rounding), fmt, rounding, random)


def mul(x: Unpacked, y: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """x * y rounded once into ``fmt``."""
    return round_pack(exact_product(x, y), fmt, rounding, random)


def fma(x: Unpacked, y: Unpacked, z: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0) -> Result:
    """x * y + z rounded once into ``fmt``."""
    return round_pack(exact_sum(exact_product(x, y), z, rounding), fmt, rounding, random)
