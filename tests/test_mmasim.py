"""MMA-Sim (Xie et al., arXiv:2511.10909), which its authors compared with the silicon: matrix units give its bits.

Not among the packages that the tests need, as it takes PyTorch: ``pip install mmasim``. NaNs are NaNs here, whatever
their codes; and zeros have the sign of MMA-Sim's.
"""

import halfulp as hu
import numpy as np
import pytest
from halfulp.emulator import datapath
from halfulp.emulator.blocks import Block
from halfulp.emulator.codec import code_dtype

NVIDIA = {"V100": "Volta", "T4": "Turing", "A100": "Ampere", "L40S": "Ada Lovelace"}
NVIDIA |= {"H100": "Hopper", "B200": "Blackwell"}
SHAPES = {"V100": "m8n8k4", "T4": "m16n8k8"}
AMD_EIGHT = {"e4m3fnuz": "fp8", "e5m2fnuz": "bf8"}
EIGHT = {"fp8_e4m3": "e4m3", "fp8_e5m2": "e5m2"}
SMALL = EIGHT | {"fp6_e3m2": "e3m2", "fp6_e2m3": "e2m3", "fp4_e2m1": "e2m1"}
RESULTS = {"fp32": "f32", "fp16": "f16"}

#: (device, a, b, result, instruction; MMA-Sim's class, architecture, instruction)
CASES = []
for gpu, arch in NVIDIA.items():
    shape = SHAPES.get(gpu, "m16n8k16")
    for result, to in RESULTS.items():
        CASES.append((gpu, "fp16", "fp16", result, "mma", "MMA", arch, f"{shape}.{to}.f16.f16.{to}"))
    if gpu not in SHAPES:
        CASES.append((gpu, "bf16", "bf16", "fp32", "mma", "MMA", arch, f"{shape}.f32.bf16.bf16.f32"))
        CASES.append((gpu, "tf32", "tf32", "fp32", "mma", "MMA", arch, "m16n8k8.f32.tf32.tf32.f32"))
for result, to in RESULTS.items():
    CASES.append(("T4", "fp16", "fp16", result, "mma_m8n8k4", "MMA", "Turing", f"m8n8k4.{to}.f16.f16.{to}"))
    for a, first in EIGHT.items():
        for b, second in EIGHT.items():
            kinds = f"{to}.{first}.{second}"
            CASES.append(("L40S", a, b, result, "mma", "MMA", "Ada Lovelace", f"m16n8k32.{kinds}.{to}"))
            CASES.append(("H100", a, b, result, "wgmma", "WGMMA", "Hopper", f"m64n8k32.{kinds}"))
    for a, first in SMALL.items():
        for b, second in SMALL.items():
            kinds = f"kind::f8f6f4.{to}.{first}.{second}"
            CASES.append(("B200", a, b, result, "tcgen05", "TCGen05MMA", "Blackwell", f"m64n8k32.{kinds}"))
for fmt, kinds in (("fp16", "32x32x8_f16"), ("bf16", "32x32x8_bf16"), ("tf32", "16x16x8_xf32")):
    CASES.append(("MI300X", fmt, fmt, "fp32", "mfma", "MFMA", "CDNA3", f"f32_{kinds}"))
for a, first in AMD_EIGHT.items():
    for b, second in AMD_EIGHT.items():
        CASES.append(("MI300X", a, b, "fp32", "mfma", "MFMA", "CDNA3", f"f32_16x16x32_{first}_{second}"))


def codes_of(fmt, rng, rows=240, length=64):
    """Codes, a quarter of the rows of each sort: normal, tiny, far apart, any patterns (few, lest all end in NaNs)."""
    lowest, highest = np.log2(fmt.min_subnormal), np.log2(fmt.max_finite)
    shape, tiny = (rows // 4, length), max(lowest, -75)
    signs = rng.choice([-1.0, 0.0, 1.0], (2, *shape))
    moderate = [
        rng.normal(size=shape),
        signs[0] * np.exp2(rng.uniform(tiny, tiny + 8, shape)),
        signs[1] * np.exp2(rng.uniform(max(lowest, -90), min(highest, 90), shape)),
    ]
    patterns = rng.integers(0, 1 << fmt.bits, shape)
    patterns[:, 4:] *= rng.random(patterns[:, 4:].shape) < 0.2
    return np.concatenate([fmt.encode(hu.quantize(np.concatenate(moderate), fmt)).astype(np.int64), patterns])


def tensor(codes, name):
    """Codes as MMA-Sim takes them: tf32 in the upper bits of binary32, e2m1 in bits 5 ... 2 of a byte."""
    torch = pytest.importorskip("torch")
    if name in ("fp16", "bf16"):
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[name]
        return torch.from_numpy(codes.astype(np.uint16).view(np.int16)).view(dtype)
    if name == "tf32":
        return torch.from_numpy((codes << 13).astype(np.uint32).view(np.int32)).view(torch.float32)
    bytes_ = torch.from_numpy((codes << (2 if name == "fp4_e2m1" else 0)).astype(np.uint8))
    dtypes = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
    dtypes |= {"e4m3fnuz": torch.float8_e4m3fnuz, "e5m2fnuz": torch.float8_e5m2fnuz}
    return bytes_.view(dtypes[name]) if name in dtypes else bytes_


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case[:5]))
def test_matrix_units(case):
    """MMA-Sim's 8-bit units of CDNA3 drop an accumulator that is a NaN beside products of 2^25 and more, its exponent
    being -1 there; so NaNs are in the last step only."""
    torch = pytest.importorskip("torch")
    device, a, b, result, instruction, kind, arch, name = case
    sim = pytest.importorskip("mmasim.amd.sim" if kind == "MFMA" else "mmasim.nv_ptx.sim")
    theirs = getattr(sim, kind)(arch, name)
    dp = hu.unit(device, a, b, result, instruction)
    rng = np.random.default_rng([*device.encode(), *a.encode(), *b.encode()])
    x, y = codes_of(dp.a, rng), codes_of(dp.b, rng)
    if a in AMD_EIGHT:
        x[:, :48][x[:, :48] == 0x80], y[:, :48][y[:, :48] == 0x80] = 0, 0
    started = torch.zeros(len(x), dtype=torch.float16 if result == "fp16" else torch.float32)
    wanted = theirs.dpa(tensor(x, a), tensor(y, b), started).double().numpy()
    decoded = (fmt.decode(codes.astype(code_dtype(fmt.bits))) for fmt, codes in ((dp.a, x), (dp.b, y)))
    machine = hu.Machine(dp)
    found = np.array([machine.dot(row, column) for row, column in zip(*decoded, strict=True)])
    assert_same(found, wanted, x, y)


@pytest.mark.parametrize("b", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4"])
@pytest.mark.parametrize("a", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4"])
def test_tensor_cores_on_blocks(a, b):
    """One block each, as MMA-Sim has one scale a step."""
    torch, sim = pytest.importorskip("torch"), pytest.importorskip("mmasim.nv_ptx.sim")
    names = ["fp" + name.removeprefix("mxfp") for name in (a, b)]
    names = ["fp4_e2m1" if name == "fp4" else name for name in names]
    kinds = ".".join(SMALL[name] for name in names)
    theirs = sim.TCGen05MMABlockScale("Blackwell", f"m128n8k32.kind::mxf8f6f4.block32.f32.{kinds}.ue8m0")
    dp, rng = hu.unit("B200", a, b, instruction="tcgen05"), np.random.default_rng([*a.encode(), *b.encode()])
    x, y = (codes_of(fmt.element, rng, length=32) for fmt in (dp.a, dp.b))
    scales = rng.integers(127 - 130 // rng.choice([2, 20, 60], (len(x), 1)), 131, (len(x), 2)).astype(np.uint8)
    given = [torch.from_numpy(scales[:, [i]].copy()).view(torch.float8_e8m0fnu) for i in range(2)]
    started = torch.zeros(len(x), dtype=torch.float32)
    wanted = theirs.dpa(tensor(x, names[0]), tensor(y, names[1]), started, *given).double().numpy()
    machine, found = hu.Machine(dp), []
    for i in range(len(x)):
        row = hu.Blocks(x[[i]].astype(np.uint8), scales[[i], :1], None, 1)
        column = hu.Blocks(y[[i]].T.astype(np.uint8), scales[[i], 1:], None, 0)
        found.append(machine.matmul(row, column)[0, 0])
    assert_same(np.array(found), wanted, x, y)


@pytest.mark.parametrize(("name", "kind"), [("mxfp4", "mxf4.block32"), ("mxfp4x16", "mxf4nvf4.block16"),
                                            ("nvfp4", "mxf4nvf4.block16")])  # fmt: skip
def test_tensor_cores_on_groups(name, kind):
    """By the definition alone; two elements a byte, the first one above."""
    torch, sim = pytest.importorskip("torch"), pytest.importorskip("mmasim.nv_ptx.sim")
    scale, dtype = ("ue4m3", torch.float8_e4m3fn) if name == "nvfp4" else ("ue8m0", torch.float8_e8m0fnu)
    theirs = sim.TCGen05MMABlockScale("Blackwell", f"m128n8k64.kind::{kind}.f32.e2m1.e2m1.{scale}")
    dp, rng = hu.unit("B200", name), np.random.default_rng([*name.encode()])
    codes = rng.integers(0, 16, (2, 900, 64)) * (rng.random((2, 900, 64)) < rng.choice([0.05, 0.3, 1.0], (2, 900, 1)))
    spread = rng.choice([1, 8, 40, 120], (900, 1))
    scales = rng.integers(127 - spread, 128 + spread, (2, 900, 64 // dp.a.size))
    scales = (scales if name != "nvfp4" else scales & 0x7F).astype(np.uint8)
    given = [torch.from_numpy(x.copy()).view(dtype) for x in scales]
    packed = [torch.from_numpy((x[:, ::2] << 4 | x[:, 1::2]).astype(np.uint8)) for x in codes]
    wanted = theirs.dpa(*packed, torch.zeros(900), *given).double().numpy()
    found = [
        float(dp.output.unpack(datapath.dot(dp, *(in_blocks(dp.a, codes[k, i], scales[k, i]) for k in range(2)))))
        for i in range(900)
    ]
    assert_same(np.array(found), wanted, *codes)


def in_blocks(fmt, codes, scales):
    elements = [fmt.element.unpack(int(code)) for code in codes]
    parts = zip(range(0, len(codes), fmt.size), scales, strict=True)
    return [Block(tuple(elements[i : i + fmt.size]), fmt.scale.unpack(int(scale))) for i, scale in parts]


def assert_same(found, wanted, x, y):
    same = (found == wanted) & (np.signbit(found) == np.signbit(wanted)) | (np.isnan(found) & np.isnan(wanted))
    assert same.all(), [(x[i], y[i], found[i], wanted[i]) for i in np.flatnonzero(~same)[:3]]
