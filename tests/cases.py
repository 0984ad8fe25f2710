"""What the tests share: formats as the oracle knows them, every rounding, and operands likely to go wrong.

Formats are parsed here a second time, from their names, so that the oracle never takes a field from halfulp.
"""

import random
import re
from functools import cache

import halfulp as hu
import oracle

#: Every random choice of the tests follows from this number (and from the name of what is drawn).
SEED = 20240229

#: The deterministic modes, and (rounding, mode, k, r) of every one of them and of SR with every random integer.
MODES = ("RNE", "RNA", "RND", "RTZ", "RTP", "RTN", "RTO")
ROUNDINGS = [(hu.Rounding.parse(mode), mode, 0, 0) for mode in MODES]
ROUNDINGS += [(hu.SR(k), "SR", k, r) for k in (1, 3) for r in range(2**k)]

_FLOAT = re.compile(r"([us]?)e(\d+)m(\d+)(fnuz|finite|fn)?(ftz)?(?:b(-?\d+))?(sat)?")
_P3109 = re.compile(r"binary(\d+)p(\d+)([us])([ef])(sat)?")
_FIXED = re.compile(r"(u?)q(-?\d+)\.(-?\d+)(w?)")
_FLAGS = {
    "inexact": hu.Flags.INEXACT,
    "underflow": hu.Flags.UNDERFLOW,
    "overflow": hu.Flags.OVERFLOW,
    "divide_by_zero": hu.Flags.DIVIDE_BY_ZERO,
    "invalid": hu.Flags.INVALID,
}


def rng(*key):
    """A random generator of its own for each use, the same in every run and on every machine."""
    return random.Random(repr((SEED, *key)))


@cache
def oracle_format(name):
    """The oracle's format of a canonical name such as e5m10, e4m3fnsat or q4.12w (no aliases)."""
    if match := _P3109.fullmatch(name):
        width, precision, sign, domain, sat = match.groups()
        return oracle.P3109(int(width), int(precision), sign == "s", domain == "e", bool(sat))
    if match := _FIXED.fullmatch(name):
        unsigned, il, fl, wrap = match.groups()
        return oracle.Fixed(int(il), int(fl), not unsigned, bool(wrap))
    sign, w, t, specials, ftz, bias, sat = _FLOAT.fullmatch(name).groups()
    specials = specials or ("fn" if sign == "u" else "ieee")
    return oracle.Float(int(w), int(t), bias and int(bias), specials, not ftz, bool(sat), sign != "u")


@cache
def as_flags(names):
    """The oracle's set of flag names as halfulp's Flags."""
    flags = hu.Flags.NONE
    for name in names:
        flags |= _FLAGS[name]
    return flags


def as_value(datum):
    """An Unpacked as the oracle's Value."""
    kind = datum.kind.name.lower()
    if kind == "nan":
        return oracle.SNAN if datum.signaling else oracle.NAN
    if kind == "infinity":
        return oracle.Value("inf", datum.negative)
    return oracle.Value("finite", datum.negative, abs(datum.fraction))


def expected(result):
    """The oracle's (code, flag names) as (code, Flags), to be compared with a Result."""
    code, names = result
    return code, as_flags(names)


def describe(result):
    """(code, flags) for a message."""
    return f"{result[0]:#x} {result[1]}"


# ------------------------------------------------------------------------------------------- directed operands


def code_of(fmt, negative, exponent, trailing):
    """The code with this unbiased exponent, brought into the range of the exponent field, and trailing bits."""
    field = min(max(exponent + fmt.bias, 0), 2**fmt.w - 1)
    return negative * fmt.sign_bit + field * 2**fmt.t + trailing % 2**fmt.t


@cache
def special_codes(name):
    """Zeros, ends of the subnormals, ones, powers of two, ends of the range, infinities, NaNs; both signs."""
    fmt = oracle_format(name)
    modulus = 2**fmt.width
    if isinstance(fmt, oracle.Fixed):
        ends = [0, 1, 2, 3, fmt.lowest, fmt.lowest + 1, fmt.highest, fmt.highest - 1, fmt.highest // 2]
        return sorted({code % modulus for c in ends for code in (c, -c)})
    one, step = fmt.bias * 2**fmt.t, 2**fmt.t
    ends = [0, 1, 2, 3, step - 1, step, step + 1, 2 * step, one - 1, one, one + 1, one + step]
    ends += [fmt.max_finite_code + i for i in (-1, 0, 1, 2)] + [fmt.sign_bit - 2, fmt.sign_bit - 1]
    return sorted({sign + code % fmt.sign_bit for code in ends for sign in (0, fmt.sign_bit)})


def _trailing(draw, t):
    """Trailing bits: random, or such as make ties, carries and long runs."""
    return (
        draw.choice(
            [draw.getrandbits(t) if t else 0, 0, 1, 2 ** max(t - 1, 0), 2**t - 1, 2**t - 2, 1 << draw.randrange(t + 1)]
        )
        % 2**t
    )


def _short_odd(draw, fmt, bits, exponent):
    """A code whose significand is an odd integer of this many bits, scaled to the exponent."""
    significand = (1 << (bits - 1)) | draw.getrandbits(bits) | 1
    significand &= (1 << bits) - 1
    return code_of(fmt, draw.getrandbits(1), exponent, significand << (fmt.p - bits))


def pairs(name, count, key="pairs"):
    """``count`` pairs of codes: ties, cancellation, subnormal and overflow edges, specials, and random ones."""
    fmt, draw = oracle_format(name), rng(key, name)
    modulus, special = 2**fmt.width, special_codes(name)
    for i in range(count):
        a, b = draw.randrange(modulus), draw.randrange(modulus)
        if i % 8 == 0:
            yield a, b
        elif i % 8 == 1:
            yield draw.choice(
                [(draw.choice(special), b), (a, draw.choice(special)), (draw.choice(special), draw.choice(special))]
            )
        elif isinstance(fmt, oracle.Fixed):
            yield a, (-a + draw.randrange(-3, 4)) % modulus
        else:
            yield _float_pair(fmt, draw, i % 8)


def _float_pair(fmt, draw, kind):
    low, high, p = fmt.emin, fmt.emin + 2**fmt.w - 3, fmt.p
    signs = draw.getrandbits(1), draw.getrandbits(1)
    ea, eb = draw.randint(low, high), draw.randint(low, high)
    if kind == 2:  # near each other: cancellation, carries
        a = code_of(fmt, signs[0], ea, _trailing(draw, fmt.t))
        return a, (a % fmt.sign_bit + draw.randint(-3, 3)) % fmt.sign_bit + signs[1] * fmt.sign_bit
    if kind == 3:  # sums at or next to a tie
        eb = ea - draw.randint(p - 2, p + 2)
    elif kind == 4:  # next to the subnormals
        ea, eb = low + draw.randint(-1, 2), low + draw.randint(-1, 2)
    elif kind == 5:  # next to overflow
        ea, eb = high - draw.randint(0, 2), high - draw.choice([0, 1, p, p + 1])
    elif kind == 6:  # products next to the ends of the range
        target = draw.choice([low - draw.randint(-1, p + 2), high + draw.randint(-2, 1)])
        target = min(max(target, 2 * low), 2 * high)
        eb = target - ea
        while not low <= eb <= high:
            ea = draw.randint(low, high)
            eb = target - ea
    elif kind == 7:  # products of p or p + 1 bits that end in 1: half of them ties
        bits = draw.randint(1, p)
        total = min(p + 1 - bits, p) if draw.getrandbits(1) else min(max(p - bits, 1), p)
        return _short_odd(draw, fmt, bits, ea), _short_odd(draw, fmt, max(total, 1), draw.randint(low, high) // 2)
    codes = code_of(fmt, signs[0], ea, _trailing(draw, fmt.t)), code_of(fmt, signs[1], eb, _trailing(draw, fmt.t))
    return codes if draw.getrandbits(1) else codes[::-1]


def triples(name, count, key="triples"):
    """``count`` triples (a, b, c) for a * b + c: c cancels the product, or meets it half a unit away, or is special."""
    fmt, draw = oracle_format(name), rng(key, name)
    modulus, special = 2**fmt.width, special_codes(name)
    for a, b in pairs(name, count, key):
        kind = draw.randrange(4)
        c = draw.randrange(modulus)
        if kind == 0:
            c = draw.choice(special)
        elif kind == 1:  # minus the rounded product, or a neighbour
            code, _ = oracle.mul(oracle.decode(a, fmt), oracle.decode(b, fmt), fmt, "RNE")
            half = modulus // 2
            c = (code + half + draw.choice([0, 0, half]) + draw.randint(-1, 1)) % modulus
        elif kind == 2 and isinstance(fmt, oracle.Float):  # ties and sticky bits of the sum
            product, _ = oracle.exact_mul(oracle.decode(a, fmt), oracle.decode(b, fmt))
            exponent = oracle.floor_log2(product.magnitude) if product.magnitude else fmt.emin
            offset = draw.choice([-1, 1]) * draw.randint(fmt.p - 2, 2 * fmt.p + 2)
            c = code_of(fmt, draw.getrandbits(1), exponent + offset, _trailing(draw, fmt.t))
        yield a, b, c
