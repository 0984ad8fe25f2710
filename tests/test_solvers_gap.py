"""What moves r off b - A x: x in a datapath of its own, when that is looked at, and how directions go on then."""

from __future__ import annotations

import math
from dataclasses import replace

import halfulp as hu
import numpy as np
import pytest
from halfulp.solvers import policies
from halfulp.solvers.cg import CGPrecision, Solution, Status, View, cg
from halfulp.solvers.norms import norm
from halfulp.solvers.problems import load, poisson
from halfulp.solvers.run import Run
from halfulp.solvers.safeguard import SAFE, Safeguard, Watch, at_most
from solver_cases import Turns

LOW, MATRIX = "e8m15", "e8m19*e8m15/e8m19/e8m15"


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
    class Then(Turns):
        def at(self, view: View) -> CGPrecision:
            wide = CGPrecision.of(LOW, f"{LOW}/fp64", LOW, solution=f"{LOW}/fp64")
            return wide if view.iteration < 12 else super().at(view)

    low = CGPrecision.of(LOW, f"{LOW}/fp64", LOW)
    assert low.roundoff == unit(LOW) == low.matrix_roundoff == low.gap_roundoff
    found, alone = (cg(poisson(12), policy, tol=0.02) for policy in (Then(low), Turns(low)))
    assert found.status is alone.status is Status.CONVERGED and found.iterations == alone.iterations > 13
    assert found.residuals[:-1] == alone.residuals[:-1]  # r never knows, before the last check
    gained = [abs(solution.true_residuals[-2] / solution.residuals[-2] - 1.0) for solution in (found, alone)]
    assert 5 * gained[0] < gained[1]


def unit(name: str) -> float:
    return 2.0 ** -hu.format(name).precision


# ---- when the true residual is looked at ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "gap"),
    [
        ({"spmv": MATRIX, "dot": f"{LOW}/fp64", "axpy": LOW, "solution": f"{LOW}/fp32"}, 20),
        ({"spmv": "fp64", "solution": "fp64/fp32"}, 24),  # x alone
        ({"spmv": "fp64", "solution": "fp64/fp32/fp64"}, 24),  # the sum that x is read through
        ({"spmv": "fp64", "solution": "bf16/fp64"}, 8),  # p on its way to x
        ({"spmv": "fp64*bf16/fp64"}, 8),  # and to A p
        ({"spmv": "fp64*bf16/fp64", "axpy": "bf16", "solution": "bf16/fp64"}, 53),  # p as it is stored
        ({"spmv": "fp64:product=bf16"}, 8),
        ({"spmv": "fp64/fp32/fp64"}, 24),
        ({"spmv": "fp64", "storage": "bf16"}, 8),  # the matrix alone
        ({"spmv": "fp64"}, 53),
    ],
)
def test_what_moves_r_off_is_told_from_what_is_rounded(told: dict[str, str], gap: int) -> None:
    assert CGPrecision.of(**told).gap_roundoff == 2.0**-gap


def test_of_r_and_a_p_their_own_roundoff_counts_and_of_buckets_what_they_bear() -> None:
    low = CGPrecision.of(MATRIX, f"{LOW}/fp64", LOW, solution=f"{LOW}/fp32")
    assert low.own_roundoff == low.roundoff == 2.0**-16 and low.matrix_roundoff == 2.0**-20
    assert CGPrecision.of("fp64", axpy="bf16/fp64", residual="fp32").own_roundoff == 2.0**-24
    assert policies.ADAPTIVE.gap_roundoff == policies.ADAPTIVE.matrix_roundoff == 6e-8


def test_a_check_is_due_when_rounding_may_show_and_not_before() -> None:
    low = CGPrecision.of("fp64", storage="e8m15", axpy="fp64")  # 2^-16 of the matrix, 2^-16 of its products

    def due(condition: float, precisions: list[CGPrecision], residuals: list[float]) -> int | None:
        watch = Watch(Safeguard(fall=1e-3, near=3.0), 10_000)
        for k, (precision, residual) in enumerate(zip(precisions, residuals, strict=True)):
            watch.saw(residual, 0.0, precision)
            if watch.is_due(condition):
                return k
        return None

    falling = [2.0 ** -(2 * k) for k in range(12)]
    assert due(1.0, [low] * 12, falling) == 6  # 2^-12 <= 3 * 10 * 2^-16, by its own
    assert due(1e6, [low] * 12, falling) == 5  # 1e-3 is the first bound
    assert due(math.nan, [low] * 12, falling) == 4 and Safeguard.blind == 1e-2
    x = CGPrecision.of("fp64", solution="fp64/e8m15")
    assert due(10.0, [x] * 12, falling) == 8  # 2^-16 <= 3 * 0.03 * 10 * 3 * 2^-16
    assert due(10.0, [SAFE] * 6 + [x] * 6, falling) is None  # of what was left then: 2^-22 > 3 * 2^-16 * 2^-10
    assert due(100.0, [SAFE] * 6 + [x] * 6, falling) == 11
    assert due(10.0, [SAFE] * 12, falling) is None
    watch = Watch(Safeguard(), 10_000)
    watch.saw(1.0, 0.0, low)
    watch.checked(2.0**-14)
    watch.saw(2.0**-26, 0.0, low)
    assert watch.is_due(1.0) and watch.drift(1.0) == 10.0 * 2.0**-30  # of the residual since the check alone
    watch.saw(2.0**-60, 0.0, x)
    watch.checked(2.0**-60)
    assert watch.drift(1e9) == 0.0


def test_what_rounding_moves_r_by_grows_as_the_root_of_iterations() -> None:
    x, watch = CGPrecision.of("fp64", solution="fp64/e8m15"), Watch(Safeguard(), 10_000)
    found = []
    for _ in range(9):
        watch.saw(1.0, 0.0, x)
        found.append(watch.drift(100.0))
    assert (
        found[3] == 2.0 * found[0] and found[8] == pytest.approx(3.0 * found[0]) and 0.0 < found[0] < 100.0 * 2.0**-16
    )


def test_a_check_is_due_after_so_many_iterations_but_not_before_exact_ones_would_need_one() -> None:
    low = CGPrecision.of("fp32")

    def due(condition: float, **rules: float) -> int:
        watch, k = Watch(Safeguard(**{"fall": 1e-2, "check_every": 30} | rules), 10_000), 0  # type: ignore[arg-type]
        while not watch.is_due(condition):
            watch.saw(0.99**k, 0.0, low)  # no faster
            k += 1
        return k

    assert at_most(400.0, 1e-2) == pytest.approx(10.0 * math.log(200.0)) == pytest.approx(52.98, abs=0.01)
    assert due(400.0) == 53 and due(1.0) == due(math.nan) == 30 and due(400.0, check_every=60) == 60


def test_slow_progress_is_progress() -> None:
    """The residual of a large Poisson problem falls by little in each iteration, and by much in fifty."""
    low = CGPrecision.of("fp32")
    for pace, stalls in ((0.99, False), (0.9995, True)):
        watch = Watch(Safeguard(stall=50, progress=0.9), 10_000)
        for k in range(51):
            watch.saw(0.5 * pace**k, 0.0, low)
            assert watch.stalls is (stalls and k == 50), (pace, k)
        for k in range(200):
            watch.saw(0.4 * 0.99**k, 0.0, low)
            assert not watch.stalls


def test_a_large_solve_in_fp32_takes_hardly_more_iterations_than_in_fp64() -> None:
    """Checks soon enough, and not for nothing: the condition number is known in time, and no iteration is forced."""
    problem = poisson(120)
    found = cg(problem, CGPrecision.of("fp32", "fp32/fp64", "fp32"), safeguard=True)
    assert found.status is Status.CONVERGED and found.history[-1].condition > 0.5 * 8 / (math.pi / 121) ** 2 / 2
    assert not any(step.precision.is_fp64 for step in found.history)
    assert found.iterations < 1.05 * cg(problem).iterations


def test_easy_solves_are_checked_less_often_than_hard_ones() -> None:
    assert checks("reaction:12:seed=1") == 2 < checks("jump:32:seed=1")
    assert checks("reaction:12:seed=1", near=1e300) == 6  # by the fall alone
    assert checks("reaction:12:seed=1", preconditioner="jacobi") == 4  # whose condition number is not A's
    assert checks("reaction:12:seed=1", preconditioner="jacobi", blind=1e-3) == 3


def checks(name: str, preconditioner: str = "none", **rules: float) -> int:
    asked: list[int] = []

    class Seen(Run):
        def check(self, k):  # type: ignore[no-untyped-def]
            asked.append(k)
            return super().check(k)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("halfulp.solvers.cg.Run", Seen)
        low, safeguard = CGPrecision.of("fp32", "fp32/fp64", "fp32"), Safeguard(**rules)  # type: ignore[arg-type]
        found = cg(load(name), Turns(low), preconditioner=preconditioner, scaled=True, safeguard=safeguard)
    assert found.status is Status.CONVERGED
    return len(asked)


def test_no_progress_is_found_by_what_was_promised_since_the_last_check() -> None:
    """At good checks f(x) is not known, and taken to be what it should be: what was honest before hides nothing."""

    class Late(Turns):
        def at(self, view: View) -> CGPrecision:
            return CGPrecision.of("fp32", "fp32/fp64", "fp32") if view.least > 3e-5 else super().at(view)

    found = cg(load("poisson:24:seed=1"), Late(CGPrecision.of("fp64", "e8m4", "fp64", residual="fp64")))
    assert found.status is Status.CONVERGED
    noted = [step.iteration for step in found.history if any("no progress" in note for note in step.notes)]
    late = next(k for k, residual in enumerate(found.residuals) if residual <= 3e-5)
    assert noted and late < noted[0] <= late + Safeguard().stall + 1


# ---- and how directions go on ---------------------------------------------------------------------------------------


def followed(precision: CGPrecision, name: str, **how) -> tuple[Solution, list[tuple[int, float, float, int]]]:  # type: ignore[no-untyped-def]
    """After each turn of p that is not anew: turns since r was replaced, p.Ap_before, r.p over rho, less 1, and what p
    was lowered by on its way into Ap_before."""
    seen: list[tuple[int, float, float, int]] = []

    class Seen(Run):
        since = 10**9

        def turn(self, units, k, anew):  # type: ignore[no-untyped-def]
            self.since = 0 if self.replaced else self.since + 1
            image = getattr(self, "image", None)
            before = None if image is None else self.host(image[0]) * math.ldexp(1.0, image[1])
            end = super().turn(units, k, anew)
            p, r = self.host(self.p), self.host(self.r)
            if before is not None and not np.array_equal(p, self.host(units.precondition(self.r))):
                seen.append((self.since, abs(p @ before) / (norm(p) * norm(before)), r @ p / self.rho - 1.0, image[1]))
            return end

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("halfulp.solvers.cg.Run", Seen)
        found = cg(load(name), Turns(precision), scaled=True, safeguard=Safeguard(apart=1e9), **how)
    return found, seen


@pytest.mark.parametrize("how", [{}, {"preconditioner": "ssor"}, {"preconditioner": "ssor", "flexible": True}])
def test_after_r_is_replaced_p_stays_conjugate_and_alpha_is_the_best_step(how: dict) -> None:
    """To fp64's precision, as only the stored matrix is rounded; in the iterations after that, too."""
    found, seen = followed(CGPrecision.of("fp64", storage="bf16"), "jump:12:seed=3", **how)
    assert found.status is Status.CONVERGED and sum(since == 0 for since, *_ in seen) >= 3
    assert max(across for since, across, *_ in seen if since < 3) < 1e-11
    assert max(abs(off) for since, _, off, _ in seen if since < 3) < 1e-9


def test_p_is_conjugate_whatever_its_product_was_lowered_by() -> None:
    """With fp16 in products and p.Ap vectors are lowered by powers of two on their way."""
    fp16 = CGPrecision.of("fp16", "fp16/fp64", "fp64", residual="fp64", scalars="fp64")
    found, seen = followed(fp16, "jump:12:seed=3")
    replaced = [across for since, across, _, shift in seen if since == 0 and shift < -5]
    assert found.status is Status.CONVERGED and len(replaced) >= 3
    assert max(replaced) < 2.0**-11  # p in fp16 is conjugate to it


def test_a_replaced_residual_does_not_slow_down_what_follows() -> None:
    """Of systems that are checked late, when rounding has moved r off by a good share of it."""

    class Usual(Run):
        def follow(self, units, z, rho):  # type: ignore[no-untyped-def]
            return rho / self.rho, 0.0

    precision, rules = CGPrecision.of(LOW, f"{LOW}/fp64", LOW), Safeguard(fall=3e-5, near=1e300, apart=1e9)
    for problem in (load("reaction:12:seed=1"), load("jump:12:seed=3")):
        found = cg(problem, Turns(precision), scaled=True, safeguard=rules)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("halfulp.solvers.cg.Run", Usual)
            usual = cg(problem, Turns(precision), scaled=True, safeguard=rules)
        assert found.status is usual.status is Status.CONVERGED
        assert found.iterations < 0.7 * usual.iterations


def test_alpha_is_the_same_for_x_and_r() -> None:
    """x in more precision is never further off, with scalars in a format of their own, too."""
    problem = poisson(16)
    coarse = CGPrecision.of("fp64", scalars="bf16")
    finer = replace(coarse, solution=hu.Datapath.parse("fp64"))
    found = [cg(problem, precision, max_iterations=60) for precision in (coarse, finer)]
    assert found[0].residuals == found[1].residuals and found[0].true_residuals == found[1].true_residuals


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
        assert cg(poisson(16), Turns(low)).status is Status.CONVERGED and not asked
        coarse = CGPrecision.of("bf16", axpy="fp32")
        hard = cg(load("biharmonic:40:seed=1"), Turns(coarse), tol=1e-4, safeguard=Safeguard(stall=10))
    assert hard.status is Status.CONVERGED and asked
