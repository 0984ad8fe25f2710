"""Self-checking test benches: vectors in a file, compared line by line in any Verilog simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Port(NamedTuple):
    name: str
    bits: int
    output: bool = False


_BENCH = """\
// Runs {name} over the lines of {name}.vectors, each a hexadecimal number: a bit that says whether
// the line is checked, then {fields}.
`timescale 1ns/1ps
module {name}_tb;
  localparam N = {count}, LATENCY = {latency};
  reg [{width}:0] vectors [0:N - 1];
  reg clk = 0;
  integer i, j, errors = 0;
  reg [{in_width}:0] in;
  wire [{out_width}:0] out;
  reg [{out_width}:0] expected;
  {name} dut({connections});
  initial begin
    $readmemh("{name}.vectors", vectors);
    in = 0;
    for (i = 0; i < N + (LATENCY > 0 ? LATENCY - 1 : 0); i = i + 1) begin
      in = vectors[i < N ? i : N - 1][{in_top}:{out_bits}];
      #1;
      if (LATENCY > 0) begin clk = 1; #1; end
      j = LATENCY > 0 ? i - LATENCY + 1 : i;
      if (j >= 0) begin
        expected = vectors[j][{out_width}:0];
        if (vectors[j][{width}] && out !== expected) begin
          errors = errors + 1;
          if (errors <= 10) $display("line %0d: in %h, out %h, expected %h",
            j + 1, vectors[j][{in_top}:{out_bits}], out, expected);
        end
      end
      if (LATENCY == 0) begin clk = 1; #1; end
      clk = 0; #1;
    end
    if (errors == 0) $display("PASS {name}: %0d vectors", N);
    else $display("FAIL {name}: %0d of %0d vectors differ", errors, N);
    $finish;
  end
endmodule
"""


def bench(name: str, ports: Sequence[Port], count: int, latency: int, clocked: bool = False) -> str:
    """The test bench of a module: ``ports`` but for ``clk``, in the order of the fields of a line of vectors.

    ``clocked``: it has a ``clk`` though its latency be 0.
    """
    inputs, outputs = ([p for p in ports if p.output is out] for out in (False, True))
    connections = [".clk(clk)"] if latency or clocked else []
    for group, bus in ((inputs, "in"), (outputs, "out")):
        high = sum(p.bits for p in group)
        for p in group:
            connections.append(f".{p.name}({bus}[{high - 1}:{high - p.bits}])")
            high -= p.bits
    in_bits, out_bits = (sum(p.bits for p in group) for group in (inputs, outputs))
    return _BENCH.format(
        name=name,
        fields=", ".join(f"{p.name} ({p.bits} bits)" for p in [*inputs, *outputs]),
        count=count,
        latency=latency,
        width=in_bits + out_bits,
        in_width=in_bits - 1,
        in_top=in_bits + out_bits - 1,
        out_width=out_bits - 1,
        out_bits=out_bits,
        connections=", ".join(connections),
    )


def lines(ports: Sequence[Port], columns: dict[str, Sequence[int] | np.ndarray]) -> str:
    """Vectors as text, a line per case; ``check`` is the column that says which lines are checked, all if left out."""
    ordered = [p for p in ports if not p.output] + [p for p in ports if p.output]
    total = 1 + sum(p.bits for p in ordered)
    words = list(columns.get("check", [1] * len(columns[ordered[0].name])))
    for p in ordered:
        column = columns[p.name]
        values = column.tolist() if isinstance(column, np.ndarray) else column
        words = [word << p.bits | value for word, value in zip(words, values, strict=True)]
    digits = -(-total // 4)
    return "\n".join(f"{word:0{digits}x}" for word in words) + "\n"
