"""The condition number as conjugate gradients tell it: close to the truth, from below, counted."""

from __future__ import annotations

import math

import halfulp as hu
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from halfulp.solvers.cg import CGPrecision, Status, cg
from halfulp.solvers.lanczos import Lanczos, quotients
from halfulp.solvers.problems import Problem, load, poisson
from halfulp.solvers.scaling import Scaling
from solver_cases import Turns


def test_the_condition_is_estimated_from_below() -> None:
    problem = poisson(16)
    policy = Turns(CGPrecision.of("fp64"))
    solution = cg(problem, policy, tol=1e-10)
    angle = math.pi / 34
    condition = (math.cos(angle) / math.sin(angle)) ** 2
    estimates = [view.condition for view in policy.views]
    # ones before the first iteration: e.Ae is 4 for each of 16 points a side, and e.e is 256
    assert estimates[0] == 4 / (4 * 16 / 256) < 0.8 * condition < estimates[-1]
    assert estimates == sorted(estimates) and estimates[-1] <= condition * (1 + 1e-9)
    told = [step.condition for step in solution.history]  # an iteration's view is from before the last turn
    assert estimates[2:] == told[:-2] and told[-1] == told[-2] >= estimates[-1]
    paces = [view.pace for view in policy.views]
    assert np.isnan(paces[:3]).all() and paces[3:] == sorted(paces[3:])
    assert paces[-1] == (solution.iterations - 2) / math.sqrt(estimates[-1])
    lanczos = Lanczos(4.0, 0.5)
    assert lanczos.condition == 8.0
    for alpha in (1.0, 0.5, 0.25):
        lanczos.step(alpha, 0.5)
    before = lanczos.condition, lanczos.pace
    lanczos.restart()
    assert lanczos.condition == before[0] and math.isnan(lanczos.pace) and before[1] > 0.0
    for known in (False, True):
        lanczos.step(1.0, 0.5)
        assert math.isnan(lanczos.pace) is not known
    few = cg(poisson(7), policy, tol=1e-10)  # 49 unknowns
    assert all(math.isnan(step.condition) for step in few.history)
    preconditioned = Turns(CGPrecision.of("fp64"))
    cg(problem, preconditioned, tol=1e-10, preconditioner="jacobi")
    known = [not math.isnan(view.condition) for view in preconditioned.views]
    assert known == [False] * 3 + [True] * (len(known) - 3)  # of M^-1 A nothing is known beforehand
    lanczos = Lanczos()
    lanczos.step(1.0, math.inf)
    lanczos.step(1.0, 0.5)
    assert math.isnan(lanczos.condition)


@pytest.mark.parametrize("name", ["poisson:16", "random:80:density=0.1:beta=0.01", "biharmonic:60", "graph:100"])
def test_the_estimate_is_close_to_that_of_the_lanczos_matrix(name: str) -> None:
    problem = load(f"{name}:seed=3")
    a, b = problem.matrix, problem.rhs
    r, p, lanczos, diagonal, beside, carried = b, b, Lanczos(), [], [], 0.0
    for k in range(1, 60):
        alpha = (r @ r) / (p @ (a @ p))
        following = r - alpha * (a @ p)
        beta = (following @ following) / (r @ r)
        lanczos.step(alpha, beta)
        diagonal.append(1.0 / alpha + carried)
        ends = scipy.linalg.eigvalsh_tridiagonal(np.array(diagonal), np.array(beside))[[0, -1]]
        beside.append(math.sqrt(beta) / alpha)
        carried, r, p = beta / alpha, following, following + beta * p
        if k == 2:
            assert lanczos.condition == pytest.approx(ends[1] / ends[0], rel=1e-12)
        if k > 2:
            assert 0.5 * ends[1] / ends[0] < lanczos.condition < (1 + 1e-9) * ends[1] / ends[0], k


def test_the_estimate_is_counted_where_it_is_looked_at() -> None:
    problem, fp64 = poisson(12), hu.format("fp64")
    plain, guarded = (cg(problem, "fp64", safeguard=guard) for guard in (False, True))
    more = guarded.ledger - plain.ledger
    turns = plain.iterations - 1  # the last iteration ends before there is a beta
    once = problem.matrix.nnz + 144  # all entries, and the diagonal
    counted = {hu.Operation("mul", fp64, fp64, fp64): 36 * turns}
    counted |= {hu.Operation("add", fp64, fp64, fp64): 15 * turns + once + 144}
    assert {op: n for op, n in more.operations.items() if n} == counted and more.bits_moved == {"sram": 64 * once}
    for apart in ({"preconditioner": "jacobi"}, {"lossless": True}):
        more = cg(problem, "fp64", safeguard=True, **apart).ledger - cg(problem, "fp64", **apart).ledger
        bits = 0 if "preconditioner" in apart else 16 * problem.matrix.nnz + 64 * 144
        assert +more.bits_moved == ({"sram": bits} if bits else {})
    few = [cg(poisson(7), "fp64", safeguard=guard).ledger for guard in (False, True)]
    assert few[0] == few[1]  # 49 unknowns
    assert np.array_equal(plain.x, guarded.x) and plain.history[-1].condition == guarded.history[-1].condition


def test_ones_are_those_of_the_system_as_given() -> None:
    ring = sp.csr_matrix(sp.diags([2.0, -1.0, -1.0, -1.0, -1.0], [0, 1, -1, 99, -99], shape=(100, 100)))
    given = ring + 2.0**-10 * sp.identity(100, format="csr")
    units = np.ldexp(1.0, np.arange(100) % 9 - 4)
    other = sp.csr_matrix(sp.diags(1 / units) @ given @ sp.diags(1 / units))
    assert quotients(given, Scaling.none(given), None, 64) == (given.diagonal().max(), given.sum() / 100)
    scaled = Scaling.of(given, np.ones(100))
    assert scaled.exponents is not None
    assert quotients(given, scaled, None, 64)[1] == given.sum() / np.sum(4.0**-scaled.exponents)
    eigenvalues = scipy.linalg.eigvalsh(Scaling.of(other, np.ones(100)).matrix.toarray())
    most, least = quotients(other, Scaling.of(other, np.ones(100)), None, 64)
    assert eigenvalues[0] <= least <= most <= eigenvalues[-1]
    assert least == other.sum() / np.sum(4.0 ** -Scaling.of(other, np.ones(100)).exponents)
    assert quotients(ring, Scaling.none(ring), None, 64) == (2.0, 2.0**-40 * 2.0)  # no more is known than that
    for uneven in (sp.diags(np.arange(1.0, 101.0)).tocsr(), abs(ring) + sp.identity(100, format="csr")):
        values = scipy.linalg.eigvalsh(uneven.toarray())
        most, least = quotients(uneven, Scaling.none(uneven), None, 64)
        assert values[0] * (1 - 1e-12) <= least < most <= values[-1] * (1 + 1e-12) and most / least > 1.5
    for wrong in (ring - 3 * sp.identity(100, format="csr"), ring - sp.diags(2.0 * (np.arange(100) > 98)).tocsr()):
        assert quotients(wrong, Scaling.none(wrong), None, 64) == (0.0, 0.0)
        found = cg(Problem("wrong", wrong, np.ones(100)), "fp64", safeguard=True)
        assert found.status is Status.INDEFINITE
