"""Block formats over arrays: the codes that ``emulator.blocks`` defines, by the kernels' correctly rounded division."""

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
from ..emulator.formats import Format, carrier
from ..emulator.names import block_format
from ..emulator.rounding import RNE, RTO, RTP, Rounding
from .arrays import div, encode, quantize
from .paths import FP64


def encode_blocks(
    values: ArrayLike,
    fmt: BlockFormat | str,
    axis: int = -1,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    *,
    tensor_scale: int | None = None,
    threads: int | None = None,
) -> Blocks:
    """Values put into blocks; ``fmt.decode`` gives the values back that they have there.

    Parameters
    ----------
    values : real array of at least one axis. axis : the axis that is cut into blocks.
    rounding : of the elements; the scale is rounded as its rule says. seed : of stochastic rounding.
    tensor_scale : code of a tensor scale that was found elsewhere; default: picked by the largest magnitude.
    """
    fmt, array = block_format(fmt), carrier(values)
    axis = block_axis(array, axis)
    amax = np.maximum.reduceat(np.abs(array), np.arange(0, array.shape[axis], fmt.size), axis)
    finite = np.isfinite(amax)
    amax = np.where(finite, amax, 0.0)
    if tensor_scale is None:
        tensor_scale = choose_tensor_scale([Fraction(float(amax.max()))], fmt)
    scales = _scales(amax, float(tensor_scale_value(tensor_scale, fmt)), fmt, backend, threads)
    blocks = _under(array, scales, tensor_scale, fmt, axis, rounding, seed, backend, threads)
    if not finite.all():
        blocks.codes[~np.take(finite, np.arange(array.shape[axis]) // fmt.size, axis)] = 0
        blocks.scales[~finite] = fmt.nan_scale
    return blocks


def _under(
    array: np.ndarray,
    scales: np.ndarray,
    tensor_scale: int | None,
    fmt: BlockFormat,
    axis: int,
    rounding: Rounding | str,
    seed: int = 0,
    backend: str = "cpu",
    threads: int | None = None,
) -> Blocks:
    """Values as elements under given scales."""
    within = np.arange(array.shape[axis]) // fmt.size  # the block of each place
    divisors = np.take(scales * float(tensor_scale_value(tensor_scale, fmt)), within, axis)
    nothing = (divisors == 0) | ~np.isfinite(array)
    divided = np.where(nothing, np.copysign(0.0, array), array), np.where(nothing, 1.0, divisors)
    elements = div(*divided, saturating(fmt.element), rounding, seed, backend, threads=threads)
    return Blocks(encode(elements, fmt.element, threads), fmt.scale.encode(scales), tensor_scale, axis, fmt)


def held_blocks(values: np.ndarray, fmt: BlockFormat, axis: int, rounding: Rounding) -> tuple[Blocks, bool]:
    """Values put into blocks, and whether those hold these very values: under the scales that the rule picks, or under
    twice or half of one, as may be of values that were rounded under it before."""
    found = encode_blocks(values, fmt, axis, rounding)
    within = np.arange(values.shape[axis]) // fmt.size

    def lacking(blocks: Blocks) -> np.ndarray:
        """The blocks that hold other values."""
        same = fmt.decode(blocks)
        other = ~((same == values) | ((same != same) & (values != values)))
        return np.logical_or.reduceat(other, np.arange(0, values.shape[axis], fmt.size), axis)

    wrong = lacking(found)
    for factor in (2.0, 0.5):
        scales = np.asarray(fmt.scale.decode(found.scales), np.float64) * factor
        if not wrong.any() or not np.isfinite(values).all():
            break
        scales = quantize(scales, saturating(fmt.scale), RNE)
        tried = _under(values, scales, found.tensor_scale, fmt, axis, rounding)
        better = wrong & ~lacking(tried)
        codes = np.where(np.take(better, within, axis), tried.codes, found.codes)
        found = found._replace(codes=codes, scales=np.where(better, tried.scales, found.scales))
        wrong = wrong & ~better
    return found, not wrong.any()


def _scales(amax: np.ndarray, outer: float, fmt: BlockFormat, backend: str, threads: int | None) -> np.ndarray:
    """Each block's scale, a value of the scale format, which is to be multiplied by ``outer``."""
    nearest = fmt.rule in (Rule.RCEIL, Rule.AMAX)
    unit = (fmt.element.max_finite if nearest else 2.0**fmt.emax) * outer
    way = RTP if fmt.rule is Rule.RCEIL else RNE
    has_zero = fmt.scale.unpack(0).is_zero
    if nearest and has_zero:
        return div(amax, unit, saturating(fmt.scale), way, 0, backend, threads=threads)
    # a power of two, below the wanted scale or above it; rounding to odd keeps the quotient off the threshold
    significand, exponent = np.frexp(div(amax, unit, FP64, RTO, 0, backend, threads=threads))  # in [1/2, 1)
    up = {
        Rule.FLOOR: np.zeros(amax.shape, bool),
        Rule.CEIL: significand > 0.5,
        Rule.EVEN: significand >= 1 - 0.5 ** (top_precision(fmt.element) + 1),  # a tie goes up: kept bits are ones
        Rule.RCEIL: significand > 0.5,
        Rule.AMAX: significand >= 0.75,  # a tie goes up, as of one-bit significands both are odd
    }[fmt.rule]
    power = np.clip(exponent - 1 + up, -500, 500)  # beyond the reach of every scale format
    powers = np.where(amax > 0, np.ldexp(1.0, power), 0.0)
    if has_zero:
        return quantize(powers, saturating(fmt.scale), way, 0, backend, threads=threads)
    return np.clip(powers, fmt.scale.min_subnormal, fmt.scale.max_finite)


def with_least(
    values: np.ndarray, fmt: Format | BlockFormat, codes: np.ndarray | None, terms: int, grouped: bool = False
) -> np.ndarray:
    """Columns of numbers, and after each ``terms`` of them a power of two more, whose exponent is the least that an
    exponent field means there: in blocks that of the scale, to which emin is added if they are not ``grouped``.

    codes : of a block format, the elements'; no ``terms`` numbers lie in two blocks.
    """
    starts = np.arange(0, len(values), terms)
    least = np.zeros((len(starts), values.shape[1]), np.int64)
    if codes is not None:
        assert isinstance(fmt, BlockFormat)
        elements = fmt.element.decode(codes)
        there = np.isfinite(values) & (elements != 0)  # nothing is multiplied elsewhere
        scales = np.divide(values, elements, out=np.zeros(values.shape), where=there)
        least = np.maximum(np.frexp(np.maximum.reduceat(scales, starts, 0))[1] - 1, fmt.scale.emin)
    emin = 0 if grouped else (fmt.element if isinstance(fmt, BlockFormat) else fmt).emin
    return np.insert(values, [*starts[1:], len(values)], np.ldexp(1.0, least + emin), 0)
