"""Characterise a library: a few hundred designs made, mapped and measured, for the cost model to be fitted to.

A row is one part of a design ("unpack", "align", ...: all instances of that name together; "top": what is outside of
them), or "all" of it, mapped module by module. The table is written anew after each design, so that an interrupted run
goes on where it was.
"""

from __future__ import annotations

import csv
import io
import math
import multiprocessing
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from ..errors import HalfulpError
from ..files import write_atomically
from ..processes import end, started
from .designs import DISTRIBUTIONS, VECTORS, Design, designs, operands
from .liberty import read_library
from .synthesis import tool_version

MEASURES = ("settled", "inertial")
ENERGIES = tuple(f"{kind}_{of}_pj" for of in DISTRIBUTIONS for kind in MEASURES)
COLUMNS = ("design", "part", "instances", "area_um2", "leakage_nw", "delay_ns", *ENERGIES)
COMMAND = "halfulp cost --characterize --liberty FILE --out TABLE"


Rows = list[dict[str, str]]  #: of a design


@dataclass(frozen=True)
class Table:
    """A characterised library."""

    header: dict[str, str]  #: command, library, digest, tool, voltage, ...
    rows: tuple[dict[str, str], ...]

    def designs(self) -> dict[str, list[dict[str, str]]]:
        """The rows of each design."""
        found: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in self.rows:
            found[row["design"]].append(row)
        return dict(found)

    def text(self) -> str:
        file = io.StringIO()
        for key, value in self.header.items():
            file.write(f"# {key}: {value}\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return file.getvalue()


def parse(text: str) -> Table:
    """A table from its text."""
    lines = text.splitlines()
    header = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    return Table(header, tuple(csv.DictReader(line for line in lines if not line.startswith("#"))))


def read_table(path: str | Path) -> Table:
    """The table in a file. Raises HalfulpError where it is none that ``characterise`` wrote."""
    try:
        table = parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise HalfulpError(f"the table {path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, ValueError, csv.Error):
        table = Table({}, ())
    if not {"library", "digest"} <= set(table.header) or any(set(row) != set(COLUMNS) for row in table.rows):
        raise HalfulpError(f"{path} is no table that halfulp cost --characterize wrote.")
    return table


def stem(component: str) -> str:
    """The name of a part without what tells its instances apart: multiply3_1 -> multiply."""
    return re.match(r"[a-z]*", component.split(".")[0])[0] or "top"  # type: ignore[index]


def measure_design(design: Design, liberty: str) -> Rows:
    """The rows of a design."""
    from ..rtl.verilog import text
    from .measure import measure_netlist
    from .synthesis import synthesise

    subject, unit = design.parse(), design.unit()
    netlist = synthesise(text(unit, "dut", unit.ports), "dut", liberty)
    parts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    names: dict[str, set[str]] = defaultdict(set)
    for distribution in DISTRIBUTIONS:
        found, _ = measure_netlist(netlist, operands(unit.ports, subject, distribution), period_ns=0.0)
        for component, values in found.by_component.items():
            part = parts[stem(component)]
            names[stem(component)].add(component.split(".")[0])
            for kind in MEASURES:
                part[f"{kind}_{distribution}_pj"] += values[f"energy_{kind}_pj"]
            if distribution == DISTRIBUTIONS[0]:
                part["area_um2"] += values["area_um2"]
                part["leakage_nw"] += values["leakage_nw"]
    total = {column: sum(part[column] for part in parts.values()) for column in ("area_um2", "leakage_nw", *ENERGIES)}
    everything = {"all": total | {"delay_ns": found.delay_ns}, **dict(sorted(parts.items()))}
    return [
        {"design": design.name, "part": name, "instances": str(len(names[name]) or 1)}
        | {column: f"{values[column]:.6g}" if column in values else "" for column in COLUMNS[3:]}
        for name, values in everything.items()
    ]


def characterise(
    liberty: str | Path,
    out: str | Path,
    progress: Callable[[int, int, str], None] | None = None,
    processes: int = 2,
    only: Iterable[Design] | None = None,
) -> dict[str, str]:
    """Make, or complete, the table of a library. A script that calls this does so under ``if __name__ == "__main__"``,
    as for all processes that Python spawns.

    Parameters
    ----------
    liberty : path of the Liberty file.
    out : path of the table. Designs that it has already are kept; it has to be of this file, by this version of the
        tool that maps, and of halfulp.
    progress : told how many designs are done, how many there are, and the last one's name; first before any is made.
    processes : that work at a time.
    only : these designs; None: all.

    Returns
    -------
    dict : design -> why it failed, in a sentence that says where the log is; others go on.

    Raises
    ------
    HalfulpError
        The library cannot be read, ``out`` is another table, or there is no Yosys.
    """
    out, library = Path(out), read_library(liberty)
    wanted = list(designs() if only is None else only)
    header = {
        "command": COMMAND,
        "library": Path(liberty).name,
        "name": library.name,
        "digest": library.digest,
        "voltage": f"{library.voltage_v:g} V",
        "vectors": f"{VECTORS} of each distribution",
        "tool": tool_version(),
        "halfulp": version("halfulp"),
    }
    known: dict[str, list[dict[str, str]]] = {}
    if out.exists():
        table = read_table(out)
        different = [key for key, value in header.items() if table.header.get(key) != value]
        if different:
            raise HalfulpError(
                f"{out} is another table ({', '.join(different)} differ): remove it, or write elsewhere."
            )
        known = table.designs()
    missing = [design for design in wanted if design.name not in known]
    failures: dict[str, str] = {}
    done = len(wanted) - len(missing)
    if progress:
        progress(done, len(wanted), "")
    if processes > 1:
        missing.sort(key=_size, reverse=True)  # so that no large one is left for the end, for one process
    with closing(_measured(missing, str(liberty), processes)) as results:
        for name, found in results:
            done += 1
            if isinstance(found, str):
                failures[name] = found
            else:
                known[name] = found
                table = Table(header | {"date": date.today().isoformat()}, tuple(_ordered(known, wanted)))
                write_atomically(out, table.text())
            if progress:
                progress(done, len(wanted), name)
    return failures


def _size(design: Design) -> float:
    """Of a design, roughly: what its parts count; one that there is no hardware of goes first, to be told."""
    try:
        parts = design.plan().parts
    except HalfulpError:
        return math.inf
    return sum(part.number * sum(part.counts.values()) for part in parts)


def _measured(missing: list[Design], liberty: str, processes: int) -> Generator[tuple[str, str | Rows]]:
    """``measure_design`` of each, as it is done; or why not, in a sentence. Interrupted, it ends at once."""
    others = set(multiprocessing.active_children())
    pool, todo, running = started(processes, _worker), iter(missing), dict[Future, Design]()
    following: Design | None = None  #: to be started
    try:
        while True:
            try:
                while len(running) < processes and (design := following or next(todo, None)):
                    following = design
                    running[pool.submit(measure_design, design, liberty)] = design
                    following = None
            except BrokenExecutor:  # a process was killed since, with what runs
                if not running:
                    pool.shutdown()
                    pool = started(processes, _worker)
                    continue
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                design = running.pop(future)
                try:
                    yield design.name, future.result()
                except BrokenExecutor:
                    yield design.name, "the process that measured it, or one beside it, was killed: too little memory?"
                except Exception as error:  # whatever it is, it does not stop the others
                    known = isinstance(error, HalfulpError)
                    yield design.name, str(error) if known else f"{type(error).__name__}: {error}"
    except BaseException:
        end(set(multiprocessing.active_children()) - others)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _worker() -> None:
    """Terminated, what runs is ended, and temporary files go."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def _ordered(known: dict[str, list[dict[str, str]]], wanted: list[Design]) -> Iterator[dict[str, str]]:
    order = dict.fromkeys([*(design.name for design in wanted if design.name in known), *known])
    for name in order:
        yield from known[name]
