"""``halfulp report``, and what commands that run something share: how energy is printed, and records kept."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Node, Seed, folder, out, progress, table
from .emulator.errors import HalfulpError
from .emulator.technology import Technology

Backend = Annotated[str, typer.Option(help="cpu, gpu, or cxx (the GPU's source under the host's compiler).")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; they never change a bit.", min=1)]


def checked_technology(node: str) -> Technology:
    """Refused before any work is done, where it cannot price a run."""
    technology = Technology(node)
    technology.energy_per_bit_pj("sram")
    return technology


def joule(picojoule: float) -> str:
    units = (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3))
    unit, scale = next(((u, s) for u, s in units if picojoule >= s), ("pJ", 1.0))
    return f"{picojoule / scale:.3g} {unit}"


def print_energy(energy: dict[str, Any]) -> None:
    total, low, high, arithmetic_part, memory = (
        joule(energy[key]) for key in ("total_pj", "low_pj", "high_pj", "arithmetic_pj", "memory_pj")
    )
    out.print(f"  energy         {total}   arithmetic {arithmetic_part}, SRAM {memory}")
    out.print(f"                 at {energy['node']}, {energy['basis']}, between {low} and {high}; sources: --json")


def save_record(record: Any, out_dir: Path | None) -> None:
    if out_dir is not None:
        from .emulator.files import write_atomically

        write_atomically(out_dir / "record.json", record.to_json() + "\n")


def report(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("report"),
    datapath: Annotated[
        list[str] | None,
        typer.Option(help="Add a row: CONTRACTIONS or CONTRACTIONS;UPDATES (default fp32). May be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training runs per datapath.", min=1)] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
) -> None:
    """Train, infer and solve on every datapath of the built-in study; write the trade-off report.

    Interrupted, it resumes where it was when started again with the same options.
    """
    from .reports import page, study
    from .reports import table as tables

    added = tuple(
        study.Setup.of(text, *(text.split(";", 1) if ";" in text else (text, "fp32"))) for text in datapath or []
    )
    checked_technology(node)
    if not 0 <= seed < 1 << 61:
        raise HalfulpError(f"seed must lie in [0, 2**61), not {seed}.")
    work = study.Study(
        study.SETUPS + added, tuple(range(seed, seed + seeds)), node, epochs=epochs, backend=backend, threads=threads
    )
    options = {"--seeds": (seeds, 3), "--epochs": (epochs, 8), "--node": (node, "45nm"), "--seed": (seed, 0)}
    given = "".join(f" {name} {value}" for name, (value, default) in options.items() if value != default)
    given += "".join(f" --datapath {shlex.quote(text)}" for text in datapath or [])
    folder(out_dir)
    with progress() as bar:
        task = bar.add_task("starting", total=work.steps)
        records = work.run(out_dir, lambda what: bar.update(task, description=f"{what:<24}", advance=1))
        bar.update(task, description="drawing")
        written = page.write(records, out_dir, given)
    rows = tables.results(records)
    shown = [
        {
            "datapath": r["datapath"],
            "train": f"{r['train_accuracy_mean']:.1%}",
            "µJ": f"{r['train_energy_uj']:.1f}",
            "infer": f"{r['infer_accuracy']:.1%}",
            "nJ/image": f"{r['infer_energy_nj']:.2f}",
            "CG": r["cg_status"],
            "best/all": f"{r['cg_best_iteration']}/{r['cg_iterations']}",
            "residual": f"{r['cg_residual']:.1e}",
            "CG µJ": f"{r['cg_energy_uj']:.1f}",
            "pJ/MAC": f"{r['energy_pj_per_mac']:.2f}",
            "µm²": f"{r['area_um2_per_mac']:.0f}",
        }
        for _, r in rows.iterrows()
    ]
    table(shown, {key: key for key in shown[0]})
    out.print(tables.headline(rows, records))
    out.print(f"Costs are estimates at {node}; their bases, bands and sources are on the page.")
    out.print(f"Report: {written.resolve()}")
