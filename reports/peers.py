"""The same operations on the same arrays by other emulators, in the same run: who is how fast, and who agrees."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.names import scalar_format
from ..kernels import arrays
from ..kernels.machine import Machine
from . import peer_worker
from .bench import UNITS, Plan, Timed, interleaved, timed
from .bench_cases import operands, values

PEERS = tuple(peer_worker.ADAPTERS)
RAISING_FLAGS = ("verifloat",)  #: compared with ours with flags
SAMPLE = 1 << 16  #: results that are compared
SIDE = 512  #: of the matrices, unless they are smaller
SLOW_SIDE = 192  #: where SR's random bits take peers seconds
DATAPATHS = (  #: of the products of matrices
    *("fp16", "fp16@RTZ", "fp16@SR8", "bf16", "fp8_e4m3/fp16@RTZ"),
    *("fp16:product=fp16", "fp16@RTZ:product=fp16@RTZ", "fp16@SR8:product=fp16@SR8", "fp16:tree:product=fp16"),
    *("fp16/fp32", "bf16/fp32/bf16", "fp8_e4m3/fp32/fp8_e4m3"),
    *("fp16/fp32:exact", "fp8_e4m3/fp32:exact32", "q4.12:product=q4.12", "q4.12/q20.24"),
)


@dataclass(frozen=True)
class Comparison:
    """An operation that is compared."""

    operation: str  #: of ``arrays``, or ``matmul``
    format: str  #: or the datapath, which says its roundings itself
    rounding: str
    arrays: str  #: data type of the arrays of values

    @property
    def label(self) -> str:
        """What a choice is searched in."""
        return " ".join(filter(None, (self.operation, self.format, self.rounding, self.arrays)))

    @property
    def contracts(self) -> bool:
        """Whether it is a product of matrices."""
        return self.operation == "matmul"

    @property
    def unit(self) -> str:
        """Of its rates."""
        return "GMAC/s" if self.contracts else "M results/s"

    def flags(self, peer: str) -> bool:
        """Whether ours and the peer's both raise flags; products of matrices of ours do not."""
        return peer in RAISING_FLAGS and not self.contracts

    def bounds(self) -> list[Comparison]:
        """What gives the least and the greatest results: the same, or, of SR, always rounded down and always up."""
        fields = [(re.sub(r"SR\d+", how, self.format), re.sub(r"SR\d+", how, self.rounding)) for how in ("RTN", "RTP")]
        return [replace(self, format=fmt, rounding=rounding) for fmt, rounding in dict.fromkeys(fields)]

    def operands(self, plan: Plan) -> list[np.ndarray]:
        """Random values of the format, unless it is quantized; of matrices standard normal, so that sums of floats
        do not overflow, which some peers take long for."""
        if self.contracts:
            dp = Datapath.parse(self.format)
            side = min(plan.side, SLOW_SIDE if dp.rounding.random_bits else SIDE)
            drawn = np.random.default_rng(0).standard_normal((2, side, side))
            return [arrays.quantize(x, fmt) for x, fmt in zip(drawn, (dp.a, dp.b), strict=True)]
        if self.operation == "quantize":
            return [values(plan.size, self.arrays)]
        return operands(self.operation, self.format, self.arrays, plan.size)

    def task(self) -> dict[str, Any]:
        """What a peer is asked for, with canonical names."""
        if not self.contracts:
            return {"operation": self.operation, "format": str(scalar_format(self.format)), "rounding": self.rounding}
        dp = Datapath.parse(self.format)
        how = {"order": dp.order.text, "accumulator": str(dp.accumulator), "output": str(dp.output)}
        how |= {"product": str(dp.product)} if dp.product else {}
        task = {"operation": self.operation, "format": str(dp.a), "rounding": str(dp.rounding)}
        return task | {"accumulation": how}

    def call(self, **options: Any) -> Callable[..., Any]:
        """Our operation on operands."""
        if self.contracts:
            return Machine(self.format, **options).matmul
        return lambda *x: getattr(arrays, self.operation)(*x, self.format, self.rounding, **options)


@dataclass(frozen=True)
class Rival:
    """A peer's speed beside ours, best of the rounds; or why there is none."""

    operation: str
    format: str
    rounding: str
    arrays: str
    peer: str
    flags: bool  #: whether both raise flags
    unit: str  #: of both rates
    ours: float
    theirs: float
    equal: int  #: of ``of`` results, those of the same code; for SR, those that random bits can give
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
    return found + [Comparison("matmul", datapath, "", "float64") for datapath in DATAPATHS]


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
    inputs = comparison.operands(plan)
    work = inputs[0].size * (len(inputs[0]) if comparison.contracts else 1)
    files = [str(folder / f"operand{i}.npy") for i in range(len(inputs))]
    for file, x in zip(files, inputs, strict=True):
        np.save(file, x)
    task = comparison.task() | {"operands": files}
    ready = {name: each for name, each in processes.items() if each.prepare(peer=name, **task)}
    ours = {flags: _ours(comparison, inputs, plan, flags) for flags in {comparison.flags(name) for name in processes}}
    seconds = interleaved([*ours.values(), *(each.run for each in ready.values())], plan.repetitions).min(0)
    rates = dict(zip([*ours, *ready], (work / seconds / UNITS[comparison.unit]).tolist(), strict=True))
    for name, process in processes.items():
        flags = comparison.flags(name)
        row = asdict(comparison) | {"peer": name, "flags": flags, "unit": comparison.unit, "ours": rates[flags]}
        equal, of = _agreement(comparison, inputs, process, folder) if name in ready and not process.error else (0, 0)
        if name in ready or process.error:
            yield Rival(**row, theirs=rates.get(name, 0.0), equal=equal, of=of, error=process.error)


def _ours(comparison: Comparison, inputs: list[np.ndarray], plan: Plan, flags: bool) -> Timed:
    options = {} if comparison.contracts else {"flags": flags, "out": np.zeros_like(inputs[0])}
    return timed(comparison.call(threads=plan.threads, **options), *inputs)


def _agreement(comparison: Comparison, inputs: list[np.ndarray], process: Process, folder: Path) -> tuple[int, int]:
    """How many results of a sample have our code. Of SR, which draws its own bits: either bound's, and a product of
    matrices, which rounds often, may lie between them."""
    file = str(folder / "sample.npy")
    process.ask("sample", file=file, count=SAMPLE)
    if process.error:
        return 0, 0
    theirs = np.load(file)
    few = inputs if comparison.contracts else [x[:SAMPLE] for x in inputs]
    ours = [each.call()(*few).ravel()[:SAMPLE] for each in comparison.bounds()]
    low, high = ours[0], ours[-1]
    same = (_bits(theirs) == _bits(low)) | (_bits(theirs) == _bits(high))
    if comparison.contracts:
        same |= (low < theirs) & (theirs < high)
    return int(same.sum()), theirs.size


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
        "ours": float(f"{rival.ours:.4g}"),
        "theirs": float(f"{rival.theirs:.4g}"),
        "unit": rival.unit,
        "times faster": float(f"{rival.faster:.3g}"),
        "same codes": rival.error or f"{rival.equal} of {rival.of}",
    }


def document(found: dict[str, tuple[str, str]], rivals: Sequence[Rival]) -> dict[str, Any]:
    """A comparison as plain data."""
    installed = {name: {"python": python, "version": version} for name, (python, version) in found.items()}
    absent = [name for name in PEERS if name not in found]
    return {"installed": installed, "not installed": absent, "figures": [asdict(rival) for rival in rivals]}
