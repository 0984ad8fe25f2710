"""Iterative refinement: corrections by conjugate gradients in any precision, residuals and updates in fp64.

Carson & Higham 2018 (doi:10.1137/17M1140819), with u_r = u = fp64 and CG as the solver of the corrections: the error
falls in each outer step about as far as a correction is accurate, as long as that is below 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.ledger import Ledger
from ..kernels.operands import Operand
from .cg import prepare, usual_limit
from .endings import End
from .norms import norm
from .policies import Fixed
from .precision import CGPrecision, PrecisionPolicy
from .preconditioners import Preconditioner
from .problems import Problem
from .run import Run
from .safeguard import SAFE
from .solution import Solution, Status
from .workshop import FP64

#: An outer step is worth it if the residual falls to no more than this of what it was (an assumption).
GAIN = 0.5
#: Iterations of a correction without progress, at least, after which it ends; 2 n, if that is more.
_PATIENCE = 400


def refine(
    problem: Problem,
    precision: CGPrecision | PrecisionPolicy | str = "fp32",
    tol: float = 1e-8,
    max_iterations: int | None = None,
    patience: int | None = None,
    seed: int = 0,
    backend: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, float], None] = lambda iteration, residual: None,
    *,
    inner_tol: float = 1e-2,
    preconditioner: Preconditioner | str = "none",
    scaled: bool = False,
    lossless: bool = False,
    flexible: bool = False,
    safeguard: bool | None = None,
) -> Solution:
    """Solve A x = b: x += d with A d = r by conjugate gradients down to ``inner_tol``, r = b - A x in fp64, until
    ||r|| <= tol ||b||. Right-hand sides of corrections are scaled by powers of two, to about 1.

    Parameters
    ----------
    precision : of the corrections, or a policy. The rest as in ``cg``; ``max_iterations`` and ``patience`` (default
        2 n, at least 400) are of inner iterations in all, and of one correction.
    safeguard : whether corrections are done in fp64 once one in ``precision`` was not worth it; by default where
        ``precision`` may change.

    Returns
    -------
    A ``Solution`` as of ``cg``. Its iterations are the inner ones; its steps' precisions are theirs, and the outer
    step's operations, one spmv, one dot and two axpys in fp64, are in the ledger of the whole, not in those of steps.
    """
    if not 0 < inner_tol < 1:
        raise HalfulpError(f"inner_tol must lie between 0 and 1, not {inner_tol}.")
    how = (preconditioner, scaled, lossless)
    ready = prepare(problem, precision, tol, max_iterations, patience, seed, backend, threads, *how)
    scaling, workshop, policy, limit, _ = ready
    guarded = policy.changes if safeguard is None else safeguard
    limit = usual_limit(len(problem.rhs), guarded) if max_iterations is None else limit
    patience = max(2 * len(problem.rhs), _PATIENCE) if patience is None else patience
    exact, total = workshop.exact, Solution(np.zeros(len(problem.rhs)), workshop.ledger, Ledger(), {})
    outer = Run(problem, scaling, workshop, policy, tol, flexible, None, progress)
    total.facts = outer.solution.facts
    outer.x, outer.r = Operand(np.zeros(len(problem.rhs)), FP64, 0.0), outer.b
    failure = outer.measure(exact, 0) if outer.norm_b else None
    end = End(Status.CONVERGED, "b = 0") if not outer.norm_b else failure
    if not outer.norm_b:
        total.residuals, total.true_residuals = [0.0], [0.0]
    steps = 0
    while end is None:
        steps += 1
        before = outer.recursive
        x = _correct(outer, total, policy, inner_tol, limit - total.iterations, patience)
        last, outer.x = outer.x, x
        end = outer.replace(total.iterations)
        true = outer.recursive
        _observe(outer, total)
        if end is not None:
            break
        if true <= tol and total.true_residuals[-1] <= tol:
            end = End(Status.CONVERGED, f"in iteration {total.iterations}, after {steps} corrections")
        elif total.iterations >= limit:
            end = End(Status.MAX_ITERATIONS, f"not within {limit} iterations")
        elif not true <= GAIN * before:
            if not true < before:
                outer.x = last
                end = outer.replace(total.iterations)
            if guarded and policy.describe() != Fixed(SAFE).describe():
                policy = Fixed(SAFE)
            elif end is None:
                end = _why(total, before, true, steps)
    total.status, total.detail = end
    total.matrix_format = workshop.lossless
    return total


def _correct(
    outer: Run, total: Solution, policy: PrecisionPolicy, inner_tol: float, left: int, patience: int
) -> Operand:
    """x + d; what the inner solve did joins the whole."""
    workshop, scaling = outer.workshop, outer.scaling
    exact, x, r = workshop.exact, outer.host(outer.x), outer.host(outer.r)
    exponent = math.frexp(float(np.max(np.abs(r))))[1]
    inner = Run(outer.problem, scaling, workshop, policy, inner_tol, outer.flexible, None, outer.progress)
    inner.b = Operand(np.ldexp(r, -exponent), FP64, None)
    inner.norm_b = math.ldexp(math.sqrt(outer.square), -exponent)
    inner.lift = lambda y: scaling.solution(x + np.ldexp(y, exponent))
    inner.before = total.iterations
    part = inner.solve(max(left, 1), patience)
    share = outer.recursive
    total.residuals += [share * residual for residual in part.residuals[1:]]
    total.true_residuals += part.true_residuals[1:]
    total.history += [replace(step, residual=share * step.residual) for step in part.history]
    if part.best and part.true_residual < total.true_residual:
        total.x, total.best, total.ledger_of_x = part.x, total.iterations + part.best, part.ledger_of_x
    total.iterations += len(part.residuals) - 1
    total.status, total.detail, total.direction = part.status, part.detail, part.direction
    d = exact.loaded("axpy", exact.axpy, inner.x, FP64)
    return exact.update(exact.axpy, math.ldexp(1.0, exponent), d, outer.x)


def _observe(outer: Run, total: Solution) -> None:
    """The true residual of x + d, which is the last inner iterate but for one rounding."""
    x = outer.lift(outer.host(outer.x))
    total.true_residuals[-1] = norm(outer.problem.rhs - outer.problem.matrix @ x) / norm(outer.problem.rhs)
    if total.iterations and total.true_residuals[-1] <= min(total.true_residuals):
        total.x, total.best, total.ledger_of_x = x, total.iterations, outer.workshop.ledger.copy()


def _why(total: Solution, before: float, true: float, steps: int) -> End:
    """Why a correction was none."""
    what = f"correction {steps} brought the true residual from {before:.2g} to {true:.2g}"
    inner = Status.STAGNATED if total.status in (Status.CONVERGED, Status.RESIDUAL_GAP) else total.status
    return End(inner, what if inner is Status.STAGNATED else f"{what}: {total.detail}")
