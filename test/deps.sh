#!/usr/bin/env bash
# Installs what is missing, from the distribution's packages: for the demo (containerd,
# runc, curl), or for the tests, which need more.
#
#	deps.sh demo|test
set -euo pipefail
declare -A packages=([containerd]=containerd [runc]=runc [curl]=curl [ip]=iproute2 [nft]=nftables)
if [ "${1:-test}" = test ]; then
	packages+=([crun]=crun [docker-registry]=docker-registry [promtool]=prometheus
		[mkfs.ext4]=e2fsprogs [gcc]=gcc [busybox]=busybox-static)
fi
missing=()
for command in "${!packages[@]}"; do
	command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
	echo "deps: this is no Debian system; please install: ${missing[*]}" >&2
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
{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
	tail -n 30 "$log" >&2
	exit 1
}
