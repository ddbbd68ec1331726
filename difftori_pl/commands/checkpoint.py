"""`difftori checkpoint`: show the content of a checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from difftori_pl.commands.output import say


def show_checkpoint(file: Path) -> None:
    """Print the content and origin of a checkpoint and the classes that it names, without building any of them.

    Args:
        file: a `.ckpt` file, the folder of a run, or the folder of a shared policy.
    """
    from difftori_pl.checkpoints.folders import resolve
    from difftori_pl.checkpoints.reading import read_checkpoint

    content = read_checkpoint(resolve(str(file)), "training writes them to <log folder>/checkpoints/", allow=None)
    for line in _describe(str(file), content):
        say(line)


def _describe(file: str, content: dict[str, Any]) -> Iterator[str]:
    import torch

    from datamodules.observation_spec import ObservationSpec
    from difftori_pl.checkpoints.reading import KEY

    known = content[KEY]
    commit = f" at {known['git_commit']}" if known.get("git_commit") else ""
    yield f"{file}: {known.get('module', 'unknown module')}, epoch {content.get('epoch')}, " + (
        f"update {content.get('global_step')}"
    )
    yield f"  written by difftori-pl {known.get('package', 'before 0.1.0')}{commit}, schema {known['schema']}"
    yield f"  task {known.get('task') or 'unknown'}, {known.get('action_dim', '?')} numbers per action"
    yield from (f"  reads {key} {ObservationSpec(**spec)}" for key, spec in known.get("observations", {}).items())
    yield from (f"  normalises {', '.join(keys)} ({name})" for name, keys in known.get("normalizers", {}).items())
    yield from (f"  {name} {value}" for name, value in content.get("interface", {}).items())
    if known.get("data"):
        yield "  data {file}, {bytes} bytes, sha256 {sha256}".format(**known["data"])
    if validation := known.get("validation"):
        yield "  validated after {step} updates: {errors}".format(
            step=validation["step"],
            errors=", ".join(f"{name} {value:.4g}" for name, value in validation.items() if name != "step"),
        )
    if known.get("left_out"):
        yield "  trained without fold {fold} of {n_folds}".format(**known["left_out"])
    yield f"  {', '.join(f'{name} {value}' for name, value in known.get('versions', {}).items()) or 'no versions'}"
    weights = [value for value in content.get("state_dict", {}).values() if isinstance(value, torch.Tensor)]
    n_bad = sum(int((~torch.isfinite(value)).sum()) for value in weights if value.is_floating_point())
    averaged = ", moving average" if "current_model_state" in content else ""
    yield f"  {sum(value.numel() for value in weights)} weights in {len(weights)} tensors, {n_bad} not finite{averaged}"
    classes = sorted(set(_classes(content.get("hyper_parameters", {}))))
    yield f"  builds {', '.join(classes) or 'nothing: no description'}"


def _classes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (str(path) for key, path in value.items() if key in ("class_path", "_class_path"))
        for part in value.values():
            yield from _classes(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _classes(part)
    elif isinstance(value, str) and "." in value and all(word.isidentifier() for word in value.split(".")):
        yield value  # a class may be given as an import path only
