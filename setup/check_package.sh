#!/usr/bin/env bash
# Build the wheel, install it into an empty environment, and run it there, outside the source folder. Dependencies are
# imported from the environment of the given Python.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Build from the files tracked by git, so that no other file enters the wheel.
mkdir "$folder/source"
git ls-files -z | xargs -0 cp -P --parents -t "$folder/source"
"$python" -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w "$folder" "$folder/source"
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install -q --no-deps "$folder"/*.whl
site=$("$folder/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
# addsitedir also reads .pth files. An editable installation of this package listed there comes after the wheel in
# sys.path.
"$python" -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' >"$site/dependencies.pth"

cd "$folder"
"$folder/venv/bin/python" - "$site" <<'EOF'
import sys
from pathlib import Path

import datamodules
import difftori_pl

for package in (difftori_pl, datamodules):
    folder = Path(package.__file__).parent
    assert folder.parent == Path(sys.argv[1]), f"{package.__name__} was imported from {folder}"
    assert (folder / "py.typed").exists()
EOF
"$folder/venv/bin/lightning" fit --config il_square_low_dim.yaml --print_config >printed.yaml
grep -q DiffTORIIL printed.yaml
"$folder/venv/bin/difftori" data check --help >/dev/null
echo "the wheel works: $(basename "$folder"/*.whl), $(stat -c %s "$folder"/*.whl) bytes"
