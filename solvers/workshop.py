"""The machines that a solve runs on: made once per datapath, one ledger and one run of random bits for all.

A vector is an ``Operand``: values and the format that they are stored in. What an operation needs in another format is
converted by its machine, and counted (``Machine.load``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..emulator.datapath import Datapath
from ..emulator.formats import FloatFormat, Format
from ..emulator.ledger import Ledger
from ..emulator.names import scalar_format
from ..kernels.events import Events
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from .precision import CGPrecision, Signs, unit_roundoff
from .preconditioners import Factors
from .safeguard import SAFE
from .storage import Store, converted, narrowest

FP64 = scalar_format("fp64")
_ROWS = 1000  #: of a matrix, evenly spread, that are observed, as it takes about a millisecond for each
_WIDE = 127  #: the largest exponent of formats that vectors enter as they are: bf16's, and so tf32's and fp32's
#: Machines of a unit draw random bits of their own (``Machine``'s ``unit``).
_SPMV, _DOT, _AXPY, _RESIDUAL, _PRECONDITION, _SOLUTION = range(6)


def machines(
    precision: CGPrecision,
    seed: int = 0,
    backend: str = "cpu",
    ledger: Ledger | None = None,
    threads: int | None = None,
) -> tuple[Machine, Machine, Machine, Machine, Machine]:
    """The machines of spmv, dot, axpy, and of the residual's dot and axpy, with one seed and one ledger."""
    units = Workshop(None, seed, backend, threads, ledger=ledger).units(precision)
    return units.spmv, units.dot, units.axpy, units.residual_dot, units.residual_axpy


@dataclass(frozen=True, eq=False)
class Units:
    """The machines of a precision, and the matrix as they read it."""

    precision: CGPrecision
    workshop: Workshop
    spmv: Machine
    dot: Machine
    axpy: Machine
    solution: Machine  #: of x's update
    residual_dot: Machine
    residual_axpy: Machine
    preconditioner: Machine | None  #: None without one
    parts: tuple[tuple[Machine, Store], ...] = ()  #: of a matrix in ``Buckets``
    lossless: Format | None = None  #: that the matrix is read in instead of a wider one

    @property
    def all(self) -> list[Machine]:
        parts = (machine for machine, _ in self.parts)
        own = self.spmv, self.dot, self.axpy, self.solution, self.residual_dot, self.residual_axpy
        made = (*own, self.preconditioner, *parts)
        return [machine for machine in made if machine is not None]

    @property
    def lifts(self) -> bool:
        """Whether r times powers of two fits r's format, and squares add up in binary32 or better."""
        dp = self.residual_axpy.datapath
        wide = not any(map(_is_narrow, (dp.a, dp.b, dp.output)))
        return wide and unit_roundoff(self.residual_dot.datapath.accumulator) <= 2.0**-24

    def product(self, p: Operand) -> Operand:
        """A p."""
        if self.parts:
            return self.seen("spmv", self._sum_of_parts(p), p)
        machine = self.spmv
        self.workshop.lossless = self.lossless or self.workshop.lossless
        matrix = self.workshop.matrix.read(machine, self.precision.storage)
        return self.seen("spmv", self._multiplied(machine, matrix, p), p)

    def _sum_of_parts(self, p: Operand) -> Operand:
        """A_1 p + A_2 p + ..., each on its machine, added up on ``spmv``'s."""
        total = None
        for machine, part in self.parts:
            product = self._multiplied(machine, part.read(machine, None), p)
            product = self.loaded("spmv", self.spmv, product, self.spmv.datapath.b)
            total = product if total is None else self.spmv.add(total, product, held=True)
        assert total is not None
        return total

    def _multiplied(self, machine: Machine, matrix: Any, p: Operand) -> Operand:
        """A matrix, or a part of one, as a machine reads it, times p."""
        given = self.loaded("spmv", machine, p, machine.datapath.b)
        if self.workshop.observing:
            self.workshop.observe_rows("spmv", machine, matrix, given)
        return machine.spmv(matrix, given, held=True)

    def inner(self, machine: Machine, u: Operand, v: Operand) -> float:
        """u . v."""
        what = "dot" if machine is self.dot else "residual"
        dp = machine.datapath
        first = self.loaded(what, machine, u, dp.a)
        second = first if u is v and dp.a == dp.b else self.loaded(what, machine, v, dp.b)
        found = self.workshop.observed(what, machine, first, second)
        if not math.isfinite(found):
            self.workshop.sign(what, Signs.NONFINITE)
        elif u is v and found == 0.0 and u.values.any():
            self.workshop.sign(what, Signs.VANISHED)
        return found

    def update(self, machine: Machine, alpha: float, u: Operand, v: Operand) -> Operand:
        """alpha u + v."""
        what = "residual" if machine is self.residual_axpy is not self.axpy else "axpy"
        dp = machine.datapath
        given = self.loaded(what, machine, u, dp.b), self.loaded(what, machine, v, dp.accumulator)
        return self.seen(what, machine.axpy(alpha, *given, held=True), v)

    def precondition(self, r: Operand) -> Operand:
        """z = M^-1 r; r itself without a preconditioner."""
        factors = self.workshop.factors
        if factors is None or self.preconditioner is None:
            return r
        machine, dp = self.preconditioner, self.preconditioner.datapath
        shift = self.shift(r, dp.a, dp.b, dp.output)
        z = factors.apply(machine, shifted(r, -shift), self.precision.factors)
        z = z if not shift else shifted(self.loaded("precondition", machine, z, FP64), shift)
        return self.seen("precondition", z, r)

    def shift(self, x: Operand, *formats: Any) -> int:
        """The exponent by which a vector is lowered on its way into formats of a narrow range, to be about 1 there: 0
        where none of them is narrow, it is stored in a narrow one itself, or the workshop does not shift."""
        if not self.workshop.shifts or _is_narrow(x.fmt) or not any(map(_is_narrow, formats)):
            return 0
        top = max(float(x.values.max()), -float(x.values.min()))
        return math.frexp(top)[1] if 0.0 < top < math.inf else 0

    def loaded(self, what: str, machine: Machine, x: Operand, needed: Format) -> Operand:
        """A vector in the format that a machine needs it in."""
        if x.fmt == needed:
            return x
        return self.workshop.sign_conversion(what, x, converted(machine, x, needed))

    def seen(self, what: str, result: Operand, given: Operand) -> Operand:
        """A result, after a glance at it."""
        self.workshop.sign_result(what, result, given)
        return result


class Workshop:
    """Makes machines, keeps them, and keeps the matrix in each format that it is read in."""

    def __init__(
        self,
        matrix: sp.csr_matrix | None,
        seed: int = 0,
        backend: str = "cpu",
        threads: int | None = None,
        factors: Factors | None = None,
        ledger: Ledger | None = None,
        shifts: bool = False,
        lossless: bool = False,
    ) -> None:
        self.shifts = shifts
        self._matrix = sp.csr_matrix((1, 1)) if matrix is None else matrix
        self.matrix = Store(self._matrix)
        self._narrowest = narrowest(self._matrix) if lossless else None
        self.lossless: Format | None = None  #: what the matrix was stored and multiplied in instead of a wider format
        self.stored_bits = FP64.bits if self._narrowest is None else self._narrowest.bits  #: of an entry of the matrix
        self.factors = factors
        self.ledger = Ledger() if ledger is None else ledger
        self.observing = False
        self.events: dict[str, Events] = {}  #: of inner products, by operation, since they were last taken
        self.signs: dict[str, Signs] = {}  #: what was seen since they were last taken
        self._where = seed, backend, threads
        self._machines: dict[tuple[int, Datapath], Machine] = {}
        self._units: dict[CGPrecision, Units] = {}
        self._current: Units | None = None

    # ---- machines ------------------------------------------------------------------------------------------

    def units(self, precision: CGPrecision) -> Units:
        """Those of a precision; their calls are numbered on from those before, so that no random bit comes twice."""
        current = self._current
        if current is not None and (precision is current.precision or precision == current.precision):
            return current
        units = self._units.get(precision)
        if units is None:
            units = self._units[precision] = self._make(precision)
        calls = [0] * (_SOLUTION + 1)
        for machine in self._machines.values():
            calls[machine.unit] = max(calls[machine.unit], machine.calls)
        for machine in units.all:
            machine.calls = calls[machine.unit]
        self._current = units
        return units

    @property
    def exact(self) -> Units:
        """Those of fp64, whichever are in use; they draw no random bits, so that their calls need no numbers."""
        units = self._units.get(SAFE)
        if units is None:
            units = self._units[SAFE] = self._make(SAFE)
        return units

    def _make(self, precision: CGPrecision) -> Units:
        update = precision.axpy if precision.scalars is None else replace(precision.axpy, a=precision.scalars)
        product, fmt, lossless = precision.spmv, self._narrowest, None
        plain = precision.storage is None and precision.buckets is None and isinstance(product.a, FloatFormat)
        if fmt is not None and plain and fmt.bits < product.a.bits:
            product, lossless = replace(product, a=fmt), fmt
        spmv, dot = self._machine(_SPMV, product), self._machine(_DOT, precision.dot)
        axpy = self._machine(_AXPY, update)
        residual = None if precision.residual is None else self._machine(_RESIDUAL, precision.residual)
        applied = self._machine(_PRECONDITION, precision.of_factors) if self.factors is not None else None
        solution = axpy
        if precision.solution is not None:  # of one alpha x and r gain the same p and A p
            alpha = update.a if precision.residual is None else precision.residual.a
            solution = self._machine(_SOLUTION, replace(precision.solution, a=alpha))
        split = () if precision.buckets is None else precision.buckets.split(self._matrix)
        parts = tuple((self._machine(_SPMV, datapath), Store(part)) for datapath, part in split)
        updates = axpy, solution, residual or dot, residual or axpy
        return Units(precision, self, spmv, dot, *updates, applied, parts, lossless)

    def _machine(self, unit: int, datapath: Datapath) -> Machine:
        machine = self._machines.get((unit, datapath))
        if machine is None:
            seed, backend, threads = self._where
            # the matrix and the scalars come in fp64
            machine = Machine(datapath, backend, seed, self.ledger, threads, unit, on_inexact="quantize")
            self._machines[unit, datapath] = machine
        return machine

    def observed(self, what: str, machine: Machine, u: Operand, v: Operand) -> float:
        """u . v; while ``observing``, with its events, bit for bit the same."""
        if not self.observing:
            return machine.dot(u, v)
        out, events = machine.observe(u[None, :], v[:, None])
        self._happened(what, events)
        return float(out[0, 0])

    def observe_rows(self, what: str, machine: Machine, matrix: Any, x: Operand) -> None:
        """What goes on in the inner products of rows, at most ``_ROWS`` of them, with x, which are done again for that,
        apart, so that nothing is counted twice; where rounding is random, with other random bits.

        Parameters
        ----------
        matrix : in CSR form, in the machine's format a. x : (n,) in its format b.
        """
        dp, (seed, backend, threads) = machine.datapath, self._where
        apart = Machine(dp, backend, seed, Ledger(), threads, machine.unit, on_inexact="quantize")
        data, indices, starts, values = map(
            apart.backend.to_host, (matrix.data, matrix.indices, matrix.indptr, x.values)
        )
        rows = len(starts) - 1
        for i in np.linspace(0, rows - 1, min(rows, _ROWS)).astype(int):
            row = slice(starts[i], starts[i + 1])
            if row.start < row.stop:
                a, b = Operand(data[None, row], dp.a, None), Operand(values[indices[row], None], dp.b, None)
                self._happened(what, apart.observe(a, b)[1])

    def _happened(self, what: str, events: Events) -> None:
        self.events[what] = self.events[what] + events if what in self.events else events

    # ---- what results show ---------------------------------------------------------------------------------

    def take_signs(self) -> dict[str, Signs]:
        """What was seen since this was last asked."""
        taken, self.signs = self.signs, {}
        return taken

    def sign(self, what: str, sign: Signs) -> None:
        self.signs[what] = self.signs.get(what, Signs.NONE) | sign

    def sign_result(self, what: str, result: Operand, given: Operand) -> None:
        values = result.values
        top = max(float(values.max()), -float(values.min()))
        if not math.isfinite(top):
            self.sign(what, Signs.NONFINITE)
        elif top == 0.0:
            if given.values.any():
                self.sign(what, Signs.VANISHED)
        elif top == _saturated(result.fmt):
            self.sign(what, Signs.SATURATED)

    def sign_conversion(self, what: str, given: Operand, result: Operand) -> Operand:
        self.sign_result(what, result, given)
        if np.count_nonzero(result.values) < np.count_nonzero(given.values):
            self.sign(what, Signs.VANISHED)
        return result


@lru_cache(maxsize=64)
def _saturated(fmt: Any) -> float:
    """What results that are too large become, where that is a number; NaN: they become infinities."""
    return math.nan if getattr(fmt, "has_infinity", False) else float(fmt.max_finite)


def _is_narrow(fmt: Any) -> bool:
    return not isinstance(fmt, FloatFormat) or fmt.emax < _WIDE


def shifted(x: Operand, exponent: int) -> Operand:
    """2^exponent x, exactly: of a vector in a format of a wide range."""
    return x if not exponent else Operand(x.values * math.ldexp(1.0, exponent), x.fmt, None)
