"""What a solve, or an iteration of it, costs: energy, bits moved, or time; all from its ledger."""

from __future__ import annotations

from dataclasses import dataclass

from ..emulator.blocks import BlockFormat
from ..emulator.errors import HalfulpError
from ..emulator.ledger import Ledger, Operation
from ..emulator.technology import Technology

KINDS = ("energy", "bits", "time")

#: Of the time model, an assumption: operations on w bits take w / 64 of the time of one on 64, as in vector units, and
#: so many bits come from memory in that time.
WORD_BITS, BITS_PER_WORD_OPERATION = 64, 64.0


@dataclass(frozen=True)
class Cost:
    """``energy``: pJ at a node; ``bits``: moved to and from memory; ``time``: in operations on 64-bit operands, of
    arithmetic or of memory, whichever takes longer (both go on at the same time)."""

    kind: str = "energy"
    node: str = "45nm"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise HalfulpError(f"a cost is {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {self.kind!r}.")

    def of(self, ledger: Ledger) -> float:
        """A ledger's."""
        if self.kind == "energy":
            return Technology(self.node).price(ledger).total_pj
        bits = float(sum(ledger.bits_moved.values()))
        if self.kind == "bits":
            return bits
        arithmetic = sum(n * _width(op) for op, n in ledger.operations.items() if op.kind in ("mul", "add"))
        return max(arithmetic / WORD_BITS, bits / BITS_PER_WORD_OPERATION)


def _width(operation: Operation) -> float:
    """Bits of the wider operand."""
    return max(fmt.bits_per_element if isinstance(fmt, BlockFormat) else fmt.bits for fmt in (operation.a, operation.b))
