"""Products of matrices on a datapath: by BLAS where that is certified, by exact slices, or by the kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.orders import Exact, Sequential, registers
from .backends import Backend, Work, runs_across, runs_at_once
from .certificates import Certificate, certificate, certificate_of_all, certificate_of_norms
from .contraction import Plan, contiguous, fuses, is_ready, panels, plan, steps_of, transposes, with_least_exponents
from .fused import LIMBS
from .loops import FIELDS
from .operands import Operand, span
from .slices import Slicing, add_slices, slicing
from .structs import Draws, Layout
from .tiles import TILE_COLUMNS, TILE_ROWS

_BLAS_PANEL = 1 << 20  #: numbers of an operand's part that BLAS works on: its results are cached when they are stored
_TILED = 1 << 10  #: results from which on a GPU computes them by tiles
_LOOKED = 16  #: products from which on it is worth to look at an operand's number again
_FEW_ROWS = 32  #: of results, that a thread has at least where they are shared out for being finished while cached
_SLICED_PANEL = 1 << 18  #: of those that are cut into slices
#: Multiplications, and those for each number of the operands, from which on it is worth to add up their numbers.
_SUMMED, _SUMMED_EACH = 1 << 22, 128


Finish = Callable[[Any, int], None]  #: takes a run of accumulators' sums, the first of which is at a place


class Draw(NamedTuple):
    """Where a call's roundings draw their random bits."""

    accumulator: Draws
    product: Draws


class Way(NamedTuple):
    """How a product is computed, and why so."""

    engine: str  #: "blas", "slices" or "kernel"
    certificate: Certificate
    plan: Plan | None = None
    slicing: Slicing | None = None

    @property
    def sums(self) -> Any:
        """The type that it gives the accumulators' sums in."""
        return np.dtype(self.certificate.dtype if self.engine == "blas" else np.float64)

    @property
    def name(self) -> str:
        """What computes it, for the ledger."""
        if self.plan is not None:
            return f"the {self.plan.ways}"
        return f"BLAS in {self.certificate.dtype}" if self.engine == "blas" else "exact slices"

    def __str__(self) -> str:
        if self.engine == "blas":
            return f"BLAS in {self.certificate.dtype}: {self.certificate.reason}."
        if self.slicing:
            return f"{self.slicing}; as one product of matrices: {self.certificate.reason}."
        assert self.plan is not None
        return f"the {self.plan.ways}: {self.certificate.reason}."


def worth_a_look(x: Operand, y: Operand) -> bool:
    """Whether to look at all numbers of a product's operands takes little of its own time."""
    multiplications = x.values.size * y.values.shape[1]
    return multiplications >= max(_SUMMED, _SUMMED_EACH * (x.values.size + y.values.size))


def way_of(datapath: Datapath, x: Operand, y: Operand, backend: Backend, columns: int | None = None) -> Way:
    """How the product x y of matrices (M, K) and (K, N) is computed; columns : N, where y is of another shape."""
    length, narrow = x.values.shape[1], backend.name == "cpu"
    found = (
        certificate_of_all(datapath, length)
        if narrow
        else Certificate(None, f"backend {backend.name} has kernels only")
    )
    tops = (x.largest(backend), y.largest(backend)) if narrow and not found.dtype else ()
    if tops:  # these very numbers may be smaller
        found = certificate(datapath, length, *tops)
    if found.dtype == "float64" and not tops and columns is None and worth_a_look(x, y):
        found = certificate_of_norms(datapath, x, y, backend) or found
    if found.dtype:
        return Way("blas", found)
    if tops and datapath.order == Exact() and all(map(math.isfinite, tops)) and not datapath.in_blocks:
        parts = slicing(length, span(x), span(y))
        if parts:
            return Way("slices", found, slicing=parts)
    chosen = plan(datapath, length, narrow)
    best = plan(datapath, length, narrow, ((0, 0), (0, 0)))
    rows, columns = x.values.shape[0], columns or y.values.shape[1]
    worth = rows * columns >= _LOOKED * (rows + columns)
    if any(level.unit.way == LIMBS for level in chosen.levels) or (best.carrier is not chosen.carrier and worth):
        chosen = plan(datapath, length, narrow, (span(x), span(y)))  # these very numbers may be sparser
    return Way("kernel", found, chosen)


def multiply(
    datapath: Datapath,
    x: Operand,
    y: Operand,
    out: Any,
    backend: Backend,
    draw: Draw,
    way: Way,
    first: int = 0,
    pitch: int | None = None,
    finish: Finish | None = None,
) -> bool:
    """The accumulators' sums of x y, at out[first + i * pitch + j]; those places are the elements' numbers, too.

    finish : may be handed them all instead, while they are cached, zeros of any sign; it has been if True is returned.
    """
    (rows, depth), columns = x.values.shape, y.values.shape[1]
    pitch = columns if pitch is None else pitch
    if way.engine == "kernel":
        assert way.plan is not None
        matrices = datapath, x.values, y.values
        if way.plan.levels[-1].unit.with_least:
            matrices = with_least_exponents(datapath, x, y, backend)
        _by_kernel(*matrices, out, backend, draw, way.plan, (first, pitch, 1))
        return False
    parts = list(panels(rows, depth, columns, most=_SLICED_PANEL if way.slicing else _BLAS_PANEL))
    height, width = parts[0].shape
    in_runs = finish is not None and way.slicing is None and (first, pitch, width) == (0, columns, columns)
    in_runs = in_runs and not runs_at_once(height, depth, width)
    across = runs_across(rows, columns) and not (in_runs and rows >= _FEW_ROWS * backend.threads)
    in_runs = in_runs and not across
    for panel in parts:
        a, b = x.values[panel.rows], y.values[:, panel.columns]
        place = first + panel.rows.start * pitch + panel.columns.start
        target = _places(out, place, pitch, panel.shape)
        if way.slicing:
            target[...] = add_slices(datapath, a, b, way.slicing, backend, draw.accumulator, place, pitch)
        else:
            _by_blas(a, b, target, way.certificate.dtype, backend, across, finish if in_runs else None, place)
    return in_runs


def _places(out: Any, place: int, pitch: int, shape: tuple[int, int]) -> Any:
    """The view of a flat array whose element (i, j) is out[place + i * pitch + j]."""
    if pitch == shape[1]:
        return out[place : place + shape[0] * pitch].reshape(shape)
    item = out.itemsize
    return np.lib.stride_tricks.as_strided(out[place:], shape, (pitch * item, item))


def _by_blas(
    a: Any,
    b: Any,
    out: Any,
    dtype: str | None,
    backend: Backend,
    across: bool,
    finish: Finish | None,
    place: int,
) -> None:
    """out = a b by BLAS, zeros positive; or these sums to ``finish``, the first being at ``place``."""
    converts = (b if across else a).dtype != dtype
    x, y = (a, b) if not across else (_typed(a, dtype, "A", backend), b)
    y = y if across else _typed(y, dtype, "B", backend)

    def part(rows: slice, columns: slice) -> None:
        target = sums = out[rows, columns]
        if finish or out.dtype != dtype:
            sums = backend.scratch("sums of BLAS", target.size, dtype).reshape(target.shape)
        held = _typed(x[rows], dtype, "A", backend), _typed(y[:, columns], dtype, "B", backend)
        np.matmul(*held, out=sums)
        if finish:
            finish(sums.reshape(-1), place + rows.start * out.shape[1])
        else:
            np.add(sums, 0.0, out=target, casting="same_kind")

    backend.blas(part, a.shape[0], a.shape[1], b.shape[1], across, converts, finish is not None)


def _typed(x: Any, dtype: Any, name: str, backend: Backend) -> Any:
    """A matrix of a type: itself, or in scratch, in its own memory order."""
    if x.dtype == dtype:
        return x
    turned = not x.flags.c_contiguous and x.T.flags.c_contiguous
    given = x.T if turned else x
    held = backend.scratch(f"BLAS {name}", given.size, dtype).reshape(given.shape)
    np.copyto(held, given, casting="same_kind")
    return held.T if turned else held


def _by_kernel(
    datapath: Datapath,
    a: Any,
    b: Any,
    out: Any,
    backend: Backend,
    draw: Draw,
    chosen: Plan,
    place: tuple[int, int, int],
) -> None:
    """``contract`` on panels; result (i, j) goes to out[first + i * pitch + j * stride], ``place`` being these."""
    (rows, depth), columns = a.shape, b.shape[1]
    first, pitch, stride = place
    symmetric = datapath.a == datapath.b or not fuses(datapath)
    if symmetric and transposes(rows, columns):
        a, b, rows, columns, pitch, stride = b.T, a.T, columns, rows, stride, pitch
    kind = chosen.carrier if backend.name == "cpu" else np.float64
    order = datapath.order
    tiled = backend.name != "cpu" and isinstance(order, Sequential) and datapath.product is None and stride == 1
    program = backend.array(steps_of(order, depth), np.int64)
    held = registers(order, depth)
    ready = is_ready(a, kind), is_ready(b, kind)
    arguments = chosen.arguments(draw.accumulator, draw.product)
    for panel in panels(rows, depth, columns, ready):
        xs = contiguous(a[panel.rows], kind, "A", backend)
        ys = contiguous(b[:, panel.columns], kind, "B", backend)
        height, width = panel.shape
        start = first + panel.rows.start * pitch + panel.columns.start * stride
        layout = Layout(depth, width, start, pitch, stride, program.size // FIELDS, held)
        if tiled and height * width >= _TILED:
            level, count = chosen.levels[0], -(-height // TILE_ROWS) * -(-width // TILE_COLUMNS)
            args = (xs, ys, out, layout, height, draw.accumulator, level.path, level.wide)
            backend.launch("tiles", count, *args, work=depth * TILE_ROWS * TILE_COLUMNS)
            continue
        work = Work("rows", 2 + held, kind), Work("random", 1, kind), backend.few("places", chosen.limbs)
        backend.launch("contract", height * width, xs, ys, out, layout, program, *work, *arguments, work=depth)
