"""Kernels that a solver launches in each step beyond the evaluation of the objective and its gradient."""

import pytest
import torch

from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Unroll
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers import LBFGS, Adam, LevenbergMarquardt
from tests import problems
from tests.dispatch import Kernels, count_kernels

# L-BFGS with a memory of 8 has a line search with another evaluation of the objective and two loops over the memory.
CEILINGS = {LevenbergMarquardt: 8, Adam: 20, LBFGS: 160}


def per_step(solver, mode):
    case, counts = problems.network(), []
    for n_steps in (5, 6):
        layer = TrajOptLayer(solver(max_steps=n_steps), mode)
        counts.append(count_kernels(lambda layer=layer: layer(case.objective, case.latent, case.actions)))
    return counts[1] - counts[0]


def evaluation():
    case = problems.network()
    with torch.no_grad():
        return count_kernels(lambda: Problem(case.objective, Projection()).evaluate(case.latent, case.actions))


@pytest.mark.parametrize("solver", CEILINGS)
def test_a_step_launches_few_kernels_beyond_the_evaluation(solver):
    assert 0 < per_step(solver, Detached()) - evaluation() <= CEILINGS[solver]


def test_a_differentiated_step_launches_no_more_beyond_its_evaluation():
    case = problems.network()
    actions = case.actions.requires_grad_()
    differentiable = count_kernels(lambda: Problem(case.objective, Projection()).evaluate(case.latent, actions))
    assert per_step(LevenbergMarquardt, Unroll()) - differentiable <= CEILINGS[LevenbergMarquardt]


def test_views_and_allocations_are_not_counted():
    with Kernels() as kernels:
        (torch.empty(2, 3).view(3, 2).detach().T + 1).mul_(2)
    assert kernels.names == {"add": 1, "mul_": 1}
