"""Function units over arrays of codes: what the exhaustive proofs do not reach, against the definition."""

import halfulp as hu
import numpy as np
import pytest
from halfulp.kernels.evaluate import evaluate

MODES = ["RNE", "RNA", "RND", "RTZ", "RTP", "RTN", "RTO"]
FIXED = ["q4.4", "q4.4w", "q8.8w", "q8.45w", "uq26.25w", "q-7.9w", "q0.53w", "q4.12", "uq0.8", "q20.-4", "q-2.10"]


def codes_around(fmt, rng):
    """Codes near the ends, near the middle, and any."""
    top = (1 << fmt.bits) - 1
    near = [(base + i) & top for base in (0, (top + 1) >> 1, top) for i in range(-12, 13)]
    return np.concatenate([np.array(near, np.uint64), rng.integers(0, top, 300, np.uint64, endpoint=True)])


def check(unit, *columns, random=None):
    codes, flags = evaluate(unit, *columns, random=random)
    bits = [None] * len(codes) if random is None else random.tolist()
    rows = zip(*(x.tolist() for x in columns), bits, strict=True)
    for i, row in enumerate(rows):
        assert (int(codes[i]), int(flags[i])) == unit(*row[:-1], random=row[-1])


@pytest.mark.parametrize("name", FIXED)
def test_fixed_point_rounded_to_integers(name):
    """Also where numbers wrap: at the ends of the format's range, not at those of its integers."""
    columns = codes_around(hu.format(name), np.random.default_rng(1))
    for rounding in MODES:
        check(hu.function(f"{name}_round_to_integral", rounding), columns)


@pytest.mark.parametrize(
    "name",
    ["fp16_round_to_integral_to_e4m3fn", "fp32_round_to_integral_to_fp16", "e4m3fn_round_to_integral_to_fp16",
     "q6.4_round_to_integral_to_q4.4", "fp16_round_to_integral_to_e4m3b-3", "e5m8b1_roundToInt",
     "e4m3ftzb-1_roundToInt", "ue4m2b-1_roundToInt"],
)  # fmt: skip
def test_integers_that_the_result_may_not_hold(name):
    """They are rounded again, into its format."""
    function = hu.function(name)
    columns = codes_around(function.operands[0], np.random.default_rng(3))
    if function.operands[0].bits <= 16:
        columns = np.arange(1 << function.operands[0].bits, dtype=np.uint64)[
            :: 1 if function.operands[0].bits < 12 else 7
        ]
    for rounding in MODES:
        check(hu.function(name, rounding), columns)


@pytest.mark.parametrize("operation", ["div", "sqrt", "mul", "fma"])
@pytest.mark.parametrize("name", [name for name in FIXED if name.endswith("w")])
def test_wrapping_formats(name, operation):
    rng, unit = np.random.default_rng(2), hu.function(f"{name}_{operation}", "SR5")
    columns = [codes_around(hu.format(name), rng) for _ in unit.operands]
    random = rng.integers(0, 32, columns[0].size, np.uint64)
    check(unit, *(rng.permutation(x) for x in columns), random=random)


def test_posits_and_integers():
    """The Standard for Posit Arithmetic (2022), section 6.4: NaR and overflow are 100...0, and that is NaR."""
    nar = 0x8000
    assert hu.function("posit16_to_i32")(nar) == (0x80000000, hu.Flags.INVALID)
    assert hu.function("posit16_to_i8")(0x7FFF) == (0x80, hu.Flags.INVALID)
    assert hu.function("posit16_to_i8")(0x4000) == (1, 0)
    assert hu.function("i32_to_posit16")(0x80000000) == (nar, 0)
    assert hu.function("i32_to_posit16")(0xFFFFFFFF) == (0xC000, 0)


def test_operands_and_random_integers_have_one_shape():
    unit, one, two = hu.function("f16_mul", "SR3"), np.ones(1, np.uint16), np.ones(2, np.uint16)
    for operands, random in (((one, two), two), ((two, two), one), ((two, two), np.array([-1, 3])), ((two, two), None)):
        with pytest.raises(hu.HalfulpError):
            evaluate(unit, *operands, random=random)
    with pytest.raises(hu.HalfulpError, match="stochastically"):
        unit(1, 2)


def test_signaling_nans_count_in_codes_and_not_in_values():
    signaling = np.array([0x7FF0000000000001], np.uint64)
    assert evaluate(hu.function("f64_to_f16"), signaling)[1] == [int(hu.Flags.INVALID)]
    for x in (signaling.view(float), np.array([0x7F800001], np.uint32).view(np.float32)):
        for fmt in ("fp16", "fp32", "e11m40"):
            assert hu.quantize(x, fmt, flags=True)[1] == [0] and hu.add(x, x, fmt, flags=True)[1] == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: hu.quantize([1.0], "fp16", "SR8", random=5),
        lambda: hu.quantize([1.0], "fp16", "SR8", random=None),
        lambda: hu.quantize([1.0], "fp16", "SR8", random="lfsr16:clocks=99999999999999999999"),
        lambda: hu.LFSR(16, seed=1.5),
        lambda: hu.Scoreboard(hu.reference("mul", "fp16")).check((1, 2), code="X"),
        lambda: hu.Scoreboard(hu.reference("mul", "fp16")).check((1, 2), code=1 << 16),
        lambda: hu.Scoreboard(hu.reference("mul", "fp16")).check((1, 2), code=0, flags=99),
        lambda: hu.reference("mul", "fp16")(1, 2, random=3),
        lambda: hu.reference("mul", "fp16", conventions="sparc"),
        lambda: hu.reference("mul", "fp16")("1", 2),
        lambda: hu.function(5),
        lambda: hu.FloatFormat(5, 10, "fn"),
        lambda: hu.quantize([1.0, 2.0], "mxfp4", axis="a"),
        lambda: hu.decode(np.ones(2, np.uint16), "fp16", dtype="foo"),
    ],
)
def test_wrong_arguments_get_one_sentence(wrong):
    with pytest.raises(hu.HalfulpError) as raised:
        wrong()
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_numpy_integers_are_codes():
    mul = hu.reference("mul", "fp64")
    a, b = 0x3FF123456789ABCD, 0x4001234567891234
    assert mul(np.int64(a), np.uint64(b)) == mul(a, b)
