#!/usr/bin/env bash
# Install the packages that the simulators need to build and to render without a screen (Debian, Ubuntu).
set -euo pipefail
packages=(build-essential cmake python3-dev libosmesa6 libegl1 libgl1 libgles2 libegl-mesa0 libgl1-mesa-dri)
command -v apt-get > /dev/null || { echo "apt-get not found: install the equivalents of ${packages[*]}" >&2; exit 1; }
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'install ok' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
