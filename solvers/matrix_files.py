"""Matrix Market files as linear systems, and what may be wrong with them in one sentence each.

The format: R. Boisvert, R. Pozo, K. Remington, NISTIR 5935 (1996), https://math.nist.gov/MatrixMarket/formats.html
"""

from __future__ import annotations

import bz2
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import scipy.io
import scipy.sparse as sp

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from .definite import check_spd
from .systems import LARGEST, Problem, canonical, unit_vector

#: Most rows of a file that lists every entry ("array").
_LARGEST_ARRAY = 10_000
#: What numbers are written with; SciPy's reader would take "1,5" and "1.5D3" for 1 and 1.5.
_NUMBERS = b"0123456789+-.eE \t\r\n" + b"nanNANinfinityINFINITY"

_BANNER = "%%MatrixMarket matrix coordinate real symmetric"
#: What the words of the first line may be.
_WORDS = (
    {"matrix"},
    {"coordinate", "array"},
    {"real", "double", "integer", "unsigned-integer", "complex", "pattern"},
    {"general", "symmetric", "skew-symmetric", "hermitian"},
)


class _Header(NamedTuple):
    layout: str  #: coordinate or array
    field: str  #: real, double, integer, unsigned-integer; complex, pattern
    symmetry: str
    rows: int
    columns: int
    entries: int  #: as many as it announces
    lines: int  #: until and with the size line


def matrix_market(path: str | Path, seed: int = 0) -> Problem:
    """A system with the matrix of a Matrix Market file (.mtx, plain or compressed; real or integer).

    Raises
    ------
    HalfulpError
        The file is missing, cut off or damaged, or the matrix is not real, square, finite, symmetric, or positive
        definite, as far as :func:`check_spd` can tell.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise HalfulpError(
            f"{file} {what}: give a Matrix Market file (.mtx or .mtx.gz), 'poisson', or a family such as jump:32."
        )
    with _readable(file) as plain:
        header = _header(file)
        raw = scipy.io.mmread(plain)
        _check_numbers(file, plain, header)
    matrix = canonical(raw)
    if header.symmetry != "general" and sp.issparse(raw) and matrix.nnz < raw.nnz:
        _check_one_triangle(file, raw)
    del raw
    check_spd(matrix, str(file))
    return Problem(file.name.removesuffix(".gz").removesuffix(".mtx"), matrix, unit_vector(matrix.shape[0], seed))


def column(path: str | Path, n: int) -> np.ndarray:
    """(n,) A vector of a Matrix Market file of n rows and one column.

    Raises
    ------
    HalfulpError
        The file is missing, cut off or damaged, or holds anything else than n finite real numbers, each once at most.
    """
    file = Path(path)
    if not file.is_file():
        raise HalfulpError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}: give a Matrix Market file.")
    with _readable(file) as plain:
        header = _parsed_header(file)
        if (header.rows, header.columns) != (n, 1):
            size = f"{header.rows:,} x {header.columns:,}"
            raise HalfulpError(f"{file} is {size}; a right-hand side of {n:,} x 1 is needed.")
        if header.field in ("complex", "pattern"):
            raise HalfulpError(f"{file} is {header.field}; a right-hand side of real numbers is needed.")
        raw = scipy.io.mmread(plain)
        _check_numbers(file, plain, header)
    if sp.issparse(raw) and np.unique(raw.row).size < raw.nnz:
        raise HalfulpError(f"{file} states an entry more than once.")
    values = (raw.toarray() if sp.issparse(raw) else raw)[:, 0].astype(np.float64)
    if not np.isfinite(values).all():
        raise HalfulpError(f"{file} must hold finite numbers.")
    return values


def write_column(path: Path, vector: np.ndarray) -> None:
    """An (n,) vector as a Matrix Market file, with all of its bits."""
    text = io.BytesIO()
    scipy.io.mmwrite(text, vector[:, None], precision=17)
    write_atomically(path, text.getvalue())


def unknowns(path: str | Path) -> int:
    """Rows of a Matrix Market file by its header alone."""
    file = Path(path)
    with _one_sentence(file):
        return _header(file).rows


def _header(file: Path) -> _Header:
    """Of a file that may be worth reading."""
    header = _parsed_header(file)
    n = header.rows
    if header.field == "complex":
        raise HalfulpError(f"{file} holds a complex matrix; a real symmetric positive definite one is needed.")
    if header.field == "pattern":
        raise HalfulpError(f"{file} is a pattern: it says where entries are but holds no values.")
    if n != header.columns or n < 1:
        raise HalfulpError(f"{file} is {n} x {header.columns}; conjugate gradients need a square, non-empty matrix.")
    if n > LARGEST:
        raise HalfulpError(f"{file} is {n:,} x {n:,}; at most {LARGEST:,} unknowns are solved.")
    if header.layout == "array" and n > _LARGEST_ARRAY:
        raise HalfulpError(f"{file} lists all entries of {n:,} x {n:,}; beyond {_LARGEST_ARRAY:,} use coordinates.")
    if header.layout == "coordinate" and not 0 <= header.entries <= n * n:
        raise HalfulpError(
            f"{file} is damaged: its size line announces {header.entries:,} entries of a {n:,} x {n:,} matrix."
        )
    return header


def _parsed_header(file: Path) -> _Header:
    """The first line and the size line, as they are."""
    with _open(file) as stream:
        first = stream.readline(1 << 16).decode("latin-1").split()
        if not first or first[0].lower() != "%%matrixmarket":
            raise ValueError("its first line does not begin with %%MatrixMarket")
        words = [word.lower() for word in first[1:]]
        if len(words) != len(_WORDS) or any(word not in known for word, known in zip(words, _WORDS, strict=True)):
            raise ValueError(f"its first line is '{' '.join(first)[:80]}', not like '{_BANNER}'")
        for lines, raw in enumerate(iter(lambda: stream.readline(1 << 16), b""), 2):
            text = raw.decode("latin-1").strip()
            if text and not text.startswith("%"):
                sizes = text.split()
                expected = 3 if words[1] == "coordinate" else 2
                if len(sizes) != expected or not all(size.lstrip("-").isdecimal() for size in sizes):
                    raise ValueError(f"its size line {lines}, '{text[:40]}', is not {expected} whole numbers")
                rows, columns, *entries = map(int, sizes)
                announced = entries[0] if entries else rows * columns
                return _Header(words[1], words[2], words[3], rows, columns, announced, lines)
    raise ValueError("it ends before its size line")


def _open(file: Path) -> IO[bytes]:
    """A stream of the text, decompressed by what the file begins with."""
    with file.open("rb") as stream:
        start = stream.read(3)
    if start[:2] == b"\x1f\x8b":
        return gzip.open(file)  # type: ignore[return-value]
    return bz2.open(file) if start == b"BZh" else file.open("rb")


@contextmanager
def _one_sentence(file: Path) -> Iterator[None]:
    """What goes wrong while a file is read is told in one."""
    try:
        yield
        return
    except HalfulpError:
        raise
    except EOFError:
        reason = "it is cut off, as its compressed data end too early"
    except (gzip.BadGzipFile, zlib.error) as error:
        reason = f"its compressed data are damaged ({str(error).rstrip('.')})"
    except MemoryError:
        reason = "what it announces does not fit into memory"
    except Exception as error:
        reason = (str(error).partition("\n")[0].rstrip(".") or type(error).__name__).replace(". ", "; ")
    raise HalfulpError(f"{file} is not a readable Matrix Market file: {reason}.")


@contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """The file, or a decompressed copy: SciPy's reader may end the process where it cannot seek in a Python stream."""
    with _one_sentence(file), tempfile.TemporaryDirectory(prefix="halfulp-") as folder, _open(file) as stream:
        if not isinstance(stream, (gzip.GzipFile, bz2.BZ2File)) and file.suffix == ".mtx":
            yield file
            return
        plain = Path(folder) / "plain.mtx"
        with plain.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
        yield plain


def _check_numbers(file: Path, plain: Path, header: _Header) -> None:
    """SciPy's reader stops at what it cannot read in a line and passes over the rest: look for such rests."""
    numbers, line_number = 0, header.lines
    with plain.open("rb") as stream:
        for _ in range(header.lines):
            stream.readline()
        while lines := stream.readlines(1 << 22):
            text = b"".join(lines)
            if text.translate(None, _NUMBERS):
                place = next(k for k, line in enumerate(lines, 1) if line.translate(None, _NUMBERS))
                shown = lines[place - 1].strip()[:40].decode("ascii", "backslashreplace")
                raise HalfulpError(f"{file} is damaged: line {line_number + place}, '{shown}', is not all numbers.")
            line_number += len(lines)
            numbers += len(text.split())
    n, each = header.rows, ""
    if header.layout == "coordinate":
        expected, each = 3 * header.entries, " of row, column and value"
    else:  # of a symmetric one the lower triangle
        expected = {"general": header.entries, "skew-symmetric": n * (n - 1) // 2}.get(
            header.symmetry, n * (n + 1) // 2
        )
    if numbers != expected:
        entries = header.entries if each else expected
        raise HalfulpError(
            f"{file} is damaged: {entries:,} entries{each} are {expected:,} numbers, but it holds {numbers:,}."
        )


def _check_one_triangle(file: Path, raw: sp.coo_matrix) -> None:
    """A file that is symmetric by its header and states an entry twice, or both it and its mirror image."""
    where = raw.row.astype("int64") * raw.shape[1] + raw.col
    where.sort()
    twice = where[1:][where[1:] == where[:-1]]
    if twice.size:
        row, column = divmod(int(twice[0]), raw.shape[1])
        raise HalfulpError(
            f"{file} is symmetric by its header but states row {column + 1}, column {row + 1} or its mirror image "
            f"more than once ({twice.size:,} such places)."
        )
