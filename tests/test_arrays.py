"""hu.quantize, add, sub, mul, fma, div, sqrt and rem over arrays equal the definition: codes and flags.

Every operation on float32 and on float64 operands, in every mode, into formats of every kind; on values that meet what
is hard (ties, subnormal and overflow edges, cancellation, zeros, infinities, NaN) and on random ones. Without flags
they take other paths, to the same values.
"""

import functools
import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic, operations
from halfulp.emulator.conventions import RISCV, Conventions
from halfulp.emulator.formats import Kind
from halfulp.emulator.random import Role, source, stream
from halfulp.kernels.arrays import run
from halfulp.kernels.backends import CpuBackend
from halfulp.kernels.backends import backend as make_backend
from halfulp.kernels.paths import Op, Path, convert_path, way_of
from halfulp.kernels.structs import GIVEN_DRAWS
from halfulp.kernels.subset import COMPILED
from halfulp.kernels.target import target, target32
from kernel_cases import (
    BACKENDS,
    MODES,
    SEED,
    assert_same_bits,
    choice,
    compute,
    directed_codes,
    directed_doubles,
    doubles_around,
    drawn,
    extreme_format,
    f,
    fractions,
    random_format,
    singles_around,
    tame_code,
)

FORMATS = [
    *("fp16", "bf16", "tf32", "fp32", "fp64", "e4m3", "e4m3fn", "e5m2", "e5m2sat", "e4m3fnsat", "e4m3fnuz", "e5m2fnuz"),
    *("e3m2finite", "e2m1finite", "e2m0", "e5m10ftz", "e8m7ftz", "e4m3fnftz", "e5m10sat", "e8m23ftz", "e4m3b-3"),
    *("e11m12", "e11m40", "e8m7b-300", "e8m7b900", "e10m51", "e11m52ftz", "e11m52sat", "e9m18"),
    *("binary8p3se", "binary8p4sf", "binary8p4ue", "binary8p3uf", "binary16p11se", "binary12p5uesat", "ue5m3fnuz"),
    *("q4.12", "q8.8w", "uq4.12", "uq8.8w", "q1.0", "q-2.10", "q20.-4", "q30.23w", "q10.40", "q53.0"),
]

#: The definition of each operation, and how many operands it has.
OPERATIONS = {
    "quantize": (arithmetic.quantize, 1),
    "add": (arithmetic.add, 2),
    "sub": (operations.sub, 2),
    "mul": (arithmetic.mul, 2),
    "fma": (arithmetic.fma, 3),
    "div": (operations.div, 2),
    "sqrt": (operations.sqrt, 1),
    "rem": (operations.rem, 2),
}

ROUNDINGS = [*MODES, hu.SR(1), hu.SR(8), hu.SR(32), hu.SR(1, True), hu.SR(7, True), hu.SR(32, True)]


def rng_of(*key):
    return np.random.default_rng([SEED, *map(ord, repr(key))])


def few_bits(rng, size):
    """Numbers near one of few significant bits, of which sums, products and quotients are often exact."""
    return (1 + rng.integers(0, 16, size) / 16) * 2.0 ** rng.integers(-3, 4, size) * rng.choice([1.0, -1.0], size)


def aimed(op, result, rng):
    """Operands whose result is ``result``, as far as binary64 tells, or next to it."""
    y, z = few_bits(rng, result.size), result * 2.0 ** rng.integers(-3, 30, result.size) * few_bits(rng, result.size)
    return {
        "quantize": (result,),
        "add": (result - z, z),
        "sub": (result + z, z),
        "mul": (result / y, y),
        "fma": ((result - z) / y, y, z),
        "div": (result * y, y),
        "sqrt": (result * result,),
        "rem": (result + y * rng.integers(-40, 40, result.size), y),
    }[op]


@functools.cache
def operands(op, name, dtype, size):
    """Arrays of operands: on target, beside it, cancelling, special, and any."""
    fmt, rng, arity = f(name), rng_of("operands", op, name, dtype), OPERATIONS[op][1]
    with np.errstate(all="ignore"):
        edges = directed_doubles(fmt)
        pool = np.concatenate([edges, [1e-45, -(2.0**-149), 2.0**-126, 2.0**-127, 3.4028234663852886e38, 1.0, -1.0]])
        hit = np.array(aimed(op, rng.choice(edges, 4 * size // 10), rng))
        near = np.nextafter(hit.astype(dtype), rng.choice([-np.inf, np.inf], hit.shape).astype(dtype))
        hit = np.where(rng.random(hit.shape) < 0.7, hit.astype(dtype), near)
        special = rng.choice(pool, (arity, 2 * size // 10))
        bits = np.dtype(dtype).itemsize * 8
        anything = rng.integers(0, (1 << bits) - 1, (arity, size // 10), np.uint64, endpoint=True)
        anything = anything.astype(f"u{bits // 8}").view(dtype)
        scale = np.log2(fmt.max_finite if fmt.max_finite < 1e300 else 1e300) * 0.6
        shape = (arity, size - 7 * (size // 10))
        tame = rng.normal(size=shape) * 2.0 ** (scale * rng.uniform(-1, 1, shape))
        if arity > 1:
            cancels = -np.prod(tame[: arity - 1], axis=0) * (-1 if op == "sub" else 1)
            tame[-1] = np.where(
                rng.random(shape[1]) < 0.5, cancels * rng.choice([1, 1 + 2.0**-20, 2], shape[1]), tame[-1]
            )
        columns = np.concatenate([hit, special.astype(dtype), anything, tame.astype(dtype)], axis=1)
    columns[np.isnan(columns)] = np.nan  # quiet ones
    return tuple(rng.permuted(columns, axis=1)) if arity == 1 else tuple(columns[:, rng.permutation(size)])


@functools.cache
def expected(op, name, dtype, size, rounding):
    """Codes and flags by the definition."""
    fmt, defined = f(name), OPERATIONS[op][0]
    data = [[arithmetic.exact(x) for x in column.tolist()] for column in operands(op, name, dtype, size)]
    results = [
        defined(*row, fmt, rounding, drawn(rounding, SEED, Role.OUTPUT, i))
        for i, row in enumerate(zip(*data, strict=True))
    ]
    codes, flags = zip(*results, strict=True)
    return np.array(codes, np.uint64), np.array(flags, np.uint8)


def check(op, name, dtype, size, rounding, backend):
    arrays, fmt = operands(op, name, dtype, size), f(name)
    codes, raised = expected(op, name, dtype, size, rounding)
    values, flags = getattr(hu, op)(*arrays, fmt, rounding, SEED, backend, flags=True)
    plain = getattr(hu, op)(*arrays, fmt, rounding, SEED, backend)
    assert flags.dtype == np.uint8 and values.dtype == plain.dtype
    found, again = (fmt.encode(v).astype(np.uint64) for v in (values, plain))
    wrong = np.flatnonzero((found != codes) | (flags != raised) | (again != codes))
    if wrong.size:
        i = int(wrong[0])
        shown = ", ".join(float(x[i]).hex() for x in arrays)
        pytest.fail(
            f"{wrong.size} of {size} differ; first at {i}: {op}({shown}) into {name} @{rounding}: {int(found[i]):#x} "
            f"{hu.Flags(int(flags[i]))}, without flags {int(again[i]):#x}, not {int(codes[i]):#x} "
            f"{hu.Flags(int(raised[i]))}"
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_codes_and_flags(name, op, dtype):
    for rounding in ROUNDINGS:
        check(op, name, dtype, 120, rounding, "cpu")


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_codes_and_flags_of_the_printed_kernels(name, op, backend):
    for rounding, dtype in itertools.product(ROUNDINGS[::2], (np.float32, np.float64)):
        check(op, name, dtype, 40, rounding, backend)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_more_codes_and_flags(name, op, dtype):
    for rounding in ROUNDINGS:
        check(op, name, dtype, 3000, rounding, "cpu")


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_combination_of_special_operands(name, op):
    """Zeros, infinities, NaN and ordinary numbers with one another, in every mode."""
    defined, arity = OPERATIONS[op]
    fmt, special = f(name), [0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -0.75]
    rows = list(itertools.product(special, repeat=arity))
    data = [[arithmetic.exact(x) for x in row] for row in rows]
    for rounding in (*MODES, hu.SR(4)):
        results = [defined(*row, fmt, rounding, drawn(rounding, 5, Role.OUTPUT, i)) for i, row in enumerate(data)]
        for dtype in (np.float32, np.float64):
            values, flags = getattr(hu, op)(*np.array(rows, dtype).T, fmt, rounding, 5, flags=True)
            plain = getattr(hu, op)(*np.array(rows, dtype).T, fmt, rounding, 5)
            found = zip(fmt.encode(values).tolist(), fmt.encode(plain).tolist(), flags.tolist(), strict=True)
            for row, result, (code, again, raised) in zip(rows, results, found, strict=True):
                assert (code, again, raised) == (result.code, result.code, result.flags), (op, row, str(rounding))


# ---- random formats ----------------------------------------------------------------------------------------------

#: Tininess and flushing change values and flags on the way; daz only changes what is read.
CONVENTIONS = [
    RISCV,
    Conventions(tininess="before"),
    Conventions(ftz=True),
    Conventions(ftz=True, tininess="before"),
    Conventions(daz=True),
]


def any_format(rng):
    return random_format(rng) if rng.random() < 0.5 else extreme_format(rng)


def any_rounding(rng, most=32):
    k = int(rng.integers(1, most + 1))
    return [*MODES, hu.SR(k), hu.SR(k, corrected=True)][rng.integers(len(MODES) + 2)]


def defined_rows(defined, rows, fmt, rounding, random, conventions=RISCV):
    """Codes and flags by the definition, of rows of data."""
    results = [defined(*row, fmt, rounding, r, conventions) for row, r in zip(rows, random.tolist(), strict=True)]
    codes, flags = zip(*results, strict=True)
    return np.array(codes, np.uint64), np.array(flags, np.uint8)


def check_float32_route(seed):
    """float32 arrays into one format in every mode that has the route; whether any had."""
    rng, taken = np.random.default_rng([SEED, seed]), 0
    fmt = any_format(rng)
    x = singles_around(fmt, rng)
    x = rng.choice(x, min(x.size, 250), replace=False)
    for rounding in (*MODES, hu.SR(int(rng.integers(1, 23))), hu.SR(int(rng.integers(1, 23)), corrected=True)):
        if target32(fmt, rounding, False) is None:
            continue
        flagged = target32(fmt, rounding, True) is not None
        taken += 1 + flagged
        out, raised = hu.quantize(x, fmt, rounding, seed, flags=True) if flagged else (None, None)
        again = out
        out = hu.quantize(x, fmt, rounding, seed)
        assert again is None or np.array_equal(again, out, equal_nan=True)
        assert out.dtype == np.float32
        random = np.array([drawn(rounding, seed, Role.OUTPUT, i) for i in range(x.size)])
        rows = [(arithmetic.exact(v),) for v in x.tolist()]
        codes, flags = defined_rows(arithmetic.quantize, rows, fmt, rounding, random)
        found = fmt.encode(out).astype(np.uint64)
        wrong = np.flatnonzero((found != codes) | ((raised != flags) if flagged else False))
        assert not wrong.size, (
            f"seed {seed}: {wrong.size} differ, first {float(x[wrong[0]]).hex()} into {fmt} @{rounding}: "
            f"{int(found[wrong[0]]):#x}, not {int(codes[wrong[0]]):#x}"
        )
    return taken > 0


def test_float32_arrays_into_random_formats():
    assert sum(map(check_float32_route, range(250))) > 50


@pytest.mark.slow
def test_float32_arrays_into_many_random_formats():
    assert sum(map(check_float32_route, range(10_000, 14_000))) > 800


@pytest.mark.parametrize("name", ["bf16", "tf32", "fp16", "fp8_e4m3", "fp8_e5m2", "q4.12", "q8.8w", "e8m7ftz"])
def test_float32_arrays_stay_float32_on_the_way(name, monkeypatch):
    """The formats that people use take the cheap route: one kernel, on a binary32 carrier."""
    seen = []
    monkeypatch.setattr(CpuBackend, "run", lambda self, kernel, begin, end, *args: seen.append((kernel, args)))
    for rounding in (*MODES, hu.SR(8), hu.SR(22), hu.SR(22, corrected=True)):
        hu.quantize(np.ones(5, np.float32), name, rounding)
    hu.quantize(np.ones(5, np.float32), name, flags=True)
    for kernel, args in seen:
        assert kernel == "convert" and type(args[-1]).__name__ == "Target32"
        assert all(array.dtype in (np.float32, np.uint8) for array in args if isinstance(array, np.ndarray))
    assert len(seen) == len(MODES) + 4


@pytest.mark.parametrize(
    ("name", "rounding"), [("fp32", "RNE"), ("fp16", "SR23"), ("e11m10", "RNE"), ("q12.12", "RNE"), ("e8m7b20", "RNE")]
)
def test_where_float32_is_too_narrow_a_carrier(name, rounding):
    assert target32(f(name), hu.Rounding.parse(rounding), False) is None


def check_routes(seed, backend):
    """One format: the float route and the integers give the same values and flags, the definition the same as they."""
    rng, machine = np.random.default_rng([SEED, seed]), make_backend(backend, 1)
    fmt, rounding = any_format(rng), any_rounding(rng)
    conventions, integral = CONVENTIONS[rng.integers(4)], bool(rng.random() < 0.1)
    integral &= isinstance(fmt, hu.FloatFormat) and max(fmt.emin, fmt.quantum_exponent or 0) <= 0
    x = doubles_around(fmt, rng)
    x = hu.quantize(x, fmt, "RTZ") if integral else x  # of other formats integers are rounded again
    u, t = fractions(rounding, x.size, rng), target(fmt, rounding, False, integral, conventions)
    context = f"seed {seed}: {fmt} @{rounding} {conventions} {'integral' * integral}"
    wide, flags = compute(machine, Op.CONVERT, Path.WIDE, (x,), t, u)
    if convert_path(fmt, rounding) is Path.ODD:
        odd, raised = compute(machine, Op.CONVERT, Path.ODD, (x,), t, u)
        alone = machine.array(np.empty(x.size))
        given = machine.array(np.zeros(x.size) if u is None else u)
        none = machine.array([0], np.uint8)
        machine.launch("convert", x.size, machine.array(x), alone, none, 0, given, GIVEN_DRAWS, 0, t)
        for values in (odd, machine.to_host(alone)):
            assert_same_bits(values, wide, lambda i: f"{context}: {float(x[i]).hex()}")
        if convert_path(fmt, rounding, flags=True) is Path.ODD:
            assert raised.tolist() == flags.tolist(), context
    some = rng.choice(x.size, 40)
    data = [arithmetic.exact(v) for v in x[some].tolist()]
    random = np.zeros(40, int) if u is None else (u[some] * 2**rounding.random_bits).astype(int)
    if integral:
        results = [
            operations.round_to_integral(v, fmt, rounding, r, conventions, exact=True)
            for v, r in zip(data, random.tolist(), strict=True)
        ]
        codes, expected = (np.array(column, np.uint64) for column in zip(*results, strict=True))
    else:
        rows = zip(data, strict=True)
        codes, expected = defined_rows(arithmetic.quantize, rows, fmt, rounding, random, conventions)
    found = fmt.encode(wide[some])
    assert found.tolist() == codes.tolist() and flags[some].tolist() == expected.tolist(), context
    return convert_path(fmt, rounding, flags=True) is Path.ODD


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_routes_into_random_formats(backend):
    assert 300 < sum(check_routes(seed, backend) for seed in range(1000)) < 950


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_both_routes_into_many_random_formats(backend):
    for seed in range(10_000, 20_000):
        check_routes(seed, backend)


def random_codes(fmt, count, rng):
    """Codes of a format: with a meaning, near one, or any."""
    directed = directed_codes(fmt)
    return [
        choice(directed, rng)
        if rng.random() < 0.4
        else tame_code(fmt, rng)
        if rng.random() < 0.5
        else int(rng.integers(0, (1 << fmt.bits) - 1, dtype=np.uint64, endpoint=True))
        for _ in range(count)
    ]


def related_codes(op, formats, count, rng):
    """Columns of codes; every third y is near -x, every second z near -(x * y)."""
    columns = [random_codes(fmt, count, rng) for fmt in formats]

    def negative(datum, fmt, nudge):
        datum = datum if datum.kind is Kind.NAN else datum._replace(negative=not datum.negative)
        return (arithmetic.quantize(datum, fmt, hu.RTZ).code ^ nudge) % (1 << fmt.bits)

    if len(formats) > 1:
        for i in range(0, count, 3):
            columns[1][i] = negative(formats[0].unpack(columns[0][i]), formats[1], 0)
    if len(formats) > 2:
        for i in range(0, count, 2):
            product = arithmetic.exact_product(
                *(fmt.unpack(c[i]) for fmt, c in zip(formats[:2], columns, strict=False))
            )
            columns[2][i] = negative(product, formats[2], int(rng.integers(4) == 0))
    return columns


def check_mixed(seed, backend):
    """Each operation on values of random formats into another: by the path that is taken, with flags and without."""
    rng, machine, taken = np.random.default_rng([SEED, seed]), make_backend(backend, 1), set()
    for op in Op:
        name = "quantize" if op is Op.CONVERT else op.name.lower()
        defined, arity = OPERATIONS[name]
        result = any_format(rng)
        formats = tuple(result if rng.random() < 0.3 else any_format(rng) for _ in range(arity))
        rounding, conventions, count = any_rounding(rng), CONVENTIONS[rng.integers(5)], 40
        columns = related_codes(name, formats, count, rng)
        data = [
            [conventions.operand(fmt, code)._replace(signaling=False) for code in column]
            for fmt, column in zip(formats, columns, strict=True)
        ]
        rows = list(zip(*data, strict=True))
        k = rounding.random_bits
        random = rng.integers(0, 1 << k, count)
        codes, raised = defined_rows(defined, rows, result, rounding, random, conventions)
        values = tuple(machine.array([*map(float, column)]) for column in data)
        for flagged in (True, False):
            if conventions.ftz and not flagged:
                continue  # evaluate always asks for flags
            chosen = way_of(op, formats, result, rounding, flagged, conventions)
            path = chosen.path
            taken.add((op, path))
            flags = machine.array(np.zeros(count), np.int64) if flagged else None
            u = machine.array(random * 2.0**-k) if k else None
            out = run(chosen, values, machine, u, flags=flags)
            found = result.encode(machine.to_host(out)).astype(np.uint64)
            same = (found == codes) & (machine.to_host(flags) == raised if flagged else True)
            i = int(np.argmin(same))
            assert same.all(), (
                f"seed {seed}: {name}({', '.join(map(str, formats))}) into {result} @{rounding} {conventions} {path}: "
                f"{[float(x[i]).hex() for x in values]} random {random[i]}: {int(found[i]):#x}, not {int(codes[i]):#x}"
            )
    return taken


@pytest.mark.parametrize("backend", BACKENDS)
def test_operations_on_random_formats(backend):
    taken = set().union(*(check_mixed(seed, backend) for seed in range(150)))
    assert taken >= set(itertools.product(set(Op) - {Op.CONVERT}, (Path.ODD, Path.WIDE))), taken


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_operations_on_many_random_formats(backend):
    for seed in range(10_000, 13_000):
        check_mixed(seed, backend)


# ---- every binary32 number ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rounding", MODES, ids=str)
@pytest.mark.parametrize("name", ["bf16", "fp16", "tf32", "e4m3fn", "e5m2", "e8m7ftz", "q8.8", "e3m2finite"])
def test_every_binary32_number(name, rounding):
    """All 2^32 of them. Rounding is monotone: where numbers in order become one value, both ends of the run suffice."""
    fmt, step = f(name), 1 << 24
    for sign in (0, 1 << 31):
        ends = []
        for first in range(sign, sign + 0x7F800000, step):
            bits = np.arange(first, min(first + step, sign + 0x7F800000), dtype=np.int64).astype(np.uint32)
            values = hu.quantize(bits.view(np.float32), fmt, rounding).view(np.uint32)
            turns = np.flatnonzero(values[1:] != values[:-1])
            at = np.concatenate([[0], turns, turns + 1, [bits.size - 1]])
            ends.append(np.stack([bits[at], values[at]]))
        x, found = np.concatenate(ends, axis=1)
        assert x.size < 2 * (2 << fmt.bits) + 2 * len(ends)
        rows = [(arithmetic.exact(v),) for v in x.view(np.float32).tolist()]
        codes, _ = defined_rows(arithmetic.quantize, rows, fmt, rounding, np.zeros(x.size, int))
        wrong = np.flatnonzero(fmt.encode(found.view(np.float32)) != codes)
        assert not wrong.size, f"{wrong.size} differ; first {x[wrong[0]]:#x}"


# ---- the face ----------------------------------------------------------------------------------------------------


def test_results_have_the_dtype_that_is_promised():
    single, double = np.ones(3, np.float32), np.ones(3)
    for op, (_, arity) in OPERATIONS.items():
        function = getattr(hu, op)
        assert function(*[single] * arity, "bf16").dtype == np.float32
        assert function(*[single] * arity, "fp32").dtype == np.float32
        assert function(*[single] * arity, "e9m7").dtype == np.float64  # binary32 does not hold it
        assert function(*[single] * arity, "q20.20").dtype == np.float64
        assert function(*[double] * arity, "bf16").dtype == np.float64
        if arity > 1:
            assert function(single, *[double] * (arity - 1), "bf16").dtype == np.float64
        assert isinstance(function(*[1.5] * arity, "bf16"), float)
        value, flags = function(*[1.5] * arity, "bf16", flags=True)
        assert isinstance(value, float) and isinstance(flags, int)


@pytest.mark.parametrize("op", OPERATIONS)
def test_shapes(op):
    """Operands broadcast as in NumPy, whatever their strides; nothing is a shape, too. Inputs are left alone."""
    arity = OPERATIONS[op][1]
    rng = rng_of("shapes", op)
    for dtype in (np.float32, np.float64):
        x, y, z = rng.normal(size=(4, 3, 5)).astype(dtype), rng.normal(size=(3, 1)).astype(dtype), dtype(1.75)
        layouts = (
            (x[::2, :, ::-1], y, z),
            (x.transpose(2, 0, 1)[:, :, :1], y[:, 0], z[None]),
            (x[:0], y, z),
            (x[0].T, 2, z),
        )
        for given in layouts:
            used = given[:arity]
            copies = [np.array(v) for v in used]
            full = np.broadcast_arrays(*used)
            values, flags = getattr(hu, op)(*used, "e4m3fn", "SR5", 7, flags=True)
            assert values.shape == flags.shape == full[0].shape
            flat, raised = getattr(hu, op)(*(v.ravel() for v in full), "e4m3fn", "SR5", 7, flags=True)
            assert np.array_equal(values.ravel(), flat, equal_nan=True) and np.array_equal(flags.ravel(), raised)
            assert all(np.array_equal(copy, v) for copy, v in zip(copies, used, strict=True))


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("name", ["bf16", "fp64", "binary8p4se"])
def test_out_may_be_an_operand(op, name):
    """Into an array that is handed over: also in place, or on memory shared with an operand."""
    arity = OPERATIONS[op][1]
    for dtype, rounding in itertools.product((np.float32, np.float64), ("RNE", "SR7")):
        kind = np.float64 if name == "fp64" else dtype
        column = operands(op, "e5m2", dtype, 100)
        given = [np.concatenate([x, x])[:151].astype(dtype) for x in column]
        for flagged, place in itertools.product((False, True), (None, *range(arity), "shifted")):
            arrays = [x.copy() for x in given]
            expected = getattr(hu, op)(*arrays, name, rounding, 3, flags=True)
            out = np.full(151, 9, kind)
            if place == "shifted" and kind == dtype:
                memory = np.concatenate([arrays[0], arrays[0][:1]])
                arrays[0], out = memory[:151], memory[1:]
            elif place not in (None, "shifted") and kind == dtype:
                out = arrays[place]
            found = getattr(hu, op)(*arrays, name, rounding, 3, flags=flagged, out=out)
            values = found[0] if flagged else found
            assert values is out and np.array_equal(values, expected[0], equal_nan=True), (flagged, place)
            assert not flagged or np.array_equal(found[1], expected[1]), (flagged, place)


def test_arrays_that_cannot_be_written_are_read_as_others_are():
    """They take no kernel of their own, which would have to be compiled."""
    x = np.linspace(-3, 3, 99)
    frozen = x.copy()
    frozen.flags.writeable = False
    compiled = COMPILED["compute"].signatures
    for op, (_, arity) in OPERATIONS.items():
        assert np.array_equal(
            getattr(hu, op)(*[frozen] * arity, "fp16"), getattr(hu, op)(*[x] * arity, "fp16"), equal_nan=True
        )
    codes = hu.encode(hu.quantize(frozen, "fp16"), "fp16")
    codes.flags.writeable = False
    assert np.array_equal(hu.decode(codes, "fp16"), hu.quantize(x, "fp16"))
    assert len(COMPILED["compute"].signatures) <= max(len(compiled), 1)


@pytest.mark.parametrize("random", ["philox", "lfsr9:units=7"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_threads_change_no_bit(op, random):
    arity, rng = OPERATIONS[op][1], rng_of("threads", op)
    columns = rng.normal(size=(arity, 40_003))
    for dtype, rounding in ((np.float32, "SR9"), (np.float64, "SR4c"), (np.float64, "RNE")):
        given = columns.astype(dtype)
        one, two, five = (
            getattr(hu, op)(*given, "bf16", rounding, 11, flags=True, threads=threads, random=random)
            for threads in (1, 2, 5)
        )
        plain = getattr(hu, op)(*given, "bf16", rounding, 11, threads=2, random=random)
        assert one[0].tobytes() == two[0].tobytes() == five[0].tobytes() == plain.tobytes()
        assert one[1].tobytes() == two[1].tobytes() == five[1].tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["lfsr16", "lfsr8:units=3:clocks=2"])
def test_registers_as_a_source_of_random_bits(name, backend):
    registers, rounding = source(name), hu.SR(8)
    x = np.linspace(0.7, 1.9, 200)
    for dtype in (np.float32, np.float64):
        random = np.array([registers.random_bits(5, stream(1, Role.OUTPUT), i, 0, 8) for i in range(200)])
        rows = [(arithmetic.exact(v),) for v in x.astype(dtype).tolist()]
        codes, flags = defined_rows(arithmetic.quantize, rows, f("e4m3fn"), rounding, random)
        values, raised = hu.quantize(x.astype(dtype), "e4m3fn", rounding, 5, backend, flags=True, random=name)
        assert f("e4m3fn").encode(values).tolist() == codes.tolist() and raised.tolist() == flags.tolist()


@pytest.mark.parametrize("name", ["e8m0", "binary8p1se", "posit16", "posit8", "ue8m0"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_formats_without_kernels_go_by_the_definition(op, name):
    fmt = f(name)
    for dtype, rounding in itertools.product((np.float32, np.float64), (hu.RNE, hu.RTN, hu.SR(5))):
        arrays = operands(op, "e8m7", dtype, 60)
        rows = list(zip(*([arithmetic.exact(v) for v in x.tolist()] for x in arrays), strict=True))
        random = np.array([drawn(rounding, 2, Role.OUTPUT, i) for i in range(60)])
        codes, flags = defined_rows(OPERATIONS[op][0], rows, fmt, rounding, random)
        values, raised = getattr(hu, op)(*arrays, name, rounding, 2, flags=True)
        assert fmt.encode(values).tolist() == codes.tolist() and raised.tolist() == flags.tolist()


ERRORS = {
    "ragged": lambda: hu.quantize([[1.0, 2.0], [3.0]], "fp16"),
    "text": lambda: hu.add(["one"], [1.0], "fp16"),
    "complex": lambda: hu.quantize(np.ones(2, complex), "fp16"),
    "None": lambda: hu.quantize(None, "fp16"),
    "integers that would be rounded": lambda: hu.quantize([2**53 + 1], "fp64"),
    "shapes": lambda: hu.fma(np.ones(3), np.ones(2), 1.0, "fp16"),
    "format": lambda: hu.sqrt(1.0, "fp17"),
    "block format": lambda: hu.add(1.0, 1.0, "mxfp8_e4m3"),
    "block format with flags": lambda: hu.quantize(np.ones(32), "mxfp8_e4m3", flags=True),
    "wide fixed point": lambda: hu.mul(1.0, 1.0, "q40.20"),
    "rounding": lambda: hu.div(1.0, 3.0, "fp16", "nearest"),
    "random bits": lambda: hu.div(1.0, 3.0, "fp16", "SR33"),
    "seed": lambda: hu.rem(1.0, 3.0, "fp16", "SR3", -1),
    "large seed": lambda: hu.rem(1.0, 3.0, "fp16", "SR3", 1 << 62),
    "seed that is no integer": lambda: hu.rem(1.0, 3.0, "fp16", "SR3", 0.5),
    "backend": lambda: hu.sub(1.0, 3.0, "fp16", backend="tpu"),
    "threads": lambda: hu.sub(1.0, 3.0, "fp16", threads=0),
    "source": lambda: hu.sub(1.0, 3.0, "fp16", "SR3", random="dice"),
    "more bits than the source has": lambda: hu.sub(1.0, 3.0, "fp16", "SR9", random="lfsr8"),
    "shape of out": lambda: hu.quantize(np.ones(3), "fp16", out=np.ones(4)),
    "dtype of out": lambda: hu.quantize(np.ones(3), "fp16", out=np.ones(3, np.float32)),
    "strides of out": lambda: hu.quantize(np.ones(3), "fp16", out=np.ones(6)[::2]),
    "out that cannot be written": lambda: hu.quantize(np.ones(3), "fp16", out=np.broadcast_to(1.0, (3,))),
    "out that is no array": lambda: hu.quantize(np.ones(3), "fp16", out=[0.0] * 3),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_input_gets_one_sentence(case):
    with pytest.raises(hu.HalfulpError) as raised:
        ERRORS[case]()
    message = str(raised.value)
    assert message.endswith((".", "?")) and "\n" not in message and len(message) < 250


def test_ordinary_work_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for (op, (_, arity)), dtype in itertools.product(OPERATIONS.items(), (np.float32, np.float64)):
            x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38], dtype)
            getattr(hu, op)(*np.meshgrid(*[x] * arity), "fp16", flags=True)


def test_calls_of_several_threads_at_once():
    """Each with helpers of its own, and none in another's scratch."""
    x = np.random.default_rng(SEED).standard_normal((8, 100_000))

    def both(i):
        return hu.quantize(x[i], "fp16", "SR8", seed=i, threads=2), hu.mul(x[i], x[i - 1], "fp64", "SR9", i, threads=3)

    with ThreadPoolExecutor(4) as pool:
        for i, results in enumerate(pool.map(both, [*range(8)] * 3)):
            assert all(map(np.array_equal, results, both(i % 8)))


def test_after_an_interrupt_scratch_is_not_shared_with_who_still_works_in_it(monkeypatch):
    machine = CpuBackend(2)
    held = machine.scratch("random", 5)
    assert np.shares_memory(held, machine.scratch("random", 4))

    def interrupted(kernel, begin, end):
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        machine.launch("draw", 1 << 20)
    assert not np.shares_memory(held, machine.scratch("random", 4))


@pytest.mark.parametrize("nonsense", [None, [1.0, None], "text", [1j], [[1.0], [2.0, 3.0]]])
def test_operands_that_are_no_numbers_are_refused(nonsense):
    for call in (lambda: hu.quantize(nonsense, "fp16"), lambda: hu.add(1.0, nonsense, "fp16")):
        with pytest.raises(hu.HalfulpError, match="an array of real numbers is needed"):
            call()
