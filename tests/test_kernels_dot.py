"""matmul, dot and spmv equal ``emulator.datapath.dot``, code for code, stochastic rounding included."""

import dataclasses
import functools
import itertools
from collections import Counter

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse
from halfulp.emulator import datapath
from halfulp.emulator.codec import code_dtype
from halfulp.emulator.formats import Kind
from halfulp.emulator.random import Philox, Role, source, stream
from halfulp.kernels import backends
from halfulp.kernels.certificates import Certificate
from halfulp.kernels.contraction import Level, plan
from halfulp.kernels.fused import ADDED, ALIGNED, INTEGER, LIMBS, SUMMED, TWO_STAGE
from halfulp.kernels.operands import Operand, span
from halfulp.kernels.paths import Path
from halfulp.kernels.products import Draw, Way, multiply
from halfulp.kernels.target import draws
from kernel_cases import (
    BACKENDS,
    MODES,
    SEED,
    assert_codes,
    assert_same_bits,
    choice,
    directed_codes,
    dp_id,
    random_format,
    tame_code,
    values,
)


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
    # bias-corrected, P3109
    path_of("bf16", "bf16", "fp16", "SR6c", output="e4m3fn", output_rounding="SR3c"),
    path_of("binary8p4se", "binary8p3ue", "binary16p8se", "RTO", output="binary8p4sf"),
    path_of("fp64", "fp64", "fp64", "SR13c", product="fp64", product_rounding="SR1c"),
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
    path_of("bf16", "bf16", "fp32", "RTZ", order=hu.fused(16, 2, -133, True)),
    path_of("tf32", "tf32", "e8m28", "RTP", order=hu.fused(8, 23, -100, True)),
    path_of("e5m2", "e5m2", "fp16", "RNE", order=hu.fused(8, 3, -20, True)),
    path_of("e5m2", "fp16", "e5m8", "SR5", order=hu.fused(3, 1, -12, True), output="fp32"),
    path_of("fp16", "bf16", "e5m10ftz", "RTN", order=hu.fused(5, 4, 6, True)),
    path_of("e11m20", "e11m20", "e11m20", "RTZ", order=hu.fused(5, 10, -1000, True)),
    path_of("e4m3fn", "e4m3fn", "binary8p4uf", "RTO", order=hu.fused(4, 2, -6, True)),
    path_of("bf16", "bf16", "fp32", order=hu.two_stage(8, 1, 8)),
    path_of("e4m3fnuz", "e5m2fnuz", "fp32", order=hu.two_stage(16, 1, 8, True), output="bf16", output_rounding="SR7"),
    path_of("fp16", "q4.12", "e4m9", "SR5", order=hu.two_stage(3, 0, 2, True)),
    path_of("e11m20", "e11m20", "e11m20sat", "RTN", order=hu.two_stage(5, 10, 12)),
    path_of("fp32", "e8m30", "e8m7ftz", "RTO", order=hu.two_stage(4, 32, 32)),
    path_of("q8.8", "q8.8", "q12.12", "RNE", order=hu.fused(4)),
    path_of("q8.8", "q8.8", "q6.6", "SR6", order=hu.fused(4, 6), output="q4.4"),
    path_of("q4.4", "uq4.4", "q5.5w", "RTN", order=hu.fused(5, 2)),
    path_of("e4m3fn", "q4.4", "q8.8w", "RNA", order=hu.fused(8, 3), output="uq4.4"),
    path_of("fp16", "q4.12", "fp32", "RNE", order=hu.fused(4, 4)),
    path_of("binary8p4se", "binary8p3uf", "fp32", "SR5c", order=hu.fused(4, 1), output="binary10p4ue"),
]


def parsed(*texts):
    return [hu.Datapath.parse(text) for text in texts]


#: Orders of several registers or accumulators, and exact sums, on all paths.
ORDERED = parsed(
    *("fp16:tree", "fp16@SR8:tree4", "bf16/fp32@RTZ:tree8", "fp8_e4m3/fp16/bf16@RTN/SR4:tree5", "fp16/fp32:tree2"),
    *("fp32:tree:product=fp32", "fp64:tree4:product=fp64", "fp64@RTP:tree3:product=fp32@SR9", "fp32/fp64@SR32:tree4"),
    *("fp16:systolic3", "fp64:systolic2", "fp32@SR9:systolic5:product=fp16@SR3", "q4.4/q6.6w@RNA:systolic4"),
    *("fp8_e4m3/fp32:blocked4(e8m13@RTZ)", "fp16/fp32@SR5:blocked5(fp16@SR8:tree)"),
    *("fp64:blocked3(fp32@RTP:systolic2)", "fp8_e4m3/fp32:blocked8(e8m13@RTZ:fused4g2)"),
    *("bf16/fp32/bf16:blocked6(e8m13@SR4:fused3)", "fp16/q9.9w@SR3:blocked4(q9.12@RTZ:tree)"),
    *("q4.12/fp32:blocked7(q12.20)", "fp16/fp32/bf16:blocked6(fp16@RTZ:exact)"),
    *("fp16/fp32:exact", "fp16@SR8:exact", "bf16/fp32@RTN:exact", "fp64:exact", "fp64/fp32@RTZ:exact3"),
    *("fp32:exact5", "fp8_e5m2/fp16@SR9:exact4", "fp8_e4m3/fp16@RTN:exact4", "fp8_e4m3/bf16@RTZ:exact"),
    *("q4.12/q5.5w@RTZ:exact", "fp64/q20.20w@SR7:exact3", "fp16/e5m10ftz@RTO:exact2", "q8.8/q10.6w@RTP:exact4"),
    *("fp4_e2m1/fp32:exact16", "posit16/fp32:exact", "posit8/fp32@RTZ:tree4", "posit16*fp16/fp32:fused4"),
)


PHILOX = Philox()


SHAPES = [(3, 5, 4), (2, 40, 3), (1, 1, 1), (4, 7, 2), (1, 33, 3)]


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


def defined_dot(dp, x, y, element, seed, call=1, drawn=PHILOX):
    def draw(role, step, k):
        return drawn.random_bits(seed, stream(call, role), element, step, k)

    return datapath.dot(dp, x, y, draw)


def check_matmul(dp, shape, backend, seed=SEED):
    a, b, expected = products(dp, shape, seed)
    got = hu.Machine(dp, backend, seed).matmul(values(dp.a, a), values(dp.b, b).T)
    assert got.shape == (shape[0], shape[2])
    width = shape[2]
    assert_codes(
        dp.output, got, expected, lambda i: f"{dp_id(dp)} seed {seed}: {a[i // width]} . {b[i % width]} (element {i})"
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dp", [*SEQUENTIAL, *FUSED, *ORDERED], ids=dp_id)
def test_matmul(dp, backend):
    for shape in SHAPES:
        check_matmul(dp, shape, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["RNE", "RTZ", "RTP", "RTN", "RTO", "SR4"])
@pytest.mark.parametrize(
    ("unit", "smallest"),
    [("bf16/fp32@{}:fused4g9e-160n", -79), ("bf16/fp32@{}:fused4g28e-131n", -79), ("fp16@{}:fused4g13e-21n", -14),
     ("fp16@{}:fused4g13e4096n", -14), ("e11m9/e11m20@{}:fused3g5e-1035n", -528), ("bf16/e8m9ftz@{}:fused4g2n", -64),
     ("bf16/fp32@{}:fused4g9", -79), ("bf16/fp32@{}:twostage4g1s8", -79), ("bf16/e8m9ftz@{}:twostage4g1s3i", -64)],
)  # fmt: skip
def test_fused_units_at_the_bottom_of_the_range(unit, smallest, mode, backend):
    """Negative sums that round to zero, sums that cancel, floors that cut: about 2^(2 smallest)."""
    dp, rng = hu.Datapath.parse(unit.format(mode)), np.random.default_rng([SEED, *unit.encode()])
    signs, places = (rng.choice([-1.0, 0.0, 1.0], 480), rng.integers(smallest, smallest + 9, 480))
    x, y = hu.quantize(signs * np.exp2(places) * rng.integers(1, 4, 480), dp.a).reshape(2, 24, 10)
    found = hu.Machine(dp, backend, SEED).matmul(x, y.T)
    codes_x, codes_y = (dp.a.encode(v).tolist() for v in (x, y))
    wanted = [
        defined_dot(dp, row, column, i * 24 + j, SEED)
        for i, row in enumerate(codes_x)
        for j, column in enumerate(codes_y)
    ]
    assert_codes(dp.output, found, wanted, lambda i: f"{x[i // 24]} . {y[i % 24]}")


def test_matmul_takes_all_paths():
    taken = Counter((plan(dp, 9, False).levels[0].path, dp.product is not None) for dp in SEQUENTIAL)
    assert len(taken) == 6, taken
    ways = {level.unit.way for dp in [*FUSED, *ORDERED] for level in plan(dp, 9).levels if ":" in dp.name}
    assert ways == {ALIGNED, INTEGER, LIMBS, SUMMED, ADDED, TWO_STAGE}


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["lfsr8", "lfsr16:units=4", "lfsr8:polynomial=0x101:units=3:clocks=2"])
@pytest.mark.parametrize("dp", [SEQUENTIAL[3], SEQUENTIAL[20], FUSED[3]], ids=dp_id)
def test_registers_as_a_source_of_random_bits(dp, name, backend):
    a, b, _ = products(dp, (3, 5, 4))
    machine = hu.Machine(dp, backend, SEED, random=name)
    got = machine.matmul(values(dp.a, a), values(dp.b, b).T)
    expected = [
        defined_dot(dp, row, column, i * 4 + j, SEED, drawn=source(name))
        for i, row in enumerate(a)
        for j, column in enumerate(b)
    ]
    assert_codes(dp.output, got, expected, lambda i: f"{dp_id(dp)} {name}: {a[i // 4]} . {b[i % 4]} (element {i})")


def random_rounding(rng):
    if rng.random() < 0.3:
        return hu.SR(int(rng.integers(1, 33)), bool(rng.random() < 0.3))
    return MODES[rng.integers(len(MODES))]


def random_order(rng, inner=False):
    kind = rng.choice(
        ["sequential", "fused", "two_stage", "tree", "systolic", "exact", *([] if inner else ["blocked"])]
    )
    n = int(rng.integers(2, 9))
    if kind == "blocked":
        return hu.blocked(n, random_format(rng, 28), random_rounding(rng), random_order(rng, True))
    orders = {
        "fused": hu.fused(n, n % 5),
        "two_stage": hu.two_stage(n, n % 3, n % 5 + 2, n % 2 > 0),
        "tree": hu.tree(n),
        "systolic": hu.systolic(n),
        "exact": hu.Exact(n),
    }
    return orders.get(str(kind), hu.sequential)


def with_rules(order, accumulator, rng):
    """The order, its fused unit with a floor and tensor cores' results in some cases where it can have them; of one
    stage where the accumulator is fixed point."""
    if isinstance(order, hu.TwoStage):
        return hu.fused(order.terms) if isinstance(accumulator, hu.FixedFormat) else order
    if isinstance(order, hu.Blocked):
        return dataclasses.replace(order, order=with_rules(order.order, order.accumulator, rng))
    if not isinstance(order, hu.Fused) or isinstance(accumulator, hu.FixedFormat) or rng.random() < 0.4:
        return order
    floor = int(rng.integers(-60, 20)) if rng.random() < 0.7 else None
    return dataclasses.replace(order, floor=floor, tensor_core=bool(rng.random() < 0.7))


def random_datapath(rng):
    order = random_order(rng) if rng.random() < 0.7 else hu.sequential
    inner = order.order if isinstance(order, hu.Blocked) else order
    widest = 28 if isinstance(inner, hu.Fused | hu.TwoStage) else 52
    rounded = isinstance(inner, (hu.Sequential, hu.Tree, hu.Systolic)) and rng.random() < 0.4
    a, b, accumulator = (random_format(rng, widest) for _ in range(3))
    return hu.Datapath(
        a,
        b,
        accumulator,
        random_rounding(rng),
        random_format(rng) if rounded else None,
        random_rounding(rng),
        with_rules(order, accumulator, rng),
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
            assert "aligned sums" in str(error) or "exact products" in str(error), f"seed {seed}: {dp_id(dp)}: {error}"
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


def by_plan(dp, a, b, chosen, backend="cpu", seed=SEED, threads=1):
    """The accumulators' sums by the kernels, as a plan says."""
    out = np.zeros(len(a) * b.shape[1])
    draw = Draw(*(draws(PHILOX, seed, stream(1, role)) for role in (Role.ACCUMULATOR, Role.PRODUCT)))
    operands = Operand(a, dp.a, 0.0), Operand(b, dp.b, 0.0)
    machine = backends.backend(backend, threads)
    there = machine.array(out)
    multiply(dp, *operands, there, machine, draw, Way("kernel", Certificate(None, ""), chosen))
    return np.array(machine.to_host(there))


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "gpu"])
@pytest.mark.parametrize(
    "dp",
    [dp for dp in SEQUENTIAL if dp.product is None and plan(dp, 9, False).levels[0].path != Path.WIDE],
    ids=dp_id,
)
def test_matmul_paths_agree(dp, backend):
    """The WIDE loop gives what the faster one gave."""
    chosen = plan(dp, 9, False)
    rows, length, width = 5, 30, 6
    rng = np.random.default_rng(SEED)
    a = values(dp.a, [operand_codes(dp.a, length, i % 3, rng) for i in range(rows)])
    b = np.ascontiguousarray(values(dp.b, [operand_codes(dp.b, length, j % 3, rng) for j in range(width)]).T)
    level = chosen.levels[0]
    wide = Level(int(Path.WIDE), level.wide, level.wide, level.unit)
    other = chosen._replace(levels=(wide, wide))
    assert_same_bits(by_plan(dp, a, b, chosen, backend), by_plan(dp, a, b, other, backend))


@pytest.mark.parametrize("name", ["int8/fp32:exact4", "fp4_e2m1/fp32:exact16", "q4.4/fp32:exact8", "int8/fp64:exact4"])
def test_exact_sums_that_the_processor_adds(name):
    """Beyond what any narrower format holds, on both carriers and in limbs."""
    dp = hu.Datapath.parse(name)
    rng = np.random.default_rng(SEED)
    a, b = (hu.quantize(rng.normal(size=shape) * dp.a.max_finite, dp.a) for shape in ((20, 900), (900, 30)))
    narrow, wide = plan(dp, 900), plan(dp, 900, False)
    assert narrow.levels[0].unit.way == ADDED
    limbs = plan(dp, 900, False, ((-500, 500), (-500, 500)))
    assert limbs.levels[0].unit.way == LIMBS
    outs = [by_plan(dp, a, b, chosen) for chosen in (narrow, wide, limbs)]
    assert_same_bits(outs[0], outs[1])
    assert_same_bits(outs[0], outs[2])


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
@pytest.mark.parametrize("dp", [*SEQUENTIAL, *FUSED, *ORDERED], ids=dp_id)
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


@pytest.mark.parametrize("mode", ["RNE", "RTZ", "RTN", "RTP", "RTO", "RNA", "RND", "SR8", "SR3c"])
@pytest.mark.parametrize(
    ("operand", "accumulator"),
    [("fp16", "fp16"), ("fp8_e4m3", "e5m8"), ("fp8_e5m2", "fp16"), ("e2m3", "e4m9ftz"), ("bf16", "fp32"),
     ("q4.4", "q6.6"), ("uq4.4", "uq2.9"), ("fp8_e4m3", "fp32"), ("fp4_e2m1", "e4m3fn"), ("fp16*e3m4", "e6m5sat"),
     ("int4", "q4.4w")],
)  # fmt: skip
def test_binary32_carriers_give_the_bits_of_binary64_ones(operand, accumulator, mode):
    """Specials, subnormals, signed zeros, sums that cancel, overflow and wrap; whether they were taken, too."""
    rng = np.random.default_rng([SEED, *f"{operand}{accumulator}{mode}".encode()])
    datapath = hu.Datapath.parse(f"{operand}/{accumulator}@{mode}")
    a_values, b_values = (
        fmt.decode(np.array(directed_codes(fmt)).astype(code_dtype(fmt.bits))) for fmt in (datapath.a, datapath.b)
    )
    for seed, length in enumerate((1, 2, 7, 40)):
        a, b = rng.choice(a_values, (30, length)), rng.choice(b_values, (length, 37))
        a[::3], b[:, ::2] = np.abs(a[::3]) <= 1, hu.quantize(b[:, ::2] / 8, datapath.b)
        narrow = plan(datapath, length)
        wide = plan(datapath, length, False)
        first, second = (by_plan(datapath, a, b, way, seed=seed, threads=1 + seed % 2) for way in (narrow, wide))
        assert_same_bits(first, second)
        too_narrow = (accumulator == "fp32" and mode != "RNE") or (accumulator, mode) == ("q4.4w", "SR8")
        assert wide.carrier is np.float64 and (narrow.carrier is np.float64) == too_narrow


@pytest.mark.parametrize("mode", ["RNE", "RTZ", "RTN", "RTP", "RTO", "RNA", "RND", "SR8"])
@pytest.mark.parametrize(
    "name",
    ["bf16@{}", "bf16/e8m9@{}", "bf16@{0}:tree", "bf16@{0}:systolic4", "bf16@{0}:product=bf16@{0}",
     "bf16*fp16/bf16@{}", "bf16@{0}:blocked8(e8m10@{0})", "bf16@{0}:tree:product=e8m9@{0}"],
)  # fmt: skip
def test_binary32_carriers_of_numbers_within_their_exponents(name, mode):
    """bf16's products may leave binary32, but these do not: at both ends of what is allowed, and none beyond."""
    datapath = hu.Datapath.parse(name.format(mode))
    rng = np.random.default_rng([SEED, *datapath.name.encode()])
    a, b = (rng.integers(-128, 128, shape).astype(float) for shape in ((40, 67), (67, 40)))
    a[::2], b[:, 1::4] = abs(a[::2]), np.sign(b[:, 1::4]) * 128  # what does not cancel, and swamps
    a[0, :2] = b[:2, 0] = 1.0, 128.0

    def scaled(scale):
        x = np.ldexp(a, scale)
        spans = span(Operand(x, datapath.a, 0.0)), span(Operand(b, datapath.b, 0.0))
        return plan(datapath, 67, True, spans), x

    wide = plan(datapath, 67, False)
    scales = [scale for scale in range(-133, 120) if scaled(scale)[0].carrier is np.float32]
    assert scales == list(range(-126, scales[-1] + 1)) and scales[-1] > 60
    for scale in (-126, -16, scales[-1]):
        chosen, x = scaled(scale)
        first, second = (by_plan(datapath, x, b, way, seed=1, threads=2) for way in (chosen, wide))
        assert np.isfinite(second).all() and len(np.unique(second)) > 99
        assert_same_bits(first, second)


@pytest.mark.parametrize("rounding", ["RNE", "RTZ", "SR6"])
@pytest.mark.parametrize(
    "unit",
    ["fp8_e4m3/e8m13@{}:fused32g2", "fp8_e5m2/fp32@{}:fused16g1", "fp16/fp32@{}:fused8", "bf16/fp32@{}:fused4g3",
     "tf32/e8m24@{}:fused4", "fp16*fp8_e4m3/fp16@{}:fused3g5", "fp16/e5m12sat@{}:fused7", "int8/int32@{}:fused16",
     "bf16/fp32@{}:fused16g2e-133n", "fp8_e5m2/fp16@{}:fused8g9e-20n", "fp16/e5m10ftz@{}:fused4e2n",
     "q4.4/q6.6@{}:fused5g2", "fp4_e2m1/q9.1w@{}:fused32g1", "e4m3fnuz/e5m9ftz@{}:fused2g9"],
)  # fmt: skip
def test_sums_aligned_in_binary64_are_those_aligned_in_integers(unit, rounding):
    """Of everything a format has, and of numbers of one sort: normal ones that cancel, subnormals, mixed exponents."""
    datapath = hu.Datapath.parse(unit.format(rounding))
    chosen = plan(datapath, 9)
    level = chosen.levels[0]
    assert level.unit.way == ALIGNED
    whole = Level(level.path, level.target, level.wide, level.unit._replace(way=INTEGER))
    rng = np.random.default_rng([SEED, *datapath.name.encode()])
    a_values, b_values = (
        fmt.decode(np.array(directed_codes(fmt)).astype(code_dtype(fmt.bits))) for fmt in (datapath.a, datapath.b)
    )
    for seed, length in enumerate((1, 9, 40, 67)):
        a, b = rng.choice(a_values, (40, length)), rng.choice(b_values, (length, 40))
        a[::4] = hu.quantize(rng.normal(size=a[::4].shape), datapath.a)
        b[:, ::3] = rng.choice(b_values[1:4], b[:, ::3].shape)
        a[1::4] = hu.quantize(np.ldexp(1.0, rng.integers(-9, 9, a[1::4].shape)), datapath.a)
        found, wanted = (
            by_plan(datapath, a, b, way, seed=seed, threads=1 + seed % 2)
            for way in (chosen, chosen._replace(levels=(whole, whole)))
        )
        assert_same_bits(found, wanted)


def test_the_outer_accumulator_of_exact_blocks_grows_with_all_of_them():
    """Its sums leave binary32's range, which each block's would not."""
    dp = hu.Datapath.parse("bf16/e8m1sat@RTP:blocked1(e7m5@RTP:exact1)")
    twos = np.full((40, 400), 2.0), np.full((400, 40), 2.0)
    chosen = plan(dp, 400, True, ((1, 1), (1, 1)))
    assert chosen.carrier is np.float64
    found = hu.Machine(dp).matmul(*twos)
    assert_same_bits(found.ravel(), by_plan(dp, *twos, plan(dp, 400, False)))
