"""Matrices whose entries are stored, or multiplied, by their magnitude."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat


def unit_roundoff(fmt: Any) -> float:
    """2^-p of a float; of fixed point half its last bit, as if numbers were about 1; of blocks their elements'."""
    element = getattr(fmt, "element", fmt)
    if isinstance(element, FloatFormat):
        return 2.0**-element.precision
    return 2.0 ** -(getattr(element, "fraction_bits", element.precision - 1) + 1)


@dataclass(frozen=True)
class Buckets:
    """Adaptive precision: A = A_1 + A_2 + ..., the smaller an entry, the less precise its part's datapath.

    An entry a is of the last part whose unit roundoff u bears it, |a| u <= epsilon ||A||_inf, and of the first if none
    does: the error of A p is then of the order of epsilon ||A|| ||p|| (Graillat, Jezequel, Mary & Molina 2024,
    doi:10.1137/22M1522619, its normwise criterion without dropped entries). Parts' products are added up in the
    precision's own ``spmv``.
    """

    epsilon: float
    datapaths: tuple[Datapath, ...]  #: of the parts, the most precise first

    @classmethod
    def parse(cls, text: str) -> Buckets:
        """``epsilon;datapath;datapath...``, as in ``6e-8;fp64;fp32;bf16/fp32``."""
        first, *rest = text.split(";")
        try:
            epsilon = float(first)
        except ValueError:
            epsilon = -1.0
        if not (rest and 0.0 < epsilon < 1.0):
            raise HalfulpError(
                f"buckets are epsilon;datapath;datapath..., as in 6e-8;fp64;fp32;bf16/fp32, not {text!r}."
            )
        return cls(epsilon, tuple(map(Datapath.parse, rest)))

    @property
    def name(self) -> str:
        return ";".join([repr(self.epsilon), *(dp.name for dp in self.datapaths)])

    def split(self, matrix: sp.csr_matrix) -> list[tuple[Datapath, sp.csr_matrix]]:
        """The parts that are not empty, which add up to the matrix exactly; symmetric if it is."""
        size = np.abs(matrix.data)
        norm = float(np.asarray(abs(matrix).sum(axis=1)).max(initial=0.0))
        place = np.zeros(size.size, dtype=int)
        for k, dp in enumerate(self.datapaths):
            place[size * unit_roundoff(dp.a) <= self.epsilon * norm] = k
        parts = []
        for k, dp in enumerate(self.datapaths):
            part = sp.csr_matrix((np.where(place == k, matrix.data, 0.0), matrix.indices, matrix.indptr), matrix.shape)
            part = part.copy()
            part.eliminate_zeros()
            parts += [(dp, part)] if part.nnz else []
        return parts


@dataclass(frozen=True)
class GroupShared:
    """Numbers that share a few exponents: each has a sign, an index of 3 bits and a fraction.

    After Gao et al. 2024, arXiv 2411.04686 (GSE). The exponents are the largest of the matrix and its 7 most frequent
    others; a number takes the least one that it is below 2^exponent with, and its fraction is rounded to nearest. Ours,
    where the format is to be read alone: the index counts in ``bits``.
    """

    bits: int = 16
    index_bits = 3

    @classmethod
    def parse(cls, text: str) -> GroupShared | None:
        """``gse<bits>``, as in gse16; None: it is another format's name."""
        found = re.fullmatch(r"gse(\d+)", text.strip().lower())
        if found is None:
            return None
        bits = int(found[1])
        if not 6 <= bits <= 56:
            raise HalfulpError(f"group-shared exponents have 6 to 56 bits a number, as in gse16, not {bits}.")
        return cls(bits)

    def __str__(self) -> str:
        return f"gse{self.bits}"

    @cached_property
    def element(self) -> FixedFormat:
        """Sign and fraction, as the hardware that converts them sees them."""
        return FixedFormat(1, self.bits - self.index_bits - 1)

    def exponents(self, numbers: np.ndarray) -> np.ndarray:
        """The shared ones, rising: numbers lie below 2^exponent."""
        own = np.frexp(numbers[numbers != 0.0])[1].tolist()
        if not own:
            return np.zeros(1, dtype=int)
        often = sorted(Counter(own).items(), key=lambda found: (found[0] != max(own), -found[1], -found[0]))
        return np.array(sorted(exponent for exponent, _ in often[: 1 << self.index_bits]))

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """As they are stored, in fp64, exactly; for fractions that would round up to 1, the largest below."""
        shared = self.exponents(numbers)
        own = np.frexp(numbers)[1]
        exponent = shared[np.minimum(np.searchsorted(shared, own), shared.size - 1)]
        scale = self.element.fraction_bits
        fraction = np.clip(np.rint(np.ldexp(numbers, scale - exponent)), 1 - 2**scale, 2**scale - 1)
        return np.ldexp(fraction, exponent - scale)
