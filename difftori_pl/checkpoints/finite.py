"""Weights that are not finite are not saved."""

import torch
from torch import nn

from difftori_pl.errors import DivergenceError


def check_finite(module: nn.Module) -> None:
    """Refuse to save weights that are NaN or infinite: they would replace the last checkpoint.

    All processes hold the same weights, so that all of them stop.

    Raises:
        DivergenceError: names the first tensor that is not finite.
    """
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise DivergenceError(
                f"the weights of {name!r} are not finite, so that no checkpoint was written: resume from the last one "
                "with a smaller learning rate or step_size, or in float32"
            )
