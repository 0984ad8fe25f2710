"""quantize, add, mul and fma equal the definition, code for code, in every mode, on every backend and path.

Backends: ``cpu`` (Numba), ``cxx`` (the emitted C++ under g++ with UBSan), ``gpu`` (CuPy). Paths: NATIVE, ODD, WIDE,
all taken, agreeing wherever more than one applies. Codes are compared, never values: ``fmt.encode`` refuses what the
format does not hold and tells -0 from +0.
"""

import functools
import itertools
import warnings
from collections import Counter

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic
from halfulp.emulator.random import Role
from halfulp.kernels import backends
from halfulp.kernels.paths import Op, Path, convert_path, lone_path, mac_path
from halfulp.kernels.target import target
from kernel_cases import (
    ALL_MODES,
    BACKENDS,
    MODES,
    ONE,
    QUADS,
    SEED,
    assert_codes,
    assert_same_bits,
    columns,
    compute,
    defined_quantize,
    directed_doubles,
    drawn,
    f,
    fractions,
    tame_code,
    triples,
)

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
    """ODD and WIDE on the same doubles, for every format that may take ODD: values and flags."""
    fmt, machine = f(name), backends.backend(backend, 1)
    x = directed_doubles(fmt)
    for rounding in ALL_MODES:
        if convert_path(fmt, rounding) is not Path.ODD:
            continue
        u = fractions(rounding, x.size, np.random.default_rng(SEED))
        (odd, raised), (wide, expected) = (
            compute(machine, Op.CONVERT, path, (x,), target(fmt, rounding), u) for path in (Path.ODD, Path.WIDE)
        )
        assert_same_bits(odd, wide)
        if convert_path(fmt, rounding, flags=True) is Path.ODD:
            assert raised.tolist() == expected.tolist(), (name, rounding)


def test_convert_takes_both_paths():
    taken = Counter(convert_path(f(name), rounding) for name in FORMATS for rounding in ALL_MODES)
    assert taken[Path.ODD] > 100 and taken[Path.WIDE] >= 20
    assert convert_path(f("e10m51"), hu.SR(32)) is Path.ODD and convert_path(f("e10m52"), hu.RNE) is Path.WIDE
    assert convert_path(f("q10.40"), hu.RNE) is Path.ODD and convert_path(f("q11.40"), hu.RNE) is Path.WIDE
    assert (
        convert_path(f("e11m40"), hu.RTZ, True) is Path.ODD and convert_path(f("e11m40"), hu.SR(12), True) is Path.WIDE
    )
    assert convert_path(f("e11m50"), hu.RTZ, True) is Path.ODD and convert_path(f("e11m51"), hu.RTZ, True) is Path.WIDE


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
    assert machine.add(0.25, 0.5).shape == ()


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
        array, kind = np.asarray(view, dtype=np.float64), getattr(view, "dtype", None)
        before = array.copy()
        got = hu.quantize(view, "e4m3fn", "RTZ", backend=backend)
        assert got.shape == array.shape and got.dtype == (np.float32 if kind == np.float32 else np.float64)
        assert_codes(
            f("e4m3fn"), got, defined_quantize(array.ravel(), f("e4m3fn"), hu.RTZ), lambda i, a=array: str(a.flat[i])
        )
        assert np.array_equal(array, before)


OPS = ["add", "mul", "fma"]


def op_path(op, quad, rounding, flags=False):
    a, b, c, out = map(f, quad)
    return mac_path(*{"add": (a, ONE, b), "mul": (a, b, ONE), "fma": (a, b, c)}[op], out, rounding, flags)


@functools.cache
def expected_op(op, quad, rounding):
    a, b, c, out = map(f, quad)
    codes = []
    for i, (x, y, z) in enumerate(triples(quad)):
        x, y, z, r = a.unpack(x), b.unpack(y), c.unpack(z), drawn(rounding, SEED, Role.OUTPUT, i)
        operands = {"add": (x, y), "mul": (x, y), "fma": (x, y, z)}[op]
        codes.append(getattr(arithmetic, op)(*operands, out, rounding, r).code)
    return codes


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rounding", ALL_MODES, ids=str)
def test_sums_without_an_error_are_rounded_as_they_are(rounding, backend):
    """Formats whose sums binary64 is known to hold, and with one bit more; at their ends and everywhere."""
    rng, a, machine = np.random.default_rng(SEED), f("q9.16"), backends.backend(backend, 1)
    for c, path in ((f("q19.32"), Path.EXACT), (f("q20.32"), Path.ODD)):
        found = lone_path(a, a, c, f("q8.8"), rounding)
        assert found is (Path.ODD if rounding == hu.RTN else path)
        x, y, z = (rng.choice([fmt.min_finite, fmt.max_finite, 0.0], 1500) for fmt in (a, a, c))
        for v, fmt in ((x, a), (y, a), (z, c)):
            v[500:] = rng.integers(-(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1), 1000) * 2.0**fmt.quantum_exponent
        z[1000:] = np.round(-x[1000:] * y[1000:] + rng.integers(-9, 9, 500) * 2.0**-9, 9)  # sums near ties
        for op, args in (("fma", (x, y, z)), ("add", (z, x))):
            u, t = fractions(rounding, x.size, rng), target(f("q8.8"), rounding)
            fast, wide = (compute(machine, Op[op.upper()], way, args, t, u)[0] for way in (found, Path.WIDE))
            assert_same_bits(fast, wide)


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("quad", QUADS, ids="-".join)
def test_paths_of_compute_agree(quad, backend):
    """Where NATIVE or ODD is taken, WIDE gives the same bits and flags; on more operands than the definition gets."""
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
        args = {"add": (x, y), "mul": (x, y), "fma": (x, y, z)}[op]
        u, t = fractions(rounding, x.size, rng), target(out, rounding)
        (fast, raised), (wide, expected) = (
            compute(machine, Op[op.upper()], each, args, t, u) for each in (path, Path.WIDE)
        )
        assert_same_bits(fast, wide)
        if op_path(op, quad, rounding, flags=True) is path:
            assert raised.tolist() == expected.tolist(), (op, rounding)


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
    """With on_inexact="quantize" a value that an operand format does not hold is rounded there first, each role with
    random bits of its own."""
    rng = np.random.default_rng(SEED)
    x, y, z = rng.normal(size=(3, 60)) * 3
    rounding = hu.SR(8)
    dp = hu.Datapath("e4m3fn", "bf16", "fp16", output="fp32", operand_rounding=rounding, output_rounding=hu.SR(4))
    got = hu.Machine(dp, backend, SEED, on_inexact="quantize").fma(x, y, z)
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
    """What a GPU kernel reads and writes: one element of each array per result; flags that are not asked for, none."""
    sizes = []
    machine = hu.Machine("fp16")
    machine.backend.xp = LikeCupy()
    run = machine.backend.run

    def watched(kernel, begin, end, *args):
        if kernel == "compute":
            arrays = {a.size for a in args if isinstance(a, np.ndarray) and a is not args[6]}
            sizes.append((args[7], arrays))
        else:
            run(kernel, begin, end, *args)

    machine.backend.run = watched
    for op, count in (("add", 2), ("mul", 2), ("fma", 3)):
        getattr(machine, op)(*[np.ones(5)] * count)
    assert len(sizes) == 3
    assert all(not flagged and found == {5} for flagged, found in sizes), sizes


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
