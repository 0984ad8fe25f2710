"""Fused steps (``emulator.orders.Do.FUSE``): several products and a register, aligned or exact, rounded once.

A step works on n results side by side; ``b`` holds the second operands of product k from k * width on. Four ways to the
same bits, the fastest that is proven is taken (``contraction``).
"""

from __future__ import annotations

from .elementwise import round_chunk
from .scalar import add_odd, limited, random_fraction
from .structs import Draws, FusedUnit, Layout, Target
from .subset import (
    bits_of,
    device,
    device_call,
    f64,
    f64s,
    from_bits,
    i64,
    i64s,
    i64w,
    kernel,
    like,
    quotient,
    trunc,
)
from .wide import LIMB, LOW27, exponent, is_special, round_wide, significand, special_result

#: Ways. ALIGNED: in binary64, which holds every product and aligned sum. SUMMED: exact products add up without error in
#: the carrier; ADDED: and the processor adds their sum. INTEGER: aligned sums of up to 62 bits. LIMBS: exact sums of
#: any width.
ALIGNED, SUMMED, ADDED, INTEGER, LIMBS = range(5)
NO_EXPONENT = -1000000
FAR = 500  #: magnitudes of exponents beyond it are none of a finite product's that is aligned here
WORD = 0xFFFFFFFF
LOW28 = (1 << 28) - 1


@device
def term_exponent(x: f64, emin: i64) -> i64:
    """Exponent of a normal double in a format with the given emin: floor(log2|x|), at least emin."""
    return max(((bits_of(x) >> 52) & 0x7FF) - 1023, emin)


@device
def power(q: i64) -> f64:
    """2^q for -1022 <= q <= 1023: ``power_of_two`` without its branches."""
    return from_bits((q + 1023) << 52)


@device_call
def add_aligned(
    n: i64, c: f64s, a: f64s, terms: i64, b: f64s, width: i64, s: f64s, places: i64s, unit: FusedUnit
) -> None:
    """s[j] = c[j] and the products a[k] * b[k * width + j], k < terms, each cut off at its place, summed exactly."""
    for j in range(n):
        y = like(c[j], 0.0)
        places[j] = term_exponent(y, unit.emin_total) if y != 0.0 else NO_EXPONENT
    for k in range(terms):
        x = like(a[k], 0.0)
        bs = b[k * width : k * width + n]
        exponent_x = term_exponent(x, unit.emin_x) if x != 0.0 else NO_EXPONENT
        for j in range(n):
            y = like(bs[j], 0.0)
            there = exponent_x + term_exponent(y, unit.emin_y)
            places[j] = max(places[j], there if y != 0.0 else NO_EXPONENT)
    for j in range(n):
        largest = max(max(min(places[j], FAR), 0 - FAR), unit.floor)  # of infinities, and where all is zero
        places[j] = (largest if unit.floating != 0 else 0) - unit.kept_bits
        s[j] = trunc(like(c[j], 0.0) * power(0 - places[j]))
    for k in range(terms):
        x = like(a[k], 0.0)
        bs = b[k * width : k * width + n]
        for j in range(n):
            s[j] = s[j] + trunc(x * like(bs[j], 0.0) * power(0 - places[j]))
    for j in range(n):
        s[j] = s[j] * power(places[j]) + 0.0  # what cancels is +0


@device_call
def add_summed(n: i64, a: f64s, terms: i64, b: f64s, width: i64, s: f64s, t: Target) -> None:
    """s[j] = the sum of the products, where that is exact in the carrier; a zero is +0."""
    for j in range(n):
        s[j] = t.nothing
    k = 0
    while k < terms:
        x0 = a[k]
        b0 = b[k * width : k * width + n]
        if k + 4 <= terms:
            x1 = a[k + 1]
            x2 = a[k + 2]
            x3 = a[k + 3]
            b1 = b[(k + 1) * width : (k + 1) * width + n]
            b2 = b[(k + 2) * width : (k + 2) * width + n]
            b3 = b[(k + 3) * width : (k + 3) * width + n]
            for j in range(n):
                s[j] = s[j] + ((x0 * b0[j] + x1 * b1[j]) + (x2 * b2[j] + x3 * b3[j]))
            k = k + 4
        else:
            for j in range(n):
                s[j] = s[j] + x0 * b0[j]
            k = k + 1


@device_call
def stored_exponent(x: f64, emin: i64) -> i64:
    """Exponent of a finite non-zero value in a format with the given emin: floor(log2|x|), at least emin."""
    return max(exponent(bits_of(x)) + 52, emin)


@device_call
def aligned(x: f64, y: f64, precision_x: i64, precision_y: i64, quantum: i64) -> i64:
    """x * y in units of 2^quantum, cut off toward zero; precision_x + precision_y <= 62."""
    ux = bits_of(x)
    uy = bits_of(y)
    m = (significand(ux) >> (53 - precision_x)) * (significand(uy) >> (53 - precision_y))
    shift = quantum - (exponent(ux) + exponent(uy) + 106 - precision_x - precision_y)
    if m == 0:
        return 0
    cut = m >> min(shift, 62) if shift > 0 else m << (0 - shift)
    return 0 - cut if (ux ^ uy) < 0 else cut


@device_call
def aligned_step(
    total: f64, x: f64s, terms: i64, y: f64s, stride: i64, unit: FusedUnit, t: Target, u: f64
) -> tuple[f64, i64]:
    """``total`` and the products x[k] * y[k * stride], k < terms, aligned in 62-bit integers and rounded once; and the
    flags of that rounding."""
    largest = NO_EXPONENT
    outcome = 0.0  # of the infinities and NaNs among the terms
    found = False
    if is_special(total):
        found = True
        outcome = total
    elif total != 0.0:
        largest = stored_exponent(total, unit.emin_total)
    for k in range(terms):
        xk = like(x[k], 0.0)
        yk = like(y[k * stride], 0.0)
        if is_special(xk) or is_special(yk):
            found = True
            outcome = outcome + xk * yk
        elif xk != 0.0 and yk != 0.0:
            largest = max(largest, stored_exponent(xk, unit.emin_x) + stored_exponent(yk, unit.emin_y))
    if found:
        return special_result(outcome, False, t)
    if largest == NO_EXPONENT:
        return limited(0.0, t), 0
    largest = max(largest, unit.floor)
    quantum = largest - unit.kept_bits if unit.floating != 0 else 0 - unit.kept_bits
    s = aligned(total, 1.0, 53, 1, quantum)
    for k in range(terms):
        s = s + aligned(like(x[k], 0.0), like(y[k * stride], 0.0), unit.precision_x, unit.precision_y, quantum)
    m = max(s, 0 - s)
    if s == 0:
        return limited(0.0, t), 0
    return round_wide(s < 0, m >> 60, m & LIMB, quantum, t, u)


@device_call
def add_word(limbs: i64s, word: i64, negative: bool, place: i64) -> None:
    """Adds a word of at most 32 bits times 2^place to limbs of 32 bits each, whose carries may wait."""
    i = place >> 5
    moved = word << (place & 31)
    low = moved & WORD
    high = moved >> 32
    limbs[i] = limbs[i] - low if negative else limbs[i] + low
    limbs[i + 1] = limbs[i + 1] - high if negative else limbs[i + 1] + high


@device_call
def add_part(limbs: i64s, part: i64, negative: bool, place: i64) -> None:
    """Adds an integer below 2^60 times 2^place; below place 0 the number has no bits."""
    if place < 0:
        if place > -60:
            add_word(limbs, (part >> (0 - place)) & WORD, negative, 0)
            add_word(limbs, (part >> (0 - place)) >> 32, negative, 32)
    else:
        add_word(limbs, part & WORD, negative, place)
        add_word(limbs, part >> 32, negative, place + 32)


@device_call
def add_exactly(limbs: i64s, x: f64, y: f64, base: i64) -> None:
    """Adds the product of two finite doubles to limbs in units of 2^base, of which both are multiples."""
    ux = bits_of(x)
    uy = bits_of(y)
    mx = significand(ux)
    my = significand(uy)
    place = exponent(ux) + exponent(uy) - base
    if mx != 0 and my != 0:
        a1 = mx >> 27
        a0 = mx & LOW27
        b1 = my >> 27
        b0 = my & LOW27
        middle = a1 * b0 + a0 * b1
        p0 = a0 * b0 + ((middle & LOW27) << 27)  # below 2^55
        p1 = a1 * b1 + (middle >> 27)  # in units of 2^54
        negative = (ux ^ uy) < 0
        add_part(limbs, p0, negative, place)
        add_part(limbs, p1, negative, place + 54)


@device_call
def round_limbs(limbs: i64s, count: i64, base: i64, t: Target, u: f64) -> tuple[f64, i64]:
    """The number in ``count`` limbs, in units of 2^base, rounded once, and the flags; the limbs are cleared.
    Zero is +0."""
    carry: i64 = 0
    for i in range(count):
        whole = limbs[i] + carry
        limbs[i] = whole & WORD
        carry = whole >> 32
    negative = carry < 0
    if negative:
        more = 1
        for i in range(count):
            whole = (limbs[i] ^ WORD) + more
            limbs[i] = whole & WORD
            more = whole >> 32
    top = 0
    for i in range(count):
        top = i if limbs[i] != 0 else top
    first = max(top - 3, 0)  # of the four limbs that are rounded
    if t.wrap_bits > 0:
        first = min((t.quantum - 42 - base) >> 5, first)  # 34 to 65 bits below the last that counts; base is far below
    sticky = False
    for i in range(first):
        sticky = sticky or limbs[i] != 0
    l0 = limbs[first]
    l1 = limbs[first + 1]
    l2 = limbs[first + 2]
    l3 = limbs[first + 3]
    low = ((l1 & LOW28) << 32) | l0
    high = (l2 << 4) | (l1 >> 28)
    e = base + 32 * first
    if top > 2:  # the last eight of 128 bits are jammed; of no more than 96 none is
        low = ((l2 & 15) << 56) | (l1 << 24) | (l0 >> 8)
        high = (l3 << 28) | (l2 >> 4)
        e = e + 8
        low = low | (1 if sticky or (l0 & 255) != 0 else 0)
    for i in range(count):
        limbs[i] = 0
    if (high | low) == 0:
        return limited(0.0, t), 0
    return round_wide(negative, high, low, e, t, u)


@device_call
def exact_step(
    total: f64, x: f64s, terms: i64, y: f64s, stride: i64, limbs: i64s, unit: FusedUnit, t: Target, u: f64
) -> tuple[f64, i64]:
    """``total`` and the products x[k] * y[k * stride], k < terms, summed in limbs and rounded once; and its flags."""
    outcome = total
    found = is_special(total)
    for k in range(terms):
        xk = like(x[k], 0.0)
        yk = like(y[k * stride], 0.0)
        if is_special(xk) or is_special(yk):
            outcome = outcome + xk * yk if found else xk * yk
            found = True
    if found:
        return special_result(outcome, False, t)
    add_exactly(limbs, total, 1.0, unit.base)
    for k in range(terms):
        add_exactly(limbs, like(x[k], 0.0), like(y[k * stride], 0.0), unit.base)
    return round_limbs(limbs, unit.limbs, unit.base, t, u)


@device_call
def fuse(
    n: i64,
    c: f64s,
    a: f64s,
    terms: i64,
    b: f64s,
    width: i64,
    s: f64s,
    places: i64s,
    u: f64s,
    unit: FusedUnit,
    t: Target,
    wide: Target,
) -> None:
    """c[j] <- c[j] and the products a[k] * b[k * width + j], k < terms, by the unit, rounded once."""
    if unit.way == ALIGNED:
        add_aligned(n, c, a, terms, b, width, s, places, unit)
        round_chunk(n, s, c, u, t)
    elif unit.way == SUMMED:
        add_summed(n, a, terms, b, width, s, t)
        for j in range(n):
            s[j] = add_odd(c[j], s[j], t) + t.nothing  # what cancels is +0
        round_chunk(n, s, c, u, t)
    elif unit.way == ADDED:
        add_summed(n, a, terms, b, width, s, t)
        for j in range(n):
            c[j] = (c[j] + s[j]) + t.nothing
    else:
        for j in range(n):
            drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
            total = like(c[j], 0.0)
            y = b[j : (terms - 1) * width + j + 1]
            if unit.way == INTEGER:
                c[j], _flags = aligned_step(total, a, terms, y, width, unit, wide, drawn)
            else:
                c[j], _flags = exact_step(total, a, terms, y, width, places, unit, wide, drawn)


@kernel
def round_sums(
    begin: i64,
    end: i64,
    sums: f64s,
    weights: i64s,
    out: f64s,
    layout: Layout,
    apart: i64,
    base: i64,
    limbs: i64w,
    d: Draws,
    t: Target,
) -> None:
    """out[i] = the sum of sums[k * apart + i] * 2^(base + weights[k]), integers below 2^53, rounded once.

    layout.depth sums each; result i is element first + row * pitch + column; it has layout.registers limbs.
    """
    for i in range(layout.registers):
        limbs[i] = 0
    for i in range(begin, end):
        row = quotient(i, layout.width)
        element = layout.first + row * layout.pitch + (i - row * layout.width)
        for k in range(layout.depth):
            x = sums[k * apart + i]
            m = int(abs(x))
            add_part(limbs, m, x < 0.0, weights[k])
        u = random_fraction(d, element, 0, t) if t.random_bits > 0 else 0.0
        out[i], _flags = round_limbs(limbs, layout.registers, base, t, u)
