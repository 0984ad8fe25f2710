"""When conjugate gradients do not take a policy's word for it: assumptions, in this one place.

Neither the paper that policies are after (Chen 2025, arXiv 2504.14268) nor its sources fix these; they were chosen on
the Poisson problem and on matrices of ``shared/data/spd``, and can be set from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from .precision import CGPrecision

#: What precision rises to.
SAFE = CGPrecision.of("fp64")


@dataclass(frozen=True)
class Safeguard:
    """What is watched, and what is done.

    * The true residual is computed in fp64, and counted, every ``check_every`` iterations of less than fp64, wherever
      precision rises, and wherever the recursive residual says that the solve is done. It replaces the recursive one
      (residual replacement, van der Vorst & Ye 2000, doi:10.1137/S1064827599353865). Where precision rises, p starts
      anew from it, as directions of less precision would slow down all that follow (Powell 1976,
      doi:10.1007/BF01580677), and where it is more than ``apart`` times as large; if f(x) = x.Ax / 2 - b.x has grown
      since the last check, by more than rounding errors explain, x is that of then.
    * An iteration that gives an infinity or a NaN, or p.Ap <= 0 or r.z <= 0, is rejected: x stays.
    * Precision rises to fp64 after a rejected iteration, after ``stall`` iterations of less than fp64 in which the
      residual's minimum was not multiplied by ``progress`` at least, and where a replaced residual is not ``gain``
      times the one replaced before, or less: for ``rise`` iterations, and each time for twice as many as before; and
      for good after that ``share`` of the iterations that there may be, so that fp64 has time to do it alone.
    """

    check_every: int = 25
    apart: float = 2.0
    stall: int = 50
    progress: float = 0.9
    gain: float = 0.5
    rise: int = 20
    share: float = 0.25
    worth: int = 5  #: fewer iterations of less than fp64 are not worth a look where precision rises
    claims: int = 5  #: true residuals above tol in a row that a solve in fp64 takes for lower ones before it gives up


class Watch:
    """What a safeguard remembers during a solve."""

    def __init__(self, rules: Safeguard, limit: int) -> None:
        self.rules = rules
        self._last = int(rules.share * limit)  #: the last iteration that may be in less than fp64
        self.stepped_in: int | None = None  #: the iteration in which it last did
        self.unchecked = 0  #: iterations of less than fp64 since the true residual was known
        self._until = 0  #: the last iteration that precision is forced in
        self._rises = 0
        self._least, self._since = 1.0, 0  #: of the residual, and how many iterations ago
        self._replaced = 1.0  #: the least true residual that replaced a wrong one
        self._claims = 0

    def forces(self, iteration: int) -> bool:
        """Whether an iteration is done in fp64, whatever the policy says."""
        return iteration <= self._until or iteration > self._last

    def rise(self, iteration: int) -> str:
        """Precision rises after an iteration; what to note of it."""
        length = self.rules.rise << min(self._rises, 40)
        self._rises += 1
        self._until, self._since = iteration + length, 0
        return f"fp64 for {length} iterations"

    def saw(self, residual: float, safe: bool) -> None:
        """An iteration's recursive residual."""
        self.unchecked += not safe
        if residual < self.rules.progress * self._least or safe:
            self._since = 0
        else:
            self._since += 1
        self._least = min(self._least, residual)

    @property
    def stalls(self) -> bool:
        return self._since >= self.rules.stall

    @property
    def is_worth(self) -> bool:
        """A look at the true residual where precision rises."""
        return self.unchecked >= self.rules.worth

    @property
    def despairs(self) -> bool:
        """Of true residuals that do not follow; asked after each that did not."""
        self._claims += 1
        return self._claims >= self.rules.claims

    @property
    def due(self) -> bool:
        return self.unchecked >= self.rules.check_every

    def gained(self, true_residual: float) -> bool:
        """Whether a residual that is about to be replaced by the true one is worth it; remembers that one."""
        good = true_residual <= self.rules.gain * self._replaced
        self._claims = 0 if good else self._claims
        self._replaced = min(self._replaced, true_residual)
        self._least = true_residual
        return good
