"""When conjugate gradients do not take a policy's word for it: assumptions, in this one place.

Neither the paper that policies are after (Chen 2025, arXiv 2504.14268) nor its sources fix these; they were chosen on
the Poisson problem and on matrices of ``shared/data/spd``, and can be set from outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .precision import CGPrecision

#: What precision rises to.
SAFE = CGPrecision.of("fp64")


@dataclass(frozen=True)
class Safeguard:
    """What is watched, and what is done.

    * Updates are reliable: x is the sum of what it was at the last check, in fp64, and of what it has gained since, in
      the precision of the iterations. A check joins the two, and b - A x in fp64, counted, replaces r (van der Vorst &
      Ye 2000, doi:10.1137/S1064827599353865; Clark et al. 2010, doi:10.1016/j.cpc.2010.05.002). It is due when the
      recursive residual has fallen to ``fall`` of its largest since the last one, and to ``near`` times what rounding
      may have moved it off the true one by (:meth:`Watch.drift`), or, where A's condition number is not known, as with
      a preconditioner, to ``blind`` of its largest; after
      ``check_every`` iterations of less than fp64, or as many as exact conjugate gradients need at most, by what is
      known of the condition number, until the A norm of the error has fallen so far, if that is more
      (:func:`at_most`); wherever precision rises; and wherever the recursive residual says that the
      solve is done. The p that follows, as the one before was of another r, is made conjugate to it by beta =
      -z.Ap / p.Ap, and alpha is (r.p) / (p.Ap): with the usual ones p and r.p would be off by the same share in all
      iterations that follow. Where r.p <= 0 then, p starts anew.
    * p starts anew where precision rises, as directions of less precision would slow down all that follow (Powell 1976,
      doi:10.1007/BF01580677), and where the true residual is more than ``apart`` times the recursive one; if
      f(x) = x.Ax / 2 - b.x has grown since it was last known, by more than rounding errors explain, x is that of the
      last check. f is looked at where the true residual is too far apart, or not ``gain`` times the largest since the
      last check, and where there is no progress; at other checks it should have fallen by what alpha and r.z say.
    * An iteration that gives an infinity or a NaN, or p.Ap <= 0 or r.z <= 0, is rejected: x stays.
    * Precision rises to fp64 after a rejected iteration; where a residual that was too far apart is not ``gain`` times
      the one replaced before, or less; after ``claims`` true residuals in a row that are above tol where the recursive
      one is not; and where, after ``stall`` iterations of less than fp64 in which the residual's minimum was not
      multiplied by ``progress`` at least, f(x) has fallen by less than ``honest`` of what alpha and r.z say: for
      ``rise`` iterations, and each time for twice as many as before; and for good after that ``share`` of the
      iterations that there may be, so that fp64 has time to do it alone; and for good after ``enough`` times the
      iterations in which exact conjugate gradients would be done at the latest (:func:`at_most`), the condition number
      being what is known so far (``lanczos``; on fewer than 50 unknowns nothing).
    """

    fall: float = 0.05
    blind: float = 0.01  #: of 0.05, 0.01, 0.003 and 0.001, on nine systems: the best with Jacobi, 2 % off with IC(0)
    near: float = 3.0
    check_every: int = 200
    apart: float = 2.0
    stall: int = 50
    progress: float = 0.9
    honest: float = 0.5
    gain: float = 0.5
    rise: int = 20
    share: float = 1 / 3
    enough: float = 1.5
    worth: int = 5  #: after fewer iterations of less than fp64 nothing is checked where precision rises
    claims: int = 5  #: in a solve in fp64: before it gives up


#: By how much of r an iteration may move r off b - A x: condition number times u ||r|| is the order of u ||A|| ||x||,
#: which rounding the matrix, the sums in its products and x bring about (``CGPrecision.gap_roundoff``; Greenbaum 1997,
#: doi:10.1137/S0895479895284944), of which it is such a share; errors of k iterations that are independent, as those of
#: x and of sums, add up to sqrt(k) times as much, which is an upper estimate of what the rounded matrix brings, A's
#: own being off by the same in all. r and A p, rounded, move it by so many u of their own. All in fp32, the share was
#: below 0.02 in most checks of 662_bus, bcsstk02, graphs, S S^T + beta I and Poisson problems of 50 to 400 points a
#: side, and 0.06 at most; and these were 1 to 6 u.
_OF_CONDITION, _OF_OWN = 0.03, 10.0


def at_most(condition: float, fall: float) -> float:
    """Iterations in which exact conjugate gradients are done at the latest, that is, with an error in the A norm of
    ``fall`` times the first: sqrt(condition number) / 2 ln(2 / fall) (Saad 2003, equation 6.128,
    doi:10.1137/1.9780898718003)."""
    return 0.5 * math.sqrt(condition) * math.log(2.0 / fall)


class Watch:
    """What a safeguard remembers during a solve."""

    def __init__(self, rules: Safeguard, limit: int) -> None:
        self.rules = rules
        self._last = int(rules.share * limit)  #: the last iteration that may be in less than fp64
        self.stepped_in: int | None = None  #: the iteration in which it last did
        self.unchecked = 0  #: iterations of less than fp64 since the true residual was known
        self.mixed = 0  #: and since p started anew
        self._lower = 0  #: and in all
        self.promised = 0.0  #: by how much f(x) should have fallen since it was last known
        self.largest = 1.0  #: residual since the last check
        self._gap, self._own = 0.0, 0.0  #: the largest of unit roundoffs times residuals since then
        self._until = 0  #: the last iteration that precision is forced in
        self._rises = 0
        self._latest = 1.0  #: residual
        self._least, self._since = 1.0, 0  #: the residual when there was progress last, and how many iterations ago
        self._replaced = 1.0  #: the least true residual that replaced a wrong one
        self._claims = 0

    def forces(self, iteration: int) -> bool:
        """Whether an iteration is done in fp64, whatever the policy says."""
        return iteration <= self._until or iteration > self._last

    def has_enough(self, condition: float, tol: float, iteration: int) -> bool:
        """Whether there were so many iterations of less than fp64 that there are to be no more; told once.

        condition : as far as it is known; NaN: it is not.
        """
        if iteration >= self._last or not self._lower > self.rules.enough * at_most(condition, tol):
            return False
        self._last, self.stepped_in = iteration, iteration
        return True

    def rise(self, iteration: int) -> str:
        """Precision rises after an iteration; what to note of it."""
        length = self.rules.rise << min(self._rises, 40)
        self._rises += 1
        self._until, self._since = iteration + length, 0
        return f"fp64 for {length} iterations"

    def saw(self, residual: float, promised: float, precision: CGPrecision) -> None:
        """An iteration's recursive residual, and by how much it should have made f(x) fall."""
        safe = precision.is_fp64
        if not safe:
            self._gap = max(self._gap, precision.gap_roundoff * self._latest)
            self._own = max(self._own, precision.own_roundoff * self._latest)
        self.unchecked += not safe
        self.mixed += not safe
        self._lower += not safe
        self.promised += promised
        self.largest = max(self.largest, residual)
        self._latest = residual
        if residual < self.rules.progress * self._least or safe:
            self._least, self._since = min(self._least, residual), 0
        else:
            self._since += 1

    @property
    def stalls(self) -> bool:
        return self._since >= self.rules.stall

    @property
    def is_worth(self) -> bool:
        """A look at the true residual where precision rises."""
        return self.mixed >= self.rules.worth

    def drift(self, condition: float) -> float:
        """What rounding may have moved the residual by since the last check, by A's condition number."""
        return max(_OF_CONDITION * condition * math.sqrt(self.unchecked) * self._gap, _OF_OWN * self._own)

    def is_due(self, condition: float) -> bool:
        """Whether the true residual is to be looked at."""
        below = self.rules.blind * self.largest
        if not math.isnan(condition):
            below = min(self.rules.fall * self.largest, self.rules.near * self.drift(condition))
        fallen = self.unchecked > 0 and self._latest <= below
        late = self.rules.check_every <= self.unchecked and not self.unchecked < at_most(condition, self.rules.fall)
        return fallen or self.stalls or late

    def checked(self, true_residual: float) -> None:
        """The true residual has replaced the recursive one."""
        self.unchecked, self.largest, self._latest = 0, true_residual, true_residual
        self._gap = self._own = 0.0

    @property
    def gives_up(self) -> bool:
        """Of true residuals that do not follow; asked after each that did not."""
        self._claims += 1
        return self._claims >= self.rules.claims

    def gained(self, true_residual: float) -> bool:
        """Whether a residual that is about to be replaced by the true one is worth it; remembers that one."""
        good = true_residual <= self.rules.gain * self._replaced
        self._claims = 0 if good else self._claims
        self._replaced = min(self._replaced, true_residual)
        self._least = true_residual
        return good

    def rested(self) -> None:
        """Iterations without progress count anew."""
        self._since = 0
