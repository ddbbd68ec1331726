"""Show the effect of one NaN in an observation, reward, action, demonstration or gradient.

    python benchmarks/non_finite.py

Each row replaces one number by NaN and runs the command line or a deployed policy on generated data and a small
environment without a simulator. It prints the message that a user sees and whether the saved weights are finite.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import torch

from datamodules import ReplayDataModule
from datamodules.errors import DataError
from datamodules.windowing.window_dataset import WindowDataset
from difftori_pl import DiffTORIRL, load_policy
from difftori_pl.cli import run
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.errors import DiffTORIError
from tests.conftest import SQUARE_OBS
from tests.data import write_robomimic
from tests.envs import PointEnv
from tests.rl_runs import CONFIG, REPLAYED

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
Outcome = tuple[str, str]


class Messages(logging.Handler):
    """Collects the warnings of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def outcome(action: Callable[[], Any], saved: Path | None) -> Outcome:
    """Run `action`; return its first warning or its error, and whether all saved weights are finite."""
    messages = Messages()
    logger = logging.getLogger("difftori_pl")
    logger.addHandler(messages)
    try:
        result = action()
    except (DiffTORIError, DataError) as error:
        result = f"error: {error}"
    finally:
        logger.removeHandler(messages)
    files = sorted(saved.rglob("last.ckpt")) if saved else []
    weights = [v for file in files for v in torch.load(file, weights_only=True)["state_dict"].values()]
    finite = "none saved" if not weights else str(all(bool(torch.isfinite(value).all()) for value in weights))
    lines = [*messages.lines[:1], *([str(result)] if not messages.lines or str(result).startswith("error") else [])]
    return "; ".join(lines), finite


@contextmanager
def corrupted_environment(key: str) -> Iterator[None]:
    """Replace the observation or reward of step 7 in the second episode by NaN."""
    reset, step, episodes = PointEnv.reset, PointEnv.step, itertools.count()

    def counted(self: PointEnv, **options: Any) -> Any:
        self.number = next(episodes)  # type: ignore[attr-defined]
        return reset(self, **options)

    def corrupted(self: PointEnv, action: Any) -> Any:
        obs, reward, *rest = step(self, action)
        if (self.number, self.n_steps) == (1, 7):  # type: ignore[attr-defined]
            if key == "reward":
                reward = float("nan")
            else:
                obs = {"state": obs["state"] * np.nan}
        return obs, reward, *rest

    with patch.object(PointEnv, "reset", counted), patch.object(PointEnv, "step", corrupted):
        yield


@contextmanager
def corrupted_batch(owner: type, method: str, corrupt: Callable[[Any], None]) -> Iterator[None]:
    """Corrupt the fourth batch in memory, after all checks of the files."""
    fetch, count = getattr(owner, method), itertools.count()

    def fetched(*arguments: Any) -> Any:
        batch = fetch(*arguments)
        if next(count) == 3:
            corrupt(batch)
        return batch

    with patch.object(owner, method, fetched):
        yield


def imitation(folder: Path, path: Path) -> Callable[[], Any]:
    keys = f"[{', '.join(SQUARE_OBS)}]"
    options = [
        "--config=bc_rnn_square_low_dim.yaml", "--model.policy.hidden_dim=8", f"--data.path={path}",
        f"--data.obs_keys={keys}", "--data.batch_size=4", "--data.validation_fraction=0.34", "--rollout.env=null",
        "--trainer.max_steps=6", "--trainer.limit_val_batches=0", f"--trainer.logger.save_dir={folder}", *QUIET,
    ]  # fmt: skip
    return lambda: skipped_updates(run(["fit", *options]))


def reinforcement(folder: Path, *more: str) -> Callable[[], Any]:
    options = [f"--config={CONFIG}", *REPLAYED, f"--trainer.logger.save_dir={folder}", *QUIET, *more]
    return lambda: skipped_updates(run(["fit", *options]))


def skipped_updates(cli: Any) -> str:
    metrics: Mapping[str, Any] = cli.trainer.callback_metrics
    return f"train/skipped_updates = {int(metrics.get('train/skipped_updates', 0))}"


def corrupt_file(path: Path, key: str) -> Path:
    with h5py.File(path, "r+") as file:
        values = file[f"data/demo_1/{key}"]
        values[(3,) + (0,) * (values.ndim - 1)] = np.nan
    return path


def deployed(folder: Path, demos: Path, break_weights: bool) -> str:
    imitation(folder, demos)()
    policy = load_policy(next(folder.rglob("last.ckpt")))
    observation = {key: np.zeros(shape) for key, shape in SQUARE_OBS.items()}
    policy.act(observation)
    memory = {key: value.clone() for key, value in policy._state.items()}
    if break_weights:
        next(policy.policy.parameters()).data.fill_(torch.nan)  # type: ignore[attr-defined]
    else:
        observation["object"][2] = np.nan
    try:
        policy.act(observation)
    except DiffTORIError as error:
        kept = all(torch.equal(policy._state[key], value) for key, value in memory.items())
        return f"error: {error} (memory unchanged: {kept})"
    return "acted"


def rows(root: Path) -> Iterator[tuple[str, str, Outcome]]:
    def folder(name: str) -> Path:
        path = root / name
        path.mkdir()
        return path

    def demos(name: str) -> Path:
        return write_robomimic(root / f"{name}.hdf5", [18, 20, 19], SQUARE_OBS)

    for kind, key in (("observation", "obs/object"), ("action", "actions")):
        place = folder(f"demo_{kind}")
        yield f"demonstration ({kind})", "imitation", outcome(imitation(place, corrupt_file(demos(kind), key)), place)
    place = folder("gradient_il")
    with corrupted_batch(WindowDataset, "__getitems__", lambda batch: batch["actions"].fill_(torch.nan)):
        yield "gradient", "imitation", outcome(imitation(place, demos("intact")), place)
    for key in ("observation", "reward"):
        place = folder(f"rl_{key}")
        with corrupted_environment(key):
            yield key, "RL, collection", outcome(reinforcement(place), place)
    place = folder("rl_action")
    nan = lambda self, obs, state: (torch.full((len(obs["state"]), 1), torch.nan), state)  # noqa: E731
    with patch("difftori_pl.callbacks.collect._Explorer.act", nan), patch("difftori_pl.callbacks.collect.MAX_LOST", 3):
        yield "action (always)", "RL, collection", outcome(reinforcement(place), place)
    place = folder("rl_gradient")
    with corrupted_batch(ReplayDataModule, "sample", lambda batch: batch["rewards"].fill_(torch.nan)):
        yield "gradient", "RL, update", outcome(reinforcement(place), place)
    rollouts = [
        "--rollout.env=tests.envs.Point",
        "--rollout.n_episodes=3",
        "--rollout.n_envs=3",
        "--rollout.n_videos=0",
    ]
    trained = folder("trained")
    reinforcement(trained)()
    test = [f"--config={CONFIG}", *REPLAYED, *rollouts, *QUIET, f"--ckpt_path={next(trained.rglob('last.ckpt'))}"]
    for key in ("observation", "reward"):
        place = folder(f"test_{key}")

        def evaluate(place: Path = place) -> str:
            metrics = run(["test", *test, f"--trainer.logger.save_dir={place}"]).trainer.callback_metrics
            return str({name: float(value) for name, value in metrics.items() if "crashed" in name})

        with corrupted_environment(key):
            yield key, "evaluation", outcome(evaluate, None)
    place = folder("test_action")
    with patch.object(DiffTORIRL, "act", nan):
        yield "action (always)", "evaluation", outcome(lambda: evaluate(place), None)
    for source, broken in (("observation", False), ("weights", True)):
        place, data = folder(f"deploy_{source}"), demos(f"deploy_{source}")
        yield source, "deployment", outcome(lambda p=place, d=data, b=broken: deployed(p, d, b), None)  # type: ignore[misc]


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    print("| NaN in | where | what happens | saved weights finite |\n|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as root,
        patch("difftori_pl.callbacks.collect.EnvPool", LocalPool),
        patch("difftori_pl.callbacks.rollout.EnvPool", LocalPool),
    ):
        for source, where, (message, finite) in rows(Path(root)):
            print(f"| {source} | {where} | {message.replace(root, '…')} | {finite} |", flush=True)


if __name__ == "__main__":
    main()
