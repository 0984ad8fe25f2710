"""Tables: a pure function of Records."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .record import Record

#: Columns of results.csv: name, unit or meaning.
COLUMNS = {
    "datapath": "label of the setup",
    "forward": "contraction datapath, OPERANDS/ACCUMULATOR/OUTPUT@ROUNDING",
    "update": "datapath of weight updates and of CG's axpy",
    "train_accuracy_mean": "test accuracy after training on the datapath, mean over seeds",
    "train_accuracy_min": "least of the seeds",
    "train_accuracy_max": "greatest of the seeds",
    "train_energy_uj": "energy of one training run, first seed",
    "infer_accuracy": "test accuracy of the reference network quantised to the datapath",
    "infer_energy_nj": "energy per image",
    "cg_status": "how CG on the Poisson problem ended",
    "cg_iterations": "",
    "cg_residual": "||b - A x|| / ||b|| of the returned x, in fp64",
    "cg_energy_uj": "energy of the solve",
    "energy_pj_per_mac": "of the contraction unit, memory excluded",
    "area_um2_per_mac": "of the contraction unit, per multiply-accumulate a cycle",
    "delay_ns": "of the contraction unit, unpipelined",
    "energy_basis": "weakest basis of the energies: table, interpolated, extrapolated, scaled or assumed",
    "area_basis": "likewise of the area",
}


def results(records: Sequence[Record]) -> pd.DataFrame:
    """One row per setup, in the order of the records, with the columns of ``COLUMNS``."""
    rows = []
    for label in dict.fromkeys(record.label for record in records):
        trains = [r for r in records if r.label == label and r.kind == "train"]
        (infer,) = [r for r in records if r.label == label and r.kind == "infer"]
        (cg,) = [r for r in records if r.label == label and r.kind == "cg"]
        accuracies = [r.result["test_accuracy"] for r in trains]
        rows.append(
            {
                "datapath": label,
                "forward": trains[0].input["precision"]["forward"],
                "update": trains[0].input["precision"]["update"],
                "train_accuracy_mean": sum(accuracies) / len(accuracies),
                "train_accuracy_min": min(accuracies),
                "train_accuracy_max": max(accuracies),
                "train_energy_uj": trains[0].energy["total_pj"] * 1e-6,
                "infer_accuracy": infer.result["test_accuracy"],
                "infer_energy_nj": infer.energy["total_pj"] * 1e-3 / infer.result["images"],
                "cg_status": cg.result["status"],
                "cg_iterations": cg.result["iterations"],
                "cg_residual": cg.result["true_residual"],
                "cg_energy_uj": cg.energy["total_pj"] * 1e-6,
                "energy_pj_per_mac": infer.unit["energy_pj"],
                "area_um2_per_mac": infer.unit["area_um2"] / infer.unit["macs_per_cycle"],
                "delay_ns": infer.unit["delay_ns"],
                "energy_basis": infer.unit["basis"]["energy_pj"],
                "area_basis": infer.unit["basis"]["area_um2"],
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def to_csv(table: pd.DataFrame) -> str:
    """CSV text with 10 significant digits."""
    return table.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def pareto(table: pd.DataFrame, cost: str, gain: str) -> list[int]:
    """Rows that no other row beats in one of (lower ``cost``, higher ``gain``) without losing in the other."""
    front, best = [], float("-inf")
    for index, row in table.sort_values([cost, gain], ascending=[True, False], kind="stable").iterrows():
        if row[gain] > best:
            front.append(int(index))  # type: ignore[call-overload]
            best = row[gain]
    return front


def headline(table: pd.DataFrame, slack: float = 0.01) -> str:
    """The report's one sentence: the cheapest training within ``slack`` of the first row's accuracy."""
    reference = table.iloc[0]
    good = table[table["train_accuracy_mean"] >= reference["train_accuracy_mean"] - slack]
    best = good.loc[good["train_energy_uj"].idxmin()]
    if best["datapath"] == reference["datapath"]:
        return f"No datapath trains within {slack:.0%} of {reference['datapath']}'s accuracy on less energy."
    ratio = reference["train_energy_uj"] / best["train_energy_uj"]
    return (
        f"{best['datapath']} trains to {best['train_accuracy_mean']:.1%} ({reference['datapath']}: "
        f"{reference['train_accuracy_mean']:.1%}) on {1 / ratio:.0%} of its estimated energy and "
        f"{best['area_um2_per_mac'] / reference['area_um2_per_mac']:.0%} of its area per multiply-accumulate."
    )
