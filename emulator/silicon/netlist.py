"""A mapped design as flat arrays: gates, what they compute, and the nets between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..errors import HalfulpError
from .cells import Cell, Library

ZERO, ONE = 0, 1  #: the nets of the constants


@dataclass(frozen=True, eq=False)
class Gate:
    """One cell of a design."""

    name: str  #: its path
    component: str  #: path of the module instance it belongs to; empty: the top module itself
    cell: Cell
    inputs: tuple[int, ...]  #: nets, by the cell's input pins
    outputs: tuple[int, ...]  #: nets, by the cell's output pins; -1: not connected
    state: tuple[int, int] | None = None  #: of a flip-flop: the nets (made up) of its state and of its next state

    @property
    def variables(self) -> tuple[int, ...]:
        """Nets, by the cell's variables."""
        return self.inputs + self.state[:1] if self.state else self.inputs


@dataclass(frozen=True, eq=False)
class Functions:
    """Every net that a gate drives as a Boolean function of others, sorted so that each stands after its inputs.

    Function i drives net ``output[i]`` from the nets ``inputs[first[i]:first[i + 1]]``; its result in state s (bit j of
    s is the j-th input) is ``truth[start[i] + s]``. A flip-flop has a function for its next state and one that leads
    from its state to each of its outputs.
    """

    gate: np.ndarray  #: index of the gate that it belongs to
    pin: np.ndarray  #: index among the cell's outputs; -1: the next state
    output: np.ndarray
    first: np.ndarray
    inputs: np.ndarray
    start: np.ndarray
    truth: np.ndarray  #: uint8

    def __len__(self) -> int:
        return len(self.output)


@dataclass(frozen=True, eq=False)
class Netlist:
    """A design mapped on a library."""

    top: str
    library: Library
    gates: tuple[Gate, ...]
    inputs: dict[str, tuple[int, ...]]  #: port -> its nets, lowest bit first
    outputs: dict[str, tuple[int, ...]]
    net_count: int
    tool: str = ""  #: what made it, with its version
    script: str = field(default="", repr=False)  #: what it ran

    @property
    def area_um2(self) -> float:
        return sum(gate.cell.area_um2 for gate in self.gates)

    @property
    def cell_counts(self) -> dict[str, int]:
        return dict(sorted(Counter(gate.cell.name for gate in self.gates).items()))

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(sorted({gate.component for gate in self.gates}))

    def loads_ff(self, wire_ff_per_fanout: float = 0.0) -> np.ndarray:
        """(net_count,) capacitance of each net: the pins on it, and so much wire for each of them."""
        loads = np.zeros(self.net_count)
        for gate in self.gates:
            for net, pin in zip(gate.inputs, gate.cell.inputs, strict=True):
                loads[net] += pin.capacitance_ff + wire_ff_per_fanout
        return loads

    @cached_property
    def clock(self) -> int | None:
        """The net of the clock; None: there is no flip-flop. Raises HalfulpError where there are several."""
        clocks = {self._clock_of(gate) for gate in self.gates if gate.cell.flipflop}
        if len(clocks) > 1:
            raise HalfulpError(f"{self.top} has {len(clocks)} clocks, or edges of one: only one can be simulated.")
        net = next(iter(clocks))[0] if clocks else None
        if net is not None and not any(nets == (net,) for nets in self.inputs.values()):
            raise HalfulpError(f"the clock of {self.top} is no input of it: a gated clock cannot be simulated.")
        return net

    @staticmethod
    def _clock_of(gate: Gate) -> tuple[int, bool]:
        assert gate.cell.flipflop
        names = [pin.name for pin in gate.cell.inputs]
        return gate.inputs[names.index(gate.cell.flipflop.clock)], gate.cell.flipflop.rising

    @cached_property
    def functions(self) -> Functions:
        """What the gates compute. Raises HalfulpError where they form a loop."""
        found = [item for i, gate in enumerate(self.gates) for item in _functions(i, gate)]
        order = _sorted([item[2] for item in found], [item[3] for item in found], self.net_count)
        if len(order) < len(found):
            looped = next(item for i, item in enumerate(found) if i not in set(order))
            raise HalfulpError(f"{self.top} has a loop of gates, through {self.gates[looped[0]].name}.")
        found = [found[i] for i in order]
        inputs, tables = [item[3] for item in found], [(item[4], len(item[3])) for item in found]
        starts: dict[tuple[int, int], int] = {}
        bits: list[int] = []
        for table, count in tables:
            if (table, count) not in starts:
                starts[table, count] = len(bits)
                bits += [table >> s & 1 for s in range(1 << count)]
        return Functions(
            gate=np.array([item[0] for item in found], np.int64),
            pin=np.array([item[1] for item in found], np.int64),
            output=np.array([item[2] for item in found], np.int64),
            first=np.cumsum(np.array([0, *map(len, inputs)], np.int64)),
            inputs=np.array([net for nets in inputs for net in nets], np.int64),
            start=np.array([starts[table] for table in tables], np.int64),
            truth=np.array(bits, np.uint8),
        )


def _functions(index: int, gate: Gate) -> Iterator[tuple[int, int, int, tuple[int, ...], int]]:
    """(gate, pin, output net, input nets, truth table) of what a gate drives."""
    count = len(gate.cell.inputs)
    for pin, (net, table) in enumerate(zip(gate.outputs, gate.cell.functions, strict=True)):
        if net >= 0 and gate.state:  # of its state alone: the reader has made sure
            off, on = table & 1, table >> (1 << count) & 1
            yield index, pin, net, gate.state[:1], off | on << 1
        elif net >= 0:
            yield index, pin, net, gate.inputs, table
    if gate.state and gate.cell.flipflop:
        yield index, -1, gate.state[1], gate.variables, gate.cell.flipflop.next_state


def _sorted(outputs: Sequence[int], inputs: Sequence[tuple[int, ...]], net_count: int) -> list[int]:
    """Indices of functions, each after those that drive its inputs; those of loops, and behind loops, are left out."""
    users: list[list[int]] = [[] for _ in range(net_count)]
    driven = set(outputs)
    waiting = []
    for i, nets in enumerate(inputs):
        awaited = [net for net in nets if net in driven]
        waiting.append(len(awaited))
        for net in awaited:
            users[net].append(i)
    order = [i for i, count in enumerate(waiting) if not count]
    for i in order:  # grows meanwhile
        for user in users[outputs[i]]:
            waiting[user] -= 1
            if not waiting[user]:
                order.append(user)
    return order


def read_netlist(design: dict, top: str, library: Library) -> Netlist:
    """The netlist in what Yosys' ``write_json`` wrote, flattened; raises HalfulpError if it is not one of this library.

    Parameters
    ----------
    design : the decoded JSON: modules with ports and cells.
    top : name of the module.
    library : whose cells it is made of.
    """
    flat = _Flattening(design["modules"], library)
    module = design["modules"].get(top)
    if module is None:
        raise HalfulpError(f"there is no module {top}.")
    nets: dict[int | str, int] = {}
    flat.module(module, nets, "")
    ports: dict[str, dict[str, tuple[int, ...]]] = {"input": {}, "output": {}}
    for name, port in module["ports"].items():
        if port["direction"] not in ports:
            raise HalfulpError(f"the port {name} of {top} is neither input nor output.")
        ports[port["direction"]][name] = tuple(flat.root(flat.net(bit, nets)) for bit in port["bits"])
    netlist = Netlist(top, library, flat.joined(), ports["input"], ports["output"], flat.count)
    _check(netlist)
    return netlist


class _Flattening:
    """Goes down a hierarchy of modules and collects gates."""

    def __init__(self, modules: dict, library: Library) -> None:
        self.modules, self.library = modules, library
        self.gates: list[Gate] = []
        self.same: dict[int, int] = {}  #: net -> a lower one that it is wired to
        self.count = 2  #: of nets

    def net(self, bit: int | str, nets: dict[int | str, int]) -> int:
        """The number of a module's net; an undefined constant counts as 0."""
        if isinstance(bit, str):
            return ONE if bit == "1" else ZERO
        if bit not in nets:
            nets[bit] = self.new()
        return nets[bit]

    def new(self) -> int:
        self.count += 1
        return self.count - 1

    def module(self, module: dict, nets: dict[int | str, int], path: str) -> None:
        for name, item in module["cells"].items():
            kind, connections = item["type"], item["connections"]
            if kind == "$scopeinfo":
                continue
            full = f"{path}.{name}" if path else name
            if kind in self.modules and not self.modules[kind].get("attributes", {}).get("blackbox"):
                inner = self.modules[kind]
                inside: dict[int | str, int] = {}
                for port, description in inner["ports"].items():
                    for bit, outer in zip(description["bits"], connections.get(port, []), strict=False):
                        self._join(bit, self.net(outer, nets), inside)
                self.module(inner, inside, full)
            else:
                self._gate(full, path, self.library.cell(kind), connections, nets)

    def _join(self, bit: int | str, net: int, inside: dict[int | str, int]) -> None:
        """Connect a bit of a module's port with a net outside; a module may wire ports together, or to constants."""
        known = inside.setdefault(bit, net) if not isinstance(bit, str) else self.net(bit, inside)
        low, high = sorted((self.root(known), self.root(net)))
        if high != low:
            self.same[high] = low

    def root(self, net: int) -> int:
        """The net that stands for all that are wired together with this one: the lowest, so constants do."""
        while net in self.same:
            net = self.same[net]
        return net

    def _gate(self, name: str, path: str, cell: Cell, connections: dict, nets: dict[int | str, int]) -> None:
        inputs = tuple(self.net(bit, nets) for pin in cell.inputs for bit in connections.get(pin.name) or ["x"])
        outputs = tuple(
            self.net(connections[pin.name][0], nets) if connections.get(pin.name) else -1 for pin in cell.outputs
        )
        state = (self.new(), self.new()) if cell.flipflop else None
        self.gates.append(Gate(name, path, cell, inputs, outputs, state))

    def joined(self) -> tuple[Gate, ...]:
        """The gates, with one number for nets that are wired together."""

        def roots(nets: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(self.root(net) for net in nets)

        return tuple(replace(gate, inputs=roots(gate.inputs), outputs=roots(gate.outputs)) for gate in self.gates)


def _constant(gate: Gate, table: int) -> int | None:
    """What a function of a gate's variables always is, as far as its constant inputs tell; None: not constant."""
    values = {
        table >> s & 1
        for s in range(1 << len(gate.variables))
        if all(net > ONE or s >> i & 1 == net for i, net in enumerate(gate.variables))
    }
    return values.pop() if len(values) == 1 else None


def _check(netlist: Netlist) -> None:
    """Every net has one driver, every output of the design too, and there is some area."""
    drivers = Counter([ZERO, ONE, *(net for nets in netlist.inputs.values() for net in nets)])
    for gate in netlist.gates:
        for forced in gate.cell.flipflop.forced if gate.cell.flipflop else ():
            if _constant(gate, forced) != 0:
                raise HalfulpError(f"the flip-flop {gate.name} is set or reset asynchronously, which is not simulated")
        drivers.update(net for net in gate.outputs if net >= 0)
    used = {net: f"an input of {gate.name}" for gate in netlist.gates for net in gate.inputs}
    used |= {net: f"{name}[{i}]" for name, nets in netlist.outputs.items() for i, net in enumerate(nets)}
    for net, name in used.items():
        if drivers[net] != 1:
            raise HalfulpError(f"{drivers[net] or 'no'} gates drive {name}")
    if netlist.gates and not netlist.area_um2 > 0:
        raise HalfulpError("its gates have no area")
    _ = netlist.functions, netlist.clock  # raise what they have to
