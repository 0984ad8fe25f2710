"""The oracle for wide formats: arrays of operands, element by element in Python's integers, and every mode at once.

An operand is an integer times a power of two; the exact result is one integer over another, times a power of two. One
division with remainder (or one integer root) finds its place on the ladder; ``places`` then rounds in every mode.
"""

from math import isqrt

import numpy as np
import oracle
from places import BY_MODE, DIVIDE_BY_ZERO, FINITE, INFINITE, INVALID, NAN, Places, flushes

GUARD = 34  # up to SR(32)


def read(codes, format):
    """[(kind, negative, integer, exponent, signaling), ...] of an array of codes: integer * 2^exponent."""
    if isinstance(format, oracle.Fixed):
        integers = [code if code <= format.highest else code - 2**format.width for code in codes.tolist()]
        return [(FINITE, integer < 0, abs(integer), -format.fl, False) for integer in integers]
    return [_read(code, format) for code in codes.tolist()]


def _read(code, format):
    field, trailing = divmod(code % format.sign_bit, 2**format.t)
    if code % format.sign_bit > format.max_finite_code or not field or not format.has_zero:
        x = oracle.decode(code, format)
        if not format.has_zero and x.kind == "finite":
            return FINITE, False, 1, code - format.bias, False
        integer = trailing if x.magnitude else 0
        return ("finite", "inf", "nan").index(x.kind), x.negative, integer, format.emin - format.t, x.signaling
    return FINITE, code >= format.sign_bit, 2**format.t + trailing, field - format.bias - format.t, False


ZERO_RESULT = 0, 1, 0  # numerator, denominator, exponent


def _nan(raised=0):
    return NAN, 0, raised, ZERO_RESULT


def _add(x, y):
    """(kind, sign, raised, (numerator, denominator, exponent)) of x + y, as all of these."""
    (kx, sx, mx, ex, qx), (ky, sy, my, ey, qy) = x, y
    if kx or ky:
        if NAN in (kx, ky) or (kx == ky and sx != sy):
            return _nan(INVALID if qx or qy or NAN not in (kx, ky) else 0)
        return INFINITE, int(sx if kx else sy), 0, ZERO_RESULT
    low = min(ex, ey)
    total = ((-mx if sx else mx) << ex - low) + ((-my if sy else my) << ey - low)
    sign = int(total < 0) if total else int(sx) if sx == sy else BY_MODE
    return FINITE, sign, 0, (abs(total), 1, low)


def _sub(x, y):
    return _add(x, (y[0], not y[1], *y[2:]))


def _mul(x, y):
    (kx, sx, mx, ex, qx), (ky, sy, my, ey, qy) = x, y
    if kx or ky:
        if NAN in (kx, ky):
            return _nan(INVALID if qx or qy else 0)
        if (kx == FINITE and mx == 0) or (ky == FINITE and my == 0):
            return _nan(INVALID)
        return INFINITE, int(sx != sy), 0, ZERO_RESULT
    return FINITE, int(sx != sy), 0, (mx * my, 1, ex + ey)


def _fma(x, y, z):
    kind, sign, raised, (product, _, exponent) = _mul(x, y)
    kind, sign, more, number = _add((kind, bool(sign), product, exponent, False), z)
    return kind, sign, raised | more, number


def _div(x, y):
    (kx, sx, mx, ex, qx), (ky, sy, my, ey, qy) = x, y
    sign = int(sx != sy)
    if NAN in (kx, ky):
        return _nan(INVALID if qx or qy else 0)
    if kx == INFINITE:
        return _nan(INVALID) if ky == INFINITE else (INFINITE, sign, 0, ZERO_RESULT)
    if ky == INFINITE:
        return FINITE, sign, 0, ZERO_RESULT
    if my == 0:
        return _nan(INVALID) if mx == 0 else (INFINITE, sign, DIVIDE_BY_ZERO, ZERO_RESULT)
    return FINITE, sign, 0, (mx, my, ex - ey)


def _sqrt(x):
    kind, negative, integer, exponent, signaling = x
    if kind == NAN or (negative and (kind == INFINITE or integer)):
        return _nan(INVALID if signaling or kind != NAN else 0)
    return kind, int(negative), 0, (integer, 1, exponent)


def _convert(x):
    kind, negative, integer, exponent, signaling = x
    return kind, int(negative), INVALID * signaling, (integer, 1, exponent)


OPERATIONS = {"add": _add, "sub": _sub, "mul": _mul, "fma": _fma, "div": _div, "sqrt": _sqrt, "convert": _convert}


def _units(numerator, denominator, exponent, unit, root):
    """(floor, inexact) of the number, or of its square root, in units of 2^unit."""
    shift = exponent - unit * (2 if root else 1)
    scaled, denominator = (numerator << shift, denominator) if shift >= 0 else (numerator, denominator << -shift)
    if root:
        whole = isqrt(scaled // denominator)
        return whole, whole * whole * denominator != scaled
    whole, rest = divmod(scaled, denominator)
    return whole, rest != 0


def _step(number, format, root):
    """(step, part) of a positive number."""
    numerator, denominator, exponent = number
    if isinstance(format, oracle.Fixed):
        whole, more = _units(*number, -format.fl - GUARD, root)
        return whole >> GUARD, 2 * (whole & (2**GUARD - 1)) + more
    lead = numerator.bit_length() - denominator.bit_length()
    lead -= (numerator if lead >= 0 else numerator << -lead) < (denominator << lead if lead >= 0 else denominator)
    lead = (lead + exponent) // 2 if root else lead + exponent
    base = lead if flushes(format) else max(lead, format.emin)
    whole, more = _units(*number, base - format.t - GUARD, root)
    significand, part = whole >> GUARD, 2 * (whole & (2**GUARD - 1)) + more
    if flushes(format) and lead < format.emin:  # only the last value below the smallest normal number counts
        last = lead == format.emin - 1 and significand == 2 ** (format.t + 1) - 1
        return (1, part) if last else (0, 1)
    step = (base - format.emin) * 2**format.t + significand - (2**format.t - 2 if flushes(format) else 0)
    return min(step, format.sign_bit + 1, 2**63 - 8), part  # all of these lie above the largest number


def place(operation, columns, format):
    """Places on a format's ladder of the exact results for the columns of operands, each as ``read`` gives it."""
    results = [OPERATIONS[operation](*row) for row in zip(*columns, strict=True)]
    root = operation == "sqrt"
    kind, sign, raised, numbers = zip(*results, strict=True)
    steps = [_step(number, format, root) if number[0] else (0, 0) for number in numbers]
    step, part = zip(*steps, strict=True)
    wide = isinstance(format, oracle.Fixed) and max(format.width, max(step).bit_length()) > 61
    return Places(
        np.array(kind, np.int8),
        np.array(sign, np.int8),
        np.array(step, object if wide else np.int64),
        np.array(part, np.int64),
        GUARD,
        np.array(raised, np.int64),
    )
