from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.replay.step_log import CHUNK_STEPS, StepLog, from_fields

FIELDS = [("obs", "|u1", [2, 3]), ("value", "<f8", [])]
DTYPE = from_fields(FIELDS)  # type: ignore[arg-type]


def steps(first: int, count: int) -> np.ndarray:
    """Return records that contain their step number."""
    records = np.zeros(count, dtype=DTYPE)
    records["value"] = np.arange(first, first + count)
    records["obs"] = (np.arange(first, first + count) % 251)[:, None, None]
    return records


def check(log: StepLog, n_steps: int) -> None:
    """Check that all stored steps are read correctly."""
    assert log.end == n_steps
    numbers = np.arange(log.start, log.end)
    np.testing.assert_array_equal(log.read(numbers), steps(log.start, log.end - log.start))


@pytest.mark.parametrize("memory_limit", [0, 3 * CHUNK_STEPS * DTYPE.itemsize])
def test_keeps_the_newest_in_memory_and_on_disk(memory_limit: int) -> None:
    log = StepLog(DTYPE, 3 * CHUNK_STEPS, memory_limit)
    for first in range(0, 50_000, 1000):
        log.append(steps(first, 1000))
    check(log, 50_000)
    assert log.start == (50_000 // CHUNK_STEPS - 3) * CHUNK_STEPS
    n_mapped = sum(isinstance(chunk.steps, np.memmap) for chunk in log._chunks.values())
    assert n_mapped == (3 if memory_limit == 0 else 1)
    assert len(list(log.folder.glob("*.steps"))) >= n_mapped
    unordered = np.array([[log.end - 1, log.start], [log.start + 5, log.start + CHUNK_STEPS]])
    np.testing.assert_array_equal(log.read(unordered)["value"], unordered)


@pytest.mark.parametrize("memory_limit", [0, 10**9])
def test_continues_from_a_save(tmp_path: Path, memory_limit: int) -> None:
    log = StepLog(DTYPE, 2 * CHUNK_STEPS, memory_limit)
    log.append(steps(0, 6000))
    manifest = log.save(tmp_path)
    log.append(steps(6000, 4000))  # later steps of the original log must not change the save
    again = StepLog.load(manifest, tmp_path, 2 * CHUNK_STEPS, memory_limit)
    check(again, 6000)
    again.append(steps(6000, 9000))
    check(again, 15_000)
    check(StepLog.load(again.save(tmp_path), tmp_path, 2 * CHUNK_STEPS, memory_limit), 15_000)


def test_a_save_writes_only_what_is_new(tmp_path: Path) -> None:
    log = StepLog(DTYPE, 10 * CHUNK_STEPS, 10**9)
    log.append(steps(0, 2 * CHUNK_STEPS + 10))
    log.save(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    log.append(steps(2 * CHUNK_STEPS + 10, 5))
    log.save(tmp_path)
    changed = [path for path in before if path.stat().st_mtime_ns != before[path]]
    assert len(changed) == 1
    assert changed[0].stat().st_size == 15 * DTYPE.itemsize


def test_an_interrupted_save_keeps_the_previous_one(tmp_path: Path) -> None:
    log = StepLog(DTYPE, CHUNK_STEPS, 10**9)
    log.append(steps(0, 100))
    first = log.save(tmp_path)
    log.append(steps(100, 20))
    log._write(log._chunks[0])  # as if killed after writing the steps, before the checkpoint
    check(StepLog.load(first, tmp_path, CHUNK_STEPS, 10**9), 100)


def test_two_runs_from_one_save_are_independent(tmp_path: Path) -> None:
    log = StepLog(DTYPE, CHUNK_STEPS, 10**9)
    log.append(steps(0, 100))
    first = log.save(tmp_path)
    branch = StepLog.load(first, tmp_path, CHUNK_STEPS, 10**9)
    branch.append(steps(1000, 50))
    branch.save(tmp_path)
    check(StepLog.load(first, tmp_path, CHUNK_STEPS, 10**9), 100)


def test_moved_log_does_not_need_the_old_folder(tmp_path: Path) -> None:
    log = StepLog(DTYPE, 4 * CHUNK_STEPS, 0)
    log.append(steps(0, 2 * CHUNK_STEPS + 7))
    log.save(tmp_path / "a")
    again = StepLog.load(log.save(tmp_path / "b"), tmp_path / "b", 4 * CHUNK_STEPS, 0)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    check(again, 2 * CHUNK_STEPS + 7)


def test_dropped_chunks_are_deleted_at_the_second_save(tmp_path: Path) -> None:
    log = StepLog(DTYPE, CHUNK_STEPS, 10**9)
    log.append(steps(0, CHUNK_STEPS))
    first = log.save(tmp_path)
    log.append(steps(CHUNK_STEPS, 3 * CHUNK_STEPS))
    log.save(tmp_path)
    check(StepLog.load(first, tmp_path, CHUNK_STEPS, 10**9), CHUNK_STEPS)
    log.save(tmp_path)
    with pytest.raises(DataError, match="expected the 4096 steps"):
        StepLog.load(first, tmp_path, CHUNK_STEPS, 10**9)


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StepLog(DTYPE, CHUNK_STEPS, 10**9)
    log.append(steps(0, 100))
    first = log.save(tmp_path)
    log.append(steps(100, 100))

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DataError, match=r"No space left on device.*make room and resume"):
        log.save(tmp_path)
    monkeypatch.undo()
    check(StepLog.load(first, tmp_path, CHUNK_STEPS, 10**9), 100)
    check(StepLog.load(log.save(tmp_path), tmp_path, CHUNK_STEPS, 10**9), 200)
