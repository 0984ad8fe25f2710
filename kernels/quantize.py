"""quantize: arrays into any format, of single numbers or of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..emulator.blocks import BlockFormat
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format
from ..emulator.names import format as parse_format
from ..emulator.random import Source
from ..emulator.rounding import RNE, Rounding
from . import arrays
from .blocks import encode_blocks


def quantize(
    x: ArrayLike,
    fmt: Format | BlockFormat | str,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    *,
    axis: int = -1,
    flags: bool = False,
    out: np.ndarray | None = None,
    threads: int | None = None,
    random: Source | str = "philox",
) -> Any:
    """Each element of ``x`` rounded once into ``fmt``; overflow, NaN and zeros as ``emulator.arithmetic`` says.

    Parameters
    ----------
    x : real array, any shape (values; taken as exact).
    fmt : format or name. rounding : Rounding or name. seed : of stochastic rounding, in [0, 2^62).
    axis : the axis that a block format cuts into blocks; ``emulator.blocks`` says how it picks their scales.
    flags : also return the IEEE flags (``hu.Flags``) as a uint8 array. NaNs of arrays count as quiet ones.
    out : array that takes the result. threads : of the CPU; they never change a bit.
    random : where SR's random bits come from, as of ``Machine`` (block formats: Philox).

    Returns
    -------
    Array of the same shape, of values exactly representable in ``fmt``: float32 for float32 input whose format
    binary32 holds, else float64 (a float for a scalar). With ``flags`` a pair (values, flags).
    """
    fmt = parse_format(fmt)
    if not isinstance(fmt, BlockFormat):
        return arrays.quantize(x, fmt, rounding, seed, backend, flags=flags, out=out, threads=threads, random=random)
    if flags or out is not None or random != "philox":
        raise HalfulpError(f"{fmt} is a block format: quantize into it without flags, out and random.")
    values = fmt.decode(encode_blocks(np.atleast_1d(x), fmt, axis, rounding, seed, backend, threads=threads))
    return float(values[0]) if np.ndim(x) == 0 else values
