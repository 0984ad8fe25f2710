"""Conjugate gradients whose every kind of operation runs on a Machine of its own.

Hestenes & Stiefel 1952 (doi:10.6028/jres.049.044); letters as there and in Golub & Van Loan, section 11.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.ledger import Ledger
from ..emulator.names import scalar_format
from ..kernels.machine import Machine
from .problems import Problem, norm


class Status(Enum):
    """How a solve ended."""

    CONVERGED = "converged"  #: recursive and true residual are at most tol
    RESIDUAL_GAP = "residual gap"  #: the recursive residual is at most tol, the true one is not
    STAGNATED = "stagnated"  #: the true residual has not improved for ``patience`` iterations
    MAX_ITERATIONS = "max iterations"
    BREAKDOWN = "breakdown"  #: p.Ap <= 0 in the emulated arithmetic, though positive in fp64; or r.r lost to rounding
    INDEFINITE = "indefinite"  #: p.Ap <= 0 in fp64 too: the matrix is not positive definite
    NONFINITE = "non-finite"  #: an operation overflowed or gave NaN


@dataclass(frozen=True)
class CGPrecision:
    """The datapath of each kind of operation."""

    spmv: Datapath
    dot: Datapath
    axpy: Datapath
    residual: Datapath | None = None  #: of the residual's update and norm; None: those of axpy and dot
    scalars: Format | None = None  #: in which alpha and beta enter axpy (they are divided in fp64); None: axpy's ``a``

    @classmethod
    def of(
        cls,
        spmv: Datapath | str,
        dot: Datapath | str | None = None,
        axpy: Datapath | str | None = None,
        residual: Datapath | str | None = None,
        scalars: Format | str | None = None,
    ) -> CGPrecision:
        """Left out: ``dot`` and ``axpy`` are as ``spmv``."""
        first = Datapath.parse(spmv)
        return cls(
            first,
            first if dot is None else Datapath.parse(dot),
            first if axpy is None else Datapath.parse(axpy),
            None if residual is None else Datapath.parse(residual),
            None if scalars is None else scalar_format(scalars),
        )

    def describe(self) -> dict[str, str | None]:
        parts = {part: getattr(self, part) for part in ("spmv", "dot", "axpy", "residual")}
        named = {part: None if dp is None else dp.name for part, dp in parts.items()}
        return {**named, "scalars": None if self.scalars is None else str(self.scalars)}


@dataclass
class Solution:
    """What a solve gave.

    Residual norms are relative to ||b||_2. ``residuals[k]`` is the recursive one that the solver saw after k
    iterations; ``true_residuals[k]`` is ||b - A x_k|| / ||b|| in fp64, observed from outside (not in the ledger).
    """

    x: np.ndarray  #: (n,) the last iterate of a converged solve, otherwise the best: the one of least true residual
    status: Status
    detail: str  #: what happened where
    iterations: int  #: done in all
    best: int  #: the iteration that ``x`` is from
    residuals: list[float]
    true_residuals: list[float]
    ledger: Ledger  #: of the whole solve
    ledger_of_x: Ledger  #: until ``x`` was reached

    @property
    def true_residual(self) -> float:
        """||b - A x||_2 / ||b||_2 of the returned ``x``, in fp64."""
        return self.true_residuals[self.best]


def machines(
    precision: CGPrecision,
    seed: int = 0,
    backend: str = "cpu",
    ledger: Ledger | None = None,
    threads: int | None = None,
) -> tuple[Machine, Machine, Machine, Machine, Machine]:
    """The machines of spmv, dot, axpy, and of the residual's dot and axpy, with one seed and one ledger."""
    ledger = Ledger() if ledger is None else ledger
    update = precision.axpy if precision.scalars is None else replace(precision.axpy, a=precision.scalars)
    datapaths = (precision.spmv, precision.dot, update)
    entering: dict[str, str] = {"on_inexact": "quantize"}  # the matrix and the scalars come in fp64
    spmv, dot, axpy = (
        Machine(dp, backend, seed, ledger, threads, unit, **entering) for unit, dp in enumerate(datapaths)
    )
    if precision.residual is None:
        return spmv, dot, axpy, dot, axpy
    high = Machine(precision.residual, backend, seed, ledger, threads, len(datapaths), **entering)
    return spmv, dot, axpy, high, high


def cg(
    problem: Problem,
    precision: CGPrecision | str = "fp64",
    tol: float = 1e-8,
    max_iterations: int | None = None,
    patience: int | None = None,
    seed: int = 0,
    backend: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, float], None] = lambda iteration, residual: None,
) -> Solution:
    """Solve A x = b from x = 0.

    Per iteration: one spmv (nnz multiplications and additions), two dots and three axpys (n each).

    Parameters
    ----------
    tol : on the relative recursive residual, as in SciPy.
    max_iterations : default 10 n, at most 20,000.
    patience : iterations without a new least true residual after which the solve is called stagnated; default
        5 n, at least 1,000, because the residuals of CG on an ill-conditioned matrix rest for long before they fall.
    """
    precision = CGPrecision.of(precision) if isinstance(precision, str) else precision
    a, b = problem.matrix, problem.rhs
    n = len(b)
    if not 0 < tol < 1:
        raise HalfulpError(f"tol is relative to ||b|| and must lie between 0 and 1, not {tol}.")
    if not np.isfinite(b).all():
        raise HalfulpError("the right-hand side must be finite.")
    if b.shape != (a.shape[0],):
        raise HalfulpError(f"a right-hand side of shape {b.shape} does not fit a matrix of shape {a.shape}.")
    limit = min(10 * n, 20_000) if max_iterations is None else max_iterations
    patience = max(5 * n, 1000) if patience is None else patience
    if limit < 1 or patience < 1:
        raise HalfulpError("max_iterations and patience must be at least 1.")
    ledger = Ledger()
    spmv, dot, axpy, residual_dot, residual_axpy = machines(precision, seed, backend, ledger, threads)
    # the formats that p (and x), q and r are stored in
    format_p, format_q, format_r = (m.datapath.output for m in (axpy, spmv, residual_axpy))
    norm_b = norm(b)
    x = np.zeros(n)
    solution = Solution(
        x, Status.MAX_ITERATIONS, f"not within {limit} iterations", 0, 0, [1.0], [1.0], ledger, Ledger()
    )
    if norm_b == 0.0:
        solution.status, solution.detail = Status.CONVERGED, "b = 0"
        solution.residuals, solution.true_residuals = [0.0], [0.0]
        return solution

    def end(status: Status, detail: str) -> Solution:
        solution.status, solution.detail = status, detail
        return solution

    def keep(k: int) -> None:
        solution.x, solution.best, solution.ledger_of_x = x, k, ledger.copy()

    matrix = spmv.hold(a, spmv.datapath.a)
    r = residual_axpy.load(b, scalar_format("fp64"), format_r)
    p = axpy.load(r, format_r, format_p)
    rho = _dot(residual_dot, r, format_r, r, format_r)
    if not (np.isfinite(rho) and rho > 0.0):
        status = Status.BREAKDOWN if np.isfinite(rho) else Status.NONFINITE
        why = ": b rounds to zero" if not np.any(r) else ""
        return end(status, f"r.r = {rho} before the first iteration{why}")
    for k in range(1, limit + 1):
        q = spmv.spmv(matrix, spmv.load(p, format_p, spmv.datapath.b))
        curvature = _dot(dot, p, format_p, q, format_q)
        if not (np.isfinite(q).all() and np.isfinite(curvature)):
            return end(Status.NONFINITE, f"spmv or p.Ap overflowed in iteration {k}")
        if curvature <= 0.0:
            exactly = math.fsum((p * (a @ p)).tolist())
            if exactly <= 0.0 and np.any(p):
                return end(
                    Status.INDEFINITE, f"p.Ap = {exactly:.3g} in iteration {k}: the matrix is not positive definite"
                )
            return end(Status.BREAKDOWN, f"p.Ap rounded to {curvature} in iteration {k} (in fp64 it is {exactly:.3g})")
        alpha = rho / curvature
        x = _axpy(axpy, alpha, p, format_p, x, format_p)
        r = _axpy(residual_axpy, -alpha, q, format_q, r, format_r)
        rho, previous = _dot(residual_dot, r, format_r, r, format_r), rho
        if not (np.isfinite(x).all() and np.isfinite(r).all() and np.isfinite(rho)):
            return end(Status.NONFINITE, f"an axpy or r.r overflowed in iteration {k}")
        if rho < 0.0:
            return end(Status.BREAKDOWN, f"r.r wrapped to {rho} in iteration {k}")

        solution.iterations = k
        solution.residuals.append(float(np.sqrt(rho)) / norm_b)
        solution.true_residuals.append(norm(b - a @ x) / norm_b)
        if solution.true_residuals[-1] < solution.true_residual:
            keep(k)
        progress(k, solution.true_residuals[-1])
        if solution.residuals[-1] <= tol:
            if solution.true_residuals[-1] <= tol:
                keep(k)
                return end(Status.CONVERGED, f"in iteration {k}")
            return end(
                Status.RESIDUAL_GAP,
                f"in iteration {k} the recursive residual is {solution.residuals[-1]:.2g}, "
                f"the true one {solution.true_residuals[-1]:.2g}",
            )
        if k - solution.best >= patience:
            return end(Status.STAGNATED, f"no progress since iteration {solution.best}")
        p = _axpy(axpy, rho / previous, p, format_p, r, format_r)
    return solution


def _dot(machine: Machine, u: np.ndarray, stored_u: Format, v: np.ndarray, stored_v: Format) -> float:
    """u . v, each converted from the format that it is stored in, and the conversion counted."""
    dp = machine.datapath
    first = machine.load(u, stored_u, dp.a)
    return machine.dot(first, first if u is v and dp.a == dp.b else machine.load(v, stored_v, dp.b))


def _axpy(
    machine: Machine, alpha: float, u: np.ndarray, stored_u: Format, v: np.ndarray, stored_v: Format
) -> np.ndarray:
    """alpha u + v, likewise."""
    dp = machine.datapath
    return machine.axpy(alpha, machine.load(u, stored_u, dp.b), machine.load(v, stored_v, dp.accumulator))
