"""A result that differs from the definition's, explained: fields, values, the exact result, distances, flags."""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from .arithmetic import Flags, Result, exact, exact_product, quantize
from .blocks import Block, BlockFormat
from .comparison import next_down, next_up
from .fixed import FixedFormat
from .floats import FloatFormat
from .formats import Format, Kind, Unpacked
from .functions import OPERATIONS, Function

_ROOT_BITS = 256  #: of a root, below its last bit: more than is ever shown
_DIGITS = 20  #: of a decimal


class Difference(Enum):
    """In what two results differ."""

    RESULT = "result differs"
    NAN_PAYLOAD = "only the NaN payload differs"
    FLAGS = "only flags differ"


class Case(Enum):
    """What is particular about a case; the first that applies."""

    SPECIAL = "infinite or NaN operand"
    INVALID = "invalid, or division by zero"
    OVERFLOW = "overflow"
    SUBNORMAL = "subnormal operand or result"
    TIE = "tie"
    EXACT = "exact result"
    INEXACT = "inexact result"


def fields(fmt: Format | BlockFormat, code: int) -> str:
    """A code in binary, its fields apart: s|e|m of a float, s|regime|e|m of a posit, integer.fraction if fixed.

    Of a block, the scale's.
    """
    if isinstance(fmt, BlockFormat):
        return fields(fmt.scale, fmt.unpack_block(code)[1])
    text = f"{code:0{fmt.bits}b}"
    if isinstance(fmt, FixedFormat):
        place = fmt.integer_bits
        return f"{text[:place]}.{text[place:]}" if 0 < place < fmt.bits else text
    if isinstance(fmt, FloatFormat):
        ends = [0, fmt.bits - fmt.exponent_bits - fmt.trailing_bits, fmt.bits - fmt.trailing_bits, fmt.bits]
    else:  # a posit
        run = fmt.bits - 1 - len(text[1:].lstrip(text[1]))
        ends = [0, 1, run + 2, run + 2 + fmt.exponent_bits, fmt.bits]
    parts = [text[begin:end] for begin, end in itertools.pairwise(ends)]
    return "|".join(part for part in parts if part)


def value(datum: Unpacked | Block) -> str:
    """The value of a datum as a decimal; of a block, its scale and elements."""
    if isinstance(datum, Block):
        return f"{value(datum.scale)} x [{', '.join(map(value, datum.elements))}]"
    if datum.kind is Kind.NAN:
        return "signaling NaN" if datum.signaling else "NaN"
    if datum.kind is Kind.INFINITY or datum.is_zero:
        return ("-" if datum.negative else "") + ("0" if datum.is_zero else "inf")
    return _decimal(datum.fraction)


def landmarks(fmt: Format) -> dict[str, int]:
    """Codes by what they stand for: the ends of the range, where there is such, and what twice the largest gives."""
    largest = fmt.pack(exact(fmt.max_finite))
    codes = {"largest": largest, "lowest": fmt.pack(exact(fmt.min_finite))}
    if isinstance(fmt, FloatFormat):
        codes["smallest normal"] = fmt.min_normal_code
    codes["smallest positive"] = fmt.pack(exact(fmt.min_subnormal))
    one, flags = quantize(exact(1.0), fmt)
    codes |= {"one": one} if not flags else {}
    if isinstance(fmt, FloatFormat) and fmt.has_negative_zero:
        codes["negative zero"] = fmt.sign_bit
    if isinstance(fmt, FloatFormat) and fmt.has_infinity:
        codes["infinity"] = fmt.max_code + 1
    if not isinstance(fmt, FixedFormat) and fmt.has_nan:
        codes["canonical NaN"] = fmt.nan_code
    datum = fmt.unpack(largest)
    return codes | {"twice the largest": quantize(datum._replace(exponent=datum.exponent + 1), fmt)[0]}


def _decimal(number: Fraction) -> str:
    """A fraction as a decimal of at most 20 digits; an ellipsis where more would follow."""
    context = decimal.Context(prec=_DIGITS, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, rounding=decimal.ROUND_DOWN)
    quotient = context.divide(decimal.Decimal(number.numerator), decimal.Decimal(number.denominator))
    more = "..." if context.flags[decimal.Inexact] else ""
    plain = -7 < quotient.adjusted() < _DIGITS
    text = f"{quotient:f}" if plain else f"{quotient:e}"
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return mantissa + more + (f"e{exponent}" if exponent else "")


def _ratio(number: Fraction) -> str:
    """A fraction as p/q, or as p/q*2^e with odd p and q where that is shorter."""
    plain = str(number)
    if len(plain) <= 24 or number == 0:
        return plain
    up, down = ((n & -n).bit_length() - 1 for n in (number.numerator, number.denominator))
    odd = Fraction(number.numerator >> up, number.denominator >> down)
    return min(plain, f"{odd}*2^{up - down}", key=len)


def _root(x: Fraction) -> Fraction:
    """The square root; where it is irrational, with bits enough that nobody can tell."""
    shift = max(0, _ROOT_BITS + x.denominator.bit_length() - x.numerator.bit_length())
    return Fraction(math.isqrt((x.numerator << 2 * shift) // x.denominator), 1 << shift)


def _remainder(x: Fraction, y: Fraction) -> Fraction:
    return x - y * round(x / y)


#: The exact results of operations on finite operands, written down independently of the definition.
_EXACT: dict[str, Callable[..., Fraction]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "fma": lambda x, y, z: x * y + z,
    "div": lambda x, y: x / y,
    "rem": _remainder,
    "sqrt": _root,
    "scalb": lambda x, n: x * Fraction(2) ** int(n),
    "convert": lambda x: x,
    "convert_to_integer": lambda x: x,
    "round_to_integral": lambda x: x,
    "dot": lambda *xy: sum((x * y for x, y in zip(xy[: len(xy) // 2], xy[len(xy) // 2 :], strict=True)), Fraction(0)),
    "sum": lambda *x: sum(x, Fraction(0)),
}


def _numbers(datum: Unpacked | Block) -> list[Unpacked]:
    """A number, or those of a block, scaled."""
    return [exact_product(x, datum.scale) for x in datum.elements] if isinstance(datum, Block) else [datum]


def exact_result(function: Function, codes: Sequence[int]) -> Fraction | None:
    """The exact result, a root to 256 bits; None where the operation has no such thing, or it is no finite number."""
    data = [x for datum in function.unpack(codes) for x in _numbers(datum)]
    if function.operation not in _EXACT or any(x.kind is not Kind.FINITE for x in data):
        return None
    if function.operation == "sqrt" and data[0].negative:
        return None
    if function.operation == "scalb" and abs(data[1].fraction) > 10_000:
        return None
    try:
        return _EXACT[function.operation](*(x.fraction for x in data))
    except ZeroDivisionError:
        return None


def _step(fmt: Format, code: int, up: bool) -> Fraction | None:
    """The distance from a finite value to its neighbour above or below; None where there is none."""
    neighbour = fmt.unpack((next_up if up else next_down)(code, fmt).code)
    if neighbour.kind is not Kind.FINITE:
        return None
    return abs(neighbour.fraction - fmt.unpack(code).fraction) or None


def _ulp(fmt: Format, code: int) -> Fraction | None:
    """The distance from a finite value to the next one away from zero, at the end of the range toward zero."""
    away = not fmt.unpack(code).negative
    return _step(fmt, code, away) or _step(fmt, code, not away)


@dataclass(frozen=True)
class Explanation:
    """A mismatch, told."""

    function: Function
    codes: tuple[int, ...]
    random: int
    theirs: Result
    ours: Result

    @property
    def difference(self) -> Difference:
        """In what the results differ. All NaNs count as one value, but for a signaling one, which is never right."""
        theirs, ours = [self.function.result.unpack(result.code) for result in (self.theirs, self.ours)]
        alike = theirs.kind is ours.kind is Kind.NAN and not theirs.signaling
        if self.theirs.code != self.ours.code and not alike:
            return Difference.RESULT
        return Difference.FLAGS if self.theirs.flags != self.ours.flags else Difference.NAN_PAYLOAD

    @property
    def case(self) -> Case:
        """What is particular about the operands and our result."""
        function, ours = self.function, self.ours
        data = [fmt.unpack(code) for fmt, code in zip(function.operands, self.codes, strict=True)]
        if any(x.kind is not Kind.FINITE for datum in data for x in _numbers(datum)):
            return Case.SPECIAL
        if ours.flags & (Flags.INVALID | Flags.DIVIDE_BY_ZERO):
            return Case.INVALID
        if ours.flags & Flags.OVERFLOW:
            return Case.OVERFLOW
        formats = (*function.operands, function.result)
        if any(
            _is_subnormal(fmt, x) for fmt, x in zip(formats, [*data, function.result.unpack(ours.code)], strict=True)
        ):
            return Case.SUBNORMAL
        error = self._error(ours.code)
        if not error:
            return Case.EXACT
        gap = _step(function.result, ours.code, up=error > 0)
        return Case.TIE if gap == 2 * abs(error) else Case.INEXACT

    def _error(self, code: int) -> Fraction | None:
        """The exact result minus the value of a code of the result; None where one of them is no number."""
        exact, held = exact_result(self.function, self.codes), self.function.result.unpack(code)
        return None if exact is None or held.kind is not Kind.FINITE else exact - held.fraction

    def __str__(self) -> str:
        function = self.function
        rows = [
            (name, *_shown(fmt, code), "")
            for name, fmt, code in zip(function.operand_names, function.operands, self.codes, strict=True)
        ]
        if function.random_bits:
            rows.append(("random", "", f"{self.random:0{function.random_bits}b}", "", ""))
        for name, result in (("theirs", self.theirs), ("ours", self.ours)):
            rows.append((name, *_shown(function.result, result.code), str(result.flags)))
        values = max(len(row[3]) for row in rows[-2:])  # flags stand beside results only
        widths = [7, *(max(len(row[column]) for row in rows) for column in (1, 2)), values, 0]
        lines = ["  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines = [line.rstrip() for line in lines]
        return "\n".join([*lines, *(f"  {name:<7}  {text}" for name, text in self._remarks())])

    def to_json(self) -> dict[str, Any]:
        """Codes as hexadecimal text, flags as numbers, and the explanation."""
        return {
            "operands": [_shown(fmt, code)[0] for fmt, code in zip(self.function.operands, self.codes, strict=True)],
            "random": self.random,
            "theirs": {"code": _shown(self.function.result, self.theirs.code)[0], "flags": int(self.theirs.flags)},
            "ours": {"code": _shown(self.function.result, self.ours.code)[0], "flags": int(self.ours.flags)},
            "difference": self.difference.value,
            "case": self.case.value,
            "explanation": str(self),
        }

    def _remarks(self) -> list[tuple[str, str]]:
        """The exact result, the distances, and the flags that differ."""
        return [
            (name, text)
            for name, text in (("exact", self._exact()), ("apart", self._apart()), ("flags", self._flags()))
            if text
        ]

    def _exact(self) -> str:
        exact = exact_result(self.function, self.codes)
        if exact is None:
            return ""
        irrational = self.function.operation == "sqrt" and exact**2 != self.function.unpack(self.codes)[0].fraction
        ratio, approximate = _ratio(exact), _decimal(exact)
        return approximate if irrational or ratio == approximate else f"{ratio} = {approximate}"

    def _apart(self) -> str:
        fmt = self.function.result
        if OPERATIONS[self.function.operation].result:  # a truth value or the like
            return ""
        ours, theirs = fmt.unpack(self.ours.code), fmt.unpack(self.theirs.code)
        if ours.kind is not Kind.FINITE or theirs.kind is not Kind.FINITE or not (ulp := _ulp(fmt, self.ours.code)):
            return ""
        sentence = f"theirs {_offset((theirs.fraction - ours.fraction) / ulp)}"
        error = self._error(self.ours.code)
        return sentence if error is None else f"{sentence}, the exact result {_offset(error / ulp)}"

    def _flags(self) -> str:
        missing, extra = self.ours.flags & ~self.theirs.flags, self.theirs.flags & ~self.ours.flags
        parts = [f"{word} {flags}" for word, flags in (("theirs lack", missing), ("theirs raise", extra)) if flags]
        return " and ".join(parts)


def _shown(fmt: Format | BlockFormat, code: int) -> tuple[str, str, str]:
    """A code in hexadecimal and by fields, and its value."""
    return f"{code:0{-(-fmt.bits // 4)}X}", fields(fmt, code), value(fmt.unpack(code))


def _offset(ulps: Fraction) -> str:
    """A distance from ours."""
    if not ulps:
        return "= ours"
    size = f"{abs(ulps.numerator)}" if ulps.denominator == 1 else f"{abs(float(ulps)):.4g}"
    return f"{size} ulp{'s' if abs(ulps) > 1 else ''} {'above' if ulps > 0 else 'below'} ours"


def _is_subnormal(fmt: Format | BlockFormat, x: Unpacked | Block) -> bool:
    if not isinstance(fmt, FloatFormat) or isinstance(x, Block) or x.kind is not Kind.FINITE or x.is_zero:
        return False
    return x.significand.bit_length() - 1 + x.exponent < fmt.emin


def explain(function: Function, codes: Sequence[int], theirs: tuple[int, int], random: int = 0) -> Explanation:
    """Compare a result with the definition's.

    Parameters
    ----------
    codes : the operands' codes.
    theirs : the code and flags to be explained.
    random : the random bits of stochastic rounding.
    """
    ours = function(*codes, random=random)
    return Explanation(function, tuple(codes), random, Result(theirs[0], Flags(theirs[1])), ours)
