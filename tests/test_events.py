"""Events: the same bits as matmul; every count is that of a scalar recount by the definition; what they say is enough,
is, and one bit less is not."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import halfulp as hu
import numpy as np
import pytest
from cases import rng
from halfulp.emulator import alignment
from halfulp.emulator import datapath as definition
from halfulp.emulator.arithmetic import Flags, exact_product, exact_sum, round_pack
from halfulp.emulator.blocks import Block, BlockFormat
from halfulp.emulator.formats import Kind
from halfulp.emulator.orders import Do, Exact, Fused, TwoStage, program
from halfulp.emulator.random import Philox, Role, stream

SEED = 5

# ---- the recount -------------------------------------------------------------------------------------------------


def log2(x):
    """floor(log2|x|) of a fraction."""
    e = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return e if abs(x) >= Fraction(2) ** e else e - 1


def last_bit(x):
    """Exponent of the lowest bit of a dyadic fraction."""
    return ((x.numerator & -x.numerator).bit_length() - 1) - (x.denominator.bit_length() - 1)


def number(datum):
    """The fraction of a datum, None of an infinity or a NaN."""
    return datum.fraction if datum.kind is Kind.FINITE else None


class Recount(definition._Unit):
    """The definition's unit, counting; one dot product."""

    def __post_init__(self):
        super().__post_init__()
        self.levels = [new_counts() for _ in self.datapath.accumulators]
        self.codes = {}

    def do(self, step):
        if step.do in (Do.LOAD, Do.CLEAR):
            super().do(step)
            return
        rounding = self.rounding(step.level)
        for k in range(step.first, step.last) if step.do is Do.MAC else [step.first]:
            draw = step.draw + (k - step.first if step.do is Do.MAC else 0)
            total = self.registers.get(step.register, definition._ZERO)
            if step.do is Do.FUSE:
                exactly = self.aligned_sum(step, total)
                self.fused(step, total, exactly, draw)
                continue
            addend = self.product(k) if step.do is Do.MAC else self.registers.get(k, definition._ZERO)
            self.added(step, total, addend, exact_sum(addend, total, rounding), draw)

    def added(self, step, total, addend, exactly, draw):
        counts, x, y = self.levels[step.level], number(addend), number(total)
        counts["additions"] += 1
        largest = max((log2(v) for v in (x, y) if v), default=None)
        if x and y:
            counts["shifts"][abs(log2(x) - log2(y))] += 1
        held, _ = self.note(step, exactly, number(exactly), largest, False, draw)
        if x and y and number(held) in (x, y):
            counts["swamped"] += 1

    def fused(self, step, total, aligned, draw):
        counts, fmt = self.levels[step.level], self.accumulator(step.level)
        order = self.datapath.inner_order
        pairs = list(zip(self.x[step.first : step.last], self.y[step.first : step.last], strict=True))
        terms = [(exact_product(x.datum, y.datum), x.exponent + y.exponent) for x, y in pairs]
        counts["additions"] += len(pairs)
        if isinstance(order, TwoStage):
            self.staged(step, total, aligned, terms, draw)
            return
        places = []
        if getattr(order, "group", None) and all(term.kind is Kind.FINITE for term, _ in terms):
            scales = [x.scale + y.scale for x, y in pairs]
            products = [alignment.Operand(p, e, s) for (p, e), s in zip(terms, scales, strict=True)]
            groups = alignment._grouped(products, order.group)
            terms = [(group.datum, group.exponent) for group in groups]
            places = [group.exponent for group in groups]
        terms.append((total, 0 if total.is_zero else alignment.exponent_of(total, fmt)))
        finite = all(term.kind is Kind.FINITE for term, _ in terms)
        values = [(term.fraction, exponent) for term, exponent in terms if finite and not term.is_zero]
        if isinstance(order, Exact):
            values = [(value, log2(value)) for value, _ in values]
        largest, cut = max([*places, *(e for _, e in values)], default=None), False
        for value, exponent in values:
            counts["shifts"][largest - exponent] += 1
            counts["lowest_term"] = least(counts["lowest_term"], last_bit(value))
            counts["reach"] = max(counts["reach"], largest - last_bit(value))
            if isinstance(order, Fused):
                quantum = alignment.alignment_quantum(fmt, order, largest)
                cut |= last_bit(value) < quantum
                counts["swamped"] += log2(value) < quantum
        whole = sum((value for value, _ in values), Fraction(0)) if finite else None
        held, inexact = self.note(step, aligned, whole, largest, cut, draw)
        if isinstance(order, Exact) and finite and total.fraction and number(held) == total.fraction:
            counts["swamped"] += inexact

    def staged(self, step, total, aligned, terms, draw):
        counts, fmt, order = self.levels[step.level], self.accumulator(step.level), self.datapath.inner_order
        kept = fmt.precision - 1 + order.guard_bits
        terms = [(alignment._endless(product, fmt), e) for product, e in terms]
        finite = all(term.kind is Kind.FINITE for term in [total, *(product for product, _ in terms)])
        stages = (terms[::2], terms[1::2]) if order.interleaved else (terms,)
        tops = [max((e for p, e in stage if finite and not p.is_zero), default=None) for stage in stages]
        places = [top for top in tops if top is not None]
        places += [alignment.exponent_of(total, fmt)] if finite and not total.is_zero else []
        largest, whole = max(places, default=None), Fraction(0) if finite else None
        for i, (product, e) in enumerate(terms):
            if finite and not product.is_zero:
                value, top = product.fraction, tops[i % len(stages)]
                whole += value
                counts["shifts"][top - e] += 1
                counts["swamped"] += log2(value) < top - kept
                counts["highest_term"] = max(log2(value), -9999 if (h := counts["highest_term"]) is None else h)
                counts["lowest_term"] = least(counts["lowest_term"], last_bit(value))
                counts["reach"] = max(counts["reach"], largest - last_bit(value))
        if finite and not total.is_zero:
            value, place = total.fraction, places[-1]
            whole += value
            counts["shifts"][largest - place] += 1
            dropped = order.interleaved and place < largest - kept - 1
            counts["swamped"] += dropped or (value > 0 and log2(value) < largest - kept)
            counts["lowest_term"] = least(counts["lowest_term"], last_bit(value))
            counts["reach"] = max(counts["reach"], largest - last_bit(value))
        self.note(step, aligned, whole, largest, None, draw)

    def note(self, step, aligned, whole, largest, cut, draw):
        """A rounding of ``aligned``; ``whole``: the exact sum, None if it is not finite; cut: bits were lost before,
        None: as the result tells."""
        counts, fmt, rounding = self.levels[step.level], self.accumulator(step.level), self.rounding(step.level)
        code, flags = round_pack(aligned, fmt, rounding, self.drawn(Role.ACCUMULATOR, draw, rounding))
        held = fmt.unpack(code)
        value, finite = number(held), held.kind is Kind.FINITE
        cut = (whole is not None and value != whole) if cut is None else cut
        inexact, over = cut or Flags.INEXACT in flags, Flags.OVERFLOW in flags
        wraps = isinstance(fmt, hu.FixedFormat) and fmt.wrap and over and whole is not None
        counts["roundings"] += 1
        counts["inexact"] += inexact
        counts["underflow"] += Flags.UNDERFLOW in flags
        counts["overflow"] += over and not finite
        counts["wrapped"] += wraps
        counts["saturation"] += finite and ((over and not wraps) or aligned.kind is Kind.NAN)
        if whole is not None and value and not over:
            counts["largest_carry"] = max(counts["largest_carry"], log2(value) - largest)
        if whole:
            counts["lowest_bit"] = least(counts["lowest_bit"], last_bit(whole))
        if value:
            counts["highest"] = max(counts["highest"], float(value))
            counts["lowest"] = min(counts["lowest"], float(value))
            counts["least"] = least(counts["least"], abs(float(value)))
            counts["lowest_held"] = least(counts["lowest_held"], last_bit(value))
            counts["widest"] = max(counts["widest"], log2(value) - last_bit(value) + 1)
        if inexact and finite and not over:
            if value:
                power = log2(value) - (log2(value) == last_bit(value))
            else:
                power = -1 - (fmt.fraction_bits if isinstance(fmt, hu.FixedFormat) else fmt.trailing_bits - fmt.emin)
            counts["least_inexact"] = least(counts["least_inexact"], power)
        before = self.codes.get(step.register, 0)
        counts["toggled"]["accumulator"] += bin(before ^ code).count("1")
        counts["steps"]["accumulator"] += 1
        self.codes[step.register] = code
        self.registers[step.register] = held
        return held, inexact


def quantum(fmt):
    return Fraction(1, 2) ** fmt.fraction_bits


def least(x, y):
    return y if x is None else min(x, y)


def new_counts():
    counts = dict.fromkeys(
        ("additions", "roundings", "inexact", "overflow", "saturation", "wrapped", "underflow", "swamped"), 0
    )
    counts |= {"zero_operands": 0, "shifts": Counter(), "largest_carry": 0, "highest": 0.0, "lowest": 0.0}
    counts |= dict.fromkeys(("least", "lowest_bit", "lowest_held", "lowest_term", "least_inexact", "highest_term"))
    return counts | {"widest": 0, "reach": 0, "toggled": Counter(), "steps": Counter()}


def merged(x, y):
    """Counts of two dot products."""
    both = {}
    for name in x:
        if x[name] is None or y[name] is None:
            both[name] = y[name] if x[name] is None else x[name]
        elif name in ("largest_carry", "highest", "widest", "reach", "highest_term"):
            both[name] = max(x[name], y[name])
        elif name.startswith("least") or name.startswith("lowest"):
            both[name] = min(x[name], y[name])
        else:
            both[name] = x[name] + y[name]
    return both


def integer(datum, fmt):
    """The significand as a multiplier gets it."""
    if datum.kind is not Kind.FINITE or not datum.significand:
        return 0
    value = abs(datum.fraction)
    if isinstance(fmt, hu.FixedFormat):
        return int(value / quantum(fmt))
    return int(value / Fraction(2) ** (max(log2(value), fmt.emin) - fmt.precision + 1))


def in_blocks(fmt):
    return isinstance(fmt, BlockFormat)


def blocks(held, fmt, row):
    """A row of blocks as the definition takes it."""
    elements = [fmt.element.unpack(int(code)) for code in held.codes[row]]
    scales = [fmt.scale.unpack(int(code)) for code in held.scales[row]]
    return [Block(tuple(elements[i * fmt.size : (i + 1) * fmt.size]), scale) for i, scale in enumerate(scales)]


def recount(dp, a, b, call=1):
    """The counts of every dot product, merged, by level."""
    held = [hu.encode_blocks(x, f, -1) if in_blocks(f) else None for x, f in ((a, dp.a), (b.T, dp.b))]
    codes_a, codes_b = (
        f.encode(x) if one is None else one.codes for x, f, one in zip((a, b.T), (dp.a, dp.b), held, strict=True)
    )
    levels = None
    for i, row in enumerate(codes_a.tolist()):
        for j, column in enumerate(codes_b.tolist()):
            element = i * len(codes_b) + j

            def random(role, step, k, element=element):
                return Philox().random_bits(SEED, stream(call, role, 0), element, step, k)

            rows = [
                codes if one is None else blocks(one, f, at)
                for codes, one, f, at in zip((row, column), held, (dp.a, dp.b), (i, j), strict=True)
            ]
            unit = Recount(dp, *map(definition.operands, (dp.a, dp.b), rows), random)
            elements = [
                [q.datum for q in operands] if one is None else [x for block in part for x in block.elements]
                for operands, one, part in zip((unit.x, unit.y), held, rows, strict=True)
            ]
            for step in program(dp.order, len(row)):
                unit.do(step)
            outer, x_before, y_before, product_before = unit.levels[0], 0, 0, 0
            for x, y, p, q in zip(row, column, *elements, strict=True):
                product = integer(p, getattr(dp.a, "element", dp.a)) * integer(q, getattr(dp.b, "element", dp.b))
                outer["zero_operands"] += p.is_zero or q.is_zero
                outer["toggled"]["a"] += bin(x ^ x_before).count("1")
                outer["toggled"]["b"] += bin(y ^ y_before).count("1")
                outer["toggled"]["product"] += bin(product ^ product_before).count("1")
                outer["steps"].update(["a", "b", "product"])
                x_before, y_before, product_before = x, y, product
            found = unit.levels
            levels = found if levels is None else [merged(*pair) for pair in zip(levels, found, strict=True)]
    return levels


# ---- data --------------------------------------------------------------------------------------------------------


def matrices(name, key, shape=(3, 11, 4), specials=True):
    """Operands of a datapath: moderate numbers, zeros, some of everything."""
    dp = hu.Datapath.parse(name)
    draw = rng("events", name, key)
    m, k, n = shape

    def matrix(fmt, rows, columns, axis):
        values = []
        for _ in range(rows * columns):
            kind = draw.random()
            if kind < 0.1:
                values.append(0.0)
            elif kind < 0.13 and specials and not in_blocks(fmt):
                values.append(float(fmt.unpack(draw.getrandbits(fmt.bits))))
            else:
                values.append(draw.choice([-1, 1]) * draw.random() * 2.0 ** draw.randint(-3, 2))
        return hu.quantize(np.reshape(values, (rows, columns)), fmt, axis=axis)

    return dp, matrix(dp.a, m, k, 1), matrix(dp.b, k, n, 0)


DATAPATHS = [
    "fp16", "fp16@RTZ", "fp16@SR5", "fp64", "fp32/fp64@RTN", "fp64/fp32", "bf16/fp32", "fp8_e4m3",
    "fp8_e5m2/fp8_e5m2@RTO", "e4m3fn/e4m3fnuz", "e3m2/e3m2ftz", "e3m2/e3m1sat@RTZ", "e2m1finite/e2m3finite",
    "q4.4/q6.4", "q4.4/q4.3w", "q4.4*uq3.5/q3.6@RNA", "q4.4/q4.3w@SR3", "fp16/q4.6", "fp16/q3.6w",
    "fp16:product=e4m3fn@SR4", "fp16@SR9:product=e5m6@RTZ", "fp16:tree4:product=q4.5w", "posit8/fp16",
    "fp16:tree", "fp16@SR4:tree4", "fp64:tree4:product=fp64", "fp16/e8m9:systolic3", "q4.4/q5.3@SR2:systolic2",
    "fp16/fp32:fused4", "fp16/e8m9@SR6:fused3g2", "q4.4/q5.3:fused4g1", "fp8_e4m3/q4.3w@RTZ:fused5",
    "e2m3/e5m10:fused16",
    "fp16:exact", "fp16@SR4:exact3", "fp64/fp32:exact4", "q4.4/q4.2w:exact5", "fp16/q4.3:exact", "fp64:exact",
    "fp16/fp32:blocked4(fp16@RTZ)", "fp16@SR3:blocked3(e8m9@SR5:tree4)", "fp8_e4m3/e8m9:blocked4(e5m6@RTZ:fused2g1)",
    "fp16/fp32@RTZ:blocked5(fp16:exact2)", "q4.4/q6.4:blocked4(q4.3w:systolic2)",
    "fp16/fp32:twostage8g1s8i", "fp8_e5m2/e8m6:twostage4g2s5", "fp8_e4m3/e6m5@SR4:twostage4g0s2i",
    "bf16/fp16:twostage2s3",
]  # fmt: skip
IN_BLOCKS = [
    "mxfp8_e5m2x4/e8m9", "mxfp4x8/e6m5@RTZ:exact", "mxint8x4*mxfp6_e3m2x4/fp16@SR6:fused4g1", "nvfp4x4/e8m4@SR3",
    "mxfp8_e4m3x4/e8m5:fused2", "mxfp4x8*fp8_e4m3/e8m7@RTZ:fused4g2n", "mxfp4x4/e8m7:blocked8(e8m5@RTZ)",
    "mxfp4x4/e8m9@RTZ:fused8x4g2e-30n", "nvfp4x4/e8m5@SR3:fused4x2g1", "mxfp8_e4m3x4/e8m4:fused4x4",
]  # fmt: skip


def same_bits(x, y):
    return np.array_equal(x.view(f"i{x.itemsize}"), y.view(f"i{y.itemsize}")) or (
        np.array_equal(x, y, equal_nan=True) and np.array_equal(np.signbit(x)[x == x], np.signbit(y)[y == y])
    )


@pytest.mark.parametrize("name", [*DATAPATHS, *IN_BLOCKS])
def test_the_bits_are_matmuls_and_the_counts_those_of_the_definition(name):
    for key in range(2):
        dp, a, b = matrices(name, key)
        plain, watched = (hu.Machine(dp, seed=SEED) for _ in range(2))
        wanted = plain.matmul(a, b)
        found, events = watched.observe(a, b)
        assert same_bits(wanted, found)
        assert watched.calls == plain.calls and watched.ledger == plain.ledger
        for level, counts in enumerate(recount(dp, a, b)):
            seen = events.inner if level else events
            for field, value in counts.items():
                assert getattr(seen, field) == value, (level, field)
        assert same_bits(watched.matmul(a, b), plain.matmul(a, b))


@pytest.mark.parametrize("name", ["fp16@SR5", "fp16/fp32:fused4", "fp64:exact", "fp16/fp32:blocked4(fp16@SR3)"])
def test_neither_threads_nor_panels_nor_backends_change_anything(name, monkeypatch):
    dp, a, b = matrices(name, "threads", (70, 9, 40))
    wanted = [hu.Machine(dp, seed=SEED, threads=1).observe(a, b), hu.Machine(dp, seed=SEED, threads=3).observe(a, b)]
    monkeypatch.setattr("halfulp.kernels.observation._PANEL", 130)
    wanted.append(hu.Machine(dp, seed=SEED).observe(a, b))
    wanted.append(hu.Machine(dp, seed=SEED, backend="cxx").observe(a, b))
    for found, events in wanted[1:]:
        assert same_bits(found, wanted[0][0]) and events == wanted[0][1]


def test_float32_and_rounded_operands_and_an_output_format():
    dp, a, b = matrices("fp16/fp32/bf16@SR7", "types", specials=False)
    for x, y in ((a.astype(np.float32), b.astype(np.float32)), (a * 1.001, b)):
        machines = [hu.Machine(dp, seed=SEED, on_inexact="quantize") for _ in range(2)]
        wanted, (found, _) = machines[0].matmul(x, y), machines[1].observe(x, y)
        assert same_bits(wanted, found) and wanted.dtype == found.dtype


def test_sums_of_more_than_64_bits():
    """The product is 1 modulo 2^64, and -1 is added: all of the last 64 bits cancel, and 41 are left."""
    draw = rng("events", "far")
    while True:
        x = draw.getrandbits(53) | 1
        y = pow(x, -1, 1 << 64)
        if y < 1 << 53 and (x * y).bit_length() > 64 + 30:
            break
    a, b = np.array([[1.0, x]]), np.array([[-1.0], [y]])
    for name in ("fp64/fp32", "fp64/fp32:exact", "fp64/fp32:exact1"):
        dp = hu.Datapath.parse(name)
        _, events = hu.Machine(dp, seed=SEED).observe(a, b)
        (counts,) = recount(dp, a, b)
        assert events.lowest_bit == counts["lowest_bit"] and events.inexact == 1
    assert events.lowest_bit == 0
    assert hu.Machine("fp64/fp32:exact").observe(a, b)[1].lowest_bit >= 64


def test_products_just_below_a_power_of_two():
    """Binary64 would round the product of these significands up to 2: its exponent is that of the exact product."""
    x, y = 2.0 - 2.0**-51, 1.0 + 2.0**-52  # (2 - 2u)(1 + u) = 2 - 2u^2
    a, b = np.array([[1.0, x]]), np.array([[1.0], [y]])
    for name in ("fp64", "fp64@RTZ:exact"):
        (counts,) = recount(hu.Datapath.parse(name), a, b)
        assert hu.Machine(name).observe(a, b)[1].shifts == counts["shifts"] == {0: counts["shifts"][0]}


def test_events_merge_and_are_json():
    dp, a, b = matrices("fp16/fp32:blocked4(fp16@RTZ)", "merge", specials=False)
    parts = [hu.Machine(dp).observe(a[i : i + 1], b)[1] for i in range(len(a))]
    whole = hu.Machine(dp).observe(a, b)[1]
    assert sum(parts[1:], parts[0]) == whole == whole + hu.Events() == hu.Events() + whole
    found = json.loads(json.dumps(whole.as_dict(), allow_nan=False))
    assert found["largest"] == whole.largest == max(whole.highest, -whole.lowest)
    assert found["toggles"] == whole.toggles and found["inner"]["roundings"] == whole.inner.roundings
    assert found["shifts"] == {str(k): n for k, n in whole.shifts.items()}
    assert whole.toggles["a"] == whole.toggled["a"] / whole.steps["a"]
    with pytest.raises(TypeError):
        whole + 1


@pytest.mark.parametrize("name", ["mxfp4/fp32", "mxfp8_e4m3/fp32@RTZ:fused32g2", "nvfp4/fp32:exact"])
def test_the_smallest_accumulator_of_blocks(name):
    dp = hu.Datapath.parse(name)
    x = np.random.default_rng(SEED).choice([-4.0, -1.0, 0.0, 0.5, 2.0, 6.0], (2, 8, 64))
    a, b = hu.encode_blocks(x[0], dp.a, 1), hu.encode_blocks(x[1].T, dp.b, 0)
    wanted, events = hu.Machine(dp).observe(a, b)
    small = hu.minimal_accumulator(dp, events)
    assert small.bits < 24
    found = hu.Machine(replace(dp, accumulator=small, output=dp.accumulator)).matmul(a, b)
    assert same_bits(found, wanted)


def test_what_is_not_observed_is_told():
    events = hu.Machine("fp16").observe(np.ones((2, 3)), np.ones((3, 2)))[1]
    with pytest.raises(hu.HalfulpError, match="no accumulator of level 1"):
        hu.minimal_accumulator("fp16", events, level=1)


# ---- the smallest accumulator ------------------------------------------------------------------------------------


def with_accumulator(dp, fmt, level):
    """The datapath with another accumulator, its output in the old one."""
    if level:
        return replace(dp, order=replace(dp.order, accumulator=fmt))
    return replace(dp, accumulator=fmt, output=dp.accumulator)


def sums(dp, a, b):
    """Accumulators after every step: those of leading parts that are the sum's own on the way."""
    whole = a.shape[1]
    step = 1 if dp.order == hu.sequential else getattr(dp.order, "terms", None) or whole
    return [hu.Machine(dp, seed=SEED).matmul(a[:, :k], b[:k]) for k in range(step, whole + 1, step)]


def narrower(fmt, old):
    """With one bit fewer in each dimension that was reduced."""
    fixed = isinstance(fmt, hu.FixedFormat)
    fields = ("integer_bits", "fraction_bits") if fixed else ("exponent_bits", "trailing_bits")
    for field in fields:
        if getattr(fmt, field) < getattr(old, field) and getattr(fmt, field) > 0:
            changes = {field: getattr(fmt, field) - 1}
            with suppress(hu.HalfulpError):
                yield replace(fmt, **changes) if fixed else replace(fmt, **changes, bias=None)


INTEGERS = [
    "fp16/fp32", "fp16/fp32@RTZ", "e4m3fn/e8m23fn", "e4m3fn/e8m23fnuz@RTO", "fp16/e8m23ftz", "fp16/e8m23sat@SR8",
    "fp16/fp64:fused4", "fp16/e8m23:fused3g3", "fp16/fp32:exact", "fp16/fp32:exact3", "fp16/fp32:tree4",
    "fp16/fp32:systolic3", "q8.0/q24.8", "q8.2/q20.12w", "q8.2/q20.10:fused4g1", "q8.2/q16.12:tree4",
    "q6.0/q20.6:exact4",
]  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
def test_the_smallest_accumulator_of_exact_sums(name):
    dp = hu.Datapath.parse(name)
    draw = rng("minimal", name)
    a, b = (np.array([draw.randint(-12, 12) for _ in range(48)], float).reshape(shape) for shape in ((4, 12), (12, 4)))
    _, events = hu.Machine(dp, seed=SEED).observe(a, b)
    assert not events.inexact
    smallest = hu.minimal_accumulator(name, events)
    assert smallest.bits < dp.accumulator.bits and type(smallest) is type(dp.accumulator)
    wanted = sums(dp, a, b)
    assert all(map(same_bits, wanted, sums(with_accumulator(dp, smallest, 0), a, b)))
    fewer = list(narrower(smallest, dp.accumulator))
    assert fewer
    for fmt in fewer:
        assert not all(map(same_bits, wanted, sums(with_accumulator(dp, fmt, 0), a, b))), fmt


def test_the_smallest_accumulator_keeps_suffixes():
    for name, start in (("e8m23fn", "fn"), ("e8m23ftz", "ftz"), ("e8m23sat", "sat"), ("q20.3w", "w")):
        events = hu.Machine(f"q4.0/{name}").observe(np.full((1, 3), 3.0), np.full((3, 1), 7.0))[1]
        smallest = hu.minimal_accumulator(f"q4.0/{name}", events)
        assert str(smallest).endswith(start), smallest
        assert events.largest == 63.0 and events.widest == 6
    assert str(smallest) == "q7.0w"


@pytest.mark.parametrize("name", [n for n in DATAPATHS if not n.startswith("posit")])
def test_the_smallest_accumulator_of_any_sums(name):
    for key in range(6):
        dp, a, b = matrices(name, f"minimal {key}", specials=False)
        if key > 2:  # few bits
            a, b = (hu.quantize(np.round(x * 4) / 4, f) for x, f in ((a, dp.a), (b, dp.b)))
        wanted, events = hu.Machine(dp, seed=SEED).observe(a, b)
        for level in range(2 if events.inner else 1):
            smallest = hu.minimal_accumulator(dp, events, level)
            found = with_accumulator(dp, smallest, level)
            assert same_bits(wanted, hu.Machine(found, seed=SEED).matmul(a, b)), (level, smallest)
            if not level:
                assert all(map(same_bits, sums(dp, a, b), sums(found, a, b)))


@pytest.mark.parametrize("name", ["fp16/e8m9", "fp16/q12.5", "bf16/e8m7@RTZ:fused4"])
def test_the_smallest_range_where_sums_are_rounded(name):
    """Large sums that are rounded: the bits below stay, and one bit less of range overflows."""
    dp = hu.Datapath.parse(name)
    draw = rng("range", name)
    a, b = (np.array([draw.randint(33, 63) / 16 for _ in range(40)]).reshape(shape) for shape in ((4, 10), (10, 4)))
    wanted, events = hu.Machine(dp, seed=SEED).observe(a, b)
    assert events.inexact
    smallest = hu.minimal_accumulator(dp, events)
    fixed = isinstance(smallest, hu.FixedFormat)
    assert smallest.bits < dp.accumulator.bits
    kept = "fraction_bits" if fixed else "trailing_bits"
    assert getattr(smallest, kept) == getattr(dp.accumulator, kept)
    assert same_bits(wanted, hu.Machine(with_accumulator(dp, smallest, 0), seed=SEED).matmul(a, b))
    for fmt in narrower(smallest, dp.accumulator):
        assert not same_bits(wanted, hu.Machine(with_accumulator(dp, fmt, 0), seed=SEED).matmul(a, b))


def test_the_inner_accumulator_of_blocks():
    dp = hu.Datapath.parse("fp16/fp32:blocked4(fp32)")
    a, b = np.ones((2, 20)), np.ones((20, 2))
    wanted, events = hu.Machine(dp).observe(a, b)
    inner, outer = hu.minimal_accumulator(dp, events, level=1), hu.minimal_accumulator(dp, events)
    assert events.inner.largest == 4.0 and events.largest == 20.0
    assert (str(inner), str(outer)) == ("e3m1", "e4m2")
    for fmt, level in ((inner, 1), (outer, 0)):
        assert same_bits(wanted, hu.Machine(with_accumulator(dp, fmt, level)).matmul(a, b))


@pytest.mark.parametrize(
    "name", ["bf16/fp32@RTZ:fused4g1e-20n", "fp16@RNE:fused3g2e-9n", "fp16/e5m4@RTZ:fused4n", "fp16/e5m4:fused4e-3"]
)
def test_units_with_a_floor_and_results_of_tensor_cores(name):
    """Small terms that the floor cuts off are inexact; sums beyond the range and zeros are as the unit gives them."""
    rng = np.random.default_rng(SEED)
    a, b = (
        hu.quantize(rng.normal(size=shape) * np.exp2(rng.integers(-9, 8, shape)), hu.Datapath.parse(name).a)
        for shape in ((9, 13), (13, 8))
    )
    found, events = hu.Machine(name).observe(a, b)
    assert found.tobytes() == hu.Machine(name).matmul(a, b).tobytes()
    assert events.inexact
