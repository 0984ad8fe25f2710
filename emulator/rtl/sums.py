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
        terms = [self.take_number(f"x{i}", t) for i, t in enumerate(terms)]
        register = None if register is None else self.take("register", register)
        first = max(t.shape.top + t.shape.highest for t in terms)
        bits = checked(max(first - last + 1, 1))
        if width is None:
            width = checked(bits + growth(len(terms)) + 1)
        rows = [(self._aligned(i, t, first, bits), t.sign) for i, t in enumerate(terms)]
        self.total = signed_total(self, rows, width, register)
        self.number = signed_number(self, self.total, last, Const(0, 0), 0, terms)

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

    ``none``: all terms are 0. ``total`` is the sum in two's complement, its last place ``kept`` under the exponent
    ``lowest`` + ``largest``.
    """

    def __init__(self, terms: Sequence[tuple[Number, int]], kept: int, floor: int | None = None) -> None:
        super().__init__()
        terms = [(self.take_number(f"x{i}", number), exponent) for i, (number, exponent) in enumerate(terms)]
        numbers = [number for number, _ in terms]
        above = max(number.shape.top - exponent for number, exponent in terms)
        self.lowest = lowest = min([exponent for _, exponent in terms] + ([] if floor is None else [floor]))
        exponents = [
            self.let(f"exponent{i}", Mux(number.zero, 0, number.offset + (exponent - lowest)))
            for i, (number, exponent) in enumerate(terms)
        ]
        self.none = self.let("none", Cat(number.zero for number in numbers).all())
        floors = [] if floor is None else [Const(floor - lowest)]
        self.largest = largest = maximum(self, "largest", [*exponents, *floors])
        bits = checked(above + 1 + kept)
        rows = []
        for i, (number, exponent) in enumerate(terms):
            magnitude = placed(number.magnitude, above - (number.shape.top - exponent), bits)
            amount = self.let(f"amount{i}", (largest - exponents[i])[: len(largest)])
            rows.append((shift_right(self, f"aligned{i}_", magnitude, amount), number.sign))
        self.total = signed_total(self, rows, checked(bits + growth(len(terms)) + 1))
        self.highest = max([number.shape.highest + exponent for number, exponent in terms] + ([floor] if floor else []))
        self.number = signed_number(self, self.total, lowest - kept, largest, self.highest - lowest, numbers)


def maximum(part: Part, name: str, values: list[Value]) -> Value:
    """The largest of unsigned values, by a tree."""
    level = 0
    while len(values) > 1:
        pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
        values = [
            part.let(f"{name}{level}_{i}", Mux(pair[0] > pair[1], *pair)) if len(pair) == 2 else pair[0]
            for i, pair in enumerate(pairs)
        ]
        level += 1
    return values[0]


def signed_number(part: Part, total: Value, base: int, offset: Value, highest: int, terms: Sequence[Number]) -> Number:
    """The number total * 2^(base + offset), with the specials of the terms of that sum; a zero is +0."""
    sign, magnitude = absolute(part, total)
    known = specials(part, terms)
    bits = len(magnitude)
    shape = Shape(
        bits,
        base,
        highest=highest,
        zeros=((bits - 1, highest),),
        nan=any(t.shape.nan or t.shape.infinity for t in terms),
        infinity=any(t.shape.infinity for t in terms),
    )
    sign = part.let("sign", Mux(known.infinity, known.negative, sign))
    zero = part.let("zero", ~magnitude.any())
    return Number(shape, sign, magnitude, offset, zero, known.nan, known.infinity, known.invalid)
