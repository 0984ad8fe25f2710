"""ZigZag: an ``Array`` as the hardware description of that tool (github.com/KULeuven-MICAS/zigzag, version 3.9).

Energies in pJ (of a MAC, and of an access of a memory), areas in um2 (ZigZag leaves their unit to the user), sizes and
bandwidths in bits and bits a cycle, as its ``MemoryInstance`` and ``OperationalArray`` have them; ZigZag:
doi:10.1109/TC.2021.3059962.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import metadata
from typing import Any

from ..emulator.accelerator import Array
from ..emulator.cost import cost
from ..emulator.dataflow import DATAFLOWS, element_bits
from ..emulator.orders import multipliers

#: Bits of DRAM, as in ZigZag's own examples: so many that they never matter.
DRAM_BITS = 10_000_000_000
_KIB = 8192  #: bits


def accelerator(array: Array) -> str:
    """An array as YAML.

    ``operational_array`` is rows (D1) x columns (D2) x multipliers of a unit (D3, where there are several). Its
    ``unit_energy`` is ``hu.cost``'s energy of a MAC, ``unit_area`` the unit's area over its multipliers. Above it lie a
    register for each operand (``I1`` is A, ``I2`` is B) in each multiplier and for the sum (``O``) in each unit, the
    SRAM and the DRAM. Registers cost what is written into them; the sum's is in the price of the unit. The SRAM's
    bandwidth is all that the array can take, as ``Array`` has it.

    ZigZag has no place for the scales of blocks, and none for the units that round outputs.
    """
    data = description(array)
    text = [
        f"# halfulp {metadata.version('halfulp')}: {array.datapath.name} at {array.node}, clock {array.clock_hz:g} Hz"
    ]
    text += ["# energy in pJ, area in um2, size in bits, bandwidth in bits a cycle; I1 is A, I2 is B, O is C = A B"]
    by_row, by_column, _ = DATAFLOWS[array.dataflow]
    inner = ", D3 takes k" if "D3" in data["operational_array"]["dimensions"] else ""
    text += [
        f"# {array.dataflow} stationary: D1 takes {by_row} and D2 {by_column}{inner} of C[m][n] += A[m][k] B[k][n]"
    ]
    left_out = [p for p in array.parts if p.name == "output rounding units"]
    text += [f"# not described: {p.number} {p.name} of {p.area_um2.value:.4g} um2 each" for p in left_out]
    text += ["# not described: the scales of blocks"] * array.datapath.in_blocks
    text += [f"# warning: {warning}" for warning in array.warnings]
    text += [f"# source: {source}" for source in _sources(array)]
    return "\n".join(text) + "\n" + _yaml(data)


def _yaml(data: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)


def description(array: Array) -> dict[str, Any]:
    """What the file says, as ZigZag reads it."""
    lanes = multipliers(array.datapath.order)
    unit = cost(replace(array.datapath, output=array.datapath.accumulator), array.node)
    sizes = [array.rows, array.cols] + ([lanes] if lanes > 1 else [])
    dimensions = ["D1", "D2", "D3"][: len(sizes)]
    return {
        "name": re.sub(r"\W+", "_", f"{array.datapath.name}_{array.rows}x{array.cols}_{array.node}"),
        "memories": {
            "register_A": _register(array, "I1", element_bits(array.datapath.a)),
            "register_B": _register(array, "I2", element_bits(array.datapath.b)),
            "register_C": _sum_register(array, dimensions[2:]),
            "sram": _sram(array, lanes, dimensions),
            "dram": _dram(array, dimensions),
        },
        "operational_array": {
            "unit_energy": unit.energy_pj,
            "unit_area": unit.area_um2 / lanes,
            "dimensions": dimensions,
            "sizes": sizes,
            "systolic_dimensions": dimensions[:2],
        },
    }


def _sources(array: Array) -> list[str]:
    levels = [array.energy_per_bit_pj(level).sources for level in ("register", "sram", "dram")]
    parts = [part.area_um2.sources for part in array.parts]
    return sorted(frozenset(cost(array.datapath, array.node).sources).union(*levels, *parts))


def _memory(size: int, read_pj: float, write_pj: float, area_um2: float, ports: list[dict[str, Any]]) -> dict[str, Any]:
    operands = {entry.split(",")[0]: None for port in ports for entry in port["allocation"]}
    return {
        "size": size,
        "r_cost": read_pj,
        "w_cost": write_pj,
        "area": area_um2,
        "latency": 1,
        "operands": sorted(operands),
        "ports": ports,
        "served_dimensions": [],
    }


def _port(name: str, kind: str, bits: int, least: int, *allocation: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "bandwidth_min": least,
        "bandwidth_max": bits,
        "allocation": list(allocation),
    }


def _registers_cost(array: Array, bits: int) -> tuple[float, float]:
    """pJ of a write, and um2."""
    area = next(p.area_um2.value for p in array.parts if p.name == "operand registers")
    return bits * array.energy_per_bit_pj("register").value, bits * area


def _register(array: Array, operand: str, bits: int) -> dict[str, Any]:
    """The register of an operand, one for each multiplier."""
    write, area = _registers_cost(array, bits)
    ports = [
        _port("r_port_1", "read", bits, bits, f"{operand}, tl"),
        _port("w_port_1", "write", bits, bits, f"{operand}, fh"),
    ]
    return _memory(bits, 0.0, write, area, ports)


def _sum_register(array: Array, lanes: list[str]) -> dict[str, Any]:
    """The register of the sum, one for each unit, that is for all of its multipliers; the unit's price has it."""
    bits = array.datapath.accumulator.bits
    ports = [
        _port("r_port_1", "read", bits, bits, "O, tl"),
        _port("r_port_2", "read", bits, bits, "O, th"),
        _port("w_port_1", "write", bits, bits, "O, fh"),
        _port("w_port_2", "write", bits, bits, "O, fl"),
    ]
    return _memory(bits, 0.0, 0.0, 0.0, ports) | {"served_dimensions": lanes}


def _sram(array: Array, lanes: int, dimensions: list[str]) -> dict[str, Any]:
    """The SRAM: a port for each operand and direction, each as wide as the widest needs to be."""
    dp = array.datapath
    bits = max(
        array.rows * lanes * element_bits(dp.a),
        array.cols * lanes * element_bits(dp.b),
        max(array.rows, array.cols) * dp.accumulator.bits,
    )
    size = int(array.sram_kib * _KIB)
    access = bits * array.energy_per_bit_pj("sram").value
    area = next(part.area_um2.value for part in array.parts if part.name == "SRAM")
    reads = ["I1, tl", "I2, tl", "O, tl", "O, th"]
    writes = ["I1, fh", "I2, fh", "O, fl", "O, fh"]
    ports = [_port(f"r_port_{i}", "read", bits, 1, entry) for i, entry in enumerate(reads, 1)]
    ports += [_port(f"w_port_{i}", "write", bits, 1, entry) for i, entry in enumerate(writes, 1)]
    return _memory(size, access, access, size * area, ports) | {"served_dimensions": list(dimensions)}


def _dram(array: Array, dimensions: list[str]) -> dict[str, Any]:
    """The DRAM: one port of its bandwidth for all."""
    bits = max(int(8 * array.dram_bytes_per_s / array.clock_hz), 1)
    access = bits * array.energy_per_bit_pj("dram").value
    all_of_it = [f"{operand}, {way}" for operand in ("I1", "I2") for way in ("fh", "tl")]
    all_of_it += [f"O, {way}" for way in ("fh", "tl", "fl", "th")]
    port = _port("rw_port_1", "read_write", bits, 1, *all_of_it)
    return _memory(DRAM_BITS, access, access, 0.0, [port]) | {"served_dimensions": list(dimensions)}
