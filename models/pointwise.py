"""Layers that multiply nothing on the datapath: activations, pooling, normalisation, reshaping, sums of branches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from ..kernels.operands import Operand
from .arithmetic import Arithmetic, load, rounded
from .elementary import sigmoid
from .layers import Layer, reshaped
from .parameter import Parameter

_TINY = 1e-5  #: added to variances


def _where(kept: Any, values: Any) -> Any:
    """The values that are kept, 0 in place of others: as xp.where, which is slow where it cannot foresee."""
    bits = values.view(f"i{values.itemsize}")
    return (bits & -kept.astype(bits.dtype)).view(values.dtype)


class ReLU(Layer):
    """max(x, 0): exact in every format."""

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        y = x.holding(run.backend.xp.maximum(x.values, 0.0))
        self.saved = (y,)
        return y

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        (y,) = self.saved
        return dy.holding(_where(y.values > 0.0, dy.values))


class GELU(Layer):
    """x s(1.702 x), s being the logistic function (Hendrycks, Gimpel 2016, arXiv 1606.08415, §2)."""

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        self.saved = (x,)
        values = run.host(x)
        return rounded(values * sigmoid(1.702 * values), run.at(self.name).vector, x.fmt)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        values = run.host(self.saved[0])
        s = sigmoid(1.702 * values)
        slope = s + 1.702 * values * s * (1.0 - s)
        return rounded(run.host(dy) * slope, run.at(self.name).vector_gradient, dy.fmt, 2 * values.size)


class Flatten(Layer):
    """(N, ...) -> (N, features)."""

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        self._shape = x.shape
        return reshaped(x, len(x.values), -1)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        return reshaped(dy, *self._shape)


class Reshape(Layer):
    """(N, features) -> (N, *shape)."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        return reshaped(x, len(x.values), *self.shape)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        return reshaped(dy, len(dy.values), -1)


class MaxPool(Layer):
    """The largest of ``side`` x ``side`` windows, ``stride`` apart: (N, C, H, W) -> (N, C, H', W'). Exact; where
    several are the largest, the first gets the gradient, and what overlapping windows send to one place is added up in
    binary64 and rounded once."""

    def __init__(self, side: int, stride: int | None = None) -> None:
        self.side, self.stride = side, stride or side

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        s, side, values = self.stride, self.side, run.host(x)
        height, width = ((n - side) // s + 1 for n in x.shape[2:])
        if height < 1 or width < 1:
            raise HalfulpError(f"{self.name or 'MaxPool'} of side {side} has no results on images {x.shape[2:]}.")
        places = [(i, j) for i in range(side) for j in range(side)]
        best = values[:, :, : (height - 1) * s + 1 : s, : (width - 1) * s + 1 : s].copy()
        where = np.zeros(best.shape, np.int32)
        for n, (i, j) in enumerate(places[1:], 1):
            window = values[:, :, i : i + (height - 1) * s + 1 : s, j : j + (width - 1) * s + 1 : s]
            better = (window > best) | (np.isnan(window) & ~np.isnan(best))  # a NaN stays
            np.copyto(best, window, where=better)
            where[better] = n
        self._where, self._shape = where, x.shape
        run.at(self.name).vector.ledger.move((values.size + best.size) * x.fmt.bits)
        return Operand(run.backend.array(best), x.fmt, None)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        s, given, dx = self.stride, run.host(dy), np.zeros(self._shape)
        height, width = given.shape[2:]
        for n in range(self.side**2):
            i, j = divmod(n, self.side)
            window = dx[:, :, i : i + (height - 1) * s + 1 : s, j : j + (width - 1) * s + 1 : s]
            window += np.where(self._where == n, given, 0.0)
        vector = run.at(self.name).vector_gradient
        if s >= self.side:
            vector.ledger.move((given.size + dx.size) * dy.fmt.bits)
            return Operand(run.backend.array(dx), dy.fmt, None)
        return rounded(dx, vector, dy.fmt, given.size)


class AveragePool(Layer):
    """The mean over all pixels: (N, C, H, W) -> (N, C)."""

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        self._shape = x.shape
        return rounded(run.host(x).mean(axis=(2, 3)), run.at(self.name).vector, x.fmt, x.values.size)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        pixels = self._shape[2] * self._shape[3]
        spread = np.broadcast_to(run.host(dy)[:, :, None, None] / pixels, self._shape)
        return rounded(np.ascontiguousarray(spread), run.at(self.name).vector_gradient, dy.fmt, dy.values.size)


class _Normalise(Layer):
    """(x - mean) / sqrt(variance + 1e-5) * gain + offset, over some axes."""

    def __init__(self, features: int) -> None:
        self.gain = Parameter(np.ones(features), decays=False)
        self.offset = Parameter(np.zeros(features), decays=False)

    def _axes(self, x: np.ndarray) -> tuple[int, ...]:
        raise NotImplementedError

    def _shaped(self, parameter: Parameter, x: np.ndarray, run: Arithmetic) -> np.ndarray:
        raise NotImplementedError

    def _statistics(self, x: np.ndarray, run: Arithmetic) -> tuple[np.ndarray, np.ndarray]:
        mean = x.mean(axis=self._axes(x), keepdims=True)
        return mean, np.square(x - mean).mean(axis=self._axes(x), keepdims=True)

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        values = run.host(x)
        mean, variance = self._statistics(values, run)
        scale = 1.0 / np.sqrt(variance + _TINY)
        normal = (values - mean) * scale
        self.saved = (x,)
        self._normal, self._scale = normal, scale
        gain, offset = (self._shaped(parameter, values, run) for parameter in (self.gain, self.offset))
        return rounded(normal * gain + offset, run.at(self.name).vector, x.fmt)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        machines, given, normal = run.at(self.name), run.host(dy), self._normal
        weights = machines.grad_weight
        for parameter, values in ((self.gain, given * normal), (self.offset, given)):
            axes = tuple(i for i in range(given.ndim) if i != self._features(given))
            total = values.sum(axis=axes)
            parameter.gradient = rounded(total, weights, dy.fmt, 0)  # read once, for the gradient at the input
        inner = given * self._shaped(self.gain, given, run)
        axes = self._axes(given)
        about = inner - inner.mean(axis=axes, keepdims=True)
        dx = self._scale * (about - normal * (inner * normal).mean(axis=axes, keepdims=True))
        return rounded(dx, machines.vector_gradient, dy.fmt, 2 * given.size)

    def _features(self, x: np.ndarray) -> int:
        """The axis of the parameters."""
        raise NotImplementedError


class BatchNorm(_Normalise):
    """Each channel normalised over the batch (Ioffe, Szegedy 2015, arXiv 1502.03167): (N, C) or (N, C, H, W). Inference
    uses means and, unbiased, variances (their algorithm 2) that follow the batches' with weight 0.1."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.mean, self.variance = np.zeros(features), np.ones(features)

    def buffers(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "variance": self.variance}

    def _axes(self, x: np.ndarray) -> tuple[int, ...]:
        return tuple(i for i in range(x.ndim) if i != 1)

    def _features(self, x: np.ndarray) -> int:
        return 1

    def _shaped(self, parameter: Parameter, x: np.ndarray, run: Arithmetic) -> np.ndarray:
        return run.host(parameter.value).reshape(-1, *(1,) * (x.ndim - 2))

    def _statistics(self, x: np.ndarray, run: Arithmetic) -> tuple[np.ndarray, np.ndarray]:
        shape = (1, -1, *(1,) * (x.ndim - 2))
        if not run.training:
            return self.mean.reshape(shape), self.variance.reshape(shape)
        mean, variance = super()._statistics(x, run)
        count = x.size // len(self.mean)
        unbiased = variance.ravel() * (count / max(count - 1, 1))
        self.mean += 0.1 * (mean.ravel() - self.mean)
        self.variance += 0.1 * (unbiased - self.variance)
        return mean, variance


class LayerNorm(_Normalise):
    """Each row normalised over its features (Ba, Kiros, Hinton 2016, arXiv 1607.06450): (..., features)."""

    def _axes(self, x: np.ndarray) -> tuple[int, ...]:
        return (-1,)

    def _features(self, x: np.ndarray) -> int:
        return x.ndim - 1

    def _shaped(self, parameter: Parameter, x: np.ndarray, run: Arithmetic) -> np.ndarray:
        return run.host(parameter.value)


class Sequential(Layer):
    """Layers one behind the other. ``names`` are their names, or they are numbered."""

    def __init__(self, *layers: Layer, names: tuple[str, ...] = ()) -> None:
        self.layers = list(layers)
        self.names = names or tuple(str(i) for i in range(len(layers)))

    def children(self) -> dict[str, Layer]:
        return dict(zip(self.names, self.layers, strict=True))

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        for layer in self.layers:
            x = layer.forward(x, run)
        return x

    def backward(self, dy: Operand, run: Arithmetic) -> Operand | None:
        given: Operand | None = dy
        for layer in reversed(self.layers):
            if given is None:
                break
            given = layer.backward(given, run)
        return given


class Residual(Layer):
    """x + body(x), or shortcut(x) + body(x), rounded once into the activations' format."""

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        m = run.at(self.name).vector
        beside = self.shortcut.forward(x, run) if "shortcut" in vars(self) else x
        through = self.body.forward(x, run)
        return m.add(load(through, m, m.datapath.a), load(beside, m, m.datapath.a), held=True)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        m = run.at(self.name).vector_gradient
        through = self.body.backward(dy, run)
        beside = self.shortcut.backward(dy, run) if "shortcut" in vars(self) else dy
        assert through is not None and beside is not None
        return m.add(load(through, m, m.datapath.a), load(beside, m, m.datapath.a), held=True)
