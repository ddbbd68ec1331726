import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt import ActionScore, ChunkScore, OptimisedTerminalReturn, RolloutReturn
from difftori_pl.trajopt.objective import return_to_residual, return_to_residuals


def reward(latent, action):
    return (latent * action).sum(dim=1)


def dynamics(latent, action):
    return latent + 2 * action


def terminal_value(latent, action):
    return 10 * latent.sum(dim=1) + 100 * action.sum(dim=1)


@pytest.fixture
def latent():
    return torch.tensor([[1.0, 2.0], [0.0, -1.0]])


@pytest.fixture
def actions():
    return torch.tensor([[[1.0, 0.0], [0.5, 1.0]], [[0.0, 1.0], [1.0, 1.0]]])


def test_action_score_is_equation_7(latent, actions):
    score = ActionScore(reward, dynamics, discount=0.5)(latent, actions)
    second = latent + 2 * actions[:, 0]
    assert_close(score, reward(latent, actions[:, 0]) + 0.5 * reward(second, actions[:, 1]))


def test_action_score_accepts_a_trailing_dimension(latent, actions):
    column = ActionScore(lambda z, a: reward(z, a).unsqueeze(1), dynamics)
    assert_close(column(latent, actions), ActionScore(reward, dynamics)(latent, actions))


def test_one_action_needs_no_dynamics(latent, actions):
    assert_close(ActionScore(reward)(latent, actions[:, :1]), reward(latent, actions[:, 0]))


def test_more_actions_need_dynamics(latent, actions):
    with pytest.raises(ConfigurationError, match="needs dynamics for a horizon above 1, got a horizon of 2"):
        ActionScore(reward)(latent, actions)


def test_chunk_score_receives_all_actions_at_once(latent, actions):
    def score(z, chunk):
        return (z.sum(dim=1) * chunk[:, 0] * chunk[:, 3]).unsqueeze(1)

    assert_close(ChunkScore(score)(latent, actions), latent.sum(dim=1) * actions[:, 0, 0] * actions[:, 1, 1])
    with pytest.raises(ShapeError, match="a score must be one number per batch element"):
        ChunkScore(lambda z, chunk: chunk)(latent, actions)


@pytest.mark.parametrize("bad", [lambda z, a: z, lambda z, a: z.sum(), lambda z, a: z.sum(dim=1)[:1]])
def test_refuses_a_score_of_the_wrong_shape(latent, actions, bad):
    with pytest.raises(ShapeError, match="a score must be one number per batch element"):
        ActionScore(bad)(latent, actions[:, :1])


def test_rollout_return_takes_its_last_action_from_the_policy(latent, actions):
    objective = RolloutReturn(reward, dynamics, terminal_value, policy=torch.tanh, discount=0.5)
    second = latent + 2 * actions[:, 0]
    last = second + 2 * actions[:, 1]
    expected = reward(latent, actions[:, 0]) + 0.5 * reward(second, actions[:, 1])
    assert_close(objective(latent, actions), expected + 0.25 * terminal_value(last, last.tanh()))


def test_rollout_return_is_discounted_by_the_probability_that_the_task_goes_on(latent, actions):
    def continuation(z):
        return torch.sigmoid(z.sum(dim=1))

    objective = RolloutReturn(reward, dynamics, terminal_value, torch.tanh, 0.5, continuation)
    second = latent + 2 * actions[:, 0]
    last = second + 2 * actions[:, 1]
    p, q = continuation(second), continuation(last)
    expected = reward(latent, actions[:, 0]) + p * 0.5 * reward(second, actions[:, 1])
    assert_close(objective(latent, actions), expected + p * q * 0.25 * terminal_value(last, last.tanh()))
    with pytest.raises(ShapeError, match="a score must be one number per batch element"):
        RolloutReturn(reward, dynamics, terminal_value, torch.tanh, 0.5, lambda z: z)(latent, actions)


def test_optimised_terminal_return_takes_its_last_action_from_the_plan(latent, actions):
    objective = OptimisedTerminalReturn(reward, dynamics, terminal_value, discount=0.5)
    last = latent + 2 * actions[:, 0]
    expected = reward(latent, actions[:, 0]) + 0.5 * terminal_value(last, actions[:, 1])
    assert_close(objective(latent, actions), expected)


def test_residual_decreases_with_the_return():
    assert_close(return_to_residual(torch.tensor([1.0, 3.0]), offset=1000.0), torch.tensor([999.0, 997.0]))


@pytest.mark.parametrize("horizon", [1, 2])
def test_action_score_evaluates_the_dynamics_between_actions_only(latent, actions, horizon):
    calls = []

    def counted(z, a):
        calls.append(a)
        return dynamics(z, a)

    ActionScore(reward, counted)(latent, actions[:, :horizon])
    assert len(calls) == horizon - 1


def test_optimised_terminal_return_of_a_single_action_is_its_value(latent, actions):
    objective = OptimisedTerminalReturn(reward, dynamics, terminal_value)
    assert_close(objective(latent, actions[:, :1]), terminal_value(latent, actions[:, 0]))
    assert objective.terms(latent, actions[:, :1]).shape == (2, 1)


def test_refuses_a_score_that_is_not_a_tensor(latent, actions):
    with pytest.raises(ConfigurationError, match="a score must be a tensor, got tuple"):
        ActionScore(lambda z, a: (reward(z, a), {}))(latent, actions[:, :1])


def test_refuses_terms_of_the_wrong_shape(latent, actions):
    class Summed:
        def terms(self, latent, actions):
            return actions.sum(dim=(1, 2))

    with pytest.raises(ShapeError, match=r"terms must be \(batch, number\), here \(2, K\), got \(2,\)"):
        return_to_residuals(Summed(), latent, actions, offset=10.0)
