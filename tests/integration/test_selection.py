"""Checkpoints are selected by rollouts, and a refinement that does not help ends as its base policy."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.testing import assert_close

from difftori_pl import load_policy
from difftori_pl.callbacks import rollout
from difftori_pl.callbacks.checkpoint import Checkpoint
from difftori_pl.callbacks.episodes import Episode
from difftori_pl.cli import main, run
from difftori_pl.evaluation.tables import read_evaluations
from tests.integration.test_resumption import sigterm_at

ENV = "--rollout.env=tests.envs.Point"
MONITOR = ["--checkpoint.monitor=rollout/policy/success_rate", "--checkpoint.mode=max"]
BASE_SUCCESSES = 2

Fit = Callable[..., Path]


@pytest.fixture
def weights() -> list[torch.Tensor]:
    """The weights of the score in each evaluation of the policy."""
    return []


@pytest.fixture
def seeds() -> list[Sequence[int]]:
    """The seeds of each evaluation."""
    return []


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch, weights: list[torch.Tensor], seeds: list[Sequence[int]]) -> list[int]:
    """Replace the simulator by numbers of successes in four episodes, one number for each evaluation of the policy."""
    successes: list[int] = []
    remaining: Iterator[int] = iter(successes)

    def run_episodes(policy: Any, pool: Any, given: Sequence[int], *rest: Any, **_: Any) -> list[Episode]:
        n = BASE_SUCCESSES
        if hasattr(policy, "score"):
            n = next(remaining)
            weights.append(policy.score.net[-1].weight.detach().clone())
        seeds.append(given)
        episodes = [Episode(seed, success=i < n, length=1) for i, seed in enumerate(given)]
        for episode in episodes:
            rest[-1](episode)  # on_finish
        return episodes

    class NoPool:
        def __init__(self, *_: Any) -> None: ...
        def interface(self) -> dict[str, Any]:
            return {}

        def close(self) -> None: ...

    monkeypatch.setattr(rollout, "run_episodes", run_episodes)
    monkeypatch.setattr(rollout, "EnvPool", NoPool)
    return successes


@pytest.fixture
def words(quick: list[str], low_dim_base: Path, tmp_path: Path) -> list[str]:
    base = f"--model.base_policy.checkpoint={low_dim_base}"
    folder = [f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.name=run"]
    return ["--config=il_square_low_dim.yaml", *quick, *folder, base, ENV, "--rollout.n_episodes=4"]


@pytest.fixture
def fit(words: list[str], outcomes: list[int], tmp_path: Path) -> Fit:
    """Train one epoch for each outcome but the first, which is that of the untrained module."""

    def train(successes: Sequence[int], *options: str) -> Path:
        outcomes.extend(successes)
        length = ["--trainer.max_steps=-1", f"--trainer.max_epochs={len(successes) - 1}", "--rollout.every_n_epochs=1"]
        run(["fit", *words, *length, "--model.lr_scheduler=null", *MONITOR, *options])
        return tmp_path / "run" / "version_0"

    return train


def saved_step(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def steps_per_epoch(folder: Path, n_epochs: int) -> int:
    return saved_step(folder / "checkpoints" / "last.ckpt") // n_epochs


def test_the_earliest_of_the_best_evaluations_is_selected(
    fit: Fit, weights: list[torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    folder = fit([2, 1, 3, 3, 2])
    step = 2 * steps_per_epoch(folder, 4)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == step
    last = [value for name, value in best["state_dict"].items() if name.startswith("score.net")][-1]
    assert torch.equal(last, weights[2])
    assert f"rollout/policy/success_rate = 0.75 after {step} updates, 0.5 before training" in caplog.text
    assert len(weights) == 5


def test_a_refinement_that_does_not_help_ends_as_its_base(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    folder = fit([2, 1, 2, 0])
    assert "training did not improve rollout/policy/success_rate = 0.5 of the untrained module" in caplog.text
    assert "selected and acts as its base policy" in caplog.text
    assert saved_step(folder / "checkpoints" / "best.ckpt") == 0
    policy = load_policy(folder.parent)
    base = policy.policy.base_policy  # type: ignore[attr-defined]
    state = base.initial_state(1)
    for step in range(5):
        observation = {key: np.full(spec.shape, 0.1 * step, np.float32) for key, spec in policy.obs_specs.items()}
        torch.manual_seed(step)
        acted = policy.act(observation)
        obs = {key: torch.as_tensor(value)[None, None] for key, value in observation.items()}
        torch.manual_seed(step)
        with torch.no_grad():
            expected, state = base.act(obs, state)
        assert_close(torch.as_tensor(acted), expected[0], rtol=1e-5, atol=1e-6)


def test_a_gain_below_the_smallest_one_is_not_selected(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    folder = fit([1, 2, 3, 2, 4, 3], "--checkpoint.min_gain=0.5")
    assert saved_step(folder / "checkpoints" / "best.ckpt") == 4 * steps_per_epoch(folder, 5)


def test_a_gain_of_the_smallest_one_is_selected_despite_rounding(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    folder = fit([1, 3, 2], "--checkpoint.min_gain=0.5000000001")
    assert saved_step(folder / "checkpoints" / "best.ckpt") == steps_per_epoch(folder, 2)


def test_a_run_without_a_sufficient_gain_ends_as_its_base(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    folder = fit([2, 3, 3], "--checkpoint.min_gain=0.5")
    assert saved_step(folder / "checkpoints" / "best.ckpt") == 0
    assert "= 0.5 of the untrained module by 0.5, which is selected and acts as its base policy" in caplog.text


def test_a_negative_smallest_gain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_gain must be at least 0, not -0\.1"):
        Checkpoint(min_gain=-0.1)


def test_training_and_test_use_different_initial_states(
    fit: Fit, words: list[str], outcomes: list[int], seeds: list[Sequence[int]]
) -> None:
    folder = fit([2, 3])
    assert {seed for evaluation in seeds for seed in evaluation} == set(range(200_000, 200_004))
    seeds.clear()
    outcomes.extend([1, 4])
    for name in ("best", "last"):
        run(["test", *words, *MONITOR, f"--ckpt_path={name}"])
    assert {seed for evaluation in seeds for seed in evaluation} == set(range(100_000, 100_004))
    step = saved_step(folder / "checkpoints" / "best.ckpt")
    assert step > 0
    for version, name in ((1, "best"), (2, "last")):
        file = folder.parent / f"version_{version}" / f"rollouts_step{step}_policy.json"
        description = json.loads(file.read_text())
        assert (description["checkpoint"], description["first_seed"]) == (f"{name}.ckpt", 100_000)
        assert description["selected_on"] == [200_000, 4]
    evaluations = [found for found in read_evaluations(folder.parent) if found.name == "policy"]
    assert {(found.selected, sum(e["success"] for e in found.episodes.values())) for found in evaluations} == {
        (True, 1),
        (False, 4),
    }


def test_a_test_ends_with_a_summary(
    fit: Fit,
    words: list[str],
    outcomes: list[int],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fit([2, 2])
    outcomes.append(4)
    caplog.clear()
    values = run(["test", *words, *MONITOR, "--ckpt_path=last"]).trainer.callback_metrics
    assert "| policy | 4/4 = 100 % (51 to 100) |" in caplog.text
    assert "| base | 2/4 = 50 % (15 to 85) |" in caplog.text
    assert "policy compared with base: gained 2, lost 0 initial states; p = 0.5 (sign test)" in caplog.text
    errors = f"policy {values['test/action_error']:.4g}, base {values['test/base_action_error']:.4g}"
    assert f"squared error of the actions on test demonstrations, in training units: {errors}" in caplog.text
    compared = {name: float(values[f"rollout/policy_minus_base/{name}"]) for name in ("gained", "lost", "p_value")}
    assert compared == {"gained": 2.0, "lost": 0.0, "p_value": 0.5}
    assert "Test metric" not in capsys.readouterr().out
    outcomes.append(4)
    run(["test", *words, *MONITOR, "--ckpt_path=last", "--verbose=true"])
    assert "Test metric" in capsys.readouterr().out


def test_rollouts_use_averaged_weights(fit: Fit, weights: list[torch.Tensor]) -> None:
    folder = fit([0, 1, 2], "--trainer.callbacks=ExponentialMovingAverage")
    content = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    saved = [value for name, value in content["state_dict"].items() if name.startswith("score.net")][-1]
    current = [value for name, value in content["current_model_state"].items() if name.startswith("score.net")][-1]
    assert torch.equal(saved, weights[-1])
    assert not torch.equal(current, weights[-1])


def test_a_stopped_run_keeps_the_selected_checkpoint(
    fit: Fit, words: list[str], outcomes: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SIGTERMException):
        fit([2, 3], sigterm_at("on_train_batch_end", 1))
    folder = tmp_path / "run" / "version_0" / "checkpoints"
    assert (saved_step(folder / "best.ckpt"), saved_step(folder / "last.ckpt")) == (0, 1)
    assert sorted(path.name for path in folder.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    assert f"stopped after 1 updates, saved {folder / 'last.ckpt'}: --ckpt_path last resumes" in caplog.text


def test_a_resumed_run_remembers_the_best(fit: Fit, words: list[str], outcomes: list[int]) -> None:
    folder = fit([2, 3, 1])
    outcomes.extend([3, 4, 2])
    more = ["--trainer.max_steps=-1", "--trainer.max_epochs=4", "--rollout.every_n_epochs=1", *MONITOR]
    run(["fit", *words, *more, "--ckpt_path=last"])
    assert saved_step(folder / "checkpoints" / "best.ckpt") == steps_per_epoch(folder, 2)
    assert saved_step(folder.parent / "version_1" / "checkpoints" / "best.ckpt") == 2 * saved_step(
        folder / "checkpoints" / "last.ckpt"
    )


def test_a_monitored_rollout_must_take_place(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"checkpoint\.monitor is rollout/policy/success_rate, got no evaluation in"):
        main(["fit", *words, *MONITOR, "--rollout.env=null", "--trainer.max_steps=1"])


def test_there_is_no_best_checkpoint_without_selection(words: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"there is no best.ckpt in .*: set checkpoint\.monitor in training, or use"):
        main(["test", *words, "--ckpt_path=best"])
