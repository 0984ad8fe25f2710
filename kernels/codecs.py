"""Codecs: how kernels turn codes into values and back."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, get_type_hints

from ..emulator.blocks import exponents
from ..emulator.formats import FixedFormat, FloatFormat, Format, Specials
from .structs import INFINITY, Codec, Codec32, narrowed
from .target import fits_binary32, has_kernels, power


def has_codec(fmt: Format) -> bool:
    """Whether a Codec reads the format's codes: binary64's exponent field needs room for those of all its numbers."""
    return has_kernels(fmt) and not (
        isinstance(fmt, FloatFormat) and fmt.exponent_bits == 11 and fmt.specials is not Specials.IEEE
    )


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
            "quantum": power(-fmt.fraction_bits),
            "per_quantum": power(fmt.fraction_bits),
            "low": float(fmt.min_integer),
            "high": float(fmt.max_integer),
        }
    assert isinstance(fmt, FloatFormat)
    subnormals = fmt.subnormals and not daz
    uniform = fmt.emin == 1 - bias and subnormals  # these are the carrier's own
    quantum = fmt.emin - fmt.trailing_bits
    room = min(top - (fmt.max_code >> fmt.trailing_bits), top - 3 - trailing)  # for the largest number, and for turn
    offset = 0 if uniform else max(min(bias - fmt.bias, room), 0)
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
        "scale": power(scale),
        "unscale": power(-scale),
        "first_normal": 0 if uniform else 1 << fmt.trailing_bits,
        "least_normal": 0.0 if uniform else power(fmt.emin - scale),
        "quantum": power(quantum) if subnormals and not uniform else 0.0,
        "turn": power((quantum if subnormals else fmt.emin + 2) - scale + trailing),
        "high": fmt.max_finite,
        "beyond": INFINITY if fmt.has_infinity else 0.0,
        "infinity": infinity,
        "nan_from": min(infinity + 1 if ieee else first_nan, (1 << width - 1) - 1),
        "nan": signed(fmt.nan_code) if fmt.has_nan else -1,
        "quiet": 1 << (fmt.trailing_bits - 1) if ieee and fmt.trailing_bits else 0,
        "zero": -0.0 if fmt.has_negative_zero else 0.0,
    }


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
    return narrowed(Codec32, _codec(fmt, False, 23, 8))
