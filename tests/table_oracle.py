"""The oracle for formats of at most 8 bits: all pairs (or triples) of codes at once, by search in a sorted table.

Magnitudes are exact integers, with one scale for the whole format. Where the magnitude of a result lies is found by
bisection: a sum or product is compared with values of the table as an integer, a quotient by cross multiplication, a
root by squaring; nothing is ever divided. Formats whose numbers are the same share the search. Integers are NumPy's
where those suffice, else Python's in object arrays.
"""

import functools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracle
from places import BY_MODE, DIVIDE_BY_ZERO, FINITE, INFINITE, INVALID, NAN, Places, magnitude

GUARD = 6  # up to SR(4)
ARITY = {"sqrt": 1, "fma": 3}  # of the others 2


# --------------------------------------------------------------------------------------------- magnitudes by search


def _numbers_of(format):
    """A format with the magnitudes of this one as its only codes, in their order, whatever the special codes are."""
    if isinstance(format, oracle.Fixed):
        return format
    if isinstance(format, oracle.P3109):
        exponent_bits = (format.sign_bit >> format.t).bit_length() - 1
        return oracle.Float(exponent_bits, format.t, format.bias, "finite", signed=False)
    return replace(format, specials="finite" if format.has_zero else "fn", saturate=False, signed=False)


def _integers(fractions):
    """Fractions times 2^scale, as integers, and the scale."""
    scale = max(x.denominator.bit_length() - 1 for x in fractions)
    return np.array([int(x * 2**scale) for x in fractions], dtype=object), scale


@functools.cache
def _magnitudes(numbers):
    if isinstance(numbers, oracle.Fixed):
        quantum = oracle.power_of_two(-numbers.fl)
        return _integers([i * quantum for i in range(max(numbers.highest, -numbers.lowest) + 1)])
    return _integers([oracle._magnitude(code, numbers) for code in range(numbers.sign_bit)])


@functools.cache
def _ladder(numbers, top):
    """The magnitudes of the steps 0 ... top + 1."""
    return _integers([magnitude(numbers, step) for step in range(top + 2)])


def _search(numerator, denominator, scale, power, numbers, top):
    """(step, part) of the number whose power is numerator / denominator / 2^scale."""
    ladder, unit = _ladder(numbers, top)
    # candidate^power * denominator <= numerator, the candidates being in units of 2^-(unit + GUARD)
    shift = power * (unit + GUARD) - scale
    numerator, denominator = numerator * 2 ** max(shift, 0), denominator * 2 ** max(-shift, 0)
    rungs = ladder * 2**GUARD
    end = rungs[-1] ** power * denominator
    beyond = (end <= numerator).astype(bool)
    numerator = np.where(beyond, end, numerator)
    if rungs[-1] ** power * denominator.max() < 2**62:
        numerator, denominator, rungs = (array.astype(np.int64) for array in (numerator, denominator, rungs))
    gaps = np.append(rungs[1:] - rungs[:-1], rungs[-1]) >> GUARD

    def candidate(at):
        return (rungs[at >> GUARD] + gaps[at >> GUARD] * (at & (2**GUARD - 1))) ** power * denominator

    low, last = np.zeros(numerator.shape, np.int64), (top + 1) << GUARD
    width = 1 << last.bit_length()
    while width := width >> 1:
        middle = low + width
        inside = middle <= last
        below = inside & (candidate(np.where(inside, middle, 0)) <= numerator).astype(bool)
        low = np.where(below, middle, low)
    more = (candidate(low) < numerator).astype(bool) | beyond
    return low >> GUARD, 2 * (low & (2**GUARD - 1)) + more


@functools.lru_cache(256)
def _results(operation, numbers, top):
    """(step, part, order) of the results for all magnitudes, or pairs or triples of them, as arrays of that many axes.

    ``order`` is the sign of the first term less the second, where the operation is a difference.
    """
    values, scale = _magnitudes(numbers)
    x, y, z = values[:, None], values[None, :], None
    one = np.ones(1, dtype=object)
    order = np.zeros((), np.int8)
    match operation:
        case "sum":
            exact = x + y, one, scale, 1
        case "difference":
            exact, order = (abs(x - y), one, scale, 1), np.sign(x - y).astype(np.int8)
        case "product":
            exact = x * y, one, 2 * scale, 1
        case "quotient":
            exact = np.where(y == 0, 0, x), np.where(y == 0, 1, y), 0, 1
        case "root":
            exact = values, one, scale, 2
        case "product plus" | "product minus":
            product, z = x[..., None] * y[..., None], values * 2**scale
            total = product + z if operation == "product plus" else product - z
            exact, order = (abs(total), one, 2 * scale, 1), np.sign(total).astype(np.int8)
    return *_search(*exact, numbers, top), order


# ------------------------------------------------------------------------------------------------ signs and specials


class Column:
    """Codes of a format: what each of them denotes. ``rank`` is the place of its magnitude among all of them."""

    def __init__(self, format, codes):
        values = [oracle.decode(code, format) for code in oracle.all_codes(format)]
        self.kind = np.array([("finite", "inf", "nan").index(x.kind) for x in values])[codes]
        self.negative = np.array([x.negative for x in values])[codes]
        self.signaling = np.array([x.signaling for x in values])[codes]
        self.zero = np.array([x.is_zero for x in values])[codes]
        if isinstance(format, oracle.Fixed):
            self.rank = np.array([int(abs(x.magnitude) * Fraction(2) ** format.fl) for x in values])[codes]
        else:
            self.rank = codes % format.sign_bit


def _product(x, y):
    """(nan, invalid, infinite, negative) of x * y."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    infinite = (x.kind == INFINITE) | (y.kind == INFINITE)
    invalid = ~nan & infinite & (x.zero | y.zero)
    return nan, invalid, infinite & ~invalid, x.negative != y.negative


def _sum(nan, infinite, negative, y, y_negative, order):
    """(nan, invalid, infinite, sign) of a term plus y; ``order``: the sign of the difference of their magnitudes."""
    nan = nan | (y.kind == NAN)
    other = y.kind == INFINITE
    invalid = ~nan & infinite & other & (negative != y_negative)
    sign = np.where(order > 0, negative, np.where(order < 0, y_negative, BY_MODE))
    sign = np.where(negative == y_negative, negative, sign)
    return nan, invalid, infinite | other, np.where(infinite, negative, np.where(other, y_negative, sign))


def _quotient(x, y):
    """(nan, invalid, infinite, negative) of x / y, and where it is x / 0."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    invalid = ~nan & (((x.kind == INFINITE) & (y.kind == INFINITE)) | (x.zero & y.zero))
    pole = ~nan & ~invalid & (x.kind == FINITE) & y.zero
    return (nan, invalid, (x.kind == INFINITE) | pole, x.negative != y.negative), pole


def _either(choice, first, second):
    return [np.where(choice, a, b) for a, b in zip(first, second, strict=True)]


def _rules(operation, columns, of):
    """(nan, invalid, infinite, sign), (step, part), flags; ``of`` gives the results of an operation on magnitudes."""
    ranks = tuple(column.rank for column in columns)
    x, y, z = [*columns, None, None][:3]
    if operation == "sqrt":
        negative = x.negative & ~x.zero & (x.kind != NAN)
        return (x.kind == NAN, negative, x.kind == INFINITE, x.negative), of("root", ranks)[:2], 0
    if operation in ("add", "sub"):
        other = y.negative ^ (operation == "sub")
        *place, order = _either(x.negative == other, of("sum", ranks), of("difference", ranks))
        return _sum(x.kind == NAN, x.kind == INFINITE, x.negative, y, other, order), place, 0
    if operation == "mul":
        return _product(x, y), of("product", ranks)[:2], 0
    if operation == "div":
        rules, pole = _quotient(x, y)
        place = [np.where(y.kind == INFINITE, 0, part) for part in of("quotient", ranks)[:2]]
        return rules, place, pole * DIVIDE_BY_ZERO
    nan, invalid, infinite, negative = _product(x, y)
    *place, order = _either(negative == z.negative, of("product plus", ranks), of("product minus", ranks))
    nan, bad, infinite, sign = _sum(nan, infinite, negative, z, z.negative, order)
    return (nan, invalid | bad, infinite, sign), place, 0


def all_operands(format, operation):
    """Every code, pair or triple of codes that the operation takes: a list of integer arrays."""
    n = ARITY.get(operation, 2)
    return [axis.ravel() for axis in np.meshgrid(*[np.arange(2**format.width)] * n, indexing="ij")]


def all_places(format, operation, top=None):
    """Places of the results for ``all_operands``.

    ``top`` is the last step of the table, for formats that wrap and so need more than their own.
    """
    if top is None:
        top = format.highest + 1 if isinstance(format, oracle.Fixed) else format.sign_bit
    columns = [Column(format, codes) for codes in all_operands(format, operation)]
    numbers = _numbers_of(format)

    def of(name, ranks):
        step, part, order = _results(name, numbers, top)
        return step[ranks], part[ranks], order[ranks] if order.ndim else order

    (nan, invalid, infinite, sign), (step, part), raised = _rules(operation, columns, of)
    signaling = functools.reduce(np.logical_or, [column.signaling for column in columns])
    kind = np.where(nan | invalid, NAN, np.where(infinite, INFINITE, FINITE))
    raised = np.where(invalid | signaling, INVALID, 0) | raised
    return Places(kind, np.asarray(sign, np.int8), step, part, GUARD, raised)
