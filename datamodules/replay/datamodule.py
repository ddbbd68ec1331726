"""The online replay buffer: prioritised sampling of short sequences of experience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from datamodules.distributed import gather
from datamodules.errors import DataError, check_at_least
from datamodules.replay.step_log import Manifest, StepLog, from_fields, to_fields
from datamodules.replay.sum_tree import SumTree

Array: TypeAlias = np.ndarray[Any, Any]

MIN_PRIORITY = 1e-6
"""Added to each priority, so that every sequence can be sampled; TD-MPC's value."""

_OWN = ("action", "reward", "terminated", "episode")
"""The fields of a stored step that are not observations."""


class ReplayDataModule(LightningDataModule):
    """Replay buffer of episodes that samples sequences of `horizon` steps in proportion to their priority.

    Prioritised replay (Schaul et al., arXiv:1511.05952) with TD-MPC's rules: new episodes get the highest current
    priority, and the last `horizon` observations of an episode never start a sequence. The last sequence of an episode
    of T actions starts at step T - H and ends with the final observation.

    Batches hold `obs`: key -> (B, H + 1, ...), `actions` (B, H, A), `rewards` (B, H), `terminated` (B, H) bool,
    `weights` (B,), the importance weights of the loss, and `index` (B,), for `update_priorities`.

    The buffer is part of the checkpoint: its steps are in the folder `replay` next to the checkpoint file. Each process
    has its own buffer, samples its own batches from it, and resumes with it.

    Args:
        horizon: number H of steps in a sequence; at least the longest planning horizon.
        batch_size: number B of sequences in a batch, per process.
        n_steps: number of agent steps to keep, per process.
        n_frames: number of frames that are stacked along the channels; each frame is stored once.
        image_keys: observation keys that hold such stacks; other observations are stored unchanged.
        priority_exponent: α; 0 samples uniformly.
        importance_exponent: β; 1 fully corrects the bias of prioritised sampling, 0 does not correct it.
        memory_limit_gb: memory for the stored steps, in 10^9 bytes; further steps are read from memory-mapped files.

    Raises:
        DataError: a number is out of range.
    """

    def __init__(
        self,
        horizon: int = 5,
        batch_size: int = 512,
        n_steps: int = 1_000_000,
        n_frames: int = 3,
        image_keys: Sequence[str] = ("pixels",),
        priority_exponent: float = 0.6,
        importance_exponent: float = 0.4,
        memory_limit_gb: float = 8.0,
    ) -> None:
        super().__init__()
        check_at_least(1, horizon=horizon, batch_size=batch_size, n_steps=n_steps, n_frames=n_frames)
        check_at_least(0, priority_exponent=priority_exponent, importance_exponent=importance_exponent)
        check_at_least(0, memory_limit_gb=memory_limit_gb)
        self.horizon = horizon
        self.batch_size = batch_size
        self.n_steps = n_steps
        self.n_frames = n_frames
        self.image_keys = frozenset(image_keys)
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.memory_limit = int(memory_limit_gb * 1e9)
        self._log: StepLog | None = None
        self._tree: SumTree | None = None
        self._rng = np.random.default_rng(torch.initial_seed() % 2**63)

    def setup(self, stage: str) -> None:
        """Give each process its own sampling seed."""
        if stage == "fit" and self._rank > 0:
            self._rng = np.random.default_rng([torch.initial_seed() % 2**63, self._rank])

    def train_dataloader(self) -> DataLoader[Any]:
        """Return an endless loader that samples in this process, because each update changes the priorities."""
        return DataLoader(_Samples(self), batch_size=None, num_workers=0)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return a loader of one placeholder batch: rollouts in the environment do the testing."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Number of stored steps."""
        return self._log.end - self._log.start if self._log else 0

    def add(self, obs: Mapping[str, Array], actions: Array, rewards: Array, terminated: bool) -> None:
        """Add an episode of T steps.

        Args:
            obs: key -> (T + 1, ...), including the observation after the last action; only the newest of stacked
                frames is stored.
            actions: (T, A).
            rewards: (T,).
            terminated: whether the last step reached a terminal state; False if the episode was truncated.

        Raises:
            DataError: the episode is shorter than `horizon`, contains a number that is not finite, or has other keys,
                shapes or types than the stored ones.
        """
        n_steps = len(actions)
        if n_steps < self.horizon:
            raise DataError(
                f"expected an episode of at least horizon={self.horizon} steps, got {n_steps}: set "
                "data.init_args.horizon (and the model's) to at most the length of the shortest episode"
            )
        obs = {key: self._newest_frame(key, value) for key, value in obs.items()}
        with np.errstate(over="ignore"):  # the check below rejects an overflow
            columns = {**obs, "action": actions.astype(np.float32), "reward": rewards.astype(np.float32)}
        for key, value in columns.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                step = np.argwhere(~np.isfinite(value))[0, 0]
                raise DataError(f"expected finite numbers, got {value[step]} in {key!r} at step {step}: remove it")
        dtype = from_fields(
            [(key, value.dtype.str, list(value.shape[1:])) for key, value in columns.items()]
            + [("terminated", "|b1", []), ("episode", "<i8", [])]
        )
        if self._log is None:
            self._start(StepLog(dtype, self.n_steps, self.memory_limit))
        log, tree = self._opened()
        if dtype != log.dtype:
            raise DataError(
                f"expected steps of {to_fields(log.dtype)}, as in the buffer, got {to_fields(dtype)}: "
                "is the checkpoint from another task?"
            )
        steps = np.zeros(n_steps + 1, dtype=dtype)
        for key, value in columns.items():
            steps[key][: len(value)] = value
        steps["terminated"][n_steps - 1] = terminated
        steps["episode"] = log.end
        start, first = log.start, log.end
        priorities = np.zeros(n_steps + 1)
        priorities[: n_steps - self.horizon + 1] = tree.weights.max() or 1.0
        log.append(steps)
        # Clear the slots of the dropped steps first: the new steps may reuse them.
        tree.update(np.arange(start, log.start) % log.capacity, np.zeros(log.start - start))
        tree.update(np.arange(first, log.end) % log.capacity, priorities)

    def sample(self) -> dict[str, Any]:
        """Sample a batch.

        Raises:
            DataError: the buffer holds fewer sequences than `batch_size`.
        """
        log, tree = self._opened()
        n_sequences = int(np.count_nonzero(tree.weights[: log.end]))  # a buffer that is not full uses only these
        if n_sequences < self.batch_size:
            raise DataError(
                f"expected at least batch_size={self.batch_size} sequences in the buffer, got {n_sequences}: collect "
                "more before the first update (collect.n_seed_env_steps) or lower data.init_args.batch_size"
            )
        slots = tree.find(self._rng.random(self.batch_size) * tree.total)
        first = log.start + (slots - log.start) % log.capacity
        steps = log.read(first[:, None] + np.arange(self.horizon + 1))
        probability = tree.weights[slots] / tree.total
        weights = (n_sequences * probability) ** -self.importance_exponent
        now = steps[:, :-1]
        return {
            "obs": {key: self._observations(key, first, steps) for key in log.dtype.names or () if key not in _OWN},
            "actions": _tensor(now["action"]),
            "rewards": _tensor(now["reward"]),
            "terminated": _tensor(now["terminated"]),
            "weights": torch.as_tensor(weights / weights.max(), dtype=torch.float32),
            "index": torch.as_tensor(first),
        }

    def update_priorities(self, index: Tensor, priorities: Tensor) -> None:
        """Set the priorities of sequences; priorities that are not finite are ignored.

        Args:
            index: the `index` (B,) of a sampled batch.
            priorities: value errors (B,), not negative.
        """
        log, tree = self._opened()
        numbers = index.cpu().numpy()
        weights = (priorities.float().cpu().numpy().astype(np.float64) + MIN_PRIORITY) ** self.priority_exponent
        kept = (numbers >= log.start) & np.isfinite(weights)
        tree.update(numbers[kept] % log.capacity, weights[kept])

    def state_dict(self) -> dict[str, Any]:
        """Write new steps next to the checkpoint and return the state of all processes; a collective call.

        Lightning writes the checkpoint afterwards, so that all steps to which it refers are already on disk.
        """
        state: dict[str, Any] = {"rng": self._rng.bit_generator.state}
        if self._log:
            log, tree = self._opened()
            folder = self._folder(self._checkpoint_folder())
            state["log"] = dict(log.save(folder))
            state["folder"] = str(folder.resolve())
            state["priorities"] = torch.as_tensor(tree.weights.copy())
        return {"processes": gather(state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the buffer of a checkpoint; tests do not need it and skip this.

        Raises:
            DataError: the checkpoint is from a run with another number of processes or another `n_steps`.
        """
        trainer: Any = self.trainer
        if trainer.testing:
            return
        states = state_dict.get("processes", [state_dict])  # older checkpoints hold the state of one process
        if len(states) != trainer.world_size:
            raise DataError(
                f"the checkpoint holds the buffers of {len(states)} processes, but this run has "
                f"{trainer.world_size}: set trainer.devices times trainer.num_nodes to {len(states)}"
            )
        state = states[self._rank]
        self._rng.bit_generator.state = state["rng"]
        if "log" in state:
            manifest: Manifest = state["log"]
            folder = self._folder(Path(trainer.ckpt_path).parent)
            if not folder.exists():
                # With several checkpoint callbacks, the steps are in the folder of the first one.
                folder = Path(state.get("folder", folder))
            self._start(StepLog.load(manifest, folder, self.n_steps, self.memory_limit))
            _, tree = self._opened()
            priorities = state["priorities"].numpy()
            if len(priorities) != tree.capacity:
                raise DataError(
                    f"expected a buffer with room for {len(priorities)} steps, as in the checkpoint, got "
                    f"{tree.capacity}: set data.init_args.n_steps to its value in the original run"
                )
            self._restore(priorities)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _folder(self, checkpoints: Path) -> Path:
        """Return the folder of this process's steps for a folder of checkpoints."""
        return checkpoints / "replay" / f"rank{self._rank}" if self._rank else checkpoints / "replay"

    def _checkpoint_folder(self) -> Path:
        trainer: Any = self.trainer
        callback = trainer.checkpoint_callback
        return Path(getattr(callback, "dirpath", None) or trainer.default_root_dir)

    def _start(self, log: StepLog) -> None:
        self._log, self._tree = log, SumTree(log.capacity)

    def _restore(self, weights: Array) -> None:
        """Set the sampling weights (capacity,) of a checkpoint, whose horizon may differ from this buffer's."""
        log, tree = self._opened()
        slots = np.arange(log.start, log.end) % log.capacity
        episodes, found = log.field("episode"), weights[slots]
        complete = np.zeros(len(slots), dtype=bool)
        complete[: -self.horizon] = episodes[: -self.horizon] == episodes[self.horizon :]
        # If the saved horizon was longer, the last sequences of each episode have no weight yet.
        found[found == 0] = found.max(initial=0.0) or 1.0
        tree.update(slots, np.where(complete, found, 0.0))

    def _opened(self) -> tuple[StepLog, SumTree]:
        if self._log is None or self._tree is None:
            raise DataError("the buffer is empty: add episodes before sampling from it (is `collect.env` set?)")
        return self._log, self._tree

    def _newest_frame(self, key: str, values: Array) -> Array:
        """Return the newest of stacked frames (T, n_frames * C, height, width), or other observations unchanged."""
        return values[:, -(values.shape[1] // self.n_frames) :] if key in self.image_keys else values

    def _observations(self, key: str, first: Array, steps: Array) -> Tensor:
        """Return an observation (B, H + 1, ...) with stacked frames; the first frame of an episode pads its stacks."""
        newest = steps[key]
        if key not in self.image_keys or self.n_frames == 1:
            return _tensor(newest)
        log, _ = self._opened()
        before = first[:, None] - np.arange(self.n_frames - 1, 0, -1)
        before = np.maximum(before, np.maximum(steps["episode"][:, :1], log.start))
        frames = np.concatenate([log.read(before)[key], newest], axis=1)
        stacks = _tensor(frames).unfold(1, self.n_frames, 1)
        return stacks.movedim(-1, 2).flatten(2, 3)


class _Samples(IterableDataset[dict[str, Any]]):
    """Endless iterator over sampled batches."""

    def __init__(self, replay: ReplayDataModule) -> None:
        self.replay = replay

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self.replay.sample()


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
