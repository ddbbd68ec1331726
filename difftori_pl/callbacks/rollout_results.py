"""Results of a policy's episodes on all ranks: values to log and a row of the printed table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from datamodules.distributed import gather
from difftori_pl.callbacks.episodes import Episode
from difftori_pl.errors import ConfigurationError
from difftori_pl.evaluation.metrics import Proportion, SuccessRate, mean_interval
from difftori_pl.evaluation.paired import Paired, compare

_log = logging.getLogger(__name__)

HEADER = (
    "| policy | success (Wilson 95 %) | return (95 %) | largest reward | steps per episode | crashed |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Results:
    """Results of the episodes of one policy.

    Attributes:
        crashes: error of each episode; None for an episode without a crash.
        solved: seed of the initial state -> whether the episode succeeded; a crashed episode did not.
        success: success rate with its interval.
        total_reward: mean return with a 95 % interval over episodes.
        max_reward: mean of the largest reward of each episode.
        length: mean number of environment steps per episode.
    """

    crashes: Sequence[str | None]
    solved: Mapping[int, bool]
    success: Proportion
    total_reward: tuple[float, float, float]
    max_reward: float
    length: float

    @property
    def all_crashed(self) -> bool:
        """Whether nothing is known about the policy."""
        return all(self.crashes)

    @property
    def n_crashes(self) -> int:
        """Number of crashed episodes."""
        return sum(crash is not None for crash in self.crashes)

    def values(self) -> dict[str, float]:
        """Return the values to log; only the crashes if every episode crashed, as 0 success would blame the policy."""
        crashed = {"crashed_episodes": float(self.n_crashes)}
        if self.all_crashed:
            return crashed
        mean, low, high = self.total_reward
        return crashed | {
            "success_rate": self.success.rate,
            "success_low": self.success.low,
            "success_high": self.success.high,
            "episode_length_steps": self.length,
            "return": mean,
            "return_low": low,
            "return_high": high,
            "max_reward": self.max_reward,
        }

    def row(self, name: str) -> str:
        """Format the row of a policy in the table under `HEADER`."""
        if self.all_crashed:
            return f"| {name} | – | – | – | – | {self.n_crashes} |"
        mean, low, high = self.total_reward
        return (
            f"| {name} | {self.success} | {mean:.1f} ({low:.1f} to {high:.1f}) | {self.max_reward:.3f} "
            f"| {self.length:.0f} | {self.n_crashes} |"
        )


def gather_results(episodes: Sequence[Episode], device: torch.device) -> Results:
    """Compute the results of the episodes of all ranks; every rank must call it."""
    metric = SuccessRate().to(device)
    metric.update(torch.tensor([episode.success for episode in episodes], dtype=torch.bool, device=device))
    returns = _of_all_ranks([episode.total_reward for episode in episodes])
    return Results(
        crashes=list(chain(*gather([episode.crash for episode in episodes]))),
        solved=dict(chain(*gather([(episode.seed, episode.success) for episode in episodes]))),
        success=metric.compute(),
        total_reward=(float(returns.mean()), *mean_interval(returns.tolist())),
        max_reward=float(_of_all_ranks([episode.max_reward for episode in episodes]).mean()),
        length=float(_of_all_ranks([episode.length for episode in episodes]).mean()),
    )


def report_crashes(name: str, episodes: Sequence[Episode], results: Results, testing: bool) -> None:
    """Warn of each crashed episode of this rank.

    Args:
        name: name of the policy.
        episodes: the episodes of this rank.
        results: the results of all ranks.
        testing: whether this is a test, which an unknown success rate ends.

    Raises:
        ConfigurationError: every episode of a test crashed.
    """
    for episode in (episode for episode in episodes if episode.crash):
        _log.warning(
            "%s: the episode of seed %d crashed after %d steps: %s", name, episode.seed, episode.length, episode.crash
        )
    if results.all_crashed and testing:
        raise ConfigurationError(
            f"all {results.n_crashes} episodes of {name} crashed, so its success rate is unknown: fix the first "
            f"crash ({results.crashes[0]})"
        )


def comparisons(found: Mapping[str, Results]) -> dict[str, Paired]:
    """Compare the trained policy with each other policy on the same initial states; return other policy -> comparison.

    Args:
        found: name of a policy -> its results, with the trained policy under `policy`.
    """
    known = {name: results.solved for name, results in found.items() if not results.all_crashed}
    ours = known.pop("policy", None)
    return {} if ours is None else {name: compare(ours, theirs) for name, theirs in known.items()}


def _of_all_ranks(values: Sequence[float]) -> Tensor:
    """Gather the values of all ranks' episodes as a tensor (N,); a rank may have none."""
    return torch.tensor(list(chain(*gather(list(values)))), dtype=torch.float32)
