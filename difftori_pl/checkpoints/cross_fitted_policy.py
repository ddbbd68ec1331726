"""Load a cross-fitted base policy from checkpoints of this package."""

from collections.abc import Sequence
from typing import Any

from difftori_pl.checkpoints.pretrained_policy import policy_and_content
from difftori_pl.checkpoints.reading import KEY
from difftori_pl.errors import CheckpointError
from difftori_pl.models.base_policies.cross_fitted import CrossFitted


def cross_fitted(checkpoint: str, checkpoints: Sequence[str]) -> CrossFitted:
    """Load a policy, and the policies of the folds, that `BehaviorCloning` trained; see `CrossFitted`.

    As with `from_checkpoint`, a checkpoint of a module that uses the result needs no other file.

    Args:
        checkpoint: the run on all training demonstrations: a `.ckpt` file, or the folder of the run.
        checkpoints: for each fold, the run with the same configuration and its `data.fold`.

    Raises:
        CheckpointError: a file does not exist, holds no base policy, or was trained on other demonstrations or with
            another interface; or the checkpoints do not cover all folds.
    """
    policy, content = policy_and_content(checkpoint)
    if fold := content[KEY].get("left_out"):
        raise CheckpointError(
            f"expected a policy trained on all training demonstrations in {checkpoint}, got one without fold "
            f"{fold['fold']} of {fold['n_folds']}: name the run without data.fold"
        )
    loaded = [policy_and_content(path) for path in checkpoints]
    folds = [_fold(path, part[1]) for path, part in zip(checkpoints, loaded, strict=True)]
    given = [(fold["fold"], fold["n_folds"]) for fold in folds]
    if not given or sorted(given) != [(number, len(given)) for number in range(len(given))]:
        listed = ", ".join(f"{number} of {n_folds}" for number, n_folds in given) or "none"
        raise CheckpointError(
            f"expected one checkpoint for each fold, from 0 to n_folds - 1, got the folds {listed}: train and name a "
            "run for each data.fold"
        )
    for path, (_, other) in zip(checkpoints, loaded, strict=True):
        _compare(checkpoint, _identity(content), path, _identity(other))
    order = sorted(range(len(folds)), key=lambda i: folds[i]["fold"])
    policies, demos = [loaded[i][0] for i in order], [folds[i]["demos"] for i in order]
    sha256 = _identity(content)["data"]
    result = CrossFitted(policy, policies, demos, sha256)
    result.config = {
        "class_path": "difftori_pl.CrossFitted",
        "init_args": {
            "policy": policy.config,
            "fold_policies": [part.config for part in policies],
            "fold_demos": demos,
            "sha256": sha256,
        },
    }
    for part in (policy, *policies):
        part.config = None  # the configuration of the result describes them
    return result


def _fold(path: str, content: dict[str, Any]) -> dict[str, Any]:
    fold: dict[str, Any] | None = content[KEY].get("left_out")
    if fold is None:
        raise CheckpointError(
            f"expected a policy trained without a fold in {path}, got one trained on all training demonstrations: "
            "train it with --data.fold and --data.n_folds"
        )
    return fold


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    known = content[KEY]
    return {
        "data": (known.get("data") or {}).get("sha256"),
        "interface": content.get("interface"),
        "observations": known.get("observations"),
        "action_dim": known.get("action_dim"),
    }


def _compare(ours: str, wanted: dict[str, Any], theirs: str, got: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if got[name] != value:
            raise CheckpointError(
                f"expected the policies in {ours} and {theirs} to be trained with the same {name}, got {value} and "
                f"{got[name]}: train both with the same configuration and data"
            )
