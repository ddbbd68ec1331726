#!/usr/bin/env bash
# Install the lowest versions that setup.cfg allows into a temporary environment, and run the tests without simulators
# there. Old versions emit deprecation warnings, so warnings are not errors here.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$1" - >"$folder/lowest.txt" <<'EOF'
import re
from configparser import ConfigParser

config = ConfigParser()
config.read("setup.cfg")
extras = config["options.extras_require"]
for lines in (config["options"]["install_requires"], *(extras[name] for name in ("diffusion", "plot", "dev"))):
    for name, version in re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\w.]+)", lines, re.MULTILINE):
        print(f"{name}=={version}")
EOF
cat "$folder/lowest.txt"
"$1" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip --disable-pip-version-check -q)
"${pip[@]}" install 'pip<25.3'
"${pip[@]}" install -c "$folder/lowest.txt" '.[diffusion,plot,dev]'
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -m pytest -W default -p no:cacheprovider -n auto --dist worksteal \
    tests/unit tests/property
