"""Policies: which precision an iteration of conjugate gradients is done in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from .agent import Agent, Decision, QPolicy
from .precision import CGPrecision, PrecisionPolicy, View

#: The paper's formats (Chen 2025, arXiv 2504.14268), the cheapest first.
LADDER = ("bf16", "fp16", "tf32", "fp32", "fp64")


def rung(name: str) -> CGPrecision:
    """The matrix-vector product, the preconditioner and p.Ap in one datapath; x, r, p, norms and scalars in fp64, whose
    errors no later iteration would make good."""
    return CGPrecision.of(name, name, "fp64", residual="fp64", scalars="fp64")


#: Adaptive precision as a fixed one: products as accurate as fp32's, of the matrix as a whole.
ADAPTIVE = CGPrecision.of("fp64", buckets="6e-8;fp64;fp32;bf16/fp32")


class Fixed(PrecisionPolicy):
    """The same precision in all iterations."""

    changes = False

    def __init__(self, precision: CGPrecision | str = "fp64") -> None:
        self.precision = CGPrecision.of(precision) if isinstance(precision, str) else precision

    def at(self, view: View) -> CGPrecision:
        return self.precision

    def describe(self) -> dict[str, Any]:
        return {"policy": "fixed", "precision": self.precision.describe()}


class Rule(PrecisionPolicy):
    """The cheapest rung of a ladder whose errors the solve can bear: u kappa safety < tol / ||r_k||.

    An error u ||A|| ||p|| in the product A p of iteration k moves r_k off the true residual by at most
    u kappa ||r_k||, times a modest number, and that must stay below tol: products may be the less accurate the smaller
    the residual already is (van den Eshof & Sleijpen 2004, section 4, doi:10.1137/S0895479802403459, after Bouras &
    Frayssé 2005, doi:10.1137/S0895479801384743). kappa is the estimate so far; before there is one, and where no
    rung suffices, the last rung is taken.

    Parameters
    ----------
    ladder : names of datapaths or precisions, the cheapest first. safety : how much is left to the modest number.
    """

    def __init__(self, ladder: Sequence[CGPrecision | str] = LADDER, safety: float = 10.0) -> None:
        if not ladder:
            raise HalfulpError("a ladder of precisions needs at least one.")
        if not (math.isfinite(safety) and safety > 0.0):
            raise HalfulpError(f"safety must be positive, not {safety}.")
        self.ladder = [rung(step) if isinstance(step, str) else step for step in ladder]
        self.safety = safety

    def at(self, view: View) -> CGPrecision:
        bearable = view.tol / max(view.residuals[-1], view.tol)
        for step in self.ladder:
            if step.roundoff * view.condition * self.safety < bearable:  # never, while the condition is NaN
                return step
        return self.ladder[-1]

    def describe(self) -> dict[str, Any]:
        return {"policy": "rule", "safety": self.safety, "ladder": [step.describe() for step in self.ladder]}


class Stepped(PrecisionPolicy):
    """Nested precisions: the first down to a residual, the second down to a lower one, and so on; the last to the end.

    The safeguard replaces r by b - A x where precision rises, so that each step refines what those before it left.
    """

    def __init__(
        self, steps: Sequence[tuple[CGPrecision | str, float]] = (("fp16", 1e-2), ("fp32", 1e-5), ("fp64", 0.0))
    ) -> None:
        bounds = [bound for _, bound in steps]
        if not steps or bounds != sorted(bounds, reverse=True):
            raise HalfulpError("stepped precisions need residuals that fall, a (precision, residual) each.")
        self.steps = [(rung(step) if isinstance(step, str) else step, bound) for step, bound in steps]

    def at(self, view: View) -> CGPrecision:
        residual = view.residuals[-1]
        return next((step for step, bound in self.steps if residual > bound), self.steps[-1][0])

    def describe(self) -> dict[str, Any]:
        return {"policy": "stepped", "steps": [[step.describe(), bound] for step, bound in self.steps]}


class Room(QPolicy):
    """The rule that agents start from, alone: ``states.by_rule``, with the figures of ``ASSUMPTIONS``, in the decisions
    of an agent. The less room, n / sqrt(condition number), the more bits."""

    def __init__(self) -> None:
        super().__init__(Agent())

    def _decide(self, iteration: int, state: str, before: int | None, allowed: range, rule: int) -> Decision:
        return Decision(iteration, state, rule, False)

    def describe(self) -> dict[str, Any]:
        told, ladder = self.agent.told, [step.describe() for step in self.agent.precisions]
        return {"policy": "room", "ladder": ladder} | {
            name: told[name] for name in ("rule", "hold", "hold_fp64", "rise_by", "rise_share")
        }


class Random(PrecisionPolicy):
    """A precision drawn for each iteration, all alike likely; the same for the same seed and iteration."""

    def __init__(self, choices: Sequence[CGPrecision | str] = LADDER, seed: int = 0) -> None:
        if not choices:
            raise HalfulpError("a random policy needs at least one precision.")
        self.choices = [rung(step) if isinstance(step, str) else step for step in choices]
        self.seed = seed

    def at(self, view: View) -> CGPrecision:
        return self.choices[int(np.random.default_rng((self.seed, view.iteration)).integers(len(self.choices)))]

    def describe(self) -> dict[str, Any]:
        return {"policy": "random", "seed": self.seed, "choices": [step.describe() for step in self.choices]}


NAMES = ("fixed", "rule", "room", "stepped", "random", "adaptive", "agent")

#: An agent as README says it was trained.
SHIPPED = Path(__file__).with_name("agent.json")


def policy_of(given: PrecisionPolicy | CGPrecision | str, seed: int = 0) -> PrecisionPolicy:
    """A policy as it is, by its name, or in an agent's file; or the same precision, or datapath by its name, always.

    Raises
    ------
    HalfulpError
        It is none of these.
    """
    if isinstance(given, PrecisionPolicy):
        return given
    if isinstance(given, str) and (given in NAMES or _is_file(given)):
        return named(given, CGPrecision.of("fp64"), seed)
    if isinstance(given, CGPrecision | str):
        return Fixed(given)
    raise HalfulpError(
        "a solve needs a CGPrecision, a PrecisionPolicy (an agent's is QPolicy(agent)), or the name of a datapath or of"
        f" a policy, not {type(given).__name__}."
    )


def _is_file(name: str) -> bool:
    return name.lower().endswith(".json")


def named(name: str, precision: CGPrecision, seed: int = 0) -> PrecisionPolicy:
    """A policy by name, with its defaults; a fixed one is that precision; of an agent's file, which ends in .json.

    Raises
    ------
    HalfulpError
        There is none of that name, or the file cannot be read.
    """
    if _is_file(name):
        return QPolicy.read(name)
    makers: dict[str, Callable[[], PrecisionPolicy]] = {
        "fixed": lambda: Fixed(precision),
        "rule": Rule,
        "room": Room,
        "stepped": Stepped,
        "random": lambda: Random(seed=seed),
        "adaptive": lambda: Fixed(ADAPTIVE),
        "agent": lambda: QPolicy(Agent.read(SHIPPED), SHIPPED.name),
    }
    if name not in makers:
        raise HalfulpError(f"policy {name!r} is none of {', '.join(NAMES)}, and no agent's file (.json).")
    return makers[name]()
