"""The folder of ``halfulp solve-study``: page, figures and tables. A pure function of Records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..emulator.files import write_atomically
from . import solver_figures, solver_table
from .page import template
from .record import Record
from .solver_study import FIXED
from .table import to_csv

_HURT = 200  #: rows of the page's table of solves that low precision did not pay in; all are in solves.csv


def write(records: Sequence[Record], folder: Path, command: str) -> Path:
    """Write ``index.html``, the figures as SVG and PNG, and the tables as CSV into ``folder``.

    Parameters
    ----------
    records : of a ``SolverStudy``. command : that gave them, for the page's last section.

    Returns
    -------
    The path of the page, which needs no other file and no network.
    """
    rows = solver_table.solves(records)
    table = solver_table.policies(rows, records[0].input["cost"])
    left, fixed, trade_off = solver_table.left(rows), solver_table.fixed(records), solver_table.trade_off(rows)
    drawn = solver_figures.draw(records, rows, trade_off)
    hurt = solver_table.hurt(rows)
    agents = {r.label: r.input["policy"] for r in records if r.label.startswith(solver_table.AGENT)}
    families = solver_table.by_family(rows)
    tables = {
        "policies.csv": (table, solver_table.POLICIES),
        "trade_off.csv": (trade_off, solver_table.TRADE_OFF),
        "fixed.csv": (fixed, solver_table.FIXED_COLUMNS),
        "solves.csv": (rows, solver_table.SOLVES),
    }
    page = template("solver.html").render(
        headline=solver_table.headline(table, rows),
        policies=table.to_dict("records"),
        families=families.to_dict("records"),
        family_columns=[name for name in families if name not in ("unseen", "family", "systems")],
        systems=solver_table.by_system(rows).to_dict("records"),
        hurt=hurt[:_HURT].to_dict("records"),
        hurt_in_all=len(hurt),
        hurt_by_policy=hurt["policy"].value_counts().to_dict(),
        unsolved=left[left["status"] != solver_table.CONVERGED].to_dict("records"),
        too_long=left[left["status"] == solver_table.CONVERGED].to_dict("records"),
        observed=rows[rows["events"] != ""].to_dict("records"),
        figures=drawn,
        tables={name: columns for name, (_, columns) in tables.items()},
        first=records[0],
        seeds=sorted({r.seed for r in records}),
        agents=agents,
        contenders=_described(records),
        fixed=fixed.to_dict("records"),
        safeguard=next((r.input["safeguard"] for r in records if r.input["safeguard"]), {}),
        sources=sorted({source for r in records for source in r.energy["sources"]}),
        bases=sorted({r.energy["basis"] for r in records}),
        command=command,
        known=pd.notna,
    )
    for name, (svg, png, _) in drawn.items():
        write_atomically(folder / f"{name}.svg", svg)
        write_atomically(folder / f"{name}.png", png)
    for name, (content, _) in tables.items():
        write_atomically(folder / name, to_csv(content))
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _described(records: Sequence[Record]) -> dict[str, str]:
    """What each contender is that is no agent and no fixed precision of the oracle's: its precisions."""
    found = {}
    for r in records:
        if r.label not in found and not r.label.startswith((solver_table.AGENT, FIXED)):
            found[r.label] = _said(r)
    return found


def _said(r: Record) -> str:
    policy = r.input["policy"]
    steps = policy.get("ladder") or policy.get("choices") or [step for step, _ in policy.get("steps", ())]
    steps = steps or [policy["precision"]]
    said = " → ".join(_parts(step) for step in steps)
    bounds = ", ".join(f"{bound:g}" for _, bound in policy.get("steps", ()) if bound)
    said += f"; down to residuals of {bounds}" if bounds else ""
    said += f"; corrections down to {r.input['inner_tol']:g}" if r.input["inner_tol"] else ""
    said += "" if r.input["scaled"] else "; not scaled"
    said += "; the matrix stored losslessly" if r.input["lossless"] else ""
    return said + ("" if r.input["safeguard"] else "; no safeguard")


def _parts(precision: dict[str, str | None]) -> str:
    names = {
        part: precision[part]
        for part in ("spmv", "dot", "axpy", "residual", "solution", "storage", "buckets")
        if precision.get(part)
    }
    if len(set(names.values())) == 1:
        return str(precision["spmv"]).removesuffix("@RNE")
    return ", ".join(f"{part} {str(name).removesuffix('@RNE')}" for part, name in names.items())
