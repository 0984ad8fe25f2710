"""Independent oracle for posits, read off the Standard for Posit Arithmetic (2022); shares nothing with halfulp.

A number is a Fraction and NaR is None. Codes are decoded by the standard's formula, and numbers are rounded by
bisection among them, as its section 4.1 says; what the standard does not have (other modes) is said in the same terms:
neighbours, and posits of more bits between them.
"""

from fractions import Fraction
from functools import lru_cache
from math import isqrt

NAR = None


def power_of_two(e):
    return Fraction(2**e) if e >= 0 else Fraction(1, 2**-e)


@lru_cache(1 << 18)
def decode(code, n, es):
    """((1 - 3s) + f) * 2^((1 - 2s) * (2^es r + e + s)), with s, r, e and f read from the bits as they stand."""
    assert 0 <= code < 2**n
    if code % 2 ** (n - 1) == 0:
        return NAR if code else Fraction(0)
    s, bits = code >> (n - 1), f"{code:0{n}b}"[1:]
    k = len(bits) - len(bits.lstrip(bits[0]))
    r = k - 1 if bits[0] == "1" else -k
    rest = bits[k + 1 :]  # after the regime and the bit that ends it
    e = int("0" + rest[:es].ljust(es, "0"), 2)
    f = Fraction(int("0" + rest[es:], 2), 2 ** len(rest[es:]))
    return ((1 - 3 * s) + f) * power_of_two((1 - 2 * s) * (2**es * r + e + s))


def below(x, n, es):
    """The greatest integer i whose n-bit code, as a signed integer, denotes a number <= x; minpos <= |x| <= maxpos."""
    low, high = (1, 2 ** (n - 1) - 1) if x > 0 else (1 - 2 ** (n - 1), -1)
    while low < high:
        middle = (low + high + 1) // 2
        if decode(middle % 2**n, n, es) <= x:
            low = middle
        else:
            high = middle - 1
    return low


def round(x, n, es, mode="RNE", k=0, r=0):
    """Round a number or NaR: (code, flag names)."""
    if x is NAR or x == 0:
        return (2 ** (n - 1) if x is NAR else 0), frozenset()
    minpos, maxpos = decode(1, n, es), decode(2 ** (n - 1) - 1, n, es)
    if abs(x) > maxpos:
        return (2 ** (n - 1) - 1) * (1 if x > 0 else -1) % 2**n, frozenset({"overflow", "inexact"})
    if abs(x) < minpos:
        return (1 if x > 0 else -1) % 2**n, frozenset({"underflow", "inexact"})
    u = below(x, n, es)
    if decode(u % 2**n, n, es) == x:
        return u % 2**n, frozenset()
    w = u + 1
    v = decode((2 * u + 1) % 2 ** (n + 1), n + 1, es)  # the bits of u, then 1
    toward_zero, away = (u, w) if x > 0 else (w, u)
    if mode in ("SR", "SRC"):  # to a posit of k more bits, down or to nearest; then the carry of r added there
        finer = below(abs(x), n + k, es) if mode == "SR" else round(abs(x), n + k, es)[0]
        return (finer + r >> k) * (1 if x > 0 else -1) % 2**n, frozenset({"inexact"})
    code = {
        "RNE": lambda: u if x < v or (x == v and u % 2 == 0) else w,
        "RNA": lambda: toward_zero if abs(x) < abs(v) else away,
        "RND": lambda: u if x <= v else w,
        "RTZ": lambda: toward_zero,
        "RTP": lambda: w,
        "RTN": lambda: u,
        "RTO": lambda: u if u % 2 else w,
    }[mode]()
    return code % 2**n, frozenset({"inexact"})


def exact(operation, *operands):
    """The exact result and the operation's own flags: a NaR that no operand was is invalid."""
    if NAR in operands:
        return NAR, frozenset()
    x, y = operands[0], operands[-1]
    if operation == "div" and y == 0:
        return NAR, frozenset({"invalid", "divide_by_zero"} if x else {"invalid"})
    if operation == "sqrt" and x < 0:
        return NAR, frozenset({"invalid"})
    result = {
        "add": lambda: x + y,
        "sub": lambda: x - y,
        "mul": lambda: x * y,
        "div": lambda: x / y,
        "fma": lambda: x * operands[1] + y,
        "sqrt": lambda: _root(x),
    }[operation]()
    return result, frozenset()


def _root(x, places=600):
    """The square root, or a number so near it on its side that it rounds alike into 64 bits and less."""
    scaled = x * 4**places
    s = isqrt(int(scaled))
    return Fraction(s, 2**places) if s * s == scaled else Fraction(2 * s + 1, 2 ** (places + 1))


def run(operation, codes, n, es, mode="RNE", k=0, r=0):
    """An operation on codes of one format: (code, flag names)."""
    result, flags = exact(operation, *(decode(code, n, es) for code in codes))
    code, rounding_flags = round(result, n, es, mode, k, r)
    return code, flags | rounding_flags
