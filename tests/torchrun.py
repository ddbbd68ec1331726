"""torchrun, whose processes end with it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def torchrun(*arguments: str, env: Mapping[str, str] | None = None, timeout: float = 400.0) -> str:
    """Run a module in two processes and give what they wrote to stderr.

    Raises:
        AssertionError: it failed or took too long, with the end of what it wrote.
    """
    command = [*TORCHRUN, "--standalone", "--nproc_per_node=2", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # so that torchrun ends its processes too
        _, said = process.communicate()
        raise AssertionError(f"no end after {timeout} s: {said[-3000:]}") from None
    assert process.returncode == 0, said[-3000:]
    return said
