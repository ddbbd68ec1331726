"""NaN and infinity in what a policy reads."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.normalizer import Normalizer


class FiniteCheck:
    """Find observations that hold NaN or infinity where a policy reads them.

    Keys that no encoder reads, and components that every normaliser replaces by their mean (`unseen`), may hold both.
    All keys are checked if the policy has no `Encoder`, because what it reads is then not known.

    Args:
        policy: what acts on the observations.
    """

    def __init__(self, policy: object) -> None:
        self.keys = list(observation_specs(policy)) or None
        self._unseen: dict[str, Tensor] = {}
        normalizers = [part for part in _modules(policy) if isinstance(part, Normalizer)]
        for key in {key for part in normalizers for key in part.unseen}:
            masks = [part.unseen_mask(key) for part in normalizers if key in part.keys]
            self._unseen[key] = torch.stack(masks).all(dim=0)

    def spoiled(self, obs: Mapping[str, Tensor]) -> list[str]:
        """Name the keys of tensors (..., dim) that hold NaN or infinity."""
        read = [key for key in obs if self.keys is None or key in self.keys]
        return [key for key in read if not self.is_finite(key, obs[key])]

    def is_finite(self, key: str, value: Tensor) -> Tensor:
        """Whether a tensor (..., dim) of a key holds neither NaN nor infinity; a boolean scalar."""
        if key in self._unseen:
            value = value.masked_fill(self._unseen[key].to(value.device), 0.0)
        return torch.isfinite(value).all()


def _modules(policy: object) -> list[nn.Module]:
    return list(policy.modules()) if isinstance(policy, nn.Module) else []
