"""Rounding of whole arrays, for the two fast oracles: every mode decided from where an exact result lies.

A format is a ladder of magnitudes, climbed in *steps*: step 0 is zero, and for most formats step i is the magnitude of
code i. Step by step the ladder goes on above the largest number, as if the exponent had no end. A result has a
*place*: the highest step not above its magnitude, and how far it lies on the way to the next one. Nothing here looks at
bits of a result, as the implementation does, or at rationals, as ``oracle`` does, which only says how formats are read.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import oracle

FINITE, INFINITE, NAN = 0, 1, 2
INEXACT, UNDERFLOW, OVERFLOW, DIVIDE_BY_ZERO, INVALID = 1, 2, 4, 8, 16

#: The sign of an exact zero sum of unlike signs: negative in RTN only.
BY_MODE = 2


@dataclass(frozen=True)
class Places:
    """Exact results on the ladder of a format; arrays of one shape."""

    kind: np.ndarray  #: FINITE, INFINITE or NAN
    sign: np.ndarray  #: 0, 1 or BY_MODE
    step: np.ndarray  #: the highest one not above the magnitude
    part: np.ndarray  #: 2 floor(f 2^guard) + (whether f is more), f in [0, 1) the share of the way to the next step
    guard: int  #: bits of f; at least k + 2, so that half of f's upper half still has k + 1
    raised: np.ndarray  #: flags of the operation itself: invalid, divide-by-zero

    def __getitem__(self, at):
        return Places(self.kind[at], self.sign[at], self.step[at], self.part[at], self.guard, self.raised[at])

    def distinct(self):
        """The different places among them, and the index that leads from these back to all."""
        key = self.kind.astype(np.int64)
        for column, size in ((self.sign, 3), (self.step, 2**20), (self.part, 2 << self.guard), (self.raised, 32)):
            key = key * size + column
        _, first, back = np.unique(key, return_index=True, return_inverse=True)
        return self[first], back


def flushes(format):
    return not isinstance(format, oracle.Fixed) and not format.subnormals


def magnitude(format, step):
    """The magnitude at a step, a Fraction.

    Formats without subnormals have a step 1 that is zero too: the last value below the smallest normal number that
    rounding with p bits could reach. What is rounded to it, or below, is tiny.
    """
    if isinstance(format, oracle.Fixed):
        return step * oracle.power_of_two(-format.fl)
    if not format.has_zero:
        return oracle._magnitude(step - 1, format) if step else Fraction(0)
    if not flushes(format):
        return oracle._magnitude(step, format)
    smallest = oracle.power_of_two(format.emin)
    low = [Fraction(0), smallest - smallest / 2 ** (format.t + 1)]
    return low[step] if step < 2 else oracle._magnitude(step + 2**format.t - 2, format)


def _increments(part, guard, odd, negative, mode, k, r):
    """Whether rounding goes to the next step. ``part`` as in Places."""
    half = 1 << guard
    if mode in ("SR", "SRC"):
        below = guard + 1 - k
        kept, rest, tie = part >> below, part & ((1 << below) - 1), 1 << (below - 1)
        if mode == "SRC":
            kept = kept + ((rest > tie) | ((rest == tie) & (kept & 1 == 1)))
        return kept + r >= 1 << k
    inexact = part > 0
    return {
        "RNE": (part > half) | ((part == half) & odd),
        "RNA": part >= half,
        "RND": (part > half) | ((part == half) & negative),
        "RTZ": np.zeros_like(inexact),
        "RTP": inexact & ~negative,
        "RTN": inexact & negative,
        "RTO": inexact & ~odd,
    }[mode]


def rounded(places, format, mode, k=0, r=0, tininess="after", ftz=False):
    """(codes, flags) of results at these places; ``r`` is a number or an array of their shape."""
    assert places.guard >= k + 2
    negative = (places.sign == 1) | ((places.sign == BY_MODE) & (mode == "RTN"))
    if isinstance(format, oracle.Fixed):
        codes, raised = _fixed(places, format, negative, mode, k, r)
    else:
        codes, raised = _float(places, format, negative, mode, k, r, tininess, ftz)
    return codes, (raised | places.raised).astype(np.uint8)


def _fixed(places, format, negative, mode, k, r):
    up = _increments(places.part, places.guard, places.step & 1 == 1, negative, mode, k, r)
    integer = np.where(negative, -(places.step + up), places.step + up)
    over = (places.kind == INFINITE) | (integer < format.lowest) | (integer > format.highest)
    end = np.where(negative, format.lowest, format.highest)
    stays = format.wrap & (places.kind == FINITE)
    codes = np.where(over & ~stays, end, integer) % 2**format.width
    raised = np.where(over, OVERFLOW | INEXACT, (places.part > 0) * INEXACT)
    nan = places.kind == NAN
    return np.where(nan, format.highest, codes), np.where(nan, INVALID, raised)


def _float(places, format, negative, mode, k, r, tininess, ftz):
    step, part, guard, kind = places.step, places.part, places.guard, places.kind
    if format.specials == "p3109" and format.extended:  # x / 0: zero has no sign, so that neither infinity is right
        kind = np.where(places.raised & DIVIDE_BY_ZERO, NAN, kind)
    # with p = 1 all significands are odd; P3109, and fnuz with it, go by the codes instead, as other precisions do
    by_code = format.p > 1 or format.specials in ("p3109", "fnuz")
    odd = step - (flushes(format) and format.t == 0) & 1 == 1 if by_code else step > 0
    target = step + _increments(part, guard, odd, negative, mode, k, r)
    nonzero = (step > 0) | (part > 0)

    normal = 2 if flushes(format) else 2**format.t  # the step of the smallest normal number
    tiny = nonzero & (step < normal)
    if flushes(format):
        tiny = nonzero & (target < normal)
    elif tininess == "after":  # with p bits there is one more value halfway up the last step, and that is odd
        upper = part - (1 << guard)
        p1_odd = format.p > 1 or not by_code or (format.emin - 1 + format.bias) % 2 == 1
        carried = _increments(2 * upper - (upper & 1), guard, np.full(step.shape, p1_odd), negative, mode, k, r)
        tiny &= (step < normal - 1) | (upper < 0) | ~carried

    offset = 2**format.t - 2 if flushes(format) else 0 if format.has_zero else -1  # of codes from steps
    code = np.maximum(target + offset, 0)
    code = np.where(target < 2, 0, code) if flushes(format) else code
    lost = tiny & ((target == 0) | ftz | flushes(format) | (not format.has_zero)) | ~(nonzero | format.has_zero)
    lost &= kind == FINITE
    code = np.where(lost, 0, code)

    infinite, below = kind == INFINITE, negative & (not format.signed) & nonzero
    over = ~lost & (infinite | below | (code > format.max_finite_code))
    side = negative & (not format.signed)
    end = np.where(side, 0, format.max_finite_code)
    inward = {"RTZ": True, "RTO": True, "RTP": negative, "RTN": ~negative}.get(mode, False)
    if mode == "RTO" and format.specials == "p3109" and format.extended:
        inward = end & 1 == 1
    inward = ~infinite & inward
    to_infinity = format.has_infinity & (not format.saturate) & ~side
    to_nan = ~to_infinity & (not format.saturate) & (format.nan_code is not None)
    nan_code = format.max_finite_code if format.nan_code is None else format.nan_code
    beyond = np.where(to_infinity, getattr(format, "inf_code", 0), np.where(to_nan, nan_code, end))

    raised = np.where(part > 0, INEXACT | tiny * UNDERFLOW, 0)
    raised = np.where(lost, UNDERFLOW | INEXACT, raised)
    raised = np.where(over, np.where(infinite & to_infinity, 0, OVERFLOW | INEXACT), raised)
    code = np.where(over, np.where(inward, end, beyond), code)
    signed = negative & ((code != 0) | format.has_negative_zero) & ~(over & ~inward & to_nan) & format.signed
    code = code.astype(np.uint64) + signed * np.uint64(format.sign_bit % 2**format.width)
    nan = kind == NAN
    if format.nan_code is None:
        return np.where(nan, np.uint64(format.max_finite_code), code), np.where(nan, INVALID, raised)
    return np.where(nan, np.uint64(format.nan_code), code), np.where(nan, 0, raised)
