package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecsd/test/containerdtest"
)

// TestRollUnderLoad rolls a service again and again while a client asks for its steady
// port, each request on a new connection and none tried again. No request may fail, and
// both the old and the new version must have answered.
func TestRollUnderLoad(t *testing.T) {
	for _, network := range []string{"bridge"} {
		t.Run(network, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "e2e-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			n := newNode(t, containerdtest.Start(t), dir)
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			const port = 18300
			apply := func(version string, count int) {
				n.write("web.yaml", fmt.Sprintf(webManifest, network, version, count, port))
				if _, err := n.ecsd("wait", "--for=stable", "--timeout="+patience.String(), "web"); err != nil {
					t.Fatal(err)
				}
			}
			apply("v1", 3)
			// On a slow machine the load must leave room for what it is to load.
			pause := 20 * (containerdtest.Patience(time.Millisecond) - time.Millisecond)
			load := exec.Command(binDir(t)+"/httpload", "-parallel", "4", "-pause", pause.String(), "-timeout", containerdtest.Patience(5*time.Second).String(), fmt.Sprintf("http://127.0.0.1:%d/", port))
			var out bytes.Buffer
			load.Stdout, load.Stderr = &out, &out
			if err := load.Start(); err != nil {
				t.Fatal(err)
			}
			apply("v2", 3)
			apply("v3", 3)
			apply("v3", 1) // scaled in
			apply("v4", 4) // scaled out, and rolled
			_ = load.Process.Signal(unix.SIGINT)
			if err := load.Wait(); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
			t.Log(out.String())
			for _, version := range []string{"v1", "v2", "v3", "v4"} {
				if !strings.Contains(out.String(), version) {
					t.Errorf("%s never answered:\n%s", version, &out)
				}
			}
			// The agent may come and go meanwhile: the ports are the kernel's.
			if _, err := n.end(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			answer, err := exec.Command("curl", "-sS", "--max-time", "5", fmt.Sprintf("http://127.0.0.1:%d/", port)).CombinedOutput()
			if err != nil || !strings.Contains(string(answer), "v4") {
				t.Errorf("without the agent: %v %s", err, answer)
			}
		})
	}
}

const webManifest = `family: web
networkMode: %s
containerDefinitions:
  - name: main
    image: $IMAGE
    command: [http, ":80", %s, from]
    memory: 32
    portMappings: [{name: http, containerPort: 80}]
    healthCheck: {command: [CMD, /testbox, exists, /testbox], interval: 5, timeout: 60}
---
serviceName: web
taskDefinition: web
desiredCount: %d
deploymentConfiguration: {minimumHealthyPercent: 100, maximumPercent: 200}
serviceConnectConfiguration:
  enabled: true
  services: [{portName: http, clientAliases: [{port: %d}]}]
`
