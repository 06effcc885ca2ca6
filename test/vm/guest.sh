#!/usr/bin/env bash
# Builds the Debian guest that `make test-vm` boots: kernel, initrd and a root file
# system with systemd, containerd and cgroup v2, in the directory given. The guest is
# built once and kept; only the disk with the tests is made anew for each run.
#
#	guest.sh DIR
set -euo pipefail
dir=${1:?usage: guest.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
recipe=$(sha256sum "$0" | cut -c1-16)
if [ -f "$dir/recipe" ] && [ "$(cat "$dir/recipe")" = "$recipe" ]; then
	echo "guest: $dir is up to date"
	exit 0
fi
root=$(mktemp -d "$dir/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) .*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1 || true)
[ -n "$mirror" ] || mirror=http://deb.debian.org/debian
echo "guest: debootstrap"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,udev,kmod,iproute2,procps,containerd,runc,crun,nftables,prometheus,curl,ca-certificates,linux-image-cloud-amd64,initramfs-tools \
	bookworm "$root" "$mirror" >"$dir/debootstrap.log" 2>&1 || { tail -n 20 "$dir/debootstrap.log"; exit 1; }
echo ecsd-guest >"$root/etc/hostname"
printf '127.0.0.1 localhost ecsd-guest\n::1 localhost\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 rw,noatime 0 1\n/dev/vdb /tests ext4 rw 0 2\n' >"$root/etc/fstab"
mkdir -p "$root/tests"
# The tests run as a unit and the guest ends with them.
cat >"$root/etc/systemd/system/ecsd-tests.service" <<'UNIT'
[Unit]
Description=ecsd tests
RequiresMountsFor=/tests
After=multi-user.target containerd.service
Wants=containerd.service
[Service]
Type=oneshot
ExecStart=/bin/bash /tests/run.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStopPost=/bin/systemctl --no-block poweroff
Delegate=yes
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -sf ../ecsd-tests.service "$root/etc/systemd/system/default.target.wants/ecsd-tests.service"
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
for unit in serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer systemd-timesyncd.service prometheus.service prometheus-node-exporter.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd"
echo "guest: make the disk"
rm -f "$dir/root.img"
mkfs.ext4 -q -L root -d "$root" "$dir/root.img" 3G
echo "$recipe" >"$dir/recipe"
