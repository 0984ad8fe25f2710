"""The subset of Python that kernels are written in, and its decorators.

A *device* function is a scalar function; a *kernel* works on the index range [begin, end) of its result. Both
are compiled by Numba for the CPU and printed as C++ by ``emit`` for CUDA and for the host's compiler.

The subset
----------
* Every parameter and result is annotated with ``f64``, ``i64``, ``f64s``, ``i64s`` (arrays), in kernels
  ``f64w`` and ``i64w`` (scratch), a NamedTuple of
  ``f64``/``i64`` fields, or a tuple of scalars. Locals take the type of their first assignment, which must stand
  in the block that encloses all their uses.
* Integers are signed 64-bit and must not overflow, nor negative ones be shifted (the host check runs under UBSan).
  ``// % **`` and ``/`` of integers are refused; ``quotient`` divides non-negative ones. Integers and floats never mix
  unconverted.
* Statements: assignment, ``if``, ``while``, ``for i in range(...)``, ``return``.``x[i:j]`` is a view: a
  pointer in C++.
* Constants are module-level numbers. Functions called are device functions, the intrinsics below, ``min``, ``max``
  (of integers), ``int``, ``float``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import types
from numba.core.caching import NullCache
from numba.extending import intrinsic

f64 = float
i64 = int


class f64s:
    """Annotation: a contiguous array of float64."""


class i64s:
    """Annotation: a contiguous array of int64."""


class Scratch:
    """Annotation's parent: a scratch array of a kernel's own. On the host it holds what a chunk needs (``WORK`` numbers
    for each result in one), on the GPU what each result needs."""


class f64w(f64s, Scratch):
    """Annotation: scratch of float64."""


class i64w(i64s, Scratch):
    """Annotation: scratch of int64."""


#: Device functions and kernels by name, in order of definition (callees first).
DEVICE: dict[str, Callable] = {}
KERNELS: dict[str, Callable] = {}
COMPILED: dict[str, Any] = {}  #: kernels as Numba compiles them
CALLED: set[str] = set()  #: device functions that are called rather than inlined

_OPTIONS: Any = {"error_model": "numpy", "nogil": True}  # no fastmath, ever: it would change bits


def _prefer_long_vectors() -> None:
    """Lets LLVM use vectors of 512 bits, from the processors on that do not slow down for them (those with VBMI2, from
    Ice Lake on; LLVM keeps to 256 there): a third faster in rounding. Of Numba as a whole, unless its owner has chosen
    its features (NUMBA_CPU_FEATURES), or already compiled with it; no result depends on it."""
    features = binding.get_host_cpu_features()
    chosen: Any = numba.config
    if chosen.CPU_FEATURES is None and features.get("avx512vbmi2"):
        chosen.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


_prefer_long_vectors()


@cache
def _sources_stamp() -> str:
    """Digest of all that compiled code is made of: this folder, and the emulator, whose constants it uses."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted([*root.glob("emulator/*.py"), *root.glob("kernels/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _index(load: Callable[[], dict]) -> dict:
    """Numba's index of what is cached; nothing if it is of other sources, whose types may not be there any more."""
    try:
        return load()
    except (AttributeError, ImportError):
        return {}


def _cached(dispatcher: Any) -> Any:
    """Cache the compiled code on disk, until any of these sources changes.

    Numba would notice only a change of the function's own file, though code from other files is inlined in it, and
    run stale arithmetic. Where there is no folder to write to, or should a later Numba lay its cache out differently,
    nothing is cached.
    """
    try:
        dispatcher.enable_caching()
        file = dispatcher._cache._cache_file
        known = hasattr(file, "_source_stamp") and hasattr(file, "_load_index")
    except (RuntimeError, AttributeError):
        known = False
    if known:
        file._source_stamp = _sources_stamp()
        file._load_index = partial(_index, file._load_index)
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
    COMPILED[function.__name__] = _cached(numba.njit(**_OPTIONS)(function))
    return COMPILED[function.__name__]


def _width(kind: types.Float) -> ir.IntType:
    return ir.IntType(kind.bitwidth)


def _integer(x: types.Float) -> types.Integer:
    return types.int32 if x == types.float32 else types.int64


def compiled(function: Callable) -> Callable:
    """Compile a function for the CPU alone: one outside the subset, which is not emitted."""
    return _cached(numba.njit(**_OPTIONS)(function))


@intrinsic
def bits_of(typing, x):
    """The bits of a float, as a signed integer of its width."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], _width(x))

    return _integer(x)(x), codegen


@intrinsic
def from_bits(typing, x):
    """The double with these 64 bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def binade(typing, x):
    """2^floor(log2 x) of a positive finite float, 0 of a subnormal one: its exponent field alone."""
    mask = 0x7F800000 if x == types.float32 else 0x7FF << 52

    def codegen(context, builder, signature, args):
        field = builder.and_(builder.bitcast(args[0], _width(x)), ir.Constant(_width(x), mask))
        return builder.bitcast(field, args[0].type)

    return x(x), codegen


@intrinsic
def nearest_even(typing, y, dropped):
    """A float that is not negative, its pattern without the last ``dropped`` > 0 bits, rounded to nearest even."""

    def codegen(context, builder, signature, args):
        kind = _width(y)
        bits, n = builder.bitcast(args[0], kind), builder.trunc(args[1], kind) if y == types.float32 else args[1]
        one = ir.Constant(kind, 1)
        unit = builder.shl(one, n)
        below = builder.add(builder.sub(builder.lshr(unit, one), one), builder.and_(builder.lshr(bits, n), one))
        bits = builder.and_(builder.add(bits, below), builder.neg(unit))
        return builder.bitcast(bits, args[0].type)

    return y(y, types.int64), codegen


@intrinsic
def copysign(typing, magnitude, sign):
    """``magnitude`` with the sign bit of ``sign``; both of one type."""

    def codegen(context, builder, _signature, args):
        kind = args[0].type
        signature = ir.FunctionType(kind, [kind, kind])
        function = builder.module.declare_intrinsic("llvm.copysign", [kind], signature)
        return builder.call(function, args)

    return magnitude(magnitude, magnitude), codegen


@intrinsic
def floor(typing, x):
    """The largest integer not above x, as a float."""

    def codegen(context, builder, signature, args):
        return builder.call(builder.module.declare_intrinsic("llvm.floor", [args[0].type]), args)

    return x(x), codegen


@intrinsic
def trunc(typing, x):
    """x without its fraction, as a float."""

    def codegen(context, builder, signature, args):
        return builder.call(builder.module.declare_intrinsic("llvm.trunc", [args[0].type]), args)

    return x(x), codegen


@intrinsic
def sqrt(typing, x):
    """The square root, correctly rounded."""

    def codegen(context, builder, signature, args):
        return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [args[0].type]), args)

    return x(x), codegen


@intrinsic
def fmod(typing, x, y):
    """C's fmod, exact."""

    def codegen(context, builder, signature, args):
        return builder.frem(*args)

    return types.float64(types.float64, types.float64), codegen


@intrinsic
def like(typing, x, y):
    """x as a float of y's width."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], x, y)

    return y(x, y), codegen


@intrinsic
def fma(typing, x, y, z):
    """x * y + z with one rounding, all of one type."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return x(x, x, x), codegen


@intrinsic
def leading_zeros(typing, x):
    """Number of leading zero bits of a 64-bit integer; 64 for 0."""

    def codegen(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), codegen


def _product(builder, args):
    low = [builder.and_(x, ir.Constant(ir.IntType(64), 0xFFFFFFFF)) for x in args]
    return builder.mul(*low)


@intrinsic
def multiply_high(typing, x, y):
    """The upper 32 bits of the product of two 32-bit words."""

    def codegen(context, builder, signature, args):
        return builder.lshr(_product(builder, args), ir.Constant(ir.IntType(64), 32))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def multiply_low(typing, x, y):
    """The lower 32 bits of the product of two 32-bit words."""

    def codegen(context, builder, signature, args):
        return builder.and_(_product(builder, args), ir.Constant(ir.IntType(64), 0xFFFFFFFF))

    return types.int64(types.int64, types.int64), codegen


def _fit(builder, value, kind: ir.IntType, signed: bool = True):
    """An integer value in ``kind``."""
    if value.type.width > kind.width:
        return builder.trunc(value, kind)
    return (builder.sext if signed else builder.zext)(value, kind) if value.type.width < kind.width else value


@intrinsic
def word(typing, code, x):
    """An unsigned integer of any width as a word of the width of float x."""

    def codegen(context, builder, signature, args):
        return _fit(builder, args[0], _width(x), signed=False)

    return _integer(x)(code, x), codegen


@intrinsic
def number(typing, word, x):
    """A word as a float of the width of x."""

    def codegen(context, builder, signature, args):
        return builder.sitofp(_fit(builder, args[0], _width(x)), args[1].type)

    return x(word, x), codegen


@intrinsic
def integer(typing, x):
    """A float that is an integer as a word of its width; what comes of others is not defined."""

    def codegen(context, builder, signature, args):
        return builder.fptosi(args[0], _width(x))

    return _integer(x)(x), codegen


@intrinsic
def place(typing, word, shift, offset, x):
    """The float, of the width of x, whose bits are (word << shift) + offset."""

    def codegen(context, builder, signature, args):
        value, n, more = (_fit(builder, arg, _width(x)) for arg in args[:3])
        return builder.bitcast(builder.add(builder.shl(value, n), more), args[3].type)

    return x(word, shift, offset, x), codegen


@intrinsic
def displace(typing, x, shift, offset):
    """(the bits of x - offset) >> shift, as a word of its width: what undoes ``place``."""

    def codegen(context, builder, signature, args):
        n, more = (_fit(builder, arg, _width(x)) for arg in args[1:])
        return builder.lshr(builder.sub(builder.bitcast(args[0], _width(x)), more), n)

    return _integer(x)(x, shift, offset), codegen


@intrinsic
def unsigned(typing, i):
    """An index that is known not to be negative, so that none is counted from the end."""

    def codegen(context, builder, signature, args):
        return builder.zext(args[0], ir.IntType(64)) if args[0].type.width < 64 else args[0]

    return types.uint64(i), codegen


@numba.njit(forceinline=True, **_OPTIONS)
def quotient(x: int, y: int) -> int:
    """x // y of non-negative integers."""
    return x // y


#: Intrinsics: C++ name (prelude of ``emit``), types of the arguments, type of the result.
INTRINSICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "bits_of": ("bits_of", ("f64",), "i64"),
    "from_bits": ("from_bits", ("i64",), "f64"),
    "binade": ("binade", ("f64",), "f64"),
    "nearest_even": ("nearest_even", ("f64", "i64"), "f64"),
    "copysign": ("copysign", ("f64", "f64"), "f64"),
    "floor": ("floor", ("f64",), "f64"),
    "trunc": ("trunc", ("f64",), "f64"),
    "sqrt": ("sqrt", ("f64",), "f64"),
    "fmod": ("fmod", ("f64", "f64"), "f64"),
    "abs": ("fabs", ("f64",), "f64"),
    "like": ("like", ("f64", "f64"), "f64"),
    "word": ("word", ("i64", "f64"), "i64"),
    "number": ("number", ("i64", "f64"), "f64"),
    "integer": ("i64", ("f64",), "i64"),
    "place": ("place", ("i64", "i64", "i64", "f64"), "f64"),
    "displace": ("displace", ("f64", "i64", "i64"), "i64"),
    "multiply_high": ("multiply_high", ("i64", "i64"), "i64"),
    "multiply_low": ("multiply_low", ("i64", "i64"), "i64"),
    "fma": ("fma", ("f64", "f64", "f64"), "f64"),
    "leading_zeros": ("leading_zeros", ("i64",), "i64"),
    "unsigned": ("i64", ("i64",), "i64"),
    "quotient": ("quotient", ("i64", "i64"), "i64"),
    "min": ("min_i64", ("i64", "i64"), "i64"),
    "max": ("max_i64", ("i64", "i64"), "i64"),
    "int": ("i64", ("any",), "i64"),
    "float": ("f64", ("any",), "f64"),
}
