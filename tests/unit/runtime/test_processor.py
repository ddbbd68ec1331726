"""The program sets threads and memory before torch is loaded, in worker processes too, unless the user has set them."""

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from difftori_pl.runtime.processor import SETTINGS

CODE = """
import ctypes, json, os, subprocess, sys

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
fields = [(f"f{number}", ctypes.c_size_t) for number in range(10)]
library.mallinfo2.restype = type("Info", (ctypes.Structure,), {"_fields_": fields})

if not sys.argv[2:]:
    from difftori_pl.cli import main

    assert "torch" not in sys.modules
    try:
        main(["table", "none"])
    except SystemExit:
        pass
before = library.mallinfo2().f3
library.malloc(2**24)
found = {
    "variables": {name: os.environ[name] for name in os.environ if name in json.loads(sys.argv[1])},
    "takes_new_pages": library.mallinfo2().f3 > before,
}
if not sys.argv[2:]:
    found["worker"] = json.loads(subprocess.check_output([sys.executable, __file__, sys.argv[1], "worker"]))
print(json.dumps(found))
"""


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that starts the program with these variables of the user, and returns its settings."""
    script = tmp_path_factory.mktemp("script") / "program.py"
    script.write_text(CODE)

    def run(**user: str) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, "GLIBC_TUNABLES")}
        command = [sys.executable, str(script), json.dumps(list(SETTINGS))]
        done = subprocess.run(command, env=environment | user, check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is a function of glibc")


@needs_glibc
def test_this_process_and_its_workers_are_set_up(start: Any) -> None:
    found = start()
    assert found["variables"] == SETTINGS
    assert found["worker"] == {"variables": SETTINGS, "takes_new_pages": False}
    assert not found["takes_new_pages"]


@needs_glibc
@pytest.mark.parametrize(
    "user", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}]
)
def test_a_user_who_sets_malloc_is_obeyed(start: Any, user: dict[str, str]) -> None:
    found = start(**user)
    kept = {name: value for name, value in user.items() if name in SETTINGS}
    assert found["variables"] == {"OMP_WAIT_POLICY": "PASSIVE"} | kept
    assert found["takes_new_pages"]
    assert found["worker"]["takes_new_pages"]


def test_a_user_who_sets_the_threads_is_obeyed(start: Any) -> None:
    found = start(OMP_WAIT_POLICY="ACTIVE")
    assert found["variables"]["OMP_WAIT_POLICY"] == found["worker"]["variables"]["OMP_WAIT_POLICY"] == "ACTIVE"
