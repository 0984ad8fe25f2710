"""Training: learning, counting, divergence, policies, and what each refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.kernels import backends
from halfulp.models import data as datasets
from halfulp.models import policies
from halfulp.models.arithmetic import Arithmetic
from halfulp.models.elementary import softmax_cross_entropy
from halfulp.models.optimisers import SGD, AdamW, Lion, Optimiser
from halfulp.models.precision import Clock, Precision, Scheduled, Static
from halfulp.models.training import Trainer, accuracy, entering, train
from training_cases import DIGITS, FP64, recipe, same, weights_of

SHARED = Path(__file__).parents[2] / "shared" / "data"


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
    # a step reads the gradient and the velocity, and writes that
    assert moved[0.9] - moved[0.0] == 650 * (32 + 32 + 32)


def test_state_is_rounded_as_the_weights_are() -> None:
    """In the output's rounding of the update, not the accumulator's: a mean of squares goes down in bfloat16 only with
    random bits."""
    given = Precision.of("bf16/fp32", "bf16/bf16/bf16@RNE/SR8", "bf16")
    trainer = Trainer(DIGITS, recipe(given, optimiser=AdamW(0.01), hidden=()))
    (p,) = trainer.result.parameters.values()
    p.gradient = replace(p.value, values=np.zeros(p.value.shape))
    p.state = {"mean": np.zeros(p.value.shape), "square": np.ones(p.value.shape)}
    AdamW(0.01).step(p, trainer.run.at("fc1"), 1, Clock(5))
    found, counts = np.unique(p.state["square"], return_counts=True)
    assert found.tolist() == [1 - 2.0**-8, 1.0] and 0.1 < counts[0] / 650 < 0.45  # 0.001 is 0.256 of a unit


def test_steps_are_the_same_for_what_decays_and_what_does_not() -> None:
    """Gains of normalisations do not decay, and move by the rate of all others."""
    given = Precision.of("fp32", "q2.6*fp32/fp32/fp32")
    how = recipe(given, "resnet20", SGD(0.125, weight_decay=1e-3), width=2, depth=1)
    trainer = Trainer(DIGITS.first(64), how)
    before = {name: np.array(p.value) for name, p in trainer.result.parameters.items()}
    trainer.steps()
    for name, p in trainer.result.parameters.items():
        assert p.decays != ("gain" in name or "offset" in name)
        assert not np.array_equal(np.asarray(p.value), before[name]), name


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        (Precision.of("uint8*q2.6/fp32", "fp32"), "fc1 takes pixels as numbers from 0 to 1"),
        (Precision.of("fp32", "q0.8*fp32/fp32/fp32"), "is more than q0.8"),
    ],
)
def test_what_would_compute_something_else_is_refused(precision: Precision, said: str) -> None:
    with pytest.raises(hu.HalfulpError, match=said):
        Trainer(DIGITS, recipe(precision, optimiser=SGD(0.75, weight_decay=0.1)))


def test_tests_draw_other_random_bits_than_training() -> None:
    """The forward pass of a test is at the time of the last step."""
    policy = Static(Precision.of("fp8_e4m3/fp32/fp8_e4m3@RNE/SR8", "fp32"))
    trainer = Trainer(DIGITS.first(64), recipe(policy))
    outputs = []
    for training in (True, True, False):
        run = Arithmetic(policy, 0, training=training)
        run.begin(Clock(3))
        outputs.append(np.array(trainer.result.network.forward(entering(DIGITS, DIGITS.train_x[:64]), run)))
    assert np.array_equal(outputs[0], outputs[1]) and not np.array_equal(outputs[0], outputs[2])


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


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="needs the MNIST files under ../shared/data")
def test_real_mnist_learns_on_an_emulated_datapath() -> None:
    data = datasets.load(SHARED / "mnist")
    assert data.train_x.shape == (60000, 784) and data.test_x.shape == (10000, 784)
    assert train(data.first(6000), recipe(Precision.of("fp8_e4m3/fp32", "fp32"))).test_accuracy > 0.85
