"""An agent that has learnt which precision an iteration of conjugate gradients is done in, by tabular Q-learning.

After X. Chen, "Mixed-Precision Conjugate Gradient Solvers with RL-Driven Precision Tuning", arXiv 2504.14268: precision
tuples as actions, bins of what the solver knows as states, scalars and residual in fp64. ``ASSUMPTIONS`` is what the
paper leaves open. ``learning`` trains an agent; here is what it knows, and how it is asked.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Container, Sequence
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
    "hold": 8,  # a decision stands for so many iterations, then until the state changes
    "hold_at_most": 25,  # or so many are over
    "least_visits": 3,  # an action tried less often in a state is not taken; where neither fp64 nor the action before
    # was, the state is unvisited, and looked at more and more coarsely; if that does not help a solve goes on in fp64,
    # or, where precision may not rise, as it is
    "doubt": 0.1,  # taken off an action's value, over the square root of how often it was tried: the known is preferred
    "margin": 0.02,  # of value, by which an action must be better than fp64 to be taken instead
    # precision may fall until it has risen, once, by so many iterations: a rise costs all directions
    "rise_by": 32,
    # --- states; of an action what it is worth is learnt apart where it is more precision than before
    "unknowns": [50, 200, 1000],  # bounds of n, all that is known before the first iteration
    # bounds of n / sqrt(condition number): where CG ends after about n iterations, not after sqrt(condition number), it
    # owes that to directions which stay conjugate, in less precision not for long
    "room": [1.0, 3.0, 7.0, 15.0, 40.0, 150.0],
    # log2 of the diagonal's largest over its smallest entry, before it is scaled: from here on it is uneven, as where
    # materials meet, and small eigenvalues may lie apart, unseen at first
    "spread": 1.0,
    "residuals": [0.5, 1e-2, 1e-4, 1e-6],  # bounds of the least relative residual so far: above the first one it rests
    "pace": [0.9, 1.6],  # bounds of iterations / sqrt(condition number so far): it is less where the spectrum's low end
    # is dense, or still unseen
    # --- rewards; progress is 1 from the first residual to tol, a residual being as far as the same solve all in fp64
    # is, by iterations, when it first comes to it; cost is 1 for that solve: in fp64 both stay the same all the way
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
    "give_up": 2.2,  # times these, after which a solve in training has failed
    "explore": 0.15,  # chance of a decision to be drawn
}

#: Of these, what weighs outcomes.
REWARDS = ("cost_weight", "converged", "failed", "regret")

#: The order in which an action's text, ``spmv;dot;axpy;precondition;residual``, names datapaths.
PARTS = ("spmv", "dot", "axpy", "precondition")
OWN = "own"  #: in the place of the residual's datapath: those of axpy and dot

#: Cheapest first: 28, 32, 40, 48 and 64 bits. The worse the conditioning, the more bits CG needs not to take more
#: iterations than in fp64, and the fewer the lower the residual; vectors in the paper's narrow formats are not enough
#: for 1e-8; the matrix is in those wherever that is exact and narrower (``lossless``), else rounded as vectors are.
ACTIONS = (
    "e8m19;e8m19/fp64;e8m19;e8m19;own",
    "fp32;fp32/fp64;fp32;fp32;own",
    "e8m31;e8m31/fp64;e8m31;e8m31;own",
    "e8m39;e8m39/fp64;e8m39;e8m39;own",
    "fp64;fp64;fp64;fp64",
)

SCHEMA = 4
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
    """The bin of what a policy sees: ``diagonal room residual | pace safeguard``, as in ``even 15+ <0.01 | 0.9+ calm``.
    Before there is an estimate of the condition number it is that of n, as in ``uneven n 200+``.

    room is n / sqrt(condition number), pace iterations / sqrt(condition number); ``raised`` says that the safeguard has
    stepped in before.
    """
    kind = "even" if view.scale < told["spread"] else "uneven"
    if math.isnan(view.condition):
        return f"{kind} n {_least(view.n, told['unknowns'])}"
    root = math.sqrt(max(view.condition, 1.0))
    room, pace = _least(view.n / root, told["room"]), _least((view.iteration - 1) / root, told["pace"])
    residual = next((f"<{bound:g}" for bound in reversed(told["residuals"]) if view.least < bound), "rests")
    return f"{kind} {room} {residual} | {pace} {'calm' if view.rejected < 0 else 'raised'}"


def _least(x: float, bounds: Sequence[float]) -> str:
    return next((f"{bound:g}+" for bound in reversed(bounds) if x >= bound), f"{bounds[0]:g}-")


def levels(state: str) -> tuple[str, ...]:
    """A state, then without what stands behind the bar, then without the diagonal, too: each where those before it are
    unvisited."""
    short = state.partition(" | ")[0]
    return tuple(dict.fromkeys((state, short, short.partition(" ")[2] or short)))


def rising(state: str) -> str:
    """Where it is kept what actions of more precision than before are worth, for which directions start anew."""
    return f"{state} ^"


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
    rises: bool = False  #: the action is of more precision than the one before
    explored: bool = False  #: the action was drawn, and not the best one known
    allowed: range | None = None  #: what it was free to be; None: any


class Agent:
    """A table of values, and how it came about.

    Parameters
    ----------
    actions : texts as :func:`action` reads them; the last is all fp64, what unvisited states take.
    told : ``ASSUMPTIONS``, or others.
    """

    def __init__(self, actions: Sequence[str] = ACTIONS, told: dict[str, Any] | None = None) -> None:
        self.actions = tuple(actions)
        self.precisions = tuple(action(text) for text in self.actions)
        if not self.actions or not self.precisions[-1].is_fp64:
            raise HalfulpError("an agent's last action must be fp64 in all parts: what unvisited states take.")
        self.told = dict(ASSUMPTIONS) | (told or {})
        self.table: dict[str, Row] = {}
        self.trained: dict[str, Any] = {}  #: settings, episodes done, costs in fp64 and of each action: ``learning``'s

    @property
    def best_fixed(self) -> int | None:
        """The action that costs the least on average of those that were trained on, taken all the way; None: none was
        tried. For an agent to be compared with."""
        tried = list(self.trained.get("tried", {}).values())
        means = [sum(costs) / len(tried) for costs in zip(*tried, strict=True)]
        return min(range(len(means)), key=means.__getitem__, default=None)

    def known(self, state: str, before: int | None = None) -> dict[int, tuple[float, int]]:
        """Of actions that were tried often enough in a state, after the action ``before``: value and visits."""
        own, up = self.table.get(state), self.table.get(rising(state))
        rows = (up if before is not None and i > before else own for i in range(len(self.actions)))
        pairs = {i: (row.values[i], row.visits[i]) for i, row in enumerate(rows) if row is not None}
        return {i: pair for i, pair in pairs.items() if pair[1] >= self.told["least_visits"]}

    def best(self, state: str, before: int | None = None, allowed: Container[int] | None = None) -> int | None:
        """The action of most value among those known in the state, or in the first of its ``levels`` that is visited,
        and ``allowed``, if it is better than fp64 by the margin. A state is visited where it is known what to compare
        with: fp64, or the action ``before``. None: none is visited, or nothing known is allowed."""
        last = len(self.actions) - 1  # fp64
        for key in levels(state):
            values = {i: q - self.told["doubt"] / math.sqrt(n) for i, (q, n) in self.known(key, before).items()}
            if last in values or before in values:
                values |= {last: values[last] + self.told["margin"]} if last in values else {}
                if open_to := [i for i in values if allowed is None or i in allowed]:
                    return max(open_to, key=lambda i: (values[i], i))
        return None

    def learn(self, transitions: Sequence[Transition]) -> None:
        """An episode's, from the last to the first, so that its end reaches its beginning at once:

        Q(s, a) += rate (G - Q(s, a)) with G = reward + discount ((1 - trace) max Q(s', .) + trace G'), over the actions
        that are known in s', G' being that of the next transition (Peng & Williams 1996, doi:10.1007/BF00114731);
        where that explored and any is known, G' is nothing that the policy would do, and trace is 0 (Watkins 1989).
        """
        told, gained, cut = self.told, 0.0, False
        free: range | None = None  #: what is allowed in the next transition
        for state, chosen, reward, following, rises, explored, allowed in reversed(transitions):
            if following is None:
                gained, ahead, trace = 0.0, 0.0, 1.0
            else:
                found = (self.known(key, chosen).items() for key in levels(following))
                several = ([q for i, (q, _) in known if free is None or i in free] for known in found)
                values = next(filter(None, several), [])
                ahead = max(values, default=0.0)
                trace = 1.0 if not values else 0.0 if cut else told["trace"]
            gained, cut = reward + told["discount"] * ((1.0 - trace) * ahead + trace * gained), explored
            free = allowed
            count = len(self.actions)
            for name in levels(state):
                key = rising(name) if rises else name
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
    fell_back: bool  #: the state was unvisited: fp64, or, where precision may not rise, the most that is allowed
    rises: bool = False  #: to more precision than before
    explored: bool = False  #: in training
    allowed: range | None = None  #: what it was free to be


class QPolicy(PrecisionPolicy):
    """Asks an agent; where it does not know a state, it takes fp64, or stays where precision may not rise, and that is
    counted."""

    def __init__(self, agent: Agent, name: str = "") -> None:
        self.agent, self.name = agent, name
        self.decisions: list[Decision] = []  #: of all solves so far
        self.asked = Counter[bool]()  #: iterations by whether their decision fell back
        self._last = 0  #: the iteration that was asked for last
        self._standing: Decision | None = None  #: this solve's last decision
        self._risen = False  #: precision, in this solve

    @classmethod
    def read(cls, path: str | Path) -> QPolicy:
        """Of a file, as :meth:`Agent.read` reads it."""
        return cls(Agent.read(path), str(path))

    def at(self, view: View) -> CGPrecision:
        told, k = self.agent.told, view.iteration
        follows = k == self._last + 1
        if k <= self._last:  # another solve
            self._standing, self._risen = None, False
        self._last, last = k, self._standing
        state = state_of(view, told)
        if last is None or not (follows and self._holds(last, k, state)):
            low, high = 0, len(self.agent.actions) - 1
            # after iterations that the safeguard did directions are fp64's
            before = None if last is None else last.action if follows else high
            if last is not None and before is not None:
                low = last.action if self._risen else low
                high = high if k <= told["rise_by"] and not self._risen else max(low, before)
            allowed = range(low, high + 1)
            decision = self._decide(k, state, before, allowed)._replace(allowed=allowed)
            if last is not None and before is not None:
                decision = decision._replace(rises=decision.action > before)
                self._risen |= decision.rises
            self._standing = last = decision
            self.decisions.append(decision)
        self.asked[last.fell_back] += 1
        return self.agent.precisions[last.action]

    def _holds(self, last: Decision, iteration: int, state: str) -> bool:
        """Whether a decision does; none does after iterations that the safeguard did."""
        told, age = self.agent.told, iteration - last.iteration
        return age < told["hold"] or (state == last.state and age < told["hold_at_most"])

    def _decide(self, iteration: int, state: str, before: int | None, allowed: range) -> Decision:
        """After the action ``before``; one of those allowed, of which there is at least one."""
        best = self.agent.best(state, before, allowed)
        return Decision(iteration, state, allowed[-1] if best is None else best, best is None)

    @property
    def coverage(self) -> float:
        """The share of decisions that the agent knew; the others were made in unvisited states."""
        return 1.0 - sum(d.fell_back for d in self.decisions) / max(len(self.decisions), 1)

    def describe(self) -> dict[str, Any]:
        agent = self.agent
        known = {"actions": list(agent.actions), "assumptions": agent.told, "states": len(agent.table)}
        told = {name: x for name, x in agent.trained.items() if name not in ("fp64", "tried")}
        seen = {"decisions": len(self.decisions), "coverage": self.coverage}
        return {"policy": "agent", "file": self.name, "trained": told, "sources": SOURCES} | known | seen
