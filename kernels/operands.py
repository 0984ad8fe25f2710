"""Operands as they enter a datapath: checked against their formats, and measured on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..emulator.blocks import BlockFormat, Blocks, block_axis, tensor_scale_value
from ..emulator.errors import HalfulpError
from ..emulator.formats import FloatFormat, Format, PositFormat, carrier
from ..emulator.names import alias
from ..emulator.rounding import RNE, RTZ, Rounding
from . import posits
from .backends import Backend, Work
from .backends import backend as make_backend
from .blocks import held_blocks
from .compute import compute
from .paths import FP32, FP64, Op, Path, Span, convert_path
from .structs import GIVEN_DRAWS, Draws
from .subset import compiled, leading_zeros
from .target import target, target32

_ANY = FloatFormat(5, 10)  #: where nothing is looked at in a Target


@dataclass(eq=False, repr=False)
class Operand:
    """An array known to be of values of a format, tensor scale left out: what ``Machine.hold`` returns.

    Its transpose ``x.T`` is one, too, and so are its parts ``x[...]``, if it is not in blocks.
    """

    values: Any
    fmt: Format | BlockFormat
    top: float | None  #: no magnitude is larger, NaN if there is a NaN; None: not looked for yet (``largest``)
    outer: float = 1.0  #: the tensor scale
    codes: Any = None  #: of a block format, the elements' codes
    axis: int | None = None  #: and the axis along which the blocks lie, from the front

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def T(self) -> Operand:
        if self.codes is None:
            return self.holding(self.values.T)
        return replace(self, values=self.values.T, codes=self.codes.T, axis=self.values.ndim - 1 - (self.axis or 0))

    @property
    def mT(self) -> Operand:
        """Each matrix of a stack (..., rows, columns) transposed."""
        codes, axis, last = self.codes, self.axis, self.values.ndim - 1
        if codes is not None:
            codes, axis = codes.swapaxes(-1, -2), {last: last - 1, last - 1: last}.get(axis, axis)  # type: ignore[arg-type]
        return replace(self, values=self.values.swapaxes(-1, -2), codes=codes, axis=axis)

    def matrices(self) -> list[Operand]:
        """Those of a stack (count, rows, columns); or itself, if it is one matrix."""
        if self.values.ndim == 2:
            return [self]
        codes = [None] * len(self.values) if self.codes is None else self.codes
        axis = None if self.axis is None else self.axis - 1
        return [Operand(v, self.fmt, self.top, self.outer, c, axis) for v, c in zip(self.values, codes, strict=True)]

    def holding(self, values: Any) -> Operand:
        """The same format's operand of other values, whose largest magnitude is no larger."""
        return Operand(values, self.fmt, self.top, self.outer, self.codes, self.axis)

    def __repr__(self) -> str:
        return f"<{' x '.join(map(str, self.shape)) or 'one'} of {alias(self.fmt)}, held>"

    @property
    def whole(self) -> Any:
        """The values, times the tensor scale."""
        return self.values if self.outer == 1.0 else self.values * self.outer

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        dtype = np.float64 if dtype is None else dtype
        return np.array(self.whole, dtype) if copy else np.asarray(self.whole, dtype)

    def largest(self, backend: Backend) -> float:
        """``top``, looked for where it is not known yet."""
        if self.top is None:
            self.top = survey(self.values, FP64, backend).top
        return self.top

    def fits(self, fmt: Format | BlockFormat, axis: int) -> bool:
        """Whether it is of a format, in blocks along an axis, if in any; a part of one with NaNs is looked at again."""
        if self.codes is None:
            return self.fmt == fmt and (self.top is None or bool(np.isfinite(self.top)))
        return self.fmt == fmt and self.axis == axis % self.values.ndim

    def __getitem__(self, index: Any) -> Operand:
        if self.codes is not None:
            raise HalfulpError(f"an operand in {alias(self.fmt)} is not cut: its parts are not in whole blocks.")
        return self.holding(self.values[index])


class Survey(NamedTuple):
    """What ``survey`` found."""

    fits: bool  #: every element is a value of the format
    kept: bool  #: and has the bits that it has there
    top: float


def numbers(x: Any, what: str, backend: Backend) -> Any:
    """``x`` as an array of float64 (on the CPU float32 stays) where the backend computes; an empty one is refused."""
    x = x.whole if isinstance(x, Operand) else x
    if hasattr(x, "tocsr"):
        raise HalfulpError(f"{what} is a sparse matrix; spmv takes those, in CSR form.")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise HalfulpError(f"{what} got a masked array: fill what is masked first, as in x.filled(0).")
    if backend.xp is not np and backend.is_native(x) and x.dtype.kind == "f":
        array = x.astype(np.float64, copy=False)
    else:
        array = backend.to_host(x)
        array = np.asarray(array) if isinstance(array, np.ndarray) else array  # no subclass, such as np.matrix
        kinds = (np.float32, np.float64) if backend.name == "cpu" else (np.float64,)
        if not isinstance(array, np.ndarray) or array.dtype not in kinds:
            array = carrier(array)
        array = array if backend.xp is np else backend.array(array)
    if array.size == 0:
        raise HalfulpError(f"{what} got an empty array (shape {np.shape(x)}).")
    return array


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an operand."""
    try:
        return x.shape if isinstance(x, Operand) else tuple(np.shape(x.codes if isinstance(x, Blocks) else x))
    except ValueError:
        return carrier(x).shape  # which refuses it in a sentence


def survey(x: Any, fmt: Format, backend: Backend) -> Survey:
    """Whether an array holds values of a format only, and their largest magnitude, in one pass over it."""
    if backend.name == "gpu" or not (fmt == FP64 or _is_light(fmt)):
        return _survey_slowly(x, fmt, backend)
    flat = (x if x.flags.c_contiguous else x.T if x.T.flags.c_contiguous else np.ascontiguousarray(x)).reshape(-1)
    flat = flat if flat.flags.writeable else flat.copy()
    rounds = fmt != (FP32 if flat.dtype == np.float32 else FP64)
    t: Any = operand_target(fmt if rounds else _ANY, flat.dtype)
    report, largest = np.zeros(2, np.int64), np.zeros((flat.size >> 8) + 1, np.int64)
    if t is None:
        flat = flat.astype(np.float64)
        t = operand_target(fmt, flat.dtype)
    args = (flat, report, largest, int(rounds), Work("survey", 1, flat.dtype), t)
    backend.launch("survey", flat.size, *args)
    bits = np.int64(largest.max())
    top = np.int32(bits).view(np.float32) if flat.dtype == np.float32 else bits.view(np.float64)
    return Survey(not report[0], not report[1], float(top))


def _is_light(fmt: Format | BlockFormat) -> bool:
    """Whether the float route of kernels tells a format's values."""
    return not isinstance(fmt, (BlockFormat, PositFormat)) and convert_path(fmt, RTZ) is Path.ODD


@lru_cache(maxsize=256)
def operand_target(fmt: Format, dtype: Any) -> Any:
    """A Target on the carriers, None if binary32 has none; its mode is no matter where nothing is to be rounded."""
    if dtype == np.float64:
        return target(fmt, RNE, operand=True)
    if isinstance(fmt, FloatFormat) and fmt.saturate and fmt.has_infinity:
        return None  # keeps its infinities as an operand
    return target32(fmt, RNE, False)


def _survey_slowly(x: Any, fmt: Format, backend: Backend) -> Survey:
    xp, magnitude = backend.xp, abs(x)
    top = float(magnitude.max())
    if fmt == FP64:
        return Survey(True, True, top)
    rounded, same = _truncated(xp.asarray(x, dtype=np.float64), fmt, backend)
    kept = same & (xp.signbit(rounded) == xp.signbit(x))
    return Survey(bool(same.all()), bool(kept.all()), top)


def _truncated(x: Any, fmt: Format, backend: Backend) -> tuple[Any, Any]:
    """Numbers rounded toward zero into a format, and whether that left them as they were."""
    rounded = converted(x, fmt, RTZ, GIVEN_DRAWS, backend)
    return rounded, (rounded == x) | ((rounded != rounded) & (x != x))


def converted(x: Any, fmt: Format, rounding: Rounding, drawn: Draws, backend: Backend) -> Any:
    """Each number of an array rounded once into a format; ``drawn``: where SR's bits come from."""
    flat = backend.array(x).reshape(-1)
    if isinstance(fmt, PositFormat):
        if rounding.random_bits:
            raise HalfulpError(f"a machine does not round into {fmt} stochastically; halfulp.quantize does.")
        host = np.asarray(backend.to_host(x), np.float64)
        return backend.array(posits.convert(host, fmt, rounding, np.zeros(host.shape, np.int64))[0])
    t = target(fmt, rounding, operand=True)
    return compute(backend, Op.CONVERT, (flat,), t, convert_path(fmt, rounding), drawn).reshape(x.shape)


class Entrance(NamedTuple):
    """How values enter a datapath's operands."""

    backend: Backend
    quantizes: bool  #: values that a format does not hold are rounded, not refused
    refuses_specials: bool  #: infinities and NaNs
    rounding: Rounding  #: with which they are

    def enter(self, x: Any, fmt: Format | BlockFormat, name: str, drawn: Draws, axis: int = -1) -> Operand:
        """An operand: the values themselves, where its format holds them.

        x : real array, an Operand, or ``Blocks`` of a block format, whose blocks lie along ``axis``. name : what it is
        called.
        """
        if isinstance(x, Operand) and x.values.size == 0:
            raise HalfulpError(f"{name} got an empty array (shape {x.shape}).")
        if isinstance(x, Operand) and x.fits(fmt, axis):
            operand = x
            if self.refuses_specials:
                x.largest(self.backend)
        elif isinstance(fmt, BlockFormat):
            operand = self._enter_blocks(x, fmt, name, axis)
        else:
            if isinstance(x, Blocks):
                raise HalfulpError(f"{name} is in blocks, but the datapath's operand is of {alias(fmt)}.")
            values = numbers(x, name, self.backend)
            found = survey(values, fmt, self.backend)
            self._refuse(found.top, name)
            if not found.fits and not self.quantizes:
                raise HalfulpError(self.misfit(values, fmt, name))
            if not found.kept:
                rounding = self.rounding if not found.fits else RNE
                values = converted(values, fmt, rounding, drawn, self.backend)
                found = survey(values, fmt, self.backend)
            operand = Operand(values, fmt, found.top)
        self._refuse(operand.top, name)
        return operand

    def _refuse(self, top: float | None, name: str) -> None:
        if self.refuses_specials and top is not None and not np.isfinite(top):
            raise HalfulpError(f"{name} holds an infinity or a NaN, which on_nonfinite='error' refuses.")

    def looks_later(self, x: Any, fmt: Format | BlockFormat) -> bool:
        """Whether ``x`` may go on as it is, if what works on it checks it: all is on the host, and nothing needs to be
        rounded or measured first."""
        plain = isinstance(x, np.ndarray) and x.dtype == np.float64 and x.flags.c_contiguous and x.flags.writeable
        light = fmt == FP64 or _is_light(fmt)
        policies = not self.quantizes and not self.refuses_specials
        return plain and light and policies and self.backend.name == "cpu"

    def misfit(self, values: Any, fmt: Format, name: str) -> str:
        """The sentence about the first element that is no value of a format."""
        host = np.asarray(self.backend.to_host(values), np.float64)
        wrong = ~_truncated(host, fmt, _host())[1]
        place = tuple(map(int, np.argwhere(wrong)[0]))
        count = int(wrong.sum())
        more = f" (and {count - 1} more)" if count > 1 else ""
        where = ", ".join(map(str, place))
        return (
            f"{name}[{where}] = {float(host[place])!r}{more} is no value of {alias(fmt)}, the operand's format:"
            f" quantize it first, or let the machine do so with on_inexact='quantize'."
        )

    def _enter_blocks(self, x: Any, fmt: BlockFormat, name: str, axis: int) -> Operand:
        if isinstance(x, Operand) and x.codes is not None:
            raise HalfulpError(
                f"{name} is held in {alias(x.fmt)} along axis {x.axis}, but needed in {alias(fmt)} along axis {axis}."
            )
        if self.backend.name == "gpu":
            x = (
                x._replace(codes=self.backend.to_host(x.codes), scales=self.backend.to_host(x.scales))
                if isinstance(x, Blocks)
                else self.backend.to_host(x)
            )
        if not isinstance(x, Blocks):
            values = np.asarray(numbers(x, name, _host()), np.float64)
            if values.ndim == 0:
                raise HalfulpError(f"{name} is of {alias(fmt)}, which needs an axis to cut into blocks.")
            self._refuse(float(abs(values).max()), name)
            x, same = held_blocks(values, fmt, axis, self.rounding)
            if not self.quantizes and not same:
                raise HalfulpError(
                    f"{name} does not hold values of {alias(fmt)} in blocks along axis {axis}: quantize it first"
                    " (hu.quantize(x, format, axis=...)), as Blocks (hu.encode_blocks), or let the machine do so"
                    " with on_inexact='quantize'."
                )
        elif x.fmt not in (None, fmt):
            raise HalfulpError(f"{name} is in blocks of {alias(x.fmt)}, but the datapath's operand is of {alias(fmt)}.")
        elif block_axis(x.codes, x.axis) != block_axis(x.codes, axis):
            raise HalfulpError(f"{name} has blocks along axis {x.axis}; the summed axis is {axis}.")
        inner = replace(fmt, tensor_scale=None)
        values = self.backend.array(inner.decode(x._replace(tensor_scale=None)))
        outer = float(tensor_scale_value(x.tensor_scale, fmt))
        return Operand(values, fmt, float(abs(values).max()), outer, x.codes, block_axis(x.codes, x.axis))


@lru_cache(maxsize=1)
def _host() -> Backend:
    return make_backend("cpu", None)


def span(operand: Operand) -> Span:
    """Exponents of the lowest and the highest bit among an operand's finite numbers; of blocks, without scales."""
    values = operand.values if operand.codes is None else operand.fmt.element.decode(operand.codes)  # type: ignore[union-attr]
    host = np.asarray(values if isinstance(values, np.ndarray) else values.get(), np.float64)
    pattern = host.reshape(-1).view(np.int64) if host.flags.c_contiguous else host.ravel().view(np.int64)
    report = np.zeros(2, np.int64)
    report[0], report[1] = 1 << 20, -(1 << 20)
    _span(pattern, report)
    return (int(report[0]), int(report[1])) if report[0] < 1 << 20 else (0, 0)


@compiled
def _span(patterns: np.ndarray, report: np.ndarray) -> None:
    low, high = report[0], report[1]
    for pattern in patterns:
        field = (pattern >> 52) & 0x7FF
        fraction = pattern & 0xFFFFFFFFFFFFF
        if field == 0x7FF or (field == 0 and fraction == 0):
            continue
        significand = fraction | (1 << 52) if field > 0 else fraction
        exponent = max(field, 1) - 1075
        last = significand & -significand
        low = min(low, exponent + 63 - leading_zeros(last))  # type: ignore[call-arg]
        high = max(high, exponent + 63 - leading_zeros(significand))
    report[0], report[1] = low, high
