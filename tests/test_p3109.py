"""IEEE P3109's formats, unsigned floats and OCP's E8M0.

The reference below is written from the P3109 interim report (Decode, RoundToPrecision, Saturate), on fractions, and
shares nothing with halfulp; gfloat and ml_dtypes are second witnesses where they are installed.
"""

import itertools
import math
from fractions import Fraction

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic, comparison, operations
from halfulp.emulator.arithmetic import Flags, exact, round_pack
from halfulp.emulator.comparison import Class
from halfulp.emulator.formats import Kind, Specials, Unpacked

ALL = [
    (k, p, sign, domain) for k in range(3, 9) for sign in "su" for domain in "ef" for p in range(1, k + (sign == "u"))
]
INF = Fraction(10) ** 99  # stands for infinity: far beyond every format here
NAN = None


def name_of(k, p, sign, domain):
    return f"binary{k}p{p}{sign}{domain}"


def two(e):
    return Fraction(2) ** e


class Reference:
    """A format of the report: its codes, and Project."""

    def __init__(self, k, p, sign, domain):
        self.k, self.p, self.signed, self.extended = k, p, sign == "s", domain == "e"
        self.bias = 2 ** (k - p - 1) if self.signed else 2 ** (k - p)
        self.values = [self.decode(code) for code in range(2**k)]
        finite = [v for v in self.values if v is not NAN and abs(v) != INF]
        self.low, self.high = min(finite), max(finite)
        self.codes = {v: code for code, v in enumerate(self.values)}

    def decode(self, code):
        """Section "Decode"."""
        half, last = 2 ** (self.k - 1), 2**self.k - 1
        if code == (half if self.signed else last):
            return NAN
        if self.extended and code == (half - 1 if self.signed else last - 1):
            return INF
        if self.extended and self.signed and code == last:
            return -INF
        if self.signed and code > half:
            return -self.decode(code - half)
        field, trailing = divmod(code, 2 ** (self.p - 1))
        significand = trailing * two(1 - self.p)
        return significand * two(1 - self.bias) if field == 0 else (1 + significand) * two(field - self.bias)

    def project(self, x, mode, saturate=False, k=0, r=0):
        """Sections "RoundToPrecision" and "Saturate" (SatNone or SatFinite) and "Encode"; mode SR is StochasticA."""
        return self.codes[self._saturate(x if abs(x) == INF or x == 0 else self._round(x, mode, k, r), mode, saturate)]

    def _round(self, x, mode, k, r):
        e = 0
        while two(e) > abs(x):
            e -= 1
        while two(e + 1) <= abs(x):
            e += 1
        e = max(e, 1 - self.bias) - self.p + 1
        whole = math.floor(abs(x) * two(-e))
        delta = abs(x) * two(-e) - whole
        even = whole % 2 == 0 if self.p > 1 else whole == 0 or (e + self.bias) % 2 == 0
        away = {
            "RNE": delta > Fraction(1, 2) or (delta == Fraction(1, 2) and not even),
            "RNA": delta >= Fraction(1, 2),
            "RND": delta > Fraction(1, 2) or (delta == Fraction(1, 2) and x < 0),
            "RTZ": False,
            "RTP": delta > 0 and x > 0,
            "RTN": delta > 0 and x < 0,
            "RTO": delta > 0 and even,
            "SR": math.floor(delta * 2**k) + r >= 2**k,
        }[mode]
        return (1 if x > 0 else -1) * (whole + away) * two(e)

    def _saturate(self, x, mode, saturate):
        if self.low <= x <= self.high:
            return x
        if saturate:
            return self.high if x > 0 else self.low
        if abs(x) != INF and mode in ("RTZ", "RTN" if x > 0 else "RTP"):
            return self.high if x > 0 else self.low
        if abs(x) != INF and mode == "RTO" and x > 0 and self.extended and not self.signed:
            return self.high
        if self.extended and (x > 0 or self.signed):
            return INF if x > 0 else -INF
        return NAN


def same(x, y):
    """Equal in every element: NaN equals NaN, and -0 differs from +0."""
    return np.array_equal(x, y, equal_nan=True) and np.array_equal(np.signbit(x), np.signbit(y) & ~np.isnan(y))


@pytest.mark.parametrize("fields", ALL, ids=lambda f: name_of(*f))
def test_every_code_denotes_what_the_report_says(fields):
    fmt, reference = hu.format(name_of(*fields)), Reference(*fields)
    assert hu.format(str(fmt)) == fmt and fmt.bits == fields[0] and fmt.precision == fields[1]
    values = [
        math.nan if v is NAN else math.copysign(math.inf, v) if abs(v) == INF else float(v) for v in reference.values
    ]
    codes = np.arange(2**fmt.bits)
    assert same(fmt.decode(codes), np.array(values)) and np.array_equal(fmt.encode(values), codes)
    for code, value in enumerate(values):
        datum = fmt.unpack(code)
        assert float(datum) == value or math.isnan(value)
        assert fmt.pack(datum) == code
    assert (Fraction(fmt.min_finite), Fraction(fmt.max_finite)) == (reference.low, reference.high)
    assert (fmt.has_infinity, fmt.has_nan, fmt.has_negative_zero) == (reference.extended, True, False)
    positive = [v for v in reference.values if v is not NAN and 0 < v < INF]
    assert Fraction(fmt.min_subnormal) == min(positive) and fmt.unpack(fmt.max_code).fraction == max(positive)
    assert two(fmt.emax) <= max(positive) < two(fmt.emax + 1)


@pytest.mark.parametrize("fields", ALL, ids=lambda f: name_of(*f))
def test_projection_follows_the_report(fields):
    """At, between and beyond all values, in every mode, with and without saturation."""
    name, reference = name_of(*fields), Reference(*fields)
    finite = sorted(v for v in reference.values if v is not NAN and abs(v) != INF)
    gap = finite[-1] - finite[-2]
    eighths = (0, 3, 4, 7) if fields[0] < 7 else (4,)
    points = [a + (b - a) * Fraction(i, 8) for a, b in itertools.pairwise(finite) for i in eighths]
    points += [finite[-1] + gap * Fraction(i, 4) for i in (0, 1, 2, 3, 4, 40)]
    points += [-x for x in points[-80:]] + [-x for x in points[:8]] + [INF, -INF]
    for fmt, saturate in ((hu.format(name), False), (hu.format(name + "sat"), True)):
        for x in points:
            datum = Unpacked(Kind.INFINITY, x < 0) if abs(x) == INF else exact(x)
            for i, mode in enumerate(("RNE", "RNA", "RND", "RTZ", "RTP", "RTN", "RTO", "SR")):
                k, r = (2, (abs(x.numerator) + i) % 4) if mode == "SR" else (0, 0)
                wanted = reference.project(x, mode, saturate, k, r)
                found = round_pack(datum, fmt, hu.SR(k) if k else hu.Rounding.parse(mode), r)
                if (
                    mode == "RTO"
                    and not reference.extended
                    and not saturate
                    and abs(x) != INF
                    and wanted == fmt.nan_code
                ):
                    # finite formats: we stop at the end of the range, as fnuz, whose layout this is
                    wanted = arithmetic.round_pack(exact(x), fmt, hu.RTZ).code
                assert found.code == wanted, f"{x} {mode} {r} -> {fmt}"
                value = reference.values[wanted]
                changed = value is NAN or abs(value) == INF or value != x
                assert bool(found.flags) == (changed and not (abs(x) == INF and value == x))


def test_gfloat_decodes_alike():
    gfloat = pytest.importorskip("gfloat")
    from gfloat.formats import format_info_ocp_e8m0, format_info_p3109

    for k, p, sign, domain in ALL:
        fmt = hu.format(name_of(k, p, sign, domain))
        info = format_info_p3109(
            k,
            p,
            gfloat.Signedness.Signed if sign == "s" else gfloat.Signedness.Unsigned,
            gfloat.Domain.Extended if domain == "e" else gfloat.Domain.Finite,
        )
        theirs = np.array([gfloat.decode_float(info, code).fval for code in range(2**k)])
        assert same(fmt.decode(np.arange(2**k)), theirs), fmt
    theirs = np.array([gfloat.decode_float(format_info_ocp_e8m0, code).fval for code in range(256)])
    assert same(hu.format("e8m0").decode(np.arange(256)), theirs)


# -------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("binary8p4sf", "e4m3fnuz"),
        ("binary8p3sf", "e5m2fnuz"),
        ("binary8p4se", "binary8p4se"),
        ("Binary8p3UE", "binary8p3ue"),
        ("binary8p1uf", "binary8p1uf"),
        ("ue8m0fnuz", "binary8p1uf"),
        ("binary8p3sesat", "binary8p3sesat"),
        ("binary8p3seftzb10sat", "binary8p3seftzb10sat"),
        ("e8m0", "ue8m0"),
        ("ue8m0fn", "ue8m0"),
        ("ue4m3", "ue4m3"),
        ("ue4m3fnsat", "ue4m3sat"),
        ("ue5m3finite", "ue5m3finite"),
        ("se8m0", "se8m0"),
        ("se5m2", "e5m2"),
        ("se8m0fnuz", "se8m0fnuz"),
        ("e1m6fnuz", "e1m6fnuz"),
    ],
)
def test_names(name, canonical):
    fmt = hu.format(name)
    assert str(fmt) == canonical and hu.format(canonical) == fmt


def test_signed_finite_formats_are_the_fnuz_layout():
    for k, p, sign, domain in ALL:
        if (sign, domain) == ("s", "f"):
            assert hu.format(name_of(k, p, sign, domain)) == hu.FloatFormat(k - p, p - 1, Specials.FNUZ)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("binary8p8se", r"P must lie in 1\.\.\.7"),
        ("binary8p9uf", r"P must lie in 1\.\.\.8"),
        ("binary8p0sf", r"P must lie in 1\.\.\.7"),
        ("binary2p1se", "outside e2m0"),
        ("binary16p1ue", "outside e2m0"),
        ("e1m3", "outside e2m0"),
        ("e1m0fn", "outside e2m0"),
        ("binary8p3e", "unknown format"),
    ],
)
def test_what_is_no_format_is_refused(name, why):
    with pytest.raises(hu.HalfulpError, match=why):
        hu.format(name)


def test_unsigned_floats_have_no_ieee_layout():
    with pytest.raises(hu.HalfulpError, match="unsigned e5m3 has no IEEE 754 layout"):
        hu.FloatFormat(5, 3, signed=False)


# ----------------------------------------------------------------------------- unsigned results, E8M0, no sign of zero

BEYOND, TINY = Flags.OVERFLOW | Flags.INEXACT, Flags.UNDERFLOW | Flags.INEXACT


@pytest.mark.parametrize("name", ["binary8p3ue", "binary8p3uf", "ue4m3", "ue4m3sat", "ue2m3finite", "binary6p1uesat"])
def test_negative_results_overflow_an_unsigned_format(name):
    """To NaN, or to 0 in the modes that point upward, and where there is no NaN or ``sat``."""
    fmt = hu.format(name)
    low = fmt.saturate or not fmt.has_nan
    for mode in ("RNE", "RNA", "RTN", "RTZ", "RTP"):
        stays = low or mode in ("RTZ", "RTP")
        rounding = hu.Rounding.parse(mode)
        for x in (-1.0, -3.25, -fmt.max_finite):
            assert round_pack(exact(x), fmt, rounding) == (0 if stays else fmt.nan_code, BEYOND)
        assert round_pack(Unpacked(Kind.INFINITY, True), fmt, rounding) == (0 if low else fmt.nan_code, BEYOND)
        assert round_pack(exact("-0"), fmt, rounding) == (0, Flags.NONE)
        tiny = Fraction(fmt.min_subnormal) / -8  # rounds to zero, or to the negative neighbour, which is not there
        wanted = (0 if low else fmt.nan_code, BEYOND) if mode == "RTN" else (0, TINY)
        assert round_pack(exact(tiny), fmt, rounding) == wanted


def test_e8m0_equals_ml_dtypes():
    """From normal float32 numbers, RNE: ties go up, as p = 1 has no even neighbour.

    Of subnormal ones ml_dtypes (0.6.0) rounds up whatever lies above 2^-127, which is not to nearest; we do not.
    """
    ml_dtypes = pytest.importorskip("ml_dtypes")
    fmt = hu.format("e8m0")
    rng = np.random.default_rng(0)
    bits = np.concatenate(
        [rng.integers(1 << 23, 255 << 23, 4000), np.arange(1, 255) << 23, (np.arange(2, 510) << 22) + 1]
    )
    values = np.concatenate([bits.astype(np.uint32).view(np.float32), np.float32([np.inf, np.nan])])
    values = np.concatenate([values, -values[:50], np.ldexp(np.float32(1.5), np.arange(-126, 128))])
    theirs = values.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8).tolist()
    assert [round_pack(exact(float(x)), fmt).code for x in values] == theirs
    assert round_pack(exact(1.01 * 2.0**-127), fmt) == (0, Flags.INEXACT)


def test_e8m0_has_no_zero():
    fmt = hu.format("e8m0")
    assert (fmt.bits, fmt.emin, fmt.emax, fmt.nan_code) == (8, -127, 127, 255)
    assert (fmt.min_finite, fmt.min_subnormal, fmt.max_finite) == (2.0**-127, 2.0**-127, 2.0**127)
    for x in ("0", "-0", "1e-300", "-1e-300"):
        assert round_pack(exact(x), fmt) == (0, TINY)
    assert round_pack(exact(2.0**-127), fmt) == (0, Flags.NONE)
    assert round_pack(exact("-1"), fmt) == round_pack(exact("inf"), fmt) == (255, BEYOND)
    assert round_pack(exact("inf"), hu.format("ue8m0sat")) == (254, BEYOND)
    for refused in (lambda: fmt.encode([0.0]), lambda: fmt.pack(exact(0)), lambda: fmt.encode([-1.0])):
        with pytest.raises(hu.HalfulpError, match="is not a value of ue8m0"):
            refused()
    assert comparison.next_up(0, fmt).code == 1 and comparison.next_down(0, fmt).code == 0
    assert comparison.classify(fmt.unpack(0), fmt) is Class.POSITIVE_NORMAL


def test_division_by_an_unsigned_zero():
    """P3109 section "Divide": NaN; halfulp raises divide-by-zero beside it."""
    fmt = hu.format("binary8p3se")
    for x in (1, -1):
        assert operations.div(exact(x), exact(0), fmt) == (fmt.nan_code, Flags.DIVIDE_BY_ZERO)
    assert operations.div(exact(0), exact(0), fmt) == (fmt.nan_code, Flags.INVALID)


@pytest.mark.parametrize(
    "name", ["binary6p3ue", "binary6p3uf", "binary6p1se", "binary5p3seftz", "ue2m2", "ue5m0", "e1m3fnuz"]
)
def test_neighbours_classes_and_comparisons(name):
    fmt = hu.format(name)
    data = {code: fmt.unpack(code) for code in range(2**fmt.bits) if code != fmt.nan_code}
    values = sorted({float(x) for x in data.values()})
    for code, x in data.items():
        i = values.index(float(x))
        assert float(fmt.unpack(comparison.next_up(code, fmt).code)) == values[min(i + 1, len(values) - 1)]
        assert float(fmt.unpack(comparison.next_down(code, fmt).code)) == values[max(i - 1, 0)]
        small = x.kind is Kind.FINITE and 0 < abs(float(x)) < fmt.min_normal
        assert ("SUBNORMAL" in comparison.classify(x, fmt).name) == small
    assert comparison.next_up(fmt.nan_code, fmt) == comparison.next_down(fmt.nan_code, fmt) == (fmt.nan_code, 0)
    nan, one = fmt.unpack(fmt.nan_code), exact(1)
    assert comparison.minimum(nan, one, fmt).code == fmt.nan_code
    assert comparison.maximum_number(nan, one, fmt).code == fmt.pack(one)


def test_extrema_in_formats_without_nan():
    for name in ("e2m1finite", "q4.4", "ue2m2finite"):
        fmt = hu.format(name)
        assert comparison.minimum(Unpacked(Kind.NAN), exact(1), fmt) == (
            fmt.pack(arithmetic.exact_max(fmt)),
            Flags.INVALID,
        )
        assert comparison.maximum(exact(1), exact(1.5), fmt) == (fmt.pack(exact(1.5)), Flags.NONE)


@pytest.mark.parametrize("name", ["binary8p3se", "binary8p1sf", "e8m0", "ue4m3"])
def test_arrays_are_rounded_into_these_as_the_definition_says(name):
    fmt, x = hu.format(name), [1.0, 1.5, 0.3, 0.0, -2.0, 1e-30, 1e30, float("inf"), float("nan")]
    results = [arithmetic.quantize(exact(v), fmt) for v in x]
    values, flags = hu.quantize(x, name, flags=True)
    assert list(map(repr, values.tolist())) == [repr(float(fmt.unpack(code))) for code, _ in results]
    assert flags.tolist() == [int(raised) for _, raised in results]
