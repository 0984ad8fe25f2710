"""Machines: threads never change a bit, seeds decide all, ledgers equal an instrumented run, errors are sentences."""

import ctypes
import functools
import itertools
import subprocess
from collections import Counter
from dataclasses import replace

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse
from halfulp.emulator import alignment, arithmetic, datapath
from halfulp.emulator.formats import Kind
from halfulp.emulator.random import Role, source, stream
from halfulp.kernels import backends, emit, scalar
from halfulp.kernels.paths import Op, Path, product_is_exact
from halfulp.kernels.target import draws, target
from kernel_cases import (
    BACKENDS,
    SEED,
    UBSAN,
    assert_codes,
    build,
    defined_quantize,
    directed_codes,
    dp_id,
    drawn,
    f,
    random_format,
)


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
    machine = functools.partial(hu.Machine, backend=backend, seed=seed, threads=threads, on_inexact="quantize")
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
    backends.backend("cpu", threads).launch("convert", 1_000_001)
    spans.sort()
    assert len(spans) == threads and spans[0][0] == 0 and spans[-1][1] == 1_000_001
    assert all(left[1] == right[0] and left[1] % 4 == 0 for left, right in itertools.pairwise(spans))


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


PLACES = list(
    itertools.product(
        [0, 7, (1 << 62) - 1, 0xDEADBEEF << 20],
        [0, 8 + 3, (1 << 40) - 1],
        [0, 1, 2, 7, (1 << 34) + 1, (1 << 40) - 1],
        [0, 1, 4, 1 << 32, (1 << 40) - 1],
    )
)


SOURCES = [
    *("philox", "lfsr2", "lfsr8", "lfsr16:units=8", "lfsr32", "lfsr32:units=1:clocks=32", "lfsr31:seed=0x1234567"),
    *("lfsr16:polynomial=0x1100b:units=1000003:clocks=5", "lfsr4:polynomial=0x1f", "lfsr8:polynomial=0x101:units=300"),
]


@functools.cache
def random_fraction(backend, folder):
    """A function of the kernels, called alone: (draws, element, step, t) -> u."""
    if backend == "cpu":
        return scalar.random_fraction
    text = """extern "C" f64 call(const Draws* d, i64 element, i64 step, const Target* t) {
        return random_fraction(*d, element, step, *t);
    }"""
    result = build(f"{emit.source()}\n{text}\n", folder)
    assert result.returncode == 0, result.stderr
    call = ctypes.CDLL(str(folder / "built.so")).call
    call.restype, call.argtypes = ctypes.c_double, [ctypes.c_char_p, *[ctypes.c_longlong] * 2, ctypes.c_char_p]
    return lambda d, element, step, t: call(backends.pack_struct(d), element, step, backends.pack_struct(t))


@pytest.mark.parametrize("backend", ["cpu", "cxx"])
@pytest.mark.parametrize("name", SOURCES)
def test_random_fractions_equal_random_bits(name, backend, tmp_path_factory):
    """The kernels' Philox and LFSRs, at steps, elements, streams and seeds beyond 32 bits."""
    call = random_fraction(backend, tmp_path_factory.getbasetemp())
    drawn = source(name)
    for k in {1, min(8, getattr(drawn, "width", 8)), getattr(drawn, "width", 32)}:
        t = target(f("fp16"), hu.SR(k))
        for seed, number, element, step in PLACES:
            found = call(draws(drawn, seed, number), element, step, t) * 2.0**k
            assert found == drawn.random_bits(seed, number, element, step, k), (seed, number, element, step, k)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["philox", "lfsr3", "lfsr8:units=5"])
def test_kernels_draw_by_position(name, backend):
    """Ranges may begin and end anywhere in a block of four elements, or of a chunk.

    That ``compute`` uses what is drawn is told from outside: 1 + f goes up if and only if f * 2^k + r >= 2^k.
    """
    machine, drawn, size, first = backends.backend(backend, 1), source(name), 1100, 333
    for k, (seed, number) in ((1, (0, 0)), (getattr(drawn, "width", 32), ((1 << 62) - 1, (1 << 40) - 1))):
        t, d = target(f("q4.0"), hu.SR(k)), draws(drawn, seed, number)
        every = [[drawn.random_bits(seed, number, i, step, k) for i in range(first + size)] for step in (0, 3)]
        r, later = np.array(every[0][first:]), np.array(every[1][:size])
        for begin, end in itertools.product((0, 1, 2, 3, 1023), (size, size - 1, 1024, 1026)):
            if backend == "gpu" and (begin, end) != (0, size):
                continue
            u = machine.array(np.full(size, -1.0))
            run_kernel(machine, "draw", begin, end, u, d, 3, t)
            assert (machine.to_host(u)[begin:end] * 2.0**k == later[begin:end]).all()
            for path, (beyond, expected) in itertools.product((Path.ODD, Path.WIDE), ((0, 2.0), (1, 1.0))):
                x = machine.array(1.0 + np.maximum(2**k - r - beyond, 0) * 2.0**-k)
                out, scratch, u = (machine.array(np.zeros(size)) for _ in range(3))
                args = (int(Op.CONVERT), x, x, x, 0, out, machine.array([0], np.uint8), 0, scratch, u, d)
                args = (*args, first, int(path), t)
                run_kernel(machine, "compute", begin, end, *args)
                found = machine.to_host(out)
                assert (found[begin:end] == expected).all() and not found[:begin].any() and not found[end:].any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("shape", "random", "cached"),
    [
        ((700, 100, 1000), "philox", True),
        ((700, 100, 1000), "lfsr8:units=7", True),
        ((2400, 40, 512), "philox", True),  # several panels
        ((400, 50, 785), "philox", True),  # no few rows are whole groups of random bits
        ((310, 40, 900), "lfsr8:units=7", True),  # more columns, but rows enough
        ((20, 80, 900), "philox", False),  # shared out by columns
    ],
)
def test_sums_that_are_rounded_while_cached_draw_as_others_do(shape, random, cached, threads, monkeypatch):
    """By parts, or all at once: result i is rounded with the bits of i."""
    rows, depth, columns = shape
    m = hu.Machine("q1.7/q16.14/q4.4@RNE/SR8", seed=5, threads=threads, random=random)
    places, finish = [], m._finish

    def watched(*args, first=0, **more):
        places.append(first)
        return finish(*args, first=first, **more)

    monkeypatch.setattr(m, "_finish", watched)
    rng = np.random.default_rng(0)
    a, b = (hu.quantize(rng.normal(0, 0.3, s), "q1.7") for s in ((rows, depth), (depth, columns)))
    found = m.matmul(a, b).reshape(-1) * 16
    assert m.ledger.ways["BLAS in float64"] or m.ledger.ways["BLAS in float32"]
    assert (max(places) > 0) == cached
    u = np.zeros(found.size)
    d = draws(source(random), 5, stream(1, Role.OUTPUT))
    backends.backend("cpu", 1).launch("draw", u.size, u, d, 0, target(f("fp64"), hu.SR(8)))
    exact = (a @ b).reshape(-1) * 16
    assert np.array_equal(found, np.clip(np.sign(exact) * np.floor(np.abs(exact) + u), -128, 127))
    assert np.mean(found != np.rint(exact)) > 0.1


def run_kernel(machine, kernel, begin, end, *args):
    if machine.name == "gpu":
        machine.launch(kernel, end, *args)
    else:
        machine.run(kernel, begin, end, *args)


def counted(dp, lengths):
    """What ``datapath.dot`` does over dots of these lengths, counted as it does it.

    An addition into a fused unit's aligned sum is a term cut off at the common weight, the accumulator's own not
    counted; operands must be finite and non-zero.
    """
    seen = Counter()
    with pytest.MonkeyPatch.context() as patch:

        def watch(name, owner=datapath):
            original = getattr(owner, name)

            def wrapper(*args):
                seen[(name, args[1], args[2]) if name == "round_pack" else name] += 1
                return original(*args)

            patch.setattr(owner, name, wrapper)

        for name in ("exact_product", "exact_sum", "round_pack"):
            watch(name)
        for name in ("exact_product", "_truncated"):
            watch(name, alignment)
        watch("aligned_sum", datapath._Unit)
        one = [arithmetic.quantize(arithmetic.exact(1.0), fmt).code for fmt in (dp.a, dp.b)]
        for length in lengths:
            datapath.dot(dp, [one[0]] * length, [one[1]] * length, lambda role, step, k: 0)
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
    hu.Datapath("fp16", order="exact4"),
    hu.Datapath("fp16", "fp16", "fp32", order="exact", output="bf16"),
    hu.Datapath("fp16", order="tree4"),
    hu.Datapath("fp16", "fp16", "bf16", order="tree", product="fp16", output="fp32"),
    hu.Datapath("fp16", "fp16", "fp32", order="systolic3", product="bf16"),
    hu.Datapath("fp8_e4m3", "fp8_e4m3", "fp32", order="blocked5(e8m13@RTZ:fused2g1)"),
    hu.Datapath("fp8_e4m3", "fp8_e4m3", "fp32", order="blocked4(fp16@RNE:tree)", output="bf16"),
    hu.Datapath("fp8_e4m3", "fp8_e4m3", "fp16", order="blocked4(fp16@RNE:exact2)"),
]


def assert_ledger(machine, dp, lengths):
    """The machine's ledger says exactly what was counted, kind by kind and format by format."""
    seen, left = counted(dp, lengths), Counter()
    unit = replace(dp, output=dp.accumulator, output_rounding=dp.rounding)
    for operation, times in machine.ledger.operations.items():
        if operation.kind in ("mul", "round"):
            assert operation.within is None
        else:  # what adds up does so in this unit, but for a block's sum on its way to the outer accumulator
            assert operation.within in ((unit, None) if isinstance(dp.order, hu.Blocked) else (unit,))
        left[replace(operation, within=None)] += times
    take = lambda *fields: left.pop(hu.Operation(*fields), 0)  # noqa: E731
    mul = take("mul", dp.a, dp.b, dp.product, dp.product_rounding)
    term = dp.product or dp.accumulator
    assert mul == seen["exact_product"] == sum(lengths) == machine.ledger.n_mul
    if dp.product is not None:
        assert mul == seen["round_pack", dp.product, dp.product_rounding]
    inner = dp.inner_order
    held = dp.accumulators[-1]
    outputs = Counter({(dp.output, dp.output_rounding): len(lengths)})
    rounds = Counter()  # of the accumulators
    if isinstance(inner, (hu.Fused, hu.Exact)):
        rounds[held] += take("normalise", held[0], held[0], *held)
        assert rounds[held] == seen["aligned_sum"]
        if isinstance(inner, hu.Fused):
            # t + guard bits below the largest exponent, two above (a product is below 4), the growth of n + 1 terms
            growth = next(bits for bits in range(20) if 2**bits >= inner.terms + 1)
            width = held[0].precision - 1 + inner.guard_bits + 2 + growth
        else:  # from the lowest bit of a product to the highest, the growth of the terms, a sign
            ends = [(fmt.emin - fmt.trailing_bits, fmt.emax + 1) for fmt in (dp.a, dp.b)]
            width = sum(high - low for low, high in ends) + (inner.terms.bit_length() - 1 if inner.terms else 30) + 1
        assert take("add", term if inner is dp.order else held[0], held[0], None, hu.RNE, width) == mul
        assert seen["_truncated"] == mul + seen["aligned_sum"]
    for fmt, rounding in {held, (dp.accumulator, dp.rounding)}:
        for added in {dp.product or fmt, fmt, held[0]}:
            rounds[fmt, rounding] += take("add", added, fmt, fmt, rounding)
    assert rounds.total() - seen["aligned_sum"] == seen["exact_sum"]
    for key in {*rounds, *outputs}:
        products = mul if dp.product is not None and key == (dp.product, dp.product_rounding) else 0
        assert rounds[key] + outputs[key] + products == seen["round_pack", *key], key
    if dp.output != dp.accumulator:
        conversions = take("round", dp.accumulator, dp.accumulator, dp.output, dp.output_rounding)
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
    assert machine.ledger.bits_moved == {"sram": total * (dp.a.bits + 16) + 8 * 16 + 9 * dp.b.bits + 7 * dp.output.bits}


def test_ledger_of_elementwise_operations():
    dp = hu.Datapath("bf16", "fp16", "fp32", output="e4m3fn", output_rounding="RTZ")
    x, y = np.ones((3, 1)), np.ones(4)
    machine = hu.Machine(dp)
    machine.quantize(x, "fp16", "RNA")
    machine.quantize(x, "fp16", "RNA", stored="bf16")
    assert machine.load(x, f("bf16"), f("bf16")) is x  # stored as it is needed: nothing is done
    machine.quantize(x, "fp64")  # nothing to round: only moved
    machine.load(x, f("bf16"), f("fp16"))
    machine.add(x, y)
    machine.mul(x, y)
    machine.fma(x, y, y)
    fp16, out, rtz = f("fp16"), dp.output, hu.RTZ
    assert machine.ledger.operations == {
        hu.Operation("round", f("fp64"), f("fp64"), fp16, hu.RNA): 3,
        hu.Operation("round", dp.a, dp.a, fp16, hu.RNA): 3,
        hu.Operation("round", dp.a, dp.a, fp16, hu.RNE): 3,
        hu.Operation("add", dp.a, dp.b, out, rtz): 12,
        hu.Operation("mul", dp.a, dp.b, out, rtz): 12,
        hu.Operation("mul", dp.a, dp.b, None): 12,
        hu.Operation("add", dp.accumulator, dp.accumulator, out, rtz): 12,
    }
    assert machine.ledger.bits_moved == {
        "sram": 3 * (64 + 64)
        + 3 * (64 + 16)
        + 2 * 3 * (16 + 16)
        + 2 * (3 * 16 + 4 * 16 + 12 * 8)
        + (3 * 16 + 4 * 16 + 4 * 32 + 12 * 8)
    }


def test_a_ledger_can_be_shared_and_added():
    ledger = hu.Ledger()
    first, second = hu.Machine("fp16", ledger=ledger), hu.Machine("bf16", ledger=ledger)
    first.add([1.0], [2.0])
    before = ledger.copy()
    second.add([1.0, 2.0], [2.0, 3.0])
    assert ledger.n_add == 3 and (ledger - before).n_add == 2 and before + (ledger - before) == ledger


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
    "quantize empty": lambda: hu.Machine("fp16").quantize(np.ones((0, 3))),
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


@pytest.mark.parametrize(
    "name", ["fp16:product=e5m2@RTZ", "fp32:product=fp32@RNE", "q4.12/q8.24/q4.12@RNE/RTN:product=q4.8@RNA"]
)
def test_a_rounded_product_is_rounded_in_fma_too(name):
    machine, rng = hu.Machine(name), np.random.default_rng(5)
    dp = machine.datapath
    x, y = (np.asarray(hu.quantize(rng.normal(size=500), fmt)) for fmt in (dp.a, dp.b))
    z = np.asarray(hu.quantize(-x * y * rng.choice([1.0, 0.999], 500), dp.accumulator))  # much cancels
    found = machine.fma(x, y, z)
    product = hu.mul(x, y, dp.product, dp.product_rounding)
    assert np.array_equal(found, hu.add(product, z, dp.output, dp.output_rounding))
    assert not np.array_equal(found, hu.fma(x, y, z, dp.output, dp.output_rounding))
    kinds = {op.kind: (op.result, n) for op, n in machine.ledger.operations.items()}
    assert kinds == {"mul": (dp.product, 500), "add": (dp.output, 500)}


def test_a_product_rounded_stochastically_draws_as_the_definition_says():
    machine = hu.Machine("fp16@SR7:product=e5m2@SR4", seed=9)
    x, y, z = (np.asarray(hu.quantize(np.random.default_rng(i).normal(size=300), "fp16")) for i in range(3))
    found = machine.fma(x, y, z)

    def defined(i):
        a, b, c = (arithmetic.exact(float(v[i])) for v in (x, y, z))
        bits = [drawn(hu.SR(k), 9, role, i) for k, role in ((4, Role.PRODUCT), (7, Role.OUTPUT))]
        product = arithmetic.mul(a, b, f("e5m2"), hu.SR(4), bits[0])
        return arithmetic.add(f("e5m2").unpack(product.code), c, f("fp16"), hu.SR(7), bits[1]).code

    assert f("fp16").encode(found).tolist() == [defined(i) for i in range(300)]
