"""Independent test oracle for reduced-precision arithmetic.

Everything is done on exact rationals: decode a code to its value, do the
operation exactly, round once.  Nothing here is fast, and nothing is shared
with the implementation under test.  gmpy2 is optional and used only by
`mpfr_round`, which cross-checks this oracle against MPFR.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, isqrt

try:
    import gmpy2
except ImportError:  # the cross-check is then unavailable; the oracle is not
    gmpy2 = None

MODES = ("RNE", "RNA", "RTZ", "RTP", "RTN", "RTO", "RNZ", "RND", "SR")


# --------------------------------------------------------------------- values


@dataclass(frozen=True)
class Value:
    """A number, an infinity or a NaN.  Zero carries its sign; NaN has none."""

    kind: str  # 'finite', 'inf' or 'nan'
    negative: bool = False
    magnitude: Fraction = Fraction(0)  # of a finite value
    signaling: bool = False  # of a NaN

    is_zero = property(lambda self: self.kind == "finite" and self.magnitude == 0)
    fraction = property(lambda self: -self.magnitude if self.negative else self.magnitude)


def number(x):
    """The Value of an int, Fraction or finite float; zero is +0."""
    return Value("finite", x < 0, abs(Fraction(x)))


def negate(x):
    return x if x.kind == "nan" else Value(x.kind, not x.negative, x.magnitude)


ZERO, NEG_ZERO = Value("finite"), Value("finite", negative=True)
INF, NEG_INF = Value("inf"), Value("inf", negative=True)
NAN, SNAN = Value("nan"), Value("nan", signaling=True)


def power_of_two(e):
    return Fraction(2**e) if e >= 0 else Fraction(1, 2**-e)


def floor_log2(magnitude):
    """The e with 2^e <= magnitude < 2^(e+1), for a positive rational."""
    e = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return e if power_of_two(e) <= magnitude else e - 1


# -------------------------------------------------------------------- formats


@dataclass(frozen=True)
class Float:
    """1 sign bit, w exponent bits, t trailing significand bits."""

    w: int
    t: int
    bias: int = None
    specials: str = "ieee"  # 'ieee', 'fn', 'fnuz' or 'finite'
    subnormals: bool = True
    saturate: bool = False

    def __post_init__(self):
        assert 2 <= self.w <= 11 and 0 <= self.t <= 52
        assert self.specials in ("ieee", "fn", "fnuz", "finite")
        if self.bias is None:
            bias = 2 ** (self.w - 1) - (self.specials != "fnuz")
            object.__setattr__(self, "bias", bias)

    p = property(lambda self: self.t + 1)
    emin = property(lambda self: 1 - self.bias)
    width = property(lambda self: 1 + self.w + self.t)
    sign_bit = property(lambda self: 2 ** (self.w + self.t))
    has_infinity = property(lambda self: self.specials == "ieee")
    has_negative_zero = property(lambda self: self.specials != "fnuz")
    # Exponent all ones, trailing zero: where the special codes of 'ieee' begin.
    inf_code = property(lambda self: (2**self.w - 1) * 2**self.t)
    max_finite = property(lambda self: _magnitude(self.max_finite_code, self))

    @property
    def nan_code(self):
        """The canonical NaN, or None where the format has no NaN."""
        if self.specials == "ieee" and self.t > 0:
            return self.inf_code + 2 ** (self.t - 1)
        return {"fn": self.sign_bit - 1, "fnuz": self.sign_bit}.get(self.specials)

    @property
    def max_finite_code(self):
        """The largest code without a sign bit that denotes a number."""
        if self.specials == "ieee":
            return self.inf_code - 1
        return self.sign_bit - (2 if self.specials == "fn" else 1)


@dataclass(frozen=True)
class Fixed:
    """il+fl bits, two's complement or unsigned; value = integer * 2^-fl."""

    il: int
    fl: int
    signed: bool = True
    wrap: bool = False

    width = property(lambda self: self.il + self.fl)
    lowest = property(lambda self: -(2 ** (self.width - 1)) if self.signed else 0)
    highest = property(lambda self: 2 ** (self.width - self.signed) - 1)


def all_codes(format):
    return range(2**format.width)


def _magnitude(magnitude_code, format):
    """The magnitude of a code that denotes a number, less its sign bit."""
    exponent, trailing = divmod(magnitude_code, 2**format.t)
    if exponent == 0:
        return trailing * format.subnormals * power_of_two(format.emin - format.t)
    return (2**format.t + trailing) * power_of_two(exponent - format.bias - format.t)


def decode(code, format):
    """The Value a code denotes."""
    assert 0 <= code < 2**format.width
    if isinstance(format, Fixed):
        integer = code if code <= format.highest else code - 2**format.width
        return number(integer * power_of_two(-format.fl))
    negative, magnitude_code = code >= format.sign_bit, code % format.sign_bit
    if format.specials == "ieee" and magnitude_code == format.inf_code:
        return Value("inf", negative)
    is_nan = {
        "ieee": magnitude_code > format.inf_code,
        "fn": magnitude_code == format.nan_code,
        "fnuz": code == format.nan_code,
        "finite": False,
    }[format.specials]
    if is_nan:  # below the canonical NaN of 'ieee', the top trailing bit is 0
        return SNAN if magnitude_code < format.nan_code and format.has_infinity else NAN
    magnitude = _magnitude(magnitude_code, format)
    return Value("finite", negative and (magnitude > 0 or format.has_negative_zero), magnitude)


def _find_magnitude(magnitude, format):
    """The code of a representable magnitude: magnitudes never fall as codes grow."""
    code = bisect_left(range(format.max_finite_code), magnitude, key=lambda code: _magnitude(code, format))
    assert _magnitude(code, format) == magnitude
    return code


# ------------------------------------------------------------------- rounding


def flags(*names):
    return frozenset(names)


def _round_to_quantum(magnitude, quantum, negative, mode, k, r):
    """Round |x| to a multiple of the quantum; `negative` is the sign of x."""
    lo = floor(magnitude / quantum)  # the integer significand below
    f = magnitude / quantum - lo  # 0 <= f < 1
    if f == 0:
        return magnitude
    half, lo_is_odd = Fraction(1, 2), lo % 2 == 1
    up = {
        "RNE": f > half or (f == half and lo_is_odd),
        "RNA": f >= half,
        "RNZ": f > half,
        "RND": f > half or (f == half and negative),
        "RTZ": False,
        "RTP": not negative,
        "RTN": negative,
        "RTO": not lo_is_odd,
        "SR": floor(f * 2**k) + r >= 2**k,
    }[mode]
    return (lo + up) * quantum


def round(value, format, mode, k=0, r=0, tininess="after"):
    """Round a Value into a format: (code, flags)."""
    assert mode in MODES and 0 <= r < 2**k and tininess in ("after", "before")
    if isinstance(format, Fixed):
        return _round_fixed(value, format, mode, k, r)
    return _round_float(value, format, mode, k, r, tininess)


def _round_fixed(value, format, mode, k, r):
    modulus = 2**format.width
    end = format.lowest if value.negative else format.highest
    if value.kind == "nan":
        return format.highest, flags("invalid")
    if value.kind == "inf":
        return end % modulus, flags("overflow", "inexact")
    quantum = power_of_two(-format.fl)
    rounded = _round_to_quantum(value.magnitude, quantum, value.negative, mode, k, r)
    integer = int(rounded / quantum) * (-1 if value.negative else 1)
    if not format.lowest <= integer <= format.highest:
        return (integer if format.wrap else end) % modulus, flags("overflow", "inexact")
    return integer % modulus, flags() if rounded == value.magnitude else flags("inexact")


def _round_float(value, format, mode, k, r, tininess):
    if value.kind == "nan":
        if format.nan_code is None:
            return format.max_finite_code, flags("invalid")
        return format.nan_code, flags("invalid") if value.signaling else flags()

    sign = format.sign_bit if value.negative else 0
    zero = sign if format.has_negative_zero else 0
    largest = sign + format.max_finite_code
    infinity = sign + format.inf_code if format.has_infinity else format.nan_code
    saturates = format.saturate or format.specials == "finite"
    if value.kind == "inf":
        if format.has_infinity and not saturates:
            return infinity, flags()
        return largest if saturates else infinity, flags("overflow", "inexact")
    if value.is_zero:
        return zero, flags()

    exact, smallest_normal = value.magnitude, power_of_two(format.emin)
    quantum = power_of_two(floor_log2(exact) - format.p + 1)
    unbounded = _round_to_quantum(exact, quantum, value.negative, mode, k, r)
    rounded = unbounded
    if format.subnormals:
        quantum = max(quantum, power_of_two(format.emin - format.p + 1))
        rounded = _round_to_quantum(exact, quantum, value.negative, mode, k, r)
    elif rounded < smallest_normal:
        return zero, flags("underflow", "inexact")

    if rounded > format.max_finite:
        to_infinity = {"RTZ": False, "RTO": False, "RTP": not value.negative, "RTN": value.negative}.get(mode, True)
        return (infinity if to_infinity and not saturates else largest, flags("overflow", "inexact"))

    code = zero if rounded == 0 else sign + _find_magnitude(rounded, format)
    if rounded == exact:
        return code, flags()
    tiny = (unbounded if tininess == "after" else exact) < smallest_normal
    if tiny and format.subnormals:
        return code, flags("underflow", "inexact")
    return code, flags("inexact")


def encode(value, format):
    """The code of a Value; ValueError if the format has no such value.

    Every NaN becomes the canonical NaN.
    """
    if isinstance(format, Float):
        format = replace(format, saturate=False)  # which would keep infinity out
    code, _ = round(value, format, "RTZ")
    if decode(code, format) != (NAN if value.kind == "nan" else value):
        raise ValueError(f"{format} has no {value}")
    return code


# ------------------------- operations: exact_* gives (Value before rounding, flags)

INVALID = NAN, flags("invalid")


def _nan_result(*operands):
    return NAN, flags("invalid") if any(x.signaling for x in operands) else flags()


def exact_add(x, y, mode):
    if "nan" in (x.kind, y.kind):
        return _nan_result(x, y)
    if "inf" in (x.kind, y.kind):
        if x.kind == y.kind and x.negative != y.negative:
            return INVALID
        return (x if x.kind == "inf" else y), flags()
    total = x.fraction + y.fraction
    if total == 0:
        # Two zeros of one sign keep it; any other exact zero sum is +0, in RTN -0.
        return Value("finite", x.negative if x.negative == y.negative else mode == "RTN"), flags()
    return number(total), flags()


def exact_mul(x, y):
    if "nan" in (x.kind, y.kind):
        return _nan_result(x, y)
    negative = x.negative != y.negative
    if "inf" in (x.kind, y.kind):
        return INVALID if x.is_zero or y.is_zero else (Value("inf", negative), flags())
    return Value("finite", negative, x.magnitude * y.magnitude), flags()


def exact_fma(x, y, z, mode):
    product, product_flags = exact_mul(x, y)
    total, total_flags = exact_add(product, z, mode)
    return total, product_flags | total_flags


def exact_div(x, y):
    if "nan" in (x.kind, y.kind):
        return _nan_result(x, y)
    negative = x.negative != y.negative
    if (x.kind == y.kind == "inf") or (x.is_zero and y.is_zero):
        return INVALID
    if x.kind == "inf":
        return Value("inf", negative), flags()
    if y.kind == "inf":
        return Value("finite", negative), flags()
    if y.is_zero:
        return Value("inf", negative), flags("divide_by_zero")
    return Value("finite", negative, x.magnitude / y.magnitude), flags()


def sqrt_for_rounding(x, format, k=0):
    """The square root, or a stand-in that rounds into the format as it does.

    With s = floor(sqrt(x) * 2^m), a root that is no multiple of 2^-m lies strictly
    between s*2^-m and (s+1)*2^-m, and so does the stand-in, their midpoint.  m is
    so large that every value, midpoint, SR threshold (k random bits) and range
    limit near the root is a multiple of 2^-m: the two round alike.
    """
    if x.kind == "nan":
        return _nan_result(x)
    if x.negative and not x.is_zero:
        return INVALID
    if x.is_zero or x.kind == "inf":
        return x, flags()
    e = floor_log2(x.magnitude) // 2  # the exponent of the root
    finest = format.fl if isinstance(format, Fixed) else format.p - e
    m = max(0, finest) + k + 8
    s = isqrt(floor(x.magnitude * 4**m))
    root = Fraction(s, 2**m)
    if root * root != x.magnitude:
        root += Fraction(1, 2 ** (m + 1))
    return number(root), flags()


def _finish(exact, format, mode, *rounding):
    value, operation_flags = exact
    code, rounding_flags = round(value, format, mode, *rounding)
    return code, operation_flags | rounding_flags


def add(x, y, format, mode, k=0, r=0, tininess="after"):
    return _finish(exact_add(x, y, mode), format, mode, k, r, tininess)


def sub(x, y, format, mode, k=0, r=0, tininess="after"):
    return _finish(exact_add(x, negate(y), mode), format, mode, k, r, tininess)


def mul(x, y, format, mode, k=0, r=0, tininess="after"):
    return _finish(exact_mul(x, y), format, mode, k, r, tininess)


def fma(x, y, z, format, mode, k=0, r=0, tininess="after"):
    return _finish(exact_fma(x, y, z, mode), format, mode, k, r, tininess)


def div(x, y, format, mode, k=0, r=0, tininess="after"):
    return _finish(exact_div(x, y), format, mode, k, r, tininess)


def sqrt(x, format, mode, k=0, r=0, tininess="after"):
    return _finish(sqrt_for_rounding(x, format, k), format, mode, k, r, tininess)


# ----------------------------------------------------------- MPFR cross-check


def _to_mpfr(x):
    if x.kind == "nan":
        return gmpy2.nan()
    if x.kind == "inf" or x.is_zero:
        return gmpy2.mpfr(("-" if x.negative else "") + ("inf" if x.kind == "inf" else "0"))
    n, d = x.fraction.numerator, x.fraction.denominator
    exact = gmpy2.mpfr(gmpy2.mpq(n, d), max(2, n.bit_length()))
    assert exact.as_integer_ratio() == (n, d), "an MPFR operand must be dyadic"
    return exact


def mpfr_round(operation, operands, format, mode):
    """MPFR's 'add', 'sub', 'mul', 'div', 'fma', 'sqrt' or 'plus' (just rounds).

    IEEE formats with subnormals and no saturation; RNE, RTZ, RTP and RTN.
    Returns a Value, or None without gmpy2.
    """
    if gmpy2 is None:
        return None
    assert format.has_infinity and format.subnormals and not format.saturate
    emax = 2**format.w - 2 - format.bias
    context = gmpy2.context(  # MPFR's significand is in [1/2, 1): exponents are one higher
        precision=format.p,
        subnormalize=True,
        emin=format.emin - format.t + 1,
        emax=emax + 1,
        round={"RNE": gmpy2.RoundToNearest, "RTZ": gmpy2.RoundToZero, "RTP": gmpy2.RoundUp, "RTN": gmpy2.RoundDown}[
            mode
        ],
    )
    result = getattr(context, operation)(*map(_to_mpfr, operands))
    if gmpy2.is_nan(result):
        return NAN
    if gmpy2.is_infinite(result):
        return Value("inf", gmpy2.is_signed(result))
    n, d = result.as_integer_ratio()
    return Value("finite", gmpy2.is_signed(result), abs(Fraction(int(n), int(d))))
