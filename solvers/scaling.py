"""Symmetric diagonal scaling by powers of two, so that badly scaled matrices fit narrow formats. It rounds nothing.

A x = b becomes (D A D) y = 2^-s D b with x = 2^s D y and D_ii = 2^-round(log2(a_ii) / 2): the scaled diagonal lies
between 1/2 and 2, and so do all entries of a positive definite matrix, at most (|a_ij| <= sqrt(a_ii a_jj)). It is
within a factor of two of Jacobi scaling, whose condition number is within n of the least that any diagonal scaling
gives (van der Sluis 1969, doi:10.1007/BF02165096). Hardware shifts exponents: scaling is not counted in ledgers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from .systems import positive_diagonal


def spread(matrix: sp.csr_matrix) -> float:
    """log2 of the largest of a diagonal over its smallest element, in magnitude; infinite if one is zero."""
    diagonal = np.abs(matrix.diagonal())
    least = float(diagonal.min(initial=math.inf))
    return math.log2(float(diagonal.max())) - math.log2(least) if least > 0.0 else math.inf


@dataclass(frozen=True)
class Scaling:
    """A scaled system, and the way back."""

    matrix: sp.csr_matrix  #: D A D, (n, n)
    exponents: np.ndarray | None  #: log2 of D, (n,) int32; None: nothing is scaled
    shift: int = 0  #: s

    @classmethod
    def none(cls, matrix: sp.csr_matrix) -> Scaling:
        return cls(matrix, None)

    @classmethod
    def of(cls, matrix: sp.csr_matrix, rhs: np.ndarray) -> Scaling:
        """That of a matrix with a positive diagonal; the largest number of the scaled right-hand side is about 1.

        Raises
        ------
        HalfulpError
            A diagonal entry is not positive, or a number would leave fp64's range.
        """
        diagonal = positive_diagonal(matrix, "scaling")
        exponents = (-(np.frexp(diagonal)[1] >> 1)).astype(np.int32)
        rows = np.repeat(exponents, np.diff(matrix.indptr))
        rows += exponents[matrix.indices]
        data = np.ldexp(matrix.data, rows)
        if not np.array_equal(np.ldexp(data, -rows), matrix.data):
            raise HalfulpError("scaling would leave fp64's range: the entries of the matrix are too far apart.")
        scaled = sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
        top = float(np.max(np.abs(np.ldexp(rhs, exponents)), initial=0.0))
        return cls(scaled, exponents, math.frexp(top)[1] if 0.0 < top < math.inf else 0)

    def right_hand_side(self, b: np.ndarray) -> np.ndarray:
        """2^-s D b."""
        return b if self.exponents is None else np.ldexp(b, self.exponents - self.shift)

    def solution(self, y: np.ndarray) -> np.ndarray:
        """x = 2^s D y."""
        return y if self.exponents is None else np.ldexp(y, self.exponents + self.shift)

    @property
    def weights(self) -> np.ndarray | None:
        """(n,) 2^s D^-1, by which the scaled system's residual is to be multiplied; None where all are the same."""
        if self.exponents is None or not np.ptp(self.exponents):
            return None
        return np.ldexp(1.0, self.shift - self.exponents)
