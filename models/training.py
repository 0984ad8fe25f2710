"""Training: one loop for every network, policy and optimiser; and inference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.ledger import Ledger
from ..emulator.names import scalar_format
from ..kernels.backends import lone_blas
from ..kernels.operands import Operand
from ..kernels.paths import FP64
from .arithmetic import Arithmetic, rounded
from .attention import Embedding
from .data import Dataset
from .elementary import softmax_cross_entropy
from .layers import Layer
from .networks import Architecture
from .optimisers import Optimiser, check_rate
from .parameter import Parameter
from .precision import Clock, Policy, Precision

#: How pixels are stored, and tokens; those of a text with more than 256 letters.
BYTES, TOKENS = scalar_format("uint8"), scalar_format("uint16")


class Diverged(NamedTuple):
    """Where numbers were no longer finite."""

    what: str  #: "the weights fc2.weight", "what conv1 puts out"
    epoch: int
    step: int  #: of the epoch, from 1

    def __str__(self) -> str:
        return f"{self.what} held an infinity or a NaN in epoch {self.epoch}, step {self.step}"


class Epoch(NamedTuple):
    """What one epoch left."""

    number: int
    loss: float  #: mean training loss of the epoch's steps, nats
    train_accuracy: float  #: of the epoch's steps, while learning
    test_accuracy: float


@dataclass(frozen=True)
class Recipe:
    """What decides a run, besides its data: equal recipes give equal bits on any number of threads."""

    architecture: Architecture
    policy: Policy
    optimiser: Optimiser
    epochs: int = 10
    batch: int = 32
    seed: int = 0
    backend: str = "cpu"
    mean: bool = False  #: of the loss's gradient over the batch, as it enters; else its sum

    def describe(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            **self.architecture.describe(),
            **self.optimiser.describe(),
            "policy": self.policy.describe(),
            "epochs": self.epochs,
            "batch": self.batch,
            "gradient": "mean over the batch" if self.mean else "sum over the batch, which the step divides",
        }


@dataclass
class Training:
    """A run of training, as far as it is."""

    network: Layer
    epochs: list[Epoch] = field(default_factory=list)
    diverged: Diverged | None = None
    ledgers: dict[str, Ledger] = field(default_factory=dict)  #: role -> of the training steps; tests are not counted
    inference: Ledger = field(default_factory=Ledger)  #: of one pass over the test set
    #: weights, activations, gradients, state: of the step that held most
    stored_bits: dict[str, int] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return sum(self.ledgers.values(), Ledger())

    @property
    def test_accuracy(self) -> float:
        """After the last epoch that ended; 0 if none did."""
        return self.epochs[-1].test_accuracy if self.epochs else 0.0

    @property
    def parameters(self) -> dict[str, Parameter]:
        return parameters(self.network)


def parameters(network: Layer) -> dict[str, Parameter]:
    """A network's parameters, by layer and name: "conv1.weight"."""
    return {f"{layer.name}.{name}": p for layer in network.walk() for name, p in layer.parameters().items()}


def layer_names(network: Layer) -> list[str]:
    """Of layers that have no others within, in order."""
    return [layer.name for layer in network.walk() if not layer.children()]


def entering(data: Dataset, x: np.ndarray) -> Operand:
    """A batch as the first layer takes it."""
    small = data.train_x.dtype == np.uint8 or data.classes <= 256
    return Operand(data.inputs(x), BYTES if small else TOKENS, None)


def logits_of(network: Layer, data: Dataset, x: np.ndarray, run: Arithmetic) -> np.ndarray:
    """(samples, classes); of texts a sample is a place."""
    out = run.host(network.forward(entering(data, x), run))
    return out.reshape(-1, out.shape[-1])


def infer(network: Layer, data: Dataset, x: np.ndarray, run: Arithmetic, batch: int = 1000) -> np.ndarray:
    """Logits of rows of inputs, computed ``batch`` rows at a time."""
    parts = []
    for number, start in enumerate(range(0, len(x), batch)):
        run.begin(run.clock, number)
        parts.append(logits_of(network, data, x[start : start + batch], run))
    return np.vstack(parts)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples whose largest logit is the label's; one that is not finite counts as wrong."""
    finite = np.isfinite(logits).all(axis=1)
    return float(np.mean(finite & (np.argmax(logits, axis=1) == labels.ravel())))


def store(network: Layer, policy: Policy, clock: Clock, backend: Any = None) -> None:
    """Weights in the formats that the policy stores them in now."""
    for layer in network.walk():
        for parameter in layer.parameters().values():
            parameter.store(policy.at(layer.name, clock).stored, backend)


def backward(network: Layer, error: np.ndarray, run: Arithmetic, shape: tuple[int, ...]) -> None:
    """Leaves the gradients of the loss, summed over samples, in the parameters. The loss's own, ``error``, comes from
    outside of the datapath, in binary64, and is rounded once into what the last layer's gradients are stored in."""
    last = run.at(layer_names(network)[-1]).vector_gradient
    network.backward(rounded(error.reshape(shape), last, FP64), run)


def check_data(data: Dataset, recipe: Recipe) -> None:
    """Refuses data that a recipe is not for, in a sentence."""
    if recipe.epochs < 1 or recipe.batch < 1:
        raise HalfulpError("epochs and batch must be positive integers.")
    if data.train_y.ndim > 1 and recipe.architecture.name != "gpt":
        raise HalfulpError(f"{recipe.architecture.name} takes images; a text is for gpt.")
    if data.train_y.ndim == 1 and recipe.architecture.name == "gpt":
        raise HalfulpError("gpt takes a text: --data FILE.txt.")
    if recipe.batch > len(data.train_x):
        raise HalfulpError(f"batch {recipe.batch} is larger than the training set ({len(data.train_x)}).")


def check(recipe: Recipe, network: Layer) -> None:
    """Refuses what cannot be trained, in a sentence."""
    names = layer_names(network)
    recipe.policy.check(names)
    whole = recipe.mean or recipe.optimiser.keeps or recipe.optimiser.weight_decay
    optimiser, steps = recipe.optimiser, set[tuple[Precision, float]]()
    for epoch in range(1, recipe.epochs + 1):
        clock = Clock(epoch=epoch, epochs=recipe.epochs)
        rate = optimiser.learning_rate * optimiser.decay ** (epoch - 1) / (1 if whole else recipe.batch)
        found = [recipe.policy.at(layer.name, clock) for layer in network.walk() if layer.parameters()]
        if wrong := [precision for precision in found if not isinstance(precision, Precision)]:
            raise HalfulpError(f"{type(recipe.policy).__name__}.at must give a Precision, not {wrong[0]!r}.")
        steps |= {(precision, rate) for precision in found}
        check_entrance(network, recipe.policy, clock)
    for precision, rate in steps:
        check_rate(precision, rate)


def check_entrance(network: Layer, policy: Policy, clock: Clock) -> None:
    """Refuses a first layer whose operands are of the format that pixels are stored in: it says of numbers from 0 to 1
    that they are bytes."""
    for layer in network.walk():
        if layer.is_first and not isinstance(layer, Embedding) and policy.at(layer.name, clock).forward.a == BYTES:
            raise HalfulpError(
                f"{layer.name} takes pixels as numbers from 0 to 1, of which {BYTES} holds none but the ends: its"
                " forward datapath needs another first operand, as in uq0.8*int8/int32."
            )


class Trainer:
    """A run of training, epoch by epoch.

    Assumptions, all visible here: gradients are summed over the batch, so that narrow formats see large ones, and 1 /
    batch is in the step (of an optimiser that keeps nothing) or divides them in binary64; with ``Recipe.mean`` it
    divides the loss's gradient instead. It is that of whole batches also for a last, smaller one. The loss and its
    gradient are computed in binary64 outside of the datapath, the gradient is rounded once into what the last layer's
    are stored in. Inputs are stored as bytes (tokens of many letters as two), and converted into the first layer's
    operand format. Weights are rounded to nearest where the policy changes the format that they are stored in.
    """

    def __init__(self, data: Dataset, recipe: Recipe, threads: int | None = None) -> None:
        check_data(data, recipe)
        recipe = replace(recipe, policy=copy.deepcopy(recipe.policy))  # what it learns is this run's
        self.data, self.recipe, self.threads = data, recipe, threads
        network = recipe.architecture.build(data, recipe.seed)
        check(recipe, network)
        self.run = Arithmetic(recipe.policy, recipe.seed, recipe.backend, threads)
        self.steps_an_epoch = -(-len(data.train_x) // recipe.batch)
        self.result = Training(network, ledgers=self.run.ledgers)
        store(network, recipe.policy, self.clock, self.run.backend)

    @property
    def clock(self) -> Clock:
        """At the beginning of the next epoch."""
        done = len(self.result.epochs)
        return Clock(done * self.steps_an_epoch, done + 1, self.recipe.epochs * self.steps_an_epoch, self.recipe.epochs)

    @property
    def finished(self) -> bool:
        return self.result.diverged is not None or len(self.result.epochs) >= self.recipe.epochs

    def epoch(self, steps: Callable[[int, int], None] = lambda done, total: None) -> Epoch | None:
        """One more epoch, and a test; None, and nothing is kept of it, where it diverged. ``steps`` is told the steps
        done and all steps of the run."""
        result, clock = self.result, self.clock
        losses, right = self.steps(steps)
        clock = clock._replace(step=clock.step + max(len(losses) - 1, 0))  # the last one
        if not result.diverged and (broken := self._broken()):
            self._diverge(broken, clock)
        tested = self._test(clock) if result.diverged is None else 0.0
        if result.diverged is not None:  # before the test, or in it
            return None
        found = Epoch(clock.epoch, float(np.mean(losses)), right / self.data.train_y.size, tested)
        result.epochs.append(found)
        self.recipe.policy.end_epoch(found.loss, found.test_accuracy, clock)
        return found

    def steps(self, told: Callable[[int, int], None] = lambda done, total: None) -> tuple[list[float], int]:
        """The steps of an epoch: their losses, and how many samples were right."""
        recipe, clock, losses, right = self.recipe, self.clock, list[float](), 0
        order = np.random.default_rng([recipe.seed, 1, clock.epoch]).permutation(len(self.data.train_x))
        for start in range(0, len(order), recipe.batch):
            loss, hits = self._step(order[start : start + recipe.batch], clock)
            if self.result.diverged:
                break
            losses.append(loss)
            right += hits
            clock = clock._replace(step=clock.step + 1)
            told(clock.step, clock.steps)
        return losses, right

    def finish(
        self,
        progress: Callable[[Epoch, Training], None] = lambda epoch, training: None,
        steps: Callable[[int, int], None] = lambda done, total: None,
    ) -> Training:
        """All epochs that are left. ``progress`` is told of every epoch that ended, ``steps`` of every step."""
        while not self.finished:
            found = self.epoch(steps)
            if found is not None:
                progress(found, self.result)
        return self.result

    def _step(self, rows: np.ndarray, clock: Clock) -> tuple[float, int]:
        """Loss, and how many samples were right."""
        with lone_blas:
            return self._learn(rows, clock)

    def _learn(self, rows: np.ndarray, clock: Clock) -> tuple[float, int]:
        data, recipe, network, run = self.data, self.recipe, self.result.network, self.run
        run.begin(clock)
        store(network, recipe.policy, clock, run.backend)
        x, labels = data.train_x[rows], data.train_y[rows].ravel()
        out = network.forward(entering(data, x), run)
        logits = run.host(out).reshape(-1, out.shape[-1])
        if not np.isfinite(logits).all():
            self._diverge(self._culprit(x), clock)
            return float("nan"), 0
        loss, error = softmax_cross_entropy(logits, labels)
        samples = recipe.batch * labels.size // len(x)
        backward(network, error / samples if recipe.mean else error, run, out.shape)
        held = stored_bits(network, recipe.policy, recipe.optimiser, clock)
        if sum(held.values()) > sum(self.result.stored_bits.values()):
            self.result.stored_bits = held
        recipe.policy.learn(parameters(network), clock)
        for layer in network.walk():
            for parameter in layer.parameters().values():
                recipe.optimiser.step(parameter, run.at(layer.name), 1 if recipe.mean else samples, clock)
        return loss, int(np.sum(np.argmax(logits, axis=1) == labels))

    def _test(self, clock: Clock) -> float:
        data, result = self.data, self.result
        tester = Arithmetic(self.recipe.policy, self.recipe.seed, self.recipe.backend, self.threads, training=False)
        tester.begin(clock)
        logits = infer(result.network, data, data.test_x, tester)
        result.inference = tester.ledger
        if result.diverged is None and not np.isfinite(logits).all():
            self._diverge(self._culprit(data.test_x[:100]), clock)
        return accuracy(logits, data.test_y)

    def _diverge(self, what: str, clock: Clock) -> None:
        self.result.diverged = Diverged(what, clock.epoch, clock.step % self.steps_an_epoch + 1)

    def _broken(self) -> str:
        """Which weights are not finite, if any."""
        for name, parameter in self.result.parameters.items():
            if not np.isfinite(np.asarray(self.run.host(parameter.value))).all():
                return f"the weights {name}"
        return ""

    def _culprit(self, x: np.ndarray) -> str:
        """What is the first not to be finite, on the way forward."""
        network = self.result.network
        if broken := self._broken():
            return broken
        probe = Arithmetic(self.recipe.policy, self.recipe.seed, self.recipe.backend, self.threads, training=False)
        probe.begin(self.run.clock)
        out = entering(self.data, x)
        for name, layer in network.children().items():
            out = layer.forward(out, probe)
            if not np.isfinite(probe.host(out)).all():
                return f"what {name} puts out"
        return "what the network puts out"


def stored_bits(network: Layer, policy: Policy, optimiser: Optimiser, clock: Clock) -> dict[str, int]:
    """Bits that a step of training holds: weights, activations kept for the way back (once, where several layers keep
    the same), gradients of weights, and what the optimiser keeps."""
    found, seen = dict.fromkeys(("weights", "activations", "gradients", "state"), 0), set[tuple[int, int]]()
    for layer in network.walk():
        for x in layer.saved:
            place = _address(x.values), x.values.size
            found["activations"] += 0 if place in seen else _bits(x.fmt, x.values.size)
            seen.add(place)
        for p in layer.parameters().values():
            size = p.value.values.size
            found["weights"] += _bits(p.value.fmt, size)
            found["gradients"] += _bits(p.gradient.fmt, size) if p.gradient is not None else 0
            found["state"] += len(optimiser.keeps) * size * policy.at(layer.name, clock).state.bits
    return found


def _address(values: Any) -> int:
    """Of an array's first number, in the host's memory or a device's."""
    return values.ctypes.data if isinstance(values, np.ndarray) else values.data.ptr


def _bits(fmt: Any, size: int) -> int:
    assert isinstance(fmt, Format)
    return size * fmt.bits


def train(data: Dataset, recipe: Recipe, threads: int | None = None) -> Training:
    """Train a network from scratch."""
    return Trainer(data, recipe, threads).finish()
