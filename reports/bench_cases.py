"""What ``halfulp bench`` measures: the operations over arrays, the checker's commands; and contractions."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.functions import function, reference
from ..emulator.names import scalar_format
from ..kernels import arrays
from ..kernels.evaluate import evaluate
from .bench import Case, Plan, Timed, Trial, timed
from .bench_contractions import cases as contractions

NARROW = ("e4m3fn", "e5m2", "fp16", "bf16", "tf32", "fp6_e3m2", "fp4_e2m1", "q4.12", "q8.8w", "uq4.8", "int8")
ARITHMETIC = {  # operands, and what is asked for p <= 24
    "add": (2, "add, mul"),
    "mul": (2, "add, mul"),
    "fma": (3, "fma, div, sqrt"),
    "div": (2, "fma, div, sqrt"),
    "sqrt": (1, "fma, div, sqrt"),
}
FUNCTIONS = ("f16_add", "f32_mulAdd", "f64_mul")
REFERENCES = ("fp16_fma", "fp32_fma", "fp64_fma", "e4m3fn_mul", "fp32_div")
_CHUNK, _UNCOUNTED = 1 << 20, 2  #: bytes of lines that are passed on at a time; chunks before the clock starts
_LONG = 0.5  #: seconds that one run may take before it gets fewer elements


def cases() -> list[Case]:
    """All of it, in the table's order."""
    return [*_quantizing(), *_coding(), *_arithmetic(), *_evaluating(), *_checking(), *_referring(), *contractions()]


@lru_cache(maxsize=8)
def values(size: int, dtype: str, which: int = 0, fmt: str | None = None) -> np.ndarray:
    """Random numbers ±2^u, u uniform in [-8, 8), rounded into ``fmt`` if one is named.

    They reach the subnormal numbers of the narrow formats and overflow the narrowest; products of two stay in the
    range of binary16.
    """
    rng = np.random.default_rng(which)
    x = (np.exp2(rng.uniform(-8, 8, size)) * rng.choice([-1.0, 1.0], size)).astype(dtype)
    return x if fmt is None else arrays.quantize(x, fmt).astype(dtype, copy=False)


def operands(operation: str, fmt: str, dtype: str, size: int) -> list[np.ndarray]:
    """Arrays of values of ``fmt``, as many as an arithmetic operation takes; for square roots without signs."""
    found = [values(size, dtype, which, fmt) for which in range(ARITHMETIC[operation][0])]
    return [np.abs(x) for x in found] if operation == "sqrt" else found


def copying(x: np.ndarray) -> tuple[Timed, float]:
    """The yardstick of what moves memory, and its bytes."""
    return timed(np.copyto, np.zeros_like(x), x), 2 * x.nbytes


def _quantizing() -> Iterator[Case]:
    for dtype, formats in (("float32", NARROW), ("float64", (*NARROW, "fp32", "e11m40", "q16.32"))):
        for rounding, flags in (("RNE", False), ("SR8", False), ("RNE", True), ("SR8", True)):
            asked = "quantize SR" if rounding.startswith("SR") else f"quantize {dtype}"
            for fmt in formats:
                trial = partial(_quantize, fmt, rounding, dtype, flags)
                yield Case("quantize", fmt, rounding, dtype, flags, "GB/s", asked, trial)


def _quantize(fmt: str, rounding: str, dtype: str, flags: bool, plan: Plan) -> Trial:
    x = values(plan.size, dtype)
    out = np.zeros_like(x)
    run = timed(arrays.quantize, x, fmt, rounding, flags=flags, out=out, threads=plan.threads)
    return Trial(run, x.nbytes + out.nbytes, *copying(x))


def _coding() -> Iterator[Case]:
    for operation in ("encode", "decode"):
        for dtype, formats in (("float32", NARROW), ("float64", ("fp16", "fp64", "q16.32"))):
            for fmt in formats:
                trial = partial(_code, operation, fmt, dtype)
                yield Case(operation, fmt, "", dtype, False, "GB/s", "encode, decode", trial)


def _code(operation: str, fmt: str, dtype: str, plan: Plan) -> Trial:
    x = values(plan.size, dtype, 0, fmt)
    codes = arrays.encode(x, fmt)
    if operation == "encode":
        run = timed(arrays.encode, x, fmt, threads=plan.threads, out=codes)
    else:
        run = timed(arrays.decode, codes, fmt, dtype, threads=plan.threads, out=x.copy())
    return Trial(run, x.nbytes + codes.nbytes, *copying(x))


def _arithmetic() -> Iterator[Case]:
    for dtype, formats in (("float32", ("fp16", "bf16", "fp32", "e4m3fn")), ("float64", ("fp64", "e11m40"))):
        for operation, (_, narrow) in ARITHMETIC.items():
            for fmt in formats:
                asked = narrow if scalar_format(fmt).precision <= 24 else "any with p > 24"
                for rounding, flags in ((r, f) for f in (False, True) for r in ("RNE", "RTZ", "RTP", "SR8")):
                    trial = partial(_operate, operation, fmt, rounding, dtype, flags)
                    yield Case(operation, fmt, rounding, dtype, flags, "M results/s", asked, trial)


def _operate(operation: str, fmt: str, rounding: str, dtype: str, flags: bool, plan: Plan) -> Trial:
    """An arithmetic operation; on fewer elements where even a few take long (those of the scalar definition)."""

    def run_of(size: int) -> Timed:
        options = {"flags": flags, "out": np.zeros(size, dtype), "threads": plan.threads}
        inputs = operands(operation, fmt, dtype, size)
        return timed(getattr(arrays, operation), *inputs, fmt, rounding, **options)

    few = min(plan.size, 1 << 12)
    pilot = run_of(few)
    seconds = pilot() and pilot()  # the first compiles
    size = min(plan.size, max(few, int(few * _LONG / seconds)))
    return Trial(run_of(size), size)


def _codes(name: str, size: int) -> list[np.ndarray]:
    """Random codes of a function unit's operands."""
    rng = np.random.default_rng(0)
    widths = [fmt.bits for fmt in function(name).operands]
    return [rng.integers(0, 1 << bits, size, np.uint64).astype(f"u{bits // 8}") for bits in widths]


def _evaluating() -> Iterator[Case]:
    for name in FUNCTIONS:
        yield Case("evaluate", name, "RNE", "codes", True, "M results/s", "", partial(_evaluate, name))


def _evaluate(name: str, plan: Plan) -> Trial:
    return Trial(timed(evaluate, function(name), *_codes(name, plan.size), threads=plan.threads), plan.size)


def _checking() -> Iterator[Case]:
    for command in ("vectors", "verify", "vectors|verify"):
        for name in FUNCTIONS:
            trial = partial(_stream, command, name)
            asked = "vectors, verify" if "|" not in command else ""  # both share the processors
            yield Case(command, name, "RNE", "lines", False, "M lines/s", asked, trial)


def _stream(command: str, name: str, plan: Plan) -> Trial:
    """Commands in processes of their own; the clock starts when the lines flow, and stops when the last has ended."""
    generate, check = ["vectors", name, "-n", str(plan.lines)], ["verify", name]
    text = _ended(_started(generate, plan, stdout=subprocess.PIPE)) if command == "verify" else b""

    def once() -> float:
        generator = None if text else _started(generate, plan, stdout=subprocess.PIPE)
        checker = _started(check, plan, stdin=subprocess.PIPE) if command != "vectors" else None
        source = generator.stdout if generator else io.BytesIO(text)
        marks = [(time.perf_counter(), 0)]
        with contextlib.suppress(BrokenPipeError):  # the checker has failed, and tells why when it is ended
            while chunk := source.read(_CHUNK):
                if checker:
                    checker.stdin.write(chunk)
                marks.append((time.perf_counter(), marks[-1][1] + chunk.count(b"\n")))
        for process in filter(None, (generator, checker)):
            _ended(process)
        start, before = marks[_UNCOUNTED] if len(marks) > _UNCOUNTED + 1 else marks[0]
        return (time.perf_counter() - start) * plan.lines / (marks[-1][1] - before)

    return Trial(once, plan.lines)


def _started(words: list[str], plan: Plan, **pipes: int) -> Any:
    """The process of a sub-command."""
    environment = os.environ | {"HALFULP_THREADS": str(plan.threads)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **pipes}
    return subprocess.Popen([sys.executable, "-m", __name__.partition(".")[0], *words], env=environment, **pipes)  # type: ignore[call-overload]


def _ended(process: Any) -> bytes:
    """What a process has written, when it has ended well."""
    written, told = process.communicate()
    if process.returncode:
        command = " ".join(process.args[2:])
        raise HalfulpError(f"{command} failed with exit code {process.returncode}: {told.decode().strip()}")
    return written


def _referring() -> Iterator[Case]:
    for name in REFERENCES:
        yield Case("reference", name, "RNE", "codes", False, "k calls/s", "reference", partial(_refer, name))


def _refer(name: str, plan: Plan) -> Trial:
    fmt, _, operation = name.rpartition("_")
    unit = reference(operation, fmt)
    rows = list(zip(*(codes.tolist() for codes in _codes(name, min(plan.size, 10_000))), strict=True))
    return Trial(timed(lambda: [unit(*row) for row in rows]), len(rows))
