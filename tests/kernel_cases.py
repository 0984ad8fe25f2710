"""Inputs, draws and comparisons that the tests of the kernels share."""

import functools
import importlib.util
import itertools
import subprocess
import sys
from dataclasses import replace

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import arithmetic
from halfulp.emulator.formats import Specials
from halfulp.emulator.random import Role, random_bits, stream
from halfulp.kernels.structs import GIVEN_DRAWS
from halfulp.kernels.target import has_kernels

SEED = 20240229


NO_CUPY = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="needs CuPy and a CUDA device: pip install 'halfulp[gpu]'"
)


BACKENDS = ["cpu", "cxx", pytest.param("gpu", marks=[pytest.mark.gpu, NO_CUPY])]


UBSAN = "-fsanitize=undefined -fno-sanitize-recover=undefined"


ONE = hu.FixedFormat(2, 0)


MODES = [hu.RNE, hu.RNA, hu.RND, hu.RTZ, hu.RTP, hu.RTN, hu.RTO]


ALL_MODES = [*MODES, hu.SR(1), hu.SR(8), hu.SR(32), hu.SR(3, corrected=True)]


def f(name):
    return hu.format(name)


def build(text, folder, *flags):
    """C++ compiled by g++ as the cxx backend would, into ``folder``/built.so."""
    (folder / "source.cpp").write_text(text)
    command = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", *flags]
    return subprocess.run([*command, "source.cpp", "-o", "built.so"], cwd=folder, capture_output=True, text=True)


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


def assert_same_bits(x, y, describe=lambda i: f"first at {i}"):
    """Equal bit for bit, where all NaNs count as one."""
    x, y = np.asarray(x).ravel(), np.asarray(y).ravel()
    differ = np.flatnonzero((x.view(np.int64) != y.view(np.int64)) & ~(np.isnan(x) & np.isnan(y)))
    assert not differ.size, f"{describe(differ[0])}: {x[differ[0]]!r} and {y[differ[0]]!r}"


def compute(machine, op, path, operands, t, u=None):
    """(values, flags) of the kernel of that name, on a path; u: the random fractions of SR."""
    size = operands[0].size
    x, y, z = (machine.array(v) for v in (*operands, *operands[:1] * 2)[:3])
    out, scratch, u = (machine.array(np.zeros(size) if v is None else v) for v in (None, None, u))
    flags = machine.array(np.zeros(size), np.uint8 if machine.name == "cpu" else np.int64)
    machine.launch("compute", size, int(op), x, y, z, 0, out, flags, 1, scratch, u, GIVEN_DRAWS, 0, int(path), t)
    return machine.to_host(out), machine.to_host(flags)


def fractions(rounding, size, rng):
    """Random fractions of SR: multiples of 2^-k; None for other modes."""
    k = rounding.random_bits
    return rng.integers(0, 1 << k, size) * 2.0**-k if k else None


def directed_codes(fmt):
    """Codes of ``fmt`` with a meaning: zeros, subnormal and overflow edges, one, infinities, NaNs."""
    if isinstance(fmt, hu.FixedFormat):
        low, high = fmt.min_integer, fmt.max_integer
        one = 1 << fmt.fraction_bits if 0 <= fmt.fraction_bits < fmt.bits else 3
        integers = [0, 1, 2, 3, -1, -2, one, one + 1, one - 1, -one, low, low + 1, high, high - 1, high // 2, low // 2]
        return sorted({i & ((1 << fmt.bits) - 1) for i in integers if low <= i <= high})
    if isinstance(fmt, hu.PositFormat):
        one, top = 1 << (fmt.bits - 2), fmt.max_code
        codes = [0, 1, 2, 3, one - 1, one, one + 1, top - 1, top]
        return sorted({fmt.with_sign(code, negative) for code in codes for negative in (False, True)} | {fmt.nan_code})
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
    codes += [inf - 1, inf, inf + 1, *range(top - 4, top), fmt.max_code]
    return sorted({c + s for c in codes if 0 <= c < top for s in (0, top)[: 1 + fmt.signed]})


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


def defined_quantize(values, fmt, rounding, seed=SEED):
    return [
        arithmetic.quantize(arithmetic.exact(float(x)), fmt, rounding, drawn(rounding, seed, Role.OUTPUT, i)).code
        for i, x in enumerate(values)
    ]


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
    if isinstance(fmt, hu.PositFormat):
        one = 1 << (fmt.bits - 2)
        return fmt.with_sign(one + int(rng.integers(-(one >> 2), one >> 2)), bool(rng.random() < 0.5))
    w, t = fmt.exponent_bits, fmt.trailing_bits
    field = int(np.clip(fmt.bias + rng.integers(-4, 4), 0, (1 << w) - 2))
    sign = int(rng.integers(0, 1 + fmt.signed))
    return sign << (w + t) | field << t | int(rng.integers(0, 1 << t))


def columns(quad):
    return [
        f(name).decode(np.array(codes, dtype=np.uint64))
        for name, codes in zip(quad, zip(*triples(quad), strict=True), strict=False)
    ]


def dp_id(dp):
    return "-".join(str(v) for k, v in dp.describe().items() if v is not None and (k != "operand_rounding")).replace(
        " ", ""
    )


def values(fmt, codes):
    return fmt.decode(np.array(codes, dtype=np.uint64))


def random_format(rng, widest=52):
    """Any format that has kernels, narrow ones more often."""
    while True:
        try:
            fmt = _any_format(rng, widest)
        except hu.HalfulpError:
            continue
        if has_kernels(fmt):
            return fmt


def _any_format(rng, widest):
    if rng.random() < 0.3:
        bits = int(rng.integers(1, min(widest, 40)))
        fraction = int(rng.integers(-3, bits + 3))
        return hu.FixedFormat(bits - fraction, fraction, bool(rng.random() < 0.7), bool(rng.random() < 0.4))
    exponent, trailing = int(rng.integers(2, 12)), int(min(rng.integers(0, 53), rng.integers(0, 53), widest))
    bias = int(rng.integers(-20, 40)) if rng.random() < 0.2 else None
    specials = Specials(str(rng.choice(["", "", "fn", "fnuz", "finite", "extended"])))
    signed = specials is Specials.IEEE or bool(rng.random() < 0.8)
    return hu.FloatFormat(
        exponent, trailing, specials, bool(rng.random() < 0.8), bias, bool(rng.random() < 0.2), signed
    )


def extreme_format(rng):
    """A format whose numbers reach an end of binary64's range, or of binary32's, in bias or binary point."""
    while True:
        try:
            fmt = _any_format(rng, 52)
            if isinstance(fmt, hu.FixedFormat):
                fraction = int(rng.integers(-970, 1000) if rng.random() < 0.5 else rng.integers(-105, 150))
                fmt = replace(fmt, integer_bits=fmt.bits - fraction, fraction_bits=fraction)
            else:
                least = (fmt.emin if not fmt.subnormals else fmt.emin - fmt.trailing_bits) + fmt.bias
                ends = [fmt.emax + fmt.bias - 1023, least + (1074 if fmt.subnormals else 1022)]
                ends += [fmt.emax + fmt.bias - 127, least + 149]
                fmt = replace(fmt, bias=int(rng.choice([*ends, ends[0] + 1, ends[1] - 1, rng.integers(*ends[:2])])))
        except (hu.HalfulpError, ValueError):
            continue
        if has_kernels(fmt):
            return fmt


def doubles_around(fmt, rng):
    """Doubles at which a rounding into ``fmt`` can turn, any doubles, and such near its numbers."""
    low, high = (np.log2(max(x, 5e-324)) for x in (fmt.min_subnormal, fmt.max_finite))
    with np.errstate(all="ignore"):
        near = np.ldexp(rng.normal(size=100), rng.uniform(min(low, high) - 20, max(low, high) + 20, 100).astype(int))
        anything = rng.integers(0, (1 << 64) - 1, 50, np.uint64, endpoint=True).view(np.float64)
        anything = np.where(np.isnan(anything), np.nan, anything)
        return np.concatenate([directed_doubles(fmt), near, anything])


def singles_around(fmt, rng):
    """The same of binary32 numbers, with its subnormal ones."""
    with np.errstate(all="ignore"):
        x = doubles_around(fmt, rng).astype(np.float32)
        x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
        anything = rng.integers(0, 1 << 32, 50, np.uint64).astype(np.uint32).view(np.float32)
        subnormal = rng.integers(0, 1 << 23, 20, np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([np.unique(x[~np.isnan(x)]), anything[~np.isnan(anything)], subnormal, [np.float32(np.nan)]])
