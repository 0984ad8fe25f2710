"""Orders: the definition equals an independent oracle, names go there and back, and bad ones get a sentence."""

import itertools
from functools import partial

import halfulp as hu
import numpy as np
import oracle
import order_oracle
import pytest
from cases import as_value, oracle_format, rng, special_codes
from halfulp.emulator import datapath, orders
from halfulp.emulator.orders import Do
from halfulp.emulator.random import Role

FORMATS = [
    ("fp16", "fp16", "e5m10"),
    ("e4m3fn", "e5m2", "e8m13"),
    ("e4m3fn", "e4m3fn", "e4m3fn"),
    ("bf16", "bf16", "e8m23"),
    ("q4.4", "q4.4", "q6.6"),
    ("q4.4", "uq3.5", "q6.3w"),
    ("e2m1finite", "e5m10ftz", "e5m2sat"),
]
MODES = ["RNE", "RTZ", "RTN", "RTO", "SR3"]


def operands(name, length, key):
    """Codes: some of everything, most of them moderate, so that sums do not end in NaNs."""
    draw = rng("orders", name, length, key)
    fmt = hu.format(name)
    near = [c for c in range(1 << min(fmt.bits, 10)) if fmt.bits <= 8]
    codes = []
    for _ in range(length):
        pool = special_codes(str(fmt)) if draw.random() < 0.15 else near
        code = draw.choice(pool) if pool else draw.getrandbits(fmt.bits)
        value = float(fmt.unpack(code))
        codes.append(
            code if draw.random() < 0.03 or abs(value) < 64 else int(fmt.encode(draw.choice([1.0, 0.5, -1.0])))
        )
    return codes


def expected(dp, pairs, drawn, product_drawn):
    """The oracle's accumulator."""
    values = [tuple(as_value(fmt.unpack(c)) for fmt, c in zip((dp.a, dp.b), pair, strict=True)) for pair in pairs]
    products = [oracle.exact_mul(x, y)[0] for x, y in values]
    if dp.product is not None:
        mode, k = mode_of(dp.product_rounding)
        fmt = oracle_format(str(dp.product))
        products = [
            oracle.decode(oracle.round(p, fmt, mode, k, product_drawn(i) if k else 0)[0], fmt)
            for i, p in enumerate(products)
        ]

    def unit(fmt, rounding):
        return order_oracle.Unit(oracle_format(str(fmt)), *mode_of(rounding), drawn)

    def fractions(fmt):
        return None if isinstance(fmt, hu.FixedFormat) else fmt.trailing_bits

    outer = unit(dp.accumulator, dp.rounding)
    match dp.order:
        case orders.Sequential():
            return order_oracle.sequential(products, outer)
        case orders.Tree(n):
            return order_oracle.tree(products, outer, n)
        case orders.Systolic(lanes):
            return order_oracle.systolic(products, outer, lanes)
        case orders.Exact(n):
            return order_oracle.exact(products, outer, n)
        case orders.Fused(n, guard, floor, tensor_core):
            emins = (dp.a.emin, dp.b.emin, dp.accumulator.emin)
            return order_oracle.fused(values, outer, n, guard, fractions(dp.accumulator), emins, floor, tensor_core)
        case orders.TwoStage(n, guard, sum_guard, interleaved):
            emins = (dp.a.emin, dp.b.emin, dp.accumulator.emin)
            fields = n, guard, sum_guard, interleaved, fractions(dp.accumulator), emins
            return order_oracle.two_stage(values, outer, *fields)
        case orders.Blocked(length, fmt, rounding, inner):
            within = unit(fmt, rounding)
            if isinstance(inner, orders.TwoStage):
                emins = (dp.a.emin, dp.b.emin, fmt.emin)
                fields = inner.terms, inner.guard_bits, inner.sum_guard_bits, inner.interleaved, fractions(fmt), emins
                rest = lambda part: order_oracle.two_stage(part, within, *fields)  # noqa: E731
                return order_oracle.blocked(values, outer, length, rest)
            if isinstance(inner, orders.Fused):
                emins = (dp.a.emin, dp.b.emin, fmt.emin)
                rest = partial(
                    order_oracle.fused,
                    unit=within,
                    n=inner.terms,
                    guard=inner.guard_bits,
                    fractions=fractions(fmt),
                    emins=emins,
                    floor_exponent=inner.floor,
                    tensor_core=inner.tensor_core,
                )
                return order_oracle.blocked(values, outer, length, rest)
            ways = {
                orders.Sequential: lambda part: order_oracle.sequential(part, within),
                orders.Tree: lambda part: order_oracle.tree(part, within, inner.terms),
                orders.Systolic: lambda part: order_oracle.systolic(part, within, inner.lanes),
                orders.Exact: lambda part: order_oracle.exact(part, within, inner.terms),
            }
            return order_oracle.blocked(products, outer, length, ways[type(inner)])


def mode_of(rounding):
    return ("SR" if rounding.random_bits else rounding.mode.name), rounding.random_bits


ORDERS = [
    "sequential", "fused4", "fused3g2", "exact", "exact4", "tree", "tree4", "tree5", "systolic2", "systolic5",
    "blocked4(fp16)", "blocked3({acc}@RTZ:tree4)", "blocked8({acc}@SR3:systolic3)", "blocked6(e8m13@RTN:exact2)",
    "blocked5(e8m9@RTZ:fused2g1)", "blocked4({acc}@RNE:exact)",
]  # fmt: skip
FLOAT_ORDERS = ["fused4e-9", "fused3g2n", "fused4g1e3n", "fused2e-4096n", "blocked5(e5m9@RTZ:fused2g1e-20n)"]
FLOAT_ORDERS += ["twostage4g1s8", "twostage3s0", "twostage5g1s2i", "blocked6(e5m9@RNE:twostage4g1s3i)"]


@pytest.mark.parametrize("order", [*ORDERS, *FLOAT_ORDERS])
@pytest.mark.parametrize("names", FORMATS, ids="/".join)
def test_the_definition_is_the_oracle(names, order):
    a, b, accumulator = names
    if order in FLOAT_ORDERS and isinstance(hu.format(accumulator), hu.FixedFormat):
        return
    for mode, length in itertools.product(MODES, (0, 1, 2, 3, 7, 13)):
        dp = hu.Datapath(a, b, accumulator, mode, order=order.format(acc=accumulator))
        chance = rng(order, names, mode, length)
        bits = [chance.getrandbits(3) for _ in range(4 * length + 20)]
        for trial in range(3):
            x, y = operands(a, length, (order, mode, trial)), operands(b, length, (mode, order, trial))
            queue = iter(bits)
            wanted = expected(dp, list(zip(x, y, strict=True)), lambda queue=queue: next(queue), None)
            code = datapath.dot(dp, x, y, Replay(dp, bits))
            found = as_value(dp.output.unpack(code))
            assert found == wanted or found.kind == wanted.kind == "nan", (mode, x, y)


class Replay:
    """Random integers by (role, step): those of accumulators in the order of the steps that draw some."""

    def __init__(self, dp, bits):
        self.dp, self.bits, self.numbers = dp, bits, {}

    def __call__(self, role, step, k):
        assert role is not Role.PRODUCT
        number = self.numbers.setdefault((role, step), len(self.numbers))
        return 0 if role is Role.OUTPUT else self.bits[number]


@pytest.mark.parametrize("order", ["sequential", "tree4", "systolic3", "blocked4(fp16@RNE:tree)"])
@pytest.mark.parametrize("product", ["e5m10", "e4m3fn", "q6.4w"])
def test_rounded_products(order, product):
    for mode in ("RNE", "RTZ", "SR3"):
        dp = hu.Datapath("fp16", "fp16", "fp16", "RNE", product=product, product_rounding=mode, order=order)
        x, y = operands("fp16", 11, (order, product, mode)), operands("fp16", 11, (mode, order))
        wanted = expected(dp, list(zip(x, y, strict=True)), None, lambda k: (5 * k + 3) % 8)
        found = as_value(dp.output.unpack(datapath.dot(dp, x, y, lambda role, step, k: (5 * step + 3) % 8)))
        assert found == wanted or found.kind == wanted.kind == "nan"


def test_every_rounding_of_a_program_has_a_number_of_its_own():
    """So that no two of them draw the same random bits."""
    for text in (o.format(acc="fp16") for o in ORDERS):
        order = orders.parse_order(text)
        for length in (0, 1, 5, 12, 33):
            drawn = []
            for step in orders.program(order, length):
                if step.do is Do.MAC:
                    drawn += range(step.draw, step.draw + step.last - step.first)
                elif step.do in (Do.ADD, Do.FUSE):
                    drawn.append(step.draw)
                assert 0 <= step.register < orders.registers(order, length)
            assert sorted(drawn) == list(range(len(drawn)))


@pytest.mark.parametrize("text", [o.format(acc="e4m3fn") for o in [*ORDERS, *FLOAT_ORDERS]])
def test_text_forms(text):
    order = orders.parse_order(text)
    assert orders.parse_order(order.text or "sequential") == order
    dp = hu.Datapath("fp16", order=text)
    assert hu.Datapath.parse(dp.name) == dp and hash(dp) == hash(hu.Datapath.parse(dp.name))


def test_functions_make_orders():
    assert hu.tree(8) == orders.parse_order("tree8") and hu.tree() == orders.parse_order("tree")
    assert hu.systolic(4) == orders.parse_order("systolic4") and hu.exact == orders.parse_order("exact")
    inner = hu.fused(32, guard_bits=2)
    assert hu.blocked(128, "e8m13", "RTZ", inner) == orders.parse_order("blocked128(e8m13@RTZ:fused32g2)")
    unit = hu.fused(16, guard_bits=2, floor=-133, tensor_core=True)
    assert unit == orders.parse_order("fused16g2e-133n") and unit.text == "fused16g2e-133n"
    assert str(unit) == "fused(16, guard_bits=2, floor=-133, tensor_core)"
    assert hu.two_stage(16, 1, 8, interleaved=True) == orders.parse_order("twostage16g1s8i")
    assert str(hu.two_stage(8, 1, 8)) == "two_stage(8, guard_bits=1, sum_guard_bits=8)"
    groups = hu.fused(64, 12, -139, True, group=16)
    assert groups == orders.parse_order(groups.text) and groups.text == "fused64x16g12e-139n"
    assert str(groups) == "fused(64, guard_bits=12, floor=-139, tensor_core, group=16)"
    assert hu.two_stage(4).text == "twostage4s0" and hu.two_stage(16, 1, 8, True).text == "twostage16g1s8i"
    assert hu.fused(4, floor=0).text == "fused4e0" and hu.fused(4, tensor_core=True).text == "fused4n"


@pytest.mark.parametrize(
    "name",
    ["fp16/fp32:twostage8g1s8", "bf16/fp32:twostage8g1s8", "tf32/fp32:twostage4g1s8", "e5m2fnuz/fp32:twostage16g1s8i",
     "e4m3fnuz*e5m2fnuz/fp32:twostage16g1s8i", "bf16/e8m9ftz@RTN:twostage3g2s4i", "fp32/e6m9@RTZ:twostage5s3i"],
)  # fmt: skip
def test_two_stages_of_terms_far_apart(name):
    """Products and accumulators 20 to 45 bits apart, which cancel now and then, and the ends of the range."""
    dp, chance = hu.Datapath.parse(name), np.random.default_rng([*name.encode()])
    ends = [np.log2(np.array([fmt.min_subnormal, fmt.max_finite])) for fmt in (dp.a, dp.b)]
    for trial in range(120):
        length = int(chance.integers(1, 40))
        step = np.arange(length) // dp.order.terms
        centre = chance.integers(-1, 2, length // dp.order.terms + 1)[step] * chance.choice([3, 11, 15, 20])
        centre = centre + (0, 0, -70, 62, 0, -40)[trial % 6]
        places = centre + chance.integers(-4, 5, (2, length)) * chance.choice([0, 1, 3])
        numbers = chance.choice([-1.0, 0.0, 1.0], (2, length), p=[0.45, 0.1, 0.45]) * chance.integers(1, 9, (2, length))
        x, y = (
            hu.quantize(v * np.exp2(np.clip(p, *end - (0, 3))), fmt)
            for v, p, end, fmt in zip(numbers, places, ends, (dp.a, dp.b), strict=True)
        )
        if trial % 4 == 0 and length > 8:  # cancels in another step, but for a little
            x[-4:], y[-4:] = -x[:4], y[:4]
        codes = [fmt.encode(v + 0.0).tolist() for fmt, v in ((dp.a, x), (dp.b, y))]
        wanted = expected(dp, list(zip(*codes, strict=True)), None, None)
        found = as_value(dp.output.unpack(datapath.dot(dp, *codes)))
        assert found == wanted or found.kind == wanted.kind == "nan", (x, y)


def one(name, *pairs):
    """The code of a dot product of pairs of values."""
    dp = hu.Datapath.parse(name)
    x, y = ([int(c) for c in fmt.encode(np.array([pair[i] for pair in pairs]))] for i, fmt in enumerate((dp.a, dp.b)))
    return datapath.dot(dp, x, y)


@pytest.mark.parametrize("mode", MODES[:4])
def test_tensor_cores_overflow_to_infinities_in_every_mode(mode):
    top, least = hu.format("bf16").max_finite, hu.format("bf16").min_subnormal
    for sign, infinity, end in ((1, 0x7F800000, 0x7F7FFFFF), (-1, 0xFF800000, 0xFF7FFFFF)):
        assert one(f"bf16/fp32@{mode}:fused4n", (sign * top, top)) == infinity
        assert (one(f"bf16/fp32@{mode}:fused4", (sign * top, top)) == end) == (
            mode == "RTZ" or (mode == "RTN" and sign > 0) or mode == "RTO"
        )
        below = [(sign * 2.0**64, 2.0**63), (sign * 2.0**64, 2.0**63), (-sign * 2.0**64, 2.0**39)]
        assert one("bf16/fp32@RTZ:fused4g1n", *below) == end  # 2^128 - 2^103, truncated
    zero = one(f"bf16/fp32@{mode}:fused4g20n", (-least, least))
    assert zero == (0x80000001 if mode in ("RTN", "RTO") else 0)
    assert one("bf16/fp32@RTZ:fused4g20", (-least, least)) == 0x80000000


@pytest.mark.parametrize(
    ("unit", "kept"),
    [("fused4", 2**19 + 2**9), ("fused4e-133", 2**19 + 2**9), ("fused4e-117", 2**19 + 2**9), ("fused4e-116", 2**19),
     ("fused4g1e-116", 2**19 + 2**9), ("fused4e-107", 2**19), ("fused4e-106", 0)],
)  # fmt: skip
def test_a_floor_cuts_what_lies_far_below_it(unit, kept):
    """2^-130 and 2^-140, of which fp32 keeps 23 bits below the largest exponent, or below the floor."""
    assert one(f"bf16/fp32@RTZ:{unit}", (2.0**-65, 2.0**-65), (2.0**-70, 2.0**-70)) == kept


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: hu.Datapath("fp16", order="pairwise"), "order 'pairwise' is none of"),
        (lambda: hu.Datapath("fp16", order=7), "order 7 is none"),
        (lambda: hu.tree(1), "2...4096"),
        (lambda: hu.systolic(1), "2...256"),
        (lambda: hu.Exact(0), "1...4096"),
        (lambda: hu.fused(0), "1...4096"),
        (lambda: hu.fused(4, floor=5000), "-4096...4096"),
        (lambda: hu.fused(8, group=3), "a multiple of group"),
        (lambda: hu.Datapath("fp16", order="fused8x4"), "parts of blocks"),
        (lambda: hu.Datapath.parse("mxfp4*fp16/fp32:fused8x4"), "parts of blocks"),
        (lambda: hu.Datapath.parse("nvfp4/fp32:fused64x32"), "parts of blocks"),
        (lambda: hu.two_stage(8, 2, 1), "guard_bits in 0...sum_guard_bits"),
        (lambda: hu.Datapath("fp16", order="twostage8g1"), "twostage<n>[g<guard bits>]s<sum's guard bits>[i]"),
        (lambda: hu.Datapath("q4.4", order="twostage4s1"), "an order of float accumulators; q4.4"),
        (lambda: hu.Datapath("fp16", order="twostage4s1", product="fp16"), "exact products"),
        (lambda: hu.Datapath("mxfp4", "mxfp4", "fp32", order="twostage4s1"), "sequential (a block at a time)"),
        (lambda: hu.Datapath("q4.4", order="fused4e-3"), "float accumulators; q4.4"),
        (lambda: hu.Datapath("fp16", order="blocked4(q9.9:fused4n)"), "float accumulators; q9.9"),
        (lambda: hu.Datapath("fp16", order="fused4ne2"), "[e<floor>][n]"),
        (lambda: hu.blocked(0, "fp16"), "1...2**20"),
        (lambda: hu.blocked(4, "mxfp4"), "mxfp4"),
        (lambda: hu.blocked(4, "fp16", order=hu.blocked(2, "fp16")), "inner order"),
        (lambda: hu.Datapath("fp16", order="exact", product="fp16"), "exact products"),
        (lambda: hu.Datapath("fp16", order="blocked4(fp16:fused2)", product="fp16"), "exact products"),
        (lambda: hu.Datapath("mxfp4", "mxfp4", "fp32", order="tree4"), "sequential (a block at a time)"),
        (lambda: hu.Datapath("mxfp4", "nvfp4", "fp32"), "different sizes"),
        (lambda: hu.Datapath("mxfp4"), "float or fixed-point"),
        (lambda: hu.Datapath("fp16", "fp16", "posit16"), "float or fixed-point"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(hu.HalfulpError) as error:
        make()
    assert said in str(error.value)


def block_operands(fmt, rows, length, key):
    """Blocks of random values along the last axis."""
    chance = np.random.default_rng([len(key), *key.encode()])
    return hu.encode_blocks(chance.normal(size=(rows, length)) * np.exp2(chance.integers(-3, 4, (rows, length))), fmt)


@pytest.mark.parametrize(
    "names", [("mxfp4", "mxfp4"), ("mxfp8_e4m3x8", "mxfp8_e5m2x8"), ("nvfp4", "nvfp4"), ("mxint8", "mxfp6_e3m2")]
)
@pytest.mark.parametrize("accumulator", ["fp32", "bf16", "fp16@RTZ"])
def test_blocks_are_added_one_at_a_time(names, accumulator):
    """Each block's dot product exactly, times both scales, into the accumulator with one rounding."""
    dp = hu.Datapath.parse(f"{names[0]}*{names[1]}/{accumulator}")
    length = 75
    x, y = (block_operands(fmt, 1, length, name) for fmt, name in zip((dp.a, dp.b), names, strict=True))
    unpacked = []
    for fmt, held in ((dp.a, x), (dp.b, y)):
        parts = [
            hu.emulator.blocks.Block(
                tuple(fmt.element.unpack(int(c)) for c in held.codes[0, i * fmt.size : (i + 1) * fmt.size]),
                fmt.scale.unpack(int(held.scales[0, i])),
            )
            for i in range(held.scales.shape[1])
        ]
        unpacked.append(parts)
    mode, _ = mode_of(dp.rounding)
    fmt, total = oracle_format(str(dp.accumulator)), oracle.ZERO
    for one, other in zip(*unpacked, strict=True):
        scale = one.scale.fraction * other.scale.fraction
        summed = sum(a.fraction * b.fraction for a, b in zip(one.elements, other.elements, strict=True)) * scale
        total = oracle.decode(oracle.round(oracle.number(total.fraction + summed), fmt, mode)[0], fmt)
    found = datapath.dot(dp, *unpacked)
    assert as_value(dp.output.unpack(found)) == total


@pytest.mark.parametrize(
    "name",
    ["mxfp4/fp32@RTZ:fused64x16g12e-139n", "nvfp4/fp32@RTZ:fused64x16g12e-139n", "mxfp4x16/fp32:fused32x8g1e-30",
     "mxfp8_e5m2x8*mxfp6_e2m3x8/e8m9@RTN:fused8x4e-200", "nvfp4/bf16:fused16x16e0n"],
)  # fmt: skip
def test_groups_are_aligned_by_their_scales(name):
    """Scales near and far, groups that cancel, groups of zeros, scales of zero; the last step a part."""
    dp, chance = hu.Datapath.parse(name), np.random.default_rng([*name.encode()])
    order, size = dp.order, dp.a.size
    for trial in range(60):
        length = int(chance.integers(1, 12)) * order.group
        codes = chance.integers(0, 1 << np.array([[dp.a.element.bits], [dp.b.element.bits]]), (2, length))
        codes *= chance.random((2, length)) < chance.choice([0.1, 0.5, 1.0])
        if trial % 3 == 0 and order.group > 1:  # pairs of products that cancel
            codes[:, 1::2] = codes[:, ::2]
            codes[0, 1::2] ^= 1 << dp.a.element.bits - 1
        operands, elements, scales = [], [], []
        for fmt, row in zip((dp.a, dp.b), codes, strict=True):
            middle, spread = (127, chance.choice([2, 12, 60])) if fmt.scale.precision == 1 else (64, 63)
            drawn = chance.integers(middle - spread, middle + spread, -(-length // size))
            data = [fmt.element.unpack(int(c)) for c in row]
            data = [x if x.kind.name == "FINITE" else fmt.element.unpack(0) for x in data]
            held = [fmt.scale.unpack(int(c)) for c in drawn]
            parts = zip(range(0, length, size), held, strict=True)
            operands.append([hu.emulator.blocks.Block(tuple(data[i : i + size]), scale) for i, scale in parts])
            elements.append([x.fraction for x in data])
            scales.append([(as_value(x), fmt.scale.emin) for x in held])
        groups = []
        for start in range(0, length, order.group):
            pairs = list(zip(*(x[start : start + order.group] for x in elements), strict=True))
            two = [of[start // size] for of in scales]
            exponents = [order_oracle.exponent(x, emin) if x.magnitude else 0 for x, emin in two]
            groups.append((pairs, two[0][0].fraction * two[1][0].fraction, sum(exponents)))
        unit = order_oracle.Unit(oracle_format(str(dp.accumulator)), *mode_of(dp.rounding), None)
        fields = order.terms // order.group, order.guard_bits, order.floor, order.tensor_core
        assert as_value(dp.output.unpack(datapath.dot(dp, *operands))) == order_oracle.grouped(groups, unit, *fields)


def test_tensor_scales_multiply_the_sum_before_the_output_is_rounded():
    dp = hu.Datapath.parse("nvfp4/fp32/bf16")
    x = block_operands(dp.a, 1, 16, "x")
    block = hu.emulator.blocks.Block(
        tuple(dp.a.element.unpack(int(c)) for c in x.codes[0]), dp.a.scale.unpack(int(x.scales[0, 0]))
    )
    scale = dp.a.tensor_scale.unpack(x.tensor_scale)
    squared = hu.emulator.arithmetic.exact_product(scale, scale)
    one = datapath.dot(dp, [block], [block], tensor_scale=squared)
    summed = sum(e.fraction**2 for e in block.elements) * block.scale.fraction**2
    fp32, bf16 = oracle_format("e8m23"), oracle_format("e8m7")
    held = oracle.decode(oracle.round(oracle.number(summed), fp32, "RNE")[0], fp32)
    wanted = oracle.round(oracle.number(held.fraction * scale.fraction**2), bf16, "RNE")[0]
    assert one == wanted
