"""Load a checkpoint as an object that maps an observation to an action, for use on a robot."""

from __future__ import annotations

import io
import os
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningModule
from torch import Tensor, nn

from difftori_pl.checkpoints.building import beginning
from difftori_pl.checkpoints.folders import resolve
from difftori_pl.checkpoints.reading import KEY, read_checkpoint
from difftori_pl.checkpoints.shared_folder import is_shared
from difftori_pl.deployment.data_interface import DataInterface
from difftori_pl.deployment.hub import download
from difftori_pl.errors import CheckpointError, ConfigurationError, DiffTORIError, NotFiniteError, ShapeError
from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.finite import FiniteCheck
from difftori_pl.models.policy import Policy
from difftori_pl.version import __version__


class RobotPolicy:
    """A trained policy that acts in one episode at a time; `load_policy` returns it.

    Attributes:
        obs_specs: kind, shape and dtype of each required observation.

    Args:
        policy: the trained module.

    Raises:
        CheckpointError: the recorded scaling of the actions is damaged.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._data = DataInterface(policy)
        self.obs_specs = observation_specs(policy)
        self._finite = FiniteCheck(policy)
        self.reset()

    def reset(self) -> None:
        """Begin an episode: reset the policy's memory."""
        self._state = self.policy.initial_state(1)

    @torch.inference_mode()
    def act(self, observation: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float32]:
        """Choose the next action of the episode.

        Args:
            observation: key -> vector (dim,) in the unit of the training data, or image (3, height, width) uint8; keys
                that the policy does not read are ignored. Of a LeRobot data set, the keys are also accepted by
                LeRobot's names ("observation.state"), and `task` as the task string.

        Returns:
            The action (A,) in the units of the training data: in [-1, 1], unless the datamodule scaled the actions.

        Raises:
            ShapeError: a key is missing or has another shape, or an image is not uint8.
            NotFiniteError: an observation or the action holds NaN or infinity. The memory stays as it was before the
                call.
        """
        device = next(iter(self._parameters()), torch.empty(0)).device
        observation = self._data.rename(observation, self.obs_specs)
        obs = {key: self._tensor(key, observation).to(device) for key in self.obs_specs}
        if spoiled := self._finite.spoiled(obs):
            raise NotFiniteError(
                f"observation {spoiled[0]!r} must be finite in float32, got NaN or infinity: repeat the last good "
                "observation, or stop the robot"
            )
        actions, state = self.policy.act(obs, self._state)
        if not torch.isfinite(actions).all():
            raise NotFiniteError(
                "expected a finite action, got NaN or infinity although the observations are finite: stop the robot, "
                "compare the observations with the training data, and count the non-finite weights with "
                "`difftori checkpoint show`"
            )
        self._state = state
        actions = self._data.restore(actions)
        action: npt.NDArray[np.float32] = actions[0].float().cpu().numpy()
        return action

    def _parameters(self) -> Any:
        return self.policy.parameters() if isinstance(self.policy, nn.Module) else ()

    def _tensor(self, key: str, observation: Mapping[str, npt.ArrayLike]) -> Tensor:
        wanted = self.obs_specs[key]
        if key not in observation:
            raise ShapeError(f"expected the observations {', '.join(self.obs_specs)}, got no {key!r}: add this key")
        value, shape = np.asarray(observation[key]), wanted.shape
        if value.shape != shape:
            channels_last = wanted.kind == "image" and value.shape == (*shape[1:], 3)
            advice = "put the channels first" if channels_last else "check the key"
            raise ShapeError(f"expected observation {key!r} with shape {shape}, got {value.shape}: {advice}")
        # Conversion would turn images from 0 to 1 black and wrap larger integers.
        if wanted.kind == "image" and value.dtype != wanted.dtype:
            raise ShapeError(
                f"expected image {key!r} as uint8 from 0 to 255, got {value.dtype}: convert it, and first multiply it "
                "by 255 if it ranges from 0 to 1"
            )
        with np.errstate(over="ignore"):  # overflow gives infinity, which `act` refuses
            return torch.as_tensor(value.astype(wanted.dtype))[None, None]


def load_module(
    checkpoint: str | os.PathLike[str], device: str | torch.device = "cpu", allow: Sequence[str] = ()
) -> Any:
    """Load the module of a checkpoint in evaluation mode.

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file, or the folder of the run, whose selected
            checkpoint is loaded: `best.ckpt`, or `last.ckpt` if training selected none; or the folder of a shared
            policy.
        device: device of the module.
        allow: import paths of classes outside this package that a shared policy may name.

    Raises:
        CheckpointError: the file does not exist, or does not hold a policy that this version can build.
        ConfigurationError: the device is not available.
    """
    _check_device(device)
    path = resolve(os.fspath(checkpoint))
    content = read_checkpoint(path, "training writes them to <log folder>/checkpoints/", allow)
    if "_class_path" not in content.get("hyper_parameters", {}):
        raise CheckpointError(
            f"{path} does not describe its model, because the model was built in Python or another program wrote the "
            "file: call the class's load_from_checkpoint with its arguments, or train from a YAML file"
        )
    name = str(content["hyper_parameters"]["_class_path"])
    if is_shared(path) and name in allow:
        import_module(name.rpartition(".")[0])  # Lightning loads only modules that are imported
    stream = io.BytesIO()
    torch.save({name: value for name, value in content.items() if name != "optimizer_states"}, stream)
    stream.seek(0)
    try:
        # Pass the verified and migrated content, not the file.
        module = LightningModule.load_from_checkpoint(stream, map_location=device, weights_only=True)
    except DiffTORIError:
        raise
    except (ArgumentError, ValueError, TypeError, RuntimeError) as error:  # of the parser, of the parts, of the weights
        reason = " ".join(str(beginning(error)).split())
        raise CheckpointError(
            f"difftori-pl {__version__} cannot build the model that {path} describes: {reason}. Install the "
            f"version that wrote the checkpoint ({content[KEY].get('package', 'older than 0.1.0')}), or train again"
        ) from error
    if not isinstance(module, Policy):
        raise CheckpointError(
            f"expected a policy, got {path} with a {type(module).__name__}: derive the class from "
            "difftori_pl.models.policy.Policy, or name the checkpoint of a policy"
        )
    return module.eval()


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device {str(device)!r} is not available ({reason}): use device='cpu'") from error


def load_policy(
    checkpoint: str | os.PathLike[str], device: str | torch.device = "cpu", allow: Sequence[str] = ()
) -> RobotPolicy:
    """Load a trained policy for use on a robot; no file besides the checkpoint is needed.

    Example::

        policy = load_policy("last.ckpt")
        policy.reset()
        action = policy.act({"agent_pos": position, "keypoint": points})

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file, or the folder of the run, whose selected
            checkpoint is loaded: `best.ckpt`, or `last.ckpt` if training selected none. Also the folder that
            `difftori share` wrote, or its name on the Hugging Face Hub, "user/name", if there is no such file and no
            folder `user`; `huggingface_hub` downloads it.
        device: device on which the policy computes.
        allow: import paths of classes outside this package that a shared policy may name, such as
            "my_package.MyEncoder". A shared policy that names others is refused before anything is imported.

    Raises:
        CheckpointError: the file does not exist, or does not hold a policy that this version can build.
        ConfigurationError: the device is not available.
        MissingPackageError: a shared policy needs a package that is not installed.
    """
    return RobotPolicy(load_module(download(os.fspath(checkpoint)), device, allow))
