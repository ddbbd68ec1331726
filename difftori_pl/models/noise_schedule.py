"""Noise schedules of diffusion models, with the schedulers of diffusers."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from torch import Tensor

from difftori_pl.errors import ConfigurationError, MissingPackageError


class NoiseSchedule(ABC):
    """Base class of noise schedules, with the squared-cosine schedule of Diffusion Policy.

    Args:
        n_train_steps: number of diffusion steps in training; 100 in Diffusion Policy.
        n_inference_steps: number of diffusion steps in sampling.
    """

    def __init__(self, n_train_steps: int = 100, n_inference_steps: int = 100) -> None:
        if not 1 <= n_inference_steps <= n_train_steps:
            raise ConfigurationError(
                f"n_inference_steps must be from 1 to n_train_steps, got n_inference_steps {n_inference_steps} and "
                f"n_train_steps {n_train_steps}"
            )
        self.n_train_steps = n_train_steps
        self.n_inference_steps = n_inference_steps

    @abstractmethod
    def _make(self, diffusers: Any, **common: Any) -> Any:
        """Build the scheduler of diffusers."""

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
        """The diffusion steps in sampling, from noise to action."""
        steps: list[int] = self.scheduler.timesteps.tolist()
        return steps

    def add_noise(self, actions: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Add `noise` (B, T, A) to actions (B, T, A) at the level of the diffusion steps `timesteps` (B,)."""
        noisy: Tensor = self.scheduler.add_noise(actions, noise, timesteps)
        return noisy

    def remove_noise(self, noisy: Tensor, predicted: Tensor, timestep: int) -> Tensor:
        """Denoise `noisy` (B, T, A) by one diffusion step from `timestep`, given the predicted noise (B, T, A)."""
        previous: Tensor = self.scheduler.step(predicted, timestep, noisy).prev_sample
        return previous


class DDPM(NoiseSchedule):
    """Sampling with fresh noise at each step (arXiv:2006.11239); see `NoiseSchedule` for the arguments."""

    def _make(self, diffusers: Any, **common: Any) -> Any:
        return diffusers.DDPMScheduler(variance_type="fixed_small", **common)


class DDIM(NoiseSchedule):
    """Deterministic sampling in fewer steps (arXiv:2010.02502).

    Args:
        n_train_steps: number of diffusion steps in training; 100 in Diffusion Policy.
        n_inference_steps: number of diffusion steps in sampling; 16 in Diffusion Policy's real-world experiments.
    """

    def __init__(self, n_train_steps: int = 100, n_inference_steps: int = 16) -> None:
        super().__init__(n_train_steps, n_inference_steps)

    def _make(self, diffusers: Any, **common: Any) -> Any:
        return diffusers.DDIMScheduler(set_alpha_to_one=True, **common)
