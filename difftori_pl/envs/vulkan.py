"""Choice of the Vulkan driver for SAPIEN: the GPU's, or the software driver of `setup/software_vulkan.sh`."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path

from difftori_pl.errors import MissingPackageError

FOLDER = "share/software_vulkan"
"""Folder of the software driver, relative to the Python environment (`sys.prefix`)."""

HELP = (
    "ManiSkill needs Vulkan, even without rendering. With a GPU, install its driver and libvulkan1. Without one, run "
    "`make vulkan`, which installs a software driver into .venv, or for another environment `bash "
    f"setup/software_vulkan.sh \"$(python -c 'import sys; print(sys.prefix)')/{FOLDER}\"`"
)


def prepare_vulkan() -> None:
    """Select the software driver if there is no GPU and the user has set no driver; call before importing SAPIEN.

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
        # The layer reuses Mesa's device-select library, which would otherwise loop forever.
        "NODEVICE_SELECT": "1",
    }
