"""Networks, by name: each a layer made of layers, for a kind of data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from .attention import Embedding, Mean, Patches, Positions, block
from .data import Dataset
from .layers import Conv2d, Layer, Linear
from .pointwise import AveragePool, BatchNorm, Flatten, LayerNorm, MaxPool, ReLU, Reshape, Residual, Sequential


def mlp(data: Dataset, rng: np.random.Generator, hidden: tuple[int, ...] = (32,), sigma: float | None = None) -> Layer:
    """Fully connected layers with ReLU between them. ``sigma``: of the initial weights; None: He's."""
    sizes, layers, names = (data.train_x[0].size, *hidden, data.classes), [], []
    if any(size < 1 for size in sizes):
        raise HalfulpError("hidden sizes must be positive integers.")
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        layers += [Linear(inputs, outputs, rng, sigma), ReLU()]
        names += [f"fc{i}", f"relu{i}"]
    return Sequential(*layers[:-1], names=tuple(names[:-1]))


def lenet(
    data: Dataset,
    rng: np.random.Generator,
    channels: tuple[int, int] = (8, 16),
    hidden: int = 128,
    sigma: float | None = None,
) -> Layer:
    """conv 5 x 5, pool, conv 5 x 5, pool, two fully connected layers: with (8, 16), 128 Gupta et al.'s (2015). Images
    of less than 16 x 16 are padded, so that there is something left."""
    shape = data.shape
    padding = 0 if min(shape[1:]) >= 16 else 2
    sides = [((side + 2 * padding - 4) // 2 + 2 * padding - 4) // 2 for side in shape[1:]]
    features = channels[1] * sides[0] * sides[1]
    if min(sides) < 1:
        raise HalfulpError(f"two convolutions and poolings leave nothing of images {shape[1:]}: 4 x 4 are needed.")
    named = {
        "image": Reshape(*shape),
        "conv1": Conv2d(shape[0], channels[0], 5, rng, padding=padding, sigma=sigma),
        "relu1": ReLU(),
        "pool1": MaxPool(2),
        "conv2": Conv2d(channels[0], channels[1], 5, rng, padding=padding, sigma=sigma),
        "relu2": ReLU(),
        "pool2": MaxPool(2),
        "flat": Flatten(),
        "fc1": Linear(features, hidden, rng, sigma),
        "relu3": ReLU(),
        "fc2": Linear(hidden, data.classes, rng, sigma),
    }
    return Sequential(*named.values(), names=tuple(named))


def cifar_quick(data: Dataset, rng: np.random.Generator, channels: int = 64, sigma: float | None = None) -> Layer:
    """Three times conv 5 x 5, ReLU, pool 3 with stride 2; then fully connected: Gupta et al.'s (2015) for CIFAR-10."""
    shape = data.shape
    named: dict[str, Layer] = {"image": Reshape(*shape)}
    inputs, sides = shape[0], list(shape[1:])
    for i in (1, 2, 3):
        named |= {
            f"conv{i}": Conv2d(inputs, channels, 5, rng, padding=2, sigma=sigma),
            f"relu{i}": ReLU(),
            f"pool{i}": MaxPool(3, 2),
        }
        inputs, sides = channels, [(side - 3) // 2 + 1 for side in sides]
    if min(sides) < 1:
        raise HalfulpError(f"three poolings leave nothing of images {shape[1:]}: they need 15 x 15 pixels.")
    named |= {"flat": Flatten(), "fc": Linear(channels * sides[0] * sides[1], data.classes, rng, sigma)}
    return Sequential(*named.values(), names=tuple(named))


def resnet20(data: Dataset, rng: np.random.Generator, width: int = 16, depth: int = 3) -> Layer:
    """He et al. 2016 (arXiv 1512.03385, §4.2): a convolution, three stages of ``depth`` residual blocks of ``width``,
    twice and four times as many channels, the mean over pixels, fully connected; 20 layers with depth 3. Where the
    number of channels changes, the shortcut is a convolution 1 x 1."""
    shape = data.shape

    def normalised(inputs: int, outputs: int, side: int, stride: int) -> list[Layer]:
        return [Conv2d(inputs, outputs, side, rng, stride, side // 2), BatchNorm(outputs)]

    layers: list[Layer] = [Reshape(*shape), *normalised(shape[0], width, 3, 1), ReLU()]
    names = ["image", "conv", "norm", "relu"]
    inputs = width
    for stage, index in itertools.product(range(3), range(depth)):
        outputs = width << stage
        stride = 2 if stage and not index else 1
        body = Sequential(
            *normalised(inputs, outputs, 3, stride), ReLU(), *normalised(outputs, outputs, 3, 1),
            names=("conv1", "norm1", "relu", "conv2", "norm2"),
        )  # fmt: skip
        shortcut = None
        if inputs != outputs:
            shortcut = Sequential(*normalised(inputs, outputs, 1, stride), names=("conv", "norm"))
        layers += [Residual(body, shortcut), ReLU()]
        names += [f"stage{stage + 1}block{index + 1}", f"relu{stage + 1}{index + 1}"]
        inputs = outputs
    layers += [AveragePool(), Linear(inputs, data.classes, rng)]
    return Sequential(*layers, names=(*names, "mean", "fc"))


def vit(
    data: Dataset,
    rng: np.random.Generator,
    side: int | None = None,
    width: int = 32,
    heads: int = 4,
    depth: int = 2,
) -> Layer:
    """A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929): patches, blocks, the mean over places.
    ``side``: of a patch; None: a quarter of the image."""
    channels, height, broad = data.shape
    if channels != 1:
        raise HalfulpError("the vision transformer takes images with one channel.")
    side = side or height // 4
    if side < 1:
        raise HalfulpError(f"the vision transformer cuts images into patches: {height} x {broad} pixels are too few.")
    places = (height // side) * (broad // side)
    named: dict[str, Layer] = {
        "patches": Patches(height, broad, side),
        "embed": Linear(side * side, width, rng),
        "places": Positions(places, width, rng),
    }
    named |= {f"block{i + 1}": block(width, heads, rng) for i in range(depth)}
    named |= {"norm": LayerNorm(width), "mean": Mean(), "head": Linear(width, data.classes, rng)}
    return Sequential(*named.values(), names=tuple(named))


def gpt(data: Dataset, rng: np.random.Generator, width: int = 32, heads: int = 4, depth: int = 2) -> Layer:
    """A small language model (Radford et al. 2019): tokens to tokens; each place says what comes next."""
    named: dict[str, Layer] = {
        "tokens": Embedding(data.classes, width, rng),
        "places": Positions(data.train_x.shape[1], width, rng),
    }
    named |= {f"block{i + 1}": block(width, heads, rng, causal=True) for i in range(depth)}
    named |= {"norm": LayerNorm(width), "head": Linear(width, data.classes, rng)}
    return Sequential(*named.values(), names=tuple(named))


#: Networks by name.
NETWORKS: dict[str, Callable[..., Layer]] = {
    "mlp": mlp,
    "lenet": lenet,
    "cifar": cifar_quick,
    "resnet20": resnet20,
    "vit": vit,
    "gpt": gpt,
}


@dataclass(frozen=True)
class Architecture:
    """A network's name and what it is made with: enough to build it again."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, **options: Any) -> Architecture:
        if name not in NETWORKS:
            raise HalfulpError(f"no network is called {name!r}: there are {', '.join(NETWORKS)}.")
        return cls(name, tuple(sorted(options.items())))

    def build(self, data: Dataset, seed: int) -> Layer:
        """The network, its layers named, with weights drawn from the seed."""
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in self.options}
        network = NETWORKS[self.name](data, np.random.default_rng(seed), **options)
        with_weights = [layer for layer in network.walk() if layer.parameters()]
        with_weights[0].is_first = True
        return network

    def describe(self) -> dict[str, Any]:
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options}
        return {"network": self.name, **options}
