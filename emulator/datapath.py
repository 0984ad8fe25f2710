"""Datapath: operand formats, product, order, accumulator, output; and the definition of its dot product."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from . import names
from .arithmetic import INVALID_NAN, exact_product, exact_sum, round_pack
from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Kind, Unpacked
from .random import Role
from .rounding import RNE, Rounding


@dataclass(frozen=True)
class Sequential:
    """One multiply-accumulate unit: the accumulator is rounded after every term, k = 0, 1, 2, ..."""

    def __str__(self) -> str:
        return "sequential"


@dataclass(frozen=True)
class Fused:
    """A fused n-term unit, the tensor-core model (Fasi et al. 2021, doi:10.7717/peerj-cs.330).

    The n exact products of a step and the accumulator are aligned to the largest exponent among them, cut off
    (toward zero) below ``guard_bits`` bits under the accumulator's last place at that exponent, summed exactly,
    then normalised and rounded once into the accumulator. The exponent of a product is the sum of its operands'
    exponents, unnormalised. A fixed-point accumulator has its own fixed last place. A sum that cancels is +0.
    """

    terms: int
    guard_bits: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.terms <= 4096 or not 0 <= self.guard_bits <= 32:
            raise HalfulpError(
                f"fused({self.terms}, guard_bits={self.guard_bits}): terms must lie in 1...4096, guard_bits in 0...32."
            )

    def __str__(self) -> str:
        return f"fused({self.terms}, guard_bits={self.guard_bits})"


Order = Sequential | Fused
sequential = Sequential()


def fused(terms: int, guard_bits: int = 0) -> Fused:
    """The order of a fused unit with ``terms`` products a step."""
    return Fused(terms, guard_bits)


_GRAMMAR = re.compile(
    r"(?P<a>[^/@*:]+)(\*(?P<b>[^/@*:]+))?(/(?P<accumulator>[^/@*:]+))?(/(?P<output>[^/@*:]+))?"
    r"(@(?P<rounding>[^/@*:]+)(/(?P<output_rounding>[^/@*:]+))?)?"
    r"(:fused(?P<terms>\d+)(g(?P<guard>\d+))?)?"
    r"(:product=(?P<product>[^/@*:]+)(@(?P<product_rounding>[^/@*:]+))?)?"
    r"(:operands=(?P<operand_rounding>[^/@*:]+))?"
)


@dataclass(frozen=True)
class Datapath:
    """A multiply-accumulate datapath, described once.

    Names are accepted wherever a Format or a Rounding stands. Left out: ``b`` is ``a``, ``accumulator`` is ``a``,
    ``output`` is ``accumulator``, ``output_rounding`` is ``rounding``.

    Element-wise operations use the same parts: operands enter through ``a`` and ``b`` (the addend of fma through
    ``accumulator``) and the exact result is rounded once into ``output`` with ``output_rounding``.
    """

    a: Format  #: format of the first operand
    b: Format = None  # type: ignore[assignment]  #: format of the second operand
    accumulator: Format = None  # type: ignore[assignment]
    rounding: Rounding = RNE  #: of the accumulator
    product: Format | None = None  #: None: exact, i.e. a fused multiply-add
    product_rounding: Rounding = RNE
    order: Order = sequential
    output: Format = None  # type: ignore[assignment]
    output_rounding: Rounding = None  # type: ignore[assignment]
    operand_rounding: Rounding = RNE  #: with which values enter ``a`` and ``b``

    def __post_init__(self) -> None:
        def fill(name: str, parse: Callable, default: object) -> None:
            value = getattr(self, name)
            object.__setattr__(self, name, parse(default if value is None else value))

        fill("a", names.scalar_format, self.a)
        fill("b", names.scalar_format, self.a)
        fill("accumulator", names.scalar_format, self.a)
        fill("output", names.scalar_format, self.accumulator)
        fill("rounding", Rounding.parse, RNE)
        fill("output_rounding", Rounding.parse, self.rounding)
        fill("product_rounding", Rounding.parse, RNE)
        fill("operand_rounding", Rounding.parse, RNE)
        if self.product is not None:
            fill("product", names.scalar_format, None)
        else:
            object.__setattr__(self, "product_rounding", RNE)  # nothing is rounded there
        for fmt in (self.a, self.b, self.accumulator, self.product or self.output, self.output):
            if not isinstance(fmt, (FloatFormat, FixedFormat)):
                raise HalfulpError(f"a datapath is built of floating-point and fixed-point formats; {fmt} is neither.")
        if not isinstance(self.order, (Sequential, Fused)):
            raise HalfulpError(f"order {self.order!r} is neither sequential nor fused(n, guard_bits=g).")
        if isinstance(self.order, Fused) and self.product is not None:
            raise HalfulpError("a fused order adds exact products: leave product out.")

    @classmethod
    def parse(cls, text: str | Datapath) -> Datapath:
        """A datapath from its text form; ``name`` gives the text back.

        ``OPERANDS[/ACCUMULATOR[/OUTPUT]][@ROUNDING[/OUTPUT_ROUNDING]]`` and then, in this order and each optional,
        ``:fused<n>[g<guard bits>]``, ``:product=FORMAT[@ROUNDING]``, ``:operands=ROUNDING``.

        ``fp16`` is binary16 throughout; ``fp8_e4m3/fp32/bf16@RTZ`` multiplies e4m3, accumulates in fp32 with
        truncation and hands out bf16; ``q4.12/q16.24/q4.12@RNE/SR16`` rounds its output stochastically;
        ``bf16*fp8_e4m3/fp32:fused16g2`` has two operand formats and adds 16 products at a time.
        """
        if isinstance(text, Datapath):
            return text
        match = _GRAMMAR.fullmatch(str(text).strip())
        if not match:
            raise HalfulpError(
                f"datapath {text!r} is not OPERANDS[/ACCUMULATOR[/OUTPUT]][@ROUNDING], as in bf16/fp32@RNE."
            )
        part = match.groupdict()
        order = fused(int(part["terms"]), int(part["guard"] or 0)) if part["terms"] else sequential
        return cls(
            part["a"],  # type: ignore[arg-type]
            part["b"],  # type: ignore[arg-type]
            part["accumulator"],  # type: ignore[arg-type]
            part["rounding"] or RNE,  # type: ignore[arg-type]
            part["product"],  # type: ignore[arg-type]
            part["product_rounding"] or RNE,  # type: ignore[arg-type]
            order,
            part["output"],  # type: ignore[arg-type]
            part["output_rounding"],  # type: ignore[arg-type]
            part["operand_rounding"] or RNE,  # type: ignore[arg-type]
        )

    @property
    def name(self) -> str:
        """The text form, with aliases: ``Datapath.parse(dp.name) == dp``."""
        text = names.alias(self.a) + ("" if self.b == self.a else f"*{names.alias(self.b)}")
        if not self.a == self.accumulator == self.output:
            text += f"/{names.alias(self.accumulator)}"
        if self.output != self.accumulator:
            text += f"/{names.alias(self.output)}"
        text += f"@{self.rounding}" + ("" if self.output_rounding == self.rounding else f"/{self.output_rounding}")
        if isinstance(self.order, Fused):
            text += f":fused{self.order.terms}" + (f"g{self.order.guard_bits}" if self.order.guard_bits else "")
        if self.product is not None:
            text += f":product={names.alias(self.product)}@{self.product_rounding}"
        return text + ("" if self.operand_rounding == RNE else f":operands={self.operand_rounding}")

    def describe(self) -> dict[str, str | None]:
        """Every field as text, for records."""
        return {f.name: None if getattr(self, f.name) is None else str(getattr(self, f.name)) for f in fields(self)}


def exponent_of(datum: Unpacked, fmt: Format) -> int:
    """The exponent field's meaning for a finite non-zero datum of ``fmt``: floor(log2|x|), at least emin."""
    return max(datum.significand.bit_length() - 1 + datum.exponent, fmt.emin)


def dot(
    datapath: Datapath, a: Sequence[int], b: Sequence[int], random: Callable[[Role, int], int] = lambda role, step: 0
) -> int:
    """The definition of the datapath's dot product.

    Parameters
    ----------
    a, b : codes in ``datapath.a`` and ``datapath.b``, K each.
    random : gives the random integer for (role, step); asked only where a rounding is stochastic.

    Returns
    -------
    The code of the result in ``datapath.output``. The accumulator starts at +0.
    """
    draw = lambda rounding, role, step: random(role, step) if rounding.random_bits else 0  # noqa: E731
    total = Unpacked(Kind.FINITE)
    x, y = [datapath.a.unpack(c) for c in a], [datapath.b.unpack(c) for c in b]
    chunk = datapath.order.terms if isinstance(datapath.order, Fused) else 1
    for start in range(0, len(x), chunk):
        step = start // chunk
        terms = list(zip(x[start : start + chunk], y[start : start + chunk], strict=True))
        if isinstance(datapath.order, Fused):
            summed = _aligned_sum(datapath, terms, total)
        else:
            product = exact_product(*terms[0])
            if datapath.product is not None:
                rounded = round_pack(
                    product,
                    datapath.product,
                    datapath.product_rounding,
                    draw(datapath.product_rounding, Role.PRODUCT, step),
                )
                product = datapath.product.unpack(rounded.code)
            summed = exact_sum(product, total, datapath.rounding)
        code = round_pack(
            summed, datapath.accumulator, datapath.rounding, draw(datapath.rounding, Role.ACCUMULATOR, step)
        ).code
        total = datapath.accumulator.unpack(code)
    return round_pack(
        total, datapath.output, datapath.output_rounding, draw(datapath.output_rounding, Role.OUTPUT, 0)
    ).code


def _aligned_sum(datapath: Datapath, pairs: Sequence[tuple[Unpacked, Unpacked]], total: Unpacked) -> Unpacked:
    """The exact sum of one step's products and the accumulator after alignment (see ``Fused``)."""
    terms = [exact_product(x, y) for x, y in pairs] + [total]
    if any(term.kind is Kind.NAN for term in terms):
        return Unpacked(Kind.NAN)
    infinities = {term.negative for term in terms if term.kind is Kind.INFINITY}
    if infinities:
        return INVALID_NAN if len(infinities) == 2 else Unpacked(Kind.INFINITY, infinities.pop())
    exponents = [
        exponent_of(x, datapath.a) + exponent_of(y, datapath.b) for x, y in pairs if not (x.is_zero or y.is_zero)
    ]
    if not total.is_zero:
        exponents.append(exponent_of(total, datapath.accumulator))
    if not exponents:
        return Unpacked(Kind.FINITE)
    quantum = alignment_quantum(datapath, max(exponents))
    cut = [(-1 if t.negative else 1) * _truncated(t, quantum) for t in terms]
    return Unpacked(Kind.FINITE, sum(cut) < 0, abs(sum(cut)), quantum)


def alignment_quantum(datapath: Datapath, largest_exponent: int) -> int:
    """Exponent of the last weight that a fused unit keeps."""
    assert isinstance(datapath.order, Fused)
    accumulator = datapath.accumulator
    if isinstance(accumulator, FixedFormat):
        return accumulator.quantum_exponent - datapath.order.guard_bits
    assert isinstance(accumulator, FloatFormat)
    return largest_exponent - accumulator.trailing_bits - datapath.order.guard_bits


def _truncated(datum: Unpacked, quantum: int) -> int:
    shift = quantum - datum.exponent
    return datum.significand >> shift if shift > 0 else datum.significand << -shift
