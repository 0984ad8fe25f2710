"""Against the rational oracle: IEEE 754's further operations, and the conventions (x86's NaNs, DAZ, FTZ, tininess)."""

import itertools

import cases
import numpy as np
import oracle
import oracle_operations
import pytest
from halfulp.emulator.conventions import Conventions
from halfulp.emulator.functions import function
from proof import ASKED, How, by_rationals, check, compare
from test_proof_narrow import GROUPS

SMALL = ["e3m2", "e2m2fn", "e2m2fnuz", "e3m1finite", "e3m1ftz", "e2m2sat", "e3m0", "binary5p2se", "binary5p3uf"]
SMALL += ["ue4m0", "ue3m2", "q3.2", "uq2.3", "q2.3w"]
WIDE = ["e5m10", "e8m23", "e11m52"]
HOWS = [How(mode) for mode in cases.MODES] + [How("SR", 3), How("SRC", 2)]


def pairs(name):
    """Every pair of codes of a small format, some thousand hard ones of a wide one: two columns."""
    format = cases.oracle_format(name)
    if format.width <= 6:
        return [
            axis.ravel().astype(np.uint64) for axis in np.meshgrid(*[np.arange(2**format.width)] * 2, indexing="ij")
        ]
    return list(np.array(list(cases.pairs(name, 1500, "operations")), dtype=np.uint64).T)


def decoded(columns, name):
    """Rows of Values."""
    format = cases.oracle_format(name)
    return list(zip(*([oracle.decode(code, format) for code in column.tolist()] for column in columns), strict=True))


def check_rows(name, how, columns, results):
    """Definition and kernels give what the oracle says of each row."""
    wanted, random = by_rationals(results), how.random(name, size=columns[0].shape)
    for asked in ASKED:
        check(asked, name, how, columns, wanted, random)


def rounded(name, operation, how, rows, **conventions):
    """What the oracle's operation gives, row by row, with the random integers of ``how``."""
    random = how.random(f"{name}_{operation}", size=len(rows)).tolist()
    compute, format = (
        getattr(oracle_operations, operation, None) or getattr(oracle, operation),
        cases.oracle_format(name),
    )
    return (
        compute(*row, format, how.mode, how.k, r, how.tininess, ftz=how.ftz, **conventions)
        for row, r in zip(rows, random, strict=True)
    )


@pytest.mark.parametrize("name", [*SMALL, *WIDE])
def test_rem(name):
    columns = pairs(name)
    rows = decoded(columns, name)
    for how in HOWS if name in SMALL else HOWS[::3]:
        check_rows(f"{name}_rem", how, columns, rounded(name, "rem", how, rows))


#: Relations by sign, and whether a quiet NaN is invalid.
PREDICATES = {
    "eq": ("=", False), "lt": ("<", True), "le": ("<=", True),
    "eq_signaling": ("=", True), "lt_quiet": ("<", False), "le_quiet": ("<=", False),
}  # fmt: skip


@pytest.mark.parametrize("name", [*SMALL, *WIDE])
def test_relations(name):
    columns = pairs(name)
    rows = decoded(columns, name)
    for predicate, (signs, signaling) in PREDICATES.items():
        relations = (oracle_operations.compare(*row, signaling) for row in rows)
        check_rows(
            f"{name}_{predicate}", How("RNE"), columns, ((int(sign in signs), raised) for sign, raised in relations)
        )
    order = (
        (("<", "=", ">", "?").index(sign), raised) for sign, raised in (oracle_operations.compare(*r) for r in rows)
    )
    check_rows(f"{name}_compare", How("RNE"), columns, order)


@pytest.mark.parametrize("name", [*SMALL, *WIDE])
def test_minimum_and_maximum(name):
    columns, format = pairs(name), cases.oracle_format(name)
    rows = decoded(columns, name)
    for largest, numbers in itertools.product((False, True), repeat=2):
        operation = ("maximum" if largest else "minimum") + "_number" * numbers
        chosen = (oracle_operations.extremum(*row, largest, numbers) for row in rows)
        results = ((oracle.encode(value, format), raised) for value, raised in chosen)
        check_rows(f"{name}_{operation}", How("RNE"), columns, results)


@pytest.mark.parametrize("name", [*SMALL, *WIDE])
def test_scalb(name):
    format = cases.oracle_format(name)
    exponents = [0, 1, -1, 2, -3, 7, -12, 40, -40, 300, -300, 2**31 - 1, -(2**31)]
    codes = range(2**format.width) if format.width <= 6 else cases.special_codes(name)
    columns = list(np.array(list(itertools.product(codes, exponents)), dtype=object).T)
    columns = [columns[0].astype(np.uint64), (columns[1] % 2**32).astype(np.uint64)]
    reach = [max(-3000, min(n, 3000)) for _, n in itertools.product(codes, exponents)]
    rows = [(x[0], n) for x, n in zip(decoded(columns[:1], name), reach, strict=True)]
    for how in HOWS[::2] if name in SMALL else HOWS[:1]:
        check_rows(f"{name}_scalb", how, columns, rounded(name, "scalb", how, rows))


@pytest.mark.parametrize(
    "name", ["e4m3fn", "e5m2", "e2m1finite", "e5m10", "e8m7", "binary8p3se", "q4.4", "q4.4w", "e8m23"]
)
@pytest.mark.parametrize("terms", [1, 2, 5, 32])
def test_exact_sums_and_dot_products(name, terms):
    """One rounding at the end; infinities, NaNs and zeros among the terms."""
    format, draw = cases.oracle_format(name), cases.rng("dot", name, terms)
    special = cases.special_codes(name)

    def code():
        return draw.choice(special) if draw.random() < 0.5 / terms else draw.randrange(2**format.width)

    for operation, count in ((f"sum{terms}", terms), (f"dot{terms}", 2 * terms)):
        columns = list(np.array([[code() for _ in range(count)] for _ in range(150)], dtype=np.uint64).T)
        values = decoded(columns, name)
        rows = [(row if operation[0] == "s" else list(zip(row[:terms], row[terms:], strict=True)),) for row in values]
        for how in HOWS[::3]:
            random = how.random(f"{name}_{operation}", size=150).tolist()
            compute = oracle_operations.sum if operation[0] == "s" else oracle_operations.dot
            results = (compute(*row, format, how.mode, how.k, r) for row, r in zip(rows, random, strict=True))
            check_rows(f"{name}_{operation}", how, columns, results)


@pytest.mark.parametrize("group", [group for group, names in GROUPS.items() if not group.endswith(("7", "8"))])
def test_neighbours_and_classes(group):
    """Every code of every small format."""
    sides = ("Infinity", "Normal", "Subnormal", "Zero")
    fclass = [f"negative{x}" for x in sides] + [f"positive{x}" for x in sides[::-1]] + ["signalingNaN", "quietNaN"]
    for name in GROUPS[group]:
        format = cases.oracle_format(name)
        codes = np.arange(2**format.width, dtype=np.uint64)
        for operation in ("next_up", "next_down"):
            results = (getattr(oracle_operations, operation)(code, format) for code in codes.tolist())
            check("definition", f"{name}_{operation}", How("RNE"), [codes], by_rationals(results))
        classes = [oracle_operations.classify(oracle.decode(code, format), format) for code in codes.tolist()]
        wanted = np.array([1 << fclass.index(one) for one in classes]), np.zeros(codes.size)
        check("definition", f"{name}_classify", How("RNE"), [codes], wanted)


CONVENTIONS = [
    Conventions(tininess, nan, daz, ftz)
    for tininess, nan, daz, ftz in itertools.product(
        ("after", "before"), ("canonical", "x86"), (False, True), (False, True)
    )
]


@pytest.mark.parametrize(
    "conventions", CONVENTIONS, ids=lambda c: f"{c.tininess}-{c.nan}{'-daz' * c.daz}{'-ftz' * c.ftz}"
)
@pytest.mark.parametrize("name", ["e3m2", "e2m2fnuz", "e3m1finite", "e3m2ftz", "binary5p2se", "q3.2", "e5m10", "e8m23"])
def test_conventions(name, conventions):
    """Every pair of small codes, hard ones of wide formats, under every combination."""
    format, columns = cases.oracle_format(name), pairs(name)
    columns = [*columns, np.roll(columns[1], 7)]
    rows = decoded(columns, name)
    if conventions.daz:
        rows = [tuple(oracle.flushed(x, format) for x in row) for row in rows]
    for (operation, n), how in zip(
        (("add", 2), ("sub", 2), ("mul", 2), ("div", 2), ("sqrt", 1), ("fma", 3), ("rem", 2)),
        (How("RNE"), How("RTP"), How("RTN"), How("RNA"), How("RTO"), How("SR", 3), How("RNE")),
        strict=True,
    ):
        how = how._replace(tininess=conventions.tininess, ftz=conventions.ftz)
        few = [row[:n] for row in rows]
        wanted = by_rationals(rounded(name, operation, how, few, x86=conventions.nan == "x86"))
        unit = function(f"{name}_{operation}", how.rounding, conventions)
        random = how.random(f"{name}_{operation}", size=len(rows))
        for asked in ASKED.values():
            compare(f"{unit.name} {conventions}", how, columns[:n], asked(unit, columns[:n], random), wanted, random)
