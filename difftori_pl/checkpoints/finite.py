"""Refuse to save weights that are not finite."""

import torch
from torch import nn

from difftori_pl.errors import DivergenceError


def check_finite(module: nn.Module) -> None:
    """Refuse to save NaN or infinite weights, which would replace the last usable checkpoint.

    All processes hold the same weights, so all of them stop.

    Raises:
        DivergenceError: a weight is not finite; the message names the first such tensor.
    """
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise DivergenceError(
                f"the weights of {name!r} are not finite, so no checkpoint was written: resume from the last "
                "checkpoint with a smaller learning rate or step_size, or in float32"
            )
