"""Download and upload shared policies through `huggingface_hub`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from difftori_pl.checkpoints.shared_folder import FILES, is_shared
from difftori_pl.errors import CheckpointError, ExportError, MissingPackageError

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def download(place: str) -> str:
    """Return the local copy of a policy on the hub, or `place` itself if it is no name on the hub.

    Args:
        place: "user/name"; a path if such a file or the folder `user` exists, or if it ends with `.ckpt`.

    Raises:
        CheckpointError: the policy cannot be downloaded, or the repository holds no shared policy.
        MissingPackageError: `huggingface_hub` is not installed.
    """
    is_path = os.path.exists(place) or os.path.isdir(place.partition("/")[0]) or place.endswith((".ckpt", ".pth"))
    if is_path or not _NAME.fullmatch(place):
        return place
    library = _library(f"{place} does not exist here, and downloading it from the Hugging Face Hub needs")
    try:
        folder = str(library.snapshot_download(place, allow_patterns=list(FILES)))
    except Exception as error:  # the library raises errors of its own and of the network
        raise CheckpointError(
            f"{place} does not exist here, and the hub does not deliver it ({_first_line(error)}): check the path or "
            "the name"
        ) from error
    if not is_shared(folder):
        raise CheckpointError(
            f"expected a policy that `difftori share` wrote in {place} on the hub, got none: check the name"
        )
    return folder


def check_name(name: str) -> None:
    """Check the name of a repository, and that `huggingface_hub` is installed.

    Raises:
        ExportError: the name is not of the form user/name.
        MissingPackageError: `huggingface_hub` is not installed.
    """
    if not _NAME.fullmatch(name):
        raise ExportError(f"expected a name on the hub such as user/name, got {name!r}: change --push")
    _library("uploading to the Hugging Face Hub needs")


def upload(folder: Path, name: str, private: bool) -> str:
    """Upload the folder of a shared policy, with the account that `huggingface_hub` is logged in with.

    Args:
        folder: the folder.
        name: "user/name"; the repository is created if it does not exist.
        private: whether only the owner can read a new repository.

    Returns:
        The address of the upload.

    Raises:
        ExportError: the upload failed.
        MissingPackageError: `huggingface_hub` is not installed.
    """
    library = _library("uploading to the Hugging Face Hub needs")
    api = library.HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        return str(
            api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="Add policy")
        )
    except Exception as error:  # see above
        raise ExportError(
            f"{folder} is written, but could not be uploaded to {name} ({_first_line(error)}): log in with "
            "`hf auth login`, or upload the folder by hand"
        ) from error


def _library(purpose: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingPackageError(f"{purpose} huggingface_hub: pip install 'difftori-pl[hub]'") from error
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
