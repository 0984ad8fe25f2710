"""Workloads, and in closed form what a systolic array does with them: cycles, and bits moved at every level.

A product C = A B of (m, k) and (k, n) is cut into *folds*: tiles of two of its three dimensions, which the rows and
columns of the array take while the third one streams by. One operand is *stationary*, a tile of it in the array:

======== ============== ====== ====== ======= ==============================
dataflow stationary (S) rows   columns stream cycles of a fold
======== ============== ====== ====== ======= ==============================
output   C              m      n      k       stream + rows + columns - 2
weight   B              k      n      m       stream + 2 rows + columns - 2
input    A              k      m      n       stream + 2 rows + columns - 2
======== ============== ====== ====== ======= ==============================

Operands reach an array skewed, one row or column a cycle later than its neighbour (rows + columns - 2 cycles of fill
and drain); loading a stationary operand takes a cycle a row. Folds do not overlap, and edge tiles take as long as full
ones. That is SCALE-Sim (Samajdar et al., ISPASS 2020, doi:10.1109/ISPASS48437.2020.00016). A unit with n multipliers
takes n terms of k a cycle.

The operand that comes in by rows (X) passes the array once for every column of folds, the one that goes by columns (Y)
once for every row of folds. C is Y unless it is stationary: it then passes as partial sums, in the accumulator's
format, which are read back in all passes but the first; the last pass is of results, in the output format.

**Tiling.** What is between SRAM and DRAM follows one rule. SRAM holds, for two tiles of S (one at work, one on its
way), and either as many panels of X as fit (a panel is what one row of folds needs of X), so that Y passes once for so
many rows of folds and X comes but once; or the same the other way round; or nothing, so that DRAM is passed as often as
the array is. A panel that passes and is used more than once counts twice (one at work, one on its way). The way with
the least traffic is taken. More SRAM never means more traffic, and compulsory traffic is the least there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Integral
from typing import Any, NamedTuple

from .blocks import BlockFormat
from .datapath import Datapath
from .errors import HalfulpError
from .orders import multipliers

#: dataflow -> the dimensions that rows, columns and time of the array take.
DATAFLOWS = {"output": ("m", "n", "k"), "weight": ("k", "n", "m"), "input": ("k", "m", "n")}
_AXES = {"A": "mk", "B": "kn", "C": "mn"}


def _check_sizes(workload: Any, least: dict[str, int]) -> None:
    """Refuse sizes that are no integers, or less than 1 (or than what ``least`` says)."""
    for field in fields(workload):
        value = getattr(workload, field.name)
        for size in value if isinstance(value, tuple) else (value,):
            if not isinstance(size, Integral) or size < least.get(field.name, 1):
                raise HalfulpError(
                    f"{type(workload).__name__}: {field.name} is an integer of at least {least.get(field.name, 1)}, not"
                    f" {value!r}."
                )


@dataclass(frozen=True)
class Matmul:
    """C = A B with A (m, k), B (k, n)."""

    m: int
    k: int
    n: int

    def __post_init__(self) -> None:
        _check_sizes(self, {})

    @property
    def macs(self) -> int:
        return self.m * self.k * self.n

    @property
    def a_numbers(self) -> int:
        """Numbers of A as DRAM has them."""
        return self.m * self.k


@dataclass(frozen=True)
class Conv:
    """A convolution of (batch, channels, height, width) with (filters, channels, *kernel), as a product of matrices.

    A are the patches, unfolded on their way from SRAM into the array, zeros of the padding included; in SRAM and DRAM
    there are images. B are the kernels.
    """

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.kernel, Integral):
            object.__setattr__(self, "kernel", (self.kernel, self.kernel))
        if not isinstance(self.kernel, tuple) or len(self.kernel) != 2:
            raise HalfulpError(f"Conv: kernel is an integer or a pair of them, not {self.kernel!r}.")
        _check_sizes(self, {"padding": 0})
        if min(self.out_shape) < 1:
            raise HalfulpError(f"{self} has no results: its kernel is larger than its padded images.")

    @property
    def _axes(self) -> list[tuple[int, int]]:
        """Size and kernel of the axes."""
        return list(zip((self.height, self.width), self.kernel, strict=True))  # type: ignore[arg-type]

    @property
    def out_shape(self) -> tuple[int, int]:
        """Height and width of the results."""
        height, width = ((size + 2 * self.padding - kernel) // self.stride + 1 for size, kernel in self._axes)
        return height, width

    @property
    def m(self) -> int:
        return self.batch * math.prod(self.out_shape)

    @property
    def k(self) -> int:
        return self.channels * math.prod(self.kernel)  # type: ignore[arg-type]

    @property
    def n(self) -> int:
        return self.filters

    @property
    def macs(self) -> int:
        return self.m * self.k * self.n

    @property
    def a_numbers(self) -> int:
        """Pixels that some patch has, padding left out."""
        touched = 1
        for (size, kernel), count in zip(self._axes, self.out_shape, strict=True):
            first = -self.padding
            pixels = {first + self.stride * i + j for i in range(count) for j in range(kernel)}
            touched *= sum(0 <= pixel < size for pixel in pixels)
        return self.batch * self.channels * touched


def csr_index_bits(nnz: int, rows: int, columns: int) -> int:
    """Of a sparse matrix in CSR form: the number of each non-zero's column, and where each row begins, and the last
    ends, in 16 bits a number where that is enough, else in 32 (an assumption)."""
    column, start = (16 if most < 1 << 16 else 32 for most in (columns - 1, nnz))
    return nnz * column + (rows + 1) * start


@dataclass(frozen=True)
class Spmv:
    """y = A x with a sparse A of ``rows`` x ``columns`` (as many as rows, if left out) in CSR form.

    One column of the array works: its units take a row of A each, all equally long (so cycles are a lower bound). Of x
    SRAM holds what fits; the rest is fetched from DRAM for every non-zero that needs it.
    """

    rows: int
    nnz: int
    columns: int = 0

    def __post_init__(self) -> None:
        _check_sizes(self, {"nnz": 0, "columns": 0})
        object.__setattr__(self, "columns", self.columns or self.rows)
        if self.nnz > self.rows * self.columns:
            raise HalfulpError(f"Spmv: {self.nnz} non-zeros do not fit in {self.rows} rows of {self.columns}.")

    @property
    def macs(self) -> int:
        return self.nnz


class Flow(NamedTuple):
    """Bits moved at one level for one kind of data: registers count what is written into them."""

    level: str  #: "register" (of operands), "accumulator" (the units' own registers), "sram" or "dram"
    kind: str  #: "A", "B", "C", "partial sums", "scales of A", "scales of B", "indices"
    read_bits: int
    written_bits: int


def element_bits(fmt: Any) -> int:
    """Bits of a number, without its share of a scale."""
    return fmt.element.bits if isinstance(fmt, BlockFormat) else fmt.bits


def _pieces(length: int, *cuts: int) -> int:
    """Pieces of 0 ... length - 1 that is cut at all multiples of one or two numbers."""
    return sum(-(-length // cut) for cut in cuts) - (-(-length // math.lcm(*cuts)) if len(cuts) == 2 else 0)


@dataclass(frozen=True)
class Schedule:
    """A product of matrices on an array.

    Parameters
    ----------
    rows, cols : of the array.
    sram_bits : capacity that the tiling rule may use; 0: only cycles and the traffic of the array are of interest.
    """

    rows: int
    cols: int
    datapath: Datapath
    dataflow: str
    workload: Matmul | Conv
    sram_bits: int = 0

    @cached_property
    def steps(self) -> dict[str, int]:
        """The dimensions in steps of the array: of k a step takes as many terms as a unit has multipliers."""
        w = self.workload
        return {"m": w.m, "n": w.n, "k": -(-w.k // multipliers(self.datapath.order))}

    @cached_property
    def folds(self) -> tuple[int, int]:
        """Rows and columns of folds."""
        row, column, _ = DATAFLOWS[self.dataflow]
        return -(-self.steps[row] // self.rows), -(-self.steps[column] // self.cols)

    @property
    def cycles(self) -> int:
        """Of all folds, one after the other."""
        stream = self.steps[DATAFLOWS[self.dataflow][2]]
        loading = 0 if self.dataflow == "output" else self.rows
        return math.prod(self.folds) * (stream + loading + self.rows + self.cols - 2)

    @cached_property
    def roles(self) -> tuple[str, str, str]:
        """The operands that are stationary, come by rows (X) and go by columns (Y)."""
        row, column, stream = DATAFLOWS[self.dataflow]
        by_axes = {frozenset(axes): operand for operand, axes in _AXES.items()}
        return by_axes[frozenset(row + column)], by_axes[frozenset(row + stream)], by_axes[frozenset(column + stream)]

    # ---- levels ---------------------------------------------------------------------------------------------------

    def moved(self, level: str, passes: dict[str, int]) -> list[Flow]:
        """What a level gives to the one below and takes from it, with so many passes of each operand.

        At the level "dram" A has the numbers of its images, and of every block's scale there is one; into the array the
        scale of a block goes once for every fold that has a part of it.
        """
        w, dp = self.workload, self.datapath
        flows = []
        for operand, fmt, lines in (("A", dp.a, w.m), ("B", dp.b, w.n)):
            numbers = w.a_numbers if operand == "A" and level == "dram" else lines * w.k
            flows.append(Flow(level, operand, passes[operand] * numbers * element_bits(fmt), 0))
            if isinstance(fmt, BlockFormat):
                cuts = [fmt.size]
                if level == "sram" and DATAFLOWS[self.dataflow][0] == "k":
                    cuts.append(self.rows * multipliers(dp.order))
                scales = passes[operand] * lines * _pieces(w.k, *cuts)
                flows.append(Flow(level, f"scales of {operand}", scales * fmt.scale.bits, 0))
        results, again = w.m * w.n, passes["C"] - 1
        if again:
            spilt = again * results * dp.accumulator.bits
            flows.append(Flow(level, "partial sums", spilt, spilt))
        return [*flows, Flow(level, "C", 0, results * dp.output.bits)]

    @property
    def array_passes(self) -> dict[str, int]:
        """How often each operand passes the array."""
        stationary, x, y = self.roles
        return {stationary: 1, x: self.folds[1], y: self.folds[0]}

    @cached_property
    def dram_passes(self) -> dict[str, int]:
        """How often each operand passes DRAM, by the tiling rule."""
        ways = [self.array_passes, *self._held(self.roles[1], self.roles[2], self.folds[0])]
        ways += self._held(self.roles[2], self.roles[1], self.folds[1])
        return min(ways, key=lambda passes: sum(f.read_bits + f.written_bits for f in self.moved("dram", passes)))

    def _held(self, held: str, passing: str, folds: int) -> list[dict[str, int]]:
        """Passes with as many panels of an operand held as fit; none if not even one does."""
        panel, other = self._panel_bits(held), 2 * self._panel_bits(passing)
        room = self.sram_bits - 2 * self._tile_bits
        if panel > room:
            return []
        if self._whole_bits(held) + other <= room:
            groups = 1
        else:
            panels = max(1, (room - other) // panel)
            groups = -(-folds // panels)
        return [{self.roles[0]: 1, held: 1, passing: groups}]

    def _numbers_bits(self, operand: str, numbers: int) -> int:
        """Bits that so many numbers of an operand take in SRAM."""
        fmt = {"A": self.datapath.a, "B": self.datapath.b, "C": self.datapath.accumulator}[operand]
        return math.ceil(numbers * (fmt.bits_per_element if isinstance(fmt, BlockFormat) else fmt.bits))

    def _whole_bits(self, operand: str) -> int:
        w = self.workload
        return self._numbers_bits(operand, {"A": w.a_numbers, "B": w.k * w.n, "C": w.m * w.n}[operand])

    def _extent(self, axis: str) -> int:
        """Numbers along an axis that one fold has, at most."""
        w, (row, column, _) = self.workload, DATAFLOWS[self.dataflow]
        tile = {row: self.rows, column: self.cols}.get(axis)
        whole = {"m": w.m, "k": w.k, "n": w.n}[axis]
        return whole if tile is None else min(whole, tile * (multipliers(self.datapath.order) if axis == "k" else 1))

    def _panel_bits(self, operand: str) -> int:
        """Bits of the part of an operand that one row or column of folds needs; of images never more than all."""
        panel = math.prod(self._extent(axis) for axis in _AXES[operand])
        return min(self._numbers_bits(operand, panel), self._whole_bits(operand))

    @property
    def _tile_bits(self) -> int:
        return self._panel_bits(self.roles[0])

    # ---- all of them ----------------------------------------------------------------------------------------------

    def flows(self) -> list[Flow]:
        """Bits moved at all levels.

        SRAM also takes in what DRAM gives, and gives what DRAM takes.
        """
        dram = self.moved("dram", self.dram_passes)
        return [*self._registers(), *through(self.moved("sram", self.array_passes), dram), *dram]

    def _registers(self) -> list[Flow]:
        """Bits written into the registers of the array.

        Operands that stream are written once a multiplication, sums once a step, into the accumulator (output
        stationary) or on their way down a column. A stationary operand is shifted in from the top.
        """
        w, dp = self.workload, self.datapath
        sums = w.m * w.n * self.steps["k"] * dp.accumulator.bits
        writes = {"A": w.macs, "B": w.macs}
        if self.dataflow != "output":
            others = w.n if self.dataflow == "weight" else w.m
            writes[self.roles[0]] = others * self._shifts()
        flows = [Flow("register", o, 0, writes[o] * element_bits(fmt)) for o, fmt in (("A", dp.a), ("B", dp.b))]
        return [*flows, Flow("accumulator", "partial sums", 0, sums)]

    def _shifts(self) -> int:
        """Registers that the k numbers of one column of the stationary operand are written into on their way in.

        A number that stays in row r of the array takes r + 1; only the last row used may have fewer than one for each
        multiplier.
        """
        steps, whole = self.steps["k"], multipliers(self.datapath.order)
        full, rest = divmod(steps, self.rows)
        rows = full * self.rows * (self.rows + 1) // 2 + rest * (rest + 1) // 2
        return whole * rows - (whole * steps - self.workload.k) * ((steps - 1) % self.rows + 1)


def through(sram: list[Flow], dram: list[Flow]) -> list[Flow]:
    """The traffic of SRAM with an array, and with DRAM besides."""
    total = {flow.kind: (flow.read_bits, flow.written_bits) for flow in sram}
    for flow in dram:
        read, written = total.get(flow.kind, (0, 0))
        total[flow.kind] = (read + flow.written_bits, written + flow.read_bits)
    return [Flow("sram", kind, *bits) for kind, bits in total.items()]


def sparse_flows(datapath: Datapath, work: Spmv, sram_bits: int) -> list[Flow]:
    """Bits moved at all levels by a sparse matrix-vector product."""
    a, b, total = element_bits(datapath.a), element_bits(datapath.b), datapath.accumulator.bits
    needed = min(work.columns, work.nnz) * b
    held = min(needed, sram_bits)
    missing = -(-work.nnz * b * (needed - held) // needed) if needed else 0
    indices = csr_index_bits(work.nnz, work.rows, work.columns)
    out = work.rows * datapath.output.bits
    level = {"A": work.nnz * a, "indices": indices}
    dram = [Flow("dram", kind, bits, 0) for kind, bits in level.items()]
    dram += [Flow("dram", "B", held + missing, 0), Flow("dram", "C", 0, out)]
    sram = [Flow("sram", kind, bits, 0) for kind, bits in (level | {"B": work.nnz * b}).items()]
    steps = work.rows * sparse_steps(datapath, work)
    registers = [Flow("register", "A", 0, work.nnz * a), Flow("register", "B", 0, work.nnz * b)]
    registers.append(Flow("accumulator", "partial sums", 0, steps * total))
    return [*registers, *through([*sram, Flow("sram", "C", 0, out)], dram), *dram]


def sparse_steps(datapath: Datapath, work: Spmv) -> int:
    """Steps that a row takes, all equally long."""
    return -(-work.nnz // (work.rows * multipliers(datapath.order)))
