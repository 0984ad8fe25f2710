"""An agent that has learnt which precision an iteration of conjugate gradients is done in, by tabular Q-learning.

After X. Chen, "Mixed-Precision Conjugate Gradient Solvers with RL-Driven Precision Tuning", arXiv 2504.14268: precision
tuples as actions, bins of what the solver knows as states, scalars and residual in fp64. ``ASSUMPTIONS`` is what the
paper leaves open. ``learning`` trains an agent; here is what it knows, and how it is asked.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from .precision import CGPrecision, PrecisionPolicy, View

#: What the paper leaves open: every number and choice of ours is here, and goes into an agent's file.
ASSUMPTIONS: dict[str, Any] = {
    # --- precisions: the paper keeps residual and scalars in fp64. Here inner products are added up in fp64, alpha and
    # beta are divided there, and each check puts b - A x in fp64 in r's place; but between checks r, p and what x has
    # gained are stored in an action's format, as most of the energy is that of moving vectors and the matrix
    # --- decisions
    "hold": 5,  # a decision stands for so many iterations, then until the state changes
    "hold_at_most": 25,  # or so many are over
    "least_visits": 3,  # an action tried less often in a state is not taken; where all were, the state is unvisited,
    # and looked at without what stands behind its bar; if that is unvisited, too, all is fp64
    "margin": 0.02,  # of value, by which an action must be better than fp64 to be taken instead
    # --- states
    "most_decades": 16,  # of the relative residual below 1; more are the last bin
    "residual_decades": 4,  # in a bin of the relative residual
    "trend_window": 8,  # iterations over which the residual's fall is measured
    "trend_decades": 0.01,  # an iteration: falling; less: resting
    "room": [1.0, 2.0, 4.0, 8.0],  # bounds of n / sqrt(condition number): where CG ends after about n iterations rather
    # than after sqrt(condition number), it owes that to directions which stay conjugate, in less precision not for long
    "tiny": 50,  # systems of fewer unknowns
    "badly_scaled_log2": 10.0,  # the diagonal's spread from which a matrix is badly scaled
    # --- rewards; progress is 1 from the first residual to tol, cost is 1 for the same solve all in fp64
    "cost_weight": 1.0,
    "converged": 0.5,
    "failed": -1.0,
    # --- learning
    "discount": 1.0,  # a solve ends, and its cost is a sum
    "trace": 0.98,  # lambda: how much of what follows is taken from the solve itself rather than from the table, whose
    # states are met many times in a solve: their averages, added up, promise more than there is
    "least_rate": 0.05,  # the rate is 1 / visits, and never less
    "explore_least": 0.05,  # epsilon = explore_least + (1 - explore_least) / (1 + episode / explore_half)
    "explore_half": 100,
    "explore_stays": 0.9,  # an exploring decision keeps to the one before, by this chance: alternating precisions
    # cost CG its conjugate directions, and would say little of what either does
}

#: The order in which an action's text, ``spmv;dot;axpy;precondition;residual``, names datapaths.
PARTS = ("spmv", "dot", "axpy", "precondition")
OWN = "own"  #: in the place of the residual's datapath: those of axpy and dot

#: Cheapest first: 32 and 40 bits, and fp64. (Products in bf16, fp16 or tf32 saved less: with vectors in fp32 they took
#: more iterations than the narrower matrix made good, and vectors in less than 32 bits were seldom enough for 1e-8.)
ACTIONS = (
    "fp32;fp32/fp64;fp32;fp32;own",
    "e8m31;e8m31/fp64;e8m31;e8m31;own",
    "fp64;fp64;fp64;fp64",
)

SCHEMA = 2
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
    """The bin of what a policy sees: ``room size | safeguard residual trend scaling``, as in ``4+ large | calm 1e-4
    falls well``; what stands before the bar is enough for a decision where the whole is unvisited.

    Decades are those of the lower end; room, n / sqrt(condition number), is ``?`` before there is an estimate;
    ``raised`` says that the safeguard has stepped in before.
    """
    most, step = told["most_decades"], told["residual_decades"]
    residual = f"1e-{min(math.floor(max(-_log10(view.residuals[-1]), 0.0) / step) * step, most)}"
    room = "?"
    if not math.isnan(view.condition):
        ratio = view.n / math.sqrt(max(view.condition, 1.0))
        room = next((f"{bound:g}+" for bound in reversed(told["room"]) if ratio >= bound), "none")
    size = "tiny" if view.n < told["tiny"] else "large"
    scaling = "badly" if view.scale >= told["badly_scaled_log2"] else "well"
    safeguard = "calm" if view.rejected < 0 else "raised"
    return f"{room} {size} | {safeguard} {residual} {_trend(view.residuals, told)} {scaling}"


def coarse(state: str) -> str:
    """A state without what stands behind the bar."""
    return state.partition(" | ")[0]


def _trend(residuals: Sequence[float], told: dict[str, Any]) -> str:
    k = len(residuals) - 1
    first = max(0, k - told["trend_window"])
    fall = (_log10(residuals[first]) - _log10(residuals[k])) / max(k - first, 1)
    return "falls" if fall >= told["trend_decades"] else "rests"


def _log10(x: float) -> float:
    return math.log10(max(x, 1e-300))


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


class Agent:
    """A table of values, and how it came about.

    Parameters
    ----------
    actions : texts as :func:`action` reads them; the last is all fp64, what unvisited states fall back to.
    told : ``ASSUMPTIONS``, or others.
    """

    def __init__(self, actions: Sequence[str] = ACTIONS, told: dict[str, Any] | None = None) -> None:
        self.actions = tuple(actions)
        self.precisions = tuple(action(text) for text in self.actions)
        if not self.actions or not self.precisions[-1].is_fp64:
            raise HalfulpError("an agent's last action must be fp64 in all parts: what unvisited states fall back to.")
        self.told = dict(ASSUMPTIONS) | (told or {})
        self.table: dict[str, Row] = {}
        self.trained: dict[str, Any] = {}  #: settings, episodes done, costs in fp64: ``learning``'s

    def best(self, state: str) -> int | None:
        """The action of most value among those tried often enough, in the state or else in the coarse one, if it is
        better than fp64 by the margin; None: both are unvisited."""
        for key in (state, coarse(state)):
            if (row := self.table.get(key)) is None:
                continue
            values = list(row.values)
            values[-1] += self.told["margin"]  # the last is fp64
            known = [(values[i], i) for i, n in enumerate(row.visits) if n >= self.told["least_visits"]]
            if known:
                return max(known)[1]
        return None

    def learn(self, transitions: Sequence[Transition]) -> None:
        """An episode's, from the last to the first, so that its end reaches its beginning at once:

        Q(s, a) += rate (G - Q(s, a)) with G = reward + discount ((1 - trace) max Q(s', .) + trace G'), over the actions
        that were tried in s', G' being that of the next transition (Peng & Williams 1996, doi:10.1007/BF00114731).
        """
        told, gained = self.told, 0.0
        for state, chosen, reward, following in reversed(transitions):
            ahead = 0.0
            if following is None:
                gained = 0.0
            elif (row := self.table.get(following)) is not None:
                ahead = max((q for q, n in zip(*row, strict=True) if n), default=0.0)
            gained = reward + told["discount"] * ((1.0 - told["trace"]) * ahead + told["trace"] * gained)
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
    fell_back: bool  #: the state was unvisited


class QPolicy(PrecisionPolicy):
    """Asks an agent; where it does not know a state, all is fp64, and that is counted."""

    def __init__(self, agent: Agent, name: str = "") -> None:
        self.agent, self.name = agent, name
        self.decisions: list[Decision] = []  #: of all solves so far
        self.asked = Counter[bool]()  #: iterations by whether their decision fell back
        self._last = 0  #: the iteration that was asked for last
        self._floor = 0  #: the lowest action of this solve from now on

    @classmethod
    def read(cls, path: str | Path) -> QPolicy:
        """Of a file, as :meth:`Agent.read` reads it."""
        return cls(Agent.read(path), str(path))

    def at(self, view: View) -> CGPrecision:
        """A state is what is seen, and which action came before in this solve: directions remember their precision.

        Where precision has risen, it does not fall again in this solve: each rise costs all directions.
        """
        before: int | str = self.decisions[-1].action if self._goes_on(view.iteration) else "-"
        state = f"after {before} {state_of(view, self.agent.told)}"
        if before == "-":
            self._floor = 0
        if not self._stands(view.iteration, state):
            decision = self._decide(view.iteration, state)
            decision = decision._replace(action=max(decision.action, self._floor))
            if before != "-" and decision.action > int(before):
                self._floor = decision.action
            self.decisions.append(decision)
        self._last = view.iteration
        last = self.decisions[-1]
        self.asked[last.fell_back] += 1
        return self.agent.precisions[last.action]

    def _goes_on(self, iteration: int) -> bool:
        """Whether this solve has had decisions."""
        return bool(self.decisions) and iteration > self._last

    def _stands(self, iteration: int, state: str) -> bool:
        """Whether the last decision still holds: not after iterations that the safeguard did, nor in a new solve."""
        if not self.decisions or iteration != self._last + 1:
            return False
        told, last = self.agent.told, self.decisions[-1]
        age = iteration - last.iteration
        return age < told["hold"] or (state == last.state and age < told["hold_at_most"])

    def _decide(self, iteration: int, state: str) -> Decision:
        best = self.agent.best(state)
        return Decision(iteration, state, len(self.agent.actions) - 1 if best is None else best, best is None)

    @property
    def coverage(self) -> float:
        """The share of decisions that the agent knew; the others fell back to fp64."""
        return 1.0 - sum(d.fell_back for d in self.decisions) / max(len(self.decisions), 1)

    def describe(self) -> dict[str, Any]:
        agent = self.agent
        known = {"actions": list(agent.actions), "assumptions": agent.told, "states": len(agent.table)}
        told = {name: x for name, x in agent.trained.items() if name != "fp64"}
        seen = {"decisions": len(self.decisions), "coverage": self.coverage}
        return {"policy": "agent", "file": self.name, "trained": told, "sources": SOURCES} | known | seen
