"""Floating-point formats. Sources: IEEE 754-2019; OCP OFP8 v1.0 and MX v1.0 (``fn``, ``finite``); Noune et al.,
arXiv:2206.02915 (``fnuz``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property

import numpy as np

from .codec import Codec, Kind, Unpacked
from .errors import HalfulpError


class Specials(Enum):
    """Which codes of a float format are not numbers."""

    IEEE = ""  #: exponent all ones: infinity (trailing bits 0) and NaNs
    FN = "fn"  #: no infinity; only all ones is NaN (OCP E4M3)
    FNUZ = "fnuz"  #: no infinity, no negative zero; 1000...0 is the one NaN
    FINITE = "finite"  #: every code is a number (OCP FP6, FP4)


@dataclass(frozen=True)
class FloatFormat(Codec):
    """A binary floating-point format: sign | exponent (w bits) | trailing significand (t bits).

    Every value fits binary64 exactly; a bias that would break this is refused.
    """

    exponent_bits: int  #: w, 2...11; 1 too where every code is a number: sign and magnitude
    trailing_bits: int  #: t = p - 1, 0...52
    specials: Specials = Specials.IEEE
    subnormals: bool = True  #: False (``ftz``): exponent field 0 denotes zero only
    bias: int | None = None  #: None: 2^(w-1) - 1, for fnuz 2^(w-1)
    saturate: bool = False  #: overflow and infinities go to +-max_finite

    def __post_init__(self) -> None:
        w, t = self.exponent_bits, self.trailing_bits
        if not ((1 if self.specials is Specials.FINITE else 2) <= w <= 11 and 0 <= t <= 52):
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

    @cached_property
    def precision(self) -> int:
        """p, the significand's bits including the hidden one."""
        return self.trailing_bits + 1

    @cached_property
    def sign_bit(self) -> int:
        """The code's bit that makes a value negative."""
        return 1 << (self.exponent_bits + self.trailing_bits)

    @cached_property
    def max_code(self) -> int:
        """The code of max_finite: codes 0 ... max_code are the non-negative numbers in ascending order."""
        reserved = {Specials.IEEE: 1 << self.trailing_bits, Specials.FN: 1}.get(self.specials, 0)
        return self.sign_bit - 1 - reserved

    @property
    def default_bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - (0 if self.specials is Specials.FNUZ else 1)

    @cached_property
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

    @cached_property
    def has_infinity(self) -> bool:
        return self.specials is Specials.IEEE

    @cached_property
    def has_nan(self) -> bool:
        return self.specials in (Specials.FN, Specials.FNUZ) or (
            self.specials is Specials.IEEE and self.trailing_bits > 0
        )

    @cached_property
    def has_negative_zero(self) -> bool:
        return self.specials is not Specials.FNUZ

    @cached_property
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

    def magnitude_code(self, significand: int, exponent: int) -> int:
        """The code of significand * 2^exponent, or a larger one than ``max_code`` if that lies beyond max_finite.

        ``significand`` has p bits, or less where ``exponent`` is that of min_subnormal, or is 2^p: codes are
        consecutive, so that the carry of a rounded significand lands in the exponent field as it should.
        """
        return (exponent + self.trailing_bits - self.emin << self.trailing_bits) + significand

    def unpack(self, code: int) -> Unpacked:
        """The exact datum that ``code`` (an int in [0, 2**bits)) denotes.

        A NaN of an IEEE format has its trailing field as significand, with exponent -t, so that the payload counts
        from the top whatever the width; the other formats have one NaN (``fn``: of either sign).
        """
        w, t = self.exponent_bits, self.trailing_bits
        negative = code >= self.sign_bit
        field = code >> t & ((1 << w) - 1)
        trailing = code & ((1 << t) - 1)
        if self.specials is Specials.FNUZ and code == self.nan_code:
            return Unpacked(Kind.NAN)
        if field == (1 << w) - 1:
            if self.specials is Specials.IEEE and trailing == 0:
                return Unpacked(Kind.INFINITY, negative)
            if self.specials is Specials.IEEE:
                return Unpacked(Kind.NAN, negative, trailing, -t, signaling=not trailing >> (t - 1) & 1)
            if self.specials is Specials.FN and trailing == (1 << t) - 1:
                return Unpacked(Kind.NAN, negative)
        if field == 0:
            significand = trailing if self.subnormals else 0
            negative = negative and (significand > 0 or self.has_negative_zero)
            return Unpacked(Kind.FINITE, negative, significand, self.emin - t)
        return Unpacked(Kind.FINITE, negative, trailing | 1 << t, field - 1 + self.emin - t)

    def pack(self, datum: Unpacked) -> int:
        """The code of a datum the format holds; the inverse of ``unpack``, but every NaN comes out quiet."""
        t = self.trailing_bits
        sign = self.sign_bit if datum.negative else 0
        if datum.kind is Kind.NAN:
            if self.specials is not Specials.IEEE:
                return self.nan_code
            return sign | self.nan_code | datum.significand << t >> -datum.exponent
        if datum.kind is Kind.INFINITY and self.has_infinity:
            return sign | self.max_code + 1
        if datum.is_zero and (self.has_negative_zero or not datum.negative):
            return sign
        if datum.kind is Kind.FINITE and datum.significand:
            exponent = max(datum.significand.bit_length() - 1 + datum.exponent, self.emin) - t
            shift = exponent - datum.exponent
            significand = datum.significand >> shift if shift > 0 else datum.significand << -shift
            code = self.magnitude_code(significand, exponent)
            if code <= self.max_code and self.unpack(sign | code).fraction == datum.fraction:
                return sign | code
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
