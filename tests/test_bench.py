"""The benchmark: what is asked for, the same moments for all, every row runs, peers do the same operation."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from halfulp import cli
from halfulp.emulator.datapath import Datapath
from halfulp.emulator.errors import HalfulpError
from halfulp.reports import bench, peer_worker, peers
from halfulp.reports.bench import ASKED, BLAS, COPY, QUICK, WITH_FLAGS, Case, Plan, Trial
from halfulp.reports.bench_cases import _ended, _started, _stream, cases, operands, values

ROOT = Path(__file__).parents[1]
CONTRACTIONS = ("matmul", "conv2d", "spmv", "training", "import")
TINY = Plan(size=192, threads=2, repetitions=1, lines=50, side=5)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["halfulp", "bench", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            raise SystemExit(0)
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


# ---- what is asked for -----------------------------------------------------------------------------------------


def test_what_is_asked_for() -> None:
    assert Plan() == Plan(size=1 << 22, threads=2)
    assert ASKED == {
        "quantize float32": (0.9, COPY),
        "quantize float64": (0.8, COPY),
        "quantize SR": (0.35, COPY),
        "encode, decode": (0.5, COPY),
        "add, mul": (400, "M results/s"),
        "fma, div, sqrt": (150, "M results/s"),
        "any with p > 24": (30, "M results/s"),
        "vectors, verify": (1, "M lines/s"),
        "reference": (50, "k calls/s"),
        "import": (2, "imports/s"),
        "matmul, certified": (0.6, BLAS),
        "matmul, native fp32": (8, "GMAC/s"),
        "matmul, p <= 24": (1.2, "GMAC/s"),
        "matmul, SR": (0.4, "GMAC/s"),
        "matmul, fused": (0.6, "GMAC/s"),
        "matmul, exact": (1.5, "GMAC/s"),
        "matmul, fixed": (1.5, "GMAC/s"),
        "matmul, blocks": (0.6, "GMAC/s"),
        "conv2d": (1 / 1.3, "x matmul"),
        "spmv": (0.4, "x SciPy"),
        "training": (1 / 3, "x NumPy"),
    }
    assert WITH_FLAGS == 0.4
    measured = {(case.asked, case.flags) for case in cases()}
    assert {(asked, False) for asked in ASKED} <= measured
    flagged = [*list(ASKED)[:3], *list(ASKED)[4:7]]
    assert {(asked, True) for asked in flagged} <= measured


def test_each_row_is_asked_what_belongs_to_it() -> None:
    least = {case.label: case.least for case in cases()}
    assert len(least) == len(cases())
    assert least["quantize e4m3fn RNE float32"] == (0.9, COPY)
    assert least["quantize q4.12 RNE float64"] == (0.8, COPY)
    assert least["quantize bf16 SR8 float64"] == (0.35, COPY)
    assert least["quantize bf16 SR8 float64 flags"] == (pytest.approx(0.14), COPY)
    assert least["decode fp16 float64"] == (0.5, COPY)
    assert least["mul fp32 RTP float32"] == (400, "M results/s")
    assert least["sqrt e4m3fn SR8 float32 flags"] == (60, "M results/s")
    assert least["add e11m40 RTZ float64"] == least["fma fp64 SR8 float64"] == (30, "M results/s")
    assert least["vectors|verify f64_mul RNE lines"] is None  # the two commands of the pipe are judged alone
    assert least["matmul fp16 float64"] == (1.2, "GMAC/s") and least["matmul fp64 float64"] is None
    assert least["matmul int8/int32 float64"] == (0.6, BLAS)


# ---- measuring -------------------------------------------------------------------------------------------------


def case(trial: Trial, unit: str = "GB/s", asked: str = "quantize float32", flags: bool = False) -> Case:
    return Case("quantize", "fp16", "RNE", "float32", flags, unit, asked, lambda plan: trial)


def test_rounds_run_each_contestant_once_and_the_first_is_not_counted() -> None:
    order = []

    def contestant(name: str, seconds: list[float]):
        def once() -> float:
            order.append(name)
            return seconds.pop(0)

        return once

    a, b = contestant("a", [9, 1, 2]), contestant("b", [9, 3, 4])
    assert bench.interleaved([a, b], 2).tolist() == [[1, 3], [2, 4]]
    assert order == list("ababab")


def test_no_more_than_three_rounds_of_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])

    def once() -> float:
        now[0] += 6
        return 6.0

    assert len(bench.interleaved([once], 7)) == 3
    assert len(bench.interleaved([once], 2)) == 2


def test_figures_are_rates_and_ratios_of_the_best_and_of_the_median_round() -> None:
    ours, copy = [9.0, 2.0, 1.0, 4.0], [9.0, 1.0, 2.0, 2.0]
    trial = Trial(lambda: ours.pop(0), 8e9, lambda: copy.pop(0), 4e9)
    figure = bench.measure(case(trial), Plan(repetitions=3))
    assert (figure.best, figure.median) == (8.0, 4.0)  # GB/s
    assert figure.ratio == 2.0  # 8 against 4 GB/s
    assert figure.ratio_median == 1.0  # of 1, 4, 1
    assert (figure.least, figure.least_unit, figure.judged, figure.met) == (0.9, COPY, 2.0, True)
    slow = Trial(lambda: 1.0, 35e6)
    asked = "any with p > 24"
    met = [bench.measure(case(slow, "M results/s", which, f), Plan(repetitions=1)).met for which, f in
           ((asked, False), ("fma, div, sqrt", False), ("fma, div, sqrt", True), ("", False))]  # fmt: skip
    assert met == [True, False, False, None]


def test_smaller_arrays_are_not_judged() -> None:
    figure = bench.measure(case(Trial(lambda: 1.0, 1.0, lambda: 1.0, 1.0)), QUICK)
    assert figure.least is None and figure.met is None and bench.summary([figure]) == []


def test_the_summary_counts_what_is_met_and_names_the_least() -> None:
    def figure(ratio: float, flags: bool = False) -> bench.Figure:
        trial = Trial(lambda: 1.0, ratio, lambda: 1.0, 1.0)
        return replace(bench.measure(case(trial, flags=flags), Plan(repetitions=1)), format=f"q{ratio}")

    rows = bench.summary([figure(0.95), figure(0.5), figure(2.0), figure(0.4, flags=True)])
    assert [list(row.values()) for row in rows] == [
        ["quantize float32", "0.9 x copy", "2 of 3", "0.5", "quantize q0.5 RNE float32"],
        ["quantize float32 with flags", "0.36 x copy", "1 of 1", "0.4", "quantize q0.4 RNE float32"],
    ]


def test_a_timed_call_is_given_its_arguments_and_tells_its_seconds() -> None:
    seen = []
    once = bench.timed(lambda *a, **o: (seen.append((a, o)), time.sleep(0.002)), 1, out=2)
    assert 0.002 <= once() < 1 and seen == [((1,), {"out": 2})]


def test_values_spread_over_sixteen_binades_and_are_the_formats_own() -> None:
    x = values(4096, "float32")
    assert x.dtype == np.float32 and 2**-8 <= np.abs(x).min() < 2**-7.9 and 2**7.9 < np.abs(x).max() <= 2**8
    assert (values(4096, "float32") == x).all() and (values(4096, "float32", 1) != x).any()
    assert [len(operands(name, "fp16", "float32", 8)) for name in ("add", "fma", "sqrt")] == [2, 3, 1]
    (root,) = operands("sqrt", "e4m3fn", "float32", 4096)
    assert (root >= 0).all() and len(np.unique(root)) <= 127


@pytest.mark.parametrize(
    "operation", sorted({case.operation for case in cases()} - {"vectors", "verify", "vectors|verify"})
)
def test_every_row_runs(operation: str) -> None:
    for each in cases():
        if each.operation == operation:
            figure = bench.measure(each, TINY)
            rates = [figure.best, figure.median, *([] if figure.ratio is None else [figure.ratio, figure.ratio_median])]
            assert all(0 < rate < math.inf for rate in rates), each.label
            assert (figure.ratio is not None) == (each.unit in ("GB/s", "GMAC/s", "steps/s")), each.label
            assert set(bench.shown(figure)) >= {"operation", "best", "ratio", "at least", "met"}


def test_commands_are_run_in_processes_of_their_own() -> None:
    (piped,) = bench.chosen(cases(), r"^vectors\|verify f16_add")
    trial = piped.trial(TINY)
    assert trial.work == 50 and 0 < trial.run() < math.inf
    with pytest.raises(HalfulpError, match=r"halfulp vectors f16_ad -n 50 failed with exit code 2: error: "):
        _stream("verify", "f16_ad", TINY)
    with pytest.raises(HalfulpError, match=r"halfulp verify f16_ad failed with exit code 2: error: "):
        _ended(_started(["verify", "f16_ad"], TINY))


@pytest.mark.slow
def test_every_row_of_commands_runs() -> None:
    for each in bench.chosen(cases(), "lines"):
        figure = bench.measure(each, replace(TINY, lines=200_000))
        assert 0 < figure.best < 100, each.label  # million lines a second: more is no measurement


# ---- the sub-command -------------------------------------------------------------------------------------------


def test_it_prints_a_table_and_writes_the_same_as_json(run, tmp_path: Path) -> None:
    chosen = ("--quick", "--only", "(quantize|add) fp16 (RNE|SR8) float32")
    code, text, _ = run(*chosen)
    assert code == 0 and "cores; 2 threads, 16,384 elements" in text and "NO" not in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("quantize", "add"))]
    assert [row[:4] for row in rows] == [
        [operation, "fp16", mode, "float32"]
        for operation in ("quantize", "add")
        for mode in ("RNE", "SR8", "RNE", "SR8")
    ]
    code, text, _ = run(*chosen, "--json", "--out", str(tmp_path / "new"), "--threads", "1", "--size", "4096")
    document = json.loads(text)
    assert code == 0 and document == json.loads((tmp_path / "new" / "bench.json").read_text())
    assert document["plan"] == {"size": 4096, "threads": 1, "repetitions": 3, "lines": 1 << 15, "side": 48}
    assert {"date", "cpu", "cores", "versions", "load"} <= set(document["machine"])
    assert {"python", "numpy", "numba"} <= set(document["machine"]["versions"])
    figure = document["figures"][0]
    assert (
        figure["operation"] == "quantize" and figure["best"] > 0 and figure["work"] == 4096 * 8 and figure["ratio"] > 0
    )


def test_check_exits_with_1_if_something_is_missed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    only = ("--only", "^reference e4m3fn_mul", "--repetitions", "1")
    for least, exit_code, word in ((1e-6, 0, "yes"), (1e9, 1, "NO")):
        monkeypatch.setitem(ASKED, "reference", bench.Asked(least, "k calls/s"))
        code, text, _ = run(*only, "--check")
        assert code == exit_code and f" {word}" in text and "asked for" in text
        assert run(*only)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "("], "not a regular expression"),
        (["--only", "cosine"], "is found in no row"),
        (["--size", "0"], "size must be a positive integer"),
        (["--threads", "0"], "threads must be a positive integer"),
        (["--quick", "--check"], "--check needs arrays of at least 4194304 elements"),
        (["--out", __file__], "cannot be made a folder"),
        (["--only", "quantize", "--python", "/no/such/python"], "/no/such/python cannot be run"),
        (["--only", "quantize", "--python", "/bin/false"], "must be Python 3.11 or later, with NumPy"),
    ],
)
def test_bad_input_is_told_in_one_sentence(run, arguments: list[str], words: str) -> None:
    code, text, error = run(*arguments)
    assert code == 2 and text == ""
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


# ---- peers -----------------------------------------------------------------------------------------------------


def installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_peers_are_found_where_they_are_installed() -> None:
    assert peers.PEERS == ("ml_dtypes", "qtorch", "apytypes", "gfloat", "pychop", "verifloat")
    found = peers.find([sys.executable])
    assert set(found) == {name for name in peers.PEERS if installed(name)}
    assert found["ml_dtypes"] == (sys.executable, metadata.version("ml_dtypes"))


def test_peers_run_in_the_same_rounds_and_agree() -> None:
    chosen = bench.chosen(peers.comparisons(), "quantize .* RNE|add|sqrt .* RNE")
    found = {name: (sys.executable, "") for name in ("ml_dtypes", "gfloat", "apytypes") if installed(name)}
    rivals = list(peers.compared(chosen, TINY, found, lambda label: None))
    assert {rival.peer for rival in rivals} == set(found)
    assert len([rival for rival in rivals if rival.peer == "ml_dtypes"]) == 10
    for rival in rivals:
        assert not rival.error and rival.equal == rival.of == TINY.size, rival
        assert rival.faster == rival.ours / rival.theirs > 0 and rival.flags is False
        assert peers.shown(rival)["same codes"] == "192 of 192"


def test_random_roundings_of_peers_are_neighbours() -> None:
    chosen = bench.chosen(peers.comparisons(), "SR8")
    found = {name: (sys.executable, "") for name in ("gfloat", "apytypes", "pychop") if installed(name)}
    for rival in peers.compared(chosen, TINY, found, lambda label: None):
        assert not rival.error and rival.equal == rival.of, rival


def test_a_peer_that_is_missing_fails_or_dies_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (quantize,) = bench.chosen(peers.comparisons(), "quantize fp16 RNE float32")
    absent = next((name for name in ("qtorch", "verifloat", "pychop", "apytypes") if not installed(name)), None)
    if absent:
        (rival,) = peers.compared([quantize], TINY, {absent: (sys.executable, "")}, lambda label: None)
        assert rival.error.startswith("ModuleNotFoundError") and rival.theirs == rival.faster == 0.0
        assert peers.shown(rival)["same codes"] == rival.error
    (rival,) = peers.compared([quantize], TINY, {"ml_dtypes": ("/bin/false", "")}, lambda label: None)
    assert rival.error == "its process has died" and rival.of == 0


def test_products_of_matrices_are_those_of_peers() -> None:
    chosen = bench.chosen(peers.comparisons(), "^matmul")
    found = {name: (sys.executable, "") for name in peers.PEERS if installed(name) and name != "qtorch"}
    rivals = list(peers.compared(chosen, TINY, found, lambda label: None))
    assert len([rival for rival in rivals if rival.peer == "ml_dtypes"]) == 2
    assert {rival.peer for rival in rivals} == set(found) & {"ml_dtypes", "apytypes", "verifloat"}
    for rival in rivals:
        assert not rival.error and rival.of == TINY.side**2 and rival.faster > 0, rival
        assert not rival.flags and peers.shown(rival)["unit"] == "GMAC/s"
        if (rival.peer, rival.format) != ("apytypes", "q4.12:product=q4.12"):  # whose sums do not saturate
            assert rival.equal == rival.of, rival


def test_a_product_of_matrices_is_asked_for_in_the_parts_of_its_datapath(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[peer_worker.Task] = []
    monkeypatch.setitem(peer_worker.ADAPTERS, "stub", asked.append)
    for name in peers.DATAPATHS:
        dp = Datapath.parse(name)
        assert dp.a == dp.b and dp.rounding == dp.output_rounding  # one of each is told
        assert dp.product is None or dp.product_rounding == dp.rounding
        each = peers.Comparison("matmul", name, "", "float64")
        side = peers.SLOW_SIDE if "SR" in name else peers.SIDE
        assert each.label == f"matmul {name} float64" and each.operands(Plan())[1].shape == (side, side)
        peer_worker.Worker().prepare(peer="stub", operands=[], **each.task())
    fp16, fp32 = peer_worker.parsed("e5m10"), peer_worker.parsed("e8m23")
    tasks = dict(zip(peers.DATAPATHS, asked, strict=True))
    assert tasks["fp16@SR8"] == ("matmul", fp16, "SR8", [], ("", fp16, fp16, None))
    assert tasks["fp16/fp32:exact"].accumulation == ("exact", fp32, fp32, None)
    assert tasks["fp16:tree:product=fp16"].accumulation == ("tree", fp16, fp16, fp16)


@pytest.mark.parametrize(("name", "same"), [("fp16@RTZ", 24), ("fp16@SR8", 25), ("q4.12:product=q4.12", 24)])
def test_sums_are_the_same_or_of_sr_between_the_bounds(name: str, same: int, tmp_path: Path) -> None:
    comparison = peers.Comparison("matmul", name, "", "float64")
    inputs = comparison.operands(TINY)
    theirs = comparison.call()(*inputs)
    stub = SimpleNamespace(error="", ask=lambda do, file, count: np.save(file, theirs.ravel()[:count]))
    assert peers._agreement(comparison, inputs, stub, tmp_path) == (25, 25)
    low, high = (comparison.bounds()[i].call()(*inputs) for i in (0, -1))
    theirs[0, 0] = (low[0, 0] + high[0, 0]) / 2 + (same == 24) * 2.0**-12
    assert peers._agreement(comparison, inputs, stub, tmp_path) == (same, 25)
    theirs[0, 1] = high[0, 1] + 1
    assert peers._agreement(comparison, inputs, stub, tmp_path) == (same - 1, 25)


def test_peers_and_absent_ones_are_printed(run) -> None:
    code, text, _ = run("--quick", "--size", "512", "--peers", "--only", "quantize e4m3fn RNE float64$")
    assert code == 0 and "times faster" in text and "512 of 512" in text
    told = dict(line.split(maxsplit=1) for line in text.splitlines()[-len(peers.PEERS) :])
    assert list(told) == list(peers.PEERS)
    for name, version in told.items():
        assert version == (metadata.version(name) if installed(name) else "not installed")
    code, text, _ = run("--quick", "--size", "512", "--peers", "--only", "quantize e4m3fn RNE float64$", "--json")
    told = json.loads(text)["peers"]
    assert told["installed"]["ml_dtypes"]["version"] == metadata.version("ml_dtypes")
    assert set(told["installed"]) | set(told["not installed"]) == set(peers.PEERS)
    assert told["figures"][0]["equal"] == 512


def test_the_worker_answers_errors_and_goes_on() -> None:
    with peers.Process(sys.executable, 1) as process:
        assert process.ask("sample", file="x", count=1) == {} and process.error.startswith("AssertionError")
        assert not process.prepare(peer="ml_dtypes", operation="fma", format="e8m7", rounding="RNE", operands=[])
        assert process.error == "" and process.run() == math.inf and process.error
    assert peer_worker.parsed("e4m3fn") == (4, 3, "fn") and peer_worker.parsed("q8.8w") == (8, 8, True)
    with pytest.raises(ValueError, match="unknown format posit16"):
        peer_worker.parsed("posit16")


def test_the_measurement_that_the_readme_quotes_meets_all_that_is_asked() -> None:
    (file,) = (ROOT / "reports" / "measured").glob("bench-*.json")
    document = json.loads(file.read_text())
    judged = [x for x in document["figures"] if x["least"] and not x["asked"].startswith(CONTRACTIONS)]
    quoted = {asked for asked in ASKED if not asked.startswith(CONTRACTIONS)}
    assert all(figure["met"] for figure in judged) and {figure["asked"] for figure in judged} == quoted
    readme = (ROOT / "README.md").read_text()
    assert f"reports/measured/{file.name}" in readme and document["machine"]["date"][:10] in readme
    figures = [bench.Figure(**{name: each for name, each in x.items() if name != "met"}) for x in judged]
    least = {row["asked for"]: float(row["least found"]) for row in bench.summary(figures)}
    lines = [line.split("|") for line in readme.splitlines() if line.startswith("|") and "million" in line]
    kinds = ["add, mul", "fma, div, sqrt", "any with p > 24", "vectors, verify"]
    for asked, (_, _, _, found, *_) in zip(kinds, lines, strict=True):
        assert float(found) == pytest.approx(least[asked], rel=0.02)


def test_the_measured_contractions_are_quoted_as_they_are_missed_ones_included() -> None:
    (file,) = (ROOT / "reports" / "measured").glob("contractions-*.json")
    figures = [
        bench.Figure(**{name: each for name, each in x.items() if name != "met"})
        for x in json.loads(file.read_text())["figures"]
    ]
    readme = (ROOT / "README.md").read_text()
    assert f"reports/measured/{file.name}" in readme
    rows = [line.split("|") for line in readme.splitlines() if re.search(r"\| \d of \d \|$", line)]
    quoted = sorted((row[-3].strip(), row[-2].strip()) for row in rows)
    assert quoted == sorted((row["least found"], row["met"]) for row in bench.summary(figures))


def test_the_measured_peers_are_quoted_as_they_are() -> None:
    (file,) = (ROOT / "reports" / "measured").glob("peers-*.json")
    figures = [peers.Rival(**row) for row in json.loads(file.read_text())["peers"]["figures"]]
    least, *others = sorted(rival.faster for rival in figures)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"reports/measured/{file.name}" in readme
    assert f"{others[0]:.1f} to {others[-1]:.0f} times as fast in {len(others)} of {len(figures)} comparisons" in readme
    assert f"is {least:.1f} times slower" in readme
