"""The study behind ``halfulp solve-study``: precisions that agents chose, and others, on systems unseen in training."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from ..emulator.processes import sharing
from ..solvers.agent import ACTIONS, Agent, QPolicy, action
from ..solvers.cg import CGPrecision, PrecisionPolicy, Solution, Status
from ..solvers.costs import KINDS, Cost
from ..solvers.policies import ADAPTIVE, Fixed, Random, Room, Rule, Stepped
from ..solvers.problems import Problem, load
from ..solvers.safeguard import Safeguard
from ..solvers.splits import family_of, unseen
from . import experiments
from .record import Record, versions
from .study import code_digest

REFERENCE, ORACLE = "all fp64", "oracle"
#: Of an agent, before its cost weight; of a fixed precision that the oracle may choose, before its text.
AGENT, FIXED = "agent", "fixed "
_NOTES = 6  #: of the safeguard's, that a record keeps
_DECADES = 16
#: Of a solve's record, what is kept as it is.
_KEPT = "status detail iterations best_iteration true_residual condition matrix_format preconditioner events".split()  # noqa: SIM905


@dataclass(frozen=True)
class Contender:
    """One way to choose precisions."""

    label: str
    policy: PrecisionPolicy
    safeguard: bool = True
    inner_tol: float | None = None  #: of refinement; None: without it
    scaled: bool = True  #: if the study is
    lossless: bool = True  #: the matrix stored as in ``cg``

    def describe(self) -> dict[str, Any]:
        """JSON-able; an agent's table is told by its digest."""
        told = _policy(self.policy.describe())
        if isinstance(self.policy, QPolicy):
            told["digest"] = hashlib.sha256(self.policy.agent.to_json().encode()).hexdigest()[:16]
        how = {"safeguard": self.safeguard, "inner_tol": self.inner_tol, "scaled": self.scaled}
        return {"policy": told, "lossless": self.lossless} | how


#: fp16 products and fp32 vectors, from which corrections are made in fp64.
INNER = CGPrecision.of("fp16/fp32", "fp32", "fp32")


def contenders(seed: int, agents: Iterable[QPolicy] = (), actions: Sequence[str] = ACTIONS) -> tuple[Contender, ...]:
    """All of them, for a seed; the first is the reference. Of the fixed ones with a safeguard the oracle takes one."""
    known = list(agents)
    best = [p.agent.best_fixed for p in known[:1] if p.agent.best_fixed is not None]
    return (
        Contender(REFERENCE, Fixed("fp64"), safeguard=False, lossless=False),
        Contender("all fp64, not scaled", Fixed("fp64"), safeguard=False, scaled=False, lossless=False),
        Contender("all fp64, matrix lossless", Fixed("fp64"), safeguard=False),
        Contender("all fp32", Fixed("fp32"), safeguard=False),
        *(Contender(f"{AGENT}, cost weight {weight(p.agent):g}", p) for p in known),
        *(Contender("best fixed in training", Fixed(action(actions[i]))) for i in best),
        Contender("room, a rule by hand", Room()),
        Contender("rule", Rule()),
        Contender("stepped fp16, fp32, fp64", Stepped()),
        Contender("refinement, fp16 inside", Fixed(INNER), inner_tol=1e-2),
        Contender("adaptive spmv, by magnitude", Fixed(ADAPTIVE)),
        Contender("shared exponents, gse32", Fixed(CGPrecision.of("fp64", storage="gse32"))),
        Contender("random", Random([action(text) for text in actions], seed)),
        *(Contender(FIXED + text, Fixed(action(text))) for text in actions),
    )


def weight(agent: Agent) -> float:
    """What a cost weighs against progress in an agent's rewards."""
    return float(agent.told["cost_weight"])


class Job(NamedTuple):
    """One solve to be done: its record is that of ``run``."""

    study: SolverStudy
    seed: int
    system: str
    contender: Contender


@dataclass(frozen=True)
class SolverStudy:
    """What to run. Equal studies give equal records, bit for bit, on any number of processes.

    A seed has systems and agents of its own, and is that of right-hand sides of files and of all random numbers.
    """

    systems: dict[int, tuple[str, ...]]  #: by seed, names that ``problems.load`` opens; none was trained on
    agents: tuple[Path, ...] = ()  #: files; each counts for the seed that it was trained with
    cost: Cost = field(default_factory=Cost)  #: what the oracle looks at
    tol: float = 1e-8
    scaled: bool = True
    preconditioner: str = "none"
    max_iterations: int | None = None
    observe_every: int = 0  #: as in ``cg``
    longest: int | None = None  #: iterations of the reference, more than which leave a system to it alone

    def __post_init__(self) -> None:
        for seed in self.systems:
            labels = [contender.label for contender in self.contenders(seed)]
            if twice := [label for label in labels if labels.count(label) > 1]:
                raise HalfulpError(f"two agents of seed {seed} are '{twice[0]}': give each once.")

    def policies(self, seed: int) -> list[QPolicy]:
        """The agents of a seed, each a policy."""
        read = [QPolicy(_agent(path, path.stat().st_mtime_ns), path.name) for path in self.agents]
        return [policy for policy in read if _lessons(policy.agent).get("seed") == seed]

    def contenders(self, seed: int) -> tuple[Contender, ...]:
        policies = self.policies(seed)
        return contenders(seed, policies, policies[0].agent.actions if policies else ACTIONS)

    def jobs(self, references: bool) -> list[Job]:
        """In order: of the reference, or of all others."""
        return [
            Job(self, seed, system, contender)
            for seed, systems in self.systems.items()
            for contender in self.contenders(seed)
            if (contender.label == REFERENCE) is references
            for system in systems
        ]

    def run(
        self, folder: Path, processes: int = 1, progress: Callable[[int, int, str], None] = lambda done, all, what: None
    ) -> list[Record]:
        """All records, in order: of the reference, and of all others on systems that the reference solves (in time).

        Each is kept in ``folder / "records"`` when it is finished, and not done again.
        """
        with sharing(processes) as do:
            first, others = self.jobs(references=True), self.jobs(references=False)
            records = _collected(do, first, folder, progress, len(first) + len(others))
            solved = {(r.seed, r.input["system"]) for r in records if self.is_in_time(r)}
            others = [job for job in others if (job.seed, job.system) in solved]
            return records + _collected(do, others, folder, progress, len(first) + len(others), len(first))

    def is_in_time(self, reference: Record) -> bool:
        """Whether others try what a record of the reference is of."""
        done = reference.result["status"] == Status.CONVERGED.value
        return done and (self.longest is None or reference.result["iterations"] <= self.longest)


def _collected(
    do: Callable[..., Iterable[Record]],
    jobs: list[Job],
    folder: Path,
    progress: Callable[[int, int, str], None],
    total: int,
    before: int = 0,
) -> list[Record]:
    records = []
    for job, record in zip(jobs, do(finished, jobs, [folder / "records"] * len(jobs)), strict=True):
        records.append(record)
        progress(before + len(records), total, f"{job.contender.label}: {job.system}")
    return records


# ---- one record -----------------------------------------------------------------------------------------------------


def finished(job: Job, folder: Path) -> Record:
    """A job's record, from ``folder`` or made now."""
    given = {"contender": job.contender.describe(), "label": job.contender.label, **_given(job)}
    text = json.dumps([given, versions(), code_digest("emulator", "kernels", "solvers")], sort_keys=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, HalfulpError):  # not there, or damaged
        record = run(job)
        write_atomically(path, record.to_json() + "\n")
        return record


def _given(job: Job) -> dict[str, Any]:
    study = job.study
    how = {"tol": study.tol, "scaled": study.scaled, "preconditioner": study.preconditioner, "cost": asdict(study.cost)}
    how |= {"max_iterations": study.max_iterations, "observe_every": study.observe_every}
    return {"system": job.system, "seed": job.seed, **how}


def run(job: Job) -> Record:
    """Solve a system as a contender does; histories are summed up."""
    study, contender = job.study, job.contender
    policy, problem = copy.deepcopy(contender.policy), _opened(job.system, job.seed)
    precision = policy.precision if isinstance(policy, Fixed) else CGPrecision.of("fp64")
    how: dict[str, Any] = {"preconditioner": study.preconditioner, "scaled": study.scaled and contender.scaled}
    how |= {"lossless": contender.lossless}
    how |= {"safeguard": contender.safeguard, "policy": policy, "inner_tol": contender.inner_tol}
    how |= {"observe_every": study.observe_every} if contender.inner_tol is None else {}  # refinement does not
    limits, where = (study.tol, study.max_iterations, None), (job.seed, "cpu", 1)
    record, solution = experiments.solve(contender.label, problem, precision, *limits, where, study.cost.node, **how)
    result = {name: record.result[name] for name in _KEPT} | _summary(record, solution, study.cost.node)
    if isinstance(policy, QPolicy) and policy.agent.table:
        result |= {"decisions": len(policy.decisions), "fell_back": sum(d.fell_back for d in policy.decisions)}
    known = [name for agent in study.policies(job.seed) for name in _lessons(agent.agent).get("problems", ())]
    told: dict[str, Any] = {"system": job.system, "family": family_of(job.system), "cost": study.cost.kind}
    told |= {"unseen": unseen(job.system, known) if known else "-"}
    told |= {"safeguard": asdict(Safeguard()) if contender.safeguard else None}
    told |= {"policy": _policy(record.input["policy"]), "observe_every": study.observe_every}
    return replace(record, input=record.input | told, result=result)


def _summary(record: Record, solution: Solution, node: str) -> dict[str, Any]:
    """What a report tells of a solve, without its histories."""
    notes, signs = record.result["notes"], record.result["signs"]
    return {
        "costs": {kind: Cost(kind, node).of(solution.ledger) for kind in KINDS},
        "choices": choices(solution, record.input["preconditioner"] != "none"),
        "rejected": len(record.result["steps_rejected"]),
        "notes": notes[:_NOTES],
        "notes_in_all": len(notes),
        "signs": dict(sorted(Counter(f"{what} {sign}" for _, what, sign in signs).items())),
    }


def choices(solution: Solution, preconditioned: bool = False) -> dict[str, dict[str, dict[str, int]]]:
    """Iterations by the decade of the residual before them, by kind of operation, by datapath.

    As in an agent's states, "1e-1" is of residuals from 0.1 down to 0.01.
    """
    found: dict[str, dict[str, Counter[str]]] = {}
    for before, step in zip(solution.residuals, solution.history, strict=False):
        precision = step.precision
        of = {"spmv": precision.spmv, "dot": precision.dot, "axpy": precision.axpy, "solution": precision.of_solution}
        of |= {"precondition": precision.of_factors} if preconditioned else {}
        decade = found.setdefault(_decade(before), {part: Counter() for part in of})
        for part, datapath in of.items():
            decade[part][datapath.name] += 1
    return {decade: {part: dict(n) for part, n in parts.items()} for decade, parts in found.items()}


def _decade(residual: float) -> str:
    for decade in range(_DECADES):
        if residual > 10.0 ** -(decade + 1):
            return f"1e-{decade}"
    return f"1e-{_DECADES}"


def _policy(described: dict[str, Any]) -> dict[str, Any]:
    """Without the names of all problems that an agent was trained on, whose number is told."""
    trained = described.get("trained")
    if not trained or "lessons" not in trained:
        return described
    lessons = trained["lessons"] | {"problems": len(trained["lessons"]["problems"])}
    return described | {"trained": trained | {"lessons": lessons}}


@lru_cache(maxsize=4)
def _opened(system: str, seed: int) -> Problem:
    return load(system, seed=seed)


@lru_cache(maxsize=256)
def _agent(path: Path, written: int) -> Agent:
    return Agent.read(path)


def _lessons(agent: Agent) -> dict[str, Any]:
    return agent.trained.get("lessons", {})


# ---- which systems --------------------------------------------------------------------------------------------------


def chosen(names: Sequence[str], seen: Sequence[str] = (), per_family: int = 4) -> tuple[str, ...]:
    """Of these systems at most so many of a family, without those that were ``seen`` in training after all."""
    counts, found = Counter[str](), []
    for name in names:
        own = family_of(name)
        if counts[own] < per_family and unseen(name, seen) is not None:
            counts[own] += 1
            found.append(name)
    return tuple(found)
