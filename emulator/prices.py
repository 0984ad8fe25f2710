"""Prices of parts on a characterised library: what ``silicon.fit`` found, one file a library.

A part's price is the sum of its counts (``counts.FEATURES``) times coefficients that are not negative. Energy goes by
the counts of bits that change; glitches also by how deep the logic before a part is, as operands that arrive at
different times make it switch more often.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import resources
from operator import mul

from .counts import FEATURES, Part
from .errors import HalfulpError
from .plan import Plan

#: Nodes that have a library, and its file in ``silicon/tables``.
LIBRARIES = {"130nm": "sg13g2", "7nm": "asap7", "2nm": "gt2n"}

#: Kinds of parts whose carries take the same time a bit.
_CARRIES = (
    ("multiply", "multiply_fixed", "integers"),
    ("sum",),
    ("align", "add", "add_eager"),
    ("normalise", "round", "round_to_fixed", "round_integer"),
    ("unpack", "unpack_fixed", "unpack_posit"),
)


def features(part: Part, quantity: str) -> tuple[float, ...]:
    """What a quantity of a part (all of them) goes by."""
    if quantity.startswith("settled"):
        return part.active
    if quantity.startswith("inertial"):
        return part.active + tuple([part.before * count for count in part.active])
    return part.features


def stages(plan: Plan) -> list[list[Part]]:
    """The parts between one register and the next, the longest of which is the delay."""
    groups = [[0], [1], [2]] if plan.pipeline else [[0, 1], [2]]
    found = [[p for p in plan.parts if p.stage in group and p.kind != "registers"] for group in groups]
    return [stage for stage in found if stage]


def path(parts: Sequence[Part]) -> tuple[float, ...]:
    """What the delay of parts one behind the other goes by: carries, by kind of part, and levels of other logic."""
    ripples = [sum(p.serial * p.ripple for p in parts if p.kind in kinds) for kinds in _CARRIES]
    return (*ripples, sum(p.serial * p.levels for p in parts))


@dataclass(frozen=True)
class Errors:
    """How far a fit is off, relative: of designs left out one at a time, and of those it never saw."""

    mean: float
    p90: float
    held_mean: float
    held_p90: float


@dataclass(frozen=True)
class Library:
    """A fitted library."""

    header: dict[str, str]  #: of the table that it was fitted to
    #: quantity -> kind of part -> a coefficient for each of ``features``
    coefficients: dict[str, dict[str, tuple[float, ...]]]
    delay: tuple[float, ...]  #: ns for each of ``path``
    errors: dict[str, Errors]  #: by quantity
    domain: dict[str, tuple[float, ...]]  #: kind of part -> the largest counts of one that was measured
    designs: int  #: that it was fitted to

    def part(self, part: Part, quantity: str) -> float:
        """Area, leakage or energy of a part, all of its number."""
        known = self.coefficients[quantity].get(part.kind)
        if known is None:
            return 0.0
        return sum(map(mul, known, features(part, quantity)))

    def price(self, plan: Plan, quantity: str) -> float:
        """Area (um2), leakage (nW) or energy (pJ a clock) of a unit."""
        return sum(self.part(part, quantity) for part in plan.parts)

    def delay_ns(self, plan: Plan) -> float:
        """The longest way between registers."""
        return max(
            (sum(c * x for c, x in zip(self.delay, path(stage), strict=True)) for stage in stages(plan)), default=0.0
        )

    def most(self, kind: str) -> tuple[float, ...]:
        """The largest counts of a kind of part that was measured; of one that was not, 0."""
        return self.domain.get(kind, (0.0,) * len(FEATURES[kind]))

    def outside(self, plan: Plan) -> list[str]:
        """What parts of a unit are larger than all that was measured, in words."""
        found = {}
        for part in plan.parts:
            for name, most in zip(FEATURES[part.kind], self.most(part.kind), strict=True):
                if part.counts.get(name, 0.0) > most:
                    found[part.name] = f"{part.name} ({name} {part.counts[name]:g}, at most {most:g} measured)"
        return list(found.values())

    @cached_property
    def source(self) -> str:
        """Where its numbers come from, in a line."""
        about = self.header
        return (
            f"fitted to {self.designs} designs mapped on {about['library']} ({about['name']}, {about['voltage']},"
            f" sha256 {about['digest']}) by {about['tool'].split(' (')[0]}, no wires, typical corner"
        )

    def text(self) -> str:
        """As JSON, for the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def parse(text: str) -> Library:
    """A library from its file."""
    data = json.loads(text)
    errors = {quantity: Errors(**found) for quantity, found in data.pop("errors").items()}
    coefficients = {
        quantity: {kind: tuple(values) for kind, values in kinds.items()}
        for quantity, kinds in data.pop("coefficients").items()
    }
    domain = {kind: tuple(most) for kind, most in data.pop("domain").items()}
    return Library(errors=errors, coefficients=coefficients, domain=domain, delay=tuple(data.pop("delay")), **data)


@cache
def library(node: str) -> Library:
    """The fitted library of a node."""
    if node not in LIBRARIES:
        raise HalfulpError(f"no library was characterised for {node!r}: choose {', '.join(LIBRARIES)}.")
    file = resources.files(__package__).joinpath("silicon", "tables", f"{LIBRARIES[node]}.json")
    return parse(file.read_text(encoding="utf-8"))
