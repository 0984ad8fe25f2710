"""Exports: what units cost, in the files that other tools read. Every column and key has its unit in its name.

``json_text`` has everything, ``accelergy`` is for Accelergy's estimators; what ZigZag reads is in ``zigzag``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from ..emulator.cost import cost
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.scaling import nanometres
from ..emulator.technology import QUANTITIES, Technology, UnitCost

#: A quantity of ``Cost`` and what it is called here.
NAMES = {q: "energy_pj_per_mac" if q == "energy_pj" else q for q in QUANTITIES}
#: Columns of ``accelergy``'s files. The plug-in takes energy and area from the first that has the word in its name.
COLUMNS = (
    "technology|technology_nm",
    "datapath",
    "pipeline_ranks",
    "macs_per_cycle",
    "global_cycle_seconds",
    "energy_pj",
    "area_um2",
    "action",
    "energy_low_pj",
    "energy_high_pj",
    "energy_basis",
    "area_low_um2",
    "area_high_um2",
    "area_basis",
)
CYCLE_SECONDS = 1e-9  #: that leakage is given for; the plug-in scales it to other cycles


def record(datapath: Datapath | str, node: str, pipeline: int = 0) -> dict[str, Any]:
    """What ``cost`` says of one unit at one node, JSON-able.

    ``energy_pj_per_mac`` of a multiply-accumulation, the unit's ``area_um2``, ``delay_ns`` (the longest way between
    registers) and ``leakage_nw``, each with low and high estimate and basis; ``breakdown`` of the unit by part, its
    energy that of one clock.
    """
    described = Datapath.parse(datapath)
    price = cost(described, node, pipeline)
    found: dict[str, Any] = {
        "datapath": described.name,
        "node": price.node,
        "technology_nm": nanometres(Technology(node).memory_node),
        "pipeline_ranks": pipeline,
        "macs_per_cycle": price.macs_per_cycle,
    }
    for quantity, name in NAMES.items():
        found |= _estimates(name, getattr(price, quantity), price.band[quantity], price.basis[quantity])
    breakdown = [_part(name, number, unit) for name, number, unit in price.parts]
    return found | {"sources": list(price.sources), "warnings": list(price.warnings), "breakdown": breakdown}


def _estimates(name: str, value: float, band: tuple[float, float], basis: str) -> dict[str, Any]:
    """A quantity's keys, as in energy_pj_per_mac, energy_low_pj_per_mac, energy_high_pj_per_mac, energy_basis."""
    what, unit = name.split("_", 1)
    return {name: value, f"{what}_low_{unit}": band[0], f"{what}_high_{unit}": band[1], f"{what}_basis": basis}


def _part(name: str, number: int, unit: UnitCost) -> dict[str, Any]:
    """A part of a unit, all of its number."""
    values = {"energy_pj_per_clock" if q == "energy_pj" else q: getattr(unit, q).value for q in QUANTITIES}
    return {"part": name, "number": number} | values


def records(datapaths: Iterable[Datapath | str], nodes: Iterable[str], pipeline: int = 0) -> list[dict[str, Any]]:
    """``record`` of every datapath at every node."""
    nodes = list(nodes)
    return [record(datapath, node, pipeline) for datapath in datapaths for node in nodes]


def json_text(found: list[dict[str, Any]]) -> str:
    """Records as a JSON document."""
    return json.dumps({"halfulp": metadata.version("halfulp"), "units": found}, indent=1, allow_nan=False) + "\n"


def accelergy(found: list[dict[str, Any]]) -> str:
    """Records as a table of Accelergy's library plug-in.

    The file's name is to be that of the component, as in ``halfulp_mac.csv``, in the plug-in's folder ``library``; a
    component of that class asks by ``technology`` (nm) and ``datapath``. Actions: ``mac`` (also ``multiply``,
    ``compute``, ``read``) is one multiply-accumulation, ``leak`` a cycle's leakage of the unit; ``update`` and
    ``write`` take nothing. Energy is in pJ, area (of the unit, which does ``macs_per_cycle``) in um2.

    The layout is that of github.com/Accelergy-Project/accelergy-library-plug-in, by its README and reader: fields
    parted by commas and never quoted, comments from ``#`` on, alternatives parted by ``|``. Accelergy:
    doi:10.1109/ICCAD45719.2019.8942149.

    Raises
    ------
    HalfulpError
        A datapath's name has a comma.
    """
    text = io.StringIO()
    text.write(f"# halfulp {metadata.version('halfulp')}\n")
    for source in dict.fromkeys(source for one in found for source in one["sources"]):
        text.write(f"# source: {source}\n")
    for warning in dict.fromkeys(f"{one['datapath']}: {w}" for one in found for w in one["warnings"]):
        text.write(f"# warning: {warning}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in found:
        if "," in one["datapath"]:
            raise HalfulpError(f"a table of Accelergy's holds no commas, and so not {one['datapath']}.")
        writer.writerows(_rows(one))
    return text.getvalue()


def _rows(one: dict[str, Any]) -> list[dict[str, Any]]:
    """A record's rows, one for each group of actions."""
    given = {key: one[key] for key in COLUMNS if key in one}
    given |= {"technology|technology_nm": f"{one['technology_nm']:g}", "global_cycle_seconds": CYCLE_SECONDS}
    each = CYCLE_SECONDS * 1e-9 * 1e12  # nW for a cycle -> pJ

    def row(action: str, energies: tuple[float, float, float], basis: str) -> dict[str, Any]:
        names = ("energy_pj", "energy_low_pj", "energy_high_pj")
        return given | dict(zip(names, energies, strict=True)) | {"energy_basis": basis, "action": action}

    mac = (one["energy_pj_per_mac"], one["energy_low_pj_per_mac"], one["energy_high_pj_per_mac"])
    leak = (each * one["leakage_nw"], each * one["leakage_low_nw"], each * one["leakage_high_nw"])
    return [
        row("mac|multiply|compute|read", mac, one["energy_basis"]),
        row("leak", leak, one["leakage_basis"]),
        row("write|update", (0.0, 0.0, 0.0), one["energy_basis"]),
    ]
