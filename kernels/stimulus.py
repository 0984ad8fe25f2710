"""Stimulus for hardware: operand codes, clock by clock, and the codes that must come out, by the kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, count, repeat
from typing import Any

import numpy as np

from ..emulator.blocks import Block, BlockFormat, Blocks
from ..emulator.clocks import clocks, dealt, draws, ports
from ..emulator.codec import code_dtype
from ..emulator.datapath import Datapath, dot
from ..emulator.formats import FixedFormat, Format
from ..emulator.functions import Function
from ..emulator.orders import Blocked, lanes
from ..emulator.random import LFSR, random_bits, stream
from .capture import Dot
from .cases import Cases
from .evaluate import evaluate
from .machine import Machine

Columns = dict[str, list[int]]  #: by port, a code for each line


def unit_stimulus(function: Function, number: int | None = None, seed: int = 1, random: LFSR | None = None) -> Columns:
    """Operands, random bits, code and flags of a function unit, case by case; ``number`` None: a level of cases.

    ``random``: the unit's own LFSR; some cases load a state into it.
    """
    cases = Cases(function.operands, function.random_bits, seed=seed, number=number)
    columns = cases.columns(0, cases.total)
    operands = [x.astype(code_dtype(f.bits)) for x, f in zip(columns, function.operands, strict=False)]
    named: dict[str, Any] = dict(zip("abc", operands, strict=False))
    bits = columns[len(operands)] if function.random_bits else None
    if random is not None:
        loads = _loads(random, len(operands[0]), seed)
        states = random.states(state if load else None for load, state in loads)
        bits = np.array([random.deal(state, [function.random_bits])[0] for state in states], np.uint64)
        named |= {"seed_load": np.array(loads)[:, 0], "seed": np.array(loads)[:, 1]}
    elif bits is not None:
        named["random"] = bits
    codes, flags = evaluate(function, *operands, random=bits)
    return {name: column.tolist() for name, column in (named | {"code": codes, "flags": flags}).items()}


def _loads(lfsr: LFSR, count: int, seed: int) -> list[tuple[int, int]]:
    """(Whether an LFSR is loaded, the state on its port), ``count`` times; the first time it is."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 2]))
    states = draw.integers(1, 1 << lfsr.width, count)
    return [(int(i == 0 or draw.random() < 0.25), int(state)) for i, state in enumerate(states)]


def dot_stimulus(
    datapath: Datapath, number: int = 4000, seed: int = 1, longest: int = 6, random: LFSR | None = None
) -> Columns:
    """Dot products of 1 ... ``longest`` steps, ``number`` clocks altogether, for ``rtl.dot.DotUnit``.

    Products of directed and of random codes; some cancel earlier ones. ``check`` is 1 where ``code`` must hold.
    ``random``: the unit's own LFSR, loaded with some dot products' first clocks.
    """
    dp, columns = datapath, defaultdict[str, list[int]](list)
    draw = np.random.Generator(np.random.Philox(key=[seed, 0]))
    machine = Machine(dp, seed=seed, threads=1)
    n, pool, state = lanes(dp.order), _Pool(draw), 0
    loads = iter(_loads(random, number, seed) if random else [])
    while len(columns["code"]) < number:
        length = int(draw.integers(1, longest * n + 1))
        x, y = (_operand(fmt, length, draw, pool) for fmt in (dp.a, dp.b))
        _relate(dp, x, y, draw)
        if random is None:
            values = machine.matmul(_row(dp.a, *x), _column(dp.b, *y))
            code, drawn = int(dp.output.encode(values)[0, 0]), _random(dp, length, seed, machine.calls)
        else:
            load, loaded = next(loads)
            source, following = dealt(dp, length, random, loaded if load else state)
            code, state = dot(dp, _given(dp.a, *x), _given(dp.b, *y), source), following
            drawn = ({"seed_load": load * (i == 0), "seed": loaded} for i in count())
        for clock, bits in zip(_clocks(dp, length, x, y), drawn, strict=False):
            for port, word in (clock | bits).items():
                columns[port].append(word)
            columns["check"].append(0)
            columns["code"].append(0)
        columns["check"][-1], columns["code"][-1] = 1, code
    return dict(columns)


def captured_stimulus(datapath: Datapath, dots: Iterable[Dot], seed: int = 1, random: LFSR | None = None) -> Columns:
    """The ports' codes, clock by clock, of captured dot products, one after the other; random bits are fresh ones, or
    those of the unit's own LFSR, loaded once."""
    columns = defaultdict[str, list[int]](list)
    for call, held in enumerate(dots):
        operands = (held.a, held.a_scales), (held.b, held.b_scales)
        drawn = _random(datapath, len(held.a), seed, call)
        if random is not None:
            drawn = ({"seed_load": int(clear and not call), "seed": random.seed} for clear in chain([1], repeat(0)))
        for clock, bits in zip(_clocks(datapath, len(held.a), *operands), drawn, strict=random is None):
            for port, word in (clock | bits).items():
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


def _given(fmt: Any, codes: np.ndarray, scales: np.ndarray | None) -> Any:
    """The operand as the definition takes it."""
    if scales is None:
        return [int(code) for code in codes]
    elements = [fmt.element.unpack(int(code)) for code in codes]
    cut = [tuple(elements[i : i + fmt.size]) for i in range(0, len(elements), fmt.size)]
    return [Block(part, fmt.scale.unpack(int(scale))) for part, scale in zip(cut, scales, strict=True)]


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


def _clocks(dp: Datapath, length: int, x: Any, y: Any) -> Iterator[dict[str, int]]:
    """The words of the operands' and the controls' ports, clock by clock, of one dot product."""
    for i, (first, last, fold) in enumerate(clocks(dp, length)):
        clock = {"clear": int(i == 0)}
        if isinstance(dp.order, Blocked):
            clock["fold"] = int(fold)
        for name, fmt, (codes, scales) in (("a", dp.a, x), ("b", dp.b, y)):
            element = fmt.element if isinstance(fmt, BlockFormat) else fmt
            clock[name] = _packed(codes[first:last], element.bits)
            if scales is not None:
                blocks = scales[first // fmt.size : -(-last // fmt.size)]
                clock[f"{name}_scale"] = _packed(blocks, fmt.scale.bits)
        yield clock


def _packed(codes: Any, bits: int) -> int:
    return sum(int(code) << bits * i for i, code in enumerate(codes))


def _random(dp: Datapath, length: int, seed: int, call: int) -> Iterator[dict[str, int]]:
    """The words of the ports of random bits, clock by clock: what a Machine draws."""
    for some in draws(dp, length):
        words, filled = dict.fromkeys(ports(dp), 0), defaultdict[str, int](int)
        for port, role, number, k in some:
            words[port] |= random_bits(seed, stream(call, role), 0, number, k) << filled[port]
            filled[port] += k
        yield words
