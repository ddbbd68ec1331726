"""Diffusion Policy (arXiv:2303.04137): action chunks by denoising, executed with a receding horizon."""

from collections.abc import Sequence

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.base_policies.base import LearnedPolicy
from difftori_pl.models.conditional_unet import ConditionalUNet
from difftori_pl.models.encoders.base import Encoder, refuse_memory
from difftori_pl.models.noise_schedule import DDPM, NoiseSchedule
from difftori_pl.models.policy import Observation, State


class DiffusionPolicy(LearnedPolicy):
    """Denoise a chunk of actions given the last observations, execute the first actions of it, and repeat.

    A chunk begins at the oldest observation that it is conditioned on::

        observed   |o|o|               n_obs_steps
        predicted  |a|a|a|a|a|a|a|a|   n_chunk_steps
        executed     |a|a|a|           n_executed_steps, from the newest observation on

    When proposals are requested at every step, as by `DiffTORIIL`, they are the remaining actions of the current chunk.
    The policy is thus committed to one mode for the length of a chunk, as when it acts alone.

    Train it on windows of exactly one chunk: set `data.init_args.n_obs_steps` to `n_obs_steps` and
    `data.init_args.horizon` to `n_chunk_steps - n_obs_steps + 1`.

    Args:
        encoder: encodes each observed step; it must have no memory.
        action_dim: size A of an action.
        schedule: the noise schedule; DDPM with 100 steps in Diffusion Policy.
        n_obs_steps: number of observed steps; 2 in Diffusion Policy.
        n_chunk_steps: number of predicted steps; 16 in Diffusion Policy.
        n_executed_steps: number of executed steps; 8 in Diffusion Policy.
        dims: channels of the U-Net; see `ConditionalUNet`.
        kernel_size: kernel size of the U-Net's convolutions, in steps.
        n_groups: number of groups of the U-Net's group normalisation.
    """

    n_executed_steps: int

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        schedule: NoiseSchedule | None = None,
        n_obs_steps: int = 2,
        n_chunk_steps: int = 16,
        n_executed_steps: int = 8,
        dims: Sequence[int] = (256, 512, 1024),
        kernel_size: int = 5,
        n_groups: int = 8,
    ) -> None:
        super().__init__()
        self.unet = ConditionalUNet(action_dim, n_obs_steps * encoder.latent_dim, dims, kernel_size, n_groups)
        if n_obs_steps < 1 or not 1 <= n_executed_steps <= n_chunk_steps - n_obs_steps + 1:
            raise ConfigurationError(
                "expected n_obs_steps >= 1 and 1 <= n_executed_steps <= n_chunk_steps - n_obs_steps + 1, got "
                f"n_obs_steps {n_obs_steps}, n_executed_steps {n_executed_steps} and n_chunk_steps {n_chunk_steps}"
            )
        if n_chunk_steps % self.unet.shrinks_by:
            raise ConfigurationError(
                f"n_chunk_steps must be a multiple of {self.unet.shrinks_by} for a U-Net of {len(dims)} resolutions, "
                f"got {n_chunk_steps}"
            )
        refuse_memory(encoder, self)
        self.encoder = encoder
        self.action_dim = action_dim
        self.schedule = DDPM() if schedule is None else schedule
        self.n_obs_steps = n_obs_steps
        self.n_chunk_steps = n_chunk_steps
        self.n_executed_steps = n_executed_steps

    def initial_state(self, batch_size: int) -> State:
        """Return a memory without observations or a chunk; see `BasePolicy.initial_state`."""
        like = next(self.unet.parameters())
        n_left = self.n_chunk_steps - self.n_obs_steps + 1
        return {
            "age": torch.zeros(batch_size, dtype=torch.long, device=like.device),
            "seen": like.new_zeros(batch_size, self.n_obs_steps - 1, self.encoder.latent_dim),
            "chunk": like.new_zeros(batch_size, n_left, self.action_dim),
        }

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Propose the next actions of the current chunk; see `BasePolicy.propose`.

        Raises:
            ConfigurationError: the chunk is too short for the horizon.
        """
        return self._propose(obs, horizon, state, None)

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        """Sample chunks near the demonstrated ones; see `BasePolicy.propose_posterior`.

        Noise is added to the demonstrated chunk up to the middle diffusion step, and the result is denoised (SDEdit,
        arXiv:2108.01073). The sample follows the demonstration in its coarse motion and the policy in its details. The
        nearest action of the window replaces those of a chunk that lie outside the window.

        Raises:
            ConfigurationError: the chunk is too short for the horizon.
        """
        n_steps, horizon = actions.shape[1:3]
        known = torch.cat([actions[:, :, 0], actions[:, -1, 1:]], dim=1)
        # Step indices (T, n_chunk_steps) of a chunk sampled at each step of the window.
        steps = torch.arange(n_steps)[:, None] + torch.arange(self.n_chunk_steps) - (self.n_obs_steps - 1)
        return self._propose(obs, horizon, state, known[:, steps.clamp(0, known.shape[1] - 1).to(known.device)])

    def _propose(
        self, obs: Observation, horizon: int, state: State, demonstrated: Tensor | None
    ) -> tuple[Tensor, State]:
        """Propose from chunks near the `demonstrated` ones (B, T, n_chunk_steps, A), or from samples if None."""
        longest = self.n_chunk_steps - self.n_obs_steps - self.n_executed_steps + 2
        if horizon > longest:
            raise ConfigurationError(
                f"the base policy predicts {self.n_chunk_steps} steps and executes {self.n_executed_steps} of them, so "
                f"that it can propose at most {longest} actions ahead, not {horizon}: choose a shorter horizon, or "
                "train a base policy with longer chunks"
            )
        latents, _ = self.encoder(obs, {})
        age, seen, chunk = state["age"], state["seen"], state["chunk"]
        ahead = torch.arange(horizon, device=age.device)
        proposals = []
        for step, latent in enumerate(latents.unbind(dim=1)):
            # At the start of an episode, the first observation is repeated for the missing steps, as in training.
            seen = torch.where((age == 0)[:, None, None], latent.unsqueeze(1), seen)
            seen = torch.cat([seen, latent.unsqueeze(1)], dim=1)
            due = (age % self.n_executed_steps == 0).nonzero().squeeze(1)
            if len(due) > 0:
                near = None if demonstrated is None else demonstrated[due, step]
                drawn = self.sample(seen[due].flatten(1), near)[:, self.n_obs_steps - 1 :]
                chunk = chunk.index_copy(0, due, drawn)
            steps = (age % self.n_executed_steps)[:, None] + ahead
            proposals.append(chunk.gather(1, steps.unsqueeze(-1).expand(-1, -1, self.action_dim)))
            seen, age = seen[:, 1:], age + 1
        return torch.stack(proposals, dim=1), {"age": age, "seen": seen, "chunk": chunk}

    def sample(self, condition: Tensor, near: Tensor | None = None) -> Tensor:
        """Denoise chunks (B, n_chunk_steps, A) in [-1, 1] for conditions (B, n_obs_steps * Z).

        Args:
            condition: latents of the last observations, concatenated.
            near: chunks (B, n_chunk_steps, A) that are noised to the middle diffusion step and denoised from there;
                None starts from pure noise and runs all diffusion steps.
        """
        actions = torch.randn(
            len(condition), self.n_chunk_steps, self.action_dim, device=condition.device, dtype=condition.dtype
        )
        timesteps = self.schedule.timesteps
        if near is not None:
            timesteps = timesteps[len(timesteps) // 2 :]
            actions = self.schedule.add_noise(near, actions, torch.tensor(timesteps[0], device=near.device))
        for timestep in timesteps:
            steps = torch.full((len(condition),), timestep, device=condition.device)
            actions = self.schedule.remove_noise(actions, self.unet(actions, steps, condition), timestep)
        return actions.clamp(-1.0, 1.0)

    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Return the squared error of the predicted noise, averaged over the action; see `LearnedPolicy.loss`.

        Raises:
            ConfigurationError: the length of the windows is not that of a chunk.
        """
        if actions.shape[1] != self.n_chunk_steps:
            raise ConfigurationError(
                f"the policy predicts chunks of {self.n_chunk_steps} steps, but the windows have {actions.shape[1]}: "
                f"set data.init_args.n_obs_steps to {self.n_obs_steps} and data.init_args.horizon to "
                f"{self.n_chunk_steps - self.n_obs_steps + 1}"
            )
        seen, _ = self.encoder({key: value[:, : self.n_obs_steps] for key, value in obs.items()}, {})
        timesteps = torch.randint(self.schedule.n_train_steps, (len(actions),), device=actions.device)
        noise = torch.randn_like(actions)
        noisy = self.schedule.add_noise(actions, noise, timesteps)
        return (self.unet(noisy, timesteps, seen.flatten(1)) - noise).square().mean(-1)
