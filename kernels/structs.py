"""What kernels are handed by pointer: formats, rounding and random bits as numbers (see ``target`` and ``codecs``)."""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

import numpy as np

from .subset import f64, i64

SIGN = -(1 << 63)
INFINITY = float("inf")
LOSSY = 2  #: as ``scaled``: small magnitudes may lose bits, or vanish
#: As ``lean``. MIRRORED: the ends mirror one another, infinities go where overflow goes, nothing wraps or is flushed.
#: FIXED: fixed point with RNE, or with SR if it saturates. DIRECTED: floats of both signs in RTZ, RTP or RTN.
GENERAL, MIRRORED, FIXED, DIRECTED = range(4)


class Target(NamedTuple):
    """A destination format and rounding, as 64-bit words. Field order is the layout in C++."""

    # the float route (scalar.py)
    grid: f64  #: 2^(53 - p): a binade times it is 2^52 quanta; 0 in fixed point, where only grid_min counts
    grid_min: f64  #: 2^52 of the smallest quanta, times scale_small
    grid_quantum: f64  #: 2^-52
    clamp: f64  #: magnitudes beyond it overflow as it does, without overflowing the carrier on the way
    scaled: i64  #: not 0 if magnitudes are scaled by powers of two on the way, to keep clear of the carrier's ends
    scale_split: f64  #: magnitudes below it by scale_small, others by scale_large
    scale_small: f64
    scale_large: f64
    scaled_dust: f64  #: what stands for a magnitude too small to matter but as sticky, should scaling lose it
    unscale_small: f64  #: the reciprocals of the scales
    unscale_large: f64
    nearest_even: i64  #: 1 for RNE: what adding and subtracting 2^52 quanta does
    positive_even: f64  #: thresholds in quanta, see above
    positive_odd: f64
    negative_even: f64
    negative_odd: f64
    correction: f64  #: 2^(52 - k) of the bias-corrected SR, else 0
    lean: i64  #: GENERAL, or a shorter way to the same
    dropped: i64  #: MIRRORED, RNE: bits to be cut from the carrier's pattern, if exponents mean the same there, else 0
    plain: i64  #: MIRRORED, RNE: 1 if the exponents differ, but no magnitude needs to be clamped or scaled, else 0
    turn: f64  #: FIXED: adding and subtracting it rounds to the nearest quanta
    modulus: f64  #: 2^IL of a wrapping fixed format, else 0
    per_modulus: f64  #: 2^-IL
    lost: i64  #: bits that are zero in the patterns of the format's normal numbers on the carrier
    normal_from: i64  #: patterns of the least of those and of the largest; 0 in fixed point
    normal_to: i64
    # both routes
    random_bits: i64  #: k of SR, else 0
    random_place: i64  #: 52 - k: where SR's k bits are in the pattern of 1 and their fraction
    random_mask: i64  #: 2^k - 1
    piece_bits: i64  #: of a Philox word that a draw uses up
    pieces_log2: i64  #: and how many of them a block has: 4, 8 or 16
    flush_below: f64  #: rounded magnitudes below it become zero (ftz), 0 if none do
    flush_exact: f64  #: magnitudes below it before rounding do (ftz, tininess before rounding), 0 if none do
    low: f64  #: smallest and largest finite value
    high: f64
    over_low: f64  #: what a result beyond them becomes
    over_high: f64
    infinity_low: f64  #: what an infinity becomes
    infinity_high: f64
    nan: f64  #: what a NaN becomes
    nothing: f64  #: +0
    zero: f64  #: -0, or +0 where the format has no -0: added to a result, it leaves no -0 behind
    zero_sign: i64  #: sign bit if an exact zero sum of unlike signs is -0 (RTN), else 0
    infinity: f64
    # flags
    min_normal: f64  #: 0 where nothing underflows (fixed point)
    tiny_edge: f64  #: the last value below min_normal of an unbounded exponent range; inf: tininess before rounding
    tiny_quantum: f64  #: and its quantum
    tiny_scale: f64  #: both are times it, to keep clear of the carrier's subnormal numbers
    normal_positive: f64  #: magnitudes from it on round to normal numbers of that range (SR: as the two above tell)
    normal_negative: f64
    nan_flags: i64  #: of a NaN that the format does not hold
    infinity_low_flags: i64  #: of infinities
    infinity_high_flags: i64
    # the integer route (wide.py)
    precision: i64  #: p: significant bits kept
    quantum: i64  #: exponent below which no bit is kept
    wide_positive_even: i64  #: what must be exceeded, in units of 2^-62 quantum
    wide_positive_odd: i64
    wide_negative_even: i64
    wide_negative_odd: i64
    emin: i64  #: of the smallest normal number; far below all where nothing underflows
    correct_bits: i64  #: k of the bias-corrected SR, else 0
    wrap_bits: i64  #: WL of a wrapping fixed format, else 0
    wrap_low: i64  #: its smallest integer


class FusedUnit(NamedTuple):
    """A fused or exact unit (``emulator.orders``) and its operands, as 64-bit words."""

    way: i64  #: of ``fused``
    kept_bits: i64 = 0  #: floating: bits kept below the largest exponent; else the last weight kept is 2^-kept_bits
    floating: i64 = 0  #: 1 if the accumulator is a float
    precision_x: i64 = 0
    emin_x: i64 = 0
    precision_y: i64 = 0
    emin_y: i64 = 0
    emin_total: i64 = 0  #: of the accumulator
    floor: i64 = -1000000  #: floating: the largest exponent counts as at least this
    base: i64 = 0  #: LIMBS: exponent of their unit, of which all products and accumulators are multiples
    limbs: i64 = 0  #: and how many there are
    sum_bits: i64 = 0  #: TWO_STAGE: bits kept of the products' sum below the largest exponent
    interleaved: i64 = 0  #: and 1 if even and odd products are summed apart
    with_least: i64 = 0  #: INTEGER: 1 if a step's last pair of numbers tells emin_x and emin_y (``blocks.with_least``)
    group: i64 = 0  #: GROUPED: products that are summed before; the pair after them tells their scales' exponents


class Layout(NamedTuple):
    """A product of matrices: A is (rows, depth), B (depth, width), both row-major; and where its results go."""

    depth: i64
    width: i64
    first: i64  #: the place of result (0, 0), which is the number of the element that it draws random bits for, too
    pitch: i64  #: from one row of results to the next
    stride: i64  #: from one result of a row to the next
    steps: i64  #: of the program
    registers: i64
    rows: i64 = 0  #: of a whole sparse matrix


class Window(NamedTuple):
    """A convolution: images (channels, height, width) and a kernel that slides over them."""

    channels: i64
    height: i64
    width: i64
    kernel_height: i64
    kernel_width: i64
    out_height: i64
    out_width: i64
    stride: i64
    padding: i64
    first: i64  #: image that is unfolded
    images: i64  #: and how many are


class Codec(NamedTuple):
    """How codes of a format and values on a carrier turn into one another, as words of the carrier's width."""

    fixed: i64  #: 1 for fixed point
    sign: i64  #: the sign bit; 0 in unsigned formats
    sign_shift: i64  #: from there to the carrier's
    magnitude: i64  #: mask of the bits below it (fixed point: of all bits)
    shift: i64  #: from the code's trailing significand to the carrier's
    offset: i64  #: what is added to it then
    scale: f64  #: what the number of that pattern is multiplied by
    unscale: f64  #: its reciprocal
    first_normal: i64  #: magnitudes below it count quanta
    least_normal: f64  #: and their value, times unscale
    quantum: f64  #: 0 where what is below the normal numbers is read as zero
    per_quantum: f64  #: of fixed point, its reciprocal
    turn: f64  #: what is added to a value times unscale, its last place is quantum * unscale
    low: f64  #: ends of the range, of fixed point in quanta
    high: f64
    beyond: f64  #: infinity where there is one, else 0
    infinity: i64  #: code of +infinity; -1 where there is none
    nan_from: i64  #: magnitudes of codes from it on are NaNs
    nan: i64  #: the canonical NaN; -1 where there is none
    quiet: i64  #: the bit that is 0 in a signaling NaN; 0 where NaNs do not signal
    zero: f64  #: as in Target
    nothing: f64  #: +0
    one: f64
    endless: f64  #: infinity
    no_number: f64  #: NaN


class Draws(NamedTuple):
    """Where a call's random bits come from (``emulator.random``): a Philox stream, or LFSRs."""

    seed: i64  #: in [0, 2^62); or GIVEN, where the random fractions are handed over
    stream: i64
    lfsr: i64  #: width of the LFSRs; 0: Philox
    polynomial: i64 = 0
    units: i64 = 1
    stride: i64 = 0
    clocks: i64 = 0
    state: i64 = 0  #: the source's seed
    first: i64 = 0  #: clocks from there to register 0 at step 0, less than 2^lfsr - 1


GIVEN = -1
GIVEN_DRAWS = Draws(GIVEN, 0, 0)

Struct = Target | FusedUnit | Layout | Window | Codec | Draws
STRUCTS = (Target, FusedUnit, Layout, Window, Codec, Draws)  #: handed to kernels by pointer


def narrow(struct: Any, integer: type) -> Any:
    """The struct on a binary32 carrier: the same fields, the floats of 32 bits."""
    kinds = {float: np.float32, int: integer}
    return NamedTuple(f"{struct.__name__}32", [(name, kinds[kind]) for name, kind in get_type_hints(struct).items()])  # type: ignore[misc]


Target32 = narrow(Target, int)
Codec32 = narrow(Codec, np.int32)


def narrowed(kind: Any, fields: dict[str, Any]) -> Any:
    """A struct on a binary32 carrier of these fields."""
    hints = kind.__annotations__
    return kind(*(hints[name](fields[name]) for name in kind._fields))
