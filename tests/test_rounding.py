"""Names of roundings: what is accepted, what comes back, and what is refused with a sentence that helps."""

import cases
import halfulp as hu
import pytest
from halfulp.emulator.rounding import Mode

BUILT_IN = {"RNE": hu.RNE, "RNA": hu.RNA, "RTZ": hu.RTZ, "RTP": hu.RTP, "RTN": hu.RTN, "RTO": hu.RTO}


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
    ],
)
def test_case_and_blanks_do_not_matter(text, rounding):
    assert hu.Rounding.parse(text) == rounding


@pytest.mark.parametrize("rounding", [*BUILT_IN.values(), hu.SR(1), hu.SR(32)], ids=str)
def test_a_rounding_parses_to_itself(rounding):
    assert hu.Rounding.parse(rounding) is rounding
    assert hu.Rounding.parse(str(rounding)) == rounding
    assert hash(hu.Rounding.parse(str(rounding))) == hash(rounding)


@pytest.mark.parametrize(
    "text",
    ["", "RN", "nearest", "RNE8", "RNZ", "SR-1", "SR()", "SR(bits=)", "SR8.5", "SR 8 8", "SR(8", "RNE RTZ", None, 3],
)
def test_unknown_names_are_refused_and_the_known_ones_listed(text):
    with pytest.raises(hu.HalfulpError, match=r"unknown rounding .*RNE, RNA, RTZ, RTP, RTN, RTO, or SR<k>"):
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
    for wrong in ("", "/fp32", "fp16//", "fp16@", "fp16:fused", "fp16:fused4:fused4", "fp16@RNE:product="):
        with pytest.raises(hu.HalfulpError, match="OPERANDS"):
            hu.Datapath.parse(wrong)


def test_rounding_constants_and_orders_are_what_their_names_say():
    assert [str(r) for r in (hu.RNE, hu.RNA, hu.RTZ, hu.RTP, hu.RTN, hu.RTO, hu.SR(4))] == [
        "RNE",
        "RNA",
        "RTZ",
        "RTP",
        "RTN",
        "RTO",
        "SR4",
    ]
    assert isinstance(hu.sequential, hu.Sequential) and isinstance(hu.fused(4, guard_bits=1), hu.Fused)
