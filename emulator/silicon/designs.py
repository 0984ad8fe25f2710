"""The designs that a library is characterised with, and the operands that go through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..blocks import BlockFormat
from ..datapath import Datapath
from ..formats import FixedFormat, FloatFormat, Format, PositFormat
from ..functions import Function, function
from ..orders import Blocked, lanes
from ..plan import Plan, plan
from ..random import LFSR, source

if TYPE_CHECKING:
    from ..rtl.dot import DotUnit
    from ..rtl.units import Unit

VECTORS = 600  #: of a measurement
DOT_STEPS = 50  #: clocks of each dot product
DISTRIBUTIONS = ("uniform", "gaussian")  #: of operands: all numbers' codes alike; normally distributed values


@dataclass(frozen=True)
class Design:
    """A unit to be made: ``subject`` is a datapath's text, or a function's name with its rounding as in fp16_mul@RNE.

    Designs that are ``held`` out check a fit that has not seen them.
    """

    subject: str
    pipeline: int = 0
    held: bool = False
    random: str = ""  #: the unit's own LFSR, if it has one
    eager: bool = False

    @property
    def name(self) -> str:
        options = [f"pipeline={self.pipeline}" if self.pipeline else "", f"random={self.random}" if self.random else ""]
        return " ".join(filter(None, [self.subject, *options, "eager" * self.eager]))

    @property
    def lfsr(self) -> LFSR | None:
        found = source(self.random) if self.random else None
        assert found is None or isinstance(found, LFSR)
        return found

    def plan(self) -> Plan:
        return plan(self.parse(), self.pipeline, self.lfsr, self.eager)

    @property
    def is_function(self) -> bool:
        return "_" in self.subject and "/" not in self.subject

    def parse(self) -> Function | Datapath:
        if not self.is_function:
            return Datapath.parse(self.subject)
        name, _, rounding = self.subject.partition("@")
        return function(name, rounding)

    def unit(self) -> DotUnit | Unit:
        """The hardware."""
        from ..rtl.dot import DotUnit
        from ..rtl.units import Unit

        subject, how = self.parse(), (self.pipeline, self.lfsr, self.eager)
        return DotUnit(subject, *how) if isinstance(subject, Datapath) else Unit(subject, False, *how)


def find(name: str) -> Design:
    """A design by its name in a table."""
    subject, *options = name.split()
    given = dict(option.partition("=")[::2] for option in options)
    held = any(name == design.name for design in designs() if design.held)
    return Design(subject, int(given.get("pipeline", 0)), held, given.get("random", ""), "eager" in given)


_FLOATS = "e2m1finite e2m3finite e3m4 e4m3fn e4m3 e4m7 e5m2 e5m6 e5m10 e6m9 e6m13 e8m3 e8m7 e8m10 e8m15 e8m19 e8m23"
_MODES = "RTZ RTO RNA RTP SR4 SR8 SR13 SR8c"
_CONVERSIONS = (
    "fp32_to_bf16 fp32_to_fp16 fp32_to_e4m3fn fp16_to_fp32 bf16_to_e4m3fn e4m3fn_to_fp16 fp16_to_q4.12 fp32_to_q8.8"
    " fp32_to_int8 q4.12_to_fp16 q8.8_to_fp32 int8_to_fp16 q16.16_to_q8.8 int32_to_bf16 posit8_to_fp16 posit16_to_fp32"
    " e8m23ftz_to_e8m7ftz"
)
_MACS = (
    "fp8_e4m3/fp16 fp8_e4m3/fp32 fp8_e5m2/fp16 fp8_e5m2/fp32 fp16 fp16/fp32 bf16 bf16/fp32 tf32/fp32 fp32 e4m3/e5m6"
    " e5m4/e6m9 e3m2finite/e5m6 e2m1finite/fp16 e5m6/e8m15 bf16/e8m15 e4m5/e6m13 e8m7ftz/e8m23ftz e4m3ftz/e5m10ftz"
    " fp16*e4m3fn/fp32 bf16*e2m1finite/fp32 fp16/fp32@RTZ bf16/fp32@SR8 bf16@SR8 bf16@SR13 fp8_e4m3/fp16@SR7"
    " e4m3/e5m6@SR4 e6m5/e6m9@SR13 fp16/fp32/bf16@RNE/SR8 fp8_e4m3/fp32/bf16 fp16/fp32:product=fp16@RNE posit8/fp16"
)
_FIXED = (
    "q2.2/q4.4 q4.4/q8.8 int4/int16 int8/int16 int8/int24 int8/int32 int8/int48 int16/int32 int16/int48 int12/int32"
    " int24/int64 int4*int8/int24 int8*int16/int32 q4.4/q8.4 q8.8/q8.8 q4.12/q8.12@SR8 q8.8/q16.8@SR8 q4.4/q8.4@SR4"
    " q4.12/q16.24/q4.12 q8.8/q16.16/q8.8@RNE/SR16 q4.12w uq4.4/q8.8 q4.4/q8.4@RNA q8.8/q8.4@RTZ"
    " int8/int32:product=int12@RNE"
)
_DOTS = (
    "e2m1finite/fp16:fused4 fp8_e4m3/fp16:fused2 fp8_e4m3/fp16:fused4 fp8_e4m3/fp16:fused8 fp8_e4m3/fp32:fused4"
    " fp8_e4m3/fp32:fused8 fp8_e4m3/fp32:fused16 fp8_e5m2/fp32:fused4g2 fp8_e4m3/e8m13@RTZ:fused8 fp16:fused4"
    " fp16/fp32:fused2 fp16/fp32:fused4 fp16/fp32:fused8 fp16/fp32@RTZ:fused4g1n bf16/fp32:fused4"
    " bf16/fp32:fused8g2 bf16/fp32@SR8:fused4 bf16:fused4g3 tf32/fp32:fused4 fp8_e4m3/e5m6@SR4:fused4"
    " e3m2finite/e5m10:fused8 fp8_e4m3/fp16:fused4g8 fp16/fp32:fused4g8 int8/int32:fused4 int8/int32:fused8"
    " int8/int32:fused16 int4/int24:fused8 int16/int48:fused4 q4.4/q8.4:fused4 q4.4/q8.4@SR4:exact4"
    " q4.12/q8.12@RNE:exact4 q4.4/fp16:fused4g3 fp8_e4m3/fp16:exact2 fp8_e4m3/fp32:exact4 e2m1finite/fp16:exact8"
    " int8/fp32:exact4 fp8_e4m3/fp32:exact e2m1finite/fp16:exact e4m3/fp16:exact q4.4/q8.8:exact"
    " fp8_e4m3/fp16:tree4 fp16/fp32:tree2 bf16/fp32:tree4 int8/int32:tree4 q4.4/q8.4:tree4 fp8_e4m3/fp16:systolic2"
    " bf16:systolic4 int8/int32:systolic4 fp8_e4m3/fp32:blocked32(e8m13@RTZ:fused4) fp8_e4m3/fp32:blocked16(fp16)"
    " q4.4/q12.8:blocked8(q8.4:tree4) mxfp4/fp32 mxfp8_e4m3/fp32 mxfp8_e4m3/fp32:fused4 mxfp4/fp32:exact8"
    " mxfp6_e2m3/bf16:fused8 mxint8/fp32:exact8 nvfp4/fp32:fused4 nvfp4/fp32:exact16 msfp16/fp32:exact16"
)
_PIPELINED = "bf16/fp32 int8/int32 fp8_e4m3/fp16:fused4"
_EAGER = (
    "fp8_e5m2/e6m5@SR9 fp8_e5m2/e6m5@SR13 e5m2ftz/e6m5ftz@SR11 bf16/fp32@SR8 bf16@SR8 fp8_e4m3/fp16@SR7 e4m3_add@SR8"
    " e5m10_add@SR8"
)
_LFSRS = "fp8_e5m2/e6m5@SR9:lfsr9 bf16/fp32@SR8:lfsr16 bf16@SR13:lfsr32 fp8_e4m3/fp16@SR7:lfsr24 e5m10_add@SR4:lfsr12"
_HELD = (
    "e4m4/e5m8 e5m5/e6m11 e6m7/e8m17 e5m8/fp32 e8m5/e8m12 e8m9/e8m21 e4m3/e6m7@SR6 int6/int20 int10/int32 q6.6/q8.8"
    " q3.5/q6.10@SR5 e4m3/e5m8:fused3 e5m3/e8m11:fused6g1 bf16/e8m19:fused6 e5m7/fp32:fused4g3 int8/int28:fused6"
    " e4m2/e8m17:fused12 e3m3/fp16:fused8g2 e5m10/e8m21@RTZ:fused3 fp8_e4m3/fp16@SR5:fused6"
)


def designs() -> list[Design]:
    """All of them."""

    def units(formats: str, operations: str, roundings: str = "RNE") -> Iterator[str]:
        for fmt in formats.split():
            for operation in operations.split():
                for rounding in roundings.split():
                    yield f"{fmt}_{operation}@{rounding}"

    subjects = [
        *units(_FLOATS, "mul add"),
        *units("e4m3fn e5m10 e8m7 e8m15", "fma"),
        *units("e5m10", "add", _MODES),
        *units("e8m7", "mul", "RTZ SR4 SR8"),
        *units("e4m3", "add", "RTZ SR8"),
        *units("e4m3ftz e5m10ftz e8m7ftz e8m23ftz", "mul add"),
        *units("q4.4 q4.12", "mul add"),
        *(f"{name}@RNE" for name in _CONVERSIONS.split()),
        *(f"fp32_to_bf16@{mode}" for mode in ("RTZ", "SR16")),
        *(f"{_MACS} {_FIXED} {_DOTS}".split()),
    ]
    return [
        *(Design(subject) for subject in subjects),
        *(Design(subject, pipeline) for subject in _PIPELINED.split() for pipeline in (1, 3)),
        *(Design(subject, held=True) for subject in _HELD.split()),
        *(Design(subject, eager=True) for subject in _EAGER.split()),
        *(Design(subject, random=lfsr) for subject, _, lfsr in (text.partition(":") for text in _LFSRS.split())),
        Design("e4m3/e6m7@SR6", held=True, eager=True),
        Design("fp8_e4m3/bf16@SR10", held=True, random="lfsr20", eager=True),
    ]


# ---- operands


def operands(ports: list[Any], subject: Function | Datapath, distribution: str, seed: int = 1) -> dict[str, Any]:
    """Codes for each of a unit's input ports, vector by vector; no infinities and NaNs."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 0]))
    known: dict[str, tuple[Format, int]] = {}
    scales: dict[str, tuple[Format, int]] = {}
    if isinstance(subject, Function):
        known = {name: (fmt, 1) for name, fmt in zip("abc", subject.numbers, strict=False)}
    else:
        n = lanes(subject.order)
        for name, fmt in (("a", subject.a), ("b", subject.b)):
            block = isinstance(fmt, BlockFormat)
            known[name] = (fmt.element if block else fmt, n)  # type: ignore[union-attr]
            if isinstance(fmt, BlockFormat):
                scales[f"{name}_scale"] = (fmt.scale, -(-n // fmt.size))
    stimulus: dict[str, Any] = {}
    for port in ports:
        if port.name in known:
            fmt, count = known[port.name]
            stimulus[port.name] = _packed([_codes(fmt, distribution, draw) for _ in range(count)], fmt.bits)
        elif port.name in scales:
            fmt, count = scales[port.name]
            stimulus[port.name] = _packed([_scales(fmt, draw) for _ in range(count)], fmt.bits)
        elif port.name == "clear":
            stimulus["clear"] = (np.arange(VECTORS) % DOT_STEPS == 0).astype(np.uint8)
        elif port.name == "fold":
            assert isinstance(subject, Datapath) and isinstance(subject.order, Blocked)
            steps = max(subject.order.length // lanes(subject.order), 1)
            stimulus["fold"] = (np.arange(VECTORS) % DOT_STEPS % steps == steps - 1).astype(np.uint8)
        elif port.name == "seed_load":
            stimulus[port.name] = (np.arange(VECTORS) == 0).astype(np.uint8)
        elif port.name == "seed":
            stimulus[port.name] = [1] * VECTORS
        elif port.name.startswith("random"):
            bits = [draw.integers(0, 2, VECTORS, dtype=np.uint8) for _ in range(len(port))]
            stimulus[port.name] = _packed(bits, 1)
    return stimulus


def _packed(columns: list[np.ndarray], bits: int) -> list[int]:
    return [sum(int(code) << bits * i for i, code in enumerate(row)) for row in zip(*columns, strict=True)]


def normal(fmt: Format | BlockFormat, size: int | tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Normally distributed numbers for a format: of standard deviation 1, of fixed point a quarter of the range, or
    what fits in the format; without signs where it has none."""
    sigma = fmt.max_finite / 4
    if not isinstance(fmt, FixedFormat):
        sigma = min(1.0, sigma)
        if isinstance(fmt, FloatFormat):
            sigma = max(sigma, min(fmt.min_normal * 4, fmt.max_finite / 4))
    values = draw.normal(0, sigma, size)
    return values if fmt.min_finite < 0 else np.abs(values)


def _codes(fmt: Format, distribution: str, draw: np.random.Generator) -> np.ndarray:
    """Codes of numbers that are no infinities."""
    if distribution == "uniform":
        return _finite(fmt, draw)
    values = normal(fmt, VECTORS, draw)
    return fmt.encode(_nearest(fmt, np.clip(values, -fmt.max_finite, fmt.max_finite)))


def _nearest(fmt: Format, values: np.ndarray) -> np.ndarray:
    """The values of a format that are nearest to numbers within its range; ties do not matter."""
    if isinstance(fmt, PositFormat):
        every = fmt.decode(np.arange(1 << fmt.bits, dtype=np.uint64))
        every = np.sort(every[np.isfinite(every)])
        return every[np.searchsorted((every[1:] + every[:-1]) / 2, values)]
    exponents = np.maximum(np.frexp(values)[1] - 1, fmt.emin)
    last = fmt.quantum_exponent if isinstance(fmt, FixedFormat) else exponents - (fmt.precision - 1)
    nearest = np.clip(np.ldexp(np.rint(np.ldexp(values, -last)), last), fmt.min_finite, fmt.max_finite)
    if isinstance(fmt, FloatFormat) and not fmt.subnormals:
        nearest = np.where(np.abs(nearest) < fmt.min_normal, 0.0, nearest)
    return nearest + 0.0  # fixed point has no -0


def _finite(fmt: Format, draw: np.random.Generator) -> np.ndarray:
    codes = draw.integers(0, 1 << fmt.bits, 4 * VECTORS + 64, dtype=np.uint64)
    if isinstance(fmt, FixedFormat):
        return codes[:VECTORS]
    return codes[np.isfinite(fmt.decode(codes))][:VECTORS]


def _scales(fmt: Format, draw: np.random.Generator) -> np.ndarray:
    """Scales of blocks, 2^1.5 up and down the standard deviation."""
    exponents = np.clip(draw.normal(0, 1.5, VECTORS), -4, 4)
    return fmt.encode(_nearest(fmt, np.exp2(exponents if fmt.precision > 1 else np.rint(exponents))))
