"""What units take mapped as one module, beside the sum of their modules, which prices are fitted to.

    python -m halfulp.reports.one_module LIBERTY ... --out reports/measured/one_module.csv

maps the unit of each datapath that libraries are characterised with as one module, for the least area. The sums of
modules are those of the packaged tables (``emulator/silicon/tables``) of the same libraries.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from datetime import date
from importlib import resources
from pathlib import Path

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from ..emulator.prices import LIBRARIES
from ..emulator.processes import sharing
from ..emulator.silicon.characterize import Table, parse
from ..emulator.silicon.designs import designs, find
from ..emulator.silicon.liberty import read_library
from ..emulator.silicon.synthesis import synthesise, tool_version

COLUMNS = ("library", "design", "one_module_um2", "modules_um2")
COMMAND = "python -m halfulp.reports.one_module LIBERTY ... --out FILE"


def area_um2(name: str, liberty: str) -> float:
    """Area, um2, of a design's unit, mapped as one module."""
    from ..emulator.rtl.verilog import text

    unit = find(name).unit()
    return synthesise(text(unit, "dut", unit.ports), "dut", liberty, keep_hierarchy=False).area_um2


def packaged(digest: str) -> tuple[str, Table]:
    """The name and the packaged table of the library whose file has that digest."""
    folder = resources.files("halfulp.emulator").joinpath("silicon", "tables")
    for name in LIBRARIES.values():
        table = parse(folder.joinpath(f"{name}.csv").read_text(encoding="utf-8"))
        if table.header["digest"] == digest:
            return name, table
    raise HalfulpError(f"none of the packaged tables is of this library, sha256 {digest}: {', '.join(LIBRARIES)}.")


def measured(liberty: Path, processes: int) -> list[dict[str, str]]:
    """A row for each design of a datapath."""
    library, table = packaged(read_library(liberty).digest)
    modules = {row["design"]: row["area_um2"] for row in table.rows if row["part"] == "all"}
    names = [design.name for design in designs() if not design.is_function]
    with sharing(processes) as do:
        areas = do(area_um2, names, [str(liberty)] * len(names))
        return [
            dict(zip(COLUMNS, (library, name, f"{area:.6g}", modules[name]), strict=True))
            for name, area in zip(names, areas, strict=True)
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=COMMAND.split(" LIBERTY")[0], description=__doc__)
    parser.add_argument("liberty", nargs="+", type=Path, help="cell libraries, of which there are packaged tables")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    text = io.StringIO()
    text.write(f"# command: {COMMAND}\n# tool: {tool_version()}\n# date: {date.today().isoformat()}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for liberty in options.liberty:
        writer.writerows(measured(liberty, options.jobs))
    write_atomically(options.out, text.getvalue())


if __name__ == "__main__":
    main()
