"""Fit prices of parts to the table of a characterised library: non-negative least squares, kind by kind of part.

Each row of the table is an equation: the counts of a design's parts of one kind, times coefficients, are what they
take. Equations weigh by what the whole design takes, as it is its error, relative, that is to be small, and those far
off weigh less (three rounds of reweighting, toward least absolute errors). Errors are of the whole design, each
predicted by a fit that has not seen it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from ..counts import FEATURES
from ..errors import HalfulpError
from ..files import write_atomically
from ..plan import Plan
from ..prices import Errors, Library, features, path, stages
from .characterize import ENERGIES, Table, read_table
from .designs import find

QUANTITIES = ("area_um2", "leakage_nw", *ENERGIES)
_MOST = 10.0  #: factor of a band
_ROUNDS, _NEAR = 3, 0.02  #: of reweighting; errors below which all weigh the same, relative


@dataclass(frozen=True)
class Measured:
    """A design of the table, with its plan."""

    name: str
    held: bool
    plan: Plan
    total: dict[str, float]  #: by quantity, and the delay
    parts: dict[str, dict[str, float]]  #: kind of part -> by quantity


def measured(table: Table) -> list[Measured]:
    """The designs of a table. Raises HalfulpError where a part is none that the design's plan has."""
    found = []
    for name, rows in table.designs().items():
        design = find(name)
        planned = design.plan()
        kinds = {part.name: part.kind for part in planned.parts} | {"top": "registers"}
        parts: dict[str, dict[str, float]] = {part.kind: dict.fromkeys(QUANTITIES, 0.0) for part in planned.parts}
        for part in planned.parts:  # of one name, but several kinds, which the table does not tell apart
            if kinds[part.name] != part.kind:
                parts.pop(part.kind, None)
                parts.pop(kinds[part.name], None)
        total: dict[str, float] = {}
        for row in rows:
            values = {quantity: _number(row, quantity) for quantity in QUANTITIES}
            if row["part"] == "all":
                total = values | {"delay_ns": _number(row, "delay_ns")}
            elif row["part"] not in kinds:
                raise HalfulpError(f"the plan of {name} has no part {row['part']}.")
            else:
                for quantity, value in values.items():
                    if kinds[row["part"]] in parts:
                        parts[kinds[row["part"]]][quantity] += value
        if not all(total.get(quantity) for quantity in (*QUANTITIES, "delay_ns") if quantity != "leakage_nw"):
            raise HalfulpError(f"the table does not say what all of {name} takes.")
        found.append(Measured(name, design.held, planned, total, parts))
    without = [design.name for design in found if not design.total["leakage_nw"]]
    if 0 < len(without) < len(found):
        raise HalfulpError(f"{without[0]} leaks nothing in the table, and others do.")
    return found


def _number(row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        where = f"{column} of {row['design']}, {row['part']}"
        raise HalfulpError(f"{where}, is {row[column]!r} in the table: no number from 0 on.")
    return value


class _Equations:
    """Those of one quantity."""

    def __init__(self, designs: list[Measured], quantity: str) -> None:
        self.designs = designs
        self.total = np.array([design.total[quantity] for design in designs])
        self.counts: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {}
        self.rows: dict[str, np.ndarray] = {}
        for kind in FEATURES:
            of_kind = [i for i, design in enumerate(designs) if any(p.kind == kind for p in design.plan.parts)]
            if of_kind:
                self.rows[kind] = np.array(of_kind)
                self.counts[kind] = np.array(
                    [
                        np.sum([features(p, quantity) for p in designs[i].plan.parts if p.kind == kind], axis=0)
                        for i in of_kind
                    ]
                )
                unknown = dict.fromkeys(QUANTITIES, math.nan)
                self.values[kind] = np.array([designs[i].parts.get(kind, unknown)[quantity] for i in of_kind])

    def fit(self, kind: str, without: Collection[int]) -> np.ndarray:
        """Coefficients of a kind of part, from all designs but some."""
        keep = np.array([i not in without for i in self.rows[kind]]) & np.isfinite(self.values[kind])
        counts, values = self.counts[kind][keep], self.values[kind][keep]
        return solve(counts, values, 1 / self.total[self.rows[kind][keep]])

    def errors(self, coefficients: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Predicted / measured, of the designs that were fitted to, each left out in turn; of those held out."""
        held = {i for i, design in enumerate(self.designs) if design.held}
        known = {kind: counts @ coefficients[kind] for kind, counts in self.counts.items()}
        predicted = np.zeros(len(self.designs))
        for kind, rows in self.rows.items():
            for j, i in enumerate(rows):
                left_out = self.counts[kind][j] @ self.fit(kind, held | {i}) if i not in held else known[kind][j]
                predicted[i] += left_out
        ratios = predicted / self.total
        chosen = np.array([design.held for design in self.designs])
        return ratios[~chosen], ratios[chosen]


def solve(counts: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 with small relative errors."""
    if not len(values):
        return np.zeros(counts.shape[1])
    scale = np.maximum(np.abs(counts).max(axis=0), 1e-12)
    solution, each = np.zeros(counts.shape[1]), weights
    for _ in range(_ROUNDS):
        solution = nnls(counts / scale * each[:, None], values * each)[0] / scale
        each = weights / np.sqrt(np.maximum(np.abs(counts @ solution - values) * weights, _NEAR))
    return solution


def fit(table: Table) -> Library:
    """The prices of parts on a characterised library."""
    designs = measured(table)
    if sum(not design.held for design in designs) < 2:
        raise HalfulpError("a fit needs two designs at least, besides those that are held out to check it.")
    held = {i for i, design in enumerate(designs) if design.held}
    coefficients: dict[str, dict[str, tuple[float, ...]]] = {}
    errors: dict[str, Errors] = {}
    for quantity in QUANTITIES:
        equations = _Equations(designs, quantity)
        if not equations.total.any():  # a library whose cells do not leak
            coefficients[quantity] = {kind: (0.0,) * counts.shape[1] for kind, counts in equations.counts.items()}
            errors[quantity] = Errors(0.0, 0.0, 1.0, 0.0, 0.0)
            continue
        found = {kind: equations.fit(kind, held) for kind in equations.rows}
        coefficients[quantity] = {kind: tuple(float(f"{c:.6g}") for c in values) for kind, values in found.items()}
        errors[quantity] = _summary(*equations.errors(found))
    delay, errors["delay_ns"] = _delay(designs)
    domain: dict[str, tuple[float, ...]] = {}
    stir: dict[str, float] = {}
    for kind, names in FEATURES.items():
        ones = [part for design in designs for part in design.plan.parts if part.kind == kind]
        domain[kind] = tuple(max((part.counts.get(name, 0.0) for part in ones), default=0.0) for name in names)
        stir[kind] = max((part.stir for part in ones), default=0.0)
    return Library(table.header, coefficients, delay, errors, domain, stir, len(designs) - len(held))


def _delay(designs: list[Measured]) -> tuple[tuple[float, ...], Errors]:
    delays = np.array([design.total["delay_ns"] for design in designs])
    ways = [np.array([path(stage) for stage in stages(design.plan)]) for design in designs]

    def fitted(keep: np.ndarray) -> np.ndarray:
        found = np.ones(ways[0].shape[1])
        for _ in range(4):  # which way is the longest depends on the coefficients
            longest = np.array([way[np.argmax(way @ found)] for way in ways])
            found = solve(longest[keep], delays[keep], 1 / delays[keep])
        return found

    chosen = np.array([design.held for design in designs])
    everything = fitted(~chosen)
    predicted = []
    for i, way in enumerate(ways):
        keep = ~chosen
        keep[i] = False
        predicted.append(float((way @ (everything if chosen[i] else fitted(keep))).max()))
    ratios = np.array(predicted) / delays
    return tuple(float(f"{c:.6g}") for c in everything), _summary(ratios[~chosen], ratios[chosen])


def _summary(ratios: np.ndarray, held: np.ndarray) -> Errors:
    """Errors of predictions, each as a ratio to what was measured."""

    def figures(ratios: np.ndarray) -> tuple[float, float]:
        errors = np.abs(ratios - 1)
        return round(float(errors.mean()), 4), round(float(np.quantile(errors, 0.9)), 4)

    within = np.abs(np.log(np.clip(ratios, 1 / _MOST, _MOST)))
    factor = math.exp(np.quantile(within, 0.9))
    return Errors(*figures(ratios), round(factor, 4), *(figures(held) if len(held) else (None, None)))


def fit_file(table: str | Path, out: str | Path | None = None, node: str | None = None) -> Library:
    """Fit the table in a file, and write the prices beside it, or to ``out``, as JSON.

    ``node`` is the one at which memories beside this library are priced.
    """
    table = Path(table)
    library = fit(read_table(table))
    if node is not None:
        library = replace(library, header=library.header | {"node": node})
    write_atomically(Path(out) if out else table.with_suffix(".json"), library.text())
    return library
