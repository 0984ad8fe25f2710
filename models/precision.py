"""Precision: the datapaths of a layer's four roles. Policy: which layer works in which precision, and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.names import alias, scalar_format

if TYPE_CHECKING:
    from .parameter import Parameter

ROLES = ("forward", "grad_input", "grad_weight", "update")


@dataclass(frozen=True)
class Precision:
    """What a layer computes in, role by role, and so what it stores in.

    Activations are stored in ``forward``'s output format, gradients of activations in ``grad_input``'s, gradients of
    weights in ``grad_weight``'s, weights in ``update``'s. What is stored in another format than a contraction's operand
    has is converted on the way, with the datapath's operand rounding.
    """

    forward: Datapath
    grad_input: Datapath
    grad_weight: Datapath
    update: Datapath
    state: Format = field(default_factory=lambda: scalar_format("fp32"))  #: of what the optimiser keeps per weight

    @classmethod
    def of(
        cls, contraction: Datapath | str, update: Datapath | str | None = None, state: Format | str = "fp32"
    ) -> Precision:
        """One datapath for all three contractions; the update (default: fp32) has its own."""
        contraction = Datapath.parse(contraction)
        update = Datapath.parse("fp32" if update is None else update)
        return cls(contraction, contraction, contraction, update, scalar_format(state))

    @property
    def stored(self) -> Format:
        """The weights' format."""
        return self.update.output

    def describe(self) -> dict[str, str]:
        return {role: getattr(self, role).name for role in ROLES} | {"state": alias(self.state)}


class Clock(NamedTuple):
    """Where a run of training is: ``step`` of all ``steps``, in ``epoch`` (from 1) of all ``epochs``."""

    step: int = 0
    epoch: int = 1
    steps: int = 1
    epochs: int = 1


class Policy:
    """Which precision a layer works in. What a scheme of training decides, it decides here; the loop is the same.

    ``at`` is asked at every step; ``learn`` sees each step's gradients, ``end_epoch`` the end of each epoch. A policy
    that adapts keeps what it has learnt in ``state``, of JSON's types, which checkpoints save.
    """

    state: dict[str, Any]
    goes_by_length: bool = False  #: what it decides depends on how many steps there are to be

    def __new__(cls, *args: Any, **options: Any) -> Self:
        made = super().__new__(cls)
        vars(made)["state"] = {}
        return made

    def at(self, layer: str, clock: Clock) -> Precision:
        """The precision of a layer, by its name (``"conv1"``, ``"block2.attention"``)."""
        raise NotImplementedError

    def learn(self, parameters: Mapping[str, Parameter], clock: Clock) -> None:
        """Told after each step's gradients, before the update."""

    def end_epoch(self, loss: float, test_accuracy: float, clock: Clock) -> None:
        """Told after each epoch."""

    def check(self, layers: list[str]) -> None:
        """Raises HalfulpError where it speaks of layers that a network has not."""

    def describe(self) -> dict[str, Any]:
        """What it is, JSON-able, for records and checkpoints: its attributes, if it does not say otherwise."""
        given = {name: value for name, value in vars(self).items() if name != "state"}
        return {type(self).__name__: json.loads(json.dumps(given, default=str))}


@dataclass
class Static(Policy):
    """The same precision all the time: ``precision``, or that of ``layers`` by name (a block's name counts for what is
    in it; the longest name that fits decides)."""

    precision: Precision
    layers: Mapping[str, Precision] = field(default_factory=dict)

    def at(self, layer: str, clock: Clock) -> Precision:
        if not self.layers:
            return self.precision
        fitting = [name for name in self.layers if layer == name or layer.startswith(name + ".")]
        return self.layers[max(fitting, key=len)] if fitting else self.precision

    def check(self, layers: list[str]) -> None:
        for name in self.layers:
            if not any(layer == name or layer.startswith(name + ".") for layer in layers):
                raise HalfulpError(f"no layer is called {name!r}: there are {', '.join(layers)}.")

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = {"static": self.precision.describe()}
        if self.layers:
            found["layers"] = {name: precision.describe() for name, precision in self.layers.items()}
        return found


@dataclass
class Scheduled(Policy):
    """One policy after the other: ``phases`` are (first epoch, policy), the first one from epoch 1."""

    phases: tuple[tuple[int, Policy], ...]

    def __post_init__(self) -> None:
        firsts = [first for first, _ in self.phases]
        if not firsts or firsts[0] != 1 or firsts != sorted(set(firsts)):
            raise HalfulpError(f"phases begin at epoch 1 and follow one another, not at {firsts}.")

    @property
    def state(self) -> dict[str, Any]:  # type: ignore[override]
        return {str(first): policy.state for first, policy in self.phases}

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        for first, policy in self.phases:
            policy.state = value[str(first)]

    @property
    def goes_by_length(self) -> bool:  # type: ignore[override]
        return any(policy.goes_by_length for _, policy in self.phases)

    def now(self, clock: Clock) -> Policy:
        return next(policy for first, policy in reversed(self.phases) if first <= clock.epoch)

    def at(self, layer: str, clock: Clock) -> Precision:
        return self.now(clock).at(layer, clock)

    def learn(self, parameters: Mapping[str, Parameter], clock: Clock) -> None:
        self.now(clock).learn(parameters, clock)

    def end_epoch(self, loss: float, test_accuracy: float, clock: Clock) -> None:
        self.now(clock).end_epoch(loss, test_accuracy, clock)

    def check(self, layers: list[str]) -> None:
        for _, policy in self.phases:
            policy.check(layers)

    def describe(self) -> dict[str, Any]:
        return {f"from epoch {first}": policy.describe() for first, policy in self.phases}


def role_of(name: str) -> str:
    """A role's name. Raises HalfulpError for any other."""
    if name not in ROLES:
        raise HalfulpError(f"no role is called {name!r}: there are {', '.join(ROLES)}.")
    return name
