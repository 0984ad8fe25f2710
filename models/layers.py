"""Layers, each with its forward and its backward pass. What is multiplied and added up runs on the layer's machines.

Activations, and their gradients, are Operands: values with the format in which they are stored. ``forward`` keeps what
``backward`` needs, as it is stored: each contraction converts for itself, with its own operand rounding, unless it is
that of the one before. ``backward``
takes the loss's gradient at the layer's output, leaves those of the weights in its parameters, and returns the one at
its input. Functions that are no contractions (normalisation, GELU, softmax) are computed in binary64 outside of the
datapath, on the host, and rounded once into the format that activations, or gradients, are stored in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..emulator.blocks import BlockFormat
from ..emulator.datapath import Datapath
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from .arithmetic import Arithmetic, load
from .parameter import Parameter


class Layer:
    """``name`` tells a layer from others of its network, and to a policy."""

    name = ""
    is_first = False  #: nobody asks for the gradient at its input
    saved: tuple[Operand, ...] = ()  #: from forward for backward

    def children(self) -> dict[str, Layer]:
        """Layers within this one."""
        found: dict[str, Layer] = {}
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                found[name] = value
            elif isinstance(value, list) and value and isinstance(value[0], Layer):
                found |= {f"{name}{i}": layer for i, layer in enumerate(value)}
        return found

    def walk(self, name: str = "") -> Iterator[Layer]:
        """This layer and all within, each named by the way to it."""
        self.name = name
        yield self
        for child, layer in self.children().items():
            yield from layer.walk(f"{name}.{child}" if name else child)

    def parameters(self) -> dict[str, Parameter]:
        """Its own."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}

    def buffers(self) -> dict[str, np.ndarray]:
        """What it has learnt besides."""
        return {}

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        raise NotImplementedError

    def backward(self, dy: Operand, run: Arithmetic) -> Operand | None:
        raise NotImplementedError


def _extended(x: Operand, machine: Machine) -> Any:
    """Rows [x, 1] as a machine's first operand: (..., inputs) -> (rows, inputs + 1); the 1 is rounded like any."""
    dp, xp = machine.datapath, machine.backend.xp
    rows = load(reshaped(x, -1, x.shape[-1]), machine, dp.a)
    if not isinstance(rows, Operand):  # to be cut into blocks
        return xp.hstack([rows, xp.ones((len(rows), 1))])
    ones = xp.full((len(rows.values), 1), machine.one, rows.values.dtype)
    return Operand(xp.hstack([rows.values, ones]), rows.fmt, None)


def _alike(one: Datapath, other: Datapath) -> bool:
    """Whether what their first operands hold is converted in the same way, and so once for both; blocks are not."""
    return one.a == other.a and one.operand_rounding == other.operand_rounding and not isinstance(one.a, BlockFormat)


def reshaped(x: Operand, *shape: int) -> Operand:
    return x.holding(x.values.reshape(shape))


def he(rng: np.random.Generator, inputs: int, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 2 / inputs) (He et al. 2015, doi:10.1109/ICCV.2015.123)."""
    return rng.normal(0.0, np.sqrt(2.0 / inputs), shape)


class Linear(Layer):
    """y = [x, 1] W: the bias is the weight of a constant input 1, the last row of W, (inputs + 1, outputs), and so
    added in the accumulator. ``sigma``: standard deviation of the weights; None: He's."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, sigma: float | None = None) -> None:
        shape = (inputs, outputs)
        body = he(rng, inputs, shape) if sigma is None else rng.normal(0.0, sigma, shape)
        self.weight = Parameter(np.vstack([body, np.zeros((1, outputs))]))

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        """(..., inputs) -> (..., outputs)."""
        m = run.at(self.name).forward
        rows = _extended(x, m)
        y = m.matmul(rows, load(self.weight.value, m, m.datapath.b), held=True)
        self.saved, self._rows = (x,), (rows, m.datapath)
        return reshaped(y, *x.shape[:-1], -1)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand | None:
        machines = run.at(self.name)
        shape, rows = dy.shape, reshaped(dy, -1, dy.shape[-1])
        (x,) = self.saved
        m = machines.grad_weight
        given, before = self._rows
        given = given if _alike(m.datapath, before) else _extended(x, m)
        self.weight.gradient = m.matmul(given.T, load(rows, m, m.datapath.b), held=True)
        if self.is_first:
            return None
        m = machines.grad_input
        weight = load(self.weight.value[:-1], m, m.datapath.b)
        dx = m.matmul(load(rows, m, m.datapath.a), weight.T, held=True)
        return reshaped(dx, *shape[:-1], -1)


class Conv2d(Layer):
    """Convolution with kernels (outputs, channels, side, side), kept as W, (outputs, channels side^2 + 1): the last
    column is the bias, the weight of a constant input 1."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        side: int,
        rng: np.random.Generator,
        stride: int = 1,
        padding: int = 0,
        sigma: float | None = None,
    ) -> None:
        self.channels, self.side, self.stride, self.padding = channels, side, stride, padding
        depth = channels * side * side
        body = he(rng, depth, (outputs, depth)) if sigma is None else rng.normal(0.0, sigma, (outputs, depth))
        self.weight = Parameter(np.hstack([body, np.zeros((outputs, 1))]))

    def _shaped(self, weight: Operand) -> Operand:
        return reshaped(weight, -1, self.channels, self.side, self.side)

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        """(N, channels, H, W) -> (N, outputs, H', W')."""
        m = run.at(self.name).forward
        given, weight = load(x, m, m.datapath.a), load(self.weight.value, m, m.datapath.b)
        self.saved, self._given = (x,), (given, m.datapath)
        return m.conv2d(given, self._shaped(weight[:, :-1]), self.stride, self.padding, bias=weight[:, -1], held=True)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand | None:
        machines = run.at(self.name)
        (x,) = self.saved
        m = machines.grad_weight
        given, before = self._given
        self.weight.gradient = m.conv2d_grad_weight(
            given if _alike(m.datapath, before) else load(x, m, m.datapath.a),
            load(dy, m, m.datapath.b),
            (self.side, self.side),
            self.stride,
            self.padding,
            held=True,
        )
        if self.is_first:
            return None
        m = machines.grad_input
        weight = load(self.weight.value[:, :-1], m, m.datapath.b)
        dy, size = load(dy, m, m.datapath.a), (x.shape[2], x.shape[3])
        return m.conv2d_grad_input(dy, self._shaped(weight), size, self.stride, self.padding, held=True)
