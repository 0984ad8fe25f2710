"""Every code of formats of 16 bits through every operation of one operand, in every mode."""

import functools
import itertools

import cases
import integer_oracle
import numpy as np
import oracle
import oracle_operations
import places
import pytest
from proof import EVERY, How, by_rationals, check, check_places

SOURCES = ["e5m10", "e8m7", "e5m10ftz", "e6m9fnuz", "e4m11fn", "e7m8finite", "q8.8", "uq4.12"]
NARROW = [
    "e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e3m2finite", "e2m3finite", "e2m1finite", "e3m0", "e4m3fnsat", "e5m2sat",
    "e4m3ftz", "e4m0fnuz", "binary8p3se", "binary8p4uf", "ue8m0", "q4.4", "uq4.4", "q4.4w", "uq1.7", "q-2.10", "q12.-4",
]  # fmt: skip
TARGETS = {source: NARROW[i % 4 :: 4] for i, source in enumerate(SOURCES)}
TARGETS |= {"e5m10": [*NARROW, "e8m7", "e8m23"], "e8m7": [*NARROW, "e5m10", "e8m23"]}
INTEGERS = [(8, True), (8, False), (16, True), (32, True), (32, False), (64, True), (64, False)]
HOWS = [*EVERY, How("SR", 8)]
CODES = np.arange(2**16, dtype=np.uint64)

#: Which codes the definition goes through by default, for the i-th rounding.
SHARES = [(how, slice(i, None, 16 * len(HOWS) + 1)) for i, how in enumerate(HOWS)]
WHOLE = [(how, slice(None)) for how in HOWS]
#: And the kernels: all codes, each with a third of the roundings.
THIRDS = [(how, slice(i % 3, None, 3)) for i, how in enumerate(HOWS)]
ASKED = [
    pytest.param("kernels", THIRDS, id="kernels"),
    pytest.param("kernels", WHOLE, id="kernels-all", marks=pytest.mark.slow),
    pytest.param("definition", SHARES, id="definition"),
    pytest.param("definition", WHOLE, id="definition-all", marks=pytest.mark.slow),
]


@functools.lru_cache(4)
def rows(name):
    return integer_oracle.read(CODES, cases.oracle_format(name))


@functools.lru_cache(8)
def values(name):
    return [oracle.decode(code, cases.oracle_format(name)) for code in range(2**16)]


@functools.lru_cache(4)
def converted(source, format):
    return integer_oracle.place("convert", [rows(source)], format)


@pytest.mark.parametrize(("asked", "shares"), ASKED)
@pytest.mark.parametrize("name", SOURCES)
def test_square_roots(name, asked, shares):
    format = cases.oracle_format(name)
    found = integer_oracle.place("sqrt", [rows(name)], format)
    for how, at in shares:
        check_places(asked, f"{name}_sqrt", found[at], format, [CODES[at]], [how])


@pytest.mark.parametrize(("asked", "shares"), ASKED)
@pytest.mark.parametrize("source", SOURCES)
def test_conversions(source, asked, shares):
    for target in TARGETS[source]:
        format = cases.oracle_format(target)
        found = converted(source, format)
        for how, at in shares:
            check_places(asked, f"{source}_to_{target}", found[at], format, [CODES[at]], [how])


@functools.lru_cache(2)
def integers(name):
    """Where every code lies among the integers, and what these are.

    The places; the integers below and above, as indices of a list; and that list, as numbers (exact: they have few
    significant bits) and as places on the format's ladder.
    """
    format, found = cases.oracle_format(name), converted(name, oracle.Fixed(160, 0))
    whole = sorted({step + up for step in found.step.tolist() for up in (0, 1)})
    at = {n: i for i, n in enumerate(whole)}
    neighbours = np.array([(at[step], at[step + 1]) for step in found.step.tolist()])
    placed = integer_oracle.place("convert", [[(places.FINITE, False, n, 0, False) for n in whole]], format)
    return found, neighbours, np.array(whole, dtype=np.float64), placed


def rounded_to_integers(name, how, at, random):
    """(place among the integers, index of the integer it is rounded to) of the codes ``at``."""
    found, neighbours, _, _ = integers(name)
    found, odd = found[at], (found[at].step & 1 == 1).astype(bool)
    up = places._increments(found.part, found.guard, odd, found.sign == 1, how.mode, how.k, random.astype(np.int64))
    return found, np.where(up, neighbours[at, 1], neighbours[at, 0])


@pytest.mark.parametrize(("asked", "shares"), ASKED)
@pytest.mark.parametrize("source", SOURCES)
def test_conversions_to_integers(source, asked, shares):
    """IEEE 754's convertToInteger: what does not fit raises invalid alone."""
    numbers = integers(source)[2]
    for (bits, signed), (how, at) in itertools.product(INTEGERS, shares):
        if bits > 53 and asked == "kernels":
            continue  # these go one by one through the definition
        name = f"{source}_to_{'' if signed else 'u'}i{bits}"
        random = how.random(name, size=CODES[at].shape)
        found, chosen = rounded_to_integers(source, how, at, random)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        negative = found.sign == 1
        value = np.where(negative, -numbers[chosen], numbers[chosen])
        inside = (found.kind == places.FINITE) & (value >= low) & (value < float(high + 1))
        magnitude = np.where(inside, abs(value), 0).astype(np.uint64)
        codes = np.where(negative, -magnitude, magnitude) & np.uint64(2**bits - 1)
        end = np.where(negative & (found.kind != places.NAN), np.uint64(low % 2**bits), np.uint64(high))
        for exact in (False, True):
            flags = np.where(inside, (found.part > 0) * exact * places.INEXACT, places.INVALID)
            check(asked, name, how, [CODES[at]], (np.where(inside, codes, end), flags), random, exact)


@pytest.mark.parametrize(("asked", "shares"), ASKED)
@pytest.mark.parametrize("name", SOURCES)
def test_round_to_integral(name, asked, shares):
    """Rounded to an integer without bounds, then into the format; that changes it only next to max_finite."""
    format, placed = cases.oracle_format(name), integers(name)[3]
    for how, at in shares:
        random = how.random(name, size=CODES[at].shape)
        found, chosen = rounded_to_integers(name, how, at, random)
        again = placed[chosen]
        result = places.Places(found.kind, found.sign, again.step, again.part, again.guard, found.raised)
        r = random.astype(np.int64)
        codes, flags = places.rounded(result, format, how.mode, how.k, r, how.tininess, how.ftz)
        changed = (found.part > 0) & (found.kind == places.FINITE)
        for exact in (False, True):
            wanted = codes, flags | (changed & exact) * places.INEXACT
            check(asked, f"{name}_round_to_integral", how, [CODES[at]], wanted, random, exact)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("operation", ["next_up", "next_down"])
def test_neighbours(name, operation):
    neighbour = getattr(oracle_operations, operation)
    wanted = by_rationals(neighbour(code, cases.oracle_format(name)) for code in range(2**16))
    check("kernels", f"{name}_{operation}", How("RNE"), [CODES], wanted)


FEW = ("e5m10", "e8m7")  #: by default; others in the slow tests


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in SOURCES]
)
def test_logb(name):
    format = cases.oracle_format(name)
    for how, at in ((How("RNE"), slice(0, None, 3)), (How("RTP"), slice(1, None, 3)), (How("RTO"), slice(2, None, 3))):
        wanted = by_rationals(oracle_operations.logb(x, format, how.mode) for x in values(name)[at])
        check("kernels", f"{name}_logb", how, [CODES[at]], wanted)


#: The bits of RISC-V's fclass, by the names of IEEE 754.
FCLASS = [
    "negativeInfinity", "negativeNormal", "negativeSubnormal", "negativeZero", "positiveZero", "positiveSubnormal",
    "positiveNormal", "positiveInfinity", "signalingNaN", "quietNaN",
]  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_classify(name):
    format = cases.oracle_format(name)
    wanted = np.array([1 << FCLASS.index(oracle_operations.classify(x, format)) for x in values(name)], np.uint64)
    check("kernels", f"{name}_classify", How("RNE"), [CODES], (wanted, np.zeros(2**16, np.uint8)))
