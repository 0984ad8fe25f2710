"""quantize: arrays into any format, of single numbers or of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..emulator.blocks import BlockFormat
from ..emulator.datapath import Datapath
from ..emulator.formats import Format
from ..emulator.names import format as parse_format
from ..emulator.rounding import RNE, Rounding
from .blocks import encode_blocks
from .machine import Machine


def quantize(
    x: ArrayLike,
    fmt: Format | BlockFormat | str,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    axis: int = -1,
) -> Any:
    """Each element of ``x`` rounded once into ``fmt``; overflow, NaN and zeros as ``emulator.arithmetic`` says.

    Parameters
    ----------
    x : real array, any shape (values; float64 is taken as exact).
    fmt : format or name. rounding : Rounding or name. seed : of stochastic rounding.
    axis : the axis that a block format cuts into blocks (``emulator.blocks`` says how scales are chosen).

    Returns
    -------
    float64 array of the same shape, of values exactly representable in ``fmt`` (a float for a scalar).
    """
    fmt = parse_format(fmt)
    if isinstance(fmt, BlockFormat):
        out = fmt.decode(encode_blocks(np.atleast_1d(x), fmt, axis, rounding, seed, backend)).reshape(np.shape(x))
    else:
        out = Machine(Datapath(fmt), backend, seed).quantize(x, fmt, rounding)
    return float(out) if np.ndim(x) == 0 else out
