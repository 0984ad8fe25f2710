"""The oracle, continued: IEEE 754's operations beyond the basic ones, on exact rationals.

Those that round take ``format, mode, k=0, r=0, tininess="after"`` last, and ``ftz=`` and ``x86=`` by name; results are
(code, flag names). Section numbers are those of IEEE 754-2019.
"""

import functools
from bisect import bisect_left, bisect_right
from fractions import Fraction

import oracle
from oracle import INF, INVALID, NAN, NEG_INF, Value, flags, number

# ------------------------------------------------------------------------------------------------ that round


def exact_rem(x, y):
    """x - y n, n the integer nearest to x / y, ties to even (5.3.1); a zero has the sign of x."""
    if "nan" in (x.kind, y.kind):
        return NAN, flags("invalid") if x.signaling or y.signaling else flags()
    if x.kind == "inf" or y.is_zero:
        return INVALID
    if y.kind == "inf":
        return x, flags()
    rest = x.fraction - y.fraction * round(x.fraction / y.fraction)
    return (number(rest) if rest else Value("finite", x.negative)), flags()


def rem(x, y, format, mode, *rounding, **conventions):
    return oracle.finish((x, y), exact_rem(x, y), format, mode, *rounding, **conventions)


def _integer(x, mode, k, r):
    """A finite value rounded to an integer, with its sign."""
    integer = int(oracle._round_to_quantum(x.magnitude, Fraction(1), x.negative, mode, k, r))
    return -integer if x.negative else integer


def round_to_integral(x, format, mode, k=0, r=0, *rounding, exact=False, **conventions):
    """5.9; roundToIntegralExact where ``exact``. A zero keeps the sign of x."""
    if x.kind != "finite":
        return oracle.finish((x,), (x, flags()), format, mode, k, r, *rounding, **conventions)
    integer = _integer(x, mode, k, r)
    value = Value("finite", x.negative, Fraction(abs(integer)))
    changed = exact and integer != x.fraction
    return oracle.finish((x,), (value, flags(*["inexact"] * changed)), format, mode, k, r, *rounding, **conventions)


def to_integer(x, bits, signed, mode, k=0, r=0, exact=False, x86=False):
    """convertToInteger (5.8): what does not fit, and a NaN, raises invalid alone.

    It gives the nearest end of the range, the largest number for a NaN (RISC-V), or on x86 the "integer indefinite":
    -2^(bits-1), and for unsigned results (AVX-512's VCVT..2U..) 2^bits - 1.
    """
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    indefinite = (low if signed else high) % 2**bits
    if x.kind == "finite":
        integer = _integer(x, mode, k, r)
        if low <= integer <= high:
            return integer % 2**bits, flags("inexact") if exact and integer != x.fraction else flags()
    end = low if x.kind != "nan" and x.negative else high
    return indefinite if x86 else end % 2**bits, flags("invalid")


def scalb(x, n, format, mode, *rounding, **conventions):
    """x 2^n (5.3.3)."""
    value = x if x.kind != "finite" else Value("finite", x.negative, x.magnitude * oracle.power_of_two(n))
    return oracle.finish((x,), (value, flags()), format, mode, *rounding, **conventions)


def logb(x, format, mode, *rounding, **conventions):
    """floor(log2 |x|) (5.3.3): of zero -inf and divideByZero, of an infinity +inf."""
    if x.kind == "nan":
        exact = x, flags()
    elif x.kind == "inf":
        exact = INF, flags()
    elif x.is_zero:
        exact = NEG_INF, flags("divide_by_zero")
    else:
        exact = number(oracle.floor_log2(x.magnitude)), flags()
    return oracle.finish((x,), exact, format, mode, *rounding, **conventions)


def dot(pairs, format, mode, *rounding, **conventions):
    """The sum of products, exact until its one rounding; from the first product on, so that (-0) stays -0."""
    total, raised = None, flags()
    for x, y in pairs:
        product, more = oracle.exact_mul(x, y)
        raised |= more
        if total is None:
            total = product
        else:
            total, more = oracle.exact_add(total, product, mode)
            raised |= more
    return oracle.finish((), (total or oracle.ZERO, raised), format, mode, *rounding, **conventions)


def sum(values, format, mode, *rounding, **conventions):
    """The sum, exact until its one rounding."""
    return dot([(x, number(1)) for x in values], format, mode, *rounding, **conventions)


# ------------------------------------------------------------------------------------------- that do not round


def _order(x):
    """Orders everything but NaNs; zeros alike."""
    return (-1 if x.negative else 1, Fraction(0)) if x.kind == "inf" else (0, x.fraction)


def compare(x, y, signaling=False):
    """('<', '=', '>' or '?', flags): 5.11; ``signaling`` for the predicates to which a quiet NaN is invalid."""
    if "nan" in (x.kind, y.kind):
        return "?", flags("invalid") if signaling or x.signaling or y.signaling else flags()
    a, b = _order(x), _order(y)
    return "<" if a < b else "=" if a == b else ">", flags()


def extremum(x, y, largest, prefers_numbers):
    """(Value, flags): minimum, maximum, minimumNumber and maximumNumber (9.6); -0 < +0."""
    raised = flags("invalid") if x.signaling or y.signaling else flags()
    numbers = [z for z in (x, y) if z.kind != "nan"]
    if not numbers or (len(numbers) == 1 and not prefers_numbers):
        return NAN, raised
    ranked = sorted(numbers, key=lambda z: (_order(z), not z.negative))
    return ranked[-1 if largest else 0], raised


@functools.cache
def _line(format):
    """The distinct finite values of a format of at most 16 bits, from the least, and their codes; +0 for zero."""
    assert format.width <= 16
    codes = {}
    for code in reversed(oracle.all_codes(format)):
        value = oracle.decode(code, format)
        if value.kind == "finite":
            codes[value.fraction] = code
    fractions = sorted(codes)
    return fractions, [codes[x] for x in fractions]


def next_up(code, format):
    """(code, flags): the least value above (5.3.1); the last one stays. -0 follows the largest negative number."""
    x = oracle.decode(code, format)
    if x.kind == "nan":
        return format.nan_code, flags("invalid") if x.signaling else flags()
    fractions, codes = _line(format)
    if x.kind == "inf":
        return (codes[0] if x.negative else code), flags()
    after = bisect_right(fractions, x.fraction)
    if after == len(fractions):
        return (format.inf_code if getattr(format, "has_infinity", False) else code), flags()
    if fractions[after] == 0 and getattr(format, "has_negative_zero", False):
        return format.sign_bit, flags()
    return codes[after], flags()


def next_down(code, format):
    """(code, flags): the greatest value below; the first one stays. +0 precedes the smallest positive number."""
    x = oracle.decode(code, format)
    if x.kind == "nan":
        return format.nan_code, flags("invalid") if x.signaling else flags()
    fractions, codes = _line(format)
    if x.kind == "inf":
        return (code if x.negative else codes[-1]), flags()
    before = bisect_left(fractions, x.fraction) - 1
    if before < 0:
        unbounded = getattr(format, "has_infinity", False) and format.sign_bit < 2**format.width
        return (format.sign_bit + format.inf_code if unbounded else codes[0]), flags()
    return codes[before], flags()


def classify(x, format):
    """One of the ten names of 5.7.2."""
    if x.kind == "nan":
        return "signalingNaN" if x.signaling else "quietNaN"
    sign = "negative" if x.negative else "positive"
    if x.kind == "inf":
        return f"{sign}Infinity"
    if x.is_zero:
        return f"{sign}Zero"
    smallest = oracle.power_of_two(-format.fl if isinstance(format, oracle.Fixed) else format.emin)
    return f"{sign}{'Normal' if x.magnitude >= smallest else 'Subnormal'}"
