"""Test problems for the optimiser, most with closed-form solutions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from difftori_pl.trajopt import Objective, RolloutReturn


@dataclass(frozen=True)
class Case:
    """A problem in float64.

    Attributes:
        objective: what to maximise.
        parameters: the tensors of the objective that require gradients.
        latent: (B, Z).
        actions: initial actions (B, H, A).
        optimum: the maximising actions (B, H, A) as a differentiable function of the latent, or None if unknown.
    """

    objective: Objective
    parameters: list[Tensor]
    latent: Tensor
    actions: Tensor
    optimum: Callable[[Tensor], Tensor] | None = None


def quadratic(batch: int = 4) -> Case:
    """Return a case with G(z, a) = −½ ‖a − Mz‖², summed over two actions, whose maximum is a = Mz."""
    generator = torch.Generator().manual_seed(1)
    matrix = (0.3 * torch.randn(3, 5, dtype=torch.float64, generator=generator)).requires_grad_()

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        return -0.5 * (actions - (latent @ matrix.T).unsqueeze(1)).square().sum(dim=(1, 2))

    return Case(
        objective=objective,
        parameters=[matrix],
        latent=uniform(batch, 5, generator=generator),
        actions=0.1 * uniform(batch, 2, 3, generator=generator),
        optimum=lambda latent: (latent @ matrix.T).unsqueeze(1).expand(-1, 2, -1),
    )


def linear_dynamics(batch: int = 4) -> Case:
    """Return a case with linear dynamics and quadratic cost over three steps, solved by the Riccati recursion."""
    generator = torch.Generator().manual_seed(2)
    n_steps = 3
    transition = (0.5 * torch.eye(4, dtype=torch.float64) + 0.1 * uniform(4, 4, generator=generator)).requires_grad_()
    control = (0.3 * uniform(4, 2, generator=generator)).requires_grad_()

    def optimum(latent: Tensor) -> Tensor:
        cost_to_go, gains = torch.eye(4, dtype=torch.float64), []
        for _ in range(n_steps):
            hessian = torch.eye(2, dtype=torch.float64) + control.T @ cost_to_go @ control
            gain = torch.linalg.solve(hessian, control.T @ cost_to_go @ transition)
            gains.insert(0, gain)
            cost_to_go = torch.eye(4, dtype=torch.float64) + transition.T @ cost_to_go @ (transition - control @ gain)
        actions = []
        for gain in gains:
            actions.append(-latent @ gain.T)
            latent = latent @ transition.T + actions[-1] @ control.T
        return torch.stack(actions, dim=1)

    return Case(
        objective=RolloutReturn(
            reward=lambda z, a: -0.5 * (z.square().sum(dim=1) + a.square().sum(dim=1)),
            dynamics=lambda z, a: z @ transition.T + a @ control.T,
            terminal_value=lambda z, a: -0.5 * z.square().sum(dim=1),
            policy=lambda z: z[:, :2],
            discount=1.0,
        ),
        parameters=[transition, control],
        latent=uniform(batch, 4, generator=generator),
        actions=0.1 * uniform(batch, n_steps, 2, generator=generator),
        optimum=optimum,
    )


def network(batch: int = 4) -> Case:
    """Return a case with a small network of latent and all actions and a quadratic penalty on the actions."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Linear(5 + 6, 8), nn.ELU(), nn.Linear(8, 1)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        score = model(torch.cat((latent, actions.flatten(1)), dim=1)).squeeze(1)
        return score - 0.5 * actions.square().sum(dim=(1, 2))

    return Case(
        objective=objective,
        # The last bias does not change the solution, so it has no gradient.
        parameters=list(model.parameters())[:-1],
        latent=uniform(batch, 5, generator=generator),
        actions=0.1 * uniform(batch, 2, 3, generator=generator),
    )


CASES: list[Callable[..., Case]] = [quadratic, linear_dynamics, network]


def uniform(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw from [-1, 1] in float64."""
    return 2 * torch.rand(*shape, dtype=torch.float64, generator=generator) - 1
