"""Norms and inner products in fp64 as they are observed from outside: nothing of them is emulated or counted.

Products are rounded to fp64 and added up as if exactly, then rounded once: by ``math.fsum``, or, of long vectors, by
TwoSum (Knuth; Ogita, Rump & Oishi 2005, doi:10.1137/030601818) in a fixed order, whose sums of positive numbers are
off by less than n 2^-100 of themselves before that rounding. The same bits on every processor and with any BLAS.
"""

from __future__ import annotations

import math

import numpy as np

_SHORT = 4096  #: ``math.fsum`` is the faster up to here
_BLOCK = 1 << 15  #: numbers added up at a time, a power of two: few enough for a processor's cache


def _folded(x: np.ndarray) -> tuple[float, float]:
    """(sum, what it lost) of a block: its halves are added, element by element, until one number is left."""
    x = x if x.size == _BLOCK else np.append(x, np.zeros(_BLOCK - x.size))
    lost = np.zeros(_BLOCK)
    while x.size > 1:
        half = x.size // 2
        a, b = x[:half], x[half:]
        x = a + b
        back = x - a
        lost = lost[:half] + lost[half:] + ((a - (x - back)) + (b - back))
    return float(x[0]), float(lost[0])


def inner(u: np.ndarray, v: np.ndarray) -> float:
    """u . v for vectors (n,)."""
    if u.size <= _SHORT:
        with np.errstate(over="ignore", invalid="ignore"):
            parts = (u * v).tolist()
    else:
        cuts = (slice(start, start + _BLOCK) for start in range(0, u.size, _BLOCK))
        parts = [part for cut in cuts for part in _folded(u[cut] * v[cut])]
    try:
        return math.fsum(parts)
    except (OverflowError, ValueError):  # beyond fp64, or infinities of both signs
        return float(np.sum(parts))


def norm(v: np.ndarray) -> float:
    """||v||_2, safe from overflow and underflow; an infinity or NaN where ``v`` has one."""
    largest = float(np.max(np.abs(v), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    if abs(exponent) < 400:  # no square overflows, and none that counts loses a bit
        return math.sqrt(inner(v, v))
    scaled = np.ldexp(v, -exponent)
    return math.ldexp(math.sqrt(inner(scaled, scaled)), exponent)
