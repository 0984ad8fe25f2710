"""Post-training quantisation to fixed point: for each layer the formats of a word length that lose least."""

from __future__ import annotations

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat
from ..kernels.quantize import quantize
from .arithmetic import Arithmetic
from .data import Dataset
from .layers import Conv2d, Layer, Linear
from .precision import Precision, Static
from .training import entering

_ACCUMULATOR = 48  #: bits
_SPARE = 4  #: of integer bits that may be given up: what is beyond saturates


def best_format(values: np.ndarray, word: int) -> FixedFormat:
    """The signed format of ``word`` bits with the least squared error over some numbers, rounded to nearest."""
    largest = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(largest):
        raise HalfulpError("numbers to find a format for hold an infinity or a NaN.")
    whole = int(np.frexp(largest)[1]) + 1 if largest else 1  # with the sign
    formats = [FixedFormat(whole - less, word - whole + less) for less in range(min(_SPARE, word - 1) + 1)]
    errors = [float(np.square(values - np.asarray(quantize(values, fmt))).sum()) for fmt in formats]
    return formats[int(np.argmin(errors))]


def calibrated(network: Layer, data: Dataset, inputs: np.ndarray, word: int, output: str = "fp32") -> Static:
    """A precision for each Linear and Conv2d layer: weights and inputs in ``best_format``, found on what comes into it
    when the network runs on some inputs in binary32; sums exact in 48 bits, handed out in ``output``.

    Parameters
    ----------
    inputs : rows of inputs, as of ``data.train_x``. word : bits, 2 to 16.
    """
    if not 2 <= word <= 16:
        raise HalfulpError(f"calibration finds formats of 2 to 16 bits, not {word}.")
    plain = Precision.of("fp32", "fp32")
    run = Arithmetic(Static(plain), training=False)
    network.forward(entering(data, inputs), run)
    layers: dict[str, Precision] = {}
    for layer in network.walk():
        if isinstance(layer, Linear | Conv2d):
            (seen,) = layer.saved
            a = best_format(np.append(seen.values, 1.0), word)  # the 1 is what the bias is the weight of
            b = best_format(np.asarray(layer.weight.value), word)
            last = a.fraction_bits + b.fraction_bits
            forward = Datapath.parse(f"{a}*{b}/{FixedFormat(_ACCUMULATOR - last, last)}/{output}")
            layers[layer.name] = Precision(forward, plain.grad_input, plain.grad_weight, plain.update)
    return Static(plain, layers)
