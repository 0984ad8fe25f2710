"""SRAM and DRAM: published prices (``memories.csv``), or those of a table of the user's, which may have registers.

Several rows for the same thing give their geometric mean, in a band that covers them all. Between capacities a price
is interpolated as a power law (log-log), beyond them extrapolated; at nodes that the table lacks it is a power of the
node's name, between two or beyond the last two that it has. Writes cost what reads do; leakage and refresh are not
priced.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from .errors import HalfulpError
from .estimates import BANDS, Price, cited
from .scaling import nanometres

KINDS = ("register", "sram", "dram")

#: A quantity of the table -> the one it is converted to, and the factor.
QUANTITIES = {
    "energy_pj_per_bit": ("energy_pj_per_bit", 1.0),
    "energy_pj_per_64b": ("energy_pj_per_bit", 1 / 64),
    "area_um2_per_bit": ("area_um2_per_bit", 1.0),
    "area_mm2_per_kib": ("area_um2_per_bit", 1e6 / 8192),
    "bandwidth_gb_per_s": ("bandwidth_gb_per_s", 1.0),
}


class Row(NamedTuple):
    technology: str  #: a node, of DRAM its standard
    kind: str
    capacity_kib: float | None  #: None: whatever the capacity
    quantity: str
    value: float
    source: str
    doi: str
    note: str

    @property
    def cite(self) -> str:
        return cited(self.source, self.doi, self.note)


@cache
def published() -> tuple[Row, ...]:
    """Every row of ``memories.csv``."""
    text = resources.files(__package__).joinpath("memories.csv").read_text(encoding="utf-8")
    return _parse(text.splitlines(), "memories.csv")


def load(path: str | Path) -> tuple[Row, ...]:
    """The rows of a table of the user's, with the columns of ``memories.csv``.

    Raises
    ------
    HalfulpError
        There is no such file, or a line of it is wrong; the sentence says which and what would be right.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HalfulpError(f"the table of memories {str(path)!r} cannot be read: {error}.") from error
    return _parse(text.splitlines(), str(path))


def _parse(lines: list[str], name: str) -> tuple[Row, ...]:
    reader = csv.DictReader(lines)
    missing = [column for column in Row._fields if column not in (reader.fieldnames or [])]
    if missing:
        raise HalfulpError(f"{name} has no column {', '.join(missing)}; its columns are {', '.join(Row._fields)}.")
    return tuple(_row(cells, f"{name}, line {reader.line_num}") for cells in reader)


def _row(cells: dict[str, str | None], where: str) -> Row:
    text = {column: (cells[column] or "").strip() for column in Row._fields}
    if text["kind"] not in KINDS:
        raise HalfulpError(f"{where}: the kind is {', '.join(KINDS)}, not {text['kind']!r}.")
    if text["quantity"] not in QUANTITIES:
        raise HalfulpError(f"{where}: the quantity is {', '.join(QUANTITIES)}, not {text['quantity']!r}.")
    if not text["technology"] or not text["source"]:
        raise HalfulpError(f"{where}: no number without a technology and a source.")
    capacity = _positive(text["capacity_kib"], where, "capacity_kib") if text["capacity_kib"] else None
    value = _positive(text["value"], where, "value")
    return Row(**(text | {"capacity_kib": capacity, "value": value}))  # type: ignore[arg-type]


def _positive(text: str, where: str, column: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise HalfulpError(f"{where}: {column} is a positive number, not {text!r}.")
    return number


def price(rows: Iterable[Row], kind: str, technology: str, quantity: str, capacity_kib: float | None = None) -> Price:
    """What a table says of a memory.

    Parameters
    ----------
    kind, technology : as in the table; ``technology`` of registers and SRAM is a node.
    quantity : ``"energy_pj_per_bit"``, ``"area_um2_per_bit"`` or ``"bandwidth_gb_per_s"``; rows in other units are
        converted.
    capacity_kib : of the memory, where the table has rows for several.
    """
    of_kind = [row for row in rows if row.kind == kind and QUANTITIES[row.quantity][0] == quantity]
    found, at = [row for row in of_kind if row.technology == technology], nanometres(technology)
    if not found:
        known = {nanometres(row.technology): row.technology for row in of_kind}
        sizes = sorted(nm for nm in known if nm == nm)  # NaN: a name of the user's
        if kind != "dram" and len(sizes) > 1 and at == at:
            pair = _beside(at, sizes)
            return _scaled(at, [(nm, price(of_kind, kind, known[nm], quantity, capacity_kib)) for nm in pair])
        told = ", ".join(dict.fromkeys(row.technology for row in of_kind)) or "nothing"
        raise HalfulpError(f"the table of memories has {quantity} of {kind} for {told}, not for {technology!r}.")
    points = {size: _mean([r for r in found if r.capacity_kib == size]) for size in {r.capacity_kib for r in found}}
    if None in points or capacity_kib is None:
        return points.get(None) or _mean(found)
    return _at(capacity_kib, sorted((size, point) for size, point in points.items() if size))


def _beside(at: float, points: list[float]) -> tuple[float, float]:
    """The two of some points, in order, between which another lies; the last two on its side if it lies beyond."""
    above = next((i for i, point in enumerate(points) if point > at), len(points) - 1)
    return points[max(above, 1) - 1], points[max(above, 1)]


def _power_law(at: float, points: list[tuple[float, Price]]) -> float:
    """What lies on a straight line through two prices, both axes being logarithmic."""
    (x0, first), (x1, second) = points
    return first.value * (at / x0) ** (math.log(second.value / first.value) / math.log(x1 / x0))


def _scaled(nm: float, points: list[tuple[float, Price]]) -> Price:
    """The price at a node, from those at two others; beyond them it is as uncertain again."""
    (n0, first), (n1, second) = points
    band = BANDS["scaled"] * max(first.band, second.band) * (1.0 if n0 < nm < n1 else BANDS["scaled"])
    return Price(_power_law(nm, points), "scaled", band, first.sources | second.sources)


def _mean(rows: list[Row]) -> Price:
    """The geometric mean of rows, in a band that covers them all."""
    values = [row.value * QUANTITIES[row.quantity][1] for row in rows]
    mean = math.prod(values) ** (1 / len(values))
    band = max(BANDS["table"], max(values) / mean, mean / min(values))
    scaled = any("scaled" in row.note for row in rows)
    basis = "scaled" if scaled else "table"
    return Price(mean, basis, band * BANDS["scaled"] if scaled else band, frozenset(row.cite for row in rows))


def _at(capacity_kib: float, points: list[tuple[float, Price]]) -> Price:
    """The price at a capacity: a point's own, or a power law through the two nearest."""
    for size, point in points:
        if size == capacity_kib:
            return point
    if len(points) == 1:
        ((_, point),) = points
        return point._replace(basis="assumed", band=max(point.band, BANDS["assumed"]))
    sizes = _beside(capacity_kib, [size for size, _ in points])
    pair = [(size, point) for size, point in points if size in sizes]
    basis = "interpolated" if sizes[0] < capacity_kib < sizes[1] else "extrapolated"
    (_, first), (_, second) = pair
    band = max(BANDS[basis], first.band, second.band)
    return Price(_power_law(capacity_kib, pair), basis, band, first.sources | second.sources)
