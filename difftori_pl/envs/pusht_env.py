"""The `gymnasium` environment around gym-pusht."""

from __future__ import annotations

import math
import os
import warnings
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from difftori_pl.envs.base import checked_action
from difftori_pl.envs.seeded import Obs, SeededEnv
from difftori_pl.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BOARD = 512.0
"""Width and height of the board, in pixels."""

IMAGE_SIZE = 96
"""Height and width of the observed image, in pixels, as in the public demonstrations."""

VIDEO_SIZE = 256
"""Height and width of the frames that `render` returns, in pixels."""

KEYPOINTS = np.array(
    [
        (9.270, 90.041),
        (-60.983, -1.187),
        (60.913, -1.393),
        (-0.270, 25.544),
        (-14.065, 122.816),
        (39.003, 32.858),
        (-39.966, 32.730),
        (-16.824, 62.863),
        (23.542, -1.700),
    ]
)
"""The nine points in the block's own frame, in pixels (9, 2): the mean over the public demonstrations of `keypoint`,
turned and moved back by the pose in `state`. No point strays from it by more than a tenth of a pixel."""


class PushTEnv(SeededEnv):
    """Push-T with normalised actions; see `difftori_pl.envs.PushT`, which builds it.

    Args:
        obs_keys: low-dimensional observations, among `state`, `keypoint`, `agent_pos`.
        image_keys: `[img]`, or none.
        max_episode_steps: steps after which an episode is truncated.
        success_threshold: fraction of the goal that the block must cover.
        seed: seeds the episodes of a `reset()` that is given no seed of its own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        obs_keys: Sequence[str],
        image_keys: Sequence[str],
        max_episode_steps: int,
        success_threshold: float,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.obs_keys = obs_keys
        self.image_keys = image_keys
        self.max_episode_steps = max_episode_steps
        self.simulator = _simulator()
        self.simulator.success_threshold = success_threshold
        self._n_steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.reset(seed=seed)
        self.observation_space = gymnasium.spaces.Dict(
            {
                key: gymnasium.spaces.Box(0, 255, value.shape, np.uint8)
                if key in image_keys
                else gymnasium.spaces.Box(-np.inf, np.inf, value.shape, np.float32)
                for key, value in self.observe().items()
            }
        )

    def _start(self, seed: int) -> Obs:
        self.simulator.reset(seed=seed)
        self._n_steps = 0
        return self.observe()

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act for one control period (0.1 s).

        Args:
            action: (2,) in [-1, 1], where to move the pusher.

        Returns:
            the observation; the reward, coverage over the success threshold, at most 1; whether it succeeded and
            ended; whether the horizon has come; and `{"success": bool, "coverage": float}`.

        Raises:
            ShapeError: the action has the wrong size.
            ValueError: the action is not finite.
        """
        target = checked_action(action, self.action_space.shape, "Push-T")
        _, reward, success, _, info = self.simulator.step(to_pixels(target))
        self._n_steps += 1
        truncated = not success and self._n_steps >= self.max_episode_steps
        outcome = {"success": bool(success), "coverage": float(info["coverage"])}
        return self.observe(), float(reward), bool(success), truncated, outcome

    def observe(self) -> Obs:
        """The observation of the present state: float32 vectors, and the image (3, 96, 96) uint8."""
        state = self.state()
        values = {"state": state, "keypoint": keypoints(state).ravel(), "agent_pos": state[:2]}
        obs: Obs = {key: values[key].astype(np.float32) for key in self.obs_keys}
        for key in self.image_keys:
            obs[key] = np.ascontiguousarray(self.simulator._render().transpose(2, 0, 1))
        return obs

    def state(self) -> NDArray[np.float64]:
        """Pusher x, y, block x, y in pixels, and the block's angle in radians, 0 to 2 pi."""
        agent, block = self.simulator.agent, self.simulator.block
        return np.array([*agent.position, *block.position, block.angle % (2.0 * math.pi)])

    def set_state(self, state: NDArray[np.float64]) -> Obs:
        """Go to a state of the demonstrations, everything at rest."""
        agent, block = self.simulator.agent, self.simulator.block
        agent.position, agent.velocity = tuple(map(float, state[:2])), (0.0, 0.0)
        # The angle first: turning moves the position, unless the block turns about its origin.
        block.angle, block.angular_velocity = float(state[4]), 0.0
        block.position, block.velocity = tuple(map(float, state[2:4])), (0.0, 0.0)
        for body in (agent, block):
            self.simulator.space.reindex_shapes_for_body(body)
        return self.observe()

    def render(self) -> NDArray[np.uint8]:
        """A frame for a video, (256, 256, 3) uint8, with a cross where the pusher is sent."""
        frame: NDArray[np.uint8] = self.simulator.render()
        return frame

    def close(self) -> None:
        """Nothing is held open."""


def to_pixels(action: NDArray[np.float64]) -> NDArray[np.float64]:
    """An action in [-1, 1] (..., 2) to pixels of the board, 0 to 512."""
    return (action + 1.0) * (BOARD / 2.0)


def keypoints(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nine points of the block (9, 2), in pixels, for a state (5,)."""
    cos, sin = math.cos(state[4]), math.sin(state[4])
    return KEYPOINTS @ np.array([(cos, sin), (-sin, cos)]) + state[2:4]


def _simulator() -> Any:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            # pygame still imports pkg_resources.
            warnings.simplefilter("ignore")
            from gym_pusht.envs.pusht import PushTEnv as Simulator
    except ImportError as error:
        raise MissingPackageError(f"Push-T needs gym-pusht ({error}): pip install 'difftori-pl[pusht]'") from error
    return Simulator(
        obs_type="state",
        observation_width=IMAGE_SIZE,
        observation_height=IMAGE_SIZE,
        visualization_width=VIDEO_SIZE,
        visualization_height=VIDEO_SIZE,
    )
