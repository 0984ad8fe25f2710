"""Matrix units by name: what the units of GPUs compute, as datapaths, from ``matrix_units.csv``.

Everything there is from the literature, each row with its source; none of it was checked on silicon by this project.
NVIDIA's units of floats, but fp64, and CDNA3's of less than 32 bits give the bits of MMA-Sim 2.1.1, whose
authors did compare it with silicon (tests/test_mmasim). Each row's note says what its datapath leaves out. All leave
out codes of NaNs, and accumulators that are handed in: a datapath's registers start at +0. A row without a datapath is
one that datapaths cannot express; its note says why.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

from . import names
from .blocks import BlockFormat
from .datapath import Datapath
from .errors import HalfulpError
from .formats import Format

SAME = {"H200": "H100"}  #: devices with the units of another


class MatrixUnit(NamedTuple):
    """One instruction of one device on operands of two formats."""

    device: str
    instruction: str  #: mma, wgmma, tcgen05 (NVIDIA), mfma (AMD), or one of their kinds
    a: str  #: formats of the operands
    b: str
    result: str  #: format of the results
    datapath: str  #: its text form; empty where no datapath expresses the unit
    status: str  #: "literature": as published, not checked on silicon here
    source: str
    note: str  #: what is not modelled, and doubts


@cache
def units() -> tuple[MatrixUnit, ...]:
    """Every unit of the table. Of several that do the same job the usual one comes first."""
    with resources.files(__package__).joinpath("matrix_units.csv").open(encoding="utf-8") as file:
        return tuple(unit for row in csv.DictReader(file) for unit in _units(MatrixUnit(**row)))


def _units(row: MatrixUnit) -> Iterator[MatrixUnit]:
    """The units of a row, which has one for each of the names in its cells: b is as a if it is empty."""
    for instruction, a in itertools.product(row.instruction.split(), row.a.split()):
        for b in row.b.split() or [a]:
            text = Datapath.parse(row.datapath.format(a=a, b=b)).name if row.datapath else ""
            yield row._replace(instruction=instruction, a=a, b=b, datapath=text)


def units_of(device: str) -> list[MatrixUnit]:
    """The units of a device."""
    key = device.strip().upper()
    found = [unit for unit in units() if unit.device == SAME.get(key, key)]
    if not found:
        known = ", ".join([*dict.fromkeys(unit.device for unit in units()), *SAME])
        raise HalfulpError(f"no matrix units of a device {device!r} are known; of {known} they are.")
    return found


def unit(
    device: str,
    a: Format | BlockFormat | str,
    b: Format | BlockFormat | str | None = None,
    result: Format | str | None = None,
    instruction: str | None = None,
) -> Datapath:
    """The datapath of a device's matrix unit.

    Parameters
    ----------
    device : "V100", "T4", "A100", "L40S", "H100", "H200", "B200", "MI100", "MI250X" or "MI300X", in any case.
    a, b : formats of the operands; without ``b`` both are as ``a``.
    result : format of the results; left out, the widest there is: fp32 before fp16.
    instruction : left out, the usual one: wgmma before mma on H100, tcgen05 before mma on B200, mfma_1k on MI250X.

    Raises
    ------
    HalfulpError
        There is no such unit (the sentence lists those there are), or no datapath expresses it (it says why).
    """
    wanted = {"a": a, "b": a if b is None else b} | ({} if result is None else {"result": result})
    formats = {name: names.format(fmt) for name, fmt in wanted.items()}
    of_device = units_of(device)
    for found in of_device:
        matches = all(names.format(getattr(found, name)) == fmt for name, fmt in formats.items())
        if matches and instruction in (None, found.instruction):
            if found.datapath:
                return Datapath.parse(found.datapath)
            raise HalfulpError(f"{found.instruction} on {found.a} and {found.b} of {found.device}: {found.note}.")
    asked = " and ".join(dict.fromkeys(map(names.alias, (formats["a"], formats["b"]))))
    asked += "" if result is None else f" with results in {names.alias(formats['result'])}"
    asked += "" if instruction is None else f" by {instruction}"
    near = [f"{u.a}*{u.b} -> {u.result} ({u.instruction})" for u in of_device if names.format(u.a) == formats["a"]]
    choices = ", ".join(near or dict.fromkeys(u.a for u in of_device))
    raise HalfulpError(f"{of_device[0].device} has no matrix unit for {asked}; it has some for {choices}.")
