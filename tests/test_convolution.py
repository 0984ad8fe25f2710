"""conv2d: every result is the dot product of a patch and a kernel, code for code; bad input gets a sentence."""

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import datapath
from halfulp.emulator.random import Philox, stream
from kernel_cases import BACKENDS, SEED, assert_codes, assert_same_bits

DATAPATHS = [
    "fp16", "fp16@SR8", "fp8_e4m3*fp8_e5m2/fp16@RTZ", "q4.12/q20.24/q4.12", "q4.4/q6.6w@SR3", "bf16/fp32:exact",
    "fp16/fp32@SR9:exact", "fp8_e4m3*bf16/e8m13@RTZ:fused4g1", "fp16:tree4:product=fp16@SR5", "fp64/fp64@RTP",
    "fp8_e5m2/fp16:exact4", "fp16/fp32/bf16:blocked5(fp16@SR2:systolic2)",
]  # fmt: skip


def patches(x, kernel, stride, padding):
    """(N, H', W', C kh kw): what each result is made of, by plain loops."""
    n, c, height, width = x.shape
    padded = np.zeros((n, c, height + 2 * padding, width + 2 * padding))
    padded[:, :, padding : padding + height, padding : padding + width] = x
    rows = range(0, padded.shape[2] - kernel[0] + 1, stride)
    columns = range(0, padded.shape[3] - kernel[1] + 1, stride)
    return np.array(
        [
            [[padded[i, :, r : r + kernel[0], q : q + kernel[1]].ravel() for q in columns] for r in rows]
            for i in range(n)
        ]
    )


def operands(dp, rng, images=3, channels=2, size=(5, 6), outputs=3, kernel=(3, 2)):
    x = hu.quantize(rng.normal(size=(images, channels, *size)), dp.a)
    return x, hu.quantize(rng.normal(size=(outputs, channels, *kernel)), dp.b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 2), (3, 0)])
@pytest.mark.parametrize("name", DATAPATHS)
def test_conv2d_is_the_definition(name, stride, padding, backend):
    dp = hu.Datapath.parse(name)
    x, w = operands(dp, np.random.default_rng([SEED, *name.encode(), stride]))
    got = hu.Machine(dp, backend, SEED).conv2d(x, w, stride, padding)
    lines = patches(x, w.shape[2:], stride, padding)
    assert got.shape == (3, 3, *lines.shape[1:3])
    drawn = Philox()
    expected = []
    for element, (i, o, r, q) in enumerate(np.ndindex(got.shape)):
        codes = dp.a.encode(lines[i, r, q]).tolist(), dp.b.encode(w[o].ravel()).tolist()
        bits = lambda role, step, k, element=element: drawn.random_bits(SEED, stream(1, role), element, step, k)  # noqa: E731
        expected.append(datapath.dot(dp, *codes, bits))
    assert_codes(dp.output, got.ravel(), expected, lambda i: f"{name} element {i}")


@pytest.mark.parametrize("name", ["fp16", "fp16@SR8", "int8/int32", "bf16/fp32:exact"])
def test_conv2d_of_many_images_is_matmul_of_patches(name):
    """Unfolded in panels, on threads."""
    dp = hu.Datapath.parse(name)
    rng = np.random.default_rng(SEED)
    x = hu.quantize(rng.normal(size=(40, 6, 28, 28)) * 3, dp.a)
    w = hu.quantize(rng.normal(size=(16, 6, 5, 5)) * 3, dp.b)
    got = hu.Machine(dp, seed=4, threads=2).conv2d(x, w)
    assert_same_bits(got, hu.Machine(dp, seed=4, threads=1).conv2d(x, w))
    if "SR" not in name:
        lines = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
        flat = hu.Machine(dp).matmul(lines.reshape(-1, 150), w.reshape(16, 150).T)
        assert_same_bits(got, np.ascontiguousarray(flat.reshape(40, 24, 24, 16).transpose(0, 3, 1, 2)))


def test_the_ledger_of_a_convolution_is_that_of_its_dot_products():
    machine, other = hu.Machine("fp16/fp32/bf16"), hu.Machine("fp16/fp32/bf16")
    machine.conv2d(np.ones((2, 3, 6, 6)), np.ones((4, 3, 3, 3)), padding=1)
    other.matmul(np.ones((72, 27)), np.ones((27, 4)))
    assert machine.ledger.operations == other.ledger.operations
    assert machine.ledger.bits_moved == {"sram": 2 * 3 * 36 * 16 + 4 * 27 * 16 + 2 * 4 * 36 * 16}


@pytest.mark.parametrize(
    ("x", "w", "options", "said"),
    [
        ((1, 2, 5, 5), (1, 3, 3, 3), {}, "conv2d needs shapes (N, C, H, W) and (O, C, kh, kw)"),
        ((2, 5, 5), (1, 2, 3, 3), {}, "conv2d needs shapes"),
        ((1, 2, 5, 5), (1, 2, 6, 3), {}, "has no results"),
        ((0, 2, 5, 5), (1, 2, 3, 3), {}, "has no results"),
        ((1, 2, 5, 5), (1, 2, 3, 3), {"stride": 0}, "stride of 1...65536"),
        ((1, 2, 5, 5), (1, 2, 3, 3), {"padding": -1}, "padding of 0...65536"),
        ((1, 2, 5, 5), (1, 2, 3, 3), {"stride": 1.5}, "stride of 1...65536"),
    ],
)
def test_what_conv2d_refuses(x, w, options, said):
    with pytest.raises(hu.HalfulpError) as error:
        hu.Machine("fp16").conv2d(np.ones(x), np.ones(w), **options)
    assert said in str(error.value)


def test_operands_in_blocks_are_refused():
    with pytest.raises(hu.HalfulpError, match="not in blocks"):
        hu.Machine("mxfp4/fp32").conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)))


@pytest.mark.parametrize(("side", "kernel", "stride", "padding"), [(8, 5, 1, 2), (32, 3, 2, 1), (7, 1, 2, 0)])
def test_a_gradient_at_images_reads_what_there_is(side: int, kernel: int, stride: int, padding: int) -> None:
    """Zeros between pixels and around them are multiplied, but not read."""
    m, rng = hu.Machine("bf16/fp32"), np.random.default_rng(0)
    out = (side + 2 * padding - kernel) // stride + 1
    dy, w = (hu.quantize(rng.normal(size=shape), "bf16") for shape in ((2, 4, out, out), (4, 3, kernel, kernel)))
    m.conv2d_grad_input(dy, w, (side, side), stride, padding)
    assert m.ledger.bits_moved == {"sram": 16 * (dy.size + w.size) + 32 * 2 * 3 * side**2}
