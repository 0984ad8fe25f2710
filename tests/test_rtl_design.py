"""Designs as users get them: names, headers, files, what the simulator says, and bad input in a sentence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import halfulp as hu
import pytest

pytest.importorskip("amaranth", reason="needs Amaranth: pip install 'halfulp[hardware]'")

from halfulp.emulator.rtl import verilog
from halfulp.emulator.rtl.design import design

simulates = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="needs Icarus Verilog: apt-get install iverilog"
)


def rtl(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "halfulp", "rtl", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_header_tells_ports_and_latency() -> None:
    made = design("mxfp4*mxfp8_e4m3/fp32@SR8", pipeline=2)
    assert made.name == "mxfp4_mxfp8_e4m3_fp32_SR8_exact32_pipeline2" and made.latency == 3
    ports = {p.name: (p.bits, p.output) for p in made.ports}
    assert ports == {
        **{"clear": (1, False), "random_accumulator": (8, False), "a": (128, False), "a_scale": (8, False)},
        **{"b": (256, False), "b_scale": (8, False), "code": (32, True)},
    }
    header = made.verilog[: made.verilog.index("\n\n")]
    assert "Latency: 3 clocks" in header and all(f" {name} " in header for name in ports)
    assert f"module {made.name}(" in made.verilog and "\\" not in made.verilog


def test_equal_parts_are_one_module() -> None:
    text = design("fp8_e4m3/fp32:fused16").verilog
    assert text.count("module fp8_e4m3_fp32_RNE_fused16_multiply(") == 1
    assert text.count("fp8_e4m3_fp32_RNE_fused16_multiply multiply") == 16


def test_no_wire_has_a_reserved_name() -> None:
    assert {"small", "large", "integer", "table"} <= set(verilog._WORDS.split())


@simulates
@pytest.mark.parametrize(
    "arguments",
    [
        ["fp16_fma", "--flags", "--rounding", "SR8", "--pipeline", "2"],
        ["q4.12/q16.24/q4.12@RNE/SR16", "--vectors", "500"],
        ["nvfp4/fp32@RTZ:fused64x16g12e-139n", "--vectors", "100", "--pipeline", "1"],
        ["fp8_e5m2/e6m5@SR9", "--vectors", "500", "--random", "lfsr16:clocks=9"],
        ["fp8_e5m2/e6m5@SR13", "--vectors", "500", "--random", "lfsr16", "--eager", "--pipeline", "3"],
        ["bf16_add", "--rounding", "SR8", "--vectors", "500", "--random", "lfsr8"],
    ],
    ids=lambda a: a[0],
)
def test_the_command_line(arguments: list[str], tmp_path: Path) -> None:
    done = rtl(*arguments, "--out", "made", "--simulate", folder=tmp_path)
    assert done.returncode == 0 and "PASS" in done.stdout, done.stdout + done.stderr
    assert {path.suffix for path in (tmp_path / "made").iterdir()} == {".v", ".vectors", ".vvp"}
    again = rtl(*arguments, "--out", "made2", "--json", folder=tmp_path)
    told = json.loads(again.stdout)
    for suffix in (".v", "_tb.v", ".vectors"):  # the same seed, the same files
        name = told["name"] + suffix
        assert (tmp_path / "made" / name).read_bytes() == (tmp_path / "made2" / name).read_bytes()


@simulates
def test_a_wrong_design_fails(tmp_path: Path) -> None:
    done = rtl("fp8_e4m3/fp16", "--out", "made", folder=tmp_path)
    name = "fp8_e4m3_fp16_RNE"
    path = tmp_path / "made" / f"{name}.v"
    path.write_text(path.read_text().replace("a ^ b ^ c", "a ^ b | c"))
    build = ["iverilog", "-g2005", "-o", "x.vvp", f"{name}.v", f"{name}_tb.v"]
    subprocess.run(build, cwd=path.parent, check=True)
    said = subprocess.run(["vvp", "x.vvp"], cwd=path.parent, capture_output=True, text=True).stdout
    assert done.returncode == 0 and "FAIL" in said and "expected" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fp16_fmaa"], "unknown function 'fp16_fmaa'"),
        (["fp17/fp32"], "unknown format 'fp17'"),
        (["fp16_sqrt"], "there is no RTL of fp16_sqrt: choose one of convert, add, sub, mul, fma"),
        (["fp16:tree"], "say of how many, as in tree8"),
        (["fp64:exact"], "bits, more than the 1200"),
        (["fp16", "--flags"], "flags belong to function units"),
        (["fp16/fp32", "--rounding", "SR4"], "has its own rounding: write fp16/fp32@SR4"),
        (["fp16", "--pipeline", "9"], "0 to 3 pipeline registers, not 9"),
        (["fp16_add", "--pipeline", "9"], "0 to 4 pipeline registers, not 9"),
        (["fp8_e4m3/fp16@SR7", "--random", "lfsr6"], "draws 7 random bits a clock, more than the 6 of lfsr6"),
        (["fp8_e4m3/fp16@SR7:tree4", "--random", "lfsr16"], "draws 28 random bits a clock, more than the 16 of lfsr16"),
        (
            ["fp16_add", "--rounding", "SR9", "--random", "lfsr8"],
            "draws 9 random bits a clock, more than the 8 of lfsr8",
        ),
        (["fp16", "--random", "lfsr16"], "fp16@RNE rounds nothing stochastically: it needs no lfsr16"),
        (["fp16@SR4", "--random", "philox"], "there is no RTL of philox"),
        (["fp16@SR4", "--random", "lfsr99"], "unknown random source 'lfsr99'"),
        (
            ["fp16_mul", "--rounding", "SR4", "--eager"],
            "fp16_mul adds nothing: eager rounding is that of add, sub, fma",
        ),
        (
            ["fp16_add", "--eager"],
            "sums of floats by plain SR<k>, without flags; here they are rounded to e5m10 by RNE",
        ),
        (["fp16_add", "--rounding", "SR4c", "--eager"], "rounded to e5m10 by SR4c"),
        (["fp16_add", "--rounding", "SR4", "--flags", "--eager"], "rounded to e5m10 by SR4 with flags"),
        (["q4.4/q8.8@SR2", "--eager"], "here they are rounded to q8.8 by SR2"),
        (
            ["fp16@SR4:fused4", "--eager"],
            "eager rounding is that of sums of two numbers; fused(4, guard_bits=0) has others",
        ),
        (["fp8_e4m3/fp16@SR4:tree4", "--eager"], "no eager sum of numbers below those of its format, e5m10"),
        (["fp16_to_posit16"], "posits are operands of units, not their results"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_bad_input(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = rtl(*arguments, "--out", "made", folder=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


def test_conversions_have_no_more_than_they_need() -> None:
    """What cannot be shifted up has no counter of zeros, what cannot overflow no comparison."""
    for name, zeros, over in (
        ("fp32_to_bf16", False, True),
        ("fp32_to_e4m3fn", False, True),
        ("fp16_to_fp32", True, False),
        ("bf16_to_fp32", False, True),  # an equal range
        ("int8_to_fp16", True, False),
    ):
        text = design(name, "RTZ").verilog
        assert ("zeros" in text, bool(re.search(r"\bover\b", text))) == (zeros, over), name


def test_what_can_be_eager_is_priced_and_no_more() -> None:
    eager = "fp8_e4m3/fp16@SR7 bf16/fp32@SR8:tree4 bf16@SR8:systolic4 bf16/fp32@SR8:fused4 int8/q8.8@SR4 fp16@SR8c fp16"
    eager += " fp8_e4m3/fp32@SR8:exact fp8_e4m3/fp32@SR8:exact4 fp8_e4m3/fp32@SR8:blocked16(fp16@SR4) e4m3_add"
    eager += " fp8_e4m3/fp32@SR8:blocked16(fp16) e4m3_mul e4m3_fma fp16_to_e4m3 q4.4_add"
    seen: set[bool] = set()
    for text in eager.split():
        verdicts: list[bool] = []
        for make in (design, hu.cost):
            try:
                make(text, **({"rounding": "SR8"} if "_" in text and "/" not in text else {}), eager=True)
                verdicts.append(True)
            except hu.HalfulpError:
                verdicts.append(False)
        assert verdicts[0] == verdicts[1], text
        seen |= set(verdicts)
    assert seen == {True, False}
