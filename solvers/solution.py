"""What a solve gives: how it ended, x, and its history."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..emulator.formats import Format
from ..emulator.ledger import Ledger
from ..kernels.events import Events
from .precision import CGPrecision, Signs


class Status(Enum):
    """How a solve ended."""

    CONVERGED = "converged"  #: recursive and true residual are at most tol
    RESIDUAL_GAP = "residual gap"  #: the recursive residual is at most tol, the true one is not
    STAGNATED = "stagnated"  #: the true residual has not improved for ``patience`` iterations
    MAX_ITERATIONS = "max iterations"
    BREAKDOWN = "breakdown"  #: p.Ap <= 0 in the emulated arithmetic, though positive in fp64; or r.r or r.z <= 0
    INDEFINITE = "indefinite"  #: p.Ap <= 0 in fp64 too: the matrix is not positive definite
    NONFINITE = "non-finite"  #: an operation overflowed or gave NaN


@dataclass(frozen=True)
class Step:
    """One iteration."""

    iteration: int
    precision: CGPrecision  #: that it was done in
    residual: float  #: as in ``Solution.residuals``
    true_residual: float  #: as in ``Solution.true_residuals``
    condition: float  #: as in ``View``
    signs: dict[str, Signs]  #: by operation, what its results show; those that show nothing are left out
    rejected: bool  #: x is as it was before
    notes: tuple[str, ...]  #: what the safeguard did
    events: dict[str, Events]  #: of the inner products, by operation, where they were observed; else empty
    ledger: Ledger  #: of this iteration, with what the safeguard did; steps that took the same share one


@dataclass
class Solution:
    """What a solve gave.

    Residual norms are relative to ||b||_2, of the system as it was given, scaled or not. ``residuals[k]`` is the
    recursive one that the solver saw after k iterations, of a scaled system mostly told from its own residual;
    ``true_residuals[k]`` is ||b - A x_k|| / ||b|| in fp64, observed from outside (not in the ledger).
    """

    #: (n,) the last iterate of a converged solve, otherwise the best: the one of least true residual
    x: np.ndarray = field(repr=False)
    ledger: Ledger = field(repr=False)  #: of the whole solve
    ledger_of_x: Ledger = field(repr=False)  #: until ``x`` was reached
    facts: dict[str, float]  #: of the preconditioner: levels, shift, ...
    status: Status = Status.MAX_ITERATIONS
    detail: str = ""  #: what happened where
    iterations: int = 0  #: done in all
    best: int = 0  #: the iteration that ``x`` is from
    residuals: list[float] = field(default_factory=lambda: [1.0], repr=False)
    true_residuals: list[float] = field(default_factory=lambda: [1.0], repr=False)
    history: list[Step] = field(default_factory=list, repr=False)
    matrix_format: Format | None = None  #: lossless, that the matrix was stored in instead of a wider one
    direction: np.ndarray | None = None  #: (n,) of a matrix shown to be INDEFINITE: p with p.Ap <= 0

    @property
    def true_residual(self) -> float:
        """||b - A x||_2 / ||b||_2 of the returned ``x``, in fp64."""
        return self.true_residuals[self.best]
