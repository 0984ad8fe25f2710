"""``halfulp bench``: how fast the operations over arrays are, against what is asked for and beside other emulators."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Json, err, folder, out, print_json, progress, table
from .emulator.errors import HalfulpError

_BUSY = 0.5  #: a load above it spoils figures


def bench(
    only: Annotated[
        str | None, typer.Option(help="Rows whose operation, format, mode, arrays hold this regular expression.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Elements of an array; default 2^22.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    repetitions: Annotated[
        int | None, typer.Option(help="Rounds that are counted; default 30, fewer of what takes long.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small and few: shows that all works, not how fast.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Compare with other emulators that are installed, too.")
    ] = False,
    python: Annotated[
        list[str] | None,
        typer.Option(help="--peers, also of this interpreter (VeriFloat needs 3.12). May be repeated."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a figure is below what is asked for.")] = False,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for bench.json.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the operations over arrays: rates, ratios to copying memory, and what is asked for; it takes minutes.

    Figures say something on an otherwise idle machine only, and are judged for arrays of 2^22 elements or more.
    """
    from .emulator.files import write_atomically
    from .reports import bench as measuring
    from .reports import peers as others
    from .reports.bench_cases import cases

    given = {"size": size, "threads": threads, "repetitions": repetitions}
    plan = replace(measuring.QUICK if quick else measuring.Plan(), **{k: v for k, v in given.items() if v is not None})
    wanted = measuring.chosen(cases(), only)
    peers = peers or bool(python)
    compared = measuring.chosen(others.comparisons(), only) if peers else []
    if not wanted and not compared:
        raise HalfulpError(f"--only {only!r} is found in no row; one of them is {cases()[0].label!r}.")
    if check and not plan.judges:
        raise HalfulpError(f"--check needs arrays of at least {measuring.Plan.size} elements, not {plan.size}.")
    folder(out_dir)
    found = others.find(python or []) if peers else {}
    surroundings = measuring.surroundings()
    if surroundings["load"] and surroundings["load"] > _BUSY:
        err.print(f"this machine is busy (load {surroundings['load']:.1f}): the figures say little.")
    with progress() as bar:
        task = bar.add_task("", total=len(wanted) + len(compared))

        def step(label: str) -> None:
            bar.update(task, description=label, advance=1)

        figures = list(measuring.measured(wanted, plan, step))
        rivals = list(others.compared(compared, plan, found, step))
    document = {"machine": surroundings, **measuring.document(plan, figures)}
    if peers:
        document |= {"peers": others.document(found, rivals)}
    if out_dir is not None:
        write_atomically(out_dir / "bench.json", json.dumps(document, indent=1) + "\n")
    if as_json:
        print_json(document)
    else:
        out.print(f"{surroundings['cpu']}, {surroundings['cores']} cores; {threads} threads, {plan.size:,} elements")
        for rows in (map(measuring.shown, figures), measuring.summary(figures), map(others.shown, rivals)):
            _table(list(rows))
        if peers:
            _told(others.PEERS, found)
    if check and any(figure.met is False for figure in figures):
        raise typer.Exit(1)


def _table(rows: list[dict[str, Any]]) -> None:
    if rows:
        out.print()
        table(rows, {key: key for key in rows[0]})


def _told(peers: tuple[str, ...], found: dict[str, tuple[str, str]]) -> None:
    """Which peers took part."""
    out.print()
    for name in peers:
        out.print(f"  {name:<10} {found[name][1] if name in found else 'not installed'}")
