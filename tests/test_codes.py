"""hu.encode and hu.decode give what the formats' own encode and decode give, and refuse what those refuse."""

import itertools

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic
from halfulp.emulator.codec import code_dtype
from halfulp.emulator.formats import Kind, Specials
from halfulp.kernels.target import fits_binary32
from kernel_cases import SEED, directed_codes, extreme_format, f, random_format

#: One name of each family and variant, up to 16 bits.
SMALL = [
    *("fp16", "bf16", "e4m3", "e5m2", "e4m3fn", "e4m3fnuz", "e5m2fnuz", "e2m0", "e2m1finite", "e3m2finite", "e11m4"),
    *("e4m3fnftz", "e5m10ftz", "e4m3fnsat", "e8m7b-300", "e8m7b900", "e5m10b20", "e11m4fnuz", "e11m2finite", "e9m6fn"),
    *("ue5m3fnuz", "ue4m4finite", "ue3m5", "e8m0", "se8m0fn", "e1m2finite", "e5m0", "e3m0fn"),
    *(f"binary{bits}p{p}{s}{d}" for bits in (3, 8, 11) for p in (1, 2, 3) for s in "su" for d in "ef"),
    *("binary15p4se", "binary16p5sf", "binary16p5ue", "posit8", "posit16", "posit8,0"),
    *(
        "q4.12",
        "uq4.12",
        "q8.8w",
        "q1.0",
        "uq1.0",
        "uq0.8",
        "q-2.10",
        "q20.-4",
        "q1.15",
        "uq16.0",
        "q300.-290",
        "q-300.310",
    ),
]
WIDE = [
    *("tf32", "fp32", "fp64", "e8m23ftz", "e11m12", "e11m40", "e11m50fnuz", "e11m52ftz", "binary32p24se", "posit32"),
    *("e10m51", "ue10m40fnuz", "q20.20", "uq30.22", "q53.0", "uq1.52w", "q8.16"),
]


def names(candidates):
    """Those that are names of formats: not every combination is."""
    for name in candidates:
        try:
            yield str(f(name))
        except hu.HalfulpError:
            continue


def same(x, y):
    kind = np.int64 if x.dtype == np.float64 else np.int32
    return (x.view(kind) == y.view(kind)) | (np.isnan(x) & np.isnan(y))


def check(fmt, codes):
    codes = codes.astype(code_dtype(fmt.bits))
    values = hu.decode(codes, fmt)
    assert same(values, fmt.decode(codes)).all(), fmt
    if fits_binary32(fmt):
        singles = hu.decode(codes, fmt, np.float32)
        with np.errstate(invalid="ignore"):  # signaling NaNs
            assert singles.dtype == np.float32 and same(singles, values.astype(np.float32)).all(), fmt
        assert np.array_equal(hu.encode(singles, fmt), hu.encode(values, fmt)), fmt
    again = hu.encode(values, fmt)
    assert again.dtype == code_dtype(fmt.bits) and np.array_equal(again, fmt.encode(values)), fmt
    number = ~np.isnan(values)
    assert np.array_equal(again[number], canonical(fmt, codes[number])), fmt


def canonical(fmt, codes):
    """The codes that numbers come back as: subnormal ones of an ftz format are zeros."""
    if not isinstance(fmt, hu.FloatFormat) or fmt.subnormals:
        return codes
    sign = codes & codes.dtype.type(fmt.sign_bit if fmt.signed else 0)
    small = (codes & codes.dtype.type(fmt.sign_bit - 1)) < fmt.min_normal_code
    return np.where(small, sign if fmt.has_negative_zero else codes.dtype.type(0), codes)


@pytest.mark.parametrize("name", sorted(set(names(SMALL))))
def test_every_code(name):
    fmt = f(name)
    codes = np.arange(1 << fmt.bits)
    check(fmt, codes)
    some = codes[:: max(1, codes.size >> 10)]
    assert same(
        hu.decode(some.astype(code_dtype(fmt.bits)), fmt), np.array([float(fmt.unpack(c)) for c in some.tolist()])
    ).all()


@pytest.mark.parametrize("name", WIDE)
def test_codes_of_wide_formats(name):
    check_some(f(name), np.random.default_rng([SEED, *map(ord, name)]), 20_000)


def check_some(fmt, rng, count):
    codes = rng.integers(0, (1 << fmt.bits) - 1, count, np.uint64, endpoint=True)
    check(fmt, np.concatenate([codes, np.array(directed_codes(fmt), np.uint64)]) if hasattr(fmt, "signed") else codes)


def test_codes_of_random_formats():
    rng = np.random.default_rng(SEED)
    for make, _ in itertools.product((random_format, extreme_format), range(250)):
        check_some(make(rng), rng, 100)


def test_signaling_nans_stay_signaling():
    """In binary64's own way: with the quiet bit 0. The definition says which are."""
    for name in ("fp16", "e4m3", "e5m2", "bf16", "e4m3fn", "e4m3fnuz", "e11m4"):
        fmt = f(name)
        codes = np.arange(1 << fmt.bits).astype(code_dtype(fmt.bits))
        values = hu.decode(codes, fmt)
        for code, bits in zip(codes.tolist(), values.view(np.uint64).tolist(), strict=True):
            datum = fmt.unpack(code)
            assert (datum.kind is Kind.NAN) == (bits & (1 << 63) - 1 > 0x7FF << 52)
            if datum.kind is Kind.NAN:
                assert datum.signaling == (not bits >> 51 & 1), (name, hex(code))
        if fmt.specials is Specials.IEEE:
            assert np.array_equal(hu.encode(values[np.isnan(values)], fmt), [fmt.nan_code] * np.isnan(values).sum())


def misfits(fmt):
    """Values that are none of the format's: between two of them, beyond the ends, and kinds of data it has not."""
    top, below = fmt.decode([fmt.pack(arithmetic.exact(fmt.max_finite)) - i for i in (0, 1)])
    yield from (fmt.min_subnormal * 0.75, top / 2 + below / 2, -fmt.min_subnormal * (1 + 2.0**-40))
    if fmt.max_finite < 1e300:
        yield from (fmt.max_finite * 1.5, -fmt.max_finite * 1.5, 1.7976931348623157e308)
    if fmt.min_subnormal > 1e-300:
        yield from (5e-324, -1e-310)
    if not fmt.has_infinity:
        yield from (np.inf, -np.inf)
    if not fmt.has_nan:
        yield np.nan
    if not fmt.has_negative_zero:
        yield -0.0
    if fmt.min_finite >= 0:
        yield from (-fmt.max_finite, -fmt.min_subnormal)


MISFITS = [
    *("fp16", "bf16", "fp32", "e4m3fn", "e4m3fnuz", "e2m1finite", "e5m10ftz", "binary8p3se", "binary8p4uf", "e11m12"),
    *("e8m7b-300", "e11m4fnuz", "q4.12", "uq4.12", "q8.8w", "q20.-4", "e8m0", "posit16"),
]


@pytest.mark.parametrize("name", MISFITS)
def test_what_is_no_value_is_refused(name):
    fmt = f(name)
    for wrong, place in itertools.product(misfits(fmt), (0, 6, 499)):
        x = np.ones(500) * 2.0 ** max(getattr(fmt, "emin", 0), 0)
        x[place] = wrong
        with pytest.raises(hu.HalfulpError, match="is not a value of"):
            hu.encode(x, fmt)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_code(threads):
    codes = np.random.default_rng(SEED).integers(0, 1 << 16, 200_001).astype(np.uint16)
    values = hu.decode(codes, "fp16", threads=threads)
    assert values.tobytes() == hu.decode(codes, "fp16", threads=1).tobytes()
    assert np.array_equal(hu.encode(values, "fp16", threads=threads), f("fp16").encode(values))


def test_shapes():
    codes = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for part in (codes, codes.T, codes[:, ::2, ::-1], codes[:0], codes[1, 2, 3]):
        assert np.array_equal(hu.decode(part, "e4m3fn"), f("e4m3fn").decode(part))
        assert hu.decode(part, "e4m3fn").shape == part.shape == hu.encode(hu.decode(part, "e4m3fn"), "e4m3fn").shape
    assert np.array_equal(hu.encode([[1.5, -2.0]], "e4m3fn"), f("e4m3fn").encode([[1.5, -2.0]]))
    wider = codes.astype(np.uint64)
    assert np.array_equal(hu.decode(wider, "e4m3fn"), hu.decode(codes, "e4m3fn"))


def test_out_takes_the_result():
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values, again = np.empty((16, 16), np.float32), np.empty_like(codes)
    assert hu.decode(codes, "e5m2", np.float32, out=values) is values and hu.encode(values, "e5m2", out=again) is again
    assert np.array_equal(again, hu.encode(hu.decode(codes, "e5m2"), "e5m2"))


ERRORS = {
    "codes into values": lambda: hu.encode(np.ones(3), "fp16", out=np.empty(3)),
    "values into codes": lambda: hu.decode(np.ones(3, np.uint8), "e4m3", out=np.empty(3, np.uint8)),
    "signed codes": lambda: hu.decode(np.array([1, 2]), "fp16"),
    "a list": lambda: hu.decode([1, 2], "fp16"),
    "floats": lambda: hu.decode(np.ones(2), "fp16"),
    "codes out of range": lambda: hu.decode(np.array([1 << 16], np.uint32), "fp16"),
    "wide fixed point": lambda: hu.decode(np.array([1], np.uint64), "q40.20"),
    "values of wide fixed point": lambda: hu.encode([1.0], "q40.20"),
    "too narrow a dtype": lambda: hu.decode(np.array([1], np.uint64), "fp64", np.float32),
    "half a dtype": lambda: hu.decode(np.array([1], np.uint8), "e4m3", np.float16),
    "an integer dtype": lambda: hu.decode(np.array([1], np.uint8), "q8.0", int),
    "text": lambda: hu.encode(["one"], "fp16"),
    "ragged": lambda: hu.encode([[1.0], [1.0, 2.0]], "fp16"),
    "block format": lambda: hu.encode([1.0], "mxfp8_e4m3"),
    "threads": lambda: hu.encode([1.0], "fp16", threads=0),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_input_gets_one_sentence(case):
    with pytest.raises(hu.HalfulpError) as raised:
        ERRORS[case]()
    message = str(raised.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 250
