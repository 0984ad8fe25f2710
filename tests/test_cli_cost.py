"""The cost model as its users meet it: function units, parts, libraries of their own, figures, bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import prices
from halfulp.emulator.cost import Component
from halfulp.emulator.silicon.characterize import Table, parse
from halfulp.emulator.silicon.designs import designs
from halfulp.emulator.silicon.fit import fit_file
from halfulp.emulator.technology import QUANTITIES
from halfulp.kernels.hardware import measured_cost, normal_values
from halfulp.reports import cost_figures, cost_study
from silicon_cases import LIBRARIES, needs_libraries, needs_yosys

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "emulator" / "silicon" / "tables"
HALFULP = [sys.executable, "-m", "halfulp"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HALFULP, *arguments], cwd=folder, capture_output=True, text=True)


def priced(folder: Path, *arguments: str) -> dict:
    done = run(folder, "cost", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- function units and parts


def test_function_units_have_prices() -> None:
    mul, add, fma = (hu.cost(f"fp16_{name}", "7nm") for name in ("mul", "add", "fma"))
    assert mul.per == "operation" and mul.macs_per_cycle == 1 and "pJ per operation" in str(mul)
    for quantity in QUANTITIES:
        assert max(getattr(mul, quantity), getattr(add, quantity)) < getattr(fma, quantity)
    assert hu.cost(hu.function("fp16_fma", "SR8"), "7nm") == hu.cost("fp16_fma", "7nm", rounding="SR8")
    assert hu.cost("fp16_fma", "7nm", rounding="SR8").area_um2 > hu.cost("fp16_fma", "7nm", rounding="RTZ").area_um2
    assert [part.name for part in fma.components] == ["unpack", "multiply", "align", "add", "normalise", "round"]
    assert hu.cost("fp32_to_bf16", "2nm").area_um2 < hu.cost("fp32_to_bf16", "7nm").area_um2
    published = hu.cost("fp32_mul", "45nm", published=True)
    assert published.energy_pj == 3.7 and published.basis["energy_pj"] == "table"
    assert "numbers of a published table for 45nm" in str(published)


@pytest.mark.parametrize("node", ["130nm", "45nm", "7nm"])
@pytest.mark.parametrize(
    "text",
    ["fp16/fp32/bf16", "int8/int32", "mxfp4/fp32", "fp8_e4m3/fp32:blocked16(fp16)", "fp16:systolic4", "fp16_fma"],
)
def test_parts_add_up(text: str, node: str) -> None:
    price = hu.cost(text, node)
    assert sum(part.area_um2 for part in price.components) == pytest.approx(price.area_um2)
    assert sum(part.energy_pj for part in price.components) == pytest.approx(price.energy_pj)
    for share in ("area_share", "energy_share"):
        assert sum(getattr(part, share) for part in price.components) == pytest.approx(1)
    assert all(isinstance(part, Component) and part.area_um2 >= 0 for part in price.components)
    for part in price.components:  # what works once per dot product is not in the energy of a MAC
        assert (part.energy_pj == 0) == part.name.startswith("output "), part
    for quantity in ("area_um2", "energy_pj"):
        scale = price.macs_per_cycle if quantity == "area_um2" else 1
        assert sum(cost_study.jobs(price, quantity).values()) == pytest.approx(getattr(price, quantity) / scale)


def test_registers_of_a_pipeline_have_a_price() -> None:
    prices_ = [hu.cost("bf16/fp32", "7nm", pipeline=ranks) for ranks in range(4)]
    for quantity in ("area_um2", "energy_pj"):
        values = [getattr(price, quantity) for price in prices_]
        assert values == sorted(values) and values[0] < 0.9 * values[-1]
    assert prices_[1].delay_ns < prices_[0].delay_ns
    for unit, ranks, sentence in (("bf16", 4, "0 to 3 ranks"), ("bf16_fma", 1, "registers inside of function units")):
        with pytest.raises(hu.HalfulpError, match=sentence):
            hu.cost(unit, pipeline=ranks)
    with pytest.raises(hu.HalfulpError, match="a datapath has its own rounding: write fp16/fp32@RTZ"):
        hu.cost("fp16/fp32", rounding="RTZ")


def test_what_is_printed(tmp_path: Path) -> None:
    text = run(tmp_path, "cost", "fp16_fma", "--rounding", "SR8", "--node", "7nm").stdout
    assert text.startswith("fp16_fma SR8 at 7nm, 1 operation per cycle\n") and "fitted: parts priced by a fit" in text
    text = run(tmp_path, "cost", "bf16/fp32", "--node", "28nm").stdout
    assert "scaled: no cell library of 28nm is here: between the fits of 130nm and 7nm" in text
    assert re.search(r"^  multiply +1 +[\d.]+ +[\d.]+% +[\d.]+ +[\d.]+%$", text, re.M), text
    found = priced(tmp_path, "fp64", "--node", "7nm", "--pipeline", "2")
    assert {"unit", "node", *QUANTITIES, "macs_per_cycle", "parts", "warnings", "sources", "meaning"} <= set(found)
    assert found["energy_is_per"] == "MAC" and "larger than all that was measured" in found["warnings"][0]
    assert {"name", "number", "area_um2", "area_share", "energy_pj", "energy_share"} == set(found["parts"][0])


# ---- a library of one's own


def part_of(library: str, *designs: str) -> Table:
    """A packaged table, of some designs only."""
    table = parse((TABLES / f"{library}.csv").read_text())
    return Table(table.header, tuple(row for row in table.rows if row["design"] in designs))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged table, fitted as a user would."""
    folder = tmp_path_factory.mktemp("fitted")
    shutil.copy(TABLES / "asap7.csv", folder / "mine.csv")
    done = run(folder, "cost", "--fit", "mine.csv", "--node", "7nm")
    assert done.returncode == 0 and "inertial_gaussian_pj" in done.stdout, done.stderr
    assert "no price" not in done.stdout and "memories as at 7nm" in done.stdout
    return folder


@pytest.fixture
def mine(fitted: Path, tmp_path: Path) -> Path:
    for name in ("mine.csv", "mine.json"):
        shutil.copy(fitted / name, tmp_path)
    return tmp_path / "mine.json"


def test_a_fitted_library_is_a_node(mine: Path) -> None:
    library = prices.load(mine)
    assert library.header["node"] == "7nm" and library.designs == prices.library("7nm").designs and not library.missing
    for text in ("fp16/fp32", "int8/int32:fused4", "bf16_fma"):
        own, packaged = hu.cost(text, mine), hu.cost(text, "7nm")
        for quantity in QUANTITIES:  # the packaged fit is that of the packaged table
            assert getattr(own, quantity) == pytest.approx(getattr(packaged, quantity), rel=1e-3)
        assert own.node == str(mine) and own.basis == packaged.basis
    ledger, fp16 = hu.Ledger(), hu.format("fp16")
    ledger.count(hu.Operation("mul", fp16, fp16, None), 100)
    ledger.move(6400)
    own, packaged = (hu.Technology(node).price(ledger) for node in (mine, "7nm"))
    assert own.memory_pj == packaged.memory_pj and own.total_pj == pytest.approx(packaged.total_pj, rel=1e-3)
    arrays = [hu.Array(4, 4, "fp16/fp32", sram_kib=64, clock_mhz=500, node=node) for node in (str(mine), "7nm")]
    assert arrays[0].area_um2 == pytest.approx(arrays[1].area_um2, rel=1e-3)


def test_technologies_are_equal_as_long_as_their_files_are(mine: Path) -> None:
    first, same = hu.Technology(mine), hu.Technology(str(mine))
    assert first == same and hash(first) == hash(same) and first != hu.Technology("7nm")
    before = hu.cost("fp16", mine)
    text = mine.read_text()
    data = json.loads(text)
    for kind in data["coefficients"]["area_um2"].values():
        kind[:] = [2 * value for value in kind]
    mine.write_text(json.dumps(data))
    assert hu.Technology(mine) != first
    assert hu.cost("fp16", mine).area_um2 == pytest.approx(2 * before.area_um2)  # no cache holds what was there
    mine.write_text(text)
    assert hu.Technology(mine) == first and hu.cost("fp16", mine) == before


def test_memories_beside_a_library_need_a_node(mine: Path) -> None:
    fit_file(mine.with_suffix(".csv"))
    technology = hu.Technology(mine)
    assert hu.cost("fp16", mine).energy_pj > 0
    with pytest.raises(hu.HalfulpError, match=r"names none: fit its table again with --node, as in .* --node 28nm"):
        technology.energy_per_bit_pj("sram")
    with pytest.raises(hu.HalfulpError, match="names none"):
        hu.Array(4, 4, "fp16/fp32", sram_kib=64, clock_mhz=500, node=str(mine))
    done = run(mine.parent, "solve", "poisson", "--node", "mine.json")  # told before any work is done
    assert done.returncode == 2 and "names none" in done.stderr and not done.stdout


def test_a_fit_of_few_designs_says_what_it_lacks(tmp_path: Path, runner) -> None:
    few = part_of("asap7", "int4/int16", "int8/int16", "q8.8/q16.8@SR8")
    (tmp_path / "few.csv").write_text(few.text())
    code, told = runner("--fit", "few.csv", "--out", "other.json")
    assert code == 0 and (tmp_path / "other.json").exists() and not list(tmp_path.glob(".*"))
    lacks = next(line for line in told.splitlines() if line.startswith("What the fit lacks: "))
    assert "multiply, multiply_fixed, align" in lacks and "have no price; none was held out" in lacks
    code, told = runner("int6/int16", "--node", "other.json", "--json")
    assert code == 0 and json.loads(told)["area_um2"] > 0 and json.loads(told)["node"] == "other.json"
    code, told = runner("fp16", "--node", "other.json")
    assert code == 2 and "none of the 3 designs" in told and "has the parts" in told
    for more, node in (((), None), (("--node", "28"), "28nm"), ((), "28nm")):  # a fit again keeps the node
        code, told = runner("--fit", "few.csv", "--out", "other.json", *more)
        assert code == 0 and prices.load(tmp_path / "other.json").header.get("node") == node
    code, told = runner("--fit", "few.csv", "--json")
    assert {"area_um2", "delay_ns"} <= set(json.loads(told)["relative_errors"]) and json.loads(told)["held_out"] == 0
    (tmp_path / "one.csv").write_text(part_of("asap7", "int4/int16").text())
    code, told = runner("--fit", "one.csv")
    assert code == 2 and "a fit needs two designs at least" in told


@needs_yosys
@needs_libraries
def test_a_library_is_characterised(tmp_path: Path) -> None:
    pytest.importorskip("amaranth")
    command = ["cost", "--characterize", "--liberty", str(LIBRARIES["gt2n"]), "--out", "my.csv", "--jobs", "1"]
    (tmp_path / "my.csv").write_text(part_of("gt2n", "q2.2/q4.4").text())  # the same library
    done = run(tmp_path, *command, "--designs", r"^(q2\.2/q4\.4|e2m1finite_mul@RNE)$", "--node", "7nm")
    assert done.returncode == 0 and "1 of 2 designs are done in my.csv already." in done.stderr, done.stderr
    assert (
        "Fit to 2 designs on gt2" in done.stdout and f"What the fit lacks: {len(designs()) - 2} of the " in done.stdout
    )
    assert set(parse((tmp_path / "my.csv").read_text()).designs()) == {"q2.2/q4.4", "e2m1finite_mul@RNE"}
    assert priced(tmp_path, "q2.2/q4.4", "--node", "my.json")["area_um2"] > 0


def test_figures_are_of_datapaths(tmp_path: Path) -> None:
    done = run(tmp_path, "cost", "q4.4_add", "--plot", "figures")
    assert done.returncode == 2 and "--plot draws datapaths" in done.stderr and not (tmp_path / "figures").exists()


@needs_libraries
def test_failures_are_listed(tmp_path: Path) -> None:
    pytest.importorskip("amaranth")
    bad = tmp_path / "yosys"
    bad.write_text("#!/bin/sh\necho ERROR: out of order\nexit 3\n")
    bad.chmod(0o755)
    environment = os.environ | {"YOSYS": str(bad), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = ["cost", "--characterize", "--liberty", str(LIBRARIES["gt2n"]), "--out", "my.csv", "--jobs", "1"]
    done = subprocess.run(
        [*HALFULP, *command, "--designs", r"^q2\.2/q4\.4$"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 1 and "1 of 1 designs failed:" in done.stderr and "out of order" in done.stderr
    (log,) = re.findall(r"log is in (\S+)\.$", done.stderr, re.M)
    assert "out of order" in Path(log).read_text() and not (tmp_path / "my.csv").exists()


@needs_yosys
@needs_libraries
def test_interrupted_it_leaves_what_is_done(tmp_path: Path) -> None:
    pytest.importorskip("amaranth")
    command = ["cost", "--characterize", "--liberty", str(LIBRARIES["gt2n"]), "--out", "my.csv", "--jobs", "1"]
    process = subprocess.Popen(
        [*HALFULP, *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a job in the background ignores
    )
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "my.csv").exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and "goes on when the same command is given again" in told, told
    assert "Traceback" not in told and not list(tmp_path.glob(".*"))
    assert 1 <= len(parse((tmp_path / "my.csv").read_text()).designs()) < 100


# ---- measured function units


@needs_yosys
@needs_libraries
def test_a_function_unit_is_measured_on_values(tmp_path: Path) -> None:
    pytest.importorskip("amaranth")
    draw = np.random.default_rng(1)
    np.savez(tmp_path / "v.npz", a=draw.integers(-8, 8, 200), b=draw.normal(0, 3, 200))
    command = ["int4_mul", "--measured", "--liberty", str(LIBRARIES["gt2n"])]
    done = run(tmp_path, "cost", *command, "--operands", "v.npz")
    assert done.returncode == 0, done.stderr
    assert "200 of them not in their formats: rounded to nearest" in done.stdout and "pJ per operation" in done.stdout
    assert done.stdout.startswith("int4_mul RNE on gt2") and "200 clocks, 1 operation a clock" in done.stdout
    unit = hu.function("q4.0_to_q2.0", "SR3")
    values = normal_values(unit, 100)
    assert np.abs(values["a"]).max() > 4 and (normal_values(unit, 100, seed=1)["a"] != values["a"]).all()
    for clock, met in ((None, None), (0.001, False), (100.0, True)):
        told = measured_cost(unit, LIBRARIES["gt2n"], values, clock_ns=clock).as_dict()
        assert (told["clock_ns"], told["clock_met"]) == (clock, met) and "0.7 V" in told["conditions"]
    found = measured_cost(unit, LIBRARIES["gt2n"], values, pipeline=1).as_dict()
    assert found["unit"] == "q4.0_to_q2.0 SR3" and found["energy_is_per"] == "operation"
    assert (
        0 < found["energy_settled_pj"] <= found["energy_pj"] and sum(p["area"] for p in found["shares"].values()) > 0.99
    )


# ---- figures


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fp16/fp32", "exponent significand accumulator rounding random_bits node"),
        ("q4.4/q8.8/q4.4@RNE/SR6", "word accumulator rounding random_bits node"),
        ("mxfp4/bf16:exact8", "exponent significand accumulator rounding random_bits node"),
        ("fp8_e4m3/fp32:blocked16(e8m13@RTZ:fused4)", "exponent significand accumulator rounding random_bits node"),
    ],
)
def test_sweeps(text: str, names: str) -> None:
    datapath = hu.Datapath.parse(text)
    found = {sweep.name: sweep for sweep in cost_study.sweeps(datapath, "7nm")}
    assert list(found) == names.split()
    for sweep in found.values():
        here = [point for point in sweep.points if point.x == sweep.here]
        if sweep.name == "random_bits" and "SR" not in text:
            assert sweep.here is None and len(sweep.points) == 16
            continue
        assert here[0].cost == hu.cost(datapath, "7nm"), sweep.name
        for point in sweep.points:
            for quantity in ("area_um2", "energy_pj"):
                low, high = point.band(quantity)
                assert 0 < low <= getattr(point, quantity) <= high
    assert found["accumulator"].points[0].area_um2 < found["accumulator"].points[-1].area_um2
    assert found["node"].points[0].area_um2 > found["node"].points[-1].area_um2


def test_figures_are_written(tmp_path: Path, mine: Path) -> None:
    done = run(tmp_path, "cost", "--node", "mine.json", "--plot", "figures")
    assert done.returncode == 0 and done.stdout.strip().endswith("figures/index.html"), done.stderr
    page = (tmp_path / "figures" / "index.html").read_text()
    assert (
        "fp16/fp32" in page and page.count("<svg") == 7 and "fitted to 218 designs" in page and "at mine.json" in page
    )
    for name in ["parts", "exponent", "significand", "accumulator", "rounding", "random_bits", "node"]:
        for kind in ("png", "svg"):
            assert (tmp_path / "figures" / f"{name}.{kind}").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "figures" / "costs.csv").read_text().splitlines()))
    assert len(rows) > 80 and all(float(row["area_low"]) <= float(row["area_um2_per_mac"]) for row in rows)


def test_every_figure_says_where_its_numbers_are_from() -> None:
    datapath = hu.Datapath.parse("fp16/fp32")
    sweeps = cost_study.sweeps(datapath, "45nm")
    figures = [cost_figures.sweep(sweep, datapath.name, "45nm") for sweep in sweeps]
    figures.append(cost_figures.parts(cost_study.breakdown(datapath, "45nm"), "45nm"))
    for figure in figures:
        said = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
        assert "asap7_rvt_tt.lib.gz" in said and "Yosys" in said and "Stillmaker" in said


# ---- bad input


@pytest.mark.parametrize(
    ("unit", "given"),
    [
        ("fp16_add", {}),
        ("fp16_add", {"rounding": "SR8c"}),
        ("fp16_mul", {"rounding": "SR8"}),
        ("q4.4_add", {"rounding": "SR8"}),
        ("e5m10/q8.8@SR8", {}),
        ("int8/int32", {}),
        ("bf16/fp32@SR8:fused4", {}),
        ("bf16/fp32/bf16@RNE/SR8", {}),
        ("bf16/fp32@RNE:blocked16(bf16@SR8)", {}),
    ],
)
def test_there_is_no_price_of_eager_rounding_that_is_no_hardware(unit: str, given: dict[str, str]) -> None:
    with pytest.raises(hu.HalfulpError, match="eager rounding is that of sums of two floats by plain SR"):
        hu.cost(unit, "7nm", eager=True, **given)
    lazy, eager = (hu.cost("fp8_e5m2/e6m5@SR9", "7nm", eager=eager) for eager in (False, True))
    assert eager.delay_ns < lazy.delay_ns


def test_wrong_arguments_get_a_sentence() -> None:
    for more, sentence in (
        ({"pipeline": 1.5}, "0 to 3 ranks of pipeline registers, not 1.5"),
        ({"pipeline": "2"}, "0 to 3 ranks of pipeline registers, not '2'"),
        ({"random": "lfsr4"}, "rounds nothing stochastically"),
    ):
        with pytest.raises(hu.HalfulpError, match=sentence):
            hu.cost("bf16/fp32", "7nm", **more)
    with pytest.raises(hu.HalfulpError, match="fp16_fma has its own rounding, RNE"):
        hu.cost(hu.function("fp16_fma"), "7nm", rounding="SR8")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "name a datapath, as fp8_e4m3/fp32, or a function unit"),
        ("fp16_fam", "unknown function 'fp16_fam'"),
        ("fp16_div", "there is no hardware of fp16_div"),
        ("fp16 --rounding RTZ", "a datapath has its own rounding: write fp16@RTZ"),
        ("fp16_fma --rounding SR99", "SR"),
        ("fp16 --node 1nm", "or the .json file of a library"),
        ("fp16 --node none.json", "none.json cannot be read"),
        ("fp16 --node bad.json", "bad.json is no fitted library"),
        ("fp16 --node old.json", "old.json is a library that another version of halfulp fitted"),
        ("fp16 --node bin.json", "bin.json is no fitted library"),
        ("fp16 --jobs 2", "--jobs belongs to --characterize"),
        ("fp16 --out x", "--out belongs to --characterize or --fit"),
        ("fp16 --characterize", "a UNIT does not go with --characterize"),
        ("fp16 --fit t.csv", "a UNIT does not go with --fit"),
        ("fp16 --measured --fit t.csv", "choose one of --fit, --measured"),
        ("fp16 --plot d --clock 1", "--clock does not go with --plot"),
        ("fp16_fma --plot d", "fp16_fma"),
        ("--plot bad.json", "--plot bad.json cannot be made a folder"),
        ("--characterize", "--characterize needs --liberty FILE, a cell library, and --out TABLE.csv"),
        ("--characterize --liberty x.lib --out x.json", "the table is a .csv file"),
        ("--characterize --liberty x.lib --out no/x.csv", "there is no folder"),
        ("--characterize --liberty x.lib --out x.csv", "x.lib"),
        ("--characterize --liberty x.lib --out x.csv --designs (", "is no regular expression"),
        ("--characterize --liberty x.lib --out x.csv --designs nothing", "no design matches 'nothing'"),
        ("--characterize --liberty x.lib --out x.csv --node 1nm", "no prices for node '1nm'"),
        ("--fit none.csv", "none.csv cannot be read"),
        ("--fit bad.csv", "bad.csv is no table"),
        ("--fit bad.json", "--fit reads a table (.csv)"),
        ("--fit bad.csv --node my.json", "memories beside a library are priced at a node"),
        ("fp16_fma --measured --liberty x.lib --operands v.npz", "arrays of values named a, b, c"),
        ("fp16_mul --measured --liberty x.lib --operands w.npz", "arrays of one shape"),
        ("fp16_mul --measured --liberty x.lib --operands s.npz", "operands are real numbers"),
        ("fp16_mul --measured --liberty x.lib --operands bad.json", "bad.json is no .npz file of arrays."),
        ("int8/int32 --measured --liberty x.lib --operands bad.json", "bad.json is no .npz file of arrays."),
        ("int8/int32 --measured --liberty x.lib --operands w.npz", "w.npz is no capture that Machine.capture saved"),
        ("fp16_mul --measured --liberty x.lib --operands none.npz", "none.npz cannot be read: No such file"),
        ("fp16_mul --measured", "--measured needs --liberty FILE"),
    ],
)
def test_bad_input_is_told_in_a_sentence(runner, arguments: str, sentence: str) -> None:
    code, told = runner(*arguments.split())
    assert code == 2 and sentence in told and "Traceback" not in told, told


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command line in this process, among files of all bad sorts."""
    from halfulp import cli

    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.csv").write_text("design,part\nfp16,all\n")
    (tmp_path / "bin.json").write_bytes(b"\xff\xfe\x00")
    old = json.loads((TABLES / "asap7.json").read_text())
    old["domain"]["multiply"] = old["domain"]["multiply"][:-1]
    (tmp_path / "old.json").write_text(json.dumps(old))
    np.savez(tmp_path / "v.npz", a=np.ones(3), b=np.ones(3))
    np.savez(tmp_path / "w.npz", a=np.ones(3), b=np.ones(4))
    np.savez(tmp_path / "s.npz", a=np.array(["x", "y"]), b=np.array(["x", "y"]))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["halfulp", "cost", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.err + captured.out

    return run
