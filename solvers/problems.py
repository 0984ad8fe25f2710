"""Linear systems: the 2-D Poisson problem (embedded), or a symmetric positive definite Matrix Market file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
import scipy.linalg
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from .norms import norm

#: Up to this order definiteness is checked by a dense factorisation before solving.
_DENSE_CHECK = 2000
_LARGEST = 20_000_000


class Problem(NamedTuple):
    """A x = b."""

    name: str
    matrix: sp.csr_matrix  #: (n, n), float64, symmetric, no stored zeros
    rhs: np.ndarray  #: (n,)


def _rhs(n: int, seed: int) -> np.ndarray:
    """A random direction with ||b||_2 = 1, so that residuals are relative ones."""
    b = np.random.default_rng(seed).standard_normal(n)
    return b / norm(b)


def poisson(side: int = 32, seed: int = 0) -> Problem:
    """The 5-point Laplacian on a side x side grid with Dirichlet boundaries (4 and -1: exact in every format)."""
    if not 1 <= side <= 4096:
        raise HalfulpError(f"a Poisson grid has 1 to 4096 points a side, not {side}.")
    line = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(side, side))
    identity = sp.identity(side)
    matrix = sp.csr_matrix(sp.kron(identity, line) + sp.kron(line, identity))
    matrix.eliminate_zeros()
    return Problem(f"poisson {side}x{side}", matrix, _rhs(side * side, seed))


def matrix_market(path: str | Path, seed: int = 0) -> Problem:
    """A system with the matrix of a Matrix Market file (.mtx or .mtx.gz; real, integer or pattern).

    Raises
    ------
    HalfulpError
        The file is missing or damaged, or the matrix is not real, square, finite, symmetric, or positive definite
        (checked by factorisation up to n = 2000; beyond that the solver finds out).
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise HalfulpError(f"{file} {what}: give a Matrix Market file (.mtx or .mtx.gz), or 'poisson'.")
    try:
        rows, columns, *_ = scipy.io.mminfo(file)
        if max(rows, columns) > _LARGEST:
            raise HalfulpError(f"{file} is {rows} x {columns}; at most {_LARGEST:,} unknowns are solved.")
        raw = scipy.io.mmread(file)
    except HalfulpError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise HalfulpError(f"{file} is not a readable Matrix Market file: {reason}.") from None
    if np.iscomplexobj(raw.data if sp.issparse(raw) else raw):
        raise HalfulpError(f"{file} holds a complex matrix; a real symmetric positive definite one is needed.")
    matrix = sp.csr_matrix(raw, dtype=np.float64)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    check_spd(matrix, str(file))
    return Problem(file.name.removesuffix(".gz").removesuffix(".mtx"), matrix, _rhs(matrix.shape[0], seed))


def check_spd(matrix: sp.csr_matrix, name: str) -> None:
    """Refuse a matrix that is certainly not symmetric positive definite."""
    rows, columns = matrix.shape
    if rows != columns or rows == 0:
        raise HalfulpError(f"{name} is {rows} x {columns}; conjugate gradients need a square, non-empty matrix.")
    if not np.isfinite(matrix.data).all():
        raise HalfulpError(f"{name} contains NaN or infinite entries.")
    if abs(matrix - matrix.T).nnz:
        raise HalfulpError(f"{name} is not symmetric; conjugate gradients need a symmetric positive definite matrix.")
    if not (matrix.diagonal() > 0).all():
        raise HalfulpError(f"{name} is not positive definite (it has a diagonal entry that is not positive).")
    if rows <= _DENSE_CHECK:
        try:
            scipy.linalg.cholesky(matrix.toarray())
        except np.linalg.LinAlgError:
            lowest = float(scipy.linalg.eigvalsh(matrix.toarray(), subset_by_index=[0, 0])[0])
            if lowest < -rows * np.finfo(float).eps * float(abs(matrix).max()):
                raise HalfulpError(
                    f"{name} is not positive definite (its smallest eigenvalue is {lowest:.3g})."
                ) from None


def load(name: str, side: int = 32, seed: int = 0) -> Problem:
    """``"poisson"``, or the path of a Matrix Market file."""
    return poisson(side, seed) if name.lower() == "poisson" else matrix_market(name, seed)
