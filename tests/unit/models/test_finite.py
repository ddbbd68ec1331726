import torch
from torch import nn

from difftori_pl.models.base_policies import BCRNNGMM, Zeros
from difftori_pl.models.encoders import StateEncoder
from difftori_pl.models.finite import FiniteCheck

NAN = torch.full((2,), torch.nan)


def test_only_what_a_policy_reads_must_be_finite() -> None:
    check = FiniteCheck(StateEncoder({"position": 2, "speed": 2}, masked_components={"speed": [1]}))
    good = {"position": torch.zeros(2), "speed": torch.tensor([0.0, torch.nan]), "temperature": NAN}
    assert check.spoiled(good) == []
    assert check.spoiled(good | {"speed": torch.tensor([torch.inf, 0.0])}) == ["speed"]
    assert check.spoiled(good | {"position": NAN}) == ["position"]
    assert FiniteCheck(Zeros(1)).spoiled({"position": NAN}) == ["position"]
    assert FiniteCheck(object()).spoiled({"position": NAN}) == ["position"]


def test_a_component_that_only_one_of_two_encoders_masks_must_be_finite() -> None:
    both = [StateEncoder({"speed": 2}, masked_components={"speed": components}) for components in ([0, 1], [1])]
    check = FiniteCheck(nn.ModuleList(both))
    assert check.spoiled({"speed": torch.tensor([torch.nan, 0.0])}) == ["speed"]
    assert check.spoiled({"speed": torch.tensor([0.0, torch.nan])}) == []


def test_nan_affects_one_element_of_a_mixture_until_its_memory_restarts() -> None:
    policy = BCRNNGMM(StateEncoder({"position": 2}, latent_dim=4), action_dim=1, hidden_dim=8, restart_after=2)
    state = policy.initial_state(2)
    spoiled = torch.tensor([[[torch.nan, 0.0]], [[0.0, 0.0]]])
    finite = []
    for obs in (spoiled, torch.zeros(2, 1, 2), torch.zeros(2, 1, 2)):
        action, state = policy.act({"position": obs}, state)
        finite.append(torch.isfinite(action).flatten().tolist())
    assert finite == [[False, True], [False, True], [True, True]]


def test_the_posterior_proposals_of_a_mixture_are_nan_only_where_the_observation_is() -> None:
    policy = BCRNNGMM(StateEncoder({"position": 2}, latent_dim=4), action_dim=1, hidden_dim=8)
    spoiled = torch.tensor([[[torch.nan, 0.0]], [[0.0, 0.0]]])
    proposed, _ = policy.propose_posterior({"position": spoiled}, torch.zeros(2, 1, 1, 1), policy.initial_state(2))
    assert torch.isfinite(proposed).flatten().tolist() == [False, True]
