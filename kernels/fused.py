"""Fused steps (``emulator.orders.Do.FUSE``): several products and a register, aligned or exact, rounded once.

A step works on n results side by side; ``b`` holds the second operands of product k from k * width on. Of the ways to
the same bits the fastest that is proven is taken (``contraction``).
"""

from __future__ import annotations

from .elementwise import round_chunk
from .limbs import add_exactly, round_limbs
from .scalar import add_odd, limited
from .structs import FusedUnit, Target
from .subset import (
    bits_of,
    copysign,
    device,
    device_call,
    f64,
    f64s,
    from_bits,
    i64,
    i64s,
    leading_zeros,
    like,
    trunc,
)
from .wide import LIMB, exponent, is_special, round_wide, significand, special_result

#: Ways. ALIGNED: in binary64, which holds every product and aligned sum. SUMMED: exact products add up without error in
#: the carrier; ADDED: and the processor adds their sum. INTEGER: aligned sums of up to 62 bits. LIMBS: exact sums of
#: any width. TWO_STAGE: the sums of ``TwoStage``, of up to 62 bits. GROUPED: aligned sums of groups, of up to 62 bits.
ALIGNED, SUMMED, ADDED, INTEGER, LIMBS, TWO_STAGE, GROUPED = range(7)
NO_EXPONENT = -1000000
FAR = 500  #: magnitudes of exponents beyond it are none of a finite product's that is aligned here


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
def magnitude_of(x: f64, y: f64, precision_x: i64, precision_y: i64) -> tuple[i64, i64]:
    """|x * y| of finite doubles as an integer and its last bit's exponent; precision_x + precision_y <= 62."""
    ux = bits_of(x)
    uy = bits_of(y)
    m = (significand(ux) >> (53 - precision_x)) * (significand(uy) >> (53 - precision_y))
    return m, exponent(ux) + exponent(uy) + 106 - precision_x - precision_y


@device_call
def aligned(x: f64, y: f64, precision_x: i64, precision_y: i64, quantum: i64) -> i64:
    """x * y in units of 2^quantum, cut off toward zero."""
    m, e = magnitude_of(x, y, precision_x, precision_y)
    shift = quantum - e
    if m == 0:
        return 0
    cut = m >> min(shift, 62) if shift > 0 else m << (0 - shift)
    return 0 - cut if (bits_of(x) ^ bits_of(y)) < 0 else cut


@device_call
def aligned_step(
    total: f64, x: f64s, terms: i64, y: f64s, stride: i64, unit: FusedUnit, t: Target, u: f64
) -> tuple[f64, i64]:
    """``total`` and the products x[k] * y[k * stride], k < terms, aligned in 62-bit integers and rounded once; and the
    flags of that rounding."""
    count = terms - unit.with_least
    emin_x = stored_exponent(like(x[count], 0.0), NO_EXPONENT) if unit.with_least != 0 else unit.emin_x
    emin_y = stored_exponent(like(y[count * stride], 0.0), NO_EXPONENT) if unit.with_least != 0 else unit.emin_y
    largest = NO_EXPONENT
    outcome = 0.0  # of the infinities and NaNs among the terms
    found = False
    if is_special(total):
        found = True
        outcome = total
    elif total != 0.0:
        largest = stored_exponent(total, unit.emin_total)
    for k in range(count):
        xk = like(x[k], 0.0)
        yk = like(y[k * stride], 0.0)
        if is_special(xk) or is_special(yk):
            found = True
            outcome = outcome + xk * yk
        elif xk != 0.0 and yk != 0.0:
            largest = max(largest, stored_exponent(xk, emin_x) + stored_exponent(yk, emin_y))
    if found:
        return special_result(outcome, False, t)
    if largest == NO_EXPONENT:
        return limited(0.0, t), 0
    largest = max(largest, unit.floor)
    quantum = largest - unit.kept_bits if unit.floating != 0 else 0 - unit.kept_bits
    s = aligned(total, 1.0, 53, 1, quantum)
    for k in range(count):
        s = s + aligned(like(x[k], 0.0), like(y[k * stride], 0.0), unit.precision_x, unit.precision_y, quantum)
    m = max(s, 0 - s)
    if s == 0:
        return limited(0.0, t), 0
    return round_wide(s < 0, m >> 60, m & LIMB, quantum, t, u)


@device_call
def grouped_step(
    total: f64, x: f64s, terms: i64, y: f64s, stride: i64, unit: FusedUnit, t: Target, u: f64
) -> tuple[f64, i64]:
    """``total`` and the sums of groups of products x[k] * y[k * stride], k < terms, aligned by their scales' exponents,
    which a pair after each group tells, in 62-bit integers, and rounded once; and the flags of that rounding."""
    largest = NO_EXPONENT
    outcome = total if is_special(total) else 0.0  # of the infinities and NaNs among the terms
    found = is_special(total)
    if not found and total != 0.0:
        largest = stored_exponent(total, unit.emin_total)
    start = 0
    while start < terms:
        last = min(start + unit.group, terms - 1)
        place = exponent(bits_of(like(x[last], 0.0))) + exponent(bits_of(like(y[last * stride], 0.0))) + 104
        for k in range(start, last):
            xk = like(x[k], 0.0)
            yk = like(y[k * stride], 0.0)
            if is_special(xk) or is_special(yk):
                found = True
                outcome = outcome + xk * yk
            elif xk != 0.0 and yk != 0.0:
                largest = max(largest, place)
        start = last + 1
    if found:
        return special_result(outcome, False, t)
    if largest == NO_EXPONENT:
        return limited(0.0, t), 0
    quantum = max(largest, unit.floor) - unit.kept_bits
    s = aligned(total, 1.0, 53, 1, quantum)
    start = 0
    while start < terms:
        last = min(start + unit.group, terms - 1)
        summed = 0.0
        for k in range(start, last):
            summed = summed + like(x[k], 0.0) * like(y[k * stride], 0.0)
        s = s + aligned(summed, 1.0, 53, 1, quantum)
        start = last + 1
    if s == 0:
        return limited(0.0, t), 0
    m = max(s, 0 - s)
    return round_wide(s < 0, m >> 60, m & LIMB, quantum, t, u)


@device_call
def floored(m: i64, shift: i64) -> i64:
    """m / 2^shift, floored."""
    if m == 0:
        return 0
    return m >> min(shift, 62) if shift > 0 else m * (1 << (0 - shift))


@device_call
def look_at_terms(
    total: f64, x: f64s, terms: i64, y: f64s, stride: i64, unit: FusedUnit, t: Target
) -> tuple[f64, i64, i64]:
    """What the infinities and NaNs of a two-stage step sum up to, else 0; and the largest exponents of its even
    products (or all), and of its odd ones."""
    outcome = total if is_special(total) else 0.0
    even = NO_EXPONENT
    odd = NO_EXPONENT
    emax = exponent(bits_of(t.high)) + 52
    for k in range(terms):
        xk = like(x[k], 0.0)
        yk = like(y[k * stride], 0.0)
        if is_special(xk) or is_special(yk):
            outcome = outcome + xk * yk
        elif xk != 0.0 and yk != 0.0:
            m, e = magnitude_of(xk, yk, unit.precision_x, unit.precision_y)
            place = stored_exponent(xk, unit.emin_x) + stored_exponent(yk, unit.emin_y)
            if 63 - leading_zeros(m) + e > emax:
                outcome = outcome + copysign(t.infinity, xk) * copysign(1.0, yk)
            elif (k & unit.interleaved) != 0:
                odd = max(odd, place)
            else:
                even = max(even, place)
    return outcome, even, odd


@device_call
def two_stage_step(
    total: f64, x: f64s, terms: i64, y: f64s, stride: i64, unit: FusedUnit, t: Target, u: f64
) -> tuple[f64, i64]:
    """``total`` and the products x[k] * y[k * stride], k < terms, in the stages of ``emulator.orders.TwoStage``; and
    the flags of their rounding."""
    outcome, even, odd = look_at_terms(total, x, terms, y, stride, unit, t)
    if outcome != 0.0:
        return special_result(outcome, False, t)
    s_even = 0
    s_odd = 0
    for k in range(terms):
        is_odd = (k & unit.interleaved) != 0
        place = (odd if is_odd else even) - unit.kept_bits
        s = aligned(like(x[k], 0.0), like(y[k * stride], 0.0), unit.precision_x, unit.precision_y, place)
        s_even = s_even + (0 if is_odd else s)
        s_odd = s_odd + (s if is_odd else 0)
    of_products = max(even, odd)
    of_total = stored_exponent(total, unit.emin_total) if total != 0.0 else unit.emin_total
    largest = max(of_products, of_total)
    quantum = largest - unit.sum_bits
    s = floored(s_even, of_products - even) + floored(s_odd, of_products - odd)
    s = floored(s, quantum - (of_products - unit.kept_bits))
    if unit.interleaved == 0 or of_total >= largest - unit.kept_bits - 1:
        m = significand(bits_of(total))
        held = floored(0 - m if total < 0.0 else m, largest - unit.kept_bits - exponent(bits_of(total)))
        s = s + floored(held, unit.kept_bits - unit.sum_bits)
    top = 63 - leading_zeros(max(s, 0 - s)) + quantum
    below = max(max(top, unit.emin_total) - unit.sum_bits + 1 - quantum, 0)
    s = floored(s, below)
    if s == 0:
        return limited(0.0, t), 0
    m = max(s, 0 - s)
    return round_wide(s < 0, m >> 60, m & LIMB, quantum + below, t, u)


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
            elif unit.way == GROUPED:
                c[j], _flags = grouped_step(total, a, terms, y, width, unit, wide, drawn)
            elif unit.way == TWO_STAGE:
                c[j], _flags = two_stage_step(total, a, terms, y, width, unit, wide, drawn)
            else:
                c[j], _flags = exact_step(total, a, terms, y, width, places, unit, wide, drawn)
