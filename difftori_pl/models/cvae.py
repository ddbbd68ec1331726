"""The networks around the decoder of the conditional variational auto-encoder (Appendices C and E).

The decoder itself is the trajectory optimiser; here are the posterior, and the score and dynamics it optimises.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difftori_pl.models.mlp import mlp


class Posterior(nn.Module):
    """The fusing encoder h_l of Appendix E: latent and demonstrated actions to a Gaussian over the sampled vector.

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
        """Mean and log-variance, (..., sample_dim) each, for latents (..., state_dim) and actions (..., H, A)."""
        both = torch.cat([latent, actions.flatten(-2)], dim=-1)
        mean, log_variance = self.net(both).chunk(2, dim=-1)
        return mean, log_variance


class Score(nn.Module):
    """The learned objective f(z, a) of Eq. 7.

    The last layer starts at zero: the optimiser then begins as the identity and returns the proposed actions, and
    training departs from the base policy instead of having to find its way back to it. It has no bias, which could
    not change the optimum and would get no gradient.

    Args:
        latent_dim: size of the whole latent, sampled vector and state.
        action_dim: size A of an action.
        hidden_dims: hidden layers; 512 and 512 in Appendix C.
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_dims: Sequence[int] = (512, 512)) -> None:
        super().__init__()
        self.net = mlp(latent_dim + action_dim, hidden_dims, 1, last_bias=False)
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Score (B,) of actions (B, A) at latents (B, Z)."""
        score: Tensor = self.net(torch.cat([latent, action], dim=-1)).squeeze(-1)
        return score


class LatentDynamics(nn.Module):
    """The learned dynamics d(z, a) of Eq. 7, needed from a horizon of 2 on.

    Args:
        latent_dim: size of the whole latent, sampled vector and state.
        action_dim: size A of an action.
        hidden_dims: hidden layers; 512 and 512 in Appendix C.
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_dims: Sequence[int] = (512, 512)) -> None:
        super().__init__()
        self.net = mlp(latent_dim + action_dim, hidden_dims, latent_dim)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Next latent (B, Z) after actions (B, A) at latents (B, Z)."""
        following: Tensor = self.net(torch.cat([latent, action], dim=-1))
        return following
