"""Write the files of an evaluation: a line per episode, a description of the policy, and videos."""

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
        folder: the log folder, created if missing.
        step: environment steps in reinforcement learning, else updates.
        policy: name of the policy.
        part: suffix of the file of episodes if several processes write one each.
    """

    folder: Path
    step: int
    policy: str
    part: str = ""

    def begin(self) -> None:
        """Create an empty file of episodes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._episodes.write_text("")

    def add(self, episode: Episode) -> None:
        """Append an episode to the file at once, so that an interrupted evaluation keeps its episodes."""
        with self._episodes.open("a") as file:
            file.write(episode.to_json() + "\n")

    def describe(self, description: Mapping[str, Any]) -> None:
        """Write the description of the evaluated policy, for `difftori table`."""
        (self.folder / f"{self._name}.json").write_text(json.dumps(description, indent=1) + "\n")

    def save_video(self, episode: Episode, fps: int) -> None:
        """Save the frames of an episode as a video."""
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
