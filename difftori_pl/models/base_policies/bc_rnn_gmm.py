"""BC-RNN-GMM: an LSTM with a Gaussian-mixture head, robomimic's strongest baseline (arXiv:2108.03298)."""

import torch
from torch import Tensor, distributions, nn
from torch.nn import functional

from difftori_pl.models.base_policies.base import LearnedPolicy
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.encoders.recurrent import RecurrentEncoder
from difftori_pl.models.policy import Observation, State

LOW_NOISE_STD = 1e-4
"""Standard deviation of each mode when acting, as robomimic's `low_noise_eval` has it: the mode is still drawn."""


class BCRNNGMM(LearnedPolicy):
    """A mixture of Gaussians over the action, conditioned on the recent past.

    Means pass through a tanh and lie in (-1, 1). An action is proposed by drawing a mode and taking its mean, to
    within `LOW_NOISE_STD`: the spread of a mode describes the demonstrators' hands, not what the robot should do.

    Args:
        encoder: encodes each step before the LSTM.
        action_dim: size A of an action.
        hidden_dim: size of the LSTM; 1000 in Table 7, 400 for robomimic's low-dimensional tasks.
        n_layers: number of LSTM layers.
        n_modes: number of Gaussians; 5 in Table 7.
        min_std: smallest standard deviation of a mode.
        restart_after: steps after which the memory starts afresh; use the length of the training windows.
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
        """The LSTM's memory; see `BasePolicy.initial_state`."""
        return self.encoder.initial_state(batch_size)

    def forward(self, obs: Observation, state: State) -> tuple[distributions.Distribution, State]:
        """The learned mixture over actions, batch shape (B, T), event shape (A,), and the memory after the window."""
        latent, state = self.encoder(obs, state)
        std = functional.softplus(self.scale(latent)) + self.min_std
        return self._mixture(latent, std), state

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Draw one action for each step and hold it over the horizon; see `BasePolicy.propose`."""
        latent, state = self.encoder(obs, state)
        std = latent.new_full((*latent.shape[:2], self.n_modes * self.action_dim), LOW_NOISE_STD)
        drawn: Tensor = self._mixture(latent, std).sample()  # type: ignore[no-untyped-call]
        actions = drawn.clamp(-1.0, 1.0)
        return actions.unsqueeze(2).expand(-1, -1, horizon, -1), state

    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Negative log-likelihood in nats; see `LearnedPolicy.loss`."""
        mixture, _ = self(obs, self.initial_state(len(actions)))
        return -mixture.log_prob(actions)

    def _mixture(self, latent: Tensor, std: Tensor) -> distributions.MixtureSameFamily:
        shape = (*latent.shape[:2], self.n_modes, self.action_dim)
        mean = torch.tanh(self.mean(latent)).view(shape)
        modes = distributions.Independent(distributions.Normal(mean, std.view(shape)), 1)
        return distributions.MixtureSameFamily(distributions.Categorical(logits=self.logits(latent)), modes)
