"""Block formats against an oracle of fractions, examples worked by hand from the specifications, and gfloat.

The oracle knows a format as a list of magnitudes, written down here from the specification, and rounds by looking up
the two neighbours. It shares nothing with the code under test.
"""

import itertools
import math
from bisect import bisect_right
from collections import namedtuple
from fractions import Fraction

import halfulp as hu
import ml_dtypes
import numpy as np
import pytest
from halfulp.emulator import blocks
from halfulp.emulator.arithmetic import Flags, exact
from halfulp.emulator.blocks import Rule, block_dot, encode_block
from halfulp.emulator.random import Role, random_bits, stream

INF, NAN = math.inf, math.nan

# ------------------------------------------------------------------------------------------------------ the oracle

#: magnitudes of codes 0, 1, 2, ... and how a negative one is coded; ``limit``: number of negative magnitudes
Grid = namedtuple("Grid", "magnitudes negative limit precision emax")


def power(e):
    return Fraction(2**e) if e >= 0 else Fraction(1, 2**-e)


def float_grid(w, t, bias, top):
    """Magnitudes of sign | w | t with subnormals; ``top`` is the code of the largest number."""
    low = [trailing * power(1 - bias - t) for trailing in range(2**t)]
    high = [(2**t + m) * power(e - bias - t) for e in range(1, 2**w) for m in range(2**t)]
    magnitudes = (low + high)[: top + 1]
    emax = top // 2**t - bias
    return Grid(magnitudes, lambda i: i + 2 ** (w + t), top, t + 1, emax)


E4M3 = float_grid(4, 3, 7, 0b1111110)
E5M2 = float_grid(5, 2, 15, 0b1111011)
E3M2 = float_grid(3, 2, 3, 0b11111)
E2M3 = float_grid(2, 3, 1, 0b11111)
E2M1 = float_grid(2, 1, 1, 0b111)
INT8 = Grid([Fraction(i, 64) for i in range(129)], lambda i: -i % 256, 128, 7, 0)
E8M0 = [power(e) for e in range(-127, 128)]


def sign_magnitude(bits):
    """MSFP: a sign and ``bits`` magnitude bits with one of them before the point."""
    return Grid([Fraction(i, 2 ** (bits - 1)) for i in range(2**bits)], lambda i: i + 2**bits, 2**bits - 1, bits, 0)


#: name, element, size
SINGLE_SCALE = {
    "mxfp8_e4m3": (E4M3, 32),
    "mxfp8_e5m2": (E5M2, 32),
    "mxfp6_e3m2": (E3M2, 32),
    "mxfp6_e2m3": (E2M3, 32),
    "mxfp4": (E2M1, 32),
    "mxint8": (INT8, 32),
    **{f"msfp{11 + m - 2}": (sign_magnitude(m), 16) for m in range(3, 8)},
}
RULES = ["floor", "ceil", "even", "rceil", "amax"]
MODES = ["RNE", "RNA", "RND", "RTZ", "RTP", "RTN", "RTO"]


def round_in(grid, x, mode, k=0, r=0):
    """Code of the fraction x (or the float -0.0) in a grid, saturating."""
    negative = math.copysign(1, x) < 0
    x, top = abs(Fraction(x)), grid.limit if negative else min(grid.limit, len(grid.magnitudes) - 1)
    if grid is INT8 and not negative:
        top = 127
    i = bisect_right(grid.magnitudes, x) - 1
    if i >= top:
        i = top
    else:
        part = (x - grid.magnitudes[i]) / (grid.magnitudes[i + 1] - grid.magnitudes[i])
        half, odd = Fraction(1, 2), i % 2 == 1
        i += {
            "RNE": part > half or (part == half and odd),
            "RNA": part >= half,
            "RND": part > half or (part == half and negative),
            "RTZ": False,
            "RTP": part > 0 and not negative,
            "RTN": part > 0 and negative,
            "RTO": part > 0 and not odd,
            "SR": math.floor(part * 2**k) + r >= 2**k,
        }[mode]
    if i == 0 and grid is INT8:
        return 0
    return grid.negative(i) if negative else i


def decode(grid, code):
    top = len(grid.magnitudes) - 1 if grid is not INT8 else 127
    sign, i = (1, code) if code <= top else (-1, next(i for i in range(grid.limit + 1) if grid.negative(i) == code))
    return sign * grid.magnitudes[i]


def floor_log2(x):
    e = math.frexp(x)[1]
    while power(e) > x:
        e -= 1
    while power(e + 1) <= x:
        e += 1
    return e


def e8m0_scale(amax, grid, rule):
    """Code of the scale that a rule picks among the powers of two."""
    largest = grid.magnitudes[127 if grid is INT8 else -1]
    if amax == 0:
        return 0
    e = floor_log2(amax)
    if rule == "rceil":
        return next((code for code, scale in enumerate(E8M0) if amax <= scale * largest), 254)
    if rule == "amax":
        below = floor_log2(amax / largest)
        return min(max(below + (amax / largest >= 3 * power(below - 1)) + 127, 0), 254)  # a tie goes up
    up = {
        "floor": 0,
        "ceil": amax > power(e),
        "even": amax / power(e) >= 2 - power(-grid.precision),  # half a last place below the next power of two
    }[rule]
    return min(max(e + up - grid.emax + 127, 0), 254)


def fp32_to_nearest(x):
    """A positive fraction in fp32's normal range, rounded to nearest even."""
    quantum = power(floor_log2(x) - 23)
    return round(x / quantum) * quantum  # Python rounds ties to even


def oracle(values, grid, scale_of, mode, k=0, random=None):
    """Codes and scale code of one block of floats; scale_of: amax -> (code, what the elements are divided by)."""
    if not all(map(math.isfinite, values)):
        return [0] * len(values), None
    code, divisor = scale_of(max(abs(Fraction(v)) for v in values))
    random = random or [0] * len(values)
    quotient = lambda v: math.copysign(0.0, v) if v == 0 or divisor == 0 else Fraction(v) / divisor  # noqa: E731
    return [round_in(grid, quotient(v), mode, k, r) for v, r in zip(values, random, strict=True)], code


# ----------------------------------------------------------------------------------------------------------- inputs


def rows(grid, size, seed):
    """Blocks that try everything: ties and edges of the grid, amax at the rules' thresholds, far out, specials."""
    rng = np.random.default_rng(seed)
    top = float(grid.magnitudes[127 if grid is INT8 else -1])
    grid_points = [float(m) for m in grid.magnitudes]
    between = [(a + b) / 2 for a, b in itertools.pairwise(grid_points)]
    pool = np.array(
        grid_points + between + [np.nextafter(t, 0) for t in between] + [np.nextafter(t, 9e9) for t in between]
    )
    for exponent in (0, 1, -5, 60, -130, 120):
        signs = rng.choice([-1.0, 1.0], size)
        yield rng.choice(pool, size) * signs * 2.0**exponent
    edges = [2.0**grid.emax, 2.0 ** (grid.emax + 1), top, 2.0 ** (grid.emax + 1) * (1 - 0.5 ** (grid.precision + 1))]
    for amax in [f(e) for e in edges for f in (float, lambda e: np.nextafter(e, 0), lambda e: np.nextafter(e, 9e9))]:
        yield np.concatenate(([amax], rng.uniform(-amax, amax, size // 4)))
    for scale in (1e-300, 5e-324, 1e-45, 1e300, 1.7e308):
        yield rng.uniform(-1, 1, size // 4) * scale if scale > 1e-320 else np.array([scale, -scale, 0.0])
    yield np.zeros(size)
    yield np.array([-0.0, 0.0, -1e-310])
    yield np.array([1.0, NAN, -2.0])
    yield np.array([1.0, -INF, 3e38])
    for _ in range(4):
        yield rng.normal(size=size) * np.exp2(rng.integers(-4, 4, size))


def same(encoded, expected_codes, expected_scales):
    np.testing.assert_array_equal(encoded.codes, expected_codes)
    np.testing.assert_array_equal(encoded.scales, expected_scales)


def drawn(seed, count, k):
    return [random_bits(seed, stream(1, Role.OUTPUT), i, 0, k) for i in range(count)]


# -------------------------------------------------------------------------------------- oracle = definition = arrays


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SINGLE_SCALE)
def test_formats_of_one_scale_in_every_rule_and_mode(name, rule):
    grid, size = SINGLE_SCALE[name]
    fmt = hu.format(f"{name}+{rule}")
    assert (fmt.size, fmt.rule.value, str(fmt.scale)) == (size, rule, str(hu.format("e8m0")))

    def scale_of(amax):
        code = e8m0_scale(amax, grid, rule)
        return code, E8M0[code]

    for number, row in enumerate(rows(grid, size, 7)):
        for mode in [*MODES, "SR1", "SR8", "SR32"] if number % 6 == 0 else ["RNE"]:
            k = int(mode[2:]) if mode.startswith("SR") else 0
            random = drawn(5, len(row), k) if k else None
            codes, scale = oracle(row.tolist(), grid, scale_of, mode[:2] if k else mode, k, random)
            scales = [255 if scale is None else scale]
            same(fmt.encode(row, 0, mode, random), codes, scales)
            fast = hu.encode_blocks(row, fmt, 0, mode, seed=5)
            same(fast, codes, scales)
            values = [NAN if scale is None else float(decode(grid, c) * E8M0[scale]) for c in codes]
            np.testing.assert_array_equal(fmt.decode(fast), values)


def nvfp4_scale_of(tensor_scale):
    def scale_of(amax):
        code = round_in(E4M3, amax / 6 / tensor_scale, "RNE")
        return code, E4M3.magnitudes[code] * tensor_scale

    return scale_of


@pytest.mark.parametrize("mode", [*MODES, "SR4", "SR32"])
def test_nvfp4_rounds_the_exact_quotients_once(mode):
    fmt = hu.format("nvfp4")
    assert (str(fmt.element), str(fmt.scale), str(fmt.tensor_scale)) == ("e2m1finite", "e4m3fn", "e8m23")
    rng = np.random.default_rng(3)
    k = int(mode[2:]) if mode.startswith("SR") else 0
    for spread in (2, 12, 20):
        array = rng.normal(size=(5, 3, 16)) * np.exp2(rng.integers(-spread, spread, (5, 3, 1)))
        array[0, 0], array[1, 0, 3] = 0.0, -0.0
        tensor_scale = fp32_to_nearest(Fraction(float(np.abs(array).max())) / (6 * 448))
        random = drawn(9, array.size, k) if k else [0] * array.size
        encoded = hu.encode_blocks(array, fmt, -1, mode, seed=9)
        defined = fmt.encode(array, -1, mode, np.reshape(random, array.shape))
        same(defined, encoded.codes, encoded.scales)
        assert encoded.tensor_scale == defined.tensor_scale
        assert np.uint32(encoded.tensor_scale).view(np.float32) == float(tensor_scale)
        for i, block in enumerate(array.reshape(-1, 16)):
            chances = random[16 * i : 16 * i + 16]
            how = mode[:2] if k else mode
            codes, scale = oracle(block.tolist(), E2M1, nvfp4_scale_of(tensor_scale), how, k, chances)
            assert encoded.codes.reshape(-1, 16)[i].tolist() == codes
            assert encoded.scales.ravel()[i] == scale
            values = [float(decode(E2M1, c) * E4M3.magnitudes[scale] * tensor_scale) for c in codes]
            np.testing.assert_array_equal(fmt.decode(encoded).reshape(-1, 16)[i], values)


@pytest.mark.parametrize(
    "name",
    [
        "bfp6x5+even",
        "q2.6x16+e4m3fn+rceil",
        "e3m2x7+fp16+ceil",
        "e4m3fnx12+uq4.4+amax",
        "e2m3finitex3+bf16+fp32+even",
        "e1m30finitex6+e4m3fn+amax",
        "e2m1finitex8+ue4m3+rceil",
    ],
)
@pytest.mark.parametrize("mode", ["RNE", "RTP", "SR32", "SR4c"])
def test_other_combinations_are_the_same_over_arrays(name, mode):
    fmt = hu.format(name)
    rng = np.random.default_rng(11)
    array = rng.normal(size=(4, 13, 3)) * np.exp2(rng.integers(-9, 4, (4, 13, 3)))
    for axis in (0, 1, 2, -1, -2):
        k = hu.Rounding.parse(mode).random_bits
        random = np.reshape(drawn(2, array.size, k), array.shape) if k else None
        defined, fast = fmt.encode(array, axis, mode, random), hu.encode_blocks(array, fmt, axis, mode, seed=2)
        same(fast, defined.codes, defined.scales)
        assert (fast.tensor_scale, fast.axis) == (defined.tensor_scale, defined.axis)
        assert (fast.codes.dtype, fast.scales.dtype) == (defined.codes.dtype, defined.scales.dtype)


# ------------------------------------------------------------------------------------------------ worked by hand


def encoded(values, name, **more):
    result = hu.encode_blocks(values, name, **more)
    defined = hu.format(name).encode(values, **{key: value for key, value in more.items() if key != "seed"})
    same(defined, result.codes, result.scales)
    assert defined.tensor_scale == result.tensor_scale
    return result


@pytest.mark.parametrize(
    ("name", "values", "scale", "codes", "represented"),
    [
        # MX 6.3: 2^(floor(log2 8.5) - 2) = 2 (code 128); 2.5 ties to 2, 3.5 to 4, 4.25 rounds to 4
        ("mxfp4", [1, 2, 3, 5, 7, -8.5, -0.1], 128, [1, 2, 3, 4, 6, 14, 8], [1, 2, 3, 4, 8, -8, -0.0]),
        # 7.9 / 1 is beyond 6 and saturates
        ("mxfp4", [7.9, 0.25, 0.26, -1.25], 127, [7, 0, 1, 10], [6, 0, 0.5, -1]),
        # 486 / 2^(8 - 8) is beyond e4m3's largest, 448, and saturates: not NaN
        ("mxfp8_e4m3", [486, -1, 2**-10], 127, [0x7E, 0xB8, 0], [448, -1, 0]),
        # subnormal elements: 2^-9 is e4m3's smallest
        ("mxfp8_e4m3", [256, 2**-9, -3 * 2**-10], 127, [0x78, 1, 0x82], [256, 2**-9, -(2**-8)]),
        # e5m2: emax 15; 65535 / 1 saturates to 57344, and does not become an infinity
        ("mxfp8_e5m2", [65535, 1.25], 127, [0x7B, 0x3D], [57344, 1.25]),
        ("mxfp6_e3m2", [31, 0.0625], 127, [31, 1], [28, 0.0625]),
        ("mxfp6_e2m3", [-7.9, 0.125], 127, [63, 1], [-7.5, 0.125]),
        # elements are integers / 64, range [-2, 127/64]
        ("mxint8", [1.0, -1.999, 1.999, 0.5 / 64, 1.5 / 64], 127, [64, 128, 127, 0, 2], [1, -2, 127 / 64, 0, 2 / 64]),
        # 3 magnitude bits, one before the point: 3.9 / 2 = 1.95 rounds beyond 1.75 and saturates
        ("msfp12", [3.9, -1, 0.24, 0.26], 128, [7, 10, 0, 1], [3.5, -1, 0, 0.5]),
        ("msfp16", [1.0, -1 / 64, 1 / 256], 127, [64, 65 + 64, 0], [1, -1 / 64, 0]),
        # the rules: amax 7 = 1.75 * 4 rounds to 8 at two bits (a tie, to even); 6.9 to 6
        ("mxfp4+floor", [7.0], 127, [7], [6]),
        ("mxfp4+even", [7.0], 128, [6], [8]),
        ("mxfp4+even", [6.9], 127, [7], [6]),
        ("mxfp4+ceil", [4.0], 127, [6], [4]),
        ("mxfp4+ceil", [4.1], 128, [4], [4]),
        ("mxfp4+rceil", [6.0], 127, [7], [6]),
        ("mxfp4+rceil", [6.1], 128, [5], [6]),
        ("mxfp4+rceil", [3.0], 126, [7], [3]),
        ("mxfp4+amax", [8.9], 127, [7], [6]),
        ("mxfp4+amax", [9.0], 128, [6], [8]),
        # the scale is kept within 2^-127 ... 2^127
        ("mxfp4", [2.0**-128, 2.0**-126], 0, [1, 4], [2.0**-128, 2.0**-126]),
        ("mxfp4", [2.0**130, 2.0**127], 254, [7, 2], [6 * 2.0**127, 2.0**127]),
        ("mxfp4", [0.0, -0.0], 0, [0, 8], [0.0, -0.0]),
        ("mxint8", [0.0, -0.0], 0, [0, 0], [0.0, 0.0]),
        ("mxfp8_e5m2", [1.0, INF], 255, [0, 0], [NAN, NAN]),
        ("msfp12", [NAN, 1.0], 255, [0, 0], [NAN, NAN]),
    ],
)
def test_examples_of_one_scale(name, values, scale, codes, represented):
    result = encoded(values, name)
    assert (result.scales.tolist(), result.codes.tolist(), result.tensor_scale) == ([scale], codes, None)
    back = hu.format(name).decode(result)
    np.testing.assert_array_equal(back, represented)
    assert np.signbit(back).tolist() == np.signbit(represented).tolist()


def test_examples_of_nvfp4():
    # amax 2688 = 6 * 448: tensor scale 1. Blocks: 448, then 21 / 6 = 3.5, 0.75 / 6 = 0.125, and one below e4m3
    array = np.zeros((4, 16))
    array[0, :3] = [2688, -1344, 100]
    array[1, :4] = [21, 5.25, -8.75, 0.8]  # / 3.5: 6, 1.5, -2.5 (tie: -2), 0.2286
    array[2, :2] = [0.75, 0.03]
    array[3, :2] = [0.005, -0.001]  # / 6 < 2^-10: the scale is 0
    result = encoded(array, "nvfp4")
    assert result.tensor_scale == 0x3F800000
    assert result.scales.ravel().tolist() == [0x7E, 0x46, 0x20, 0x00]
    assert result.codes[:, :4].tolist() == [[7, 13, 0, 0], [7, 3, 12, 0], [7, 0, 0, 0], [0, 8, 0, 0]]
    assert hu.quantize(array, "nvfp4")[1, :3].tolist() == [21, 5.25, -7]
    # a tensor scale found elsewhere: 2 (fp32 0x40000000) halves the block scales
    half = encoded(array, "nvfp4", tensor_scale=0x40000000)
    assert half.scales.ravel().tolist() == [0x76, 0x3E, 0x18, 0x00]
    # a tensor of zeros, and one whose scale would be below fp32's least
    assert encoded(np.zeros(3), "nvfp4").tensor_scale == 0x3F800000
    assert encoded([1e-60, 2e-60], "nvfp4").tensor_scale == 1
    # a block with a NaN is NaN, and does not touch the others' scale
    array[3, 5] = INF
    assert encoded(array, "nvfp4").scales.ravel().tolist() == [0x7E, 0x46, 0x20, 0x7F]
    assert np.isnan(hu.quantize(array, "nvfp4")[3]).all() and not np.isnan(hu.quantize(array, "nvfp4")[:3]).any()


def test_any_axis_and_a_ragged_last_block():
    rng = np.random.default_rng(5)
    array = rng.normal(size=(5, 7, 6)) * np.exp2(rng.integers(-6, 6, (5, 7, 6)))
    for name in ("mxfp4x4", "nvfp4x4"):
        for axis, letters in ((0, (1, 2, 0)), (1, (0, 2, 1)), (2, (0, 1, 2)), (-3, (1, 2, 0))):
            result = encoded(array, name, axis=axis)
            last = encoded(np.ascontiguousarray(array.transpose(letters)), name)  # the same with the axis moved last
            np.testing.assert_array_equal(result.codes.transpose(letters), last.codes)
            np.testing.assert_array_equal(result.scales.transpose(letters), last.scales)
            assert last.scales.shape[-1] == -(-array.shape[axis] // 4)
            assert hu.format(name).decode(result).shape == array.shape
            np.testing.assert_array_equal(hu.quantize(array, name, axis=axis), hu.format(name).decode(result))
    whole = hu.encode_blocks(array[0, 0], "mxfp4x4")
    np.testing.assert_array_equal(whole.scales[1], hu.encode_blocks(array[0, 0, 4:], "mxfp4x4").scales[0])
    alone = hu.quantize(0.3, "mxfp4")  # a block of one: 0.3 / 2^-4 = 4.8, to 4
    assert alone == 0.25 and isinstance(alone, float)


def test_stochastic_rounding_is_given_bits_or_a_seed():
    x = np.array([4.0, 0.6, 0.6, 0.6, 0.6])
    fmt = hu.format("mxfp4")
    # 0.6 lies 1/5 of the way from 0.5 to 1: floor(0.2 * 4) = 0, so SR2 never rounds up; SR3: 1 of 8
    assert fmt.encode(x, rounding="SR2", random=[0, 0, 1, 2, 3]).codes.tolist() == [6, 1, 1, 1, 1]
    assert fmt.encode(x, rounding="SR3", random=[0, 0, 6, 7, 1]).codes.tolist() == [6, 1, 1, 2, 1]
    many = np.full((64, 32), 0.6)
    many[:, 0] = 4.0
    first, again, other = (hu.quantize(many, fmt, "SR8", seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert 0.15 < (first == 1).mean() < 0.25


# ------------------------------------------------------------------------------------------------ other packages


def test_elements_and_scales_are_those_of_ml_dtypes():
    """Every code of every OCP part has the value that ml_dtypes gives it."""
    for name, dtype in {
        "fp8_e4m3": ml_dtypes.float8_e4m3fn,
        "fp8_e5m2": ml_dtypes.float8_e5m2,
        "fp6_e3m2": ml_dtypes.float6_e3m2fn,
        "fp6_e2m3": ml_dtypes.float6_e2m3fn,
        "fp4_e2m1": ml_dtypes.float4_e2m1fn,
        "e8m0": ml_dtypes.float8_e8m0fnu,
    }.items():
        fmt = hu.format(name)
        codes = np.arange(1 << fmt.bits, dtype=np.uint8)
        np.testing.assert_array_equal(fmt.decode(codes), codes.view(dtype).astype(np.float64))


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8"])
def test_gfloat_agrees_on_mx_formats(name):
    """gfloat 0.5.2, ``quantize_block`` with ``compute_scale_amax``: the OCP rule on binary64, elements saturating."""
    formats = pytest.importorskip("gfloat.formats")
    block = pytest.importorskip("gfloat.block")
    info = getattr(formats, f"format_info_{'mxfp4_e2m1' if name == 'mxfp4' else name}")
    rng = np.random.default_rng(17)
    for _ in range(20):
        row = rng.normal(size=32) * np.exp2(rng.integers(-8, 8, 32))
        ours, theirs = hu.quantize(row, name), block.quantize_block(info, row, block.compute_scale_amax)
        np.testing.assert_array_equal(ours, theirs)
    # it takes floor(log2 amax) of a rounded logarithm: just below a power of two the scale is twice too large
    row = np.array([np.nextafter(8.0, 0), 0.51])
    ours, theirs = hu.encode_blocks(row, "mxfp4"), block.compute_scale_amax(2, row)
    assert (
        ours.scales.tolist() == [127] and theirs == 2.0
    )  # MX 6.3: the largest power of two <= amax is 4: we are right


# --------------------------------------------------------------------------------------------- blocks as integers


def test_a_packed_block_has_element_0_lowest_and_the_scale_on_top():
    fmt = hu.format("mxfp4x4")
    assert (fmt.bits, fmt.bits_per_element) == (24, 6.0)
    assert fmt.pack_block([1, 2, 15, 4], 0x81) == 0x814F21
    assert fmt.unpack_block(0x814F21) == ((1, 2, 15, 4), 0x81)
    datum = fmt.unpack(0x814F21)
    assert [float(e) for e in datum.elements] == [0.5, 1, -6, 2] and float(datum.scale) == 4
    assert (hu.format("mxfp4").bits, hu.format("nvfp4").bits, hu.format("mxfp6_e3m2").bits) == (136, 72, 200)
    codes, scale = encode_block([exact(v) for v in (1, 2, -6, 3)], fmt)
    assert fmt.unpack_block(fmt.pack_block(codes, scale)) == (codes, scale) == ((2, 4, 15, 5), 127)
    for bad in ([1, 2, 3], [1, 2, 3, 16], [1, 2, 3, -1]):
        with pytest.raises(hu.HalfulpError, match=r"has 4 elements|codes of e2m1finite"):
            fmt.pack_block(bad, 0)
    with pytest.raises(hu.HalfulpError, match=r"2\*\*24"):
        fmt.unpack_block(1 << 24)


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "mxfp6_e2m3", "mxint8", "nvfp4", "msfp12"])
def test_block_dot_is_exact_and_rounded_once(name):
    fmt = hu.format(name)
    grid = {**SINGLE_SCALE, "nvfp4": (E2M1, 16)}[name][0]
    rng = np.random.default_rng(23)
    coded = [c for c in range(1 << fmt.element.bits) if c not in (0x7F, 0xFF) or name != "mxfp8_e4m3"]
    for _ in range(60):
        x, y = (rng.choice(coded, fmt.size).tolist() for _ in range(2))
        s, t = rng.integers(100, 126, 2).tolist()
        result = block_dot(fmt.unpack(fmt.pack_block(x, s)), fmt.unpack(fmt.pack_block(y, t)))
        scale = [E4M3.magnitudes if name == "nvfp4" else E8M0][0]
        exact_sum = sum(decode(grid, a) * decode(grid, b) for a, b in zip(x, y, strict=True)) * scale[s] * scale[t]
        expected = fp32_to_nearest(abs(exact_sum)) * (-1 if exact_sum < 0 else 1) if exact_sum else Fraction(0)
        assert np.uint32(result.code).view(np.float32) == float(expected)
        assert result.flags == (Flags.NONE if expected == exact_sum else Flags.INEXACT)


def test_block_dot_of_specials():
    mxfp8 = hu.format("mxfp8_e5m2x2")
    data = lambda codes, scale: mxfp8.unpack(mxfp8.pack_block(codes, scale))  # noqa: E731
    one, inf = 0x3C, 0x7C
    assert block_dot(data([one, one], 255), data([one, one], 127)).code == 0x7FC00000  # a NaN scale
    assert block_dot(data([inf, one], 127), data([one, one], 127)).code == 0x7F800000
    assert block_dot(data([inf, one], 127), data([0, one], 127)) == (0x7FC00000, Flags.INVALID)
    assert block_dot(data([0x80, 0x80], 127), data([one, one], 127)).code == 0x80000000
    assert block_dot(data([one, one], 254), data([one, one], 254)) == (0x7F800000, Flags.OVERFLOW | Flags.INEXACT)
    assert block_dot(data([one, one], 127), data([one, one], 127), hu.format("fp16")).code == 0x4000
    with pytest.raises(hu.HalfulpError, match="no dot product"):
        block_dot(data([one, one], 0), hu.format("mxfp4").unpack(0))


# ------------------------------------------------------------------------------------------------- names and errors


@pytest.mark.parametrize(
    ("name", "canonical", "bits"),
    [
        ("mxfp8_e4m3", "e4m3fnx32+ue8m0+floor", 8.25),
        ("mxfp8_e5m2+rceil", "e5m2x32+ue8m0+rceil", 8.25),
        ("MXFP4x16+Even", "e2m1finitex16+ue8m0+even", 4.5),
        ("mxint8x64", "q2.6x64+ue8m0+floor", 8.125),
        ("nvfp4", "e2m1finitex16+e4m3fn+e8m23+amax", 4.5),
        ("nvfp4+floor", "e2m1finitex16+e4m3fn+e8m23+floor", 4.5),
        ("fp4_e2m1x16+fp8_e4m3+fp32+amax", "e2m1finitex16+e4m3fn+e8m23+amax", 4.5),
        ("msfp12", "e1m2finiteb1x16+ue8m0+floor", 4.5),
        ("msfp16", "e1m6finiteb1x16+ue8m0+floor", 8.5),
        ("bfp8x16", "e1m6finiteb1x16+ue8m0+floor", 8.5),
        ("bfp2x1+ceil", "e1m0finiteb1x1+ue8m0+ceil", 10.0),
        ("int4x128+fp16+amax", "q4.0x128+e5m10+amax", 4.125),
    ],
)
def test_names(name, canonical, bits):
    fmt = hu.format(name)
    assert isinstance(fmt, hu.BlockFormat) and str(fmt) == canonical and fmt.bits_per_element == bits
    assert hu.format(canonical) == fmt == hu.format(fmt)


def test_aliases_are_canonical_names():
    for alias, canonical in hu.BLOCK_ALIASES.items():
        fmt = hu.format(alias)
        assert str(fmt) == str(hu.format(canonical)) and hu.emulator.names.alias(fmt) == alias
    assert hu.emulator.names.alias(hu.format("mxfp4x7")) == str(hu.format("mxfp4x7"))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("mxfp4+up", "unknown scale rule .* floor, ceil, even, rceil, amax"),
        ("mxfp5", "did you mean .*mxfp4"),
        ("mxfp4x0", "at least 1"),
        ("bfp8", r"bfp<n>x<size>"),
        ("bfp1x16", r"n = 2\.\.\.45"),
        ("e2m1finitex32", "unknown format"),
        ("e9m1x32+e8m0x", "unknown format"),
        ("q4.4wx8+e8m0", "leave out the suffix w"),
        ("fp32x8+fp32+fp32", "at most 53"),
        ("fp64x8+e8m0", "at most 53"),
        ("e11m2x8+e8m0", "2\\^-340"),
        ("q1.0x8+e8m0", "at most 53"),
        ("mxfp4x8+e8m0", "unknown scale rule"),
    ],
)
def test_bad_names_get_one_sentence(name, match):
    with pytest.raises(hu.HalfulpError, match=match):
        hu.format(name)


def test_properties_and_what_is_refused():
    fmt = hu.format("mxfp4")
    assert (fmt.max_finite, fmt.min_finite, fmt.min_subnormal) == (6 * 2.0**127, -6 * 2.0**127, 2.0**-128)
    assert (fmt.precision, fmt.has_infinity, fmt.has_nan) == (2, False, True)
    assert fmt.rule is Rule.FLOOR and fmt == blocks.BlockFormat(fmt.element, fmt.scale, 32)
    assert hu.format("mxint8").min_finite == -2 * 2.0**127
    assert hu.format("e4m3fnsatx32+e8m0") == hu.format("mxfp8_e4m3"), "elements saturate anyway"
    for make, text in ((hu.Datapath, "mxfp4"), (hu.Datapath.parse, "fp16/mxfp4"), (hu.Machine, "fp16/fp32/mxfp4")):
        with pytest.raises(hu.HalfulpError, match="float or fixed-point format; mxfp4 is neither"):
            make(text)
    with pytest.raises(hu.HalfulpError, match=r"works on single numbers; .* is a block format"):
        hu.Machine("mxfp4/fp32").add([1.0], [1.0])
    with pytest.raises(hu.HalfulpError, match="block format"):
        hu.Machine("fp32").quantize([1.0], "mxfp4")
    with pytest.raises(hu.HalfulpError, match="fp16 is a format of single numbers"):
        hu.encode_blocks([1.0], "fp16")
    for values, axis in ((1.0, -1), ([1.0], 1), ([], 0), ([[1.0]], -3)):
        for put in (fmt.encode, lambda v, a: hu.encode_blocks(v, fmt, a)):
            with pytest.raises(hu.HalfulpError, match="cannot be cut into blocks"):
                put(values, axis)
    for put in (fmt.encode, lambda v, **more: hu.encode_blocks(v, fmt, **more)):
        with pytest.raises(hu.HalfulpError, match="has no tensor scale"):
            put([1.0], tensor_scale=0)
    with pytest.raises(hu.HalfulpError, match="positive number"):
        hu.encode_blocks([1.0], "nvfp4", tensor_scale=0)
    with pytest.raises(hu.HalfulpError, match="its scale format has no NaN"):
        hu.encode_blocks([NAN], "fp4_e2m1x4+uq4.4")
    with pytest.raises(hu.HalfulpError, match="its scale format has no NaN"):
        hu.format("fp4_e2m1x4+uq4.4").encode([NAN])
    for more in ({"flags": True}, {"out": np.zeros(2)}):
        with pytest.raises(hu.HalfulpError, match="without flags, out and random"):
            hu.quantize([1.0, 2.0], "mxfp4", **more)
    result = hu.encode_blocks(np.ones((2, 40)), fmt)
    with pytest.raises(hu.HalfulpError, match=r"need scales of shape \(2, 2\), not \(2, 1\)"):
        fmt.decode(result._replace(scales=result.scales[:, :1]))
    with pytest.raises(hu.HalfulpError, match="has no tensor scale"):
        fmt.decode(result._replace(tensor_scale=1))
    assert isinstance(result, hu.Blocks)
