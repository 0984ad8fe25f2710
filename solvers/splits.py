"""Which systems a policy is trained on, and which it has never seen: by matrix, and by whole families."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from .families import FAMILIES, Draws
from .matrix_files import unknowns


class Split(NamedTuple):
    """Names that :func:`problems.load` opens."""

    train: tuple[str, ...]
    by_matrix: tuple[str, ...]  #: test: other matrices of the families that are trained on
    by_family: tuple[str, ...]  #: test: matrices of families that are not
    held_out: tuple[str, ...]  #: these families


def groups(folder: str | Path) -> dict[str, list[Path]]:
    """The Matrix Market files of a folder by :func:`family_of` (bcsstk01: bcsstk; 662_bus: bus)."""
    path = Path(folder)
    if not path.is_dir():
        raise HalfulpError(f"{path} is not a folder of Matrix Market files.")
    found: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.name.endswith((".mtx", ".mtx.gz")):
            found.setdefault(family_of(file.name), []).append(file)
    return found


def family_of(name: str) -> str:
    """That of a system by its name, as in jump:32, or of a Matrix Market file: the first word of its own name."""
    own = Path(name).name
    if ".mtx" not in own:
        return own.partition(":")[0].strip().lower()
    word = re.search("[A-Za-z]+", own.partition(".mtx")[0])
    return word[0].lower() if word else own


def unseen(name: str, seen: Sequence[str]) -> str | None:
    """How a system is new to who knows those ``seen``: by "family", by "matrix", or, None, not at all."""
    if _matrix(name) in map(_matrix, seen):
        return None
    return "matrix" if _origin(name) in map(_origin, seen) else "family"


def _origin(name: str) -> str:
    """The family that a system's matrix comes from: of one in bad units that which it is made of."""
    made = re.search(":of=([a-z0-9]+)", name)
    return made[1] if made else family_of(name)


def _matrix(name: str) -> str:
    """What tells a system's matrix: seeds do not where only sizes tell matrices apart."""
    kind = FAMILIES.get(family_of(name))
    return Path(name).name if kind is None or kind.seeded else re.sub(":seed=[0-9]+", "", name)


def split(
    seed: int = 0,
    per_family: int = 20,
    test_share: float = 0.25,
    held_out: Sequence[str] | None = None,
    folder: str | Path | None = None,
    largest: int = 5000,
) -> Split:
    """Systems to train on, and two kinds to test on; the same for the same arguments.

    Parameters
    ----------
    per_family : drawn of every family of :mod:`families`, with sizes and seeds that differ from each other; fewer
        where only the size tells matrices apart and there are not so many sizes.
    test_share : of a family that is trained on, this share of the matrices is left for ``by_matrix``; at least one,
        if there are two. Files whose names differ after their number only (rail_1357_K, rail_1357_M) stay together.
    held_out : families for ``by_family``; None: a quarter of the families and of the files' groups, by ``seed``. What
        is made of another family (scaled) is, in training and in ``by_matrix``, made of families that are trained on.
    folder : of Matrix Market files, grouped by :func:`groups`; a group named like a family belongs to it.
    largest : files of more unknowns are left out.
    """
    if per_family < 1 or not 0 <= test_share < 1:
        raise HalfulpError("a split needs at least one matrix per family, and 0 <= test_share < 1.")
    rng = _rng("split", seed)
    files = {} if folder is None else _siblings(folder, largest)
    known = [*FAMILIES, *(group for group in files if group not in FAMILIES)]
    if held_out is None:
        left = [family for part in (list(FAMILIES), known[len(FAMILIES) :]) for family in _quarter(part, rng)]
    else:
        left = list(held_out)
        if unknown := [family for family in left if family not in known]:
            raise HalfulpError(f"there is no family {unknown[0]!r} to hold out; there are {', '.join(known)}.")
    plain = [name for name, family in FAMILIES.items() if family.seeded and not family.of]
    trained = [name for name in plain if name not in left]
    train: list[str] = []
    by_matrix: list[str] = []
    by_family: list[str] = []
    for family in known:
        inner = plain if family in left else trained
        for items in (_members(family, seed, per_family, inner), files.get(family, [])):
            if family in left:
                by_family += [name for item in items for name in item]
                continue
            count = min(len(items) - 1, max(round(test_share * len(items)), 1 if test_share else 0))
            order = _rng(family, seed, 1).permutation(len(items))
            for place, k in enumerate(order):
                (by_matrix if place < count else train).extend(items[k])
    return Split(tuple(train), tuple(by_matrix), tuple(by_family), tuple(f for f in known if f in left))


def _rng(name: str, *seeds: int) -> Draws:
    if min(seeds) < 0:
        raise HalfulpError(f"a seed is a whole number from 0 on, not {min(seeds)}.")
    return np.random.default_rng([zlib.crc32(name.encode()), *seeds])


def _quarter(families: list[str], rng: Draws) -> list[str]:
    count = round(len(families) / 4)
    return [families[k] for k in sorted(rng.permutation(len(families))[:count])]


def _members(name: str, seed: int, count: int, inner: list[str]) -> list[list[str]]:
    """Distinct members of a family, as one-item lists."""
    family = FAMILIES.get(name)
    if family is None or (family.of and not inner):
        return []
    rng = _rng(name, seed)
    if not family.seeded:
        sizes = np.arange(family.sizes[0], family.sizes[1] + 1)
        rng.shuffle(sizes)
        return [[f"{name}:{size}:seed={rng.integers(1 << 31)}"] for size in sizes[:count]]
    items: dict[int, str] = {}
    while len(items) < count:
        other = inner[rng.integers(len(inner))] if family.of else name
        low, high = FAMILIES[other].sizes
        size, member = int(rng.integers(low, high + 1)), int(rng.integers(1 << 31))
        items.setdefault(member, f"{name}:{size}{f':of={other}' if family.of else ''}:seed={member}")
    return [[item] for item in items.values()]


def _siblings(folder: str | Path, largest: int) -> dict[str, list[list[str]]]:
    """Of every group, files that stay on one side: those with the same name up to and with their first number."""
    found: dict[str, list[list[str]]] = {}
    for group, files in groups(folder).items():
        together: dict[str, list[str]] = {}
        for file in files:
            if unknowns(file) <= largest:
                start = re.match(r"\d*[^\d]*\d*", file.name.partition(".mtx")[0])
                together.setdefault(start[0] if start else file.name, []).append(str(file))
        if together:
            found[group] = list(together.values())
    if not found:
        raise HalfulpError(f"{folder} has no Matrix Market file (.mtx, .mtx.gz) of at most {largest:,} unknowns.")
    return found
