"""Parameter: weights that are learnt."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..emulator.formats import Format
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from ..kernels.paths import FP64


class Parameter:
    """Weights that are learnt: their values, stored in a format, and the last step's gradient."""

    def __init__(self, values: np.ndarray, decays: bool = True) -> None:
        self.value = Operand(values, FP64, None)
        self.gradient: Operand | None = None
        self.decays = decays  #: by weight decay
        self.state: dict[str, np.ndarray] = {}  #: the optimiser's

    def store(self, fmt: Format, backend: Any = None) -> None:
        """Round the values to nearest into their storage format."""
        if self.value.fmt != fmt:
            machine = Machine(f"{fmt}", backend="cpu" if backend is None else backend.name)
            self.value = machine.quantize(self.value, fmt, "RNE", held=True)
