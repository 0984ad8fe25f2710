"""Arrays rounded into posit formats, in NumPy: the definition's one rounding, of codes."""

from __future__ import annotations

import numpy as np

from ..emulator.arithmetic import Flags
from ..emulator.formats import PositFormat
from ..emulator.rounding import Rounding
from .paths import FP64
from .target import target

_UNDERFLOW = int(Flags.UNDERFLOW | Flags.INEXACT)
_OVERFLOW = int(Flags.OVERFLOW | Flags.INEXACT)


def convert(x: np.ndarray, fmt: PositFormat, rounding: Rounding, random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each value rounded once into ``fmt``, and the flags, equal to ``emulator.arithmetic.quantize``.

    Parameters
    ----------
    x : float64 array, any shape. random : int64 array of that shape, the k random bits of SR.

    Returns
    -------
    float64 array of values (NaR is NaN) and int64 array of flags, of the same shape.
    """
    kept, rest = fmt.bodies(x)
    t = target(FP64, rounding)  # its integer thresholds are those of any format
    negative, odd = x < 0, (kept & np.uint64(1)).astype(bool)
    at_even = np.where(negative, t.wide_negative_even, t.wide_positive_even)
    at_odd = np.where(negative, t.wide_negative_odd, t.wide_positive_odd)
    cut = (rest >> np.uint64(2)).astype(np.int64)  # in units of 2^-62, exact: no more than 57 bits are cut off
    if t.correct_bits:
        places = 62 - t.correct_bits
        cut = (cut + (1 << (places - 1)) - 1 + (cut >> places & 1)) >> places << places
    up = cut + (random << (62 - rounding.random_bits)) > np.where(odd, at_odd, at_even)
    values = fmt.decode(fmt.codes_of(x, kept + up))  # in range: nothing is cut off of minpos and maxpos
    magnitude = np.abs(x)
    cases = [np.isnan(x) | (values == x), np.isinf(x), magnitude < fmt.min_subnormal, magnitude > fmt.max_finite]
    return values, np.select(cases, [0, int(Flags.INVALID), _UNDERFLOW, _OVERFLOW], int(Flags.INEXACT))
