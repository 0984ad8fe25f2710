"""Fixed-point formats <IL,FL> (Gupta et al. 2015, arXiv:1502.02551)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from .codec import Codec, Kind, Unpacked, code_dtype, integer_array
from .errors import HalfulpError


@dataclass(frozen=True)
class FixedFormat(Codec):
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

    def to_integers(self, codes: ArrayLike) -> np.ndarray:
        """The integers value * 2^FL of codes of any shape, as int64 (unsigned: uint64); exact for every WL."""
        array = self.checked_codes(codes)
        above = np.uint64(64 - self.bits)
        return (array << above).view(np.int64) >> np.int64(above) if self.signed else array

    def from_integers(self, integers: ArrayLike) -> np.ndarray:
        """The codes, in the narrowest unsigned dtype, of integers in [min_integer, max_integer]: of value * 2^FL."""
        array = integer_array(integers, f"integers of {self}")
        if array.size and not (self.min_integer <= int(array.min()) and int(array.max()) <= self.max_integer):
            raise HalfulpError(f"integers of {self} must lie in [{self.min_integer}, {self.max_integer}].")
        codes = (array & ((1 << self.bits) - 1) if array.dtype.kind == "O" else array).astype(np.uint64)
        return (codes & np.uint64((1 << self.bits) - 1)).astype(code_dtype(self.bits))

    def for_add(self, other: FixedFormat) -> FixedFormat:
        """The narrowest format of every sum of a value of this format and one of ``other``."""
        fraction = max(self.fraction_bits, other.fraction_bits)
        a, b = fraction - self.fraction_bits, fraction - other.fraction_bits
        low = (self.min_integer << a) + (other.min_integer << b)
        high = (self.max_integer << a) + (other.max_integer << b)
        return self._covering(other, low, high, fraction, "sums")

    def for_mul(self, other: FixedFormat) -> FixedFormat:
        """The narrowest format of every product of a value of this format and one of ``other``."""
        return self.for_dot(other, 1)

    def for_dot(self, other: FixedFormat, terms: int) -> FixedFormat:
        """The narrowest format of every sum of ``terms`` products with values of ``other``; partial sums fit too."""
        if terms < 1:
            raise HalfulpError(f"a dot product needs at least 1 term, not {terms}.")
        ends = [a * b for a in (self.min_integer, self.max_integer) for b in (other.min_integer, other.max_integer)]
        fraction = self.fraction_bits + other.fraction_bits
        what = f"sums of {terms} products" if terms > 1 else "products"
        return self._covering(other, terms * min(ends), terms * max(ends), fraction, what)

    def _covering(self, other: FixedFormat, low: int, high: int, fraction: int, what: str) -> FixedFormat:
        """The narrowest format with the integers low ... high in units of 2^-fraction; signed if an operand is."""
        signed = self.signed or other.signed
        bits = max(max(~low, high).bit_length() + signed, 1)
        if bits > 64:
            raise HalfulpError(f"{what} of {self} and {other} need {bits} bits; a fixed-point format has at most 64.")
        return FixedFormat(bits - fraction, fraction, signed)

    def _check_carrier(self) -> None:
        if self.bits > 53:
            raise HalfulpError(
                f"{self} has {self.bits} bits; arrays carry values in binary64, which holds at most 53"
                " (to_integers and from_integers are exact)."
            )

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        self._check_carrier()
        return np.ldexp(self.to_integers(codes).astype(np.float64), -self.fraction_bits)

    def _encode(self, values: np.ndarray) -> np.ndarray:
        self._check_carrier()
        inside = np.clip(np.where(np.isnan(values), 0.0, values), self.min_finite, self.max_finite)
        scaled = np.ldexp(inside, self.fraction_bits)
        integers = np.clip(scaled, self.min_integer, self.max_integer).astype(np.int64)
        return self.from_integers(integers).astype(np.uint64)

    def __str__(self) -> str:
        return f"{'q' if self.signed else 'uq'}{self.integer_bits}.{self.fraction_bits}{'w' if self.wrap else ''}"
