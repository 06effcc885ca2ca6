package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ecsd/test/containerdtest"
	"ecsd/test/ociimage"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestReadme does what the README's page of everyday use says, in its order: the manifest
// it shows, and every block of commands, each of which must succeed. Only places are
// changed: the directories are the node's own.
func TestReadme(t *testing.T) {
	containerdtest.Require(t)
	text, err := os.ReadFile("../../README.md")
	if os.IsNotExist(err) {
		text, err = os.ReadFile("README.md") // the guest of `make test-vm`
	}
	if err != nil {
		t.Fatal(err)
	}
	_, page, found := strings.Cut(string(text), "## Everyday use")
	if !found {
		t.Fatal("the README has no page of everyday use")
	}
	page, _, _ = strings.Cut(page, "\n## ")

	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := newNode(t, containerdtest.Start(t), dir)
	places := strings.NewReplacer(
		"/etc/ecs/manifests", n.path("manifests"),
		"/var/lib/ecsd/images/demo.tar", demoImage(t, dir),
	)
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(yaml|sh)\n(.*?)```").FindAllStringSubmatch(page, -1)
	commands := 0
	for _, b := range blocks {
		body := places.Replace(b[2])
		if b[1] == "yaml" {
			if err := os.WriteFile(n.path("hello.yaml"), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		commands++
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		sh := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", body)
		sh.WaitDelay = time.Second
		sh.Env, sh.Dir = n.env, dir
		if strings.Contains(body, "until ecsd status") {
			sh.Args = []string{"bash", "-e", "-c", body}
		}
		out, err := sh.CombinedOutput()
		t.Logf("%s\n%s", b[2], out)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, body)
		}
	}
	if commands < 6 {
		t.Fatalf("only %d blocks of commands: the test reads the wrong page", commands)
	}
	if err := n.nothingLeft(); err != nil { // what has stopped is removed by an agent that runs
		t.Fatal(err)
	}
	if _, err := n.end(15); err != nil {
		t.Fatal(err)
	}
}

// demoImage is the image of the examples.
func demoImage(t *testing.T, dir string) string {
	t.Helper()
	if prebuilt := os.Getenv("ECSD_E2E_BIN"); prebuilt != "" {
		return filepath.Join(filepath.Dir(prebuilt), "demo.tar")
	}
	bin := filepath.Join(dir, "demo")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "ecsd/examples/demo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	image, err := ociimage.Build([]ociimage.File{{Path: "/demo", Mode: 0o755, Data: code}}, v1.Config{Entrypoint: []string{"/demo"}, Cmd: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "demo.tar")
	if err := ociimage.Save(image, file, "demo"); err != nil {
		t.Fatal(err)
	}
	return file
}
