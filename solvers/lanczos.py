"""The condition number as Rayleigh quotients and the coefficients of conjugate gradients tell it."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from ..emulator.ledger import Ledger, Operation
from ..emulator.names import scalar_format
from .scaling import Scaling

#: Of an iteration, in fp64, at most: divisions and roots are counted as multiplications, and scalars are not moved.
_MULTIPLICATIONS, _ADDITIONS = 36, 15
_ROUNDED = 2.0**-40  #: of the trace: a sum of all entries that is less may be nothing but rounding errors


class Lanczos:
    """Follows the extreme eigenvalues of A (of M^-1 A with a preconditioner) by those of its Lanczos matrix T_k.

    T_k has 1/alpha_j + beta_(j-1)/alpha_(j-1) on its diagonal and sqrt(beta_j)/alpha_j beside it (Saad 2003, section
    6.7.3, doi:10.1137/1.9780898718003). Its largest eigenvalue, and that of its inverse, are followed by a vector each:
    with another row and column the new vector is the best combination of the old one and of the new coordinate. All
    that takes is a handful of scalars, ``_MULTIPLICATIONS`` and ``_ADDITIONS`` an iteration (Meurant & Tichy 2019,
    doi:10.1007/s11075-018-0634-8, after Duff & Voemel 2002). Both are estimated from below, so that ``condition``
    never falls, and is too small rather than too large: seldom by more than a third of what T_k tells.

    Parameters
    ----------
    largest, least : numbers between A's extreme eigenvalues that are known beforehand (:func:`quotients`); 0: none are.
    """

    def __init__(self, largest: float = 0.0, least: float = 0.0) -> None:
        self._known = largest, 1.0 / least if least > 0.0 else 0.0
        self.condition = largest / least if least > 0.0 else math.nan
        self.restart()

    def restart(self) -> None:
        """Coefficients of a new Krylov space follow; the estimate stays."""
        self._alpha = self._beta = 0.0
        self._steps = 0
        #: Of T: an eigenvalue, and the last component of its vector; of the inverse: an eigenvalue, the last component
        #: of the inverse times its vector, and the inverse's own last diagonal entry.
        self._largest, self._tip = 0.0, 0.0
        self._inverse, self._reach, self._corner = 0.0, 0.0, 0.0

    def step(self, alpha: float, beta: float) -> None:
        """The coefficients of another iteration: x += alpha p, and then p = z + beta p."""
        if alpha == 0.0:
            return
        self._steps += 1
        before, self._alpha = self._alpha, alpha
        carried, self._beta = self._beta, max(beta, 0.0)
        if before == 0.0:
            self._largest, self._tip = 1.0 / alpha, 1.0
            self._inverse = self._reach = self._corner = alpha
            return
        ratio = carried / before
        self._largest, _, self._tip = _larger(self._largest, self._tip * math.sqrt(carried) / before, ratio + 1 / alpha)
        corner = alpha * (ratio * self._corner + 1.0)
        across = -math.sqrt(ratio * alpha) * self._reach
        self._inverse, old, new = _larger(self._inverse, across, corner)
        self._reach, self._corner = old * across + new * corner, corner
        found = max(self._largest, self._known[0]) * max(self._inverse, self._known[1])
        if math.isfinite(found):
            self.condition = found if math.isnan(self.condition) else max(self.condition, found)

    @property
    def pace(self) -> float:
        """Steps in the present Krylov space over sqrt(condition number), as its T_k alone tells it; NaN before two."""
        found = self._largest * self._inverse
        return self._steps / math.sqrt(found) if self._steps > 1 and 0.0 < found < math.inf else math.nan

    @staticmethod
    def count(ledger: Ledger) -> None:
        """What a step takes."""
        fp64 = scalar_format("fp64")
        ledger.count(Operation("mul", fp64, fp64, fp64), _MULTIPLICATIONS)
        ledger.count(Operation("add", fp64, fp64, fp64), _ADDITIONS)


def quotients(given: sp.csr_matrix, scaling: Scaling, ledger: Ledger | None, bits: int) -> tuple[float, float]:
    """The largest and the least of some Rayleigh quotients of the scaled matrix: of the unit vectors, its diagonal, and
    of the vector that is all ones in the system as given, e.Ae / e.e. Where A is of differences between neighbours, as
    in Laplacians of grids and graphs, ones tell of its least eigenvalues before the first iteration, and conjugate
    gradients late. All are between the extreme eigenvalues, but for rounding (Golub & Van Loan 2013, section 8.1). Both
    are 0 where one shows that the matrix is not positive definite, or leaves fp64's range.

    Parameters
    ----------
    given : (n, n), before it was scaled by ``scaling``; values, added up in fp64.
    ledger : counts a pass over the numbers of the matrix, of so many ``bits`` each, as many as they are stored in, and
        another over the diagonal: an addition for each number, two, or comparisons, for each of the diagonal. None:
        nothing.
    """
    diagonal = scaling.matrix.diagonal()
    with np.errstate(over="ignore"):  # then nothing is known
        square = float(len(diagonal) if scaling.exponents is None else np.ldexp(1.0, -2 * scaling.exponents).sum())
    total = max(float(given.data.sum()), _ROUNDED * float(given.diagonal().sum()))
    if ledger is not None:
        fp64 = scalar_format("fp64")
        ledger.count(Operation("add", fp64, fp64, fp64), given.nnz + 2 * len(diagonal))
        ledger.move(given.nnz * bits + len(diagonal) * fp64.bits)
    least, largest = min(float(diagonal.min()), total / square), max(float(diagonal.max()), total / square)
    return (largest, least) if 0.0 < least <= largest < math.inf else (0.0, 0.0)


def _larger(a: float, b: float, d: float) -> tuple[float, float, float]:
    """Of [[a, b], [b, d]]: the larger eigenvalue, and the two components of its unit vector."""
    half = 0.5 * (a - d)
    root = math.hypot(half, b)
    first, second = (half + root, b) if half >= 0.0 else (b, root - half)
    length = math.hypot(first, second)
    return 0.5 * (a + d) + root, *((first / length, second / length) if length else (1.0, 0.0))
