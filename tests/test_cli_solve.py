"""``halfulp solve`` and ``solve-study``: what is refused, how agents are asked, right-hand sides and x."""

from __future__ import annotations

import json
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.solvers.matrix_files import column, write_column
from halfulp.solvers.problems import poisson

TRAINING = ["solve", "--train-agent", "new.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["solve", "--policy", "room", "--spmv", "fp32"],
            "--spmv is of --policy fixed: room has precisions",
        ),
        (["solve", "--policy", "stepped", "--storage", "fp16"], "--storage is of --policy fixed"),
        (["solve", "--policy", "agent", "--solution", "fp64"], "--solution is of --policy fixed"),
        (["solve", "--precondition", "fp16"], "--precondition is of a --preconditioner"),
        (["solve", "--factors", "fp16", "--preconditioner", "none"], "--factors is of a --preconditioner"),
        (["solve", "jump:16", "--side", "4"], "--side is of 'poisson'; the size of a family's member is in its name"),
        ([*TRAINING, "--policy", "rule"], "--policy is of solves, not of --train-agent"),
        ([*TRAINING, "--spmv", "fp32"], "--spmv is of solves"),
        ([*TRAINING, "--json"], "--json is of solves"),
        ([*TRAINING, "--out", "x"], "--out is of solves"),
        (["solve", "poisson", *TRAINING[1:]], "NAME is of solves"),
        (["solve-study", "--quick", "--matrices", "."], "--matrices is not of --quick"),
        (["solve-study", "--matrices", "."], "has no Matrix Market file (.mtx, .mtx.gz) of at most 5,000 unknowns"),
        ([*TRAINING, "--matrices", "."], "has no Matrix Market file"),
        (["solve", "--rhs", "b.mtx"], "b.mtx does not exist: give a Matrix Market file"),
        (
            ["solve", "--lossless", "--storage", "fp16"],
            "--lossless leaves the matrix in the format that --storage",
        ),
        (["solve", "--policy", "magic", "--spmv", "fp32"], "'magic' is none of fixed, rule"),
        ([*TRAINING, "--preconditioner", "bogus", "--train-on", "poisson:4"], "bogus"),
    ],
)
def test_what_would_do_nothing_is_refused(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2 and message in " ".join(err.split()), err


def test_a_study_asks_agents_as_they_were_trained(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--train-on", "poisson:8", "--episodes", "1", "--processes", "1", "--tol", "1e-3", "--seed", "5"]
    for name, how in {"a": ["--preconditioner", "Jacobi"], "b": [], "c": ["--no-scaled"]}.items():
        assert run("solve", "--train-agent", f"{name}.json", *given, *how)[0] == 0
    study = ["solve-study", "--quick", "--agent", "a.json"]
    for arguments, message in (
        (["--seeds", "3"], "--seeds is of agents that are trained here"),
        (["--seed", "7"], "--seed is of agents that are trained here"),
        (["--episodes", "3"], "--episodes is of agents that are trained here"),
        (["--agent", "b.json"], "a.json was trained for preconditioner jacobi, b.json for none: study them apart"),
        (["--agent", "c.json"], "c.json was trained --no-scaled"),
        (["--tol", "1e-4"], "a.json was trained for tol 0.001, not for --tol 0.0001: leave that out"),
    ):
        code, _, err = run(*study, *arguments)
        assert code == 2 and message in " ".join(err.split()), err
    assert run(*study, "--preconditioner", "jacobi", "--tol", "1e-3", "--out", "s")[0] == 0
    record = json.loads(next((tmp_path / "s" / "records").iterdir()).read_text())
    assert record["input"]["preconditioner"] == "jacobi" and record["input"]["tol"] == 1e-3 and record["seed"] == 5


def test_an_agent_is_asked_as_it_was_trained(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--train-on", "poisson:8", "--episodes", "1", "--processes", "1", "--tol", "1e-4"]
    code, text, _ = run("solve", "--train-agent", "a.json", "--preconditioner", "jacobi", "--no-lossless", *given)
    assert code == 0 and "--policy a.json --tol 0.0001" in text
    code, text, _ = run("solve", "poisson", "--side", "8", "--policy", "a.json", "--json", "--tol", "1e-4")
    asked = json.loads(text)["input"]
    assert (asked["scaled"], asked["lossless"], asked["preconditioner"]) == (True, False, "jacobi")
    told = run("solve", "poisson", "--side", "8", "--policy", "a.json", "--tol", "1e-4")[1]
    assert "scaled, preconditioner jacobi, as the agent was trained" in told and "trained for" not in told
    told = run("solve", "poisson", "--side", "8", "--policy", "a.json", "--no-scaled")[1]
    assert "trained for    scaled True, tol 0.0001" in told
    told = run(
        "solve", "poisson", "--side", "8", "--policy", "a.json", "--tol", "1e-4", "--refine", "0.1", "--flexible"
    )[1]
    assert "as the agent was trained" not in told and "trained for    no --refine, no --flexible" in told
    code, text, _ = run("solve", "poisson", "--side", "8", "--policy", "agent", "--json")
    asked = json.loads(text)["input"]
    assert (asked["scaled"], asked["lossless"], asked["preconditioner"]) == (True, True, "none")
    code, text, _ = run("solve", "poisson", "--side", "8", "--policy", "room", "--json")
    assert (json.loads(text)["input"]["scaled"], json.loads(text)["input"]["lossless"]) == (False, False)
    code, text, _ = run("solve", "poisson", "--side", "8", "--policy", "agent", "--max-iterations", "3")
    assert code == 1 and "max iterations" in text and "of that solve's" not in text  # beside what was not done


def test_a_right_hand_side_goes_in_and_x_comes_out(run, tmp_path: Path) -> None:
    problem = poisson(6)
    exact = np.linspace(-1.0, 2.0, 36)
    write_column(tmp_path / "b.mtx", problem.matrix @ exact)
    given = ["poisson", "--side", "6", "--rhs", str(tmp_path / "b.mtx"), "--tol", "1e-12", "--out", str(tmp_path / "o")]
    code, text, _ = run("solve", *given)
    assert code == 0 and "bits moved" in text and "time" in text
    assert np.allclose(column(tmp_path / "o" / "x.mtx", 36), exact, rtol=1e-9)
    digest = json.loads((tmp_path / "o" / "record.json").read_text())["input"]["problem_digest"]
    assert digest != json.loads(run("solve", "--side", "6", "--json")[1])["input"]["problem_digest"]
    assert json.loads((tmp_path / "o" / "record.json").read_text())["input"]["problem"] == "poisson 6x6, b of b.mtx"
    code, _, err = run("solve", "poisson", "--side", "5", *given[3:])
    assert code == 2 and "b.mtx is 36 x 1; a right-hand side of 25 x 1 is needed" in " ".join(err.split())


def test_columns_keep_all_of_their_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vector = np.ldexp(rng.standard_normal(500), rng.integers(-1000, 1000, 500))
    write_column(tmp_path / "x.mtx", vector)
    assert np.array_equal(column(tmp_path / "x.mtx", 500), vector)
    for body, message in (
        ("array complex general\n2 1\n1 0\n1 0\n", "is complex"),
        ("coordinate pattern general\n2 1 1\n1 1\n", "is pattern"),
        ("array real general\n2 1\n1\nnan\n", "finite numbers"),
        ("array real general\n2 2\n1\n1\n1\n1\n", "is 2 x 2"),
        ("coordinate real general\n1000000 1000000 1\n1 1 1\n", "is 1,000,000 x 1,000,000"),  # of which none is made
        ("array real general\n2 1\n1\n", "not a readable Matrix Market file"),
        ("array real general\n2 1\n1,5\n2\n", "line 3, '1,5', is not all numbers"),
        ("array real general\n2 1\n1\n1.5D3\n", "is not all numbers"),
        ("array real general\n2 1\n1 7\n2\n", "2 entries are 2 numbers, but it holds 3"),
        ("coordinate real general\n2 1 2\n1 1 5\n1 1 6\n", "states an entry more than once"),
    ):
        (tmp_path / "b.mtx").write_text(f"%%MatrixMarket matrix {body}")
        with pytest.raises(hu.HalfulpError, match=message):
            column(tmp_path / "b.mtx", 2)
    (tmp_path / "b.mtx").write_text("%%MatrixMarket matrix coordinate real general\n3 1 1\n2 1 5\n")
    assert column(tmp_path / "b.mtx", 3).tolist() == [0.0, 5.0, 0.0]


def test_right_hand_sides_of_nothing_and_of_too_much(run, tmp_path: Path) -> None:
    write_column(tmp_path / "zero.mtx", np.zeros(16))
    write_column(tmp_path / "huge.mtx", np.full(16, 1e308))
    given = ["solve", "poisson", "--side", "4", "--rhs"]
    for policy in ("fixed", "agent"):
        code, text, _ = run(*given, str(tmp_path / "zero.mtx"), "--policy", policy)
        assert code == 0 and "converged: b = 0" in text
        code, _, err = run(*given, str(tmp_path / "huge.mtx"), "--policy", policy)
        assert code == 2 and "norm leaves fp64's range" in err
