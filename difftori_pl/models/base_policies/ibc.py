"""Implicit behavioural cloning (IBC, arXiv:2109.00137)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from difftori_pl.losses import info_nce
from difftori_pl.models.action_samplers import ActionSampler, DerivativeFree, Energy
from difftori_pl.models.base_policies.base import BasePolicy, LearnedPolicy
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.mlp import mlp
from difftori_pl.models.policy import Observation, State, join, part


class IBC(LearnedPolicy):
    """Energy over actions, trained by contrasting demonstrated with other actions and minimised to act.

    The search starts from uniform samples or, with a base policy, from perturbed copies of its action (the baselines
    "IBC" and "IBC + Diffusion" of Table 1).

    Args:
        encoder: maps observations to latents.
        action_dim: size A of an action.
        sampler: searches for actions of low energy, and may generate the counter-examples.
        base: proposes the initial action of the search; it is frozen. None starts from uniform samples in [-1, 1].
        start_std: standard deviation of the samples around the base policy's action.
        n_counter_examples: number of counter-examples per demonstrated action; 256 in IBC's particle tasks.
        n_samples: number of samples of the search; 16,384 in IBC, more than low-dimensional actions need.
        gradient_penalty: weight of the penalty on energy gradients above 1 at the counter-examples; 1 in IBC with
            Langevin sampling, otherwise 0.
        hidden_dims: hidden layers of the energy network.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        sampler: ActionSampler | None = None,
        base: BasePolicy | None = None,
        start_std: float = 0.1,
        n_counter_examples: int = 256,
        n_samples: int = 1024,
        gradient_penalty: float = 0.0,
        hidden_dims: Sequence[int] = (512, 512),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.action_dim = action_dim
        self.sampler = DerivativeFree() if sampler is None else sampler
        self.base = None if base is None else base.requires_grad_(False).eval()
        self.start_std = start_std
        self.n_counter_examples = n_counter_examples
        self.n_samples = n_samples
        self.gradient_penalty = gradient_penalty
        # A last bias would shift all energies equally and receive no gradient.
        self.net = mlp(encoder.latent_dim + action_dim, hidden_dims, 1, last_bias=False)

    def train(self, mode: bool = True) -> "IBC":
        """Set the training mode, except of the base policy, which stays in evaluation mode."""
        super().train(mode)
        if self.base is not None:
            self.base.eval()
        return self

    def reference_policies(self) -> dict[str, BasePolicy]:
        """Return the base policy, if there is one."""
        return {} if self.base is None else {"base": self.base}

    def initial_state(self, batch_size: int) -> State:
        """Return the memories of the encoder and the base policy; see `BasePolicy.initial_state`."""
        base_state = {} if self.base is None else self.base.initial_state(batch_size)
        return join(encoder=self.encoder.initial_state(batch_size), base=base_state)

    def energy(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the energies (P, N) of actions (P, N, A) at latents (P, Z)."""
        latent = latent.unsqueeze(1).expand(-1, actions.shape[1], -1)
        energy: Tensor = self.net(torch.cat([latent, actions], dim=-1)).squeeze(-1)
        return energy

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Search for one action per step and hold it over the horizon; see `BasePolicy.propose`."""
        latent, encoder_state = self.encoder(obs, part(state, "encoder"))
        flat = latent.flatten(0, 1)
        base_state: State = {}
        if self.base is None:
            start = self._uniform(flat, self.n_samples)
        else:
            proposed, base_state = self.base.propose(obs, 1, part(state, "base"))
            start = proposed.flatten(0, 1).expand(-1, self.n_samples, -1)
            start = (start + self.start_std * torch.randn_like(start)).clamp(-1.0, 1.0)
        actions = self._search(flat, start).view(*latent.shape[:2], -1)
        state = join(encoder=encoder_state, base=base_state)
        return actions.unsqueeze(2).expand(-1, -1, horizon, -1), state

    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Return InfoNCE in nats plus the gradient penalty; see `LearnedPolicy.loss`."""
        latent, _ = self.encoder(obs, self.encoder.initial_state(len(actions)))
        flat, demonstrated = latent.flatten(0, 1), actions.flatten(0, 1).unsqueeze(1)
        uniform = self._uniform(flat, self.n_counter_examples)
        with _outside_inference_mode():
            others = self.sampler.counter_examples(self._energy_at(flat.detach().clone()), uniform.clone())
        energies = self.energy(flat, torch.cat([demonstrated, others], dim=1))
        loss = info_nce(energies[:, 0], energies[:, 1:])
        if self.gradient_penalty and torch.is_grad_enabled():
            loss = loss + self.gradient_penalty * self._steepness(flat, others)
        return loss.view(latent.shape[:2])

    def _search(self, latent: Tensor, start: Tensor) -> Tensor:
        """Return the sample (P, A) of lowest energy, searching from `start` (P, N, A)."""
        with _outside_inference_mode():
            energy = self._energy_at(latent.clone())
            samples = self.sampler.sample(energy, start.clone())
            best = energy(samples).argmin(dim=1)
            return samples[torch.arange(len(samples), device=samples.device), best]

    def _steepness(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the mean square (P,) of the excess over 1 of the energy gradient's infinity norm."""
        actions = actions.detach().requires_grad_()
        energy = self.energy(latent, actions).sum()
        (gradient,) = torch.autograd.grad(energy, actions, create_graph=True)
        return (gradient.abs().amax(-1) - 1.0).clamp(min=0.0).square().mean(-1)

    def _energy_at(self, latent: Tensor) -> Energy:
        return lambda actions: self.energy(latent, actions)

    def _uniform(self, latent: Tensor, n_samples: int) -> Tensor:
        """Sample actions (P, N, A) uniformly from [-1, 1]."""
        return torch.rand(len(latent), n_samples, self.action_dim, device=latent.device) * 2.0 - 1.0


@contextmanager
def _outside_inference_mode() -> Iterator[None]:
    """Leave inference mode, so that a sampler can differentiate the energy."""
    with torch.inference_mode(False), torch.no_grad():
        yield
