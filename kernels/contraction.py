"""How a datapath's dot products are computed: on which carriers, by which paths, in which panels of the matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..emulator.blocks import BlockFormat, exponents
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat, Format
from ..emulator.orders import Blocked, Exact, Fused, Fusing, Order, Systolic, Tree, TwoStage, program
from ..emulator.rounding import RNE, Rounding
from .backends import Backend
from .blocks import with_least
from .fused import ADDED, ALIGNED, GROUPED, INTEGER, LIMBS, NO_EXPONENT, SUMMED, TWO_STAGE
from .loops import EXACT
from .operands import Operand
from .paths import (
    BINARY32,
    BINARY64,
    ONE,
    Carrier,
    Path,
    Span,
    aligned_width,
    aligns,
    mac_path,
    product_is_exact,
)
from .structs import FusedUnit, Target
from .target import fits_binary32, target, target32, tensor_core

_ANY32 = target32(FloatFormat(5, 10), RNE, False)  #: for the path NATIVE, which looks at nothing in it
_PANEL = 1 << 19  #: numbers of a panel's operand at most, where it must be copied; but some rows and columns
_NARROW = 32  #: a product of fewer columns is computed as its transpose, along the longer side
_NO_UNIT = FusedUnit(ALIGNED)


class Level(NamedTuple):
    """How an accumulator adds: what a kernel is handed of it."""

    path: int
    target: Any  #: on the carriers
    wide: Target  #: on binary64
    unit: FusedUnit


class Plan(NamedTuple):
    """How a program runs: what does not depend on the operands' elements."""

    carrier: Any  #: NumPy's type
    levels: tuple[Level, Level]  #: the accumulator, and the inner one
    product_path: int
    product: Any
    product_wide: Target
    ways: str  #: in words

    @property
    def limbs(self) -> int:
        """Integers that a step needs."""
        return max(level.unit.limbs for level in self.levels)

    def arguments(self, drawn: Any, product_drawn: Any) -> tuple[Any, ...]:
        """The last arguments of the kernels of contractions."""
        product = (product_drawn, self.product_path, self.product, self.product_wide)
        return (drawn, *self.levels[0], *self.levels[1], *product)


@lru_cache(maxsize=1024)
def plan(datapath: Datapath, length: int, narrow: bool = True, spans: tuple[Span, Span] | None = None) -> Plan:
    """The fastest way proven for dot products of ``length`` terms.

    narrow : binary32 carriers may be used. spans : of the operands' numbers, if narrower than their formats'; of blocks
    those of the elements, without scales.
    """
    formats = (fmt.element if isinstance(fmt, BlockFormat) else fmt for fmt in (datapath.a, datapath.b))
    first, second = spans or map(exponents, formats)
    return _plan(datapath, length, narrow, (first, second))


@lru_cache(maxsize=1024)
def _plan(datapath: Datapath, length: int, narrow: bool, spans: tuple[Span, Span]) -> Plan:
    formats = (datapath.a, datapath.b, *(fmt for fmt, _ in datapath.accumulators))
    formats += (datapath.product,) if datapath.product else ()
    for carrier in (BINARY32, BINARY64):
        if carrier is BINARY32 and not (narrow and all(_fits32(fmt) for fmt in formats)):
            continue
        single = carrier is BINARY32
        ways = [_adding(datapath, level, carrier, length, spans) for level in range(len(datapath.accumulators))]
        product_path = _product_path(datapath, carrier, spans)
        found = [way for way in ways if way is not None and not (single and way[0] is Path.WIDE)]
        if len(found) < len(ways) or (single and product_path is Path.WIDE):
            continue
        levels = [
            Level(int(path), _target(fmt, rounding, path, single), target(fmt, rounding), unit)
            for (path, unit), (fmt, rounding) in zip(found, datapath.accumulators, strict=True)
        ]
        if getattr(datapath.inner_order, "tensor_core", False):  # never on binary32
            levels[-1] = levels[-1]._replace(target=tensor_core(levels[-1].wide), wide=tensor_core(levels[-1].wide))
        product = datapath.product or datapath.accumulator
        how = datapath.product_rounding if datapath.product else datapath.rounding
        return Plan(
            np.float32 if single else np.float64,
            (levels[0], levels[-1]),
            EXACT if product_path is None else int(product_path),
            _target(product, how, Path.NATIVE if datapath.product is None else product_path, single),
            target(product, how),
            _words(datapath, levels, carrier),
        )
    raise AssertionError("binary64 has a way, or has refused")


def _wraps(fmt: Format) -> bool:
    return isinstance(fmt, FixedFormat) and fmt.wrap


def _fits32(fmt: Format | BlockFormat) -> bool:
    return not isinstance(fmt, BlockFormat) and fits_binary32(fmt)


def _target(fmt: Format, rounding: Rounding, path: Path | None, single: bool) -> Any:
    if not single:
        return target(fmt, rounding)
    return (target32(fmt, rounding, False) if path is Path.ODD else None) or _ANY32


def _product_path(datapath: Datapath, carrier: Carrier, spans: tuple[Span, Span]) -> Path | None:
    """The path of rounded products; None where they are exact."""
    fmt, rounding = datapath.product, datapath.product_rounding
    if fmt is None:
        return None
    met = (*_numbers(datapath, spans), exponents(ONE))
    path = mac_path(datapath.a, datapath.b, ONE, fmt, rounding, carrier=carrier, spans=met)  # type: ignore[arg-type]
    return Path.WIDE if carrier is BINARY32 and path is Path.ODD and not target32(fmt, rounding, False) else path


def _numbers(datapath: Datapath, spans: tuple[Span, Span]) -> tuple[Span, Span]:
    """The spans of the operands' numbers; of blocks with any scales."""
    return (exponents(datapath.a), exponents(datapath.b)) if datapath.in_blocks else spans


def _reach(datapath: Datapath, length: int, spans: tuple[Span, Span], fmt: Format) -> Span:
    """Exponents of the lowest and the highest bit that ``fmt``'s numbers have in a sum of ``length`` products.

    All are multiples of the products' lowest bit, as rounding only cuts bits off. Unless something underflows, which
    that lowest bit tells, a rounding adds at most 2^(1 - p) of a number; a sum has at most 2 ``length`` + 2 in a row.
    Saturating and wrapping make magnitudes smaller, but in unsigned formats that wrap.
    """
    (low_a, high_a), (low_b, high_b) = _numbers(datapath, spans)
    rounded = [held for held, _ in datapath.accumulators] + ([datapath.product] if datapath.product else [])
    least, (low, high) = low_a + low_b, exponents(fmt)
    if any(exponents(held)[0] > least or (_wraps(held) and held.min_finite == 0) for held in rounded):
        return max(low, least), high
    growing = max((2.0 ** (1 - held.precision) for held in rounded if isinstance(held, FloatFormat)), default=0.0)
    growth = math.ceil(math.log2(max(length, 1)) + (2 * length + 2) * growing * math.log2(math.e))
    return max(low, least), min(high, high_a + high_b + 2 + growth)


def _adding(
    datapath: Datapath, level: int, carrier: Carrier, length: int, spans: tuple[Span, Span]
) -> tuple[Path, FusedUnit] | None:
    """The path of an accumulator's additions and its fused unit; None where the carrier has no way."""
    held = datapath.accumulators
    fmt, rounding = held[level]
    a, b = datapath.a, datapath.b
    innermost, order = level == len(held) - 1, datapath.inner_order
    ways: list[Path] = []
    unit = _NO_UNIT

    numbers = _numbers(datapath, spans)

    def adds(x: Format | None) -> Path:
        """The path of adding a number of a format, or for None an exact product."""
        ours = _reach(datapath, length, spans, fmt)
        if x is None:
            return mac_path(a, b, fmt, fmt, rounding, carrier=carrier, spans=(*numbers, ours))  # type: ignore[arg-type]
        met = (_reach(datapath, length, spans, x), exponents(ONE), ours)
        return mac_path(x, ONE, fmt, fmt, rounding, carrier=carrier, spans=met)

    if not innermost:
        ways.append(adds(held[-1][0]))
    elif isinstance(order, Fusing):
        terms = min(getattr(order, "terms", None) or length, length)
        found = _fused(datapath, order, fmt, rounding, carrier, terms, spans)
        if found is None:
            return None
        unit = found
        ways.append({ALIGNED: Path.ODD, SUMMED: Path.ODD, ADDED: Path.NATIVE}.get(found.way, Path.WIDE))
    else:
        ways.append(adds(datapath.product))
        ways += [adds(fmt)] if isinstance(order, (Tree, Systolic)) else []
        if isinstance(order, Tree) and datapath.product is None and not product_is_exact(a, b, carrier, numbers):  # type: ignore[arg-type]
            if carrier is BINARY32:
                return None
            raise HalfulpError(
                f"{order} on {datapath.name}: arrays do not carry its exact products, which take"
                f" {a.precision + b.precision} bits; give it a product format, as in :product=fp64."
            )
    path = max(ways)
    if carrier is BINARY32 and path is Path.ODD and not target32(fmt, rounding, False):
        return None
    return path, unit


def _fused(
    datapath: Datapath,
    order: Fusing,
    fmt: Format,
    rounding: Rounding,
    carrier: Carrier,
    terms: int,
    spans: tuple[Span, Span],
) -> FusedUnit | None:
    """The unit that does a program's FUSE steps."""
    a, b = (x.element if isinstance(x, BlockFormat) else x for x in (datapath.a, datapath.b))
    if not isinstance(order, Exact):
        if carrier is BINARY32:
            return None
        blocks = [fmt for fmt in (datapath.a, datapath.b) if isinstance(fmt, BlockFormat)]
        group = order.group if isinstance(order, Fused) else None
        if blocks and not _within_blocks(datapath, order, blocks):
            raise HalfulpError(
                f"{order} on {datapath.name}: kernels' fused units of block operands work within a block at a time, its"
                " scales being powers of two, or on groups within one."
            )
        kept, width = aligned_width(datapath, order, fmt)
        if a.precision + b.precision > 62 or width > 62:
            needed = f"aligned sums of {width} bits and products of {a.precision + b.precision}"
            raise HalfulpError(f"{order} on {datapath.name} needs {needed}; at most 62 are built.")
        if group and (isinstance(fmt, FixedFormat) or not _groups_fit(datapath, order.terms, kept)):
            raise HalfulpError(
                f"{order} on {datapath.name}: kernels have no such wide sums of groups, or into no floats."
            )
        operands = int(not isinstance(fmt, FixedFormat)), a.precision, a.emin, b.precision, b.emin, fmt.emin
        if isinstance(order, TwoStage):
            sum_bits = fmt.precision + order.sum_guard_bits
            return FusedUnit(TWO_STAGE, kept, *operands, sum_bits=sum_bits, interleaved=int(order.interleaved))
        way = INTEGER if blocks or not aligns(datapath, order, fmt, rounding) else ALIGNED
        floor = NO_EXPONENT if order.floor is None else order.floor
        way = GROUPED if group else way
        return FusedUnit(way, kept, *operands, floor, with_least=int(bool(blocks)), group=group or 0)
    path = _adds(fmt, rounding, carrier)
    if path is not Path.WIDE and _sums(datapath, order, carrier, terms, spans):
        return FusedUnit(ADDED if path is Path.NATIVE else SUMMED)
    return None if carrier is BINARY32 else _limbs(datapath, fmt, terms)


def _within_blocks(datapath: Datapath, order: Fused | TwoStage, blocks: list[BlockFormat]) -> bool:
    """Whether a step, or a group of one, works on a part of one block, whose scale must otherwise be a power of two."""
    if not isinstance(order, Fused):
        return False
    size = order.group or order.terms
    whole = not isinstance(datapath.order, Blocked) or datapath.order.length % size == 0
    return whole and all((order.group or fmt.scale.precision == 1) and fmt.size % size == 0 for fmt in blocks)


def _groups_fit(datapath: Datapath, terms: int, kept: int) -> bool:
    """Whether binary64 holds the sum of a group of products, and 62 bits those of all groups, aligned."""
    width = above = terms.bit_length()
    for fmt in (datapath.a, datapath.b):
        assert isinstance(fmt, BlockFormat)
        low, high = exponents(fmt.element)
        width += high - low + 1 + fmt.scale.precision
        above += high + 1 + min(fmt.scale.precision - 1, 1)
    return width <= 53 and above + kept <= 61


def with_least_exponents(datapath: Datapath, x: Operand, y: Operand, backend: Backend) -> tuple[Datapath, Any, Any]:
    """The matrices of a fused unit of block operands with each step's, or group's, least exponents as a term more of
    it, and the datapath that adds so many."""
    order = datapath.inner_order
    assert isinstance(order, Fused)
    size, grouped = order.group or order.terms, order.group is not None
    a = with_least(backend.to_host(x.values).T, datapath.a, None if x.codes is None else x.codes.T, size, grouped).T
    b = with_least(backend.to_host(y.values), datapath.b, y.codes, size, grouped)
    inner = replace(order, terms=order.terms + order.terms // size, group=None)
    outer: Order = inner
    if isinstance(datapath.order, Blocked):
        outer = replace(datapath.order, length=datapath.order.length // size * (size + 1), order=inner)
    return replace(datapath, order=outer), backend.array(a), backend.array(b)


def _limbs(datapath: Datapath, fmt: Format, terms: int) -> FusedUnit:
    """The unit that holds every sum of ``terms`` products and an accumulator, or of 2^30 for 0."""
    (low_a, high_a), (low_b, high_b), (low, high) = *map(exponents, (datapath.a, datapath.b)), exponents(fmt)
    base = min(low_a + low_b, low)
    base = min(base, low - 112) if _wraps(fmt) else base
    top = max(high_a + high_b + 2 + (terms or 1 << 30).bit_length(), high + 2)
    return FusedUnit(LIMBS, base=base, limbs=(top - base) // 32 + 5)


def integer_unit(datapath: Datapath, length: int) -> FusedUnit:
    """The unit of FUSE steps that works in integers throughout, and so tells flags."""
    fmt, rounding = datapath.accumulators[-1]
    order = datapath.inner_order
    if isinstance(order, Exact):
        return _limbs(datapath, fmt, min(order.terms or length, length))
    assert isinstance(order, Fused | TwoStage)
    unit = _fused(datapath, order, fmt, rounding, BINARY64, 0, ((0, 0), (0, 0)))
    assert unit is not None
    return unit._replace(way=INTEGER) if unit.way == ALIGNED else unit


def _adds(fmt: Format, rounding: Rounding, carrier: Carrier) -> Path:
    """The path by which an exact sum that the carrier holds is added to an accumulator and rounded once.

    What one of them has below the other's 53 bits is folded to odd, which a wrapping format would have to see.
    """
    if _wraps(fmt):
        return Path.WIDE
    path = mac_path(fmt, ONE, fmt, fmt, rounding, carrier=carrier)
    lacking = carrier is BINARY32 and path is Path.ODD and target32(fmt, rounding, False) is None
    return Path.WIDE if lacking else path


def _sums(datapath: Datapath, order: Exact, carrier: Carrier, terms: int, spans: tuple[Span, Span]) -> bool:
    """Whether the carrier holds every sum of ``terms`` products exactly, in any order."""
    sizes = {fmt.size for fmt in (datapath.a, datapath.b) if isinstance(fmt, BlockFormat)}
    length = datapath.order.length if isinstance(datapath.order, Blocked) else 0
    ends = terms.bit_length()
    (low_a, high_a), (low_b, high_b) = spans
    if sizes and {order.terms} == sizes and length % sizes.copy().pop() == 0:  # a step is a block: it has one scale
        precisions = [fmt.scale.precision for fmt in (datapath.a, datapath.b) if isinstance(fmt, BlockFormat)]
        scaling = [precision for precision in precisions if precision > 1]  # others are powers of two
    else:
        scaling = [high - low + 1 for low, high in map(_scales, (datapath.a, datapath.b))]
    bits = high_a - low_a + high_b - low_b + 2 + sum(scaling) + ends
    low, high = (sum(ends) for ends in zip(*map(_scales, (datapath.a, datapath.b)), strict=True))
    near = low_a + low_b + low >= 61 - carrier.emax and high_a + high_b + high + 2 + ends <= carrier.emax - 60
    return near and bits <= carrier.precision


def _scales(fmt: Format | BlockFormat) -> Span:
    """Exponents of the lowest and the highest bit of a format's scales."""
    return exponents(fmt.scale) if isinstance(fmt, BlockFormat) else (0, -1)


def _words(datapath: Datapath, levels: list[Level], carrier: Carrier) -> str:
    """The ways in words, as ``Machine.explain`` tells them."""
    names = {
        ALIGNED: "aligned in binary64",
        SUMMED: "exact on the carrier",
        ADDED: "exact on the carrier",
        INTEGER: "62-bit",
        LIMBS: "limbs",
        TWO_STAGE: "two-stage 62-bit",
        GROUPED: "grouped 62-bit",
    }
    fused = fuses(datapath)
    last = names[levels[-1].unit.way] if fused else Path(levels[-1].path).name
    return f"{last} kernel on {'binary32' if carrier is BINARY32 else 'binary64'} carriers"


@lru_cache(maxsize=64)
def steps_of(order: Order, length: int) -> np.ndarray:
    """A program as the kernels read it: int64, ``loops.FIELDS`` a step."""
    return np.array(program(order, length), np.int64).ravel() if length else np.zeros(0, np.int64)


def fuses(datapath: Datapath) -> bool:
    return isinstance(datapath.inner_order, Fusing)


# ---- panels ------------------------------------------------------------------------------------------------------


class Panel(NamedTuple):
    """A part of a product: the rows and the columns of its results."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def panels(
    rows: int, depth: int, columns: int, ready: tuple[bool, bool] = (False, False), most: int = _PANEL
) -> Iterator[Panel]:
    """The product (rows, depth) (depth, columns) in parts.

    ready : whether A and B need not be copied to be handed to a kernel; what is copied is so in parts of at most
    ``most`` numbers (but 16 rows, 64 columns), so that all of them take little memory beside the operands.
    """
    fitting = max(most // max(depth, 1), 1)
    width = columns if ready[1] else min(columns, max(fitting & -256, 64 if fitting < 256 else 256))
    height = rows if ready[0] else min(rows, max(fitting, 16))
    for first in range(0, columns, width):
        for top in range(0, rows, height):
            yield Panel(slice(top, min(top + height, rows)), slice(first, min(first + width, columns)))


def contiguous(x: Any, dtype: Any, name: str, backend: Backend) -> Any:
    """A matrix's numbers, row by row, of a type: its own memory where that will do, else a copy in scratch."""
    if x.dtype == dtype and x.flags.c_contiguous and (backend.name == "gpu" or x.flags.writeable):
        return x.reshape(-1)
    flat = backend.scratch(name, x.size, dtype)
    flat.reshape(x.shape)[...] = x
    return flat


def is_ready(x: Any, dtype: Any) -> bool:
    return x.dtype == dtype and x.flags.c_contiguous


def transposes(rows: int, columns: int) -> bool:
    """Whether a product is computed as its transpose, whose rows are long."""
    return columns < _NARROW and columns < rows
