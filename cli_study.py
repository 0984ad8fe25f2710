"""``halfulp solve-study``: what agents and other policies save on systems that they have not seen."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from .cli_agent import TOL
from .cli_runs import checked_technology
from .console import Node, Seed, folder, given_of, out, progress, refuse, table
from .emulator.errors import HalfulpError

_SEEDS, _EPISODES = 5, 500
#: ``--quick``: what the options are by default, and a few small systems of each seed to train and to test on.
_QUICK_SEEDS, _QUICK_EPISODES = 2, 8
_QUICK_TRAIN = ("random:60:density=0.1:beta=1:seed=1{}", "poisson:8:seed=1{}")
_QUICK_TEST = ("random:70:density=0.1:beta=1:seed=2{}", "graph:60:beta=1:seed=2{}")


class Plan(NamedTuple):
    """Of a seed: what agents are trained on, and what they are tested on."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def solve_study(
    ctx: typer.Context,
    agent: Annotated[
        list[Path] | None,
        typer.Option(
            help="An agent's file, may be repeated, of any seeds and cost weights; default: they are trained."
        ),
    ] = None,
    matrices: Annotated[
        Path | None, typer.Option(help="A folder of Matrix Market files to train and to test on, too.")
    ] = None,
    largest: Annotated[int, typer.Option(help="Files of more unknowns are left out.", min=1)] = 5000,
    seeds: Annotated[
        int | None, typer.Option(help="Splits, each with an agent trained on it; default 5; of --agent: theirs.", min=1)
    ] = None,
    drawn: Annotated[int, typer.Option(help="Systems drawn of a family; of most, a quarter is for tests.", min=2)] = 20,
    per_family: Annotated[int, typer.Option(help="Systems of a family that a seed is tested on, at most.", min=1)] = 4,
    longest: Annotated[
        int | None, typer.Option(help="Systems are left out that take all fp64 more iterations; default: none.", min=1)
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(help="Solves that an agent is trained on; default 500.", min=1)
    ] = None,
    cost: Annotated[
        str, typer.Option(help="What agents save, and the oracle: energy, bits (moved) or time.")
    ] = "energy",
    cost_weight: Annotated[
        list[float] | None,
        typer.Option(
            help="Of agents to train, may be repeated for the trade-off; the first stands for all. Default 1."
        ),
    ] = None,
    tol: Annotated[
        float | None, typer.Option(help="Residual to reach, relative to ||b||; default 1e-8, of --agent: theirs.")
    ] = None,
    preconditioner: Annotated[
        str | None,
        typer.Option(
            help="none, jacobi, block-jacobi[:SIZE], ic0 or ssor[:OMEGA], built in fp64; default none, of --agent:"
            " theirs."
        ),
    ] = None,
    observe_every: Annotated[
        int, typer.Option(help="Observe inner products in one of so many iterations, slowly; 0: in none.", min=0)
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small systems and few episodes: shows that it works.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="They change no bit. Default: one a core; --quick: one.", min=1)
    ] = None,
    node: Node = "45nm",
    seed: Seed = 0,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("solve-study"),
) -> None:
    """Compare precisions that agents choose with all fp64, rules, an oracle... on systems unseen in training; a report.

    Interrupted, it goes on where it was when started again with the same options.
    """
    from .reports import solver_page, solver_study, solver_table
    from .solvers.costs import Cost
    from .solvers.preconditioners import Preconditioner

    if quick:
        refuse(
            given_of(ctx) & {"matrices", "largest", "drawn", "per_family", "longest"},
            "is not of --quick, whose few systems are its own",
        )
    checked_technology(node)
    priced, weights = Cost(cost, node), cost_weight or [1.0]
    if any(not 0.0 <= weight < float("inf") for weight in weights):
        raise HalfulpError("--cost-weight must be 0 or more.")
    if agent:
        own = {"episodes", "cost_weight", "seeds", "seed"}
        refuse(given_of(ctx) & own, "is of agents that are trained here, not of --agent")
    lessons = _lessons_of(agent or [])
    asked = {"tol": tol, "preconditioner": None if preconditioner is None else str(Preconditioner.of(preconditioner))}
    how = {
        name: _agreed(name, x, lessons, usual) for (name, x), usual in zip(asked.items(), (TOL, "none"), strict=True)
    }
    folder(out_dir)
    workers = processes or (1 if quick else os.cpu_count() or 1)
    numbers = (
        sorted({each["seed"] for each in lessons.values()})
        if agent
        else list(range(seed, seed + (seeds or (_QUICK_SEEDS if quick else _SEEDS))))
    )
    plans = {number: _quick(number) if quick else _plan(number, drawn, matrices, largest) for number in numbers}
    given = episodes or (_QUICK_EPISODES if quick else _EPISODES)
    files = tuple(agent or _trained(plans, weights, priced, given, workers, out_dir, how))
    work = solver_study.SolverStudy(
        _unseen(plans, files, per_family), files, priced, observe_every=observe_every, longest=longest, **how
    )
    with progress(time_left=True) as bar:
        task = bar.add_task("starting", total=None)
        records = work.run(
            out_dir, workers, lambda done, total, what: bar.update(task, description=what, completed=done, total=total)
        )
    written = solver_page.write(records, out_dir, _command())
    rows = solver_table.solves(records)
    summary = solver_table.policies(rows, cost)
    table(list(_shown(summary)), {key: key for key in next(_shown(summary))})
    out.print(solver_table.headline(summary, rows))
    out.print(f"Costs are estimates at {node}; their bases and sources are on the page.")
    out.print(f"Report: {written.resolve()}")


def _plan(seed: int, drawn: int, matrices: Path | None, largest: int) -> Plan:
    from .solvers import splits

    split = splits.split(seed, drawn, folder=matrices, largest=largest)
    return Plan(split.train, (*split.by_matrix, *split.by_family))


def _quick(seed: int) -> Plan:
    return Plan(tuple(x.format(seed) for x in _QUICK_TRAIN), tuple(x.format(seed) for x in _QUICK_TEST))


def _lessons_of(agents: list[Path]) -> dict[Path, dict[str, Any]]:
    """What each was trained for, as the study solves: scaled and losslessly stored."""
    from .solvers.agent import Agent

    lessons = {path: Agent.read(path).trained.get("lessons") for path in agents}
    for path, found in lessons.items():
        if found is None:
            raise HalfulpError(f"{path} does not say what it was trained on.")
        if not (found["scaled"] and found["lossless"]):
            raise HalfulpError(f"{path} was trained --no-scaled or --no-lossless; a study's solves are both.")
    return {path: found for path, found in lessons.items() if found is not None}


def _agreed(name: str, given: Any, lessons: dict[Path, dict[str, Any]], usual: Any) -> Any:
    """What is given, and of all agents; or the usual."""
    if not lessons:
        return usual if given is None else given
    first, wanted = next((path, found[name]) for path, found in lessons.items())
    for path, found in lessons.items():
        if found[name] != wanted:
            raise HalfulpError(f"{first} was trained for {name} {wanted}, {path} for {found[name]}: study them apart.")
    if given not in (None, wanted):
        raise HalfulpError(f"{first} was trained for {name} {wanted}, not for --{name} {given}: leave that out.")
    return wanted


def _trained(
    plans: dict[int, Plan],
    weights: list[float],
    cost: Any,
    episodes: int,
    workers: int,
    into: Path,
    how: dict[str, Any],
) -> Iterator[Path]:
    """Agents of each seed and weight, as files in ``into``; those that are there already are gone on with."""
    from .solvers import learning

    with progress() as bar:
        task = bar.add_task("training", total=episodes * len(plans) * len(weights))
        for number, weight in enumerate(weights):
            for seed, plan in plans.items():
                path = into / f"agent-{seed}-weight-{weight:g}.json"
                lessons = learning.Lessons(plan.train, cost, seed=seed, **how)
                before = (number * len(plans) + list(plans).index(seed)) * episodes

                def show(done: int, episode: Any, before: int = before, name: str = path.name) -> None:
                    bar.update(task, description=f"training {name}", completed=before + done)

                learning.train(lessons, episodes, path, workers, told={"cost_weight": weight}, progress=show)
                yield path


def _unseen(plans: dict[int, Plan], agents: tuple[Path, ...], per_family: int) -> dict[int, tuple[str, ...]]:
    """By seed, what none of its agents was trained on."""
    from .reports import solver_study
    from .solvers.agent import Agent

    lessons = [Agent.read(path).trained["lessons"] for path in agents]
    seen = {seed: [name for given in lessons if given["seed"] == seed for name in given["problems"]] for seed in plans}
    return {seed: solver_study.chosen(plan.test, seen[seed], per_family) for seed, plan in plans.items()}


def _command() -> str:
    return shlex.join(["halfulp", *sys.argv[1:]])


def _shown(summary: Any) -> Iterator[dict[str, str]]:
    def percent(x: float) -> str:
        return "-" if x != x else f"{x:.1%}"

    for _, r in summary.iterrows():
        yield {
            "policy": r["policy"],
            "solved": f"{r['solved']}/{r['systems']}",
            "energy saved": percent(r["energy_saving_median"]),
            "worst": percent(r["energy_saving_worst"]),
            "over 5 %": str(r["over"]),
            "of the oracle's": percent(r["share_of_oracle"]),
            "bits saved": percent(r["bits_saving_median"]),
            "time saved": percent(r["time_saving_median"]),
            "iterations": "-" if r["solved"] == 0 else f"{r['iterations_median']:.2f}",
            "unvisited": percent(r["fell_back"]),
        }
