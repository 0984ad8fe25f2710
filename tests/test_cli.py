"""The command line: what it prints, its exit codes, and one clear sentence for every kind of bad input."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


def test_quantize_prints_value_code_exact_value_and_flags(run) -> None:
    code, text, _ = run(
        "quantize",
        "--format",
        "fp8_e4m3",
        "--rounding",
        "RNE",
        *["0.3", "448", "449", "500", "-0.0", "nan", "inf", "1e-9"],
    )
    assert code == 0
    assert [line.split() for line in text.splitlines()] == [
        ["input", "value", "code", "exact", "flags"],
        ["0.3", "0.3125", "0x2a", "5*2^-4", "inexact"],
        ["448", "448.0", "0x7e", "7*2^6", "-"],
        ["449", "448.0", "0x7e", "7*2^6", "inexact"],
        ["500", "nan", "0x7f", "nan", "inexact|overflow"],
        ["-0.0", "-0.0", "0x80", "-0", "-"],
        ["nan", "nan", "0x7f", "nan", "-"],
        ["inf", "nan", "0x7f", "nan", "inexact|overflow"],
        ["1e-9", "0.0", "0x00", "0", "inexact|underflow"],
    ]


def test_quantize_rounds_decimals_once_and_takes_seeds(run) -> None:
    # 1 + 2^-11 + 10^-30 lies above a tie of fp16; in binary64 it would be the tie, and round to even
    decimal = "1.000488281250000000000000000001"
    assert "0x3c01" in run("quantize", "--format", "fp16", decimal)[1]
    assert "0x7c00" in run("quantize", "--format", "fp16", "1e99999999999999999999")[1]
    assert "0x4900" in run("quantize", "--format", "fp16", "1e0000000001")[1]
    by_cli = run("quantize", "--format", "fp16", "--rounding", "SR4", "--seed", "3", *["0.1"] * 20)[1]
    by_api = hu.quantize([0.1] * 20, "fp16", "SR4", seed=3)
    assert [float(line.split()[1]) for line in by_cli.splitlines()[1:]] == by_api.tolist()
    outputs = {
        run("quantize", "--format", "q4.0", "--rounding", "SR8", "--seed", str(seed), "0.5")[1] for seed in range(8)
    }
    assert len(outputs) == 2


def test_block_formats_show_elements_and_scales(run) -> None:
    code, text, _ = run("quantize", "--format", "mxfp4x4", *["1", "2.5", "-8.5", "7", "0.3"])
    assert code == 0
    assert [line.split() for line in text.splitlines()] == [
        ["input", "value", "code", "block", "scale", "code", "scale"],
        ["1", "1.0", "0x1", "0", "0x80", "1*2^1"],
        ["2.5", "2.0", "0x2", "0", "0x80", "1*2^1"],
        ["-8.5", "-8.0", "0xe", "0", "0x80", "1*2^1"],
        ["7", "8.0", "0x6", "0", "0x80", "1*2^1"],
        ["0.3", "0.25", "0x6", "1", "0x7b", "1*2^-4"],
    ]
    # 5 and 10^-30 lie above the tie of 4 and 6: decimals are taken exactly
    text = run("quantize", "--format", "mxfp4", "5.000000000000000000000000000001", "--json")[1]
    assert json.loads(text)[0]["value"] == "6.0"
    text = run("quantize", "--format", "nvfp4", "--json", "2688", "nan")[1]
    assert json.loads(text)[0] | {"input": ""} == {
        **{"input": "", "value": "nan", "code": "0x0", "block": "0"},
        **{"scale code": "0x7f", "scale": "nan", "tensor scale": "0x3f800000"},
    }
    by_cli = run("quantize", "--format", "mxfp4x8", "--rounding", "SR4", "--seed", "3", *["0.3"] * 20, "--json")[1]
    by_api = hu.quantize([0.3] * 20, "mxfp4x8", "SR4", seed=3)
    assert [float(row["value"]) for row in json.loads(by_cli)] == by_api.tolist()
    code, text, _ = run("formats", "mxfp4", "nvfp4")
    assert code == 0 and "4.25" in text and "e2m1finitex32+ue8m0+floor" in text
    assert run("cost", "fp16/mxfp4")[2].startswith("error: the accumulator of a datapath is of a float or fixed-point")
    assert "32 MAC per cycle" in run("cost", "mxfp4/fp32")[1]


def test_json(run) -> None:
    code, text, _ = run("quantize", "--format", "fp16", "--json", "1")
    assert code == 0 and json.loads(text)[0]["code"] == "0x3c00"
    code, text, _ = run("formats", "--json", "fp16")
    assert code == 0 and json.loads(text)[0]["max_finite"] == 65504.0
    codes = {row["what"]: row for row in json.loads(run("formats", "--json", "e4m3fn")[1])[0]["codes"]}
    nan = {"format": "e4m3fn", "value": "NaN", "code": "0x7f", "fields": "0|1111|111"}
    assert codes["twice the largest"] == nan | {"what": "twice the largest"}
    assert codes["smallest normal"]["value"] == "0.015625" and codes["negative zero"]["code"] == "0x80"
    code, text, _ = run("cost", "fp16/fp32", "--json")
    assert code == 0 and json.loads(text)["sources"] and json.loads(text)["energy_pj"] == hu.cost("fp16/fp32").energy_pj


def test_solve_prints_residual_next_to_energy(run, tmp_path: Path) -> None:
    code, text, _ = run("solve", "poisson", "--side", "8", "--spmv", "fp32", "--tol", "1e-5", "--out", str(tmp_path))
    assert code == 0 and "converged" in text and "true residual" in text and "energy" in text and "SRAM" in text
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["kind"] == "cg" and record["energy"]["sources"] and record["ledger"]["operations"]


def test_solve_takes_policies_preconditioners_and_refinement(run) -> None:
    given = ["--side", "8", "--scaled", "--preconditioner", "jacobi", "--flexible", "--json"]
    code, text, _ = run("solve", "poisson", "--policy", "stepped", *given)
    told = json.loads(text)
    assert code == 0 and told["input"]["policy"]["policy"] == "stepped" and told["input"]["scaled"] is True
    assert told["input"]["preconditioner"] == "jacobi"
    stored = json.loads(run("solve", "poisson", "--storage", "fp16", *given)[1])
    assert stored["input"]["precision"]["storage"] == "e5m10" and stored["input"]["scaled"] is True
    used, steps = told["result"]["precisions"], told["result"]["precision_of_steps"]
    assert len(steps) == told["result"]["iterations"] and set(steps) == set(range(len(used))) and len(used) > 1
    code, text, _ = run("solve", "poisson", "--side", "8", "--spmv", "bf16", "--refine", "0.1")
    assert code == 0 and "corrections" in text
    code, text, _ = run("solve", "poisson", "--side", "8", "--spmv", "bf16", "--safeguard", "--preconditioner", "ic0")
    assert code == 0 and "levels 15" in text and "the true residual 2.3e-06 replaced" in text
    code, text, _ = run("solve", "poisson", "--side", "8", "--policy", "stepped", "--scaled")
    assert code == 0 and "products in" in text


def test_names_are_printed_as_they_are(run) -> None:
    code, out, err = run("solve", "graph:100", "--tol", "1e-2", "--seed", "3")
    assert code == 0 and "graph:100:" in out, out + err  # which is no emoji


def test_a_solve_that_fails_exits_with_1(run) -> None:
    code, text, _ = run("solve", "poisson", "--side", "8", "--spmv", "bf16", "--tol", "1e-9", "--patience", "20")
    assert code == 1 and ("stagnated" in text or "residual gap" in text or "breakdown" in text)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data under ../shared")
def test_real_matrix_and_real_images(run) -> None:
    code, text, _ = run(
        "solve",
        str(SHARED / "spd" / "Trefethen_20.mtx.gz"),
        *["--spmv", "bf16", "--dot", "fp32", "--axpy", "fp32", "--tol", "1e-6"],
    )
    assert code in (0, 1) and "true residual" in text and "energy" in text
    code, text, _ = run(
        "train",
        "--data",
        str(SHARED / "fashion-mnist"),
        *["--forward", "fp8_e4m3/fp32", "--rounding", "RNE", "--limit", "2000", "--epochs", "1"],
    )
    assert code == 0 and "test accuracy" in text and "energy" in text and "10,000 test inputs" in text


def test_train_writes_its_record_and_model_which_infer_reads(run, tmp_path: Path) -> None:
    given = ["train", "--limit", "320", "--rounding", "SR8", "--forward", "bf16", "--update", "bf16", "--hidden", "16"]
    given += ["--out", str(tmp_path)]
    code, text, _ = run(*given, "--epochs", "1")
    assert code == 0 and "epoch" in text and "by role" in text and "held in a step weights" in text
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["input"]["policy"]["static"]["update"] == "bf16@SR8" and record["result"]["stored_bits"]["weights"]
    assert sum(record["result"]["energy_pj_by_role"].values()) == pytest.approx(record["energy"]["total_pj"])
    code, text, _ = run(*given, "--epochs", "2")
    assert code == 0 and "1 of 2 epochs are done" in text
    code, _, error = run(*given, "--epochs", "2", "--batch", "16")
    assert code == 2 and "is of another run (batch differ)" in error
    model = str(tmp_path / "model.npz")
    code, text, _ = run("infer", model, "--datapath", "bf16/fp32", "--json")
    assert code == 0 and json.loads(text)["result"]["test_accuracy"] > 0.3
    code, text, _ = run("infer", model, "--word-length", "8", "--calibrate", "32")
    assert code == 0 and "fc2" in text and "as trained" in text
    for options, said in (
        ([], "--datapath, or --word-length"),
        (["--word-length", "99"], "2 to 16 bits"),
        (["--word-length", "6", "--calibrate", "99999"], "1,437 training inputs, not 99,999"),
        (["--datapath", "bf16", "--calibrate", "9"], "--calibrate belongs to --word-length"),
        (["--datapath", "bf16", "--data", __file__], "no directory"),
    ):
        code, _, error = run("infer", model, *options)
        assert code == 2 and said in error
    code, _, error = run("infer", __file__, "--datapath", "bf16")
    assert code == 2 and "is no model that halfulp train wrote" in error


def test_a_run_that_diverges_says_where_and_keeps_the_epoch_before(run, tmp_path: Path) -> None:
    hot = ["--limit", "320", "--forward", "fp16", "--update", "fp16", "--learning-rate", "1e6", "--out", str(tmp_path)]
    code, text, error = run("train", "--epochs", "1", *hot)
    assert code == 1 and "diverged: " in error and "in epoch 1, step" in error
    assert "test accuracy" not in text and "inference" not in text and "by role" in text
    assert "no epoch had ended, so that there is no model" in error and not (tmp_path / "model.npz").exists()
    assert json.loads((tmp_path / "record.json").read_text())["result"]["epochs"] == []


def test_what_a_run_that_diverges_says_is_of_the_epoch_before(run, tmp_path: Path) -> None:
    """Nothing is told of weights that nobody keeps; the step is that of the epoch."""
    hot = ["--limit", "320", "--forward", "fp16", "--update", "fp16", "--learning-rate", "0.125", "--decay", "1.0"]
    code, text, _ = run("train", "--epochs", "1", *hot, "--out", str(tmp_path))
    assert code == 0
    (kept,) = json.loads((tmp_path / "record.json").read_text())["result"]["epochs"]
    from halfulp.models import checkpoint

    meta, arrays = checkpoint.read(tmp_path / "model.npz")
    arrays["weights/fc1.weight"] = np.full_like(arrays["weights/fc1.weight"], 65504.0)
    np.savez(tmp_path / "model.npz", meta=np.array(json.dumps(meta)), **arrays)
    code, text, error = run("train", "--epochs", "2", *hot, "--out", str(tmp_path))
    assert code == 1 and "in epoch 2, step 1; " in error and "model.npz is of the epoch before" in error
    found = json.loads((tmp_path / "record.json").read_text())["result"]
    assert found["epochs"] == [kept] and found["test_accuracy"] == kept[3] and f"test accuracy  {kept[3]:.2%}" in text


def test_protocols_run_row_by_row(run, tmp_path: Path) -> None:
    given = ["train", "gupta-dnn", "--quick", "--limit", "200", "--epochs", "3", "--out", str(tmp_path)]
    code, text, _ = run(*given)
    assert code == 0 and text.count("test error") == 9 and "assumed, random bits" in text
    assert "28 x 28 units" in text and "peak 260.3 G-ops/s" in text
    assert len(list(tmp_path.glob("*/model.npz"))) == 9
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["published"] for row in rows] == [line.split("published: ")[1] for line in text.splitlines()[1:10]]
    for row, line in zip(rows, text.splitlines()[1:], strict=False):
        assert f"test error {float(row['test_error_percent']):6.2f} %" in line and row["epochs"] == "3"
        found = [json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")]
        (record,) = [r for r in found if r["label"] == row["scheme"]]
        errors = [100 * (1 - epoch[3]) for epoch in record["result"]["epochs"]]
        assert float(row["least_test_error_percent"]) == pytest.approx(min(errors), rel=1e-9)
        assert float(row["mean_of_last_five_percent"]) == pytest.approx(np.mean(errors), rel=1e-9)  # there are three
    assert (tmp_path / "errors.png").stat().st_size > 10_000 and "</svg>" in (tmp_path / "errors.svg").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.npz")}
    assert run(*given)[1] == text and before == {path: path.stat().st_mtime_ns for path in before}


def matrix(tmp_path: Path, body: str) -> str:
    (tmp_path / "m.mtx").write_text("%%MatrixMarket matrix coordinate real general\n" + body)
    return str(tmp_path / "m.mtx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quantize", "--format", "fp8_e5m3", "1"], "did you mean fp8_e5m2"),
        (["quantize", "--format", "posit65", "1"], "3 to 64 bits"),
        (["cost", "posit16"], "float or fixed-point format; posit16 is neither"),
        (["quantize", "--format", "fp16", "--rounding", "RNX", "1"], "use RNE, RNA"),
        (["quantize", "--format", "fp16", "--rounding", "SR40", "1"], "1 to 32"),
        (["quantize", "--format", "fp16", "one"], "not a number"),
        (["cost", "fp16//", "--node", "45nm"], "OPERANDS"),
        (["cost", "fp16", "--node", "1nm"], "3nm or 2nm"),
        (["solve", "nowhere.mtx"], "does not exist"),
        (["solve", "poisson", "--tol", "-1"], "between 0 and 1"),
        (["solve", "poisson", "--backend", "tpu"], "cpu, gpu or cxx"),
        (["solve", "."], "is a folder"),
        (["solve", "--preconditioner", "ilu"], "jacobi, block-jacobi"),
        (["solve", "--preconditioner", "ssor:3"], "between 0 and 2"),
        (["solve", "--policy", "magic"], "fixed, rule, room, stepped, random"),
        (["solve", "--storage", "fp17"], "fp16"),
        (["solve", "--refine", "2", "--side", "4"], "between 0 and 1"),
        (["solve", "--seed", str(1 << 62)], str(1 << 62)),
        (["quantize", "--format", "fp16", "--roundng", "1"], "neither a number nor an option"),
        (["train", "--data", "nowhere"], "no directory"),
        (["train", "--update", "q4.4", "--epochs", "1"], "rounds to zero in q4.4"),
        (["train", "--hidden", "1000000000", "--epochs", "1"], "more memory"),
        (["train", "--out", __file__], "cannot be made a folder"),
        (["report", "--out", __file__], "cannot be made a folder"),
        (["report", "--datapath", "fp32", "--datapath", "fp32", "--out", "unused"], "two rows are called 'fp32'"),
        (["report", "--datapath", "q64.0", "--out", "unused"], "at most 53 bits"),
        (["train", "--hidden", "a,b"], "comma-separated"),
        (["train", "--learning-rate", "0"], "positive"),
        (["train", "transformer"], "no network is called 'transformer'"),
        (["train", "lenet", "--hidden", "3"], "--hidden is of mlp"),
        (["train", "--layer", "fc1=fp16"], "is not LAYER:ROLE=DATAPATH"),
        (["train", "--layer", "fc1:backward=fp16"], "no role is called 'backward': there are forward, grad_input"),
        (["train", "--layer", "conv7:forward=fp16"], "no layer is called 'conv7'"),
        (["train", "--optimiser", "adam"], "no optimiser is called 'adam'"),
        (["train", "--optimiser", "lion", "--momentum", "0.9"], "--momentum is of sgd"),
        (["train", "gupta-dnn", "--quick", "--batch", "5"], "--batch is of networks; gupta-dnn sets its own"),
        (["train", "lenet", "--full"], "--full is of protocols, as gupta-dnn; lenet is a network"),
        (["train", "--policy", "cpt", "--grad-input", "fp16"], "--grad-input is of the policy static; cpt chooses"),
        (["train", "--policy", "apt"], "no policy is called 'apt'"),
        (["train", "--out", ""], "--out is empty"),
        (["train", "--layer", "fc1:forward=fp16", "--layer", "fc1:forward=bf16"], "--layer fc1:forward is given twice"),
        (["train", "--decay", "2"], "decay of the learning rate in (0, 1]"),
        (["train", "gupta-dnn", "--quick", "--epochs", "1"], "needs two epochs"),
        (["train", "gupta-rnn"], "no protocol is called gupta-rnn"),
        (["train", "gupta-dnn", "--full", "--quick"], "exclude each other"),
        (["train", "gupta-cifar", "--quick"], "needs images of 15 pixels a side or more"),
        (["report", "--datapath", "fp99", "--out", "unused"], "unknown format"),
        (["report", "--node", "1nm", "--out", "unused"], "3nm or 2nm"),
    ],
)
def test_bad_input_is_told_in_one_sentence(run, arguments: list[str], words: str) -> None:
    code, text, error = run(*arguments)
    assert code == 2 and text == ""
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("2 2 3\n1 1 1\n2 2 1\n1 2 1\n", "not symmetric"),
        ("2 2 2\n1 1 1\n2 2 -1\n", "not positive definite"),
        ("2 2 2\n1 1 1\n2 2 nan\n", "NaN"),
        ("0 0 0\n", "non-empty"),
        ("2 3 1\n1 1 1\n", "square"),
        ("2000000000 2000000000 1\n1 1 1\n", "at most 20,000,000"),
    ],
)
def test_bad_matrices_are_told_in_one_sentence(run, tmp_path: Path, body: str, words: str) -> None:
    code, _, error = run("solve", matrix(tmp_path, body))
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_unknown_options_and_missing_arguments_exit_with_2(run) -> None:
    assert run("solve", "--nonsense")[0] == 2
    assert run("quantize", "--format", "fp16")[0] == 2
    assert run("nonsense")[0] == 2


def test_help_of_every_command(run) -> None:
    for command in ("formats", "quantize", "cost", "solve", "train", "report", "bench", "doctor"):
        code, text, _ = run(command, "--help")
        assert code == 0 and "Usage: " in text


def test_an_interrupt_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "halfulp", "train", "--epochs", "100000"]
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, kept)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in error and "Traceback" not in error


def test_version_and_doctor(run) -> None:
    assert run("--version")[1].startswith("halfulp 0.")
    code, text, _ = run("doctor")
    assert code == 0 and "backend cpu    works" in text and "45nm, 40nm" in text
