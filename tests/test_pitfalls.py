"""Mistakes that other emulators made, each with the recipe that makes it, an input that shows it, and the right bits.

A case holds three things: the definition gives the right value, the kernels give the right value, and the tempting
recipe does not (so that the case bites). Where a public report or source is known it is named:

* ml_dtypes pull request 401: float64, int64 and NumPy scalars go through float32 (double rounding).
* QPyTorch ``quant_cpu.cpp`` (``round_bitwise``) and ``bit_helper.cpp`` (``clip_exponent``): ties go up, inf and NaN
  become max_finite or 0, a negative underflow loses its sign; pull request 43 adds subnormals by a shifting constant.
* moonbitlang/core issue 3912: round as floor(x + 0.5).
* PyTorch issues 106780 and 133557: inf becomes the smallest quantized value, or 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic, datapath
from halfulp.emulator.arithmetic import exact
from halfulp.emulator.random import Role, random_bits, stream

INF, NAN = math.inf, math.nan


def bits(x):
    """A float as text that tells -0 from 0, and any NaN from numbers."""
    return "nan" if math.isnan(x) else float(x).hex()


def define(x, name, rounding="RNE", random=0):
    """``x`` rounded by the definition."""
    fmt = hu.format(name)
    return float(fmt.unpack(arithmetic.quantize(exact(x), fmt, hu.Rounding.parse(rounding), random).code))


# ---------------------------------------------------------------------------------------------- tempting recipes


def through_float32(x, name, rounding):
    with np.errstate(over="ignore"):
        return define(float(np.float32(x)), name, rounding)


def through_float16(x, name, rounding):
    with np.errstate(over="ignore"):
        return define(float(np.float16(x)), name, rounding)


def floor_of_x_plus_half(x, name, rounding):
    quantum = hu.format(name).min_subnormal
    return math.floor(x / quantum + 0.5) * quantum


def magic_constant(x, name, rounding):
    """Adding and taking away 1.5 * 2^52 quanta rounds, but always to nearest, ties to even."""
    constant = 1.5 * 2.0**52 * hu.format(name).min_subnormal
    return (x + constant) - constant


def add_half_then_mask(x, name, rounding):
    """Half a unit is added to the bits of a float32, whatever they mean, and exponents are clipped afterwards."""
    fmt = hu.format(name)
    cut = 23 - fmt.trailing_bits
    word = (int(np.float32(x).view(np.uint32)) + (1 << (cut - 1))) & 0xFFFFFFFF & -(1 << cut)
    exponent = (word >> 23 & 255) - 127
    if exponent > fmt.emax:
        return -fmt.max_finite if word >> 31 else fmt.max_finite
    return 0.0 if exponent < fmt.emin else float(np.uint32(word).view(np.float32))


def truncated_bits(x, name, rounding):
    """bfloat16 as the upper half of a float32."""
    return float(np.uint32(int(np.float32(x).view(np.uint32)) & 0xFFFF0000).view(np.float32))


def integer_cast(x, name, rounding):
    """The x86 conversion gives -2^63 for whatever is out of its range; then the result is clipped."""
    integer = round(x) if abs(x) < 2**63 else -(2**63)
    return float(min(max(integer, -128), 127))


def low_byte(x, name, rounding):
    integer = round(x) & 0xFF
    return float(integer - 256 if integer > 127 else integer)


def wrapped_exponent(x, name, rounding):
    """Only the low bits of the exponent field are kept."""
    fmt = hu.format(name)
    significand, exponent = math.frexp(x)
    field = (exponent - 1 + fmt.bias) % 2**fmt.exponent_bits
    return 0.0 if field == 0 else math.ldexp(significand, field - fmt.bias + 1)


def clamped(x, name, rounding):
    fmt = hu.format(name)
    return min(max(x, fmt.min_finite), fmt.max_finite)


def plus_zero(x, name, rounding):
    return define(x, name, rounding) + 0.0


def flushed(x, name, rounding):
    """What -ftz=true does to float32."""
    return 0.0 if abs(x) < 2.0**-126 else x


# ------------------------------------------------------------------------------------------------- conversions


@dataclass(frozen=True)
class Conversion:
    """``x`` into ``name``: ``right``, and not what ``recipe`` gives."""

    pitfall: str
    recipe: Callable
    x: float
    name: str
    right: float
    rounding: str = "RNE"


TIE8 = 1 + 2.0**-8  # halfway between two bf16 values
CONVERSIONS = [
    Conversion(
        "double-rounding-float64-float32-bf16 (ml_dtypes)", through_float32, TIE8 + 2.0**-40, "bf16", 1 + 2.0**-7
    ),
    Conversion(
        "double-rounding-float64-float32-bf16-below (ml_dtypes)",
        through_float32,
        1 + 3 * 2.0**-8 - 2.0**-40,
        "bf16",
        1 + 2.0**-7,
    ),
    Conversion(
        "double-rounding-float64-float32-e4m3 (ml_dtypes)", through_float32, -431.99999999999994, "e4m3fn", -416.0
    ),
    Conversion("double-rounding-float64-float32-fp16", through_float32, 1 + 2.0**-11 + 2.0**-30, "fp16", 1 + 2.0**-10),
    Conversion("double-rounding-float64-float32-e5m2-negative", through_float32, -(1.125 + 2.0**-50), "e5m2", -1.25),
    Conversion("double-rounding-float64-float32-e2m1", through_float32, 3.5 - 2.0**-45, "e2m1finite", 3.0),
    Conversion("double-rounding-float64-float32-subnormal", through_float32, 2.0**-17 + 2.0**-60, "e5m2", 2.0**-16),
    Conversion("double-rounding-float64-float32-overflow", through_float32, 65520 - 2.0**-30, "fp16", 65504.0),
    Conversion("double-rounding-float32-float16-e4m3", through_float16, 1.0625 + 2.0**-20, "e4m3fn", 1.125),
    Conversion("double-rounding-directed-up", through_float32, 1 + 2.0**-50, "fp16", 1 + 2.0**-10, "RTP"),
    Conversion("double-rounding-directed-down", through_float32, -1 - 2.0**-50, "bf16", -1 - 2.0**-7, "RTN"),
    Conversion("double-rounding-to-odd", through_float32, 1 + 2.0**-50, "fp16", 1 + 2.0**-10, "RTO"),
    Conversion("int64-through-float32 (ml_dtypes)", through_float32, 16973823.0, "bf16", 16908288.0),
    Conversion("half-up-just-below-a-half (MoonBit)", floor_of_x_plus_half, 0.49999999999999994, "q8.0", 0.0, "RNA"),
    Conversion("half-up-large-odd (MoonBit)", floor_of_x_plus_half, 2.0**52 + 1, "uq53.0", 2.0**52 + 1, "RNA"),
    Conversion("half-up-tie-to-even (QPyTorch fixed point)", floor_of_x_plus_half, 2.5, "q8.0", 2.0),
    Conversion("half-up-negative-tie-away", floor_of_x_plus_half, -2.5, "q8.0", -3.0, "RNA"),
    Conversion("half-up-negative-tie-to-even", floor_of_x_plus_half, -1.5, "q8.0", -2.0),
    Conversion("half-up-fraction", floor_of_x_plus_half, -0.34375, "q4.4", -0.375),
    Conversion("add-half-tie-to-even (QPyTorch)", add_half_then_mask, TIE8, "bf16", 1.0),
    Conversion("magic-constant-subnormal-up", magic_constant, 1.25 * 2.0**-16, "e5m2", 2.0**-15, "RTP"),
    Conversion("magic-constant-subnormal-down", magic_constant, 1.75 * 2.0**-16, "e5m2", 2.0**-16, "RTN"),
    Conversion("magic-constant-subnormal-negative-down", magic_constant, -1.25 * 2.0**-16, "e5m2", -(2.0**-15), "RTN"),
    Conversion("magic-constant-subnormal-truncated", magic_constant, 1.75 * 2.0**-16, "e5m2", 2.0**-16, "RTZ"),
    Conversion("magic-constant-subnormal-away", magic_constant, 2.5 * 2.0**-16, "e5m2", 3 * 2.0**-16, "RNA"),
    Conversion("magic-constant-subnormal-odd", magic_constant, 1.75 * 2.0**-16, "e5m2", 2.0**-16, "RTO"),
    Conversion("magic-constant-smallest-up", magic_constant, 2.0**-60, "fp16", 2.0**-24, "RTP"),
    Conversion("magic-constant-negative-zero", magic_constant, -(2.0**-60), "fp16", -0.0),
    Conversion("nan-to-large-finite (QPyTorch)", add_half_then_mask, NAN, "e5m2", NAN),
    Conversion("inf-to-large-finite (QPyTorch)", add_half_then_mask, INF, "fp16", INF),
    Conversion("inf-to-large-finite-negative (QPyTorch)", add_half_then_mask, -INF, "bf16", -INF),
    Conversion("overflow-to-large-finite (QPyTorch)", add_half_then_mask, 1e30, "fp16", INF),
    Conversion("inf-clamped-where-there-is-nan", clamped, INF, "e4m3fn", NAN),
    Conversion("overflow-clamped-where-there-is-nan", clamped, 1e9, "e4m3fnuz", NAN),
    Conversion("overflow-clamped-where-there-is-inf", clamped, -1e9, "e5m2", -INF),
    Conversion("inf-to-lowest (PyTorch 106780)", integer_cast, INF, "int8", 127.0),
    Conversion("overflow-to-lowest", integer_cast, 1e30, "int8", 127.0),
    Conversion("overflow-to-zero-integer (PyTorch 133557)", low_byte, 2.0**40, "int8", 127.0),
    Conversion("overflow-to-zero-integer-negative", low_byte, -(2.0**40), "int8", -128.0),
    Conversion("overflow-to-zero-float", wrapped_exponent, 2.0**17, "e5m2", INF),
    Conversion("overflow-to-zero-float-saturating", wrapped_exponent, -(2.0**1000), "e4m3fnsat", -448.0),
    Conversion("overflow-to-small-float-truncated", wrapped_exponent, 2.0**20, "e4m3fn", 448.0, "RTZ"),
    Conversion("negative-zero-lost", plus_zero, -0.0, "fp16", -0.0),
    Conversion("negative-underflow-lost (QPyTorch)", add_half_then_mask, -1e-30, "fp16", -0.0),
    Conversion("negative-underflow-lost-ftz", plus_zero, -(2.0**-127), "e8m7ftz", -0.0),
    Conversion("negative-underflow-lost-finite", plus_zero, -0.125, "e2m1finite", -0.0),
    Conversion("subnormals-lost (QPyTorch before 43)", add_half_then_mask, 2.0**-16, "e5m2", 2.0**-16),
    Conversion("subnormals-lost-float32 (nvrtc -ftz=true)", flushed, 2.0**-149, "fp32", 2.0**-149),
    Conversion("truncation-for-rounding", truncated_bits, 1 + 1.5 * 2.0**-8, "bf16", 1 + 2.0**-7),
]


@pytest.mark.parametrize("case", CONVERSIONS, ids=lambda case: case.pitfall)
def test_conversion(case):
    right = bits(case.right)
    assert bits(define(case.x, case.name, case.rounding)) == right, "definition"
    assert bits(hu.quantize([case.x], case.name, case.rounding)[0]) == right, "hu.quantize"
    machine = hu.Machine("fp64").quantize(np.full(67, case.x), case.name, case.rounding)
    assert {bits(value) for value in machine} == {right}, "Machine.quantize, long enough for SIMD and its remainder"
    assert bits(case.recipe(case.x, case.name, case.rounding)) != right, (
        "the recipe is not wrong here: the case proves nothing"
    )


@pytest.mark.parametrize(
    "x", [2**60 + 2**52 + 1, np.int64(2**60 + 2**52 + 1), np.uint64(2**60 + 2**52 + 1)], ids=["int", "int64", "uint64"]
)
def test_integers_wider_than_binary64_are_rounded_once_or_refused(x):
    """2^60 + 2^52 is halfway between two bf16 values; the last 1 breaks the tie, unless float64 has swallowed it."""
    assert define(int(x), "bf16") == 2.0**60 + 2.0**53
    try:
        result = hu.quantize(np.array([x]), "bf16")
    except hu.HalfulpError:
        return
    assert result[0] == 2.0**60 + 2.0**53


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="long double is binary64 here")
def test_long_doubles_are_rounded_once_or_refused():
    x = np.longdouble(TIE8) + np.longdouble(2) ** -60
    try:
        result = hu.quantize(np.array([x]), "bf16")
    except hu.HalfulpError:
        return
    assert result[0] == 1 + 2.0**-7


def test_decimals_do_not_go_through_binary64():
    assert define("1.000000059604644775390625000001", "fp32") == 1 + 2.0**-23
    assert define(float("1.000000059604644775390625000001"), "fp32") == 1.0


PAYLOADS = [
    0x7FF0000000000001,
    0x7FF8000000000000,
    0x7FFFFFFFFFFFFFFF,
    0xFFF0000000000001,
    0xFFFFFFFFFFFFFFFF,
    0x7FF0000020000000,
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=hex)
def test_a_nan_with_any_payload_stays_nan(payload):
    """A payload below the kept bits must not leave an infinity behind, nor a carry turn it into -0."""
    x = np.array([payload], dtype=np.uint64).view(np.float64)
    for name in ("fp16", "bf16", "e5m2", "e4m3fn", "e4m3fnuz", "fp32", "fp64", "e8m7ftz", "e5m2sat"):
        for rounding in ("RNE", "RTZ", "RTP", "RTO", "SR5"):
            assert np.isnan(hu.quantize(x, name, rounding)).all()
            fmt = hu.format(name)
            assert fmt.encode(hu.quantize(x, name, rounding))[0] == fmt.nan_code
    for name, substitute in (("e2m1finite", 6.0), ("e3m0", 8.0), ("q4.4", 7.9375), ("uq4.4w", 15.9375)):
        assert hu.quantize(x, name)[0] == define(NAN, name) == substitute


# -------------------------------------------------------------------------------------- operations and sums


@dataclass(frozen=True)
class Operation:
    """An operation of a datapath on values: ``right``, and not what ``recipe()`` gives."""

    pitfall: str
    path: hu.Datapath | str
    operation: str
    operands: tuple
    right: float
    recipe: Callable


def by_definition(path, operation, operands):
    """The operation on scalar data, as ``Machine`` documents it."""
    out, rounding = path.output, path.output_rounding
    if operation == "dot":
        code = datapath.dot(
            path, *([int(c) for c in fmt.encode(v)] for fmt, v in zip((path.a, path.b), operands, strict=True))
        )
    else:
        formats = (path.a, path.b, path.accumulator)
        data = [fmt.unpack(int(fmt.encode(v))) for fmt, v in zip(formats, operands, strict=False)]
        code = getattr(arithmetic, operation)(*data, out, rounding).code
    return float(out.unpack(code))


def f32(x):
    return float(np.float32(x))


def f16(x):
    return float(np.float16(x))


def at_the_end(name, *terms):
    """The sum in float64, rounded into the accumulator's format only once."""
    return define(float(sum(terms)), name)


X24, Y24, Z24 = 1 + 2.0**-18, 2.0**-24 * (1 - 2.0**-18), 1 + 2.0**-23
X11, Y11, Z11 = 1 + 2.0**-7, 2.0**-11 * (1 - 2.0**-7), 1 + 2.0**-10
X30, Y30 = 1 + 2.0**-30, 1 - 2.0**-30
PX, PY = 1 + 2.0**-12, 1 + 2.0**-12
TIE24, ABOVE1 = 1 + 2.0**-24, 1 + 2.0**-52
FP32_PRODUCT = hu.Datapath("fp32", product="fp32")
FP64_TO_FP32 = hu.Datapath("fp64", accumulator="fp32")
ONES = [1.0] * 3

OPERATIONS = [
    Operation("fma-fp32-through-fp64", "fp32", "fma", (X24, Y24, Z24), Z24, lambda: f32(X24 * Y24 + Z24)),
    Operation(
        "fma-fp16-through-fp32", "fp16", "fma", (X11, Y11, Z11), Z11, lambda: f16(f32(X11 * Y11) + np.float32(Z11))
    ),
    Operation("fma-fp64-as-mul-then-add", "fp64", "fma", (X30, Y30, -1.0), -(2.0**-60), lambda: X30 * Y30 - 1),
    Operation("fma-intermediate-overflow", "fp16", "fma", (60000.0, 2.0, -60000.0), 60000.0, lambda: INF),
    Operation(
        "add-fp64-to-fp32-twice", FP64_TO_FP32, "add", (TIE24, 2.0**-80), 1 + 2.0**-23, lambda: f32(TIE24 + 2.0**-80)
    ),
    Operation(
        "mul-fp64-to-fp32-twice", FP64_TO_FP32, "mul", (TIE24, ABOVE1), 1 + 2.0**-23, lambda: f32(f32(TIE24) * ABOVE1)
    ),
    Operation("mul-negative-zero-lost", "fp16", "mul", (-0.0, 3.0), -0.0, lambda: 0.0 + -0.0 * 3.0),
    Operation(
        "mul-negative-zero-lost-upward",
        hu.Datapath("fp16", rounding="RTP"),
        "mul",
        (-0.0, 3.0),
        -0.0,
        lambda: 0.0 + -0.0 * 3.0,
    ),
    Operation(
        "mul-positive-zero-lost-downward", hu.Datapath("fp16", rounding="RTN"), "mul", (0.0, 3.0), 0.0, lambda: -0.0
    ),
    Operation("add-negative-zeros", "bf16", "add", (-0.0, -0.0), -0.0, lambda: 0.0 + (-0.0 + -0.0)),
    Operation(
        "add-cancellation-downward", hu.Datapath("fp16", rounding="RTN"), "add", (1.5, -1.5), -0.0, lambda: 1.5 - 1.5
    ),
    Operation(
        "mul-negative-underflow-lost", "fp16", "mul", (-(2.0**-24), 2.0**-24), -0.0, lambda: abs(f16(-(2.0**-48)))
    ),
    Operation("mul-subnormal-flushed (nvrtc -ftz=true)", "fp32", "mul", (2.0**-100, 2.0**-40), 2.0**-140, lambda: 0.0),
    Operation("mul-fp64-subnormal-flushed", "fp64", "mul", (2.0**-1000, 2.0**-60), 2.0**-1060, lambda: 0.0),
    Operation(
        "contraction-of-a-rounded-product",
        FP32_PRODUCT,
        "dot",
        ([-f32(PX * PY), PX], [1.0, PY]),
        0.0,
        lambda: PX * PY - f32(PX * PY),
    ),
    Operation(
        "no-contraction-of-an-exact-product",
        "fp32",
        "dot",
        ([-f32(PX * PY), PX], [1.0, PY]),
        2.0**-24,
        lambda: f32(PX * PY) - f32(PX * PY),
    ),
    Operation(
        "saturation-of-an-int-accumulator-ignored",
        "q4.0",
        "dot",
        ([7.0, 7.0, -7.0], ONES),
        0.0,
        lambda: at_the_end("q4.0", 7, 7, -7),
    ),
    # 30 + 30 saturates at 32 - 2^-8; less 30 that is 2 - 2^-8, which the output rounds to 2
    Operation(
        "saturation-of-a-wider-accumulator-ignored",
        hu.Datapath("q4.4", accumulator="q6.8", output="q8.4"),
        "dot",
        ([7.5, 7.5, -7.5], [4.0, 4.0, 4.0]),
        2.0,
        lambda: at_the_end("q8.4", 30, 30, -30),
    ),
    # 14, then 28 saturates at 15, then 1
    Operation(
        "saturation-of-a-fused-accumulator-ignored",
        hu.Datapath("q4.0", accumulator="q5.0", order=hu.fused(2)),
        "dot",
        ([7.0, 7.0, 7.0, 7.0, -7.0, -7.0], [1.0] * 6),
        1.0,
        lambda: 14.0,
    ),
    Operation("wrapping-accumulator-taken-for-saturating", "q4.0w", "dot", ([7.0, 7.0], [1.0, 1.0]), -2.0, lambda: 7.0),
    Operation(
        "saturation-of-a-float-accumulator-ignored",
        "e4m3fnsat",
        "dot",
        ([448.0, 448.0, -448.0], ONES),
        0.0,
        lambda: 448.0,
    ),
    Operation(
        "overflow-of-a-float-accumulator-ignored",
        "fp16",
        "dot",
        ([65504.0, 65504.0, -65504.0], ONES),
        INF,
        lambda: 65504.0,
    ),
    Operation(
        "accumulated-in-float32-rounded-at-the-end",
        "fp16",
        "dot",
        ([2048.0, 1.0, 1.0], ONES),
        2048.0,
        lambda: at_the_end("fp16", 2048, 1, 1),
    ),
    Operation(
        "accumulated-in-another-order",
        "fp16",
        "dot",
        ([1.0, 1.0, 2048.0], ONES),
        2050.0,
        lambda: f16(f16(2048.0 + 1) + 1),
    ),
    Operation("dot-of-nothing-but-negative-zeros", "fp16", "dot", ([-0.0, -0.0], [1.0, 1.0]), 0.0, lambda: -0.0),
]


@pytest.mark.parametrize("case", OPERATIONS, ids=lambda case: case.pitfall)
def test_operation(case):
    path, right = hu.Datapath.parse(case.path), bits(case.right)
    assert bits(by_definition(path, case.operation, case.operands)) == right, "definition"
    machine = hu.Machine(path)
    if case.operation == "dot":
        assert bits(machine.dot(*case.operands)) == right, "Machine.dot"
        x, y = (np.array(v) for v in case.operands)
        product = machine.matmul(np.tile(x, (3, 1)), np.tile(y[:, None], (1, 37)))
        assert {bits(value) for value in product.ravel()} == {right}, "Machine.matmul"
    else:
        assert bits(getattr(machine, case.operation)(*([v] for v in case.operands))[0]) == right, "Machine, one element"
        many = getattr(machine, case.operation)(*(np.full(67, v) for v in case.operands))
        assert {bits(value) for value in many} == {right}, "Machine, many elements"
    assert bits(case.recipe()) != right, "the recipe is not wrong here: the case proves nothing"


# ------------------------------------------------------------------------------------------- stochastic rounding


@pytest.mark.parametrize("k", range(1, 7))
@pytest.mark.parametrize(
    ("name", "low", "unit"),
    [("e5m2", 1.0, 0.25), ("e5m2", 2.0**-15, 2.0**-16), ("e5m2", 0.0, 2.0**-16), ("q4.4", 3.0, 0.0625)],
)
def test_sr_goes_up_for_exactly_the_right_number_of_random_integers(name, low, unit, k):
    """Of the 2^k integers exactly floor(f * 2^k) go up: a mask that is one too small, or >= for >, is off by one."""
    parts = {Fraction(n, max(16, 2**k)) for n in range(0, max(16, 2**k), max(2**k // 16, 1))}
    parts |= {Fraction(2**k - 1, 2**k), Fraction(1, 2**k), Fraction(2**20 - 1, 2**20), Fraction(1, 2**20)}
    for part in parts:
        for sign in (1, -1):
            x = sign * (Fraction(low) + part * Fraction(unit))
            results = [define(x, name, f"SR{k}", r) for r in range(2**k)]
            ups = math.floor(part * 2**k)
            assert [abs(result) for result in results] == [low] * (2**k - ups) + [low + unit] * ups


def test_sr_mask_off_by_one_would_be_seen():
    """With r < 2^k - 1 (the mask 2^k - 2, or ``rand() % (2^k - 1)``) one of the counts above would differ."""
    k, part = 3, Fraction(7, 8)
    assert sum(math.floor(part * 2**k) + r >= 2**k for r in range(2**k)) == 7
    assert sum(math.floor(part * 2**k) + r >= 2**k for r in range(2**k - 1)) != 7


@pytest.mark.parametrize("k", [1, 3, 8, 32])
@pytest.mark.parametrize(
    ("name", "low", "unit"), [("e5m2", 1.0, 0.25), ("e5m2", -(2.0**-15), -(2.0**-16)), ("q4.4", -3.0, -0.0625)]
)
def test_sr_of_the_kernels_draws_the_documented_bits(name, low, unit, k):
    """Element i of a Machine's first call uses random_bits(seed, stream(1, OUTPUT), i, 0, k), over all 2^k values."""
    n, seed = 400, 11
    parts = np.arange(n) % 16 / 16
    drawn = [random_bits(seed, stream(1, Role.OUTPUT), i, 0, k) for i in range(n)]
    wanted = [define(low + part * unit, name, f"SR{k}", r) for part, r in zip(parts.tolist(), drawn, strict=True)]
    assert hu.quantize(low + parts * unit, name, f"SR{k}", seed=seed).tolist() == wanted
    if k <= 3:
        assert set(drawn) == set(range(2**k))


@pytest.mark.parametrize("k", [1, 2, 8, 21, 32])
def test_sr_never_moves_a_value_of_the_format(k):
    for name in ("fp16", "bf16", "e4m3fn", "e5m2", "q4.4"):
        fmt = hu.format(name)
        values = fmt.decode(np.arange(2 ** min(fmt.bits, 10)))
        assert fmt.encode(hu.quantize(values, fmt, hu.SR(k), seed=k)).tolist() == fmt.encode(values).tolist()
        for code in range(0, 2 ** min(fmt.bits, 10), 37):
            same = fmt.nan_code if np.isnan(values[code]) else code
            assert arithmetic.quantize(fmt.unpack(code), fmt, hu.SR(k), 2**k - 1) == (same, 0)


def test_sr_is_seeded_by_the_seed_alone():
    """Not by a clock, the process, or the threads: two runs agree; other seeds and later calls draw anew."""
    x = np.full(100_000, 1.1)
    first = hu.quantize(x, "e5m2", "SR8", seed=3)
    assert np.array_equal(first, hu.quantize(x, "e5m2", "SR8", seed=3))
    assert not np.array_equal(first, hu.quantize(x, "e5m2", "SR8", seed=4))
    for threads in (1, 2, 3):
        machine = hu.Machine("fp16", seed=3, threads=threads)
        assert np.array_equal(first, machine.quantize(x, "e5m2", "SR8"))
        assert not np.array_equal(first, machine.quantize(x, "e5m2", "SR8")), "a later call has streams of its own"


def test_sr_with_enough_bits_is_unbiased():
    """100,000 roundings of 1.1 to quarters: floor(0.4 * 256) / 256 of them go up, within five standard errors."""
    n, f = 100_000, math.floor(0.4 * 256) / 256
    ups = np.count_nonzero(hu.quantize(np.full(n, 1.1), "e5m2", "SR8", seed=8) == 1.25)
    assert abs(ups - n * f) < 5 * math.sqrt(n * f * (1 - f))


# ------------------------------------------------------------------------------------------- one value, many paths


@pytest.mark.parametrize("rounding", ["RNE", "RNA", "RND", "RTZ", "RTP", "RTN", "RTO"])
@pytest.mark.parametrize("name", ["fp16", "e4m3fn", "e3m2ftz", "q4.4", "q4.4w", "fp32", "fp64"])
def test_scalar_and_vector_paths_agree(name, rounding):
    """The bits of an element do not depend on its position, on what stands beside it, on strides or on threads."""
    values = [0.0, -0.0, INF, -INF, NAN, 5e-324, -1e-40, 2.0**-149, 0.3, -0.3, 1.0, -2.5, 7.97]
    values += [65519.9, 65520.0, -1e39, 1e308]
    wanted = [bits(define(x, name, rounding)) for x in values]
    assert [bits(hu.quantize([x], name, rounding)[0]) for x in values] == wanted
    for shift in range(len(values)):
        turned = values[shift:] + values[:shift]
        assert [bits(y) for y in hu.quantize(turned, name, rounding)] == wanted[shift:] + wanted[:shift]
    wide = np.repeat(np.array(values)[:, None], 5, axis=1)
    for view in (wide[:, 2], wide[::-1, 3][::-1], np.asfortranarray(wide)[:, 0]):
        assert [bits(y) for y in hu.quantize(view, name, rounding)] == wanted
    many = np.tile(values, 5000)
    for threads in (1, 2, 3):
        out = hu.Machine("fp64", threads=threads).quantize(many, name, rounding)
        assert [bits(y) for y in out[: len(values)]] == [bits(y) for y in out[-len(values) :]] == wanted
        assert np.array_equal(out.reshape(-1, len(values)), np.tile(out[: len(values)], (5000, 1)), equal_nan=True)


def test_float32_arrays_keep_their_subnormals():
    x = np.array([2.0**-149, -(2.0**-149), 2.0**-127, 1.5 * 2.0**-130], dtype=np.float32)
    assert [bits(y) for y in hu.quantize(x, "fp32")] == [bits(float(v)) for v in x]
    assert hu.quantize(x, "bf16")[2] == 2.0**-127


def test_scalars_stay_scalars():
    """A number in gives a number out, as documented; element-wise operations keep NumPy's shape () of two scalars."""
    assert hu.quantize(0.3, "fp16") == 0.300048828125
    assert isinstance(hu.quantize(0.3, "fp16"), float)
    machine = hu.Machine("fp16")
    for result in (
        machine.quantize(np.float64(0.3)),
        machine.add(1.0, 2.0),
        machine.mul(1.0, 2.0),
        machine.fma(1.0, 2.0, 3.0),
    ):
        assert np.shape(result) == ()


def test_a_saturating_format_keeps_the_infinities_among_its_codes():
    """Saturation concerns results: an infinity of e5m2sat enters a unit as the infinity that its code denotes."""
    dp = hu.Datapath("e5m2sat", accumulator="fp32")
    for a, b in ((0x7C, 0x3C), (0xFC, 0x3C), (0x7C, 0x00)):
        code = datapath.dot(dp, [a], [b])
        got = hu.Machine(dp).matmul([[dp.a.decode(a).item()]], [[dp.b.decode(b).item()]])
        assert dp.output.encode(got)[0, 0] == code
    assert hu.quantize(math.inf, "e5m2sat") == 57344.0
