"""Transformers: embeddings, attention, and the block of both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from .arithmetic import Arithmetic, load, rounded
from .elementary import softmax
from .layers import Layer, Linear, reshaped
from .parameter import Parameter
from .pointwise import GELU, LayerNorm, Residual, Sequential


class Embedding(Layer):
    """Tokens (N, T), whole numbers, -> (N, T, width): the rows of a table (tokens, width), looked up. Their gradients
    are those of a product with the one-hot tokens, on ``grad_weight``'s datapath."""

    def __init__(self, tokens: int, width: int, rng: np.random.Generator) -> None:
        self.table = Parameter(rng.normal(0.0, 0.02, (tokens, width)))

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        tokens = run.host(x).astype(np.int64)
        if tokens.min() < 0 or tokens.max() >= self.table.value.shape[0]:
            raise HalfulpError(f"{self.name} has {self.table.value.shape[0]} tokens, but is given {tokens.max()}.")
        self._tokens = tokens
        m, table = run.at(self.name).vector, self.table.value
        rows = Operand(run.host(table)[tokens], table.fmt, None)
        if rows.fmt == m.datapath.output:
            m.ledger.move(2 * rows.values.size * rows.fmt.bits)
        return load(rows, m, m.datapath.output)

    def backward(self, dy: Operand, run: Arithmetic) -> None:
        m, tokens = run.at(self.name).grad_weight, self._tokens.ravel()
        onehot = np.zeros((len(self.table.value.values), len(tokens)))
        onehot[tokens, np.arange(len(tokens))] = m.one
        self.table.gradient = m.matmul(onehot, load(reshaped(dy, -1, dy.shape[-1]), m, m.datapath.b), held=True)


class Positions(Layer):
    """x + P: one learnt vector a place, (N, T, width)."""

    def __init__(self, places: int, width: int, rng: np.random.Generator) -> None:
        self.table = Parameter(rng.normal(0.0, 0.02, (places, width)))

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        m, table = run.at(self.name).vector, self.table.value
        if x.shape[1] > len(table.values):
            raise HalfulpError(f"{self.name} has {len(table.values)} places, but is given {x.shape[1]}.")
        table = load(table[: x.shape[1]], m, m.datapath.a)
        return m.add(load(x, m, m.datapath.a), table, held=True)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        m = run.at(self.name).grad_weight
        count, places, width = dy.shape
        rows = load(reshaped(dy, count, -1), m, m.datapath.b)
        sums = m.matmul(np.full((1, count), m.one), rows, held=True)  # over the batch
        gradient = np.zeros(self.table.value.shape)
        gradient[:places] = run.host(sums).reshape(places, width)
        self.table.gradient = Operand(gradient, sums.fmt, None)
        return dy


class Attention(Layer):
    """softmax(Q K^T / sqrt(d)) V over several heads (Vaswani et al. 2017, arXiv 1706.03762); ``causal``: no place
    looks ahead. (N, T, width) -> (N, T, width); the heads of all sequences are a stack of matrices."""

    def __init__(self, width: int, heads: int, rng: np.random.Generator, causal: bool = False) -> None:
        if width % heads:
            raise HalfulpError(f"attention of width {width} cannot be cut into {heads} heads of the same width.")
        self.heads, self.causal = heads, causal
        sigma = 1.0 / math.sqrt(width)
        self.inward = Linear(width, 3 * width, rng, sigma)
        self.outward = Linear(width, width, rng, sigma)

    def _cut(self, x: Operand) -> list[Operand]:
        """(N, T, 3 width) -> three times (N heads, T, d)."""
        count, places, _ = x.shape
        cut = x.values.reshape(count, places, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        return [Operand(part.reshape(count * self.heads, places, -1), x.fmt, None) for part in cut]

    def _joined(self, heads: Operand) -> Operand:
        """(N heads, T, d) -> (N, T, width)."""
        _, places, depth = heads.shape
        apart = heads.values.reshape(-1, self.heads, places, depth).transpose(0, 2, 1, 3)
        return Operand(apart.reshape(-1, places, self.heads * depth), heads.fmt, None)

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        machines = run.at(self.name)
        m, vector = machines.forward, machines.vector
        _, places, width = x.shape
        queries, keys, values = self._cut(self.inward.forward(x, run))
        scale = 1.0 / math.sqrt(width // self.heads)
        scores = run.host(m.matmul(_a(queries, m), _b(keys.mT, m), held=True)) * scale
        seen = np.tri(places, dtype=bool) if self.causal else np.ones((places, places), bool)
        shares = rounded(softmax(scores, seen), vector, m.datapath.output)
        heads = m.matmul(_a(shares, m), _b(values, m), held=True)
        self.saved, self._scale = (queries, keys, values, shares), scale
        return self.outward.forward(self._joined(heads), run)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand | None:
        machines = run.at(self.name)
        m, vector = machines.grad_input, machines.vector_gradient
        queries, keys, values, shares = self.saved
        through = self.outward.backward(dy, run)
        assert through is not None
        count, places, _ = through.shape
        cut = through.values.reshape(count, places, self.heads, -1).transpose(0, 2, 1, 3)
        given = Operand(cut.reshape(count * self.heads, places, -1), through.fmt, None)
        to_values = m.matmul(_a(shares.mT, m), _b(given, m), held=True)
        to_shares = run.host(m.matmul(_a(given, m), _b(values.mT, m), held=True))
        p = run.host(shares)
        slope = p * (to_shares - (to_shares * p).sum(axis=-1, keepdims=True)) * self._scale
        scores = rounded(slope, vector, m.datapath.output)
        to_queries = m.matmul(_a(scores, m), _b(keys, m), held=True)
        to_keys = m.matmul(_a(scores.mT, m), _b(queries, m), held=True)
        joined = [self._joined(part).values for part in (to_queries, to_keys, to_values)]
        return self.inward.backward(Operand(run.backend.xp.concatenate(joined, axis=-1), to_queries.fmt, None), run)


def _a(x: Operand, machine: Machine) -> Any:
    return load(x, machine, machine.datapath.a)


def _b(x: Operand, machine: Machine) -> Any:
    return load(x, machine, machine.datapath.b)


def block(width: int, heads: int, rng: np.random.Generator, causal: bool = False) -> Sequential:
    """x + attention(normal(x)), then x + mlp(normal(x)), the mlp four times as wide."""
    wide = Sequential(
        LayerNorm(width), Linear(width, 4 * width, rng), GELU(), Linear(4 * width, width, rng),
        names=("norm", "up", "gelu", "down"),
    )  # fmt: skip
    looks = Sequential(LayerNorm(width), Attention(width, heads, rng, causal), names=("norm", "heads"))
    return Sequential(Residual(looks), Residual(wide), names=("attention", "mlp"))


class Mean(Layer):
    """The mean over places: (N, T, width) -> (N, width)."""

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        self._shape = x.shape
        return rounded(run.host(x).mean(axis=1), run.at(self.name).vector, x.fmt, x.values.size)

    def backward(self, dy: Operand, run: Arithmetic) -> Operand:
        spread = np.broadcast_to(run.host(dy)[:, None, :] / self._shape[1], self._shape)
        return rounded(np.ascontiguousarray(spread), run.at(self.name).vector_gradient, dy.fmt, dy.values.size)


class Patches(Layer):
    """Pixels (N, height * width) -> patches (N, T, side^2), row by row."""

    def __init__(self, height: int, width: int, side: int) -> None:
        if height % side or width % side:
            raise HalfulpError(f"images of {height} x {width} are not cut into patches of {side} x {side}.")
        self._geometry = height // side, side, width // side, side

    def forward(self, x: Operand, run: Arithmetic) -> Operand:
        rows, side, columns, _ = self._geometry
        cut = x.values.reshape(-1, rows, side, columns, side).transpose(0, 1, 3, 2, 4)
        return Operand(cut.reshape(-1, rows * columns, side * side), x.fmt, None)

    def backward(self, dy: Operand, run: Arithmetic) -> None:
        return None
