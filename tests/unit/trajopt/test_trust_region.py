import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Unroll
from difftori_pl.trajopt.bounds import Projection, StraightThroughProjection, TrustRegion
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam


def pull(latent, actions):
    """A score whose maximum is at `latent`."""
    return -(actions - latent.unsqueeze(1)).square().sum((1, 2))


LATENT = torch.tensor([[0.9, -0.9], [0.05, 0.1]], dtype=torch.float64)
START = torch.tensor([[[0.0, -0.95]], [[0.0, 0.0]]], dtype=torch.float64)


@pytest.mark.parametrize("solver", [Adam(max_steps=200), LBFGS(max_steps=30)])
def test_the_solution_is_the_maximum_within_the_region(solver):
    layer = TrajOptLayer(solver, Detached(), TrustRegion(0.2))
    assert layer.reach == 0.2
    expected = torch.tensor([[[0.2, -0.9]], [[0.05, 0.1]]], dtype=torch.float64)
    assert_close(layer(pull, LATENT, START).actions, expected, rtol=0.0, atol=1e-3)


def test_the_radius_is_in_the_unit_of_the_caller():
    unit = torch.tensor([0.5, 0.1], dtype=torch.float64)
    layer = TrajOptLayer(Adam(max_steps=200), Detached(), TrustRegion(0.2))
    moved = layer(lambda latent, actions: pull(latent, actions * unit), LATENT, START / unit, unit).actions
    expected = torch.tensor([[[0.2, -0.93 / 0.1]], [[0.1, 0.2]]], dtype=torch.float64)
    assert_close(moved, expected, rtol=0.0, atol=1e-3)


def test_samples_stay_in_the_region_and_its_limits_in_the_box():
    solver = MPPI(max_steps=3, n_samples=64)
    solution = TrajOptLayer(solver, Detached(), TrustRegion(0.2))(pull, LATENT, START)
    assert ((solution.actions - START).abs() <= 0.2 + 1e-9).all()
    assert (solution.actions.abs() <= 1.0).all()


def test_a_radius_beyond_the_box_changes_nothing():
    for bounds in (Projection(), StraightThroughProjection()):
        found = TrajOptLayer(Adam(max_steps=20), Unroll(), bounds)(pull, LATENT, START).actions
        assert torch.equal(
            TrajOptLayer(Adam(max_steps=20), Unroll(), TrustRegion(3.0))(pull, LATENT, START).actions, found
        )


def test_each_start_has_its_own_region():
    starts = torch.tensor([[[[0.0]], [[0.5]]]], dtype=torch.float64)
    latent = torch.tensor([[0.9]], dtype=torch.float64)
    layer = TrajOptLayer(Adam(max_steps=200), Detached(), TrustRegion(0.1), n_starts=2, start_noise=0.0)
    assert_close(layer(pull, latent, starts).actions, torch.tensor([[[0.6]]], dtype=torch.float64), rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_radius_must_be_positive(radius):
    with pytest.raises(ConfigurationError, match="radius must be above 0"):
        TrustRegion(radius)
