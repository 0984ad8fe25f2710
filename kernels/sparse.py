"""Sparse matrices times vectors: every row is a dot product of its own length, run by ``loops.contract_rows``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.orders import Sequential, registers
from .backends import Backend, Work
from .contraction import fuses, plan, steps_of
from .elementwise import WORK
from .operands import Survey, operand_target, survey
from .paths import FP64
from .products import Draw
from .rows import AHEAD
from .structs import Layout

_RAGGED = 4  #: rows of unlike lengths go together if the longest is at most so many times the mean


def lengths_of(matrix: Any, datapath: Datapath) -> list[tuple[int, int]]:
    """(length, how many rows have it); of sequential sums, which count by entries, all as if in one row."""
    lengths = np.diff(_host(matrix.indptr))
    if isinstance(datapath.order, Sequential):
        return [(int(lengths.sum()), 1), (0, len(lengths) - 1)]
    return list(zip(*(part.tolist() for part in np.unique(lengths, return_counts=True)), strict=True))


class Stored(NamedTuple):
    """The entries of a matrix and how they are checked."""

    values: Any
    fmt: Format
    checked: bool  #: they are values of the format already


def multiply_rows(
    datapath: Datapath, matrix: Any, stored: Stored, x: Any, out: Any, backend: Backend, draw: Draw
) -> Survey:
    """out[i] = row i of the matrix times x, in the accumulator; and whether its entries, if not ``checked``, are values
    of their format: they are looked at on the way, where that costs least."""
    rows = len(out)
    columns, starts = (_indices(part, backend) for part in (matrix.indices, matrix.indptr))
    lengths = np.diff(_host(matrix.indptr))
    flat = starts.shape == (rows + 1,) and columns.ndim == stored.values.ndim == 1
    if not flat or lengths.min(initial=0) < 0 or starts[0] or starts[-1] > min(columns.size, stored.values.size):
        raise HalfulpError(
            f"spmv got a CSR matrix of {rows} rows whose indptr does not ascend in {rows + 1} steps from 0 to, at most,"
            " the number of its entries."
        )
    longest = int(lengths.max(initial=0))
    report = backend.array(np.zeros(3), np.int64)
    args = (stored, columns, x, starts)
    if isinstance(datapath.order, Sequential) and longest <= _RAGGED * max(int(starts[-1]) / max(rows, 1), 1.0):
        _launch(datapath, longest, None, args, out, report, backend, draw)
    else:
        if columns.size and not 0 <= int(columns.min()) <= int(columns.max()) < x.size:
            report[2] = 1
        if not stored.checked:
            found = survey(stored.values, stored.fmt, backend)
            report[0], report[1] = not found.fits, not found.kept
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        for part in np.split(order, cuts) if not report[2] else []:
            if part.size and lengths[part[0]]:
                _launch(datapath, int(lengths[part[0]]), part, args, out, report, backend, draw)
    wrong, changed, outside = (bool(flag) for flag in backend.to_host(report))
    if outside:
        raise HalfulpError(f"spmv got column indices outside 0...{x.size - 1}.")
    return Survey(not wrong, not changed, 0.0)


def _launch(
    datapath: Datapath,
    length: int,
    rows: np.ndarray | None,
    matrix: tuple[Any, ...],
    out: Any,
    report: Any,
    backend: Backend,
    draw: Draw,
) -> None:
    """The rows of one length; or all rows, of at most that."""
    (values, fmt, checked), columns, x, starts = matrix
    values = backend.array(values, values.dtype.type)
    chosen = plan(datapath, length, backend.name == "cpu")
    kind = chosen.carrier if backend.name == "cpu" else np.float64
    program = backend.array(steps_of(datapath.order, length), np.int64)
    held = registers(datapath.order, length)
    limbs = max(level.unit.limbs for level in chosen.levels)
    gathered = AHEAD
    if fuses(datapath.order):
        gathered = length if backend.name == "gpu" else -(-length // WORK) + 1
    layout = Layout(length, 1, 0, int(rows is not None), 1, program.size // 6, held, len(out))
    listed = backend.array(np.zeros(1) if rows is None else rows, np.int64)
    rounds = not checked and fmt != FP64
    t = operand_target(fmt, values.dtype) if rounds else chosen.levels[0].wide
    checks = (report, int(rounds), Work("checked", 1, values.dtype), t)
    work = (
        Work("rows", 4 + held + gathered, kind),
        Work("random", 1, kind),
        Work("places", max(1, limbs if backend.name == "gpu" else -(-limbs // 1024)), np.int64),
        Work("lengths", 2, np.int64),
    )
    args: tuple[Any, ...] = (values, columns, x, x.size, starts, listed, out, *checks, layout, program, *work)
    args += chosen.arguments(draw.accumulator, draw.product)
    backend.launch("contract_rows", len(out) if rows is None else len(rows), *args, work=4 * length)


def _indices(x: Any, backend: Backend) -> Any:
    """An array of indices as kernels take it: of the CPU also 32-bit ones."""
    if backend.name == "cpu" and x.dtype in (np.int32, np.int64):
        return np.require(x, requirements=["C", "W"])
    return backend.array(x, np.int64)


def _host(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.get()
