"""Eager stochastic rounding: the carry of the random bits is found beside the addition, not after normalisation.

Ben Ali, Filip and Sentieys, "A Stochastic Rounding-Enabled Low-Precision Floating-Point MAC for DNN Training", DATE
2024 (arXiv:2404.14010). The sum's first bits (``Window.head``), which are added and normalised, hold all kept bits;
the rest of the smaller number, shifted out, is but added to random bits. As these count from the last kept bit on,
there is a carry for each place where the sum may begin: of what was shifted out, beside the addition, and then, of the
few bits of the head that may be cut off, beside counting zeros and shifting. The shift chooses one. The results are
those of rounding afterwards, bit for bit: up if and only if floor(fraction * 2^k) + random >= 2^k.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Value

from ..errors import HalfulpError
from ..formats import FloatFormat, Format
from ..rounding import Mode
from . import shapes
from .align import Add, Aligned
from .part import Number, Part, any_bit, leading_zeros, shift_left
from .shapes import Need


class EagerSum(NamedTuple):
    """The head of a sum, and for each shift that normalises it whether random bits then carry into the kept ones."""

    number: Number
    carries: tuple[Value, ...]  #: by shift; beyond the last one nothing is cut off


def checked_eager(need: Need, name: str) -> None:
    """Refuses roundings that there is nothing eager of."""
    plain = need.rounding.mode is Mode.SR and not need.rounding.corrected
    if not plain or need.flags or not isinstance(need.fmt, FloatFormat):
        raise HalfulpError(
            f"{name}: eager rounding is that of sums of floats by plain SR<k>, without flags; here they are rounded to"
            f" {need.fmt} by {need.rounding}{' with flags' if need.flags else ''}."
        )


class Led(Part):
    """A number shifted up until it begins with a one: the fewer zeros, the fewer places where a sum may begin."""

    def __init__(self, x: Number) -> None:
        super().__init__()
        zeros, shape = max(z for z, _ in x.shape.zeros), shapes.led(x.shape)
        x = self.take_number("x", x)
        count, _ = leading_zeros(self, "zeros", x.magnitude[-zeros - 1 :])
        count = self.let("count", count)
        offset = self.let("led_offset", Mux(x.zero, 0, x.offset + zeros - count)[: shape.offset_bits])
        self.number = replace(x, shape=shape, magnitude=shift_left(self, "led", x.magnitude, count), offset=offset)


def led(part: Part, name: str, x: Number, fmt: Format) -> Number:
    """A summand as eager sums take it: products and sums begin with a one; numbers of ``fmt`` may be subnormal."""
    return x if shapes.is_led(x.shape, fmt) else part.inside(f"led_{name}", Led(x)).number


class EagerAdd(Add):
    """The first bits of the sum of two aligned numbers, and the carries of random bits into what is kept of them."""

    def __init__(self, x: Number, y: Number, aligned: Aligned, need: Need, random: Value) -> None:
        Part.__init__(self)
        self.window, self.need = aligned.window, need
        window = aligned.window
        shape = window.sum
        shapes.check_eager(window)
        x, y = self.take_number("x", x), self.take_number("y", y)
        big, small = self.take("big", aligned.big), self.take("small", aligned.small)
        sticky, swap = self.take("sticky", aligned.sticky), self.take("swap", aligned.swap)
        tail = window.bits - window.head
        self.tail, self.sticky, self.random = small[:tail], sticky, self.take("random", random)
        sign_y, above = y.sign, y.shape.top + y.shape.lowest > x.shape.top + x.shape.lowest
        if window.anchored and above:  # a zero may count as the larger number: nothing is to be subtracted from it
            sign_y = self.let("sign_y", Mux(y.zero, x.sign, y.sign))
        self.subtract = subtract = self.let("subtract", x.sign ^ sign_y)
        reaches = self.let("reaches", any_bit(self.tail) | sticky)
        self.borrowless = self.let("borrowless", subtract & ~reaches)
        a = Cat(big[tail:], Const(0, 1))
        b = self.let("b", Cat(small[tail:], Const(0, 1)) ^ subtract.replicate(shape.bits))
        total = self.let("total", (a + b + self.borrowless)[: shape.bits])
        swapped = self.let("swapped", subtract & total[-1])  # and then the smaller number ends in the head
        magnitude = self.let("magnitude", ((total ^ swapped.replicate(shape.bits)) + swapped)[: shape.bits])
        zero = self.let("zero", ~(magnitude.any() | reaches))
        number = self._number(shape, x, y, aligned.offset, magnitude, zero, swap, swapped, need.rounding.mode)
        if window.anchored and above:
            opposite = self.let("sign_of_sum", Mux(y.zero & ~zero & ~number.infinity, x.sign, number.sign))
            number = number.map(lambda field, value: opposite if field == "sign" else value)
        carries = (self._carry(n, *chain, magnitude) for n, chain in enumerate(window.chains))
        self.sum = EagerSum(number, tuple(carries))

    def _carry(self, shift: int, cut: int, low: int, magnitude: Value) -> Value:
        """Whether the random bits carry into the kept ones, if these begin ``shift`` places under the carry's."""
        carry, further_cut = Const(0, 1), self.window.cut(shift) - cut
        if low:
            out = Cat(Const(0, max(low - len(self.tail), 0)), self.tail)
            out, further = out[len(out) - low :], any_bit(out[: len(out) - low]) | self.sticky
            subtract = self.subtract if shift else Const(0, 1)  # a difference does not carry
            negated = self.let(f"shifted_out{shift}", out ^ subtract.replicate(low))
            up = self.let(f"up{shift}", subtract & ~further)
            total = self.let(f"below{shift}", negated + self.random[:low] + up)
            carry = self.let(f"carry_below{shift}", total[low] & ~self.borrowless if shift else total[low])
        if not cut:
            return carry
        return self.let(f"carry{shift}", (magnitude[further_cut:][:cut] + self.random[-cut:] + carry)[cut])


class Chosen(Part):
    """The carry that belongs to the shift by which a sum was normalised."""

    def __init__(self, shift: Value, carries: tuple[Value, ...]) -> None:
        super().__init__()
        shift = self.take("shift", shift)
        values = [self.take(f"carry{i}", carry) for i, carry in enumerate(carries)]
        levels = min((len(values) - 1).bit_length(), len(shift))
        values = (values + [Const(0, 1)] * (1 << levels))[: 1 << levels]
        for i in range(levels):
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [self.let(f"chosen{i}_{j}", Mux(shift[i], one, zero)) for j, (zero, one) in enumerate(pairs)]
        self.up = self.let("up", values[0] & ~any_bit(shift[levels:]))
