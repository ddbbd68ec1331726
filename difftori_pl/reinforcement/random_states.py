"""Random number generators of runs with several processes and of resumed runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.distributed import gather

NAMES = ("random", "random_cuda")
"""Keys of `random_states`; the second one exists only with a GPU."""


def random_states(device: torch.device) -> dict[str, list[Tensor]]:
    """Collect the states of torch's generators in all processes, for a checkpoint; a collective call."""
    states = {"random": gather(torch.get_rng_state())}
    if torch.cuda.is_available():
        states["random_cuda"] = gather(torch.cuda.get_rng_state(device))
    return states


def begin_random_numbers(states: Mapping[str, Any], rank: int, device: torch.device) -> None:
    """Restore the generators from a checkpoint; without one, seed every process but the first differently.

    Args:
        states: result of `random_states`; early checkpoints held the states of one process only.
        rank: number of this process.
        device: the device whose generator `random_cuda` belongs to.
    """
    states = {name: [state] if isinstance(state, Tensor) else state for name, state in states.items()}
    if "random" in states:
        torch.set_rng_state(states["random"][rank].cpu())
    elif rank > 0:
        seed = np.random.SeedSequence([torch.initial_seed(), rank]).generate_state(1)
        torch.manual_seed(int(seed[0]))
    if "random_cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["random_cuda"][rank].cpu(), device)
