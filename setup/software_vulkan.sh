#!/usr/bin/env bash
# Install a software Vulkan driver for ManiSkill2 without a GPU: bash setup/software_vulkan.sh [FOLDER]
#
# SAPIEN 2.2 needs Vulkan even if nothing is rendered. Mesa's software driver (lavapipe) works, with two obstacles:
# Debian 12's version is too old: it lacks descriptorBindingPartiallyBound. The version in the backports has it, but does
# not provide VK_KHR_external_semaphore_fd. SAPIEN requires this extension but never calls it on a CPU, so a layer
# manifest that declares it is sufficient. The driver is unpacked into FOLDER (default .venv/share/software_vulkan), where
# `difftori_pl.envs.vulkan` looks for it. Only its dependencies are installed system-wide.
set -euo pipefail
folder=$(realpath -m "${1:-.venv/share/software_vulkan}")
library="$folder/root/usr/lib/x86_64-linux-gnu"
[ -e "$folder/ready" ] && exit 0
. /etc/os-release
[ "$(uname -m)" = x86_64 ] || { echo "expected an x86_64 machine, got $(uname -m): install a Vulkan driver for it" >&2; exit 1; }

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
missing=()
for package in libvulkan1 mesa-vulkan-drivers; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'install ok' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

mkdir -p "$folder"/{lists/partial,archives/partial,layer}
apt=(apt-get -qq)
if [ "${VERSION_CODENAME:-}" = bookworm ]; then
    # Use the mirror that apt is configured with.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" \
        > "$folder/sources.list"
    apt+=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null
          -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder" -o APT::Sandbox::User=root)
    "${apt[@]}" update
fi
(cd "$folder" && "${apt[@]}" download mesa-vulkan-drivers)
dpkg -x "$folder"/mesa-vulkan-drivers_*.deb "$folder/root"
rm -rf "$folder"/{lists,archives,*.deb,*.bin}

cat > "$folder/lavapipe.json" <<JSON
{"file_format_version": "1.0.0", "ICD": {"api_version": "1.3.0", "library_path": "$library/libvulkan_lvp.so"}}
JSON
cat > "$folder/layer/external_semaphore.json" <<JSON
{
  "file_format_version": "1.0.0",
  "layer": {
    "name": "VK_LAYER_DIFFTORI_external_semaphore",
    "type": "GLOBAL",
    "description": "declares VK_KHR_external_semaphore_fd, which lavapipe lacks",
    "library_path": "$library/libVkLayer_MESA_device_select.so",
    "api_version": "1.3.0",
    "implementation_version": "1",
    "functions": {"vkNegotiateLoaderLayerInterfaceVersion": "vkNegotiateLoaderLayerInterfaceVersion"},
    "device_extensions": [
      {
        "name": "VK_KHR_external_semaphore_fd",
        "spec_version": "1",
        "entrypoints": ["vkGetSemaphoreFdKHR", "vkImportSemaphoreFdKHR"]
      }
    ]
  }
}
JSON
touch "$folder/ready"
