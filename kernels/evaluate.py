"""Function units over arrays of codes: kernels where they exist, the definition one by one elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..emulator.arithmetic import Flags
from ..emulator.codec import code_dtype
from ..emulator.comparison import Relation
from ..emulator.errors import HalfulpError
from ..emulator.functions import OPERATIONS, Function
from .arrays import run, signed_words
from .backends import Backend
from .backends import backend as make_backend
from .codecs import codec, has_codec
from .paths import Op, Path, path_of, way_of

_ROWS = 1 << 15  #: a chunk's; its columns stay in the second cache
_OPS = {
    "add": Op.ADD,
    "sub": Op.SUB,
    "mul": Op.MUL,
    "fma": Op.FMA,
    "div": Op.DIV,
    "sqrt": Op.SQRT,
    "rem": Op.REM,
    "convert": Op.CONVERT,
    "convert_to_integer": Op.CONVERT,
    "round_to_integral": Op.CONVERT,
}
#: Relations that make each predicate true, and whether it signals quiet NaNs.
_PREDICATES = {
    "eq": ((Relation.EQUAL,), False),
    "le": ((Relation.LESS, Relation.EQUAL), True),
    "lt": ((Relation.LESS,), True),
    "eq_signaling": ((Relation.EQUAL,), True),
    "le_quiet": ((Relation.LESS, Relation.EQUAL), False),
    "lt_quiet": ((Relation.LESS,), False),
}


def evaluate(
    function: Function, *operands: np.ndarray, random: np.ndarray | None = None, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and flags of a function unit, element by element.

    Parameters
    ----------
    operands : one unsigned integer array of codes per operand, all of one shape.
    random : for SR, an array of that shape of the k random bits, each an integer in [0, 2**k).

    Returns
    -------
    codes, of the narrowest unsigned type that holds the result, and flags, uint8; both of the operands' shape.
    """
    if len(operands) != len(function.operands):
        raise HalfulpError(f"{function.name} takes {len(function.operands)} operands, not {len(operands)}.")
    shapes = {np.shape(x) for x in (*operands, *(() if random is None else (random,)))}
    if len(shapes) > 1:
        raise HalfulpError(f"{function.name}: operands and random integers have one shape, not {sorted(shapes)}.")
    operands = tuple(map(np.asarray, operands))
    shape = operands[0].shape
    codes, flags = np.empty(shape, code_dtype(function.result.bits)), np.zeros(shape, np.uint8)
    columns = [np.ascontiguousarray(x).reshape(-1) for x in operands]
    for fmt, x in zip(function.operands, columns, strict=True):
        if x.dtype.kind != ("u" if fmt.bits <= 64 else "O") or (
            x.size and x.dtype.itemsize * 8 > fmt.bits and int(x.max()) >> fmt.bits
        ):
            raise HalfulpError(f"{function.name}: codes of {fmt} are unsigned integers below 2**{fmt.bits}.")
    if random is None and function.random_bits:
        raise HalfulpError(f"{function.name} rounds stochastically: give it random=, of {function.random_bits} bits.")
    bits = np.zeros(columns[0].size, np.uint64) if random is None else np.ascontiguousarray(random).reshape(-1)
    if bits.size and (bits.dtype.kind not in "iu" or bits.min() < 0 or int(bits.max()) >> function.random_bits):
        raise HalfulpError(f"{function.name} takes random integers below 2**{function.random_bits}.")
    evaluator = _evaluator(function)
    backend = make_backend("cpu", threads)
    for start in range(0, columns[0].size, _ROWS):
        rows = slice(start, start + _ROWS)
        evaluator(
            function, [x[rows] for x in columns], bits[rows], codes.reshape(-1)[rows], flags.reshape(-1)[rows], backend
        )
    return codes, flags


def _evaluator(function: Function) -> Any:
    """How a function unit is evaluated: by kernels if every format and the rounding has them."""
    formats = (*function.numbers, function.result)
    if not function.numbers or not all(map(has_codec, formats)):
        return _by_definition
    if function.operation in _PREDICATES:
        return _by_comparison
    if function.operation not in _OPS:
        return _by_definition
    if function.operation == "round_to_integral" and not _holds_integers(function):
        return _by_definition
    op, rounding = _OPS[function.operation], function.rounding
    path = path_of(op, function.numbers, function.result, rounding, flags=True)
    if function.operation == "round_to_integral" and path is Path.WIDE and getattr(function.result, "wrap", False):
        return _by_definition  # WIDE wraps multiples of the quantum, not integers
    return _by_definition if path is None else _by_kernels


def _holds_integers(function: Function) -> bool:
    """Whether the integers next to every operand are numbers of the result's format, so that none is rounded again."""
    fmt = function.result
    return fmt == function.operands[0] and max(fmt.emin, fmt.quantum_exponent or 0) <= 0


def _by_definition(
    function: Function,
    operands: list[np.ndarray],
    random: np.ndarray,
    codes: np.ndarray,
    flags: np.ndarray,
    backend: Backend,
) -> None:
    unit = OPERATIONS[function.operation].apply
    rows = zip(*(x.tolist() for x in operands), strict=True)
    for i, (row, bits) in enumerate(zip(rows, random.tolist(), strict=True)):
        codes[i], flags[i] = unit(function, row, bits)


def _decoded(function: Function, operands: list[np.ndarray], backend: Backend) -> list[np.ndarray]:
    values = []
    for fmt, x in zip(function.numbers, operands, strict=True):
        values.append(np.empty(x.size))
        backend.launch("decode", x.size, signed_words(x), values[-1], codec(fmt, function.conventions.daz))
    return values


def _by_kernels(
    function: Function,
    operands: list[np.ndarray],
    random: np.ndarray,
    codes: np.ndarray,
    flags: np.ndarray,
    backend: Backend,
) -> None:
    values = _decoded(function, operands, backend)
    op, k = _OPS[function.operation], function.random_bits
    u = random * 2.0**-k if k else None
    integral = function.operation == "round_to_integral"
    chosen = way_of(
        op, function.numbers, function.result, function.rounding, True, function.conventions, integral, signaling=True
    )
    results = run(chosen, tuple(values), backend, u, flags=flags)
    backend.launch("encode", results.size, results, signed_words(codes), np.zeros(1, np.int64), codec(function.result))
    if function.operation == "convert_to_integer":
        out_of_range = flags & int(Flags.OVERFLOW | Flags.INVALID) != 0
        kept = int(Flags.INEXACT) if function.exact else 0
        flags[:] = np.where(out_of_range, int(Flags.INVALID), flags & kept)
    elif integral and not function.exact:
        flags &= np.where(flags & int(Flags.OVERFLOW), 0xFF, 0xFF ^ int(Flags.INEXACT)).astype(np.uint8)
    if function.conventions.nan != "canonical":
        _redo(function, operands, values, results, random, codes, flags, backend)


def _redo(
    function: Function,
    operands: list[np.ndarray],
    values: list[np.ndarray],
    results: np.ndarray,
    random: np.ndarray,
    codes: np.ndarray,
    flags: np.ndarray,
    backend: Backend,
) -> None:
    """By the definition where NaNs have a say."""
    rows = np.isnan(results) | (flags & int(Flags.INVALID) != 0)
    for x in values:
        rows |= np.isnan(x)
    some_codes, some_flags = codes[rows], flags[rows]
    _by_definition(function, [x[rows] for x in operands], random[rows], some_codes, some_flags, backend)
    codes[rows], flags[rows] = some_codes, some_flags


def _by_comparison(
    function: Function,
    operands: list[np.ndarray],
    random: np.ndarray,
    codes: np.ndarray,
    flags: np.ndarray,
    backend: Backend,
) -> None:
    x, y = _decoded(function, operands, backend)
    relations, signaling = _PREDICATES[function.operation]
    outcome = {Relation.LESS: np.less, Relation.EQUAL: np.equal}
    codes[:] = 0
    with np.errstate(invalid="ignore"):
        for relation in relations:
            codes |= outcome[relation](x, y)
    signals = np.isnan(x) | np.isnan(y) if signaling else _is_signaling(x) | _is_signaling(y)
    flags[:] = np.where(signals, int(Flags.INVALID), 0)


def _is_signaling(x: np.ndarray) -> np.ndarray:
    return np.isnan(x) & (x.view(np.int64) & 1 << 51 == 0)
