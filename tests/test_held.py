"""Operands that are held: looked at once, and then as good as the arrays that they hold."""

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse
from halfulp.kernels import operands, sparse
from kernel_cases import BACKENDS, assert_same_bits

DATAPATHS = [
    "fp16",
    "q4.12/q20.24/q4.12",
    "fp8_e4m3/fp32",
    "bf16/fp32@SR8",
    "fp16/fp32:exact",
    "fp8_e4m3/fp32:fused4g2",
]


def normal(shape, fmt, seed=0):
    return hu.quantize(np.random.default_rng(seed).normal(size=shape), fmt)


@pytest.fixture
def surveys(monkeypatch):
    """Sizes of the arrays that are looked at."""
    sizes, survey = [], operands.survey
    monkeypatch.setattr(operands, "survey", lambda x, *args: sizes.append(x.size) or survey(x, *args))
    return sizes


@pytest.mark.parametrize("accumulates", [False, True])
def test_held_results_in_fixed_point_take_half_the_memory_and_the_same_bits(accumulates):
    """float32, where sums are rounded into what it holds; as the second factor of an update, too."""
    dp = hu.Datapath.parse("q2.14/q2.14@RNE" if accumulates else "q2.14/q20.28/q2.14@RNE/SR14")
    a, b, w = (normal(shape, "q2.14", seed) for seed, shape in enumerate([(90, 40), (40, 70), (90, 70)]))
    held, plain = hu.Machine(dp).matmul(a, b, held=True), hu.Machine(dp).matmul(a, b)
    assert held.values.dtype == (np.float64 if accumulates else np.float32) and plain.dtype == np.float64
    assert_same_bits(np.asarray(held), plain)
    updates = [hu.Machine("q1.23*q2.14/q2.14@SR16").fma(-0.25, gradient, w) for gradient in (held, plain)]
    assert updates[0].dtype == np.float64
    assert_same_bits(*updates)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DATAPATHS)
def test_products_of_held_operands_are_those_of_their_arrays(name, backend, surveys):
    dp = hu.Datapath.parse(name)
    a, b = normal((7, 12), dp.a), normal((12, 9), dp.b, 1)
    machine, other = (hu.Machine(name, backend) for _ in range(2))
    x, y = machine.hold(a, dp.a), machine.hold(b, dp.b)
    surveys.clear()
    for left, right, held in ((a, b, (x, y)), (b.T, a.T, (y.T, x.T)), (a[2:5], b[:, 1:], (x[2:5], y[:, 1:]))):
        if dp.a == dp.b:
            found = machine.matmul(*held)
            assert not surveys
            assert_same_bits(found, other.matmul(left, right))
            surveys.clear()
    assert float(machine.dot(x[0], y[:, 0])) == float(other.dot(a[0], b[:, 0]))


def test_a_held_operand_serves_every_machine_and_operation(surveys):
    x = normal((5, 6), "fp16")
    held = hu.Machine("fp16").hold(x, "fp16")
    surveys.clear()
    for machine in (hu.Machine("fp16/fp32"), hu.Machine("fp16@RTZ", unit=1)):
        assert_same_bits(machine.mul(held, held), machine.mul(x, x))
        assert_same_bits(machine.sum(held, 1), machine.sum(x, 1))
        assert_same_bits(machine.quantize(held, "fp8_e4m3"), machine.quantize(x, "fp8_e4m3"))
    assert surveys.count(x.size) == 6  # of the array, never of what is held
    wide = hu.Machine("fp32")
    assert_same_bits(wide.add(held, held), wide.add(x, x))  # of another format: an array like any other
    with pytest.raises(hu.HalfulpError, match="is no value of fp8_e4m3"):
        hu.Machine("fp8_e4m3").mul(held, held)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_that_are_held_are_operands(backend, surveys):
    a, b, w = normal((5, 6), "fp16"), normal((6, 7), "fp16", 1), normal((2, 3, 3, 3), "fp16", 2)
    machine, other = (hu.Machine("fp16", backend) for _ in range(2))
    product = machine.matmul(a, b, held=True)
    assert product.fmt == machine.datapath.output and np.asarray(product).shape == product.shape == (5, 7)
    surveys.clear()
    chained = machine.fma(2.0, product, product, held=True)
    assert surveys == [1]
    expected = other.matmul(a, b)
    expected = other.fma(2.0, expected, expected)
    assert_same_bits(np.asarray(machine.backend.to_host(chained.values)), expected)
    images = normal((2, 3, 6, 6), "fp16", 3)
    for call in (
        lambda m, **held: m.conv2d(images, w, **held),
        lambda m, **held: m.add(a, a, **held),
        lambda m, **held: m.mul(a, a, **held),
        lambda m, **held: m.axpy(0.5, a, a, **held),
        lambda m, **held: m.quantize(a, "fp8_e4m3", **held),
        lambda m, **held: m.spmv(scipy.sparse.csr_array(a), b[:, 0], **held),
    ):
        assert_same_bits(np.asarray(machine.backend.to_host(call(machine, held=True).values)), call(other))


@pytest.mark.parametrize("name", ["mxfp8_e4m3/fp32", "nvfp4/fp32"])
def test_blocks_are_held_along_their_axis(name):
    dp = hu.Datapath.parse(name)
    rng = np.random.default_rng(0)
    a, b = hu.encode_blocks(rng.normal(size=(5, 64)), dp.a, 1), hu.encode_blocks(rng.normal(size=(64, 3)), dp.b, 0)
    machine = hu.Machine(name)
    x, y = machine.hold(a, dp.a, 1), machine.hold(b, dp.b, 0)
    expected = machine.matmul(a, b)
    assert_same_bits(machine.matmul(x, y), expected)
    assert_same_bits(machine.matmul(y.T, x.T), expected.T)
    with pytest.raises(hu.HalfulpError, match=f"is held in {name.partition('/')[0]} along axis 0"):
        machine.matmul(machine.hold(hu.encode_blocks(np.ones((64, 64)), dp.a, 0), dp.a, 0), y)
    with pytest.raises(hu.HalfulpError, match="is not cut"):
        x[:2]
    flat = hu.encode_blocks(rng.normal(size=64), dp.a)
    assert machine.dot(machine.hold(flat, dp.a), flat) == machine.dot(flat, flat)


def test_a_tensor_scale_is_part_of_what_is_held():
    values = hu.quantize(np.random.default_rng(0).normal(size=(4, 32)) * 1000, "nvfp4")
    machine = hu.Machine("nvfp4/fp32")
    held = machine.hold(values, "nvfp4")
    assert held.outer != 1.0
    assert_same_bits(np.asarray(held), values)
    assert_same_bits(machine.sum(held, 1), machine.sum(values, 1))
    assert_same_bits(machine.quantize(held, "bf16"), machine.quantize(values, "bf16"))


def test_held_operands_without_elements_are_refused():
    machine = hu.Machine("fp16")
    held = machine.hold(np.ones((3, 4)), "fp16")
    for left, right in ((held[:0], np.ones((4, 2))), (held, np.ones((4, 2))[:, :0])):
        with pytest.raises(hu.HalfulpError, match="got an empty array"):
            machine.matmul(left, right)


def test_holding_draws_random_bits_only_where_it_rounds_so():
    for name, calls in (("fp16@SR8", 0), ("fp16:operands=SR4", 1)):
        machine = hu.Machine(name, on_inexact="quantize")
        machine.hold(np.full(9, 0.1), "fp16")
        assert machine.calls == calls


def test_parts_of_what_has_a_nan_are_looked_at_again():
    x = np.array([[1.0, np.nan], [2.0, 3.0]])
    held = hu.Machine("fp16").hold(x, "fp16")
    strict = hu.Machine("fp16", on_nonfinite="error")
    assert strict.matmul(held[1:], np.ones((2, 1))).tolist() == [[5.0]]
    with pytest.raises(hu.HalfulpError, match="holds an infinity or a NaN"):
        strict.matmul(held, held)
    overflown = hu.Machine("fp16").mul(np.array([60000.0]), np.array([60000.0]), held=True)
    with pytest.raises(hu.HalfulpError, match="holds an infinity or a NaN"):
        strict.mul(overflown, overflown)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["fp16", "q8.8/q16.16", "fp16@SR8", "fp16/fp32:exact", "fp64"])
def test_a_sparse_matrix_is_held(name, backend, surveys):
    dp = hu.Datapath.parse(name)
    matrix = scipy.sparse.random_array((40, 30), density=0.2, rng=np.random.default_rng(0), format="csr")
    matrix.data = hu.quantize(matrix.data, dp.a)
    x = normal(30, dp.b)
    machine, other = (hu.Machine(name, backend) for _ in range(2))
    held = machine.hold(matrix, dp.a)
    surveys.clear()
    found = machine.spmv(held, x)
    assert matrix.nnz not in surveys
    assert_same_bits(found, other.spmv(matrix, x))
    again = machine.hold(held, dp.a)
    assert again is held
    with pytest.raises(hu.HalfulpError, match=r"column indices outside 0\.\.\.2"):
        machine.hold(sparse_with_column(7), dp.a)
    with pytest.raises(hu.HalfulpError, match=r"the matrix's data\[0\] = 0.1"):
        hu.Machine("fp8_e4m3", backend).hold(scipy.sparse.csr_array([[0.1]]), "fp8_e4m3")
    rounded = hu.Machine("fp8_e4m3", backend, on_inexact="quantize").hold(scipy.sparse.csr_array([[0.1]]), "fp8_e4m3")
    assert rounded.data.tolist() == [0.1015625] and isinstance(rounded, sparse.Rows)


def sparse_with_column(column):
    matrix = scipy.sparse.csr_array(np.eye(3))
    matrix.indices = matrix.indices.copy()
    matrix.indices[1] = column
    return matrix
