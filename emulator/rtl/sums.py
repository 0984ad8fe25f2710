"""Sums of many numbers at once, in a window of fixed places or under their largest exponent; rounded by others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Value

from .part import Number, Part, any_bit, shift_right
from .shapes import Shape, checked
from .trees import Heap


class Total(NamedTuple):
    """What sums share: the specials of their terms."""

    nan: Value
    infinity: Value
    negative: Value  #: of an infinity
    invalid: Value


def specials(part: Part, terms: Sequence[Number]) -> Total:
    """NaN and infinity of a sum; infinities of both signs make a NaN."""
    plus = part.let("plus_infinity", any_bit(Cat(t.infinity & ~t.sign for t in terms)))
    minus = part.let("minus_infinity", any_bit(Cat(t.infinity & t.sign for t in terms)))
    given = part.let("nan_given", any_bit(Cat(t.nan for t in terms)))
    nan = part.let("nan", given | plus & minus)
    invalid = any_bit(Cat(t.invalid for t in terms)) | plus & minus & ~given
    return Total(nan, part.let("infinity", (plus | minus) & ~nan), minus, part.let("invalid", invalid))


def growth(terms: int) -> int:
    """Bits by which a sum of so many magnitudes grows."""
    return math.ceil(math.log2(terms)) if terms > 1 else 0


def signed_total(part: Part, rows: Sequence[tuple[Value, Value]], width: int, register: Value | None = None) -> Value:
    """The sum of (magnitude, sign) rows and of a signed ``register``, modulo 2^width, in two's complement."""
    heap = Heap(part, "total", width)
    for magnitude, sign in rows:
        if isinstance(sign, Const) and not sign.value:
            heap.add_row(magnitude)
            continue
        # -m = ~m + 1 - 2^bits
        heap.add_row(magnitude ^ sign.replicate(len(magnitude)))
        heap.add(sign, 0)
        if len(magnitude) < width:
            heap.subtract(sign, len(magnitude))
    if register is not None:
        heap.add_row(register, signed=len(register) < width)
    return heap.total()


def absolute(part: Part, total: Value) -> tuple[Value, Value]:
    """Sign and magnitude of a number in two's complement that is not the most negative one."""
    sign = part.let("total_sign", total[-1])
    return sign, part.let("magnitude", ((total ^ sign.replicate(len(total))) + sign)[: len(total) - 1])


def placed(magnitude: Value, below: int, bits: int) -> Value:
    """A magnitude in a window of ``bits`` bits, its first bit ``below`` places under the window's; the rest is cut."""
    room = max(bits - below, 0)
    if len(magnitude) > room:
        magnitude = magnitude[len(magnitude) - room :]
    return Cat(Const(0, room - len(magnitude)), magnitude, Const(0, bits - room))


class FixedSum(Part):
    """The sum of numbers, each cut off (toward zero) below the exponent ``last``; zero is +0.

    ``register`` is a signed integer in units of 2^last that is added; ``total`` is what it is to hold next, in
    ``spare`` more bits than one sum needs.
    """

    def __init__(
        self, terms: Sequence[Number], last: int, register: Value | None = None, width: int | None = None
    ) -> None:
        super().__init__()
        first = max(t.shape.top + t.shape.highest for t in terms)
        bits = checked(max(first - last + 1, 1))
        if width is None:
            width = checked(bits + growth(len(terms)) + 1)
        rows = [(self._aligned(i, t, first, bits), t.sign) for i, t in enumerate(terms)]
        self.total = signed_total(self, rows, width, register)
        sign, magnitude = absolute(self, self.total)
        zero = self.let("zero", ~magnitude.any())
        known = specials(self, terms)
        shape = Shape(
            width - 1,
            last,
            zeros=((width - 2, 0),),
            nan=any(t.shape.nan or t.shape.infinity for t in terms),
            infinity=any(t.shape.infinity for t in terms),
        )
        sign = self.let("sign", Mux(known.infinity, known.negative, sign))
        self.number = Number(shape, sign, magnitude, Const(0, 0), zero, known.nan, known.infinity, known.invalid)

    def _aligned(self, i: int, term: Number, first: int, bits: int) -> Value:
        """A magnitude in the window's places; its first bit is at the window's if its offset is the largest."""
        shape = term.shape
        below = first - shape.top - shape.highest  # places that it always is below the window's first
        padded = placed(term.magnitude, below, bits)
        if shape.highest == shape.lowest:
            return padded
        amount = self.let(f"amount{i}", (Const(shape.highest) - term.offset)[: shape.highest.bit_length()])
        return shift_right(self, f"aligned{i}_", padded, amount)


class FusedSum(Part):
    """The sum of numbers under the largest exponent among them: each is cut off (toward zero) below the place
    ``kept`` bits under it (``orders.Fused``).

    A term is a number and the exponent that it counts with, at offset 0: above that stand the bits by which a product
    may grow. Zeros do not count. ``floor``: the least that the largest exponent counts as.
    """

    def __init__(self, terms: Sequence[tuple[Number, int]], kept: int, floor: int | None = None) -> None:
        super().__init__()
        numbers = [number for number, _ in terms]
        above = max(number.shape.top - exponent for number, exponent in terms)
        lowest = min([exponent for _, exponent in terms] + ([] if floor is None else [floor]))
        exponents = [
            self.let(f"exponent{i}", Mux(number.zero, 0, number.offset + (exponent - lowest)))
            for i, (number, exponent) in enumerate(terms)
        ]
        largest = self._largest([*exponents, *([] if floor is None else [Const(floor - lowest)])])
        bits = checked(above + 1 + kept)
        rows = []
        for i, (number, exponent) in enumerate(terms):
            magnitude = placed(number.magnitude, above - (number.shape.top - exponent), bits)
            amount = self.let(f"amount{i}", (largest - exponents[i])[: len(largest)])
            rows.append((shift_right(self, f"aligned{i}_", magnitude, amount), number.sign))
        width = checked(bits + growth(len(terms)) + 1)
        sign, magnitude = absolute(self, signed_total(self, rows, width))
        zero = self.let("zero", ~magnitude.any())
        known = specials(self, numbers)
        highest = max(number.shape.highest + exponent for number, exponent in terms)
        highest = max(highest, floor if floor is not None else highest) - lowest
        shape = Shape(
            width - 1,
            lowest - kept,
            zeros=((width - 2, highest),),
            highest=highest,
            nan=any(n.shape.nan or n.shape.infinity for n in numbers),
            infinity=any(n.shape.infinity for n in numbers),
        )
        sign = self.let("sign", Mux(known.infinity, known.negative, sign))
        self.number = Number(shape, sign, magnitude, largest, zero, known.nan, known.infinity, known.invalid)

    def _largest(self, exponents: list[Value]) -> Value:
        level = 0
        while len(exponents) > 1:
            pairs = [exponents[i : i + 2] for i in range(0, len(exponents), 2)]
            exponents = [
                self.let(f"largest{level}_{i}", Mux(pair[0] > pair[1], *pair)) if len(pair) == 2 else pair[0]
                for i, pair in enumerate(pairs)
            ]
            level += 1
        return exponents[0]
