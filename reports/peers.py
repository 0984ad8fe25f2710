"""The same operations on the same arrays by other emulators, in the same run: who is how fast, and who agrees."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.names import scalar_format
from ..kernels import arrays
from . import peer_worker
from .bench import Plan, Timed, interleaved, timed
from .bench_cases import operands, values

PEERS = tuple(peer_worker.ADAPTERS)
RAISING_FLAGS = ("verifloat",)  #: compared with ours with flags
SAMPLE = 1 << 16  #: results that are compared


@dataclass(frozen=True)
class Comparison:
    """An operation that is compared."""

    operation: str
    format: str
    rounding: str
    arrays: str  #: data type of the arrays of values

    @property
    def label(self) -> str:
        """What a choice is searched in."""
        return f"{self.operation} {self.format} {self.rounding} {self.arrays}"

    def operands(self, size: int) -> list[np.ndarray]:
        """Random values; of the format, unless it is quantized."""
        if self.operation == "quantize":
            return [values(size, self.arrays)]
        return operands(self.operation, self.format, self.arrays, size)


@dataclass(frozen=True)
class Rival:
    """A peer's speed beside ours, in million results a second, best of the rounds; or why there is none."""

    operation: str
    format: str
    rounding: str
    arrays: str
    peer: str
    flags: bool  #: whether both raise flags
    ours: float
    theirs: float
    equal: int  #: of ``of`` results, those of the same code; for SR, those that are a neighbour of the exact value
    of: int
    error: str = ""

    @property
    def faster(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else 0.0


def comparisons() -> list[Comparison]:
    """All of them, in the table's order."""
    narrow = ("e4m3fn", "e5m2", "fp16", "bf16", "fp6_e3m2", "fp4_e2m1", "q4.12")
    found = [Comparison("quantize", fmt, how, "float32") for how in ("RNE", "SR8") for fmt in narrow]
    found += [Comparison("quantize", fmt, "RNE", "float64") for fmt in ("e4m3fn", "fp16", "q4.12")]
    found += [Comparison("quantize", fmt, how, "float32") for how in ("RTZ", "RTP") for fmt in ("e4m3fn", "fp16")]
    for operation in ("add", "mul", "fma", "div", "sqrt"):
        found += [Comparison(operation, fmt, "RNE", "float32") for fmt in ("e4m3fn", "bf16", "fp16", "fp32")]
        found += [Comparison(operation, "fp16", "RTZ", "float32"), Comparison(operation, "fp64", "RNE", "float64")]
    return found


class Process:
    """A ``peer_worker`` under some interpreter."""

    def __init__(self, python: str, threads: int) -> None:
        self.error = ""  #: the first since a task was prepared
        command = [python, "-P", peer_worker.__file__]  # -P: its folder is not one to import from
        environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "APYTYPES_THREAD_COUNT")}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self.process: Any = subprocess.Popen(command, text=True, env=environment, **pipes)
        except OSError as error:
            raise HalfulpError(f"the interpreter {python} cannot be run: {error.strerror}.") from None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """A reply; an empty one, and ``error``, if the worker failed or died."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            reply = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            reply = {"error": "its process has died"}
        self.error = self.error or reply.pop("error", "")
        return reply

    def prepare(self, **task: Any) -> bool:
        """Whether the peer has the operation."""
        self.error = ""
        return self.ask("prepare", **task).get("has", False)

    def run(self) -> float:
        """The seconds of one call, as its process measures them."""
        return self.ask("run").get("seconds", math.inf)


def find(pythons: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Interpreter and version of every peer that is installed for this interpreter, or for another of those named."""
    found: dict[str, tuple[str, str]] = {}
    for python in (sys.executable, *pythons):
        with Process(python, 1) as process:
            versions = process.ask("installed")
        if process.error:
            raise HalfulpError(f"{python} cannot run the peers: it must be Python 3.11 or later, with NumPy.")
        found = {name: (python, version) for name, version in versions.items()} | found
    return {name: found[name] for name in PEERS if name in found}


def compared(
    these: Sequence[Comparison], plan: Plan, found: dict[str, tuple[str, str]], step: Callable[[str], None]
) -> Iterator[Rival]:
    """Every comparison with every peer that has the operation; ``step`` is told what comes next."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = {name: stack.enter_context(Process(python, plan.threads)) for name, (python, _) in found.items()}
        for comparison in these:
            step(comparison.label)
            yield from _compare(comparison, plan, processes, folder)


def _compare(comparison: Comparison, plan: Plan, processes: dict[str, Process], folder: Path) -> Iterator[Rival]:
    inputs = comparison.operands(plan.size)
    files = [str(folder / f"operand{i}.npy") for i in range(len(inputs))]
    for file, x in zip(files, inputs, strict=True):
        np.save(file, x)
    task = {"operation": comparison.operation, "format": str(scalar_format(comparison.format))}
    task |= {"rounding": comparison.rounding}
    ready = {name: each for name, each in processes.items() if each.prepare(peer=name, **task, operands=files)}
    runs = [_ours(comparison, inputs, plan, flags=False), _ours(comparison, inputs, plan, flags=True)]
    runs += [each.run for each in ready.values()]
    plain, flagged, *theirs = (plan.size / interleaved(runs, plan.repetitions).min(0) / 1e6).tolist()
    rates = dict(zip(ready, theirs, strict=True))
    for name, process in processes.items():
        flags = name in RAISING_FLAGS
        row = asdict(comparison) | {"peer": name, "flags": flags, "ours": flagged if flags else plain}
        equal, of = _agreement(comparison, inputs, process, folder) if name in ready and not process.error else (0, 0)
        if name in ready or process.error:
            yield Rival(**row, theirs=rates.get(name, 0.0), equal=equal, of=of, error=process.error)


def _ours(comparison: Comparison, inputs: list[np.ndarray], plan: Plan, flags: bool) -> Timed:
    call = getattr(arrays, comparison.operation)
    options = {"flags": flags, "out": np.zeros_like(inputs[0]), "threads": plan.threads}
    return timed(call, *inputs, comparison.format, comparison.rounding, **options)


def _agreement(comparison: Comparison, inputs: list[np.ndarray], process: Process, folder: Path) -> tuple[int, int]:
    """How many results of a sample have our code. Of SR, which draws its own bits: our code rounded down or up."""
    file = str(folder / "sample.npy")
    process.ask("sample", file=file, count=SAMPLE)
    if process.error:
        return 0, 0
    theirs = np.load(file)
    roundings = ("RTN", "RTP") if comparison.rounding.startswith("SR") else (comparison.rounding,)
    call, few = getattr(arrays, comparison.operation), [x[:SAMPLE] for x in inputs]
    same = [_bits(theirs) == _bits(call(*few, comparison.format, rounding)) for rounding in roundings]
    return int(np.any(same, axis=0).sum()), theirs.size


def _bits(x: np.ndarray) -> np.ndarray:
    """Values as integers, all NaNs alike."""
    return np.where(np.isnan(x), np.nan, x).astype(np.float64).view(np.int64)


def shown(rival: Rival) -> dict[str, str | float]:
    """A row of the table."""
    return {
        "operation": rival.operation,
        "format": rival.format,
        "mode": rival.rounding,
        "arrays": rival.arrays,
        "peer": rival.peer,
        "flags": "flags" * rival.flags,
        "M results/s": float(f"{rival.ours:.4g}"),
        "theirs": float(f"{rival.theirs:.4g}"),
        "times faster": float(f"{rival.faster:.3g}"),
        "same codes": rival.error or f"{rival.equal} of {rival.of}",
    }


def document(found: dict[str, tuple[str, str]], rivals: Sequence[Rival]) -> dict[str, Any]:
    """A comparison as plain data."""
    installed = {name: {"python": python, "version": version} for name, (python, version) in found.items()}
    absent = [name for name in PEERS if name not in found]
    return {"installed": installed, "not installed": absent, "figures": [asdict(rival) for rival in rivals]}
