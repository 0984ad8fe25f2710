"""Why a solve by conjugate gradients ends, or why an iteration cannot be taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .norms import inner
from .solution import Status


class End(NamedTuple):
    """A status, and what happened where."""

    status: Status
    detail: str


def gap(k: int, recursive: float, true: float) -> End:
    """The recursive residual is at most tol, the true one is not."""
    what = f"in iteration {k} the recursive residual is {recursive:.2g}, the true one {true:.2g}"
    return End(Status.RESIDUAL_GAP, what)


def after(k: int) -> str:
    return f"in iteration {k}" if k else "before the first iteration"


def lost(matrix: sp.csr_matrix, p: np.ndarray, curvature: float, k: int) -> End:
    """p.Ap came to ``curvature`` <= 0: because of the arithmetic, or of the matrix?"""
    scale = 2.0 ** np.frexp(np.abs(p).max(initial=0.0))[1]
    p = p / scale if scale else p  # so that no product underflows where the matrix's entries do not
    product = matrix @ p
    exactly = inner(p, product)
    longest = int(np.diff(matrix.indptr).max())
    error = (longest + 2) * np.finfo(float).eps * inner(np.abs(p), abs(matrix) @ np.abs(p))
    if p.any() and (exactly < -error or not product.any()):
        quotient = exactly / inner(p, p)
        return End(
            Status.INDEFINITE,
            f"p.Ap = {exactly * scale * scale:.3g} in iteration {k}, p.Ap / p.p = {quotient:.3g}: the matrix is not"
            " positive definite",
        )
    found = f"{exactly / inner(p, p):.3g} p.p" if abs(exactly) > error else "not told from zero"
    return End(Status.BREAKDOWN, f"p.Ap rounded to {curvature} in iteration {k} (in fp64 it is {found})")
