"""NaN propagation, tininess, DAZ and FTZ; conversion to integers.

The x86 rows were recorded from hardware: binary32 SSE and FMA instructions (addss, subss, mulss, vfmadd231ss) on an AMD
EPYC with all exceptions masked, result and MXCSR flags read back.
"""

import itertools

import cases
import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic, comparison, operations
from halfulp.emulator.arithmetic import Flags, exact, round_pack
from halfulp.emulator.conventions import ARM, RISCV, X86, Conventions
from halfulp.emulator.formats import Kind, Unpacked

FP32 = hu.format("fp32")
ONE, INF, NINF, ZERO = 0x3F800000, 0x7F800000, 0xFF800000, 0
Q1, Q2, Q3 = 0x7FC00111, 0xFFC00222, 0x7FC00333
S1, S2, S3 = 0x7F800111, 0xFF800222, 0x7F800333
S1_QUIET, S2_QUIET, S3_QUIET, DEFAULT = 0x7FC00111, 0xFFC00222, 0x7FC00333, 0xFFC00000
QUIET, INVALID, TINY = Flags.NONE, Flags.INVALID, Flags.UNDERFLOW | Flags.INEXACT


def run(operation, codes, conventions, rounding=hu.RNE, fmt=FP32):
    module = arithmetic if hasattr(arithmetic, operation) else operations
    data = [conventions.operand(fmt, code) for code in codes]
    return getattr(module, operation)(*data, fmt, rounding, conventions=conventions)


@pytest.mark.parametrize(
    ("operation", "codes", "code", "flags"),
    [
        ("add", (Q1, S2), Q1, INVALID),
        ("add", (S1, Q2), S1_QUIET, INVALID),
        ("sub", (ONE, Q2), Q2, QUIET),
        ("sub", (Q1, Q2), Q1, QUIET),
        ("mul", (INF, ZERO), DEFAULT, INVALID),
        ("fma", (INF, ZERO, Q3), Q3, QUIET),
        ("fma", (ZERO, INF, Q3), Q3, QUIET),
        ("fma", (INF, ZERO, S3), S3_QUIET, INVALID),
        ("fma", (INF, ZERO, ONE), DEFAULT, INVALID),
        ("fma", (Q1, Q2, Q3), Q1, QUIET),
        ("fma", (Q1, ONE, Q3), Q1, QUIET),
        ("fma", (ONE, Q2, Q3), Q2, QUIET),
        ("fma", (ONE, ONE, Q3), Q3, QUIET),
        ("fma", (Q1, S2, Q3), Q1, INVALID),
        ("fma", (Q1, Q2, S3), Q1, INVALID),
        ("fma", (S1, S2, S3), S1_QUIET, INVALID),
        ("fma", (ONE, S2, Q3), S2_QUIET, INVALID),
        ("fma", (INF, ONE, NINF), DEFAULT, INVALID),
        ("div", (ZERO, ZERO), DEFAULT, INVALID),
        ("sqrt", (0xBF800000,), DEFAULT, INVALID),
        ("sqrt", (S2,), S2_QUIET, INVALID),
        ("rem", (Q2, S1), Q2, INVALID),
    ],
)
def test_x86_propagates_the_first_nan_and_its_payload(operation, codes, code, flags):
    assert run(operation, codes, X86) == (code, flags)


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "rem", "fma"])
def test_riscv_gives_the_canonical_nan(operation):
    for codes in ((Q2, ONE, ONE), (ONE, S2, ONE), (S1, Q2, S3)):
        operands = codes if operation == "fma" else codes[:2]
        flags = INVALID if {S1, S2, S3} & set(operands) else QUIET
        assert run(operation, operands, RISCV) == (0x7FC00000, flags)


def test_conversions_keep_sign_and_the_top_of_the_payload():
    """As cvtss2sd, cvtsd2ss and vcvtps2ph do: the field counts from the top, and comes out quiet."""
    fp64, fp16 = hu.format("fp64"), hu.format("fp16")
    for source, code, destination, wanted in [
        (FP32, 0xFFC00222, fp64, 0xFFF8_0044_4000_0000),
        (fp64, 0x7FF4_0000_0000_0001, FP32, 0x7FE00000),
        (FP32, 0x7F800001, fp16, 0x7E00),
        (FP32, 0xFFBFFFFF, fp16, 0xFFFF),
        (fp16, 0xFC01, FP32, 0xFFC02000),
    ]:
        datum = source.unpack(code)
        found = round_pack(datum, destination, conventions=X86)
        assert found == (wanted, INVALID if datum.signaling else QUIET), hex(found.code)


def test_formats_with_one_nan_have_no_payload():
    for name in ("e4m3fn", "e4m3fnuz"):
        fmt = hu.format(name)
        assert round_pack(FP32.unpack(0xFFC00222), fmt, conventions=X86) == (fmt.nan_code, QUIET)
        assert round_pack(fmt.unpack(fmt.nan_code), FP32, conventions=X86).code == 0x7FC00000
    assert round_pack(FP32.unpack(Q2), hu.format("e3m2finite"), conventions=X86) == (0x1F, INVALID)


def test_numpy_on_this_machine_widens_nans_as_x86():
    """Where NumPy's own conversion keeps payloads (x86 and Arm hardware do): the same bits."""
    codes = np.array([0x7E01, 0xFE55, 0x7FFF, 0xFFFF], dtype=np.uint16)
    wide = codes.view(np.float16).astype(np.float32).view(np.uint32).tolist()
    fp16 = hu.format("fp16")
    assert [round_pack(fp16.unpack(code), FP32, conventions=X86).code for code in codes.tolist()] == wide


@pytest.mark.parametrize("choose", ["minimum", "maximum", "minimum_number", "maximum_number"])
def test_minimum_and_maximum_propagate(choose):
    x, y = FP32.unpack(Q2), FP32.unpack(S1)
    assert getattr(comparison, choose)(x, y, FP32) == (0x7FC00000, INVALID)
    assert getattr(comparison, choose)(x, y, FP32, X86) == (Q2, INVALID)
    assert comparison.next_up(S2, FP32, X86) == comparison.next_down(S2, FP32, X86) == (S2_QUIET, INVALID)


# ------------------------------------------------------------------------------------------------ tiny numbers

FLUSHING, READING_ZEROS = Conventions(nan="x86", ftz=True), Conventions(nan="x86", daz=True)


@pytest.mark.parametrize(
    ("codes", "conventions", "rounding", "code", "flags"),
    [
        ((0x0D800000, 0x30800000), X86, hu.RNE, 0x00080000, QUIET),  # 2^-100 * 2^-30, exact
        ((0x0D800000, 0x30800000), FLUSHING, hu.RNE, 0, TINY),
        ((0x0D800000, 0x30800000), FLUSHING, hu.RTP, 0, TINY),
        ((0x207FFFFF, 0x1F800000), X86, hu.RNE, 0x00800000, TINY),  # 2^-126 (1 - 2^-24)
        ((0x207FFFFF, 0x1F800000), FLUSHING, hu.RNE, 0, TINY),
        ((0x1FFFFFFE, 0x20000001), X86, hu.RNE, 0x00800000, Flags.INEXACT),  # 2^-126 (1 - 2^-46) rounds to 2^-126
        ((0x1FFFFFFE, 0x20000001), FLUSHING, hu.RNE, 0x00800000, Flags.INEXACT),
        ((0x9FFFFFFE, 0x20000001), FLUSHING, hu.RNE, 0x80800000, Flags.INEXACT),
        ((0x1FFFFFFE, 0x20000001), FLUSHING, hu.RTZ, 0, TINY),
        ((0x80000123, ONE), READING_ZEROS, hu.RNE, 0x80000000, QUIET),
        ((S1, 0x123), READING_ZEROS, hu.RNE, S1_QUIET, INVALID),
        ((INF, 0x123), READING_ZEROS, hu.RNE, DEFAULT, INVALID),
    ],
)
def test_products_of_x86_hardware_at_the_bottom_of_the_range(codes, conventions, rounding, code, flags):
    assert run("mul", codes, conventions, rounding) == (code, flags)


def test_denormals_are_zeros_of_their_sign():
    assert run("add", (0x80000123, 0x80000123), READING_ZEROS) == (0x80000000, QUIET)
    assert run("add", (0x80000123, 0x123), READING_ZEROS, hu.RTN) == (0x80000000, QUIET)
    for name in ("e4m3fn", "e4m3fnuz", "e5m2", "e4m3ftz", "e3m2finite", "q4.4"):
        fmt = hu.format(name)
        for code in range(1 << fmt.bits):
            datum, read = fmt.unpack(code), Conventions(daz=True).operand(fmt, code)
            small = name != "q4.4" and datum.kind is Kind.FINITE and abs(datum.fraction) < fmt.min_normal
            wanted = Unpacked(Kind.FINITE, datum.negative and fmt.has_negative_zero, 0, read.exponent)
            assert read == (wanted if small else datum)


def test_arm_judges_tininess_before_rounding():
    assert run("mul", (0x1FFFFFFE, 0x20000001), ARM) == (0x00800000, TINY)
    assert run("mul", (0x1FFFFFFE, 0x20000001), Conventions("before", ftz=True)) == (0, TINY)


@pytest.mark.parametrize("name", ["e4m3", "e3m2fn", "e3m2fnuz", "e2m2sat"])
def test_flushing_changes_tiny_results_only(name):
    """FTZ: where the result is tiny by the convention, a zero with underflow|inexact; elsewhere the same bits."""
    fmt, wide = hu.format(name), hu.format("e5m8")
    turns = itertools.cycle(["after", "before"])
    for code in range(0, 1 << wide.bits, 3):
        datum = wide.unpack(code)
        for (rounding, _, _, r), tininess in zip(cases.ROUNDINGS, turns, strict=False):
            plain = round_pack(datum, fmt, rounding, r, Conventions(tininess))
            found = round_pack(datum, fmt, rounding, r, Conventions(tininess, ftz=True))
            small = datum.kind is Kind.FINITE and 0 < abs(datum.fraction) < fmt.min_normal
            rounded_up = tininess == "after" and plain.flags == Flags.INEXACT
            if small and rounded_up:  # to the smallest normal number: not tiny
                assert abs(fmt.unpack(plain.code).fraction) == fmt.min_normal
            flushed = (fmt.sign_bit if datum.negative and fmt.has_negative_zero else 0, TINY)
            assert found == (flushed if small and not rounded_up else plain)


@pytest.mark.parametrize("fields", [{"tininess": "later"}, {"nan": "arm"}, {"tininess": None}])
def test_unknown_conventions_are_refused(fields):
    with pytest.raises(hu.HalfulpError, match=r'is "(after|canonical)" or'):
        Conventions(**fields)


# ------------------------------------------------------------------------------------------ convertToInteger

I32, UI32, I64, UI64 = (hu.format(name) for name in ("q32.0", "uq32.0", "q64.0", "uq64.0"))


@pytest.mark.parametrize(
    ("value", "fmt", "riscv", "x86", "flags"),
    [
        ("nan", I32, 0x7FFFFFFF, 0x80000000, INVALID),
        ("-inf", I32, 0x80000000, 0x80000000, INVALID),
        ("inf", I32, 0x7FFFFFFF, 0x80000000, INVALID),
        ("2147483648", I32, 0x7FFFFFFF, 0x80000000, INVALID),
        ("2147483647.5", I32, 0x7FFFFFFF, 0x80000000, INVALID),
        ("2147483647.4", I32, 0x7FFFFFFF, 0x7FFFFFFF, Flags.INEXACT),
        ("-2147483648.5", I32, 0x80000000, 0x80000000, Flags.INEXACT),
        ("-2147483649", I32, 0x80000000, 0x80000000, INVALID),
        ("-1", UI32, 0, 0xFFFFFFFF, INVALID),
        ("-0.5", UI32, 0, 0, Flags.INEXACT),
        ("-0.6", UI32, 0, 0xFFFFFFFF, INVALID),
        ("-0", UI32, 0, 0, QUIET),
        ("nan", UI32, 0xFFFFFFFF, 0xFFFFFFFF, INVALID),
        ("4294967295.5", UI32, 0xFFFFFFFF, 0xFFFFFFFF, INVALID),
        ("-2.5", I64, 2**64 - 2, 2**64 - 2, Flags.INEXACT),
        ("1e300", I64, 2**63 - 1, 2**63, INVALID),
        ("1e300", UI64, 2**64 - 1, 2**64 - 1, INVALID),
        ("-inf", UI64, 0, 2**64 - 1, INVALID),
        ("18446744073709551615", UI64, 2**64 - 1, 2**64 - 1, QUIET),
    ],
)
def test_to_integer(value, fmt, riscv, x86, flags):
    """RISC-V unprivileged ISA, table "Domains of float-to-integer conversions"; Intel SDM, CVTSS2SI and VCVTPS2UDQ."""
    for conventions, wanted in ((RISCV, riscv), (X86, x86)):
        found = operations.to_integer(exact(value), fmt, conventions=conventions, exact=True)
        assert found == (wanted, flags)
        quiet = operations.to_integer(exact(value), fmt, conventions=conventions)
        assert quiet == (wanted, flags & ~Flags.INEXACT)


def test_to_integer_rounds_in_every_mode():
    for (rounding, _, _, r), x in ((how, x) for how in cases.ROUNDINGS for x in (-2.75, -0.5, 0.25, 1.5, 2.5)):
        found = operations.to_integer(exact(x), I32, rounding, r)
        assert found == (round_pack(exact(x), I32, rounding, r).code, QUIET)


def test_to_integer_needs_an_integer_format_and_ignores_wrapping():
    with pytest.raises(hu.HalfulpError, match="its FL must be 0"):
        operations.to_integer(exact(1), hu.format("q4.4"))
    with pytest.raises(hu.HalfulpError, match=r"SR3 takes a random integer below 2\*\*3"):
        operations.to_integer(exact(1), I32, hu.SR(3), 8)
    assert operations.to_integer(exact(300), hu.format("q8.0w")) == (127, INVALID)
