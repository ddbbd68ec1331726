"""Detection of NaN and infinity in the observations that a policy reads."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.normalizer import Normalizer


class FiniteCheck:
    """Find NaN and infinity in the observations that a policy reads.

    Keys that no encoder reads, and components that every normaliser masks (`masked_components`), are not checked. If
    the policy has no `Encoder`, the keys that it reads are unknown and all keys are checked.

    Args:
        policy: the policy that reads the observations.
    """

    def __init__(self, policy: object) -> None:
        self.keys = list(observation_specs(policy)) or None
        self._masked: dict[str, Tensor] = {}
        normalizers = [part for part in _modules(policy) if isinstance(part, Normalizer)]
        for key in {key for part in normalizers for key in part.masked_components}:
            masks = [part.is_masked(key) for part in normalizers if key in part.keys]
            self._masked[key] = torch.stack(masks).all(dim=0)

    def spoiled(self, obs: Mapping[str, Tensor]) -> list[str]:
        """Return the keys whose tensors (..., dim) hold NaN or infinity."""
        read = [key for key in obs if self.keys is None or key in self.keys]
        return [key for key in read if not self.is_finite(key, obs[key])]

    def is_finite(self, key: str, value: Tensor) -> Tensor:
        """Return a boolean scalar: whether the tensor (..., dim) of a key holds neither NaN nor infinity."""
        if key in self._masked:
            value = value.masked_fill(self._masked[key].to(value.device), 0.0)
        return torch.isfinite(value).all()


def _modules(policy: object) -> list[nn.Module]:
    return list(policy.modules()) if isinstance(policy, nn.Module) else []
