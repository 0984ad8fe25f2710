"""Designs in Verilog, mapped on real libraries and on a tiny one: what they compute, and what goes wrong is noticed."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from halfulp.emulator.silicon import synthesis
from halfulp.emulator.silicon.liberty import read_library
from halfulp.emulator.silicon.measure import measure, measure_netlist
from halfulp.emulator.silicon.synthesis import adder_cell, find_yosys, synthesise
from silicon_cases import ADDER, ADDERS, LIBRARIES, TINY, dadda, needs_libraries, needs_yosys

ACCUMULATOR = """
module mac (input clk, reset, input [7:0] a, b, output reg [19:0] sum);
  wire [15:0] product;
  multiplier m (.a(a), .b(b), .y(product));
  always @(posedge clk) sum <= reset ? 20'd0 : sum + product;
endmodule
module multiplier (input [7:0] a, b, output [15:0] y);
  assign y = a * b;
endmodule
"""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.lib").write_text(TINY)
    return tmp_path / "tiny.lib"


@needs_yosys
def test_a_design_on_the_tiny_library(tiny):
    text = "module m (input clk, input [3:0] a, output reg [4:0] q); always @(posedge clk) q <= a * 3 + q; endmodule"
    stimulus = {"a": np.arange(100) % 16}
    netlist = synthesise(text, "m", tiny)
    assert set(netlist.cell_counts) <= {"INV", "NAND2", "DFFR"} and netlist.cell_counts["DFFR"] == 5
    assert "Yosys" in netlist.tool and "dfflibmap" in netlist.script
    measured, outputs = measure_netlist(netlist, stimulus)
    sums = np.cumsum(3 * stimulus["a"]) % 32
    assert (outputs["q"][1:] == sums[:-1]).all()
    assert measured == measure(text, "m", tiny, stimulus)
    assert measured.energy_inertial_pj >= measured.energy_settled_pj > 0


@needs_yosys
def test_adders_become_cells_where_that_is_smaller(tiny):
    text = ADDERS + "module m (input a, b, output s, c); half_adder h (.a(a), .b(b), .sum(s), .carry(c)); endmodule"
    cell, pins = adder_cell(read_library(tiny), 2)
    assert cell.name == "HA" and pins == {"sum": ("SN", True), "carry": ("CO", False)}
    assert adder_cell(read_library(tiny), 3) is None
    counts = {given: synthesise(text, "m", tiny, adder_cells=given).cell_counts for given in (None, False, True)}
    assert counts[None] == counts[True] == {"HA": 1, "INV": 1} and "HA" not in counts[False]
    _, outputs = measure_netlist(synthesise(text, "m", tiny), {"a": [0, 0, 1, 1], "b": [0, 1, 0, 1]})
    assert outputs["s"].tolist() == [0, 1, 1, 0] and outputs["c"].tolist() == [0, 0, 0, 1]


@needs_yosys
def test_constants_cross_the_boundaries_of_modules(tiny):
    text = """
    module top (input [7:0] a, output [7:0] y, z); part p (.a(a), .mode(1'b0), .y(y)); part q (a, 1'b1, z); endmodule
    module part (input [7:0] a, input mode, output [7:0] y); assign y = mode ? ~a : a & 8'h0f; endmodule
    """
    netlist = synthesise(text, "top", tiny)
    assert netlist.cell_counts == {"INV": 8} and netlist.components == ("q",)


@needs_yosys
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("module m (input a, output y); assign y = ; endmodule", "syntax error"),
        ("module n (input a, output y); assign y = a; endmodule", "m"),
        ("module m (input a, output y); other o (a, y); endmodule", "other"),
        ("module m (input g, a, output reg y); always @* if (g) y = a; endmodule", "cannot be used"),
        ("module m (input a, output y); wire b; assign y = a & b; endmodule", "no driver"),
        ("module m (input a, output y); wire b = ~(a & b); assign y = b; endmodule", "loop"),
    ],
)
def test_what_fails_is_said_and_the_log_kept(tiny, tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(synthesis, "_log_folder", lambda: tmp_path / "cache")
    with pytest.raises(ValueError, match=message) as error:
        synthesise(text, "m", tiny)
    log = Path(str(error.value).rsplit(" ", 1)[1].rstrip("."))
    assert log.is_file() and log.is_relative_to(tmp_path / "cache") and log.stat().st_size > 0


@needs_yosys
def test_a_library_without_flip_flops_is_named(tmp_path):
    (tmp_path / "none.lib").write_text(TINY.replace("cell (DFFR) {", "cell (DFFR) { dont_use : true;"))
    text = "module m (input clk, a, output reg q); always @(posedge clk) q <= a; endmodule"
    with pytest.raises(ValueError, match=r"tiny has no edge-triggered D flip-flop .* the registers of m need"):
        synthesise(text, "m", tmp_path / "none.lib")
    assert synthesise("module m (input a, output y); assign y = ~a; endmodule", "m", tmp_path / "none.lib").gates


@pytest.mark.parametrize(("code", "message"), [(3, "exit code 3"), (0, "exit code 0")])
def test_a_yosys_that_writes_nothing_is_noticed(tiny, tmp_path, monkeypatch, code, message):
    fake = tmp_path / "yosys"
    fake.write_text(f"#!{sys.executable}\nprint('hello'); raise SystemExit({code})\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("YOSYS", str(fake))
    monkeypatch.setattr(synthesis, "_log_folder", lambda: tmp_path / "cache")
    with pytest.raises(ValueError, match=message):
        synthesise("module m; endmodule", "m", tiny)


def test_a_yosys_that_is_not_there_is_told(tiny, monkeypatch):
    monkeypatch.setenv("YOSYS", "/nonexistent")
    with pytest.raises(ValueError, match=r"'/nonexistent' that the environment variable YOSYS names: No such file"):
        synthesise("module m; endmodule", "m", tiny)


def test_no_yosys_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("YOSYS", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs Yosys: pip install 'halfulp\[hardware\]'\."):
        find_yosys()


def test_bad_arguments_are_refused(tiny):
    with pytest.raises(ValueError, match="no name of a Verilog module"):
        synthesise("", "m; shell", tiny)
    with pytest.raises(ValueError, match="a clock period is positive"):
        synthesise("", "m", tiny, clock_ns=0)


#: Area and energy with glitches (µm², pJ), uniform operands, from ../shared/cells/README.md.
LEADS = {
    ("add", "sg13g2"): (361, 0.201),
    ("add", "asap7"): (3.3, 0.0095),
    ("add", "gt2n"): (1.0, 0.0085),
    ("mul", "sg13g2"): (2997, 1.70),
    ("mul", "asap7"): (23.8, 0.069),
    ("mul", "gt2n"): (8.4, 0.071),
}


@needs_yosys
@needs_libraries
@pytest.mark.parametrize(("top", "name"), LEADS)
def test_int8_units_on_real_libraries(top, name):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 2000))
    netlist = synthesise(ADDER if top == "add" else dadda(8), top, LIBRARIES[name])
    measured, outputs = measure_netlist(netlist, {"a": a, "b": b})
    assert (outputs["y"] == (a + b if top == "add" else a * b)).all()
    area, energy = LEADS[top, name]
    assert 0.65 < measured.area_um2 / area < 1.05  # ours are smaller: another mapping
    assert 0.7 < measured.energy_inertial_pj / energy < 1.3
    assert measured.energy_settled_pj < measured.energy_inertial_pj < 2 * measured.energy_settled_pj


@needs_yosys
@needs_libraries
def test_the_energy_of_a_multiplier_depends_on_its_operands():
    rng = np.random.default_rng(0)
    netlist = synthesise(dadda(8), "mul", LIBRARIES["asap7"])
    vectors = 2048
    a, b = rng.integers(0, 256, (2, vectors))
    relu = np.clip(np.rint(np.maximum(rng.normal(0, 40, vectors), 0)), 0, 255).astype(np.int64)
    gauss = np.abs(np.rint(rng.normal(0, 40, vectors))).clip(0, 255).astype(np.int64)
    held = np.repeat(gauss[: vectors // 256], 256)
    zeros = np.where(rng.random(vectors) < 0.8, 0, relu)
    cases = [(a, b), (relu, gauss), (relu, held), (zeros, held)]
    energies = [measure_netlist(netlist, {"a": x, "b": y})[0].energy_inertial_pj for x, y in cases]
    assert energies == sorted(energies, reverse=True) and energies[0] > 2 * energies[3]


@needs_yosys
@needs_libraries
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_multiply_accumulate_unit_with_registers(name):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 300))
    reset = np.arange(300) % 100 == 0
    measured, outputs = measure_netlist(
        synthesise(ACCUMULATOR, "mac", LIBRARIES[name]), {"a": a, "b": b, "reset": reset}
    )
    total, expected = 0, []
    for x, y, clear in zip(a, b, reset, strict=True):
        expected.append(total)
        total = 0 if clear else int(total + x * y) % 2**20
    assert outputs["sum"][1:].tolist() == expected[1:]
    assert set(measured.by_component) == {"", "m"} and measured.by_part["clock"] > 0


@needs_yosys
@needs_libraries
def test_a_clock_makes_it_faster_and_larger():
    small, fast = (synthesise(ADDER, "add", LIBRARIES["sg13g2"], clock_ns=clock) for clock in (None, 0.4))
    stimulus = {"a": [0, 255, 1], "b": [0, 1, 255]}
    (slow, _), (quick, outputs) = (measure_netlist(netlist, stimulus) for netlist in (small, fast))
    assert quick.delay_ns < slow.delay_ns and quick.area_um2 > slow.area_um2
    assert outputs["y"].tolist() == [0, 256, 256]
