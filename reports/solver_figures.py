"""Figures of a solver study: a pure function of its tables."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..emulator.datapath import Datapath
from .figures import STYLE, rendered
from .record import Record
from .solver_study import AGENT, ORACLE, REFERENCE
from .solver_table import CONVERGED, heat, main_agent, order

#: Of Okabe & Ito's colour-blind safe palette.
AGENT_HUE, ORACLE_HUE, OTHER_HUE, FAMILY_HUE = "#0072B2", "#D55E00", "#777777", "#009E73"
_MARKS = "osD^vP*X<>phdH8"
_FRAME = 2.0  #: times all fp64's, of the trade-off: what takes more is not drawn
GOAL_SAVING, GOAL_SHARE, GOAL_MORE = 0.4, 0.8, 0.05  #: of the agent: median, of the oracle's saving, most more energy


def hue(policy: str) -> str:
    return AGENT_HUE if policy.startswith(AGENT) else ORACLE_HUE if policy == ORACLE else OTHER_HUE


def _percent(axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))


def energies(rows: pd.DataFrame, node: str) -> Figure:
    """Energy of each policy on each system, as a share of all fp64's."""
    names = [name for name in order(rows) if name != REFERENCE][::-1]
    figure = Figure(figsize=(7.6, 0.42 * len(names) + 1.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    rng = np.random.default_rng(0)  # of heights alone
    for place, name in enumerate(names):
        own = rows[rows["policy"] == name]
        heights = place + rng.uniform(-0.22, 0.22, len(own))
        done = (own["status"] == CONVERGED).to_numpy()
        ratio = own["energy_ratio"].to_numpy()
        axes.plot(ratio[done], heights[done], "o", ms=3.5, mec="none", mfc=hue(name), alpha=0.55)
        axes.plot(ratio[~done], heights[~done], "x", ms=4, mec="#b00020", mew=1.0)
        if done.any():
            axes.plot([np.median(ratio[done])] * 2, [place - 0.36, place + 0.36], color="#000000", lw=1.8)
    axes.axvline(1.0, color="#999999", lw=1.0)
    axes.axvline(1.0 - GOAL_SAVING, color="#999999", lw=1.0, ls=":")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    for tell in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        tell(FuncFormatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "12346" else ""))
    axes.set_xlabel(f"energy over that of all fp64 (estimated, {node})")
    axes.set_title("Energy by policy: systems (dots), medians (bars), not solved (crosses)", loc="left", fontsize=11)
    return figure


def beside_oracle(rows: pd.DataFrame) -> Figure:
    """The agent's saving beside the oracle's, system by system."""
    name = main_agent(rows)
    keys = ["seed", "system"]
    oracle = rows[rows["policy"] == ORACLE].set_index(keys)["energy_ratio"]
    own = rows[(rows["policy"] == name) & (rows["status"] == CONVERGED)].set_index(keys)
    both = own.join(oracle.rename("oracle"), how="inner")
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for kind, color in (("matrix", AGENT_HUE), ("family", FAMILY_HUE)):
        some = both[both["unseen"] == kind]
        label = f"unseen by {kind} ({len(some)})"
        axes.plot(
            1 - some["oracle"], 1 - some["energy_ratio"], "o", ms=5, mec="none", mfc=color, alpha=0.6, label=label
        )
    high = max(0.05, float((1.0 - both["oracle"]).max()) if len(both) else 0.05)
    axes.plot([0, high], [0, high], color="#999999", lw=1.0)
    axes.plot([0, high], [0, GOAL_SHARE * high], color="#999999", lw=1.0, ls=":", label=f"{GOAL_SHARE:.0%} of it")
    axes.axhline(-GOAL_MORE, color="#b00020", lw=0.8, ls=":", label=f"{GOAL_MORE:.0%} more than fp64")
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    axes.set_xlabel("saving of energy by the oracle, the best fixed precision")
    axes.set_ylabel("saving by the agent")
    axes.set_title(f"{name} beside the oracle", loc="left", fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    return figure


def trade_off(table: pd.DataFrame) -> Figure:
    """Energy against iterations and time, over all fp64's; agents by their cost weight are joined."""
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    several = figure.subplots(1, 2, sharey=True)
    names = table["policy"]
    agents = names[names.str.startswith(AGENT)]
    agents = agents.loc[sorted(agents.index, key=lambda i: float(agents[i].rsplit(" ", 1)[1]))]
    labels = {"iterations": "iterations over all fp64's", "time": "time over all fp64's, by the time model"}
    outside = (table[["energy", *labels]] > _FRAME).any(axis=1)
    joined = agents.index[~outside[agents.index]]
    for axes, (kind, label) in zip(several, labels.items(), strict=True):
        axes.plot(table[kind][joined], table["energy"][joined], "-", color=AGENT_HUE, lw=1.2)
        for place, (i, name) in enumerate(names.items()):
            mark = _MARKS[place % len(_MARKS)]
            at = ([], []) if outside[i] else (table[kind][i], table["energy"][i])
            shown = f"{name} (outside)" if outside[i] else name
            axes.plot(*at, mark, ms=7, mfc="none", mec=hue(name), mew=1.6, ls="", label=shown)
        axes.margins(0.1)
        axes.set_xlabel(label)
    several[0].set_ylabel("energy over all fp64's")
    systems = table["systems"].max()
    figure.suptitle(
        f"Means over {systems} systems; agents (blue) are joined by their cost weight", x=0.01, ha="left", fontsize=11
    )
    figure.legend(
        *several[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return figure


def choices(records: Sequence[Record], label: str) -> Figure:
    """How often each precision was chosen for each operation, by the residual."""
    tables = heat(records, label)
    heights = [len(table) for table in tables.values()]
    figure = Figure(figsize=(7.6, 0.42 * sum(heights) + 0.9 * len(heights) + 0.6), layout="constrained")
    several = figure.subplots(len(tables), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (part, table) in zip(several, tables.items(), strict=True):
        table = table.loc[sorted(table.index, key=lambda name: (Datapath.parse(name).a.bits, name))]  # type: ignore[union-attr]
        edges = (np.arange(n + 1) - 0.5 for n in reversed(table.shape))
        axes.pcolormesh(*edges, table.to_numpy(), cmap="Blues", vmin=0.0, vmax=1.0)
        axes.invert_yaxis()
        for (row, column), share in np.ndenumerate(table.to_numpy()):
            color = "#ffffff" if share > 0.6 else "#333333"
            shown = f"{100 * share:.0f}" if share >= 0.005 else ""
            axes.text(column, row, shown, ha="center", va="center", fontsize=8, color=color)
        axes.set_yticks(range(len(table)), table.index.str.removesuffix("@RNE"))
        axes.set_xticks(range(table.shape[1]), table.columns.str.replace("1e-0", "1"))
        axes.grid(visible=False)
        axes.set_title(part, loc="left", fontsize=10)
    several[-1].set_xlabel("decade of the residual before the iteration: from this down to a tenth of it")
    figure.suptitle(f"{label}: share of iterations in each precision, %", x=0.01, ha="left", fontsize=11)
    return figure


def draw(records: Sequence[Record], rows: pd.DataFrame, traded: pd.DataFrame) -> dict[str, tuple[str, bytes, str]]:
    """Every figure of the report: name -> (SVG text, PNG bytes, caption)."""
    agent = main_agent(rows)
    with matplotlib.rc_context(STYLE):
        figures = {
            "energies": (
                energies(rows, records[0].energy["node"]),
                f"Dotted: {GOAL_SAVING:.0%} saved. What is right of 1 costs more than all fp64.",
            ),
        }
        if len(traded):
            caption = "Lower and further left is better; policies that solve all of the systems."
            figures["trade_off"] = (trade_off(traded), caption)
        if agent is not None:
            caption = "On the grey line the agent is as good as an oracle that has tried every fixed precision."
            figures["beside_oracle"] = (beside_oracle(rows), caption)
            caption = "Over all its solves; columns add up to 100. Iterations that the safeguard forced to fp64 count."
            figures["choices"] = (choices(records, agent), caption)
        return {name: (*rendered(figure), caption) for name, (figure, caption) in figures.items()}
