"""The data side stands alone: it knows no models, and h5py is imported only where a file is read."""

import ast
import subprocess
import sys
from pathlib import Path

import datamodules


def test_no_model_is_imported() -> None:
    for path in Path(datamodules.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "difftori_pl"], path


def test_h5py_is_not_needed_to_import() -> None:
    code = "import sys, datamodules; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
