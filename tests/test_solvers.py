"""Conjugate gradients: SciPy's iterates in fp64, honest statuses in low precision."""

from __future__ import annotations

from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from halfulp.solvers.cg import CGPrecision, Status, cg
from halfulp.solvers.problems import Problem, matrix_market, poisson

SPD = Path(__file__).parents[2] / "shared" / "data" / "spd"


def scipy_cg(problem: Problem, rtol: float) -> np.ndarray:
    x, info = sla.cg(problem.matrix, problem.rhs, rtol=rtol, maxiter=20 * len(problem.rhs))
    assert info == 0
    return x


def test_fp64_reaches_scipys_iterate_on_poisson() -> None:
    problem = poisson(24)
    solution = cg(problem, "fp64", tol=1e-8)
    expected = scipy_cg(problem, 1e-8)
    assert solution.status is Status.CONVERGED and solution.true_residual <= 1e-8
    assert np.linalg.norm(solution.x - expected) <= 1e-8 * np.linalg.norm(expected)


@pytest.mark.skipif(not SPD.is_dir(), reason="needs the SPD matrices under ../shared/data")
@pytest.mark.parametrize(
    "name",
    [
        "bcsstm05",
        "Trefethen_20b",
        "Trefethen_20",
        "Chem97ZtZ",
        "nos4",
        "bcsstk02",
        "Journals",
        "nos3",
        "bcsstm22",
        "bcsstk01",
        "lund_a",
        "LFAT5",
        "rail_1357_K",
        "bcsstm09",
    ],
)
def test_fp64_reaches_scipys_iterate_on_real_matrices(name: str) -> None:
    problem = matrix_market(SPD / f"{name}.mtx.gz")
    solution = cg(problem, "fp64", tol=1e-8)
    expected = scipy_cg(problem, 1e-8)
    assert solution.status is Status.CONVERGED
    assert np.linalg.norm(solution.x - expected) <= 1e-8 * np.linalg.norm(expected)


def test_low_precision_ends_honestly() -> None:
    problem = poisson(16)
    bf16 = cg(problem, "bf16", tol=1e-6, patience=60)
    assert bf16.status in (Status.STAGNATED, Status.RESIDUAL_GAP) and 1e-3 < bf16.true_residual < 1
    assert bf16.true_residual == pytest.approx(
        np.linalg.norm(problem.rhs - problem.matrix @ bf16.x) / np.linalg.norm(problem.rhs), rel=1e-12
    )
    hot = Problem("hot", (problem.matrix * 1e5).tocsr(), problem.rhs)
    assert cg(hot, "fp16").status is Status.NONFINITE
    tiny = Problem("tiny", problem.matrix, problem.rhs * 1e-9)
    assert cg(tiny, "fp8_e4m3").status is Status.BREAKDOWN
    assert cg(problem, "fp64", max_iterations=3).status is Status.MAX_ITERATIONS
    assert cg(Problem("zero", problem.matrix, 0 * problem.rhs), "fp64").status is Status.CONVERGED


def test_residual_and_scalars_in_fp64_when_asked() -> None:
    problem = poisson(16)
    fp64 = hu.format("fp64")
    low = cg(problem, CGPrecision.of("tf32/fp32"), tol=1e-6, patience=60)
    high = cg(problem, CGPrecision.of("tf32/fp32", residual="fp64", scalars="fp64"), tol=1e-6, patience=60)
    text = str(high.ledger.as_dict())
    assert "e11m52*e11m52" in text and "e11m52*" not in str(low.ledger.as_dict())
    # residual machine: one dot and one axpy an iteration; the scalars are operands of axpy
    assert high.ledger.operations[hu.Operation("mul", fp64, fp64, None)] == 256 * (2 * high.iterations + 1)
    with_scalars = high.ledger.operations[hu.Operation("mul", fp64, hu.format("tf32"), None)]
    assert with_scalars in (256 * 2 * high.iterations, 256 * (2 * high.iterations - 1))  # the last p is not updated


def test_conversions_between_the_parts_are_counted() -> None:
    problem = poisson(8)
    solution = cg(problem, CGPrecision.of("bf16", "fp32", "fp32"), tol=1e-2, max_iterations=4, patience=50)
    fp32, bf16 = hu.format("fp32"), hu.format("bf16")
    # p is stored in fp32 and enters spmv in bf16; q leaves it in bf16 and enters dot and axpy in fp32
    assert solution.ledger.operations[hu.Operation("round", fp32, fp32, bf16)] == 64 * 4
    assert solution.ledger.operations[hu.Operation("round", bf16, bf16, fp32)] == 64 * 8


def test_the_returned_iterate_is_the_best_one() -> None:
    problem = poisson(16)
    solution = cg(problem, "bf16", tol=1e-6, patience=60)
    assert solution.best == int(np.argmin(solution.true_residuals)) < solution.iterations
    assert 0 < solution.ledger_of_x.n_mul < solution.ledger.n_mul


def test_a_wrapped_residual_norm_is_a_breakdown() -> None:
    solution = cg(poisson(6, 1), CGPrecision.of("fp32", residual="q1.14w"), max_iterations=200)
    assert solution.status is Status.BREAKDOWN and "r.r" in solution.detail
    assert not np.isnan(solution.residuals).any()


def test_ledger_of_a_solve_in_closed_form() -> None:
    problem = poisson(8)
    n, nnz = 64, problem.matrix.nnz
    k = cg(problem, "fp32", tol=1e-4).iterations
    solution = cg(problem, "fp32", tol=1e-4)
    # start: one dot; every iteration: spmv, two dots, three axpys, but the last skips the axpy of p
    assert solution.ledger.n_mul == n + k * (nnz + 2 * n + 3 * n) - n
    assert solution.ledger.n_add == solution.ledger.n_mul


def test_right_hand_sides_far_from_one() -> None:
    for scale in (1e-300, 1e-200, 1e200, 1e290):
        solution = cg(Problem("far", sp.csr_matrix([[2.0]]), np.array([scale])), "fp64")
        if scale > 1e150 or scale < 1e-150:  # r.r leaves fp64, and that is said
            assert solution.status in (Status.NONFINITE, Status.BREAKDOWN) and "r.r" in solution.detail


def test_an_indefinite_matrix_is_named_as_such() -> None:
    line = sp.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(50, 50)).tocsr()
    assert cg(Problem("indefinite", line, np.ones(50) / 7), "fp64").status is Status.INDEFINITE


@pytest.mark.parametrize("safeguard", [False, True])
def test_what_underflows_is_not_called_indefinite(safeguard: bool) -> None:
    """b is small, and so is A: p.Ap is 0 in fp64."""
    tiny = Problem("tiny", sp.diags([1e-200, 2e-200, 3e-200]).tocsr(), np.array([1.0, 2.0, 3.0]) * 1e-150)
    solution = cg(tiny, "fp64", safeguard=safeguard)
    assert solution.status is Status.BREAKDOWN and "p.Ap rounded to 0.0" in solution.detail
    assert "in fp64 it is 2.57e-200 p.p" in solution.detail  # (1 + 8 + 27) / (1 + 4 + 9)


def test_other_bad_input() -> None:
    problem = poisson(4)
    with pytest.raises(hu.HalfulpError, match="finite"):
        cg(Problem("nan", problem.matrix, problem.rhs * np.nan))
    with pytest.raises(hu.HalfulpError, match="does not fit"):
        cg(Problem("short", problem.matrix, problem.rhs[:3]))
    with pytest.raises(hu.HalfulpError, match="between 0 and 1"):
        cg(problem, tol=0.0)
