"""One grammar of format names, for the API, the command line and files.

float    [u]e<w>m<t>[fn|fnuz|finite][ftz][b<bias>][sat]   e5m10, e4m3fn, e3m2finite, e5m2sat; u: unsigned, then fn
P3109    binary<K>p<P>{s|u}{e|f}[ftz][b<bias>][sat]       binary8p3se: signed, extended; binary8p1uf: unsigned, finite
fixed    [u]q<IL>.<FL>[w]                                 q4.12, uq0.8, q8.8w
alias    see ALIASES                                      fp16, bf16, fp8_e4m3, int8
"""

from __future__ import annotations

import difflib
import re

from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, Specials

#: Well-known names and the grammar's name for the same format.
ALIASES = {
    "fp64": "e11m52",
    "fp32": "e8m23",
    "tf32": "e8m10",
    "fp16": "e5m10",
    "bf16": "e8m7",
    "fp8_e4m3": "e4m3fn",
    "fp8_e5m2": "e5m2",
    "e4m3fnuz": "e4m3fnuz",
    "e5m2fnuz": "e5m2fnuz",
    "fp6_e3m2": "e3m2finite",
    "fp6_e2m3": "e2m3finite",
    "fp4_e2m1": "e2m1finite",
    "e8m0": "ue8m0",
    "int8": "q8.0",
    "int16": "q16.0",
    "int32": "q32.0",
    "uint8": "uq8.0",
}
_INTEGER = re.compile(r"(u?)int(\d+)(w?)")

_SUFFIXES = r"(?P<ftz>ftz)?(?:b(?P<bias>-?\d+))?(?P<sat>sat)?"
_FLOAT = re.compile(r"(?P<sign>[su]?)e(?P<w>\d+)m(?P<t>\d+)(?P<specials>fnuz|finite|fn)?" + _SUFFIXES)
_P3109 = re.compile(r"binary(?P<bits>\d+)p(?P<precision>\d+)(?P<sign>[su])(?P<domain>[ef])" + _SUFFIXES)
_FIXED = re.compile(r"(u?)q(-?\d+)\.(-?\d+)(w?)")
_EXAMPLES = ["e5m10", "e4m3fn", "e5m2sat", "e8m7ftz", "binary8p3se", "q4.12", "q8.8", "q8.8w", "uq4.12"]
_LATER = re.compile(r"(?:mx|nvfp|bfp|msfp|posit).*")


def _spelled_out(text: str) -> str:
    """An alias, with or without suffixes of the grammar, or int<N>, as the grammar writes it."""
    if match := _INTEGER.fullmatch(text):
        unsigned, bits, wrap = match.groups()
        return f"{unsigned}q{bits}.0{wrap}"
    for short in sorted(ALIASES, key=len, reverse=True):
        rest = text.removeprefix(short)
        if text == short or (rest != text and not rest[0].isdigit() and _FLOAT.fullmatch(ALIASES[short] + rest)):
            return ALIASES[short] + rest
    return text


def format(name: str | Format) -> Format:
    """The format that ``name`` denotes; a Format is handed back as it is.

    Raises
    ------
    HalfulpError
        The name is not in the grammar; the sentence lists near matches.
    """
    if isinstance(name, (FloatFormat, FixedFormat)):
        return name
    text = str(name).strip().lower()
    text = _spelled_out(text)
    if _LATER.fullmatch(text):
        raise HalfulpError(
            f"format {name!r} is not built yet: this version has floats e2m0 ... e11m52 and fixed point q<IL>.<FL>."
        )
    if match := _FLOAT.fullmatch(text) or _P3109.fullmatch(text):
        return _float(**match.groupdict())
    if match := _FIXED.fullmatch(text):
        unsigned, il, fl, wrap = match.groups()
        return FixedFormat(int(il), int(fl), not unsigned, bool(wrap))
    near = difflib.get_close_matches(text, [*ALIASES, *_EXAMPLES], n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "names look like fp16, e4m3fn or q4.12."
    raise HalfulpError(f"unknown format {name!r}: {hint}")


def _float(
    sign: str,
    ftz: str | None,
    bias: str | None,
    sat: str | None,
    w: str = "",
    t: str = "",
    specials: str | None = None,
    bits: str = "",
    precision: str = "",
    domain: str = "",
) -> FloatFormat:
    """The float format of the groups that _FLOAT or _P3109 matched."""
    signed = sign != "u"
    if domain:
        if not 1 <= int(precision) <= int(bits) - signed:
            raise HalfulpError(f"binary{bits}p{precision}{sign}{domain}: P must lie in 1...{int(bits) - signed}.")
        trailing = int(precision) - 1
        exponent, kind = int(bits) - signed - trailing, Specials.EXTENDED if domain == "e" else Specials.FNUZ
    else:
        trailing, exponent = int(t), int(w)
        kind = Specials(specials or ("" if signed else "fn"))
    return FloatFormat(exponent, trailing, kind, not ftz, int(bias) if bias else None, bool(sat), signed)  # type: ignore[arg-type]


def alias(fmt: Format) -> str:
    """The best-known name of a format: its first alias, else its canonical name."""
    canonical = str(fmt)
    return next((short for short, name in ALIASES.items() if name == canonical), canonical)
