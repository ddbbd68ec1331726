import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import Status, TrajOptLayer, policy_rollouts, shift
from difftori_pl.trajopt.backward import Detached, Implicit, Truncated, Unroll
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.solvers import Adam
from tests import problems

LATENT = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)


def two_peaks(latent: Tensor, actions: Tensor) -> Tensor:
    """Return a value with a peak of 1 near −0.5 and one of 2 near +0.5; mirrored for a latent of −1."""
    signed = latent.view(-1, 1, 1) * actions

    def peak(centre: float) -> Tensor:
        return torch.exp(-20 * (signed - centre).square()).sum(dim=(1, 2))

    return peak(-0.5) + 2 * peak(0.5)


def starts(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1).expand(2, -1, -1, -1)


@pytest.mark.parametrize("mode", [Unroll(), Truncated(3), Detached()])
def test_keeps_the_best_of_several_starts(mode):
    layer = TrajOptLayer(Adam(max_steps=30), mode)
    solution = layer(two_peaks, LATENT, starts(-0.4, 0.4, -0.6))
    assert solution.actions.shape == solution.best_actions.shape == (2, 1, 1)
    assert_close(solution.best_actions.detach().flatten(), torch.tensor([0.5, -0.5]).double(), rtol=0, atol=1e-2)
    assert_close(solution.value, two_peaks(LATENT, solution.actions))
    alone = layer(two_peaks, LATENT[:1], starts(0.4)[:1])
    assert_close(solution.actions[:1], alone.actions)


def test_gradient_is_that_of_the_best_start():
    actions = starts(-0.4, 0.4).clone().requires_grad_()
    solution = TrajOptLayer(Adam(max_steps=3), Unroll())(two_peaks, LATENT, actions)
    (gradient,) = torch.autograd.grad(solution.actions.sum(), actions)
    assert (gradient != 0).squeeze().tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("mode", [Unroll(), Truncated(3), Implicit(tolerance=torch.inf)], ids=repr)
def test_only_the_best_start_is_differentiated(mode):
    attached = []

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        if latent.requires_grad:
            attached.append(len(actions))
        return two_peaks(latent, actions)

    latent = LATENT.clone().requires_grad_()
    solution = TrajOptLayer(Adam(max_steps=5), mode, n_starts=8)(objective, latent, starts(-0.4, 0.4))
    assert solution.actions.requires_grad
    assert set(attached) == {len(LATENT)}
    assert_close(solution.initial_value, two_peaks(LATENT, starts(-0.4)[:, 0]))


def test_noisy_copies_improve_the_best_value():
    case = problems.network()
    layer = TrajOptLayer(Adam(max_steps=5), Detached(), n_starts=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        several = layer(case.objective, case.latent, case.actions)
        torch.manual_seed(0)
        alone = layer(case.objective, case.latent[1:2], case.actions[1:2])
    single = TrajOptLayer(Adam(max_steps=5), Detached())(case.objective, case.latent, case.actions)
    gain = several.best_value - single.best_value
    assert (gain > -1e-12).all()  # another batch size changes the order of summation
    assert (gain > 1e-3).any()
    assert_close(several.actions[1:2], alone.actions, rtol=1e-10, atol=1e-12)


def test_number_of_starts_and_their_bounds():
    seen = []

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        seen.append(actions.detach())
        return -actions.square().sum(dim=(1, 2))

    layer = TrajOptLayer(Adam(max_steps=1), Detached(), Projection(-0.2, 0.2), n_starts=4, start_noise=1.0)
    layer(objective, LATENT, starts(0.1, 0.15))
    assert seen[0].shape == (8, 1, 1)
    first, second = seen[0].view(2, 4)
    assert_close(first, second)
    assert_close(first[:2], torch.tensor([0.1, 0.15]).double())
    assert first.abs().max() <= 0.2


def test_failed_start_leaves_the_others():
    actions = starts(0.4, 0.4).clone()
    actions[0, 0] = torch.nan
    actions[1] = torch.nan
    solution = TrajOptLayer(Adam(max_steps=3), Unroll())(two_peaks, LATENT, actions)
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.FAILED]
    expected = TrajOptLayer(Adam(max_steps=3), Unroll())(two_peaks, LATENT[:1], starts(0.4)[:1])
    assert_close(solution.actions[:1], expected.actions)


def test_shift_drops_the_first_action():
    actions = torch.arange(6.0).view(1, 3, 2)
    assert shift(actions).tolist() == [[[2, 3], [4, 5], [0, 0]]]
    assert shift(actions, last=torch.ones(1, 2)).tolist() == [[[2, 3], [4, 5], [1, 1]]]


def test_policy_rollouts_follow_the_dynamics():
    latent = torch.tensor([[1.0], [3.0]])
    rollouts = policy_rollouts(lambda z: 0.5 * z, lambda z, a: z - a, latent, horizon=3, n_rollouts=2)
    expected = torch.tensor([[0.5, 0.25, 0.125], [1.5, 0.75, 0.375]]).view(2, 1, 3, 1).expand(-1, 2, -1, -1)
    assert_close(rollouts, expected)


@pytest.mark.parametrize(("bad", "name"), [({"n_starts": 0}, "n_starts"), ({"start_noise": -1.0}, "start_noise")])
def test_refuses_bad_settings(bad, name):
    with pytest.raises(ConfigurationError, match=name):
        TrajOptLayer(Adam(), Detached(), **bad)
