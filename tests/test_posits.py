"""Posits against an oracle read off the standard, against SoftPosit where it is installed, and against known codes."""

from __future__ import annotations

import itertools
from fractions import Fraction

import cases
import halfulp as hu
import numpy as np
import oracle
import posit_oracle as truth
import pytest
from halfulp import cli
from halfulp.emulator import arithmetic, comparison, operations
from halfulp.emulator.arithmetic import exact
from halfulp.emulator.comparison import Class, Relation
from halfulp.emulator.formats import Kind, Unpacked
from halfulp.emulator.functions import function

OPERATIONS = {
    "add": arithmetic.add,
    "sub": operations.sub,
    "mul": arithmetic.mul,
    "div": operations.div,
    "fma": arithmetic.fma,
    "sqrt": operations.sqrt,
}
SMALL = [(3, 0), (3, 5), (4, 1), (5, 0), (5, 2), (6, 1), (6, 3)]
LARGE = [(16, 2), (16, 1), (32, 2), (64, 2), (20, 0), (33, 5), (64, 4)]


def number(datum: Unpacked) -> Fraction | None:
    """An Unpacked as the oracle's number."""
    return truth.NAR if datum.kind is Kind.NAN else datum.fraction


def check(operation: str, codes: tuple[int, ...], fmt: hu.PositFormat, roundings=cases.ROUNDINGS[:1]) -> None:
    """One operation on codes in some roundings, code and flags."""
    for rounding, mode, k, r in roundings:
        got = OPERATIONS[operation](*map(fmt.unpack, codes), fmt, rounding, r)
        wanted = cases.expected(truth.run(operation, codes, fmt.bits, fmt.exponent_bits, mode, k, r))
        assert got == wanted, (
            f"{fmt} {operation} {[hex(c) for c in codes]} {rounding} {r}: "
            f"{cases.describe(got)}, not {cases.describe(wanted)}"
        )


# ----------------------------------------------------------------------------------------------- values and codes


@pytest.mark.parametrize(("n", "es"), [*SMALL, (8, 0), (8, 1), (8, 2), (10, 4), (12, 3)])
def test_every_code_of_narrow_posits(n: int, es: int) -> None:
    fmt, codes = hu.PositFormat(n, es), np.arange(1 << n)
    values = [truth.decode(code, n, es) for code in range(1 << n)]
    assert [number(fmt.unpack(code)) for code in range(1 << n)] == values
    assert [fmt.pack(fmt.unpack(code)) for code in range(1 << n)] == codes.tolist()
    decoded = fmt.decode(codes)
    assert [None if x != x else Fraction(x) for x in decoded.tolist()] == values
    assert (fmt.encode(decoded) == codes).all()


@pytest.mark.parametrize(("n", "es"), LARGE)
def test_codes_of_wide_posits(n: int, es: int) -> None:
    fmt, draw = hu.PositFormat(n, es), cases.rng("codes", n, es)
    codes = [draw.getrandbits(n) for _ in range(500)] + [0, 1, 2, fmt.max_code, fmt.nan_code, fmt.nan_code + 1]
    codes += [draw.getrandbits(draw.randint(1, n)) for _ in range(200)]  # long regimes
    for code in codes:
        assert number(fmt.unpack(code)) == truth.decode(code, n, es)
        assert fmt.pack(fmt.unpack(code)) == code
    if fmt.precision <= 53:
        values = [Fraction(x) if x == x else None for x in fmt.decode(np.array(codes)).tolist()]
        assert values == [truth.decode(code, n, es) for code in codes]
        assert fmt.encode(fmt.decode(np.array(codes))).tolist() == codes


@pytest.mark.parametrize(
    ("name", "code", "value"),
    [
        # Gustafson & Yonemoto 2017 (doi:10.14529/jsfi170206), figure 5
        ("posit<16,3>", 0b0000110111011101, Fraction(477, 2**27)),
        # the 2022 standard: maxpos is 2^(4n - 8), minpos its reciprocal
        ("posit8", 0x7F, Fraction(2**24)),
        ("posit16", 0x7FFF, Fraction(2**56)),
        ("posit32", 0x7FFFFFFF, Fraction(2**120)),
        ("posit64", 0x7FFFFFFFFFFFFFFF, Fraction(2**248)),
        ("posit32", 1, Fraction(1, 2**120)),
        ("posit8", 0x40, Fraction(1)),
        ("posit8", 0xC0, Fraction(-1)),
        ("posit8", 0x81, Fraction(-(2**24))),
        ("posit8", 0x5A, Fraction(10)),
        # SoftPosit's older posits
        ("posit<8,0>", 0x7F, Fraction(64)),
        ("posit<8,0>", 0x01, Fraction(1, 64)),
        ("posit<16,1>", 0x7FFF, Fraction(2**28)),
    ],
)
def test_known_codes(name: str, code: int, value: Fraction) -> None:
    fmt = hu.format(name)
    assert fmt.unpack(code).fraction == value
    assert arithmetic.quantize(exact(value), fmt) == (code, hu.Flags.NONE)


def test_known_roundings() -> None:
    assert arithmetic.quantize(exact("3.14159265358979323846"), hu.format("posit32")).code == 0x4C90FDAA
    assert arithmetic.quantize(exact("3.14159265358979323846"), hu.format("posit16")).code == 0x4C91
    assert arithmetic.quantize(exact("3.14159265358979323846"), hu.format("posit8")).code == 0x4D
    # ties are those of the code: between 2^16 (0x7C) and 2^20 (0x7E) of posit8 stand 2^18 (0x7D) and, of 9 bits, 2^17
    results = [arithmetic.quantize(exact(x), hu.format("posit8")).code for x in (2**17, 2**17 + 1, 2**19, 2**19 + 1)]
    assert results == [0x7C, 0x7D, 0x7E, 0x7E]


def test_properties() -> None:
    fmt = hu.format("posit16")
    assert (fmt.bits, fmt.exponent_bits, fmt.precision, fmt.emin, fmt.emax) == (16, 2, 12, -56, 56)
    assert (fmt.max_finite, fmt.min_finite, fmt.min_subnormal) == (2.0**56, -(2.0**56), 2.0**-56)
    assert (fmt.has_nan, fmt.has_infinity, fmt.has_negative_zero, fmt.nan_code) == (True, False, False, 0x8000)
    assert hu.PositFormat(3, 5).precision == 1


def test_names() -> None:
    for n, es in [*SMALL, *LARGE]:
        assert hu.format(str(hu.PositFormat(n, es))) == hu.PositFormat(n, es)
    assert hu.format("posit16") == hu.format("Posit<16,2>") == hu.PositFormat(16)
    assert str(hu.format("posit<16, 2>")) == "posit16" and str(hu.PositFormat(16, 1)) == "posit<16,1>"
    for name in ("posit2", "posit65", "posit<8,6>"):
        with pytest.raises(hu.HalfulpError, match=r"posits have 3 to 64 bits and es = 0\.\.\.5"):
            hu.format(name)
    with pytest.raises(hu.HalfulpError, match="values that binary64 cannot hold"):
        hu.format("posit<64,5>")
    for name in ("posit", "posit<16>", "posit<16,1,1>", "posit16,1", "posit-8"):
        with pytest.raises(hu.HalfulpError, match=r"unknown format .* did you mean .*posit"):
            hu.format(name)


# ------------------------------------------------------------------------------------------------------- rounding


CORRECTED = [(hu.SR(3, corrected=True), "SRC", 3, r) for r in range(8)]


@pytest.mark.parametrize("rounding", [*cases.ROUNDINGS, *CORRECTED], ids=lambda r: f"{r[0]}-{r[3]}")
@pytest.mark.parametrize(("n", "es"), [(5, 1), (8, 2), (16, 2), (64, 2)])
def test_every_mode_at_neighbours_and_between_them(n: int, es: int, rounding) -> None:
    """Values, the posits of more bits between them, and what is next to those; beyond the range, too."""
    fmt, draw = hu.PositFormat(n, es), cases.rng("between", n, es)
    codes = range(1, fmt.max_code) if n == 5 else [draw.getrandbits(draw.randint(2, n - 1)) for _ in range(8)]
    numbers = [truth.decode(1, n, es) / 3, Fraction(2**2000), Fraction(1, 2**2000)]
    for code in [1, fmt.max_code - 1, *codes]:
        for extra in (1, 2, 3):
            part = draw.randrange(2**extra) if n > 5 else 2 ** (extra - 1)
            x = truth.decode(code << extra | part, n + extra, es)
            numbers += [x, x * (1 + Fraction(1, 2**99)), x * (1 - Fraction(1, 2**99))]
    how, mode, k, r = rounding
    for x in numbers:
        for y in (x, -x):
            got = arithmetic.quantize(exact(y), fmt, how, r)
            assert got == cases.expected(truth.round(y, n, es, mode, k, r)), (float(y), cases.describe(got))


def test_no_number_but_zero_becomes_zero_or_nar() -> None:
    fmt = hu.format("posit8")
    for rounding, _, _, r in cases.ROUNDINGS:
        for sign in (1, -1):
            tiny = arithmetic.quantize(exact(Fraction(sign, 2**5000)), fmt, rounding, r)
            huge = arithmetic.quantize(exact(Fraction(sign * 2**5000)), fmt, rounding, r)
            assert tiny == (fmt.with_sign(1, sign < 0), hu.Flags.UNDERFLOW | hu.Flags.INEXACT)
            assert huge == (fmt.with_sign(fmt.max_code, sign < 0), hu.Flags.OVERFLOW | hu.Flags.INEXACT)


def test_zeros_infinities_and_nans() -> None:
    fmt = hu.format("posit16")
    assert arithmetic.quantize(exact("-0"), fmt) == (0, hu.Flags.NONE)
    assert arithmetic.quantize(Unpacked(Kind.NAN), fmt) == (0x8000, hu.Flags.NONE)
    assert arithmetic.quantize(Unpacked(Kind.NAN, signaling=True), fmt) == (0x8000, hu.Flags.INVALID)
    for text in ("inf", "-inf"):
        assert arithmetic.quantize(exact(text), fmt) == (0x8000, hu.Flags.INVALID)
    one, zero = exact(1), exact(0)
    assert operations.div(one, zero, fmt) == (0x8000, hu.Flags.INVALID | hu.Flags.DIVIDE_BY_ZERO)
    assert operations.div(zero, zero, fmt) == (0x8000, hu.Flags.INVALID)
    assert operations.sqrt(exact(-1), fmt) == (0x8000, hu.Flags.INVALID)
    for run in (arithmetic.add, arithmetic.mul, operations.sub, operations.div, operations.rem):
        assert run(fmt.unpack(0x8000), one, fmt) == (0x8000, hu.Flags.NONE)


def test_what_a_posit_does_not_hold_is_not_packed() -> None:
    fmt = hu.format("posit8")
    for datum in (exact(Fraction(1, 3)), exact(2**25), exact(Fraction(1, 2**25)), exact("-0"), exact("inf")):
        with pytest.raises(hu.HalfulpError, match="is not a value of posit8: quantize it first"):
            fmt.pack(datum)
    for value in (0.3, 2.0**25, -0.0, float("inf")):
        with pytest.raises(hu.HalfulpError, match="is not a value of posit8: quantize it first"):
            fmt.encode([value])


# ----------------------------------------------------------------------------------------------------- operations


@pytest.mark.parametrize("operation", ["add", "mul", pytest.param("div", marks=pytest.mark.slow)])
@pytest.mark.parametrize("es", [0, 1, 2])
def test_every_pair_of_8_bit_posits(es: int, operation: str) -> None:
    fmt = hu.PositFormat(8, es)
    for a, b in itertools.product(range(256), repeat=2):
        if operation == "div" or a <= b:  # that sums and products commute is tested in narrower formats
            check(operation, (a, b), fmt)


@pytest.mark.parametrize("es", [0, 1, 2])
def test_every_root_of_8_bit_posits_in_every_mode(es: int) -> None:
    for code in range(256):
        check("sqrt", (code,), hu.PositFormat(8, es), cases.ROUNDINGS)


@pytest.mark.parametrize("operation", ["add", "mul", "div"])
@pytest.mark.parametrize(("n", "es"), SMALL)
def test_every_pair_of_narrow_posits_in_every_mode(n: int, es: int, operation: str) -> None:
    for codes in itertools.product(range(1 << n), repeat=2):
        roundings = cases.ROUNDINGS if n < 5 else cases.ROUNDINGS[sum(codes) % 2 :: 2]
        check(operation, codes, hu.PositFormat(n, es), roundings)


@pytest.mark.parametrize(("n", "es"), [(3, 1), (4, 0), (4, 2), pytest.param(5, 1, marks=pytest.mark.slow)])
def test_every_triple_of_narrow_posits(n: int, es: int) -> None:
    for codes in itertools.product(range(1 << n), repeat=3):
        check("fma", codes, hu.PositFormat(n, es), [cases.ROUNDINGS[sum(codes) % len(cases.ROUNDINGS)]])


def operands(n: int, count: int, draw) -> list[tuple[int, int, int]]:
    """Triples of codes: random, with long regimes, next to one another and to each other's negative (cancellation)."""
    found = []
    for i in range(count):
        a, b, c = (draw.getrandbits(draw.choice([n, n, n - 1, max(n // 2, 2), 3])) for _ in range(3))
        near = draw.choice([a, -a]) + draw.randint(-3, 3)
        b = [b, near, near, (1 << (n - 2)) + draw.randint(-9, 9)][i % 4]
        found.append((draw.choice([a, -a]) % 2**n, b % 2**n, draw.choice([c, -c, near]) % 2**n))
    return found


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize(("n", "es"), LARGE)
def test_random_operands_of_wide_posits(n: int, es: int, operation: str) -> None:
    arity = {"fma": 3, "sqrt": 1}.get(operation, 2)
    for i, codes in enumerate(operands(n, 40, cases.rng(operation, n, es))):
        rounding = cases.ROUNDINGS[0 if i % 2 else i // 2 % len(cases.ROUNDINGS)]
        check(operation, codes[:arity], hu.PositFormat(n, es), [rounding])


@pytest.mark.slow
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize(("n", "es"), LARGE)
def test_many_random_operands_of_wide_posits(n: int, es: int, operation: str) -> None:
    arity = {"fma": 3, "sqrt": 1}.get(operation, 2)
    for i, codes in enumerate(operands(n, 2000, cases.rng("many", operation, n, es))):
        check(operation, codes[:arity], hu.PositFormat(n, es), [cases.ROUNDINGS[i % len(cases.ROUNDINGS)]])


def test_products_of_posits_are_exact_in_twice_the_bits_where_the_standard_says_so() -> None:
    narrow, wide = hu.format("posit8"), hu.format("posit16")
    for a, b in itertools.combinations_with_replacement(range(1, 128), 2):
        assert arithmetic.mul(narrow.unpack(a), narrow.unpack(b), wide).flags is hu.Flags.NONE


@pytest.mark.parametrize("name", ["posit8", "posit16", "posit32"])
def test_dot_is_a_quire(name: str) -> None:
    """Summed exactly, rounded once; 1 survives between maxpos^2 and -maxpos^2."""
    fmt, draw = hu.format(name), cases.rng("quire", name)
    one, maxpos = fmt.pack(exact(1)), fmt.max_code
    pairs = [(maxpos, maxpos), (one, one), (fmt.with_sign(maxpos, True), maxpos)]
    assert operations.dot([(fmt.unpack(a), fmt.unpack(b)) for a, b in pairs], fmt) == (one, hu.Flags.NONE)
    for _ in range(30):
        pairs = [(draw.randrange(fmt.max_code), draw.getrandbits(fmt.bits) | 1) for _ in range(9)]
        total = sum(truth.decode(a, fmt.bits, 2) * truth.decode(b, fmt.bits, 2) for a, b in pairs)
        got = operations.dot([(fmt.unpack(a), fmt.unpack(b)) for a, b in pairs], fmt)
        assert got == cases.expected(truth.round(total, fmt.bits, 2))
    assert operations.dot([(fmt.unpack(fmt.nan_code), exact(0))], fmt) == (fmt.nan_code, hu.Flags.NONE)


def test_integral_rounding_remainder_scaling_and_exponent() -> None:
    fmt = hu.format("posit8")
    for code in range(256):
        x, value = fmt.unpack(code), truth.decode(code, 8, 2)
        if value is None:
            for run in (operations.round_to_integral, operations.logb):
                assert run(x, fmt) == (fmt.nan_code, hu.Flags.NONE)
            continue
        assert operations.round_to_integral(x, fmt) == cases.expected(truth.round(Fraction(round(value)), 8, 2))
        for n in (-30, -3, 1, 5, 40):
            wanted = cases.expected(truth.round(value * truth.power_of_two(n), 8, 2))
            assert operations.scalb(x, n, fmt) == wanted
        if value:
            floor = Fraction(oracle.floor_log2(abs(value)))
            assert operations.logb(x, fmt) == cases.expected(truth.round(floor, 8, 2))
            for other in range(1, 256, 7):
                y = truth.decode(other, 8, 2)
                if y is not None:
                    rest = value - y * round(value / y)
                    got = operations.rem(x, fmt.unpack(other), fmt)
                    assert got == cases.expected(truth.round(rest, 8, 2))


# ---------------------------------------------------------------------------------------------------- conversions


@pytest.mark.parametrize("rounding", cases.ROUNDINGS[:6], ids=lambda r: r[1])
@pytest.mark.parametrize("narrow", ["e4m3fn", "e5m2", "q4.4", "uq3.5", "q6.2w"])
def test_every_narrow_float_and_fixed_code_to_posits_and_back(narrow: str, rounding) -> None:
    other, truth_format = hu.format(narrow), cases.oracle_format(narrow)
    how, mode, _, _ = rounding
    for n, es in ((8, 2), (6, 1), (16, 2)):
        fmt = hu.PositFormat(n, es)
        for code in range(1 << other.bits):
            value = oracle.decode(code, truth_format)
            got = arithmetic.quantize(other.unpack(code), fmt, how)
            if value.kind == "finite":
                assert got == cases.expected(truth.round(value.fraction, n, es, mode))
            else:
                quiet = value.kind == "nan" and not value.signaling
                assert got == (fmt.nan_code, hu.Flags.NONE if quiet else hu.Flags.INVALID)
        for code in range(0, 1 << n, 1 if n <= 8 else 97):
            value = truth.decode(code, n, es)
            given = oracle.NAN if value is None else oracle.number(value)
            got = arithmetic.quantize(fmt.unpack(code), other, how)
            assert got == cases.expected(oracle.round(given, truth_format, mode))


def test_narrower_posits_are_prefixes_of_wider_ones() -> None:
    """Widening appends zeros; narrowing rounds the code."""
    narrow, wide = hu.format("posit8"), hu.format("posit16")
    for code in range(256):
        assert arithmetic.quantize(narrow.unpack(code), wide) == (code << 8, hu.Flags.NONE)
        assert arithmetic.quantize(wide.unpack(code << 8), narrow) == (code, hu.Flags.NONE)


# --------------------------------------------------------------------------------------------------- comparisons


def test_posits_compare_as_signed_integers() -> None:
    fmt = hu.PositFormat(6, 1)
    signed = lambda code: code - 64 if code >= 32 else code  # noqa: E731
    for a, b in itertools.product(range(64), repeat=2):
        x, y = fmt.unpack(a), fmt.unpack(b)
        relation = Relation.EQUAL if a == b else Relation.LESS if signed(a) < signed(b) else Relation.GREATER
        for signaling in (False, True):
            assert comparison.compare(x, y, signaling, fmt) == (relation, hu.Flags.NONE)
        if fmt.nan_code not in (a, b):
            assert comparison.minimum(x, y, fmt) == (min(a, b, key=signed), hu.Flags.NONE)
            assert comparison.maximum(x, y, fmt) == (max(a, b, key=signed), hu.Flags.NONE)
        else:
            number = b if a == fmt.nan_code else a
            for run in (comparison.minimum, comparison.maximum):
                assert run(x, y, fmt) == (fmt.nan_code, hu.Flags.NONE)
            for run in (comparison.minimum_number, comparison.maximum_number):
                assert run(x, y, fmt) == (number, hu.Flags.NONE)
    assert comparison.compare(fmt.unpack(32), fmt.unpack(32)).relation is Relation.UNORDERED  # as IEEE 754 has it


def test_function_units_compare_posits_as_the_standard_says() -> None:
    nar, one = 0x8000, 0x4000
    for name, codes, result in (("eq", (nar, nar), 1), ("lt", (nar, one), 1), ("le", (one, nar), 0)):
        assert function(f"posit16_{name}")(*codes) == (result, hu.Flags.NONE)
    assert function("posit16_compare")(nar, nar) == (1, hu.Flags.NONE)
    assert function("posit<16,1>_mul")(0x5000, 0x5000) == (0x6000, hu.Flags.NONE)
    assert function("posit16_dot2")(one, one, one, one).code == 0x4800
    assert function("f32_to_posit16")(0x3F800000) == (one, hu.Flags.NONE)


def test_neighbours_wrap_around_as_the_standard_says() -> None:
    fmt = hu.format("posit8")
    order = [*range(0x81, 0x100), *range(0x80)]  # -maxpos ... maxpos
    for below, above in itertools.pairwise(order):
        assert comparison.next_up(below, fmt) == (above, hu.Flags.NONE)
        assert comparison.next_down(above, fmt) == (below, hu.Flags.NONE)
        assert fmt.unpack(below).fraction < fmt.unpack(above).fraction
    assert comparison.next_up(0x7F, fmt) == comparison.next_down(0x81, fmt) == (0x80, hu.Flags.NONE)
    assert comparison.next_up(0x80, fmt).code == 0x81 and comparison.next_down(0x80, fmt).code == 0x7F


def test_classes() -> None:
    fmt = hu.format("posit8")
    classes = [comparison.classify(fmt.unpack(code), fmt) for code in (0, 1, 0x7F, 0x80, 0x81, 0xFF)]
    P, N = Class.POSITIVE_NORMAL, Class.NEGATIVE_NORMAL
    assert classes == [Class.POSITIVE_ZERO, P, P, Class.QUIET_NAN, N, N]


# --------------------------------------------------------------------------------------- arrays, the command line


@pytest.mark.parametrize("name", ["posit8", "posit<8,0>", "posit<3,5>", "posit16", "posit32", "posit57", "posit<59,4>"])
def test_arrays_are_rounded_as_the_definition_says(name: str) -> None:
    fmt, draw = hu.format(name), np.random.default_rng(cases.SEED)
    scale = draw.integers(int(1.1 * fmt.emin), int(1.1 * fmt.emax) + 1, 200)
    x = np.concatenate([draw.standard_normal(99), np.ldexp(draw.standard_normal(200), scale), [0.0, -0.0]])
    x = np.concatenate([x, [np.inf, -np.inf, np.nan, 5e-324, 1e308, fmt.max_finite, -fmt.min_subnormal, 3.0]])
    some = hu.PositFormat(fmt.bits - 1, fmt.exponent_bits) if fmt.bits > 3 else fmt
    ties = np.unique(draw.integers(0, 1 << some.bits, 50)) * 2 + 1  # of bits + 1, to be rounded into fmt
    if hu.PositFormat(fmt.bits + 1, fmt.exponent_bits).precision <= 53 and fmt.bits < 58:
        x = np.concatenate([x, hu.PositFormat(fmt.bits + 1, fmt.exponent_bits).decode(ties)])
    for mode in cases.MODES:
        results = [arithmetic.quantize(exact(float(v)), fmt, hu.Rounding.parse(mode)) for v in x]
        values, flags = hu.quantize(x, fmt, mode, flags=True)
        np.testing.assert_array_equal(values, fmt.decode(np.array([code for code, _ in results])))
        assert flags.tolist() == [int(raised) for _, raised in results]


@pytest.mark.parametrize("rounding", ["SR5", "SR5c"])
def test_arrays_are_rounded_stochastically_with_the_bits_of_the_command_line(run, rounding: str) -> None:
    x = np.linspace(-40, 40, 60)
    for seed in range(3):
        given = [repr(v) for v in x.tolist()]
        _, text, _ = run("quantize", "--format", "posit8", "--rounding", rounding, "--seed", str(seed), *given)
        values = [float(line.split()[1]) for line in text.splitlines()[1:]]
        assert hu.quantize(x, "posit8", rounding, seed=seed).tolist() == values


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "rem", "fma", "sqrt"])
def test_operations_over_arrays_are_the_definition(operation: str) -> None:
    fmt, draw = hu.format("posit16"), np.random.default_rng(cases.SEED)
    arity = {"fma": 3, "sqrt": 1}.get(operation, 2)
    x = [np.ldexp(draw.standard_normal(40), draw.integers(-40, 40, 40)) for _ in range(arity)]
    values, flags = getattr(hu, operation)(*x, "posit16", "RTP", flags=True)
    run = {**OPERATIONS, "rem": operations.rem}[operation]
    results = [run(*map(exact, row), fmt, hu.RTP) for row in zip(*(v.tolist() for v in x), strict=True)]
    np.testing.assert_array_equal(values, [float(fmt.unpack(result.code)) for result in results])
    assert flags.tolist() == [int(result.flags) for result in results]


def test_arrays_of_posits_that_binary64_cannot_carry_are_refused() -> None:
    for run in (
        lambda: hu.quantize([1.0], "posit64"),
        lambda: hu.add([1.0], [2.0], "posit64"),
        lambda: hu.decode(np.array([1], np.uint64), "posit64"),
        lambda: hu.encode([1.0], "posit64"),
        lambda: hu.format("posit64").decode([1]),
    ):
        with pytest.raises(hu.HalfulpError, match=r"posit64 has (significands of )?60"):
            run()


def test_shapes_and_scalars() -> None:
    fmt = hu.format("posit16")
    assert hu.quantize(0.3, fmt) == 0.300048828125
    assert hu.quantize(np.full((2, 3), 0.3), fmt, backend="cxx").shape == (2, 3)
    assert fmt.decode(0x4C91) == 3.1416015625 and fmt.encode(3.1416015625) == 0x4C91
    assert hu.quantize(np.float32([0.3]), fmt).dtype == np.float32 and hu.quantize([0.3], "posit32").dtype == np.float64
    assert hu.encode([1.0], fmt).tolist() == [0x4000] and hu.decode(np.uint16([0x4000]), fmt).tolist() == [1.0]
    assert fmt.encode([[1.0, -1.0]]).tolist() == [[0x4000, 0xC000]] and fmt.encode(1.0).dtype == np.uint16


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["halfulp", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            raise SystemExit(0)
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


def test_the_command_line_shows_and_rounds_posits(run) -> None:
    code, text, _ = run("formats", "posit16", "posit<8,0>")
    rows = [line.split() for line in text.splitlines()]
    assert code == 0 and ["posit<8,0>", "posit<8,0>", "8", "6", "64", "0.015625", "-", "yes"] in rows
    assert ["posit16", "one", "1", "0x4000", "0|10|00|00000000000"] in rows
    code, text, _ = run("quantize", "--format", "posit16", "0.3", "1e30", "-1e-30", "nan", "inf")
    assert code == 0
    assert [line.split()[2:] for line in text.splitlines()[1:]] == [
        ["0x319a", "1229*2^-12", "inexact"],
        ["0x7fff", "1*2^56", "inexact|overflow"],
        ["0xffff", "-1*2^-56", "inexact|underflow"],
        ["0x8000", "nan", "-"],
        ["0x8000", "nan", "invalid"],
    ]


def test_datapaths_and_costs_refuse_posits() -> None:
    for run in (
        lambda: hu.Datapath("posit16"),  # whose accumulator would be one, too
        lambda: hu.Datapath("fp16", product="posit16"),
        lambda: hu.Machine("fp16/posit16"),
        lambda: hu.cost("fp16/fp32/posit16"),
    ):
        with pytest.raises(hu.HalfulpError, match="float or fixed-point format; posit16 is neither"):
            run()
    assert hu.Machine("fp32").quantize([0.1], "posit16") == hu.quantize([0.1], "posit16")
    with pytest.raises(hu.HalfulpError, match="a machine does not round into posit16 stochastically"):
        hu.Machine("fp32").quantize([1.0], "posit16", "SR8")


# ------------------------------------------------------------------------------------------------------ SoftPosit


def softposit(operation: str, bits: int, *codes: int) -> int:
    """SoftPosit 0.3.4 (Leong), of the draft standard: its posit8 and posit16 have es = 0 and 1."""
    library = pytest.importorskip("softposit")
    given = [getattr(library, f"posit{bits}_t")() for _ in codes]
    for posit, code in zip(given, codes, strict=True):
        posit.v = code
    return getattr(library, f"p{bits}_{operation}")(*given).v


@pytest.mark.parametrize("name", ["posit<8,0>", "posit<16,1>", "posit32"])
def test_softposit_agrees(name: str) -> None:
    fmt = hu.format(name)
    for a, b, c in operands(fmt.bits, 3000, cases.rng("softposit", name)):
        x, y, z = map(fmt.unpack, (a, b, c))
        for operation in ("add", "sub", "mul", "div"):
            theirs = softposit(operation, fmt.bits, a, b)
            assert OPERATIONS[operation](x, y, fmt).code == theirs, (operation, hex(a), hex(b))
        assert operations.sqrt(x, fmt).code == softposit("sqrt", fmt.bits, a), hex(a)
        assert operations.round_to_integral(x, fmt).code == softposit("roundToInt", fmt.bits, a), hex(a)
        if fmt.bits < 32:
            assert arithmetic.fma(x, y, z, fmt).code == softposit("mulAdd", fmt.bits, a, b, c), tuple(
                map(hex, (a, b, c))
            )


@pytest.mark.parametrize(
    ("x", "z"), [(0xFFFFFFF9, 0x4), (0xFFFFFFFD, 0x5), (0xFFFFFFFB, 0x3), (0x17F36E1B, 0x241B7328)]
)
def test_softposits_p32_muladd_is_wrong_where_its_own_addition_is_right(x: int, z: int) -> None:
    """x * 1 + z is x + z. The first: -2^-109 + 2^-112 is nearer to -2^-109 than to -2^-110."""
    fmt, one = hu.format("posit32"), 0x40000000
    ours = arithmetic.fma(fmt.unpack(x), fmt.unpack(one), fmt.unpack(z), fmt).code
    assert ours == truth.run("fma", (x, one, z), 32, 2)[0] == softposit("add", 32, x, z)
    assert ours != softposit("mulAdd", 32, x, one, z)


def test_softposit_agrees_on_posits_of_two_exponent_bits() -> None:
    library = pytest.importorskip("softposit")
    for n in (5, 8, 13, 16, 24):
        fmt = hu.PositFormat(n)

        def posit(code: int, n: int = n):
            given = library.posit_2_t()  # holds its n bits at the top of 32
            given.v = code << (32 - n)
            return given

        for a, b, _ in operands(n, 1000, cases.rng("softposit", n)):
            for operation in ("add", "sub", "mul", "div"):
                theirs = getattr(library, f"pX2_{operation}")(posit(a), posit(b), n).v >> (32 - n)
                assert OPERATIONS[operation](fmt.unpack(a), fmt.unpack(b), fmt).code == theirs, (operation, a, b)
