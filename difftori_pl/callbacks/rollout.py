"""Evaluation in the simulator, during training and in `test`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_info

from datamodules.actions.robosuite_control import KEY as CONTROL_DELTA
from datamodules.actions.units import ActionUnits
from datamodules.demonstrations import DemonstrationDataModule
from difftori_pl.callbacks.checkpoint import Checkpoint
from difftori_pl.callbacks.ema import averaged_weights
from difftori_pl.callbacks.env_steps import log_at
from difftori_pl.callbacks.episodes import Episode, run_episodes
from difftori_pl.callbacks.rollout_files import RolloutFiles
from difftori_pl.callbacks.rollout_progress import show_and_write
from difftori_pl.callbacks.rollout_results import HEADER, Results, comparisons, gather_results, report_crashes
from difftori_pl.callbacks.rollout_schedule import RolloutSchedule
from difftori_pl.callbacks.spacing import Spacing
from difftori_pl.callbacks.video import log_gif
from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.envs.pool import EnvPool
from difftori_pl.errors import ConfigurationError
from difftori_pl.evaluation.run_files import identify_run
from difftori_pl.models.policy import OnlinePolicy, Policy
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive

TEST_SEED, VALIDATION_SEED = 100_000, 200_000
"""Seeds of the first initial states of `test` and of the evaluations in training."""


class _Evaluation(NamedTuple):
    """What the policies of one evaluation have in common, on this rank; see `RolloutFiles` for step and part."""

    first_seed: int
    seeds: Sequence[int]
    step: int
    log_dir: str | None
    part: str
    n_videos: int


class RolloutEvaluation(Callback):
    """Run episodes from fixed initial states and log the success rate with its Wilson 95 % interval.

    If a module provides several policies (`DiffTORIIL` provides itself and its base), each is evaluated on the same
    initial states. A policy that training does not change is evaluated once. The ranks divide the episodes among
    themselves; the logged values cover the episodes of all ranks.

    Logs for each policy under `rollout/<policy>/`: `success_rate`, `success_low`, `success_high` (fractions),
    `episode_length_steps` (mean, environment steps), `return` (mean, undiscounted) with a 95 % interval over episodes,
    `return_low` and `return_high`, `max_reward` (mean of the largest reward of each episode) and `crashed_episodes`.
    If several policies were evaluated, `rollout/policy_minus_<other>/` has the number of initial states `gained` and
    `lost` and the `p_value` of the sign test. In reinforcement learning the x axis is the number of environment steps.

    If a `Checkpoint` monitors one of these values (`checkpoint.monitor: rollout/policy/success_rate`), it selects among
    the evaluations of training. The untrained module, which acts as its base policy, is then evaluated first and is
    one of the candidates.

    Args:
        env: recipe of the environment; None disables evaluation.
        n_episodes: number of episodes.
        n_envs: number of environments that run in parallel, each in its own process.
        every_n_epochs: evaluate every `every_n_epochs` training epochs; 0 for never. `test` always evaluates.
        every_n_train_steps: evaluate every `every_n_train_steps` updates; 0 for never.
        every_n_env_steps: in reinforcement learning, evaluate every `every_n_env_steps` environment steps; 0 for never.
        first_seed: episode i starts from the initial state of seed `first_seed + i`; None for 200000 in training and
            100000 in `test`, so that a checkpoint is never selected on the states that it is tested on.
        n_videos: number of episodes to record, as mp4 in the log folder and in TensorBoard.
        video_fps: frames per second of the videos.
        video_spacing: during training, record videos again once the step count has grown by this fraction; 0 records
            at every evaluation.
        compare: evaluate the module's other policies too.
        step_timeout: seconds after which an environment that does not answer counts as crashed.
        in_process: run the environments in this process, which is faster for light simulators; see `LocalPool`.

    Attributes:
        success_rate: fraction of successful episodes of the module in the last evaluation; None before the first.
    """

    def __init__(
        self,
        env: EnvFactory | None = None,
        n_episodes: int = 50,
        n_envs: int = 4,
        every_n_epochs: int = 0,
        every_n_env_steps: int = 0,
        first_seed: int | None = None,
        n_videos: int = 2,
        video_fps: int = 20,
        video_spacing: float = 0.1,
        compare: bool = True,
        step_timeout: float = 120.0,
        in_process: bool = False,
        every_n_train_steps: int = 0,
    ) -> None:
        check_positive(n_episodes=n_episodes, n_envs=n_envs, video_fps=video_fps, step_timeout=step_timeout)
        check_not_negative(
            first_seed=0 if first_seed is None else first_seed, n_videos=n_videos, video_spacing=video_spacing
        )
        self.env = env
        self.n_episodes = n_episodes
        self.n_envs = n_envs
        self.first_seed = first_seed
        self.n_videos = n_videos
        self.video_fps = video_fps
        self.compare = compare
        self.step_timeout = step_timeout
        self.in_process = in_process
        self._pool: EnvPool | None = None
        self._schedule = RolloutSchedule(every_n_epochs, every_n_train_steps, every_n_env_steps)
        self._videos = Spacing(video_spacing)
        self._done_once: set[str] = set()
        self._selected_on: list[int] | None = None
        self._loaded_step: int | None = None
        self.success_rate: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate at multiples of `every_n_train_steps`, and when steps pass one of `every_n_env_steps`."""
        del outputs, batch, batch_idx
        if self.env is None:
            return
        if self._schedule.due_after_batch(trainer, pl_module):
            self._evaluate(trainer, pl_module)
        self._schedule.batch_ended(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the steps of the last evaluation check and of the last videos, and the seeds used for selection."""
        return {
            "last_env_step": self._schedule.last_env_step,
            "last_videos": self._videos.last,
            "selected_on": self._selected_on,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._schedule.last_env_step = state_dict["last_env_step"]
        self._videos.last = state_dict.get("last_videos", 0)
        self._selected_on = state_dict.get("selected_on")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember after how many updates the checkpoint was saved."""
        del trainer, pl_module
        self._loaded_step = checkpoint.get("global_step")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the environment's observations and actions mean the same as in training.

        Raises:
            ConfigurationError: they differ, or a checkpoint monitors a value that is never logged.
        """
        if (self.env is None or self._schedule.never) and (selecting := _selecting(trainer)):
            raise ConfigurationError(
                f"checkpoint.monitor is {selecting[0].monitor}, got no evaluation in training: set rollout.env and "
                "rollout.every_n_train_steps (rollout.every_n_env_steps in reinforcement learning), or "
                "checkpoint.monitor to null"
            )
        if self.env is None:
            return
        _policy(pl_module).check_interface("environment", self.env.interface)
        self._schedule.check(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the environment's observations and actions mean the same as in training."""
        del trainer
        if self.env is not None:
            _policy(pl_module).check_interface("environment", self.env.interface)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the untrained module if a checkpoint is selected by its rollouts."""
        if trainer.global_step == 0 and _selecting(trainer):
            self._evaluate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate every `every_n_epochs` epochs."""
        if self._schedule.due_after_epoch(trainer):
            self._evaluate(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close environments that were kept for the next evaluation."""
        del trainer, pl_module, stage
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate all policies."""
        self._done_once.clear()
        self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate all policies, log and print their results, and let checkpoints be selected by them."""
        if self.env is None:
            return
        run = self._begin(trainer, pl_module)
        if self._pool is None:
            pool_class = LocalPool if self.in_process else EnvPool
            self._pool = pool_class(self.env, min(self.n_envs, len(run.seeds)), self.step_timeout)
        found: dict[str, Results] = {}
        scores: dict[str, float] = {}
        was_training = pl_module.training
        pl_module.eval()
        try:
            main = _policy(pl_module)
            main.check_interface("environment", self._pool.interface())
            for name, policy in self._policies(main).items():
                results = found[name] = self._evaluate_policy(trainer, pl_module, self._pool, run, name, policy)
                scores |= self._log(trainer, pl_module, name, results.values())
            if not found["policy"].all_crashed:
                self.success_rate = found["policy"].success.rate
            table = [*HEADER, *(results.row(name) for name, results in found.items())]
            for name, paired in comparisons(found).items():
                table.append(f"policy compared with {name}: {paired}")
                self._log(trainer, pl_module, f"policy_minus_{name}", paired.values())
            if trainer.testing and self._loaded_step == 0 and "base" in main.reference_policies():
                table.append("this checkpoint is the untrained module, which acts as its base policy")
            rank_zero_info("\n".join(["", *table, f"log: {run.log_dir}", ""]))
            if selecting := _selecting(trainer) if trainer.training else []:
                self._selected_on = [run.first_seed, self.n_episodes]
            for checkpoint in selecting:
                checkpoint.select(trainer, scores)
        finally:
            if not self.in_process:
                self._close()
            pl_module.train(was_training)

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> _Evaluation:
        """Choose the initial states of this rank, and whether to record videos."""
        first_seed, step = self._first_seed(trainer), self._step(trainer, pl_module)
        recording = trainer.testing or self._videos.due(step)
        return _Evaluation(
            first_seed=first_seed,
            seeds=[first_seed + i for i in range(self.n_episodes)][trainer.global_rank :: trainer.world_size],
            step=step,
            log_dir=trainer.log_dir,  # read once, on every rank: Lightning broadcasts it
            part=f"_rank{trainer.global_rank}" if trainer.world_size > 1 else "",
            n_videos=self.n_videos if recording and trainer.is_global_zero else 0,
        )

    def _evaluate_policy(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        pool: EnvPool,
        run: _Evaluation,
        name: str,
        policy: Policy,
    ) -> Results:
        """Run the episodes of one policy, write its files, and return the results of all ranks."""
        files = None if run.log_dir is None else RolloutFiles(Path(run.log_dir), run.step, name, run.part)
        progress = show_and_write(trainer, f"rollouts of {name}", len(run.seeds), files)
        # Also the units of the base policy: others are refused before training.
        restore = ActionUnits.from_interface(getattr(pl_module, "interface", None)).restore
        # Give every policy the same random numbers and leave the generator of training unchanged.
        context = trainer.precision_plugin.forward_context(), averaged_weights(trainer, pl_module)
        with torch.random.fork_rng(), context[0], context[1], progress as on_finish:
            torch.manual_seed(run.first_seed + trainer.global_rank)
            episodes = run_episodes(policy, pool, run.seeds, pl_module.device, run.n_videos, on_finish, restore=restore)
        results = gather_results(episodes, pl_module.device)
        report_crashes(name, episodes, results, trainer.testing)
        if files is not None and trainer.is_global_zero:
            files.describe(self._description(trainer, policy, run.first_seed) | identify_run(trainer, files.folder))
            self._save_videos(trainer, files, episodes)
        return results

    def _policies(self, policy: Policy) -> dict[str, Policy]:
        """Return name -> policy, the module itself first; reference policies are returned only once."""
        policies = {"policy": policy}
        if self.compare:
            others = policy.reference_policies()
            policies |= {name: policy for name, policy in others.items() if name not in self._done_once}
            self._done_once |= set(others)
        return policies

    def _log(
        self, trainer: Trainer, pl_module: LightningModule, name: str, values: Mapping[str, float]
    ) -> dict[str, float]:
        """Log values that are equal on all ranks, and return them by their full names."""
        logged = {f"rollout/{name}/{key}": value for key, value in values.items()}
        if trainer.training:
            log_at(trainer, pl_module, logged, self._step(trainer, pl_module))
        else:
            pl_module.log_dict(logged, sync_dist=True, batch_size=1)
        return logged

    def _first_seed(self, trainer: Trainer) -> int:
        if self.first_seed is not None:
            return self.first_seed
        return TEST_SEED if trainer.testing else VALIDATION_SEED

    def _step(self, trainer: Trainer, pl_module: LightningModule) -> int:
        """Return how long the policy was trained: environment steps if the module counts them, else updates."""
        if isinstance(pl_module, OnlinePolicy):
            return pl_module.n_env_steps
        return trainer.global_step if trainer.training else self._loaded_step or 0

    def _description(self, trainer: Trainer, policy: Policy, first_seed: int) -> dict[str, Any]:
        absolute = self.env is not None and self.env.interface.get(CONTROL_DELTA) is False
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        data = str(datamodule.file.path.resolve()) if isinstance(datamodule, DemonstrationDataModule) else ""
        return {
            "controller": "position" if absolute else "",
            "data": data,
            "task": (self.env and self.env.task) or type(self.env).__name__,
            "method": policy.describe(),
            "horizon": policy.horizon,
            "first_seed": first_seed,
            "n_episodes": self.n_episodes,
            "selected_on": self._selected_on,
        }

    def _save_videos(self, trainer: Trainer, files: RolloutFiles, episodes: list[Episode]) -> None:
        for episode in (episode for episode in episodes if episode.frames):
            files.save_video(episode, self.video_fps)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    tag = f"rollout/{files.policy}/seed{episode.seed}"
                    log_gif(logger.experiment, tag, episode.frames, self.video_fps, files.step)


def _selecting(trainer: Trainer) -> list[Checkpoint]:
    """Return the callbacks that select checkpoints by the results of rollouts."""
    checkpoints = [] if trainer.fast_dev_run else trainer.checkpoint_callbacks  # type: ignore[attr-defined]
    return [callback for callback in checkpoints if isinstance(callback, Checkpoint) and callback.selects_by_rollouts]


def _policy(pl_module: LightningModule) -> Policy:
    if not isinstance(pl_module, Policy):
        raise ConfigurationError(
            f"RolloutEvaluation runs a policy, got a {type(pl_module).__name__}: derive it from "
            "difftori_pl.models.policy.Policy, or set the callback's env to null"
        )
    return pl_module
