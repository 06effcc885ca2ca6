#!/usr/bin/env bash
# Runs inside the guest of `make test-vm`, as a unit, and prints to its console. The file
# /tests/environment may say which of its parts run (ECSD_VM_PARTS), and which tests of
# them (ECSD_VM_RUN); without it all do.
set -uo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true TMPDIR=/var/tmp
# What the tests need, built outside; and the patience that an emulated machine needs.
export ECSD_TEST_IMAGE_DIR=/tests/bin ECSD_E2E_BIN=/tests/bin ECSD_TEST_PATIENCE=6
failed=0
cgroups=/sys/fs/cgroup

step() { printf '\n== %s (%d s since boot)\n' "$*" "$(cut -d. -f1 /proc/uptime)"; }
fail() { echo "FAILED: $*"; failed=1; }
check() { # check WHAT COMMAND…
	local what=$1
	shift
	if "$@" >/tmp/check.out 2>&1; then echo "ok    $what"; else
		fail "$what: $*"
		tail -n 20 /tmp/check.out
	fi
}
within() { # within SECONDS COMMAND…: until it succeeds
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 1
	done
}
suite() { # suite BINARY FLAGS…: the names and verdicts of its tests, then what those that failed said
	local log=/var/tmp/suite.log code
	"$@" -test.v >$log 2>&1 &
	tail -n +1 -f --pid=$! $log | grep -aE --line-buffered '^ *--- |^=== RUN +[^/]*$|^(PASS|FAIL|panic)'
	wait $!
	code=$?
	[ $code = 0 ] && return
	failed=1
	echo "FAILED: $* (exit code $code)"
	awk '/^=== RUN +[^\/]*$/ { n = 0 }
		{ line[n++] = $0 }
		/^--- FAIL/ || /^panic/ { for (i = (n > 5000 ? n - 5000 : 0); i < n; i++) print line[i]; n = 0 }
		/^--- PASS/ { n = 0 }
		END { for (i = (n > 50 ? n - 50 : 0); i < n; i++) print line[i] }' $log
}
finish() {
	echo
	echo "ecsd-tests: exit code $failed"
	sync
}
trap finish EXIT

# What the demo's programs are, without health checks and the batch job, which come and go.
lasting() { pgrep -f '^/demo (web|work -for 24h)' | sort -n; }
same() { [ -n "$1" ] && [ "$1" = "$(lasting)" ]; }
limited() { # the limits of the examples "shop" and "registered" are those of their slices and scopes
	local slice
	slice=$(dirname "$(grep -lx 268435456 $cgroups/ecstasks.slice/*/memory.max | head -n 1)")
	echo "slice $slice: $(cat "$slice/cpu.max" "$slice/cpu.weight" "$slice/pids.max")"
	grep -qx '50000 100000' "$slice/cpu.max" &&
		grep -qx '13000 100000' $cgroups/ecstasks.slice/*/cpu.max &&
		grep -qx 67108864 "$slice"/ecsd-*.scope/memory.max &&
		grep -qx 33554432 "$slice"/ecsd-*.scope/memory.max &&
		grep -q '^[0-9]' "$slice"/ecsd-*.scope/pids.max
}
# The examples as they are, but for health checks that an emulated machine may be too slow for.
examples() {
	local pattern
	for pattern; do
		# shellcheck disable=SC2086 # a pattern
		cp /tests/examples/$pattern /etc/ecs/manifests/
	done
	sed -i 's/timeout: 2$/timeout: 60/' /etc/ecs/manifests/*.yaml
}
restarts() { systemctl show -p NRestarts --value ecsd; }
restarted() { [ "$(restarts)" -gt "$1" ]; }

part_unit() {
	step "ecsd as a unit"
	install -m 0755 /tests/bin/ecsd /tests/bin/ecsd-log /usr/local/bin/
	install -D -m 0644 /tests/demo.tar /var/lib/ecsd/images/demo.tar
	mkdir -p /etc/ecs/manifests
	examples '*.yaml' '*.json'
	cp /tests/examples/systemd/ecsd.service /etc/systemd/system/
	systemctl daemon-reload
	check "the unit starts and says READY" systemctl start ecsd
	check "services are stable" ecsd wait --for=stable --timeout 300s
	ecsd ps
	check "the steady port answers" curl -sf --max-time 10 http://127.0.0.1:8000/
	check "each task has a slice of systemd" bash -c "test \$(ls -d $cgroups/ecstasks.slice/ecstasks-*.slice | wc -l) = 6"
	check "systemd knows the slices" bash -c "test \$(systemctl list-units --no-legend 'ecstasks-*.slice' | wc -l) = 6"
	check "the slice and the scopes in it have the limits" limited

	step "restarts leave processes alone"
	local before count
	before=$(lasting)
	check "the unit restarts" systemctl restart ecsd
	check "still stable" ecsd wait --for=stable --timeout 120s
	check "a restart of the agent leaves every process alone" same "$before"
	count=$(restarts)
	systemctl kill --kill-who=main -s KILL ecsd
	check "systemd restarts an agent that was killed" within 60 restarted "$count"
	check "still stable after the agent was killed" ecsd wait --for=stable --timeout 120s
	check "a killed agent leaves every process alone" same "$before"
	systemctl stop ecsd
	check "a stopped unit leaves every process alone" same "$before"
	check "the steady port answers without the agent" curl -sf --max-time 10 http://127.0.0.1:8000/
	check "the unit starts again" systemctl start ecsd
	check "containerd restarts" systemctl restart containerd
	check "still stable after containerd's restart" ecsd wait --for=stable --timeout 120s
	check "a restart of containerd leaves every process alone" same "$before"
	systemctl kill --kill-who=main -s KILL containerd
	check "containerd is restarted after SIGKILL" within 60 ctr version
	check "still stable after containerd was killed" ecsd wait --for=stable --timeout 120s
	check "a killed containerd leaves every process alone" same "$before"
	check "systemd is reloaded" systemctl daemon-reload
	check "systemd executes itself anew" systemctl daemon-reexec
	check "the limits outlive both" limited
	check "and so does every process" same "$before"
	count=$(restarts)
	systemctl kill --kill-who=main -s STOP ecsd
	check "the watchdog restarts an agent that hangs" within 150 restarted "$count"
	check "still stable after the watchdog" ecsd wait --for=stable --timeout 120s
	check "the watchdog leaves every process alone" same "$before"
	check "the watchdog is fed: no restart in twice its time" bash -c "sleep 60; test \$(systemctl show -p NRestarts --value ecsd) = $(restarts)"
	check "restarts said so" bash -c "journalctl -u ecsd --no-pager | grep -qi watchdog"

	step "an end that nobody asked for"
	kill -9 "$(pgrep -of '^/demo web -message hello')"
	check "a killed container is replaced" within 120 bash -c "ecsd ps | grep -q 'hello.*RUNNING' && pgrep -f '^/demo web -message hello'"

	step "stop"
	touch /etc/ecs/manifests/.allow-empty
	rm -f /etc/ecs/manifests/*.yaml /etc/ecs/manifests/*.json
	check "an emptied directory that may be empty stops all" ecsd wait --for=stopped --timeout 300s
	check "no slice is left" within 60 bash -c "test -z \"\$(find $cgroups -type d -name 'ecstasks*-*.slice')\""
	check "no unit is left" bash -c "test -z \"\$(systemctl list-units --all --no-legend 'ecstasks-*' 'ecsd-*.scope')\""
	check "no process is left" bash -c '! pgrep -f ^/demo'
	check "no container is left" bash -c 'test -z "$(ctr -n ecsd containers list -q)"'
	check "the unit stops" systemctl stop ecsd
	[ $failed = 0 ] || journalctl -u ecsd --no-pager | tail -n 80
}

# Bad input is refused alike on every machine: those tests run outside only.
part_e2e() {
	step "end-to-end scripts"
	suite /tests/bin/e2e.test -test.timeout 60m -test.skip 'BadInput|Hostile' ${ECSD_VM_RUN:+-test.run "$ECSD_VM_RUN"}
}

part_runtime() {
	step "the runtime's own suite"
	suite /tests/bin/containerd.test -test.short -test.timeout 40m ${ECSD_VM_RUN:+-test.run "$ECSD_VM_RUN"}
}

part_cgroup() {
	step "control groups"
	suite /tests/bin/cgroup.test -test.timeout 5m
}

part_spec() {
	step "OCI specs on real runtimes"
	suite /tests/bin/spec.test -test.timeout 20m -test.run TestOCIRuns
}

part_network() {
	step "the network's own suite"
	suite /tests/bin/network.test -test.timeout 20m
}

part_power() {
	step "a power cut"
	examples shop.yaml web.yaml
	check "the unit is enabled and started" systemctl enable --now ecsd
	check "services are stable" ecsd wait --for=stable --timeout 300s
	ecsd ps -o name >/var/lib/ecsd-before-power-cut
	echo $failed >/var/lib/ecsd-power-cut
	sync -f /var/lib/ecsd-power-cut
	echo
	echo "ecsd-tests: power cut"
	sleep 1 # the console's
	echo b >/proc/sysrq-trigger
	sleep 60
}

after_power() {
	failed=$(cat /var/lib/ecsd-power-cut)
	rm /var/lib/ecsd-power-cut
	step "after the power cut"
	check "the agent came back with the machine" systemctl is-active ecsd
	check "services are stable again" ecsd wait --for=stable --timeout 300s
	check "each service has its tasks, once" bash -c "test \$(ecsd ps -o name | wc -l) = 3 && test \$(pgrep -fc '^/demo web') = 3"
	check "they are new ones" bash -c '! ecsd ps -o name | grep -Fxf /var/lib/ecsd-before-power-cut'
	check "the steady port answers" within 30 curl -sf --max-time 10 http://127.0.0.1:8000/
	ecsd ps -a
	touch /etc/ecs/manifests/.allow-empty
	rm -f /etc/ecs/manifests/*.yaml
	check "all stops" ecsd wait --for=stopped --timeout 300s
	check "nothing is left" within 60 bash -c 'test -z "$(ctr -n ecsd containers list -q)$(find /sys/fs/cgroup -name "ecstasks-*")$(ls /run/ecsd/netns)"'
	[ $failed = 0 ] || journalctl -b -u ecsd --no-pager | tail -n 60
}

if [ -f /var/lib/ecsd-power-cut ]; then
	after_power
	exit
fi
uname -r
systemctl --version | head -n 1
containerd --version
runc --version | head -n 1
step "cgroup v2, systemd as pid 1"
check "cgroup v2" test -f $cgroups/cgroup.controllers
check "systemd" test -d /run/systemd/system
cd /tests || exit 1
[ ! -f /tests/environment ] || . /tests/environment
for part in ${ECSD_VM_PARTS:-unit e2e runtime cgroup spec network power}; do
	"part_$part"
done
step "end"
