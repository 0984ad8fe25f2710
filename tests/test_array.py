"""Arrays: closed forms against machines that move every number, Gupta et al.'s array, bad input."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from dataclasses import replace

import halfulp as hu
import numpy as np
import pytest
from array_cases import FLOWS, array, schedule
from halfulp.emulator.dataflow import Schedule
from halfulp.emulator.estimates import BANDS
from halfulp.models.gupta import hardware

RNG = random.Random(20240607)
SHAPES = [tuple(RNG.randint(1, 13) for _ in range(3)) for _ in range(12)] + [(1, 1, 1), (8, 8, 8), (1, 9, 5), (9, 1, 4)]
ARRAYS = [(1, 1), (2, 3), (4, 2), (5, 5)]


# ---- cycles: an array whose registers are moved cycle by cycle ------------------------------------------------------


def output_stationary(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, int]:
    """One fold, R x K times K x C: operands come skewed from the left and the top."""
    (rows, depth), cols = x.shape, y.shape[1]
    across, down, sums = (np.zeros((rows, cols), int) for _ in range(3))
    cycles = depth + rows + cols - 2
    for cycle in range(cycles):
        across[:, 1:], down[1:] = across[:, :-1].copy(), down[:-1].copy()
        for r in range(rows):
            across[r, 0] = x[r, cycle - r] if 0 <= cycle - r < depth else 0
        for c in range(cols):
            down[0, c] = y[cycle - c, c] if 0 <= cycle - c < depth else 0
        assert (
            cycle < cycles - 1 or rows == cols == depth == 1 or (across[-1, -1], down[-1, -1]) == (x[-1, -1], y[-1, -1])
        )
        sums += across * down
    return sums, cycles


def stationary(held: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, int]:
    """One fold, x (T x R) times held (R x C): held is shifted in from the top, sums go down, results leave below."""
    (rows, cols), time = held.shape, len(x)
    weights, across, sums = (np.zeros((rows, cols), int) for _ in range(3))
    out, cycle, left = np.zeros((time, cols), int), 0, time * cols
    for row in held[::-1]:
        weights[1:] = weights[:-1].copy()
        weights[0] = row
        cycle += 1
    assert (weights == held).all()
    while left:
        across[:, 1:], down = across[:, :-1].copy(), np.vstack([np.zeros((1, cols), int), sums[:-1]])
        for r in range(rows):
            t = cycle - rows - r
            across[r, 0] = x[t, r] if 0 <= t < time else 0
        sums = down + weights * across
        for c in range(cols):
            t = cycle - rows - (rows - 1) - c
            if 0 <= t < time:
                out[t, c], left = sums[-1, c], left - 1
        cycle += 1
    return out, cycle


def run_cycle_by_cycle(rows: int, cols: int, flow: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """The product by folds, edge tiles filled up with zeros."""
    (m, k), n = a.shape, b.shape[1]
    up = lambda size, tile: -(-size // tile) * tile  # noqa: E731
    total, cycles = np.zeros((m, n), int), 0
    if flow == "input":  # C^T = B^T A^T with A^T in the array
        out, cycles = run_cycle_by_cycle(rows, cols, "weight", b.T, a.T)
        return out.T, cycles
    if flow == "output":
        a_up, b_up = np.zeros((up(m, rows), k), int), np.zeros((k, up(n, cols)), int)
        a_up[:m], b_up[:, :n] = a, b
        wide = np.zeros((len(a_up), b_up.shape[1]), int)
        for i, j in itertools.product(range(0, m, rows), range(0, n, cols)):
            wide[i : i + rows, j : j + cols], took = output_stationary(a_up[i : i + rows], b_up[:, j : j + cols])
            cycles += took
        return wide[:m, :n], cycles
    a_up, b_up = np.zeros((m, up(k, rows)), int), np.zeros((up(k, rows), up(n, cols)), int)
    a_up[:, :k], b_up[:k, :n] = a, b
    for i, j in itertools.product(range(0, k, rows), range(0, n, cols)):
        out, took = stationary(b_up[i : i + rows, j : j + cols], a_up[:, i : i + rows])
        total[:, j : j + cols] += out[:, : n - j]
        cycles += took
    return total, cycles


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("rows", "cols"), ARRAYS)
def test_cycles_are_those_of_an_array_moved_cycle_by_cycle(flow: str, rows: int, cols: int) -> None:
    draw = np.random.default_rng(1)
    for m, k, n in SHAPES[-8:]:
        a, b = draw.integers(1, 9, (m, k)), draw.integers(1, 9, (k, n))
        product, cycles = run_cycle_by_cycle(rows, cols, flow, a, b)
        assert (product == a @ b).all()
        assert schedule(rows, cols, flow, hu.Matmul(m, k, n)).cycles == cycles, (m, k, n)


def test_a_unit_with_lanes_takes_as_many_terms_a_cycle() -> None:
    for flow, (m, k, n) in itertools.product(FLOWS, SHAPES):
        wide = schedule(3, 2, flow, hu.Matmul(m, k, n), "fp16/fp32:fused4")
        assert wide.cycles == schedule(3, 2, flow, hu.Matmul(m, -(-k // 4), n)).cycles


# ---- traffic: tile by tile ------------------------------------------------------------------------------------------


def parts(size: int, tile: int) -> list[range]:
    return [range(i, min(i + tile, size)) for i in range(0, size, tile)]


def moved_tile_by_tile(rows: int, cols: int, flow: str, work: hu.Matmul, lanes: int, size: int) -> Counter:
    """Numbers that pass between SRAM and the array, register writes and block scales, counted fold by fold."""
    m, k, n = work.m, work.k, work.n
    counts: Counter = Counter()
    blocks = lambda ks: len({t // size for t in ks})  # noqa: E731
    rounds: Counter = Counter()
    if flow == "output":
        for i, j in itertools.product(parts(m, rows), parts(n, cols)):
            counts["A"] += len(i) * k
            counts["B"] += len(j) * k
            counts["scales of A"] += len(i) * blocks(range(k))
            counts["scales of B"] += len(j) * blocks(range(k))
            counts["C"] += len(i) * len(j)
            counts["A register"] += len(i) * len(j) * k
            counts["B register"] += len(i) * len(j) * k
            counts["sum register"] += len(i) * len(j) * -(-k // lanes)
        return counts
    kept, streamed, (columns, time) = ("B", "A", (n, m)) if flow == "weight" else ("A", "B", (m, n))
    for ks, j in itertools.product(parts(k, rows * lanes), parts(columns, cols)):
        counts[kept] += len(ks) * len(j)
        counts[f"scales of {kept}"] += len(j) * blocks(ks)
        counts[streamed] += time * len(ks)
        counts[f"scales of {streamed}"] += time * blocks(ks)
        counts[f"{streamed} register"] += time * len(ks) * len(j)
        counts[f"{kept} register"] += len(j) * sum((t - ks[0]) // lanes + 1 for t in ks)
        counts["sum register"] += time * len(j) * -(-len(ks) // lanes)
        rounds[j] += 1
        if rounds[j] > 1:
            counts["sums read"] += time * len(j)
        if rounds[j] < len(parts(k, rows * lanes)):
            counts["sums written"] += time * len(j)
        else:
            counts["C"] += time * len(j)
    return counts


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("datapath", ["int8/int32/int8", "fp16/fp32/bf16:fused4", "mxfp8_e4m3/fp32/bf16:exact8"])
def test_traffic_of_the_array_is_that_counted_fold_by_fold(flow: str, datapath: str) -> None:
    for (rows, cols), (m, k, n) in itertools.product(ARRAYS, SHAPES):
        k *= 5
        plan = schedule(rows, cols, flow, hu.Matmul(m, k, n), datapath)
        dp = plan.datapath
        in_blocks = dp.in_blocks
        size, lanes = (dp.a.size if in_blocks else 1), {"int8": 1, "fp16": 4}.get(datapath[:4], 8)
        counts = moved_tile_by_tile(rows, cols, flow, hu.Matmul(m, k, n), lanes, size)
        bits = dp.a.element.bits if in_blocks else dp.a.bits
        flows = {f.kind: f for f in plan.moved("sram", plan.array_passes)}
        total = dp.accumulator.bits
        assert flows["A"].read_bits == counts["A"] * bits and flows["B"].read_bits == counts["B"] * bits
        assert flows["C"].written_bits == counts["C"] * dp.output.bits == m * n * dp.output.bits
        spilt = flows.get("partial sums")
        assert (spilt.read_bits if spilt else 0) == counts["sums read"] * total
        assert (spilt.written_bits if spilt else 0) == counts["sums written"] * total
        if in_blocks:
            for operand in "AB":
                assert flows[f"scales of {operand}"].read_bits == 8 * counts[f"scales of {operand}"], (rows, m, k, n)
        registers = {f.kind: f.written_bits for f in plan.flows() if f.level in ("register", "accumulator")}
        assert registers["A"] == counts["A register"] * bits and registers["B"] == counts["B register"] * bits
        assert registers["partial sums"] == counts["sum register"] * total


def dram_tile_by_tile(plan: Schedule, held: str, group: int) -> Counter:
    """Bits to and from DRAM, if SRAM keeps so many panels of an operand while the other passes."""
    w, dp = plan.workload, plan.datapath
    axes = {"output": "mnk", "weight": "knm", "input": "kmn"}[plan.dataflow]
    size = {"m": w.m, "k": w.k, "n": w.n}
    tiles = [parts(size[axes[0]], plan.rows), parts(size[axes[1]], plan.cols)]
    bits = {"A": dp.a.bits, "B": dp.b.bits, "C": dp.accumulator.bits}
    of = {frozenset("mk"): "A", frozenset("kn"): "B", frozenset("mn"): "C"}
    names = [of[frozenset(axes[side] + axes[2])] for side in (0, 1)]
    stays = of[frozenset(axes[:2])]
    outer = names.index(held)
    counts: Counter = Counter()
    begun, rounds = set(), Counter()
    for first in range(0, len(tiles[outer]), group):
        panels = tiles[outer][first : first + group]
        if names[outer] != "C":
            counts[names[outer]] += sum(len(p) for p in panels) * size[axes[2]] * bits[names[outer]]
        else:
            counts["C"] += sum(len(p) for p in panels) * size[axes[2]] * dp.output.bits
        last = first + group >= len(tiles[outer])
        for other in tiles[1 - outer]:
            passing = len(other) * size[axes[2]]
            if names[1 - outer] == "C":
                counts["partial sums"] += passing * bits["C"] * ((other in begun) + (not last))
                counts["C"] += passing * dp.output.bits * last
                begun.add(other)
            else:
                counts[names[1 - outer]] += passing * bits[names[1 - outer]]
            for panel in panels:
                tile = len(panel) * len(other)
                counts[stays] += tile * (dp.output.bits if stays == "C" else bits[stays])
                rounds[panel, other] += 1
    assert set(rounds.values()) == {1}
    return counts


@pytest.mark.parametrize("flow", FLOWS)
def test_traffic_of_dram_is_that_counted_tile_by_tile(flow: str) -> None:
    rows, cols = 2, 3
    for (m, k, n), bits in itertools.product(SHAPES, (0, 400, 800, 1600, 3200, 6400, 20000)):
        plan = schedule(rows, cols, flow, hu.Matmul(m, k, n), bits=bits)
        panel = {
            "output": {"A": 8 * min(rows, m) * k, "B": 8 * k * min(cols, n), "C": 32 * min(rows, m) * min(cols, n)},
            "weight": {"A": 8 * m * min(rows, k), "B": 8 * min(rows, k) * min(cols, n), "C": 32 * m * min(cols, n)},
            "input": {"A": 8 * min(cols, m) * min(rows, k), "B": 8 * min(rows, k) * n, "C": 32 * min(cols, m) * n},
        }[flow]
        whole = {"A": 8 * m * k, "B": 8 * k * n, "C": 32 * m * n}
        stays, x, y = plan.roles
        ways = [sum(f.read_bits + f.written_bits for f in plan.moved("dram", plan.array_passes))]
        for held, passing, folds in ((x, y, plan.folds[0]), (y, x, plan.folds[1])):
            for group in range(1, folds + 1):
                kept = min(group * panel[held], whole[held])
                used_again = 2 * panel[passing] if group > 1 else 0
                if kept + used_again + 2 * panel[stays] <= bits:
                    ways.append(sum(dram_tile_by_tile(plan, held, group).values()))
        assert plan.moved("dram", plan.dram_passes) == [f for f in plan.flows() if f.level == "dram"]
        chosen = sum(f.read_bits + f.written_bits for f in plan.moved("dram", plan.dram_passes))
        assert chosen == min(ways), (m, k, n, bits)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("datapath", ["int8/int32/int8", "bf16/fp32:fused8", "mxfp8_e4m3/fp32/bf16", "fp16"])
def test_traffic_is_compulsory_at_least_and_falls_with_sram(flow: str, datapath: str) -> None:
    work = hu.Matmul(70, 96, 50)
    runs = [array(datapath=datapath, dataflow=flow, sram_kib=2.0**i / 8).run(work) for i in range(13)]
    traffic = [run.bits("dram") for run in runs]
    compulsory = sum(f.read_bits + f.written_bits for f in runs[-1].flows if f.level == "dram")
    dp = runs[0].array.datapath
    bits = [
        math.ceil(fmt.bits_per_element * n) if dp.in_blocks else fmt.bits * n for fmt, n in ((dp.a, 6720), (dp.b, 4800))
    ]
    assert traffic == sorted(traffic, reverse=True) and traffic[0] > traffic[-1]
    assert traffic[-1] == compulsory == sum(bits) + 3500 * dp.output.bits
    for run in runs:
        flows = {(f.level, f.kind): f for f in run.flows}
        assert flows["dram", "C"].written_bits == 3500 * dp.output.bits  # each result once
        for (level, kind), dram in flows.items():  # what DRAM gives SRAM takes, and the other way round
            if level == "dram":
                assert flows["sram", kind].written_bits >= dram.read_bits
                assert flows["sram", kind].read_bits >= dram.written_bits
        assert len({run.cycles for run in runs}) == 1 and 0 < run.utilisation <= 1


# ---- workloads ------------------------------------------------------------------------------------------------------


def test_convolutions_are_products_with_the_footprint_of_their_images() -> None:
    for height, width, kernel, stride, padding in itertools.product((5, 8), (6, 9), (1, 3, (2, 4)), (1, 2, 4), (0, 1)):
        conv = hu.Conv(2, 3, height, width, 7, kernel, stride, padding)
        tall, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        touched, patches = set(), 0
        for i in range(0, height + 2 * padding - tall + 1, stride):
            for j in range(0, width + 2 * padding - wide + 1, stride):
                patches += 1
                touched |= {(i + p - padding, j + q - padding) for p in range(tall) for q in range(wide)}
        inside = sum(0 <= i < height and 0 <= j < width for i, j in touched)
        assert (conv.m, conv.k, conv.n) == (2 * patches, 3 * tall * wide, 7)
        assert conv.a_numbers == 2 * 3 * inside and conv.macs == conv.m * conv.k * conv.n
    for flow in FLOWS:
        traffic = [array(dataflow=flow, sram_kib=2.0**i / 8).run(conv).bits("dram") for i in range(12)]
        assert traffic == sorted(traffic, reverse=True)
        assert traffic[-1] == 8 * (conv.a_numbers + conv.k * conv.n + conv.m * conv.n)
    run = array().run(hu.Conv(1, 16, 14, 14, 16, 3, padding=1))
    assert run.bits("dram", "A") == 8 * 16 * 14 * 14
    assert run.bits("sram", "A") > 8 * run.workload.m * run.workload.k


def test_sparse_products() -> None:
    work = hu.Spmv(1000, 7001)
    assert work.columns == 1000
    enough = array(datapath="fp32").run(work)
    assert enough.ledger.n_mul == enough.ledger.n_add == 7001 == work.macs
    # what a machine's ledger counts for the same product
    machine = hu.Machine("fp32")
    sparse = pytest.importorskip("scipy.sparse")
    rows = np.repeat(np.arange(1000), 7)
    matrix = sparse.csr_matrix((np.ones(7000), (rows, (rows * 3 + np.arange(7000) * 11) % 1000)), (1000, 1000))
    machine.spmv(matrix, np.ones(1000))
    like = array(datapath="fp32").run(hu.Spmv(1000, matrix.nnz))
    assert matrix.nnz == 7000 and like.ledger.operations == machine.ledger.operations
    assert like.bits("dram") == machine.ledger.bits_moved["sram"]
    starved = [array(datapath="fp32", sram_kib=size).run(work).bits("dram", "B") for size in (4, 2, 1, 0.001)]
    assert starved[0] == 32 * 1000 and starved == sorted(starved) and starved[-1] <= 32 * 7001
    assert enough.cycles == 250 * 8 and enough.bound == "array"
    assert array().run(hu.Spmv(10, 0)).cycles == 0
    for columns, nnz, bits in ((1 << 16, (1 << 16) - 1, 16), ((1 << 16) + 1, 9, 32), (9, 9, 16)):
        moved = array().run(hu.Spmv(1 << 14, nnz, columns)).bits("dram", "indices")
        assert moved == nnz * bits + ((1 << 14) + 1) * 16  # where rows begin is told by the number of non-zeros
    assert array().run(hu.Spmv(1 << 14, 1 << 16)).bits("dram", "indices") == (1 << 16) * 16 + ((1 << 14) + 1) * 32


def test_a_run_counts_the_operations_that_a_machine_counts() -> None:
    machine = hu.Machine("int8/int32/int8")
    machine.matmul(np.ones((9, 10)), np.ones((10, 7)))
    run = array().run(hu.Matmul(9, 10, 7))
    assert run.ledger.operations == machine.ledger.operations
    assert run.bits("dram") == machine.ledger.bits_moved["sram"]  # compulsory: all fits


# ---- area, energy, time ---------------------------------------------------------------------------------------------


def test_gupta_2015() -> None:
    """S. Gupta et al., "Deep Learning with Limited Numerical Precision", ICML 2015, arXiv:1502.02551: a 28 x 28 array
    at 166 MHz does 260 G-ops/s, with a rounding unit for each column: 28 for 784 multiply-accumulate units."""
    gupta = hardware()
    assert round(gupta.peak_ops_per_s / 1e9) == 260
    counts = {part.name: part.number for part in gupta.parts}
    assert counts["output rounding units"] == 28 and counts["units"] == 784
    assert gupta.datapath.accumulator.bits == 48
    none = replace(gupta, datapath="q4.12/q24.24")
    assert "output rounding units" not in none.area_by_part_um2 and none.area_um2 < gupta.area_um2
    # TPU v1: 256 x 256 at 700 MHz, 92 TOPS (Jouppi et al., ISCA 2017, doi:10.1145/3079856.3080246)
    assert round(array(rows=256, cols=256, clock_mhz=700).peak_ops_per_s / 1e12) == 92
    run = gupta.run(hu.Matmul(1000, 784, 1000))
    assert 0.9 < run.utilisation < 1 and run.ops_per_s < gupta.peak_ops_per_s


def test_area_is_the_sum_of_its_parts() -> None:
    one = array(rows=8, cols=16, datapath="bf16/fp32/bf16", sram_kib=128, clock_mhz=None, clock_ghz=0.5)
    by_part = one.area_by_part_um2
    assert by_part["units"] == pytest.approx(128 * hu.cost("bf16/fp32").area_um2)
    bit = hu.Technology("45nm").register.area_um2.value
    assert by_part["operand registers"] == pytest.approx(128 * 32 * bit)
    assert by_part["SRAM"] == pytest.approx(128 * 3671.5)  # EIE: 594,786 um2 / 162 KB
    assert one.area_um2 == pytest.approx(sum(by_part.values())) and one.clock_hz == 5e8
    assert one.area_band_um2[0] < one.area_um2 < one.area_band_um2[1]
    wide = array(datapath="fp16/fp32:fused4")
    assert wide.macs_per_cycle == 64 and wide.peak_ops_per_s == 2 * 64 * 5e8
    blocks = array(datapath="mxfp8_e4m3/fp32/bf16")
    assert blocks.area_by_part_um2["block scale multipliers"] > 0
    assert {part.name: part.number for part in blocks.parts}["block scale multipliers"] == 16
    assert sum(blocks.area_by_part_um2[name] for name in ("units", "block scale multipliers")) == pytest.approx(
        16 * hu.cost("mxfp8_e4m3/fp32").area_um2
    )


def test_an_array_prices_a_ledger() -> None:
    one = array(sram_kib=32)
    ledger = hu.Ledger()
    int8 = hu.format("int8")
    ledger.count(hu.Operation("mul", int8, int8, None), 1000)
    ledger.move(64 * 10)
    ledger.move(64, "dram")
    ledger.move(100, "register")
    priced = one.price(ledger)
    each = hu.Technology("45nm").unit(hu.Operation("mul", int8, int8, None)).energy_pj.value
    hbm2 = (250 * 450 * 64 * 3.92) ** (1 / 3)
    assert priced.arithmetic_pj == pytest.approx(1000 * each)
    flipflop = hu.Technology("45nm").register.energy_pj.value
    assert priced.memory_pj == pytest.approx(10 * 20 + hbm2 + 100 * flipflop) and priced.leakage_pj == 0
    assert priced.band_pj[0] < priced.total_pj < priced.band_pj[1]
    assert any("10.1145/3123939.3124545" in source for source in priced.sources)
    assert one.price(hu.Ledger()).total_pj == 0
    ledger.move(1, "tape")
    with pytest.raises(hu.HalfulpError, match="no storage level 'tape'"):
        one.price(ledger)


@pytest.mark.parametrize("work", [hu.Matmul(50, 60, 70), hu.Conv(1, 8, 14, 14, 8, 3), hu.Spmv(100, 900)])
@pytest.mark.parametrize("node", ["130nm", "45nm", "7nm"])
def test_the_energy_of_a_run_is_the_sum_of_its_parts(work: object, node: str) -> None:
    for flow in FLOWS:
        run = array(datapath="bf16/fp32/bf16", dataflow=flow, sram_kib=2, node=node).run(work)
        assert sum(run.energy_by_part_pj.values()) == pytest.approx(run.energy.total_pj)
        priced = run.array.price(run.ledger)
        assert (run.energy.arithmetic_pj, run.energy.memory_pj) == (priced.arithmetic_pj, priced.memory_pj)
        assert sum(map(run.bits, ("register", "accumulator", "sram", "dram"))) == sum(run.ledger.bits_moved.values())
        (low, high), told = run.energy.band_pj, run.energy
        assert low < told.total_pj < high and set(priced.sources) <= set(told.sources)
        assert low >= priced.band_pj[0] and high >= priced.band_pj[1]
        bases = [priced.basis, *(part.leakage_nw.basis for part in run.array.parts if part.leakage_nw is not None)]
        assert told.basis == max(bases, key=list(BANDS).index)
        assert "cycles" in str(run) and "dram" in str(run)


def test_bandwidth_bounds_time() -> None:
    work = hu.Matmul(1, 4096, 4096)
    fine = {"rows": 64, "cols": 64, "clock_mhz": None, "clock_ghz": 2, "dataflow": "weight"}
    slow, fast = (array(**fine, dram=dram).run(work) for dram in ("DDR4", "HBM2"))
    assert slow.bound == "dram" and slow.seconds == pytest.approx(slow.bits("dram") / 8 / 25.6e9)
    assert slow.ops_per_s == pytest.approx(2 * 4096**2 / slow.seconds) and slow.seconds >= fast.seconds
    assert fast.bound == "array" and fast.seconds == fast.cycles / 2e9
    assert array(dram="HBM2", dram_devices=4).dram_bytes_per_s == 4 * 256e9


# ---- clocks and leakage ----------------------------------------------------------------------------------------------


def test_a_clock_faster_than_a_unit_is_told() -> None:
    slow, fast = (array(datapath="bf16/fp32", clock_mhz=mhz, clock_ghz=None) for mhz in (10, 5000))
    assert slow.warnings == () and "warning" not in str(slow)
    (warning,) = fast.warnings
    delay_ns = hu.cost("bf16/fp32", "45nm").delay_ns
    assert f"the clock leaves 0.2 ns, a unit, mapped for the least area, takes {delay_ns:.3g} ns" in warning
    assert warning in str(fast) and warning in str(fast.run(hu.Matmul(8, 8, 8)))
    assert f"{fast.area_um2 / 1e6:.4g} mm2" in str(fast) and "units" in str(fast)


@pytest.mark.parametrize("node", ["130nm", "28nm", "7nm"])
@pytest.mark.parametrize("datapath", ["fp8_e5m2/fp16", "q4.12/q24.24/q4.12@RNE/SR12", "int4/int16/bf16@RNE/SR8"])
def test_the_clock_that_a_warning_names_is_slow_enough(datapath: str, node: str) -> None:
    (warning,) = array(datapath=datapath, node=node, clock_mhz=20000, clock_ghz=None).warnings
    (mhz,) = re.findall(r"at most (\d+) MHz", warning)
    assert not array(datapath=datapath, node=node, clock_mhz=int(mhz), clock_ghz=None).warnings
    assert array(datapath=datapath, node=node, clock_mhz=int(mhz) + 1, clock_ghz=None).warnings


def test_logic_leaks_as_long_as_a_run_takes() -> None:
    slow, fast = (array(datapath="int8/int32", node="2nm", clock_mhz=mhz).run(hu.Matmul(64, 64, 64)) for mhz in (1, 10))
    one, units = slow.array, slow.array.rows * slow.array.cols
    each_nw = hu.cost(one.datapath, "2nm").leakage_nw + 16 * hu.Technology("2nm").register.leakage_nw.value
    assert slow.energy.leakage_pj == pytest.approx(1e12 * units * 1e-9 * each_nw * slow.seconds)
    assert slow.energy.leakage_pj == pytest.approx(10 * fast.energy.leakage_pj)
    assert slow.energy.memory_pj == fast.energy.memory_pj and "leakage" in str(slow)
    rounded = array(datapath="int8/int32/int8@RNE/SR8", node="2nm").run(hu.Matmul(64, 64, 64))
    assert {part for kind, part in rounded.energy_by_part_pj if kind == "leakage"} == {
        "units",
        "operand registers",
        "output rounding units",
    }


@pytest.mark.parametrize("node", ["130nm", "28nm", "7nm", "2nm"])
@pytest.mark.parametrize(
    "datapath",
    ["bf16/fp32", "int8/int32", "fp16/fp32:systolic4", "fp8_e4m3/fp32:fused4g2", "fp8_e4m3/fp32:exact", "mxfp4/fp32"],
)
def test_a_run_takes_what_its_units_take(datapath: str, node: str) -> None:
    """Operations and the units' registers are the price of a MAC, as ``cost`` has it: exactly, but for what a dot
    product has once, whose energy ``cost`` leaves out."""
    one, unit = array(datapath=datapath, node=node), hu.cost(datapath, node)
    work = hu.Matmul(8, 256 * unit.macs_per_cycle, 8)
    parts = one.run(work).energy_by_part_pj
    found = sum(pj for (level, _), pj in parts.items() if level in ("operation", "accumulator"))
    whole = "systolic" not in datapath and "exact" not in datapath
    assert found == pytest.approx(work.macs * unit.energy_pj, rel=1e-9 if whole else 0.01)


def test_what_leaks_between_libraries_is_uncertain_by_orders_of_magnitude() -> None:
    """A flip-flop of Nangate's open 45 nm library (DFF_X1) leaks 79 nW."""
    low, high = hu.cost("int8/int32", "45nm").band["leakage_nw"]
    assert high / low > 1e4
    register = hu.Technology("45nm").register.leakage_nw
    assert register.value / register.band < 79.11 < register.value * register.band
    assert hu.Technology("7nm").register.leakage_nw.band < 1.5


def test_a_column_rounds_as_fast_as_its_units_add() -> None:
    (warning,) = array(datapath="int4/int16/bf16@RNE/SR8", node="130nm", clock_mhz=300, clock_ghz=None).warnings
    assert "an output rounding unit, mapped" in warning


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": 0}, "rows of an Array is an integer of at least 1, not 0"),
        ({"cols": 2.5}, "cols of an Array is an integer of at least 1, not 2.5"),
        ({"dram_devices": -1}, "dram_devices of an Array"),
        ({"sram_kib": 0}, "sram_kib of an Array is a positive number, not 0"),
        ({"clock_mhz": -5}, "clock_mhz of an Array is a positive number, not -5"),
        ({"clock_mhz": None}, "clock_mhz or a clock_ghz, one of the two"),
        ({"clock_ghz": 1}, "clock_mhz or a clock_ghz, one of the two"),
        ({"dataflow": "row"}, "output, weight, input, not 'row'"),
        ({"dram": "HBM7"}, "energy_pj_per_bit of dram for DDR3, DDR4, HBM2, GDDR6, GDDR5, LPDDR4, not for 'HBM7'"),
        ({"node": "300nm"}, "no prices for node '300nm'"),
        ({"datapath": "fp99"}, "fp99"),
    ],
)
def test_a_wrong_array_gets_a_sentence(changes: dict, sentence: str) -> None:
    with pytest.raises(hu.HalfulpError, match=sentence):
        array(**changes)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: hu.Matmul(0, 1, 1), "Matmul: m is an integer of at least 1, not 0"),
        (lambda: hu.Matmul(1, 1.5, 1), "Matmul: k is an integer of at least 1, not 1.5"),
        (lambda: hu.Conv(1, 1, 4, 4, 1, (3, 0)), r"Conv: kernel is an integer of at least 1, not \(3, 0\)"),
        (lambda: hu.Conv(1, 1, 4, 4, 1, (3, 3, 3)), "kernel is an integer or a pair"),
        (lambda: hu.Conv(1, 1, 4, 4, 1, 3, padding=-1), "padding is an integer of at least 0, not -1"),
        (lambda: hu.Conv(1, 1, 4, 4, 1, 5), "has no results"),
        (lambda: hu.Spmv(3, -1), "nnz is an integer of at least 0"),
        (lambda: hu.Spmv(3, 10), "10 non-zeros do not fit in 3 rows of 3"),
        (lambda: array().run("matmul"), "runs a Matmul, a Conv or an Spmv, not str"),
        (lambda: array(datapath="mxfp8_e4m3/fp32").run(hu.Spmv(3, 3)), "only a Matmul's operands are in blocks"),
    ],
)
def test_a_wrong_workload_gets_a_sentence(make: object, sentence: str) -> None:
    with pytest.raises(hu.HalfulpError, match=sentence):
        make()  # type: ignore[operator]
