"""Show and write down the episodes of an evaluation as they finish."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning import Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from difftori_pl.callbacks.episodes import Episode
from difftori_pl.callbacks.progress_line import ProgressLine
from difftori_pl.callbacks.progress_text import SEPARATOR, of_total
from difftori_pl.callbacks.rollout_files import RolloutFiles
from difftori_pl.evaluation.proportion import wilson


@contextmanager
def show_and_write(
    trainer: Trainer, title: str, n_episodes: int, files: RolloutFiles | None
) -> Iterator[Callable[[Episode], None]]:
    """Yield a function that adds a finished episode to the progress line and to the file of episodes.

    Args:
        trainer: the line is shown on rank 0, unless the trainer has no progress bar.
        title: beginning of the line.
        n_episodes: number of episodes of this rank.
        files: where the episodes are written; None without a log folder.
    """
    hidden = not trainer.is_global_zero or trainer.progress_bar_callback is None
    successes: list[bool] = []
    line = ProgressLine(hidden)

    stopping = trainer.received_sigterm

    def on_finish(episode: Episode) -> None:
        nonlocal stopping
        successes.append(episode.success)
        if trainer.received_sigterm and not stopping:
            stopping = True
            rank_zero_info(f"the run stops after these {title} ({of_total(len(successes), n_episodes)} done)")
        if line.due:
            done = len(successes)
            success = f"success {wilson(sum(successes), done)}"
            line.show(done, n_episodes, f"{title} {of_total(done, n_episodes)}{SEPARATOR}{success}")
        if files is not None:
            files.add(episode)

    try:
        if files is not None:
            files.begin()
        yield on_finish
    finally:
        line.close()
