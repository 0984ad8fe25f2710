"""``halfulp vectors`` and ``halfulp verify``: the protocol, every option, malformed lines, streaming, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from halfulp import cli_check
from halfulp.emulator.conventions import Conventions
from halfulp.emulator.functions import function
from halfulp.emulator.scoreboard import Scoreboard
from halfulp.kernels import check
from halfulp.kernels.cases import Cases
from halfulp.kernels.lines import lines

FUNCTIONS = [
    *("f16_add", "f32_mulAdd", "f64_sqrt", "f32_to_f16", "f32_to_i32", "i64_to_f64", "f32_roundToInt", "f64_le_quiet"),
    *("f32_rem", "bf16_to_f32", "e4m3fn_mul", "q4.12_add", "posit16_mul", "fp8_e4m3_dot4_to_fp32", "f16_scalb"),
    *("e4m3fn_to_q4.12", "bf16_classify", "e2m3finite_minimum", "e5m2fnuz_div", "f16_next_up", "q8.8w_mul"),
    *("mxfp4_dot32", "nvfp4_dot16", "mxfp6_e2m3_dot32", "binary8p3se_mul", "e8m0_to_f32"),
]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    """Puts bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


def answers(name: str, text: str, **options) -> None:
    """Every line is operands, result and flags in full upper-case digits, and right by the definition."""
    unit = function(name, **options)
    bits, _ = check.columns(unit)
    for line in text.splitlines():
        words = line.split(" ")
        assert [len(word) for word in words] == [-(-width // 4) for width in bits] and line == line.upper()
        *codes, code, flags = (int(word, 16) for word in words)
        random = codes.pop() if unit.random_bits else 0
        assert unit(*codes, random=random) == (code, flags), line


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vectors_are_right_and_verified(name: str, run, stdin) -> None:
    code, text, _ = run("vectors", name, "-n", "200")
    assert code == 0 and len(text.splitlines()) == 200
    answers(name, text)
    stdin(text.encode())
    code, told, _ = run("verify", name)
    assert code == 0 and told.startswith(f"{name}") and told.endswith("200 checked, no mismatch\n")


ROUNDINGS = {
    "RNE": ["-rnear_even", "--rnear-even"],
    "RTZ": ["-rminMag", "--rminMag"],
    "RTN": ["-rmin", "--rmin"],
    "RTP": ["-rmax", "--rmax"],
    "RNA": ["-rnear_maxMag", "--rnear-maxMag"],
    "RTO": ["-rodd", "--rodd"],
}


@pytest.mark.parametrize(("rounding", "spellings"), ROUNDINGS.items())
def test_rounding_in_every_spelling(rounding: str, spellings: list[str], run, stdin) -> None:
    texts = {run("vectors", "f16_mul", "-n", "300", *words)[1] for words in (["--rounding", rounding], *zip(spellings))}
    (text,) = texts
    answers("f16_mul", text, rounding=rounding)
    stdin(text.encode())
    assert run("verify", "f16_mul", spellings[0])[0] == 0
    stdin(text.encode())
    assert run("verify", "f16_mul", *ROUNDINGS["RTP" if rounding != "RTP" else "RTN"][:1])[0] == 1


@pytest.mark.parametrize(
    ("name", "words", "options"),
    [
        ("f32_to_f16", ["-tininessbefore"], {"conventions": Conventions(tininess="before")}),
        ("f32_to_f16", ["--tininess-before"], {"conventions": Conventions(tininess="before")}),
        ("f32_to_f16", ["--tininess", "before", "-tininessafter"], {}),
        ("f16_roundToInt", ["-exact"], {"exact": True}),
        ("f16_to_i32", ["--exact"], {"exact": True}),
        ("f16_to_i32", ["-exact", "-notexact"], {}),
        ("f16_add", ["--nan", "x86"], {"conventions": Conventions(nan="x86")}),
        ("f16_mul", ["--daz", "--ftz"], {"conventions": Conventions(daz=True, ftz=True)}),
        ("f16_add", ["--sr", "4"], {"rounding": "SR4"}),
        ("f16_add", ["--sr=4c"], {"rounding": "SR4c"}),
        ("f16_to_i32_r_minMag", ["-rmax"], {}),
    ],
)
def test_options_reach_the_function(name: str, words: list[str], options: dict, run, stdin) -> None:
    code, text, _ = run("vectors", name, "-n", "2000", *words)
    assert code == 0
    answers(name, text, **options)
    stdin(text.encode())
    assert run("verify", name, *words)[0] == 0
    if options and "rounding" not in options:
        stdin(text.encode())
        assert run("verify", name)[0] == 1, "the option makes no difference here"


def test_levels_seeds_and_numbers(run) -> None:
    text = {words: run("vectors", "f16_add", *words)[1] for words in ((), ("-level", "2", "-n", "70000"))}
    assert [len(lines.splitlines()) for lines in text.values()] == [65536, 70000]
    assert text[()].splitlines()[:500] != text[("-level", "2", "-n", "70000")].splitlines()[:500]
    first = run("vectors", "f16_add", "-n", "100")[1]
    assert text[()].startswith(first) and first == run("vectors", "f16_add", "-n", "100", "-seed", "1")[1]
    assert first != run("vectors", "f16_add", "-n", "100", "--seed", "2")[1]
    assert len(run("vectors", "e4m3fn_mul")[1].splitlines()) == 65536
    assert run("vectors", "f16_add", "-n", "1", "-prefix", "-exact it is")[1].splitlines()[0] == "-exact it is"


@pytest.mark.parametrize(("words", "columns"), [(["f16"], [4]), (["ui64"], [16]), (["e4m3fn", "3"], [2] * 3)])
def test_types_give_operands_alone(words: list[str], columns: list[int], run) -> None:
    code, text, _ = run("vectors", *words, "-n", "50")
    assert code == 0 and len(text.splitlines()) == 50
    assert all([len(word) for word in line.split(" ")] == columns for line in text.splitlines())


def test_other_formats(run, stdin) -> None:
    plain = run("vectors", "f16_eq", "-n", "3")[1]
    csv = run("vectors", "f16_eq", "-n", "3", "--format", "csv")[1]
    memory = run("vectors", "f16_eq", "-n", "3", "--format", "readmemh")[1]
    assert csv == "a,b,result,flags\n" + plain.replace(" ", ",")
    assert memory == (
        "// f16_eq: a[43:28] b[27:12] result[11:8] flags[7:0]\n"
        '// reg [43:0] vectors [0:2]; $readmemh("...", vectors);\n' + plain.replace(" ", "_")
    )
    for text, words in ((csv, ["--format", "csv"]), (memory, ["--format", "readmemh"]), (memory, [])):
        stdin(text.encode())
        code, told, _ = run("verify", "f16_eq", *words)
        assert code == 0 and "3 checked" in told
    stdin(csv.encode())
    assert run("verify", "f16_eq")[0] == 2


def spoiled(text: str, record: int, word: int, digits: str) -> str:
    rows = [line.split() for line in text.splitlines()]
    rows[record - 1][word] = digits
    return "".join(" ".join(row) + "\n" for row in rows)


def test_mismatches_are_explained_and_counted(run, stdin, tmp_path: Path) -> None:
    good = "3C00 1001 3C01 01\n3C00 3C00 4000 00\n7E00 0000 7E00 00\n"
    stdin(spoiled(spoiled(good, 1, 2, "3C00"), 2, 3, "01").encode())
    code, text, _ = run("verify", "f16_add", "-")
    assert code == 1
    assert text.splitlines() == [
        "line 1: f16_add RNE",
        "  a        3C00  0|01111|0000000000  1",
        "  b        1001  0|00100|0000000001  0.000488758087158203125",
        "  theirs   3C00  0|01111|0000000000  1             inexact",
        "  ours     3C01  0|01111|0000000001  1.0009765625  inexact",
        "  exact    2098177/2097152 = 1.0004887580871582031...",
        "  apart    theirs 1 ulp below ours, the exact result 0.4995 ulp below ours",
        "line 2: f16_add RNE",
        "  a        3C00  0|01111|0000000000  1",
        "  b        3C00  0|01111|0000000000  1",
        "  theirs   4000  0|10000|0000000000  2  inexact",
        "  ours     4000  0|10000|0000000000  2  -",
        "  exact    2",
        "  apart    theirs = ours, the exact result = ours",
        "  flags    theirs raise inexact",
        "f16_add RNE: 3 checked, 2 mismatches",
        "             1  result differs",
        "             1  only flags differ",
        "  of which:",
        "             1  inexact result",
        "             1  exact result",
    ]
    file = tmp_path / "lines"
    file.write_text(spoiled(spoiled(good, 3, 2, "FE01"), 2, 3, "01"))
    assert run("verify", "f16_add", str(file), "--ignore-nan-payload", "--ignore-flags")[0] == 0
    code, text, _ = run("verify", "f16_add", str(file), "--ignore-flags")
    assert code == 1 and "1  only the NaN payload differs" in text and "raise" not in text
    code, text, _ = run("verify", "f16_add", str(file), "--ignore-nan-payload")
    assert code == 1 and "1 mismatch\n" in text and "line 2:" in text and "line 3:" not in text
    assert "2 mismatches" in run("verify", "f16_add", str(file), "--ignore-nan-payload", "-checkNaNs")[1]


def test_no_more_than_wanted_are_explained(run, stdin) -> None:
    wrong = "3C00 3C00 0000 00\n" * 50
    for words, shown in (([], 20), (["-errors", "3"], 3), (["--max-errors", "0"], 50)):
        stdin(wrong.encode())
        code, text, _ = run("verify", "f16_add", *words)
        assert code == 1 and text.count("\n  theirs ") == shown and "50 checked, 50 mismatches" in text


def test_json(run, stdin) -> None:
    stdin(b"3C00 3C00 4000 00\n3C00 1000 3C01 01\n")
    code, text, _ = run("verify", "f16_add", "--json")
    told = json.loads(text)
    assert code == 1 and (told["checked"], told["mismatches"]) == (2, 1)
    assert told["differences"]["result differs"] == 1 and told["cases"] == {"tie": 1}
    (first,) = told["first"]
    assert first["where"] == "line 2" and first["operands"] == ["3C00", "1000"]
    assert (first["theirs"], first["ours"]) == ({"code": "3C01", "flags": 1}, {"code": "3C00", "flags": 1})


def test_malformed_lines_end_it_but_the_counts_are_kept(run, stdin) -> None:
    stdin(b"3C00 3C00 4000 00\n3C00 3C00 4001 00\n\n3C00 xx00 4000 00\n")
    code, text, error = run("verify", "f16_add")
    assert code == 2 and "f16_add RNE: 2 checked, 1 mismatch\n" in text and "line 2: f16_add" in text
    assert error.strip().splitlines()[-1] == (
        "error: line 4: 'xx00' in column 'b' is not hexadecimal (unknown bits of a simulation?); "
        "4 columns are expected (a, b, result, flags)."
    )
    stdin(b"3C00 3C00 4000 00\nzz\n")
    code, text, error = run("verify", "f16_add", "--json")
    assert code == 2 and json.loads(text)["checked"] == 1 and json.loads(text)["complete"] is False


def test_lines_without_flags_and_too_few_lines(run, stdin) -> None:
    stdin(b"3C00 3C00 4000\n3C00 3C00 4001\n")
    code, text, _ = run("verify", "f16_add", "--no-flags", "-n", "2")
    assert code == 1 and "2 checked, 1 mismatch\n" in text
    stdin(b"3C00 3C00 4000 00\n")
    code, text, error = run("verify", "f16_add", "-n", "2")
    assert code == 2 and "there were 1 lines, not 2." in error and "Not complete" in text


def test_what_is_ignored_of_nans_and_integers(run, stdin) -> None:
    """A signaling NaN is not among it: no operation gives one."""
    for line, options, wrong in (
        (b"7C01 3C00 7E01 10", ["--ignore-nan-payload"], 0),
        (b"7C01 3C00 7E01 10", ["-checkAll"], 1),
        (b"7C01 3C00 7C01 10", ["--ignore-nan-payload"], 1),
    ):
        stdin(line + b"\n")
        assert run("verify", "f16_add", *options)[0] == wrong
        board = Scoreboard(function("f16_add"), ignore_nan_payload="-checkAll" not in options)
        a, b, result, flags = (int(word, 16) for word in line.split())
        assert board.check((a, b), result, flags) == (not wrong)
    for options, wrong in ([], 1), (["--ignore-invalid-integers"], 0), (["-checkInvInts"], 1):
        stdin(b"7E00 80000000 10\n")
        assert run("verify", "f16_to_i32", *options)[0] == wrong
        board = Scoreboard(function("f16_to_i32"), ignore_invalid_integers="--ignore-invalid-integers" in options)
        assert board.check((0x7E00,), 0x80000000, 0x10) == (not wrong)


def test_a_scoreboard_that_saw_nothing_is_no_success() -> None:
    with pytest.raises(AssertionError, match="0 checked"):
        Scoreboard(function("f16_add")).finish()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "f16_add"], "there was no line to check"),
        (["verify", "f16_ad"], "did you mean f16_add"),
        (["verify", "f16_add", "no/such/file"], "No such file"),
        (["vectors", "f128_add"], "f128 and extF80 are not here"),
        (["vectors", "f16_add", "-level", "3"], "the level is 1 or 2"),
        (["vectors", "f16_add", "--nan", "arm"], "NaN convention"),
        (["vectors", "f16_add", "--tininess", "never"], "tininess is"),
        (["vectors", "f16_add", "--sr", "40"], "SR needs 1 to 32"),
        (["vectors", "f16_add", "-n", "0"], "-n"),
        (["vectors", "f16_add", "--format", "vcd"], "--format"),
        (["vectors", "f16_add", "-rfoo"], "-r"),
        (["vectors"], "FUNCTION"),
    ],
)
def test_bad_usage(words: list[str], said: str, run, stdin) -> None:
    stdin(b"")
    code, _, error = run(*words)
    assert code == 2 and said in error and "Traceback" not in error


def test_testfloats_options_are_understood() -> None:
    words = "f16_add -rnear_maxMag --sr=8 -level 2 -prefix -rmin -errors=0 -n 7 --rodd x -"
    ours = "f16_add --rounding RNA --rounding SR8 --level 2 --prefix -rmin --max-errors 0 -n 7 --rounding RTO x -"
    assert " ".join(cli_check.translated(words.split())) == ours


def test_a_pipe_that_never_ends_is_left_when_the_reader_has_enough() -> None:
    program = [sys.executable, "-m", "halfulp", "vectors", "f16_add", "-forever"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert len(process.stdout.readline()) == 18
        process.stdout.close()
        assert process.wait(60) == 0 and process.stderr.read() == b""


def test_arrays_of_mismatches_are_counted_as_the_scoreboard_counts() -> None:
    """The vectorised comparison against one check after the other, on results spoiled at random."""
    for name in ("f16_mul", "e4m3fn_add", "posit8_add", "f16_to_i32"):
        unit = function(name)
        columns = check.answered(unit, Cases(unit.operands).columns(0, 3000))
        rng = np.random.default_rng(1)
        places = rng.random(3000)
        columns[-2] ^= (places < 0.2).astype(np.uint64)
        columns[-1] ^= ((places > 0.1) & (places < 0.3)).astype(np.uint64)
        for options in ({}, {"ignore_flags": True}, {"ignore_nan_payload": True}):
            fast, slow = Scoreboard(unit, **options), Scoreboard(unit, **options)
            check.verify(fast, io.BufferedReader(io.BytesIO(lines(columns, check.columns(unit)[0]))))
            for number, (*codes, code, flags) in enumerate(columns.T.tolist(), 1):
                slow.check(codes, code, flags, where=f"line {number}")
            assert +fast.mismatches == +slow.mismatches and fast.cases == slow.cases
            assert [(where, str(found)) for where, found in fast.first] == [(w, str(f)) for w, f in slow.first]
