"""`ManiSkill3DataModule` reads a recording of ManiSkill3 exactly and names every fault of a file."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules import DataError, ManiSkill3DataModule, ManiSkillDataModule, ObservationSpec
from datamodules.formats.checks import check, summary
from datamodules.formats.maniskill3_file import ManiSkill3File
from datamodules.formats.maniskill_file import ManiSkillFile
from difftori_pl.cli import main
from tests.data import write_maniskill
from tests.maniskill3_data import FIXTURE, IMAGE, VECTORS, copy_maniskill3

Spoil = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return copy_maniskill3(tmp_path)


def datamodule(path: Path, **arguments: object) -> ManiSkill3DataModule:
    chosen = {"action_dim": 4, "obs_keys": list(VECTORS), "horizon": 2, "batch_size": 999, "validation_fraction": 0.0}
    return ManiSkill3DataModule(**{"path": str(path), **chosen, **arguments})


@pytest.mark.parametrize("cached", [False, True])
def test_vectors_and_images_are_read_exactly(cached: bool, tmp_path: Path) -> None:
    data = datamodule(FIXTURE, image_keys=[IMAGE], frame_cache=str(tmp_path) if cached else None)
    (batch,) = data.predict_dataloader()
    with h5py.File(FIXTURE) as file:
        for name, read in [("actions", batch["actions"]), *((f"obs/{key}", batch["obs"][key]) for key in VECTORS)]:
            stored = np.concatenate([file[demo][name][: len(file[demo]["actions"])] for demo in data.demos])
            np.testing.assert_array_equal(read[:, 0].numpy(), stored.reshape(len(stored), -1).astype(np.float32))
        row = len(file["traj_0/actions"]) + 4
        image = file["traj_1/obs"][IMAGE][4]
        np.testing.assert_array_equal(batch["obs"][IMAGE][row, 0].numpy(), np.moveaxis(image, -1, 0))
    assert batch["obs"]["extra/is_grasped"].unique().tolist() == [0.0, 1.0]
    assert data.obs_specs["agent/qpos"] == ObservationSpec.vector(9)
    assert data.obs_specs[IMAGE] == ObservationSpec.image(3, 32, 32)
    assert set(data.statistics()) == {"actions", *VECTORS}


def test_the_interface_has_the_task_and_the_controller() -> None:
    data = datamodule(FIXTURE, task="PickCube-v1", control_mode="pd_ee_delta_pos")
    assert {"env_id": "PickCube-v1", "control_mode": "pd_ee_delta_pos"}.items() <= data.interface.items()
    assert data.task == "PickCube-v1"


def edit(change: Callable[[h5py.File], None]) -> Spoil:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return spoil


def put(name: str, values: object, at: object = ()) -> Spoil:
    """Replace an array, or a part of it; None removes it."""

    def change(file: h5py.File) -> None:
        stored = file[name][()] if at != () else None
        if stored is not None:
            stored[at] = values
        del file[name]
        if values is not None:
            file[name] = values if stored is None else stored

    return edit(change)


def describe(**changes: object) -> Spoil:
    """Change entries of `env_kwargs` in the JSON file."""

    def spoil(path: Path) -> None:
        meta = json.loads(path.with_suffix(".json").read_text())
        meta["env_info"]["env_kwargs"] |= changes
        path.with_suffix(".json").write_text(json.dumps(meta))

    return spoil


def without_json(path: Path) -> None:
    path.with_suffix(".json").unlink()


def with_damaged_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def without_an_episode(path: Path) -> None:
    meta = json.loads(path.with_suffix(".json").read_text())
    del meta["episodes"][1]
    path.with_suffix(".json").write_text(json.dumps(meta))


def without_trajectories(file: h5py.File) -> None:
    for demo in list(file):
        del file[demo]
    file["data"] = 1.0


def without_observations(file: h5py.File) -> None:
    for demo in file.values():
        del demo["obs"]
        demo.create_group("obs")


def with_two_agents(file: h5py.File) -> None:
    for demo in file.values():
        actions = demo["actions"][()]
        del demo["actions"]
        demo["actions/panda-0"], demo["actions/panda-1"] = actions, actions


def with_grouped_success(file: h5py.File) -> None:
    success = file["traj_0/success"][()]
    del file["traj_0/success"]
    file["traj_0/success/panda-0"] = success


def empty(file: h5py.File) -> None:
    for name in ("actions", "success"):
        del file["traj_1"][name]
    file["traj_1/actions"], file["traj_1/success"] = np.zeros((0, 4), np.float32), np.zeros(0, bool)


def damaged(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values = np.ascontiguousarray(file["traj_0/obs/agent/qpos"][()])
        del file["traj_0/obs/agent/qpos"]
        stored = file.create_dataset("traj_0/obs/agent/qpos", data=values, chunks=values.shape, compression="gzip")
        chunk = stored.id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)


REPLAY = r"python -m mani_skill\.trajectory\.replay_trajectory --traj-path trajectory\.h5 --save-traj --sim-backend"

FAULTS: dict[str, tuple[Spoil, dict[str, object], str]] = {
    "no JSON": (without_json, {}, r"trajectory\.json: no such file.*copy it too"),
    "damaged JSON": (with_damaged_json, {}, r"trajectory\.json: expected JSON with env_info and episodes"),
    "other JSON": (without_an_episode, {}, r"expected the JSON file to list the same .*but it lacks traj_1"),
    "no trajectories": (edit(without_trajectories), {}, r"expected groups traj_0, traj_1, \.\.\., found data"),
    "no observations": (
        edit(without_observations),
        {},
        r"traj_0: expected observations, found a recording without them \(obs_mode none\) \(and the same in 4 more\)\. "
        rf".*{REPLAY} physx_cpu --obs-mode state_dict \(or rgb\)",
    ),
    "no actions": (put("traj_2/actions", None), {}, r"traj_2: expected an array `actions`, found none"),
    "two agents": (edit(with_two_agents), {}, r"found one for each of several agents \(panda-0, panda-1\)"),
    "grouped success": (edit(with_grouped_success), {}, r"traj_0: expected an array `success`, found a group"),
    "task": (describe(), {"task": "StackCube-v1"}, r"of env_id StackCube-v1, found PickCube-v1"),
    "controller": (
        describe(control_mode="pd_joint_pos"),
        {"control_mode": "pd_ee_delta_pos"},
        r"of control_mode pd_ee_delta_pos, found pd_joint_pos.*"
        rf"{REPLAY} physx_cpu --target-control-mode pd_ee_delta_pos",
    ),
    "failure": (
        put("traj_3/success", False, at=-1),
        {},
        r"traj_3: expected success at the end, found a failure.*drop_failed",
    ),
    "empty": (edit(empty), {}, r"traj_1: expected at least one step, found none.*drop_failed"),
    "missing vector": (
        put("traj_0/obs/extra/obj_pose", None),
        {},
        r"traj_0: expected the observation 'extra/obj_pose', found agent/qpos, .*\(obs_mode state_dict\+rgb\)\. "
        rf"Choose one of these keys\. .*{REPLAY} physx_cpu --obs-mode state_dict",
    ),
    "missing image": (
        describe(obs_mode="state_dict"),
        {"image_keys": ["sensor_data/hand_camera/rgb"]},
        rf"'sensor_data/hand_camera/rgb', found .*\(obs_mode state_dict\).*{REPLAY} physx_cpu --obs-mode rgb",
    ),
    "image as vector": (describe(), {"obs_keys": [IMAGE]}, r"expected vectors in obs/sensor_data.*to image_keys"),
    "vector as image": (describe(), {"image_keys": ["agent/qpos"]}, r"expected obs/agent/qpos to be uint8 images"),
    "text": (put("traj_0/obs/agent/qpos", "a"), {}, r"expected obs/agent/qpos to be numbers \(steps, size\)"),
    "short": (
        put("traj_1/obs/agent/qpos", np.zeros((2, 9))),
        {},
        r"traj_1: expected 21 steps in obs/agent/qpos, as in actions, found 2",
    ),
    "other size": (
        put("traj_1/obs/agent/qpos", np.zeros((22, 8))),
        {},
        r"expected obs/agent/qpos of shape \(9,\) at each step, as in the first demo, found \(8,\)",
    ),
    "other action": (describe(), {"action_dim": 7}, r"expected actions of size 7, found 4"),
    "NaN": (
        put("traj_0/obs/agent/qpos", np.nan, at=(2, 3)),
        {},
        r"traj_0, step 2: expected finite numbers in obs/agent/qpos, found nan at coordinate 3",
    ),
    "range": (
        put("traj_0/actions", 1.5, at=(2, 3)),
        {},
        r"traj_0, step 2: expected actions in \[-1, 1\], found 1\.5 .*pd_ee_delta_pos may be absolute.*min_max",
    ),
    "damage": (damaged, {}, r"traj_0: obs/agent/qpos: cannot be read|traj_0.*obs/agent/qpos.*damaged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_messages(name: str, path: Path) -> None:
    spoil, arguments, message = FAULTS[name]
    spoil(path)
    with pytest.raises(DataError, match=message):
        datamodule(path, **arguments).setup()


def test_check_reports_all_faults(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("traj_3/success", False, at=-1)(path)
    put("traj_0/actions", 1.5, at=(2, 3))(path)
    put("traj_1/obs/agent/qpos", np.nan, at=(2, 3))(path)
    put("traj_2/obs/extra/obj_pose", None)(path)
    assert [fault.rule for fault in check(path)] == ["failed_demo", "action_range", "not_finite", "missing_key"]
    with pytest.raises(SystemExit, match=r"4 kinds of fault in .*trajectory\.h5"):
        main(["data", "check", str(path)])


def test_check_describes_a_recording_without_observations(path: Path) -> None:
    edit(without_observations)(path)
    (fault,) = check(path)
    assert (fault.rule, fault.n_more) == ("no_obs", 4)


def test_absolute_actions_are_scaled(path: Path) -> None:
    describe(control_mode="pd_joint_pos")(path)
    put("traj_0/actions", 1.5, at=(2, 3))(path)
    assert check(path) == []
    with pytest.raises(DataError, match=r"Set data\.init_args\.action_scaling to min_max"):
        datamodule(path).setup()
    (batch,) = datamodule(path, action_scaling="min_max", action_margin=0.0).predict_dataloader()
    assert batch["actions"].max() == 1.0
    assert torch.all(batch["actions"] >= -1.0)


def test_failed_trajectories_are_dropped(path: Path) -> None:
    put("traj_3/success", False, at=-1)(path)
    edit(empty)(path)
    assert datamodule(path, drop_failed=True).demos == ["traj_0", "traj_2", "traj_4"]
    for demo in ("traj_0", "traj_2", "traj_4"):
        put(f"{demo}/success", False, at=-1)(path)
    with pytest.raises(DataError, match="none of the 5 trajectories is successful"):
        datamodule(path, drop_failed=True).setup()


def test_a_task_without_success_uses_all_trajectories(path: Path) -> None:
    for number in range(5):
        put(f"traj_{number}/success", None)(path)
    assert check(path) == []
    assert len(datamodule(path, drop_failed=True).demos) == 5


def test_flat_states_are_one_vector(path: Path) -> None:
    for number in range(5):
        with h5py.File(path, "r+") as file:
            group = file[f"traj_{number}"]
            flat = np.hstack([group["obs/agent/qpos"], group["obs/extra/tcp_pose"]])
            del group["obs"]
            group["obs"] = flat
    describe(obs_mode="state")(path)
    assert check(path) == []
    assert summary(path).shapes == {"actions": (4,), "obs/state": (16,)}
    assert datamodule(path, obs_keys=["state"]).obs_specs == {"state": ObservationSpec.vector(16)}
    # Configurations of ManiSkill2 read this mode too.
    data = ManiSkillDataModule(str(path), 4, control_mode="pd_ee_delta_pos")
    assert data.obs_specs == {"state": ObservationSpec.vector(16)}


def test_summary_lists_the_observations() -> None:
    facts = summary(FIXTURE)
    assert (facts.n_demos, facts.n_steps, facts.shortest, facts.longest) == (5, 107, 15, 26)
    assert facts.content == "PickCube-v1"
    assert VECTORS.items() <= {key.removeprefix("obs/"): size for key, (size, *_) in facts.shapes.items()}.items()
    assert facts.shapes[f"obs/{IMAGE}"] == (32, 32, 3)
    assert not any("sensor_param" in key or "env_states" in key for key in facts.shapes)


@pytest.mark.parametrize("mode", ["state", "pointcloud", "none"])
def test_files_of_maniskill2_are_not_recognised(mode: str, tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, obs_mode=mode)
    assert not ManiSkill3File.recognises(path)
    assert ManiSkillFile.recognises(path)
    assert ManiSkill3File.recognises(FIXTURE)


def test_a_file_without_states_of_the_simulator_is_recognised(path: Path) -> None:
    put("traj_0/env_states", None)(path)
    assert ManiSkill3File.recognises(path)
    put("traj_0/obs/sensor_data", None)(path)
    assert ManiSkill3File.recognises(path)
