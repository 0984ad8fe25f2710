"""How far numbers with uniform codes meet when they are added.

Normally distributed ones nearly always do. Of those with uniform codes, each exponent is as frequent as any other: in a
format of wide exponents one operand mostly lies below the other's last bit, and nothing cancels.
"""

from __future__ import annotations

import math

from .rtl.shapes import Shape

RUNNING = 0.7  #: where the largest of some 25 products' exponents lies, from the middle (0) to the largest of all (1)
ALONE = 0.7  #: glitches, relative, of two numbers that do not meet: both change
STANDING = 0.35  #: the same of a sum that does not change and a product that does


def variance(x: Shape, product: bool) -> float:
    """Of the exponent of a number with a uniform code, or of a product of two."""
    return (x.highest - x.lowest) ** 2 / (24 if product else 12)


def apart(x: Shape, y: Shape, products: tuple[bool, bool], width: int) -> float:
    """Glitches left of the sum, in ``width`` bits, of two numbers that know nothing of each other."""
    half = math.sqrt(6 * sum(variance(s, product) for s, product in zip((x, y), products, strict=True)))
    return ALONE + (1 - ALONE) * overlap(0, half, width)


def running(product: Shape, total: Shape, width: int) -> float:
    """Glitches left of the sum of a product and the sum so far, which has the exponent of the largest product."""
    half = (product.highest - product.lowest) / 2
    middle = product.top + product.lowest + half
    centre = min(middle + RUNNING * half, total.top + total.highest) - middle
    return STANDING + (1 - STANDING) * overlap(centre, half, width)


def overlap(centre: float, half: float, width: int) -> float:
    """The mean share of ``width`` bits in which two numbers overlap whose exponents differ by ``centre`` and, up to
    ``half`` up and down, a triangular distribution."""
    if not half:
        return max(0.0, 1 - abs(centre) / width)

    def below(x: float) -> float:
        """Integral of the distribution function."""
        z = (x - centre) / half
        return half * (max(z, 0.0) + max(1 - abs(z), 0.0) ** 3 / 6)

    return (below(width) - 2 * below(0) + below(-width)) / width
