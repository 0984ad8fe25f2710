"""Policies of one's own, that learn, are scheduled, and are gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.models import checkpoint, policies
from halfulp.models import data as datasets
from halfulp.models.networks import Architecture
from halfulp.models.optimisers import SGD
from halfulp.models.parameter import Parameter
from halfulp.models.precision import Clock, Policy, Precision, Scheduled, Static
from halfulp.models.training import Recipe, Trainer, train
from halfulp.reports import experiments

DIGITS = datasets.digits().first(96)
NARROW, WIDE = (Precision.of(f"{text}/fp32", "bf16@SR8") for text in ("fp8_e4m3", "bf16"))


class Own(Policy):
    """No more than README asks for."""

    def at(self, layer: str, clock: Clock) -> Precision:
        return NARROW if layer == "fc1" else WIDE


class Adaptive(Policy):
    """Layers whose gradients are small go from narrow to wide, and stay there."""

    def at(self, layer: str, clock: Clock) -> Precision:
        return WIDE if layer in self.state.get("wide", []) else NARROW

    def learn(self, parameters: Mapping[str, Parameter], clock: Clock) -> None:
        seen = self.state.setdefault("seen", {})
        for name, parameter in parameters.items():
            assert parameter.gradient is not None
            seen[name] = float(np.abs(np.asarray(parameter.gradient)).mean())

    def end_epoch(self, loss: float, test_accuracy: float, clock: Clock) -> None:
        least = min(self.state["seen"], key=self.state["seen"].get)
        self.state.setdefault("wide", []).append(least.rpartition(".")[0])


def recipe(policy: Policy, epochs: int = 3) -> Recipe:
    return Recipe(Architecture.of("mlp", hidden=(8, 8)), policy, SGD(0.125), epochs, 32)


def weights(trainer: Trainer) -> bytes:
    return b"".join(np.asarray(p.value).tobytes() for p in trainer.result.parameters.values())


def test_a_policy_is_a_class_with_one_method(tmp_path: Path) -> None:
    record, run = experiments.training("own", DIGITS, recipe(Own(), 1), 1, "45nm", folder=tmp_path)
    assert record.input["policy"] == {"Own": {}} and len(run.epochs) == 1
    assert checkpoint.resume(Trainer(DIGITS, recipe(Own(), 2)), tmp_path / checkpoint.NAME)


def test_a_policy_that_learns_is_gone_on_with_and_leaves_nothing_behind(tmp_path: Path) -> None:
    given, path = recipe(Adaptive()), tmp_path / checkpoint.NAME
    through = Trainer(DIGITS, given)
    through.finish()
    chosen = through.recipe.policy.state["wide"]
    assert len(chosen) == 3 and {str(through.run.at(name).forward.datapath.a) for name in chosen} == {"e8m7"}
    for _ in range(3):
        trainer = Trainer(DIGITS, given)
        checkpoint.resume(trainer, path)
        trainer.epoch()
        checkpoint.save(trainer, path)
    assert trainer.finished and weights(trainer) == weights(through)
    assert trainer.recipe.policy.state == through.recipe.policy.state
    assert given.policy.state == {}  # and so a second run of the recipe is the first one
    again = Trainer(DIGITS, given)
    again.finish()
    assert weights(again) == weights(through)


def test_a_schedule_goes_by_length_if_one_of_its_policies_does(tmp_path: Path) -> None:
    plain = Scheduled(((1, Static(NARROW)), (2, Static(WIDE))))
    cyclic = Scheduled(((1, Static(NARROW)), (2, policies.Cyclic())))
    assert not plain.goes_by_length and cyclic.goes_by_length
    trainer, path = Trainer(DIGITS, recipe(cyclic, 2)), tmp_path / checkpoint.NAME
    trainer.epoch()
    checkpoint.save(trainer, path)
    with pytest.raises(hu.HalfulpError, match=r"another run \(epochs differ\)"):
        checkpoint.resume(Trainer(DIGITS, recipe(cyclic, 4)), path)


def test_gradients_of_cyclic_precision_are_of_its_weights_and_activations() -> None:
    precision = policies.Cyclic(4, 8).at("fc1", Clock(0, 1, 100, 1))
    a, b = precision.forward.a, precision.forward.b
    assert str(a) == str(b) == "q3.1"
    assert (precision.grad_input.b, precision.grad_weight.a) == (b, a)
    assert str(precision.grad_input.a) == str(precision.grad_weight.b) == "e8m7"


def test_conversions_into_blocks_are_counted() -> None:
    """As many numbers as are multiplied, once for each product that takes them."""
    run = train(DIGITS, recipe(policies.deepseek(), 1))
    rounds = {role: sum(n for op, n in run.ledgers[role].operations.items() if op.kind == "round") for role in
              ("forward", "grad_input", "grad_weight")}  # fmt: skip
    weights, inner = 65 * 8 + 9 * 8 + 9 * 10, 8 * 8 + 8 * 10
    assert rounds["forward"] == 96 * (64 + 8 + 8) + 3 * weights
    assert rounds["grad_weight"] == 96 * (64 + 8 + 8) + 96 * (8 + 8 + 10)
    assert rounds["grad_input"] == 3 * inner + 96 * (8 + 10) + 96 * 10  # and the errors at the loss


def test_cycles_begin_at_low_precision_whatever_their_length() -> None:
    for steps, cycles in ((50, 15), (50, 6), (276, 9), (64, 8)):
        policy = policies.Cyclic(cycles=cycles)
        bits = [policy.bits(Clock(step, 1, steps, 1)) for step in range(steps)]
        starts = [step for step in range(steps) if step * cycles % steps < cycles]
        assert len(starts) == cycles and all(bits[step] <= 5 for step in starts) and bits[0] == 4
        assert max(bits) == 8


def test_deepseeks_datapaths_are_what_its_description_says() -> None:
    precision = policies.deepseek().precision
    for datapath in (precision.forward, precision.grad_input, precision.grad_weight):
        assert datapath.name == "e4m3fnx128+ue8m0+ceil/fp32@RNE:blocked128(e8m13@RTZ:fused32)"
    assert precision.update.name == "fp32/bf16@SR16"


def test_a_policy_that_gives_no_precision_is_refused() -> None:
    class Text(Policy):
        def at(self, layer: str, clock: Clock) -> Precision:
            return "bf16"  # type: ignore[return-value]

    with pytest.raises(hu.HalfulpError, match=r"Text\.at must give a Precision, not 'bf16'"):
        Trainer(DIGITS, recipe(Text()))
