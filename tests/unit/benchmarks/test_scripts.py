"""Benchmarks import only names that their neighbours define; no other test runs all of them."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def definitions(path: Path) -> set[str]:
    """Return the names that a module defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_names_from_other_benchmarks_exist(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = FOLDER / f"{node.module.removeprefix('benchmarks.')}.py"
            if module in SCRIPTS:
                assert {alias.name for alias in node.names} <= definitions(module)
