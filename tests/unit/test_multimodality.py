import torch
from torch import Tensor

from difftori_pl.metrics import n_modes
from difftori_pl.multimodality import sample_solutions
from tests.unit.test_il import policy


class TwoWays(torch.nn.Module):
    """Prefers actions of one sign or the other, as the first number of the sample says."""

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        target = torch.where(latent[:, :1] > 0, 0.8, -0.8)
        return -(action - target).square().sum(-1)


def test_groups_of_points_are_counted() -> None:
    assert n_modes(torch.zeros(0, 2), 1.0) == 0
    assert n_modes(torch.tensor([[0.0], [0.9], [1.8], [5.0], [5.5]]), 1.0) == 2  # a chain is one group
    assert n_modes(torch.tensor([[0.0], [0.9], [1.8], [5.0], [5.5]]), 0.4) == 5
    assert n_modes(torch.linspace(0, 9, 20)[:, None], 0.5) == 1


def test_samples_of_the_prior_reach_both_ways_from_one_proposal() -> None:
    module = policy().eval()
    module.score = TwoWays()  # type: ignore[assignment]
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
