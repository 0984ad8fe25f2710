"""Training: learning, counting, divergence, checkpoints, policies, and what each refuses."""

from __future__ import annotations

import gzip
import itertools
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.kernels import backends
from halfulp.models import checkpoint, policies
from halfulp.models import data as datasets
from halfulp.models.arithmetic import Arithmetic
from halfulp.models.calibration import best_format, calibrated
from halfulp.models.elementary import softmax_cross_entropy
from halfulp.models.networks import Architecture
from halfulp.models.optimisers import SGD, AdamW, Lion, Optimiser
from halfulp.models.precision import Clock, Policy, Precision, Scheduled, Static
from halfulp.models.training import Recipe, Trainer, accuracy, infer, train

SHARED = Path(__file__).parents[2] / "shared" / "data"
FP64 = Precision.of("fp64", "fp64")
DIGITS = datasets.digits()


def recipe(
    precision: Precision | Policy,
    network: str = "mlp",
    optimiser: Optimiser | None = None,
    epochs: int = 1,
    batch: int = 32,
    seed: int = 0,
    **options: object,
) -> Recipe:
    policy = Static(precision) if isinstance(precision, Precision) else precision
    return Recipe(Architecture.of(network, **options), policy, optimiser or SGD(0.125), epochs, batch, seed)


def weights_of(run: hu.models.training.Training) -> list[np.ndarray]:
    return [np.asarray(p.value) for p in run.parameters.values()]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_digits_learn_in_fp32_and_in_fp8_with_stochastic_rounding() -> None:
    assert DIGITS.train_x.shape == (1437, 64) and DIGITS.test_x.shape == (360, 64) and DIGITS.classes == 10
    plain = train(DIGITS, recipe(Precision.of("fp32", "fp32"), epochs=5))
    nearest = train(DIGITS, recipe(Precision.of("fp8_e4m3", "fp8_e4m3"), epochs=5))
    stochastic = train(DIGITS, recipe(Precision.of("fp8_e4m3@SR8", "fp8_e4m3@SR8"), epochs=5))
    assert plain.test_accuracy > 0.93
    # Gupta et al. 2015: rounding to nearest loses small updates, stochastic rounding keeps them on average
    assert stochastic.test_accuracy > nearest.test_accuracy + 0.03
    assert not plain.diverged and plain.inference.n_mul == 360 * (65 * 32 + 33 * 10)


@pytest.mark.parametrize(
    ("network", "optimiser", "options"),
    [
        ("lenet", SGD(0.05, momentum=0.9, weight_decay=5e-4), {}),
        ("resnet20", SGD(0.05, momentum=0.9), {"width": 4, "depth": 1}),
        ("vit", AdamW(0.01, weight_decay=0.01), {"heads": 2, "depth": 1}),
        ("mlp", Lion(0.003), {}),
    ],
)
def test_other_networks_and_optimisers_learn(network: str, optimiser: Optimiser, options: dict[str, object]) -> None:
    run = train(DIGITS.first(960), recipe(Precision.of("bf16/fp32", "fp32"), network, optimiser, 3, **options))
    assert run.epochs[-1].loss < 0.6 * run.epochs[0].loss and run.test_accuracy > 0.6
    kept = {"sgd": 1, "adamw": 2, "lion": 1}[type(optimiser).__name__.lower()]
    assert run.stored_bits["state"] == kept * run.stored_bits["weights"]  # fp32 both
    assert all(run.stored_bits.values())


def test_a_language_model_learns_a_text(tmp_path: Path) -> None:
    (tmp_path / "song.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    data = datasets.load(tmp_path / "song.txt")
    assert data.train_x.shape[1] == 32 and np.array_equal(data.train_x[0, 1:], data.train_y[0, :-1])
    run = train(data, recipe(Precision.of("bf16/fp32", "fp32"), "gpt", AdamW(0.01), 6, 16, width=16, depth=1))
    assert run.epochs[-1].test_accuracy > 0.5 > run.epochs[0].train_accuracy


def test_training_counts_every_contraction_and_update() -> None:
    run = train(DIGITS.first(64), recipe(Precision.of("bf16", "bf16"), hidden=(8,)))
    weights = 65 * 8 + 9 * 10
    assert run.ledgers["forward"].n_mul == run.ledgers["grad_weight"].n_mul == 64 * weights
    assert run.ledgers["grad_input"].n_mul == 64 * 8 * 10  # nobody asks for the images'
    assert run.ledgers["update"].n_mul == 2 * weights
    assert run.ledger.n_add == run.ledger.n_mul == 64 * (2 * weights + 80) + 2 * weights


@pytest.mark.parametrize("precision", ["bf16@SR8", "q4.12/q16.24/q4.12@RNE/SR16"])
@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_same_seed_same_bits_on_any_number_of_threads(
    network: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    helped = []
    monkeypatch.setattr(backends, "_SERIAL_WORK", 500)  # else nothing so small is shared out
    together = backends.work_together
    monkeypatch.setattr(backends, "work_together", lambda *args: (helped.append(1), together(*args))[1])
    runs = [
        train(DIGITS.first(320), recipe(Precision.of(precision, "bf16@SR8"), network, batch=80, seed=seed), threads=t)
        for seed, t in ((3, 1), (3, 2), (4, 1))
    ]
    assert same(weights_of(runs[0]), weights_of(runs[1]))
    assert not np.array_equal(weights_of(runs[0])[0], weights_of(runs[2])[0])
    assert len(helped) > 20


def test_layers_draw_different_random_bits() -> None:
    run = Arithmetic(Static(Precision.of("bf16@SR8", "bf16@SR8")))
    x = np.full((1, 64), 1 + 2.0**-9)
    first, second = (run.at(layer).vector.quantize(x) for layer in ("fc1", "fc2"))
    assert not np.array_equal(first, second)
    run.begin(Clock(step=1))
    assert not np.array_equal(run.at("fc1").vector.quantize(x), first)
    run.begin(Clock(step=0))
    assert np.array_equal(run.at("fc1").vector.quantize(x), first)  # of the step, not of what went before


def reference_in_float32(
    data: datasets.Dataset, weights: list[np.ndarray], step: float, batch: int
) -> list[np.ndarray]:
    """Training as one writes it with NumPy, every product and sum in float32, one after the other."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((len(a), b.shape[1]), np.float32)
        for k in range(a.shape[1]):
            total += a[:, k : k + 1] * b[k]
        return total

    order = np.random.default_rng([0, 1, 1]).permutation(len(data.train_x))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        x, layers = (data.train_x[rows] / data.levels).astype(np.float32), []
        for i, weight in enumerate(weights):
            layers.append(np.hstack([np.maximum(x, 0) if i else x, np.ones((len(x), 1), np.float32)]))
            x = product(layers[-1], weight)
        error = softmax_cross_entropy(x.astype(float), data.train_y[rows])[1].astype(np.float32)
        for i in reversed(range(len(weights))):
            gradient = product(layers[i].T, error)
            if i:
                error = np.where(layers[i][:, :-1] > 0, product(error, weights[i][:-1].T), np.float32(0))
            weights[i] = weights[i] - np.float32(step) * gradient
    return weights


def test_training_in_fp32_is_that_of_numpy_bit_for_bit() -> None:
    data = DIGITS.first(320)
    rounded = "fp32:product=fp32@RNE"  # each product, and each sum
    given = recipe(Precision.of(rounded, rounded), optimiser=SGD(0.1), hidden=(24, 12))
    start = [np.asarray(p.value, np.float32) for p in Trainer(data, given).result.parameters.values()]
    expected = reference_in_float32(data, start, 0.1 / 32, 32)
    found = weights_of(train(data, given))
    assert [w.astype(np.float32).tobytes() for w in found] == [w.tobytes() for w in expected]


def test_an_update_is_one_rounding_per_weight() -> None:
    trainer = Trainer(DIGITS.first(32), recipe(Precision.of("fp64", "fp64*bf16/bf16"), hidden=()))
    (before,) = weights_of(trainer.result)
    trainer.epoch()
    (p,) = trainer.result.parameters.values()
    gradient = hu.quantize(np.asarray(p.gradient), "bf16")
    assert np.array_equal(np.asarray(p.value), hu.quantize(before - 0.125 / 32 * gradient, "bf16"))


def test_each_contraction_takes_what_is_stored() -> None:
    """Narrow operands of the forward pass are not those of the gradients."""
    narrow, wide = (hu.Datapath.parse(text) for text in ("fp4_e2m1/fp64/fp64", "fp64"))
    trainer = Trainer(DIGITS.first(32), recipe(Precision(narrow, wide, wide, wide), hidden=()))
    trainer.epoch()
    (p,) = trainer.result.parameters.values()
    order = np.random.default_rng([0, 1, 1]).permutation(32)
    x = np.hstack([DIGITS.train_x[order] / 16.0, np.ones((32, 1))])
    start = Trainer(DIGITS.first(32), recipe(Precision(narrow, wide, wide, wide), hidden=()))
    weights = hu.quantize(weights_of(start.result)[0], "fp4_e2m1")
    _, error = softmax_cross_entropy(hu.quantize(x, "fp4_e2m1") @ weights, DIGITS.train_y[order])
    np.testing.assert_allclose(np.asarray(p.gradient), x.T @ error, rtol=1e-12, atol=1e-14)


def test_what_layers_share_is_held_once_and_the_step_that_holds_most_counts() -> None:
    phases = ((1, Static(Precision.of("bf16/fp32/bf16", "bf16"))), (2, Static(Precision.of("fp32", "fp32"))))
    trainer = Trainer(DIGITS.first(32), recipe(Scheduled(phases), epochs=2, hidden=(8,)))
    for bits in (16, 32):
        trainer.epoch()
        assert trainer.result.stored_bits["activations"] == 32 * (64 * 8 + 8 * bits)  # bytes, and relu1's
        assert trainer.result.stored_bits["weights"] == bits * (65 * 8 + 9 * 10)


def test_what_attention_keeps_does_not_go_by_how_it_is_cut() -> None:
    kept = {}
    for heads, batch in ((1, 2), (2, 1), (2, 2)):
        network = {"heads": heads, "depth": 1, "width": 8}
        given = recipe(Precision.of("fp32", "fp32"), "vit", SGD(0.01), batch=batch, **network)
        kept[heads, batch] = train(DIGITS.first(2), given).stored_bits["activations"]
    shares = 16 * 16 * 32  # of a sequence and a head
    assert kept[2, 2] == 2 * kept[2, 1] == kept[1, 2] + 2 * shares


def test_what_an_optimiser_keeps_is_read_and_written() -> None:
    moved = {}
    for momentum in (0.0, 0.9):
        given = recipe(Precision.of("fp32", "fp32"), optimiser=SGD(0.125, momentum=momentum), hidden=())
        moved[momentum] = train(DIGITS.first(32), given).ledgers["update"].bits_moved["sram"]
    # a step reads the gradient and the velocity, and writes that, which is rounded from 64 bits
    assert moved[0.9] - moved[0.0] == 650 * (32 + 32 + 64 + 32)


def test_optimisers_are_their_formulas() -> None:
    rng = np.random.default_rng(1)
    g = [rng.normal(size=(65, 10)) for _ in range(2)]
    wide = Precision.of("fp64", "fp64", "fp64")
    for optimiser in (SGD(0.1, 0.01, momentum=0.9), AdamW(0.1, 0.01), Lion(0.1, 0.01)):
        trainer = Trainer(DIGITS, recipe(wide, optimiser=optimiser, hidden=()))
        (p,) = trainer.result.parameters.values()
        w = weights_of(trainer.result)[0]
        m = v = np.zeros_like(w)
        for step, gradient in enumerate(g):
            p.gradient = replace(p.value, values=gradient * 4)
            optimiser.step(p, trainer.run.at("fc1"), 4, Clock(step))
            if isinstance(optimiser, SGD):
                m = 0.9 * m + gradient + 0.01 * w
                w = w - 0.1 * m
            elif isinstance(optimiser, AdamW):
                m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
                adapted = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
                w = w - 0.1 * (adapted + 0.01 * w)
            else:
                w, m = w - 0.1 * (np.sign(0.9 * m + 0.1 * gradient) + 0.01 * w), 0.99 * m + 0.01 * gradient
        np.testing.assert_allclose(np.asarray(p.value), w, rtol=1e-13, atol=1e-15)


def test_learning_rates_go_down() -> None:
    assert SGD(0.1, decay=0.5).rate(Clock(9, 3, 10, 5)) == pytest.approx(0.025)
    assert SGD(0.1, cosine=True).rate(Clock(5, 1, 10, 1)) == pytest.approx(0.05)
    assert SGD(0.1, warmup=4).rate(Clock(1, 1, 10, 1)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("update", "rate", "said"),
    [
        ("fp16", 1e6, r"^(what fc\d puts out|the weights fc\d.weight) held an infinity or a NaN in epoch 1, step \d+$"),
        ("fp16", 1e9, "held an infinity or a NaN in epoch 1"),
    ],
)
def test_a_network_that_overflows_says_what_and_where(update: str, rate: float, said: str) -> None:
    import re

    run = train(DIGITS, recipe(Precision.of("fp16", update), optimiser=SGD(rate), epochs=2))
    assert run.diverged and re.search(said, str(run.diverged)) and len(run.epochs) < 3


def test_a_step_that_only_stochastic_rounding_can_hold_is_allowed() -> None:
    assert not train(DIGITS.first(64), recipe(Precision.of("bf16/fp32", "q4.6:operands=SR8"))).diverged


def test_accuracy_counts_rows_that_are_not_finite_as_wrong() -> None:
    logits = np.array([[0.0, 1.0], [np.nan, 1.0], [np.inf, 0.0], [2.0, 1.0]])
    assert accuracy(logits, np.array([1, 1, 0, 0])) == 0.5


# ---- policies


def test_a_layer_has_a_precision_of_its_own() -> None:
    wide, narrow = Precision.of("fp32", "fp32"), Precision.of("fp8_e4m3/fp16", "bf16")
    policy = Static(wide, {"fc2": narrow})
    run = train(DIGITS.first(64), recipe(policy, hidden=(8,)))
    assert [str(p.value.fmt) for p in run.parameters.values()] == ["e8m23", "e8m7"]
    assert any("e4m3fn" in str(op) for op in run.ledgers["forward"].operations)
    assert policy.at("fc2.inner", Clock()) == narrow and policy.at("fc22", Clock()) == wide


def test_a_schedule_changes_the_precision_at_an_epoch() -> None:
    policy = Scheduled(((1, Static(Precision.of("bf16/fp32", "bf16"))), (2, Static(Precision.of("fp32", "fp32")))))
    trainer = Trainer(DIGITS.first(64), recipe(policy, epochs=2))
    trainer.epoch()
    assert {str(p.value.fmt) for p in trainer.result.parameters.values()} == {"e8m7"}
    trainer.epoch()
    assert {str(p.value.fmt) for p in trainer.result.parameters.values()} == {"e8m23"}


def test_cyclic_precision_goes_up_and_starts_again() -> None:
    policy = policies.Cyclic(4, 8, cycles=2)
    bits = [policy.bits(Clock(step, 1, 40, 1)) for step in range(40)]
    assert bits[0] == bits[20] == 4 and bits[19] == bits[39] == 8
    assert all(a <= b for a, b in itertools.pairwise(bits[:20]))
    assert train(DIGITS, recipe(policy, epochs=4)).test_accuracy > 0.85


def test_fp8_in_blocks_with_promoted_sums_learns() -> None:
    run = train(DIGITS, recipe(policies.deepseek(), epochs=3))
    assert run.test_accuracy > 0.88 and run.stored_bits["weights"] == 16 * (65 * 32 + 33 * 10)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: recipe(FP64, epochs=0), "positive integers"),
        (lambda: recipe(FP64, batch=5000), "larger than the training set"),
        (lambda: recipe(Static(FP64, {"fc9": FP64})), "no layer is called 'fc9': there are fc1, relu1, fc2"),
        (lambda: recipe(Precision.of("bf16/fp32", "q4.4")), "rounds to zero in q4.4"),
        (lambda: recipe(Scheduled(((2, Static(FP64)),))), "begin at epoch 1"),
        (lambda: recipe(policies.Cyclic(3, 8)), "from 4 bits at least"),
        (lambda: recipe(FP64, optimiser=SGD(-1.0)), "positive and finite"),
        (lambda: recipe(FP64, optimiser=SGD(1.0, weight_decay=2.0)), r"weight decay lies in \[0, 1\)"),
        (lambda: recipe(FP64, optimiser=SGD(1.0, momentum=1.0)), r"momentum must lie in \[0, 1\), not be 1.0"),
        (lambda: recipe(FP64, optimiser=AdamW(1.0, beta2=-0.5)), "beta2 must lie in"),
        (lambda: recipe(FP64, optimiser=Lion(1.0, warmup=-1)), "warmup is a number of steps, not -1"),
        (
            lambda: recipe(Precision.of("fp32", "q4.4"), optimiser=SGD(2.0, decay=0.25), epochs=2),
            "rounds to zero in q4.4",
        ),
        (
            lambda: recipe(Scheduled(((1, Static(FP64)), (2, Static(Precision.of("fp32", "q4.4"))))), epochs=2),
            "rounds to zero in q4.4",
        ),
        (lambda: recipe(FP64, "mlp", hidden=(0,)), "sizes must be positive"),
        (lambda: recipe(FP64, "gpt"), "gpt takes a text"),
        (lambda: recipe(FP64, "vit", side=9), "not cut into patches"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(make, said: str) -> None:
    with pytest.raises(hu.HalfulpError, match=said):
        Trainer(DIGITS, make())


# ---- checkpoints


def whole(trainer: Trainer) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]], object, object]:
    found = trainer.result
    states = [p.state for p in found.parameters.values()]
    buffers = [layer.buffers() for layer in found.network.walk()]
    return weights_of(found), states, found.ledgers, (found.epochs, str(buffers))


def made() -> Recipe:
    policy = Scheduled(
        ((1, Static(Precision.of("bf16@SR8", "bf16@SR8", "bf16"))), (3, Static(Precision.of("bf16/fp32", "fp32"))))
    )
    return recipe(policy, "resnet20", SGD(0.05, momentum=0.9, decay=0.9), epochs=4, width=2, depth=1)


def test_a_run_resumed_after_any_epoch_ends_in_the_same_bits(tmp_path: Path) -> None:
    data, path = DIGITS.first(96), tmp_path / checkpoint.NAME
    through = Trainer(data, made())
    through.finish()
    for _ in range(4):  # a new trainer for each epoch
        trainer = Trainer(data, made())
        checkpoint.resume(trainer, path)
        trainer.epoch()
        checkpoint.save(trainer, path)
    found, expected = whole(trainer), whole(through)
    assert trainer.finished and same(found[0], expected[0]) and found[2:] == expected[2:]
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(found[1], expected[1], strict=True) for key in b)
    assert trainer.result.stored_bits == through.result.stored_bits
    network, meta = checkpoint.network_of(path, data)
    again = infer(network, data, data.test_x, Arithmetic(made().policy.phases[1][1], training=False))  # type: ignore[attr-defined]
    assert meta["network"] == "resnet20" and 0 < accuracy(again, data.test_y) <= 1


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "halfulp", "train", "--epochs", "12", "--limit", "320", "--momentum", "0.9"]
    command += ["--forward", "bf16", "--update", "bf16", "--rounding", "SR8", "--learning-rate", "0.02"]
    environment = os.environ | {"HALFULP_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    running = subprocess.Popen([*command, "--out", str(killed)], env=environment, stdout=subprocess.DEVNULL)
    patience = time.monotonic() + 120
    while not (killed / checkpoint.NAME).exists():
        assert running.poll() is None and time.monotonic() < patience
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    found = subprocess.run(
        [*command, "--out", str(killed)], env=environment, capture_output=True, text=True, check=True
    )
    assert "of 12 epochs are done" in found.stdout
    subprocess.run([*command, "--out", str(whole)], env=environment, capture_output=True, check=True)
    assert (killed / "record.json").read_bytes() == (whole / "record.json").read_bytes()
    metas, arrays = zip(*(checkpoint.read(path / checkpoint.NAME) for path in (killed, whole)), strict=True)
    assert metas[0] == metas[1] and all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[1])


def test_checkpoints_that_are_none_or_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.NAME
    trainer = Trainer(DIGITS.first(64), recipe(FP64))
    assert not checkpoint.resume(trainer, path)
    trainer.epoch()
    checkpoint.save(trainer, path)
    for other, said in (
        (recipe(FP64, batch=16), r"another run \(batch differ\)"),
        (recipe(Precision.of("fp32", "fp64")), r"another run \(policy differ\)"),
        (recipe(FP64, seed=1), r"another run \(seed differ\)"),
    ):
        with pytest.raises(hu.HalfulpError, match=said):
            checkpoint.resume(Trainer(DIGITS.first(64), other), path)
    with pytest.raises(hu.HalfulpError, match="data_sha256 differ"):
        checkpoint.resume(Trainer(DIGITS.first(63), recipe(FP64)), path)
    longer = Trainer(DIGITS.first(64), recipe(FP64, epochs=2))
    assert checkpoint.resume(longer, path) and not longer.finished  # more epochs than were to be
    longer.finish()
    checkpoint.save(longer, path)
    with pytest.raises(hu.HalfulpError, match="has done 2 epochs, more than the 1"):
        checkpoint.resume(Trainer(DIGITS.first(64), recipe(FP64)), path)
    with pytest.raises(hu.HalfulpError, match="data_sha256 differ"):
        checkpoint.resume(Trainer(DIGITS.first(64)._replace(levels=4.0), recipe(FP64, epochs=2)), path)
    written, (meta, arrays) = path.read_bytes(), checkpoint.read(path)
    for place in range(0, len(written), 41):  # a bit that is turned is found, or in what nobody reads
        path.write_bytes(written[:place] + bytes([written[place] ^ 0x10]) + written[place + 1 :])
        try:
            found = checkpoint.read(path)
        except hu.HalfulpError:
            continue
        assert found[0] == meta and all(np.array_equal(found[1][name], arrays[name]) for name in arrays)
    path.write_bytes(written[:-200])
    with pytest.raises(hu.HalfulpError, match="cut off"):
        checkpoint.read(path)
    with pytest.raises(hu.HalfulpError, match="cannot be read"):
        checkpoint.read(tmp_path / "nowhere.npz")


def test_a_run_whose_policy_goes_by_its_length_is_not_made_longer(tmp_path: Path) -> None:
    trainer, path = Trainer(DIGITS.first(64), recipe(policies.Cyclic())), tmp_path / checkpoint.NAME
    trainer.epoch()
    checkpoint.save(trainer, path)
    with pytest.raises(hu.HalfulpError, match=r"another run \(epochs differ\)"):
        checkpoint.resume(Trainer(DIGITS.first(64), recipe(policies.Cyclic(), epochs=2)), path)


def test_a_ledger_is_restored_from_its_state() -> None:
    for text in ("fp8_e4m3/fp16:fused4", "mxfp4/fp32", "q4.4/q8.8/q4.4@RNE/SR4", "posit8/fp16"):
        machine = hu.Machine(text, on_inexact="quantize")
        machine.matmul(np.ones((2, 32)), np.ones((32, 3)))
        other = hu.Ledger()
        other.restore(machine.ledger.state())
        assert other == machine.ledger


# ---- inference in another precision


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


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:
    raw = (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(raw) if packed else raw)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for stem, count in (("train", 12), ("t10k", 5)):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 4, 4)), True)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.arange(count) % 3, False)
    return tmp_path


def test_idx_files_packed_or_not(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.load(idx_folder)
    assert (
        data.train_x.shape == (12, 16)
        and data.test_y.tolist() == [0, 1, 2, 0, 1]
        and (data.shape, data.levels, data.classes) == ((1, 4, 4), 255.0, 3)
    )
    assert data.inputs(data.train_x).max() == data.train_x.max() / 255
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(idx_folder))
    assert datasets.load().name == idx_folder.name
    monkeypatch.delenv(datasets.DATA_VARIABLE)
    assert datasets.load().name == "digits"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train-images-idx3-ubyte.gz", b"not gzip", "cannot read"),
        ("train-labels-idx1-ubyte", b"\0\0\x09\x01\0\0\0\x01\0", "not an IDX file"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x05\0", "header"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0", "ends inside"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\0", "do not belong together"),
        ("train-labels-idx1-ubyte", None, "lacks train-labels"),
    ],
)
def test_damaged_idx_data_is_refused_in_a_sentence(
    idx_folder: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is None:
        os.remove(idx_folder / name)
    else:
        (idx_folder / name).write_bytes(content)
    with pytest.raises(hu.HalfulpError, match=sentence):
        datasets.load(idx_folder)


def cifar(folder: Path, name: str, records: int, label: int | None = None, cut: int = 0) -> None:
    rng = np.random.default_rng(records)
    raw = rng.integers(0, 256, (records, 3073)).astype(np.uint8)
    raw[:, 0] = np.arange(records) % 10 if label is None else label
    (folder / name).write_bytes(raw.tobytes()[: -cut or None])


def test_cifar_batches(tmp_path: Path) -> None:
    cifar(tmp_path, "data_batch_1.bin", 20)
    cifar(tmp_path, "data_batch_2.bin", 10)
    cifar(tmp_path, "test_batch.bin", 10)
    data = datasets.load(tmp_path)
    assert data.shape == (3, 32, 32) and data.train_x.shape == (30, 3072) and data.train_y[:3].tolist() == [0, 1, 2]
    run = train(data, recipe(Precision.of("bf16/fp32", "fp32"), "cifar", SGD(0.01), batch=10, channels=4))
    assert not run.diverged and run.ledgers["forward"].n_mul > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [({"label": 10}, "has a label 10; CIFAR-10's are 0...9"), ({"cut": 5}, "not one record of 3073 bytes")],
)
def test_damaged_cifar_batches_are_refused(tmp_path: Path, options: dict[str, int], said: str) -> None:
    cifar(tmp_path, "test_batch.bin", 4)
    with pytest.raises(hu.HalfulpError, match="lacks data_batch_1"):
        datasets.load(tmp_path)
    cifar(tmp_path, "data_batch_1.bin", 4, **options)
    with pytest.raises(hu.HalfulpError, match=said):
        datasets.load(tmp_path)


def test_labels_out_of_range_and_short_texts_are_refused(idx_folder: Path, tmp_path: Path) -> None:
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.array([0, 1, 2, 7, 0]), False)
    with pytest.raises(hu.HalfulpError, match=r"a test label is 7, but training's are 0\.\.\.2"):
        datasets.load(idx_folder)
    write_idx(idx_folder / "train-labels-idx1-ubyte", np.array([0, 1, 2, 9] * 3), False)
    with pytest.raises(hu.HalfulpError, match=r"training labels go up to 9, but none is 3\."):
        datasets.load(idx_folder)
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(hu.HalfulpError, match="too few"):
        datasets.load(tmp_path / "short.txt")


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="needs the MNIST files under ../shared/data")
def test_real_mnist_learns_on_an_emulated_datapath() -> None:
    data = datasets.load(SHARED / "mnist")
    assert data.train_x.shape == (60000, 784) and data.test_x.shape == (10000, 784)
    assert train(data.first(6000), recipe(Precision.of("fp8_e4m3/fp32", "fp32"))).test_accuracy > 0.85
