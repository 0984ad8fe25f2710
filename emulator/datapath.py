"""Datapath: operand formats, product, order, accumulator, output; and the definition of its dot product."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from . import names
from .alignment import Operand, aligned_sum, operand
from .arithmetic import Flags, exact_product, exact_sum, round_pack
from .blocks import Block, BlockFormat
from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Kind, Unpacked
from .hashing import hashed_once
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


@hashed_once
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
        inner = self.accumulators[-1][0]
        parts = {"accumulator": self.accumulator, "inner accumulator": inner, "product": self.product or inner}
        for part, fmt in (parts | {"output": self.output}).items():
            if not isinstance(fmt, (FloatFormat, FixedFormat)):
                named = names.alias(fmt)
                raise HalfulpError(f"the {part} of a datapath is of a float or fixed-point format; {named} is neither.")
        self._check_order()

    def _check_order(self) -> None:
        """Refuses what a unit of the order cannot do."""
        inner, held = self.inner_order, self.accumulators[-1][0]
        if isinstance(inner, Fusing) and self.product is not None:
            raise HalfulpError(f"the order {inner} adds exact products: leave product out.")
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
    def inner_order(self) -> Order:
        """The order in which products are added: of ``Blocked`` that within a block."""
        return self.order.order if isinstance(self.order, Blocked) else self.order

    @property
    def accumulators(self) -> list[tuple[Format, Rounding]]:
        """The accumulators and their roundings; the one that products are added to is the last."""
        inner = [(self.order.accumulator, self.order.rounding)] if isinstance(self.order, Blocked) else []
        return [(self.accumulator, self.rounding), *inner]

    @property
    def in_blocks(self) -> bool:
        """Whether an operand is in blocks."""
        return isinstance(self.a, BlockFormat) or isinstance(self.b, BlockFormat)

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
        return self.datapath.accumulators[level][0]

    def rounding(self, level: int) -> Rounding:
        return self.datapath.accumulators[level][1]

    def rounded(self, exactly: Unpacked, level: int, draw: int) -> Unpacked:
        """A sum as the level's accumulator holds it."""
        fmt, rounding = self.accumulator(level), self.rounding(level)
        return fmt.unpack(round_pack(exactly, fmt, rounding, self.drawn(Role.ACCUMULATOR, draw, rounding)).code)

    def fused(self, exactly: Unpacked, level: int, draw: int) -> Unpacked:
        """A fused unit's sum as the level's accumulator holds it."""
        order, fmt, rounding = self.datapath.inner_order, self.accumulator(level), self.rounding(level)
        if not (isinstance(order, Fused) and order.tensor_core):
            return self.rounded(exactly, level, draw)
        result = round_pack(exactly, fmt, rounding, self.drawn(Role.ACCUMULATOR, draw, rounding))
        if result.flags & Flags.OVERFLOW:
            result = round_pack(Unpacked(Kind.INFINITY, exactly.negative), fmt, rounding)
        total = fmt.unpack(result.code)
        return _ZERO if total.is_zero else total

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
        """The exact sum of one step's products and its register, aligned."""
        order = self.datapath.inner_order
        assert isinstance(order, Fusing)
        pairs = list(zip(self.x[step.first : step.last], self.y[step.first : step.last], strict=True))
        return aligned_sum(pairs, total, order, self.accumulator(step.level))
