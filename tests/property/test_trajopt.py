"""Properties of the optimiser that hold for every problem, checked on random ones."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.trajopt import Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Implicit, Truncated, Unroll
from difftori_pl.trajopt.bounds import InnerClamp, Projection, Unbounded
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam, GaussNewton, LevenbergMarquardt, NewtonCG, Solver, Theseus
from tests import cases, problems

quick = settings(max_examples=40, deadline=None, derandomize=True)
modes = st.sampled_from([Unroll(), Truncated(n_steps=3), Detached()])
bounds = st.sampled_from([Projection(-0.5, 0.5), InnerClamp(-0.5, 0.5), Unbounded()])
n_steps = st.integers(1, 6)
# Without a strategy below, a solver is drawn with its settings in `cases`.
# Theseus is too slow for hundreds of problems; its steps equal those of LevenbergMarquardt.
solvers: dict[type[Solver], st.SearchStrategy[Solver]] = {
    **{part: st.builds(build) for part, build in cases.SOLVERS.items() if part is not Theseus},
    LevenbergMarquardt: st.builds(
        LevenbergMarquardt,
        max_steps=st.integers(1, 12),
        step_size=st.floats(1e-4, 0.1),
        damping=st.floats(1e-3, 1e2),
        offset=st.floats(5.0, 1000.0),
    ),
    Adam: st.builds(Adam, max_steps=n_steps, learning_rate=st.floats(1e-3, 0.5), epsilon=st.floats(1e-8, 1e-1)),
    GaussNewton: st.builds(
        GaussNewton, max_steps=n_steps, damping=st.floats(0.5, 10.0), adaptive=st.booleans(), offset=st.just(50.0)
    ),
    LBFGS: st.builds(LBFGS, max_steps=n_steps, memory=st.integers(1, 4)),
    NewtonCG: st.builds(NewtonCG, max_steps=n_steps, n_products=st.integers(1, 6)),
    MPPI: st.builds(
        MPPI,
        max_steps=n_steps,
        n_samples=st.integers(8, 24),
        n_elites=st.integers(1, 8),
        max_std=st.floats(0.1, 1.0),
        seed=st.integers(0, 9),
    ),
}
MONOTONE = (LBFGS, NewtonCG)
"""Solvers with a line search, which never lower the objective."""


@st.composite
def parts(draw: st.DrawFn) -> tuple:
    """Draw a solver and a mode that can differentiate it."""
    solver = draw(st.sampled_from(list(solvers)))
    fitting = [mode for mode in (Unroll(), Truncated(3), Implicit(), Detached()) if cases.fits(solver, type(mode))]
    return draw(solvers[solver]), draw(st.sampled_from(fitting))


@st.composite
def random_problems(draw: st.DrawFn) -> tuple:
    """Draw a random objective of bilinear and trigonometric terms, its parameter, latents and initial actions."""
    batch, horizon, action_dim, latent_dim = (draw(st.integers(1, limit)) for limit in (5, 3, 3, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    weight = problems.uniform(latent_dim, horizon * action_dim, generator=generator).requires_grad_()

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        flat = actions.flatten(1)
        return ((latent @ weight).sin() * flat).sum(dim=1) - 0.5 * flat.square().sum(dim=1) + flat.cos().prod(dim=1)

    latent = problems.uniform(batch, latent_dim, generator=generator)
    return objective, weight, latent, problems.uniform(batch, horizon, action_dim, generator=generator)


def gradient(actions: Tensor, weight: Tensor) -> Tensor:
    """Differentiate the sum of the actions; zero if no element has a gradient."""
    return torch.autograd.grad(actions.sum(), weight, allow_unused=True, materialize_grads=True)[0]


@quick
@given(random_problems(), parts(), bounds, st.randoms(use_true_random=False))
def test_permuting_the_batch_permutes_the_solution(problem, parts, bound, random):
    objective, weight, latent, actions = problem
    layer = TrajOptLayer(*parts, bound)
    order = random.sample(range(len(latent)), len(latent))
    straight, permuted = layer(objective, latent, actions), layer(objective, latent[order], actions[order])
    assert_close(permuted.actions, straight.actions[order], rtol=1e-10, atol=1e-12)
    assert_close(permuted.value, straight.value[order], rtol=1e-10, atol=1e-12)
    if straight.actions.requires_grad:
        gradients = [gradient(each.actions, weight) for each in (straight, permuted)]
        assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-10)


@quick
@given(random_problems(), parts(), bounds)
def test_batch_equals_elements_solved_alone(problem, parts, bound):
    objective, _, latent, actions = problem
    layer = TrajOptLayer(*parts, bound)
    together = layer(objective, latent, actions)
    alone = [layer(objective, latent[b : b + 1], actions[b : b + 1]).actions for b in range(len(latent))]
    assert_close(together.actions, torch.cat(alone), rtol=1e-10, atol=1e-12)


@quick
@given(random_problems(), parts(), bounds)
def test_best_value_is_at_least_that_of_start_and_end(problem, parts, bound):
    objective, _, latent, actions = problem
    solution = TrajOptLayer(parts[0], Detached(), bound)(objective, latent, actions)
    start = objective(latent, bound.to_actions(bound.to_iterate(actions))).detach()
    assert (solution.best_value >= start - 1e-12).all()
    assert (solution.best_value >= solution.value).all()
    if isinstance(parts[0], MONOTONE):
        assert (solution.value >= start - 1e-12).all()


@quick
@given(random_problems(), st.integers(1, 20))
def test_small_steps_never_lower_the_objective(problem, max_steps):
    objective, _, latent, actions = problem
    # α · offset / λ = 0.05 bounds the step by 0.05 ‖g‖, far below the inverse curvature of these objectives.
    solver = LevenbergMarquardt(max_steps=max_steps, step_size=0.005, damping=1.0, offset=10.0)
    solution = TrajOptLayer(solver, Detached(), Projection())(objective, latent, actions)
    assert_close(solution.value, solution.best_value)
    assert (solution.value >= objective(latent, actions) - 1e-12).all()


@quick
@given(random_problems(), parts(), st.data())
def test_non_finite_input_affects_one_element_only(problem, parts, data):
    objective, weight, latent, actions = problem
    assume(len(latent) > 1)
    layer = TrajOptLayer(*parts)
    clean = layer(objective, latent, actions)
    bad = data.draw(st.integers(0, len(latent) - 1))
    healthy = [b for b in range(len(latent)) if b != bad]
    target = data.draw(st.sampled_from([latent, actions]))
    target[bad].view(-1)[data.draw(st.integers(0, target[bad].numel() - 1))] = data.draw(
        st.sampled_from([torch.nan, torch.inf, -torch.inf])
    )
    solution = layer(objective, latent, actions)
    assert (solution.status == Status.FAILED).tolist() == [b == bad for b in range(len(latent))]
    assert torch.isfinite(solution.actions).all()
    assert torch.equal(solution.actions[healthy], clean.actions[healthy])
    assert torch.equal(solution.best_actions[healthy], clean.best_actions[healthy])
    expected = layer(objective, latent[healthy], actions[healthy])
    if expected.actions.requires_grad:
        gradients = [gradient(each.actions, weight) for each in (solution, expected)]
        assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-10)


@quick
@given(
    st.floats(-8, 3).map(lambda exponent: 10.0**exponent),
    st.floats(-12, 8).map(lambda exponent: 10.0**exponent),
    modes,
)
def test_float32_stays_finite(damping, norm, mode):
    direction = torch.tensor([0.6, -0.8], requires_grad=True)
    solver = LevenbergMarquardt(max_steps=8, damping=damping)
    solution = TrajOptLayer(solver, mode)(
        lambda latent, actions: norm * (actions * direction).sum(dim=(1, 2)) * latent.squeeze(1),
        torch.ones(2, 1),
        torch.zeros(2, 1, 2),
    )
    assert solution.status.tolist() == [Status.MAX_STEPS] * 2
    assert torch.isfinite(solution.actions).all()
    if solution.actions.requires_grad:
        (found,) = torch.autograd.grad(solution.actions.sum(), direction)
        assert torch.isfinite(found).all()
