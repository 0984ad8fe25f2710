"""Every code of formats of 16 bits through every operation of one operand, in every mode."""

import functools

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
SHARES = [(how, slice(i, None, 8 * len(HOWS) + 1)) for i, how in enumerate(HOWS)]
WHOLE = [(how, slice(None)) for how in HOWS]
ASKED = [
    pytest.param("kernels", WHOLE, id="kernels"),
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


@pytest.mark.parametrize(("asked", "shares"), ASKED)
@pytest.mark.parametrize("source", SOURCES)
def test_conversions_to_integers(source, asked, shares):
    """IEEE 754's convertToInteger: what does not fit raises invalid alone."""
    for bits, signed in INTEGERS:
        name = f"{source}_to_{'' if signed else 'u'}i{bits}"
        format = oracle.Fixed(bits, 0, signed)
        found = converted(source, format)
        for how, at in shares:
            random = how.random(name, size=CODES[at].shape)
            codes, flags = places.rounded(found[at], format, how.mode, how.k, random.astype(np.int64))
            for exact in (False, True):
                raised = np.where(flags & (places.OVERFLOW | places.INVALID), places.INVALID, flags * exact)
                check(asked, name, how, [CODES[at]], (codes, raised), random, exact)


@functools.lru_cache(2)
def integers(name):
    """The integers at or below every magnitude and the next ones, as places on the format's ladder, and where it is."""
    format, found = cases.oracle_format(name), converted(name, oracle.Fixed(160, 0))
    whole = sorted({step + up for step in found.step.tolist() for up in (0, 1)})
    placed = integer_oracle.place("convert", [[(places.FINITE, False, n, 0, False) for n in whole]], format)
    at = {n: i for i, n in enumerate(whole)}
    return found, placed, np.array([(at[step], at[step + 1]) for step in found.step.tolist()])


@pytest.mark.parametrize(("asked", "shares"), ASKED)
@pytest.mark.parametrize("name", SOURCES)
def test_round_to_integral(name, asked, shares):
    """Rounded to an integer without bounds, then into the format; that changes it only next to max_finite."""
    format, (whole, placed, neighbours) = cases.oracle_format(name), integers(name)
    for how, at in shares:
        found, random = whole[at], how.random(name, size=CODES[at].shape)
        r, odd, negative = random.astype(np.int64), (found.step & 1 == 1).astype(bool), found.sign == 1
        up = places._increments(found.part, found.guard, odd, negative, how.mode, how.k, r)
        rounded = placed[np.where(up, neighbours[at, 1], neighbours[at, 0])]
        result = places.Places(found.kind, found.sign, rounded.step, rounded.part, rounded.guard, found.raised)
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


@pytest.mark.parametrize("name", SOURCES)
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
