"""Verilog text of parts, to be read: one module for each kind of part, its wires under their names.

All wires are plain bit vectors; where Amaranth's arithmetic is signed, operands are extended in so many words. So no
width or sign is left to Verilog's own rules but one: the operands of + and - are extended to the width of the wire
that the result is assigned to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count, groupby
from textwrap import wrap

from amaranth.hdl import Const, Mux, Signal, Value
from amaranth.hdl._ast import Concat, Operator, Slice, SwitchValue

from .part import Part, extended, folded
from .trees import CELLS

_BITWISE = {"&": "&", "|": "|", "^": "^"}
_COMPARE = {"==", "!=", "<", "<=", ">", ">="}
_REDUCE = {"r|": "|", "r&": "&", "r^": "^", "b": "|"}


def text(part: Part, name: str, ports: Sequence[Signal], header: str = "") -> str:
    """The modules of a part, ``name`` the topmost, with ``ports`` in this order."""
    modules = _Modules(name)
    modules.print(_Module(modules, part, {id(p) for p in ports}, ports), name)
    return header + "\n\n".join([*reversed(modules.texts), CELLS * modules.has_cells]).rstrip() + "\n"


class _Modules:
    """The modules printed so far, each text once."""

    def __init__(self, top: str) -> None:
        self.top, self.texts, self.has_cells = top, list[str](), False
        self.names: dict[str, str] = {}  #: by body
        self._known: dict[tuple[int, frozenset[int]], _Module] = {}

    def of(self, part: Part, outputs: frozenset[int]) -> _Module:
        """The module of a part of which these signals (by id) are read."""
        key = (id(part), outputs)
        if key not in self._known:
            self._known[key] = _Module(self, part, set(outputs), None)
        return self._known[key]

    def print(self, module: _Module, name: str | None = None) -> str:
        """Prints a module, unless there is one of the same text; gives its name."""
        body = module.body()
        if name is None and body in self.names:
            return self.names[body]
        kind = type(module.part)
        if name is None:
            taken, tail = set(self.names.values()), re.sub("(?=[A-Z])", "_", kind.__name__).lower()
            name = next(n for i in count(1) if (n := f"{self.top}{tail}{i if i > 1 else ''}") not in taken)
        self.names[body] = name
        comment = "\n".join(f"// {line}" for line in wrap((kind.__doc__ or "").split("\n\n")[0], 110))
        self.texts.append(f"{comment}\nmodule {name}(\n{body}\nendmodule")
        self.has_cells |= bool(module.part.cells)
        return name


class _Module:
    """One module on its way to text."""

    def __init__(self, modules: _Modules, part: Part, outputs: set[int], ports: Sequence[Signal] | None) -> None:
        self.modules, self.part, self.outputs, self.ports = modules, part, outputs, ports
        self.driver: dict[int, tuple[str, object]] = {id(s): ("in", s) for s, _ in part.taken}
        self.driver |= {id(s): ("in", s) for s in ports or () if id(s) not in self.driver}
        self.driver |= {id(s): ("wire", v) for s, v in part.wires}
        self.driver |= {id(s): ("register", v) for s, v in part.registers}
        for i, (_, _, _, outs) in enumerate(part.cells):
            self.driver |= {id(s): ("cell", i) for s in outs.values()}
        self.alias: dict[int, Value] = {}
        for name, child in part.parts.items():
            self.alias |= {id(s): v for s, v in child.taken}
            self.driver |= {id(s): ("part", name) for s in _driven(child)}
        self.read: dict[str, dict[int, Signal]] = {name: {} for name in part.parts}
        self.needed: dict[int, Signal] = {}
        self.signals: dict[int, Signal] = {}
        self._live()
        self.names: dict[int, str] = {}
        self.taken_names: set[str] = set()
        self.lines: list[str] = []
        self._body = ""

    # ---- what is needed

    def _live(self) -> None:
        """Finds the signals that the outputs depend on, and what is read of each part."""
        if self.ports is not None:
            own = [s for s in self.ports if id(s) in self.outputs]
        else:
            own = [s for s in _driven(self.part) if id(s) in self.outputs]
        todo: list[Value] = list(own)
        done_parts: dict[str, int] = {}
        while todo:
            for signal in _signals(todo.pop()):
                self._need(signal, todo)
            if not todo:
                for name, child in self.part.parts.items():
                    if len(self.read[name]) > done_parts.get(name, 0):
                        done_parts[name] = len(self.read[name])
                        inner = self.modules.of(child, frozenset(self.read[name]))
                        todo += [v for s, v in child.taken if id(s) in inner.needed]

    def _need(self, signal: Signal, todo: list[Value]) -> None:
        key = id(signal)
        if key in self.needed:
            return
        self.needed[key] = signal
        if key in self.alias and key not in self.driver:
            todo.append(self.alias[key])
            return
        if key not in self.driver:
            raise ValueError(f"{type(self.part).__name__} reads {signal.name}, which it has not taken")
        kind, what = self.driver[key]
        if kind in ("wire", "register"):
            todo.append(what)  # type: ignore[arg-type]
        elif kind == "cell":
            todo.extend(self.part.cells[what][2].values())  # type: ignore[call-overload]
        elif kind == "part":
            self.read[what][key] = signal  # type: ignore[index]

    # ---- text

    def body(self) -> str:
        """The ports and what stands in the module."""
        if self._body:
            return self._body
        part, needed = self.part, self.needed
        inputs = [s for s, _ in part.taken if id(s) in needed]
        if self.ports is not None:
            outs = [s for s in self.ports if self.driver[id(s)][0] != "in"]
            declared = list(self.ports)
        else:
            outs = [s for s in _driven(part) if id(s) in self.outputs]
            declared = [*inputs, *outs]
        self.declared = declared
        for s in declared:
            self._name(s, s.name)
        if part.registers and self.ports is None:
            raise ValueError(f"{type(part).__name__} has registers, and no clock")
        for s, _ in part.wires + part.registers:
            if id(s) in needed:
                self._name(s, s.name)
        for _, _, _, cell_outs in part.cells:
            for s in cell_outs.values():
                self._name(s, s.name)
        for name in part.parts:
            for s in self.read[name].values():
                self._name(s, f"{name}_{s.name}")
        out_keys = set(map(id, outs))
        ports = ",\n".join(
            f"  {'output' if id(s) in out_keys else 'input'} {_range(len(s))}{self._name(s, s.name)}" for s in declared
        )
        for name in part.parts:
            self._instance(name)
        for kind, name, cell_inputs, cell_outs in part.cells:
            self._cell(kind, name, cell_inputs, cell_outs)
        for s, value in part.wires:
            if id(s) in needed:
                self._assign(s, value, declared=id(s) in out_keys)
        self._registers([(s, v) for s, v in part.registers if id(s) in needed])
        self._body = f"{ports}\n);\n" + "\n".join(self.lines)
        return self._body

    def _name(self, signal: Signal, wanted: str) -> str:
        key = id(signal)
        if key not in self.names:
            self.names[key] = self._unique(wanted)
        return self.names[key]

    def _unique(self, wanted: str) -> str:
        wanted += "_" * (wanted in _WORDS.split())
        name = next(n for i in count() if (n := wanted + (f"_{i + 1}" if i else "")) not in self.taken_names)
        self.taken_names.add(name)
        return name

    def _instance(self, name: str) -> None:
        child = self.part.parts[name]
        if not self.read[name]:
            return
        module = self.modules.of(child, frozenset(self.read[name]))
        kind = self.modules.print(module)
        values, pins = {id(s): v for s, v in child.taken}, []
        for s in module.declared:
            if id(s) in values:
                pins.append((s, self.simple(values[id(s)], f"{name}_{s.name}")))
            else:
                self.lines.append(f"  wire {_range(len(s))}{self.names[id(s)]};")
                pins.append((s, self.names[id(s)]))
        text = ", ".join(f".{module.names[id(s)]}({wire})" for s, wire in pins)
        self.lines += wrap(f"{kind} {self._unique(name)}({text});", 116, initial_indent="  ", subsequent_indent="    ")

    def _cell(self, kind: str, name: str, inputs: dict[str, Value], outputs: dict[str, Signal]) -> None:
        pins = [f".{port}({self.simple(value, f'{name}_{port}')})" for port, value in inputs.items()]
        for port, s in outputs.items():
            self.lines.append(f"  wire {self.names[id(s)]};")
            pins.append(f".{port}({self.names[id(s)]})")
        self.lines.append(f"  {kind} {self._unique(name)}({', '.join(pins)});")

    def _assign(self, signal: Signal, value: Value, declared: bool) -> None:
        name = self.names[id(signal)]
        right = self.arithmetic(value, len(signal), name)
        self.lines.append(f"  {'assign' if declared else f'wire {_range(len(signal))}'.rstrip()} {name} = {right};")

    def _registers(self, registers: list[tuple[Signal, Value]]) -> None:
        if not registers:
            return
        following = [(self.names[id(s)], self.simple(v, f"{self.names[id(s)]}_next")) for s, v in registers]
        for s, _ in registers:
            self.lines.append(f"  reg {_range(len(s))}{self.names[id(s)]};")
        clocked = "\n".join(f"    {name} <= {value};" for name, value in following)
        self.lines.append(f"  always @(posedge clk) begin\n{clocked}\n  end")

    # ---- expressions: bit patterns of their own width

    def arithmetic(self, value: Value, width: int, target: str) -> str:
        """The value modulo 2^width, to stand on the right of an assignment to so many bits."""
        while isinstance(value, Slice) and value.start == 0 and value.stop == width:
            value = value.value
        if isinstance(value, Operator) and value.operator in ("u", "s") and len(value) >= width:
            return self.arithmetic(value.operands[0], width, target)
        if isinstance(value, Operator) and value.operator in ("+", "-"):
            texts = [self._term(x, width, target) for x in value.operands]
            return f"-{texts[0]}" if len(texts) == 1 else f"{texts[0]} {value.operator} {texts[1]}"
        if len(value) != width:
            return self.extended(value, width, target) if len(value) < width else self.safe(value[:width], target)
        text = self.safe(value, target)
        return text[1:-1] if text.startswith("(") and _closes(text) else text

    def _term(self, value: Value, width: int, target: str) -> str:
        if isinstance(value, Operator) and value.operator in ("+", "-"):
            return f"({self.arithmetic(value, width, target)})"
        if value.shape().signed:
            return self.simple(extended(value, width)[:width], target)
        return self.simple(value, target)

    def extended(self, value: Value, width: int, target: str) -> str:
        return self.safe(extended(value, width)[:width], target)

    def simple(self, value: Value, target: str) -> str:
        """An expression that no context can change: a name, a part of one, a constant, or a concatenation."""
        text = self.safe(value, target)
        return f"{{{text[1:-1]}}}" if text.startswith("(") else text

    def safe(self, value: Value, target: str) -> str:
        """An expression of the value's width, for contexts of that width."""
        if not len(value):
            return "1'd0"
        value = folded(value)
        if isinstance(value, Const):
            return f"{len(value)}'d{value.value & (1 << len(value)) - 1}"
        if isinstance(value, Signal):
            return self._reference(value, target)
        if isinstance(value, Slice):
            return self._slice(value.value, value.start, value.stop, target)
        if isinstance(value, Concat):
            return self._concat(_flat(value), target)
        if isinstance(value, SwitchValue):
            (_, otherwise), (_, chosen) = value.cases
            test = self.simple(value.test, target)
            test = f"|{test}" if len(value.test) > 1 else test
            yes, no = (self.extended(x, len(value), target) for x in (chosen, otherwise))
            return f"({test} ? {yes} : {no})"
        assert isinstance(value, Operator), value
        return self._operator(value, target)

    def _reference(self, signal: Signal, target: str) -> str:
        key = id(signal)
        if key in self.alias and key not in self.driver:
            return self.safe(self.alias[key], target)
        return self.names[key]

    def _operator(self, value: Operator, target: str) -> str:
        operator, operands = value.operator, value.operands
        if operator in ("u", "s") or (operator == "+" and len(operands) == 1):
            return self.safe(operands[0], target)
        if operator in ("+", "-"):
            return self._wire(value, len(value), target)
        if operator == "~":
            return f"(~{self.simple(operands[0], target)})"
        if operator in _REDUCE:
            return (
                f"({_REDUCE[operator]}{self.simple(operands[0], target)})"
                if len(operands[0]) > 1
                else self.safe(operands[0], target)
            )
        x, y = operands
        if operator in _BITWISE:
            texts = [
                self.extended(v, len(value), target) if len(v) < len(value) else self.safe(v, target) for v in (x, y)
            ]
            return f"({texts[0]} {operator} {texts[1]})"
        assert operator in _COMPARE, operator
        if not (x.shape().signed or y.shape().signed):
            return f"({self.simple(x, target)} {operator} {self.simple(y, target)})"
        width = max(len(v) + (not v.shape().signed) for v in (x, y))
        texts = [f"$signed({self.extended(v, width, target)})" for v in (x, y)]
        return f"({texts[0]} {operator} {texts[1]})"

    def _concat(self, parts: Sequence[Value], target: str) -> str:
        if len(parts) == 1:
            return self.safe(parts[0], target)
        texts = []
        for _, group in groupby(reversed(parts), key=id):
            same = list(group)
            text = self.safe(same[0], target)
            text = text[1:-1] if text.startswith("(") and _closes(text) and "?" not in text else text
            texts.append(f"{{{len(same)}{{{text}}}}}" if len(same) > 1 else text)
        return texts[0] if len(texts) == 1 and texts[0].startswith("{") else "{" + ", ".join(texts) + "}"

    def _slice(self, value: Value, start: int, stop: int, target: str) -> str:
        """Bits of a value, taken as far inside as they can be."""
        if start == 0 and stop == len(value):
            return self.safe(value, target)
        if isinstance(value, Slice):
            return self._slice(value.value, value.start + start, value.start + stop, target)
        if isinstance(value, Const):
            return self.safe(Const((value.value & (1 << len(value)) - 1) >> start, stop - start), target)
        if isinstance(value, Signal):
            if id(value) in self.alias and id(value) not in self.driver:
                return self._slice(self.alias[id(value)], start, stop, target)
            name = self.names[id(value)]
            return f"{name}[{start}]" if stop == start + 1 else f"{name}[{stop - 1}:{start}]"
        if isinstance(value, Concat):
            pieces, at = [], 0
            for part in value.parts:
                low, high = max(start - at, 0), min(stop - at, len(part))
                pieces += [part[low:high]] if low < high else []
                at += len(part)
            return self._concat(pieces, target) if len(pieces) > 1 else self.safe(pieces[0], target)
        if isinstance(value, SwitchValue):
            no, yes = (extended(v, stop)[start:stop] for _, v in value.cases)
            return self.safe(Mux(value.test, yes, no), target)
        if isinstance(value, Operator):
            if value.operator in ("u", "s"):
                return self._slice(value.operands[0], start, stop, target)
            if value.operator == "~":
                return self.safe(~value.operands[0][start:stop], target)
            if value.operator in _BITWISE:
                x, y = (extended(v, stop)[start:stop] for v in value.operands)
                return self.safe(Operator(value.operator, (x, y)), target)
        wire = self._wire(value, stop, target)
        return wire if not start else (f"{wire}[{start}]" if stop == start + 1 else f"{wire}[{stop - 1}:{start}]")

    def _wire(self, value: Value, width: int, target: str) -> str:
        """A wire of its own for the low bits of a value that Verilog takes no part of."""
        name = self._unique(f"{target}_of")
        right = self.arithmetic(value, width, name)
        self.lines.append(f"  wire {_range(width)}{name} = {right};")
        return name


def _flat(value: Concat) -> list[Value]:
    """The parts of a concatenation that have bits, those of its parts for them."""
    parts: list[Value] = []
    for part in value.parts:
        parts += _flat(part) if isinstance(part, Concat) else [part] if len(part) else []
    return parts


#: Reserved words of SystemVerilog (IEEE 1800-2017, annex B) without underscores: no names of wires.
_WORDS = """
accept alias always and assert assign assume automatic before begin bind bins binsof bit break buf bufif0 bufif1 byte
case casex casez cell chandle checker class clocking cmos config const constraint context continue cover covergroup
coverpoint cross deassign default defparam design disable dist do edge else end endcase endchecker endclass
endclocking endconfig endfunction endgenerate endgroup endinterface endmodule endpackage endprimitive endprogram
endproperty endspecify endsequence endtable endtask enum event eventually expect export extends extern final first for
force foreach forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore illegal
implements implies import incdir include initial inout input inside instance int integer interconnect interface
intersect join large let liblist library local localparam logic longint macromodule matches medium modport module nand
negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or output package packed parameter pmos
posedge primitive priority program property protected pull0 pull1 pulldown pullup pure rand randc randcase
randsequence rcmos real realtime ref reg release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 scalared
sequence shortint shortreal signed small soft solve specify specparam static string strong strong0 strong1 struct
super supply0 supply1 table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1
triand trior trireg type typedef union unique unique0 unsigned until untyped use uwire var vectored virtual void wait
wand weak weak0 weak1 while wildcard wire with within wor xnor xor"""


def _closes(text: str) -> bool:
    """Whether the first parenthesis of a text is closed by the last."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if not depth:
            return i == len(text) - 1
    return False


def _range(bits: int) -> str:
    return f"[{bits - 1}:0] " if bits > 1 else ""


def _signals(value: Value) -> list[Signal]:
    """The signals in an expression."""
    if isinstance(value, Signal):
        return [value]
    if isinstance(value, Slice):
        return _signals(value.value)
    if isinstance(value, Concat):
        return [s for part in value.parts for s in _signals(part)]
    if isinstance(value, Operator):
        return [s for operand in value.operands for s in _signals(operand)]
    if isinstance(value, SwitchValue):
        return _signals(value.test) + [s for _, v in value.cases for s in _signals(v)]
    return []


def _driven(part: Part) -> list[Signal]:
    """The signals that a part itself drives."""
    cells = [s for _, _, _, outs in part.cells for s in outs.values()]
    return [s for s, _ in part.wires + part.registers] + cells
