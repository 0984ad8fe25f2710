"""Target and its kin: what a kernel needs to know of formats, rounding and random bits, as plain numbers.

Every mode is one comparison of the part that is cut off with a threshold, one for each sign and parity of what is
kept: all modes are four numbers. They count quanta (units of the last kept bit): a magnitude goes up if its cut-off
part is not zero and at least ``threshold - u``, u being SR's random fraction. The 119-bit integers of ``wide`` count
the same part in units of 2^-62 quantum.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from ..emulator.arithmetic import round_pack
from ..emulator.conventions import RISCV, Conventions
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat, Format, Kind, PositFormat, Specials, Unpacked
from ..emulator.random import LFSR, Source, piece_bits
from ..emulator.rounding import Mode, Rounding
from .subset import f64, i64

UNIT = 1 << 62  #: one quantum, as ``wide`` counts the cut-off part
HALF = 1 << 61
SIGN = -(1 << 63)
INFINITY = float("inf")
LOSSY = 2  #: as ``scaled``: small magnitudes may lose bits, or vanish
#: As ``lean``. MIRRORED: the ends mirror one another, infinities go where overflow goes, nothing wraps or is flushed.
#: FIXED: fixed point with RNE.
GENERAL, MIRRORED, FIXED = range(3)


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
    lean: i64  #: GENERAL, or a shorter way to the same: MIRRORED, FIXED
    dropped: i64  #: MIRRORED, RNE: bits to be cut from the carrier's pattern, if exponents mean the same there, else 0
    turn: f64  #: FIXED: adding and subtracting it rounds to quanta
    modulus: f64  #: 2^IL of a wrapping fixed format, else 0
    per_modulus: f64  #: 2^-IL
    # both routes
    random_bits: i64  #: k of SR, else 0
    random_unit: f64  #: 2^-k of SR, else 0
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
    """A fused unit (``emulator.datapath.Fused``) and its operands, as 64-bit words."""

    terms: i64  #: products a step
    kept_bits: i64  #: floating: bits kept below the largest exponent; else minus the exponent of the last weight kept
    floating: i64  #: 1 if the accumulator is a float
    precision_x: i64
    emin_x: i64
    precision_y: i64
    emin_y: i64
    emin_total: i64  #: of the accumulator


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
    per_quantum: f64  #: reciprocal of quantum * unscale
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


@lru_cache(maxsize=1024)
def draws(source: Source, seed: int, stream: int) -> Draws:
    """The Draws of a random source."""
    if not isinstance(source, LFSR):
        return Draws(seed, stream, 0)
    units = 1 << 40 if source.units is None else source.units
    first = source.stride * (seed << 40 | stream) * units % ((1 << source.width) - 1)
    return Draws(seed, stream, source.width, source.polynomial, units, source.stride, source.clocks, source.seed, first)


Struct = Target | FusedUnit | Codec | Draws
STRUCTS = (Target, FusedUnit, Codec, Draws)  #: handed to kernels by pointer

_SIGNS_AND_PARITIES = ("positive_even", "positive_odd", "negative_even", "negative_odd")
_NEVER = 2.0
_THRESHOLDS = {  # in quanta, by sign and parity
    Mode.RNE: (0.5,) * 4,  # and a tie goes up only if odd
    Mode.RNA: (0.5,) * 4,
    Mode.RTZ: (_NEVER,) * 4,
    Mode.RTP: (0.0, 0.0, _NEVER, _NEVER),
    Mode.RTN: (_NEVER, _NEVER, 0.0, 0.0),
    Mode.RTO: (0.0, _NEVER, 0.0, _NEVER),
    Mode.SR: (1.0,) * 4,
}


def _wide_threshold(mode: Mode, threshold: float, odd: bool) -> int:
    """The same threshold for an integer comparison ``rest + random > threshold``."""
    if mode is Mode.RNE:
        return HALF - odd
    return max(min(int(threshold * UNIT), UNIT + 1) - 1, 0)


def has_kernels(fmt: Format) -> bool:
    """Whether a Target holds the format's rules: not those of posits, scale types without zero, P3109's p = 1."""
    if isinstance(fmt, FixedFormat):
        return fmt.bits <= 53
    return isinstance(fmt, FloatFormat) and fmt.has_zero and not fmt.parity(fmt.emin + 1)


def has_codec(fmt: Format) -> bool:
    """Whether a Codec reads the format's codes: binary64's exponent field needs room for those of all its numbers."""
    return has_kernels(fmt) and not (
        isinstance(fmt, FloatFormat) and fmt.exponent_bits == 11 and fmt.specials is not Specials.IEEE
    )


def _bounds(fmt: Format, rounding: Rounding, operand: bool) -> dict[str, Any]:
    """Range of a format, and what the definition makes of what lies beyond it."""

    def defined(datum: Unpacked) -> tuple[float, int]:
        code, flags = round_pack(datum, fmt, rounding, 0)
        return float(fmt.unpack(code)), int(flags)

    bounds: dict[str, Any] = {"low": fmt.min_finite, "high": fmt.max_finite}
    bounds["nan"], bounds["nan_flags"] = defined(Unpacked(Kind.NAN))
    for end, negative in (("low", True), ("high", False)):
        bounds[f"over_{end}"], _ = defined(Unpacked(Kind.FINITE, negative, 1, 5000))
        bounds[f"infinity_{end}"], bounds[f"infinity_{end}_flags"] = defined(Unpacked(Kind.INFINITY, negative))
        if operand and fmt.has_infinity and (fmt.min_finite < 0 or not negative):
            bounds[f"infinity_{end}"] = -INFINITY if negative else INFINITY
    return bounds


@lru_cache(maxsize=4096)
def target(
    fmt: Format, rounding: Rounding, operand: bool = False, integral: bool = False, conventions: Conventions = RISCV
) -> Target:
    """The Target of a format and rounding.

    ``operand``: of values on their way in, where a saturating format keeps an infinity that is among its codes.
    ``integral``: of the format's integers only.

    Raises
    ------
    HalfulpError
        Values of the format do not fit binary64, which carries them (fixed point wider than 53 bits), or its rules
        are not those of a Target (``has_kernels``).
    """
    if not (isinstance(fmt, FixedFormat) or has_kernels(fmt)):
        raise HalfulpError(f"kernels do not round into {fmt} yet; the definition (halfulp.emulator) does.")
    if fmt.precision > 53:
        raise HalfulpError(f"kernels carry values in binary64, which holds at most 53 bits; {fmt} has {fmt.precision}.")
    if isinstance(fmt, FixedFormat):
        rules = _fixed_rules(fmt)
    else:
        assert isinstance(fmt, FloatFormat)
        rules = _float_rules(fmt, conventions, integral)
    rules["quantum"] = max(rules["quantum"], 0) if integral else rules["quantum"]
    k = rounding.random_bits
    thresholds = _THRESHOLDS[rounding.mode]
    fields: dict[str, Any] = {
        "nearest_even": int(rounding.mode is Mode.RNE),
        "correction": _power(52 - k) if rounding.corrected else 0.0,
        "correct_bits": k if rounding.corrected else 0,
        "random_bits": k,
        "random_unit": 2.0**-k if k else 0.0,
        "random_mask": (1 << k) - 1,
        "piece_bits": piece_bits(k),
        "pieces_log2": (128 // piece_bits(k)).bit_length() - 1,
        **_bounds(fmt, rounding, operand),
        "nothing": 0.0,
        "zero": -0.0 if fmt.has_negative_zero else 0.0,
        "zero_sign": SIGN if rounding.mode is Mode.RTN else 0,
        "infinity": INFINITY,
        "precision": fmt.precision,
        **rules,
    }
    for name, threshold, odd in zip(_SIGNS_AND_PARITIES, thresholds, (False, True) * 2, strict=True):
        fields[name] = threshold
        fields[f"wide_{name}"] = _wide_threshold(rounding.mode, threshold, odd)
    return Target(**(fields | _grid(fmt, fields, 52, 1023)))


def _lean(fmt: Format, fields: dict[str, Any], trailing: int, emax: int) -> dict[str, Any]:
    """The fields of a Target that tell shorter ways on a carrier."""
    even, lean, dropped = bool(fields["nearest_even"]), GENERAL, 0
    same = {str(abs(fields[name])) for name in ("over_low", "over_high", "infinity_low", "infinity_high")}
    mirrored = fields["low"] == -fields["high"] and math.copysign(1.0, fields["zero"]) < 0
    flushes = fields["flush_below"] or fields["flush_exact"]
    if isinstance(fmt, FixedFormat):
        whole = fields["quantum"] != fmt.quantum_exponent  # integers only: not the ends of the range
        lean = FIXED if even and not whole and not fields["scaled"] else GENERAL
    elif mirrored and len(same) == 1 and not flushes:
        lean = MIRRORED
        uniform = isinstance(fmt, FloatFormat) and fmt.emin == 1 - emax and fields["quantum"] < fmt.emin
        dropped = trailing + 1 - fmt.precision if even and uniform else 0
    return {"lean": lean, "dropped": dropped, "turn": 1.5 * fields["grid_min"] if lean == FIXED else 0.0}


def _normals(fields: dict[str, Any], carrier: Any) -> dict[str, Any]:
    """From where on magnitudes round to normal numbers: in modes that draw no random bits, and the fields for SR."""
    normals = {}
    for sign in ("positive", "negative"):
        threshold, edge = fields[f"{sign}_odd"], carrier(fields["tiny_edge"])
        if threshold == 0.0:
            least = np.nextafter(edge, carrier(INFINITY))
        else:
            least = edge + carrier(min(threshold, 1.0) * fields["tiny_quantum"])
        normals[f"normal_{sign}"] = float(min(least, carrier(fields["min_normal"])))
    scale = _power(-np.finfo(carrier).minexp // 2) if fields["min_normal"] < 1.0 else 1.0
    scaled = {name: fields[name] * scale for name in ("tiny_edge", "tiny_quantum")}
    return normals | scaled | {"tiny_scale": scale}


def _fixed_rules(fmt: FixedFormat) -> dict[str, Any]:
    """The fields of a Target that a fixed format fills in its way: nothing underflows."""
    return {
        "quantum": fmt.quantum_exponent,
        "modulus": _power(fmt.integer_bits) if fmt.wrap else 0.0,
        "per_modulus": _power(-fmt.integer_bits) if fmt.wrap else 0.0,
        "wrap_bits": fmt.bits if fmt.wrap else 0,
        "wrap_low": fmt.min_integer,
        "flush_below": 0.0,
        "flush_exact": 0.0,
        "min_normal": 0.0,
        "tiny_edge": 0.0,
        "tiny_quantum": 0.0,
        "tiny_scale": 1.0,
        "normal_positive": 0.0,
        "normal_negative": 0.0,
        "emin": -(1 << 20),
    }


def _float_rules(fmt: FloatFormat, conventions: Conventions, integral: bool) -> dict[str, Any]:
    """The fields of a Target that a float format fills in its way."""
    flush = not integral and (conventions.ftz or not fmt.subnormals)
    before = conventions.tininess == "before" and fmt.subnormals
    min_normal, below = _power(fmt.emin), _power(fmt.emin - fmt.precision)
    return {
        # ftz: fine enough to round just below min_normal as if the exponent range went on
        "quantum": fmt.emin - fmt.precision + (0 if flush else 1),
        "modulus": 0.0,
        "per_modulus": 0.0,
        "wrap_bits": 0,
        "wrap_low": 0,
        "flush_below": min_normal if flush and not before else 0.0,
        "flush_exact": min_normal if flush and before else 0.0,
        "min_normal": 0.0 if integral else min_normal,
        "tiny_edge": INFINITY if before else min_normal - below,
        "tiny_quantum": below,
        "emin": -(1 << 20) if integral else fmt.emin,
    }


def _grid(fmt: Format, fields: dict[str, Any], trailing: int, emax: int) -> dict[str, Any]:
    """The float route's fields on a carrier with ``trailing`` bits and exponents up to ``emax`` (binary64 or 32).

    A magnitude is scaled where 2^trailing quanta would leave the carrier's range, or a quantum its normal numbers.
    """
    fixed, quantum = isinstance(fmt, FixedFormat), fields["quantum"]
    reach = fmt.integer_bits if isinstance(fmt, FixedFormat) else fmt.emax + 1
    top = max(reach, quantum) + 1  # magnitudes are clamped to 2^top
    room = 0 if fixed else trailing + 1 - fmt.precision
    highest, lowest = max(top + room, quantum + trailing), quantum - 34
    small = large = 0
    if highest > emax or lowest < 1 - emax:
        small = large = max(min(-((highest + lowest) // 2), emax), -emax)  # the whole range fits after one shift
        if highest - lowest > 2 * emax - 2:
            small, large = trailing + 10, -trailing - 10
    lossy = small == large < 0
    unclamped = top > emax or (isinstance(fmt, FixedFormat) and fmt.wrap)
    grid = {
        "grid": 0.0 if fixed else _power(room),
        "grid_min": _power(trailing + quantum + small),
        "grid_quantum": _power(-trailing),
        "clamp": (2.0 - 2.0**-trailing) * _power(emax) if unclamped else _power(top),
        "scaled": LOSSY if lossy else int(small != 0 or large != 0),
        "scale_split": 1.0,
        "scale_small": _power(small),
        "scale_large": _power(large),
        "scaled_dust": _power(quantum + small - 36),
        "unscale_small": _power(-small),
        "unscale_large": _power(-large),
    }
    carrier = np.float64 if emax == 1023 else np.float32
    return grid | _lean(fmt, fields | grid, trailing, emax) | _normals(fields, carrier)


def _power(exponent: int) -> float:
    """2^exponent, 0 below binary64 (on the integer route the float fields are not looked at)."""
    return math.ldexp(1.0, min(exponent, 1023))


@lru_cache(maxsize=1024)
def codec(fmt: Format, daz: bool = False) -> Codec:
    """The Codec of a format on a binary64 carrier; ``daz``: subnormal codes are read as zeros."""
    return Codec(**_codec(fmt, daz, 52, 11))


def _codec(fmt: Format, daz: bool, trailing: int, exponent_bits: int) -> dict[str, Any]:
    """The fields of a Codec on a carrier with that many trailing and exponent bits."""
    width, top, bias = trailing + exponent_bits + 1, (1 << exponent_bits) - 2, (1 << exponent_bits - 1) - 1

    def signed(word: int) -> int:
        return word - (1 << width) if word >> width - 1 else word

    fields: dict[str, Any] = dict.fromkeys(Codec._fields, 0)
    fields |= dict.fromkeys((name for name, kind in get_type_hints(Codec).items() if kind is float), 0.0)
    fields |= {"infinity": -1, "nan": -1, "nan_from": (1 << width - 1) - 1}
    fields |= {"one": 1.0, "endless": INFINITY, "no_number": math.nan}
    if isinstance(fmt, FixedFormat):
        mask = (1 << fmt.bits) - 1
        return fields | {
            "fixed": 1,
            "sign": (mask + 1) >> 1 if fmt.signed else 0,
            "magnitude": mask,
            "quantum": _power(-fmt.fraction_bits),
            "per_quantum": _power(fmt.fraction_bits),
            "low": float(fmt.min_integer),
            "high": float(fmt.max_integer),
        }
    assert isinstance(fmt, FloatFormat)
    subnormals = fmt.subnormals and not daz
    uniform = fmt.emin == 1 - bias and subnormals  # these are the carrier's own
    quantum = fmt.emin - fmt.trailing_bits
    offset = 0 if uniform else max(min(bias - fmt.bias, top - (fmt.max_code >> fmt.trailing_bits)), 0)
    scale = bias - fmt.bias - offset
    if subnormals and not uniform:  # keep 1 / quantum in range
        more = max(scale - quantum - bias, 0)
        offset, scale = offset + more, scale - more
    infinity = fmt.max_code + 1 if fmt.has_infinity else -1
    first_nan = fmt.nan_code if fmt.has_nan and fmt.nan_code < fmt.sign_bit else fmt.sign_bit
    ieee = fmt.specials is Specials.IEEE
    return fields | {
        "sign": signed(fmt.sign_bit) if fmt.signed else 0,
        "sign_shift": width - fmt.sign_bit.bit_length(),
        "magnitude": fmt.sign_bit - 1,
        "shift": trailing - fmt.trailing_bits,
        "offset": offset << trailing,
        "scale": _power(scale),
        "unscale": _power(-scale),
        "first_normal": 0 if uniform else 1 << fmt.trailing_bits,
        "least_normal": 0.0 if uniform else _power(fmt.emin - scale),
        "quantum": _power(quantum) if subnormals and not uniform else 0.0,
        "per_quantum": _power(scale - quantum) if subnormals and not uniform else 0.0,
        "high": fmt.max_finite,
        "beyond": INFINITY if fmt.has_infinity else 0.0,
        "infinity": infinity,
        "nan_from": min(infinity + 1 if ieee else first_nan, (1 << width - 1) - 1),
        "nan": signed(fmt.nan_code) if fmt.has_nan else -1,
        "quiet": 1 << (fmt.trailing_bits - 1) if ieee and fmt.trailing_bits else 0,
        "zero": -0.0 if fmt.has_negative_zero else 0.0,
    }


def exponents(fmt: Format) -> tuple[int, int]:
    """Exponents of the lowest and the highest bit that a non-zero value of ``fmt`` can have."""
    if isinstance(fmt, FixedFormat):
        return -fmt.fraction_bits, fmt.integer_bits
    if isinstance(fmt, PositFormat):
        return fmt.quantum_exponent, fmt.emax
    return fmt.emin - fmt.trailing_bits, fmt.emax


def fits_float(fmt: Format, rounding: Rounding, flags: bool, trailing: int = 52, emax: int = 1023) -> bool:
    """Whether the float route of ``scalar`` rounds any value of the carrier into ``fmt``: it adds 2^trailing quanta.

    Its flags also look half a quantum below the smallest normal number; of SR k bits further. A value divided by the
    range of a wrapping format, and the multiple of the range next to a value, must stay finite.
    """
    if isinstance(fmt, FixedFormat):
        return fmt.precision <= 50 and (not fmt.wrap or 0 <= fmt.integer_bits <= 100)
    tiny, k = fmt.emin - fmt.precision, rounding.random_bits
    normal = tiny + trailing - k >= 1 - emax and tiny + trailing <= emax  # the corrected SR's places
    if flags and (tiny - max(k, 1) < 1 - emax - trailing or (rounding.corrected and not normal)):
        return False
    return fmt.precision <= 52


def _narrow(struct: Any, integer: type) -> Any:
    """The struct on a binary32 carrier: the same fields, the floats of 32 bits."""
    kinds = {float: np.float32, int: integer}
    return NamedTuple(f"{struct.__name__}32", [(name, kinds[kind]) for name, kind in get_type_hints(struct).items()])  # type: ignore[misc]


Target32 = _narrow(Target, int)
Codec32 = _narrow(Codec, np.int32)


def _narrowed(kind: Any, fields: dict[str, Any]) -> Any:
    hints = kind.__annotations__
    return kind(*(hints[name](fields[name]) for name in kind._fields))


@lru_cache(maxsize=1024)
def codec32(fmt: Format) -> Any:
    """The Codec on a binary32 carrier, or None where it does not do."""
    low, high = exponents(fmt)
    if isinstance(fmt, FixedFormat):
        far = low < -100 or high > 100
    else:
        far = isinstance(fmt, FloatFormat) and fmt.max_code >> fmt.trailing_bits > 254
    if far or not fits_binary32(fmt):
        return None
    return _narrowed(Codec32, _codec(fmt, False, 23, 8))


@lru_cache(maxsize=4096)
def target32(fmt: Format, rounding: Rounding, flags: bool) -> Any:
    """The Target on a binary32 carrier, or None where binary32 cannot hold the format's values or its thresholds."""
    limit = 21 if isinstance(fmt, FixedFormat) else 23
    fits = fits_binary32(fmt) and fits_float(fmt, rounding, flags, 23, 127)
    if fmt.precision > limit or rounding.random_bits > 22 or not fits:
        return None
    wide = target(fmt, rounding)
    fields = wide._asdict()
    fields |= {name: fields[name] / wide.tiny_scale for name in ("tiny_edge", "tiny_quantum")}
    fields |= _grid(fmt, fields, 23, 127)
    fields["correction"] = 2.0 ** (23 - rounding.random_bits) if rounding.corrected else 0.0
    return _narrowed(Target32, fields)


def fits_binary32(fmt: Format) -> bool:
    """Whether every value of ``fmt`` is one of binary32."""
    low, high = exponents(fmt)
    top = high - 1 if isinstance(fmt, FixedFormat) else high
    return fmt.precision <= 24 and low >= -149 and top <= 127
