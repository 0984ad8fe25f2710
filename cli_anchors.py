"""``halfulp cost --anchors``: published numbers beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .console import in_folder, out, print_json
from .emulator.files import write_atomically

if TYPE_CHECKING:
    from .reports.anchors import Comparison, Summary


def show(where: Path | None, as_json: bool) -> None:
    """Print the table, or JSON, or write the document."""
    from .reports import anchors, anchors_page

    if where is not None:
        in_folder(where)
        write_atomically(where, anchors_page.markdown())
        return out.print(f"written: {where}")
    if as_json:
        return print_json(
            {
                "comparisons": [found.as_dict() for found in anchors.comparisons()],
                "summaries": [summary._asdict() for summary in anchors.summaries()],
                "measured": list(anchors.measured()),
            }
        )
    for paper, about in anchors.papers().items():
        rows = [_cells(found) for found in anchors.comparisons() if found.anchor.anchor == paper]
        out.print(about["title"])
        _aligned(rows or [["  no numbers of it to be had"]])
    heads = ["ours / published, geometric mean", "spread x/÷", "priced", "misses"]
    _aligned([["", *heads], *map(_mean, anchors.summaries())])


def _cells(found: Comparison) -> list[str]:
    from .reports import anchors_page as page

    a = found.anchor
    numbers = [page.published(found), page.banded(found), page.number(found.ratio)]
    return [f"  {a.node}", f"{a.quantity} {page.subject(found)}", *numbers, page.verdict(found).replace("*", "")]


def _mean(summary: Summary) -> list[str]:
    from .reports.anchors_page import number

    spread = f"{summary.spread:.2f}" if summary.spread is not None else number(None)
    name = f"{summary.anchor} {summary.quantity}"
    return [name, number(summary.mean), spread, f"{summary.priced} of {summary.rows}", str(summary.missed)]


def _aligned(rows: list[list[str]]) -> None:
    """Rows in columns, however wide, and an empty line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        out.print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    out.print()
