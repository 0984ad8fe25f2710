"""Layers: their gradients against finite differences in fp64, and what is computed where."""

from __future__ import annotations

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator.errors import HalfulpError
from halfulp.kernels.operands import Operand
from halfulp.kernels.paths import FP64
from halfulp.models.arithmetic import Arithmetic
from halfulp.models.attention import Attention, Embedding, Mean, Patches, Positions, block
from halfulp.models.data import Dataset
from halfulp.models.elementary import exp, sigmoid, softmax, softmax_cross_entropy
from halfulp.models.layers import Conv2d, Layer, Linear
from halfulp.models.networks import NETWORKS, Architecture
from halfulp.models.pointwise import (
    GELU,
    AveragePool,
    BatchNorm,
    Flatten,
    LayerNorm,
    MaxPool,
    ReLU,
    Reshape,
    Residual,
    Sequential,
)
from halfulp.models.precision import Clock, Precision, Static
from halfulp.models.training import entering, parameters

EXACT = Static(Precision.of("fp64", "fp64"))
RNG = np.random.default_rng(7)


def built(layer: Layer) -> Layer:
    list(layer.walk())
    return layer


def operand(x: np.ndarray) -> Operand:
    return Operand(x, FP64, None)


CASES = {
    "linear": lambda: (Linear(4, 3, RNG), (5, 4)),
    "linear of sequences": lambda: (Linear(4, 3, RNG), (2, 3, 4)),
    "conv": lambda: (Conv2d(2, 3, 3, RNG), (2, 2, 6, 5)),
    "conv, stride 2, padding 1": lambda: (Conv2d(2, 3, 3, RNG, 2, 1), (2, 2, 6, 7)),
    "conv 1 x 1, stride 2": lambda: (Conv2d(2, 3, 1, RNG, 2), (2, 2, 5, 6)),
    "conv 1 x 1": lambda: (Conv2d(3, 2, 1, RNG), (2, 3, 4, 4)),
    "conv 5 x 5, stride 3": lambda: (Conv2d(1, 2, 5, RNG, 3, 2), (2, 1, 9, 8)),
    "relu": lambda: (ReLU(), (4, 5)),
    "gelu": lambda: (GELU(), (4, 5)),
    "pool": lambda: (MaxPool(2), (2, 2, 5, 6)),
    "pool 3, stride 2": lambda: (MaxPool(3, 2), (2, 2, 7, 8)),
    "mean over pixels": lambda: (AveragePool(), (2, 3, 4, 5)),
    "mean over places": lambda: (Mean(), (2, 3, 4)),
    "flatten": lambda: (Flatten(), (2, 3, 4)),
    "reshape": lambda: (Reshape(2, 3), (4, 6)),
    "batch norm": lambda: (BatchNorm(3), (6, 3)),
    "batch norm of images": lambda: (BatchNorm(2), (3, 2, 4, 3)),
    "layer norm": lambda: (LayerNorm(5), (2, 3, 5)),
    "residual": lambda: (Residual(Sequential(Linear(4, 4, RNG), GELU())), (3, 4)),
    "residual with a shortcut": lambda: (Residual(Linear(4, 3, RNG), Linear(4, 3, RNG)), (3, 4)),
    "attention": lambda: (Attention(6, 2, RNG), (2, 4, 6)),
    "causal attention": lambda: (Attention(6, 3, RNG, causal=True), (2, 4, 6)),
    "positions": lambda: (Positions(5, 3, RNG), (4, 3, 3)),
    "block": lambda: (block(8, 2, RNG, causal=True), (2, 3, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    layer, shape = CASES[name]()
    built(layer)
    x = RNG.normal(size=shape)
    weights = parameters(layer)
    for parameter in weights.values():  # gains and offsets, too, are to be something
        parameter.value = operand(parameter.value.values + RNG.normal(0, 0.3, parameter.value.shape))
    run = Arithmetic(EXACT)
    given = RNG.normal(size=layer.forward(operand(x), run).shape)

    def loss() -> float:
        return float((run.host(layer.forward(operand(x), run)) * given).sum())

    loss()
    dx = layer.backward(operand(given), run)
    checked = {f"d{key}": (p.value.values, run.host(p.gradient)) for key, p in weights.items()}  # type: ignore[arg-type]
    checked["dx"] = (x, run.host(dx))  # type: ignore[arg-type]
    step = 1e-5
    for key, (values, gradient) in checked.items():
        assert values.shape == gradient.shape, key
        numeric = np.zeros(values.shape)
        for index in np.ndindex(values.shape):
            before = values[index]
            for sign in (1, -1):
                values[index] = before + sign * step
                numeric[index] += sign * loss() / (2 * step)
            values[index] = before
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=2e-7, err_msg=key)


def test_the_gradient_of_an_embedding_is_added_up_where_tokens_repeat() -> None:
    layer = built(Embedding(4, 3, RNG))
    run, tokens, given = Arithmetic(EXACT), np.array([[1, 2, 1], [3, 1, 2]]), RNG.normal(size=(2, 3, 3))
    out = layer.forward(operand(tokens.astype(float)), run)
    assert np.array_equal(out.values, layer.table.value.values[tokens])
    assert layer.backward(operand(given), run) is None
    expected = np.zeros((4, 3))
    np.add.at(expected, tokens, given)
    np.testing.assert_allclose(run.host(layer.table.gradient), expected, rtol=1e-14)
    with pytest.raises(HalfulpError, match="has 4 tokens, but is given 4"):
        layer.forward(operand(np.array([[4.0]])), run)


def test_patches_are_squares_row_by_row() -> None:
    image = np.arange(24.0).reshape(1, 24)  # 4 x 6
    out = built(Patches(4, 6, 2)).forward(operand(image), Arithmetic(EXACT))
    assert out.shape == (1, 6, 4) and out.values[0, 1].tolist() == [2, 3, 8, 9] and out.values[0, 3].tolist()[0] == 12


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_have_the_gradient_of_their_loss(name: str) -> None:
    """Along a random direction in the space of all weights, and none is left out."""
    side = 16 if name == "cifar" else 8
    if name == "gpt":
        tokens = RNG.integers(0, 5, (4, 7))
        data = Dataset("text", tokens[:, :-1], tokens[:, 1:], tokens[:, :-1], tokens[:, 1:], classes=5)
    else:
        x, y = RNG.integers(0, 17, (6, side * side)), RNG.integers(0, 3, 6)
        data = Dataset("noise", x, y, x, y, (1, side, side), 16.0, 3)
    small = {"cifar": {"channels": 2}, "resnet20": {"width": 2, "depth": 2}, "vit": {"width": 8}, "gpt": {"width": 8}}
    network = Architecture.of(name, **small.get(name, {})).build(data, seed=3)
    run, weights = Arithmetic(EXACT), parameters(network)
    run.begin(Clock())
    batch = data.train_x

    def loss() -> float:
        out = run.host(network.forward(entering(data, batch), run))
        return softmax_cross_entropy(out.reshape(-1, out.shape[-1]), data.train_y.ravel())[0]

    out = network.forward(entering(data, batch), run)
    error = softmax_cross_entropy(run.host(out).reshape(-1, out.shape[-1]), data.train_y.ravel())[1]
    network.backward(operand(error.reshape(out.shape)), run)
    directions = {key: RNG.normal(size=p.value.shape) for key, p in weights.items()}
    expected = sum((run.host(p.gradient) * directions[key]).sum() for key, p in weights.items()) / len(error)  # type: ignore[arg-type]
    step, numeric = 1e-6, 0.0
    for sign in (1, -1):
        for key, p in weights.items():
            p.value = operand(p.value.values + sign * step * directions[key])
        numeric += sign * loss() / (2 * step)
        for key, p in weights.items():
            p.value = operand(p.value.values - sign * step * directions[key])
    assert numeric == pytest.approx(expected, rel=2e-4, abs=1e-7)
    assert all(np.abs(run.host(p.gradient)).max() > 0 for p in weights.values())  # type: ignore[arg-type]


def test_a_pool_keeps_a_nan() -> None:
    images = np.array([[[[1.0, np.nan], [2.0, 3.0]]], [[[4.0, 1.0], [2.0, 3.0]]]])
    out = built(MaxPool(2)).forward(operand(images), Arithmetic(EXACT)).values
    assert np.isnan(out[0, 0, 0, 0]) and out[1, 0, 0, 0] == 4.0


def test_the_first_of_equals_gets_a_pools_gradient() -> None:
    layer, run = built(MaxPool(2)), Arithmetic(EXACT)
    layer.forward(operand(np.array([[[[1.0, 2.0], [2.0, 2.0]]]])), run)
    assert layer.backward(operand(np.array([[[[5.0]]]])), run).values.tolist() == [[[[0.0, 5.0], [0.0, 0.0]]]]


@pytest.mark.parametrize(
    ("layer", "shape", "forward", "backward"),
    [  # numbers read and written: inputs and outputs; gradients of outputs, what is saved, gradients of inputs
        (MaxPool(2), (2, 3, 4, 4), 96 + 24, 24 + 96),
        (AveragePool(), (2, 3, 4, 4), 96 + 6, 6 + 96),
        (Mean(), (2, 4, 3), 24 + 6, 6 + 24),
        (GELU(), (2, 6), 12 + 12, 2 * 12 + 12),
        (LayerNorm(6), (2, 6), 12 + 12, 2 * 12 + 12),
    ],
)
def test_what_is_no_contraction_moves_what_it_reads_and_writes(layer, shape, forward, backward) -> None:
    run, layer = Arithmetic(Static(Precision.of("fp32", "fp32"))), built(layer)
    x = Operand(RNG.normal(size=shape).astype(np.float32).astype(float), hu.format("fp32"), None)
    y = layer.forward(x, run)
    assert run.ledgers["forward"].bits_moved == {"sram": 32 * forward}
    layer.backward(y, run)
    assert run.ledgers["grad_input"].bits_moved == {"sram": 32 * backward}


def test_batch_norm_infers_by_what_it_has_learnt() -> None:
    layer = built(BatchNorm(2))
    x = RNG.normal(3.0, 2.0, (10, 2))
    for _ in range(200):
        layer.forward(operand(x), Arithmetic(EXACT))
    out = layer.forward(operand(x[:1]), Arithmetic(EXACT, training=False)).values
    np.testing.assert_allclose(out, (x[:1] - x.mean(0)) / x.std(0, ddof=1), atol=1e-5)  # 5 % off if biased


def test_results_of_functions_are_rounded_into_what_activations_are_stored_in() -> None:
    policy = Static(Precision.of("bf16/fp32/bf16", "fp32"))
    run = Arithmetic(policy)
    x = operand(RNG.normal(size=(3, 8)))
    for layer in (GELU(), LayerNorm(8), BatchNorm(8)):
        out = built(layer).forward(x, run)
        assert out.fmt == hu.format("bf16") and np.array_equal(out.values, hu.quantize(out.values, "bf16"))
        back = layer.backward(x, run)
        assert back is not None and back.fmt == hu.format("bf16")
    assert run.ledgers["forward"].operations and run.ledgers["grad_input"].operations


def test_exp_is_within_two_ulp() -> None:
    x = -np.abs(np.random.default_rng(0).standard_normal(20_000) * 20)
    exact = np.exp(x.astype(np.longdouble))
    error = np.abs(exp(x).astype(np.longdouble) - exact) / np.spacing(exact.astype(np.float64))
    assert error.max() < 2 and exp(np.zeros(1))[0] == 1.0 and exp(np.array([-800.0]))[0] < 1e-300
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-14)
    np.testing.assert_allclose(sigmoid(-x), 1 / (1 + np.exp(x)), rtol=1e-14)


def test_softmax_sees_what_it_may() -> None:
    shares = softmax(np.array([[1.0, 2.0, 500.0]]), np.array([[True, True, False]]))
    np.testing.assert_allclose(shares, [[1 / (1 + np.e), np.e / (1 + np.e), 0.0]])
    assert shares[0, 2] == 0.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Attention(6, 4, RNG), "width 6 cannot be cut into 4 heads"),
        (lambda: Patches(5, 4, 2), "5 x 4 are not cut into patches of 2 x 2"),
        (lambda: Architecture.of("transformer"), "no network is called 'transformer': there are mlp, lenet"),
        (
            lambda: built(MaxPool(5)).forward(operand(np.ones((1, 1, 4, 4))), Arithmetic(EXACT)),
            "MaxPool of side 5 has no results on images",
        ),
    ],
)
def test_what_layers_refuse(make, said: str) -> None:
    with pytest.raises(HalfulpError) as error:
        make()
    assert said in str(error.value)
