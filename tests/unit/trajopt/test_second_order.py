"""L-BFGS and Newton-CG: comparison with scipy, negative and zero curvature, bounds."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Truncated, Unroll
from difftori_pl.trajopt.bounds import Projection, Unbounded
from difftori_pl.trajopt.conjugate_gradient import conjugate_gradient
from difftori_pl.trajopt.solvers import LBFGS, Adam, NewtonCG
from tests import problems

both = pytest.mark.parametrize("solver", [LBFGS(), NewtonCG()], ids=repr)


@pytest.mark.parametrize("solver", [LBFGS(max_steps=40), NewtonCG(), Adam(max_steps=200, beta_2=0.99)], ids=repr)
@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_finds_the_optimum_of_scipy(solver, limit):
    optimize = pytest.importorskip("scipy.optimize")
    case = problems.network()
    # Steeper than the original case, so that bounds matter and curvatures differ.
    objective = lambda z, a: 3 * case.objective(z, 2 * a)  # noqa: E731
    solution = TrajOptLayer(solver, Detached(), Projection(-limit, limit))(objective, case.latent, case.actions)
    on_bounds = 0
    for b in range(4):

        def negative(flat, b=b):
            actions = torch.from_numpy(flat).view(1, 2, 3).requires_grad_()
            value = objective(case.latent[b : b + 1], actions).sum()
            return -value.item(), -torch.autograd.grad(value, actions)[0].numpy().ravel()

        start = case.actions[b].numpy().ravel().clip(-limit, limit)
        found = optimize.minimize(
            negative,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-limit, limit)] * 6,
            options={"gtol": 1e-10, "ftol": 0},
        )
        on_bounds += (np.abs(found.x) == limit).sum()
        assert_close(solution.actions[b].flatten(), torch.from_numpy(found.x), rtol=0, atol=1e-5)
        assert_close(solution.value[b].item(), -found.fun, rtol=0, atol=1e-8)
    assert (on_bounds > 0) == (limit == 0.1), "only the tight bounds must be active"


@both
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_objective_does_not_matter(solver, scale):
    case = problems.network()
    layer = TrajOptLayer(solver, Detached())
    expected = layer(case.objective, case.latent, case.actions)
    scaled = layer(lambda z, a: scale * case.objective(z, a), case.latent, case.actions)
    assert_close(scaled.actions, expected.actions, rtol=1e-6, atol=1e-7)


@both
def test_leaves_a_region_of_positive_curvature(solver):
    # sin² has a minimum at 0; near it a plain Newton step would go there.
    latent, actions = (
        torch.zeros(2, 1, dtype=torch.float64),
        torch.tensor([0.1, -0.2], dtype=torch.float64).view(2, 1, 1),
    )
    solution = TrajOptLayer(solver, Detached(), Unbounded())(
        lambda z, a: a.sin().square().sum(dim=(1, 2)), latent, actions
    )
    assert_close(solution.value, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-10)


@both
def test_avoids_actions_with_nan(solver):
    latent, actions = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1, 1), 0.5, dtype=torch.float64)
    # x + 0.1 log(1 − x) has its maximum at 0.9 and is NaN above 1.
    solution = TrajOptLayer(solver, Detached(), Unbounded())(
        lambda z, a: (a + 0.1 * (1 - a).log()).sum(dim=(1, 2)), latent, actions
    )
    assert solution.status.tolist() == [Status.MAX_STEPS]
    assert_close(solution.actions.item(), 0.9, rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("norm", [1e-12, 1e8])
def test_float32_gradients_of_any_size(solver, norm):
    solution = TrajOptLayer(solver, Detached())(
        lambda z, a: norm * (a * torch.tensor([0.6, -0.8])).sum(dim=(1, 2)), torch.ones(2, 1), torch.zeros(2, 1, 2)
    )
    assert solution.status.tolist() == [Status.MAX_STEPS] * 2
    assert_close(solution.actions, torch.tensor([1.0, -1.0]).expand(2, 1, 2))


@both
def test_stops_at_the_tolerance(solver):
    case, solver = problems.quadratic(), type(solver)(grad_tolerance=1e-6)
    solution = TrajOptLayer(solver, Detached())(case.objective, case.latent, case.actions)
    assert solution.status.tolist() == [Status.CONVERGED] * 4
    assert (solution.n_steps < solver.max_steps).all()
    assert (solution.grad_norm < 1e-6).all()


@both
@pytest.mark.parametrize("mode", [Unroll(), Truncated()], ids=repr)
def test_refuses_modes_that_differentiate_the_steps(solver, mode):
    with pytest.raises(
        ConfigurationError, match="its steps pass no gradient; choose a mode that differentiates the solution"
    ):
        TrajOptLayer(solver, mode)


@pytest.mark.parametrize(
    ("solver", "bad"),
    [(LBFGS, "max_steps"), (LBFGS, "memory"), (LBFGS, "first_step"), (LBFGS, "n_lengths"), (NewtonCG, "n_products")],
)
def test_refuses_bad_settings(solver, bad):
    with pytest.raises(ConfigurationError, match=bad):
        solver(**{bad: 0})


class TestConjugateGradient:
    def test_solves_each_element(self):
        generator = torch.Generator().manual_seed(0)
        root = problems.uniform(3, 6, 6, generator=generator)
        matrix = root @ root.transpose(1, 2) + 0.1 * torch.eye(6, dtype=torch.float64)
        target = problems.uniform(3, 2, 3, generator=generator)

        def product(vector):
            return (matrix @ vector.flatten(1).unsqueeze(2)).view_as(vector)

        expected = torch.linalg.solve(matrix, target.flatten(1)).view(3, 2, 3)
        for wait in (False, True):
            assert_close(conjugate_gradient(product, target, 40, 1e-14, wait), expected, rtol=1e-6, atol=1e-8)

    def test_negative_first_curvature_is_reversed_and_nan_gives_zero(self):
        target = torch.tensor([[[2.0]], [[0.0]], [[3.0]]])
        curvature = torch.tensor([-4.0, 1.0, torch.nan]).view(3, 1, 1)
        solution = conjugate_gradient(lambda vector: curvature * vector, target, 5, 1e-6)
        assert solution.flatten().tolist() == [0.5, 0.0, 0.0]


def test_lbfgs_recovers_from_a_failed_line_search():
    torch.manual_seed(0)
    root = torch.randn(1000, 4, 4, dtype=torch.float64) / 2
    latent = {
        "curvature": root @ root.transpose(1, 2) + 0.3 * torch.eye(4, dtype=torch.float64),
        "centre": torch.randn(1000, 4, dtype=torch.float64),
    }

    def objective(latent, actions):
        away = actions.flatten(1) - latent["centre"]
        return -0.5 * torch.einsum("bi,bij,bj->b", away, latent["curvature"], away)

    layer = TrajOptLayer(LBFGS(max_steps=30), Detached(), Projection(-1.0, 1.0))
    assert layer(objective, latent, torch.zeros(1000, 1, 4, dtype=torch.float64)).grad_norm.max() < 1e-6
