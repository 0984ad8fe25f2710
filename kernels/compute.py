"""One launch of ``elementwise.compute``: an operation on flat arrays, each element rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .backends import Backend
from .elementwise import CHUNK
from .paths import Op, Path
from .structs import Draws, Target


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
    args = (int(op), x, y, z, spread, out, raised, flagged, scratch, u, drawn, first, int(path), t)
    if alone:
        backend.run("compute", 0, size, *args)
    else:
        work = 10 if path is Path.WIDE else 3 if t.random_bits else 1
        backend.launch("compute", size, *args, work=work)
    return out
