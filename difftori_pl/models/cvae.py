"""Networks of the conditional variational auto-encoder (Appendices C and E).

The decoder is the trajectory optimiser. This file holds the posterior, and the score and dynamics that the decoder
optimises.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difftori_pl.models.mlp import mlp


class Posterior(nn.Module):
    """Fusing encoder h_l of Appendix E, a Gaussian over the sampled vector given latent and demonstrated actions.

    Args:
        state_dim: size of the encoder's latent.
        actions_dim: size of the flattened demonstrated actions, horizon times action.
        sample_dim: size of the sampled vector; 64 in Table 7.
        hidden_dims: hidden layers; 256 and 256 in Appendix C.
    """

    def __init__(
        self, state_dim: int, actions_dim: int, sample_dim: int = 64, hidden_dims: Sequence[int] = (256, 256)
    ) -> None:
        super().__init__()
        self.sample_dim = sample_dim
        self.net = mlp(state_dim + actions_dim, hidden_dims, 2 * sample_dim)

    def forward(self, latent: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (..., sample_dim) for latents (..., state_dim) and actions (..., H, A)."""
        both = torch.cat([latent, actions.flatten(-2)], dim=-1)
        mean, log_variance = self.net(both).chunk(2, dim=-1)
        return mean, log_variance


class Score(nn.Module):
    """Learned objective f(z, a) of Eq. 7.

    The last layer is initialised to zero. The optimiser then returns the proposed actions unchanged, so that training
    starts from the base policy. The last layer has no bias, because a bias would not change the optimum and would
    receive no gradient.

    Args:
        latent_dim: size Z of the whole latent, sampled vector and state.
        action_dim: size A of an action, or of a flattened chunk.
        hidden_dims: hidden layers; 512 and 512 in Appendix C.
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_dims: Sequence[int] = (512, 512)) -> None:
        super().__init__()
        self.net = mlp(latent_dim + action_dim, hidden_dims, 1, last_bias=False)
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the score (B,) of actions (B, A) at latents (B, Z)."""
        score: Tensor = self.net(torch.cat([latent, action], dim=-1)).squeeze(-1)
        return score


class LatentDynamics(nn.Module):
    """Learned dynamics d(z, a) of Eq. 7, for horizons of 2 or more.

    Args:
        latent_dim: size Z of the whole latent, sampled vector and state.
        action_dim: size A of an action.
        hidden_dims: hidden layers; 512 and 512 in Appendix C.
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_dims: Sequence[int] = (512, 512)) -> None:
        super().__init__()
        self.net = mlp(latent_dim + action_dim, hidden_dims, latent_dim)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the next latent (B, Z) after actions (B, A) at latents (B, Z)."""
        following: Tensor = self.net(torch.cat([latent, action], dim=-1))
        return following
