"""What an agent makes of what a policy sees: bins, and the step of a rule made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .assumptions import ASSUMPTIONS
from .precision import View


def state_of(view: View, rule: int, told: dict[str, Any] = ASSUMPTIONS) -> str:
    """The bin of what a policy sees: ``rule residual | room pace diagonal safeguard``, as in
    ``2 <0.01 | 15+ 0.9+ even calm``. Without an estimate of the condition number room is n, as in ``n 200+``.

    rule is the action that the rule takes, ``first`` before it in the first iteration; room is n / sqrt(condition
    number); pace is that of ``View``, ``new`` before there is one; ``raised`` says that the safeguard has stepped in.
    """
    room = f"n {_least(view.n, told['unknowns'])}" if math.isnan(view.condition) else _least(_room(view), told["room"])
    pace = "new" if math.isnan(view.pace) else _least(view.pace, told["pace"])
    first, kind = "first " * (view.iteration == 1), "even" if view.scale < told["spread"] else "uneven"
    calm = "calm" if view.rejected < 0 else "raised"
    return f"{first}{rule} {fallen(view, told)} | {room} {pace} {kind} {calm}"


def fallen(view: View, told: dict[str, Any]) -> str:
    """How far the residual has."""
    return next((f"<{bound:g}" for bound in reversed(told["residuals"]) if view.least < bound), "rests")


def _room(view: View) -> float:
    return math.inf if math.isnan(view.condition) else view.n / math.sqrt(max(view.condition, 1.0))


def _least(x: float, bounds: Sequence[float]) -> str:
    return next((f"{bound:g}+" for bound in reversed(bounds) if x >= bound), f"{bounds[0]:g}-")


def levels(state: str) -> tuple[str, ...]:
    """A state, then without what stands behind the bar, for where it is unvisited."""
    return tuple(dict.fromkeys((state, state.partition(" | ")[0])))


def rising(state: str) -> str:
    """Where it is kept what actions of more precision than before are worth, for which directions start anew."""
    return f"{state} ^"


# ---- the rule -------------------------------------------------------------------------------------------------------


def by_rule(view: View, told: dict[str, Any] = ASSUMPTIONS) -> int:
    """The step that a rule made by hand takes, if the residual has not fallen: see ``ASSUMPTIONS``. Where nothing is
    known of the condition number there is room without bound, and an uneven diagonal is no reason to begin in the last.
    """
    rule, last = told["rule"], len(told["rule"]["bits"]) - 1
    room, uneven = _room(view), _is_uneven(view, rule)
    if view.n < rule["few"] or (view.iteration == 1 and (room < rule["first"] or (uneven and room < math.inf))):
        return last
    rests, (grown, times) = view.least >= rule["rests"], rule["grows"]
    if rests and max(view.residuals) >= max(grown, room / times):
        return last
    step = max([rule["least"], *(step for bound, step in rule["room"] if room < bound)])
    slow, least = rule["slow"]
    if rests and view.pace < slow:
        step = max(step + 1, least)
    return min(last, max(step, rule["spread"][1]) if uneven else step)


def falls(view: View, told: dict[str, Any] = ASSUMPTIONS) -> int:
    """How many steps the rule takes back, as the residual has fallen."""
    rule = told["rule"]
    below = sum(view.least < bound for bound in rule["falls"])
    return max(below - (_is_uneven(view, rule) and _room(view) < rule["first"]), 0)


def _is_uneven(view: View, rule: dict[str, Any]) -> bool:
    """Whether the rule calls the diagonal so: states do far sooner."""
    return bool(view.scale >= rule["spread"][0])
