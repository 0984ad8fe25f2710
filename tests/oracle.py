"""Independent test oracle for reduced-precision arithmetic.

Everything is done on exact rationals: decode a code to its value, do the
operation exactly, round once.  Nothing here is fast, and nothing is shared
with the implementation under test.  The operations beyond IEEE 754's basic
ones are in `oracle_operations`, the cross-check against MPFR in `oracle_mpfr`.
"""

import builtins
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor, isqrt

#: SR drops what lies below its k bits, SRC rounds it to nearest even first (Fitzgibbon & Felix, arXiv:2504.20634).
MODES = ("RNE", "RNA", "RTZ", "RTP", "RTN", "RTO", "RNZ", "RND", "SR", "SRC")


# --------------------------------------------------------------------- values


@dataclass(frozen=True)
class Value:
    """A number, an infinity or a NaN.  Zero carries its sign; that of a NaN is the sign of its payload."""

    kind: str  # 'finite', 'inf' or 'nan'
    negative: bool = False
    magnitude: Fraction = Fraction(0)  # of a finite value
    signaling: bool = False  # of a NaN
    payload: Fraction = field(default=Fraction(1, 2), compare=False)  # of a NaN: trailing field / 2^t, with its sign

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
    """1 sign bit (if signed), w exponent bits, t trailing significand bits."""

    w: int
    t: int
    bias: int = None
    specials: str = "ieee"  # 'ieee', 'fn', 'fnuz' or 'finite'
    subnormals: bool = True
    saturate: bool = False
    signed: bool = True

    def __post_init__(self):
        assert 1 <= self.w <= 11 and 0 <= self.t <= 52 and (self.signed or self.specials in ("fn", "finite"))
        assert self.specials in ("ieee", "fn", "fnuz", "finite")
        if self.bias is None:
            bias = 2 ** (self.w - 1) - (self.specials != "fnuz")
            object.__setattr__(self, "bias", bias)

    p = property(lambda self: self.t + 1)
    emin = property(lambda self: self.has_zero - self.bias)
    width = property(lambda self: self.signed + self.w + self.t)
    sign_bit = property(lambda self: 2 ** (self.w + self.t))  # how many codes have no sign bit
    has_infinity = property(lambda self: self.specials == "ieee")
    has_negative_zero = property(lambda self: self.signed and self.specials != "fnuz")
    # OCP MX v1.0 section 5.4.1: E8M0 is 2^(code - 127), all ones being NaN
    has_zero = property(lambda self: self.signed or self.t > 0 or self.specials == "finite")
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
class P3109:
    """IEEE P3109's Binary{K}p{P}{s|u}{e|f}: one zero, one NaN, at most one infinity of a sign (Interim Report v3.1).

    The NaN has the code that -0 would have, in unsigned formats the highest; the infinity (extended domain) is the
    code after the largest number.  The bias is 2^(K-P-1), in unsigned formats 2^(K-P).
    """

    K: int
    P: int
    signed: bool = True
    extended: bool = True
    saturate: bool = False

    def __post_init__(self):
        assert 1 <= self.P < self.K + (not self.signed)

    specials, subnormals, has_negative_zero, has_zero = "p3109", True, False, True
    p, width = property(lambda self: self.P), property(lambda self: self.K)
    t = property(lambda self: self.P - 1)
    bias = property(lambda self: 2 ** (self.K - self.P) // (1 + self.signed))
    emin = property(lambda self: 1 - self.bias)
    sign_bit = property(lambda self: 2 ** (self.K - self.signed))  # how many codes have no sign bit
    has_infinity = property(lambda self: self.extended)
    nan_code = property(lambda self: 2 ** (self.K - 1) if self.signed else 2**self.K - 1)
    inf_code = property(lambda self: self.sign_bit - (1 if self.signed else 2))
    max_finite_code = property(lambda self: self.inf_code - self.extended)
    max_finite = property(lambda self: _magnitude(self.max_finite_code, self))


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
    if exponent == 0 and format.has_zero:
        return trailing * format.subnormals * power_of_two(format.emin - format.t)
    return (2**format.t + trailing) * power_of_two(exponent - format.bias - format.t)


def decode(code, format):
    """The Value a code denotes."""
    assert 0 <= code < 2**format.width
    if isinstance(format, Fixed):
        integer = code if code <= format.highest else code - 2**format.width
        return number(integer * power_of_two(-format.fl))
    negative, magnitude_code = code >= format.sign_bit, code % format.sign_bit
    is_nan = {
        "ieee": magnitude_code > format.inf_code,
        "fn": magnitude_code == format.nan_code,
        "fnuz": code == format.nan_code,
        "p3109": code == format.nan_code,
        "finite": False,
    }[format.specials]
    if is_nan and format.specials == "ieee":  # below the canonical NaN, the top trailing bit is 0
        payload = Fraction(magnitude_code - format.inf_code, 2**format.t)
        return Value("nan", signaling=magnitude_code < format.nan_code, payload=-payload if negative else payload)
    if is_nan:
        return NAN
    if format.has_infinity and magnitude_code == format.inf_code:
        return Value("inf", negative)
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


def _round_to_quantum(magnitude, quantum, negative, mode, k, r, is_odd=lambda lo, quantum: lo % 2 == 1):
    """Round |x| to a multiple of the quantum; `negative` is the sign of x."""
    lo = floor(magnitude / quantum)  # the integer significand below
    f = magnitude / quantum - lo  # 0 <= f < 1
    if f == 0:
        return magnitude
    if mode == "SRC":  # Python's round() takes ties to even
        return (lo + (builtins.round(f * 2**k) + r >= 2**k)) * quantum
    half, lo_is_odd = Fraction(1, 2), is_odd(lo, quantum)
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


def round(value, format, mode, k=0, r=0, tininess="after", ftz=False):
    """Round a Value into a format: (code, flags)."""
    assert mode in MODES and 0 <= r < 2**k and tininess in ("after", "before")
    if isinstance(format, Fixed):
        return _round_fixed(value, format, mode, k, r)
    return _round_float(value, format, mode, k, r, tininess, ftz)


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


def _round_float(value, format, mode, k, r, tininess, ftz):
    if value.kind == "nan":
        if format.nan_code is None:
            return format.max_finite_code, flags("invalid")
        return format.nan_code, flags("invalid") if value.signaling else flags()

    sign = format.sign_bit if value.negative and format.signed else 0
    zero = sign if format.has_negative_zero else 0
    if value.kind == "inf":
        held = format.has_infinity and not format.saturate and (format.signed or not value.negative)
        return _beyond(value, format), flags() if held else flags("overflow", "inexact")
    if value.is_zero:
        return zero, flags() if format.has_zero else flags("underflow", "inexact")

    def is_odd(lo, quantum):  # with p = 1 all significands are odd: P3109, and fnuz with it, then go by the codes
        if format.specials in ("p3109", "fnuz") and format.p == 1:
            return lo > 0 and (floor_log2(quantum) + format.bias) % 2 == 1
        return lo % 2 == 1

    exact, smallest_normal = value.magnitude, power_of_two(format.emin)
    quantum = power_of_two(floor_log2(exact) - format.p + 1)
    unbounded = _round_to_quantum(exact, quantum, value.negative, mode, k, r, is_odd)
    tiny = (exact if tininess == "before" and format.subnormals else unbounded) < smallest_normal
    if tiny and (ftz or not (format.subnormals and format.has_zero)):
        return zero, flags("underflow", "inexact")
    if format.subnormals:
        quantum = max(quantum, power_of_two(format.emin - format.p + 1))
    rounded = _round_to_quantum(exact, quantum, value.negative, mode, k, r, is_odd)

    if rounded == 0:
        return zero, flags("underflow", "inexact")
    if rounded > format.max_finite or (value.negative and not format.signed):
        inward = {"RTZ": True, "RTO": True, "RTP": value.negative, "RTN": not value.negative}.get(mode, False)
        if mode == "RTO" and format.specials == "p3109" and format.extended:  # ends at the odd one of the two codes
            inward = _end(value, format) % 2 == 1
        return _end(value, format) if inward else _beyond(value, format), flags("overflow", "inexact")
    code = sign + _find_magnitude(rounded, format)
    if rounded == exact:
        return code, flags()
    return code, flags("underflow", "inexact") if tiny else flags("inexact")


def _end(value, format):
    """The last number on the side of a value; of unsigned formats the least one is the end on the negative side."""
    if format.signed:
        return format.max_finite_code + format.sign_bit * value.negative
    return 0 if value.negative else format.max_finite_code


def _beyond(value, format):
    """Where an infinity, or a number too large for a float format, lands."""
    if format.saturate or not (format.has_infinity or format.nan_code is not None):
        return _end(value, format)
    if format.has_infinity and (format.signed or not value.negative):
        return format.inf_code + format.sign_bit * value.negative
    return format.nan_code


def encode(value, format):
    """The code of a Value; ValueError if the format has no such value.

    Every NaN becomes the canonical NaN.
    """
    if not isinstance(format, Fixed):
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


def _x86_nan(operands, format):
    """What x86 gives for a NaN: the first operand that is one, made quiet, else the negative default NaN."""
    nans = [x.payload for x in operands if x.kind == "nan"]
    payload = nans[0] if nans else Fraction(-1, 2)
    quiet = floor(abs(payload) * 2**format.t) | 2 ** (format.t - 1)
    return (payload < 0) * format.sign_bit + format.inf_code + quiet


def finish(operands, exact, format, mode, *rounding, x86=False, **conventions):
    """Round what an exact_* function gave: (code, flags)."""
    value, operation_flags = exact
    code, rounding_flags = round(value, format, mode, *rounding, **conventions)
    if x86 and value.kind == "nan" and isinstance(format, Float) and format.specials == "ieee" and format.t > 0:
        code = _x86_nan(operands, format)
    return code, operation_flags | rounding_flags


def flushed(x, format):
    """An operand of a unit that reads subnormal numbers as zeros (DAZ)."""
    if isinstance(format, Fixed) or x.kind != "finite" or x.magnitude >= power_of_two(format.emin):
        return x
    return Value("finite", x.negative and format.has_negative_zero)


# Each takes `format, mode, k=0, r=0, tininess="after"`, and ftz= and x86= by name.


def add(x, y, format, mode, *rounding, **conventions):
    return finish((x, y), exact_add(x, y, mode), format, mode, *rounding, **conventions)


def sub(x, y, format, mode, *rounding, **conventions):
    return finish((x, y), exact_add(x, negate(y), mode), format, mode, *rounding, **conventions)


def mul(x, y, format, mode, *rounding, **conventions):
    return finish((x, y), exact_mul(x, y), format, mode, *rounding, **conventions)


def fma(x, y, z, format, mode, *rounding, **conventions):
    value, raised = exact_fma(x, y, z, mode)
    if conventions.get("x86") and z.kind == "nan" and not any(operand.signaling for operand in (x, y, z)):
        raised = flags()  # there 0 * inf is not invalid next to a quiet NaN
    return finish((x, y, z), (value, raised), format, mode, *rounding, **conventions)


def div(x, y, format, mode, *rounding, **conventions):
    quotient, raised = exact_div(x, y)
    if "divide_by_zero" in raised and getattr(format, "specials", None) == "p3109" and format.extended:
        quotient = NAN  # its zero has no sign, so that neither infinity is right
    return finish((x, y), (quotient, raised), format, mode, *rounding, **conventions)


def sqrt(x, format, mode, k=0, *rounding, **conventions):
    return finish((x,), sqrt_for_rounding(x, format, k), format, mode, k, *rounding, **conventions)


def convert(x, format, mode, *rounding, **conventions):
    return finish((x,), (x, flags()), format, mode, *rounding, **conventions)
