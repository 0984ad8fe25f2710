"""Experiments: run one thing on emulated arithmetic, price it, and make a Record of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..emulator.datapath import Datapath
from ..emulator.formats import Format
from ..emulator.ledger import Ledger
from ..kernels.machine import Machine
from ..models.data import Dataset
from ..models.mlp import MLP, Epoch, Precision, Training, accuracy, infer, train
from ..solvers.cg import CGPrecision, Solution, cg
from ..solvers.problems import Problem
from .record import Record, digest, finite, run_energy, unit_cost, versions

#: (seed, back end, threads) of a run.
Where = tuple[int, str, int | None]


def training(
    label: str,
    data: Dataset,
    precision: Precision,
    hidden: tuple[int, ...],
    epochs: int,
    batch: int,
    learning_rate: float,
    where: Where,
    node: str,
    progress: Callable[[Epoch, Ledger], None] = lambda epoch, ledger: None,
    steps: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Record, Training]:
    """Train an MLP from scratch (``models.mlp.train``) and test it on the same datapath."""
    seed, backend, threads = where
    run = train(data, precision, hidden, epochs, batch, learning_rate, seed, backend, threads, progress, steps)
    given = {
        "data": data.name,
        "data_digest": digest(data.train_x, data.train_y, data.test_x, data.test_y),
        "train_images": len(data.train_x),
        "test_images": len(data.test_x),
        "hidden": list(hidden),
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "precision": precision.describe(),
    }
    result = {
        "test_accuracy": run.test_accuracy,
        "loss": finite(run.epochs[-1].loss),
        "diverged": run.diverged,
        "epochs": [[e.number, finite(e.loss), e.train_accuracy, e.test_accuracy] for e in run.epochs],
        "inference_pj_per_image": run_energy(run.inference, node)["total_pj"] / len(data.test_x),
    }
    fingerprint = digest(*run.model.weights)
    return _record("train", label, seed, given, result, fingerprint, run.ledger, node, precision.forward), run


def inference(
    label: str, data: Dataset, model: MLP, stored: Format, trained_as: str, datapath: Datapath, where: Where, node: str
) -> Record:
    """Post-training quantisation: a trained network's inference on another datapath."""
    seed, backend, threads = where
    machine = Machine(datapath, backend, seed, threads=threads)
    logits = infer(model, data.test_x, machine, stored)
    result = {"test_accuracy": accuracy(logits, data.test_y), "images": len(data.test_x)}
    given = {
        "data": data.name,
        "data_digest": digest(data.test_x, data.test_y),
        "trained_as": trained_as,
        "weights_digest": digest(*model.weights),
        "datapath": datapath.name,
    }
    return _record("infer", label, seed, given, result, digest(logits), machine.ledger, node, datapath)


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
) -> tuple[Record, Solution]:
    """Solve a system by conjugate gradients."""
    solution = cg(problem, precision, tol, max_iterations, patience, *where, progress)
    given = {
        "problem": problem.name,
        "problem_digest": digest(problem.matrix.data, problem.matrix.indices, problem.matrix.indptr, problem.rhs),
        "n": problem.matrix.shape[0],
        "nnz": problem.matrix.nnz,
        "tol": tol,
        "max_iterations": max_iterations,
        "patience": patience,
        "precision": precision.describe(),
    }
    result = {
        "status": solution.status.value,
        "detail": solution.detail,
        "iterations": solution.iterations,
        "best_iteration": solution.best,
        "energy_to_best_pj": run_energy(solution.ledger_of_x, node)["total_pj"],
        "true_residual": finite(solution.true_residual),
        "residuals": [finite(r) for r in solution.residuals],
        "true_residuals": [finite(r) for r in solution.true_residuals],
    }
    return _record(
        "cg", label, where[0], given, result, digest(solution.x), solution.ledger, node, precision.spmv
    ), solution


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
