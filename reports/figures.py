"""Figures: a pure function of Records and their table. Drawn with matplotlib, as SVG and PNG, byte-reproducible."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

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
HALO = [withStroke(linewidth=2.5, foreground="white")]
FAMILY_NAMES = {"fp8": "8-bit floats", "fixed": "fixed point"}
_STYLE: Any = {
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
    """Hue of a datapath, from its operand format's name."""
    for prefix in ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8"):
        if forward.startswith(prefix):
            return prefix
    return "fixed" if forward[0] in "qu" or forward.startswith("int") else "other"


def _label_points(figure: Figure, axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name beside it, at the first of a ring of places where it covers nothing yet."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # the names must not move what they were placed around
    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    taken = [
        matplotlib.transforms.Bbox.from_bounds(x - 5, y - 5, 10, 10)
        for x, y in (axes.transData.transform(p[:2]) for p in points)
    ]
    places = [
        (dx * reach, dy * reach, align)
        for reach in (1.0, 1.9, 2.8, 3.8, 5.0)
        for dx, dy, align in (
            (8, 0, "left"),
            (6, 8, "left"),
            (6, -8, "left"),
            (-8, 0, "right"),
            (-6, 8, "right"),
            (-6, -8, "right"),
            (0, 11, "center"),
            (0, -11, "center"),
        )
    ]
    for x, y, name in points:
        for dx, dy, align in places:
            text = axes.annotate(
                name,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=8,
                color="#333333",
                path_effects=HALO,
            )
            box = text.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 + 60 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                if abs(dx) + abs(dy) > 20:
                    axes.annotate(
                        "",
                        (x, y),
                        (dx, dy),
                        textcoords="offset points",
                        arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "lw": 0.6},
                    )
                break
            text.remove()
        else:
            box = axes.annotate(
                name,
                (x, y),
                (8, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color="#333333",
                path_effects=HALO,
            ).get_window_extent(renderer)
        taken.append(box)


def _families(axes, table: pd.DataFrame) -> None:
    """A legend of hues and markers."""
    present = [f for f in HUES if any(family(name) == f for name in table["forward"])]
    handles = [Line2D([], [], ls="", marker="s", color=HUES[f], label=FAMILY_NAMES.get(f, f)) for f in present]
    handles += [
        Line2D([], [], ls="", marker=m, color="#777777", mfc=fill, label=text)
        for m, fill, text in (("o", "none", "nearest"), ("D", None, "stochastic"))
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
        hollow = "SR" not in row["forward"]
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
        axes.yaxis.set_major_locator(
            FixedLocator([0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.04, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001])
        )
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
        "test accuracy, mean over seeds",
        title,
    )


def infer_energy(table: pd.DataFrame, node: str) -> Figure:
    """Accuracy of the quantised reference network against energy per image."""
    title = "Inference of one network, quantised to each datapath (line: Pareto front)"
    return _scatter(
        table, "infer_energy_nj", "infer_accuracy", f"energy per image, nJ (estimated, {node})", "test accuracy", title
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
        axes.plot(history, ls=style, color=HUES[hue], lw=width, label=f"{record.label} ({record.result['status']})")
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


def draw(records: Sequence[Record], table: pd.DataFrame) -> dict[str, tuple[str, bytes, str]]:
    """Every figure of the report: name -> (SVG text, PNG bytes, caption)."""
    node = records[0].energy["node"]
    with matplotlib.rc_context(_STYLE):
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
            svg, png = io.StringIO(), io.BytesIO()
            figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
            figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
            drawn[name] = (svg.getvalue(), png.getvalue(), caption)
    return drawn
