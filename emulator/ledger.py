"""Ledger: exact integer counts of what a run did. Not energy; a Technology prices it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from .blocks import BlockFormat, exponents
from .datapath import Datapath
from .formats import Format
from .hashing import hashed_once
from .names import scalar_format
from .orders import Blocked, Do, Exact, Fused, Fusing, Order, Sequential, TwoStage, program
from .rounding import RNE, Rounding


@hashed_once
@dataclass(frozen=True)
class Operation:
    """One kind of hardware operation.

    ``mul``: a times b, exact or rounded into ``result``; ``add``: an accumulation into ``result``;
    ``round``: a value of ``a`` converted into ``result``; ``normalise``: the one normalisation and rounding of a fused
    step.
    """

    kind: str
    a: Format
    b: Format
    result: Format | None  #: None: exact
    rounding: Rounding = RNE
    width: int = 0  #: bits of the aligned integer sum that a fused unit's ``add`` adds into, else 0
    within: Datapath | None = None  #: of what adds up or normalises in a datapath's unit: that datapath

    def __str__(self) -> str:
        exactly = f"{self.width}-bit aligned sum" if self.width else "exact"
        result = exactly if self.result is None else f"{self.result}@{self.rounding}"
        operands = {"mul": f"{self.a}*{self.b}", "add": f"{self.a}+{self.b}"}.get(self.kind, f"{self.a}")
        return f"{self.kind} {operands} -> {result}"


class Ledger:
    """Counts of operations, and of bits moved by storage level.

    Matrix-shaped operations count by closed form, element-wise ones per element. Traffic is compulsory traffic:
    every operand array of a call is read once and every result written once, at its format's width.
    """

    def __init__(self) -> None:
        self.operations: Counter[Operation] = Counter()
        self.bits_moved: Counter[str] = Counter()
        #: Multiply-accumulations by how they were computed, by BLAS or which kernel; no matter to what was done.
        self.ways: Counter[str] = Counter()

    def count(self, operation: Operation, times: int) -> None:
        if times:
            self.operations[operation] += times

    def move(self, bits: int, level: str = "sram") -> None:
        if bits:
            self.bits_moved[level] += bits

    def __add__(self, other: Ledger) -> Ledger:
        total = Ledger()
        total.operations = self.operations + other.operations
        total.bits_moved = self.bits_moved + other.bits_moved
        total.ways = self.ways + other.ways
        return total

    def __sub__(self, earlier: Ledger) -> Ledger:
        """What was done since ``earlier`` (a copy of this ledger)."""
        total = Ledger()
        total.operations = self.operations - earlier.operations
        total.bits_moved = self.bits_moved - earlier.bits_moved
        total.ways = self.ways - earlier.ways
        return total

    def copy(self) -> Ledger:
        total = Ledger()
        total.operations, total.bits_moved = Counter(self.operations), Counter(self.bits_moved)
        total.ways = Counter(self.ways)
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self.operations == other.operations and self.bits_moved == other.bits_moved

    @property
    def n_mul(self) -> int:
        return sum(n for op, n in self.operations.items() if op.kind == "mul")

    @property
    def n_add(self) -> int:
        return sum(n for op, n in self.operations.items() if op.kind == "add")

    def as_dict(self) -> dict[str, dict[str, int]]:
        """JSON-able, in a fixed order."""
        operations = Counter[str]()
        for op, n in self.operations.items():
            operations[str(op)] += n
        return {
            "operations": dict(sorted(operations.items())),
            "bits_moved": dict(sorted(self.bits_moved.items())),
        }

    def state(self) -> list[list[Any]]:
        """All of it in JSON's types, for ``restore``; ``ways`` are left out."""
        told = []
        for op, n in self.operations.items():
            result, within = op.result and str(op.result), op.within and op.within.name
            told.append([op.kind, str(op.a), str(op.b), result, str(op.rounding), op.width, within, n])
        return [told, [[level, n] for level, n in self.bits_moved.items()]]

    def restore(self, state: list[list[Any]]) -> None:
        """Becomes what another ledger's ``state`` tells."""
        operations, moved = state
        self.operations.clear()
        for kind, a, b, result, rounding, width, within, n in operations:
            formats = scalar_format(a), scalar_format(b), result and scalar_format(result)
            inside = within and Datapath.parse(within)
            self.operations[Operation(kind, *formats, Rounding.parse(rounding), width, inside)] = n
        self.bits_moved = Counter(dict(moved))

    def __repr__(self) -> str:
        lines = [f"{n:>16,}  {name}" for name, n in self.as_dict()["operations"].items()]
        lines += [f"{n:>16,}  bits moved, {level}" for level, n in self.as_dict()["bits_moved"].items()]
        lines += [f"{n:>16,}  multiplied and added by {way}" for way, n in sorted(self.ways.items())]
        return "\n".join(["Ledger", *lines]) if lines else "Ledger (empty)"


def output_operation(datapath: Datapath) -> Operation | None:
    """The rounding of a sum into the output format; None where the accumulator is handed out as it is."""
    if datapath.output == datapath.accumulator:
        return None
    return Operation("round", datapath.accumulator, datapath.accumulator, datapath.output, datapath.output_rounding)


def aligned_width(datapath: Datapath) -> int:
    """Bits of the sum that a fused or exact unit aligns its products into.

    Fused: kept bits, two before the point (of groups those of the elements' products and their scales), the growth of
    the terms, guard bits; of two stages those of the second, one
    more than ``sum_guard_bits``. Exact: from the lowest bit of a product to the highest, the growth of the terms (of
    2^30, if there is no limit), and a sign; of one block's elements, whose scale comes after the sum.
    """
    order, inner = datapath.inner_order, datapath.accumulators[-1][0]
    if isinstance(order, (Fused, TwoStage)):
        guard_bits = order.guard_bits if isinstance(order, Fused) else order.sum_guard_bits + 1
        whole = 2
        if isinstance(order, Fused) and order.group:
            whole += sum(exponents(fmt.element)[1] + (fmt.scale.precision > 1) for fmt in (datapath.a, datapath.b))
        return inner.precision - 1 + guard_bits + whole + math.ceil(math.log2(order.terms + 1))
    assert isinstance(order, Exact)
    formats = [fmt.element if isinstance(fmt, BlockFormat) and order.terms else fmt for fmt in (datapath.a, datapath.b)]
    (low_a, high_a), (low_b, high_b) = map(exponents, formats)
    growth = math.ceil(math.log2(order.terms)) if order.terms else 30
    return high_a + high_b + 2 - low_a - low_b + growth + 1


@lru_cache(maxsize=1024)
def dot_operations(datapath: Datapath, length: int) -> Mapping[Operation, int]:
    """The operations of one dot product of ``length`` terms: K multiplications, and what its order's program adds.

    Sequential: K accumulations. Fused(n), TwoStage(n) and Exact(n): K additions into the aligned sum and ceil(K/n)
    normalisations. Tree and Systolic: their adders' roundings, those that add zeros included. Blocked: those of the
    inner accumulator, and one addition a block. Elements in blocks: both scales of a block cost one multiplication of
    them. An output format that differs from the accumulator adds one rounding.
    """
    dp, counts = datapath, Counter[Operation]()
    unit = replace(dp, output=dp.accumulator, output_rounding=dp.rounding)
    a, b = (fmt.element if isinstance(fmt, BlockFormat) else fmt for fmt in (dp.a, dp.b))
    counts[Operation("mul", a, b, dp.product, dp.product_rounding)] += length
    scales = [fmt.scale for fmt in (dp.a, dp.b) if isinstance(fmt, BlockFormat)]
    if len(scales) == 2:
        size = next(fmt.size for fmt in (dp.a, dp.b) if isinstance(fmt, BlockFormat))
        counts[Operation("mul", scales[0], scales[1], None)] += -(-length // size)
    blocked = isinstance(dp.order, Blocked)
    levels = dp.accumulators
    for (do, level), n in _roundings(dp.order, length).items():
        accumulator, rounding = levels[level]
        if do is Do.FUSE:
            term = dp.product or accumulator
            counts[Operation("add", term, accumulator, None, width=aligned_width(dp), within=unit)] += length
            counts[Operation("normalise", accumulator, accumulator, accumulator, rounding, within=unit)] += n
        else:
            term = levels[-1][0] if do is Do.ADD and blocked and not level else accumulator
            term = dp.product or term if do is Do.MAC else term
            inner = unit if level == len(levels) - 1 else None
            counts[Operation("add", term, accumulator, accumulator, rounding, within=inner)] += n
    output = output_operation(dp)
    if output is not None:
        counts[output] += 1
    return MappingProxyType({operation: n for operation, n in counts.items() if n})


@lru_cache(maxsize=4096)
def _roundings(order: Order, length: int) -> Counter[tuple[Do, int]]:
    """How often a program rounds, by kind of step and level of the accumulator."""
    if isinstance(order, Sequential):
        return Counter({(Do.MAC, 0): length})
    if isinstance(order, Fusing):
        return Counter({(Do.FUSE, 0): -(-length // (order.terms or max(length, 1)))})
    counts: Counter[tuple[Do, int]] = Counter()
    for step in program(order, length):
        if step.do not in (Do.LOAD, Do.CLEAR):
            counts[step.do, step.level] += step.last - step.first if step.do is Do.MAC else 1
    return counts
