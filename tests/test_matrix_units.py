"""Matrix units by name: each runs, with the bits of the definition, and computes what is published of it.

Directed facts are of Fasi et al. 2021 (doi:10.7717/peerj-cs.330), Khattak & Mikaitis 2025 (arXiv:2512.07004), MMA-Sim
(Xie et al., arXiv:2511.10909), DeepSeek-V3 (arXiv:2412.19437) and PTX ISA, as named.
"""

from __future__ import annotations

import json
import math
from functools import partial

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import datapath, names
from halfulp.emulator.blocks import Block, BlockFormat
from halfulp.emulator.random import Philox, stream
from kernel_cases import SEED, assert_codes, choice, directed_codes, tame_code, values

UNITS = hu.units()
EXPRESSED = list(dict.fromkeys(unit.datapath for unit in UNITS if unit.datapath))


def in_blocks(text):
    return isinstance(hu.Datapath.parse(text).a, BlockFormat)


def test_every_row_is_whole():
    assert all(isinstance(unit, hu.MatrixUnit) for unit in UNITS) and len({u[:5] for u in UNITS}) == len(UNITS)
    for unit in UNITS:
        assert unit.status == "literature" and unit.source and unit.note
        assert [names.alias(names.format(name)) for name in (unit.a, unit.b)]
        if unit.datapath:
            dp = hu.Datapath.parse(unit.datapath)
            assert dp.name == unit.datapath
            held = dp.output if unit.result != "int32" else hu.format(str(dp.output).removesuffix("w"))
            assert held == hu.format(unit.result)
            for fmt, name in ((dp.a, unit.a), (dp.b, unit.b)):
                assert str(fmt).removesuffix("ftz") == str(hu.format(name)), "flushing is all that may differ"


@pytest.mark.parametrize("text", [text for text in EXPRESSED if not in_blocks(text)])
def test_machines_run_them_with_the_bits_of_the_definition(text):
    dp = hu.Datapath.parse(text)
    rng = np.random.default_rng([SEED, *text.encode()])

    def codes(fmt, odd):
        return [choice(directed_codes(fmt), rng) if rng.random() < odd else tame_code(fmt, rng) for _ in range(37)]

    a, b = [codes(dp.a, odd) for odd in (0.0, 0.1, 0.4)], [codes(dp.b, odd) for odd in (0.0, 0.05)]
    found = hu.Machine(dp).matmul(values(dp.a, a), values(dp.b, b).T)
    wanted = [datapath.dot(dp, x, y) for x in a for y in b]
    assert_codes(dp.output, found, wanted, lambda i: f"{text}: {a[i // 2]} . {b[i % 2]}")


def blocks_of(fmt, rng, rows, length):
    """Blocks of any elements, few of them infinities or NaNs, and scales that lie close together, or do not."""
    codes = rng.integers(0, 1 << fmt.element.bits, (rows, length), np.uint8)
    codes[~np.isfinite(fmt.element.decode(codes)) & (rng.random(codes.shape) < 0.98)] = 0
    middle, spreads = (127, [0, 3, 40, 127]) if fmt.scale.precision == 1 else (64, [0, 3, 40, 63])
    spread = rng.choice(spreads, (rows, 1))
    scales = rng.integers(middle - spread, middle + 1 + spread, (rows, -(-length // fmt.size))).astype(np.uint8)
    one = None if fmt.tensor_scale is None else int(fmt.tensor_scale.encode(np.ones(1))[0])
    return hu.Blocks(codes, scales, one, 1)


def as_blocks(fmt, held, row):
    elements = [fmt.element.unpack(int(code)) for code in held.codes[row]]
    scales = [fmt.scale.unpack(int(code)) for code in held.scales[row]]
    return [Block(tuple(elements[i * fmt.size : (i + 1) * fmt.size]), scale) for i, scale in enumerate(scales)]


IN_BLOCKS = [text for text in EXPRESSED if in_blocks(text)]
IN_BLOCKS += ["mxfp6_e2m3/fp32@SR5:fused8g1", "mxint8*mxfp6_e3m2/bf16@RTN:fused16", "mxfp4*bf16/fp32:fused32g9"]
IN_BLOCKS += ["mxfp4x16/fp32@SR7:fused32x8g1e-30", "nvfp4/bf16:fused16x16e0n", "nvfp4*mxfp4x16/e8m9@RTN:fused8x4e-200"]
IN_BLOCKS += ["mxfp4/fp32:blocked64(fp32:fused32g2)", "nvfp4/fp32@SR4:blocked48(e8m13@RTZ:fused32x16g2)"]


@pytest.mark.parametrize("backend", ["cpu", "cxx"])
@pytest.mark.parametrize("text", IN_BLOCKS)
def test_those_in_blocks_do_so_too(text, backend):
    dp, rng = hu.Datapath.parse(text), np.random.default_rng([SEED, *text.encode()])
    for length in (5, 96, 150):
        x = blocks_of(dp.a, rng, 5, length)
        if isinstance(dp.b, BlockFormat):
            y = blocks_of(dp.b, rng, 4, length)
            columns = [as_blocks(dp.b, y, j) for j in range(4)]
            y = y._replace(codes=np.ascontiguousarray(y.codes.T), scales=np.ascontiguousarray(y.scales.T), axis=0)
        else:
            columns = [[choice(directed_codes(dp.b), rng) for _ in range(length)] for _ in range(4)]
            y = values(dp.b, columns).T
        found = hu.Machine(dp, backend, SEED).matmul(x, y)

        def draw(role, step, k, element):
            return Philox().random_bits(SEED, stream(1, role), element, step, k)

        wanted = [
            datapath.dot(dp, as_blocks(dp.a, x, i), columns[j], partial(draw, element=4 * i + j))
            for i in range(5)
            for j in range(4)
        ]
        assert_codes(dp.output, found, wanted, lambda i: f"{text}: row {i // 4}, column {i % 4}")


def test_steps_beyond_a_block_are_refused():
    with pytest.raises(hu.HalfulpError, match="no such wide sums of groups"):
        hu.Machine("mxfp8_e5m2/fp32:fused32x16g20")
    for text in ("mxfp8_e4m3/fp32:fused64", "nvfp4/fp32:fused16", "mxfp4/fp32:blocked48(fp32:fused32)"):
        with pytest.raises(hu.HalfulpError, match="work within a block at a time"):
            hu.Machine(text)


def test_names():
    assert hu.unit("H100", "fp16") == hu.Datapath.parse("fp16/fp32@RTZ:fused16g2n")
    assert hu.unit("h200", "FP16") == hu.unit("H100", "e5m10", result="fp32", instruction="mma")
    assert hu.unit("H100", "fp16", result="fp16") == hu.Datapath.parse("fp16@RNE:fused16g15e-21n")
    assert hu.unit("H100", "fp8_e4m3") == hu.unit("H100", "fp8_e4m3", instruction="wgmma")
    assert hu.unit("A100", hu.format("int8"), "uint8").name == "int8*uint8/q32.0w@RNE"
    assert hu.unit("MI250X", "bf16").order == hu.tree(4)
    assert hu.unit("MI250X", "bf16", instruction="mfma").order == hu.tree(2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("P100", "fp16"), "of V100, T4, A100, L40S, H100, B200, MI100, MI250X, MI300X, H200 they are"),
        (("V100", "bf16"), "V100 has no matrix unit for bf16; it has some for fp16."),
        (("V100", "fp16", "bf16"), "for fp16 and bf16; it has some for fp16*fp16 -> fp32 (mma), fp16*fp16 -> fp16"),
        (("A100", "int8", None, "fp32"), "for int8 with results in fp32; it has some for int8*int8 -> int32 (mma)"),
        (("A100", "fp16", None, None, "wgmma"), "for fp16 by wgmma"),
        (("H100", "fp61"), "unknown format 'fp61'"),
        (("H100", "fp8_e5m2", None, None, "mma"), "software runs it as two fp16 steps"),
    ],
)
def test_what_there_is_not(arguments, said):
    with pytest.raises(hu.HalfulpError) as error:
        hu.unit(*arguments)
    assert said in str(error.value)


def run_unit(dp, x, y=None):
    """The dot product of x and y (ones), by the kernels."""
    return hu.Machine(dp, on_inexact="quantize").dot(
        np.array(x, float), np.ones(len(x)) if y is None else np.array(y, float)
    )


WIDTHS = [
    *[("V100", "fp16", 4, 0), ("T4", "fp16", 8, 1), ("A100", "fp16", 8, 1), ("A100", "bf16", 8, 1)],
    *[("A100", "tf32", 4, 1), ("L40S", "fp16", 8, 1), ("L40S", "tf32", 4, 1), ("H100", "fp16", 16, 2)],
    *[("H100", "bf16", 16, 2), ("H100", "tf32", 8, 2), ("B200", "fp16", 16, 2), ("B200", "fp8_e5m2", 32, 2)],
]


@pytest.mark.parametrize(("device", "fmt", "terms", "extra"), WIDTHS)
def test_terms_and_extra_bits_of_tensor_cores(device, fmt, terms, extra):
    """Fasi et al. 2021 (V100, T4, A100), Khattak & Mikaitis 2025 (the others), section on extra bits and on widths.

    2^(extra + 1) terms of 2^-(24 + extra) are cut off beside 1 in one step; in a step before it they become 2^-23.
    """
    dp = hu.unit(device, fmt)
    half = 2.0 ** -(12 + extra // 2)  # squared, or times its double
    other = 2.0 ** -(24 + extra) / half

    def terms_with_one_at(place):
        x, y = np.zeros(2 * terms), np.ones(2 * terms)
        x[: 2 << extra], y[: 2 << extra] = half, other
        x[place], y[place] = 1.0, 1.0
        return x, y

    assert run_unit(dp, *terms_with_one_at(terms - 1)) == 1.0
    assert run_unit(dp, *terms_with_one_at(terms)) == 1 + 2.0**-23
    kept = [1.0, *[half] * (1 << extra)], [1.0, *[2 * other] * (1 << extra)]  # one place higher nothing is cut off
    assert run_unit(dp, *kept) == 1 + 2.0**-23
    assert run_unit(dp, [-v for v in kept[0]], kept[1]) == -run_unit(dp, *kept)


@pytest.mark.parametrize("device", ["V100", "T4", "A100", "L40S", "H100", "B200"])
def test_roundings_and_subnormals_of_tensor_cores(device):
    """Fasi et al. 2021: exact products, truncation into binary32, ties to even into binary16, subnormals kept."""
    single, half = hu.unit(device, "fp16"), hu.unit(device, "fp16", result="fp16")
    for sign in (1, -1):
        assert run_unit(single, [sign * 2.0**13, sign * 1.5], [1.0, 2.0**-11]) == sign * 2.0**13  # 2^13 + 3/4 ulp
        assert run_unit(half, [sign * 1.0, sign * 2.0**-11]) == sign * 1.0
        assert run_unit(half, [sign * 1.0, sign * 2.0**-11, sign * 2.0**-20]) == sign * (1 + 2.0**-10)
        assert run_unit(half, [sign * (1 + 2.0**-10), sign * 2.0**-11]) == sign * (1 + 2.0**-9)
    least = 2.0**-24
    assert run_unit(single, [least], [least]) == least**2
    assert run_unit(half, [least, 3 * least]) == 4 * least
    assert run_unit(half, [least, 3 * least], [0.5, 0.5]) == 2 * least


@pytest.mark.parametrize("device", ["A100", "L40S", "H100", "B200"])
def test_ends_of_the_range_of_tensor_cores(device):
    """Khattak & Mikaitis 2025, MMA-Sim: infinities though truncating, products beyond the range, zeros that are +0."""
    dp = hu.unit(device, "bf16")
    huge, tiny = 2.0**100, 2.0**-120
    assert run_unit(dp, [huge, huge], [huge, -huge]) == 0.0
    assert run_unit(dp, [huge], [huge]) == math.inf and run_unit(dp, [-huge], [huge]) == -math.inf
    assert run_unit(dp, [2.0**127] * 2) == math.inf
    zero = run_unit(dp, [-tiny], [tiny])
    assert zero == 0 and math.copysign(1, zero) == 1
    zero = run_unit(dp, [-0.0], [1.0])
    assert math.copysign(1, zero) == 1


@pytest.mark.parametrize(("device", "lowest"), [("A100", -156), ("L40S", -156), ("H100", -158), ("B200", -158)])
def test_floors_of_tensor_cores(device, lowest):
    """MMA-Sim: nothing below 2^lowest is kept, so that only from there on 2^-149 becomes less by it, and 0 when cut."""
    dp = hu.unit(device, "bf16")
    for exponent, left in ((lowest, 0.0), (lowest - 1, 2.0**-149)):
        assert run_unit(dp, [2.0**-75, -(2.0**-80)], [2.0**-74, 2.0 ** (exponent + 80)]) == left


@pytest.mark.parametrize(("device", "terms"), [("L40S", 16), ("H100", 32)])
def test_fp8_units_of_ada_and_hopper_keep_13_bits(device, terms):
    """MMA-Sim, Khattak & Mikaitis 2025; DeepSeek-V3, section 3.5.2: "around 14 bits"; B200 has no such limit."""
    dp = hu.unit(device, "fp8_e4m3")
    small = 2.0**-7
    for place in (1, terms):  # beside the 1, and in a later step
        for exponent, kept in ((-13, True), (-14, False)):
            x, y = np.zeros(place + 1), np.ones(place + 1)
            x[0], x[place], y[place] = 1.0, small, 2.0 ** (exponent + 7)
            assert run_unit(dp, x, y) == 1 + kept * 2.0**exponent
            assert run_unit(dp, -x, y) == -1 - kept * 2.0**exponent
            assert run_unit(hu.unit("B200", "fp8_e4m3"), x, y) == 1 + 2.0**exponent
    assert run_unit(dp, [small] * terms, [small] * terms) == terms * small**2


@pytest.mark.parametrize("device", ["T4", "A100", "L40S", "H100", "B200"])
def test_integers_wrap(device):
    """PTX ISA, mma: "If .satfinite is not specified, the accumulated value is wrapped instead"."""
    dp, count = hu.unit(device, "int8"), 1 << 17
    x = np.full(count, -128.0)
    assert run_unit(dp, x, x) == -(2.0**31)
    assert run_unit(dp, x[1:], x[1:]) == 2.0**31 - 2**14


def test_cdna():
    """MMA-Sim, Khattak & Mikaitis 2025: MI100 adds 4 or 2 products and the accumulator exactly and rounds to nearest;
    MI250X multiplies and adds in binary32 by a tree, flushing subnormals, of operands too (MIOpen's documentation)."""
    first, second = hu.unit("MI100", "fp16"), hu.unit("MI250X", "fp16")
    least = 2.0**-24
    assert run_unit(first, [least]) == least and run_unit(second, [least]) == 0.0
    assert run_unit(second, [2.0**-14]) == 2.0**-14
    cancelling = [4096.0, 1.0, -4096.0, 1.0], [4096.0, 1.0, 4096.0, 1.0]
    assert run_unit(first, *cancelling) == 2.0 and run_unit(second, *cancelling) == 1.0
    later = [*cancelling[0][:2], 0.0, 0.0, *cancelling[0][2:]], [*cancelling[1][:2], 0.0, 0.0, *cancelling[1][2:]]
    assert run_unit(first, *later) == 1.0, "2^24 + 1 is rounded after four terms"
    assert run_unit(first, [4096.0, 1.5], [4096.0, 1.0]) == 2.0**24 + 2, "to nearest"
    huge = 2.0**100
    assert run_unit(hu.unit("MI100", "bf16"), [huge, huge], [huge, -huge]) == 0.0
    assert math.isnan(run_unit(hu.unit("MI250X", "bf16"), [huge, huge], [huge, -huge]))
    assert run_unit(hu.unit("MI250X", "bf16"), [2.0**-126], [0.5]) == 0.0, "results are flushed"
    assert run_unit(hu.unit("MI100", "bf16"), [2.0**-126], [0.5]) == 2.0**-127


def test_two_stages_of_cdna3():
    """MMA-Sim, Khattak & Mikaitis 2025: MI300X cuts products 24 bits below the largest, floors accumulators 24 bits
    below, so that a negative one becomes -2^-24, or is dropped by 8-bit units if more than 25; sums 31 and 32 below."""
    half, brain, eight = hu.unit("MI300X", "fp16"), hu.unit("MI300X", "bf16"), hu.unit("MI300X", "e5m2fnuz")
    assert half.order == hu.two_stage(8, 1, 8) and eight.order == hu.two_stage(16, 1, 8, interleaved=True)
    assert hu.unit("MI300X", "tf32").order.terms == 4

    def after(dp, accumulator, one):
        """``accumulator``, and in a later step ``one``."""
        x, y = np.zeros(dp.order.terms + 1), np.zeros(dp.order.terms + 1)
        y[[0, -1]] = np.sqrt(np.abs([accumulator, one]))
        x[[0, -1]] = np.sign([accumulator, one]) * y[[0, -1]]
        return run_unit(dp, x, y)

    assert after(half, 2.0**-26, 1.0) == 1.0 and after(half, -(2.0**-26), 1.0) == 1 - 2.0**-24
    assert after(brain, -(2.0**-100), 1.0) == 1 - 2.0**-24, "no accumulator is too small"
    assert after(eight, -(2.0**-24), 1.0) == 1 - 2.0**-24
    assert after(eight, -(2.0**-24), 4.0) == 4.0, "26 bits below"
    assert run_unit(half, [1.0, 2.0**-12, -(2.0**-13)], [1.0, 2.0**-13, 2.0**-13]) == 1.0, "cut toward zero"
    assert after(half, 1.0, 2.0**-24) == 1.0 and after(half, 1.0, -(2.0**-24)) == 1 - 2.0**-24, "to nearest even"
    assert run_unit(eight, [1.0, 2.0**-14], [1.0, -(2.0**-13)]) == 1 - 2.0**-24, "an odd product, floored"
    assert run_unit(eight, [1.0, 0.0, 2.0**-14], [1.0, 0.0, -(2.0**-13)]) == 1.0, "an even one, cut off"
    assert run_unit(brain, [2.0**64, 2.0**64], [2.0**64, -(2.0**63)]) == math.inf, "a product beyond the range"
    assert math.isnan(run_unit(brain, [2.0**64] * 2, [2.0**64, -(2.0**64)]))
    assert run_unit(brain, [2.0**-126], [0.5]) == 2.0**-127, "subnormals are kept"


def test_units_on_the_command_line(run):
    code, text, _ = run("units", "h200")
    assert code == 0 and "fp16/fp32@RTZ:fused16g2n" in text and "NaN code 0x7fffffff" in text and "A100" not in text
    code, text, _ = run("units", "--json")
    assert code == 0 and [hu.MatrixUnit(**row) for row in json.loads(text)] == list(UNITS)
    assert run("units")[1].count("\n") == len(UNITS) + 1
    code, _, said = run("units", "P100")
    assert code == 2 and "no matrix units of a device 'P100'" in said
