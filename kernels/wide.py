"""Scalar arithmetic on binary64 carriers: one rounding, by 119-bit integers. Slower than ``scalar``, always right.

A magnitude is (high * 2^60 + low) * 2^exponent with low < 2^60; normalised, its leading bit is at place 118, or 119
after a carry. Bits shifted out are jammed into
bit 0 (sticky), far below anything a rounding looks at: at most 53 kept bits and 32 random bits out of 119.
"""

from __future__ import annotations

from .scalar import FRACTION, HIDDEN, INFINITY_BITS, MAGNITUDE, SIGN_BIT, settle, special, threshold
from .subset import bits_of, device, device_call, f64, from_bits, i64, leading_zeros
from .target import Target

LIMB = (1 << 60) - 1
TOP = 118  #: place of the leading bit of a normalised magnitude
LOW27 = (1 << 27) - 1


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
def wrapped(negative: bool, kept: i64, t: Target) -> f64:
    """The value of a wrapping fixed format whose integer is congruent to (-1)^negative * kept."""
    mask = (1 << t.wrap_bits) - 1
    kept = kept & mask
    kept = (0 - kept) & mask if negative else kept
    kept = kept - (mask + 1) if (t.wrap_low < 0 and kept > (mask >> 1)) else kept
    return float(kept) * power_of_two(t.quantum)


@device_call
def round_wide(negative: bool, high: i64, low: i64, e: i64, t: Target, random: i64) -> f64:
    """Round (high, low) * 2^e, non-zero, once into ``t``."""
    top = 123 - leading_zeros(high) if high > 0 else 63 - leading_zeros(low)
    q = max(top + e - t.precision + 1, t.quantum)
    if t.wrap_bits > 0:
        q = t.quantum
    d = q - e
    kept: i64 = 0
    rest: i64 = 0
    if d <= 0:  # no bit is cut off; a wrapping format needs only the low ones
        if d > -60:
            _kept_high, kept = shift_left(high & (LIMB >> 1 >> (0 - d)), low, 0 - d)
    else:
        # split at d: kept above, the next 62 bits into rest, what is below jammed
        if d < 60:
            kept = (low >> d) | ((high & ((1 << d) - 1)) << (60 - d))
            rest = (low & ((1 << d) - 1)) << 2 << (60 - d)
        else:
            kept = high >> min(d - 60, 62)
            cut_high = high & ((1 << min(d - 60, 60)) - 1)
            if d <= 62:
                rest = ((cut_high << 60) | low) << (62 - d)
            else:
                cut_high, cut_low = shift_right_jam(cut_high, low, d - 62)
                rest = (cut_high << 60) | cut_low
        kept = kept + (1 if rest + random > threshold(negative, kept, t) else 0)
    if t.wrap_bits > 0:
        return wrapped(negative, kept, t)
    scale = power_of_two(min(q, 900)) * power_of_two(max(q - 900, 0))  # infinite beyond 2^1023
    y = float(kept) * scale if q >= -1074 else float(kept >> 1) * power_of_two(q + 1)
    if t.flush_below > 0.0:  # compared where no bit of a subnormal is lost
        y = y if float(kept) * power_of_two(q + 200) >= t.flush_below * power_of_two(200) else 0.0
    return settle(y, SIGN_BIT if negative else 0, t)


@device_call
def mac_wide(c: f64, a: f64, b: f64, t: Target, random: i64) -> f64:
    """a * b + c for any three doubles, rounded once into ``t``."""
    ua = bits_of(a)
    ub = bits_of(b)
    uc = bits_of(c)
    sign_p = (ua ^ ub) & SIGN_BIT
    if (ua & MAGNITUDE) >= INFINITY_BITS or (ub & MAGNITUDE) >= INFINITY_BITS:
        x = a * b + c if (uc & MAGNITUDE) >= INFINITY_BITS else a * b
        return special(x, 0.0, t)
    if (uc & MAGNITUDE) >= INFINITY_BITS:
        return special(c, 0.0, t)
    ma = significand(ua)
    mb = significand(ub)
    mc = significand(uc)
    if ma == 0 or mb == 0:
        if mc == 0:
            zero = (sign_p & uc) | ((sign_p | uc) & t.zero_sign)
            return settle(0.0, zero & SIGN_BIT, t)
        return round_wide(uc < 0, 0, mc, exponent(uc), t, random)

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
    ep = exponent(ua) + exponent(ub)
    if mc == 0:
        return round_wide(sign_p < 0, high, low, ep, t, random)

    # leading bits to TOP, then the smaller one down to the larger one's exponent
    lift = TOP - (123 - leading_zeros(high))
    ph, pl = shift_left(high, low, lift)
    ep = ep - lift
    ch, cl = shift_left(0, mc, TOP - 52)
    ec = exponent(uc) - (TOP - 52)
    same_sign = (sign_p ^ (uc & SIGN_BIT)) == 0
    smaller = ep < ec or (ep == ec and (ph < ch or (ph == ch and pl < cl)))  # the product is
    negative = (uc < 0) if smaller else (sign_p < 0)
    e = max(ep, ec)
    # a wrapping format looks at bits that the larger term's place would jam: then take both modulo 2^60 of its units
    modular = t.wrap_bits > 0 and e > t.quantum - 62
    if modular:
        e = t.quantum - 60
    if ep == ec and ph == ch and pl == cl and not same_sign:
        return settle(0.0, t.zero_sign, t)
    ph, pl = shift(ph, pl, ep - e)
    ch, cl = shift(ch, cl, ec - e)
    low = pl + cl if same_sign else (cl - pl if smaller else pl - cl)
    high = ph + ch if same_sign else (ch - ph if smaller else ph - ch)
    high = high + (low >> 60 if low >= 0 else -1)  # the carry or the borrow
    low = low & LIMB
    if modular:
        kept = high & LIMB
        kept = kept + (1 if (low << 2) + random > threshold(negative, kept, t) else 0)
        return wrapped(negative, kept, t)
    return round_wide(negative, high, low, e, t, random)
