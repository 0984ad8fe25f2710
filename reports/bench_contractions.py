"""What ``halfulp bench`` measures of contractions: products of matrices, convolutions, sparse rows, a training step."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from ..emulator.blocks import BlockFormat
from ..emulator.formats import Format
from ..kernels.blocks import encode_blocks
from ..kernels.machine import Machine
from ..kernels.quantize import quantize
from ..models import gupta
from ..models.data import Dataset, digits
from ..models.gupta import Scheme
from ..models.precision import Precision, Static
from ..models.training import Trainer, parameters
from .bench import Case, Plan, Timed, Trial, timed

DATAPATHS = {  # and what is asked of their products of matrices
    **dict.fromkeys(("int8/int32", "q4.12/q20.24", "fp8_e4m3/fp64"), "matmul, certified"),
    **dict.fromkeys(("fp8_e4m3/fp32", "bf16/fp32", "fp32"), "matmul, native fp32"),
    **dict.fromkeys(("fp16", "fp8_e4m3/fp16@RTZ", "bf16", "bf16/fp32@RTP", "fp8_e5m2/fp16@RTO"), "matmul, p <= 24"),
    **dict.fromkeys(("fp16@SR8", "bf16/fp32@SR8"), "matmul, SR"),
    **dict.fromkeys(("fp16/fp32:exact", "bf16/fp32:exact", "fp32/fp32:exact", "fp8_e5m2/bf16:exact"), "matmul, exact"),
    **dict.fromkeys(("fp8_e4m3/e8m13@RTZ:fused32", "fp16/fp32@RTZ:fused16g2"), "matmul, fused"),
    **dict.fromkeys(("q4.12", "int8/q16.0", "int8/q12.0w"), "matmul, fixed"),
    **dict.fromkeys(("mxfp8_e4m3/fp32", "mxfp8_e5m2/fp32", "mxfp4/fp32", "nvfp4/fp32"), "matmul, blocks"),
    **dict.fromkeys(("fp16:tree16", "fp16/fp32:systolic8", "fp8_e4m3/fp32:blocked128(e8m13@RTZ:fused32)", "fp64"), ""),
}
_BLAS_SETTLES_S = 0.1  #: 2^26 clocks are 0.03 s at 2 GHz
_STEPS = 20  #: of training, as they follow one another in an epoch
SPARSE = ("fp64", "fp32", "bf16/fp32", "fp16", "fp16@RTZ", "fp16@SR8", "q8.8/q16.16")
CONVOLVED = ("fp16", "bf16/fp32", "fp8_e4m3/e8m13@RTZ:fused32")
TRAINED = ("q4.12/q20.24/q4.12", "q4.12/q20.24/q4.12@RNE/SR12", "Gupta et al. SR <2,14>")


def cases() -> Iterator[Case]:
    """All of it, in the table's order."""
    yield Case("import", "halfulp", "", "a process", False, "imports/s", "import", _import)
    for name, asked in DATAPATHS.items():
        yield Case("matmul", name, "", "float64", False, "GMAC/s", asked, partial(_multiply, name))
    for name in CONVOLVED:
        yield Case("conv2d 5x5", name, "", "float64", False, "GMAC/s", "conv2d", partial(_convolve, name))
    for name in SPARSE:
        yield Case("spmv", name, "", "float64", False, "GMAC/s", "spmv", partial(_sparse, name, True))
        yield Case("spmv, not held", name, "", "float64", False, "GMAC/s", "", partial(_sparse, name, False))
    for name in TRAINED:
        asked = "training" if "RNE/SR" not in name else ""
        yield Case("training step", name, "", "float64", False, "steps/s", asked, partial(_train, name))


def _import(plan: Plan) -> Trial:
    """Importing the package in a process of its own; the interpreter's start is not counted."""
    package = __name__.partition(".")[0]
    text = f"import time; start = time.perf_counter(); import {package}; print(time.perf_counter() - start)"

    def once() -> float:
        return float(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout)

    return Trial(once, 1)


@lru_cache(maxsize=8)
def normal(shape: tuple[int, ...], which: int = 0) -> np.ndarray:
    """Random numbers ±2^u, u uniform in [-8, 8), as of the operations on elements."""
    rng = np.random.default_rng(which)
    return np.exp2(rng.uniform(-8, 8, shape)) * rng.choice([-1.0, 1.0], shape)


def operand(fmt: Format | BlockFormat, shape: tuple[int, ...], which: int, axis: int = -1) -> Any:
    """An operand in its format, in blocks if that is of blocks."""
    values = normal(shape, which)
    return encode_blocks(values, fmt, axis) if isinstance(fmt, BlockFormat) else quantize(values, fmt)


def limited(plan: Plan, product: Timed) -> Timed:
    """BLAS on the plan's threads; what is timed next begins when they have stopped looking out for more work, which
    takes OpenBLAS's 2^26 clocks (its THREAD_TIMEOUT)."""

    def once() -> float:
        with threadpool_limits(plan.threads, "blas"):
            seconds = product()
        time.sleep(_BLAS_SETTLES_S)
        return seconds

    return once


def _multiply(name: str, plan: Plan) -> Trial:
    """A Machine's matrix product, and NumPy's on as many threads: in float32, or as the certificate says."""
    machine, n = Machine(name, threads=plan.threads), plan.side
    dp = machine.datapath
    a, b = operand(dp.a, (n, n), 0, 1), operand(dp.b, (n, n), 1, 0)
    kind = np.float64 if machine.explain(a, b).startswith("BLAS in float64") else np.float32
    x, y = (normal((n, n), which).astype(kind) for which in (0, 1))
    blas = limited(plan, timed(np.matmul, x, y, out=np.zeros((n, n), kind)))
    return Trial(timed(machine.matmul, a, b), n**3, blas, n**3)


def _convolve(name: str, plan: Plan) -> Trial:
    """Images of 16 channels with 32 kernels of 5 x 5, and the product of matrices of the same sums."""
    machine, size = Machine(name, threads=plan.threads), max(plan.side // 32, 6)
    dp = machine.datapath
    x, w = operand(dp.a, (32, 16, size, size), 0), operand(dp.b, (32, 16, 5, 5), 1)
    patches = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (2, 3)).transpose(1, 4, 5, 0, 2, 3)
    columns, rows = np.ascontiguousarray(patches).reshape(400, -1), np.ascontiguousarray(w.reshape(32, 400))
    work = rows.size * columns.shape[1]
    return Trial(timed(machine.conv2d, x, w), work, timed(machine.matmul, rows, columns), work)


def _sparse(name: str, held: bool, plan: Plan) -> Trial:
    """The Poisson matrix of a square grid (a million unknowns), and SciPy's product with it, in float64.

    held : the matrix has been looked at before, as SciPy looks at one when it is made.
    """
    machine, n = Machine(name, threads=plan.threads), plan.side * 1000 // 1024
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    matrix = scipy.sparse.csr_array(scipy.sparse.kronsum(line, line))
    x = quantize(np.random.default_rng(0).standard_normal(n * n), machine.datapath.b)
    given = machine.hold(matrix, machine.datapath.a) if held else matrix
    return Trial(timed(machine.spmv, given, x), matrix.nnz, timed(matrix.__matmul__, x), matrix.nnz)


def _train(name: str, plan: Plan) -> Trial:
    """Steps of Gupta et al.'s 784-1000-1000-10 network on 100 images, one after the other, and the same in NumPy's
    float32; the images are the embedded digits, enlarged."""
    static = gupta.static(Scheme(), "dnn") if "Gupta" in name else Static(Precision.of(name, name.partition("/")[0]))
    data, size = _enlarged(100 * _STEPS), plan.side * 1000 // 1024
    trainer = Trainer(data, gupta.dnn(static, 1, hidden=size), plan.threads)
    weights = [np.array(p.value, np.float32) for p in parameters(trainer.result.network).values()]
    images, labels = data.inputs(data.train_x).astype(np.float32), data.train_y
    rate = np.float32(trainer.recipe.optimiser.learning_rate / 100)

    def numpys() -> None:
        for start in range(0, len(images), 100):
            numpy_step(weights, images[start : start + 100], labels[start : start + 100], rate)

    return Trial(timed(trainer.steps), _STEPS, limited(plan, timed(numpys)), _STEPS)


def _enlarged(count: int) -> Dataset:
    """The embedded digits, again and again, at MNIST's size."""
    data, places = digits(), np.arange(28) * 8 // 28
    images = data.train_x.reshape(-1, 8, 8)[:, places][:, :, places].reshape(-1, 784)
    which = np.arange(count) % len(images)
    x, y = images[which], data.train_y[which]
    return Dataset("digits, enlarged", x, y, x[:1], y[:1], (1, 28, 28), data.levels, 10)


def numpy_step(weights: list[np.ndarray], x: np.ndarray, labels: np.ndarray, rate: Any) -> None:
    """Forward, backward and update of fully connected layers with ReLU, as one writes them."""
    layers: list[np.ndarray] = []
    for weight in weights:
        layers.append(np.hstack([x if not layers else np.maximum(x, 0), np.ones((len(x), 1), x.dtype)]))
        x = layers[-1] @ weight
    error = np.exp(x - x.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    for i in reversed(range(len(weights))):
        gradient = layers[i].T @ error
        error = np.where(layers[i][:, :-1] > 0, error @ weights[i][:-1].T, 0) if i else error
        weights[i] -= rate * gradient
