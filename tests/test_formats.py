"""Formats: the grammar of names, what is derived from a format, and which code denotes which value.

Every code of every small format is decoded, and encoded again, as the oracle says; the well-known formats are
also held against the bits of NumPy and ml_dtypes, and against the constants of their standards.
"""

import itertools
import math
import warnings
from fractions import Fraction

import cases
import halfulp as hu
import numpy as np
import oracle
import pytest
from halfulp.emulator import names
from halfulp.emulator.arithmetic import exact
from halfulp.emulator.formats import Kind, Specials, Unpacked

ALIASES = {
    "fp64": "e11m52",
    "fp32": "e8m23",
    "tf32": "e8m10",
    "fp16": "e5m10",
    "bf16": "e8m7",
    "fp8_e4m3": "e4m3fn",
    "fp8_e5m2": "e5m2",
    "e4m3fnuz": "e4m3fnuz",
    "e5m2fnuz": "e5m2fnuz",
    "fp6_e3m2": "e3m2finite",
    "fp6_e2m3": "e2m3finite",
    "fp4_e2m1": "e2m1finite",
    "e8m0": "ue8m0",
    "int8": "q8.0",
    "int16": "q16.0",
    "int32": "q32.0",
    "uint8": "uq8.0",
    "posit8": "posit8",
    "posit16": "posit16",
    "posit32": "posit32",
    "posit64": "posit64",
}

SMALL_FLOATS = [
    f"e{w}m{t}{s}{ftz}"
    for w in (2, 3, 4, 5)
    for t in (0, 1, 2, 3)
    for s in ("", "fn", "fnuz", "finite")
    for ftz in ("", "ftz")
]
BIASED = ["e4m3fnb9", "e4m3fnuzb11", "e4m3b-1", "e3m2finiteb0", "e2m1b20", "e5m2ftzb100", "e8m1b140", "e3m2fnuzftzb-5"]
SATURATING = ["e4m3fnsat", "e5m2sat", "e2m1fnuzsat", "e3m0sat", "e3m1finitesat", "e4m2ftzb3sat"]
SMALL_FIXED = ["q1.0", "uq1.0", "q0.1", "q2.2", "q2.2w", "uq1.3", "uq0.4w", "q8.0", "uq8.0", "q4.4", "q1.7", "q0.8"]
SMALL_FIXED += ["q-2.6", "uq-3.8w", "q12.-4", "uq9.-2"]
SIXTEEN_BITS = ["e5m10", "e8m7", "e5m10fnuzftz", "q4.12"]
NINE_TO_FIFTEEN = ["e9m0", "e8m3", "e6m5finite", "e2m10", "e11m0", "e7m4fnuz", "e6m6fnb40", "q3.9", "uq16.-4w", "q5.9"]
EVERY_CODE = SMALL_FLOATS + BIASED + SATURATING + SMALL_FIXED + NINE_TO_FIFTEEN + SIXTEEN_BITS

WIDE = [
    "e8m23",
    "e8m10",
    "e11m52",
    "e6m20",
    "e11m40",
    "e8m23ftz",
    "e8m23fn",
    "e11m51fnuz",
    "e11m52ftzsat",
    "e10m52finite",
    "e2m52",
]
WIDE += ["q16.16", "q32.0", "q32.21", "uq26.26w", "q64.0", "uq0.64", "q32.32w", "q-20.40", "uq50.-10"]


def same(x, y):
    """Equal in every element: NaN equals NaN, and -0 differs from +0."""
    return (
        x.shape == y.shape
        and np.array_equal(x, y, equal_nan=True)
        and np.array_equal(np.signbit(x)[~np.isnan(x)], np.signbit(y)[~np.isnan(y)])
    )


# ----------------------------------------------------------------------------------------------------- grammar


def test_the_aliases_are_these():
    assert hu.ALIASES == ALIASES


@pytest.mark.parametrize(("alias", "canonical"), ALIASES.items())
def test_alias(alias, canonical):
    fmt = hu.format(alias)
    assert str(fmt) == canonical
    assert fmt == hu.format(canonical) == hu.format(alias.upper()) == hu.format(f"  {alias}\n")
    assert hu.format(names.alias(fmt)) == fmt


@pytest.mark.parametrize("name", EVERY_CODE + WIDE)
def test_the_canonical_name_round_trips(name):
    fmt = hu.format(name)
    assert str(fmt) == name
    assert hu.format(str(fmt)) == fmt
    assert hash(hu.format(str(fmt))) == hash(fmt)
    assert hu.format(fmt) is fmt
    assert fmt.bits == cases.oracle_format(name).width


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("e5m10b15", "e5m10"),
        ("e4m3fnuzb8", "e4m3fnuz"),
        ("e4m3fnb7", "e4m3fn"),
        ("e05m010", "e5m10"),
        ("E4M3FN", "e4m3fn"),
        ("e5m2ftzb15sat", "e5m2ftzsat"),
        ("q04.012", "q4.12"),
        ("UQ4.12W", "uq4.12w"),
    ],
)
def test_other_spellings_get_the_canonical_name(name, canonical):
    assert str(hu.format(name)) == canonical


def test_suffixes_set_the_fields():
    fmt = hu.format("e3m4fnftzb-2sat")
    assert fmt == hu.FloatFormat(3, 4, Specials.FN, subnormals=False, bias=-2, saturate=True)
    assert hu.format("uq3.5w") == hu.FixedFormat(3, 5, signed=False, wrap=True)
    assert hu.format("e3m4").bias == 3
    assert hu.format("e3m4fnuz").bias == 4


def test_the_ends_of_the_grammar():
    assert hu.format("e2m0").bits == 3
    assert hu.format("e11m52").bits == 64
    assert hu.format("q64.0").bits == hu.format("uq0.64").bits == 64
    assert hu.format("q1.0").bits == 1


@pytest.mark.parametrize("name", ["e1m3", "e0m5", "e12m3", "e5m53", "e11m53", "e99m99"])
def test_floats_outside_the_grammar_are_refused(name):
    with pytest.raises(hu.HalfulpError, match=r"outside e2m0 \.\.\. e11m52"):
        hu.format(name)


@pytest.mark.parametrize("name", ["q0.0", "q40.40", "q33.32", "uq64.1", "q-4.4", "q3.-3", "q-5.2", "q0.-1"])
def test_word_lengths_outside_1_to_64_are_refused(name):
    with pytest.raises(hu.HalfulpError, match=r"word length .* 1\.\.\.64"):
        hu.format(name)


@pytest.mark.parametrize("name", ["q-1000.1010", "q1010.-1001"])
def test_far_binary_points_are_refused(name):
    with pytest.raises(hu.HalfulpError, match=r"FL must lie in -1000\.\.\.1000"):
        hu.format(name)


@pytest.mark.parametrize(
    "name", ["e11m52fn", "e11m52fnuz", "e11m52finite", "e8m23b1100", "e5m10b-1000", "e11m52ftzb1024", "e2m52b1024"]
)
def test_values_beyond_binary64_are_refused(name):
    with pytest.raises(hu.HalfulpError, match="binary64 cannot hold"):
        hu.format(name)


@pytest.mark.parametrize(
    "name", ["e2m52b1022", "e2m52b1023", "e2m52finiteb-1020", "e11m51fnuz", "e11m52ftz", "e2m52ftzb1023", "e11m0fn"]
)
def test_values_at_the_ends_of_binary64_are_held(name):
    fmt, of = hu.format(name), cases.oracle_format(name)
    for code in cases.special_codes(name):
        assert cases.as_value(fmt.unpack(code)) == oracle.decode(code, of)
    assert Fraction(fmt.max_finite) == of.max_finite


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("fp61", "fp16"),
        ("pf16", "fp16"),
        ("fp8_e4m4", "fp8_e4m3"),
        ("fp8e5m2", "fp8_e5m2"),
        ("bf15", "bf16"),
        ("e4m3fm", "e4m3fn"),
        ("e4m3fnu", "e4m3fnuz"),
        ("q4,12", "q4.12"),
        ("uq4_12", "uq4.12"),
        ("tf23", "tf32"),
        ("imt8", "int8"),
        ("fp8_e5m21", "fp8_e5m2"),
        ("fp161", "fp16"),
        ("e5m2satt", "e5m2sat"),
        ("fp6_e3m3", "fp6_e3m2"),
    ],
)
def test_a_misspelt_name_gets_near_matches(name, near):
    with pytest.raises(hu.HalfulpError, match=r"unknown format .*did you mean ") as error:
        hu.format(name)
    assert near in str(error.value)


NONSENSE = [
    "",
    "zzz",
    "%%%",
    "12",
    "hello world",
    None,
    7,
    1.5,
    ["fp16"],
    "e5m10\0",
    "e-5m10",
    "e5m-1",
    "e5m2satftz",
    "e5m2b",
]
NONSENSE += ["q4", "q.4", "q4.4ww", "e4m3fnfinite", "e5 m10", "+q4.4", "q+4.4"]


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_with_an_example(name):
    with pytest.raises(
        hu.HalfulpError, match=r"unknown format .*(did you mean|names look like fp16, e4m3fn or q4\.12)"
    ):
        hu.format(name)


def test_formats_cannot_be_changed():
    for fmt, field in ((hu.format("fp16"), "trailing_bits"), (hu.format("q4.4"), "wrap")):
        with pytest.raises(AttributeError):
            setattr(fmt, field, 1)


# -------------------------------------------------------------------------------------------------- properties

#: name: bits, p, emin, emax, max_finite, min_normal, min_subnormal
CONSTANTS = {
    "fp64": (64, 53, -1022, 1023, 1.7976931348623157e308, 2.2250738585072014e-308, 5e-324),
    "fp32": (32, 24, -126, 127, 3.4028234663852886e38, 1.1754943508222875e-38, 1.401298464324817e-45),
    "tf32": (19, 11, -126, 127, 3.4011621342146535e38, 2.0**-126, 2.0**-136),
    "fp16": (16, 11, -14, 15, 65504.0, 2.0**-14, 2.0**-24),
    "bf16": (16, 8, -126, 127, 3.3895313892515355e38, 2.0**-126, 2.0**-133),
    "fp8_e4m3": (8, 4, -6, 8, 448.0, 2.0**-6, 2.0**-9),
    "fp8_e5m2": (8, 3, -14, 15, 57344.0, 2.0**-14, 2.0**-16),
    "e4m3fnuz": (8, 4, -7, 7, 240.0, 2.0**-7, 2.0**-10),
    "e5m2fnuz": (8, 3, -15, 15, 57344.0, 2.0**-15, 2.0**-17),
    "fp6_e3m2": (6, 3, -2, 4, 28.0, 0.25, 0.0625),
    "fp6_e2m3": (6, 4, 0, 2, 7.5, 1.0, 0.125),
    "fp4_e2m1": (4, 2, 0, 2, 6.0, 1.0, 0.5),
    "e4m3": (8, 4, -6, 7, 240.0, 2.0**-6, 2.0**-9),
    "e3m4": (8, 5, -2, 3, 15.5, 0.25, 2.0**-6),
    "e4m3fnuzb11": (8, 4, -10, 4, 30.0, 2.0**-10, 2.0**-13),
    "e3m0": (4, 1, -2, 3, 8.0, 0.25, 0.25),
    "e3m0fn": (4, 1, -2, 3, 8.0, 0.25, 0.25),
    "e2m0": (3, 1, 0, 1, 2.0, 1.0, 1.0),
    "e2m0finite": (3, 1, 0, 2, 4.0, 1.0, 1.0),
    "e8m7ftz": (16, 8, -126, 127, 3.3895313892515355e38, 2.0**-126, 2.0**-126),
    "e4m3fnsat": (8, 4, -6, 8, 448.0, 2.0**-6, 2.0**-9),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_of_the_standards(name):
    fmt = hu.format(name)
    found = (fmt.bits, fmt.precision, fmt.emin, fmt.emax, fmt.max_finite, fmt.min_normal, fmt.min_subnormal)
    assert found == CONSTANTS[name]
    assert fmt.min_finite == -fmt.max_finite


@pytest.mark.parametrize(
    ("name", "has_infinity", "has_nan", "has_negative_zero", "nan_code"),
    [
        ("fp16", True, True, True, 0x7E00),
        ("fp32", True, True, True, 0x7FC00000),
        ("fp64", True, True, True, 0x7FF8000000000000),
        ("bf16", True, True, True, 0x7FC0),
        ("fp8_e5m2", True, True, True, 0x7E),
        ("fp8_e4m3", False, True, True, 0x7F),
        ("e4m3fnuz", False, True, False, 0x80),
        ("e5m2fnuz", False, True, False, 0x80),
        ("fp6_e3m2", False, False, True, None),
        ("fp4_e2m1", False, False, True, None),
        ("e3m0", True, False, True, None),
        ("e3m0fn", False, True, True, 0x7),
        ("e3m1", True, True, True, 0xF),
        ("q4.4", False, False, False, None),
    ],
)
def test_specials(name, has_infinity, has_nan, has_negative_zero, nan_code):
    fmt = hu.format(name)
    assert (fmt.has_infinity, fmt.has_nan, fmt.has_negative_zero) == (has_infinity, has_nan, has_negative_zero)
    if nan_code is not None:
        assert fmt.nan_code == nan_code
        assert fmt.pack(Unpacked(Kind.NAN)) == nan_code
        found = fmt.unpack(nan_code)
        assert (found.kind, found.negative, found.signaling) == (Kind.NAN, False, False)
    elif isinstance(fmt, hu.FloatFormat):
        with pytest.raises(hu.HalfulpError, match="has no NaN"):
            _ = fmt.nan_code


@pytest.mark.parametrize("name", [n for n in EVERY_CODE + WIDE if n.startswith("e")])
def test_derived_properties_follow_from_the_codes(name):
    fmt, of = hu.format(name), cases.oracle_format(name)
    assert (fmt.precision, fmt.emin, fmt.bias) == (of.p, of.emin, of.bias)
    assert Fraction(fmt.max_finite) == of.max_finite
    assert fmt.emax == oracle.floor_log2(of.max_finite)
    smallest = min(oracle.decode(c, of).magnitude for c in (1, 2**of.t) if oracle.decode(c, of).magnitude)
    assert Fraction(fmt.min_subnormal) == smallest
    assert fmt.quantum_exponent == (fmt.emin - fmt.trailing_bits if fmt.subnormals else None)
    assert (fmt.has_infinity, fmt.has_negative_zero, fmt.has_nan) == (
        of.has_infinity,
        of.has_negative_zero,
        of.nan_code is not None,
    )


@pytest.mark.parametrize(
    ("name", "low", "high", "quantum"),
    [
        ("q4.12", -8.0, 8 - 2.0**-12, 2.0**-12),
        ("uq4.12", 0.0, 16 - 2.0**-12, 2.0**-12),
        ("int8", -128.0, 127.0, 1.0),
        ("uint8", 0.0, 255.0, 1.0),
        ("q1.7", -1.0, 1 - 2.0**-7, 2.0**-7),
        ("q-2.6", -0.125, 0.125 - 2.0**-6, 2.0**-6),
        ("q12.-4", -2048.0, 2048.0 - 16, 16.0),
        ("q1.0", -1.0, 0.0, 1.0),
        ("uq1.0", 0.0, 1.0, 1.0),
        ("q16.16w", -32768.0, 32768 - 2.0**-16, 2.0**-16),
    ],
)
def test_range_of_fixed_point(name, low, high, quantum):
    """<IL,FL> as in arXiv:1502.02551: IL includes the sign bit."""
    fmt = hu.format(name)
    assert (fmt.min_finite, fmt.max_finite, fmt.min_subnormal) == (low, high, quantum)
    assert 2.0**fmt.quantum_exponent == 2.0**fmt.emin == quantum
    assert fmt.precision == fmt.bits == fmt.integer_bits + fmt.fraction_bits


@pytest.mark.parametrize("name", ["q1032.-1000", "uq1025.-1000w", "q-990.1000"])
def test_fixed_point_at_the_ends_of_binary64(name):
    """Either the format is refused, as a float with such values is, or its values can be had."""
    try:
        fmt = hu.format(name)
    except hu.HalfulpError:
        return
    assert math.isfinite(fmt.max_finite)
    assert np.isfinite(fmt.decode([0, 2**fmt.bits - 1])).all()


# --------------------------------------------------------------------------------------------------- every code


def canonical(code, value, of):
    """The code that encoding the value of ``code`` gives: one NaN, one zero of each sign."""
    if value.kind == "nan":
        return of.nan_code
    if value.is_zero and isinstance(of, oracle.Float):
        return of.sign_bit * value.negative
    return code


def packed(code, value, of):
    """The code that packing the datum of ``code`` gives: as ``canonical``, but an IEEE NaN keeps its payload."""
    return code | of.nan_code if value.kind == "nan" and of.has_infinity else canonical(code, value, of)


def as_float(value):
    if value.kind == "nan":
        return math.nan
    magnitude = math.inf if value.kind == "inf" else float(value.magnitude)
    return -magnitude if value.negative else magnitude


@pytest.mark.parametrize("name", EVERY_CODE)
def test_every_code_denotes_what_the_oracle_says(name):
    fmt, of = hu.format(name), cases.oracle_format(name)
    codes = np.arange(2**fmt.bits)
    values, back = [], []
    for code in range(2**fmt.bits):
        value, datum = oracle.decode(code, of), fmt.unpack(code)
        assert cases.as_value(datum) == value, f"unpack({code:#x})"
        back.append(canonical(code, value, of))
        values.append(as_float(value))
        assert fmt.pack(datum) == packed(code, value, of), f"pack(unpack({code:#x}))"
    values = np.array(values)
    decoded, encoded = fmt.decode(codes), fmt.encode(values)
    assert decoded.dtype == np.float64
    assert same(decoded, values)
    assert encoded.dtype == (np.uint8 if fmt.bits <= 8 else np.uint16)
    assert np.array_equal(encoded, back)


@pytest.mark.parametrize("name", SMALL_FLOATS + SMALL_FIXED)
def test_the_oracle_finds_the_same_code_by_search(name):
    """Not by inverting the decoder: the oracle looks the value up among all codes."""
    fmt, of = hu.format(name), cases.oracle_format(name)
    for code in range(2**fmt.bits):
        value, datum = oracle.decode(code, of), fmt.unpack(code)
        assert oracle.encode(value, of) == fmt.pack(Unpacked(Kind.NAN) if value.kind == "nan" else datum)


@pytest.mark.parametrize("name", WIDE)
def test_wide_formats_agree_on_special_and_random_codes(name):
    fmt, of = hu.format(name), cases.oracle_format(name)
    draw = cases.rng("wide codes", name)
    codes = cases.special_codes(name) + [draw.getrandbits(fmt.bits) for _ in range(500)]
    array = np.array(codes, dtype=np.uint64)
    for code in codes:
        datum, value = fmt.unpack(code), oracle.decode(code, of)
        assert cases.as_value(datum) == value
        assert fmt.pack(datum) == packed(code, value, of)
    if isinstance(fmt, hu.FixedFormat) and fmt.bits > 53:
        for refused in (lambda: fmt.decode(array), lambda: fmt.encode([1.0])):
            with pytest.raises(hu.HalfulpError, match="binary64, which holds at most 53"):
                refused()
        return
    values = np.array([as_float(oracle.decode(c, of)) for c in codes])
    assert same(fmt.decode(array), values)
    encoded = fmt.encode(values)
    assert encoded.dtype == (np.uint32 if fmt.bits <= 32 else np.uint64)
    assert encoded.tolist() == [canonical(c, oracle.decode(c, of), of) for c in codes]


@pytest.mark.parametrize(("name", "dtype"), [("fp16", np.float16), ("fp32", np.float32), ("fp64", np.float64)])
def test_bit_patterns_of_numpy(name, dtype):
    fmt = hu.format(name)
    bits = np.dtype(f"u{fmt.bits // 8}").type
    if name == "fp16":
        codes = np.arange(2**16, dtype=bits)
    else:
        generator = np.random.default_rng(cases.SEED)
        special = np.array(cases.special_codes(str(fmt)), dtype=bits)
        subnormal = generator.integers(0, 1 << fmt.trailing_bits, 5000, dtype=bits)
        codes = np.concatenate(
            [special, subnormal, generator.integers(0, np.iinfo(bits).max, 50000, dtype=bits, endpoint=True)]
        )
    with np.errstate(invalid="ignore"):  # a signaling NaN becomes quiet
        values = codes.view(dtype).astype(np.float64)
    assert same(fmt.decode(codes), values)
    number = ~np.isnan(values)
    assert np.array_equal(fmt.encode(values)[number], codes[number])
    assert np.all(fmt.encode(values)[~number] == fmt.nan_code)
    assert fmt.encode(values.astype(dtype)).dtype == bits


ML_DTYPES = {
    "bfloat16": "bf16",
    "float8_e3m4": "e3m4",
    "float8_e4m3": "e4m3",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e4m3fnuz": "e4m3fnuz",
    "float8_e4m3b11fnuz": "e4m3fnuzb11",
    "float8_e5m2": "fp8_e5m2",
    "float8_e5m2fnuz": "e5m2fnuz",
    "float6_e2m3fn": "fp6_e2m3",
    "float6_e3m2fn": "fp6_e3m2",
    "float4_e2m1fn": "fp4_e2m1",
    "int4": "q4.0",
    "uint4": "uq4.0",
    "int2": "q2.0",
    "uint2": "uq2.0",
}


@pytest.mark.parametrize(("theirs", "ours"), ML_DTYPES.items())
def test_bit_patterns_of_ml_dtypes(theirs, ours):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, theirs):
        pytest.skip(f"this ml_dtypes has no {theirs}")
    fmt = hu.format(ours)
    codes = np.arange(2**fmt.bits, dtype=np.uint16 if fmt.bits > 8 else np.uint8)
    with np.errstate(invalid="ignore"):  # a signaling NaN becomes quiet
        values = codes.view(getattr(ml_dtypes, theirs)).astype(np.float64)
    assert same(fmt.decode(codes), values)
    number = ~np.isnan(values)
    assert np.array_equal(fmt.encode(values)[number], codes[number])


# ----------------------------------------------------------------------------------------- what encode refuses


GAPS = [
    "e2m1finite",
    "e3m0",
    "e3m2",
    "e4m3fn",
    "e4m3fnuz",
    "e3m2ftz",
    "e5m2sat",
    "e4m3fnb9",
    "q2.2",
    "uq1.3",
    "q2.2w",
    "q-2.6",
    "q12.-4",
]


@pytest.mark.parametrize("name", GAPS)
def test_encode_and_pack_refuse_what_lies_between_two_values(name):
    fmt = hu.format(name)
    values = fmt.decode(np.arange(2**fmt.bits))
    finite = np.unique(values[np.isfinite(values)])
    between = (finite[1:] + finite[:-1]) / 2
    nudged = np.concatenate([np.nextafter(finite, np.inf), np.nextafter(finite, -np.inf)])
    beyond = [2 * finite[-1], finite[-1] + (finite[-1] - finite[-2]), -2 * finite[-1] - 1, 1e308, -1e308]
    for value in [*between, *nudged[~np.isin(nudged, finite)], *beyond]:
        for attempt in (
            lambda v=value: fmt.encode(v),
            lambda v=value: fmt.encode([0.0, v]),
            lambda v=value: fmt.pack(exact(v)),
        ):
            with pytest.raises(hu.HalfulpError, match=r"is not a value of .*quantize it first"):
                attempt()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fp8_e4m3", math.inf),
        ("fp8_e4m3", -math.inf),
        ("e4m3fnuz", math.inf),
        ("e4m3fnuz", -0.0),
        ("e4m3fnuz", -math.inf),
        ("fp4_e2m1", math.inf),
        ("fp4_e2m1", math.nan),
        ("e3m0", math.nan),
        ("q4.4", math.nan),
        ("q4.4", math.inf),
        ("q4.4", -math.inf),
        ("q4.4", -0.0),
        ("uq4.4", -0.0625),
        ("uq4.4", -0.0),
        ("q4.4w", 8.0),
        ("fp16", 65536.0),
        ("fp16", 2.0**-25),
        ("fp32", 0.1),
        ("bf16", 1 + 2.0**-8),
        ("e8m7ftz", 2.0**-127),
        ("fp8_e4m3", 464.0),
        ("fp8_e4m3", 480.0),
    ],
)
def test_encode_refuses_specials_that_a_format_has_not(name, value):
    fmt = hu.format(name)
    for attempt in (lambda: fmt.encode([1.0, value]), lambda: fmt.encode(value)):
        with pytest.raises(hu.HalfulpError, match="is not a value of"):
            attempt()
    with pytest.raises(hu.HalfulpError):
        fmt.pack(exact(value))


@pytest.mark.parametrize("name", ["fp64", "fp16", "q4.4", "fp8_e4m3"])
def test_pack_refuses_numbers_beyond_binary64_with_a_sentence(name):
    fmt = hu.format(name)
    for value in (10**400, -(10**400), Fraction(1, 2**2000)):
        with pytest.raises(hu.HalfulpError, match="is not a value of"):
            fmt.pack(exact(value))


def test_encode_does_not_round_integers_on_the_way():
    """2^53 + 1 is no value of binary64: it is refused, not taken for its neighbour."""
    with pytest.raises(hu.HalfulpError):
        hu.format("fp64").encode(np.array([2**53 + 1]))


def test_sat_formats_keep_their_infinities():
    """Saturation concerns results, not codes: e5m2sat has the codes of e5m2."""
    codes = np.arange(256, dtype=np.uint8)
    assert same(hu.format("e5m2sat").decode(codes), hu.format("e5m2").decode(codes))
    assert hu.format("e5m2sat").encode(math.inf) == 0x7C


@pytest.mark.parametrize("name", ["e2m1finite", "fp16", "q4.4", "fp64"])
def test_codes_out_of_range_are_refused(name):
    fmt = hu.format(name)
    top = 2**fmt.bits
    for codes in ([0, top], [-1], top, -top):
        with pytest.raises(hu.HalfulpError, match=r"must (lie in|be integers)"):
            fmt.decode(codes)
    for codes in ([0.0], [1.5], ["a"], 3.0, [True], [None], [1j]):
        with pytest.raises(hu.HalfulpError, match="must be integers"):
            fmt.decode(codes)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("fp4_e2m1", "u1"),
        ("e4m3fn", "u1"),
        ("e5m3", "u2"),
        ("fp16", "u2"),
        ("tf32", "u4"),
        ("fp32", "u4"),
        ("e8m24", "u8"),
        ("fp64", "u8"),
    ]
    + [
        ("q1.0", "u1"),
        ("q8.0", "u1"),
        ("q8.1", "u2"),
        ("q16.0", "u2"),
        ("q16.1", "u4"),
        ("q32.0", "u4"),
        ("q32.1", "u8"),
    ],
)
def test_codes_come_in_the_narrowest_dtype(name, dtype):
    assert hu.format(name).encode([0.0]).dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64])
def test_decode_takes_every_integer_dtype(dtype):
    codes = np.arange(128, dtype=dtype)
    assert same(hu.format("e4m3fn").decode(codes), hu.format("e4m3fn").decode(np.arange(128)))


def test_decode_takes_lists_of_python_integers():
    assert same(hu.format("fp64").decode([1, 2**63]), np.array([5e-324, -0.0]))


@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3), (2, 1, 3), (0,), (0, 4)])
def test_shapes_are_kept(shape):
    fmt = hu.format("fp16")
    codes = np.zeros(shape, dtype=np.uint16)
    assert fmt.decode(codes).shape == shape
    assert fmt.encode(np.ones(shape)).shape == shape


def test_arrays_in_any_layout():
    fmt = hu.format("fp16")
    values = fmt.decode(np.arange(64).reshape(8, 8))
    codes = fmt.encode(values)
    for view in (np.s_[::2, ::3], np.s_[::-1], np.s_[:, 5]):
        assert np.array_equal(fmt.encode(values[view]), codes[view])
        assert same(fmt.decode(codes[view]), values[view])
    assert np.array_equal(fmt.encode(values.T), codes.T)
    assert np.array_equal(fmt.encode(values.astype(np.float32)), codes)
    assert fmt.encode([[1, 2], [3, 4]]).tolist() == [[0x3C00, 0x4000], [0x4200, 0x4400]]


@pytest.mark.parametrize("name", ["fp64", "fp32", "fp16", "e4m3fn", "e11m52ftz", "q-20.40", "q4.4"])
def test_no_code_gives_a_warning(name):
    """A caller may run under ``-W error`` or ``np.errstate(all="raise")``."""
    fmt = hu.format(name)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        values = fmt.decode(np.array(cases.special_codes(str(fmt)), dtype=np.uint64))
        fmt.encode(values)


def test_unpacked_becomes_the_nearest_float():
    assert float(Unpacked(Kind.FINITE, True)) == 0.0 and math.copysign(1, float(Unpacked(Kind.FINITE, True))) == -1
    assert float(Unpacked(Kind.INFINITY, True)) == -math.inf and math.isnan(float(Unpacked(Kind.NAN)))
    assert float(Unpacked(Kind.FINITE, False, 2**53 + 1, 0)) == 2.0**53
    assert float(Unpacked(Kind.FINITE, True, 3, -2)) == -0.75
    assert float(Unpacked(Kind.FINITE, False, 3, -1075)) == 2.0**-1073
    assert float(Unpacked(Kind.FINITE, False, 1, 2000)) == math.inf


def test_every_pair_of_listed_formats_is_told_apart():
    """Equality is by fields: no two of the names above are one format."""
    formats = [hu.format(name) for name in EVERY_CODE + WIDE]
    assert all((a == b) == (i == j) for (i, a), (j, b) in itertools.product(enumerate(formats), repeat=2))
