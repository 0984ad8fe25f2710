"""What the tests of the proof share: how the implementation is asked, and how a difference is shown.

The implementation is asked twice, by the same function unit: the definition code for code, and the kernels over arrays.
"""

import functools
from typing import NamedTuple

import cases
import halfulp as hu
import numpy as np
import places
import pytest
from halfulp.emulator.conventions import Conventions
from halfulp.emulator.functions import function
from halfulp.kernels.evaluate import evaluate

FLAG_BITS = {"inexact": 1, "underflow": 2, "overflow": 4, "divide_by_zero": 8, "invalid": 16}


class How(NamedTuple):
    """A rounding, as both sides know it."""

    mode: str  #: as the oracles name it
    k: int = 0  #: random bits of SR and SRC
    tininess: str = "after"
    ftz: bool = False

    def __str__(self):
        text = f"SR{self.k}{'c' * (self.mode == 'SRC')}" if self.k else self.mode
        return text + f"-{self.tininess}" * (self.tininess != "after") + "-ftz" * self.ftz

    rounding = property(lambda self: f"SR{self.k}{'c' * (self.mode == 'SRC')}" if self.k else self.mode)
    conventions = property(lambda self: Conventions(tininess=self.tininess, ftz=self.ftz))

    def random(self, *key, size):
        """The random integers of SR for an array, the same in every run."""
        seed = [cases.SEED, self.k, *(sum(map(ord, str(part))) for part in key)]
        return np.random.default_rng(seed).integers(0, 2**self.k, size, dtype=np.uint64)


#: Every mode; both tininess rules where results are tiny in different ways; flushing of results.
EVERY = [How(mode) for mode in cases.MODES] + [How("SR", 1), How("SR", 3), How("SRC", 3)]
EVERY += [How("RNE", tininess="before"), How("RTP", tininess="before"), How("SR", 3, "before")]
EVERY += [How("RNE", ftz=True), How("RTN", ftz=True, tininess="before")]


def by_kernels(unit, columns, random):
    return evaluate(unit, *columns, random=random)


def by_definition(unit, columns, random):
    rows = zip(*(column.tolist() for column in columns), strict=True)
    results = [unit(*row, random=r) for row, r in zip(rows, random.tolist(), strict=True)]
    codes, flags = zip(*results, strict=True)
    return np.array(codes, np.uint64), np.array(flags, np.uint8)


ASKED = {"kernels": by_kernels, "definition": by_definition}


@functools.cache
def unit(name, how, exact=False, nan="canonical", daz=False):
    conventions = Conventions(how.tininess, nan, daz, how.ftz)
    return function(name, how.rounding, conventions, exact)


def check(asked, name, how, columns, wanted, random=None, exact=False):
    """The implementation's codes and flags of function ``name`` are the ones wanted, (codes, flags), on all columns."""
    if random is None:
        random = np.zeros(columns[0].shape, np.uint64)
    compare(name, how, columns, ASKED[asked](unit(name, how, exact), columns, random), wanted, random)


def compare(name, how, columns, found, wanted, random):
    codes, flags = (np.asarray(x).astype(np.uint64) for x in found)
    right, raised = (np.asarray(x).astype(np.uint64) for x in wanted)
    wrong = np.flatnonzero((codes != right) | (flags != raised))
    if wrong.size:
        i = int(wrong[0])
        operands = ", ".join(f"{int(column[i]):#x}" for column in columns)
        show = [f"{int(c[i]):#x} {hu.Flags(int(f[i]))}" for c, f in ((codes, flags), (right, raised))]
        pytest.fail(
            f"{wrong.size} of {codes.size} differ; first: {name}({operands}) {how} random={int(random[i])}: "
            f"{show[0]}, not {show[1]}"
        )


def check_places(asked, name, found, format, columns, hows, few=None):
    """Every rounding of ``hows``: the implementation's results are what the places on the ladder give.

    ``few`` is ``found.distinct()``, where many are the same: these are rounded in their stead.
    """
    for how in hows:
        random = how.random(name, size=columns[0].shape)
        places_of, back = few if few and not how.k else (found, slice(None))
        r = random.astype(np.int64) if how.k else 0
        codes, flags = places.rounded(places_of, format, how.mode, how.k, r, how.tininess, how.ftz)
        check(asked, name, how, columns, (codes[back], flags[back]), random)


def by_rationals(results):
    """(codes, flags) of what the rational oracle returns, an iterable of (code, flag names)."""
    codes, names = zip(*results, strict=True)
    return np.array(codes, np.uint64), np.array([sum(FLAG_BITS[name] for name in row) for row in names], np.uint8)


def random_columns(name, count, *key):
    """Three columns a, b, c of ``count`` random codes of a float format.

    a + b, a * b and a * b + c often meet what is hard: neighbouring exponents, cancellation to the last bits, ties, the
    ends of the range.
    """
    fmt = cases.oracle_format(name)
    rng = np.random.default_rng([cases.SEED, *(sum(map(ord, str(part))) for part in (name, *key))])
    top, p = 2**fmt.w - 1, fmt.p

    def draw(low, high):
        return rng.integers(low, high + 1, count)

    def trailing():
        uniform = draw(0, 2**fmt.t - 1)
        short = uniform & -(1 << draw(0, fmt.t))  # few bits, so that results are ties
        return np.where(
            draw(0, 2) == 0, short, np.where(draw(0, 9) == 0, 2**fmt.t - 1 - (uniform >> draw(0, fmt.t)), uniform)
        )

    ea, ta, tb, tc = draw(0, top), trailing(), trailing(), trailing()
    kind = draw(0, 5)
    near = [draw(0, top), ea + draw(-p - 3, p + 3), ea + draw(-1, 1)]  # of sums
    near += [fmt.bias - ea + draw(-p - 2, 3), top + fmt.bias - ea + draw(-3, 2)]  # of products
    small = kind == 5
    ea = np.where(small, draw(0, 2), ea)
    eb = np.clip(np.choose(kind, [*near, draw(0, 2)]), 0, top)
    tie = (kind == 1) & (draw(0, 2) == 0)  # b is half a unit in the last place of a, or its neighbour
    beside = draw(-1, 1)
    eb = np.where(tie, np.maximum(ea - p - (beside < 0), 0), eb)
    tb = np.where(tie, beside % 2**fmt.t, tb)
    tb = np.where((kind == 2) & (draw(0, 1) == 1), np.clip(ta + draw(-3, 3), 0, 2**fmt.t - 1), tb)
    product = (1 + ta / 2**fmt.t) * (1 + tb / 2**fmt.t)
    carry = product >= 2
    ec = ea + eb - fmt.bias + carry
    cancels = draw(0, 2) == 0
    tc = np.where(cancels, ((product / (1 + carry) - 1) * 2**fmt.t).astype(np.int64) + draw(-2, 2), tc)
    ec = np.where(cancels, ec, np.where(draw(0, 3) == 0, draw(0, top), ec + draw(-p - 3, 2 * p + 3)))
    fields = ((ea, ta), (eb, tb), (np.clip(ec, 0, top), np.clip(tc, 0, 2**fmt.t - 1)))
    return [
        (draw(0, 1).astype(np.uint64) << np.uint64(fmt.w + fmt.t)) | (e << fmt.t | t).astype(np.uint64)
        for e, t in fields
    ]


def hard_columns(name, directed, count, *key):
    """``directed`` triples of codes by ``cases`` and ``count`` random ones, as three columns."""
    made = np.array(list(cases.triples(name, directed, repr(key))), dtype=np.uint64).T
    return [np.concatenate(columns) for columns in zip(made, random_columns(name, count, *key), strict=True)]
