"""What moves r off b - A x: x in a datapath of its own, when that is looked at, and how directions go on then."""

from __future__ import annotations

import math

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse as sp
from halfulp.solvers.cg import CGPrecision, PrecisionPolicy, Solution, Status, View, cg
from halfulp.solvers.norms import norm
from halfulp.solvers.problems import Problem, load, poisson
from halfulp.solvers.run import Run
from halfulp.solvers.safeguard import SAFE, Safeguard, Watch, drift

LOW, MATRIX = "e8m15", "e8m19*e8m15/e8m19/e8m15"


class Always(PrecisionPolicy):
    """One precision, which the safeguard watches over."""

    def __init__(self, precision: CGPrecision) -> None:
        self.precision = precision

    def at(self, view: View) -> CGPrecision:
        return self.precision

    def describe(self) -> dict:
        return {"policy": "always"}


def diagonal(n: int = 200) -> Problem:
    rng = np.random.default_rng(6)
    return Problem("diagonal", sp.diags(rng.uniform(0.5, 2.0, n)).tocsr(), rng.standard_normal(n))


# ---- x in a datapath of its own -------------------------------------------------------------------------------------


def test_x_has_a_datapath_that_r_and_p_know_nothing_of() -> None:
    problem = poisson(16)
    found = [
        cg(problem, CGPrecision.of(LOW, f"{LOW}/fp64", LOW, solution=solution), max_iterations=40)
        for solution in (None, f"{LOW}/fp32", f"{LOW}/fp64")
    ]
    assert len({tuple(solution.residuals) for solution in found}) == 1  # the same bits of r, and so of p
    for solution, fmt in zip(found, (LOW, "fp32", "fp64"), strict=True):
        assert np.array_equal(solution.x, hu.quantize(solution.x, fmt))
    assert found[0].true_residual > 5 * max(found[1].true_residual, found[2].true_residual)
    bits = [sum(solution.ledger.bits_moved.values()) for solution in found]
    each = 256 * 2 * found[0].iterations  # x is read and written; p is read as it is stored
    assert bits[1] - bits[0] == 8 * each and bits[2] - bits[0] == 40 * each


def test_x_is_the_sum_of_alpha_p_as_its_datapath_adds() -> None:
    pairs: list[tuple[float, np.ndarray]] = []

    class Seen(Run):
        def iterate(self, units, k):  # type: ignore[no-untyped-def]
            p = self.host(self.p).copy()
            failure = super().iterate(units, k)
            pairs.append((self.alpha, p))
            return failure

    problem = poisson(8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("halfulp.solvers.cg.Run", Seen)
        precision = CGPrecision.of(LOW, f"{LOW}/fp64", LOW, solution=f"{LOW}/fp32")
        solution = cg(problem, precision, max_iterations=9)
    x = np.zeros(64)
    for alpha, p in pairs:
        x = hu.quantize(hu.quantize(np.array([alpha]), LOW) * p + x, "fp32")  # the sum in fp64 is all but exact
    assert solution.best == len(pairs) == 9 and np.array_equal(solution.x, x)


def test_what_x_has_gained_is_kept_where_its_format_is_about_to_lose_bits() -> None:
    class Then(Always):
        def at(self, view: View) -> CGPrecision:
            wide = CGPrecision.of(LOW, f"{LOW}/fp64", LOW, solution=f"{LOW}/fp64")
            return wide if view.iteration < 12 else self.precision

    low = CGPrecision.of(LOW, f"{LOW}/fp64", LOW)
    assert low.roundoff == unit(LOW) == low.matrix_roundoff == low.gap_roundoff
    found, alone = (cg(poisson(12), policy, tol=0.02) for policy in (Then(low), Always(low)))
    assert found.status is alone.status is Status.CONVERGED and found.iterations == alone.iterations > 13
    assert found.residuals[:-1] == alone.residuals[:-1]  # r never knows, before the last check
    gained = [abs(solution.true_residuals[-2] / solution.residuals[-2] - 1.0) for solution in (found, alone)]
    assert 5 * gained[0] < gained[1]


def unit(name: str) -> float:
    return 2.0 ** -hu.format(name).precision


# ---- when the true residual is looked at ----------------------------------------------------------------------------


def test_the_gap_is_told_from_the_condition_number_and_what_is_rounded() -> None:
    low = CGPrecision.of(MATRIX, f"{LOW}/fp64", LOW, solution=f"{LOW}/fp32")
    assert (low.roundoff, low.matrix_roundoff, low.gap_roundoff) == (2.0**-16, 2.0**-20, 2.0**-20)
    assert drift(low, 1e6) == 0.1 * 1e6 * 2.0**-20 and drift(low, 10.0) == 10 * 2.0**-16
    assert drift(CGPrecision.of("fp64", solution="fp64/fp32"), 1e6) == 0.1 * 1e6 * 2.0**-24  # x alone
    assert drift(CGPrecision.of("fp64", storage="bf16"), 1e6) == 0.1 * 1e6 * 2.0**-8  # the matrix alone
    assert drift(SAFE, 1e30) == 0.0 and drift(low, math.nan) == math.inf


def test_a_check_is_due_when_rounding_may_show_and_not_before() -> None:
    def due(*seen: tuple[float, float]) -> int | None:
        watch = Watch(Safeguard(fall=1e-3, near=3.0), 10_000)
        for k, (residual, share) in enumerate(seen):
            watch.saw(residual, 0.0, safe=False, drift=share)
            if watch.due:
                return k
        return None

    falling = [(10.0**-k, 1e-5) for k in range(9)]
    assert due(*falling) == 5  # 1e-5 <= 3 * 1e-5 * 1
    assert due(*[(r, math.inf) for r, _ in falling]) == 3  # where nothing is known, by the fall alone
    assert due(*[(r, 0.1) for r, _ in falling]) == 3  # nor before that
    assert due(*[(r, 1e-9 if k < 4 else 1e-3) for k, (r, _) in enumerate(falling)]) == 6  # 1e-6 <= 3 * 1e-3 * 1e-3
    watch = Watch(Safeguard(), 10_000)
    watch.saw(1.0, 0.0, safe=False, drift=0.1)
    watch.checked(1e-4)
    watch.saw(1e-7, 0.0, safe=False, drift=1e-9)
    assert not watch.due  # what was rounded before the check is made good


def test_easy_solves_are_checked_less_often_than_hard_ones() -> None:
    low = CGPrecision.of("fp32", "fp32/fp64", "fp32")
    assert checks(low, load("reaction:12:seed=1")) < checks(low, load("jump:24:seed=1"))


def checks(precision: CGPrecision, problem: Problem) -> int:
    """Products in fp64 are only those of checks."""
    found = cg(problem, Always(precision), scaled=True)
    assert found.status is Status.CONVERGED
    product = hu.Operation("add", *[hu.format("fp64")] * 3, within=hu.Datapath.parse("fp64"))
    return found.ledger.operations[product] // problem.matrix.nnz


# ---- and how directions go on ---------------------------------------------------------------------------------------


def test_after_r_is_replaced_p_is_conjugate_and_alpha_is_the_best_step() -> None:
    """beta = -z.Ap / p.Ap and alpha = r.p / p.Ap, both to fp64's precision, as only the matrix is rounded."""
    seen: list[tuple[float, float, bool]] = []

    class Seen(Run):
        def turn(self, units, k, anew):  # type: ignore[no-untyped-def]
            replaced, image = self.replaced and not anew, getattr(self, "image", None)
            before = None if image is None else self.host(image[0]) * math.ldexp(1.0, image[1])
            end = super().turn(units, k, anew)
            if before is not None and not anew:
                p, r = self.host(self.p), self.host(self.r)
                across = abs(p @ before) / (norm(p) * norm(before))
                across = 0.0 if np.array_equal(p, r) else across  # where beta would be negative p starts anew
                seen.append((across, abs(r @ p / self.rho - 1.0), replaced))
            return end

    precision = CGPrecision.of("fp64", "fp64", "fp64", storage="bf16")
    problem = load("jump:12:seed=3")  # whose entries bf16 has not
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("halfulp.solvers.cg.Run", Seen)
        found = cg(problem, Always(precision), scaled=True, safeguard=Safeguard(apart=1e9))
    assert found.status is Status.CONVERGED and sum(replaced for *_, replaced in seen) > 9
    assert all(across < 1e-12 and off < 1e-12 for across, off, replaced in seen if replaced)
    assert max(off for _, off, _ in seen) < 1e-9  # nor later on


def test_a_replaced_residual_does_not_slow_down_what_follows() -> None:
    """Of well-conditioned systems, in the fewest bits: iterations for a factor of 0.33 each, after checks as before."""
    precision = CGPrecision.of(LOW, f"{LOW}/fp64", LOW)
    for problem in (diagonal(), load("reaction:12:seed=1")):
        fp64 = cg(problem, "fp64", scaled=True)
        found = cg(problem, Always(precision), scaled=True)
        assert found.status is Status.CONVERGED and stepped_in(found) == 0
        assert found.iterations <= 1.4 * fp64.iterations


def stepped_in(solution: Solution) -> int:
    return sum("fp64 for" in note for step in solution.history for note in step.notes)


def test_f_is_looked_at_only_where_the_residual_does_not_tell() -> None:
    """A good check is a product, an update and a norm in fp64, and what joins x; f(x) would be two more."""
    asked: list[int] = []

    class Seen(Run):
        def energy(self, x):  # type: ignore[no-untyped-def]
            asked.append(1)
            return super().energy(x)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("halfulp.solvers.cg.Run", Seen)
        low = CGPrecision.of("fp32", "fp32/fp64", "fp32")
        assert cg(poisson(16), Always(low)).status is Status.CONVERGED and not asked
        coarse = CGPrecision.of("bf16", axpy="fp32")
        hard = cg(load("biharmonic:40:seed=1"), Always(coarse), tol=1e-4, safeguard=Safeguard(stall=10))
    assert hard.status is Status.CONVERGED and asked
