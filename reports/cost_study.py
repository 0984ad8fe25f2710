"""What a datapath would cost if one thing about it were different: the numbers behind ``halfulp cost --plot``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..emulator.blocks import BlockFormat
from ..emulator.cost import Cost, cost
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, FloatFormat, PositFormat
from ..emulator.orders import Blocked
from ..emulator.rounding import Rounding
from ..emulator.technology import nodes

MODES = "RTZ RTO RTN RTP RNA RNE SR4 SR8 SR16".split()  # noqa: SIM905

#: Datapaths whose parts are compared.
FORMATS = "fp32 tf32/fp32 bf16/fp32 fp16/fp32 fp8_e4m3/fp32 int16/int48 int8/int32 mxfp8_e4m3/fp32 mxfp4/fp32".split()  # noqa: SIM905

#: Jobs of components (``Cost.components``), in the order in which numbers come through them.
JOBS = {
    "unpack": ("unpack",),
    "multiply": ("multiply", "mul", "scale"),
    "align": ("align",),
    "add": ("add", "sum", "block", "group", "exact", "truncate", "product"),
    "normalise": ("normalise", "leading"),
    "round": ("round",),
    "registers": ("registers",),
    "block's sum": ("block's",),
    "output": ("output",),
}


@dataclass(frozen=True)
class Point:
    """One value of what is different."""

    x: Any
    cost: Cost

    @property
    def area_um2(self) -> float:
        """Per multiply-accumulate a cycle."""
        return self.cost.area_um2 / self.cost.macs_per_cycle

    @property
    def energy_pj(self) -> float:
        return self.cost.energy_pj

    def band(self, quantity: str) -> tuple[float, float]:
        """Low and high estimate, per multiply-accumulate."""
        scale = self.cost.macs_per_cycle if quantity == "area_um2" else 1
        low, high = self.cost.band[quantity]
        return low / scale, high / scale


@dataclass(frozen=True)
class Sweep:
    """Costs of a datapath as one thing about it changes."""

    name: str
    title: str
    x_label: str
    points: tuple[Point, ...]
    here: Any  #: x of the datapath itself, None where it is not among the points


def sweeps(datapath: Datapath, node: str) -> list[Sweep]:
    """Each thing that may be different; those that this datapath does not have are left out."""
    found = [*_operands(datapath, node), _accumulator(datapath, node), *_roundings(datapath, node)]
    points = [Point(other, cost(datapath, other)) for other in nodes()]
    found.append(Sweep("node", "Technology node", "node, nm", tuple(points), node))
    return [sweep for sweep in found if len(sweep.points) > 1]


def breakdown(datapath: Datapath, node: str) -> list[Point]:
    """The datapath, and common ones, as far as a library of the user's can price them."""
    points = [Point(datapath.name, cost(datapath, node))]
    for text in FORMATS:
        with suppress(HalfulpError):
            points += [Point(text, cost(text, node))] if Datapath.parse(text) != datapath else []
    return points


def jobs(price: Cost, quantity: str) -> dict[str, float]:
    """Area or energy per multiply-accumulate, by job."""
    found = dict.fromkeys(JOBS, 0.0)
    scale = price.macs_per_cycle if quantity == "area_um2" else 1
    for part in price.components:
        word = part.name.split()[0]
        found[next(job for job, words in JOBS.items() if word in words)] += getattr(part, quantity) / scale
    return found


# ---- what is different


def _sweep(
    name: str,
    title: str,
    x_label: str,
    xs: Iterable[Any],
    change: Callable[[Any], Datapath],
    datapath: Datapath,
    node: str,
) -> Sweep:
    points, here = [], None
    for x in xs:
        try:
            changed = change(x)
            points.append(Point(x, cost(changed, node)))
        except HalfulpError:  # there is no such format, or no such unit
            continue
        here = x if changed == datapath else here
    return Sweep(name, title, x_label, tuple(points), here)


def _operands(datapath: Datapath, node: str) -> list[Sweep]:
    formats = [fmt.element if isinstance(fmt, BlockFormat) else fmt for fmt in (datapath.a, datapath.b)]
    whose = "of the blocks' elements" if isinstance(datapath.a, BlockFormat) else "of the operands"
    found = []

    def changed(change: Callable[[Any, Any], Any]) -> Callable[[Any], Datapath]:
        def of(fmt: Any, x: Any) -> Any:
            if isinstance(fmt, BlockFormat):
                return replace(fmt, element=change(fmt.element, x))
            return change(fmt, x)

        return lambda x: replace(datapath, a=of(datapath.a, x), b=of(datapath.b, x))

    if all(isinstance(fmt, FloatFormat) for fmt in formats):
        title, label = f"Exponent width {whose}", "exponent, bits"
        found.append(_sweep("exponent", title, label, range(2, 9), changed(_exponent), datapath, node))
        title, label = f"Significand width {whose}", "significand p, bits, the hidden one included"
        found.append(_sweep("significand", title, label, range(2, 25), changed(_significand), datapath, node))
    elif all(isinstance(fmt, (FixedFormat, PositFormat)) for fmt in formats):
        title, label = f"Word length {whose}", "word length, bits"
        most = max(16, *(fmt.bits for fmt in formats))
        found.append(_sweep("word", title, label, range(2, most + 1), changed(_word), datapath, node))
    return found


def _exponent(fmt: FloatFormat, bits: int) -> FloatFormat:
    return fmt if fmt.exponent_bits == bits else replace(fmt, exponent_bits=bits, bias=None)  # type: ignore[arg-type]


def _significand(fmt: FloatFormat, precision: int) -> FloatFormat:
    return replace(fmt, trailing_bits=precision - 1)


def _word(fmt: FixedFormat | PositFormat, bits: int) -> FixedFormat | PositFormat:
    """Fixed point loses or gains fraction bits, integers integer bits."""
    if isinstance(fmt, PositFormat):
        return replace(fmt, bits=bits)
    if fmt.fraction_bits:
        return replace(fmt, fraction_bits=bits - fmt.integer_bits)
    return replace(fmt, integer_bits=bits)


def _accumulator(datapath: Datapath, node: str) -> Sweep:
    """Of blocked orders the inner one."""
    fmt = datapath.accumulators[-1][0]
    assert isinstance(fmt, (FloatFormat, FixedFormat))

    def change(bits: int) -> Datapath:
        if isinstance(fmt, FloatFormat):
            changed: Any = _significand(fmt, bits)
        else:
            changed = replace(fmt, integer_bits=bits - fmt.fraction_bits)
        if isinstance(datapath.order, Blocked):
            return replace(datapath, order=replace(datapath.order, accumulator=changed))
        return replace(datapath, accumulator=changed, output=changed if datapath.output == fmt else datapath.output)

    inner = "Inner a" if isinstance(datapath.order, Blocked) else "A"
    if isinstance(fmt, FloatFormat):
        xs, label = range(4, max(24, fmt.precision) + 1), "accumulator's significand p, bits"
    else:
        xs, label = range(max(8, fmt.fraction_bits + 1), max(48, fmt.bits) + 1), "accumulator's word length, bits"
    return _sweep("accumulator", f"{inner}ccumulator width", label, xs, change, datapath, node)


def _roundings(datapath: Datapath, node: str) -> list[Sweep]:
    """Of the accumulator that products are added to (and of an output that is rounded alike); of the output, where
    sums of fixed point lose nothing."""
    accumulator, own = datapath.accumulators[-1]
    fixed = [fmt for fmt in (datapath.a, datapath.b, accumulator) if isinstance(fmt, FixedFormat)]
    exact = (
        len(fixed) == 3
        and datapath.product is None
        and fixed[2].fraction_bits >= sum(f.fraction_bits for f in fixed[:2])
    )
    of_output = exact and datapath.output != datapath.accumulator

    def change(mode: Any) -> Datapath:
        how = Rounding.parse(mode if isinstance(mode, str) else f"SR{mode}")
        if of_output:
            return replace(datapath, output_rounding=how)
        if isinstance(datapath.order, Blocked):
            return replace(datapath, order=replace(datapath.order, rounding=how))
        same = datapath.output_rounding == datapath.rounding
        return replace(datapath, rounding=how, output_rounding=how if same else datapath.output_rounding)

    own = datapath.output_rounding if of_output else own
    modes = [*MODES, *([str(own)] if str(own) not in MODES else [])]
    what = "of the output" if of_output else "of the accumulator"
    title = f"Random bits of stochastic rounding {what}"
    return [
        _sweep("rounding", f"Rounding {what}", "rounding", modes, change, datapath, node),
        _sweep("random_bits", title, "random bits k", range(1, 17), change, datapath, node),
    ]
