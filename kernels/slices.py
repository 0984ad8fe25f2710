"""Exact sums by slices: operands cut into pieces so narrow that BLAS adds their products without any error.

Ozaki et al. 2012 (doi:10.1007/s11075-011-9478-1). With every number a multiple of 2^low of at most so many bits, A is
cut into parts of w_a bits and B into parts of w_b; sums of K products of parts are integers below 2^53. The products of
equal weight are added up; their sum, in limbs, is rounded once.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.formats import FixedFormat
from ..emulator.rounding import Mode
from .backends import Backend, runs_across
from .compute import compute
from .paths import ONE, Op, Path, Span, mac_path
from .structs import Draws, Layout
from .target import target

_MOST = 24  #: products of parts beyond which the kernels are as fast


class Slicing(NamedTuple):
    """How operands are cut."""

    bits: tuple[int, int]  #: of a part of A, and of B
    parts: tuple[int, int]
    low: tuple[int, int]  #: exponents of the units

    def __str__(self) -> str:
        return (
            f"exact slices, {self.parts[0]} of {self.bits[0]} bits by {self.parts[1]} of {self.bits[1]}, whose products"
            " float64 adds without error, rounded once"
        )


def slicing(length: int, a: Span, b: Span) -> Slicing | None:
    """The fewest parts of operands with bits at these exponents; None where they would be too many."""
    if min(a[0], b[0], a[0] + b[0]) < -900 or max(a[1], b[1], a[1] + b[1]) > 900:
        return None
    best: Slicing | None = None
    wide_a, wide_b = a[1] - a[0] + 1, b[1] - b[0] + 1
    for parts_a in range(1, _MOST + 1):
        bits_a = -(-wide_a // parts_a)
        for parts_b in range(1, _MOST // parts_a + 1):
            bits_b = -(-wide_b // parts_b)
            together = math.ceil(math.log2(length * min(parts_a, parts_b)))
            fits = bits_a + bits_b + together <= 53
            if fits and (best is None or parts_a * parts_b < best.parts[0] * best.parts[1]):
                best = Slicing((bits_a, bits_b), (parts_a, parts_b), (a[0], b[0]))
    return best


def cut(x: Any, low: int, bits: int, parts: int) -> list[np.ndarray]:
    """The parts of an array's numbers, lowest first, as integers: x = sum of parts[i] * 2^(low + i * bits)."""
    rest, found = np.array(x, np.float64), []
    for i in reversed(range(parts)):
        unit = 2.0 ** (low + i * bits)
        part = np.trunc(rest * (1.0 / unit)) if i else rest * (1.0 / unit)
        if i:
            rest -= part * unit
        found.append(part)
    return found[::-1]


def _rounds_sums(datapath: Datapath) -> bool:
    """Whether a sum of two doubles, folded to odd, is rounded into the accumulator as the exact one."""
    fmt, rounding = datapath.accumulator, datapath.rounding
    wraps = isinstance(fmt, FixedFormat) and fmt.wrap
    return not wraps and mac_path(fmt, ONE, fmt, fmt, rounding) is Path.ODD and rounding.mode is not Mode.RTN


def add_slices(
    datapath: Datapath, a: Any, b: Any, how: Slicing, backend: Backend, drawn: Draws, place: int, pitch: int
) -> np.ndarray:
    """The exact products a b, rounded once into the accumulator; element (i, j) draws as place + i * pitch + j."""
    rows, columns = a.shape[0], b.shape[1]
    first, second = (
        cut(x, low, bits, parts) for x, low, bits, parts in zip((a, b), how.low, how.bits, how.parts, strict=True)
    )
    pairs = [(i, j) for i in range(how.parts[0]) for j in range(how.parts[1])]
    weights = sorted({i * how.bits[0] + j * how.bits[1] for i, j in pairs})
    sums = np.zeros((len(weights), rows * columns))

    def part(r: slice, c: slice) -> None:
        for i, j in pairs:
            row = sums[weights.index(i * how.bits[0] + j * how.bits[1])].reshape(rows, columns)
            row[r, c] += first[i][r] @ second[j][:, c]

    backend.blas(part, rows, a.shape[1], columns, runs_across(rows, columns))
    out = np.empty(rows * columns)
    t = target(datapath.accumulator, datapath.rounding)
    contiguous = pitch == columns or rows == 1
    if len(weights) <= 2 and _rounds_sums(datapath) and ((contiguous and place == 0) or not t.random_bits):
        values = [row * 2.0 ** (weight + sum(how.low)) for row, weight in zip(sums, weights, strict=True)]
        values += [np.zeros(out.size)] if len(values) == 1 else []
        compute(backend, Op.ADD, values, t, Path.ODD, drawn, out)
        return out.reshape(rows, columns)
    base = sum(how.low)
    base = min(base, t.quantum - 112) if t.wrap_bits else base
    limbs = (weights[-1] + sum(how.low) - base + 64) // 32 + 4
    layout = Layout(len(weights), columns, place, pitch, 1, 0, limbs)
    exponents = np.array(weights, np.int64) + (sum(how.low) - base)
    work = backend.few("limbs", limbs)
    backend.launch(
        "round_sums", out.size, sums.reshape(-1), exponents, out, layout, out.size, base, work, drawn, t, work=20
    )
    return out.reshape(rows, columns)
