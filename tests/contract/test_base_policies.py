"""Every base policy fulfils the contract of `BasePolicy`."""

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.models.base_policies import BasePolicy, LearnedPolicy
from tests import cases
from tests.cases import observations


@pytest.fixture(params=cases.BASE_POLICIES)
def policy(request: pytest.FixtureRequest) -> BasePolicy:
    torch.manual_seed(0)
    return cases.BASE_POLICIES[request.param]().eval()


def test_proposals_have_the_shape_and_range(policy: BasePolicy) -> None:
    actions, _ = policy.propose(observations(5, 6), 3, policy.initial_state(5))
    assert actions.shape == (5, 6, 3, policy.action_dim)
    assert actions.abs().max() <= 1.0


def test_acting_executes_the_first_proposed_action(policy: BasePolicy) -> None:
    obs = observations(5, 1)
    torch.manual_seed(1)
    acted, _ = policy.act(obs, policy.initial_state(5))
    torch.manual_seed(1)
    proposed, _ = policy.propose(obs, 1, policy.initial_state(5))
    assert torch.equal(acted, proposed[:, 0, 0])


def test_posterior_proposals_have_the_same_shape_range_and_memory(policy: BasePolicy) -> None:
    obs, demonstrated = observations(5, 6), torch.rand(5, 6, 3, 2) * 2 - 1
    torch.manual_seed(1)
    actions, posterior_state = policy.propose_posterior(obs, demonstrated, policy.initial_state(5))
    torch.manual_seed(1)
    _, prior_state = policy.propose(obs, 3, policy.initial_state(5))
    assert actions.shape == (5, 6, 3, 2)
    assert actions.abs().max() <= 1.0
    assert posterior_state.keys() == prior_state.keys()
    for name, memory in posterior_state.items():
        if name.endswith("chunk"):  # the proposed actions that remain to be executed
            assert memory.shape == prior_state[name].shape
        else:
            assert_close(memory, prior_state[name], msg=name)


def test_the_memory_is_batch_first_and_of_fixed_size(policy: BasePolicy) -> None:
    state = policy.initial_state(5)
    _, after = policy.propose(observations(5, 2), 1, state)
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in state.items()}
    assert all(len(value) == 5 for value in state.values())


@pytest.mark.parametrize("name", cases.BASE_POLICIES)
def test_a_policy_with_parameters_has_a_loss_per_step_that_gives_gradients(name: str) -> None:
    torch.manual_seed(0)
    policy = cases.BASE_POLICIES[name]()
    if not isinstance(policy, LearnedPolicy):
        assert not list(policy.parameters()), f"{type(policy).__name__} has parameters: derive it from LearnedPolicy"
        return
    # 8 steps are the length of a chunk of the diffusion policy.
    obs, actions = observations(5, 8), torch.rand(5, 8, 2) * 2 - 1
    loss = policy.train().loss(obs, actions)
    assert loss.shape == (5, 8)
    loss.mean().backward()
    trained = {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in trained.values())
