"""Somebody's results against the definition's: counted, and the first mismatches explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

from .arithmetic import Flags, Result
from .errors import HalfulpError
from .explain import Case, Difference, Explanation
from .functions import Function

_CLASSIFIED = 1000  #: mismatches that are sorted by case; the others are only counted


@dataclass
class Scoreboard:
    """Checks results of a function unit; for test benches, and what ``halfulp verify`` prints.

    >>> scoreboard = Scoreboard(reference("mul", "fp16"))
    >>> scoreboard.check((0x3C00, 0x4000), 0x4000, 0)
    True
    """

    function: Function
    ignore_nan_payload: bool = False  #: any NaN is as good as another
    ignore_flags: bool = False
    ignore_invalid_integers: bool = False  #: conversions to integers that are invalid may give any
    explained: int = 20  #: mismatches kept with their explanation
    checked: int = 0
    mismatches: Counter[Difference] = field(default_factory=Counter)
    cases: Counter[Case] = field(default_factory=Counter)  #: of the first 1000 mismatches
    first: list[tuple[str, Explanation]] = field(default_factory=list)  #: where, and what

    @property
    def failed(self) -> int:
        """The number of mismatches."""
        return self.mismatches.total()

    @property
    def any_integer(self) -> bool:
        """Whether the code of an invalid result does not count."""
        return self.ignore_invalid_integers and self.function.operation == "convert_to_integer"

    @property
    def wanted(self) -> int:
        """How many further mismatches ``note`` has a use for."""
        return max(_CLASSIFIED - self.cases.total(), self.explained - len(self.first))

    def check(
        self, codes: Sequence[int], code: int, flags: int | None = None, random: int | None = None, where: str = ""
    ) -> bool:
        """Whether a result agrees with the definition.

        Parameters
        ----------
        codes : the operands' codes.
        code, flags : the result to be checked; flags None are not compared.
        random : the random bits of stochastic rounding.
        where : a time or place to be shown with a mismatch.
        """
        try:
            code, flags = index(code), None if flags is None else index(flags)
        except TypeError:
            raise HalfulpError(f"code and flags of a result are integers, not {code!r} and {flags!r}.") from None
        bits = self.function.result.bits
        if not 0 <= code < 1 << bits or not 0 <= (flags or 0) < 32:
            raise HalfulpError(f"a result of {bits} bits and 5 flags is no {code:#x} with flags {flags or 0:#x}.")
        ours = self.function(*codes, random=random)
        self.checked += 1
        theirs = Result(code, ours.flags if flags is None or self.ignore_flags else Flags(flags))
        if theirs == ours:
            return True
        if self.any_integer and ours.flags & theirs.flags & Flags.INVALID:
            return True
        found = Explanation(self.function, tuple(codes), random or 0, theirs, ours)
        if self.ignore_nan_payload and found.difference is Difference.NAN_PAYLOAD:
            return True
        self.mismatches[found.difference] += 1
        self.note(where or f"check {self.checked}", found)
        return False

    def note(self, where: str, found: Explanation) -> None:
        """Sort a mismatch by its case, and keep it if it is one of the first."""
        if self.cases.total() < _CLASSIFIED:
            self.cases[found.case] += 1
        if len(self.first) < self.explained:
            self.first.append((where, found))

    def finish(self) -> None:
        """Raise AssertionError with the first mismatches and the summary if there are any, or nothing was checked."""
        if self.failed or not self.checked:
            raise AssertionError(f"{self.details}\n{self.summary}")

    @property
    def title(self) -> str:
        """The function and what it was checked under."""
        return f"{self.function.name} {self.function.described}".rstrip()

    @property
    def details(self) -> str:
        """The first mismatches, explained."""
        return "\n".join(f"{where}: {self.title}\n{found}" for where, found in self.first)

    @property
    def summary(self) -> str:
        """How many mismatches of which sort."""
        failed = f"{self.failed:,}" if self.failed else "no"
        lines = [f"{self.title}: {self.checked:,} checked, {failed} mismatch{'es' if self.failed > 1 else ''}"]
        lines += [f"{count:>14,}  {kind.value}" for kind, count in self.mismatches.most_common() if count]
        if self.failed:
            classified = self.cases.total()
            lines.append(f"  of which{f' the first {classified:,}' if self.failed > classified else ''}:")
        lines += [f"{count:>14,}  {case.value}" for case, count in self.cases.most_common()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything counted and kept, as plain data."""
        return {
            "function": self.function.name,
            "rounding": str(self.function.rounding),
            "checked": self.checked,
            "mismatches": self.failed,
            "differences": {kind.value: count for kind, count in self.mismatches.items()},
            "cases": {case.value: count for case, count in self.cases.items()},
            "first": [{"where": where, **found.to_json()} for where, found in self.first],
        }
