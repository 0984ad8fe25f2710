"""The subset of Python that kernels are written in, and its decorators.

A *device* function is a scalar function; a *kernel* works on the index range [begin, end) of its result. Both
are compiled by Numba for the CPU and printed as C++ by ``emit`` for CUDA and for the host's compiler.

The subset
----------
* Every parameter and result is annotated with ``f64``, ``i64``, ``f64s``, ``i64s`` (arrays), a NamedTuple of
  ``f64``/``i64`` fields, or a tuple of scalars. Locals take the type of their first assignment, which must stand
  in the block that encloses all their uses.
* Integers are signed 64-bit and must not overflow, nor negative ones be shifted (the host check runs under UBSan).
  ``/ // % **`` are refused; ``quotient`` divides non-negative integers. Integers and floats never mix unconverted.
* Statements: assignment, ``if``, ``while``, ``for i in range(...)``, ``return``.``x[i:j]`` is a view: a
  pointer in C++.
* Constants are module-level numbers. Functions called are device functions, the intrinsics below, ``min``, ``max``
  (of integers), ``int``, ``float``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.core.caching import NullCache
from numba.extending import intrinsic

f64 = float
i64 = int


class f64s:
    """Annotation: a contiguous array of float64."""


class i64s:
    """Annotation: a contiguous array of int64."""


#: Device functions and kernels by name, in order of definition (callees first).
DEVICE: dict[str, Callable] = {}
KERNELS: dict[str, Callable] = {}
CALLED: set[str] = set()  #: device functions that are called rather than inlined

_OPTIONS: Any = {"error_model": "numpy", "nogil": True}  # no fastmath, ever: it would change bits


@cache
def _sources_stamp() -> str:
    """Digest of all that compiled code is made of: this folder, and the emulator, whose constants it uses."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted([*root.glob("emulator/*.py"), *root.glob("kernels/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cached(dispatcher: Any) -> Any:
    """Cache the compiled code on disk, until any of these sources changes.

    Numba would notice only a change of the function's own file, though code from other files is inlined in it, and
    run stale arithmetic. Where there is no folder to write to, or should a later Numba lay its cache out differently,
    nothing is cached.
    """
    try:
        dispatcher.enable_caching()
        file = dispatcher._cache._cache_file
        known = hasattr(file, "_source_stamp")
    except (RuntimeError, AttributeError):
        known = False
    if known:
        file._source_stamp = _sources_stamp()
    else:
        dispatcher._cache = NullCache()
    return dispatcher


def device(function: Callable) -> Callable:
    """Register a scalar function of the subset; always inlined, so that loops over it vectorise."""
    DEVICE[function.__name__] = function
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def device_call(function: Callable) -> Callable:
    """Register a function that is called, not inlined (long and branchy ones)."""
    CALLED.add(function.__name__)
    DEVICE[function.__name__] = function
    return _cached(numba.njit(**_OPTIONS)(function))


def kernel(function: Callable) -> Callable:
    """Register a kernel: its first two parameters are ``begin`` and ``end``."""
    KERNELS[function.__name__] = function
    return _cached(numba.njit(**_OPTIONS)(function))


@intrinsic
def bits_of(typing, x):
    """The 64 bits of a double, as a signed integer."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def from_bits(typing, x):
    """The double with these 64 bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def fma(typing, x, y, z):
    """x * y + z in binary64 with one rounding."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def leading_zeros(typing, x):
    """Number of leading zero bits of a 64-bit integer; 64 for 0."""

    def codegen(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), codegen


@numba.njit(forceinline=True, **_OPTIONS)
def quotient(x: int, y: int) -> int:
    """x // y of non-negative integers."""
    return x // y


#: Intrinsics: C++ name (prelude of ``emit``), types of the arguments, type of the result.
INTRINSICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "bits_of": ("bits_of", ("f64",), "i64"),
    "from_bits": ("from_bits", ("i64",), "f64"),
    "fma": ("fma", ("f64", "f64", "f64"), "f64"),
    "leading_zeros": ("leading_zeros", ("i64",), "i64"),
    "quotient": ("quotient", ("i64", "i64"), "i64"),
    "min": ("min_i64", ("i64", "i64"), "i64"),
    "max": ("max_i64", ("i64", "i64"), "i64"),
    "int": ("i64", ("any",), "i64"),
    "float": ("f64", ("any",), "f64"),
}
