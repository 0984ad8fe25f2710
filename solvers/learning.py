"""Training of an agent over named problems: episodes of exploring solves, in batches that processes share.

All episodes of a batch ask the table as it was when the batch began, and are learnt from in their order, each drawn by
(seed, episode): the agent is the same on any number of processes. Its file is written after each batch and holds all
that there is to know, so that training which was killed goes on to the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.processes import sharing
from .agent import ACTIONS, Agent, Decision, QPolicy, Transition
from .assumptions import REWARDS
from .cg import Solution, Status, cg, usual_limit
from .costs import Cost
from .precision import CGPrecision, PrecisionPolicy
from .preconditioners import Preconditioner
from .problems import Problem, load
from .safeguard import Safeguard

_DECISIONS, _PROBLEM = range(2)  #: what random numbers of an episode are for
_MARKS = 4  #: a decade, where it is marked how far fp64 is


@dataclass(frozen=True)
class Lessons:
    """What is trained on, and for what; the same lessons give the same agent."""

    problems: tuple[str, ...]  #: names that ``problems.load`` opens
    cost: Cost = field(default_factory=Cost)
    tol: float = 1e-8
    scaled: bool = True
    lossless: bool = True
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
        how: dict[str, Any] = {
            "preconditioner": self.preconditioner,
            "scaled": self.scaled,
            "lossless": self.lossless,
        }
        usual = usual_limit(len(problem.rhs), True)
        if at_most < usual:  # the safeguard shares out the usual number
            how["max_iterations"] = int(at_most)
            if isinstance(policy, PrecisionPolicy):
                how["safeguard"] = Safeguard(share=Safeguard.share * usual / at_most)
        return cg(problem, policy, self.tol, threads=1, **how)

    def describe(self) -> dict[str, Any]:
        """JSON-able; a preconditioner is named in full."""
        named = {"problems": list(self.problems), "preconditioner": str(Preconditioner.of(self.preconditioner))}
        return asdict(self) | named


class Explorer(QPolicy):
    """The agent's policy, but for the share ``epsilon`` of decisions, which are drawn: a solve's first action of all,
    a later one that before or after the last in their order.
    """

    def __init__(self, agent: Agent, epsilon: float, rng: np.random.Generator) -> None:
        super().__init__(agent)
        self.epsilon, self.rng = epsilon, rng

    def _decide(self, iteration: int, state: str, before: int | None, allowed: range, rule: int) -> Decision:
        last = self._standing
        if self.rng.random() < self.epsilon:
            drawn = int(self.rng.choice(allowed)) if last is None else last.action + int(self.rng.choice([-1, 1]))
            return Decision(iteration, state, min(max(drawn, allowed[0]), allowed[-1]), False, explored=True)
        return super()._decide(iteration, state, before, allowed, rule)


class Course(QPolicy):
    """Actions set before: ``action`` all the way, or ``shift`` off what the rule asks for, or the rule's but for a
    decision, by its ``number``, which is ``other``."""

    def __init__(
        self, agent: Agent, action: int | None = None, shift: int = 0, number: int | None = None, other: int = 0
    ) -> None:
        super().__init__(agent)
        self.action, self.shift, self.number, self.other = action, shift, number, other

    def _decide(self, iteration: int, state: str, before: int | None, allowed: range, rule: int) -> Decision:
        if len(self.decisions) == self.number:
            wanted = self.other
        elif self.action is not None:
            wanted = self.action
        else:
            wanted = self._asked + self.shift if self.shift else rule
        chosen = min(max(wanted, allowed[0]), allowed[-1])
        return Decision(iteration, state, chosen, False, explored=chosen != rule)


class Reference(NamedTuple):
    """A solve all in fp64."""

    cost: float
    iterations: int
    marks: tuple[int, ...]  #: iterations after which its least residual was 1, 10^(-1/4), 10^(-1/2), ... and tol


class Episode(NamedTuple):
    """What one brought."""

    problem: str
    fp64: Reference | None  #: the same solve all in fp64; None: it did not converge in time, and nothing is learnt
    first: tuple[Transition, ...]  #: of solves in each action, and others, where the problem was new
    tried: tuple[float, ...]  #: cost of each action all the way, over that of fp64, where the problem was new
    transitions: tuple[Transition, ...]
    reward: float  #: of all decisions
    rule: float  #: of all that the rule takes
    cost: float  #: over that of fp64
    converged: bool


class Outcome(NamedTuple):
    """What each decision of a solve brought, before it is weighed."""

    decisions: tuple[Decision, ...]
    progress: tuple[float, ...]  #: by decision, of the least true residual, as a share of fp64's iterations until then
    costs: tuple[float, ...]  #: by decision, over that of the same solve in fp64
    iterations: tuple[float, ...]  #: and these
    cost: float  #: of the solve, over that
    converged: bool


def play(agent: Agent, lessons: Lessons, number: int, known: dict[str, Any], rules: dict[str, float]) -> Episode:
    """Episode ``number``; ``known`` solves in fp64, by problem, are not done again, nor what the ``rules`` brought."""
    round_, place = divmod(number, len(lessons.problems))  # each problem comes once in a round
    draw = np.random.default_rng([lessons.seed, round_, _PROBLEM])
    name = lessons.problems[int(draw.permutation(len(lessons.problems))[place])]
    first: tuple[Transition, ...] = ()
    tried: tuple[float, ...] = ()
    if name in known:
        fp64 = known[name] and Reference(known[name][0], known[name][1], tuple(known[name][2]))
        rule = rules.get(name, 0.0)
    else:
        settings = {key: x for key, x in agent.told.items() if key not in REWARDS}
        fp64, constant, ruled, others = _tried(name, lessons, agent.actions, json.dumps(settings))
        rule = 0.0 if ruled is None else sum(rewards_of(ruled, agent.told))
        first = tuple(t for outcome in others for t in transitions_of(outcome, agent.told, rule))
        tried = tuple(outcome.cost + (not outcome.converged) for outcome in constant)  # it would be done anew in fp64
    if fp64 is None:
        return Episode(name, None, (), (), (), 0.0, 0.0, math.nan, False)
    rng = np.random.default_rng([lessons.seed, number, _DECISIONS])
    policy = Explorer(agent, agent.told["explore"], rng)
    solution = lessons.solve(_opened(name, lessons.seed), policy, agent.told["give_up"] * fp64.iterations)
    outcome = outcome_of(policy.decisions, solution, lessons, fp64)
    transitions, reward = transitions_of(outcome, agent.told, rule), sum(rewards_of(outcome, agent.told))
    return Episode(name, fp64, first, tried, transitions, reward, rule, outcome.cost, outcome.converged)


@lru_cache(maxsize=64)
def _opened(name: str, seed: int) -> Problem:
    return load(name, seed=seed)


@lru_cache(maxsize=1024)
def _tried(
    name: str, lessons: Lessons, actions: tuple[str, ...], settings: str
) -> tuple[Reference | None, list[Outcome], Outcome | None, list[Outcome]]:
    """A solve all in fp64, what came of each action all the way, of the rule, and of all ``_courses``, each outcome
    once, whatever rewards are.

    settings : those of an agent, without rewards, as JSON.
    """
    agent, problem = Agent(actions, json.loads(settings)), _opened(name, lessons.seed)
    fp64, last = lessons.solve(problem, "fp64", agent.told["longest"] + 1.0), len(actions)
    if fp64.status is not Status.CONVERGED or fp64.iterations > agent.told["longest"]:
        return None, [], None, []
    first = Reference(lessons.cost.of(fp64.ledger), fp64.iterations, _marks(fp64, lessons.tol))
    outcomes: list[Outcome] = []
    for policy in _courses(agent):
        solution = lessons.solve(problem, policy, agent.told["give_up"] * fp64.iterations)
        outcomes.append(outcome_of(policy.decisions, solution, lessons, first))
    once = [outcome for i, outcome in enumerate(outcomes) if outcome not in outcomes[:i]]
    return first, outcomes[:last], outcomes[last], once


def _courses(agent: Agent) -> list[Course]:
    """Each action all the way; the rule's, and a step more or less; and any other for a first or a second decision."""
    actions = range(len(agent.actions))
    constant = [Course(agent, i) for i in actions]
    shifted = [Course(agent, shift=shift) for shift in (0, -1, 1)]
    return constant + shifted + [Course(agent, number=k, other=i) for k in (0, 1) for i in actions]


def _marks(solution: Solution, tol: float) -> tuple[int, ...]:
    least = np.minimum.accumulate(solution.true_residuals)
    return tuple(int(np.argmax(least <= 10.0**-place)) for place in _places(tol)[:-1]) + (solution.iterations,)


def _places(tol: float) -> np.ndarray:
    """Decades below 1 that are marked; the last is tol's."""
    last = -math.log10(tol)
    return np.append(np.arange(math.ceil(_MARKS * last - 1e-9)) / _MARKS, last)


def outcome_of(decisions: Sequence[Decision], solution: Solution, lessons: Lessons, fp64: Reference) -> Outcome:
    """That of decisions: of their iterations, and of those that the safeguard did on their account."""
    first = [decision.iteration for decision in decisions]
    progress, costs, iterations = ([0.0] * len(decisions) for _ in range(3))
    priced: dict[int, float] = {}  # by ledger: steps alike share one
    least, place = 1.0, 0
    for step in solution.history if decisions else ():
        while place + 1 < len(first) and first[place + 1] <= step.iteration:
            place += 1
        if id(step.ledger) not in priced:
            priced[id(step.ledger)] = lessons.cost.of(step.ledger) / fp64.cost
        costs[place] += priced[id(step.ledger)]
        iterations[place] += 1.0 / fp64.iterations
        if step.true_residual < least:
            progress[place] += _far(step.true_residual, lessons.tol, fp64) - _far(least, lessons.tol, fp64)
            least = step.true_residual
    converged = solution.status is Status.CONVERGED
    cost = lessons.cost.of(solution.ledger) / fp64.cost
    return Outcome(tuple(decisions), tuple(progress), tuple(costs), tuple(iterations), cost, converged)


def _far(residual: float, tol: float, fp64: Reference) -> float:
    """The share of fp64's iterations after which its least residual was so small."""
    place = -math.log10(min(max(residual, tol), 1.0))
    return float(np.interp(place, _places(tol), fp64.marks)) / max(fp64.iterations, 1)


def rewards_of(outcome: Outcome, told: dict[str, Any]) -> list[float]:
    """A decision's reward is its progress minus ``cost_weight`` times its cost and ``iteration_weight`` times its
    iterations; the last one's has the terminal term added, and ``regret`` for what the solve cost more than fp64's."""
    terms = zip(outcome.progress, outcome.costs, outcome.iterations, strict=True)
    rewards = [won - told["cost_weight"] * cost - told["iteration_weight"] * spent for won, cost, spent in terms]
    if rewards:
        rewards[-1] += told["converged" if outcome.converged else "failed"]
        rewards[-1] -= told["regret"] * max(outcome.cost - 1.0, 0.0)
    return rewards


def transitions_of(outcome: Outcome, told: dict[str, Any], rule: float) -> tuple[Transition, ...]:
    """Of an outcome's decisions, what the ``rule``'s brought in all taken off at the end."""
    decisions, rewards = outcome.decisions, rewards_of(outcome, told)
    if rewards:
        rewards[-1] -= rule
    following = [*(decision.state for decision in decisions[1:]), None]
    return tuple(
        Transition(d.state, d.action, r, f, d.rises, d.explored, d.allowed)
        for d, r, f in zip(decisions, rewards, following, strict=False)
    )


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
    told : other values of ``assumptions.ASSUMPTIONS``.

    Raises
    ------
    HalfulpError
        ``path`` is no agent, or one of other lessons.
    """
    if episodes < 1 or workers < 1:
        raise HalfulpError("training needs at least one episode, and one process.")
    agent = Agent(actions, told)
    agent.trained = {"lessons": lessons.describe(), "episodes": 0, "fp64": {}, "tried": {}, "rule": {}}
    if path is not None and path.exists():
        agent = _resumed(path, agent)
    with sharing(workers) as do:
        while agent.trained["episodes"] < episodes:
            done = agent.trained["episodes"]
            numbers = range(done, min(done + lessons.batch, episodes))
            for number, episode in zip(numbers, _played(do, agent, lessons, numbers), strict=True):
                if episode.problem not in agent.trained["fp64"]:  # once, though all of a batch found it
                    agent.trained["fp64"][episode.problem] = episode.fp64
                    agent.trained["rule"][episode.problem] = episode.rule
                    agent.learn(episode.first)
                    if episode.tried:
                        agent.trained["tried"][episode.problem] = list(episode.tried)
                agent.learn(episode.transitions)
                agent.trained["episodes"] = number + 1
                progress(number + 1, episode)
            if path is not None:
                agent.write(path)
    return agent


def _played(do: Callable[..., Iterable[Episode]], agent: Agent, lessons: Lessons, numbers: range) -> Iterable[Episode]:
    """All of them are done with the table as it is now."""
    known, rules = dict(agent.trained["fp64"]), dict(agent.trained["rule"])
    given = [(agent, lessons, number, known, rules) for number in numbers]
    return list(do(play, *zip(*given, strict=True)))


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
