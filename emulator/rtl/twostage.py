"""The sum of units that add their products first and the accumulator then (``orders.TwoStage``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from amaranth.hdl import Cat, Const, Mux, Value

from ..formats import FloatFormat
from ..orders import TwoStage
from .part import Number, Part, any_bit, shift_right
from .rounding import Normalise
from .sums import FusedSum, signed_number


class Endless(Part):
    """A product, an infinity if it is 2^(emax + 1) or more in the accumulator's format."""

    def __init__(self, x: Number, fmt: FloatFormat) -> None:
        super().__init__()
        self.number = x = self.take_number("x", x)
        beyond = fmt.emax + 1 - x.shape.base  # the place, at offset 0, from which on it is too large
        if x.shape.top + x.shape.highest <= fmt.emax:
            return
        place = self.let("place", Mux(x.offset > beyond, 0, beyond - x.offset)[: beyond.bit_length()])
        large = self.let("large", any_bit(shift_right(self, "too_large", x.magnitude, place)))
        infinity = self.let("infinity", x.infinity | large & ~x.nan)
        self.number = replace(x, shape=replace(x.shape, infinity=True), infinity=infinity)


def shift_floor(part: Part, name: str, value: Value, amount: Value) -> Value:
    """A signed value >> ``amount``, rounded toward minus infinity."""
    value = part.let(name, value)
    for level in range(len(amount)):
        places = min(1 << level, len(value))
        shifted = Cat(value[places:], value[-1].replicate(places))
        value = part.let(f"{name}{level}", Mux(amount[level], shifted, value))
    return value


def _signed(value: Value) -> Value:
    return value.as_signed()


class TwoStageSum(Part):
    """What a step of ``order`` rounds into ``fmt``: the products' sum and the accumulator, floored and added."""

    def __init__(
        self, products: Sequence[tuple[Number, int]], total: Number, order: TwoStage, fmt: FloatFormat
    ) -> None:
        super().__init__()
        products = [(self.take_number(f"x{i}", number), exponent) for i, (number, exponent) in enumerate(products)]
        total = self.take_number("total", total)
        kept = fmt.precision - 1 + order.guard_bits
        kept_of_sum = fmt.precision + order.sum_guard_bits
        groups = [products[::2], products[1::2]] if order.interleaved and len(products) > 1 else [products]
        sums = [self.inside(f"products{i}", FusedSum(group, kept)) for i, group in enumerate(groups)]
        lowest = min(*(s.lowest for s in sums), fmt.emin)
        exponents = [
            self.let(f"exponent{i}", Mux(s.none, 0, s.largest + (s.lowest - lowest))) for i, s in enumerate(sums)
        ]
        of_products = exponents[0] if len(sums) == 1 else Mux(exponents[0] > exponents[1], *exponents)
        of_products = self.let("of_products", of_products)
        of_total = self.let("of_total", total.offset + (total.shape.top - lowest))
        largest = self.let("largest", Mux(of_products > of_total, of_products, of_total))

        summed = sums[0].total
        if len(sums) > 1:
            floored = [
                shift_floor(self, f"group{i}_", s.total, self.let(f"down{i}", (of_products - e)[: len(of_products)]))
                for i, (s, e) in enumerate(zip(sums, exponents, strict=True))
            ]
            summed = self.let("summed", _signed(floored[0]) + _signed(floored[1]))
        padding = Const(0, kept_of_sum - kept)
        down = self.let("down", (largest - of_products)[: len(largest)])
        products_floored = shift_floor(self, "products_floored", Cat(padding, summed), down)

        signed = self.let("signed", Mux(total.sign, -total.magnitude, total.magnitude))
        distance = self.let("distance", (largest - of_total)[: len(largest)])
        held = shift_floor(self, "held", Cat(Const(0, order.guard_bits), signed), distance)
        if order.interleaved:
            held = self.let("held_kept", Mux(distance > kept + 1, 0, held))
        result = self.let("result", _signed(products_floored) + _signed(Cat(padding, held)))
        numbers = [*(number for number, _ in products), total]
        highest = max(*(s.highest for s in sums), fmt.emax) - lowest
        exactly = signed_number(self, result, lowest - kept_of_sum, largest, highest, numbers)
        self.number = self._floored(exactly, kept_of_sum, replace(fmt, subnormals=True))

    def _floored(self, x: Number, kept: int, fmt: FloatFormat) -> Number:
        """A number floored below ``kept`` bits from its own first place on, or from emin's."""
        normal = self.inside("normalise", Normalise(x, fmt)).normal
        cut = max(len(normal.magnitude) - kept, 0)
        dropped = self.let("dropped", any_bit(normal.magnitude[:cut]))
        magnitude = self.let("floored", normal.magnitude[cut:] + (x.sign & dropped))
        bits = len(magnitude)
        highest = x.shape.highest + x.shape.top - fmt.emin
        shape = replace(
            x.shape, bits=bits, base=fmt.emin - (bits - 2), lowest=0, highest=highest, zeros=((bits - 1, highest),)
        )
        exponent = self.let("exponent_kept", normal.exponent[: highest.bit_length()])
        return replace(
            x, shape=shape, magnitude=magnitude, offset=exponent, zero=self.let("zero_kept", ~magnitude.any())
        )
