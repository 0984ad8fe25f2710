"""``halfulp cost``: what hardware takes, by a fit, measured, or in figures; and the making of fits for a library."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_anchors
from .console import LARGEST_SEED, Json, err, folder, in_folder, out, print_json, progress, table
from .emulator.cost import cost
from .emulator.datapath import Datapath
from .emulator.errors import HalfulpError
from .emulator.functions import Function
from .emulator.rtl.design import subject
from .emulator.technology import Technology

_UNIT = ("--rounding", "--pipeline", "--random", "--eager")  #: say more of a unit
#: What the command does, by the option that says so ("" prices), and the other options that belong to it.
MODES = {
    "": ("UNIT", *_UNIT, "--node", "--json"),
    "--measured": ("UNIT", *_UNIT, "--json", "--liberty", "--operands", "--clock", "--seed"),
    "--plot": ("UNIT", "--node"),
    "--characterize": ("--liberty", "--out", "--node", "--jobs", "--designs", "--json"),
    "--fit": ("--out", "--node", "--json"),
    "--anchors": ("--out", "--json"),
}


def cost_command(
    unit: Annotated[
        str | None, typer.Argument(help="A datapath, as fp8_e4m3/fp32:fused16, or a function unit, as fp16_fma.")
    ] = None,
    rounding: Annotated[str | None, typer.Option(help="Of a function unit (RNE); a datapath has its own.")] = None,
    node: Annotated[
        str | None,
        typer.Option(
            help="Technology node (45nm; figures: 7nm), or a fitted library's .json file; with --characterize and --fit"
            " the node at which memories beside that library are priced."
        ),
    ] = None,
    pipeline: Annotated[int | None, typer.Option(help="Ranks of registers.", min=0)] = None,
    random: Annotated[
        str | None, typer.Option(help="Random bits of SR from an LFSR in the unit, as lfsr16; default: from outside.")
    ] = None,
    eager: Annotated[bool, typer.Option("--eager", help="Eager stochastic rounding, as of halfulp rtl.")] = False,
    measured: Annotated[
        bool, typer.Option("--measured", help="Make the unit, map it on --liberty, and simulate it on operands.")
    ] = False,
    liberty: Annotated[Path | None, typer.Option(help="Cell library (.lib, .lib.gz).")] = None,
    operands: Annotated[
        Path | None,
        typer.Option(
            help="Of a datapath a saved Machine.capture, of a function unit an .npz file with arrays of values a, b, c;"
            " default: normally distributed ones."
        ),
    ] = None,
    clock: Annotated[float | None, typer.Option(help="Clock in ns to map for; default: for the least area.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for figures: what each width, rounding and node costs, part by part.")
    ] = None,
    characterize: Annotated[
        bool, typer.Option("--characterize", help="Measure 240 designs on --liberty, then fit prices to them.")
    ] = False,
    fit: Annotated[Path | None, typer.Option(help="Fit prices to a table that --characterize wrote.")] = None,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Table to write, or to go on with (.csv); of --fit its .json file; of --anchors a page (.md)."
        ),
    ] = None,
    anchors: Annotated[bool, typer.Option("--anchors", help="Published numbers beside ours, paper by paper.")] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes that characterize; default: as processors.", min=1)
    ] = None,
    designs: Annotated[str | None, typer.Option(help="Only designs whose names match this expression.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of random operands and bits (0).", min=0, max=LARGEST_SEED)] = None,
    as_json: Json = False,
) -> None:
    """Price a unit: area, energy, delay, part by part, each with basis, band and sources; or measure it, or draw it.

    --characterize and --fit make prices for a cell library of your own, which --node then takes.
    """
    chosen = {"--measured": measured, "--plot": plot, "--characterize": characterize, "--fit": fit}
    chosen["--anchors"] = anchors
    given = {
        "UNIT": unit,
        "--rounding": rounding,
        "--node": node,
        "--pipeline": pipeline,
        "--random": random,
        "--eager": eager or None,
        "--liberty": liberty,
        "--operands": operands,
        "--clock": clock,
        "--out": out_file,
        "--jobs": jobs,
        "--designs": designs,
        "--seed": seed,
        "--json": as_json or None,
    }
    mode = _mode(
        {name for name, value in chosen.items() if value}, {name for name, v in given.items() if v is not None}
    )
    if mode == "--characterize":
        _characterize(liberty, out_file, node, jobs, designs, as_json)
    elif mode == "--fit":
        assert fit is not None
        _fit(fit, out_file, node, as_json)
    elif mode == "--anchors":
        cli_anchors.show(out_file, as_json)
    elif mode == "--plot":
        assert plot is not None
        _plot(unit, node or "7nm", plot)
    elif unit is None:
        raise HalfulpError(
            "name a datapath, as fp8_e4m3/fp32, or a function unit, as fp16_fma; or --characterize, --fit."
        )
    elif mode == "--measured":
        _measured(unit, rounding, liberty, operands, clock, (pipeline or 0, random, eager), seed or 0, as_json)
    else:
        price = cost(unit, node or "45nm", pipeline or 0, rounding, random=random, eager=eager)
        if as_json:
            print_json(price.as_dict())
        else:
            out.print(str(price))


def _mode(chosen: set[str], given: set[str]) -> str:
    """The one mode that was chosen, and no option that belongs to another one."""
    if len(chosen) > 1:
        raise HalfulpError(f"choose one of {', '.join(sorted(chosen))}.")
    mode = next(iter(chosen), "")
    for option in sorted(given - set(MODES[mode])):
        others = [name for name, options in MODES.items() if option in options and name]
        said = f"does not go with {mode}" if mode else f"belongs to {' or '.join(others)}"
        raise HalfulpError(f"{'a UNIT' if option == 'UNIT' else option} {said}.")
    return mode


# ---- measured


def _measured(
    text: str,
    rounding: str | None,
    liberty: Path | None,
    operands: Path | None,
    clock: float | None,
    how: tuple[int, str | None, bool],
    seed: int,
    as_json: bool,
) -> None:
    """``how``: ranks of registers, the unit's LFSR, whether its stochastic rounding is eager."""
    from .kernels.hardware import measured_cost

    what = subject(text, rounding or "RNE")
    if liberty is None:
        raise HalfulpError("--measured needs --liberty FILE, a cell library.")
    data, said = _data(what, operands, seed)
    pipeline, random, eager = how
    found = measured_cost(what, liberty, data, said, clock, pipeline, seed + 1, rounding, random, eager)
    if as_json:
        return print_json(found.as_dict())
    tool = found.whole.tool.split(" (")[0]
    out.print(f"{found.name} on {found.whole.library} ({found.whole.library_digest}), {tool}")
    out.print(f"operands: {said}; {found.whole.vectors} clocks, {found.macs_per_cycle} {found.per} a clock")
    out.print(found.conditions)
    out.print(f"  area    {found.area_um2:10.4g} um2")
    energy = f"{found.energy_pj:10.4g} pJ per {found.per} with glitches, {found.energy_settled_pj:.4g} without"
    out.print(f"  energy  {energy}")
    missed = f", {clock:g} ns were asked for" if found.clock_met is False else ""
    out.print(f"  delay   {found.delay_ns:10.4g} ns{missed}")
    out.print(f"  leakage {found.whole.leakage_nw:10.4g} nW")
    shares = [{"component": name} | {k: f"{v:.1%}" for k, v in part.items()} for name, part in found.shares().items()]
    table(shares, {"component": "component", "area": "area", "energy": "energy"})


def _data(what: Datapath | Function, operands: Path | None, seed: int) -> tuple[Any, str]:
    """What a unit is measured on, and what that is, in words."""
    import numpy as np

    from .kernels.arrays import quantize
    from .kernels.capture import load_capture
    from .kernels.hardware import load_values, normal_dots, normal_values

    normal = f"normally distributed, seed {seed}"
    if isinstance(what, Datapath):
        if operands is None:
            return normal_dots(what, seed=seed), normal
        captured, dots = load_capture(operands)
        if (captured.a, captured.b) != (what.a, what.b):
            raise HalfulpError(f"{operands} holds operands of {captured.name}, not in the formats of {what.name}.")
        return dots, f"{len(dots)} dot products captured from {captured.name} in {operands.name}"
    if operands is None:
        return normal_values(what, seed=seed), normal
    values = load_values(operands, what)
    changed = 0
    for name, fmt in zip("abc", what.numbers, strict=False):
        changed += int((quantize(values[name], fmt) != values[name])[~np.isnan(values[name])].sum())
    said = f"values in {operands.name}"
    return values, said + (
        f", {changed} of them not in their formats: rounded to nearest, or overflowed" if changed else ""
    )


# ---- figures


def _plot(unit: str | None, node: str, where: Path) -> None:
    from .reports import cost_page

    datapath = subject(unit or cost_page.DEFAULT)
    if not isinstance(datapath, Datapath):
        raise HalfulpError(f"--plot draws datapaths, as fp8_e4m3/fp32; {unit} is a function unit.")
    technology = Technology(node)
    folder(where, "--plot")
    with err.status("pricing and drawing"):
        written = cost_page.write(datapath, technology.node, where)
    out.print(f"Figures of {datapath.name} at {technology.node}: {written.resolve()}")


# ---- libraries of the user's


def _characterize(
    liberty: Path | None, table_file: Path | None, node: str | None, jobs: int | None, chosen: str | None, as_json: bool
) -> None:
    from .emulator.silicon.characterize import characterise
    from .emulator.silicon.designs import designs
    from .kernels.backends import default_threads

    if liberty is None or table_file is None:
        raise HalfulpError("--characterize needs --liberty FILE, a cell library, and --out TABLE.csv.")
    if table_file.suffix == ".json":
        raise HalfulpError(f"--out {table_file}: the table is a .csv file, the fit is written beside it as .json.")
    in_folder(table_file)
    node = _memory_node(node)
    try:
        wanted = [design for design in designs() if re.search(chosen or "", design.name)]
    except re.error as error:
        raise HalfulpError(f"--designs {chosen!r} is no regular expression: {error}.") from None
    if not wanted:
        raise HalfulpError(
            f"no design matches {chosen!r}; their names are as {', '.join(d.name for d in designs()[:3])}."
        )
    with progress(time_left=True) as bar:
        task = bar.add_task("reading the library", total=len(wanted))

        def show(done: int, total: int, name: str) -> None:
            if not name:
                err.print(f"{done} of {total} designs are done in {table_file} already.", markup=False, soft_wrap=True)
            bar.update(task, description=f"{name or 'first designs':<32.32}", completed=done)

        failures = characterise(liberty, table_file, show, jobs or default_threads(), wanted)
    try:
        if table_file.exists():
            _fit(table_file, None, node, as_json)
    finally:  # of a table with failures there may be no fit
        if failures:
            err.print(f"{len(failures)} of {len(wanted)} designs failed:")
        for name, why in failures.items():
            err.print(f"  {name}: {why}", markup=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _memory_node(node: str | None) -> str | None:
    """The node that memories are priced at, by its name; None if none is given."""
    if node is None:
        return None
    if node.endswith(".json"):
        raise HalfulpError(f"memories beside a library are priced at a node, as 28nm, not at {node}.")
    return Technology(node).node


def _fit(table_file: Path, fitted: Path | None, node: str | None, as_json: bool) -> None:
    """Fits a table, and says how well, and what cannot be priced."""
    from .emulator.prices import load
    from .emulator.silicon.characterize import read_table
    from .emulator.silicon.designs import designs, find
    from .emulator.silicon.fit import fit_file

    fitted = fitted or table_file.with_suffix(".json")
    if fitted.suffix != ".json" or table_file.suffix == ".json":
        raise HalfulpError("--fit reads a table (.csv) and writes --out FILE.json, which --node takes.")
    node = _memory_node(node)
    known = list(read_table(table_file).designs())
    if node is None and fitted.exists():  # that of the fit before, if it is one
        with suppress(HalfulpError):
            node = load(fitted).header.get("node")
    held = sum(find(name).held for name in known)
    library = fit_file(table_file, fitted, node)
    lacks = [f"{n} of the {len(designs())} designs are not in {table_file}" for n in [len(designs()) - len(known)] if n]
    if library.missing:
        lacks.append(f"none of them has parts of the kinds {', '.join(library.missing)}, so that units with such parts "
                     "have no price")  # fmt: skip
    if not held:
        lacks.append("none was held out to check the fit")
    if as_json:
        return print_json(
            {
                "table": str(table_file),
                "fitted": str(fitted),
                "designs": library.designs,
                "held_out": held,
                "relative_errors": {q: vars(e) for q, e in library.errors.items()},
                "lacks": lacks,
            }
        )
    rows = [
        {
            "quantity": quantity,
            "mean": f"{errors.mean:.1%}",
            "p90": f"{errors.p90:.1%}",
            "held_mean": f"{errors.held_mean:.1%}" if errors.held_mean is not None else "-",
            "held_p90": f"{errors.held_p90:.1%}" if errors.held_p90 is not None else "-",
        }
        for quantity, errors in library.errors.items()
    ]
    out.print(f"Fit to {library.designs} designs on {library.header['name']}; errors of each design left out in turn:")
    titles = {"mean": "mean", "p90": "90 %", "held_mean": f"mean of {held} held out", "held_p90": "90 %"}
    table(rows, {"quantity": "quantity"} | titles)
    if lacks:
        out.print(f"What the fit lacks: {'; '.join(lacks)}.")
    memories = f", memories as at {node}" if node else "; a --node for memories was not given"
    out.print(f"Written: {fitted}, for --node {fitted} and hu.cost(..., node={str(fitted)!r}){memories}.")
