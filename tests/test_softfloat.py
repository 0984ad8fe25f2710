"""Drop-in: lines made with Berkeley SoftFloat 3e, TestFloat's own reference, pass ``halfulp verify``.

SoftFloat comes with pip as softfloatpy, built with RISC-V's rules. It has not to-odd; apart from this, every function
of TestFloat's on f16, f32, f64 and bf16 is compared in every mode, result, NaN and flags alike.
"""

from __future__ import annotations

import io
import itertools
import re

import pytest
from halfulp.emulator.conventions import Conventions
from halfulp.emulator.functions import function
from halfulp.emulator.scoreboard import Scoreboard
from halfulp.kernels import check
from halfulp.kernels.cases import Cases

softfloat = pytest.importorskip("softfloatpy", reason="needs softfloatpy: pip install 'halfulp[test]'")

FLOATS, INTEGERS = ("f16", "f32", "f64"), ("i32", "ui32", "i64", "ui64")
OPERATIONS = (
    *("add", "sub", "mul", "mulAdd", "div", "rem", "sqrt", "roundToInt"),
    *("eq", "le", "lt", "eq_signaling", "le_quiet", "lt_quiet"),
)
FUNCTIONS = [
    *(f"{fmt}_{operation}" for fmt, operation in itertools.product(FLOATS, OPERATIONS)),
    *(f"{a}_to_{b}" for a, b in itertools.permutations(FLOATS, 2)),
    *(f"{a}_to_{b}" for pair in itertools.product(FLOATS, INTEGERS) for a, b in (pair, pair[::-1])),
    *("bf16_to_f32", "f32_to_bf16"),
]
MODES = {"RNE": "NEAR_EVEN", "RTZ": "MIN_MAG", "RTN": "MIN", "RTP": "MAX", "RNA": "NEAR_MAX_MAG"}
TYPES = {"f": "Float", "bf": "BFloat", "i": "Int", "ui": "UInt"}


def type_of(name: str):
    letters, bits = re.fullmatch(r"([a-z]+)(\d+)", name).groups()  # type: ignore[union-attr]
    return getattr(softfloat, TYPES[letters] + bits), int(bits)


def softfloat_lines(name: str, cases, mode: str, tininess: str, exact: bool) -> str:
    """What testfloat_gen would write for these operands."""
    source, _, operation = name.partition("_")
    kind, bits = type_of(source)
    result = type_of(operation[3:])[1] if operation.startswith("to_") else bits
    call = getattr(softfloat, name.replace("mulAdd", "mul_add").replace("roundToInt", "round_to_int"))
    integral = operation == "roundToInt" or (operation[3:] in INTEGERS and source not in INTEGERS)
    options = {"exact": exact} if integral else {}
    softfloat.set_rounding_mode(softfloat.RoundingMode[MODES[mode]])
    softfloat.set_tininess_mode(softfloat.TininessMode[f"{tininess.upper()}_ROUNDING"])
    rows = []
    for codes in cases:
        softfloat.set_exception_flags(0)
        got = call(*(kind.from_bytes(code.to_bytes(bits // 8, "big")) for code in codes), **options)
        shown = str(int(got)) if isinstance(got, bool) else f"{int.from_bytes(got.to_bytes(), 'big'):0{result // 4}X}"
        flags = int(softfloat.get_exception_flags())
        rows.append(" ".join([*(f"{code:0{bits // 4}X}" for code in codes), shown, f"{flags:02X}"]))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_softfloats_lines_pass(name: str) -> None:
    cases = Cases(function(name).operands, seed=3, number=1000).columns(0, 1000).T.tolist()
    variants = [(mode, "after", False) for mode in MODES] + [("RNE", "before", True), ("RTP", "before", True)]
    for mode, tininess, exact in variants:
        unit = function(name, mode, Conventions(tininess), exact)
        board = Scoreboard(unit)
        text = softfloat_lines(name, cases, mode, tininess, exact)
        check.verify(board, io.BufferedReader(io.BytesIO(text.encode())))  # type: ignore[arg-type]
        assert board.checked == 1000 and not board.failed, board.details
