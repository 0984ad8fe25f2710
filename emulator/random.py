"""Random bits by position: Philox4x32-10 (Salmon et al., SC 2011, doi:10.1145/2063384.2063405), or hardware's LFSRs.

The bits depend on (seed, stream, element, step) and on nothing else, so that every backend and every number
of threads draws the same ones. A Machine opens one *call* per operation; a call owns one stream per role.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from math import gcd
from typing import Protocol

from .errors import HalfulpError

_WORD = 0xFFFFFFFF
RUN = 16  #: consecutive elements that take the same piece of consecutive blocks
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)


class Role(IntEnum):
    """Which rounding unit of a call draws."""

    A = 0
    B = 1
    PRODUCT = 2
    ACCUMULATOR = 3
    OUTPUT = 4
    C = 5


def stream(call: int, role: Role, unit: int = 0) -> int:
    """Number of the stream that ``role`` draws from in the ``call``-th operation of a unit.

    ``unit`` (0...15) tells apart machines that share a seed; ``call`` is below 2^33.
    """
    return unit << 36 | call << 3 | role


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & _WORD, p0 >> 32 ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + WEYL[0]) & _WORD, (k1 + WEYL[1]) & _WORD
    return c0, c1, c2, c3


def piece_bits(k: int) -> int:
    """Bits of a Philox word that a draw of k bits uses up: 8, 16 or 32."""
    return 8 if k <= 8 else 16 if k <= 16 else 32


def random_bits(seed: int, stream: int, element: int, step: int, k: int) -> int:
    """The k random bits (1...32) drawn for one rounding: an integer in [0, 2^k).

    They are the top k bits of a piece of 8, 16 or 32 bits, the narrowest that has so many, of a Philox block of four
    words. Pieces are dealt out in runs: of a group of elements that share 16 blocks, the i-th run of 16 takes the i-th
    piece of each, so that vector units draw a group at a time.
    ``element`` is the flat index in the result, ``step`` the position in the sum; both are below 2^40, as is
    ``stream``; ``seed`` lies in [0, 2^62).
    """
    width = piece_bits(k)
    group, place = divmod(element, RUN * 128 // width)
    piece, lane = divmod(place, RUN)
    block = group * RUN + lane
    counter = (step & _WORD, block & _WORD, stream & _WORD, block >> 32 | (stream >> 32) << 8 | (step >> 32) << 16)
    word = philox4x32(counter, (seed & _WORD, seed >> 32 & _WORD))[piece & 3]
    return word >> (32 - width * (piece >> 2) - k) & ((1 << k) - 1)


class Source(Hashable, Protocol):
    """Where the random bits of stochastic rounding come from; ``source`` finds one by name."""

    def random_bits(self, seed: int, stream: int, element: int, step: int, k: int) -> int:
        """The k random bits drawn for one rounding; the arguments as in the function ``random_bits``."""
        ...


@dataclass(frozen=True)
class Philox:
    """The default source: independent bits for every rounding."""

    def random_bits(self, seed: int, stream: int, element: int, step: int, k: int) -> int:
        return random_bits(seed, stream, element, step, k)

    def __str__(self) -> str:
        return "philox"


#: Taps of a maximal-length LFSR of each width: exponents of a primitive polynomial between its x^width and 1.
#: P. Alfke, "Efficient Shift Registers, LFSR Counters, and Long Pseudo-Random Sequence Generators", Xilinx XAPP 052.
TAPS = {
    **{2: (1,), 3: (2,), 4: (3,), 5: (3,), 6: (5,), 7: (6,), 8: (6, 5, 4), 9: (5,), 10: (7,), 11: (9,)},
    **{12: (6, 4, 1), 13: (4, 3, 1), 14: (5, 3, 1), 15: (14,), 16: (15, 13, 4), 17: (14,), 18: (11,), 19: (6, 2, 1)},
    **{20: (17,), 21: (19,), 22: (21,), 23: (18,), 24: (23, 22, 17), 25: (22,), 26: (6, 2, 1), 27: (5, 2, 1)},
    **{28: (25,), 29: (27,), 30: (6, 4, 1), 31: (28,), 32: (22, 2, 1)},
}


@dataclass(frozen=True)
class LFSR:
    """Linear feedback shift registers in Galois form, as hardware has them: cheap, short and correlated.

    The state is a polynomial over GF(2), bit i the coefficient of x^i; a clock multiplies it by x modulo
    ``polynomial``. Step t of a sum draws the top k bits of its register after t * ``clocks`` clocks: with one clock,
    k - 1 of the bits are those of the step before. The state is never 0.

    A unit of hardware with an LFSR of its own (``rtl.design``) steps it at each of its clocks; ``units`` is then a
    matter of the states that are loaded.

    Element i of a result draws from register i mod ``units``: 1 shares one register among all, N has one for each
    column of an N-column array, None one for each element. Register u of a stream starts
    stride * ((s * 2^40 + stream) * units + u) mod (2^width - 1) clocks after the state ``seed``; s is the seed of the
    run, and units = None counts as 2^40. As the stride is coprime to 2^width - 1, the first 2^width - 1 registers of
    a stream start in different states, far apart on one cycle, if the polynomial is primitive, as the tabled ones are.
    """

    width: int  #: bits of the state, 2...32
    polynomial: int = None  # type: ignore[assignment]  #: bits 0...width, both ends set; None: the one of ``TAPS``
    seed: int = 1  #: a state, not 0
    units: int | None = None
    clocks: int = 1  #: a draw

    def __post_init__(self) -> None:
        numbers = (self.width, self.seed, self.clocks, *filter(None, (self.polynomial, self.units)))
        if not all(isinstance(x, int) and 0 <= x < 1 << 40 for x in numbers):
            raise HalfulpError("what an LFSR is described by are integers below 2**40.")
        if self.width not in TAPS:
            raise HalfulpError(f"an LFSR has 2 to 32 bits, not {self.width}.")
        if self.polynomial is None:
            object.__setattr__(self, "polynomial", 1 << self.width | sum(1 << tap for tap in TAPS[self.width]) | 1)
        if self.polynomial >> self.width != 1 or not self.polynomial & 1:
            raise HalfulpError(f"the polynomial of a {self.width}-bit LFSR has x^{self.width}, 1 and nothing above.")
        if not 0 < self.seed < 1 << self.width:
            raise HalfulpError(f"the seed of a {self.width}-bit LFSR lies in 1...2**{self.width} - 1.")
        if self.clocks < 1 or (self.units is not None and self.units < 1):
            raise HalfulpError("an LFSR has at least one unit, and at least one clock a draw.")

    @cached_property
    def stride(self) -> int:
        """Clocks between the starts of neighbouring registers: near the golden section of 2^width - 1."""
        period = (1 << self.width) - 1
        first = period * 0x9E3779B9 >> 32
        return next(stride for stride in range(max(first, 1), period) if gcd(stride, period) == 1)

    def _times(self, a: int, b: int) -> int:
        """The product of two states."""
        product = 0
        while b:
            product ^= a * (b & 1)
            a <<= 1
            a ^= self.polynomial * (a >> self.width)
            b >>= 1
        return product

    def after(self, clocks: int, state: int | None = None) -> int:
        """The state after ``clocks`` clocks from ``state`` (None: ``seed``): state * x^clocks, by squaring."""
        state, power = self.seed if state is None else state, 2
        while clocks:
            if clocks & 1:
                state = self._times(state, power)
            power = self._times(power, power)
            clocks >>= 1
        return state

    @property
    def taps(self) -> list[list[int]]:
        """By bit of the state after a draw's clocks, the bits of the state before that it is the exclusive or of."""
        columns = [self.after(self.clocks, 1 << j) for j in range(self.width)]
        return [[j for j in range(self.width) if columns[j] >> i & 1] for i in range(self.width)]

    def state(self, seed: int, stream: int, element: int, step: int) -> int:
        """The state that ``random_bits`` draws from; step 0 gives what to load into a register at reset."""
        units = 1 << 40 if self.units is None else self.units
        register = (seed << 40 | stream) * units + element % units
        return self.after(self.stride * register % ((1 << self.width) - 1) + self.clocks * step)

    def states(self, loads: Iterable[int | None]) -> Iterator[int]:
        """The states that a unit draws from, clock by clock: what is loaded then, or, None, what follows."""
        state = self.seed
        for load in loads:
            state = state if load is None else load
            yield state
            state = self.after(self.clocks, state)

    def deal(self, state: int, bits: Sequence[int]) -> list[int]:
        """The draws from one state: its top sum(bits) bits, dealt out from the lowest of them on."""
        total = sum(bits)
        if not 1 <= total <= self.width:
            raise HalfulpError(f"a {self.width}-bit LFSR gives at most {self.width} random bits, not {total}.")
        word, words = state >> self.width - total, []
        for k in bits:
            words.append(word & (1 << k) - 1)
            word >>= k
        return words

    def random_bits(self, seed: int, stream: int, element: int, step: int, k: int) -> int:
        (word,) = self.deal(self.state(seed, stream, element, step), [k])
        return word

    def __str__(self) -> str:
        default = LFSR(self.width)
        parts = [f"lfsr{self.width}"]
        parts += [f"polynomial={self.polynomial:#x}"] if self.polynomial != default.polynomial else []
        parts += [f"seed={self.seed:#x}"] if self.seed != default.seed else []
        parts += [f"units={self.units}"] if self.units is not None else []
        return ":".join(parts + ([f"clocks={self.clocks}"] if self.clocks != 1 else []))


def source(text: str | Source) -> Source:
    """The source that ``text`` names: ``philox``, or ``lfsr<width>`` followed by ``:field=integer`` as often as needed.

    ``lfsr16``; ``lfsr16:units=8`` (shared by column); ``lfsr8:polynomial=0x11d:seed=0x5a:units=1:clocks=8``.
    """
    if isinstance(text, (Philox, LFSR)):
        return text
    text = str(text)
    name, *options = text.strip().lower().split(":")
    if name == "philox" and not options:
        return Philox()
    fields = dict(option.partition("=")[::2] for option in options)
    try:
        if name.startswith("lfsr") and len(fields) == len(options):
            return LFSR(int(name[4:]), **{field: int(value, 0) for field, value in fields.items()})
    except (TypeError, ValueError):
        pass
    raise HalfulpError(
        f"unknown random source {text!r}: use philox or lfsr<width>[:polynomial=..][:seed=..][:units=..][:clocks=..]."
    )
