"""One solve by conjugate gradients: the iteration, and what a safeguard does where it fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..emulator.ledger import Ledger
from ..kernels.operands import Operand
from .lanczos import Lanczos
from .norms import inner, norm
from .precision import CGPrecision, PrecisionPolicy, Signs, View
from .problems import Problem
from .safeguard import SAFE, Watch
from .scaling import Scaling, spread
from .solution import Solution, Status, Step
from .workshop import FP64, Units, Workshop, shifted

_ENERGY_ERROR = 1e-10  #: of f(x), relative, by rounding: far more than fp64's


class End(NamedTuple):
    """Why a solve ends, or why an iteration cannot be taken."""

    status: Status
    detail: str


class Run:
    """One solve under way: x, r, p, rho = r.z, and what is known about them.

    ``square`` is ||r||^2 of the system as it was given; ``alpha`` the last step's length. Vectors are replaced, never
    written into: what was once x stays what it was.
    """

    x: Operand
    r: Operand
    p: Operand
    best: Operand  #: the x of least true residual
    rho: float
    square: float
    alpha: float
    r_before: Operand | None  #: of the last iteration, if it is needed
    checked: tuple[Operand, float]  #: x at the last check, and f(x)
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
        self.problem, self.scaling, self.workshop, self.policy = problem, scaling, workshop, policy
        self.tol, self.flexible, self.watch, self.progress = tol, flexible, watch, progress
        self.norm_rhs = self.norm_b = norm(problem.rhs)  #: of the right-hand side as given, and as iterated on
        self.scale = spread(problem.matrix)
        self.observe_every = 0  #: iterations from one whose inner products are observed to the next; 0: none is
        self.lift = scaling.solution  #: from y of the system that is iterated on to x
        self.before = 0  #: iterations done before the first one
        self.lanczos = Lanczos()
        place = workshop.exact.axpy.backend.array
        self.b = Operand(place(scaling.right_hand_side(problem.rhs)), FP64, None)
        self.weights = None if scaling.weights is None else Operand(place(scaling.weights), FP64, None)
        self.signs: dict[str, Signs] = {}  #: of the iteration that is being done
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
            end = self.accept(units, k, safe) if failure is None else self.reject(k, failure)
            following = precision
            if end is None:
                following = self.precision(k + 1) if k < limit else precision
                end = self.turn_to(units, k, precision, following) if failure is None else None
            self.record(k, precision, failure is not None)
            if end is None and k - solution.best >= patience:
                end = End(Status.STAGNATED, f"no progress since iteration {solution.best}")
            precision = following
        return self.end(end or End(Status.MAX_ITERATIONS, f"not within {limit} iterations"))

    def precision(self, k: int) -> CGPrecision:
        """That of iteration k."""
        watch, matrix = self.watch, self.problem.matrix
        if watch is not None and watch.forces(k):
            return SAFE
        told = watch.stepped_in if watch is not None else None
        known = (self.solution.residuals, self.lanczos.condition, self.scale, self.seen())
        return self.policy.at(View(k, matrix.shape[0], matrix.nnz, self.tol, *known, -1 if told is None else k - told))

    def start(self, units: Units) -> End | None:
        """x = 0, r = b, p = z; stored in the formats that the first precision's updates have."""
        zeros = units.axpy.backend.xp.zeros(self.b.values.size)
        self.x = Operand(zeros, units.axpy.datapath.output, 0.0)
        self.checked = self.x, 0.0
        self.r = units.loaded("residual", units.residual_axpy, self.b, units.residual_axpy.datapath.output)
        failure = self.measure(units, 0) or self.turn(units, 0, anew=True)
        return failure if failure is None or self.watch is None else self.recover(0, failure)

    def end(self, end: End) -> Solution:
        solution = self.solution
        solution.status, solution.detail = end
        if solution.best:
            solution.x = self.lift(self.host(self.best))
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
            return self.lost(curvature, k)
        lowered = self.rho / curvature * math.ldexp(1.0, -shift)  # 2^shift alpha
        alpha, x, r, square = lowered * math.ldexp(1.0, -shift), self.x, self.r, self.square
        self.x = units.update(units.axpy, alpha, self.p, x)
        self.r = units.update(units.residual_axpy, -lowered, q, r)
        failure = self.measure(units, k)
        if failure is not None:
            self.x, self.r, self.square = x, r, square
            return failure
        self.alpha, self.r_before = alpha, r if self.flexible else None
        return None

    def measure(self, units: Units, k: int) -> End | None:
        """||r||^2. Of a scaled system's r that of the given one, in fp64: n multiplications and a dot more."""
        if self.weights is None:
            self.square = units.inner(units.residual_dot, self.r, self.r)
        else:
            exact = self.workshop.exact
            r = exact.axpy.mul(self.weights, exact.loaded("residual", exact.axpy, self.r, FP64), held=True)
            self.square = exact.inner(exact.dot, r, r)
        if self.overflowed or not math.isfinite(self.square):
            what = f"an axpy or r.r overflowed in iteration {k}" if k else f"r.r = {self.square} {_after(k)}"
            return End(Status.NONFINITE, what)
        if self.square < 0.0:
            return End(Status.BREAKDOWN, f"r.r wrapped to {self.square} {_after(k)}")
        if not k and self.square == 0.0:
            why = "" if self.r.values.any() else ": b rounds to zero"
            return End(Status.BREAKDOWN, f"r.r = {self.square} {_after(k)}{why}")
        return None

    def lost(self, curvature: float, k: int) -> End:
        """p.Ap <= 0: because of the arithmetic, or of the matrix?"""
        matrix, p = self.scaling.matrix, self.host(self.p)
        product = matrix @ p
        exactly = inner(p, product)
        longest = int(np.diff(matrix.indptr).max())
        error = (longest + 2) * np.finfo(float).eps * inner(np.abs(p), abs(matrix) @ np.abs(p))
        if p.any() and (exactly < -error or not product.any()):
            self.solution.direction = self.scaling.solution(p)
            quotient = exactly / inner(p, p)
            return End(
                Status.INDEFINITE,
                f"p.Ap = {exactly:.3g} in iteration {k}, p.Ap / p.p = {quotient:.3g}: the matrix is not positive"
                " definite",
            )
        found = f"{exactly:.3g}" if abs(exactly) > error else "not told from zero"
        return End(Status.BREAKDOWN, f"p.Ap rounded to {curvature} in iteration {k} (in fp64 it is {found})")

    def turn(self, units: Units, k: int, anew: bool) -> End | None:
        """z = M^-1 r and p = z + beta p; ``anew``: p = z."""
        z = units.precondition(self.r)
        plain = z is self.r and self.weights is None
        rho = self.square if plain else units.inner(units.residual_dot, self.r, z)
        if self.overflowed or not math.isfinite(rho):
            return End(Status.NONFINITE, f"the preconditioner or r.z overflowed {_after(k)}")
        if rho <= 0.0:
            return End(Status.BREAKDOWN, f"r.z came to {rho} {_after(k)}")
        if anew:
            self.lanczos.restart()
            self.p = units.loaded("axpy", units.axpy, z, units.axpy.datapath.output)
        else:
            change = rho
            if self.r_before is not None:
                change -= units.inner(units.residual_dot, z, self.r_before)
            self.p = units.update(units.axpy, change / self.rho, self.p, z)
            self.lanczos.step(self.alpha, rho / self.rho)
        self.rho, self.r_before = rho, None
        return None

    def accept(self, units: Units, k: int, safe: bool) -> End | None:
        """Look at where an iteration led, and whether that is the end."""
        solution, watch, recursive = self.solution, self.watch, self.recursive
        solution.residuals.append(recursive)
        self.observe(k)
        self.anew = False
        if watch is not None:
            watch.saw(recursive, safe)
            if recursive <= self.tol or watch.due or watch.stalls:
                end = self.check(k)
                if end is not None or self.recursive > self.tol:
                    return end
        if recursive <= self.tol:
            if solution.true_residuals[-1] <= self.tol:
                self.keep(k)
                return End(Status.CONVERGED, f"in iteration {k}")
            if watch is None:
                return _gap(k, recursive, solution.true_residuals[-1])
        return None

    def turn_to(self, units: Units, k: int, now: CGPrecision, following: CGPrecision) -> End | None:
        """The new p, after a last look at r where precision is about to rise."""
        watch = self.watch
        if watch is not None:
            rises = following.roundoff < now.roundoff and watch.is_worth
            forced, next_forced = watch.forces(k), watch.forces(k + 1)
            if rises or (next_forced and not forced and not self.anew and not now.is_fp64):
                end = self.check(k)
                if end is not None:
                    return end
                self.anew = True
            elif forced and not next_forced:
                self.remember()
        if self.anew:  # rounded into a format of less precision, p would not be z
            units = self.workshop.units(following)
        failure = self.turn(units, k, self.anew)
        return failure if failure is None or self.is_final(failure, now.is_fp64) else self.recover(k, failure)

    # ---- the safeguard -------------------------------------------------------------------------------------

    def check(self, k: int) -> End | None:
        """The true residual in fp64 takes the place of the recursive one; where that was wrong, p is to start anew."""
        watch, recursive = self.watch, self.recursive
        assert watch is not None
        unsafe = watch.unchecked > 0
        end = self.replace(k)
        if end is not None:
            return end
        claimed = recursive <= self.tol < self.recursive
        self.anew = self.recursive > watch.rules.apart * recursive
        if self.fell():
            self.anew, end = True, self.replace(k)
        else:
            self.remember()
        if self.anew or claimed:
            self.notes.append(f"the true residual {self.recursive:.2g} replaced {recursive:.2g}")
            watch.stepped_in = k
            if not watch.gained(self.recursive):
                if unsafe:
                    self.anew = True
                    self.notes.append(watch.rise(k))
                elif claimed and watch.despairs:
                    return _gap(k, recursive, self.recursive)
        elif watch.stalls:
            watch.stepped_in = k
            self.anew = True
            self.notes += [f"no progress for {watch.rules.stall} iterations", watch.rise(k)]
        return end

    def replace(self, k: int) -> End | None:
        """r = b - A x in fp64."""
        exact = self.workshop.exact
        x = exact.loaded("residual", exact.axpy, self.x, FP64)
        self.r, self.r_before = exact.update(exact.axpy, -1.0, exact.product(x), self.b), None
        if self.watch is not None:
            self.watch.unchecked = 0
        return self.measure(exact, k)

    def energy(self) -> float:
        """f(x) = x.Ax / 2 - b.x = -(x.b + x.r) / 2, which conjugate gradients make smaller in every iteration."""
        exact = self.workshop.exact
        x, r = (exact.loaded("residual", exact.axpy, v, FP64) for v in (self.x, self.r))
        return -0.5 * (exact.inner(exact.dot, x, self.b) + exact.inner(exact.dot, x, r))

    def remember(self) -> None:
        """This x is one to come back to."""
        self.checked = self.x, self.energy()

    def fell(self) -> bool:
        """Whether f(x) has grown since the last check, and x is that of then."""
        if self.energy() <= self.checked[1] + _ENERGY_ERROR * abs(self.checked[1]):
            return False
        self.x = self.checked[0]
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
        if end is None and self.fell():
            end = self.replace(k)
        return end or self.turn(self.workshop.exact, k, anew=True)

    # ---- what is known -------------------------------------------------------------------------------------

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
        x, b = self.lift(self.host(self.x)), self.problem.rhs
        self.solution.true_residuals.append(norm(b - self.problem.matrix @ x) / self.norm_rhs)
        if self.solution.true_residuals[-1] < self.solution.true_residual:
            self.keep(k)

    def keep(self, k: int) -> None:
        self.best, self.solution.best, self.solution.ledger_of_x = self.x, k, self.workshop.ledger.copy()

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


def _gap(k: int, recursive: float, true: float) -> End:
    what = f"in iteration {k} the recursive residual is {recursive:.2g}, the true one {true:.2g}"
    return End(Status.RESIDUAL_GAP, what)


def _after(k: int) -> str:
    return f"in iteration {k}" if k else "before the first iteration"
