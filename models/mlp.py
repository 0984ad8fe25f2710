"""A multilayer perceptron whose every contraction and every weight update runs on the Machine it is given."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.ledger import Ledger
from ..kernels.machine import Machine
from .data import Dataset


@dataclass(frozen=True)
class Precision:
    """The datapath of each role of training. Weights are stored in the update's output format."""

    forward: Datapath
    grad_input: Datapath
    grad_weight: Datapath
    update: Datapath

    @classmethod
    def of(cls, contraction: Datapath | str, update: Datapath | str | None = None) -> Precision:
        """One datapath for all three contractions; the update (default: fp32) has its own."""
        contraction = Datapath.parse(contraction)
        return cls(contraction, contraction, contraction, Datapath.parse("fp32" if update is None else update))

    def describe(self) -> dict[str, str]:
        return {role: getattr(self, role).name for role in ("forward", "grad_input", "grad_weight", "update")}


class Machines:
    """One Machine per role, with one ledger and seeds of their own."""

    def __init__(self, precision: Precision, seed: int = 0, backend: str = "cpu", threads: int | None = None) -> None:
        self.ledger = Ledger()
        roles = enumerate((precision.forward, precision.grad_input, precision.grad_weight, precision.update))
        self.forward, self.grad_input, self.grad_weight, self.update = (
            Machine(datapath, backend, 4 * seed + i, self.ledger, threads) for i, datapath in roles
        )


def _load(machine: Machine, x: np.ndarray, stored: Format | None, needed: Format) -> np.ndarray:
    """``x`` as an operand: a counted conversion where it is stored in another format."""
    return x if stored == needed else machine.quantize(x, needed, machine.datapath.operand_rounding)


class MLP:
    """Fully connected layers with ReLU between them and logits at the end.

    The bias is the weight of a constant input 1, so that layer l has ``weights[l]`` of shape (inputs + 1, outputs),
    and its product, its gradient and its update are those of any weight.

    Weights start as N(0, 2 / inputs) (He et al. 2015, doi:10.1109/ICCV.2015.123), biases as 0.
    """

    def __init__(self, sizes: tuple[int, ...], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.weights = []
        for inputs, outputs in itertools.pairwise(sizes):
            body = rng.normal(0.0, np.sqrt(2.0 / inputs), (inputs, outputs))
            self.weights.append(np.vstack([body, np.zeros((1, outputs))]))

    def store(self, fmt: Format) -> None:
        """Round the weights to nearest into their storage format."""
        self.weights = [Machine(Datapath(fmt)).quantize(w, fmt, "RNE") for w in self.weights]

    def to_npz(self) -> bytes:
        """The weights as a NumPy archive: ``weights_0`` (inputs + 1, outputs), ..."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f"weights_{i}": weight for i, weight in enumerate(self.weights)})  # type: ignore[arg-type]
        return buffer.getvalue()

    def forward(self, x: np.ndarray, machine: Machine, stored: Format | None = None) -> list[np.ndarray]:
        """Layer inputs and, last, the logits.

        Parameters
        ----------
        x : (batch, inputs) values. machine : runs the contractions; ``stored`` is the weights' storage format.

        Returns
        -------
        [(batch, inputs + 1), ..., (batch, outputs)]: every layer's input with its constant 1, then the logits.
        """
        dp = machine.datapath
        layers = []
        held: Format | None = None  # the images' pixels come in from outside
        for last, weight in ((i == len(self.weights) - 1, w) for i, w in enumerate(self.weights)):
            x = _load(machine, x, held, dp.a)
            layers.append(np.hstack([x, np.ones((len(x), 1))]))
            x = machine.matmul(layers[-1], _load(machine, weight, stored or dp.b, dp.b))
            x, held = (x if last else np.maximum(x, 0.0)), dp.output
        return [*layers, x]

    def backward(self, layers: list[np.ndarray], error: np.ndarray, machines: Machines) -> list[np.ndarray]:
        """Gradients of the weights, summed over the batch.

        Parameters
        ----------
        layers : what ``forward`` returned. error : (batch, outputs), the loss's gradient at the logits, per sample.
        """
        grad_input, grad_weight = machines.grad_input, machines.grad_weight
        stored = machines.update.datapath.output
        held: Format | None = None
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(self.weights))):
            delta = _load(grad_weight, error, held, grad_weight.datapath.b)
            inputs = _load(grad_weight, layers[i], machines.forward.datapath.a, grad_weight.datapath.a)
            gradients.append(grad_weight.matmul(inputs.T, delta))  # (inputs + 1, batch) @ (batch, outputs)
            if i:
                delta = _load(grad_input, error, held, grad_input.datapath.a)
                weight = _load(grad_input, self.weights[i][:-1], stored, grad_input.datapath.b)
                error = np.where(layers[i][:, :-1] > 0.0, grad_input.matmul(delta, weight.T), 0.0)
                held = grad_input.datapath.output
        return gradients[::-1]

    def update(self, gradients: list[np.ndarray], step: float, machine: Machine, stored: Format) -> None:
        """weights <- weights - step * gradients, one rounding per weight (``stored``: format of the gradients)."""
        dp = machine.datapath
        self.weights = [
            machine.fma(-step, _load(machine, g, stored, dp.b), w) for w, g in zip(self.weights, gradients, strict=True)
        ]


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss (nats) and its per-sample gradient softmax - onehot, (batch, classes), in fp64 outside the datapath."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(np.mean(np.log(total[:, 0]) - shifted[rows, labels]))
    error = exponentials / total
    error[rows, labels] -= 1.0
    return loss, error


class Epoch(NamedTuple):
    """What one epoch left."""

    number: int
    loss: float  #: mean training loss of the epoch's steps, nats
    train_accuracy: float  #: of the epoch's steps, while learning
    test_accuracy: float


@dataclass
class Training:
    """A finished training run."""

    model: MLP
    epochs: list[Epoch]
    diverged: bool  #: the logits were no longer finite
    ledger: Ledger  #: of the training steps; tests are not counted
    inference: Ledger  #: of one pass over the test set

    @property
    def test_accuracy(self) -> float:
        return self.epochs[-1].test_accuracy if self.epochs else 0.0


def infer(model: MLP, x: np.ndarray, machine: Machine, stored: Format | None = None, batch: int = 1000) -> np.ndarray:
    """Logits of the rows of ``x``, (len(x), classes), computed ``batch`` rows at a time."""
    return np.vstack(
        [model.forward(x[start : start + batch], machine, stored)[-1] for start in range(0, len(x), batch)]
    )


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose largest logit is the label's; a row that is not finite counts as wrong."""
    finite = np.isfinite(logits).all(axis=1)
    return float(np.mean(finite & (np.argmax(logits, axis=1) == labels)))


def _batches(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    order = rng.permutation(count)
    return (order[start : start + batch] for start in range(0, count, batch))


def train(
    data: Dataset,
    precision: Precision,
    hidden: tuple[int, ...] = (32,),
    epochs: int = 10,
    batch: int = 32,
    learning_rate: float = 0.125,
    seed: int = 0,
    backend: str = "cpu",
    threads: int | None = None,
    progress: Callable[[Epoch, Ledger], None] = lambda epoch, ledger: None,
    steps: Callable[[int, int], None] = lambda done, total: None,
) -> Training:
    """Train an MLP from scratch by plain SGD.

    Assumptions, all visible here: gradients are summed over the batch and 1/batch is folded into the step, so that
    narrow formats see large gradients; the defaults make the step 2^-8, which every format here holds exactly; the
    loss and its gradient are computed in fp64 outside the datapath; the pixels are rounded into ``forward.a``.

    Parameters
    ----------
    progress : called after every epoch with its Epoch and the training ledger so far.
    steps : called after every step with the steps done and all steps of the run.
    """
    if epochs < 1 or batch < 1 or not learning_rate > 0 or any(h < 1 for h in hidden):
        raise HalfulpError("epochs, batch, learning rate and hidden sizes must be positive.")
    if batch > len(data.train_x):
        raise HalfulpError(f"batch {batch} is larger than the training set ({len(data.train_x)}).")
    machines = Machines(precision, seed, backend, threads)
    model = MLP((data.train_x.shape[1], *hidden, data.classes), seed)
    stored = precision.update.output
    model.store(stored)
    rng = np.random.default_rng([seed, 1])
    result = Training(model, [], False, machines.ledger, Ledger())
    done, total = 0, epochs * -(-len(data.train_x) // batch)
    for number in range(1, epochs + 1):
        losses, right = [], 0
        for rows in _batches(len(data.train_x), batch, rng):
            x, y = data.train_x[rows], data.train_y[rows]
            layers = model.forward(x, machines.forward, stored)
            if not np.isfinite(layers[-1]).all():
                result.diverged = True
                break
            loss, error = softmax_cross_entropy(layers[-1], y)
            losses.append(loss)
            right += int(np.sum(np.argmax(layers[-1], axis=1) == y))
            gradients = model.backward(layers, error, machines)
            model.update(gradients, learning_rate / len(rows), machines.update, precision.grad_weight.output)
            done += 1
            steps(done, total)
        tester = Machine(precision.forward, backend, 4 * seed, threads=threads)
        tested = accuracy(infer(model, data.test_x, tester, stored), data.test_y)
        result.inference = tester.ledger
        mean_loss = float(np.mean(losses)) if losses else float("nan")
        result.epochs.append(Epoch(number, mean_loss, right / len(data.train_x), tested))
        progress(result.epochs[-1], machines.ledger)
        if result.diverged:
            break
    return result
