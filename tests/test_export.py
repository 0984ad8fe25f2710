"""Exports: what is parsed back is what ``hu.cost`` and ``hu.Array`` say; ZigZag reads and runs our accelerators."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import halfulp as hu
import pytest
from halfulp.reports import export, zigzag

DATAPATHS = ["int8/int32", "bf16/fp32", "fp8_e4m3/fp32/bf16@RTZ:fused4g2", "mxfp4/fp32", "fp16/fp32:exact4"]
NODES = ["45nm", "28nm", "7nm"]
UNITS = [(text, node, pipeline) for text in DATAPATHS for node in NODES for pipeline in (0, 2)]


# ---- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "node", "pipeline"), UNITS)
def test_json_says_what_cost_says(text: str, node: str, pipeline: int) -> None:
    (found,) = json.loads(export.json_text(export.records([text], [node], pipeline)))["units"]
    price = hu.cost(text, node, pipeline)
    assert hu.Datapath.parse(found["datapath"]) == hu.Datapath.parse(text)
    assert (found["node"], found["technology_nm"], found["pipeline_ranks"]) == (node, float(node[:-2]), pipeline)
    assert found["macs_per_cycle"] == price.macs_per_cycle and found["warnings"] == list(price.warnings)
    for quantity, middle in {"energy_pj": "_per_mac", "area_um2": "", "delay_ns": "", "leakage_nw": ""}.items():
        what, unit = quantity.split("_")
        assert found[quantity + middle] == getattr(price, quantity)
        low, high = found[f"{what}_low_{unit}{middle}"], found[f"{what}_high_{unit}{middle}"]
        assert (low, high) == price.band[quantity] and found[f"{what}_basis"] == price.basis[quantity]
    assert found["leakage_nw"] > 0 and found["sources"] == list(price.sources)
    parts = [(p["part"], p["number"], p["area_um2"], p["delay_ns"]) for p in found["breakdown"]]
    assert parts == [(name, n, u.area_um2.value, u.delay_ns.value) for name, n, u in price.parts]


def test_the_breakdown_adds_up_to_the_area() -> None:
    (found,) = export.records(["fp8_e4m3/fp32:fused4g2"], ["7nm"])
    assert math.isclose(sum(part["area_um2"] for part in found["breakdown"]), found["area_um2"], rel_tol=1e-12)


def test_every_name_of_a_number_has_its_unit() -> None:
    (found,) = export.records(["int8/int32"], ["7nm"])
    counts = {"macs_per_cycle", "pipeline_ranks", "number"}
    for row in (found, *found["breakdown"]):
        numbers = {key for key, value in row.items() if isinstance(value, int | float)} - counts
        assert all({"pj", "um2", "ns", "nw", "nm"} & set(key.split("_")) for key in numbers), numbers
    numbers = {c for c in export.COLUMNS if not c.endswith(("basis", "action", "datapath"))} - counts
    assert all({"pj", "um2", "seconds", "nm"} & set(column.split("_")) for column in numbers)


# ---- Accelergy -------------------------------------------------------------------------------------------------------


def entries(text: str) -> list[dict[str, str]]:
    """A table as the README of Accelergy's library plug-in says it is read: cells by column, an action each.

    Comments go from # on; commas part, nothing is quoted; | parts alternatives, of columns' names and of actions.
    """
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    names, *rows = [line.split(",") for line in lines if line]
    found = []
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        found += [
            {n: v for c, v in cells.items() for n in c.split("|")} | {"action": a} for a in cells["action"].split("|")
        ]
    return found


def test_accelergys_table_says_what_cost_says() -> None:
    text = export.accelergy(export.records(DATAPATHS, NODES))
    found = {(e["datapath"], e["technology"], e["action"]): e for e in entries(text)}
    assert len(found) == len(DATAPATHS) * len(NODES) * 7
    for given in DATAPATHS:
        for node in NODES:
            name, price = hu.Datapath.parse(given).name, hu.cost(given, node)
            for action in ("mac", "multiply", "compute", "read", "leak", "write", "update"):
                entry = found[name, node[:-2], action]
                # the plug-in takes the first column that has the word in its name
                energy, area = (float(entry[next(c for c in entry if word in c)]) for word in ("energy", "area"))
                nominal = {
                    "leak": price.leakage_nw * float(entry["global_cycle_seconds"]) * 1e3,
                    "write": 0.0,
                    "update": 0.0,
                }
                assert energy == pytest.approx(nominal.get(action, price.energy_pj), rel=1e-15)
                assert area == price.area_um2 and int(entry["macs_per_cycle"]) == price.macs_per_cycle
                assert (float(entry["area_low_um2"]), float(entry["area_high_um2"])) == price.band["area_um2"]
                assert all(f"# source: {source}\n" in text for source in price.sources)


def test_a_node_has_one_name() -> None:
    assert {export.record("int8/int32", node)["node"] for node in ("7", "7nm", "07 NM")} == {"7nm"}


def test_accelergys_table_is_csv_as_well() -> None:
    text = export.accelergy(export.records(["int8/int32"], ["7nm"]))
    rows = list(csv.DictReader(io.StringIO("".join(t for t in text.splitlines(True) if not t.startswith("#")))))
    assert tuple(rows[0]) == export.COLUMNS and len(rows) == 3
    assert float(rows[0]["energy_pj"]) == hu.cost("int8/int32", "7nm").energy_pj


def test_accelergys_table_holds_no_commas() -> None:
    with pytest.raises(hu.HalfulpError, match="no commas, and so not posit<16,1>"):
        export.accelergy(export.records(["posit<16,1>/fp32"], ["7nm"]))


# ---- ZigZag ----------------------------------------------------------------------------------------------------------


def array(text: str, **changes: Any) -> hu.Array:
    return hu.Array(
        **{"rows": 8, "cols": 4, "datapath": text, "sram_kib": 64, "clock_mhz": 500, "node": "7nm"} | changes
    )


@pytest.mark.parametrize("node", ["45nm", "7nm"])
@pytest.mark.parametrize("text", DATAPATHS)
def test_zigzags_accelerator_says_what_cost_and_array_say(text: str, node: str) -> None:
    yaml = pytest.importorskip("yaml")
    described = array(text, node=node)
    written = zigzag.accelerator(described)
    found = yaml.safe_load(written)
    assert found == zigzag.description(described)
    dp = hu.Datapath.parse(text)
    price = hu.cost(hu.Datapath(**{**vars(dp), "output": dp.accumulator, "output_rounding": None}), node)
    units, lanes, memories = found["operational_array"], price.macs_per_cycle, found["memories"]
    assert units["unit_energy"] == price.energy_pj and units["unit_area"] == price.area_um2 / lanes
    assert units["sizes"] == [8, 4] + [lanes] * (lanes > 1) and len(units["dimensions"]) == len(units["sizes"])
    for name, level in (("register_A", "register"), ("register_B", "register"), ("sram", "sram"), ("dram", "dram")):
        bits = memories[name]["ports"][0]["bandwidth_max"]
        assert memories[name]["w_cost"] == bits * described.energy_per_bit_pj(level).value
        assert memories[name]["r_cost"] == (0 if level == "register" else memories[name]["w_cost"])
    assert memories["sram"]["size"] == 64 * 8192
    assert memories["dram"]["ports"][0]["bandwidth_max"] == int(8 * described.dram_bytes_per_s / 500e6)
    # all areas together are the array's, less what ZigZag has no place for
    area = 32 * lanes * (units["unit_area"] + memories["register_A"]["area"] + memories["register_B"]["area"])
    area += 32 * memories["register_C"]["area"] + memories["sram"]["area"]
    unplaced = described.area_by_part_um2.get("output rounding units", 0.0)
    if dp.in_blocks:
        unplaced += 32 * 2 * 8 * next(p.area_um2.value for p in described.parts if p.name == "operand registers")
        assert "# not described: the scales of blocks" in written
    assert math.isclose(area, described.area_um2 - unplaced, rel_tol=1e-12)
    assert ("output rounding units" in written) == (unplaced > 0 and not dp.in_blocks)
    assert all(f"# source: {source}\n" in written for source in price.sources)


@pytest.mark.parametrize("text", ["int8/int32", "fp8_e4m3/fp32:fused4g2"])
def test_zigzag_runs_our_accelerator_and_moves_what_the_array_moves(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZigZag finds a schedule of the least energy: of each operand at each level it is ours, number by number.

    Output stationary: a stationary operand is shifted in through the registers of ours, and put in place by ZigZag.
    """
    reason = "needs ZigZag: pip install 'halfulp[zigzag]'"
    api, yaml = pytest.importorskip("zigzag.api", reason=reason), pytest.importorskip("yaml", reason=reason)
    monkeypatch.chdir(tmp_path)
    described, product = array(text), hu.Matmul(64, 96, 48)
    units = zigzag.description(described)["operational_array"]
    layer = {
        "id": 0,
        "name": "product",
        "operator_type": "Gemm",
        "equation": "O[m][n]+=I[m][k]*W[k][n]",
        "loop_dims": ["M", "N", "K"],
        "loop_sizes": [product.m, product.n, product.k],
        "operand_precision": {"I": 8, "W": 8, "O": 32, "O_final": 32},
        "operand_source": {"I": 0, "W": 0},
    }
    spatial = {d: [f"{axis}, {n}"] for d, axis, n in zip(units["dimensions"], "MNK", units["sizes"], strict=False)}
    links = {"O": "O", "W": "I2", "I": "I1"}
    mapping = {"name": "default", "spatial_mapping": spatial, "memory_operand_links": links}
    files = {"accelerator": zigzag.accelerator(described), "workload": yaml.safe_dump([layer])}
    for name, content in (files | {"mapping": yaml.safe_dump([mapping])}).items():
        Path(f"{name}.yaml").write_text(content, encoding="utf-8")
    _, _, found = api.get_hardware_performance_zigzag(
        "workload.yaml", "accelerator.yaml", "mapping.yaml", opt="energy", dump_folder="o", loma_show_progress_bar=False
    )
    while not hasattr(found, "mac_energy"):
        found = found[0]
    assert found.mac_energy == pytest.approx(product.macs * hu.cost(text, "7nm").energy_pj, rel=1e-12)
    ours = described.run(product).energy_by_part_pj
    for operand, theirs in found.mem_energy_breakdown.items():
        kind = {"I": "A", "W": "B", "O": "C"}[str(operand)]
        for level, energy in zip(("register", "sram", "dram"), theirs, strict=True):
            if (level, kind) != ("register", "C"):  # in the unit
                assert energy == pytest.approx(ours[level, kind], rel=1e-9), (level, kind)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_the_command_writes_files_whole(run, tmp_path: Path) -> None:
    target = tmp_path / "halfulp_mac.csv"
    code, text, _ = run("export", "accelergy", "int8/int32", "bf16/fp32", "--node", "7nm", "--out", str(target))
    assert code == 0 and str(target) in text and list(target.parent.iterdir()) == [target]
    assert target.read_text() == export.accelergy(export.records(["int8/int32", "bf16/fp32"], ["7nm"]))
    assert json.loads(run("export", "json", "int8/int32")[1])["units"] == export.records(["int8/int32"], ["45nm"])


def test_zigzags_accelerator_warns_of_its_clock() -> None:
    assert "# warning: the clock leaves 0.1 ns" in zigzag.accelerator(array("bf16/fp32", clock_mhz=10_000))
    assert "# warning" not in zigzag.accelerator(array("bf16/fp32", clock_mhz=10))


def test_the_command_describes_an_accelerator(run) -> None:
    options = ["--array", "2x3", "--sram-kib", "8", "--dram", "DDR4", "--clock-mhz", "100", "--dataflow", "weight"]
    code, text, _ = run("export", "zigzag", "int8/int32", "--node", "7nm", *options)
    assert code == 0
    assert text == zigzag.accelerator(hu.Array(2, 3, "int8/int32", 8, "DDR4", 100, dataflow="weight", node="7nm"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["json", "fp17"], "did you mean"),
        (["json", "int8", "--node", "1nm"], "no prices for node '1nm'"),
        (["json", "int8", "--array", "4x4"], "--array belongs to an accelerator of zigzag's."),
        (["zigzag", "int8", "fp16"], "one accelerator"),
        (["zigzag", "int8", "--array", "4by4"], "--array is ROWSxCOLUMNS, as in 16x16, not '4by4'."),
        (["zigzag", "int8", "--node", "1nm"], "no prices for node '1nm'"),
        (["accelergy", "posit<16,1>/fp32"], "no commas"),
        (["json", "int8", "fp16_mul"], "datapaths are exported, as fp16/fp32, no function units: fp16_mul."),
        (["json", "int8", "--out", "."], "--out is a file to write; . is a folder."),
        (["json", "int8", "--out", "nowhere/x.json"], "there is no folder"),
    ],
)
def test_bad_input_gets_a_sentence(run, arguments: list[str], sentence: str) -> None:
    code, text, error = run("export", *arguments)
    assert code == 2 and not text and sentence in error and error.count("\n") == 1
