"""sub, div, sqrt against the oracle, code and flags; rem, round_to_integral, scalb, logb, dot and the operations that
do not round against their definitions on fractions, NumPy and math."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction

import cases
import halfulp as hu
import numpy as np
import oracle
import oracle_mpfr
import pytest
from halfulp.emulator import arithmetic, comparison, operations
from halfulp.emulator.comparison import Class, Relation
from halfulp.emulator.formats import Kind, Unpacked

SMALL = ["e2m1finite", "e3m1", "e2m2", "e3m0", "e2m2fnuz", "e2m2fn", "e3m1ftz", "e2m2sat", "q3.2", "uq1.3", "q2.3w"]
LARGE = ["e5m10", "e8m7", "e8m10", "e8m23", "e11m52", "e6m20", "e11m40"]


@functools.cache
def unpacked(name: str) -> list[Unpacked]:
    fmt = hu.format(name)
    return [fmt.unpack(code) for code in range(1 << fmt.bits)]


def show(result: arithmetic.Result) -> str:
    return cases.describe(result)


@pytest.mark.parametrize("operation", ["sub", "div"])
@pytest.mark.parametrize("name", SMALL)
def test_every_pair_of_small_codes(name: str, operation: str) -> None:
    fmt, other = hu.format(name), cases.oracle_format(name)
    run, truth = getattr(operations, operation), getattr(oracle, operation)
    for rounding, mode, k, r in cases.ROUNDINGS[::2] if operation == "sub" else cases.ROUNDINGS:
        for x, y in itertools.product(unpacked(name)[::1], unpacked(name)):
            got = run(x, y, fmt, rounding, r)
            wanted = cases.expected(truth(cases.as_value(x), cases.as_value(y), other, mode, k, r))
            assert got == wanted, f"{float(x)} {operation} {float(y)} {rounding} {r}: {show(got)}, not {show(wanted)}"


@pytest.mark.parametrize("name", [*SMALL, "e4m3fn", "e5m2", "q4.4"])
def test_every_root_of_small_codes(name: str) -> None:
    fmt, other = hu.format(name), cases.oracle_format(name)
    for rounding, mode, k, r in cases.ROUNDINGS:
        for x in unpacked(name):
            got = operations.sqrt(x, fmt, rounding, r)
            assert got == cases.expected(oracle.sqrt(cases.as_value(x), other, mode, k, r)), (float(x), rounding, r)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("operation", ["sub", "div", "sqrt"])
def test_directed_and_random_operands(name: str, operation: str) -> None:
    fmt, other = hu.format(name), cases.oracle_format(name)
    run, truth = getattr(operations, operation), getattr(oracle, operation)
    roundings = itertools.cycle(cases.ROUNDINGS)
    for codes in cases.pairs(name, 600, operation):
        data = [fmt.unpack(code) for code in codes][: 1 if operation == "sqrt" else 2]
        rounding, mode, k, r = next(roundings)
        got = run(*data, fmt, rounding, r)
        wanted = cases.expected(truth(*map(cases.as_value, data), other, mode, k, r))
        assert got == wanted, f"{list(map(float, data))} {operation} {rounding} {r}: {show(got)}, not {show(wanted)}"


@pytest.mark.parametrize("name", ["e5m10", "e8m23", "e11m52"])
def test_mpfr_agrees_on_quotients_and_roots(name: str) -> None:
    fmt, other = hu.format(name), cases.oracle_format(name)
    for a, b in cases.pairs(name, 400, "mpfr"):
        x, y = fmt.unpack(a), fmt.unpack(b)
        for mode in ("RNE", "RTZ", "RTP", "RTN"):
            for operation, data in (("div", (x, y)), ("sqrt", (x,))):
                value = oracle_mpfr.mpfr_round(operation, [cases.as_value(d) for d in data], other, mode)
                if value is None:
                    pytest.skip("needs gmpy2")
                got = getattr(operations, operation)(*data, fmt, hu.Rounding.parse(mode))
                assert got.code == oracle.encode(value, other), (operation, list(map(float, data)), mode)


def data_of(values: list[float]) -> list[Unpacked]:
    return [arithmetic.exact(v) for v in values]


def value_of(result: arithmetic.Result, fmt: hu.FloatFormat) -> float:
    return float(fmt.unpack(result.code))


def test_rem_is_the_ieee_remainder() -> None:
    fmt = hu.format("fp64")
    rng = np.random.default_rng(0)
    xs = [
        0.0,
        -0.0,
        1.0,
        -5.5,
        5e-324,
        1.7e308,
        *(rng.standard_normal(300) * 2.0 ** rng.integers(-40, 40, 300)).tolist(),
    ]
    for x, y in zip(xs * 2, xs[7:] + xs[:7] + xs[3:] + xs[:3], strict=True):
        if y == 0:
            continue
        got = operations.rem(*data_of([x, y]), fmt)
        wanted = math.remainder(x, y)
        assert (
            value_of(got, fmt) == wanted
            and math.copysign(1, value_of(got, fmt)) == math.copysign(1, wanted)
            and not got.flags
        )
    inf, one, nan = data_of([math.inf, 1.0, math.nan])
    assert (
        operations.rem(inf, one, fmt).flags == operations.rem(one, Unpacked(Kind.FINITE), fmt).flags == hu.Flags.INVALID
    )
    assert value_of(operations.rem(one, inf, fmt), fmt) == 1.0 and operations.rem(nan, one, fmt) == (fmt.nan_code, 0)


@pytest.mark.parametrize(
    ("mode", "reference"), [("RNE", np.rint), ("RTZ", np.trunc), ("RTP", np.ceil), ("RTN", np.floor)]
)
def test_round_to_integral_equals_numpy(mode: str, reference: np.ufunc) -> None:
    fmt = hu.format("fp16")
    codes = np.arange(0, 1 << 16, 7, dtype=np.uint16)
    values = fmt.decode(codes)
    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
        x = fmt.unpack(code)
        got = operations.round_to_integral(x, fmt, hu.Rounding.parse(mode))
        wanted = reference(value)
        assert np.array_equal(value_of(got, fmt), wanted, equal_nan=True) and (
            np.isnan(value) or np.signbit(value_of(got, fmt)) == np.signbit(wanted)
        )
        assert got.flags == (hu.Flags.INVALID if x.signaling else 0)
        exactly = operations.round_to_integral(x, fmt, hu.Rounding.parse(mode), exact=True)
        assert (hu.Flags.INEXACT in exactly.flags) == (math.isfinite(value) and value != wanted)


def test_round_to_integral_in_the_other_modes() -> None:
    fmt = hu.format("fp32")

    def integral(value: float, mode: str, random: int = 0) -> float:
        return value_of(
            operations.round_to_integral(arithmetic.exact(value), fmt, hu.Rounding.parse(mode), random), fmt
        )

    assert [integral(v, "RNA") for v in (0.5, 1.5, -2.5, 0.49)] == [1.0, 2.0, -3.0, 0.0]
    assert [integral(v, "RTO") for v in (0.5, 1.5, 2.5, 3.0)] == [1.0, 1.0, 3.0, 3.0]
    assert [integral(0.75, "SR2", r) for r in range(4)] == [0.0, 1.0, 1.0, 1.0]
    assert math.copysign(1, integral(-0.25, "RNE")) == -1


def test_scalb_and_logb() -> None:
    fmt = hu.format("fp16")
    scaled = operations.scalb(arithmetic.exact(1.5), -24, fmt)
    assert (
        value_of(scaled, fmt) == 2.0**-23 and scaled.flags == hu.Flags.INEXACT | hu.Flags.UNDERFLOW
    )  # 1.5 2^-24 is a tie
    assert operations.scalb(arithmetic.exact(1.5), 40, fmt).flags == hu.Flags.INEXACT | hu.Flags.OVERFLOW
    for value, exponent in ((1.0, 0), (1.999, 0), (-8.0, 3), (2.0**-24, -24), (65504.0, 15)):
        assert value_of(operations.logb(arithmetic.exact(value), fmt), fmt) == exponent
    assert operations.scalb(arithmetic.exact(1.0), -(2**31), fmt).code == 0
    assert operations.logb(Unpacked(Kind.FINITE), fmt) == (0xFC00, hu.Flags.DIVIDE_BY_ZERO)
    assert value_of(operations.logb(arithmetic.exact(-math.inf), fmt), fmt) == math.inf
    assert math.isnan(value_of(operations.logb(arithmetic.exact(math.nan), fmt), fmt))


@pytest.mark.parametrize("name", ["e4m3fn", "fp16", "q8.8"])
def test_dot_is_exact_until_its_one_rounding(name: str) -> None:
    fmt, draw = hu.format(name), cases.rng("dot", name)
    finite = [d for d in (fmt.unpack(draw.randrange(1 << fmt.bits)) for _ in range(400)) if d.kind is Kind.FINITE]
    for length in (0, 1, 2, 7, 30):
        for _ in range(40):
            pairs = [(draw.choice(finite), draw.choice(finite)) for _ in range(length)]
            total = sum((x.fraction * y.fraction for x, y in pairs), Fraction(0))
            for mode in cases.MODES:
                got = operations.dot(pairs, fmt, hu.Rounding.parse(mode))
                if total:
                    assert got == arithmetic.round_pack(arithmetic.exact(total), fmt, hu.Rounding.parse(mode))
                else:
                    assert fmt.unpack(got.code).is_zero and not got.flags


@pytest.mark.parametrize("name", ["e4m3fn", "fp64", "q8.8w", "binary8p3se"])
def test_sum_is_exact_until_its_one_rounding(name: str) -> None:
    """Whatever the order, and however much the terms cancel."""
    fmt, draw = hu.format(name), cases.rng("sum", name)
    finite = [d for d in (fmt.unpack(draw.randrange(1 << fmt.bits)) for _ in range(400)) if d.kind is Kind.FINITE]
    for length in (0, 1, 3, 40):
        for mode in cases.MODES:
            rounding, terms = hu.Rounding.parse(mode), [draw.choice(finite) for _ in range(length)]
            terms += [d._replace(negative=not d.negative) for d in terms[2:]]
            draw.shuffle(terms)
            total = sum((d.fraction for d in terms), Fraction(0))
            got = operations.sum(terms, fmt, rounding)
            if total:
                assert got == arithmetic.round_pack(arithmetic.exact(total), fmt, rounding)
            else:
                assert fmt.unpack(got.code).is_zero and not got.flags
    zeros = data_of([-0.0, -0.0])
    assert fmt.unpack(operations.sum(zeros, fmt).code).negative == fmt.has_negative_zero
    assert operations.sum(data_of([math.inf, 1.0, -math.inf, math.nan]), hu.format("fp16")) == (
        0x7E00,
        hu.Flags.INVALID,
    )


@pytest.mark.parametrize("k", [0, 1, 8, 32])
def test_quotients_and_roots_keep_all_bits_that_rounding_looks_at(k: int) -> None:
    """Into formats wider and narrower than the operands, with many random bits: as rounding a 4096-bit quotient."""
    draw = cases.rng("quotients", k)
    names = ["e11m52", "e4m3fn", "e2m1finite", "q4.12", "q32.32w", "uq60.-10w", "q-30.64", "e8m0", "binary8p1sf"]
    for _ in range(1500):
        sources = [hu.format(draw.choice(["e11m52", "e5m2", "q8.8", "e8m0"])) for _ in range(2)]
        x, y = (fmt.unpack(draw.getrandbits(fmt.bits)) for fmt in sources)
        if x.kind is not Kind.FINITE or y.kind is not Kind.FINITE or x.is_zero or y.is_zero:
            continue
        fmt, r = hu.format(draw.choice(names)), draw.choice([0, (1 << k) - 1, draw.getrandbits(k) if k else 0])
        rounding = hu.SR(k, draw.random() < 0.5) if k else hu.Rounding.parse(draw.choice(cases.MODES))
        wanted = arithmetic.round_pack(arithmetic.exact(x.fraction / y.fraction), fmt, rounding, r)
        assert operations.div(x, y, fmt, rounding, r) == wanted, (x, y, str(fmt), str(rounding), r)
        x = x._replace(negative=False)
        shift = 4096 + (x.exponent & 1)
        root = math.isqrt(x.significand << shift)
        near = Unpacked(
            Kind.FINITE, False, root << 1 | (root**2 != x.significand << shift), (x.exponent - shift) // 2 - 1
        )
        assert operations.sqrt(x, fmt, rounding, r) == arithmetic.round_pack(near, fmt, rounding, r)


def test_dot_of_specials() -> None:
    fmt = hu.format("fp16")
    inf, minus, zero, one, nan = data_of([math.inf, -math.inf, 0.0, 1.0, math.nan])
    assert operations.dot([(inf, one), (one, one)], fmt).code == 0x7C00
    assert operations.dot([(inf, one), (minus, one), (one, one)], fmt) == (fmt.nan_code, hu.Flags.INVALID)
    assert operations.dot([(inf, zero)], fmt) == (fmt.nan_code, hu.Flags.INVALID)
    assert operations.dot([(nan, one)], fmt) == (fmt.nan_code, hu.Flags.NONE)
    assert operations.dot([(arithmetic.exact("-0"), one)] * 2, fmt).code == 0x8000


# ------------------------------------------------------------------------------ operations that do not round


@pytest.mark.parametrize("name", ["e3m2", "e2m2fnuz", "e2m2fn", "q3.2", "e2m1finite"])
def test_compare_equals_python_on_every_pair(name: str) -> None:
    for x, y in itertools.product(unpacked(name), repeat=2):
        a, b = float(x), float(y)
        relation = (
            Relation.LESS if a < b else Relation.GREATER if a > b else Relation.EQUAL if a == b else Relation.UNORDERED
        )
        got = comparison.compare(x, y)
        assert got.relation is relation
        assert (got.flags == hu.Flags.INVALID) == (x.signaling or y.signaling)
        assert (comparison.compare(x, y, signaling=True).flags == hu.Flags.INVALID) == (relation is Relation.UNORDERED)


@pytest.mark.parametrize("name", ["e3m2", "e2m2fn", "q3.2"])
def test_minimum_and_maximum_of_every_pair(name: str) -> None:
    fmt = hu.format(name)

    def order(d: Unpacked) -> tuple[float, bool]:
        return float(d), not d.negative

    for x, y in itertools.product(unpacked(name), repeat=2):
        pair = [d for d in (x, y) if d.kind is not Kind.NAN]
        flags = hu.Flags.INVALID if x.signaling or y.signaling else hu.Flags.NONE
        for choose, plain, number in (
            (min, comparison.minimum, comparison.minimum_number),
            (max, comparison.maximum, comparison.maximum_number),
        ):
            wanted = fmt.pack(choose(pair, key=order)) if pair else fmt.nan_code  # type: ignore[union-attr]
            assert number(x, y, fmt) == (wanted, flags)
            assert plain(x, y, fmt) == (wanted if len(pair) == 2 else fmt.nan_code, flags)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name", ["e3m2", "e2m2fnuz", "e2m2fn", "q3.2", "uq2.2", "e2m1finite", "e3m2ftz", "e3m0", "e5m10"]
)
def test_next_up_and_down_walk_through_every_value(name: str) -> None:
    fmt = hu.format(name)
    values = sorted({float(d) for d in unpacked(name) if d.kind is not Kind.NAN})
    place = {value: i for i, value in enumerate(values)}
    for code, x in enumerate(unpacked(name)):
        up, down = comparison.next_up(code, fmt), comparison.next_down(code, fmt)
        if x.kind is Kind.NAN:
            assert up == down == (fmt.nan_code, hu.Flags.INVALID if x.signaling else 0)  # type: ignore[union-attr]
            continue
        i = place[float(x)]
        assert float(fmt.unpack(up.code)) == values[min(i + 1, len(values) - 1)] and not up.flags
        assert float(fmt.unpack(down.code)) == values[max(i - 1, 0)] and not down.flags


def test_next_up_of_the_negative_value_nearest_to_zero_is_negative_zero() -> None:
    assert comparison.next_up(0x8001, hu.format("fp16")).code == 0x8000
    assert comparison.next_down(0x0001, hu.format("fp16")).code == 0x0000
    assert comparison.next_up(0x81, hu.format("e4m3fnuz")).code == 0


def test_classify() -> None:
    fmt = hu.format("fp16")
    classes = {
        0x7C01: Class.SIGNALING_NAN,
        0x7E00: Class.QUIET_NAN,
        0xFC00: Class.NEGATIVE_INFINITY,
        0xBC00: Class.NEGATIVE_NORMAL,
    }
    classes |= {
        0x8001: Class.NEGATIVE_SUBNORMAL,
        0x8000: Class.NEGATIVE_ZERO,
        0: Class.POSITIVE_ZERO,
        0x3FF: Class.POSITIVE_SUBNORMAL,
    }
    classes |= {0x400: Class.POSITIVE_NORMAL, 0x7C00: Class.POSITIVE_INFINITY}
    assert {code: comparison.classify(fmt.unpack(code), fmt) for code in classes} == classes
    fixed = hu.format("q4.4")
    assert comparison.classify(fixed.unpack(0x80), fixed) is Class.NEGATIVE_NORMAL
