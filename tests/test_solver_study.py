"""The study of solvers: resumable, the same on two processes, tables that agree with records, a page of its own."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import halfulp as hu
import numpy as np
import pandas as pd
import pytest
from halfulp.reports import solver_page, solver_study, solver_table
from halfulp.reports.record import Record
from halfulp.reports.solver_study import ORACLE, REFERENCE, SolverStudy
from halfulp.solvers.cg import CGPrecision
from halfulp.solvers.learning import Lessons, train

FIGURES = ("energies", "trade_off", "beside_oracle", "choices")
AGENT = "agent, cost weight 1"
MEASURED = Path(solver_study.__file__).parent / "measured"
SYSTEMS = ("random:30:density=0.1:beta=1:seed=9", "graph:20:beta=1:seed=3")


def small(agents: tuple[Path, ...] = ()) -> SolverStudy:
    return SolverStudy({0: SYSTEMS}, agents, tol=1e-6, observe_every=10)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.json"
    train(Lessons(("random:20:density=0.1:beta=1:seed=2",), tol=1e-6), 4, path, actions=("fp32;fp32;fp64", "fp64"))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, agent: Path) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def records(folder: Path, agent: Path) -> list[Record]:
    found = small((agent,)).run(folder)
    solver_page.write(found, folder, "halfulp solve-study")
    return found


def test_there_is_a_record_for_every_system_and_contender(records: list[Record], folder: Path, agent: Path) -> None:
    labels = [contender.label for contender in small((agent,)).contenders(0)]
    assert labels[0] == REFERENCE and AGENT in labels and "fixed fp32;fp32;fp64" in labels
    assert sorted((r.input["system"], r.label) for r in records) == sorted((s, x) for s in SYSTEMS for x in labels)
    assert len(list((folder / "records").glob("*.json"))) == len(records)
    kinds = {r.input["system"]: r.input["unseen"] for r in records}
    assert kinds == {SYSTEMS[0]: "matrix", SYSTEMS[1]: "family"}


def test_a_finished_record_is_not_done_again(
    records: list[Record], folder: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, run = [], solver_study.run
    monkeypatch.setattr(solver_study, "run", lambda job: done.append(job.contender.label) or run(job))
    assert small((agent,)).run(folder) == records and done == []
    path = next(p for p in (folder / "records").iterdir() if json.loads(p.read_text())["label"] == "rule")
    path.write_text("{cut off")
    assert small((agent,)).run(folder) == records and done == ["rule"]


def test_two_processes_give_the_same_records(tmp_path: Path) -> None:
    study = SolverStudy({1: ("poisson:4:seed=1",)}, tol=1e-4)
    assert study.run(tmp_path / "one") == study.run(tmp_path / "two", processes=2)


def test_what_fp64_does_not_solve_is_not_tried_in_less(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    study = SolverStudy({0: ("poisson:5:seed=1",)}, max_iterations=3)
    records = study.run(tmp_path, progress=lambda done, total, what: told.append((done, total)))
    assert [(r.label, r.result["status"]) for r in records] == [(REFERENCE, "max iterations")]
    assert told == [(1, len(study.contenders(0)))]
    unlimited = replace(study, max_iterations=None, longest=3)  # solved, but not in time
    late = unlimited.run(tmp_path)
    assert [(r.label, r.result["status"]) for r in late] == [(REFERENCE, "converged")] and late[0].result[
        "iterations"
    ] > 3
    assert solver_table.left(solver_table.solves(late))["system"].tolist() == ["poisson:5:seed=1"]
    assert "left to all fp64, as it takes long" in solver_page.write(late, tmp_path, "").read_text(encoding="utf-8")
    page = solver_page.write(records, tmp_path, "").read_text(encoding="utf-8")
    assert "What all fp64 does not solve either" in page and "No precision below fp64" in page


def test_the_table_agrees_with_the_records(records: list[Record], folder: Path) -> None:
    rows = pd.read_csv(folder / "solves.csv")
    assert list(rows.columns) == list(solver_table.SOLVES)
    first = {r.input["system"]: r for r in records if r.label == REFERENCE}
    own = {r.input["system"]: r for r in records if r.label == AGENT}
    ratios = [own[s].energy["total_pj"] / first[s].energy["total_pj"] for s in SYSTEMS]
    assert list(rows[rows["policy"] == AGENT]["energy_ratio"]) == pytest.approx(ratios, rel=1e-4)
    tried = [r for r in records if r.label.startswith("fixed ")] + list(first.values())
    least = {s: min(r.energy["total_pj"] for r in tried if r.input["system"] == s) for s in SYSTEMS}
    oracle = rows[rows["policy"] == ORACLE].set_index("system")["energy_pj"]
    assert dict(oracle) == pytest.approx(least, rel=1e-4) and len(tried) == 6
    fixed = pd.read_csv(folder / "fixed.csv").set_index("precision")
    name, fp64 = (r.label.removeprefix("fixed ") for r in tried[:4:2])
    assert fp64 == "fp64" and fixed.loc[fp64, "systems"] == 2
    assert list(fixed.columns) == list(solver_table.FIXED_COLUMNS)[1:] and fixed.loc[name, "systems"] == 2
    cheap = [r for r in tried if r.label == f"fixed {name}" and r.energy["total_pj"] == least[r.input["system"]]]
    assert fixed.loc[name, "cheapest"] == len(cheap) and fixed["cheapest"].sum() == len(SYSTEMS)
    table = pd.read_csv(folder / "policies.csv").set_index("policy")
    assert list(table.columns) == list(solver_table.POLICIES)[1:]
    assert table.loc[AGENT, "energy_saving_median"] == pytest.approx(1 - np.median(ratios), rel=1e-4)
    assert table.loc[AGENT, "energy_saving_worst"] == pytest.approx(1 - max(ratios), rel=1e-4)
    fallen, asked = (sum(r.result[what] for r in own.values()) for what in ("fell_back", "decisions"))
    assert asked > 0 and table.loc[AGENT, "fell_back"] == pytest.approx(fallen / asked, rel=1e-4)
    assert table.loc[REFERENCE, "solved"] == table.loc[AGENT, "solved"] == 2


def test_the_page_needs_no_network_and_names_its_sources(records: list[Record], folder: Path) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)["']|url\(\s*["']?([^)#"']+)""", html)
    assert not links and html.count("<svg") == len(FIGURES) and "built-in method" not in html
    for word in (
        "arXiv 2504.14268",
        "give_up",
        "check_every",
        "doi:10.1109/ISSCC.2014.6757323",
        "w/64",
        "additions",
        "gse32",
    ):
        assert word in html, word
    for name in FIGURES:
        assert (folder / f"{name}.png").stat().st_size > 10_000 and (folder / f"{name}.svg").is_file()


def test_what_is_traded_is_the_same_systems_for_all(records: list[Record], tmp_path: Path) -> None:
    table = solver_table.trade_off(solver_table.solves(records)).set_index("policy")
    assert set(table["systems"]) == {2} and AGENT in table.index and table.loc[REFERENCE, "energy"] == 1.0
    ratios = [r.result["costs"]["energy"] for r in records if r.label == AGENT]
    first = [r.result["costs"]["energy"] for r in records if r.label == REFERENCE]
    assert table.loc[AGENT, "energy"] == pytest.approx(np.mean(np.array(ratios) / first))
    fewer = [r for r in records if r.label != "rule" or r.input["system"] == SYSTEMS[0]]
    assert set(table.index) - set(solver_table.trade_off(solver_table.solves(fewer))["policy"]) == {"rule"}
    failed = [replace(r, result=r.result | {"status": "stagnated"}) if r.label == "stepped fp16, fp32, fp64" else r
              for r in records]  # fmt: skip
    left = solver_table.trade_off(solver_table.solves(failed))["policy"]
    assert set(table.index) - set(left) == {"stepped fp16, fp32, fp64"}
    other = [replace(r, label="agent, cost weight 2") for r in records if r.label == AGENT]
    both = [r for r in records if r.label != AGENT or r.input["system"] == SYSTEMS[0]]
    one = solver_table.trade_off(solver_table.solves([*both, *other]))
    assert set(one["systems"]) == {1} and {AGENT, "agent, cost weight 2"} < set(one["policy"])
    apart = [*both, *(r for r in other if r.input["system"] == SYSTEMS[1])]
    assert solver_table.trade_off(solver_table.solves(apart)).empty
    solver_page.write(apart, tmp_path, "halfulp solve-study")
    assert not (tmp_path / "trade_off.png").exists() and (tmp_path / "index.html").is_file()


def test_where_no_fixed_precision_converges_the_oracle_takes_fp64(records: list[Record]) -> None:
    failed = [
        replace(r, result=r.result | {"status": "stagnated"})
        if r.label.startswith("fixed") and r.input["system"] == SYSTEMS[0]
        else r
        for r in records
    ]
    table = solver_table.solves(failed)
    ratios = table[table["policy"] == ORACLE].set_index("system")["energy_ratio"]
    assert ratios[SYSTEMS[0]] == 1.0 and ratios[SYSTEMS[1]] <= 1.0
    assert ORACLE not in set(solver_table.solves([r for r in records if not r.label.startswith("fixed")])["policy"])


def test_events_and_signs_are_in_the_records(records: list[Record]) -> None:
    (rough,) = [r for r in records if r.label == "all fp32" and r.input["system"] == SYSTEMS[0]]
    assert rough.result["events"]["dot"]["additions"] > 0 and set(rough.result["events"]["dot"]) >= {
        "swamped",
        "overflow",
    }
    assert all(isinstance(r.result["signs"], dict) for r in records)


def test_choices_are_counted_by_the_residual_before() -> None:
    rough, fp64 = CGPrecision.of("bf16/fp32", "fp32", "fp64"), CGPrecision.of("fp64")
    steps = [SimpleNamespace(precision=p) for p in (rough, rough, fp64)]
    found = solver_study.choices(SimpleNamespace(residuals=[1.0, 0.05, 0.1, 1e-9], history=steps))
    assert found == {
        "1e-0": {
            "spmv": {"bf16/fp32@RNE": 1},
            "dot": {"fp32@RNE": 1},
            "axpy": {"fp64@RNE": 1},
            "solution": {"fp64@RNE": 1},
        },
        "1e-1": {
            "spmv": {"bf16/fp32@RNE": 1, "fp64@RNE": 1},
            "dot": {"fp32@RNE": 1, "fp64@RNE": 1},
            "axpy": {"fp64@RNE": 2},
            "solution": {"fp64@RNE": 2},
        },
    }
    assert next(iter(solver_study.choices(SimpleNamespace(residuals=[math.nan, 1.0], history=steps[:1])))) == "1e-16"
    record = SimpleNamespace(label="x", result={"choices": found})
    heat = solver_table.heat([record, record], "x")
    assert heat["spmv"].loc["fp64@RNE"].to_dict() == {"1e-0": 0.0, "1e-1": 0.5}


def test_a_table_made_by_hand() -> None:
    columns = {"seed": 0, "family": "f", "unseen": "matrix", "decisions": np.nan, "fell_back": np.nan}
    given = [
        ("a", REFERENCE, "converged", 1.0, 1.0), ("b", REFERENCE, "converged", 1.0, 1.0),
        ("c", REFERENCE, "max iterations", 1.0, 1.0), ("a", AGENT, "converged", 0.5, 1.5),
        ("b", AGENT, "residual gap", 0.1, 3.0), ("a", ORACLE, "converged", 0.25, 1.0),
        ("b", ORACLE, "converged", 1.0, 1.0), ("a", "rule", "converged", 1.2, 1.0),
        ("b", "rule", "converged", 1.0, 1.0),
    ]  # fmt: skip
    rows = pd.DataFrame(given, columns=["system", "policy", "status", "energy_ratio", "iterations_ratio"])
    rows = rows.assign(bits_ratio=rows["energy_ratio"], time_ratio=rows["energy_ratio"], **columns)
    table = solver_table.policies(rows).set_index("policy")
    assert list(table.index) == [REFERENCE, AGENT, ORACLE, "rule"]
    assert table.loc[AGENT, ["systems", "solved", "other_statuses"]].tolist() == [2, 1, "residual gap 1"]
    assert table.loc[AGENT, "share_of_oracle"] == pytest.approx(0.5 / 0.75)  # on what the agent solved
    assert table.loc["rule", "energy_saving_worst"] == pytest.approx(-0.2)
    assert solver_table.hurt(rows)[["system", "policy"]].to_numpy().tolist() == [["a", "rule"], ["b", AGENT]]
    sentence = solver_table.headline(table.reset_index(), rows)
    assert "solves 1 of the 2 that all fp64 solves" in sentence and "on 50% of its energy in the median" in sentence
    assert "67% of the oracle's saving" in sentence


def test_an_agent_counts_for_its_own_seed_and_once(agent: Path) -> None:
    assert [policy.name for policy in small((agent,)).policies(0)] == ["agent.json"]
    assert replace(small((agent,)), systems={5: SYSTEMS}).policies(5) == []
    with pytest.raises(hu.HalfulpError, match=r"two agents of seed 0 are 'agent, cost weight 1'"):
        small((agent, agent))


def test_systems_are_taken_that_training_has_not_seen() -> None:
    names = (
        "jump:8:seed=1",
        "jump:9:seed=2",
        "jump:10:seed=3",
        "poisson:7:seed=4",
        "poisson:8:seed=5",
        "d/bcsstk01.mtx",
    )
    seen = ("jump:8:seed=1", "poisson:7:seed=99", "elsewhere/bcsstk01.mtx")
    assert solver_study.chosen(names, seen, per_family=1) == ("jump:9:seed=2", "poisson:8:seed=5")


def test_command_line(run, tmp_path: Path, agent: Path) -> None:
    told = json.loads(agent.read_text())
    del told["trained"]["lessons"]
    (tmp_path / "none.json").write_text(json.dumps(told))
    for arguments, message in (
        (["--agent", str(agent), "--episodes", "3"], "--episodes is of agents that are trained here"),
        (["--agent", "none.json"], "none.json cannot be read"),
        (["--agent", str(tmp_path / "none.json")], "does not say what it was trained on"),
        (["--cost-weight", "-1"], "--cost-weight must be 0 or more"),
        (["--cost", "money"], "a cost is energy"),
        (["--matrices", "nowhere"], "nowhere is not a folder"),
    ):
        code, _, err = run("solve-study", "--out", str(tmp_path / "out"), *arguments)
        assert code == 2 and message in " ".join(err.split()), err


def test_the_readmes_table_is_that_of_the_study_that_was_kept() -> None:
    table = pd.read_csv(MEASURED / "solver-study-2026-11-30.csv").set_index("policy")
    lines = (MEASURED.parents[1] / "README.md").read_text(encoding="utf-8").splitlines()
    names = {"agent": AGENT, "oracle": ORACLE, "`rule`": "rule", "`stepped`": "stepped fp16, fp32, fp64"}
    names |= {f"agent, `--cost-weight {weight}`": f"agent, cost weight {weight}" for weight in ("0.01", "0")}
    names |= {"all fp64, `--lossless`": "all fp64, matrix lossless", "all fp64, not scaled": "all fp64, not scaled"}
    names |= {"best fixed in training": "best fixed in training", "`room`": "room, a rule by hand"}
    names |= {"`adaptive`": "adaptive spmv, by magnitude", "exponents shared, gse32": "shared exponents, gse32"}
    names |= {"refinement, fp16 inside": "refinement, fp16 inside", "`random`": "random"}
    shares = ("median", "mean", "worst")
    for shown, name in names.items():
        (line,) = (line for line in lines if line.startswith(f"| {shown} |"))
        row = table.loc[name]
        told = [*(row[f"energy_saving_{x}"] for x in shares), row["share_of_oracle"]]
        told += [row["bits_saving_median"], row["time_saving_median"]]
        cells = [f"{100 * x:.0f} %".replace("-", "−").replace("−0 %", "0 %") for x in told]
        cells[3:3] = [str(row["over"])]
        expected = [f"{row['solved']} of {row['systems']}", *cells, f"{row['iterations_median']:.2f} ×"]
        assert [cell.strip() for cell in line.split("|")[2:-1]] == expected, shown
