"""The scripted expert for Lift: grasp the cube and raise it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difftori_pl.demos.expert import CLOSE, OPEN, Expert, LowDim, Phase, Pose, heading, matrix, nearest_turn


class LiftExpert(Expert):
    """Expert for Lift."""

    task = "Lift"

    def plan(self, obs: LowDim, rng: np.random.Generator) -> Sequence[Phase]:
        """Plan the phases of an episode.

        Args:
            obs: the low-dimensional observations of the initial state, by robomimic's names.
            rng: generator of the random variation.
        """
        speed = rng.uniform(0.5, 1.0)
        noise = rng.uniform(0.05, 0.2)
        hover = rng.uniform(0.05, 0.1)
        aside = [*rng.normal(0.0, 0.01, 2), 0.0]
        off_centre = [*rng.uniform(-0.004, 0.004, 2), rng.uniform(-0.005, 0.005)]

        def cube(obs: LowDim, above: float) -> Pose:
            # A cube is symmetric under quarter turns.
            yaw = nearest_turn(heading(matrix(obs["cube_quat"])), np.pi / 2)
            return Pose(obs["cube_pos"] + off_centre + [0.0, 0.0, above], yaw)

        def over_cube(obs: LowDim) -> Pose:
            pose = cube(obs, hover)
            return Pose(pose.position + aside, pose.yaw)

        def up(obs: LowDim) -> Pose:
            return Pose(obs["robot0_eef_pos"] + [0.0, 0.0, 0.1], heading(matrix(obs["robot0_eef_quat"])))

        return [
            Phase(over_cube, OPEN, tolerance=0.03, angle_tolerance=0.3, max_action=speed, noise=noise),
            Phase(lambda obs: cube(obs, 0.0), OPEN, 0.008, 0.1, max_action=speed, noise=noise),
            Phase(lambda obs: cube(obs, 0.0), CLOSE, 0.0, max_steps=10, max_action=0.3),
            Phase(up, CLOSE, 0.0, max_steps=40, max_action=speed, noise=noise),
        ]
