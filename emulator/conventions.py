"""Conventions: what IEEE 754 leaves to the implementation, or what implementations do beside it."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import HalfulpError
from .formats import FloatFormat, Format, Kind, Unpacked


@dataclass(frozen=True)
class Conventions:
    """How an arithmetic treats NaNs and tiny numbers.

    ``nan="canonical"``: every NaN result is the destination's canonical NaN, positive and quiet (RISC-V unprivileged
    ISA, section "NaN Generation and Propagation"). ``nan="x86"``: the result is the first operand that is a NaN,
    made quiet, with its sign and the payload bits that fit, counted from the top; an invalid operation on numbers
    gives the negative quiet NaN without payload (Intel SDM vol. 1, section 4.8.3, the SSE and AVX rows).

    ``daz`` and ``ftz`` are the bits of that name in x86's MXCSR. Other hardware flushes with other flags: Arm's FZ
    raises underflow without inexact.
    """

    tininess: str = "after"  #: a result is judged tiny "after" (RISC-V, x86) or "before" (Arm) it is rounded
    nan: str = "canonical"  #: "canonical" or "x86"
    daz: bool = False  #: denormals are zeros: subnormal operands are read as zeros of their sign
    ftz: bool = False  #: flush to zero: a tiny result, exact or not, becomes a zero of its sign, underflow|inexact

    def __post_init__(self) -> None:
        if self.tininess not in ("after", "before"):
            raise HalfulpError(f'tininess is "after" or "before" rounding, not {self.tininess!r}.')
        if self.nan not in ("canonical", "x86"):
            raise HalfulpError(f'the NaN convention is "canonical" or "x86", not {self.nan!r}.')

    @classmethod
    def parse(cls, conventions: str | Conventions) -> Conventions:
        """The conventions of a name, riscv, x86 or arm; conventions as they are."""
        if isinstance(conventions, Conventions):
            return conventions
        if not isinstance(conventions, str) or conventions.lower() not in NAMED:
            raise HalfulpError(f"conventions are {', '.join(NAMED)}, or a halfulp.Conventions, not {conventions!r}.")
        return NAMED[conventions.lower()]

    def operand(self, fmt: Format, code: int) -> Unpacked:
        """The datum that an operation reads from ``code``, an int in [0, 2**bits) of ``fmt``."""
        datum = fmt.unpack(code)
        if not self.daz or not isinstance(fmt, FloatFormat) or datum.kind is not Kind.FINITE:
            return datum
        subnormal = datum.significand.bit_length() - 1 + datum.exponent < fmt.emin
        return Unpacked(Kind.FINITE, datum.negative and fmt.has_negative_zero) if subnormal else datum


RISCV = Conventions()
X86 = Conventions(nan="x86")
#: Arm with FPCR.DN set, where NaN results are canonical; but for its conversions of NaNs to integers, which give 0.
ARM = Conventions(tininess="before")
NAMED = {"riscv": RISCV, "x86": X86, "arm": ARM}
