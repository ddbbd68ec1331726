"""Each fault of a robomimic file has one message, the same from `check` and from the datamodule."""

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules import DataError, RobomimicDataModule
from datamodules.errors import MissingDataError
from datamodules.formats.checks import check, summary
from datamodules.formats.faults import Request
from tests.data import write_robomimic

IMAGE = "agentview_image"
REQUEST = Request(["object"], [IMAGE], action_dim=7)


def set_value(name: str, at: tuple[int, ...], value: float) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        file[name][at] = value

    return spoil


def delete(*names: str) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return spoil


def replace(name: str, value: np.ndarray) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return spoil


def set_attribute(group: str, name: str, value: object) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        file[group].attrs[name] = value

    return spoil


FAULTS = {
    "no_data": (delete("data"), r"expected a group `data` with the demos, found mask"),
    "no_demos": (delete("data/demo_0", "data/demo_1", "data/demo_2"), r"expected demos under `data`, found none"),
    "env_args": (set_attribute("data", "env_args", "Lift"), r"expected a JSON object in the attribute env_args"),
    "absent_demo": (replace("mask/few", np.array(["demo_9"], "S")), r"mask/few: .* found demo_9, which is absent"),
    "no_actions": (delete("data/demo_1/actions"), r"demo_1: expected an array `actions`, found none"),
    "no_obs": (delete("data/demo_1/obs"), r"demo_1: .* raw recording without them\. .*dataset_states_to_obs"),
    "no_next_obs": (delete("data/demo_1/next_obs"), r"demo_1: expected `next_obs`, found none\. .*load_next_obs"),
    "missing_key": (
        delete("data/demo_1/obs/object"),
        rf"demo_1: expected the observation 'object' in `obs`, found {IMAGE}, robot0_eef_pos",
    ),
    "no_rewards": (delete("data/demo_1/rewards"), r"demo_1: expected `rewards`, found none\. .*not replaced by zeros"),
    "no_dones": (delete("data/demo_1/dones"), r"demo_1: expected `dones`, found none\. .*not replaced by zeros"),
    "empty_demo": (replace("data/demo_1/actions", np.zeros((0, 7))), r"demo_1: expected at least one step, found none"),
    "num_samples": (set_attribute("data/demo_1", "num_samples", 99), r"demo_1: .* number of actions, 12, found 99"),
    "length": (
        replace("data/demo_1/obs/object", np.zeros((11, 5))),
        r"demo_1: expected 12 steps in obs/object, as in actions, found 11",
    ),
    "action_dim": (replace("data/demo_1/actions", np.zeros((12, 4))), r"demo_1: expected actions of size 7, found 4"),
    "shape": (
        replace("data/demo_1/obs/object", np.zeros((12, 6))),
        r"demo_1: expected obs/object of shape \(5,\) at each step, as in the first demo, found \(6,\)",
    ),
    "array_format": (
        replace("data/demo_1/obs/object", np.zeros(12, "S3")),
        r"demo_1: expected obs/object to be numbers \(steps, size\), found \|S3 \(12,\)",
    ),
    "image_format": (
        replace(f"data/demo_1/obs/{IMAGE}", np.zeros((12, 8, 8, 3), np.float32)),
        r"demo_1: expected obs/agentview_image to be uint8 images .* found float32 \(12, 8, 8, 3\)",
    ),
    "not_finite": (
        set_value("data/demo_1/obs/object", (4, 2), np.inf),
        r"demo_1, step 4: expected finite numbers in obs/object, found inf",
    ),
    "action_range": (
        set_value("data/demo_1/actions", (6, 2), 1.79),
        r"demo_1, step 6: expected actions in \[-1, 1\], found 1.79 at coordinate 2\. .*controller",
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_robomimic(tmp_path / "demos.hdf5", image_keys=[IMAGE], masks={"few": ["demo_0", "demo_1"]})


def datamodule(path: Path) -> RobomimicDataModule:
    return RobomimicDataModule(str(path), ["object"], 7, [IMAGE], load_next_obs=True, load_rewards=True)


def test_a_valid_file_has_no_faults(path: Path) -> None:
    assert check(path) == check(path, REQUEST) == []


@pytest.mark.parametrize("rule", FAULTS)
def test_each_fault_has_one_message(path: Path, rule: str) -> None:
    spoil, message = FAULTS[rule]
    with h5py.File(path, "r+") as file:
        spoil(file)
    faults = [fault for fault in check(path, REQUEST) if fault.rule == rule]
    assert len(faults) == 1
    assert re.search(message, str(faults[0]))
    assert faults[0].rule in [fault.rule for fault in check(path)], "also found without named keys"
    with pytest.raises(DataError, match=message) as caught:
        datamodule(path).setup()
    assert str(path) in str(caught.value)


def test_nan_in_actions_names_demo_and_step(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_2/actions"][3, 0] = np.nan
    with pytest.raises(DataError, match=r"demo_2, step 3: expected finite numbers in actions, found nan"):
        datamodule(path).setup()


def test_all_faults_are_reported_and_equal_ones_counted(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["num_samples"] = 1
        for demo in ("demo_1", "demo_2"):
            del file[f"data/{demo}/rewards"]
    faults = check(path)
    assert [(fault.rule, fault.where, fault.n_more) for fault in faults] == [
        ("num_samples", "demo_0", 0),
        ("no_rewards", "demo_1", 1),
    ]
    assert "(and the same in 1 more)" in str(faults[1])
    with pytest.raises(DataError, match=r"1 of 2 faults: `difftori data check` lists them"):
        datamodule(path).setup()


def test_arrays_that_are_not_requested_may_be_missing(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            del demo["next_obs"], demo["rewards"], demo["dones"]
    RobomimicDataModule(str(path), ["object"], 7).setup()
    assert check(path) == []


def test_faults_of_unused_demos_are_ignored(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_2/actions"][3, 0] = np.nan
    RobomimicDataModule(str(path), ["object"], 7, train_filter="few").setup()


def test_missing_file_message_explains_how_to_get_data(tmp_path: Path) -> None:
    missing = tmp_path / "none.hdf5"
    message = (
        r"no such file.*python -m robomimic.scripts.download_datasets --tasks square --dataset_types ph "
        r"--hdf5_types low_dim --download_dir datasets`.*`difftori demos square --episodes 200`.*"
        r"`difftori data render FILE`"
    )
    with pytest.raises(DataError, match=message):
        datamodule(missing).setup()
    with pytest.raises(MissingDataError, match=message):
        check(missing)


def test_truncated_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"cannot be opened .*truncated.*cut short"):
        datamodule(path).setup()
    assert [fault.rule for fault in check(path)] == ["unreadable"]


def test_other_format(path: Path) -> None:
    path.write_text("no hdf5")
    with pytest.raises(DataError, match=r"expected an HDF5 file, but it cannot be opened"):
        datamodule(path).setup()


def test_damaged_bytes(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/object"]
        file.create_dataset("data/demo_1/obs/object", data=np.arange(60.0).reshape(12, 5), compression="gzip")
        place = file["data/demo_1/obs/object"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    assert [(fault.rule, fault.where) for fault in check(path)] == [("damaged", "demo_1")]


def test_unknown_filter_key_lists_the_available_ones(path: Path) -> None:
    with pytest.raises(DataError, match=r"no filter key 'many'\. The file has: few\."):
        RobomimicDataModule(str(path), ["object"], 7, train_filter="many").setup()


def test_images_are_not_low_dim(path: Path) -> None:
    with pytest.raises(DataError, match=r"expected vectors in obs/agentview_image, found images .*image_keys"):
        RobomimicDataModule(str(path), [IMAGE], 7).setup()


def test_action_size_of_the_model(path: Path) -> None:
    with pytest.raises(DataError, match=r"demo_0: expected actions of size 4, found 7 \(and the same in 2 more\)"):
        RobomimicDataModule(str(path), ["object"], 4).setup()


def test_summary(path: Path) -> None:
    facts = summary(path)
    assert (facts.n_demos, facts.n_steps, facts.shortest, facts.longest) == (3, 28, 7, 12)
    assert facts.shapes["obs/object"] == (5,)
    assert facts.filters == {"few": 2}
    assert len(facts.action_min) == 7
    assert min(facts.action_min) < -0.9
    assert facts.content == "NutAssemblySquare"
