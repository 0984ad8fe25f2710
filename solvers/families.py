"""Families of symmetric positive definite systems, each member given by a size and a seed.

``FAMILIES["jump"](32, seed=3)`` and ``named("jump:32:seed=3")`` are the same system; so is what its name says,
``jump:32:contrast=316:seed=3``, in which the numbers that the seed drew are written out. Random numbers are rounded
to few bits before anything is computed with them, so that matrices have the same bits on every processor.
"""

from __future__ import annotations

import difflib
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from .norms import norm
from .systems import Problem, canonical, unit_vector

Draws = np.random.Generator


class Range(NamedTuple):
    """From where a parameter is drawn, and the values that it may be given."""

    low: float
    high: float
    least: float  #: >= this
    most: float  #: <= this
    logarithmic: bool = True

    def draw(self, rng: Draws) -> float:
        """Of three significant digits, so that a name can state it."""
        if self.logarithmic:
            return float(f"{10 ** rng.uniform(math.log10(self.low), math.log10(self.high)):.3g}")
        return float(f"{rng.uniform(self.low, self.high):.3g}")


@dataclass(frozen=True)
class Family:
    """Called with a size, a seed and, if wanted, parameters: the system."""

    name: str
    about: str
    build: Callable[..., Any]  #: (size, rng, **parameters) -> the matrix, or it and a right-hand side
    dimension: int  #: the size is points a side of a grid of so many dimensions; 0: the number of unknowns
    sizes: tuple[int, int]  #: least and largest that :mod:`splits` draws
    usual: int  #: where no size is given
    largest: int = 4096
    ranges: Mapping[str, Range] = field(default_factory=dict)
    of: str | None = None  #: made of a member of this family, or of another that ``of`` names
    seeded: bool = True  #: the matrix depends on the seed, and not only the right-hand side

    def __call__(self, size: int | None = None, seed: int = 0, **parameters: Any) -> Problem:
        size = self.usual if size is None else size
        if not 2 <= size <= self.largest:
            what = "unknowns" if self.dimension == 0 else "points a side"
            raise HalfulpError(f"{self.name} has 2 to {self.largest:,} {what}, not {size}.")
        if seed < 0:
            raise HalfulpError(f"a seed is a whole number from 0 on, not {seed}.")
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed])
        drawn: dict[str, Any] = {key: span.draw(rng) for key, span in self.ranges.items()}
        given = {**({"of": self.of} if self.of else {}), **drawn, **parameters}
        for key, value in given.items():
            self._check(key, value)
        built = self.build(size, rng, **given)
        matrix, rhs = built if isinstance(built, tuple) else (built, None)
        matrix = canonical(matrix)
        rhs = unit_vector(matrix.shape[0], seed) if rhs is None else rhs
        stated = "".join(f":{key}={_shown(value)}" for key, value in given.items())
        return Problem(f"{self.name}:{size}{stated}:seed={seed}", matrix, rhs)

    def _check(self, key: str, value: Any) -> None:
        if key == "of" and self.of:
            if value not in FAMILIES or FAMILIES[value].of:
                plain = ", ".join(name for name, family in FAMILIES.items() if not family.of)
                raise HalfulpError(f"{self.name} is made of {plain}, not of {value!r}.")
        elif key not in self.ranges:
            known = ", ".join([*(["of"] if self.of else []), *self.ranges]) or "none"
            raise HalfulpError(f"{self.name} has no parameter {key!r}; it has {known}.")
        elif not self.ranges[key].least <= value <= self.ranges[key].most:
            span = self.ranges[key]
            raise HalfulpError(f"{key} of {self.name} lies between {span.least:g} and {span.most:g}, not at {value:g}.")


def named(text: str, seed: int = 0) -> Problem:
    """The system that ``family:size:key=value:...:seed=number`` says; all but the family may be left out.

    ``size`` is the number of unknowns, or of points a side; ``seed`` is used where the text gives none.
    """
    name, *parts = (part.strip() for part in text.split(":"))
    family = FAMILIES.get(name.lower())
    if family is None:
        near = difflib.get_close_matches(name.lower(), FAMILIES, n=1)
        raise HalfulpError(
            f"there is no family {name!r}; {f'did you mean {near[0]}?' if near else f'there are {_known()}.'}"
        )
    size: int | None = None
    given: dict[str, Any] = {}
    for position, part in enumerate(parts):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key in given:
            raise HalfulpError(f"{text!r} gives {key} twice.")
        try:
            if not equals and position == 0:
                size = int(part)
            elif key == "seed":
                given[key] = int(value)
            else:
                given[key] = value.lower() if key == "of" else float(value)
        except ValueError:
            raise HalfulpError(
                f"{part!r} in {text!r} is not understood: write family:size:key=value, as in jump:32:seed=3."
            ) from None
    return family(size, given.pop("seed", seed), **given)


def _known() -> str:
    return ", ".join(FAMILIES)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value!r}".removesuffix(".0")


# --- grids -----------------------------------------------------------------------------------------------------------


def _tridiagonal(n: int, low: float, middle: float, high: float) -> sp.spmatrix:
    return sp.diags([low, middle, high], [-1, 0, 1], shape=(n, n))


def _laplacian(side: int, dimension: int) -> sp.spmatrix:
    """Of 3, 5 or 7 points, with Dirichlet boundaries: 2 per dimension, and -1 (exact in every format)."""
    line, identity = _tridiagonal(side, -1.0, 2.0, -1.0), sp.identity(side)
    matrix = line
    for k in range(1, dimension):
        matrix = sp.kron(sp.identity(side**k), line) + sp.kron(matrix, identity)
    return matrix


def poisson(side: int = 32, seed: int = 0) -> Problem:
    """The 5-point Laplacian on a side x side grid with Dirichlet boundaries (4 and -1: exact in every format)."""
    if not 1 <= side <= 4096:
        raise HalfulpError(f"a Poisson grid has 1 to 4096 points a side, not {side}.")
    return Problem(f"poisson {side}x{side}", canonical(_laplacian(side, 2)), unit_vector(side * side, seed))


def _reaction(side: int, rng: Draws, shift: float) -> sp.spmatrix:
    """-Laplace u + c(x) u in 2-D: Helmholtz with the sign that keeps it definite; c is shift times 1/2, 1 or 2."""
    c = shift * np.ldexp(1.0, rng.integers(-1, 2, side * side))
    return _laplacian(side, 2) + sp.diags(c)


def _anisotropic(side: int, rng: Draws, epsilon: float, angle: float) -> sp.spmatrix:
    """-div(T grad u), T = R diag(1, epsilon) R^T turned by ``angle`` degrees: bilinear elements, times 6.

    T's entries are rounded to multiples of 2**-24, far below epsilon, so the stencil's nine entries are exact.
    """
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    entries = (cosine**2 + epsilon * sine**2, sine**2 + epsilon * cosine**2, (1 - epsilon) * cosine * sine)
    a, b, c = (round(entry * 2**24) / 2**24 for entry in entries)
    stiffness, mass = _tridiagonal(side, -1.0, 2.0, -1.0), _tridiagonal(side, 1.0, 4.0, 1.0)
    skew = _tridiagonal(side, -1.0, 0.0, 1.0)
    return a * sp.kron(mass, stiffness) + b * sp.kron(stiffness, mass) - 3 * c * sp.kron(skew, skew)


def _network(n: int, first: np.ndarray, second: np.ndarray, weight: np.ndarray, ground: np.ndarray) -> sp.spmatrix:
    """The Laplacian of edges (first, second) of a weight each, plus diag(ground)."""
    off = sp.coo_matrix((weight, (first, second)), shape=(n, n))
    off = (off + off.T).tocsr()
    return sp.diags(np.asarray(off.sum(axis=1)).ravel() + ground) - off


def _jump(side: int, rng: Draws, contrast: float) -> sp.spmatrix:
    """-div(k grad u) by finite volumes: k jumps between blocks of cells, from 1 to ``contrast``; Dirichlet.

    k is a power of two in every block; the harmonic mean on a face is rounded to 12 bits, so that sums are exact.
    """
    edge = max(1, side // 8)
    blocks = -(-side // edge)
    exponents = np.rint(rng.random((blocks, blocks)) * math.log2(contrast))
    k = np.ldexp(1.0, np.repeat(np.repeat(exponents, edge, 0), edge, 1)[:side, :side].astype(np.int32))
    index = np.arange(side * side).reshape(side, side)
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    flat = k.ravel()
    mantissa, exponent = np.frexp(2 * flat[first] * flat[second] / (flat[first] + flat[second]))
    weight = np.ldexp(np.rint(mantissa * 4096), exponent - 12)
    ground = np.zeros((side, side))
    for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        ground[border] += 2 * k[border]  # the boundary is half a cell away
    return _network(side * side, first, second, weight, ground.ravel())


def _biharmonic(n: int, rng: Draws) -> sp.spmatrix:
    """(e u'')'' in 1-D, a supported beam whose stiffness e is drawn from sixteenths in [1/2, 2]: exact."""
    line = _tridiagonal(n, -1.0, 2.0, -1.0)
    return line @ sp.diags(rng.integers(8, 33, n) / 16.0) @ line


# --- no grids --------------------------------------------------------------------------------------------------------


def _random(n: int, rng: Draws, density: float, beta: float) -> sp.spmatrix:
    """S S^T + beta I; S's entries are standard normal numbers, rounded to 2**-10: S S^T is exact.

    As in X. Chen, arXiv 2504.14268; the ranges of density and beta are assumptions, chosen for condition numbers
    from 1e1 to 1e8.
    """
    count = max(1, round(density * n * n))
    places = np.unique(rng.integers(0, n * n, count))
    values = np.rint(rng.standard_normal(places.size) * 1024) / 1024
    s = sp.csr_matrix((values, (places // n, places % n)), shape=(n, n))
    return s @ s.T + beta * sp.identity(n)


def _graph(n: int, rng: Draws, beta: float) -> sp.spmatrix:
    """Laplacian + beta I of a ring with 2 n random chords; weights are powers of two from 1/16 to 16."""
    first = np.concatenate([np.arange(n), rng.integers(0, n, 2 * n)])
    second = np.concatenate([(np.arange(n) + 1) % n, rng.integers(0, n, 2 * n)])
    weight = np.ldexp(1.0, rng.integers(-4, 5, 3 * n))
    proper = first != second
    return _network(n, first[proper], second[proper], weight[proper], np.full(n, beta))


def _scaled(size: int, rng: Draws, of: str, decades: float) -> tuple[sp.spmatrix, np.ndarray]:
    """D A D x = D b: ``of``'s system in bad units; D's entries spread from 10**-decades to 10**decades.

    They have five bits, so that no power of two undoes them exactly; b is scaled with the rows, and to length 1.
    """
    inner = FAMILIES[of](size, int(rng.integers(1 << 31)))
    n = inner.matrix.shape[0]
    most = decades * math.log2(10)
    exponent = np.floor(rng.uniform(-most, most, n)).astype(np.int32)
    d = np.ldexp(16.0 + rng.integers(0, 16, n), exponent - 4)
    matrix = inner.matrix.tocoo()
    data = matrix.data * (d[matrix.row] * d[matrix.col])  # this order keeps it symmetric
    rhs = d * inner.rhs
    return sp.coo_matrix((data, (matrix.row, matrix.col)), shape=(n, n)), rhs / norm(rhs)


_ALL = (
    Family(
        *("random", "random sparse S S^T + beta I", _random, 0, (100, 500), 200),
        ranges={"density": Range(0.002, 0.1, 0, 1), "beta": Range(1e-6, 1, 1e-9, 1e6)},
    ),
    Family("poisson", "Poisson, 2-D", lambda side, rng: _laplacian(side, 2), 2, (8, 64), 32, seeded=False),
    Family("poisson3d", "Poisson, 3-D", lambda side, rng: _laplacian(side, 3), 3, (4, 24), 10, 256, seeded=False),
    Family(
        *("anisotropic", "anisotropic diffusion, turned", _anisotropic, 2, (8, 40), 32),
        ranges={"epsilon": Range(1e-4, 0.1, 1e-5, 1), "angle": Range(0, 90, -360, 360, False)},
    ),
    Family(
        *("jump", "diffusion with jumping coefficients", _jump, 2, (8, 40), 32),
        ranges={"contrast": Range(10, 1e6, 1, 1e9)},
    ),
    Family(
        *("reaction", "reaction and diffusion", _reaction, 2, (8, 48), 32),
        ranges={"shift": Range(1e-3, 10, 0, 1e6)},
    ),
    Family("biharmonic", "a beam, 1-D: badly conditioned", _biharmonic, 0, (20, 200), 100, 1 << 20),
    Family(
        *("graph", "graph Laplacian + beta I", _graph, 0, (100, 1000), 300, 1 << 20),
        ranges={"beta": Range(1e-6, 1, 1e-9, 1e6)},
    ),
    Family(
        *("scaled", "another family in bad units, D A D", _scaled, 0, (0, 0), 200, 1 << 20),  # sizes: the other's
        ranges={"decades": Range(6, 6, 0, 12, False)},
        of="random",
    ),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
