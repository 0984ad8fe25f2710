"""Matrices by the magnitude of their entries: adaptive precision in buckets, group-shared exponents."""

from __future__ import annotations

from fractions import Fraction

import halfulp as hu
import numpy as np
import pytest
from halfulp.solvers import policies
from halfulp.solvers.cg import CGPrecision, Status, cg
from halfulp.solvers.magnitude import Buckets, GroupShared, unit_roundoff
from halfulp.solvers.precision import PrecisionPolicy
from halfulp.solvers.problems import load
from halfulp.solvers.workshop import FP64, Workshop

BUCKETS = Buckets.parse("1e-6;fp64;fp32;bf16/fp32")
#: Entries from 1 down to about 1e-6: two of the buckets have some.
SYSTEM = load("jump:6:contrast=1e5:seed=1")


def product(precision: CGPrecision, x: np.ndarray) -> tuple[np.ndarray, hu.Ledger]:
    from halfulp.kernels.operands import Operand

    shop = Workshop(SYSTEM.matrix)
    return shop.units(precision).product(Operand(x, FP64, None)).values, shop.ledger


def test_buckets_add_up_to_the_matrix_and_bear_their_entries() -> None:
    matrix = SYSTEM.matrix
    parts = BUCKETS.split(matrix)
    assert [dp.name for dp, _ in parts] == ["fp32@RNE", "bf16/fp32@RNE"]
    assert (sum(part for _, part in parts) != matrix).nnz == 0 and sum(part.nnz for _, part in parts) == matrix.nnz
    bound = BUCKETS.epsilon * abs(matrix).sum(axis=1).max()
    for dp, part in parts:
        assert (part != part.T).nnz == 0
        assert (np.abs(part.data) * unit_roundoff(dp.a) <= bound).all()
    rough = np.abs(parts[0][1].data) * unit_roundoff(hu.format("bf16"))
    assert (rough > bound).all()  # what is in fp32 would not do in bf16


def test_a_product_in_buckets_is_the_sum_of_its_parts() -> None:
    x = np.random.default_rng(0).standard_normal(SYSTEM.matrix.shape[0])
    found, ledger = product(CGPrecision.of("fp64", buckets=BUCKETS), x)
    expected = np.zeros_like(x)
    for dp, part in BUCKETS.split(SYSTEM.matrix):
        expected = expected + hu.Machine(dp, on_inexact="quantize").spmv(part, x)
    assert (found == expected).all()
    norm = abs(SYSTEM.matrix).sum(axis=1).max() * np.abs(x).max()
    assert 0 < np.abs(found - SYSTEM.matrix @ x).max() <= 10 * BUCKETS.epsilon * norm
    products = {str(op.a): n for op, n in ledger.operations.items() if op.kind == "mul"}
    assert products == {str(dp.a): part.nnz for dp, part in BUCKETS.split(SYSTEM.matrix)}


def test_conjugate_gradients_in_buckets() -> None:
    policy = policies.named("adaptive", CGPrecision.of("fp64"))
    fp64, found = cg(SYSTEM, "fp64", 1e-8), cg(SYSTEM, policy, 1e-8, safeguard=True)
    assert found.status is fp64.status is Status.CONVERGED
    assert not policies.ADAPTIVE.is_fp64 and policies.ADAPTIVE.roundoff == 6e-8
    assert isinstance(policy, PrecisionPolicy) and not policy.changes


def test_names_give_the_same_precision_back() -> None:
    for precision in (policies.ADAPTIVE, CGPrecision.of("fp32", storage="gse16")):
        assert CGPrecision.of(**precision.describe()) == precision
    assert Buckets.parse(BUCKETS.name) == BUCKETS and str(GroupShared.parse("GSE24")) == "gse24"
    assert GroupShared.parse("fp16") is None
    for text in ("fp64;fp32", "2;fp64", "1e-6"):
        with pytest.raises(hu.HalfulpError, match=r"buckets are epsilon;datapath"):
            Buckets.parse(text)
    with pytest.raises(hu.HalfulpError, match=r"have 6 to 56 bits a number"):
        CGPrecision.of("fp64", storage="gse4")


def test_group_shared_exponents_by_hand() -> None:
    shared = GroupShared(8)  # sign, 3 bits of index, 4 of the fraction
    few = np.array([0.0, 1.0, -0.75, 3.0, 0.1])  # exponents: 1, 0, 2, -3, all shared
    assert shared.exponents(few).tolist() == [-3, 0, 1, 2]
    assert shared.rounded(few).tolist() == [0.0, 1.0, -0.75, 3.0, 13 / 128]
    many = np.array([2.0**k for k in range(9)] * 2 + [2.0**9])
    assert shared.exponents(many).tolist() == [3, 4, 5, 6, 7, 8, 9, 10]  # the largest, and the 7 most frequent, above
    assert shared.rounded(np.append(many, 0.99 * 2.0**9))[[0, 18, 19]].tolist() == [1.0, 512.0, 15 / 16 * 512.0]
    with np.errstate(all="raise"):
        assert shared.rounded(np.zeros(2)).tolist() == [0.0, 0.0]


def test_group_shared_exponents_round_to_nearest() -> None:
    numbers = np.random.default_rng(1).lognormal(0.0, 8.0, 300) * np.tile([1, -1], 150)
    shared = GroupShared(20)
    exponents, stored = shared.exponents(numbers), shared.rounded(numbers)
    for x, y in zip(numbers.tolist(), stored.tolist(), strict=True):
        exponent = next(int(e) for e in exponents if abs(x) < Fraction(2) ** int(e))
        unit = Fraction(2) ** (exponent - 16)
        assert (Fraction(y) / unit).denominator == 1 and abs(Fraction(y)) < Fraction(2) ** exponent
        assert abs(Fraction(y) - Fraction(x)) <= unit / 2 or abs(Fraction(y)) == Fraction(2) ** exponent - unit


def test_a_matrix_of_shared_exponents_is_converted_as_it_is_read() -> None:
    x = np.ones(SYSTEM.matrix.shape[0])
    found, ledger = product(CGPrecision.of("fp64", storage="gse20"), x)
    plain, other = product(CGPrecision.of("fp64"), x)
    rounded = SYSTEM.matrix.copy()
    rounded.data = GroupShared(20).rounded(rounded.data)
    assert (found == hu.Machine("fp64").spmv(rounded, x)).all() and (found != plain).any()
    conversions = ledger - other
    assert [(op.kind, str(op.a), n) for op, n in conversions.operations.items() if n] == [
        ("round", "q1.16", SYSTEM.matrix.nnz)
    ]
    moved = sum(other.bits_moved.values()) - sum(ledger.bits_moved.values())
    assert moved == SYSTEM.matrix.nnz * (64 - 20) and hu.Technology("45nm").price(ledger).total_pj > 0
