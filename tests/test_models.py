"""Networks: gradients by finite differences, learning, data readers and their errors, reproducibility."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.models import data as datasets
from halfulp.models.mlp import MLP, Machines, Precision, _exp, accuracy, infer, softmax_cross_entropy, train

SHARED = Path(__file__).parents[2] / "shared" / "data"
FP64 = Precision.of("fp64", "fp64")


def test_backward_equals_finite_differences_in_fp64() -> None:
    rng = np.random.default_rng(0)
    model = MLP((5, 7, 4, 3), seed=1)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)
    machines = Machines(FP64)

    def loss() -> float:
        return softmax_cross_entropy(model.forward(x, machines.forward)[-1], y)[0]

    layers = model.forward(x, machines.forward)
    gradients = model.backward(layers, softmax_cross_entropy(layers[-1], y)[1], machines)
    step = 1e-6
    for i, (weight, gradient) in enumerate(zip(model.weights, gradients, strict=True)):
        numeric = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            for sign in (1, -1):
                model.weights[i] = weight.copy()
                model.weights[i][index] += sign * step
                numeric[index] += sign * loss() / (2 * step)
        model.weights[i] = weight
        np.testing.assert_allclose(np.asarray(gradient) / len(x), numeric, atol=2e-8)


def test_update_is_one_rounding_per_weight() -> None:
    model = MLP((2, 2), seed=0)
    machine = hu.Machine("bf16")
    model.store(hu.format("bf16"))
    before = model.weights[0].copy()
    gradient = machine.quantize(np.linspace(-1, 1, 6).reshape(3, 2))
    model.update([gradient], 0.25, machine, hu.format("bf16"))
    assert np.array_equal(model.weights[0], hu.quantize(before - 0.25 * gradient, "bf16"))


def test_digits_learn_in_fp32_and_in_fp8_with_stochastic_rounding() -> None:
    data = datasets.digits()
    assert data.train_x.shape == (1437, 64) and data.test_x.shape == (360, 64) and data.classes == 10
    plain = train(data, Precision.of("fp32", "fp32"), epochs=5)
    nearest = train(data, Precision.of("fp8_e4m3", "fp8_e4m3"), epochs=5)
    stochastic = train(data, Precision.of("fp8_e4m3@SR8", "fp8_e4m3@SR8"), epochs=5)
    assert plain.test_accuracy > 0.93
    # Gupta et al. 2015: rounding to nearest loses small updates, stochastic rounding keeps them on average
    assert stochastic.test_accuracy > nearest.test_accuracy + 0.03
    assert not plain.diverged and plain.inference.n_mul == 360 * (65 * 32 + 33 * 10)


def test_training_counts_every_contraction_and_update() -> None:
    data = datasets.digits()
    data = data._replace(train_x=data.train_x[:64], train_y=data.train_y[:64])
    run = train(data, Precision.of("bf16", "bf16"), hidden=(8,), epochs=1, batch=32)
    weights = 65 * 8 + 9 * 10
    per_image = weights + weights + 8 * 10  # forward, gradient to weight, gradient to the hidden layer
    assert run.ledger.n_mul == 64 * per_image + 2 * weights
    assert run.ledger.n_add == run.ledger.n_mul


@pytest.mark.parametrize("precision", ["bf16@SR8", "q4.12/q16.24/q4.12@RNE/SR16"])
def test_same_seed_same_bits_on_any_number_of_threads(precision: str) -> None:
    data = datasets.digits()
    data = data._replace(train_x=data.train_x[:320], train_y=data.train_y[:320])
    runs = [
        train(data, Precision.of(precision, "bf16@SR8"), hidden=(40,), epochs=1, batch=80, seed=seed, threads=t)
        for seed, t in ((3, 1), (3, 2), (4, 1))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0].model.weights, runs[1].model.weights, strict=True))
    assert not np.array_equal(runs[0].model.weights[0], runs[2].model.weights[0])


def test_a_network_that_overflows_is_reported_as_diverged() -> None:
    data = datasets.digits()._replace(name="hot")
    run = train(data, Precision.of("fp16", "fp16"), epochs=2, learning_rate=1e6)
    assert run.diverged and len(run.epochs) < 3


def test_weights_that_end_in_nan_are_diverged_too() -> None:
    data = datasets.digits()
    data = data._replace(train_x=data.train_x[:32], train_y=data.train_y[:32])
    assert train(data, Precision.of("fp16", "fp16"), epochs=1, learning_rate=1e9).diverged


def test_exp_is_within_two_ulp() -> None:
    x = -np.abs(np.random.default_rng(0).standard_normal(20_000) * 20)
    exact = np.exp(x.astype(np.longdouble))
    error = np.abs(_exp(x).astype(np.longdouble) - exact) / np.spacing(exact.astype(np.float64))
    assert error.max() < 2 and _exp(np.zeros(1))[0] == 1.0 and _exp(np.array([-800.0]))[0] < 1e-300


def test_the_bias_input_is_rounded_like_any_operand() -> None:
    layers = MLP((3, 2)).forward(np.zeros((2, 3)), hu.Machine("q1.7/q16.14/q16.14", on_inexact="quantize"))
    assert layers[0].values[0, -1] == 127 / 128


def test_a_step_that_only_stochastic_rounding_can_hold_is_allowed() -> None:
    data = datasets.digits()
    data = data._replace(train_x=data.train_x[:64], train_y=data.train_y[:64])
    assert not train(data, Precision.of("bf16/fp32", "q4.6:operands=SR8"), epochs=1).diverged


def test_accuracy_counts_rows_that_are_not_finite_as_wrong() -> None:
    logits = np.array([[0.0, 1.0], [np.nan, 1.0], [np.inf, 0.0], [2.0, 1.0]])
    assert accuracy(logits, np.array([1, 1, 0, 0])) == 0.5
    assert infer(MLP((3, 2)), np.zeros((5, 3)), hu.Machine("fp32", on_inexact="quantize"), batch=2).shape == (5, 2)


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
        and 0 <= data.train_x.min() <= data.train_x.max() <= 1
    )
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


def test_bad_arguments_are_refused() -> None:
    data = datasets.digits()
    with pytest.raises(hu.HalfulpError, match="positive"):
        train(data, FP64, epochs=0)
    with pytest.raises(hu.HalfulpError, match="larger than the training set"):
        train(data, FP64, batch=5000)


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="needs the MNIST files under ../shared/data")
def test_real_mnist_learns_on_an_emulated_datapath() -> None:
    data = datasets.load(SHARED / "mnist")
    assert data.train_x.shape == (60000, 784) and data.test_x.shape == (10000, 784)
    data = data._replace(train_x=data.train_x[:6000], train_y=data.train_y[:6000])
    assert train(data, Precision.of("fp8_e4m3/fp32"), epochs=1).test_accuracy > 0.85
