"""Vulkan for SAPIEN: the machine's own, or the software driver that `setup/software_vulkan.sh` unpacks."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path

from difftori_pl.errors import MissingPackageError

FOLDER = "share/software_vulkan"
"""Where the script puts the driver, in the environment's folder."""

HELP = (
    "ManiSkill2 needs Vulkan, even to simulate: on a machine with a GPU install its driver and libvulkan1; without one "
    "run `make vulkan`, which sets it up in software for the checkout's .venv, or for another environment `bash "
    f"setup/software_vulkan.sh \"$(python -c 'import sys; print(sys.prefix)')/{FOLDER}\"`"
)


def prepare_vulkan() -> None:
    """Choose the software driver where no GPU shows and the user has chosen nothing; call before importing SAPIEN.

    Raises:
        MissingPackageError: there is no GPU and no software driver.
    """
    chosen = "VK_ICD_FILENAMES" in os.environ or "VK_DRIVER_FILES" in os.environ
    if chosen or glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/dri/renderD*"):
        return
    folder = Path(sys.prefix) / FOLDER
    if not (folder / "ready").exists():
        raise MissingPackageError(HELP)
    os.environ |= {
        "VK_ICD_FILENAMES": str(folder / "lavapipe.json"),
        "VK_LAYER_PATH": str(folder / "layer"),
        "VK_INSTANCE_LAYERS": "VK_LAYER_DIFFTORI_external_semaphore",
        # The library that the layer borrows would else spin for ever.
        "NODEVICE_SELECT": "1",
    }
