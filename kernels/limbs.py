"""Exact sums of any width, in limbs of 32 bits that are 64-bit integers, rounded once."""

from __future__ import annotations

from .scalar import limited, random_fraction
from .structs import Draws, Layout, Target
from .subset import bits_of, device_call, f64, f64s, i64, i64s, i64w, kernel, quotient
from .wide import LOW27, exponent, round_wide, significand

WORD = 0xFFFFFFFF
LOW28 = (1 << 28) - 1


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
