"""The definition equals the oracle: code and flags of every operation, compared exactly.

Every pair of codes of small formats in every mode (stochastic rounding with every random integer), every triple of
a 4-bit format, every binary16 code converted; directed and seeded random operands for the large formats; the rules
for NaNs, infinities and zeros by hand; MPFR as a third witness where gmpy2 is installed.
"""

import functools
import itertools
from decimal import Decimal, localcontext
from fractions import Fraction

import cases
import halfulp as hu
import numpy as np
import oracle
import oracle_mpfr
import pytest
from cases import ROUNDINGS, as_value, describe, expected, oracle_format
from halfulp.emulator import arithmetic
from halfulp.emulator.arithmetic import Flags, exact, round_pack
from halfulp.emulator.conventions import Conventions
from halfulp.emulator.formats import Kind, Unpacked


class Oracle:
    """What the oracle says of one operation in every rounding; each distinct exact result is rounded only once."""

    def __init__(self, operation, name):
        self.operation, self.format = operation, oracle_format(name)
        self.rounded = functools.cache(lambda exact_result: self._in_every_rounding(lambda mode: exact_result))

    def _exact(self, values, mode):
        return (
            oracle.exact_mul(*values)
            if self.operation == "mul"
            else getattr(oracle, f"exact_{self.operation}")(*values, mode)
        )

    def _in_every_rounding(self, exact_in):
        results = []
        for _, mode, k, r in ROUNDINGS:
            value, raised = exact_in(mode)
            code, more = oracle.round(value, self.format, mode, k, r)
            results.append(expected((code, raised | more)))
        return results

    def __call__(self, values):
        """(code, flags) for each of ROUNDINGS."""
        exact_result = self._exact(values, "RNE")
        if exact_result[0].is_zero:  # its sign depends on the mode
            return self._in_every_rounding(lambda mode: self._exact(values, mode))
        return self.rounded(exact_result)


def operands(name):
    """(datum, value) of every code of a format: the definition's and the oracle's."""
    fmt, of = hu.format(name), oracle_format(name)
    return [(fmt.unpack(code), oracle.decode(code, of)) for code in range(2**fmt.bits)]


def fail(operation, data, name, rounding, random, found, wanted):
    inputs = ", ".join(f"{float(datum)!r}" for datum in data)
    pytest.fail(
        f"{operation}({inputs}) -> {name} {rounding} random={random}: {describe(found)}, not {describe(wanted)}"
    )


def check(operation, data, values, name, rounding, mode, k, r):
    """One operation on one set of operands: the definition's code and flags are the oracle's."""
    found = getattr(arithmetic, operation)(*data, hu.format(name), rounding, r)
    wanted = expected(getattr(oracle, operation)(*values, oracle_format(name), mode, k, r))
    if found != wanted:
        fail(operation, data, name, rounding, r, found, wanted)


def check_every(operation, name, count, chosen):
    """One operation on every ``count`` codes of a format, in the roundings ``chosen`` by number for each of them."""
    judge, compute, fmt = Oracle(operation, name), getattr(arithmetic, operation), hu.format(name)
    for number, row in enumerate(itertools.product(operands(name), repeat=count)):
        data, values = zip(*row, strict=True)
        wanted = judge(values)
        for i in chosen(number):
            rounding, _, _, r = ROUNDINGS[i]
            found = compute(*data, fmt, rounding, r)
            if found != wanted[i]:
                fail(operation, data, name, rounding, r, found, wanted[i])


def all_roundings(number):
    return range(len(ROUNDINGS))


def one_of_sr3(number):
    """The deterministic modes, SR1 with both random bits, and SR3 with one of its eight integers."""
    return [*range(8), 8 + (number + number // 8) % 8]


# ----------------------------------------------------------------------------------------------- every pair, triple


FOUR_AND_FIVE_BITS = [
    "e2m1finite",
    "e3m0",
    "e2m2",
    "e2m2fnuz",
    "e2m2sat",
    "e2m1fn",
    "e2m1ftz",
    "e2m0",
    "q2.2",
    "uq1.3",
    "q2.2w",
    "uq2.1w",
]


@pytest.mark.parametrize("operation", ["add", "mul"])
@pytest.mark.parametrize("name", FOUR_AND_FIVE_BITS)
def test_every_pair_in_every_mode(name, operation):
    check_every(operation, name, 2, all_roundings)


@pytest.mark.parametrize("operation", ["add", "mul"])
@pytest.mark.parametrize("name", ["e3m2", "e3m2fn", "e3m2ftz"])
def test_every_pair_of_six_bit_codes(name, operation):
    check_every(operation, name, 2, one_of_sr3)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["add", "mul"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e4m3fnuz", "e4m3ftz", "e5m2sat", "q4.4", "q4.4w", "uq4.4"])
def test_every_pair_of_eight_bit_codes(name, operation):
    check_every(operation, name, 2, one_of_sr3)


@pytest.mark.parametrize(
    ("name", "chosen"), [("e2m1finite", all_roundings), ("e2m1", one_of_sr3), ("q2.1", all_roundings)]
)
def test_every_triple_of_small_codes(name, chosen):
    check_every("fma", name, 3, chosen)


# ------------------------------------------------------------------------------------------------------ conversions

DESTINATIONS = [
    "e4m3fn",
    "e5m2",
    "e4m3fnuz",
    "e3m2finite",
    "e2m1finite",
    "e4m3fnsat",
    "e8m7",
    "e5m4ftz",
    "e3m0",
    "q4.4",
    "uq4.4",
    "q4.4w",
    "q-2.30",
]
CONVERSIONS = list(itertools.product(DESTINATIONS, ROUNDINGS, ("after", "before")))


def check_conversion(datum, value, name, rounding, tininess):
    found = round_pack(datum, hu.format(name), rounding[0], rounding[3], Conventions(tininess=tininess))
    wanted = expected(oracle.round(value, oracle_format(name), *rounding[1:], tininess))
    if found != wanted:
        pytest.fail(
            f"{float(datum)} -> {name} {rounding[0]} random={rounding[3]} tininess {tininess}: "
            f"{describe(found)}, not {describe(wanted)}"
        )


def test_every_binary16_code_into_some_format_and_mode():
    """All 65,536 codes, each into one destination, mode and tininess; all of these come up about 160 times."""
    fmt, of, order = hu.format("fp16"), oracle_format("e5m10"), list(CONVERSIONS)
    cases.rng("conversions").shuffle(order)
    for code in range(2**16):
        check_conversion(fmt.unpack(code), oracle.decode(code, of), *order[code % len(order)])


@pytest.mark.parametrize("name", ["e4m3", "e3m2ftz", "e3m2fnuz", "q3.3"])
def test_every_code_of_nine_bits_into_every_mode_and_tininess(name):
    for code, (datum, value) in enumerate(operands("e4m4")):
        for i, tininess in itertools.product(one_of_sr3(code), ("after", "before")):
            check_conversion(datum, value, name, ROUNDINGS[i], tininess)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESTINATIONS)
def test_every_binary16_code_into_every_mode_and_tininess(name):
    for code, (datum, value) in enumerate(operands("e5m10")):
        for i, tininess in itertools.product(one_of_sr3(code), ("after", "before")):
            check_conversion(datum, value, name, ROUNDINGS[i], tininess)


@pytest.mark.parametrize("name", ["e5m10", "e8m23", "q4.12"])
def test_quantize_is_round_pack(name):
    fmt = hu.format(name)
    for text in ("0.3", "-1e-9", "7e77", "nan", "-inf", "2.5"):
        for rounding in (hu.RNE, hu.RTP, hu.SR(3)):
            assert arithmetic.quantize(exact(text), fmt, rounding, 0) == round_pack(exact(text), fmt, rounding, 0)


@pytest.mark.parametrize("name", ["e5m10", "e8m7", "e8m23", "e11m52", "e4m3fn", "e3m2finite", "q4.12"])
@pytest.mark.parametrize("rounding", ROUNDINGS[:7], ids=lambda r: str(r[0]))
def test_a_value_of_the_format_is_not_changed(name, rounding):
    fmt = hu.format(name)
    for code in cases.special_codes(name):
        datum = fmt.unpack(code)
        if datum.kind is not Kind.NAN:
            assert round_pack(datum, fmt, rounding[0], rounding[3]) == (code, Flags.NONE)


# ------------------------------------------------------------------------------------- large formats, mixed formats

LARGE = ["e5m10", "e8m7", "e8m10", "e8m23", "e11m52", "e6m20", "e11m40"]
CASES = 2000


def large_rounding(draw):
    """One of the modes, or SR with 1...32 random bits, their integer often at an end."""
    rounding, mode, _, _ = draw.choice(ROUNDINGS[:7])
    if mode != "SR":
        return rounding, mode, 0, 0
    k = draw.randint(1, 32)
    return hu.SR(k), "SR", k, draw.choice([0, 1, 2**k - 1, 2 ** (k - 1), draw.getrandbits(k), draw.getrandbits(k)])


@pytest.mark.parametrize("operation", ["add", "mul", "fma"])
@pytest.mark.parametrize("name", LARGE)
def test_directed_and_random_operands(name, operation):
    fmt, of, draw = hu.format(name), oracle_format(name), cases.rng("rounding", name, operation)
    for codes in (cases.triples if operation == "fma" else cases.pairs)(name, CASES, operation):
        data, values = [fmt.unpack(c) for c in codes], [oracle.decode(c, of) for c in codes]
        check(operation, data, values, name, *large_rounding(draw))


def test_directed_operands_hit_what_they_aim_at():
    """In binary16 every exception, and ties, cancellations and subnormal results, come up often."""
    of, seen = oracle_format("e5m10"), {}
    for a, b in cases.pairs("e5m10", CASES):
        x, y = oracle.decode(a, of), oracle.decode(b, of)
        for operation, (value, raised) in (("add", oracle.exact_add(x, y, "RNE")), ("mul", oracle.exact_mul(x, y))):
            code, more = oracle.round(value, of, "RNE")
            what = set(raised | more)
            if value.kind == "finite" and "inexact" in what:
                what |= {"tie"} if oracle.round(value, of, "RNA")[0] != oracle.round(value, of, "RNZ")[0] else set()
            if operation == "add" and value.kind == "finite" and 0 < value.magnitude < x.magnitude / 8:
                what |= {"cancellation"}
            if value.is_zero and not x.is_zero and not y.is_zero:
                what |= {"zero"}
            if 0 < code % of.sign_bit < 2**of.t:
                what |= {"subnormal"}
            for name in what:
                seen[operation, name] = seen.get((operation, name), 0) + 1
    wanted = {("add", n) for n in ("tie", "overflow", "invalid", "cancellation", "zero", "subnormal")}
    wanted |= {("mul", n) for n in ("tie", "overflow", "underflow", "invalid", "subnormal")}
    assert {event: seen.get(event, 0) for event in wanted if seen.get(event, 0) < 10} == {}


MIXED = [
    ("e5m10", "e8m7", "e4m3fn", "e4m3fn"),
    ("e4m3fn", "e5m2", "e8m23", "e8m23"),
    ("q4.4", "e5m2", "e5m10", "e3m2finite"),
    ("e2m1finite", "e11m52", "q8.8w", "q8.8w"),
    ("e11m52", "q4.12", "e8m23", "e5m10ftz"),
    ("uq8.0", "q8.0", "q16.16", "q8.0"),
    ("e8m23", "e8m23", "e11m52", "e8m7fnuz"),
    ("e3m0", "q2.2", "uq1.3", "e2m2fnuz"),
    ("e11m52", "e11m52", "e11m52", "e2m1finite"),
    ("e5m2", "uq-3.8w", "q12.-4", "uq12.-4w"),
]


@pytest.mark.parametrize(("first", "second", "third", "result"), MIXED)
def test_operands_and_results_of_different_formats(first, second, third, result):
    draw, names = cases.rng("mixed", first, second, third, result), (first, second, third)
    for _ in range(250):
        data, values = [], []
        for name in names:
            fmt, of = hu.format(name), oracle_format(name)
            code = draw.choice(
                [draw.getrandbits(fmt.bits), draw.getrandbits(fmt.bits), draw.choice(cases.special_codes(name))]
            )
            data.append(fmt.unpack(code))
            values.append(oracle.decode(code, of))
        rounding = large_rounding(draw)
        for operation, n in (("add", 2), ("mul", 2), ("fma", 3)):
            check(operation, data[:n], values[:n], result, *rounding)


@pytest.mark.parametrize("name", ["e5m10", "e8m7", "e8m23", "e11m52", "e6m20", "e11m40"])
def test_mpfr_agrees(name):
    """A third witness, which shares no line with the definition or the oracle."""
    pytest.importorskip("gmpy2")
    fmt, of, draw = hu.format(name), oracle_format(name), cases.rng("mpfr", name)
    for a, b, c in cases.triples(name, 400, "mpfr"):
        mode = draw.choice(["RNE", "RTZ", "RTP", "RTN"])
        for operation, codes in (("add", (a, b)), ("mul", (a, b)), ("fma", (a, b, c)), ("plus", (a,))):
            data = [fmt.unpack(code) for code in codes]
            compute = arithmetic.quantize if operation == "plus" else getattr(arithmetic, operation)
            found = as_value(fmt.unpack(compute(*data, fmt, hu.Rounding.parse(mode)).code))
            wanted = oracle_mpfr.mpfr_round(operation, [oracle.decode(code, of) for code in codes], of, mode)
            assert found == wanted, f"{operation} {[hex(code) for code in codes]} {name} {mode}"


def test_mpfr_agrees_on_conversions():
    pytest.importorskip("gmpy2")
    source, draw = hu.format("fp64"), cases.rng("mpfr conversions")
    names = ["e5m10", "e8m7", "e8m23", "e5m2", "e4m3", "e6m20"]
    for i in range(1500):
        name = names[i % len(names)]
        of = oracle_format(name)
        edge = float(oracle.decode(draw.randrange(of.max_finite_code + 1), of).magnitude)
        code = source.pack(exact(edge)) + draw.choice([0, 1, -1, draw.randint(-(2**44), 2**44)])
        datum, mode = source.unpack(code % 2**64), draw.choice(["RNE", "RTZ", "RTP", "RTN"])
        found = as_value(
            hu.format(name).unpack(arithmetic.quantize(datum, hu.format(name), hu.Rounding.parse(mode)).code)
        )
        assert found == oracle_mpfr.mpfr_round("plus", [as_value(datum)], of, mode)


# ------------------------------------------------------------------------------------------------- rules by hand

INF, NINF, QNAN, SNAN = (
    Unpacked(Kind.INFINITY),
    Unpacked(Kind.INFINITY, True),
    Unpacked(Kind.NAN),
    Unpacked(Kind.NAN, signaling=True),
)
ZERO, NZERO, ONE, NONE = Unpacked(Kind.FINITE), Unpacked(Kind.FINITE, True), exact(1), exact(-1)
OVERFLOW, INVALID, QUIET = Flags.OVERFLOW | Flags.INEXACT, Flags.INVALID, Flags.NONE
TINY = Flags.UNDERFLOW | Flags.INEXACT


@pytest.mark.parametrize(
    ("operation", "data", "code", "flags"),
    [
        ("add", (QNAN, ONE), 0x7E00, QUIET),
        ("add", (ONE, SNAN), 0x7E00, INVALID),
        ("add", (QNAN, SNAN), 0x7E00, INVALID),
        ("add", (QNAN, INF), 0x7E00, QUIET),
        ("add", (INF, NINF), 0x7E00, INVALID),
        ("add", (INF, INF), 0x7C00, QUIET),
        ("add", (ONE, NINF), 0xFC00, QUIET),
        ("mul", (ZERO, INF), 0x7E00, INVALID),
        ("mul", (NINF, NZERO), 0x7E00, INVALID),
        ("mul", (QNAN, ZERO), 0x7E00, QUIET),
        ("mul", (SNAN, QNAN), 0x7E00, INVALID),
        ("mul", (NINF, ONE), 0xFC00, QUIET),
        ("mul", (NINF, NONE), 0x7C00, QUIET),
        ("fma", (ZERO, INF, QNAN), 0x7E00, INVALID),
        ("fma", (ONE, ONE, SNAN), 0x7E00, INVALID),
        ("fma", (ONE, ONE, QNAN), 0x7E00, QUIET),
        ("fma", (INF, ONE, NINF), 0x7E00, INVALID),
        ("fma", (INF, NONE, NINF), 0xFC00, QUIET),
        ("fma", (exact(60000), exact(60000), NINF), 0xFC00, QUIET),
        ("fma", (exact(60000), exact(2), exact(-60000)), 0x7B53, QUIET),
        ("add", (exact(65504), exact(16)), 0x7C00, OVERFLOW),
        ("add", (exact(65504), exact("15.9999")), 0x7BFF, Flags.INEXACT),
        ("mul", (exact(2.0**-24), exact(0.5)), 0x0000, TINY),
        ("mul", (exact(-(2.0**-24)), exact(0.5)), 0x8000, TINY),
        ("mul", (exact(2.0**-24), exact("0.50000001")), 0x0001, TINY),
        ("mul", (exact(2.0**-14), exact(1 - 2.0**-12)), 0x0400, Flags.INEXACT),
        ("mul", (exact(2.0**-14), exact(1 - 2.0**-11)), 0x0400, TINY),
        ("mul", (exact(2.0**-14), exact(0.5)), 0x0200, QUIET),
    ],
)
def test_binary16_by_hand(operation, data, code, flags):
    """IEEE 754-2019 with RISC-V NaNs: RNE, tininess after rounding (2^-14 * (1 - 2^-12) rounds to 2^-14: not tiny)."""
    assert getattr(arithmetic, operation)(*data, hu.format("fp16")) == (code, flags)


@pytest.mark.parametrize(("operation", "signs", "result"), [
    ("add", (0, 0), {"RTN": 0, "else": 0}),
    ("add", (1, 1), {"RTN": 1, "else": 1}),
    ("add", (0, 1), {"RTN": 1, "else": 0}),
    ("add", (1, 0), {"RTN": 1, "else": 0}),
    ("mul", (0, 1), {"RTN": 1, "else": 1}),
    ("mul", (1, 1), {"RTN": 0, "else": 0}),
])  # fmt: skip
@pytest.mark.parametrize("rounding", ROUNDINGS[:8], ids=str)
def test_signs_of_zeros(operation, signs, result, rounding):
    """IEEE 754-2019 section 6.3; fnuz and fixed formats have only +0."""
    zeros = [NZERO if sign else ZERO for sign in signs]
    sign = result["RTN" if rounding[1] == "RTN" else "else"]
    for name, top in (
        ("e5m10", 0x8000),
        ("e4m3fn", 0x80),
        ("e2m1finite", 8),
        ("e3m2ftz", 32),
        ("e4m3fnuz", 0),
        ("q4.4", 0),
        ("uq4.4", 0),
    ):
        assert getattr(arithmetic, operation)(*zeros, hu.format(name), rounding[0], rounding[3]) == (sign * top, QUIET)
    if operation == "add":  # x - x
        for x in (exact(3), exact(-0.375), exact(2.0**-24)):
            opposite = x._replace(negative=not x.negative)
            found = arithmetic.add(x, opposite, hu.format("fp16"), rounding[0], rounding[3])
            assert found == (0x8000 if rounding[1] == "RTN" else 0, QUIET)


@pytest.mark.parametrize(
    ("name", "nan", "infinity", "minus_infinity"),
    [
        ("e5m10", (0x7E00, QUIET), (0x7C00, QUIET), (0xFC00, QUIET)),
        ("e5m2sat", (0x7E, QUIET), (0x7B, OVERFLOW), (0xFB, OVERFLOW)),
        ("e4m3fn", (0x7F, QUIET), (0x7F, OVERFLOW), (0x7F, OVERFLOW)),
        ("e4m3fnsat", (0x7F, QUIET), (0x7E, OVERFLOW), (0xFE, OVERFLOW)),
        ("e4m3fnuz", (0x80, QUIET), (0x80, OVERFLOW), (0x80, OVERFLOW)),
        ("e4m3fnuzsat", (0x80, QUIET), (0x7F, OVERFLOW), (0xFF, OVERFLOW)),
        ("e3m2finite", (0x1F, INVALID), (0x1F, OVERFLOW), (0x3F, OVERFLOW)),
        ("e3m0", (0x6, INVALID), (0x7, QUIET), (0xF, QUIET)),
        ("q4.4", (0x7F, INVALID), (0x7F, OVERFLOW), (0x80, OVERFLOW)),
        ("q4.4w", (0x7F, INVALID), (0x7F, OVERFLOW), (0x80, OVERFLOW)),
        ("uq4.4", (0xFF, INVALID), (0xFF, OVERFLOW), (0x00, OVERFLOW)),
    ],
)
def test_where_nan_and_infinities_land(name, nan, infinity, minus_infinity):
    fmt = hu.format(name)
    assert round_pack(QNAN, fmt) == nan
    assert round_pack(SNAN, fmt) == (nan[0], INVALID)
    for rounding in (hu.RNE, hu.RTZ, hu.RTP, hu.RTN, hu.RTO, hu.SR(4)):
        assert round_pack(INF, fmt, rounding) == infinity
        assert round_pack(NINF, fmt, rounding) == minus_infinity


@pytest.mark.parametrize(
    ("name", "huge"),
    [
        ("e5m10", 65536.0),
        ("e5m10", 1e300),
        ("e8m7", 2.0**128),
        ("e4m3fn", 480.0),
        ("e4m3fn", 512.0),
        ("e4m3fnuz", 256.0),
        ("e2m1finite", 8.0),
    ],
)
def test_overflow_by_mode(name, huge):
    """Modes that point inward stop at max_finite; others go to infinity, NaN in fn and fnuz, max_finite in finite."""
    fmt, of = hu.format(name), oracle_format(name)
    top, sign = of.max_finite_code, of.sign_bit
    above = {"ieee": (top + 1, sign + top + 1), "finite": (top, sign + top)}.get(of.specials, (of.nan_code,) * 2)
    outward = {"RNE": "+-", "RNA": "+-", "RND": "+-", "RTZ": "", "RTP": "+", "RTN": "-", "RTO": ""}
    for mode, signs in outward.items():
        rounding = hu.Rounding.parse(mode)
        assert round_pack(exact(huge), fmt, rounding) == (above[0] if "+" in signs else top, OVERFLOW)
        assert round_pack(exact(-huge), fmt, rounding) == (above[1] if "-" in signs else sign + top, OVERFLOW)


def test_overflow_is_judged_after_rounding():
    """65520 is halfway to 2^16: it overflows where it rounds up, and is merely inexact where it does not."""
    fmt = hu.format("fp16")
    for mode, result in {"RNE": (0x7C00, OVERFLOW), "RNA": (0x7C00, OVERFLOW), "RTP": (0x7C00, OVERFLOW)}.items():
        assert round_pack(exact(65520), fmt, hu.Rounding.parse(mode)) == result
    for mode in ("RTZ", "RTN", "RTO"):
        assert round_pack(exact(65520), fmt, hu.Rounding.parse(mode)) == (0x7BFF, Flags.INEXACT)
    assert round_pack(exact(65519.99), fmt) == (0x7BFF, Flags.INEXACT)


@pytest.mark.parametrize("rounding", [hu.RNE, hu.RTZ, hu.RTP])
def test_the_random_integer_is_ignored_by_other_modes(rounding):
    for random in (0, 1, 2, 77, 2**32 - 1):
        assert round_pack(exact("0.3"), hu.format("fp16"), rounding, random) == round_pack(
            exact("0.3"), hu.format("fp16"), rounding
        )


@pytest.mark.parametrize(("k", "random"), [(1, 2), (3, 8), (3, -1), (32, 2**32)])
def test_random_integers_out_of_range_are_refused(k, random):
    with pytest.raises(hu.HalfulpError, match=rf"SR{k} takes a random integer below 2\*\*{k}"):
        round_pack(ONE, hu.format("fp16"), hu.SR(k), random)


def test_flags_as_text():
    assert str(Flags.NONE) == "-"
    assert str(OVERFLOW) == "inexact|overflow"
    assert [int(flag) for flag in Flags if flag] == [1, 2, 4, 8, 16]


# ---------------------------------------------------------------------------------------------------- exact numbers

DECIMALS = [
    "0.3",
    "-0.1",
    "1e-9",
    "-7e77",
    "65519.99999999999999",
    "65520.00000000000001",
    "3.4e38",
    "1/3",
    "-22/7",
    "1e-400",
    "4.9e-324",
    "1e400",
]
DECIMALS += [
    "0.0000152587890625",
    "0.00001525878906250000000000000000000001",
    "-448.5",
    "464",
    "463.99999999999999999999",
    "464.00000000000000000001",
]


@pytest.mark.parametrize(
    "name", ["e5m10", "e8m7", "e8m23", "e11m52", "e4m3fn", "e2m1finite", "q4.12", "q8.8w", "e5m2ftz"]
)
@pytest.mark.parametrize("text", DECIMALS)
def test_decimals_are_rounded_once(text, name):
    value = oracle.number(Fraction(text))
    for rounding in ROUNDINGS[:9]:
        found = round_pack(exact(text), hu.format(name), rounding[0], rounding[3])
        assert found == expected(oracle.round(value, oracle_format(name), *rounding[1:])), str(rounding[0])


@pytest.mark.parametrize("name", ["e5m10", "e8m7", "e8m23", "e11m52", "q4.12"])
def test_decimals_next_to_ties(name):
    """Halfway between two values, and 10^-60 of the distance to either side of it."""
    of, draw = oracle_format(name), cases.rng("decimal ties", name)
    top = of.highest if isinstance(of, oracle.Fixed) else of.max_finite_code
    for _ in range(60):
        code = draw.randrange(top)
        low, high = oracle.decode(code, of).magnitude, oracle.decode(code + 1, of).magnitude
        middle = (low + high) / 2
        for offset in (0, 1, -1):
            value = middle + offset * (high - low) / 10**60
            with localcontext(prec=1500):
                text = str(Decimal(value.numerator) / Decimal(value.denominator))
            assert Fraction(text) == value
            for rounding in ROUNDINGS[:7]:
                found = round_pack(exact(text), hu.format(name), rounding[0], rounding[3])
                assert found == expected(oracle.round(oracle.number(value), of, *rounding[1:])), text


def test_a_decimal_that_would_round_twice_through_binary64():
    """1 + 2^-24 + 10^-30: above the tie of fp32, but binary64 holds only the tie itself, which goes to even."""
    text = "1.000000059604644775390625000001"
    assert Fraction(text) == 1 + Fraction(1, 2**24) + Fraction(1, 10**30)
    assert float(text) == 1 + 2.0**-24
    fp32 = hu.format("fp32")
    assert round_pack(exact(text), fp32) == (0x3F800001, Flags.INEXACT)
    assert round_pack(exact(float(text)), fp32) == (0x3F800000, Flags.INEXACT)
    assert np.float32(float(text)) == 1.0, "the recipe that this guards against"


@pytest.mark.parametrize("zero", ["-0", "-0.0", " -0e5 ", "-0/3"])
def test_a_negative_zero_in_decimal_keeps_its_sign(zero):
    assert exact(zero).is_zero
    assert exact(zero).negative
    assert round_pack(exact(zero), hu.format("fp16")) == (0x8000, QUIET)


@pytest.mark.parametrize(
    ("value", "datum"),
    [
        ("inf", INF),
        ("-inf", NINF),
        ("nan", QNAN),
        (float("-inf"), NINF),
        (float("nan"), QNAN),
        (0.0, ZERO),
        (-0.0, NZERO),
        (0, ZERO),
        ("0", ZERO),
    ],
)
def test_special_numbers(value, datum):
    found = exact(value)
    assert (found.kind, found.negative, found.is_zero, found.signaling) == (
        datum.kind,
        datum.negative,
        datum.is_zero,
        datum.signaling,
    )


@pytest.mark.parametrize(
    "value", [1, -3, 2**60 + 1, 10**40, 0.1, -5e-324, 1.7976931348623157e308, Fraction(-3, 8), Fraction(5, 2**1100)]
)
def test_dyadic_numbers_are_exact(value):
    assert exact(value).fraction == Fraction(value)
    assert exact(str(Fraction(value))).fraction == Fraction(value)


@pytest.mark.parametrize(
    "value",
    [np.float64(0.1), np.float32(0.1), np.float16(-0.1), np.int8(-3), np.int64(2**53 + 1), np.uint64(2**64 - 1), True],
    ids=lambda value: f"{type(value).__name__}({value})",
)
def test_numpy_scalars_are_exact(value):
    assert exact(value).fraction == Fraction(value.item() if isinstance(value, np.generic) else value)


@pytest.mark.parametrize("text", ["", "abc", "1/0", "0x10", "1e", "--1", "1,5"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(hu.HalfulpError, match="is not a number"):
        exact(text)
