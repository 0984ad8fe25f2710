"""What the sub-commands share: where they print, and options that mean the same everywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from .emulator.errors import HalfulpError

#: stdout for results, stderr for progress
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LARGEST_SEED = (1 << 63) - 2  #: so that the next one is a signed 64-bit integer, too
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=LARGEST_SEED)]
Node = Annotated[str, typer.Option(help="Technology node to price at, or a fitted library's .json file.")]


def status(text: str) -> Status:
    """What is being done, until it is: where results are printed too, if both are on a terminal, so that neither
    writes into the other's line."""
    return (out if out.is_terminal else err).status(Text(text))


def progress(time_left: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),  # poisson:100: is no emoji
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([TextColumn("left"), TimeRemainingColumn()] if time_left else []),
        console=err,
        transient=True,
    )


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True))


def given_of(ctx: typer.Context) -> set[str]:
    """Names of the parameters that the command line states."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def refuse(parameters: Iterable[str], why: str) -> None:
    """Of parameters that were given, and would do nothing: none is fine."""
    names = {"problem": "NAME", "solution_update": "--solution", "out_dir": "--out", "as_json": "--json"}
    for name in sorted(parameters):
        raise HalfulpError(f"{names.get(name) or '--' + name.replace('_', '-')} {why}.")


def folder(path: Path | None, option: str = "--out") -> None:
    """Refuse an output folder that cannot be written to before any work is done."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HalfulpError(f"{option} {path} cannot be made a folder: {error.strerror}.") from None
    if not os.access(path, os.W_OK):
        raise HalfulpError(f"{option} {path} cannot be written to.")


def in_folder(path: Path) -> None:
    """Refuse an output file whose folder is not there."""
    if not path.absolute().parent.is_dir():
        raise HalfulpError(f"--out {path}: there is no folder {path.absolute().parent}.")


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, title in columns.items():
        table.add_column(title, justify="left" if isinstance(rows[0][key], str) else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns))
    wide = Console(width=200, highlight=False, emoji=False) if not out.is_terminal else out
    wide.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
