"""Fingerprints of data files, by which a resumed run detects that its data have changed."""

import hashlib
from pathlib import Path
from typing import TypedDict

BLOCK = 2**20
MAX_BLOCKS = 256


class Fingerprint(TypedDict):
    """Name, size and hash of a file or folder.

    Attributes:
        file: its name.
        bytes: its size, for a folder the total size of its files.
        sha256: hash of names, sizes and contents; of a file above 256 MiB, only 256 evenly spaced blocks of 1 MiB.
    """

    file: str
    bytes: int
    sha256: str


def fingerprint(path: Path) -> Fingerprint:
    """Compute the fingerprint of a file or of all files in a folder."""
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    digest, n_bytes = hashlib.sha256(), 0
    for file in files:
        size = file.stat().st_size
        n_bytes += size
        digest.update(f"{file.relative_to(path)}\0{size}\0".encode())
        with file.open("rb") as stream:
            for start in _starts(size):
                stream.seek(start)
                digest.update(stream.read(BLOCK))
    return {"file": path.name, "bytes": n_bytes, "sha256": digest.hexdigest()}


def _starts(size: int) -> list[int]:
    n_blocks = -(-size // BLOCK)
    if n_blocks <= MAX_BLOCKS:
        return [i * BLOCK for i in range(n_blocks)]
    return [i * (size - BLOCK) // (MAX_BLOCKS - 1) for i in range(MAX_BLOCKS)]
