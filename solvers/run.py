"""One solve by conjugate gradients: iteration after iteration, and what a safeguard does where they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.ledger import Ledger
from ..kernels.operands import Operand
from .endings import End, gap
from .iteration import Iteration
from .norms import norm
from .precision import CGPrecision, PrecisionPolicy, View, unit_roundoff
from .problems import Problem
from .safeguard import SAFE, Watch
from .scaling import Scaling, spread
from .solution import Solution, Status, Step
from .workshop import FP64, Units, Workshop

_ENERGY_ERROR = 1e-10  #: of f(x), relative, by rounding: far more than fp64's


class Checked(NamedTuple):
    """What the last check left."""

    base: Operand | None  #: x then
    energy: float  #: f of it, or what that should be by what alpha and r.z have said since it was last known
    known: float  #: f as it was last known


class Run(Iteration):
    """One solve under way. With a safeguard ``x`` is what has been gained since ``base``, an x in fp64; without one
    ``base`` stays None."""

    base: Operand | None = None
    best: tuple[Operand | None, Operand]  #: the base and x of least true residual
    checked: Checked
    anew: bool  #: whether p is to start anew

    def __init__(
        self,
        problem: Problem,
        scaling: Scaling,
        workshop: Workshop,
        policy: PrecisionPolicy,
        tol: float,
        flexible: bool,
        watch: Watch | None,
        progress: Callable[[int, float], None],
    ) -> None:
        super().__init__(problem, scaling, workshop, tol, flexible, watch is not None or policy.changes)
        self.policy, self.watch, self.progress = policy, watch, progress
        self.scale, self.least = spread(problem.matrix), 1.0  #: the least of the residuals
        self.observe_every = 0  #: iterations from one whose inner products are observed to the next; 0: none is
        self.lift = scaling.solution  #: from y of the system that is iterated on to x
        self.before = 0  #: iterations done before the first one
        self.notes: list[str] = []
        self._marked = workshop.ledger.copy()
        self._ledgers: dict[frozenset, Ledger] = {}  #: of steps, each kept once
        facts = {} if workshop.factors is None else workshop.factors.facts
        self.solution = Solution(np.zeros(len(problem.rhs)), workshop.ledger, Ledger(), facts)

    # ---- the loop ------------------------------------------------------------------------------------------

    def solve(self, limit: int, patience: int) -> Solution:
        solution = self.solution
        if self.norm_b == 0.0:
            solution.residuals, solution.true_residuals = [0.0], [0.0]
            return self.end(End(Status.CONVERGED, "b = 0"))
        precision = self.precision(1)
        end = self.start(self.workshop.units(precision))
        for k in range(1, limit + 1):
            if end is not None:
                return self.end(end)
            units, safe = self.workshop.units(precision), precision.is_fp64
            self.workshop.observing = self.observe_every > 0 and (k - 1) % self.observe_every == 0
            failure = self.iterate(units, k)
            if failure is not None and self.is_final(failure, safe):
                return self.end(failure)
            solution.iterations = k
            end = self.accept(units, k) if failure is None else self.reject(k, failure)
            following = precision
            if end is None:
                following = self.precision(k + 1) if k < limit else precision
                end = self.turn_to(units, k, precision, following) if failure is None else None
            self.record(k, precision, failure is not None)
            since = max(solution.best, -1 if self.watch is None else self.watch.stepped_in or 0)
            if end is None and k - since >= patience:
                end = End(Status.STAGNATED, f"no progress since iteration {solution.best}")
            precision = following
        return self.end(end or End(Status.MAX_ITERATIONS, f"not within {limit} iterations"))

    def precision(self, k: int) -> CGPrecision:
        """That of iteration k."""
        watch, matrix = self.watch, self.problem.matrix
        if watch is not None:
            if watch.has_enough(self.lanczos.condition, self.tol, k - 1):
                self.notes.append("enough iterations of less than fp64: fp64 from here on")
            if watch.forces(k):
                return SAFE
        since = -1 if watch is None or watch.stepped_in is None else k - watch.stepped_in
        seen, condition, pace = self.solution.residuals, self.lanczos.condition, self.lanczos.pace
        system = matrix.shape[0], matrix.nnz, self.tol
        view = View(k, *system, seen, condition, self.scale, self.seen(), since, self.least, pace)
        chosen = self.policy.at(view)
        if not isinstance(chosen, CGPrecision):
            of = type(self.policy).__name__
            raise HalfulpError(f"{of}.at(view) must give a CGPrecision, not {type(chosen).__name__} {chosen!r}.")
        return chosen

    def start(self, units: Units) -> End | None:
        """x = 0, r = b, p = z; stored in the formats that the first precision's updates have."""
        zeros = units.axpy.backend.xp.zeros(self.b.values.size)
        self.x = Operand(zeros, units.solution.datapath.output, 0.0)
        self.checked = Checked(None, 0.0, 0.0)
        self.r = units.loaded("residual", units.residual_axpy, self.b, units.residual_axpy.datapath.output)
        failure = self.measure(units, 0) or self.turn(units, 0, anew=True)
        return failure if failure is None or self.watch is None else self.recover(0, failure)

    def end(self, end: End) -> Solution:
        solution = self.solution
        solution.status, solution.detail = end
        solution.matrix_format, solution.direction = self.workshop.lossless, self.direction
        if solution.best:
            solution.x = self.lift(self.whole(*self.best))
        return solution

    def is_final(self, failure: End, safe: bool) -> bool:
        """Whether more precision would not help."""
        return self.watch is None or safe or failure.status is Status.INDEFINITE

    def accept(self, units: Units, k: int) -> End | None:
        """Look at where an iteration led, and whether that is the end."""
        solution, watch, recursive = self.solution, self.watch, self.recursive
        solution.residuals.append(recursive)
        self.least = self.least if self.told else min(self.least, recursive)
        self.observe(k)
        self.anew = False
        if watch is not None:
            watch.saw(recursive, 0.5 * self.alpha * self.rho, units.precision)
            if (recursive <= self.tol and not self.is_plain) or watch.is_due(self.condition_of_matrix):
                end = self.check(k)
                if end is not None or self.recursive > self.tol:
                    return end
        if recursive <= self.tol:
            if solution.true_residuals[-1] <= self.tol:
                self.keep(k)
                return End(Status.CONVERGED, f"in iteration {k}")
            if watch is None:
                return gap(k, recursive, solution.true_residuals[-1])
        return None

    @property
    def is_plain(self) -> bool:
        """Whether nothing but fp64 has come since r was b - A x, and that is what it claims to be."""
        assert self.watch is not None
        return self.watch.unchecked == 0 and self.solution.true_residuals[-1] <= self.tol

    def turn_to(self, units: Units, k: int, now: CGPrecision, following: CGPrecision) -> End | None:
        """The new p, after a last look at r where precision is about to rise."""
        watch = self.watch
        if watch is not None:
            rises = following.roundoff < now.roundoff and watch.is_worth
            forced, next_forced = watch.forces(k), watch.forces(k + 1)
            if rises or (next_forced and not forced and not self.anew and not now.is_fp64):
                end = self.check(k) if watch.unchecked else None
                if end is not None:
                    return end
                self.anew = True
            elif unit_roundoff(following.of_solution.output) > unit_roundoff(self.x.fmt):
                self.joined()  # what x has gained would lose bits
        if self.anew:  # rounded into a format of less precision, p would not be z
            units = self.workshop.units(following)
        failure = self.turn(units, k, self.anew)
        return failure if failure is None or self.is_final(failure, now.is_fp64) else self.recover(k, failure)

    def begin(self, units: Units, z: Operand) -> None:
        """p = z."""
        super().begin(units, z)
        if self.watch is not None:
            self.watch.mixed = 0

    # ---- the safeguard -------------------------------------------------------------------------------------

    def check(self, k: int) -> End | None:
        """The true residual in fp64 takes the place of the recursive one; where that was wrong, p is to start anew."""
        watch, before = self.watch, self.checked
        assert watch is not None
        if self.told:
            self.weigh(self.workshop.exact)
            self.solution.residuals[-1] = self.recursive
        recursive = self.recursive
        unsafe, promised, largest = watch.unchecked > 0, watch.promised, watch.largest
        end = self.replace(k)
        if end is not None:
            return end
        claimed = recursive <= self.tol < self.recursive
        wrong = self.recursive > watch.rules.apart * recursive
        if wrong or watch.stalls or self.recursive > watch.rules.gain * largest:
            if self.fell(unsafe):
                wrong, end = True, self.replace(k)
        else:
            self.checked, watch.promised = Checked(self.base, before.energy - promised, before.known), 0.0
        if wrong or claimed:
            self.anew = wrong
            self.notes.append(f"the true residual {self.recursive:.2g} replaced {recursive:.2g}")
            watch.stepped_in = k
            gained = watch.gained(self.recursive)
            hopeless = claimed and not gained and watch.gives_up
            if hopeless and not unsafe:
                return gap(k, recursive, self.recursive)
            if unsafe and (hopeless or (wrong and not gained)):
                self.raise_precision(k)
        if watch.stalls:
            fall = before.energy - self.checked.energy + _ENERGY_ERROR * abs(before.energy)
            if fall < watch.rules.honest * promised:
                self.notes.append(f"no progress for {watch.rules.stall} iterations")
                self.raise_precision(k)
            watch.rested()
        return end

    def raise_precision(self, k: int) -> None:
        """From the next iteration on, with a new p."""
        assert self.watch is not None
        self.watch.stepped_in, self.anew = k, True
        self.notes.append(self.watch.rise(k))

    def joined(self) -> Operand:
        """x as a whole, in fp64, and from now on the base."""
        exact = self.workshop.exact
        x = exact.loaded("residual", exact.axpy, self.x, FP64)
        if self.base is not None:
            x = exact.axpy.add(self.base, x, held=True)
        if self.watch is not None:
            self.base, self.x = x, Operand(exact.axpy.backend.xp.zeros(x.values.size), self.x.fmt, 0.0)
        return x

    def replace(self, k: int) -> End | None:
        """r = b - A x in fp64."""
        exact = self.workshop.exact
        self.r, self.r_before = exact.update(exact.axpy, -1.0, exact.product(self.joined()), self.b), None
        self.replaced = True
        end = self.measure(exact, k, exactly=True)
        if self.watch is not None:
            self.watch.checked(self.recursive)
        return end

    def energy(self, x: Operand) -> float:
        """f(x) = x.Ax / 2 - b.x = -x.(b + r) / 2, which conjugate gradients make smaller in every iteration."""
        exact = self.workshop.exact
        r = exact.loaded("residual", exact.axpy, self.r, FP64)
        return -0.5 * exact.inner(exact.dot, x, exact.axpy.add(self.b, r, held=True))

    def fell(self, unsafe: bool) -> bool:
        """Whether f(x) has grown since it was last known, and x is that of the last check; else this x is remembered.
        Not by what fp64 has done alone: where x is as good as fp64 can tell, f(x) says no more."""
        assert self.base is not None and self.watch is not None
        energy, known = self.energy(self.base), self.checked.known
        if not unsafe or self.recursive <= self.tol or energy <= known + _ENERGY_ERROR * abs(known):
            self.checked, self.watch.promised = Checked(self.base, energy, energy), 0.0
            return False
        self.base = self.checked.base
        self.notes.append("x is that of the last check")
        return True

    def reject(self, k: int, failure: End) -> End | None:
        """An iteration failed: x stays."""
        end = self.recover(k, failure)
        self.solution.residuals.append(self.recursive)
        self.observe(k)
        return end

    def recover(self, k: int, failure: End) -> End | None:
        """r and p start anew from x in fp64, and precision rises."""
        watch = self.watch
        assert watch is not None
        self.seen()  # what overflowed is known
        watch.stepped_in = k
        self.notes += [f"{failure.status.value}: {failure.detail}", watch.rise(k)]
        end = self.replace(k)
        if end is None and self.fell(True):
            end = self.replace(k)
        return end or self.turn(self.workshop.exact, k, anew=True)

    # ---- what is known -------------------------------------------------------------------------------------

    def whole(self, base: Operand | None, x: Operand) -> np.ndarray:
        """(n,) x as a whole: the bits that ``joined`` gives."""
        return self.host(x) if base is None else self.host(base) + self.host(x)

    def observe(self, k: int) -> None:
        """The true residual, from outside; the best x is kept."""
        x, b = self.lift(self.whole(self.base, self.x)), self.problem.rhs
        self.solution.true_residuals.append(norm(b - self.problem.matrix @ x) / self.norm_rhs)
        if self.solution.true_residuals[-1] < self.solution.true_residual:
            self.keep(k)

    def keep(self, k: int) -> None:
        self.best, self.solution.best = (self.base, self.x), k
        self.solution.ledger_of_x = self.workshop.ledger.copy()

    def record(self, k: int, precision: CGPrecision, rejected: bool) -> None:
        solution, ledger = self.solution, self.workshop.ledger.copy()
        done, self._marked = ledger - self._marked, ledger
        done = self._ledgers.setdefault(frozenset([*done.operations.items(), *done.bits_moved.items()]), done)
        residuals = solution.residuals[-1], solution.true_residuals[-1]
        condition, signs, notes = self.lanczos.condition, self.seen(), tuple(self.notes)
        events, self.workshop.events = self.workshop.events, {}
        k += self.before
        solution.history.append(Step(k, precision, *residuals, condition, signs, rejected, notes, events, done))
        self.signs, self.notes = {}, []
        self.progress(k, residuals[1])
