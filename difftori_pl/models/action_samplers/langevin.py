"""Langevin dynamics (arXiv:2109.00137, Appendix B.3)."""

import torch
from torch import Tensor

from difftori_pl.models.action_samplers.base import ActionSampler, Energy


class Langevin(ActionSampler):
    """Noisy gradient descent on the energy with a decreasing step size; also generates counter-examples for training.

    Args:
        n_steps: number of steps of a chain; 100 in IBC.
        step_size: first step size; 0.1 in IBC.
        last_step_size: last step size; 1e-5 in IBC.
        power: exponent of the polynomial decay of the step size; 2 in IBC.
        noise: scale of the noise; 1 in IBC.
        max_move: largest change of a component in one step; 0.1 in IBC, for actions in [-1, 1].
    """

    def __init__(
        self,
        n_steps: int = 100,
        step_size: float = 0.1,
        last_step_size: float = 1e-5,
        power: float = 2.0,
        noise: float = 1.0,
        max_move: float = 0.1,
    ) -> None:
        self.n_steps = n_steps
        self.step_size = step_size
        self.last_step_size = last_step_size
        self.power = power
        self.noise = noise
        self.max_move = max_move

    def sample(self, energy: Energy, actions: Tensor) -> Tensor:
        """See `ActionSampler.sample`; the energy is differentiated with respect to the actions only."""
        for step in range(self.n_steps):
            left = 1.0 - step / max(self.n_steps - 1, 1)
            step_size = self.last_step_size + (self.step_size - self.last_step_size) * left**self.power
            with torch.enable_grad():
                actions = actions.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(energy(actions).sum(), actions)
            move = step_size * (0.5 * gradient + self.noise * torch.randn_like(actions))
            actions = (actions - move.clamp(-self.max_move, self.max_move)).clamp(-1.0, 1.0).detach()
        return actions

    def counter_examples(self, energy: Energy, actions: Tensor) -> Tensor:
        """Return the ends of Langevin chains that start from `actions`; see `ActionSampler.counter_examples`."""
        return self.sample(energy, actions)
