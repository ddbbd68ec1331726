import pytest
import torch
from torch import nn

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt import check_objective
from tests import problems

LATENT, ACTIONS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 2, 3)


@pytest.mark.parametrize("case", problems.CASES)
def test_accepts_a_valid_objective(case):
    case = case()
    check_objective(case.objective, case.latent, case.actions)


def centred(latent, actions):
    value = (actions * latent[:, :1, None]).sum(dim=(1, 2))
    return value - value.mean()


def mixed(latent, actions):
    # At zero actions the values do not depend on the batch; only the gradient reveals the mixing.
    return actions.sum(dim=(1, 2)) + 0 * latent.sum(dim=1) + actions.sum()


def random(latent, actions):
    return actions.sum(dim=(1, 2)) + torch.rand(len(actions))


@pytest.mark.parametrize("objective", [centred, mixed])
def test_refuses_mixed_elements(objective):
    with pytest.raises(ConfigurationError, match="mixes batch elements"):
        check_objective(objective, LATENT, ACTIONS)


@pytest.mark.parametrize("of_latent_only", [False, True])
def test_message_names_batch_normalisation(of_latent_only):
    network = nn.Sequential(nn.Linear(5 if of_latent_only else 11, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def objective(latent, actions):
        features = latent if of_latent_only else torch.cat((latent, actions.flatten(1)), dim=1)
        return network(features).squeeze(1) + actions.sum(dim=(1, 2))

    with pytest.raises(ConfigurationError, match=r"mixes batch elements.*BatchNorm in training mode \(call .eval\(\)"):
        check_objective(objective, LATENT, ACTIONS)
    network.eval()
    check_objective(objective, LATENT, ACTIONS)


def test_refuses_a_random_objective():
    with pytest.raises(ConfigurationError, match="different values for the same input"):
        check_objective(random, LATENT, ACTIONS)


def test_refuses_objectives_that_the_layer_refuses():
    with pytest.raises(ShapeError, match="one value per batch element"):
        check_objective(lambda z, a: a.sum(), LATENT, ACTIONS)
    with pytest.raises(ConfigurationError, match="does not depend on the actions"):
        check_objective(lambda z, a: z.sum(dim=1), LATENT, ACTIONS)
    with pytest.raises(ConfigurationError, match="at least 2 elements"):
        check_objective(mixed, LATENT[:1], ACTIONS[:1])
