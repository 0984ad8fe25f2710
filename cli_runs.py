"""``halfulp solve`` and ``report``: work on emulated arithmetic, and what it costs."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from .console import Json, Node, Seed, err, folder, out, print_json, progress, table
from .emulator.errors import HalfulpError
from .emulator.technology import Technology

Backend = Annotated[str, typer.Option(help="cpu, gpu, or cxx (the GPU's source under the host's compiler).")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; they never change a bit.", min=1)]


_NOTES = 8  #: that are printed of a solve


def checked_technology(node: str) -> Technology:
    """Refused before any work is done, where it cannot price a run."""
    technology = Technology(node)
    technology.energy_per_bit_pj("sram")
    return technology


def solve(
    problem: Annotated[
        str, typer.Argument(help="'poisson', a family as in jump:32, or a file (.mtx, .mtx.gz).")
    ] = "poisson",
    spmv: Annotated[str, typer.Option(help="Datapath of the matrix-vector product.")] = "fp64",
    dot: Annotated[str | None, typer.Option(help="Datapath of inner products; default: as spmv.")] = None,
    axpy: Annotated[str | None, typer.Option(help="Datapath of vector updates; default: as spmv.")] = None,
    residual: Annotated[
        str | None, typer.Option(help="Datapath of the residual's update and norm, as in fp64.")
    ] = None,
    scalars: Annotated[str | None, typer.Option(help="Format of alpha and beta as operands, as in fp64.")] = None,
    precondition: Annotated[
        str | None, typer.Option(help="Datapath of the preconditioner's application; default: as spmv.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Format that the matrix is stored in, or gse<bits>, whose numbers share exponents; default: spmv's"
            " first operand."
        ),
    ] = None,
    solution_update: Annotated[
        str | None,
        typer.Option("--solution", help="Datapath of x's update, as in fp32/fp64; default: as axpy."),
    ] = None,
    factors: Annotated[
        str | None, typer.Option(help="Format that the preconditioner is stored in; default: its first operand.")
    ] = None,
    preconditioner: Annotated[
        str, typer.Option(help="none, jacobi, block-jacobi[:SIZE], ic0 or ssor[:OMEGA], built in fp64.")
    ] = "none",
    policy: Annotated[
        str,
        typer.Option(
            help="Which precision an iteration is done in: fixed (the datapaths), rule, stepped, random, adaptive (by"
            " magnitude of the matrix's entries), room (more bits the less n / sqrt(condition number)), agent (a"
            " trained one), or the file of an agent of yours (.json)."
        ),
    ] = "fixed",
    scaled: Annotated[
        bool, typer.Option("--scaled", help="Scale the diagonal by powers of two, and vectors into narrow formats.")
    ] = False,
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Store the matrix, and multiply by it, in the narrowest of bf16, fp16, tf32 and fp32 that has all of"
            " its entries, if one has: the same bits, at less cost.",
        ),
    ] = False,
    flexible: Annotated[bool, typer.Option("--flexible", help="Flexible CG, for what changes or is rough.")] = False,
    safeguard: Annotated[
        bool | None,
        typer.Option(
            "--safeguard/--no-safeguard", help="Raise precision where progress fails; default: unless it is fixed."
        ),
    ] = None,
    refine: Annotated[
        float | None,
        typer.Option(help="Iterative refinement: solve corrections down to this residual, update in fp64; say 0.1."),
    ] = None,
    tol: Annotated[float, typer.Option(help="Residual to reach, relative to ||b||; b is a random unit vector.")] = 1e-8,
    max_iterations: Annotated[int | None, typer.Option(help="Default: 10 n, at most 20,000.", min=1)] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Iterations without progress that count as stagnation; default 5 n, at least 1,000.", min=1),
    ] = None,
    side: Annotated[int, typer.Option(help="Points a side of the Poisson grid.")] = 32,
    train_agent: Annotated[
        Path | None,
        typer.Option(help="Train an agent instead, on --train-on, and write it to this .json; gone on with, if there."),
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="Solves to train on; default 500.", min=1)] = None,
    train_on: Annotated[
        list[str] | None,
        typer.Option(
            help="A problem to train on, or a folder of matrices; may be repeated. Default: the training part of all"
            " families."
        ),
    ] = None,
    matrices: Annotated[
        Path | None,
        typer.Option(help="A folder of Matrix Market files; the training part of these is trained on, too."),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(
            help="A precision that an agent may choose, SPMV;DOT;AXPY;PRECONDITION[;own[;SOLUTION]]; may be"
            " repeated, the cheapest first. The last is fp64, and added where it is not."
        ),
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="What an agent saves: energy (default), bits (moved) or time.")
    ] = None,
    cost_weight: Annotated[
        float | None, typer.Option(help="What a whole solve in fp64 costs, where its progress counts 1; default 1.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="To train in; they change no bit. Default: one a core.", min=1)
    ] = None,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for record.json.")] = None,
    observe_every: Annotated[
        int, typer.Option(help="Count events in inner products in one of so many iterations, slowly; 0: none.", min=0)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Solve A x = b by conjugate gradients on emulated arithmetic."""
    from . import cli_agent
    from .reports import experiments
    from .solvers import cg, policies, preconditioners, problems
    from .solvers.agent import QPolicy

    lessons: dict[str, Any] = {"episodes": episodes, "train_on": train_on, "cost": cost, "cost_weight": cost_weight}
    lessons |= {"processes": processes, "matrices": matrices, "action": action}
    if train_agent is not None:
        checked_technology(node)
        how = {"tol": tol, "scaled": scaled, "lossless": lossless, "preconditioner": preconditioner, "seed": seed}
        return cli_agent.train(train_agent, node, lessons, how)
    for option, value in lessons.items():
        if value is not None:
            raise HalfulpError(f"--{option.replace('_', '-')} belongs to --train-agent.")
    formats = {"storage": storage, "factors": factors, "solution": solution_update}
    precision = cg.CGPrecision.of(spmv, dot, axpy, residual, scalars, precondition, **formats)
    chosen = policies.named(policy, precision, seed)
    how = {"scaled": scaled, "lossless": lossless, "flexible": flexible, "safeguard": safeguard}
    if observe_every and refine is not None:
        raise HalfulpError("--observe-every belongs to solves without --refine.")
    how |= {"observe_every": observe_every} if observe_every else {}
    wanted = preconditioners.Preconditioner.of(preconditioner)
    checked_technology(node)
    folder(out_dir)
    system = problems.load(problem, side, seed)
    title = f"{system.name}: n = {system.matrix.shape[0]:,}, nnz = {system.matrix.nnz:,}"
    with err.status(Text(title)) as status:
        record, solution = experiments.solve(
            system.name,
            system,
            precision,
            tol,
            max_iterations,
            patience,
            (seed, backend, threads),
            node,
            lambda k, r: status.update(Text(f"{system.name}: iteration {k}, true residual {r:.2e}")),
            chosen,
            refine,
            preconditioner=wanted,
            **how,
        )
    if solution.status is cg.Status.INDEFINITE:
        raise HalfulpError(f"{problem} cannot be solved by CG: {solution.detail}.")
    save_record(record, out_dir)
    if as_json:
        print_json(json.loads(record.to_json()))
    else:
        out.print(title)
        out.print(f"  status         {solution.status.value}: {solution.detail}")
        out.print(f"  iterations     {solution.iterations}")
        where = f"iteration {solution.best}, the best" if solution.best < solution.iterations else "the last iteration"
        out.print(f"  true residual  {solution.true_residual:.3e}   ||b - A x|| / ||b|| in fp64, x from {where}")
        print_steps(solution)
        print_events(record)
        print_energy(record.energy)
        if isinstance(chosen, QPolicy) and chosen.agent.table:
            cli_agent.print_choices(chosen, solution, str(wanted) != "none")
            alone = cg.cg(
                system,
                "fp64",
                tol,
                max_iterations,
                patience,
                seed,
                backend,
                threads,
                preconditioner=wanted,
                scaled=scaled,
            )
            cli_agent.print_beside(record.energy["total_pj"], alone, node)
        if solution.best < solution.iterations:
            out.print(f"                 {joule(record.result['energy_to_best_pj'])} of it until that x was reached")
    if solution.status is not cg.Status.CONVERGED:
        raise typer.Exit(1)


def print_steps(solution: Any) -> None:
    """What a solve did besides iterating, if anything."""
    counts = Counter(step.precision.spmv.name for step in solution.history)
    if len(counts) > 1:
        out.print(f"  products in    {', '.join(f'{name} {n}' for name, n in counts.most_common())}")
    if solution.matrix_format is not None:
        out.print(f"  matrix         in {solution.matrix_format}, which has all of its entries")
    if solution.facts:
        out.print(f"  preconditioner {', '.join(f'{what} {n:g}' for what, n in solution.facts.items())}")
    noted = [(step.iteration, note) for step in solution.history for note in step.notes]
    for iteration, note in noted[:_NOTES]:
        out.print(f"  iteration {iteration:<5}{note}")
    if len(noted) > _NOTES:
        out.print(f"                 and {len(noted) - _NOTES} more notes: --json")


def print_events(record: Any) -> None:
    """What went on in inner products, if any were observed."""
    for what, counts in record.result["events"].items():
        told = ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)
        out.print(f"  events         {what}: {told}")


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
