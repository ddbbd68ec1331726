"""`difftori data check` and training report the same first fault for unusual files."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules import DataError, ManiSkillDataModule, PushTDataModule, RobomimicDataModule
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.formats.checks import check
from tests.data import write_maniskill, write_pusht, write_robomimic
from tests.unit.datamodules import test_maniskill, test_pusht
from tests.unit.datamodules.formats import test_checks

IMAGE = test_checks.IMAGE
Edit = Callable[[h5py.File], None]


def training_fault(data: DemonstrationDataModule) -> str:
    """Return the first fault that training finds, or an empty string."""
    try:
        data.setup()
        for column in data._train_dataset.columns.values():
            list(column.episodes())
    except DataError as error:
        text = str(error).removeprefix(f"{data.file.path}: ").split(" This is 1 of")[0]
        text = re.sub(r" \(and the same in \d+ more\)", "", text)
        return text.replace(f"{data.file.path.name}: ", "", 1)
    finally:
        data.file.close()
    return ""


def check_fault(path: Path) -> str:
    """Return the first fault that `check` finds, or an empty string."""
    faults = check(path)
    first = re.sub(r" \(and the same in \d+ more\)", "", str(faults[0])) if faults else ""
    return first.removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")


def assert_same_fault(path: Path, data: DemonstrationDataModule, message: str | None) -> None:
    found = training_fault(data)
    assert found.rstrip(".") == check_fault(path).removesuffix(" Nothing was checked.").rstrip(".")
    assert (message or "") in found
    assert bool(found) == bool(message)


def set_all(name: str, make: Callable[[int], np.ndarray], **options: object) -> Edit:
    def spoil(file: h5py.File) -> None:
        for demo in file["data"].values():
            values = make(len(demo["actions"]))
            if name in demo:
                del demo[name]
            demo.create_dataset(name, data=values, **options)

    return spoil


def attribute(name: str, value: object) -> Edit:
    def spoil(file: h5py.File) -> None:
        file["data"].attrs[name] = value

    return spoil


def without_attributes(file: h5py.File) -> None:
    for item in (file["data"], *file["data"].values()):
        for name in list(item.attrs):
            del item.attrs[name]


def mask(values: np.ndarray | list[str]) -> Edit:
    def spoil(file: h5py.File) -> None:
        del file["mask/few"]
        file["mask/few"] = values

    return spoil


def extra_observation(file: h5py.File) -> None:
    for demo in file["data"].values():
        for key, item in list(demo["obs"].items()):
            values = np.concatenate([item[()], item[-1:]])
            del demo["obs"][key]
            demo["obs"][key] = values


def loose_array(file: h5py.File) -> None:
    file["data/total_steps"] = np.arange(3)


def drop_key_of_the_first(file: h5py.File) -> None:
    del file["data/demo_0/obs/object"]


def put(name: str, value: float) -> Edit:
    def spoil(file: h5py.File) -> None:
        values = file[name][()]
        values[(2,) + (0,) * (values.ndim - 1)] = value
        file[name][...] = values

    return spoil


ROBOMIMIC: dict[str, tuple[Edit, str | None]] = {
    "uint8 vectors": (set_all("obs/object", lambda n: np.ones((n, 5), np.uint8)), None),
    "integer actions": (set_all("actions", lambda n: np.ones((n, 7), np.int64)), None),
    "float16": (set_all("actions", lambda n: np.full((n, 7), 0.5, np.float16)), None),
    "compressed": (set_all("actions", lambda n: np.zeros((n, 7)), compression="gzip"), None),
    "no attributes": (without_attributes, None),
    "strings that are not requested": (set_all("obs/language", lambda n: np.array([b"push"] * n)), None),
    "one extra observation": (extra_observation, None),
    "an array among the demos": (loose_array, None),
    "mask of bytes": (mask(np.array(["demo_0"], "S")), None),
    "mask of strings": (mask(["demo_0"]), None),
    "actions above 1 by rounding": (set_all("actions", lambda n: np.full((n, 7), 1.0000001)), None),
    "actions of three axes": (
        set_all("actions", lambda n: np.zeros((n, 1, 7))),
        "numbers (steps, size), found float64",
    ),
    "actions of one axis": (set_all("actions", lambda n: np.zeros(n)), "numbers (steps, size), found float64"),
    "a missing key in the first demo": (drop_key_of_the_first, "demo_0: expected the observation 'object' in `obs`"),
    "channels first": (
        set_all(f"obs/{IMAGE}", lambda n: np.zeros((n, 3, 8, 8), np.uint8)),
        "The channels come first",
    ),
    "float images": (set_all(f"obs/{IMAGE}", lambda n: np.zeros((n, 8, 8, 3))), "uint8 images"),
    "mask of numbers": (mask(np.arange(2)), "mask/few: expected names of demos, found int64 (2,)"),
    "env_args of numbers": (attribute("env_args", np.arange(3)), "expected a JSON object in the attribute env_args"),
    "NaN in rewards": (
        put("data/demo_1/rewards", np.nan),
        "demo_1, step 2: expected finite",
    ),
    "NaN in next_obs": (
        put("data/demo_1/next_obs/object", np.nan),
        "demo_1, step 2: expected finite numbers in next_obs/object, found nan at coordinate 0",
    ),
    "too large for float32": (
        put("data/demo_1/obs/object", 1e39),
        "demo_1, step 2: expected finite numbers in obs/object, found 1e+39",
    ),
}


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    return write_robomimic(tmp_path / "demos.hdf5", image_keys=[IMAGE], masks={"few": ["demo_0", "demo_1"]})


def robomimic(path: Path) -> RobomimicDataModule:
    keys = ["object", "robot0_eef_pos"]
    options = {"load_next_obs": True, "load_rewards": True, "validation_fraction": 0.0}
    return RobomimicDataModule(str(path), keys, 7, [IMAGE], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ROBOMIMIC)
def test_robomimic(demos: Path, name: str) -> None:
    spoil, message = ROBOMIMIC[name]
    with h5py.File(demos, "r+") as file:
        spoil(file)
    assert_same_fault(demos, robomimic(demos), message)


@pytest.mark.parametrize("rule", sorted(test_checks.FAULTS.keys() - {"action_dim", "shape"}))
def test_faults_of_robomimic(demos: Path, rule: str) -> None:
    with h5py.File(demos, "r+") as file:
        test_checks.FAULTS[rule][0](file)
    assert training_fault(robomimic(demos)).rstrip(".") == check_fault(demos).rstrip(".")


def test_damaged_images(demos: Path) -> None:
    with h5py.File(demos) as file:
        place = file[f"data/demo_1/obs/{IMAGE}"].id.get_chunk_info(0)
    content = bytearray(demos.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    demos.write_bytes(content)
    assert_same_fault(demos, robomimic(demos), f"demo_1: obs/{IMAGE}: cannot be read (OSError")


def state_dict(file: h5py.File) -> None:
    for demo in file.values():
        del demo["obs/pointcloud"]


def rgb(file: h5py.File) -> None:
    state_dict(file)
    for demo in file.values():
        demo["obs/image/rgb"] = np.zeros((len(demo["actions"]) + 1, 8, 8, 3), np.uint8)


def no_success(file: h5py.File) -> None:
    del file["traj_1/success"]


def wide_actions(file: h5py.File) -> None:
    for demo in file.values():
        values = demo["actions"][()][:, None]
        del demo["actions"]
        demo["actions"] = values


MANISKILL = {
    "state_dict": (test_maniskill.edit(state_dict), "expected states (steps, size) or point clouds as observations"),
    "rgb": (test_maniskill.edit(rgb), "found agent, extra, image"),
    "no success": (test_maniskill.edit(no_success), "traj_1: expected an array `success`, found actions"),
    "actions of three axes": (test_maniskill.edit(wide_actions), "numbers (steps, size), found float32 (6, 1, 7)"),
    "above 1 by rounding": (test_maniskill.put("traj_0/actions", (2, 3), 1.0000001), None),
    "above 1": (test_maniskill.put("traj_0/actions", (2, 3), 1.2), "Actions of a PPO policy"),
    "NaN in joints": (
        test_maniskill.put("traj_0/obs/agent/qpos", (2, 3), np.nan),
        "traj_0, step 2: expected finite numbers in obs/agent/qpos, found nan",
    ),
    "NaN in points": (
        test_maniskill.put("traj_0/obs/pointcloud/xyzw", (2, 4, 0), np.nan),
        "traj_0, step 2: point 4 of the cloud",
    ),
}


@pytest.mark.parametrize("name", MANISKILL)
def test_maniskill_files(tmp_path: Path, name: str) -> None:
    spoil, message = MANISKILL[name]
    path = write_maniskill(tmp_path).rename(tmp_path / "trajectory.h5")
    (tmp_path / "trajectory.pointcloud.pd_ee_delta_pose.json").rename(path.with_suffix(".json"))
    spoil(path)
    assert_same_fault(path, ManiSkillDataModule(str(path), 7, validation_fraction=0.0), message)


def test_maniskill_json_with_wrong_structure(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, obs_mode="state")
    companion = path.with_suffix(".json")
    companion.write_text(json.dumps({"env_info": {"env_kwargs": 3}, "episodes": ["a"]}))
    data = ManiSkillDataModule(str(path), 7)
    assert "expected JSON with env_info and episodes" in training_fault(data)
    assert "expected JSON with env_info and episodes" in check_fault(path)


PUSHT: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "no images": (test_pusht.drop("data/img"), None),
    "no state": (test_pusht.drop("data/state"), "expected an array data/state"),
    "NaN": (
        test_pusht.write("data/state", test_pusht.put((11, 1), np.nan)),
        "episode_1, step 2: expected finite numbers in data/state, found nan at coordinate 1",
    ),
    "outside the board": (
        test_pusht.write("data/action", test_pusht.put((11, 0), 700.0)),
        "episode_1, step 2: expected positions from 0 to 512 in data/action, found 700",
    ),
    "outside the board by rounding": (test_pusht.write("data/action", test_pusht.put((11, 0), 512.0001)), None),
    "channels first": (
        test_pusht.write("data/img", lambda v: np.ascontiguousarray(v.transpose(0, 3, 1, 2))),
        "The channels come first",
    ),
    "episode ends of wrong shape": (
        test_pusht.write("meta/episode_ends", lambda v: v[:, None]),
        "expected whole numbers (episodes,), found int64 (3, 1)",
    ),
    "images up to 1": (test_pusht.write("data/img", lambda v: v / 255), "episode_0: expected images from 0 to 255"),
}


@pytest.mark.parametrize("name", PUSHT)
@pytest.mark.parametrize("zipped", [False, True])
def test_pusht_files(tmp_path: Path, name: str, zipped: bool) -> None:
    spoil, message = PUSHT[name]
    path = write_pusht(tmp_path / "pusht.zarr", image_size=8)
    spoil(path)
    images = ["img"] if (path / "data/img").exists() else []
    if zipped:
        path = Path(shutil.make_archive(str(path), "zip", path))
    data = PushTDataModule(str(path), ["state", "keypoint"], images, validation_fraction=0.0)
    assert_same_fault(path, data, message)
