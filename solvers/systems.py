"""A linear system and its right-hand side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from .norms import norm

#: More unknowns than these are refused.
LARGEST = 20_000_000


class Problem(NamedTuple):
    """A x = b."""

    name: str
    matrix: sp.csr_matrix  #: (n, n), float64, symmetric, rows sorted, no stored zeros
    rhs: np.ndarray  #: (n,)


def positive_diagonal(matrix: sp.csr_matrix, what: str) -> np.ndarray:
    """(n,) The diagonal of a matrix, which ``what`` needs to be positive. Raises HalfulpError, with the row, if not."""
    diagonal = matrix.diagonal()
    if not (diagonal > 0.0).all():
        row = int(np.flatnonzero(~(diagonal > 0.0))[0])
        raise HalfulpError(
            f"{what} needs a positive diagonal, but the entry of row {row + 1} is {diagonal[row]:.3g}: the matrix is"
            " not positive definite."
        )
    return diagonal


def unit_vector(n: int, seed: int) -> np.ndarray:
    """(n,) A random direction with ||b||_2 = 1, so that residuals are relative ones."""
    if seed < 0:
        raise HalfulpError(f"a seed is a whole number from 0 on, not {seed}.")
    b = np.random.default_rng(seed).standard_normal(n)
    return b / norm(b)


def canonical(matrix: sp.spmatrix) -> sp.csr_matrix:
    """As float64 in compressed rows: sorted, entries stated more than once added up, no stored zeros."""
    rows = sp.csr_matrix(matrix, dtype=np.float64)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    rows.sort_indices()
    return rows
