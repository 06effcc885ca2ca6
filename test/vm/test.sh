#!/usr/bin/env bash
# Runs the end-to-end tests in the Debian guest: systemd, cgroup v2, ecsd as a unit.
#
#	test.sh CACHE-DIR
#
# ECSD_VM_PARTS="unit e2e runtime cgroup spec network power" chooses parts, ECSD_VM_RUN=REGEXP
# tests of the e2e and runtime parts; the whole takes TEST_VM_SECONDS at most.
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
CGO_ENABLED=0 go test -c -o "$disk/bin/cgroup.test" ./pkg/runtime/containerd/cgroup
CGO_ENABLED=0 go test -c -o "$disk/bin/network.test" ./pkg/runtime/containerd/network
CGO_ENABLED=0 go test -c -o "$disk/bin/spec.test" ./pkg/spec
cp -r test/e2e/testdata "$disk/testdata"
cp -r examples README.md "$disk/"
cp test/vm/in-guest.sh "$disk/run.sh"
printf 'ECSD_VM_PARTS=%q\nECSD_VM_RUN=%q\n' "${ECSD_VM_PARTS:-}" "${ECSD_VM_RUN:-}" >"$disk/environment"
test/vm/run.sh "$cache" "$disk" "${TEST_VM_SECONDS:-5400}"
