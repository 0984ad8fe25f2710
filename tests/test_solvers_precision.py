"""Conjugate gradients whose precision changes: bits, counts, random numbers, the safeguard, policies, refinement."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse as sp
from halfulp.kernels.operands import Operand
from halfulp.solvers import policies
from halfulp.solvers.agent import Agent, action
from halfulp.solvers.cg import CGPrecision, PrecisionPolicy, Status, View, cg
from halfulp.solvers.norms import inner, norm
from halfulp.solvers.precision import Signs, unit_roundoff
from halfulp.solvers.problems import Problem, load, poisson
from halfulp.solvers.refinement import refine
from halfulp.solvers.safeguard import SAFE, Safeguard
from halfulp.solvers.scaling import Scaling, spread
from halfulp.solvers.storage import narrowest
from halfulp.solvers.workshop import FP64, Workshop
from solver_cases import Turns

FP16, FP32 = hu.format("fp16"), hu.format("fp32")


def badly_scaled(side: int = 8) -> tuple[Problem, Problem]:
    """A Poisson problem, and the same one scaled by far powers of two: (S A S) (x / S) = S b."""
    plain = poisson(side, 1)
    s = np.exp2(np.random.default_rng(0).integers(-20, 21, side * side))
    matrix = sp.csr_matrix(sp.diags(s) @ plain.matrix @ sp.diags(s))
    matrix.sort_indices()
    return plain, Problem("badly scaled", matrix, plain.rhs * s)


def fma(a: float, b: float, c: float) -> float:
    return float(Fraction(a) * Fraction(b) + Fraction(c))


def fused_sum(u: np.ndarray, v: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(u.tolist(), v.tolist(), strict=True):
        total = fma(a, b, total)
    return total


def test_fp64_equals_a_plain_program_bit_for_bit() -> None:
    """Sums in storage order, each step one fused multiply-add, by Fractions: nothing of ours."""
    problem, steps = poisson(5, 2), 8
    a, b = problem.matrix, problem.rhs
    x, r = np.zeros(25), b.copy()
    p, rho, residuals = r, fused_sum(b, b), [1.0]
    for _ in range(steps):
        rows = [slice(*a.indptr[i : i + 2]) for i in range(25)]
        q = np.array([fused_sum(a.data[row], p[a.indices[row]]) for row in rows])
        alpha = rho / fused_sum(p, q)
        x = np.array([fma(alpha, u, v) for u, v in zip(p.tolist(), x.tolist(), strict=True)])
        r = np.array([fma(-alpha, u, v) for u, v in zip(q.tolist(), r.tolist(), strict=True)])
        rho, before = fused_sum(r, r), rho
        p = np.array([fma(rho / before, u, v) for u, v in zip(p.tolist(), r.tolist(), strict=True)])
        residuals.append(math.sqrt(rho) / norm(b))
    for precision in ("fp64", Turns(SAFE)):
        solution = cg(problem, precision, tol=1e-15, max_iterations=steps)
        assert solution.best == steps and np.array_equal(solution.x, x)
        assert solution.residuals == residuals


def test_vectors_are_converted_where_precision_changes_and_counted() -> None:
    problem, n = poisson(8), 64
    low, high = CGPrecision.of("fp32"), CGPrecision.of("fp64")
    solution = cg(problem, Turns(low, high), tol=1e-15, max_iterations=2, safeguard=False)
    rounds = {op: times for op, times in solution.ledger.operations.items() if op.kind == "round"}
    up, down = hu.Operation("round", FP32, FP32, FP64), hu.Operation("round", FP64, FP64, FP32)
    # b on its way in; then of the second iteration: p thrice (to multiply, for p.Ap, for x; for p itself), x, r
    assert rounds == {down: n, up: 6 * n}
    assert [step.precision for step in solution.history] == [low, high]
    assert sum((step.ledger for step in solution.history), hu.Ledger()) == solution.ledger
    assert not math.isnan(solution.history[1].condition)


def test_events_of_inner_products_are_in_the_history() -> None:
    problem = poisson(6)
    plain = cg(problem, "bf16", tol=1e-6, max_iterations=8)
    seen = cg(problem, "bf16", tol=1e-6, max_iterations=8, observe_every=3)
    assert np.array_equal(plain.x, seen.x) and plain.ledger == seen.ledger and plain.residuals == seen.residuals
    assert [step.iteration for step in seen.history if step.events] == [1, 4, 7]
    events = seen.history[0].events
    assert set(events) == {"dot", "spmv"}
    assert events["dot"].additions == 2 * 36 and events["dot"].inexact > 0  # p.Ap and r.r
    rows, machine = problem.matrix, hu.Machine("bf16", on_inexact="quantize")
    b = hu.quantize(problem.rhs, "bf16")  # p of the first iteration
    by_row = [machine.observe(rows[i].data[None, :], b[rows[i].indices, None])[1] for i in range(36)]
    assert events["spmv"] == sum(by_row[1:], by_row[0]) and events["spmv"].additions == rows.nnz
    split = cg(problem, CGPrecision.of("fp64", buckets="6e-8;fp64;fp32;bf16/fp32"), max_iterations=1, observe_every=1)
    assert split.history[0].events["spmv"].additions == rows.nnz
    assert not any(step.events for step in plain.history)


def test_of_many_rows_a_thousand_are_observed() -> None:
    matrix, p = poisson(40).matrix, Operand(np.full(1600, 0.5), hu.format("fp16"), None)
    plain, seen = Workshop(matrix), Workshop(matrix)
    seen.observing = True
    products = [shop.units(CGPrecision.of("fp16")).product(p).values for shop in (plain, seen)]
    assert np.array_equal(*products) and plain.ledger == seen.ledger and not plain.events
    rows = np.linspace(0, 1599, 1000).astype(int)
    assert len(set(rows)) == 1000 and seen.events["spmv"].additions == int(np.diff(matrix.indptr)[rows].sum())


def test_no_random_bits_come_twice() -> None:
    first, second = CGPrecision.of("bf16@SR8"), CGPrecision.of("fp16@SR8")
    shop = Workshop(poisson(4).matrix)
    p = Operand(np.full(16, 0.5), hu.format("bf16"), None)
    numbers = []
    for precision in (first, second, first, first, second):
        units = shop.units(precision)
        before = units.spmv.calls
        units.product(p)
        numbers += range(before, units.spmv.calls)
    assert numbers == list(range(len(numbers))) and len(numbers) == 7  # two conversions into fp16
    assert shop.units(CGPrecision.of("bf16@SR8")) is shop.units(first)
    problem = poisson(6)
    one = cg(problem, first, tol=1e-3, max_iterations=12)
    same = cg(problem, Turns(first), tol=1e-3, max_iterations=12, safeguard=False)
    assert np.array_equal(one.x, same.x) and one.ledger == same.ledger


def test_a_matrix_is_stored_apart_from_the_arithmetic() -> None:
    problem, n = poisson(6), 36
    nnz, k = problem.matrix.nnz, 4
    plain = cg(problem, "fp32", tol=1e-15, max_iterations=k)
    stored = cg(problem, CGPrecision.of("fp32", storage="fp16"), tol=1e-15, max_iterations=k)
    assert np.array_equal(plain.x, stored.x)  # 4 and -1 are numbers of fp16
    done = stored.ledger - plain.ledger
    assert done.operations == {hu.Operation("round", FP16, FP16, FP32): nnz * k}
    assert plain.ledger.bits_moved["sram"] - stored.ledger.bits_moved["sram"] == 16 * nnz * k
    odd = Problem("odd", (problem.matrix * (1 + 2**-12)).tocsr(), problem.rhs)
    rounded = cg(odd, CGPrecision.of("fp64", storage="fp16"), tol=1e-12, max_iterations=60)
    assert rounded.status is Status.RESIDUAL_GAP and rounded.true_residual > 1e-5  # it solves what is stored
    assert n == len(rounded.x)


@pytest.mark.parametrize(
    ("factor", "fmt"),
    [(1.0, "bf16"), (1.0 + 2.0**-10, "fp16"), (6e9, "fp32"), (1.0 + 2.0**-20, "fp32"), (0.1, None)],
)
def test_a_matrix_is_stored_in_the_narrowest_format_that_has_its_entries(factor: float, fmt: str | None) -> None:
    system = Problem("poisson", (poisson(8).matrix * factor).tocsr(), poisson(8).rhs)
    held, nnz = None if fmt is None else hu.format(fmt), system.matrix.nnz
    assert narrowest(system.matrix) == held

    def saved(precision: CGPrecision | str, used: bool) -> int:
        plain, packed = (cg(system, precision, tol=1e-4, lossless=lossless) for lossless in (False, True))
        assert np.array_equal(plain.x, packed.x) and plain.residuals == packed.residuals
        assert plain.matrix_format is None and packed.matrix_format == (held if used else None)
        return (plain.ledger.bits_moved["sram"] - packed.ledger.bits_moved["sram"]) // (nnz * plain.iterations)

    bits = 64 if held is None else held.bits
    assert saved("fp64", held is not None) == 64 - bits
    assert saved(CGPrecision.of("fp32", "fp32/fp64", "fp32"), bits < 32) == max(32 - bits, 0)
    assert saved(CGPrecision.of("bf16*fp32/fp32", "fp32/fp64", "fp32"), False) == 0
    for kept in (
        CGPrecision.of("fp64", storage="fp32"),
        CGPrecision.of("bf16/fp32", "fp32", "fp32", storage="fp64"),
        CGPrecision.of("fp64", storage="gse32"),
        CGPrecision.of("fp64", buckets="1e-3;fp64;fp32;bf16/fp32"),
    ):
        assert saved(kept, False) == 0
    refined = refine(system, "fp64", lossless=True)
    assert refined.status is Status.CONVERGED and refined.matrix_format == held


def test_the_given_systems_residual_is_told_from_the_scaled_ones() -> None:
    n, rng = 96, np.random.default_rng(4)
    line = sp.diags([-1.0, 2.25, -1.0], [-1, 0, 1], shape=(n, n))
    d = sp.diags(np.ldexp(1.0, rng.integers(-6, 7, n)))
    problem = Problem("line", (d @ line @ d).tocsr(), rng.standard_normal(n))
    found = cg(problem, "fp64", tol=1e-6, scaled=True)
    assert found.status is Status.CONVERGED
    exact = [k % 10 == 0 or r <= 10 * 1e-6 for k, r in enumerate(found.residuals)]
    off = np.abs(np.array(found.residuals) / np.array(found.true_residuals) - 1.0)
    assert (off[exact] < 1e-6).all() and off.max() < 4.0 and not all(exact)
    square = hu.Operation("mul", FP64, FP64, FP64)
    weighed = sum(k % 10 == 0 or r <= 10 * 1e-6 for k, r in enumerate(found.residuals))
    assert n * weighed <= found.ledger.operations[square] < n * len(found.residuals)
    low, often = CGPrecision.of("fp32", "fp32/fp64", "fp32"), Safeguard(near=1e9)
    checked = cg(problem, Turns(low), tol=1e-6, scaled=True, safeguard=often)
    assert checked.status is Status.CONVERGED and not any("replaced" in n for s in checked.history for n in s.notes)


def test_scaling_is_exact() -> None:
    plain, bad = badly_scaled()
    one, other = Scaling.of(plain.matrix, plain.rhs), Scaling.of(bad.matrix, bad.rhs)
    assert np.array_equal(one.matrix.data, other.matrix.data) and spread(bad.matrix) > 40 > spread(plain.matrix) == 0
    right = one.right_hand_side(plain.rhs), other.right_hand_side(bad.rhs)
    assert np.array_equal(right[0], np.ldexp(right[1], other.shift - one.shift)) and 0.5 <= abs(right[1]).max() <= 1
    residual = bad.rhs - bad.matrix @ np.ones(64)
    scaled = other.right_hand_side(residual)
    assert np.array_equal(scaled * other.weights, residual) and one.weights is None  # all are the same
    diagonal = other.matrix.diagonal()
    assert (diagonal >= 0.5).all() and (diagonal <= 2).all()
    with pytest.raises(hu.HalfulpError, match="row 2 is -1"):
        Scaling.of(sp.csr_matrix([[1.0, 0.0], [0.0, -1.0]]), np.ones(2))
    with pytest.raises(hu.HalfulpError, match="range"):
        Scaling.of(sp.csr_matrix([[2.0**1000, 2.0**-1000], [2.0**-1000, 2.0**1000]]), np.ones(2))


def test_scaling_keeps_fp16_from_overflowing() -> None:
    _, bad = badly_scaled()
    precision = CGPrecision.of("fp16", "fp16", "fp32", residual="fp64", scalars="fp64")
    assert cg(bad, precision, tol=1e-3).status is Status.NONFINITE
    solution = cg(bad, precision, tol=1e-3, scaled=True)
    assert solution.status in (Status.CONVERGED, Status.RESIDUAL_GAP) and solution.true_residual < 1e-2
    true = norm(bad.rhs - bad.matrix @ solution.x) / norm(bad.rhs)
    assert true == solution.true_residual
    exact = cg(bad, "fp64", tol=1e-6, scaled=True)
    assert exact.status is Status.CONVERGED and exact.residuals[-1] == pytest.approx(exact.true_residual, rel=1e-6)


def test_a_rejected_iteration_leaves_x_and_raises_precision() -> None:
    hot = Problem("hot", (poisson(8).matrix * 1e5).tocsr(), poisson(8).rhs)
    policy = Turns(CGPrecision.of("fp16"))
    solution = cg(hot, policy, tol=1e-8)
    assert solution.status is Status.CONVERGED and solution.true_residual <= 1e-8
    first = solution.history[0]
    assert first.rejected and "non-finite" in first.notes[0] and "fp64 for 20" in first.notes[1]
    assert first.signs["spmv"] & Signs.NONFINITE and solution.true_residuals[1] == 1.0
    assert all(step.precision == SAFE for step in solution.history[1:21])
    assert [view.rejected for view in policy.views][:1] == [-1]
    if len(policy.views) > 1:
        assert policy.views[1].rejected == policy.views[1].iteration - 1


def test_a_solve_takes_policies_by_name_and_says_what_else_it_needs() -> None:
    problem = poisson(8)
    named, made = cg(problem, "room", scaled=True), cg(problem, policies.Room(), scaled=True)
    assert named.x.tobytes() == made.x.tobytes() and named.ledger == made.ledger
    assert cg(problem, "bf16", tol=0.1).history[0].precision == CGPrecision.of("bf16")
    assert "converged" in repr(named) and len(repr(named)) < 300  # without what is long

    class Text(PrecisionPolicy):
        def at(self, view: View) -> CGPrecision:
            return "fp32"  # type: ignore[return-value]

        def describe(self) -> dict:
            return {}

    broken = problem.matrix.copy()
    broken.data[3] = math.nan
    for given, system, message in (
        (Text(), problem, r"Text.at\(view\) must give a CGPrecision, not str 'fp32'"),
        (Agent(), problem, r"a solve needs a CGPrecision, a PrecisionPolicy \(an agent's is QPolicy\(agent\)\)"),
        ("fp64", problem._replace(matrix=broken), r"the matrix must be finite"),
        ("fp64", problem._replace(rhs=np.full(64, 1e308)), r"norm leaves fp64's range"),
    ):
        with pytest.raises(hu.HalfulpError, match=message):
            cg(system, given)  # type: ignore[arg-type]


def test_the_safeguard_brings_any_policy_to_the_tolerance() -> None:
    problem = poisson(12)
    drawn = policies.Random(("bf16", "fp32", CGPrecision.of("fp16")), 3)
    for policy in (policies.Fixed("bf16"), policies.Fixed("fp8_e4m3"), drawn):
        guarded = cg(problem, policy, tol=1e-8, safeguard=True)
        assert guarded.status is Status.CONVERGED
        assert norm(problem.rhs - problem.matrix @ guarded.x) / norm(problem.rhs) <= 1e-8
        raised = policy.describe() != policies.Fixed("bf16").describe()  # which checks are enough for
        assert any(step.notes for step in guarded.history) is raised
    alone = cg(problem, "bf16", tol=1e-8, patience=100)
    assert alone.status is not Status.CONVERGED and not any(step.notes for step in alone.history)
    with_time = cg(problem, policies.Fixed("bf16"), tol=1e-8, max_iterations=100, safeguard=True)
    assert with_time.status is Status.CONVERGED and all(step.precision == SAFE for step in with_time.history[33:])
    assert policies.rung("fp64").is_fp64 and SAFE.is_fp64 and not CGPrecision.of("fp64", storage="fp32").is_fp64
    # looks at the true residual are counted
    eager = cg(problem, Turns(CGPrecision.of("fp32")), tol=1e-4, safeguard=Safeguard(check_every=1))
    lazy = cg(problem, Turns(CGPrecision.of("fp32")), tol=1e-4)
    assert eager.ledger.n_mul > lazy.ledger.n_mul


def test_where_the_energy_of_an_iterate_says_no_more_its_residual_does() -> None:
    """kappa = 6e7: at the tolerance x.Ax / 2 - b.x grows by rounding, which was once a reason to go back for ever."""

    texts = [f"{x}/fp32;fp32;fp64;{x}/fp32" for x in ("bf16", "fp16", "tf32")]
    precisions = [*map(action, ["bf16/fp32;fp32;fp32;bf16/fp32", *texts, "fp32;fp32;fp64;fp32"]), SAFE]

    class Drawn(PrecisionPolicy):
        def __init__(self) -> None:
            self.rng = np.random.default_rng(4)

        def at(self, view: View) -> CGPrecision:
            if view.iteration % 25 == 1:
                self.precision = precisions[self.rng.integers(6)]
            return self.precision

    found = cg(load("graph:60:seed=4", seed=4), Drawn(), tol=1e-8, scaled=True)
    assert found.status is Status.CONVERGED and found.true_residual <= 1e-8


def test_a_good_run_costs_its_checks_and_nothing_else() -> None:
    """As many iterations as in fp64, no step of the safeguard's, and checks where rounding asks for them."""
    problem, low = poisson(16), CGPrecision.of("fp32", "fp32/fp64", "fp32")
    reference = cg(problem, "fp64", tol=1e-8)
    found = cg(problem, Turns(low), tol=1e-8)
    assert found.status is Status.CONVERGED and found.iterations <= reference.iterations + 1
    assert not any(step.notes for step in found.history)
    exact = hu.Operation("add", FP64, FP64, FP64, within=hu.Datapath.parse("fp64"))
    n, nnz = 256, problem.matrix.nnz
    checks, left = divmod(found.ledger.operations[exact], nnz + n)  # a product and ||r|| each
    assert checks == 2 and not left
    low_pj, high_pj = (hu.Technology("45nm").price(solution.ledger).total_pj for solution in (found, reference))
    assert low_pj < 0.51 * high_pj


def test_x_is_what_was_checked_and_what_came_since() -> None:
    """x is never rounded to the precision of the iterations, and what is returned is the x that was checked."""
    problem, low = poisson(12), CGPrecision.of("fp32", "fp32/fp64", "fp32")
    guarded = cg(problem, Turns(low), tol=1e-10)
    assert guarded.status is Status.CONVERGED
    assert norm(problem.rhs - problem.matrix @ guarded.x) / norm(problem.rhs) == guarded.true_residual <= 1e-10
    assert np.any(guarded.x != hu.quantize(guarded.x, "fp32"))
    half = cg(problem, Turns(SAFE, low), tol=1e-10)  # by turns
    assert half.status is Status.CONVERGED


def test_slow_is_not_stalled() -> None:
    """The residual rests for long, but f(x) falls by what alpha and r.z say: precision does not rise."""
    n = 64
    line = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(n, n)).tocsr()
    slow = Problem("line", line, np.eye(n)[0])  # the residual falls in the n-th iteration
    found = cg(slow, Turns(CGPrecision.of("fp32", "fp32/fp64", "fp32")), safeguard=Safeguard(stall=10))
    assert found.status is Status.CONVERGED and not any("fp64 for" in n for step in found.history for n in step.notes)
    hard, coarse = load("jump:16:seed=1"), CGPrecision.of("fp8_e5m2/fp32", axpy="fp32")
    found = cg(hard, Turns(coarse), tol=1e-4, scaled=True, safeguard=Safeguard(stall=10))
    assert found.status is Status.CONVERGED and any("fp64 for" in n for step in found.history for n in step.notes)


def test_what_no_precision_helps_is_said() -> None:
    line = sp.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(50, 50)).tocsr()
    for precision in ("fp64", Turns(CGPrecision.of("fp32"))):
        found = cg(Problem("indefinite", line, np.ones(50) / 7), precision)
        p = found.direction
        assert found.status is Status.INDEFINITE and p is not None and p @ (line @ p) < 0 and "p.p = -" in found.detail
    hilbert = 1.0 / (np.arange(12)[:, None] + np.arange(12) + 1.0)
    hard = Problem("hilbert", sp.csr_matrix(hilbert), np.ones(12) / math.sqrt(12))
    assert cg(hard, Turns(CGPrecision.of("fp32")), tol=1e-14).status is not Status.CONVERGED
    huge = Problem("huge", sp.csr_matrix([[1e200, 0.0], [0.0, 1.0]]), np.array([1e200, 1.0]))
    assert cg(huge, Turns(CGPrecision.of("fp32"))).status is Status.NONFINITE


def test_flexible_is_plain_where_nothing_changes() -> None:
    problem = poisson(12)
    plain, flexible = (cg(problem, "fp64", preconditioner="ssor", flexible=how) for how in (False, True))
    assert plain.status is flexible.status is Status.CONVERGED and abs(plain.iterations - flexible.iterations) <= 1
    assert flexible.ledger.n_mul > plain.ledger.n_mul
    rough = CGPrecision.of("fp64", precondition="fp8_e4m3@SR8")
    given = {"preconditioner": "ssor", "scaled": True, "max_iterations": 300}
    plain, flexible = (cg(problem, rough, flexible=how, **given) for how in (False, True))
    assert flexible.status is Status.CONVERGED and flexible.iterations < plain.iterations


def view(residual: float, condition: float = 100.0, iteration: int = 5) -> View:
    return View(iteration, 100, 500, 1e-8, [1.0, residual], condition, 0.0, {}, -1, residual)


def test_policies() -> None:
    rule = policies.Rule()
    names = [rule.at(view(residual)).spmv.name for residual in (1.0, 1e-4, 1e-8)]
    assert names == ["fp64@RNE", "fp32@RNE", "fp16@RNE"]
    assert rule.at(view(1e-3, math.nan)).spmv == rule.ladder[-1].spmv
    roundoffs = [rule.at(view(residual, 10.0)).roundoff for residual in (1.0, 1e-3, 1e-5, 1e-7)]
    assert roundoffs == sorted(roundoffs) and roundoffs[0] < roundoffs[-1]
    stepped = policies.Stepped()
    assert [stepped.at(view(r)).spmv.name for r in (1.0, 1e-3, 1e-6)] == ["fp16@RNE", "fp32@RNE", "fp64@RNE"]
    drawn = [policies.Random(seed=4).at(view(1.0, iteration=i)).spmv.name for i in range(60)]
    again = [policies.Random(seed=4).at(view(1.0, iteration=i)).spmv.name for i in range(60)]
    assert drawn == again and set(drawn) == {f"{name}@RNE" for name in policies.LADDER}
    for policy in (rule, policies.Room(), stepped, policies.Random(), policies.Fixed("bf16/fp32")):
        json.dumps(policy.describe())
    precision = CGPrecision.of(
        "bf16/fp32", axpy="fp64", scalars="fp64", storage="fp16", factors="bf16", residual="fp64"
    )
    assert CGPrecision.of(**precision.describe()) == precision
    assert (
        precision.roundoff == 2.0**-8
        and unit_roundoff(FP16) == 2.0**-11
        and unit_roundoff(hu.format("q4.12")) == 2.0**-13
    )
    assert policies.named("fixed", precision).at(view(1.0)) is precision
    for bad, sentence in (
        (lambda: policies.named("magic", precision), "fixed, rule, room, stepped, random"),
        (lambda: policies.Rule(()), "at least one"),
        (lambda: policies.Rule(safety=0.0), "positive"),
        (lambda: policies.Stepped((("fp16", 1e-5), ("fp32", 1e-2))), "fall"),
        (lambda: policies.Random(()), "at least one"),
    ):
        with pytest.raises(hu.HalfulpError, match=sentence):
            bad()


@pytest.mark.parametrize("policy", [policies.Rule(), policies.Stepped()], ids=["rule", "stepped"])
def test_policies_save_what_fp64_would_take(policy: PrecisionPolicy) -> None:
    problem = poisson(16)
    solution = cg(problem, policy, tol=1e-8)
    reference = cg(problem, "fp64", tol=1e-8)
    assert solution.status is Status.CONVERGED and len({step.precision for step in solution.history}) > 1
    in_fp64 = [
        ledger.operations[hu.Operation("mul", FP64, FP64, None)] for ledger in (solution.ledger, reference.ledger)
    ]
    assert in_fp64[0] < in_fp64[1]


def test_refinement() -> None:
    problem = poisson(10)
    for inner_precision in ("bf16", CGPrecision.of("fp16", axpy="fp32")):
        assert cg(problem, inner_precision, tol=1e-10, patience=100).status is not Status.CONVERGED
        solution = refine(problem, inner_precision, tol=1e-10, inner_tol=0.1)
        assert solution.status is Status.CONVERGED and "corrections" in solution.detail
        assert norm(problem.rhs - problem.matrix @ solution.x) / norm(problem.rhs) <= 1e-10
        assert len(solution.residuals) == len(solution.true_residuals) == solution.iterations + 1
        assert [step.iteration for step in solution.history] == list(range(1, solution.iterations + 1))
        assert solution.ledger_of_x.n_mul <= solution.ledger.n_mul
    _, bad = badly_scaled()
    assert refine(bad, "fp16/fp32", tol=1e-6, inner_tol=0.1, scaled=True).status is Status.CONVERGED
    hard = Problem("hard", sp.csr_matrix(np.diag(np.logspace(0, 9, 40))), np.ones(40) / math.sqrt(40))
    stuck = refine(hard, "bf16", tol=1e-10)
    assert stuck.status is not Status.CONVERGED and stuck.true_residual > 1e-10
    assert refine(hard, "bf16", tol=1e-10, safeguard=True, preconditioner="jacobi").status is Status.CONVERGED
    assert refine(problem, "fp32", max_iterations=3).status is Status.MAX_ITERATIONS
    assert refine(Problem("zero", problem.matrix, 0 * problem.rhs)).status is Status.CONVERGED
    with pytest.raises(hu.HalfulpError, match="inner_tol"):
        refine(problem, inner_tol=2.0)


def test_norms_are_those_of_exact_sums() -> None:
    rng = np.random.default_rng(5)
    for n in (3, 5000, 40_001):
        v = rng.standard_normal(n) * np.exp2(rng.integers(-30, 30, n))
        assert norm(v) == math.sqrt(math.fsum((v * v).tolist()))
        assert inner(v, -v) == -math.fsum((v * v).tolist())
    assert norm(np.array([])) == 0.0 and math.isnan(norm(np.array([1.0, math.nan])))
    assert math.isinf(inner(np.full(2, 1e200), np.full(2, 1e200)))
