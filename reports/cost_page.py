"""The folder of ``halfulp cost --plot``: figures as SVG and PNG, their numbers, and a page with all of it."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path

import matplotlib

from ..emulator.cost import cost
from ..emulator.datapath import Datapath
from ..emulator.files import write_atomically
from . import cost_figures, cost_study
from .figures import STYLE, rendered
from .page import template
from .record import versions

DEFAULT = "fp16/fp32"  #: the datapath where none is given
COLUMNS = "sweep x datapath node area_um2_per_mac area_low area_high energy_pj_per_mac energy_low energy_high basis"


def write(datapath: Datapath, node: str, folder: Path) -> Path:
    """Write ``index.html``, the figures and ``costs.csv`` into ``folder``; returns the path of the page."""
    sweeps, compared = cost_study.sweeps(datapath, node), cost_study.breakdown(datapath, node)
    price = cost(datapath, node)
    name = datapath.name.removesuffix("@RNE")
    at = Path(node).name  # of a node, itself; of a library's file, not its folders
    with matplotlib.rc_context(STYLE):
        drawn = {"parts": rendered(cost_figures.parts(compared, at))}
        drawn |= {found.name: rendered(cost_figures.sweep(found, name, at)) for found in sweeps}
    points = [("parts", point) for point in compared] + [(found.name, p) for found in sweeps for p in found.points]
    page = template("cost.html").render(
        name=name,
        price=price,
        figures={key: svg for key, (svg, _) in drawn.items()},
        sources=sorted({source for _, point in points for source in point.cost.sources}),
        meanings={basis: text for _, point in points for basis, text in point.cost.meaning.items()},
        command=f"halfulp cost {shlex.quote(name)} --node {shlex.quote(node)} --plot {shlex.quote(str(folder))}",
        version=versions()["halfulp"],
    )
    for key, (svg, png) in drawn.items():
        write_atomically(folder / f"{key}.svg", svg)
        write_atomically(folder / f"{key}.png", png)
    write_atomically(folder / "costs.csv", _table(points))
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _table(points: list[tuple[str, cost_study.Point]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS.split())
    for sweep, point in points:
        area, energy = ((getattr(point, q), *point.band(q)) for q in ("area_um2", "energy_pj"))
        numbers = (f"{value:.6g}" for value in (*area, *energy))
        basis = "/".join(dict.fromkeys(point.cost.basis[q] for q in ("area_um2", "energy_pj")))
        writer.writerow([sweep, point.x, point.cost.unit, point.cost.node, *numbers, basis])
    return file.getvalue()
