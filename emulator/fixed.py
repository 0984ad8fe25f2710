"""Fixed-point formats <IL,FL> (Gupta et al. 2015, arXiv:1502.02551)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .codec import Codec, Kind, Unpacked
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
