"""Report the names of missing system packages. Runs with any Python 3, before the environment is built."""

import ctypes.util
import shutil
import sys
import sysconfig
from pathlib import Path

NEEDED = {
    "cmake": shutil.which("cmake"),
    "build-essential": shutil.which("gcc"),
    "python3-dev": (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
    "libosmesa6": ctypes.util.find_library("OSMesa"),
    "libegl1": ctypes.util.find_library("EGL"),
    "libgl1": ctypes.util.find_library("GL"),
}

if __name__ == "__main__":
    missing = [package for package, found in NEEDED.items() if not found]
    if missing:
        sys.exit(
            f"missing system packages: {' '.join(missing)}\n"
            "On Debian and Ubuntu `make system` installs them (as root, or with sudo). On other systems install the "
            "packages with the same commands and libraries."
        )
