"""What all parts of a unit share: a module under construction, and numbers as bundles of signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value

from .shapes import Shape


def never() -> Value:
    return Const(0, 1)


class Part(Elaboratable):
    """A module that is filled while it is constructed; signals of other parts that it reads become its inputs."""

    def __init__(self) -> None:
        self.m = Module()

    def elaborate(self, platform: Any) -> Module:
        return self.m

    def let(self, name: str, value: Any) -> Signal:
        """A named wire of the value's own width."""
        value = Value.cast(value)
        wire = Signal(value.shape(), name=name)
        self.m.d.comb += wire.eq(value)
        return wire

    def inside(self, name: str, part: Any) -> Any:
        """Puts a part into this one."""
        setattr(self.m.submodules, name, part)
        return part


@dataclass(frozen=True, eq=False)
class Number:
    """A number on its way through a unit (see ``Shape``)."""

    shape: Shape
    sign: Value
    magnitude: Value
    offset: Value
    zero: Value  #: whether the magnitude is 0
    nan: Value = field(default_factory=never)
    infinity: Value = field(default_factory=never)
    invalid: Value = field(default_factory=never)  #: a signaling NaN came in, or an operation on numbers has no result

    def signals(self) -> dict[str, Value]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "shape"}

    def map(self, change: Callable[[str, Value], Value]) -> Number:
        """The number with its signals changed."""
        return replace(self, **{name: change(name, value) for name, value in self.signals().items()})


def let_number(part: Part, name: str, number: Number) -> Number:
    """The number as wires of a part, so that its values have names there; constants stay what they are."""
    return number.map(lambda field, v: v if isinstance(v, Const) else part.let(f"{name}_{field}", v))


def registered(part: Part, domain: str, name: str, number: Number) -> Number:
    """The number one clock later."""

    def register(field: str, value: Value) -> Value:
        if isinstance(value, Const):
            return value
        q = Signal(value.shape(), name=f"{name}_{field}_q", reset_less=True)
        part.m.d[domain] += q.eq(value)
        return q

    return number.map(register)


def any_bit(value: Value) -> Value:
    """Whether a bit of a value, which may have none, is set."""
    return value.any() if len(value) else Const(0, 1)


def shift_right_sticky(part: Part, name: str, value: Value, amount: Value) -> tuple[Value, Value]:
    """``value`` >> ``amount``, and whether a bit that fell off was set."""
    value = part.let(f"{name}_from", value)
    sticky: Value = Const(0, 1)
    for level in range(len(amount)):
        places, chosen = 1 << level, amount[level]
        if places >= len(value):  # everything falls off, whichever of these bits is set
            chosen = part.let(f"{name}_all", amount[level:].any())
            sticky = part.let(f"{name}_sticky{level}", sticky | chosen & value.any())
            return part.let(f"{name}{level}", Mux(chosen, 0, value)[: len(value)]), sticky
        sticky = part.let(f"{name}_sticky{level}", sticky | chosen & value[:places].any())
        value = part.let(f"{name}{level}", Mux(chosen, value[places:], value)[: len(value)])
    return value, sticky


def shift_right(part: Part, name: str, value: Value, amount: Value) -> Value:
    """``value`` >> ``amount``; what falls off is dropped."""
    value = part.let(f"{name}_from", value)
    for level in range(len(amount)):
        places, chosen = 1 << level, amount[level]
        if places >= len(value):
            return part.let(f"{name}{level}", Mux(amount[level:].any(), 0, value)[: len(value)])
        value = part.let(f"{name}{level}", Mux(chosen, value[places:], value)[: len(value)])
    return value


def shift_left(part: Part, name: str, value: Value, amount: Value) -> Value:
    """``value`` << ``amount`` within the value's width."""
    value = part.let(f"{name}_from", value)
    for level in range(len(amount)):
        places = 1 << level
        if places >= len(value):
            return part.let(f"{name}{level}", Mux(amount[level:].any(), 0, value)[: len(value)])
        shifted = Cat(Const(0, places), value[:-places])
        value = part.let(f"{name}{level}", Mux(amount[level], shifted, value))
    return value


def leading_zeros(part: Part, name: str, value: Value) -> tuple[Value, Value]:
    """How many zeros a value begins with (undefined if it is zero), and whether it is zero.

    A tree: of two halves, the count is that of the first unless it is all zeros (Oklobdzija 1994,
    doi:10.1109/92.273153).
    """
    levels = max(len(value) - 1, 0).bit_length()
    padded = Cat(Const(0, (1 << levels) - len(value)), value)  # zeros below change nothing, if there is a one above
    nodes = [(Const(0, 0), ~padded[i]) for i in reversed(range(1 << levels))]  # of the first bit first
    for level in range(levels):
        merged = []
        for i in range(0, len(nodes), 2):
            (count0, none0), (count1, none1) = nodes[i], nodes[i + 1]
            none = part.let(f"{name}_none{level}_{i // 2}", none0 & none1)
            count = part.let(f"{name}{level}_{i // 2}", Cat(Mux(none0, count1, count0), none0))
            merged.append((count[: level + 1], none))
        nodes = merged
    count, none = nodes[0]
    return count, none
