"""Scalar units: conversion, addition, multiplication, fused multiply-add; each a chain of the same parts."""

from __future__ import annotations

from dataclasses import replace

from amaranth.hdl import Const, Signal, Value

from ..errors import HalfulpError
from ..functions import Function
from .align import Add, Align
from .part import Number, Part
from .rounding import Normalise, Round
from .shapes import Need
from .trees import Multiply
from .unpack import Unpack

#: Operations of function units that there is RTL of.
KINDS = ("convert", "add", "sub", "mul", "fma")


def rounded(part: Part, name: str, x: Number, need: Need, random: Value) -> Round:
    """Puts the parts that round ``x`` into ``part``."""
    normalise = part.inside(f"{name}normalise", Normalise(x, need.fmt))
    return part.inside(f"{name}round", Round(x, normalise, need, random))


def added(part: Part, name: str, x: Number, y: Number, need: Need) -> Number:
    """Puts the parts that add ``x`` and ``y`` into ``part``; the sum is for a rounding as ``need`` says."""
    align = part.inside(f"{name}align", Align(x, y, need))
    return part.inside(f"{name}add", Add(x, y, align, need.rounding.mode)).number


class Unit(Part):
    """A function unit with ports: ``a``, ``b``, ``c`` codes in, ``random`` bits, ``code`` out and, if asked for,
    ``flags``."""

    def __init__(self, function: Function, flags: bool = False) -> None:
        super().__init__()
        kind, fmt, rounding = function.operation, function.result, function.rounding
        if kind not in KINDS:
            raise HalfulpError(f"there is no RTL of {function.name}: choose one of {', '.join(KINDS)}.")
        operands = function.numbers
        self.inputs = [Signal(f.bits, name=name) for f, name in zip(operands, "abc", strict=False)]
        self.random: Value = Signal(rounding.random_bits, name="random") if rounding.random_bits else Const(0, 1)
        need = Need(fmt, rounding, flags)
        numbers = [
            self.inside(f"unpack_{name}", Unpack(code, f)).number
            for code, f, name in zip(self.inputs, operands, "abc", strict=False)
        ]
        if kind == "sub":
            numbers[1] = replace(numbers[1], sign=~numbers[1].sign, shape=replace(numbers[1].shape, negative=True))
        if kind in ("mul", "fma"):
            numbers[:2] = [self.inside("multiply", Multiply(*numbers[:2])).number]
        number = added(self, "", *numbers, need) if len(numbers) == 2 else numbers[0]
        round_ = rounded(self, "", number, need, self.random)
        self.code = Signal(fmt.bits, name="code")
        self.m.d.comb += self.code.eq(round_.code)
        self.outputs = [self.code]
        if flags:
            self.flags = Signal(5, name="flags")
            self.m.d.comb += self.flags.eq(round_.flags)
            self.outputs.append(self.flags)

    @property
    def ports(self) -> list[Signal]:
        random = [self.random] if isinstance(self.random, Signal) else []
        return [*self.inputs, *random, *self.outputs]
