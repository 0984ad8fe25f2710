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
    "round": ("one", "bits", "over", "up", "sticky", "random", "mux", "exponent"),
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
#: Kind of part -> the names of its counts, None of those that are whole.
_ALIVE = {kind: tuple(None if name in WHOLE else name for name in names) for kind, names in FEATURES.items()}
#: Kinds of parts whose results wait for their carries, bit by bit (a product) or all of them (operands change places, a
#: sum is made positive); numbers of fixed point are negative half of the time. Others' carries are of exponents.
STIRS: dict[str, float] = {
    "multiply": 1,
    "multiply_fixed": 1,
    "integers": 1,
    "align": 1,
    "add": 1,
    "add_eager": 1,
    "sum": 1,
}
STIRS |= {"unpack_fixed": 0.5, "unpack_posit": 0.5}


@dataclass(frozen=True)
class Part:
    """So many parts alike."""

    name: str  #: what the generator calls them, without what tells them apart
    kind: str  #: a key of FEATURES
    counts: Mapping[str, float]  #: of one of them; what is not there is 0
    chains: tuple[float, ...] = ()  #: bits of the carry chains on the longest way through it, one behind the other
    levels: float = 0.0  #: of multiplexers and trees on it
    width: int = 1  #: bits of the number that it works on
    number: int = 1
    serial: int = 1  #: how many of them stand one behind the other on the longest way; 0 if it passes them by
    stage: int = 0  #: on the way to the product, 0; to the register, 1; from there to the output, 2
    role: str = ""  #: in a datapath: product, add, normalise, outer (addition of a block), output, registers
    alive: float = math.inf  #: bits of the number's width that change
    stir: float = 0.0  #: of its operands, the sum of ``stirs`` of the parts that they have come through
    turned: bool = False  #: whether a sum before it turns all bits when its sign changes on the way
    met: float = 1.0  #: share of uniform operands' glitches that are left (``activity.met``)

    @cached_property
    def features(self) -> tuple[float, ...]:
        """The counts of all of them, as FEATURES orders them."""
        number, get = self.number, self.counts.get
        return tuple([number * get(name, 0.0) for name in FEATURES[self.kind]])

    @cached_property
    def active(self) -> tuple[float, ...]:
        """The same of what changes."""
        return self._within(self.alive)

    @cached_property
    def glitching(self) -> tuple[float, ...]:
        """The same of what glitches, times how often it does: by the stir of the operands, and, on average, by half of
        the part's own."""
        bits = self._within(math.inf if self.turned else self.alive)
        often = self.stir + self.run / 2
        return tuple([often * count for count in bits])

    def _within(self, bits: float) -> tuple[float, ...]:
        if bits == math.inf:
            return self.features
        most = self.number * bits
        mux = most * self.counts.get("levels", 1)
        limits = {None: math.inf, "mux": mux}
        return tuple([min(n, limits.get(name, most)) for n, name in zip(self.features, _ALIVE[self.kind], strict=True)])

    @property
    def ripple(self) -> float:
        """Bits of all its carry chains."""
        return sum(self.chains)

    @cached_property
    def run(self) -> float:
        """How far its carries run: in a chain of n bits, log2(n) on average (Burks, Goldstine, von Neumann 1946)."""
        return sum([math.log2(n) for n in self.chains if n > 1])

    @property
    def stirs(self) -> float:
        """How often a bit of its result changes before it settles."""
        return STIRS.get(self.kind, 0.0) * self.run
