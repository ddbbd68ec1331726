"""Scripted experts: sequences of phases, each with a target pose of the hand and a gripper command."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LowDim = Mapping[str, "NDArray[Any]"]

OPEN, CLOSE = -1.0, 1.0

_METRES = 0.05
_RADIANS = 0.5
"""Translation and rotation commanded by an action of 1, see `difftori_pl.envs.robosuite_import.OSC_POSE`."""

_GAIN = 3.0
"""The controller covers about a third of an offset per control period; a lower gain would slow the approach."""


@dataclass(frozen=True)
class Pose:
    """Target pose of the hand.

    Attributes:
        position: position of the point between the fingertips (3,), metres.
        yaw: angle of the hand about the vertical axis, radians; the fingers close at right angles to it.
    """

    position: NDArray[np.float64]
    yaw: float


@dataclass(frozen=True)
class Phase:
    """One phase of an episode.

    Attributes:
        target: function from the observations to the target pose, called at every step.
        gripper: `OPEN` or `CLOSE`.
        tolerance: position error below which the next phase may begin, metres.
        angle_tolerance: orientation error below which the next phase may begin, radians.
        settle: number of consecutive steps within both tolerances before the next phase begins.
        max_steps: number of steps after which the next phase begins in any case.
        max_action: bound on the translational part of the action, in (0, 1].
        max_tilt: bound on the rotational components of the action about the horizontal axes, in (0, 1].
        noise: standard deviation of the action noise; it decreases to 0 within 5 cm of the target.
    """

    target: Callable[[LowDim], Pose]
    gripper: float
    tolerance: float = 0.02
    angle_tolerance: float = 0.15
    settle: int = 1
    max_steps: int = 60
    max_action: float = 1.0
    max_tilt: float = 0.5
    noise: float = 0.0


class Expert(ABC):
    """A scripted expert that acts on low-dimensional observations.

    Subclasses define the phases in `plan`. The seed fixes their random variation. If the task is not solved after the
    last phase, the expert plans again and starts over.
    """

    task: str

    def reset(self, obs: LowDim, seed: int) -> None:
        """Plan an episode.

        Args:
            obs: the low-dimensional observations of the initial state, by robomimic's names.
            seed: fixes the random variation.
        """
        self._rng = np.random.default_rng(seed)
        self._phases = list(self.plan(obs, self._rng))
        self._n_steps = self._n_near = 0

    @abstractmethod
    def plan(self, obs: LowDim, rng: np.random.Generator) -> Sequence[Phase]:
        """Plan the phases of an episode.

        Args:
            obs: the low-dimensional observations of the initial state, by robomimic's names.
            rng: generator of the random variation.
        """

    def act(self, obs: LowDim) -> NDArray[np.float32]:
        """Compute the action (7,) in [-1, 1]: translation (3), rotation (3) and gripper (1).

        Args:
            obs: the current low-dimensional observations, by robomimic's names.
        """
        phase = self._phases[0]
        pose = phase.target(obs)
        offset = pose.position - obs["robot0_eef_pos"]
        turn = rotation_vector(downwards(pose.yaw) @ matrix(obs["robot0_eef_quat"]).T)
        distance, angle = float(np.linalg.norm(offset)), float(np.linalg.norm(turn))
        self._advance(obs, phase, distance, angle)
        translation = _shorten(_GAIN * offset / _METRES, phase.max_action)
        rotation = _shorten(_GAIN * turn / _RADIANS, 0.5)
        rotation[:2] = np.clip(rotation[:2], -phase.max_tilt, phase.max_tilt)
        noise = phase.noise * min(1.0, distance / _METRES) * self._rng.standard_normal(6) * ([1.0] * 3 + [0.2] * 3)
        action = np.concatenate([translation, rotation]) + noise
        return np.clip(np.append(action, phase.gripper), -1.0, 1.0).astype(np.float32)

    def _advance(self, obs: LowDim, phase: Phase, distance: float, angle: float) -> None:
        near = distance < phase.tolerance and angle < phase.angle_tolerance
        self._n_steps += 1
        self._n_near = self._n_near + 1 if near else 0
        if self._n_near >= phase.settle or self._n_steps >= phase.max_steps:
            self._phases.pop(0)
            self._n_steps = self._n_near = 0
            if not self._phases:
                self._phases = list(self.plan(obs, self._rng))


def downwards(yaw: float) -> NDArray[np.float64]:
    """Compute the rotation matrix (3, 3) of a hand that points straight down.

    Args:
        yaw: angle of the hand's first axis about the vertical, radians.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, -1.0]])


def matrix(quaternion: NDArray[Any]) -> NDArray[np.float64]:
    """Convert a quaternion to a rotation matrix (3, 3).

    Args:
        quaternion: (4,), with the real part last, as in robosuite.
    """
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert a rotation matrix to a rotation vector (3,), radians; valid for angles below pi.

    Args:
        rotation: rotation matrix (3, 3).
    """
    skew = 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine = float(np.linalg.norm(skew))
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    return skew if sine < 1e-9 else skew * (angle / sine)


def heading(rotation: NDArray[np.float64]) -> float:
    """Return the angle of a rotation's first axis about the vertical, radians.

    Args:
        rotation: rotation matrix (3, 3).
    """
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def nearest_turn(angle: float, step: float, reference: float = 0.0) -> float:
    """Return the angle `angle + k * step`, k an integer, that is nearest to a reference.

    Args:
        angle: radians.
        step: rotational symmetry of the object, radians.
        reference: radians.
    """
    return angle + step * round((reference - angle) / step)


def _shorten(vector: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    return vector * min(1.0, length / max(float(np.abs(vector).max()), 1e-9))
