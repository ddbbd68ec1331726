"""Noise schedules of diffusion models, from diffusers."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from torch import Tensor

from difftori_pl.errors import ConfigurationError, MissingPackageError


class NoiseSchedule(ABC):
    """Adds noise for training and takes it away for sampling; squared-cosine, as in Diffusion Policy.

    Args:
        n_train_steps: diffusion steps that the network is trained on; 100 in Diffusion Policy.
        n_inference_steps: diffusion steps of a sampling.
    """

    def __init__(self, n_train_steps: int = 100, n_inference_steps: int = 100) -> None:
        if not 1 <= n_inference_steps <= n_train_steps:
            raise ConfigurationError(
                f"n_inference_steps lies between 1 and n_train_steps, but {n_inference_steps} and {n_train_steps} came"
            )
        self.n_train_steps = n_train_steps
        self.n_inference_steps = n_inference_steps

    @abstractmethod
    def _make(self, diffusers: Any, **common: Any) -> Any:
        """Make the scheduler of diffusers."""

    @cached_property
    def scheduler(self) -> Any:
        """The scheduler of diffusers.

        Raises:
            MissingPackageError: diffusers is not installed.
        """
        try:
            import diffusers
        except ImportError as error:
            raise MissingPackageError("diffusion needs diffusers: pip install 'difftori-pl[diffusion]'") from error
        scheduler = self._make(
            diffusers,
            num_train_timesteps=self.n_train_steps,
            beta_schedule="squaredcos_cap_v2",
            clip_sample=True,  # actions lie in [-1, 1]
            prediction_type="epsilon",
        )
        scheduler.set_timesteps(self.n_inference_steps)
        return scheduler

    @property
    def timesteps(self) -> list[int]:
        """The diffusion steps of a sampling, from noise to action."""
        steps: list[int] = self.scheduler.timesteps.tolist()
        return steps

    def add_noise(self, actions: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Disturb actions (B, T, A) by `noise` (B, T, A) as at the diffusion steps `timesteps` (B,)."""
        noisy: Tensor = self.scheduler.add_noise(actions, noise, timesteps)
        return noisy

    def remove_noise(self, noisy: Tensor, predicted: Tensor, timestep: int) -> Tensor:
        """Go back from diffusion step `timestep` to the one before, given the predicted noise, both (B, T, A)."""
        previous: Tensor = self.scheduler.step(predicted, timestep, noisy).prev_sample
        return previous


class DDPM(NoiseSchedule):
    """Sampling with fresh noise at each step (arXiv:2006.11239); see `NoiseSchedule` for the arguments."""

    def _make(self, diffusers: Any, **common: Any) -> Any:
        return diffusers.DDPMScheduler(variance_type="fixed_small", **common)


class DDIM(NoiseSchedule):
    """Deterministic sampling in fewer steps (arXiv:2010.02502).

    Args:
        n_train_steps: diffusion steps that the network is trained on; 100 in Diffusion Policy.
        n_inference_steps: diffusion steps of a sampling; 16 in Diffusion Policy's real-world experiments.
    """

    def __init__(self, n_train_steps: int = 100, n_inference_steps: int = 16) -> None:
        super().__init__(n_train_steps, n_inference_steps)

    def _make(self, diffusers: Any, **common: Any) -> Any:
        return diffusers.DDIMScheduler(set_alpha_to_one=True, **common)
