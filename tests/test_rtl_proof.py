"""Generated hardware proven right for all inputs by a SAT solver (Z3), from specifications that share nothing with it.

IEEE 754's formats and modes: SMT-LIB's theory of floating-point numbers. The other formats and modes, and the flags:
exact integers on the ladder of a format's magnitudes, which the oracle of the tests knows.
"""

from fractions import Fraction
from functools import reduce
from itertools import pairwise

import oracle
import pytest
from cases import oracle_format
from rtl_cases import CHECKED, MODES, Group, convert, functions, mac, smt

z3 = pytest.importorskip("z3", reason="needs Z3: pip install 'halfulp[test]'")

INEXACT, UNDERFLOW, OVERFLOW, INVALID = 1, 2, 4, 16


def prove(units, claim, folder, change=("", ""), eager=False):
    """``claim(unit, operands, random, code, flags)`` holds of each unit, whatever the inputs; of eager ones that of
    ``flags`` is left open.

    ``change``: a text of the Verilog and what is put in its place, to see that the claim does not hold then.
    """
    group = Group(units, eager)
    verilog = convert(group, "dut", group.ports)
    assert change[0] in verilog
    text = smt(verilog.replace(*change), folder)
    ports = {s.name: z3.BitVec(s.name, len(s)) for s in group.ports}
    width = text.split("(define-sort |dut_s| () (_ BitVec ")[1].split(")")[0]
    text += f"(declare-const state (_ BitVec {width}))"
    for name, port in ports.items():
        here = f"(|dut_n {name}| state)"
        here = f"(ite {here} #b1 #b0)" if port.size() == 1 else here  # Yosys takes one bit for a Boolean
        text += f"(declare-const {name} (_ BitVec {port.size()})) (assert (= {name} {here}))"
    hardware = list(z3.parse_smt2_string(text))
    operands, at = [ports[s.name] for s in group.inputs], 0
    for f, bits in zip(units, group.fields[:: 2 - eager], strict=True):
        code = z3.Extract(at + bits - 1, at, ports["results"])
        flags = None if eager else z3.Extract(at + bits + 4, at + bits, ports["results"])
        at += bits + (0 if eager else 5)
        solver = z3.Then("simplify", "propagate-values", "fpa2bv", "simplify", "bit-blast", "sat").solver()
        solver.add(*hardware, z3.Not(claim(f, operands, ports.get("random"), code, flags)))
        answer = solver.check()
        assert answer == z3.unsat, f"{f.name} {f.rounding}: {answer} {solver.model() if answer == z3.sat else ''}"
        CHECKED["units proven"] += 1


# ------------------------------------------------------------------------------ the theory of floating-point numbers


def ieee(f, operands, random, code, flags):
    """The code is that of SMT-LIB's operation; NaNs are canonical."""
    mode = getattr(z3, f.rounding.mode.name)()
    *known, to = [oracle_format(str(fmt)) for fmt in (*f.operands, f.result)]
    numbers = [z3.fpBVToFP(x, z3.FPSort(fmt.w, fmt.p)) for x, fmt in zip(operands, known, strict=True)]
    sort = z3.FPSort(to.w, to.p)
    if f.operation == "convert":
        right = z3.fpFPToFP(mode, *numbers, sort)
    elif f.operation == "add" and to.w > to.p:  # which Z3's addition does not know
        right = z3.fpFMA(mode, numbers[0], z3.FPVal(1, sort), numbers[1])
    else:
        right = {"add": z3.fpAdd, "sub": z3.fpSub, "mul": z3.fpMul, "fma": z3.fpFMA}[f.operation](mode, *numbers)
    return z3.And(z3.fpBVToFP(code, sort) == right, z3.Implies(z3.fpIsNaN(right), code == to.nan_code))


IEEE_MODES = ("RNE", "RNA", "RTP", "RTN", "RTZ")


@pytest.mark.parametrize("name", ["e2m2_add", "e3m2_mul", "e2m3_sub", "e2m2_fma", "e3m2_to_e2m3", "e5m2_to_e4m3"])
def test_small_ieee_units(name, tmp_path):
    prove(functions([name], IEEE_MODES), ieee, tmp_path)


LARGER_IEEE = """
e3m2_add e4m3_add e4m3_mul e4m3_fma e5m2_add e5m2_mul e5m2_fma fp16_to_e5m2 fp16_to_e4m3 fp32_to_fp16 fp32_to_bf16
fp64_to_fp32 fp16_to_fp32 bf16_add fp16_add
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", IEEE_MODES)
@pytest.mark.parametrize("name", LARGER_IEEE.split())
def test_ieee_units(name, mode, tmp_path):
    prove(functions([name], [mode]), ieee, tmp_path)


# ---------------------------------------------------------------------------------------------- exact integers


class Exact:
    """An exact result: a magnitude in units of 2^unit, as a bit vector wide enough for all that is done with it."""

    def __init__(self, magnitude, unit, negative, nan, infinite, invalid):
        self.magnitude, self.unit, self.negative = magnitude, unit, negative
        self.nan, self.infinite, self.invalid = nan, infinite, invalid


def lookup(code, values):
    """The entry of a table that a code picks."""
    for bit in range(code.size()):
        chosen = z3.Extract(bit, bit, code) == 1
        values = [a if a is b else z3.If(chosen, b, a) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def exponent(values):
    """The largest e such that all values are multiples of 2^e."""
    return -max(Fraction(v).denominator.bit_length() - 1 for v in values)


def unpack(code, fmt, unit, width):
    """The number that a code denotes, in units of 2^unit."""
    values = [oracle.decode(c, fmt) for c in oracle.all_codes(fmt)]
    true, false = z3.BoolVal(True), z3.BoolVal(False)

    def where(has):
        return lookup(code, [true if has(v) else false for v in values])

    magnitudes = [z3.BitVecVal(int(v.magnitude / oracle.power_of_two(unit)), width) for v in values]
    return Exact(
        lookup(code, magnitudes),
        unit,
        where(lambda v: v.negative),
        where(lambda v: v.kind == "nan"),
        where(lambda v: v.kind == "inf"),
        where(lambda v: v.signaling),
    )


def multiply(x, y):
    infinite = z3.Or(x.infinite, y.infinite)
    zero = z3.Or(*(z3.And(n.magnitude == 0, z3.Not(n.infinite), z3.Not(n.nan)) for n in (x, y)))
    undefined = z3.And(infinite, zero, z3.Not(z3.Or(x.nan, y.nan)))
    return Exact(
        x.magnitude * y.magnitude,
        x.unit + y.unit,
        z3.Xor(x.negative, y.negative),
        z3.Or(x.nan, y.nan, undefined),
        infinite,
        z3.Or(x.invalid, y.invalid, undefined),
    )


def add(x, y, mode):
    """The sum of numbers of one unit; an exact zero of unlike signs is +0, toward minus infinity -0."""
    a, b = (z3.If(n.negative, -n.magnitude, n.magnitude) for n in (x, y))
    total, unlike = a + b, z3.Xor(x.negative, y.negative)
    undefined = z3.And(x.infinite, y.infinite, unlike, z3.Not(z3.Or(x.nan, y.nan)))
    of_finite = z3.If(z3.And(total == 0, unlike), z3.BoolVal(mode == "RTN"), z3.If(total == 0, x.negative, total < 0))
    return Exact(
        z3.If(total < 0, -total, total),
        x.unit,
        z3.If(x.infinite, x.negative, z3.If(y.infinite, y.negative, of_finite)),
        z3.Or(x.nan, y.nan, undefined),
        z3.Or(x.infinite, y.infinite),
        z3.Or(x.invalid, y.invalid, undefined),
    )


def goes_up(rounding, above, gap, odd, negative, random):
    """Whether a magnitude is rounded to the upper one of its neighbours, ``above`` the lower one, ``gap`` apart."""
    k, mode = rounding.random_bits, rounding.mode.name
    if mode == "SR":  # floor(share 2^k) + random >= 2^k, the floor if corrected a rounding to nearest even
        drawn = z3.ZeroExt(gap.size() - k, z3.Extract(k - 1, 0, random))
        wanted = (1 << k) - drawn
        if not rounding.corrected:
            return z3.UGE(above << k, wanted * gap)
        tie = (2 * wanted - 1) * gap
        return z3.Or(z3.UGT(above << k + 1, tie), z3.And(above << k + 1 == tie, z3.Extract(0, 0, wanted) == 0))
    return {
        "RNE": lambda: z3.Or(z3.UGT(2 * above, gap), z3.And(2 * above == gap, odd)),
        "RNA": lambda: z3.UGE(2 * above, gap),
        "RND": lambda: z3.Or(z3.UGT(2 * above, gap), z3.And(2 * above == gap, negative)),
        "RTZ": lambda: z3.BoolVal(False),
        "RTP": lambda: z3.And(above != 0, z3.Not(negative)),
        "RTN": lambda: z3.And(above != 0, negative),
        "RTO": lambda: z3.And(above != 0, z3.Not(odd)),
    }[mode]()


def raised(**flags):
    """Flags as five bits."""
    names = {"inexact": INEXACT, "underflow": UNDERFLOW, "overflow": OVERFLOW, "invalid": INVALID}
    return reduce(
        lambda x, y: x | y, (z3.If(on, z3.BitVecVal(names[n], 5), z3.BitVecVal(0, 5)) for n, on in flags.items())
    )


def round_float(x, fmt, rounding, random, width):
    """Code and flags: the highest step of the ladder that is not above the magnitude, or the next one.

    The ladder has one step more than the format.
    """
    one = oracle.power_of_two(x.unit)
    ladder = [int(oracle._magnitude(c, fmt) / one) for c in range(fmt.max_finite_code + 2)]
    gaps = [b - a for a, b in pairwise(ladder)]
    step, low, gap = (z3.BitVecVal(v, width) for v in (0, 0, gaps[0]))
    for i in range(1, len(gaps) + 1):
        reached = z3.UGE(x.magnitude, ladder[i])
        step, low = z3.If(reached, i, step), z3.If(reached, ladder[i], low)
        gap = z3.If(reached, gaps[min(i, len(gaps) - 1)], gap)
    beyond_ladder = z3.UGE(x.magnitude, ladder[-1])
    above = z3.If(beyond_ladder, 0, x.magnitude - low)
    by_code = fmt.p > 1 or fmt.specials in ("p3109", "fnuz")
    odd = z3.Extract(0, 0, step) == 1 if by_code else step != 0
    target = step + z3.If(goes_up(rounding, above, gap, odd, x.negative, random), z3.BitVecVal(1, width), 0)

    normal = 2**fmt.t
    half = gaps[normal - 1] // 2
    between_odd = z3.BoolVal(fmt.p > 1 or not by_code or (fmt.emin - 1 + fmt.bias) % 2 == 1)
    near = z3.UGE(x.magnitude, ladder[normal] - half)
    carried = goes_up(
        rounding, x.magnitude - (ladder[normal] - half), z3.BitVecVal(half, width), between_odd, x.negative, random
    )
    tiny = z3.And(z3.ULT(x.magnitude, ladder[normal]), z3.Not(z3.And(near, carried)))

    finite = z3.Not(z3.Or(x.nan, x.infinite))
    over = z3.Or(x.infinite, z3.UGT(target, fmt.max_finite_code))
    mode = rounding.mode.name
    stays = {"RTZ": True, "RTO": True, "RTP": x.negative, "RTN": z3.Not(x.negative)}.get(mode, False)
    if mode == "RTO" and fmt.specials == "p3109" and fmt.extended:
        stays = fmt.max_finite_code % 2 == 1
    held = fmt.has_infinity and not fmt.saturate
    beyond, signed = fmt.max_finite_code, True
    if held:
        beyond = fmt.inf_code
    elif not fmt.saturate and fmt.nan_code is not None:
        beyond, signed = fmt.nan_code, False
    stays = z3.And(stays, finite)
    code = z3.If(over, z3.If(stays, z3.BitVecVal(fmt.max_finite_code, width), beyond), target)
    sign = z3.And(x.negative, z3.Or(code != 0, z3.BoolVal(fmt.has_negative_zero)))
    sign = z3.And(sign, z3.Or(z3.Not(over), stays, z3.BoolVal(signed)))
    code = z3.If(sign, code + fmt.sign_bit, code)
    code = z3.If(x.nan, z3.BitVecVal(fmt.max_finite_code if fmt.nan_code is None else fmt.nan_code, width), code)
    inexact = z3.And(finite, z3.Or(above != 0, over))
    flags = raised(
        inexact=z3.Or(inexact, z3.And(x.infinite, z3.Not(x.nan), z3.BoolVal(not held))),
        underflow=z3.And(finite, above != 0, tiny, z3.Not(over)),
        overflow=z3.And(z3.Not(x.nan), over, z3.Or(finite, z3.BoolVal(not held))),
        invalid=x.nan if fmt.nan_code is None else x.invalid,
    )
    return z3.Extract(fmt.width - 1, 0, code), flags


def round_fixed(x, fmt, rounding, random, width):
    """Code and flags of a fixed-point format, whose last place is 2^places units."""
    places = -fmt.fl - x.unit
    gap = z3.BitVecVal(1 << places, width)
    whole, above = z3.LShR(x.magnitude, places), x.magnitude & (gap - 1)
    odd = z3.Extract(0, 0, whole) == 1
    target = whole + z3.If(goes_up(rounding, above, gap, odd, x.negative, random), z3.BitVecVal(1, width), 0)
    integer = z3.If(x.negative, -target, target)
    over = z3.Or(x.infinite, integer < fmt.lowest, integer > fmt.highest)
    end = z3.If(x.negative, z3.BitVecVal(fmt.lowest, width), fmt.highest)
    keeps = z3.And(z3.BoolVal(fmt.wrap), z3.Not(x.infinite))
    code = z3.If(x.nan, fmt.highest, z3.If(z3.And(over, z3.Not(keeps)), end, integer))
    finite = z3.Not(z3.Or(x.nan, x.infinite))
    flags = raised(
        inexact=z3.And(z3.Not(x.nan), z3.Or(over, z3.And(finite, above != 0))),
        overflow=z3.And(z3.Not(x.nan), over),
        invalid=x.nan,
    )
    return z3.Extract(fmt.width - 1, 0, code), flags


def integers(f, operands, random, code, flags):
    """Code and flags are those of the exact result, rounded once."""
    *known, to = [oracle_format(str(fmt)) for fmt in (*f.operands, f.result)]
    largest, units = [], []
    for fmt in known:
        values = [oracle.decode(c, fmt).magnitude for c in oracle.all_codes(fmt)]
        largest.append(max(values))
        units.append(exponent(values))
    target_unit = -to.fl if isinstance(to, oracle.Fixed) else to.emin - to.t - 1
    product = f.operation in ("mul", "fma")
    exact_units = ([units[0] + units[1]] if product else units[:1]) + units[1 + product :]
    unit = min(*exact_units, target_unit)
    bound = (largest[0] * largest[1] if product else largest[0]) + sum(largest[1 + product :])
    ends = 0 if isinstance(to, oracle.Fixed) else 2 * to.max_finite
    width = int(max(bound, ends) / oracle.power_of_two(unit)).bit_length() + f.random_bits + 3
    width = max(width, to.width + 2)

    spare = unit - (units[0] + units[1]) if product else None  # the first factor takes what the product has too much
    bases = [units[0] + spare, units[1], *[unit] * (len(known) - 2)] if product else [unit] * len(known)
    numbers = [unpack(x, fmt, base, width) for x, fmt, base in zip(operands, known, bases, strict=True)]
    if f.operation == "sub":
        numbers[1].negative = z3.Not(numbers[1].negative)
    if product:
        numbers[:2] = [multiply(*numbers[:2])]
    exactly = add(*numbers, f.rounding.mode.name) if len(numbers) == 2 else numbers[0]
    rounding = round_fixed if isinstance(to, oracle.Fixed) else round_float
    right = rounding(exactly, to, f.rounding, random, width)
    return code == right[0] if flags is None else z3.And(code == right[0], flags == right[1])


SOME = "e2m1finite_add e2m2fn_mul q2.2w_mul uq2.3_add binary4p2sf_fma fp6_e3m2_to_q3.2 q3.3_to_e2m3"

#: Every kind of format with signed values and subnormals, of 4 to 6 bits, and fixed point.
FORMATS = """
e2m1finite e2m1 e2m2 e3m1 e2m2fn e2m2fnuz e2m2sat e3m2finite e2m3finite e3m2 e2m3 e3m2fn e2m3fnuz e3m2sat binary4p2sf
binary5p2se binary6p3se binary6p4sf binary6p3sesat binary4p1se q2.2 q2.2w uq2.2 q3.3 q3.3w uq3.3 q1.4 q4.0
"""
MACS = "e2m1finite+e2m2 e2m1finite+e2m3finite e2m1finite+e3m2 binary4p2se+binary6p3se q2.1+q3.3 q2.2+q4.2w e2m1+q3.3"


@pytest.mark.parametrize("name", SOME.split())
def test_some_units_with_flags(name, tmp_path):
    prove(functions([name]), integers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["add", "sub", "mul"])
@pytest.mark.parametrize("fmt", FORMATS.split())
def test_units_with_flags(fmt, operation, tmp_path):
    prove(functions([f"{fmt}_{operation}"]), integers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", FORMATS.split())
def test_conversions_with_flags(source, tmp_path):
    for to in FORMATS.split():
        if to != source:
            prove(functions([f"{source}_to_{to}"]), integers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("formats", MACS.split())
def test_macs_with_flags(formats, tmp_path):
    prove([mac(*formats.split("+"), mode) for mode in MODES], integers, tmp_path)


def test_some_eager_units(tmp_path):
    prove(functions(["e3m1_add"], ["SR1", "SR3"]), integers, tmp_path, eager=True)
    with pytest.raises(AssertionError, match="e3m1_add SR3: sat"):
        wrong = ("shifted_out1 + random", "shifted_out1 - random")
        prove(functions(["e3m1_add"], ["SR3"]), integers, tmp_path, wrong, eager=True)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("fmt", ["e2m2", "e3m1", "e2m2fn", "e3m2", "e2m3", "e3m2sat", "binary6p3se", "e2m3finite"])
def test_eager_additions(fmt, k, tmp_path):
    prove(functions([f"{fmt}_add", f"{fmt}_sub"], [f"SR{k}"]), integers, tmp_path, eager=True)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(
    "formats", ["e2m1finite+e2m2", "e2m1finite+e3m2", "e2m1+e3m2", "binary4p2se+binary6p3se", "e2m0+e4m1"]
)
def test_eager_macs(formats, k, tmp_path):
    prove([mac(*formats.split("+"), f"SR{k}")], integers, tmp_path, eager=True)


@pytest.mark.parametrize("claim", [ieee, integers])
@pytest.mark.parametrize(("right", "wrong"), [("sum = a ^ b;", "sum = a | b;"), ("= x_offset +", "= x_offset -")])
def test_a_wrong_unit_is_refuted(claim, right, wrong, tmp_path):
    with pytest.raises(AssertionError, match="e2m2_mul RNE: sat"):
        prove(functions(["e2m2_mul"], ["RNE"]), claim, tmp_path, change=(right, wrong))
