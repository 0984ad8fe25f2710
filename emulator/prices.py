"""Prices of parts on a characterised library: what ``silicon.fit`` found, one file a library.

A part's price is the sum of its counts (``counts.FEATURES``) times coefficients that are not negative. Energy goes by
the counts of bits that change; glitches also by how far carries run before and in a part (``Part.stir``), as operands
that arrive at different times make it switch more often.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cache, cached_property, lru_cache
from importlib import resources
from operator import gt, mul
from pathlib import Path

from .counts import FEATURES, Part
from .errors import HalfulpError
from .plan import Plan

#: Nodes that have a library, and its file in ``silicon/tables``.
LIBRARIES = {"130nm": "sg13g2", "7nm": "asap7", "2nm": "gt2n"}
PREDICTIVE = ("7nm", "2nm")  #: whose kits are of no foundry's process

#: Kinds of parts whose carries take the same time a bit.
_CARRIES = (
    ("multiply", "multiply_fixed"),
    ("integers", "round_integer"),  # each bit as soon as those before it have come
    ("sum",),
    ("align", "add", "add_eager"),
    ("normalise",),
    ("round", "round_to_fixed"),
    ("unpack", "unpack_fixed", "unpack_posit"),
)
_BESIDE = ("registers", "lfsr")  #: kinds that are on no way from operands to the sum
_CARRY = {kind: i for i, kinds in enumerate(_CARRIES) for kind in kinds}
SETTLED, INERTIAL = "settled_gaussian_pj", "inertial_gaussian_pj"  #: the fitted quantities that energy is made of


def features(part: Part, quantity: str) -> tuple[float, ...]:
    """What a quantity of a part (all of them) goes by."""
    if quantity.startswith("settled"):
        return part.active
    if quantity.startswith("inertial"):
        left = part.met if "uniform" in quantity else 1.0
        return part.active + tuple([left * count for count in part.glitching])
    return part.features


def stages(plan: Plan) -> list[list[Part]]:
    """The parts between one register and the next, the longest of which is the delay."""
    groups = [[0], [1], [2]] if plan.pipeline else [[0, 1], [2]]
    found = [[p for p in plan.parts if p.stage in group and p.kind not in _BESIDE] for group in groups]
    return [stage for stage in found if stage]


def path(parts: Sequence[Part]) -> tuple[float, ...]:
    """What the delay of parts one behind the other goes by: carries, by kind of part, and levels of other logic."""
    found = [0.0] * (len(_CARRIES) + 1)
    for part in parts:
        if part.kind in _CARRY:
            found[_CARRY[part.kind]] += part.serial * part.ripple
        if part.kind not in _BESIDE:
            found[-1] += part.serial * part.levels
    return tuple(found)


@dataclass(frozen=True)
class Errors:
    """How far a fit is off, relative: of designs left out one at a time, and of those it never saw."""

    mean: float
    p90: float
    factor: float  #: within which, x/÷, 90 % of the designs that were left out are
    held_mean: float | None  #: None if no design was held out
    held_p90: float | None


@dataclass(frozen=True)
class Library:
    """A fitted library."""

    header: dict[str, str]  #: of the table that it was fitted to
    #: quantity -> kind of part -> a coefficient for each of ``features``
    coefficients: dict[str, dict[str, tuple[float, ...]]]
    delay: tuple[float, ...]  #: ns for each of ``path``
    errors: dict[str, Errors]  #: by quantity
    domain: dict[str, tuple[float, ...]]  #: kind of part -> the largest counts of one that was measured
    stir: dict[str, float]  #: kind of part -> the largest stir (``counts.Part``) of the operands of one
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

    def figures(self, part: Part) -> tuple[float, float, float, float]:
        """Area, leakage, and energy settled and with glitches of a part, all of its number."""
        counts, active = part.features, part.active
        area, leakage, settled, moving, glitching = self._coefficients[part.kind]
        return (
            sum(map(mul, area, counts)),
            sum(map(mul, leakage, counts)),
            sum(map(mul, settled, active)),
            sum(map(mul, moving, active)) + sum(map(mul, glitching, part.glitching)),
        )

    @cached_property
    def _coefficients(self) -> dict[str, tuple[tuple[float, ...], ...]]:
        """Kind of part -> those of ``figures``, those of glitches by themselves."""
        found = {}
        for kind, names in FEATURES.items():
            *others, glitches = (
                self.coefficients[q].get(kind, ()) for q in ("area_um2", "leakage_nw", SETTLED, INERTIAL)
            )
            found[kind] = (*others, glitches[: len(names)], glitches[len(names) :])
        return found

    def way(self, parts: Sequence[Part]) -> float:
        """Delay (ns) of parts one behind the other: ``delay`` times their ``path``."""
        found = 0.0
        for part in parts:
            carry, level = self._delays[part.kind]
            found += part.serial * (carry * part.ripple + level * part.levels)
        return found

    @cached_property
    def _delays(self) -> dict[str, tuple[float, float]]:
        """Kind of part -> delay of a bit of its carries, and of a level of its other logic."""
        ends = {kind: path([Part("", kind, {}, chains=(1,))]) for kind in FEATURES}
        logic = {kind: path([Part("", kind, {}, levels=1)]) for kind in FEATURES}
        return {kind: tuple(sum(map(mul, self.delay, of[kind])) for of in (ends, logic)) for kind in FEATURES}  # type: ignore[misc]

    def delay_ns(self, plan: Plan) -> float:
        """The longest way between registers."""
        return max(map(self.way, stages(plan)), default=0.0)

    @cached_property
    def factors(self) -> tuple[float, float, float, float]:
        """The factors x/÷ within which 90 % of the designs' prices lie that a fit has not seen: of energy, area, delay
        and leakage."""
        settled, inertial, *others = (
            self.errors[quantity].factor for quantity in (SETTLED, INERTIAL, "area_um2", "delay_ns", "leakage_nw")
        )
        return (max(settled, inertial), *others)  # type: ignore[return-value]

    def far(self, part: Part) -> bool:
        """Whether a count of a part, or the stir of its operands, is larger than of all that were measured."""
        most = self._most[part.kind]
        if part.number > 1:
            most = tuple([part.number * count for count in most])
        return part.stir > self._most_stir(part) or any(map(gt, part.features, most))

    def beyond(self, part: Part) -> str:
        """What is so large, in words; empty if nothing is."""
        if not self.far(part):
            return ""
        for name, most in zip(FEATURES[part.kind], self._most[part.kind], strict=True):
            if part.counts.get(name, 0) > most:
                return f"{name} {part.counts[name]:g}, at most {most:g} measured"
        return f"stir {part.stir:.0f}, at most {self._most_stir(part):.0f} measured"

    def _most_stir(self, part: Part) -> float:
        return self.stir.get(part.kind, 0.0) * (1 + 1e-9)

    @cached_property
    def _most(self) -> dict[str, tuple[float, ...]]:
        return {kind: self.most(kind) for kind in FEATURES}

    def most(self, kind: str) -> tuple[float, ...]:
        """The largest counts of a kind of part that was measured; of one that was not, 0."""
        return self.domain.get(kind, (0.0,) * len(FEATURES[kind]))

    def outside(self, plan: Plan) -> list[str]:
        """What parts of a unit are larger than all that was measured, in words."""
        found = {part.name: said for part in plan.parts if (said := self.beyond(part))}
        return [f"{name} ({said})" for name, said in found.items()]

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Kinds of parts that no design had which it was fitted to: they cannot be priced."""
        return tuple(kind for kind in FEATURES if not any(self.coefficients["area_um2"].get(kind, ())))

    def check(self, plan: Plan) -> None:
        """Raises HalfulpError where a unit has parts that cannot be priced."""
        lacking = dict.fromkeys(part.name for part in plan.parts if part.kind in self.missing)
        if lacking:
            raise HalfulpError(
                f"none of the {self.designs} designs that {self.header['library']} was characterised with has the parts"
                f" {', '.join(lacking)}: characterise more of them (halfulp cost --characterize), and fit again."
            )

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of ``text``."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

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


def _sensible(found: Library) -> bool:
    """Whether all of its numbers are finite and none is negative."""
    numbers = [*found.delay, found.designs, *found.stir.values()]
    numbers += [n for most in found.domain.values() for n in most]
    numbers += [n for kinds in found.coefficients.values() for values in kinds.values() for n in values]
    numbers += [n for errors in found.errors.values() for n in astuple(errors) if n is not None]
    return all(isinstance(n, int | float) and math.isfinite(n) and n >= 0 for n in numbers)


@lru_cache(maxsize=16)
def parse(text: str) -> Library:
    """A library from its file's text. Raises HalfulpError where that is none, or of another version's parts."""
    try:
        data = json.loads(text)
        errors = {quantity: Errors(**found) for quantity, found in data.pop("errors").items()}
        coefficients = {
            quantity: {kind: tuple(map(float, values)) for kind, values in kinds.items()}
            for quantity, kinds in data.pop("coefficients").items()
        }
        domain = {kind: tuple(map(float, most)) for kind, most in data.pop("domain").items()}
        data["stir"] = {kind: float(most) for kind, most in data["stir"].items()}
        delay = tuple(map(float, data.pop("delay")))
        found = Library(errors=errors, coefficients=coefficients, domain=domain, delay=delay, **data)
        found.source  # noqa: B018  (its header is complete)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise HalfulpError(f"no fitted library, as halfulp cost --fit writes one ({error!r})") from None
    shapes = {kind: len(names) for kind, names in FEATURES.items()}
    if not _sensible(found):
        raise HalfulpError("a fitted library with a price, an error or a count that is no number from 0 on")
    alike = {kind: len(most) for kind, most in domain.items()} == shapes and len(delay) == len(_CARRIES) + 1
    for quantity, kinds in coefficients.items():
        factor = 2 if quantity.startswith("inertial") else 1
        alike &= all(len(values) == factor * shapes.get(kind, 0) for kind, values in kinds.items())
    if not alike or set(coefficients) | {"delay_ns"} != set(errors):
        raise HalfulpError("a library that another version of halfulp fitted: fit its table again (halfulp cost --fit)")
    return found


def load(path: str | Path) -> Library:
    """A library that a user characterised and fitted. Raises HalfulpError where the file is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise HalfulpError(f"the fitted library {path} cannot be read: {error.strerror}.") from None
    try:
        return parse(text)
    except HalfulpError as error:
        raise HalfulpError(f"{path} is {error}.") from None


@cache
def library(node: str) -> Library:
    """The fitted library of a node."""
    if node not in LIBRARIES:
        raise HalfulpError(f"no library was characterised for {node!r}: choose {', '.join(LIBRARIES)}.")
    file = resources.files(__package__).joinpath("silicon", "tables", f"{LIBRARIES[node]}.json")
    return parse(file.read_text(encoding="utf-8"))
