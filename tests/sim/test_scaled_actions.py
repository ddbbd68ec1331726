"""A rollout in robosuite gets the actions of a policy in the units of its data."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from datamodules.actions.scaling import ActionScaling
from difftori_pl.cli import run
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.models.base_policies import BCRNNGMM
from tests.conftest import SMALL, SQUARE_OBS
from tests.data import write_robomimic

pytestmark = pytest.mark.sim


def test_robosuite_gets_restored_actions(quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_robomimic(tmp_path / "scaled.hdf5", [18, 20, 19], SQUARE_OBS)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["actions"][...] = 0.4 + 0.1 * demo["actions"][()]
    chosen: list[torch.Tensor] = []
    received: list[np.ndarray] = []
    act, step = BCRNNGMM.act, RobosuiteEnv.step

    def recorded_act(self: BCRNNGMM, obs: Any, state: Any) -> Any:
        actions, state = act(self, obs, state)
        chosen.extend(actions)
        return actions, state

    def recorded_step(self: RobosuiteEnv, action: np.ndarray) -> Any:
        received.append(action)
        return step(self, action)

    monkeypatch.setattr(BCRNNGMM, "act", recorded_act)
    monkeypatch.setattr(RobosuiteEnv, "step", recorded_step)
    options = ["--rollout.n_episodes=1", "--rollout.n_envs=1", "--rollout.n_videos=0", "--rollout.in_process=true"]
    options += ["--rollout.env.max_episode_steps=5", "--rollout.every_n_epochs=1", "--trainer.max_epochs=1"]
    scaled = [f"--data.path={path}", "--data.action_scaling=min_max"]
    module = run(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, *options, *scaled]).model
    scaling = ActionScaling.from_interface(module.interface)
    assert scaling is not None
    assert len(received) == len(chosen) == 5
    np.testing.assert_array_equal(np.stack(received), scaling.restore(torch.stack(chosen)).numpy())
    assert np.abs(np.stack(received) - 0.4).max() < 0.11
