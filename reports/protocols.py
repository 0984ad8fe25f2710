"""Protocols: the experiments of a paper, run row by row; each row's run is kept, so that an interrupted one goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from ..models import gupta
from ..models.data import Dataset
from ..models.training import Recipe
from . import experiments, figures
from .record import Record
from .table import to_csv

#: Epochs and training inputs (None: all) of: --quick, by default (some minutes), and --full. Of digits; of more data.
_LENGTHS = {
    "dnn": (((20, None), (30, None), (60, None)), ((2, 3000), (2, 40_000), (20, None))),
    "cnn": (((8, None), (15, None), (30, None)), ((1, 1000), (2, 12000), (20, None))),
    "cifar": (((2, 200), (4, None), (30, None)), ((2, 200), (2, 2000), (30, None))),
}
#: Where there are few steps, larger weights to begin with; smaller layers and rates: of the DNN with --quick, and of
#: digits.
_SMALL = {"dnn": {"hidden": 100, "sigma": 0.1, "rate": 0.1}, "cnn": {"sigma": 0.1}, "cifar": {}}
_CIFAR_SIDE = 15  #: pixels that its network's poolings need
_MANY = 10_000  #: inputs that digits have not


@dataclass(frozen=True)
class Protocol:
    """What is to be run."""

    network: str
    data: Dataset
    epochs: int
    options: dict[str, Any]  #: of its recipe
    rows: tuple[gupta.Row, ...]
    full: bool  #: as the paper has it

    def __str__(self) -> str:
        inputs = f"{len(self.data.train_x):,} training and {len(self.data.test_x):,} test inputs"
        changed = "".join(f"; {name} {value}, not the paper's" for name, value in self.options.items())
        epochs = f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
        one = f"one test input is {100 / len(self.data.test_x):.2g} %"
        short = "" if self.full else f"; shortened, so that not all of the paper's differences show ({one})"
        return f"{len(self.rows)} schemes, {epochs} each of {self.data.name}, {inputs}{changed}{short}"

    def recipe(self, row: gupta.Row, seed: int) -> Recipe:
        return gupta.RECIPES[self.network](row.policy(self.epochs), self.epochs, seed, **self.options)


def plan(network: str, data: Dataset, full: bool = False, quick: bool = False, epochs: int | None = None) -> Protocol:
    """The protocol of a network on some data: as the paper has it, in some minutes, or in seconds."""
    if network not in _LENGTHS:
        raise HalfulpError(
            f"no protocol is called gupta-{network}: there are {', '.join(f'gupta-{n}' for n in _LENGTHS)}."
        )
    if full and quick:
        raise HalfulpError("--full and --quick exclude each other.")
    if network == "cifar" and min(data.shape[1:], default=0) < _CIFAR_SIDE:
        raise HalfulpError(
            f"gupta-cifar needs images of {_CIFAR_SIDE} pixels a side or more: give --data with CIFAR-10's."
        )
    many = len(data.train_x) >= _MANY
    length, limit = _LENGTHS[network][many][0 if quick else 2 if full else 1]
    rows = tuple(row for row in gupta.ROWS if row.network == network and row.data in ("", "many" if many else "few"))
    small = quick or (network == "cnn" and not many)
    options: dict[str, Any] = _SMALL[network] if small else {}
    epochs = epochs or length
    for row in rows:
        row.policy(epochs)  # refuses what it cannot do in so many
    return Protocol(network, data if limit is None else data.first(limit), epochs, options, rows, full)


def run(
    protocol: Protocol,
    seed: int,
    backend: str,
    threads: int | None,
    node: str,
    folder: Path | None = None,
    told: Callable[[str], None] = lambda what: None,
) -> Iterator[Record]:
    """The record of each row. In ``folder``, if there is one, a sub-folder a row keeps model and record."""
    for row in protocol.rows:
        place = None if folder is None else folder / _folder_name(row.label)

        def steps(done: int, total: int, label: str = row.label) -> None:
            told(f"{label}: step {done:,} of {total:,}")

        recipe = replace(protocol.recipe(row, seed), backend=backend)
        yield experiments.training(row.label, protocol.data, recipe, threads, node, steps=steps, folder=place)[0]


def _folder_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")


def _published(record: Record, network: str) -> str:
    return next(row.says for row in gupta.ROWS if (row.network, row.label) == (network, record.label))


def _error_percent(test_accuracy: float) -> float:
    return 100 * (1 - test_accuracy)


def table(records: Sequence[Record], network: str) -> pd.DataFrame:
    """One row a scheme: test errors, of the last epoch, of the last five in the mean, and the least of all, beside what
    the paper says of it."""
    rows = []
    for record in records:
        given, result = record.input, record.result
        last = _error_percent(result["test_accuracy"])
        errors = [_error_percent(epoch[3]) for epoch in result["epochs"]] or [last]
        rows.append(
            {
                "network": network,
                "scheme": record.label,
                "published": _published(record, network),
                "test_error_percent": last,
                "mean_of_last_five_percent": sum(errors[-5:]) / len(errors[-5:]),
                "least_test_error_percent": min(errors),
                "loss": result["loss"],
                "diverged": result["diverged"] or "",
                "epochs": len(result["epochs"]),
                "seed": record.seed,
                "data": given["data"],
                "train_inputs": given["train_inputs"],
                "test_inputs": given["test_inputs"],
                "energy_j": record.energy["total_pj"] * 1e-12,
                "node": record.energy["node"],
                "weights_digest": record.digest,
            }
        )
    return pd.DataFrame(rows)


def write(records: Sequence[Record], network: str, folder: Path) -> None:
    """``results.csv``, and the test errors of all epochs as ``errors.svg`` and ``errors.png``."""
    of = records[0].input
    title = f"Gupta et al. 2015, {network}: {of['data']}, {of['train_inputs']:,} training inputs"
    svg, png = figures.rendered(figures.learning(records, title))
    write_atomically(folder / "errors.svg", svg)
    write_atomically(folder / "errors.png", png)
    write_atomically(folder / "results.csv", to_csv(table(records, network)))


def document(records: Sequence[Record], network: str) -> dict[str, Any]:
    """All of it, JSON-able: ``records``, what is ``published`` of each, ``assumptions``, and the paper's ``hardware``
    as gates."""
    array = gupta.hardware()
    run = array.run(gupta.WORKLOAD)
    return {
        "records": [json.loads(record.to_json()) for record in records],
        "published": {record.label: _published(record, network) for record in records},
        "assumptions": gupta.ASSUMPTIONS,
        "hardware": {
            "published": gupta.HARDWARE,
            "datapath": array.datapath.name,
            "node": array.node,
            "clock_hz": array.clock_hz,
            "peak_ops_per_s": array.peak_ops_per_s,
            "area_um2": array.area_um2,
            "area_by_part_um2": array.area_by_part_um2,
            "workload": str(run.workload),
            "utilisation": run.utilisation,
            "seconds": run.seconds,
            "energy_pj": run.energy.total_pj,
            "sources": list(run.energy.sources),
        },
    }


def line(record: Record, network: str) -> str:
    """A row for print: its test error beside what the paper says."""
    error = _error_percent(record.result["test_accuracy"])
    loss = record.result["loss"]
    diverged = record.result["diverged"]
    shown, where = ("diverged", f"; {diverged}") if diverged else (f"loss {loss:.4f}", "")
    said = f"published: {_published(record, network)}{where}"
    return f"  {record.label:<36} test error {error:6.2f} %   {shown:<14} {said}"
