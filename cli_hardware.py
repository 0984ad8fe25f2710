"""``halfulp rtl`` and ``halfulp cost``: hardware of what is described, and what it takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from .console import Json, Node, Seed, folder, out, print_json, table
from .emulator.cost import QUANTITIES, cost
from .emulator.datapath import Datapath
from .emulator.errors import HalfulpError
from .emulator.rtl.design import Design, design


def rtl(
    what: Annotated[str, typer.Argument(help="A datapath, as fp8_e4m3/fp32:fused16, or a unit, as fp16_fma.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for NAME.v, NAME_tb.v and NAME.vectors.")],
    rounding: Annotated[str, typer.Option(help="Of a unit; a datapath has its own.")] = "RNE",
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
    made = design(what, rounding, flags, pipeline, random, eager)
    folder(out_dir)
    stimulus = dot_stimulus if isinstance(made.subject, Datapath) else unit_stimulus
    for name, text in made.files(stimulus(made.subject, vectors, seed, random=made.random)).items():  # type: ignore[arg-type]
        part = out_dir / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out_dir / name)
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


def cost_command(
    datapath: Annotated[str, typer.Argument(help="OPERANDS[/ACCUMULATOR[/OUTPUT]][@ROUNDING], as in fp8_e4m3/fp32.")],
    node: Node = "45nm",
    measured: Annotated[
        bool, typer.Option("--measured", help="Make the unit, map it on --liberty, and simulate it on operands.")
    ] = False,
    liberty: Annotated[Path | None, typer.Option(help="Cell library (.lib, .lib.gz) to measure with.")] = None,
    operands: Annotated[
        Path | None, typer.Option(help="Saved Machine.capture (.npz); default: normally distributed operands.")
    ] = None,
    clock: Annotated[float | None, typer.Option(help="Clock in ns to map for; default: for the least area.")] = None,
    pipeline: Annotated[int, typer.Option(help="Ranks of registers of the measured unit.", min=0)] = 0,
    random: Annotated[str | None, typer.Option(help="Of the measured unit: as for rtl.")] = None,
    eager: Annotated[bool, typer.Option("--eager", help="Of the measured unit: as for rtl.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Price a datapath's unit: energy per MAC, area and delay, each with basis, band and sources; or measure it."""
    if measured:
        return _measured(Datapath.parse(datapath), liberty, operands, clock, pipeline, seed, as_json, random, eager)
    options = {"--liberty": liberty, "--operands": operands, "--clock": clock, "--random": random}
    for option, given in (options | {"--eager": eager or None}).items():
        if given is not None:
            raise HalfulpError(f"{option} belongs to --measured.")
    price = cost(datapath, node)
    if as_json:
        return print_json(
            {
                "datapath": datapath,
                "node": node,
                **{q: getattr(price, q) for q in QUANTITIES},
                "basis": price.basis,
                "band": price.band,
                "sources": price.sources,
            }
        )
    out.print(f"{Datapath.parse(datapath).name}: {price}")


def _measured(
    datapath: Datapath,
    liberty: Path | None,
    operands: Path | None,
    clock: float | None,
    pipeline: int,
    seed: int,
    as_json: bool,
    random: str | None,
    eager: bool,
) -> None:
    from .kernels.capture import load_capture
    from .kernels.hardware import measured_cost, normal_dots

    if liberty is None:
        raise HalfulpError("--measured needs --liberty FILE, a cell library.")
    what = f"normally distributed, seed {seed}"
    if operands is None:
        dots = normal_dots(datapath, seed=seed)
    else:
        captured, dots = load_capture(operands)
        what = f"{len(dots)} dot products captured from {captured.name} in {operands.name}"
        if (captured.a, captured.b) != (datapath.a, datapath.b):
            raise HalfulpError(f"{operands} holds operands of {captured.name}, not in the formats of {datapath.name}.")
    found = measured_cost(datapath, liberty, dots, what, clock, pipeline, random=random, eager=eager)
    if as_json:
        return print_json(found.as_dict())
    out.print(f"{datapath.name} on {found.whole.library} ({found.whole.library_digest}), {found.whole.tool}")
    out.print(f"operands: {what}; {found.whole.vectors} clocks, {found.macs_per_cycle} MAC a clock")
    out.print(f"  area    {found.area_um2:10.4g} um2")
    out.print(f"  energy  {found.energy_pj:10.4g} pJ a MAC, {found.energy_settled_pj:.4g} without glitches")
    out.print(f"  delay   {found.delay_ns:10.4g} ns")
    out.print(f"  leakage {found.whole.leakage_nw:10.4g} nW")
    shares = [{"component": name} | {k: f"{v:.1%}" for k, v in part.items()} for name, part in found.shares().items()]
    table(shares, {"component": "component", "area": "area", "energy": "energy"})
