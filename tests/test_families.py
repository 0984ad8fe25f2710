"""Families: the matrices that their names say, the same bits for a seed; splits that keep what is unseen unseen."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from halfulp.solvers.families import FAMILIES, named
from halfulp.solvers.problems import Problem, check_spd, load, norm, poisson
from halfulp.solvers.splits import Split, groups, split, unseen

SPD = Path(__file__).parents[2] / "shared" / "data" / "spd"
SMALL = {"random": 100, "graph": 80, "biharmonic": 40, "poisson3d": 6, "scaled": 90}


def fingerprint(problem: Problem) -> str:
    """Of the matrix alone."""
    matrix = problem.matrix
    parts = (matrix.indptr.astype("<i8"), matrix.indices.astype("<i8"), matrix.data.astype("<f8"))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


@pytest.mark.parametrize("name", FAMILIES)
def test_members_are_definite_reproducible_and_say_what_they_are(name: str) -> None:
    family = FAMILIES[name]
    size = SMALL.get(name, 12)
    for seed in (0, 3):
        problem = family(size, seed)
        check_spd(problem.matrix, problem.name)
        n = size ** max(family.dimension, 1)
        assert problem.matrix.shape == (n, n) and problem.matrix.has_canonical_format and problem.matrix.data.all()
        assert problem.rhs.shape == (n,) and norm(problem.rhs) == pytest.approx(1, rel=1e-15)
        assert problem.name.startswith(f"{name}:{size}") and problem.name.endswith(f":seed={seed}")
        for again in (
            load(problem.name),
            named(f"{name}:{size}:seed={seed}"),
            load(f"{name.upper()}: {size}", seed=seed),
        ):
            assert again.name == problem.name and np.array_equal(again.rhs, problem.rhs)
            assert fingerprint(again) == fingerprint(problem)
    other = family(size, 4)
    assert not np.array_equal(other.rhs, problem.rhs)
    assert (fingerprint(other) != fingerprint(problem)) is family.seeded


def test_bits_are_the_same_everywhere() -> None:
    found = {name: fingerprint(FAMILIES[name](SMALL.get(name, 12), 1)) for name in FAMILIES}
    assert found == BITS


BITS = {
    "random": "c80931e8b375f964",
    "poisson": "90c478776f2c45b7",
    "poisson3d": "e71a9b4da78d51eb",
    "anisotropic": "a9a9333645e71627",
    "jump": "26f42fed207ecd37",
    "reaction": "0873c677070f64d8",
    "biharmonic": "ac61f90dafe5ed79",
    "graph": "564d596f58384b94",
    "scaled": "a9249ed8010d1f8f",
}


def test_random_systems_spread_from_well_to_badly_conditioned() -> None:
    condition = []
    for seed in range(60):
        values = np.linalg.eigvalsh(named(f"random:100:seed={seed}").matrix.toarray())
        condition.append(values[-1] / values[0])
    assert 5 < min(condition) < 1e2 and 1e7 < max(condition) < 1e9
    assert 1e3 < np.median(condition) < 1e6


def test_stencils() -> None:
    line = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(9, 9)).toarray()
    assert np.array_equal(named("poisson:9").matrix.toarray(), poisson(9).matrix.toarray())
    three = named("poisson3d:5").matrix
    assert set(three.data) == {6.0, -1.0} and three.nnz == 125 + 6 * 25 * 4
    # -Laplace u by bilinear elements, times 6, is 16 and eight times -2
    isotropic = named("anisotropic:9:epsilon=1:angle=30").matrix
    assert set(isotropic.data) == {16.0, -2.0} and isotropic[40].nnz == 9
    along, across = (named(f"anisotropic:9:epsilon=0.01:angle={angle}").matrix for angle in (0, 90))
    order = np.arange(81).reshape(9, 9).T.ravel()
    assert np.abs((along[order][:, order] - across).data).max(initial=0) < 1e-6  # x and y change places
    turned = named("anisotropic:9:epsilon=0.01:angle=45").matrix
    assert turned[40, 30] < turned[40, 32] and turned[40, 50] < turned[40, 48]  # coupled along the diagonal
    plain = named("jump:9:contrast=1").matrix.toarray()
    assert np.array_equal(plain[40], poisson(9).matrix.toarray()[40]) and plain[0, 0] == 6  # half a cell to the border
    shifted = named("reaction:9:shift=0.5").matrix - poisson(9).matrix
    assert set(shifted.diagonal()) == {0.25, 0.5, 1.0} and sp.triu(shifted, 1).nnz == 0
    beam = named("biharmonic:9:seed=5").matrix.toarray()
    stiffness = np.linalg.solve(line, np.linalg.solve(line, beam).T)
    assert np.allclose(stiffness, np.diag(np.diag(stiffness))) and set(np.rint(np.diag(stiffness) * 16)) <= set(
        range(8, 33)
    )
    assert np.linalg.cond(named("biharmonic:200").matrix.toarray()) > 1e8


def test_graphs_jumps_and_bad_units() -> None:
    graph = named("graph:200:beta=0.125").matrix
    assert np.array_equal(np.asarray(graph.sum(axis=1)).ravel(), np.full(200, 0.125))
    for contrast in (100, 1e6):
        jump = named(f"jump:24:contrast={contrast}:seed=2").matrix
        weights = -jump.data[jump.data < 0]
        assert contrast / 4 < weights.max() / weights.min() < 4 * contrast
    bad = named("scaled:100:of=random:seed=3").matrix
    d = np.sqrt(bad.diagonal())
    assert d.max() / d.min() > 1e10 and np.abs(bad.data).max() > 65504  # of fp16
    unit = bad.toarray() / np.outer(d, d)
    assert np.linalg.cond(unit) < 1e9  # of the system that it was
    with pytest.raises(hu.HalfulpError, match="is made of"):
        named("scaled:100:of=scaled")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("jumps:32", "did you mean jump?"),
        ("zzz:32", "there are random, poisson"),
        ("jump:32:seed=x", "'seed=x' in 'jump:32:seed=x' is not understood"),
        ("jump:32:17", "'17' in"),
        ("jump:x", "'x' in"),
        ("jump:32:contrast=3:contrast=4", "gives contrast twice"),
        ("jump:32:depth=3", "no parameter 'depth'; it has contrast"),
        ("poisson3d:4:depth=3", "it has none"),
        ("jump:32:contrast=1e12", "contrast of jump lies between 1 and 1e+09"),
        ("jump:32:contrast=nan", "contrast of jump lies between"),
        ("random:32:of=jump", "no parameter 'of'"),
        ("jump:1", "2 to 4,096 points a side, not 1"),
        ("poisson3d:300", "2 to 256 points a side"),
        ("random:20000", "random has 2 to 4,096 unknowns"),
        ("jump:8:seed=-1", "seed"),
        ("scaled:8:of=zzz", "not of 'zzz'"),
    ],
)
def test_bad_names_are_refused_in_a_sentence(text: str, part: str) -> None:
    with pytest.raises(hu.HalfulpError, match=re.escape(part)):
        load(text)


def family_of(name: str) -> str:
    return name.partition(":")[0]


def test_a_split_keeps_matrices_and_families_apart() -> None:
    parts = split(seed=5, per_family=8)
    assert parts == split(seed=5, per_family=8) and parts != split(seed=6, per_family=8)
    seen = [{fingerprint(load(name)) for name in part} for part in parts[:3]]
    assert [len(names) for names in seen] == [len(part) for part in parts[:3]]  # no matrix twice
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    families = [{family_of(name) for name in part} for part in parts[:3]]
    assert families[2] == set(parts.held_out) and len(parts.held_out) == 2
    assert families[0] == families[1] == set(FAMILIES) - families[2]
    assert len(parts.by_matrix) == 2 * len(families[1]) and len(parts.train) == 6 * len(families[0])


def test_what_is_made_of_other_families_is_made_of_seen_ones() -> None:
    parts = split(per_family=30, held_out=["jump", "random", "poisson"])
    inner = {match[1] for name in (*parts.train, *parts.by_matrix) if (match := re.search("of=([a-z0-9]+)", name))}
    assert inner == {"anisotropic", "reaction", "biharmonic", "graph"} and parts.held_out == (
        "random",
        "poisson",
        "jump",
    )
    unseen = split(per_family=30, held_out=["scaled"]).by_family
    assert len(unseen) == 30 and any("of=jump" in name for name in unseen)
    sizes = [name for name in split(per_family=100).train + split(per_family=100).by_matrix if "poisson3d" in name]
    assert len(sizes) in (0, 21)  # as many sizes as there are


def test_what_is_unseen_by_whom() -> None:
    seen = ["jump:9:seed=1", "scaled:8:of=random:seed=2", "poisson:7:seed=3", "spd/bcsstk01.mtx.gz"]
    for name, kind in (
        ("jump:9:seed=1", None),
        ("jump:9:seed=2", "matrix"),
        ("poisson:7:seed=9", None),  # another right-hand side
        ("random:8:seed=5", "matrix"),  # seen in bad units
        ("scaled:8:of=jump:seed=5", "matrix"),
        ("scaled:8:of=graph:seed=5", "family"),
        ("graph:8:seed=1", "family"),
        ("other/bcsstk01.mtx.gz", None),
        ("spd/bcsstk02.mtx.gz", "matrix"),
        ("spd/nos1.mtx.gz", "family"),
    ):
        assert unseen(name, seen) == kind, name


def test_files_are_grouped_and_siblings_stay_together(tmp_path: Path) -> None:
    names = ["bcsstk01", "bcsstk02", "bcsstm05", "662_bus", "1138_bus", "rail_5_K", "rail_5_M", "rail_20_K", "poisson7"]
    for n, name in enumerate(names, 2):
        scipy.io.mmwrite(tmp_path / f"{name}.mtx", sp.identity(n) * 2)
    (tmp_path / "notes.txt").write_text("not a matrix")
    assert {group: len(files) for group, files in groups(tmp_path).items()} == {
        "bcsstk": 2, "bcsstm": 1, "bus": 2, "rail": 3, "poisson": 1,
    }  # fmt: skip
    for seed in range(6):
        parts = split(seed, 4, 0.5, ["poisson", "bus"], tmp_path, largest=9)
        files = [[Path(name).stem for name in part if name.endswith(".mtx")] for part in parts[:3]]
        assert set(files[2]) == {"662_bus", "1138_bus"}
        assert {*files[0], *files[1], *files[2]} == set(names) - {"poisson7"}  # which has n = 10
        assert ("rail_5_K" in files[0]) == ("rail_5_M" in files[0]) and not set(files[0]) & set(files[1])
        assert len({"bcsstk01", "bcsstk02"} & set(files[0])) == 1 and "bcsstm05" in files[0]
        assert all(load(name) for part in parts[:3] for name in part[:2])
    assert len(split(0, 4, folder=tmp_path).held_out) == 3  # a quarter of nine families, and of the four groups more


def test_bad_splits(tmp_path: Path) -> None:
    for arguments, part in (
        ({"per_family": 0}, "at least one"),
        ({"test_share": 1.0}, "test_share"),
        ({"held_out": ["jumps"]}, "no family 'jumps'"),
        ({"seed": -1}, "seed"),
        ({"folder": tmp_path / "none"}, "not a folder"),
    ):
        with pytest.raises(hu.HalfulpError, match=part):
            split(**arguments)  # type: ignore[arg-type]
    everything = split(held_out=[], per_family=1, test_share=0.0)
    assert isinstance(everything, Split) and not everything.by_family and not everything.by_matrix


@pytest.mark.skipif(not SPD.is_dir(), reason="needs the SPD matrices under ../shared/data")
def test_the_collection_by_groups() -> None:
    found = {group: len(files) for group, files in groups(SPD).items()}
    assert found["bcsstk"] == 13 and found["bcsstm"] == 11 and found["nos"] == 5 and found["bus"] == 2
    assert sum(found.values()) == 46
    parts = split(1, folder=SPD, largest=3000)
    stems = [{Path(name).name for name in part if ".mtx" in name} for part in parts[:3]]
    assert not stems[0] & stems[1] and all(stems) and "bcsstk25.mtx.gz" not in set().union(*stems)
