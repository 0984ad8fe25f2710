"""Dot-product units: one clock adds the products of as many pairs as the datapath's order takes at a time.

Ports: ``clk``; ``clear``, which starts a new dot product with this step; ``a`` and ``b``, the operands' codes, the
first lowest, and ``a_scale``, ``b_scale`` of operands in blocks; ``fold`` of blocked orders, which adds the inner
accumulator to the outer one after this step; ``random_...``, the bits of stochastic roundings, or ``seed_load`` and
``seed`` of the LFSR that deals them out (``clocks.dealt``). Out comes ``code``, the dot product so far in the output
format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from ..blocks import BlockFormat
from ..datapath import Datapath
from ..errors import HalfulpError
from ..formats import FixedFormat, FloatFormat, Format
from ..orders import Blocked, Exact, Fused, Fusing, Order, Sequential, Systolic, Tree, TwoStage, lanes
from ..random import LFSR
from ..rounding import Rounding
from .align import Add, Align
from .eager import Chosen, EagerAdd, EagerSum, checked_eager, led
from .integers import Integer, RoundInteger, SumIntegers, Truncate, integer
from .lfsr import own_lfsr
from .part import Number, Part, leading_zeros, registered, shift_left
from .rounding import Normalise, Round
from .shapes import Need, Shape, checked
from .sums import FixedSum, FusedSum, absolute
from .trees import Multiply
from .twostage import Endless, TwoStageSum
from .unpack import Unpack

GROWTH = 30  #: bits of an exact accumulator beyond a product's: 2^30 products fit


class Leading(Part):
    """A number of fixed point, shifted up until it begins with a one: fused units go by the exponent of that."""

    def __init__(self, x: Number) -> None:
        super().__init__()
        width, x = x.shape.bits, self.take_number("x", x)
        count, _ = leading_zeros(self, "zeros", x.magnitude)
        count = self.let("count", count)
        magnitude = shift_left(self, "shifted", x.magnitude, count)
        offset = self.let("offset", Mux(x.zero, 0, width - 1 - count)[: (width - 1).bit_length()])
        shape = replace(x.shape, base=x.shape.base - (width - 1), highest=width - 1, zeros=((0, width - 1),))
        self.number = replace(x, shape=shape, magnitude=magnitude, offset=offset)


class Term(NamedTuple):
    """A product, and the exponent at offset 0 that it counts with when fused units align: the sum of its operands'."""

    number: Number
    exponent: int


class DotUnit(Part):
    """The unit of a datapath (see above).

    Parameters
    ----------
    pipeline : ranks of registers besides the accumulator: 1, behind the multipliers; 2, also at the operands; 3, also
        at the output.
    random : the unit's own LFSR; None: random bits are inputs.
    eager : sums are rounded eagerly (``eager``).
    """

    clocked = True

    def __init__(self, datapath: Datapath, pipeline: int = 0, random: LFSR | None = None, eager: bool = False) -> None:
        super().__init__()
        self.datapath, self.pipeline = datapath, pipeline
        if not 0 <= pipeline <= 3:
            raise HalfulpError(f"a dot-product unit has 0 to 3 pipeline registers, not {pipeline}.")
        dp = datapath
        self.eager = eager
        if eager:
            self._check_eager()
        self.lanes = lanes(dp.order)
        formats = [dp.a, dp.b, *(fmt for fmt, _ in dp.accumulators), *([dp.product] if dp.product else [])]
        self.fixed = all(isinstance(fmt, FixedFormat) for fmt in formats)
        self.clk = Signal(name="clk")
        self.inputs: list[Signal] = [self._input("clear", 1)]
        if isinstance(dp.order, Blocked):
            self.inputs.append(self._input("fold", 1))
        self._drawn: dict[str, list[Signal]] = {"product": [], "accumulator": [], "sum": [], "output": []}
        products = self._products()
        clear, *rest = [self._delayed(s, min(pipeline, 2)) for s in self.inputs]
        self.fold = rest[0] if rest else Const(0, 1)
        if isinstance(dp.inner_order, Exact) and dp.inner_order.terms is None:
            self._exact_window(products)
        total = self._accumulate(products, clear)
        self.code = Signal(dp.output.bits, name="code")
        self._output(total)
        self._random(random)

    def _check_eager(self) -> None:
        """Refuses datapaths whose sums are not those of two floats, rounded by plain SR."""
        dp = self.datapath
        if isinstance(dp.inner_order, Fused | TwoStage) or dp.inner_order == Exact():
            raise HalfulpError(
                f"{dp.name}: eager rounding is that of sums of two numbers; {dp.inner_order} has others."
            )
        for fmt, rounding in dp.accumulators:
            checked_eager(Need(fmt, rounding, eager=True), dp.name)

    def _random(self, lfsr: LFSR | None) -> None:
        """Where the roundings' random bits come from: ports, or slices of an LFSR's word, the first role's lowest."""
        drawn = {role: draws for role, draws in self._drawn.items() if draws}
        if lfsr is not None:
            ports, rest = own_lfsr(self, lfsr, sum(len(bits) for draws in drawn.values() for bits in draws))
            self.inputs += ports
        for role, draws in drawn.items():
            total = sum(map(len, draws))
            if lfsr is None:
                word = self._input(f"random_{role}", total)
                self.inputs.append(word)
            else:
                word, rest = self.let(f"random_{role}", rest[:total]), rest[total:]
            late = min(self.pipeline, 2)
            word = self._delayed(word, {"product": int(self.pipeline > 1), "accumulator": late}.get(role, late + 1))
            for bits in draws:
                self.connect(bits, word[: len(bits)])
                word = word[len(bits) :]

    @property
    def outputs(self) -> list[Signal]:
        return [self.code]

    @property
    def ports(self) -> list[Signal]:
        return [self.clk, *self.inputs, *self.operand_ports, self.code]

    @property
    def latency(self) -> int:
        """Clocks from operands to the code of the sum with them."""
        return 1 + self.pipeline

    # ---- small parts

    def _input(self, name: str, bits: int) -> Signal:
        return Signal(bits, name=name)

    def _delayed(self, signal: Value, clocks: int) -> Value:
        for _ in range(clocks):
            signal = self.after_clock(f"{getattr(signal, 'name', 'value')}_q", signal)
        return signal

    def draw(self, role: str, rounding: Rounding) -> Value:
        """Random bits for a rounding."""
        if not rounding.random_bits:
            return Const(0, 1)
        bits = Signal(rounding.random_bits, name=f"random_{role}_{len(self._drawn[role])}")
        self._drawn[role].append(bits)
        return bits

    def unpack(self, name: str, code: Value, fmt: Format, whole: bool = True) -> Any:
        """The number that a code is; of fixed point throughout an integer, if that will do (``whole``)."""
        if self.fixed and whole:
            assert isinstance(fmt, FixedFormat)
            return integer(code, fmt)
        return self.inside(f"unpack_{name}", Unpack(code, fmt)).number

    def round(self, name: str, x: Any, fmt: Format, rounding: Rounding, role: str, tensor_core: bool = False) -> Value:
        """The code of a number rounded into ``fmt``."""
        if isinstance(x, EagerSum):
            need = Need(fmt, rounding, eager=True)
            normal = self.inside(f"normalise_{name}", Normalise(x.number, fmt)).normal
            up = self.inside(f"choose_{name}", Chosen(normal.shift, x.carries)).up
            return self.inside(f"round_{name}", Round(x.number, normal, need, up)).code
        need, random = Need(fmt, rounding), self.draw(role, rounding)
        if isinstance(x, Integer):
            return self.inside(f"round_{name}", RoundInteger(x, need, random)).code
        normalise = self.inside(f"normalise_{name}", Normalise(x, fmt)).normal
        return self.inside(f"round_{name}", Round(x, normalise, need, random, tensor_core)).code

    def add(self, name: str, x: Any, y: Any, fmt: Format, rounding: Rounding, role: str = "accumulator") -> Any:
        """The sum of two numbers, as exact as rounding it into ``fmt`` needs, or an ``EagerSum``."""
        if self.fixed:
            return self.inside(f"add_{name}", SumIntegers([], [x, y])).integer
        need = Need(fmt, rounding, eager=self.eager)
        if self.eager:
            x = led(self, name, x, fmt)
        align = self.inside(f"align_{name}", Align(x, y, need)).aligned
        if self.eager:
            return self.inside(f"add_{name}", EagerAdd(x, y, align, need, self.draw(role, rounding))).sum
        return self.inside(f"add_{name}", Add(x, y, align, rounding.mode)).number

    def added(self, name: str, x: Any, y: Any, level: int, role: str = "accumulator") -> Value:
        """The code of x + y in the accumulator of a level."""
        fmt, rounding = self.datapath.accumulators[level]
        return self.round(name, self.add(name, x, y, fmt, rounding, role), fmt, rounding, role)

    # ---- products

    def _products(self) -> list[Any]:
        """The products of a step: numbers of the formats' kind, exact or rounded, registered as the pipeline asks."""
        dp, n = self.datapath, self.lanes
        self.operand_ports: list[Signal] = []
        scaled = [self._operand("a", dp.a), self._operand("b", dp.b)]
        group = dp.inner_order.group if isinstance(dp.inner_order, Fused) else None
        if dp.in_blocks and (isinstance(dp.inner_order, Exact) or group):
            size = group or next(fmt.size for fmt in (dp.a, dp.b) if isinstance(fmt, BlockFormat))
            products = [self._block(start, range(start, min(start + size, n)), *scaled) for start in range(0, n, size)]
        else:
            products = [self._product(i, *(operand(i) for operand in scaled)) for i in range(n)]
        return [self._registered(f"product{i}", p) if self.pipeline else p for i, p in enumerate(products)]

    def _operand(self, name: str, fmt: Any) -> Callable[[int], Any]:
        """The operands of a port, by lane; of blocks with their scale."""
        element = fmt.element if isinstance(fmt, BlockFormat) else fmt
        port = self._input(name, element.bits * self.lanes)
        codes = self._delayed(port, int(self.pipeline > 1))
        self.operand_ports.append(port)
        if not isinstance(fmt, BlockFormat):
            return lambda i: self.unpack(f"{name}{i}", codes.word_select(i, element.bits), element)
        blocks = -(-self.lanes // fmt.size)
        scales = self._input(f"{name}_scale", fmt.scale.bits * blocks)
        held = self._delayed(scales, int(self.pipeline > 1))
        unpacked = [
            self.unpack(f"{name}_scale{j}", held.word_select(j, fmt.scale.bits), fmt.scale) for j in range(blocks)
        ]

        def lane(i: int) -> tuple[Any, Any]:
            return self.unpack(f"{name}{i}", codes.word_select(i, element.bits), element), unpacked[i // fmt.size]

        self.operand_ports.append(scales)
        return lane

    def _product(self, i: int, x: Any, y: Any) -> Any:
        dp = self.datapath
        if self.fixed:
            if dp.product is None:
                return x, y
            exactly = self.inside(f"multiply{i}", SumIntegers([(x, y)])).integer
            code = self.round(f"product{i}", exactly, dp.product, dp.product_rounding, "product")
            return self.unpack(f"product{i}", code, dp.product)
        parts = [p for operand in (x, y) for p in (operand if isinstance(operand, tuple) else (operand,))]
        aligning = isinstance(dp.inner_order, Fused | TwoStage) and not isinstance(dp.accumulators[-1][0], FixedFormat)
        if aligning:
            parts = [self._leading(f"{i}_{j}", part) for j, part in enumerate(parts)]
        exponent = sum(part.shape.top for part in parts)
        product = parts[0]
        for j, part in enumerate(parts[1:]):
            product = self.inside(f"multiply{i}{f'_{j}' if len(parts) > 2 else ''}", Multiply(product, part)).number
        if dp.product is not None:
            code = self.round(f"product{i}", product, dp.product, dp.product_rounding, "product")
            product = self.unpack(f"product{i}", code, dp.product)
        return Term(product, exponent)

    def _block(self, start: int, lanes: range, a: Callable[[int], Any], b: Callable[[int], Any]) -> Term:
        """The exact sum of the products of a block's elements, times the scales, which come after the sum."""
        xs, ys = ([operand(i) for i in lanes] for operand in (a, b))
        elements = [[operand[0] if isinstance(operand, tuple) else operand for operand in side] for side in (xs, ys)]
        scales = [side[0][1] for side in (xs, ys) if isinstance(side[0], tuple)]
        products = [
            self.inside(f"multiply{start + i}", Multiply(x, y)).number
            for i, (x, y) in enumerate(zip(*elements, strict=True))
        ]
        total = self.inside(f"block{start}", FixedSum(products, products[0].shape.last)).number
        if isinstance(self.datapath.inner_order, Fused):  # a group counts with its scales' exponent, if it cancels, too
            total = replace(total, zero=self.let(f"zeros{start}", Cat(p.zero for p in products).all()))
        for i, scale in enumerate(scales):
            total = self.inside(f"scale{start}_{i}", Multiply(total, scale)).number
        return Term(total, sum(scale.shape.top for scale in scales))

    def _leading(self, name: str, x: Number) -> Number:
        fixed = x.shape.highest == x.shape.lowest == 0 and not x.shape.normalised
        return self.inside(f"leading{name}", Leading(x)).number if fixed else x

    def _registered(self, name: str, product: Any) -> Any:
        if isinstance(product, Term):
            return product._replace(number=registered(self, name, product.number))
        if isinstance(product, tuple):
            product = self.inside(f"multiply_{name}", SumIntegers([product])).integer
        return Integer(self._delayed(self.let(name, product.value), 1), product.last)

    # ---- orders

    def _accumulate(self, products: list[Any], clear: Value) -> Value:
        """Puts the registers in, and what they are to hold next; gives the sum that they hold, of the accumulator."""
        dp = self.datapath
        blocked = isinstance(dp.order, Blocked)
        level = len(dp.accumulators) - 1
        registers = self._registers(dp.inner_order, level)
        following = self._next(products, [Mux(clear, 0, q)[: len(q)] for q in registers], level)
        for q, value in zip(registers, following, strict=True):
            self.registers.append((q, Mux(self.fold, 0, value) if blocked else value))
        if not blocked:
            return self._sum(registers, level, "sum")
        outer = Signal(dp.accumulator.bits, name="outer", reset_less=True)
        started = self.let("outer_started", Mux(clear, 0, outer))
        block = self.unpack("block", self._sum(following, level, "accumulator"), dp.accumulators[level][0])
        folded = self.added("outer", block, self.unpack("outer", started, dp.accumulator), 0)
        self.registers.append((outer, Mux(self.fold, folded, started)))
        return outer

    def _registers(self, order: Order, level: int) -> list[Signal]:
        bits = self.datapath.accumulators[level][0].bits
        if isinstance(order, Exact) and order.terms is None:
            kept = [("exact", self._exact_bits), ("nan", 1), ("plus_infinity", 1), ("minus_infinity", 1)]
            return [Signal(n, name=name, reset_less=True) for name, n in (kept[:1] if self.fixed else kept)]
        count = self.lanes if isinstance(order, Systolic) else 1
        names = [f"accumulator{i}" for i in range(count)] if count > 1 else ["accumulator"]
        return [Signal(bits, name=name, reset_less=True) for name in names]

    def _next(self, products: list[Any], held: list[Value], level: int) -> list[Value]:
        """What the registers hold after a step that found ``held`` in them."""
        order, (fmt, rounding) = self.datapath.inner_order, self.datapath.accumulators[level]
        if isinstance(order, Exact) and order.terms is None:
            return self._next_exact(products, held)
        totals = [self.unpack(f"accumulator{i}", code, fmt) for i, code in enumerate(held)]
        if isinstance(order, Sequential | Systolic):
            return [
                self.round(f"{i}", self._mac(f"{i}", p, total, fmt, rounding), fmt, rounding, "accumulator")
                for i, (p, total) in enumerate(zip(products, totals, strict=True))
            ]
        if isinstance(order, Tree):
            below = self._tree(products, 0, self.lanes, level)
            return [self.added("total", below, totals[0], level)]
        assert isinstance(order, Fusing)
        exactly = self._fuse(products, totals[0], order, Need(fmt, rounding))
        tensor_core = isinstance(order, Fused) and order.tensor_core
        return [self.round("total", exactly, fmt, rounding, "accumulator", tensor_core)]

    def _sum(self, held: Sequence[Value], level: int, role: str) -> Value:
        """The accumulator's code that the registers stand for; ``role``: whose random bits it draws."""
        order, (fmt, rounding) = self.datapath.inner_order, self.datapath.accumulators[level]
        if isinstance(order, Exact) and order.terms is None:
            return self.round("exact", self._exact_number(held), fmt, rounding, role)
        codes, distance = list(held), 1
        while distance < len(codes):
            for lane in range(0, len(codes) - distance, 2 * distance):
                pair = [self.unpack(f"lane{lane}_{distance}_{i}", codes[lane + i * distance], fmt) for i in (0, 1)]
                codes[lane] = self.added(f"lanes{lane}_{distance}", pair[1], pair[0], level, role)
            distance *= 2
        return codes[0]

    def _mac(self, name: str, product: Any, total: Any, fmt: Format, rounding: Rounding) -> Any:
        """The sum of a product and an accumulator; of integers in one heap."""
        if isinstance(product, tuple) and not isinstance(product, Term):
            return self.inside(f"multiply_add_{name}", SumIntegers([product], [total])).integer
        return self.add(name, getattr(product, "number", product), total, fmt, rounding)

    def _tree(self, products: list[Any], first: int, last: int, level: int) -> Any:
        """The sum of the tree over some products, as ``orders`` builds it."""
        if last - first == 1:
            product = products[first]
            if isinstance(product, Term):
                return product.number
            return (
                self.inside(f"multiply{first}", SumIntegers([product])).integer
                if isinstance(product, tuple)
                else product
            )
        half = first + (1 << (last - first - 1).bit_length() - 1)
        left, right = self._tree(products, first, half, level), self._tree(products, half, last, level)
        name = f"{first}_{last - 1}"
        return self.unpack(name, self.added(name, right, left, level), self.datapath.accumulators[level][0])

    def _resolved(self, name: str, product: Any) -> Integer:
        """A product of integers that is not to be added in the heap of a sum."""
        return self.inside(name, SumIntegers([product])).integer if isinstance(product, tuple) else product

    def _fuse(self, products: list[Any], total: Any, order: Fusing, need: Need) -> Any:
        """The sum of products and accumulator that one step of ``order`` rounds; a zero is +0."""
        if self.fixed:
            return self._fuse_integers(products, total, order, need)
        numbers = [product.number for product in products]
        if isinstance(order, Exact):
            summed = numbers[0]
            if len(numbers) > 1:
                summed = self.inside("sum", FixedSum(numbers, min(n.shape.last for n in numbers))).number
            exactly = self.add("total", summed, total, need.fmt, need.rounding)
            number = exactly.number if isinstance(exactly, EagerSum) else exactly
            number = replace(number, sign=self.let("sign_of_sum", number.sign & (~number.zero | number.infinity)))
            return exactly._replace(number=number) if isinstance(exactly, EagerSum) else number
        if isinstance(order, TwoStage):
            assert isinstance(need.fmt, FloatFormat)
            endless = [
                p._replace(number=self.inside(f"endless{i}", Endless(p.number, need.fmt)).number)
                for i, p in enumerate(products)
            ]
            return self.inside("sum", TwoStageSum(endless, total, order, need.fmt)).number
        if isinstance(need.fmt, FixedFormat):
            last = need.fmt.quantum_exponent - order.guard_bits
            return self.inside("sum", FixedSum([*numbers, total], last)).number
        kept = need.fmt.precision - 1 + order.guard_bits
        return self.inside("sum", FusedSum([*products, Term(total, total.shape.top)], kept, order.floor)).number

    def _fuse_integers(self, products: list[Any], total: Integer, order: Fusing, need: Need) -> Integer:
        pairs = [p for p in products if isinstance(p, tuple)]
        single = [p for p in products if isinstance(p, Integer)]
        last = need.fmt.emin - order.guard_bits if isinstance(order, Fused) else None
        if last is not None and any(x.last + y.last < last for x, y in pairs):
            single += [self.inside(f"multiply{i}", SumIntegers([pair])).integer for i, pair in enumerate(pairs)]
            pairs = []
        if last is not None:
            single = [
                self.inside(f"truncate{i}", Truncate(x, last)).integer if x.last < last else x
                for i, x in enumerate(single)
            ]
        return self.inside("sum", SumIntegers(pairs, [*single, total])).integer

    # ---- the exact accumulator

    def _exact_window(self, products: list[Any]) -> None:
        """Its places: from a product's last bit to its first, and the growth of 2^30 of them."""
        if self.fixed:
            sums = [
                self.inside(f"product{i}", SumIntegers([p])).integer if isinstance(p, tuple) else p
                for i, p in enumerate(products)
            ]
            products[:] = sums
            self._exact_last = sums[0].last
            self._exact_bits = checked(len(sums[0].value) + GROWTH)
        else:
            shape = products[0].number.shape
            self._exact_last = shape.last
            self._exact_bits = checked(shape.top + shape.highest - shape.last + 1 + GROWTH + 1)

    def _next_exact(self, products: list[Any], held: list[Value]) -> list[Value]:
        register = held[0].as_signed()
        if self.fixed:
            total = self.inside("sum", SumIntegers([], [*products, Integer(register, self._exact_last)])).integer.value
            return [total[: self._exact_bits]]
        numbers = [product.number for product in products]
        sum_ = self.inside("sum", FixedSum(numbers, self._exact_last, register, self._exact_bits))
        n = sum_.number
        return [
            sum_.total,
            held[1] | n.nan,
            held[2] | n.infinity & ~n.sign,
            held[3] | n.infinity & n.sign,
        ]

    def _exact_number(self, held: Sequence[Value]) -> Any:
        if self.fixed:
            return Integer(held[0].as_signed(), self._exact_last)
        return self.inside("exact", Held(held, self._exact_last)).number

    def _output(self, total: Value) -> None:
        dp = self.datapath
        code = total
        if dp.output != dp.accumulator:
            number = self.unpack("result", total, dp.accumulator, isinstance(dp.output, FixedFormat))
            code = self.round("output", number, dp.output, dp.output_rounding, "output")
        self.connect(self.code, self._delayed(code, int(self.pipeline > 2)))


class Held(Part):
    """The number that an exact accumulator holds."""

    def __init__(self, held: Sequence[Value], last: int) -> None:
        super().__init__()
        names = ("total", "nan", "plus", "minus")
        total, nan, plus, minus = (self.take(name, value) for name, value in zip(names, held, strict=True))
        sign, magnitude = absolute(self, total)
        zero = self.let("zero", ~magnitude.any())
        width = len(magnitude)
        shape = Shape(width, last, zeros=((width - 1, 0),), nan=True, infinity=True)
        undefined = self.let("undefined", nan | plus & minus)
        endless = self.let("endless", (plus | minus) & ~undefined)
        self.number = Number(
            shape, self.let("sign", Mux(endless, minus, sign)), magnitude, Const(0, 0), zero, undefined, endless
        )
