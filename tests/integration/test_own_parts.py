"""A user's files in the current folder: configurations that refer to shipped fragments, and parts in Python."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from difftori_pl.cli import run

MINE = """
template: [il_square_low_dim.yaml]
model:
  init_args:
    encoder:
      class_path: RecurrentEncoder
      init_args: {encoder: encoder/square_state.yaml, hidden_dim: 10, restart_after: 16}
"""
BESIDE = "{class_path: StateEncoder, init_args: {obs_dims: {object: 14}, latent_dim: 3}}"
ENCODER = """
import torch
from datamodules import ObservationSpec
from difftori_pl.models.encoders import Encoder

class Concatenate(Encoder):
    def __init__(self, obs_dims: dict[str, int]) -> None:
        super().__init__()
        self.obs_specs = {key: ObservationSpec.vector(dim) for key, dim in obs_dims.items()}
        self.latent_dim = sum(obs_dims.values())

    def forward(self, obs, state):
        return torch.cat([obs[key] for key in self.obs_specs], dim=-1), state
"""


def encoder_in(printed: str) -> dict[str, Any]:
    encoder: dict[str, Any] = yaml.safe_load(printed)["model"]["init_args"]["encoder"]
    return encoder


@pytest.mark.parametrize("folder", [".", "sub"])
def test_fragments_are_found_next_to_the_configuration_or_in_the_package(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    mine = Path(folder) / "mine.yaml"
    mine.write_text(MINE)
    found = []
    for _ in range(2):
        with pytest.raises(SystemExit):
            run(["fit", f"--config={mine}", "--print_config"])
        found.append(encoder_in(capsys.readouterr().out)["init_args"]["encoder"]["init_args"]["obs_dims"])
        (tmp_path / folder / "encoder").mkdir(exist_ok=True)
        (tmp_path / folder / "encoder" / "square_state.yaml").write_text(BESIDE)
    assert len(found[0]) == 4
    assert found[1] == {"object": 14}


def test_a_part_in_the_current_folder_is_found_by_the_console_script(tmp_path: Path) -> None:
    (tmp_path / "my_encoders.py").write_text(ENCODER)
    script = Path(sys.executable).parent / "difftori"
    options = ["--model.encoder=my_encoders.Concatenate", "--model.encoder.obs_dims={object: 14}", "--print_config"]
    done = subprocess.run(
        [script, "fit", "--config=il_square_low_dim.yaml", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert encoder_in(done.stdout)["class_path"] == "my_encoders.Concatenate"
