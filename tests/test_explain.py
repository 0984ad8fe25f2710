"""Mismatches, explained: fields, values, exact results, distances, flags; and the scoreboard that counts them."""

from __future__ import annotations

import random
from fractions import Fraction

import halfulp as hu
import pytest
from halfulp.emulator import names
from halfulp.emulator.arithmetic import Flags
from halfulp.emulator.explain import Case, Difference, exact_result, explain, fields, landmarks, value
from halfulp.emulator.formats import FloatFormat, Kind
from halfulp.emulator.functions import function
from halfulp.emulator.scoreboard import Scoreboard


@pytest.mark.parametrize(
    ("fmt", "code", "shown"),
    [
        ("fp16", 0x3C01, "0|01111|0000000001"),
        ("e4m3fn", 0x80, "1|0000|000"),
        ("e8m0", 0x7F, "01111111"),
        ("e5m0", 0x21, "1|00001"),
        ("q4.12", 0x8001, "1000.000000000001"),
        ("uq0.8", 0x81, "10000001"),
        ("q8.0", 0x81, "10000001"),
        ("q-2.6", 0x3, "0011"),
    ],
)
def test_fields(fmt: str, code: int, shown: str) -> None:
    assert fields(names.format(fmt), code) == shown


@pytest.mark.parametrize(
    ("fmt", "code", "shown"),
    [
        ("fp16", 0x3C01, "1.0009765625"),
        ("fp16", 0x8000, "-0"),
        ("fp16", 0xFC00, "-inf"),
        ("fp16", 0x7E00, "NaN"),
        ("fp16", 0x7C01, "signaling NaN"),
        ("fp32", 0x00000001, "1.4012984643248170709...e-45"),
        ("fp64", 0x7FEFFFFFFFFFFFFF, "1.7976931348623157081...e+308"),
        ("fp64", 0x4341C37937E08000, "10000000000000000"),
        ("q64.0", 0x8000000000000000, "-9223372036854775808"),
    ],
)
def test_values(fmt: str, code: int, shown: str) -> None:
    assert value(names.format(fmt).unpack(code)) == shown


@pytest.mark.parametrize(
    ("name", "rounding", "codes", "theirs", "told"),
    [
        (
            "e4m3fn_mul",
            "RNE",
            (0x39, 0x3B),
            (0x40, 0),
            """
  a        39  0|0111|001  1.125
  b        3B  0|0111|011  1.375
  theirs   40  0|1000|000  2    -
  ours     3C  0|0111|100  1.5  inexact
  exact    99/64 = 1.546875
  apart    theirs 4 ulps above ours, the exact result 0.375 ulp above ours
  flags    theirs lack inexact""",
        ),
        (
            "f32_div",
            "RNE",
            (0x3F800000, 0x40400000),
            (0x3EAAAAAA, 3),
            """
  a        3F800000  0|01111111|00000000000000000000000  1
  b        40400000  0|10000000|10000000000000000000000  3
  theirs   3EAAAAAA  0|01111101|01010101010101010101010  0.3333333134651184082...   inexact|underflow
  ours     3EAAAAAB  0|01111101|01010101010101010101011  0.33333334326744079589...  inexact
  exact    1/3 = 0.33333333333333333333...
  apart    theirs 1 ulp below ours, the exact result 0.3333 ulp below ours
  flags    theirs raise underflow""",
        ),
        (
            "q4.12_add",
            "RNE",
            (0x7FFF, 0x0001),
            (0x8000, 0),
            """
  a        7FFF  0111.111111111111  7.999755859375
  b        0001  0000.000000000001  0.000244140625
  theirs   8000  1000.000000000000  -8              -
  ours     7FFF  0111.111111111111  7.999755859375  inexact|overflow
  exact    8
  apart    theirs 65535 ulps below ours, the exact result 1 ulp above ours
  flags    theirs lack inexact|overflow""",
        ),
        (
            "f16_sqrt",
            "SR8",
            (0x4000,),
            (0x3DA9, 1),
            """
  a        4000  0|10000|0000000000  2
  random         00000101
  theirs   3DA9  0|01111|0110101001  1.4150390625  inexact
  ours     3DA8  0|01111|0110101000  1.4140625     inexact
  exact    1.4142135623730950488...
  apart    theirs 1 ulp above ours, the exact result 0.1547 ulp above ours""",
        ),
        (
            "mxint8x2_dot2",
            "RNE",
            (0x7F40C0, 0x802001),
            (0, 0),
            """
  a        7F40C0    01111111                            1 x [-1, 1]
  b        802001    10000000                            2 x [0.015625, 0.5]
  theirs   00000000  0|00000000|00000000000000000000000  0        -
  ours     3F780000  0|01111110|11110000000000000000000  0.96875  -
  exact    31/32 = 0.96875
  apart    theirs 16252928 ulps below ours, the exact result = ours""",
        ),
        (
            "f16_lt",
            "RNE",
            (0x3C00, 0x7E00),
            (1, 0),
            """
  a        3C00  0|01111|0000000000  1
  b        7E00  0|11111|1000000000  NaN
  theirs   1     1                   1  -
  ours     0     0                   0  invalid
  flags    theirs lack invalid""",
        ),
        (
            "f16_add",
            "RNE",
            (0x7E01, 0),
            (0x7E01, 0),
            """
  a        7E01  0|11111|1000000001  NaN
  b        0000  0|00000|0000000000  0
  theirs   7E01  0|11111|1000000001  NaN  -
  ours     7E00  0|11111|1000000000  NaN  -""",
        ),
        (
            "f64_mul",
            "RNE",
            (0x0000000000000001, 0x3FF0000000000001),
            (0, 3),
            """
  a        0000000000000001  0|00000000000|0000000000000000000000000000000000000000000000000001  4.9406564584124654417...e-324
  b        3FF0000000000001  0|01111111111|0000000000000000000000000000000000000000000000000001  1.000000000000000222...
  theirs   0000000000000000  0|00000000000|0000000000000000000000000000000000000000000000000000  0                              inexact|underflow
  ours     0000000000000001  0|00000000000|0000000000000000000000000000000000000000000000000001  4.9406564584124654417...e-324  inexact|underflow
  exact    4503599627370497*2^-1126 = 4.9406564584124665388...e-324
  apart    theirs 1 ulp below ours, the exact result 2.22e-16 ulp above ours""",  # noqa: E501
        ),
    ],
)
def test_explanation(name: str, rounding: str, codes: tuple[int, ...], theirs: tuple[int, int], told: str) -> None:
    found = explain(function(name, rounding), codes, theirs, random=5 if rounding == "SR8" else 0)
    assert str(found).splitlines() == told.splitlines()[1:]


@pytest.mark.parametrize(
    ("name", "codes", "theirs", "difference", "case"),
    [
        ("f16_add", (0x3C00, 0x1000), (0x3C01, 1), Difference.RESULT, Case.TIE),
        ("f16_add", (0x3C00, 0x1001), (0x3C00, 1), Difference.RESULT, Case.INEXACT),
        ("f16_add", (0x3C00, 0x3C00), (0x4000, 1), Difference.FLAGS, Case.EXACT),
        ("f16_add", (0x0001, 0x3C00), (0x3C00, 0), Difference.FLAGS, Case.SUBNORMAL),
        ("f16_mul", (0x7BFF, 0x7BFF), (0x7BFF, 5), Difference.RESULT, Case.OVERFLOW),
        ("f16_mul", (0x7C00, 0x3C00), (0x7C00, 1), Difference.FLAGS, Case.SPECIAL),
        ("f16_div", (0x3C00, 0x0000), (0x7C00, 0), Difference.FLAGS, Case.INVALID),
        ("f16_sqrt", (0xBC00,), (0xFE00, 16), Difference.NAN_PAYLOAD, Case.INVALID),
        ("f16_add", (0x7E01, 0), (0x7E01, 0), Difference.NAN_PAYLOAD, Case.SPECIAL),
        ("f16_add", (0x7D01, 0), (0x7F01, 0), Difference.FLAGS, Case.SPECIAL),
        ("f16_add", (0x8000, 0x0000), (0x8000, 0), Difference.RESULT, Case.EXACT),
        ("q4.12_mul", (0x0001, 0x0800), (0x0001, 1), Difference.RESULT, Case.TIE),
    ],
)
def test_what_differs_and_when(
    name: str, codes: tuple[int, ...], theirs: tuple[int, int], difference: Difference, case: Case
) -> None:
    found = explain(function(name), codes, theirs)
    assert (found.difference, found.case) == (difference, case)
    assert found.to_json()["difference"] == difference.value and found.to_json()["explanation"] == str(found)


@pytest.mark.parametrize(
    "name",
    [
        *("f16_add", "f16_sub", "f16_mul", "f16_div", "f16_fma", "f16_rem", "f16_sqrt", "f16_to_q4.4", "f16_to_i32"),
        *("f16_dot2_to_fp64", "f16_sum3", "f16_round_to_integral", "f16_scalb", "q4.12_mul_to_fp32"),
    ],
)
def test_the_exact_result_lies_next_to_the_rounded_one(name: str) -> None:
    """It is computed apart from the definition: rounded down and up, the definition encloses it."""
    down, up = function(name, "RTN"), function(name, "RTP")
    draw, met = random.Random(3), 0
    for _ in range(300):
        codes = [draw.randrange(1 << fmt.bits) if fmt.bits == 16 else draw.randrange(8) for fmt in down.operands]
        exact = exact_result(down, codes)
        low, high = (unit.result.unpack(unit(*codes).code) for unit in (down, up))
        if exact is not None and low.kind is high.kind is Kind.FINITE and not down(*codes).flags & ~Flags.INEXACT:
            met += 1
            assert low.fraction <= exact + Fraction(1, 2**250) and exact <= high.fraction
    assert met > 50


def test_reference_and_scoreboard() -> None:
    multiply = hu.reference("mul", "fp8_e4m3", "RTZ")
    assert multiply(0x38, 0x39) == (0x39, hu.Flags.NONE)
    assert hu.reference("to_fp8_e4m3", "fp32")(0x3F800000).code == 0x38
    assert hu.reference("dot2_to_fp32", "bf16")(0x3F80, 0x3F80, 0x3F80, 0x3F80).code == 0x40000000
    board = hu.Scoreboard(multiply, explained=1)
    assert board.check((0x38, 0x39), 0x39, 0) and board.check((0x38, 0x39), 0x39)
    board.finish()
    assert not board.check((0x38, 0x39), 0x38, 0, where="at 30 ns") and not board.check((0x38, 0x39), 0x39, 1)
    assert (board.checked, board.failed) == (4, 2)
    assert board.mismatches == {Difference.RESULT: 1, Difference.FLAGS: 1} and board.cases == {Case.EXACT: 2}
    with pytest.raises(AssertionError) as failure:
        board.finish()
    told = str(failure.value)
    assert told.startswith("at 30 ns: fp8_e4m3_mul RTZ\n  a        38  0|0111|000  1\n")
    assert told.endswith(
        "fp8_e4m3_mul RTZ: 4 checked, 2 mismatches\n"
        "             1  result differs\n             1  only flags differ\n"
        "  of which:\n             2  exact result"
    )
    assert board.to_json()["mismatches"] == 2 and len(board.to_json()["first"]) == 1


def test_scoreboard_ignores_what_it_is_told_to() -> None:
    add = function("f16_add")
    assert Scoreboard(add, ignore_nan_payload=True).check((0x7E01, 0), 0x7E01, 0)
    assert not Scoreboard(add, ignore_nan_payload=True).check((0x7D01, 0), 0x7F01, 0)
    assert Scoreboard(add, ignore_flags=True).check((0x3C00, 0x1000), 0x3C00, 0)
    assert not Scoreboard(add, ignore_flags=True).check((0x3C00, 0x1000), 0x3C01, 1)
    assert Scoreboard(function("f16_add", "SR4")).check((0x3C00, 0x1000), 0x3C01, 1, random=8)


def test_many_mismatches_are_counted_but_not_kept() -> None:
    board = Scoreboard(function("f16_add"), explained=3)
    for code in range(1100):
        board.check((code, 0), code ^ 1, 0)
    assert board.failed == 1100 and len(board.first) == 3 and board.cases.total() == 1000
    assert "1,100 mismatches" in board.summary and "of which the first 1,000:" in board.summary


def test_titles_tell_what_is_not_usual() -> None:
    conventions = hu.Conventions(tininess="before", nan="x86", daz=True, ftz=True)
    assert hu.Conventions() == hu.RISCV and hu.X86.nan == "x86" and hu.ARM.tininess == "before"
    unit = function("f32_to_i32", "RTZ", conventions, exact=True)
    assert Scoreboard(unit).title == "f32_to_i32 RTZ tininess before x86 NaNs DAZ FTZ exact"
    assert Scoreboard(function("f32_le")).title == "f32_le"


@pytest.mark.parametrize("name", [*names.ALIASES, "q8.8w", "uq4.12", "binary8p3se", "binary8p1uf", "e5m2sat"])
def test_landmarks_are_what_they_say(name):
    fmt = hu.format(name)
    data = {what: fmt.unpack(code) for what, code in landmarks(fmt).items()}
    numbers = [data[what].fraction for what in ("lowest", "smallest positive", "largest")]
    assert numbers == [Fraction(x) for x in (fmt.min_finite, fmt.min_subnormal, fmt.max_finite)]
    assert data.get("one", data["largest"]).fraction == (1 if "one" in data else numbers[2])
    assert ("canonical NaN" in data) == fmt.has_nan and ("infinity" in data) == fmt.has_infinity
    beyond = data["twice the largest"]
    if fmt.has_infinity and not getattr(fmt, "saturate", False):
        assert beyond.kind is Kind.INFINITY
    elif fmt.has_nan and isinstance(fmt, FloatFormat):
        assert beyond.kind is Kind.NAN or fmt.saturate
    else:
        assert (beyond.fraction == numbers[2]) != getattr(fmt, "wrap", False)
