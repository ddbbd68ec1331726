"""Reinforcement learning in two processes, each with its own environments and buffer, and with equal weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from datamodules import DataError
from difftori_pl.cli import run
from tests.rl_runs import CONFIG, EXECUTED, assert_same
from tests.torchrun import torchrun

pytestmark = pytest.mark.slow

# Episodes have 12, 13 or 14 steps, so episodes of the two processes mostly end at different times.
OPTIONS = [
    f"--config={CONFIG}", *EXECUTED, "--collect.env.spread=3", "--trainer.devices=2", "--trainer.strategy=ddp",
    "--collect.n_env_steps=180", "--data.batch_size=4",
    "--rollout.env=tests.envs.Point", "--rollout.n_episodes=3", "--rollout.n_videos=1",
    "--rollout.every_n_env_steps=96", "--checkpoint.every_n_train_steps=10",
]  # fmt: skip

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ranks]:
    folder = tmp_path_factory.mktemp("rl_ddp")

    def fit(name: str, *options: str) -> Ranks:
        place = f"--trainer.logger.save_dir={folder / name}"
        torchrun("-m", "tests.integration.rl_worker", str(folder), "fit", *OPTIONS, place, *options)
        return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]

    fit.folder = folder  # type: ignore[attr-defined]
    return fit


@pytest.fixture(scope="module")
def whole(fit: Callable[..., Ranks]) -> Ranks:
    return fit("whole")


def test_the_processes_keep_equal_weights_and_separate_buffers(whole: Ranks) -> None:
    one, two = whole
    assert_same(one["networks"], two["networks"])
    assert_same(one["optimizers"], two["optimizers"])
    seeds = [[seed for seed in rank["seeds"] if seed < 100_000] for rank in whole]
    assert seeds == [[0, 2, 4, 6], [1, 3, 5, 7]]
    n_steps = sum(12 + seed % 3 for seed in range(8))
    assert one["n_updates"] == two["n_updates"] == n_steps
    assert int(one["networks"]["env_step"]) == 2 * n_steps
    assert one["steps"]["reward"] != two["steps"]["reward"]
    assert one["buffer_rng"] != two["buffer_rng"]
    assert not torch.equal(one["rng"], two["rng"])


def test_evaluation_episodes_are_divided_and_their_results_gathered(whole: Ranks) -> None:
    one, two = whole
    seeds = [{seed for seed in rank["seeds"] if seed >= 100_000} for rank in whole]
    assert seeds == [{200_000, 200_002}, {200_001}]
    assert one["rollouts"] == two["rollouts"]
    assert 0 < one["rollouts"]["rollout/policy/return_low"] < one["rollouts"]["rollout/policy/return_high"] <= 12


def test_a_process_without_evaluation_episodes(fit: Callable[..., Ranks]) -> None:
    one, two = fit("few", "--rollout.n_episodes=1", "--collect.n_env_steps=96")
    assert one["rollouts"] == two["rollouts"]
    assert one["rollouts"]["rollout/policy/episode_length_steps"] == 12


def test_compiled_losses_give_the_same_run(whole: Ranks, fit: Callable[..., Ranks]) -> None:
    for eager, compiled in zip(whole, fit("compiled", "--model.compiled=true"), strict=True):
        torch.testing.assert_close(compiled["networks"], eager["networks"], rtol=1e-5, atol=1e-6)


def test_a_resumed_run_restores_both_buffers(whole: Ranks, fit: Callable[..., Ranks]) -> None:
    fit("parts", "--trainer.max_steps=70")  # within the updates that follow the third round of episodes
    again = fit("parts", "--ckpt_path=last")
    for rank in (0, 1):
        for result in (whole, again):
            del result[rank]["seeds"]
        assert_same(whole[rank], again[rank])
    checkpoint = next((fit.folder / "parts").glob("*/version_0/checkpoints/last.ckpt"))  # type: ignore[attr-defined]
    options = [f"--trainer.logger.save_dir={fit.folder / 'parts'}", f"--ckpt_path={checkpoint}"]  # type: ignore[attr-defined]
    alone = [*OPTIONS, "--trainer.devices=1", "--trainer.strategy=auto"]
    with pytest.raises(DataError, match=r"the buffers of 2 processes, but this run has 1: .*trainer\.devices"):
        run(["fit", *alone, *options])
