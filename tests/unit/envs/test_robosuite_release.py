"""Conversion of the settings of robosuite 1.4 to 1.5, and the settings that have no equivalent."""

from typing import Any

import pytest

from difftori_pl.envs import Robosuite, robosuite_release
from difftori_pl.envs.robosuite_import import OSC_POSE, robomimic_env_kwargs
from difftori_pl.envs.robosuite_release import Release14, Release15
from difftori_pl.errors import ConfigurationError

OLD, NEW = Release14("1.4.1"), Release15("1.5.2")
COMPOSITE = {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "gripper": {"type": "GRIP"}}}}


def test_settings_of_1_4_become_a_composite_controller_with_the_same_gains() -> None:
    converted = NEW.env_kwargs(robomimic_env_kwargs(("Panda",)))
    controller = converted["controller_configs"]
    assert controller["type"] == "BASIC"
    part = controller["body_parts"]["right"]
    assert part.pop("gripper") == {"type": "GRIP"}
    assert (part.pop("input_type"), part.pop("input_ref_frame")) == ("delta", "world")
    assert part == {name: value for name, value in OSC_POSE.items() if name != "control_delta"}
    assert converted["lite_physics"] is False
    assert converted["robots"] == ["Panda"]


def test_absolute_actions_stay_absolute() -> None:
    converted = NEW.env_kwargs({"controller_configs": {**OSC_POSE, "control_delta": False}})
    assert converted["controller_configs"]["body_parts"]["right"]["input_type"] == "absolute"


def test_each_robot_keeps_its_controller() -> None:
    stiff = {**OSC_POSE, "kp": 300}
    converted = NEW.env_kwargs({"controller_configs": [OSC_POSE, stiff], "env_configuration": "single-arm-opposed"})
    gains = [controller["body_parts"]["right"]["kp"] for controller in converted["controller_configs"]]
    assert gains == [150, 300]
    assert converted["env_configuration"] == "opposed"


def test_settings_of_1_5_are_not_changed() -> None:
    kwargs = {"controller_configs": COMPOSITE, "lite_physics": False, "renderer": "mujoco", "robots": ["Panda"]}
    assert NEW.env_kwargs(kwargs) == kwargs
    # Without the entry, the file was recorded with robosuite's default.
    assert NEW.env_kwargs({"controller_configs": COMPOSITE})["lite_physics"] is True


def test_conversion_twice_equals_conversion_once() -> None:
    once = NEW.env_kwargs(robomimic_env_kwargs(("Panda", "Panda")))
    assert NEW.env_kwargs(once) == once


def test_settings_of_1_4_are_not_changed_in_1_4() -> None:
    assert OLD.env_kwargs(robomimic_env_kwargs(("Panda",))) == robomimic_env_kwargs(("Panda",))


@pytest.mark.parametrize("controllers", [COMPOSITE, [COMPOSITE]])
def test_a_composite_controller_is_refused_in_1_4(controllers: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"body_parts.* of robosuite 1\.5, but 1\.4\.1 is installed: "):
        OLD.env_kwargs({"controller_configs": controllers})


@pytest.mark.parametrize("kind", ["OSC_POSITION", "IK_POSE", "JOINT_VELOCITY"])
def test_a_controller_without_equivalent_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"the controller {kind} of robosuite 1\.4 has no equivalent in 1\.5"):
        NEW.env_kwargs({"controller_configs": {"type": kind}})


@pytest.mark.parametrize(
    ("name", "value"),
    [("interpolation", "linear"), ("position_limits", [[0, 0, 0], [1, 1, 1]]), ("orientation_limits", [-1, 1])],
)
def test_limits_and_interpolation_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} of the controller OSC_POSE has no equivalent"):
        NEW.env_kwargs({"controller_configs": {**OSC_POSE, name: value}})


@pytest.mark.parametrize("robots", ["Baxter", ["Baxter"]])
def test_a_robot_with_two_arms_is_refused(robots: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"for Baxter, which has two arms"):
        NEW.env_kwargs({"controller_configs": OSC_POSE, "robots": robots})


def test_a_file_of_1_5_is_refused_in_1_4(monkeypatch: pytest.MonkeyPatch) -> None:
    env_args = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {"robots": ["Panda"]}}
    monkeypatch.setattr(robosuite_release, "version", lambda _: "1.4.1")
    with pytest.raises(ConfigurationError, match=r"recorded with robosuite 1\.5\.1, but 1\.4\.1 is installed: "):
        Robosuite.from_env_args(env_args)
    monkeypatch.setattr(robosuite_release, "version", lambda _: "1.5.2")
    assert Robosuite.from_env_args(env_args).task == "Lift"
    assert Robosuite.from_env_args({**env_args, "env_version": "1.4.1"}).interface["robosuite"] == "1.5"
