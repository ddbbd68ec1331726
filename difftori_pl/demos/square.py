"""The scripted expert for Square: grasp the nut by its handle, carry it to the square peg and release it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from difftori_pl.demos.expert import CLOSE, OPEN, Expert, LowDim, Phase, Pose, heading, matrix, nearest_turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEG = np.array([0.23, 0.1])
"""Position of the square peg on the table, metres (robosuite's pegs_arena.xml)."""

PEG_TOP = 0.95
"""Height of the top of the peg, metres."""

_HANDLE = 0.066
"""Distance of the grasp on the handle from the centre of the nut, metres."""

_WRIST = 1.75
"""Largest turn of the hand to either side within the limits of the wrist joint, radians."""

_TILT = 0.05
"""Bound on the tilt action above the peg. The arm is almost straight there, and robosuite's controller decouples
position and orientation, so a large correction of the tilt would displace the hand by centimetres."""


class SquareExpert(Expert):
    """Expert for NutAssemblySquare. It observes the pose of the held nut, so it tolerates a grasp that slips."""

    task = "NutAssemblySquare"

    def plan(self, obs: LowDim, rng: np.random.Generator) -> Sequence[Phase]:
        """Plan the phases of an episode.

        Args:
            obs: the low-dimensional observations of the initial state, by robomimic's names.
            rng: generator of the random variation.
        """
        speed = rng.uniform(0.65, 1.0)
        noise = rng.uniform(0.05, 0.2)
        reach = _HANDLE + rng.uniform(-0.006, 0.008)
        hover = rng.uniform(0.06, 0.12)
        aside = np.append(rng.normal(0.0, 0.01, 2), 0.0)
        clearance = rng.uniform(0.03, 0.06)
        depth = rng.uniform(0.005, 0.02)

        def handle(obs: LowDim, above: float) -> Pose:
            middle, rotation = _nut(obs)
            # The hand is symmetric under half turns, so the wrist never needs more than a quarter turn.
            yaw = nearest_turn(heading(rotation), np.pi)
            return Pose(middle + reach * rotation[:, 0] + [0.0, 0.0, above], yaw)

        def at_handle(obs: LowDim) -> Pose:
            pose = handle(obs, 0.001)
            offset = obs["robot0_eef_pos"] - pose.position
            # Too close to the centre of the nut, the fingers would descend onto the nut instead of around the handle.
            misaligned = np.linalg.norm(offset[:2]) > 0.008 and offset[2] > 0.015
            return handle(obs, 0.025) if misaligned else pose

        def over_handle(obs: LowDim) -> Pose:
            pose = handle(obs, hover)
            return Pose(pose.position + aside, pose.yaw)

        def lifted(obs: LowDim) -> Pose:
            position = obs["robot0_eef_pos"].copy()
            position[2] = PEG_TOP + clearance
            return Pose(position, heading(matrix(obs["robot0_eef_quat"])))

        goals: list[float] = []

        def over_peg(obs: LowDim) -> Pose:
            # Chosen only once, so that the expert does not alternate between two headings of equal cost.
            if not goals:
                goals.append(_heading_on_peg(obs))
            return _hand_for_nut(obs, goals[0], PEG_TOP + clearance)

        def on_peg(obs: LowDim) -> Pose:
            middle, _ = _nut(obs)
            misaligned = np.linalg.norm(middle[:2] - PEG) > 0.006 and middle[2] > PEG_TOP + 0.005
            return _hand_for_nut(obs, goals[0], PEG_TOP + 0.02 if misaligned else PEG_TOP - depth)

        def away(obs: LowDim) -> Pose:
            return Pose(obs["robot0_eef_pos"] + [0.0, 0.0, 0.1], heading(matrix(obs["robot0_eef_quat"])))

        return [
            Phase(over_handle, OPEN, tolerance=0.03, angle_tolerance=0.3, max_action=speed, noise=noise),
            Phase(lambda obs: handle(obs, 0.025), OPEN, 0.008, 0.1, settle=2, max_action=0.6 * speed, noise=noise),
            Phase(at_handle, OPEN, 0.005, 0.1, max_steps=30, max_action=0.4),
            Phase(at_handle, CLOSE, 0.0, max_steps=11, max_action=0.3),
            Phase(lifted, CLOSE, 0.03, 3.0, max_action=speed, noise=noise),
            Phase(over_peg, CLOSE, 0.01, 0.1, max_steps=80, max_action=speed, max_tilt=_TILT, noise=noise),
            Phase(over_peg, CLOSE, 0.006, 0.06, settle=2, max_steps=30, max_action=0.6, max_tilt=_TILT),
            Phase(on_peg, CLOSE, 0.006, 0.1, max_steps=50, max_action=0.5, max_tilt=_TILT),
            Phase(on_peg, OPEN, 0.0, max_steps=4, max_action=0.3),
            Phase(away, OPEN, 0.0, max_steps=12, max_action=speed, noise=noise),
        ]


def _nut(obs: LowDim) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the nut's centre (3,), metres, and its rotation matrix (3, 3); the handle lies along the first axis."""
    return obs["SquareNut_pos"], matrix(obs["SquareNut_quat"])


def _heading_on_peg(obs: LowDim) -> float:
    """Choose the heading of the nut, among the four that fit the peg, that is easiest to reach with this grasp."""
    middle, rotation = _nut(obs)
    arm = (obs["robot0_eef_pos"] - middle)[:2]
    hand, held = heading(matrix(obs["robot0_eef_quat"])), heading(rotation)

    def effort(turn: float) -> float:
        direction = np.arctan2(arm[1], arm[0]) + turn
        # The elbow is stretched if the hand is at the side of the peg. The hand cannot reach behind the peg or turn by
        # more than `_WRIST`.
        stretch = 4.0 * max(0.0, np.cos(direction)) + 2.0 * max(0.0, np.sin(direction))
        return float(abs(turn) + stretch + 10.0 * (abs(hand + turn) > _WRIST))

    turns = [nearest_turn(fit - held, 2 * np.pi) for fit in np.arange(4) * np.pi / 2]
    return held + min(turns, key=effort)


def _hand_for_nut(obs: LowDim, goal: float, height: float) -> Pose:
    """Compute the pose of the hand at which the held nut is centred above the peg.

    Args:
        obs: low-dimensional observations.
        goal: target heading of the nut, radians.
        height: target height of the nut's centre, metres.
    """
    middle, rotation = _nut(obs)
    arm = obs["robot0_eef_pos"] - middle
    turn = nearest_turn(goal - heading(rotation), 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    across = PEG + np.array([cos * arm[0] - sin * arm[1], sin * arm[0] + cos * arm[1]])
    return Pose(np.array([*across, height + arm[2]]), heading(matrix(obs["robot0_eef_quat"])) + turn)
