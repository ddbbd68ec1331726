"""Detection of damaged files: translation of read errors, and checksums."""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from lightning_utilities.core.rank_zero import rank_zero_debug

from datamodules.errors import DataError, MissingDataError


@contextmanager
def clear_errors(where: Path | str, readers: Collection[str]) -> Iterator[None]:
    """Turn errors while reading a file into a `DataError`; errors in our own code are not changed.

    Args:
        where: the file and optionally the demo, for the message.
        readers: packages whose exceptions, of many types, indicate damaged bytes; see `DemoFile.readers`.

    Raises:
        DataError: reading failed; the message names the cause.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            f"{where}: not enough memory to read it ({_one_line(error)}). Use fewer demos (n_demos), or do not cache "
            "the data in memory (see the datamodule's options). If the file is small, it is damaged: copy it again."
        ) from error
    except PermissionError as error:
        raise DataError(f"{where}: no permission to read it. Change its permissions, or copy it.") from error
    except Exception as error:
        if not isinstance(error, OSError) and _packages(error).isdisjoint(readers):
            raise
        raise DataError(
            f"{where}: cannot be read ({_one_line(error)}). The file is damaged or of another layout: copy or record "
            "it again."
        ) from error


def _packages(error: Exception) -> set[str]:
    """Return the packages in the traceback of an exception."""
    return {str(frame.f_globals.get("__name__")).split(".")[0] for frame, _ in walk_tb(error.__traceback__)}


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def write_check_sums(path: Path) -> Path:
    """Write `<path>.sha256` in the format of `sha256sum`, for a file or for all files of a folder.

    The JSON file of a ManiSkill file is included.

    Returns:
        The path of the list.

    Raises:
        MissingDataError: the path does not exist.
    """
    path = path.expanduser()
    if not path.exists():
        raise MissingDataError(
            f"{path}: expected a file of demonstrations or a zarr folder, but there is no such path. Correct the path."
        )
    companion = path.with_suffix(".json")
    files = sorted(_files(path)) + [companion] * (companion != path and path.is_file() and companion.is_file())
    listing = _listing(path)
    draft = listing.with_name(f".{listing.name}")
    draft.write_text("".join(f"{_sha256(file)}  {file.relative_to(path.parent)}\n" for file in files))
    return draft.replace(listing)


def verify_check_sums(path: Path) -> None:
    """Compare a file, or all files in a folder, with the checksums in `<path>.sha256`.

    The formats of demonstrations have no checksums of their own, so that a flipped bit in a number would go unnoticed.
    The list may include further files next to it. If there is no list, nothing is compared; see
    `advice_on_check_sums`.

    Raises:
        DataError: the list is damaged, or a file is missing, not listed, or has another checksum.
    """
    listing = _listing(path)
    if not listing.is_file():
        rank_zero_debug(advice_on_check_sums(path))
        return
    advice = f"Copy the data again, or run `difftori data sums {path}` if you changed them on purpose."
    with clear_errors(listing, ()):
        lines = [line.split(maxsplit=1) for line in listing.read_text().splitlines()]
        sums = {listing.parent / name.lstrip("*"): digest for digest, name in lines}
    for file in [*_files(path), *sums]:
        if file not in sums:
            raise DataError(f"{listing}: {file} is not listed. {advice}")
        if not file.is_file():
            raise DataError(f"{listing}: {file} is listed, but there is no such file. {advice}")
    for file, digest in sums.items():
        found = _sha256(file)
        if found != digest:
            raise DataError(
                f"{file}: expected the SHA-256 {digest[:12]}... from {listing.name}, found {found[:12]}.... {advice}"
            )


def advice_on_check_sums(path: Path) -> str:
    """Return how to write the checksums of a file that has none; an empty string if it has them."""
    if _listing(path).is_file():
        return ""
    return (
        f"{path}: there are no checksums, so that damaged numbers would go unnoticed; "
        f"`difftori data sums {path}` writes them."
    )


def _listing(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _files(path: Path) -> list[Path]:
    return [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
