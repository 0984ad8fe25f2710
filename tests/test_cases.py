"""Operands to test with: reproducible however they are cut, exhaustive where few, and covering what goes wrong."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from halfulp.emulator.arithmetic import Flags
from halfulp.emulator.errors import HalfulpError
from halfulp.emulator.explain import Case, explain
from halfulp.emulator.functions import function
from halfulp.kernels.cases import BLOCK, Cases, directed

#: TestFloat's numbers of cases at level 1 (release 3e, genCases): a test of ours is no thinner.
TESTFLOAT = {1: 600, 2: 46464, 3: 6133248}


def of(name: str, rounding: str = "RNE", **options) -> Cases:
    unit = function(name, rounding)
    return Cases(unit.operands, unit.random_bits, **options)


@pytest.mark.parametrize("name", ["f16_add", "f32_mulAdd", "f64_sqrt", "q4.12_fma", "f16_scalb", "bf16_dot3"])
@pytest.mark.parametrize("level", [1, 2])
def test_the_same_however_cut(name: str, level: int) -> None:
    cases = of(name, "SR8", level=level)
    whole = cases.columns(0, 2 * BLOCK)
    for begin, end in ((0, 1), (100, 5000), (BLOCK - 7, BLOCK + 7), (BLOCK, 2 * BLOCK)):
        assert np.array_equal(cases.columns(begin, end), whole[:, begin:end])
    other = of(name, "SR8", level=level, seed=2).columns(0, BLOCK)
    assert not np.array_equal(other, whole[:, :BLOCK])
    for row, bits in zip(whole, cases.bits, strict=True):
        assert row.max() < 1 << bits


@pytest.mark.parametrize("name", ["e4m3fn_mul", "fp4_e2m1_fma", "f16_sqrt", "q2.6_add", "e4m3fn_to_q4.4"])
def test_few_operands_are_run_through(name: str) -> None:
    cases = of(name)
    assert cases.exhaustive and cases.total == 1 << sum(cases.bits)
    columns = cases.columns(0, cases.total)
    assert len({*map(tuple, columns.T.tolist())}) == cases.total
    few = of(name, number=50)
    assert not few.exhaustive and few.total == 50 and len({*map(tuple, few.columns(0, 50).T.tolist())}) > 20


def test_random_bits_are_an_operand() -> None:
    assert of("fp4_e2m1_add", "SR8").exhaustive and of("fp4_e2m1_add", "SR8").bits == (4, 4, 8)
    bits = of("f16_add", "SR4").columns(0, BLOCK)[-1]
    assert set(bits.tolist()) == set(range(16)) and np.mean(bits == 15) > 0.1 and np.mean(bits == 0) > 0.1


@pytest.mark.parametrize("name", ["f16_{}", "f32_{}", "f64_{}", "bf16_{}"])
def test_levels_are_at_least_testfloats(name: str) -> None:
    for operands, operation in ((1, "sqrt"), (2, "add"), (3, "mulAdd")):
        first, second = (of(name.format(operation), level=level) for level in (1, 2))
        assert TESTFLOAT[operands] <= first.total <= second.total
    assert of(name.format("add"), number=7).total == 7


@pytest.mark.parametrize(
    ("options", "said"), [({"level": 3}, "the level is 1 or 2, not 3"), ({"seed": -1}, "seed must lie")]
)
def test_wrong_options(options: dict[str, int], said: str) -> None:
    with pytest.raises(HalfulpError, match=said):
        of("f16_add", **options)


@pytest.mark.parametrize("name", ["f16", "f64", "e8m0", "e5m2", "q4.12", "uq0.8", "q64.0", "q-3.20"])
def test_directed_codes(name: str) -> None:
    fmt = of(f"{name}_to_f64").operands[0]
    for wide in (False, True):
        codes = directed(fmt, wide, wide).tolist()
        assert codes == sorted(set(codes)) and max(codes) < 1 << fmt.bits
        assert {0, 1, (1 << fmt.bits) - 1, 1 << (fmt.bits - 1)} <= set(codes)


@pytest.mark.parametrize("name", ["f16_add", "f32_mul", "f64_div", "f32_mulAdd", "f32_to_f16", "e8m13_sub"])
def test_everything_that_goes_wrong_is_met(name: str) -> None:
    unit = function(name)
    met: Counter[Case] = Counter()
    flags: Counter[Flags] = Counter()
    for codes in of(name).columns(0, 8000).T.tolist():
        told = explain(unit, codes, (0, 0))
        met[told.case] += 1
        flags.update(flag for flag in Flags if flag in told.ours.flags)
    expected = set(Case) - ({Case.INVALID} if unit.operation not in ("div",) else set())
    expected -= {Case.TIE} if unit.operation == "div" else set()  # a quotient of p bits is never halfway
    assert all(met[case] >= 10 for case in expected), met
    assert flags[Flags.INVALID] >= 10 and flags[Flags.INEXACT] > 1000 and flags[Flags.OVERFLOW] >= 10
    if unit.operation not in ("add", "sub"):
        assert flags[Flags.UNDERFLOW] >= 10


def test_sums_cancel_and_meet_at_every_distance() -> None:
    unit = function("f16_mulAdd")
    fmt = unit.result
    distances: Counter[int] = Counter()
    cancelled = 0
    for a, b, c in of("f16_mulAdd").columns(0, 1 << 15).T.tolist():
        x, y, z = (fmt.unpack(code) for code in (a, b, c))
        if any(datum.kind.name != "FINITE" or datum.is_zero for datum in (x, y, z)):
            continue
        product = x.fraction * y.fraction
        distances[
            (abs(z.fraction) / abs(product)).__float__().hex().partition("p")[2] and _exponent(z.fraction / product)
        ] += 1
        cancelled += abs(product + z.fraction) * 2**8 < abs(product)
    assert cancelled > 100 and all(distances[d] >= 20 for d in range(-22, 23)), distances


def _exponent(ratio: Fraction) -> int:
    """About log2 of a magnitude."""
    return abs(ratio.numerator).bit_length() - ratio.denominator.bit_length()


def test_fixed_point_operands_are_long_and_short_and_cancel() -> None:
    unit = function("q8.24_add")
    columns = of("q8.24_add").columns(0, BLOCK)
    signed = columns.astype(np.int64)
    signed = np.where(signed >> 31, signed - (1 << 32), signed)
    lengths = {int(abs(value)).bit_length() for value in signed[0]}
    assert lengths == set(range(33)) or lengths == set(range(32))
    assert np.mean(np.abs(signed.sum(axis=0)) <= 2) > 0.02
    overflowed = [codes for codes in columns.T[:4000].tolist() if Flags.OVERFLOW in unit(*codes).flags]
    assert len(overflowed) > 50
