"""Measure a Verilog design on a real cell library: area, delay, and energy of the operands that go through it.

``liberty`` reads a library (``cells``), ``synthesis`` maps a design on it (``netlist``), ``timing`` finds the delays,
``gates`` simulates, ``power`` adds up, ``measure`` does all of it.
"""

from .liberty import read_library
from .measure import Measurement, measure, measure_netlist
from .synthesis import synthesise

__all__ = ["Measurement", "measure", "measure_netlist", "read_library", "synthesise"]
