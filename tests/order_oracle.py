"""Independent oracle for the orders of accumulation, on the oracle's Values; shares no code with halfulp's orders.

A unit is (accumulator format, mode, k). ``draw()`` hands out the random integers of the roundings one after another,
in the order in which hardware performs them.
"""

from fractions import Fraction
from math import floor

import oracle
from oracle import ZERO, Value, decode, exact_add, exact_mul, floor_log2, number, power_of_two


class Unit:
    def __init__(self, format, mode, k, draw):
        self.format, self.mode, self.k, self.draw = format, mode, k, draw

    def round(self, value):
        r = self.draw() if self.k else 0
        return decode(oracle.round(value, self.format, self.mode, self.k, r)[0], self.format)

    def add(self, x, y):
        return self.round(exact_add(x, y, self.mode)[0])


def exponent(x, emin):
    """What the exponent field of a finite number that is not zero means."""
    return max(floor_log2(x.magnitude), emin)


def sequential(products, unit, total=ZERO):
    for product in products:
        total = unit.add(total, product)
    return total


def pairwise(values, unit):
    """Level by level; but every subtree is finished before its right neighbour is begun, as a stack would have it."""
    if len(values) == 1:
        return values[0]
    half = 1
    while 2 * half < len(values):
        half *= 2
    left = pairwise(values[:half], unit)
    return unit.add(left, pairwise(values[half:], unit))


def tree(products, unit, n=None):
    total, n = ZERO, n or max(len(products), 1)
    for start in range(0, len(products), n):
        part = products[start : start + n]
        total = unit.add(total, pairwise(part + [ZERO] * (n - len(part)), unit))
    return total


def systolic(products, unit, lanes):
    held = [ZERO] * lanes
    for k, product in enumerate(products):
        held[k % lanes] = unit.add(held[k % lanes], product)
    while len(held) > 1:
        held = [unit.add(*held[i : i + 2]) if i + 1 < len(held) else held[i] for i in range(0, len(held), 2)]
    return held[0]


def exact(products, unit, n=None):
    total, n = ZERO, n or max(len(products), 1)
    for start in range(0, len(products), n):
        total = unit.round(_sum([total, *products[start : start + n]]))
    return total


def _sum(values, cut=lambda x: x):
    """The exact sum, a zero being +0; of infinities and NaNs as IEEE 754 adds them."""
    total = ZERO
    for value in values:
        if value.kind != "finite":
            total = exact_add(total, value, "RNE")[0]
        elif total.kind == "finite":
            total = number(total.fraction + cut(value.fraction))
    return total


def as_tensor_cores(value, unit):
    """``value`` rounded; beyond the range what an infinity is there, and no zero but +0."""
    r = unit.draw() if unit.k else 0
    code, flags = oracle.round(value, unit.format, unit.mode, unit.k, r)
    if value.kind == "finite" and "overflow" in flags:
        code = oracle.round(Value("inf", value.negative), unit.format, "RNE")[0]
    rounded = decode(code, unit.format)
    return ZERO if rounded.kind == "finite" and not rounded.magnitude else rounded


def fused(pairs, unit, n, guard, fractions, emins, floor_exponent=None, tensor_core=False):
    """``fractions``: bits of the accumulator below its leading one, or None of fixed point; emins of x, y, total."""
    total = ZERO
    for start in range(0, len(pairs), n):
        part = pairs[start : start + n]
        products = [exact_mul(x, y)[0] for x, y in part]
        finite = [
            exponent(x, emins[0]) + exponent(y, emins[1])
            for (x, y), product in zip(part, products, strict=True)
            if product.kind == "finite" and product.magnitude
        ]
        if total.kind == "finite" and total.magnitude:
            finite.append(exponent(total, emins[2]))
        finite += [] if floor_exponent is None else [floor_exponent]
        if fractions is None:
            quantum = power_of_two(-unit.format.fl - guard)
        else:
            quantum = power_of_two(max(finite, default=0) - fractions - guard)

        def cut(x, quantum=quantum):
            magnitude = floor(abs(x) / quantum) * quantum
            return Fraction(magnitude if x >= 0 else -magnitude)

        summed = _sum([total, *products], cut)
        total = as_tensor_cores(summed, unit) if tensor_core else unit.round(summed)
    return total


def grouped(groups, unit, n, guard, floor_exponent, tensor_core):
    """``groups``: of each its pairs of elements, the product of its scales, the sum of their exponents; n a step."""
    total, fractions = ZERO, unit.format.t + guard
    for start in range(0, len(groups), n):
        terms = []
        for pairs, scale, e in groups[start : start + n]:
            products = [x * y for x, y in pairs]
            if any(products) and scale:
                terms.append((sum(products) * scale, e))
        if total.magnitude:
            terms.append((total.fraction, exponent(total, unit.format.emin)))
        largest = max([e for _, e in terms] + [floor_exponent])
        summed = number(sum((_towards_zero(x, largest - fractions) for x, _ in terms), Fraction(0)))
        total = as_tensor_cores(summed, unit) if tensor_core else unit.round(summed)
    return total


def two_stage(pairs, unit, n, guard, sum_guard, interleaved, fractions, emins):
    """CDNA3's units as MMA-Sim's ``tr_fdpa`` and ``gtr_fdpa`` have them, on fractions; arguments as of ``fused``."""
    f, f2 = fractions + guard, fractions + sum_guard  # MMA-Sim's F and F2
    total = ZERO
    for start in range(0, len(pairs), n):
        part = pairs[start : start + n]
        products = [exact_mul(x, y)[0] for x, y in part]
        endless = power_of_two(floor_log2(unit.format.max_finite) + 1)
        products = [Value("inf", p.negative) if p.kind == "finite" and p.magnitude >= endless else p for p in products]
        if total.kind != "finite" or any(p.kind != "finite" for p in products):
            total = unit.round(_sum([total, *products]))
            continue
        e_total = exponent(total, emins[2]) if total.magnitude else emins[2]
        groups = [range(0, len(part), 2), range(1, len(part), 2)] if interleaved else [range(len(part))]
        sums, largest = [], []
        for group in groups:
            live = [k for k in group if products[k].magnitude]
            e = max((exponent(part[k][0], emins[0]) + exponent(part[k][1], emins[1]) for k in live), default=-4000)
            largest.append(e)
            sums.append(sum((_towards_zero(products[k].fraction, e - f) for k in live), Fraction(0)))
        e_products = max(largest)
        summed = sum(_down(s, e_products - f) for s in sums)
        e_max = max(e_products, e_total)
        summed = _down(summed, e_max - f2 - 1)
        if not (interleaved and e_total < e_max - f - 1):
            summed += _down(total.fraction, e_max - f)
        if summed:
            summed = _down(summed, max(floor_log2(abs(summed)), emins[2]) - f2)
        total = unit.round(number(summed))
    return total


def _down(x, place):
    return floor(x / power_of_two(place)) * power_of_two(place)


def _towards_zero(x, place):
    return -_down(-x, place) if x < 0 else _down(x, place)


def blocked(products, unit, length, inner):
    """``inner(part)``: the sum of a block's products, in its own accumulator."""
    total = ZERO
    for start in range(0, len(products), length):
        total = unit.add(total, inner(products[start : start + length]))
    return total
