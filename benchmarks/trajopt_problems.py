"""Problems of published sizes for the benchmarks of the optimiser.

Sizes: `rl` are those of TD-MPC (latent 50, 6 actions, horizon 5, width 512). `il` are those of the published imitation
set-up (latent 64, a chunk of 16 action components, horizon 1, width 256).
"""

import torch
from torch import Tensor, nn

from difftori_pl.trajopt import ActionScore, Objective, RolloutReturn, TrajOptLayer
from difftori_pl.trajopt.backward import BackwardMode
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import Solver


class Models(nn.Module):
    """Networks of the given size; `il` uses only the score, which is `reward`."""

    def __init__(self, size: str, width: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.latent_dim, self.action_dim = (50, 6) if size == "rl" else (64, 16)
        width = width or (512 if size == "rl" else 256)
        joint_dim = self.latent_dim + self.action_dim
        output_dims = (1, self.latent_dim, 1, 1) if size == "rl" else (1,)
        self.reward, *rest = [mlp(joint_dim, width, output_dim) for output_dim in output_dims]
        self.rest = nn.ModuleList(rest)
        self.policy = mlp(self.latent_dim, width, self.action_dim)

    def objective(self) -> Objective:
        if self.size == "il":
            return ActionScore(lambda z, a: self.reward(torch.cat((z, a), dim=1)))
        return RolloutReturn(
            reward=lambda z, a: self.reward(torch.cat((z, a), dim=1)),
            dynamics=self.dynamics,
            terminal_value=lambda z, a: torch.minimum(*(q(torch.cat((z, a), dim=1)) for q in self.rest[1:])),
            policy=self.act,
        )

    def dynamics(self, latent: Tensor, action: Tensor) -> Tensor:
        return self.rest[0](torch.cat((latent, action), dim=1))

    def act(self, latent: Tensor) -> Tensor:
        return self.policy(latent).tanh()


def mlp(input_dim: int, width: int, output_dim: int) -> nn.Sequential:
    # The last layer has no bias, because a constant does not change the optimal actions.
    return nn.Sequential(
        nn.Linear(input_dim, width),
        nn.ELU(),
        nn.Linear(width, width),
        nn.ELU(),
        nn.Linear(width, output_dim, bias=False),
    )


def make_problems(
    size: str, batch: int, device: str, dtype: torch.dtype, width: int | None = None
) -> tuple[Models, Tensor, Tensor]:
    """Return models with random weights, latents (B, Z) and initial actions (B, H, A)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = Models(size, width)
        with torch.no_grad():
            for parameter in models.parameters():
                parameter.mul_(2)  # increases the variation of the returns
        latent = torch.randn(batch, models.latent_dim)
        actions = 0.1 * torch.randn(batch, 5 if size == "rl" else 1, models.action_dim)
    return models.to(device, dtype), latent.to(device, dtype), actions.to(device, dtype)


def train(models: Models, latent: Tensor) -> Tensor:
    """Fit dynamics, reward and values to a point mass in 3D that two arms push to the origin.

    Returns:
        Latents (B, Z) of random states, as many as in `latent`.
    """
    generator = torch.Generator().manual_seed(1)
    encode = torch.randn(6, models.latent_dim, generator=generator) / 6**0.5

    def step(state: Tensor, action: Tensor) -> Tensor:
        speed = 0.9 * state[:, 3:] + 0.2 * (action[:, :3] + 0.5 * action[:, 3:])
        return torch.cat((state[:, :3] + 0.2 * speed, speed), dim=1)

    def reward(state: Tensor, action: Tensor) -> Tensor:
        return torch.exp(-state[:, :3].square().sum(dim=1)) - 0.02 * action.square().sum(dim=1)

    optimiser = torch.optim.Adam(models.parameters(), lr=1e-3)
    for _ in range(400):
        state = 2 * torch.randn(256, 6, generator=generator)
        action = 2 * torch.rand(256, 6, generator=generator) - 1
        joint, after = torch.cat(((state @ encode).tanh(), action), dim=1), step(state, action)
        losses = [(models.dynamics(joint[:, :-6], action) - (after @ encode).tanh()).square().mean()]
        losses.append((models.reward(joint).squeeze(1) - reward(state, action)).square().mean())
        # The target of Q is the value of the next state without further actions.
        losses += [
            (q(joint).squeeze(1) - 5 * reward(after, torch.zeros_like(action))).square().mean() for q in models.rest[1:]
        ]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    return (2 * torch.randn(len(latent), 6, generator=generator) @ encode).tanh()


def loss_weight(actions: Tensor) -> Tensor:
    """Return the weights of a random linear loss of `actions`, with their shape."""
    return torch.randn(actions.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(actions)


def solve_and_differentiate(
    solver: Solver, mode: BackwardMode, models: Models, latent: Tensor, actions: Tensor, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the solution (B, H, A) and the gradient of a random loss with respect to all parameters, flattened."""
    solution = TrajOptLayer(solver, mode, Unbounded(), compiled=compiled)(models.objective(), latent, actions)
    loss = (loss_weight(actions) * solution.actions).sum()
    gradients = torch.autograd.grad(loss, list(models.parameters()), allow_unused=True, materialize_grads=True)
    return solution.actions.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def evaluate(n_times: int, models: Models, latent: Tensor, actions: Tensor) -> None:
    """Compute value and gradient of the objective `n_times` without a solver."""
    objective, actions = models.objective(), actions.clone().requires_grad_()
    for _ in range(n_times):
        torch.autograd.grad(objective(latent, actions).sum(), actions)
