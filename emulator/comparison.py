"""The definition, continued: IEEE 754's operations that do not round."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from .arithmetic import Flags, Result, exact_max, exact_sum, propagated, round_pack
from .conventions import RISCV, Conventions
from .formats import FixedFormat, FloatFormat, Format, Kind, PositFormat, Unpacked


class Relation(Enum):
    """The four relations of IEEE 754-2019 section 5.11."""

    LESS = "less"
    EQUAL = "equal"
    GREATER = "greater"
    UNORDERED = "unordered"


class Compared(NamedTuple):
    relation: Relation
    flags: Flags


class Class(Enum):
    """The ten classes of IEEE 754-2019 section 5.7.2."""

    SIGNALING_NAN = "signalingNaN"
    QUIET_NAN = "quietNaN"
    NEGATIVE_INFINITY = "negativeInfinity"
    NEGATIVE_NORMAL = "negativeNormal"
    NEGATIVE_SUBNORMAL = "negativeSubnormal"
    NEGATIVE_ZERO = "negativeZero"
    POSITIVE_ZERO = "positiveZero"
    POSITIVE_SUBNORMAL = "positiveSubnormal"
    POSITIVE_NORMAL = "positiveNormal"
    POSITIVE_INFINITY = "positiveInfinity"


def compare(x: Unpacked, y: Unpacked, signaling: bool = False, fmt: Format | None = None) -> Compared:
    """The relation of x to y. A NaN is unordered; it raises invalid if it signals, or if ``signaling`` (<, <=).

    Where ``fmt`` is a posit format, NaR is equal to itself and less than every number, and nothing is raised: the
    order of codes as signed integers (Standard for Posit Arithmetic 2022).
    """
    if Kind.NAN in (x.kind, y.kind):
        if isinstance(fmt, PositFormat):
            relation = Relation.EQUAL if x.kind is y.kind else Relation.LESS if x.kind is Kind.NAN else Relation.GREATER
            return Compared(relation, Flags.NONE)
        invalid = signaling or x.signaling or y.signaling
        return Compared(Relation.UNORDERED, Flags.INVALID if invalid else Flags.NONE)
    difference = exact_sum(x, y._replace(negative=not y.negative))
    if difference.is_zero or difference.kind is Kind.NAN:  # of infinities of one sign
        return Compared(Relation.EQUAL, Flags.NONE)
    return Compared(Relation.LESS if difference.negative else Relation.GREATER, Flags.NONE)


def _extremum(x: Unpacked, y: Unpacked, fmt: Format, conventions: Conventions, largest: bool, number: bool) -> Result:
    flags = Flags.INVALID if x.signaling or y.signaling else Flags.NONE
    nans = [z for z in (x, y) if z.kind is Kind.NAN]
    if nans and not (number and len(nans) == 1):
        return round_pack(propagated(x, y), fmt, conventions=conventions)
    if nans:
        return Result(fmt.pack(y if x.kind is Kind.NAN else x), flags)
    relation = compare(x, y).relation
    if relation is Relation.EQUAL:  # only zeros of unlike sign differ: -0 < +0
        first = x.negative != largest
    else:
        first = (relation is Relation.GREATER) == largest
    return Result(fmt.pack(x if first else y), flags)


def minimum(x: Unpacked, y: Unpacked, fmt: Format, conventions: Conventions = RISCV) -> Result:
    """The smaller of two data of ``fmt``, -0 below +0; a NaN if either is one (IEEE 754-2019 section 9.6)."""
    return _extremum(x, y, fmt, conventions, largest=False, number=False)


def maximum(x: Unpacked, y: Unpacked, fmt: Format, conventions: Conventions = RISCV) -> Result:
    """The larger of two data of ``fmt``; a NaN if either is one."""
    return _extremum(x, y, fmt, conventions, largest=True, number=False)


def minimum_number(x: Unpacked, y: Unpacked, fmt: Format, conventions: Conventions = RISCV) -> Result:
    """As ``minimum``, but a number wins over a NaN (RISC-V fmin)."""
    return _extremum(x, y, fmt, conventions, largest=False, number=True)


def maximum_number(x: Unpacked, y: Unpacked, fmt: Format, conventions: Conventions = RISCV) -> Result:
    """As ``maximum``, but a number wins over a NaN (RISC-V fmax)."""
    return _extremum(x, y, fmt, conventions, largest=True, number=True)


def next_up(code: int, fmt: Format, conventions: Conventions = RISCV) -> Result:
    """The least value of ``fmt`` above the code's (IEEE 754-2019 section 5.3.1).

    +infinity, and the largest value of a format without infinity, stay as they are; so does a NaN (a signaling one
    raises invalid and becomes quiet). Above the largest negative value stands -0 where there is one.

    Of posits it is the next code as a signed integer, wrapping around as the standard's ``next``: above maxpos
    stands NaR, above NaR -maxpos.
    """
    return _next(code, fmt, conventions, upward=True)


def next_down(code: int, fmt: Format, conventions: Conventions = RISCV) -> Result:
    """The greatest value of ``fmt`` below the code's: -next_up(-x) where the format is signed (``prior`` of posits)."""
    return _next(code, fmt, conventions, upward=False)


def _next(code: int, fmt: Format, conventions: Conventions, upward: bool) -> Result:
    if isinstance(fmt, PositFormat):
        return Result((code + (1 if upward else -1)) % (1 << fmt.bits), Flags.NONE)
    x = fmt.unpack(code)
    if x.kind is Kind.NAN:
        return round_pack(x, fmt, conventions=conventions)
    if isinstance(fmt, FixedFormat):
        end = fmt.pack(exact_max(fmt, not upward))
        return Result(code if code == end else (code + (1 if upward else -1)) % (1 << fmt.bits), Flags.NONE)
    magnitude = 0 if x.is_zero else code & (fmt.sign_bit - 1)
    if x.is_zero:
        negative = not upward
        found = _outward(0, fmt) if upward or fmt.signed else 0
    else:
        negative = x.negative
        found = _inward(magnitude, fmt) if x.negative == upward else _outward(magnitude, fmt)
    keeps_sign = negative and fmt.signed and (found > 0 or fmt.has_negative_zero)
    return Result(fmt.sign_bit | found if keeps_sign else found, Flags.NONE)


def _outward(magnitude: int, fmt: FloatFormat) -> int:
    """The magnitude code after this one; the last, infinity or max_finite, stays."""
    if not fmt.subnormals and magnitude < fmt.min_normal_code:
        return fmt.min_normal_code
    return min(magnitude + 1, fmt.max_code + fmt.has_infinity)


def _inward(magnitude: int, fmt: FloatFormat) -> int:
    """The magnitude code before this one; the first stays."""
    if not fmt.subnormals and magnitude <= fmt.min_normal_code:
        return 0
    return max(magnitude - 1, 0)


def classify(x: Unpacked, fmt: Format) -> Class:
    """The class of a datum of ``fmt``. Fixed point and posits have zeros and normal numbers; NaR is a quiet NaN."""
    if x.kind is Kind.NAN:
        return Class.SIGNALING_NAN if x.signaling else Class.QUIET_NAN
    sign = "NEGATIVE" if x.negative else "POSITIVE"
    if x.kind is Kind.INFINITY:
        return Class[f"{sign}_INFINITY"]
    if x.is_zero:
        return Class[f"{sign}_ZERO"]
    exponent = x.significand.bit_length() - 1 + x.exponent
    return Class[f"{sign}_{'SUBNORMAL' if exponent < fmt.emin else 'NORMAL'}"]
