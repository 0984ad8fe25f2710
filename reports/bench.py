"""How fast the kernels are: each operation beside a yardstick, against what is asked for, measured in one run.

A rate in bytes counts what an operation reads and writes, as it does for the yardstick ``np.copyto`` (one thread).
Every round runs each contestant once, so that a ratio compares the same moments; a first round is not counted.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ..emulator.errors import HalfulpError
from .record import versions

COPY = "x copy"  #: of the bytes that np.copyto moves in the same time
BLAS = "x BLAS"  #: of the multiply-accumulations that NumPy's product of matrices does in the same time
MATMUL = "x matmul"  #: of those that the same machine's product of matrices does
SCIPY = "x SciPy"  #: of those that SciPy's product of a sparse matrix and a vector does
NUMPY = "x NumPy"  #: of the steps that NumPy does in float32
RATIOS = (COPY, BLAS, MATMUL, SCIPY, NUMPY)
UNITS = {
    "GB/s": 1e9,
    "M results/s": 1e6,
    "M lines/s": 1e6,
    "k calls/s": 1e3,
    "GMAC/s": 1e9,
    "steps/s": 1.0,
    "imports/s": 1.0,
}

_LEAST_ROUNDS, _PATIENCE = 3, 1.0  #: no further round is begun after so many, and so many seconds

Timed = Callable[[], float]  #: does something once and returns the seconds that it took


class Asked(NamedTuple):
    """The least that is asked of a figure."""

    least: float
    unit: str  #: one of RATIOS, or a key of UNITS


#: Asked for arrays of 2^22 elements (matrices of 1024 x 1024) and 2 threads on an otherwise idle machine.
ASKED = {
    "quantize float32": Asked(0.9, COPY),
    "quantize float64": Asked(0.8, COPY),
    "quantize SR": Asked(0.35, COPY),
    "encode, decode": Asked(0.5, COPY),
    "add, mul": Asked(400, "M results/s"),
    "fma, div, sqrt": Asked(150, "M results/s"),
    "any with p > 24": Asked(30, "M results/s"),
    "vectors, verify": Asked(1, "M lines/s"),
    "reference": Asked(50, "k calls/s"),
    "import": Asked(2, "imports/s"),
    "matmul, certified": Asked(0.6, BLAS),
    "matmul, native fp32": Asked(8, "GMAC/s"),
    "matmul, p <= 24": Asked(1.2, "GMAC/s"),
    "matmul, SR": Asked(0.4, "GMAC/s"),
    "matmul, fused": Asked(0.6, "GMAC/s"),
    "matmul, exact": Asked(1.5, "GMAC/s"),
    "matmul, fixed": Asked(1.5, "GMAC/s"),
    "matmul, blocks": Asked(0.6, "GMAC/s"),
    "conv2d": Asked(1 / 1.3, MATMUL),
    "spmv": Asked(0.4, SCIPY),
    "training": Asked(1 / 3, NUMPY),
}
WITH_FLAGS = 0.4  #: the share of it that is asked for where flags are wanted as well


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    size: int = 1 << 22  #: elements of an array
    threads: int = 2
    repetitions: int = 30  #: rounds that are counted
    lines: int = 1 << 20  #: of ``halfulp vectors`` and ``verify``
    side: int = 1024  #: of the matrices

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise HalfulpError(f"{name} must be a positive integer, not {value}.")

    @property
    def judges(self) -> bool:
        """Whether the arrays are large enough for what is asked; smaller ones stay in the caches."""
        return self.size >= Plan.size


QUICK = Plan(size=1 << 14, repetitions=3, lines=1 << 15, side=48)  #: shows that all works; its figures mean nothing


class Trial(NamedTuple):
    """What is run for a case: the operation, and what it is compared with."""

    run: Timed
    work: float  #: bytes, results, lines, calls or multiply-accumulations of one run
    yardstick: Timed | None = None
    yardstick_work: float = 0


@dataclass(frozen=True)
class Case:
    """An operation to be measured."""

    operation: str
    format: str  #: or the name of the function or datapath
    rounding: str
    arrays: str  #: data type of the arrays of values, or what else is worked on
    flags: bool
    unit: str
    asked: str  #: key of ASKED, or nothing
    trial: Callable[[Plan], Trial] = field(repr=False)

    @property
    def label(self) -> str:
        """What a choice is searched in."""
        return " ".join(filter(None, (self.operation, self.format, self.rounding, self.arrays, "flags" * self.flags)))

    @property
    def least(self) -> Asked | None:
        """What is asked of it."""
        asked = ASKED.get(self.asked)
        return asked._replace(least=asked.least * WITH_FLAGS) if asked and self.flags else asked


@dataclass(frozen=True)
class Figure:
    """What was measured of a case. ``best`` and ``median`` are rates in ``unit``."""

    operation: str
    format: str
    rounding: str
    arrays: str
    flags: bool
    work: float  #: of one run
    unit: str
    best: float
    median: float
    ratio: float | None  #: to the yardstick's rate, of the best of both
    ratio_median: float | None  #: the same, the median of the rounds
    asked: str
    least: float | None
    least_unit: str

    @property
    def judged(self) -> float:
        """The number that is compared with ``least``."""
        return (self.ratio or 0.0) if self.least_unit in RATIOS else self.best

    @property
    def met(self) -> bool | None:
        """Whether it is at least what is asked for."""
        return None if self.least is None else self.judged >= self.least


class Labelled(Protocol):
    @property
    def label(self) -> str: ...


L = TypeVar("L", bound=Labelled)


def chosen(these: Sequence[L], pattern: str | None) -> list[L]:
    """Those in whose label the regular expression is found."""
    try:
        return [each for each in these if pattern is None or re.search(pattern, each.label)]
    except re.error as error:
        raise HalfulpError(f"--only {pattern!r} is not a regular expression: {error}.") from None


def timed(call: Callable[..., object], *args: Any, **options: Any) -> Timed:
    """A call that tells how long it takes."""

    def once() -> float:
        start = time.perf_counter()
        call(*args, **options)
        return time.perf_counter() - start

    return once


def interleaved(runs: Sequence[Timed], repetitions: int) -> np.ndarray:
    """Seconds, (rounds, runs): every round runs each once. One before them compiles, and touches the memory.

    Of what takes long there are fewer rounds than ``repetitions``, but three.
    """
    rounds = [[run() for run in runs]]
    start = time.perf_counter()
    while len(rounds) <= repetitions and (len(rounds) <= _LEAST_ROUNDS or time.perf_counter() - start < _PATIENCE):
        rounds.append([run() for run in runs])
    return np.array(rounds[1:])


def measure(case: Case, plan: Plan) -> Figure:
    """Run a case and its yardstick in turns."""
    trial = case.trial(plan)
    seconds = interleaved([trial.run, *([trial.yardstick] if trial.yardstick else [])], plan.repetitions).T
    rates = trial.work / seconds[0]
    theirs = trial.yardstick_work / seconds[1] if trial.yardstick else None
    least = case.least if plan.judges else None
    return Figure(
        *(case.operation, case.format, case.rounding, case.arrays, case.flags),
        work=trial.work,
        unit=case.unit,
        best=float(rates.max()) / UNITS[case.unit],
        median=statistics.median(rates.tolist()) / UNITS[case.unit],
        ratio=None if theirs is None else float(rates.max() / theirs.max()),
        ratio_median=None if theirs is None else statistics.median((rates / theirs).tolist()),
        asked=case.asked,
        least=least.least if least else None,
        least_unit=least.unit if least else "",
    )


def measured(these: Sequence[Case], plan: Plan, step: Callable[[str], None]) -> Iterator[Figure]:
    """The figures of cases; ``step`` is told what comes next."""
    for case in these:
        step(case.label)
        yield measure(case, plan)


def surroundings() -> dict[str, Any]:
    """When, and on what, a run was made."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "versions": versions(),
    }


# ---- in words --------------------------------------------------------------------------------------------------


def shown(figure: Figure) -> dict[str, str | float]:
    """A figure as a row of the table."""
    return {
        "operation": figure.operation,
        "format": figure.format,
        "mode": figure.rounding,
        "arrays": figure.arrays,
        "flags": "flags" * figure.flags,
        "best": _rounded(figure.best),
        "median": _rounded(figure.median),
        "unit": figure.unit,
        "ratio": _rounded(figure.ratio),
        "in the median": _rounded(figure.ratio_median),
        "at least": "" if figure.least is None else f"{figure.least:.3g} {figure.least_unit}",
        "met": {True: "yes", False: "NO", None: ""}[figure.met],
    }


def _rounded(x: float | None) -> str | float:
    return "" if x is None else float(f"{x:.4g}")


def summary(figures: Sequence[Figure]) -> list[dict[str, str]]:
    """Of everything that is asked for, how much is met, and where the least was found."""
    rows = []
    for asked in ASKED:
        for flags in (False, True):
            some = [each for each in figures if (each.asked, each.flags) == (asked, flags) and each.least]
            if some:
                worst = min(some, key=lambda figure: figure.judged)
                rows.append(
                    {
                        "asked for": asked + " with flags" * flags,
                        "at least": f"{worst.least:.3g} {worst.least_unit}",
                        "met": f"{sum(bool(figure.met) for figure in some)} of {len(some)}",
                        "least found": f"{worst.judged:.3g}",
                        "at": " ".join(filter(None, (worst.operation, worst.format, worst.rounding, worst.arrays))),
                    }
                )
    return rows


def document(plan: Plan, figures: Sequence[Figure]) -> dict[str, Any]:
    """A run as plain data."""
    return {"plan": asdict(plan), "figures": [asdict(figure) | {"met": figure.met} for figure in figures]}
