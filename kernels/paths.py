"""Paths: which of three ways to the same bits may be taken, and why."""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from ..emulator.blocks import exponents
from ..emulator.conventions import RISCV, Conventions
from ..emulator.datapath import Datapath
from ..emulator.formats import FixedFormat, FloatFormat, Format
from ..emulator.orders import Fused, TwoStage
from ..emulator.rounding import Mode, Rounding
from .target import fits_float, has_kernels, target, target32


class Path(IntEnum):
    """Ways to the same bits."""

    NATIVE = 0  #: the processor's own binary64 operation, where the destination is fp64 with RNE
    ODD = 1  #: binary64 result folded to odd with its exact error, then one rounding
    WIDE = 2  #: 119-bit integers; always right
    EXACT = 3  #: ODD where binary64's result never has an error


class Op(IntEnum):
    """Element-wise operations."""

    CONVERT = 0
    ADD = 1
    MUL = 2
    FMA = 3
    DIV = 4
    SQRT = 5
    REM = 6
    SUB = 7


FP64, FP32 = FloatFormat(11, 52), FloatFormat(8, 23)
ONE = FixedFormat(2, 0)


Span = tuple[int, int]  #: exponents of the lowest and the highest bit of an operand's numbers


class Carrier(NamedTuple):
    """The floats that arrays hold values in."""

    precision: int
    emax: int


BINARY64, BINARY32 = Carrier(53, 1023), Carrier(24, 127)


def _fits_odd(fmt: Format, rounding: Rounding, flags: bool, highest: int, carrier: Carrier = BINARY64) -> bool:
    """Whether rounding a round-to-odd value of the carrier's precision into ``fmt`` equals rounding the exact value.

    Round-to-odd at 53 bits is innocuous for a destination that looks at no more than 51 bits (Boldo & Melquiond
    2008, doi:10.1109/TC.2007.70819); SR also looks at k bits below. A wrapping format looks at every bit from the
    value's first: its exponent is at most ``highest``.
    """
    looked_at = highest + 1 + fmt.fraction_bits if isinstance(fmt, FixedFormat) and fmt.wrap else fmt.precision
    fits = fits_float(fmt, rounding, flags, carrier.precision - 1, carrier.emax)
    return looked_at + rounding.random_bits + 2 <= carrier.precision and fits


def product_is_exact(a: Format, b: Format, carrier: Carrier = BINARY64, spans: tuple[Span, ...] | None = None) -> bool:
    """Whether every product of a value of ``a`` and one of ``b`` is a normal number of the carrier."""
    (low_a, high_a), (low_b, high_b) = spans or (exponents(a), exponents(b))
    normal = low_a + low_b >= 1 - carrier.emax and high_a + high_b + 3 <= carrier.emax
    return a.precision + b.precision <= carrier.precision and normal


def mac_path(
    a: Format,
    b: Format,
    c: Format,
    result: Format,
    rounding: Rounding,
    flags: bool = False,
    carrier: Carrier = BINARY64,
    spans: tuple[Span, Span, Span] | None = None,
) -> Path:
    """The fastest path proven to give a * b + c, rounded once into ``result``; of operands that the carrier holds.

    ODD needs the product exact in the carrier, the sum free of overflow there, and ``result`` narrow enough.
    spans : of the numbers a, b and c, if narrower than their formats'.
    """
    if result == (FP64 if carrier is BINARY64 else FP32) and rounding.mode is Mode.RNE and not flags:
        return Path.NATIVE
    of_a, of_b, (low, high) = spans or (exponents(a), exponents(b), exponents(c))
    product = of_a[1] + of_b[1] + 1
    fits = product_is_exact(a, b, carrier, (of_a, of_b)) and high <= carrier.emax - 3 and low >= 1 - carrier.emax
    return Path.ODD if fits and _fits_odd(result, rounding, flags, max(high, product) + 1, carrier) else Path.WIDE


def lone_path(a: Format, b: Format, c: Format, result: Format, rounding: Rounding) -> Path:
    """``mac_path`` of one a * b + c, or EXACT, where binary64 holds all bits of every sum there may be."""
    path, (low, high) = mac_path(a, b, c, result, rounding), exponents(c)
    (low_a, high_a), (low_b, high_b) = exponents(a), exponents(b)
    width = max(high, high_a + high_b + 1) + 2 - min(low, low_a + low_b)
    exact = path is Path.ODD and width <= 53 and rounding.mode is not Mode.RTN  # which gives sums of 0 another sign
    return Path.EXACT if exact else path


def div_path(a: Format, b: Format, result: Format, rounding: Rounding, flags: bool = False) -> Path:
    """The fastest path proven to give a / b; ODD needs quotient and remainder in binary64's normal range."""
    if result == FP64 and rounding.mode is Mode.RNE and not flags:
        return Path.NATIVE
    (low_a, high_a), (low_b, high_b) = exponents(a), exponents(b)
    normal = low_a - 54 >= -1022 and low_a - high_b - 54 >= -1022 and high_a - low_b <= 1020
    return Path.ODD if normal and _fits_odd(result, rounding, flags, high_a - low_b) else Path.WIDE


def sqrt_path(a: Format, result: Format, rounding: Rounding, flags: bool = False) -> Path:
    """The fastest path proven to give the square root."""
    if result == FP64 and rounding.mode is Mode.RNE and not flags:
        return Path.NATIVE
    low, high = exponents(a)
    return Path.ODD if low - 54 >= -1022 and _fits_odd(result, rounding, flags, high // 2) else Path.WIDE


def convert_path(result: Format, rounding: Rounding, flags: bool = False) -> Path:
    """The fastest path proven to round any binary64 value once into ``result``."""
    return Path.ODD if fits_float(result, rounding, flags) else Path.WIDE


def _top(fmt: Format) -> int:
    """Exponent of the largest magnitude of a format."""
    return math.frexp(max(abs(fmt.min_finite), fmt.max_finite))[1] - 1


def aligned_width(datapath: Datapath, order: Fused | TwoStage, accumulator: Format) -> tuple[int, int]:
    """Bits that a fused unit keeps below the largest exponent (fixed: below one), and the width of its sums."""
    growth = math.ceil(math.log2(order.terms + 1))
    if isinstance(accumulator, FixedFormat):
        kept = accumulator.fraction_bits + order.guard_bits
        return kept, max(_top(datapath.a) + _top(datapath.b) + 2, _top(accumulator) + 1) + kept + growth
    kept = accumulator.precision - 1 + order.guard_bits
    kept_of_sum = kept if isinstance(order, Fused) else accumulator.precision + order.sum_guard_bits
    return kept, kept_of_sum + 2 + growth


def aligns(datapath: Datapath, order: Fused, accumulator: Format, rounding: Rounding) -> bool:
    """Whether binary64 holds a fused unit's products and sums, exponents well within its range, and can round them."""
    a, b, total = map(exponents, (datapath.a, datapath.b, accumulator))
    near = max(map(abs, (a[0] + b[0], a[1] + b[1] + 1, *total, order.floor or 0))) <= 400
    width = max(aligned_width(datapath, order, accumulator)[1], datapath.a.precision + datapath.b.precision)
    return near and width <= 53 and convert_path(accumulator, rounding) is Path.ODD


def path_of(op: Op, operands: tuple[Any, ...], result: Format, rounding: Rounding, flags: bool) -> Path | None:
    """The fastest path proven for an operation on values of these formats, or None where kernels have none.

    WIDE's quotients and roots keep 113 and some 85 bits: too few for a wrapping format, and for SR far below a root.
    """
    if not has_kernels(result):
        return None
    wraps = isinstance(result, FixedFormat) and result.wrap
    a, b, c = (*operands, None, None)[:3]
    if op in (Op.ADD, Op.SUB):
        return mac_path(a, ONE, b, result, rounding, flags)
    if op is Op.MUL:
        return mac_path(a, b, ONE, result, rounding, flags)
    if op is Op.FMA:
        return mac_path(a, b, c, result, rounding, flags)
    if op is Op.DIV:
        path = div_path(a, b, result, rounding, flags)
        return None if path is Path.WIDE and wraps else path
    if op is Op.SQRT:
        path = sqrt_path(a, result, rounding, flags)
        return None if path is Path.WIDE and (wraps or rounding.random_bits > 20) else path
    return convert_path(result, rounding, flags)


class Way(NamedTuple):
    """How an operation on arrays is done: all that does not depend on their elements."""

    op: Op
    fmt: Format
    rounding: Rounding
    conventions: Conventions
    path: Path | None  #: None: by the definition
    light: bool  #: by the kernel of conversions alone
    target: Any  #: a Target, or a Target32 for binary32 carriers
    signaling: bool  #: NaNs may signal
    poles_are_nan: bool  #: an infinity without the sign of a zero to choose it is a NaN: P3109's x / 0


@lru_cache(maxsize=4096)
def way_of(
    op: Op,
    formats: tuple[Format, ...],
    fmt: Format,
    rounding: Rounding,
    flagged: bool = False,
    conventions: Conventions = RISCV,
    integral: bool = False,
    signaling: bool = False,
    single: bool = False,
) -> Way:
    """The way of ``op`` on values of ``formats`` into ``fmt``.

    ``integral``: into its integers. ``single``: on binary32 carriers, if that will do.
    """
    path = path_of(op, formats, fmt, rounding, flagged)
    narrow = target32(fmt, rounding, flagged) if single and op is Op.CONVERT and path is not None else None
    light = narrow is not None or (op is Op.CONVERT and path is Path.ODD and not signaling)
    t = narrow or (target(fmt, rounding, False, integral, conventions) if path is not None else None)
    nan = op is Op.DIV and isinstance(fmt, FloatFormat) and fmt.has_infinity and not fmt.has_negative_zero
    return Way(op, fmt, rounding, conventions, path, light, t, signaling, nan)
