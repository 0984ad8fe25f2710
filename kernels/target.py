"""Target and its kin: what a kernel needs to know of formats, rounding and random bits, as plain numbers.

Every mode is one comparison of the part that is cut off with a threshold, one for each sign and parity of what is
kept: all modes are four numbers. They count quanta (units of the last kept bit): a magnitude goes up if its cut-off
part is not zero and at least ``threshold - u``, u being SR's random fraction. The 119-bit integers of ``wide`` count
the same part in units of 2^-62 quantum.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..emulator.arithmetic import round_pack
from ..emulator.blocks import exponents
from ..emulator.conventions import RISCV, Conventions
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat, Format, Kind, Unpacked
from ..emulator.random import LFSR, Source, piece_bits
from ..emulator.rounding import Mode, Rounding
from .structs import (
    DIRECTED,
    FIXED,
    GENERAL,
    INFINITY,
    LOSSY,
    MIRRORED,
    SIGN,
    Draws,
    Target,
    Target32,
    narrowed,
)

UNIT = 1 << 62  #: one quantum, as ``wide`` counts the cut-off part
HALF = 1 << 61


def draws(source: Source, seed: int, stream: int) -> Draws:
    """The Draws of a random source."""
    return _of_registers(source, seed, stream) if isinstance(source, LFSR) else Draws(seed, stream, 0)


@lru_cache(maxsize=1024)
def _of_registers(source: LFSR, seed: int, stream: int) -> Draws:
    units = 1 << 40 if source.units is None else source.units
    first = source.stride * (seed << 40 | stream) * units % ((1 << source.width) - 1)
    return Draws(seed, stream, source.width, source.polynomial, units, source.stride, source.clocks, source.seed, first)


_SIGNS_AND_PARITIES = ("positive_even", "positive_odd", "negative_even", "negative_odd")
_NEVER = 2.0
_OVER = math.nextafter(0.5, 1.0)  #: where a tie does not go up
_THRESHOLDS = {  # in quanta, by sign and parity; what reaches them goes up
    Mode.RNE: (_OVER, 0.5, _OVER, 0.5),
    Mode.RNA: (0.5,) * 4,
    Mode.RND: (_OVER, _OVER, 0.5, 0.5),
    Mode.RTZ: (_NEVER,) * 4,
    Mode.RTP: (0.0, 0.0, _NEVER, _NEVER),
    Mode.RTN: (_NEVER, _NEVER, 0.0, 0.0),
    Mode.RTO: (0.0, _NEVER, 0.0, _NEVER),
    Mode.SR: (1.0,) * 4,
}


def _wide_threshold(threshold: float) -> int:
    """The same threshold for an integer comparison ``rest + random > threshold``."""
    if threshold == _OVER:
        return HALF
    return max(min(int(threshold * UNIT), UNIT + 1) - 1, 0)


def has_kernels(fmt: Format) -> bool:
    """Whether a Target holds the format's rules: not those of posits, scale types without zero, P3109's p = 1."""
    if isinstance(fmt, FixedFormat):
        return fmt.bits <= 53
    return isinstance(fmt, FloatFormat) and fmt.has_zero and not fmt.parity(fmt.emin + 1)


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
    fields: dict[str, Any] = {
        "nearest_even": int(rounding.mode is Mode.RNE),
        "correction": power(52 - k) if rounding.corrected else 0.0,
        "correct_bits": k if rounding.corrected else 0,
        "random_bits": k,
        "random_place": 52 - k,
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
    for name, threshold in zip(_SIGNS_AND_PARITIES, _THRESHOLDS[rounding.mode], strict=True):
        fields[f"wide_{name}"] = _wide_threshold(threshold)
    return Target(**(fields | _grid(fmt, rounding.mode, fields, 52, 1023)))


def tensor_core(t: Target) -> Target:
    """The Target of a unit whose results are as ``Fused.tensor_core`` has them, from that of the ordinary one."""
    ways = {} if t.lean == DIRECTED else {"lean": GENERAL, "dropped": 0, "plain": 0}
    return t._replace(over_low=t.infinity_low, over_high=t.infinity_high, zero=0.0, **ways)


def _lean(fmt: Format, mode: Mode, fields: dict[str, Any], trailing: int, emax: int) -> dict[str, Any]:
    """The fields of a Target that tell shorter ways on a carrier."""
    even, lean, dropped, plain = bool(fields["nearest_even"]), GENERAL, 0, 0
    same = {str(abs(fields[name])) for name in ("over_low", "over_high", "infinity_low", "infinity_high")}
    mirrored = fields["low"] == -fields["high"] and math.copysign(1.0, fields["zero"]) < 0
    flushes = fields["flush_below"] or fields["flush_exact"]
    if isinstance(fmt, FixedFormat):
        random = mode is Mode.SR and not fmt.wrap
        whole = fields["quantum"] != fmt.quantum_exponent  # integers only: not the ends of the range
        lean = FIXED if (even or random) and not whole and not fields["scaled"] else GENERAL
    elif mirrored and len(same) == 1 and not flushes:
        lean = MIRRORED
        uniform = isinstance(fmt, FloatFormat) and fmt.emin == 1 - emax and fields["quantum"] < fmt.emin
        dropped = trailing + 1 - fmt.precision if even and uniform else 0
        plain = int(even and not uniform and not fields["scaled"])
    elif mirrored and mode in (Mode.RTZ, Mode.RTP, Mode.RTN) and not flushes and not fields["scaled"]:
        lean = DIRECTED
    return {
        "lean": lean,
        "dropped": dropped,
        "plain": plain,
        "turn": 1.5 * fields["grid_min"] if lean == FIXED else 0.0,
    }


def _normals(fields: dict[str, Any], thresholds: dict[str, float], carrier: Any) -> dict[str, Any]:
    """From where on magnitudes round to normal numbers: in modes that draw no random bits, and the fields for SR."""
    normals = {}
    for sign in ("positive", "negative"):
        threshold, edge = thresholds[f"{sign}_odd"], carrier(fields["tiny_edge"])
        least = edge + carrier(min(0.5 if threshold == _OVER else threshold, 1.0) * fields["tiny_quantum"])
        if threshold in (0.0, _OVER):  # beyond it, not at it
            least = np.nextafter(least, carrier(INFINITY))
        normals[f"normal_{sign}"] = float(min(least, carrier(fields["min_normal"])))
    scale = power(-np.finfo(carrier).minexp // 2) if fields["min_normal"] < 1.0 else 1.0
    scaled = {name: fields[name] * scale for name in ("tiny_edge", "tiny_quantum")}
    return normals | scaled | {"tiny_scale": scale}


def _fixed_rules(fmt: FixedFormat) -> dict[str, Any]:
    """The fields of a Target that a fixed format fills in its way: nothing underflows."""
    return {
        "quantum": fmt.quantum_exponent,
        "modulus": power(fmt.integer_bits) if fmt.wrap else 0.0,
        "per_modulus": power(-fmt.integer_bits) if fmt.wrap else 0.0,
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
    min_normal, below = power(fmt.emin), power(fmt.emin - fmt.precision)
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


def _grid(fmt: Format, mode: Mode, fields: dict[str, Any], trailing: int, emax: int) -> dict[str, Any]:
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
        "grid": 0.0 if fixed else power(room),
        "grid_min": power(trailing + quantum + small),
        "grid_quantum": power(-trailing),
        "clamp": (2.0 - 2.0**-trailing) * power(emax) if unclamped else power(top),
        "scaled": LOSSY if lossy else int(small != 0 or large != 0),
        "scale_split": 1.0,
        "scale_small": power(small),
        "scale_large": power(large),
        "scaled_dust": power(quantum + small - 36),
        "unscale_small": power(-small),
        "unscale_large": power(-large),
    }
    carrier = np.float64 if emax == 1023 else np.float32
    grid |= {"lost": 0, "normal_from": 0, "normal_to": 0}
    if isinstance(fmt, FloatFormat) and fmt.has_negative_zero and fmt.emin >= 1 - emax:
        word = np.int64 if emax == 1023 else np.int32
        grid["lost"] = (1 << (trailing + 1 - fmt.precision)) - 1
        grid["normal_from"] = int(carrier(power(fmt.emin)).view(word))
        grid["normal_to"] = int(carrier(fmt.max_finite).view(word))
    above = dict(zip(_SIGNS_AND_PARITIES, _THRESHOLDS[mode], strict=True))
    on_carrier = {n: float(np.nextafter(carrier(0.5), carrier(1))) if t == _OVER else t for n, t in above.items()}
    lean, normals = _lean(fmt, mode, fields | grid, trailing, emax), _normals(fields, above, carrier)
    return grid | on_carrier | lean | normals


def power(exponent: int) -> float:
    """2^exponent, 0 below binary64 (on the integer route the float fields are not looked at)."""
    return math.ldexp(1.0, min(exponent, 1023))


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
    fields |= _grid(fmt, rounding.mode, fields, 23, 127)
    fields["random_place"] = 23 - rounding.random_bits
    fields["correction"] = power(fields["random_place"]) if rounding.corrected else 0.0
    return narrowed(Target32, fields)


def fits_binary32(fmt: Format) -> bool:
    """Whether every value of ``fmt`` is one of binary32."""
    low, high = exponents(fmt)
    top = high - 1 if isinstance(fmt, FixedFormat) else high
    return fmt.precision <= 24 and low >= -149 and top <= 127
