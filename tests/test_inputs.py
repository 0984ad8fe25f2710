"""What machines are given: layouts and types that change nothing, and what is refused, in one clear sentence."""

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse
from kernel_cases import BACKENDS, SEED, assert_same_bits

A = hu.quantize(np.random.default_rng(SEED).normal(size=(9, 14)), "fp16")
B = hu.quantize(np.random.default_rng(SEED + 1).normal(size=(14, 6)), "fp16")

LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "a transposed view": lambda x: np.ascontiguousarray(x.T).T,
    "a strided view": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "a reversed view": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "longdouble": lambda x: x.astype(np.longdouble),
    "big endian": lambda x: x.astype(">f8"),
    "lists": lambda x: x.tolist(),
    "objects": lambda x: x.astype(object),
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(x.shape),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["fp16", "fp16@SR8", "fp16/fp32@RTZ:fused4", "fp16/fp32:exact", "fp16:tree"])
def test_layouts_change_no_bit(name, layout, backend):
    wanted = hu.Machine(name, backend, SEED).matmul(A, B)
    a, b = LAYOUTS[layout](A), LAYOUTS[layout](B)
    got = hu.Machine(name, backend, SEED).matmul(a, b)
    assert_same_bits(wanted, np.asarray(got, np.float64))
    assert np.array_equal(np.asarray(a, float), A) and np.array_equal(np.asarray(b, float), B)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_of_vectors_sums_and_images(backend):
    machine = lambda: hu.Machine("fp16@SR8", backend, SEED)  # noqa: E731
    wide = np.repeat(A[0], 3)[::3]
    assert machine().dot(wide, wide) == machine().dot(A[0], A[0])
    assert_same_bits(machine().sum(A.T.copy().T, 1), machine().sum(A, 1))
    x, w = A[:8, :8].reshape(1, 1, 8, 8), B[:3, :3].reshape(1, 1, 3, 3)
    strided = np.repeat(np.repeat(x, 2, 2), 2, 3)[:, :, ::2, ::2]
    assert_same_bits(machine().conv2d(strided, w), machine().conv2d(x, w))


def test_float32_operands_give_float32_results_of_the_same_values():
    for name in ("fp16", "int8/int32", "bf16/fp32", "fp8_e4m3/e8m13@RTZ:fused32g2", "fp16/fp32:exact", "mxfp4/fp32"):
        dp = hu.Datapath.parse(name)
        a, b = (hu.quantize(np.round(x * 4), fmt, axis=axis) for x, fmt, axis in ((A, dp.a, 1), (B, dp.b, 0)))
        wide = hu.Machine(dp).matmul(a, b)
        found = hu.Machine(dp).matmul(a.astype(np.float32), b.astype(np.float32))
        assert wide.dtype == np.float64 and np.array_equal(wide, found.astype(np.float64)), name
        assert found.dtype == (np.float64 if "mx" in name or "int32" in name else np.float32), name


class Csr:
    """All that a CSR matrix needs to have."""

    def __init__(self, data, indices, indptr):
        self.data, self.indices, self.indptr, self.shape = data, np.array(indices), np.array(indptr), (2, 2)


def test_spmv_of_any_object_with_the_arrays_of_a_csr_matrix():
    machine = hu.Machine("fp16")
    assert machine.spmv(Csr(np.array([1.0, 2.0]), [1, 0], [0, 1, 2]), np.array([3.0, 5.0])).tolist() == [5.0, 6.0]


@pytest.mark.parametrize("name", ["mxint8", "mxfp4+amax", "mxfp4", "mxfp8_e4m3", "mxfp6_e3m2+ceil", "msfp16"])
def test_blocks_that_were_rounded_are_blocks_again(name):
    """Though the rule would pick another scale for what some have become."""
    fmt = hu.Datapath.parse(f"{name}/fp32").a
    ones = hu.quantize(np.ones((3 * fmt.size, 1)), fmt, axis=0)
    for seed in range(40):
        x = hu.quantize(np.random.default_rng(seed).standard_normal((2, 3 * fmt.size)), fmt)
        found = hu.Machine(f"{name}/fp64/fp64").matmul(x, ones)
        assert found[:, 0].tolist() == [sum(row) * ones[0, 0] for row in x.tolist()]


def test_quantize_into_fp64_gives_float64():
    assert hu.Machine("fp16").quantize(np.ones(3, np.float32), "fp64").dtype == np.float64


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.matmul(np.ones((2, 3)), np.ones((2, 3))), "matmul needs shapes (M, K) and (K, N), not (2, 3)"),
        (lambda m: m.matmul(np.ones(3), np.ones((3, 2))), "matmul needs shapes (M, K) and (K, N), not (3,)"),
        (lambda m: m.matmul(np.ones((1, 2, 3)), np.ones((3, 2))), "matmul needs shapes"),
        (lambda m: m.matmul(np.ones((0, 3)), np.ones((3, 2))), "A got an empty array (shape (0, 3))"),
        (lambda m: m.matmul(np.ones((2, 0)), np.ones((0, 2))), "empty array"),
        (lambda m: m.matmul([["x", "y"]], np.ones((2, 2))), "array of real numbers"),
        (lambda m: m.matmul(np.ones((2, 2)) * 1j, np.ones((2, 2))), "array of real numbers"),
        (lambda m: m.matmul([[1.0, None]], np.ones((2, 2))), "array of real numbers"),
        (lambda m: m.matmul([[1.0, 2.0], [3.0]], np.ones((2, 2))), "array of real numbers"),
        (lambda m: m.matmul(np.array([[2**53 + 1]]), np.ones((1, 1))), "does not fit binary64"),
        (lambda m: m.matmul([[1.0, 0.1]], np.ones((2, 2))), "A[0, 1] = 0.1 is no value of fp16"),
        (lambda m: m.matmul(np.full((2, 2), 0.1), np.ones((2, 2))), "A[0, 0] = 0.1 (and 3 more) is no value of fp16"),
        (lambda m: m.matmul(np.ones((2, 2)), np.full((2, 2), 1e6)), "B[0, 0] = 1000000.0 (and 3 more) is no value"),
        (lambda m: m.matmul(np.ones((2, 2)), np.float32([[1, 2], [0.1, 4]])), "B[1, 0] = 0.10000000149011612"),
        (lambda m: m.dot([1.0, 2.0], [1.0]), "dot needs two vectors of one length, not shapes (2,) and (1,)"),
        (lambda m: m.dot([0.1], [1.0]), "is no value of fp16"),
        (lambda m: m.sum([]), "sum got an empty array"),
        (lambda m: m.sum([[0.1]]), "x[0, 0] = 0.1 is no value of fp16"),
        (lambda m: m.add([0.1], [1.0]), "the first operand[0] = 0.1 is no value of fp16"),
        (lambda m: m.fma([1.0], [1.0], [0.1]), "the addend[0] = 0.1"),
        (lambda m: m.add(np.ones(2), np.ones(3)), "do not broadcast"),
        (lambda m: m.matmul(hu.encode_blocks(A, "mxfp4"), B), "in blocks, but the datapath's operand is of fp16"),
        (lambda m: m.spmv(np.ones((2, 2)), np.ones(2)), "spmv needs a CSR matrix"),
        (lambda m: m.spmv(scipy.sparse.csr_array(np.ones((2, 2))), np.ones(3)), "needs a vector (2,), not (3,)"),
        (lambda m: m.spmv(scipy.sparse.csr_array([[0.1, 0.0]]), np.ones(2)), "the matrix's data[0] = 0.1"),
        (lambda m: m.spmv(scipy.sparse.csr_array(np.eye(2)), [1.0, 0.1]), "x[1] = 0.1"),
        (lambda m: m.spmv(Csr(np.ones(2), [0.7, 1.2], [0, 1, 2]), np.ones(2)), "indptr are arrays of integers"),
        (lambda m: m.matmul(np.ma.masked_array([[1.0, 2.0]], [[0, 1]]), np.ones((2, 1))), "A got a masked array"),
        (lambda m: m.conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), padding=10**9), "padding of 0...65536"),
        (lambda m: m.conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), stride=10**30), "stride of 1...65536"),
        (lambda m: hu.Machine("fp16", unit="a"), "unit must lie in 0...15, not a"),
        (lambda m: hu.fused("a"), "the terms of an order Fused is an integer, not 'a'"),
        (lambda m: hu.fused(2.5), "not 2.5"),
        (lambda m: hu.systolic(None), "the lanes of an order Systolic"),
        (lambda m: hu.blocked("a", "fp32"), "the length of an order Blocked"),
    ],
)
def test_what_is_refused(call, said, backend):
    machine = hu.Machine("fp16", backend)
    with pytest.raises(hu.HalfulpError) as error:
        call(machine)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not machine.ledger.operations  # nothing was done


@pytest.mark.parametrize("fmt", ["fp16", "q4.12", "e11m40", "posit16", "fp8_e4m3", "e5m10sat", "bf16"])
def test_what_a_format_does_not_hold_is_told_whatever_its_route(fmt):
    held = hu.quantize(np.array([[0.3, 1.7, -2.0, 5.1]]), fmt)
    wrong = held.copy()
    wrong[0, 2] = 0.1 + 2**-50
    for dtype in (np.float64, *([] if fmt == "e11m40" else [np.float32])):  # which holds all of float32's values
        machine = hu.Machine(hu.Datapath(fmt, "fp64", "fp64"))
        machine.matmul(held.astype(dtype), np.ones((4, 1)))
        with pytest.raises(hu.HalfulpError, match=r"A\[0, 2\] = 0.1"):
            machine.matmul(wrong.astype(dtype), np.ones((4, 1)))


def one_hot(length, at, value):
    x = np.ones((1, length))
    x[0, at] = value
    return x


@pytest.mark.parametrize("length", [1, 5, 255, 1023, 1024, 1025, 70_000])
def test_one_wrong_value_is_found_wherever_it_is(length):
    for at in {0, length // 2, length - 1}:
        with pytest.raises(hu.HalfulpError, match=rf"A\[0, {at}\] = 0.3 is no value"):
            hu.Machine("fp16", threads=2).matmul(one_hot(length, at, 0.3), np.ones((length, 1)))
        entries = scipy.sparse.csr_array(one_hot(length, at, 0.3).T)
        with pytest.raises(hu.HalfulpError, match="the matrix's data"):
            hu.Machine("fp16", threads=2).spmv(entries, [1.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_quantizing_operands_is_asked_for(backend):
    machine = hu.Machine("fp16/fp32", backend, on_inexact="quantize")
    x = np.array([[0.1, 1e6]])
    entered = hu.quantize(x, "fp16")
    assert_same_bits(machine.matmul(x, x.T), hu.Machine("fp16/fp32", backend).matmul(entered, entered.T))


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinities_and_nans_are_allowed_or_refused(backend):
    x = np.array([[np.inf, 1.0], [np.nan, 2.0]])
    assert np.isnan(hu.Machine("fp16", backend).matmul(x, np.ones((2, 1)))[1, 0])
    strict = hu.Machine("fp16", backend, on_nonfinite="error")
    for call in (strict.matmul, lambda a, b: strict.matmul(b.T, a)):
        with pytest.raises(hu.HalfulpError, match="holds an infinity or a NaN, which on_nonfinite='error' refuses"):
            call(x, np.ones((2, 1)))
    with pytest.raises(hu.HalfulpError, match="an infinity"):
        strict.spmv(scipy.sparse.csr_array(x), np.ones(2))
    with pytest.raises(hu.HalfulpError, match=r"A\[0, 0\] = inf \(and 1 more\) is no value of q4.4"):
        hu.Machine("q4.4", backend).matmul(x, np.ones((2, 1)))


@pytest.mark.parametrize("option", ["on_inexact", "on_nonfinite"])
def test_policies_have_names(option):
    with pytest.raises(hu.HalfulpError, match=f"{option} is 'error' or|{option} is 'allow' or"):
        hu.Machine("fp16", **{option: "ignore"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_negative_zeros_of_formats_without_them_count_as_zeros(backend):
    """Also under RTN, where +0 + (-0) would be -0."""
    x = np.array([[-0.0, -0.0]])
    got = hu.Machine("q4.4*fp16/fp32@RTN", backend).matmul(x, np.ones((2, 1)))
    assert got.tolist() == [[0.0]] and not np.signbit(got).any()
    got = hu.Machine("q4.4*fp16/fp32@RTN", backend).spmv(
        scipy.sparse.csr_array(([-0.0], [0], [0, 1]), (1, 2)), [1.0, 1.0]
    )
    assert not np.signbit(got).any()


def test_a_broken_sparse_matrix_is_refused():
    short = [([0], [0]), ([0], [0, 1, 1]), ([0], [[0, 1]])]
    for indices, indptr in [*short, ([5], [0, 1]), ([-1], [0, 1]), ([0], [0, 2]), ([0], [1, 1])]:
        matrix = scipy.sparse.csr_array(np.ones((1, 2)))
        matrix.data, matrix.indices, matrix.indptr = np.ones(1), np.array(indices), np.array(indptr)
        for name in ("fp16", "fp16:tree4"):
            with pytest.raises(hu.HalfulpError, match=r"column indices|indptr"):
                hu.Machine(name).spmv(matrix, np.ones(2))


def test_a_machine_without_a_gpu_says_so():
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(hu.HalfulpError, match="backend 'gpu' needs CuPy and a CUDA device"):
            hu.Machine("fp16", backend="gpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinities_and_nans_are_refused_before_they_are_rounded(backend):
    for name in ("int8/int32", "fp4_e2m1/fp32", "mxfp4/fp32"):
        machine = hu.Machine(name, backend, on_inexact="quantize", on_nonfinite="error")
        for bad in (np.nan, np.inf):
            with pytest.raises(hu.HalfulpError, match="holds an infinity or a NaN"):
                machine.matmul([[bad]], [[1.0]])


def test_blocks_of_another_format_are_refused():
    blocks = hu.encode_blocks(np.ones((2, 32)), "mxfp8_e4m3")
    with pytest.raises(
        hu.HalfulpError, match="A is in blocks of mxfp8_e4m3, but the datapath's operand is of mxfp8_e5m2"
    ):
        hu.Machine("mxfp8_e5m2/fp32").matmul(blocks, np.ones((32, 1)))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_other_sorts_of_arrays():
    machine, x = hu.Machine("fp16"), np.arange(12.0).reshape(3, 4)
    assert machine.matmul(np.matrix(x), np.ones((4, 2))).tolist() == machine.matmul(x, np.ones((4, 2))).tolist()
    with pytest.raises(hu.HalfulpError, match="A is a sparse matrix; spmv takes those"):
        machine.matmul(scipy.sparse.csr_array(x), np.ones((4, 2)))
    for axis in (5, 1.5, (0, 1)):
        with pytest.raises(hu.HalfulpError, match="has no axis"):
            machine.sum(x, axis)
    rough = hu.Machine("posit16/fp32", on_inexact="quantize")
    assert rough.matmul([[0.1]], [[1.0]]) == hu.quantize(0.1, "posit16") == rough.quantize([0.1], "posit16")[0]
