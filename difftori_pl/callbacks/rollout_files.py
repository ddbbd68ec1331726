"""What an evaluation leaves in the log folder: a line for each episode, what was evaluated, and films."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftori_pl.callbacks.episodes import Episode
from difftori_pl.callbacks.video import save_mp4


@dataclass(frozen=True)
class RolloutFiles:
    """The files of one policy's evaluation after `step` steps of training.

    Attributes:
        folder: the log folder, created if need be.
        step: environment steps in reinforcement learning, else updates.
        policy: its name.
        part: part of the name of the file of episodes, where several processes write one each.
    """

    folder: Path
    step: int
    policy: str
    part: str = ""

    def begin(self) -> None:
        """Make the file of episodes, empty: it is there to compare policies state by state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._episodes.write_text("")

    def add(self, episode: Episode) -> None:
        """Write an episode down, as it ends: an evaluation that is stopped leaves what it found."""
        with self._episodes.open("a") as file:
            file.write(episode.to_json() + "\n")

    def describe(self, description: Mapping[str, Any]) -> None:
        """Write down what was evaluated, for `difftori table`."""
        (self.folder / f"{self._name}.json").write_text(json.dumps(description, indent=1) + "\n")

    def film(self, episode: Episode, fps: int) -> None:
        """Save the pictures of an episode."""
        videos = self.folder / "videos"
        videos.mkdir(parents=True, exist_ok=True)
        outcome = "success" if episode.success else "failure"
        save_mp4(videos / f"step{self.step}_{self.policy}_seed{episode.seed}_{outcome}.mp4", episode.frames, fps)

    @property
    def _name(self) -> str:
        return f"rollouts_step{self.step}_{self.policy}"

    @property
    def _episodes(self) -> Path:
        return self.folder / f"{self._name}{self.part}.jsonl"
