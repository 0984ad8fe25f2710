"""The condition number as the coefficients of conjugate gradients tell it."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

_EAGER = 8  #: the estimate is renewed in each of the first iterations, later whenever
_GROWTH = 1.2  #: there are so many times more coefficients, so that all renewals together are of order k


class Lanczos:
    """Estimates the extreme eigenvalues of A (of M^-1 A with a preconditioner) by those of its Lanczos matrix T_k.

    T_k has 1/alpha_j + beta_(j-1)/alpha_(j-1) on its diagonal and sqrt(beta_j)/alpha_j beside it (Saad 2003, section
    6.7.3, doi:10.1137/1.9780898718003; Golub & Van Loan, section 10.1.5). Its eigenvalues lie within those of A but for
    rounding errors, so that ``condition`` grows from below and never falls. All are of order k, kept as numbers.
    """

    def __init__(self) -> None:
        self.condition = math.nan
        self.restart()

    def restart(self) -> None:
        """Coefficients of a new Krylov space follow; the estimate stays."""
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._carried = 0.0  #: beta_(j-1) / alpha_(j-1)
        self._next = 2

    def step(self, alpha: float, beta: float) -> None:
        """The coefficients of another iteration: x += alpha p, and then p = z + beta p."""
        self._diagonal.append(1.0 / alpha + self._carried)
        self._beside.append(math.sqrt(max(beta, 0.0)) / alpha)
        self._carried = beta / alpha
        if len(self._diagonal) >= self._next:
            self._renew()

    def _renew(self) -> None:
        k = len(self._diagonal)
        self._next = k + 1 if k < _EAGER else math.ceil(_GROWTH * k)
        diagonal, beside = np.array(self._diagonal), np.array(self._beside[:-1])
        if not (np.isfinite(diagonal).all() and np.isfinite(beside).all()):
            return
        ends = (
            scipy.linalg.eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=(i, i)) for i in (0, k - 1)
        )
        lowest, highest = (float(end[0]) for end in ends)
        if lowest > 0.0:
            found = highest / lowest
            self.condition = found if math.isnan(self.condition) else max(self.condition, found)
