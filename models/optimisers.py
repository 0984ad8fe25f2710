"""Optimisers: what a step adds to the weights. The last operation, weights + (- rate) * direction, runs on the layer's
``update`` datapath, one rounding a weight. What an optimiser keeps per weight is computed in binary64 from what is
stored, and rounded once into ``Precision.state``, in the update's rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..kernels.operands import Operand
from ..kernels.quantize import quantize
from .arithmetic import Machines, load
from .parameter import Parameter
from .precision import Clock, Precision


@dataclass(frozen=True)
class Optimiser:
    """``learning_rate`` is that of the batch's mean gradient; by epochs it goes down by ``decay`` each
    (rate decay^(epoch - 1)), or, with ``cosine``, along half a cosine to 0 over all steps, after ``warmup`` steps in
    which it grows in proportion."""

    learning_rate: float
    weight_decay: float = 0.0
    decay: float = 1.0
    cosine: bool = False
    warmup: int = 0

    keeps: ClassVar[tuple[str, ...]] = ()  #: per weight
    along: ClassVar[str] = ""  #: what is kept is the direction, if anything is
    usual_rate: ClassVar[float]  #: a learning rate to begin with

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise HalfulpError(f"the learning rate must be positive and finite, not {self.learning_rate}.")
        if not 0 <= self.weight_decay < 1 or not 0 < self.decay <= 1:
            raise HalfulpError("weight decay lies in [0, 1), the decay of the learning rate in (0, 1].")
        if not isinstance(self.warmup, int) or self.warmup < 0:
            raise HalfulpError(f"warmup is a number of steps, not {self.warmup}.")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name, 0.0) < 1:
                raise HalfulpError(f"{name} must lie in [0, 1), not be {getattr(self, name)}.")

    def rate(self, clock: Clock) -> float:
        rate = self.learning_rate * self.decay ** (clock.epoch - 1)
        if self.warmup and clock.step < self.warmup:
            return rate * (clock.step + 1) / self.warmup
        return rate * 0.5 * (1 + math.cos(math.pi * clock.step / clock.steps)) if self.cosine else rate

    def direction(
        self, p: Parameter, gradient: np.ndarray, clock: Clock, weights: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Where to, given the mean gradient and the weights; and what it keeps from now on."""
        raise NotImplementedError

    def step(self, p: Parameter, machines: Machines, batch: int, clock: Clock) -> None:
        """The parameter after a step; its gradient is summed over ``batch`` samples."""
        machine = machines.update
        assert p.gradient is not None
        rate = self.rate(clock)
        if not self.keeps and not self.weight_decay:
            direction, rate = load(p.gradient, machine, machine.datapath.b), rate / batch
        else:
            direction = self._directed(p, p.gradient, machines, batch, clock)
        weights = load(p.value, machine, machine.datapath.accumulator)
        p.value = machine.fma(machines.rate(-rate), direction, weights, held=True)

    def _directed(self, p: Parameter, given: Operand, machines: Machines, batch: int, clock: Clock) -> Operand:
        """The direction as an operand of the update. What is kept is read and written; how it is computed, in binary64
        outside of the datapath, is not counted but for its rounding, and is nowhere stored before."""
        machine, state = machines.update, machines.precision.state
        host = machine.backend.to_host
        gradient = np.asarray(host(given.whole), np.float64) / batch
        found, kept = self.direction(p, gradient, clock, np.asarray(host(p.value.whole), np.float64))
        decays = bool(self.weight_decay and p.decays)
        assert isinstance(given.fmt, Format) and isinstance(p.value.fmt, Format)  # no blocks
        machine.ledger.move(gradient.size * (given.fmt.bits + len(kept) * state.bits + decays * p.value.fmt.bits))
        for name, values in kept.items():
            p.state[name] = machine.quantize(values, state, machine.datapath.output_rounding, read=0)
        if self.along in kept:
            return load(machine.hold(p.state[self.along], state), machine, machine.datapath.b)
        return machine.quantize(found, machine.datapath.b, machine.datapath.operand_rounding, held=True, read=0)

    def _decayed(self, p: Parameter, gradient: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return gradient + self.weight_decay * weights if self.weight_decay and p.decays else gradient

    def describe(self) -> dict[str, Any]:
        return {"optimiser": type(self).__name__, **vars(self)}


@dataclass(frozen=True)
class SGD(Optimiser):
    """v <- momentum v + (gradient + weight decay w); w <- w - rate v. Without momentum nothing is kept."""

    momentum: float = 0.0
    along: ClassVar[str] = "velocity"
    usual_rate: ClassVar[float] = 0.125

    @property
    def keeps(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("velocity",) if self.momentum else ()

    def direction(
        self, p: Parameter, gradient: np.ndarray, clock: Clock, weights: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        found = self._decayed(p, gradient, weights)
        if not self.momentum:
            return found, {}
        found = self.momentum * p.state.get("velocity", 0.0) + found
        return found, {"velocity": found}


@dataclass(frozen=True)
class AdamW(Optimiser):
    """Loshchilov, Hutter 2019 (arXiv 1711.05101), with bias correction; weight decay apart from the gradient, and times
    the learning rate, as PyTorch has it (theirs is times the schedule's factor only)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    keeps: ClassVar[tuple[str, ...]] = ("mean", "square")
    usual_rate: ClassVar[float] = 0.003

    def direction(
        self, p: Parameter, gradient: np.ndarray, clock: Clock, weights: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        mean = self.beta1 * p.state.get("mean", 0.0) + (1 - self.beta1) * gradient
        square = self.beta2 * p.state.get("square", 0.0) + (1 - self.beta2) * gradient * gradient
        first, second = 1 - self.beta1 ** (clock.step + 1), 1 - self.beta2 ** (clock.step + 1)
        found = mean / first / (np.sqrt(square / second) + self.epsilon)
        return self._decayed(p, found, weights), {"mean": mean, "square": square}


@dataclass(frozen=True)
class Lion(Optimiser):
    """Chen et al. 2023 (arXiv 2302.06675, algorithm 2)."""

    beta1: float = 0.9
    beta2: float = 0.99
    keeps: ClassVar[tuple[str, ...]] = ("mean",)
    usual_rate: ClassVar[float] = 0.001

    def direction(
        self, p: Parameter, gradient: np.ndarray, clock: Clock, weights: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        mean = p.state.get("mean", 0.0)
        found = np.sign(self.beta1 * mean + (1 - self.beta1) * gradient)
        return self._decayed(p, found, weights), {"mean": self.beta2 * mean + (1 - self.beta2) * gradient}


OPTIMISERS = {"sgd": SGD, "adamw": AdamW, "lion": Lion}


def check_rate(precision: Precision, step: float) -> None:
    """Refuse an update whose first operand cannot hold the step: it would train nothing, or by another rate."""
    update = precision.update
    if step > -update.a.min_finite and not getattr(update.a, "has_infinity", False):
        raise HalfulpError(f"the step {step:.3g} is more than {update.a}, the first operand of the update, holds.")
    if not update.operand_rounding.random_bits and not quantize(-step, update.a, update.operand_rounding):
        raise HalfulpError(
            f"the step {step:.3g} (learning rate, or learning rate / batch) rounds to zero in {update.a}, the first"
            f" operand of the update: give that a format of its own, as in fp32*{update.name.partition('@')[0]}."
        )
