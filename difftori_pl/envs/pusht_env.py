"""The `gymnasium` environment that wraps gym-pusht."""

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
"""The nine keypoints in the block's frame (9, 2), in pixels: the mean of `keypoint` over the public demonstrations,
transformed to the block's frame by the pose in `state`. No point deviates from the mean by more than 0.1 pixels."""


class PushTEnv(SeededEnv):
    """Push-T with normalised actions; build it with `difftori_pl.envs.PushT`.

    Args:
        obs_keys: low-dimensional observations, among `state`, `keypoint`, `agent_pos`.
        image_keys: `[img]`, or empty.
        max_episode_steps: steps after which an episode is truncated.
        success_threshold: fraction of the goal that the block must cover.
        seed: seed of the generator that draws episode seeds when `reset` is called without one.
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
            action: (2,) in [-1, 1], the target position of the pusher.

        Returns:
            the observation; the reward, coverage divided by the success threshold, at most 1; whether the episode
            terminated with success; whether it was truncated; and `{"success": bool, "coverage": float}`.

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
        """Observe the current state: float32 vectors, and the image (3, 96, 96) uint8."""
        state = self.state()
        values = {"state": state, "keypoint": keypoints(state).ravel(), "agent_pos": state[:2]}
        obs: Obs = {key: values[key].astype(np.float32) for key in self.obs_keys}
        for key in self.image_keys:
            obs[key] = np.ascontiguousarray(self.simulator._render().transpose(2, 0, 1))
        return obs

    def state(self) -> NDArray[np.float64]:
        """Return the state (5,): pusher x, y, block x, y in pixels, and the block's angle in radians, 0 to 2 pi."""
        agent, block = self.simulator.agent, self.simulator.block
        return np.array([*agent.position, *block.position, block.angle % (2.0 * math.pi)])

    def set_state(self, state: NDArray[np.float64]) -> Obs:
        """Set a state (5,) of the demonstrations, with zero velocities, and observe it."""
        agent, block = self.simulator.agent, self.simulator.block
        agent.position, agent.velocity = tuple(map(float, state[:2])), (0.0, 0.0)
        # Set the angle first: pymunk rotates about the centre of gravity, which moves the position.
        block.angle, block.angular_velocity = float(state[4]), 0.0
        block.position, block.velocity = tuple(map(float, state[2:4])), (0.0, 0.0)
        for body in (agent, block):
            self.simulator.space.reindex_shapes_for_body(body)
        return self.observe()

    def render(self) -> NDArray[np.uint8]:
        """Render a video frame, (256, 256, 3) uint8, with a cross at the target position of the pusher."""
        frame: NDArray[np.uint8] = self.simulator.render()
        return frame

    def close(self) -> None:
        """Do nothing: the environment holds no resources."""


def to_pixels(action: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert actions in [-1, 1] (..., 2) to pixels of the board, 0 to 512."""
    return (action + 1.0) * (BOARD / 2.0)


def keypoints(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the nine keypoints of the block (9, 2), in pixels, for a state (5,)."""
    cos, sin = math.cos(state[4]), math.sin(state[4])
    return KEYPOINTS @ np.array([(cos, sin), (-sin, cos)]) + state[2:4]


def _simulator() -> Any:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            # pygame imports the deprecated pkg_resources.
            warnings.simplefilter("ignore")
            from gym_pusht.envs.pusht import PushTEnv as Simulator
    except ImportError as error:
        raise MissingPackageError(
            f"gym-pusht cannot be imported ({error}): pip install 'difftori-pl[pusht]'"
        ) from error
    return Simulator(
        obs_type="state",
        observation_width=IMAGE_SIZE,
        observation_height=IMAGE_SIZE,
        visualization_width=VIDEO_SIZE,
        visualization_height=VIDEO_SIZE,
    )
