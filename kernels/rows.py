"""The kernel of sparse matrices times vectors: an order's program over many rows side by side, entries gathered."""

from __future__ import annotations

from .elementwise import NATIVE, ODD, WIDE, WORK, check_values, draw_row, neutral_zero, round_chunk
from .fused import fuse
from .loops import ADD, CLEAR, EXACT, FUSE, LOAD, MAC, add_rows, clear, step_at
from .scalar import add_odd, mac_native, random_fraction
from .structs import Draws, FusedUnit, Layout, Target
from .subset import device_call, f64s, f64w, i64, i64s, i64w, kernel, like, unsigned
from .wide import mac_wide

AHEAD = 8  #: products of a sparse row that are gathered together
ROWS = 512  #: of a chunk of a sparse matrix, whose entries are to stay in the first cache


@device_call
def gather(
    n: i64, k: i64, begins: i64s, lengths: i64s, values: f64s, columns: i64s, x: f64s, xa: f64s, xb: f64s
) -> None:
    """xa[j], xb[j] = the k-th entry of n rows and what it meets, zeros of a row without it."""
    for j in range(n):
        xa[j] = 0.0
        xb[j] = 0.0
        if k < lengths[j]:
            p = unsigned(begins[j] + k)
            xa[j] = values[p]
            xb[j] = x[unsigned(columns[p])]


@device_call
def gather_products(
    n: i64, k: i64, begins: i64s, lengths: i64s, values: f64s, columns: i64s, x: f64s, out: f64s
) -> None:
    """out[i * n + j] = the product of the entry k + i of row j with what it meets, which is exact; i < AHEAD."""
    for j in range(n):
        for i in range(max(min(lengths[j] - k, AHEAD), 0)):
            p = unsigned(begins[j] + k + i)
            out[unsigned(i * n + j)] = values[p] * x[unsigned(columns[p])]


@device_call
def add_native(n: i64, begins: i64s, lengths: i64s, values: f64s, columns: i64s, x: f64s, c: f64s) -> None:
    """c[j] = c[j] + all entries of row j times what they meet, by the processor."""
    for j in range(n):
        total = c[j]
        for place in range(begins[j], begins[j] + lengths[j]):
            p = unsigned(place)
            total = mac_native(total, like(values[p], total), like(x[unsigned(columns[p])], total))
        c[j] = total


@device_call
def add_products(n: i64, k: i64, lengths: i64s, c: f64s, x: f64s, s: f64s, u: f64s, t: Target) -> None:
    """c[j] = c[j] + x[j] on the path ODD, where k < lengths[j]; s is scratch."""
    for j in range(n):
        s[j] = add_odd(c[j], x[j], t) if k < lengths[j] else c[j]
    round_chunk(n, s, c, u, t)


@device_call
def are_columns(n: i64, columns: i64s, size: i64) -> bool:
    """Whether all of them lie in [0, size)."""
    lowest: i64 = 0
    highest: i64 = 0
    for i in range(n):
        lowest = min(lowest, int(columns[i]))
        highest = max(highest, int(columns[i]))
    return lowest >= 0 and highest < size


@device_call
def check_entries(begin: i64, end: i64, values: f64s, report: i64s, s: f64w, t: Target) -> None:
    """``check_values`` of the entries in [begin, end)."""
    start = begin
    while start < end:
        n = min(WORK, end - start)
        check_values(n, values[start : start + n], report, s, t)
        start = start + n


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
def multiply_pairs(n: i64, xa: f64s, xb: f64s, s: f64s, u: f64s, path: i64, t: Target, wide: Target) -> None:
    """xa[j] = xa[j] * xb[j], rounded into ``t``; s is scratch."""
    if path == WIDE:
        neutral = neutral_zero(wide)
        for j in range(n):
            drawn = like(u[j], 0.0) if wide.random_bits > 0 else 0.0
            xa[j], _flags = mac_wide(neutral, like(xa[j], 0.0), like(xb[j], 0.0), wide, drawn)
    else:
        for j in range(n):
            s[j] = xa[j] * xb[j]
        if path == ODD:
            round_chunk(n, s, xa, u, t)
        else:
            for j in range(n):
                xa[j] = s[j]


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


@device_call
def run_row_step(
    what: i64,
    n: i64,
    c: f64s,
    other: f64s,
    begins: i64s,
    length: i64s,
    values: f64s,
    columns: i64s,
    x: f64s,
    depth: i64,
    first: i64,
    last: i64,
    s: f64s,
    ahead: f64s,
    u: f64w,
    rows: i64s,
    listed: bool,
    index: i64,
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
    """A step of n rows, into c: it adds ``other``, or loads or adds the products first, ..., last - 1 of each.

    s has room for 3 n, ahead for AHEAD n, or for ``depth`` where steps fuse.
    """
    if what == ADD:
        lead = draw_rows(u, n, rows, listed, index, d, drawn, t)
        add_rows(n, c, other, s, u[lead : lead + n], path, t, wide)
    elif what == FUSE:
        lead = draw_rows(u, n, rows, listed, index, d, drawn, t)
        for j in range(n):
            start = begins[j] + first
            for k in range(last - first):
                ahead[k] = x[unsigned(columns[unsigned(start + k)])]
            us = u[lead + j : lead + j + 1]
            xs = values[start : start + last - first]
            fuse(1, c[j : j + 1], xs, last - first, ahead, 1, s, places, us, unit, t, wide)
    else:
        k = first
        lean = what == MAC and product_path == EXACT and first == 0 and last == depth
        if lean and path == NATIVE:
            add_native(n, begins, length, values, columns, x, c)
            k = last
        while lean and path == ODD and k < last:
            gather_products(n, k, begins, length, values, columns, x, ahead)
            for i in range(min(AHEAD, last - k)):
                lead = draw_rows(u, n, rows, listed, index, d, drawn + k + i, t)
                add_products(n, k + i, length, c, ahead[i * n : (i + 1) * n], s, u[lead : lead + n], t)
            k = k + AHEAD
        xa = s[n : 2 * n]
        xb = s[2 * n : 3 * n]
        while k < last:
            gather(n, k, begins, length, values, columns, x, xa, xb)
            if product_path != EXACT:
                lead = draw_rows(u, n, rows, listed, index, product_d, k, product)
                multiply_pairs(n, xa, xb, s, u[lead : lead + n], product_path, product, product_wide)
                for j in range(n):
                    xb[j] = 1.0
            if what == LOAD:
                for j in range(n):
                    c[j] = xa[j] * xb[j]
            else:
                lead = draw_rows(u, n, rows, listed, index, d, drawn + k - first, t)
                add_pairs(n, k, length, c, xa, xb, s, u[lead : lead + n], path, t, wide)
            k = k + 1


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
    looks: i64,
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
    program has FUSE steps. If it ``looks``, rows in order are checked on the way: with 1 their columns, with 2 their
    entries, too; stored is the entries' Target.
    """
    for i in range(max(unit.limbs, inner_unit.limbs)):
        places[i] = 0
    listed = layout.pitch != 0
    index = begin
    readable = True
    while index < end and readable:
        n = min(ROWS, end - index)
        from_entry = int(starts[index]) if looks > 0 else 0
        to_entry = int(starts[index + n]) if looks > 0 else 0
        if not are_columns(to_entry - from_entry, columns[from_entry:to_entry], size):
            report[2] = 1
            readable = False
            n = 0
        s = w[0 : 3 * n]
        ahead = w[(4 + layout.registers) * n : (4 + layout.registers) * n + max(AHEAD * n, layout.depth)]
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
            what, r, first, last, level, drawn = step_at(program, p)
            last = first + 1 if what == LOAD else last
            c = w[(4 + r) * n : (5 + r) * n]
            addend = first if what == ADD else r
            other = w[(4 + addend) * n : (5 + addend) * n]
            if what == CLEAR:
                clear(n, c)
            elif level == 0:
                run_row_step(
                    what, n, c, other, begins, length, values, columns, x, layout.depth, first, last, s, ahead, u, rows,
                    listed, index, drawn, places, d, product_d, path, t, wide, unit, product_path, product,
                    product_wide,
                )  # fmt: skip
            else:
                run_row_step(
                    what, n, c, other, begins, length, values, columns, x, layout.depth, first, last, s, ahead, u, rows,
                    listed, index, drawn, places, d, product_d, inner_path, inner, inner_wide, inner_unit, product_path,
                    product, product_wide,
                )  # fmt: skip
        if looks > 1 and readable:  # they are cached now
            check_entries(from_entry, to_entry, values, report, checked, stored)
        total = w[4 * n : 5 * n]
        if listed:
            for j in range(n):
                out[rows[index + j]] = total[j]
        else:
            for j in range(n):
                out[index + j] = total[j]
        index = index + n
