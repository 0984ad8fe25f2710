"""The arithmetic over arrays of values, at speed: each element the exact result, rounded once.

Arrays are float32 or float64 and hold any values. float32 operands are the cheaper ones: their exact results fit
where float64 operands need wide integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..emulator import arithmetic, operations
from ..emulator.arithmetic import Flags, Result, exact
from ..emulator.codec import code_dtype
from ..emulator.errors import HalfulpError
from ..emulator.formats import Format, PositFormat, carrier
from ..emulator.names import scalar_format
from ..emulator.random import Role, Source, source, stream
from ..emulator.rounding import RNE, Rounding
from . import posits
from .backends import Backend
from .backends import backend as make_backend
from .codecs import codec, codec32, has_codec
from .compute import compute, convert
from .paths import FP32, FP64, Op, Way, way_of
from .structs import GIVEN_DRAWS, Draws
from .target import draws, fits_binary32, target

_DEFINITION: dict[Op, Callable[..., Result]] = {
    Op.CONVERT: arithmetic.quantize,
    Op.ADD: arithmetic.add,
    Op.SUB: operations.sub,
    Op.MUL: arithmetic.mul,
    Op.FMA: arithmetic.fma,
    Op.DIV: operations.div,
    Op.SQRT: operations.sqrt,
    Op.REM: operations.rem,
}


def run(
    way: Way,
    operands: tuple[Any, ...],
    backend: Backend,
    u: Any = None,
    d: Draws = GIVEN_DRAWS,
    out: Any = None,
    flags: Any = None,
) -> Any:
    """One operation on flat arrays of one size; into ``out`` and ``flags``.

    ``u``: the random fractions of SR, else they are drawn as ``d`` says.
    """
    size, t = operands[0].size, way.target
    out = backend.xp.empty(size) if out is None else out
    if way.path is None:
        return _defined(way, operands, u, d, out, flags, backend)
    if way.light:
        return convert(backend, operands[0], t, d if u is None else GIVEN_DRAWS, out, flags, u)
    poles = None
    if way.poles_are_nan:
        x, y = operands
        poles = (y == 0) & (x != 0) & backend.xp.isfinite(x)
    compute(backend, way.op, operands, t, way.path, d, out, flags, u, way.signaling)
    if poles is not None:
        out[poles] = t.nan
        if flags is not None:
            flags[poles] = int(Flags.DIVIDE_BY_ZERO) | t.nan_flags
    return out


def _defined(way: Way, operands: tuple[Any, ...], u: Any, d: Draws, out: Any, flags: Any, backend: Backend) -> Any:
    """The same by the definition, one by one (conversions to posits all at once): where there is no kernel."""
    fmt, rounding = way.fmt, way.rounding
    if fmt.precision > 53:
        raise HalfulpError(f"arrays carry values in binary64, which holds at most 53 bits; {fmt} has {fmt.precision}.")
    columns = [backend.to_host(x) for x in operands]
    k = rounding.random_bits
    if k and u is None:
        u = backend.xp.empty(out.size)
        backend.launch("draw", out.size, u, d, 0, target(FP64, rounding))
    random = (backend.to_host(u) * 2**k).astype(np.int64) if k else np.zeros(out.size, np.int64)
    if isinstance(fmt, PositFormat) and way.op is Op.CONVERT:
        values, raised = posits.convert(columns[0].astype(np.float64), fmt, rounding, random)
    else:
        rows = zip(*(x.tolist() for x in columns), random.tolist(), strict=True)
        operation, used = _DEFINITION[way.op], way.conventions
        results = [operation(*map(exact, row[:-1]), fmt, rounding, row[-1], used) for row in rows]
        values = np.array([float(fmt.unpack(code)) for code, _ in results])
        raised = np.array([int(flags) for _, flags in results])
    out[:] = backend.array(values)
    if flags is not None:
        flags[:] = backend.array(raised, np.int64)
    return out


def _operand(x: ArrayLike) -> np.ndarray:
    """``x`` as a float32 or float64 array."""
    try:
        array = np.asarray(x)
    except ValueError:
        return carrier(x)  # which refuses it in a sentence
    return array if array.dtype in (np.float32, np.float64) else carrier(array)


def _apply(
    op: Op,
    operands: tuple[ArrayLike, ...],
    fmt: Format | str,
    rounding: Rounding | str,
    seed: int,
    flags: bool,
    out: np.ndarray | None,
    backend: str,
    threads: int | None,
    random: Source | str,
) -> Any:
    arrays = [_operand(x) for x in operands]
    single = all(x.dtype == np.float32 for x in arrays)
    where = make_backend(backend, threads)
    chosen, random, kind = _chosen(op, fmt, rounding, random, len(arrays), single, flags, where.name == "cpu")
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 62:
        raise HalfulpError(f"seed must be an integer in [0, 2**62), not {seed}.")
    if chosen.rounding.random_bits:
        random.random_bits(seed, 0, 0, 0, chosen.rounding.random_bits)  # refuses more than it has
    try:
        shape = arrays[0].shape if len(arrays) == 1 else np.broadcast_shapes(*(x.shape for x in arrays))
    except ValueError:
        shapes = [str(x.shape) for x in arrays]
        raise HalfulpError(f"shapes {', '.join(shapes[:-1])} and {shapes[-1]} do not broadcast together.") from None
    out = _result(out, shape, kind)
    raised = np.zeros(shape, np.uint8) if flags else None
    if out.size:
        operand = np.float32 if single and where.name == "cpu" else np.float64
        flat = tuple(_apart(_broadcast(x, shape, operand), out, flags) for x in arrays)
        d = draws(random, seed, stream(1, Role.OUTPUT))
        if where.name == "cpu":
            run(chosen, flat, where, None, d, out.reshape(-1), _flat(raised))
        else:
            there = where.array(np.zeros(out.size), np.int64) if flags else None
            result = run(chosen, tuple(map(where.array, flat)), where, None, d, None, there)
            out.reshape(-1)[:] = where.to_host(result)
            if raised is not None:
                raised.reshape(-1)[:] = where.to_host(there)
    value = out if shape else float(out)
    return value if raised is None else (value, raised if shape else int(raised))


def _chosen(
    op: Op, fmt: Any, rounding: Any, random: Any, operands: int, single: bool, flags: bool, on_cpu: bool
) -> tuple[Way, Source, Any]:
    """The way, the random source and the type of the result, of what a user may give."""
    if not all(isinstance(given, str) for given in (fmt, rounding, random)):
        fmt, rounding, random = scalar_format(fmt), Rounding.parse(rounding), source(random)
    return _remembered(op, fmt, rounding, random, operands, single, bool(flags), on_cpu)


@lru_cache(maxsize=1024)
def _remembered(
    op: Op, fmt: Any, rounding: Any, random: Any, operands: int, single: bool, flags: bool, on_cpu: bool
) -> tuple[Way, Source, Any]:
    fmt, rounding, random = scalar_format(fmt), Rounding.parse(rounding), source(random)
    kind = np.float32 if single and fits_binary32(fmt) else np.float64
    formats = (FP32 if single else FP64,) * operands
    return way_of(op, formats, fmt, rounding, flags, single=kind is np.float32 and on_cpu), random, kind


def _result(out: np.ndarray | None, shape: tuple[int, ...], kind: Any) -> np.ndarray:
    """``out`` if it can take the result, or a new array."""
    if out is None:
        return np.empty(shape, kind)
    if not (isinstance(out, np.ndarray) and out.shape == shape and out.dtype == kind and out.flags.carray):
        raise HalfulpError(f"out must be a contiguous, writeable {np.dtype(kind)} array of shape {shape}.")
    return out


def _broadcast(x: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    x = x if x.shape == shape else np.broadcast_to(x, shape)
    return _plain(x, dtype).reshape(-1)


def _plain(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    """``x`` as Numba's plainest type of array, for which alone kernels are compiled: contiguous and writeable."""
    return np.require(x, dtype, ["C", "W"])


def _apart(x: np.ndarray, out: np.ndarray, flags: bool) -> np.ndarray:
    """``x``, or a copy where writing ``out`` would change what is still to be read: flags look at operands last."""
    if not np.may_share_memory(x, out):
        return x
    in_place = x.ctypes.data == out.ctypes.data and x.dtype == out.dtype
    return x if in_place and not flags else x.copy()


def _flat(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.reshape(-1)


def quantize(
    x: ArrayLike,
    fmt: Format | str,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    *,
    flags: bool = False,
    out: np.ndarray | None = None,
    threads: int | None = None,
    random: Source | str = "philox",
) -> Any:
    """Each element of ``x`` rounded once into ``fmt``; overflow, NaN and zeros as ``emulator.arithmetic`` says.

    Parameters
    ----------
    x : real array, any shape (values; taken as exact).
    fmt : Format or name. rounding : Rounding or name. seed : of stochastic rounding, in [0, 2^62).
    flags : also return the IEEE flags (``hu.Flags``) as a uint8 array. NaNs of
        arrays count as quiet ones, and those of results have no sign or payload that counts.
    out : array that takes the result. threads : of the CPU; they never change a bit.
    random : where SR's random bits come from, as of ``Machine``.

    Returns
    -------
    Array of the same shape, of values exactly representable in ``fmt``: float32 for float32 input whose format
    binary32 holds, else float64 (a float for a scalar). With ``flags`` a pair (values, flags).
    """
    return _apply(Op.CONVERT, (x,), fmt, rounding, seed, flags, out, backend, threads, random)


def _binary(op: Op, sentence: str) -> Any:
    def function(
        x: ArrayLike,
        y: ArrayLike,
        fmt: Format | str,
        rounding: Rounding | str = RNE,
        seed: int = 0,
        backend: str = "cpu",
        *,
        flags: bool = False,
        out: np.ndarray | None = None,
        threads: int | None = None,
        random: Source | str = "philox",
    ) -> Any:
        return _apply(op, (x, y), fmt, rounding, seed, flags, out, backend, threads, random)

    function.__name__ = function.__qualname__ = op.name.lower()
    function.__doc__ = f"{sentence}, broadcast, rounded once into ``fmt``; parameters and result as of ``quantize``."
    return function


add = _binary(Op.ADD, "x + y")
sub = _binary(Op.SUB, "x - y")
mul = _binary(Op.MUL, "x * y")
div = _binary(Op.DIV, "x / y")
rem = _binary(Op.REM, "IEEE 754's remainder of x / y")


def fma(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    fmt: Format | str,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    *,
    flags: bool = False,
    out: np.ndarray | None = None,
    threads: int | None = None,
    random: Source | str = "philox",
) -> Any:
    """x * y + z, broadcast, rounded once into ``fmt``; parameters and result as of ``quantize``."""
    return _apply(Op.FMA, (x, y, z), fmt, rounding, seed, flags, out, backend, threads, random)


def sqrt(
    x: ArrayLike,
    fmt: Format | str,
    rounding: Rounding | str = RNE,
    seed: int = 0,
    backend: str = "cpu",
    *,
    flags: bool = False,
    out: np.ndarray | None = None,
    threads: int | None = None,
    random: Source | str = "philox",
) -> Any:
    """The square root, rounded once into ``fmt``; parameters and result as of ``quantize``."""
    return _apply(Op.SQRT, (x,), fmt, rounding, seed, flags, out, backend, threads, random)


def decode(
    codes: ArrayLike,
    fmt: Format | str,
    dtype: Any = np.float64,
    threads: int | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Values of codes: ``fmt.decode`` at speed.

    Parameters
    ----------
    codes : unsigned integer array, any shape, every element in [0, 2**bits).
    dtype : float64, or float32 where binary32 holds the format.
    out : array of that type that takes the values. threads : as of ``quantize``.
    """
    fmt, codes = scalar_format(fmt), np.asarray(codes)
    if codes.dtype.kind != "u":
        raise HalfulpError(f"codes of {fmt} must be unsigned integers, not {codes.dtype}.")
    if dtype not in (np.float32, np.float64, "float32", "float64"):
        raise HalfulpError(f"values come as float32 or float64, not {dtype}.")
    dtype = np.dtype(dtype)
    if dtype == np.float32 and not fits_binary32(fmt):
        raise HalfulpError(f"float32 does not hold every value of {fmt}: use float64.")
    out = _result(out, codes.shape, dtype)
    if not has_codec(fmt):
        out[...] = fmt.decode(codes)
        return out
    if codes.dtype.itemsize * 8 > fmt.bits and codes.size and int(codes.max()) >> fmt.bits:
        raise HalfulpError(f"codes of {fmt} must lie in [0, 2**{fmt.bits}).")
    flat = _plain(codes).reshape(-1)
    make_backend("cpu", threads).launch("decode", flat.size, signed_words(flat), out.reshape(-1), _codec(fmt, dtype))
    return out


def _codec(fmt: Format, dtype: Any) -> Any:
    """The Codec on a carrier of that type, if it has one."""
    return (codec32(fmt) if dtype == np.float32 else None) or codec(fmt)


def signed_words(codes: np.ndarray) -> np.ndarray:
    """64-bit codes as the signed words of the kernels; narrower ones as they are."""
    return codes.view(np.int64) if codes.dtype == np.uint64 else codes


def encode(
    values: ArrayLike, fmt: Format | str, threads: int | None = None, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Codes of values that the format holds exactly, others refused: ``fmt.encode`` at speed.

    ``out``: array of the codes' unsigned type that takes them; where values are refused, what it holds is not defined.
    """
    fmt = scalar_format(fmt)
    x = _plain(_operand(values))
    codes = _result(out, x.shape, code_dtype(fmt.bits))
    if not has_codec(fmt):
        codes[...] = fmt.encode(values)
        return codes
    where = make_backend("cpu", threads)
    misfits = np.zeros(1, np.int64)
    words = signed_words(codes.reshape(-1))
    where.launch("encode", x.size, x.reshape(-1), words, misfits, _codec(fmt, x.dtype))
    if misfits[0]:
        fmt.encode(values)  # tells the value that does not fit
    return codes
