"""Names of roundings: what is accepted, what comes back, and what is refused with a sentence that helps."""

import pickle
from fractions import Fraction

import cases
import halfulp as hu
import pytest
from halfulp.emulator.arithmetic import exact, round_pack
from halfulp.emulator.rounding import Mode

BUILT_IN = {"RNE": hu.RNE, "RNA": hu.RNA, "RND": hu.RND, "RTZ": hu.RTZ, "RTP": hu.RTP, "RTN": hu.RTN, "RTO": hu.RTO}


@pytest.mark.parametrize("name", cases.MODES)
def test_deterministic_modes_have_a_constant_and_a_name(name):
    rounding = hu.Rounding.parse(name)
    assert rounding == BUILT_IN[name] == hu.Rounding(Mode[name])
    assert str(rounding) == name
    assert rounding.random_bits == 0


@pytest.mark.parametrize("bits", range(1, 33))
def test_sr_carries_its_random_bits(bits):
    rounding = hu.SR(bits)
    assert rounding == hu.SR(bits=bits) == hu.Rounding(Mode.SR, bits)
    assert rounding.random_bits == bits
    assert str(rounding) == f"SR{bits}"
    for text in (f"SR{bits}", f"SR({bits})", f"SR(bits={bits})"):
        assert hu.Rounding.parse(text) == rounding


@pytest.mark.parametrize(
    ("text", "rounding"),
    [
        ("rne", hu.RNE),
        (" RTZ ", hu.RTZ),
        ("Rto", hu.RTO),
        ("sr8", hu.SR(8)),
        ("sr(BITS=5)", hu.SR(5)),
        (" SR3\n", hu.SR(3)),
        ("SR", hu.SR(32)),
        ("SR8c", hu.SR(8, corrected=True)),
        ("sr(bits=5)C", hu.SR(5, True)),
        ("SRc", hu.SR(32, True)),
    ],
)
def test_case_and_blanks_do_not_matter(text, rounding):
    assert hu.Rounding.parse(text) == rounding


@pytest.mark.parametrize("rounding", [*BUILT_IN.values(), hu.SR(1), hu.SR(32), hu.SR(8, corrected=True)], ids=str)
def test_a_rounding_parses_to_itself(rounding):
    assert hu.Rounding.parse(rounding) is rounding
    assert hu.Rounding.parse(str(rounding)) == rounding
    assert hash(hu.Rounding.parse(str(rounding))) == hash(rounding)


@pytest.mark.parametrize(
    "text",
    ["", "RN", "nearest", "RNE8", "RNZ", "SR-1", "SR()", "SR(bits=)", "SR8.5", "SR 8 8", "SR(8", "RNE RTZ", None, 3],
)
def test_unknown_names_are_refused_and_the_known_ones_listed(text):
    said = r"unknown rounding .*: use RNE, RNA, RND, RTZ, RTP, RTN, RTO, or SR<k>, SR<k>c"
    with pytest.raises(hu.HalfulpError, match=said):
        hu.Rounding.parse(text)


@pytest.mark.parametrize("bits", [0, 33, 64, 10**9])
def test_sr_needs_1_to_32_random_bits(bits):
    for make in (
        lambda: hu.SR(bits),
        lambda: hu.Rounding.parse(f"SR{bits}"),
        lambda: hu.Rounding.parse(f"SR(bits={bits})"),
    ):
        with pytest.raises(hu.HalfulpError, match="SR needs 1 to 32 random bits"):
            make()
    with pytest.raises(hu.HalfulpError):
        hu.SR(-1)


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.SR])
def test_other_modes_take_no_random_bits(mode):
    with pytest.raises(hu.HalfulpError, match=f"{mode.value} takes no random bits"):
        hu.Rounding(mode, 4)
    with pytest.raises(hu.HalfulpError, match=f"{mode.value} takes no random bits"):
        hu.Rounding(mode, corrected=True)


def test_a_rounding_cannot_be_changed():
    with pytest.raises(AttributeError):
        hu.RNE.random_bits = 3


@pytest.mark.parametrize(
    "text",
    [
        "fp16@RNE",
        "bf16/fp32@RTZ",
        "bf16*fp8_e4m3/fp32@RNE",
        "q4.12/q16.24/q4.12@RNE/SR16",
        "fp8_e4m3/e8m13/bf16@RTZ:fused32g2",
        "fp16/fp32@RNE:fused4",
        "fp16/fp32@SR8:product=bf16@RTZ",
        "fp16/fp32@RNE:operands=SR4",
    ],
)
def test_a_datapaths_name_is_its_text_form(text):
    dp = hu.Datapath.parse(text)
    assert dp.name == text and hu.Datapath.parse(dp.name) == dp


def test_a_datapaths_text_form_fills_in_what_is_left_out():
    assert hu.Datapath("fp16", product_rounding="RTZ") == hu.Datapath("fp16")  # nothing is rounded there
    assert hu.Datapath.parse("bf16/fp32") == hu.Datapath("bf16", accumulator="fp32")
    assert hu.Datapath.parse("fp8_e4m3/fp32:fused16g2").order == hu.fused(16, guard_bits=2)
    for wrong in ("", "/fp32", "fp16//", "fp16@", "fp16:pairs", "fp16:fused4:fused4", "fp16@RNE:product="):
        with pytest.raises(hu.HalfulpError, match="OPERANDS"):
            hu.Datapath.parse(wrong)
    with pytest.raises(hu.HalfulpError, match="order 'fused' is none of"):
        hu.Datapath.parse("fp16:fused")


def test_a_remembered_hash_is_not_pickled():
    """Hashes of strings are another process's own."""
    datapath = hu.Datapath.parse("bf16/fp32@SR8")
    known = hash(datapath)
    again = pickle.loads(pickle.dumps(datapath))
    assert "_hash" in vars(datapath) and "_hash" not in vars(again)
    assert again == datapath and hash(again) == known


def test_rounding_constants_and_orders_are_what_their_names_say():
    assert [str(r) for r in (hu.RNE, hu.RNA, hu.RND, hu.RTZ, hu.RTP, hu.RTN, hu.RTO, hu.SR(4))] == [
        "RNE",
        "RNA",
        "RND",
        "RTZ",
        "RTP",
        "RTN",
        "RTO",
        "SR4",
    ]
    assert isinstance(hu.sequential, hu.Sequential) and isinstance(hu.fused(4, guard_bits=1), hu.Fused)


def nearest_even(x):
    return round(x)  # of a Fraction: ties to even


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_corrected_stochastic_rounding(k):
    """arXiv:2504.20634: the part cut off is rounded to k bits, to nearest even, before the random integer is added."""
    fmt = hu.format("q4.0")
    for part in range(0, 129):
        f = Fraction(part, 128)
        for sign in (1, -1):
            ups = [round_pack(exact(sign * (2 + f)), fmt, hu.SR(k, corrected=True), r).code for r in range(2**k)]
            ups = [abs(float(fmt.unpack(code))) == 3 for code in ups]
            assert ups == [nearest_even(f * 2**k) + r >= 2**k for r in range(2**k)]


def test_corrected_stochastic_rounding_has_no_bias_where_plain_has():
    fmt, k = hu.format("e4m3"), 2
    points = [1 + Fraction(i, 8 * 64) for i in range(64)]
    for corrected, bias in ((False, Fraction(-1, 8) + Fraction(1, 128)), (True, 0)):
        rounding = hu.SR(k, corrected)
        errors = [
            fmt.unpack(round_pack(exact(x), fmt, rounding, r).code).fraction - x for x in points for r in range(4)
        ]
        assert sum(errors) / len(errors) * 8 == bias


def test_gfloat_rounds_stochastically_alike():
    """gfloat's StochasticFastest is plain SR, its Stochastic the corrected one."""
    gfloat = pytest.importorskip("gfloat")
    from gfloat.formats import format_info_ocp_e4m3

    fmt, modes = hu.format("e4m3fn"), gfloat.RoundMode
    draw = cases.rng("gfloat stochastic")
    for _ in range(3000):
        k, x = draw.randint(1, 8), draw.uniform(-400, 400) * 2.0 ** draw.randint(-16, 0)
        x = draw.choice([x, round(x * 2**12) / 2**12, round(x * 4) / 4])
        r = draw.randrange(2**k)
        for corrected, mode in ((False, modes.StochasticFastest), (True, modes.Stochastic)):
            theirs = gfloat.round_float(format_info_ocp_e4m3, x, mode, srbits=r, srnumbits=k)
            assert float(fmt.unpack(round_pack(exact(x), fmt, hu.SR(k, corrected), r).code)) == theirs
