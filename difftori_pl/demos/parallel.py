"""Parallel jobs, atomic file writes, and a folder that keeps finished parts across interruptions."""

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
    """Run a function on all jobs and yield the results as they finish.

    Args:
        function: a module-level function, because workers import it by name; state is kept per worker process.
        jobs: one argument of `function` per call.
        n_processes: number of worker processes, at most one per job; all cores if None; 1 runs in this process.
        follow_up: function from a result to another job, or to None.
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
    # Not forked: OpenGL and MuJoCo do not support forking.
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
    """Write a file atomically: it is complete or absent, even after a power failure.

    Args:
        path: the file; the context yields a temporary path in the same folder.
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
    """The folder `<output>.parts`, which holds finished parts of an output file until it is complete.

    Args:
        output: the file to write.
        recipe: settings that determine the parts; parts of another recipe are rejected.

    Raises:
        ConfigurationError: the folder has parts of another recipe.
    """

    def __init__(self, output: Path, recipe: Mapping[str, Any]) -> None:
        self.folder = output.with_name(output.name + ".parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        note, text = self.folder / "recipe.json", json.dumps(recipe, sort_keys=True)
        if note.exists() and note.read_text() != text:
            raise ConfigurationError(
                f"{self.folder} has parts of another recording or conversion: expected {text}, got {note.read_text()}. "
                "Finish that one first, delete the folder, or choose another output"
            )
        with whole_file(note) as draft:
            draft.write_text(text)

    def __getitem__(self, name: str) -> Path:
        """Return the path of a part."""
        return self.folder / name

    def remove(self) -> None:
        """Delete all parts."""
        shutil.rmtree(self.folder)


def _one_thread() -> None:
    # There is already one process per core, so disable OSMesa's rendering threads.
    os.environ["LP_NUM_THREADS"] = "0"
