"""Kernels over elements. Each works on the result's indices [begin, end), in chunks that stay in the first cache.

A chunk goes through simple loops, one a step: random fractions, exact results, rounding, flags; simple loops vectorise,
and the arithmetic is the same for every operation and mode. ``path`` is a ``target.Path``; scratch arrays are used
at [begin, begin + CHUNK) only. On the CPU arrays of values may be of binary32 as well, with a Target32 where nothing
but ``rounded`` and ``settle`` is asked for.
"""

from __future__ import annotations

from .paths import Op, Path
from .scalar import (
    DIVIDE_BY_ZERO,
    INFINITY_BITS,
    INVALID,
    MAGNITUDE,
    QUIET,
    SIGN_BIT,
    add_odd,
    div_odd,
    flags_of,
    fraction_of,
    random_block,
    random_fraction,
    remainder,
    round_directed,
    round_fixed,
    round_fixed_randomly,
    round_nearest,
    round_odd,
    rounded,
    settle,
    settle_mirrored,
    sqrt_odd,
)
from .structs import DIRECTED, FIXED, GIVEN, MIRRORED, Codec, Draws, Target
from .subset import (
    bits_of,
    copysign,
    device,
    device_call,
    displace,
    f64,
    f64s,
    f64w,
    fma,
    from_bits,
    i64,
    i64s,
    integer,
    kernel,
    like,
    nearest_even,
    number,
    place,
    quotient,
    sqrt,
    word,
)
from .wide import div_wide, mac_wide, round_exact, sqrt_wide

NATIVE, ODD, WIDE = map(int, list(Path)[:3])
CHUNK = 1024
WORK = 1024  #: results of a chunk in contractions, which hold several numbers for each
MARGIN = 512  #: numbers that random fractions may take beyond those, drawn in whole groups


CONVERT, ADD, MUL, FMA, DIV, SQRT, REM, SUB = map(int, Op)


@device_call
def neutral_zero(t: Target) -> f64:
    """The zero that changes nothing when added under ``t``'s mode: -0, or +0 under RTN."""
    return from_bits(SIGN_BIT ^ t.zero_sign)


@device
def deal(u: f64s, lane: i64, block: i64, d: Draws, step: i64, pieces_log2: i64, t: Target) -> None:
    """The pieces of a block's four words to the runs that take them: lane is the place in each of them."""
    c0, c1, c2, c3 = random_block(d, block, step)
    for sub in range(1 << (pieces_log2 - 2)):
        at = lane + 64 * sub
        u[at] = fraction_of(c0, sub, t)
        u[at + 16] = fraction_of(c1, sub, t)
        u[at + 32] = fraction_of(c2, sub, t)
        u[at + 48] = fraction_of(c3, sub, t)


@device_call
def draw_fractions(u: f64s, n: i64, first: i64, d: Draws, step: i64, t: Target) -> None:
    """u[i] = ``random_fraction`` of element first + i, for i < n; whole groups draw each of their blocks once."""
    group = 16 << t.pieces_log2
    head = n if d.lfsr > 0 else min(n, (0 - first) & (group - 1))
    for i in range(head):
        u[i] = random_fraction(d, first + i, step, t)
    groups = quotient(n - head, group)
    for g in range(groups):
        part = u[head + g * group : head + (g + 1) * group]
        block = ((first + head) >> t.pieces_log2) + g * 16
        if t.pieces_log2 == 2:  # told apart here, as loops with a condition in them are slow
            for lane in range(16):
                deal(part, lane, block + lane, d, step, 2, t)
        elif t.pieces_log2 == 3:
            for lane in range(16):
                deal(part, lane, block + lane, d, step, 3, t)
        else:
            for lane in range(16):
                deal(part, lane, block + lane, d, step, 4, t)
    for i in range(head + groups * group, n):
        u[i] = random_fraction(d, first + i, step, t)


@device_call
def draw_row(u: f64s, n: i64, first: i64, stride: i64, d: Draws, step: i64, t: Target) -> i64:
    """Random fractions of the elements first, first + stride, ..., n of them; returns where in u they begin."""
    if t.random_bits == 0:
        return 0
    if stride != 1:
        for i in range(n):
            u[i] = random_fraction(d, first + i * stride, step, t)
        return 0
    group = 16 << t.pieces_log2
    if d.lfsr > 0 or n < 32:
        draw_fractions(u, n, first, d, step, t)
        return 0
    lead = first & (group - 1)  # whole groups: each block of random words is drawn once
    whole = quotient(lead + n + group - 1, group) * group
    draw_fractions(u, whole, first - lead, d, step, t)
    return lead


@kernel
def draw(begin: i64, end: i64, u: f64s, d: Draws, step: i64, t: Target) -> None:
    """u[i] = the random fraction of element i at a step."""
    draw_fractions(u[begin:end], end - begin, begin, d, step, t)


@device_call
def round_chunk(n: i64, x: f64s, out: f64s, u: f64s, t: Target) -> None:
    """out[i] = x[i] rounded into ``t``."""
    if t.dropped > 0 or t.plain > 0:
        for i in range(n):
            out[i] = round_nearest(x[i], t)
    elif t.lean == MIRRORED and t.random_bits > 0:
        for i in range(n):
            out[i] = settle_mirrored(rounded(x[i], t, u[i], False), like(x[i], t.nothing), t)
    elif t.lean == MIRRORED:
        for i in range(n):
            out[i] = settle_mirrored(rounded(x[i], t, t.nothing, False), like(x[i], t.nothing), t)
    elif t.lean == FIXED and t.random_bits > 0:
        for i in range(n):
            out[i] = round_fixed_randomly(x[i], t, u[i])
    elif t.lean == FIXED:
        for i in range(n):
            out[i] = round_fixed(x[i], t)
    elif t.lean == DIRECTED:
        for i in range(n):
            out[i] = round_directed(x[i], t)
    elif t.random_bits > 0:
        for i in range(n):
            out[i] = round_odd(x[i], t, u[i])
    else:
        for i in range(n):
            out[i] = round_odd(x[i], t, t.nothing)


@device_call
def round_flag_chunk(n: i64, x: f64s, out: f64s, flags: i64s, u: f64s, t: Target) -> None:
    """``round_chunk``, and the flags of the roundings."""
    if t.dropped > 0:
        for i in range(n):
            v = like(x[i], t.nothing)
            m = nearest_even(abs(v), t.dropped)
            out[i] = settle_mirrored(m, v, t)
            flags[i] = flags_of(m, v, t, t.nothing)
    elif t.lean == MIRRORED and t.random_bits == 0:
        for i in range(n):
            v = like(x[i], t.nothing)
            m = rounded(v, t, t.nothing, False)
            out[i] = settle_mirrored(m, v, t)
            flags[i] = flags_of(m, v, t, t.nothing)
    elif t.random_bits == 0:
        for i in range(n):
            v = like(x[i], t.nothing)
            m = rounded(v, t, t.nothing, True)
            out[i] = settle(m, v, t)
            flags[i] = flags_of(m, v, t, t.nothing)
    else:
        for i in range(n):
            v = like(x[i], t.nothing)
            m = rounded(v, t, u[i], True)
            out[i] = settle(m, v, t)
            flags[i] = flags_of(m, v, t, u[i])


@kernel
def convert(
    begin: i64,
    end: i64,
    x: f64s,
    out: f64s,
    flags: i64s,
    flagged: i64,
    u: f64s,
    d: Draws,
    first: i64,
    t: Target,
) -> None:
    """out[i] = x[i] rounded once into ``t``, on the float route, and its flags if ``flagged``.

    A seed of GIVEN: u holds the random fractions. first : as of ``compute``.
    """
    start = begin
    while start < end:
        n = min(CHUNK, end - start)
        stop = start + n
        drawn = start if d.seed == GIVEN else begin
        if t.random_bits > 0 and d.seed != GIVEN:
            draw_fractions(u[begin : begin + n], n, first + start, d, 0, t)
        if flagged != 0:
            round_flag_chunk(n, x[start:stop], out[start:stop], flags[start:stop], u[drawn : drawn + n], t)
        else:
            round_chunk(n, x[start:stop], out[start:stop], u[drawn : drawn + n], t)
        start = stop


@device_call
def exact_chunk(n: i64, op: i64, x: f64s, y: f64s, z: f64s, s: f64s, folds: bool, t: Target) -> None:
    """s[i] = the exact result, where it ``folds`` to odd."""
    if op == FMA and not folds:
        for i in range(n):
            s[i] = like(z[i], 0.0) + like(x[i], 0.0) * like(y[i], 0.0)
    elif op == ADD and not folds:
        for i in range(n):
            s[i] = like(x[i], 0.0) + like(y[i], 0.0)
    elif op == ADD:
        for i in range(n):
            s[i] = add_odd(like(x[i], 0.0), like(y[i], 0.0), t)
    elif op == SUB:
        for i in range(n):
            s[i] = add_odd(like(x[i], 0.0), -like(y[i], 0.0), t)
    elif op == MUL:
        for i in range(n):
            s[i] = like(x[i], 0.0) * like(y[i], 0.0)
    elif op == FMA:
        for i in range(n):
            s[i] = add_odd(like(z[i], 0.0), like(x[i], 0.0) * like(y[i], 0.0), t)
    elif op == DIV:
        for i in range(n):
            s[i] = div_odd(like(x[i], 0.0), like(y[i], 0.0))
    elif op == SQRT:
        for i in range(n):
            s[i] = sqrt_odd(like(x[i], 0.0))
    elif op == REM:
        for i in range(n):
            s[i] = remainder(like(x[i], 0.0), like(y[i], 0.0))
    else:
        for i in range(n):
            s[i] = like(x[i], 0.0)


@device_call
def native_chunk(n: i64, op: i64, x: f64s, y: f64s, z: f64s, out: f64s) -> None:
    """The processor's own result in fp64 with RNE."""
    if op == ADD:
        for i in range(n):
            out[i] = like(like(x[i], 0.0), 0.0) + like(like(y[i], 0.0), 0.0)
    elif op == SUB:
        for i in range(n):
            out[i] = like(like(x[i], 0.0), 0.0) - like(like(y[i], 0.0), 0.0)
    elif op == MUL:
        for i in range(n):
            out[i] = like(like(x[i], 0.0), 0.0) * like(like(y[i], 0.0), 0.0)
    elif op == FMA:
        for i in range(n):
            out[i] = fma(like(x[i], 0.0), like(like(y[i], 0.0), 0.0), like(like(z[i], 0.0), 0.0))
    elif op == DIV:
        for i in range(n):
            out[i] = like(like(x[i], 0.0), 0.0) / like(like(y[i], 0.0), 0.0)
    elif op == SQRT:
        for i in range(n):
            out[i] = sqrt(like(x[i], 0.0))


@device
def wide_result(op: i64, x: f64, y: f64, z: f64, neutral: f64, t: Target, u: f64) -> tuple[f64, i64]:
    """A result and its flags by 119-bit integers."""
    if op == DIV:
        return div_wide(x, y, t, u)
    if op == SQRT:
        return sqrt_wide(x, t, u)
    if op == REM:
        r = remainder(x, y)
        value, flags = round_exact(r, t, u)
        return value, flags | (INVALID if r != r and x == x and y == y else 0)
    if op == CONVERT:
        return round_exact(x, t, u)
    sums = op != MUL and op != FMA
    added = x if sums else (z if op == FMA else neutral)
    left = (-y if op == SUB else y) if sums else x
    return mac_wide(added, left, 1.0 if sums else y, t, u)


@device
def is_signaling(x: f64) -> bool:
    v = bits_of(x) & MAGNITUDE
    return v > INFINITY_BITS and (v & QUIET) == 0


@device_call
def operand_flags(n: i64, op: i64, x: f64s, y: f64s, z: f64s, s: f64s, flags: i64s, wide: bool, signal: bool) -> None:
    """Adds what the operands raise: if they ``signal``, signaling NaNs; unless ``wide`` did, invalid operations."""
    two = op != SQRT and op != CONVERT
    for i in range(n):
        a = like(x[i], 0.0)
        b = like(y[i], 0.0) if two else 1.0
        c = like(z[i], 0.0) if op == FMA else 1.0
        raised = INVALID if signal and (is_signaling(a) or is_signaling(b) or is_signaling(c)) else 0
        if not wide:
            numbers = a == a and b == b
            product = op == FMA and a * b != a * b  # inf * 0 is invalid whatever is added
            raised = raised | (INVALID if s[i] != s[i] and numbers and (c == c or product) else 0)
            raised = raised | (DIVIDE_BY_ZERO if op == DIV and b == 0.0 and a != 0.0 and a - a == 0.0 else 0)
        flags[i] = flags[i] | raised


@kernel
def compute(
    begin: i64,
    end: i64,
    op: i64,
    x: f64s,
    y: f64s,
    z: f64s,
    spread: i64,
    out: f64s,
    flags: i64s,
    flagged: i64,
    s: f64s,
    u: f64s,
    d: Draws,
    first: i64,
    path: i64,
    t: Target,
) -> None:
    """out[i] = op(x[i], y[i], z[i]) rounded once into ``t``, and its flags if ``flagged``; 2: NaNs may signal.

    spread : bits 0, 1, 2: x, y, z hold a chunk of one number, which is every element's. Operands that ``op`` does not
    have, and flags that are not asked for, are any array. s and u are scratch; with a seed of GIVEN u holds the random
    fractions. first : what the random bits are drawn by, the number of element 0.
    """
    neutral = neutral_zero(t)
    start = begin
    while start < end:
        n = min(CHUNK, end - start)
        stop = start + n
        at_x = 0 if (spread & 1) != 0 else start
        at_y = 0 if (spread & 2) != 0 else start
        at_z = 0 if (spread & 4) != 0 else start
        xs = x[at_x : at_x + n]
        ys = y[at_y : at_y + n]
        zs = z[at_z : at_z + n]
        outs = out[start:stop]
        fs = flags[start:stop]
        drawn = start if d.seed == GIVEN else begin
        us = u[drawn : drawn + n]
        if t.random_bits > 0 and d.seed != GIVEN:
            draw_fractions(us, n, first + start, d, 0, t)
        if path == NATIVE:
            native_chunk(n, op, xs, ys, zs, outs)
        elif path == ODD and op == CONVERT and flagged == 0:
            round_chunk(n, xs, outs, us, t)
        elif path != WIDE:
            ss = s[begin : begin + n]
            exact_chunk(n, op, xs, ys, zs, ss, path == ODD, t)
            if flagged != 0:
                round_flag_chunk(n, ss, outs, fs, us, t)
                operand_flags(n, op, xs, ys, zs, ss, fs, False, flagged > 1)
            else:
                round_chunk(n, ss, outs, us, t)
        else:
            for i in range(n):
                v = us[i] if t.random_bits > 0 else 0.0
                value, raised = wide_result(op, like(xs[i], 0.0), like(ys[i], 0.0), like(zs[i], 0.0), neutral, t, v)
                outs[i] = value
                if flagged != 0:
                    fs[i] = raised
            if flagged != 0:
                operand_flags(n, op, xs, ys, zs, outs, fs, True, flagged > 1)
        start = stop


@device
def value_of(code: i64, c: Codec) -> f64:
    """The value of a code of a float format; a signaling NaN stays one on a binary64 carrier."""
    magnitude = code & c.magnitude
    y = place(magnitude, c.shift, c.offset, c.one) * c.scale
    small = number(magnitude, c.one) * c.quantum
    y = small if magnitude < c.first_normal else y
    y = c.endless if magnitude == c.infinity else y
    y = copysign(y, place(code & c.sign, c.sign_shift, 0, c.one)) + c.zero
    signaling = c.quiet != 0 and (magnitude & c.quiet) == 0
    nan = like(from_bits(INFINITY_BITS | 1), c.one) if signaling else c.no_number
    return nan if (magnitude >= c.nan_from or (code == c.nan and c.nan == c.sign)) else y


@kernel
def decode(begin: i64, end: i64, codes: i64s, out: f64s, c: Codec) -> None:
    """out[i] = the value of codes[i]."""
    n = end - begin
    code = codes[begin:end]
    value = out[begin:end]
    if c.fixed != 0:
        for i in range(n):
            whole = word(code[i], c.one)
            value[i] = number(whole - ((whole & c.sign) << 1), c.one) * c.quantum
    else:
        for i in range(n):
            value[i] = value_of(word(code[i], c.one), c)


@kernel
def encode(begin: i64, end: i64, x: f64s, codes: i64s, misfits: i64s, c: Codec) -> None:
    """codes[i] = the code of x[i], of NaNs the canonical one; misfits[0] becomes 1 if there is none for some."""
    n = end - begin
    code = codes[begin:end]
    value = x[begin:end]
    wrong = word(0, c.one)
    if c.fixed != 0:
        for i in range(n):
            v = like(value[i], c.one)
            units = v * c.per_quantum
            units = units if units > c.low else c.low
            whole = integer(units if units < c.high else c.high)
            code[i] = whole & c.magnitude
            wrong = word(wrong | (bits_of(number(whole, c.one) * c.quantum) ^ bits_of(v)), c.one)
    else:
        turn = bits_of(c.turn)
        beyond = bits_of(c.beyond)
        signless = bits_of(-c.nothing) if c.sign == 0 else 0
        hole = word(c.sign if (c.sign != 0 and bits_of(c.zero) == 0) else -1, c.one)  # would be the code of -0
        nameless = word(1 if c.nan == -1 else 0, c.one)
        dropped = (1 << c.shift) - 1
        for i in range(n):
            v = like(value[i], c.one)
            y = abs(v) * c.unscale
            below = y < c.least_normal
            turned = y + c.turn
            found = displace(turned, 0, turn) if below else displace(y, c.shift, c.offset)
            lost = word(bits_of(turned - c.turn) ^ bits_of(y) if below else bits_of(y) & dropped, c.one)
            inside = abs(v) <= c.high
            found = found if inside else c.infinity
            lost = lost if inside else word(bits_of(abs(v)) ^ beyond, c.one)
            found = word(found | (displace(v, c.sign_shift, 0) & c.sign), c.one)
            lost = word(lost | (bits_of(v) & signless) | (1 if found == hole else 0), c.one)
            code[i] = found if v == v else c.nan
            wrong = word(wrong | (lost if v == v else nameless), c.one)
    if wrong != 0:
        misfits[0] = 1


@device_call
def check_values(n: i64, x: f64s, report: i64s, s: f64w, t: Target) -> None:
    """report[0] becomes 1 if a number is no value of ``t``, report[1] if one's bits would change there (a -0, say)."""
    doubtful = word(0 if t.normal_to != 0 or t.lean == FIXED else 1, t.nothing)
    zero = bits_of(t.nothing)
    beyond = bits_of(t.infinity)
    if t.normal_to != 0:  # normal numbers of no more bits, and zeros
        lost = word(t.lost, t.nothing)
        least = word(t.normal_from, t.nothing)
        most = word(t.normal_to, t.nothing)
        for i in range(n):
            v = like(x[i], t.nothing)
            magnitude = bits_of(abs(v))
            inside = magnitude == zero or (magnitude >= least and magnitude <= most)
            doubtful = doubtful | (bits_of(v) & lost) | (zero if inside else beyond)
    elif t.lean == FIXED:
        for i in range(n):
            v = like(x[i], t.nothing)
            whole = (v + t.turn) - t.turn
            inside = v >= t.low and v <= t.high
            doubtful = doubtful | (bits_of(whole) ^ bits_of(v)) | (zero if inside else beyond)
    if doubtful != 0:
        round_chunk(n, x, s, s, t)
        wrong = 0
        changed = 0
        for i in range(n):
            v = like(x[i], t.nothing)
            wrong = wrong | (0 if s[i] == v or (v != v and s[i] != s[i]) else 1)
            changed = changed | (0 if bits_of(s[i]) == bits_of(v) else 1)
        if wrong != 0:
            report[0] = 1
        if changed != 0:
            report[1] = 1


@kernel
def survey(begin: i64, end: i64, x: f64s, report: i64s, largest: i64s, rounds: i64, s: f64w, t: Target) -> None:
    """``check_values`` of an operand, unless ``rounds`` is 0: every number is a value of ``t``; and largest[i >> 8]
    becomes the pattern of the largest magnitude of a chunk that begins at i."""
    start = begin
    while start < end:
        n = min(WORK, end - start)
        xs = x[start : start + n]
        top = bits_of(t.nothing)
        for i in range(n):
            top = max(top, bits_of(abs(like(xs[i], t.nothing))))
        largest[start >> 8] = int(top)
        if rounds != 0:
            check_values(n, xs, report, s, t)
        start = start + n
