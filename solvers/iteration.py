"""The iteration of conjugate gradients, in whatever precision: x, r, p, and what is known about them."""

from __future__ import annotations

import math

import numpy as np

from ..kernels.operands import Operand
from .endings import End, after, lost
from .lanczos import Lanczos, quotients
from .norms import norm
from .precision import Signs
from .problems import Problem
from .scaling import Scaling
from .solution import Status
from .storage import Store
from .workshop import FP64, Units, Workshop, shifted

#: The residual of a scaled system's given one is measured in one of so many iterations, and where it may be at most so
#: many times tol; between them it is taken to be as many times the scaled one's as when it was last measured.
_WEIGH_EVERY, _WEIGH_NEAR = 10, 10.0
_WEIGH_MOVED = 10.0  #: and where the scaled one has become so many times as large, or as small, as then
_MANY = 50  #: unknowns; of fewer the condition number is not estimated, which would take a share of an iteration


class Iteration:
    """x, r, p, rho = r.p, which is r.z but after r was replaced, and what is known about them.

    ``own`` is ||r||^2, ``square`` that of the system as it was given; ``alpha`` the last step's length. Vectors are
    replaced, never written into: what was once x stays what it was.

    Parameters
    ----------
    looks : whether anyone looks at the condition number, which is counted then.
    """

    x: Operand
    r: Operand
    p: Operand
    rho: float
    own: float
    square: float
    alpha: float
    r_before: Operand | None  #: of the last iteration, if it is needed
    replaced: bool = False  #: whether r is b - A x since p was last put together
    image: tuple[Operand, int, float]  #: of the last p: q = 2^-shift A p, shift, and (2^-shift p).q
    carried: float = 0.0  #: rho - r.z
    direction: np.ndarray | None = None  #: (n,) along which the matrix is not positive

    def __init__(
        self, problem: Problem, scaling: Scaling, workshop: Workshop, tol: float, flexible: bool, looks: bool
    ) -> None:
        self.problem, self.scaling, self.workshop = problem, scaling, workshop
        self.tol, self.flexible, self.looks = tol, flexible, looks
        rhs, weights = scaling.right_hand_side(problem.rhs), scaling.weights
        self.norm_rhs = norm(problem.rhs)  #: of the right-hand side as given
        self.norm_b = norm(rhs) if weights is None else self.norm_rhs  #: what ``square`` is compared with
        self.lanczos = Lanczos()
        place = workshop.exact.axpy.backend.array
        self.b = Operand(place(rhs), FP64, None)
        self.weights = None if weights is None else Store(place(weights))
        self.weighed, self.stretch = 0.0, 1.0  #: own, and square over it, when that was last measured
        self.told = False  #: whether square is but told from own
        self.signs: dict[str, Signs] = {}  #: of the iteration that is being done

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
                self.direction = self.scaling.solution(direction)
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
        self.carried = 0.0
        if following is None:
            self.begin(units, z)
        else:
            beta, self.carried = following
            self.p = units.update(units.axpy, beta, self.p, z)
            if self.replaced:  # no coefficients of a Krylov space
                self.lanczos.restart()
            elif len(self.problem.rhs) >= _MANY:
                self.lanczos.step(self.alpha, rho / self.rho)
                if self.looks:
                    Lanczos.count(self.workshop.ledger)
        self.rho, self.r_before, self.replaced = rho + self.carried, None, False
        return None

    def begin(self, units: Units, z: Operand) -> None:
        """p = z."""
        self.lanczos.restart()
        self.p = units.loaded("axpy", units.axpy, z, units.axpy.datapath.output)

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

    def host(self, v: Operand) -> np.ndarray:
        return self.workshop.exact.axpy.backend.to_host(v.values)
