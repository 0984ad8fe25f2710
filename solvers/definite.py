"""Is a matrix symmetric positive definite? If it certainly is not: where, by how much, along which direction.

No dense or second full copy of the matrix is made (but A^T, once) beyond :data:`DENSE` rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg

from ..emulator.errors import HalfulpError
from .norms import norm

#: Up to this order definiteness is checked by a factorisation; beyond it CG finds out.
DENSE = 2000
#: Entries that are looked at together.
_BLOCK = 1 << 20


def check_spd(matrix: sp.csr_matrix, name: str) -> None:
    """Refuse a matrix that is certainly not symmetric positive definite; rows and columns are counted from 1.

    Raises
    ------
    HalfulpError
        ``matrix`` is not square or is empty; a row of it is; it holds NaN or infinities; it is not exactly
        symmetric; or some x with x^T A x <= 0 is at hand: from the diagonal, from two rows, the vector of ones (a
        Laplacian without boundary), or, up to n = 2000, where a factorisation fails, an eigenvector of the matrix
        with its diagonal scaled to about one by powers of two, which changes no sign and loses nothing.
    """
    rows, columns = matrix.shape
    if rows != columns or rows == 0:
        raise HalfulpError(f"{name} is {rows} x {columns}; conjugate gradients need a square, non-empty matrix.")
    _check_entries(matrix, name)
    _check_symmetric(matrix, name)
    diagonal = matrix.diagonal()
    _check_diagonal(diagonal, name)
    _check_pairs(matrix, diagonal, name)
    _check_ones(matrix, name)
    if rows <= DENSE:
        _check_eigenvalues(matrix, diagonal, name)


def _and_others(count: int, what: str) -> str:
    return "" if count == 1 else f" (and {count - 1:,} other {what}{'' if count == 2 else 's'})"


def _check_entries(matrix: sp.csr_matrix, name: str) -> None:
    empty = np.flatnonzero(np.diff(matrix.indptr) == 0)
    if empty.size:
        raise HalfulpError(f"{name} is singular: row {empty[0] + 1}{_and_others(empty.size, 'row')} is empty.")
    odd = np.flatnonzero(~np.isfinite(matrix.data))
    if odd.size:
        row = int(np.searchsorted(matrix.indptr, odd[0], side="right"))
        value = "NaN" if np.isnan(matrix.data[odd[0]]) else "an infinity"
        where = f"row {row}, column {matrix.indices[odd[0]] + 1}{_and_others(odd.size, 'place')}"
        raise HalfulpError(f"{name} holds {value} in {where}; all entries must be finite.")


def _row_blocks(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows that hold about _BLOCK entries each."""
    start, rows = 0, len(indptr) - 1
    while start < rows:
        stop = int(np.searchsorted(indptr, indptr[start] + _BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), rows)
        yield start, stop
        start = stop


def _check_symmetric(matrix: sp.csr_matrix, name: str) -> None:
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    other = matrix.T.tocsr()
    same = np.array_equal(matrix.indptr, other.indptr) and np.array_equal(matrix.indices, other.indices)
    if same and np.array_equal(matrix.data, other.data):
        return
    pairs, most, where = 0, 0.0, (0, 0)
    for start, stop in _row_blocks(matrix.indptr):
        with np.errstate(over="ignore"):
            apart = (matrix[start:stop] - other[start:stop]).tocoo()
        upper = (apart.col > apart.row + start) & (apart.data != 0)
        if not upper.any():
            continue
        pairs += int(upper.sum())
        size = np.abs(apart.data[upper])
        at = int(np.argmax(size))
        if size[at] > most:
            most, where = float(size[at]), (start + int(apart.row[upper][at]), int(apart.col[upper][at]))
    if not pairs:
        return
    i, j = where
    this, that = float(matrix[i, j]), float(matrix[j, i])
    relative = most / max(abs(this), abs(that))
    count = "one pair of entries differs" if pairs == 1 else f"{pairs:,} pairs of entries differ, most of all"
    raise HalfulpError(
        f"{name} is not symmetric: {count}{':' if pairs == 1 else ''} row {i + 1}, column {j + 1} ({this:.6g}) and "
        f"row {j + 1}, column {i + 1} ({that:.6g}), which are {most:.3g} apart ({relative:.2g} of the larger)."
    )


def _check_diagonal(diagonal: np.ndarray, name: str) -> None:
    bad = np.flatnonzero(diagonal <= 0)
    if bad.size:
        value = float(diagonal[bad[0]])
        raise HalfulpError(
            f"{name} is not positive definite: the diagonal entry of row {bad[0] + 1}"
            f"{_and_others(bad.size, 'row')} is {value:.6g}, so x^T A x = {value:.6g} for x = 1 there, 0 elsewhere."
        )


def _exponents(diagonal: np.ndarray) -> np.ndarray:
    """e with 2**(2 e) diagonal in [1/2, 2)."""
    return -(np.frexp(diagonal)[1] // 2)


def _check_pairs(matrix: sp.csr_matrix, diagonal: np.ndarray, name: str) -> None:
    """a_ij^2 >= a_ii a_jj: the worst pair is found in fp64 and decided exactly."""
    e = _exponents(diagonal)
    root = np.sqrt(np.ldexp(diagonal, 2 * e))
    worst, where = 0.0, (0, 0)
    for start, stop in _row_blocks(matrix.indptr):
        first, last = matrix.indptr[start], matrix.indptr[stop]
        row = np.repeat(np.arange(start, stop), np.diff(matrix.indptr[start : stop + 1]))
        column = matrix.indices[first:last]
        with np.errstate(over="ignore", under="ignore"):
            ratio = np.abs(np.ldexp(matrix.data[first:last], e[row] + e[column])) / (root[row] * root[column])
        ratio[row == column] = 0.0
        at = int(np.argmax(ratio)) if ratio.size else 0
        if ratio.size and ratio[at] > worst:
            worst, where = float(ratio[at]), (int(row[at]), int(column[at]))
    if worst < 1 - 1e-12:
        return
    i, j = sorted(where, key=lambda k: -diagonal[k])  # x = -a_ij / a_ii in row i, 1 in row j
    a, b, c = Fraction(float(diagonal[i])), Fraction(float(diagonal[j])), Fraction(float(matrix[i, j]))
    curvature = b - c * c / a
    if curvature <= 0:
        raise HalfulpError(
            f"{name} is not positive definite: x^T A x = {_short(curvature)} for x = {_short(-c / a)} in row {i + 1}, "
            f"1 in row {j + 1}, 0 elsewhere, because row {i + 1}, column {j + 1} holds {float(c):.6g} beside "
            f"{float(a):.6g} and {float(b):.6g} on the diagonal."
        )


def _short(value: Fraction) -> str:
    limit = Fraction(np.finfo(float).max)
    return f"{float(min(max(value, -limit), limit)):.6g}"


def _check_ones(matrix: sp.csr_matrix, name: str) -> None:
    """The sum of all entries is x^T A x for x = (1, ..., 1); exact where it is close to zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(matrix.data))
        if not total <= 1e-9 * float(np.max(matrix.data)) * matrix.shape[0]:
            return
    try:
        total = math.fsum(matrix.data)
    except OverflowError:
        return
    if total <= 0:
        raise HalfulpError(
            f"{name} is not positive definite: x^T A x = {total:.6g} for x = (1, ..., 1), "
            f"as its entries add up to that{', like those of a Laplacian without a boundary' if total == 0 else ''}."
        )


def _check_eigenvalues(matrix: sp.csr_matrix, diagonal: np.ndarray, name: str) -> None:
    n, e = matrix.shape[0], _exponents(diagonal)
    scaled = matrix.tocoo(copy=True)
    with np.errstate(under="ignore"):
        scaled.data = np.ldexp(scaled.data, e[scaled.row] + e[scaled.col])
    if _factorises(scaled):
        return
    dense = scaled.toarray()
    values, vectors = scipy.linalg.eigh(dense, subset_by_index=[0, 0], check_finite=False)
    lowest = float(values[0])
    rounding = n * np.finfo(float).eps * float(np.abs(dense).max())
    if lowest > rounding:
        return
    x = np.ldexp(vectors[:, 0], e - int(e.max()))
    length = norm(x)
    curvature = lowest / math.ldexp(length, int(e.max())) ** 2 if length else lowest
    x = x / length
    order = np.argsort(-np.abs(x), kind="stable")[:3]
    largest = ", ".join(f"{x[k]:.3g} in row {k + 1}" for k in order if x[k])
    what = "is not positive definite" if lowest < -rounding else "is singular within fp64's rounding"
    raise HalfulpError(
        f"{name} {what}: x^T A x = {curvature:.3g} for an x of length 1 with {largest}"
        f"{', and smaller ones elsewhere' if n > 3 else ''} "
        f"(smallest eigenvalue {lowest:.3g} with the diagonal scaled to about one)."
    )


def _factorises(matrix: sp.coo_matrix) -> bool:
    """All pivots on the diagonal are positive: of a sparse factorisation, or of a dense one where few are zero."""
    try:
        if matrix.nnz > matrix.shape[0] ** 2 // 8:
            scipy.linalg.cholesky(matrix.toarray(), lower=True, check_finite=False)
            return True
        options = {"SymmetricMode": True}
        factors = scipy.sparse.linalg.splu(
            matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options
        )
    except (np.linalg.LinAlgError, RuntimeError):  # SuperLU's: exactly singular
        return False
    return bool((factors.U.diagonal() > 0).all() and np.array_equal(factors.perm_r, factors.perm_c))
