"""Stimulus for hardware: operand codes, clock by clock, and the codes that must come out, by the kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..emulator.blocks import BlockFormat, Blocks
from ..emulator.codec import code_dtype
from ..emulator.datapath import Datapath
from ..emulator.formats import FixedFormat, Format
from ..emulator.functions import Function
from ..emulator.orders import Blocked, Do, Exact, Systolic, lanes, program
from ..emulator.random import Role, random_bits, stream
from .capture import Dot
from .cases import Cases
from .evaluate import evaluate
from .machine import Machine

Columns = dict[str, list[int]]  #: by port, a code for each line


def unit_stimulus(function: Function, number: int | None = None, seed: int = 1) -> Columns:
    """Operands, random bits, code and flags of a function unit, case by case; ``number`` None: a level of cases."""
    cases = Cases(function.operands, function.random_bits, seed=seed, number=number)
    columns = cases.columns(0, cases.total)
    operands = [x.astype(code_dtype(f.bits)) for x, f in zip(columns, function.operands, strict=False)]
    random = columns[len(operands)] if function.random_bits else None
    codes, flags = evaluate(function, *operands, random=random)
    named: dict[str, Any] = dict(zip("abc", operands, strict=False))
    if random is not None:
        named["random"] = random
    return {name: column.tolist() for name, column in (named | {"code": codes, "flags": flags}).items()}


def dot_stimulus(datapath: Datapath, number: int = 4000, seed: int = 1, longest: int = 6) -> Columns:
    """Dot products of 1 ... ``longest`` steps, ``number`` clocks altogether, for ``rtl.dot.DotUnit``.

    Products of directed and of random codes; some cancel earlier ones. ``check`` is 1 where ``code`` must hold.
    """
    dp, columns = datapath, defaultdict[str, list[int]](list)
    draw = np.random.Generator(np.random.Philox(key=[seed, 0]))
    machine = Machine(dp, seed=seed, threads=1)
    n, pool = lanes(dp.order), _Pool(draw)
    while len(columns["code"]) < number:
        length = int(draw.integers(1, longest * n + 1))
        x, y = (_operand(fmt, length, draw, pool) for fmt in (dp.a, dp.b))
        _relate(dp, x, y, draw)
        values = machine.matmul(_row(dp.a, *x), _column(dp.b, *y))
        code = int(dp.output.encode(values)[0, 0])
        for clock in _clocks(dp, length, n, x, y, seed, machine.calls):
            for port, word in clock.items():
                columns[port].append(word)
            columns["check"].append(0)
            columns["code"].append(0)
        columns["check"][-1], columns["code"][-1] = 1, code
    return dict(columns)


def captured_stimulus(datapath: Datapath, dots: Iterable[Dot], seed: int = 1) -> Columns:
    """The ports' codes, clock by clock, of captured dot products, one after the other; random bits are fresh ones."""
    columns = defaultdict[str, list[int]](list)
    for call, dot in enumerate(dots):
        operands = (dot.a, dot.a_scales), (dot.b, dot.b_scales)
        for clock in _clocks(datapath, len(dot.a), lanes(datapath.order), *operands, seed, call):
            for port, word in clock.items():
                columns[port].append(word)
    return dict(columns)


class _Pool:
    """Directed and random codes of formats, drawn many at a time."""

    def __init__(self, draw: np.random.Generator, size: int = 4096) -> None:
        self.draw, self.size = draw, size
        self._left: dict[Format, np.ndarray] = {}

    def take(self, fmt: Format, count: int) -> np.ndarray:
        left = self._left.get(fmt, np.zeros(0, np.uint64))
        if len(left) < count:
            left = np.concatenate([left, self._drawn(fmt, max(self.size, count))])
        self._left[fmt] = left[count:]
        return left[:count]

    def _drawn(self, fmt: Format, number: int) -> np.ndarray:
        cases = Cases((fmt,), seed=int(self.draw.integers(1 << 60)), number=number)
        directed = cases.columns(0, number)[0].astype(np.uint64)
        mild = self.draw.integers(0, 1 << min(fmt.bits, 62), number, dtype=np.uint64)
        return np.where(self.draw.random(number) < 0.5, self.draw.permutation(directed), mild)


def _operand(fmt: Any, length: int, draw: np.random.Generator, pool: _Pool) -> tuple[np.ndarray, np.ndarray | None]:
    """Element codes, and scale codes of a block format."""
    if not isinstance(fmt, BlockFormat):
        return _mostly_numbers(fmt, pool.take(fmt, length), draw), None
    scales = _mostly_numbers(fmt.scale, pool.take(fmt.scale, -(-length // fmt.size)), draw)
    return _mostly_numbers(fmt.element, pool.take(fmt.element, length), draw), scales


def _mostly_numbers(fmt: Format, codes: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Codes of infinities and NaNs replaced by zeros in nine of ten operands, which would be lost to them."""
    if draw.random() < 0.9:
        codes = np.where(np.isfinite(fmt.decode(codes.astype(code_dtype(fmt.bits)))), codes, np.uint64(0))
    return codes.astype(code_dtype(fmt.bits))


def _relate(dp: Datapath, x: Any, y: Any, draw: np.random.Generator) -> None:
    """Makes some products the opposite of an earlier one, so that sums cancel."""
    a, b = x[0], y[0]
    fmt = dp.a.element if isinstance(dp.a, BlockFormat) else dp.a
    for k in range(1, len(a)):
        if draw.random() < 0.25:
            j = int(draw.integers(k))
            b[k] = b[j]
            mask = (1 << fmt.bits) - 1
            opposite = -int(a[j]) & mask if isinstance(fmt, FixedFormat) else int(a[j]) ^ getattr(fmt, "sign_bit", 0)
            a[k] = opposite if opposite <= mask else a[j]


def _row(fmt: Any, codes: np.ndarray, scales: np.ndarray | None) -> Any:
    if scales is None:
        return fmt.decode(codes)[None, :]
    return Blocks(codes[None, :], scales[None, :], _one(fmt), 1, fmt)


def _column(fmt: Any, codes: np.ndarray, scales: np.ndarray | None) -> Any:
    if scales is None:
        return fmt.decode(codes)[:, None]
    return Blocks(codes[:, None], scales[:, None], _one(fmt), 0, fmt)


def _one(fmt: BlockFormat) -> int | None:
    """The code of a tensor scale of 1, which the unit leaves out."""
    return None if fmt.tensor_scale is None else int(fmt.tensor_scale.encode(1.0))


def _clocks(dp: Datapath, length: int, n: int, x: Any, y: Any, seed: int, call: int) -> Iterator[dict[str, int]]:
    """The ports' codes, clock by clock, of one dot product."""
    blocked = isinstance(dp.order, Blocked)
    span = dp.order.length if isinstance(dp.order, Blocked) else length
    starts = [
        (s, min(s + n, b + span, length)) for b in range(0, length, span) for s in range(b, min(b + span, length), n)
    ]
    draws = _draws(dp, length, [first for first, _ in starts])
    for i, (first, last) in enumerate(starts):
        clock = {"clear": int(i == 0)}
        if blocked:
            clock["fold"] = int(last == length or last % span == 0)
        for name, fmt, (codes, scales) in (("a", dp.a, x), ("b", dp.b, y)):
            element = fmt.element if isinstance(fmt, BlockFormat) else fmt
            clock[name] = _packed(codes[first:last], element.bits)
            if scales is not None:
                blocks = scales[first // fmt.size : -(-last // fmt.size)]
                clock[f"{name}_scale"] = _packed(blocks, fmt.scale.bits)
        yield clock | _random(dp, draws[i], range(first, first + n), seed, call)


def _packed(codes: Any, bits: int) -> int:
    return sum(int(code) << bits * i for i, code in enumerate(codes))


def _draws(dp: Datapath, length: int, starts: list[int]) -> list[list[tuple[int, int]]]:
    """By clock, the roundings that draw in it, in the unit's order: (level, number of the draw)."""
    by_clock: list[list[tuple[int, int]]] = [[] for _ in starts]
    clock = 0
    for step in program(dp.order, length):
        if step.do in (Do.MAC, Do.FUSE, Do.LOAD):
            for k in range(step.first, max(step.last, step.first + 1)):
                while clock + 1 < len(starts) and k >= starts[clock + 1]:
                    clock += 1
                if step.do is Do.MAC:
                    by_clock[clock].append((step.level, step.draw + k - step.first))
        if step.do is Do.ADD and isinstance(dp.inner_order, Systolic) and len(by_clock[clock]) < lanes(dp.order):
            by_clock[clock] += [by_clock[clock][-1]] * (lanes(dp.order) - len(by_clock[clock]))  # idle lanes: no matter
        if step.do in (Do.FUSE, Do.ADD):
            by_clock[clock].append((step.level, step.draw))
    return by_clock


def _random(dp: Datapath, draws: list[tuple[int, int]], products: range, seed: int, call: int) -> dict[str, int]:
    """The random ports' words."""

    def word(role: Role, which: list[tuple[int, int]]) -> int:
        total = shift = 0
        for k, number in which:
            total |= random_bits(seed, stream(call, role), 0, number, k) << shift if k else 0
            shift += k
        return total

    ports = {}
    if dp.product is not None and dp.product_rounding.random_bits:
        ports["random_product"] = word(Role.PRODUCT, [(dp.product_rounding.random_bits, k) for k in products])
    drawn = [(dp.accumulators[level][1].random_bits, number) for level, number in draws]
    late = isinstance(dp.order, Systolic) or (isinstance(dp.order, Exact) and dp.order.terms is None)
    if any(rounding.random_bits for _, rounding in dp.accumulators):
        lanes_ = lanes(dp.order) if isinstance(dp.order, Systolic) else 0
        if late:
            ports["random_sum"] = word(Role.ACCUMULATOR, drawn[lanes_:])
        if not late or lanes_:
            ports["random_accumulator"] = word(Role.ACCUMULATOR, drawn[:lanes_] if late else drawn)
    if dp.output != dp.accumulator and dp.output_rounding.random_bits:
        ports["random_output"] = word(Role.OUTPUT, [(dp.output_rounding.random_bits, 0)])
    return ports
