"""One grammar of format names, for the API, the command line and files.

float    [u]e<w>m<t>[fn|fnuz|finite][ftz][b<bias>][sat]   e5m10, e4m3fn, e3m2finite, e5m2sat; u: unsigned, then fn
P3109    binary<K>p<P>{s|u}{e|f}[ftz][b<bias>][sat]       binary8p3se: signed, extended; binary8p1uf: unsigned, finite
fixed    [u]q<IL>.<FL>[w]                                 q4.12, uq0.8, q8.8w
posit    posit<n> (es = 2), or posit<n,es> as it stands   posit16, posit<16,1>
block    <element>x<size>+<scale>[+<tensor scale>][+<rule>]
                                                          e2m1finitex32+ue8m0+floor, q2.6x16+e8m0+even
         bfp<n>x<size>: n-bit sign-magnitude elements     bfp8x16+ceil
alias    see ALIASES, BLOCK_ALIASES                       fp16, bf16, fp8_e4m3, int8, mxfp4, nvfp4
         a block's with another size or rule              mxfp4x16, mxfp8_e4m3+rceil
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from functools import lru_cache

from .blocks import BlockFormat, Rule
from .errors import HalfulpError
from .formats import FixedFormat, FloatFormat, Format, PositFormat, Specials

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
    "posit8": "posit8",
    "posit16": "posit16",
    "posit32": "posit32",
    "posit64": "posit64",
}
#: The same for block formats. MX: OCP v1.0 section 5.3. MSFP<12 ... 16>: 8 exponent bits shared by 16 elements of a
#: sign and 3 ... 7 magnitude bits.
BLOCK_ALIASES = {
    "mxfp8_e4m3": "e4m3fnx32+ue8m0+floor",
    "mxfp8_e5m2": "e5m2x32+ue8m0+floor",
    "mxfp6_e3m2": "e3m2finitex32+ue8m0+floor",
    "mxfp6_e2m3": "e2m3finitex32+ue8m0+floor",
    "mxfp4": "e2m1finitex32+ue8m0+floor",
    "mxint8": "q2.6x32+ue8m0+floor",
    "nvfp4": "e2m1finitex16+e4m3fn+e8m23+amax",
    "msfp12": "e1m2finiteb1x16+ue8m0+floor",
    "msfp13": "e1m3finiteb1x16+ue8m0+floor",
    "msfp14": "e1m4finiteb1x16+ue8m0+floor",
    "msfp15": "e1m5finiteb1x16+ue8m0+floor",
    "msfp16": "e1m6finiteb1x16+ue8m0+floor",
}
_INTEGER = re.compile(r"(u?)int(\d+)(w?)")

_SUFFIXES = r"(?P<ftz>ftz)?(?:b(?P<bias>-?\d+))?(?P<sat>sat)?"
_FLOAT = re.compile(r"(?P<sign>[su]?)e(?P<w>\d+)m(?P<t>\d+)(?P<specials>fnuz|finite|fn)?" + _SUFFIXES)
_P3109 = re.compile(r"binary(?P<bits>\d+)p(?P<precision>\d+)(?P<sign>[su])(?P<domain>[ef])" + _SUFFIXES)
_FIXED = re.compile(r"(u?)q(-?\d+)\.(-?\d+)(w?)")
_POSIT = re.compile(r"posit(?:(\d+)|<(\d+), ?(\d+)>)")
_RULES = [rule.value for rule in Rule]
_BFP = re.compile(r"bfp(\d+)")
_EXAMPLES = ["e5m10", "e4m3fn", "e5m2sat", "e8m7ftz", "binary8p3se", "q4.12", "q8.8", "q8.8w", "uq4.12", "bfp8x16"]
_EXAMPLES += ["posit<16,1>"]


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


def _block(text: str) -> BlockFormat | None:
    """The block format that a name in lower case denotes, if it is one."""
    head, *scales = text.split("+")
    rule = scales.pop() if scales and scales[-1] in _RULES else ""
    name, size = re.fullmatch(r"(.*?)(?:x(\d+))?", head, re.S).groups()  # type: ignore[union-attr]
    if name in BLOCK_ALIASES:
        if scales:
            raise HalfulpError(f"unknown scale rule in {text!r}: use {', '.join(_RULES)}.")
        fmt = format(BLOCK_ALIASES[name])
        assert isinstance(fmt, BlockFormat)
        return replace(fmt, size=int(size or fmt.size), rule=Rule(rule or fmt.rule))
    if match := _BFP.fullmatch(name):
        bits = int(match[1])
        if not (2 <= bits <= 45 and size and not scales):
            raise HalfulpError(
                f"{text!r} is not bfp<n>x<size>[+<rule>] with elements of n = 2...45 bits, sign included."
            )
        name, scales = f"e1m{bits - 2}finiteb1", ["ue8m0"]
    if not size or not 1 <= len(scales) <= 2:
        return None
    element, scale, *outer = map(scalar_format, [name, *scales])
    return BlockFormat(element, scale, int(size), Rule(rule or "floor"), outer[0] if outer else None)


def scalar_format(name: str | Format | BlockFormat) -> Format:
    """The format of single numbers that ``name`` denotes; block formats are refused."""
    fmt = format(name)
    if isinstance(fmt, BlockFormat):
        raise HalfulpError(
            f"{alias(fmt)} is a block format; here a format of single numbers is needed, such as {fmt.element}."
        )
    return fmt


def block_format(name: str | Format | BlockFormat) -> BlockFormat:
    """The block format that ``name`` denotes; formats of single numbers are refused."""
    fmt = format(name)
    if not isinstance(fmt, BlockFormat):
        raise HalfulpError(f"{alias(fmt)} is a format of single numbers; here a block format is needed, such as mxfp4.")
    return fmt


def format(name: str | Format | BlockFormat) -> Format | BlockFormat:
    """The format that ``name`` denotes; a format is handed back as it is.

    Raises
    ------
    HalfulpError
        The name is not in the grammar; the sentence lists near matches.
    """
    return name if isinstance(name, Format | BlockFormat) else _named(str(name))


@lru_cache(maxsize=1024)
def _named(name: str) -> Format | BlockFormat:
    text = name.strip().lower()
    if fmt := _block(text):
        return fmt
    text = _spelled_out(text)
    if match := _FLOAT.fullmatch(text) or _P3109.fullmatch(text):
        return _float(**match.groupdict())
    if match := _FIXED.fullmatch(text):
        unsigned, il, fl, wrap = match.groups()
        return FixedFormat(int(il), int(fl), not unsigned, bool(wrap))
    if match := _POSIT.fullmatch(text):
        standard, bits, exponent_bits = match.groups()
        return PositFormat(int(standard)) if standard else PositFormat(int(bits), int(exponent_bits))
    near = difflib.get_close_matches(text, [*ALIASES, *BLOCK_ALIASES, *_EXAMPLES], n=3, cutoff=0.4)
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


def alias(fmt: Format | BlockFormat) -> str:
    """The best-known name of a format: its first alias, else its canonical name."""
    canonical = str(fmt)
    known = ALIASES | BLOCK_ALIASES
    return next((short for short, name in known.items() if name == canonical), canonical)
