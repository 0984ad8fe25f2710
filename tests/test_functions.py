"""Function units: every name of the grammar and of TestFloat's, what it denotes and what it computes."""

from __future__ import annotations

import itertools

import halfulp as hu
import pytest
from halfulp.emulator import arithmetic, names, operations
from halfulp.emulator.arithmetic import Flags
from halfulp.emulator.conventions import ARM, RISCV, X86, Conventions
from halfulp.emulator.errors import HalfulpError
from halfulp.emulator.functions import OPERATIONS, function

FLOATS = {"f16": "e5m10", "f32": "e8m23", "f64": "e11m52", "bf16": "e8m7"}
INTEGERS = {"i32": "q32.0", "ui32": "uq32.0", "i64": "q64.0", "ui64": "uq64.0"}
ARITY = {
    **dict.fromkeys(("add", "sub", "mul", "div", "rem"), 2),
    **dict.fromkeys(("eq", "le", "lt", "eq_signaling", "le_quiet", "lt_quiet"), 2),
    "mulAdd": 3,
    "sqrt": 1,
    "roundToInt": 1,
}


@pytest.mark.parametrize(("fmt", "operation"), [*itertools.product(FLOATS, ARITY)])
def test_testfloat_operation(fmt: str, operation: str) -> None:
    unit = function(f"{fmt}_{operation}")
    assert isinstance(unit, hu.Function) and unit.numbers == unit.operands
    assert [str(operand) for operand in unit.operands] == [FLOATS[fmt]] * ARITY[operation]
    relation = operation[:2] in ("eq", "le", "lt")
    assert str(unit.result) == ("uq1.0" if relation else FLOATS[fmt])
    assert unit(*[0] * ARITY[operation]).code == (operation[:2] in ("eq", "le")) or operation in ("div", "rem")


@pytest.mark.parametrize(
    ("source", "target"), [(a, b) for a, b in itertools.permutations([*FLOATS, *INTEGERS], 2) if {a, b} & {*FLOATS}]
)
def test_testfloat_conversion(source: str, target: str) -> None:
    unit = function(f"{source}_to_{target}", "RTP")
    known = FLOATS | INTEGERS
    assert (str(unit.operands[0]), str(unit.result)) == (known[source], known[target])
    assert unit.operation == ("convert_to_integer" if target in INTEGERS else "convert")
    if target in INTEGERS:
        assert str(function(f"{source}_to_{target}_r_minMag", "RTP").rounding) == "RTZ"


@pytest.mark.parametrize(
    ("name", "operation", "operands", "result"),
    [
        ("e4m3fn_mul", "mul", ["e4m3fn"] * 2, "e4m3fn"),
        ("fp8_e4m3_mul", "mul", ["e4m3fn"] * 2, "e4m3fn"),
        ("fp8_e4m3_fma", "fma", ["e4m3fn"] * 3, "e4m3fn"),
        ("e5m2fnuz_round_to_integral", "round_to_integral", ["e5m2fnuz"], "e5m2fnuz"),
        ("q4.12_add", "add", ["q4.12"] * 2, "q4.12"),
        ("uq0.8w_sub", "sub", ["uq0.8w"] * 2, "uq0.8w"),
        ("int8_mul_to_int32", "mul", ["q8.0"] * 2, "q32.0"),
        ("e4m3fn_to_q4.12", "convert", ["e4m3fn"], "q4.12"),
        ("q4.12_to_fp8_e4m3", "convert", ["q4.12"], "e4m3fn"),
        ("fp8_e4m3_dot4_to_fp32", "dot", ["e4m3fn"] * 8, "e8m23"),
        ("mxfp4_dot32", "dot", ["e2m1finitex32+ue8m0+floor"] * 2, "e8m23"),
        ("mxfp6_e2m3_dot32_to_bf16", "dot", ["e2m3finitex32+ue8m0+floor"] * 2, "e8m7"),
        ("bf16_sum3", "sum", ["e8m7"] * 3, "e8m7"),
        ("f16_scalb", "scalb", ["e5m10", "q32.0"], "e5m10"),
        ("f16_min", "minimum", ["e5m10"] * 2, "e5m10"),
        ("f16_maximum_number", "maximum_number", ["e5m10"] * 2, "e5m10"),
        ("f16_classify", "classify", ["e5m10"], "uq10.0"),
        ("f16_compare", "compare", ["e5m10"] * 2, "uq2.0"),
        ("e8m13_next_up", "next_up", ["e8m13"], "e8m13"),
        ("fp32_to_ui8", "convert_to_integer", ["e8m23"], "uq8.0"),
        ("i64_to_i32", "convert_to_integer", ["q64.0"], "q32.0"),
    ],
)
def test_our_names(name: str, operation: str, operands: list[str], result: str) -> None:
    unit = function(name)
    assert (unit.name, unit.operation, str(unit.result)) == (name, operation, result)
    assert [str(fmt) for fmt in unit.operands] == operands


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("f16_ad", "did you mean f16_add"),
        ("f32_mul_add", "f32_mulAdd"),
        ("f32_to_i33x", "f32_to_i32"),
        ("f16_eq_to_fp32", "unknown function"),
        ("f128_add", "f128 and extF80 are not here"),
        ("extF80_to_f32", "f128 and extF80 are not here"),
        ("e4m3fn_dot0", "dot takes 1 to 4096 terms"),
        ("mxfp4_add", "the one operation on blocks is mxfp4_dot32"),
        ("mxfp4_dot16", "the one operation on blocks is mxfp4_dot32"),
        ("f32_to_mxfp4", "unknown function"),
        ("f32_to_i65", "word length"),
        ("", "names look like f16_add"),
        ("????", "names look like f16_add"),
    ],
)
def test_wrong_names(name: str, said: str) -> None:
    with pytest.raises(HalfulpError, match=said):
        function(name)


def test_wrong_operands() -> None:
    with pytest.raises(HalfulpError, match="f16_add takes 2 operands, not 1"):
        function("f16_add")(0)
    with pytest.raises(HalfulpError, match="65536 is not a code of e5m10"):
        function("f16_add")(0, 65536)
    with pytest.raises(HalfulpError, match="unknown rounding"):
        function("f16_add", "up")


def test_every_operation_has_a_name_and_computes() -> None:
    for operation, unit in OPERATIONS.items():
        name = {"convert": "f16_to_bf16", "convert_to_integer": "f16_to_i32"}.get(operation, f"f16_{operation}")
        name += "2" if operation in ("dot", "sum") else ""
        unit = function(name)
        assert unit.operation == operation
        code, flags = unit(*[0x3C00 if fmt.bits == 16 else 1 for fmt in unit.operands])
        assert 0 <= code < 1 << unit.result.bits and isinstance(flags, Flags)


def test_results_are_the_definitions() -> None:
    fmt = names.format("e4m3fn")
    for x, y in itertools.product(range(0, 256, 7), range(256)):
        a, b = fmt.unpack(x), fmt.unpack(y)
        assert function("e4m3fn_mul", "RTP")(x, y) == arithmetic.mul(a, b, fmt, function("e4m3fn_mul", "RTP").rounding)
        assert function("e4m3fn_div")(x, y) == operations.div(a, b, fmt)
        assert function("e4m3fn_dot2")(x, x, y, y) == operations.dot([(a, b), (a, b)], fmt)
        assert function("e4m3fn_sum2")(x, y) == arithmetic.add(a, b, fmt)


@pytest.mark.parametrize(
    ("name", "codes", "result"),
    [
        ("f16_le", (0x3C00, 0x7E00), (0, Flags.INVALID)),
        ("f16_le_quiet", (0x3C00, 0x7E00), (0, Flags.NONE)),
        ("f16_eq", (0x8000, 0x0000), (1, Flags.NONE)),
        ("f16_eq", (0x7D00, 0x0000), (0, Flags.INVALID)),
        ("f16_eq_signaling", (0x7E00, 0x0000), (0, Flags.INVALID)),
        ("f16_compare", (0x3C00, 0x4000), (0, Flags.NONE)),
        ("f16_compare", (0x3C00, 0x7E00), (3, Flags.NONE)),
        ("f16_classify", (0xFC00,), (1 << 0, Flags.NONE)),
        ("f16_classify", (0x8001,), (1 << 2, Flags.NONE)),
        ("f16_classify", (0x0000,), (1 << 4, Flags.NONE)),
        ("f16_classify", (0x7D00,), (1 << 8, Flags.NONE)),
        ("f16_scalb", (0x3C00, 0xFFFFFFFF), (0x3800, Flags.NONE)),
        ("f16_logb", (0x4800,), (0x4200, Flags.NONE)),
        ("f32_to_i32", (0x40200000,), (2, Flags.NONE)),
        ("f32_to_ui32", (0xBF800000,), (0, Flags.INVALID)),
        ("f32_to_i32", (0x7FC00000,), (0x7FFFFFFF, Flags.INVALID)),
        ("i32_to_f16", (0xFFFFFFFF,), (0xBC00, Flags.NONE)),
    ],
)
def test_known_results(name: str, codes: tuple[int, ...], result: tuple[int, Flags]) -> None:
    assert function(name)(*codes) == result


def test_exact_raises_inexact_for_integers_only() -> None:
    assert function("f32_to_i32", exact=True)(0x40200000) == (2, Flags.INEXACT)
    assert function("f32_roundToInt")(0x40200000) == (0x40000000, Flags.NONE)
    assert function("f32_roundToInt", exact=True)(0x40200000) == (0x40000000, Flags.INEXACT)
    assert function("f32_add", exact=True)(0x3F800000, 0x3F800000) == (0x40000000, Flags.NONE)


def test_names_that_tell_the_rounding() -> None:
    assert str(function("f32_to_i32_rx_near_maxMag").rounding) == "RNA"
    assert function("f32_to_i32_rx_near_even")(0x40200000) == (2, Flags.INEXACT)
    assert function("f32_roundToInt_r_max")(0x40200000) == (0x40400000, Flags.NONE)


def test_conventions_reach_the_operation() -> None:
    nan, infinity = 0x7E01, 0x7C00
    assert function("f16_add")(nan, 0).code == 0x7E00
    assert function("f16_add", conventions=X86)(nan, 0).code == nan
    assert function("f16_sub", conventions=X86)(infinity, infinity).code == 0xFE00
    assert function("f16_min", conventions=X86)(nan, 0).code == nan
    assert function("f16_to_i32", conventions=X86)(nan).code == 1 << 31
    below_normal = 0x387FF000  # (1 - 2^-12) * 2^-14 rounds up to the smallest normal number
    assert function("f32_to_f16", conventions=RISCV)(below_normal) == (0x0400, Flags.INEXACT)
    assert function("f32_to_f16", conventions=ARM)(below_normal) == (0x0400, Flags.INEXACT | Flags.UNDERFLOW)
    assert function("f16_add", conventions=Conventions(daz=True))(1, 0x8000) == (0, Flags.NONE)
    assert function("f16_add", conventions=Conventions(ftz=True))(1, 1) == (0, Flags.INEXACT | Flags.UNDERFLOW)


def test_a_block_is_one_operand() -> None:
    unit = function("mxfp4_dot32")
    fmt = unit.operands[0]
    ones = fmt.pack_block([2] * 32, 127)  # 1.0, scale 1
    halves = fmt.pack_block([2] * 16 + [10] * 15 + [0], 126)  # 1 and -1, scale 1/2
    assert unit(ones, ones) == (0x42000000, Flags.NONE) and unit(ones, halves) == (0x3F000000, Flags.NONE)
    assert unit(ones, fmt.pack_block([0] * 32, 255)) == (0x7FC00000, Flags.NONE)
    with pytest.raises(HalfulpError, match="is not a code of"):
        unit(ones, 1 << 136)


def test_stochastic_rounding_takes_its_random_bits() -> None:
    unit = function("f16_add", "SR4")
    assert unit.random_bits == 4 and function("f16_eq", "SR4").random_bits == 0
    above = (0x3C00, 0x1000)  # 1 + 2^-11, half a unit of the last place
    assert unit(*above, random=7).code == 0x3C00 and unit(*above, random=8).code == 0x3C01
    with pytest.raises(HalfulpError, match="random integer"):
        unit(*above, random=16)
