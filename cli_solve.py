"""``halfulp solve``: a system by conjugate gradients on emulated arithmetic, and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import cli_agent
from .cli_runs import Backend, Threads, checked_technology, joule, print_energy, save_record
from .console import Json, Node, Seed, err, folder, given_of, out, print_json, refuse
from .emulator.errors import HalfulpError

if TYPE_CHECKING:
    from .reports.record import Record
    from .solvers.cg import Solution

_NOTES = 8  #: that are printed of a solve

_TRAINING = ("episodes", "train_on", "matrices", "action", "cost", "cost_weight", "processes")
_DATAPATHS = ("spmv", "dot", "axpy", "residual", "scalars", "storage", "solution_update")
_FACTORS = ("precondition", "factors")
_COMMON = ("train_agent", "tol", "preconditioner", "scaled", "lossless", "node", "seed")  #: to training and solving
_LESSONS = {"scaled": False, "lossless": False, "preconditioner": "none"}  #: what agents are trained with, and else


def solve(
    ctx: typer.Context,
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
        str | None,
        typer.Option(
            help="none, jacobi, block-jacobi[:SIZE], ic0 or ssor[:OMEGA], built in fp64; default: what an agent was"
            " trained with, else none."
        ),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="Which precision an iteration is done in: fixed (the datapaths), rule, stepped, random, adaptive (by"
            " magnitude of the matrix's entries), room (more bits the less n / sqrt(condition number)), agent (a"
            " trained one), or the file of an agent of yours (.json)."
        ),
    ] = "fixed",
    scaled: Annotated[
        bool | None,
        typer.Option(
            "--scaled/--no-scaled",
            help="Scale the diagonal by powers of two, and vectors into narrow formats; default: as an agent was"
            " trained, which is scaled if nothing is said, else not.",
        ),
    ] = None,
    lossless: Annotated[
        bool | None,
        typer.Option(
            "--lossless/--no-lossless",
            help="Store the matrix, and multiply by it, in the narrowest of bf16, fp16, tf32 and fp32 that has all of"
            " its entries, if one has: the same bits, at less cost; default: as with --scaled.",
        ),
    ] = None,
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
    tol: Annotated[float, typer.Option(help="Residual to reach, relative to ||b||.")] = cli_agent.TOL,
    rhs: Annotated[
        Path | None,
        typer.Option(help="b, a Matrix Market file of one column (.mtx, .mtx.gz); default: a random unit vector."),
    ] = None,
    max_iterations: Annotated[
        int | None,
        typer.Option(help="Default: 10 n, at most 20,000; half as many more with a safeguard.", min=1),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Iterations without progress that count as stagnation; default 5 n, at least 1,000.", min=1),
    ] = None,
    side: Annotated[int, typer.Option(help="Points a side of the grid of 'poisson'.")] = 32,
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
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for record.json, and x.mtx, x.")] = None,
    observe_every: Annotated[
        int, typer.Option(help="Count events in inner products in one of so many iterations, slowly; 0: none.", min=0)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Solve A x = b by conjugate gradients on emulated arithmetic."""
    from .reports import experiments
    from .solvers import cg, matrix_files, policies, preconditioners, problems
    from .solvers.agent import QPolicy

    given = given_of(ctx)
    if train_agent is not None:
        refuse(given - {*_TRAINING, *_COMMON}, "is of solves, not of --train-agent")
        checked_technology(node)
        lessons = {name: ctx.params[name] for name in _TRAINING}
        how = {name: ctx.params[name] for name in _LESSONS if ctx.params[name] is not None}
        return cli_agent.train(train_agent, node, lessons, {"tol": tol, "seed": seed} | how)
    refuse(given & set(_TRAINING), "belongs to --train-agent")
    formats = {"storage": storage, "factors": factors, "solution": solution_update}
    precision = cg.CGPrecision.of(spmv, dot, axpy, residual, scalars, precondition, **formats)
    chosen = policies.named(policy, precision, seed)
    if policy != "fixed":
        refuse(given & {*_DATAPATHS, *_FACTORS}, f"is of --policy fixed: {policy} has precisions of its own")
    if problem.lower() != "poisson":
        refuse(given & {"side"}, "is of 'poisson'; the size of a family's member is in its name, as in jump:32")
    if observe_every and refine is not None:
        raise HalfulpError("--observe-every belongs to solves without --refine.")
    if lossless and storage is not None:
        raise HalfulpError("--lossless leaves the matrix in the format that --storage names: give one of them.")
    lessons = cli_agent.lessons_of(chosen)
    how = {
        name: lessons.get(name, usual) if ctx.params[name] is None else ctx.params[name]
        for name, usual in _LESSONS.items()
    }
    how["preconditioner"] = wanted = preconditioners.Preconditioner.of(how["preconditioner"])
    if str(wanted) == "none":
        refuse(given & set(_FACTORS), "is of a --preconditioner")
    checked_technology(node)
    folder(out_dir)
    system = problems.load(problem, side, seed)
    if rhs is not None:
        system = system._replace(rhs=matrix_files.column(rhs, len(system.rhs)), name=f"{system.name}, b of {rhs.name}")
    title = f"{system.name}: n = {system.matrix.shape[0]:,}, nnz = {system.matrix.nnz:,}"
    where, observed = (seed, backend, threads), {"observe_every": observe_every} if observe_every else {}
    with err.status(Text(title)) as status:
        record, solution = experiments.solve(
            system.name,
            system,
            precision,
            tol,
            max_iterations,
            patience,
            where,
            node,
            lambda k, r: status.update(Text(f"{system.name}: iteration {k}, true residual {r:.2e}")),
            chosen,
            refine,
            flexible=flexible,
            safeguard=safeguard,
            **how,
            **observed,
        )
    if solution.status is cg.Status.INDEFINITE:
        raise HalfulpError(f"{problem} cannot be solved by CG: {solution.detail}.")
    save_record(record, out_dir)
    if out_dir is not None:
        matrix_files.write_column(out_dir / "x.mtx", solution.x)
    if as_json:
        print_json(json.loads(record.to_json()))
    else:
        out.print(title)
        _print_solution(solution, record, node)
        if isinstance(chosen, QPolicy) and lessons:
            otherwise = {"--refine": refine is not None, "--no-safeguard": safeguard is False, "--flexible": flexible}
            unknown = [name for name, given in otherwise.items() if given]
            asked = f"poisson:{side}" if problem.lower() == "poisson" else problem
            cli_agent.print_lessons(asked, lessons, how, tol, unknown)
            cli_agent.print_choices(chosen, solution, str(wanted) != "none")
            if solution.status is cg.Status.CONVERGED:
                alike = {"preconditioner": wanted, "scaled": how["scaled"]}
                alone = cg.cg(system, "fp64", tol, max_iterations, patience, *where, **alike)
                cli_agent.print_beside(record.energy["total_pj"], alone, node, how["scaled"])
    if solution.status is not cg.Status.CONVERGED:
        raise typer.Exit(1)


def _print_solution(solution: Solution, record: Record, node: str) -> None:
    from .solvers.costs import Cost

    out.print(f"  status         {solution.status.value}: {solution.detail}")
    out.print(f"  iterations     {solution.iterations}")
    where = f"iteration {solution.best}, the best" if solution.best < solution.iterations else "the last iteration"
    out.print(f"  true residual  {solution.true_residual:.3e}   ||b - A x|| / ||b|| in fp64, x from {where}")
    _print_steps(solution)
    _print_events(record)
    print_energy(record.energy)
    if solution.best < solution.iterations:
        out.print(f"                 {joule(record.result['energy_to_best_pj'])} of it until that x was reached")
    bits, time = (Cost(kind, node).of(solution.ledger) for kind in ("bits", "time"))
    out.print(f"  bits moved     {bits:.4g}")
    out.print(f"  time           {time:.4g} operations on 64 bits (a model: arithmetic or memory, whichever is longer)")


def _print_steps(solution: Solution) -> None:
    """What a solve did besides iterating, if anything."""
    counts = Counter(step.precision.spmv.name for step in solution.history)
    if len(counts) > 1:
        out.print(f"  products in    {', '.join(f'{name} {n}' for name, n in counts.most_common())}")
    if solution.matrix_format is not None:
        out.print(f"  matrix         in {solution.matrix_format}, which has all of its entries")
    if solution.facts:
        out.print(f"  preconditioner {', '.join(f'{what} {n:g}' for what, n in solution.facts.items())}")
    shown = Counter((what, sign) for step in solution.history for what, sign in step.signs.items())
    if shown:
        told = (f"{what} {sign} in {n} iteration{'s' * (n > 1)}" for (what, sign), n in sorted(shown.items()))
        out.print(f"  signs          {'; '.join(told)}")
    noted = [(step.iteration, note) for step in solution.history for note in step.notes]
    for iteration, note in noted[:_NOTES]:
        out.print(f"  iteration {iteration:<5}{note}")
    if len(noted) > _NOTES:
        out.print(f"                 and {len(noted) - _NOTES} more notes: --json")


def _print_events(record: Record) -> None:
    """What went on in inner products, if any were observed."""
    for what, counts in record.result["events"].items():
        told = ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)
        out.print(f"  events         {what}: {told}")
