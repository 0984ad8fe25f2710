"""Fixed point throughout: two's complement integers, their sums in one heap, and their rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Mux, Value

from ..formats import FixedFormat
from ..rounding import Mode
from .part import Part, any_bit
from .rounding import increment
from .shapes import Need, checked
from .trees import Heap


@dataclass(frozen=True, eq=False)
class Integer:
    """A signed integer in units of 2^last."""

    value: Value
    last: int


def integer(code: Value, fmt: FixedFormat) -> Integer:
    """The integer that a code is."""
    return Integer(code.as_signed() if fmt.signed else Cat(code, Const(0, 1)).as_signed(), fmt.quantum_exponent)


class SumIntegers(Part):
    """The exact sum of products and integers, in one heap: one carry-propagate addition."""

    def __init__(self, products: Sequence[tuple[Integer, Integer]], integers: Sequence[Integer] = ()) -> None:
        super().__init__()
        products = [(self._taken(f"a{i}", x), self._taken(f"b{i}", y)) for i, (x, y) in enumerate(products)]
        integers = [self._taken(f"x{i}", x) for i, x in enumerate(integers)]
        lasts = [x.last + y.last for x, y in products] + [x.last for x in integers]
        self.last = last = min(lasts)
        bound = sum(1 << len(x.value) + len(y.value) - 2 + x.last + y.last - last for x, y in products)
        bound += sum(1 << len(x.value) - 1 + x.last - last for x in integers)
        heap = Heap(self, "total", checked(bound.bit_length() + 1))
        for x, y in products:
            heap.add_product(x.value, y.value, x.last + y.last - last, a_signed=True, b_signed=True)
        for x in integers:
            heap.add_row(x.value, x.last - last, signed=True)
        self.integer = Integer(heap.total().as_signed(), last)

    def _taken(self, name: str, x: Integer) -> Integer:
        return Integer(self.take(name, x.value), x.last)


class Truncate(Part):
    """An integer cut off, toward zero, below 2^last."""

    def __init__(self, x: Integer, last: int) -> None:
        super().__init__()
        places = last - x.last
        value = self.take("x", x.value)
        kept, cut = value[places:].as_signed(), value[:places]
        self.integer = Integer(self.let("truncated", kept + (value[-1] & any_bit(cut))), last)


class RoundInteger(Part):
    """The code of an integer rounded once into a fixed-point format, and the flags that this raises. All modes act on
    the magnitude."""

    def __init__(self, x: Integer, need: Need, random: Value) -> None:
        super().__init__()
        fmt, rounding = need.fmt, need.rounding
        assert isinstance(fmt, FixedFormat)
        value, random = self.take("x", x.value), self.take("random", random)
        places = fmt.quantum_exponent - x.last
        inexact: Value = Const(0, 1)
        if places <= 0:
            rounded: Value = Cat(Const(0, -places), value).as_signed()
        else:
            if places >= len(value):  # nothing but the sign is kept
                value = self.let("extended", Cat(value, value[-1].replicate(places + 1 - len(value)))).as_signed()
            negative, kept, cut = value[-1], value[places:].as_signed(), value[:places]
            inexact = self.let("inexact", any_bit(cut))
            half, below = cut[-1], any_bit(cut[:-1])
            match rounding.mode:
                case Mode.RNE:
                    up = half & (below | kept[0])
                case Mode.RNA:
                    up = half & (below | ~negative)
                case Mode.RND:
                    up = half & below
                case Mode.RTZ:
                    up = negative & inexact
                case Mode.RTP:
                    up = inexact
                case Mode.RTN:
                    up = Const(0, 1)
                case Mode.RTO:
                    up = inexact & ~kept[0]
                case Mode.SR:
                    magnitude = self.let("cut_of_magnitude", Mux(negative, -cut, cut)[:places])
                    f = need.fraction
                    drawn_on = Cat(Const(0, max(f - places, 0)), magnitude)[max(places - f, 0) :]
                    sticky = any_bit(magnitude[: max(places - f, 0)])
                    away = self.let("away", increment(rounding, negative, Const(0, 1), drawn_on, sticky, random))
                    up = Mux(negative, inexact & ~away, away)
            rounded = self.let("rounded", kept + self.let("up", up))
        low, high = fmt.min_integer, fmt.max_integer
        code = rounded[: fmt.bits] if len(rounded) >= fmt.bits else Cat(rounded, rounded[-1].replicate(fmt.bits))
        over = Const(0, 1) if fmt.wrap and not need.flags else self.let("over", (rounded > high) | (rounded < low))
        if not fmt.wrap:
            ends = Mux(rounded[-1], Const(low & ((1 << fmt.bits) - 1), fmt.bits), Const(high, fmt.bits))
            code = Mux(over, ends, code[: fmt.bits])
        self.code = self.let("code", code[: fmt.bits])
        if need.flags:  # in the bit order of RISC-V's fflags
            self.flags = self.let("flags", Cat(over | inexact, Const(0, 1), over, Const(0, 2)))
