"""Machine: a datapath bound to a backend, a seed and a ledger. The hardware that runs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import ThreadpoolController

from ..emulator.datapath import Datapath, Fused
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat, Format, carrier
from ..emulator.ledger import Ledger, Operation, dot_operations
from ..emulator.names import scalar_format
from ..emulator.random import Role, Source, source, stream
from ..emulator.rounding import RNE, Rounding
from .backends import backend as make_backend
from .certificates import Certificate, certificate, magnitude
from .loops import EXACT
from .paths import (
    FP64,
    ONE,
    Op,
    Path,
    accumulate_path,
    accumulate_path32,
    aligned_width,
    aligns,
    convert_path,
    mac_path,
)
from .structs import Draws, FusedUnit, Target
from .target import draws, target, target32

_blas_controller = lru_cache(maxsize=1)(ThreadpoolController)  # it looks for libraries when it is made
_ANY32 = target32(FloatFormat(5, 10), RNE, False)  #: for the path NATIVE, which looks at nothing in it
_INDEX_BITS = 32  #: width of a column index in a sparse matrix, as traffic counts it


class Machine:
    """Emulated hardware.

    Arrays hold *values* in float64, exactly representable in their format; ``fmt.encode`` gives codes. Operands
    are taken to be stored in the datapath's operand formats: a value that is not is first rounded there with
    ``operand_rounding`` (not counted in the ledger; use ``quantize`` for conversions that hardware performs).

    Parameters
    ----------
    datapath : Datapath, or its text form (``"bf16/fp32@RNE"``).
    backend : ``"cpu"`` (Numba), ``"gpu"`` (CuPy) or ``"cxx"`` (the GPU's source under the host's compiler).
        All give the same bits. NumPy arrays in, NumPy arrays out; on the GPU CuPy arrays stay there.
    seed : in [0, 2^62). Random bits depend on (seed, unit, number of the call, element, step) only.
    threads : threads of the CPU; never changes a bit. Default: ``HALFULP_THREADS`` or all processors.
    unit : 0...15, tells apart machines that share a seed, so that they draw different random bits.
    random : where SR's random bits come from: ``"philox"``, or hardware's registers, ``"lfsr16:units=8"``
        (``emulator.random.source``).
    """

    def __init__(
        self,
        datapath: Datapath | str,
        backend: str = "cpu",
        seed: int = 0,
        ledger: Ledger | None = None,
        threads: int | None = None,
        unit: int = 0,
        random: Source | str = "philox",
    ) -> None:
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 62:
            raise HalfulpError(f"seed must be an integer in [0, 2**62), not {seed}.")
        if not 0 <= unit < 16:
            raise HalfulpError(f"unit must lie in 0...15, not {unit}.")
        self.datapath = dp = Datapath.parse(datapath)
        self.backend = make_backend(backend, threads)
        self._no_flags = self.backend.array([0], np.uint8)
        self.seed = int(seed)
        self.unit = unit
        self.source = source(random)
        self.ledger = Ledger() if ledger is None else ledger
        self.calls = 0
        for fmt in (dp.a, dp.b, dp.accumulator, dp.output, dp.product or dp.output):
            target(fmt, RNE)  # refuses what arrays cannot carry
        for rounding in (dp.rounding, dp.output_rounding, dp.operand_rounding, dp.product_rounding):
            if rounding is not None and rounding.random_bits:
                self.source.random_bits(self.seed, 0, 0, 0, rounding.random_bits)  # refuses more than it has
        if isinstance(dp.order, Fused):
            self._fused_parameters(dp.order)

    def __repr__(self) -> str:
        return f"Machine({self.datapath.name!r}, backend={self.backend.name!r}, seed={self.seed})"

    # ---- rounding ------------------------------------------------------------------------------------------

    def quantize(
        self,
        x: ArrayLike,
        fmt: Format | str | None = None,
        rounding: Rounding | str | None = None,
        stored: Format | str = "fp64",
    ) -> Any:
        """Each element of ``x`` rounded once into ``fmt`` (default: the output format and rounding).

        ``stored`` is the format that x is read in; it matters to the ledger only.
        """
        fmt, source = self.datapath.output if fmt is None else scalar_format(fmt), scalar_format(stored)
        rounding = self.datapath.output_rounding if rounding is None else Rounding.parse(rounding)
        self._open("quantize")
        array = self._values(x)
        out = self._convert(array, fmt, rounding, Role.OUTPUT)
        if source != fmt:
            self.ledger.count(Operation("round", source, source, fmt, rounding), array.size)
        self.ledger.move(array.size * (source.bits + fmt.bits))
        return self._hand_out(out, x)

    def load(self, x: ArrayLike, stored: Format, needed: Format) -> Any:
        """``x`` as an operand: itself where it is stored as ``needed``, otherwise converted, and counted."""
        return x if stored == needed else self.quantize(x, needed, self.datapath.operand_rounding, stored)

    # ---- element-wise --------------------------------------------------------------------------------------

    def add(self, x: ArrayLike, y: ArrayLike) -> Any:
        """x + y, broadcast, rounded once into the output format."""
        dp = self.datapath
        self._open("add")
        xs, ys = self._operand(x, dp.a, Role.A), self._operand(y, dp.b, Role.B)
        out = self._elementwise(Op.ADD, (xs, ys), (dp.a, ONE, dp.b))
        self.ledger.count(Operation("add", dp.a, dp.b, dp.output, dp.output_rounding), out.size)
        self.ledger.move(xs.size * dp.a.bits + ys.size * dp.b.bits + out.size * dp.output.bits)
        return self._hand_out(out, x, y)

    def mul(self, x: ArrayLike, y: ArrayLike) -> Any:
        """x * y, broadcast, rounded once into the output format."""
        dp = self.datapath
        self._open("mul")
        xs, ys = self._operand(x, dp.a, Role.A), self._operand(y, dp.b, Role.B)
        out = self._elementwise(Op.MUL, (xs, ys), (dp.a, dp.b, ONE))
        self.ledger.count(Operation("mul", dp.a, dp.b, dp.output, dp.output_rounding), out.size)
        self.ledger.move(xs.size * dp.a.bits + ys.size * dp.b.bits + out.size * dp.output.bits)
        return self._hand_out(out, x, y)

    def fma(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Any:
        """x * y + z, broadcast, rounded once into the output format; ``z`` enters through the accumulator format."""
        dp = self.datapath
        self._open("fma")
        xs, ys, zs = (
            self._operand(x, dp.a, Role.A),
            self._operand(y, dp.b, Role.B),
            self._operand(z, dp.accumulator, Role.C),
        )
        out = self._elementwise(Op.FMA, (xs, ys, zs), (dp.a, dp.b, dp.accumulator))
        self.ledger.count(Operation("mul", dp.a, dp.b, None), out.size)
        self.ledger.count(Operation("add", dp.accumulator, dp.accumulator, dp.output, dp.output_rounding), out.size)
        self.ledger.move(
            xs.size * dp.a.bits + ys.size * dp.b.bits + zs.size * dp.accumulator.bits + out.size * dp.output.bits
        )
        return self._hand_out(out, x, y, z)

    def axpy(self, alpha: float, x: ArrayLike, y: ArrayLike) -> Any:
        """alpha * x + y with one rounding per element."""
        return self.fma(alpha, x, y)

    # ---- contractions --------------------------------------------------------------------------------------

    def matmul(self, a: ArrayLike, b: ArrayLike) -> Any:
        """A @ B on the datapath.

        Parameters
        ----------
        a : (M, K) values in format ``a``. b : (K, N) values in format ``b``.

        Returns
        -------
        (M, N) values in the output format, equal code for code to ``emulator.datapath.dot`` of every row and column.
        """
        dp = self.datapath
        self._open("matmul")
        xs, ys = self._matrices(a, b)
        (m, k), n = xs.shape, ys.shape[1]
        if dtype := self._certificate(xs, ys).dtype:
            out = self._blas(xs, ys, dtype)
        elif isinstance(dp.order, Fused):
            out = self.backend.xp.zeros(m * n)
            args: tuple[Any, ...] = (xs.ravel(), ys.ravel(), out, k, n)
            if aligns(dp):
                args += (self.backend.scratch("exact", m * n), self.backend.scratch("places", m * n, np.int64))
                args += (self.backend.scratch("random", m * n), *self._fused_parameters(dp.order))
                self.backend.launch("matmul_aligned", m * n, *args, work=k)
            else:
                self.backend.launch("matmul_fused", m * n, *args, *self._fused_parameters(dp.order), work=8 * k)
        else:
            out = self._sequential(xs, ys)
        self._count_dots(m * n, k)
        self.ledger.move(xs.size * dp.a.bits + ys.size * dp.b.bits + out.size * dp.output.bits)
        return self._hand_out(self._output(out).reshape(m, n), a, b)

    def explain(self, a: ArrayLike, b: ArrayLike) -> str:
        """How ``matmul`` would compute these two, and why so: by BLAS (``kernels.certificates``), or by a kernel."""
        self._open("matmul")
        try:
            dtype, reason = self._certificate(*self._matrices(a, b))
        finally:
            self.calls -= 1  # draws nothing
        if dtype:
            return f"BLAS in {dtype}: {reason}."
        kernel = "fused" if isinstance(self.datapath.order, Fused) else Path(self._sequential_parameters()[0]).name
        narrow = self._path32()
        kernel = f"{narrow.name} kernel on binary32 carriers" if narrow is not None else f"{kernel} kernel"
        return f"the {kernel}: {reason}."

    def dot(self, x: ArrayLike, y: ArrayLike) -> float:
        """The inner product of two vectors, as a Python float."""
        self._operation = "dot"
        xs, ys = self._values(x), self._values(y)
        if xs.ndim != 1 or xs.shape != ys.shape:
            raise HalfulpError(f"dot needs two vectors of one length, not shapes {xs.shape} and {ys.shape}.")
        return float(self.matmul(xs[None, :], ys[:, None])[0, 0])

    def spmv(self, matrix: Any, x: ArrayLike) -> Any:
        """A @ x for a sparse matrix in CSR form; each row is one dot product, in storage order.

        Parameters
        ----------
        matrix : object with ``data``, ``indices``, ``indptr`` and ``shape`` (SciPy or CuPy CSR), (M, N).
        x : (N,) values in format ``b``; the matrix is in format ``a``.
        """
        dp = self.datapath
        self._open("spmv")
        xs = self._values(x)
        if getattr(matrix, "format", None) != "csr" or xs.ndim != 1 or matrix.shape[1] != xs.shape[0]:
            given = (
                f"{getattr(matrix, 'format', type(matrix).__name__)} {getattr(matrix, 'shape', '')} and {np.shape(x)}"
            )
            raise HalfulpError(f"spmv needs a CSR matrix (M, N) and a vector (N,), not {given}.")
        columns = self.backend.array(matrix.indices, np.int64)
        if columns.size and not 0 <= int(columns.min()) <= int(columns.max()) < xs.size:
            raise HalfulpError(f"spmv got column indices outside 0...{xs.size - 1}.")
        values = self._values(matrix.data) if columns.size else self.backend.xp.zeros(0)
        values = self._operand(values, dp.a, Role.A) if columns.size else values
        xs = self._operand(xs, dp.b, Role.B)
        gathered = xs[columns]
        starts = self.backend.array(matrix.indptr, np.int64)
        rows = matrix.shape[0]
        out = self.backend.xp.zeros(rows)
        work = 4 * max(values.size // max(rows, 1), 1)
        if isinstance(dp.order, Fused):
            self.backend.launch(
                "ragged_fused", rows, values, gathered, starts, out, *self._fused_parameters(dp.order), work=work
            )
            lengths, times = np.unique(np.diff(matrix.indptr), return_counts=True)
            for length, count in zip(lengths.tolist(), times.tolist(), strict=True):
                self._count_dots(count, length)
        else:
            path, t, product_path, product = self._sequential_parameters()
            drawn = (self._draws(Role.ACCUMULATOR), self._draws(Role.PRODUCT))
            self.backend.launch(
                "ragged_dot", rows, values, gathered, starts, out, *drawn, path, t, product_path, product, work=work
            )
            self._count_dots(1, values.size)
            if dp.output != dp.accumulator:
                self._count_dots(rows - 1, 0)
        self.ledger.move(
            values.size * (dp.a.bits + _INDEX_BITS)
            + (rows + 1) * _INDEX_BITS
            + xs.size * dp.b.bits
            + rows * dp.output.bits
        )
        return self._hand_out(self._output(out), x)

    def _matrices(self, a: ArrayLike, b: ArrayLike) -> tuple[Any, Any]:
        """The operands of a matrix product, in their formats."""
        xs, ys = self._values(a), self._values(b)
        if xs.ndim != 2 or ys.ndim != 2 or xs.shape[1] != ys.shape[0]:
            raise HalfulpError(f"matmul needs shapes (M, K) and (K, N), not {xs.shape} and {ys.shape}.")
        return self._operand(xs, self.datapath.a, Role.A), self._operand(ys, self.datapath.b, Role.B)

    def _certificate(self, xs: Any, ys: Any) -> Certificate:
        if self.backend.name != "cpu":
            return Certificate(None, f"backend {self.backend.name} has kernels only")
        return certificate(self.datapath, xs.shape[1], magnitude(xs), magnitude(ys))

    def _blas(self, xs: np.ndarray, ys: np.ndarray, dtype: str) -> np.ndarray:
        """The flat product under a certificate, zeros positive."""
        with _blas_controller().limit(limits=self.backend.threads, user_api="blas"):
            product = xs.astype(dtype, copy=False) @ ys.astype(dtype, copy=False)
        return np.add(product, 0.0, dtype=np.float64).ravel()

    # ---- inside --------------------------------------------------------------------------------------------

    def _open(self, operation: str) -> None:
        """Open a call: it owns the random streams of its number."""
        self.calls += 1
        self._operation = operation

    def _draws(self, role: Role) -> Draws:
        return draws(self.source, self.seed, stream(self.calls, role, self.unit))

    def _values(self, x: Any) -> Any:
        on_device = self.backend.xp is not np and self.backend.is_native(x)
        array = self.backend.array(x if on_device and x.dtype.kind == "f" else carrier(self.backend.to_host(x)))
        if array.size == 0:
            raise HalfulpError(f"{self._operation} got an empty array (shape {np.shape(x)}).")
        return array

    def _hand_out(self, out: Any, *inputs: Any) -> Any:
        return out if any(self.backend.is_native(x) for x in inputs) else self.backend.to_host(out)

    def _convert(self, array: Any, fmt: Format, rounding: Rounding, role: Role) -> Any:
        if fmt == FP64:
            return array.copy()
        t = target(fmt, rounding, operand=role in (Role.A, Role.B, Role.C))
        return self._compute(Op.CONVERT, (array.ravel(),), t, convert_path(fmt, rounding), role).reshape(array.shape)

    def _compute(self, op: Op, operands: tuple[Any, ...], t: Target, path: Path, role: Role) -> Any:
        """An element-wise operation on flat arrays."""
        x, y, z = (operands * 3)[:3] if len(operands) == 1 else (*operands, operands[0])[:3]
        out = self.backend.xp.empty(x.size)
        random = self.backend.scratch("random", x.size) if t.random_bits else out
        args = (int(op), x, y, z, out, self._no_flags, 0, self.backend.scratch("exact", x.size), random)
        self.backend.launch("compute", x.size, *args, self._draws(role), int(path), t)
        return out

    def _operand(self, x: ArrayLike, fmt: Format, role: Role) -> Any:
        return self._convert(self._values(x), fmt, self.datapath.operand_rounding, role)

    def _output(self, accumulated: Any) -> Any:
        dp = self.datapath
        if dp.output == dp.accumulator:
            return accumulated
        return self._convert(accumulated, dp.output, dp.output_rounding, Role.OUTPUT)

    def _elementwise(self, op: Op, operands: tuple[Any, ...], formats: tuple[Format, Format, Format]) -> Any:
        """``op`` on broadcast operands; ``formats`` are those of its a * b + c."""
        dp, xp = self.datapath, self.backend.xp
        try:
            shape = np.broadcast_shapes(*(v.shape for v in operands))
        except ValueError:
            shapes = [str(v.shape) for v in operands]
            shown = f"{', '.join(shapes[:-1])} and {shapes[-1]}"
            raise HalfulpError(f"shapes {shown} do not broadcast together.") from None
        t = target(dp.output, dp.output_rounding)
        path = mac_path(*formats, dp.output, dp.output_rounding)
        flat = tuple(xp.array(xp.broadcast_to(v, shape)).ravel() for v in operands)
        return self._compute(op, flat, t, path, Role.OUTPUT).reshape(shape)

    def _sequential(self, xs: Any, ys: Any) -> Any:
        """The flat product by the running sums' kernels, on binary32 carriers where they will do."""
        (m, k), n = xs.shape, ys.shape[1]
        path, t, product_path, product = self._sequential_parameters()
        drawn, narrow = self._draws(Role.ACCUMULATOR), self._path32()
        kind = np.float64 if narrow is None else np.float32
        if narrow is not None:
            path, t = int(narrow), target32(self.datapath.accumulator, self.datapath.rounding, False) or _ANY32
        out = self.backend.xp.zeros(m * n, kind)
        args: tuple[Any, ...] = (*(x.astype(kind, copy=False).ravel() for x in (xs, ys)), out, k, n)
        if product_path == EXACT and path != Path.WIDE:
            exact, random = (self.backend.scratch(name, m * n, kind) for name in ("exact", "random"))
            self.backend.launch("matmul_exact", m * n, *args, exact, random, drawn, path, t, work=k)
        else:
            random = self.backend.xp.zeros(m * n)  # read where nothing is stochastic, too
            product_random = random if self.datapath.product is None else self.backend.xp.zeros(m * n)
            args += (random, product_random, drawn, self._draws(Role.PRODUCT), path, t, product_path, product)
            self.backend.launch("matmul", m * n, *args, work=k)
        return out.astype(np.float64, copy=False)

    def _path32(self) -> Path | None:
        return accumulate_path32(self.datapath) if self.backend.name == "cpu" else None

    def _sequential_parameters(self) -> tuple[int, Target, int, Target]:
        dp = self.datapath
        t = target(dp.accumulator, dp.rounding)
        if dp.product is None:
            return int(accumulate_path(dp)), t, EXACT, t
        product_path = mac_path(dp.a, dp.b, ONE, dp.product, dp.product_rounding)
        return int(accumulate_path(dp)), t, int(product_path), target(dp.product, dp.product_rounding)

    def _fused_parameters(self, order: Fused) -> tuple[Any, ...]:
        """Parameters of the fused kernels, after checking that 62-bit integers hold every aligned sum."""
        dp = self.datapath
        accumulator = dp.accumulator
        kept, width = aligned_width(dp, order)
        if dp.a.precision + dp.b.precision > 62 or width > 62:
            needed = f"aligned sums of {width} bits and products of {dp.a.precision + dp.b.precision}"
            raise HalfulpError(f"{order} on {dp.name} needs {needed}; at most 62 are built.")
        unit = FusedUnit(
            order.terms,
            kept,
            int(not isinstance(accumulator, FixedFormat)),
            dp.a.precision,
            dp.a.emin,
            dp.b.precision,
            dp.b.emin,
            accumulator.emin,
        )
        return self._draws(Role.ACCUMULATOR), unit, target(accumulator, dp.rounding)

    def _count_dots(self, dots: int, length: int) -> None:
        for operation, times in dot_operations(self.datapath, length).items():
            self.ledger.count(operation, dots * times)
