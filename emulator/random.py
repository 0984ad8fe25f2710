"""Random bits by position: Philox4x32-10 (Salmon et al., SC 2011, doi:10.1145/2063384.2063405).

The bits depend on (seed, stream, element, step) and on nothing else, so that every backend and every number
of threads draws the same ones. A Machine opens one *call* per operation; a call owns one stream per role.
"""

from __future__ import annotations

from enum import IntEnum

_WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)


class Role(IntEnum):
    """Which rounding unit of a call draws."""

    A = 0
    B = 1
    PRODUCT = 2
    ACCUMULATOR = 3
    OUTPUT = 4
    C = 5


def stream(call: int, role: Role, unit: int = 0) -> int:
    """Number of the stream that ``role`` draws from in the ``call``-th operation of a unit.

    ``unit`` (0...15) tells apart machines that share a seed; ``call`` is below 2^33.
    """
    return unit << 36 | call << 3 | role


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & _WORD, p0 >> 32 ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + WEYL[0]) & _WORD, (k1 + WEYL[1]) & _WORD
    return c0, c1, c2, c3


def random_bits(seed: int, stream: int, element: int, step: int, k: int) -> int:
    """The k random bits (1...32) drawn for one rounding: an integer in [0, 2^k).

    Four consecutive elements share one Philox block; the k bits are the top bits of the element's 32-bit word.
    ``element`` is the flat index in the result, ``step`` the position in the sum; both are below 2^40, as is
    ``stream``; ``seed`` lies in [0, 2^62).
    """
    counter = (
        step & _WORD,
        element >> 2 & _WORD,
        stream & _WORD,
        element >> 34 | (stream >> 32) << 8 | (step >> 32) << 16,
    )
    block = philox4x32(counter, (seed & _WORD, seed >> 32 & _WORD))
    return block[element & 3] >> (32 - k)
