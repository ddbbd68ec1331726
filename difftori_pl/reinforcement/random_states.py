"""The random numbers of a run with several processes, and of one that is resumed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.distributed import gather

NAMES = ("random", "random_cuda")
"""What `random_states` gives, of which the second is there only where there is a GPU."""


def random_states(device: torch.device) -> dict[str, list[Tensor]]:
    """The states of torch's generators in each process, for a checkpoint; all processes call this."""
    states = {"random": gather(torch.get_rng_state())}
    if torch.cuda.is_available():
        states["random_cuda"] = gather(torch.cuda.get_rng_state(device))
    return states


def begin_random_numbers(states: Mapping[str, Any], rank: int, device: torch.device) -> None:
    """Go on with a checkpoint's random numbers; without them, draw others in each process than in the first.

    Args:
        states: what `random_states` gave; early checkpoints held the states of one process alone.
        rank: number of this process.
        device: the one whose generator the second state is of.
    """
    states = {name: [state] if isinstance(state, Tensor) else state for name, state in states.items()}
    if "random" in states:
        torch.set_rng_state(states["random"][rank].cpu())
    elif rank > 0:
        seed = np.random.SeedSequence([torch.initial_seed(), rank]).generate_state(1)
        torch.manual_seed(int(seed[0]))
    if "random_cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["random_cuda"][rank].cpu(), device)
