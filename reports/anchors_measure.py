"""Measure what the explanations of ``anchors.toml`` lean on: pairs of designs, made, mapped on libraries, simulated.

    python -m halfulp.reports.anchors_measure LIBERTY ... --out reports/measured/anchors.csv

A design reads ``SUBJECT[ pipeline=N][ eager][ fast][ modules][ relu]``: a datapath or a function unit, as ``halfulp
rtl`` takes it, or ``add FORMAT@ROUNDING``; N ranks of registers; eager stochastic rounding (``lazy`` is what others
have); mapped for a clock that nothing meets, instead of for the least area; module by module, as the designs of the
fits are, instead of as one; with the operands of a network layer, whose activations are not negative, instead of
normally distributed ones. Values are subject / versus; energies the geometric mean of that of settled values alone and
that with glitches.

A row whose anchor, quantity, subject and versus are those of a row of ``anchors.csv`` is our number for it.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..emulator.files import write_atomically
from ..emulator.rtl.design import design
from ..emulator.silicon.designs import VECTORS, operands
from ..emulator.silicon.measure import Measurement, measure_netlist
from ..emulator.silicon.synthesis import synthesise

COLUMNS = ("anchor", "quantity", "subject", "versus", "library", "value", "date", "command")
COMMAND = "python -m halfulp.reports.anchors_measure LIBERTY ... --out FILE"
FAST_NS = 0.05  #: a clock that nothing meets
RELU_SIGMA = 1 / 8  #: of the largest value: what a scale by the largest of some hundred numbers leaves, and some

_FP12 = "e5m2ftz/e6m5ftz@SR13"
#: (anchor, subject, versus, quantities)
CASES = (
    ("hp6", "fp32_add pipeline=3 fast", "fp32_add", "area delay energy"),
    ("hp6", "fp32_mul pipeline=3 fast", "fp32_mul", "area energy"),
    ("aladdin", "fp64_add pipeline=3 fast", "fp64_add", "area energy"),
    ("benali2024", "add e6m5@SR13 eager", "add e6m5@SR13 lazy", "area delay"),
    ("benali2024", "add e6m5@SR13 eager fast", "add e6m5@SR13 lazy fast", "area delay"),
    ("benali2024", f"{_FP12} eager", _FP12, "area delay"),
    ("benali2024", f"{_FP12} eager fast", f"{_FP12} fast", "area delay"),
    ("benali2024", _FP12, "fp8_e5m2/fp32", "area delay energy"),
    ("benali2024", f"{_FP12} fast", "fp8_e5m2/fp32 fast", "area delay energy"),
    ("benali2024", _FP12, "e5m2ftz/e8m23ftz", "area"),
    ("benali2024", _FP12, "fp8_e5m2/fp16", "area delay energy"),
    ("benali2024", f"{_FP12} fast", "fp8_e5m2/fp16 fast", "area delay energy"),
    ("benali2024", _FP12, "e5m2ftz/e6m5ftz@RTZ", "area delay"),
    ("benali2024", _FP12, f"{_FP12} modules", "area"),
    ("benali2024", "fp8_e5m2/fp32", "fp8_e5m2/fp32 modules", "area"),
    ("vanbaalen2023", "fp8_e4m3/fp16", "int8/int27w", "area"),
    ("vanbaalen2023", "fp8_e4m3/fp32", "int8/int27w", "area"),
    ("vanbaalen2023", "fp8_e4m3/fp32", "fp8_e4m3/fp32 modules", "area"),
    ("vanbaalen2023", "int8/int27w", "int8/int27w modules", "area"),
    ("exsdotp2022", "fp8_e5m2/fp16:fused2", "fp8_e5m2/fp16", "delay"),
    ("exsdotp2022", "fp8_e5m2/fp16:fused2 fast", "fp8_e5m2/fp16 fast", "delay"),
    ("mgs2025", "int8/int32 relu", "int8/int32", "energy"),
    ("mgs2025", "fp8_e4m3/fp32 relu", "fp8_e4m3/fp32", "energy"),
    ("fpnew2021", "e5m2_fma pipeline=3 fast", "e5m2_fma", "energy"),
    ("kaul2012", "fp32_fma pipeline=3 fast", "fp32_fma", "area energy"),
)


@lru_cache(maxsize=64)
def _measurement(text: str, liberty: str) -> Measurement:
    subject, *words = text.split(" ")
    pipeline = next((int(word[len("pipeline=") :]) for word in words if word.startswith("pipeline=")), 0)
    rounding: str | None = None
    if subject == "add":
        fmt, rounding = words[0].split("@")
        subject = f"{fmt}_add"
    made = design(subject, rounding, pipeline=pipeline, eager="eager" in words)
    inputs = [_Port(port.name, port.bits) for port in made.ports if not port.output]
    stimulus = operands(inputs, made.subject, "gaussian")
    if "relu" in words:
        stimulus |= _layer(made.subject)
    netlist = synthesise(made.verilog, made.name, liberty, FAST_NS if "fast" in words else None, "modules" in words)
    return measure_netlist(netlist, stimulus, 0.0)[0]


class _Port:
    """A port as ``operands`` wants it."""

    def __init__(self, name: str, bits: int) -> None:
        self.name, self.bits = name, bits

    def __len__(self) -> int:
        return self.bits


def _layer(datapath: object) -> dict[str, list[int]]:
    """Activations max(0, x) and weights, x and weights normal."""
    draw = np.random.Generator(np.random.Philox(key=[1, 1]))
    found = {}
    for name in "ab":
        fmt = getattr(datapath, name)
        values = draw.normal(0, fmt.max_finite * RELU_SIGMA, VECTORS)
        values = np.clip(np.maximum(values, 0) if name == "a" else values, -fmt.max_finite, fmt.max_finite)
        every = np.arange(1 << fmt.bits, dtype=np.uint64)
        known = fmt.decode(every)
        found[name] = [int(every[np.nanargmin(np.abs(known - value))]) for value in values]
    return found


def _value(found: Measurement, quantity: str) -> float:
    if quantity == "energy":
        return math.sqrt(found.energy_settled_pj * found.energy_inertial_pj)
    return found.area_um2 if quantity == "area" else found.delay_ns


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases on the libraries that are named; rows of other pairs in the file stay."""
    parser = argparse.ArgumentParser(prog="halfulp.reports.anchors_measure", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("liberty", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", default="", help="This anchor.")
    options = parser.parse_args(arguments)
    rows = []
    for anchor, subject, versus, quantities in (case for case in CASES if options.only in ("", case[0])):
        for liberty in options.liberty:
            pair = [_measurement(text, str(liberty)) for text in (subject, versus)]
            for quantity in quantities.split():
                one, other = (_value(found, quantity) for found in pair)
                identity = (anchor, f"{quantity}_ratio", subject, versus, liberty.name)
                values = (*identity, f"{one / other:.4g}", f"{date.today()}", COMMAND)
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            print(*rows[-1].values(), file=sys.stderr, flush=True)
    made = {(row["subject"], row["versus"]) for row in rows}
    if options.out.exists():
        kept = csv.DictReader(options.out.read_text(encoding="utf-8").splitlines())
        rows += [row for row in kept if (row["subject"], row["versus"]) not in made]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(options.out, text.getvalue())


if __name__ == "__main__":
    main()
