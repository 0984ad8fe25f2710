"""Scalar arithmetic on binary64 carriers: one rounding, by 119-bit integers. Slower than ``scalar``, always right.

A magnitude is (high * 2^60 + low) * 2^exponent with low < 2^60; normalised, its leading bit is at place 118, or 119
after a carry. Bits shifted out are jammed into bit 0 (sticky), far below anything a rounding looks at: at most 53 kept
bits and 32 random bits out of 119.
"""

from __future__ import annotations

from .scalar import (
    DIVIDE_BY_ZERO,
    INEXACT,
    INFINITY_BITS,
    INVALID,
    MAGNITUDE,
    OVERFLOW,
    SIGN_BIT,
    UNDERFLOW,
    limited,
    settle,
)
from .structs import Target
from .subset import bits_of, copysign, device, device_call, f64, floor, fma, from_bits, i64, leading_zeros, sqrt
from .target import UNIT

FRACTION = (1 << 52) - 1
HIDDEN = 1 << 52
UNITS = float(UNIT)
TWO26, TWO53, TWO86, TWO113 = 2.0**26, 2.0**53, 2.0**86, 2.0**113
LIMB = (1 << 60) - 1
TOP = 118  #: place of the leading bit of a normalised magnitude
LOW27 = (1 << 27) - 1
NOWHERE = -(1 << 20)  #: exponent of a zero


@device
def is_special(x: f64) -> bool:
    return (bits_of(x) & MAGNITUDE) >= INFINITY_BITS


@device
def significand(u: i64) -> i64:
    """Integer significand of a finite double's bits, leading bit at place 52; 0 for zero."""
    field = (u & MAGNITUDE) >> 52
    m = u & FRACTION
    return m | HIDDEN if field > 0 else m << max(leading_zeros(m) - 11, 0) if m > 0 else 0


@device
def exponent(u: i64) -> i64:
    """Exponent of that significand's last bit."""
    field = (u & MAGNITUDE) >> 52
    m = u & FRACTION
    return field - 1075 if field > 0 else -1074 - max(leading_zeros(m) - 11, 0)


@device
def power_of_two(q: i64) -> f64:
    """2^q for q >= -1074, infinity above 1023."""
    return from_bits((min(q, 1024) + 1023) << 52) if q >= -1022 else from_bits(1 << max(q + 1074, 0))


@device_call
def shift_right_jam(high: i64, low: i64, n: i64) -> tuple[i64, i64]:
    """(high, low) >> n, n >= 0, with every lost bit ored into bit 0."""
    if n >= 120:
        return 0, (1 if (high | low) != 0 else 0)
    if n >= 60:
        lost = low | (high & ((1 << (n - 60)) - 1))
        return 0, (high >> (n - 60)) | (1 if lost != 0 else 0)
    lost = low & ((1 << n) - 1)
    moved = (low >> n) | ((high & ((1 << n) - 1)) << (60 - n))
    return high >> n, moved | (1 if lost != 0 else 0)


@device_call
def shift_left(high: i64, low: i64, n: i64) -> tuple[i64, i64]:
    """(high, low) << n modulo 2^120, n >= 0."""
    if n >= 120:
        return 0, 0
    if n >= 60:
        return (low & (LIMB >> (n - 60))) << (n - 60), 0
    return ((high & (LIMB >> n)) << n) | (low >> (60 - n)), (low & (LIMB >> n)) << n


@device_call
def shift(high: i64, low: i64, n: i64) -> tuple[i64, i64]:
    """(high, low) * 2^n: to the left modulo 2^120, to the right with jam."""
    if n >= 0:
        return shift_left(high, low, n)
    return shift_right_jam(high, low, 0 - n)


@device_call
def wrapped_integer(negative: bool, kept: i64, t: Target) -> f64:
    """The value of a wrapping fixed format whose integer is congruent to (-1)^negative * kept."""
    mask = (1 << t.wrap_bits) - 1
    kept = kept & mask
    kept = (0 - kept) & mask if negative else kept
    kept = kept - (mask + 1) if (t.wrap_low < 0 and kept > (mask >> 1)) else kept
    return float(kept) * power_of_two(t.quantum)


@device
def cut(high: i64, low: i64, d: i64) -> tuple[i64, i64]:
    """(high, low) / 2^d, d > 0: its integer part, and the rest in units of 2^-62 with what is below jammed."""
    if d < 60:
        kept = (low >> d) | ((high & ((1 << d) - 1)) << (60 - d))
        return kept, (low & ((1 << d) - 1)) << 2 << (60 - d)
    kept = high >> min(d - 60, 62)
    cut_high = high & ((1 << min(d - 60, 60)) - 1)
    if d <= 62:
        return kept, ((cut_high << 60) | low) << (62 - d)
    cut_high, cut_low = shift_right_jam(cut_high, low, d - 62)
    return kept, (cut_high << 60) | cut_low


@device
def increment(rest: i64, kept: i64, negative: bool, t: Target, u: f64) -> i64:
    """1 if ``kept`` moves up, of which ``rest`` units of 2^-62 were cut off, else 0."""
    if t.correct_bits > 0:
        places = 62 - t.correct_bits
        rest = ((rest + (1 << (places - 1)) - 1 + ((rest >> places) & 1)) >> places) << places
    at_even = t.wide_negative_even if negative else t.wide_positive_even
    at_odd = t.wide_negative_odd if negative else t.wide_positive_odd
    return 1 if rest + int(u * UNITS) > (at_odd if (kept & 1) != 0 else at_even) else 0


@device_call
def is_tiny(negative: bool, high: i64, low: i64, e: i64, top: i64, t: Target, u: f64) -> bool:
    """Whether (high, low) * 2^e, of leading bit ``top``, lies below the smallest normal number, as tininess is told."""
    if top + e >= t.emin or top + e < t.emin - 1 or t.tiny_edge == t.infinity:
        return top + e < t.emin
    d = top - t.precision + 1  # of an unbounded exponent range
    if d <= 0:
        return True
    kept, rest = cut(high, low, d)
    return kept + increment(rest, kept, negative, t, u) < (1 << t.precision)


@device
def wrap_flags(negative: bool, kept: i64, rest: i64, lost: bool, t: Target) -> i64:
    """Flags of a wrapping format whose integer is (-1)^negative * kept, or beyond if bits were ``lost``."""
    highest = t.wrap_low + (1 << t.wrap_bits) - 1
    over = lost or kept < 0 or (kept > 0 - t.wrap_low if negative else kept > highest)
    return OVERFLOW | INEXACT if over else (INEXACT if rest != 0 else 0)


@device
def round_wide(negative: bool, high: i64, low: i64, e: i64, t: Target, u: f64) -> tuple[f64, i64]:
    """Round (high, low) * 2^e, non-zero, once into ``t``: the value and the flags."""
    top = 123 - leading_zeros(high) if high > 0 else 63 - leading_zeros(low)
    q = max(top + e - t.precision + 1, t.quantum)
    if t.wrap_bits > 0:
        q = t.quantum
    d = q - e
    kept: i64 = 0
    rest: i64 = 0
    lost = False  # of a wrapping format: bits above the word
    if d <= 0:  # no bit is cut off; a wrapping format needs only the low ones
        lost = top - d > 58
        if d > -60:
            _kept_high, kept = shift_left(high & (LIMB >> 1 >> (0 - d)), low, 0 - d)
    else:
        lost = top - d > 58
        kept, rest = cut(high, low, d)
        kept = kept + increment(rest, kept, negative, t, u)
    if t.wrap_bits > 0:
        return wrapped_integer(negative, kept, t), wrap_flags(negative, kept, rest, lost, t)
    scale = power_of_two(min(q, 900)) * power_of_two(max(q - 900, 0))  # infinite beyond 2^1023
    y = float(kept) * scale if q >= -1074 else float(kept >> 1) * power_of_two(q + 1)
    z = copysign(y, -1.0 if negative else 1.0)
    small = top + e < t.emin
    if small:
        below = t.flush_below > 0.0 and float(kept) * power_of_two(q - t.emin) < 1.0
        if below or t.flush_exact > 0.0:
            return limited(copysign(0.0, z), t), UNDERFLOW | INEXACT
    if z > t.high or z < t.low:
        return limited(z, t), OVERFLOW | INEXACT
    flags = INEXACT if rest != 0 else 0
    if small and rest != 0 and is_tiny(negative, high, low, e, top, t, u):
        flags = UNDERFLOW | INEXACT
    return limited(z, t), flags


@device_call
def special_result(x: f64, invalid: bool, t: Target) -> tuple[f64, i64]:
    """An infinity or a NaN as a result, and its flags."""
    flags = t.nan_flags if x != x else (t.infinity_high_flags if x > 0.0 else t.infinity_low_flags)
    return settle(0.0, x, t), flags | (INVALID if invalid else 0)


@device_call
def zero_result(sign: i64, t: Target) -> tuple[f64, i64]:
    """A zero of a sign (a sign bit) as a result."""
    return limited(from_bits(sign & SIGN_BIT), t), 0


@device_call
def round_exact(x: f64, t: Target, u: f64) -> tuple[f64, i64]:
    """Any double rounded once into ``t``."""
    v = bits_of(x)
    if is_special(x):
        return special_result(x, False, t)
    m = significand(v)
    if m == 0:
        return zero_result(v, t)
    return round_wide(v < 0, 0, m, exponent(v), t, u)


@device_call
def div_wide(x: f64, y: f64, t: Target, u: f64) -> tuple[f64, i64]:
    """x / y for any two doubles, rounded once into ``t``.

    Two quotients of binary64 and the signs of their exact remainders give 113 bits and a sticky one.
    """
    ux = bits_of(x)
    uy = bits_of(y)
    sign = (ux ^ uy) & SIGN_BIT
    mx = significand(ux & MAGNITUDE)
    my = significand(uy & MAGNITUDE)
    if (ux & MAGNITUDE) >= INFINITY_BITS or (uy & MAGNITUDE) >= INFINITY_BITS or my == 0:
        q = x / y
        if q == 0.0:
            return zero_result(sign, t)
        value, flags = special_result(q, q != q and x == x and y == y, t)
        by_zero = my == 0 and (ux & MAGNITUDE) < INFINITY_BITS and mx != 0
        return value, flags | (DIVIDE_BY_ZERO if by_zero else 0)
    if mx == 0:
        return zero_result(sign, t)
    a = float(mx)
    b = float(my)
    first = a / b
    rest = fma(-first, b, a)
    second = rest / b
    rest = fma(-second, b, rest)
    below = second * TWO113
    whole = floor(below)
    sticky = below != whole or rest != 0.0
    low = int(whole) - (1 if (below == whole and rest < 0.0) else 0)
    high = int(first * TWO53) + (low >> 60 if low >= 0 else -1 if low >= 0 - LIMB - 1 else -2)
    return round_wide(sign < 0, high, (low & LIMB) | (1 if sticky else 0), exponent(ux) - exponent(uy) - 113, t, u)


@device_call
def sqrt_wide(x: f64, t: Target, u: f64) -> tuple[f64, i64]:
    """The square root of any double rounded once into ``t``; SR with at most 20 random bits.

    A root that is no number of b bits keeps a distance of 2^(26 - 2b) from all of those, if it lies in [2^26, 2^27)
    as here: with b <= 74 (53 kept, 20 random, and a tie) more than 2^-36 of the unit that the error is told in.
    """
    v = bits_of(x)
    m = significand(v & MAGNITUDE)
    if (v & MAGNITUDE) >= INFINITY_BITS:
        root = sqrt(x)
        return special_result(root, root != root and x == x, t)
    if m == 0:
        return zero_result(v, t)
    if v < 0:
        return special_result(sqrt(x), True, t)
    e = exponent(v)
    if (e & 1) != 0:
        m = m << 1
        e = e - 1
    a = float(m)
    root = sqrt(a)
    rest = fma(-root, root, a)
    # two steps of Newton's method on the remainder, in units of 2^-86: the error is below 2^-44 of a unit
    more = rest / (root + root)
    left = fma(-more, more, fma(-(root + root), more, rest))
    whole = floor(more * TWO86)
    part = (more * TWO86 - whole) + left / (root + root) * TWO86
    low = int(whole) + int(floor(part))
    high = int(root * TWO26) + (low >> 60 if low >= 0 else -1)
    return round_wide(False, high, (low & LIMB) | (1 if rest != 0.0 else 0), (e >> 1) - 86, t, u)


@device_call
def exact_sum(c: f64, a: f64, b: f64, modular_from: i64) -> tuple[bool, i64, i64, i64]:
    """a * b + c of finite doubles, as (-1)^negative * (high, low) * 2^e; it is zero exactly if (high, low) is.

    A wrapping format of quantum 2^q looks at bits that the larger term's place would jam: from 2^``modular_from``,
    q - 62, on, both are taken modulo 2^60 of its units, and ``high`` holds 2^59 more if that lost a bit.
    """
    ua = bits_of(a)
    ub = bits_of(b)
    uc = bits_of(c)
    ma = significand(ua)
    mb = significand(ub)
    mc = significand(uc)

    # product: 106 bits from 26/27-bit pieces
    a1 = ma >> 27
    a0 = ma & LOW27
    b1 = mb >> 27
    b0 = mb & LOW27
    middle = a1 * b0 + a0 * b1
    p0 = a0 * b0 + ((middle & LOW27) << 27)  # below 2^55
    p1 = a1 * b1 + (middle >> 27)  # in units of 2^54
    low = p0 + ((p1 & 63) << 54)
    high = (p1 >> 6) + (low >> 60)
    low = low & LIMB

    # leading bits to TOP, then the smaller one down to the larger one's exponent
    lift = TOP - (123 - leading_zeros(high))  # 13 or 14: both significands have 53 bits; of a zero, any
    ph = (high << lift) | (low >> (60 - lift))
    pl = (low & (LIMB >> lift)) << lift
    ep = exponent(ua) + exponent(ub) - lift if high > 0 else NOWHERE
    ch = mc << (TOP - 52 - 60)
    cl: i64 = 0
    ec = exponent(uc) - (TOP - 52) if mc > 0 else NOWHERE
    positive_p = (ua ^ ub) >= 0
    same_sign = positive_p == (uc >= 0)
    smaller = ep < ec or (ep == ec and (ph < ch or (ph == ch and pl < cl)))  # the product is
    negative = (uc < 0) if smaller else not positive_p
    e = max(ep, ec)
    modular = e > modular_from
    if modular:
        e = modular_from + 2
        ph, pl = shift(ph, pl, ep - e)
        ch, cl = shift(ch, cl, ec - e)
    more = ch if smaller else ph
    more_low = cl if smaller else pl
    less = ph if smaller else ch
    less_low = pl if smaller else cl
    if not modular:
        less, less_low = shift_right_jam(less, less_low, e - min(ep, ec))
    low = more_low + less_low if same_sign else more_low - less_low
    high = more + less if same_sign else more - less
    high = high + (low >> 60 if low >= 0 else -1)  # the carry or the borrow
    if modular:
        far = abs(fma(a, b, c)) >= power_of_two(e + 115)  # if not, none of the sum's bits is missing
        high = (high & (LIMB >> 1)) | ((LIMB >> 1) + 1 if far else 0)
    return negative, high, low & LIMB, e


@device_call
def mac_special(c: f64, a: f64, b: f64, t: Target) -> tuple[f64, i64]:
    """``mac_wide`` where an operand is an infinity or a NaN."""
    if is_special(a) or is_special(b):
        x = a * b + c if is_special(c) else a * b
        numbers = a == a and b == b
        return special_result(x, x != x and numbers and (c == c or a * b != a * b), t)
    return special_result(c, False, t)


@device_call
def mac_wide(c: f64, a: f64, b: f64, t: Target, u: f64) -> tuple[f64, i64]:
    """a * b + c for any three doubles, rounded once into ``t``: the value and the flags."""
    if is_special(a) or is_special(b) or is_special(c):
        return mac_special(c, a, b, t)
    negative, high, low, e = exact_sum(c, a, b, t.quantum - 62 if t.wrap_bits > 0 else -2 * NOWHERE)
    if (high | low) == 0:
        sign_p = bits_of(a) ^ bits_of(b)
        sign_c = bits_of(c)
        return zero_result((sign_p & sign_c) | ((sign_p | sign_c) & t.zero_sign), t)
    return round_wide(negative, high, low, e, t, u)
