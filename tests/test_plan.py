"""Plans have the parts, and the widths, of what the generator builds."""

from __future__ import annotations

import re
from collections import Counter

import halfulp as hu
import pytest
from halfulp.emulator.functions import function
from halfulp.emulator.ledger import Operation
from halfulp.emulator.plan import operation_plan, plan

DATAPATHS = [
    "fp8_e4m3/fp16",
    "fp16/fp32@RTZ",
    "bf16/fp32/bf16@RNE/SR8",
    "e4m3ftz/e5m10ftz",
    "fp16/fp32:product=fp16@RNE",
    "fp16*e4m3fn/fp32@SR7",
    "posit8/fp32",
    "int8/int32",
    "q4.12/q16.24/q4.12@RNE/SR16",
    "q4.4/q8.4@RTZ:tree4:product=q8.6@RNE",
    "q4.4/q8.6w@RTP:exact4",
    "q4.12/q8.8@RNA:fused4g2",
    "int8/int32:fused8",
    "q4.4/q8.4@SR3:systolic4",
    "fp8_e4m3/fp32:fused8g2",
    "fp16/fp32@RTZ:fused8g1e-21n",
    "q4.4/fp16:fused4g3",
    "q4.4/q8.8/fp16",
    "q4.4*fp8_e4m3/fp16:fused4",
    "fp8_e4m3/q16.8:fused4g3",
    "fp8_e4m3/fp32:exact4",
    "fp8_e5m2/fp32@RTN:exact3",
    "fp8_e4m3/fp16:exact",
    "q4.4/q8.8:exact",
    "fp8_e4m3/fp16:tree5",
    "fp8_e4m3/fp16:systolic3",
    "fp8_e4m3/fp32:blocked8(e8m13@RTZ:fused4)",
    "e3m2/e5m7:blocked4(e4m4:exact)",
    "mxfp4/fp32",
    "mxfp8_e4m3/fp32:fused4",
    "mxint8/fp32:exact8",
    "nvfp4/fp32:fused4",
    "msfp16/fp32:exact16",
]
FUNCTIONS = ["e4m3fn_mul", "fp16_add", "fp32_fma", "e8m7ftz_add", "fp16_to_q4.12", "q8.8_to_fp32", "posit16_to_fp32"]
_SIZED = ("multiply", "align", "add", "normalise", "sum", "leading", "scale", "block", "exact", "group", "product")


def built(unit) -> Counter[tuple[str, int]]:
    """Name and width of each part that the generator put into a unit."""
    pytest.importorskip("amaranth")
    from halfulp.emulator.rtl import align, dot, eager, integers, rounding, sums, trees

    found: Counter[tuple[str, int]] = Counter()
    for name, part in unit.parts.items():
        match part:
            case align.Align():
                width = part.window.bits
            case eager.EagerAdd():
                width = part.window.head
            case align.Add():
                width = part.number.shape.bits - 2  # without carry and sticky bit
            case rounding.Normalise():
                width = len(part.normal.magnitude)
            case sums.FixedSum() | sums.FusedSum():
                width = len(part.number.magnitude) + 1
            case trees.Multiply() | dot.Leading():
                width = part.number.shape.bits
            case dot.Held():
                width = part.number.shape.bits + 1
            case integers.SumIntegers():
                width = len(part.integer.value)
            case _:
                width = 0
        found[re.match("[a-z]+", name)[0], width] += 1
    return found


def planned(parts) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for part in parts:
        if part.name != "top":
            found[part.name, part.width if part.name in _SIZED else 0] += part.number
    return found


def without_plain(parts: Counter[tuple[str, int]], names: set[tuple[str, int]]) -> Counter[tuple[str, int]]:
    """Without normalisers of what is normalised, whose width does not matter."""
    return Counter({key: n for key, n in parts.items() if key[0] != "normalise" or key in names})


@pytest.mark.parametrize("text", DATAPATHS)
def test_a_datapaths_parts_are_those_of_its_rtl(text: str) -> None:
    pytest.importorskip("amaranth")
    from halfulp.emulator.rtl.dot import DotUnit

    datapath = hu.Datapath.parse(text)
    unit, found = DotUnit(datapath), plan(datapath)
    assert found.macs == unit.lanes
    ours, theirs = planned(found.parts), built(unit)
    shifting = {("normalise", p.width) for p in found.parts if p.kind == "normalise" and p.counts.get("mux")}
    assert without_plain(ours, shifting) == without_plain(theirs, shifting)
    assert sum(n for (name, _), n in ours.items() if name == "normalise") == sum(
        n for (name, _), n in theirs.items() if name == "normalise"
    )


@pytest.mark.parametrize("text", ["fp8_e5m2/e6m5@SR9", "bf16/fp32@SR8", "fp8_e4m3/fp16@SR6:exact2", "fp16@SR20"])
def test_parts_of_eager_units_with_an_lfsr(text: str) -> None:
    pytest.importorskip("amaranth")
    from halfulp.emulator.rtl.dot import DotUnit

    lfsr = hu.LFSR(32, clocks=3)
    unit, found = DotUnit(hu.Datapath.parse(text), 0, lfsr, eager=True), plan(text, 0, lfsr, eager=True)
    assert planned(found.parts) == built(unit)
    registers = sum(part.counts["flipflops"] for part in found.parts if part.kind == "registers")
    assert registers == sum(len(register) for register, _ in unit.registers)
    carries = {part.counts["carries"] for part in found.parts if part.kind == "choose"}
    assert carries == {len(unit.parts[name].taken) - 1 for name in unit.parts if name.startswith("choose")}
    assert sum(part.counts["loads"] for part in found.parts if part.kind == "lfsr") == 32


@pytest.mark.parametrize("text", FUNCTIONS)
def test_a_functions_parts_are_those_of_its_rtl(text: str) -> None:
    pytest.importorskip("amaranth")
    from halfulp.emulator.rtl.units import Unit

    ours, theirs = planned(plan(function(text)).parts), built(Unit(function(text)))
    shifting = {key for key in ours if key[0] == "normalise" and key[1] > 1}
    assert without_plain(ours, shifting) == without_plain(theirs, shifting)


@pytest.mark.parametrize("pipeline", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "text", ["fp8_e4m3/fp32:fused4", "int8/int32", "fp8_e4m3/fp16:exact", "mxfp8_e4m3/fp32:fused4"]
)
def test_registers_are_those_of_the_rtl(text: str, pipeline: int) -> None:
    pytest.importorskip("amaranth")
    from halfulp.emulator.rtl.dot import DotUnit

    unit = DotUnit(hu.Datapath.parse(text), pipeline)
    # that of a product's invalid flag is not connected; the flag of infinity and a carry of the offset may be constant
    bits = sum(len(register) for register, _ in unit.registers if not register.name.endswith("invalid_q"))
    found = plan(text, pipeline)
    flipflops = sum(part.number * part.counts["flipflops"] for part in found.parts if part.kind == "registers")
    assert flipflops <= bits <= flipflops + 2 * found.macs * (pipeline > 0)


def test_operations_are_planned_by_themselves() -> None:
    fp16, fp32, int8 = map(hu.format, ("fp16", "fp32", "int8"))
    names = [part.name for part in operation_plan(Operation("mul", fp16, fp16, None)).parts]
    assert names == ["unpack", "unpack", "multiply"]
    assert [p.kind for p in operation_plan(Operation("mul", int8, int8, None)).parts] == ["integers"]
    names = [part.name for part in operation_plan(Operation("add", fp32, fp32, fp32)).parts]
    assert names == ["unpack", "unpack", "align", "add", "normalise", "round"]


def test_there_is_no_plan_of_what_there_is_no_hardware_of() -> None:
    for name in ("fp16_div", "fp16_to_posit16"):
        with pytest.raises(hu.HalfulpError, match="there is no hardware of"):
            plan(function(name))
