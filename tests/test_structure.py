"""The house: imports only go down, there are no circles, and every public name is used by a test."""

from __future__ import annotations

import ast
from pathlib import Path

import halfulp
import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "emulator": set(),
    "kernels": {"emulator"},
    "models": {"emulator", "kernels"},
    "solvers": {"emulator", "kernels"},
    "reports": {"emulator", "kernels", "models", "solvers"},
}
MODULES = [path for folder in FLOORS for path in sorted((ROOT / folder).glob("*.py"))]


def imported_modules(path: Path) -> set[str]:
    """Modules of ours that a file imports, as 'folder/module' ('folder/' for the package itself)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] in ("halfulp", *FLOORS) for alias in node.names), (
                f"{path}: absolute import of our own"
            )
        if isinstance(node, ast.ImportFrom):
            if node.level == 0:
                assert (node.module or "").split(".")[0] not in ("halfulp", *FLOORS), (
                    f"{path}: absolute import of our own"
                )
                continue
            base = [path.parent.name][: 2 - node.level] + (node.module or "").split(".")
            base = [part for part in base if part]
            names = [base + [alias.name] if len(base) == 1 else base for alias in node.names]
            found |= {"/".join(name[:2]) for name in names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_imports_only_go_down(path: Path) -> None:
    for module in imported_modules(path):
        floor = module.split("/")[0]
        assert floor == path.parent.name or floor in FLOORS[path.parent.name], (
            f"{path.parent.name}/{path.name} imports {module}"
        )


def test_there_are_no_import_circles() -> None:
    graph = {f"{p.parent.name}/{p.stem}": set(imported_modules(p)) for p in MODULES if p.stem != "__init__"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in graph and module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_every_public_name_is_used_by_a_test() -> None:
    text = "".join(
        p.read_text(encoding="utf-8") for p in (ROOT / "tests").glob("test_*.py") if p.name != Path(__file__).name
    )
    text += (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        name
        for name in halfulp.__all__
        if f"hu.{name}" not in text and f"halfulp.{name}" not in text and f" {name}" not in text
    ]
    assert not missing


def test_the_top_level_is_as_designed() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders == set(FLOORS)
    assert (ROOT / "setup.cfg").exists() and (ROOT / "README.md").exists()
