"""The study behind ``halfulp report``: datapaths x {train, infer, CG}, on embedded data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property, partial
from pathlib import Path

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from ..models import data as datasets
from ..models.arithmetic import Arithmetic
from ..models.layers import Layer
from ..models.networks import Architecture
from ..models.optimisers import SGD, check_rate
from ..models.precision import Precision, Static
from ..models.training import Recipe, Training
from ..solvers.cg import CGPrecision, machines
from ..solvers.problems import Problem, poisson
from . import experiments
from .record import Record, versions


@dataclass(frozen=True)
class Setup:
    """One row of the study: a datapath for every contraction, and one for weight updates and axpy.

    The update's first operand is the step, which has a format of its own where the weights' cannot hold it; CG's
    alpha and beta enter axpy in fp32.
    """

    label: str
    contraction: Datapath
    update: Datapath

    @classmethod
    def of(cls, label: str, contraction: str, update: str) -> Setup:
        return cls(label, Datapath.parse(contraction), Datapath.parse(update))

    @property
    def precision(self) -> Precision:
        return Precision.of(self.contraction, self.update)

    @property
    def cg_precision(self) -> CGPrecision:
        return CGPrecision.of(self.contraction, self.contraction, self.update, scalars="fp32")


#: Formats x rounding x accumulator width. The first is the reference.
SETUPS = (
    Setup.of("fp32", "fp32", "fp32"),
    Setup.of("fp64", "fp64", "fp64"),
    Setup.of("tf32, fp32 acc", "tf32/fp32", "fp32"),
    Setup.of("bf16, fp32 acc", "bf16/fp32", "fp32"),
    Setup.of("bf16, bf16 acc", "bf16", "bf16"),
    Setup.of("bf16, SR update", "bf16", "bf16@SR8"),
    Setup.of("fp16, fp32 acc", "fp16/fp32", "fp32"),
    Setup.of("fp16, fp16 acc", "fp16", "fp16"),
    Setup.of("e4m3, fp32 acc", "fp8_e4m3/fp32", "fp32"),
    Setup.of("e4m3, fp16 acc", "fp8_e4m3/fp16", "fp16"),
    Setup.of("e4m3, e4m3 acc", "fp8_e4m3", "fp8_e4m3"),
    Setup.of("e4m3, SR acc", "fp8_e4m3@SR8", "fp8_e4m3@SR8"),
    Setup.of("e5m2, fp32 acc", "fp8_e5m2/fp32", "fp32"),
    Setup.of("e5m2, fp16 acc", "fp8_e5m2/fp16", "fp16"),
    Setup.of("q4.12 RNE", "q4.12/q16.24/q4.12", "q1.15*q4.12/q4.12"),
    Setup.of("q4.12 SR", "q4.12/q16.24/q4.12@RNE/SR16", "q1.15*q4.12/q4.12@SR16"),
    Setup.of("q8.8 RNE", "q8.8/q16.16/q8.8", "q1.15*q8.8/q8.8"),
    Setup.of("q8.8 SR", "q8.8/q16.16/q8.8@RNE/SR16", "q1.15*q8.8/q8.8@SR16"),
    Setup.of("q4.6 RNE", "q4.6/q16.12/q4.6", "q1.15*q4.6/q4.6"),
    Setup.of("q4.6 SR", "q4.6/q16.12/q4.6@RNE/SR8", "q1.15*q4.6/q4.6@SR8"),
)


@cache
def code_digest(*folders: str) -> str:
    """SHA-256 of the sources in these folders of ours."""
    root = Path(__file__).parents[1]
    sources = sorted(path for folder in folders for path in (root / folder).iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@dataclass(frozen=True)
class Study:
    """What to run. Equal studies give equal records, bit for bit, on any number of threads."""

    setups: tuple[Setup, ...] = SETUPS
    seeds: tuple[int, ...] = (0, 1, 2)  #: of training; inference and CG use the first
    node: str = "45nm"
    hidden: tuple[int, ...] = (32,)
    epochs: int = 8
    batch: int = 32
    learning_rate: float = 0.125
    poisson_side: int = 32
    tol: float = 1e-5
    max_iterations: int = 300
    patience: int = 100
    backend: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        labels = [setup.label for setup in self.setups]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise HalfulpError(f"two rows are called {twice[0]!r}: give each datapath once.")
        for setup in self.setups:  # a datapath that no machine can run is told now, not after the others have run
            Arithmetic(Static(setup.precision), self.seeds[0], self.backend, self.threads).at("")
            machines(setup.cg_precision, self.seeds[0], self.backend, threads=self.threads)
            check_rate(setup.precision, self.learning_rate / self.batch)

    @property
    def steps(self) -> int:
        return len(self.setups) * (len(self.seeds) + 2)

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the records; threads do not."""
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "threads"}
        code = code_digest("emulator", "kernels", "models", "solvers", "reports")
        return hashlib.sha256(json.dumps([parts, versions(), code], default=str).encode()).hexdigest()[:16]

    @cached_property
    def _reference_run(self) -> tuple[Record, Training]:
        return self._training(self.setups[0], self.seeds[0])

    def recipe(self, setup: Setup, seed: int) -> Recipe:
        network, optimiser = Architecture.of("mlp", hidden=self.hidden), SGD(self.learning_rate)
        return Recipe(network, Static(setup.precision), optimiser, self.epochs, self.batch, seed, self.backend)

    def _training(self, setup: Setup, seed: int) -> tuple[Record, Training]:
        return experiments.training(setup.label, self.data, self.recipe(setup, seed), self.threads, self.node)

    @cached_property
    def data(self) -> datasets.Dataset:
        return datasets.digits()

    @cached_property
    def problem(self) -> Problem:
        return poisson(self.poisson_side, self.seeds[0])

    @cached_property
    def reference(self) -> Layer:
        """The network trained on the first setup: what ``infer`` quantises."""
        return self._reference_run[1].network

    @property
    def _where(self) -> experiments.Where:
        return self.seeds[0], self.backend, self.threads

    def train(self, setup: Setup, seed: int) -> Record:
        """Train from scratch on the setup; test on it."""
        is_reference = (setup, seed) == (self.setups[0], self.seeds[0])
        return (self._reference_run if is_reference else self._training(setup, seed))[0]

    def infer(self, setup: Setup) -> Record:
        """The reference network's inference on the setup's datapath."""
        given = (setup.label, self.data, self.reference, self.setups[0].label, Static(setup.precision))
        return experiments.inference(*given, self._where, self.node)

    def cg(self, setup: Setup) -> Record:
        """Conjugate gradients on the Poisson problem."""
        limits = (self.tol, self.max_iterations, self.patience)
        return experiments.solve(setup.label, self.problem, setup.cg_precision, *limits, self._where, self.node)[0]

    def experiments(self) -> Iterator[tuple[str, Callable[[], Record]]]:
        """(what it is, how to run it) of every experiment, in order; the first is unique."""
        for setup in self.setups:
            for seed in self.seeds:
                yield f"train {setup.label}, seed {seed}", partial(self.train, setup, seed)
            yield f"infer {setup.label}", partial(self.infer, setup)
            yield f"CG {setup.label}", partial(self.cg, setup)

    def run(self, folder: Path, progress: Callable[[str], None] = lambda what: None) -> list[Record]:
        """All records, in order.

        Finished ones are kept in ``folder`` until the end, so that an interrupted run resumes.
        """
        kept = folder / ".unfinished.json"
        done: dict[str, str] = {}
        if kept.is_file():
            try:
                state = json.loads(kept.read_text(encoding="utf-8"))
                done = state["records"] if state["study"] == self.fingerprint else {}
            except (ValueError, KeyError, TypeError):
                done = {}
        records = []
        for what, experiment in self.experiments():
            progress(what)
            if what not in done:
                done[what] = experiment().to_json()
                write_atomically(kept, json.dumps({"study": self.fingerprint, "records": done}))
            records.append(Record.from_json(done[what]))
        kept.unlink(missing_ok=True)
        return records
