"""Values that change over environment steps."""

from difftori_pl.errors import ConfigurationError


class LinearSchedule:
    """Interpolate from `start` at step 0 to `end` at step `n_env_steps`; constant afterwards.

    Args:
        start: first value.
        end: last value.
        n_env_steps: duration in environment steps. TD-MPC's 25,000 are agent steps, each of which is several
            environment steps with action repeat.
    """

    def __init__(self, start: float, end: float, n_env_steps: int) -> None:
        if n_env_steps < 0:
            raise ConfigurationError(f"n_env_steps must not be negative, got {n_env_steps}")
        self.start = start
        self.end = end
        self.n_env_steps = n_env_steps

    def __call__(self, env_step: int) -> float:
        """Return the value after `env_step` environment steps."""
        fraction = min(max(env_step / self.n_env_steps, 0.0), 1.0) if self.n_env_steps > 0 else 1.0
        return self.start + fraction * (self.end - self.start)
