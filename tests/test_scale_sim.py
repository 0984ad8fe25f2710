"""Cycles and traffic of arrays are those that SCALE-Sim prints."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from array_cases import FLOWS, array, schedule
from packaging.version import Version

#: What SCALE-Sim 3.0.0 (of PyPI, with numpy 1.26.4; under numpy 2 it stops with a TypeError) printed in COMPUTE_REPORT
#: and DETAILED_ACCESS_REPORT with InterfaceBandwidth CALC, 1024 kB for each operand and no custom layout: "Total
#: Cycles", "SRAM IFMAP Reads", "SRAM Filter Reads", "SRAM OFMAP Writes" of os, ws and is. Three residues:
#: * Its total is the number of the last cycle, counted from 0: one less than there are.
#: * To its OFMAP writes of os it adds rows + columns a fold (create_ofmap_demand_mat), to nobody's use.
#: * Where a stride does not divide, it rounds the number of outputs up (58 x 58 below), convolutions round down.
SCALE_SIM = {
    ("AlexNet conv3", 32, 32, hu.Conv(1, 256, 15, 15, 384, 3)): [
        (170351, 4672512, 5308416, 69504),
        (227231, 4672512, 884736, 4672512),
        (206495, 389376, 5308416, 4672512),
    ],
    ("AlexNet conv5", 64, 32, hu.Conv(1, 384, 15, 15, 256, 3)): [
        (85199, 4672512, 2654208, 45568),
        (141263, 4672512, 884736, 2336256),
        (134135, 584064, 5308416, 2336256),
    ],
    ("ResNet-18 conv3, stride 2", 32, 32, hu.Conv(1, 64, 57, 57, 128, 3, 2)): [
        (63799, 1806336, 1843200, 106752),
        (63215, 1806336, 73728, 1806336),
        (99899, 451584, 1843200, 1806336),
    ],
    ("as SCALE-Sim rounds 58 x 58, stride 2", 32, 32, hu.Matmul(29 * 29, 576, 128)): [
        (68903, 1937664, 1990656, 114560),
        (67319, 1937664, 73728, 1937664),
        (107891, 484416, 1990656, 1937664),
    ],
    ("ResNet-50 conv2, 1x1", 32, 32, hu.Conv(1, 64, 56, 56, 64, 1)): [
        (24695, 401408, 401408, 213248),
        (12919, 401408, 4096, 401408),
        (30967, 200704, 401408, 401408),
    ],
    ("ResNet-50 conv5, 3x3", 32, 32, hu.Conv(1, 512, 9, 9, 512, 3)): [
        (149439, 3612672, 4718592, 27136),
        (329471, 3612672, 2359296, 3612672),
        (174527, 225792, 4718592, 3612672),
    ],
    ("ResNet-50 fc", 128, 128, hu.Matmul(1, 2048, 1000)): [
        (18415, 16384, 2048000, 3048),
        (49023, 16384, 2048000, 16000),
        (22111, 2048, 2048000, 16000),
    ],
    ("ViT-S projection", 32, 32, hu.Matmul(197, 384, 384)): [
        (37463, 907776, 1032192, 81024),
        (41903, 907776, 147456, 907776),
        (40151, 75648, 1032192, 907776),
    ],
    ("LSTM gate", 32, 16, hu.Matmul(1, 256, 512)): [
        (9663, 8192, 131072, 2048),
        (20223, 8192, 131072, 4096),
        (4719, 256, 131072, 4096),
    ],
    ("edge tiles", 8, 4, hu.Matmul(20, 17, 10)): [
        (242, 1020, 510, 308),
        (341, 1020, 170, 600),
        (419, 340, 850, 600),
    ],
    ("rectangular", 16, 32, hu.Matmul(100, 50, 70)): [
        (2015, 15000, 24500, 8008),
        (1943, 15000, 3500, 28000),
        (2111, 5000, 14000, 28000),
    ],
}


@pytest.mark.parametrize("key", SCALE_SIM, ids=lambda key: key[0])
def test_cycles_and_accesses_are_scale_sims(key: tuple) -> None:
    _, rows, cols, work = key
    for flow, (last_cycle, a, b, c) in zip(FLOWS, SCALE_SIM[key], strict=True):
        plan = schedule(rows, cols, flow, work, "int8")
        assert plan.cycles == last_cycle + 1, flow
        flows = {f.kind: f for f in plan.moved("sram", plan.array_passes)}
        added = math.prod(plan.folds) * (rows + cols) if flow == "output" else 0
        assert (flows["A"].read_bits, flows["B"].read_bits) == (8 * a, 8 * b), flow
        assert sum(f.written_bits for f in flows.values()) == 8 * (c - added), flow


def test_a_convolutions_compulsory_traffic_is_scale_sims() -> None:
    """DRAM reads and writes that SCALE-Sim 3.0.0 printed for os, 32 x 32; for ws and is its writes are 31360: it sends
    all partial sums to DRAM, which here stay in SRAM where they fit."""
    for flow in FLOWS:
        run = array(rows=32, cols=32, datapath="int8", sram_kib=3072, dataflow=flow).run(
            hu.Conv(1, 16, 29, 29, 32, 3, 2)
        )
        assert [run.bits("dram", kind) // 8 for kind in "ABC"] == [13456, 4608, 6272]


CONFIGURATION = """[general]
run_name = run
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {cols}
IfmapSramSzkB: 1024
FilterSramSzkB: 1024
OfmapSramSzkB: 1024
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: {flow}
Bandwidth: 10
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


@pytest.mark.skipif(
    importlib.util.find_spec("scalesim") is None or Version(np.__version__) >= Version("2.4"),
    reason="needs SCALE-Sim, whose release 3.0.0 needs an older NumPy: pip install scalesim 'numpy<2.4'",
)
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("rows", "cols"), [(8, 4), (5, 7)])
def test_scale_sim_itself(flow: str, rows: int, cols: int, tmp_path: Path) -> None:
    from scalesim.scale_sim import scalesim

    m, k, n = 20, 17, 10
    (tmp_path / "c.cfg").write_text(CONFIGURATION.format(rows=rows, cols=cols, flow=f"{flow[0]}s"))
    (tmp_path / "t.csv").write_text(f"Layer,M,N,K,\ng,{m},{n},{k},\n")
    (tmp_path / "l.csv").write_text(f"Layer{',x' * 19},\ng{',1' * 19},\n")
    names = {"config": "c.cfg", "topology": "t.csv", "layout": "l.csv"}
    paths = {name: str(tmp_path / file) for name, file in names.items()}
    scalesim(save_disk_space=True, verbose=False, input_type_gemm=True, **paths).run_scale(top_path=str(tmp_path))
    with (tmp_path / "run" / "COMPUTE_REPORT.csv").open() as file:
        heads, values = list(csv.reader(file))[:2]
    printed = dict(zip(map(str.strip, heads), values, strict=False))
    assert schedule(rows, cols, flow, hu.Matmul(m, k, n)).cycles == int(float(printed["Total Cycles"])) + 1
