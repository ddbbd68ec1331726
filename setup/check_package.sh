#!/usr/bin/env bash
# Build the wheel, install it into an empty environment, and use it there, away from the sources. What it depends on is
# taken from the environment of the given Python.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# From what git has, so that nothing else gets in.
mkdir "$folder/source"
git ls-files -z | xargs -0 cp -P --parents -t "$folder/source"
"$python" -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w "$folder" "$folder/source"
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install -q --no-deps "$folder"/*.whl
site=$("$folder/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
# With the .pth files there; an editable installation of this package among them comes after the wheel's.
"$python" -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' >"$site/dependencies.pth"

cd "$folder"
"$folder/venv/bin/python" - "$site" <<'EOF'
import sys
from pathlib import Path

import datamodules
import difftori_pl

for package in (difftori_pl, datamodules):
    folder = Path(package.__file__).parent
    assert folder.parent == Path(sys.argv[1]), f"{package.__name__} came from {folder}"
    assert (folder / "py.typed").exists()
EOF
"$folder/venv/bin/lightning" fit --config il_square_low_dim.yaml --print_config >printed.yaml
grep -q DiffTORIIL printed.yaml
"$folder/venv/bin/difftori" data check --help >/dev/null
echo "the wheel works: $(basename "$folder"/*.whl), $(stat -c %s "$folder"/*.whl) bytes"
