"""Experiments: run one thing on emulated arithmetic, price it, and make a Record of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..emulator.datapath import Datapath
from ..emulator.files import write_atomically
from ..emulator.ledger import Ledger
from ..models import checkpoint
from ..models.arithmetic import Arithmetic
from ..models.data import Dataset
from ..models.layers import Layer
from ..models.precision import Clock, Policy, Static
from ..models.training import Epoch, Recipe, Trainer, Training, accuracy, check_entrance, infer, parameters
from ..solvers.cg import CGPrecision, PrecisionPolicy, Solution, cg
from ..solvers.policies import Fixed
from ..solvers.problems import Problem
from ..solvers.refinement import refine
from ..solvers.safeguard import Safeguard
from .record import Record, digest, finite, run_energy, unit_cost, versions

#: Of inner products, what records count.
EVENTS = ("additions", "inexact", "overflow", "saturation", "underflow", "swamped")

#: (seed, back end, threads) of a run.
Where = tuple[int, str, int | None]


def training(
    label: str,
    data: Dataset,
    recipe: Recipe,
    threads: int | None,
    node: str,
    progress: Callable[[Epoch, Training], None] = lambda epoch, training: None,
    steps: Callable[[int, int], None] = lambda done, total: None,
    folder: Path | None = None,
    begins: Callable[[int], None] = lambda epochs: None,
) -> tuple[Record, Training]:
    """Train a network from scratch and test it on the same datapaths.

    In ``folder``, if there is one, the model is kept after each epoch, and gone on with if it is there; the record is
    written there. ``begins`` is told how many epochs are done when all is found good.
    """
    trainer = Trainer(data, recipe, threads)
    path = None if folder is None else folder / checkpoint.NAME
    if path is not None:
        checkpoint.resume(trainer, path)
    begins(len(trainer.result.epochs))

    def keep(epoch: Epoch, run: Training) -> None:
        if path is not None:
            checkpoint.save(trainer, path)
        progress(epoch, run)

    run = trainer.finish(keep, steps)
    record = trained(label, data, recipe, run, node)
    if folder is not None:
        write_atomically(folder / "record.json", record.to_json() + "\n")
    return record, run


def trained(label: str, data: Dataset, recipe: Recipe, run: Training, node: str) -> Record:
    """The record of a run of training."""
    given = recipe.describe() | {
        "data": data.name,
        "data_digest": checkpoint.fingerprint(data),
        "train_inputs": len(data.train_x),
        "test_inputs": len(data.test_x),
    }
    result = {
        "test_accuracy": run.test_accuracy,
        "loss": finite(run.epochs[-1].loss) if run.epochs else None,
        "diverged": None if run.diverged is None else str(run.diverged),
        "epochs": [[e.number, finite(e.loss), e.train_accuracy, e.test_accuracy] for e in run.epochs],
        "inference_pj_per_input": run_energy(run.inference, node)["total_pj"] / len(data.test_x),
        "energy_pj_by_role": {role: run_energy(ledger, node)["total_pj"] for role, ledger in run.ledgers.items()},
        "ledger_by_role": {role: ledger.as_dict() for role, ledger in run.ledgers.items()},
        "stored_bits": run.stored_bits,
    }
    bits = digest(*(parameter.value.values for parameter in parameters(run.network).values()))
    unit = _first_of(run.network, recipe.policy)
    return _record("train", label, recipe.seed, given, result, bits, run.ledger, node, unit)


def _first_of(network: Layer, policy: Policy) -> Datapath:
    """The first layer's forward datapath at the beginning: a record's unit."""
    return policy.at(next(iter(parameters(network))).rpartition(".")[0], Clock()).forward


def inference(
    label: str, data: Dataset, network: Layer, trained_as: str, policy: Static, where: Where, node: str
) -> Record:
    """Post-training quantisation: a trained network's inference in other precisions."""
    seed, backend, threads = where
    check_entrance(network, policy, Clock())
    run = Arithmetic(policy, seed, backend, threads, training=False)
    logits = infer(network, data, data.test_x, run)
    result = {"test_accuracy": accuracy(logits, data.test_y), "inputs": len(data.test_x)}
    given = {
        "data": data.name,
        "data_digest": checkpoint.fingerprint(data),
        "trained_as": trained_as,
        "weights_digest": digest(*(parameter.value.values for parameter in parameters(network).values())),
        "policy": policy.describe(),
    }
    return _record("infer", label, seed, given, result, digest(logits), run.ledger, node, _first_of(network, policy))


def solve(
    label: str,
    problem: Problem,
    precision: CGPrecision,
    tol: float,
    max_iterations: int | None,
    patience: int | None,
    where: Where,
    node: str,
    progress: Callable[[int, float], None] = lambda iteration, residual: None,
    policy: PrecisionPolicy | None = None,
    inner_tol: float | None = None,
    **how: Any,
) -> tuple[Record, Solution]:
    """Solve a system by conjugate gradients, in one precision or by a policy, or by refinement around them.

    inner_tol : of refinement; None: without it. how : what else ``cg`` takes, by name.
    """
    chosen = Fixed(precision) if policy is None else policy
    limits = (tol, max_iterations, patience, *where, progress)
    if inner_tol is None:
        solution = cg(problem, chosen, *limits, **how)
    else:
        solution = refine(problem, chosen, *limits, inner_tol=inner_tol, **how)
    given = {
        "problem": problem.name,
        "problem_digest": digest(problem.matrix.data, problem.matrix.indices, problem.matrix.indptr, problem.rhs),
        "n": problem.matrix.shape[0],
        "nnz": problem.matrix.nnz,
        "tol": tol,
        "max_iterations": max_iterations,
        "patience": patience,
        "precision": precision.describe(),
        "policy": chosen.describe(),
        "inner_tol": inner_tol,
        **{"preconditioner": "none", "scaled": False, "lossless": False, "flexible": False}
        | {name: _told(x) for name, x in how.items()},
    }
    steps = solution.history
    shown = [step.precision.describe() for step in steps]
    kinds = [json.loads(text) for text in dict.fromkeys(map(_key, shown))]
    places = {_key(kind): i for i, kind in enumerate(kinds)}
    result = {
        "status": solution.status.value,
        "detail": solution.detail,
        "iterations": solution.iterations,
        "best_iteration": solution.best,
        "energy_to_best_pj": run_energy(solution.ledger_of_x, node)["total_pj"],
        "true_residual": finite(solution.true_residual),
        "residuals": [finite(r) for r in solution.residuals],
        "true_residuals": [finite(r) for r in solution.true_residuals],
        "precisions": kinds,
        "precision_of_steps": [places[_key(text)] for text in shown],
        "steps_rejected": [step.iteration for step in steps if step.rejected],
        "notes": [[step.iteration, note] for step in steps for note in step.notes],
        "signs": [[step.iteration, what, str(sign)] for step in steps for what, sign in step.signs.items()],
        "events": events(solution),
        "condition": finite(steps[-1].condition) if steps else None,
        "matrix_format": None if solution.matrix_format is None else str(solution.matrix_format),
        "preconditioner": solution.facts,
    }
    return _record(
        "cg", label, where[0], given, result, digest(solution.x), solution.ledger, node, precision.spmv
    ), solution


def events(solution: Solution) -> dict[str, dict[str, int]]:
    """Of inner products, where they were observed: how often what happened, by operation."""
    found: dict[str, Counter[str]] = {}
    for step in solution.history:
        for what, seen in step.events.items():
            found.setdefault(what, Counter()).update({name: getattr(seen, name) for name in EVENTS})
    return {what: dict(n) for what, n in sorted(found.items())}


def _key(description: dict[str, Any]) -> str:
    return json.dumps(description, sort_keys=True)


def _told(x: Any) -> Any:
    """An option of a solve, JSON-able."""
    return x if isinstance(x, bool | int | float | None) else asdict(x) if isinstance(x, Safeguard) else str(x)


def _record(
    kind: str,
    label: str,
    seed: int,
    given: dict[str, Any],
    result: dict[str, Any],
    fingerprint: str,
    ledger: Ledger,
    node: str,
    datapath: Datapath,
) -> Record:
    energy, unit = run_energy(ledger, node), unit_cost(datapath, node)
    return Record(kind, label, seed, given, result, fingerprint, ledger.as_dict(), energy, unit, versions())
