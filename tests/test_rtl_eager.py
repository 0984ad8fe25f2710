"""Eager stochastic rounding gives the bits of rounding after normalisation, with the same random bits."""

import pytest
from halfulp.emulator.datapath import Datapath
from halfulp.emulator.rtl.dot import DotUnit
from rtl_cases import all_cases, check_all, check_datapath, drawn_cases, functions, mac

SMALL = "e2m2 e3m1 e2m2ftz e3m1ftz e2m1fn e2m2sat binary5p3se"
LARGER = "e3m2 e3m2ftz e2m3 e4m1 e2m3fnuz binary6p3se"
SMALL_MACS = "fp4_e2m1+e2m2 e2m1ftz+e2m2ftz binary3p2se+binary5p3se e2m0+e3m1"
LARGER_MACS = (
    "fp4_e2m1+fp6_e3m2 fp4_e2m1+fp6_e2m3 e2m1+e3m2 e2m1ftz+e3m2ftz e3m1ftz+e3m2ftz e2m2+e2m2 e3m1+e2m3 e3m0+e4m1"
)

#: Multiply-accumulate units of fp8 and wider operands in accumulators of 12 to 32 bits, of every order there is.
DATAPATHS = """
fp8_e5m2/e6m5@SR9 fp8_e5m2/e6m5@SR13 e5m2ftz/e6m5ftz@SR11 fp8_e4m3/e6m5@SR10 fp8_e4m3/fp16@SR7 fp8_e5m2/fp16@SR13
fp8_e4m3/bf16@SR8 bf16@SR8 bf16@SR13 fp16@SR1 fp16@SR11 fp16/fp32@SR16 bf16/fp32@SR8 e8m7ftz/e8m23ftz@SR24
e4m3ftz/e5m10ftz@SR9 fp6_e3m2/fp16@SR5 fp4_e2m1/fp16@SR6 e5m2sat/e6m5sat@SR12 e4m3fnuz/fp16@SR7 fp16*fp4_e2m1/bf16@SR9
e5m2/e6m5@SR9:systolic3 fp8_e4m3/e6m5@SR9:tree4 e5m2/e8m5@SR9:tree4 fp8_e5m2/fp16@SR9:blocked4(e6m5@SR7) mxfp4/fp32@SR8
fp8_e4m3/fp16@SR7:exact4 e4m3/e6m5/e4m3@SR9/SR4 e4m3/e6m5@SR9:product=e4m4@SR3 bf16/e5m2@SR20
"""


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("fmt", SMALL.split())
def test_small_additions(fmt, k, tmp_path):
    units = functions([f"{fmt}_add", f"{fmt}_sub"], [f"SR{k}"])
    check_all(units, all_cases(units), tmp_path, eager=True)


@pytest.mark.parametrize(("k", "formats"), list(enumerate(SMALL_MACS.split(), 1)))
def test_small_macs(formats, k, tmp_path):
    units = [mac(*formats.split("+"), f"SR{min(k, 3)}")]
    check_all(units, all_cases(units), tmp_path, eager=True)


@pytest.mark.slow
@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("fmt", (SMALL + " " + LARGER).split())
def test_additions(fmt, k, tmp_path):
    units = functions([f"{fmt}_add", f"{fmt}_sub"], [f"SR{k}"])
    check_all(units, all_cases(units), tmp_path, "verilator", eager=True)


@pytest.mark.slow
@pytest.mark.parametrize("k", range(1, 7))
@pytest.mark.parametrize("formats", (SMALL_MACS + " " + LARGER_MACS).split())
def test_macs(formats, k, tmp_path):
    units = [mac(*formats.split("+"), f"SR{k}")]
    check_all(units, all_cases(units), tmp_path, "verilator", eager=True)


@pytest.mark.slow
@pytest.mark.parametrize("k", [4, 11, 24])
@pytest.mark.parametrize(
    "name", [f"{fmt}_{op}" for fmt in ("fp16", "bf16", "fp32", "e5m10ftz") for op in ("add", "fma")]
)
def test_wide_units(name, k, tmp_path):
    units = functions([name], [f"SR{k}"])
    check_all(units, drawn_cases(units, 100_000), tmp_path, "verilator", eager=True)


@pytest.mark.parametrize(("pipeline", "text"), [(i % 4, text) for i, text in enumerate(DATAPATHS.split()[::4])])
def test_some_datapaths(text, pipeline, tmp_path):
    check_datapath(text, 400, [pipeline], tmp_path, eager=True)


@pytest.mark.slow
@pytest.mark.parametrize("text", DATAPATHS.split())
def test_datapaths(text, tmp_path):
    pipelines = [0, 1 + DATAPATHS.split().index(text) % 3]
    check_datapath(text, 100_000, pipelines, tmp_path, "verilator", longest=24, eager=True)


def test_the_head_is_narrow():
    """Of the paper's design (products of e5m2 that are made to begin with a one, e6m5), 8 bits are added and normalised
    instead of 12 + k or more."""
    for k in (9, 13):
        window = DotUnit(Datapath.parse(f"fp8_e5m2/e6m5@SR{k}"), eager=True).parts["align_0"].window
        lazy = DotUnit(Datapath.parse(f"fp8_e5m2/e6m5@SR{k}")).parts["align_0"].window
        assert (window.sum.bits, window.tail_zeros) == (8, 0)
        assert lazy.sum.bits >= 12 + k
