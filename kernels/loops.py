"""Kernels of contractions: an order's program (``emulator.orders``) over many results side by side.

Each works on the result's indices [begin, end), a chunk of a row at a time: its registers are rows of a scratch array,
and every step of the program is a loop over them. The rounding of each of two accumulators is told by a path, a Target
on the carriers, and one on binary64 for the path WIDE.
"""

from __future__ import annotations

from ..emulator.orders import Do
from .elementwise import NATIVE, ODD, WIDE, WORK, check_values, draw_row, neutral_zero, round_chunk
from .fused import fuse
from .scalar import add_odd, mac_native, random_fraction
from .structs import Draws, FusedUnit, Layout, Target, Window
from .subset import device, device_call, f64, f64s, f64w, i64, i64s, i64w, kernel, like, quotient, unsigned
from .wide import mac_wide

EXACT = -1  #: as a product path: the product is not rounded
MAC, LOAD, ADD, FUSE, CLEAR = map(int, Do)
FIELDS = 6  #: of a step
AHEAD = 8  #: products of a sparse row that are gathered together
ROWS = 256  #: of a chunk of a sparse matrix, whose entries are to stay in the first cache


@device
def part_of_row(index: i64, end: i64, width: i64) -> tuple[i64, i64]:
    """The row of a result, and how many results from there on, up to ``end``, are of that row: at most WORK."""
    i = quotient(index, width)
    return i, min(min((i + 1) * width, end) - index, WORK)


@device_call
def multiply(n: i64, out: f64s, a: f64, b: f64s, u: f64s, path: i64, t: Target, wide: Target) -> None:
    """out[j] = a * b[j], exact or rounded into ``t``."""
    if path == EXACT or path == NATIVE:  # noqa: SIM109  (the subset has no tuples)
        for j in range(n):
            out[j] = a * b[j]
    elif path == ODD:
        for j in range(n):
            out[j] = a * b[j]
        round_chunk(n, out, out, u, t)
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
def accumulate(
    n: i64,
    c: f64s,
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
    d: Draws,
    product_d: Draws,
    path: i64,
    t: Target,
    wide: Target,
    product_path: i64,
    product: Target,
    product_wide: Target,
) -> None:
    """c[j] <- c[j] + a[k] * b[k * width + j], rounded each time, for k = first, ..., last - 1; s has room for 2 n."""
    k = first
    while k < last:
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
            multiply(n, x, a[k], bs, u[lead : lead + n], product_path, product, product_wide)
            lead = draw_row(u, n, at, stride, d, drawn + k - first, t)
            add_rows(n, c, x, s, u[lead : lead + n], path, t, wide)
            k = k + 1


@device_call
def load(
    n: i64,
    c: f64s,
    a: f64,
    b: f64s,
    u: f64w,
    at: i64,
    stride: i64,
    k: i64,
    product_d: Draws,
    product_path: i64,
    product: Target,
    product_wide: Target,
) -> None:
    """c[j] <- the product a * b[j], exact or rounded."""
    lead = draw_row(u, n, at, stride, product_d, k, product) if product_path != EXACT else 0
    multiply(n, c, a, b, u[lead : lead + n], product_path, product, product_wide)


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
            what = program[p * FIELDS]
            r = program[p * FIELDS + 1]
            first = program[p * FIELDS + 2]
            last = program[p * FIELDS + 3]
            outer = program[p * FIELDS + 4] == 0
            drawn = program[p * FIELDS + 5]
            c = w[(2 + r) * n : (3 + r) * n]
            if what == MAC:
                if outer:
                    accumulate(
                        n, c, row, bs, width, first, last, s, u, at, stride, drawn, d, product_d, path, t, wide,
                        product_path, product, product_wide,
                    )  # fmt: skip
                else:
                    accumulate(
                        n, c, row, bs, width, first, last, s, u, at, stride, drawn, d, product_d, inner_path, inner,
                        inner_wide, product_path, product, product_wide,
                    )  # fmt: skip
            elif what == LOAD:
                x = bs[first * width : first * width + n]
                load(n, c, row[first], x, u, at, stride, first, product_d, product_path, product, product_wide)
            elif what == CLEAR:
                clear(n, c)
            elif outer:
                lead = draw_row(u, n, at, stride, d, drawn, t)
                us = u[lead : lead + n]
                if what == ADD:
                    add_rows(n, c, w[(2 + first) * n : (3 + first) * n], s, us, path, t, wide)
                else:
                    x = bs[first * width : (last - 1) * width + n]
                    fuse(n, c, row[first:last], last - first, x, width, s, places, us, unit, t, wide)
            else:
                lead = draw_row(u, n, at, stride, d, drawn, inner)
                us = u[lead : lead + n]
                if what == ADD:
                    add_rows(n, c, w[(2 + first) * n : (3 + first) * n], s, us, inner_path, inner, inner_wide)
                else:
                    x = bs[first * width : (last - 1) * width + n]
                    fuse(n, c, row[first:last], last - first, x, width, s, places, us, inner_unit, inner, inner_wide)
        total = w[2 * n : 3 * n]
        for j in range(n):
            out[at + j * stride] = total[j]
        index = index + n


@device_call
def gather(
    n: i64, k: i64, begins: i64s, lengths: i64s, values: f64s, columns: i64s, x: f64s, xa: f64s, xb: f64s
) -> None:
    """xa[j], xb[j] = the k-th entry of n rows and what it meets, of a row without it anything."""
    for j in range(n):
        place = begins[j] + (k if k < lengths[j] else 0)
        xa[j] = values[unsigned(place)]
        xb[j] = x[unsigned(columns[place])]


@device_call
def gather_products(
    n: i64, k: i64, begins: i64s, lengths: i64s, values: f64s, columns: i64s, x: f64s, out: f64s
) -> None:
    """out[i * n + j] = the product of the entry k + i of row j with what it meets, which is exact; i < AHEAD."""
    for j in range(n):
        for i in range(max(min(lengths[j] - k, AHEAD), 0)):
            place = begins[j] + k + i
            out[i * n + j] = values[unsigned(place)] * x[unsigned(columns[place])]


@device_call
def add_native(n: i64, begins: i64s, lengths: i64s, values: f64s, columns: i64s, x: f64s, c: f64s) -> None:
    """c[j] = c[j] + all entries of row j times what they meet, by the processor."""
    for j in range(n):
        total = c[j]
        for place in range(begins[j], begins[j] + lengths[j]):
            total = mac_native(total, like(values[unsigned(place)], total), like(x[unsigned(columns[place])], total))
        c[j] = total


@device_call
def add_products(n: i64, k: i64, lengths: i64s, c: f64s, x: f64s, s: f64s, u: f64s, t: Target) -> None:
    """c[j] = c[j] + x[j] on the path ODD, where k < lengths[j]; s is scratch."""
    for j in range(n):
        s[j] = add_odd(c[j], x[j], t) if k < lengths[j] else c[j]
    round_chunk(n, s, c, u, t)


@device_call
def check_rows(
    begin: i64, end: i64, values: f64s, columns: i64s, size: i64, report: i64s, rounds: i64, s: f64w, t: Target
) -> bool:
    """Whether the entries in [begin, end) have columns below ``size``; report[2] becomes 1 if not. ``check_values`` of
    them, unless ``rounds`` is 0."""
    lowest: i64 = 0
    highest: i64 = 0
    for p in range(begin, end):
        lowest = min(lowest, int(columns[p]))
        highest = max(highest, int(columns[p]))
    if lowest < 0 or highest >= size:
        report[2] = 1
    if rounds != 0:
        start = begin
        while start < end:
            n = min(WORK, end - start)
            check_values(n, values[start : start + n], report, s, t)
            start = start + n
    return lowest >= 0 and highest < size


@device_call
def add_pairs(
    n: i64, k: i64, lengths: i64s, c: f64s, xa: f64s, xb: f64s, s: f64s, u: f64s, path: i64, t: Target, wide: Target
) -> None:
    """c[j] = c[j] + xa[j] * xb[j], rounded once, where k < lengths[j]; s is scratch."""
    if path == NATIVE:
        for j in range(n):
            c[j] = mac_native(c[j], xa[j], xb[j]) if k < lengths[j] else c[j]
    elif path == ODD:
        for j in range(n):
            s[j] = add_odd(c[j], xa[j] * xb[j], t) if k < lengths[j] else c[j]
        round_chunk(n, s, c, u, t)
    else:
        for j in range(n):
            if k < lengths[j]:
                drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
                c[j], _flags = mac_wide(like(c[j], 0.0), like(xa[j], 0.0), like(xb[j], 0.0), wide, drawn)


@device_call
def multiply_pairs(n: i64, xa: f64s, xb: f64s, u: f64s, path: i64, t: Target, wide: Target) -> None:
    """xa[j] = xa[j] * xb[j], exact or rounded into ``t``."""
    if path == WIDE:
        neutral = neutral_zero(wide)
        for j in range(n):
            drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
            xa[j], _flags = mac_wide(neutral, like(xa[j], 0.0), like(xb[j], 0.0), wide, drawn)
    else:
        for j in range(n):
            xa[j] = xa[j] * xb[j]
        if path == ODD:
            round_chunk(n, xa, xa, u, t)


@device_call
def draw_rows(u: f64w, n: i64, rows: i64s, listed: bool, index: i64, d: Draws, step: i64, t: Target) -> i64:
    """As ``draw_row``, for the elements rows[index], rows[index + 1], ..., or index, ... where rows are not listed."""
    if t.random_bits == 0:
        return 0
    if not listed or rows[index + n - 1] - rows[index] == n - 1:
        return draw_row(u, n, rows[index] if listed else index, 1, d, step, t)
    for j in range(n):
        u[j] = random_fraction(d, rows[index + j], step, t)
    return 0


@kernel
def contract_rows(
    begin: i64,
    end: i64,
    values: f64s,
    columns: i64s,
    x: f64s,
    size: i64,
    starts: i64s,
    rows: i64s,
    out: f64s,
    report: i64s,
    rounds: i64,
    checked: f64w,
    stored: Target,
    layout: Layout,
    program: i64s,
    w: f64w,
    u: f64w,
    places: i64w,
    lengths: i64w,
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
    """out[rows[i]] = that row of a sparse matrix (values, columns, starts) times x, by a program.

    The rows, ascending, have layout.depth entries each, or at most so many if the program has MAC steps only; with
    layout.pitch 0 they are all rows, in order. Of w each result has 4 + layout.registers, and layout.depth where the
    program has FUSE steps. All rows in order are checked on the way (``check_rows``); stored is the entries' Target.
    """
    for i in range(max(unit.limbs, inner_unit.limbs)):
        places[i] = 0
    listed = layout.pitch != 0
    index = begin
    readable = True
    while index < end and readable:
        n = min(ROWS, end - index)
        if not listed:
            from_entry = int(starts[index])
            to_entry = int(starts[index + n])
            readable = check_rows(from_entry, to_entry, values, columns, size, report, rounds, checked, stored)
            n = n if readable else 0
        s = w[0:n]
        xa = w[n : 2 * n]
        xb = w[2 * n : 3 * n]
        length = lengths[0:n]
        begins = lengths[n : 2 * n]
        last_entry = max(int(starts[layout.rows]) - 1, 0)
        if listed:
            for j in range(n):
                r = rows[index + j]
                length[j] = int(starts[r + 1]) - int(starts[r])
                begins[j] = min(int(starts[r]), last_entry)
        else:
            for j in range(n):
                length[j] = int(starts[index + j + 1]) - int(starts[index + j])
                begins[j] = min(int(starts[index + j]), last_entry)
        for r in range(layout.registers):
            clear(n, w[(4 + r) * n : (5 + r) * n])
        for p in range(layout.steps):
            what = program[p * FIELDS]
            r = program[p * FIELDS + 1]
            first = program[p * FIELDS + 2]
            last = program[p * FIELDS + 3]
            outer = program[p * FIELDS + 4] == 0
            drawn = program[p * FIELDS + 5]
            c = w[(4 + r) * n : (5 + r) * n]
            if what == CLEAR:
                clear(n, c)
            elif what == ADD:
                other = w[(4 + first) * n : (5 + first) * n]
                if outer:
                    lead = draw_rows(u, n, rows, listed, index, d, drawn, t)
                    add_rows(n, c, other, s, u[lead : lead + n], path, t, wide)
                else:
                    lead = draw_rows(u, n, rows, listed, index, d, drawn, inner)
                    add_rows(n, c, other, s, u[lead : lead + n], inner_path, inner, inner_wide)
            elif what == FUSE:
                lead = (
                    draw_rows(u, n, rows, listed, index, d, drawn, t)
                    if outer
                    else draw_rows(u, n, rows, listed, index, d, drawn, inner)
                )
                y = w[(4 + layout.registers) * n : (4 + layout.registers) * n + layout.depth]
                for j in range(n):
                    for k in range(first, last):
                        y[k - first] = x[columns[begins[j] + k]]
                    xs = values[begins[j] + first : begins[j] + last]
                    us = u[lead + j : lead + j + 1]
                    if outer:
                        fuse(1, c[j : j + 1], xs, last - first, y, 1, s, places, us, unit, t, wide)
                    else:
                        fuse(1, c[j : j + 1], xs, last - first, y, 1, s, places, us, inner_unit, inner, inner_wide)
            else:
                k = first
                lean = what == MAC and outer and product_path == EXACT and first == 0 and last == layout.depth
                if lean and path == NATIVE:
                    add_native(n, begins, length, values, columns, x, c)
                    k = last
                while lean and path == ODD and k < last:
                    ahead = w[(4 + layout.registers) * n : (4 + layout.registers + AHEAD) * n]
                    gather_products(n, k, begins, length, values, columns, x, ahead)
                    for i in range(min(AHEAD, last - k)):
                        lead = draw_rows(u, n, rows, listed, index, d, drawn + k + i, t)
                        products = ahead[i * n : (i + 1) * n]
                        add_products(n, k + i, length, c, products, s, u[lead : lead + n], t)
                    k = k + AHEAD
                stop = last if what == MAC else first + 1
                while k < stop:
                    gather(n, k, begins, length, values, columns, x, xa, xb)
                    if product_path != EXACT:
                        lead = draw_rows(u, n, rows, listed, index, product_d, k, product)
                        multiply_pairs(n, xa, xb, u[lead : lead + n], product_path, product, product_wide)
                        for j in range(n):
                            xb[j] = 1.0
                    if what == LOAD:
                        for j in range(n):
                            c[j] = xa[j] * xb[j]
                    elif outer:
                        lead = draw_rows(u, n, rows, listed, index, d, drawn + k - first, t)
                        add_pairs(n, k, length, c, xa, xb, s, u[lead : lead + n], path, t, wide)
                    else:
                        lead = draw_rows(u, n, rows, listed, index, d, drawn + k - first, inner)
                        us = u[lead : lead + n]
                        add_pairs(n, k, length, c, xa, xb, s, us, inner_path, inner, inner_wide)
                    k = k + 1
        total = w[4 * n : 5 * n]
        if listed:
            for j in range(n):
                out[rows[index + j]] = total[j]
        else:
            for j in range(n):
                out[index + j] = total[j]
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
