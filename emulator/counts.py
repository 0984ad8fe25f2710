"""What a part of a unit is priced by: counts of one-bit things, monotone in every width.

Full adders of a heap, bits of a carry-propagate adder, multiplexers of a shifter, flip-flops, ...: a price with
coefficients >= 0 is monotone in every width, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

#: Kind of part -> the counts that it is priced by, all of one-bit things. ``ripple`` is what its carries run through
#: and ``levels`` its other logic, one after the other: they price the delay.
FEATURES = {
    "unpack": ("one", "bits", "subnormal", "cleared"),
    "unpack_fixed": ("one", "bits"),
    "unpack_posit": ("bits", "mux"),
    "multiply": ("one", "adders", "ands", "width", "exponent"),
    "multiply_fixed": ("adders", "ands", "width"),
    "align": ("one", "mux", "window", "exponent"),
    "add": ("one", "width", "both"),
    "add_eager": ("one", "width", "both", "tail", "chains"),
    "choose": ("carries",),
    "normalise": ("one", "mux", "width", "exponent", "limit"),
    "round": ("one", "bits", "up", "sticky", "random", "mux", "exponent"),
    "round_to_fixed": ("one", "bits", "up", "sticky", "random", "mux", "exponent"),
    "sum": ("terms", "mux", "rows", "adders", "total", "exponent", "cleared"),
    "integers": ("ands", "adders", "rows", "width", "cleared"),
    "round_integer": ("bits", "up", "sticky", "random", "over"),
    "lfsr": ("xors", "loads"),
    "registers": ("flipflops", "muxes", "data"),
}

#: Counts that do not go with the width, or all of whose bits change when a sign does.
WHOLE = {"one", "exponent", "limit", "random", "terms", "flipflops", "rows", "adders", "total", "ands", "sticky"}
WHOLE |= {"chains", "carries", "xors", "loads"}


@dataclass(frozen=True)
class Part:
    """So many parts alike."""

    name: str  #: what the generator calls them, without what tells them apart
    kind: str  #: a key of FEATURES
    counts: Mapping[str, float]  #: of one of them; what is not there is 0
    ripple: float = 0.0  #: bits of the carry chains on the longest way through it
    levels: float = 0.0  #: of multiplexers and trees on it
    width: int = 1  #: bits of the number that it works on
    number: int = 1
    serial: int = 1  #: how many of them stand one behind the other
    stage: int = 0  #: on the way to the product, 0; to the register, 1; from there to the output, 2
    role: str = ""  #: in a datapath: product, add, normalise, outer (addition of a block), output, registers
    alive: float = math.inf  #: bits of the number's width that change
    before: float = 0.0  #: ripple and levels that its operands have come through since a register

    @cached_property
    def features(self) -> tuple[float, ...]:
        """The counts of all of them, as FEATURES orders them."""
        return tuple(self.number * self.counts.get(name, 0.0) for name in FEATURES[self.kind])

    @cached_property
    def active(self) -> tuple[float, ...]:
        """The same of what changes."""
        each = {"mux": self.alive * self.counts["levels"]} if self.counts.get("mux") else {}
        most = [math.inf if name in WHOLE else each.get(name, self.alive) for name in FEATURES[self.kind]]
        return tuple([min(count, self.number * n) for count, n in zip(self.features, most, strict=True)])
