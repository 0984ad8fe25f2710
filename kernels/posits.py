"""Arrays rounded into posit formats, in NumPy: the definition's one rounding, of codes."""

from __future__ import annotations

import numpy as np

from ..emulator.formats import PositFormat
from ..emulator.rounding import Rounding
from .target import THRESHOLDS


def convert(values: np.ndarray, fmt: PositFormat, rounding: Rounding, random: np.ndarray) -> np.ndarray:
    """Each value rounded once into ``fmt``, equal to ``emulator.arithmetic.quantize``.

    Parameters
    ----------
    values : float64 array, any shape. random : int64 array of that shape, at the top of 62 bits as ``draw`` gives it.

    Returns
    -------
    float64 array of the same shape; NaR is NaN.
    """
    kept, rest = fmt.bodies(values)
    negative, odd = values < 0, (kept & np.uint64(1)).astype(bool)
    even_up, odd_up, even_down, odd_down = THRESHOLDS[rounding.mode]
    threshold = np.where(negative, np.where(odd, odd_down, even_down), np.where(odd, odd_up, even_up))
    up = (rest >> np.uint64(2)).astype(np.int64) + random > threshold  # no more than 57 bits are cut off
    return fmt.decode(fmt.codes_of(values, kept + up))  # in range: nothing is cut off of minpos and maxpos
