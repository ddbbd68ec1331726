"""A file of results that an interrupted benchmark resumes from."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

Record = dict[str, Any]
T = TypeVar("T")


class ResultsFile:
    """Records in a file of JSON lines, to which several processes may append.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self, **entries: Any) -> list[Record]:
        """Read the records with these entries."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [record for record in map(json.loads, lines) if entries.items() <= record.items()]

    def missing(self, name: str, values: Sequence[T], **entries: Any) -> list[T]:
        """Return the values of the entry `name` that no record with the other entries has."""
        done = {record[name] for record in self.records(**entries)}
        return [value for value in values if value not in done]

    def add(self, record: Record) -> None:
        """Append a record at once, so that an interruption loses only the current run."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def add_options(parser: ArgumentParser, default: str) -> None:
    """Add `--results` with a default path, and `--part`."""
    parser.add_argument("--results", type=Path, default=Path(default), help="file of results")
    parser.add_argument("--part", nargs=2, type=int, default=[0, 1], help="number of this process and of all processes")


def own_part(jobs: Sequence[T], options: Namespace) -> Sequence[T]:
    """Return the jobs of this process."""
    number, n_processes = options.part
    return jobs[number::n_processes]
