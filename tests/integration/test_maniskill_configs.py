"""The configurations of ManiSkill's tasks through the command line, and the data that a policy refuses."""

from pathlib import Path

import pytest
import torch
import yaml

from difftori_pl.cli import SHIPPED_CONFIGS, main, run
from difftori_pl.envs.local_pool import LocalPool
from tests.data import write_maniskill

ACTION_DIMS = {
    "pickcube": 7,
    "fill": 6,
    "hang": 7,
    "excavate": 6,
    "pour": 7,
    "opencabinetdrawer": 13,
    "opencabinetdoor": 13,
    "pushchair": 22,
    "movebucket": 22,
}
"""Action sizes of Table 8, except for the two tasks whose arm has no gripper."""

SMALL = ["--data.cloud.n_points=64", "--data.cloud.n_goal_points=8"]


@pytest.fixture(scope="module")
def pickcube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maniskill(tmp_path_factory.mktemp("pickcube"))


@pytest.fixture(scope="module")
def options(pickcube: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        f"--data.path={pickcube}",
        "--data.batch_size=4",
        "--data.validation_fraction=0.34",
        "--checkpoint.monitor=null",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.save_dir={tmp_path_factory.mktemp('runs')}",
        *SMALL,
    ]


@pytest.fixture(scope="module")
def base(options: list[str]) -> Path:
    """Train a base policy and return its checkpoint."""
    trainer = run(["fit", "--config=bc_pickcube.yaml", *options, "--trainer.max_steps=1"]).trainer
    return Path(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def difftori(options: list[str], base: Path) -> list[str]:
    return ["fit", "--config=il_pickcube.yaml", *options, f"--model.base_policy.checkpoint={base}"]


@pytest.mark.parametrize(("kind", "task"), [("bc", "pickcube"), *(("il", task) for task in ACTION_DIMS)])
def test_the_sizes_of_every_task_are_consistent(kind: str, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["fit", f"--config={kind}_{task}.yaml", "--print_config"])
    assert end.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    owner = model["policy"]["init_args"] if kind == "bc" else model
    assert data["action_dim"] == ACTION_DIMS[task]
    assert data["task"].lower().startswith(task)
    assert owner["encoder"]["init_args"]["obs_dims"] == data["obs_dims"]
    if config["rollout"]["env"] is not None:
        env = config["rollout"]["env"]["init_args"]
        assert {key: env[key] for key in ("task", "control_mode", "cloud")} == {
            key: data[key] for key in ("task", "control_mode", "cloud")
        }


def test_configurations_are_complete() -> None:
    shipped = {path.name for path in SHIPPED_CONFIGS.glob("*.yaml") if "template" in yaml.safe_load(path.read_text())}
    assert {
        f"{kind}_{task}.yaml" for kind in ("bc", "il", "residual") for task in (*ACTION_DIMS, "pickcube_state")
    } <= shipped


def test_difftori_trains_on_clouds(difftori: list[str]) -> None:
    trainer = run([*difftori, "--trainer.fast_dev_run=1"]).trainer
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert torch.isfinite(trainer.callback_metrics["val/action_error"])


def test_a_missing_base_policy_suggests_two_commands(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    il = ["fit", "--config=il_pickcube.yaml", *options, "--trainer.fast_dev_run=1"]
    said = message_of(il)
    assert "there is no checkpoint runs/bc_PickCube-v0; train the base policy" in said
    assert "lightning fit --config bc_pickcube.yaml" in said
    remedy = said.split("do without: ")[1].split()
    assert run([*il, *remedy]).trainer.global_step == 1


def test_a_residual_policy_trains_on_clouds(options: list[str], base: Path) -> None:
    own = [f"--model.policy.base.checkpoint={base}", "--trainer.fast_dev_run=1"]
    trainer = run(["fit", "--config=residual_pickcube.yaml", *options, *own]).trainer
    assert torch.isfinite(trainer.callback_metrics["val/action_error"])
    said = message_of(["fit", "--config=residual_pickcube.yaml", *options, *own, "--data.cloud.frame=base"])
    assert "policy.base was trained with frame 'end_effector', but the data has 'base'" in said


@pytest.mark.parametrize("encoder", ["encoder/pickcube_pointnet.yaml", "encoder/pickcube_dp3.yaml"])
def test_encoders_swap_in(options: list[str], encoder: str) -> None:
    swap = [f"--model.policy.encoder={encoder}", "--model.policy.encoder.n_points=64", "--trainer.fast_dev_run=1"]
    assert run(["fit", "--config=bc_pickcube.yaml", *options, *swap]).trainer.global_step == 1


def test_policies_train_on_states(options: list[str], tmp_path: Path) -> None:
    own = [*options, f"--data.path={write_maniskill(tmp_path, obs_mode='state')}"]
    trainer = run(["fit", "--config=bc_pickcube_state.yaml", *own, "--trainer.max_steps=1"]).trainer
    checkpoint = trainer.checkpoint_callback.last_model_path
    for method, base in (("il", "model.base_policy"), ("residual", "model.policy.base")):
        arguments = [f"--config={method}_pickcube_state.yaml", *own, f"--{base}.checkpoint={checkpoint}"]
        trainer = run(["fit", *arguments, "--trainer.fast_dev_run=1"]).trainer
        assert torch.isfinite(trainer.callback_metrics["val/action_error"])


def test_policies_with_action_chunks_train_on_states(options: list[str], tmp_path: Path) -> None:
    own = [*options, f"--data.path={write_maniskill(tmp_path, obs_mode='state')}"]
    small = ["--model.policy.dims=[8, 16]", "--model.policy.n_executed_steps=2", "--trainer.max_steps=1"]
    trainer = run(["fit", "--config=diffusion_pickcube_state.yaml", *own, *small]).trainer
    # The demonstrations are shorter than the chunks of the shipped configuration.
    own += [f"--model.base_policy.checkpoint={trainer.checkpoint_callback.last_model_path}", "--model.horizon=2"]
    trainer = run(["fit", "--config=il_pickcube_state_diffusion.yaml", *own, "--trainer.fast_dev_run=1"]).trainer
    assert torch.isfinite(trainer.callback_metrics["val/action_error"])


def message_of(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, str)
    assert "\n" not in end.value.code
    return end.value.code


def test_data_with_another_interface_are_refused(
    options: list[str], difftori: list[str], base: Path, tmp_path: Path
) -> None:
    fast = "--trainer.fast_dev_run=1"
    said = message_of([*difftori, "--data.cloud.frame=base", fast])
    assert "base_policy was trained with frame 'end_effector', but the data has 'base'" in said
    other = write_maniskill(tmp_path, control_mode="pd_ee_target_delta_pose")
    said = message_of([*difftori, f"--data.path={other}", "--data.control_mode=null", fast])
    assert "control_mode 'pd_ee_delta_pose', but the data has 'pd_ee_target_delta_pose'" in said
    other = write_maniskill(tmp_path, cameras=["hand_camera", "base_camera"])
    said = message_of([*difftori, f"--data.path={other}", fast])
    assert "cameras ['base_camera', 'hand_camera'], but the data has ['hand_camera', 'base_camera']" in said
    test = ["test", "--config=bc_pickcube.yaml", *options, f"--ckpt_path={base}", "--rollout.n_episodes=1"]
    said = message_of([*test, "--rollout.env.control_mode=pd_joint_delta_pos"])
    assert "control_mode 'pd_ee_delta_pose', but the environment has 'pd_joint_delta_pos'" in said
    said = message_of([*test, "--data.cloud.frame=base"])
    assert "was trained with frame 'end_effector', but the data has 'base'" in said


def test_a_running_environment_with_other_cameras_is_refused(
    options: list[str], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difftori_pl.callbacks.rollout.EnvPool", LocalPool)
    test = ["test", "--config=bc_pickcube.yaml", *options, f"--ckpt_path={base}", "--rollout.n_episodes=1"]
    said = message_of([*test, "--rollout.env=tests.envs.TurnedCameras"])
    assert "cameras ['base_camera', 'hand_camera'], but the environment has ['hand_camera', 'base_camera']" in said


def test_a_users_configuration_may_have_nested_templates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("template: [bc_pickcube.yaml]\ndata: {init_args: {batch_size: 77}}\n")
    with pytest.raises(SystemExit):
        run(["fit", "--config", str(mine), "--data.horizon", "3", "--print_config"])
    data = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert (data["batch_size"], data["horizon"], data["task"]) == (77, 3, "PickCube-v0")


def test_the_saved_configuration_needs_no_template(base: Path) -> None:
    saved = yaml.safe_load((base.parents[1] / "config.yaml").read_text())
    assert saved.get("template") is None
    assert saved["data"]["init_args"]["task"] == "PickCube-v0"
