"""The command line: every sub-command parses, calls the library and prints.

Exit codes: 0 good, 1 a check failed (a solve or training that did not succeed), 2 bad usage or bad input.
"""

from __future__ import annotations

import itertools
import sys
from typing import Annotated, Any

import typer

from . import (
    __version__,
    cli_bench,
    cli_check,
    cli_cost,
    cli_export,
    cli_hardware,
    cli_runs,
    cli_solve,
    cli_study,
    cli_train,
)
from .console import Json, Seed, err, out, print_json, table
from .emulator import arithmetic, blocks, explain, matrix_units, names
from .emulator.blocks import BlockFormat
from .emulator.errors import HalfulpError
from .emulator.formats import Format
from .emulator.names import ALIASES, BLOCK_ALIASES
from .emulator.random import Role, random_bits, stream
from .emulator.rounding import Rounding
from .emulator.technology import nodes

app = typer.Typer(
    name="halfulp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__.splitlines()[0] if __doc__ else "",
)
_INTERRUPTED = 130  #: exit code after Ctrl-C, by the shells' custom


def _version(show: bool) -> None:
    if show:
        print(f"halfulp {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Describe a datapath once: emulate it bit for bit, price it in silicon, see what it does to real work."""


@app.command()
def formats(
    name: Annotated[list[str] | None, typer.Argument(help="Format names; none: every alias.")] = None,
    as_json: Json = False,
) -> None:
    """Show formats: canonical name, width (with a share of the scale, in blocks), range, smallest value.

    Of formats that are named also the codes that matter, with their fields.
    """
    rows = [_summary(text) | ({"codes": _codes(text)} if name else {}) for text in name or [*ALIASES, *BLOCK_ALIASES]]
    if as_json:
        return print_json(rows)
    table(
        rows,
        {
            "name": "name",
            "canonical": "canonical",
            "bits": "bits",
            "precision": "p",
            "max_finite": "max finite",
            "smallest_positive": "smallest > 0",
            "infinity": "inf",
            "nan": "NaN",
        },
    )
    for row in rows if name else []:
        out.print()
        table(row["codes"], {key: key for key in row["codes"][0]})


def _summary(text: str) -> dict[str, Any]:
    fmt = names.format(text)
    return {
        "name": text,
        "canonical": str(fmt),
        "bits": fmt.bits_per_element if isinstance(fmt, BlockFormat) else fmt.bits,
        "precision": fmt.precision,
        "max_finite": fmt.max_finite,
        "min_finite": fmt.min_finite,
        "smallest_positive": fmt.min_subnormal,
        "infinity": fmt.has_infinity,
        "nan": fmt.has_nan,
    }


def _codes(text: str) -> list[dict[str, str]]:
    """The landmarks of a format; of a block format, of its elements and scales."""
    fmt = names.format(text)
    if isinstance(fmt, BlockFormat):
        return [row for part in fmt.parts for row in _codes(str(part))]
    return [
        {
            "format": str(fmt),
            "what": what,
            "value": explain.value(fmt.unpack(code)),
            "code": f"0x{code:0{-(-fmt.bits // 4)}x}",
            "fields": explain.fields(fmt, code),
        }
        for what, code in explain.landmarks(fmt).items()
    ]


@app.command(context_settings={"ignore_unknown_options": True})
def quantize(
    values: Annotated[list[str], typer.Argument(help="Decimal numbers, nan or inf; taken exactly, rounded once.")],
    fmt: Annotated[str, typer.Option("--format", help="Destination format.")],
    rounding: Annotated[str, typer.Option(help="RNE RNA RND RTZ RTP RTN RTO or SR<k>.")] = "RNE",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Round numbers into a format: value, code, exact value and flags, a line each.

    Into a block format, the numbers are one row of blocks: value, element code, scale code, exact scale.
    """
    destination, how = names.format(fmt), Rounding.parse(rounding)
    for text in values:
        if text.startswith("--"):
            raise HalfulpError(f"{text} is neither a number nor an option of quantize.")
    if seed >= 1 << 62:
        raise HalfulpError(f"seed must lie in [0, 2**62), not {seed}.")
    k = how.random_bits
    random = [random_bits(seed, stream(1, Role.OUTPUT), element, 0, k) if k else 0 for element in range(len(values))]
    if isinstance(destination, BlockFormat):
        rows = _blocks(values, destination, how, random)
    else:
        rows = [_number(text, destination, how, bits) for text, bits in zip(values, random, strict=True)]
    if as_json:
        return print_json(rows)
    table(rows, {key: key for key in rows[0]})


def _number(text: str, fmt: Format, rounding: Rounding, random: int) -> dict[str, str]:
    result = arithmetic.quantize(arithmetic.exact(text), fmt, rounding, random)
    datum = fmt.unpack(result.code)
    return {
        "input": text,
        "value": repr(float(datum)),
        "code": _hex(result.code, fmt),
        "exact": _exact_text(datum),
        "flags": str(result.flags),
    }


def _blocks(texts: list[str], fmt: BlockFormat, rounding: Rounding, random: list[int]) -> list[dict[str, str]]:
    data = [arithmetic.exact(text) for text in texts]
    cuts = [slice(start, start + fmt.size) for start in range(0, len(data), fmt.size)]
    outer = blocks.choose_tensor_scale([blocks.largest(data[cut]) for cut in cuts], fmt)
    tensor_scale = arithmetic.exact(blocks.tensor_scale_value(outer, fmt))
    rows = []
    for number, cut in enumerate(cuts):
        codes, scale_code = blocks.encode_block(data[cut], fmt, rounding, random[cut], outer)
        scale = arithmetic.exact_product(fmt.scale.unpack(scale_code), tensor_scale)
        for text, code in zip(texts[cut], codes, strict=True):
            value = arithmetic.exact_product(fmt.element.unpack(code), scale)
            row = {"input": text, "value": repr(float(value)), "code": _hex(code, fmt.element), "block": str(number)}
            row |= {"scale code": _hex(scale_code, fmt.scale), "scale": _exact_text(scale)}
            rows.append(row)
            if fmt.tensor_scale and outer is not None:
                row["tensor scale"] = _hex(outer, fmt.tensor_scale)
    return rows


def _hex(code: int, fmt: Format) -> str:
    return f"0x{code:0{-(-fmt.bits // 4)}x}"


def _exact_text(datum: arithmetic.Unpacked) -> str:
    """significand x 2^exponent, odd significand."""
    if datum.kind is not arithmetic.Kind.FINITE:
        return ("-" if datum.negative else "") + {"infinity": "inf", "nan": "nan"}[datum.kind.value]
    if datum.is_zero:
        return "-0" if datum.negative else "0"
    shift = (datum.significand & -datum.significand).bit_length() - 1
    return f"{'-' if datum.negative else ''}{datum.significand >> shift}*2^{datum.exponent + shift}"


@app.command()
def units(
    device: Annotated[str | None, typer.Argument(help="A GPU, as in H100; none: all that are known.")] = None,
    as_json: Json = False,
) -> None:
    """Show the matrix units of GPUs as datapaths, from the literature; of one device also sources and what is left out.

    None was checked on silicon by this project. A unit without a datapath is one that datapaths cannot express.
    """
    found = matrix_units.units() if device is None else matrix_units.units_of(device)
    rows = [unit._asdict() for unit in found]
    if as_json:
        return print_json(rows)
    shown = [row | {"datapath": row["datapath"] or "-"} for row in rows]
    table(shown, {key: key for key in ("device", "instruction", "a", "b", "result", "datapath", "status")})
    said: dict[str, dict[str, None]] = {}
    for unit in found if device is not None else ():
        said.setdefault(f"{unit.note}. Source: {unit.source}.", {})[f"{unit.a} -> {unit.result}"] = None
    for text, jobs in said.items():
        out.print(f"\n{', '.join(jobs)}: {text}")


app.command(cls=cli_check.TestFloatCommand)(cli_check.vectors)
app.command(cls=cli_check.TestFloatCommand)(cli_check.verify)
app.command("cost")(cli_cost.cost_command)
app.command()(cli_hardware.rtl)
app.command()(cli_export.export)
app.command()(cli_train.train)
app.command()(cli_train.infer)
app.command()(cli_solve.solve)
app.command()(cli_study.solve_study)
app.command()(cli_runs.report)
app.command()(cli_bench.bench)


@app.command()
def doctor() -> None:
    """Say what this machine offers: versions, back ends, cost tables."""
    from .kernels.backends import backend, default_threads
    from .reports.record import versions

    for name, version in versions().items():
        out.print(f"  {name:<14} {version}")
    out.print(f"  {'threads':<14} {default_threads()}")
    for name in ("cpu", "cxx", "gpu"):
        try:
            backend(name)
            state = "works"
        except HalfulpError as error:
            state = str(error)
        out.print(f"  backend {name:<6} {state}")
    out.print(f"  {'cost tables':<14} {', '.join(nodes())}")


def _refuse_nothing(arguments: list[str]) -> None:
    """An empty --out would be this folder."""
    if "--out=" in arguments or ("--out", "") in itertools.pairwise(arguments):
        raise HalfulpError("--out is empty: it takes the name of a folder or a file.")


def main() -> None:
    """Entry point: one sentence and exit code 2 on bad input, never a traceback."""
    try:
        _refuse_nothing(sys.argv)
        app()
    except HalfulpError as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.filename or ''}: {error.strerror or error}."
    except MemoryError:
        sentence = "this needs more memory than there is: choose a smaller problem."
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            err.print(
                "interrupted; a report, a study, training with --out or of an agent, or the table of a library, goes on"
                " when the same command is given again, from what it has kept; other work starts anew.",
                soft_wrap=True,
            )
        raise
    err.print(f"error: {sentence}", markup=False, soft_wrap=True)
    sys.exit(2)
