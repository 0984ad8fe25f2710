"""An array for tests, but for what they change; and what a dataflow does with a workload."""

from __future__ import annotations

import halfulp as hu
from halfulp.emulator.dataflow import Schedule

FLOWS = ("output", "weight", "input")


def array(**changes: object) -> hu.Array:
    given = {"rows": 4, "cols": 4, "datapath": "int8/int32/int8", "sram_kib": 64, "clock_mhz": 500} | changes
    return hu.Array(**given)  # type: ignore[arg-type]


def schedule(
    rows: int, cols: int, flow: str, work: object, datapath: str = "int8/int32/int8", bits: int = 0
) -> Schedule:
    return Schedule(rows, cols, hu.Datapath.parse(datapath), flow, work, bits)
