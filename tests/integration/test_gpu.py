"""On a GPU: agreement with the CPU, solver steps as a CUDA graph, and LSTMs in float16, which CPUs do not support."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Truncated
from difftori_pl.trajopt.solvers import Adam, LevenbergMarquardt, Solver
from tests.conftest import SMALL
from tests.integration.test_precision import check

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def solve(solver: Solver, device: str, compiled: bool = False, n_problems: int = 16) -> list[Tensor]:
    """Return the actions and the gradient of their sum of squares with respect to the weights of a small score."""
    torch.manual_seed(0)
    score = nn.Sequential(nn.Linear(5 + 6, 32), nn.ELU(), nn.Linear(32, 1, bias=False)).double().to(device)
    latent, start = (torch.randn(n_problems, *shape, dtype=torch.float64).to(device) for shape in ((5,), (2, 3)))

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        return score(torch.cat((latent, actions.flatten(1)), 1)).squeeze(1) - 0.5 * actions.square().sum((1, 2))

    solution = TrajOptLayer(solver, Truncated(5), compiled=compiled)(objective, latent, 0.1 * start)
    gradients = torch.autograd.grad(solution.actions.square().sum(), list(score.parameters()))
    return [tensor.detach().cpu() for tensor in (solution.actions, *gradients)]


SOLVERS = {
    "levenberg_marquardt": LevenbergMarquardt(max_steps=25, step_size=0.06, damping=1.0, offset=10.0),
    "adam": Adam(max_steps=25),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


@solvers
def test_gpu_and_cpu_agree(solver: Solver) -> None:
    assert_close(solve(solver, "cuda"), solve(solver, "cpu"))


@solvers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by torch's inductor
def test_a_cuda_graph_equals_single_steps(solver: Solver) -> None:
    for n_problems in (16, 16, 5):
        assert_close(solve(solver, "cuda", True, n_problems), solve(solver, "cuda", False, n_problems))


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
@pytest.mark.filterwarnings(
    "ignore:Detected call of .lr_scheduler.step"
)  # the float16 gradient scaler skips the first update
def test_lstms_train_in_mixed_precision(precision: str, quick: list[str], low_dim_base: Path) -> None:
    on_gpu = [*quick, "--trainer.accelerator=gpu", "--trainer.devices=1", f"--trainer.precision={precision}"]
    check(["--config=bc_rnn_square_low_dim.yaml", *SMALL, *on_gpu])
    check(["--config=il_square_low_dim.yaml", f"--model.base_policy.checkpoint={low_dim_base}", *on_gpu])
