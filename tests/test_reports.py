"""Reports: byte-identical between runs and threads, resumable, self-contained, and a pure function of records."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import halfulp as hu
import numpy as np
import pandas as pd
import pytest
from halfulp.emulator.files import write_atomically
from halfulp.reports import page, table
from halfulp.reports.record import SCHEMA, Record, digest
from halfulp.reports.study import SETUPS, Setup, Study

FIGURES = ("accuracy_energy", "infer_energy", "area_energy", "cg_residuals")


def small(threads: int = 1, **changes: object) -> Study:
    setups = (
        SETUPS[0],
        Setup.of("bf16 SR", "bf16/fp32/bf16@RNE/SR8", "bf16@SR8"),
        Setup.of("q4.6 SR", "q4.6/q16.12/q4.6@RNE/SR8", "q1.15*q4.6/q4.6@SR8"),
    )
    return Study(**{"setups": setups, "seeds": (0, 1), "epochs": 1, "poisson_side": 20, "threads": threads, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    page.write(small().run(out), out)
    return out


def test_the_built_in_study_is_what_was_asked_for() -> None:
    operands = {str(setup.contraction.a) for setup in SETUPS}
    assert (
        len(SETUPS) >= 8
        and {str(hu.format(n)) for n in ("fp32", "bf16", "fp16", "tf32", "fp8_e4m3", "fp8_e5m2", "q4.12", "q8.8")}
        <= operands
    )
    assert {setup.contraction.output_rounding.mode.value for setup in SETUPS} == {"RNE", "SR"}
    assert len({setup.contraction.accumulator for setup in SETUPS}) >= 2


def test_same_bytes_on_one_and_two_threads(folder: Path, tmp_path: Path) -> None:
    page.write(small(threads=2).run(tmp_path), tmp_path)
    for name in (
        "results.csv",
        "records.json",
        "index.html",
        *(f"{f}.svg" for f in FIGURES),
        *(f"{f}.png" for f in FIGURES),
    ):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_other_seeds_give_other_records(folder: Path, tmp_path: Path) -> None:
    page.write(small(seeds=(7, 8)).run(tmp_path), tmp_path)
    assert (folder / "results.csv").read_bytes() != (tmp_path / "results.csv").read_bytes()


def test_an_interrupted_study_resumes_where_it_was(folder: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    ran: list[str] = []

    def stop_at_the_fifth(what: str) -> None:
        if len(ran) == 5:
            raise Stop
        ran.append(what)

    with pytest.raises(Stop):
        small().run(tmp_path, stop_at_the_fifth)
    state = json.loads((tmp_path / ".unfinished.json").read_text())
    assert len(state["records"]) == 5
    key = next(iter(state["records"]))
    state["records"][key] = json.dumps({**json.loads(state["records"][key]), "label": "kept"})
    (tmp_path / ".unfinished.json").write_text(json.dumps(state))
    records = small().run(tmp_path)
    assert records[0].label == "kept" and len(records) == small().steps and not (tmp_path / ".unfinished.json").exists()
    # another study does not take up these records; a damaged file is not an obstacle
    (tmp_path / ".unfinished.json").write_text("{broken")
    assert small(seeds=(0,)).run(tmp_path)[0].label == "fp32"


def test_the_page_needs_no_network_and_no_other_file(folder: Path) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)["']|url\(\s*["']?([^)#"']+)""", html)
    assert not links, links[:3]
    assert html.count("<svg") == len(FIGURES) and "<script src" not in html and "built-in method" not in html
    for word in ("doi:10.1109/ISSCC.2014.6757323", "bf16/fp32/bf16@RNE/SR8", "halfulp report"):
        assert word in html


def test_figures_are_real_pictures(folder: Path) -> None:
    from matplotlib.image import imread

    for name in FIGURES:
        picture = imread(folder / f"{name}.png")
        assert picture.shape[0] > 500 and picture.shape[1] > 800 and picture[..., :3].std() > 0.03
        assert (folder / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_results_have_every_column_and_agree_with_the_records(folder: Path) -> None:
    rows = pd.read_csv(folder / "results.csv")
    records = [Record(**fields) for fields in json.loads((folder / "records.json").read_text())]
    assert list(rows.columns) == list(table.COLUMNS) and len(rows) == 3
    accuracy = [r.result["test_accuracy"] for r in records if r.kind == "train" and r.label == "bf16 SR"]
    row = rows[rows["datapath"] == "bf16 SR"].iloc[0]
    assert row["train_accuracy_mean"] == pytest.approx(np.mean(accuracy), rel=1e-9)
    assert row["energy_pj_per_mac"] == pytest.approx(hu.cost("bf16/fp32/bf16@RNE/SR8").energy_pj, rel=1e-9)
    solve = next(r for r in records if r.kind == "cg" and r.label == "bf16 SR")
    assert 0 < row["cg_energy_uj"] <= solve.energy["total_pj"] * 1e-6 * (1 + 1e-9)


def test_headline_of_a_table_made_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "datapath": ["fp32", "a", "b", "c"],
            "train_accuracy_mean": [0.95, 0.945, 0.90, 0.96],
            "train_accuracy_min": [0.94, 0.93, 0.89, 0.95],
            "train_accuracy_max": [0.96, 0.95, 0.91, 0.97],
            "train_energy_uj": [100.0, 25.0, 5.0, 50.0],
            "energy_basis": ["table", "extrapolated", "table", "table"],
        }
    )
    record = small().train(small().setups[0], 0)
    records = [replace(record, label=label) for label in ("fp32", "a", "a", "b", "c")]
    sentence = table.headline(frame, records)
    assert "is a: 94.5% (93.0% to 95.0%) against 95.0% over 2 seeds, 360 test images" in sentence
    assert "25% of the energy (extrapolated costs)" in sentence
    assert table.headline(frame[:1], records).startswith("Nothing trains within 1 percentage point of fp32")


def test_stochastic_rows_are_stochastic() -> None:
    """A row called SR differs in its bits from the same row rounded to nearest."""
    by_label = {setup.label: setup for setup in SETUPS}
    study = Study(epochs=1)
    for nearest, stochastic in (("q4.6 RNE", "q4.6 SR"), ("q4.12 RNE", "q4.12 SR"), ("e4m3, e4m3 acc", "e4m3, SR acc")):
        assert study.infer(by_label[nearest]).digest != study.infer(by_label[stochastic]).digest
    pair = [by_label["bf16, bf16 acc"], by_label["bf16, SR update"]]
    assert study.train(pair[0], 0).digest != study.train(pair[1], 0).digest


def test_datapaths_that_cannot_run_are_refused_before_any_work() -> None:
    with pytest.raises(hu.HalfulpError, match=r"rounds to zero in q4\.6"):
        Study(setups=(SETUPS[0], Setup.of("x", "q4.12", "q4.6")))
    with pytest.raises(hu.HalfulpError, match="at most 62"):
        Study(setups=(SETUPS[0], Setup.of("x", "fp32", "e2m1*e11m40/fp32:fused4")))


def test_rows_of_one_name_are_refused() -> None:
    with pytest.raises(hu.HalfulpError, match="two rows are called 'fp32'"):
        Study(setups=(SETUPS[0], SETUPS[0]))


def test_energy_of_a_record_is_its_ledger_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    study, priced, price = small(), list[hu.Ledger](), hu.Technology.price
    monkeypatch.setattr(hu.Technology, "price", lambda self, ledger: priced.append(ledger) or price(self, ledger))
    record = study.cg(study.setups[0])
    ledger = priced[-1]
    assert ledger.as_dict() == record.ledger and len(ledger.operations) > 3
    technology = hu.Technology("45nm")
    by_hand = sum(n * technology.unit(operation).energy_pj.value for operation, n in ledger.operations.items())
    assert record.energy["arithmetic_pj"] == pytest.approx(by_hand, rel=1e-12)


def test_pareto_front() -> None:
    frame = pd.DataFrame({"cost": [1.0, 2.0, 2.0, 3.0, 4.0], "gain": [0.5, 0.4, 0.9, 0.9, 1.0]})
    assert table.pareto(frame, "cost", "gain") == [0, 2, 4]
    equal = pd.DataFrame({"cost": [1.0, 1.0, 2.0], "gain": [0.5, 0.5, 0.5]})
    assert table.pareto(equal, "cost", "gain") == [0, 1]


def test_records_round_trip_and_refuse_other_schemas() -> None:
    record = small().infer(small().setups[0])
    assert Record.from_json(record.to_json()) == record
    with pytest.raises(hu.HalfulpError, match="schema"):
        Record.from_json(record.to_json().replace(f'"schema": {SCHEMA}', '"schema": 99'))


def test_digests_see_bits_but_not_nan_payloads() -> None:
    assert digest(np.array([0.0])) != digest(np.array([-0.0]))
    assert digest(np.array([np.nan])) == digest(np.array([-np.nan]))


def test_writing_never_leaves_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_atomically(target, "one")
    write_atomically(target, b"two")
    assert target.read_text() == "two" and [p.name for p in target.parent.iterdir()] == ["file.txt"]
