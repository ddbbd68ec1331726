"""Settings of threads and memory on a CPU, made before torch is loaded."""

import ctypes
import os
import sys

SETTINGS = {
    # By default, the threads of OpenMP spin for some milliseconds after each operation. If another process needs the
    # core, a spinning thread takes it from a thread that computes, and a training step takes several times as long.
    # PASSIVE threads sleep: benchmarks/results/startup.md has the times.
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc returns a freed block of more than 128 KiB to the system and asks for new, zeroed pages for the next one.
    # The tensors of a training step are of such sizes, so that each step would wait for the system. Blocks below the
    # first limit come from the heap, which keeps free memory up to the second one. 32 MiB is the most that all versions
    # of glibc accept.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""Environment variables and their values. A worker process inherits them."""

# The numbers of the two limits in glibc's malloc.h
_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}


def set_up_processor() -> None:
    """Set what is fastest on a CPU, in this process and its worker processes, except what the user has set.

    Call this before torch is imported: OpenMP reads its variables when it is loaded. glibc reads its variables when a
    process starts, so for this process `mallopt` sets the same limits.
    """
    user_sets_malloc = any(name in os.environ for name in (*_MALLOPT, "GLIBC_TUNABLES"))
    for name, value in SETTINGS.items():
        if not (name in _MALLOPT and user_sets_malloc):
            os.environ.setdefault(name, value)
    if not user_sets_malloc and sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in all C libraries: musl has none
        if mallopt is not None:
            for name, number in _MALLOPT.items():
                mallopt(number, int(SETTINGS[name]))
