"""Plan: what a unit is made of, so that it can be priced in an instant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .counts import Part
from .datapath import Datapath
from .dot_parts import DotParts
from .errors import HalfulpError
from .formats import FixedFormat, PositFormat
from .functions import Function
from .ledger import Operation
from .parts import Integer, Parts, lfsr_step, registers
from .random import LFSR


@dataclass(frozen=True)
class Plan:
    """The parts of a unit."""

    parts: tuple[Part, ...]
    macs: int = 1  #: multiply-accumulations a clock
    pipeline: int = 0


def plan(unit: Datapath | Function | str, pipeline: int = 0, random: LFSR | None = None, eager: bool = False) -> Plan:
    """The plan of a datapath's unit, or of a function unit; ``random`` and ``eager`` as of ``rtl.design``.

    Raises
    ------
    HalfulpError
        There is no such hardware.
    """
    if isinstance(unit, Function):
        return _function(unit, random, eager)
    return _datapath(Datapath.parse(unit), pipeline, random, eager)


@lru_cache(maxsize=4096)
def _function(function: Function, random: LFSR | None, eager: bool) -> Plan:
    kind, fmt, rounding = function.operation, function.result, function.rounding
    if kind not in ("convert", "add", "sub", "mul", "fma") or isinstance(fmt, PositFormat):
        raise HalfulpError(f"there is no hardware of {function.name}.")
    unit = Parts(function.is_fixed, eager)
    numbers = [unit.unpack(f) for f in function.numbers]
    if kind in ("mul", "fma") and function.is_fixed:
        numbers = [unit.integers([(numbers[0], numbers[1])], numbers[2:], "multiply")]  # type: ignore[list-item,arg-type]
    elif kind in ("mul", "fma"):
        numbers[:2] = [unit.multiply(numbers[0], numbers[1])]
    x = unit.add(numbers[0], numbers[1], fmt, rounding) if len(numbers) == 2 else numbers[0]
    unit.round(x, fmt, rounding)
    if random is not None:
        unit.put(lfsr_step(random))
        unit.put(registers(random.width, 0))
    return Plan(tuple(unit.parts))


@lru_cache(maxsize=4096)
def _datapath(datapath: Datapath, pipeline: int, random: LFSR | None, eager: bool) -> Plan:
    unit = DotParts(datapath, pipeline, random, eager)
    return Plan(tuple(unit.parts), unit.lanes, pipeline)


@lru_cache(maxsize=4096)
def operation_plan(operation: Operation) -> Plan:
    """The parts that carry out an operation by itself, not as a part of a datapath's unit."""
    op = operation
    formats = [fmt for fmt in (op.a, op.b, op.result) if fmt is not None]
    unit = Parts(op.kind in ("mul", "add") and all(isinstance(fmt, FixedFormat) for fmt in formats))
    x = unit.unpack(op.a)
    if op.kind in ("mul", "add"):
        y = unit.unpack(op.b)
        if op.kind == "add":
            x = unit.add(x, y, op.result or op.b, op.rounding)
        elif isinstance(x, Integer) and isinstance(y, Integer):
            x = unit.integers([(x, y)], [], "multiply")
        else:
            x = unit.multiply(x, y)
    if op.result is not None:
        unit.round(x, op.result, op.rounding)
    return Plan(tuple(unit.parts))
