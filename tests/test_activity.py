"""What changes a clock: how far carries run, and how far operands with uniform codes meet."""

from __future__ import annotations

import math

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import activity
from halfulp.emulator.functions import function
from halfulp.emulator.plan import plan
from halfulp.emulator.rtl.shapes import product, shape


@pytest.mark.parametrize(("centre", "half", "width"), [(0, 30, 13), (0, 5, 20), (-12, 30, 40), (60, 20, 10), (3, 0, 4)])
def test_overlap_is_that_of_drawn_exponents(centre: float, half: float, width: int) -> None:
    draw = np.random.default_rng(1)
    apart = np.abs(centre + half * (draw.random(400_000) - draw.random(400_000)))
    mean = np.maximum(0, 1 - apart / width).mean()
    assert activity.overlap(centre, half, width) == pytest.approx(mean, abs=3e-3)


def test_uniform_operands_of_wide_exponents_seldom_meet() -> None:
    shares = [activity.apart(x, x, (False, False), 12) for x in (shape(hu.format(f"e{w}m8")) for w in range(3, 9))]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.9 and shares[-1] < activity.ALONE + 0.05
    fp16, fp32 = (shape(hu.format(name)) for name in ("fp16", "fp32"))
    assert activity.running(product(fp32, fp32), fp32, 50) < activity.running(product(fp16, fp16), fp32, 47) < 1


def test_stir_adds_up_along_sums_only() -> None:
    *_, align, add, normalise, round_ = plan(function("fp16_add")).parts
    assert align.stir == 0 and align.stirs == pytest.approx(2 * math.log2(5))
    assert add.stir == align.stirs and add.stirs == pytest.approx(2 * math.log2(add.width))
    assert normalise.stir == round_.stir == pytest.approx(align.stirs + add.stirs)
    *_, multiply, normalise, _ = plan(function("fp16_mul")).parts
    assert normalise.stir == multiply.stirs == pytest.approx(math.log2(22))
    fused = next(p for p in plan(function("fp16_fma")).parts if p.kind == "align")
    assert fused.stir == 0  # the product has settled when its exponent is known


def test_registers_stop_glitches() -> None:
    free, held = (plan("fp16*q4.4/fp32:fused4", pipeline) for pipeline in (0, 1))
    sums = [next(p for p in found.parts if p.kind == "sum").stir for found in (free, held)]
    assert sums[0] >= sums[1] == 0


def test_only_what_is_beside_another_way_does_not_lengthen_it() -> None:
    four, five = plan("fp16/fp32:tree4"), plan("fp16/fp32:tree5")
    assert [p.serial for p in four.parts if p.kind == "add"] == [1, 1, 1]
    assert [p.serial for p in five.parts if p.kind == "add"] == [1, 1, 1, 1]
    assert 0 in {p.serial for p in plan("fp16/fp32:tree6").parts if p.kind == "add"}
