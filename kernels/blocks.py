"""Block formats over arrays: the same codes as ``emulator.blocks`` gives, by binary64 arithmetic on whole arrays.

Quotients x / scale are taken once, folded to odd at 53 bits (see ``target._fits_odd``), and then rounded once.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from ..emulator.blocks import (
    BlockFormat,
    Blocks,
    Rule,
    block_axis,
    choose_tensor_scale,
    saturating,
    tensor_scale_value,
    top_precision,
)
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format, carrier
from ..emulator.names import block_format
from ..emulator.rounding import RNE, RTP, Rounding
from .machine import Machine

_FAR = 400  #: beyond 2^+-400 a quotient is as far out of reach as any: parts of a block format lie within 2^+-340


def encode_blocks(
    values: ArrayLike,
    fmt: BlockFormat | str,
    axis: int = -1,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    tensor_scale: int | None = None,
) -> Blocks:
    """Values put into blocks; ``fmt.decode`` gives the values back that they have there.

    Parameters
    ----------
    values : real array of at least one axis. axis : the axis that is cut into blocks.
    rounding : of the elements; the scale is rounded as its rule says. seed : of stochastic rounding.
    tensor_scale : code of a tensor scale that was found elsewhere; default: picked by the largest magnitude.
    """
    fmt, how, array = block_format(fmt), Rounding.parse(rounding), carrier(values)
    axis = block_axis(array, axis)
    if fmt.element.precision + how.random_bits > 51 and max(part.precision for part in fmt.parts[1:]) > 1:
        raise HalfulpError(f"{how} into {fmt} needs more than 53 bits of a quotient: use the format's own encode.")
    starts = np.arange(0, array.shape[axis], fmt.size)
    amax = np.maximum.reduceat(np.abs(array), starts, axis)
    finite = np.isfinite(amax)
    amax = np.where(finite, amax, 0.0)
    if tensor_scale is None:
        tensor_scale = choose_tensor_scale([Fraction(float(amax.max()))], fmt)
    outer = float(tensor_scale_value(tensor_scale, fmt))

    scales = _scales(amax, outer, fmt, backend)
    within = np.arange(array.shape[axis]) // fmt.size  # the block of each place
    divisors = np.take(scales * outer, within, axis)
    quotients = _quotients(np.where(np.isfinite(array), array, 0.0), divisors)
    elements = _rounded(quotients, saturating(fmt.element), how, seed, backend)
    codes, scale_codes = fmt.element.encode(elements), fmt.scale.encode(scales)
    if not finite.all():
        codes[~np.take(finite, within, axis)] = 0
        scale_codes[~finite] = fmt.nan_scale
    return Blocks(codes, scale_codes, tensor_scale, axis)


def _scales(amax: np.ndarray, outer: float, fmt: BlockFormat, backend: str) -> np.ndarray:
    """Each block's scale, a value of the scale format."""
    if fmt.rule in (Rule.RCEIL, Rule.AMAX):
        wanted = _quotients(amax, np.array(fmt.element.max_finite * outer))
    else:
        significand, exponent = np.frexp(_quotients(amax, np.array(outer)))  # significand in [1/2, 1)
        if fmt.rule is Rule.CEIL:
            up = significand > 0.5
        elif fmt.rule is Rule.EVEN:  # whether rounding carries; a tie does, since all kept bits are ones
            up = significand >= 1 - 0.5 ** (top_precision(fmt.element) + 1)
        else:
            up = np.zeros(amax.shape, bool)
        wanted = np.where(amax > 0, np.ldexp(1.0, exponent - 1 + up - fmt.emax), 0.0)
    if not fmt.scale.unpack(0).is_zero:
        wanted = np.maximum(wanted, fmt.scale.min_subnormal)
    return _rounded(wanted, saturating(fmt.scale), RTP if fmt.rule is Rule.RCEIL else RNE, 0, backend)


def _rounded(values: np.ndarray, fmt: Format, rounding: Rounding, seed: int, backend: str) -> np.ndarray:
    return Machine(Datapath(fmt), backend, seed).quantize(values, fmt, rounding)


def _quotients(x: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """x / divisor rounded to odd at 53 bits, its exponent kept within +-400; zero where the divisor is zero."""
    m, e = np.frexp(np.abs(x))
    n, f = np.frexp(np.where(divisor > 0, divisor, 1.0))
    q = m / n  # to nearest, in (1/2, 2) or zero
    product, error = _product(q, n)
    rest = (m - product) - error  # m - q n: a binary64 number, so exact
    bits = q.view(np.int64)
    step = np.where((rest != 0) & (bits & 1 == 0), np.where(rest > 0, 1, -1), 0)
    odd = (bits + step).view(np.float64)
    scaled = np.ldexp(odd, np.clip(e - f, -_FAR, _FAR))
    return np.copysign(np.where(divisor > 0, scaled, 0.0), x)


def _product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x * y and its error, exact (Dekker 1971, doi:10.1007/BF01397083), for magnitudes near 1."""
    product = x * y
    (x1, x0), (y1, y0) = _halves(x), _halves(y)
    return product, ((x1 * y1 - product) + x1 * y0 + x0 * y1) + x0 * y0


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x = high + low with 26 bits each (Veltkamp)."""
    t = 134217729.0 * x  # 2^27 + 1
    high = t - (t - x)
    return high, x - high
