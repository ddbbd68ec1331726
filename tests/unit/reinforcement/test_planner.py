"""The planner's objective and starts against closed forms and step-by-step references."""

import pytest
import torch
from torch import Tensor, nn

from difftori_pl import Detached, Planner, Projection, StateEncoder, TrajOptLayer, WorldModel
from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.solvers import Adam

OBS, A, H = 3, 2, 4


class Fixed(nn.Module):
    """Values of two networks: a quadratic, and a multiple of its distance to `safe` above it."""

    def __init__(self, safe: float) -> None:
        super().__init__()
        self.safe = safe

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        value = -(action - 0.8).square().sum(-1)
        return torch.stack([value, value + 4.0 * (action - self.safe).square().sum(-1)])


def make_model(value: nn.Module | None = None) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(StateEncoder({"state": OBS}, 5, [8], normalize=False), A, 16, value=value)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return model.double()


def make_planner(n_starts: int = 6, penalty: float = 0.0, n_steps: int = 5) -> Planner:
    layer = TrajOptLayer(Adam(n_steps, 0.2), Detached(), Projection(), n_starts=n_starts)
    return Planner(layer, n_policy_starts=1, warm_start=True, disagreement_penalty=penalty)


def value_of(model: WorldModel, latent: Tensor, actions: Tensor, penalty: float) -> Tensor:
    """Sum the penalised rewards and the penalised terminal value, step by step."""
    total = torch.zeros(len(latent), dtype=latent.dtype)
    for t in range(actions.shape[1]):
        q1, q2 = model.values(latent, actions[:, t])
        total = total + 0.9**t * (model.reward(latent, actions[:, t]) - penalty * (q1 - q2).abs() / 2)
        latent = model.next(latent, actions[:, t])
    q1, q2 = model.values(latent, model.act(latent))
    return total + 0.9 ** actions.shape[1] * (torch.minimum(q1, q2) - penalty * (q1 - q2).abs() / 2)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_the_objective_against_a_step_by_step_reference(penalty: float) -> None:
    model, latent = make_model(), torch.randn(3, 5, dtype=torch.float64)
    last = torch.zeros(3, H, A, dtype=torch.float64)
    with torch.no_grad():
        solution = make_planner(penalty=penalty)(model, 0.9, latent, H, last)
        expected = value_of(model, latent, solution.best_actions, penalty)
        difference = value_of(model, latent, solution.best_actions, 0.7 - penalty) - expected
    torch.testing.assert_close(solution.best_value, expected, rtol=1e-10, atol=1e-12)
    assert difference.abs().min() > 1e-3, "the penalty of this case is too small to be seen"


def test_the_best_of_all_starts_is_kept() -> None:
    model, latent = make_model(), torch.randn(4, 5, dtype=torch.float64)
    last = 0.5 * torch.randn(4, H, A, dtype=torch.float64).clamp(-1, 1)
    with torch.no_grad():
        alone = [
            TrajOptLayer(Adam(5, 0.2), Detached())(lambda z, a: value_of(model, z, a, 0.0), latent, start).best_value
            for start in make_planner(1)._starts(model, latent, H, last).unbind(1)
        ]
        torch.manual_seed(3)
        together = make_planner()(model, 0.9, latent, H, last)
    assert len(alone) == 2
    assert (together.best_value >= torch.stack(alone).amax(0) - 1e-12).all()
    # The noisy copies are of use: some of them end higher than both other starts.
    assert (together.best_value > torch.stack(alone).amax(0) + 1e-9).any()


def test_the_penalty_moves_the_plan_to_actions_on_which_the_critics_agree() -> None:
    """The penalised reward is -c |Q1 - Q2| / 2 = -2 c (a - 0.3)^2, so that the optimum is at 0.3."""
    model = make_model(Fixed(safe=0.3))
    for head in (model.reward_head, model.pi):  # no reward, and a constant terminal value
        for parameter in [*head.parameters()][-2:]:
            nn.init.zeros_(parameter)
    latent, last = torch.randn(2, 5, dtype=torch.float64), torch.zeros(2, 1, A, dtype=torch.float64)
    with torch.no_grad():
        plan = make_planner(penalty=1.0, n_steps=200)(model, 0.9, latent, 1, last).best_actions
        free = make_planner(penalty=0.0, n_steps=200)(model, 0.9, latent, 1, last).best_actions
    torch.testing.assert_close(plan, torch.full_like(plan, 0.3), rtol=0, atol=0.02)
    assert (free - 0.3).abs().amax() > 0.1


def test_critics_that_agree_give_a_finite_gradient() -> None:
    """The slope of a standard deviation is infinite at zero; TwinQ starts with equal networks."""
    torch.manual_seed(0)
    model = WorldModel(StateEncoder({"state": OBS}, 5, [8], normalize=False), A, 16)
    action = torch.zeros(3, A, requires_grad=True)
    disagreement = model.disagreement(torch.randn(3, 5), action)
    assert not disagreement.any()
    (gradient,) = torch.autograd.grad(disagreement.sum(), action)
    assert not gradient.any()


def test_disagreement_is_the_standard_deviation_of_the_ensemble() -> None:
    model, latent, action = make_model(), torch.randn(6, 5).double(), torch.rand(6, A).double()
    values = model.values(latent, action).detach().numpy()
    torch.testing.assert_close(model.disagreement(latent, action).detach(), torch.from_numpy(values.std(0)))


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"disagreement_penalty must be 0 or above, got -0\.1"):
        make_planner(penalty=-0.1)
