"""Images of the objective during training, through the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difftori_pl.callbacks import LandscapeImages
from difftori_pl.cli import main, run

IMAGES = ["--trainer.callbacks+=LandscapeImages", "--trainer.callbacks.every_n_epochs=2"]
PROCESSES = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def test_images_and_the_number_of_modes_are_logged(quick: list[str], low_dim_base: Path, tmp_path: Path) -> None:
    run(
        [
            *("fit", "--config=il_square_low_dim.yaml", *quick, f"--trainer.logger.save_dir={tmp_path}"),
            *(f"--model.base_policy.checkpoint={low_dim_base}", "--trainer.max_epochs=3", "--trainer.max_steps=-1"),
            *("--trainer.limit_train_batches=2", *IMAGES, "--trainer.callbacks.n_samples=3"),
        ]
    )
    folder = next(tmp_path.glob("*/version_0"))
    names = sorted(path.name for path in (folder / "landscapes").iterdir())
    assert names == [f"step4_sample{number}.png" for number in range(3)]  # after the second epoch of three
    log = EventAccumulator(str(folder), {"images": 0}).Reload()
    assert {f"landscape/sample{number}" for number in range(3)} <= set(log.Tags()["images"])
    (event,) = log.Scalars("multimodality/n_modes")
    assert 1 <= event.value <= 3


def test_the_spacing_of_images_survives_a_checkpoint() -> None:
    before, after = LandscapeImages(), LandscapeImages()
    assert before._spacing.due(100)
    after.load_state_dict(before.state_dict())
    assert not after._spacing.due(105)
    assert after._spacing.due(111)


def test_a_module_without_a_prior_is_refused(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="got a BehaviorCloning"):
        main(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, "--trainer.max_steps=1", *IMAGES])


@pytest.mark.slow
def test_only_the_first_of_two_processes_draws(quick: list[str], low_dim_base: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "difftori_pl", "fit", "--config=il_square_low_dim.yaml", *quick, *PROCESSES, *IMAGES),
        *(f"--model.base_policy.checkpoint={low_dim_base}", f"--trainer.logger.save_dir={tmp_path}"),
        *("--trainer.max_epochs=2", "--trainer.max_steps=-1", "--trainer.limit_train_batches=2"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("*/version_0/landscapes/step4_sample*.png"))) == 4
