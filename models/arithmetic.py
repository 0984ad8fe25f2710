"""Arithmetic: the machines that a network runs on, for each layer one a role, and what each role has done."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..emulator.blocks import BlockFormat
from ..emulator.datapath import Datapath
from ..emulator.formats import Format
from ..emulator.ledger import Ledger, Operation
from ..kernels.backends import backend as make_backend
from ..kernels.machine import Machine
from ..kernels.operands import Operand
from .precision import ROLES, Clock, Policy, Precision

_VECTOR = 4  #: units of a step's vector machines, behind those of the roles
_TESTING = 8  #: units of tests, so that they draw other bits than training


class Machines:
    """The machines of one layer: one a role, and the two vector units that work on activations and on their gradients,
    in the formats that these are stored in."""

    def __init__(self, precision: Precision, arithmetic: Arithmetic, layer: str) -> None:
        self.precision, self.layer, self.time = precision, layer, (-1, -1)
        self._rate: tuple[float, Operand] | None = None
        shift = 0 if arithmetic.training else _TESTING

        def machine(datapath: Datapath, role: str, unit: int, on_inexact: str = "error") -> Machine:
            ledger, backend = arithmetic.ledgers[role], arithmetic.backend.name
            return Machine(datapath, backend, 0, ledger, arithmetic.threads, unit + shift, on_inexact=on_inexact)

        self.forward, self.grad_input, self.grad_weight = (
            machine(datapath, role, i, "quantize" if datapath.in_blocks else "error")
            for i, role in enumerate(ROLES[:3])
            for datapath in (getattr(precision, role),)
        )
        self.update = machine(precision.update, "update", 3, "quantize")  # rounds the step into its first operand
        self.vector, self.vector_gradient = (
            machine(_elements(datapath), role, _VECTOR + i)
            for i, (role, datapath) in enumerate((("forward", precision.forward), ("grad_input", precision.grad_input)))
        )

    def rate(self, value: float) -> Operand:
        """A number as the first operand of updates; held from step to step, unless it is rounded at random."""
        if self._rate is None or self._rate[0] != value or self.update.datapath.operand_rounding.random_bits:
            self._rate = value, self.update.hold(value, self.update.datapath.a)
        return self._rate[1]

    def begin(self, seed: int, time: tuple[int, int]) -> None:
        """Random bits depend on the run's seed, the layer, and step and batch, not on what went before."""
        if time != self.time:
            self.time = time
            words = np.random.SeedSequence([seed, *time, *self.layer.encode()]).generate_state(2, np.uint32)
            own = int(words[0]) << 30 | int(words[1]) >> 2  # below 2^62
            for machine in vars(self).values():
                if isinstance(machine, Machine):
                    machine.seed, machine.calls = own, 0


def _elements(datapath: Datapath) -> Datapath:
    """Of the vector unit beside a datapath: in its output's format, rounded as that and its operands are."""
    fmt, rounding = datapath.output, datapath.output_rounding
    return Datapath(fmt, rounding=rounding, operand_rounding=datapath.operand_rounding)


class Arithmetic:
    """What a network is computed on: a policy's precisions as machines, with one ledger a role.

    Parameters
    ----------
    policy : whose precisions they have, at the time that ``begin`` told.
    seed, backend, threads : as of a Machine. Each layer's machines have seeds of their own, step by step.
    training : False for inference, which draws other random bits, and normalises by what was learnt.
    """

    def __init__(
        self, policy: Policy, seed: int = 0, backend: str = "cpu", threads: int | None = None, training: bool = True
    ) -> None:
        self.policy, self.seed, self.threads, self.training = policy, seed, threads, training
        self.backend = make_backend(backend, threads)
        self.ledgers = {role: Ledger() for role in ROLES}
        self.clock, self._time = Clock(), (0, 0)
        self._machines: dict[tuple[str, Precision], Machines] = {}
        self._last: dict[str, Machines] = {}  #: by layer

    def begin(self, clock: Clock, batch: int = 0) -> None:
        """A step begins; of inference, which is at one step, a batch."""
        self.clock, self._time = clock, (clock.step, batch)

    @property
    def ledger(self) -> Ledger:
        """What all roles have done."""
        total = Ledger()
        for ledger in self.ledgers.values():
            total = total + ledger
        return total

    def at(self, layer: str) -> Machines:
        """The machines of a layer, at this step."""
        precision = self.policy.at(layer, self.clock)
        found = self._last.get(layer)
        if found is None or found.precision is not precision:
            found = self._machines.get((layer, precision)) or Machines(precision, self, layer)
            self._last[layer] = self._machines[layer, precision] = found
        found.begin(self.seed, self._time)
        return found

    def host(self, x: Operand) -> np.ndarray:
        """The values of an operand, for functions that are computed outside of the datapath."""
        return np.asarray(self.backend.to_host(x.whole), np.float64)


def load(x: Operand, machine: Machine, needed: Format | BlockFormat) -> Any:
    """``x`` as an operand of a machine: converted, and counted, where it is stored in another format. Blocks are made
    of it when it is multiplied, as they lie along the summed axis; that is counted here."""
    if isinstance(needed, BlockFormat):
        assert isinstance(x.fmt, Format)
        rounding, size = machine.datapath.operand_rounding, x.values.size
        machine.ledger.count(Operation("round", x.fmt, x.fmt, needed.element, rounding), size)
        machine.ledger.move(size * x.fmt.bits + math.ceil(size * needed.bits_per_element))
        return x.whole
    assert not isinstance(x.fmt, BlockFormat)
    return machine.load(x, x.fmt, needed, held=True)


def rounded(values: np.ndarray, machine: Machine, stored: Any, read: int | None = None) -> Operand:
    """Results of a function outside of the datapath, of numbers read in the format ``stored``, ``read`` of them where
    there are not as many as results, rounded once into what a machine puts out."""
    dp = machine.datapath
    return machine.quantize(values, dp.output, dp.output_rounding, stored, held=True, read=read)
