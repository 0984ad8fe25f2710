"""The one rounding of every unit: an exact number, normalised and rounded into a format. Mirrors ``round_pack``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Value

from ..arithmetic import exact_max
from ..formats import FixedFormat, FloatFormat, Format, Specials
from ..rounding import Mode, Rounding
from .part import Number, Part, any_bit, leading_zeros, shift_left, shift_right_sticky
from .shapes import Need, gradual, needs_no_shift, overflows


@dataclass(frozen=True, eq=False)
class Cut:
    """A magnitude cut into the kept bits, the fraction bits that count one by one, and a sticky bit."""

    kept: Value
    fraction: Value  #: ``Need.fraction`` bits
    sticky: Value


def increment(rounding: Rounding, sign: Value, odd: Value, fraction: Value, sticky: Value, random: Value) -> Value:
    """Whether the kept bits go up by one; ``fraction`` as long as the mode looks at it, or longer."""
    mode, k = rounding.mode, rounding.random_bits
    if mode is Mode.SR:
        drawn_on = fraction[len(fraction) - k :]
        if rounding.corrected:
            below = fraction[: len(fraction) - k]
            drawn_on = drawn_on + (below[-1] & (any_bit(below[:-1]) | sticky | drawn_on[0]))
        return (drawn_on + random)[k:].any()
    rest = any_bit(fraction) | sticky
    if mode in (Mode.RNE, Mode.RND):
        return fraction[-1] & (any_bit(fraction[:-1]) | sticky | (odd if mode is Mode.RNE else sign))
    if mode is Mode.RNA:
        return fraction[-1]
    if mode is Mode.RTO:
        return rest & ~odd
    if mode in (Mode.RTP, Mode.RTN):
        return rest & (sign if mode is Mode.RTN else ~sign)
    return Const(0, 1)


def _cut(part: Part, magnitude: Value, kept_bits: int, need: Need) -> Cut:
    """The first ``kept_bits`` of a magnitude, and what follows as ``need`` wants it; padded with zeros on the right."""
    counted = 0 if need.eager else need.fraction
    wanted = kept_bits + counted
    padding = max(0, wanted - len(magnitude))
    magnitude = Cat(Const(0, padding), magnitude)
    below = len(magnitude) - wanted
    sticky = any_bit(magnitude[:below])
    return Cut(magnitude[below + counted :], magnitude[below : below + counted], part.let("sticky", sticky))


def _lowered(part: Part, cut: Cut, amount: Value) -> Cut:
    """A cut whose places have moved down by ``amount`` (subnormal results; small ones in fixed point)."""
    whole, sticky = shift_right_sticky(part, "lowered", part.let("to_lower", Cat(cut.fraction, cut.kept)), amount)
    f = len(cut.fraction)
    return Cut(whole[f:], whole[:f], part.let("sticky_lowered", cut.sticky | sticky))


class Normal(NamedTuple):
    """A normalised magnitude; its first bit has the exponent emin + ``exponent`` (signed), of fixed point that of the
    last place."""

    magnitude: Value
    exponent: Value
    shift: Value = Const(0, 0)  #: places that it has been shifted up


class Normalise(Part):
    """A number shifted up until it begins with a one, or as far as its format's exponent range allows."""

    def __init__(self, x: Number, fmt: Format) -> None:
        super().__init__()
        above = x.shape.top - fmt.emin
        x = self.take_number("x", x)
        exponent = self.let("exponent", x.offset + Const(above))
        if needs_no_shift(x.shape, fmt):
            self.normal = Normal(self.let("magnitude", x.magnitude), exponent)
            return
        count, _ = leading_zeros(self, "zeros", x.magnitude)
        count = self.let("count", count)
        if gradual(fmt) and any(h - z < 0 for z, h in ((z, x.shape.lowest + above) for z, _ in x.shape.zeros)):
            limit = Mux(exponent < 0, 0, exponent) if x.shape.lowest + above < 0 else exponent
            limit = self.let("limit", limit)
            count = self.let("shift", Mux(count > limit, limit, count)[: len(count)])
        magnitude = shift_left(self, "normalised", x.magnitude, count)
        self.normal = Normal(magnitude, self.let("exponent_normalised", exponent - count), count)


class Round(Part):
    """The code of a number rounded once into a format, and the flags that this raises.

    ``random``: the random bits of SR; if that is eager, the carry that they made, of a number without fraction.
    """

    def __init__(self, x: Number, normal: Normal, need: Need, random: Value, beyond_is_infinite: bool = False):
        super().__init__()
        self.x, self.need, self.fmt = self.take_number("x", x), need, need.fmt
        self.random = self.take("random", random)
        self.magnitude = self.take("magnitude", normal.magnitude)
        self.exponent = self.take("exponent", normal.exponent)
        self.beyond_is_infinite = beyond_is_infinite  #: what overflows becomes an infinity in every mode
        if isinstance(need.fmt, FixedFormat):
            self._fixed(need.fmt)
        else:
            assert isinstance(need.fmt, FloatFormat)
            self._float(need.fmt)

    def _increments(self, cut: Cut, odd: Value) -> Value:
        if self.need.eager:
            return self.random
        return increment(self.need.rounding, self.x.sign, odd, cut.fraction, cut.sticky, self.random)

    # ---- floats

    def _float(self, fmt: FloatFormat) -> None:
        x, t, need = self.x, fmt.trailing_bits, self.need
        exponent = self.exponent
        cut = _cut(self, self.magnitude, fmt.precision, need)
        lowest = x.shape.lowest + x.shape.top - fmt.emin
        if gradual(fmt) and lowest < 0:
            below = self.let("below", exponent < 0)
            amount = self.let("amount", Mux(below, -exponent, 0)[: max((-lowest).bit_length(), 1)])
            cut = _lowered(self, cut, amount)
            exponent = self.let("exponent_kept", Mux(below, 0, exponent))
        kept = self.let("kept", cut.kept)
        # the exponent's field is one more than ``exponent`` if the hidden bit is set: the sum of both is the code
        hidden = kept[t] if fmt.has_zero else Const(0, 1)
        field = self.let("field", exponent + hidden)
        by_code = fmt.parity(fmt.emin + 1) == 1
        odd = self.let("odd", (field if by_code else kept)[0])
        up = self.let("up", self._increments(cut, odd))
        code = self.let("magnitude_code", Cat(kept[:t], field).as_signed() + up)
        inexact = self.let("inexact", any_bit(cut.fraction) | cut.sticky)
        if not gradual(fmt):
            tiny = self.let("tiny", code < fmt.min_normal_code)
        elif need.flags:
            tiny = self.let("tiny", self._tiny_after_rounding(cut, kept, field))
        else:
            tiny = Const(0, 1)
        self._pack(fmt, code, tiny, inexact)

    def _tiny_after_rounding(self, cut: Cut, kept: Value, field: Value) -> Value:
        """Whether the result would lie below emin, were the exponent range unbounded."""
        t = len(kept) - 1
        ones = self.let("all_ones", Cat(kept[:t], cut.fraction[-1]).all())
        fraction = Cat(Const(0, 1), cut.fraction[:-1])
        odd = Const(1 ^ self.fmt.parity(self.fmt.emin - 1), 1)  # type: ignore[union-attr]
        carries = increment(self.need.rounding, self.x.sign, odd, fraction, cut.sticky, self.random)
        return (field == 0) & ~(ones & self.let("carries", carries))

    def _pack(self, fmt: FloatFormat, code: Value, tiny: Value, inexact: Value) -> None:
        x, mode = self.x, self.need.rounding.mode
        flushed = Const(0, 1) if gradual(fmt) else tiny
        vanished = self.let("vanished", x.zero | flushed | (code == 0) if fmt.has_zero else x.zero | flushed)
        minus = x.sign if x.shape.negative else Const(0, 1)
        over: Value = Const(0, 1)
        if overflows(x.shape, fmt):
            over = code > fmt.max_code
            if not fmt.signed:
                over = over | minus
            over = self.let("over", over & ~vanished)
        end, beyond = self._ends(fmt, minus)
        extended_stays = int(fmt.specials is not Specials.EXTENDED)
        stays: Value = Const(int(mode is Mode.RTZ), 1)
        if mode in (Mode.RTP, Mode.RTN):
            stays = minus if mode is Mode.RTP else ~minus
        if mode is Mode.RTO:
            stays = Const(extended_stays, 1) if extended_stays else end[0]
        if self.beyond_is_infinite:
            stays = Const(0, 1)
        signed = Cat(code[: fmt.bits - fmt.signed], minus) if fmt.signed else code[: fmt.bits]
        zero = Cat(Const(0, fmt.bits - 1), minus) if fmt.has_negative_zero else Const(0, fmt.bits)
        number = Mux(vanished, zero, Mux(over, Mux(stays, end, beyond), signed))
        result = Mux(x.infinity, beyond, number) if x.shape.infinity else number
        self._finish(result)
        held = fmt.has_infinity and not fmt.saturate
        not_held = Const(int(not held), 1) | (minus if held and not fmt.signed else Const(0, 1))
        underflow = vanished & ~x.zero | tiny & inexact | (x.zero if not fmt.has_zero else Const(0, 1))
        self._flags(over, underflow & ~over, inexact, not_held)

    def _ends(self, fmt: FloatFormat, minus: Value) -> tuple[Value, Value]:
        """The code of the range's end on a number's side, and of what lies beyond it."""

        def choose(of: list[int]) -> Value:
            return Mux(minus, Const(of[1], fmt.bits), Const(of[0], fmt.bits))

        ends = [fmt.max_code, fmt.sign_bit | fmt.max_code if fmt.signed else 0]
        beyond = list(ends)
        if not fmt.saturate and (fmt.has_infinity or fmt.has_nan):
            infinite = [fmt.has_infinity, fmt.has_infinity and fmt.signed]
            beyond = [end + 1 if has else fmt.nan_code for end, has in zip(ends, infinite, strict=True)]
        return choose(ends), choose(beyond)

    # ---- fixed point

    def _fixed(self, fmt: FixedFormat) -> None:
        x, n, need = self.x, fmt.bits, self.need
        magnitude, exponent = self.magnitude, self.exponent
        # the window's first bit is the sign's place, or where wrapping could still find bits
        spare = len(magnitude) if fmt.wrap else 1
        first = n - 1 + spare  # exponent of the window's first bit, in units of the last place
        highest = x.shape.highest + x.shape.top - fmt.emin
        lowest = x.shape.least - fmt.emin  # what began with zeros has been shifted up
        too_large: Value = Const(0, 1)
        first = min(first, max(highest, 0))
        if highest > first:
            too_large = self.let("too_large", (exponent > first) & ~x.zero)
        cut = _cut(self, magnitude, first + 1, need)
        if lowest < first:
            amount = self.let("amount", (first - exponent)[: max((first - lowest).bit_length(), 1)])
            cut = _lowered(self, cut, amount)
        kept = self.let("kept", Mux(too_large, 0, cut.kept))
        up = self.let("up", self._increments(cut, kept[0]) & ~too_large)
        rounded = self.let("rounded", kept + up)
        inexact = self.let("inexact", any_bit(cut.fraction) | cut.sticky)
        minus = x.sign if x.shape.negative else Const(0, 1)
        least = Mux(minus, -fmt.min_integer, fmt.max_integer)
        over = self.let("over", too_large | (rounded > least))
        integer = self.let("integer", Mux(minus, Const(0, n) - rounded, rounded)[:n])
        end = Mux(minus, Const(fmt.min_integer & ((1 << n) - 1), n), Const(fmt.max_integer, n))
        number = integer if fmt.wrap else Mux(over, end, integer)
        self._finish(Mux(x.infinity, end, number) if x.shape.infinity else number)
        self._flags(over, Const(0, 1), inexact, Const(1, 1))

    # ---- both

    def _finish(self, result: Value) -> None:
        if self.x.shape.nan:
            fmt = self.fmt
            nan = fmt.nan_code if fmt.has_nan else fmt.pack(exact_max(fmt))  # type: ignore[union-attr]
            result = Mux(self.x.nan, Const(nan, fmt.bits), result)
        self.code = self.let("code", result[: self.fmt.bits])

    def _flags(self, over: Value, underflow: Value, inexact: Value, infinity_overflows: Value) -> None:
        """The five flags, in the bit order of RISC-V's fflags."""
        if not self.need.flags:
            return
        x, fmt = self.x, self.fmt
        endless = x.infinity & infinity_overflows
        finite = ~(x.nan | x.infinity)
        over_all = self.let("overflow", finite & over | ~x.nan & endless)
        under = self.let("underflow", finite & underflow)
        invalid = self.let("invalid", x.invalid if fmt.has_nan else x.nan)
        changed = self.let("changed", over_all | under | finite & inexact & ~x.zero)
        self.flags = self.let("flags", Cat(changed, under, over_all, Const(0, 1), invalid))
