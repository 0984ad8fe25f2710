"""Convolutions as products of matrices, whose second operand, the patches, is unfolded a panel at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from .backends import Backend
from .operands import Operand
from .products import Draw, Way, multiply, way_of
from .structs import Window

_FAR = 1 << 16  #: strides and paddings, at most
_PANEL = 1 << 21  #: numbers of unfolded patches at a time, at most (but those of one image)


def window(x: tuple[int, ...], w: tuple[int, ...], stride: int, padding: int) -> Window:
    """The geometry of a convolution of (N, C, H, W) with (O, C, kh, kw)."""
    if len(x) != 4 or len(w) != 4 or x[1] != w[1]:
        raise HalfulpError(f"conv2d needs shapes (N, C, H, W) and (O, C, kh, kw), not {x} and {w}.")
    whole = all(isinstance(n, (int, np.integer)) for n in (stride, padding))
    if not whole or not 1 <= stride <= _FAR or not 0 <= padding <= _FAR:
        raise HalfulpError(f"conv2d needs a stride of 1...{_FAR} and a padding of 0...{_FAR}, not {stride}, {padding}.")
    height, width = ((n + 2 * padding - k) // stride + 1 for n, k in zip(x[2:], w[2:], strict=True))
    if height < 1 or width < 1 or 0 in x or 0 in w:
        raise HalfulpError(f"conv2d of {x} with {w}, stride {stride} and padding {padding}, has no results.")
    return Window(x[1], x[2], x[3], w[2], w[3], height, width, int(stride), int(padding), 0, 0)


class Bias(NamedTuple):
    """Weights, (O,), of a constant input, which come last in each dot product."""

    weights: Any
    constant: float  #: 1, as the images' format has it


def convolve(
    datapath: Datapath, x: Operand, w: Operand, geometry: Window, backend: Backend, draw: Draw, bias: Bias | None = None
) -> tuple[Any, Way]:
    """The sums, (N, O, H', W'), flat, and the way: w's rows times patches of x, in the order (c, i, j)."""
    refuse_blocks(datapath)
    swapped = replace(datapath, a=datapath.b, b=datapath.a)  # weights are the rows
    images, outputs = len(x.values), len(w.values)
    pixels, depth = geometry.out_height * geometry.out_width, w.values[0].size
    rows = replace(w, values=w.values.reshape(outputs, depth), fmt=datapath.b)
    if bias is not None:
        rows = replace(rows, values=backend.xp.hstack([rows.values, bias.weights.reshape(outputs, 1)]), top=None)
    way = way_of(swapped, rows, _numbers_of(x, datapath, bias, backend), backend, images * pixels)
    kind = _carrier(way, backend)
    rows = replace(rows, values=rows.values.astype(kind, copy=False))
    draws = any(rounding.random_bits for _, rounding in datapath.accumulators) or datapath.product_rounding.random_bits
    together = 1 if draws else max(1, min(images, _PANEL // (depth * pixels)))
    source = backend.array(x.values, x.values.dtype.type).reshape(-1)
    out = backend.xp.empty((images, outputs, pixels))
    for first in range(0, images, together):
        count = min(together, images - first)
        patches = backend.scratch("patches", rows.values.shape[1] * count * pixels, kind)
        part = geometry._replace(first=first, images=count)
        backend.launch("unfold", depth * count, source, patches, part, work=pixels)
        if bias is not None:
            patches[depth * count * pixels :] = bias.constant
        columns = replace(x, values=patches.reshape(-1, count * pixels), fmt=datapath.a)
        if count == 1:
            multiply(swapped, rows, columns, out.reshape(-1), backend, draw, way, first * outputs * pixels, pixels)
        else:
            sums = backend.scratch("convolved", outputs * count * pixels)
            multiply(swapped, rows, columns, sums, backend, draw, way)
            out[first : first + count] = sums.reshape(outputs, count, pixels).transpose(1, 0, 2)
    return out.reshape(-1), way


def unfold(x: Operand, geometry: Window, backend: Backend, bias: Bias | None = None) -> Operand:
    """The patches of all images, (C kh kw, N H' W'), in the order (c, i, j); a bias's constant is a last row."""
    depth, images = geometry.channels * geometry.kernel_height * geometry.kernel_width, len(x.values)
    pixels = images * geometry.out_height * geometry.out_width
    patches = backend.xp.empty((depth + (bias is not None), pixels))
    source = backend.array(x.values).reshape(-1)
    part = geometry._replace(first=0, images=images)
    backend.launch("unfold", depth * images, source, patches.reshape(-1), part, work=pixels // images)
    patches[depth:] = bias.constant if bias is not None else 0.0
    return replace(x, values=patches, top=None)


def spread(dy: Operand, x: tuple[int, ...], w: tuple[int, ...], stride: int, padding: int, backend: Backend) -> Operand:
    """The gradient at a convolution's results, (N, O, H', W'), as images that w, turned, is to slide over to give the
    one at its inputs: stride - 1 zeros between its pixels, and as many around as a kernel reaches."""
    geometry = window(x, w, stride, padding)
    if dy.shape != (x[0], w[0], geometry.out_height, geometry.out_width):
        raise HalfulpError(
            f"conv2d of {x} with {w} has results {(x[0], w[0], geometry.out_height, geometry.out_width)}, but the"
            f" gradient there is {dy.shape}."
        )
    if padding > min(w[2:]) - 1:
        raise HalfulpError(
            f"a gradient through conv2d needs a padding below the kernel's sides {w[2:]}, not {padding}."
        )
    if stride == 1 and padding == 0 and w[2] == w[3] == 1:
        return dy
    sides = [n + k - 1 for n, k in zip(x[2:], w[2:], strict=True)]
    images = backend.xp.zeros((*dy.shape[:2], *sides), dy.values.dtype)
    top, left = (k - 1 - padding for k in w[2:])
    rows, columns = ((n - 1) * stride + 1 for n in dy.shape[2:])
    images[:, :, top : top + rows : stride, left : left + columns : stride] = dy.values
    return replace(dy, values=images)


def refuse_blocks(datapath: Datapath) -> None:
    if datapath.in_blocks:
        raise HalfulpError(f"conv2d on {datapath.name}: patches are not in blocks; use matmul of them.")


def _numbers_of(x: Operand, datapath: Datapath, bias: Bias | None, backend: Backend) -> Operand:
    """An operand of the patches' numbers: those of the images, and the bias's constant."""
    if bias is None:
        return replace(x, fmt=datapath.a)
    top = None if x.top is None else max(x.top, bias.constant)
    return replace(x, values=backend.xp.append(x.values.reshape(-1), bias.constant), fmt=datapath.a, top=top)


def _carrier(way: Way, backend: Backend) -> Any:
    """The type of the patches that the way needs."""
    if way.engine == "blas":
        return np.dtype(way.certificate.dtype).type
    return way.plan.carrier if way.plan is not None and backend.name == "cpu" else np.float64


def patches_of(images: Any, geometry: Window, backend: Backend) -> Callable[[int, int], np.ndarray]:
    """What gives the patch of an image at a pixel of the result, flat, in the order (c, i, j)."""
    g = geometry

    def patch(image: int, pixel: int) -> np.ndarray:
        top, left = (n * g.stride - g.padding for n in divmod(pixel, g.out_width))
        out = np.zeros((g.channels, g.kernel_height, g.kernel_width))
        rows, columns = (
            slice(max(first, 0), max(min(first + size, end), 0))
            for first, size, end in ((top, g.kernel_height, g.height), (left, g.kernel_width, g.width))
        )
        part = backend.to_host(images[image, :, rows, columns])
        y, x = max(-top, 0), max(-left, 0)
        out[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        return out.reshape(-1)

    return patch
