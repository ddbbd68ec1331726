import pytest
import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.evaluation.metrics import n_modes
from difftori_pl.imitation.multimodality import sample_solutions
from difftori_pl.trajopt import ChunkScore, TrajOptLayer
from difftori_pl.trajopt.backward import Detached
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.solvers import LBFGS
from tests.unit.imitation.test_il import policy


class TwoModes(torch.nn.Module):
    """A score with its maximum at 0.8 or -0.8, depending on the sign of the sample's first component."""

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        target = torch.where(latent[:, :1] > 0, 0.8, -0.8)
        return -(action - target).square().sum(-1)


def test_n_modes_counts_groups_of_points() -> None:
    assert n_modes(torch.zeros(0, 2), 1.0) == 0
    assert n_modes(torch.tensor([[0.0], [0.9], [1.8], [5.0], [5.5]]), 1.0) == 2  # a chain is one group
    assert n_modes(torch.tensor([[0.0], [0.9], [1.8], [5.0], [5.5]]), 0.4) == 5
    assert n_modes(torch.linspace(0, 9, 20)[:, None], 0.5) == 1


def test_samples_of_the_prior_reach_both_modes_from_one_proposal() -> None:
    module = policy().eval()
    module.score = TwoModes()  # type: ignore[assignment]
    module.objective = type(module.objective)(module.score, None, 1.0)
    module.trajopt.solver.step_size = 2e-3  # type: ignore[assignment]
    module.trajopt.solver.damping = 10.0  # type: ignore[assignment]
    module.trajopt.solver.max_steps = 40
    found = sample_solutions(module, {"x": torch.zeros(1, 1, 3)}, module.initial_state(1), n_samples=8)
    assert found.n_modes == 2
    assert (found.actions[:, 0].abs() - 0.8).abs().max() < 0.2
    assert len(found.landscapes) == 8
    for sample, view in zip(found.actions, found.landscapes, strict=True):
        best = divmod(int(view.values.argmax()), len(view.grid))
        assert torch.sign(view.grid[best[0]]) == torch.sign(sample[0, 0])
        assert torch.equal(view.path[0], torch.zeros(2))


class FirstOf(torch.nn.Module):
    """A score of chunks whose optimum depends on the sample in the first `n_components` components only."""

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.n_components = n_components

    def forward(self, latent: Tensor, chunk: Tensor) -> Tensor:
        target = torch.zeros_like(chunk)
        target[:, : self.n_components] = 0.5 * latent[:, :1].sign()
        return -(chunk - target).square().sum(-1)


@pytest.mark.parametrize(("n_components", "expected"), [(1, 1), (8, 2)])
def test_plans_with_a_small_average_difference_are_one_mode(n_components: int, expected: int) -> None:
    module = policy(horizon=4, chunked=True).eval()
    module.objective = ChunkScore(FirstOf(n_components))
    module.trajopt = TrajOptLayer(LBFGS(), Detached(), Projection())
    found = sample_solutions(module, {"x": torch.zeros(1, 1, 3)}, module.initial_state(1), n_samples=8)
    assert (found.actions[:, 0, 0].abs() > 0.45).all()  # of either sign
    assert found.n_modes == expected


def test_landscapes_show_the_requested_action() -> None:
    module = policy(horizon=4, chunked=True).eval()
    obs, state = {"x": torch.zeros(1, 1, 3)}, module.initial_state(1)
    assert sample_solutions(module, obs, state, step=3).landscapes[0].components == ((3, 0), (3, 1))
    with pytest.raises(ConfigurationError, match="time step"):
        sample_solutions(module, obs, state, step=4)
