"""A unit's own random bits: an LFSR that is stepped at every clock (``random.LFSR``)."""

from __future__ import annotations

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from ..random import LFSR
from .part import Part


class Lfsr(Part):
    """One step of a linear feedback shift register in Galois form: the state that is drawn from, and the next one."""

    def __init__(self, lfsr: LFSR, held: Value, load: Value, seed: Value) -> None:
        super().__init__()
        held, load, seed = self.take("held", held), self.take("load", load), self.take("seed", seed)
        self.state = state = self.let("state", Mux(load, seed, held))
        bits = (reduce(xor, (state[j] for j in taps), Const(0, 1)) for taps in lfsr.taps)
        self.following = self.let("following", Cat(bits))


def own_lfsr(unit: Part, lfsr: LFSR, bits: int) -> tuple[list[Signal], Value]:
    """Puts an LFSR into a unit: its ports, and the word of ``bits`` bits that it deals out (``LFSR.deal``).

    With ``seed_load`` the clock draws from ``seed``, otherwise from the register; both step it.
    """
    lfsr.deal(lfsr.seed, [bits])  # refuses more than it has
    load, seed = Signal(1, name="seed_load"), Signal(lfsr.width, name="seed")
    held = Signal(lfsr.width, name="lfsr_state", reset_less=True)
    step = unit.inside("lfsr", Lfsr(lfsr, held, load, seed))
    unit.registers.append((held, step.following))
    return [load, seed], step.state[lfsr.width - bits :]
