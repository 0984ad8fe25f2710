"""Linear systems by name: ``poisson``, a family such as ``jump:32:seed=3``, or a Matrix Market file."""

from __future__ import annotations

from pathlib import Path

from .definite import check_spd
from .families import FAMILIES, named, poisson
from .matrix_files import matrix_market
from .norms import norm
from .systems import Problem

__all__ = ["Problem", "check_spd", "load", "matrix_market", "norm", "poisson"]


def load(name: str, side: int = 32, seed: int = 0) -> Problem:
    """``"poisson"`` (of ``side`` x ``side`` points), a family's name as :func:`families.named` reads it, or a file.

    ``seed`` is that of the right-hand side, and of the whole system where the name of a family states none.
    """
    if name.lower() == "poisson":
        return poisson(side, seed)
    family = name.partition(":")[0].strip().lower()
    looks_like_a_file = any(mark in name for mark in ("/", "\\", ".mtx")) or Path(name).exists()
    if (family in FAMILIES or ":" in name) and not looks_like_a_file:
        return named(name, seed)
    return matrix_market(name, seed)
