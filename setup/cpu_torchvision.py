"""Make torchvision importable with a CPU-only torch: run once with the Python of the environment.

PyPI's torchvision is a CUDA build. With a CPU-only torch its extension does not load, and the import fails because the
operators `torchvision::nms` and `torchvision::qnms` do not exist. Declaring both is sufficient, because this package
does not call them. The script writes the declarations to the environment's site-packages only if torchvision cannot be
imported.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

SHIM = '''"""Declare torchvision's operators before its first import; written by setup/cpu_torchvision.py."""

import sys


class _DeclareOperators:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules[__name__].keep = self


sys.meta_path.insert(0, _DeclareOperators())
'''


def imports() -> bool:
    """Return whether a new Python process can import torchvision."""
    return (
        subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False).returncode == 0
    )


if __name__ == "__main__":
    if not imports():
        site = Path(sysconfig.get_paths()["purelib"])
        (site / "_cpu_torchvision.py").write_text(SHIM)
        (site / "cpu_torchvision.pth").write_text("import _cpu_torchvision\n")
        if not imports():
            sys.exit(
                "torchvision cannot be imported even with its operators declared: run `python -c 'import torchvision'`"
            )
