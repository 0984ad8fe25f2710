"""Every pair of codes of every format of at most 8 bits, in every mode, codes and flags; every triple up to 5 bits.

The kernels against search in sorted tables (``table_oracle``). The definition on all small formats and, for formats
without kernels and two others of 8 bits, with one rounding for each pair; in the slow tests, wherever the kernels are.
"""

import functools
import itertools
from dataclasses import replace

import cases
import halfulp as hu
import numpy as np
import oracle
import pytest
import table_oracle
from halfulp.kernels.codecs import has_codec
from proof import EVERY, check_places

PAIRS = ("add", "sub", "mul", "div")


def floats(w, t):
    """Names of all formats with these fields, and two with an unusual bias."""
    names = [
        f"e{w}m{t}{specials}{ftz}{sat}"
        for specials, ftz, sat in itertools.product(("", "fn", "fnuz", "finite"), ("", "ftz"), ("", "sat"))
        if not (specials == "finite" and sat)  # which saturates anyway
    ]
    return [*names, f"e{w}m{t}b0", f"e{w}m{t}fnb{2**w}"]


def fixed(bits):
    """Names of formats of this width: all integers, all fraction, between, and IL or FL negative; wrapping ones too."""
    lengths = sorted({bits, 0, bits // 2, bits + 2, -1, 1})
    return [f"{u}q{il}.{bits - il}{w}" for il, u, w in itertools.product(lengths, ("", "u"), ("", "w"))]


def p3109(bits):
    """Names of IEEE P3109's formats of this width, all precisions."""
    formats = itertools.product(range(1, bits + 1), ("s", "u"), ("e", "f"), ("", "sat"))
    return [f"binary{bits}p{p}{s}{e}{sat}" for p, s, e, sat in formats if p < bits or s == "u"]


def unsigned(bits):
    """Names of unsigned formats in OCP's manner; those of p = 1 have no zero (E8M0)."""
    formats = itertools.product(range(max(bits - 5, 1), bits + 1), ("", "finite"), ("", "ftz"), ("", "sat"))
    return [f"ue{w}m{bits - w}{specials}{ftz}{sat}" for w, specials, ftz, sat in formats if _exists(w, bits - w, ftz)]


def _exists(w, t, ftz):
    return (w > 1 or t > 0) and not (ftz and t == 0)


FIELDS = [(w, t) for w in range(2, 8) for t in range(6) if 1 + w + t <= 8]
GROUPS = {f"e{w}m{t}": floats(w, t) for w, t in FIELDS}
GROUPS |= {f"binary{bits}": p3109(bits) for bits in range(3, 9)}
GROUPS |= {f"ue{bits}": unsigned(bits) for bits in range(3, 9)}
GROUPS |= {f"fixed{bits}": fixed(bits) for bits in range(1, 9)}
SMALL = [group for group, names in GROUPS.items() if cases.oracle_format(names[0]).width <= 5]


def table_top(format):
    """The last step of the table where results wrap: no result of the format's operations lies beyond."""
    if not getattr(format, "wrap", False):
        return None
    largest = oracle.Fraction(max(format.highest, -format.lowest)) * oracle.power_of_two(-format.fl)
    quantum = oracle.power_of_two(-format.fl)
    return int(max(2 * largest, 2 * largest**2, largest / quantum) / quantum) + 2


@functools.lru_cache(64)
def places_of(format, operation):
    """Places of all results, and the different ones among them."""
    found = table_oracle.all_places(format, operation, table_top(format))
    return found, found.distinct()


def check_every(asked, name, operation, hows):
    format = cases.oracle_format(name)
    columns = [column.astype(np.uint8) for column in table_oracle.all_operands(format, operation)]
    shared = format if isinstance(format, oracle.Fixed) else replace(format, saturate=False)
    found, few = places_of(shared, operation)
    check_places(asked, f"{name}_{operation}", found, format, columns, hows, few)


def check_in_turn(name, operation):
    """The definition on every pair, or triple: each in one rounding, the next in the next."""
    format = cases.oracle_format(name)
    columns = table_oracle.all_operands(format, operation)
    found, _ = places_of(replace(format, saturate=False), operation)
    for i, how in enumerate(EVERY):
        at = slice(i, None, len(EVERY))
        check_places("definition", f"{name}_{operation}", found[at], format, [c[at] for c in columns], [how])


def check_kernels(name, operation):
    if has_codec(hu.format(name)) or cases.oracle_format(name).width < 7:
        check_every("kernels", name, operation, EVERY)
    else:
        check_in_turn(name, operation)


def unless(later, groups):
    """The groups as parameters, some of them of slow tests."""
    return [pytest.param(group, marks=pytest.mark.slow) if later(group) else group for group in groups]


#: Left to the slow tests: as addition is, or the longest.
LONG = [(group, op) for group in ("binary8", "fixed8", "ue8") for op in ("sub", "div")]


def long(group, operation):
    return cases.oracle_format(GROUPS[group][0]).width in (6, 7) or (group, operation) in LONG


@pytest.mark.parametrize(
    ("group", "operation"),
    [
        pytest.param(group, operation, marks=[pytest.mark.slow] if long(group, operation) else [])
        for group in GROUPS
        for operation in [*PAIRS, "sqrt"]
    ],
)
def test_kernels_on_every_pair(group, operation):
    for name in GROUPS[group]:
        check_kernels(name, operation)


@pytest.mark.parametrize("group", unless(lambda group: group in ("binary5", "e4m0", "ue5"), SMALL))
def test_kernels_on_every_triple(group):
    for name in GROUPS[group]:
        check_kernels(name, "fma")


@pytest.mark.parametrize("operation", [*PAIRS, "sqrt"])
@pytest.mark.parametrize("group", [group for group in SMALL if group != "e4m0"] + ["e3m2"])
def test_definition_on_every_pair_of_small_codes(group, operation):
    for name in GROUPS[group]:
        check_every("definition", name, operation, EVERY if cases.oracle_format(name).width < 5 else EVERY[::3])


@pytest.mark.parametrize("group", ["e2m1", "e3m0", "fixed4"])
def test_definition_on_every_triple_of_four_bit_codes(group):
    for i, name in enumerate(GROUPS[group]):
        check_every("definition", name, "fma", EVERY[i % 3 :: 3])


@pytest.mark.parametrize("operation", [*PAIRS, "sqrt"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_definition_on_every_pair_of_eight_bit_codes(name, operation):
    check_in_turn(name, operation)


@pytest.mark.slow
@pytest.mark.parametrize("operation", [*PAIRS, "sqrt"])
@pytest.mark.parametrize("group", GROUPS)
def test_definition_on_every_pair(group, operation):
    for name in GROUPS[group]:
        check_every("definition", name, operation, EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("group", SMALL)
def test_definition_on_every_triple(group):
    for name in GROUPS[group]:
        check_every("definition", name, "fma", EVERY)
