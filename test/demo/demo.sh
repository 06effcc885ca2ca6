#!/usr/bin/env bash
# Shows ecsd at work on this machine, then stops all it started and leaves nothing behind.
# KEEP=1 leaves it running and says how to look and how to stop it.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] || { echo "demo: containers need root: sudo make demo" >&2; exit 1; }

bin=$PWD/bin
work=$(mktemp -d /tmp/ecsd-demo.XXXXXX)
images=/var/lib/ecsd/images
containerd_pid='' agent_pid='' load_pid='' made_images='' made_datadir=''
export PATH="$bin:$PATH"
export ECSD_SOCKET=$work/agent.sock

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

stop_all() {
	local code=$?
	trap - EXIT INT TERM
	if [ $code -ne 0 ]; then
		echo "demo: failed (exit code $code); the agent's last words:" >&2
		tail -n 15 "$work/agent.log" >&2 2>/dev/null || true
	fi
	[ -n "$load_pid" ] && kill "$load_pid" 2>/dev/null
	if [ -n "$agent_pid" ] && kill -0 "$agent_pid" 2>/dev/null; then
		touch "$work/manifests/.allow-empty"
		rm -f "$work"/manifests/*.yaml "$work"/manifests/*.json
		ecsd wait --for=stopped --timeout 60s >/dev/null || true
		kill "$agent_pid" 2>/dev/null
		wait "$agent_pid" 2>/dev/null || true
	fi
	if [ -S "$address" ]; then
		for image in $(ctr --address "$address" --namespace ecsd-demo images list -q 2>/dev/null); do
			ctr --address "$address" --namespace ecsd-demo images remove --sync "$image" >/dev/null 2>&1 || true
		done
		ctr --address "$address" namespaces remove ecsd-demo >/dev/null 2>&1 || true
	fi
	if [ -n "$containerd_pid" ]; then
		kill "$containerd_pid" 2>/dev/null
		wait "$containerd_pid" 2>/dev/null || true
	fi
	ip link del ecsddemo0 2>/dev/null || true
	nft delete table inet ecsddemo0 2>/dev/null || true
	umount "$work/run/netns" 2>/dev/null || true
	for cgroup in /sys/fs/cgroup/ecsd-demo /sys/fs/cgroup/*/ecsd-demo; do
		[ -d "$cgroup" ] && rmdir "$cgroup" 2>/dev/null
	done
	[ -n "$made_images" ] && rm -f "$images/demo.tar" && rmdir "$images" 2>/dev/null
	[ -n "$made_datadir" ] && rmdir /var/lib/ecsd 2>/dev/null
	rm -rf "$work"
	exit $code
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
address=/run/containerd/containerd.sock

say "Build ecsd and a demo image from one static binary"
make -s build
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/demo" ./examples/demo
go build -o "$work/mkimage" ./test/tools/mkimage
go build -o "$work/httpload" ./test/tools/httpload
[ -d /var/lib/ecsd ] || made_datadir=yes
if [ ! -e "$images/demo.tar" ]; then
	made_images=yes
	mkdir -p "$images"
	"$work/mkimage" -o "$images/demo.tar" -ref demo:latest -file /demo="$work/demo" -entrypoint /demo -cmd web
fi
ls -lh "$bin/ecsd" "$bin/ecsd-log" "$images/demo.tar" | awk '{print $5, $9}'

if ctr --connect-timeout 2s --address "$address" version >/dev/null 2>&1; then
	say "containerd answers on $address"
else
	say "No containerd answers on $address: start a private one"
	address=$work/containerd/containerd.sock
	mkdir -p "$work/containerd"
	cat >"$work/containerd/config.toml" <<-TOML
		version = 2
		root = "$work/containerd/root"
		state = "$work/containerd/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		  address = "$address"
	TOML
	containerd --config "$work/containerd/config.toml" >"$work/containerd/log" 2>&1 &
	containerd_pid=$!
	until ctr --connect-timeout 1s --address "$address" version >/dev/null 2>&1; do
		kill -0 "$containerd_pid" || { tail "$work/containerd/log"; exit 1; }
	done
fi

say "Start the agent on the examples"
cp -r examples "$work/examples"
mkdir "$work/manifests"
cp examples/*.yaml examples/*.json "$work/manifests/"
run ecsd validate "$work/manifests"
ecsd agent --manifests "$work/manifests" --datadir "$work/data" --run-dir "$work/run" --log-dir "$work/log" \
	--containerd "$address" --containerd-namespace ecsd-demo --cgroup-parent /ecsd-demo --bridge ecsddemo0 \
	--introspection-listen 127.0.0.1:51678 >"$work/agent.log" 2>&1 &
agent_pid=$!
run ecsd wait --for=stable --timeout 120s
run ecsd ps

say "The web service answers on its steady port"
run curl -sS http://127.0.0.1:8000/
run curl -sS http://127.0.0.1:8000/

say "Roll it to version 2 under load: every request on a new connection, none tried again"
"$work/httpload" -parallel 4 http://127.0.0.1:8000/ >"$work/load.txt" 2>&1 &
load_pid=$!
sed 's/web v1/web v2/' examples/web.yaml >"$work/manifests/.web.new"
run mv "$work/manifests/.web.new" "$work/manifests/web.yaml"
run ecsd wait --for=stable --timeout 120s web
kill -INT "$load_pid"
wait "$load_pid" || { cat "$work/load.txt"; load_pid=''; echo "demo: requests failed"; exit 1; }
load_pid=''
cat "$work/load.txt"
run ecsd describe web

say "Kill a container: its service puts a new task in its place"
victim=$(ecsd ps -o json | tr -d ' \n' | grep -o '"family":"hello".*' | grep -o '"pid":[0-9]*' | head -n 1 | cut -d: -f2)
run kill -9 "$victim"
run ecsd wait --for=stable --timeout 60s hello
run ecsd ps -a
run ecsd logs --tail 3 hello

say "A bad manifest is refused with the place, and nothing that runs is touched"
sed 's/memory: 64/memory: sixty-four/' examples/hello.yaml >"$work/manifests/hello.yaml"
ecsd wait --for=running --timeout 30s hello # it reads the manifests first
run ecsd status || true
cp examples/hello.yaml "$work/manifests/hello.yaml"

say "A few metrics"
printf '\033[2m$ curl -s http://127.0.0.1:51678/metrics\033[0m\n'
curl -s http://127.0.0.1:51678/metrics | grep -E '^ecsd_(ready|runtime_up|build_info|tasks_desired|tasks\{family="web")' | head -n 12

if [ -n "${KEEP:-}" ]; then
	trap - EXIT INT TERM
	cat <<-TEXT

		It goes on running. To look:
		  export ECSD_SOCKET=$work/agent.sock PATH=$bin:\$PATH
		  ecsd ps; ecsd describe web; ecsd logs -f web; ecsd events -w
		  curl http://127.0.0.1:8000/   curl http://127.0.0.1:51678/metrics
		The manifests are in $work/manifests: change one and watch.
		To stop it and remove everything:
		  $work/stop.sh
	TEXT
	{
		echo '#!/usr/bin/env bash'
		echo "export ECSD_SOCKET=$work/agent.sock PATH=$bin:\$PATH"
		declare -p work address images agent_pid containerd_pid made_images made_datadir
		echo "load_pid=''"
		declare -f stop_all
		echo 'wait() { while kill -0 "$1" 2>/dev/null; do :; done; }'
		echo 'true; stop_all'
	} >"$work/stop.sh"
	chmod +x "$work/stop.sh"
	disown -a
	exit 0
fi
say "Stop everything"
