"""Alignment: the exact sums of fused units, of what they keep of their terms (see ``orders.Fused``, ``TwoStage``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .arithmetic import INVALID_NAN, exact_product
from .formats import FixedFormat, FloatFormat, Format, Kind, Unpacked
from .orders import Exact, Fused, Fusing, TwoStage


class Operand(NamedTuple):
    """A datum as a multiplier gets it: the number, exact, and what its exponent field means."""

    datum: Unpacked
    exponent: int  #: floor(log2|x|), at least its format's emin; of an element in a block plus that of the scale
    scale: int = 0  #: that of the scale


def exponent_of(datum: Unpacked, fmt: Format) -> int:
    """The exponent field's meaning for a finite non-zero datum of ``fmt``: floor(log2|x|), at least emin."""
    return max(datum.significand.bit_length() - 1 + datum.exponent, fmt.emin)


def operand(datum: Unpacked, fmt: Format, scale: Unpacked | None = None, scale_format: Format | None = None) -> Operand:
    """A number of ``fmt``, or an element of it under a scale."""
    exponent = exponent_of(datum, fmt) if datum.kind is Kind.FINITE and datum.significand else 0
    if scale is None or scale_format is None:
        return Operand(datum, exponent)
    of_scale = exponent_of(scale, scale_format) if scale.kind is Kind.FINITE and scale.significand else 0
    return Operand(exact_product(datum, scale), exponent + of_scale, of_scale)


def aligned_sum(pairs: Sequence[tuple[Operand, Operand]], total: Unpacked, order: Fusing, fmt: Format) -> Unpacked:
    """The exact sum of one step's products and ``total``, a register of ``fmt``, after alignment (see the orders)."""
    products = [exact_product(x.datum, y.datum) for x, y in pairs]
    if isinstance(order, TwoStage) and isinstance(fmt, FloatFormat):
        products = [_endless(product, fmt) for product in products]
    terms = [*products, total]
    if any(term.kind is Kind.NAN for term in terms):
        return Unpacked(Kind.NAN)
    infinities = {term.negative for term in terms if term.kind is Kind.INFINITY}
    if infinities:
        return INVALID_NAN if len(infinities) == 2 else Unpacked(Kind.INFINITY, infinities.pop())
    numbers = [term for term in terms if not term.is_zero]
    if not numbers:
        return Unpacked(Kind.FINITE)
    exponents = ((x.exponent + y.exponent, x.scale + y.scale) for x, y in pairs)
    aligned = [Operand(product, *two) for product, two in zip(products, exponents, strict=True)]
    if isinstance(order, TwoStage):
        return _two_stage_sum(aligned, total, fmt, order)
    if isinstance(order, Exact):
        quantum = min(term.exponent for term in numbers)
    else:
        if order.group:
            aligned = _grouped(aligned, order.group)
            terms = [*(group.datum for group in aligned), total]
        places = [term.exponent for term in aligned if order.group or not term.datum.is_zero]
        places += [] if total.is_zero else [exponent_of(total, fmt)]
        quantum = alignment_quantum(fmt, order, max(places))
    return _fixed(sum(_truncated(t, quantum) for t in terms), quantum)


def _grouped(products: Sequence[Operand], size: int) -> list[Operand]:
    """The exact sums of groups of products, under their scales' exponents; none of groups that are all 0."""
    sums = []
    for start in range(0, len(products), size):
        group = [product for product in products[start : start + size] if not product.datum.is_zero]
        if group:
            quantum = min(product.datum.exponent for product in group)
            summed = _fixed(sum(_truncated(product.datum, quantum) for product in group), quantum)
            sums.append(Operand(summed, group[0].scale))
    return sums


def _two_stage_sum(products: Sequence[Operand], total: Unpacked, fmt: Format, order: TwoStage) -> Unpacked:
    """What a step of ``order`` rounds into ``fmt``: finite products and ``total``, aligned and floored."""
    kept, kept_of_sum = fmt.precision - 1 + order.guard_bits, fmt.precision + order.sum_guard_bits
    sums = []  # of groups of products: what they sum up to, and their largest exponent
    for group in (products[::2], products[1::2]) if order.interleaved else (products,):
        largest = max((exponent for datum, exponent, _ in group if not datum.is_zero), default=None)
        if largest is not None:
            sums.append((_fixed(sum(_truncated(x.datum, largest - kept) for x in group), largest - kept), largest))
    of_total = fmt.emin if total.is_zero else exponent_of(total, fmt)
    of_products = max((exponent for _, exponent in sums), default=of_total)
    largest = max(of_products, of_total)
    summed = _fixed(sum(_floored(x, of_products - kept) for x, _ in sums), of_products - kept)
    dropped = order.interleaved and of_total < largest - kept - 1
    held = _fixed(0 if dropped else _floored(total, largest - kept), largest - kept)
    quantum = largest - kept_of_sum
    result = _fixed(_floored(summed, quantum) + _floored(held, quantum), quantum)
    quantum = exponent_of(result, fmt) - kept_of_sum + 1
    return _fixed(_floored(result, quantum), quantum)


def _endless(product: Unpacked, fmt: FloatFormat) -> Unpacked:
    """A finite product of 2^(emax + 1) or more as the infinity that it is."""
    beyond = product.kind is Kind.FINITE and product.significand.bit_length() + product.exponent > fmt.emax + 1
    return Unpacked(Kind.INFINITY, product.negative) if beyond and not product.is_zero else product


def alignment_quantum(accumulator: Format, order: Fused | TwoStage, largest_exponent: int) -> int:
    """Exponent of the last weight that a fused unit keeps, of products in its first stage if it has two."""
    if isinstance(accumulator, FixedFormat):
        return accumulator.quantum_exponent - order.guard_bits
    floor = order.floor if isinstance(order, Fused) else None
    largest = largest_exponent if floor is None else max(largest_exponent, floor)
    return largest - (accumulator.precision - 1) - order.guard_bits


def _fixed(integer: int, quantum: int) -> Unpacked:
    """The number ``integer`` * 2^``quantum``; zero is +0."""
    return Unpacked(Kind.FINITE, integer < 0, abs(integer), quantum)


def _truncated(datum: Unpacked, quantum: int) -> int:
    """A finite number in units of 2^quantum, cut off toward zero."""
    shift = quantum - datum.exponent
    magnitude = datum.significand >> shift if shift > 0 else datum.significand << -shift
    return -magnitude if datum.negative else magnitude


def _floored(datum: Unpacked, quantum: int) -> int:
    """A finite number in units of 2^quantum, floored."""
    integer = -datum.significand if datum.negative else datum.significand
    shift = quantum - datum.exponent
    return integer >> shift if shift > 0 else integer << -shift
