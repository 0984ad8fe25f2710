"""Clocks: which products and which roundings of a dot product fall in which clock of its unit, and how an LFSR that the
unit has of its own deals random bits out to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from .datapath import Datapath
from .orders import Blocked, Do, Exact, Systolic, lanes, program
from .random import LFSR, Role


class Clock(NamedTuple):
    """One clock: the products first, ..., last - 1 go in."""

    first: int
    last: int
    fold: bool  #: the inner accumulator of a blocked order goes to the outer one


class Draw(NamedTuple):
    """A rounding that draws random bits in a clock."""

    port: str  #: of the unit, if its random bits come from outside; the first draw of a port has its lowest bits
    role: Role
    number: int  #: the definition asks for these bits with (role, number), ``datapath.dot``
    bits: int


def clocks(dp: Datapath, length: int) -> list[Clock]:
    """The clocks of a dot product of ``length`` terms."""
    n, span = lanes(dp.order), dp.order.length if isinstance(dp.order, Blocked) else length
    spans = [
        (s, min(s + n, b + span, length)) for b in range(0, length, span) for s in range(b, min(b + span, length), n)
    ]
    return [Clock(first, last, last == length or last % span == 0) for first, last in spans]


def draws(dp: Datapath, length: int) -> list[list[Draw]]:
    """By clock, the draws, in the unit's order: products, accumulator, the sum of its registers, output."""
    starts = [clock.first for clock in clocks(dp, length)]
    systolic = isinstance(dp.order, Systolic)
    late = systolic or (isinstance(dp.order, Exact) and dp.order.terms is None)
    found = []
    for first, roundings in zip(starts, _accumulations(dp, length, starts), strict=True):
        some = []
        if dp.product is not None:
            products = range(first, first + lanes(dp.order))
            some += [Draw("random_product", Role.PRODUCT, k, dp.product_rounding.random_bits) for k in products]
        for i, (level, number) in enumerate(roundings):
            of_sum = late and not (systolic and i < lanes(dp.order))
            port = "random_sum" if of_sum else "random_accumulator"
            some.append(Draw(port, Role.ACCUMULATOR, number, dp.accumulators[level][1].random_bits))
        if dp.output != dp.accumulator:
            some.append(Draw("random_output", Role.OUTPUT, 0, dp.output_rounding.random_bits))
        found.append([draw for draw in some if draw.bits])
    return found


def _accumulations(dp: Datapath, length: int, starts: list[int]) -> list[list[tuple[int, int]]]:
    """By clock, the roundings into accumulators, in the unit's order: (level, number of the draw)."""
    by_clock: list[list[tuple[int, int]]] = [[] for _ in starts]
    clock = 0
    for step in program(dp.order, length):
        if step.do in (Do.MAC, Do.FUSE, Do.LOAD):
            for k in range(step.first, max(step.last, step.first + 1)):
                while clock + 1 < len(starts) and k >= starts[clock + 1]:
                    clock += 1
                if step.do is Do.MAC:
                    by_clock[clock].append((step.level, step.draw + k - step.first))
        if step.do is Do.ADD and isinstance(dp.inner_order, Systolic) and len(by_clock[clock]) < lanes(dp.order):
            by_clock[clock] += [by_clock[clock][-1]] * (lanes(dp.order) - len(by_clock[clock]))  # idle lanes: no matter
        if step.do in (Do.FUSE, Do.ADD):
            by_clock[clock].append((step.level, step.draw))
    return by_clock


@lru_cache(maxsize=256)
def ports(dp: Datapath) -> dict[str, int]:
    """The bits that each port of random bits takes in a clock."""
    total: dict[str, int] = {}
    for draw in draws(dp, dp.order.length if isinstance(dp.order, Blocked) else lanes(dp.order))[-1]:
        total[draw.port] = total.get(draw.port, 0) + draw.bits
    return total


def dealt(dp: Datapath, length: int, lfsr: LFSR, state: int) -> tuple[Callable[[Role, int, int], int], int]:
    """The random bits of a dot product whose unit has an LFSR of its own, in ``state`` at the first clock.

    Each clock deals one state out (``LFSR.deal``): to the ports of ``ports`` in their order, each as wide as there, and
    of a port to its draws. With one draw a clock these are the bits that ``lfsr.random_bits`` gives at step 0, 1, ...

    Returns
    -------
    ``random`` for ``datapath.dot``, and the state after the last clock.
    """
    widths, bits = ports(dp), dict[tuple[Role, int], int]()
    for some in draws(dp, length):
        words = dict(zip(widths, lfsr.deal(state, list(widths.values())), strict=True))
        drawn: dict[tuple[Role, int], int] = {}
        for draw in some:
            drawn.setdefault((draw.role, draw.number), words[draw.port] & (1 << draw.bits) - 1)
            words[draw.port] >>= draw.bits
        bits |= drawn  # the output's rounding draws at every clock; the last one counts
        state = lfsr.after(lfsr.clocks, state)
    return lambda role, number, k: bits.get((role, number), 0), state  # a conversion to the same format needs none
