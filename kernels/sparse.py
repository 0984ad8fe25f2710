"""Sparse matrices times vectors: every row is a dot product of its own length, run by ``loops.contract_rows``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.orders import Sequential, registers
from .backends import Backend, Work
from .contraction import fuses, plan, steps_of
from .products import Draw
from .structs import Layout

_RAGGED = 4  #: rows of unlike lengths go together if the longest is at most so many times the mean


def lengths_of(matrix: Any, datapath: Datapath) -> list[tuple[int, int]]:
    """(length, how many rows have it); of sequential sums, which count by entries, all as if in one row."""
    lengths = np.diff(_host(matrix.indptr))
    if isinstance(datapath.order, Sequential):
        return [(int(lengths.sum()), 1), (0, len(lengths) - 1)]
    return list(zip(*(part.tolist() for part in np.unique(lengths, return_counts=True)), strict=True))


def multiply_rows(datapath: Datapath, matrix: Any, values: Any, x: Any, out: Any, backend: Backend, draw: Draw) -> None:
    """out[i] = row i of the matrix times x, in the accumulator; ``values`` are its checked entries."""
    rows = len(out)
    columns, starts = (_indices(part, backend) for part in (matrix.indices, matrix.indptr))
    if columns.size and not 0 <= int(columns.min()) <= int(columns.max()) < x.size:
        raise HalfulpError(f"spmv got column indices outside 0...{x.size - 1}.")
    lengths = np.diff(_host(matrix.indptr))
    if lengths.min(initial=0) < 0 or int(starts[-1]) > min(columns.size, values.size):
        raise HalfulpError("spmv got a CSR matrix whose indptr does not ascend, or ends beyond its entries.")
    longest = int(lengths.max(initial=0))
    together = isinstance(datapath.order, Sequential) and longest <= _RAGGED * max(lengths.mean(), 1.0)
    if together:
        groups = [(longest, np.arange(rows))]
    else:
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        groups = [(int(lengths[part[0]]), part) for part in np.split(order, cuts) if part.size]
    for length, members in groups:
        if length:
            _launch(datapath, length, members, (values, columns, x, starts), out, backend, draw)


def _launch(
    datapath: Datapath, length: int, rows: np.ndarray, matrix: tuple[Any, ...], out: Any, backend: Backend, draw: Draw
) -> None:
    """The rows of one length (or of at most that)."""
    values, columns, x, starts = matrix
    chosen = plan(datapath, length, backend.name == "cpu")
    kind = chosen.carrier if backend.name == "cpu" else np.float64
    program = backend.array(steps_of(datapath.order, length), np.int64)
    held = registers(datapath.order, length)
    limbs = max(level.unit.limbs for level in chosen.levels)
    gathered = -(-length // 1024) + 1 if fuses(datapath.order) else 0
    gathered = length if fuses(datapath.order) and backend.name == "gpu" else gathered
    layout = Layout(length, 1, 0, 1, 1, program.size // 6, held)
    work = (
        Work("rows", 4 + held + gathered, kind),
        Work("random", 1, kind),
        Work("places", max(1, limbs if backend.name == "gpu" else -(-limbs // 1024)), np.int64),
        Work("lengths", 1, np.int64),
    )
    values, x = values.astype(kind, copy=False), x.astype(kind, copy=False)
    args = (values, columns, x, starts, backend.array(rows, np.int64), out, layout, program, *work)
    backend.launch(
        "contract_rows", len(rows), *args, *chosen.arguments(draw.accumulator, draw.product), work=4 * length
    )


def _indices(x: Any, backend: Backend) -> Any:
    """An array of indices as kernels take it: of the CPU also 32-bit ones."""
    if backend.name == "cpu" and x.dtype in (np.int32, np.int64):
        return np.require(x, requirements=["C", "W"])
    return backend.array(x, np.int64)


def _host(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.get()
