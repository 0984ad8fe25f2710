"""Products of matrices in blocks equal ``emulator.datapath.dot``, code for code."""

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import datapath
from halfulp.emulator.blocks import Block
from halfulp.emulator.random import Philox, stream
from halfulp.kernels.contraction import plan
from halfulp.kernels.fused import ADDED, LIMBS, SUMMED
from kernel_cases import BACKENDS, SEED, assert_codes

DATAPATHS = [
    "mxfp4x4/fp32", "mxfp8_e4m3x4/bf16@RTZ", "mxfp8_e5m2x8/fp32@RTN", "nvfp4x4/fp32/bf16@RNE/SR4",
    "mxint8x4/fp16@SR8", "bfp8x4/fp32@RTP", "mxfp6_e3m2x4*mxfp4x4/e8m13@RTO", "mxfp4x4*bf16/fp32", "mxfp4x4/fp32:exact",
    "mxfp4x4/fp16:exact8",
    # where a sum folded to odd at 53 bits would not do
    "mxfp4x4/fp32@SR32", "mxfp4x4/e8m20@SR30c", "mxfp4x4/e11m51", "mxfp4x4/e11m51@RNA", "mxfp4x4/fp64@RTP",
    "mxfp4x4/fp64", "mxfp4x4/q6.30w@RTZ", "mxfp4x4/q9.41w@SR32", "mxfp4x4/q12.8", "mxfp4x4/fp32:blocked8(e11m51@RTN)",
]  # fmt: skip


def in_blocks(fmt, values):
    """Rows as a machine takes them, and as the definition does; of scalar formats values and codes."""
    if not isinstance(fmt, hu.BlockFormat):
        held = hu.quantize(values, fmt)
        return held, [[int(code) for code in fmt.encode(row)] for row in held], None
    held, rows = hu.encode_blocks(values, fmt), []
    for codes, scales in zip(held.codes.tolist(), held.scales.tolist(), strict=True):
        parts = [codes[i : i + fmt.size] for i in range(0, len(codes), fmt.size)]
        pairs = zip(parts, scales, strict=True)
        rows.append([Block(tuple(map(fmt.element.unpack, part)), fmt.scale.unpack(scale)) for part, scale in pairs])
    outer = None if fmt.tensor_scale is None else fmt.tensor_scale.unpack(held.tensor_scale)
    return held, rows, outer


def turned(held):
    """Rows as columns."""
    return hu.Blocks(held.codes.T, held.scales.T, held.tensor_scale, 0) if isinstance(held, hu.Blocks) else held.T


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DATAPATHS)
def test_matmul_of_blocks(name, backend):
    """Blocks near one another, and blocks so far apart that sums lose all of one; a ragged last one, and a NaN."""
    dp, drawn = hu.Datapath.parse(name), Philox()
    rng = np.random.default_rng([SEED, *name.encode()])
    reach = 3 if isinstance(dp.accumulator, hu.FixedFormat) else 35
    for trial in range(3):
        x = rng.normal(size=(5, 22)) * np.exp2(rng.integers(-reach * trial, reach * trial + 1, (5, 11)).repeat(2, 1))
        x[1, 3] = np.nan if trial == 1 and hu.format("fp32").has_nan and dp.accumulator.has_nan else 1.0
        (a, rows, scale_a), (b, columns, scale_b) = in_blocks(dp.a, x), in_blocks(dp.b, rng.normal(size=(6, 22)))
        got = hu.Machine(dp, backend, SEED).matmul(a, turned(b))
        scales = [scale for scale in (scale_a, scale_b) if scale is not None]
        outer = hu.emulator.arithmetic.exact_product(*scales) if len(scales) == 2 else None
        expected = []
        for element, (row, column) in enumerate((r, c) for r in rows for c in columns):
            bits = lambda role, step, k, e=element: drawn.random_bits(SEED, stream(1, role), e, step, k)  # noqa: E731
            expected.append(datapath.dot(dp, row, column, bits, outer))
        assert_codes(dp.output, got, expected, lambda i, trial=trial: f"{name} trial {trial} element {i}")


def test_both_ways_of_exact_sums_are_taken():
    ways = {plan(hu.Datapath.parse(name), 22).levels[-1].unit.way for name in DATAPATHS}
    assert ways == {SUMMED, ADDED, LIMBS}


@pytest.mark.parametrize("fraction", range(0, 45, 4))
@pytest.mark.parametrize("rounding", ["RNE", "SR32"])
def test_wrapping_accumulators_see_their_last_bits_wherever_limbs_are_cut(fraction, rounding):
    dp, drawn = hu.Datapath.parse(f"fp64/q8.{fraction}w@{rounding}:exact2"), Philox()
    rng = np.random.default_rng(fraction)
    a, b = rng.normal(size=(3, 5)) * np.exp2(rng.integers(-40, 40, (3, 5))), rng.normal(size=(5, 3))
    got = hu.Machine(dp, seed=SEED).matmul(a, b)
    expected = []
    for element, (row, column) in enumerate((r, c) for r in a for c in b.T):
        bits = lambda role, step, k, e=element: drawn.random_bits(SEED, stream(1, role), e, step, k)  # noqa: E731
        expected.append(datapath.dot(dp, dp.a.encode(row).tolist(), dp.b.encode(column).tolist(), bits))
    assert_codes(dp.output, got, expected, lambda i: f"{dp.name} element {i}")


def test_scales_of_several_bits_count_wholly():
    """Sums of 54.6 bits: sums of elements take 44 + 3, each scale, 15, almost four more."""
    fmt = hu.BlockFormat(hu.format("e1m21finiteb1"), hu.format("fp8_e4m3"), 7)
    dp = hu.Datapath(fmt, fmt, "e10m48", "RTP")
    codes = np.random.default_rng(1).integers(2**22 - 60000, 2**22, (60, 7)).astype(np.uint32)
    scales = fmt.scale.encode(np.full((60, 1), 15.0))
    got = hu.Machine(dp).matmul(hu.Blocks(codes, scales, None, 1), hu.Blocks(codes[:1].T, scales[:1].T, None, 0))
    blocks = [
        [Block(tuple(map(fmt.element.unpack, row)), fmt.scale.unpack(int(scales[0, 0])))] for row in codes.tolist()
    ]
    expected = [datapath.dot(dp, block, blocks[0]) for block in blocks]
    assert_codes(dp.output, got, expected, lambda i: f"row {i}")
