"""What a motion-planned expert does in each ManiSkill2 task: a few poses of the gripper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from difftori_pl.demos.motion_planner import CLOSED, MotionPlanner

DOWN = np.array([0.0, 0.0, -1.0])
ABOVE = [0.0, 0.0, -0.08]
"""From a grasp back along the gripper's own axis, in metres."""


def pick_cube(task: Any, arm: MotionPlanner) -> None:
    """Grasp the cube from above and carry it to the goal."""
    grasp = _grasp(task, task.obj, arm)
    arm.move_to(type(grasp)(task.goal_pos, grasp.q))
    arm.grip(CLOSED)


def lift_cube(task: Any, arm: MotionPlanner) -> None:
    """Grasp the cube from above and lift it somewhat higher than asked for."""
    height = task.goal_pos + np.array([0, 0, 0.02])
    grasp = _grasp(task, task.obj, arm)
    arm.move_to(type(grasp)(height, grasp.q))
    arm.grip(CLOSED)


EXPERTS: dict[str, Callable[[Any, MotionPlanner], None]] = {
    "PickCube-v0": pick_cube,
    "LiftCube-v0": lift_cube,
}
"""By ManiSkill2's names of the tasks."""


def _grasp(task: Any, cube: Any, arm: MotionPlanner) -> Any:
    """Grasp a cube that lies flat; the pose of the gripper."""
    axes = cube.pose.to_transformation_matrix()[:3, :3]
    closing = task.tcp.pose.to_transformation_matrix()[:3, 1]
    # Of the cube's level axes the one that the fingers need to turn least for, either way around.
    level = [sign * axes[:, i] for i in range(3) if abs(axes[2, i]) < 0.5 for sign in (1, -1)]
    axis = max(level, key=lambda direction: float(direction @ closing))
    axis = np.array([axis[0], axis[1], 0.0]) / np.hypot(axis[0], axis[1])
    grasp = task.agent.build_grasp_pose(DOWN, axis, cube.pose.p)
    arm.move_to(grasp * type(grasp)(ABOVE))
    arm.move_to(grasp)
    arm.grip(CLOSED)
    return grasp
