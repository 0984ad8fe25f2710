"""The GPU's tiled product: its source, built by the host's compiler (or run on a GPU), gives the bits of the CPU."""

import re

import halfulp as hu
import numpy as np
import pytest
from halfulp.kernels import backends, tiles
from kernel_cases import BACKENDS, SEED, assert_same_bits

TILED = [name for name in BACKENDS if name != "cpu"] if isinstance(BACKENDS[0], str) else ["cxx"]
DATAPATHS = [
    "fp16", "fp16@RTZ", "fp16@RTO", "fp16@SR8", "bf16/fp32@SR16", "fp16/fp32@SR32", "fp8_e4m3/fp16@SR3c", "bf16/fp32",
    "fp32", "fp64", "fp64@RTP", "fp32/fp64@SR9", "q4.4/q6.6w@SR8", "q8.8/q12.12", "fp16/e5m10ftz@RNA", "e4m3fnuz@RTN",
    "fp16/e5m10sat@RTP", "q4.12",
]  # fmt: skip


def operands(dp, rows, depth, columns):
    rng = np.random.default_rng([rows, depth, columns])
    a, b = rng.normal(size=(rows, depth)) * 4, rng.normal(size=(depth, columns)) * np.exp2(rng.integers(-9, 9, columns))
    a, b = hu.quantize(a, dp.a), hu.quantize(b, dp.b)
    if isinstance(dp.a, hu.FloatFormat) and dp.a.has_infinity:
        a[rows // 2, 0], a[0, depth // 2] = np.inf, np.nan
    a[-1] = 0.0
    return a, b


@pytest.mark.parametrize("backend", TILED)
@pytest.mark.parametrize("shape", [(33, 40, 37), (16, 16, 256), (17, 5, 300), (1, 7, 1100), (70, 33, 257)])
@pytest.mark.parametrize("name", DATAPATHS)
def test_tiles_give_the_bits_of_the_cpu(name, shape, backend, monkeypatch):
    dp, launched = hu.Datapath.parse(name), []
    a, b = operands(dp, *shape)
    machine = hu.Machine(dp, backend, SEED)
    launch = machine.backend.launch
    watched = lambda kernel, *args, **options: (launched.append(kernel), launch(kernel, *args, **options))  # noqa: E731
    monkeypatch.setattr(machine.backend, "launch", watched)
    assert_same_bits(machine.matmul(a, b), hu.Machine(dp, "cpu", SEED).matmul(a, b))
    assert "tiles" in launched and "contract" not in launched


@pytest.mark.parametrize("backend", TILED)
def test_registers_as_a_source_of_random_bits(backend):
    a, b = operands(hu.Datapath.parse("fp16"), 20, 9, 60)
    for source in ("lfsr16:units=8", "lfsr8"):
        one, other = (hu.Machine("fp16@SR8", where, SEED, random=source).matmul(a, b) for where in (backend, "cpu"))
        assert_same_bits(one, other)


@pytest.mark.parametrize("backend", TILED)
def test_images_are_tiled_where_their_results_lie(backend):
    rng = np.random.default_rng(SEED)
    x, w = hu.quantize(rng.normal(size=(2, 3, 20, 20)), "fp16"), hu.quantize(rng.normal(size=(5, 3, 3, 3)), "fp16")
    one, other = (hu.Machine("fp16@SR8", where, SEED).conv2d(x, w) for where in (backend, "cpu"))
    assert_same_bits(one, other)


def test_the_text_has_the_sizes_that_the_host_launches_with():
    for name in ("THREADS", "TILE_ROWS", "TILE_COLUMNS"):
        assert f"{name} = {getattr(tiles, name)}," in tiles.TEXT
    assert re.search(r"OWN_RESULTS = 16 ", tiles.TEXT) and backends.THREADS == 256
