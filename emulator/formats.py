"""Number formats: sets of values and their codes.

A format knows which values exist and which bit pattern denotes which; it neither rounds nor holds state.
Everything but its defining fields is derived. Sources: IEEE 754-2019; OCP OFP8 v1.0 and MX v1.0 (``fn``,
``finite``); Noune et al., arXiv:2206.02915 (``fnuz``); Gupta et al., arXiv:1502.02551 (``<IL,FL>``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .errors import HalfulpError


class Kind(Enum):
    """What sort of datum a code denotes."""

    FINITE = "finite"
    INFINITY = "infinity"
    NAN = "nan"


class Unpacked(NamedTuple):
    """An exact datum, as a hardware unpacker would hand it on: (-1)^negative * significand * 2^exponent."""

    kind: Kind
    negative: bool = False
    significand: int = 0
    exponent: int = 0
    signaling: bool = False

    @property
    def is_zero(self) -> bool:
        return self.kind is Kind.FINITE and self.significand == 0

    @property
    def fraction(self) -> Fraction:
        """The exact value of a finite datum (the sign of zero is lost)."""
        magnitude = Fraction(self.significand) * Fraction(2) ** self.exponent
        return -magnitude if self.negative else magnitude

    def __float__(self) -> float:
        """The value as a Python float, correctly rounded where binary64 cannot hold it."""
        if self.kind is Kind.NAN:
            return float("nan")
        if self.kind is Kind.INFINITY:
            return float("-inf") if self.negative else float("inf")
        if self.significand == 0:
            return -0.0 if self.negative else 0.0
        try:
            return float(self.fraction)
        except OverflowError:
            return float("-inf") if self.negative else float("inf")


class Specials(Enum):
    """Which codes of a float format are not numbers."""

    IEEE = ""  #: exponent all ones: infinity (trailing bits 0) and NaNs
    FN = "fn"  #: no infinity; only all ones is NaN (OCP E4M3)
    FNUZ = "fnuz"  #: no infinity, no negative zero; 1000...0 is the one NaN
    FINITE = "finite"  #: every code is a number (OCP FP6, FP4)


def carrier(values: ArrayLike) -> np.ndarray:
    """``values`` as the float64 array that carries them, every element exact.

    Raises
    ------
    HalfulpError
        An element is not a real number, or binary64 cannot hold it (a 64-bit integer above 2^53, a long double):
        rounding it here would round twice.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError
        with np.errstate(over="ignore"):
            carried = np.asarray(array, dtype=np.float64, order="C")
    except (TypeError, ValueError, OverflowError):
        raise HalfulpError("an array of real numbers is needed, each of which binary64 can hold.") from None
    if array.dtype.kind in "iu":
        doubtful = (array > 2**53) | (array < -(2**53))
    else:
        doubtful = np.full(array.shape, array.dtype.kind == "O" or array.dtype.itemsize > 8)
    for given, held in zip(array[doubtful], carried[doubtful], strict=True):
        same = int(given) == float(held) if isinstance(given, Integral) else given == held or given != given
        if not same:
            raise HalfulpError(f"{given} does not fit binary64, which carries values: it would be rounded twice.")
    return carried


def _code_dtype(bits: int) -> type[np.unsignedinteger]:
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32 if bits <= 32 else np.uint64


class _Codec:
    """What all formats share: codes to and from arrays of values."""

    bits: int

    def unpack(self, code: int) -> Unpacked:
        raise NotImplementedError

    def pack(self, datum: Unpacked) -> int:
        raise NotImplementedError

    def decode(self, codes: ArrayLike) -> np.ndarray:
        """Values of codes.

        Parameters
        ----------
        codes : integer array, any shape; every element in [0, 2**bits).

        Returns
        -------
        float64 array of the same shape, exact (a fixed format wider than 53 bits is refused).
        """
        array = codes if isinstance(codes, np.ndarray) else np.array(codes, dtype=object)
        if array.dtype.kind == "O" and not all(
            isinstance(code, Integral) and not isinstance(code, bool) for code in array.flat
        ):
            raise HalfulpError(f"codes of {self} must be integers.")
        if array.dtype.kind not in "uiO":
            raise HalfulpError(f"codes of {self} must be integers, not {array.dtype}.")
        if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << self.bits):
            raise HalfulpError(f"codes of {self} must lie in [0, 2**{self.bits}).")
        return self._decode(array.astype(np.uint64))

    def encode(self, values: ArrayLike) -> np.ndarray:
        """Codes of values that the format holds exactly; any other value is refused (quantize first).

        Parameters
        ----------
        values : real array, any shape.

        Returns
        -------
        Unsigned array of the same shape, of the narrowest of uint8/16/32/64 that holds ``bits``. Every NaN
        becomes the canonical NaN.
        """
        array = carrier(values)
        codes = self._encode(array)
        back = self._decode(codes)
        same = (back == array) & (np.signbit(back) == np.signbit(array)) | (np.isnan(back) & np.isnan(array))
        if not np.all(same):
            bad = array[~same].flat[0]
            raise HalfulpError(f"{float(bad)!r} is not a value of {self}: quantize it first.")
        return codes.astype(_code_dtype(self.bits))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _encode(self, values: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class FloatFormat(_Codec):
    """A binary floating-point format: sign | exponent (w bits) | trailing significand (t bits).

    Every value fits binary64 exactly; a bias that would break this is refused.
    """

    exponent_bits: int  #: w, 2...11
    trailing_bits: int  #: t = p - 1, 0...52
    specials: Specials = Specials.IEEE
    subnormals: bool = True  #: False (``ftz``): exponent field 0 denotes zero only
    bias: int | None = None  #: None: 2^(w-1) - 1, for fnuz 2^(w-1)
    saturate: bool = False  #: overflow and infinities go to +-max_finite

    def __post_init__(self) -> None:
        w, t = self.exponent_bits, self.trailing_bits
        if not (2 <= w <= 11 and 0 <= t <= 52):
            raise HalfulpError(f"e{w}m{t} is outside e2m0 ... e11m52.")
        if self.bias is None:
            object.__setattr__(self, "bias", (1 << (w - 1)) - (0 if self.specials is Specials.FNUZ else 1))
        lowest = self.emin - (t if self.subnormals else 0)
        if self.emax > 1023 or lowest < -1074 or (not self.subnormals and self.emin < -1022):
            raise HalfulpError(
                f"e{w}m{t} with bias {self.bias} has values that binary64 cannot hold; choose another bias."
            )

    @property
    def bits(self) -> int:  # type: ignore[override]
        return 1 + self.exponent_bits + self.trailing_bits

    @property
    def precision(self) -> int:
        """p, the significand's bits including the hidden one."""
        return self.trailing_bits + 1

    @property
    def default_bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - (0 if self.specials is Specials.FNUZ else 1)

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return 1 - self.bias  # type: ignore[operator]

    @property
    def emax(self) -> int:
        """Exponent of max_finite."""
        top = (1 << self.exponent_bits) - 1 - self.bias  # type: ignore[operator]
        reserved = self.specials is Specials.IEEE or (self.specials is Specials.FN and self.trailing_bits == 0)
        return top - 1 if reserved else top

    @property
    def quantum_exponent(self) -> int | None:
        """Exponent of the weight below which no digit is kept; None where subnormals are absent."""
        return self.emin - self.trailing_bits if self.subnormals else None

    @property
    def max_finite(self) -> float:
        missing = 1 if self.specials is Specials.FN and self.trailing_bits > 0 else 0
        significand = (1 << self.precision) - 1 - missing
        return float(Fraction(significand) * Fraction(2) ** (self.emax - self.trailing_bits))

    @property
    def min_finite(self) -> float:
        return -self.max_finite

    @property
    def min_normal(self) -> float:
        return 2.0**self.emin

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value."""
        return 2.0 ** (self.emin - self.trailing_bits) if self.subnormals else self.min_normal

    @property
    def has_infinity(self) -> bool:
        return self.specials is Specials.IEEE

    @property
    def has_nan(self) -> bool:
        return self.specials in (Specials.FN, Specials.FNUZ) or (
            self.specials is Specials.IEEE and self.trailing_bits > 0
        )

    @property
    def has_negative_zero(self) -> bool:
        return self.specials is not Specials.FNUZ

    @property
    def nan_code(self) -> int:
        """The canonical NaN (quiet, positive where signs exist)."""
        w, t = self.exponent_bits, self.trailing_bits
        if not self.has_nan:
            raise HalfulpError(f"{self} has no NaN.")
        if self.specials is Specials.FNUZ:
            return 1 << (w + t)
        if self.specials is Specials.FN:
            return (1 << (w + t)) - 1
        return (((1 << w) - 1) << t) | (1 << (t - 1))

    def unpack(self, code: int) -> Unpacked:
        """The exact datum that ``code`` (an int in [0, 2**bits)) denotes."""
        w, t = self.exponent_bits, self.trailing_bits
        negative = bool(code >> (w + t) & 1)
        field = code >> t & ((1 << w) - 1)
        trailing = code & ((1 << t) - 1)
        if self.specials is Specials.FNUZ and code == self.nan_code:
            return Unpacked(Kind.NAN)
        if field == (1 << w) - 1:
            if self.specials is Specials.IEEE and trailing == 0:
                return Unpacked(Kind.INFINITY, negative)
            if self.specials is Specials.IEEE:
                return Unpacked(Kind.NAN, negative, signaling=not trailing >> (t - 1) & 1)
            if self.specials is Specials.FN and trailing == (1 << t) - 1:
                return Unpacked(Kind.NAN, negative)
        if field == 0:
            significand = trailing if self.subnormals else 0
            negative = negative and (significand > 0 or self.has_negative_zero)
            return Unpacked(Kind.FINITE, negative, significand, self.emin - t)
        return Unpacked(Kind.FINITE, negative, trailing | 1 << t, field - self.bias - t)  # type: ignore[operator]

    def pack(self, datum: Unpacked) -> int:
        """The code of a datum the format holds; the inverse of ``unpack``, but every NaN becomes ``nan_code``."""
        w, t = self.exponent_bits, self.trailing_bits
        sign = int(datum.negative) << (w + t)
        if datum.kind is Kind.NAN:
            return self.nan_code
        if datum.kind is Kind.INFINITY and self.has_infinity:
            return sign | ((1 << w) - 1) << t
        if datum.is_zero and (self.has_negative_zero or not datum.negative):
            return sign
        if datum.kind is Kind.FINITE and datum.significand:
            exponent = max(datum.significand.bit_length() - 1 + datum.exponent, self.emin)
            scaled = datum.fraction / Fraction(2) ** (exponent - t)
            significand = abs(scaled.numerator)
            field = exponent + self.bias if significand >> t else 0  # type: ignore[operator]
            code = sign | field << t | significand & ((1 << t) - 1)
            if (
                scaled.denominator == 1
                and significand < 2 << t
                and field < 1 << w
                and self.unpack(code).fraction == datum.fraction
            ):
                return code
        raise HalfulpError(f"{float(datum)!r} is not a value of {self}: quantize it first.")

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        w, t = self.exponent_bits, self.trailing_bits
        field = (codes >> np.uint64(t)).astype(np.int64) & ((1 << w) - 1)
        trailing = codes.astype(np.int64) & ((1 << t) - 1)
        normal = field > 0
        significand = np.where(normal, trailing | 1 << t, trailing if self.subnormals else 0)
        scale = np.clip(field - self.bias, self.emin, self.emax) - t  # type: ignore[operator]
        magnitude = np.ldexp(significand.astype(np.float64), scale)
        if self.specials is Specials.IEEE:
            top = field == (1 << w) - 1
            magnitude = np.where(top, np.where(trailing == 0, np.inf, np.nan), magnitude)
        elif self.specials is Specials.FN:
            magnitude = np.where((field == (1 << w) - 1) & (trailing == (1 << t) - 1), np.nan, magnitude)
        negative = (codes >> np.uint64(w + t)).astype(bool)
        if not self.has_negative_zero:
            negative &= magnitude != 0
        values = np.where(negative, -magnitude, magnitude)
        return np.where(codes == self.nan_code, np.nan, values) if self.has_nan else values

    def _encode(self, values: np.ndarray) -> np.ndarray:
        w, t = self.exponent_bits, self.trailing_bits
        finite = np.isfinite(values)
        magnitude = np.where(finite, np.abs(values), 0.0)
        exponent = np.maximum(np.frexp(magnitude)[1].astype(np.int64) - 1, self.emin)
        exponent = np.where(magnitude == 0, self.emin, np.minimum(exponent, self.emax))
        # two steps, so that the power of two stays in range; a misfit is found by decoding again
        significand = np.ldexp(np.ldexp(magnitude, -(exponent // 2)), t - (exponent - exponent // 2))
        significand = np.minimum(significand, 2.0 ** (t + 1) - 1).astype(np.int64)
        field = np.where(significand >> t > 0, exponent + self.bias, 0)
        code = field << t | significand & ((1 << t) - 1)
        if self.has_infinity:
            code = np.where(np.isinf(values), ((1 << w) - 1) << t, code)
        sign = np.signbit(values).astype(np.uint64) << np.uint64(w + t)
        codes = code.astype(np.uint64) | sign
        return np.where(np.isnan(values), np.uint64(self.nan_code), codes) if self.has_nan else codes

    def __str__(self) -> str:
        name = f"e{self.exponent_bits}m{self.trailing_bits}{self.specials.value}"
        name += "" if self.subnormals else "ftz"
        name += "" if self.bias == self.default_bias else f"b{self.bias}"
        return name + ("sat" if self.saturate else "")


@dataclass(frozen=True)
class FixedFormat(_Codec):
    """Fixed point <IL,FL>: WL = IL + FL bits, two's complement (or unsigned), value = integer * 2^-FL.

    IL includes the sign bit; the signed range is [-2^(IL-1), 2^(IL-1) - 2^-FL]. Overflow saturates or wraps.
    IL or FL may be negative as long as 1 <= WL <= 64.
    """

    integer_bits: int  #: IL
    fraction_bits: int  #: FL
    signed: bool = True
    wrap: bool = False

    has_infinity = False
    has_nan = False
    has_negative_zero = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 64:
            raise HalfulpError(
                f"q{self.integer_bits}.{self.fraction_bits} has a word length of {self.bits}; it must lie in 1...64."
            )
        where = f"q{self.integer_bits}.{self.fraction_bits}"
        if not -1000 <= self.fraction_bits <= 1000:
            raise HalfulpError(f"{where}: FL must lie in -1000...1000.")
        if self.integer_bits > 1023:
            raise HalfulpError(f"{where} has values that binary64 cannot hold: IL is at most 1023.")

    @property
    def bits(self) -> int:  # type: ignore[override]
        """WL, the word length."""
        return self.integer_bits + self.fraction_bits

    @property
    def precision(self) -> int:
        """The significand's bits: WL."""
        return self.bits

    @property
    def quantum_exponent(self) -> int:
        """Exponent of the weight of the last bit, -FL."""
        return -self.fraction_bits

    @property
    def emin(self) -> int:
        """Exponent of the smallest positive value."""
        return -self.fraction_bits

    @property
    def min_integer(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max_integer(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def max_finite(self) -> float:
        return float(self.max_integer * Fraction(2) ** -self.fraction_bits)

    @property
    def min_finite(self) -> float:
        return float(self.min_integer * Fraction(2) ** -self.fraction_bits)

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value, 2^-FL."""
        return 2.0**-self.fraction_bits

    def unpack(self, code: int) -> Unpacked:
        """The exact datum that ``code`` (an int in [0, 2**bits)) denotes."""
        integer = code - (1 << self.bits) if self.signed and code >> (self.bits - 1) else code
        return Unpacked(Kind.FINITE, integer < 0, abs(integer), -self.fraction_bits)

    def pack(self, datum: Unpacked) -> int:
        """The code of a datum the format holds."""
        if datum.kind is Kind.FINITE and not (datum.is_zero and datum.negative):
            scaled = datum.fraction * Fraction(2) ** self.fraction_bits
            if scaled.denominator == 1 and self.min_integer <= scaled.numerator <= self.max_integer:
                return scaled.numerator & ((1 << self.bits) - 1)
        raise HalfulpError(f"{float(datum)!r} is not a value of {self}: quantize it first.")

    def _check_carrier(self) -> None:
        if self.bits > 53:
            raise HalfulpError(f"{self} has {self.bits} bits; arrays carry values in binary64, which holds at most 53.")

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        self._check_carrier()
        integers = codes.astype(np.int64)
        if self.signed:
            integers = np.where(integers >> (self.bits - 1) > 0, integers - (1 << self.bits), integers)
        return np.ldexp(integers.astype(np.float64), -self.fraction_bits)

    def _encode(self, values: np.ndarray) -> np.ndarray:
        self._check_carrier()
        inside = np.clip(np.where(np.isnan(values), 0.0, values), self.min_finite, self.max_finite)
        scaled = np.ldexp(inside, self.fraction_bits)
        integers = np.clip(scaled, self.min_integer, self.max_integer).astype(np.int64)
        return (integers & ((1 << self.bits) - 1)).astype(np.uint64)

    def __str__(self) -> str:
        return f"{'q' if self.signed else 'uq'}{self.integer_bits}.{self.fraction_bits}{'w' if self.wrap else ''}"


Format = FloatFormat | FixedFormat
