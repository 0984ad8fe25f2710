"""Other emulators, each behind one adapter: a program that runs them in a process of its own, timed by itself.

It imports nothing of ours, so that any interpreter that has NumPy and the peer runs it; ``reports.peers`` asks it.
Requests and replies are JSON, one a line; arrays travel in files. An adapter takes a Task and returns the call to be
timed and what makes float64 values of its result, or None if the peer does not have such an operation. Conversions
into a peer's own arrays are made beforehand and are not timed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import operator
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Adapted = tuple[Callable[[], Any], Callable[[Any], Any]] | None
OPERATORS = {"add": operator.add, "mul": operator.mul, "div": operator.truediv}


class Float(NamedTuple):
    """A float format: bits of the exponent and of the trailing significand, and its special values."""

    exponent: int
    trailing: int
    specials: str  #: nothing for IEEE 754's, "fn" for OCP's single NaN, "finite" for none


class Fixed(NamedTuple):
    """A fixed-point format: integer bits, the sign's among them, and fraction bits."""

    integer: int
    fraction: int
    wraps: bool


class Accumulation(NamedTuple):
    """How a product of matrices adds its products up."""

    order: str  #: nothing for one after another, "exact", "exact<n>" for n at a time, or "tree"
    accumulator: Float | Fixed
    output: Float | Fixed
    product: Float | Fixed | None = None  #: into which products are rounded first


class Task(NamedTuple):
    """What a peer is asked to do: ``quantize``, ``add``, ``mul``, ``fma``, ``div``, ``sqrt`` or ``matmul``."""

    operation: str
    format: Float | Fixed
    rounding: str
    operands: list[np.ndarray]  #: values; of ``format`` where it is not ``quantize``
    accumulation: Accumulation | None = None  #: of ``matmul``


def parsed(name: str) -> Float | Fixed:
    """A format by its canonical name."""
    if match := re.fullmatch(r"q(\d+)\.(\d+)(w?)", name):
        return Fixed(int(match[1]), int(match[2]), bool(match[3]))
    if match := re.fullmatch(r"e(\d+)m(\d+)(|fn|finite)", name):
        return Float(int(match[1]), int(match[2]), match[3])
    raise ValueError(f"unknown format {name}")


def ml_dtypes(task: Task) -> Adapted:
    """Casts and ufuncs on its data types, to nearest even; np.dot accumulates in float32, np.matmul by BLAS."""
    import ml_dtypes as peer

    names = {"e8m7": "bfloat16", "e5m2": "float8_e5m2", "e4m3fn": "float8_e4m3fn"}
    names |= {"e3m2finite": "float6_e3m2fn", "e2m1finite": "float4_e2m1fn"}
    name = names.get("e{}m{}{}".format(*task.format)) if isinstance(task.format, Float) else None
    if name is None or task.rounding != "RNE" or task.operation == "fma":
        return None
    dtype, x = getattr(peer, name), task.operands[0]
    if task.operation == "quantize":
        return lambda: x.astype(dtype), lambda y: y.astype(np.float64)
    there = [x.astype(dtype) for x in task.operands]
    if task.accumulation:
        if task.accumulation != ("", Float(8, 23, ""), task.format, None):
            return None
        return lambda: np.dot(*there), lambda y: y.astype(np.float64)
    call = np.sqrt if task.operation == "sqrt" else OPERATORS[task.operation]
    return lambda: call(*there), lambda y: y.astype(np.float64)


def qtorch(task: Task) -> Adapted:
    """QPyTorch's float_quantize, which has neither infinities nor NaNs, and fixed_point_quantize; on float32."""
    if task.operation != "quantize" or task.operands[0].dtype != np.float32 or task.rounding not in ("RNE", "SR8"):
        return None
    import torch
    from qtorch import quant as peer  # type: ignore[import-not-found,unused-ignore]

    x, how = torch.from_numpy(task.operands[0]), "nearest" if task.rounding == "RNE" else "stochastic"
    fmt = task.format
    if isinstance(fmt, Float):
        return lambda: peer.float_quantize(x, fmt.exponent, fmt.trailing, how), lambda y: y.numpy()
    if fmt.wraps:
        return None
    return lambda: peer.fixed_point_quantize(
        x, fmt.integer + fmt.fraction, fmt.fraction, rounding=how
    ), lambda y: y.numpy()


def apytypes(task: Task) -> Adapted:
    """APyTypes' casts and operators, on its own arrays of IEEE floats and fixed point.

    Products of matrices round every product into the accumulator's format, and then every sum.
    """
    import apytypes as peer

    modes = {"RNE": "TIES_EVEN", "RTZ": "TO_ZERO", "RTP": "TO_POS", "SR8": "STOCH_WEIGHTED"}
    mode, fmt = getattr(peer.QuantizationMode, modes[task.rounding]), task.format
    if task.accumulation:
        return _apytypes_matmul(task, task.accumulation, mode)
    if isinstance(fmt, Fixed):
        if task.operation != "quantize":
            return None
        wide = peer.APyFixedArray.from_array(task.operands[0], int_bits=16, frac_bits=40)  # holds all that we hand it
        overflow = peer.OverflowMode.WRAP if fmt.wraps else peer.OverflowMode.SAT
        return lambda: wide.cast(fmt.integer, fmt.fraction, mode, overflow), lambda y: y.to_numpy()
    if fmt.specials or task.operation in ("fma", "sqrt"):
        return None
    if task.operation == "quantize":
        bits = (8, 23) if task.operands[0].dtype == np.float32 else (11, 52)
        source = peer.APyFloatArray.from_array(task.operands[0], *bits)
        return lambda: source.cast(fmt.exponent, fmt.trailing, quantization=mode), lambda y: y.to_numpy()
    x, y = (peer.APyFloatArray.from_array(x, fmt.exponent, fmt.trailing) for x in task.operands)

    def call() -> Any:
        with peer.APyFloatQuantizationContext(mode):
            return OPERATORS[task.operation](x, y)

    return call, lambda z: z.to_numpy()


def _apytypes_matmul(task: Task, how: Accumulation, mode: Any) -> Adapted:
    """In an accumulator's context; without one, which is faster, where fixed point grows to no more than it holds."""
    import apytypes as peer

    fmt, into = task.format, how.accumulator
    if how.order or how.output != into or how.product not in (None, into):
        return None
    context: Any
    if isinstance(fmt, Fixed) and isinstance(into, Fixed):
        grown = 2 * fmt.integer + (len(task.operands[1]) - 1).bit_length()
        exact = grown <= into.integer and 2 * fmt.fraction <= into.fraction
        overflow = peer.OverflowMode.WRAP if into.wraps else peer.OverflowMode.SAT
        context = partial(peer.APyFixedAccumulatorContext, into.integer, into.fraction, mode, overflow)
        x, y = (peer.APyFixedArray.from_array(x, fmt.integer, fmt.fraction) for x in task.operands)
        if exact:
            return lambda: x @ y, lambda z: z.to_numpy()
    elif isinstance(fmt, Float) and isinstance(into, Float) and not fmt.specials + into.specials:
        exact = fmt.exponent < into.exponent and 2 * fmt.trailing < into.trailing  # of products
        context = partial(peer.APyFloatAccumulatorContext, into.exponent, into.trailing, quantization=mode)
        x, y = (peer.APyFloatArray.from_array(x, fmt.exponent, fmt.trailing) for x in task.operands)
    else:
        return None
    if how.product is None and not exact:
        return None

    def call() -> Any:
        with context():
            return x @ y

    return call, lambda z: z.to_numpy()


def gfloat(task: Task) -> Adapted:
    """gfloat's round_ndarray; its StochasticFastest is SR with k given bits."""
    import gfloat as peer
    from gfloat import formats

    names = {"e5m10": "binary16", "e8m7": "bfloat16", "e8m23": "binary32", "e5m2": "ocp_e5m2", "e4m3fn": "ocp_e4m3"}
    names |= {"e3m2finite": "ocp_e3m2", "e2m1finite": "ocp_e2m1"}
    fmt = task.format
    name = names.get("e{}m{}{}".format(*fmt)) if isinstance(fmt, Float) else None
    if name is None or task.operation != "quantize":
        return None
    modes = {"RNE": "TiesToEven", "RTZ": "TowardZero", "RTP": "TowardPositive", "SR8": "StochasticFastest"}
    x = task.operands[0]
    options: dict[str, Any] = {
        "rnd": peer.RoundMode[modes[task.rounding]],
        "sat": fmt[2] == "finite",
    }
    if task.rounding == "SR8":
        options |= {"srbits": np.random.default_rng(0).integers(0, 256, x.size), "srnumbits": 8}
    info = getattr(formats, f"format_info_{name}")
    return lambda: peer.round_ndarray(info, x, **options), lambda y: y


def pychop(task: Task) -> Adapted:
    """pychop's Chop, of IEEE floats, and Chopf, of saturating fixed point."""
    import pychop as peer

    modes = {"RNE": 1, "RTP": 2, "RTZ": 4, "SR8": 5}
    x, fmt = task.operands[0], task.format
    if task.operation != "quantize" or (fmt.wraps if isinstance(fmt, Fixed) else fmt.specials):
        return None
    kind = peer.Chopf if isinstance(fmt, Fixed) else peer.Chop
    chop = kind(fmt[0], fmt[1], rmode=modes[task.rounding])
    return lambda: chop(x), lambda y: y


def verifloat(task: Task) -> Adapted:
    """VeriFloat's conversions and operations on its own arrays; it raises flags on every element."""
    import verifloat as peer

    def named(fmt: Any) -> Any:
        specials = {"": True, "fn": "fn", "finite": False}[fmt.specials]
        return peer.FPFormat(*fmt[:2], inf_nan=specials, rounding=peer.Rounding[modes[task.rounding]], sr_bits=8)

    fmt, how = task.format, task.accumulation
    if isinstance(fmt, Fixed):
        return None
    modes = {"RNE": "RNE", "RTZ": "RTZ", "RTP": "RUP", "SR8": "SR"}
    there = named(fmt)
    if task.operation == "quantize":
        source = peer.FPArray(task.operands[0], peer.FP32 if task.operands[0].dtype == np.float32 else peer.FP64)
        return lambda: source.convert(there), lambda y: y.to_numpy()
    x, *rest = (peer.FPArray(x, there) for x in task.operands)
    if how:
        orders = {"": ("sequential", 1), "exact": ("exact", 1), "exact32": ("sequential", 32), "tree": ("pairwise", 1)}
        rounded = how.order == "tree" and how.product != how.accumulator  # there it always rounds products
        if how.output != how.accumulator or how.order not in orders or rounded:
            return None
        (order, group), product = orders[how.order], how.product and named(how.product)
        adder = peer.Accumulator(named(how.accumulator), order, product, group)
        return lambda: peer.matmul(x, *rest, adder), lambda y: y.to_numpy()
    call = OPERATORS.get(task.operation) or (lambda x, *rest: getattr(x, task.operation)(*rest))
    return lambda: call(x, *rest), lambda y: y.to_numpy()


ADAPTERS = {each.__name__: each for each in (ml_dtypes, qtorch, apytypes, gfloat, pychop, verifloat)}


class Worker:
    """Answers requests; keeps the task that was prepared last."""

    adapted: Adapted = None

    def installed(self) -> dict[str, Any]:
        """Versions of the peers that this interpreter has."""
        found = {}
        for name in ADAPTERS:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
        return found

    def prepare(
        self,
        peer: str,
        operation: str,
        format: str,
        rounding: str,
        operands: list[str],
        accumulation: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make a call ready; ``operands`` are files."""
        task = Task(operation, parsed(format), rounding, [np.load(file) for file in operands])
        if accumulation:
            order, formats = accumulation.pop("order"), {name: parsed(text) for name, text in accumulation.items()}
            task = task._replace(accumulation=Accumulation(order, **formats))
        self.adapted = ADAPTERS[peer](task)
        return {"has": self.adapted is not None}

    def run(self) -> dict[str, Any]:
        """The seconds of one call."""
        assert self.adapted
        start = time.perf_counter()
        self.result = self.adapted[0]()
        return {"seconds": time.perf_counter() - start}

    def sample(self, file: str, count: int) -> dict[str, Any]:
        """Write the first values of the last result."""
        assert self.adapted
        np.save(file, np.asarray(self.adapted[1](self.result), np.float64).ravel()[:count])
        return {}


def main() -> None:
    """Answer what comes on standard input, a line each, until it ends."""
    replies, sys.stdout = sys.stdout, sys.stderr  # peers print
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
