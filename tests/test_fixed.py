"""Fixed point: the exact growth laws, and integers of every word length."""

import itertools

import halfulp as hu
import numpy as np
import pytest

SMALL = [hu.FixedFormat(wl - fl, fl, signed) for wl in (1, 2, 3) for fl in (-2, 0, 1, 5) for signed in (True, False)]


def values(fmt):
    return [fmt.unpack(code).fraction for code in range(2**fmt.bits)]


def narrowest(found, signed, fraction):
    """The fewest bits that hold every one of these values, tried one after the other."""
    for bits in itertools.count(1):
        fmt = hu.FixedFormat(bits - fraction, fraction, signed)
        unit = 2**fraction if fraction >= 0 else 1 / 2**-fraction
        if all(fmt.min_integer <= value * unit <= fmt.max_integer for value in found):
            return fmt


@pytest.mark.parametrize("a", SMALL, ids=str)
def test_sums_and_products_fit_and_no_narrower_format_holds_them(a):
    for b in SMALL:
        signed, fraction = a.signed or b.signed, max(a.fraction_bits, b.fraction_bits)
        pairs = list(itertools.product(values(a), values(b)))
        assert a.for_add(b) == narrowest([x + y for x, y in pairs], signed, fraction)
        fraction = a.fraction_bits + b.fraction_bits
        products = {x * y for x, y in pairs}
        assert a.for_mul(b) == b.for_mul(a) == narrowest(products, signed, fraction)
        for terms in (2, 3, 5):
            extremes = {terms * x for x in products}  # the sum of equal products is the largest
            assert a.for_dot(b, terms) == narrowest(extremes, signed, fraction)


@pytest.mark.parametrize(
    ("a", "b", "add", "mul", "dot"),
    [
        ("q4.12", "q4.12", "q5.12", "q8.24", "q18.24"),
        ("int8", "int8", "q9.0", "q16.0", "q26.0"),
        ("uint8", "uint8", "uq9.0", "uq16.0", "uq26.0"),
        ("uint8", "int8", "q10.0", "q16.0", "q26.0"),
        ("q1.7", "uq0.8", "q2.8", "q1.15", "q11.15"),
        ("q12.-4", "q-2.6", "q13.6", "q10.2", "q20.2"),
        ("q8.0w", "q8.0w", "q9.0", "q16.0", "q26.0"),
    ],
)
def test_the_usual_growth(a, b, add, mul, dot):
    x, y = hu.format(a), hu.format(b)
    assert (str(x.for_add(y)), str(x.for_mul(y)), str(x.for_dot(y, 1024))) == (add, mul, dot)


def test_growth_beyond_64_bits_is_refused():
    wide = hu.format("q33.0")
    assert str(wide.for_mul(hu.format("q31.0"))) == "q64.0"
    with pytest.raises(hu.HalfulpError, match=r"products of q33\.0 and q33\.0 need 66 bits; .* at most 64"):
        wide.for_mul(wide)
    with pytest.raises(hu.HalfulpError, match=r"sums of q64\.0 and uq1\.40 need 105 bits"):
        hu.format("q64.0").for_add(hu.format("uq1.40"))
    with pytest.raises(hu.HalfulpError, match="at least 1 term, not 0"):
        wide.for_dot(wide, 0)


@pytest.mark.parametrize("name", ["q64.0", "uq64.0", "q32.32w", "q54.0", "uq0.60", "q8.0", "uq4.4", "q1.0", "q-20.40"])
def test_integers_of_every_word_length(name):
    fmt = hu.format(name)
    codes = [0, 1, 2 ** (fmt.bits - 1) - 1, 2 ** (fmt.bits - 1), 2**fmt.bits - 1]
    integers = [int(fmt.unpack(code).fraction * 2**fmt.fraction_bits) for code in codes]
    found = fmt.to_integers(np.array(codes, dtype=np.uint64).reshape(5, 1))
    assert found.dtype == (np.int64 if fmt.signed else np.uint64) and found.tolist() == [[i] for i in integers]
    assert fmt.to_integers(codes).tolist() == integers
    for given in (integers, found):
        back = fmt.from_integers(given)
        assert back.ravel().tolist() == codes and back.dtype == np.dtype(
            f"u{max(1, 1 << (fmt.bits - 1).bit_length() >> 3)}"
        )


def test_integers_that_do_not_fit_are_refused():
    fmt = hu.format("q4.4")
    for given in ([128], [-129], np.array([2**63], dtype=np.uint64)):
        with pytest.raises(hu.HalfulpError, match=r"integers of q4\.4 must lie in \[-128, 127\]"):
            fmt.from_integers(given)
    for given in ([0.5], np.array([1.0]), ["1"], [True]):
        with pytest.raises(hu.HalfulpError, match=r"integers of q4\.4 must be integers"):
            fmt.from_integers(given)
    with pytest.raises(hu.HalfulpError, match=r"codes of q4\.4 must lie in \[0, 2\*\*8\)"):
        fmt.to_integers([256])
