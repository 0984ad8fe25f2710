"""The precision of an iteration of conjugate gradients, and what a policy that chooses it may look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cached_property
from typing import Any, NamedTuple

from ..emulator.datapath import Datapath
from ..emulator.formats import Format
from ..emulator.names import scalar_format
from .magnitude import Buckets, GroupShared, unit_roundoff


@dataclass(frozen=True)
class CGPrecision:
    """The datapath of each kind of operation, and the formats in which the matrix and its factors are stored."""

    spmv: Datapath
    dot: Datapath
    axpy: Datapath
    precondition: Datapath | None = None  #: of the preconditioner's application; None: as spmv
    residual: Datapath | None = None  #: of the residual's update, norm and r.z; None: those of axpy and dot
    scalars: Format | None = None  #: in which alpha and beta enter axpy (they are divided in fp64); None: axpy's ``a``
    storage: Format | GroupShared | None = None  #: of the matrix; None: spmv's ``a``
    factors: Format | None = None  #: of the preconditioner; None: precondition's ``a``
    buckets: Buckets | None = None  #: the matrix in parts, by magnitude; None: in one, on spmv's datapath
    solution: Datapath | None = None  #: of x's update, where alpha enters as it does r's; r and p know nothing of x
    #: but where r is replaced by b - A x; None: axpy's

    @classmethod
    def of(
        cls,
        spmv: Datapath | str,
        dot: Datapath | str | None = None,
        axpy: Datapath | str | None = None,
        residual: Datapath | str | None = None,
        scalars: Format | str | None = None,
        precondition: Datapath | str | None = None,
        storage: Format | GroupShared | str | None = None,
        factors: Format | str | None = None,
        buckets: Buckets | str | None = None,
        solution: Datapath | str | None = None,
    ) -> CGPrecision:
        """Left out: ``dot`` and ``axpy`` are as ``spmv``; the others as the fields say."""
        first = Datapath.parse(spmv)
        return cls(
            first,
            first if dot is None else Datapath.parse(dot),
            first if axpy is None else Datapath.parse(axpy),
            None if precondition is None else Datapath.parse(precondition),
            None if residual is None else Datapath.parse(residual),
            None if scalars is None else scalar_format(scalars),
            _storage(storage),
            None if factors is None else scalar_format(factors),
            Buckets.parse(buckets) if isinstance(buckets, str) else buckets,
            None if solution is None else Datapath.parse(solution),
        )

    def __hash__(self) -> int:
        return hash((self.spmv, self.dot, self.axpy, self.precondition, self.residual, self.solution))

    @property
    def of_factors(self) -> Datapath:
        """The datapath of the preconditioner's application."""
        return self.spmv if self.precondition is None else self.precondition

    @cached_property
    def is_fp64(self) -> bool:
        """Whether all of it is fp64: no other precision is more."""
        parts = () if self.buckets is None else self.buckets.datapaths
        own = self.residual or self.axpy, self.of_solution
        paths = (self.spmv, self.dot, self.axpy, self.of_factors, *own, *parts)
        formats = {self.scalars, self.storage, self.factors} - {None}
        for dp in paths:
            formats |= {dp.a, dp.b, dp.output, dp.product, *(fmt for fmt, _ in dp.accumulators)} - {None}
        return formats == {scalar_format("fp64")}

    @cached_property
    def roundoff(self) -> float:
        """The largest unit roundoff that a matrix-vector product meets, of the stored matrix to its result."""
        dp = self.spmv
        own = max(map(unit_roundoff, (self.storage or dp.a, dp.a, dp.b, dp.accumulator, dp.output)))
        return own if self.buckets is None else max(own, self.buckets.epsilon)

    @property
    def of_solution(self) -> Datapath:
        """The datapath of x's update, whose output x is stored in."""
        return self.axpy if self.solution is None else self.solution

    @cached_property
    def matrix_roundoff(self) -> float:
        """The unit roundoff of the stored matrix; of one in buckets what they bear of it."""
        return unit_roundoff(self.storage or self.spmv.a) if self.buckets is None else self.buckets.epsilon

    @cached_property
    def own_roundoff(self) -> float:
        """The largest unit roundoff of r and A p, and of what A p is made of."""
        return max(self.roundoff, unit_roundoff((self.residual or self.axpy).output))

    @cached_property
    def gap_roundoff(self) -> float:
        """The largest unit roundoff of those that move r off b - A x by ||A|| ||x|| times as much: of the stored
        matrix, of products and sums with it, of x and its sums, and of p where either takes it with fewer bits than it
        is stored in."""
        product, update = self.spmv, self.of_solution
        formats = [product.a, *(fmt for fmt, _ in product.accumulators), update.accumulator, update.output]
        formats += [] if product.product is None else [product.product]
        known = max(self.matrix_roundoff, *map(unit_roundoff, formats))
        narrow = max(map(unit_roundoff, (product.b, update.b)))
        return max(known, narrow) if narrow > unit_roundoff(self.axpy.output) else known

    def describe(self) -> dict[str, str | None]:
        """By name, JSON-able; ``of(**describe())`` gives an equal one."""
        paths = {part: getattr(self, part) for part in ("spmv", "dot", "axpy", "residual", "precondition", "solution")}
        formats = {part: getattr(self, part) for part in ("scalars", "storage", "factors")}
        named = {part: None if dp is None else dp.name for part, dp in paths.items()}
        named |= {part: None if fmt is None else str(fmt) for part, fmt in formats.items()}
        return named | {"buckets": None if self.buckets is None else self.buckets.name}


def _storage(given: Format | GroupShared | str | None) -> Format | GroupShared | None:
    if given is None or isinstance(given, GroupShared):
        return given
    shared = GroupShared.parse(given) if isinstance(given, str) else None
    return scalar_format(given) if shared is None else shared


class Signs(IntFlag):
    """What the results of an operation show, at a glance: less than IEEE's flags, which every element has, and cheap.

    An overflow shows as NONFINITE in formats with infinities or NaNs and as SATURATED in those without; underflow shows
    only where nothing but zeros is left, or more zeros come out of a conversion than went into it.
    """

    NONE = 0
    NONFINITE = 1  #: an infinity or a NaN
    SATURATED = 2  #: a format's largest number, where it has neither
    VANISHED = 4  #: zeros from numbers that were not

    def __str__(self) -> str:
        return "|".join(sign.name.lower() for sign in Signs if sign in self) or "-"  # type: ignore[union-attr]


class View(NamedTuple):
    """What a policy may look at before an iteration: what the solver knows by itself."""

    iteration: int  #: 1, 2, ...
    n: int
    nnz: int
    tol: float
    residuals: Sequence[float]  #: recursive, relative to ||b||, so far; ``residuals[0]`` is 1
    condition: float  #: estimate of the (scaled, preconditioned) matrix's, from below (``lanczos``): by quotients from
    #: the first iteration on, unless there is a preconditioner or refinement, and by alpha and beta from the third on;
    #: NaN before, and always on fewer than 50 unknowns, where it would not be worth it
    scale: float  #: log2(largest / smallest) of the diagonal, before any scaling
    events: Mapping[str, Signs]  #: by operation, of the last iteration; what saw nothing is left out
    rejected: int  #: iterations since the safeguard stepped in; -1: it never did
    least: float = 1.0  #: of the residuals
    pace: float = math.nan  #: alphas and betas known since p started anew over sqrt(condition number) by these alone;
    #: before iteration k of a solve without restarts k - 2 are known; NaN with less than two


class PrecisionPolicy:
    """Says before every iteration in which precision it is done."""

    #: Whether the answer may change, so that a safeguard watches over it unless told otherwise.
    changes = True

    def at(self, view: View) -> CGPrecision:
        """The precision of the iteration that comes next."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """JSON-able; goes into the record."""
        raise NotImplementedError
