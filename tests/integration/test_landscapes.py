"""Pictures of the objective while a policy trains, through the command line."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difftori_pl.cli import main, run

PICTURES = ["--trainer.callbacks+=LandscapePictures", "--trainer.callbacks.every_n_epochs=2"]


def test_pictures_and_the_number_of_modes_are_logged(quick: list[str], low_dim_base: Path, tmp_path: Path) -> None:
    run(
        [
            *("fit", "--config=il_square_low_dim.yaml", *quick, f"--trainer.logger.save_dir={tmp_path}"),
            *(f"--model.base_policy.checkpoint={low_dim_base}", "--trainer.max_epochs=3", "--trainer.max_steps=-1"),
            *("--trainer.limit_train_batches=2", *PICTURES, "--trainer.callbacks.n_samples=3"),
        ]
    )
    folder = next(tmp_path.glob("*/version_0"))
    names = sorted(path.name for path in (folder / "landscapes").iterdir())
    assert names == [f"step4_sample{number}.png" for number in range(3)]  # after the second epoch of three
    log = EventAccumulator(str(folder), {"images": 0}).Reload()
    assert {f"landscape/sample{number}" for number in range(3)} <= set(log.Tags()["images"])
    (event,) = log.Scalars("multimodality/n_modes")
    assert 1 <= event.value <= 3


def test_a_module_without_a_prior_is_refused(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="the model is a BehaviorCloning"):
        main(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, "--trainer.max_steps=1", *PICTURES])
