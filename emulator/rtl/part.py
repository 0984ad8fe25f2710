"""What all parts of a unit share: a module under construction, and numbers as bundles of signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Instance, Module, Mux, Signal, Value
from amaranth.hdl._ast import Concat, Operator, Slice, SwitchValue

from .shapes import Shape


def never() -> Value:
    return Const(0, 1)


class Part(Elaboratable):
    """A module that is filled while it is constructed.

    It reads nothing but what it ``take``s, so that two of the same widths are the same module; other parts may read
    all its wires. ``verilog.text`` prints it; in an Amaranth design it is a component as any other.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[Signal, Value]] = []  #: inputs, and what they are connected to outside
        self.wires: list[tuple[Signal, Value]] = []
        self.registers: list[tuple[Signal, Value]] = []
        self.parts: dict[str, Part] = {}
        self.cells: list[tuple[str, str, dict[str, Value], dict[str, Signal]]] = []  #: kind, name, inputs, outputs

    def take(self, name: str, value: Any) -> Value:
        """An input, connected to ``value``; constants stay what they are."""
        return self._named(self.taken, name, value)

    def take_number(self, name: str, number: Number) -> Number:
        return number.map(lambda field, value: self.take(f"{name}_{field}", value))

    def supply(self, port: Signal, value: Value) -> None:
        """Connects an input port of a unit that stands inside another part."""
        self.taken.append((port, value))

    def let(self, name: str, value: Any) -> Value:
        """A wire of the value's own width."""
        return self._named(self.wires, name, value)

    def _named(self, where: list[tuple[Signal, Value]], name: str, value: Any) -> Value:
        value = folded(Value.cast(value))
        if isinstance(value, Const) or not len(value):
            return value
        wire = Signal(value.shape(), name=name)
        where.append((wire, value))
        return wire

    def connect(self, wire: Signal, value: Value) -> None:
        """Drives a wire that there is already."""
        self.wires.append((wire, value))

    def after_clock(self, name: str, value: Value) -> Signal:
        """A register that holds the value of the clock before."""
        register = Signal(value.shape(), name=name, reset_less=True)
        self.registers.append((register, value))
        return register

    def inside(self, name: str, part: Any) -> Any:
        """Puts a part into this one."""
        if name in self.parts:
            raise ValueError(f"there are two parts {name}")
        self.parts[name] = part
        return part

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += [wire.eq(value) for wire, value in self.taken + self.wires]
        m.d.sync += [register.eq(value) for register, value in self.registers]
        for name, part in self.parts.items():
            setattr(m.submodules, name, part)
        for kind, name, inputs, outputs in self.cells:
            ports = {f"i_{k}": v for k, v in inputs.items()} | {f"o_{k}": v for k, v in outputs.items()}
            setattr(m.submodules, name, Instance(kind, **ports))
        return m


def folded(value: Value) -> Value:
    """A value without the operations whose result is known because an operand is constant."""
    if isinstance(value, Concat):
        parts = [folded(part) for part in value.parts]
        if len(parts) == 1:
            return parts[0] if not parts[0].shape().signed else value
        return Cat(parts)
    if isinstance(value, Slice) and isinstance(inner := folded(value.value), Const):
        return Const((inner.value & (1 << len(inner)) - 1) >> value.start, len(value))
    if isinstance(value, SwitchValue):
        test = folded(value.test)
        (_, no), (_, yes) = value.cases
        if isinstance(test, Const):
            return extended(folded(yes if test.value else no), len(value))
        return value
    if not isinstance(value, Operator):
        return value
    operands = [folded(x) for x in value.operands]
    known = [x for x in operands if isinstance(x, Const)]
    if value.operator == "~" and known and not known[0].shape().signed:
        return Const(~known[0].value & (1 << len(value)) - 1, len(value))
    if value.operator in ("r|", "b", "r&") and known:
        bits = known[0].value & (1 << len(known[0])) - 1
        return Const(int(bits == (1 << len(known[0])) - 1 if value.operator == "r&" else bits != 0), 1)
    if value.operator in ("&", "|", "^") and not value.shape().signed and known:
        (other,) = [x for x in operands if x is not known[0]] if len(known) < 2 else [operands[1]]
        bits, ones = known[0].value, (1 << len(value)) - 1
        if bits in (0, ones):
            if value.operator == "^" and bits:
                return folded(~extended(other, len(value)))
            if (value.operator == "&") == (not bits) and value.operator != "^":
                return Const(bits, len(value))
            return extended(other, len(value))
    return Operator(value.operator, tuple(operands))


def extended(value: Value, width: int) -> Value:
    """A value in at least ``width`` bits."""
    missing = width - len(value)
    if missing <= 0:
        return value
    if isinstance(value, Const):
        return Const(value.value & (1 << width) - 1, width)
    return Cat(value, value[-1].replicate(missing) if value.shape().signed else Const(0, missing))


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


def registered(part: Part, name: str, x: Any) -> Any:
    """A signal, a number, or a tuple of such, one clock later; what is constant stays what it is."""
    if isinstance(x, Value):
        return x if isinstance(x, Const) or not len(x) else part.after_clock(f"{name}_q", x)
    if isinstance(x, Number):
        return x.map(lambda field, value: registered(part, f"{name}_{field}", value))
    if isinstance(x, (tuple, list)):
        names = getattr(x, "_fields", range(len(x)))
        parts = [registered(part, f"{name}_{n}", y) for n, y in zip(names, x, strict=True)]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x


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
