import sys
from pathlib import Path

import pytest

from datamodules import PointCloudRecipe
from difftori_pl.envs import ManiSkill, vulkan
from difftori_pl.envs.maniskill_import import import_maniskill
from difftori_pl.errors import ConfigurationError, MissingPackageError


def test_missing_maniskill_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"difftori-pl\[maniskill\]"):
        import_maniskill()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_LAYER_PATH", "VK_INSTANCE_LAYERS", "NODEVICE_SELECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("glob.glob", lambda pattern: [])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path / vulkan.FOLDER


def test_missing_vulkan_names_the_command_to_run(no_gpu: Path) -> None:
    with pytest.raises(MissingPackageError, match="make vulkan"):
        vulkan.prepare_vulkan()


def test_the_software_driver_is_selected_unless_the_user_sets_a_driver(
    no_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ: dict[str, str] = {}
    monkeypatch.setattr("os.environ", environ)
    no_gpu.mkdir(parents=True)
    (no_gpu / "ready").touch()
    vulkan.prepare_vulkan()
    assert environ["VK_ICD_FILENAMES"] == str(no_gpu / "lavapipe.json")
    environ["VK_ICD_FILENAMES"] = "mine.json"
    vulkan.prepare_vulkan()
    assert environ["VK_ICD_FILENAMES"] == "mine.json"


def test_the_interface_describes_task_and_observations() -> None:
    interface = ManiSkill("StackCube-v0", cloud=PointCloudRecipe(99)).interface
    assert interface["env_id"] == "StackCube-v0"
    assert (interface["observation"], interface["n_points"]) == ("point_cloud", 99)
    assert ManiSkill().interface["observation"] == "state"


def test_a_horizon_has_at_least_one_step() -> None:
    with pytest.raises(ConfigurationError, match="at least 1, got 0"):
        ManiSkill(max_episode_steps=0)
