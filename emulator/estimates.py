"""Estimates: a number with how it came about, the band in which we expect the truth, and its sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: How a number came about, best first, and the factor x/÷ within which we expect the truth. What is fitted has the
#: fit's own errors for that (``prices.Library.factors``), beyond what was measured times FAR, and if it is scaled times
#: this. Published tables of one node differ by about 2; others are judgement.
BANDS = {"table": 2.0, "fitted": 1.0, "interpolated": 2.5, "extrapolated": 3.0, "assumed": 4.0, "scaled": 2.0}
_ORDER = list(BANDS)
FAR = 1.5  #: the same of fitted parts that are larger than all that was measured


def cited(source: str, doi: str, note: str) -> str:
    """A source with its identifier, and a word where nobody of us has seen the original."""
    doubt = " (not re-verified against the original)" if "not re-verified" in note else ""
    known = not doi or doi.startswith(("isbn", "jedec:", "http"))
    return "; ".join(filter(None, [source, doi if known else f"doi:{doi}"])) + doubt


class Price(NamedTuple):
    """One number, its basis (a key of BANDS), the factor of its band, and its sources."""

    value: float
    basis: str
    band: float
    sources: frozenset[str]


def total_of(terms: Iterable[tuple[Price, float]]) -> tuple[Price, tuple[float, float]]:
    """The sum of prices, each so many times, with the weakest basis and all sources; and its band, all off alike."""
    known = [(price, n) for price, n in terms if n]
    value = sum(price.value * n for price, n in known)
    low, high = (sum(price.value * n * price.band**side for price, n in known) for side in (-1, 1))
    basis = max((price.basis for price, _ in known), key=_ORDER.index, default="table")
    sources = frozenset[str]().union(*(price.sources for price, _ in known))
    return Price(value, basis, high / value if value else 1.0, sources), (low, high)


class RunEnergy(NamedTuple):
    """Energy of a run."""

    arithmetic_pj: float
    memory_pj: float
    band_pj: tuple[float, float]  #: low and high estimate of the total
    sources: tuple[str, ...]
    basis: str  #: the weakest basis among the numbers used
    leakage_pj: float = 0.0  #: of a run whose time is known

    @classmethod
    def of(
        cls,
        arithmetic: Sequence[tuple[Price, float]],
        memory: Sequence[tuple[Price, float]],
        leakage: Sequence[tuple[Price, float]] = (),
    ) -> RunEnergy:
        """Of operations and of bits moved, each with its number, and of what leaks (nW), each with its time in ms."""
        total, band = total_of([*arithmetic, *memory, *leakage])
        arithmetic_pj, memory_pj, leakage_pj = (total_of(terms)[0].value for terms in (arithmetic, memory, leakage))
        return cls(arithmetic_pj, memory_pj, band, tuple(sorted(total.sources)), total.basis, leakage_pj)

    @property
    def total_pj(self) -> float:
        return self.arithmetic_pj + self.memory_pj + self.leakage_pj
