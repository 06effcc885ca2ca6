#!/usr/bin/env bash
# Runs the end-to-end tests in the Debian guest: systemd, cgroup v2, ecsd as a unit.
#
#	test.sh CACHE-DIR
set -euo pipefail
cache=${1:?usage: test.sh CACHE-DIR}
cd "$(dirname "$0")/../.."
for command in debootstrap qemu-system-x86_64 qemu-img mkfs.ext4; do
	command -v "$command" >/dev/null && continue
	echo "test-vm: installing qemu and debootstrap"
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		qemu-system-x86 qemu-utils debootstrap e2fsprogs >/dev/null
	break
done
test/vm/guest.sh "$cache"
disk=$(mktemp -d "$cache/tests.XXXXXX")
trap 'rm -rf "$disk"' EXIT
make -s build
mkdir "$disk/bin"
cp bin/ecsd bin/ecsd-log "$disk/bin/"
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$disk/bin/testbox" ./test/testbox
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$disk/bin/demo" ./examples/demo
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$disk/bin/httpload" ./test/tools/httpload
go run ./test/tools/mkimage -o "$disk/demo.tar" -file /demo="$disk/bin/demo" -entrypoint /demo
ECSD_TEST_IMAGE_OUT="$disk/bin" go test -count=1 -run TestWriteImage ./test/testimage >/dev/null
CGO_ENABLED=0 go test -c -o "$disk/bin/e2e.test" ./test/e2e
CGO_ENABLED=0 go test -c -o "$disk/bin/containerd.test" ./pkg/runtime/containerd
cp -r test/e2e/testdata "$disk/testdata"
cp -r examples README.md "$disk/"
cp test/vm/in-guest.sh "$disk/run.sh"
test/vm/run.sh "$cache" "$disk" "${TEST_VM_SECONDS:-3000}"
