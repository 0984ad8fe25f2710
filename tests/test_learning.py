"""Agents in training: rewards, trials, any number of processes, what an agent is good for, the one that is shipped."""

from __future__ import annotations

import json
import math
from pathlib import Path

import halfulp as hu
import pytest
from halfulp.solvers import learning, policies, splits
from halfulp.solvers.agent import ACTIONS, Agent, QPolicy, action
from halfulp.solvers.assumptions import ASSUMPTIONS
from halfulp.solvers.cg import Status, View
from halfulp.solvers.learning import Lessons, train
from halfulp.solvers.norms import norm
from halfulp.solvers.problems import load
from halfulp.solvers.safeguard import Safeguard, Watch

TWO = ("fp32;fp32;fp64", "fp64")
TINY = Lessons(("poisson:8:seed=1", "random:60:density=0.1:beta=0.1:seed=2"), tol=1e-6, batch=2)


def test_rewards_are_progress_minus_cost() -> None:
    agent, lessons = Agent(TWO, {"cost_weight": 0.25, "iteration_weight": 0.0}), TINY
    episode = learning.play(agent, lessons, 2, {}, {})
    assert episode.converged and episode.fp64 is not None

    def reward(cost: float) -> float:
        return 1.0 - 0.25 * cost + ASSUMPTIONS["converged"] - ASSUMPTIONS["regret"] * max(cost - 1.0, 0.0)

    assert episode.reward == pytest.approx(reward(episode.cost))
    assert [t.following for t in episode.transitions[:-1]] == [t.state for t in episode.transitions[1:]]
    # solves all in each action are learnt from, beside the rule's; all in fp64 costs 1
    ends = [i + 1 for i, t in enumerate(episode.first) if t.following is None]
    low, fp64 = episode.first[: ends[0]], episode.first[ends[0] : ends[1]]
    assert {t.action for t in low} == {0} and {t.action for t in fp64} == {1}
    assert sum(t.reward for t in fp64) == pytest.approx(reward(episode.tried[1]) - episode.rule)
    assert sum(t.reward for t in episode.transitions) == pytest.approx(episode.reward - episode.rule)
    whole = [episode.first[i:k] for i, k in zip([0, *ends], ends, strict=False)]
    assert len(set(whole)) == len(whole)
    assert min(abs(sum(t.reward for t in course)) for course in whole) < 1e-9  # the rule's own
    assert episode.tried[0] < 1.0 < episode.tried[1] < 1.1  # by the estimate of the condition number
    known = learning.play(agent, lessons, 2, {episode.problem: list(episode.fp64)}, {episode.problem: episode.rule})
    assert episode._replace(first=(), tried=()) == known
    assert learning.play(agent, lessons, 2, {episode.problem: None}, {}).transitions == ()


def test_iterations_have_a_price_of_their_own() -> None:
    problem, agent = load("poisson:8:seed=1"), Agent(TWO)
    fp64 = learning._tried(problem.name, TINY, TWO, json.dumps(agent.told))[0]
    assert fp64 is not None
    course = learning.Course(agent, 0)
    solution = TINY.solve(problem, course, 9.0)
    outcome = learning.outcome_of(course.decisions, solution, TINY, fp64)
    assert solution.iterations == 9 and sum(outcome.iterations) == pytest.approx(9 / fp64.iterations)
    slow, free = (learning.rewards_of(outcome, agent.told | {"iteration_weight": w}) for w in (0.5, 0.0))
    assert [a - b for a, b in zip(free, slow, strict=True)] == pytest.approx([0.5 * n for n in outcome.iterations])


def test_progress_is_how_far_fp64_was_with_that_residual() -> None:
    fp64 = learning.Reference(1.0, 20, (0, 5, 10, 10, 20))  # at 1, 10^(-1/4), ... and 0.1
    assert learning._far(3e-7, 3e-7, learning.Reference(1.0, 9, (0,) * 27 + (9,))) == 1.0  # at tol, if no mark's
    far = [learning._far(10.0**-exponent, 0.1, fp64) for exponent in (-1, 0, 0.25, 0.375, 0.5, 0.75, 1, 9)]
    assert far == pytest.approx([0.0, 0.0, 0.25, 0.375, 0.5, 0.5, 1.0, 1.0])
    lessons, problem = Lessons(("poisson",), tol=1e-4), load("poisson:8:seed=1")
    solution = lessons.solve(problem, "fp64")
    marks = learning._marks(solution, 1e-4)
    assert marks[0] == 0 and marks[-1] == solution.iterations and list(marks) == sorted(marks) and len(marks) == 17
    for place, k in enumerate(marks[1:], 1):
        bound = 10.0 ** (-place / 4)
        assert min(solution.true_residuals[: k + 1]) <= bound < min(solution.true_residuals[:k])
    reference = learning.Reference(lessons.cost.of(solution.ledger), solution.iterations, marks)
    whole = learning.Decision(1, "s", 1, False), learning.Decision(9, "s", 1, False)
    outcome = learning.outcome_of(whole, solution, lessons, reference)
    assert sum(outcome.progress) == pytest.approx(1.0) and sum(outcome.costs) == pytest.approx(1.0)
    behind = [won - cost for won, cost in zip(outcome.progress, outcome.costs, strict=True)]
    assert max(map(abs, behind)) < 0.1  # fp64 pays for its progress as it goes


class Killed(Exception):
    pass


def test_the_agent_is_the_same_on_two_processes_and_after_a_kill(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.json", "two.json", "killed.json")]
    train(TINY, 6, paths[0])
    train(TINY, 6, paths[1], workers=2)

    def kill(done: int, episode: learning.Episode) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train(TINY, 6, paths[2], progress=kill)
    assert Agent.read(paths[2]).trained["episodes"] == 2
    train(TINY, 6, paths[2])
    first, *others = (path.read_bytes() for path in paths)
    assert others == [first, first] and len(Agent.read(paths[0]).table) > 3
    with pytest.raises(hu.HalfulpError, match=r"of other lessons \(tol, seed differ\)"):
        train(Lessons(TINY.problems, tol=1e-4, batch=2, seed=1), 8, paths[0])
    with pytest.raises(hu.HalfulpError, match=r"\(cost_weight differ\)"):
        train(TINY, 8, paths[0], told={"cost_weight": 2.0})


def test_a_small_agent_saves_energy_on_systems_it_has_not_seen() -> None:
    seen = tuple(f"reaction:12:shift=0.01:seed={seed}" for seed in range(3))
    actions = ("fp32;fp32/fp64;fp32;fp32;own", "fp64")
    lessons = Lessons(seen)
    agent = train(lessons, 16, actions=actions, told={"least_visits": 2, "departs": 2})
    for name in ("reaction:12:shift=0.02:seed=9", "reaction:12:shift=0.01:seed=8"):
        problem, policy = load(name), QPolicy(agent)
        found, fp64 = lessons.solve(problem, policy), lessons.solve(problem, "fp64")
        assert found.status is fp64.status is Status.CONVERGED
        assert norm(problem.rhs - problem.matrix @ found.x) <= 1e-8 * norm(problem.rhs)
        assert policy.coverage > 0.5
        assert lessons.cost.of(found.ledger) < 0.6 * lessons.cost.of(fp64.ledger)


def test_courses_are_the_rules_and_what_else_there_is_to_do() -> None:
    agent = Agent()
    seen = [(1.0, 4.0, math.nan)] * 8 + [(0.5, 9.0, 0.8)] * 20 + [(1e-3, 16.0, 1.5)] * 9 + [(1e-5, 16.0, 2.0)] * 9

    def chosen(course: learning.Course) -> list[int]:
        for k, (residual, condition, pace) in enumerate(seen, 1):
            known = (1e-8, [1.0, residual], condition, 0.0, {}, -1, residual, pace)
            course.at(View(k, 300, 900, *known))
        assert [decision.iteration for decision in course.decisions] == [1, 9, 17, 29, 38]
        return [decision.action for decision in course.decisions]

    assert chosen(learning.Course(agent, 4)) == [4] * 5 and chosen(learning.Course(agent, 0)) == [0] * 5
    assert chosen(learning.Course(agent)) == [2, 5, 5, 4, 3]
    assert chosen(learning.Course(agent, shift=1)) == [3, 6, 6, 5, 4] and len(ACTIONS) == 7
    assert chosen(learning.Course(agent, shift=-2)) == [0, 3, 3, 2, 1]
    drawn = learning.Course(agent, number=1, other=0)
    assert chosen(drawn) == [2, 0, 0, 0, 0] and [d.explored for d in drawn.decisions] == [False, True] + [False] * 3
    names = [(c.action, c.shift, c.number, c.other) for c in learning._courses(agent)]
    assert len(set(names)) == len(names) == 7 + 3 + 2 * 7


def test_a_solve_in_training_is_given_up_but_not_guarded_otherwise() -> None:
    problem, actions = load("poisson:8:seed=1"), ("fp32;fp32/fp64;fp32;fp32;own", "fp64")
    policy = learning.Course(Agent(actions), 0)
    short = Lessons((problem.name,)).solve(problem, policy, 15.0)
    whole = Lessons((problem.name,)).solve(problem, learning.Course(Agent(actions), 0))
    assert short.status is Status.MAX_ITERATIONS and short.iterations == 15 < whole.iterations
    assert [s.precision for s in short.history] == [s.precision for s in whole.history[:15]]


def test_fp64_takes_over_after_enough_iterations_of_less() -> None:
    watch = Watch(Safeguard(), 10_000)
    bound = 1.5 * 0.5 * 10.0 * math.log(2e8)  # of a condition number of 100
    for k in range(1, 1000):
        if watch.has_enough(100.0, 1e-8, k - 1):
            break
        assert not watch.forces(k)
        watch.saw(1.0, 0.0, action("fp32"))
    assert k - 1 == math.ceil(bound) and watch.forces(k) and watch.stepped_in == k - 1
    assert not watch.has_enough(100.0, 1e-8, k) and not Watch(Safeguard(), 100).has_enough(math.nan, 1e-8, 9)


def test_the_agent_that_is_shipped_saves_energy_on_a_system_it_has_not_seen() -> None:
    policy = policies.named("agent", action("fp64"))
    assert isinstance(policy, QPolicy) and policy.agent.actions == ACTIONS and policy.agent.told == ASSUMPTIONS
    problem = load("poisson:24:seed=5")
    lessons = Lessons(("poisson",))
    assert splits.unseen(problem.name, policy.agent.trained["lessons"]["problems"]) == "matrix"
    found, fp64 = lessons.solve(problem, policy), lessons.solve(problem, "fp64")
    assert found.status is Status.CONVERGED and policy.coverage > 0.5
    assert lessons.cost.of(found.ledger) < 0.55 * lessons.cost.of(fp64.ledger)
