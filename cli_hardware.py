"""``halfulp rtl``: hardware of what is described."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from .console import Json, Seed, err, folder, out, print_json
from .emulator.datapath import Datapath
from .emulator.errors import HalfulpError
from .emulator.files import write_atomically
from .emulator.rtl.design import Design, design


def rtl(
    what: Annotated[str, typer.Argument(help="A datapath, as fp8_e4m3/fp32:fused16, or a unit, as fp16_fma.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for NAME.v, NAME_tb.v and NAME.vectors.")],
    rounding: Annotated[str | None, typer.Option(help="Of a unit, RNE unless told; a datapath has its own.")] = None,
    flags: Annotated[bool, typer.Option("--flags", help="A unit hands out the IEEE flags, too.")] = False,
    pipeline: Annotated[int, typer.Option(help="Ranks of registers.", min=0)] = 0,
    random: Annotated[
        str | None, typer.Option(help="Random bits of SR from an LFSR in the unit, as lfsr16; default: from outside.")
    ] = None,
    eager: Annotated[
        bool, typer.Option("--eager", help="Sums of floats find the carry of SR beside the addition: sooner.")
    ] = False,
    vectors: Annotated[int, typer.Option(help="Lines of vectors.", min=1)] = 2000,
    simulate: Annotated[bool, typer.Option("--simulate", help="Run the test bench with Icarus Verilog.")] = False,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Write a datapath's unit as Verilog, with a self-checking test bench whose vectors come from the emulator."""
    from .kernels.stimulus import dot_stimulus, unit_stimulus

    if simulate and shutil.which("iverilog") is None:
        raise HalfulpError("--simulate needs Icarus Verilog: apt-get install iverilog.")
    with err.status(f"generating {what}"):
        made = design(what, rounding, flags, pipeline, random, eager)
        folder(out_dir)
        stimulus = dot_stimulus if isinstance(made.subject, Datapath) else unit_stimulus
        files = made.files(stimulus(made.subject, vectors, seed, random=made.random))  # type: ignore[arg-type]
    for name, text in files.items():
        write_atomically(out_dir / name, text)
    verdict = _simulated(made, out_dir) if simulate else None
    if as_json:
        ports = [{"name": p.name, "bits": p.bits, "direction": "out" if p.output else "in"} for p in made.ports]
        print_json(
            {"name": made.name, "latency": made.latency, "ports": ports, "folder": str(out_dir), "said": verdict}
        )
    else:
        out.print(made.verilog[: made.verilog.index("\n\n")])
        bench = f"iverilog -o {made.name}.vvp {made.name}.v {made.name}_tb.v && vvp {made.name}.vvp"
        out.print(verdict or f"in {out_dir}: {bench}")
    if verdict is not None and not verdict.startswith("PASS"):
        raise typer.Exit(1)


def _simulated(made: Design, where: Path) -> str:
    """What the test bench says."""
    name = made.name
    build = ["iverilog", "-g2005", "-o", f"{name}.vvp", f"{name}.v", f"{name}_tb.v"]
    for command in (build, ["vvp", f"{name}.vvp"]):
        done = subprocess.run(command, cwd=where, capture_output=True, text=True)
        if done.returncode:
            raise HalfulpError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout.strip()
