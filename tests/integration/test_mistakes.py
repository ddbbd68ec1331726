"""A mistake in an argument or a configuration is one line: the option, what was expected, and the nearest name."""

from pathlib import Path

import pytest

from datamodules.formats.lerobot_file import LeRobotFile
from datamodules.formats.pusht_file import PushTFile
from datamodules.formats.robomimic_file import RobomimicFile
from difftori_pl.arguments.configurations import SHIPPED_CONFIGS, read_options, with_templates
from difftori_pl.checkpoints.training_command import training_command
from difftori_pl.cli import main, run
from difftori_pl.errors import UsageError

BC = "fit --config=bc_rnn_square_low_dim.yaml"
IL = "fit --config il_square.yaml"

FILES = {
    "key.yaml": "template: bc_rnn_square_low_dim.yaml\ndata: {init_args: {batch_sze: 3}}\n",
    "value.yaml": "template: il_square.yaml\nmodel: {init_args: {trajopt: {init_args: {solver: {max_steps: abc}}}}}\n",
    "trainer.yaml": "template: il_square.yaml\ntrainer: {max_stps: 3}\n",
    "section.yaml": "template: il_square.yaml\ntrainr: {max_steps: 3}\n",
    "fragment.yaml": "template: il_square.yaml\nmodel: {init_args: {encoder: encoder/square_resnet.yaml}}\n",
    "template.yaml": "template: il_sqare.yaml\n",
    "reference.yaml": "template: bc_rnn_square_low_dim.yaml\ndata: {init_args: {path: '${data.init_args.pth}'}}\n",
    "empty.yaml": "a: 1\n",
    "twice.yaml": "template: il_square.yaml\ntrainer:\n  max_steps: 1\ntrainer:\n  min_steps: 1\n",
    "within.yaml": "template: [own/twice.yaml]\n",
    "own/twice.yaml": "data: {init_args: {batch_size: 3, batch_size: 4}}\n",
    "part.yaml": "template: il_square.yaml\nmodel: {init_args: {encoder: own/encoder.yaml}}\n",
    "own/encoder.yaml": "class_path: StateEncoder\ninit_args:\n  obs_dims: {object: 14}\nclass_path: Recurrent\n",
}

MISTAKES = {
    # values
    f"{BC} --data.batch_size abc": "--data.batch_size: expected an integer, got 'abc'",
    f"{BC} --data.batch_size=1.5": "--data.batch_size: expected an integer, got '1.5'",
    f"{BC} --data.validation_fraction x": "--data.validation_fraction: expected a number, got 'x'",
    f"{BC} --data.pad_obs=maybe": "--data.pad_obs: expected true or false, got 'maybe'",
    f"{BC} --data.obs_keys=object": "--data.obs_keys: expected a list, such as [a, b], got 'object'",
    f"{BC} --data.path": "--data.path: expected a value, got none",
    f"{BC} --trainer.max_steps abc": "--trainer.max_steps: expected an integer, got 'abc'",
    f"{BC} --matmul_precision=hihg": (
        "--matmul_precision: expected one of highest, high, medium, got 'hihg'; did you mean high?"
    ),
    f"{BC} --rollout.n_episodes=abc": "--rollout.n_episodes: expected an integer, got 'abc'",
    f"{BC} --model.policy.hidden_dim=abc": "--model.policy.hidden_dim: expected an integer, got 'abc'",
    f"{BC} --model.policy.encoder.latent_dim=abc": (
        "--model.policy.encoder.latent_dim: expected an integer or null, got 'abc'"
    ),
    f"{BC} --model.policy.encoder.obs_dims=[1,2]": (
        "--model.policy.encoder.obs_dims: expected a mapping, such as {a: 1}, got '[1,2]'"
    ),
    f"{BC} --model.optimizer.lr=abc": "--model.optimizer.lr: expected a number, got 'abc'",
    f"{IL} --model.trajopt.solver.max_steps=abc": "--model.trajopt.solver.max_steps: expected an integer, got 'abc'",
    "validate --config=il_square.yaml --model.horizon=x": "--model.horizon: expected an integer, got 'x'",
    # names of options
    f"{BC} --data.pth x": "--data.pth: no such option; did you mean --data.path?",
    f"{BC} --dta.path=x": "--dta.path: no such option; did you mean --data.path?",
    f"{BC} --trainer.max_stps=3": "--trainer.max_stps: no such option; did you mean --trainer.max_steps?",
    f"{BC} --seed_everthing=3": "--seed_everthing: no such option; did you mean --seed_everything?",
    f"{BC} --rollout.n_episods=3": "--rollout.n_episods: no such option; did you mean --rollout.n_episodes?",
    f"{BC} --rollout.env.tsk=x": "--rollout.env.tsk: no such option; did you mean --rollout.env.task?",
    f"{BC} --trainer.logger.nme=x": "--trainer.logger.nme: no such option; did you mean --trainer.logger.name?",
    f"{BC} --model.optimizer.lrr=1": "--model.optimizer.lrr: no such option; did you mean --model.optimizer.lr?",
    f"{IL} --model.base_policy.checkpont=x": (
        "--model.base_policy.checkpont: no such option; did you mean --model.base_policy.checkpoint?"
    ),
    f"{BC} extra": "extra: expected an option that begins with --, got 'extra'; see `difftori fit --help`",
    # classes
    f"{BC} --model=DiffTORI_IL": "--model: expected a LightningModule, got 'DiffTORI_IL'; did you mean DiffTORIIL?",
    f"{BC} --model.policy.encoder=StateEncodr": (
        "--model.policy.encoder: expected an Encoder, got 'StateEncodr'; did you mean StateEncoder?"
    ),
    f"{BC} --model.optimizer=Adm": "--model.optimizer: expected an Optimizer, got 'Adm'; did you mean Adam?",
    f"{BC} --rollout.env=difftori_pl.envs.Robosute": (
        "--rollout.env: expected an EnvFactory, got 'difftori_pl.envs.Robosute'; did you mean "
        "difftori_pl.envs.Robosuite?"
    ),
    f"{IL} --model.trajopt.backward_mode=Truncatd": (
        "--model.trajopt.backward_mode: expected a BackwardMode, got 'Truncatd'; did you mean Truncated?"
    ),
    f"{IL} --model.base_policy=difftori_pl.from_checkpont": (
        "--model.base_policy: expected a BasePolicy, got 'difftori_pl.from_checkpont'; did you mean "
        "difftori_pl.from_checkpoint?"
    ),
    # files
    "fit --config il_sqare.yaml": (
        "il_sqare.yaml: no such configuration here or among the shipped ones; did you mean il_square.yaml?"
    ),
    f"{IL} --model.encoder encoder/square_smal_conv.yaml": (
        "--model.encoder: encoder/square_smal_conv.yaml: no such configuration here or among the shipped ones; did you "
        "mean encoder/square_small_conv.yaml?"
    ),
    f"{IL} --model.encoder nonsense.yaml": (
        "--model.encoder: nonsense.yaml: no such configuration here or among the shipped ones; choose one of "
        "encoder/pickcube_dp3.yaml, encoder/pickcube_pointnet.yaml, encoder/pusht_recurrent_resnet18.yaml, ..."
    ),
    f"{IL} --model.encoder empty.yaml": (
        "--model.encoder: expected an Encoder with a class_path in the file, got 'empty.yaml'"
    ),
    "fit --config=key.yaml": "key.yaml: data.batch_sze: no such option; did you mean data.batch_size?",
    "fit --config=value.yaml": "value.yaml: model.trajopt.solver.max_steps: expected an integer, got 'abc'",
    "fit --config=trainer.yaml": "trainer.yaml: trainer.max_stps: no such option; did you mean trainer.max_steps?",
    "fit --config=section.yaml": "section.yaml: trainr.max_steps: no such option; did you mean trainer.max_steps?",
    "fit --config=fragment.yaml": (
        "fragment.yaml: model.encoder: encoder/square_resnet.yaml: no such configuration here or among the shipped "
        "ones; did you mean encoder/square_resnet18.yaml?"
    ),
    "fit --config=template.yaml": (
        "il_sqare.yaml: no such configuration here or among the shipped ones; did you mean il_square.yaml?"
    ),
    "fit --config=reference.yaml": (
        "reference.yaml: data.path: expected a reference to another value, got '${data.init_args.pth}'"
    ),
    "fit --config=twice.yaml": "twice.yaml, line 4: expected each key once, got 'trainer' also in line 2",
    "fit --config within.yaml": "own/twice.yaml, line 1: expected each key once, got 'batch_size' also in line 1",
    "fit --config=part.yaml": "own/encoder.yaml, line 4: expected each key once, got 'class_path' also in line 1",
    f"{IL} --model.encoder own/encoder.yaml": (
        "own/encoder.yaml, line 4: expected each key once, got 'class_path' also in line 1"
    ),
    f"{IL} --model.encoder=own/encoder.yaml": (
        "own/encoder.yaml, line 4: expected each key once, got 'class_path' also in line 1"
    ),
    "fit --config": "--config: expected a value, got none",
    "fit": "--config: expected a configuration, got none: `difftori fit --config il_square.yaml`",
    f"{BC} --data.path=none.hdf5": f"none.hdf5: no such file. {RobomimicFile.how_to_get}",
    "fit --config=bc_lerobot.yaml --data.path=none": f"none: no such folder. {LeRobotFile.how_to_get}",
    "data check none.zarr": "none.zarr: no such file or folder",
    "data check none.hdf5": f"none.hdf5: no such file. {RobomimicFile.how_to_get}",
    "fit --config=bc_rnn_pusht_low_dim.yaml --data.path=no.zarr": f"no.zarr: no such folder. {PushTFile.how_to_get}",
    "data sums none.hdf5": (
        "none.hdf5: expected a file of demonstrations or a zarr folder, but there is no such path. Correct the path."
    ),
    "data render none.hdf5": f"none.hdf5: no such file. {RobomimicFile.how_to_get}",
    # other commands
    "fitt": "fitt: no such command; did you mean fit?",
    "data chek x": "chek: no such command; did you mean check?",
    "data check": "path: expected a value, got none; see `difftori data check --help`",
    "data convert x --n_demos=abc": "--n_demos: expected an integer or null, got 'abc'",
    "demos square --episods=3": "--episods: no such option; did you mean --episodes?",
    "plot landscape --env=PushTT": "--env: expected an EnvFactory, got 'PushTT'; did you mean PushT?",
}


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["difftori"])
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(("arguments", "expected"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_described_in_one_line(arguments: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments.split())
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_keys_that_are_merged_from_an_anchor_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("b: {c: &deep {<<: &base {x: 1, y: 2}, x: 3}}\nd: {<<: *deep, y: 4}\n")
    assert read_options(path) == {"b": {"c": {"x": 3, "y": 2}}, "d": {"x": 3, "y": 4}}


@pytest.mark.usefixtures("_files")
def test_in_python_a_mistake_is_an_exception() -> None:
    with pytest.raises(UsageError, match=r"^--data.batch_size: expected an integer, got 'abc'$"):
        run([*BC.split(), "--data.batch_size=abc"])


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    ("config", "command"),
    [
        ("il_square_low_dim.yaml", "bc_rnn_square_low_dim.yaml"),
        ("il_square.yaml", "bc_rnn_square.yaml"),
        ("il_metaworld_state.yaml", "bc_metaworld_state.yaml --data.task reach-v3"),
        ("il_metaworld_state.yaml --data.task=push-v3", "bc_metaworld_state.yaml --data.task push-v3"),
        ("residual_hang.yaml", "bc_hang.yaml --data.task Hang-v0"),
    ],
)
def test_a_missing_base_policy_is_reported_after_the_data_with_the_command_that_trains_it(
    config: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", *f"--config={config}".split(), "--trainer.logger=false", "--rollout.env=null"]
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "no such file" in capsys.readouterr().err
    monkeypatch.setattr("datamodules.demonstrations.DemonstrationDataModule.look_at_file", lambda self: None)
    with pytest.raises(SystemExit, match=f"train the base policy first, `lightning fit --config {command}`"):
        main(arguments)


def test_every_shipped_base_policy_has_a_command() -> None:
    references = {
        value
        for config in SHIPPED_CONFIGS.glob("*.yaml")
        for path in with_templates(config)
        for value in _checkpoints(read_options(path))
    }
    assert len(references) > 10
    for reference in references:
        assert training_command(reference.replace("${data.init_args.task}", "push-v3")), reference


def _checkpoints(content: object) -> list[str]:
    if not isinstance(content, dict):
        return []
    own = [content["checkpoint"]] if isinstance(content.get("checkpoint"), str) else []
    return [*own, *(found for part in content.values() for found in _checkpoints(part))]
