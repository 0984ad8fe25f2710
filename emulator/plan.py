"""Plan: what a unit is made of, so that it can be priced in an instant. Mirrors ``rtl.dot`` and ``rtl.units``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from .blocks import BlockFormat
from .datapath import Datapath
from .errors import HalfulpError
from .formats import FixedFormat, Format, PositFormat
from .functions import Function
from .ledger import Operation
from .orders import Blocked, Exact, Fused, Sequential, Systolic, Tree, TwoStage, lanes
from .parts import (
    Integer,
    Part,
    add,
    fixed_sum,
    fused_sum,
    held,
    integer,
    leading,
    multiply,
    registers,
    round_integer,
    rounded,
    sum_integers,
    truncate,
    unpack,
)
from .rounding import Rounding
from .rtl.shapes import Need, Shape

GROWTH = 30  #: bits of an exact accumulator beyond a product's
SPREAD = 12  #: bits by which sums are wider than products where they are of numbers alike: the rest seldom changes

Number = Shape | Integer  #: between parts: of floats a shape, of fixed point throughout an integer


@dataclass(frozen=True)
class Plan:
    """The parts of a unit."""

    parts: tuple[Part, ...]
    macs: int = 1  #: multiply-accumulations a clock
    pipeline: int = 0


def plan(unit: Datapath | Function | str, pipeline: int = 0) -> Plan:
    """The plan of a datapath's unit, or of a function unit.

    Raises
    ------
    HalfulpError
        There is no such hardware.
    """
    if isinstance(unit, Function):
        return _function(unit)
    return _datapath(Datapath.parse(unit), pipeline)


class _Unit:
    """Collects parts."""

    def __init__(self, fixed: bool = False) -> None:
        self.fixed, self.parts, self.stage = fixed, list[Part](), 0
        self.alive = math.inf  #: bits of a sum that change
        self.depth = 0.0  #: of what stands before the next part
        self.role = "product"

    def put(self, part: Part, number: int = 1, serial: int = 1) -> None:
        if number and any(part.counts.values()):
            share = min(1.0, self.alive / part.width)
            before = (
                0.0 if part.kind.startswith("unpack") else self.depth + (serial - 1) / 2 * (part.ripple + part.levels)
            )
            self.parts.append(
                replace(
                    part, number=number, serial=serial, stage=self.stage, role=self.role, share=share, before=before
                )
            )
            if not part.kind.startswith("unpack"):
                self.depth += serial * (part.ripple + part.levels)

    def unpack(self, fmt: Format, number: int = 1, serial: int = 1, cleared: bool = False) -> Number:
        if self.fixed:
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
            for part in rounded(x, fmt, rounding):
                self.put(part, number, serial)

    def add(self, x: Number, y: Number, fmt: Format, how: Rounding, number: int = 1, serial: int = 1) -> Number:
        """A sum, as exact as rounding it into ``fmt`` needs."""
        if isinstance(x, Integer) or isinstance(y, Integer):
            return self.integers([], [x, y], "add", number, serial)  # type: ignore[list-item]
        parts, total = add(x, y, Need(fmt, how))
        for part in parts:
            self.put(part, number, serial)
        return total

    def added(self, x: Number, y: Number, fmt: Format, how: Rounding, number: int = 1, serial: int = 1) -> None:
        """A sum rounded into ``fmt``."""
        self.round(self.add(x, y, fmt, how, number, serial), fmt, how, number, serial)

    def multiply(self, x: Number, y: Number, name: str = "multiply", number: int = 1) -> Shape:
        assert isinstance(x, Shape) and isinstance(y, Shape)
        part, result = multiply(x, y, name)
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


@lru_cache(maxsize=4096)
def _function(function: Function) -> Plan:
    kind, fmt, rounding = function.operation, function.result, function.rounding
    unit = _Unit()
    numbers = [unit.unpack(f) for f in function.numbers]
    if kind in ("mul", "fma"):
        numbers[:2] = [unit.multiply(*numbers[:2])]
    elif kind not in ("convert", "add", "sub") or isinstance(fmt, PositFormat):
        raise HalfulpError(f"there is no hardware of {function.name}.")
    x = unit.add(numbers[0], numbers[1], fmt, rounding) if len(numbers) == 2 else numbers[0]
    unit.round(x, fmt, rounding)
    return Plan(tuple(unit.parts))


@lru_cache(maxsize=4096)
def _datapath(datapath: Datapath, pipeline: int) -> Plan:
    unit = _Dot(datapath, pipeline)
    return Plan(tuple(unit.parts), unit.lanes, pipeline)


@lru_cache(maxsize=4096)
def operation_plan(operation: Operation) -> Plan:
    """The parts that carry out an operation by itself, not as a part of a datapath's unit."""
    op = operation
    formats = [fmt for fmt in (op.a, op.b, op.result) if fmt is not None]
    unit = _Unit(op.kind in ("mul", "add") and all(isinstance(fmt, FixedFormat) for fmt in formats))
    operands = [unit.unpack(fmt) for fmt in ([op.a, op.b] if op.kind in ("mul", "add") else [op.a])]
    x = operands[0]
    if op.kind == "mul" and unit.fixed:
        x = unit.integers([tuple(operands)], [], "multiply")  # type: ignore[list-item]
    elif op.kind == "mul":
        x = unit.multiply(*operands)
    elif op.kind == "add":
        x = unit.add(*operands, op.result or op.b, op.rounding)
    if op.result is not None:
        unit.round(x, op.result, op.rounding)
    return Plan(tuple(unit.parts))


class _Dot(_Unit):
    """The parts of a dot-product unit, in the order of ``rtl.dot.DotUnit``."""

    def __init__(self, datapath: Datapath, pipeline: int) -> None:
        dp = datapath
        formats = [dp.a, dp.b, *(fmt for fmt, _ in dp.accumulators), *([dp.product] if dp.product else [])]
        super().__init__(all(isinstance(fmt, FixedFormat) for fmt in formats))
        self.datapath, self.pipeline = dp, pipeline
        self.lanes = 1 if isinstance(dp.inner_order, Tree) and dp.inner_order.terms is None else lanes(dp.order)
        self.flipflops = self.held = 0
        product = self._product()
        if pipeline:
            self.flipflops += self.products * self._bits(product)
            if isinstance(product, tuple) and not isinstance(product, Integer):
                product = self.integers([product], [], "multiply", self.lanes)
        self.stage, self.role = 1, "add"
        if pipeline:
            self.depth = 0.0
        if not self.fixed:
            self.alive = self._width(product) + SPREAD
        self._accumulate(product)
        self.role = "output"
        if dp.output != dp.accumulator:
            if self.stage < 2:
                self.stage, self.depth = 2, 0.0
            self.round(self.unpack(dp.accumulator), dp.output, dp.output_rounding)
        self.stage, self.role = 1, "registers"
        controls = 1 + isinstance(dp.order, Blocked)
        self.flipflops += min(pipeline, 2) * controls + (dp.output.bits if pipeline > 2 else 0)
        if pipeline > 1:
            self.flipflops += self._operand_bits()
        self.alive = math.inf
        self.put(registers(self.flipflops - self.held, 0))
        self.alive = self._width(product) + SPREAD
        self.put(registers(self.held, self.held if isinstance(dp.order, Blocked) else 0))

    # ---- products

    def _operand_bits(self) -> int:
        total = 0
        for fmt in (self.datapath.a, self.datapath.b):
            if isinstance(fmt, BlockFormat):
                total += fmt.scale.bits * -(-self.lanes // fmt.size)
            total += self.lanes * (fmt.element.bits if isinstance(fmt, BlockFormat) else fmt.bits)
        return total

    def _bits(self, x: Number | tuple[Integer, Integer]) -> int:
        """Of a product's register."""
        if isinstance(x, Shape):
            return x.bits + x.offset_bits + x.negative + 1 + x.nan + x.infinity
        return x.bits if isinstance(x, Integer) else x[0].bits + x[1].bits

    @staticmethod
    def _width(x: Number | tuple[Integer, Integer]) -> int:
        return x.bits if isinstance(x, Shape | Integer) else x[0].bits + x[1].bits

    def _product(self) -> Number | tuple[Integer, Integer]:
        """A product, exact or rounded; of fixed point the factors that a heap takes in."""
        dp, n = self.datapath, self.lanes
        self.products, self.exponent = n, 0
        elements, scales = list[Number](), list[Number]()
        blocks = 1
        for fmt in (dp.a, dp.b):
            elements.append(self.unpack(fmt.element if isinstance(fmt, BlockFormat) else fmt, n))
            if isinstance(fmt, BlockFormat):
                blocks = -(-n // fmt.size)
                scales.append(self.unpack(fmt.scale, blocks))
        if self.fixed:
            x, y = elements
            assert isinstance(x, Integer) and isinstance(y, Integer)
            if dp.product is None:
                return x, y
            self.round(self.integers([(x, y)], [], "multiply", n), dp.product, dp.product_rounding, n)
            assert isinstance(dp.product, FixedFormat)
            return integer(dp.product)
        if dp.in_blocks and isinstance(dp.inner_order, Exact):
            total: Number = self.multiply(*elements, number=n)
            part, total = fixed_sum([total] * -(-n // blocks), total.last, "block")
            self.put(part, blocks)
            for scale in scales:
                total = self.multiply(total, scale, "scale", blocks)
            self.products = blocks
        else:
            total = self._factors(elements, scales)
        if dp.product is not None and not (dp.in_blocks and isinstance(dp.inner_order, Exact)):
            self.round(total, dp.product, dp.product_rounding, n)
            total = self.unpack(dp.product, n)
        return total

    def _factors(self, elements: list[Number], scales: list[Number]) -> Shape:
        """The product of elements and scales, each of them beginning with a one where exponents are to be compared."""
        dp, n = self.datapath, self.lanes
        factors = [x for pair in zip(elements, scales, strict=False) for x in pair] if len(scales) == 2 else []
        factors = factors or (
            [elements[0], *scales, elements[1]] if isinstance(dp.a, BlockFormat) else [*elements, *scales]
        )
        if isinstance(dp.inner_order, Fused | TwoStage) and not isinstance(dp.accumulators[-1][0], FixedFormat):
            for i, x in enumerate(factors):
                assert isinstance(x, Shape)
                parts, factors[i] = leading(x)
                for part in parts:
                    self.put(part, n)
        self.exponent = sum(x.top for x in factors if isinstance(x, Shape))
        total = factors[0]
        for x in factors[1:]:
            total = self.multiply(total, x, number=n)
        assert isinstance(total, Shape)
        return total

    # ---- orders

    def _accumulate(self, product: Number | tuple[Integer, Integer]) -> None:
        dp, level = self.datapath, len(self.datapath.accumulators) - 1
        order, (fmt, how) = dp.inner_order, dp.accumulators[level]
        kulisch = isinstance(order, Exact) and order.terms is None
        if kulisch:
            self._exact(product)
        else:
            count = self.lanes if isinstance(order, Systolic) else 1
            self._register(count * fmt.bits)
            total = self.unpack(fmt, count, cleared=True)
            if isinstance(order, Sequential | Systolic):
                self.round(self._mac(product, total, fmt, how), fmt, how, self.lanes)
            elif isinstance(order, Tree):
                below = self._tree(product, self.lanes, fmt, how)
                self.added(below, total, fmt, how)
            else:
                exactly = self._fuse(product, total, order, fmt, how)
                self.role = "normalise"
                self.round(exactly, fmt, how)
        blocked = isinstance(dp.order, Blocked)
        if blocked:
            self._register(dp.accumulator.bits)
        else:
            self.stage, self.depth = 2, 0.0
        if kulisch:
            self.role = "normalise"
            self._exact_sum(fmt, how)
        elif isinstance(order, Systolic):
            self.role = "output"
            sums = self.lanes - 1
            pair = [self.unpack(fmt, 2 * sums, 1), self.unpack(fmt, 0)]
            self.added(*pair, fmt, how, sums, sums.bit_length())
        if blocked:
            self.role = "outer"
            block, outer = self.unpack(fmt), self.unpack(dp.accumulator)
            self.added(block, outer, *dp.accumulators[0])

    def _register(self, bits: int) -> None:
        """A sum's register; it is read through what clears it, and of a block also written so."""
        self.flipflops += bits
        self.held += bits

    def _mac(self, product: Number | tuple[Integer, Integer], total: Number, fmt: Format, how: Rounding) -> Number:
        if isinstance(product, Shape | Integer):
            return self.add(product, total, fmt, how, self.lanes)
        assert isinstance(total, Integer)
        return self.integers([product], [total], "multiply", self.lanes, cleared=total.bits)

    def _tree(self, product: Number | tuple[Integer, Integer], n: int, fmt: Format, how: Rounding) -> Number:
        """The sum of a tree over n products, as ``orders`` builds it."""
        if not isinstance(product, Shape | Integer):
            product = self.integers([product], [], "multiply", n)
        return self._subtree(product, n, fmt, how, 1)

    def _subtree(self, product: Number, n: int, fmt: Format, how: Rounding, times: int) -> Number:
        if n == 1:
            return product
        half = 1 << (n - 1).bit_length() - 1
        if 2 * half == n:
            left = right = self._subtree(product, half, fmt, how, 2 * times)
        else:
            left = self._subtree(product, half, fmt, how, times)
            right = self._subtree(product, n - half, fmt, how, times)
        self.added(right, left, fmt, how, times)
        return self.unpack(fmt, times)

    def _fuse(
        self,
        product: Number | tuple[Integer, Integer],
        total: Number,
        order: Fused | TwoStage | Exact,
        fmt: Format,
        how: Rounding,
    ) -> Number:
        """The sum of products and accumulator that one step rounds."""
        n = self.products
        if isinstance(total, Integer):
            return self._fuse_integers(product, total, order, fmt)
        assert isinstance(product, Shape)
        if isinstance(order, Exact):
            summed = product
            if n > 1:
                part, summed = fixed_sum([product] * n, product.last)
                self.put(part)
            return self.add(summed, total, fmt, how)
        guard = order.guard_bits if isinstance(order, Fused) else order.sum_guard_bits + 1
        if isinstance(fmt, FixedFormat):
            part, summed = fixed_sum([product] * n + [total], fmt.quantum_exponent - guard)
            self.put(part)
            return summed
        terms = [(product, self.exponent)] * n
        if isinstance(order, Fused) and order.group:
            part, grouped = fixed_sum([product] * order.group, product.last, "group")
            self.put(part, n // order.group)
            terms = [(grouped, grouped.top)] * (n // order.group)
        kept = fmt.precision - 1 + guard
        part, summed = fused_sum([*terms, (total, total.top)], kept, getattr(order, "floor", None))
        self.put(part)
        return summed

    def _fuse_integers(
        self, product: Number | tuple[Integer, Integer], total: Integer, order: Fused | TwoStage | Exact, fmt: Format
    ) -> Integer:
        n = self.products
        last = fmt.emin - order.guard_bits if not isinstance(order, Exact) else None
        if not isinstance(product, Shape | Integer):
            x, y = product
            if last is None or x.last + y.last >= last:
                return self.integers([product] * n, [total], "sum", cleared=total.bits)
            product = self.integers([product], [], "multiply", n)
        assert isinstance(product, Integer)
        if last is not None and product.last < last:
            part, product = truncate(product, last)
            self.put(part, n)
        return self.integers([], [product] * n + [total], "sum", cleared=total.bits)

    def _exact(self, product: Number | tuple[Integer, Integer]) -> None:
        """The accumulator that loses nothing."""
        if not isinstance(product, Shape | Integer):
            product = self.integers([product], [], "product", self.lanes)
        if isinstance(product, Integer):
            self.exact_last, self.exact_bits = product.last, product.bits + GROWTH
            self._register(self.exact_bits)
            register = Integer(self.exact_bits, product.last)
            self.integers([], [product] * self.lanes + [register], "sum", cleared=self.exact_bits)
            return
        self.exact_last = product.last
        self.exact_bits = product.top + product.highest - product.last + 1 + GROWTH + 1
        self._register(self.exact_bits + 3)
        part, _ = fixed_sum([product] * self.products, product.last, register=True, width=self.exact_bits)
        self.put(part)

    def _exact_sum(self, fmt: Format, how: Rounding) -> None:
        if self.fixed:
            self.round(Integer(self.exact_bits, self.exact_last), fmt, how)
            return
        part, total = held(self.exact_bits, self.exact_last)
        self.put(part)
        self.round(total, fmt, how)
