#!/usr/bin/env bash
# Installs what tests and demo need and is missing, from the distribution's packages.
set -euo pipefail
declare -A packages=(
	[containerd]=containerd [runc]=runc [crun]=crun [ip]=iproute2 [nft]=nftables [curl]=curl
	[docker-registry]=docker-registry [promtool]=prometheus [mkfs.ext4]=e2fsprogs [mount]=mount [gcc]=gcc
)
missing=()
for command in "${!packages[@]}"; do
	command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
	echo "deps: not a Debian system; please install: ${missing[*]}" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: as root, please run: apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services of the packages are not started on a machine that runs none by itself.
{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
