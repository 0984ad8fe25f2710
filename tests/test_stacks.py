"""Stacks of matrices: each multiplied by its counterpart, code for code by the definition, in one call."""

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import datapath
from halfulp.emulator.random import Philox, Role, stream
from halfulp.kernels.machine import Machine
from kernel_cases import BACKENDS, SEED, assert_codes, assert_same_bits

STACK, M, K, N = 3, 4, 37, 5
SHAPES = ((STACK, M, K), (STACK, K, N))


def operands(dp: hu.Datapath, rng: np.random.Generator) -> list[np.ndarray]:
    scale = 0.1 * min(dp.a.max_finite, 100.0)
    return [hu.quantize(rng.normal(size=shape) * scale, fmt) for shape, fmt in zip(SHAPES, (dp.a, dp.b), strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name",
    ["fp16@SR8", "bf16/fp32@RTZ:fused4g2", "fp8_e4m3/fp32/bf16@RNE/SR5", "q4.12/q20.28/q4.12@RNE/SR16", "fp64:exact"],
)
def test_a_stack_by_the_definition(name, backend):
    """The elements of all its products are numbered one after another, and draw their random bits so."""
    dp = hu.Datapath.parse(name)
    a, b = operands(dp, np.random.default_rng(SEED))
    machine = hu.Machine(dp, backend, SEED)
    found = machine.matmul(a, b)
    assert found.shape == (STACK, M, N)

    def defined(s: int, i: int, j: int) -> int:
        def draw(role: Role, step: int, k: int) -> int:
            return Philox().random_bits(SEED, stream(1, role), (s * M + i) * N + j, step, k)

        return datapath.dot(dp, dp.a.encode(a[s, i]).tolist(), dp.b.encode(b[s, :, j]).tolist(), draw)

    expected = [defined(s, i, j) for s in range(STACK) for i in range(M) for j in range(N)]
    assert_codes(dp.output, found, expected, lambda i: f"{name}: element {i}")
    # counted as that many products
    one = hu.Machine(dp, backend, SEED)
    for s in range(STACK):
        one.matmul(a[s], b[s])
    assert machine.ledger.operations == one.ledger.operations and machine.ledger.bits_moved == one.ledger.bits_moved


@pytest.mark.parametrize("name", ["mxfp8_e4m3/fp32", "mxfp4/fp32/bf16", "fp16", "int8/int32"])
@pytest.mark.parametrize("held", [False, True])
def test_a_stack_is_its_products(name, held):
    """Transposed ones, too, and in blocks."""
    rng = np.random.default_rng(SEED)
    machine = hu.Machine(name, on_inexact="quantize", seed=SEED)
    a, b = 3 * rng.normal(size=(STACK, M, 64)), 3 * rng.normal(size=(STACK, N, 64))
    stacks = (machine.hold(a, machine.datapath.a), machine.hold(b, machine.datapath.b)) if held else (a, b)
    found = machine.matmul(stacks[0], stacks[1].mT if held else b.swapaxes(1, 2))
    apart = np.stack([machine.matmul(x, y.T) for x, y in zip(a, b, strict=True)])
    assert_same_bits(found, apart)


def test_stacks_that_are_captured():
    dp = hu.Datapath.parse("q4.12/q16.24")
    a, b = operands(dp, np.random.default_rng(SEED))
    machine = hu.Machine(dp)
    with machine.capture(STACK * M * N) as sample:
        machine.matmul(a, b)
    assert sample.offered == STACK * M * N == len(sample.dots)
    codes_a, codes_b = dp.a.encode(a), dp.b.encode(b)
    found = [(tuple(dot.a), tuple(dot.b)) for dot in sample.dots]
    assert found == [
        (tuple(codes_a[s, i]), tuple(codes_b[s, :, j])) for s in range(STACK) for i in range(M) for j in range(N)
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4, 5), (5, 2)), ((3, 4, 5), (2, 5, 6)), ((3, 4, 5), (3, 4, 5)), ((1, 3, 4, 5), (1, 3, 5, 4)), ((4,), (4,))],
)
def test_what_is_no_pair_of_stacks_gets_a_sentence(a, b):
    machine = Machine("fp16")
    with pytest.raises(hu.HalfulpError, match=r"matmul needs shapes \(M, K\) and \(K, N\), not .*; or stacks"):
        machine.matmul(np.ones(a), np.ones(b))
    with pytest.raises(hu.HalfulpError, match="observe takes two matrices"):
        machine.observe(np.ones((2, 3, 4)), np.ones((2, 4, 3)))
