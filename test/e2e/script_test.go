package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"ecsd/test/containerdtest"
)

// TestScripts runs testdata/*.txtar. Beside testscript's own commands there are:
//
//	agent [FLAGS…]         start the agent; go on when it is ready
//	! agent [FLAGS…]       … and see it refuse
//	agent-stop, agent-kill end it with SIGTERM (exit code 0 is wanted) or SIGKILL
//	apply FILE…            move files of the script into the manifest directory
//	until PATTERN COMMAND… run a command until what it prints matches
//	ctr ARGS…              containerd's own client, on the node's namespace
//	nothing-left           no container, snapshot, lease, cgroup, namespace or link of the node is left
//	containerd kill|start  end the node's containerd with SIGKILL, start it again
func TestScripts(t *testing.T) {
	containerdtest.Require(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		ContinueOnError:     false,
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB)
			// Sockets have short names, and the script's own directory has a long one.
			dir, err := os.MkdirTemp("", "e2e-")
			if err != nil {
				return err
			}
			env.Defer(func() { _ = os.RemoveAll(dir) })
			n := newNode(tb, containerdtest.Start(tb), dir)
			env.Defer(n.cleanup)
			for _, kv := range n.env {
				name, value, _ := strings.Cut(kv, "=")
				env.Setenv(name, value)
			}
			env.Setenv("NODE", dir)
			env.Setenv("MANIFESTS", n.path("manifests"))
			env.Setenv("DOLLAR", "$")
			env.Values[nodeKey{}] = n
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"agent":        cmdAgent,
			"agent-stop":   cmdAgentEnd(unix.SIGTERM, 0),
			"agent-kill":   cmdAgentEnd(unix.SIGKILL, -1),
			"apply":        cmdApply,
			"until":        cmdUntil,
			"ctr":          cmdCtr,
			"nothing-left": cmdNothingLeft,
			"containerd":   cmdContainerd,
		},
	})
}

type nodeKey struct{}

func nodeOf(ts *testscript.TestScript) *node { return ts.Value(nodeKey{}).(*node) }

func cmdAgent(ts *testscript.TestScript, neg bool, args []string) {
	err := nodeOf(ts).start(args...)
	switch {
	case neg && err == nil:
		ts.Fatalf("the agent started")
	case neg:
		_, _ = ts.Stderr().Write([]byte(err.Error() + "\n"))
	case err != nil:
		ts.Fatalf("%v", err)
	}
}

func cmdAgentEnd(signal unix.Signal, want int) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) {
		code, err := nodeOf(ts).end(signal)
		if err != nil {
			ts.Fatalf("%v", err)
		}
		if code != want {
			ts.Fatalf("the agent ended with %d, want %d", code, want)
		}
	}
}

// cmdApply writes files of the script into the manifest directory, by rename. $IMAGE in
// them is the test image.
func cmdApply(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: apply FILE…")
	}
	for _, file := range args {
		nodeOf(ts).write(file, ts.ReadFile(file))
	}
}

func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND…")
	}
	n := nodeOf(ts)
	err := n.until(args[0], func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		path := args[1]
		if path == "ecsd" {
			path = binDir(n.tb) + "/ecsd"
		}
		cmd := exec.CommandContext(ctx, path, args[2:]...)
		cmd.Env, cmd.Dir = n.env, n.dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	})
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

func cmdCtr(ts *testscript.TestScript, neg bool, args []string) {
	n := nodeOf(ts)
	cmd := exec.Command("ctr", append([]string{"--address", n.daemon.Address, "--namespace", n.namespace()}, args...)...)
	out, err := cmd.CombinedOutput()
	_, _ = ts.Stdout().Write(out)
	if (err != nil) != neg {
		ts.Fatalf("ctr %v: %v\n%s", args, err, out)
	}
}

func cmdNothingLeft(ts *testscript.TestScript, _ bool, _ []string) {
	if err := nodeOf(ts).nothingLeft(); err != nil {
		ts.Fatalf("%v", err)
	}
}

func cmdContainerd(ts *testscript.TestScript, _ bool, args []string) {
	switch daemon := nodeOf(ts).daemon; {
	case len(args) == 1 && args[0] == "kill":
		daemon.Kill()
	case len(args) == 1 && args[0] == "start":
		daemon.Restart()
	default:
		ts.Fatalf("usage: containerd kill|start")
	}
}
