"""A policy is uploaded and downloaded by `huggingface_hub` itself, through a local endpoint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.write import FOLDER
from tests.hub import local_hub

pytest.importorskip("huggingface_hub")
pytest.importorskip("safetensors")

CODE = """
import sys
import numpy as np
import torch
from difftori_pl import load_policy
from difftori_pl.cli import main
from difftori_pl.errors import CheckpointError

checkpoint, output = sys.argv[1:]
main(["share", f"--ckpt={checkpoint}", f"--output={output}", "--push=someone/pick"])

def action(policy):
    torch.manual_seed(0)
    return policy.act({key: np.ones(spec.shape) for key, spec in policy.obs_specs.items()})

np.testing.assert_array_equal(action(load_policy("someone/pick")), action(load_policy(checkpoint)))
try:
    load_policy("someone/other")
except CheckpointError as error:
    assert "someone/other does not exist here, and the hub does not deliver it (404" in str(error), error
else:
    raise AssertionError("expected an error")
"""


def test_a_policy_travels_through_an_endpoint(tmp_path: Path) -> None:
    checkpoint = max(FOLDER.glob("*/il.ckpt"))
    with local_hub() as (address, repositories):
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": "hf_local"}
        settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(checkpoint), str(tmp_path / "policy")],
            env=os.environ | settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "uploaded to " in done.stdout
    for path in (tmp_path / "policy").iterdir():
        assert repositories["someone/pick"][path.name] == path.read_bytes()
