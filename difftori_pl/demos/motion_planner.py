"""Motion planning with mplib for the Panda arm in ManiSkill2 tasks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.errors import MissingPackageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPEN, CLOSED = 1.0, -1.0
"""Gripper component of an action."""


class PlanningError(Exception):
    """No motion was found, so the episode has failed."""


class MotionPlanner:
    """Plan and execute motions of the gripper: a screw motion if one is found, else a sampled path.

    Args:
        env: a ManiSkill2 task with a Panda arm and the controller `pd_joint_pos`, at the start of an episode.

    Raises:
        MissingPackageError: mplib is not installed.
    """

    def __init__(self, env: Any) -> None:
        try:
            mplib: Any = importlib.import_module("mplib")
        except ImportError as error:
            raise MissingPackageError("mplib is not installed: pip install 'difftori-pl[maniskill]'") from error
        self._env = env
        self._pose = mplib.Pose
        task = env.unwrapped
        self._robot = task.agent.robot
        self._gripper = OPEN
        self.info: dict[str, Any] = {}
        from mani_skill2 import PACKAGE_ASSET_DIR

        urdf = str(task.agent.urdf_path).format(PACKAGE_ASSET_DIR=PACKAGE_ASSET_DIR)
        self._planner = mplib.Planner(
            urdf,
            "panda_hand_tcp",
            srdf=urdf.replace(".urdf", ".srdf"),
            user_link_names=[link.get_name() for link in self._robot.get_links()],
            user_joint_names=[joint.get_name() for joint in self._robot.get_active_joints()],
            joint_vel_limits=np.full(7, 0.9),
            joint_acc_limits=np.full(7, 0.9),
        )
        base = self._robot.get_root_pose()
        self._planner.set_base_pose(mplib.Pose(base.p, base.q))
        self._time_step = task.control_timestep

    def move_to(self, pose: Any, n_settle: int = 0) -> None:
        """Move the centre of the gripper to a pose.

        Args:
            pose: SAPIEN pose in the world frame.
            n_settle: number of steps to wait at the pose, because the arm lags its commands by some millimetres.

        Raises:
            PlanningError: no motion was found.
        """
        goal, now = self._pose(pose.p, pose.q), self._robot.get_qpos()
        plan: dict[str, Any] = self._planner.plan_screw(goal, now, time_step=self._time_step)
        if plan["status"] != "Success":
            plan = self._planner.plan_pose(goal, now, time_step=self._time_step)
        if plan["status"] != "Success":
            raise PlanningError(plan["status"])
        for joints in [*plan["position"], *[plan["position"][-1]] * n_settle]:
            self._act(joints)

    def grip(self, gripper: float, n_steps: int = 6) -> None:
        """Open or close the gripper and hold the arm still for `n_steps`."""
        self._gripper = gripper
        joints = self._robot.get_qpos()[:7]
        for _ in range(n_steps):
            self._act(joints)

    def _act(self, joints: NDArray[np.float64]) -> None:
        *_, self.info = self._env.step(np.append(joints[:7], self._gripper).astype(np.float32))
