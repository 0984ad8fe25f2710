"""A stream of results against the definition's, at the speed of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from io import BufferedIOBase

import numpy as np

from ..emulator.arithmetic import Flags
from ..emulator.explain import Difference, explain
from ..emulator.formats import Format
from ..emulator.functions import Function
from ..emulator.scoreboard import Scoreboard
from .codecs import codec, has_codec
from .evaluate import evaluate
from .lines import Batch, joined, records

FLAG_BITS = 5


def columns(function: Function) -> tuple[list[int], list[str]]:
    """Widths and names of the columns of a line: operands, random bits where there are any, result, flags."""
    random = function.random_bits
    bits = [*(fmt.bits for fmt in function.operands), *([random] if random else []), function.result.bits, FLAG_BITS]
    return bits, [*function.operand_names, *(["random"] if random else []), "result", "flags"]


def answered(function: Function, cases: np.ndarray) -> np.ndarray:
    """Cases (rows of limbs: operands, and random bits if they are needed) with rows of results and flags."""
    operands = joined(cases, columns(function)[0][:-2])
    random = operands.pop() if function.random_bits else None
    codes, flags = evaluate(function, *operands, random=random)
    return np.concatenate([cases, codes[None].astype(np.uint64), flags[None].astype(np.uint64)])


def verify(
    scoreboard: Scoreboard,
    stream: BufferedIOBase,
    skip: int = 0,
    progress: Callable[[], None] = lambda: None,
    with_flags: bool = True,
) -> None:
    """Check a stream of lines, in constant memory; what is found is counted on the scoreboard.

    Parameters
    ----------
    stream : lines of operands, random bits where there are any, result and flags, as ``columns`` tells.
    skip : lines at the beginning that are not looked at.
    with_flags : False if lines end with the result.
    progress : called from time to time.

    Raises
    ------
    Malformed
        A line is not what was expected; the lines before it are counted.
    """
    bits, names = columns(scoreboard.function)
    bits, names = (bits, names) if with_flags else (bits[:-1], names[:-1])
    for batch in records(stream, bits, names, skip):
        _check(scoreboard, joined(batch.columns, bits), with_flags, batch)
        progress()


def _check(scoreboard: Scoreboard, rows: list[np.ndarray], with_flags: bool, batch: Batch) -> None:
    function = scoreboard.function
    raised = rows.pop() if with_flags else None
    theirs = rows.pop()
    operands, random = rows[: len(function.operands)], rows[-1] if function.random_bits else None
    codes, flags = evaluate(function, *operands, random=random)
    if raised is None or scoreboard.ignore_flags:
        raised = flags
    scoreboard.checked += len(theirs)
    same, same_flags = codes == theirs, flags == raised
    if scoreboard.any_integer:
        same = same | (flags & raised & int(Flags.INVALID) != 0)
    if np.all(same & same_flags):
        return
    alike = same | _is_nan(function.result, codes) & _is_nan(function.result, theirs, quiet=True)
    found = {Difference.RESULT: ~alike, Difference.FLAGS: alike & ~same_flags}
    if not scoreboard.ignore_nan_payload:
        found[Difference.NAN_PAYLOAD] = ~same & alike & same_flags
    for difference, places in found.items():
        scoreboard.mismatches[difference] += int(np.count_nonzero(places))
    for place in np.flatnonzero(np.any(list(found.values()), axis=0))[: scoreboard.wanted]:
        their = int(theirs[place]), int(raised[place])
        bits = 0 if random is None else int(random[place])
        told = explain(function, [int(row[place]) for row in operands], their, bits)
        scoreboard.note(f"line {batch.line(place)}", told)


def _is_nan(fmt: Format, codes: np.ndarray, quiet: bool = False) -> np.ndarray:
    """Which codes are NaNs, or quiet ones."""
    if not fmt.has_nan:
        return np.zeros(codes.shape, bool)
    bit = codec(fmt).quiet if quiet and has_codec(fmt) else 0
    return np.isnan(fmt.decode(codes)) & ((codes & codes.dtype.type(bit) != 0) | (bit == 0))
