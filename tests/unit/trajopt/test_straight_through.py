"""StraightThroughProjection passes the gradients that point into the box."""

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Truncated, Unroll
from difftori_pl.trajopt.bounds import Projection, StraightThroughProjection
from difftori_pl.trajopt.solvers import Adam, LevenbergMarquardt


def test_passes_gradients_that_point_inwards_only() -> None:
    iterate = torch.tensor([-2.0, -2.0, -0.5, 0.5, 2.0, 2.0], requires_grad=True)
    projected = StraightThroughProjection().project(iterate)
    assert projected.tolist() == [-1.0, -1.0, -0.5, 0.5, 1.0, 1.0]
    # Descent on the weighted sum moves each component against its weight.
    weights = torch.tensor([-3.0, 3.0, -3.0, 3.0, -3.0, 3.0])
    (gradient,) = torch.autograd.grad((weights * projected).sum(), iterate)
    assert gradient.tolist() == [-3.0, 0.0, -3.0, 3.0, 0.0, 3.0]


def test_equals_projection_inside_the_box() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    latent, actions = torch.zeros(4, 1, dtype=torch.float64), torch.full((4, 2, 3), 0.1, dtype=torch.float64)

    def solve(bounds: Projection) -> tuple[torch.Tensor, torch.Tensor]:
        layer = TrajOptLayer(LevenbergMarquardt(max_steps=6, step_size=1e-6), Truncated(n_steps=5), bounds)
        solved = layer(lambda z, a: -(a @ matrix).square().sum((1, 2)), latent, actions).actions
        return solved, torch.autograd.grad(solved.sum(), matrix)[0]

    for ours, theirs in zip(solve(StraightThroughProjection()), solve(Projection()), strict=True):
        assert_close(ours, theirs)


def test_action_on_its_bound_has_a_gradient() -> None:
    def gradient(bounds: Projection) -> float:
        slope = torch.tensor(5.0, requires_grad=True)
        layer = TrajOptLayer(LevenbergMarquardt(max_steps=30, step_size=1e-2), Truncated(n_steps=5), bounds)
        action = layer(lambda z, a: slope * a.sum((1, 2)), torch.zeros(1, 1), torch.zeros(1, 1, 1)).actions
        assert action.item() == 1.0
        return torch.autograd.grad(action.square().sum(), slope)[0].item()

    assert gradient(Projection()) == 0.0
    assert gradient(StraightThroughProjection()) != 0.0


def _penalty(slope: torch.Tensor, latent: torch.Tensor, start: float) -> torch.Tensor:
    layer = TrajOptLayer(Adam(max_steps=4, learning_rate=0.3, epsilon=0.1), Unroll(), StraightThroughProjection())
    actions = torch.full((1, 1, 1), start, dtype=torch.float64)
    solved = layer(lambda z, a: -(a[:, 0] - slope * z).square().sum(1), latent, actions).actions
    return torch.autograd.grad(solved.square().sum(), latent, create_graph=True)[0].square().sum()


def test_second_derivative_is_exact_inside_the_box_and_raises_an_error_outside() -> None:
    inside, outside = (torch.tensor([[size]], dtype=torch.float64, requires_grad=True) for size in (0.3, 3.0))
    slope = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(_penalty(slope, inside, 0.0), slope)
    up, down = (_penalty(slope.detach() + step, inside, 0.0).item() for step in (1e-5, -1e-5))
    assert_close(found.item(), (up - down) / 2e-5, rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"StraightThroughProjection is differentiable once.*use Projection"):
        torch.autograd.grad(_penalty(slope, outside, 0.9), slope)
