"""Certificates: BLAS gives the bits of the kernels wherever it is called, at the very edge of what is certified too."""

import math

import halfulp as hu
import numpy as np
import pytest
from halfulp.kernels.certificates import Certificate, certificate
from halfulp.kernels.contraction import plan
from halfulp.kernels.products import Way
from kernel_cases import SEED, directed_codes, f, random_format


class Kernels(hu.Machine):
    """A machine that never calls BLAS."""

    def _way(self, datapath, x, y):
        return Way("kernel", Certificate(None, "told not to"), plan(datapath, x.values.shape[1]))


def both(datapath, a, b, seed=0):
    """The product by certificate, if there is one, and by the kernels."""
    machine, slow = hu.Machine(datapath, seed=seed), Kernels(datapath, seed=seed)
    return machine.explain(a, b), machine.matmul(a, b), slow.matmul(a, b)


def same(x, y):
    return x.tobytes() == y.tobytes()


OPERANDS = [
    "int8",
    "uint8",
    "q4.12",
    "q-2.9",
    "fp4_e2m1",
    "fp8_e4m3",
    "fp8_e5m2",
    "e2m3",
    "ue4m3",
    "fp16",
    "binary6p3se",
]
ACCUMULATORS = ["int32", "q16.24", "q20.20w", "uq24.12", "fp32", "fp64", "e8m13", "fp16", "e5m20ftz", "e8m30", "q8.16"]
MODES = ["RNE", "RTZ", "RTN", "RTP", "RTO", "RNA", "RND", "SR8", "SR3c"]


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
def test_certified_products_are_those_of_the_kernels(accumulator):
    """Of the largest values, of random ones, and of those whose sums just fit and just do not."""
    rng = np.random.default_rng([SEED, *accumulator.encode()])
    seen = set()
    for name in OPERANDS:
        fmt = f(name)
        codes = np.array([c for c in directed_codes(fmt) if math.isfinite(float(fmt.unpack(c)))], np.uint64)
        values = fmt.decode(codes.astype(np.uint64 if fmt.bits > 32 else f"u{max(1, (fmt.bits + 7) // 8)}"))
        for length, scale in ((1, 0), (2, 0), (5, 3), (33, 6), (200, 9)):
            near = values[np.abs(values) <= fmt.max_finite * 2.0**-scale]
            a, b = rng.choice(near, (6, length)), rng.choice(near, (length, 5))
            a[0], b[:, 0] = near.max(), near.max()
            a[1], b[:, 1] = near.max(), near.min()
            a[2] = -0.0 if fmt.min_finite < 0 and not isinstance(fmt, hu.FixedFormat) else 0.0
            said, found, wanted = both(f"{name}/{accumulator}@{rng.choice(MODES)}", a, b, seed=length)
            assert same(found, wanted), (name, length, said)
            seen.add(said.split(":")[0])
    assert len(seen) > 1 or accumulator in ("fp64", "q16.24"), seen


@pytest.mark.parametrize(
    ("datapath", "a", "b", "length", "dtype"),
    [
        ("q8.0/fp16", 8.0, 8.0, 32, "float32"),  # 2^11 units: a significand of 11 bits holds them
        ("q8.0/fp16", 8.0, 8.0, 33, None),
        ("q8.0/q12.0", 89.0, 23.0, 1, "float32"),  # 2047
        ("q8.0/q12.0", 64.0, 32.0, 1, None),  # 2048, one beyond the largest
        ("q8.0/q12.0w", 64.0, 32.0, 1, None),
        ("q8.0/uq12.0", 1.0, 1.0, 1, None),  # a negative sum would saturate at 0
        ("q14.0/q40.0", 4096.0, 4096.0, 1, "float32"),  # 2^24: the last that float32 has all of
        ("q14.0/q40.0", 4096.0, 4097.0, 1, "float64"),
        ("q28.0/q53.0w", 2.0**26 - 1, 2.0**26 - 1, 1, "float64"),
        ("q28.0/q53.0w", 2.0**26, 2.0**26, 1, None),  # 2^52, one beyond the largest
        ("q27.0*q27.0/fp64", 2.0**25, 2.0**25, 8, "float64"),  # 2^53
        ("q27.0*q27.0/fp64", 2.0**25, 2.0**25, 9, None),
        ("q2.6/q8.11", 1.0, 1.0, 1, None),  # the accumulator has 11 of 12 fraction bits
        ("q2.6/q8.12", 1.0, 1.0, 1, "float32"),
        ("e4m3/e5m20ftz", 1.0, 1.0, 1, None),  # flushes what is below 2^-14; units are 2^-18
        ("q8.0/fp32@RTN", 1.0, 1.0, 1, None),  # -0
        ("q8.0/int32@RTN", 1.0, 1.0, 1, "float32"),
        ("q8.0/int32", math.inf, 1.0, 1, None),
        ("q8.0/int32", math.nan, 0.0, 1, None),
        ("q8.0/int32", 0.0, 1.0, 5, "float32"),
        ("fp16/fp64", 65504.0, 65504.0, 1, None),  # 2^80 units
        ("int8/int32:product=int16", 1.0, 1.0, 1, None),
        ("int8/fp32:fused4", 1.0, 1.0, 1, "float32"),
        ("int8/fp32:fused4", 127.0, 127.0, 1000, "float32"),  # below 2^24: all of it is kept
        ("int8/fp32:fused4", 127.0, 127.0, 1041, None),
        ("q1.7/fp32:fused4", 0.5, 0.5, 1000, "float32"),  # 2^-14 ... 250
        ("q1.7/e8m13:fused4g8", 0.5, 0.5, 1, "float32"),
        ("q1.7/e8m13:fused4", 0.5, 0.5, 3, "float32"),  # below 1, whose last bit is 2^-14
        ("q1.7/e8m13:fused4", 0.5, 0.5, 4, None),
        ("q1.7/q8.14:fused4", 0.5, 0.5, 4, "float32"),
        ("q1.7/q8.13:fused4g1", 0.5, 0.5, 4, None),
        ("q1.7/fp32:fused4e9n", 0.5, 0.5, 1000, "float32"),  # 23 bits below 2^9: 2^-14
        ("q1.7/fp32:fused4e10", 0.5, 0.5, 1, None),
        ("q1.7/fp32:fused4g1e10n", 0.5, 0.5, 1, "float32"),
        ("int8/fp32:twostage4g1s8i", 127.0, 127.0, 1000, "float32"),
        ("q1.7/e8m13:twostage4g8s8", 0.5, 0.5, 1, "float32"),
        ("q1.7/e8m13:twostage4s0i", 0.5, 0.5, 3, "float32"),
        ("q1.7/e8m13:twostage4s9", 0.5, 0.5, 4, None),  # whose first stage keeps 13 bits
        ("e5m2*e4m3/fp32:twostage8g1s8", 0.5, 0.25, 4, "float32"),  # 2^-25 to 1/2
        ("e5m2*e4m3/fp32:twostage8g1s8", 0.5, 0.25, 5, None),
        ("int8/int32:blocked8(fp32:fused4e24)", 1.0, 1.0, 1, None),
        ("int8/fp16:fused4n", 127.0, 127.0, 5, None),
        ("int8/int32:tree4", 1.0, 1.0, 9, "float32"),
        ("int8/int32:blocked4(int16)", 64.0, 64.0, 7, "float32"),  # 28672
        ("int8/int32:blocked4(int16)", 64.0, 64.0, 8, None),
        ("int8/fp32:systolic4", 127.0, 127.0, 9, "float32"),
        ("fp16/fp64:exact", 1.0, 1.0, 4, "float64"),
        ("mxint8/int32", 1.0, 1.0, 1, None),
        ("e8m3b90*fp8_e4m3/fp64", 2.0**140, 0.0, 2, "float64"),  # which float32 does not hold
        ("e5m0b-120*e5m0b100/fp64", 2.0**130, 2.0**-95, 4, "float64"),
    ],
)
def test_what_is_certified(datapath, a, b, length, dtype):
    found = certificate(hu.Datapath.parse(datapath), length, a, b)
    assert found.dtype == dtype and found.reason


@pytest.mark.parametrize("unit", ["fp32@RTZ:fused4e9n", "fp16@RTZ:fused4e-4n", "bf16@RTZ:fused4e-12n"])
def test_certified_products_of_tensor_cores(unit):
    """Sums that cancel are +0, and those of the largest floor that cuts nothing are all there."""
    rng = np.random.default_rng(SEED)
    a, b = (rng.integers(-1, 2, size) / 128 for size in ((30, 4), (4, 40)))
    said, found, wanted = both(f"q1.7/{unit}", a, b)
    assert said.startswith("BLAS") and same(found, wanted) and not np.signbit(found[found == 0]).any()


@pytest.mark.parametrize("unit", ["fp32:twostage8g1s8", "e8m13@RTP:twostage4s0i", "e5m13:twostage4g2s2i"])
def test_certified_products_of_two_stages(unit):
    """Beside the largest that is certified, accumulators of the last place; nothing is floored."""
    rng, datapath = np.random.default_rng(SEED), hu.Datapath.parse(f"q1.7/{unit}")
    a, b = (rng.integers(-3, 4, size) / 128 for size in ((30, 12), (12, 40)))
    a[::2, 7], b[7, ::2] = 0.25, 0.25
    said, found, wanted = both(datapath, a, b)
    assert said.startswith("BLAS") and same(found, wanted)


def test_one_more_term_than_certified_is_rounded():
    """The bound is no wider than it need be: 33 * 64 = 2112 has 12 bits, of which fp16 keeps 11."""
    a = np.full((1, 33), 8.0)
    a[0, 0] = 7.0
    b = np.full((33, 1), 8.0)
    b[0, 0] = 7.0
    said, found, wanted = both("q8.0/fp16", a, b)
    assert said.startswith("the ODD kernel") and same(found, wanted) and found[0, 0] != (a @ b)[0, 0]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_ledger_and_the_random_bits_are_those_of_the_kernels(threads):
    rng = np.random.default_rng(SEED)
    a, b = rng.integers(-9, 9, (2, 20, 20)).astype(float)
    machine, slow = (kind("int8/int32/fp4_e2m1@RNE/SR8", seed=5, threads=threads) for kind in (hu.Machine, Kernels))
    assert machine.explain(a, b).startswith("BLAS in float32") and machine.calls == 0
    for _ in range(2):
        assert same(machine.matmul(a, b), slow.matmul(a, b))
    assert machine.dot(a[0], b[0]) == slow.dot(a[0], b[0]) and machine.ledger == slow.ledger
    assert machine.ledger.ways == {"BLAS in float32": 2 * 8000 + 20} and "by BLAS in float32" in repr(machine.ledger)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("side", ["rows", "columns"])
def test_norms_certify_binary32(side, more):
    """Lines of 256 times 2^8 units: their products are 2^24 units, the last that binary32 holds among all the smaller,
    but for the last units, which are three less on one side; with one more throughout a single line it does not."""
    lines, others = np.full((256, 256), 2.0**8), np.full((256, 256), 2.0**8)
    others[-1] -= 3.0
    lines[77] += more
    a, b = (x * 2.0**-14 for x in ((lines, others) if side == "rows" else (others.T, lines.T)))
    said, found, wanted = both("q2.14/q20.28/q16.28@RNE", a, b)
    assert said.startswith(f"BLAS in float{64 if more else 32}") and same(found, wanted)
    assert abs(found).max() == (256 + more) * 65533 * 2.0**-28
    if more:  # binary32 would be wrong
        assert not same((a.astype(np.float32) @ b.astype(np.float32)).astype(float), wanted)


def test_norms_of_numbers_that_float32_does_not_add_up():
    rows = np.zeros((256, 256), np.float32)
    rows[:, :3] = 2.0**23, 2.0**23, 1.0
    found = hu.Machine("uq24.0*uq1.0/q40.0").matmul(rows, np.ones((256, 256), np.float32))
    assert (found == 2.0**24 + 1).all()


def test_random_formats():
    rng = np.random.default_rng(SEED)
    certified = 0
    for _ in range(300):
        a_format, b_format, accumulator = (random_format(rng) for _ in range(3))
        if rng.random() < 0.5:
            accumulator = f(str(rng.choice(["fp64", "q20.30", "e11m40", "fp32"])))
        try:
            datapath = hu.Datapath(a_format, b_format, accumulator, str(rng.choice(MODES)))
            hu.Machine(datapath)
        except hu.HalfulpError:  # no kernel has it
            continue
        length = int(rng.integers(1, 20))
        a = hu.quantize(rng.standard_normal((3, length)) * 4, a_format)
        b = hu.quantize(rng.standard_normal((length, 4)) * 4, b_format)
        said, found, wanted = both(datapath, a, b)
        assert same(found, wanted), (datapath, said)
        certified += said.startswith("BLAS")
    assert certified > 20
