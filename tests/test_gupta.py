"""Gupta et al. 2015: their schemes as datapaths, and their claims in short runs on digits."""

from __future__ import annotations

import itertools
from dataclasses import replace

import halfulp as hu
import numpy as np
import pytest
from halfulp.models import data as datasets
from halfulp.models import gupta
from halfulp.models.elementary import softmax_cross_entropy
from halfulp.models.optimisers import SGD
from halfulp.models.training import Trainer, Training, train
from halfulp.reports import protocols

DIGITS = datasets.digits()
QUICK = protocols.plan("dnn", DIGITS, quick=True)
ROWS = {row.label: row for row in QUICK.rows}


SHORT, REPAIRED = "SR <5,7>", "SR <5,7>, then SR <5,11>"


@pytest.fixture(scope="module")
def runs() -> dict[tuple[str, int], Training]:
    """What ``train gupta-dnn --quick`` trains, of the rows that say most, by label and seed."""
    asked = [*itertools.product(("float", SHORT, REPAIRED), (0, 1)), ("SR <8,8>", 0), ("RN <8,8>", 0)]
    return {(label, seed): train(DIGITS, QUICK.recipe(ROWS[label], seed)) for label, seed in asked}


def test_stochastic_rounding_learns_where_rounding_to_nearest_fails(runs: dict[tuple[str, int], Training]) -> None:
    assert runs["float", 0].test_accuracy > 0.95
    assert runs["SR <8,8>", 0].test_accuracy > runs["float", 0].test_accuracy - 0.01
    assert runs["RN <8,8>", 0].test_accuracy < 0.2  # one in ten is chance


def test_longer_words_repair_the_damage_of_short_ones(runs: dict[tuple[str, int], Training]) -> None:
    plain, short, repaired = (
        [(runs[label, seed].test_accuracy, runs[label, seed].epochs[-1].loss) for seed in (0, 1)]
        for label in ("float", SHORT, REPAIRED)
    )
    right = [np.mean([accuracy for accuracy, _ in found]) for found in (plain, short, repaired)]
    assert right[1] < right[0] - 0.01 and right[2] > right[0] - 0.005
    for (_, whole), (_, cut), (_, mended) in zip(plain, short, repaired, strict=True):
        assert mended < 0.9 * cut and mended < 1.1 * whole


def test_every_number_that_is_stored_is_of_the_scheme(runs: dict[tuple[str, int], Training]) -> None:
    for label, fmt in (("SR <8,8>", "q8.8"), (REPAIRED, "q5.11")):
        assert {str(p.value.fmt) for p in runs[label, 0].parameters.values()} == {fmt}
        assert {str(p.gradient.fmt) for p in runs[label, 0].parameters.values()} == {fmt}
    precision = gupta.Scheme("SR", 14).precision
    for datapath in (precision.forward, precision.grad_input, precision.grad_weight):
        assert datapath.accumulator.bits == 48 and datapath.product is None
        assert str(datapath.output) == "q2.14" and str(datapath.output_rounding) == "SR14"
    assert str(precision.update) == "q1.23*q2.14/q2.14@SR16"
    inside = gupta.Scheme("RN", 12, 10).precision  # of the CNN: errors are stored as layer outputs are
    assert (str(inside.grad_input.output), str(inside.grad_weight.output)) == ("q6.10", "q4.12")
    assert str(inside.grad_weight.a) == str(inside.grad_weight.b) == str(inside.grad_input.a) == "q6.10"


def to_nearest(x: np.ndarray, fraction: int) -> np.ndarray:
    """16 bits, ties down, saturating, in plain float64."""
    scaled = np.ceil(x * 2.0**fraction - 0.5)
    return np.clip(scaled, -(2.0**15), 2.0**15 - 1) / 2.0**fraction


@pytest.mark.parametrize(("fraction", "outputs"), [(14, 10), (12, None), (10, None)])
def test_rounding_to_nearest_is_numpys_bit_for_bit(fraction: int, outputs: int | None) -> None:
    """Three steps, the last of four images of thirty: exact products of matrices, one conversion each, momentum and
    weight decay; the batch that divides is the whole one."""
    data, y = DIGITS.first(64), outputs or fraction
    scheme, last = gupta.static(gupta.Scheme("RN", fraction, outputs), "dnn"), min(y, 10)
    how = gupta.dnn(scheme, 1, 0, hidden=16, sigma=0.1, rate=0.25)
    trainer = Trainer(data, replace(how, batch=30, optimiser=SGD(0.25, weight_decay=5e-4, momentum=0.9)))
    weights = [np.array(p.value) for p in trainer.result.parameters.values()]
    velocities = [np.zeros_like(w) for w in weights]
    order = np.random.default_rng([0, 1, 1]).permutation(64)
    for start in range(0, 64, 30):
        rows = order[start : start + 30]
        x, layers = to_nearest(data.train_x[rows] / 16.0, y), []
        for i, w in enumerate(weights):
            layers.append(np.hstack([np.maximum(x, 0.0) if i else x, np.ones((len(x), 1))]))
            x = to_nearest(layers[-1] @ w, y if i < 2 else last)
        error = to_nearest(softmax_cross_entropy(x, data.train_y[rows])[1] / 30, y)
        for i in (2, 1, 0):
            gradient = to_nearest(layers[i].T @ error, fraction)
            if i:
                error = np.where(layers[i][:, :-1] > 0, to_nearest(error @ weights[i][:-1].T, y), 0.0)
            velocities[i] = to_nearest(0.9 * velocities[i] + (gradient + 5e-4 * weights[i]), fraction)
            weights[i] = to_nearest(weights[i] - 0.25 * velocities[i], fraction)
    trainer.steps()
    for p, w in zip(trainer.result.parameters.values(), weights, strict=True):
        assert np.array_equal(np.asarray(p.value), w) and np.abs(w).max() > 0.1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gupta.Scheme("RTZ"), "'SR' or 'RN'"),
        (lambda: gupta.Scheme("SR", 16), "1 to 15 are fractional, not 16"),
        (lambda: gupta.escalated(gupta.Scheme("SR", 12), gupta.Scheme("SR", 8), 2, "dnn"), "no fewer bits"),
        (lambda: ROWS[REPAIRED].policy(1), "needs two epochs"),
        (lambda: protocols.plan("rnn", DIGITS), "no protocol is called gupta-rnn"),
        (lambda: protocols.plan("dnn", DIGITS, full=True, quick=True), "exclude each other"),
    ],
)
def test_what_is_refused(make, said: str) -> None:
    with pytest.raises(hu.HalfulpError, match=said):
        make()
