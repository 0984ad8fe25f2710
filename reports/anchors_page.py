"""The document ``anchors.md``: published anchors beside our numbers, one section a paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from .anchors import Comparison, Summary, comparisons, measured, papers, summaries

COMMAND = "halfulp cost --anchors --out reports/anchors.md"
_NAMES = {"area_um2": "area, µm²", "energy_pj": "energy, pJ", "delay_ns": "delay, ns"}
_INTRODUCTION = f"""# Published anchors

What the literature printed beside what halfulp says. Ours comes from RTL that it generates, mapped on three open cell
libraries (130, 7 and 2 nm), simulated and fitted; at other nodes it is scaled between libraries. No published price is
in it. `{COMMAND}` writes this file, and a test compares the two. Published
numbers are in `reports/anchors.csv`, words in `reports/anchors.toml`, measurements in `reports/measured/anchors.csv`.

*Ratio* is ours / published. *Band* is where we expect the truth. Of a price it goes, for energies, from settled values
alone to all glitches; it is wider by the fit's 90th percentile of error, and by x/÷ 2 where it is scaled between
nodes. Of a ratio of two units it holds what the libraries around the node say, wider by the fit's errors of
both. A *miss* is a published number that lies outside of the band, or is more than a factor of 2 from ours however wide
the band is; it names its explanation below the table. Means are geometric; the spread is one standard deviation of
the logarithms.
"""


def quantity(name: str) -> str:
    """A quantity in words."""
    return _NAMES.get(name, name.replace("_ratio", " ratio"))


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return "–"
    if value >= 1000:
        return f"{float(f'{value:.3g}'):.0f}"
    text = f"{value:#.3g}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def published(found: Comparison) -> str:
    """What was printed, with its range."""
    a = found.anchor
    span = "" if a.low == a.high == a.value else f" [{a.low:.6g} … {a.high:.6g}]"
    return f"{a.value:.6g}{span}"


def verdict(found: Comparison) -> str:
    """In band, missed and why, or why it is not priced."""
    if found.ours is None:
        return f"not priced: {found.anchor.unpriced}"
    if not found.missed:
        return "in band"
    return f"**miss** ({'outside of the band' if found.outside else 'over 2x'}): {found.anchor.miss}"


def subject(found: Comparison) -> str:
    a = found.anchor
    return f"{a.subject} / {a.versus}" if a.versus else a.subject


def ours(found: Comparison) -> str:
    """The unit of ours."""
    if found.ours is not None and found.ours.basis == "measured":
        return "measured"
    a = found.anchor
    return f"{a.ours} / {a.ours_versus}" if a.ours_versus else a.ours


def _table(header: str, rows: Iterable[Sequence[str]]) -> list[str]:
    columns = header.split(" | ")
    return [f"| {header} |", "|---" * len(columns) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def _upshot() -> list[str]:
    """All papers at a glance."""
    rows = []
    for name, paper in papers().items():
        known = [summary for summary in summaries() if summary.anchor == name]
        rows += [[paper["title"], *_mean(summary)] for summary in known] or [[paper["title"], *["–"] * 6]]
    return _table("paper | what | priced | ours / published, mean | spread | least … most | misses", rows)


def _mean(summary: Summary) -> list[str]:
    spread = f"x/÷ {summary.spread:.2f}" if summary.spread is not None and summary.priced > 1 else "–"
    ends = f"{number(summary.least)} … {number(summary.most)}" if summary.priced > 1 else "–"
    counts = f"{summary.priced} of {summary.rows}"
    return [quantity(summary.quantity), counts, number(summary.mean), spread, ends, str(summary.missed)]


def _section(name: str, rows: list[Comparison]) -> list[str]:
    paper = papers()[name]
    sources = dict.fromkeys(f"{found.anchor.source}; {_identifier(found.anchor.doi)}" for found in rows)
    lines = [f"## {paper['title']}", "", *(f"{source}.\n" for source in sources), " ".join(paper["about"].split()), ""]
    if not rows:
        return lines
    lines += _table(
        "what | node | published | ours | ours, band | ratio | verdict",
        (
            [
                f"{quantity(found.anchor.quantity)}: {subject(found)}",
                found.anchor.node,
                published(found),
                f"`{ours(found)}`" if found.ours else "–",
                banded(found),
                number(found.ratio),
                verdict(found),
            ]
            for found in rows
        ),
    )
    for miss, text in paper.get("misses", {}).items():
        lines += [f"- **{miss}**: {' '.join(text.split())}"]
    lines += [""] if paper.get("misses") else []
    checks = [row for row in measured() if row["anchor"] == name]
    if checks:
        lines += ["Measured on mapped designs:", "", *_measured(checks)]
    lines += ["How the numbers were seen:", ""]
    for note, group in groupby(rows, key=lambda found: found.anchor.note):
        lines += [f"- {'; '.join(f'{quantity(f.anchor.quantity)}: {subject(f)}' for f in group)}: {note}."]
    return [*lines, ""]


def _measured(rows: list[dict[str, str]]) -> list[str]:
    """Pairs of designs, and what came out on each library."""
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    pairs: dict[str, dict[str, str]] = {}
    for row in rows:
        what = f"{quantity(row['quantity'])}: `{row['subject']}` / `{row['versus']}`"
        pairs.setdefault(what, {"date": row["date"]})[row["library"]] = row["value"]
    cells = ([what, *(found.get(name, "–") for name in [*libraries, "date"])] for what, found in pairs.items())
    return _table(" | ".join(["what", *libraries, "date"]), cells)


def banded(found: Comparison) -> str:
    """Our number and its band."""
    if found.ours is None:
        return "–"
    return f"{number(found.ours.value)} [{number(found.ours.low)} … {number(found.ours.high)}]"


def _identifier(doi: str) -> str:
    return doi if doi.split(":")[0] in ("isbn", "arxiv", "hotchips") else f"doi:{doi}"


def markdown() -> str:
    """The document."""
    lines = [_INTRODUCTION, *_upshot()]
    for name in papers():
        lines += _section(name, [found for found in comparisons() if found.anchor.anchor == name])
    return "\n".join(lines).rstrip() + "\n"
