"""Codes taken apart: sign, significand, exponent, and what is not a number."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Mux, Value

from ..formats import FixedFormat, FloatFormat, Format, PositFormat, Specials
from .part import Number, Part, any_bit, leading_zeros, shift_left
from .shapes import Shape, shape


class Unpack(Part):
    """The number that a code denotes; ``number`` has the shape ``shapes.shape(fmt)``."""

    def __init__(self, code: Value, fmt: Format) -> None:
        super().__init__()
        code = self.let("code", code)
        if isinstance(fmt, FixedFormat):
            self.number = self._fixed(code, fmt)
        elif isinstance(fmt, PositFormat):
            self.number = self._posit(code, fmt)
        else:
            self.number = self._float(code, fmt)

    def _fixed(self, code: Value, fmt: FixedFormat) -> Number:
        sign = self.let("sign", code[-1]) if fmt.signed else Const(0, 1)
        magnitude = self.let("magnitude", Mux(sign, -code, code)[: fmt.bits])
        return Number(shape(fmt), sign, magnitude, Const(0, 0), self.let("zero", ~code.any()))

    def _float(self, code: Value, fmt: FloatFormat) -> Number:
        t, w = fmt.trailing_bits, fmt.exponent_bits
        sign = self.let("sign", code[-1]) if fmt.signed else Const(0, 1)
        trailing, field = code[:t], self.let("exponent_field", code[t : t + w])
        if fmt.has_zero:
            normal = self.let("normal", field.any())
            significand = self.let(
                "magnitude", Cat(trailing if fmt.subnormals else trailing & normal.replicate(t), normal)
            )
            offset = self.let("offset", Cat(field[0] | ~normal, field[1:]))
            zero = self.let("zero", ~(normal | any_bit(trailing)) if fmt.subnormals else ~normal)
        else:
            significand, offset, zero = self.let("magnitude", Cat(trailing, 1)), field, Const(0, 1)
        nan, infinity, invalid = self._specials(code, trailing, field, fmt)
        return Number(shape(fmt), sign, significand, offset, zero, nan, infinity, invalid)

    def _specials(self, code: Value, trailing: Value, field: Value, fmt: FloatFormat) -> tuple[Value, Value, Value]:
        never = Const(0, 1)
        if fmt.specials is Specials.FINITE:
            return never, never, never
        if fmt.specials is Specials.IEEE:
            ones, rest = self.let("all_ones", field.all()), any_bit(trailing)
            nan = self.let("nan", ones & rest)
            invalid = self.let("signaling", nan & ~trailing[-1]) if fmt.trailing_bits else never
            return nan, self.let("infinity", ones & ~rest), invalid
        magnitude = code[: fmt.trailing_bits + fmt.exponent_bits]
        if fmt.specials is Specials.FN:
            return self.let("nan", magnitude.all()), never, never
        nan = self.let("nan", code == fmt.nan_code)
        return nan, self.let("infinity", magnitude == fmt.max_code + 1) if fmt.has_infinity else never, never

    def _posit(self, code: Value, fmt: PositFormat) -> Number:
        """The regime is the run of bits equal to the first; what stands behind it is shifted up to it."""
        known: Shape = shape(fmt)
        n, es = fmt.bits, fmt.exponent_bits
        sign = self.let("sign", code[-1])
        rest = self.let("rest", code[:-1].any())
        body = self.let("body", Mux(sign, -code, code)[: n - 1])
        ones = self.let("ones", body[-1])
        run, _ = leading_zeros(self, "run", self.let("changes", Cat(Const(1, 1), (body ^ ones.replicate(n - 1)))))
        run = self.let("run_length", run)  # 1 ... n - 1
        tail = shift_left(self, "tail", self.let("behind_first", Cat(Const(0, 2), body[:-1])), run)[1:]
        # behind the run's end: es exponent bits, then the fraction
        tail = self.let("exponent_and_fraction", Cat(Const(0, max(0, es + known.bits - 1 - len(tail))), tail))
        exponent = tail[len(tail) - es :] if es else Const(0, 0)
        fraction = tail[len(tail) - es - (known.bits - 1) : len(tail) - es]
        regime = self.let("regime", Mux(ones, run - 1 + (n - 2), (n - 2) - run)[: (2 * n).bit_length()])
        offset = self.let("offset", Cat(exponent, regime)[: known.offset_bits])
        magnitude = self.let("magnitude", Cat(fraction, Const(1, 1)))
        nan = self.let("nan", sign & ~rest)
        zero = self.let("zero", ~sign & ~rest)
        return Number(known, sign, Mux(zero, 0, magnitude)[: known.bits], offset, zero, nan)
