"""A cocotb test bench: halfulp's cases on the multiplier, its results on halfulp's scoreboard."""

import cocotb
import halfulp as hu
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time
from halfulp.kernels.cases import Cases


@cocotb.test()
async def multiplies(dut):
    reference = hu.reference("mul", "fp16", "RNE")
    scoreboard = hu.Scoreboard(reference)
    for a, b in Cases(reference.operands).columns(0, 20_000).T.tolist():
        dut.a.value, dut.b.value = a, b
        await Timer(1, "ns")
        scoreboard.check((a, b), int(dut.result.value), int(dut.flags.value), where=f"at {get_sim_time('ns')} ns")
    dut._log.info(scoreboard.summary)
    scoreboard.finish()
