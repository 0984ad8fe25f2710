"""Figures: a pure function of Records and their table. Drawn with matplotlib, as SVG and PNG, byte-reproducible."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from ..emulator import names
from ..emulator.datapath import Datapath
from ..emulator.formats import FixedFormat
from .record import Record
from .table import pareto

#: One hue per operand family (Okabe & Ito's colour-blind safe palette).
HUES = {
    "fp64": "#8c8c8c",
    "fp32": "#000000",
    "tf32": "#56B4E9",
    "bf16": "#0072B2",
    "fp16": "#009E73",
    "fp8": "#D55E00",
    "fixed": "#CC79A7",
    "other": "#b8860b",
}
FAMILY_NAMES = {"fp8": "floats to 8 bits", "fixed": "fixed point", "other": "other floats"}
#: Where an accuracy axis has its ticks: errors, 1 - accuracy.
ERROR_TICKS = [
    0.95,
    0.9,
    0.8,
    0.7,
    0.6,
    0.5,
    0.4,
    0.3,
    0.2,
    0.15,
    0.1,
    0.07,
    0.05,
    0.04,
    0.03,
    0.02,
    0.01,
    0.005,
    0.001,
]
STYLE: Any = {
    "svg.hashsalt": "halfulp",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}


def family(forward: str) -> str:
    """Hue of a datapath, from its first operand format."""
    fmt = Datapath.parse(forward).a
    if isinstance(fmt, FixedFormat):
        return "fixed"
    return "fp8" if fmt.bits <= 8 else names.alias(fmt) if names.alias(fmt) in HUES else "other"


def is_stochastic(row: pd.Series) -> bool:
    """Whether anything in a row is rounded stochastically."""
    return "SR" in row["forward"] or "SR" in row["update"]


def _clusters(places: np.ndarray, reach: float) -> list[list[int]]:
    """Indices of points that lie within ``reach`` pixels of a cluster's first point."""
    clusters: list[list[int]] = []
    for i, place in enumerate(places):
        near = next((c for c in clusters if np.hypot(*(places[c[0]] - place)) < reach), None)
        if near is None:
            clusters.append([i])
        else:
            near.append(i)
    return clusters


def _label_points(figure: Figure, axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Write the points' names beside them: points that coincide share a label, and each label takes the place
    around its point where it covers least; a line leads to it where it is not next to its point."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # the names must not move what they were placed around
    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    places = np.array([axes.transData.transform(point[:2]) for point in points])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    turns = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    ring = [(reach * np.cos(t), reach * 0.75 * np.sin(t)) for reach in (9, 17, 26, 36, 48, 62, 78) for t in turns]

    def overlap(box: Bbox) -> float:
        sizes = (Bbox.intersection(box, other) for other in taken)
        covered = sum(both.width * both.height for both in sizes if both is not None)
        outside = max(frame.x0 - box.x0, 0) + max(box.x1 - frame.x1 - 40, 0)
        return covered + 50.0 * (outside + max(frame.y0 - box.y0, 0) + max(box.y1 - frame.y1, 0))

    for cluster in sorted(_clusters(places, 9.0), key=len, reverse=True):
        x, y, _ = points[cluster[0]]
        name = "\n".join(points[i][2] for i in cluster)
        style = {"textcoords": "offset points", "va": "center", "fontsize": 7.5, "color": "#333333", "zorder": 2.5}
        best = None
        for dx, dy in ring:
            side = "left" if dx > 2 else "right" if dx < -2 else "center"
            text = axes.annotate(name, (x, y), (dx, dy), ha=side, linespacing=1.05, **style)
            box = text.get_window_extent(renderer)
            text.remove()
            cost = overlap(box) + 0.4 * (dx * dx + dy * dy)
            if best is None or cost < best[0]:
                best = (cost, dx, dy, side, box)
        assert best is not None
        _, dx, dy, side, box = best
        arrow = {"arrowstyle": "-", "color": "#aaaaaa", "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
        axes.annotate(
            name,
            (x, y),
            (dx, dy),
            ha=side,
            linespacing=1.05,
            arrowprops=arrow if abs(dx) + abs(dy) > 12 else None,
            **style,
        )
        taken.append(box)


def _families(axes, table: pd.DataFrame) -> None:
    """A legend of hues and markers."""
    present = [f for f in HUES if any(family(name) == f for name in table["forward"])]
    handles = [Line2D([], [], ls="", marker="s", color=HUES[f], label=FAMILY_NAMES.get(f, f)) for f in present]
    handles += [
        Line2D([], [], ls="", marker=m, color="#777777", mfc=fill, label=text)
        for m, fill, text in (("o", "none", "deterministic"), ("D", None, "stochastic"))
    ]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def _scatter(table: pd.DataFrame, x: str, y: str, x_label: str, y_label: str, title: str) -> Figure:
    """Two logarithmic axes; an accuracy is drawn as its error, downward, and labelled as the accuracy it is."""
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    is_accuracy = "accuracy" in y
    heights = (1.0 - table[y]).clip(lower=1e-3) if is_accuracy else table[y]
    for (_, row), height in zip(table.iterrows(), heights, strict=True):
        hollow = not is_stochastic(row)
        hue = HUES[family(row["forward"])]
        axes.plot(
            row[x],
            height,
            "o" if hollow else "D",
            ms=6 if hollow else 5,
            mec=hue,
            mew=1.5,
            mfc="none" if hollow else hue,
            zorder=3,
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.margins(x=0.12, y=0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "25" else ""))
    if is_accuracy:
        line = pareto(table, x, y)
        axes.plot(table[x][line], heights[line], "-", drawstyle="steps-post", color="#999999", lw=1.2, zorder=2)
        axes.invert_yaxis()
        axes.yaxis.set_major_locator(FixedLocator(ERROR_TICKS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * (1 - v):g} %"))
    _families(axes, table)
    _label_points(
        figure,
        axes,
        [(row[x], height, row["datapath"]) for (_, row), height in zip(table.iterrows(), heights, strict=True)],
    )
    return figure


def accuracy_energy(table: pd.DataFrame, node: str) -> Figure:
    """Accuracy of training from scratch against its energy."""
    title = "Training from scratch: accuracy against energy (line: Pareto front)"
    return _scatter(
        table,
        "train_energy_uj",
        "train_accuracy_mean",
        f"energy of one training run, µJ (estimated, {node})",
        "test accuracy, mean over seeds (log of the error)",
        title,
    )


def infer_energy(table: pd.DataFrame, node: str) -> Figure:
    """Accuracy of the quantised reference network against energy per image."""
    title = "Inference of one network, quantised to each datapath (line: Pareto front)"
    return _scatter(
        table,
        "infer_energy_nj",
        "infer_accuracy",
        f"energy per image, nJ (estimated, {node})",
        "test accuracy (log of the error)",
        title,
    )


def area_energy(table: pd.DataFrame, node: str) -> Figure:
    """Area against energy of the multiply-accumulate units."""
    title = "What the multiply-accumulate unit costs"
    return _scatter(
        table,
        "energy_pj_per_mac",
        "area_um2_per_mac",
        f"energy per multiply-accumulate, pJ (estimated, {node})",
        "area, µm² (estimated)",
        title,
    )


def cg_residuals(records: Sequence[Record]) -> Figure:
    """True residual histories of CG."""
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    solves = [record for record in records if record.kind == "cg"]
    styles = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
    used: dict[str, int] = {}
    for index, record in enumerate(solves):
        hue = family(record.input["precision"]["spmv"])
        style = styles[used.setdefault(hue, 0) % len(styles)]
        used[hue] += 1
        history = [float("nan") if r is None else r for r in record.result["true_residuals"]]
        width = 1.2 + 4.5 * 0.8**index  # later lines are thinner, so that equal ones show
        shade = 0.12 * (used[hue] - 1)  # of one family, each a little lighter
        color = [c + (1.0 - c) * min(shade, 0.6) for c in to_rgb(HUES[hue])]
        axes.plot(history, ls=style, color=color, lw=width, label=f"{record.label} ({record.result['status']})")
    axes.set_yscale("log")
    axes.set_ylim(top=20.0)  # what diverges leaves the picture
    axes.axhline(solves[0].input["tol"], color="#999999", lw=0.8)
    axes.annotate(
        "tol",
        (1, solves[0].input["tol"]),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color="#666666",
    )
    axes.set_xlabel("iteration")
    axes.set_ylabel("true residual ||b − A x|| / ||b||")
    axes.set_title(f"Conjugate gradients on {solves[0].input['problem']}", loc="left", fontsize=11)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5, frameon=False)
    return figure


def learning(records: Sequence[Record], title: str) -> Figure:
    """Test errors of runs of training, epoch by epoch: of floats in black, rounded to nearest dashed."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 5.0), layout="constrained")
        axes = figure.add_subplot()
        hues = itertools.cycle(hue for name, hue in HUES.items() if name not in ("fp32", "fp64"))
        of = {"float": HUES["fp32"]}  # by formats: the roundings of one share a hue
        for record in records:
            epochs, formats = record.result["epochs"], record.label.removeprefix("SR ").removeprefix("RN ")
            hue = of[formats] if formats in of else of.setdefault(formats, next(hues))
            style = "--" if record.label.startswith("RN") else "-"
            errors = [100 * (1 - epoch[3]) for epoch in epochs]
            axes.plot([epoch[0] for epoch in epochs], errors, style, color=hue, lw=1.5, label=record.label)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator([0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 90]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("test error")
        axes.set_title(title, loc="left", fontsize=11)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
        return figure


def draw(records: Sequence[Record], table: pd.DataFrame) -> dict[str, tuple[str, bytes, str]]:
    """Every figure of the report: name -> (SVG text, PNG bytes, caption)."""
    node = records[0].energy["node"]
    with matplotlib.rc_context(STYLE):
        figures = {
            "accuracy_energy": (
                accuracy_energy(table, node),
                "Networks trained from scratch with every contraction and every weight update on the datapath.",
            ),
            "infer_energy": (
                infer_energy(table, node),
                "The network trained on the first datapath, its inference quantised to each datapath.",
            ),
            "area_energy": (area_energy(table, node), "One multiplier and one accumulating adder; memory excluded."),
            "cg_residuals": (
                cg_residuals(records),
                "What the solver reached, measured from outside in fp64, not what it believed.",
            ),
        }
        drawn = {}
        for name, (figure, caption) in figures.items():
            drawn[name] = (*rendered(figure), caption)
    return drawn


def rendered(figure: Figure) -> tuple[str, bytes]:
    """A figure as SVG and PNG, the same bytes each time."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()
