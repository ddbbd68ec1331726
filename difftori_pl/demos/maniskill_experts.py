"""Motion-planned experts for ManiSkill2 tasks, each a short sequence of gripper poses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.demos.motion_planner import CLOSED, OPEN, MotionPlanner

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOWN = np.array([0.0, 0.0, -1.0])
ABOVE = [0.0, 0.0, -0.08]
"""Offset from a grasp back along the gripper's approach axis, in the gripper frame, in metres."""


def pick_cube(task: Any, arm: MotionPlanner) -> None:
    """Grasp the cube from above and carry it to the goal."""
    grasp = _grasp_cube(task, task.obj, arm)
    arm.move_to(type(grasp)(task.goal_pos, grasp.q))
    arm.grip(CLOSED)


def lift_cube(task: Any, arm: MotionPlanner) -> None:
    """Grasp the cube from above and lift it 2 cm higher than the goal."""
    height = task.goal_pos + np.array([0, 0, 0.02])
    grasp = _grasp_cube(task, task.obj, arm)
    arm.move_to(type(grasp)(height, grasp.q))
    arm.grip(CLOSED)


def stack_cube(task: Any, arm: MotionPlanner) -> None:
    """Grasp the red cube from above and release it on the green one."""
    grasp = _grasp_cube(task, task.cubeA, arm)
    pose, hand = type(grasp), grasp * type(grasp)(ABOVE)
    arm.move_to(hand)
    for height in (0.05, 0.002):
        on_top = task.cubeB.pose.p + np.array([0.0, 0.0, 2 * task.box_half_size[2] + height])
        hand = _carry(task.cubeA, pose(on_top, task.cubeA.pose.q), hand, arm)
    arm.grip(OPEN)


def insert_peg(task: Any, arm: MotionPlanner) -> None:
    """Grasp the peg near its tail, align its head with the hole in several corrections, and insert it."""
    pose, half_length = type(task.peg.pose), float(task.peg_half_size[0])
    tail = task.peg.pose * pose([-max(0.05, half_length / 2 + 0.01), 0, 0])
    hand = _grasp(task, tail.p, [tail.to_transformation_matrix()[:3, 1]], arm) * pose(ABOVE)
    arm.move_to(hand)
    for _ in range(4):
        hand = _carry(task.peg, task.goal_pose * pose([-half_length - 0.01, 0, 0]), hand, arm)
    _carry(task.peg, task.goal_pose, hand, arm)


EXPERTS: dict[str, Callable[[Any, MotionPlanner], None]] = {
    "PickCube-v0": pick_cube,
    "LiftCube-v0": lift_cube,
    "StackCube-v0": stack_cube,
    "PegInsertionSide-v0": insert_peg,
}
"""Experts by ManiSkill2's task names."""


def _grasp_cube(task: Any, cube: Any, arm: MotionPlanner) -> Any:
    """Grasp a cube that lies flat, and return the pose of the gripper."""
    axes = cube.pose.to_transformation_matrix()[:3, :3]
    return _grasp(task, cube.pose.p, [axes[:, i] for i in range(3) if abs(axes[2, i]) < 0.5], arm)


def _grasp(task: Any, centre: NDArray[Any], axes: Sequence[NDArray[Any]], arm: MotionPlanner) -> Any:
    """Grasp at a point from above, with the fingers closing along a horizontal axis; return the gripper pose."""
    closing = task.tcp.pose.to_transformation_matrix()[:3, 1]
    # Choose the axis and sign that need the smallest turn of the fingers.
    axis = max((sign * axis for axis in axes for sign in (1, -1)), key=lambda direction: float(direction @ closing))
    axis = np.array([axis[0], axis[1], 0.0]) / np.hypot(axis[0], axis[1])
    grasp = task.agent.build_grasp_pose(DOWN, axis, centre)
    arm.move_to(grasp * type(grasp)(ABOVE))
    arm.move_to(grasp)
    arm.grip(CLOSED)
    return grasp


def _carry(held: Any, goal: Any, hand: Any, arm: MotionPlanner) -> Any:
    """Move the held object to a pose, and return the commanded pose of the gripper.

    The arm sags by some millimetres under the load, so the error of the object is added to the previous command.
    """
    hand = goal * held.pose.inv() * hand
    arm.move_to(hand, n_settle=6)
    return hand
