"""Noise that raises the error of training proposals to the error on held-out demonstrations."""

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
    """Proposes the demonstrated actions plus the error given in the observation."""

    action_dim = 2

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        raise AssertionError("expected a call of propose_posterior, got one of propose")

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


def test_the_noise_accounts_for_the_additional_error_on_held_out_demonstrations() -> None:
    unit = torch.tensor([1.0, 0.5])
    noise = measured_noise(OffBy(), [windows(0.3)], [windows(0.4), windows(0.6, n_padded=2)], 2, unit)
    # Four of the five steps begin a plan of two actions; padding leaves two. The second component has weight 4.
    held_out = (4 * 0.4**2 + 2 * 0.6**2) / 6
    assert noise == pytest.approx(((held_out - 0.3**2) * (1 + 4) / 2) ** 0.5, rel=1e-5)


def test_the_noise_is_zero_if_the_held_out_error_is_no_larger() -> None:
    assert measured_noise(OffBy(), [windows(0.3)], [windows(0.2)], 1, torch.ones(2)) == 0.0


def test_at_most_n_batches_are_used() -> None:
    held_out = [windows(0.5)] * N_BATCHES + [windows(torch.nan)]
    assert measured_noise(OffBy(), [windows(0.0)], held_out, 1, torch.ones(2)) == pytest.approx(0.5)


def test_held_out_demonstrations_are_required() -> None:
    with pytest.raises(ConfigurationError, match=r"expected held-out demonstrations .* got none"):
        measured_noise(OffBy(), [windows(0.3)], [], 1, torch.ones(2))


def test_a_run_measures_the_noise_and_its_checkpoint_stores_it(quick: list[str], low_dim_base: Path) -> None:
    fit = ["fit", "--config=il_square_low_dim.yaml", *quick, f"--model.base_policy.checkpoint={low_dim_base}"]
    fit += ["--model.proposal_noise=null", "--trainer.limit_val_batches=0", "--data.validation_fraction=0.4"]
    first = run([*fit, "--trainer.max_steps=1"])
    assert first.model._noise > 0
    last = first.trainer.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    other_data = [each for each in fit if "validation_fraction" not in each] + ["--data.validation_fraction=0"]
    resumed = run([*other_data, "--trainer.max_steps=2", f"--ckpt_path={last}"])
    assert resumed.model._noise == first.model._noise
    with pytest.raises(SystemExit, match=r"expected held-out demonstrations .* got none"):
        main([*other_data, "--trainer.max_steps=1"])
