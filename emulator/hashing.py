"""Hashes of nested descriptions, which are looked up thousands of times a second."""

from __future__ import annotations

from typing import Any, TypeVar

Described = TypeVar("Described", bound=type)


def hashed_once(described: Described) -> Described:
    """A frozen dataclass whose objects compute their hash once. It is no part of what is pickled: hashes of strings
    differ from process to process."""
    compute: Any = described.__hash__

    def __hash__(self: Any) -> int:
        found = self.__dict__.get("_hash")
        if found is None:
            found = compute(self)
            object.__setattr__(self, "_hash", found)
        return found

    def __getstate__(self: Any) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    described.__hash__, described.__getstate__ = __hash__, __getstate__  # type: ignore[attr-defined,method-assign,assignment]
    return described
