#!/usr/bin/env bash
# Install Chromium for setup/check_widths.py. Without it the check is skipped, so a failure here is only reported.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    command -v "$name" > /dev/null && exit 0
done
if ! command -v apt-get > /dev/null || ! grep -qx 'ID=debian' /etc/os-release; then
    echo "chromium is not installed, and this system is not Debian: install it to check the widths of the pages" >&2
    exit 0
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
{ "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium; } ||
    echo "chromium could not be installed: the widths of the pages will not be checked" >&2
