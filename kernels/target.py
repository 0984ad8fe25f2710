"""Target: what a kernel needs to know to round into a format, as plain numbers; and which path may be taken.

Rounding is decided on (kept, rest): the magnitude in units of its last kept bit is kept + rest / 2^62. Every
mode is then one comparison, ``rest + random > threshold``, with one threshold for each sign and parity of kept:
all modes are four numbers.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat, Format, Specials
from ..emulator.rounding import Mode, Rounding
from .subset import f64, i64

UNIT = 1 << 62  #: one unit of the last kept bit, as ``rest`` counts it
HALF = 1 << 61
SIGN = -(1 << 63)


class Target(NamedTuple):
    """A destination format and rounding, as 64-bit words. Field order is the layout in C++."""

    precision: i64  #: p: significant bits kept
    quantum: i64  #: exponent below which no bit is kept
    positive_even: i64  #: thresholds, see above
    positive_odd: i64
    negative_even: i64
    negative_odd: i64
    random_bits: i64  #: k of SR, else 0
    flush_below: f64  #: magnitudes below it become zero (ftz), 0 if none do
    low: f64  #: smallest and largest finite value
    high: f64
    over_low: f64  #: what a result beyond them becomes
    over_high: f64
    infinity_low: f64  #: what an infinity becomes
    infinity_high: f64
    nan: f64  #: what a NaN becomes
    negative_zero: i64  #: 1 if the format has -0
    zero_sign: i64  #: sign bit if an exact zero sum of unlike signs is -0 (RTN), else 0
    wrap_bits: i64  #: WL of a wrapping fixed format, else 0
    wrap_low: i64  #: its smallest integer


class FusedUnit(NamedTuple):
    """A fused unit (``emulator.datapath.Fused``) and its operands, as 64-bit words."""

    terms: i64  #: products a step
    kept_bits: i64  #: floating: bits kept below the largest exponent; else minus the exponent of the last weight kept
    floating: i64  #: 1 if the accumulator is a float
    precision_x: i64
    emin_x: i64
    precision_y: i64
    emin_y: i64
    emin_total: i64  #: of the accumulator


Struct = Target | FusedUnit
STRUCTS = (Target, FusedUnit)  #: handed to kernels by pointer

_NEVER = UNIT
_THRESHOLDS = {  # positive even, positive odd, negative even, negative odd
    Mode.RNE: (HALF, HALF - 1, HALF, HALF - 1),
    Mode.RNA: (HALF - 1,) * 4,
    Mode.RTZ: (_NEVER,) * 4,
    Mode.RTP: (0, 0, _NEVER, _NEVER),
    Mode.RTN: (_NEVER, _NEVER, 0, 0),
    Mode.RTO: (0, _NEVER, 0, _NEVER),
    Mode.SR: (UNIT - 1,) * 4,
}


@lru_cache(maxsize=1024)
def target(fmt: Format, rounding: Rounding, operand: bool = False) -> Target:
    """The Target of a format and rounding.

    ``operand``: of values on their way in, where a saturating format keeps an infinity that is among its codes.

    Raises
    ------
    HalfulpError
        Values of the format do not fit binary64, which carries them (fixed point wider than 53 bits), or its ends or
        ties follow rules that a Target does not hold (unsigned floats, P3109's extended ones).
    """
    if isinstance(fmt, FloatFormat) and (
        not fmt.signed or fmt.specials is Specials.EXTENDED or fmt.parity(fmt.emin + 1)
    ):
        raise HalfulpError(f"kernels do not round into {fmt} yet; the definition (halfulp.emulator) does.")
    if isinstance(fmt, FixedFormat):
        if fmt.bits > 53:
            raise HalfulpError(f"kernels carry values in binary64, which holds at most 53 bits; {fmt} has {fmt.bits}.")
        over = infinity = (fmt.min_finite, fmt.max_finite)
        nan, quantum, flush = fmt.max_finite, fmt.quantum_exponent, 0.0
    else:
        bounds = (fmt.min_finite, fmt.max_finite)
        beyond = (float("-inf"), float("inf")) if fmt.has_infinity else (float("nan"),) * 2
        overflow = bounds if fmt.saturate or not (fmt.has_infinity or fmt.has_nan) else beyond
        infinity = beyond if operand and fmt.has_infinity else overflow
        up = rounding.mode not in (Mode.RTZ, Mode.RTO, Mode.RTN)
        down = rounding.mode not in (Mode.RTZ, Mode.RTO, Mode.RTP)
        over = (overflow[0] if down else bounds[0], overflow[1] if up else bounds[1])
        nan = float("nan") if fmt.has_nan else fmt.max_finite
        # ftz: fine enough to round just below min_normal as if the exponent range went on
        quantum = fmt.emin - fmt.precision if fmt.quantum_exponent is None else fmt.quantum_exponent
        flush = 0.0 if fmt.subnormals else fmt.min_normal
    return Target(
        fmt.precision,
        quantum,
        *_THRESHOLDS[rounding.mode],
        rounding.random_bits,
        flush,
        fmt.min_finite,
        fmt.max_finite,
        *over,
        *infinity,
        nan,
        int(fmt.has_negative_zero),
        SIGN if rounding.mode is Mode.RTN else 0,
        fmt.bits if isinstance(fmt, FixedFormat) and fmt.wrap else 0,
        fmt.min_integer if isinstance(fmt, FixedFormat) else 0,
    )


class Path(IntEnum):
    """Three ways to the same bits."""

    NATIVE = 0  #: the processor's own binary64 operation, where the destination is fp64 with RNE
    ODD = 1  #: binary64 result folded to odd with its exact error, then one rounding
    WIDE = 2  #: 119-bit integers; always right


FP64 = FloatFormat(11, 52)


def _fits_odd(fmt: Format, rounding: Rounding) -> bool:
    """Whether rounding a 53-bit round-to-odd value into ``fmt`` equals rounding the exact value.

    Round-to-odd at 53 bits is innocuous for a destination that looks at no more than 51 bits (Boldo & Melquiond
    2008, doi:10.1109/TC.2007.70819); SR also looks at k bits below. The power of two of the last kept bit must
    be a normal binary64 number. A wrapping format looks at every bit.
    """
    if isinstance(fmt, FixedFormat) and fmt.wrap:
        return False
    return fmt.precision + rounding.random_bits + 2 <= 53 and target(fmt, rounding).quantum >= -1022


def _exponents(fmt: Format) -> tuple[int, int]:
    """Exponents of the lowest and the highest bit that a non-zero value of ``fmt`` can have."""
    if isinstance(fmt, FixedFormat):
        return -fmt.fraction_bits, fmt.integer_bits
    return fmt.emin - fmt.trailing_bits, fmt.emax


def product_is_exact(a: Format, b: Format) -> bool:
    """Whether every product of a value of ``a`` and one of ``b`` is a normal binary64 number."""
    (low_a, high_a), (low_b, high_b) = _exponents(a), _exponents(b)
    return a.precision + b.precision <= 53 and low_a + low_b >= -1022 and high_a + high_b + 2 <= 1022


def mac_path(a: Format, b: Format, c: Format, result: Format, rounding: Rounding) -> Path:
    """The fastest path proven to give a * b + c, rounded once into ``result``.

    ODD needs the product exact in binary64, the sum free of overflow there, and ``result`` narrow enough.
    """
    if result == FP64 and rounding.mode is Mode.RNE:
        return Path.NATIVE
    if (
        product_is_exact(a, b)
        and _exponents(c)[1] <= 1020
        and _exponents(c)[0] >= -1022
        and _fits_odd(result, rounding)
    ):
        return Path.ODD
    return Path.WIDE


def convert_path(result: Format, rounding: Rounding) -> Path:
    """The fastest path proven to round any binary64 value once into ``result``."""
    return Path.ODD if _fits_odd(result, rounding) else Path.WIDE


def accumulate_path(datapath: Datapath) -> Path:
    """The path of a sequential accumulation on ``datapath`` (with a rounded product: of its addition)."""
    if datapath.product is not None:
        one = FixedFormat(2, 0)
        return mac_path(datapath.product, one, datapath.accumulator, datapath.accumulator, datapath.rounding)
    return mac_path(datapath.a, datapath.b, datapath.accumulator, datapath.accumulator, datapath.rounding)
