"""Captured operands: a fair sample of what a Machine multiplies, saved and read again, and put to hardware."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
import scipy.sparse
from halfulp.kernels.capture import Capture, load_capture
from halfulp.kernels.stimulus import captured_stimulus


def machine(text: str = "fp16/fp32") -> hu.Machine:
    return hu.Machine(text, on_inexact="quantize")


def test_all_is_kept_where_there_is_room() -> None:
    m = machine()
    a, b = np.arange(12.0).reshape(3, 4), np.arange(8.0).reshape(4, 2) - 3
    with m.capture(n_dots=10) as sample:
        m.matmul(a, b)
    m.matmul(a, b)  # no longer captured
    assert sample.offered == len(sample.dots) == 6
    for i, dot in enumerate(sample.dots):
        assert np.array_equal(m.datapath.a.decode(dot.a), a[i // 2])
        assert np.array_equal(m.datapath.b.decode(dot.b), b[:, i % 2])


def test_every_dot_product_is_as_likely() -> None:
    """8 of 40, over two calls, 600 times: each is chosen 120 times, give or take 5 standard deviations of 10."""
    counts: Counter[float] = Counter()
    for seed in range(600):
        sample = Capture(hu.Datapath.parse("fp16"), 8, seed)
        for first, count in ((0, 15), (15, 25)):
            sample.offer(count, lambda i, first=first: (np.array([first + i]), np.array([1.0])))
        values = [float(sample.datapath.a.decode(dot.a)[0]) for dot in sample.dots]
        assert len(values) == 8 and values == sorted(values)
        counts.update(values)
    assert len(counts) == 40 and all(abs(n - 120) < 50 for n in counts.values())


def test_convolutions_and_sparse_products() -> None:
    draw = np.random.default_rng(3)
    x, w = draw.integers(-4, 5, (2, 3, 5, 6)).astype(float), draw.integers(-4, 5, (4, 3, 3, 2)).astype(float)
    m = machine("fp64")
    with m.capture(10_000) as sample:
        out = m.conv2d(x, w, stride=2, padding=1)
    sums = [m.datapath.a.decode(d.a) @ m.datapath.b.decode(d.b) for d in sample.dots]
    assert np.array_equal(np.array(sums), out.reshape(-1))
    matrix = scipy.sparse.random(20, 30, 0.3, "csr", random_state=draw)
    with m.capture(100) as sample:
        out = m.spmv(matrix, np.arange(30.0))
    sums = [float(m.datapath.a.decode(d.a) @ m.datapath.b.decode(d.b)) for d in sample.dots]
    assert np.allclose(sums, out, rtol=1e-12)


@pytest.mark.parametrize("text", ["fp16/fp32", "mxfp4/fp32", "q4.12/q16.24@SR8"])
def test_saved_read_and_put_to_a_unit(text: str, tmp_path: Path) -> None:
    m = machine(text)
    draw = np.random.default_rng(5)
    with m.capture(5) as sample:
        m.matmul(draw.normal(size=(4, 70)) / 4, draw.normal(size=(70, 3)) / 4)
    sample.save(tmp_path / "run.npz")
    datapath, dots = load_capture(tmp_path / "run.npz")
    assert datapath == m.datapath and len(dots) == 5
    for read, dot in zip(dots, sample.dots, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(read, dot, strict=True) if y is not None)
    columns = captured_stimulus(datapath, dots)
    clocks = 5 * -(-70 // (32 if "mx" in text else 1))
    assert {len(column) for column in columns.values()} == {clocks} and sum(columns["clear"]) == 5


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(hu.HalfulpError, match="at least 1 dot product"), machine().capture(0):
        pass
    with machine().capture() as sample:
        pass
    with pytest.raises(hu.HalfulpError, match="nothing was captured"):
        sample.save(tmp_path / "none.npz")
    with pytest.raises(hu.HalfulpError, match=r"none.npz cannot be read: No such file or directory"):
        load_capture(tmp_path / "none.npz")
    (tmp_path / "other.npz").write_bytes(b"not an archive")
    with pytest.raises(hu.HalfulpError, match=r"other.npz is no .npz file of arrays"):
        load_capture(tmp_path / "other.npz")


def test_damaged_captures_are_refused(tmp_path):
    m = machine("mxfp4/fp32")
    with m.capture(4) as sample:
        m.matmul(np.ones((4, 64)), np.ones((64, 4)))
    sample.save(tmp_path / "run.npz")
    whole = (tmp_path / "run.npz").read_bytes()
    refused = 0
    for i in range(0, len(whole), 7):
        (tmp_path / "bad.npz").write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            load_capture(tmp_path / "bad.npz")
        except hu.HalfulpError:
            refused += 1
    assert refused > 100
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(hu.HalfulpError, match=r"short.npz is no .npz file of arrays"):
        load_capture(tmp_path / "short.npz")
    stored = dict(np.load(tmp_path / "run.npz"))
    for change in ({"lengths": np.array(["x"])}, {"datapath": np.array("fp99")}, {"a": None}, {"a_scales": None}):
        left = {name: array for name, array in (stored | change).items() if array is not None}
        np.savez(tmp_path / "other.npz", **left)
        with pytest.raises(hu.HalfulpError, match=r"other.npz is no capture|unknown format 'fp99'"):
            load_capture(tmp_path / "other.npz")
