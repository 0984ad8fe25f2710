"""Ledger: exact integer counts of what a run did. Not energy; a Technology prices it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from .datapath import Datapath, Fused
from .formats import Format
from .rounding import RNE, Rounding


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
        return total

    def __sub__(self, earlier: Ledger) -> Ledger:
        """What was done since ``earlier`` (a copy of this ledger)."""
        total = Ledger()
        total.operations = self.operations - earlier.operations
        total.bits_moved = self.bits_moved - earlier.bits_moved
        return total

    def copy(self) -> Ledger:
        return self + Ledger()

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
        return {
            "operations": dict(sorted((str(op), n) for op, n in self.operations.items())),
            "bits_moved": dict(sorted(self.bits_moved.items())),
        }

    def __repr__(self) -> str:
        lines = [f"{n:>16,}  {name}" for name, n in self.as_dict()["operations"].items()]
        lines += [f"{n:>16,}  bits moved, {level}" for level, n in self.as_dict()["bits_moved"].items()]
        return "\n".join(["Ledger", *lines]) if lines else "Ledger (empty)"


def output_operation(datapath: Datapath) -> Operation | None:
    """The rounding of a sum into the output format; None where the accumulator is handed out as it is."""
    if datapath.output == datapath.accumulator:
        return None
    return Operation("round", datapath.accumulator, datapath.accumulator, datapath.output, datapath.output_rounding)


def aligned_width(datapath: Datapath) -> int:
    """Bits of a fused unit's aligned sum: kept bits, two before the point, the growth of the terms, guard bits."""
    assert isinstance(datapath.order, Fused)
    return (
        datapath.accumulator.precision + datapath.order.guard_bits + 1 + math.ceil(math.log2(datapath.order.terms + 1))
    )


def dot_operations(datapath: Datapath, length: int) -> dict[Operation, int]:
    """The operations of one dot product of ``length`` terms, in closed form.

    Sequential: K multiplications and K accumulations. Fused(n): K multiplications, K additions into the aligned
    sum and ceil(K/n) normalisations. An output format that differs from the accumulator adds one rounding.
    """
    mul = Operation("mul", datapath.a, datapath.b, datapath.product, datapath.product_rounding)
    term, accumulator = datapath.product or datapath.accumulator, datapath.accumulator
    if isinstance(datapath.order, Fused):
        steps = -(-length // datapath.order.terms)
        counts = {
            mul: length,
            Operation("add", term, accumulator, None, width=aligned_width(datapath)): length,
            Operation("normalise", accumulator, accumulator, accumulator, datapath.rounding): steps,
        }
    else:
        counts = {mul: length, Operation("add", term, accumulator, accumulator, datapath.rounding): length}
    output = output_operation(datapath)
    if output is not None:
        counts[output] = counts.get(output, 0) + 1
    return counts
