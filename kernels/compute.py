"""One launch of ``elementwise.convert``, or of ``compute``: an operation on flat arrays, each element rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .backends import Backend
from .elementwise import CHUNK
from .paths import Op, Path
from .structs import Draws, Target


def convert(
    backend: Backend,
    x: Any,
    t: Any,
    drawn: Draws,
    out: Any,
    flags: Any = None,
    u: Any = None,
    alone: bool = False,
    first: int = 0,
) -> Any:
    """``x`` rounded into ``out``, both flat, by the kernel of conversions alone; as ``compute``, which says what all
    else is. t : a Target32 where both are of float32 and binary32 carriers will do."""
    none = backend.array([0], np.uint8) if flags is None else flags
    u = (backend.scratch("random", x.size, out.dtype) if t.random_bits else out) if u is None else u
    args = (x, out, none, int(flags is not None), u, drawn, first, t)
    if alone:
        backend.run("convert", 0, x.size, *args)
    else:
        backend.launch("convert", x.size, *args, work=3 if t.random_bits else 1)
    return out


def compute(
    backend: Backend,
    op: Op,
    operands: Sequence[Any],
    t: Target,
    path: Path,
    drawn: Draws,
    out: Any = None,
    flags: Any = None,
    u: Any = None,
    signaling: bool = False,
    alone: bool = False,
    first: int = 0,
) -> Any:
    """op(operands), as a flat array.

    operands : (n,) values in float64, or float32 on the CPU; those of one element are spread. t, path : the rounding.
    drawn : where SR's random bits come from; of GIVEN_DRAWS ``u``, random fractions. out : may be an operand, but not
    where there are flags. flags : of every element, written; ``signaling``: NaNs may signal. alone : on this thread.
    first : the number of element 0, by which random bits are drawn.
    """
    size = max(x.size for x in operands)
    out = backend.xp.empty(size) if out is None else out
    spread, given = 0, []
    for i, x in enumerate(operands):
        if x.size == size:
            given.append(x)
            continue
        spread |= 1 << i
        given.append(backend.scratch(f"spread {i}", CHUNK, x.dtype))
        given[-1][:] = x
    x, y, z = (*given, given[0], given[0])[:3]
    spread |= (spread & 1) * (6 & -(1 << len(given)))  # operands that there are not are the first
    scratch = backend.scratch("exact", size)
    u = (backend.scratch("random", size) if t.random_bits else scratch) if u is None else u
    raised = backend.scratch("no flags", 1, np.uint8) if flags is None else flags
    flagged = 0 if flags is None else 1 + int(signaling)
    if op is Op.CONVERT and path is Path.ODD and backend.xp is np and np.may_share_memory(x, out):
        path = Path.EXACT  # by way of scratch: loops that write to what they read do not vectorise
    args = (int(op), x, y, z, spread, out, raised, flagged, scratch, u, drawn, first, int(path), t)
    if alone:
        backend.run("compute", 0, size, *args)
    else:
        work = 10 if path is Path.WIDE else 3 if t.random_bits else 1
        backend.launch("compute", size, *args, work=work)
    return out
