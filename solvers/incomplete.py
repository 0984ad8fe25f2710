"""Incomplete Cholesky factors without fill-in, IC(0) (Meijerink & van der Vorst 1977, doi:10.2307/2006112)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from ..kernels.subset import compiled

#: What is added to the diagonal, relative to it, where factors do not exist; then twice as much, as long as that is so
#: (Manteuffel 1980, doi:10.1090/S0025-5718-1980-0559197-0; the start and the doubling are Lin & More's 1999,
#: doi:10.1137/S1064827597327334).
FIRST_SHIFT = 1e-3
#: A pivot counts as lost if no more than this is left of a diagonal entry.
LEAST_PIVOT = 1e-12


def incomplete_cholesky(matrix: sp.csr_matrix) -> tuple[sp.csr_matrix, np.ndarray, float]:
    """(L, D, shift): A + shift diag(A) ~ (I + L) D (I + L)^T with L strictly lower, of A's pattern. In fp64.

    With a shift of 1 or more a diagonally scaled positive definite matrix is diagonally dominant enough in practice; a
    matrix that has no factors even with 2^20 times the first one is refused.
    """
    lower = sp.csr_matrix(sp.tril(matrix))
    lower.sort_indices()
    shift = 0.0
    for attempt in range(22):
        data = lower.data.copy()
        ends = lower.indptr[1:] - 1
        data[ends] *= 1.0 + shift
        row = _factor(lower.indptr, lower.indices, data)
        if row < 0:
            root = data[ends]
            rows = np.repeat(np.arange(len(root)), np.diff(lower.indptr))
            strict = lower.indices < rows
            kept = np.concatenate([[0], np.cumsum(np.diff(lower.indptr) - 1)]).astype(lower.indptr.dtype)
            columns = lower.indices[strict]
            unit = sp.csr_matrix((data[strict] / root[columns], columns, kept), shape=matrix.shape)
            return unit, root * root, shift
        shift = FIRST_SHIFT * 2.0**attempt
    raise HalfulpError(f"ic0 breaks down in row {row + 1} whatever is added to the diagonal: use jacobi or ssor.")


@compiled
def _factor(starts: np.ndarray, columns: np.ndarray, data: np.ndarray) -> int:
    """A lower triangle, rows sorted up to their diagonal, becomes its IC(0) factor; -1, or the row where not."""
    for i in range(len(starts) - 1):
        begin, end = int(starts[i]), int(starts[i + 1]) - 1
        for place in range(begin, end):
            k = int(columns[place])
            total = data[place]
            left, right = begin, int(starts[k])
            last = int(starts[k + 1]) - 1
            while left < place and right < last:
                if columns[left] == columns[right]:
                    total -= data[left] * data[right]
                    left += 1
                    right += 1
                elif columns[left] < columns[right]:
                    left += 1
                else:
                    right += 1
            data[place] = total / data[last]
        pivot = data[end]
        for place in range(begin, end):
            pivot -= data[place] * data[place]
        if not pivot > LEAST_PIVOT * data[end]:
            return i
        data[end] = np.sqrt(pivot)
    return -1
