"""Data augmentation of observations."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.models.policy import Observation


class RandomShift(nn.Module):
    """Shift each image by a few whole pixels, as in TD-MPC, and pad by repeating its edge (DrQ-v2, arXiv:2107.09645).

    Args:
        max_shift: largest shift in each direction, in pixels.
    """

    def __init__(self, max_shift: int = 4) -> None:
        super().__init__()
        self.max_shift = max_shift

    def forward(self, obs: Observation, specs: Mapping[str, ObservationSpec]) -> dict[str, Tensor]:
        """Shift the images (B, T, C, height, width) that `specs` names; return other keys unchanged."""
        images = {key for key, spec in specs.items() if spec.kind == "image"}
        return {key: self._shift(value) if key in images else value for key, value in obs.items()}

    def _shift(self, images: Tensor) -> Tensor:
        flat = images.flatten(0, 1)
        device, number = flat.device, torch.arange(len(flat), device=flat.device)[:, None, None]
        shift = torch.randint(-self.max_shift, self.max_shift + 1, (2, len(flat), 1), device=device)
        rows, columns = (
            (torch.arange(size, device=device) + offset).clamp(0, size - 1)
            for size, offset in zip(flat.shape[-2:], shift, strict=True)
        )
        # Indexing the first and the last two dimensions gives (N, height, width, C).
        shifted = flat[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        return shifted.reshape(images.shape)
