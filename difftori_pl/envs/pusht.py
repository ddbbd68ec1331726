"""Push-T (arXiv:2303.04137): the recipe to name in a configuration."""

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
    """Push a T-shaped block onto its outline, with gym-pusht's physics, observed as the public demonstrations are.

    The action is the position that the pusher is to move to, x and y, scaled from the board's 0 to 512 pixels to
    [-1, 1]. Lengths are in pixels of that board. The keys are the arrays of the public zarr file, and `agent_pos`:

    - `state` (5,): pusher x, y, block x, y, and the block's angle in radians, 0 to 2 pi;
    - `keypoint` (18,): x and y of nine points of the block;
    - `agent_pos` (2,): pusher x, y;
    - `img` (3, 96, 96): uint8.

    Args:
        obs_keys: low-dimensional observations, among `state`, `keypoint`, `agent_pos`.
        image_keys: `[img]`, or none, and then nothing is rendered.
        max_episode_steps: the horizon at which an episode is truncated, in environment steps (10 a second).
        success_threshold: share of the goal that the block must cover; Diffusion Policy's is 0.95. The reward of a
            step is the coverage divided by it, clipped at 1, so that an episode's largest reward is the score of the
            literature, and the episode ends at success.
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
                f"Push-T observes {', '.join(OBS_KEYS)} (obs_keys) and {IMAGE_KEY} (image_keys), but {unknown} came"
            )
        if max_episode_steps < 1 or not 0.0 < success_threshold <= 1.0:
            raise ConfigurationError(
                f"max_episode_steps is at least 1 and success_threshold in (0, 1], but {max_episode_steps} and "
                f"{success_threshold} came"
            )
        self.obs_keys = tuple(obs_keys)
        self.image_keys = tuple(image_keys)
        self.max_episode_steps = max_episode_steps
        self.success_threshold = success_threshold

    def __call__(self, seed: int = 0) -> PushTEnv:
        """Build the environment.

        Args:
            seed: seeds the episodes of a `reset()` that is given no seed of its own.

        Raises:
            MissingPackageError: gym-pusht is not installed.
        """
        from difftori_pl.envs.pusht_env import PushTEnv

        return PushTEnv(self.obs_keys, self.image_keys, self.max_episode_steps, self.success_threshold, seed)
