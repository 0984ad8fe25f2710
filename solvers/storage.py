"""Numbers of a matrix or a preconditioner, kept in the formats that they are stored in."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ..emulator.formats import Format
from ..emulator.ledger import Operation
from ..emulator.names import scalar_format
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from ..kernels.quantize import quantize
from .magnitude import GroupShared

#: The narrower ones of the paper's formats (Chen 2025, arXiv 2504.14268), the narrowest first.
_NARROW = ("bf16", "fp16", "tf32", "fp32")


def narrowest(matrix: sp.csr_matrix) -> Format | None:
    """The first of ``_NARROW`` that every entry is a value of; None: none is."""
    formats = map(scalar_format, _NARROW)
    return next((fmt for fmt in formats if np.array_equal(quantize(matrix.data, fmt), matrix.data)), None)


class Store:
    """An array, or a CSR matrix, in fp64, and what is stored of it: rounded once into a format, and kept.

    What is stored in another format than it is needed in is converted as it is read, anew each time, and counted: a
    ``round`` for each number, and traffic at the width that it is stored in. How it came to be stored is not counted.
    """

    def __init__(self, numbers: Any) -> None:
        self._numbers = numbers
        self.size = int(numbers.nnz) if hasattr(numbers, "nnz") else int(np.size(numbers))
        self._kept: dict[tuple[Any, Format], Any] = {}  #: by (stored, read) format; those equal have one array

    def read(self, machine: Machine, stored: Format | GroupShared | None) -> Any:
        """An operand in the machine's format ``a``, of what is stored in ``stored`` (None: in that).

        Whatever works on it counts it as read in ``a``; what that is too much or too little is moved here.
        """
        needed, rounding = machine.datapath.a, machine.datapath.operand_rounding
        stored = needed if stored is None else stored
        found = self._kept.get((stored, needed))
        if found is None:
            if isinstance(stored, GroupShared):
                found = self._numbers.copy()
                found.data = stored.rounded(found.data)
            else:
                if (stored, stored) not in self._kept:
                    self._kept[stored, stored] = machine.hold(self._numbers, stored)
                found = self._kept[stored, stored]
            if stored != needed:
                found = machine.hold(found, needed)
                if not rounding.random_bits:
                    self._kept[stored, needed] = found
        if stored != needed:
            number = stored.element if isinstance(stored, GroupShared) else stored
            machine.ledger.count(Operation("round", number, number, needed, rounding), self.size)
            machine.ledger.move(self.size * (stored.bits - needed.bits))
        return found


def converted(machine: Machine, x: Operand, needed: Format) -> Operand:
    """A vector in the format that a machine needs it in: itself, or converted, and counted."""
    return x if x.fmt == needed else machine.load(x, x.fmt, needed, held=True)  # type: ignore[arg-type]
