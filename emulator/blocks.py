"""Block formats: elements that share a scale, and the definition of how values are put into them.

A value is element * scale, or element * scale * tensor scale. Sources: OCP Microscaling Formats (MX) v1.0; NVIDIA,
"Pretraining Large Language Models with NVFP4", arXiv:2509.25149 (two-level scale); Darvish Rouhani et al., "Pushing
the limits of narrow precision inferencing at cloud scale with Microsoft Floating Point", NeurIPS 2020 (MSFP).

Rules where the sources leave a choice or their implementations differ
----------------------------------------------------------------------
* Everything is exact up to one rounding each: of the scale into its format and of x / scale into the element's.
  Implementations divide, and multiply by reciprocals, in fp32; they can differ from this in the last place.
* A scale beyond its format's range is clamped to it (microxcaling: above it is NaN). A block of zeros has the
  smallest scale of all: 2^-127 in e8m0, and 0 where the scale format has a zero, to which tiny scales may round
  (e4m3, as in Transformer Engine; torchao keeps them at 2^-6 or more). A tensor of zeros has the tensor scale 1.
* Elements saturate (MX section 6.3: numbers beyond the largest normal are clamped) and keep subnormals. An element
  under a scale of 0 is a zero.
* A block that holds an infinity or a NaN has the scale NaN, which makes each of its values NaN, and element codes 0
  (as torchao and Microsoft's microxcaling; MX leaves it open). It has no say in the tensor scale.
* MXINT8 uses all of two's complement, -2 included, which MX lets an implementation leave unused; so do other fixed
  point elements. Sign-magnitude elements, as those of MSFP, are floats of one exponent bit: ``e1m6finiteb1`` has the
  values of MXINT8 but -2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arithmetic import Result, exact, exact_product, round_at, round_pack
from .codec import code_dtype
from .conventions import RISCV, Conventions
from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Kind, PositFormat, Unpacked, carrier
from .operations import dot
from .rounding import RNE, RTP, Rounding

_REACH = 340  #: three exponents of this size add up to one of a normal binary64 number
_FP32 = FloatFormat(8, 23)


class Rule(Enum):
    """How a block's largest magnitude, amax, picks its scale; emax and max are the element format's.

    ``floor`` is MX section 6.3; the names of all but ``amax`` are torchao's ``ScaleCalculationMode``.
    """

    FLOOR = "floor"  #: 2^(floor(log2 amax) - emax): the largest elements may saturate
    CEIL = "ceil"  #: 2^(ceil(log2 amax) - emax)
    EVEN = "even"  #: as floor, after amax is rounded to nearest even at the element's precision (AMD Quark)
    RCEIL = "rceil"  #: amax / max rounded up: the smallest scale under which nothing saturates (cuBLAS, for UE8M0)
    AMAX = "amax"  #: amax / max rounded to nearest even (NVFP4)


class Block(NamedTuple):
    """The exact data of one block."""

    elements: tuple[Unpacked, ...]
    scale: Unpacked


class Blocks(NamedTuple):
    """An array in a block format.

    codes : element codes, in the shape of the values. scales : scale codes, one for each block along ``axis``.
    tensor_scale : code of the tensor scale, None where the format has none. fmt : the format; None: not told.
    """

    codes: np.ndarray
    scales: np.ndarray
    tensor_scale: int | None
    axis: int
    fmt: BlockFormat | None = None


@dataclass(frozen=True)
class BlockFormat:
    """``size`` elements that share a scale; the last block of an axis may be shorter.

    Every value fits binary64 exactly; parts that would break this are refused.
    """

    element: Format
    scale: Format
    size: int
    rule: Rule = Rule.FLOOR
    tensor_scale: Format | None = None  #: format of a further scale of the whole tensor

    def __post_init__(self) -> None:
        if isinstance(self.element, FloatFormat):
            object.__setattr__(self, "element", replace(self.element, saturate=False))  # it always saturates
        if self.size < 1:
            raise HalfulpError(f"{self} has blocks of {self.size} elements; at least 1 is needed.")
        if any(isinstance(part, FixedFormat) and part.wrap for part in self.parts):
            raise HalfulpError(f"{self}: the parts of a block format saturate; leave out the suffix w.")
        if sum(part.precision for part in self.parts) > 53 or any(
            part.min_subnormal < 2.0**-_REACH or not 0 < part.max_finite < 2.0**_REACH for part in self.parts
        ):
            raise HalfulpError(
                f"{self} has values that binary64 cannot hold: the precisions of element and scales add up to at most"
                f" 53, and their values lie within 2^-{_REACH} ... 2^{_REACH}."
            )

    @property
    def parts(self) -> tuple[Format, ...]:
        """The formats of element, scale and, where there is one, tensor scale."""
        return (self.element, self.scale) + ((self.tensor_scale,) if self.tensor_scale else ())

    @property
    def bits(self) -> int:
        """Bits of a whole block, scale included."""
        return self.size * self.element.bits + self.scale.bits

    @property
    def bits_per_element(self) -> float:
        """Bits an element costs, its share of the scale included."""
        return self.bits / self.size

    @property
    def precision(self) -> int:
        """p of the elements."""
        return self.element.precision

    @property
    def max_finite(self) -> float:
        return math.prod(part.max_finite for part in self.parts)

    @property
    def min_finite(self) -> float:
        return self.element.min_finite * math.prod(part.max_finite for part in self.parts[1:])

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value."""
        return math.prod(part.min_subnormal for part in self.parts)

    @property
    def has_infinity(self) -> bool:
        return self.element.has_infinity

    @property
    def has_nan(self) -> bool:
        return self.element.has_nan or self.scale.has_nan

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two among the elements."""
        return math.frexp(self.element.max_finite)[1] - 1

    @property
    def nan_scale(self) -> int:
        """The scale code of a block that holds an infinity or a NaN."""
        if isinstance(self.scale, FloatFormat) and self.scale.has_nan:
            return self.scale.nan_code
        raise HalfulpError(f"a block of {self} cannot hold an infinity or a NaN: its scale format has no NaN.")

    def pack_block(self, codes: Sequence[int], scale: int) -> int:
        """One block as an integer of ``bits`` bits: element 0 lowest, the scale above all elements."""
        if len(codes) != self.size:
            raise HalfulpError(f"a block of {self} has {self.size} elements, not {len(codes)}.")
        for code, part in [(code, self.element) for code in codes] + [(scale, self.scale)]:
            if not 0 <= code < 1 << part.bits:
                raise HalfulpError(f"codes of {part} must lie in [0, 2**{part.bits}), not {code}.")
        width = self.element.bits
        return sum(int(code) << width * i for i, code in enumerate([*codes, scale]))

    def unpack_block(self, code: int) -> tuple[tuple[int, ...], int]:
        """The element codes and the scale code of a packed block."""
        if not 0 <= code < 1 << self.bits:
            raise HalfulpError(f"codes of blocks of {self} must lie in [0, 2**{self.bits}).")
        width = self.element.bits
        codes = tuple(code >> width * i & ((1 << width) - 1) for i in range(self.size))
        return codes, code >> width * self.size

    def unpack(self, code: int) -> Block:
        """The exact data of a packed block."""
        codes, scale = self.unpack_block(code)
        return Block(tuple(map(self.element.unpack, codes)), self.scale.unpack(scale))

    def encode(
        self,
        values: ArrayLike,
        axis: int = -1,
        rounding: Rounding | str = RNE,
        random: ArrayLike | None = None,
        tensor_scale: int | None = None,
    ) -> Blocks:
        """Values put into blocks by the definition, an element at a time; ``encode_blocks`` is fast, and equal.

        Parameters
        ----------
        values : real array, at least one axis. axis : the axis that is cut into blocks.
        random : of SR, an integer in [0, 2^k) for each value.
        tensor_scale : code of a tensor scale that was found elsewhere; default: picked by the largest magnitude.
        """
        array = carrier(values)
        axis = block_axis(array, axis)
        how = Rounding.parse(rounding)
        numbers = np.moveaxis(array, axis, -1)
        chances = np.moveaxis(np.zeros(array.shape, int) if random is None else np.asarray(random), axis, -1)
        starts = range(0, numbers.shape[-1], self.size)
        codes = np.empty(numbers.shape, code_dtype(self.element.bits))
        scales = np.empty((*numbers.shape[:-1], len(starts)), code_dtype(self.scale.bits))
        blocks = [
            (lane, slice(start, start + self.size)) for lane in np.ndindex(numbers.shape[:-1]) for start in starts
        ]
        data = [[exact(value) for value in numbers[lane][part].tolist()] for lane, part in blocks]
        if tensor_scale is None:
            tensor_scale = choose_tensor_scale(map(largest, data), self)
        for (lane, part), block in zip(blocks, data, strict=True):
            chosen = encode_block(block, self, how, chances[lane][part].tolist(), tensor_scale)
            codes[lane][part], scales[lane][part.start // self.size] = chosen
        return Blocks(np.moveaxis(codes, -1, axis), np.moveaxis(scales, -1, axis), tensor_scale, axis, self)

    def decode(self, blocks: Blocks) -> np.ndarray:
        """The values of an array in this format: float64 in the shape of ``blocks.codes``, exact."""
        elements, scales = self.element.decode(blocks.codes), self.scale.decode(blocks.scales)
        axis = block_axis(elements, blocks.axis)
        length = elements.shape[axis]
        needed = (*elements.shape[:axis], -(-length // self.size), *elements.shape[axis + 1 :])
        if scales.shape != needed:
            raise HalfulpError(
                f"codes of shape {elements.shape} in blocks of {self.size} along axis {axis} need scales of shape"
                f" {needed}, not {scales.shape}."
            )
        scales = scales * float(tensor_scale_value(blocks.tensor_scale, self))
        return elements * np.take(scales, np.arange(length) // self.size, axis)

    def __str__(self) -> str:
        scales = "+".join(str(part) for part in self.parts[1:])
        return f"{self.element}x{self.size}+{scales}+{self.rule.value}"


def exponents(fmt: Format | BlockFormat) -> tuple[int, int]:
    """Exponents of the lowest and the highest bit that a non-zero value of ``fmt`` can have, tensor scale left out."""
    if isinstance(fmt, BlockFormat):
        (low, high), (scale_low, scale_high) = exponents(fmt.element), exponents(fmt.scale)
        return low + scale_low, high + scale_high + 1
    if isinstance(fmt, FixedFormat):
        return -fmt.fraction_bits, fmt.integer_bits
    if isinstance(fmt, PositFormat):
        return fmt.quantum_exponent, fmt.emax
    return fmt.emin - fmt.trailing_bits, fmt.emax


def block_axis(array: np.ndarray, axis: int) -> int:
    """``axis`` counted from the front."""
    if not isinstance(axis, int) or array.size == 0 or not -array.ndim <= axis < array.ndim:
        raise HalfulpError(f"axis {axis} of an array of shape {array.shape} cannot be cut into blocks.")
    return axis % array.ndim


def saturating(fmt: Format) -> Format:
    """The format with the same values whose overflow goes to the largest."""
    return replace(fmt, saturate=True) if isinstance(fmt, FloatFormat) else fmt


# ---- the definition ----------------------------------------------------------------------------------------------


def largest(values: Sequence[Unpacked]) -> Fraction | None:
    """The largest magnitude of a block; None if it holds an infinity or a NaN."""
    if any(value.kind is not Kind.FINITE for value in values):
        return None
    return max(abs(value.fraction) for value in values)


def _floor_log2(x: Fraction) -> int:
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= x else exponent - 1


def _wanted(amax: Fraction, fmt: BlockFormat) -> Fraction:
    """The scale that the format's rule asks for, before it is rounded into the scale format."""
    if amax == 0:
        return amax
    unit = Fraction(2) ** -fmt.emax
    match fmt.rule:
        case Rule.FLOOR:
            return Fraction(2) ** _floor_log2(amax) * unit
        case Rule.CEIL:
            return Fraction(2) ** -_floor_log2(1 / amax) * unit
        case Rule.EVEN:
            quantum = _floor_log2(amax) - top_precision(fmt.element) + 1
            rounded = round_at(exact(amax), quantum, RNE, 0) * Fraction(2) ** quantum
            return Fraction(2) ** _floor_log2(rounded) * unit
        case Rule.RCEIL | Rule.AMAX:
            return amax / Fraction(fmt.element.max_finite)


def top_precision(fmt: Format) -> int:
    """Significant bits of a format's largest values."""
    return fmt.precision - int(fmt.signed) if isinstance(fmt, FixedFormat) else fmt.precision


def _round_scale(wanted: Fraction, fmt: Format, rounding: Rounding = RNE) -> int:
    if not fmt.unpack(0).is_zero:  # e8m0 has no zero
        wanted = max(wanted, Fraction(fmt.min_subnormal))
    return round_pack(exact(wanted), saturating(fmt), rounding).code


def choose_tensor_scale(amaxes: Iterable[Fraction | None], fmt: BlockFormat) -> int | None:
    """The code of the tensor scale of blocks with these largest magnitudes; None stands for a block that is no number.

    It is the largest / (max element * max scale), rounded to nearest even, which makes the largest block scale the
    largest number of its format.
    """
    if fmt.tensor_scale is None:
        return None
    amax = max(filter(None, amaxes), default=Fraction(0))
    wanted = amax / Fraction(fmt.element.max_finite) / Fraction(fmt.scale.max_finite) or Fraction(1)
    return _round_scale(max(wanted, Fraction(fmt.tensor_scale.min_subnormal)), fmt.tensor_scale)


def tensor_scale_value(code: int | None, fmt: BlockFormat) -> Fraction:
    """The number that the code of a tensor scale denotes; 1 where the format has none."""
    if (code is None) != (fmt.tensor_scale is None):
        raise HalfulpError(f"{fmt} has {'no' if fmt.tensor_scale is None else 'a'} tensor scale.")
    if fmt.tensor_scale is None or code is None:
        return Fraction(1)
    datum = fmt.tensor_scale.unpack(code)
    if datum.kind is not Kind.FINITE or datum.fraction <= 0:
        raise HalfulpError(f"a tensor scale is a positive number, not {float(datum)} (code {code:#x}).")
    return datum.fraction


def encode_block(
    values: Sequence[Unpacked],
    fmt: BlockFormat,
    rounding: Rounding = RNE,
    random: Sequence[int] | None = None,
    tensor_scale: int | None = None,
) -> tuple[tuple[int, ...], int]:
    """One block (of at most ``size`` values): the element codes and the scale code.

    random : of SR, an integer in [0, 2^k) for each value. tensor_scale : code of the tensor scale.
    """
    amax = largest(values)
    if amax is None:
        return (0,) * len(values), fmt.nan_scale
    outer = tensor_scale_value(tensor_scale, fmt)
    scale = _round_scale(_wanted(amax / outer, fmt), fmt.scale, RTP if fmt.rule is Rule.RCEIL else RNE)
    divisor = fmt.scale.unpack(scale).fraction * outer
    element = saturating(fmt.element)
    codes = [
        round_pack(_quotient(value, divisor), element, rounding, bits).code
        for value, bits in zip(values, random or [0] * len(values), strict=True)
    ]
    return tuple(codes), scale


def _quotient(value: Unpacked, divisor: Fraction) -> Unpacked:
    if value.is_zero or divisor == 0:
        return Unpacked(Kind.FINITE, value.negative)
    return exact(value.fraction / divisor)


def block_dot(
    x: Block,
    y: Block,
    fmt: Format = _FP32,
    rounding: Rounding = RNE,
    random: int = 0,
    conventions: Conventions = RISCV,
) -> Result:
    """The dot product of two blocks (MX section 6.1), exact, rounded once into ``fmt``: the sum of the products of
    their elements, times both scales. Tensor scales stay outside."""
    if len(x.elements) != len(y.elements):
        raise HalfulpError(f"blocks of {len(x.elements)} and of {len(y.elements)} elements have no dot product.")
    pairs = [
        (exact_product(a, x.scale), exact_product(b, y.scale)) for a, b in zip(x.elements, y.elements, strict=True)
    ]
    return dot(pairs, fmt, rounding, random, conventions)
