"""Preconditioners: as dense algebra and SciPy have them, counted, honest where they break down."""

from __future__ import annotations

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from halfulp.kernels.operands import Operand
from halfulp.solvers.cg import CGPrecision, Status, cg
from halfulp.solvers.incomplete import incomplete_cholesky
from halfulp.solvers.preconditioners import Preconditioner
from halfulp.solvers.problems import Problem, norm, poisson
from halfulp.solvers.workshop import FP64

FP16, FP32 = hu.format("fp16"), hu.format("fp32")


def random_spd(n: int = 40, seed: int = 0) -> sp.csr_matrix:
    root = sp.random(n, n, 0.08, random_state=np.random.default_rng(seed), format="csr")
    matrix = sp.csr_matrix(root @ root.T + sp.diags(np.linspace(0.1, 3.0, n)))
    matrix.sort_indices()
    return matrix


def applied(text: str, matrix: sp.csr_matrix, r: np.ndarray, datapath: str = "fp64") -> tuple[np.ndarray, hu.Ledger]:
    machine = hu.Machine(datapath, on_inexact="quantize")
    factors = Preconditioner.of(text).build(matrix)
    assert factors is not None
    return factors.apply(machine, Operand(r, FP64, None), None).values, machine.ledger


def dense(text: str, matrix: sp.csr_matrix) -> np.ndarray:
    """M itself, from its definition."""
    a = matrix.toarray()
    d, lower = np.diag(np.diag(a)), np.tril(a, -1)
    kind, _, number = text.partition(":")
    if kind == "jacobi":
        return d
    if kind == "block-jacobi":
        place = np.arange(len(a)) // int(number)
        return np.where(place[:, None] == place, a, 0.0)
    if kind == "ssor":
        omega = float(number)
        half = d / omega + lower
        return half @ np.linalg.inv(d) @ half.T * omega / (2.0 - omega)
    unit, pivots, shift = incomplete_cholesky(matrix)
    assert shift == 0.0
    half = unit.toarray() + np.eye(len(a))
    return half @ np.diag(pivots) @ half.T


TEXTS = ("jacobi", "block-jacobi:7", "ssor:1.3", "ic0")


@pytest.mark.parametrize("text", TEXTS)
def test_application_in_fp64_is_the_inverse(text: str) -> None:
    for matrix in (random_spd(), poisson(6).matrix):
        r = np.random.default_rng(1).standard_normal(matrix.shape[0])
        z, _ = applied(text, matrix, r)
        expected = np.linalg.solve(dense(text, matrix), r)
        assert np.allclose(z, expected, rtol=1e-12, atol=1e-12 * abs(expected).max())


def test_triangular_solves_are_scipys() -> None:
    matrix = random_spd(60, 3)
    unit, pivots, _ = incomplete_cholesky(matrix)
    half = sp.csr_matrix(unit + sp.identity(60))
    r = np.random.default_rng(2).standard_normal(60)
    y = sla.spsolve_triangular(half, r) / pivots
    expected = sla.spsolve_triangular(sp.csr_matrix(half.T), y, lower=False)
    assert np.allclose(applied("ic0", matrix, r)[0], expected, rtol=1e-13, atol=1e-13 * abs(expected).max())


def test_ic0_is_cholesky_on_a_full_pattern_and_has_the_matrix_pattern() -> None:
    full = sp.csr_matrix(random_spd(12).toarray() + 0.01)
    unit, pivots, shift = incomplete_cholesky(full)
    root = (unit.toarray() + np.eye(12)) * np.sqrt(pivots)
    assert shift == 0.0 and np.allclose(root, np.linalg.cholesky(full.toarray()), rtol=1e-12)
    matrix = poisson(7).matrix
    unit, pivots, _ = incomplete_cholesky(matrix)
    strict = sp.tril(matrix, -1).tocsr()
    assert np.array_equal(unit.indices, strict.indices) and np.array_equal(unit.indptr, strict.indptr)
    product = (unit + sp.identity(49)) @ sp.diags(pivots) @ (unit + sp.identity(49)).T
    there = matrix.toarray() != 0
    assert np.allclose(product.toarray()[there], matrix.toarray()[there], rtol=1e-13)


def test_ic0_that_breaks_down_is_shifted_and_says_so() -> None:
    """Kershaw's matrix (1978, doi:10.1016/0021-9991(78)90098-0): positive definite, without IC(0) factors."""
    kershaw = sp.csr_matrix(np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]]))
    assert np.linalg.eigvalsh(kershaw.toarray())[0] > 0
    _, pivots, shift = incomplete_cholesky(kershaw)
    assert shift > 0 and (pivots > 0).all()
    solution = cg(Problem("kershaw", kershaw, np.full(4, 0.5)), "fp64", preconditioner="ic0")
    assert solution.status is Status.CONVERGED and solution.facts["shift"] == shift
    hopeless = sp.csr_matrix(np.array([[1.0, 1e9], [1e9, 1.0]]))
    with pytest.raises(hu.HalfulpError, match="ic0 breaks down in row 2"):
        incomplete_cholesky(hopeless)


@pytest.mark.parametrize("text", TEXTS)
def test_fp64_takes_scipys_iterations(text: str) -> None:
    for problem in (poisson(8, 1), Problem("random", random_spd(50, 4), np.full(50, 0.1))):
        mine = cg(problem, "fp64", 1e-9, preconditioner=text)
        inverse, steps = np.linalg.inv(dense(text, problem.matrix)), []
        x, info = sla.cg(problem.matrix, problem.rhs, rtol=1e-9, M=inverse, callback=steps.append)
        assert info == 0 and mine.status is Status.CONVERGED and abs(mine.iterations - len(steps)) <= 1
        assert norm(mine.x - x) <= 1e-7 * norm(x)


def test_preconditioners_make_fewer_iterations() -> None:
    problem = poisson(16)
    counts = {text: cg(problem, "fp64", preconditioner=text).iterations for text in ("none", *TEXTS)}
    assert counts["ic0"] < counts["block-jacobi:7"] < counts["none"] == counts["jacobi"]
    assert counts["ssor:1.3"] < counts["none"]


def test_applications_are_counted() -> None:
    matrix, n = poisson(6).matrix, 36
    strict = (matrix.nnz - n) // 2
    r = np.random.default_rng(1).standard_normal(n)
    _, ledger = applied("jacobi", matrix, r, "fp32")
    assert (ledger.n_mul, ledger.n_add) == (n, 0)
    _, ledger = applied("block-jacobi:6", matrix, r, "fp32")
    assert (ledger.n_mul, ledger.n_add) == (6 * n, 6 * n)
    for text in ("ic0", "ssor"):
        _, ledger = applied(text, matrix, r, "fp32")
        # two triangles; the row that needs none adds nothing; the diagonal between them
        assert (ledger.n_mul, ledger.n_add) == (2 * strict + n, 2 * strict + 2 * (n - 1))
        assert ledger.operations[hu.Operation("round", FP64, FP64, FP32)] == n
        levels, width = 11, 32
        triangle = strict * (width + 16) + (n - 1 + levels - 1) * 16 + n * width + (n - 1) * width
        added = 3 * (n - 1) * width
        assert ledger.bits_moved["sram"] == n * (64 + 32) + 2 * (triangle + added) + 3 * n * width


def test_factors_are_stored_apart_from_the_arithmetic() -> None:
    problem, n = poisson(6), 36
    strict, k = (problem.matrix.nnz - n) // 2, 3
    given = {"tol": 1e-15, "max_iterations": k, "preconditioner": "ic0"}
    plain = cg(problem, CGPrecision.of("fp64", precondition="fp32"), **given)
    stored = cg(problem, CGPrecision.of("fp64", precondition="fp32", factors="fp16"), **given)
    again = hu.Operation("round", FP16, FP16, FP32)
    assert (stored.ledger - plain.ledger).operations[again] == (k + 1) * (2 * strict + n)
    assert not np.array_equal(plain.x, stored.x)
    assert plain.ledger.bits_moved["sram"] - stored.ledger.bits_moved["sram"] == 16 * (k + 1) * (2 * strict + n)


@pytest.mark.parametrize("datapath", ["fp16/fp32", "bf16*fp16/fp32/bf16", "bf16@SR8"])
def test_low_precision_is_near_and_the_same_on_any_number_of_threads(datapath: str) -> None:
    problem = poisson(8)
    precision = CGPrecision.of("fp64", precondition=datapath)
    given = {"preconditioner": "ic0", "flexible": True, "scaled": True}
    runs = [cg(problem, precision, threads=threads, **given) for threads in (1, 2)]
    assert runs[0].status is Status.CONVERGED and np.array_equal(runs[0].x, runs[1].x)
    assert runs[0].iterations < cg(problem, "fp64").iterations


def test_the_gpus_source_gives_the_same_bits() -> None:
    given = {"preconditioner": "ic0", "scaled": True, "tol": 1e-6}
    runs = [cg(poisson(5), CGPrecision.of("fp16@SR8", axpy="fp64"), backend=where, **given) for where in ("cpu", "cxx")]
    assert np.array_equal(runs[0].x, runs[1].x) and runs[0].ledger == runs[1].ledger


def test_bad_preconditioners_are_refused_in_a_sentence() -> None:
    for text, sentence in (
        ("ilu", "none of none, jacobi"),
        ("jacobi:3", "takes nothing"),
        ("block-jacobi:0", "size of 1 to 64"),
        ("block-jacobi:x", "size of 1 to 64"),
        ("ssor:2", "between 0 and 2"),
        ("ssor:nan", "between 0 and 2"),
    ):
        with pytest.raises(hu.HalfulpError, match=sentence):
            Preconditioner.of(text)
    for text in ("none", *TEXTS):
        assert str(Preconditioner.of(text)) == text and Preconditioner.of(Preconditioner.of(text)).kind in text
    with pytest.raises(hu.HalfulpError, match="row 2 is -1"):
        cg(Problem("it", sp.csr_matrix(np.diag([1.0, -1.0])), np.ones(2)), preconditioner="jacobi")
    with pytest.raises(hu.HalfulpError, match="rows 1 to 2"):
        Preconditioner.of("block-jacobi:2").build(sp.csr_matrix(np.array([[1.0, 2.0], [2.0, 1.0]])))
