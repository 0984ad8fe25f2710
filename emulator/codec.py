"""What all number formats share: exact data, and codes to and from arrays of values."""

from __future__ import annotations

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
    """An exact datum, as a hardware unpacker would hand it on: (-1)^negative * significand * 2^exponent.

    Of a NaN, significand * 2^exponent in [0, 1) is its payload: the trailing significand field, read as a fraction.
    """

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
        if array.dtype.kind not in "biufO" or (array.dtype.kind == "O" and None in array.ravel()):
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


def integer_array(values: ArrayLike, what: str) -> np.ndarray:
    """``values`` as an array of integers (of objects, where they come as Python integers); anything else is refused."""
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    whole = (isinstance(value, Integral) and not isinstance(value, bool) for value in array.flat)
    if array.dtype.kind == "O" and not all(whole):
        raise HalfulpError(f"{what} must be integers.")
    if array.dtype.kind not in "uiO":
        raise HalfulpError(f"{what} must be integers, not {array.dtype}.")
    return array


def code_dtype(bits: int) -> type[np.unsignedinteger]:
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32 if bits <= 32 else np.uint64


class Codec:
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
        return self._decode(self.checked_codes(codes))

    def checked_codes(self, codes: ArrayLike) -> np.ndarray:
        """Codes as a uint64 array of the same shape, each checked to be an integer in [0, 2**bits)."""
        array = integer_array(codes, f"codes of {self}")
        if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << self.bits):
            raise HalfulpError(f"codes of {self} must lie in [0, 2**{self.bits}).")
        return array.astype(np.uint64)

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
        return codes.astype(code_dtype(self.bits))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _encode(self, values: np.ndarray) -> np.ndarray:
        raise NotImplementedError
