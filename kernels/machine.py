"""Machine: a datapath bound to a backend, a seed and a ledger. The hardware that runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..emulator.blocks import BlockFormat, Blocks
from ..emulator.dataflow import csr_index_bits
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format, PositFormat
from ..emulator.ledger import Operation, dot_operations
from ..emulator.names import format as named
from ..emulator.names import scalar_format
from ..emulator.random import Role
from ..emulator.rounding import Rounding
from .binding import Binding, bits_of
from .convolution import Bias, convolve, patches_of, refuse_blocks, spread, unfold, window
from .events import Events
from .operands import Operand, converted, numbers, shape_of
from .paths import ONE, Op
from .products import way_of
from .sparse import enter_rows, lengths_of, multiply_rows


class Machine(Binding):
    """Emulated hardware.

    Arrays hold *values* in float64 (or float32), exactly representable in their format; ``fmt.encode`` gives codes.
    Operands are stored in the datapath's operand formats: a value that is not is refused, or first rounded there with
    ``operand_rounding`` (not counted in the ledger; use ``quantize`` for conversions that hardware performs). What is
    used often need be looked at only once: ``hold``; results of calls with ``held=True`` are such operands already.

    A Machine is one thread's: calls are numbered as they come, and their numbers choose the random bits.

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
    on_inexact : ``"error"`` refuses operands that hold what their format does not; ``"quantize"`` rounds them.
    on_nonfinite : ``"allow"``, or ``"error"``: operands with an infinity or a NaN are refused.
    """

    # ---- rounding ------------------------------------------------------------------------------------------

    def quantize(
        self,
        x: ArrayLike,
        fmt: Format | str | None = None,
        rounding: Rounding | str | None = None,
        stored: Format | str = "fp64",
        held: bool = False,
        read: int | None = None,
    ) -> Any:
        """Each element of ``x`` rounded once into ``fmt`` (default: the output format and rounding).

        ``stored`` is the format that x is read in, and ``read`` how many numbers are, where those are not x's own, as
        of a mean; they matter to the ledger only.
        """
        fmt, source = self.datapath.output if fmt is None else scalar_format(fmt), scalar_format(stored)
        rounding = self.datapath.output_rounding if rounding is None else Rounding.parse(rounding)
        self._open("quantize")
        array = numbers(x, self._operation, self.backend)
        if isinstance(fmt, PositFormat):
            out = converted(array, fmt, rounding, self._draws(Role.OUTPUT), self.backend)
        else:
            out = self._convert(array, fmt, rounding, Role.OUTPUT)
        if source != fmt:
            self.ledger.count(Operation("round", source, source, fmt, rounding), array.size)
        self.ledger.move((array.size if read is None else read) * source.bits + array.size * fmt.bits)
        return self._hand_out(out, fmt, held, x)

    def hold(self, x: Any, fmt: Format | BlockFormat | str, axis: int = -1) -> Any:
        """``x`` as an operand in ``fmt`` of any number of calls, which need not look at it again.

        x : array, ``Blocks``, or a CSR matrix; it must not be changed as long as it is held. axis : of blocks, the
        summed one: -1 in ``a``, 0 in ``b``. Takes its place as an operand of all products and elementwise operations,
        also of other machines on the same backend; so do an array's transpose ``.T`` and, if it is not in blocks, its
        parts ``[...]``. It is a call, with random bits of its own, only where operands are rounded stochastically.
        """
        self._operation = "hold"
        if self.datapath.operand_rounding.random_bits:
            self._open("hold")
        fmt, entrance, drawn = named(fmt), self._entrance(), self._draws(Role.A)
        if getattr(x, "format", None) == "csr":
            return enter_rows(x, fmt, entrance, drawn, at_once=True)
        return entrance.enter(x, fmt, "x", drawn, axis)

    def load(self, x: ArrayLike | Operand, stored: Format, needed: Format, held: bool = False) -> Any:
        """``x`` as an operand: itself where it is stored as ``needed``, otherwise converted, and counted."""
        return x if stored == needed else self.quantize(x, needed, self.datapath.operand_rounding, stored, held)

    # ---- element-wise --------------------------------------------------------------------------------------

    def add(self, x: ArrayLike, y: ArrayLike, held: bool = False) -> Any:
        """x + y, broadcast, rounded once into the output format."""
        dp = self.datapath
        self._open("add")
        xs, ys = self._operand(x, dp.a, Role.A), self._operand(y, dp.b, Role.B)
        out = self._elementwise(Op.ADD, (xs, ys), (dp.a, ONE, dp.b))
        self.ledger.count(Operation("add", dp.a, dp.b, dp.output, dp.output_rounding), out.size)
        self.ledger.move(xs.size * dp.a.bits + ys.size * dp.b.bits + out.size * dp.output.bits)
        return self._hand_out(out, dp.output, held, x, y)

    def mul(self, x: ArrayLike, y: ArrayLike, held: bool = False) -> Any:
        """x * y, broadcast, rounded once into the output format."""
        dp = self.datapath
        self._open("mul")
        xs, ys = self._operand(x, dp.a, Role.A), self._operand(y, dp.b, Role.B)
        out = self._elementwise(Op.MUL, (xs, ys), (dp.a, dp.b, ONE))
        self.ledger.count(Operation("mul", dp.a, dp.b, dp.output, dp.output_rounding), out.size)
        self.ledger.move(xs.size * dp.a.bits + ys.size * dp.b.bits + out.size * dp.output.bits)
        return self._hand_out(out, dp.output, held, x, y)

    def fma(self, x: ArrayLike, y: ArrayLike, z: ArrayLike, held: bool = False) -> Any:
        """x * y + z, broadcast, rounded once into the output format; ``z`` enters through the accumulator format. A
        datapath with a ``product`` format rounds the product there first."""
        dp = self.datapath
        self._open("fma")
        xs, ys, zs = (
            self._operand(x, dp.a, Role.A),
            self._operand(y, dp.b, Role.B),
            self._operand(z, dp.accumulator, Role.C),
        )
        if dp.product is None:
            out = self._elementwise(Op.FMA, (xs, ys, zs), (dp.a, dp.b, dp.accumulator))
        else:
            into = dp.product, dp.product_rounding, Role.PRODUCT
            products = self._elementwise(Op.MUL, (xs, ys), (dp.a, dp.b, ONE), into)
            out = self._elementwise(Op.ADD, (products, zs), (dp.product, ONE, dp.accumulator))
        term, result = dp.product or dp.accumulator, (dp.output, dp.output_rounding)
        self.ledger.count(Operation("mul", dp.a, dp.b, dp.product, dp.product_rounding), out.size)
        self.ledger.count(Operation("add", term, dp.accumulator, *result), out.size)
        self.ledger.move(
            xs.size * dp.a.bits + ys.size * dp.b.bits + zs.size * dp.accumulator.bits + out.size * dp.output.bits
        )
        return self._hand_out(out, dp.output, held, x, y, z)

    def axpy(self, alpha: float, x: ArrayLike, y: ArrayLike, held: bool = False) -> Any:
        """alpha * x + y with one rounding per element."""
        return self.fma(alpha, x, y, held)

    # ---- contractions --------------------------------------------------------------------------------------

    def matmul(self, a: ArrayLike | Blocks, b: ArrayLike | Blocks, held: bool = False) -> Any:
        """A @ B on the datapath.

        Parameters
        ----------
        a : (M, K) values in format ``a``. b : (K, N) values in format ``b``. Of block formats also ``Blocks``, along K.
            Or stacks of as many matrices, (S, M, K) and (S, K, N), each multiplied by its counterpart; a tensor scale
            is a stack's.

        Returns
        -------
        (M, N), or (S, M, N), values in the output format, equal code for code to ``emulator.datapath.dot`` of every row
        and column: float64, or float32 where both operands are arrays of it, not blocks, and binary32 holds the output
        format; and where fixed point that it holds is rounded from an accumulator, and to be held.
        """
        return self._contract(a, b, held)[0]

    def observe(self, a: ArrayLike, b: ArrayLike) -> tuple[Any, Events]:
        """``matmul``, bit for bit, and what went on inside (``kernels.observation``), 2 to 200 times slower."""
        out, events = self._contract(a, b, observed=True)
        assert events is not None
        return out, events

    def _contract(self, a: Any, b: Any, held: bool = False, observed: bool = False) -> tuple[Any, Events | None]:
        """A product of matrices and, if it is observed, what went on inside."""
        self._open("matmul")
        x, y = self._matrices(a, b)
        (*stack, m, k), n = x.values.shape, y.values.shape[-1]
        out, events = self._product(x, y, self.datapath, observed, held)

        def operands(i: int) -> tuple[Any, Any]:
            place = np.unravel_index(i // n, (*stack, m))
            return x.values[place], y.values[(*place[:-1], slice(None), i % n)]

        self._offer(out.size, operands)
        self._count_dots(out.size, k)
        self._move(x, y, out.size)
        return self._hand_out(out.reshape(*stack, m, n), self.datapath.output, held, a, b), events

    def explain(self, a: ArrayLike | Blocks, b: ArrayLike | Blocks) -> str:
        """How ``matmul`` would compute these two, and why so: by BLAS (``kernels.certificates``), or by a kernel."""
        self._open("matmul")
        try:
            x, y = (operand.matrices()[0] for operand in self._matrices(a, b))  # of stacks the first
            return str(way_of(self.datapath, x, y, self.backend))
        finally:
            self.calls -= 1  # draws nothing

    def dot(self, x: ArrayLike, y: ArrayLike) -> float:
        """The inner product of two vectors, as a Python float."""
        shapes = [shape_of(v) for v in (x, y)]
        if shapes[0] == (0,):
            raise HalfulpError("dot got empty arrays.")
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise HalfulpError(f"dot needs two vectors of one length, not shapes {shapes[0]} and {shapes[1]}.")
        row, column = (_reshaped(v, shape) for v, shape in ((x, (1, -1)), (y, (-1, 1))))
        return float(self.matmul(row, column)[0, 0])

    def sum(self, x: ArrayLike, axis: int | None = None) -> Any:
        """The sum of values in format ``a`` along an axis (default: of all), added up as products are by the datapath's
        order; ``b`` and the product's rounding have no part in it."""
        self._open("sum")
        values = numbers(x, "sum", self.backend)
        if axis is not None and not (isinstance(axis, int | np.integer) and -values.ndim <= axis < values.ndim):
            raise HalfulpError(f"sum of an array of shape {values.shape} has no axis {axis!r}.")
        moved = values.reshape(1, -1) if axis is None else self.backend.xp.moveaxis(values, axis, -1)
        adder = replace(self.datapath, b=ONE, product=None)
        given = replace(x, values=moved) if isinstance(x, Operand) and x.codes is None else moved
        entered = self._entrance().enter(given, adder.a, "x", self._draws(Role.A))
        ones = Operand(self.backend.xp.ones((moved.shape[-1], 1), entered.values.dtype), ONE, 1.0)
        rows = replace(entered, values=entered.values.reshape(-1, moved.shape[-1]))
        out, _ = self._product(rows, ones, adder)
        for operation, times in dot_operations(adder, moved.shape[-1]).items():
            if operation.kind != "mul":
                self.ledger.count(operation, len(out) * times)
        self.ledger.move(bits_of(adder.a, values.size) + bits_of(adder.output, out.size))
        out = self._hand_out(out, adder.output, False, x)
        return float(out[0]) if axis is None else out.reshape(moved.shape[:-1])

    def conv2d(
        self,
        x: ArrayLike,
        w: ArrayLike,
        stride: int = 1,
        padding: int = 0,
        held: bool = False,
        bias: ArrayLike | None = None,
    ) -> Any:
        """The convolution (as networks have it: no kernel is flipped) of images with kernels, on the datapath.

        Parameters
        ----------
        x : (N, C, H, W) values in format ``a``. w : (O, C, kh, kw) values in format ``b``.
        padding : rows and columns of +0 around the images; they are multiplied and added like the others.
        bias : (O,) values in format ``b``, weights of a constant input 1 (rounded into ``a``) that comes last.

        Returns
        -------
        (N, O, (H + 2 padding - kh) // stride + 1, ...) values in the output format: each the dot product of a patch and
        a kernel, flattened in the order (c, i, j), and then the bias.
        """
        dp = self.datapath
        self._open("conv2d")
        geometry = window(shape_of(x), shape_of(w), stride, padding)
        if bias is not None and shape_of(bias) != shape_of(w)[:1]:
            raise HalfulpError(f"conv2d with {shape_of(w)[0]} kernels needs as many biases, not {shape_of(bias)}.")
        entrance = self._entrance()
        images = entrance.enter(x, dp.a, "x", self._draws(Role.A))
        kernels = entrance.enter(w, dp.b, "w", self._draws(Role.B))
        added = None
        if bias is not None:
            added = Bias(entrance.enter(bias, dp.b, "bias", self._draws(Role.C)).values, self.one)
        sums, way = convolve(dp, images, kernels, geometry, self.backend, self._draw(), added)
        depth = kernels.values[0].size + (added is not None)
        self.ledger.ways[way.name] += sums.size * depth
        patch = patches_of(images.values, geometry, self.backend)
        pixels = geometry.out_height * geometry.out_width

        def operands(i: int) -> tuple[Any, Any]:
            (image, kernel), pixel = divmod(i // pixels, len(kernels.values)), i % pixels
            pair = patch(image, pixel), self.backend.to_host(kernels.values[kernel].reshape(-1))
            return pair if added is None else (np.append(pair[0], self.one), np.append(pair[1], added.weights[kernel]))

        self._offer(sums.size, operands)
        self._count_dots(sums.size, depth)
        self._move(images, kernels, sums.size)
        self.ledger.move(0 if added is None else bits_of(dp.b, len(kernels.values)))
        shape = (len(images.values), len(kernels.values), geometry.out_height, geometry.out_width)
        out = self._finish(sums, self._room(sums, images.values, kernels.values))
        return self._hand_out(out.reshape(shape), dp.output, held, x, w)

    def conv2d_grad_weight(
        self, x: ArrayLike, dy: ArrayLike, sides: tuple[int, int], stride: int = 1, padding: int = 0, held: bool = False
    ) -> Any:
        """The gradient of a loss at the weights of a convolution, and at its bias.

        Parameters
        ----------
        x : (N, C, H, W), what it went over, in format ``a``. dy : (N, O, H', W'), the gradient at its results, in
            format ``b``. sides : (kh, kw).

        Returns
        -------
        (O, C kh kw + 1) values in the output format: each the dot product, over (image, row, column), of a line of
        patches and ``dy``; in the last column of ones and ``dy``. Counted as dot products; x and dy are read once.
        """
        dp = self.datapath
        self._open("conv2d_grad_weight")
        refuse_blocks(dp)
        shape, results = shape_of(x), shape_of(dy)
        geometry = window(shape, (*results[1:2], *shape[1:2], *sides), stride, padding)
        if results != (shape[0], *results[1:2], geometry.out_height, geometry.out_width):
            raise HalfulpError(
                f"a gradient {results} is none at the results of conv2d of {shape} with {sides} kernels."
            )
        entrance = self._entrance()
        images = entrance.enter(x, dp.a, "x", self._draws(Role.A))
        given = entrance.enter(dy, dp.b, "dy", self._draws(Role.B))
        lines = unfold(images, geometry, self.backend, Bias(None, self.one))
        columns = replace(given, values=given.values.transpose(0, 2, 3, 1).reshape(-1, results[1]))
        out, _ = self._product(lines, columns, dp)
        (m, k), n = lines.values.shape, results[1]
        self._offer(m * n, lambda i: (lines.values[i // n], columns.values[:, i % n]))
        self._count_dots(m * n, k)
        self._move(images, given, out.size)
        return self._hand_out(out.reshape(m, n).T, dp.output, held, x, dy)

    def conv2d_grad_input(
        self,
        dy: ArrayLike,
        w: ArrayLike,
        size: tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        held: bool = False,
    ) -> Any:
        """The gradient of a loss at the images that a convolution went over.

        Parameters
        ----------
        dy : (N, O, H', W'), the gradient at its results, in format ``a``. w : (O, C, kh, kw), its kernels, in format
            ``b``. size : (H, W) of the images.

        Returns
        -------
        (N, C, H, W) values in the output format: the convolution of ``dy``, with zeros between its pixels and around
        them, which are multiplied and added like the others, but not read, with the kernels turned by 180 degrees.
        """
        kernels = w if isinstance(w, Operand) else self.hold(w, self.datapath.b)
        given = dy if isinstance(dy, Operand) else self.hold(dy, self.datapath.a)
        images = (given.shape[0], *kernels.shape[1:2], *size)
        spaced = spread(given, images, kernels.shape, stride, padding, self.backend)
        turned = replace(kernels, values=kernels.values.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        out = self.conv2d(spaced, turned, held=True)
        self.ledger.move(bits_of(spaced.fmt, given.values.size) - bits_of(spaced.fmt, spaced.values.size))
        return self._hand_out(out.values, self.datapath.output, held, dy, w)

    def spmv(self, matrix: Any, x: ArrayLike, held: bool = False) -> Any:
        """A @ x for a sparse matrix in CSR form; each row is one dot product, in storage order.

        Parameters
        ----------
        matrix : object with ``data``, ``indices``, ``indptr`` and ``shape`` (SciPy or CuPy CSR), (M, N); or one that
            is held.
        x : (N,) values in format ``b``; the matrix is in format ``a``.
        """
        dp, entrance = self.datapath, self._entrance()
        self._open("spmv")
        drawn = self._draws(Role.A)
        rows = enter_rows(matrix, dp.a, entrance, drawn)
        if shape_of(x) != rows.shape[1:]:
            raise HalfulpError(f"spmv of a matrix {rows.shape} needs a vector ({rows.shape[1]},), not {shape_of(x)}.")
        y = entrance.enter(x, dp.b, "x", self._draws(Role.B))
        nnz, out = int(rows.indptr[-1]), self.backend.xp.zeros(rows.shape[0])
        multiply_rows(dp, rows, y.values, out, self.backend, self._draw(), entrance, drawn)
        for length, count in lengths_of(rows, dp):
            self._count_dots(count, length)

        def operands(i: int) -> tuple[Any, Any]:
            row = slice(int(rows.indptr[i]), int(rows.indptr[i + 1]))
            return rows.data[row], y.values[rows.indices[row]]

        self._offer(rows.shape[0], operands)
        self.ledger.move(
            nnz * dp.a.bits
            + csr_index_bits(nnz, *rows.shape)
            + bits_of(dp.b, y.values.size)
            + bits_of(dp.output, out.size)
        )
        out = self._finish(out, self._room(out, rows.data, y.values))
        return self._hand_out(out, dp.output, held, x)


def _reshaped(x: Any, shape: tuple[int, int]) -> Any:
    """A vector as a row or a column."""
    axis = 1 if shape[0] == 1 else 0
    if isinstance(x, Operand):
        if x.codes is None:
            return replace(x, values=x.values.reshape(shape))
        return replace(x, values=x.values.reshape(shape), codes=x.codes.reshape(shape), axis=axis)
    if not isinstance(x, Blocks):
        return x.reshape(shape) if hasattr(x, "reshape") else np.reshape(x, shape)
    return x._replace(codes=x.codes.reshape(shape), scales=x.scales.reshape(shape), axis=axis)
