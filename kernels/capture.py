"""Capture: a fair sample of the dot products that a Machine computes, as operands for hardware."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..emulator.blocks import BlockFormat
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from ..emulator.formats import Format


class Dot(NamedTuple):
    """The operands of one dot product: codes, and scales' codes of a format in blocks."""

    a: np.ndarray
    b: np.ndarray
    a_scales: np.ndarray | None = None
    b_scales: np.ndarray | None = None


class Capture:
    """The operands of ``n_dots`` dot products, each of those offered being among them with the same chance.

    Reservoir sampling that skips ahead (Li 1994, doi:10.1145/198429.198435, algorithm L): of N dot products about
    n_dots (1 + ln(N / n_dots)) are looked at. ``dots`` are in the order in which they were computed. Made by
    ``Machine.capture``.
    """

    def __init__(self, datapath: Datapath, n_dots: int = 64, seed: int = 0) -> None:
        if not isinstance(n_dots, int) or n_dots < 1:
            raise HalfulpError(f"a capture holds at least 1 dot product, not {n_dots!r}.")
        self.datapath, self.n_dots = datapath, n_dots
        self.offered = 0
        self._random = np.random.Generator(np.random.Philox(key=[seed, 1]))
        self._held: list[tuple[int, Dot]] = []
        self._weight, self._next = 1.0, 0

    @property
    def dots(self) -> list[Dot]:
        return [dot for _, dot in sorted(self._held, key=lambda pair: pair[0])]

    def offer(self, count: int, pick: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
        """``count`` more dot products; ``pick`` gives the operands' values of one of them."""
        end = self.offered + count
        while self._next < end:
            taken = self._next, self._coded(*pick(self._next - self.offered))
            if len(self._held) < self.n_dots:
                self._held.append(taken)
            else:
                self._held[int(self._random.integers(self.n_dots))] = taken
            self._next += 1 if len(self._held) < self.n_dots else self._skip()
        self.offered = end

    def _skip(self) -> int:
        self._weight *= math.exp(math.log(1 - self._random.random()) / self.n_dots)
        return 1 + int(math.log(1 - self._random.random()) / math.log1p(-self._weight))

    def _coded(self, x: np.ndarray, y: np.ndarray) -> Dot:
        (a, a_scales), (b, b_scales) = (_codes(fmt, v) for fmt, v in ((self.datapath.a, x), (self.datapath.b, y)))
        return Dot(a, b, a_scales, b_scales)

    def save(self, path: str | Path) -> None:
        """Writes the sample as .npz: ``datapath``, ``lengths``, the operands' codes one after the other."""
        dots = self.dots
        if not dots:
            raise HalfulpError("nothing was captured: no dot product was computed.")
        columns = {name: np.concatenate([getattr(d, name) for d in dots]) for name in ("a", "b")}
        for name in ("a_scales", "b_scales"):
            if getattr(dots[0], name) is not None:
                columns[name] = np.concatenate([getattr(d, name) for d in dots])
        lengths = np.array([len(d.a) for d in dots])
        data = io.BytesIO()
        columns |= {"datapath": np.array(self.datapath.name), "offered": np.array(self.offered), "lengths": lengths}
        np.savez_compressed(data, **columns)  # type: ignore[arg-type]
        write_atomically(Path(path), data.getvalue())


#: What NumPy, zipfile and zlib raise of a file that is damaged, or none of theirs.
_NO_ARCHIVE = (
    *(ValueError, AttributeError, TypeError, KeyError, EOFError, RuntimeError),
    *(zlib.error, zipfile.BadZipFile),
)


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises HalfulpError where it is none."""
    why = None
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        if all(isinstance(array, np.ndarray) for array in found.values()):
            return found
    except OSError as error:
        why = error.strerror
    except _NO_ARCHIVE:
        pass
    raise HalfulpError(f"{path} cannot be read: {why}." if why else f"{path} is no .npz file of arrays.")


def load_capture(path: str | Path) -> tuple[Datapath, list[Dot]]:
    """The datapath and the dot products of a saved capture. Raises HalfulpError where the file is none."""
    stored = load_arrays(path)
    try:
        return _dots(stored)
    except (KeyError, TypeError, ValueError, IndexError):
        held = ", ".join(stored) or "nothing"
        raise HalfulpError(f"{path} is no capture that Machine.capture saved: it holds {held}.") from None


def _dots(stored: dict[str, np.ndarray]) -> tuple[Datapath, list[Dot]]:
    datapath, lengths = Datapath.parse(str(stored["datapath"])), stored["lengths"]
    ends = np.cumsum(lengths)
    dots = []
    for first, last in zip(ends - lengths, ends, strict=True):
        dots.append(Dot(stored["a"][first:last], stored["b"][first:last]))
    for name, fmt in (("a_scales", datapath.a), ("b_scales", datapath.b)):
        if isinstance(fmt, BlockFormat):
            counts = np.cumsum(-(-lengths // fmt.size))
            parts = np.split(stored[name], counts[:-1])
            dots = [dot._replace(**{name: part}) for dot, part in zip(dots, parts, strict=True)]
    return datapath, dots


def _codes(fmt: Format | BlockFormat, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    values = np.asarray(values, np.float64)
    if isinstance(fmt, BlockFormat):
        blocks = fmt.encode(values)
        return blocks.codes, blocks.scales
    return fmt.encode(values), None
