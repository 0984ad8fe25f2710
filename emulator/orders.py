"""Orders: in which order a datapath adds its products up, and where it rounds on the way.

Every order is a *program*, a list of few kinds of ``Step`` on registers that start at +0. The definition and the
kernels run the same programs; what a step is worth, rounding and all, they say (``datapath.dot``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import lru_cache
from itertools import count
from numbers import Integral
from typing import NamedTuple

from . import names
from .errors import HalfulpError
from .formats import Format
from .rounding import RNE, Rounding


class Do(IntEnum):
    """Kinds of steps. r is the register of the step; a register holds a number of its accumulator's format."""

    MAC = 0  #: r <- r + x[k] y[k], rounded each time, for k = first, ..., last - 1
    LOAD = 1  #: r <- the product x[first] y[first], exact or rounded as products are, not yet of any accumulator
    ADD = 2  #: r <- r + register ``first``, rounded
    FUSE = 3  #: r <- r + x[first] y[first] + ... + x[last - 1] y[last - 1], aligned, summed, rounded once
    CLEAR = 4  #: r <- +0


class Step(NamedTuple):
    do: Do
    register: int
    first: int = 0
    last: int = 0
    level: int = 0  #: which accumulator rounds: 0 the datapath's, 1 the inner one of ``Blocked``
    draw: int = 0  #: number of the (first) rounding, by which it draws its random bits


def _check_integers(order: object) -> None:
    """Refuse what is no integer where one is needed."""
    for field in fields(order):  # type: ignore[arg-type]
        value, kind = getattr(order, field.name), str(field.type)
        whole = isinstance(value, Integral) or (value is None and kind == "int | None")
        if kind.startswith("int") and not whole:
            raise HalfulpError(f"the {field.name} of an order {type(order).__name__} is an integer, not {value!r}.")


@dataclass(frozen=True)
class Sequential:
    """One multiply-accumulate unit: the accumulator is rounded after every term, k = 0, 1, 2, ..."""

    def __str__(self) -> str:
        return "sequential"

    @property
    def text(self) -> str:
        """The order in a datapath's text form."""
        return ""

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        """The steps that add the products first, ..., last - 1 to register 0."""
        if first < last:
            drawn = [next(draws) for _ in range(first, last)]
            yield Step(Do.MAC, 0, first, last, draw=drawn[0])


@dataclass(frozen=True)
class Fused:
    """A fused n-term unit, the tensor-core model (Fasi et al. 2021, doi:10.7717/peerj-cs.330).

    The n exact products of a step and the accumulator are aligned to the largest exponent among them, cut off
    (toward zero) below ``guard_bits`` bits under the accumulator's last place at that exponent, summed exactly,
    then normalised and rounded once into the accumulator. The exponent of a product is the sum of its operands'
    exponents, unnormalised. A fixed-point accumulator has its own fixed last place, and neither floor nor tensor cores'
    results. A sum that cancels is +0.
    """

    terms: int
    guard_bits: int = 0
    floor: int | None = None  #: the largest exponent counts as at least this
    #: Results as of NVIDIA's units: one beyond the range is what an infinity is there, in every rounding mode, and one
    #: that is zero is +0, also where a negative sum was rounded to it (Khattak & Mikaitis 2025, arXiv:2512.07004).
    tensor_core: bool = False
    #: Of operands in blocks: so many products are summed exactly, and their sum is a term whose exponent is that of its
    #: blocks' scales alone, unless all products are 0 (GST-FDPA of MMA-Sim, Xie et al., arXiv:2511.10909).
    group: int | None = None

    def __post_init__(self) -> None:
        _check_integers(self)
        if not 1 <= self.terms <= 4096 or not 0 <= self.guard_bits <= 32:
            raise HalfulpError(f"{self}: terms must lie in 1...4096, guard_bits in 0...32.")
        if self.group is not None and (self.group < 1 or self.terms % self.group):
            raise HalfulpError(f"{self}: terms must be a multiple of group, or that left out.")
        if self.floor is not None and not -4096 <= self.floor <= 4096:
            raise HalfulpError(f"{self}: floor is an exponent in -4096...4096, or left out.")

    def __str__(self) -> str:
        floor = "" if self.floor is None else f", floor={self.floor}"
        group = "" if self.group is None else f", group={self.group}"
        return f"fused({self.terms}, guard_bits={self.guard_bits}{floor}{', tensor_core' * self.tensor_core}{group})"

    @property
    def text(self) -> str:
        guard = f"g{self.guard_bits}" if self.guard_bits else ""
        floor = "" if self.floor is None else f"e{self.floor}"
        group = "" if self.group is None else f"x{self.group}"
        return f"fused{self.terms}{group}{guard}{floor}{'n' * self.tensor_core}"

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        return _fuses(first, last, self.terms, draws)


@dataclass(frozen=True)
class TwoStage:
    """A fused n-term unit that adds its products first and the accumulator then, as AMD's CDNA3 (TR-FDPA and GTR-FDPA
    of MMA-Sim, Xie et al., arXiv:2511.10909).

    The n exact products of a step are aligned to the largest exponent among them and cut off (toward zero) as in
    ``Fused``, and summed. That sum, under the same exponent, and the accumulator are aligned to the larger exponent of
    the two, floored (toward minus infinity), the sum below ``sum_guard_bits`` + 1 bits under the accumulator's last
    place there, the accumulator below ``guard_bits``, and added. The result is normalised, floored below
    ``sum_guard_bits`` bits under its own last place, and rounded into the accumulator. The accumulator's exponent, and
    that of the result, is at least emin, of zeros, too. A product of 2^(emax + 1) or more in the accumulator's format
    is an infinity. A sum that cancels is +0.
    """

    terms: int
    guard_bits: int = 0
    sum_guard_bits: int = 0
    #: Even and odd products are summed apart, then aligned to the larger exponent of the two, floored at ``guard_bits``
    #: and added; and an accumulator whose exponent is more than one below its last place kept is dropped.
    interleaved: bool = False

    def __post_init__(self) -> None:
        _check_integers(self)
        if not 1 <= self.terms <= 4096 or not 0 <= self.guard_bits <= self.sum_guard_bits <= 32:
            raise HalfulpError(f"{self}: terms must lie in 1...4096, guard_bits in 0...sum_guard_bits, that in 0...32.")

    def __str__(self) -> str:
        guards = f"guard_bits={self.guard_bits}, sum_guard_bits={self.sum_guard_bits}"
        return f"two_stage({self.terms}, {guards}{', interleaved' * self.interleaved})"

    @property
    def text(self) -> str:
        guard = f"g{self.guard_bits}" if self.guard_bits else ""
        return f"twostage{self.terms}{guard}s{self.sum_guard_bits}{'i' * self.interleaved}"

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        return _fuses(first, last, self.terms, draws)


@dataclass(frozen=True)
class Exact:
    """Products and accumulator are summed exactly, n products at a time, and rounded once into the accumulator.

    ``terms=None``: all of them at once, in an accumulator that loses nothing (Kulisch 2013, doi:10.1515/9783110301793;
    the posits' quire). A sum that cancels is +0.
    """

    terms: int | None = None

    def __post_init__(self) -> None:
        _check_integers(self)
        if self.terms is not None and not 1 <= self.terms <= 4096:
            raise HalfulpError(f"exact({self.terms}): terms must lie in 1...4096, or be left out.")

    def __str__(self) -> str:
        return "exact" if self.terms is None else f"exact({self.terms})"

    @property
    def text(self) -> str:
        return "exact" if self.terms is None else f"exact{self.terms}"

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        return _fuses(first, last, self.terms or max(last - first, 1), draws)


@dataclass(frozen=True)
class Tree:
    """n multipliers and a tree of adders that round each: neighbours are added pairwise, an odd last one goes up as
    it is; the tree's sum is then added to the accumulator. Products beyond the last are +0.

    ``terms=None``: one tree of exactly as many products as there are.
    """

    terms: int | None = None

    def __post_init__(self) -> None:
        _check_integers(self)
        if self.terms is not None and not 2 <= self.terms <= 4096:
            raise HalfulpError(f"tree({self.terms}): terms must lie in 2...4096, or be left out.")

    def __str__(self) -> str:
        return "tree" if self.terms is None else f"tree({self.terms})"

    @property
    def text(self) -> str:
        return "tree" if self.terms is None else f"tree{self.terms}"

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        terms = self.terms or max(last - first, 1)
        for start in range(first, last, terms):
            yield from _tree(start, min(start + terms, last), start + terms, 1, draws)
            yield Step(Do.ADD, 0, 1, draw=next(draws))


@dataclass(frozen=True)
class Systolic:
    """s multiply-accumulate units side by side: product k goes to lane k mod s; in the end the lanes are added by a
    tree as of ``Tree``."""

    lanes: int

    def __post_init__(self) -> None:
        _check_integers(self)
        if not 2 <= self.lanes <= 256:
            raise HalfulpError(f"systolic({self.lanes}): lanes must lie in 2...256.")

    def __str__(self) -> str:
        return f"systolic({self.lanes})"

    @property
    def text(self) -> str:
        return f"systolic{self.lanes}"

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        for k in range(first, last):
            yield Step(Do.MAC, (k - first) % self.lanes, k, k + 1, draw=next(draws))
        distance = 1
        while distance < self.lanes:
            for lane in range(0, self.lanes - distance, 2 * distance):
                yield Step(Do.ADD, lane, lane + distance, draw=next(draws))
            distance *= 2


@dataclass(frozen=True)
class Blocked:
    """Promoted accumulation, as in FP8 training (DeepSeek-V3, arXiv:2412.19437, section 3.3.2): the products of each
    ``length`` are added up in an inner accumulator, from +0 on, by an order of its own; its sum is then added to the
    datapath's accumulator, which rounds once a block."""

    length: int
    accumulator: Format  #: the inner one
    rounding: Rounding = RNE  #: of the inner accumulator
    order: Sequential | Fused | TwoStage | Exact | Tree | Systolic = Sequential()

    def __post_init__(self) -> None:
        _check_integers(self)
        object.__setattr__(self, "accumulator", names.scalar_format(self.accumulator))
        object.__setattr__(self, "rounding", Rounding.parse(self.rounding))
        if not 1 <= self.length <= 1 << 20:
            raise HalfulpError(f"{self}: the length must lie in 1...2**20.")
        if not isinstance(self.order, Order) or isinstance(self.order, Blocked):
            raise HalfulpError(f"{self}: the inner order is sequential, fused, two_stage, exact, tree or systolic.")

    def __str__(self) -> str:
        order = "" if isinstance(self.order, Sequential) else f", {self.order}"
        return f"blocked({self.length}, {names.alias(self.accumulator)}@{self.rounding}{order})"

    @property
    def text(self) -> str:
        order = f":{self.order.text}" if self.order.text else ""
        return f"blocked{self.length}({names.alias(self.accumulator)}@{self.rounding}{order})"

    def steps(self, first: int, last: int, draws: Iterator[int]) -> Iterator[Step]:
        for start in range(first, last, self.length):
            if start > first:
                inner_registers = registers(self.order, self.length)
                yield from (Step(Do.CLEAR, 1 + r) for r in range(inner_registers))
            for step in self.order.steps(start, min(start + self.length, last), draws):
                moved = step._replace(register=step.register + 1, level=1)
                yield moved._replace(first=step.first + 1) if step.do is Do.ADD else moved
            yield Step(Do.ADD, 0, 1, draw=next(draws))


Fusing = Fused | TwoStage | Exact  #: orders whose steps are FUSE
Order = Sequential | Fused | TwoStage | Exact | Tree | Systolic | Blocked
sequential = Sequential()
exact = Exact()


def lanes(order: Order) -> int:
    """Products that a unit of this order adds in a clock."""
    if isinstance(order, Blocked):
        return lanes(order.order)
    if isinstance(order, Systolic):
        return order.lanes
    if isinstance(order, Tree) and order.terms is None:
        raise HalfulpError("a tree of as many products as there are is no unit: say of how many, as in tree8.")
    return (1 if isinstance(order, Sequential) else order.terms) or 1


def macs_per_clock(order: Order) -> float:
    """The same on average: some lanes idle in a block's last clock if they do not divide its length."""
    n = lanes(order)
    return order.length / -(-order.length // n) if isinstance(order, Blocked) else n


def fused(
    terms: int, guard_bits: int = 0, floor: int | None = None, tensor_core: bool = False, group: int | None = None
) -> Fused:
    """The order of a fused unit with ``terms`` products a step."""
    return Fused(terms, guard_bits, floor, tensor_core, group)


def two_stage(terms: int, guard_bits: int = 0, sum_guard_bits: int = 0, interleaved: bool = False) -> TwoStage:
    """The order of a fused unit that adds the accumulator to ``terms`` products' sum in a stage of its own."""
    return TwoStage(terms, guard_bits, sum_guard_bits, interleaved)


def tree(terms: int | None = None) -> Tree:
    """The order of a tree of adders over ``terms`` products, or over all."""
    return Tree(terms)


def systolic(lanes: int) -> Systolic:
    """The order of ``lanes`` interleaved partial sums."""
    return Systolic(lanes)


def blocked(
    length: int, accumulator: Format | str, rounding: Rounding | str = RNE, order: Order | str = sequential
) -> Blocked:
    """The order of partial sums of ``length`` products in an inner ``accumulator``."""
    return Blocked(length, accumulator, rounding, parse_order(order))  # type: ignore[arg-type]


def _fuses(first: int, last: int, terms: int, draws: Iterator[int]) -> Iterator[Step]:
    for start in range(first, last, terms):
        yield Step(Do.FUSE, 0, start, min(start + terms, last), draw=next(draws))


def _tree(first: int, last: int, end: int, register: int, draws: Iterator[int]) -> Iterator[Step]:
    """The steps that leave the sum of the tree over [first, end), products from ``last`` on being +0, in a register.

    A complete tree is its left half, the largest power of two that leaves something, plus its right half.
    """
    if end - first == 1:
        yield Step(Do.LOAD, register, first) if first < last else Step(Do.CLEAR, register)
        return
    half = 1 << (end - first - 1).bit_length() - 1
    yield from _tree(first, last, first + half, register, draws)
    yield from _tree(first + half, last, end, register + 1, draws)
    yield Step(Do.ADD, register, register + 1, draw=next(draws))


@lru_cache(maxsize=256)
def program(order: Order, length: int) -> tuple[Step, ...]:
    """The steps of a dot product of ``length`` terms; its sum ends in register 0."""
    return tuple(order.steps(0, length, count()))


def multipliers(order: Order) -> int:
    """Multipliers of a unit that work side by side: terms of a dot product that it takes a cycle."""
    if isinstance(order, Blocked):
        return multipliers(order.order)
    if isinstance(order, Systolic):
        return order.lanes
    return order.terms or 1 if isinstance(order, Fusing | Tree) else 1


def registers(order: Order, length: int) -> int:
    """How many registers a program needs."""
    if isinstance(order, Systolic):
        return order.lanes
    if isinstance(order, Blocked):
        return 1 + registers(order.order, min(order.length, length))
    if isinstance(order, Tree):
        return 2 + (max(order.terms or length, 1) - 1).bit_length()
    return 1


_ORDER = re.compile(
    r"sequential|fused(?P<terms>\d+)(x(?P<group>\d+))?(g(?P<guard>\d+))?(e(?P<floor>-?\d+))?(?P<tensor>n)?|exact(?P<exact>\d+)?|tree(?P<tree>\d+)?|systolic(?P<lanes>\d+)"
    r"|twostage(?P<staged>\d+)(g(?P<first_guard>\d+))?s(?P<sum_guard>\d+)(?P<interleaved>i)?"
    r"|blocked(?P<length>\d+)\((?P<accumulator>[^@:()]+)(@(?P<rounding>[^@:()]+))?(:(?P<inner>[^()]+))?\)"
)


def parse_order(text: Order | str) -> Order:
    """An order from its text form: ``fused32g2``, ``fused16g2e-133n`` (a floor, as tensor cores), ``fused64x16``
    (groups of blocks' products), ``twostage16g1s8i`` (interleaved), ``exact``, ``exact8``, ``tree16``, ``systolic4``,
    ``blocked128(fp32@RTZ:fused32)``."""
    if not isinstance(text, str):
        if isinstance(text, Order):
            return text
        raise HalfulpError(
            f"order {text!r} is none: use hu.sequential, fused, two_stage, exact, tree, systolic or blocked."
        )
    match = _ORDER.fullmatch(text.strip())
    if not match:
        raise HalfulpError(
            f"order {text!r} is none of sequential, fused<n>[x<group>][g<guard bits>][e<floor>][n],"
            " twostage<n>[g<guard bits>]s<sum's guard bits>[i], exact[<n>], tree[<n>], systolic<lanes>,"
            " blocked<n>(<accumulator>[@<rounding>][:<order>])."
        )
    part = match.groupdict()
    number = lambda name: None if part[name] is None else int(part[name])  # noqa: E731
    if part["terms"]:
        tensor_core = part["tensor"] is not None
        return Fused(int(part["terms"]), int(part["guard"] or 0), number("floor"), tensor_core, number("group"))
    if part["staged"]:
        guards = int(part["first_guard"] or 0), int(part["sum_guard"])
        return TwoStage(int(part["staged"]), *guards, part["interleaved"] is not None)
    if part["lanes"]:
        return Systolic(int(part["lanes"]))
    if part["length"]:
        inner = parse_order(part["inner"] or "sequential")
        return blocked(int(part["length"]), part["accumulator"], part["rounding"] or RNE, inner)
    if text.strip().startswith("exact"):
        return Exact(number("exact"))
    return Tree(number("tree")) if text.strip().startswith("tree") else sequential
