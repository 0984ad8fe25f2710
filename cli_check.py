"""``halfulp vectors`` and ``halfulp verify``: TestFloat's generator and checker, for any format."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer.core import TyperCommand

from .console import Json, err, print_json
from .emulator.conventions import Conventions
from .emulator.errors import HalfulpError
from .emulator.functions import ROUNDINGS, function, type_format
from .emulator.scoreboard import Scoreboard

_FIRST, _STEP = 1 << 7, 1 << 16  #: lines generated and written together, at first and later

#: TestFloat's options (and the same with underscores, hyphens or two dashes), as ours.
_SPELLINGS = {
    **{f"r{name}": ["--rounding", mode.value] for name, mode in ROUNDINGS.items()},
    "tininessbefore": ["--tininess", "before"],
    "tininess_before": ["--tininess", "before"],
    "tininessafter": ["--tininess", "after"],
    "tininess_after": ["--tininess", "after"],
    "exact": ["--exact"],
    "notexact": ["--notexact"],
    "forever": ["--forever"],
    "help": ["--help"],
    "checknans": ["--no-ignore-nan-payload"],
    "checkinvints": ["--no-ignore-invalid-integers"],
    "checkall": ["--no-ignore-nan-payload", "--no-ignore-invalid-integers"],
}
_WITH_VALUE = {"level": "--level", "seed": "--seed", "prefix": "--prefix", "errors": "--max-errors", "sr": "--sr"}


def translated(words: Iterable[str]) -> Iterator[str]:
    """Options as TestFloat's scripts spell them (``-rnear_even -tininessbefore -level 2``) in our spelling."""
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        key = option.lstrip("-").replace("-", "_").lower() if word.startswith("-") else ""
        if key in _WITH_VALUE:
            value = value if equals else next(rest, "")
            yield from ("--rounding", f"SR{value}") if key == "sr" else (_WITH_VALUE[key], value)
        else:
            yield from _SPELLINGS.get(key, [word])


class TestFloatCommand(TyperCommand):
    """A command that takes TestFloat's options as well; of contradictory ones the last counts, as there."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(translated(args)))


class Format(StrEnum):
    """How lines are written."""

    TESTFLOAT = "testfloat"
    READMEMH = "readmemh"
    CSV = "csv"


RoundingOption = Annotated[
    str,
    typer.Option(
        help="RNE RNA RND RTZ RTP RTN RTO, or SR<k>: then k random bits are a further operand. Also as --rnear-even "
        "--rnear-maxMag --rminMag --rmax --rmin --rodd, --sr K."
    ),
]
Tininess = Annotated[str, typer.Option(help="before or after rounding; also as --tininess-before, -after.")]
Exact = Annotated[
    bool, typer.Option("--exact/--no-exact", "--exact/--notexact", help="Rounding to integers raises inexact.")
]
Nan = Annotated[str, typer.Option(help="NaN results: canonical (RISC-V), or x86, quiet and propagating.")]
Daz = Annotated[bool, typer.Option("--daz", help="Subnormal operands are read as zeros.")]
Ftz = Annotated[bool, typer.Option("--ftz", help="Tiny results become zeros.")]
TextFormat = Annotated[Format, typer.Option("--format", help="Of the lines.")]


def vectors(
    name: Annotated[str, typer.Argument(metavar="FUNCTION", help="As in f16_add, e4m3fn_mul, f32_to_i32; or a type.")],
    count: Annotated[int, typer.Argument(help="Of a type: operands a line, without results.", min=1, max=3)] = 1,
    rounding: RoundingOption = "RNE",
    tininess: Tininess = "after",
    exact: Exact = False,
    nan: Nan = "canonical",
    daz: Daz = False,
    ftz: Ftz = False,
    level: Annotated[int, typer.Option(help="1 or 2: many more cases.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the random cases.", min=0)] = 1,
    number: Annotated[int | None, typer.Option("-n", help="Lines; default: what the level holds.", min=1)] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Go on until stopped, at level 2.")] = False,
    prefix: Annotated[str | None, typer.Option(help="Text to be written first, as a line.")] = None,
    text_format: TextFormat = Format.TESTFLOAT,
) -> None:
    """Write test cases with their results and flags, as testfloat_gen does: hexadecimal operands, result, flags.

    A type (f16, ui32, e4m3fn, ...) instead of a function gives operands alone.
    """
    from .kernels import check
    from .kernels.cases import Cases
    from .kernels.lines import lines

    fmt = type_format(name)
    if fmt is None and count > 1:
        raise HalfulpError(f"{name} is a function, and has its own number of operands: leave {count} out.")
    unit = None if fmt else function(name, rounding, Conventions(tininess, nan, daz, ftz), exact)
    operands = unit.operands if unit else (fmt,) * count if fmt else ()
    cases = Cases(operands, unit.random_bits if unit else 0, 2 if forever else level, seed, number)
    bits, titles = check.columns(unit) if unit else (list(cases.bits), list("abc"[:count]))
    total = None if forever else cases.total
    separator = {Format.TESTFLOAT: " ", Format.READMEMH: "_", Format.CSV: ","}[text_format]
    try:
        _put("" if prefix is None else f"{prefix}\n")
        _put(_header(text_format, unit.name if unit else name, bits, titles, total))
        begin = 0
        while total is None or begin < total:
            step = min(max(begin, _FIRST), _STEP)  # slow functions show their first lines soon
            end = begin + step if total is None else min(begin + step, total)
            columns = cases.columns(begin, end)
            sys.stdout.buffer.write(lines(check.answered(unit, columns) if unit else columns, bits, separator))
            begin = end
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _put(text: str) -> None:
    sys.stdout.buffer.write(text.encode())


def _header(text_format: Format, name: str, bits: list[int], titles: list[str], total: int | None) -> str:
    """What comes before the lines: the columns' names, or their places in the words of a memory."""
    if text_format is Format.CSV:
        return ",".join(titles) + "\n"
    if text_format is Format.TESTFLOAT:
        return ""
    widths = [-(-width // 4) * 4 for width in bits]
    ends = np.cumsum(widths[::-1])[::-1]
    places = [f"{title}[{end - 1}:{end - width}]" for title, end, width in zip(titles, ends, widths, strict=True)]
    depth = "" if total is None else f" [0:{total - 1}]"
    return f'// {name}: {" ".join(places)}\n// reg [{ends[0] - 1}:0] vectors{depth}; $readmemh("...", vectors);\n'


def verify(
    name: Annotated[str, typer.Argument(metavar="FUNCTION", help="As in f16_add, e4m3fn_mul, f32_to_i32.")],
    file: Annotated[Path | None, typer.Argument(help="Of lines; none, or -: standard input.")] = None,
    rounding: RoundingOption = "RNE",
    tininess: Tininess = "after",
    exact: Exact = False,
    nan: Nan = "canonical",
    daz: Daz = False,
    ftz: Ftz = False,
    ignore_nan_payload: Annotated[
        bool, typer.Option("--ignore-nan-payload/--no-ignore-nan-payload", help="Any NaN is as good as another.")
    ] = False,
    ignore_invalid_integers: Annotated[
        bool,
        typer.Option(
            "--ignore-invalid-integers/--no-ignore-invalid-integers",
            help="Where a conversion to an integer is invalid, any will do.",
        ),
    ] = False,
    ignore_flags: Annotated[bool, typer.Option("--ignore-flags", help="Compare results only.")] = False,
    no_flags: Annotated[bool, typer.Option("--no-flags", help="Lines end with the result.")] = False,
    number: Annotated[int | None, typer.Option("-n", help="Lines that there must be.", min=1)] = None,
    max_errors: Annotated[int, typer.Option(help="Mismatches to explain; 0: all. Also as -errors.", min=0)] = 20,
    text_format: TextFormat = Format.TESTFLOAT,
    as_json: Json = False,
) -> None:
    """Check lines of operands, result and flags, as testfloat_ver does; explain the first mismatches.

    Every line is checked, however many mismatches there are. Exit code 1 if there is any.
    """
    from .kernels import check

    unit = function(name, rounding, Conventions(tininess, nan, daz, ftz), exact)
    explained = max_errors or sys.maxsize
    scoreboard = Scoreboard(unit, ignore_nan_payload, ignore_flags, ignore_invalid_integers, explained)
    reading = nullcontext(sys.stdin.buffer) if file is None or str(file) == "-" else file.open("rb")
    with reading as stream, _Progress(scoreboard, as_json) as progress:
        check.verify(scoreboard, stream, text_format is Format.CSV, progress.show, not no_flags)  # type: ignore[arg-type]
        if not scoreboard.checked:
            raise HalfulpError("there was no line to check.")
        if number is not None and scoreboard.checked != number:
            raise HalfulpError(f"there were {scoreboard.checked:,} lines, not {number:,}.")
    if scoreboard.failed:
        raise typer.Exit(1)


class _Progress:
    """Prints mismatches as they are found, the rate on stderr meanwhile, and a summary at the end, however it comes."""

    def __init__(self, scoreboard: Scoreboard, as_json: bool) -> None:
        self.scoreboard, self.as_json = scoreboard, as_json
        self.status = err.status(scoreboard.title)
        self.began = self.shown = time.perf_counter()
        self.printed = 0

    def __enter__(self) -> _Progress:
        self.status.start()
        return self

    def show(self) -> None:
        now = time.perf_counter()
        if now - self.shown > 0.2:
            self.shown, board = now, self.scoreboard
            rate = board.checked / (now - self.began)
            self.status.update(f"{board.title}: {board.checked:,} lines, {rate:,.0f} a second, {board.failed:,} wrong")
        for where, found in self.scoreboard.first[self.printed :]:
            if not self.as_json:
                print(f"{where}: {self.scoreboard.title}\n{found}")
            self.printed += 1

    def __exit__(self, kind: object, *_: object) -> None:
        self.show()
        self.status.stop()
        if self.as_json:
            print_json(self.scoreboard.to_json() | {"complete": kind is None})
        else:
            print(self.scoreboard.summary + ("" if kind is None else "\nNot complete: it ended before its time."))
