#!/usr/bin/env bash
# Runs inside the guest of `make test-vm`, as a unit, and prints to its console.
set -uo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true
failed=0
step() { echo "== $*"; }
fail() { echo "FAILED: $*"; failed=1; }
check() { # check WHAT COMMAND…
	local what=$1
	shift
	if "$@" >/tmp/check.out 2>&1; then echo "ok    $what"; else
		fail "$what: $*"
		tail -n 20 /tmp/check.out
	fi
}
finish() {
	echo
	echo "ecsd-tests: exit code $failed"
	sync
}
trap finish EXIT

uname -r
systemctl --version | head -n 1
containerd --version
step "cgroup v2, systemd as pid 1"
check "cgroup v2" test -f /sys/fs/cgroup/cgroup.controllers
check "systemd" test -d /run/systemd/system

step "ecsd as a unit"
install -m 0755 /tests/bin/ecsd /tests/bin/ecsd-log /usr/local/bin/
install -D -m 0644 /tests/demo.tar /var/lib/ecsd/images/demo.tar
mkdir -p /etc/ecs/manifests
cp /tests/examples/*.yaml /tests/examples/*.json /etc/ecs/manifests/
cp /tests/examples/systemd/ecsd.service /etc/systemd/system/
systemctl daemon-reload
check "the unit starts and says READY" systemctl start ecsd
check "services are stable" ecsd wait --for=stable --timeout 300s
ecsd ps
check "the steady port answers" curl -sf --max-time 5 http://127.0.0.1:8000/
check "task slices of systemd" bash -c 'ls -d /sys/fs/cgroup/ecstasks-*.slice || ls -d /sys/fs/cgroup/*/ecstasks-*.slice'
task=$(ecsd ps -o name | head -n 1)
before=$(ecsd ps -o json | sha256sum)
pids_before=$(pgrep -f '^/demo' | sort)
check "the unit restarts" systemctl restart ecsd
check "still stable" ecsd wait --for=stable --timeout 60s
pids_after=$(pgrep -f '^/demo' | sort)
check "a restart of the agent leaves every process alone" test "$pids_before" = "$pids_after"
check "the watchdog is fed" bash -c 'test "$(systemctl show -p WatchdogTimestampMonotonic --value ecsd)" != 0'
check "containerd restarts" systemctl restart containerd
check "still stable after containerd's restart" ecsd wait --for=stable --timeout 60s
pids_after=$(pgrep -f '^/demo' | sort)
check "a restart of containerd leaves every process alone" test "$pids_before" = "$pids_after"
check "memory limit in the container's cgroup" bash -c 'grep -qx 67108864 /sys/fs/cgroup/ecstasks-*.slice/*/memory.max || grep -rqx 67108864 /sys/fs/cgroup/*/ecstasks-*.slice/*/memory.max'
step "stop"
touch /etc/ecs/manifests/.allow-empty
rm -f /etc/ecs/manifests/*.yaml /etc/ecs/manifests/*.json
check "an emptied directory that may be empty stops all" ecsd wait --for=stopped --timeout 120s
check "no slice is left" bash -c '! ls -d /sys/fs/cgroup/ecstasks-*.slice 2>/dev/null'
systemctl stop ecsd
[ $failed = 0 ] || journalctl -u ecsd --no-pager | tail -n 60

step "end-to-end scripts on cgroup v2"
cd /tests
export ECSD_TEST_IMAGE_DIR=/tests/bin ECSD_E2E_BIN=/tests/bin TMPDIR=/var/tmp
/tests/bin/e2e.test -test.v -test.timeout 30m || failed=1
step "the runtime's own suite on cgroup v2"
/tests/bin/containerd.test -test.timeout 20m || failed=1
