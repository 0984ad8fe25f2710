"""MPFR, through gmpy2, as a witness that shares nothing with the oracle nor with the implementation."""

from fractions import Fraction

import oracle

try:
    import gmpy2
except ImportError:  # the cross-check is then unavailable
    gmpy2 = None


def _to_mpfr(x):
    if x.kind == "nan":
        return gmpy2.nan()
    if x.kind == "inf" or x.is_zero:
        return gmpy2.mpfr(("-" if x.negative else "") + ("inf" if x.kind == "inf" else "0"))
    n, d = x.fraction.numerator, x.fraction.denominator
    exact = gmpy2.mpfr(gmpy2.mpq(n, d), max(2, n.bit_length()))
    assert exact.as_integer_ratio() == (n, d), "an MPFR operand must be dyadic"
    return exact


def mpfr_round(operation, operands, format, mode):
    """MPFR's 'add', 'sub', 'mul', 'div', 'fma', 'sqrt' or 'plus' (just rounds).

    IEEE formats with subnormals and no saturation; RNE, RTZ, RTP and RTN.
    Returns a Value, or None without gmpy2.
    """
    if gmpy2 is None:
        return None
    assert format.has_infinity and format.subnormals and not format.saturate
    emax = 2**format.w - 2 - format.bias
    context = gmpy2.context(  # MPFR's significand is in [1/2, 1): exponents are one higher
        precision=format.p,
        subnormalize=True,
        emin=format.emin - format.t + 1,
        emax=emax + 1,
        round={"RNE": gmpy2.RoundToNearest, "RTZ": gmpy2.RoundToZero, "RTP": gmpy2.RoundUp, "RTN": gmpy2.RoundDown}[
            mode
        ],
    )
    result = getattr(context, operation)(*map(_to_mpfr, operands))
    if gmpy2.is_nan(result):
        return oracle.NAN
    if gmpy2.is_infinite(result):
        return oracle.Value("inf", gmpy2.is_signed(result))
    n, d = result.as_integer_ratio()
    return oracle.Value("finite", gmpy2.is_signed(result), abs(Fraction(int(n), int(d))))
