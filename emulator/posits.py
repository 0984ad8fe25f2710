"""Posits. Source: Standard for Posit Arithmetic (2022), Posit Working Group, posithub.org/docs/posit_standard-2.pdf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .codec import Codec, Kind, Unpacked
from .errors import HalfulpError

_ONE = np.uint64(1)


@dataclass(frozen=True)
class PositFormat(Codec):
    """A posit: sign | regime (a run of equal bits and its end) | exponent (es bits) | fraction, in n bits.

    A run of r + 1 ones is regime r, a run of r zeros regime -r; the value is 2^(r 2^es + exponent) * 1.fraction. What
    the regime pushes out of the n bits is zero. Negative posits are the two's complement of their magnitude, so that
    codes read as signed integers order the values. 0 is the only zero and 100...0 is NaR, the only datum that is not
    a number. The standard has es = 2; SoftPosit's older posit8 and posit16 have es = 0 and 1.
    """

    bits: int  #: n, 3...64
    exponent_bits: int = 2  #: es, 0...5

    has_infinity = False
    has_nan = True
    has_negative_zero = False

    def __post_init__(self) -> None:
        if not (3 <= self.bits <= 64 and 0 <= self.exponent_bits <= 5):
            raise HalfulpError(f"{self}: posits have 3 to 64 bits and es = 0...5.")
        if self.emax > 1022:
            raise HalfulpError(f"{self} has values that binary64 cannot hold: (n - 2) * 2^es is at most 1022.")

    @property
    def precision(self) -> int:
        """The significand's bits next to 1, where it has most: n - 2 - es, at least the hidden one."""
        return max(1, self.bits - 2 - self.exponent_bits)

    @property
    def emax(self) -> int:
        """Exponent of maxpos."""
        return (self.bits - 2) << self.exponent_bits

    @property
    def emin(self) -> int:
        """Exponent of minpos."""
        return -self.emax

    @property
    def quantum_exponent(self) -> int:
        """Exponent of minpos, of which every value is a multiple."""
        return self.emin

    @property
    def max_finite(self) -> float:
        """maxpos."""
        return 2.0**self.emax

    @property
    def min_finite(self) -> float:
        return -self.max_finite

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value, minpos."""
        return 2.0**self.emin

    @property
    def max_code(self) -> int:
        """The code of maxpos; that of minpos is 1."""
        return (1 << (self.bits - 1)) - 1

    @property
    def nan_code(self) -> int:
        """NaR."""
        return 1 << (self.bits - 1)

    def with_sign(self, code: int, negative: bool) -> int:
        """``code``, or its two's complement."""
        return -code & ((1 << self.bits) - 1) if negative else code

    def unpack(self, code: int) -> Unpacked:
        """The exact datum that ``code`` (an int in [0, 2**bits)) denotes; NaR is a quiet NaN."""
        if code == self.nan_code:
            return Unpacked(Kind.NAN)
        if code == 0:
            return Unpacked(Kind.FINITE)
        negative = code > self.max_code
        magnitude = self.with_sign(code, negative)
        ones = magnitude >> (self.bits - 2) == 1
        run = self.bits - 1 - (magnitude ^ self.max_code if ones else magnitude).bit_length()
        width = max(self.bits - 2 - run, 0)  # of what follows the regime and its end
        exponent, fraction = divmod((magnitude & ((1 << width) - 1)) << self.exponent_bits, 1 << width)
        exponent += (run - 1 if ones else -run) << self.exponent_bits
        return Unpacked(Kind.FINITE, negative, 1 << width | fraction, exponent - width)

    def body(self, datum: Unpacked) -> Unpacked:
        """The code of a finite non-zero datum's magnitude as a real number, its sign kept.

        The bits of regime, exponent and fraction are written out without end; the first n - 1 of them are the integer
        part, which is the code, and what n bits cut off is the fraction. Rounding a posit is rounding this number to
        an integer: halfway between two codes stands the posit of n + 1 bits between them, as the standard has it.
        """
        length = datum.significand.bit_length() - 1
        regime, exponent = divmod(datum.exponent + length, 1 << self.exponent_bits)
        run, width = ((4 << regime) - 2, regime + 2) if regime >= 0 else (1, 1 - regime)
        string = (run << self.exponent_bits | exponent) << length | datum.significand ^ (1 << length)
        return Unpacked(Kind.FINITE, datum.negative, string, self.bits - 1 - width - self.exponent_bits - length)

    def pack(self, datum: Unpacked) -> int:
        """The code of a datum the format holds."""
        if datum.kind is Kind.NAN:
            return self.nan_code
        if datum.is_zero and not datum.negative:
            return 0
        if datum.kind is Kind.FINITE and datum.significand:
            code = abs(self.body(datum).fraction)
            if code.denominator == 1 and 1 <= code <= self.max_code:
                return self.with_sign(code.numerator, datum.negative)
        raise HalfulpError(f"{float(datum)!r} is not a value of {self}: quantize it first.")

    def _check_carrier(self) -> None:
        if self.precision > 53:
            raise HalfulpError(
                f"{self} has significands of {self.precision} bits; arrays carry values in binary64, which holds 53."
            )

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        self._check_carrier()
        n, es = self.bits, self.exponent_bits
        negative = codes > np.uint64(self.max_code)
        string = np.where(negative, np.negative(codes), codes) << np.uint64(65 - n)  # regime at the top of 64 bits
        ones = string >> np.uint64(63) == 1
        run = _leading_zeros(np.where(ones, ~string, string))
        rest = string << np.minimum(run, 62).astype(np.uint64) << _ONE
        exponent = (np.where(ones, run - 1, -run) << es) + (rest >> _ONE >> np.uint64(63 - es)).astype(np.int64)
        significand = (rest << np.uint64(es)) >> _ONE | np.uint64(1 << 63)
        values = np.ldexp(significand.astype(np.float64), exponent - 63)
        values = np.where(codes == 0, 0.0, np.where(negative, -values, values))
        return np.where(codes == np.uint64(self.nan_code), np.nan, values)

    def bodies(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``body`` of every value's magnitude: integer parts, and fractions in units of 2^-64, exact, both uint64.

        What is not between minpos and maxpos in magnitude (infinities, NaNs and zeros, too) becomes one of them.
        """
        self._check_carrier()
        n, es = self.bits, self.exponent_bits
        magnitude = np.clip(np.nan_to_num(np.abs(values)), self.min_subnormal, self.max_finite)
        fraction, exponent = np.frexp(magnitude)
        exponent = exponent.astype(np.int64) - 1
        regime, exponent = exponent >> es, exponent & ((1 << es) - 1)
        trailing = np.ldexp(fraction, 53).astype(np.int64) & ((1 << 52) - 1)
        rest = (exponent << 52 | trailing).astype(np.uint64) << np.uint64(12 - es)
        up = regime >= 0
        run = np.where(up, (np.uint64(4) << np.where(up, regime, 0).astype(np.uint64)) - np.uint64(2), _ONE)
        room = np.maximum(np.where(up, n - 3 - regime, n - 2 + regime), 0).astype(np.uint64)  # for what follows it
        whole = run << room | rest >> _ONE >> (np.uint64(63) - room)
        return np.minimum(whole, np.uint64(self.max_code)), rest << room

    def codes_of(self, values: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        """Codes from magnitudes' codes, with the signs and zeros of ``values``, and NaR where they are not finite."""
        mask = np.uint64((1 << self.bits) - 1)
        codes = np.where(values < 0, np.negative(magnitudes) & mask, magnitudes)
        return np.where(np.isfinite(values), np.where(values == 0, np.uint64(0), codes), np.uint64(self.nan_code))

    def _encode(self, values: np.ndarray) -> np.ndarray:
        return self.codes_of(values, self.bodies(values)[0])

    def __str__(self) -> str:
        return f"posit{self.bits}" if self.exponent_bits == 2 else f"posit<{self.bits},{self.exponent_bits}>"


def _leading_zeros(words: np.ndarray) -> np.ndarray:
    """Zeros above the highest one of each uint64 word, 64 for 0."""
    high, low = words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)  # halves fit binary64
    return np.where(high > 0, 32 - np.frexp(high.astype(np.float64))[1], 64 - np.frexp(low.astype(np.float64))[1])
