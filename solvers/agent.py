"""An agent that has learnt which precision an iteration of conjugate gradients is done in, by tabular Q-learning.

After X. Chen, "Mixed-Precision Conjugate Gradient Solvers with RL-Driven Precision Tuning", arXiv 2504.14268: precision
tuples as actions, bins of what the solver knows as states, scalars and residual in fp64. ``ASSUMPTIONS`` is what the
paper leaves open. ``learning`` trains an agent; here is what it knows, and how it is asked.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from .precision import CGPrecision, PrecisionPolicy, View, unit_roundoff

#: What the paper leaves open: every number and choice of ours is here, and goes into an agent's file.
ASSUMPTIONS: dict[str, Any] = {
    # --- precisions: the paper keeps residual and scalars in fp64. Here inner products are added up in fp64, alpha and
    # beta are divided there, and each check puts b - A x in fp64 in r's place; but between checks r, p and what x has
    # gained are stored in an action's format, as most of the energy is that of moving vectors and the matrix
    # --- decisions
    "look": 4,  # first iterations, in fp64: what they tell of the system costs little, and no directions later
    "hold": 5,  # a decision stands for so many iterations, then until the state changes
    "hold_at_most": 25,  # or so many are over
    "least_visits": 3,  # an action tried less often in a state is not taken; where neither fp64 nor the action before
    # was, the state is unvisited, and looked at without what stands behind its bar; if that is unvisited, too, a solve
    # stays with the action before, which is fp64 at first
    "doubt": 0.3,  # taken off an action's value, over the square root of how often it was tried: the known is preferred
    "margin": 0.02,  # of value, by which an action must be better than fp64 to be taken instead
    "exact": 24,  # actions whose products read the matrix in fewer significand bits are taken only where that is exact:
    # they would solve another system, anew after each check (the study measures what that costs, as fixed precisions)
    "rises": 1,  # after so many of them in a solve precision does not fall again: each costs all directions
    # --- states
    "residuals": [0.5, 1e-2, 1e-4, 1e-6],  # bounds of the least relative residual so far: above the first one it rests
    "room": [0.1, 1.0, 4.0, 16.0],  # bounds of n / sqrt(condition number): where CG ends after about n iterations, not
    # after sqrt(condition number), it owes that to directions which stay conjugate, in less precision not for long
    "pace": [0.6, 0.9],  # bounds of iterations / sqrt(condition number so far): it is less where the spectrum's low end
    # is dense, or still unseen
    "digits": [8, 11],  # bounds of the significand bits that the matrix fits into: bf16's, fp16's and tf32's
    "tiny": 50,  # systems of fewer unknowns
    # --- rewards; progress is 1 from the first residual to tol, cost is 1 for the same solve all in fp64
    "cost_weight": 1.0,
    "converged": 0.5,
    "failed": -1.0,
    "regret": 4.0,  # times what a solve costs more than fp64's, taken off at its end: losses weigh more than savings
    # --- learning
    "discount": 1.0,  # a solve ends, and its cost is a sum
    "trace": 0.98,  # lambda: how much of what follows is taken from the solve itself rather than from the table, whose
    # states are met many times in a solve: their averages, added up, promise more than there is
    "least_rate": 0.05,  # the rate is 1 / visits, and never less
    "longest": 400,  # iterations in fp64 of what is trained on: more take too long
    "give_up": 2.6,  # times these, after which a solve in training has failed
    "explore": 0.25,  # chance of a decision to be drawn
}

#: Of these, what weighs outcomes.
REWARDS = ("cost_weight", "converged", "failed", "regret")

#: The order in which an action's text, ``spmv;dot;axpy;precondition;residual``, names datapaths.
PARTS = ("spmv", "dot", "axpy", "precondition")
OWN = "own"  #: in the place of the residual's datapath: those of axpy and dot

#: Cheapest first. In the first three only the matrix is in the paper's narrow formats, as vectors in less than 32 bits
#: are seldom enough for 1e-8; between fp32 and fp64 lie 40 and 48 bits: the worse the conditioning, the more bits CG
#: needs not to take more iterations than in fp64, and the fewer the lower the residual.
ACTIONS = (
    "bf16*fp32/fp32;fp32/fp64;fp32;fp32;own",
    "fp16*fp32/fp32;fp32/fp64;fp32;fp32;own",
    "tf32*fp32/fp32;fp32/fp64;fp32;fp32;own",
    "fp32;fp32/fp64;fp32;fp32;own",
    "e8m31;e8m31/fp64;e8m31;e8m31;own",
    "e8m39;e8m39/fp64;e8m39;e8m39;own",
    "fp64;fp64;fp64;fp64",
)

SCHEMA = 3
SOURCES = [
    "X. Chen 2025, arXiv 2504.14268",
    "Watkins & Dayan 1992, doi:10.1007/BF00992698",
    "Peng & Williams 1996, doi:10.1007/BF00114731",
]


def action(text: str) -> CGPrecision:
    """``spmv;dot;axpy;precondition``; the residual and scalars are in fp64, as the paper has them. With a fifth part,
    ``own``, the residual is updated and measured by axpy's and dot's datapaths, too, whose formats scalars enter in."""
    parts = [part.strip() for part in text.split(";")]
    own = len(parts) == len(PARTS) + 1 and parts[-1] == OWN
    parts = parts[:-1] if own else parts
    if not 1 <= len(parts) <= len(PARTS):
        raise HalfulpError(f"{text!r} is not spmv;dot;axpy;precondition[;own], as in 'bf16/fp32;fp32;fp64;fp32'.")
    given = dict(zip(PARTS, parts, strict=False))
    return CGPrecision.of(**given) if own else CGPrecision.of(**given, residual="fp64", scalars="fp64")


# ---- states ---------------------------------------------------------------------------------------------------------


def state_of(view: View, told: dict[str, Any] = ASSUMPTIONS) -> str:
    """The bin of what a policy sees: ``size digits room residual | pace safeguard``, as in ``large more 4+ <0.01 | 0.9+
    calm``; what stands before the bar is enough for a decision where the whole is unvisited.

    room, n / sqrt(condition number), and pace, iterations / sqrt(condition number), are ``?`` before there is an
    estimate; ``raised`` says that the safeguard has stepped in before.
    """
    room = pace = "?"
    if not math.isnan(view.condition):
        root = math.sqrt(max(view.condition, 1.0))
        room, pace = _least(view.n / root, told["room"]), _least((view.iteration - 1) / root, told["pace"])
    digits = next((f"{bound}-" for bound in told["digits"] if view.digits <= bound), "more")
    size = "tiny" if view.n < told["tiny"] else "large"
    least = min(view.residuals)
    residual = next((f"<{bound:g}" for bound in reversed(told["residuals"]) if least < bound), "rests")
    return f"{size} {digits} {room} {residual} | {pace} {'calm' if view.rejected < 0 else 'raised'}"


def _least(x: float, bounds: Sequence[float]) -> str:
    return next((f"{bound:g}+" for bound in reversed(bounds) if x >= bound), f"{bounds[0]:g}-")


def coarse(state: str) -> str:
    """A state without what stands behind the bar."""
    return state.partition(" | ")[0]


# ---- the table ------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """Of a state: by action, the value (of reward to come) and how often it was tried."""

    values: list[float]
    visits: list[int]


class Transition(NamedTuple):
    """A decision, what it brought until the next one, and the state then; None: the solve ended."""

    state: str
    action: int
    reward: float
    following: str | None
    explored: bool = False  #: the action was drawn, and not the best one known


class Agent:
    """A table of values, and how it came about.

    Parameters
    ----------
    actions : texts as :func:`action` reads them; the last is all fp64, what solves begin in.
    told : ``ASSUMPTIONS``, or others.
    """

    def __init__(self, actions: Sequence[str] = ACTIONS, told: dict[str, Any] | None = None) -> None:
        self.actions = tuple(actions)
        self.precisions = tuple(action(text) for text in self.actions)
        if not self.actions or not self.precisions[-1].is_fp64:
            raise HalfulpError("an agent's last action must be fp64 in all parts: what solves begin in.")
        self.told = dict(ASSUMPTIONS) | (told or {})
        self.table: dict[str, Row] = {}
        self.trained: dict[str, Any] = {}  #: settings, episodes done, costs in fp64: ``learning``'s

    def lowest(self, holds: Callable[[Any], bool]) -> int:
        """The first action that a matrix may be read by, if it ``holds`` so for formats as of a View."""
        enough = 2.0 ** -self.told["exact"]
        formats = (precision.spmv.a for precision in self.precisions)
        return next(i for i, fmt in enumerate(formats) if unit_roundoff(fmt) <= enough or holds(fmt))

    def best(self, state: str, before: int | None = None, lowest: int = 0) -> int | None:
        """The action of most value, from ``lowest`` on, among those tried often enough, in the state or else in the
        coarse one, if it is better than fp64 by the margin. A state is visited where it is known what to compare with:
        fp64, or the action ``before``. None: both are unvisited."""
        for key in (state, coarse(state)):
            if (row := self.table.get(key)) is None:
                continue
            values = [q - self.told["doubt"] / math.sqrt(max(n, 1)) for q, n in zip(*row, strict=True)]
            values[-1] += self.told["margin"]  # the last is fp64
            known = {i: values[i] for i, n in enumerate(row.visits) if n >= self.told["least_visits"] and i >= lowest}
            if len(values) - 1 in known or before in known:
                return max(known, key=lambda i: (known[i], i))
        return None

    def learn(self, transitions: Sequence[Transition]) -> None:
        """An episode's, from the last to the first, so that its end reaches its beginning at once:

        Q(s, a) += rate (G - Q(s, a)) with G = reward + discount ((1 - trace) max Q(s', .) + trace G'), over the actions
        that were tried in s', G' being that of the next transition (Peng & Williams 1996, doi:10.1007/BF00114731);
        where that explored and s' is known, G' is nothing that the policy would do, and trace is 0 (Watkins 1989).
        """
        told, gained, cut = self.told, 0.0, False
        for state, chosen, reward, following, explored in reversed(transitions):
            ahead, trace = 0.0, told["trace"]
            if following is None:
                gained, cut = 0.0, False
            elif (row := self.table.get(following)) is not None and any(row.visits):
                ahead = max(q for q, n in zip(*row, strict=True) if n)
                trace = 0.0 if cut else trace
            gained, cut = reward + told["discount"] * ((1.0 - trace) * ahead + trace * gained), explored
            count = len(self.actions)
            for key in {state: None, coarse(state): None}:
                values, visits = self.table.setdefault(key, Row([0.0] * count, [0] * count))
                visits[chosen] += 1
                rate = max(1.0 / visits[chosen], told["least_rate"])
                values[chosen] += rate * (gained - values[chosen])

    # ---- files ----------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        content = {
            "kind": "halfulp agent",
            "schema": SCHEMA,
            "sources": SOURCES,
            "actions": list(self.actions),
            "assumptions": self.told,
            "trained": self.trained,
            "table": {state: [row.values, row.visits] for state, row in sorted(self.table.items())},
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        write_atomically(path, self.to_json())

    @classmethod
    def read(cls, path: str | Path) -> Agent:
        """From a file.

        Raises
        ------
        HalfulpError
            It cannot be read, is damaged, or is none of an agent's; in a sentence.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise HalfulpError(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError:
            raise HalfulpError(f"{path} is not JSON, as the file of an agent is.") from None
        if not isinstance(content, dict) or content.get("kind") != "halfulp agent":
            raise HalfulpError(f"{path} is not the file of an agent: see halfulp solve --train-agent.")
        if content.get("schema") != SCHEMA:
            raise HalfulpError(f"{path} is an agent of schema {content.get('schema')}; this version reads {SCHEMA}.")
        try:
            return cls._of(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HalfulpError(f"{path} is a damaged agent: {str(error).rstrip('.')}.") from None

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Agent:
        agent = cls(content["actions"], content["assumptions"])
        for state, (values, visits) in content["table"].items():
            row = Row([float(q) for q in values], [int(n) for n in visits])
            if not len(row.values) == len(row.visits) == len(agent.actions):
                raise ValueError(f"state {state!r} has not one value and one count for each action")
            if not all(map(math.isfinite, row.values)) or min(row.visits) < 0:
                raise ValueError(f"state {state!r} has a value that is no number, or a count below 0")
            agent.table[state] = row
        agent.trained = dict(content["trained"])
        return agent


# ---- the policy -----------------------------------------------------------------------------------------------------


class Decision(NamedTuple):
    """One of a policy: from ``iteration`` on."""

    iteration: int
    state: str
    action: int
    fell_back: bool  #: the state was unvisited: the solve stays with the action before, at first with fp64
    explored: bool = False  #: in training


class QPolicy(PrecisionPolicy):
    """Asks an agent; where it does not know a state, nothing changes, and that is counted. All is fp64 at first."""

    def __init__(self, agent: Agent, name: str = "") -> None:
        self.agent, self.name = agent, name
        self.decisions: list[Decision] = []  #: of all solves so far
        self.asked = Counter[bool]()  #: iterations by whether their decision fell back
        self._last = 0  #: the iteration that was asked for last
        self._standing: Decision | None = None  #: this solve's last decision
        self._rises = 0  #: of precision, in this solve
        self._lowest = 0  #: action that its matrix may be read by

    @classmethod
    def read(cls, path: str | Path) -> QPolicy:
        """Of a file, as :meth:`Agent.read` reads it."""
        return cls(Agent.read(path), str(path))

    def at(self, view: View) -> CGPrecision:
        """A state is what is seen, and which action came before in this solve: directions remember their precision."""
        told, k = self.agent.told, view.iteration
        follows = k == self._last + 1
        if k <= self._last:  # another solve
            self._standing, self._rises = None, 0
        self._last, self._lowest = k, self.agent.lowest(view.holds)
        if k <= told["look"]:
            return self.agent.precisions[-1]
        last = self._standing
        state = f"{'first' if last is None else f'after {last.action}'} {state_of(view, told)}"
        if last is None or not (follows and self._holds(last, k, state)):
            decision = self._decide(k, state)
            if last is not None and self._rises >= told["rises"]:
                decision = decision._replace(action=max(decision.action, last.action))
            self._rises += last is not None and decision.action > last.action
            self._standing = last = decision
            self.decisions.append(decision)
        self.asked[last.fell_back] += 1
        return self.agent.precisions[last.action]

    def _holds(self, last: Decision, iteration: int, state: str) -> bool:
        """Whether a decision does; none does after iterations that the safeguard did."""
        told, age = self.agent.told, iteration - last.iteration
        return age < told["hold"] or (state == last.state and age < told["hold_at_most"])

    def _decide(self, iteration: int, state: str) -> Decision:
        before = None if self._standing is None else self._standing.action
        best = self.agent.best(state, before, self._lowest)
        stays = len(self.agent.actions) - 1 if before is None else before
        return Decision(iteration, state, stays if best is None else best, best is None)

    @property
    def coverage(self) -> float:
        """The share of decisions that the agent knew; the others were made in unvisited states."""
        return 1.0 - sum(d.fell_back for d in self.decisions) / max(len(self.decisions), 1)

    def describe(self) -> dict[str, Any]:
        agent = self.agent
        known = {"actions": list(agent.actions), "assumptions": agent.told, "states": len(agent.table)}
        told = {name: x for name, x in agent.trained.items() if name != "fp64"}
        seen = {"decisions": len(self.decisions), "coverage": self.coverage}
        return {"policy": "agent", "file": self.name, "trained": told, "sources": SOURCES} | known | seen
