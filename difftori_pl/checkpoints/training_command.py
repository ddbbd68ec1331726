"""Find the shipped configuration whose training writes to a folder."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from difftori_pl.arguments.configurations import SHIPPED_CONFIGS, read_options, with_templates

_REFERENCE = "${data.init_args.task}"


def training_command(path: str) -> str:
    """Return the command that trains the run in a folder `<save_dir>/<name>`, or an empty string if none is known.

    Args:
        path: the folder of a run, such as `runs/bc_rnn_square`, or a file in it. The name may include a task:
            `runs/bc_reach-v3_state` is written by `bc_metaworld_state.yaml` with the task reach-v3.
    """
    found: list[tuple[tuple[bool, float], str]] = []
    for file in sorted(SHIPPED_CONFIGS.glob("*.yaml")):
        if not file.name.startswith(("bc_", "diffusion_", "ibc_")):
            continue
        name, task = _run_of(file)
        for part in Path(path).parts:
            match = re.fullmatch(re.escape(name).replace(re.escape(_REFERENCE), "(.+)"), part)
            if match is None:
                continue
            if not match.groups():
                return f"lightning fit --config {file.name}"
            # The name of a task ends with its version, which differs between simulators: reach-v3, PickCube-v0.
            same_version = match[1].rpartition("-")[2] == task.rpartition("-")[2]
            likeness = SequenceMatcher(None, name.replace(_REFERENCE, task), part).ratio()
            command = f"lightning fit --config {file.name} --data.task {match[1]}"
            found.append(((same_version, likeness), command))
    return max(found)[1] if found else ""


def _run_of(file: Path) -> tuple[str, str]:
    """Return the name of a configuration's run, which may refer to the task, and its task."""
    name, task = "", ""
    for path in with_templates(file):
        content = read_options(path)
        name = _value(content, "trainer", "logger", "init_args", "name") or name
        task = _value(content, "data", "init_args", "task") or task
    return name, task


def _value(content: Any, *path: str) -> Any:
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content
