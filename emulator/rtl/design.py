"""Designs: RTL of a unit by name, with what a user needs to take it on: header, vectors' ports, test bench."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..clocks import ports as ports_of
from ..datapath import Datapath
from ..errors import HalfulpError
from ..functions import Function, function
from ..random import LFSR, source
from ..rounding import Rounding
from .testbench import Port, bench, lines

if TYPE_CHECKING:
    from .dot import DotUnit
    from .units import Unit


#: What is said of a unit without a latency: whether it has a clock none the less.
_UNCLOCKED = {False: "Combinational.", True: "From operands to result in the same clock; the clock steps the LFSR."}


class Design(NamedTuple):
    """A unit as Verilog."""

    name: str  #: of the top module
    subject: Function | Datapath  #: what it computes
    verilog: str
    ports: tuple[Port, ...]  #: all but ``clk``, in the module's order
    latency: int  #: clocks from operands to result; 0: in the same one
    clocked: bool  #: it has a port ``clk``
    random: LFSR | None = None  #: its own, for ``kernels.stimulus``

    def files(self, columns: dict[str, Sequence[int] | np.ndarray]) -> dict[str, str]:
        """The texts of ``name``.v, its test bench and the vectors that it reads (``kernels.stimulus``)."""
        count = len(next(iter(columns.values())))
        return {
            f"{self.name}.v": self.verilog,
            f"{self.name}_tb.v": bench(self.name, self.ports, count, self.latency, self.clocked),
            f"{self.name}.vectors": lines(self.ports, columns),
        }


def subject(text: str | Function | Datapath, rounding: Rounding | str = "RNE") -> Function | Datapath:
    """The datapath or function unit that a text names; ``rounding`` is the function unit's."""
    if isinstance(text, (Function, Datapath)):
        return text
    if not isinstance(text, str):
        raise HalfulpError(f"a unit is a datapath, a function unit, or the name of one, not {text!r}.")
    try:
        return Datapath.parse(text)
    except HalfulpError:
        if re.search(r"[/@:*]", text) or "_" not in text:
            raise
        return function(text, rounding)


def module_name(what: Function | Datapath, *further: object) -> str:
    """A name of Verilog for it, and for what else tells it apart."""
    text = what.name if isinstance(what, Datapath) else f"{what.name} {what.described}"
    text = " ".join([text, *(str(x) for x in further if x)])
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if name[0].isalpha() else f"u_{name}"


def lfsr_of(what: Function | Datapath, random: LFSR | str | None) -> LFSR | None:
    """The LFSR that a unit is to have."""
    if random is None:
        return None
    name = what.name if isinstance(what, Datapath) else f"{what.name} {what.described}"
    found = source(random)
    if not isinstance(found, LFSR):
        raise HalfulpError(f"there is no RTL of {found}: a unit's own random bits come from an LFSR, as lfsr16.")
    bits = sum(ports_of(what).values()) if isinstance(what, Datapath) else what.random_bits
    if not bits:
        raise HalfulpError(f"{name} rounds nothing stochastically: it needs no {found}.")
    if bits > found.width:
        raise HalfulpError(f"{name} draws {bits} random bits a clock, more than the {found.width} of {found}.")
    return found


def design(
    text: str | Function | Datapath,
    rounding: Rounding | str | None = None,
    flags: bool = False,
    pipeline: int = 0,
    random: LFSR | str | None = None,
    eager: bool = False,
) -> Design:
    """The RTL of a datapath's dot-product unit, or of a function unit.

    Parameters
    ----------
    text : a datapath (``fp8_e4m3/fp32:fused16``) or a function unit (``fp16_fma``, ``fp32_to_bf16``).
    rounding : of a function unit, RNE unless told; a datapath has its own.
    flags : a function unit hands out the five IEEE flags, too.
    pipeline : ranks of registers (``units.Unit``, ``dot.DotUnit``).
    random : the unit's own LFSR (``lfsr16``, ``random.LFSR``); None: random bits are inputs. It is stepped at every
        clock, from ``seed`` if ``seed_load`` is 1, and its state is shared by all roundings of a clock
        (``clocks.dealt``).
    eager : stochastic rounding of sums of floats finds its carry beside the addition (``eager``): the same codes,
        sooner.

    Raises
    ------
    HalfulpError
        There is no such unit, or it would be too wide, or Amaranth is not installed.
    """
    try:
        from .dot import DotUnit
        from .units import Unit
        from .verilog import text as print_verilog
    except ModuleNotFoundError as error:
        if error.name != "amaranth":
            raise
        raise HalfulpError("RTL is generated with Amaranth: pip install 'halfulp[hardware]'.") from None
    what = subject(text, "RNE" if rounding is None else rounding)
    if isinstance(what, Datapath) and rounding is not None:
        raise HalfulpError(f"a datapath has its own rounding: write {what.name.split('@')[0]}@{rounding}.")
    if isinstance(what, Datapath) and flags:
        raise HalfulpError("flags belong to function units (as fp16_fma); a dot product has none.")
    lfsr = lfsr_of(what, random)
    part = (
        DotUnit(what, pipeline, lfsr, eager) if isinstance(what, Datapath) else Unit(what, flags, pipeline, lfsr, eager)
    )
    name = module_name(what, lfsr, "eager" * eager, f"pipeline{pipeline}" * (pipeline > 0))
    outputs = set(map(id, part.outputs))
    ports = tuple(Port(s.name, len(s), id(s) in outputs) for s in part.ports if s is not part.clk)
    verilog = print_verilog(part, name, part.ports, _header(what, name, ports, part, lfsr))
    return Design(name, what, verilog, ports, part.latency, part.clocked, lfsr)


_MEANINGS = {
    "a_scale": "scales of a's blocks",
    "b_scale": "scales of b's blocks",
    "clear": "1: a new dot product starts with this clock",
    "fold": "1: after this clock the block's sum goes to the outer accumulator",
    "flags": "invalid, divide by zero, overflow, underflow, inexact, the highest bit first",
    "random": "random bits of the rounding",
    "random_product": "random bits of the products' roundings, the first product's lowest",
    "random_accumulator": "random bits of the accumulator's roundings, the first one's lowest",
    "random_sum": "random bits of the roundings that make the registers a sum",
    "random_output": "random bits of the output's rounding",
    "seed_load": "1: this clock draws its random bits from the seed",
    "seed": "a state of the LFSR, not 0",
}


def _dealing(what: Function | Datapath, lfsr: LFSR) -> str:
    """How the unit's LFSR gives random bits."""
    widths = ports_of(what) if isinstance(what, Datapath) else {"random": what.random_bits}
    parts, low = [], lfsr.width - sum(widths.values())
    for port, bits in widths.items():
        parts.append(f"{_MEANINGS[port]}: bits {low + bits - 1}...{low}")
        low += bits
    return (
        f"Random bits: of its own LFSR, {lfsr.width} bits that are a polynomial over GF(2), bit i the coefficient of"
        f" x^i; each clock multiplies it by x^{lfsr.clocks} modulo {lfsr.polynomial:#x}. A clock with seed_load draws"
        f" from seed, another from the state. {'; '.join(parts)}."
    )


def _header(
    what: Function | Datapath, name: str, ports: Sequence[Port], part: DotUnit | Unit, lfsr: LFSR | None
) -> str:
    """The comment at the top: what it is, its ports and its latency."""
    from ... import __version__

    if isinstance(what, Datapath):
        does = f"the dot-product unit of the datapath {what.name}"
        formats = {"a": what.a, "b": what.b, "code": what.output}
        meanings = {"code": "the dot product so far", "a": "operands, the first lowest", "b": "operands"}
    else:
        does = f"{what.name}, {what.described or 'exact'}"
        formats = dict(zip("abc", what.operands, strict=False)) | {"code": what.result}
        meanings = {"code": "the result"}
    told = [f"{name}: {does}. Generated by halfulp {__version__}; equal to its emulator code for code."]
    n = part.latency
    told += [f"Latency: {n} clock{'s' * (n > 1)}; takes one step a clock." if n else _UNCLOCKED[part.clocked]]
    told += ["Stochastic rounding is eager: its carry is found beside the addition."] if part.eager else []
    told += [_dealing(what, lfsr)] if lfsr else []
    lines_ = [line for text in told for line in wrap(text, 110)]
    lines_ += ["  in  clk"] if part.clocked else []
    for port in ports:
        fmt = f", of {formats[port.name]}" if port.name in formats else ""
        meaning = (
            meanings.get(port.name)
            or _MEANINGS.get(port.name)
            or ("scales of the blocks" if "scale" in port.name else "operand")
        )
        lines_.append(f"  {'out' if port.output else 'in '} {port.name:<20} {port.bits:>5} bits  {meaning}{fmt}")
    return "".join(f"// {line}\n" for line in lines_) + "\n"
