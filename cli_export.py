"""``halfulp export``: what units cost, as files that other tools read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import err, in_folder, out
from .emulator.accelerator import Array
from .emulator.dataflow import DATAFLOWS
from .emulator.errors import HalfulpError


class To(StrEnum):
    """What can be written."""

    JSON = "json"
    ACCELERGY = "accelergy"
    ZIGZAG = "zigzag"


#: What an accelerator of ZigZag's is unless told.
DEFAULTS: dict[str, Any] = {
    "array": "16x16",
    "sram_kib": 256.0,
    "dram": "HBM2",
    "clock_mhz": 500.0,
    "dataflow": "output",
    "memories": None,
}


def export(
    to: Annotated[To, typer.Argument(help="json or accelergy (CSV): units; zigzag (YAML): an accelerator.")],
    datapaths: Annotated[list[str], typer.Argument(help="As in fp8_e4m3/fp32:fused4g2; for zigzag one.")],
    node: Annotated[list[str] | None, typer.Option(help="Technology node; may be given several times. [45nm]")] = None,
    pipeline: Annotated[int, typer.Option(help="Ranks of registers besides that of the sum.", min=0)] = 0,
    array: Annotated[str | None, typer.Option(help="zigzag: ROWSxCOLUMNS of units. [16x16]")] = None,
    sram_kib: Annotated[float | None, typer.Option(help="zigzag: capacity of the SRAM. [256]")] = None,
    dram: Annotated[str | None, typer.Option(help="zigzag: standard of the DRAM. [HBM2]")] = None,
    clock_mhz: Annotated[float | None, typer.Option(help="zigzag: clock. [500]")] = None,
    dataflow: Annotated[
        str | None, typer.Option(help=f"zigzag: what stays in the array, {', '.join(DATAFLOWS)}. [output]")
    ] = None,
    memories: Annotated[Path | None, typer.Option(help="zigzag: table of memories, instead of the published.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="File to write; none: print.")] = None,
) -> None:
    """Write what units cost for other tools: JSON, a table for Accelergy, or an accelerator for ZigZag.

    Energies are in pJ, areas in um2, delays in ns, leakage in nW; each with band, basis and sources.
    """
    from .emulator.files import write_atomically
    from .emulator.functions import Function
    from .emulator.rtl.design import subject
    from .reports import export as exports

    if target is not None:
        if target.is_dir():
            raise HalfulpError(f"--out is a file to write; {target} is a folder.")
        in_folder(target)
    functions = [text for text in datapaths if isinstance(subject(text), Function)]
    if functions:
        raise HalfulpError(f"datapaths are exported, as fp16/fp32, no function units: {', '.join(functions)}.")
    nodes = node or ["45nm"]
    said = (array, sram_kib, dram, clock_mhz, dataflow, memories)
    given = {name: value for name, value in zip(DEFAULTS, said, strict=True) if value is not None}
    if to is To.ZIGZAG:
        if len(datapaths) > 1 or len(nodes) > 1 or pipeline:
            raise HalfulpError("a file of ZigZag's is one accelerator: one datapath, one --node, no --pipeline.")
        text = _accelerator(datapaths[0], nodes[0], DEFAULTS | given)
    elif given:
        raise HalfulpError(f"--{next(iter(given)).replace('_', '-')} belongs to an accelerator of zigzag's.")
    else:
        found = exports.records(datapaths, nodes, pipeline)
        text = exports.json_text(found) if to is To.JSON else exports.accelergy(found)
    if target is None:
        print(text, end="")
    else:
        write_atomically(target, text)
        out.print(f"{target}: {', '.join(datapaths)} at {', '.join(nodes)}")


def _accelerator(datapath: str, node: str, given: dict[str, Any]) -> str:
    from .reports import zigzag

    shape = given.pop("array")
    rows, _, cols = shape.partition("x")
    if not (rows.isdecimal() and cols.isdecimal()):
        raise HalfulpError(f"--array is ROWSxCOLUMNS, as in 16x16, not {shape!r}.")
    array = Array(int(rows), int(cols), datapath, node=node, **given)  # type: ignore[arg-type]
    for warning in array.warnings:
        err.print(f"warning: {warning}", markup=False, soft_wrap=True)
    return zigzag.accelerator(array)
