"""Gupta et al. 2015: their schemes as datapaths, and their claims in short runs on digits."""

from __future__ import annotations

import halfulp as hu
import pytest
from halfulp.models import data as datasets
from halfulp.models import gupta
from halfulp.models.training import Training, train
from halfulp.reports import protocols

DIGITS = datasets.digits()
QUICK = protocols.plan("dnn", DIGITS, quick=True)
ROWS = {row.label: row for row in QUICK.rows}


@pytest.fixture(scope="module")
def runs() -> dict[str, Training]:
    """What ``train gupta-dnn --quick`` trains, of the rows that say most."""
    labels = ("float", "SR <8,8>", "RN <8,8>", "SR <7,5>", "SR <7,5>, then SR <7,9>")
    return {label: train(DIGITS, QUICK.recipe(ROWS[label], seed=0)) for label in labels}


def test_stochastic_rounding_learns_where_rounding_to_nearest_fails(runs: dict[str, Training]) -> None:
    assert runs["float"].test_accuracy > 0.95
    assert runs["SR <8,8>"].test_accuracy > runs["float"].test_accuracy - 0.01
    assert runs["RN <8,8>"].test_accuracy < 0.2  # one in ten is chance


def test_longer_words_repair_the_damage_of_short_ones(runs: dict[str, Training]) -> None:
    short, repaired = runs["SR <7,5>"], runs["SR <7,5>, then SR <7,9>"]
    assert short.test_accuracy < runs["float"].test_accuracy - 0.03
    assert repaired.test_accuracy > runs["float"].test_accuracy - 0.01
    assert repaired.epochs[-1].loss < 0.3 < 1 < short.epochs[-1].loss


def test_every_number_that_is_stored_is_of_the_scheme(runs: dict[str, Training]) -> None:
    for label, fmt in (("SR <8,8>", "q8.8"), ("SR <7,5>, then SR <7,9>", "q7.9")):
        assert {str(p.value.fmt) for p in runs[label].parameters.values()} == {fmt}
        assert {str(p.gradient.fmt) for p in runs[label].parameters.values()} == {fmt}
    precision = gupta.Scheme("SR", 14).precision
    for datapath in (precision.forward, precision.grad_input, precision.grad_weight):
        assert datapath.accumulator.bits == 48 and datapath.product is None
        assert str(datapath.output) == "q2.14" and str(datapath.output_rounding) == "SR14"
    assert str(precision.update) == "q1.23*q2.14/q2.14@SR16"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gupta.Scheme("RTZ"), "'SR' or 'RN'"),
        (lambda: gupta.Scheme("SR", 16), "1 to 15 are fractional, not 16"),
        (lambda: gupta.escalated(gupta.Scheme("SR", 12), gupta.Scheme("SR", 8), 2, "dnn"), "no fewer bits"),
        (lambda: ROWS["SR <7,5>, then SR <7,9>"].policy(1), "needs two epochs"),
        (lambda: protocols.plan("rnn", DIGITS), "no protocol is called gupta-rnn"),
        (lambda: protocols.plan("dnn", DIGITS, full=True, quick=True), "exclude each other"),
    ],
)
def test_what_is_refused(make, said: str) -> None:
    with pytest.raises(hu.HalfulpError, match=said):
        make()
