"""Scalar units: conversion, addition, multiplication, fused multiply-add; each a chain of the same parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from amaranth.hdl import Const, Signal, Value

from ..errors import HalfulpError
from ..formats import PositFormat
from ..functions import Function
from ..random import LFSR
from .align import Add, Align
from .eager import Chosen, EagerAdd, EagerSum, checked_eager, led
from .integers import Integer, RoundInteger, SumIntegers, integer
from .lfsr import own_lfsr
from .part import Number, Part, registered
from .rounding import Normalise, Round
from .shapes import Need
from .trees import Multiply
from .unpack import Unpack

#: Operations of function units that there is RTL of, and the parts they are chains of; registers may follow each.
STAGES = {
    "convert": ("unpack", "normalise"),
    "add": ("unpack", "align", "add", "normalise"),
    "sub": ("unpack", "align", "add", "normalise"),
    "mul": ("unpack", "multiply", "normalise"),
    "fma": ("unpack", "multiply", "align", "add", "normalise"),
}
#: The same where operands and result are of fixed point.
FIXED_STAGES = {kind: ("operands", "sum") if kind != "convert" else ("operands",) for kind in STAGES}


class Unit(Part):
    """Ports: the operands' codes in; random bits, where it rounds stochastically, or the load of the LFSR that they
    come from; the result's code and flags out.

    Parameters
    ----------
    flags : with the five IEEE flags, in the bit order of RISC-V's fflags.
    pipeline : ranks of registers, spread over the places between the parts.
    random : the unit's own LFSR; None: random bits are an input.
    eager : the carry of the random bits is found beside the addition (``eager``).
    """

    def __init__(
        self,
        function: Function,
        flags: bool = False,
        pipeline: int = 0,
        random: LFSR | None = None,
        eager: bool = False,
    ) -> None:
        super().__init__()
        kind, fmt, rounding = function.operation, function.result, function.rounding
        if kind not in STAGES:
            raise HalfulpError(f"there is no RTL of {function.name}: choose one of {', '.join(STAGES)}.")
        if isinstance(fmt, PositFormat):
            raise HalfulpError(f"there is no RTL of {function.name}: posits are operands of units, not their results.")
        self.is_fixed = function.is_fixed
        places = (FIXED_STAGES if self.is_fixed else STAGES)[kind]
        if not 0 <= pipeline <= len(places):
            raise HalfulpError(f"{function.name} takes 0 to {len(places)} pipeline registers, not {pipeline}.")
        self.latency = pipeline
        self._ranks = {places[(i + 1) * (len(places) + 1) // (pipeline + 1) - 1] for i in range(pipeline)}
        self.clk = Signal(name="clk")
        self.inputs = [Signal(f.bits, name=name) for f, name in zip(function.numbers, "abc", strict=False)]
        self._drawn, self.random = self._draw(rounding.random_bits, random)
        self.eager = eager
        self.clocked = bool(pipeline or random)
        self.code, self.flags = Signal(fmt.bits, name="code"), Signal(5, name="flags")
        self.outputs = [self.code, self.flags] if flags else [self.code]

        need = Need(fmt, rounding, flags, eager)
        if eager:
            if kind not in ("add", "sub", "fma"):
                raise HalfulpError(f"{function.name} adds nothing: eager rounding is that of add, sub, fma and MACs.")
            checked_eager(need, function.name)
        result = self._rounded_integer(function, need) if self.is_fixed else self._rounded(function, need)
        self.connect(self.code, result.code)
        if flags:
            self.connect(self.flags, result.flags)

    def _rounded_integer(self, function: Function, need: Need) -> RoundInteger:
        """Of fixed point throughout: one heap of integers, and its rounding."""
        codes = self._rank("operands", tuple(self.inputs))
        numbers = [integer(code, fmt) for code, fmt in zip(codes, function.numbers, strict=True)]  # type: ignore[arg-type]
        if function.operation == "sub":
            numbers[1] = Integer(self.let("opposite", -numbers[1].value), numbers[1].last)
        total = numbers[0]
        if function.operation in ("mul", "fma"):
            total = self.inside("multiply", SumIntegers([(numbers[0], numbers[1])], numbers[2:])).integer
        elif len(numbers) == 2:
            total = self.inside("add", SumIntegers([], numbers)).integer
        total = Integer(self._rank("sum", total.value).as_signed(), total.last)
        return self.inside("round", RoundInteger(total, need, self._drawn))

    def _rounded(self, function: Function, need: Need) -> Round:
        number = self._exact(function, need)
        carries: tuple[Value, ...] = ()
        if isinstance(number, EagerSum):
            number, carries = number
        normal = self.inside("normalise", Normalise(number, need.fmt)).normal
        if need.eager:
            self._drawn = self.inside("choose", Chosen(normal.shift, carries)).up
        number, normal = self._rank("normalise", (number, normal))
        return self.inside("round", Round(number, normal, need, self._drawn))

    def _draw(self, bits: int, lfsr: LFSR | None) -> tuple[Value, list[Signal]]:
        """The random bits of a clock, and the ports that they or their seeds come from."""
        if lfsr is not None:
            ports, word = own_lfsr(self, lfsr, bits)
            return self.let("random", word), ports
        port = Signal(bits, name="random")
        return (port, [port]) if bits else (Const(0, 1), [])

    def _exact(self, function: Function, need: Need) -> Number | EagerSum:
        """The exact result of the operation, as far as ``need`` looks at it."""
        numbers: Any = tuple(
            self.inside(f"unpack_{code.name}", Unpack(code, fmt)).number
            for code, fmt in zip(self.inputs, function.numbers, strict=True)
        )
        numbers = self._rank("unpack", numbers)
        if function.operation == "sub":
            x, y = numbers
            numbers = x, replace(y, sign=self.let("opposite", ~y.sign), shape=replace(y.shape, negative=True))
        if function.operation in ("mul", "fma"):
            product = self.inside("multiply", Multiply(*numbers[:2])).number
            numbers = self._rank("multiply", (product, *numbers[2:]))
        if len(numbers) == 1:
            return numbers[0]
        x, y = numbers
        if need.eager:
            x = led(self, "product", x, function.result)
        aligned = self.inside("align", Align(x, y, need)).aligned
        x, y, aligned = self._rank("align", (x, y, aligned))
        if need.eager:
            return self._rank("add", self.inside("add", EagerAdd(x, y, aligned, need, self._drawn)).sum)
        return self._rank("add", self.inside("add", Add(x, y, aligned, need.rounding.mode)).number)

    def _rank(self, place: str, x: Any) -> Any:
        """What goes on from a place, with its random bits: through registers, if there are some."""
        if place not in self._ranks:
            return x
        self._drawn = registered(self, f"random_{place}", self._drawn)
        return registered(self, place, x)

    @property
    def ports(self) -> list[Signal]:
        return [*([self.clk] if self.clocked else []), *self.inputs, *self.random, *self.outputs]
