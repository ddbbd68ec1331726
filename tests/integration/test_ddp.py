"""Training in several processes gives the same parameters as training in one with the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.conftest import SQUARE_OBS
from tests.data import write_robomimic
from tests.integration.parity_worker import BATCH, MODULES, N_STEPS
from tests.torchrun import ROOT, torchrun


def parameters(data: Path, output: Path, n_ranks: int) -> dict[str, dict[str, torch.Tensor]]:
    command = ["-m", "tests.integration.parity_worker", str(data), str(output), str(n_ranks)]
    if n_ranks > 1:
        torchrun(*command, timeout=600)
    else:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(output, weights_only=True)


@pytest.mark.slow
def test_two_processes_with_half_the_batch_equal_one(tmp_path: Path) -> None:
    lengths = [4 * BATCH - 20, 20]  # short demos give the processes unequal padding
    data = write_robomimic(tmp_path / "demos.hdf5", lengths, SQUARE_OBS)
    one, two = (parameters(data, tmp_path / f"{n}.pt", n) for n in (1, 2))
    assert N_STEPS == 10
    for name in MODULES:
        print(name, max(float((one[name][key].double() - two[name][key].double()).abs().max()) for key in one[name]))
    for name in MODULES:
        assert_close(one[name], two[name], rtol=0, atol=1e-8)
