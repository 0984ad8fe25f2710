"""Record: one finished experiment, with all that is needed to run it again and to price it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from ..emulator.cost import cost
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.ledger import Ledger
from ..emulator.technology import Technology

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One experiment. Holds nothing that differs between two runs of the same input, such as wall time."""

    kind: str  #: train, infer or cg
    label: str  #: the datapath's name in the study
    seed: int
    input: dict[str, Any]  #: everything that the experiment was given
    result: dict[str, Any]  #: what came out
    digest: str  #: SHA-256 (first 16 hex digits) of the result's bits
    ledger: dict[str, Any]
    energy: dict[str, Any]  #: of the run: arithmetic_pj, memory_pj, total_pj, low_pj, high_pj, basis, sources, node
    unit: dict[
        str, Any
    ]  #: price of the contraction's unit: area_um2, energy_pj per MAC, delay_ns, macs_per_cycle, basis, band
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        fields = json.loads(text)
        if fields.get("schema") != SCHEMA:
            raise HalfulpError(
                f"a record of schema {fields.get('schema')} cannot be read; this version reads schema {SCHEMA}."
            )
        return cls(**fields)


def digest(*arrays: np.ndarray) -> str:
    """Fingerprint of float64 results: all NaNs alike, zeros by sign."""
    sha = hashlib.sha256()
    for array in arrays:
        host = array.get() if hasattr(array, "get") else array  # CuPy's
        values = np.ascontiguousarray(host, dtype="<f8")
        sha.update(np.where(np.isnan(values), np.nan, values).tobytes())
    return sha.hexdigest()[:16]


def run_energy(ledger: Ledger, node: str) -> dict[str, Any]:
    """A ledger priced at a node, JSON-able."""
    technology = Technology(node)
    priced = technology.price(ledger)
    return {
        "node": technology.node,
        "arithmetic_pj": priced.arithmetic_pj,
        "memory_pj": priced.memory_pj,
        "total_pj": priced.total_pj,
        "low_pj": priced.band_pj[0],
        "high_pj": priced.band_pj[1],
        "basis": priced.basis,
        "sources": list(priced.sources),
    }


def unit_cost(datapath: Datapath, node: str) -> dict[str, Any]:
    """The price of a datapath's unit, JSON-able."""
    price = cost(datapath, node)
    parts = ("energy_pj", "area_um2", "delay_ns", "macs_per_cycle", "basis", "band", "sources")
    return json.loads(json.dumps({part: getattr(price, part) for part in parts}))


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    packages = ("halfulp", "numpy", "scipy", "numba", "llvmlite", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def finite(value: float) -> float | None:
    """``value``, or None (JSON's null) where it is not finite."""
    return float(value) if np.isfinite(value) else None
