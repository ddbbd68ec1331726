"""Run tests under torchrun, and stop all of its processes on a timeout."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def torchrun(*arguments: str, env: Mapping[str, str] | None = None, timeout: float = 400.0) -> str:
    """Run a module in two processes and return their stderr.

    Raises:
        AssertionError: the run failed or timed out; the message ends with the last lines of stderr.
    """
    command = [*TORCHRUN, "--standalone", "--nproc_per_node=2", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        _, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun then terminates its workers
        _, stderr = process.communicate()
        raise AssertionError(f"expected torchrun to end within {timeout} s: {stderr[-3000:]}") from None
    assert process.returncode == 0, stderr[-3000:]
    return stderr
