"""Rounding: how an exact result becomes one of its two neighbours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from .errors import HalfulpError


class Mode(Enum):
    """Rounding attributes, named as in the field (IEEE 754-2019 section 4.3; RTO: Boldo & Melquiond 2008; RND:
    SystemC's SC_RND_MIN_INF, IEEE 1666)."""

    RNE = "RNE"  #: to nearest, ties to even
    RNA = "RNA"  #: to nearest, ties away from zero
    RND = "RND"  #: to nearest, ties down, toward -infinity
    RTZ = "RTZ"  #: toward zero
    RTP = "RTP"  #: toward +infinity
    RTN = "RTN"  #: toward -infinity
    RTO = "RTO"  #: inexact results to the neighbour with an odd significand
    SR = "SR"  #: stochastic


@dataclass(frozen=True)
class Rounding:
    """A rounding mode; SR carries its number of random bits k.

    SR adds a random integer r in [0, 2^k) to the first k bits below the last kept bit of the magnitude and
    keeps the carry: it rounds the magnitude up if and only if floor(f * 2^k) + r >= 2^k, f being the part cut
    off in units of the last kept bit. Bits further down are dropped, as in hardware, so that the chance of
    rounding up is floor(f * 2^k) / 2^k, less than f by half of 2^-k on average. ``corrected`` takes that bias away:
    f * 2^k is first rounded to the nearest integer, ties to even, where plain SR takes its floor (Fitzgibbon & Felix,
    "On stochastic rounding with few random bits", arXiv:2504.20634; P3109's StochasticC and StochasticA).
    """

    mode: Mode
    random_bits: int = 0  #: k, 1...32 for SR, otherwise 0
    corrected: bool = False  #: SR without bias

    def __post_init__(self) -> None:
        if self.mode is Mode.SR and not 1 <= self.random_bits <= 32:
            raise HalfulpError(f"SR needs 1 to 32 random bits, not {self.random_bits}.")
        if self.mode is not Mode.SR and (self.random_bits or self.corrected):
            raise HalfulpError(f"{self.mode.value} takes no random bits.")

    def check(self, random: int) -> None:
        """Refuse a random integer that does not have k bits; other modes than SR take any, and ignore it."""
        if self.random_bits and not 0 <= random < 1 << self.random_bits:
            raise HalfulpError(f"{self} takes a random integer below 2**{self.random_bits}, not {random}.")

    @classmethod
    def parse(cls, text: str | Rounding) -> Rounding:
        """``"RNE"`` ... ``"RTO"``, ``"SR8"`` or ``"SR(bits=8)"``, corrected ``"SR8c"``; without a number, 32 bits."""
        if isinstance(text, Rounding):
            return text
        match = re.fullmatch(r"(?i)SR(?:\((?:bits=)?(\d+)\)|(\d+))?(c?)", str(text).strip())
        if match:
            return cls(Mode.SR, int(match[1] or match[2] or 32), bool(match[3]))
        try:
            return cls(Mode(str(text).strip().upper()))
        except ValueError:
            raise HalfulpError(
                f"unknown rounding {text!r}: use RNE, RNA, RND, RTZ, RTP, RTN, RTO, or SR<k>, SR<k>c with k = 1...32."
            ) from None

    def __str__(self) -> str:
        return f"SR{self.random_bits}{'c' if self.corrected else ''}" if self.mode is Mode.SR else self.mode.value


RNE, RNA, RND, RTZ, RTP, RTN, RTO = (Rounding(mode) for mode in Mode if mode is not Mode.SR)


def SR(bits: int, corrected: bool = False) -> Rounding:
    """Stochastic rounding with ``bits`` random bits, 1...32."""
    return Rounding(Mode.SR, bits, corrected)
