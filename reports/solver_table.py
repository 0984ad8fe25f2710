"""Tables of a solver study: a pure function of its Records."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .record import Record
from .solver_study import AGENT, FIXED, ORACLE, REFERENCE

#: Columns of solves.csv. Ratios are to all fp64 on the same system.
SOLVES = {
    "seed": "of the agent, the split and right-hand sides of files",
    "system": "name",
    "family": "that it is of",
    "unseen": "whether only the matrix or all of its family is new to the agent",
    "n": "unknowns",
    "nnz": "nonzeros",
    "policy": "what chose precisions",
    "status": "how the solve ended",
    "iterations": "done in all",
    "true_residual": "||b - A x|| / ||b|| of the returned x, in fp64",
    "energy_pj": "of the solve",
    "energy_ratio": "to all fp64's",
    "bits_ratio": "moved, to all fp64's",
    "time_ratio": "by the time model, to all fp64's",
    "iterations_ratio": "to all fp64's",
    "decisions": "of an agent",
    "fell_back": "decisions in unvisited states: fp64, or, where it is too late to rise, as before",
    "rejected": "iterations that the safeguard rejected",
    "notes": "what the safeguard did: first notes, with iterations",
    "signs": "what results showed, and in how many iterations",
    "events": "of inner products that were observed",
}

#: Columns of policies.csv. Savings are 1 - ratio, over systems that the policy solved.
POLICIES = {
    "policy": "what chose precisions",
    "systems": "that all fp64 solves; one that two seeds have counts twice",
    "solved": "of these",
    "other_statuses": "how the other solves ended",
    "energy_saving_median": "over systems",
    "energy_saving_worst": "",
    "energy_saving_mean": "",
    "energy_saving_files": "median over Matrix Market files",
    "energy_saving_drawn": "median over the others",
    "over": "systems on which it takes more than 1.05 times the energy",
    "seed_lowest": "least of the seeds' median savings of energy",
    "seed_highest": "greatest of them",
    "share_of_oracle": "mean saving of what the oracle looks at, over its own on the same systems",
    "bits_saving_median": "bits moved",
    "time_saving_median": "by the time model",
    "iterations_median": "over all fp64's",
    "iterations_worst": "",
    "fell_back": "share of decisions in unvisited states",
}
#: Columns of trade_off.csv: means over the systems that every agent was tested on, of policies that solve all of these.
TRADE_OFF = {
    "policy": "what chose precisions",
    "systems": "that means are over",
    "energy": "over all fp64's",
    "iterations": "over all fp64's",
    "time": "by the time model, over all fp64's",
}
#: Columns of fixed.csv, of the fixed precisions that the oracle chooses from, with the safeguard.
FIXED_COLUMNS = {
    "precision": "spmv;dot;axpy;precondition[;own]",
    "systems": "that it was tried on",
    "solved": "of these",
    "energy_saving_median": "over those solved",
    "energy_saving_worst": "",
    "iterations_median": "over all fp64's",
    "iterations_worst": "",
    "cheapest": "systems on which the oracle takes it",
}
RATIOS = ("energy", "bits", "time", "iterations")
CONVERGED = "converged"
MORE = 1.05  #: times the energy of all fp64: a solve that takes more was hurt


def solves(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record, and one per system for the oracle: of all fp64 and the fixed precisions, the one of least
    cost, as the study counts it, that converged. Fixed precisions themselves are left out."""
    records = [*records, *_oracles(records)]
    first = {(r.seed, r.input["system"]): r for r in records if r.label == REFERENCE}
    rows = [_row(r, first[r.seed, r.input["system"]]) for r in records if not r.label.startswith(FIXED)]
    return pd.DataFrame(rows, columns=list(SOLVES))


def _oracles(records: Sequence[Record]) -> list[Record]:
    tried = {(r.seed, r.input["system"]) for r in records if r.label.startswith(FIXED)}
    found: dict[tuple[int, str], list[Record]] = {}
    for r in records:
        if (r.label == REFERENCE or r.label.startswith(FIXED)) and r.result["status"] == CONVERGED:
            found.setdefault((r.seed, r.input["system"]), []).append(r)
    choices = [each for place, each in found.items() if place in tried]
    best = [min(each, key=lambda r: r.result["costs"][r.input["cost"]]) for each in choices]
    return [Record(**{**vars(r), "label": ORACLE}) for r in best]


def _row(r: Record, first: Record) -> dict[str, object]:
    result, reference = r.result, first.result
    given = {name: r.input[name] for name in ("system", "family", "unseen", "n", "nnz")}
    told = {name: result[name] for name in ("status", "iterations", "true_residual", "rejected")}
    told |= {name: result.get(name, np.nan) for name in ("decisions", "fell_back")}
    ratios = {f"{kind}_ratio": cost / reference["costs"][kind] for kind, cost in result["costs"].items()}
    ratios["iterations_ratio"] = result["iterations"] / max(reference["iterations"], 1)
    notes = "; ".join(f"{k}: {note}" for k, note in result["notes"])
    more = result["notes_in_all"] - len(result["notes"])
    signs = ", ".join(f"{what} {n}" for what, n in result["signs"].items())
    seen = "; ".join(f"{what}: {_counts(counts)}" for what, counts in result["events"].items())
    texts = {"notes": f"{notes}; and {more} more" if more else notes, "signs": signs, "events": seen}
    return {"seed": r.seed, "policy": r.label, "energy_pj": r.energy["total_pj"], **given, **told, **ratios, **texts}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items() if n)


def policies(rows: pd.DataFrame, cost: str = "energy") -> pd.DataFrame:
    """One row per policy, in the order of :func:`order`, over the systems that all fp64 solves.

    cost : what the oracle looks at: energy, bits or time.
    """
    rows = _solvable(rows)
    return pd.DataFrame([_policy(rows, name, f"{cost}_ratio") for name in order(rows)], columns=list(POLICIES))


def _solvable(rows: pd.DataFrame) -> pd.DataFrame:
    """Of systems that others than all fp64 were tried on."""
    return rows[_keys(rows).isin(_keys(rows[rows["policy"] != REFERENCE]))]


def left(rows: pd.DataFrame) -> pd.DataFrame:
    """Of all fp64, on systems that others were not tried on: it does not solve them, or not in time."""
    return rows[(rows["policy"] == REFERENCE) & ~_keys(rows).isin(_keys(rows[rows["policy"] != REFERENCE]))]


def fixed(records: Sequence[Record]) -> pd.DataFrame:
    """One row per fixed precision that the oracle chooses from, all fp64 left out."""
    first = {(r.seed, r.input["system"]): r for r in records if r.label == REFERENCE}
    tried = [_row(r, first[r.seed, r.input["system"]]) for r in records if r.label.startswith(FIXED)]
    taken = [json.dumps(r.input["policy"]) for r in _oracles(records)]
    named = {r.label: taken.count(json.dumps(r.input["policy"])) for r in records if r.label.startswith(FIXED)}
    return pd.DataFrame(
        [_fixed(pd.DataFrame([row for row in tried if row["policy"] == name]), n) for name, n in named.items()],
        columns=list(FIXED_COLUMNS),
    )


def _fixed(own: pd.DataFrame, cheapest: int) -> dict[str, object]:
    done = own[own["status"] == CONVERGED]
    return {
        "precision": own["policy"].iloc[0][len(FIXED) :],
        "systems": len(own),
        "solved": len(done),
        "energy_saving_median": (1.0 - done["energy_ratio"]).median(),
        "energy_saving_worst": (1.0 - done["energy_ratio"]).min(),
        "iterations_median": done["iterations_ratio"].median(),
        "iterations_worst": done["iterations_ratio"].max(),
        "cheapest": cheapest,
    }


def _keys(rows: pd.DataFrame) -> pd.Series:
    return rows["seed"].astype(str) + " " + rows["system"]


def order(rows: pd.DataFrame) -> list[str]:
    """Policies as they are shown: the reference, agents, the oracle, the others as they come."""
    names = list(dict.fromkeys(rows["policy"]))
    agents = [name for name in names if name.startswith(AGENT)]
    first = [name for name in (REFERENCE, *agents, ORACLE) if name in names]
    return first + [name for name in names if name not in first]


def _policy(rows: pd.DataFrame, name: str, ratio: str) -> dict[str, object]:
    own = rows[rows["policy"] == name]
    done = own[own["status"] == CONVERGED]
    saving = 1.0 - done["energy_ratio"]
    by_seed = saving.groupby(done["seed"]).median()
    others = own["status"][own["status"] != CONVERGED].value_counts()
    best = rows[(rows["policy"] == ORACLE) & _keys(rows).isin(_keys(done))]
    oracle, files = (1.0 - best[ratio]).mean(), done["system"].str.contains(".mtx", regex=False)
    return {
        "policy": name,
        "systems": len(own),
        "solved": len(done),
        "other_statuses": ", ".join(f"{status} {n}" for status, n in others.items()),
        "energy_saving_median": saving.median(),
        "energy_saving_worst": saving.min(),
        "energy_saving_mean": saving.mean(),
        "energy_saving_files": saving[files].median(),
        "energy_saving_drawn": saving[~files].median(),
        "over": int((done["energy_ratio"] > MORE).sum()),
        "seed_lowest": by_seed.min(),
        "seed_highest": by_seed.max(),
        "share_of_oracle": (1.0 - done[ratio]).mean() / oracle if oracle > 0.0 else np.nan,
        "bits_saving_median": (1.0 - done["bits_ratio"]).median(),
        "time_saving_median": (1.0 - done["time_ratio"]).median(),
        "iterations_median": done["iterations_ratio"].median(),
        "iterations_worst": done["iterations_ratio"].max(),
        "fell_back": own["fell_back"].sum() / own["decisions"].sum() if own["decisions"].sum() else np.nan,
    }


def trade_off(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per policy, in the order of :func:`order`: what is traded for what, on the same systems for all."""
    rows = _solvable(rows)
    for name in order(rows):
        if name.startswith(AGENT):
            rows = rows[_keys(rows).isin(_keys(rows[rows["policy"] == name]))]
    common, found = _keys(rows).nunique(), []
    for name in order(rows):
        own = rows[rows["policy"] == name]
        if len(own) == common and (own["status"] == CONVERGED).all():
            means = {kind: own[f"{kind}_ratio"].mean() for kind in ("energy", "iterations", "time")}
            found.append({"policy": name, "systems": len(own), **means})
    return pd.DataFrame(found, columns=list(TRADE_OFF))


def by_family(rows: pd.DataFrame) -> pd.DataFrame:
    """Median saving of energy of each policy on each family; families by name, with the number of solves."""
    rows = _solvable(rows)
    done = rows[rows["status"] == CONVERGED].assign(saving=lambda x: 1.0 - x["energy_ratio"])
    table = done.pivot_table(index=["unseen", "family"], columns="policy", values="saving", aggfunc="median")
    counts = rows[rows["policy"] == REFERENCE].groupby(["unseen", "family"]).size()
    table.insert(0, "systems", counts)
    return table[["systems", *(name for name in order(rows) if name != REFERENCE and name in table)]].reset_index()


def by_system(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per system that all fp64 solves: that solve, and ratios to it of the agent, the oracle and the rule."""
    rows = _solvable(rows).set_index(["seed", "system"])
    first = rows[rows["policy"] == REFERENCE]
    table = first[["family", "unseen", "n", "nnz", "iterations", "energy_pj"]].copy()
    for name, shown in ((main_agent(rows), "agent"), (ORACLE, "oracle"), ("rule", "rule")):
        own = rows[rows["policy"] == name]
        for column in (
            "status",
            "energy_ratio",
            "bits_ratio",
            "time_ratio",
            "iterations_ratio",
            "decisions",
            "fell_back",
        ):
            table[f"{shown}_{column}"] = own[column]
    return table.reset_index()


def hurt(rows: pd.DataFrame, more_energy: float = MORE, more_iterations: float = 2.0) -> pd.DataFrame:
    """Solves in which low precision did not pay, the worst first: those that did not converge though all fp64 did, or
    took more than so many times its energy, or its iterations."""
    rows = _solvable(rows)
    rows = rows[(rows["policy"] != REFERENCE) & (rows["policy"] != ORACLE)]
    lost = rows["status"] != CONVERGED
    bad = rows[lost | (rows["energy_ratio"] > more_energy) | (rows["iterations_ratio"] > more_iterations)]
    return bad.sort_values("energy_ratio", ascending=False, kind="stable")


def heat(records: Sequence[Record], label: str) -> dict[str, pd.DataFrame]:
    """By operation: the share of iterations in each datapath (rows), by the decade of the residual before (columns)."""
    counts: dict[str, dict[tuple[str, str], int]] = {}
    for r in records:
        for decade, parts in r.result["choices"].items() if r.label == label else ():
            for part, datapaths in parts.items():
                for datapath, n in datapaths.items():
                    found = counts.setdefault(part, {})
                    found[datapath, decade] = found.get((datapath, decade), 0) + n
    tables = {}
    for part, found in counts.items():
        table = pd.Series(found).unstack(fill_value=0)
        table = table[sorted(table, key=lambda decade: int(decade[3:]))]
        tables[part] = table / table.sum()
    return tables


def main_agent(rows: pd.DataFrame) -> str | None:
    """The agent that stands for all: of the weight that comes first; None: there is none."""
    return next((name for name in order(rows) if name.startswith(AGENT)), None)


def headline(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """The report's one sentence."""
    name = main_agent(rows)
    shown = table[table["policy"] == (name or ORACLE)]
    if shown.empty or not shown.iloc[0]["solved"]:
        return "No precision below fp64 solved any of the systems."
    row, seeds, who = shown.iloc[0], rows["seed"].nunique(), name or ORACLE
    systems = _solvable(rows)["system"].nunique()
    different = f" ({systems} different ones)" if systems < row["systems"] else ""
    saved, worst, share = (row[what] for what in ("energy_saving_median", "energy_saving_worst", "share_of_oracle"))
    beside = f", {share:.0%} of the oracle's saving" if name and np.isfinite(share) else ""
    fell = f"; {row['fell_back']:.0%} of its decisions were in unvisited states" if name else ""
    return (
        f"On systems unseen in training the {who} solves {row['solved']} of the {row['systems']}{different} that"
        " all fp64 solves,"
        f" on {1 - saved:.0%} of its energy in the median ({1 - worst:.0%} at worst{beside}), over {seeds}"
        f" seed{'s' * (seeds > 1)}{fell}."
    )
