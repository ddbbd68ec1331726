"""Describe a shared policy in a model card: task, data, results, and how to run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from difftori_pl.checkpoints.migrations import KEY
from difftori_pl.evaluation.checkpoint_rollouts import Rollouts
from difftori_pl.version import __version__


def model_card(content: Mapping[str, Any], rollouts: Sequence[Rollouts], foreign: Sequence[str], name: str) -> str:
    """Write the model card of a policy in Markdown, with the front matter that the Hugging Face Hub reads.

    Args:
        content: the checkpoint as `read_checkpoint` returns it.
        rollouts: results of the policy and of its base policies; empty if there are none.
        foreign: import paths of classes outside this package, which a reader must allow.
        name: where others load it from: a name on the hub, or the name of the folder.
    """
    known = content[KEY]
    task = known.get("task") or "a task without a name"
    lines = ["---", "library_name: difftori-pl", "pipeline_tag: robotics", "tags: [robotics, difftori]", "---", ""]
    lines += [f"# {known.get('module', 'Policy')} on {task}", ""]
    lines += [
        "A policy of DiffTORI-PL, which implements [DiffTORI](https://arxiv.org/abs/2402.05421). `config.json` "
        "describes the model, `model.safetensors` holds its weights.",
        "",
        "## Results",
        "",
        *_results(rollouts),
        "",
        "## Data",
        "",
        _data(known.get("data")),
        "",
        "## Running it",
        "",
        *_usage(content, foreign, name),
        "",
        "## Origin",
        "",
        *_origin(content),
        "",
    ]
    return "\n".join(lines)


def _results(rollouts: Sequence[Rollouts]) -> Iterator[str]:
    if not rollouts:
        yield "Not evaluated in a simulator: no rollouts of this checkpoint were found in the folder of its run."
        return
    yield "| policy | success (Wilson 95 %) | rollouts | initial states |"
    yield "|---|---|---|---|"
    for part in rollouts:
        name = f"{part.method}{'' if part.policy == 'policy' else f' ({part.policy})'}{' †' if part.is_biased else ''}"
        states = f"seeds {part.seeds[0]} to {part.seeds[1]}, {'test' if part.stage == 'test' else 'during training'}"
        yield f"| {name} | {part.success} | {part.success.n_trials} | {states} |"
    if any(part.is_biased for part in rollouts):
        yield ""
        yield "† The checkpoint was selected on initial states of this evaluation: the figure is too high."


def _data(data: Mapping[str, Any] | None) -> str:
    if not data:
        return "The training data are not recorded: the policy learned online, or its data have no file."
    return f"`{data['file']}`, {data['bytes']:,} bytes, sha256 `{data['sha256']}`"


def _usage(content: Mapping[str, Any], foreign: Sequence[str], name: str) -> Iterator[str]:
    specs, interface = content[KEY].get("observations", {}), content.get("interface") or {}
    yield "```bash"
    yield f"pip install 'difftori-pl[hub]=={__version__}'"
    yield "```"
    yield ""
    yield "```python"
    yield "import numpy as np"
    yield "from difftori_pl import load_policy"
    yield ""
    allow = f", allow={list(foreign)}" if foreign else ""
    yield f'policy = load_policy("{name}"{allow})'
    yield "policy.reset()  # at the start of an episode"
    yield "observation = {"
    for key, spec in specs.items():
        if key == "task" and interface.get("tasks"):
            yield f'    "task": {interface["tasks"][0]!r},  # one of {interface["tasks"]}'
        else:
            yield f'    "{interface.get(f"obs/{key}", key)}": np.zeros({tuple(spec["shape"])}, np.{spec["dtype"]}),'
    yield "}"
    units = "in the units of the training data" if interface.get("action_scaling") else "from -1 to 1"
    yield f"action = policy.act(observation)  # ({content[KEY].get('action_dim', '?')},), {units}"
    yield "```"
    if foreign:
        yield ""
        yield f"The policy uses classes of another package, which must be installed: {', '.join(foreign)}."


def _origin(content: Mapping[str, Any]) -> Iterator[str]:
    known = content[KEY]
    commit = f" at {known['git_commit']}" if known.get("git_commit") else ""
    yield f"- trained with difftori-pl {known.get('package', 'before 0.1.0')}{commit}"
    yield f"- {content.get('global_step')} updates"
    if versions := known.get("versions"):
        yield f"- versions: {', '.join(f'{name} {value}' for name, value in versions.items())}"
    facts = {name: value for name, value in (content.get("interface") or {}).items() if name != "action_scaling"}
    if facts:
        yield f"- observations and actions: {', '.join(f'{name} {value}' for name, value in facts.items())}"
