"""Functions in binary64 whose bits are the same on every processor, and the loss."""

from __future__ import annotations

import math

import numpy as np


def exp(x: np.ndarray) -> np.ndarray:
    """e^x for x <= 0, from additions and multiplications only.

    Argument reduction by a two-part ln 2 and a Taylor polynomial of degree 13; within 1.5 ulp.
    """
    x = np.maximum(x, -745.0)
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    y = np.ones_like(r)
    for n in range(13, 0, -1):
        y = 1.0 + y * r * (1.0 / n)
    return np.ldexp(y, k.astype(np.int64))


def sigmoid(x: np.ndarray) -> np.ndarray:
    small = exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def softmax(x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Along the last axis, over what is seen; 0 elsewhere."""
    largest = np.where(seen, x, -np.inf).max(axis=-1, keepdims=True)
    exponentials = np.where(seen, exp(np.minimum(x - largest, 0.0)), 0.0)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss (nats) and its per-sample gradient softmax - onehot, (samples, classes), outside of the datapath."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    losses = [math.log(t) - s for t, s in zip(total[:, 0].tolist(), shifted[rows, labels].tolist(), strict=True)]
    error = exponentials / total
    error[rows, labels] -= 1.0
    return math.fsum(losses) / len(losses), error
