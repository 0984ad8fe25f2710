"""Generated hardware, simulated, gives the emulator's codes and flags: in Icarus Verilog, long runs in Verilator."""

import pytest
from halfulp.emulator.functions import function
from halfulp.emulator.rtl.testbench import Port
from halfulp.emulator.rtl.units import Unit
from rtl_cases import (
    MODES,
    all_cases,
    check_all,
    check_datapath,
    convert,
    drawn_cases,
    expected,
    functions,
    mac,
    simulate,
)

#: Formats of up to 8 bits that have names of their own, and others of each kind.
FLOATS = """
fp8_e4m3 fp8_e5m2 e4m3fnuz e5m2fnuz fp6_e3m2 fp6_e2m3 fp4_e2m1 e8m0 e4m3 e3m4 e3m2 e2m3 e2m2 e2m1 e3m0 e5m0 e2m5
e4m3fnsat e5m2sat e3m4fn e4m3fnuzb11 e4m3ftz e3m2ftz e2m1finiteb3 e1m2finiteb1 e1m6finiteb1 ue4m4 ue3m2finite
"""
P3109 = [f"binary8p{p}{s}{d}" for s in "su" for d in "ef" for p in range(1, 8 + (s == "u"))]
MORE_P3109 = "binary3p1se binary4p2sf binary5p3ue binary6p3se binary6p1uf binary7p4sf"
FIXED = """
int8 uint8 q4.4 uq4.4 q1.7 uq0.8 q2.6 q4.4w uq4.4w q8.0w q2.2 uq2.2 q3.3w uq1.3w q6.-2 q-1.6 q1.0 uq1.0
"""
POSITS = "posit8 posit6 posit4 posit<8,0> posit<8,1> posit<5,3>"  # as sources: there is no RTL that rounds to one
TARGETS = [*FLOATS.split(), *P3109, *MORE_P3109.split(), *FIXED.split()]
SOURCES = [*TARGETS, *POSITS.split()]

#: Formats of units whose operands are run through.
SMALL = "fp4_e2m1 e2m2ftz binary4p2sf q3.2w"
MIDDLE = """
e2m1 e3m0 ue2m2 uq2.2 e2m2 e3m1 e2m1fn e2m1ftz e1m2finiteb1 binary5p3se binary5p1ue q2.2 q3.2 uq2.3w
fp6_e3m2 fp6_e2m3 e3m2 e2m3 e4m1 e3m2fn e2m3fnuz e3m2ftz e3m2sat binary6p3se binary6p4uf q3.3 q2.4w uq3.3
"""
EIGHT_BITS = "fp8_e4m3 fp8_e5m2 e4m3 e3m4 e4m3fnuz e5m2fnuz e4m3ftz binary8p3se binary8p4uf q4.4 q1.7 uq4.4w int8"
SOME_WIDE = "fp16_fma bf16_mul q8.8_fma fp32_add tf32_sub fp64_to_fp32 q4.12_mul q8.8w_add fp32_to_q8.8"
WIDE = "fp16 bf16 tf32 fp32 fp64 e5m10ftz binary16p11se q4.12 q8.8w q16.16 uq8.8"

#: Datapaths of every order.
DATAPATHS = """
fp16
fp8_e4m3/fp32/bf16@RTZ
fp8_e5m2/e5m10ftz@RTN
bf16/fp32
bf16*fp8_e4m3/fp32:fused4g2
fp16/fp32@RTZ:fused4
fp16/fp32@RTZ:fused8g1e-21n
fp8_e4m3/e8m13/fp32@RTZ/RNE:fused16
q4.4/fp16:fused4g3
q4.4/q8.8/fp16
q4.4*fp8_e4m3/fp16:fused4
q4.12/q16.24/q4.12@RNE/SR16
q4.12/q8.8/q4.12@SR8/SR8
q4.12/q8.8@RNA:fused4g2
q4.4/q8.6w@RTP:exact4
q4.4/q8.4@RTZ:tree4:product=q8.6@RNE
q4.4/q8.4@RTO:systolic3
q4.4/q8.4@SR3:systolic4
fp8_e4m3/fp16@SR7
e3m2/e4m5@SR4c:tree3
e3m2/e4m5@SR4:tree4:product=e4m3@SR2
e3m2/e4m5/e3m2@SR4/SR2:systolic3
fp8_e4m3/fp32:exact4
fp8_e4m3/fp16:exact
fp8_e5m2/fp32@RTN:exact3
q4.4/q8.8:exact
q4.4*e4m3/fp16:exact2
fp8_e4m3/fp32:blocked8(e8m13@RTZ:fused4)
e3m2/e5m7@SR5:blocked4(e4m4@SR3)
q4.4/q12.8@RNE:blocked6(q8.4@SR2:tree4)
e3m2/e5m7:blocked4(e4m4:exact)
e3m2/e5m7@SR4:blocked6(e4m4@SR3:systolic3)
mxfp4/fp32
mxfp8_e4m3/fp32
mxfp6_e2m3/bf16:fused8
mxint8/fp32
nvfp4/fp32
e8m7*q2.6/q8.8@RNE
e4m3fnuz/fp16/e4m3fnuz@RTP/RNE
posit8/fp32
posit16/fp32:fused4
fp32
e2m1finite/uq4.2
fp16*fp4_e2m1/fp16
"""


def names(fmt, operations=("add", "sub", "mul")):
    return [f"{fmt}_{operation}" for operation in operations]


def exhaustive(units, folder, simulator="iverilog"):
    """All operands, with random bits where units draw them only."""
    for drawing in (False, True):
        some = [f for f in units if bool(f.random_bits) is drawing]
        if some:
            check_all(some, all_cases(some), folder, simulator)


# ---------------------------------------------------------------------------------------------- conversions


def conversions(source, targets, shift=0):
    """Units from one format to others, each in one mode; in eight shifts each has been in every one."""
    first = SOURCES.index(source) + shift
    return [function(f"{source}_to_{to}", MODES[(first + i) % len(MODES)]) for i, to in enumerate(targets)]


@pytest.mark.parametrize("source", SOURCES[::10])
def test_conversions_of_some_formats(source, tmp_path):
    exhaustive(conversions(source, TARGETS[SOURCES.index(source) // 10 % 3 :: 3]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shift", range(len(MODES)))
def test_conversions_of_every_format(source, shift, tmp_path):
    exhaustive(conversions(source, TARGETS, shift), tmp_path)


# ---------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("fmt", SMALL.split())
def test_small_units(fmt, tmp_path):
    exhaustive(functions(names(fmt)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fmt", (MIDDLE + EIGHT_BITS).split())
def test_units_of_up_to_8_bits(fmt, tmp_path):
    exhaustive(functions(names(fmt)), tmp_path, "verilator" if fmt in EIGHT_BITS else "iverilog")


@pytest.mark.parametrize("fmt", ["fp4_e2m1", "e2m1", "q2.2"])
def test_small_multiply_add_units(fmt, tmp_path):
    exhaustive(functions(names(fmt, ["fma"])), tmp_path)


#: Operands and accumulator of multiply-add units, to be run through: every pair in every state of the accumulator.
MACS = "fp4_e2m1+e2m2 binary3p2se+binary5p3se q2.1+q3.2 q2.1+q2.2w"
WIDER_MACS = """
fp4_e2m1+fp6_e2m3 fp4_e2m1+fp6_e3m2 fp4_e2m1+fp8_e5m2 fp6_e3m2+fp6_e3m2 fp6_e2m3+fp8_e4m3 fp6_e3m2+e4m3
binary6p3se+binary8p4se fp4_e2m1+q4.3 q2.2+q6.4 q3.3+q6.2w uq2.2+uq4.4
"""


@pytest.mark.parametrize("formats", MACS.split())
def test_small_macs(formats, tmp_path):
    exhaustive([mac(*formats.split("+"), mode) for mode in MODES], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("formats", WIDER_MACS.split())
def test_macs(formats, tmp_path):
    exhaustive([mac(*formats.split("+"), mode) for mode in MODES], tmp_path, "verilator")


@pytest.mark.parametrize(("name", "mode"), list(zip(SOME_WIDE.split(), MODES, strict=True)))
def test_wide_units_on_some_operands(name, mode, tmp_path):
    units = functions([name], [mode])
    check_all(units, drawn_cases(units, 1000), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "fma"])
@pytest.mark.parametrize("fmt", WIDE.split())
def test_wide_units(fmt, operation, tmp_path):
    units = functions([f"{fmt}_{operation}"])
    check_all(units, drawn_cases(units, 100_000), tmp_path, "verilator")


@pytest.mark.slow
@pytest.mark.parametrize("source", WIDE.split())
def test_wide_conversions(source, tmp_path):
    units = functions([f"{source}_to_{to}" for to in (WIDE + " fp8_e4m3 fp6_e2m3 q4.4 e8m0").split() if to != source])
    check_all(units, drawn_cases(units, 100_000), tmp_path, "verilator")


# ---------------------------------------------------------------------------------------------- datapaths


@pytest.mark.parametrize(("pipeline", "text"), [(i % 4, text) for i, text in enumerate(DATAPATHS.split()[::8])])
def test_some_datapaths(text, pipeline, tmp_path):
    check_datapath(text, 200, [pipeline], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("text", DATAPATHS.split())
def test_datapaths(text, tmp_path):
    check_datapath(text, 100_000, [0, 1 + DATAPATHS.split().index(text) % 3], tmp_path, "verilator")


# ---------------------------------------------------------------------------------------------- the bench itself


def test_a_wrong_unit_fails(tmp_path):
    f = function("e2m3_mul")
    unit = Unit(f)
    ports = [Port(s.name, len(s), s is unit.code) for s in unit.ports]
    columns = all_cases([f])
    vectors = {"a": columns[0], "b": columns[1], "code": expected(f, columns)[0]}
    right = convert(unit, "dut", unit.ports)
    assert "PASS dut: 4096 vectors" in simulate(right, ports, vectors, 0, tmp_path)
    for wrong in (("a ^ b ^ c", "a ^ b | c"), ("(a & b)", "(a | b)"), ("= x_offset +", "= x_offset -")):
        assert wrong[0] in right
        printed = simulate(right.replace(*wrong), ports, vectors, 0, tmp_path)
        assert "FAIL dut" in printed and "line" in printed
