"""The report folder: page, figures, table and records. A pure function of Records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import jinja2

from ..emulator.files import write_atomically
from . import figures
from .record import Record
from .table import COLUMNS, headline, pareto, results, to_csv


def write(records: Sequence[Record], folder: Path, options: str = "") -> Path:
    """Write ``index.html``, the figures as SVG and PNG, ``results.csv`` and ``records.json`` into ``folder``.

    Parameters
    ----------
    options : the command line's options, for the page's last section.

    Returns
    -------
    The path of the page, which needs no other file and no network.
    """
    table = results(records)
    drawn = figures.draw(records, table)
    front = set(pareto(table, "train_energy_uj", "train_accuracy_mean"))
    rows = [{**row, "front": i in front} for i, row in enumerate(table.to_dict("records"))]
    first = {kind: next(r for r in records if r.kind == kind) for kind in ("train", "infer", "cg")}
    page = template("page.html").render(
        rows=rows,
        figures=drawn,
        headline=headline(table, records),
        columns=COLUMNS,
        node=records[0].energy["node"],
        versions=records[0].versions,
        train=first["train"].input,
        cg=first["cg"].input,
        seeds=sorted({r.seed for r in records if r.kind == "train"}),
        sources=sorted({source for r in records for source in (*r.energy["sources"], *r.unit["sources"])}),
        options=options,
    )
    for name, (svg, png, _) in drawn.items():
        write_atomically(folder / f"{name}.svg", svg)
        write_atomically(folder / f"{name}.png", png)
    write_atomically(folder / "results.csv", to_csv(table))
    write_atomically(
        folder / "records.json",
        json.dumps([asdict(r) for r in records], indent=1, sort_keys=True, allow_nan=False) + "\n",
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def template(name: str) -> jinja2.Template:
    """A page of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda file: resources.files(__package__).joinpath(file).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figures"] = three_figures
    return environment.get_template(name)


def three_figures(value: float) -> str:
    """Three significant figures, without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{float(f'{value:.3g}'):,.0f}"
