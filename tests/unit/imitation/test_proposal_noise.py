"""Noise that makes proposals in training as far off as those on demonstrations that the base policy has not seen."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.cli import main, run
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.proposal_noise import N_BATCHES, measured_noise
from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.policy import Observation, State


class OffBy(BasePolicy):
    """Explains what was done, but for an error that its observation says."""

    action_dim = 2

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        raise AssertionError("what it would draw in acting has nothing to do with the demonstration")

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        return actions + obs["error"].unsqueeze(2), state


def windows(error: float, n_padded: int = 0) -> Batch:
    index = torch.zeros(3, dtype=torch.long)
    mask = torch.ones(3, 5, dtype=torch.bool)
    errors = torch.full((3, 5, 2), error)
    if n_padded:
        mask[:, -n_padded:] = False
        errors[:, -n_padded:] = 99.0
    return {"obs": {"error": errors}, "actions": torch.rand(3, 5, 2), "mask": mask, "demo": index, "start": index}


def test_it_is_what_the_unseen_demonstrations_add() -> None:
    unit = torch.tensor([1.0, 0.5])
    noise = measured_noise(OffBy(), [windows(0.3)], [windows(0.4), windows(0.6, n_padded=2)], 2, unit)
    # Of five steps four begin a plan of two, of which padding leaves two; the second component counts four-fold.
    unseen = (4 * 0.4**2 + 2 * 0.6**2) / 6
    assert noise == pytest.approx(((unseen - 0.3**2) * (1 + 4) / 2) ** 0.5, rel=1e-5)


def test_a_policy_that_is_no_worse_on_what_it_has_not_seen_gets_none() -> None:
    assert measured_noise(OffBy(), [windows(0.3)], [windows(0.2)], 1, torch.ones(2)) == 0.0


def test_it_looks_at_a_few_batches_only() -> None:
    unseen = [windows(0.5)] * N_BATCHES + [windows(torch.nan)]
    assert measured_noise(OffBy(), [windows(0.0)], unseen, 1, torch.ones(2)) == pytest.approx(0.5)


def test_held_out_demonstrations_are_needed() -> None:
    with pytest.raises(ConfigurationError, match="none are held out"):
        measured_noise(OffBy(), [windows(0.3)], [], 1, torch.ones(2))


def test_a_run_measures_it_and_its_checkpoint_remembers(quick: list[str], low_dim_base: Path) -> None:
    fit = ["fit", "--config=il_square_low_dim.yaml", *quick, f"--model.base_policy.checkpoint={low_dim_base}"]
    fit += ["--model.proposal_noise=null", "--trainer.limit_val_batches=0", "--data.validation_fraction=0.4"]
    first = run([*fit, "--trainer.max_steps=1"])
    assert first.model._noise > 0
    last = first.trainer.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    other_data = [each for each in fit if "validation_fraction" not in each] + ["--data.validation_fraction=0"]
    resumed = run([*other_data, "--trainer.max_steps=2", f"--ckpt_path={last}"])
    assert resumed.model._noise == first.model._noise
    with pytest.raises(SystemExit, match="none are held out"):
        main([*other_data, "--trainer.max_steps=1"])
