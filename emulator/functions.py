"""Function units by name: one operation with its formats, rounding and conventions, from codes to code and flags.

    <format>_<operation>[_to_<format>]     e4m3fn_mul, q4.12_add, posit16_fma, fp8_e4m3_dot4_to_fp32
    <format>_to_<format>                   bf16_to_e4m3fn, q4.12_to_fp16
    <block format>_dot<size>[_to_<format>] mxfp4_dot32: a pair of packed blocks, into fp32 unless told

Berkeley TestFloat's names are understood as well (John Hauser, TestFloat release 3e): ``f16 f32 f64 bf16`` for formats,
``i32 ui32 i64 ui64`` (here any width) for integers, ``mulAdd roundToInt le_quiet`` ... for operations.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

from . import arithmetic, comparison, names, operations
from .arithmetic import Result
from .blocks import Block, BlockFormat, block_dot
from .comparison import Class, Relation
from .conventions import RISCV, Conventions
from .errors import HalfulpError
from .fixed import FixedFormat
from .floats import FloatFormat
from .formats import Format
from .posits import PositFormat
from .rounding import Mode, Rounding

BOOLEAN = FixedFormat(1, 0, signed=False)  #: results of relations
INTEGER = FixedFormat(32, 0)  #: scalb's second operand
BLOCK_RESULT = FloatFormat(8, 23)  #: of dot products of blocks (MX section 6.1)
MOST_TERMS = 4096  #: of a dot product or sum

#: TestFloat's names of formats, operations and roundings, and ours.
FORMATS = {"f16": "fp16", "f32": "fp32", "f64": "fp64"}
ROUNDINGS = {
    "near_even": Mode.RNE,
    "near_maxmag": Mode.RNA,
    "minmag": Mode.RTZ,
    "min": Mode.RTN,
    "max": Mode.RTP,
    "odd": Mode.RTO,
}
OPERATION_NAMES = {"muladd": "fma", "roundtoint": "round_to_integral", "min": "minimum", "max": "maximum"}


@dataclass(frozen=True, repr=False)
class Function:
    """A function unit: what a name, a rounding and the conventions make of codes.

    The code of a block is the block packed into one integer (``BlockFormat.pack_block``).
    """

    name: str
    operation: str  #: a key of OPERATIONS, "convert" or "convert_to_integer"
    operands: tuple[Format | BlockFormat, ...]
    result: Format
    rounding: Rounding
    conventions: Conventions
    exact: bool  #: rounding to an integer raises inexact (IEEE 754's roundToIntegralExact, convertToIntegerExact)

    def __repr__(self) -> str:
        return f"<Function {self.name} {self.described}>".replace(" >", ">")

    @property
    def numbers(self) -> tuple[Format, ...]:
        """The formats of those operands that are numbers, not blocks: all of them, or none."""
        return tuple(fmt for fmt in self.operands if not isinstance(fmt, BlockFormat))

    @property
    def is_fixed(self) -> bool:
        """Whether operands and result are of fixed point."""
        return all(isinstance(fmt, FixedFormat) for fmt in (*self.operands, self.result))

    @property
    def random_bits(self) -> int:
        """k, the random bits that each call takes; 0 where nothing is rounded stochastically."""
        return self.rounding.random_bits if OPERATIONS[self.operation].rounds else 0

    @property
    def described(self) -> str:
        """The rounding, and what of the conventions is not RISC-V's."""
        used = self.conventions
        parts = [str(self.rounding) if OPERATIONS[self.operation].rounds else ""]
        parts += [f"tininess {used.tininess}" if used.tininess != RISCV.tininess else ""]
        parts += [f"{used.nan} NaNs" if used.nan != RISCV.nan else "", "DAZ" * used.daz, "FTZ" * used.ftz]
        return " ".join([*filter(None, parts), *(["exact"] if self.exact else [])])

    @property
    def operand_names(self) -> tuple[str, ...]:
        """a, b, c; of a dot product of numbers x1 ... xn, y1 ... yn, of a sum x1 ... xn."""
        n = len(self.operands)
        if self.operation == "dot" and not isinstance(self.operands[0], BlockFormat):
            return tuple(f"{letter}{i + 1}" for letter in "xy" for i in range(n // 2))
        return tuple(f"x{i + 1}" for i in range(n)) if self.operation == "sum" else tuple("abc"[:n])

    def __call__(self, *codes: int, random: int | None = None) -> Result:
        """Code and flags by the definition.

        Parameters
        ----------
        codes : one per operand, integers in [0, 2**bits) of its format.
        random : the k random bits of SR, in [0, 2**k); to be left out where nothing is rounded so.
        """
        if random is None and self.random_bits:
            raise HalfulpError(f"{self.name} rounds stochastically: give it random=, of {self.random_bits} bits.")
        try:
            codes, random = tuple(map(index, codes)), index(random or 0)
        except TypeError:
            raise HalfulpError(f"{self.name}: codes are integers, not {codes!r} with random={random!r}.") from None
        if len(codes) != len(self.operands):
            raise HalfulpError(f"{self.name} takes {len(self.operands)} operands, not {len(codes)}.")
        for code, fmt in zip(codes, self.operands, strict=True):
            if not 0 <= code < 1 << fmt.bits:
                raise HalfulpError(f"{self.name}: {code} is not a code of {fmt}: it must lie in [0, 2**{fmt.bits}).")
        if not 0 <= random < 1 << self.random_bits:
            raise HalfulpError(f"{self.name} takes a random integer in [0, 2**{self.random_bits}), not {random}.")
        return OPERATIONS[self.operation].apply(self, codes, random)

    def unpack(self, codes: Sequence[int]) -> list[Any]:
        """The exact data of operand codes, subnormals read as the conventions say: Unpacked, or Block."""
        return [
            fmt.unpack(code) if isinstance(fmt, BlockFormat) else self.conventions.operand(fmt, code)
            for fmt, code in zip(self.operands, codes, strict=True)
        ]


class _Operation(NamedTuple):
    """How an operation of one name is carried out."""

    apply: Callable[[Function, Sequence[int], int], Result]
    arity: int
    rounds: bool = False
    result: Format | None = None  #: None: the operands' format


def _rounded(operation: Callable[..., Result], arity: int) -> _Operation:
    def apply(unit: Function, codes: Sequence[int], random: int) -> Result:
        return operation(*unit.unpack(codes), unit.result, unit.rounding, random, unit.conventions)

    return _Operation(apply, arity, rounds=True)


def _to_integer(operation: Callable[..., Result]) -> _Operation:
    def apply(unit: Function, codes: Sequence[int], random: int) -> Result:
        return operation(*unit.unpack(codes), unit.result, unit.rounding, random, unit.conventions, unit.exact)

    return _Operation(apply, 1, rounds=True)


def _convert(unit: Function, codes: Sequence[int], random: int) -> Result:
    (fmt,), to = unit.numbers, unit.result
    integer = isinstance(fmt, FixedFormat) and fmt.signed and not fmt.fraction_bits
    if integer and isinstance(to, PositFormat) and codes[0] == 1 << (fmt.bits - 1):
        return Result(to.nan_code, arithmetic.Flags.NONE)  # Standard for Posit Arithmetic (2022), section 6.4
    return arithmetic.round_pack(unit.unpack(codes)[0], to, unit.rounding, random, unit.conventions)


def _convert_to_integer(unit: Function, codes: Sequence[int], random: int) -> Result:
    (x,), to = unit.unpack(codes), unit.result
    assert isinstance(to, FixedFormat)
    result = operations.to_integer(x, to, unit.rounding, random, unit.conventions, unit.exact)
    if isinstance(unit.numbers[0], PositFormat) and result.flags & arithmetic.Flags.INVALID:
        return Result(1 << (to.bits - 1), result.flags)  # the same section: 100...0 is NaR's and overflow's
    return result


def _relation(relations: str, signaling: bool) -> _Operation:
    def apply(unit: Function, codes: Sequence[int], random: int) -> Result:
        x, y = unit.unpack(codes)
        relation, flags = comparison.compare(x, y, signaling, unit.numbers[0])
        return Result(int(relation.value in relations.split()), flags)

    return _Operation(apply, 2, result=BOOLEAN)


def _chosen(operation: Callable[..., Result]) -> _Operation:
    def apply(unit: Function, codes: Sequence[int], random: int) -> Result:
        return operation(*unit.unpack(codes), unit.result, unit.conventions)

    return _Operation(apply, 2)


def _neighbour(operation: Callable[[int, Format, Conventions], Result]) -> _Operation:
    return _Operation(lambda unit, codes, random: operation(codes[0], unit.result, unit.conventions), 1)


def _compare(unit: Function, codes: Sequence[int], random: int) -> Result:
    x, y = unit.unpack(codes)
    relation, flags = comparison.compare(x, y, fmt=unit.numbers[0])
    return Result(list(Relation).index(relation), flags)


def _classify(unit: Function, codes: Sequence[int], random: int) -> Result:
    (x,) = unit.unpack(codes)
    kind = comparison.classify(x, unit.numbers[0])
    return Result(1 << RISCV_CLASSES.index(kind), arithmetic.Flags.NONE)


def _scalb(unit: Function, codes: Sequence[int], random: int) -> Result:
    x, n = unit.unpack(codes)
    return operations.scalb(x, int(n.fraction), unit.result, unit.rounding, random, unit.conventions)


def _dot(unit: Function, codes: Sequence[int], random: int) -> Result:
    data = unit.unpack(codes)
    if isinstance(data[0], Block):
        x, y = data
        return block_dot(x, y, unit.result, unit.rounding, random, unit.conventions)
    half = len(data) // 2
    pairs = zip(data[:half], data[half:], strict=True)
    return operations.dot(pairs, unit.result, unit.rounding, random, unit.conventions)


def _sum(unit: Function, codes: Sequence[int], random: int) -> Result:
    one = arithmetic.exact(1)
    pairs = ((x, one) for x in unit.unpack(codes))
    return operations.dot(pairs, unit.result, unit.rounding, random, unit.conventions)


#: The bits of RISC-V's fclass, from bit 0 up.
RISCV_CLASSES = (
    Class.NEGATIVE_INFINITY,
    Class.NEGATIVE_NORMAL,
    Class.NEGATIVE_SUBNORMAL,
    Class.NEGATIVE_ZERO,
    Class.POSITIVE_ZERO,
    Class.POSITIVE_SUBNORMAL,
    Class.POSITIVE_NORMAL,
    Class.POSITIVE_INFINITY,
    Class.SIGNALING_NAN,
    Class.QUIET_NAN,
)

#: Every operation by name. A dot product's operands are x_1 ... x_n y_1 ... y_n; ``compare`` gives the place in
#: Relation (0 less, 1 equal, 2 greater, 3 unordered), ``classify`` RISC-V's one-hot fclass.
OPERATIONS: dict[str, _Operation] = {
    "add": _rounded(arithmetic.add, 2),
    "sub": _rounded(operations.sub, 2),
    "mul": _rounded(arithmetic.mul, 2),
    "fma": _rounded(arithmetic.fma, 3),
    "div": _rounded(operations.div, 2),
    "rem": _rounded(operations.rem, 2),
    "sqrt": _rounded(operations.sqrt, 1),
    "logb": _rounded(operations.logb, 1),
    "scalb": _Operation(_scalb, 2, rounds=True),
    "round_to_integral": _to_integer(operations.round_to_integral),
    "eq": _relation("equal", signaling=False),
    "le": _relation("less equal", signaling=True),
    "lt": _relation("less", signaling=True),
    "eq_signaling": _relation("equal", signaling=True),
    "le_quiet": _relation("less equal", signaling=False),
    "lt_quiet": _relation("less", signaling=False),
    "compare": _Operation(_compare, 2, result=FixedFormat(2, 0, signed=False)),
    "minimum": _chosen(comparison.minimum),
    "maximum": _chosen(comparison.maximum),
    "minimum_number": _chosen(comparison.minimum_number),
    "maximum_number": _chosen(comparison.maximum_number),
    "next_up": _neighbour(comparison.next_up),
    "next_down": _neighbour(comparison.next_down),
    "classify": _Operation(_classify, 1, result=FixedFormat(10, 0, signed=False)),
    "dot": _Operation(_dot, 2, rounds=True),
    "sum": _Operation(_sum, 1, rounds=True),
    "convert": _Operation(_convert, 1, rounds=True),
    "convert_to_integer": _Operation(_convert_to_integer, 1, rounds=True),
}

_INTEGER = re.compile(r"(u?)i(\d+)")
_TERMS = re.compile(r"(dot|sum)(\d+)")
_ROUNDED = re.compile(r"(?i)(.+)_r(x?)_(near_even|near_maxmag|minmag|min|max|odd)")
_WIDE = re.compile(r"(^|_)(f128|extf80)(_|$)")


def function(
    name: str, rounding: str | Rounding = "RNE", conventions: str | Conventions = RISCV, exact: bool = False
) -> Function:
    """The function unit that ``name`` denotes.

    Parameters
    ----------
    name : ``<format>_<operation>``, ``<a>_to_<b>``, or a name of TestFloat's; see the module.
    rounding : ignored where nothing is rounded, or the name tells, as TestFloat's ``_r_minMag``, ``_rx_near_even`` ...
    conventions : or their name, ``"riscv"``, ``"x86"`` or ``"arm"``.
    exact : whether rounding to an integer raises inexact (TestFloat's ``-exact``).

    Raises
    ------
    HalfulpError
        The name is not in the grammar; the sentence lists near matches.
    """
    how = Rounding.parse(rounding)
    text = str(name).strip()
    if match := _ROUNDED.fullmatch(text):
        text, how, exact = match[1], Rounding(ROUNDINGS[match[3].lower()]), exact or bool(match[2])
    if _WIDE.search(text.lower()):
        raise HalfulpError(f"{name}: formats end at e11m52, so TestFloat's f128 and extF80 are not here; f64 is.")
    found = _operation(text) or _conversion(text)
    if found is None:
        raise HalfulpError(f"unknown function {name!r}: {_hint(text)}")
    return Function(str(name).strip(), *found, how, Conventions.parse(conventions), exact)


_Parsed = tuple[str, tuple[Format | BlockFormat, ...], Format]


def _operation(text: str) -> _Parsed | None:
    """``<format>_<operation>`` taken apart, from the right, since names of formats have underscores too."""
    for place in [at for at, letter in enumerate(text) if letter == "_"]:
        fmt = _format(text[:place])
        operation = text[place + 1 :].lower()
        operation = OPERATION_NAMES.get(operation, operation)
        if fmt is None:
            continue
        match = _TERMS.fullmatch(operation)
        if isinstance(fmt, BlockFormat):
            if operation == f"dot{fmt.size}":
                return "dot", (fmt, fmt), BLOCK_RESULT
            if match or operation in OPERATIONS:
                raise HalfulpError(f"{text}: the one operation on blocks is {text[:place]}_dot{fmt.size}.")
            continue
        if match:
            terms = int(match[2])
            if not 1 <= terms <= MOST_TERMS:
                raise HalfulpError(f"{text}: {match[1]} takes 1 to {MOST_TERMS} terms, not {terms}.")
            return match[1], (fmt,) * (OPERATIONS[match[1]].arity * terms), fmt
        if operation in OPERATIONS and operation not in ("dot", "sum", "convert", "convert_to_integer"):
            unit = OPERATIONS[operation]
            operands = (fmt, INTEGER) if operation == "scalb" else (fmt,) * unit.arity
            return operation, operands, unit.result or fmt
    return None


def _conversion(text: str) -> _Parsed | None:
    """``<a>_to_<b>`` taken apart, ``a`` a format, or a function that rounds.

    An integer i<N> or ui<N> as b is IEEE 754's convertToInteger.
    """
    source, _, target = text.rpartition("_to_")
    origin, integer, other = type_format(source), _integer(target), type_format(target)
    if origin and integer:
        return "convert_to_integer", (origin,), integer
    if origin and other:
        return "convert", (origin,), other
    inner = _operation(source)
    if inner and other and OPERATIONS[inner[0]].rounds:
        return inner[0], inner[1], other
    return None


def _integer(text: str) -> FixedFormat | None:
    match = _INTEGER.fullmatch(text.lower())
    return FixedFormat(int(match[2]), 0, not match[1]) if match else None


def _format(text: str) -> Format | BlockFormat | None:
    try:
        return names.format(FORMATS.get(text.lower(), text))
    except HalfulpError:
        return None


def type_format(name: str) -> Format | None:
    """The format of a type in TestFloat's spelling or ours, as in f16, ui32, e4m3fn; None if it is none."""
    fmt = _integer(name) or _format(name)
    return None if isinstance(fmt, BlockFormat) else fmt


def _hint(text: str) -> str:
    """Near matches of a wrong name; what is wrong with it where the operation or the format alone is."""
    formats = [*FORMATS, *names.ALIASES, "q4.12", "i32", "ui32", "i64", "ui64"]
    spelled = ["mulAdd", "roundToInt", *(key for key in OPERATIONS if not key.startswith("convert"))]
    known = [f"{fmt}_{operation}" for fmt in formats for operation in spelled]
    known += [f"{a}_to_{b}" for a in formats for b in formats if a != b]
    fmt, _, operation = text.rpartition("_")
    if OPERATION_NAMES.get(operation.lower(), operation.lower()) in OPERATIONS and _format(fmt) is None:
        try:
            names.format(fmt)
        except HalfulpError as error:
            if "did you mean" not in str(error):
                return str(error)
    near = difflib.get_close_matches(text, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(near)}?"
    return "names look like f16_add, e4m3fn_mul, q4.12_fma, posit16_sqrt, bf16_to_e4m3fn or f32_to_i32."


def reference(
    operation: str,
    fmt: str | Format,
    rounding: str | Rounding = "RNE",
    conventions: str | Conventions = RISCV,
    exact: bool = False,
) -> Function:
    """A function unit to check hardware against, as in ``reference("fma", "fp16")(a, b, c)`` -> (code, flags).

    Parameters
    ----------
    operation : as in ``function``'s names: ``"fma"``, ``"sqrt"``, ``"le"``, ``"to_fp8_e4m3"``, ``"dot4_to_fp32"`` ...
    fmt : the operands' format.
    """
    return function(f"{fmt}_{operation}", rounding, conventions, exact)
