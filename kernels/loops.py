"""Kernels of contractions: an order's program (``emulator.orders``) over many results side by side.

Each works on the result's indices [begin, end), a chunk of a row at a time: its registers are rows of a scratch array,
and every step of the program is a loop over them. The rounding of each of two accumulators is told by a path, a Target
on the carriers, and one on binary64 for the path WIDE.
"""

from __future__ import annotations

from ..emulator.orders import Do
from .elementwise import NATIVE, ODD, WORK, draw_row, neutral_zero, round_chunk
from .fused import fuse
from .scalar import add_odd, mac_native
from .structs import Draws, FusedUnit, Layout, Target, Window
from .subset import device, device_call, f64, f64s, f64w, i64, i64s, i64w, kernel, like, quotient
from .wide import mac_wide

EXACT = -1  #: as a product path: the product is not rounded
MAC, LOAD, ADD, FUSE, CLEAR = map(int, Do)
FIELDS = 6  #: of a step


@device
def part_of_row(index: i64, end: i64, width: i64) -> tuple[i64, i64]:
    """The row of a result, and how many results from there on, up to ``end``, are of that row: at most WORK."""
    i = quotient(index, width)
    return i, min(min((i + 1) * width, end) - index, WORK)


@device
def step_at(program: i64s, p: i64) -> tuple[i64, i64, i64, i64, i64, i64]:
    """The fields of a step (``emulator.orders.Step``)."""
    at = p * FIELDS
    return program[at], program[at + 1], program[at + 2], program[at + 3], program[at + 4], program[at + 5]


@device_call
def multiply(n: i64, out: f64s, a: f64, b: f64s, s: f64s, u: f64s, path: i64, t: Target, wide: Target) -> None:
    """out[j] = a * b[j], exact or rounded into ``t``; s is scratch."""
    if path == EXACT or path == NATIVE:  # noqa: SIM109  (the subset has no tuples)
        for j in range(n):
            out[j] = a * b[j]
    elif path == ODD:
        for j in range(n):
            s[j] = a * b[j]
        round_chunk(n, s, out, u, t)  # a loop over one array as two does not vectorise
    else:
        neutral = neutral_zero(wide)
        for j in range(n):
            drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
            out[j], _flags = mac_wide(neutral, like(a, 0.0), like(b[j], 0.0), wide, drawn)


@device_call
def add_rows(n: i64, c: f64s, x: f64s, s: f64s, u: f64s, path: i64, t: Target, wide: Target) -> None:
    """c[j] = c[j] + x[j], rounded; s is scratch."""
    if path == NATIVE:
        for j in range(n):
            c[j] = c[j] + x[j]
    elif path == ODD:
        for j in range(n):
            s[j] = add_odd(c[j], x[j], t)
        round_chunk(n, s, c, u, t)
    else:
        for j in range(n):
            drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
            c[j], _flags = mac_wide(like(c[j], 0.0), like(x[j], 0.0), 1.0, wide, drawn)


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
def add_one(n: i64, c: f64s, a: f64, b: f64s, s: f64s, u: f64s, path: i64, t: Target, wide: Target) -> None:
    """c[j] = c[j] + a * b[j], rounded once; s is scratch."""
    if path == NATIVE:
        for j in range(n):
            c[j] = mac_native(c[j], a, b[j])
    elif path == ODD:
        for j in range(n):
            s[j] = add_odd(c[j], a * b[j], t)
        round_chunk(n, s, c, u, t)
    else:
        for j in range(n):
            drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
            c[j], _flags = mac_wide(like(c[j], 0.0), like(a, 0.0), like(b[j], 0.0), wide, drawn)


@device_call
def run_step(
    what: i64,
    n: i64,
    c: f64s,
    other: f64s,
    a: f64s,
    b: f64s,
    width: i64,
    first: i64,
    last: i64,
    s: f64s,
    u: f64w,
    at: i64,
    stride: i64,
    drawn: i64,
    places: i64w,
    d: Draws,
    product_d: Draws,
    path: i64,
    t: Target,
    wide: Target,
    unit: FusedUnit,
    product_path: i64,
    product: Target,
    product_wide: Target,
) -> None:
    """A step that rounds, into c: it adds ``other``, or a[k] * b[k * width + j] for k = first, ..., last - 1.

    s has room for 2 n.
    """
    k = first
    while what == MAC and k < last:
        bs = b[k * width : k * width + n]
        if product_path == EXACT and path == NATIVE and k + 4 <= last:
            add_four(n, c, a, k, b[k * width : (k + 3) * width + n], width)
            k = k + 4
        elif product_path == EXACT:
            lead = draw_row(u, n, at, stride, d, drawn + k - first, t)
            add_one(n, c, a[k], bs, s, u[lead : lead + n], path, t, wide)
            k = k + 1
        else:
            x = s[n : 2 * n]
            lead = draw_row(u, n, at, stride, product_d, k, product)
            multiply(n, x, a[k], bs, s, u[lead : lead + n], product_path, product, product_wide)
            lead = draw_row(u, n, at, stride, d, drawn + k - first, t)
            add_rows(n, c, x, s, u[lead : lead + n], path, t, wide)
            k = k + 1
    if what != MAC:
        lead = draw_row(u, n, at, stride, d, drawn, t)
        us = u[lead : lead + n]
        if what == ADD:
            add_rows(n, c, other, s, us, path, t, wide)
        else:
            bs = b[first * width : (last - 1) * width + n]
            fuse(n, c, a[first:last], last - first, bs, width, s, places, us, unit, t, wide)


@device_call
def load(
    n: i64,
    c: f64s,
    a: f64,
    b: f64s,
    s: f64s,
    u: f64w,
    at: i64,
    stride: i64,
    k: i64,
    product_d: Draws,
    product_path: i64,
    product: Target,
    product_wide: Target,
) -> None:
    """c[j] <- the product a * b[j], exact or rounded; s is scratch."""
    lead = draw_row(u, n, at, stride, product_d, k, product) if product_path != EXACT else 0
    multiply(n, c, a, b, s, u[lead : lead + n], product_path, product, product_wide)


@device
def clear(n: i64, c: f64s) -> None:
    for j in range(n):
        c[j] = 0.0


@kernel
def contract(
    begin: i64,
    end: i64,
    a: f64s,
    b: f64s,
    out: f64s,
    layout: Layout,
    program: i64s,
    w: f64w,
    u: f64w,
    places: i64w,
    d: Draws,
    path: i64,
    t: Target,
    wide: Target,
    unit: FusedUnit,
    inner_path: i64,
    inner: Target,
    inner_wide: Target,
    inner_unit: FusedUnit,
    product_d: Draws,
    product_path: i64,
    product: Target,
    product_wide: Target,
) -> None:
    """out = A B by a program; of w each result has 2 + layout.registers."""
    width = layout.width
    for i in range(max(unit.limbs, inner_unit.limbs)):
        places[i] = 0
    index = begin
    while index < end:
        i, n = part_of_row(index, end, width)
        column = index - i * width
        stride = layout.stride
        at = layout.first + i * layout.pitch + column * stride
        row = a[i * layout.depth : (i + 1) * layout.depth]
        bs = b[column : layout.depth * width]
        s = w[0 : 2 * n]
        for r in range(layout.registers):
            clear(n, w[(2 + r) * n : (3 + r) * n])
        for p in range(layout.steps):
            what, r, first, last, level, drawn = step_at(program, p)
            c = w[(2 + r) * n : (3 + r) * n]
            addend = first if what == ADD else r
            other = w[(2 + addend) * n : (3 + addend) * n]
            if what == CLEAR:
                clear(n, c)
            elif what == LOAD:
                x = bs[first * width : first * width + n]
                load(n, c, row[first], x, s, u, at, stride, first, product_d, product_path, product, product_wide)
            elif level == 0:
                run_step(
                    what, n, c, other, row, bs, width, first, last, s, u, at, stride, drawn, places, d, product_d,
                    path, t, wide, unit, product_path, product, product_wide,
                )  # fmt: skip
            else:
                run_step(
                    what, n, c, other, row, bs, width, first, last, s, u, at, stride, drawn, places, d, product_d,
                    inner_path, inner, inner_wide, inner_unit, product_path, product, product_wide,
                )  # fmt: skip
        total = w[2 * n : 3 * n]
        for j in range(n):
            out[at + j * stride] = total[j]
        index = index + n


@kernel
def unfold(begin: i64, end: i64, x: f64s, out: f64s, g: Window) -> None:
    """out[(c, i, j), (image, row, column)] = what the place (c, i, j) of the kernel meets there, zeros outside."""
    pixels = g.out_height * g.out_width
    for index in range(begin, end):
        place = quotient(index, g.images)
        image = index - place * g.images
        c = quotient(place, g.kernel_height * g.kernel_width)
        within = place - c * g.kernel_height * g.kernel_width
        i = quotient(within, g.kernel_width)
        left = within - i * g.kernel_width - g.padding
        source = ((g.first + image) * g.channels + c) * g.height
        for row in range(g.out_height):
            y = row * g.stride + i - g.padding
            target = index * pixels + row * g.out_width
            line = out[target : target + g.out_width]
            inside = y >= 0 and y < g.height
            start = (source + (y if inside else 0)) * g.width + left
            if inside and left >= 0 and left + (g.out_width - 1) * g.stride < g.width and g.stride == 1:
                values = x[start : start + g.out_width]
                for column in range(g.out_width):
                    line[column] = values[column]
            else:
                for column in range(g.out_width):
                    at = left + column * g.stride
                    line[column] = x[start + column * g.stride] if (inside and at >= 0 and at < g.width) else 0.0
