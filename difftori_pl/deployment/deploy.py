"""Trained policies for robots: a checkpoint becomes an object that maps an observation to an action."""

from __future__ import annotations

import io
import os
from argparse import ArgumentError
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningModule
from torch import Tensor, nn

from difftori_pl.checkpoints.building import beginning
from difftori_pl.checkpoints.reading import KEY, read_checkpoint
from difftori_pl.errors import CheckpointError, ConfigurationError, NotFiniteError, ShapeError
from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.finite import FiniteCheck
from difftori_pl.models.policy import Policy
from difftori_pl.version import __version__


class RobotPolicy:
    """A policy in one episode at a time; made by `load_policy`.

    Attributes:
        obs_specs: kind, shape and type of each observation that `act` wants.

    Args:
        policy: the trained module.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.obs_specs = observation_specs(policy)
        self._finite = FiniteCheck(policy)
        self.reset()

    def reset(self) -> None:
        """Begin an episode: forget what was seen."""
        self._state = self.policy.initial_state(1)

    @torch.inference_mode()
    def act(self, observation: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float32]:
        """Choose the next action of the episode.

        Args:
            observation: key -> vector (dim,) in the unit of the training data, or image (3, height, width) uint8; keys
                that the policy does not read are left alone.

        Returns:
            The action (A,) in [-1, 1], as in the training data.

        Raises:
            ShapeError: a key is missing or has another shape, or an image is not uint8.
            NotFiniteError: an observation or the action holds NaN or infinity. The memory is unchanged, so that the
                next call acts as if this one had not been made.
        """
        device = next(iter(self._parameters()), torch.empty(0)).device
        obs = {key: self._tensor(key, observation).to(device) for key in self.obs_specs}
        if spoiled := self._finite.spoiled(obs):
            raise NotFiniteError(
                f"the policy reads {spoiled[0]!r} and needs finite float32 numbers, got NaN or infinity: repeat the "
                "last good observation, or stop the robot"
            )
        actions, state = self.policy.act(obs, self._state)
        if not torch.isfinite(actions).all():
            raise NotFiniteError(
                "the policy found no finite action for finite observations: stop the robot, compare the observations "
                "with the training data, and count the weights that are not finite with `difftori checkpoint show`"
            )
        self._state = state
        action: npt.NDArray[np.float32] = actions[0].float().cpu().numpy()
        return action

    def _parameters(self) -> Any:
        return self.policy.parameters() if isinstance(self.policy, nn.Module) else ()

    def _tensor(self, key: str, observation: Mapping[str, npt.ArrayLike]) -> Tensor:
        wanted = self.obs_specs[key]
        if key not in observation:
            raise ShapeError(f"the policy reads {', '.join(self.obs_specs)}, but the observation has no {key!r}")
        value, shape = np.asarray(observation[key]), wanted.shape
        if value.shape != shape:
            channels_last = wanted.kind == "image" and value.shape == (*shape[1:], 3)
            advice = "put the channels first" if channels_last else "check the key"
            raise ShapeError(f"the policy reads {key!r} with the shape {shape}, but {value.shape} came: {advice}")
        # Not converted: images from 0 to 1 would become black, and larger integers would wrap.
        if wanted.kind == "image" and value.dtype != wanted.dtype:
            raise ShapeError(
                f"the policy reads the image {key!r} as uint8 from 0 to 255, but {value.dtype} came: convert it, after "
                "multiplying by 255 if it goes from 0 to 1"
            )
        with np.errstate(over="ignore"):  # becomes infinity, which `act` refuses
            return torch.as_tensor(value.astype(wanted.dtype))[None, None]


def load_module(checkpoint: str | os.PathLike[str], device: str | torch.device = "cpu") -> Any:
    """Load the module that a run trained, ready to act.

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file.
        device: where to put it.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
        ConfigurationError: there is no such device.
    """
    _check_device(device)
    path = os.fspath(checkpoint)
    content = read_checkpoint(path, "training writes them to <log folder>/checkpoints/")
    if "_class_path" not in content.get("hyper_parameters", {}):
        raise CheckpointError(
            f"{path} does not describe its model: it was built in Python, or another program wrote it. Load it with "
            "the module's load_from_checkpoint and its arguments, or train from a YAML file"
        )
    stream = io.BytesIO()
    torch.save({name: value for name, value in content.items() if name != "optimizer_states"}, stream)
    stream.seek(0)
    try:
        # Read again from memory, since it is the content that was verified and brought up to date.
        module = LightningModule.load_from_checkpoint(stream, map_location=device, weights_only=True)
    except ArgumentError as error:
        raise CheckpointError(
            f"{path} describes a model that this version cannot build: {beginning(error)}. It was written by "
            f"difftori-pl {content[KEY].get('package', 'of before the first release')}, here is {__version__}"
        ) from error
    if not isinstance(module, Policy):
        raise CheckpointError(
            f"{path} holds a {type(module).__name__}, which is not a policy: derive the class from "
            "difftori_pl.models.policy.Policy"
        )
    return module.eval()


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"the device {str(device)!r} cannot be used ({reason}): use device='cpu'") from error


def load_policy(checkpoint: str | os.PathLike[str], device: str | torch.device = "cpu") -> RobotPolicy:
    """Load a trained policy for a robot; the checkpoint is all it needs.

    Example::

        policy = load_policy("last.ckpt")
        policy.reset()
        action = policy.act({"agent_pos": position, "keypoint": points})

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file.
        device: where the policy computes.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    return RobotPolicy(load_module(checkpoint, device))
