"""Figures of costs: a pure function of the sweeps and break-downs in ``cost_study``. Each says what its numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..emulator.scaling import nanometres
from .cost_study import JOBS, Point, Sweep, jobs
from .page import three_figures

#: quantity -> axis label, hue (Okabe & Ito's colour-blind safe palette).
QUANTITIES = {"area_um2": ("area per MAC, µm²", "#0072B2"), "energy_pj": ("energy per MAC, pJ", "#D55E00")}
HUES = dict(
    zip(
        JOBS,
        ["#b5b5b5", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#6a51a3", "#4d4d4d"],
        strict=True,
    )
)
#: How points are drawn, by the basis of their numbers.
MARKERS = {
    "fitted": ("o", True, "fitted to the node's library"),
    "extrapolated": ("o", False, "beyond what was measured"),
    "scaled": ("s", False, "scaled between libraries"),
    "assumed": ("^", False, "assumed"),
    "table": ("D", True, "published table"),
}
_SMALL: Any = {"fontsize": 7.5, "color": "#666666"}


def sweep(found: Sweep, name: str, node: str) -> Figure:
    """Area and energy against one thing."""
    figure = Figure(figsize=(8.4, 4.3), layout="constrained")
    for panel, quantity in zip(figure.subplots(1, 2), QUANTITIES, strict=True):
        draw = _nodes if found.name == "node" else _modes if isinstance(found.points[0].x, str) else _widths
        draw(panel, found, quantity)
        panel.set_xlabel(found.x_label)
        panel.set_ylabel(QUANTITIES[quantity][0])
        _same(panel, found, quantity)
    title = f"{found.title}: {name}" + (f", {node}" if found.name != "node" else "")
    _frame(figure, title, _bases(found), _sources(found.points))
    return figure


def _widths(axes: Any, found: Sweep, quantity: str) -> None:
    hue = QUANTITIES[quantity][1]
    joined = [point for point in found.points if point.cost.basis[quantity] != "table"]  # a table is another source
    xs = [point.x for point in joined]
    axes.fill_between(xs, *zip(*(point.band(quantity) for point in joined), strict=True), color=hue, alpha=0.14, lw=0)
    axes.plot(xs, [getattr(point, quantity) for point in joined], color=hue, lw=1.4)
    _points(axes, [(point.x, point) for point in found.points], found.here, quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
    axes.set_ylim(bottom=0)


def _modes(axes: Any, found: Sweep, quantity: str) -> None:
    _points(axes, list(enumerate(found.points)), found.here, quantity, bars=True)
    axes.set_xticks(range(len(found.points)), [point.x for point in found.points], fontsize=8.5)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-0.6, len(found.points) - 0.4)
    axes.set_ylim(bottom=0)


def _nodes(axes: Any, found: Sweep, quantity: str) -> None:
    hue = QUANTITIES[quantity][1]
    sizes = [nanometres(point.x) for point in found.points]
    joined = [(x, point) for x, point in zip(sizes, found.points, strict=True) if point.cost.basis[quantity] != "table"]
    xs, line = zip(*joined, strict=True)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.fill_between(xs, *zip(*(point.band(quantity) for point in line), strict=True), color=hue, alpha=0.14, lw=0)
    axes.plot(xs, [getattr(point, quantity) for point in line], color=hue, lw=1.4)
    _points(axes, list(zip(sizes, found.points, strict=True)), found.here, quantity)
    shown = [size for size in sizes if size in {130, 65, 45, 28, 16, 7, 5, 3, 2}]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.invert_xaxis()


def _points(axes: Any, points: list[tuple[Any, Point]], here: Any, quantity: str, bars: bool = False) -> None:
    """A marker for each, which tells its basis; a ring around the datapath itself."""
    hue = QUANTITIES[quantity][1]
    for x, point in points:
        value = getattr(point, quantity)
        marker, filled, _ = MARKERS[point.cost.basis[quantity]]
        if bars or point.cost.basis[quantity] == "table":
            low, high = point.band(quantity)
            axes.errorbar(
                x, value, [[value - low], [high - value]], fmt="none", ecolor=hue, alpha=0.45, capsize=2, lw=1
            )
        axes.plot(x, value, marker, ms=4.5, mec=hue, mfc=hue if filled else "white", mew=1.1, zorder=3)
        if point.x == here:
            axes.plot(x, value, "o", ms=11, mec="#222222", mfc="none", mew=1.3, zorder=4)


def _same(axes: Any, found: Sweep, quantity: str) -> None:
    values = [getattr(point, quantity) for point in found.points]
    if max(values) - min(values) < 1e-9 * max(values):
        axes.text(0.5, 1.01, "no difference", transform=axes.transAxes, ha="center", **_SMALL)


def _bases(found: Sweep) -> list[Any]:
    """What the markers mean."""
    present = {basis for point in found.points for q, basis in point.cost.basis.items() if q in QUANTITIES}
    handles: list[Any] = [
        Line2D([], [], ls="", marker=marker, ms=5, mec="#555555", mfc="#555555" if filled else "white", label=text)
        for basis, (marker, filled, text) in MARKERS.items()
        if basis in present
    ]
    handles.append(Patch(color="#999999", alpha=0.3, lw=0, label="low to high estimate"))
    if found.here is not None:
        handles.append(Line2D([], [], ls="", marker="o", ms=9, mec="#222222", mfc="none", label="this datapath"))
    return handles


def parts(found: Sequence[Point], node: str) -> Figure:
    """Area and energy by job, a bar a datapath."""
    figure = Figure(figsize=(9.6, 2.1 + 0.36 * len(found)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    used: set[str] = set()
    for panel, quantity in zip(axes, QUANTITIES, strict=True):
        most = max(getattr(point, quantity) for point in found)
        for i, point in enumerate(found):
            left = 0.0
            for job, value in jobs(point.cost, quantity).items():
                if value:
                    used.add(job)
                    panel.barh(i, value, left=left, color=HUES[job], height=0.72, lw=0)
                    left += value
            printed = " (table)" if point.cost.basis[quantity] == "table" else ""
            panel.text(left + 0.012 * most, i, three_figures(left) + printed, va="center", fontsize=8)
        panel.set_xlim(0, 1.15 * most)
        panel.set_xlabel(QUANTITIES[quantity][0])
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    names = [_broken(str(point.x).removesuffix("@RNE")) for point in found]
    axes[0].set_yticks(range(len(found)), names, fontsize=8.5)
    axes[0].invert_yaxis()
    handles = [Patch(color=HUES[job], lw=0, label=job) for job in JOBS if job in used]
    note = "Of fixed point, multiplier and accumulator are one heap of adders, under multiply. "
    _frame(figure, f"What each part takes, {node}", handles, note + _sources(found))
    return figure


def _broken(name: str) -> str:
    """A long name on two lines."""
    return name if len(name) < 26 else name.replace(":", ":\n", 1)


# ---- around every figure


def _sources(points: Sequence[Point]) -> str:
    """Where the numbers come from."""
    sources = dict.fromkeys(source for point in points for source in point.cost.sources)
    fits = [source.removeprefix("fitted to ") for source in sources if source.startswith("fitted to ")]
    others = [source.split(";")[0] for source in sources if not source.startswith("fitted to ")]
    text = f"Estimates, fitted to {'; '.join(fits)}." if fits else "Estimates."
    return text + (f" Other sources: {'; '.join(others)}." if others else "")


def _frame(figure: Figure, title: str, handles: list[Any], footer: str) -> None:
    """Title and legend above the panels, the sources below them; each at its place in inches."""
    width, height = figure.get_size_inches()
    titled, footed = fill(title, round(width * 11)), fill(footer, round(width * 20))
    top, bottom = 0.24 + 0.17 * titled.count("\n"), 0.12 * (1 + footed.count("\n")) + 0.06
    figure.text(0.012, 1 - 0.06 / height, titled, va="top", fontsize=11)
    figure.text(0.012, 0.05 / height, footed, va="bottom", fontsize=6.5, color="#666666")
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.004, 1 - top / height),
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=1.4,
    ).set_in_layout(False)
    used = (top + 0.34 + bottom) / height
    figure.get_layout_engine().set(rect=(0, bottom / height, 1, 1 - used))  # type: ignore[union-attr,call-arg]
