"""Function units over arrays of codes."""

from __future__ import annotations

import numpy as np

from ..emulator.codec import code_dtype
from ..emulator.functions import Function


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
    codes = np.empty(operands[0].shape, code_dtype(function.result.bits))
    flags = np.empty(operands[0].shape, np.uint8)
    bits = np.zeros(operands[0].shape, np.uint64) if random is None else random
    for place in np.ndindex(codes.shape):
        codes[place], flags[place] = function(*(int(x[place]) for x in operands), random=int(bits[place]))
    return codes, flags
