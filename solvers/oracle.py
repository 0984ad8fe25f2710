"""An oracle: of a few precisions the one that is the cheapest for a system, known only after all were tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..emulator.errors import HalfulpError
from .agent import ACTIONS, action
from .cg import Status, cg
from .costs import Cost
from .problems import Problem


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
