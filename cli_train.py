"""``halfulp train`` and ``infer``: networks on emulated arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_runs import Backend, Threads, checked_technology, joule, print_energy, save_record
from .console import Json, Node, Seed, err, folder, out, print_json, status
from .emulator.datapath import Datapath
from .emulator.errors import HalfulpError

if TYPE_CHECKING:
    from .models.data import Dataset
    from .models.precision import Policy
    from .models.training import Epoch, Recipe, Training
    from .reports.protocols import Protocol

Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of IDX files (MNIST) or CIFAR-10's batches, or a .txt; default $HALFULP_DATA, or digits."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder for records, models and tables; gone on with, if there.")
]


#: Options of networks by name, those of the policy static, and those of protocols.
_OF_STATIC = ("forward", "grad_input", "grad_weight", "update", "rounding", "layer")
_OF_OPTIMISERS = ("optimiser", "learning_rate", "momentum", "weight_decay", "decay", "cosine", "warmup")
_OF_NETWORKS = (*_OF_STATIC, "policy", "hidden", "batch", *_OF_OPTIMISERS)
_OF_PROTOCOLS = ("full", "quick")


def _refuse(context: typer.Context, options: tuple[str, ...], why: str) -> None:
    """Refuses options that were given, but say nothing here."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise HalfulpError(f"--{option.replace('_', '-')} {why}.")


def train(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(help="A network: mlp, lenet, cifar, resnet20, vit, gpt; or gupta-dnn, gupta-cnn, gupta-cifar."),
    ] = "mlp",
    data: Data = None,
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
    layer: Annotated[
        list[str] | None,
        typer.Option(help="LAYER:ROLE=DATAPATH, as in fc1:forward=fp16/fp32, of one layer. May be repeated."),
    ] = None,
    policy: Annotated[str, typer.Option(help="static, cpt or deepseek-fp8; the latter two choose the datapaths.")] = (
        "static"
    ),
    hidden: Annotated[str | None, typer.Option(help="Of mlp: hidden layer sizes, comma-separated; default 32.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Default 5; of a protocol, its own.", min=1)] = None,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    optimiser: Annotated[str, typer.Option(help="sgd, adamw or lion.")] = "sgd",
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the mean gradient; default: sgd 0.125, adamw 0.003, lion 0.001.")
    ] = None,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option()] = 0.0,
    decay: Annotated[float, typer.Option(help="What the learning rate is multiplied by after each epoch.")] = 1.0,
    cosine: Annotated[bool, typer.Option("--cosine", help="Let the rate fall along half a cosine to 0.")] = False,
    warmup: Annotated[int, typer.Option(help="Steps in which the rate grows to begin with.", min=0)] = 0,
    limit: Annotated[int | None, typer.Option(help="Use only the first N training inputs.", min=1)] = None,
    full: Annotated[bool, typer.Option("--full", help="A protocol in full: 20 epochs or more of all data.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A protocol in seconds, to see that it works.")] = False,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
    out_dir: Out = None,
    as_json: Json = False,
) -> None:
    """Train a network from scratch with every contraction and update on emulated arithmetic.

    With --out, an interrupted run goes on where it was, and ends in the same bits. gupta-dnn, gupta-cnn and gupta-cifar
    train on each scheme of Gupta et al. 2015, and put the test errors beside the published ones.
    """
    from .models import data as datasets
    from .reports import protocols

    checked_technology(node)
    dataset = datasets.load(data)
    dataset = dataset if limit is None else dataset.first(limit)
    if name.startswith("gupta-"):
        plan = protocols.plan(name.removeprefix("gupta-"), dataset, full, quick, epochs)
        _refuse(context, _OF_NETWORKS, f"is of networks; {name} sets its own")
        return _protocol(plan, seed, backend, threads, node, out_dir, as_json)
    recipe = _recipe(
        name,
        _policy(policy, (forward, grad_input, grad_weight, update), rounding, layer or []),
        _optimiser(
            optimiser, learning_rate, momentum, weight_decay=weight_decay, decay=decay, cosine=cosine, warmup=warmup
        ),
        _sizes(name, hidden),
        (epochs or 5, batch, seed, backend),
    )
    _refuse(context, _OF_PROTOCOLS, f"is of protocols, as gupta-dnn; {name} is a network")
    if policy != "static":
        _refuse(context, _OF_STATIC, f"is of the policy static; {policy} chooses the datapaths")
    _train_one(recipe, dataset, threads, node, out_dir, as_json)


def _recipe(
    name: str, policy: Policy, optimiser: Any, options: dict[str, Any], numbers: tuple[int, int, int, str]
) -> Recipe:
    from .models.networks import Architecture
    from .models.training import Recipe

    return Recipe(Architecture.of(name, **options), policy, optimiser, *numbers)


def _sizes(name: str, hidden: str | None) -> dict[str, Any]:
    if hidden is None:
        return {}
    if name != "mlp":
        raise HalfulpError(f"--hidden is of mlp; {name} has its own sizes.")
    try:
        return {"hidden": tuple(int(size) for size in hidden.split(",")) if hidden else ()}
    except ValueError:
        raise HalfulpError(f"--hidden {hidden!r} is not a comma-separated list of sizes, as in 128,64.") from None


def _optimiser(name: str, learning_rate: float | None, momentum: float, **more: Any) -> Any:
    from .models.optimisers import OPTIMISERS

    if name not in OPTIMISERS:
        raise HalfulpError(f"no optimiser is called {name!r}: there are {', '.join(OPTIMISERS)}.")
    if momentum and name != "sgd":
        raise HalfulpError(f"--momentum is of sgd; {name} has its own.")
    more |= {"momentum": momentum} if momentum else {}
    kind: Any = OPTIMISERS[name]
    return kind(kind.usual_rate if learning_rate is None else learning_rate, **more)


def _policy(name: str, roles: tuple[str | None, ...], rounding: str | None, layers: list[str]) -> Policy:
    from .models.policies import POLICIES
    from .models.precision import Precision, Static, role_of

    def parse(text: str) -> Datapath:
        head, colon, rest = text.partition(":")
        return Datapath.parse(text if rounding is None or "@" in head else f"{head}@{rounding}{colon}{rest}")

    if name != "static":
        if name not in POLICIES:
            raise HalfulpError(f"no policy is called {name!r}: there are static, {', '.join(POLICIES)}.")
        return POLICIES[name]()
    datapaths = [parse(roles[0] or "") if text is None else parse(text) for text in roles]
    precision = Precision(datapaths[0], datapaths[1], datapaths[2], datapaths[3])
    found: dict[str, dict[str, Any]] = {}
    for text in layers:
        place, equals, datapath = text.partition("=")
        layer, colon, role = place.rpartition(":")
        if not equals or not colon or not layer:
            raise HalfulpError(f"--layer {text!r} is not LAYER:ROLE=DATAPATH, as in fc1:forward=fp16/fp32.")
        if role_of(role) in found.setdefault(layer, {}):
            raise HalfulpError(f"--layer {place} is given twice.")
        found[layer][role_of(role)] = parse(datapath)
    return Static(precision, {layer: replace(precision, **of) for layer, of in found.items()})


def _train_one(
    recipe: Recipe, data: Dataset, threads: int | None, node: str, out_dir: Path | None, as_json: bool
) -> None:
    from .models import checkpoint
    from .reports import experiments

    folder(out_dir)
    path = None if out_dir is None else out_dir / checkpoint.NAME

    def begins(epochs: int) -> None:
        if as_json:
            return
        if epochs:
            out.print(f"{path}: {epochs} of {recipe.epochs} epochs are done")
        inputs = f"{len(data.train_x):,} training and {len(data.test_x):,} test inputs"
        out.print(f"{data.name}: {inputs}, {data.classes} classes")
        out.print("epoch   loss   train acc   test acc   energy so far")

    def show(epoch: Epoch, run: Training) -> None:
        if not as_json:
            print_epoch(epoch, run, node)

    with status("compiling kernels") as shown:
        told: Callable[[int, int], None] = lambda done, total: shown.update(f"step {done:,} of {total:,}")  # noqa: E731
        record, run = experiments.training(
            recipe.architecture.name, data, recipe, threads, node, show, told, out_dir, begins
        )
    if as_json:
        print_json(json.loads(record.to_json()))
    else:
        if run.epochs:
            out.print(f"  test accuracy  {run.test_accuracy:.2%}")
        print_energy(record.energy)
        if run.epochs:
            out.print(f"  inference      {joule(record.result['inference_pj_per_input'])} per input")
        by_role = record.result["energy_pj_by_role"]
        out.print("  by role        " + ", ".join(f"{role} {joule(spent)}" for role, spent in by_role.items()))
        bits = ", ".join(f"{what} {count / 8192:,.1f} KiB" for what, count in run.stored_bits.items())
        out.print(f"  held in a step {bits}")
    if run.diverged:
        kept = f"{path} is of the epoch before" if run.epochs else "no epoch had ended, so that there is no model"
        err.print(f"diverged: {run.diverged}{'' if path is None else f'; {kept}'}.", markup=False, soft_wrap=True)
        raise typer.Exit(1)


def print_epoch(epoch: Epoch, run: Training, node: str) -> None:
    spent = joule(checked_technology(node).price(run.ledger).total_pj)
    out.print(
        f"{epoch.number:5d}  {epoch.loss:#6.5g}  {epoch.train_accuracy:9.2%}  {epoch.test_accuracy:9.2%}  {spent:>14}"
    )


def _protocol(
    plan: Protocol, seed: int, backend: str, threads: int | None, node: str, out_dir: Path | None, as_json: bool
) -> None:
    from .models import gupta
    from .reports import protocols

    folder(out_dir)
    if not as_json:
        out.print(f"Gupta et al. 2015, {plan.network}: {plan}")
    records = []
    with status("compiling kernels") as shown:
        for record in protocols.run(plan, seed, backend, threads, node, out_dir, shown.update):
            records.append(record)
            if not as_json:
                out.print(protocols.line(record, plan.network))
    if out_dir is not None:
        protocols.write(records, plan.network, out_dir)
    if as_json:
        return print_json(protocols.document(records, plan.network))
    for what, taken in gupta.ASSUMPTIONS.items():
        out.print(f"  assumed, {what}: {taken}")
    array = gupta.hardware()
    run = array.run(gupta.WORKLOAD)
    out.print(f"Their hardware: {gupta.HARDWARE}")
    out.print(f"As gates, its formats and memories assumed: {array}")
    spent, watts = joule(run.energy.total_pj), 1e-12 * run.energy.total_pj / run.seconds
    out.print(
        f"  {run.workload}: {run.utilisation:.1%} of the peak, {1e3 * run.seconds:.4g} ms, {spent}, {watts:.3g} W,"
        f" {1e-9 * run.ops_per_s / watts:.4g} G-ops/s/W"
    )


def infer(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="model.npz of halfulp train --out.")],
    data: Data = None,
    datapath: Annotated[str | None, typer.Option(help="Datapath of every contraction; this or --word-length.")] = None,
    word_length: Annotated[
        int | None, typer.Option(help="Bits: fixed-point formats are found for each layer on calibration inputs.")
    ] = None,
    calibrate: Annotated[int, typer.Option(help="Calibration inputs: the first of training.", min=1)] = 256,
    node: Node = "45nm",
    seed: Seed = 0,
    backend: Backend = "cpu",
    threads: Threads = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for record.json.")] = None,
    as_json: Json = False,
) -> None:
    """Test a trained network in another precision: post-training quantisation."""
    from .models import calibration, checkpoint
    from .models import data as datasets
    from .models.precision import Precision, Static
    from .reports import experiments

    checked_technology(node)
    folder(out_dir)
    if (datapath is None) == (word_length is None):
        raise HalfulpError("infer takes --datapath, or --word-length: one of them.")
    dataset = datasets.load(data)
    if word_length is None:
        _refuse(context, ("calibrate",), "belongs to --word-length")
    elif calibrate > len(dataset.train_x):
        raise HalfulpError(
            f"{dataset.name} has {len(dataset.train_x):,} training inputs, not {calibrate:,} to calibrate on."
        )
    network, meta = checkpoint.network_of(model, dataset)
    if word_length is not None:
        policy = calibration.calibrated(network, dataset, dataset.train_x[:calibrate], word_length)
    else:
        policy = Static(Precision.of(str(datapath)))
    with status("compiling kernels"):
        trained_as = json.dumps(meta["about"]["policy"])
        label = str(datapath or f"{word_length} bits, calibrated")
        record = experiments.inference(label, dataset, network, trained_as, policy, (seed, backend, threads), node)
    save_record(record, out_dir)
    if as_json:
        return print_json(json.loads(record.to_json()))
    for name, precision in policy.layers.items():
        out.print(f"  {name:<14} {precision.forward.name}")
    trained = meta["epochs"][-1][3]
    out.print(f"  test accuracy  {record.result['test_accuracy']:.2%}   as trained {trained:.2%}")
    print_energy(record.energy)
