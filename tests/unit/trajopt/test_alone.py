import ast
from pathlib import Path

import difftori_pl.trajopt
from difftori_pl.trajopt import backward, bounds, solvers


def test_imports_only_torch_and_itself():
    allowed = {"torch", "matplotlib", "difftori_pl.errors", "difftori_pl.trajopt", "__future__"}
    allowed |= {
        "abc",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "importlib",
        "itertools",
        "types",
        "typing",
        "warnings",
    }
    for path in Path(difftori_pl.trajopt.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for name in names:
                assert any(name == each or name.startswith(each + ".") for each in allowed), (
                    f"{path.name} imports {name}"
                )


def test_public_names_exist():
    for package in (difftori_pl.trajopt, backward, bounds, solvers):
        for name in package.__all__:
            assert getattr(package, name).__doc__
