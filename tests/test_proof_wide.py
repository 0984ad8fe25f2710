"""Wide formats: 100,000 random cases and thousands of directed ones for every operation, format and mode.

The kernels are compared with ``integer_oracle`` on all of them, the definition on some thousand; in the slow tests both
the definition and the rational oracle go through all of them. The processor's own arithmetic is in
``test_proof_hardware``, Berkeley SoftFloat in ``test_peers``.
"""

import functools

import cases
import integer_oracle
import numpy as np
import oracle
import places
import pytest
from proof import EVERY, How, by_rationals, check_places, compare, hard_columns

FORMATS = ["e5m10", "e8m7", "e8m10", "e8m23", "e11m52", "e6m20", "e11m40"]
OPERATIONS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}
DIRECTED, RANDOM = 4000, 100_000
HOWS = [*EVERY, How("SR", 8), How("SR", 32), How("SR", 17, "before"), How("SRC", 5)]

#: Conversions between wide formats: from, to.
CONVERSIONS = [
    ("e11m52", "e8m23"), ("e11m52", "e5m10"), ("e11m52", "e8m7"), ("e11m52", "e6m20"), ("e8m23", "e5m10"),
    ("e8m23", "e8m10"), ("e11m52", "e11m40"), ("e11m40", "e8m23"), ("e8m23", "e11m52"), ("e11m52", "q16.16"),
    ("e8m23", "q8.24w"), ("e11m52", "e4m3fn"), ("e8m23", "e5m2fnuz"), ("e11m52", "e8m23ftz"),
]  # fmt: skip


#: One of many exact places, slow on the kernels.
LONG = ("e11m52", "uq32.32")


@functools.lru_cache(2)
def operands(name):
    return hard_columns(name, DIRECTED, RANDOM)


@functools.lru_cache(2)
def rows(name):
    return [integer_oracle.read(column, cases.oracle_format(name)) for column in operands(name)]


def check_operation(asked, name, operation, at, hows):
    format, n = cases.oracle_format(name), OPERATIONS[operation]
    columns = [column[at] for column in operands(name)[:n]]
    found = integer_oracle.place(operation, [row[at] for row in rows(name)[:n]], format)
    check_places(asked, f"{name}_{operation}", found, format, columns, hows)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_kernels(name, operation):
    check_operation("kernels", name, operation, slice(None), HOWS)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_definition_on_some(name, operation):
    for i, how in enumerate(HOWS):
        check_operation("definition", name, operation, slice(i, None, 50 * len(HOWS)), [how])


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_definition_on_all(name, operation):
    check_operation("definition", name, operation, slice(None), HOWS)


def check_conversion(asked, source, target, at, hows):
    column = operands(source)[0][at]
    format = cases.oracle_format(target)
    found = integer_oracle.place("convert", [rows(source)[0][at]], format)
    check_places(asked, f"{source}_to_{target}", found, format, [column], hows)


@pytest.mark.parametrize(("source", "target"), [*CONVERSIONS, pytest.param(*LONG, marks=pytest.mark.slow)])
def test_kernels_convert(source, target):
    check_conversion("kernels", source, target, slice(None), HOWS)


@pytest.mark.parametrize(("source", "target"), [*CONVERSIONS, LONG])
def test_definition_converts(source, target):
    for i, how in enumerate(HOWS):
        check_conversion("definition", source, target, slice(i, None, 50 * len(HOWS)), [how])


# ------------------------------------------------------------------------------------ and the oracles among each other


def check_oracles(name, operation, at, hows):
    """The rational oracle and the integers give the same codes and flags."""
    format, n = cases.oracle_format(name), OPERATIONS[operation]
    columns = [column[at] for column in operands(name)[:n]]
    found = integer_oracle.place(operation, [row[at] for row in rows(name)[:n]], format)
    values = [[oracle.decode(code, format) for code in column.tolist()] for column in columns]
    for how in hows:
        random = how.random(name, size=columns[0].shape)
        wanted = by_rationals(
            getattr(oracle, operation)(*row, format, how.mode, how.k, r, how.tininess, ftz=how.ftz)
            for *row, r in zip(*values, random.tolist(), strict=True)
        )
        integers = places.rounded(found, format, how.mode, how.k, random.astype(np.int64), how.tininess, how.ftz)
        compare(f"{name}_{operation}", how, columns, integers, wanted, random)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_oracles_agree_on_some(name, operation):
    for i, how in enumerate(HOWS):
        check_oracles(name, operation, slice(i, None, 60 * len(HOWS)), [how])


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_oracles_agree_on_all(name, operation):
    check_oracles(name, operation, slice(None), HOWS)


@pytest.mark.parametrize("name", FORMATS)
def test_random_operands_hit_what_they_aim_at(name):
    """Of 100,000 random triples, a hundred and more give ties, near ties, exact zeros, tiny results, overflows."""
    format, half = cases.oracle_format(name), 1 << integer_oracle.GUARD
    lines = [row[DIRECTED:] for row in rows(name)]
    for operation, n in (("add", 2), ("mul", 2), ("fma", 3)):
        found = integer_oracle.place(operation, lines[:n], format)
        finite = found.kind == places.FINITE
        _, flags = places.rounded(found, format, "RNE")
        zero = finite & (found.step == 0) & (found.part == 0)
        seen = {
            "ties": (finite & (found.part == half)).sum(),
            "just above ties": (finite & (found.part > half) & (found.part < half + half // 2**5)).sum(),
            "tiny": (finite & ~zero & (found.step < 2**format.t)).sum(),
            "overflows": (flags & places.OVERFLOW != 0).sum(),
            "exact zeros": zero.sum(),
        }
        rare = {("mul", "exact zeros"), ("add", "overflows")} | ({("mul", "ties")} if format.t > 40 else set())
        assert {what: n for what, n in seen.items() if n < 100 and (operation, what) not in rare} == {}, operation
