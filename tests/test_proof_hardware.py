"""Another implementation, in silicon: this x86 processor's own arithmetic in binary32 and binary64, codes and flags.

Four rounding modes, subnormals flushed or not (MXCSR's DAZ and FTZ), x86's NaNs; compiled here from ``hardware.c``.
"""

import ctypes
import functools
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from halfulp.emulator.conventions import Conventions
from halfulp.emulator.functions import function
from proof import ASKED, How, compare, hard_columns

CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("gcc") or not all(f" {f}" in CPU for f in ("fma", "f16c")),
    reason="needs an x86-64 processor with FMA and F16C, and gcc",
)

ROUNDING = {"RNE": 0x0000, "RTN": 0x2000, "RTP": 0x4000, "RTZ": 0x6000}
DAZ, FTZ = 0x0040, 0x8000
#: MXCSR's exception bits as ours; bit 1, "denormal operand", is x86's own.
FLAGS = {0x01: 16, 0x04: 8, 0x08: 4, 0x10: 2, 0x20: 1}

#: hardware.c's function: our function and its exact flag.
SAME = {f"{f}_{op}": (f"{f}_{op}", False) for f in ("f32", "f64") for op in ("add", "sub", "mul", "div", "sqrt", "fma")}
SAME |= {f"{f}_to_{i}": (f"{f}_to_{i}", True) for f in ("f32", "f64") for i in ("i32", "i64")}
SAME |= {f"{f}_round_to_integral": (f"{f}_roundToInt", False) for f in ("f32", "f64")}
SAME |= {f"{f}_round_to_integral_exact": (f"{f}_roundToInt", True) for f in ("f32", "f64")}
SAME |= {name: (name, False) for name in ("f64_to_f32", "f32_to_f64", "f32_to_f16", "f16_to_f32")}
SAME |= {f"{f}_compare": (f"{f}_compare", False) for f in ("f32", "f64")}
FORMATS = {"f16": "e5m10", "f32": "e8m23", "f64": "e11m52"}

#: The exchanges that are not x86's to make: F16C ignores FTZ, and its operands are read with their subnormals.
IGNORES_FLUSHING = ("f32_to_f16", "f16_to_f32")


@functools.cache
def library():
    folder = Path(tempfile.mkdtemp(prefix="halfulp-"))
    source = Path(__file__).with_name("hardware.c")
    command = ["gcc", "-O1", "-mfma", "-mf16c", "-msse4.1", "-shared", "-fPIC", "-o", folder / "hardware.so", source]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "hardware.so"))


def by_hardware(name, columns, mxcsr):
    words = [np.ascontiguousarray(column, np.uint64) for column in columns]
    words += [np.zeros_like(words[0])] * (3 - len(words))
    codes, raw = np.empty_like(words[0]), np.empty(words[0].shape, np.uint8)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*words, codes, raw)]
    getattr(library(), name)(ctypes.c_long(codes.size), ctypes.c_uint(mxcsr), *pointers)
    flags = np.zeros(raw.shape, np.uint8)
    for theirs, ours in FLAGS.items():
        flags |= np.where(raw & theirs, ours, 0).astype(np.uint8)
    return codes, flags


@functools.lru_cache(4)
def operands(name, count):
    return hard_columns(name, 4000 if count > 10_000 else 500, count, "hardware")


def check_hardware(asked, name, mode, flushing, count):
    ours, exact = SAME[name]
    unit = function(ours, mode, Conventions(nan="x86", daz=bool(flushing & DAZ), ftz=bool(flushing & FTZ)), exact)
    columns = operands(FORMATS[name[:3]], count)[: len(unit.operands)]
    random = np.zeros(columns[0].shape, np.uint64)
    wanted = by_hardware(name, columns, ROUNDING[mode] | flushing)
    compare(
        f"{ours} on this processor, MXCSR {flushing:#x}",
        How(mode),
        columns,
        ASKED[asked](unit, columns, random),
        wanted,
        random,
    )


@pytest.mark.parametrize("mode", ROUNDING)
@pytest.mark.parametrize("name", SAME)
def test_kernels(name, mode):
    check_hardware("kernels", name, mode, 0, 100_000)


@pytest.mark.parametrize("mode", ROUNDING)
@pytest.mark.parametrize("name", SAME)
def test_definition(name, mode):
    check_hardware("definition", name, mode, 0, 2000)


@pytest.mark.parametrize("flushing", [DAZ, FTZ, DAZ | FTZ], ids=["daz", "ftz", "daz-ftz"])
@pytest.mark.parametrize("name", [name for name in SAME if name not in IGNORES_FLUSHING])
def test_flushing(name, flushing):
    for asked, count in (("kernels", 20_000), ("definition", 1000)):
        for mode in ("RNE", "RTP"):
            check_hardware(asked, name, mode, flushing, count)
