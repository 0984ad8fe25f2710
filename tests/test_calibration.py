"""Calibration: fixed-point formats found for the layers of a trained network."""

from __future__ import annotations

import halfulp as hu
import numpy as np
import pytest
from halfulp.models.arithmetic import Arithmetic
from halfulp.models.calibration import best_format, calibrated
from halfulp.models.networks import Architecture
from halfulp.models.precision import Precision
from halfulp.models.training import accuracy, infer, train
from training_cases import DIGITS, recipe


@pytest.mark.parametrize("place", [0, 63])
def test_calibration_looks_at_every_input(place: int) -> None:
    x = np.zeros((8, 64), np.uint8)
    x[:, place] = 200
    data = DIGITS._replace(train_x=x, levels=1.0)
    network = Architecture.of("mlp", hidden=()).build(data, 0)
    (precision,) = calibrated(network, data, x, 8).layers.values()
    assert str(precision.forward.a) == "q9.-1"


def test_calibration_leaves_biases_their_one() -> None:
    x = np.full((8, 64), 12, np.uint8)
    data = DIGITS._replace(train_x=x, levels=240.0)  # inputs of 0.05
    network = Architecture.of("mlp", hidden=()).build(data, 0)
    (precision,) = calibrated(network, data, x, 8).layers.values()
    assert precision.forward.a.max_finite > 0.99  # type: ignore[union-attr]


def test_calibration_finds_formats_that_lose_little() -> None:
    values = np.random.default_rng(0).normal(0, 0.05, 4000)
    fmt = best_format(values, 8)
    assert fmt.bits == 8 and fmt.max_finite < 0.26  # bits are not spent on what is not there
    assert best_format(np.array([100.0, -3.0]), 16).max_finite >= 100 and best_format(np.zeros(3), 4).bits == 4
    run = train(DIGITS, recipe(Precision.of("fp32", "fp32"), epochs=6))
    found = {}
    for word in (8, 4, 2):
        policy = calibrated(run.network, DIGITS, DIGITS.train_x[:200], word)
        logits = infer(run.network, DIGITS, DIGITS.test_x, Arithmetic(policy, training=False))
        found[word] = accuracy(logits, DIGITS.test_y)
        assert set(policy.layers) == {"fc1", "fc2"}
    assert found[8] > run.test_accuracy - 0.01 and found[8] >= found[4] > found[2]
    with pytest.raises(hu.HalfulpError, match="2 to 16 bits"):
        calibrated(run.network, DIGITS, DIGITS.train_x[:2], 1)


# ---- data
