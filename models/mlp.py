"""A multilayer perceptron whose every contraction and every weight update runs on the Machine it is given."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.ledger import Ledger
from ..emulator.names import scalar_format
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from ..kernels.quantize import quantize
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
    """One Machine per role, with one seed and one ledger."""

    def __init__(self, precision: Precision, seed: int = 0, backend: str = "cpu", threads: int | None = None) -> None:
        self.ledger = Ledger()
        roles = enumerate((precision.forward, precision.grad_input, precision.grad_weight, precision.update))
        self.forward, self.grad_input, self.grad_weight, self.update = (
            Machine(
                datapath, backend, seed, self.ledger, threads, unit, on_inexact="quantize" if unit == 3 else "error"
            )
            for unit, datapath in roles  # the update rounds the step into its first operand
        )


#: What a role's machine does with operands that its formats do not hold: the update rounds the step.
_ENTERING = ("error", "error", "error", "quantize")
#: How the images' pixels are stored: bytes.
PIXELS = scalar_format("uint8")
_FP64 = scalar_format("fp64")
_TESTING_UNIT = 4  #: the machines of the four roles are units 0...3


class MLP:
    """Fully connected layers with ReLU between them and logits at the end.

    The bias is the weight of a constant input 1, so that layer l has ``weights[l]`` of shape (inputs + 1, outputs),
    and its product, its gradient and its update are those of any weight.

    Weights start as N(0, 2 / inputs) (He et al. 2015, doi:10.1109/ICCV.2015.123), biases as 0.
    """

    def __init__(self, sizes: tuple[int, ...], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.weights: list[np.ndarray] = []
        self._looked_at: dict[int, tuple[np.ndarray, Operand]] = {}
        for inputs, outputs in itertools.pairwise(sizes):
            body = rng.normal(0.0, np.sqrt(2.0 / inputs), (inputs, outputs))
            self.weights.append(np.vstack([body, np.zeros((1, outputs))]))

    def _held(self, i: int, machine: Machine, stored: Format) -> Operand:
        """``weights[i]``, stored in a format, as every machine's operand: looked at once."""
        weight, held = self._looked_at.get(i, (None, None))
        if held is None or weight is not self.weights[i] or held.fmt != stored:
            held = machine.hold(self.weights[i], stored)
            self._keep(i, self.weights[i], held)
        return held

    def _keep(self, i: int, weight: np.ndarray, held: Operand) -> None:
        """``weight`` as ``weights[i]``, read-only: weights are replaced, never changed in place."""
        self.weights[i] = weight.view()
        self.weights[i].flags.writeable = False
        self._looked_at[i] = self.weights[i], held

    def store(self, fmt: Format) -> None:
        """Round the weights to nearest into their storage format."""
        self.weights = [Machine(Datapath(fmt)).quantize(w, fmt, "RNE") for w in self.weights]

    def to_npz(self) -> bytes:
        """The weights as a NumPy archive: ``weights_0`` (inputs + 1, outputs), ..."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f"weights_{i}": weight for i, weight in enumerate(self.weights)})  # type: ignore[arg-type]
        return buffer.getvalue()

    def forward(self, x: Any, machine: Machine, stored: Format | None = None) -> list[Any]:
        """Layer inputs, held in format ``a``, and, last, the logits.

        Parameters
        ----------
        x : (batch, inputs) values. machine : runs the contractions; ``stored`` is the weights' storage format.

        Returns
        -------
        [(batch, inputs + 1), ..., (batch, outputs)]: every layer's input with its constant 1, an Operand; then the
        logits, an array.
        """
        dp, xp = machine.datapath, machine.backend.xp
        one = float(quantize(1.0, dp.a, dp.operand_rounding))
        layers: list[Any] = []
        held: Format = PIXELS
        for i in range(len(self.weights)):
            x = machine.hold(machine.load(x, held, dp.a), dp.a)
            layers.append(
                replace(x, values=xp.hstack([x.values, xp.full((len(x.values), 1), one, x.values.dtype)]), top=None)
            )
            weight = machine.load(self._held(i, machine, stored or dp.b), stored or dp.b, dp.b)
            x, held = machine.matmul(layers[-1], weight, held=True), dp.output
            if i < len(self.weights) - 1:
                xp.maximum(x.values, 0.0, out=x.values)
        return [*layers, machine.backend.to_host(x.values)]

    def backward(self, layers: list[Any], error: Any, machines: Machines) -> list[Operand]:
        """Gradients of the weights, summed over the batch, in ``grad_weight``'s output format.

        Parameters
        ----------
        layers : what ``forward`` returned. error : (batch, outputs), the loss's gradient at the logits, per sample.
        """
        grad_input, grad_weight = machines.grad_input, machines.grad_weight
        stored = machines.update.datapath.output
        held = _FP64  # the loss's gradient comes from outside the datapath
        gradients: list[Operand] = []
        for i in reversed(range(len(self.weights))):
            delta = grad_weight.load(error, held, grad_weight.datapath.b)
            inputs = grad_weight.load(layers[i], machines.forward.datapath.a, grad_weight.datapath.a)
            gradients.append(grad_weight.matmul(inputs.T, delta, held=True))  # (inputs + 1, batch) @ (batch, outputs)
            if i:
                delta = grad_input.load(error, held, grad_input.datapath.a)
                weight = grad_input.load(self._held(i, grad_input, stored)[:-1], stored, grad_input.datapath.b)
                error = grad_input.matmul(delta, weight.T, held=True)
                grad_input.backend.xp.copyto(error.values, 0.0, where=~(layers[i].values[:, :-1] > 0.0))
                held = grad_input.datapath.output
        return gradients[::-1]

    def update(self, gradients: Sequence[np.ndarray | Operand], step: float, machine: Machine, stored: Format) -> None:
        """weights <- weights - step * gradients, one rounding per weight (``stored``: format of the gradients)."""
        dp = machine.datapath
        back = machine.hold(-step, dp.a)
        for i, gradient in zip(range(len(self.weights)), gradients, strict=True):
            before = self._held(i, machine, dp.output)
            held = machine.fma(back, machine.load(gradient, stored, dp.b), before, held=True)
            self._keep(i, machine.backend.to_host(held.values), held)


def _exp(x: np.ndarray) -> np.ndarray:
    """e^x for x <= 0, from additions and multiplications only, so that its bits are the same on every processor.

    Argument reduction by a two-part ln 2 and a Taylor polynomial of degree 13; within 1.5 ulp.
    """
    x = np.maximum(x, -745.0)
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    y = np.ones_like(r)
    for n in range(13, 0, -1):
        y = 1.0 + y * r * (1.0 / n)
    return np.ldexp(y, k.astype(np.int64))


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss (nats) and its per-sample gradient softmax - onehot, (batch, classes), in fp64 outside the datapath."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = _exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    losses = [math.log(t) - s for t, s in zip(total[:, 0].tolist(), shifted[rows, labels].tolist(), strict=True)]
    error = exponentials / total
    error[rows, labels] -= 1.0
    return math.fsum(losses) / len(losses), error


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
    diverged: bool  #: logits or weights were no longer finite
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


def check_step(update: Datapath, step: float) -> None:
    """Refuse an update whose first operand cannot hold the step: it would train nothing."""
    if not update.operand_rounding.random_bits and not quantize(-step, update.a, update.operand_rounding):
        raise HalfulpError(
            f"the step {step:.3g} (learning rate / batch) rounds to zero in {update.a}, the first operand of the "
            f"update: give that a format of its own, as in fp32*{update.name.partition('@')[0]}."
        )


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
    narrow formats see large gradients; the step is learning_rate / batch also for a last, smaller batch, and enters
    the update as an operand like any other (by default 2^-8, which floats hold exactly); the loss and its gradient are
    computed in fp64 outside the datapath; pixels are stored as bytes and converted into ``forward.a``.

    Parameters
    ----------
    progress : called after every epoch with its Epoch and the training ledger so far.
    steps : called after every step with the steps done and all steps of the run.
    """
    if not 0 < learning_rate < float("inf"):
        raise HalfulpError(f"the learning rate must be positive and finite, not {learning_rate}.")
    if epochs < 1 or batch < 1 or any(h < 1 for h in hidden):
        raise HalfulpError("epochs, batch and hidden sizes must be positive integers.")
    if batch > len(data.train_x):
        raise HalfulpError(f"batch {batch} is larger than the training set ({len(data.train_x)}).")
    machines = Machines(precision, seed, backend, threads)
    step = learning_rate / batch
    check_step(precision.update, step)
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
            model.update(gradients, step, machines.update, precision.grad_weight.output)
            done += 1
            steps(done, total)
        tester = Machine(precision.forward, backend, seed, threads=threads, unit=_TESTING_UNIT)
        logits = infer(model, data.test_x, tester, stored)
        tested = accuracy(logits, data.test_y)
        finite = np.isfinite(logits).all() and all(np.isfinite(w).all() for w in model.weights)
        result.diverged = result.diverged or not finite
        result.inference = tester.ledger
        mean_loss = float(np.mean(losses)) if losses else float("nan")
        result.epochs.append(Epoch(number, mean_loss, right / len(data.train_x), tested))
        progress(result.epochs[-1], machines.ledger)
        if result.diverged:
            break
    return result
