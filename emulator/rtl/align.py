"""Two numbers brought under one exponent and added, so that rounding the sum is rounding the exact one."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Value

from ..rounding import Mode
from .part import Number, Part, shift_right_sticky
from .shapes import Need, Shape, Window, checked


class Aligned(NamedTuple):
    """Two numbers under one exponent."""

    window: Window
    big: Value  #: the magnitude of the number of the larger exponent
    small: Value  #: the other's, shifted down
    sticky: Value  #: whether a bit of it fell off
    offset: Value  #: of the window's first bit
    swap: Value  #: whether the second number is the big one


class Align(Part):
    """Orders two numbers by their exponents and shifts the smaller one down, into the window and its sticky bit."""

    def __init__(self, x: Number, y: Number, need: Need) -> None:
        super().__init__()
        self.window = window = Window(x.shape, y.shape, need)
        x, y = self.take_number("x", x), self.take_number("y", y)
        checked(window.bits)
        first_x, first_y = self._first(x, y), self._first(y, x, window.anchored)
        first_x, first_y = self.let("first_x", first_x), self.let("first_y", first_y)
        difference = self.let("difference", first_x - first_y)
        swap = self.let("swap", difference[-1])
        distance = self.let("distance", Mux(swap, first_y - first_x, difference)[: len(difference) - 1])
        at_top_x, at_top_y = (Cat(Const(0, window.bits - len(n.magnitude)), n.magnitude) for n in (x, y))
        big = self.let("big", Mux(swap, at_top_y, at_top_x))
        small = self.let("small", Mux(swap, at_top_x, at_top_y))
        small, sticky = shift_right_sticky(self, "shifted", small, distance)
        self.aligned = Aligned(window, big, small, sticky, self.let("offset", Mux(swap, first_y, first_x)), swap)

    def _first(self, x: Number, y: Number, anchored: bool = False) -> Value:
        """The exponent of a number's first bit, above ``window.top``; that of a zero must not be the larger one."""
        first = x.offset + (x.shape.top - self.window.top)
        above = x.shape.top + x.shape.lowest > y.shape.top + y.shape.lowest
        return Mux(x.zero, 0, first) if above and not anchored else first


class Add(Part):
    """The sum of two aligned numbers; its last bit is a sticky bit."""

    def __init__(self, x: Number, y: Number, aligned: Aligned, mode: Mode) -> None:
        super().__init__()
        shape = aligned.window.sum
        x, y = self.take_number("x", x), self.take_number("y", y)
        big, small = self.take("big", aligned.big), self.take("small", aligned.small)
        sticky, swap = self.take("sticky", aligned.sticky), self.take("swap", aligned.swap)
        subtract = self.let("subtract", x.sign ^ y.sign)
        a = Cat(Const(0, 1), big, Const(0, 1))
        b = self.let("b", Cat(sticky, small, Const(0, 1)) ^ subtract.replicate(shape.bits))
        total = self.let("total", (a + b + subtract)[: shape.bits])
        swapped = self.let("swapped", subtract & total[-1])  # the number of the smaller exponent was the larger one
        magnitude = self.let("magnitude", ((total ^ swapped.replicate(shape.bits)) + swapped)[: shape.bits])
        zero = self.let("zero", ~magnitude.any())
        self.number = self._number(shape, x, y, aligned.offset, magnitude, zero, swap, swapped, mode)

    def _number(
        self, shape: Shape, x: Number, y: Number, offset: Value, magnitude: Value, zero: Value,
        swap: Value, swapped: Value, mode: Mode,
    ) -> Number:  # fmt: skip
        """The sum of a magnitude, with its sign and what is no number."""
        opposite = self.let("opposite", x.sign ^ y.sign)
        sign_big = self.let("sign_big", Mux(swap, y.sign, x.sign))
        of_zero = Mux(opposite, int(mode is Mode.RTN), x.sign)
        undefined = self.let("undefined", x.infinity & y.infinity & opposite)
        nan = self.let("nan", x.nan | y.nan | undefined)
        endless = self.let("infinity", (x.infinity | y.infinity) & ~nan)
        sign = Mux(endless, Mux(x.infinity, x.sign, y.sign), Mux(zero, of_zero, sign_big ^ swapped))
        return Number(
            shape,
            self.let("sign", sign),
            magnitude,
            self.let("offset", self.take("aligned_offset", offset)),
            zero,
            nan,
            endless,
            self.let("invalid", x.invalid | y.invalid | undefined & ~(x.nan | y.nan)),
        )
