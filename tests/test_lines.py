"""Lines of hexadecimal codes: what is written is read back, in pieces of any size; what is wrong is told."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from halfulp.kernels import lines
from halfulp.kernels.lines import Batch, Malformed

BITS, NAMES = [16, 16, 7, 5], ["a", "b", "result", "flags"]
GOOD = b"3C00 3C00 4F 00\n"


def read(text: bytes, bits=BITS, names=NAMES, skip=0) -> list[Batch]:
    return list(lines.records(io.BytesIO(text), bits, names, skip))


def values(batches: list[Batch]) -> list[list[int]]:
    return np.concatenate([batch.columns for batch in batches], axis=1).T.tolist() if batches else []


@pytest.mark.parametrize("bits", [[1, 1, 5], [16, 16, 16, 5], [33, 4, 5], [64, 64, 64, 64, 5], [7]])
@pytest.mark.parametrize("chunk", [64, 1000, 1 << 20])
def test_what_is_written_is_read_back(bits: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", max(chunk, 2 * sum(bits) // 4))
    rng = np.random.default_rng(5)
    columns = np.stack([rng.integers(0, 1 << 64, 500, np.uint64) >> np.uint64(64 - width) for width in bits])
    text = lines.lines(columns, bits)
    for line, row in zip(text.decode().splitlines(), columns.T.tolist(), strict=True):
        assert line == " ".join(f"{code:0{-(-width // 4)}X}" for code, width in zip(row, bits, strict=True))
    batches = read(text, bits, [str(place) for place in range(len(bits))])
    assert values(batches) == columns.T.tolist()
    numbers = [batch.line(record) for batch in batches for record in range(batch.columns.shape[1])]
    assert numbers == list(range(1, 501))


def test_columns_wider_than_a_word() -> None:
    bits, rng = [136, 64, 200, 5], np.random.default_rng(5)
    assert lines.limbs(bits) == [8, 64, 64, 64, 8, 64, 64, 64, 5]
    codes = [np.array([int.from_bytes(rng.bytes(32)) >> (256 - w) for _ in range(50)], object) for w in bits]
    rows = np.concatenate([lines.split(column, width) for column, width in zip(codes, bits, strict=True)])
    for column, back in zip(codes, lines.joined(rows, bits), strict=True):
        assert column.tolist() == back.tolist()
    text = lines.lines(rows, bits)
    assert text.decode().splitlines()[0] == " ".join(
        f"{column[0]:0{-(-width // 4)}X}" for column, width in zip(codes, bits, strict=True)
    )
    assert np.array_equal(np.concatenate([batch.columns for batch in read(text, bits, "abcd")], axis=1), rows)
    for wrong, digits in ((text.replace(b" ", b"", 1), 50), (text[1:], 33)):
        with pytest.raises(Malformed, match=f"in column 'a' has {digits} digits; its 136 bits take 34"):
            read(wrong, bits, "abcd")


@pytest.mark.parametrize(
    "text",
    [
        b"3C00 3c00 4F 00\n",
        b"3C00,3C00,4F,00\r\n",
        b"3C00_3C00_4F_00\n",
        b"  3C00\t3C00   4F 00",
        b"\n\n// a comment 12 34\n3C00 3C00 4F 00 // and another\n\n",
    ],
)
def test_spellings(text: bytes) -> None:
    assert values(read(text)) == [[0x3C00, 0x3C00, 0x4F, 0]]


def test_nothing_and_headers() -> None:
    assert read(b"") == [] and read(b"\n\n") == []
    header = read(b"a,b,result,flags\n" + GOOD, skip=1)
    assert values(header) == [[0x3C00, 0x3C00, 0x4F, 0]] and header[0].line(0) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"3C00 3C0X 4F 00", "'3C0X' in column 'b' is not hexadecimal (unknown bits of a simulation?)"),
        (b"3C00 3G00 4F 00", "'3G00' in column 'b' is not hexadecimal; 4 columns"),
        (b"3C00 3C00 4F1 00", "'4F1' in column 'result' has 3 digits; its 7 bits take 2."),
        (b"3C0 3C00 4F 00", "'3C0' in column 'a' has 3 digits; its 16 bits take 4."),
        (b"3C00 3C00 4F 0", "'0' in column 'flags' has 1 digits"),
        (b"3C00 3C00 80 00", "'80' in column 'result' is not a code of 7 bits."),
        (b"3C00 3C00 4F 20", "'20' in column 'flags' is not a code of 5 bits."),
        (b"3C00 3C00 4F", "3 columns are here; 4 columns are expected (a, b, result, flags)."),
        (b"3C00 3C00 4F 00 00", "5 columns are here; 4 columns are expected"),
        (b"hello", "'hello' in column 'a' is not hexadecimal"),
        (b"\xff\x00", "in column 'a' is not hexadecimal"),
        (b"0x3C00 3C00 4F 00", "'0x3C00' in column 'a' is not hexadecimal"),
        (b"3C00 3C00 4F 00 /", None),
    ],
)
def test_malformed(line: bytes, said: str | None) -> None:
    text = GOOD * 3 + b"\n" + line + b"\n" + GOOD
    if said is None:
        assert len(values(read(text))) == 5
        return
    found: list[Batch] = []
    with pytest.raises(Malformed) as fault:
        for batch in lines.records(io.BytesIO(text), BITS, NAMES):
            found.append(batch)
    assert str(fault.value).startswith("line 5: ") and said in str(fault.value)
    assert len(values(found)) == 3


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(Malformed, match=r"line 2: '00000000000000000000\.\.\.' in column 'a' has"):
        read(GOOD + b"0" * (3 * lines.CHUNK))


def test_memory_does_not_grow_with_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 1 << 14)

    class Long(io.BufferedIOBase):
        left = 400

        def read1(self, size: int = -1) -> bytes:
            self.left -= 1
            return GOOD * (size // len(GOOD)) if self.left >= 0 else b""

    read(GOOD)
    tracemalloc.start()
    count = sum(batch.columns.shape[1] for batch in lines.records(Long(), BITS, NAMES))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 400 * ((1 << 14) // len(GOOD)) and peak < 1 << 20
