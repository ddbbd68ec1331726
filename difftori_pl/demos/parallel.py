"""Work in several processes, with a progress bar, kept piece by piece so that nothing finished is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from difftori_pl.errors import ConfigurationError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_all(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    n_processes: int | None = None,
    follow_up: Callable[[Result], Job | None] = lambda result: None,
) -> Iterator[Result]:
    """Run a function on all jobs and give the results as they come.

    Args:
        function: importable by name, as the worker processes are new ones; what it keeps between its calls is its own.
        jobs: one argument each.
        n_processes: number of worker processes, at most one per job; all cores if None; with 1, this process.
        follow_up: may name another job when a result has come.
    """
    waiting = list(jobs)
    n_processes = min(n_processes or len(os.sched_getaffinity(0)), max(1, len(waiting)))
    if n_processes == 1:
        for job in waiting:
            result = function(job)
            yield result
            another = follow_up(result)
            if another is not None:
                waiting.append(another)
        return
    # Not forked: OpenGL and MuJoCo do not survive that.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=spawn, initializer=_one_thread) as pool:
        running: set[Future[Result]] = {pool.submit(function, job) for job in waiting}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield result
                    another = follow_up(result)
                    if another is not None:
                        running.add(pool.submit(function, another))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file that is there in full or not at all, even if the power fails.

    Args:
        path: the file; what is given to write to is another name in the same folder.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


class Parts:
    """The folder beside an output file that holds its finished pieces until all of them are there.

    Args:
        output: the file to be.
        recipe: what determines the pieces; pieces of another recipe are refused.

    Raises:
        ConfigurationError: the folder holds pieces of something else.
    """

    def __init__(self, output: Path, recipe: Mapping[str, Any]) -> None:
        self.folder = output.with_name(output.name + ".parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        note, text = self.folder / "recipe.json", json.dumps(recipe, sort_keys=True)
        if note.exists() and note.read_text() != text:
            raise ConfigurationError(
                f"{self.folder} holds unfinished work of another kind ({note.read_text()}, but now {text}): "
                "finish that first, delete the folder, or choose another output"
            )
        with whole_file(note) as draft:
            draft.write_text(text)

    def __getitem__(self, name: str) -> Path:
        """The path of a piece."""
        return self.folder / name

    def remove(self) -> None:
        """Delete all pieces."""
        shutil.rmtree(self.folder)


def _one_thread() -> None:
    # There is a process per core already: OSMesa's own threads would only get into each other's way.
    os.environ["LP_NUM_THREADS"] = "0"
