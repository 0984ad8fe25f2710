"""Units with an LFSR of their own give what the emulator gives with the LFSR's bits, clock by clock."""

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator.clocks import dealt, draws, ports
from halfulp.emulator.datapath import Datapath, dot
from halfulp.emulator.functions import function
from halfulp.emulator.random import Role, source, stream
from halfulp.emulator.rtl.testbench import Port
from halfulp.emulator.rtl.units import Unit
from halfulp.kernels.stimulus import dot_stimulus, unit_stimulus
from rtl_cases import check_datapath, convert, simulate

#: Datapaths of one draw a clock, and of several, in every role.
ONE = "fp8_e5m2/e6m5@SR9 mxfp4/fp32@SR8 bf16/fp32@SR5:fused4 q4.4/q8.4@SR3 fp8_e4m3/fp16@SR7c"
SEVERAL = """
q4.12/q16.24/q4.12@RNE/SR16 e3m2/e4m5/e3m2@SR4/SR2:systolic3 e3m2/e4m5@SR4:tree4:product=e4m3@SR2
e3m2/e5m7@SR5:blocked4(e4m4@SR3) e3m2/e5m7@SR4:blocked6(e4m4@SR3:systolic3) q4.12/q8.8/q4.12@SR8/SR8
q4.4/q8.6/q4.4@SR3/SR2:exact
"""
LFSRS = "lfsr32 lfsr32:clocks=7 lfsr31:polynomial=0x80000009:seed=0x1234"


@pytest.mark.parametrize(("i", "text"), list(enumerate((ONE + SEVERAL).split())))
def test_datapaths(i, text, tmp_path):
    check_datapath(text, 400, [i % 4], tmp_path, random=source(LFSRS.split()[i % 3]))


@pytest.mark.slow
@pytest.mark.parametrize("lfsr", LFSRS.split())
@pytest.mark.parametrize("text", (ONE + SEVERAL).split())
def test_datapaths_at_length(text, lfsr, tmp_path):
    check_datapath(text, 10_000, range(4), tmp_path, "verilator", random=source(lfsr))


@pytest.mark.parametrize("pipeline", range(3))
@pytest.mark.parametrize(
    ("name", "rounding", "lfsr"),
    [("e3m2_add", "SR3", "lfsr3"), ("fp16_fma", "SR8c", "lfsr16:clocks=8"), ("fp32_to_bf16", "SR16", "lfsr19")],
)
def test_function_units(name, rounding, lfsr, pipeline, tmp_path):
    f, lfsr = function(name, rounding), source(lfsr)
    unit = Unit(f, flags=True, pipeline=pipeline, random=lfsr)
    columns = unit_stimulus(f, 1000, random=lfsr)
    ports_ = [Port(s.name, len(s), any(s is out for out in unit.outputs)) for s in unit.ports if s is not unit.clk]
    verilog = convert(unit, "dut", unit.ports)
    assert "PASS" in simulate(verilog, ports_, columns, unit.latency, tmp_path, clocked=True)
    columns["seed"] = [
        state ^ 1 << lfsr.width - 1 for state in columns["seed"]
    ]  # the bits are those of the state that is loaded
    assert "FAIL" in simulate(verilog, ports_, columns, unit.latency, tmp_path, clocked=True)


@pytest.mark.parametrize("lfsr", [*LFSRS.split(), "lfsr16:units=4"])
@pytest.mark.parametrize("text", ONE.split())
def test_one_draw_a_clock_is_what_a_machine_draws(text, lfsr):
    """Loaded with the state of an element's register, a unit gives what ``Machine(random=...)`` has there."""
    dp, lfsr = Datapath.parse(text), source(lfsr)
    draw = np.random.default_rng(3)
    machine = hu.Machine(dp, seed=5, random=lfsr, on_inexact="quantize")
    if dp.in_blocks:
        return  # values of blocks are tested as codes, above
    x, y = (fmt.encode(hu.quantize(draw.normal(0, 1, s), fmt)) for fmt, s in ((dp.a, (2, 12)), (dp.b, (12, 3))))
    codes = dp.output.encode(machine.matmul(dp.a.decode(x), dp.b.decode(y)))
    n = 4 if "fused4" in text else 1
    for element, code in enumerate(codes.ravel()):
        start = lfsr.state(5, stream(machine.calls, Role.ACCUMULATOR), element, 0)
        random, after = dealt(dp, 12, lfsr, start)
        row, column = divmod(element, 3)
        assert dot(dp, x[row].tolist(), y[:, column].tolist(), random) == code
        assert after == lfsr.after(lfsr.clocks * 12 // n, start)


def test_the_bits_of_a_clock_are_dealt_from_the_lowest_on():
    dp, lfsr = Datapath.parse("e3m2/e4m5/e3m2@SR4/SR2:tree2:product=e4m3@SR3"), source("lfsr31:clocks=5")
    assert ports(dp) == {"random_product": 6, "random_accumulator": 8, "random_output": 2}
    state, random = 0x5A5A5A5A, dealt(dp, 3, lfsr, 0x5A5A5A5A)[0]
    following = lfsr.after(5, state)
    assert [len(some) for some in draws(dp, 3)] == [5, 5]
    for at, first in ((state, 0), (following, 2)):
        word = at >> 31 - 16
        assert [random(Role.PRODUCT, first + k, 3) for k in (0, 1)] == [word & 7, word >> 3 & 7]
        assert [random(Role.ACCUMULATOR, first + k, 4) for k in (0, 1)] == [word >> 6 & 15, word >> 10 & 15]
    assert random(Role.OUTPUT, 0, 2) == following >> 29
    with pytest.raises(hu.HalfulpError, match="a 8-bit LFSR gives at most 8 random bits, not 9"):
        source("lfsr8").deal(1, [4, 5])


def test_the_stimulus_loads_and_runs_on():
    columns = dot_stimulus(Datapath.parse("fp8_e5m2/e6m5@SR9"), 300, random=source("lfsr16"))
    assert columns["seed_load"][0] == 1 and 0.02 < np.mean(columns["seed_load"]) < 0.3
    assert all(clear for clear, load in zip(columns["clear"], columns["seed_load"], strict=True) if load)
    assert min(columns["seed"]) > 0
