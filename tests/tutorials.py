"""Read the programs of a tutorial in docs/tutorials and run them as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"

_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, the file that it is saved as (or ""), and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    return [Block(*found.groups(default="")) for found in _BLOCK.finditer(page.read_text())]


def run_tutorial(page: Path, folder: Path) -> str:
    """Run all blocks of a tutorial in a folder, as a reader would, and return what they print.

    Titled blocks are saved under their title. The other Python blocks run as one program up to the next shell block,
    shell blocks with `bash -e`. Lines that install packages are left out.
    """
    scripts = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}", "PYTHONWARNINGS": "default"}
    env |= {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "osmesa")}
    printed, program = [], ""

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{page.name}: {command[-1]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        printed.append(done.stdout)

    def run_program() -> None:
        nonlocal program
        if program:
            (folder / "tutorial.py").write_text(program)
            run(sys.executable, "tutorial.py")
        program = ""

    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == "python":
            program += block.text
        elif block.language == "bash":
            run_program()
            lines = "\n".join(line for line in block.text.splitlines() if not line.startswith("pip install"))
            if lines:
                run("bash", "-e", "-c", lines)
    run_program()
    return "".join(printed)
