#!/usr/bin/env bash
# Boots the guest with a disk that holds the given directory as /tests, and shows what
# /tests/run.sh prints. Ends with that script's exit code. A guest that says "power cut" and
# resets itself is booted once more, on the same disks.
#
#	run.sh GUEST-DIR TESTS-DIR [SECONDS]
set -euo pipefail
guest=${1:?usage: run.sh GUEST-DIR TESTS-DIR [SECONDS]}
tests=${2:?usage: run.sh GUEST-DIR TESTS-DIR [SECONDS]}
limit=${3:-1800}
work=$(mktemp -d "$guest/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
qemu-img create -q -f qcow2 -F raw -b "$(cd "$guest" && pwd)/root.img" "$work/root.qcow2"
mkfs.ext4 -q -d "$tests" "$work/tests.img" 2G
accel=${QEMU_ACCEL:-tcg,thread=multi} # QEMU_ACCEL=kvm where nested KVM is known to work
# A busy machine may emulate the timer too slowly for the kernel, which checks it at boot:
# no_timer_check. A kernel that panics resets at once, which ends qemu (-no-reboot).
boot() {
	timeout --foreground "$limit" qemu-system-x86_64 -accel "$accel" -cpu max -smp 2 -m 2048 -nographic -no-reboot \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd" \
		-append "root=/dev/vda ro console=ttyS0 quiet systemd.show_status=0 net.ifnames=0 no_timer_check panic=-1" \
		-drive file="$work/root.qcow2",if=virtio,format=qcow2,cache=unsafe \
		-drive file="$work/tests.img",if=virtio,format=raw,cache=unsafe \
		-nic none -monitor none -serial stdio </dev/null | tee "$work/console.log" || true
}
boot
if tr -d '\r' <"$work/console.log" | grep -qx 'ecsd-tests: power cut'; then
	boot
fi
code=$(tr -d '\r' <"$work/console.log" | sed -n 's/^ecsd-tests: exit code \([0-9]*\)$/\1/p' | tail -n 1)
if [ -z "$code" ]; then
	echo "run.sh: the guest said no exit code within $limit s" >&2
	exit 1
fi
exit "$code"
