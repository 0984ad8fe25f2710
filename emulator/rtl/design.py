"""Designs: RTL of a unit by name, with what a user needs to take it on: header, vectors' ports, test bench."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from ..datapath import Datapath
from ..errors import HalfulpError
from ..functions import Function, function
from ..rounding import Rounding
from .testbench import Port, bench, lines


class Design(NamedTuple):
    """A unit as Verilog."""

    name: str  #: of the top module
    subject: Function | Datapath  #: what it computes
    verilog: str
    ports: tuple[Port, ...]  #: all but ``clk``, in the module's order
    latency: int  #: clocks from operands to result; 0: combinational

    def files(self, columns: dict[str, Sequence[int] | np.ndarray]) -> dict[str, str]:
        """The texts of ``name``.v, its test bench and the vectors that it reads (``kernels.stimulus``)."""
        count = len(next(iter(columns.values())))
        return {
            f"{self.name}.v": self.verilog,
            f"{self.name}_tb.v": bench(self.name, self.ports, count, self.latency),
            f"{self.name}.vectors": lines(self.ports, columns),
        }


def subject(text: str | Function | Datapath, rounding: Rounding | str = "RNE") -> Function | Datapath:
    """The datapath or function unit that a text names; ``rounding`` is the function unit's."""
    if isinstance(text, (Function, Datapath)):
        return text
    try:
        return Datapath.parse(text)
    except HalfulpError as no_datapath:
        if re.search(r"[/@:*]", text):
            raise
        try:
            return function(text, rounding)
        except HalfulpError as no_function:
            raise HalfulpError(
                f"{text!r} is no datapath ({no_datapath}) and no function unit ({no_function})"
            ) from None


def module_name(what: Function | Datapath) -> str:
    """A name of Verilog for it."""
    text = what.name if isinstance(what, Datapath) else f"{what.name} {what.described}"
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if name[0].isalpha() else f"u_{name}"


def design(
    text: str | Function | Datapath, rounding: Rounding | str = "RNE", flags: bool = False, pipeline: int = 0
) -> Design:
    """The RTL of a datapath's dot-product unit, or of a function unit.

    Parameters
    ----------
    text : a datapath (``fp8_e4m3/fp32:fused16``) or a function unit (``fp16_fma``, ``fp32_to_bf16``).
    rounding : of a function unit; a datapath has its own.
    flags : a function unit hands out the five IEEE flags, too.
    pipeline : ranks of registers (``units.Unit``, ``dot.DotUnit``).

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
    what = subject(text, rounding)
    if isinstance(what, Datapath) and flags:
        raise HalfulpError("flags belong to function units (as fp16_fma); a dot product has none.")
    part = DotUnit(what, pipeline) if isinstance(what, Datapath) else Unit(what, flags, pipeline)
    name = module_name(what)
    outputs = set(map(id, part.outputs))
    ports = tuple(Port(s.name, len(s), id(s) in outputs) for s in part.ports if s is not part.clk)
    verilog = print_verilog(part, name, part.ports, _header(what, name, ports, part.latency))
    return Design(name, what, verilog, ports, part.latency)


_MEANINGS = {
    "clear": "1: a new dot product starts with this clock",
    "fold": "1: after this clock the block's sum goes to the outer accumulator",
    "flags": "invalid, divide by zero, overflow, underflow, inexact, from the first bit to the last",
    "random": "random bits of the rounding",
    "random_product": "random bits of the products' roundings, the first product's lowest",
    "random_accumulator": "random bits of the accumulator's roundings, the first one's lowest",
    "random_sum": "random bits of the roundings that make the registers a sum",
    "random_output": "random bits of the output's rounding",
}


def _header(what: Function | Datapath, name: str, ports: Sequence[Port], latency: int) -> str:
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
    told += [f"Latency: {latency} clocks, one step a clock." if latency else "Combinational."]
    lines_ = [line for text in told for line in wrap(text, 110)]
    for port in ports:
        fmt = f", of {formats[port.name]}" if port.name in formats else ""
        meaning = (
            meanings.get(port.name)
            or _MEANINGS.get(port.name)
            or ("scales of the blocks" if "scale" in port.name else "operand")
        )
        lines_.append(f"  {'out' if port.output else 'in '} {port.name:<20} {port.bits:>5} bits  {meaning}{fmt}")
    return "".join(f"// {line}\n" for line in lines_) + "\n"
