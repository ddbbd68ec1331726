"""`datamodules` does not import models, and imports h5py only to read a file."""

import ast
import subprocess
import sys
from pathlib import Path

import datamodules


def test_datamodules_do_not_import_difftori_pl() -> None:
    for path in Path(datamodules.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "difftori_pl"], path


def test_importing_datamodules_does_not_import_h5py() -> None:
    code = "import sys, datamodules; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
