"""Precisions that agents choose: states, the table, the policy, files, oracles, the command line."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import halfulp as hu
import pytest
from halfulp.solvers import oracle, policies, splits
from halfulp.solvers.agent import ACTIONS, Agent, QPolicy, Transition, action
from halfulp.solvers.assumptions import ASSUMPTIONS
from halfulp.solvers.cg import CGPrecision, Status, View, cg
from halfulp.solvers.costs import Cost
from halfulp.solvers.problems import load
from halfulp.solvers.safeguard import Safeguard
from halfulp.solvers.states import by_rule, levels, rising, state_of

TWO = ("fp32;fp32;fp64", "fp64")


def view(
    residuals: list[float],
    condition: float = math.nan,
    rejected: int = -1,
    k: int = 1,
    n: int = 10,
    pace: float = math.nan,
    scale: float = 0.0,
) -> View:
    return View(k, n, 30, 1e-8, residuals, condition, scale, {}, rejected, min(residuals), pace)


# ---- states and the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (view([1.0]), "first 7 rests | n 50- new even calm"),
        (view([1.0, 0.5], k=2, n=200)._replace(scale=1.0), "7 rests | n 200+ new uneven calm"),
        (view([1.0, 0.3], 25.0, k=5), "7 rests | 1+ new even calm"),
        (view([1.0, 0.29], 16.0, k=8, n=28, pace=1.75)._replace(scale=0.99), "7 <0.3 | 4+ 1.6+ even calm"),
        (view([1e-3], 1e4, 0, k=101, n=99, pace=1.0)._replace(scale=math.inf), "7 <0.01 | 0.3+ 0.9+ uneven raised"),
        (view([1e-30], 1e40, pace=0.0), "first 7 <1e-05 | 0.3- 0.7- even calm"),
        (view([3.0], 0.5, n=150), "first 7 rests | 150+ new even calm"),
    ],
)
def test_states_are_bins_of_what_the_solver_knows(seen: View, state: str) -> None:
    assert state_of(seen, 7) == state


def test_a_table_is_updated_as_by_hand() -> None:
    agent = Agent(TWO, {"discount": 0.5, "trace": 0.0, "least_visits": 1, "departs": 1})
    episode = [Transition("a", 1, 0.25, "b"), Transition("b", 0, 1.0, None)]
    agent.learn(episode)  # rate 1: Q(b, 0) = 1; Q(a, 1) = 0.25 + 0.5 * 1
    assert agent.table["b"] == ([1.0, 0.0], [1, 0]) and agent.table["a"] == ([0.0, 0.75], [0, 1])
    agent.learn([Transition("a", 1, -0.25, "b"), Transition("b", 0, 0.0, None)])
    # rate 1/2: Q(b, 0) = 1 + (0 - 1) / 2; Q(a, 1) = 0.75 + (-0.25 + 0.5 * 0.5 - 0.75) / 2
    assert agent.table["b"] == ([0.5, 0.0], [2, 0]) and agent.table["a"] == ([0.0, 0.375], [0, 2])
    agent.learn([Transition("a", 0, 0.0, "b"), Transition("b", 0, 0.5, None)])
    assert agent.table["a"].values[0] == 0.25  # the best of b, 0.5; not of what was never tried
    agent.learn([Transition("d", 1, 0.0, "c"), Transition("c", 0, -1.0, None)])
    assert agent.table["d"].values[1] == -0.5


def test_a_trace_takes_what_follows_from_the_solve() -> None:
    agent = Agent(TWO, {"trace": 0.5, "least_visits": 1, "departs": 1})
    agent.learn([Transition("b", 1, 4.0, None)])
    agent.learn([Transition("a", 1, 0.25, "b"), Transition("b", 0, 1.0, None)])
    # G(b) = 1; G(a) = 0.25 + 0.5 max(1, 4) + 0.5 G(b)
    assert agent.table["b"] == ([1.0, 4.0], [1, 1]) and agent.table["a"].values == [0.0, 2.75]


def test_rates_are_never_less_than_the_least() -> None:
    agent = Agent(TWO, {"least_rate": 0.5})
    for reward in (1.0, 0.0, 0.0, 8.0):
        agent.learn([Transition("a", 1, reward, None)])
    assert agent.table["a"].values == [0.0, 4.125]  # 1, 1/2, 1/4, (1/4 + 8) / 2


def test_an_action_must_have_been_tried_often_enough() -> None:
    agent = Agent(TWO)
    agent.learn([Transition("a", 0, 9.0, None)])
    assert (ASSUMPTIONS["least_visits"], ASSUMPTIONS["departs"]) == (3, 20)
    assert agent.best("a", 1) is None and agent.best("elsewhere", 0) is None
    agent.learn([Transition("a", 1, 1.0, None)] * ASSUMPTIONS["least_visits"])
    assert agent.best("a", 1) == 1 and agent.best("a", 0) == 0  # which is not known to be worse
    agent.learn([Transition("a", 0, 9.0, None)] * 18)
    assert agent.best("a", 1) == 1  # not yet
    agent.learn([Transition("a", 0, 9.0, None)])
    assert agent.best("a", 1) == agent.best("a", 0) == 0


def test_an_unvisited_state_is_looked_at_coarsely() -> None:
    agent = Agent(TWO, {"least_visits": 2, "departs": 2})
    agent.learn([Transition("4+ | calm", 0, 1.0, None), Transition("4+ | raised", 0, 0.0, None)])
    assert agent.table["4+"] == ([0.5, 0.0], [2, 0])
    assert levels("4+ | calm") == ("4+ | calm", "4+") and levels("4+") == ("4+",)
    assert agent.best("4+ | calm", 0) == agent.best("4+ | elsewhere", 0) == 0 and agent.best("2+ | calm", 0) is None
    agent.learn([Transition("4+ | raised", 1, 2.0, None)] * 2)
    assert agent.best("4+ | raised", 0) == 1 and agent.best("4+ | calm", 0) == 1  # 0 was tried but once when calm


def test_an_action_must_be_better_than_the_rules_by_a_margin() -> None:
    agent = Agent(TWO, {"margin": 0.5, "least_visits": 1, "departs": 1, "doubt": 0.0})
    agent.learn([Transition("a", 0, 1.0, None), Transition("a", 1, 0.5, None)])
    assert agent.best("a", 1) == 1 and agent.best("a", 0) == 0
    agent.learn([Transition("b", 0, 1.25, None), Transition("b", 1, 0.5, None)])
    assert agent.best("b", 1) == 0 and agent.best("b", 0) == 0
    assert agent.best("b", 1, None, range(1, 2)) == 1


@pytest.mark.parametrize(
    ("seen", "place"),
    [
        (view([1.0], k=2, n=49), 6),
        (view([1.0], k=2, n=50), 2),
        (view([1.0], 6.2, k=2, n=100), 2),
        (view([1.0], 6.3, k=2, n=100), 3),
        (view([1.0], 620.0, k=2, n=100), 3),
        (view([1.0], 630.0, k=2, n=100), 5),
        (view([1.0], 3.9e6, k=2, n=100), 5),
        (view([1.0], 4.1e6, k=2, n=100), 6),
        (view([1.0, 0.3], 4.0, k=9, n=100, pace=0.9), 2),
        (view([1.0, 0.3], 4.0, k=9, n=100, pace=0.89), 5),
        (view([1.0, 0.29], 4.0, k=9, n=100, pace=0.69), 2),  # the residual does not rest
        (view([1.0, 0.3], 400.0, k=9, n=100, pace=0.89), 5),
        (view([1.0, 0.3], 630.0, k=9, n=100, pace=0.89), 6),  # one more
        (view([1.0], 44.0, n=100), 3),
        (view([1.0], 45.0, n=100), 6),  # the first decision
        (view([1.0, 1.2, 1.1], 70.0, k=3, n=100), 6),  # the residual has grown to 1.2 times, with room for 11.95
        (view([1.0, 1.2, 0.3], 70.0, k=3, n=100), 6),
        (view([1.0, 1.2, 0.29], 70.0, k=3, n=100), 3),
        (view([1.0, 1.19], 70.0, k=2, n=100), 3),
        (view([1.0, 1.2], 69.0, k=2, n=100), 3),
        (view([1.0, 5.0], 4.0, k=2, n=100), 6),
        (view([1.0, 5.0], 3.9, k=2, n=100), 2),
        (view([1.0, 5.0], k=2, n=100), 2),  # room without bound
        (view([1.0], 4.0, n=100, scale=10.0), 6),  # an uneven diagonal
        (view([1.0], 4.0, k=2, n=100, scale=10.0), 3),
        (view([1.0], 630.0, k=2, n=100, scale=10.0), 5),
        (view([1.0], n=100, scale=10.0), 3),  # with a preconditioner
        (view([1.0], 4.0, n=100, scale=9.9), 2),
    ],
)
def test_the_rule_takes_more_bits_the_less_room_and_pace_there_is(seen: View, place: int) -> None:
    assert by_rule(seen) == place
    coarse = Agent(("fp16;fp16;fp64", "fp32;fp32;fp64", "fp64*e8m31;fp64", "fp64"))
    policy = policies.Room()
    policy.agent = coarse  # the first that is as precise as the rule wants
    assert policy.at(seen) == coarse.precisions[1 if place <= 2 else 2 if place <= 3 else 3]
    assert policies.Room().at(seen) == Agent().precisions[place]


def test_actions_are_tuples_with_residual_and_scalars_in_fp64() -> None:
    given = action("bf16/fp32; fp32; fp64; fp16").describe()
    assert [given[part] for part in ("spmv", "dot", "axpy", "precondition")] == [
        hu.Datapath.parse(text).name for text in ("bf16/fp32", "fp32", "fp64", "fp16")
    ]
    assert given["residual"] == hu.Datapath.parse("fp64").name and given["scalars"] == str(hu.format("fp64"))
    own = action("fp32;fp32/fp64;fp32;fp32;own")
    assert own == CGPrecision.of("fp32", "fp32/fp64", "fp32", precondition="fp32")
    assert own.residual is None and own.scalars is None
    assert action(ACTIONS[-1]).is_fp64
    apart = action("fp32;fp32;fp32;fp32;own;fp32/fp64")
    assert apart.solution == hu.Datapath.parse("fp32/fp64") and apart.axpy == own.axpy and apart.residual is None
    for wrong in ("fp32;fp32;fp32;fp32;fp32", "fp32;fp32;own", "fp32;fp32;fp32;fp32;fp32;fp64"):
        with pytest.raises(hu.HalfulpError):
            action(wrong)
    with pytest.raises(hu.HalfulpError, match=r"last action must be fp64"):
        Agent(["fp64", "fp32"])


def test_what_is_seldom_tried_is_doubted() -> None:
    agent = Agent(TWO, {"margin": 0.0, "least_visits": 1, "departs": 1, "doubt": 0.5})
    agent.learn([Transition("a", 0, 1.0, None)] + [Transition("a", 1, 0.8, None)] * 4)
    assert agent.best("a", 0) == 1  # 1 - 0.5 against 0.8 - 0.25
    agent.learn([Transition("a", 0, 1.0, None)])
    assert agent.best("a", 1) == 0  # 1 - 0.35


def test_what_comes_before_a_drawn_action_is_not_blamed_for_it() -> None:
    agent = Agent(TWO, {"trace": 1.0, "least_visits": 1, "departs": 1})
    agent.learn([Transition("b", 1, 2.0, None)])
    agent.learn([Transition("a", 1, 0.25, "b"), Transition("b", 0, -4.0, None, explored=True)])
    assert agent.table["b"].values == [-4.0, 2.0] and agent.table["a"].values[1] == 2.25
    agent.told["least_visits"] = 2
    agent.learn([Transition("c", 0, 0.25, "d"), Transition("d", 0, -4.0, None, explored=True)])
    assert agent.table["d"].values[0] == -4.0 and agent.table["c"].values[0] == 0.25 - 4.0  # all that there is of d


def test_actions_of_more_precision_than_before_are_learnt_apart() -> None:
    agent = Agent(TWO, {"least_visits": 1, "departs": 1, "margin": 0.0, "doubt": 0.0})
    agent.learn([Transition("a", 0, 0.5, None), Transition("a", 1, 1.0, None)])
    agent.learn([Transition("a", 1, 0.25, None, rises=True)])
    assert agent.table[rising("a")] == ([0.0, 0.25], [0, 1])
    assert (
        agent.best("a", 0) == agent.best("a", 0, 1) == 1 and agent.best("a", 0, 0) == 0
    )  # after 0 fp64 would be a rise
    assert agent.best("a", 0, 1, range(1)) == 0 and agent.best("a", 1, 0, range(1, 2)) == 1
    agent.learn([Transition("b", 0, 0.25, "a"), Transition("a", 0, 0.0, None, explored=True)])
    assert agent.table["b"].values[0] == 0.25 + 0.25  # after 0 the best of a is now to rise


def test_what_was_best_all_the_way_is_known() -> None:
    agent = Agent(TWO)
    assert agent.best_fixed is None
    agent.trained["tried"] = {"x": [0.5, 1.0], "y": [1.75, 1.0]}
    assert agent.best_fixed == 1


# ---- the policy -----------------------------------------------------------------------------------------------------


def test_unvisited_states_fall_back_to_fp64_and_are_counted() -> None:
    problem, agent = load("poisson:9:seed=1"), Agent(TWO, {"rise_by": 1, "departs": 1})
    policy = QPolicy(agent)
    solution = cg(problem, policy, tol=1e-6)
    assert solution.status is Status.CONVERGED and policy.coverage == 0.0
    assert all(step.precision.is_fp64 for step in solution.history)
    assert solution.ledger == cg(problem, "fp64", tol=1e-6, safeguard=True).ledger  # no check where none is due
    solution = cg(problem, policies.Room(), tol=1e-6)
    assert not solution.history[0].precision.is_fp64  # the rule
    first = policy.decisions[0].state
    both = [Transition(first, 0, 1.0, None), Transition(first, 1, 0.0, None)]
    agent.learn(both * ASSUMPTIONS["least_visits"])
    policy = QPolicy(agent)
    solution = cg(problem, policy, tol=1e-6)
    known = [not decision.fell_back for decision in policy.decisions]
    assert 0 < sum(known) < len(known) and policy.coverage == pytest.approx(sum(known) / len(known))
    assert policy.asked[False] + policy.asked[True] == len(solution.history)
    assert {step.precision for step in solution.history} == {action(TWO[0])}  # it is too late to rise
    agent.told["rise_by"] = 9
    policy = QPolicy(agent)
    steps, second = cg(problem, policy, tol=1e-6).history, policy.decisions[1]
    assert [step.precision.is_fp64 for step in steps] == [k >= second.iteration for k in range(1, len(steps) + 1)]
    assert 1 < second.iteration <= 9 and second.fell_back and second.rises and policy.describe()["coverage"] < 1.0


def test_decisions_stand_for_a_while() -> None:
    policy = QPolicy(Agent(TWO))
    assert [ASSUMPTIONS[what] for what in ("hold", "hold_fp64", "rise_by")] == [8, 16, 17]
    for k in range(1, 60):
        residual = 1.0 if k < 30 else 0.2 if k < 40 else 1e-3
        policy.at(view([residual], (2.0, 90.0, 1e9)[k % 3], k=k, n=200))  # room and pace do not end a decision
    assert [decision.iteration for decision in policy.decisions] == [1, 17, 30, 40]  # the first one is fp64
    policy.at(view([1e-3], 9.0, k=70, n=200))  # the safeguard had ten
    assert policy.decisions[-1].iteration == 70
    policy.at(view([1.0], 9.0, k=1, n=200))
    for k in range(2, 20):
        policy.at(view([1.0 if k < 4 else 0.1], 9.0, k=k, n=200))
    assert [decision.iteration for decision in policy.decisions[5:]] == [1, 4, 12]
    policy.agent.learn([Transition("first 0 rests", 0, 0.0, None)] * ASSUMPTIONS["least_visits"])
    for n, decided in (
        (400, [1, 9, 17]),
        (272, [1, 9, 17]),
        (271, [1, 9]),
        (52, [1, 9]),
    ):  # after a rise less time is left
        policy = QPolicy(policy.agent)
        for k in range(1, 30):
            policy.at(view([1.0], 1.0, k=k, n=n))
        assert [decision.iteration for decision in policy.decisions] == decided


def test_a_first_decision_for_fp64_stands_twice_as_long_and_no_other() -> None:
    for n, decided in ((67, [(1, 6)]), (68, [(1, 6), (17, 3)])):  # up to a quarter of n
        room = policies.Room()
        for k in range(1, 30):
            room.at(view([1.0, 0.5], 1.0, k=k, n=n, scale=10.0))
        assert [(decision.iteration, decision.action) for decision in room.decisions] == decided
    room = policies.Room()
    for k in range(1, 20):  # grown, in iteration 9
        room.at(view([1.0, 1.0 if k < 9 else 1.2], 100.0 if k > 1 else 1.0, k=k, n=300, pace=1.0))
    assert [(decision.iteration, decision.action) for decision in room.decisions] == [(1, 2), (9, 3), (17, 3)]
    room = policies.Room()
    grows = [(1, 1.0)] + [(k, 1.3) for k in range(2, 12)] + [(12, 0.2), (13, 1e-3)]
    for k, residual in grows:  # it is over when the next decision is made
        room.at(view([1.0, residual], 70.0, k=k, n=100))
    assert [(decision.iteration, decision.action) for decision in room.decisions] == [(1, 6), (12, 3), (13, 2)]


def test_a_policy_forgets_the_solve_before() -> None:
    room = policies.Room()
    for _ in range(2):
        room.decisions.clear()
        for k in range(1, 30):
            room.at(view([1.0, 0.5 if k < 20 else 1e-3], 1.0 if k < 9 else 700.0, k=k, n=300))
        assert [(d.iteration, d.action) for d in room.decisions] == [(1, 2), (9, 3), (17, 3), (20, 2)]


def test_directions_start_anew_where_vectors_have_more_bits() -> None:
    agent = Agent()
    rises = [[agent.rises(before, following) for following in range(7)] for before in range(7)]
    bits = [16, 16, 20, 28, 32, 40, 53]
    assert rises == [[b < f for f in bits] for b in bits] and not agent.rises(None, 6)


def test_precision_rises_early_or_not_at_all() -> None:
    three = ("fp32;fp32;fp64", "e8m31;e8m31;fp64", "fp64")
    agent = Agent(three, {"least_visits": 1, "departs": 1, "hold": 1, "margin": 0.0, "rise_by": 9})
    for room, best in (("150+", 0), ("40+", 1), ("0.3-", 2)):
        for chosen, rule, begins in itertools.product(range(3), range(3), ("", "first ")):
            for residual in ("rests", "<0.01"):
                told = (f"{begins}{rule} {residual} | {room} new even calm", chosen, float(chosen == best), None)
                agent.learn([Transition(*told), Transition(*told, rises=True)])

    def taken(*conditions: float, first: int = 1, residual: float = 1.0, n: int = 200) -> list[int]:
        policy = QPolicy(agent)
        asked = (policy.at(view([1.0, residual ** (k % 2)], c, k=k, n=n)) for k, c in enumerate(conditions, first))
        return [agent.precisions.index(precision) for precision in asked]

    high, middle, low = 1.0, 9.0, 1e9  # of much, less and no room
    assert taken(high, high, middle, low, high, low) == [0, 0, 1, 2, 0, 0]  # once it has fallen it does not rise
    assert taken(low, middle, high, low, high, first=2) == [2, 1, 0, 0, 0]
    assert taken(high, low, first=9) == [0, 0] and taken(high, low, first=8) == [0, 2]
    assert taken(low, middle, low, high, first=9, residual=1e-3) == [2, 1, 1, 0]  # later on it falls
    assert ASSUMPTIONS["rise_share"] == [0.25, 0.0625]  # of few unknowns, earlier still, and so again
    assert taken(high, low, first=7, n=32) == [1, 2] and taken(high, low, first=8, n=32) == [1, 1]
    assert taken(high, low, first=7, n=31) == [1, 1]


def test_the_rule_takes_back_what_it_asked_for_only_as_the_residual_falls() -> None:
    room, n = policies.Room(), 100
    seen = [
        (1, 1.0, 4.0, math.nan),
        (9, 0.5, 9.0, 0.8),
        (17, 0.5, 9.0, 1.2),
        (30, 1e-3, 16.0, 1.5),
        (40, 1e-5, 16.0, 2.0),
    ]
    asked = [room.at(view([1.0, residual], c, k=k, n=n, pace=pace)) for k, residual, c, pace in seen]
    assert [room.agent.precisions.index(precision) for precision in asked] == [2, 5, 5, 4, 3]
    assert room.at(view([1.0], 100.0, n=n)).is_fp64  # and its first decision does not stand for more
    assert [room.at(view([1.0], 100.0, k=k, n=n)).is_fp64 for k in range(2, 18)] == [True] * 15 + [False]
    for scale, condition, steps in ((9.0, 46.0, [2, 1, 0]), (10.0, 44.0, [2, 1, 0]), (10.0, 46.0, [3, 2, 1])):
        assert room.at(view([1.0], 100.0, n=n, scale=scale)).is_fp64  # an uneven diagonal, and less room than 15
        fallen = (
            view([1.0, residual], condition, k=k, n=n, scale=scale) for k, residual in enumerate((9e-3, 9e-5, 9e-6), 2)
        )
        assert [room.agent.precisions.index(room.at(seen)) for seen in fallen] == steps
    room.at(view([1.0], 1e9, n=n))
    for k in range(2, 60):
        assert room.at(view([1.0, 1e-7], 1e9, k=k, n=n)).is_fp64  # all of it, to the end


# ---- files ----------------------------------------------------------------------------------------------------------


def _without_grows() -> dict:
    return {name: figures for name, figures in ASSUMPTIONS["rule"].items() if name != "grows"}


def test_files_go_round_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    agent, path = Agent(TWO, {"hold": 7}), tmp_path / "agent.json"
    agent.learn([Transition("1e-0 rests ? well calm", 0, 1 / 3, None)])
    agent.trained = {"episodes": 1}
    agent.write(path)
    found = Agent.read(path)
    assert found.to_json() == path.read_text() and found.told["hold"] == 7 and found.table == agent.table
    assert isinstance(policies.named(str(path), action("fp64")), QPolicy)
    whole = json.loads(path.read_text())
    broken = {
        r"is not JSON": path.read_text()[:-9],
        r"is not the file of an agent": "[1]",
        r"agent of schema 9": json.dumps(whole | {"schema": 9}),
        r"damaged agent: 'table'": json.dumps({k: v for k, v in whole.items() if k != "table"}),
        r"has not one value and one count": json.dumps(whole | {"table": {"a": [[0.0], [1]]}}),
        r"a value that is no number": json.dumps(whole | {"table": {"a": [[math.inf, 0.0], [1, 0]]}}),
        r"unknown format 'fp999'": json.dumps(whole | {"actions": ["fp999", "fp64"]}),
        r"assumptions say nothing that can be understood of 'rise_share'": json.dumps(
            whole | {"assumptions": {k: v for k, v in whole["assumptions"].items() if k != "rise_share"}}
        ),
        r"nothing that can be understood of 'rule'": json.dumps(
            whole | {"assumptions": whole["assumptions"] | {"rule": 3}}
        ),
        r"damaged agent: 'grows'": json.dumps(
            whole | {"assumptions": whole["assumptions"] | {"rule": _without_grows()}}
        ),
        r"damaged agent: not enough values": json.dumps(
            whole | {"assumptions": whole["assumptions"] | {"rise_share": [0.25]}}
        ),
        r"lessons say nothing that can be understood of 'tol'": json.dumps(
            whole | {"trained": {"lessons": {"seed": 1}}}
        ),
        r"damaged agent": json.dumps(whole | {"trained": {"lessons": [1]}}),
    }
    for message, text in broken.items():
        path.write_text(text)
        with pytest.raises(hu.HalfulpError, match=message):
            policies.named(str(path), action("fp64"))
    with pytest.raises(hu.HalfulpError, match=r"cannot be read"):
        Agent.read(tmp_path / "none.json")


# ---- the oracle and costs -------------------------------------------------------------------------------------------


def test_the_oracle_takes_the_cheapest_that_converges() -> None:
    problem, actions = load("random:40:density=0.1:beta=1:seed=1"), ("bf16", "fp32;fp32;fp64", "fp64")
    trials = oracle.search(problem, actions, Cost("bits"), tol=1e-6, safeguard=False, max_iterations=200)
    assert [trial.action for trial in trials] == list(actions)
    rough, middle, fp64 = trials
    assert not rough.converged and middle.converged and fp64.converged
    assert oracle.best(trials) == middle and middle.cost < fp64.cost
    assert oracle.best([rough]) is None
    assert len(oracle.tuples(("fp32", "fp64"))) == 8 and oracle.tuples(("fp32", "fp64"))[1] == "fp32;fp32;fp64"


def test_a_greedy_oracle_looks_ahead() -> None:
    problem, actions = load("random:40:density=0.1:beta=1:seed=1"), (TWO[0], "fp32;fp32/fp64;fp32;fp32;own", "fp64")
    seen: list[str] = []
    found, choices = oracle.greedy(problem, actions, tol=1e-6, ahead=5, progress=seen.append)
    assert found.converged and found.action == "greedy" and tuple(seen) == choices
    assert len(choices) == -(-found.iterations // 5)
    script = oracle.Script([action(text) for text in choices], 5)
    again = cg(problem, script, tol=1e-6, safeguard=Safeguard(share=1.0))
    assert Cost().of(again.ledger) == found.cost and again.iterations == found.iterations
    assert [step.precision for step in again.history] == [
        action(choices[(step.iteration - 1) // 5]) for step in again.history
    ]
    fixed = oracle.best(oracle.search(problem, actions[-1:], tol=1e-6))
    assert fixed is not None and found.cost < fixed.cost and script.describe()["ahead"] == 5
    short, few = oracle.greedy(problem, actions, tol=1e-6, ahead=5, segments=2)
    assert short.converged and len(few) == 2
    with pytest.raises(hu.HalfulpError, match=r"one iteration to look ahead"):
        oracle.greedy(problem, actions, ahead=0)


def test_costs_by_hand() -> None:
    ledger, fp32 = hu.Ledger(), hu.format("fp32")
    ledger.count(hu.Operation("mul", fp32, fp32, None), 10)
    ledger.count(hu.Operation("round", fp32, fp32, fp32), 99)
    ledger.move(64, "sram")
    assert Cost("bits").of(ledger) == 64.0
    assert Cost("time").of(ledger) == 10 * 32 / 64  # more than the 64 bits / 64
    assert Cost("energy").of(ledger) == hu.Technology("45nm").price(ledger).total_pj
    with pytest.raises(hu.HalfulpError, match=r"a cost is energy, bits or time"):
        Cost("money")


# ---- the command line -----------------------------------------------------------------------------------------------


def test_command_line(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--train-on", "poisson:5", "--tol", "1e-4", "--processes", "1", "--scaled"]
    code, out, _ = run("solve", "--train-agent", "agent.json", "--episodes", "4", *small)
    assert code == 0 and "4 episodes on 1 problem, seed 0\n" in out
    code, out, _ = run("solve", "--train-agent", "agent.json", "--episodes", "4", *small)
    assert code == 0 and "seed 0: it had them already, and is as it was" in out
    code, out, _ = run("solve", "poisson", "--side", "6", "--policy", "agent.json", "--tol", "1e-4", "--scaled")
    assert code == 0 and "coverage" in out and "axpy" in out and "of that solve's" in out
    assert "all in fp64    scaled, converged after" in out and "trained on  " not in out
    code, out, _ = run("solve", "poisson:5", "--policy", "agent.json", "--tol", "1e-4", "--no-scaled")
    assert code == 0 and "trained on     the matrix of this name" in out and "all in fp64    converged after" in out
    for arguments, message in (
        (["--episodes", "4"], "--episodes belongs to --train-agent"),
        (["--train-agent", "agent.txt"], "--train-agent writes a .json"),
        (["--train-agent", "agent.json", "--cost", "money", *small], "a cost is energy"),
        (["--train-agent", "agent.json", "--cost-weight", "-1", *small], "--cost-weight must be 0 or more"),
        (["--train-agent", "agent.json", "--train-on", "poison:5"], "did you mean poisson"),
        (["--train-agent", "agent.json", "--cost-weight", "2", *small], "(cost_weight differ)"),
        (["--policy", "none.json"], "none.json cannot be read"),
        (["--action", "fp32"], "--action belongs to --train-agent"),
        (["--train-agent", "new.json", "--matrices", ".", *small], "give one of them"),
        (["--train-agent", "new.json", "--train-on", "."], "no Matrix Market file"),
        (["--train-agent", "new.json", "--action", "fp32;;;;", *small], "is not spmv;dot;axpy;precondition"),
    ):
        code, _, err = run("solve", *arguments)
        assert code == 2 and message in " ".join(err.split()), err


def test_an_agent_is_trained_on_a_folder_with_actions_of_ones_own(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    rows = [f"{i} {i} 2" for i in range(1, 9)] + [f"{i + 1} {i} -0.5" for i in range(1, 8)]
    banner = f"%%MatrixMarket matrix coordinate real symmetric\n8 8 {len(rows)}\n"
    (tmp_path / "mine" / "chain1.mtx").write_text(banner + "\n".join(rows) + "\n")
    given = ["--episodes", "1", "--processes", "1", "--action", "bf16/fp32;fp32;fp64", "--tol", "1e-3"]
    code, out, _ = run("solve", "--train-agent", "agent.json", "--train-on", "mine", *given)
    assert code == 0 and "1 episodes on 1 problem," in out
    agent = Agent.read("agent.json")
    assert agent.actions == ("bf16/fp32;fp32;fp64", "fp64")
    assert agent.trained["lessons"]["problems"] == [str(Path("mine") / "chain1.mtx")]
    assert "mine/chain1.mtx" in splits.split(0, folder="mine", held_out=["random"]).train


def test_events_of_inner_products_are_told(run) -> None:
    code, out, _ = run("solve", "poisson", "--side", "4", "--spmv", "fp32", "--dot", "fp16", "--tol", "1e-2",
                       "--observe-every", "2", "--no-safeguard")  # fmt: skip
    assert "events         dot: additions" in out and code in (0, 1)
    code, _, err = run("solve", "poisson", "--side", "4", "--refine", "0.1", "--observe-every", "2")
    assert code == 2 and "--observe-every belongs to solves without --refine" in err
