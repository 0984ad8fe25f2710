"""Conjugate gradients whose every kind of operation runs on a Machine of its own, in a precision chosen per iteration.

Hestenes & Stiefel 1952 (doi:10.6028/jres.049.044); letters as there and in Golub & Van Loan, section 11.3; with a
preconditioner z = M^-1 r; flexible, beta = z.(r - r_before) / z_before.r_before (Notay 2000,
doi:10.1137/S1064827599362314).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from .policies import policy_of
from .precision import CGPrecision, PrecisionPolicy, View
from .preconditioners import Preconditioner
from .problems import Problem
from .run import Run
from .safeguard import Safeguard, Watch
from .scaling import Scaling
from .solution import Solution, Status, Step
from .workshop import Workshop, machines

__all__ = ["CGPrecision", "PrecisionPolicy", "Solution", "Status", "Step", "View", "cg", "machines"]


def cg(
    problem: Problem,
    precision: CGPrecision | PrecisionPolicy | str = "fp64",
    tol: float = 1e-8,
    max_iterations: int | None = None,
    patience: int | None = None,
    seed: int = 0,
    backend: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, float], None] = lambda iteration, residual: None,
    *,
    preconditioner: Preconditioner | str = "none",
    scaled: bool = False,
    lossless: bool = False,
    flexible: bool = False,
    safeguard: Safeguard | bool | None = None,
    observe_every: int = 0,
) -> Solution:
    """Solve A x = b from x = 0.

    Per iteration: one spmv (nnz multiplications and additions), two dots and three axpys (n each); with a
    preconditioner its application and r.z; scaled, in one in ten, near the end and where it is checked, a product and a
    dot for the residual of the system as given; flexible, z.r_before. With a policy or a safeguard, what the condition
    number takes (``lanczos``): some scalar operations, and before the first iteration a pass over the matrix; and
    checks (``safeguard``), a product, an axpy and a dot in fp64 each, and two dots where the solve goes on.

    Parameters
    ----------
    precision : of all iterations, or a policy that is asked before each; a datapath's name, or a policy's.
    tol : on the relative recursive residual ||b - A x||_2 / ||b||_2, as in SciPy, of the system as given, scaled or
        not. CONVERGED says that it holds for the true residual, in fp64, too.
    max_iterations : default 10 n, at most 20,000; with a safeguard half as many more, which leaves that many for
        fp64 alone.
    patience : iterations without a new least true residual after which the solve is called stagnated; default
        5 n, at least 1,000, because the residuals of CG on an ill-conditioned matrix rest for long before they fall.
    preconditioner : ``preconditioners.Preconditioner``, or its text.
    scaled : scale the system by powers of two first (``scaling``), and vectors on their way from a wide into a narrow
        format, such as fp16, where they would overflow or vanish. It rounds nothing.
    lossless : store the matrix, scaled or not, and multiply by it in the narrowest of bf16, fp16, tf32 and fp32 that
        all of its entries are values of, if there is one and it is narrower than what the precision says: the same
        bits, at less cost (``Solution.matrix_format``). Precisions with a storage or buckets of their own keep them.
    flexible : for preconditioners, or precisions of theirs, that change.
    safeguard : whether, or how, precision rises where progress fails; by default where ``precision`` may change.
    observe_every : after how many iterations inner products are observed (``Machine.observe``: overflow, underflow,
        swamped addends...), which changes no bit but is slow; 0: never. Of products with the matrix those of 1000 rows
        at most are, evenly spread.
    """
    how = (preconditioner, scaled, lossless)
    ready = prepare(problem, precision, tol, max_iterations, patience, seed, backend, threads, *how)
    if safeguard is None or isinstance(safeguard, bool):
        safeguard = Safeguard() if (ready.policy.changes if safeguard is None else safeguard) else None
    limit = usual_limit(len(problem.rhs), safeguard is not None) if max_iterations is None else ready.limit
    watch = None if safeguard is None else Watch(safeguard, limit)
    run = Run(problem, ready.scaling, ready.workshop, ready.policy, tol, flexible, watch, progress)
    run.observe_every = observe_every
    run.foresee()
    return run.solve(limit, ready.patience)


def usual_limit(n: int, safeguarded: bool) -> int:
    """``max_iterations`` where none are given."""
    limit = min(10 * n, 20_000)
    return limit + limit // 2 if safeguarded else limit


class Ready(NamedTuple):
    """What a solve starts from."""

    scaling: Scaling
    workshop: Workshop
    policy: PrecisionPolicy
    limit: int
    patience: int


def prepare(
    problem: Problem,
    precision: CGPrecision | PrecisionPolicy | str,
    tol: float,
    max_iterations: int | None,
    patience: int | None,
    seed: int,
    backend: str,
    threads: int | None,
    preconditioner: Preconditioner | str,
    scaled: bool,
    lossless: bool,
) -> Ready:
    """Checks what was given, fills in defaults, scales the system and builds the preconditioner."""
    a, b = problem.matrix, problem.rhs
    if not 0 < tol < 1:
        raise HalfulpError(f"tol is relative to ||b|| and must lie between 0 and 1, not {tol}.")
    if not np.isfinite(b).all():
        raise HalfulpError("the right-hand side must be finite.")
    if len(b) and np.abs(b).max() > np.finfo(float).max / math.sqrt(len(b)):
        raise HalfulpError("the right-hand side's norm leaves fp64's range: divide it by a power of two.")
    if not np.isfinite(a.data).all():
        raise HalfulpError("the matrix must be finite, but has an infinity or a NaN.")
    if b.shape != (a.shape[0],):
        raise HalfulpError(f"a right-hand side of shape {b.shape} does not fit a matrix of shape {a.shape}.")
    n = len(b)
    limit = usual_limit(n, False) if max_iterations is None else max_iterations
    patience = max(5 * n, 1000) if patience is None else patience
    if limit < 1 or patience < 1:
        raise HalfulpError("max_iterations and patience must be at least 1.")
    policy = policy_of(precision, seed)
    scaling = Scaling.of(a, b) if scaled else Scaling.none(a)
    factors = Preconditioner.of(preconditioner).build(scaling.matrix)
    workshop = Workshop(scaling.matrix, seed, backend, threads, factors, shifts=scaled, lossless=lossless)
    return Ready(scaling, workshop, policy, limit, patience)
