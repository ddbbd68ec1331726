"""Failed planning and planning that an earlier call has finished."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from datamodules import DataError, PointCloudRecipe
from difftori_pl.demos import maniskill
from difftori_pl.demos.maniskill import PlannedDemos, plan_demos
from difftori_pl.errors import ConfigurationError
from tests.data import write_maniskill


def write_planned(folder: Path, seeds: Sequence[int] = (0, 1, 2), **noted: int) -> Path:
    """Write the files of a finished plan for PickCube-v0."""
    written = write_maniskill(folder, [4] * len(seeds), obs_mode="state")
    meta = json.loads(written.with_suffix(".json").read_text())
    meta["env_info"] |= noted
    for episode, seed in zip(meta["episodes"], seeds, strict=True):
        episode["episode_seed"] = seed
    replayed = folder / f"{maniskill.REPLAYED}.h5"
    written.replace(replayed)
    replayed.with_suffix(".json").write_text(json.dumps(meta))
    return replayed


def test_planning_stops_after_too_many_consecutive_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(maniskill, "_record_episode", asked.append)  # returns None: no success
    with pytest.raises(ConfigurationError, match="50 consecutive plans for PickCube-v0 failed"):
        maniskill.plan_demos("PickCube-v0", tmp_path, episodes=3, n_processes=1, progress=False)
    assert [job.seed for job in asked] == list(range(50))


@pytest.mark.parametrize(
    ("task", "episodes", "seed"),
    [("StackCube-v0", 3, 0), ("PickCube-v0", 200, 0), ("PickCube-v0", 2, 0), ("PickCube-v0", 3, 7)],
)
def test_existing_demonstrations_of_another_request_are_rejected(
    task: str, episodes: int, seed: int, tmp_path: Path
) -> None:
    write_planned(tmp_path)
    message = f"expected {episodes} of {task} from seed {seed}, got 3 of PickCube-v0 from seed 0"
    with pytest.raises(ConfigurationError, match=message):
        plan_demos(task, tmp_path, episodes, seed, cloud=None)


def test_finished_demonstrations_are_counted(tmp_path: Path) -> None:
    write_planned(tmp_path, [0, 2, 5])
    assert plan_demos("PickCube-v0", tmp_path, 3, seed=0, cloud=None) == PlannedDemos(3, n_failures=3)


def test_the_first_seed_is_stored_even_if_its_plan_failed(tmp_path: Path) -> None:
    write_planned(tmp_path, [8, 9], first_seed=7)
    assert plan_demos("PickCube-v0", tmp_path, 2, seed=7, cloud=None) == PlannedDemos(2, n_failures=1)
    with pytest.raises(
        ConfigurationError, match="expected 2 of PickCube-v0 from seed 8, got 2 of PickCube-v0 from seed 7"
    ):
        plan_demos("PickCube-v0", tmp_path, 2, seed=8, cloud=None)


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    write_planned(tmp_path).with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"trajectory.state.pd_ee_delta_pose.json: no such file"):
        plan_demos("PickCube-v0", tmp_path, 3, cloud=None)


def test_interrupted_rendering_is_resumed_without_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed, rendered = write_planned(tmp_path), []
    monkeypatch.setattr(maniskill, "convert", lambda path, output, *args, **kwargs: rendered.append((path, output)))
    assert plan_demos("PickCube-v0", tmp_path, 3, cloud=PointCloudRecipe()).n_demos == 3
    assert rendered == [(replayed, tmp_path / maniskill.CLOUDS)]
