"""``halfulp solve --train-agent``, and what is told of a solve whose precisions an agent chose."""

from __future__ import annotations

import os
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import folder, out, progress
from .emulator.errors import HalfulpError
from .emulator.technology import Technology

if TYPE_CHECKING:
    from .solvers.agent import QPolicy
    from .solvers.cg import PrecisionPolicy, Solution

_EPISODES = 500
TOL = 1e-8  #: of solves, where nothing is said
_RECENT = 50  #: episodes that progress is told of


def train(path: Path, node: str, given: dict[str, Any], how: dict[str, Any]) -> None:
    """Trains an agent and says what it has learnt."""
    from .solvers import learning, problems, splits
    from .solvers.agent import ACTIONS, action
    from .solvers.costs import Cost

    episodes = given["episodes"] or _EPISODES
    weight = 1.0 if given["cost_weight"] is None else given["cost_weight"]
    if not 0.0 <= weight < float("inf"):
        raise HalfulpError(f"--cost-weight must be 0 or more, not {weight}.")
    if path.suffix.lower() != ".json":
        raise HalfulpError(f"--train-agent writes a .json, not {path}.")
    folder(path.parent, "--train-agent")
    if given["train_on"] and given["matrices"]:
        raise HalfulpError("--train-on names what is trained on, --matrices where to look for it: give one of them.")
    named = [name for given_name in given["train_on"] or () for name in _files(given_name)]
    names = tuple(named or splits.split(how["seed"], folder=given["matrices"]).train)
    actions = tuple(given["action"] or ACTIONS)
    actions += () if action(actions[-1]).is_fp64 else ("fp64",)
    for name in named:
        problems.load(name, seed=how["seed"])  # refused now rather than in the middle
    lessons = learning.Lessons(names, Cost(given["cost"] or "energy", node), **how)
    recent: deque[learning.Episode] = deque(maxlen=_RECENT)
    with progress() as bar:
        task = bar.add_task("starting", total=episodes)

        def show(done: int, episode: learning.Episode) -> None:
            recent.append(episode)
            told = [e for e in recent if e.fp64 is not None]
            spent = sum(e.cost for e in told) / max(len(told), 1)
            bar.update(task, description=f"{lessons.cost.kind} {spent:.2f} of fp64's", completed=done)

        processes = given["processes"] or (os.cpu_count() or 1)
        agent = learning.train(lessons, episodes, path, processes, actions, {"cost_weight": weight}, show)
    tried = sum(sum(row.visits) for row in agent.table.values())
    done, already = agent.trained["episodes"], "" if recent else ": it had them already, and is as it was"
    out.print(
        f"{path}: {done:,} episodes on {len(names)} problem{'s' * (len(names) > 1)}, seed {lessons.seed}{already}"
    )
    out.print(f"  states         {len(agent.table)} visited, {tried:,} decisions")
    left_out = [name for name, cost in agent.trained["fp64"].items() if cost is None]
    if left_out:
        out.print(f"  left out       {', '.join(left_out)}: not solved in fp64, or not in time")
    tol = "" if lessons.tol == TOL else f" --tol {lessons.tol:g}"
    out.print(f"  use it         halfulp solve NAME --policy {path}{tol}")


def _files(name: str) -> list[str]:
    """The Matrix Market files of a folder; another name by itself."""
    from .solvers import splits

    if not Path(name).is_dir():
        return [name]
    found = [str(file) for files in splits.groups(name).values() for file in files]
    if not found:
        raise HalfulpError(f"--train-on {name}: there is no Matrix Market file (.mtx, .mtx.gz) in this folder.")
    return found


def lessons_of(policy: PrecisionPolicy) -> dict[str, Any]:
    """What an agent was trained for; nothing of other policies."""
    from .solvers.agent import QPolicy

    return dict(policy.agent.trained.get("lessons", {})) if isinstance(policy, QPolicy) else {}


def print_lessons(system: str, lessons: dict[str, Any], how: dict[str, Any], tol: float, otherwise: list[str]) -> None:
    """What is as an agent was trained, and what is not.

    system : its name, as it was given. otherwise : options that no training knows.
    """
    from .solvers.splits import unseen

    alike = {name: lessons[name] == (x if isinstance(x, bool) else str(x)) for name, x in how.items()}
    told = [name for name in ("scaled", "lossless") if how[name]] + [f"preconditioner {how['preconditioner']}"]
    kept = ", ".join(told)
    same = all(alike.values()) and not otherwise
    out.print(f"  solved         {kept}{', as the agent was trained' if same else ''}")
    other = [f"{name} {lessons[name]}" for name, same in alike.items() if not same]
    other += [f"tol {lessons['tol']:g}"] * (lessons["tol"] != tol) + [f"no {option}" for option in otherwise]
    if other:
        out.print(f"  trained for    {', '.join(other)}: what it chooses may not suit")
    if unseen(system, lessons["problems"]) is None:
        out.print("  trained on     the matrix of this name, too: what is saved here says nothing of others")


def print_choices(policy: QPolicy, solution: Solution, preconditioned: bool) -> None:
    """How much of the way the agent knew, and how often each precision was chosen for each operation."""
    fallen = sum(decision.fell_back for decision in policy.decisions)
    known = f"{policy.coverage:.0%} of {len(policy.decisions)} decisions"
    out.print(f"  coverage       {known}; in unvisited states, which take fp64 or stay: {fallen}")
    steps = [step.precision for step in solution.history]
    for part in ("spmv", "dot", "axpy", "of_solution", *(["of_factors"] if preconditioned else [])):
        counts = Counter(getattr(precision, part).name for precision in steps)
        told = ", ".join(f"{name} {n}" for name, n in counts.most_common())
        out.print(f"  {part.replace('of_factors', 'precondition').removeprefix('of_'):<15}{told}")


def print_beside(energy_pj: float, alone: Solution, node: str, scaled: bool) -> None:
    """The energy beside that of the same solve all in fp64, scaled as this one."""
    fp64 = Technology(node).price(alone.ledger).total_pj
    share = f"; the energy is {energy_pj / fp64:.1%} of that solve's" if fp64 else ""
    how = "scaled, " if scaled else ""
    out.print(f"  all in fp64    {how}{alone.status.value} after {alone.iterations} iterations{share}")
