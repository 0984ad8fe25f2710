"""Binding: a datapath bound to a backend, a seed and a ledger, and what calls on it have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..emulator.blocks import BlockFormat, Blocks
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.formats import FixedFormat, Format, PositFormat
from ..emulator.ledger import Ledger, Operation, dot_operations
from ..emulator.random import Role, Source, source, stream
from ..emulator.rounding import RNE, Rounding
from .backends import backend as make_backend
from .capture import Capture
from .compute import compute, convert
from .contraction import plan
from .events import Events
from .observation import observe
from .operands import Entrance, Operand, shape_of
from .paths import FP64, ONE, Op, convert_path, lone_path, mac_path
from .products import Draw, multiply, way_of
from .quantize import quantize
from .structs import Draws
from .target import draws, fits_binary32, target, target32

_NAMES = {Role.A: "the first operand", Role.B: "the second operand", Role.C: "the addend"}


class Binding:
    """A datapath bound to a backend, a seed and a ledger: what all calls of a ``Machine``, its parameters, share."""

    def __init__(
        self,
        datapath: Datapath | str,
        backend: str = "cpu",
        seed: int = 0,
        ledger: Ledger | None = None,
        threads: int | None = None,
        unit: int = 0,
        random: Source | str = "philox",
        on_inexact: str = "error",
        on_nonfinite: str = "allow",
    ) -> None:
        if on_inexact not in ("error", "quantize"):
            raise HalfulpError(f"on_inexact is 'error' or 'quantize', not {on_inexact!r}.")
        if on_nonfinite not in ("allow", "error"):
            raise HalfulpError(f"on_nonfinite is 'allow' or 'error', not {on_nonfinite!r}.")
        self.on_inexact, self.on_nonfinite = on_inexact, on_nonfinite
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 62:
            raise HalfulpError(f"seed must be an integer in [0, 2**62), not {seed}.")
        if not isinstance(unit, (int, np.integer)) or not 0 <= unit < 16:
            raise HalfulpError(f"unit must lie in 0...15, not {unit}.")
        self.datapath = dp = Datapath.parse(datapath)
        self.backend = make_backend(backend, threads)
        self.seed = int(seed)
        self.unit = unit
        self.source = source(random)
        if not isinstance(ledger, Ledger | None):
            raise HalfulpError(f"ledger must be a halfulp.Ledger, or left out, not {ledger!r}.")
        self.ledger = Ledger() if ledger is None else ledger
        self.calls = 0
        self._captures: list[Capture] = []
        self._dots: dict[int, Mapping[Operation, int]] = {}  #: what a dot product of a length takes
        for fmt in (dp.accumulator, dp.output, dp.product or dp.output):
            target(fmt, RNE)  # refuses what arrays cannot carry
        for operand in (dp.a, dp.b):
            if not isinstance(operand, (BlockFormat, PositFormat)):
                target(operand, RNE)
        plan(dp, 1, False)  # refuses what kernels cannot add
        self._target, self._path = target(dp.output, dp.output_rounding), convert_path(dp.output, dp.output_rounding)
        self._narrow = target32(dp.output, dp.output_rounding, False)  #: None: binary32 will not do
        for rounding in (dp.rounding, dp.output_rounding, dp.operand_rounding, dp.product_rounding):
            if rounding is not None and rounding.random_bits:
                self.source.random_bits(self.seed, 0, 0, 0, rounding.random_bits)  # refuses more than it has

    def __repr__(self) -> str:
        return f"Machine({self.datapath.name!r}, backend={self.backend.name!r}, seed={self.seed})"

    @property
    def one(self) -> float:
        """1 as the first operand's format has it: what a bias is the weight of."""
        return _one(self.datapath)

    @contextmanager
    def capture(self, n_dots: int = 64, seed: int = 0) -> Iterator[Capture]:
        """A fair sample of the dot products computed meanwhile, for measuring hardware on their very operands.

        ``with machine.capture(64) as sample: ...`` and then ``sample.save("run.npz")`` (``kernels.capture``). Products
        of matrices, convolutions and sparse products are sampled, each dot product alike likely.
        """
        sample = Capture(self.datapath, n_dots, seed)
        self._captures.append(sample)
        try:
            yield sample
        finally:
            self._captures.remove(sample)

    # ---- what a call is made of ------------------------------------------------------------------------------

    def _open(self, operation: str) -> None:
        """Open a call: it owns the random streams of its number."""
        self.calls += 1
        self._operation = operation

    def _draws(self, role: Role) -> Draws:
        return draws(self.source, self.seed, stream(self.calls, role, self.unit))

    def _draw(self) -> Draw:
        return Draw(self._draws(Role.ACCUMULATOR), self._draws(Role.PRODUCT))

    def _entrance(self) -> Entrance:
        quantizes, refuses = self.on_inexact == "quantize", self.on_nonfinite == "error"
        return Entrance(self.backend, quantizes, refuses, self.datapath.operand_rounding)

    def _hand_out(self, out: Any, fmt: Format, held: bool, *inputs: Any) -> Any:
        """A result: as an Operand, if it is to be held; else where the inputs are."""
        if held:
            return Operand(out, fmt, None)
        given = (x.values if isinstance(x, Operand) else x for x in inputs)
        return out if any(self.backend.is_native(x) for x in given) else self.backend.to_host(out)

    def _operand(self, x: ArrayLike, fmt: Format | BlockFormat, role: Role) -> Any:
        if isinstance(fmt, BlockFormat):
            raise HalfulpError(f"{self._operation} works on single numbers; {fmt} is a block format.")
        return self._entrance().enter(x, fmt, _NAMES[role], self._draws(role)).values

    def _convert(self, array: Any, fmt: Format, rounding: Rounding, role: Role) -> Any:
        if fmt == FP64:
            return array.astype(np.float64)
        kind, drawn = self._kind(fmt, array), self._draws(role)
        given, out = self.backend.array(array, kind).reshape(-1), self.backend.xp.empty(array.size, kind)
        narrow = target32(fmt, rounding, False) if kind is np.float32 else None
        if narrow:
            convert(self.backend, given, narrow, drawn, out)
        else:
            t, path = target(fmt, rounding), convert_path(fmt, rounding)
            compute(self.backend, Op.CONVERT, (given,), t, path, drawn, out)
        return out.reshape(array.shape)

    def _elementwise(
        self,
        op: Op,
        operands: tuple[Any, ...],
        formats: tuple[Format, Format, Format],
        into: tuple[Format, Rounding, Role] | None = None,
    ) -> Any:
        """``op`` on broadcast operands; ``formats`` are those of its a * b + c. ``into``: of its results, how they are
        rounded and with which random bits; None: the output's."""
        dp, xp = self.datapath, self.backend.xp
        fmt, rounding, role = into or (dp.output, dp.output_rounding, Role.OUTPUT)
        try:
            shape = np.broadcast_shapes(*(v.shape for v in operands))
        except ValueError:
            shapes = [str(v.shape) for v in operands]
            shown = f"{', '.join(shapes[:-1])} and {shapes[-1]}"
            raise HalfulpError(f"shapes {shown} do not broadcast together.") from None
        kind = self._kind(fmt, *([v for v in operands if v.ndim] or operands))
        kind = kind if all(map(fits_binary32, formats)) else np.float64  # plain numbers take the arrays' type
        direct = op is Op.FMA and self.backend.name == "cpu"  # takes a second factor of float32, a gradient, as it is
        kinds = [_common(v, v) if direct and v.ndim and i == 1 else kind for i, v in enumerate(operands)]
        operands = tuple(map(self.backend.array, operands, kinds))
        t = self._target if into is None else target(fmt, rounding)
        path = lone_path(*formats, fmt, rounding)
        spread = math.prod(shape) > 1
        flat = tuple(
            (v if v.shape == shape or (spread and v.size == 1) else xp.array(xp.broadcast_to(v, shape))).reshape(-1)
            for v in operands
        )
        out = xp.empty(math.prod(shape), kind)
        return compute(self.backend, op, flat, t, path, self._draws(role), out).reshape(shape)

    def _matrices(self, a: ArrayLike | Blocks, b: ArrayLike | Blocks) -> tuple[Operand, Operand]:
        """The operands of a product of matrices, or of stacks of them, in their formats."""
        first, second = shape_of(a), shape_of(b)
        fit = len(first) == len(second) in (2, 3) and first[:-2] == second[:-2] and first[-1] == second[-2]
        if not fit:
            raise HalfulpError(
                f"matmul needs shapes (M, K) and (K, N), not {first} and {second}; or stacks of as many such matrices."
            )
        entrance, dp = self._entrance(), self.datapath
        x = entrance.enter(a, dp.a, "A", self._draws(Role.A), -1)
        return x, entrance.enter(b, dp.b, "B", self._draws(Role.B), len(second) - 2)

    def _product(
        self, x: Operand, y: Operand, dp: Datapath, observed: bool = False, held: bool = False
    ) -> tuple[Any, Events | None]:
        """x y in the output format, flat; and the events, if it is observed. What is held takes the less memory, in
        fixed point that is rounded from sums: to write it takes as long as to round it."""
        if x.values.ndim > 2 and self.backend.name == "cpu":
            _ = x.largest(self.backend), y.largest(self.backend)  # once for all of a stack
        pairs, outer = list(zip(x.matrices(), y.matrices(), strict=True)), x.outer * y.outer
        each = x.values.shape[-2] * y.values.shape[-1]
        compact = held and isinstance(dp.output, FixedFormat) and dp.output != dp.accumulator
        size, kind = len(pairs) * each, self._kind(dp.output, x.values, y.values, compact=compact)
        out = self.backend.xp.empty(size, kind)
        if observed:
            if len(pairs) > 1:
                raise HalfulpError("observe takes two matrices, no stacks of them.")
            sums = self.backend.scratch("sums", size)
            events = observe(dp, *pairs[0], sums, self.backend, self._draw())
            return self._finish(sums, out, outer), events
        ways = [way_of(dp, left, right, self.backend) for left, right in pairs]
        wide = np.float64 if any(way.sums == np.float64 for way in ways) else np.float32
        direct = dp.output == dp.accumulator or out.dtype == wide == np.float64
        sums = out if direct else self.backend.scratch("sums", size, wide)

        def finish(part: Any, place: int) -> None:
            if dp.output.has_negative_zero:
                part += 0.0
            self._finish(part, out[place : place + part.size], alone=True, first=place)

        finished, by_parts = False, dp.output != dp.accumulator and outer == 1.0 and len(pairs) == 1
        for i, (way, (left, right)) in enumerate(zip(ways, pairs, strict=True)):
            self.ledger.ways[way.name] += left.values.size * right.values.shape[1]
            given = finish if by_parts else None
            finished = multiply(dp, left, right, sums, self.backend, self._draw(), way, first=i * each, finish=given)
        if not finished:
            self._finish(sums, out, outer)
        return out, None

    def _finish(self, sums: Any, out: Any, outer: float = 1.0, alone: bool = False, first: int = 0) -> Any:
        """Accumulators, of the results from ``first`` on -> outputs: times the tensor scales, rounded once."""
        dp, operands = self.datapath, [self.backend.array(sums, _common(sums, out))]
        path, how = self._path, Op.CONVERT
        if outer != 1.0:
            operands.append(self.backend.array([outer]))
            path, how = mac_path(dp.accumulator, FP64, ONE, dp.output, dp.output_rounding), Op.MUL
        elif dp.output == dp.accumulator:
            if out is not sums:
                out[...] = sums
            return out
        drawn = self._draws(Role.OUTPUT)
        if how is Op.CONVERT and self._narrow and operands[0].dtype == out.dtype == np.float32:
            return convert(self.backend, operands[0], self._narrow, drawn, out, alone=alone, first=first)
        return compute(self.backend, how, operands, self._target, path, drawn, out, alone=alone, first=first)

    def _room(self, sums: Any, *operands: Any) -> Any:
        """An array for the outputs: that of the sums, if it is of their type."""
        kind = self._kind(self.datapath.output, *operands)
        return sums if kind is np.float64 else self.backend.xp.empty(sums.size, kind)

    def _kind(self, fmt: Format, *operands: Any, compact: bool = False) -> Any:
        """The type of results in a format: float32 if all operands are, or they are ``compact``, and it holds them."""
        single = compact or all(x.dtype == np.float32 for x in operands)
        return np.float32 if single and fits_binary32(fmt) and self.backend.name == "cpu" else np.float64

    def _offer(self, count: int, operands: Callable[[int], tuple[Any, Any]]) -> None:
        """Lets captures choose among the dot products of a call."""
        for capture in self._captures:
            capture.offer(count, lambda i: tuple(map(self.backend.to_host, operands(i))))  # type: ignore[arg-type,return-value]

    def _count_dots(self, dots: int, length: int) -> None:
        if length not in self._dots:
            self._dots[length] = dot_operations(self.datapath, length)
        for operation, times in self._dots[length].items():
            self.ledger.count(operation, dots * times)

    def _move(self, x: Operand, y: Operand, results: int) -> None:
        self.ledger.move(sum(bits_of(v.fmt, v.values.size) for v in (x, y)) + bits_of(self.datapath.output, results))


@lru_cache(maxsize=256)
def _one(datapath: Datapath) -> float:
    return float(quantize(1.0, datapath.a, datapath.operand_rounding))


def _common(given: Any, out: Any) -> type:
    """The type in which numbers are handed to a kernel: as they are, unless its results are wider."""
    return np.float32 if given.dtype == out.dtype == np.float32 else np.float64


def bits_of(fmt: Format | BlockFormat, size: int) -> int:
    """Bits that so many numbers of a format take, shares of scales rounded up."""
    return math.ceil(size * fmt.bits_per_element) if isinstance(fmt, BlockFormat) else size * fmt.bits
