"""A check that an objective fulfils the assumptions of the solvers."""

import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.bounds.unbounded import Unbounded
from difftori_pl.trajopt.objective import Latent, Objective
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.tree import map_tensors

_MIXING = (
    "it mixes batch elements; look for operations over the batch dimension, such as BatchNorm in training mode "
    "(call .eval()) or a mean without `dim`"
)


def check_objective(objective: Objective, latent: Latent, actions: Tensor) -> None:
    """Raise an error if an objective violates an assumption of the solvers; for unit tests.

    Solvers take the gradient of the sum over the batch as the gradients of its elements. An objective that mixes
    elements, for instance by BatchNorm in training mode, would be optimised wrongly without an error.

    Args:
        objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,).
        latent: example latents (B, Z), with B at least 2.
        actions: example actions (B, H, A).

    Raises:
        ShapeError: the objective does not return one value per batch element.
        ConfigurationError: the objective does not return a tensor, does not depend on the actions, mixes batch
            elements, or gives different values for the same input.
    """
    if len(actions) < 2:
        raise ConfigurationError(
            f"check_objective needs a batch of at least 2 elements to detect mixing, got {len(actions)}"
        )
    problem, actions = Problem(objective, Unbounded()), actions.detach()
    with torch.no_grad():
        values = problem.evaluate(latent, actions).value
        again = problem.value(latent, actions)
        # Several copies, because BatchNorm in training mode raises its own error for a single element.
        first = torch.zeros(len(actions) + 1, dtype=torch.int64, device=actions.device)
        copies = map_tensors(lambda tensor: tensor.index_select(0, first), (latent, actions))
        among_copies = problem.value(*copies)
    _same(
        again,
        values,
        "gives different values for the same input: switch off dropout and other noise, for instance with .eval()",
    )
    _same(
        among_copies,
        values[:1].expand_as(among_copies),
        f"gives an element a different value in a different batch: {_MIXING}",
    )
    actions = actions.requires_grad_()
    with torch.enable_grad():
        value = problem.value(latent, actions)[0]
        (gradient,) = torch.autograd.grad(value, actions, allow_unused=True, materialize_grads=True)
    if (gradient[1:] != 0).any():
        raise ConfigurationError(
            f"the objective's value for element 0 depends on the actions of other elements: {_MIXING}"
        )


def _same(actual: Tensor, expected: Tensor, complaint: str) -> None:
    try:
        assert_close(actual, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    except AssertionError as error:
        raise ConfigurationError(f"the objective {complaint}") from error
