"""The parts of dot-product units. Mirrors ``rtl.dot``."""

from __future__ import annotations

import math

from . import activity
from .blocks import BlockFormat
from .datapath import Datapath
from .formats import FixedFormat, Format
from .orders import Blocked, Exact, Fused, Sequential, Systolic, Tree, TwoStage, lanes
from .parts import Integer, Number, Parts, fixed_sum, fused_sum, held, integer, leading, lfsr_step, registers, truncate
from .random import LFSR
from .rounding import Rounding
from .rtl.shapes import Shape

GROWTH = 30  #: bits of an exact accumulator beyond a product's
SPREAD = 4  #: powers of two by which numbers alike differ
GROWN = 2  #: bits by which a sum has grown


class DotParts(Parts):
    """The parts of a dot-product unit, in the order of ``rtl.dot.DotUnit``."""

    def __init__(self, datapath: Datapath, pipeline: int, random: LFSR | None = None, eager: bool = False) -> None:
        dp = datapath
        formats = [dp.a, dp.b, *(fmt for fmt, _ in dp.accumulators), *([dp.product] if dp.product else [])]
        super().__init__(all(isinstance(fmt, FixedFormat) for fmt in formats), eager)
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
            self.clear()
        if not self.fixed:
            self.alive = self._alive(product)
        self.product, self.accumulating = product, True
        self._accumulate(product)
        self.role = "output"
        if dp.output != dp.accumulator:
            if self.stage < 2:
                self.stage = 2
                self.clear()
            whole = isinstance(dp.output, FixedFormat)
            self.round(self.unpack(dp.accumulator, whole=whole), dp.output, dp.output_rounding)
        self.stage, self.role, self.stir = 1, "registers", self.register_stir
        controls = 1 + isinstance(dp.order, Blocked)
        self.flipflops += min(pipeline, 2) * controls + (dp.output.bits if pipeline > 2 else 0)
        if pipeline > 1:
            self.flipflops += self._operand_bits()
        if random is not None:
            self.flipflops += random.width
            self.put(lfsr_step(random))
        self.alive = math.inf
        self.put(registers(self.flipflops - self.held, 0))
        self.alive = self._alive(product)
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
    def _alive(product: Number | tuple[Integer, Integer]) -> int:
        """Bits of a sum of such products that change: theirs, those by which their exponents differ, some growth."""
        if isinstance(product, Shape):
            return product.bits + min(SPREAD, product.highest - product.lowest) + GROWN
        return (product.bits if isinstance(product, Integer) else product[0].bits + product[1].bits) + GROWN

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
            product = self.multiply(elements[0], elements[1], number=n)
            total: Number
            part, total = fixed_sum([product] * -(-n // blocks), product.last, "block")
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

    def meet(self, x: Shape, y: Shape, width: int) -> float:
        dp = self.datapath
        if dp.in_blocks or self.role != "add":
            return 1.0
        product = self.product
        assert isinstance(product, Shape)
        if self.accumulating:
            return activity.running(product, y, width)
        return activity.apart(product, product, (dp.product is None,) * 2, width)

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
                assert not isinstance(order, Blocked)
                exactly = self._fuse(product, total, order, fmt, how)
                self.role = "normalise"
                self.round(exactly, fmt, how)
        blocked = isinstance(dp.order, Blocked)
        if blocked:
            self._register(dp.accumulator.bits)
        else:
            self.register_stir, self.stage = self.stir, 2
            self.clear()
        if kulisch:
            self.role = "normalise"
            self._exact_sum(fmt, how)
        elif isinstance(order, Systolic):
            self.role = "output"
            sums = self.lanes - 1
            lane = self.unpack(fmt, 2 * sums)
            self.added(lane, lane, fmt, how, sums, sums.bit_length())
        if blocked:
            self.role = "outer"
            block, outer = self.unpack(fmt), self.unpack(dp.accumulator)
            self.added(block, outer, dp.accumulator, dp.rounding)
            self.register_stir = self.stir

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
        self.accumulating = False
        total = self._subtree(product, n, fmt, how, 1)
        self.accumulating = True
        return total

    def _subtree(self, product: Number, n: int, fmt: Format, how: Rounding, times: int) -> Number:
        if n == 1:
            return product
        half = 1 << (n - 1).bit_length() - 1
        if 2 * half == n:
            left = right = self._subtree(product, half, fmt, how, 2 * times)
        else:
            aside, stir, self.aside = self.aside, self.stir, True  # beside the left one, which is at least as deep
            right = self._subtree(product, n - half, fmt, how, times)
            self.aside, self.stir = aside, stir
            left = self._subtree(product, half, fmt, how, times)
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
                self.alive = max(self.alive, summed.bits)
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
