"""The condition number as the coefficients of conjugate gradients tell it."""

from __future__ import annotations

import math

from ..emulator.ledger import Ledger, Operation
from ..emulator.names import scalar_format

#: Of an iteration, in fp64, at most: divisions and roots are counted as multiplications, and scalars are not moved.
_MULTIPLICATIONS, _ADDITIONS = 33, 15


class Lanczos:
    """Follows the extreme eigenvalues of A (of M^-1 A with a preconditioner) by those of its Lanczos matrix T_k.

    T_k has 1/alpha_j + beta_(j-1)/alpha_(j-1) on its diagonal and sqrt(beta_j)/alpha_j beside it (Saad 2003, section
    6.7.3, doi:10.1137/1.9780898718003). Its largest eigenvalue, and that of its inverse, are followed by a vector each:
    with another row and column the new vector is the best combination of the old one and of the new coordinate. All
    that takes is a handful of scalars, ``_MULTIPLICATIONS`` and ``_ADDITIONS`` an iteration (Meurant & Tichy 2019,
    doi:10.1007/s11075-018-0634-8, after Duff & Voemel 2002). Both are estimated from below, so that ``condition``
    never falls, and is too small rather than too large: seldom by more than a third.
    """

    def __init__(self) -> None:
        self.condition = math.nan
        self.restart()

    def restart(self) -> None:
        """Coefficients of a new Krylov space follow; the estimate stays."""
        self._alpha = self._beta = 0.0
        #: Of T: an eigenvalue, and the last component of its vector; of the inverse: an eigenvalue, the last component
        #: of the inverse times its vector, and the inverse's own last diagonal entry.
        self._largest, self._tip = 0.0, 0.0
        self._inverse, self._reach, self._corner = 0.0, 0.0, 0.0

    def step(self, alpha: float, beta: float) -> None:
        """The coefficients of another iteration: x += alpha p, and then p = z + beta p."""
        if alpha == 0.0:
            return
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
        found = self._largest * self._inverse
        if math.isfinite(found):
            self.condition = found if math.isnan(self.condition) else max(self.condition, found)

    @staticmethod
    def count(ledger: Ledger) -> None:
        """What a step takes."""
        fp64 = scalar_format("fp64")
        ledger.count(Operation("mul", fp64, fp64, fp64), _MULTIPLICATIONS)
        ledger.count(Operation("add", fp64, fp64, fp64), _ADDITIONS)


def _larger(a: float, b: float, d: float) -> tuple[float, float, float]:
    """Of [[a, b], [b, d]]: the larger eigenvalue, and the two components of its unit vector."""
    half = 0.5 * (a - d)
    root = math.hypot(half, b)
    first, second = (half + root, b) if half >= 0.0 else (b, root - half)
    length = math.hypot(first, second)
    return 0.5 * (a + d) + root, *((first / length, second / length) if length else (1.0, 0.0))
