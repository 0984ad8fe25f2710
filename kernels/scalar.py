"""Scalar arithmetic on float carriers: the exact result, folded to odd at 53 bits, then one rounding.

The rounding adds and subtracts 2^52 quanta (units of the last kept bit), which rounds to nearest even; the other
modes compare the part that was cut off with a threshold (see ``target``). No branch depends on data, so that loops
over these functions vectorise. What has no type of its own here (constants come from the Target) is also compiled
for binary32 carriers, twice as many to a vector.
"""

from __future__ import annotations

from ..emulator.arithmetic import Flags
from ..emulator.random import MULTIPLIERS, WEYL
from .structs import DIRECTED, FIXED, LOSSY, MIRRORED, SIGN, Draws, Target
from .subset import (
    binade,
    bits_of,
    copysign,
    device,
    device_call,
    f64,
    floor,
    fma,
    fmod,
    i64,
    integer,
    like,
    multiply_high,
    multiply_low,
    nearest_even,
    number,
    place,
    quotient,
    sqrt,
)

MAGNITUDE = (1 << 63) - 1
SIGN_BIT = SIGN
INFINITY_BITS = 0x7FF << 52
WORD = 0xFFFFFFFF
HUGE, TINY = 2.0**1023, 2.0**-1021
PHILOX_M0, PHILOX_M1 = MULTIPLIERS
PHILOX_W0, PHILOX_W1 = WEYL
QUIET = 1 << 51
INEXACT, UNDERFLOW, OVERFLOW, DIVIDE_BY_ZERO, INVALID = map(int, Flags)
CHANGED, SMALL, OVER = float(INEXACT), float(INEXACT | UNDERFLOW), float(INEXACT | OVERFLOW)


@device
def goes_up(rest: f64, quantum: f64, odd: bool, negative: bool, t: Target, u: f64) -> bool:
    """Whether a magnitude moves up, of which ``rest`` < ``quantum`` was cut off; u is SR's random fraction."""
    if t.random_bits > 0:
        places = quantum * t.correction  # of the bias-corrected SR: 2^52 times the weight of its last bit
        return (rest + places) - places >= quantum * (t.positive_even - u)
    at_even = t.negative_even if negative else t.positive_even
    at_odd = t.negative_odd if negative else t.positive_odd
    return rest > t.nothing and rest >= quantum * (at_odd if odd else at_even)


@device
def rounded(x: f64, t: Target, u: f64, wraps: bool) -> f64:
    """|x| rounded as if the range had no upper end; of an infinity or a NaN something large.

    ``wraps``: False if ``t`` is known not to wrap.
    """
    y = abs(like(x, t.nothing))
    y = y if y < t.clamp else t.clamp
    small = y < t.scale_split
    if t.scaled != 0:
        positive = y > t.nothing
        y = y * (t.scale_small if small else t.scale_large)
        if t.scaled == LOSSY:
            y = t.scaled_dust if (positive and y < t.scaled_dust) else y
    places = binade(y) * t.grid
    places = places if places > t.grid_min else t.grid_min
    shifted = y + places
    m = shifted - places
    if t.nearest_even == 0:
        quantum = places * t.grid_quantum
        beyond = m > y
        kept = m - quantum if beyond else m
        odd = ((bits_of(shifted) & 1) != 0) != beyond
        m = kept + quantum if goes_up(y - kept, quantum, odd, like(x, t.nothing) < t.nothing, t, u) else kept
    if t.modulus > t.zero:
        m = m if y < t.grid_min else y
    if t.scaled != 0:
        m = m * (t.unscale_small if small else t.unscale_large)
    return m


@device
def wrapped(z: f64, t: Target) -> f64:
    """z modulo the range of a wrapping fixed format; z is a multiple of its quantum."""
    z = z - t.modulus * floor(z * t.per_modulus)
    return z - t.modulus if z > t.high else z


@device
def limited(z: f64, t: Target) -> f64:
    """A rounded finite value -> the format's: overflow, wrap, zero."""
    if t.modulus > t.nothing:
        return wrapped(z, t) + t.zero
    over = z > t.high
    z = t.over_low if z < t.low else z
    return (t.over_high if over else z) + t.zero


@device
def settle(m: f64, x: f64, t: Target) -> f64:
    """A rounded magnitude -> the format's value of x's sign: flush, overflow, zero, infinities, NaN."""
    m = m if m >= t.flush_below else t.nothing
    m = m if abs(x) >= t.flush_exact else t.nothing
    z = limited(copysign(m, x), t)
    z = t.infinity_high if x == t.infinity else z
    z = t.infinity_low if x == -t.infinity else z
    return t.nan if x != x else z


@device
def flags_of(m: f64, x: f64, t: Target, u: f64) -> i64:
    """The flags of rounding x, whose ``rounded`` is m, into the format."""
    y = abs(x)
    flushed = False
    over = m > t.high
    if t.lean != MIRRORED:
        flushed = (m < t.flush_below or y < t.flush_exact) and y > t.nothing
        z = copysign(t.nothing if flushed else m, x)
        over = z > t.high or z < t.low
    inexact = m != y
    normal = y >= (t.normal_negative if x < t.nothing else t.normal_positive)
    if t.random_bits > 0:
        rest = y * t.tiny_scale - t.tiny_edge
        normal = y >= t.min_normal or (rest >= t.nothing and goes_up(rest, t.tiny_quantum, True, x < t.nothing, t, u))
    small = flushed or (inexact and not normal)
    flags = like(CHANGED, t.nothing) if inexact else t.nothing  # numbers of the carrier, as everything beside them
    flags = like(SMALL, t.nothing) if small else flags
    flags = like(OVER, t.nothing) if over else flags
    flags = number(t.infinity_high_flags, t.nothing) if x == t.infinity else flags
    flags = number(t.infinity_low_flags, t.nothing) if x == -t.infinity else flags
    return integer(number(t.nan_flags, t.nothing) if x != x else flags)


@device
def round_odd(x: f64, t: Target, u: f64) -> f64:
    """Round a carrier once into ``t``; u is SR's random fraction."""
    return settle(rounded(x, t, u, True), like(x, t.nothing), t)


@device
def settle_mirrored(m: f64, v: f64, t: Target) -> f64:
    """``settle`` of a MIRRORED Target."""
    over = not m <= t.high or (t.nearest_even == 0 and abs(v) > t.clamp)  # clamped infinities that stay below
    z = copysign(t.over_high if over else m, v)
    return t.nan if v != v else z


@device
def round_directed(x: f64, t: Target) -> f64:
    """``round_odd`` into a DIRECTED Target."""
    v = like(x, t.nothing)
    y = abs(v) if abs(v) < t.clamp else t.clamp
    places = binade(y) * t.grid
    places = places if places > t.grid_min else t.grid_min
    m = (y + places) - places  # the nearest; a quantum beside it is what the mode wants
    quantum = places * t.grid_quantum
    away = (t.negative_even if v < t.nothing else t.positive_even) == t.nothing
    up = m + quantum if m < y else m
    down = m - quantum if m > y else m
    m = up if away else down
    low = t.over_low if v > -t.infinity else t.infinity_low
    high = t.over_high if v < t.infinity else t.infinity_high
    z = copysign(m, v) + t.zero if m <= t.high else (low if v < t.nothing else high)
    return t.nan if v != v else z


@device
def round_fixed(x: f64, t: Target) -> f64:
    """``round_odd`` into a FIXED Target."""
    v = like(x, t.nothing)
    z = v
    if t.modulus > t.nothing:
        y = abs(v)
        z = wrapped(copysign((y + t.grid_min) - t.grid_min if y < t.grid_min else y, v), t) + t.zero
        z = t.infinity_high if v == t.infinity else z
        z = t.infinity_low if v == -t.infinity else z
    else:
        w = v if v > t.low else t.low
        w = w if w < t.high else t.high
        z = (w + t.turn) - t.turn
    return t.nan if v != v else z


@device
def round_fixed_randomly(x: f64, t: Target, u: f64) -> f64:
    """``round_odd`` into a FIXED Target that draws random bits."""
    v = like(x, t.nothing)
    w = v if v > t.low else t.low
    w = w if w < t.high else t.high
    y = abs(w)
    quantum = t.grid_min * t.grid_quantum
    m = (y + t.grid_min) - t.grid_min
    kept = m - quantum if m > y else m
    m = kept + quantum if goes_up(y - kept, quantum, False, False, t, u) else kept
    return t.nan if v != v else copysign(m, w) + t.zero


@device
def round_nearest(x: f64, t: Target) -> f64:
    """``round_odd`` into a MIRRORED Target with RNE that is dropped or plain."""
    v = like(x, t.nothing)
    if t.dropped > 0:
        return settle_mirrored(nearest_even(abs(v), t.dropped), v, t)
    places = binade(abs(v)) * t.grid  # as ``rounded``; may overflow where the format does, which gives NaN
    places = places if places > t.grid_min else t.grid_min
    return settle_mirrored((abs(v) + places) - places, v, t)


@device
def round_one(x: f64, t: Target, u: f64) -> f64:
    """``round_odd``, by the shortest way."""
    if t.dropped > 0 or t.plain > 0:
        return round_nearest(x, t)
    if t.lean == FIXED:
        return round_fixed_randomly(x, t, u) if t.random_bits > 0 else round_fixed(x, t)
    if t.lean == DIRECTED:
        return round_directed(x, t)
    if t.lean == MIRRORED:
        return settle_mirrored(rounded(x, t, u, False), like(x, t.nothing), t)
    return round_odd(x, t, u)


@device
def fold_odd(s: f64, error: f64) -> f64:
    """s + error rounded to odd at the carrier's precision, given s = RNE(s + error)."""
    v = bits_of(s)
    step = 1 if (error > 0.0) == (s > 0.0) else -1
    inexact = error > 0.0 or error < 0.0  # false for NaN: nothing to fold at infinities
    return place(v + step if (inexact and (v & 1) == 0) else v, 0, 0, s)


@device
def add_odd(x: f64, y: f64, t: Target) -> f64:
    """x + y rounded to odd (TwoSum, Knuth), with the sign that ``t``'s mode gives an exact zero."""
    s = x + y
    z = s - x
    error = (x - (s - z)) + (y - z)
    negative = (bits_of(x) | bits_of(y)) & t.zero_sign
    s = like(-0.0, s) if (s == 0.0 and negative < 0) else s
    return fold_odd(s, error)


@device
def div_odd(x: f64, y: f64) -> f64:
    """x / y rounded to odd, where neither it nor the remainder leaves the normal range."""
    s = x / y
    rest = fma(-s, y, x)
    return fold_odd(s, rest if y > 0.0 else -rest)


@device
def sqrt_odd(x: f64) -> f64:
    """The square root rounded to odd, where the remainder does not leave the normal range."""
    s = sqrt(x)
    return fold_odd(s, fma(-s, s, x))


@device
def remainder(x: f64, y: f64) -> f64:
    """IEEE 754's remainder x - y n, n the integer nearest to x / y, ties to even; exact."""
    b = abs(y)
    a = abs(x)
    a = fmod(a, b + b) if (b < HUGE or b != b or a - a != 0.0) else a  # NaN where there is one to give
    halved = b >= TINY  # now a < 2 b; compare with b / 2, where that is exact, or else a + a with b
    half = b * 0.5
    again = a > half if halved else a + a > b
    a = a - b if again else a
    again = again and (a >= half if halved else a + a >= b)
    a = a - b if again else a
    r = copysign(1.0, x) * a
    return copysign(r, x) if r == 0.0 else r


@device
def mac_odd(c: f64, a: f64, b: f64, t: Target, u: f64) -> f64:
    """a * b + c rounded once, where a * b is exact in binary64."""
    return round_odd(add_odd(c, a * b, t), t, u)


@device
def mac_native(c: f64, a: f64, b: f64) -> f64:
    """a * b + c rounded to nearest even, by the processor."""
    return fma(a, b, c)


@device
def random_block(d: Draws, block: i64, step: i64) -> tuple[i64, i64, i64, i64]:
    """The four words of a Philox block."""
    c0 = step & WORD
    c1 = block & WORD
    c2 = d.stream & WORD
    c3 = (block >> 32) | ((d.stream >> 32) << 8) | ((step >> 32) << 16)
    k0 = d.seed & WORD
    k1 = d.seed >> 32
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
    return c0, c1, c2, c3


@device
def fraction(bits: i64, t: Target) -> f64:
    """k random bits as a fraction of 2^k."""
    one = like(1.0, t.nothing)
    return place(bits, t.random_place, bits_of(one), one) - one


@device
def fraction_of(word: i64, sub: i64, t: Target) -> f64:
    """The top k bits of a piece of a 32-bit word, ``sub`` pieces from its top, as a fraction of 2^k."""
    return fraction((word >> (32 - sub * t.piece_bits - t.random_bits)) & t.random_mask, t)


@device
def times(a: i64, b: i64, d: Draws) -> i64:
    """The product of two states of an LFSR: polynomials over GF(2) modulo its own."""
    product = 0
    for i in range(d.lfsr):
        product = product ^ (a if ((b >> i) & 1) != 0 else 0)
        a = a << 1
        a = a ^ (d.polynomial if (a >> d.lfsr) != 0 else 0)
    return product


@device
def product_modulo(a: i64, b: i64, modulus: i64) -> i64:
    """a * b modulo ``modulus``; all three below 2^32."""
    high = a * (b >> 16)
    high = (high - modulus * quotient(high, modulus)) << 16
    total = high + a * (b & 0xFFFF)
    return total - modulus * quotient(total, modulus)


@device_call
def lfsr_state(element: i64, step: i64, d: Draws) -> i64:
    """``emulator.random.LFSR.state``."""
    period = (1 << d.lfsr) - 1
    unit = element - d.units * quotient(element, d.units)
    unit = unit - period * quotient(unit, period)
    clocks = d.first + product_modulo(unit, d.stride, period)
    clocks = (clocks - period if clocks >= period else clocks) + d.clocks * step
    state = d.state
    power = 2
    while clocks > 0:
        if (clocks & 1) != 0:
            state = times(state, power, d)
        power = times(power, power, d)
        clocks = clocks >> 1
    return state


@device
def block_of(element: i64, t: Target) -> i64:
    """The Philox block that an element takes its piece of."""
    return ((element >> (4 + t.pieces_log2)) << 4) | (element & 15)


@device
def fraction_in(c0: i64, c1: i64, c2: i64, c3: i64, element: i64, t: Target) -> f64:
    """An element's fraction among the words of its block."""
    piece = (element >> 4) & ((1 << t.pieces_log2) - 1)
    which = piece & 3
    word = (c0 if which == 0 else c1) if which < 2 else (c2 if which == 2 else c3)
    return fraction_of(word, piece >> 2, t)


@device
def random_fraction(d: Draws, element: i64, step: i64, t: Target) -> f64:
    """The random bits of a position as a fraction of 2^k."""
    if d.lfsr > 0:
        return fraction(lfsr_state(element, step, d) >> (d.lfsr - t.random_bits), t)
    c0, c1, c2, c3 = random_block(d, block_of(element, t), step)
    return fraction_in(c0, c1, c2, c3, element, t)
