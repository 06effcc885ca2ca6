#!/usr/bin/env bash
# Builds what the benchmark needs and runs it in a network namespace of its own. Flags go
# to the benchmark; see test/bench/main.go.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] || { echo "bench: containers need root" >&2; exit 1; }
make -s build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/bench" ./test/bench
ECSD_TEST_IMAGE_OUT="$work" go test -count=1 -run TestWriteImage ./test/testimage >/dev/null
unshare --net -- bash -c 'ip link set lo up && exec "$@"' bench "$work/bench" -bin bin -image "$work/testimage.tar" "$@"
