"""The kernels equal the definition, code for code.

What is proven here, for every backend (``cpu``: Numba; ``cxx``: the emitted C++ under g++ with UBSan; ``gpu``: CuPy):

* quantize, add, mul, fma give the code that ``emulator.arithmetic`` gives, in every mode, on directed and random
  inputs; matmul, dot and spmv give the code that ``emulator.datapath.dot`` gives, stochastic rounding included;
* the three paths (NATIVE, ODD, WIDE) are all taken, and agree wherever more than one applies;
* threads never change a bit, a seed always gives the same ones;
* the ledger's closed forms equal what an instrumented run of the definition counts;
* wrong input gets a HalfulpError of one sentence.

Codes are compared, never values: ``fmt.encode`` refuses what the format does not hold and tells -0 from +0.
"""

import functools
import importlib.util
import itertools
import os
import subprocess
import sys
import warnings
from collections import Counter

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse
from halfulp.emulator import arithmetic, datapath
from halfulp.emulator.formats import Kind, Specials
from halfulp.emulator.random import Role, random_bits, stream
from halfulp.kernels import backends, loops
from halfulp.kernels.target import Path, accumulate_path, convert_path, mac_path, product_is_exact, target

SEED = 20240229
NO_CUPY = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="needs CuPy and a CUDA device: pip install 'halfulp[gpu]'"
)
BACKENDS = ["cpu", "cxx", pytest.param("gpu", marks=[pytest.mark.gpu, NO_CUPY])]
UBSAN = "-fsanitize=undefined -fno-sanitize-recover=undefined"
ONE = hu.FixedFormat(2, 0)
MODES = [hu.RNE, hu.RNA, hu.RTZ, hu.RTP, hu.RTN, hu.RTO]
ALL_MODES = [*MODES, hu.SR(1), hu.SR(8), hu.SR(32)]


@pytest.fixture(scope="module", autouse=True)
def sanitized():
    """Build the C++ of this module's tests with UBSan: undefined behaviour ends the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFULP_CXXFLAGS", UBSAN)
        yield


def f(name):
    return hu.format(name)


def drawn(rounding, seed, role, element=0, step=0, call=1):
    """The random integer that the definition is handed: a fresh Machine's first call is call 1."""
    return random_bits(seed, stream(call, role), element, step, rounding.random_bits) if rounding.random_bits else 0


def assert_codes(fmt, got, expected, describe):
    """``got`` (values) are the codes ``expected``; the first difference is shown with its input."""
    codes = fmt.encode(np.asarray(got).ravel())
    expected = np.asarray(expected, dtype=codes.dtype)
    wrong = np.flatnonzero(codes != expected)
    if wrong.size:
        i = int(wrong[0])
        pytest.fail(
            f"{wrong.size} of {codes.size} differ; first at {i}: {describe(i)}: "
            f"got {codes[i]:#x}, definition {expected[i]:#x} ({fmt})"
        )


def assert_same_bits(x, y):
    """Equal bit for bit, where all NaNs count as one."""
    x, y = np.asarray(x).ravel(), np.asarray(y).ravel()
    differ = np.flatnonzero((x.view(np.int64) != y.view(np.int64)) & ~(np.isnan(x) & np.isnan(y)))
    assert not differ.size, f"first at {differ[0]}: {x[differ[0]]!r} and {y[differ[0]]!r}"


# ---- quantize ----------------------------------------------------------------------------------------------------

FORMATS = [
    *(
        "fp16",
        "bf16",
        "tf32",
        "fp32",
        "fp64",
        "e4m3",
        "e4m3fn",
        "e5m2",
        "e5m2sat",
        "e4m3fnsat",
        "e4m3fnuz",
        "e5m2fnuz",
        "e5m2fnuzsat",
    ),
    *(
        "e3m2finite",
        "e2m1finite",
        "e2m0",
        "e2m0finite",
        "e5m0",
        "e3m0fn",
        "e5m10ftz",
        "e8m7ftz",
        "e4m3fnftz",
        "e5m2fnuzftzsat",
        "e2m0ftz",
    ),
    *(
        "e5m10b20",
        "e4m3b-3",
        "e8m7b-760",
        "e8m7b900",
        "e11m52ftz",
        "e11m52sat",
        "e11m40",
        "e11m51",
        "e11m50",
        "e10m50",
        "e10m51",
    ),
    *("e9m18", "e9m19", "e8m23ftz"),
    *(
        "q4.12",
        "q8.8w",
        "uq4.12",
        "uq4.12w",
        "q8.0",
        "q1.7",
        "uq0.8",
        "q1.0",
        "uq1.0",
        "q-2.10",
        "q20.-4",
        "q53.0",
        "uq53.0",
        "q30.23w",
        "q10.40",
    ),
]


def directed_doubles(fmt):
    """Doubles around everything at which a rounding into ``fmt`` can turn."""
    codes = sorted(
        set(directed_codes(fmt)) | {c % (1 << fmt.bits) for d in directed_codes(fmt) for c in (d - 1, d + 1, d + 2)}
    )
    values = fmt.decode(np.array(codes, dtype=np.uint64))
    values = np.unique(np.abs(values[np.isfinite(values)]))
    top = fmt.max_finite
    step = top - float(np.max(values[values < top], initial=0.0))
    small = fmt.min_subnormal
    edges = [top + step * s for s in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 100.0)] + [
        abs(fmt.min_finite) + small * s for s in (0.5, 1, 2)
    ]
    edges += [small * s for s in (2.0**-60, 2.0**-31, 2.0**-9, 0.25, 0.5, 0.75, 1.5, 2.5, 3.5)]
    edges += [5e-324, 1e-323, 1.5e-310, 2.0**-1022, 2.0**-1022 - 5e-324, 2.0**-1021]
    edges += [2.0**62 + 2.0**10, 2.0**119 + 2.0**70, 1e300, sys.float_info.max, np.inf]
    between = [lo / 2 + hi / 2 for lo, hi in itertools.pairwise(values)]
    quarters = [lo / 4 * 3 + hi / 4 for lo, hi in itertools.pairwise(values)]
    points = np.array([*values, *between, *quarters, *edges], dtype=np.float64)
    with np.errstate(over="ignore"):
        points = np.concatenate([points, np.nextafter(points, 0.0), np.nextafter(points, np.inf)])
    points = np.unique(points[~np.isnan(points)])
    return np.concatenate([points, -points, [0.0, -0.0, np.nan]])


def directed_codes(fmt):
    """Codes of ``fmt`` with a meaning: zeros, subnormal and overflow edges, one, infinities, NaNs."""
    if isinstance(fmt, hu.FixedFormat):
        low, high = fmt.min_integer, fmt.max_integer
        one = 1 << fmt.fraction_bits if 0 <= fmt.fraction_bits < fmt.bits else 3
        integers = [0, 1, 2, 3, -1, -2, one, one + 1, one - 1, -one, low, low + 1, high, high - 1, high // 2, low // 2]
        return sorted({i & ((1 << fmt.bits) - 1) for i in integers if low <= i <= high})
    t, w = fmt.trailing_bits, fmt.exponent_bits
    top = 1 << (w + t)
    one = min(max(fmt.bias, 0), (1 << w) - 1) << t
    inf = ((1 << w) - 1) << t
    codes = [
        0,
        1,
        2,
        (1 << t) - 1,
        1 << t,
        (1 << t) + 1,
        (2 << t) - 1,
        one,
        one + 1,
        one - 1,
        (one + (1 << t)) | (1 << t >> 1),
    ]
    codes += [inf - 1, inf, inf + 1, top - 1, top - 2]
    return sorted({c + s for c in codes if 0 <= c < top for s in (0, top)})


@functools.cache
def every_16_bit_value():
    """All 131072 codes of fp16 and bf16, as values."""
    codes = np.arange(1 << 16, dtype=np.uint64)
    return np.concatenate([f("fp16").decode(codes), f("bf16").decode(codes)])


@functools.cache
def quantize_inputs(fmt_name, which):
    """Directed doubles, random doubles, and one slice of the 131072 codes.

    Over all formats and modes the slices cover every code.
    """
    fmt, count = f(fmt_name), len(FORMATS) * len(ALL_MODES)
    rng = np.random.default_rng([SEED, which])
    directed = directed_doubles(fmt)
    if directed.size > 330:  # a different sample for each mode; the slow test takes all
        directed = rng.permutation(directed)[:330]
    middle = np.log2(max(fmt.max_finite, 1e-300)) / 2 + np.log2(fmt.min_subnormal) / 2
    wide = rng.normal(size=60) * 2.0 ** np.clip(middle + rng.integers(-30, 30, 60), -1000, 1000)
    return np.concatenate([directed, wide, every_16_bit_value()[which::count]])


def defined_quantize(values, fmt, rounding, seed=SEED):
    return [
        arithmetic.quantize(arithmetic.exact(float(x)), fmt, rounding, drawn(rounding, seed, Role.OUTPUT, i)).code
        for i, x in enumerate(values)
    ]


@functools.cache
def expected_quantize(fmt_name, which):
    return defined_quantize(quantize_inputs(fmt_name, which), f(fmt_name), ALL_MODES[which % len(ALL_MODES)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_quantize(name, backend):
    fmt = f(name)
    for m, rounding in enumerate(ALL_MODES):
        which = FORMATS.index(name) * len(ALL_MODES) + m
        x = quantize_inputs(name, which)
        got = hu.quantize(x, fmt, rounding, seed=SEED, backend=backend)
        assert_codes(fmt, got, expected_quantize(name, which), lambda i, x=x, r=rounding: f"{float(x[i]).hex()} @{r}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_convert_paths_agree(name, backend):
    """ODD and WIDE on the same doubles, for every format that may take ODD."""
    fmt, machine = f(name), backends.backend(backend, 1)
    x = directed_doubles(fmt)
    for rounding in ALL_MODES:
        if convert_path(fmt, rounding) is not Path.ODD:
            continue
        k = rounding.random_bits
        random = np.random.default_rng(SEED).integers(0, 1 << k, x.size) << (62 - k)
        outs = []
        for path in (Path.ODD, Path.WIDE):
            out = machine.array(np.empty(x.size))
            machine.launch(
                "convert",
                x.size,
                machine.array(x),
                out,
                machine.array(random, np.int64),
                int(path),
                target(fmt, rounding),
            )
            outs.append(machine.to_host(out))
        assert_same_bits(*outs)


def test_convert_takes_both_paths():
    taken = Counter(convert_path(f(name), rounding) for name in FORMATS for rounding in ALL_MODES)
    assert taken[Path.ODD] > 100 and taken[Path.WIDE] > 50
    assert convert_path(f("e10m50"), hu.RNE) is Path.ODD and convert_path(f("e10m51"), hu.RNE) is Path.WIDE
    assert convert_path(f("e9m18"), hu.SR(32)) is Path.ODD and convert_path(f("e9m19"), hu.SR(32)) is Path.WIDE


NARROW = [name for name in FORMATS if f(name).bits <= 8 and not getattr(f(name), "wrap", False)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NARROW)
def test_quantize_every_16_bit_code(name, backend):
    """All fp16 and all bf16 codes into every format of at most 8 bits, deterministic modes.

    Rounding is monotone, so where the kernel gives one code over a run of sorted inputs, it is enough that the
    definition gives that code at both ends of the run. Zeros, infinities and NaNs are checked one by one.
    """
    fmt, x = f(name), every_16_bit_value()
    ordinary = np.sort(x[np.isfinite(x) & (x != 0.0)])
    x = np.concatenate([[0.0, -0.0, np.inf, -np.inf, np.nan], ordinary])
    for rounding in MODES:
        codes = fmt.encode(hu.quantize(x, fmt, rounding, backend=backend)).astype(np.int64)
        ends = np.flatnonzero(np.diff(codes[5:])) + 5
        points = np.unique(np.concatenate([np.arange(6), ends, ends + 1, [x.size - 1]]))
        assert points.size < (4 << fmt.bits) + 10
        expected = [_cached_quantize(name, rounding, float(v).hex()) for v in x[points]]
        assert_codes(
            fmt,
            fmt.decode(codes[points].astype(np.uint64)),
            expected,
            lambda i, r=rounding, p=points: f"{x[p[i]]!r} @{r}",
        )


@functools.cache
def _cached_quantize(name, rounding, text):
    return arithmetic.quantize(arithmetic.exact(float.fromhex(text)), f(name), rounding).code


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_quantize_exhaustively(name, backend):
    """Every code of fp16 and bf16 into every format, the modes taking turns; every directed double in every mode."""
    for m, rounding in enumerate(ALL_MODES):
        x, expected = _exhaustive(name, m)
        got = hu.quantize(x, name, rounding, seed=SEED, backend=backend)
        assert_codes(f(name), got, expected, lambda i, r=rounding, x=x: f"{float(x[i]).hex()} @{r}")


@functools.lru_cache(maxsize=len(ALL_MODES))
def _exhaustive(name, m):
    first = (FORMATS.index(name) + m) % len(ALL_MODES)
    x = np.concatenate([directed_doubles(f(name)), every_16_bit_value()[first :: len(ALL_MODES)]])
    return x, defined_quantize(x, f(name), ALL_MODES[m])


def test_quantize_scalar_gives_float():
    got = hu.quantize(0.3, "fp16")
    assert isinstance(got, float) and got == 0.300048828125


@pytest.mark.parametrize("backend", BACKENDS)
def test_scalars_keep_their_shape(backend):
    """The documented shape is that of the input, () too."""
    machine = hu.Machine("fp16", backend)
    assert machine.quantize(np.array(0.3)).shape == ()
    assert machine.add(0.3, 0.5).shape == ()


@pytest.mark.parametrize("backend", BACKENDS)
def test_input_layouts(backend):
    """Shapes, strides, dtypes: the result is that of the float64 array of the same values; inputs are not touched."""
    x = np.arange(24, dtype=np.float64).reshape(4, 6) / 7
    for view in (
        x,
        x.T,
        x[::-1, ::2],
        np.asfortranarray(x),
        x.astype(np.float32),
        x.tolist(),
        np.arange(12, dtype=np.int32).reshape(3, 2, 2),
    ):
        array = np.asarray(view, dtype=np.float64)
        before = array.copy()
        got = hu.quantize(view, "e4m3fn", "RTZ", backend=backend)
        assert got.shape == array.shape and got.dtype == np.float64
        assert_codes(
            f("e4m3fn"), got, defined_quantize(array.ravel(), f("e4m3fn"), hu.RTZ), lambda i, a=array: str(a.flat[i])
        )
        assert np.array_equal(array, before)


# ---- add, mul, fma -----------------------------------------------------------------------------------------------

#: a, b, accumulator (the addend of fma), output
QUADS = [
    ("fp16", "fp16", "fp16", "fp16"),
    ("bf16", "bf16", "fp32", "fp32"),
    ("bf16", "bf16", "bf16", "bf16"),
    ("e4m3fn", "e5m2", "fp16", "e4m3fn"),
    ("fp32", "fp32", "fp32", "fp32"),
    ("fp32", "fp32", "fp32", "fp16"),
    ("fp64", "fp64", "fp64", "fp64"),
    ("fp64", "fp64", "fp64", "fp32"),
    ("fp32", "fp32", "fp64", "fp64"),
    ("fp64", "fp16", "fp32", "bf16"),
    ("fp64", "fp64", "fp64", "e11m52ftz"),
    ("fp64", "fp64", "fp64", "e11m52sat"),
    ("fp16", "fp16", "fp16", "e11m40"),
    ("bf16", "bf16", "bf16", "e10m50"),
    ("bf16", "bf16", "bf16", "e10m51"),
    ("bf16", "fp32", "bf16", "e9m18"),
    ("e9m25", "e9m25", "e9m25", "e9m25"),
    ("e9m26", "e9m25", "e9m26", "e9m26"),
    ("e11m20", "e11m20", "e11m20", "e11m20"),
    ("e10m20", "e10m20", "e10m20", "e10m20"),
    ("e8m7b-300", "e8m7b-300", "e8m7b-300", "e8m7b-300"),
    ("e8m7b-760", "e8m7b900", "fp64", "fp32"),
    ("e5m10ftz", "e5m10ftz", "e5m10ftz", "e5m10ftz"),
    ("fp16", "fp16", "fp32", "e4m3fnftz"),
    ("fp16", "fp16", "fp32", "e5m10sat"),
    ("e4m3fnuz", "e5m2fnuz", "e5m2fnuz", "e4m3fnuz"),
    ("e2m1finite", "e2m1finite", "e3m2finite", "e2m0"),
    ("e3m2finite", "fp16", "fp16", "e3m2finite"),
    ("q8.8", "q8.8", "q8.8", "q8.8"),
    ("q8.8", "q8.8", "q8.8", "q8.8w"),
    ("uq4.4", "q4.4", "q12.8", "uq8.4"),
    ("uq4.4w", "q4.4w", "q12.8w", "uq8.4w"),
    ("q20.6", "q20.7", "q40.13", "q40.13"),
    ("q8.0", "e4m3fn", "fp16", "q4.12"),
    ("fp16", "q4.4", "bf16", "q30.23w"),
]
OPS = ["add", "mul", "fma"]


def op_path(op, quad, rounding):
    a, b, c, out = map(f, quad)
    return mac_path(*{"add": (a, ONE, b), "mul": (a, b, ONE), "fma": (a, b, c)}[op], out, rounding)


@functools.cache
def triples(quad):
    """Codes of x, y, z: directed against directed, cancellations, exponent gaps, random."""
    a, b, c, _ = map(f, quad)
    rng = np.random.default_rng([SEED, QUADS.index(quad)])
    pick = lambda fmt: choice(directed_codes(fmt), rng)  # noqa: E731
    anything = lambda fmt: int(rng.integers(0, 1 << fmt.bits, dtype=np.uint64))  # noqa: E731
    zeros = [[code for code in directed_codes(fmt) if fmt.unpack(code).is_zero][:2] for fmt in (a, b, c)]
    rows = list(itertools.product(*zeros))
    rows += [(pick(a), pick(b), pick(c)) for _ in range(35)]
    rows += [(x, pick(b), z) for x, z in zip(directed_codes(a), itertools.cycle(directed_codes(c)), strict=False)]
    rows += [(anything(a), anything(b), anything(c)) for _ in range(25)]
    for _ in range(25):  # y near -x, z near -(x * y)
        x = anything(a) if rng.random() < 0.5 else tame_code(a, rng)
        datum = a.unpack(x)
        y = arithmetic.quantize(datum._replace(negative=not datum.negative), b).code
        y = (y + int(rng.integers(-1, 2))) % (1 << b.bits) if rng.random() < 0.7 else tame_code(b, rng)
        product = arithmetic.exact_product(datum, b.unpack(y))
        z = arithmetic.quantize(product._replace(negative=not product.negative), c, hu.RTZ).code
        rows.append((x, y, (z + int(rng.integers(-1, 2))) % (1 << c.bits)))
    return rows


def choice(codes, rng):
    """One of a list of Python integers (of which NumPy would make floats)."""
    return codes[rng.integers(len(codes))]


def tame_code(fmt, rng):
    """A code whose value is near one (fixed point: of few bits)."""
    if isinstance(fmt, hu.FixedFormat):
        bits = int(rng.integers(1, fmt.bits + 1))
        integer = int(rng.integers(0, 1 << bits)) >> 1
        return (-integer if fmt.signed and rng.random() < 0.5 else integer) & ((1 << fmt.bits) - 1)
    w, t = fmt.exponent_bits, fmt.trailing_bits
    field = int(np.clip(fmt.bias + rng.integers(-4, 4), 0, (1 << w) - 2))
    return int(rng.integers(0, 2)) << (w + t) | field << t | int(rng.integers(0, 1 << t))


@functools.cache
def expected_op(op, quad, rounding):
    a, b, c, out = map(f, quad)
    codes = []
    for i, (x, y, z) in enumerate(triples(quad)):
        x, y, z, r = a.unpack(x), b.unpack(y), c.unpack(z), drawn(rounding, SEED, Role.OUTPUT, i)
        operands = {"add": (x, y), "mul": (x, y), "fma": (x, y, z)}[op]
        codes.append(getattr(arithmetic, op)(*operands, out, rounding, r).code)
    return codes


def columns(quad):
    return [
        f(name).decode(np.array(codes, dtype=np.uint64))
        for name, codes in zip(quad, zip(*triples(quad), strict=True), strict=False)
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("quad", QUADS, ids="-".join)
def test_add_mul_fma(quad, backend):
    operands = columns(quad)
    for rounding, op in itertools.product(ALL_MODES, OPS):
        a, b, c, out = quad
        machine = hu.Machine(hu.Datapath(a, b, c, output=out, output_rounding=rounding), backend, SEED)
        used = operands if op == "fma" else operands[:2]
        got = getattr(machine, op)(*used)
        describe = lambda i, u=used, o=op, r=rounding: f"{o}{tuple(float(v[i]).hex() for v in u)} @{r}"  # noqa: E731
        assert_codes(f(out), got, expected_op(op, quad, rounding), describe)


def test_all_three_paths_are_taken():
    for op in OPS:
        taken = Counter(op_path(op, quad, rounding) for quad in QUADS for rounding in ALL_MODES)
        assert taken[Path.NATIVE] >= 2 and taken[Path.ODD] >= 50 and taken[Path.WIDE] >= 50, (op, taken)
    assert op_path("fma", QUADS[0], hu.RNE) is Path.ODD
    assert op_path("fma", ("fp64",) * 4, hu.RNE) is Path.NATIVE
    assert op_path("fma", ("fp64",) * 4, hu.RTZ) is Path.WIDE


FAR_APART = [
    (2.0**99, 2.0**-20),
    (-(2.0**99), 2.0**-20),
    (2.0**100, -(2.0**-20)),
    (2.0**1000, 3 * 2.0**-24),
    (2.0**1000, 2.0**-1000),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x, y", FAR_APART)
def test_wrapping_keeps_the_low_bits_of_a_far_sum(x, y, backend):
    """A wrapping format looks at every bit of the exact sum, however far apart its terms are."""
    for rounding in MODES:
        for op, operands in (("add", (x, y)), ("fma", (1.0, x, y)), ("fma", (0.5, y * 2, x))):
            dp = hu.Datapath("fp64", output="q4.24w", output_rounding=rounding)
            got = getattr(hu.Machine(dp, backend), op)(*([v] for v in operands))
            expected = getattr(arithmetic, op)(*map(arithmetic.exact, operands), dp.output, rounding).code
            assert_codes(dp.output, got, [expected], lambda i, o=op, u=operands, r=rounding: f"{o}{u} @{r}")


def multiply_add(machine, path, x, y, z, random, t):
    out = machine.array(np.empty(x.size))
    machine.launch(
        "multiply_add", x.size, *map(machine.array, (x, y, z)), out, machine.array(random, np.int64), int(path), t
    )
    return machine.to_host(out)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("quad", QUADS, ids="-".join)
def test_paths_of_multiply_add_agree(quad, backend):
    """Where NATIVE or ODD is taken, WIDE gives the same bits; on more operands than the definition is asked for."""
    rng = np.random.default_rng(SEED)
    machine = backends.backend(backend, 1)
    codes = np.array(triples(quad), dtype=np.uint64).T
    tame = np.array([[tame_code(f(name), rng) for _ in range(300)] for name in quad[:3]], dtype=np.uint64)
    wild = np.array([rng.integers(0, 1 << f(name).bits, 1500, dtype=np.uint64) for name in quad[:3]])
    x, y, z = (f(name).decode(c) for name, c in zip(quad[:3], np.hstack([codes, tame, wild]), strict=True))
    out = f(quad[3])
    for rounding, op in itertools.product(ALL_MODES, OPS):
        path = op_path(op, quad, rounding)
        if path is Path.WIDE:
            continue
        neutral = np.full(x.size, 0.0 if rounding == hu.RTN else -0.0)
        args = {"add": (x, np.ones(x.size), y), "mul": (x, y, neutral), "fma": (x, y, z)}[op]
        k = rounding.random_bits
        random = rng.integers(0, 1 << k, x.size) << (62 - k)
        t = target(out, rounding)
        assert_same_bits(
            multiply_add(machine, path, *args, random, t), multiply_add(machine, Path.WIDE, *args, random, t)
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_signs(backend):
    """Every combination of zero signs; exact cancellation; products of zeros. Written out, not computed."""
    x = np.array([0.0, 0.0, -0.0, -0.0, 1.5, -1.5])
    y = np.array([0.0, -0.0, 0.0, -0.0, -1.5, 1.5])
    for name, rounding in itertools.product(["fp16", "fp64", "e11m40", "fp32"], MODES):
        machine = hu.Machine(hu.Datapath(name, rounding=rounding), backend)
        unlike = rounding == hu.RTN
        assert np.signbit(machine.add(x, y)).tolist() == [False, unlike, unlike, True, unlike, unlike], (name, rounding)
        assert np.signbit(machine.mul(x[:4], y[:4])).tolist() == [False, True, True, False], (name, rounding)
        assert np.signbit(machine.fma(x[:4], y[:4], np.zeros(4))).tolist() == [False, unlike, unlike, False], (
            name,
            rounding,
        )
        assert np.signbit(machine.fma(x[:4], y[:4], -np.zeros(4))).tolist() == [unlike, True, True, unlike], (
            name,
            rounding,
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_operands_enter_through_their_formats(backend):
    """A value that an operand format does not hold is rounded there first, each role with random bits of its own."""
    rng = np.random.default_rng(SEED)
    x, y, z = rng.normal(size=(3, 60)) * 3
    rounding = hu.SR(8)
    dp = hu.Datapath("e4m3fn", "bf16", "fp16", output="fp32", operand_rounding=rounding, output_rounding=hu.SR(4))
    got = hu.Machine(dp, backend, SEED).fma(x, y, z)
    expected = []
    for i in range(60):
        enter = [
            fmt.unpack(
                arithmetic.quantize(arithmetic.exact(float(v[i])), fmt, rounding, drawn(rounding, SEED, role, i)).code
            )
            for v, fmt, role in ((x, dp.a, Role.A), (y, dp.b, Role.B), (z, dp.accumulator, Role.C))
        ]
        expected.append(arithmetic.fma(*enter, dp.output, hu.SR(4), drawn(hu.SR(4), SEED, Role.OUTPUT, i)).code)
    assert_codes(dp.output, got, expected, lambda i: f"fma({x[i]!r}, {y[i]!r}, {z[i]!r})")


@pytest.mark.parametrize("backend", BACKENDS)
def test_broadcast(backend):
    """Operands broadcast as in NumPy; random bits go by the flat index in the result."""
    dp = hu.Datapath("fp16", output_rounding=hu.SR(8), output="e4m3fn")
    x, y, z = np.array([[1.5], [2.25], [-3.125]]), np.array([0.1875, -0.5625, 7.0, 1.0]), 0.3125
    full = np.broadcast_arrays(x, y, z)
    for op, count in (("add", 2), ("mul", 2), ("fma", 3)):
        got = getattr(hu.Machine(dp, backend, SEED), op)(*(x, y, z)[:count])
        flat = getattr(hu.Machine(dp, backend, SEED), op)(*(v.ravel() for v in full[:count]))
        assert got.shape == (3, 4)
        assert_same_bits(got, flat)
    assert_same_bits(
        hu.Machine(dp, backend, SEED).axpy(1.5, y, y), hu.Machine(dp, backend, SEED).fma(np.full(4, 1.5), y, y)
    )


class LikeCupy:
    """NumPy, but broadcasting as CuPy does it: scalars that are no arrays stay as they are.

    Source: ``_broadcast_core`` in cupy/_core/internal.pyx.
    """

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def broadcast_arrays(*arrays):
        full = iter(np.broadcast_arrays(*(a for a in arrays if isinstance(a, np.ndarray))))
        return [next(full) if isinstance(a, np.ndarray) else a for a in arrays]


def test_elementwise_operands_have_the_size_of_the_result():
    """What a GPU kernel reads: one element of each operand per result, also where add and mul put in a constant."""
    sizes = []
    machine = hu.Machine("fp16")
    machine.backend.xp = LikeCupy()
    machine.backend.run = lambda kernel, begin, end, *args: sizes.append(
        (kernel, {a.size for a in args if isinstance(a, np.ndarray)})
    )
    for op, count in (("add", 2), ("mul", 2), ("fma", 3)):
        getattr(machine, op)(*[np.ones(5)] * count)
    assert {kernel for kernel, _ in sizes} >= {"multiply_add"}
    assert all(found == {5} for _, found in sizes), sizes


ORDINARY = {
    "decode an infinity": lambda: f("fp64").decode(np.array([0x7FF0000000000000], dtype=np.uint64)),
    "encode a NaN": lambda: f("fp64").encode([np.nan, -np.inf]),
    "overflow": lambda: hu.quantize([1e300, np.inf, np.nan], "fp16"),
    "add": lambda: hu.Machine("fp16").add([1.0], [0.5]),
    "broadcast": lambda: hu.Machine("fp16").fma([[1.0], [2.0]], [0.5, 0.25], 1.0),
    "matmul": lambda: hu.Machine("fp16").matmul([[1.0, np.inf]], [[0.0], [0.0]]),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_work_warns_of_nothing(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ORDINARY[case]()


# ---- matmul, dot, spmv -------------------------------------------------------------------------------------------


def path_of(a, b=None, accumulator=None, rounding="RNE", **rest):
    return hu.Datapath(a, b, accumulator, rounding, **rest)


SEQUENTIAL = [
    path_of("fp16"),
    path_of("fp16", rounding="RTN"),
    path_of("fp16", rounding="RTO"),
    path_of("fp16", rounding="SR8"),
    path_of("bf16", "bf16", "fp32"),
    path_of("bf16", "e4m3fn", "fp32", "RTZ", output="bf16", output_rounding="RNE"),
    path_of("e4m3fn", "e5m2", "e8m13", "RTZ", output="bf16", output_rounding="SR4"),
    path_of("e5m2", "e5m2", "fp16", "SR1", output="e4m3fn", output_rounding="SR32"),
    path_of("fp64"),
    path_of("fp64", rounding="RTP"),
    path_of("fp32", "fp32", "fp64"),
    path_of("fp32", "fp32", "fp32", "SR32"),
    path_of("fp16", "fp16", "e11m40", "RNA"),
    path_of("e4m3fnuz", "e5m2fnuz", "e5m2fnuz", "RTN"),
    path_of("e2m1finite", "e2m1finite", "e3m2finite", "RNA", output="e2m0"),
    path_of("e5m10ftz", rounding="RTP"),
    path_of("fp16", "fp16", "e5m10sat"),
    # rounded products
    path_of("fp16", product="fp16"),
    path_of("fp16", product="fp16", product_rounding="RTN", rounding="RTN"),
    path_of("fp16", rounding="SR8", product="fp16", product_rounding="RTZ"),  # only one of the two draws
    path_of("fp16", rounding="RTZ", product="fp16", product_rounding="SR8"),
    path_of("fp64", "fp64", "fp32", "SR8", product="e8m13", product_rounding="RNE"),
    path_of("bf16", "bf16", "fp32", "RTZ", product="bf16", product_rounding="SR8"),
    path_of(
        "e4m3fn",
        "e4m3fn",
        "fp16",
        "SR16",
        product="e5m2",
        product_rounding="SR3",
        output="e4m3fn",
        output_rounding="SR5",
    ),
    path_of("fp64", product="fp32", product_rounding="RTP", accumulator="fp64"),
    path_of("fp32", "fp32", "fp32", "RNE", product="fp64", product_rounding="RTZ"),
    path_of("fp16", "fp16", "fp16", "RNE", product="q8.8w", product_rounding="SR8"),
    path_of("e5m10ftz", "fp16", "fp16", "RTN", product="e5m10ftz", product_rounding="RTN"),
    # fixed point
    path_of("q8.8", "q8.8", "q12.12"),
    path_of("q4.4", "q4.4", "q6.6", "RTN", output="q4.4"),
    path_of("q4.4", "q4.4", "q6.6w", "RTZ", output="uq4.4w", output_rounding="RNA"),
    path_of("q8.0", "uq8.0", "q16.0w", product="q12.-2w", product_rounding="SR2", rounding="SR8"),
    path_of("fp16", "fp16", "q10.20", "SR12"),
    path_of(
        "q1.7", "q1.7", "q4.20", "RNE", product="q2.10", product_rounding="RNA", output="q1.7", output_rounding="SR8"
    ),
]
FUSED = [
    path_of("fp16", "fp16", "fp32", "RTZ", order=hu.fused(4)),
    path_of("bf16", "bf16", "fp32", "RTZ", order=hu.fused(8, 1), output="bf16", output_rounding="RNE"),
    path_of("e4m3fn", "e4m3fn", "e8m13", "RTZ", order=hu.fused(32, 2), output="bf16", output_rounding="SR7"),
    path_of("e4m3fn", "e5m2", "fp16", "SR8", order=hu.fused(3, 3)),
    path_of("e5m2", "e5m2", "fp32", "RNE", order=hu.fused(16, 0)),
    path_of("fp32", "fp32", "e8m27", "RTN", order=hu.fused(7, 20)),
    path_of("e11m30", "e11m30", "e11m20", "RNE", order=hu.fused(5, 10)),
    path_of("fp16", "fp16", "e4m3fnuz", "RNA", order=hu.fused(1)),
    path_of("fp16", "fp16", "e5m10ftz", "RTP", order=hu.fused(2, 2)),
    path_of("fp16", "fp16", "e5m10sat", "RTO", order=hu.fused(6)),
    path_of("e2m1finite", "e2m1finite", "e3m2finite", "RNE", order=hu.fused(4), output="e2m0"),
    path_of("q8.8", "q8.8", "q12.12", "RNE", order=hu.fused(4)),
    path_of("q8.8", "q8.8", "q6.6", "SR6", order=hu.fused(4, 6), output="q4.4"),
    path_of("q4.4", "uq4.4", "q5.5w", "RTN", order=hu.fused(5, 2)),
    path_of("e4m3fn", "q4.4", "q8.8w", "RNA", order=hu.fused(8, 3), output="uq4.4"),
    path_of("fp16", "q4.12", "fp32", "RNE", order=hu.fused(4, 4)),
]
SHAPES = [(3, 5, 4), (2, 40, 3), (1, 1, 1), (4, 7, 2), (1, 33, 3)]


def dp_id(dp):
    return "-".join(str(v) for k, v in dp.describe().items() if v is not None and (k != "operand_rounding")).replace(
        " ", ""
    )


def operand_codes(fmt, length, flavour, rng):
    """Codes of one row or column: 0 tame, 1 with any finite codes among them, 2 with zeros, edges, infinities, NaNs."""
    codes = [tame_code(fmt, rng) for _ in range(length)]
    for i in range(length):
        if flavour == 1 and rng.random() < 0.4:
            code = int(rng.integers(0, 1 << fmt.bits, dtype=np.uint64))
            codes[i] = code if fmt.unpack(code).kind is Kind.FINITE else codes[i]
        if flavour == 2 and rng.random() < 0.3:
            codes[i] = choice(directed_codes(fmt), rng)
    return codes


@functools.cache
def products(dp, shape, seed=SEED):
    """Codes of A by rows and of B by columns, and the defined codes of A B."""
    rows, length, width = shape
    rng = np.random.default_rng([seed, *shape])
    a = [operand_codes(dp.a, length, i % 3, rng) for i in range(rows)]
    b = [operand_codes(dp.b, length, (0, 1, 0, 2)[j % 4], rng) for j in range(width)]
    expected = [
        defined_dot(dp, row, column, i * width + j, seed) for i, row in enumerate(a) for j, column in enumerate(b)
    ]
    return a, b, expected


def defined_dot(dp, x, y, element, seed, call=1):
    def draw(role, step):
        rounding = {Role.PRODUCT: dp.product_rounding, Role.ACCUMULATOR: dp.rounding, Role.OUTPUT: dp.output_rounding}[
            role
        ]
        return random_bits(seed, stream(call, role), element, step, rounding.random_bits)

    return datapath.dot(dp, x, y, draw)


def values(fmt, codes):
    return fmt.decode(np.array(codes, dtype=np.uint64))


def check_matmul(dp, shape, backend, seed=SEED):
    a, b, expected = products(dp, shape, seed)
    got = hu.Machine(dp, backend, seed).matmul(values(dp.a, a), values(dp.b, b).T)
    assert got.shape == (shape[0], shape[2])
    width = shape[2]
    assert_codes(
        dp.output, got, expected, lambda i: f"{dp_id(dp)} seed {seed}: {a[i // width]} . {b[i % width]} (element {i})"
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dp", [*SEQUENTIAL, *FUSED], ids=dp_id)
def test_matmul(dp, backend):
    for shape in SHAPES:
        check_matmul(dp, shape, backend)


def test_matmul_takes_all_paths():
    taken = Counter((accumulate_path(dp), dp.product is not None) for dp in SEQUENTIAL)
    assert len(taken) == 6, taken


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dp", [SEQUENTIAL[3], SEQUENTIAL[7], SEQUENTIAL[23], FUSED[3]], ids=dp_id)
def test_dot(dp, backend):
    a, b, expected = products(dp, (1, 33, 3))
    got = hu.Machine(dp, backend, SEED).dot(values(dp.a, a[0]), values(dp.b, b[0]))
    assert isinstance(got, float)
    assert_codes(dp.output, np.array([got]), expected[:1], lambda i: f"{a[0]} . {b[0]}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_call_has_its_own_random_bits(backend):
    """The n-th operation of a Machine draws from the streams of call n."""
    dp = SEQUENTIAL[3]
    a, b, _ = products(dp, (3, 5, 4))
    machine = hu.Machine(dp, backend, SEED)
    machine.quantize([0.1], "e4m3fn", "SR8")
    machine.matmul(values(dp.a, a), values(dp.b, b).T)
    got = machine.matmul(values(dp.a, a), values(dp.b, b).T)
    expected = [
        defined_dot(dp, row, column, i * 4 + j, SEED, call=3) for i, row in enumerate(a) for j, column in enumerate(b)
    ]
    assert_codes(dp.output, got, expected, lambda i: f"element {i}")


def random_format(rng, widest=52):
    """Any format that the grammar can name, narrow ones more often."""
    while True:
        try:
            if rng.random() < 0.3:
                bits = int(rng.integers(1, min(widest, 40)))
                fraction = int(rng.integers(-3, bits + 3))
                return hu.FixedFormat(bits - fraction, fraction, bool(rng.random() < 0.7), bool(rng.random() < 0.4))
            exponent, trailing = int(rng.integers(2, 12)), int(min(rng.integers(0, 53), rng.integers(0, 53), widest))
            bias = int(rng.integers(-20, 40)) if rng.random() < 0.2 else None
            specials = Specials(str(rng.choice(["", "", "fn", "fnuz", "finite"])))
            return hu.FloatFormat(
                exponent, trailing, specials, bool(rng.random() < 0.8), bias, bool(rng.random() < 0.2)
            )
        except hu.HalfulpError:
            continue


def random_rounding(rng):
    return hu.SR(int(rng.integers(1, 33))) if rng.random() < 0.3 else MODES[rng.integers(0, 6)]


def random_datapath(rng):
    order = hu.fused(int(rng.integers(1, 9)), int(rng.integers(0, 9))) if rng.random() < 0.4 else hu.sequential
    widest = 28 if order != hu.sequential else 52
    rounded = order == hu.sequential and rng.random() < 0.4
    return hu.Datapath(
        random_format(rng, widest),
        random_format(rng, widest),
        random_format(rng, widest),
        random_rounding(rng),
        random_format(rng) if rounded else None,
        random_rounding(rng),
        order,
        random_format(rng),
        random_rounding(rng),
    )


def fuzz(first, count, backend):
    """Random datapaths, by seed; those that need wider integers than are built must be refused, not wrong."""
    ran, wrong = 0, {}
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        dp = random_datapath(rng)
        shape = (2, int(rng.integers(1, 12)), 2)
        try:
            check_matmul(dp, shape, backend, seed)
        except pytest.fail.Exception as failure:
            wrong[seed] = str(failure)
        except hu.HalfulpError as error:
            assert "aligned sums" in str(error), f"seed {seed}: {dp_id(dp)}: {error}"
            continue
        ran += 1
    assert not wrong, f"seeds {list(wrong)}; the first: {next(iter(wrong.values()))}"
    assert ran > count * 0.7


@pytest.mark.parametrize("backend", BACKENDS)
def test_matmul_on_random_datapaths(backend):
    fuzz(0, 250, backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_matmul_on_many_random_datapaths(backend):
    fuzz(10_000, 6_000, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "dp", [dp for dp in SEQUENTIAL if dp.product is None and accumulate_path(dp) is not Path.WIDE], ids=dp_id
)
def test_matmul_paths_agree(dp, backend):
    """The WIDE loop gives what the faster one gave."""
    machine, path, t = backends.backend(backend, 1), accumulate_path(dp), target(dp.accumulator, dp.rounding)
    rows, length, width = 5, 30, 6
    rng = np.random.default_rng(SEED)
    a = values(dp.a, [operand_codes(dp.a, length, i % 3, rng) for i in range(rows)])
    b = values(dp.b, [operand_codes(dp.b, length, j % 3, rng) for j in range(width)]).T
    outs = []
    for p in (path, Path.WIDE):
        out, random = machine.array(np.zeros(rows * width)), machine.array(np.zeros(rows * width), np.int64)
        streams = (SEED, stream(1, Role.ACCUMULATOR), stream(1, Role.PRODUCT))
        args = (
            machine.array(a.ravel()),
            machine.array(np.ascontiguousarray(b).ravel()),
            out,
            length,
            width,
            random,
            random,
        )
        machine.launch("matmul", rows * width, *args, *streams, int(p), t, loops.EXACT, t)
        outs.append(machine.to_host(out))
    assert_same_bits(*outs)


def csr_case(dp, seed=SEED):
    """A CSR matrix with empty rows, unsorted and repeated columns and stored zeros; a vector; the defined result."""
    rng = np.random.default_rng(seed)
    lengths = [0, 5, 0, 1, 17, 3, 0, 40, 2, 0]
    columns_of = [rng.integers(0, 9, n).tolist() for n in lengths]
    rows = [operand_codes(dp.a, n, i % 3, rng) for i, n in enumerate(lengths)]
    rows[4][0] = 0
    x = operand_codes(dp.b, 9, 1, rng)
    indptr, flat = np.cumsum([0, *lengths]), itertools.chain.from_iterable
    matrix = scipy.sparse.csr_array(
        (values(dp.a, list(flat(rows))), np.array(list(flat(columns_of))), indptr), shape=(len(lengths), 9)
    )
    expected = [
        defined_dot(dp, row, [x[c] for c in columns], i, seed)
        for i, (row, columns) in enumerate(zip(rows, columns_of, strict=True))
    ]
    return matrix, values(dp.b, x), expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dp", [*SEQUENTIAL, *FUSED], ids=dp_id)
def test_spmv(dp, backend):
    matrix, x, expected = csr_case(dp)
    got = hu.Machine(dp, backend, SEED).spmv(matrix, x)
    assert_codes(dp.output, got, expected, lambda i: f"row {i}")
    assert_same_bits(got, hu.Machine(dp, backend, SEED).spmv(scipy.sparse.csr_matrix(matrix), x))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dp", [SEQUENTIAL[0], SEQUENTIAL[6], FUSED[0]], ids=dp_id)
def test_spmv_of_a_matrix_without_entries(dp, backend):
    """A CSR matrix may store nothing: every row is an empty sum, +0."""
    got = hu.Machine(dp, backend, SEED).spmv(scipy.sparse.csr_array((3, 4)), np.ones(4))
    assert got.tolist() == [0.0] * 3 and not np.signbit(got).any()


# ---- threads and seeds -------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    return request.param


def big_runs(backend, threads, seed=SEED):
    """Results that are large enough to be split, by name."""
    rng = np.random.default_rng(1)
    x, a, b = rng.normal(size=160_000), rng.normal(size=(67, 45)), rng.normal(size=(45, 71))
    sparse = scipy.sparse.random_array(
        (3001, 400), density=0.05, format="csr", random_state=rng, data_sampler=rng.normal
    )
    stochastic = hu.Datapath(
        "bf16", "bf16", "fp16", "SR8", product="e6m9", product_rounding="SR5", output="e4m3fn", output_rounding="SR6"
    )
    unit = hu.Datapath("bf16", "bf16", "e8m13", "SR9", order=hu.fused(8, 2), output="bf16", output_rounding="SR4")
    machine = functools.partial(hu.Machine, backend=backend, seed=seed, threads=threads)
    return {
        "quantize": machine(stochastic).quantize(x, "e4m3fn", "SR8"),
        "fma": machine(stochastic).fma(x, x[::-1], 0.5),
        "matmul": machine(stochastic).matmul(a, b),
        "matmul exact product": machine(hu.Datapath("bf16", rounding="RNE")).matmul(a, b),
        "matmul fused": machine(unit).matmul(a, b),
        "spmv": machine(stochastic).spmv(sparse, x[:400]),
        "spmv fused": machine(unit).spmv(sparse, x[:400]),
    }


@functools.cache
def one_thread(backend):
    return big_runs(backend, 1)


@pytest.mark.parametrize("backend", ["cpu", "cxx"])
def test_threads_change_no_bit(backend, threads):
    for name, got in big_runs(backend, threads).items():
        assert got.tobytes() == one_thread(backend)[name].tobytes(), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree_on_large_arrays(backend):
    for name, got in big_runs(backend, None).items():
        assert got.tobytes() == one_thread("cpu")[name].tobytes(), name


def test_large_arrays_are_split(threads, monkeypatch):
    """What the tests above take for granted."""
    spans = []
    monkeypatch.setattr(backends.CpuBackend, "run", lambda self, kernel, begin, end, *args: spans.append((begin, end)))
    backends.backend("cpu", threads).launch("draw", 1_000_001)
    spans.sort()
    assert len(spans) == threads and spans[0][0] == 0 and spans[-1][1] == 1_000_001
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))


@pytest.mark.parametrize("backend", BACKENDS)
def test_seeds(backend):
    """A seed gives the same bits again, another seed gives others; modes that are not stochastic ignore it."""
    for name, got in big_runs(backend, 2, SEED + 1).items():
        assert (got.tobytes() == one_thread("cpu")[name].tobytes()) == (name == "matmul exact product"), name
    x = np.full(4000, 1.03)
    for seed in (0, 1, (1 << 62) - 1):
        first, again = (hu.quantize(x, "e4m3fn", "SR8", seed=seed, backend=backend) for _ in range(2))
        assert first.tobytes() == again.tobytes()
        assert_codes(
            f("e4m3fn"), first[:200], defined_quantize(x[:200], f("e4m3fn"), hu.SR(8), seed), lambda i: f"element {i}"
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_draw_equals_random_bits(backend):
    """The kernels' Philox, at steps, streams and seeds beyond 32 bits."""
    machine = backends.backend(backend, 1)
    seeds, streams, steps = (
        [0, 7, (1 << 62) - 1, 0xDEADBEEF << 20],
        [0, 8 + 3, (1 << 40) - 1],
        [0, 1, 2, 3, 4, (1 << 40) - 1],
    )
    for k, seed, number, step in itertools.product([1, 8, 32], seeds, streams, steps):
        out = machine.array(np.zeros(9), np.int64)
        machine.launch("draw", 9, out, seed, number, step, target(f("fp16"), hu.SR(k)))
        assert (machine.to_host(out) >> (62 - k)).tolist() == [random_bits(seed, number, i, step, k) for i in range(9)]


# ---- ledger ------------------------------------------------------------------------------------------------------


def counted(dp, lengths):
    """What ``datapath.dot`` does over dots of these lengths, counted as it does it.

    An addition into a fused unit's aligned sum is a term cut off at the common weight, the accumulator's own not
    counted; operands must be finite and non-zero.
    """
    seen = Counter()
    with pytest.MonkeyPatch.context() as patch:

        def watch(name):
            original = getattr(datapath, name)

            def wrapper(*args):
                seen[(name, args[1], args[2]) if name == "round_pack" else name] += 1
                return original(*args)

            patch.setattr(datapath, name, wrapper)

        for name in ("exact_product", "exact_sum", "round_pack", "_aligned_sum", "_truncated"):
            watch(name)
        one = [arithmetic.quantize(arithmetic.exact(1.0), fmt).code for fmt in (dp.a, dp.b)]
        for length in lengths:
            datapath.dot(dp, [one[0]] * length, [one[1]] * length, lambda role, step: 0)
    return seen


LEDGER_PATHS = [
    hu.Datapath("fp16"),
    hu.Datapath("e4m3fn", "e5m2", "fp16", "RTZ", output="bf16", output_rounding="RTN"),
    hu.Datapath(
        "fp16", "bf16", "fp32", "RTZ", product="e8m13", product_rounding="RNA", output="bf16", output_rounding="SR4"
    ),
    hu.Datapath("q8.8", "q8.8", "q16.16", product="q12.12", product_rounding="RTZ"),
    hu.Datapath("fp16", "fp16", "fp32", "RTZ", order=hu.fused(4)),
    hu.Datapath("e4m3fn", "e5m2", "fp32", "RTZ", order=hu.fused(16, 2), output="bf16", output_rounding="RTN"),
    hu.Datapath("q8.8", "q8.8", "q16.16", order=hu.fused(3, 1), output="q8.8", output_rounding="RNA"),
]


def assert_ledger(machine, dp, lengths):
    """The machine's ledger says exactly what was counted, kind by kind and format by format."""
    seen, steps, left = counted(dp, lengths), 0, Counter(machine.ledger.operations)
    take = lambda *fields: left.pop(hu.Operation(*fields), 0)  # noqa: E731
    mul = take("mul", dp.a, dp.b, dp.product, dp.product_rounding)
    term = dp.product or dp.accumulator
    assert mul == seen["exact_product"] == sum(lengths) == machine.ledger.n_mul
    if dp.product is not None:
        assert mul == seen["round_pack", dp.product, dp.product_rounding]
    if isinstance(dp.order, hu.Fused):
        steps = take("round", dp.accumulator, dp.accumulator, dp.accumulator, dp.rounding)
        assert (
            steps
            == seen["_aligned_sum"]
            == seen["round_pack", dp.accumulator, dp.rounding] - (len(lengths) if dp.output == dp.accumulator else 0)
        )
        assert (
            take("add", term, dp.accumulator, None) == seen["_truncated"] - seen["_aligned_sum"] == machine.ledger.n_add
        )
    else:
        adds = take("add", term, dp.accumulator, dp.accumulator, dp.rounding)
        assert adds == seen["exact_sum"] == machine.ledger.n_add
        assert adds == seen["round_pack", dp.accumulator, dp.rounding] - (
            len(lengths) if dp.output == dp.accumulator else 0
        )
    if dp.output != dp.accumulator:
        conversions = take("round", dp.accumulator, dp.output, dp.output, dp.output_rounding)
        assert conversions == seen["round_pack", dp.output, dp.output_rounding] == len(lengths)
    assert not left, "the ledger has operations that nobody performed"


@pytest.mark.parametrize("dp", LEDGER_PATHS, ids=dp_id)
def test_ledger_of_matmul_and_dot(dp):
    for rows, length, width in [(3, 5, 4), (1, 1, 1), (2, 16, 3), (2, 33, 2)]:
        machine = hu.Machine(dp)
        machine.matmul(np.ones((rows, length)), np.ones((length, width)))
        assert_ledger(machine, dp, [length] * (rows * width))
        moved = rows * length * dp.a.bits + length * width * dp.b.bits + rows * width * dp.output.bits
        assert machine.ledger.bits_moved == {"sram": moved}
    machine = hu.Machine(dp)
    machine.dot(np.ones(21), np.ones(21))
    assert_ledger(machine, dp, [21])


@pytest.mark.parametrize("dp", LEDGER_PATHS, ids=dp_id)
def test_ledger_of_spmv(dp):
    """Empty rows cost an output conversion, where there is one, and nothing else."""
    lengths = [0, 5, 0, 1, 17, 5, 0]
    total = sum(lengths)
    matrix = scipy.sparse.csr_array(
        (np.ones(total), np.arange(total) % 9, np.cumsum([0, *lengths])), shape=(len(lengths), 9)
    )
    machine = hu.Machine(dp)
    machine.spmv(matrix, np.ones(9))
    assert_ledger(machine, dp, lengths)
    assert machine.ledger.bits_moved == {"sram": total * (dp.a.bits + 32) + 8 * 32 + 9 * dp.b.bits + 7 * dp.output.bits}


def test_ledger_of_elementwise_operations():
    dp = hu.Datapath("bf16", "fp16", "fp32", output="e4m3fn", output_rounding="RTZ")
    x, y = np.ones((3, 1)), np.ones(4)
    machine = hu.Machine(dp)
    machine.quantize(x, "fp16", "RNA")
    machine.add(x, y)
    machine.mul(x, y)
    machine.fma(x, y, y)
    fp16, out, rtz = f("fp16"), dp.output, hu.RTZ
    assert machine.ledger.operations == {
        hu.Operation("round", fp16, fp16, fp16, hu.RNA): 3,
        hu.Operation("add", dp.a, dp.b, out, rtz): 12,
        hu.Operation("mul", dp.a, dp.b, out, rtz): 12,
        hu.Operation("mul", dp.a, dp.b, None): 12,
        hu.Operation("add", dp.accumulator, dp.accumulator, out, rtz): 12,
    }
    assert machine.ledger.bits_moved == {
        "sram": 3 * 16 + 2 * (3 * 16 + 4 * 16 + 12 * 8) + (3 * 16 + 4 * 16 + 4 * 32 + 12 * 8)
    }


def test_a_ledger_can_be_shared_and_added():
    ledger = hu.Ledger()
    first, second = hu.Machine("fp16", ledger=ledger), hu.Machine("bf16", ledger=ledger)
    first.add([1.0], [2.0])
    before = ledger.copy()
    second.add([1.0, 2.0], [2.0, 3.0])
    assert ledger.n_add == 3 and (ledger - before).n_add == 2 and before + (ledger - before) == ledger


# ---- errors ------------------------------------------------------------------------------------------------------

WIDE_UNIT = hu.Datapath("bf16", "bf16", "e8m30", order=hu.fused(64, 32))
FP64_UNIT = hu.Datapath("fp64", order=hu.fused(4))
ERRORS = {
    "matmul shapes": lambda: hu.Machine("fp16").matmul(np.ones((2, 3)), np.ones((2, 3))),
    "matmul vectors": lambda: hu.Machine("fp16").matmul(np.ones(3), np.ones(3)),
    "matmul empty": lambda: hu.Machine("fp16").matmul(np.ones((2, 0)), np.ones((0, 3))),
    "matmul no rows": lambda: hu.Machine("fp16").matmul(np.ones((0, 2)), np.ones((2, 3))),
    "dot lengths": lambda: hu.Machine("fp16").dot(np.ones(3), np.ones(4)),
    "dot matrices": lambda: hu.Machine("fp16").dot(np.ones((3, 1)), np.ones((3, 1))),
    "dot empty": lambda: hu.Machine("fp16").dot([], []),
    "add shapes": lambda: hu.Machine("fp16").add(np.ones(3), np.ones(4)),
    "fma shapes": lambda: hu.Machine("fp16").fma(np.ones(3), np.ones(3), np.ones(2)),
    "add empty": lambda: hu.Machine("fp16").add([], []),
    "quantize empty": lambda: hu.quantize(np.ones((0, 3)), "fp16"),
    "quantize text": lambda: hu.quantize(["one"], "fp16"),
    "quantize ragged": lambda: hu.quantize([[1.0, 2.0], [3.0]], "fp16"),
    "unknown backend": lambda: hu.Machine("fp16", backend="tpu"),
    "threads": lambda: hu.Machine("fp16", threads=0),
    "seed negative": lambda: hu.Machine("fp16", seed=-1),
    "seed large": lambda: hu.Machine("fp16", seed=1 << 62),
    "wide fixed": lambda: hu.quantize([1.0], "q40.20"),
    "wide accumulator": lambda: hu.Machine("q8.8/q30.24").matmul(np.ones((2, 2)), np.ones((2, 2))),
    "wide operand": lambda: hu.Machine("q54.0/fp32").add([1.0], [1.0]),
    "wide fused sum": lambda: hu.Machine(WIDE_UNIT).matmul(np.ones((2, 2)), np.ones((2, 2))),
    "wide fused product": lambda: hu.Machine(FP64_UNIT).dot(np.ones(2), np.ones(2)),
    "wide fused spmv": lambda: hu.Machine(WIDE_UNIT).spmv(scipy.sparse.eye_array(3, format="csr"), np.ones(3)),
    "spmv dense": lambda: hu.Machine("fp16").spmv(np.eye(3), np.ones(3)),
    "spmv coo": lambda: hu.Machine("fp16").spmv(scipy.sparse.eye_array(3, format="coo"), np.ones(3)),
    "spmv csc": lambda: hu.Machine("fp16").spmv(scipy.sparse.eye_array(3, format="csc"), np.ones(3)),
    "spmv length": lambda: hu.Machine("fp16").spmv(scipy.sparse.eye_array(3, format="csr"), np.ones(4)),
    "spmv matrix for vector": lambda: hu.Machine("fp16").spmv(scipy.sparse.eye_array(3, format="csr"), np.ones((3, 1))),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_input_gets_one_sentence(case):
    with pytest.raises(hu.HalfulpError) as raised:
        ERRORS[case]()
    message = str(raised.value)
    assert message.endswith((".", "'.")) and "\n" not in message and len(message) < 250


@pytest.mark.parametrize(
    "variable, text", [("HALFULP_THREADS", "many"), ("HALFULP_THREADS", "0"), ("HALFULP_CXX", "no-such-compiler")]
)
def test_wrong_environment_gets_one_sentence(variable, text, monkeypatch):
    monkeypatch.setenv(variable, text)
    with pytest.raises(hu.HalfulpError, match=text):
        hu.Machine("fp16", backend="cxx")


@pytest.mark.skipif(backends.shutil.which("g++") is None, reason="needs g++")
def test_the_cxx_backend_runs_under_ubsan(tmp_path):
    """The library under test was built with UBSan, and an overflow in such a library does end the process."""
    library = hu.Machine("fp16", backend="cxx").backend.library._name
    with open(library, "rb") as file:
        assert b"__ubsan_handle_shift" in file.read()
    source = tmp_path / "overflow.cpp"
    source.write_text("int main(int argc, char**) { long long x = -argc; return (int)(x << 3) * 0; }")
    subprocess.run(["g++", "-std=c++17", *UBSAN.split(), str(source), "-o", str(tmp_path / "overflow")], check=True)
    result = subprocess.run([str(tmp_path / "overflow")], capture_output=True, text=True)
    assert result.returncode != 0 and "left shift of negative value" in result.stderr


def test_no_environment_leaks():
    """The flags above are this module's own."""
    assert os.environ["HALFULP_CXXFLAGS"] == UBSAN


def test_exact_products_are_recognised():
    """Where ODD may multiply in binary64, every product of directed codes is one; and the case is not rare."""
    found = 0
    rng = np.random.default_rng(SEED)
    formats = [random_format(rng, 30) for _ in range(160)]
    for a, b in zip(formats[::2], formats[1::2], strict=True):
        if not product_is_exact(a, b):
            continue
        found += 1
        xs, ys = (
            {float(u): u for u in map(fmt.unpack, directed_codes(fmt)) if u.kind is Kind.FINITE} for fmt in (a, b)
        )
        for (x, ux), (y, uy) in itertools.product(xs.items(), ys.items()):
            assert x * y == arithmetic.exact_product(ux, uy).fraction, (str(a), str(b), x, y)
    assert found > 30
