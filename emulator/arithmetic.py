"""The definition: exact result, then one rounding.

Every operation decodes its operands to exact integers, forms the exact result, and hands it to one
``round_pack``, which returns a code and the IEEE flags. It is written to be read and checked, not to be fast;
the kernels are proven equal to it, code for code.

Rules where standards leave a choice
------------------------------------
* NaN results, tininess and flushing follow the ``Conventions``; by default NaN results are the destination's
  canonical NaN and 0 * inf raises invalid even when the addend is a quiet NaN (RISC-V).
* A destination without NaN receives its largest positive value and raises invalid (PTX ``satfinite``, RISC-V
  ``fcvt``).
* Overflow, after rounding: the modes that point back into the range (RTZ, RTP or RTN of the other sign, RTO) stop at
  its end, the others go on to infinity, in a format without one to NaN, without either or with ``sat`` to the end.
  An infinity that the destination cannot hold goes on likewise, in every mode. Both raise overflow|inexact.
* Unsigned floats: the range ends at their least value, so that a negative result overflows (IEEE P3109 section
  "Saturate": NaN, or 0 in RTZ and RTP, or with ``sat``).
* P3109 formats: p = 1 makes ties go to the even code; RTO overflows to infinity where infinity's code is the odd one;
  x / 0 is NaN in extended formats, zero having no sign. (Its finite formats share the layout of ``fnuz`` and stop at
  the end in RTO, where the report has NaN.)
* E8M0 and its like have no zero: what rounds below their least value, zero too, becomes that and raises
  underflow|inexact (OCP MX is silent; in its scales, too, a block of zeros takes the least one).
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

from .conventions import RISCV, Conventions
from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Kind, PositFormat, Specials, Unpacked
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


_OVERFLOWED = Flags.OVERFLOW | Flags.INEXACT
_UNDERFLOWED = Flags.UNDERFLOW | Flags.INEXACT


class Result(NamedTuple):
    """What an operation returns: the code in the destination format and the flags raised."""

    code: int
    flags: Flags


NAN = Unpacked(Kind.NAN)
INVALID_NAN = Unpacked(Kind.NAN, negative=True, signaling=True)  #: what an invalid operation on numbers gives


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


def _increments(rounding: Rounding, negative: bool, odd: bool, rest: int, shift: int, random: int) -> bool:
    """Whether a magnitude kept + rest / 2^shift, kept being odd or even, moves up to kept + 1."""
    match rounding.mode:
        case Mode.RNE:
            half = 1 << (shift - 1)
            return rest > half or (rest == half and odd)
        case Mode.RNA:
            return rest >= 1 << (shift - 1)
        case Mode.RND:
            return rest >= (1 << (shift - 1)) + (not negative)
        case Mode.RTZ:
            return False
        case Mode.RTP:
            return rest > 0 and not negative
        case Mode.RTN:
            return rest > 0 and negative
        case Mode.RTO:
            return rest > 0 and not odd
        case Mode.SR:
            k = rounding.random_bits
            drawn_on = rest << k >> shift
            if rounding.corrected:
                below = (rest << k) - (drawn_on << shift)
                drawn_on += _increments(RNE, False, drawn_on & 1 == 1, below, shift, 0)
            return drawn_on + random >= 1 << k


def round_at(datum: Unpacked, quantum: int, rounding: Rounding, random: int, parity: int = 0) -> int:
    """The integer number of 2^quantum nearest to |datum| in the sense of the mode.

    It counts as even or odd by its sum with ``parity`` (see ``FloatFormat.parity``).
    """
    shift = quantum - datum.exponent
    if shift <= 0:
        return datum.significand << -shift
    kept, rest = datum.significand >> shift, datum.significand & ((1 << shift) - 1)
    odd = (kept + parity) & 1 == 1
    return kept + _increments(rounding, datum.negative, odd, rest, shift, random)


def _differs(datum: Unpacked, kept: int, quantum: int) -> bool:
    """Whether the magnitude of a datum is not kept * 2^quantum, to which it was rounded."""
    shift = quantum - datum.exponent
    return shift > 0 and kept << shift != datum.significand


def round_pack(
    datum: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """Round an exact datum once into ``fmt``.

    Parameters
    ----------
    random : the k random bits of SR, as an integer in [0, 2^k); otherwise ignored.
    """
    rounding.check(random)
    if datum.kind is Kind.NAN:
        return _round_nan(datum, fmt, conventions)
    if isinstance(fmt, FixedFormat):
        return _round_fixed(datum, fmt, rounding, random)
    if isinstance(fmt, PositFormat):
        return _round_posit(datum, fmt, rounding, random)
    return _round_float(datum, fmt, rounding, random, conventions)


def exact_max(fmt: Format, negative: bool = False) -> Unpacked:
    """The largest finite datum of a sign."""
    if isinstance(fmt, FixedFormat):
        integer = fmt.min_integer if negative else fmt.max_integer
        return Unpacked(Kind.FINITE, negative and integer != 0, abs(integer), -fmt.fraction_bits)
    return exact(fmt.min_finite if negative else fmt.max_finite)


def _round_nan(datum: Unpacked, fmt: Format, conventions: Conventions) -> Result:
    if not fmt.has_nan:
        return Result(fmt.pack(exact_max(fmt)), Flags.INVALID)
    code = fmt.nan_code if conventions.nan == "canonical" else fmt.pack(datum)  # type: ignore[union-attr]
    return Result(code, Flags.INVALID if datum.signaling else Flags.NONE)


def _end_code(negative: bool, fmt: FloatFormat) -> int:
    """The code at the end of the range on that side."""
    if not negative:
        return fmt.max_code
    return fmt.sign_bit | fmt.max_code if fmt.signed else 0


def _beyond_code(negative: bool, fmt: FloatFormat) -> int:
    """The code of what lies beyond the range, and of an infinity."""
    if fmt.saturate or not (fmt.has_infinity or fmt.has_nan):
        return _end_code(negative, fmt)
    if fmt.has_infinity and (fmt.signed or not negative):
        return _end_code(negative, fmt) + 1
    return fmt.nan_code


def _overflow(negative: bool, fmt: FloatFormat, mode: Mode) -> Result:
    end = _end_code(negative, fmt)
    stays = mode is Mode.RTZ or mode is (Mode.RTP if negative else Mode.RTN)
    if mode is Mode.RTO:
        stays = fmt.specials is not Specials.EXTENDED or end & 1 == 1
    return Result(end if stays else _beyond_code(negative, fmt), _OVERFLOWED)


def _round_float(
    datum: Unpacked, fmt: FloatFormat, rounding: Rounding, random: int, conventions: Conventions
) -> Result:
    negative, precision, emin = datum.negative, fmt.precision, fmt.emin
    if datum.kind is Kind.INFINITY:
        held = fmt.has_infinity and not fmt.saturate and (fmt.signed or not negative)
        return Result(_beyond_code(negative, fmt), Flags.NONE if held else _OVERFLOWED)
    sign = fmt.sign_bit if negative and fmt.signed else 0
    zero = sign if fmt.has_negative_zero else 0
    if not datum.significand:
        return Result(zero, Flags.NONE if fmt.has_zero else _UNDERFLOWED)

    exponent = datum.significand.bit_length() - 1 + datum.exponent
    free = exponent - precision + 1  # the quantum of an unbounded exponent range
    tiny = exponent < emin
    if tiny and (conventions.tininess == "after" or not fmt.subnormals):
        carried = round_at(datum, free, rounding, random, fmt.parity(free)) >> precision
        tiny = exponent + carried < emin
    if tiny and (conventions.ftz or not fmt.subnormals or not fmt.has_zero):
        return Result(zero, _UNDERFLOWED)

    quantum = max(free, emin - precision + 1)
    kept = round_at(datum, quantum, rounding, random, fmt.parity(quantum))
    if not kept:
        return Result(zero, _UNDERFLOWED)
    code = fmt.magnitude_code(kept, quantum)
    if code > fmt.max_code or (negative and not fmt.signed):
        return _overflow(negative, fmt, rounding.mode)
    if not _differs(datum, kept, quantum):
        return Result(sign | code, Flags.NONE)
    return Result(sign | code, _UNDERFLOWED if tiny else Flags.INEXACT)


def _round_fixed(datum: Unpacked, fmt: FixedFormat, rounding: Rounding, random: int) -> Result:
    if datum.kind is Kind.INFINITY:
        return Result(fmt.pack(exact_max(fmt, datum.negative)), _OVERFLOWED)
    kept = round_at(datum, fmt.quantum_exponent, rounding, random)
    integer = -kept if datum.negative else kept
    if fmt.min_integer <= integer <= fmt.max_integer:
        changed = _differs(datum, kept, fmt.quantum_exponent)
        return Result(integer & ((1 << fmt.bits) - 1), Flags.INEXACT if changed else Flags.NONE)
    if fmt.wrap:
        return Result(integer & ((1 << fmt.bits) - 1), _OVERFLOWED)
    return Result(fmt.pack(exact_max(fmt, integer < 0)), _OVERFLOWED)


def _round_posit(datum: Unpacked, fmt: PositFormat, rounding: Rounding, random: int) -> Result:
    """Round the code as a real number (``PositFormat.body``) to an integer from minpos's to maxpos's.

    RNE is the rounding of the Standard for Posit Arithmetic (2022), section 4.1: ties go to the even code; magnitudes
    below minpos become minpos and those above maxpos maxpos, so that only zero becomes zero and no number NaR. It has
    no other modes; here each acts on the code's magnitude between the same ends. RTZ thus never gives zero, RTO takes
    the odd code, and SR goes up with the chance of the part of the code that is cut off, which is that of the value
    where only fraction bits are cut off.

    Nor has it flags. Here a changed value raises inexact, with underflow if it became minpos and overflow if it became
    maxpos as said above; an infinity becomes NaR, as do invalid operations, and raises invalid.
    """
    if datum.kind is Kind.INFINITY:
        return Result(fmt.nan_code, Flags.INVALID)
    if not datum.significand:
        return Result(0, Flags.NONE)
    body = fmt.body(datum)
    one = 1 << max(-body.exponent, 0)
    magnitude = body.significand << max(body.exponent, 0)  # in units of 1 / one
    if magnitude < one:
        code, flags = 1, _UNDERFLOWED
    elif magnitude > fmt.max_code * one:
        code, flags = fmt.max_code, _OVERFLOWED
    else:
        code = round_at(body, 0, rounding, random)
        flags = Flags.NONE if code * one == magnitude else Flags.INEXACT
    return Result(fmt.with_sign(code, datum.negative), flags)


def quantize(
    datum: Unpacked, fmt: Format, rounding: Rounding = RNE, random: int = 0, conventions: Conventions = RISCV
) -> Result:
    """Convert: round a datum once into ``fmt``."""
    return round_pack(datum, fmt, rounding, random, conventions)


def propagated(*operands: Unpacked) -> Unpacked:
    """The NaN that comes of operands with a NaN among them: the first one, signaling if any of them is."""
    first = next(x for x in operands if x.kind is Kind.NAN)
    return first._replace(signaling=any(x.signaling for x in operands))


def exact_product(x: Unpacked, y: Unpacked) -> Unpacked:
    """x * y, exact; an invalid operation comes back as ``INVALID_NAN``."""
    if x.kind is y.kind is Kind.FINITE:
        return Unpacked(Kind.FINITE, x.negative != y.negative, x.significand * y.significand, x.exponent + y.exponent)
    if Kind.NAN in (x.kind, y.kind):
        return propagated(x, y)
    return INVALID_NAN if x.is_zero or y.is_zero else Unpacked(Kind.INFINITY, x.negative != y.negative)


def exact_sum(x: Unpacked, y: Unpacked, rounding: Rounding = RNE) -> Unpacked:
    """x + y, exact; the mode decides the sign of an exact zero (IEEE 754-2019 section 6.3)."""
    if x.kind is y.kind is Kind.FINITE:
        exponent = min(x.exponent, y.exponent)
        a = x.significand << (x.exponent - exponent)
        b = y.significand << (y.exponent - exponent)
        total = (-a if x.negative else a) + (-b if y.negative else b)
        if total:
            return Unpacked(Kind.FINITE, total < 0, abs(total), exponent)
        unlike = x.negative != y.negative
        return Unpacked(Kind.FINITE, rounding.mode is Mode.RTN if unlike else x.negative)
    if Kind.NAN in (x.kind, y.kind):
        return propagated(x, y)
    if x.kind is y.kind and x.negative != y.negative:
        return INVALID_NAN
    return x if x.kind is Kind.INFINITY else y


def add(
    x: Unpacked,
    y: Unpacked,
    fmt: Format,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
) -> Result:
    """x + y rounded once into ``fmt``."""
    return round_pack(exact_sum(x, y, rounding), fmt, rounding, random, conventions)


def mul(
    x: Unpacked,
    y: Unpacked,
    fmt: Format,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
) -> Result:
    """x * y rounded once into ``fmt``."""
    return round_pack(exact_product(x, y), fmt, rounding, random, conventions)


def fma(
    x: Unpacked,
    y: Unpacked,
    z: Unpacked,
    fmt: Format,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
) -> Result:
    """x * y + z rounded once into ``fmt``."""
    product = exact_product(x, y)
    if product is INVALID_NAN and z.kind is Kind.NAN and conventions.nan == "x86":
        # x86 processors let a NaN addend win over inf * 0, and then a quiet one raises nothing (vfmadd231ss on an
        # AMD EPYC; Intel SDM vol. 1, section 14.5); Berkeley SoftFloat's 8086-SSE raises invalid instead
        return round_pack(z, fmt, rounding, random, conventions)
    return round_pack(exact_sum(product, z, rounding), fmt, rounding, random, conventions)
