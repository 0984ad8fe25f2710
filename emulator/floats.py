"""Floating-point formats.

Sources: IEEE 754-2019; OCP OFP8 v1.0 and MX v1.0 (``fn``, ``finite``, E8M0); Noune et al., arXiv:2206.02915 (``fnuz``);
IEEE P3109 interim report v3.2 (binary<K>p<P>{s,u}{e,f}: signed or unsigned, extended or finite).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from .codec import Codec, Kind, Unpacked
from .errors import HalfulpError


class Specials(Enum):
    """Which codes of a float format are not numbers."""

    IEEE = ""  #: exponent all ones: infinity (trailing bits 0) and NaNs
    FN = "fn"  #: no infinity; only all ones is NaN (OCP E4M3, E8M0)
    FNUZ = "fnuz"  #: no infinity, no -0; its code 1000...0 is the one NaN (unsigned: 111...1). P3109's finite formats
    EXTENDED = "extended"  #: as FNUZ, but the last code below NaN (of each sign) is infinity. P3109's extended formats
    FINITE = "finite"  #: every code is a number (OCP FP6, FP4)


@dataclass(frozen=True)
class FloatFormat(Codec):
    """A binary floating-point format: [sign] | exponent (w bits) | trailing significand (t bits).

    The codes of the non-negative numbers, 0 ... ``max_code``, ascend with their values. Every value fits binary64
    exactly; a bias that would break this is refused.
    """

    exponent_bits: int  #: w, 1...11
    trailing_bits: int  #: t = p - 1, 0...52
    specials: Specials = Specials.IEEE
    subnormals: bool = True  #: False (``ftz``): exponent field 0 denotes zero only
    bias: int = None  # type: ignore[assignment]  #: None: ``default_bias``
    saturate: bool = False  #: overflow and infinities go to the largest finite value of their sign
    signed: bool = True

    def __post_init__(self) -> None:
        w, t = self.exponent_bits, self.trailing_bits
        if not (isinstance(w, int) and isinstance(t, int) and isinstance(self.specials, Specials)):
            raise HalfulpError(
                "a FloatFormat has integers for fields and Specials; hu.format('e5m10') makes one by name."
            )
        if self.bias is None:
            object.__setattr__(self, "bias", self.default_bias)
        if not self.signed and self.specials is Specials.IEEE:
            raise HalfulpError(f"an unsigned e{w}m{t} has no IEEE 754 layout: its specials are fn, fnuz or finite.")
        if not (1 <= w <= 11 and 0 <= t <= 52) or self.max_code < self.min_normal_code:
            raise HalfulpError(f"{self} is outside e2m0 ... e11m52 (without an infinity, w = 1 will also do).")
        lowest = self.emin - (t if self.subnormals else 0)
        if self.emax > 1023 or lowest < -1074 or (not self.subnormals and self.emin < -1022):
            raise HalfulpError(f"{self} has values that binary64 cannot hold; choose another bias than {self.bias}.")

    @property
    def default_bias(self) -> int:
        p3109 = self.specials in (Specials.FNUZ, Specials.EXTENDED)
        return (1 << self.exponent_bits >> 1) - (0 if p3109 else 1)

    @property
    def bits(self) -> int:  # type: ignore[override]
        return self.signed + self.exponent_bits + self.trailing_bits

    @cached_property
    def precision(self) -> int:
        """p, the significand's bits including the hidden one."""
        return self.trailing_bits + 1

    @cached_property
    def has_zero(self) -> bool:
        """False of OCP's scale type E8M0 and its like: exponent field 0 is a binade as any other."""
        return self.signed or self.trailing_bits > 0 or self.specials is not Specials.FN

    @cached_property
    def has_negative_zero(self) -> bool:
        return self.signed and self.specials not in (Specials.FNUZ, Specials.EXTENDED)

    @cached_property
    def has_infinity(self) -> bool:
        return self.specials in (Specials.IEEE, Specials.EXTENDED)

    @cached_property
    def has_nan(self) -> bool:
        return self.specials is not Specials.FINITE and (self.specials is not Specials.IEEE or self.trailing_bits > 0)

    @cached_property
    def sign_bit(self) -> int:
        """From this code on values are negative; an unsigned format ends below it."""
        return 1 << (self.exponent_bits + self.trailing_bits)

    @cached_property
    def max_code(self) -> int:
        """The code of max_finite. Infinity, where there is one, comes next."""
        reserved = {
            Specials.IEEE: 1 << self.trailing_bits,
            Specials.FN: 1,
            Specials.FNUZ: 0 if self.signed else 1,
            Specials.EXTENDED: 1 if self.signed else 2,
            Specials.FINITE: 0,
        }
        return self.sign_bit - 1 - reserved[self.specials]

    @property
    def min_normal_code(self) -> int:
        return 1 << self.trailing_bits if self.has_zero else 0

    @cached_property
    def nan_code(self) -> int:
        """The canonical NaN (quiet, positive where signs exist)."""
        if not self.has_nan:
            raise HalfulpError(f"{self} has no NaN.")
        if self.specials is Specials.IEEE:
            return self.max_code + 1 | 1 << (self.trailing_bits - 1)
        lone = self.signed and not self.has_negative_zero
        return self.sign_bit if lone else self.sign_bit - 1

    @cached_property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return (1 if self.has_zero else 0) - self.bias

    @cached_property
    def emax(self) -> int:
        """Exponent of max_finite."""
        return (self.max_code - self.min_normal_code >> self.trailing_bits) + self.emin

    @property
    def quantum_exponent(self) -> int | None:
        """Exponent of the weight below which no digit is kept; None where subnormals are absent."""
        return self.emin - self.trailing_bits if self.subnormals else None

    @property
    def max_finite(self) -> float:
        return float(self.unpack(self.max_code))

    @property
    def min_finite(self) -> float:
        return -self.max_finite if self.signed else float(self.unpack(0))

    @property
    def min_normal(self) -> float:
        return 2.0**self.emin

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value."""
        return 2.0 ** (self.emin - self.trailing_bits) if self.subnormals else self.min_normal

    def magnitude_code(self, significand: int, exponent: int) -> int:
        """The code of significand * 2^exponent, or a larger one than ``max_code`` if that lies beyond max_finite.

        ``significand`` has p bits, or less where ``exponent`` is that of min_subnormal, or is 2^p: codes are
        consecutive, so that the carry of a rounded significand lands in the exponent field as it should.
        Arrays of int64 will do.
        """
        t = self.trailing_bits
        return (exponent + t - self.emin << t) + significand - (1 << t) + self.min_normal_code

    def parity(self, exponent: int) -> int:
        """What the exponent adds to the parity of a significand when ties go to even, or results to odd.

        P3109 asks for the parity of the code, which differs where p = 1. IEEE 754-2019 (section 4.3.1) asks for that
        of the significand: with p = 1, where both neighbours are odd, ties go to the larger magnitude.
        """
        by_code = self.trailing_bits == 0 and self.specials in (Specials.FNUZ, Specials.EXTENDED)
        return exponent - self.emin & 1 if by_code else 0

    def unpack(self, code: int) -> Unpacked:
        """The exact datum that ``code`` (an int in [0, 2**bits)) denotes.

        A NaN of an IEEE format has its trailing field as significand, with exponent -t, so that the payload counts
        from the top whatever the width; the other formats have one NaN (``fn``: of either sign).
        """
        t = self.trailing_bits
        negative = code >= self.sign_bit
        magnitude = code & (self.sign_bit - 1)
        if magnitude > self.max_code:
            return self._unpack_special(negative, magnitude)
        field, lowest = magnitude >> t, self.emin - t
        if self.has_zero:
            if not field:
                if negative and not magnitude and not self.has_negative_zero:
                    return Unpacked(Kind.NAN)
                significand = magnitude if self.subnormals else 0
                return Unpacked(
                    Kind.FINITE, negative and (significand > 0 or self.has_negative_zero), significand, lowest
                )
            field -= 1
        return Unpacked(Kind.FINITE, negative, magnitude & ((1 << t) - 1) | 1 << t, lowest + field)

    def _unpack_special(self, negative: bool, magnitude: int) -> Unpacked:
        if self.has_infinity and magnitude == self.max_code + 1:
            return Unpacked(Kind.INFINITY, negative)
        if self.specials is not Specials.IEEE:
            return Unpacked(Kind.NAN, negative)
        t = self.trailing_bits
        trailing = magnitude & ((1 << t) - 1)
        return Unpacked(Kind.NAN, negative, trailing, -t, signaling=not trailing >> (t - 1))

    def pack(self, datum: Unpacked) -> int:
        """The code of a datum the format holds; the inverse of ``unpack``, but every NaN comes out quiet."""
        t = self.trailing_bits
        sign = self.sign_bit if datum.negative else 0
        if datum.kind is Kind.NAN:
            payload = datum.significand << t >> -datum.exponent
            return sign | self.nan_code | payload if self.specials is Specials.IEEE else self.nan_code
        if not datum.negative or (self.signed and (self.has_negative_zero or not datum.is_zero)):
            if datum.kind is Kind.INFINITY and self.has_infinity:
                return sign | self.max_code + 1
            if datum.is_zero and self.has_zero:
                return sign
            if datum.kind is Kind.FINITE and not datum.is_zero:
                exponent = max(datum.significand.bit_length() - 1 + datum.exponent, self.emin) - t
                shift = exponent - datum.exponent
                significand = datum.significand >> shift if shift > 0 else datum.significand << -shift
                code = self.magnitude_code(significand, exponent)
                if 0 <= code <= self.max_code and self.unpack(sign | code).fraction == datum.fraction:
                    return sign | code
        raise HalfulpError(f"{float(datum)!r} is not a value of {self}: quantize it first.")

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        t = self.trailing_bits
        magnitude = (codes & np.uint64(self.sign_bit - 1)).astype(np.int64)
        trailing = magnitude & ((1 << t) - 1)
        normal = magnitude >= self.min_normal_code
        significand = np.where(normal, trailing | 1 << t, trailing if self.subnormals else 0)
        binade = np.clip(magnitude - self.min_normal_code >> t, 0, self.emax - self.emin)
        values = np.ldexp(significand.astype(np.float64), binade + self.emin - t)
        values = np.where(magnitude > self.max_code, np.nan, values)
        if self.has_infinity:
            values = np.where(magnitude == self.max_code + 1, np.inf, values)
        negative = codes >= np.uint64(self.sign_bit)
        if not self.has_negative_zero:
            negative &= values != 0
        values = np.where(negative, -values, values)
        return np.where(codes == self.nan_code, np.nan, values) if self.has_nan else values

    def _encode(self, values: np.ndarray) -> np.ndarray:
        t = self.trailing_bits
        magnitude = np.where(np.isfinite(values), np.abs(values), 0.0)
        exponent = np.clip(np.frexp(magnitude)[1].astype(np.int64) - 1, self.emin, self.emax)
        exponent = np.where(magnitude == 0, self.emin, exponent)
        # two steps, so that the power of two stays in range; a misfit is found by decoding again
        significand = np.ldexp(np.ldexp(magnitude, -(exponent // 2)), t - (exponent - exponent // 2))
        significand = np.minimum(significand, 2.0 ** (t + 1) - 1).astype(np.int64)
        code = np.maximum(self.magnitude_code(significand, exponent - t), 0)  # type: ignore[arg-type]
        if self.has_infinity:
            code = np.where(np.isinf(values), self.max_code + 1, code)
        codes = code.astype(np.uint64)
        if self.signed:
            codes = np.where(np.signbit(values), codes | np.uint64(self.sign_bit), codes)
        return np.where(np.isnan(values), np.uint64(self.nan_code), codes) if self.has_nan else codes

    def __str__(self) -> str:
        w, t = self.exponent_bits, self.trailing_bits
        if self.specials is Specials.EXTENDED or (self.specials is Specials.FNUZ and not self.signed):
            domain = "e" if self.specials is Specials.EXTENDED else "f"
            name = f"binary{self.bits}p{self.precision}{'s' if self.signed else 'u'}{domain}"
        elif self.signed:  # e8m0 without a letter is OCP's scale
            name = f"{'s' if (w, t) == (8, 0) else ''}e{w}m{t}{self.specials.value}"
        else:
            name = f"ue{w}m{t}{'' if self.specials is Specials.FN else self.specials.value}"
        name += "" if self.subnormals else "ftz"
        name += "" if self.bias == self.default_bias else f"b{self.bias}"
        return name + ("sat" if self.saturate else "")
