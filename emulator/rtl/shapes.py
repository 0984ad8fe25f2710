"""Shapes: how wide the numbers between the parts of a unit are, so that nothing is lost that a rounding could see.

A number in a unit is a sign and magnitude * 2^(base + offset). The magnitude and the offset are signals; everything
else about it is known beforehand, and is its ``Shape``. The generator builds hardware of these widths and the cost
model prices them; neither holds a width of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import HalfulpError
from ..formats import FixedFormat, FloatFormat, Format, PositFormat
from ..rounding import Mode, Rounding

WIDEST = 1200  #: bits of the widest sum that we make hardware of


@dataclass(frozen=True)
class Shape:
    """What is known beforehand of a number sign, magnitude * 2^(base + offset)."""

    bits: int  #: of the magnitude
    base: int  #: exponent of the magnitude's last bit at offset 0
    lowest: int = 0  #: least offset of a number that is not 0
    highest: int = 0  #: largest offset of a number
    #: Pairs (z, h): numbers whose magnitude begins with up to z zeros; their offset is at most h.
    zeros: tuple[tuple[int, int], ...] = ((0, 0),)
    negative: bool = True  #: whether there are negative ones
    nan: bool = False
    infinity: bool = False
    led_from: int | None = None  #: ``last`` of what has been shifted up, and has zeros there now

    @property
    def top(self) -> int:
        """Exponent of the magnitude's first bit at offset 0."""
        return self.base + self.bits - 1

    @property
    def offset_bits(self) -> int:
        return self.highest.bit_length()

    @property
    def last(self) -> int:
        """Exponent of the last bit that a number can have."""
        return self.base + self.lowest if self.led_from is None else self.led_from

    @property
    def normalised(self) -> bool:
        """Whether every magnitude begins with a one."""
        return all(z == 0 for z, _ in self.zeros)

    @property
    def least(self) -> int:
        """No non-zero number's leading bit has a lower exponent."""
        return self.base + self.lowest if not self.normalised else self.top + self.lowest


def gradual(fmt: Format) -> bool:
    """Whether a float format underflows gradually: below emin, it keeps its last place."""
    return isinstance(fmt, FloatFormat) and fmt.subnormals and fmt.has_zero


def needs_no_shift(x: Shape, fmt: Format) -> bool:
    """Whether numbers are rounded into ``fmt`` as they are: each begins with a one, or lies where ``fmt`` underflows
    gradually, so that it would not be shifted up."""
    return x.normalised or (gradual(fmt) and all(z == 0 or x.top + h <= fmt.emin for z, h in x.zeros))


def overflows(x: Shape, fmt: Format) -> bool:
    """Whether a number could be rounded to more than the largest of ``fmt``, or, unsigned, lie below 0."""
    largest = math.frexp(fmt.max_finite)[1] - 1
    return x.top + x.highest >= largest or (x.negative and isinstance(fmt, FloatFormat) and not fmt.signed)


def shape(fmt: Format) -> Shape:
    """The shape of the numbers of a format as they leave ``Unpack``."""
    if isinstance(fmt, FixedFormat):
        return Shape(fmt.bits, -fmt.fraction_bits, zeros=((fmt.bits - 1, 0),), negative=fmt.signed)
    if isinstance(fmt, PositFormat):
        low = fmt.emin - (fmt.precision - 1)
        return Shape(fmt.precision, low, 0, 2 * fmt.emax, ((0, 2 * fmt.emax),), nan=True)
    lowest = 1 if fmt.has_zero else 0  # the exponent field 0 counts as 1
    highest = fmt.emax - fmt.emin + lowest
    zeros = ((0, highest), (fmt.trailing_bits, lowest)) if fmt.subnormals and fmt.trailing_bits else ((0, highest),)
    base = fmt.emin - fmt.trailing_bits - lowest
    return Shape(fmt.precision, base, lowest, highest, zeros, fmt.signed, fmt.has_nan, fmt.has_infinity)


def product(x: Shape, y: Shape) -> Shape:
    """The shape of exact products."""
    grown = int(min(x.bits, y.bits) > 1)  # a magnitude of one bit is 1
    zeros = {(za + zb + grown, ha + hb) for za, ha in x.zeros for zb, hb in y.zeros}
    return Shape(
        x.bits + y.bits - 1 + grown,
        x.base + y.base,
        x.lowest + y.lowest,
        x.highest + y.highest,
        tuple(sorted((z, h) for z, h in zeros if not any(z <= z2 and h < h2 for z2, h2 in zeros))),
        x.negative or y.negative,
        x.nan or y.nan or x.infinity or y.infinity,
        x.infinity or y.infinity,
    )


@dataclass(frozen=True)
class Need:
    """How many bits of an exact result a rounding into ``fmt`` looks at; what lies below counts as one sticky bit."""

    fmt: Format
    rounding: Rounding
    flags: bool = False
    eager: bool = False  #: the carry of SR's random bits is found beside the addition (``rtl.eager``)

    @cached_property
    def fraction(self) -> int:
        """Bits below the last kept one that count one by one."""
        own = {Mode.RTZ: 0, Mode.SR: self.rounding.random_bits + self.rounding.corrected}.get(self.rounding.mode, 1)
        if self.rounding.mode in (Mode.RTP, Mode.RTN, Mode.RTO):
            own = 0
        return own + (self.flags and isinstance(self.fmt, FloatFormat))  # tininess is that of a rounding one bit lower

    @property
    def sticky(self) -> bool:
        """Whether what lies below the fraction counts at all."""
        exactly = self.rounding.mode in (Mode.RTZ, Mode.RNA) or (
            self.rounding.mode is Mode.SR and not self.rounding.corrected
        )
        return self.flags or not exactly

    @property
    def precision(self) -> int | None:
        """Kept bits, counted from the leading one; None if the last kept place is fixed."""
        return self.fmt.precision if isinstance(self.fmt, FloatFormat) else None

    @property
    def quantum(self) -> int | None:
        """Exponent of the last place that can be kept; None if there is no last one."""
        if isinstance(self.fmt, FixedFormat):
            return self.fmt.quantum_exponent
        return self.fmt.emin - (self.fmt.precision - 1) if gradual(self.fmt) else None


@dataclass(frozen=True)
class Window:
    """How two numbers are aligned: the one of the larger exponent at the top of ``bits`` bits, the other under it."""

    x: Shape
    y: Shape
    need: Need

    @property
    def top(self) -> int:
        """Exponent of the window's first bit at offset 0."""
        return min(self.x.top, self.y.top)

    @cached_property
    def bits(self) -> int:
        """Of the window; an eager sum's is at least as wide as its head."""
        bits = self._bits(self.need.fraction, self.need.quantum)
        return max(bits, self._bits(0, None)) if self.need.eager else bits

    @property
    def head(self) -> int:
        """The window's first bits, such that if the smaller number reaches below them, it is less than half of the
        larger, which does not. So with up to z zeros the sum then begins 1 ... z + 2 places under the carry, and the
        bits to keep from there on are in the head."""
        return self._bits(0, None)

    @property
    def tail_zeros(self) -> int:
        """With how many zeros the larger number begins at most if the smaller one reaches below the head; -1: it never
        does."""
        pairs = ((self.x, self.y), (self.y, self.x))
        return max((z for a, b in pairs for z, h in a.zeros if a.top + h - b.last >= self.head), default=-1)

    @property
    def chains(self) -> list[tuple[int, int]]:
        """Of an eager sum, by shift: bits of the head, and of what lies below, that random bits are added to."""
        k, found = self.need.rounding.random_bits, []
        for shift in range(max(self.cut(0), self.tail_zeros + 3)):
            of_head = min(self.cut(shift), k)
            found.append((of_head, k - of_head if shift <= self.tail_zeros + 2 else 0))
        return found

    def cut(self, shift: int) -> int:
        """Bits of the head that are cut off if the kept ones begin ``shift`` places under the carry's."""
        assert self.need.precision is not None
        return max(self.sum.bits - shift - self.need.precision, 0)

    def _bits(self, fraction: int, quantum: int | None) -> int:
        """Width such that, with a sticky bit below, the sum is rounded as the exact one is.

        Let the larger number begin with up to z zeros. If the other's first bit is 2 + z places below the window's
        first or further, the sum begins at most one place under the larger number, so that precision + fraction bits
        from there on are enough. If not, the window has all bits of the other. In no case are bits needed below the
        last one of the other, or below the last that the result can keep, with its fraction.
        """
        widest = max(self.x.bits, self.y.bits)
        for big, small in ((self.x, self.y), (self.y, self.x)):
            for zeros, highest in big.zeros:
                first = big.top + highest
                bits = first - small.last + 1
                if self.need.precision is not None:
                    bits = min(bits, zeros + 1 + max(self.need.precision + fraction, small.bits))
                if quantum is not None:
                    bits = min(bits, first - quantum + fraction + 1)
                widest = max(widest, bits)
        return widest

    @property
    def anchored(self) -> bool:
        """Whether y, of the result's format, counts with its own exponent even if it is zero. As nothing is kept below
        emin's last place, no sum then begins below emin, and none has to be lowered."""
        return self.need.eager and gradual(self.need.fmt) and self.y == shape(self.need.fmt)

    @property
    def sum(self) -> Shape:
        """The shape of the sum: a carry, the window, and a sticky bit; of an eager one a carry and the head."""
        highest = max(self.x.highest + self.x.top, self.y.highest + self.y.top) - self.top
        bits = 1 + self.head if self.need.eager else self.bits + 2
        return Shape(
            bits,
            self.top + 2 - bits,
            max(self.need.fmt.emin - self.top, 0) if self.anchored else 0,
            highest,
            ((bits - 1, highest),),
            True,
            self.x.nan or self.y.nan or (self.x.infinity and self.y.infinity),
            self.x.infinity or self.y.infinity,
        )


def checked(bits: int) -> int:
    """A width, unless it is beyond what hardware is made of."""
    if bits > WIDEST:
        raise HalfulpError(
            f"this unit needs a sum of {bits} bits, more than the {WIDEST} that we make hardware of: choose operands"
            " with fewer exponent bits, or an order that aligns and truncates (fused)."
        )
    return bits


def fixed(first: int, last: int, **known: bool) -> Shape:
    """The shape of integers whose bits have exponents ``first`` to ``last``."""
    bits = checked(first - last + 1)
    return Shape(bits, last, zeros=((bits - 1, 0),), **known)


def led(x: Shape) -> Shape:
    """The shape of numbers shifted up until they begin with a one."""
    zeros = max(z for z, _ in x.zeros)
    highest = x.highest + zeros
    return replace(x, base=x.base - zeros, highest=highest, zeros=((0, highest),), led_from=x.last)


def is_led(x: Shape, fmt: Format) -> bool:
    """Whether an eager sum into ``fmt`` takes a number as it is: products and sums are to begin with a one."""
    return x.normalised or x == shape(fmt)


def check_eager(window: Window) -> None:
    """Raises HalfulpError where an eager sum could begin below its format's emin, and would have to be lowered."""
    fmt = window.need.fmt
    if gradual(fmt) and window.sum.lowest + window.sum.top < fmt.emin:
        raise HalfulpError(f"there is no eager sum of numbers below those of its format, {fmt}.")


def without_specials(x: Shape) -> Shape:
    return replace(x, nan=False, infinity=False)
