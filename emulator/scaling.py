"""Prices at nodes without a characterised library: between those of two that have one.

From one library's node to the other's a quantity goes as A. Stillmaker and B. Baas scale it (Integration 58, 2017, pp.
74-81, doi:10.1016/j.vlsi.2017.02.002), stretched so that it meets both libraries; where they have no factor, as for
delays and below 7 nm, as a power of the node's name. Their area table has two digits; we have it, and the polynomials
of energy, from two re-codings that agree, not from the paper itself; supplies of 130 to 16 nm are PTM's, from memory.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

SOURCE = (
    "between two libraries as A. Stillmaker and B. Baas scale, Integration 58, 2017, pp. 74-81;"
    " doi:10.1016/j.vlsi.2017.02.002 (not re-verified against the original)"
)

#: Area, relative to 45 nm, by node in nm.
AREA = {130: 6.4, 90: 2.8, 65: 1.5, 45: 1.0, 32: 0.46, 20: 0.21, 16: 0.19, 14: 0.17, 10: 0.1, 7: 0.059}
#: Energy as a polynomial a V^2 + b V + c of the supply: (a, b, c, nominal V).
ENERGY = {
    130: (7.171, -6.709, 2.904, 1.3),
    90: (4.762, -4.781, 2.092, 1.2),
    65: (3.755, -4.398, 1.975, 1.1),
    45: (1.103, -0.362, 0.2767, 1.0),
    32: (0.9559, -0.7823, 0.471, 0.9),
    20: (0.373, -0.1582, 0.04104, 0.9),
    16: (0.2958, -0.1241, 0.03024, 0.85),
    14: (0.2363, -0.09675, 0.02239, 0.8),
    10: (0.2068, -0.09311, 0.02375, 0.75),
    7: (0.1776, -0.09097, 0.02447, 0.7),
}


def node_name(text: str) -> str:
    """A node as it is named, ``"7nm"``, from ways to write it: ``"7"``, ``"07 nm"``, ``"7.0"``; others as they are."""
    match = re.fullmatch(r"0*([0-9]+(?:\.[0-9]*[1-9])?)(?:\.?0*) ?(?:nm)?", text.strip(), re.IGNORECASE)
    return f"{match[1]}nm" if match else text


def nanometres(node: str) -> float:
    """The number in a node's name; NaN where it has none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)nm", node)
    return float(match[1]) if match else math.nan


def _factors(quantity: str) -> dict[int, float]:
    if quantity == "area_um2":
        return AREA
    if quantity == "energy_pj":
        return {nm: a * v * v + b * v + c for nm, (a, b, c, v) in ENERGY.items()}
    return {}


@lru_cache(maxsize=256)
def position(node: str, larger: str, smaller: str, quantity: str) -> float:
    """Where a node lies between two others, in the logarithm of a quantity: 0 at the larger one, 1 at the smaller."""
    at, first, last = map(nanometres, (node, larger, smaller))
    known = sorted((nm, factor) for nm, factor in _factors(quantity).items() if last <= nm <= first)
    if not known or known[0][0] != last or known[-1][0] != first:
        known = [(last, last), (first, first)]  # type: ignore[list-item]
    above = next(i for i, (nm, _) in enumerate(known) if nm >= at)
    (n0, f0), (n1, f1) = known[max(above - 1, 0)], known[above if above else 1]
    share = math.log(at / n0) / math.log(n1 / n0)
    factor = math.log(f0) + share * math.log(f1 / f0)
    return (math.log(known[-1][1]) - factor) / math.log(known[-1][1] / known[0][1])
