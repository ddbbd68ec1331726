"""LSTM over the latents of another encoder (Table 7: "RNN")."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.base import Encoder, refuse_memory
from difftori_pl.models.policy import Observation, State


class RecurrentEncoder(Encoder):
    """Summarise the steps so far with an LSTM.

    The memory is reset every `restart_after` steps. Training windows start with an empty memory, so the network is
    never trained on a memory longer than a window. The recurrent policies of robomimic do the same.

    Args:
        encoder: encodes each step before the LSTM; it must have no memory.
        hidden_dim: size of the LSTM's hidden state; 1000 in Table 7.
        n_layers: number of LSTM layers.
        restart_after: steps between resets of the memory; 16 in Table 7. Use the length of the training windows.
        latent_dim: output size Z of a final linear map; None returns the hidden state.
    """

    def __init__(
        self,
        encoder: Encoder,
        hidden_dim: int = 1000,
        n_layers: int = 2,
        restart_after: int = 16,
        latent_dim: int | None = 50,
    ) -> None:
        super().__init__()
        refuse_memory(encoder, self)
        self.encoder = encoder
        self.obs_specs = {}
        self.restart_after = restart_after
        self.rnn = nn.LSTM(encoder.latent_dim, hidden_dim, n_layers, batch_first=True)
        self.latent_dim = hidden_dim if latent_dim is None else latent_dim
        self.project = nn.Identity() if latent_dim is None else nn.Linear(hidden_dim, latent_dim)

    def initial_state(self, batch_size: int) -> State:
        """Return an empty memory of age zero for each episode."""
        weight: Tensor = self.rnn.get_parameter("weight_hh_l0")
        zeros = weight.new_zeros(batch_size, self.rnn.num_layers, self.rnn.hidden_size)
        age = torch.zeros(batch_size, dtype=torch.long, device=weight.device)
        return {"hidden": zeros, "cell": zeros.clone(), "age": age}

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode a window that starts with a reset memory, or a single step; see `Encoder.forward`."""
        features, _ = self.encoder(obs, {})
        outputs = []
        for span in features.split(self.restart_after, dim=1):
            restarts = (state["age"] % self.restart_after == 0)[:, None, None]
            # The LSTM expects layers first; the state has the batch first. Multiplying by 0 would keep NaN.
            memory = [
                state[name].masked_fill(restarts, 0.0).transpose(0, 1).contiguous() for name in ("hidden", "cell")
            ]
            # PyTorch has no half-precision LSTM on a CPU. An exported program must not contain an autocast region.
            with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
                output, (hidden, cell) = self.rnn(span.to(memory[0].dtype), tuple(memory))
            outputs.append(output)
            age = state["age"] + span.shape[1]
            state = state | {"hidden": hidden.transpose(0, 1), "cell": cell.transpose(0, 1), "age": age}
        return self.project(torch.cat(outputs, dim=1)), state
