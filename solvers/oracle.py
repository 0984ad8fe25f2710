"""Oracles: what precisions could save at best on a system, known only after all were tried.

``search`` tries each precision from first to last, and ``best`` is the cheapest; ``greedy`` looks ahead in every few
iterations. Neither is the least that there is: that would need all sequences of precisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..emulator.errors import HalfulpError
from .agent import ACTIONS, action
from .cg import Status, cg
from .costs import Cost
from .precision import CGPrecision, PrecisionPolicy, View
from .problems import Problem
from .safeguard import Safeguard


@dataclass(frozen=True)
class Trial:
    """One fixed precision on one system."""

    action: str
    status: Status
    iterations: int
    true_residual: float
    cost: float

    @property
    def converged(self) -> bool:
        return self.status is Status.CONVERGED


def tuples(formats: Sequence[str]) -> tuple[str, ...]:
    """All texts ``spmv;dot;axpy`` of these datapaths; the preconditioner's is spmv's."""
    return tuple(";".join(each) for each in product(formats, repeat=3))


def search(
    problem: Problem,
    actions: Sequence[str] = ACTIONS,
    cost: Cost | None = None,
    tol: float = 1e-8,
    safeguard: bool = True,
    progress: Callable[[Trial], None] = lambda trial: None,
    **how: Any,
) -> tuple[Trial, ...]:
    """Every precision, in full.

    Parameters
    ----------
    actions : texts as ``agent.action`` reads them.
    safeguard : precision rises where progress fails, as for a policy; else it is the same to the end.
    how : what else ``cg`` takes, by name.
    """
    if not actions:
        raise HalfulpError("an oracle needs at least one precision to try.")
    priced, trials = cost or Cost(), []
    for text in actions:
        found = cg(problem, action(text), tol, safeguard=safeguard, **how)
        trial = Trial(text, found.status, found.iterations, found.true_residual, priced.of(found.ledger))
        trials.append(trial)
        progress(trial)
    return tuple(trials)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The cheapest of those that reached the tolerance; None: none did."""
    return min((trial for trial in trials if trial.converged), key=lambda trial: trial.cost, default=None)


class Script(PrecisionPolicy):
    """Precisions by number of the segment of ``ahead`` iterations; the last one goes on."""

    def __init__(self, precisions: Sequence[CGPrecision], ahead: int) -> None:
        self.precisions, self.ahead = list(precisions), ahead

    def at(self, view: View) -> CGPrecision:
        return self.precisions[min((view.iteration - 1) // self.ahead, len(self.precisions) - 1)]

    def describe(self) -> dict[str, Any]:
        return {
            "policy": "script",
            "ahead": self.ahead,
            "precisions": [precision.describe() for precision in self.precisions],
        }


def greedy(
    problem: Problem,
    actions: Sequence[str] = ACTIONS,
    cost: Cost | None = None,
    tol: float = 1e-8,
    ahead: int = 10,
    segments: int = 100,
    progress: Callable[[str], None] = lambda action: None,
    **how: Any,
) -> tuple[Trial, tuple[str, ...]]:
    """The precision of each segment of ``ahead`` iterations that brings the true residual down by the most decades for
    its cost, or, where one ends the solve, that ends it at the least: the trial, named greedy, and the choices.

    Every look solves the system anew, up to the segment's end: of k segments about k^2 / 2 times ``actions`` of them.

    Parameters
    ----------
    segments : after so many the last choice goes on. how : what else ``cg`` takes, by name, but for max_iterations; the
        safeguard lets all iterations be in less than fp64 unless another one is given.
    """
    if not actions or ahead < 1 or segments < 1:
        raise HalfulpError("an oracle needs at least one precision to try, and one iteration to look ahead.")
    how.setdefault("safeguard", Safeguard(share=1.0))  # as a share of a look's iterations it would change with each
    priced = cost or Cost()
    chosen: list[str] = []
    spent, residual = 0.0, 1.0

    def look(text: str, iterations: int | None) -> Trial:
        policy = Script([action(each) for each in (*chosen, text)], ahead)
        found = cg(problem, policy, tol, iterations, **how)
        return Trial(text, found.status, found.iterations, found.true_residuals[-1], priced.of(found.ledger))

    def rate(trial: Trial) -> float:
        """Decades for the cost."""
        return math.log10(residual / max(trial.true_residual, 1e-300)) / max(trial.cost - spent, 1e-300)

    while len(chosen) < segments:
        trials = [look(text, ahead * (len(chosen) + 1)) for text in actions]
        found = best(trials) or max(trials, key=rate)
        chosen.append(found.action)
        progress(found.action)
        if found.status is not Status.MAX_ITERATIONS:
            return replace(found, action="greedy"), tuple(chosen)
        spent, residual = found.cost, found.true_residual
    last = chosen.pop()
    return replace(look(last, None), action="greedy"), (*chosen, last)
