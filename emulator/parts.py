"""The parts of units, with the widths of those that ``rtl`` generates, from the same ``rtl.shapes``, without
generating them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from . import activity
from .counts import Part
from .formats import FixedFormat, Format, PositFormat
from .random import LFSR
from .rounding import Mode, Rounding
from .rtl import shapes
from .rtl.shapes import Need, Shape, Window, gradual, product, shape


class Integer(NamedTuple):
    """A two's complement integer of ``bits`` bits in units of 2^last, between parts of fixed point."""

    bits: int
    last: int
    negative: bool = True  #: whether it can be


# ---- parts


def _levels(width: int) -> int:
    return max(width - 1, 0).bit_length()


def _shifter(width: int, filled: int, furthest: int) -> tuple[int, int]:
    """Multiplexers and levels of a shifter by up to ``furthest`` places in ``width`` bits, of which ``filled`` come in.

    A level whose places are at least the width is one that everything falls off by, the last.
    """
    muxes = levels = 0
    for level in range(furthest.bit_length()):
        filled = min(width, filled + (1 << level))
        muxes, levels = muxes + filled, levels + 1
        if 1 << level >= width:
            break
    return muxes, levels


def unpack(fmt: Format, cleared: bool = False, name: str = "unpack") -> tuple[Part, Shape]:
    """A code taken apart; that of a sum is 0 where that is ``cleared``."""
    if isinstance(fmt, FixedFormat):
        return Part(name, "unpack_fixed", {"one": 1, "bits": fmt.bits}, (fmt.bits,), 1, fmt.bits), shape(fmt)
    if isinstance(fmt, PositFormat):
        mux, levels = _shifter(fmt.bits, fmt.bits, fmt.bits)
        return Part(
            name, "unpack_posit", {"bits": fmt.bits, "mux": mux, "levels": levels}, (fmt.bits,), 2 * levels, fmt.bits
        ), shape(fmt)
    counts = {"one": 1, "bits": fmt.bits, "subnormal": fmt.trailing_bits if gradual(fmt) else 0}
    counts["cleared"] = fmt.bits if cleared else 0
    return Part(name, "unpack", counts, (), _levels(fmt.bits), fmt.precision), shape(fmt)


def multiply(x: Shape, y: Shape, name: str = "multiply") -> tuple[Part, Shape]:
    result = product(x, y)
    exponent = sum(s.offset_bits for s in (x, y)) if x.offset_bits and y.offset_bits else 0
    counts = {
        "one": 1,
        "adders": (x.bits - 1) * (y.bits - 1),
        "ands": x.bits * y.bits,
        "width": x.bits + y.bits,
        "exponent": exponent,
    }
    fixed = not (x.highest or y.highest)  # leading bits are often zeros
    return Part(
        name,
        "multiply_fixed" if fixed else "multiply",
        counts,
        (x.bits + y.bits,),
        3 * _levels(min(x.bits, y.bits) + 1),
        result.bits,
    ), result


def add(x: Shape, y: Shape, need: Need) -> tuple[list[Part], Shape]:
    """Alignment and addition of two numbers."""
    window = Window(x, y, need)
    exponent = max(s.highest + s.top - window.top for s in (x, y)).bit_length()
    mux, levels = _shifter(window.bits, max(x.bits, y.bits), (1 << exponent) - 1)
    counts = {"one": 1, "mux": mux, "levels": levels, "window": window.bits, "exponent": exponent}
    both = min(window.bits, x.bits, y.bits)
    width = window.head if need.eager else window.bits
    counts_ = {"one": 1, "width": width, "both": both}
    if need.eager:
        shapes.check_eager(window)
        counts_ |= {"tail": window.bits - width, "chains": sum(map(sum, window.chains))}
    added = Part("add", "add_eager" if need.eager else "add", counts_, (width, width), 2, width)
    if not exponent:
        return [added], window.sum
    return [Part("align", "align", counts, (exponent, exponent), levels + 3, window.bits), added], window.sum


def led(x: Shape) -> tuple[Part, Shape]:
    """A summand of an eager sum that is made to begin with a one."""
    zeros = max(z for z, _ in x.zeros)
    mux, levels = _shifter(x.bits, x.bits, zeros)
    exponent = shapes.led(x).offset_bits
    counts = {"one": 1, "mux": mux, "levels": levels, "width": zeros + 1, "exponent": exponent}
    return Part("led", "normalise", counts, (exponent,), 2 * levels, x.bits), shapes.led(x)


def lfsr_step(lfsr: LFSR) -> Part:
    """The next state of an LFSR, and its load."""
    counts = {"xors": sum(max(len(taps) - 1, 0) for taps in lfsr.taps), "loads": lfsr.width}
    return Part("lfsr", "lfsr", counts, (), 1, lfsr.width)


def normalise(x: Shape, fmt: Format) -> Part:
    """The shift that makes a number begin with a one."""
    exponent = max(x.offset_bits, abs(x.top - fmt.emin).bit_length()) + 1
    if shapes.needs_no_shift(x, fmt):
        return Part("normalise", "normalise", {"exponent": exponent}, (exponent,), 0)
    mux, levels = _shifter(x.bits, x.bits, x.bits - 1)
    above = x.top - fmt.emin
    limited = gradual(fmt) and any(x.lowest + above - z < 0 for z, _ in x.zeros)
    counts = {"one": 1, "mux": mux, "levels": levels, "width": x.bits, "exponent": exponent}
    counts["limit"] = exponent if limited else 0
    return Part("normalise", "normalise", counts, (exponent, exponent), 2 * levels, x.bits)


def round_(x: Shape, fmt: Format, rounding: Rounding, eager: bool = False) -> Part:
    """The rounding of a normalised number; of an eager sum the carry is known."""
    need = Need(fmt, rounding)
    fixed = isinstance(fmt, FixedFormat)
    lowest = x.lowest + x.top - fmt.emin
    kept = fmt.bits if fixed else fmt.precision
    exponent = max(x.offset_bits, abs(x.top - fmt.emin).bit_length()) + 1
    mux = levels = 0
    if fixed or (gradual(fmt) and lowest < 0):
        furthest = max(fmt.bits - lowest if fixed else -lowest, 0)
        mux, levels = _shifter(kept + need.fraction, min(x.bits, kept + need.fraction), furthest)
    if isinstance(fmt, PositFormat):  # behind the regime; there is no RTL of it
        mux, levels = _shifter(fmt.bits, fmt.bits, fmt.bits)
    exact = x.bits <= kept and not mux
    chops = rounding.mode is Mode.RTZ or exact
    counts = {
        "one": 1,
        "bits": fmt.bits,
        "over": fmt.bits if shapes.overflows(x, fmt) else 0,
        "up": 0 if chops else fmt.bits,
        "sticky": 0 if chops or eager else max(x.bits - kept, 0),
        "random": 0 if exact or eager else rounding.random_bits,
        "mux": mux,
        "levels": levels,
        "exponent": exponent,
    }
    chains = (counts["up"], exponent, counts["random"])
    kind = "round_to_fixed" if fixed else "round"
    return Part("round", kind, counts, chains, levels + 4, kept)


def rounded(x: Shape, fmt: Format, rounding: Rounding, carries: int = 0) -> list[Part]:
    """``carries``: of an eager sum, one of which is chosen."""
    choose = [Part("choose", "choose", {"carries": carries}, (), _levels(carries))] if carries else []
    return [normalise(x, fmt), *choose, round_(x, fmt, rounding, bool(carries))]


def _growth(terms: int) -> int:
    return (terms - 1).bit_length()


def _sum_part(
    name: str, muxes: list[tuple[int, int]], rows: list[int], width: int, exponent: float, cleared: int = 0
) -> Part:
    """Aligned rows in a heap, its sum and the magnitude of that."""
    mux, levels = sum(m for m, _ in muxes), max(level for _, level in muxes)
    counts = {
        "terms": len(muxes),
        "mux": mux,
        "levels": sum(level for _, level in muxes),
        "rows": sum(rows),
        "adders": max(sum(rows) - max(rows), 0),
        "total": width,
        "exponent": exponent * len(muxes),
        "cleared": cleared,
    }
    return Part(name, "sum", counts, (width, width, exponent, exponent), levels + 4 * _levels(len(rows)) + 2, width)


def fixed_sum(
    terms: Sequence[Shape], last: int, name: str = "sum", register: bool = False, width: int | None = None
) -> tuple[Part, Shape]:
    """The sum of numbers in a window of fixed places; with a ``register`` of ``width`` bits, if there is one."""
    first = max(t.top + t.highest for t in terms)
    bits = max(first - last + 1, 1)
    width = bits + _growth(len(terms)) + 1 if width is None else width
    muxes = [_shifter(bits, min(t.bits, bits), t.highest if t.highest > t.lowest else 0) for t in terms]
    rows = [min(bits, t.highest - t.lowest + t.bits) for t in terms] + [width] * register
    infinity = any(t.infinity for t in terms)
    nan = infinity or any(t.nan for t in terms)
    total = Shape(width - 1, last, zeros=((width - 2, 0),), nan=nan, infinity=infinity)
    return _sum_part(name, muxes, rows, width, 0, width * register), total


def fused_sum(
    terms: Sequence[tuple[Shape, int]], kept: int, floor: int | None = None, name: str = "sum"
) -> tuple[Part, Shape]:
    """The sum of numbers under the largest exponent among them (``rtl.sums.FusedSum``)."""
    above = max(t.top - exponent for t, exponent in terms)
    lowest = min([exponent for _, exponent in terms] + ([] if floor is None else [floor]))
    bits = above + 1 + kept
    highest = max([t.highest + e for t, e in terms] + ([] if floor is None else [floor])) - lowest
    width = bits + _growth(len(terms)) + 1
    muxes = [_shifter(bits, min(t.bits, bits), highest) for t, _ in terms]
    part = _sum_part(name, muxes, [bits] * len(terms), width, highest.bit_length())
    part = replace(part, chains=part.chains + (highest.bit_length(),) * _growth(len(terms)))
    infinity = any(t.infinity for t, _ in terms)
    nan = infinity or any(t.nan for t, _ in terms)
    return part, Shape(width - 1, lowest - kept, 0, highest, ((width - 2, highest),), True, nan, infinity)


def leading(x: Shape) -> tuple[list[Part], Shape]:
    """A number of fixed point as one that begins with a one; others as they are."""
    if not (x.highest == x.lowest == 0 and not x.normalised):
        return [], x
    mux, levels = _shifter(x.bits, x.bits, x.bits - 1)
    counts = {"one": 1, "mux": mux, "levels": levels, "width": x.bits, "exponent": _levels(x.bits)}
    top = x.bits - 1
    found = replace(x, base=x.base - top, highest=top, zeros=((0, top),))
    return [Part("leading", "normalise", counts, (_levels(x.bits),), 2 * levels, x.bits)], found


def held(width: int, last: int) -> tuple[Part, Shape]:
    """The magnitude of what an exact accumulator holds."""
    zeros = ((width - 2, 0),)
    return Part("exact", "add", {"one": 1, "width": width}, (width,), 2, width), Shape(
        width - 1, last, zeros=zeros, nan=True, infinity=True
    )


def registers(flipflops: int, cleared: int) -> Part:
    """Flip-flops; ``cleared`` bits are read through what clears them."""
    counts = {"flipflops": flipflops, "muxes": cleared, "data": flipflops}
    return Part("top", "registers", counts, width=max(flipflops, 1))


# ---- fixed point


def integer(fmt: FixedFormat) -> Integer:
    return Integer(fmt.bits + (not fmt.signed), fmt.quantum_exponent, fmt.signed)


def sum_integers(
    products: Sequence[tuple[Integer, Integer]], integers: Sequence[Integer] = (), name: str = "sum", cleared: int = 0
) -> tuple[Part, Integer]:
    """Products and integers in one heap; ``cleared`` bits of them come through what clears them."""
    last = min([x.last + y.last for x, y in products] + [x.last for x in integers])
    bound = sum(1 << x.bits + y.bits - 2 + x.last + y.last - last for x, y in products)
    bound += sum(1 << x.bits - 1 + x.last - last for x in integers)
    width = bound.bit_length() + 1
    rows = [x.bits + y.bits - 1 for x, y in products] + [x.bits for x in integers]
    deepest = max([min(x.bits, y.bits) for x, y in products] or [1]) * max(len(products), 1) + len(integers)
    counts = {
        "ands": sum(x.bits * y.bits for x, y in products),
        "adders": sum((x.bits - 1) * (y.bits - 1) for x, y in products),
        "rows": sum(rows) - max(rows),
        "width": width,
        "cleared": cleared,
    }
    return Part(name, "integers", counts, (width,), 3 * _levels(deepest + 1), width), Integer(width, last)


def truncate(x: Integer, last: int) -> tuple[Part, Integer]:
    """An integer cut off below 2^last."""
    places = last - x.last
    counts = {"up": max(x.bits - places, 0), "sticky": places}
    return Part("truncate", "round_integer", counts, (max(x.bits - places, 0),), _levels(places)), Integer(
        max(x.bits - places, 0) + 1, last
    )


def round_integer(x: Integer, fmt: FixedFormat, rounding: Rounding, name: str = "round") -> Part:
    places = fmt.quantum_exponent - x.last
    kept = max(x.bits - max(places, 0), 1)
    up = kept if places > 0 and rounding.mode is not Mode.RTN else 0
    wide = fmt.bits + (not fmt.signed) >= x.bits - places + bool(up)
    fits = wide and (fmt.signed or not x.negative)
    over = 0 if fmt.wrap or fits else max(kept, fmt.bits)
    counts = {
        "bits": fmt.bits,
        "up": up,
        "sticky": max(places, 0),
        "random": rounding.random_bits if places > 0 else 0,
        "over": over,
    }
    ways = (up, counts["random"], kept if up or over else 0)  # what fits as it is goes through by wires
    return Part(name, "round_integer", counts, ways, 3 if up or over else 1, x.bits)


# ---- together

SUMMING = ("align", "add", "add_eager", "sum", "integers")  #: kinds of parts that bring numbers together

Number = Shape | Integer  #: between parts: of floats a shape, of fixed point throughout an integer


class Parts:
    """Collects the parts of a unit."""

    def __init__(self, fixed: bool = False, eager: bool = False) -> None:
        self.eager, self.carries = eager, 0  #: carries of the last sum, until it is rounded
        self.fixed, self.parts, self.stage = fixed, list[Part](), 0
        self.alive = math.inf  #: bits of a sum that change
        self.multiplied = self.aside = False
        self.clear()
        self.role = "product"

    def clear(self) -> None:
        """The next part's operands come from a register."""
        self.stir = 0.0  #: of the sums on the way to the next part
        self.late = 0.0  #: of what came after; sums do not see it, as they wait for exponents and signs
        self.turned = False
        self.met = 1.0

    def put(self, part: Part, number: int = 1, serial: int = 1) -> None:
        if not (number and any(part.counts.values())):
            return
        serial = 0 if self.aside else serial
        summing, unpacks = part.kind in SUMMING, part.kind.startswith("unpack")
        stir = 0.0 if unpacks else self.stir if summing else max(self.stir, self.late)
        stir += max(serial - 1, 0) / 2 * part.stirs
        shape = (part.name, part.kind, part.counts, part.chains, part.levels, part.width)
        self.parts.append(Part(*shape, number, serial, self.stage, self.role, self.alive, stir, self.turned, self.met))
        if summing:
            self.stir, self.late = self.stir + max(serial, 1) * part.stirs, 0.0
            self.turned |= part.kind == "sum"
        else:
            self.late = max(self.late, part.stirs)

    def unpack(
        self, fmt: Format, number: int = 1, serial: int = 1, cleared: bool = False, whole: bool = True
    ) -> Number:
        """A format's numbers; of fixed point throughout integers, if these will do (``whole``)."""
        if self.fixed and whole:
            assert isinstance(fmt, FixedFormat)
            return integer(fmt)
        part, x = unpack(fmt, cleared)
        self.put(part, number, serial)
        return x

    def round(self, x: Number, fmt: Format, rounding: Rounding, number: int = 1, serial: int = 1) -> None:
        """A number of any kind rounded into a format."""
        if isinstance(x, Integer):
            assert isinstance(fmt, FixedFormat)
            self.put(round_integer(x, fmt, rounding), number, serial)
        else:
            for part in rounded(x, fmt, rounding, self.carries):
                self.put(part, number, serial)
            self.carries = 0

    def add(self, x: Number, y: Number, fmt: Format, how: Rounding, number: int = 1, serial: int = 1) -> Number:
        """A sum, as exact as rounding it into ``fmt`` needs."""
        if isinstance(x, Integer) or isinstance(y, Integer):
            return self.integers([], [x, y], "add", number, serial)  # type: ignore[list-item]
        need = Need(fmt, how, eager=self.eager)
        if self.eager:
            if not shapes.is_led(x, fmt):
                part, x = led(x)
                self.put(part, number, serial)
            self.carries = len(Window(x, y, need).chains)
        parts, total = add(x, y, need)
        self.met = self.meet(x, y, parts[-1].width)
        for part in parts:
            self.put(part, number, serial)
        return total

    def meet(self, x: Shape, y: Shape, width: int) -> float:
        """``Part.met`` of what adds two numbers."""
        return activity.apart(x, y, (self.multiplied, False), width)

    def added(self, x: Number, y: Number, fmt: Format, how: Rounding, number: int = 1, serial: int = 1) -> None:
        """A sum rounded into ``fmt``."""
        self.round(self.add(x, y, fmt, how, number, serial), fmt, how, number, serial)

    def multiply(self, x: Number, y: Number, name: str = "multiply", number: int = 1) -> Shape:
        assert isinstance(x, Shape) and isinstance(y, Shape)
        part, result = multiply(x, y, name)
        self.multiplied = True
        self.put(part, number)
        return result

    def integers(
        self,
        products: Sequence[tuple[Integer, Integer]],
        terms: Sequence[Integer],
        name: str,
        number: int = 1,
        serial: int = 1,
        cleared: int = 0,
    ) -> Integer:
        part, total = sum_integers(products, terms, name, cleared)
        self.put(part, number, serial)
        return total
