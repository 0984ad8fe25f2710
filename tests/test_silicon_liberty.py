"""Liberty files: units, tables, functions, what cannot be used, and every error in a sentence."""

import gzip
import re

import numpy as np
import pytest
from halfulp.emulator.silicon.cells import truth_table
from halfulp.emulator.silicon.liberty import parse, read_library
from silicon_cases import LIBRARIES, TINY, needs_libraries


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.lib").write_text(TINY)
    return read_library(tmp_path / "tiny.lib")


def test_units_are_those_of_the_header(tiny):
    assert tiny.voltage_v == pytest.approx(1.0)  # of the operating conditions, not nom_voltage
    inverter, flipflop = tiny.cell("INV"), tiny.cell("DFFR")
    assert inverter.area_um2 == 1.5 and inverter.inputs[0].capacitance_ff == pytest.approx(2)
    assert inverter.outputs[0].max_capacitance_ff == pytest.approx(40)
    assert inverter.leakage_nw == pytest.approx(3)
    (arc,) = inverter.arcs
    assert arc.delay[0].first == pytest.approx([0.01, 0.11]) and arc.delay[0].second == pytest.approx([1, 11])
    assert arc.delay[0].values == pytest.approx(np.array([[0.01, 0.03], [0.02, 0.05]]))
    assert inverter.powers[0].energy[0].values[0, 0] == pytest.approx(50 * 0.1**2)  # V² fF = fJ
    assert flipflop.setups[0][1][0].second == pytest.approx([0.01, 0.11])
    assert tiny.slew_thresholds == (30, 70) and tiny.slew_derate == 1


def test_functions_and_states_become_truth_tables(tiny):
    assert tiny.cell("INV").functions == (0b01,) and tiny.cell("NAND2").functions == (0b0111,)
    assert [when for when, _ in tiny.cell("INV").leakages] == [0b10, 0b01]
    flipflop = tiny.cell("DFFR")
    assert flipflop.variables == ("CK", "RN", "D", "IQ") and flipflop.flipflop.rising
    assert flipflop.flipflop.next_state == 0xF0F0 and flipflop.functions == (0x00FF,)
    assert flipflop.flipflop.forced == (0x3333,)


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("!a", "not a"),
        ("a'", "not a"),
        ("a b + c", "a and b or c"),
        ("a*b|c", "a and b or c"),
        ("(a+b)'&c", "not (a or b) and c"),
        ("a ^ b c", "(a != b) and c"),
        ("!(a ^ !b)''", "not (a != (not b))"),
        ("1", "True"),
        ("0 + a", "a"),
    ],
)
def test_expressions_mean_what_liberty_says(text, python):
    expected = sum(bool(eval(python, {"a": s & 1 == 1, "b": s & 2 == 2, "c": s & 4 == 4})) << s for s in range(8))
    assert truth_table(text, ["a", "b", "c"]) == expected


@pytest.mark.parametrize("text", ["a +", "a ? b", "d", "(a", "a)", ""])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ValueError, match="no Boolean expression"):
        truth_table(text, ["a", "b", "c"])


def test_tables_are_bilinear_and_go_on_linearly(tiny):
    table = tiny.cell("INV").arcs[0].delay[0]  # 1 3 / 2 5 in units of 10 ps
    assert table.at(0.01, 1) == pytest.approx(0.01) and table.at(0.11, 11) == pytest.approx(0.05)
    assert table.at(0.06, 6) == pytest.approx((0.01 + 0.03 + 0.02 + 0.05) / 4)
    assert table.at(0.01, 0) == pytest.approx(0.01 - 0.002) and table.at(0.01, 21) == pytest.approx(0.05)
    assert table.at(0.21, 1) == pytest.approx(0.03)


def test_axes_in_the_other_order_are_turned(tmp_path):
    (tmp_path / "a.lib").write_text(TINY)
    flipped = TINY.replace(
        'cell_rise (delay) { values ("1, 3", "2, 5")', 'cell_rise (flipped) { values ("1, 2", "3, 5")'
    )
    assert flipped != TINY
    (tmp_path / "b.lib").write_text(flipped)
    a, b = (read_library(tmp_path / f"{name}.lib").cell("INV").arcs[0].delay[0] for name in "ab")
    assert (
        np.array_equal(a.values, b.values) and np.array_equal(a.first, b.first) and np.array_equal(a.second, b.second)
    )


def test_what_cannot_be_used_says_why(tiny):
    assert set(tiny.cells) == {"INV", "NAND2", "DFFR", "HA"}
    assert tiny.unused == {"LATCH": "it is a latch", "HUGE": "the library says dont_use"}
    with pytest.raises(ValueError, match=r"LATCH of tiny cannot be used: it is a latch\."):
        tiny.cell("LATCH")
    with pytest.raises(ValueError, match="not in the library"):
        tiny.cell("XYZ")


def test_the_digest_is_of_the_file(tmp_path):
    import hashlib

    path = tmp_path / "tiny.lib.gz"
    path.write_bytes(gzip.compress(TINY.encode()))
    library = read_library(path)
    assert library.digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16] and library.name == "tiny"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TINY, "module m; endmodule", "not a Liberty file"),
        (TINY, "", "not a Liberty file"),
        (TINY[-30:], "", "ends inside of the group"),
        ("nom_voltage : 8;", "", None),
        ('time_unit : "10ps"', 'time_unit : "10 lightyears"', "no unit of this kind"),
        ('time_unit : "10ps"', "", "has no time_unit"),
        ("capacitive_load_unit (0.001, pf);", "", "no capacitive_load_unit"),
        ('leakage_power_unit : "100pW"', "", "no leakage_power_unit"),
        ("operating_conditions (typical) { voltage : 10 ; }\n  slew", "slew", None),
        ("area : 1.5", "area : big", "no inverter that can be used: .*gives 'big' for area"),
        ('"1, 3", "2, 5"', '"1, 3, 2"', r"has 3 values"),
        ("internal_power", "external_power", "no cell has internal_power tables"),
        ("cell_rise", "cell_raise", "no inverter that can be used: .*has delay tables of one edge only"),
        ('"1, 3", "2, 5"', '"1, three", "2, 5"', "something else than numbers"),
    ],
)
def test_every_error_is_one_sentence(tmp_path, old, new, message):
    text = TINY.replace(old, new)
    (tmp_path / "bad.lib").write_text(text)
    if message is None:
        read_library(tmp_path / "bad.lib")
        return
    with pytest.raises(ValueError, match=message) as error:
        read_library(tmp_path / "bad.lib")
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_no_voltage_is_refused(tmp_path):
    text = re.sub(r"nom_voltage.*|operating_conditions \(.*", "", TINY)
    (tmp_path / "bad.lib").write_text(text)
    with pytest.raises(ValueError, match="gives no voltage"):
        read_library(tmp_path / "bad.lib")


def test_files_that_are_absent_or_cut_off(tmp_path):
    with pytest.raises(ValueError, match="cannot read the Liberty file"):
        read_library(tmp_path / "none.lib")
    whole = gzip.compress(TINY.encode())
    for cut in (20, len(whole) // 2, len(whole) - 4):
        (tmp_path / "cut.lib.gz").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cut off or damaged"):
            read_library(tmp_path / "cut.lib.gz")


def test_groups_lists_and_attributes():
    group = parse('library (x) { a : 1 \n b : "two; {3}" c (1, "2 (3)"); d () { } /* } */ e : 5; }')
    assert group.attributes == {"a": "1", "b": "two; {3}", "e": "5"}
    assert group.lists == {"c": ['1, "2 (3)"']} and [inner.kind for inner in group.groups] == ["d"]


@needs_libraries
@pytest.mark.parametrize(
    ("name", "voltage", "digest", "gates", "inverter"),
    [
        ("sg13g2", 1.2, "9d5e365eb16fda02", 58, (5.4432, 2.86745, 0.0630032)),
        ("asap7", 0.7, "c366c2cf4c9aa88d", 186, (0.04374, 0.619928, 0.0533254)),
        ("gt2n", 0.7, "9dac45f13738ed26", 68, (0.012096, 0.4694, 6.581)),
    ],
)
def test_real_libraries(name, voltage, digest, gates, inverter):
    library = read_library(LIBRARIES[name])
    assert (library.voltage_v, library.digest, len(library.cells)) == (voltage, digest, gates)
    cell = library.smallest(0b01, 1)
    assert (cell.area_um2, cell.inputs[0].capacitance_ff, cell.leakage_nw) == pytest.approx(inverter)
    assert any(cell.flipflop for cell in library.cells.values())
    assert 0.001 < library.input_slew_ns < 0.1
