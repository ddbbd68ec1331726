"""A check, on request, that an objective keeps what solvers rely on."""

import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.bounds.unbounded import Unbounded
from difftori_pl.trajopt.objective import Latent, Objective
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.tree import map_tensors


def check_objective(objective: Objective, latent: Latent, actions: Tensor) -> None:
    """Refuse an objective that solvers would misunderstand; for a first look, or a unit test of yours.

    Solvers take the gradient of the sum over the batch for the gradients of its elements. An objective that mixes
    elements, by normalising over the batch for instance, would quietly be optimised wrongly.

    Args:
        objective: what is to be maximised.
        latent: an example of what it is conditioned on (B, Z), for at least two elements.
        actions: examples of actions (B, H, A).

    Raises:
        ShapeError: it does not return one value per batch element.
        ConfigurationError: it does not depend on the actions, mixes batch elements, or gives another answer the second
            time.
    """
    if len(actions) < 2:
        raise ConfigurationError("check_objective needs a batch of at least 2 elements to see whether they are mixed")
    problem, actions = Problem(objective, Unbounded()), actions.detach()
    with torch.no_grad():
        values = problem.evaluate(latent, actions).value
        again = problem.value(latent, actions)
        alone = problem.value(map_tensors(lambda tensor: tensor[:1], latent), actions[:1])
    _same(again, values, "gives different values for the same input: switch dropout and other noise off, as by .eval()")
    _same(alone, values[:1], "gives an element another value in a batch than alone: it mixes batch elements")
    actions = actions.requires_grad_()
    with torch.enable_grad():
        first = problem.value(latent, actions)[0]
        (gradient,) = torch.autograd.grad(first, actions, allow_unused=True, materialize_grads=True)
    if (gradient[1:] != 0).any():
        raise ConfigurationError(
            "the objective mixes batch elements: the first value depends on the actions of others; look for operations "
            "over the batch dimension, such as BatchNorm in training mode or a mean without `dim`"
        )


def _same(actual: Tensor, expected: Tensor, complaint: str) -> None:
    try:
        assert_close(actual, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    except AssertionError as error:
        raise ConfigurationError(f"the objective {complaint}") from error
