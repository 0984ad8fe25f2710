"""More never costs less, at any node, in any public quantity, over the whole domain; what is built smaller may.

A wider unit may be built of less: an accumulator whose range covers all sums needs no shifter for gradual underflow,
one that holds them exactly no rounding, one that they never leave no saturation, and bits below its last place are not
added. The product of significands of one bit is taken for one of two bits, which may lie below a range. Mapped on GT2N,
e5m10/e7m10 takes 52.2 um2 and e6m10/e7m10 45.6; e7m7/e7m19 49.4 and e7m7/e8m19 45.1 (the model: 52.3, 43.8; 47.6,
44.0). Where a width can do that (exponents, both ends of accumulators of fixed point, trees that round what they may
not have to), prices may fall, but only with the unit's own counts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import halfulp as hu
import pytest
from halfulp.emulator import cost as pricing
from halfulp.emulator.functions import function
from halfulp.emulator.plan import Plan, plan
from halfulp.emulator.prices import LIBRARIES, library

NODES = ("130nm", "45nm", "28nm", "16nm", "7nm", "5nm", "3nm", "2nm")  #: three of which have libraries
FITTED = ("area_um2", "leakage_nw", "settled_gaussian_pj", "inertial_gaussian_pj", "settled_uniform_pj")
MODES = ("RNE", "RTZ", "RNA", "RND", "RTP", "RTN", "RTO", "SR1", "SR4", "SR13", "SR32", "SR8c")
Pair = tuple[str, str, str]  #: what grows, the smaller unit, the larger


def quantities(unit: str, node: str) -> list[float]:
    """All public prices of a unit; energy of a clock, as that of a MAC falls with more of them."""
    found = hu.cost(unit, node)
    return [getattr(found, q) * (found.macs_per_cycle if q == "energy_pj" else 1) for q in pricing.QUANTITIES]


def falls(less: str, more: str, nodes: Sequence[str] = NODES) -> list[tuple[str, str, float]]:
    """Prices that are lower of the larger unit: (node, quantity, ratio)."""
    found = []
    for node in nodes:
        for q, a, b in zip(pricing.QUANTITIES, quantities(less, node), quantities(more, node), strict=True):
            if b < a * (1 - 1e-9):
                found.append((node, q, b / a))
    return found


def is_built_of_less(less: Plan, more: Plan) -> bool:
    """Whether the larger unit has fewer parts, or one of a lower count or a shorter way."""
    if [(p.kind, p.number) for p in less.parts] != [(p.kind, p.number) for p in more.parts]:
        return True
    for a, b in zip(less.parts, more.parts, strict=True):
        lower = any(b.counts.get(name, 0) < count for name, count in a.counts.items())
        if lower or b.ripple < a.ripple or b.levels < a.levels or b.stir < a.stir or b.serial < a.serial:
            return True
    return False


# ---- units at random


def number(w: int, t: int, ftz: bool = False) -> str:
    return f"e{w}m{t}{'ftz' if ftz else ''}"


def floats(draw: random.Random) -> Iterator[Pair]:
    """A random unit of floats, and the same with more of something."""
    w, t, v, u = draw.randint(2, 8), draw.randint(0, 23), draw.randint(2, 10), draw.randint(0, 51)
    n, g = draw.choice((2, 3, 4, 5, 8, 16)), draw.randint(0, 8)
    how = draw.choice(MODES)
    order = draw.choice(("", f":fused{n}", f":fused{n}g{g + 1}", f":tree{n}", f":systolic{n}", f":exact{n}", ":exact"))

    def unit(w: int = w, t: int = t, v: int = v, u: int = u, how: str = how, order: str = order, ftz: str = "") -> str:
        return f"{number(w, t, 'a' in ftz)}/{number(v, u, 's' in ftz)}@{how}{order}"

    of = "tree's " if "tree" in order else ""
    yield f"{of}significand" if t else "significand of one bit", unit(), unit(t=t + 1)
    yield "exponent", unit(), unit(w=w + 1)
    yield "exact sum" if "exact" in order else f"{of}sum", unit(), unit(u=u + 1)
    yield "sum's exponent", unit(), unit(v=v + 1)
    yield "subnormal operands", unit(ftz="a"), unit()
    yield "subnormal sums", unit(ftz="s"), unit()
    yield "guard bits", unit(order=f":fused{n}" + (f"g{g}" if g else "")), unit(order=f":fused{n}g{g + 1}")
    yield "output", unit(), f"{number(w, t)}/{number(v, u)}/{number(draw.randint(2, 8), t)}@{how}/RNE{order}"
    yield from more_terms(draw, n, lambda order: unit(order=order))
    yield from finer_rounding(draw, lambda how: unit(how=how))


def fixed(draw: random.Random) -> Iterator[Pair]:
    """The same of fixed point, 2 to 64 bits wide."""
    i, f = draw.randint(2, 32), draw.randint(0, 16)
    k, j = draw.randint(2, 47), draw.randint(0, 16)
    n, how = draw.choice((2, 3, 4, 8, 16)), draw.choice(MODES)
    order = draw.choice(("", f":fused{n}", f":fused{n}g2", f":tree{n}", f":systolic{n}", f":exact{n}", ":exact"))

    def unit(i: int = i, f: int = f, k: int = k, j: int = j, how: str = how, order: str = order) -> str:
        return f"q{i}.{f}/q{k}.{j}@{how}{order}"

    yield "integer bits", unit(), unit(i=i + 1)
    yield "sum's integer bits", unit(), unit(k=k + 1)
    yield "fraction bits", unit(), unit(f=f + 1)
    yield "sum's fraction bits", unit(), unit(j=j + 1)
    yield "saturation", f"q{i}.{f}/q{k}.{j}w@{how}{order}", unit()
    yield from more_terms(draw, n, lambda order: unit(order=order))
    yield from finer_rounding(draw, lambda how: unit(how=how))


def more_terms(draw: random.Random, n: int, unit: Callable[[str], str]) -> Iterator[Pair]:
    kind = draw.choice(("fused", "exact", "systolic"))
    yield "terms", unit(f":{kind}{n}"), unit(f":{kind}{n + 1}")
    yield "terms of a tree", unit(f":tree{n}"), unit(f":tree{n + 1}")


def finer_rounding(draw: random.Random, unit: Callable[[str], str]) -> Iterator[Pair]:
    k = draw.randint(1, 31)
    less, more = draw.choice((("RTZ", "RNE"), ("RNE", "SR1"), ("RNE", f"SR{k}"), (f"SR{k}", f"SR{k + 1}")))
    yield "rounding", unit(less), unit(more)


#: What can leave a unit with less to build.
SHRINKING = {
    "exponent",
    "sum's exponent",
    "tree's significand",
    "tree's sum",
    "exact sum",
    "subnormal sums",
    "significand of one bit",
    "fraction bits",
    "sum's fraction bits",
    "sum's integer bits",
    "terms of a tree",
}


def check(seed: int, units: int) -> None:
    draw = random.Random(seed)
    pairs = 0
    for _ in range(units):
        for what, less, more in draw.choice((floats, fixed))(draw):
            fallen = falls(less, more, draw.sample(NODES, 3))
            pairs += 1
            if what in SHRINKING:
                assert not fallen or is_built_of_less(plan(less), plan(more)), (seed, what, less, more, fallen)
            else:
                assert not fallen, (seed, what, less, more, fallen)
    assert pairs >= 5 * units


def test_more_never_costs_less() -> None:
    check(1, 250)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_more_never_costs_less_far_and_wide(seed: int) -> None:
    check(seed, 3000)


# ---- function units


def costs(found: Plan, node: str) -> list[float]:
    return [*(library(node).price(found, q) for q in FITTED), library(node).delay_ns(found)]


def never_less(more: Plan, less: Plan, of: slice = slice(None)) -> None:
    for node in LIBRARIES:
        for a, b, q in zip(costs(more, node)[of], costs(less, node)[of], (*FITTED, "delay_ns")[of], strict=True):
            assert a >= b * (1 - 1e-12), (node, q)


def test_functions_grow_with_each_width_and_finer_rounding() -> None:
    """From e2m0 to e11m52."""
    draw = random.Random(1)
    for _ in range(250):
        w, t, how, kind = draw.randint(2, 10), draw.randint(0, 51), draw.choice(MODES), draw.choice(("mul", "add"))

        def unit(name: str, how: str = how, kind: str = kind) -> Plan:
            return plan(function(f"{name}_{kind}", how))

        one = unit(number(w, t))
        never_less(unit(number(w, t + 1)), one)
        never_less(unit(number(w + 1, t)), one)
        never_less(one, unit(number(w, t, ftz=True)))
        steps = [unit(number(w, t), mode) for mode in ("RTZ", "RNE", "SR1", "SR2", "SR12", "SR32")]
        for less, more in itertools.pairwise(steps):
            never_less(more, less)


def test_fused_functions_grow_with_each_width() -> None:
    draw = random.Random(2)
    for _ in range(150):
        w, t, how = draw.randint(3, 10), draw.randint(1, 51), draw.choice(MODES)
        one = plan(function(f"{number(w, t)}_fma", how))
        never_less(plan(function(f"{number(w, t + 1)}_fma", how)), one)
        never_less(plan(function(f"{number(w + 1, t)}_fma", how)), one)


def test_operations_grow_at_every_node() -> None:
    draw = random.Random(3)
    for _ in range(60):
        w, t, kind = draw.randint(2, 10), draw.randint(0, 51), draw.choice(("mul", "add"))
        for node in NODES:
            one, *larger = (
                hu.Technology(node).unit(hu.Operation(kind, fmt, fmt, fmt))
                for fmt in map(hu.format, (number(w, t), number(w, t + 1), number(w + 1, t)))
            )
            for other, q in itertools.product(larger, pricing.QUANTITIES):
                assert getattr(other, q).value >= getattr(one, q).value * (1 - 1e-9), (kind, w, t, node, q)


# ---- no cliffs


def test_a_bit_more_is_a_step_not_a_cliff() -> None:
    """One bit adds what it widens, and at most another level to each shifter."""
    draw = random.Random(4)
    for _ in range(60):
        w, t, v, u = draw.randint(3, 8), draw.randint(3, 23), draw.randint(5, 10), draw.randint(6, 51)
        order, node = draw.choice(("", ":fused4", ":tree4", ":systolic4")), draw.choice(NODES)
        one = quantities(f"{number(w, t)}/{number(v, u)}{order}", node)
        for larger in (number(w, t + 1), number(w + 1, t)):
            for a, b in zip(one, quantities(f"{larger}/{number(v, u)}{order}", node), strict=True):
                assert 0.75 * a <= b <= 1.5 * a, (w, t, v, u, order, larger, node)
        for larger in (number(v, u + 1), number(v + 1, u)):
            for a, b in zip(one, quantities(f"{number(w, t)}/{larger}{order}", node), strict=True):
                assert 0.75 * a <= b <= 1.5 * a, (w, t, v, u, order, larger, node)


@pytest.mark.parametrize("unit", ["e{w}m{t}/e{w}m{t}", "e5m10/e8m{t}", "e8m7/e8m{t}:fused4", "q4.{t}/q8.{t}"])
@pytest.mark.parametrize("node", ["45nm", "7nm"])
def test_units_that_were_published_are_no_cliffs(unit: str, node: str) -> None:
    """fp16, fp32, int8 and int32 stand in published tables, their neighbours do not."""
    for w in (5, 8):
        series = [quantities(unit.format(w=w, t=t), node) for t in range(4, 30)]
        for less, more in itertools.pairwise(series):
            assert all(a <= b <= 1.4 * a for a, b in zip(less, more, strict=True))


# ---- a fused unit and its parts; the domain


@pytest.mark.parametrize(
    ("a", "acc"), [("fp8_e4m3", "fp16"), ("fp8_e4m3", "fp32"), ("bf16", "fp32"), ("int8", "int32")]
)
def test_a_fused_unit_is_no_more_than_its_terms_apart(a: str, acc: str) -> None:
    for node, n in itertools.product(NODES, (2, 3, 4, 8, 16, 32)):
        one, fused = hu.cost(f"{a}/{acc}", node), hu.cost(f"{a}/{acc}:fused{n}", node)
        assert fused.energy_pj <= one.energy_pj and fused.area_um2 <= n * one.area_um2
        assert fused.leakage_nw <= n * one.leakage_nw


def test_outside_of_what_was_measured_there_is_a_warning_and_a_wider_band() -> None:
    for node in NODES:
        inside, outside = hu.cost("bf16/fp32", node), hu.cost("e8m40/e11m52", node)
        assert not inside.warnings and "larger than all that was measured: " in str(outside)
        for q in pricing.QUANTITIES:
            low, high = outside.band[q]
            assert low < getattr(outside, q) < high
        for q in ("area_um2", "delay_ns"):
            assert outside.band[q][1] / outside.band[q][0] > inside.band[q][1] / inside.band[q][0]


def test_nothing_is_negative() -> None:
    draw = random.Random(5)
    for _ in range(30):
        for what, less, _more in draw.choice((floats, fixed))(draw):
            assert all(value > 0 for value in quantities(less, draw.choice(NODES))), (what, less)
