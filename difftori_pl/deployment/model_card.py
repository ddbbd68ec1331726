"""Describe a shared policy in a model card: task, data, results, and how to run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from difftori_pl.checkpoints.migrations import KEY
from difftori_pl.evaluation.action_errors import ActionErrors, mean_error
from difftori_pl.evaluation.checkpoint_rollouts import Rollouts
from difftori_pl.version import __version__


def model_card(
    content: Mapping[str, Any],
    rollouts: Sequence[Rollouts],
    errors: ActionErrors | None,
    foreign: Sequence[str],
    name: str,
) -> str:
    """Write the model card of a policy in Markdown, with the front matter that the Hugging Face Hub reads.

    Args:
        content: the checkpoint as `read_checkpoint` returns it.
        rollouts: results of the policy and of its base policies; empty if there are none.
        errors: errors on held-out episodes; None if there are none.
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
        "\n\n".join(_results(content, rollouts, errors)),
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


def _results(content: Mapping[str, Any], rollouts: Sequence[Rollouts], errors: ActionErrors | None) -> Iterator[str]:
    """Yield paragraphs."""
    if rollouts:
        yield "\n".join(_rollouts(rollouts))
        if any(part.is_biased for part in rollouts):
            yield "† The checkpoint was selected on initial states of this evaluation: the figure is too high."
    if errors:
        yield "\n".join(_errors(errors))
        yield (
            f"The errors are in the units of the data, on recorded observations of {_episodes(errors)}. A small error "
            "does not imply success: on a robot, errors change the next observations."
        )
    if validation := content[KEY].get("validation"):
        yield _validation(validation, content.get("interface") or {})
    if not rollouts:
        reason = "" if errors else ": no rollouts of this checkpoint were found in the folder of its run"
        yield f"Not evaluated in a simulator{reason}."


def _rollouts(rollouts: Sequence[Rollouts]) -> Iterator[str]:
    yield "| policy | success (Wilson 95 %) | rollouts | initial states |"
    yield "|---|---|---|---|"
    for part in rollouts:
        name = f"{_label(part.method, part.policy)}{' †' if part.is_biased else ''}"
        states = f"seeds {part.seeds[0]} to {part.seeds[1]}, {'test' if part.stage == 'test' else 'during training'}"
        yield f"| {name} | {part.success} | {part.success.n_trials} | {states} |"


def _errors(errors: ActionErrors) -> Iterator[str]:
    yield "| policy | root mean square error of the actions (95 %) | episodes |"
    yield "|---|---|---|"
    for name, method in errors.methods.items():
        rows = {_label(method, name): mean_error(errors.errors[name])}
        if name != "policy":
            rows[f"difference to the {name}"] = errors.difference(name)
        for label, mean in rows.items():
            yield f"| {label} | {mean} | {len(errors.errors[name])} |"


def _episodes(errors: ActionErrors) -> str:
    return "held-out episodes" if errors.held_out else "the training episodes, because none were held out"


def _label(method: str, policy: str) -> str:
    return method if policy == "policy" else f"{method} ({policy})"


def _validation(validation: Mapping[str, float], interface: Mapping[str, Any]) -> str:
    units = "in the scaled units of training" if interface.get("action_scaling") else "actions from -1 to 1"
    names = {"action_error": "policy", "base_action_error": "base policy"}
    found = ", ".join(f"{word} {validation[name]:.4g}" for name, word in names.items() if name in validation)
    return (
        f"Validation after {validation['step']} updates: squared error of an action, summed over its components and "
        f"averaged over held-out steps ({units}): {found}."
    )


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
