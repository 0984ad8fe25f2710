"""Datapath: operand formats, product, order, accumulator, output; and the definition of its dot product."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from . import names
from .arithmetic import INVALID_NAN, Flags, exact_product, exact_sum, round_pack
from .blocks import Block, BlockFormat
from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Kind, Unpacked
from .orders import (
    Blocked,
    Do,
    Exact,
    Fused,
    Fusing,
    Order,
    Sequential,
    Step,
    TwoStage,
    parse_order,
    program,
    sequential,
)
from .random import Role
from .rounding import RNE, Rounding

_GRAMMAR = re.compile(
    r"(?P<a>[^/@*:]+)(\*(?P<b>[^/@*:]+))?(/(?P<accumulator>[^/@*:]+))?(/(?P<output>[^/@*:]+))?"
    r"(@(?P<rounding>[^/@*:]+)(/(?P<output_rounding>[^/@*:]+))?)?"
    r"(:(?P<order>(fused|twostage|exact|tree|systolic|blocked|sequential)[^:(]*(\([^()]*\))?))?"
    r"(:product=(?P<product>[^/@*:]+)(@(?P<product_rounding>[^/@*:]+))?)?"
    r"(:operands=(?P<operand_rounding>[^/@*:]+))?"
)


@dataclass(frozen=True)
class Datapath:
    """A multiply-accumulate datapath, described once.

    Names are accepted wherever a Format, a Rounding or an order stands. Left out: ``b`` is ``a``, ``accumulator`` is
    ``a``, ``output`` is ``accumulator``, ``output_rounding`` is ``rounding``.

    Operands may be of any format. Those in blocks are cut along the summed axis; a unit multiplies and adds the
    elements of a block exactly, applies both scales exactly, and adds the block's sum to the accumulator with one
    rounding: ``sequential`` becomes ``exact(block size)``. Tensor scales multiply the sum before it is rounded into
    ``output``.

    Element-wise operations use the same parts: operands enter through ``a`` and ``b`` (the addend of fma through
    ``accumulator``) and the exact result is rounded once into ``output`` with ``output_rounding``.
    """

    a: Any  #: Format or BlockFormat of the first operand
    b: Any = None  #: of the second operand
    accumulator: Format = None  # type: ignore[assignment]
    rounding: Rounding = RNE  #: of the accumulator
    product: Format | None = None  #: None: exact, i.e. a fused multiply-add
    product_rounding: Rounding = RNE
    order: Order = sequential
    output: Format = None  # type: ignore[assignment]
    output_rounding: Rounding = None  # type: ignore[assignment]
    operand_rounding: Rounding = RNE  #: with which values enter ``a`` and ``b``

    def __post_init__(self) -> None:
        def fill(name: str, parse: Callable, default: object) -> None:
            value = getattr(self, name)
            object.__setattr__(self, name, parse(default if value is None else value))

        fill("a", names.format, self.a)
        fill("b", names.format, self.a)
        fill("accumulator", names.format, self.a)
        fill("output", names.format, self.accumulator)
        fill("rounding", Rounding.parse, RNE)
        fill("output_rounding", Rounding.parse, self.rounding)
        fill("product_rounding", Rounding.parse, RNE)
        fill("operand_rounding", Rounding.parse, RNE)
        fill("order", parse_order, sequential)
        if self.product is not None:
            fill("product", names.format, None)
        else:
            object.__setattr__(self, "product_rounding", RNE)  # nothing is rounded there
        inner = self.order.accumulator if isinstance(self.order, Blocked) else self.accumulator
        parts = {"accumulator": self.accumulator, "inner accumulator": inner, "product": self.product or inner}
        for part, fmt in (parts | {"output": self.output}).items():
            if not isinstance(fmt, (FloatFormat, FixedFormat)):
                named = names.alias(fmt)
                raise HalfulpError(f"the {part} of a datapath is of a float or fixed-point format; {named} is neither.")
        self._check_order()

    def _check_order(self) -> None:
        """Refuses what a unit of the order cannot do."""
        inner = self.order.order if isinstance(self.order, Blocked) else self.order
        if isinstance(inner, Fusing) and self.product is not None:
            raise HalfulpError(f"the order {inner} adds exact products: leave product out.")
        held = self.order.accumulator if isinstance(self.order, Blocked) else self.accumulator
        special = isinstance(inner, Fused) and (inner.floor is not None or inner.tensor_core)
        if special and isinstance(held, FixedFormat):
            raise HalfulpError(f"{inner}: floor and tensor_core belong to float accumulators; {held} is fixed point.")
        if isinstance(inner, TwoStage) and isinstance(held, FixedFormat):
            raise HalfulpError(f"{inner} is an order of float accumulators; {held} is fixed point.")
        blocks = [fmt for fmt in (self.a, self.b) if isinstance(fmt, BlockFormat)]
        if isinstance(inner, Fused) and inner.group:
            steps = self.order.length % inner.group if isinstance(self.order, Blocked) else 0
            if len(blocks) < 2 or any(fmt.size % inner.group for fmt in blocks) or steps:
                raise HalfulpError(
                    f"{inner}: its groups are parts of blocks; give it operands in blocks of a multiple."
                )
        if not blocks:
            return
        if self.product is not None or not isinstance(inner, (Sequential, Fused, Exact)):
            raise HalfulpError(
                f"{self.a} and {self.b}: a unit adds the products of a block exactly; give it no product format, and"
                " the order sequential (a block at a time), exact, fused, or blocked around one of these."
            )
        if len({fmt.size for fmt in blocks}) > 1:
            raise HalfulpError(f"operands {self.a} and {self.b} have blocks of different sizes.")
        if isinstance(inner, Sequential):
            exactly: Order = Exact(blocks[0].size)
            if isinstance(self.order, Blocked):
                exactly = Blocked(self.order.length, self.order.accumulator, self.order.rounding, exactly)  # type: ignore[arg-type]
            object.__setattr__(self, "order", exactly)

    @classmethod
    def parse(cls, text: str | Datapath) -> Datapath:
        """A datapath from its text form; ``name`` gives the text back.

        ``OPERANDS[/ACCUMULATOR[/OUTPUT]][@ROUNDING[/OUTPUT_ROUNDING]]`` and then, in this order and each optional,
        ``:ORDER`` (``orders.parse_order``), ``:product=FORMAT[@ROUNDING]``, ``:operands=ROUNDING``.

        ``fp16`` is binary16 throughout; ``fp8_e4m3/fp32/bf16@RTZ`` multiplies e4m3, accumulates in fp32 with
        truncation and hands out bf16; ``q4.12/q16.24/q4.12@RNE/SR16`` rounds its output stochastically;
        ``bf16*fp8_e4m3/fp32:fused16g2`` has two operand formats and adds 16 products at a time.
        """
        if isinstance(text, Datapath):
            return text
        match = _GRAMMAR.fullmatch(str(text).strip())
        if not match:
            raise HalfulpError(
                f"datapath {text!r} is not OPERANDS[/ACCUMULATOR[/OUTPUT]][@ROUNDING][:ORDER][:product=FORMAT]"
                "[:operands=ROUNDING], as in bf16/fp32@RNE or fp8_e4m3/fp32:fused32g2."
            )
        part = match.groupdict()
        return cls(
            part["a"],  # type: ignore[arg-type]
            part["b"],  # type: ignore[arg-type]
            part["accumulator"],  # type: ignore[arg-type]
            part["rounding"] or RNE,  # type: ignore[arg-type]
            part["product"],  # type: ignore[arg-type]
            part["product_rounding"] or RNE,  # type: ignore[arg-type]
            parse_order(part["order"] or sequential),
            part["output"],  # type: ignore[arg-type]
            part["output_rounding"],  # type: ignore[arg-type]
            part["operand_rounding"] or RNE,  # type: ignore[arg-type]
        )

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The text form, with aliases: ``Datapath.parse(dp.name) == dp``."""
        text = names.alias(self.a) + ("" if self.b == self.a else f"*{names.alias(self.b)}")
        if not self.a == self.accumulator == self.output:
            text += f"/{names.alias(self.accumulator)}"
        if self.output != self.accumulator:
            text += f"/{names.alias(self.output)}"
        text += f"@{self.rounding}" + ("" if self.output_rounding == self.rounding else f"/{self.output_rounding}")
        text += f":{self.order.text}" if self.order.text else ""
        if self.product is not None:
            text += f":product={names.alias(self.product)}@{self.product_rounding}"
        return text + ("" if self.operand_rounding == RNE else f":operands={self.operand_rounding}")

    def describe(self) -> dict[str, str | None]:
        """Every field as text, for records."""
        return {f.name: None if getattr(self, f.name) is None else str(getattr(self, f.name)) for f in fields(self)}


class Operand(NamedTuple):
    """A datum as a multiplier gets it: the number, exact, and what its exponent field means."""

    datum: Unpacked
    exponent: int  #: floor(log2|x|), at least its format's emin; of an element in a block plus that of the scale
    scale: int = 0  #: that of the scale


def exponent_of(datum: Unpacked, fmt: Format) -> int:
    """The exponent field's meaning for a finite non-zero datum of ``fmt``: floor(log2|x|), at least emin."""
    return max(datum.significand.bit_length() - 1 + datum.exponent, fmt.emin)


def operand(datum: Unpacked, fmt: Format, scale: Unpacked | None = None, scale_format: Format | None = None) -> Operand:
    """A number of ``fmt``, or an element of it under a scale."""
    exponent = exponent_of(datum, fmt) if datum.kind is Kind.FINITE and datum.significand else 0
    if scale is None or scale_format is None:
        return Operand(datum, exponent)
    of_scale = exponent_of(scale, scale_format) if scale.kind is Kind.FINITE and scale.significand else 0
    return Operand(exact_product(datum, scale), exponent + of_scale, of_scale)


def operands(fmt: Format | BlockFormat, codes: Sequence[int] | Sequence[Block]) -> list[Operand]:
    """The operands of codes: integers, or for a block format its ``Block``s."""
    if isinstance(fmt, BlockFormat):
        return [operand(x, fmt.element, block.scale, fmt.scale) for block in codes for x in block.elements]  # type: ignore[union-attr]
    return [operand(fmt.unpack(code), fmt) for code in codes]  # type: ignore[arg-type]


def dot(
    datapath: Datapath,
    a: Sequence[int] | Sequence[Block],
    b: Sequence[int] | Sequence[Block],
    random: Callable[[Role, int, int], int] = lambda role, step, k: 0,
    tensor_scale: Unpacked | None = None,
) -> int:
    """The definition of the datapath's dot product: its order's program, step by step.

    Parameters
    ----------
    a, b : K codes in ``datapath.a`` and ``datapath.b``; of a block format its ``Block``s instead, the last may be
        shorter.
    random : gives the k random bits for (role, step), an integer; asked as random(role, step, k), where k is not 0.
    tensor_scale : the exact product of the operands' tensor scales, where their formats have them.

    Returns
    -------
    The code of the result in ``datapath.output``. Registers start at +0.
    """
    unit = _Unit(datapath, operands(datapath.a, a), operands(datapath.b, b), random)
    for step in program(datapath.order, len(unit.x)):
        unit.do(step)
    total = unit.registers.get(0, _ZERO)
    total = total if tensor_scale is None else exact_product(total, tensor_scale)
    return round_pack(
        total, datapath.output, datapath.output_rounding, unit.drawn(Role.OUTPUT, 0, datapath.output_rounding)
    ).code


_ZERO = Unpacked(Kind.FINITE)


@dataclass
class _Unit:
    """A datapath at work on one dot product."""

    datapath: Datapath
    x: list[Operand]
    y: list[Operand]
    random: Callable[[Role, int, int], int]

    def __post_init__(self) -> None:
        self.registers: dict[int, Unpacked] = {}

    def do(self, step: Step) -> None:
        total = self.registers.get(step.register, _ZERO)
        match step.do:
            case Do.MAC:
                for k in range(step.first, step.last):
                    draw = step.draw + k - step.first
                    total = self.rounded(exact_sum(self.product(k), total, self.rounding(step.level)), step.level, draw)
            case Do.LOAD:
                total = self.product(step.first)
            case Do.ADD:
                other = self.registers.get(step.first, _ZERO)
                total = self.rounded(exact_sum(other, total, self.rounding(step.level)), step.level, step.draw)
            case Do.FUSE:
                total = self.fused(self.aligned_sum(step, total), step.level, step.draw)
            case Do.CLEAR:
                total = _ZERO
        self.registers[step.register] = total

    def accumulator(self, level: int) -> Format:
        order = self.datapath.order
        return order.accumulator if level and isinstance(order, Blocked) else self.datapath.accumulator

    def rounding(self, level: int) -> Rounding:
        order = self.datapath.order
        return order.rounding if level and isinstance(order, Blocked) else self.datapath.rounding

    def rounded(self, exactly: Unpacked, level: int, draw: int) -> Unpacked:
        """A sum as the level's accumulator holds it."""
        fmt, rounding = self.accumulator(level), self.rounding(level)
        return fmt.unpack(round_pack(exactly, fmt, rounding, self.drawn(Role.ACCUMULATOR, draw, rounding)).code)

    def fused(self, exactly: Unpacked, level: int, draw: int) -> Unpacked:
        """A fused unit's sum as the level's accumulator holds it."""
        order, fmt, rounding = self.inner_order, self.accumulator(level), self.rounding(level)
        if not (isinstance(order, Fused) and order.tensor_core):
            return self.rounded(exactly, level, draw)
        result = round_pack(exactly, fmt, rounding, self.drawn(Role.ACCUMULATOR, draw, rounding))
        if result.flags & Flags.OVERFLOW:
            result = round_pack(Unpacked(Kind.INFINITY, exactly.negative), fmt, rounding)
        total = fmt.unpack(result.code)
        return _ZERO if total.is_zero else total

    @property
    def inner_order(self) -> Order:
        order = self.datapath.order
        return order.order if isinstance(order, Blocked) else order

    def drawn(self, role: Role, step: int, rounding: Rounding) -> int:
        """The random bits of a rounding."""
        return self.random(role, step, rounding.random_bits) if rounding.random_bits else 0

    def product(self, k: int) -> Unpacked:
        product, dp = exact_product(self.x[k].datum, self.y[k].datum), self.datapath
        if dp.product is None:
            return product
        bits = self.drawn(Role.PRODUCT, k, dp.product_rounding)
        return dp.product.unpack(round_pack(product, dp.product, dp.product_rounding, bits).code)

    def aligned_sum(self, step: Step, total: Unpacked) -> Unpacked:
        """The exact sum of one step's products and its register after alignment (see ``Fused`` and ``TwoStage``)."""
        pairs = list(zip(self.x[step.first : step.last], self.y[step.first : step.last], strict=True))
        products = [exact_product(x.datum, y.datum) for x, y in pairs]
        inner, fmt = self.inner_order, self.accumulator(step.level)
        if isinstance(inner, TwoStage) and isinstance(fmt, FloatFormat):
            products = [_endless(product, fmt) for product in products]
        terms = [*products, total]
        if any(term.kind is Kind.NAN for term in terms):
            return Unpacked(Kind.NAN)
        infinities = {term.negative for term in terms if term.kind is Kind.INFINITY}
        if infinities:
            return INVALID_NAN if len(infinities) == 2 else Unpacked(Kind.INFINITY, infinities.pop())
        numbers = [term for term in terms if not term.is_zero]
        if not numbers:
            return _ZERO
        exponents = ((x.exponent + y.exponent, x.scale + y.scale) for x, y in pairs)
        aligned = [Operand(product, *two) for product, two in zip(products, exponents, strict=True)]
        if isinstance(inner, TwoStage):
            return two_stage_sum(aligned, total, fmt, inner)
        if isinstance(inner, Exact):
            quantum = min(term.exponent for term in numbers)
        else:
            assert isinstance(inner, Fused)
            if inner.group:
                aligned = _grouped(aligned, inner.group)
                terms = [*(group.datum for group in aligned), total]
            places = [term.exponent for term in aligned if inner.group or not term.datum.is_zero]
            places += [] if total.is_zero else [exponent_of(total, fmt)]
            quantum = alignment_quantum(fmt, inner, max(places))
        return _fixed(sum(_truncated(t, quantum) for t in terms), quantum)


def _grouped(products: Sequence[Operand], size: int) -> list[Operand]:
    """The exact sums of groups of products, under their scales' exponents; none of groups that are all 0."""
    sums = []
    for start in range(0, len(products), size):
        group = [product for product in products[start : start + size] if not product.datum.is_zero]
        if group:
            quantum = min(product.datum.exponent for product in group)
            summed = _fixed(sum(_truncated(product.datum, quantum) for product in group), quantum)
            sums.append(Operand(summed, group[0].scale))
    return sums


def two_stage_sum(products: Sequence[Operand], total: Unpacked, fmt: Format, order: TwoStage) -> Unpacked:
    """What a step of ``order`` rounds into ``fmt``: finite products and ``total``, aligned and floored."""
    kept, kept_of_sum = fmt.precision - 1 + order.guard_bits, fmt.precision + order.sum_guard_bits
    sums = []  # of groups of products: what they sum up to, and their largest exponent
    for group in (products[::2], products[1::2]) if order.interleaved else (products,):
        largest = max((exponent for datum, exponent, _ in group if not datum.is_zero), default=None)
        if largest is not None:
            sums.append((_fixed(sum(_truncated(x.datum, largest - kept) for x in group), largest - kept), largest))
    of_total = fmt.emin if total.is_zero else exponent_of(total, fmt)
    of_products = max((exponent for _, exponent in sums), default=of_total)
    largest = max(of_products, of_total)
    summed = _fixed(sum(_floored(x, of_products - kept) for x, _ in sums), of_products - kept)
    dropped = order.interleaved and of_total < largest - kept - 1
    held = _fixed(0 if dropped else _floored(total, largest - kept), largest - kept)
    quantum = largest - kept_of_sum
    result = _fixed(_floored(summed, quantum) + _floored(held, quantum), quantum)
    quantum = exponent_of(result, fmt) - kept_of_sum + 1
    return _fixed(_floored(result, quantum), quantum)


def _endless(product: Unpacked, fmt: FloatFormat) -> Unpacked:
    """A finite product of 2^(emax + 1) or more as the infinity that it is."""
    beyond = product.kind is Kind.FINITE and product.significand.bit_length() + product.exponent > fmt.emax + 1
    return Unpacked(Kind.INFINITY, product.negative) if beyond and not product.is_zero else product


def alignment_quantum(accumulator: Format, order: Fused | TwoStage, largest_exponent: int) -> int:
    """Exponent of the last weight that a fused unit keeps, of products in its first stage if it has two."""
    if isinstance(accumulator, FixedFormat):
        return accumulator.quantum_exponent - order.guard_bits
    floor = order.floor if isinstance(order, Fused) else None
    largest = largest_exponent if floor is None else max(largest_exponent, floor)
    return largest - (accumulator.precision - 1) - order.guard_bits


def _fixed(integer: int, quantum: int) -> Unpacked:
    """The number ``integer`` * 2^``quantum``; zero is +0."""
    return Unpacked(Kind.FINITE, integer < 0, abs(integer), quantum)


def _truncated(datum: Unpacked, quantum: int) -> int:
    """A finite number in units of 2^quantum, cut off toward zero."""
    shift = quantum - datum.exponent
    magnitude = datum.significand >> shift if shift > 0 else datum.significand << -shift
    return -magnitude if datum.negative else magnitude


def _floored(datum: Unpacked, quantum: int) -> int:
    """A finite number in units of 2^quantum, floored."""
    integer = -datum.significand if datum.negative else datum.significand
    shift = quantum - datum.exponent
    return integer >> shift if shift > 0 else integer << -shift
