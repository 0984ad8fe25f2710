"""Lines of hexadecimal codes, as Berkeley TestFloat's programs write and read them, to and from columns of codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from typing import NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError
from .subset import compiled

CHUNK = 1 << 20  #: bytes read and parsed at a time

_SEPARATOR, _NEWLINE, _SLASH, _OTHER = 16, 17, 18, 19
_LINE_END = 10
_CLASS = np.full(256, _OTHER, np.uint8)  #: a digit's value, or what else a character is
for _characters, _values in (
    ("0123456789", range(10)),
    ("abcdef", range(10, 16)),
    ("ABCDEF", range(10, 16)),
    (" \t\r,_", [_SEPARATOR] * 5),
    ("\n/", [_NEWLINE, _SLASH]),
):
    _CLASS[[ord(character) for character in _characters]] = list(_values)
_DIGITS = np.frombuffer(b"0123456789ABCDEF", np.uint8)


def limbs(bits: Sequence[int]) -> list[int]:
    """The widths of the uint64 rows that hold columns of any width: wider ones lie in several rows, highest first."""
    return [part for width in bits for part in ((width - 1) % 64 + 1, *[64] * ((width - 1) // 64))]


def split(code: np.ndarray, bits: int) -> np.ndarray:
    """Codes of one column as rows of limbs."""
    if bits <= 64:
        return code.astype(np.uint64)[None]
    places = range((bits - 1) // 64 * 64, -1, -64)
    return np.stack([(code >> place & 0xFFFF_FFFF_FFFF_FFFF).astype(np.uint64) for place in places])


def joined(rows: np.ndarray, bits: Sequence[int]) -> list[np.ndarray]:
    """The columns of codes that lie in rows of limbs: uint64, or Python integers where they are wider."""
    columns, place = [], 0
    for width in bits:
        end = place + len(limbs([width]))
        column = rows[place]
        for row in rows[place + 1 : end]:
            column = column.astype(object) << 64 | row.astype(object)
        columns.append(column)
        place = end
    return columns


def hex_digits(bits: int) -> int:
    """How many digits a code of ``bits`` bits is written with."""
    return -(-bits // 4)


class Malformed(HalfulpError):
    """A line that is not what was announced; the sentence gives its number and what is wrong."""


class Batch(NamedTuple):
    """The records of some whole lines."""

    columns: np.ndarray  #: uint64, limbs x records
    starts: np.ndarray  #: where in ``text`` each record begins
    text: bytes
    lines: int  #: lines before ``text``

    def line(self, record: int) -> int:
        """The number, from 1, of the line that holds a record."""
        return self.lines + self.text.count(b"\n", 0, self.starts[record]) + 1


@compiled
def _parse(text, digits, largest, last, columns, starts):
    """Fill ``columns`` (uint64, limbs x records) from whole lines of ``text`` (uint8), which ends with a newline.

    ``digits`` are those of each limb, ``last`` tells which limbs end their column. A slash begins a comment. Blank
    lines hold no record. Returns the number of records, the bytes used up (all, or to the start of a bad line), and
    whether a line is bad.
    """
    records, at, used = 0, 0, 0
    while used < text.size:
        column = 0
        while True:
            kind = _CLASS[text[at]]
            if kind == _SEPARATOR:
                at += 1
                continue
            if kind > _SEPARATOR or column == digits.size:
                break
            begin, end = at, min(at + digits[column], text.size)
            value = np.uint64(0)
            while at < end:
                kind = _CLASS[text[at]]
                if kind >= _SEPARATOR:
                    break
                value = value << np.uint64(4) | np.uint64(kind)
                at += 1
            if at - begin < digits[column] or value > largest[column]:
                return records, used, True
            if (_CLASS[text[at]] < _SEPARATOR) == last[column]:
                return records, used, True
            columns[column, records] = value
            column += 1
        if kind == _SLASH and column in (0, digits.size):
            while text[at] != _LINE_END:
                at += 1
            kind = _NEWLINE
        if kind != _NEWLINE or 0 < column < digits.size:
            return records, used, True
        at += 1
        if column:
            starts[records] = used
            records += 1
        used = at
    return records, used, False


@compiled
def _write(columns, digits, last, separator, text):
    """Write the records of ``columns`` (uint64, limbs x records) as lines into ``text`` (uint8)."""
    at = 0
    for record in range(columns.shape[1]):
        for column in range(digits.size):
            value = columns[column, record]
            for place in range(at + digits[column] - 1, at - 1, -1):
                text[place] = _DIGITS[value & np.uint64(15)]
                value >>= np.uint64(4)
            at += digits[column]
            if last[column]:
                text[at] = separator
                at += 1
        text[at - 1] = _LINE_END


def _layout(bits: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each limb: its digits, its largest value, and whether it ends its column."""
    parts = [part for width in bits for part in limbs([width])]
    digits = np.array([hex_digits(part) for part in parts])
    largest = np.array([(1 << part) - 1 for part in parts], np.uint64)
    last = np.isin(np.arange(len(parts)), np.cumsum([len(limbs([width])) for width in bits]) - 1)
    return digits, largest, last


def lines(columns: np.ndarray, bits: Sequence[int], separator: str = " ") -> bytes:
    """Records as text: every code in upper-case hexadecimal of its full width, a record a line.

    Parameters
    ----------
    columns : uint64 array, limbs x records.
    bits : the width of each column's codes.
    """
    digits, _, last = _layout(bits)
    text = np.empty(columns.shape[1] * int(digits.sum() + len(bits)), np.uint8)
    _write(np.ascontiguousarray(columns, np.uint64), digits, last, ord(separator), text)
    return text.tobytes()


def records(stream: BufferedIOBase, bits: Sequence[int], names: Sequence[str], skip: int = 0) -> Iterator[Batch]:
    """Read lines of hexadecimal codes of their full width, in constant memory.

    White space, commas or underscores separate them.

    Parameters
    ----------
    bits, names : width and name of each column.
    skip : lines at the beginning that are not looked at.

    Raises
    ------
    Malformed
        After the records before the malformed line were handed on.
    """
    digits, largest, last = _layout(bits)
    rest, done, ended = b"", 0, False
    while not ended:
        read = stream.read1(CHUNK)  # what there is, so that a slow pipe is checked as it goes
        ended = not read
        rest += read if read else b"\n" if rest and not rest.endswith(b"\n") else b""
        while skip and (end := rest.find(b"\n") + 1):
            rest, done, skip = rest[end:], done + 1, skip - 1
        whole = rest.rfind(b"\n") + 1
        text, rest = rest[:whole], rest[whole:]
        columns = np.empty((len(digits), len(text) // (2 * len(bits)) + 1), np.uint64)
        starts = np.empty(columns.shape[1], np.int64)
        found, used, bad = _parse(np.frombuffer(text, np.uint8), digits, largest, last, columns, starts)
        if found:
            yield Batch(columns[:, :found], starts[:found], text, done)
        done += text.count(b"\n", 0, used)
        if bad or len(rest) > CHUNK:
            raise Malformed(f"line {done + 1}: {_fault(text[used:] or rest, bits, names)}")


def _fault(text: bytes, bits: Sequence[int], names: Sequence[str]) -> str:
    """What is wrong with the line that ``text`` begins with."""
    line = text.partition(b"\n")[0].decode("ascii", "replace")
    words = line.replace(",", " ").replace("_", " ").split()
    expected = f"{len(names)} columns are expected ({', '.join(names)})"
    for word, width, name in zip(words, bits, names, strict=False):
        shown = word if len(word) <= 24 else word[:20] + "..."
        if not all(digit in "0123456789abcdefABCDEF" for digit in word):
            unknown = " (unknown bits of a simulation?)" if set(word.lower()) <= set("0123456789abcdefxz") else ""
            unknown = " (write it without 0x)" if word.lower().startswith("0x") else unknown
            return f"{shown!r} in column {name!r} is not hexadecimal{unknown}; {expected}."
        if len(word) != hex_digits(width):
            return f"{shown!r} in column {name!r} has {len(word)} digits; its {width} bits take {hex_digits(width)}."
        if int(word, 16) >> width:
            return f"{shown!r} in column {name!r} is not a code of {width} bits."
    return f"{len(words)} columns are here; {expected}."
