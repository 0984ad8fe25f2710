"""Training of an agent over named problems: episodes of exploring solves, in batches that processes share.

All episodes of a batch ask the table as it was when the batch began, and are learnt from in their order, each drawn by
(seed, episode): the agent is the same on any number of processes. Its file is written after each batch and holds all
that there is to know, so that training which was killed goes on to the same bytes.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from .agent import ACTIONS, REWARDS, Agent, Decision, QPolicy, Transition
from .cg import Solution, Status, cg, usual_limit
from .costs import Cost
from .precision import CGPrecision, PrecisionPolicy
from .problems import Problem, load
from .safeguard import Safeguard
from .scaling import Scaling, holds
from .solution import Step

_DECISIONS, _PROBLEM = range(2)  #: what random numbers of an episode are for


@dataclass(frozen=True)
class Lessons:
    """What is trained on, and for what; the same lessons give the same agent."""

    problems: tuple[str, ...]  #: names that ``problems.load`` opens
    cost: Cost = field(default_factory=Cost)
    tol: float = 1e-8
    scaled: bool = True
    preconditioner: str = "none"
    seed: int = 0
    batch: int = 16  #: episodes that ask the same table

    def __post_init__(self) -> None:
        if not self.problems:
            raise HalfulpError("an agent needs problems to be trained on.")
        if self.batch < 1 or self.seed < 0:
            raise HalfulpError("a batch has at least one episode, and a seed is a whole number from 0 on.")

    def solve(
        self, problem: Problem, policy: PrecisionPolicy | CGPrecision | str, at_most: float = math.inf
    ) -> Solution:
        """As all episodes do it, on one thread; given up after ``at_most`` iterations."""
        how: dict[str, Any] = {"preconditioner": self.preconditioner, "scaled": self.scaled}
        usual = usual_limit(len(problem.rhs), True)
        if at_most < usual:  # the safeguard shares out the usual number
            how |= {"max_iterations": int(at_most), "safeguard": Safeguard(share=Safeguard.share * usual / at_most)}
        return cg(problem, policy, self.tol, threads=1, **how)

    def describe(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"problems": list(self.problems)}


class Explorer(QPolicy):
    """The agent's policy, but for the share ``epsilon`` of decisions, which are drawn: a solve's first action of all,
    a later one is that before or after the last in their order.
    """

    def __init__(self, agent: Agent, epsilon: float, rng: np.random.Generator) -> None:
        super().__init__(agent)
        self.epsilon, self.rng = epsilon, rng

    def _decide(self, iteration: int, state: str) -> Decision:
        count, last = len(self.agent.actions), self._standing
        if self.rng.random() < self.epsilon:
            low = self._lowest
            drawn = int(self.rng.integers(low, count)) if last is None else last.action + int(self.rng.choice([-1, 1]))
            drawn = min(max(drawn, low), count - 1)
            return Decision(iteration, state, drawn, False, True)
        return super()._decide(iteration, state)


class Constant(QPolicy):
    """One action from first to last."""

    def __init__(self, agent: Agent, action: int) -> None:
        super().__init__(agent)
        self.action = action

    def _decide(self, iteration: int, state: str) -> Decision:
        return Decision(iteration, state, self.action, False)


class Reference(NamedTuple):
    """A solve all in fp64."""

    cost: float
    iterations: int


class Descent(Constant):
    """Less precision by one action wherever the residual comes below another bound but the first."""

    def _decide(self, iteration: int, state: str) -> Decision:
        bounds = [f"<{bound:g}" for bound in self.agent.told["residuals"]]
        steps = max((bounds.index(word) for word in state.split() if word in bounds), default=0)
        return Decision(iteration, state, max(self.action - steps, self._lowest), False, True)


class Episode(NamedTuple):
    """What one brought."""

    problem: str
    fp64: Reference | None  #: the same solve all in fp64; None: it did not converge in time, and nothing is learnt
    first: tuple[Transition, ...]  #: of solves in each action, where the problem was new
    transitions: tuple[Transition, ...]
    reward: float  #: of all decisions
    cost: float  #: over that of fp64
    converged: bool


class Outcome(NamedTuple):
    """What each decision of a solve brought, before it is weighed."""

    decisions: tuple[Decision, ...]
    progress: tuple[float, ...]  #: by decision, of the true residual towards tol, as a share of all decades
    costs: tuple[float, ...]  #: by decision, over that of the same solve in fp64
    cost: float  #: of the solve, over that
    converged: bool


def play(agent: Agent, lessons: Lessons, number: int, known: dict[str, Any]) -> Episode:
    """Episode ``number``; ``known`` solves in fp64, by problem, are not done again."""
    draw = np.random.default_rng([lessons.seed, number, _PROBLEM])
    name = lessons.problems[int(draw.integers(len(lessons.problems)))]
    first: tuple[Transition, ...] = ()
    if name in known:
        fp64 = known[name] and Reference(*known[name])
    else:
        settings = {key: x for key, x in agent.told.items() if key not in REWARDS}
        fp64, outcomes = _tried(name, lessons, agent.actions, json.dumps(settings))
        first = tuple(t for outcome in outcomes for t in transitions_of(outcome, agent.told))
    if fp64 is None:
        return Episode(name, None, (), (), 0.0, math.nan, False)
    rng = np.random.default_rng([lessons.seed, number, _DECISIONS])
    policy = Explorer(agent, agent.told["explore"], rng)
    solution = lessons.solve(_opened(name, lessons.seed), policy, agent.told["give_up"] * fp64.iterations)
    outcome = outcome_of(policy.decisions, solution, lessons, fp64.cost)
    transitions = transitions_of(outcome, agent.told)
    reward = sum(t.reward for t in transitions)
    return Episode(name, fp64, first, transitions, reward, outcome.cost, outcome.converged)


@lru_cache(maxsize=64)
def _opened(name: str, seed: int) -> Problem:
    return load(name, seed=seed)


@lru_cache(maxsize=1024)
def _tried(
    name: str, lessons: Lessons, actions: tuple[str, ...], settings: str
) -> tuple[Reference | None, tuple[Outcome, ...]]:
    """A solve all in fp64, and what came of it, of solves all in each other action, and of descents from most of them,
    whatever rewards are.

    settings : those of an agent, without rewards, as JSON.
    """
    agent, problem = Agent(actions, json.loads(settings)), _opened(name, lessons.seed)
    matrix = Scaling.of(problem.matrix, problem.rhs).matrix if lessons.scaled else problem.matrix
    lowest = agent.lowest(partial(holds, matrix))
    fp64, limit = Reference(0.0, 0), agent.told["longest"] + 1.0
    outcomes: list[Outcome] = []
    trials = [Constant(agent, number) for number in reversed(range(lowest, len(actions)))]
    trials += [Descent(agent, number) for number in range(lowest + 1, len(actions) - 1)]
    for policy in trials:
        solution = lessons.solve(problem, policy, limit)
        if not outcomes:
            if solution.status is not Status.CONVERGED or solution.iterations > agent.told["longest"]:
                return None, ()
            fp64 = Reference(lessons.cost.of(solution.ledger), solution.iterations)
            limit = agent.told["give_up"] * fp64.iterations
        outcomes.append(outcome_of(policy.decisions, solution, lessons, fp64.cost))
    return fp64, tuple(outcomes)


def outcome_of(decisions: Sequence[Decision], solution: Solution, lessons: Lessons, fp64: float) -> Outcome:
    """That of decisions: of their iterations, and of those that the safeguard did on their account."""
    first = [decision.iteration for decision in decisions]
    progress, costs = [0.0] * len(decisions), [0.0] * len(decisions)
    priced: dict[int, float] = {}  # by ledger: steps alike share one
    before, place = 1.0, 0
    for step in solution.history if decisions else ():
        while place + 1 < len(first) and first[place + 1] <= step.iteration:
            place += 1
        if id(step.ledger) not in priced:
            priced[id(step.ledger)] = lessons.cost.of(step.ledger) / fp64
        costs[place] += priced[id(step.ledger)]
        progress[place] += _progress(before, step, lessons.tol)
        before = step.true_residual
    converged = solution.status is Status.CONVERGED
    return Outcome(tuple(decisions), tuple(progress), tuple(costs), lessons.cost.of(solution.ledger) / fp64, converged)


def transitions_of(outcome: Outcome, told: dict[str, Any]) -> tuple[Transition, ...]:
    """A decision's reward is its progress minus ``cost_weight`` times its cost; the last one's has the terminal term
    added, and ``regret`` for what the solve cost more than fp64's."""
    decisions = outcome.decisions
    rewards = [won - told["cost_weight"] * cost for won, cost in zip(outcome.progress, outcome.costs, strict=True)]
    if rewards:
        rewards[-1] += told["converged" if outcome.converged else "failed"]
        rewards[-1] -= told["regret"] * max(outcome.cost - 1.0, 0.0)
    following = [*(decision.state for decision in decisions[1:]), None]
    return tuple(
        Transition(d.state, d.action, r, f, d.explored) for d, r, f in zip(decisions, rewards, following, strict=False)
    )


def _progress(before: float, step: Step, tol: float) -> float:
    """Decades won on the way from 1 to tol, over all of them; nothing is won below tol, nor lost above 1."""
    low, high = (min(max(r, tol), 1.0) if math.isfinite(r) else 1.0 for r in (step.true_residual, before))
    return math.log10(high / low) / -math.log10(tol)


# ---- training -------------------------------------------------------------------------------------------------------


def train(
    lessons: Lessons,
    episodes: int,
    path: Path | None = None,
    workers: int = 1,
    actions: Sequence[str] = ACTIONS,
    told: dict[str, Any] | None = None,
    progress: Callable[[int, Episode], None] = lambda done, episode: None,
) -> Agent:
    """Train an agent, or go on with the one in ``path``, which is written after each batch.

    An agent goes on to more episodes than it was first given to the same bytes as in one go if ``episodes`` was a
    multiple of the batch.

    Parameters
    ----------
    workers : processes; they never change a bit. With more than one the caller's main module must be importable, as
        for all processes that Python spawns.
    told : other values of ``agent.ASSUMPTIONS``.

    Raises
    ------
    HalfulpError
        ``path`` is no agent, or one of other lessons.
    """
    if episodes < 1 or workers < 1:
        raise HalfulpError("training needs at least one episode, and one process.")
    agent = Agent(actions, told)
    agent.trained = {"lessons": lessons.describe(), "episodes": 0, "fp64": {}}
    if path is not None and path.exists():
        agent = _resumed(path, agent)
    with _pool(workers) as pool:
        while agent.trained["episodes"] < episodes:
            done = agent.trained["episodes"]
            numbers = range(done, min(done + lessons.batch, episodes))
            for number, episode in zip(numbers, _played(pool, agent, lessons, numbers), strict=True):
                if episode.problem not in agent.trained["fp64"]:  # once, though all of a batch found it
                    agent.trained["fp64"][episode.problem] = episode.fp64
                    agent.learn(episode.first)
                agent.learn(episode.transitions)
                agent.trained["episodes"] = number + 1
                progress(number + 1, episode)
            if path is not None:
                agent.write(path)
    return agent


def _played(pool: ProcessPoolExecutor | None, agent: Agent, lessons: Lessons, numbers: range) -> Iterable[Episode]:
    """All of them are done with the table as it is now."""
    known = dict(agent.trained["fp64"])
    given = [(agent, lessons, number, known) for number in numbers]
    if pool is None:
        return [play(*each) for each in given]
    return list(pool.map(play, *zip(*given, strict=True)))


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    if workers == 1:
        yield None
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _resumed(path: Path, wanted: Agent) -> Agent:
    """The agent of a file, if it has the same lessons."""
    found = Agent.read(path)
    given, kept = wanted.trained["lessons"], found.trained.get("lessons")
    if not isinstance(kept, dict) or not isinstance(found.trained.get("fp64"), dict):
        raise HalfulpError(f"{path} is an agent whose training cannot be gone on with.")
    different = [name for name in given if kept.get(name) != given[name]]
    different += ["actions"] * (found.actions != wanted.actions)
    different += [name for name in wanted.told if found.told.get(name) != wanted.told[name]]
    if different:
        raise HalfulpError(f"{path} is an agent of other lessons ({', '.join(different)} differ): train another file.")
    return found
