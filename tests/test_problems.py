"""Systems by name and from files: what is read, and every kind of bad input in one sentence that says where."""

from __future__ import annotations

import bz2
import gzip
import math
import subprocess
import sys
import time
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from halfulp.solvers.problems import check_spd, load, matrix_market, norm, poisson
from halfulp.solvers.systems import unit_vector

SPD = Path(__file__).parents[2] / "shared" / "data" / "spd"
GENERAL = "%%MatrixMarket matrix coordinate real general\n"
SYMMETRIC = "%%MatrixMarket matrix coordinate real symmetric\n"


def write(path: Path, matrix: object, **options: object) -> Path:
    scipy.io.mmwrite(path, matrix, **options)
    return path


def sentence(call: object, *arguments: object) -> str:
    """The error's text, which is one sentence."""
    with pytest.raises(hu.HalfulpError) as error:
        call(*arguments)
    text = str(error.value)
    assert text.endswith((".", "?")) and ". " not in text and "\n" not in text
    return text


def test_every_field_type_and_explicit_zeros(tmp_path: Path) -> None:
    dense = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    explicit = sp.coo_matrix(
        (np.append(dense[dense != 0], 0.0), (np.append(np.nonzero(dense)[0], 0), np.append(np.nonzero(dense)[1], 2))),
        shape=(3, 3),
    )
    files = [
        write(tmp_path / "real.mtx", sp.coo_matrix(dense)),
        write(tmp_path / "symmetric.mtx", sp.coo_matrix(dense), symmetry="symmetric"),
        write(tmp_path / "integer.mtx", sp.coo_matrix(dense.astype(int))),
        write(tmp_path / "array.mtx", dense),
        write(tmp_path / "zeros.mtx", explicit, symmetry="general"),
    ]
    for file in files:
        problem = load(str(file))
        assert np.array_equal(problem.matrix.toarray(), dense) and problem.matrix.nnz == 5
        assert problem.matrix.has_canonical_format and problem.name == file.stem


def test_compressed_by_what_the_file_begins_with(tmp_path: Path) -> None:
    plain = (SYMMETRIC + "% words, with 1,5 commas\n\n2 2 3\n1 1 2\r\n2 1 -1e0\n2 2 2.E+00\n").encode()
    for name, content in (
        ("a.mtx", plain),
        ("b.mtx.gz", gzip.compress(plain)),
        ("c.mtx", gzip.compress(plain)),
        ("d.mtx.gz", plain),
        ("e.mtx.bz2", bz2.compress(plain)),
    ):
        (tmp_path / name).write_bytes(content)
        assert np.array_equal(load(str(tmp_path / name)).matrix.toarray(), [[2, -1], [-1, 2]])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GENERAL + "2 3 1\n1 1 1\n", ["is 2 x 3", "square"]),
        (GENERAL + "0 0 0\n", ["is 0 x 0", "non-empty"]),
        (GENERAL + "2 2 3\n1 1 1\n2 2 1\n1 2 0.5\n", ["one pair", "row 1, column 2 (0.5)", "row 2, column 1 (0)"]),
        (SYMMETRIC + "3 3 3\n1 1 1\n2 2 -1\n3 3 -2\n", ["diagonal entry of row 2 (and 1 other row) is -1", "x^T A x"]),
        (SYMMETRIC + "2 2 2\n1 1 1\n2 1 1\n", ["diagonal entry of row 2 is 0"]),
        (SYMMETRIC + "2 2 3\n1 1 1\n2 2 1\n2 1 2\n", ["x^T A x = -3 for x = -2 in row 1, 1 in row 2", "holds 2"]),
        (SYMMETRIC + "2 2 2\n1 1 1\n2 2 nan\n", ["NaN in row 2, column 2"]),
        (SYMMETRIC + "2 2 3\n1 1 1\n2 1 1e400\n2 2 1\n", ["infinity in row 1, column 2 (and 1 other place)"]),
        (SYMMETRIC + "4 4 2\n1 1 1\n3 3 1\n", ["singular: row 2 (and 1 other row) is empty"]),
        ("%%MatrixMarket matrix coordinate complex symmetric\n2 2 2\n1 1 1 0\n2 2 1 0\n", ["complex"]),
        ("%%MatrixMarket matrix coordinate pattern symmetric\n2 2 2\n1 1\n2 2\n", ["pattern", "holds no values"]),
        ("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n2 1 1\n", ["not symmetric", "(-1)", "(1)"]),
        (SYMMETRIC + "2 2 3\n1 1 1\n2 2 1\n", ["not a readable", "Expected another 1 lines"]),
        (SYMMETRIC + "2 2 1\n1 1 1\n2 2 1\n", ["not a readable", "too long"]),
        (SYMMETRIC + "2 2 5\n1 1 1\n", ["damaged", "announces 5 entries of a 2 x 2"]),
        (SYMMETRIC + "2 2 2\n1 1 1\n3 2 1\n", ["Line 4", "out of bounds"]),
        (SYMMETRIC + "2 2 2\n1 1 1\n2 2 two\n", ["Line 4", "Invalid floating-point"]),
        (SYMMETRIC + "2 2 2\n1 1 1\n2 2 1,5\n", ["damaged", "line 4, '2 2 1,5'"]),
        (SYMMETRIC + "2 2 2\n1 1 1.5D3\n2 2 1\n", ["damaged", "line 3, '1 1 1.5D3'"]),
        (SYMMETRIC + "2 2 2\n1 1 1 0\n2 2 1\n", ["damaged", "6 numbers", "holds 7"]),
        (SYMMETRIC + "2 2 4\n1 1 2\n2 2 2\n2 1 .5\n1 2 .5\n", ["states row 2, column 1 or its mirror image more than"]),
        (SYMMETRIC + "30000000 30000000 1\n1 1 1\n", ["30,000,000", "at most"]),
        (SYMMETRIC + "2 2\n1 1 1\n2 2 1\n", ["size line 2, '2 2', is not 3 whole numbers"]),
        (SYMMETRIC + "% a\n\n2 x 2\n1 1 1\n", ["size line 4, '2 x 2'"]),
        (SYMMETRIC + "% a\n", ["ends before its size line"]),
        (SYMMETRIC + "-2 -2 2\n1 1 1\n", ["is -2 x -2"]),
        (SYMMETRIC + "2 2 -2\n1 1 1\n", ["announces -2 entries"]),
        ("%%MatrixMarket matrix coordinate real\n2 2 1\n1 1 1\n", ["first line", "not like"]),
        ("%%MatrixMarket matrix coordinate rael symmetric\n2 2 2\n1 1 1\n2 2 1\n", ["not a readable", "rael"]),
        ("%%MatrixMarket matrix array real general\n20000 20000\n1\n", ["20,000 x 20,000", "coordinates"]),
        ("nonsense\n", ["not a readable Matrix Market file", "does not begin with %%MatrixMarket"]),
        ("", ["not a readable Matrix Market file"]),
    ],
)
def test_unusable_files_are_refused_in_a_sentence(tmp_path: Path, text: str, parts: list[str]) -> None:
    file = tmp_path / "m.mtx"
    file.write_bytes(text.encode())
    message = sentence(matrix_market, file)
    assert str(file) in message and not [part for part in parts if part not in message], message


def test_truncated_and_damaged_compressed_files(tmp_path: Path) -> None:
    whole = gzip.compress((SYMMETRIC + "9 9 9\n" + "".join(f"{i} {i} {i}.25\n" for i in range(1, 10))).encode())
    file = tmp_path / "m.mtx.gz"
    for length in {
        *range(3, len(whole), 5),
        *range(len(whole) - 9, len(whole)),
    }:  # even where all entries are there and only the checksum is not
        file.write_bytes(whole[:length])
        assert "cut off" in sentence(matrix_market, file)
    for place in (30, len(whole) - 6):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        file.write_bytes(damaged)
        assert "not a readable Matrix Market file" in sentence(matrix_market, file)


def test_folders_missing_files_and_unknown_names(tmp_path: Path) -> None:
    assert "is a folder" in sentence(load, str(tmp_path))
    assert "does not exist" in sentence(load, "nowhere.mtx") and "does not exist" in sentence(load, "poison")
    assert "did you mean poisson" in sentence(load, "poison:3")
    assert "4096" in sentence(poisson, 0) and "seed" in sentence(poisson, 4, -1)


def test_asymmetry_is_counted_and_the_largest_is_named() -> None:
    matrix = sp.identity(3000, format="lil") * 5
    matrix[10, 700], matrix[700, 10] = 1.0, 1.5
    matrix[5, 6], matrix[6, 5] = 1.0, 1.0
    matrix[40, 50] = 0.25
    text = sentence(check_spd, matrix.tocsr(), "it")
    assert "2 pairs of entries differ" in text and "row 11, column 701 (1)" in text
    assert "row 701, column 11 (1.5)" in text and "0.5 apart (0.33 of the larger)" in text
    scattered = sp.csr_matrix((np.array([1.0, 0.5, 0.5, 1.0]), np.array([1, 0, 1, 0]), np.array([0, 2, 4])))
    with pytest.raises(hu.HalfulpError, match="one pair"):  # unsorted rows: [[.5, 1], [1, .5]] with one entry changed
        check_spd(sp.csr_matrix((scattered.data * [1, 1, 1, 2], scattered.indices, scattered.indptr)), "it")


def stated_direction(text: str, n: int) -> tuple[np.ndarray, float]:
    """x and x^T A x, as a sentence of the kind 'for x = -2 in row 1, 1 in row 2, 0 elsewhere' states them."""
    curvature = float(text.partition("x^T A x = ")[2].partition(" for ")[0])
    x = np.zeros(n)
    for part in text.partition(" for x = ")[2].partition(", 0 elsewhere")[0].split(", "):
        value, _, row = part.partition(" in row ")
        x[int(row) - 1] = float(value)
    return x, curvature


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e150])
def test_two_rows_that_cannot_be_definite(scale: float) -> None:
    rng = np.random.default_rng(1)
    dense = np.diag(np.array([1e-6, 1e6, 1.0, 4.0, 9.0]) * scale)
    dense[1, 0] = dense[0, 1] = 1.0625 * scale
    check_spd(sp.csr_matrix(np.diag(np.diag(dense))), "it")
    text = sentence(check_spd, sp.csr_matrix(dense), "it")
    x, curvature = stated_direction(text, 5)
    assert curvature < 0 and math.isclose(x @ dense @ x, curvature, rel_tol=1e-3)
    large = sp.block_diag([sp.diags(rng.uniform(1, 2, 5000)), dense], format="csr")
    assert "row 5002" in sentence(check_spd, large, "it")


def test_exactly_singular_pairs_and_laplacians() -> None:
    assert "x^T A x = 0 for x = -0.5 in row 2, 1 in row 1" in sentence(
        check_spd, sp.csr_matrix([[1.0, 2.0], [2.0, 4.0]]), "it"
    )
    check_spd(sp.csr_matrix([[1.0, 1.0], [1.0, 1 + 2**-52]]), "it")  # definite by one bit
    n = 5000
    ring = sp.diags([-0.1, 0.2, -0.1], [-1, 0, 1], shape=(n, n)).tolil()
    ring[0, n - 1] = ring[n - 1, 0] = -0.1
    assert "Laplacian without a boundary" in sentence(check_spd, ring.tocsr(), "it")
    ring[0, 0] = 0.2 * (1 + 2**-50)
    check_spd(ring.tocsr(), "it")


def test_indefinite_matrices_have_a_direction() -> None:
    line = sp.diags([1.0, 1.5, 1.0], [-1, 0, 1], shape=(50, 50)).tocsr()
    lowest = float(np.linalg.eigvalsh(line.toarray())[0])
    text = sentence(check_spd, line, "it")
    assert f"x^T A x = {lowest:.3g} for an x of length 1" in text and "not positive definite" in text
    d = sp.diags(10.0 ** np.linspace(-90, 90, 50))
    assert "not positive definite" in sentence(check_spd, (d @ line @ d).tocsr(), "it")  # found in any units
    definite = line + sp.identity(50)
    check_spd((d @ definite @ d).tocsr(), "it")
    signed = sp.csr_matrix([[1.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 1.0]])  # (1, -1, 1) is mapped to zero
    text = sentence(check_spd, signed, "it")
    assert "singular within fp64's rounding" in text and "0.577 in row 1" in text.replace("-0.577", "0.577")


@pytest.mark.parametrize("density", [0.03, 0.6])
def test_the_verdict_is_that_of_the_smallest_eigenvalue(density: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        n = int(rng.integers(20, 60))
        dense = sp.random(n, n, density, rng=rng, data_rvs=lambda k: rng.standard_normal(k)).toarray()
        dense += dense.T
        lowest = np.linalg.eigvalsh(dense)[0]
        for shift in (1e-9, -1e-9):
            moved = sp.csr_matrix(dense + (shift - lowest) * np.eye(n))
            if shift > 0:
                check_spd(moved, "it")
            else:
                text = sentence(check_spd, moved, "it")
                assert "not positive definite" in text and "x^T A x = -" in text


def test_the_right_hand_side_and_the_norm() -> None:
    assert norm(np.array([3e-200, 4e-200])) == pytest.approx(5e-200)
    assert norm(np.array([3e200, 4e200])) == pytest.approx(5e200)
    assert norm(np.zeros(3)) == 0 and norm(np.array([1.0, np.inf])) == np.inf and np.isnan(norm(np.array([np.nan])))
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(n) * 10.0 ** rng.uniform(-30, 30, n) for n in range(1, 200)]
    vectors += [np.array([2.0**-1, 2.0**-27, tiny]) for tiny in (0.0, 2.0**-47, 2.0**-75, 2.0**-300)]  # ties
    for v in vectors:
        exponent = math.frexp(np.abs(v).max())[1]
        scaled = np.ldexp(v, -exponent)
        assert norm(v) == math.ldexp(math.sqrt(math.fsum(scaled * scaled)), exponent)
    b = unit_vector(1000, 3)
    assert abs(norm(b) - 1) < 1e-15 and not np.array_equal(b, unit_vector(1000, 4))


@pytest.mark.skipif(not SPD.is_dir(), reason="needs the SPD matrices under ../shared/data")
def test_all_matrices_of_the_collection_load() -> None:
    files = sorted(SPD.glob("*.mtx.gz"))
    assert len(files) == 46
    for file in files:
        matrix = load(str(file)).matrix
        assert (matrix != matrix.T).nnz == 0 and matrix.has_canonical_format
    start = time.process_time()
    assert load(str(SPD / "rail_20209_K.mtx.gz")).matrix.shape[0] == 20209
    assert time.process_time() - start < 5


#: The most memory that the symmetric check of a large matrix takes, in copies of the matrix.
MEASURE = """
from halfulp.solvers.problems import check_spd, poisson
matrix = poisson(600).matrix
size = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
check_spd(poisson(8).matrix, "it")
def held(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = held("VmRSS")
check_spd(matrix, "it")
print((held("VmHWM") - before) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_the_checks_hold_at_most_two_copies() -> None:
    result = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 2.5
