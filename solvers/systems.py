"""A linear system, its right-hand side, and the norm that residuals are measured in."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..emulator.errors import HalfulpError

#: More unknowns than these are refused.
LARGEST = 20_000_000


class Problem(NamedTuple):
    """A x = b."""

    name: str
    matrix: sp.csr_matrix  #: (n, n), float64, symmetric, rows sorted, no stored zeros
    rhs: np.ndarray  #: (n,)


def norm(v: np.ndarray) -> float:
    """||v||_2 in fp64, summed exactly and safe from overflow: the same bits on every processor and with any BLAS."""
    largest = float(np.max(np.abs(v), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    squares = np.ldexp(v, -exponent)
    squares *= squares
    return math.ldexp(math.sqrt(_exact_sum(squares)), exponent)


def _exact_sum(values: np.ndarray) -> float:
    """math.fsum of numbers in [0, 1], one of them at least 1/4: their leading 93 bits as integers, added exactly."""
    total, rest = 0, values.copy()
    for _ in range(3):
        rest *= 2.0**31
        whole = np.floor(rest)
        rest -= whole
        total = (total << 31) + int(whole.astype(np.int64).sum())
    below, above = total / (1 << 93), (total + len(values)) / (1 << 93)  # what is left over is less than 2**-93 each
    return below if below == above else math.fsum(values)


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
