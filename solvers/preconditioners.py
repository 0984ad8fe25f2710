"""Preconditioners: built in fp64, stored in a format, applied on a Machine.

Building is not counted in ledgers: it is done once, in fp64, before the solve. Each is symmetric positive definite as
built; rounded into a narrow format or applied in low precision it is so only approximately, which flexible CG bears.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from .incomplete import incomplete_cholesky
from .storage import Store, converted
from .systems import positive_diagonal
from .triangular import Triangle


class Factors:
    """What a preconditioner was built into for a matrix."""

    def __init__(self, **facts: float) -> None:
        self.facts = facts  #: what there is to say about it, JSON-able

    def apply(self, machine: Machine, r: Operand, stored: Format | None) -> Operand:
        """z = M^-1 r in the machine's output format, from factors that are ``stored`` in a format (None: its ``a``)."""
        raise NotImplementedError


class Diagonal(Factors):
    """z_i = r_i / a_ii, as a product with the inverse: n multiplications."""

    def __init__(self, diagonal: np.ndarray) -> None:
        super().__init__()
        self._inverse = Store(1.0 / diagonal)

    def apply(self, machine: Machine, r: Operand, stored: Format | None) -> Operand:
        return machine.mul(self._inverse.read(machine, stored), converted(machine, r, machine.datapath.b), held=True)


class Blocks(Factors):
    """z = B r with the inverses of diagonal blocks, as one sparse product (Anzt et al. 2019, doi:10.1002/cpe.4460)."""

    def __init__(self, inverses: sp.csr_matrix) -> None:
        super().__init__(nnz=int(inverses.nnz))
        self._inverses = Store(inverses)

    def apply(self, machine: Machine, r: Operand, stored: Format | None) -> Operand:
        matrix = self._inverses.read(machine, stored)
        return machine.spmv(matrix, converted(machine, r, machine.datapath.b), held=True)


class Split(Factors):
    """M = (I + L) D (I + L)^T, L strictly lower: two triangular solves and a diagonal one.

    2 nnz(L) multiplications and additions, 2 n additions (less those of rows without entries), n multiplications.
    """

    def __init__(self, lower: sp.csr_matrix, diagonal: np.ndarray, **facts: float) -> None:
        self._down, self._up = Triangle(lower), Triangle(lower.T.tocsr(), upper=True)
        self._inverse = Store(1.0 / diagonal)
        super().__init__(nnz=int(lower.nnz), levels=self._down.levels, **facts)

    def apply(self, machine: Machine, r: Operand, stored: Format | None) -> Operand:
        y = self._down.solve(machine, r, stored)
        y = converted(machine, y, machine.datapath.b)
        return self._up.solve(machine, machine.mul(self._inverse.read(machine, stored), y, held=True), stored)


@dataclass(frozen=True)
class Preconditioner:
    """Which one: ``none``, ``jacobi``, ``block-jacobi:<size>``, ``ic0``, ``ssor:<omega>``."""

    kind: str = "none"
    parameter: float | None = None  #: the size of a block, or omega

    #: What may follow the colon: (default, is it fine, what it must be).
    _PARAMETERS: ClassVar[dict[str, tuple[float, Callable[[float], bool], str]]] = {
        "block-jacobi": (8, lambda size: size == int(size) and 1 <= size <= 64, "a size of 1 to 64"),
        "ssor": (1.0, lambda omega: 0.0 < omega < 2.0, "an omega between 0 and 2"),
    }
    KINDS: ClassVar[tuple[str, ...]] = ("none", "jacobi", "block-jacobi", "ic0", "ssor")

    @classmethod
    def of(cls, text: str | Preconditioner) -> Preconditioner:
        """From its text form, which ``str`` gives back."""
        if isinstance(text, Preconditioner):
            return text
        kind, colon, number = str(text).strip().lower().partition(":")
        if kind not in cls.KINDS:
            raise HalfulpError(
                f"preconditioner {text!r} is none of none, jacobi, block-jacobi[:SIZE], ic0 and ssor[:OMEGA]."
            )
        default, fine, what = cls._PARAMETERS.get(kind, (None, None, None))
        if not colon:
            return cls(kind, default)
        try:
            parameter = float(number)
            good = fine is not None and math.isfinite(parameter) and fine(parameter)
        except ValueError:
            good = False
        if not good:
            raise HalfulpError(f"preconditioner {text!r}: {kind} takes {what or 'nothing'} after its name.")
        return cls(kind, parameter)

    def __str__(self) -> str:
        return self.kind if self.parameter is None else f"{self.kind}:{self.parameter:g}"

    def build(self, matrix: sp.csr_matrix) -> Factors | None:
        """Its factors for a matrix with sorted rows, in fp64; None if there is nothing to apply.

        Raises
        ------
        HalfulpError
            The matrix is shown not to be positive definite.
        """
        if self.kind == "none":
            return None
        diagonal = positive_diagonal(matrix, self.kind)
        if self.kind == "jacobi":
            return Diagonal(diagonal)
        if self.kind == "block-jacobi":
            return Blocks(_inverses(matrix, int(self.parameter or 1)))
        if self.kind == "ic0":
            lower, pivots, shift = incomplete_cholesky(matrix)
            return Split(lower, pivots, shift=shift)
        omega = float(self.parameter or 1.0)
        strict = sp.csr_matrix(sp.tril(matrix, -1))
        # (D + w L) D^-1 (D + w L)^T / (w (2 - w)), Axelsson 1994, section 7.3
        strict.data *= omega / diagonal[strict.indices]
        return Split(strict, diagonal / (omega * (2.0 - omega)))


def _inverses(matrix: sp.csr_matrix, size: int) -> sp.csr_matrix:
    """The inverses of the diagonal blocks of so many consecutive rows, by Gauss-Jordan elimination, the same bits on
    every processor; the last block may be smaller."""
    n = matrix.shape[0]
    entries = matrix.tocoo()
    inside = entries.row // size == entries.col // size
    row, column, count = entries.row[inside], entries.col[inside], -(-n // size)
    x = np.zeros((count, size, size))
    x[row // size, row % size, column % size] = entries.data[inside]
    padding = np.arange(n, count * size)
    x[padding // size, padding % size, padding % size] = 1.0
    for k in range(size):
        pivot = x[:, k, k].copy()
        if not (pivot > 0.0).all():
            block = int(np.flatnonzero(~(pivot > 0.0))[0])
            raise HalfulpError(
                f"block-jacobi: the block of rows {block * size + 1} to {min((block + 1) * size, n)} is not positive"
                " definite, nor is the matrix then."
            )
        x[:, k, k] = 1.0
        x[:, k, :] /= pivot[:, None]
        factor = x[:, :, k].copy()
        factor[:, k] = 0.0
        x[:, :, k] -= factor
        x -= factor[:, :, None] * x[:, k, None, :]
    x = (x + x.transpose(0, 2, 1)) / 2.0
    kept: Any = sp.bsr_matrix((x, np.arange(count), np.arange(count + 1))).tocsr()[:n, :n]
    kept.eliminate_zeros()
    kept.sort_indices()
    return sp.csr_matrix(kept)
