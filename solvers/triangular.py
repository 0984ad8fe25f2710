"""Sparse triangular systems on a Machine, by level scheduling (Anderson & Saad 1989, doi:10.1142/S0129053389000056)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ..emulator.formats import Format
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from ..kernels.sparse import Rows
from ..kernels.subset import compiled
from .storage import Store, converted


class Triangle:
    """(I + T) y = r, T strictly triangular. Rows of a level need only those of earlier levels.

    Rows are kept in the order of their levels, so that a level is a slice, and negated, so that
    y = r + (-T y): per level one sparse product and one elementwise addition, each rounded as the machine does.
    """

    def __init__(self, strict: sp.csr_matrix, upper: bool = False) -> None:
        n = strict.shape[0]
        level = _levels(strict.indptr, strict.indices, upper)
        self._order = np.argsort(level, kind="stable")
        self._ends = np.cumsum(np.bincount(level)).tolist() if n else []
        place = np.empty(n, strict.indices.dtype)
        place[self._order] = np.arange(n)
        rows = strict[self._order]
        self._place = place
        self._store = Store(sp.csr_matrix((-rows.data, place[rows.indices], rows.indptr), shape=strict.shape))
        self._parts: tuple[Any, list[Rows]] = (None, [])  #: the levels of the matrix that was read last

    @property
    def levels(self) -> int:
        return len(self._ends)

    def solve(self, machine: Machine, r: Operand, stored: Format | None) -> Operand:
        """y in the machine's output format. T is read once, and so is each y_j, a level a call."""
        dp, xp = machine.datapath, machine.backend.xp
        given = machine.backend.array(converted(machine, r, dp.a).values)[xp.asarray(self._order)]
        y = xp.zeros(given.size)
        read = y if dp.b == dp.output else xp.zeros(given.size)  # y as sparse products read it
        levels = self._levels_of(machine, stored) if self._store.size else []
        begin = 0
        for number, end in enumerate(self._ends):
            right = Operand(given[begin:end], dp.a, None)
            if number:
                known = machine.spmv(levels[number - 1], Operand(read, dp.b, None), held=True)
                part = machine.add(right, converted(machine, known, dp.b), held=True)
            else:
                part = converted(machine, right, dp.output)
            y[begin:end] = part.values
            if read is not y:
                read[begin:end] = converted(machine, part, dp.b).values
            begin = end
        machine.ledger.move(-max(len(self._ends) - 2, 0) * y.size * dp.b.bits)  # each product was taken to read all y
        return Operand(y[xp.asarray(self._place)], dp.output, None)

    def _levels_of(self, machine: Machine, stored: Format | None) -> list[Rows]:
        """The rows of each level but the first, which has no entries."""
        whole = self._store.read(machine, stored)
        if self._parts[0] is not whole:
            parts = []
            for begin, end in zip(self._ends, self._ends[1:], strict=False):
                first, last = int(whole.indptr[begin]), int(whole.indptr[end])
                starts = np.ascontiguousarray(whole.indptr[begin : end + 1] - first)
                data, columns = whole.data[first:last], whole.indices[first:last]
                longest = int(np.diff(starts).max())
                parts.append(Rows(data, columns, starts, (end - begin, whole.shape[1]), whole.fmt, True, longest))
            self._parts = whole, parts
        return self._parts[1]


@compiled
def _levels(starts: np.ndarray, columns: np.ndarray, upper: bool) -> np.ndarray:
    """Of each row the length of the longest chain of rows that it needs."""
    n = len(starts) - 1
    level = np.zeros(n, np.int64)
    for step in range(n):
        i = n - 1 - step if upper else step
        for place in range(starts[i], starts[i + 1]):
            level[i] = max(level[i], level[columns[place]] + 1)
    return level
