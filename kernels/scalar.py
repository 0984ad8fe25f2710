"""Scalar arithmetic on binary64 carriers: one rounding, by the fast route (round to odd).

A value x is exact, or exact folded to odd at 53 bits; ``round_odd`` then rounds it once into a Target. No branch
depends on data, so that loops over these functions vectorise.
"""

from __future__ import annotations

from ..emulator.random import MULTIPLIERS, WEYL
from .subset import bits_of, device, f64, fma, from_bits, i64
from .target import SIGN, Target

FRACTION = (1 << 52) - 1
HIDDEN = 1 << 52
MAGNITUDE = (1 << 63) - 1
SIGN_BIT = SIGN
INFINITY_BITS = 0x7FF << 52
WORD = 0xFFFFFFFF
LOW16 = 0xFFFF
PHILOX_M0, PHILOX_M1 = MULTIPLIERS
PHILOX_W0, PHILOX_W1 = WEYL


@device
def threshold(negative: bool, kept: i64, t: Target) -> i64:
    """What the cut-off part must exceed for ``kept`` to be incremented."""
    odd = (kept & 1) != 0
    return (t.negative_odd if odd else t.negative_even) if negative else (t.positive_odd if odd else t.positive_even)


@device
def settle(y: f64, sign: i64, t: Target) -> f64:
    """A rounded magnitude and a sign bit -> the format's value: flush, overflow, zero."""
    y = 0.0 if y < t.flush_below else y
    z = from_bits(bits_of(y) | sign)
    z = t.over_high if z > t.high else z
    z = t.over_low if z < t.low else z
    return 0.0 if (z == 0.0 and t.negative_zero == 0) else z


@device
def special(x: f64, y: f64, t: Target) -> f64:
    """y, unless x is an infinity or a NaN."""
    magnitude = bits_of(x) & MAGNITUDE
    infinite = t.infinity_low if x < 0.0 else t.infinity_high
    y = infinite if magnitude == INFINITY_BITS else y
    return t.nan if magnitude > INFINITY_BITS else y


@device
def round_odd(x: f64, t: Target, random: i64) -> f64:
    """Round a carrier once into ``t``; ``random`` is the random integer shifted to the top of 62 bits."""
    u = bits_of(x)
    sign = u & SIGN_BIT
    field = (u & MAGNITUDE) >> 52
    m = (u & FRACTION) | (min(field, 1) << 52)
    e = max(field, 1) - 1075
    q = max(e + 53 - t.precision, t.quantum)
    d = q - e
    far = min(max(d - 62, 0), 62)  # beyond 62 places only a sticky bit can matter
    m = (m >> far) | (1 if (m & ((1 << far) - 1)) != 0 else 0)
    d = min(d, 62)
    kept = m >> d
    rest = (m & ((1 << d) - 1)) << (62 - d)
    kept = kept + (1 if rest + random > threshold(sign < 0, kept, t) else 0)
    y = float(kept) * from_bits((q + 1023) << 52)
    return special(x, settle(y, sign, t), t)


@device
def fold_odd(s: f64, error: f64) -> f64:
    """s + error rounded to odd at 53 bits, given s = RNE(s + error)."""
    u = bits_of(s)
    step = 1 if (error > 0.0) == (s > 0.0) else -1
    inexact = error > 0.0 or error < 0.0  # false for NaN: nothing to fold at infinities
    return from_bits(u + step if (inexact and (u & 1) == 0) else u)


@device
def add_odd(x: f64, y: f64, t: Target) -> f64:
    """x + y rounded to odd (TwoSum, Knuth), with the sign that ``t``'s mode gives an exact zero."""
    s = x + y
    z = s - x
    error = (x - (s - z)) + (y - z)
    sign = (bits_of(x) | bits_of(y)) & t.zero_sign
    s = from_bits(bits_of(s) | sign) if s == 0.0 else s
    return fold_odd(s, error)


@device
def mac_odd(c: f64, a: f64, b: f64, t: Target, random: i64) -> f64:
    """a * b + c rounded once, where a * b is exact in binary64."""
    return round_odd(add_odd(c, a * b, t), t, random)


@device
def mac_native(c: f64, a: f64, b: f64) -> f64:
    """a * b + c in fp64 with RNE."""
    return fma(a, b, c)


@device
def multiply_high(m: i64, x: i64) -> i64:
    """The upper 32 bits of a product of two 32-bit words, without 64-bit overflow."""
    low = m * (x & LOW16)
    return (m * (x >> 16) + (low >> 16)) >> 16


@device
def multiply_low(m: i64, x: i64) -> i64:
    """The lower 32 bits of a product of two 32-bit words."""
    return (m * (x & LOW16) + (((m * (x >> 16)) & LOW16) << 16)) & WORD


@device
def random_integer(seed: i64, stream: i64, element: i64, step: i64, t: Target) -> i64:
    """``emulator.random.random_bits`` shifted to the top of 62 bits; seed in [0, 2^62)."""
    c0 = (step >> 2) & WORD
    c1 = element & WORD
    c2 = stream & WORD
    c3 = (element >> 32) | ((stream >> 32) << 8) | ((step >> 34) << 16)
    k0 = seed & WORD
    k1 = seed >> 32
    for _ in range(10):
        h0 = multiply_high(PHILOX_M0, c0)
        l0 = multiply_low(PHILOX_M0, c0)
        h1 = multiply_high(PHILOX_M1, c2)
        c2_low = multiply_low(PHILOX_M1, c2)
        c0 = h1 ^ c1 ^ k0
        c1 = c2_low
        c2 = h0 ^ c3 ^ k1
        c3 = l0
        k0 = (k0 + PHILOX_W0) & WORD
        k1 = (k1 + PHILOX_W1) & WORD
    which = step & 3
    word = (c0 if which == 0 else c1) if which < 2 else (c2 if which == 2 else c3)
    return (word >> (32 - t.random_bits)) << (62 - t.random_bits)
