"""An agent that has learnt which precision an iteration of conjugate gradients is done in, by tabular Q-learning.

After X. Chen, "Mixed-Precision Conjugate Gradient Solvers with RL-Driven Precision Tuning", arXiv 2504.14268: precision
tuples as actions, bins of what the solver knows (``states``), scalars and residual in fp64. ``assumptions`` is what the
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
from .assumptions import ASSUMPTIONS
from .precision import CGPrecision, PrecisionPolicy, View
from .states import by_rule, fallen, falls, levels, rising, state_of

#: The order in which an action's text, ``spmv;dot;axpy;precondition;residual;solution``, names datapaths.
PARTS = ("spmv", "dot", "axpy", "precondition")
OWN = "own"  #: in the place of the residual's datapath: those of axpy and dot

#: Cheapest first: r and p of 24, 24, 28, 36, 40, 48, 64 bits. The worse the conditioning, the more bits CG needs not to
#: take more iterations than in fp64, and the fewer the lower the residual; vectors in the paper's narrow formats are
#: not enough for 1e-8; the matrix is in those wherever that is exact and narrower (``lossless``). Else the matrix, the
#: sums in its products, and x have 4 to 12 bits more than r and p from the second on: rounding these moves r off
#: b - A x by about condition number times as much, which takes iterations anew when r is replaced.
ACTIONS = (
    "e8m15;e8m15/fp64;e8m15;e8m15;own",
    "e8m19*e8m15/e8m19/e8m15;e8m15/fp64;e8m15;e8m15;own;e8m15/fp32",
    "fp32*e8m19/fp32/e8m19;e8m19/fp64;e8m19;e8m19;own;e8m19/e8m27",
    "e8m35*e8m27/e8m35/e8m27;e8m27/fp64;e8m27;e8m27;own;e8m27/e8m39",
    "e8m39*e8m31/e8m39/e8m31;e8m31/fp64;e8m31;e8m31;own;e8m31/e8m39",
    "e8m47*e8m39/e8m47/e8m39;e8m39/fp64;e8m39;e8m39;own;e8m39/e8m47",
    "fp64;fp64;fp64;fp64",
)

SCHEMA = 8
SOURCES = [
    "X. Chen 2025, arXiv 2504.14268",
    "Watkins & Dayan 1992, doi:10.1007/BF00992698",
    "Peng & Williams 1996, doi:10.1007/BF00114731",
    "Laroche, Trichelair & Tachet des Combes 2019, arXiv 1712.06924",
]


def action(text: str) -> CGPrecision:
    """``spmv;dot;axpy;precondition``; the residual and scalars are in fp64, as the paper has them. With a fifth part,
    ``own``, the residual is updated and measured by axpy's and dot's datapaths, too, whose formats scalars enter in;
    with a sixth x is updated by that datapath, and not axpy's."""
    parts = [part.strip() for part in text.split(";")]
    solution = parts.pop() if len(parts) == len(PARTS) + 2 and parts[-2] == OWN else None
    own = len(parts) == len(PARTS) + 1 and parts[-1] == OWN
    parts = parts[:-1] if own else parts
    if not 1 <= len(parts) <= len(PARTS):
        raise HalfulpError(
            f"{text!r} is not spmv;dot;axpy;precondition[;own[;solution]], as in 'bf16/fp32;fp32;fp64;fp32'."
        )
    given = dict(zip(PARTS, parts, strict=False))
    if own:
        return CGPrecision.of(**given, solution=solution)
    return CGPrecision.of(**given, residual="fp64", scalars="fp64")


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
    told : what is not as in ``ASSUMPTIONS``.
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

    def rises(self, before: int | None, following: int) -> bool:
        """Whether directions start anew from one action to the next, as vectors have more bits."""
        return before is not None and self.precisions[following].roundoff < self.precisions[before].roundoff

    def known(self, state: str, before: int | None = None) -> dict[int, tuple[float, int]]:
        """Of actions that were tried often enough in a state, after the action ``before``: value and visits."""
        own, up = self.table.get(state), self.table.get(rising(state))
        rows = (up if self.rises(before, i) else own for i in range(len(self.actions)))
        pairs = {i: (row.values[i], row.visits[i]) for i, row in enumerate(rows) if row is not None}
        return {i: pair for i, pair in pairs.items() if pair[1] >= self.told["least_visits"]}

    def best(
        self, state: str, rule: int, before: int | None = None, allowed: Container[int] | None = None
    ) -> int | None:
        """The action of most value among those ``allowed`` that were tried often enough to depart from the ``rule``'s,
        if it is worth more than that by the margin, else the rule's; in the first of the state's ``levels`` where it is
        known what to compare with. None: nothing is known in any."""
        told, visited = self.told, False
        fp64 = told["cost_weight"] + told["iteration_weight"]  # what a solve in fp64 takes off rewards
        for key in levels(state):
            known = self.known(key, before)
            visited |= bool(known)
            if rule in known:
                worth = {i: q - fp64 * told["doubt"] / math.sqrt(n) for i, (q, n) in known.items()}
                worth[rule] += fp64 * told["margin"]
                open_to = [i for i in known if known[i][1] >= told["departs"] and (allowed is None or i in allowed)]
                return max({rule, *open_to}, key=lambda i: (worth[i], i))
        return rule if visited else None

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
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise HalfulpError(f"{path} is a damaged agent: {str(error).rstrip('.')}.") from None

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Agent:
        given = content["assumptions"]
        kinds = {
            name: type(usual) if isinstance(usual, (dict, list)) else (int, float)
            for name, usual in ASSUMPTIONS.items()
        }
        if wrong := [name for name, kind in kinds.items() if not isinstance(given.get(name), kind)]:
            raise ValueError(f"its assumptions say nothing that can be understood of {wrong[0]!r}")
        agent = cls(content["actions"], given)
        _check_rule(agent.told)
        for state, (values, visits) in content["table"].items():
            row = Row([float(q) for q in values], [int(n) for n in visits])
            if not len(row.values) == len(row.visits) == len(agent.actions):
                raise ValueError(f"state {state!r} has not one value and one count for each action")
            if not all(map(math.isfinite, row.values)) or min(row.visits) < 0:
                raise ValueError(f"state {state!r} has a value that is no number, or a count below 0")
            agent.table[state] = row
        agent.trained = dict(content["trained"])
        _check_lessons(agent.trained.get("lessons"))
        return agent


def _check_rule(told: dict[str, Any]) -> None:
    """That the rule can be asked: as it is in the second iteration of a solve that makes no progress."""
    seen = View(2, 1000, 5000, 1e-8, [1.0, 1.0], 1e4, 0.0, {}, -1, 1.0, 0.5)
    step = max(by_rule(seen, told) - falls(seen, told), 0)
    first, again = told["rise_share"]
    if not (len(told["rule"]["bits"][step]) == 2 and 0.0 <= again <= first):
        raise ValueError("its rule's bits are not two for a step, or its shares of n do not fall")


def _check_lessons(lessons: Any) -> None:
    """Of an agent that was trained, what solves ask of them."""
    kinds = {"tol": float, "scaled": bool, "lossless": bool, "preconditioner": str, "seed": int, "problems": list}
    wrong = [name for name, kind in kinds.items() if lessons is not None and not isinstance(lessons.get(name), kind)]
    if wrong:
        raise ValueError(f"its lessons say nothing that can be understood of {wrong[0]!r}")


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
        self._step = 0  #: the last of the rule's steps that it has asked for in this solve, but for its first decision
        self._asked = 0  #: the action that it asked for at the last decision
        self._rose = self._fell = False  #: whether precision has, in this solve
        self._far = ""  #: how far the residual had fallen at the last decision

    @classmethod
    def read(cls, path: str | Path) -> QPolicy:
        """Of a file, as :meth:`Agent.read` reads it."""
        return cls(Agent.read(path), str(path))

    def at(self, view: View) -> CGPrecision:
        told, k = self.agent.told, view.iteration
        follows = k == self._last + 1
        if k <= self._last:  # another solve
            self._standing, self._step, self._rose, self._fell = None, 0, False, False
        self._last, last = k, self._standing
        if last is None or not (follows and self._holds(last, view)):
            fp64 = len(self.agent.actions) - 1
            # after iterations that the safeguard did directions are fp64's
            before = None if last is None else last.action if follows else fp64
            most = fp64 if before is None or (k <= self._rise_by(view) and not self._fell) else before
            allowed = range(most + 1)
            rule = min(self._rule(view, before if follows else None), allowed[-1])
            decision = self._decide(k, state_of(view, rule, told), before, allowed, rule)
            rises = self.agent.rises(before, decision.action)
            self._standing = last = decision._replace(allowed=allowed, rises=rises)
            self._rose |= rises
            self._fell |= before is not None and decision.action < before
            self._far = fallen(view, told)
            self.decisions.append(last)
        self.asked[last.fell_back] += 1
        return self.agent.precisions[last.action]

    def _rule(self, view: View, before: int | None) -> int:
        """The action that the rule takes: the first that is as precise as the last step it has asked for so far, or as
        one less by what has fallen; that ``before`` where it asks for nothing new, and no more where it asks for less.
        """
        told, rule = self.agent.told, self.agent.told["rule"]
        step = max(self._step, by_rule(view, told))
        self._step = step if view.iteration > 1 else 0
        taken = max(step - falls(view, told), 0) if step < len(rule["bits"]) - 1 else step
        vectors, matrix = (2.0**-bits for bits in rule["bits"][taken])
        last, precisions = self._asked, self.agent.precisions
        enough = (i for i, p in enumerate(precisions) if p.roundoff <= vectors and p.matrix_roundoff <= matrix)
        self._asked = next(enough, len(precisions) - 1)
        if before is None or self._asked > last:
            return self._asked
        return before if self._asked == last else min(before, self._asked)

    def _rise_by(self, view: View) -> float:
        """The last iteration before which precision may rise."""
        told = self.agent.told
        return min(told["rise_by"], told["rise_share"][self._rose] * view.n)

    def _holds(self, last: Decision, view: View) -> bool:
        """Whether a decision does; none does after iterations that the safeguard did."""
        told, begins_safe = self.agent.told, last.iteration == 1 and last.action == len(self.agent.actions) - 1
        stands = told["hold_fp64" if begins_safe else "hold"]
        looks = last.iteration + stands <= view.iteration <= self._rise_by(view)
        return not looks and fallen(view, told) == self._far

    def _decide(self, iteration: int, state: str, before: int | None, allowed: range, rule: int) -> Decision:
        """After the action ``before``; one of those allowed, as the ``rule``'s is."""
        best = self.agent.best(state, rule, before, allowed)
        return Decision(iteration, state, allowed[-1] if best is None else best, best is None)

    @property
    def coverage(self) -> float:
        """The share of decisions that the agent knew; the others were made in unvisited states."""
        return 1.0 - sum(d.fell_back for d in self.decisions) / max(len(self.decisions), 1)

    def describe(self) -> dict[str, Any]:
        agent = self.agent
        known = {"actions": list(agent.actions), "assumptions": agent.told, "states": len(agent.table)}
        told = {name: x for name, x in agent.trained.items() if name not in ("fp64", "tried", "rule")}
        seen = {"decisions": len(self.decisions), "coverage": self.coverage}
        return {"policy": "agent", "file": self.name, "trained": told, "sources": SOURCES} | known | seen
