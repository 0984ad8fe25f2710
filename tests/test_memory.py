"""Memory: a product takes little beside its operands and its result."""

import subprocess
import sys
from pathlib import Path

import pytest

#: In a process of its own: the most memory that it held during a call beyond what it held before, in MiB.
MEASURE = """
import sys
import numpy as np
import halfulp as hu

def held(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

machine, n = hu.Machine(sys.argv[1], threads=2), int(sys.argv[2])
small = np.ones((40, 40))
machine.matmul(small, small), machine.explain(small, small), np.ones((300, 300)) @ np.ones((300, 300))
a = hu.quantize(np.random.default_rng(0).standard_normal((n, n)), machine.datapath.a)
b = hu.quantize(np.random.default_rng(1).standard_normal((n, n)), machine.datapath.b)
open("/proc/self/clear_refs", "w").write("5")  # VmHWM begins anew
before = held("VmRSS")
c = machine.matmul(a, b)
print(held("VmHWM") - before - c.nbytes / 2**20, (a.nbytes + b.nbytes + c.nbytes) / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "name",
    ["fp16", "fp16@SR8", "fp32", "int8/int32", "q4.12/q20.24/q4.12", "fp16/fp32:exact", "fp16/fp32@RTZ:fused16g2"],
)
def test_a_product_takes_a_tenth_more_than_its_operands_and_result(name):
    result = subprocess.run([sys.executable, "-c", MEASURE, name, "1600"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    more, held = map(float, result.stdout.split())
    assert more < 0.1 * held, f"{more:.1f} MiB beside {held:.1f} MiB"
