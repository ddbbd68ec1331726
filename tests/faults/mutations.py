"""Damage files and classify the outcomes of reading them, in a separate process that may crash or hang."""

import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 30
"""Seconds after which reading counts as hung."""

MEMORY = 6 * 2**30
"""Limit of additional address space in bytes, so that a damaged size cannot exhaust the machine's memory."""

SIGNATURES = (b"TREE", b"HEAP", b"SNOD", b"OHDR", b"FRHP", b"BTHD", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")
"""Signatures of the structural parts of HDF5 files and zip archives."""

ROUNDS = int(os.environ.get("DIFFTORI_FAULT_ROUNDS", "0"))
"""Number of rounds; 0 for the small default of each test."""


def mutate(content: bytes, seed: int) -> bytes:
    """Flip a bit, or overwrite, zero, truncate, delete or insert bytes; odd seeds target a structural part."""
    random = np.random.default_rng(seed)
    damaged = bytearray(content)
    at = int(random.integers(len(content)))
    if seed % 2:
        signature = SIGNATURES[int(random.integers(len(SIGNATURES)))]
        found = content.find(signature, at)
        found = content.find(signature) if found < 0 else found
        at = min(found + int(random.integers(256)), len(content) - 1) if found >= 0 else at
    size = int(2 ** random.uniform(0, 12))
    kind = seed // 2 % 6
    if kind == 0:
        damaged[at] ^= 1 << int(random.integers(8))
    elif kind == 1:
        some = damaged[at : at + min(size, 64)]
        damaged[at : at + len(some)] = random.bytes(len(some))
    elif kind == 2:
        some = damaged[at : at + size]
        damaged[at : at + len(some)] = bytes(len(some))
    elif kind == 3:
        del damaged[at:]
    elif kind == 4:
        del damaged[at : at + size]
    else:
        damaged[at:at] = random.bytes(min(size, 512))
    return bytes(damaged)


def outcomes(
    read: Callable[[Path], Any],
    original: Path,
    damage: Callable[[Path, int], None],
    seeds: range,
    folder: Path,
    clear: tuple[type[Exception], ...],
) -> Counter[str]:
    """Read damaged copies of a file and count the outcomes.

    Args:
        read: reads a file and returns its content, which must support `equal`.
        original: the undamaged file or folder.
        damage: damages a copy in place, as a function of a seed.
        seeds: one seed per round.
        folder: folder of the copy.
        clear: exception types that count as clear errors.

    Returns:
        Counts of `error` (a clear error), `same` (correct content), `different` (wrong content), `unclear ...` (another
        exception), `crash ...` and `hang`.
    """
    report = folder / "outcomes.jsonl"

    def serve(seeds: range) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        wanted = read(original)
        copy = folder / original.name
        with report.open("a") as file:
            for seed in seeds:
                copy_data(original, copy)
                damage(copy, seed)
                signal.alarm(SECONDS)
                try:
                    outcome = "same" if equal(read(copy), wanted) else "different"
                except clear:
                    outcome = "error"
                except Exception as error:
                    outcome = f"unclear {type(error).__name__}: {error} (seed {seed})"
                signal.alarm(0)
                file.write(json.dumps(outcome) + "\n")
                file.flush()

    counts: Counter[str] = Counter()
    left = seeds
    while left:
        report.write_text("")
        child = os.fork()
        if child == 0:
            try:
                serve(left)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        done = [json.loads(line) for line in report.read_text().splitlines()]
        counts.update(done)
        left = left[len(done) :]
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            counts["hang" if number == signal.SIGALRM else f"crash by signal {number} (seed {left[0]})"] += 1
            left = left[1:]
        elif left:
            raise RuntimeError(f"the reader exited early at seed {left[0]}")
    return counts


def copy_data(source: Path, target: Path) -> None:
    """Copy a folder, or a file and the files with the same stem."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=shutil.copyfile)
        return
    for part in source.parent.glob(f"{source.stem}.*"):
        if part.is_file():
            shutil.copyfile(part, target.with_name(part.name))


def equal(a: Any, b: Any) -> bool:
    """Return whether two nested structures of arrays and plain values are equal."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(one, other) for one, other in zip(a, b, strict=True))
    if hasattr(a, "shape"):
        return a.shape == getattr(b, "shape", None) and np.array_equal(np.asarray(a), np.asarray(b), equal_nan=False)
    return bool(a == b)
