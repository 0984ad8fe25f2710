"""Kernels of contractions. Each works on the result's indices [begin, end).

SR's random fractions go through a scratch array of one word per result, so that the arithmetic loops are the
same for every mode; it holds zeros where nothing is stochastic. ``path`` is a ``target.Path``.
"""

from __future__ import annotations

from .elementwise import CHUNK, NATIVE, ODD, draw_fractions, neutral_zero, round_chunk
from .scalar import add_odd, limited, mac_native, mac_odd, random_fraction, round_odd, settle
from .structs import Draws, FusedUnit, Target
from .subset import bits_of, device, device_call, f64, f64s, from_bits, i64, i64s, kernel, quotient, trunc
from .wide import LIMB, exponent, is_special, mac_wide, round_wide, significand

EXACT = -1  #: as a product path: the product is not rounded
NO_EXPONENT = -1000000
FAR = 500  #: magnitudes of exponents beyond it are none of a finite product's that is aligned here


@device
def part_of_row(index: i64, end: i64, width: i64) -> tuple[i64, i64]:
    """The row of a result, and how many results from there on, up to ``end``, are of that row: at most a CHUNK."""
    i = quotient(index, width)
    return i, min(min((i + 1) * width, end) - index, CHUNK)


@device_call
def accumulate_row(
    n: i64,
    c: f64s,
    a: f64,
    b: f64s,
    u: f64s,
    product_u: f64s,
    path: i64,
    t: Target,
    product_path: i64,
    product: Target,
) -> None:
    """c[j] = c[j] + a * b[j] for j < n, with the product exact or rounded into ``product``."""
    if product_path == EXACT:
        for j in range(n):
            c[j], _flags = mac_wide(c[j], a, b[j], t, u[j])
    elif product_path == ODD and path == ODD:
        for j in range(n):
            c[j] = mac_odd(c[j], round_odd(a * b[j], product, product_u[j]), 1.0, t, u[j])
    else:
        neutral = neutral_zero(product)
        for j in range(n):
            term, _product_flags = mac_wide(neutral, a, b[j], product, product_u[j])
            c[j], _sum_flags = mac_wide(c[j], term, 1.0, t, u[j])


@device_call
def add_four(n: i64, c: f64s, a: f64s, k: i64, b: f64s, width: i64) -> None:
    """c[j] = c[j] + a[k] * b[j] + a[k + 1] * b[width + j] + ..., four products in turn, by the processor."""
    a0 = a[k]
    a1 = a[k + 1]
    a2 = a[k + 2]
    a3 = a[k + 3]
    b0 = b[0:n]
    b1 = b[width : width + n]
    b2 = b[2 * width : 2 * width + n]
    b3 = b[3 * width : 3 * width + n]
    for j in range(n):
        c[j] = mac_native(mac_native(mac_native(mac_native(c[j], a0, b0[j]), a1, b1[j]), a2, b2[j]), a3, b3[j])


@device_call
def add_one(n: i64, c: f64s, a: f64, b: f64s, s: f64s, u: f64s, path: i64, t: Target) -> None:
    """c[j] = c[j] + a * b[j] on the path NATIVE or ODD; s is scratch."""
    if path == NATIVE:
        for j in range(n):
            c[j] = mac_native(c[j], a, b[j])
    else:
        for j in range(n):
            s[j] = add_odd(c[j], a * b[j], t)
        round_chunk(n, s, c, u, t)


@kernel
def matmul_exact(
    begin: i64,
    end: i64,
    a: f64s,
    b: f64s,
    c: f64s,
    depth: i64,
    width: i64,
    s: f64s,
    u: f64s,
    d: Draws,
    path: i64,
    t: Target,
) -> None:
    """As ``matmul``, of exact products on the path NATIVE or ODD; s and u are scratch. On binary32 carriers too."""
    index = begin
    while index < end:
        i, n = part_of_row(index, end, width)
        column = index - i * width
        row = a[i * depth : (i + 1) * depth]
        stop = index + n
        us = u[begin : begin + n]
        k = 0
        while k < depth:
            bs = b[k * width + column : depth * width]
            if path == NATIVE and k + 4 <= depth:
                add_four(n, c[index:stop], row, k, bs, width)
                k = k + 4
            else:
                if t.random_bits > 0:
                    draw_fractions(us, n, index, d, k, t)
                add_one(n, c[index:stop], row[k], bs, s[begin : begin + n], us, path, t)
                k = k + 1
        index = stop


@kernel
def matmul(
    begin: i64,
    end: i64,
    a: f64s,
    b: f64s,
    c: f64s,
    depth: i64,
    width: i64,
    u: f64s,
    product_u: f64s,
    d: Draws,
    product_d: Draws,
    path: i64,
    t: Target,
    product_path: i64,
    product: Target,
) -> None:
    """C += A B in sequential order; A is (rows, depth), B (depth, width), C (rows, width), all row-major."""
    index = begin
    while index < end:
        i, n = part_of_row(index, end, width)
        column = index - i * width
        for k in range(depth):
            if t.random_bits > 0:
                draw_fractions(u[index : index + n], n, index, d, k, t)
            if product_path != EXACT and product.random_bits > 0:
                draw_fractions(product_u[index : index + n], n, index, product_d, k, product)
            row = k * width + column
            accumulate_row(
                n,
                c[index : index + n],
                a[i * depth + k],
                b[row : row + n],
                u[index : index + n],
                product_u[index : index + n],
                path,
                t,
                product_path,
                product,
            )
        index = index + n


@kernel
def ragged_dot(
    begin: i64,
    end: i64,
    x: f64s,
    y: f64s,
    starts: i64s,
    out: f64s,
    d: Draws,
    product_d: Draws,
    path: i64,
    t: Target,
    product_path: i64,
    product: Target,
) -> None:
    """out[i] = sum of x[k] * y[k] for k in [starts[i], starts[i + 1]), in sequential order."""
    neutral = neutral_zero(product)
    for i in range(begin, end):
        total = 0.0
        for k in range(starts[i], starts[i + 1]):
            step = k - starts[i]
            u = random_fraction(d, i, step, t) if t.random_bits > 0 else 0.0
            if product_path != EXACT:
                v = random_fraction(product_d, i, step, product) if product.random_bits > 0 else 0.0
                term, _product_flags = mac_wide(neutral, x[k], y[k], product, v)
                total, _sum_flags = mac_wide(total, term, 1.0, t, u)
            elif path == NATIVE:
                total = mac_native(total, x[k], y[k])
            elif path == ODD:
                total = mac_odd(total, x[k], y[k], t, u)
            else:
                total, _flags = mac_wide(total, x[k], y[k], t, u)
        out[i] = total


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
def fused_dot(
    length: i64,
    x: f64s,
    y: f64s,
    stride: i64,
    d: Draws,
    element: i64,
    unit: FusedUnit,
    t: Target,
) -> f64:
    """Sum of x[k] * y[k * stride] by a fused unit (``emulator.datapath.Fused``)."""
    total = 0.0
    start = 0
    step = 0
    while start < length:
        stop = min(start + unit.terms, length)
        largest = NO_EXPONENT
        outcome = 0.0  # of the infinities and NaNs among the unit.terms
        found = False
        if is_special(total):
            found = True
            outcome = total
        elif total != 0.0:
            largest = stored_exponent(total, unit.emin_total)
        for k in range(start, stop):
            if is_special(x[k]) or is_special(y[k * stride]):
                found = True
                outcome = outcome + x[k] * y[k * stride]
            elif x[k] != 0.0 and y[k * stride] != 0.0:
                largest = max(largest, stored_exponent(x[k], unit.emin_x) + stored_exponent(y[k * stride], unit.emin_y))
        if found:
            total = settle(0.0, outcome, t)
        elif largest == NO_EXPONENT:
            total = 0.0
        else:
            quantum = largest - unit.kept_bits if unit.floating != 0 else 0 - unit.kept_bits
            s = aligned(total, 1.0, 53, 1, quantum)
            for k in range(start, stop):
                s = s + aligned(x[k], y[k * stride], unit.precision_x, unit.precision_y, quantum)
            u = random_fraction(d, element, step, t) if t.random_bits > 0 else 0.0
            m = max(s, 0 - s)
            if s != 0:
                total, _flags = round_wide(s < 0, m >> 60, m & LIMB, quantum, t, u)
            else:
                total = limited(0.0, t)
        start = stop
        step = step + 1
    return total


@kernel
def matmul_fused(
    begin: i64,
    end: i64,
    a: f64s,
    b: f64s,
    c: f64s,
    depth: i64,
    width: i64,
    d: Draws,
    unit: FusedUnit,
    t: Target,
) -> None:
    """C = A B by fused units; shapes as in ``matmul``."""
    for index in range(begin, end):
        i = quotient(index, width)
        j = index - i * width
        row = a[i * depth : (i + 1) * depth]
        column = b[j : depth * width]
        c[index] = fused_dot(depth, row, column, width, d, index, unit, t)


@device
def term_exponent(x: f64, emin: i64) -> i64:
    """As ``stored_exponent``, of what is a normal double or nothing that counts."""
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
        places[j] = term_exponent(c[j], unit.emin_total) if c[j] != 0.0 else NO_EXPONENT
    for k in range(terms):
        x = a[k]
        y = b[k * width : k * width + n]
        exponent_x = term_exponent(x, unit.emin_x) if x != 0.0 else NO_EXPONENT
        for j in range(n):
            there = exponent_x + term_exponent(y[j], unit.emin_y)
            places[j] = max(places[j], there if y[j] != 0.0 else NO_EXPONENT)
    for j in range(n):
        largest = max(min(places[j], FAR), 0 - FAR)  # of infinities, and where all is zero
        places[j] = (largest if unit.floating != 0 else 0) - unit.kept_bits
        s[j] = trunc(c[j] * power(0 - places[j]))
    for k in range(terms):
        x = a[k]
        y = b[k * width : k * width + n]
        for j in range(n):
            s[j] = s[j] + trunc(x * y[j] * power(0 - places[j]))
    for j in range(n):
        s[j] = s[j] * power(places[j]) + 0.0  # what cancels is +0


@kernel
def matmul_aligned(
    begin: i64,
    end: i64,
    a: f64s,
    b: f64s,
    c: f64s,
    depth: i64,
    width: i64,
    s: f64s,
    places: i64s,
    u: f64s,
    d: Draws,
    unit: FusedUnit,
    t: Target,
) -> None:
    """As ``matmul_fused``, where binary64 holds every product and every aligned sum. s, places and u are scratch."""
    index = begin
    while index < end:
        i, n = part_of_row(index, end, width)
        stop = index + n
        sums = s[begin : begin + n]
        us = u[begin : begin + n]
        start = 0
        step = 0
        while start < depth:
            terms = min(unit.terms, depth - start)
            row = a[i * depth + start : i * depth + start + terms]
            bs = b[start * width + index - i * width : depth * width]
            add_aligned(n, c[index:stop], row, terms, bs, width, sums, places[begin : begin + n], unit)
            if t.random_bits > 0:
                draw_fractions(us, n, index, d, step, t)
            round_chunk(n, sums, c[index:stop], us, t)
            start = start + terms
            step = step + 1
        index = stop


@kernel
def ragged_fused(
    begin: i64,
    end: i64,
    x: f64s,
    y: f64s,
    starts: i64s,
    out: f64s,
    d: Draws,
    unit: FusedUnit,
    t: Target,
) -> None:
    """out[i] = sum over [starts[i], starts[i + 1]) of x[k] * y[k], by fused units."""
    for i in range(begin, end):
        n = starts[i + 1] - starts[i]
        xs = x[starts[i] : starts[i + 1]]
        ys = y[starts[i] : starts[i + 1]]
        out[i] = fused_dot(n, xs, ys, 1, d, i, unit, t)
