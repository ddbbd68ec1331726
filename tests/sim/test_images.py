"""Rendered images equal robosuite's. The comparison runs in a new process: robosuite loads OpenGL only on import."""

import os
import subprocess
import sys

import numpy as np
import pytest

from difftori_pl.envs import Robosuite
from difftori_pl.errors import ConfigurationError

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]

_SCRIPT = """
import os
os.environ["MUJOCO_GL"] = "osmesa"
import numpy as np
from difftori_pl.envs import Robosuite
from difftori_pl.envs.robosuite_import import make_task, robomimic_env_kwargs
from difftori_pl.envs.robosuite_release import find_release
cameras = ["agentview", "robot0_eye_in_hand"]
kwargs = {"has_offscreen_renderer": True, "use_camera_obs": True, "camera_names": cameras}
release = find_release()
raw = make_task("NutAssemblySquare", release.env_kwargs(robomimic_env_kwargs(("Panda",)) | kwargs))
np.random.seed(3)
release.seed(raw, 3)
theirs = raw.reset()
obs, _ = Robosuite("NutAssemblySquare", image_keys=[f"{camera}_image" for camera in cameras])().reset(seed=3)
for camera in cameras:
    ours = obs[f"{camera}_image"].transpose(1, 2, 0)
    # robomimic's wrapper flips robosuite's images vertically.
    assert np.array_equal(ours, theirs[f"{camera}_image"][::-1]), camera
"""


def test_images_equal_those_of_robosuite() -> None:
    # If another test has imported dm_control, its choice of OpenGL is still in the environment.
    env = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"}
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr


def test_images_have_the_layout_of_the_batch_contract_and_depend_on_the_state() -> None:
    env = Robosuite("Lift", image_keys=["agentview_image"], image_size=32, shadows=False, multisampling=False)()
    first, _ = env.reset(seed=0)
    assert env.observation_space.contains(first)
    assert first["agentview_image"].shape == (3, 32, 32)
    second, _ = env.reset(seed=1)
    again, _ = env.reset(seed=0)
    assert not np.array_equal(first["agentview_image"], second["agentview_image"])
    np.testing.assert_array_equal(first["agentview_image"], again["agentview_image"])
    assert env.render().shape == (256, 256, 3)
    env.close()


def test_an_unknown_camera_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="agentview"):
        Robosuite("Lift", image_keys=["attic_image"])()
