"""Netlists of a tiny library of our own: simulation, static timing and energy, against sums by hand."""

import ast
from pathlib import Path

import halfulp
import numpy as np
import pytest
from halfulp.emulator.silicon.gates import pack, settle, switch, unpack
from halfulp.emulator.silicon.liberty import read_library
from halfulp.emulator.silicon.measure import measure_netlist
from halfulp.emulator.silicon.netlist import read_netlist
from halfulp.emulator.silicon.power import energies_fj
from halfulp.emulator.silicon.timing import analyse
from silicon_cases import TINY, design


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "tiny.lib"
    path.write_text(TINY)
    return read_library(path)


def chain(tiny, count):
    cells = {f"i{k}": ("INV", {"A": k + 2, "Y": k + 3}) for k in range(count)}
    return read_netlist(design("chain", {"a": [2]}, {"y": [count + 2]}, cells), "chain", tiny)


def nand(tiny):
    cells = {"g": ("NAND2", {"A": 2, "B": 3, "Y": 4})}
    return read_netlist(design("nand", {"a": [2], "b": [3]}, {"y": [4]}, cells), "nand", tiny)


def counter(tiny):
    """Two bits that count, of inverting flip-flops: q0 toggles, q1 changes by a ^ b = !(!(a !b) !(!a b))."""
    cells = {
        "f0": ("DFFR", {"CK": 2, "RN": "1", "D": 10, "QN": 11}),  # 11: !q0
        "f1": ("DFFR", {"CK": 2, "RN": "1", "D": 20, "QN": 21}),  # 21: !q1
        "n0": ("INV", {"A": 11, "Y": 12}),  # q0
        "n1": ("INV", {"A": 21, "Y": 22}),  # q1
        "r0": ("NAND2", {"A": 11, "B": 3, "Y": 13}),  # !(!q0 run)
        "d0": ("INV", {"A": 13, "Y": 10}),
        "x0": ("NAND2", {"A": 12, "B": 21, "Y": 30}),
        "x1": ("NAND2", {"A": 11, "B": 22, "Y": 31}),
        "x2": ("NAND2", {"A": 30, "B": 31, "Y": 32}),
        "r1": ("NAND2", {"A": 32, "B": 3, "Y": 33}),
        "d1": ("INV", {"A": 33, "Y": 20}),
    }
    return read_netlist(design("counter", {"clk": [2], "run": [3]}, {"q": [12, 22]}, cells), "counter", tiny)


def test_the_static_timing_of_a_chain_is_its_tables(tiny):
    netlist = chain(tiny, 3)
    timing = analyse(netlist)
    (arc,) = tiny.cell("INV").arcs
    for edge in (0, 1):
        when, slew = 0.0, tiny.input_slew_ns
        for k in range(3):
            load = 2.0 if k < 2 else 0.0
            out = edge ^ (k + 1) & 1
            when += arc.delay[out].at(slew, load)
            slew = arc.slew[out].at(slew, load)
        end = netlist.outputs["y"][0]
        assert timing.arrival_ns[end, 1 - edge] == when and timing.slew_ns[end, 1 - edge] == slew
    assert timing.critical_ns == timing.arrival_ns[netlist.outputs["y"][0]].max()
    assert [step.gate for step in timing.path] == ["i0", "i1", "i2"] and timing.path[
        -1
    ].arrival_ns == timing.critical_ns
    assert sum(step.delay_ns for step in timing.path) == pytest.approx(timing.critical_ns)
    assert analyse(netlist, wire_ff_per_fanout=1.0).critical_ns > timing.critical_ns


def test_the_energy_of_an_inverter_is_the_sum_by_hand(tiny):
    netlist = chain(tiny, 1)
    timing = analyse(netlist)
    activity = switch(
        netlist, timing, settle(netlist, {"a": [0, 1, 0, 0, 1, 0]})
    )  # the output falls twice, rises twice
    inverter = tiny.cell("INV")
    rise, fall = (table.at(tiny.input_slew_ns, 0.0) for table in inverter.powers[0].energy)
    internal = (2 * rise + 2 * fall) / 5
    load = 0.5 * inverter.inputs[0].capacitance_ff * tiny.voltage_v**2 * 4 / 5
    leakage = (2 / 6 * 2 + 4 / 6 * 4) * 7.0 * 1e-3  # 2 nW while the input is 1, 4 nW while it is 0, for 7 ns
    both = energies_fj(netlist, timing, activity, 7.0)
    assert len(both) == 2
    for parts in both:
        assert parts[0, 0] == internal and parts[0, 1] == load
        assert parts[0] == pytest.approx([internal, load, 0.0, leakage], rel=1e-14)


def test_the_energy_of_a_nand_is_the_sum_by_hand(tiny):
    netlist = nand(tiny)
    timing = analyse(netlist)
    a, b = [0, 1, 1, 0, 0], [1, 1, 0, 0, 1]  # the output falls by A, rises by B, stays, stays
    (parts,) = energies_fj(netlist, timing, settle(netlist, {"a": a, "b": b}), 0.0)
    own = {(p.pin, p.related): p.energy for p in tiny.cell("NAND2").powers}
    at = tiny.input_slew_ns
    internal = 0.0
    for related in "AB":  # each switches twice: half of either transition is put down to each
        internal += sum(0.5 * table.at(at, 0.0) for table in own["Y", related])
    hidden_a = 0.4 * sum(table.at(at, 0.0) for table in own["A", None])  # B is 0 in two of five vectors
    hidden_b = sum(table.at(at, 0.0) for table in own["B", None])
    load = 0.5 * (2.5 * 2 + 3 * 2) * tiny.voltage_v**2
    assert parts[0] == pytest.approx([(internal + hidden_a + hidden_b) / 4, load / 4, 0, 0], rel=1e-14)


def test_a_pulse_shorter_than_a_gates_delay_is_swallowed(tiny):
    """NAND(a, !a): the pulse is as long as the inverter's delay; the gate's delay grows with its load."""
    counts = {}
    for fanout in (0, 8):
        cells = {"i": ("INV", {"A": 2, "Y": 3}), "g": ("NAND2", {"A": 2, "B": 3, "Y": 90})}
        cells |= {f"o{k}": ("INV", {"A": 90}) for k in range(fanout)}
        netlist = read_netlist(design("pulse", {"a": [2]}, {"y": [90]}, cells), "pulse", tiny)
        timing = analyse(netlist)
        activity = switch(netlist, timing, settle(netlist, {"a": [0, 1] * 10}))
        end = netlist.outputs["y"][0]
        counts[fanout] = activity.inertial[end].tolist()
        assert not activity.toggles[end].any()
        width = timing.arrival_ns[netlist.gates[0].outputs[0], 1]
        delay = timing.delay_ns[list(netlist.functions.inputs).index(2, 1), 1]  # by A, fall
        assert (width > delay) == (fanout == 0)
    assert counts == {0: [10, 10], 8: [0, 0]}


def test_flip_flops_count(tiny):
    netlist = counter(tiny)
    run = np.array([0, 0] + [1] * 200)
    activity = switch(netlist, analyse(netlist), settle(netlist, {"run": run}))
    q = unpack(activity.bits, netlist.outputs["q"], len(run))
    assert q.tolist() == [0, 0, 0] + [k % 4 for k in range(1, 200)]
    assert netlist.clock == netlist.inputs["clk"][0]
    assert activity.toggles[netlist.clock].tolist() == [201, 201]
    measured, _ = measure_netlist(netlist, {"run": run}, period_ns=1.0)
    flipflop = tiny.cell("DFFR")
    clock = 2 * (0.5 * 1.0 * 2 + 0.3 + 0.4)  # two clock pins of 1 fF, 0.3 and 0.4 fJ inside an edge
    assert measured.by_part["clock"] * 1000 == pytest.approx(clock, rel=1e-12)
    (arc,), setup = flipflop.arcs, dict(flipflop.setups)["D"]
    first = next(step for step in measured.critical_path)
    assert first.cell == "DFFR" and first.delay_ns > 0
    last = measured.critical_path[-1]
    assert measured.delay_ns > last.arrival_ns and arc.related == "CK" and setup


def test_codes_of_any_width_pack_and_unpack():
    rng = np.random.default_rng(1)
    for width, vectors in [(1, 1), (7, 64), (64, 65), (64, 200), (100, 3), (128, 129)]:
        codes = [int.from_bytes(rng.bytes(17), "little") % (1 << width) for _ in range(vectors)]
        bits = pack(codes, width)
        assert bits.shape == (-(-vectors // 64), width)
        assert unpack(bits, range(width), vectors).tolist() == codes
    assert unpack(pack(np.array([-1, -128, 5], np.int8), 8), range(8), 3).tolist() == [255, 128, 5]
    assert unpack(pack([-1, 2**80], 90), range(90), 2).tolist() == [2**90 - 1, 2**80]
    for bad in ([256], [-129], np.array([1.5]), [1 << 200], np.array([256])):
        with pytest.raises(ValueError, match=r"codes of a stimulus are integers|does not fit in 8 bits"):
            pack(bad, 8)


def test_a_hierarchy_is_flattened_and_its_ports_may_be_wired_through(tiny):
    inner = {
        "ports": {
            "p": {"direction": "input", "bits": [2]},
            "same": {"direction": "output", "bits": [2]},
            "one": {"direction": "output", "bits": ["1"]},
            "not": {"direction": "output", "bits": [3]},
        },
        "cells": {"i": {"type": "INV", "connections": {"A": [2], "Y": [3]}}},
    }
    cells = {
        "u": ("inner", {"p": 2, "same": 4, "one": 5, "not": 6}),
        "v": ("inner", {"p": 6, "not": 7}),
        "g": ("NAND2", {"A": 4, "B": 5, "Y": 8}),
    }
    netlist = read_netlist(design("top", {"a": [2]}, {"y": [6, 7, 8, 5]}, cells, inner=inner), "top", tiny)
    assert [(gate.name, gate.component) for gate in netlist.gates] == [("u.i", "u"), ("v.i", "v"), ("g", "")]
    measured, outputs = measure_netlist(netlist, {"a": [0, 1, 0]})
    assert outputs["y"].tolist() == [0b1101, 0b1010, 0b1101]
    assert list(measured.by_component) == ["", "u", "v"]
    for name in ("area_um2", "leakage_nw", "energy_settled_pj", "energy_inertial_pj"):
        total = sum(part[name] for part in measured.by_component.values())
        assert total == pytest.approx(getattr(measured, name), rel=1e-12)
    assert sum(measured.by_part.values()) == pytest.approx(measured.energy_inertial_pj, rel=1e-12)
    import json

    assert json.loads(json.dumps(measured.as_dict()))["cell_counts"] == {"INV": 2, "NAND2": 1}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"g": ("$_AND_", {"A": 2, "B": 3, "Y": 4})}, r"\$_AND_ of tiny cannot be used"),
        ({"g": ("LATCH", {"G": 2, "D": 3, "Q": 4})}, "it is a latch"),
        ({"g": ("NAND2", {"A": 2, "B": 9, "Y": 4})}, "no gates drive an input of g"),
        ({"g": ("INV", {"A": 2, "Y": 5})}, r"no gates drive y\[0\]"),
        ({"g": ("INV", {"A": 2, "Y": 4}), "h": ("INV", {"A": 2, "Y": 4})}, r"2 gates drive y\[0\]"),
        ({"g": ("NAND2", {"A": 2, "B": 5, "Y": 4}), "h": ("INV", {"A": 4, "Y": 5})}, "loop of gates"),
        ({"f": ("DFFR", {"CK": 2, "RN": 3, "D": 3, "QN": 4})}, "set or reset asynchronously"),
        (
            {"f": ("DFFR", {"CK": 5, "RN": "1", "D": 3, "QN": 4}), "g": ("INV", {"A": 2, "Y": 5})},
            "a gated clock cannot be simulated",
        ),
    ],
)
def test_what_is_no_whole_netlist_is_refused(tiny, cells, message):
    with pytest.raises(ValueError, match=message):
        read_netlist(design("top", {"a": [2], "b": [3]}, {"y": [4]}, cells), "top", tiny)


def test_a_stimulus_names_each_input(tiny):
    netlist = nand(tiny)
    with pytest.raises(ValueError, match="the inputs of nand are a, b, not a"):
        settle(netlist, {"a": [0, 1]})
    with pytest.raises(ValueError, match="same number of codes"):
        settle(netlist, {"a": [0, 1], "b": [0]})


def test_an_input_of_nothing_may_be_left_out(tiny):
    """The clock of an LFSR whose bits round nothing."""
    cells = {"g": ("NAND2", {"A": 2, "B": 3, "Y": 4})}
    netlist = read_netlist(design("top", {"a": [2], "b": [3], "clk": [5]}, {"y": [4]}, cells), "top", tiny)
    assert settle(netlist, {"a": [0, 1], "b": [1, 1]}).vectors == 2
    assert settle(netlist, {"a": [0, 1], "b": [1, 1], "clk": [0, 0]}).vectors == 2


def test_what_measures_verilog_imports_nothing_else_of_ours():
    """Only what makes designs of datapaths, and fits prices to them, knows the emulator."""
    about_datapaths = {"characterize.py", "designs.py", "fit.py"}
    found = {path.name: path for path in (Path(halfulp.__file__).parent / "emulator" / "silicon").glob("*.py")}
    assert about_datapaths < set(found)
    for path in (path for name, path in found.items() if name not in about_datapaths):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2 or (node.level == 2 and node.module == "errors"), path
                assert node.level or (node.module or "").split(".")[0] not in ("halfulp", "emulator"), path
