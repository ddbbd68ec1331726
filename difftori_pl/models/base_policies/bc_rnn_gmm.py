"""BC-RNN-GMM: an LSTM with a Gaussian-mixture head, robomimic's strongest baseline (arXiv:2108.03298)."""

import torch
from torch import Tensor, distributions, nn
from torch.nn import functional

from difftori_pl.models.base_policies.base import LearnedPolicy
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.encoders.recurrent import RecurrentEncoder
from difftori_pl.models.policy import Observation, State

LOW_NOISE_STD = 1e-4
"""Standard deviation of each mode when acting, as in robomimic's `low_noise_eval`; the mode itself is still sampled."""


class BCRNNGMM(LearnedPolicy):
    """Gaussian mixture over actions, conditioned on the recent past by an LSTM.

    Means pass through a tanh and lie in (-1, 1). A proposal is the mean of a sampled mode plus noise of
    `LOW_NOISE_STD`. The spread of a mode is not used: it describes the variability of the demonstrators.

    Args:
        encoder: encodes each step before the LSTM.
        action_dim: size A of an action.
        hidden_dim: size of the LSTM's hidden state; 1000 in Table 7, 400 for robomimic's low-dimensional tasks.
        n_layers: number of LSTM layers.
        n_modes: number of Gaussians; 5 in Table 7.
        min_std: smallest standard deviation of a mode.
        restart_after: steps between resets of the memory; use the length of the training windows.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        hidden_dim: int = 1000,
        n_layers: int = 2,
        n_modes: int = 5,
        min_std: float = 1e-4,
        restart_after: int = 10,
    ) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.n_modes = n_modes
        self.min_std = min_std
        self.encoder = RecurrentEncoder(encoder, hidden_dim, n_layers, restart_after, latent_dim=None)
        self.mean = nn.Linear(hidden_dim, n_modes * action_dim)
        self.scale = nn.Linear(hidden_dim, n_modes * action_dim)
        self.logits = nn.Linear(hidden_dim, n_modes)

    def initial_state(self, batch_size: int) -> State:
        """Return the LSTM's memory; see `BasePolicy.initial_state`."""
        return self.encoder.initial_state(batch_size)

    def forward(self, obs: Observation, state: State) -> tuple[distributions.MixtureSameFamily, State]:
        """Return the mixture over actions, batch shape (B, T), event shape (A,), and the memory after the window."""
        latent, state = self.encoder(obs, state)
        shape = (*latent.shape[:2], self.n_modes, self.action_dim)
        mean = torch.tanh(self.mean(latent)).view(shape)
        std = functional.softplus(self.scale(latent)).view(shape) + self.min_std
        # Validation is off, because a NaN loss is handled where the update is skipped (`SkippedUpdates`).
        modes = distributions.Independent(distributions.Normal(mean, std, validate_args=False), 1, validate_args=False)
        weights = distributions.Categorical(logits=self.logits(latent), validate_args=False)
        return distributions.MixtureSameFamily(weights, modes, validate_args=False), state

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Draw one action for each step and hold it over the horizon; see `BasePolicy.propose`."""
        mixture, state = self(obs, state)
        return _hold(mixture, mixture.mixture_distribution, horizon), state

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        """Draw modes by their responsibility for the first demonstrated action; see `BasePolicy.propose_posterior`."""
        mixture, state = self(obs, state)
        likelihood = mixture.component_distribution.log_prob(actions[:, :, :1]).nan_to_num(nan=0.0)
        logits = mixture.mixture_distribution.logits + likelihood
        responsible = distributions.Categorical(logits=logits, validate_args=False)
        return _hold(mixture, responsible, actions.shape[2]), state

    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Return the negative log-likelihood in nats; see `LearnedPolicy.loss`."""
        mixture, _ = self(obs, self.initial_state(len(actions)))
        return -mixture.log_prob(actions)


def _hold(mixture: distributions.MixtureSameFamily, choice: distributions.Categorical, horizon: int) -> Tensor:
    """Draw a mode for each step from `choice`, and hold its mean over the horizon: (B, T, H, A)."""
    means = mixture.component_distribution.mean
    # Sampling from NaN would raise an error for the whole batch. Uniform weights are harmless: the means are NaN too.
    probabilities = choice.probs.nan_to_num(nan=1.0)
    drawn = torch.multinomial(probabilities.flatten(0, -2), 1, replacement=True).view(probabilities.shape[:-1])
    action = means.take_along_dim(drawn[..., None, None], dim=2)
    action = (action + LOW_NOISE_STD * torch.randn_like(action)).clamp(-1.0, 1.0)
    return action.expand(-1, -1, horizon, -1)
