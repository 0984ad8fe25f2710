"""halfulp: describe a datapath once; emulate it bit for bit, price it in silicon, see what it does to real work."""

from .emulator.accelerator import Array
from .emulator.arithmetic import Flags
from .emulator.blocks import BlockFormat, Blocks
from .emulator.conventions import ARM, RISCV, X86, Conventions
from .emulator.cost import Cost, cost
from .emulator.dataflow import Conv, Matmul, Spmv
from .emulator.datapath import Datapath
from .emulator.errors import HalfulpError
from .emulator.formats import FixedFormat, FloatFormat, PositFormat
from .emulator.functions import Function, function, reference
from .emulator.ledger import Ledger, Operation
from .emulator.matrix_units import MatrixUnit, unit, units
from .emulator.names import ALIASES, BLOCK_ALIASES, format
from .emulator.orders import (
    Blocked,
    Exact,
    Fused,
    Sequential,
    Systolic,
    Tree,
    TwoStage,
    blocked,
    exact,
    fused,
    sequential,
    systolic,
    tree,
    two_stage,
)
from .emulator.random import LFSR
from .emulator.rounding import RNA, RND, RNE, RTN, RTO, RTP, RTZ, SR, Rounding
from .emulator.scoreboard import Scoreboard
from .emulator.technology import Technology
from .kernels.arrays import add, decode, div, encode, fma, mul, rem, sqrt, sub
from .kernels.blocks import encode_blocks
from .kernels.events import Events, minimal_accumulator
from .kernels.machine import Machine
from .kernels.quantize import quantize

__version__ = "0.1.0"

__all__ = [
    "ALIASES",
    "ARM",
    "BLOCK_ALIASES",
    "LFSR",
    "RISCV",
    "RNA",
    "RND",
    "RNE",
    "RTN",
    "RTO",
    "RTP",
    "RTZ",
    "SR",
    "X86",
    "Array",
    "BlockFormat",
    "Blocked",
    "Blocks",
    "Conv",
    "Conventions",
    "Cost",
    "Datapath",
    "Events",
    "Exact",
    "FixedFormat",
    "Flags",
    "FloatFormat",
    "Function",
    "Fused",
    "HalfulpError",
    "Ledger",
    "Machine",
    "Matmul",
    "MatrixUnit",
    "Operation",
    "PositFormat",
    "Rounding",
    "Scoreboard",
    "Sequential",
    "Spmv",
    "Systolic",
    "Technology",
    "Tree",
    "TwoStage",
    "add",
    "blocked",
    "cost",
    "decode",
    "div",
    "encode",
    "encode_blocks",
    "exact",
    "fma",
    "format",
    "function",
    "fused",
    "minimal_accumulator",
    "mul",
    "quantize",
    "reference",
    "rem",
    "sequential",
    "sqrt",
    "sub",
    "systolic",
    "tree",
    "two_stage",
    "unit",
    "units",
]
