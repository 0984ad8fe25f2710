"""An array for tests, but for what they change."""

from __future__ import annotations

import halfulp as hu


def array(**changes: object) -> hu.Array:
    given = {"rows": 4, "cols": 4, "datapath": "int8/int32/int8", "sram_kib": 64, "clock_mhz": 500} | changes
    return hu.Array(**given)  # type: ignore[arg-type]
