"""The recipe for Push-T (arXiv:2303.04137)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from difftori_pl.envs.pusht_env import PushTEnv

OBS_KEYS = ("state", "keypoint", "agent_pos")
IMAGE_KEY = "img"


class PushT(EnvFactory):
    """Push a T-shaped block onto its outline: gym-pusht's physics, with the observations of the public demonstrations.

    The action (2,) is the target position of the pusher, x and y, scaled from 0 to 512 pixels to [-1, 1]. Lengths are
    in pixels of the board. The observation keys are the arrays of the public zarr file, and `agent_pos`:

    - `state` (5,): pusher x, y, block x, y, and the block's angle in radians, 0 to 2 pi;
    - `keypoint` (18,): x and y of nine points of the block;
    - `agent_pos` (2,): pusher x, y;
    - `img` (3, 96, 96): uint8.

    Args:
        obs_keys: low-dimensional observations, among `state`, `keypoint`, `agent_pos`.
        image_keys: `[img]`, or empty to disable rendering.
        max_episode_steps: number of environment steps (10 per second) after which an episode is truncated.
        success_threshold: fraction of the goal that the block must cover; 0.95 in Diffusion Policy. The reward of a
            step is the coverage divided by the threshold, clipped at 1. The largest reward of an episode is the score
            reported in the literature. The episode terminates at success.
    """

    task = "PushT"

    def __init__(
        self,
        obs_keys: Sequence[str] = ("keypoint", "agent_pos"),
        image_keys: Sequence[str] = (),
        max_episode_steps: int = 300,
        success_threshold: float = 0.95,
    ) -> None:
        unknown = [key for key in obs_keys if key not in OBS_KEYS] + [key for key in image_keys if key != IMAGE_KEY]
        if unknown:
            raise ConfigurationError(
                f"Push-T observes {', '.join(OBS_KEYS)} (obs_keys) and {IMAGE_KEY} (image_keys), got {unknown}"
            )
        if max_episode_steps < 1 or not 0.0 < success_threshold <= 1.0:
            raise ConfigurationError(
                f"max_episode_steps must be at least 1 and success_threshold in (0, 1], got {max_episode_steps} and "
                f"{success_threshold}"
            )
        self.obs_keys = tuple(obs_keys)
        self.image_keys = tuple(image_keys)
        self.max_episode_steps = max_episode_steps
        self.success_threshold = success_threshold

    def __call__(self, seed: int = 0) -> PushTEnv:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.

        Raises:
            MissingPackageError: gym-pusht is not installed.
        """
        from difftori_pl.envs.pusht_env import PushTEnv

        return PushTEnv(self.obs_keys, self.image_keys, self.max_episode_steps, self.success_threshold, seed)
