"""The oracle for formats of at most 8 bits: all pairs (or triples) of codes at once, by search in a sorted table.

Operands are exact integers, with one scale for the whole format. Where the exact result lies is found by bisection:
a sum or product is compared with values of the table as an integer, a quotient by cross multiplication, a root by
squaring; nothing is ever divided. Integers of NumPy where they suffice, else Python's in object arrays.
"""

import functools

import numpy as np
import oracle
from places import BY_MODE, DIVIDE_BY_ZERO, FINITE, INFINITE, INVALID, NAN, Places, magnitude

GUARD = 6  # up to SR(4)


class Operand:
    """The codes of a format as columns: kind, sign, whether signaling, and the magnitude times 2^scale."""

    def __init__(self, format):
        values = [oracle.decode(code, format) for code in oracle.all_codes(format)]
        self.kind = np.array([("finite", "inf", "nan").index(x.kind) for x in values])
        self.negative = np.array([x.negative for x in values])
        self.signaling = np.array([x.signaling for x in values])
        finite = [x.magnitude if x.kind == "finite" else oracle.Fraction(0) for x in values]
        self.scale = max(x.denominator.bit_length() - 1 for x in finite)
        self.integer = np.array([int(x * 2**self.scale) for x in finite], dtype=object)

    def __getitem__(self, codes):
        """The columns of an array of codes."""
        picked = object.__new__(Operand)
        for name in ("kind", "negative", "signaling", "integer"):
            setattr(picked, name, getattr(self, name)[codes])
        picked.scale = self.scale
        return picked

    zero = property(lambda self: (self.kind == FINITE) & (self.integer == 0).astype(bool))
    signed = property(lambda self: np.where(self.negative, -self.integer, self.integer))


operand = functools.cache(Operand)


def _specials(nan, invalid, infinite, sign, signaling):
    """(kind, sign, raised); a NaN among the operands goes before everything but an invalid product."""
    kind = np.where(nan | invalid, NAN, np.where(infinite, INFINITE, FINITE))
    return kind, sign, np.where(invalid | signaling, INVALID, 0)


def _product(x, y):
    """(nan, invalid, infinite, sign) of x * y."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    infinite = (x.kind == INFINITE) | (y.kind == INFINITE)
    invalid = ~nan & infinite & (x.zero | y.zero)
    return nan, invalid, infinite & ~invalid, x.negative != y.negative


def _sum(nan, infinite, negative, y, total):
    """(nan, invalid, infinite, sign) of the sum of something and y; ``total`` is the finite sum."""
    nan = nan | (y.kind == NAN)
    y_infinite = y.kind == INFINITE
    invalid = ~nan & infinite & y_infinite & (negative != y.negative)
    sign = np.where(negative == y.negative, negative, np.where(total == 0, BY_MODE, total < 0))
    sign = np.where(infinite, negative, np.where(y_infinite, y.negative, sign))
    return nan, invalid, infinite | y_infinite, sign


def _exact(operation, x, y, z):
    """(kind, sign, raised), n, d, scale, power: |result|^power = n / d / 2^scale."""
    one = np.full(x.kind.shape, 1, dtype=object)
    if operation == "sqrt":
        bad = (x.kind != NAN) & x.negative & ~x.zero
        return _specials(x.kind == NAN, bad, x.kind == INFINITE, x.negative, x.signaling), x.integer, one, x.scale, 2
    signaling = x.signaling | y.signaling
    if operation in ("add", "sub"):
        if operation == "sub":
            y = y[...]
            y.negative = ~y.negative
        total = x.signed + y.signed
        rules = _sum(x.kind == NAN, x.kind == INFINITE, x.negative, y, total)
        return _specials(*rules, signaling), abs(total), one, x.scale, 1
    if operation == "mul":
        return _specials(*_product(x, y), signaling), x.integer * y.integer, one, x.scale + y.scale, 1
    if operation == "fma":
        nan, invalid, infinite, negative = _product(x, y)
        product = np.where(negative, -x.integer * y.integer, x.integer * y.integer)
        total = product + z.signed * 2 ** (x.scale + y.scale - z.scale)
        nan, bad, infinite, sign = _sum(nan, infinite, negative, z, total)
        rules = _specials(nan, invalid | (bad & ~invalid), infinite, sign, signaling | z.signaling)
        return rules, abs(total), one, x.scale + y.scale, 1
    nan, negative = (x.kind == NAN) | (y.kind == NAN), x.negative != y.negative
    invalid = ~nan & (((x.kind == INFINITE) & (y.kind == INFINITE)) | (x.zero & y.zero))
    by_zero = ~nan & ~invalid & (x.kind == FINITE) & y.zero
    kind, sign, raised = _specials(nan, invalid, (x.kind == INFINITE) | by_zero, negative, signaling)
    dividend = np.where(y.kind == INFINITE, 0, x.integer)
    divisor = np.where(y.integer == 0, 1, y.integer)
    return (kind, sign, raised | by_zero * DIVIDE_BY_ZERO), dividend, divisor, x.scale - y.scale, 1


@functools.cache
def _ladder(format, top):
    """(magnitudes of the steps 0 ... top + 1 times 2^scale, scale)."""
    values = [magnitude(format, step) for step in range(top + 2)]
    scale = max(x.denominator.bit_length() - 1 for x in values)
    return np.array([int(x * 2**scale) for x in values], dtype=object), scale


def _narrowed(*arrays):
    """int64 arrays, if the largest product of their elements is one, else the arrays as they are."""
    largest = 1
    for array in arrays:
        largest *= max(int(array.max()), 1)
    return [array.astype(np.int64) for array in arrays] if largest < 2**62 else arrays


def place(operation, x, y, z, format, top=None):
    """Places on a format's ladder of the exact results for three arrays of operands (those not needed are ignored).

    ``top`` is the last step of the table, for formats that wrap and so need more than their own.
    """
    if top is None:
        top = format.highest + 1 if isinstance(format, oracle.Fixed) else format.sign_bit
    (kind, sign, raised), numerator, denominator, scale, power = _exact(operation, x, y, z)
    ladder, unit = _ladder(format, top)
    # candidate^power * denominator <= numerator, the candidates being in units of 2^-(unit + GUARD)
    shift = power * (unit + GUARD) - scale
    numerator = numerator * 2 ** max(shift, 0)
    denominator = denominator * 2 ** max(-shift, 0)
    rungs = ladder * 2**GUARD
    beyond = rungs[-1] ** power * denominator <= numerator
    numerator = np.where(beyond, rungs[-1] ** power * denominator, numerator)  # at the end of the table
    if power == 1:
        numerator, denominator, rungs = _narrowed(numerator, denominator, rungs)
        numerator = numerator.astype(rungs.dtype)
    gaps = rungs[1:] - rungs[:-1]
    gaps = np.append(gaps, gaps[-1])

    def candidate(at):
        return rungs[at >> GUARD] + (gaps[at >> GUARD] >> GUARD) * (at & (2**GUARD - 1))

    low, width = np.zeros(kind.shape, np.int64), 1 << ((top + 1) << GUARD).bit_length()
    while width := width >> 1:
        middle = low + width
        inside = middle <= (top + 1) << GUARD
        below = candidate(np.where(inside, middle, 0)) ** power * denominator <= numerator
        low = np.where(inside & below.astype(bool), middle, low)
    more = (candidate(low) ** power * denominator < numerator).astype(bool)
    part = 2 * (low & (2**GUARD - 1)) + more
    return Places(kind, np.asarray(sign, np.int8), low >> GUARD, np.where(beyond, 1, part), GUARD, raised)


def all_operands(format, operation):
    """Every code, pair or triple of codes that the operation takes: a list of integer arrays."""
    n = {"sqrt": 1, "fma": 3}.get(operation, 2)
    return [axis.ravel() for axis in np.meshgrid(*[np.arange(2**format.width)] * n, indexing="ij")]


def all_places(format, operation, top=None):
    """Places of the results for ``all_operands``."""
    columns = [operand(format)[codes] for codes in all_operands(format, operation)]
    return place(operation, *columns, *[None] * (3 - len(columns)), format, top)
