"""The command line: every sub-command parses, calls the library and prints.

Exit codes: 0 good, 1 a check failed (a solve or training that did not succeed), 2 bad usage or bad input.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, cli_check
from .console import Json, err, out
from .console import print_json as _print_json
from .console import progress as _progress
from .console import table as _table
from .emulator import arithmetic, names
from .emulator.cost import QUANTITIES, Technology, cost, nodes
from .emulator.datapath import Datapath
from .emulator.errors import HalfulpError
from .emulator.ledger import Ledger
from .emulator.random import Role, random_bits, stream
from .emulator.rounding import Rounding

app = typer.Typer(
    name="halfulp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__.splitlines()[0] if __doc__ else "",
)
_INTERRUPTED = 130  #: exit code after Ctrl-C, by the shells' custom

Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
Backend = Annotated[str, typer.Option(help="cpu, gpu, or cxx (the GPU's source under the host's compiler).")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; they never change a bit.", min=1)]
Node = Annotated[str, typer.Option(help="Technology node of the cost table.")]


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
    """Show formats: canonical name, width, range, smallest value."""
    rows = []
    for text in name or names.ALIASES:
        fmt = names.format(text)
        rows.append(
            {
                "name": text,
                "canonical": str(fmt),
                "bits": fmt.bits,
                "precision": fmt.precision,
                "max_finite": fmt.max_finite,
                "min_finite": fmt.min_finite,
                "smallest_positive": fmt.min_subnormal,
                "infinity": fmt.has_infinity,
                "nan": fmt.has_nan,
            }
        )
    if as_json:
        return _print_json(rows)
    _table(
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


@app.command(context_settings={"ignore_unknown_options": True})
def quantize(
    values: Annotated[list[str], typer.Argument(help="Decimal numbers, nan or inf; taken exactly, rounded once.")],
    fmt: Annotated[str, typer.Option("--format", help="Destination format.")],
    rounding: Annotated[str, typer.Option(help="RNE RNA RTZ RTP RTN RTO or SR<k>.")] = "RNE",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Round numbers into a format: value, code, exact value and flags, a line each."""
    destination, how = names.format(fmt), Rounding.parse(rounding)
    for text in values:
        if text.startswith("--"):
            raise HalfulpError(f"{text} is neither a number nor an option of quantize.")
    if seed >= 1 << 62:
        raise HalfulpError(f"seed must lie in [0, 2**62), not {seed}.")
    rows = []
    for element, text in enumerate(values):
        k = how.random_bits
        result = arithmetic.quantize(
            arithmetic.exact(text),
            destination,
            how,
            random_bits(seed, stream(1, Role.OUTPUT), element, 0, k) if k else 0,
        )
        datum = destination.unpack(result.code)
        rows.append(
            {
                "input": text,
                "value": repr(float(datum)),
                "code": f"0x{result.code:0{-(-destination.bits // 4)}x}",
                "exact": _exact_text(datum),
                "flags": str(result.flags),
            }
        )
    if as_json:
        return _print_json(rows)
    _table(rows, {key: key for key in rows[0]})


def _exact_text(datum: arithmetic.Unpacked) -> str:
    """significand x 2^exponent, odd significand."""
    if datum.kind is not arithmetic.Kind.FINITE:
        return ("-" if datum.negative else "") + {"infinity": "inf", "nan": "nan"}[datum.kind.value]
    if datum.is_zero:
        return "-0" if datum.negative else "0"
    shift = (datum.significand & -datum.significand).bit_length() - 1
    return f"{'-' if datum.negative else ''}{datum.significand >> shift}*2^{datum.exponent + shift}"


@app.command("cost")
def cost_command(
    datapath: Annotated[str, typer.Argument(help="OPERANDS[/ACCUMULATOR[/OUTPUT]][@ROUNDING], as in fp8_e4m3/fp32.")],
    node: Node = "45nm",
    as_json: Json = False,
) -> None:
    """Price a datapath's multiply-accumulate unit: energy, area, delay, each with basis, band and sources."""
    price = cost(datapath, node)
    if as_json:
        return _print_json(
            {
                "datapath": datapath,
                "node": node,
                **{q: getattr(price, q) for q in QUANTITIES},
                "basis": price.basis,
                "band": price.band,
                "sources": price.sources,
            }
        )
    out.print(f"{Datapath.parse(datapath).name}: {price}")


@app.command()
def solve(
    problem: Annotated[str, typer.Argument(help="'poisson', or a Matrix Market file (.mtx, .mtx.gz).")] = "poisson",
    spmv: Annotated[str, typer.Option(help="Datapath of the matrix-vector product.")] = "fp64",
    dot: Annotated[str | None, typer.Option(help="Datapath of inner products; default: as spmv.")] = None,
    axpy: Annotated[str | None, typer.Option(help="Datapath of vector updates; default: as spmv.")] = None,
    residual: Annotated[
        str | None, typer.Option(help="Datapath of the residual's update and norm, as in fp64.")
    ] = None,
    scalars: Annotated[str | None, typer.Option(help="Format of alpha and beta as operands, as in fp64.")] = None,
    tol: Annotated[float, typer.Option(help="Residual to reach, relative to ||b||; b is a random unit vector.")] = 1e-8,
    max_iterations: Annotated[int | None, typer.Option(help="Default: 10 n, at most 20,000.", min=1)] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Iterations without progress that count as stagnation; default 5 n, at least 1,000.", min=1),
    ] = None,
    side: Annotated[int, typer.Option(help="Points a side of the Poisson grid.")] = 32,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for record.json.")] = None,
    as_json: Json = False,
) -> None:
    """Solve A x = b by conjugate gradients on emulated arithmetic."""
    from .reports import experiments
    from .solvers import cg, problems

    precision = cg.CGPrecision.of(spmv, dot, axpy, residual, scalars)
    Technology(node)
    _folder(out_dir)
    system = problems.load(problem, side, seed)
    title = f"{system.name}: n = {system.matrix.shape[0]:,}, nnz = {system.matrix.nnz:,}"
    with err.status(title) as status:
        record, solution = experiments.solve(
            system.name,
            system,
            precision,
            tol,
            max_iterations,
            patience,
            (seed, backend, threads),
            node,
            lambda k, r: status.update(f"{system.name}: iteration {k}, true residual {r:.2e}"),
        )
    if solution.status is cg.Status.INDEFINITE:
        raise HalfulpError(f"{problem} cannot be solved by CG: {solution.detail}.")
    _save(record, out_dir)
    if as_json:
        _print_json(json.loads(record.to_json()))
    else:
        out.print(title)
        out.print(f"  status         {solution.status.value}: {solution.detail}")
        out.print(f"  iterations     {solution.iterations}")
        where = f"iteration {solution.best}, the best" if solution.best < solution.iterations else "the last iteration"
        out.print(f"  true residual  {solution.true_residual:.3e}   ||b - A x|| / ||b|| in fp64, x from {where}")
        _print_energy(record.energy)
        if solution.best < solution.iterations:
            out.print(f"                 {_joule(record.result['energy_to_best_pj'])} of it until that x was reached")
    if solution.status is not cg.Status.CONVERGED:
        raise typer.Exit(1)


def _joule(picojoule: float) -> str:
    units = (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3))
    unit, scale = next(((u, s) for u, s in units if picojoule >= s), ("pJ", 1.0))
    return f"{picojoule / scale:.3g} {unit}"


def _print_energy(energy: dict[str, Any]) -> None:
    total, low, high, arithmetic_part, memory = (
        _joule(energy[key]) for key in ("total_pj", "low_pj", "high_pj", "arithmetic_pj", "memory_pj")
    )
    out.print(f"  energy         {total}   arithmetic {arithmetic_part}, SRAM {memory}")
    out.print(f"                 at {energy['node']}, {energy['basis']}, between {low} and {high}; sources: --json")


def _folder(folder: Path | None) -> None:
    """Refuse an output folder that cannot be written to before any work is done."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HalfulpError(f"--out {folder} cannot be made a folder: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise HalfulpError(f"--out {folder} cannot be written to.")


def _save(record: Any, folder: Path | None) -> None:
    if folder is not None:
        from .reports.record import write_atomically

        write_atomically(folder / "record.json", record.to_json() + "\n")


@app.command()
def train(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with MNIST's four IDX files; default $HALFULP_DATA, else embedded digits."),
    ] = None,
    forward: Annotated[str, typer.Option(help="Datapath of the forward contractions.")] = "bf16/fp32",
    grad_input: Annotated[
        str | None, typer.Option(help="Datapath of gradients to inputs; default: as forward.")
    ] = None,
    grad_weight: Annotated[
        str | None, typer.Option(help="Datapath of gradients to weights; default: as forward.")
    ] = None,
    update: Annotated[
        str, typer.Option(help="Datapath of weight updates; its output format stores the weights.")
    ] = "fp32",
    rounding: Annotated[str | None, typer.Option(help="Rounding of every datapath that names none.")] = None,
    hidden: Annotated[str, typer.Option(help="Hidden layer sizes, comma-separated.")] = "32",
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of the mean gradient.")] = 0.125,
    limit: Annotated[int | None, typer.Option(help="Use only the first N training images.", min=1)] = None,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for record.json and weights.npz.")] = None,
    as_json: Json = False,
) -> None:
    """Train an MLP from scratch with every contraction and update on emulated arithmetic."""
    from .models import data as datasets
    from .models import mlp
    from .reports import experiments
    from .reports.record import write_atomically

    def parse(text: str | None) -> Datapath:
        text = forward if text is None else text
        return Datapath.parse(text if rounding is None or "@" in text else f"{text}@{rounding}")

    precision = mlp.Precision(*map(parse, (forward, grad_input, grad_weight, update)))
    technology = Technology(node)
    _folder(out_dir)
    try:
        sizes = tuple(int(size) for size in hidden.split(",")) if hidden else ()
    except ValueError:
        raise HalfulpError(f"--hidden {hidden!r} is not a comma-separated list of sizes, as in 128,64.") from None
    dataset = datasets.load(data)
    if limit is not None:
        dataset = dataset._replace(train_x=dataset.train_x[:limit], train_y=dataset.train_y[:limit])

    def show(epoch: mlp.Epoch, ledger: Ledger) -> None:
        if not as_json:
            if epoch.number == 1:
                out.print(f"{dataset.name}: {len(dataset.train_x):,} training and {len(dataset.test_x):,} test images")
                out.print("epoch   loss   train acc   test acc   energy so far")
            spent = _joule(technology.price(ledger).total_pj)
            accuracies = f"{epoch.train_accuracy:9.2%}  {epoch.test_accuracy:9.2%}"
            out.print(f"{epoch.number:5d}  {epoch.loss:6.4f}  {accuracies}  {spent:>14}")

    with err.status("compiling kernels") as status:
        record, run = experiments.training(
            precision.forward.name,
            dataset,
            precision,
            sizes,
            epochs,
            batch,
            learning_rate,
            (seed, backend, threads),
            node,
            show,
            lambda done, total: status.update(f"step {done:,} of {total:,}"),
        )
    _save(record, out_dir)
    if out_dir is not None:
        write_atomically(out_dir / "weights.npz", run.model.to_npz())
    if as_json:
        _print_json(json.loads(record.to_json()))
    else:
        diverged = "   (diverged: the logits are no longer finite)" if run.diverged else ""
        out.print(f"  test accuracy  {run.test_accuracy:.2%}{diverged}")
        _print_energy(record.energy)
        out.print(f"  inference      {_joule(record.result['inference_pj_per_image'])} per image")
    if run.diverged:
        raise typer.Exit(1)


@app.command()
def report(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("report"),
    datapath: Annotated[
        list[str] | None,
        typer.Option(help="Add a row: CONTRACTIONS or CONTRACTIONS;UPDATES (default fp32). May be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training runs per datapath.", min=1)] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
) -> None:
    """Train, infer and solve on every datapath of the built-in study; write the trade-off report.

    Interrupted, it resumes where it was when started again with the same options.
    """
    from .reports import page, study, table

    added = tuple(
        study.Setup.of(text, *(text.split(";", 1) if ";" in text else (text, "fp32"))) for text in datapath or []
    )
    Technology(node)
    if not 0 <= seed < 1 << 61:
        raise HalfulpError(f"seed must lie in [0, 2**61), not {seed}.")
    work = study.Study(
        study.SETUPS + added, tuple(range(seed, seed + seeds)), node, epochs=epochs, backend=backend, threads=threads
    )
    options = {"--seeds": (seeds, 3), "--epochs": (epochs, 8), "--node": (node, "45nm"), "--seed": (seed, 0)}
    given = "".join(f" {name} {value}" for name, (value, default) in options.items() if value != default)
    given += "".join(f" --datapath {shlex.quote(text)}" for text in datapath or [])
    _folder(out_dir)
    with _progress() as progress:
        task = progress.add_task("starting", total=work.steps)
        records = work.run(out_dir, lambda what: progress.update(task, description=f"{what:<24}", advance=1))
        progress.update(task, description="drawing")
        written = page.write(records, out_dir, given)
    rows = table.results(records)
    shown = [
        {
            "datapath": r["datapath"],
            "train": f"{r['train_accuracy_mean']:.1%}",
            "µJ": f"{r['train_energy_uj']:.1f}",
            "infer": f"{r['infer_accuracy']:.1%}",
            "nJ/image": f"{r['infer_energy_nj']:.2f}",
            "CG": r["cg_status"],
            "best/all": f"{r['cg_best_iteration']}/{r['cg_iterations']}",
            "residual": f"{r['cg_residual']:.1e}",
            "CG µJ": f"{r['cg_energy_uj']:.1f}",
            "pJ/MAC": f"{r['energy_pj_per_mac']:.2f}",
            "µm²": f"{r['area_um2_per_mac']:.0f}",
        }
        for _, r in rows.iterrows()
    ]
    _table(shown, {key: key for key in shown[0]})
    out.print(table.headline(rows, records))
    out.print(f"Costs are first-cut estimates at {node} from published tables; bases and sources are on the page.")
    out.print(f"Report: {written.resolve()}")


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


for command in (cli_check.vectors, cli_check.verify):
    app.command(cls=cli_check.TestFloatCommand)(command)


def main() -> None:
    """Entry point: one sentence and exit code 2 on bad input, never a traceback."""
    try:
        app()
    except HalfulpError as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.filename or ''}: {error.strerror or error}."
    except MemoryError:
        sentence = "this needs more memory than there is: choose a smaller problem."
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            err.print("interrupted; a report resumes when it is started again, other work starts anew.", soft_wrap=True)
        raise
    err.print(f"error: {sentence}", markup=False, soft_wrap=True)
    sys.exit(2)
