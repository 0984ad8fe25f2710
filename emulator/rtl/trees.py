"""Sums of many bits: a heap of weighted bits, compressed by full adders as Dadda did, and one carry-propagate adder."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from .part import Number, Part
from .shapes import product

#: The two cells that every heap is made of. A library's own are used where they are smaller.
CELLS = """\
module full_adder(input a, input b, input c, output sum, output carry);
  assign sum = a ^ b ^ c;
  assign carry = (a & b) | (c & (a ^ b));
endmodule

module half_adder(input a, input b, output sum, output carry);
  assign sum = a ^ b;
  assign carry = a & b;
endmodule
"""


class Heap:
    """Bits of weights 2^0 ... 2^(width - 1), to be summed modulo 2^width."""

    def __init__(self, part: Part, name: str, width: int) -> None:
        self.part, self.name, self.width = part, name, width
        self.columns: list[list[Value]] = [[] for _ in range(width)]
        self.constant = 0
        self.cells = self.rows = 0

    def add(self, bit: Value, position: int) -> None:
        """Adds bit * 2^position."""
        if position < self.width and not (isinstance(bit, Const) and not bit.value):
            self.columns[position].append(bit)

    def subtract(self, bit: Value, position: int) -> None:
        """Subtracts bit * 2^position: adds its complement, less 2^position (Baugh & Wooley 1973)."""
        self.add(~bit, position)
        self.constant -= 1 << position

    def add_row(self, row: Value, position: int = 0, signed: bool = False) -> None:
        """Adds row * 2^position; of a signed row the first bit counts negatively."""
        self.rows += 1
        row = self.part.let(f"{self.name}_of{self.rows}", row)
        for i in range(len(row) - signed):
            self.add(row[i], position + i)
        if signed:
            self.subtract(row[-1], position + len(row) - 1)

    def add_product(self, a: Value, b: Value, position: int, a_signed: bool = False, b_signed: bool = False) -> None:
        """Adds a * b * 2^position, as an array of partial products."""
        a, b = (x if isinstance(x, Signal) else self.part.let(f"{self.name}_{n}", x) for n, x in (("a", a), ("b", b)))
        for i in range(len(a)):
            for j in range(len(b)):
                bit = a[i] & b[j]
                negative = (a_signed and i == len(a) - 1) != (b_signed and j == len(b) - 1)
                (self.subtract if negative else self.add)(bit, position + i + j)

    def _cell(self, column: list[Value], position: int, full: bool) -> None:
        """Replaces three bits of a column, or two, by their sum and a carry."""
        ports = {port: column.pop(0) for port in ("abc" if full else "ab")}
        total, carry = Signal(name=f"{self.name}_s{self.cells}"), Signal(name=f"{self.name}_c{self.cells}")
        kind = "full_adder" if full else "half_adder"
        self.part.cells.append((kind, f"{self.name}_{kind}{self.cells}", ports, {"sum": total, "carry": carry}))
        self.cells += 1
        column.append(total)
        if position + 1 < self.width:
            self.columns[position + 1].append(carry)

    def total(self) -> Value:
        """The sum. Each stage brings the columns to the next lower of Dadda's heights 2, 3, 4, 6, 9, 13, ..."""
        for position in range(self.width):
            if self.constant >> position & 1:
                self.columns[position].append(Const(1, 1))
        heights = [2]
        while heights[-1] < max(map(len, self.columns), default=0):
            heights.append(heights[-1] * 3 // 2)
        for height in reversed(heights[:-1] or [2]):
            for position in range(self.width):
                column = self.columns[position]
                while len(column) > height:
                    self._cell(column, position, len(column) > height + 1)
        rows = [Cat(column[i] if i < len(column) else Const(0, 1) for column in self.columns) for i in (0, 1)]
        rows = [self.part.let(f"{self.name}_row{i}", row) for i, row in enumerate(rows)]
        return self.part.let(self.name, (rows[0] + rows[1])[: self.width])


class Multiply(Part):
    """The exact product of two numbers."""

    def __init__(self, x: Number, y: Number) -> None:
        super().__init__()
        shape = product(x.shape, y.shape)
        x, y = self.take_number("x", x), self.take_number("y", y)
        heap = Heap(self, "product", shape.bits)
        heap.add_product(x.magnitude, y.magnitude, 0)
        magnitude = heap.total()
        zero = self.let("zero", x.zero | y.zero)
        offset = self.let("offset", Mux(zero, 0, x.offset + y.offset))
        endless = self.let("endless", x.infinity | y.infinity)
        undefined = self.let("undefined", x.infinity & y.zero | y.infinity & x.zero)
        nan = self.let("nan", x.nan | y.nan | undefined)
        self.number = Number(
            shape,
            self.let("sign", x.sign ^ y.sign),
            magnitude,
            offset,
            zero,
            nan,
            self.let("infinity", endless & ~nan),
            self.let("invalid", x.invalid | y.invalid | undefined & ~(x.nan | y.nan)),
        )
