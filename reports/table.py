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
    "train_energy_low_uj": "its error band",
    "train_energy_high_uj": "",
    "infer_accuracy": "test accuracy of the reference network quantised to the datapath",
    "infer_energy_nj": "energy per image",
    "cg_status": "how CG on the Poisson problem ended",
    "cg_iterations": "iterations done in all",
    "cg_best_iteration": "iteration that the returned x is from: the best by true residual unless converged",
    "cg_residual": "||b - A x|| / ||b|| of the returned x, in fp64",
    "cg_energy_uj": "energy until the returned x was reached",
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
                "forward": trains[0].input["policy"]["static"]["forward"],
                "update": trains[0].input["policy"]["static"]["update"],
                "train_accuracy_mean": sum(accuracies) / len(accuracies),
                "train_accuracy_min": min(accuracies),
                "train_accuracy_max": max(accuracies),
                "train_energy_uj": trains[0].energy["total_pj"] * 1e-6,
                "train_energy_low_uj": trains[0].energy["low_pj"] * 1e-6,
                "train_energy_high_uj": trains[0].energy["high_pj"] * 1e-6,
                "infer_accuracy": infer.result["test_accuracy"],
                "infer_energy_nj": infer.energy["total_pj"] * 1e-3 / infer.result["inputs"],
                "cg_status": cg.result["status"],
                "cg_iterations": cg.result["iterations"],
                "cg_best_iteration": cg.result["best_iteration"],
                "cg_residual": cg.result["true_residual"],
                "cg_energy_uj": cg.result["energy_to_best_pj"] * 1e-6,
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
    """Rows that no other row beats: none is cheaper with no less ``gain``, or gains more at no more ``cost``."""
    front = []
    for index, row in table.iterrows():
        no_worse = (table[cost] <= row[cost]) & (table[gain] >= row[gain])
        better = (table[cost] < row[cost]) | (table[gain] > row[gain])
        if not (no_worse & better).any():
            front.append(int(index))  # type: ignore[call-overload]
    return sorted(front, key=lambda i: (table[cost][i], table[gain][i]))


def headline(table: pd.DataFrame, records: Sequence[Record], slack: float = 0.01) -> str:
    """The report's one sentence: the cheapest training within ``slack`` of the first row's accuracy."""
    reference = table.iloc[0]
    good = table[table["train_accuracy_mean"] >= reference["train_accuracy_mean"] - slack]
    best = good.loc[good["train_energy_uj"].idxmin()]
    trains = [record for record in records if record.kind == "train" and record.label == best["datapath"]]
    basis = f"{len(trains)} seed{'s' * (len(trains) > 1)}, {trains[0].input['test_inputs']} test images"
    if best["datapath"] == reference["datapath"]:
        near = f"within {100 * slack:g} percentage point of {reference['datapath']}"
        return f"Nothing trains {near} on less energy ({basis})."
    return (
        f"The cheapest training within {100 * slack:g} percentage point of {reference['datapath']} "
        f"is {best['datapath']}: "
        f"{best['train_accuracy_mean']:.1%} ({best['train_accuracy_min']:.1%} to {best['train_accuracy_max']:.1%}) "
        f"against {reference['train_accuracy_mean']:.1%} over {basis}, on an estimated "
        f"{best['train_energy_uj'] / reference['train_energy_uj']:.0%} of the energy "
        f"({best['energy_basis']} costs)."
    )
