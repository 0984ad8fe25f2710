"""hu.quantize, add, sub, mul, fma, div, sqrt and rem over arrays equal the definition: codes and flags.

Every operation on float32 and on float64 operands, in every mode, into formats of every kind; on values that meet what
is hard (ties, subnormal and overflow edges, cancellation, zeros, infinities, NaN) and on random ones. Without flags
they take other paths, to the same values.
"""

import functools
import itertools

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic, operations
from halfulp.emulator.random import Role
from kernel_cases import BACKENDS, MODES, SEED, directed_doubles, drawn, f

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
