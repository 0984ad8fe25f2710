"""One solve by conjugate gradients: the iteration, and what a safeguard does where it fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..emulator.ledger import Ledger
from ..kernels.operands import Operand
from .endings import End, after, gap, lost
from .lanczos import Lanczos, quotients
from .norms import norm
from .precision import CGPrecision, PrecisionPolicy, Signs, View, unit_roundoff
from .problems import Problem
from .safeguard import SAFE, Watch
from .scaling import Scaling, spread
from .solution import Solution, Status, Step
from .storage import Store
from .workshop import FP64, Units, Workshop, shifted

_ENERGY_ERROR = 1e-10  #: of f(x), relative, by rounding: far more than fp64's
#: The residual of a scaled system's given one is measured in one of so many iterations, and where it may be at most so
#: many times tol; between them it is taken to be as many times the scaled one's as when it was last measured.
_WEIGH_EVERY, _WEIGH_NEAR = 10, 10.0
_WEIGH_MOVED = 10.0  #: and where the scaled one has become so many times as large, or as small, as then
_MANY = 50  #: unknowns; of fewer the condition number is not estimated, which would take a share of an iteration


class Checked(NamedTuple):
    """What the last check left."""

    base: Operand | None  #: x then
    energy: float  #: f of it, or what that should be by what alpha and r.z have said since it was last known
    known: float  #: f as it was last known


class Run:
    """One solve under way: x, r, p, rho = r.p, which is r.z but after r was replaced, and what is known about them.

    With a safeguard ``x`` is what has been gained since ``base``, an x in fp64; without one ``base`` stays None.
    ``own`` is ||r||^2, ``square`` that of the system as it was given; ``alpha`` the last step's length. Vectors are
    replaced, never written into: what was once x stays what it was.
    """

    base: Operand | None = None
    x: Operand
    r: Operand
    p: Operand
    best: tuple[Operand | None, Operand]  #: the base and x of least true residual
    rho: float
    own: float
    square: float
    alpha: float
    r_before: Operand | None  #: of the last iteration, if it is needed
    checked: Checked
    anew: bool  #: whether p is to start anew
    replaced: bool = False  #: whether r is b - A x since p was last put together
    image: tuple[Operand, int, float]  #: of the last p: q = 2^-shift A p, shift, and (2^-shift p).q
    carried: float = 0.0  #: rho - r.z

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
        self.problem, self.scaling, self.workshop, self.policy = problem, scaling, workshop, policy
        self.tol, self.flexible, self.watch, self.progress = tol, flexible, watch, progress
        rhs, weights = scaling.right_hand_side(problem.rhs), scaling.weights
        self.norm_rhs = norm(problem.rhs)  #: of the right-hand side as given
        self.norm_b = norm(rhs) if weights is None else self.norm_rhs  #: what ``square`` is compared with
        self.scale, self.least = spread(problem.matrix), 1.0  #: the least of the residuals
        self.observe_every = 0  #: iterations from one whose inner products are observed to the next; 0: none is
        self.lift = scaling.solution  #: from y of the system that is iterated on to x
        self.before = 0  #: iterations done before the first one
        self.lanczos = Lanczos()
        place = workshop.exact.axpy.backend.array
        self.b = Operand(place(rhs), FP64, None)
        self.weights = None if weights is None else Store(place(weights))
        self.weighed, self.stretch = 0.0, 1.0  #: own, and square over it, when that was last measured
        self.told = False  #: whether square is but told from own
        self.signs: dict[str, Signs] = {}  #: of the iteration that is being done
        self.notes: list[str] = []
        self._marked = workshop.ledger.copy()
        self._ledgers: dict[frozenset, Ledger] = {}  #: of steps, each kept once
        facts = {} if workshop.factors is None else workshop.factors.facts
        self.solution = Solution(np.zeros(len(problem.rhs)), workshop.ledger, Ledger(), facts)

    def foresee(self) -> None:
        """Estimate the condition number before the first iteration, where there is no preconditioner."""
        matrix, workshop = self.problem.matrix, self.workshop
        if matrix.shape[0] >= _MANY and workshop.factors is None:
            ledger = workshop.ledger if self.looks else None
            self.lanczos = Lanczos(*quotients(matrix, self.scaling, ledger, workshop.stored_bits))

    @property
    def condition_of_matrix(self) -> float:
        """The estimate, where it is not the preconditioned matrix's."""
        return self.lanczos.condition if self.workshop.factors is None else math.nan

    @property
    def looks(self) -> bool:
        """Whether anyone looks at the condition number: a fixed precision alone does not."""
        return self.watch is not None or self.policy.changes

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
        return self.policy.at(View(k, *system, seen, condition, self.scale, self.seen(), since, self.least, pace))

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
        solution.matrix_format = self.workshop.lossless
        if solution.best:
            solution.x = self.lift(self.whole(*self.best))
        return solution

    def is_final(self, failure: End, safe: bool) -> bool:
        """Whether more precision would not help."""
        return self.watch is None or safe or failure.status is Status.INDEFINITE

    # ---- an iteration --------------------------------------------------------------------------------------

    def iterate(self, units: Units, k: int) -> End | None:
        """x += alpha p, r -= alpha A p. Where that fails, both stay as they are."""
        dp = units.spmv.datapath
        shift = units.shift(self.p, dp.b, dp.output, units.dot.datapath.a)
        p = shifted(self.p, -shift)
        q = units.product(p)  # 2^-shift A p
        curvature = units.inner(units.dot, p, q)
        if self.overflowed or not math.isfinite(curvature):
            return End(Status.NONFINITE, f"spmv or p.Ap overflowed in iteration {k}")
        if curvature <= 0.0:
            direction = self.host(self.p)
            end = lost(self.scaling.matrix, direction, curvature, k)
            if end.status is Status.INDEFINITE:
                self.solution.direction = self.scaling.solution(direction)
            return end
        lowered = self.rho / curvature * math.ldexp(1.0, -shift)  # 2^shift alpha
        alpha, before = lowered * math.ldexp(1.0, -shift), (self.x, self.r, self.own, self.square)
        self.x = units.update(units.solution, alpha, self.p, self.x)
        self.r = units.update(units.residual_axpy, -lowered, q, self.r)
        failure = self.measure(units, k)
        if failure is not None:
            self.x, self.r, self.own, self.square = before
            return failure
        self.alpha, self.r_before = alpha, before[1] if self.flexible else None
        self.image = q, shift, curvature
        return None

    def measure(self, units: Units, k: int, exactly: bool = False) -> End | None:
        """||r||^2, and that of the given system, where that is another: n multiplications and a dot more, in r's
        precision, or in fp64 where that is less than binary32's; mostly it is told from the first, unless ``exactly``.
        """
        self.own = self.square = units.inner(units.residual_dot, self.r, self.r)
        if self.weights is not None and not self.overflowed:
            near = math.sqrt(max(self.own * self.stretch, 0.0)) <= _WEIGH_NEAR * self.tol * self.norm_b
            moved = not self.weighed <= _WEIGH_MOVED**2 * self.own <= _WEIGH_MOVED**4 * self.weighed
            self.told = not (exactly or near or moved or k % _WEIGH_EVERY == 0)
            if self.told:
                self.square = self.own * self.stretch
            else:
                self.weigh(units)
        if self.overflowed or not (math.isfinite(self.own) and math.isfinite(self.square)):
            what = f"an axpy or r.r overflowed in iteration {k}" if k else f"r.r = {self.square} {after(k)}"
            return End(Status.NONFINITE, what)
        if min(self.own, self.square) < 0.0:
            return End(Status.BREAKDOWN, f"r.r wrapped to {min(self.own, self.square)} {after(k)}")
        if not k and self.square == 0.0:
            why = "" if self.r.values.any() else ": b rounds to zero"
            return End(Status.BREAKDOWN, f"r.r = {self.square} {after(k)}{why}")
        return None

    def weigh(self, units: Units) -> None:
        """||r||^2 of the given system, whose r is that of the scaled one times powers of two."""
        assert self.weights is not None
        units = units if units.lifts else self.workshop.exact
        machine = units.residual_axpy
        r = units.loaded("residual", machine, self.r, machine.datapath.b)
        r = machine.mul(self.weights.read(machine, None), r, held=True)
        self.square, self.told = units.inner(units.residual_dot, r, r), False
        self.stretch, self.weighed = self.square / self.own if self.own > 0.0 else 1.0, self.own

    def turn(self, units: Units, k: int, anew: bool) -> End | None:
        """z = M^-1 r and p = z + beta p; ``anew``: p = z."""
        if self.replaced:  # read often from here on
            machine = units.residual_axpy
            self.r = units.loaded("residual", machine, self.r, machine.datapath.output)
        z = units.precondition(self.r)
        rho = self.own if z is self.r else units.inner(units.residual_dot, self.r, z)
        if self.overflowed or not math.isfinite(rho):
            return End(Status.NONFINITE, f"the preconditioner or r.z overflowed {after(k)}")
        if rho <= 0.0:
            return End(Status.BREAKDOWN, f"r.z came to {rho} {after(k)}")
        following = None if anew else self.follow(units, z, rho)
        if following is None:
            if self.watch is not None:
                self.watch.mixed = 0
            self.lanczos.restart()
            self.p = units.loaded("axpy", units.axpy, z, units.axpy.datapath.output)
        else:
            beta, along = following
            self.p = units.update(units.axpy, beta, self.p, z)
            if self.replaced:  # no coefficients of a Krylov space
                self.lanczos.restart()
            elif len(self.problem.rhs) >= _MANY:
                self.lanczos.step(self.alpha, rho / self.rho)
                if self.looks:
                    Lanczos.count(self.workshop.ledger)
        self.carried = 0.0 if following is None else along
        self.rho, self.r_before, self.replaced = rho + self.carried, None, False
        return None

    def follow(self, units: Units, z: Operand, rho: float) -> tuple[float, float] | None:
        """beta and beta r.p, which is 0 unless r was replaced; then beta is such that z + beta p is conjugate to p, and
        None says that there is no r.(z + beta p) > 0. In the iteration after that r_before.z is not 0, but less than
        that by what was carried."""
        if not self.replaced:
            before = -self.carried if self.r_before is None else units.inner(units.residual_dot, z, self.r_before)
            return (rho - before) / self.rho, 0.0
        q, shift, curvature = self.image
        beta = -units.inner(units.residual_dot, z, q) / curvature * math.ldexp(1.0, -shift)
        along = beta * units.inner(units.residual_dot, self.r, self.p)
        return (beta, along) if math.isfinite(beta) and 0.0 < rho + along < math.inf else None

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
            elif unit_roundoff(following.of_x) > unit_roundoff(self.x.fmt):
                self.joined()  # what x has gained would lose bits
        if self.anew:  # rounded into a format of less precision, p would not be z
            units = self.workshop.units(following)
        failure = self.turn(units, k, self.anew)
        return failure if failure is None or self.is_final(failure, now.is_fp64) else self.recover(k, failure)

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

    @property
    def recursive(self) -> float:
        return math.sqrt(self.square) / self.norm_b

    @property
    def overflowed(self) -> bool:
        """Whether anything has since it was last seen to."""
        return any(sign & Signs.NONFINITE for sign in self.workshop.signs.values())

    def seen(self) -> dict[str, Signs]:
        """The signs of this iteration so far."""
        for what, sign in self.workshop.take_signs().items():
            self.signs[what] = self.signs.get(what, Signs.NONE) | sign
        return self.signs

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

    def host(self, v: Operand) -> np.ndarray:
        return self.workshop.exact.axpy.backend.to_host(v.values)
