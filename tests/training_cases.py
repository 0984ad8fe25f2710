"""What the tests of training share."""

from __future__ import annotations

import halfulp as hu
import numpy as np
from halfulp.models import data as datasets
from halfulp.models.networks import Architecture
from halfulp.models.optimisers import SGD, Optimiser
from halfulp.models.precision import Policy, Precision, Static
from halfulp.models.training import Recipe

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
