"""Number formats: sets of values and their codes.

A format knows which values exist and which bit pattern denotes which; it neither rounds nor holds state.
Everything but its defining fields is derived.
"""

from __future__ import annotations

from .codec import Codec, Kind, Unpacked, carrier
from .fixed import FixedFormat
from .floats import FloatFormat, Specials
from .posits import PositFormat

Format = FloatFormat | FixedFormat | PositFormat

__all__ = ["Codec", "FixedFormat", "FloatFormat", "Format", "Kind", "PositFormat", "Specials", "Unpacked", "carrier"]
