"""Sparse matrices times vectors: every row is a dot product of its own length, run by ``rows.contract_rows``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..emulator.blocks import BlockFormat
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.names import alias
from ..emulator.orders import Sequential, registers
from .backends import Backend, Work
from .contraction import fuses, plan, steps_of
from .loops import FIELDS
from .operands import Entrance, operand_target
from .paths import FP64
from .products import Draw
from .rows import AHEAD
from .structs import Draws, Layout
from .subset import compiled

_ENTRIES = "the matrix's data"
_RAGGED = 4  #: rows of unlike lengths go together if the longest is at most so many times the mean


def lengths_of(matrix: Any, datapath: Datapath) -> list[tuple[int, int]]:
    """(length, how many rows have it); of sequential sums, which count by entries, all as if in one row."""
    starts = _host(matrix.indptr)
    if isinstance(datapath.order, Sequential):
        return [(int(starts[-1]), 1), (0, len(starts) - 2)]
    lengths = np.diff(starts)
    return list(zip(*(part.tolist() for part in np.unique(lengths, return_counts=True)), strict=True))


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix in CSR form as the kernels take it; from ``Machine.hold`` one that has been looked at."""

    data: Any
    indices: Any
    indptr: np.ndarray  #: on the host
    shape: tuple[int, int]
    fmt: Format
    checked: bool  #: the entries are values of the format, and the indices columns
    longest: int  #: entries of a row, at most

    format = "csr"


def enter_rows(matrix: Any, fmt: Format | BlockFormat, entrance: Entrance, drawn: Draws, at_once: bool = False) -> Rows:
    """A sparse matrix, its entries in a format. They are looked at later, by the kernel that reads them, where that
    costs least, if not ``at_once``."""
    parts = all(hasattr(matrix, name) for name in ("data", "indices", "indptr", "shape"))
    if not parts or getattr(matrix, "format", "csr") != "csr":
        given = f"{getattr(matrix, 'format', type(matrix).__name__)} {getattr(matrix, 'shape', '')}"
        raise HalfulpError(f"spmv needs a CSR matrix (M, N), not {given}.")
    if isinstance(fmt, BlockFormat):
        raise HalfulpError(f"spmv: the entries of a sparse row have no blocks of {alias(fmt)}.")
    if isinstance(matrix, Rows) and matrix.fmt == fmt and matrix.checked and not entrance.refuses_specials:
        return matrix
    backend, (height, width) = entrance.backend, matrix.shape
    if any(getattr(x, "dtype", np.dtype(object)).kind not in "iu" for x in (matrix.indices, matrix.indptr)):
        raise HalfulpError("spmv needs a CSR matrix whose indices and indptr are arrays of integers.")
    columns = _indices(matrix.indices, backend)
    starts = np.require(_host(matrix.indptr), requirements=["C", "W"])
    flat = starts.shape == (height + 1,) and columns.ndim == matrix.data.ndim == 1
    shortest, longest = _lengths(starts) if flat and height else (0, 0)
    if not flat or shortest < 0 or starts[0] or starts[-1] > min(columns.size, matrix.data.size):
        raise HalfulpError(
            f"spmv got a CSR matrix of {height} rows whose indptr does not ascend in {height} steps from 0 to, at most,"
            " the number of its entries."
        )
    entries = matrix.data if starts[-1] else np.zeros(1)
    later = not at_once and entrance.looks_later(entries, fmt)
    if not later:
        entries = entrance.enter(entries, fmt, _ENTRIES, drawn).values
        used = columns[: int(starts[-1])]
        if used.size and not 0 <= int(used.min()) <= int(used.max()) < width:
            raise _outside(width)
    return Rows(entries, columns, starts, (height, width), fmt, not later, longest)


def multiply_rows(
    datapath: Datapath, rows: Rows, x: Any, out: Any, backend: Backend, draw: Draw, entrance: Entrance, drawn: Draws
) -> None:
    """out[i] = row i of the matrix times x, in the accumulator."""
    report = backend.array(np.zeros(3), np.int64)
    starts = _indices(rows.indptr, backend)
    if isinstance(datapath.order, Sequential) and rows.longest <= _RAGGED * max(rows.indptr[-1] / max(len(out), 1), 1):
        _launch(datapath, rows.longest, None, rows, starts, x, out, report, backend, draw)
    else:
        rows = enter_rows(rows, rows.fmt, entrance, drawn, at_once=True)
        lengths = np.diff(rows.indptr)
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        for part in np.split(order, cuts):
            if part.size and lengths[part[0]]:
                _launch(datapath, int(lengths[part[0]]), part, rows, starts, x, out, report, backend, draw)
    wrong, changed, outside = (bool(flag) for flag in backend.to_host(report))
    if outside:
        raise _outside(x.size)
    if wrong:
        raise HalfulpError(entrance.misfit(rows.data, rows.fmt, _ENTRIES))
    if changed:  # -0 where the format has none
        again = enter_rows(rows, rows.fmt, entrance, drawn, at_once=True)
        multiply_rows(datapath, again, x, out, backend, draw, entrance, drawn)


def _outside(columns: int) -> HalfulpError:
    return HalfulpError(f"spmv got column indices outside 0...{columns - 1}.")


@compiled
def _lengths(starts: np.ndarray) -> tuple[int, int]:
    """The least and the most entries that a row has."""
    least = most = int(starts[1]) - int(starts[0])
    begins, ends = starts[:-1], starts[1:]
    for i in range(len(begins)):
        length = int(ends[i]) - int(begins[i])
        least, most = min(least, length), max(most, length)
    return least, most


def _launch(
    datapath: Datapath,
    length: int,
    listed: np.ndarray | None,
    rows: Rows,
    starts: Any,
    x: Any,
    out: Any,
    report: Any,
    backend: Backend,
    draw: Draw,
) -> None:
    """The rows that are listed, all of one length; or all rows, of at most that."""
    values = backend.array(rows.data, rows.data.dtype.type)
    chosen = plan(datapath, length, backend.name == "cpu")
    kind = chosen.carrier if backend.name == "cpu" else np.float64
    program = backend.array(steps_of(datapath.order, length), np.int64)
    held = registers(datapath.order, length)
    layout = Layout(length, 1, 0, int(listed is not None), 1, program.size // FIELDS, held, len(out))
    of_entries = rows.fmt != FP64
    t = operand_target(rows.fmt, values.dtype) if of_entries and not rows.checked else chosen.levels[0].wide
    looks = 0 if rows.checked or listed is not None else 1 + int(of_entries)
    gathered = backend.few("row", length, kind).each if fuses(datapath) else AHEAD
    work = (
        Work("rows", 4 + held + gathered, kind),
        Work("random", 1, kind),
        backend.few("places", chosen.limbs),
        Work("lengths", 2, np.int64),
    )
    which = backend.array(np.zeros(1) if listed is None else listed, np.int64)
    args: tuple[Any, ...] = (values, rows.indices, x, x.size, starts, which, out, report, looks)
    args += (Work("checked", 1, values.dtype), t, layout, program, *work)
    args += chosen.arguments(draw.accumulator, draw.product)
    backend.launch("contract_rows", len(out) if listed is None else len(listed), *args, work=4 * length)


def _indices(x: Any, backend: Backend) -> Any:
    """An array of indices as kernels take it: of the CPU also 32-bit ones."""
    if backend.name == "cpu" and x.dtype in (np.int32, np.int64):
        return np.require(x, requirements=["C", "W"])
    return backend.array(x, np.int64)


def _host(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.get()
