"""Events: what goes on inside a product of matrices, counted; and the smallest accumulator that they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat
from ..emulator.orders import Fused, TwoStage
from .target import has_kernels


def _most(default: Any) -> Any:
    return field(default=default, metadata={"merge": max})


def _least() -> Any:
    return field(default=None, metadata={"merge": min})


@dataclass(frozen=True)
class Events:
    """What happened in an accumulator during a call, or in several, merged by ``+``.

    The terms of a unit of groups are the groups' sums; of one of two stages, products are aligned within their group.

    Of ``blocked`` orders these are the outer accumulator's; ``inner`` has the inner one's. An addition is that of two
    registers, or of a product to a register; a fused or exact step adds all its products, but rounds once. Exponents
    are powers of two; those of a fused step's terms are what its unit aligns, products' the sums of their operands'.

    ``swamped`` counts addends other than zero that were lost whole: the sum is the other one. In a fused step: terms
    that alignment cut off whole. In an exact step: 1 if its register is not zero and stays, though the sum differs.

    ``toggled`` counts bits that changed, by register: of the operands ``a`` and ``b`` and the ``accumulator`` in their
    codes; of the ``product`` in the integer product of the operands' significands (the hidden bit included; fixed
    point: magnitudes; infinities and NaNs: 0). Operands and products follow one another over k = 0, 1, ... of each
    result, whatever the order; an accumulator's codes from one rounding into a register to the next. The first code
    of a result follows 0.
    """

    additions: int = 0  #: those of zeros included
    roundings: int = 0  #: into the accumulator
    inexact: int = 0  #: roundings that changed the sum, or before which a fused step cut bits off
    overflow: int = 0  #: sums beyond the range that became infinities or, in formats without, NaNs
    saturation: int = 0  #: that ended at the largest finite value of their sign; NaNs, too, in formats without
    wrapped: int = 0  #: that wrapped around, in fixed point
    underflow: int = 0  #: IEEE 754's, tininess after rounding
    swamped: int = 0  #: addends that were lost whole
    zero_operands: int = 0  #: products of which an operand is zero
    #: How often two finite addends other than zero had exponents, floor(log2|x|), of this difference; a fused or exact
    #: step: how often a term's exponent was so far below the largest one
    shifts: dict[int, int] = field(default_factory=dict)
    largest_carry: int = _most(0)  #: how far a sum's exponent, if it did not overflow, exceeds that of its largest term
    highest: float = _most(0.0)  #: the largest number held; 0 if none is positive
    lowest: float = field(default=0.0, metadata={"merge": min})  #: the least number held; 0 if none is negative
    least: float | None = _least()  #: the smallest magnitude held, zeros apart
    lowest_bit: int | None = _least()  #: exponent of the lowest bit of any finite sum before its rounding
    lowest_held: int | None = _least()  #: of any number held
    lowest_term: int | None = _least()  #: of any term of a fused or exact step
    highest_term: int | None = _most(None)  #: of the highest of any product in a unit of two stages
    least_inexact: int | None = _least()  #: 2^it is at most the smallest sum that was rounded and did not overflow
    widest: int = _most(0)  #: most bits of a number held, from the leading to the last one set
    reach: int = _most(0)  #: most bits from the largest exponent of a fused or exact step down to a term's lowest bit
    toggled: dict[str, int] = field(default_factory=dict)  #: bits that changed, by register
    steps: dict[str, int] = field(default_factory=dict)  #: how many times those registers were written
    inner: Events | None = None  #: of a ``blocked`` order's inner accumulator

    @property
    def largest(self) -> float:
        """The largest magnitude that the accumulator held, infinities apart."""
        return max(self.highest, -self.lowest)

    @property
    def toggles(self) -> dict[str, float]:
        """Mean bits that change per step, by register."""
        return {name: self.toggled[name] / n for name, n in self.steps.items() if n}

    def __add__(self, other: Events) -> Events:
        """The events of both."""
        if not isinstance(other, Events):
            return NotImplemented
        merged = {f.name: _merged(f, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Events(**merged)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, in a fixed order; shifts are keyed by text."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        shifts = {str(shift): n for shift, n in self.shifts.items()}
        inner = self.inner.as_dict() if self.inner else None
        return found | {"shifts": shifts, "largest": self.largest, "toggles": self.toggles, "inner": inner}


def _merged(f: Any, x: Any, y: Any) -> Any:
    if x is None or y is None:
        return y if x is None else x
    if isinstance(x, dict):
        return {key: x.get(key, 0) + y.get(key, 0) for key in sorted(x | y)}
    return f.metadata["merge"](x, y) if "merge" in f.metadata else x + y


def minimal_accumulator(datapath: Datapath | str, events: Events, level: int = 0) -> FloatFormat | FixedFormat:
    """The smallest accumulator format that the events prove to have held the same numbers in the same calls.

    Of the accumulator's kind, with its suffixes. Float: first the fewest trailing bits, then the fewest exponent bits,
    with the default bias. Fixed point: the fewest fraction bits, then the fewest integer bits, neither negative. If
    something was rounded, trailing or fraction bits stay; if something saturated or wrapped, all stays.

    Parameters
    ----------
    datapath : the one that the events are of. level : 0, or 1 for the inner accumulator of a ``blocked`` order.
    """
    datapath = Datapath.parse(datapath)
    held = datapath.accumulators
    seen = events.inner if level == 1 else events
    if level not in range(len(held)) or seen is None:
        raise HalfulpError(f"minimal_accumulator: {datapath.name} has no accumulator of level {level}.")
    fmt, order = held[level][0], datapath.inner_order
    if seen.saturation or seen.wrapped:
        return fmt  # type: ignore[return-value]
    guard_bits = order.guard_bits if isinstance(order, Fused | TwoStage) and level == len(held) - 1 else None
    if isinstance(fmt, FixedFormat):
        return _minimal_fixed(fmt, seen, guard_bits)
    assert isinstance(fmt, FloatFormat)
    for trailing_bits in [fmt.trailing_bits] if seen.inexact else range(fmt.trailing_bits + 1):
        for exponent_bits in range(1, fmt.exponent_bits + 1):
            try:
                smaller = replace(fmt, exponent_bits=exponent_bits, trailing_bits=trailing_bits, bias=None)  # type: ignore[arg-type]
            except HalfulpError:
                continue
            if has_kernels(smaller) and _holds(smaller, seen, guard_bits):
                return smaller
    return fmt


def _holds(fmt: FloatFormat, seen: Events, guard_bits: int | None) -> bool:
    """Whether every sum would have been the same in ``fmt``."""
    if not fmt.min_finite <= seen.lowest <= seen.highest <= fmt.max_finite:
        return False
    if seen.inexact:
        if seen.least_inexact is not None and seen.least_inexact < fmt.emin:
            return False
    elif seen.widest > fmt.precision:
        return False
    if seen.lowest_held is not None and seen.lowest_held < fmt.emin - fmt.trailing_bits:
        return False
    apart = not fmt.subnormals or seen.highest_term is not None  # two stages tell subnormal registers from others
    if apart and seen.least is not None and seen.least < 2.0**fmt.emin:
        return False
    if seen.highest_term is not None and seen.highest_term > fmt.emax:  # an infinity on its own
        return False
    if guard_bits is None or seen.lowest_term is None:
        return True
    kept = fmt.trailing_bits + guard_bits
    return fmt.emin - kept <= seen.lowest_term and (seen.inexact > 0 or seen.reach <= kept)


def _minimal_fixed(fmt: FixedFormat, seen: Events, guard_bits: int | None) -> FixedFormat:
    fraction_bits = fmt.fraction_bits
    if not seen.inexact:
        needed = [] if seen.lowest_held is None else [-seen.lowest_held]
        needed += [] if guard_bits is None or seen.lowest_term is None else [-seen.lowest_term - guard_bits]
        fraction_bits = min(max(0, *needed) if needed else 0, fmt.fraction_bits)
    for integer_bits in range(max(0, 1 - fraction_bits), fmt.integer_bits):
        smaller = replace(fmt, integer_bits=integer_bits, fraction_bits=fraction_bits)
        if smaller.min_finite <= seen.lowest and seen.highest <= smaller.max_finite:
            return smaller
    return replace(fmt, fraction_bits=fraction_bits)
