"""An online replay buffer: prioritised sequences of what was experienced."""

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
"""Added to priorities, so that every sequence stays reachable; TD-MPC's value."""

_OWN = ("action", "reward", "terminated", "episode")
"""Fields of a step besides the observations."""


class ReplayDataModule(LightningDataModule):
    """Sequences of `horizon` steps from all that was collected, those with surprising values more often.

    Prioritised replay (Schaul et al., arXiv:1511.05952) with TD-MPC's rules: an episode enters with the highest
    priority there is, and the last `horizon` of its observations never start a sequence: of T actions, the last one and
    what came of it are in the sequence that starts with action T - H.

    Batches hold `obs`: key -> (B, H + 1, ...), `actions` (B, H, A), `rewards` (B, H), `terminated` (B, H) bool,
    `weights` (B,), the importance weights of the loss, and `index` (B,), for `update_priorities`.

    The buffer is part of the checkpoint: its steps are in the folder `replay` beside it. Of several processes, each has
    its own buffer, draws its own batches from it, and goes on with it.

    Args:
        horizon: number H of steps in a sequence; at least the longest planning horizon.
        batch_size: B, of each process.
        n_steps: number of agent steps to keep, of each process.
        n_frames: number of pictures that are stacked along the channels; each is stored once.
        image_keys: observation keys that hold such stacks; others are stored as they are.
        priority_exponent: α; 0 samples uniformly.
        importance_exponent: β; 1 undoes the bias of prioritised sampling, 0 leaves it.
        memory_limit_gb: 10^9 bytes that may be held in memory; the rest is read from memory-mapped files.
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
        """Draw other batches in each process."""
        if stage == "fit" and self._rank > 0:
            self._rng = np.random.default_rng([torch.initial_seed() % 2**63, self._rank])

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless batches, drawn in this process, as what is drawn depends on the last update."""
        return DataLoader(_Samples(self), batch_size=None, num_workers=0)

    def test_dataloader(self) -> DataLoader[Any]:
        """One empty batch: what is tested is done by rollouts in the environment."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Number of steps that are kept."""
        return self._log.end - self._log.start if self._log else 0

    def add(self, obs: Mapping[str, Array], actions: Array, rewards: Array, terminated: bool) -> None:
        """Add an episode of T steps.

        Args:
            obs: key -> (T + 1, ...), the last one after the last action; of stacked pictures only the newest is kept.
            actions: (T, A).
            rewards: (T,).
            terminated: whether the task itself ended with the last step, not only the time.

        Raises:
            DataError: the episode is too short to hold a sequence, holds a number that is not finite, or is unlike
                the earlier ones.
        """
        n_steps = len(actions)
        if n_steps < self.horizon:
            raise DataError(
                f"an episode of {n_steps} steps holds no sequence of {self.horizon}: set data.init_args.horizon (and "
                "the model's) to the length of the shortest episode at most"
            )
        obs = {key: self._newest_frame(key, value) for key, value in obs.items()}
        with np.errstate(over="ignore"):  # an overflow is refused below
            columns = {**obs, "action": actions.astype(np.float32), "reward": rewards.astype(np.float32)}
        for key, value in columns.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                step = np.argwhere(~np.isfinite(value))[0, 0]
                raise DataError(f"expected finite numbers, got {value[step]} in {key!r} at step {step}: leave it out")
        dtype = from_fields(
            [(key, value.dtype.str, list(value.shape[1:])) for key, value in columns.items()]
            + [("terminated", "|b1", []), ("episode", "<i8", [])]
        )
        if self._log is None:
            self._start(StepLog(dtype, self.n_steps, self.memory_limit))
        log, tree = self._opened()
        if dtype != log.dtype:
            raise DataError(
                f"the buffer holds steps of {to_fields(log.dtype)}, but an episode of {to_fields(dtype)} came: "
                "is the checkpoint one of another task?"
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
        # What was dropped first: the new steps may have taken its places.
        tree.update(np.arange(start, log.start) % log.capacity, np.zeros(log.start - start))
        tree.update(np.arange(first, log.end) % log.capacity, priorities)

    def sample(self) -> dict[str, Any]:
        """Draw a batch.

        Raises:
            DataError: there are fewer sequences than the batch has.
        """
        log, tree = self._opened()
        n_sequences = int(np.count_nonzero(tree.weights[: log.end]))  # a young buffer fills the first slots only
        if n_sequences < self.batch_size:
            raise DataError(
                f"a batch of {self.batch_size} sequences was asked for, but the buffer holds {n_sequences}: collect "
                "more before the first update (collect.n_seed_env_steps) or set data.init_args.batch_size lower"
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
        """Set the priorities of sequences; those that are not finite leave a sequence's priority as it was.

        Args:
            index: of a batch (B,).
            priorities: errors of their values (B,), not negative.
        """
        log, tree = self._opened()
        numbers = index.cpu().numpy()
        weights = (priorities.float().cpu().numpy().astype(np.float64) + MIN_PRIORITY) ** self.priority_exponent
        kept = (numbers >= log.start) & np.isfinite(weights)
        tree.update(numbers[kept] % log.capacity, weights[kept])

    def state_dict(self) -> dict[str, Any]:
        """Write new steps beside the checkpoint, and give what it has to hold: of all processes, who all call this.

        The checkpoint is thus written after all steps that it refers to.
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
        """Go on with the buffer of a checkpoint; a test needs none of it.

        Raises:
            DataError: it is one of another number of processes or steps.
        """
        trainer: Any = self.trainer
        if trainer.testing:
            return
        states = state_dict.get("processes", [state_dict])  # early checkpoints held that of one process
        if len(states) != trainer.world_size:
            raise DataError(
                f"the checkpoint holds the buffers of {len(states)} processes, this run has {trainer.world_size}: "
                f"resume with trainer.devices (times trainer.num_nodes) at {len(states)}"
            )
        state = states[self._rank]
        self._rng.bit_generator.state = state["rng"]
        if "log" in state:
            manifest: Manifest = state["log"]
            folder = self._folder(Path(trainer.ckpt_path).parent)
            if not folder.exists():
                # Of several callbacks that save checkpoints, the first one's folder has the steps.
                folder = Path(state.get("folder", folder))
            self._start(StepLog.load(manifest, folder, self.n_steps, self.memory_limit))
            _, tree = self._opened()
            priorities = state["priorities"].numpy()
            if len(priorities) != tree.capacity:
                raise DataError(
                    f"the checkpoint's buffer has room for {len(priorities)} steps, this one for {tree.capacity}: "
                    "set data.init_args.n_steps as it was"
                )
            self._restore(priorities)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _folder(self, checkpoints: Path) -> Path:
        """Where the steps of this process are, beside the checkpoints in a folder."""
        return checkpoints / "replay" / f"rank{self._rank}" if self._rank else checkpoints / "replay"

    def _checkpoint_folder(self) -> Path:
        trainer: Any = self.trainer
        callback = trainer.checkpoint_callback
        return Path(getattr(callback, "dirpath", None) or trainer.default_root_dir)

    def _start(self, log: StepLog) -> None:
        self._log, self._tree = log, SumTree(log.capacity)

    def _restore(self, weights: Array) -> None:
        """Set the weights (capacity,) of a checkpoint, whose horizon may have been another."""
        log, tree = self._opened()
        slots = np.arange(log.start, log.end) % log.capacity
        episodes, found = log.field("episode"), weights[slots]
        complete = np.zeros(len(slots), dtype=bool)
        complete[: -self.horizon] = episodes[: -self.horizon] == episodes[self.horizon :]
        # A longer horizon had no weight for the last sequences of an episode.
        found[found == 0] = found.max(initial=0.0) or 1.0
        tree.update(slots, np.where(complete, found, 0.0))

    def _opened(self) -> tuple[StepLog, SumTree]:
        if self._log is None or self._tree is None:
            raise DataError("the buffer is empty: add episodes before drawing from it (is `collect.env` set?)")
        return self._log, self._tree

    def _newest_frame(self, key: str, values: Array) -> Array:
        """Of stacked pictures (T, n_frames * C, height, width) the newest; other observations as they are."""
        return values[:, -(values.shape[1] // self.n_frames) :] if key in self.image_keys else values

    def _observations(self, key: str, first: Array, steps: Array) -> Tensor:
        """A field (B, H + 1, ...); pictures are stacked along the channels, an episode's first one repeated."""
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
    """Endless batches of a buffer."""

    def __init__(self, replay: ReplayDataModule) -> None:
        self.replay = replay

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self.replay.sample()


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
