package containerd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime/containerd/cgroup"
)

// hostFacts are what is true of the machine as long as the agent runs.
type hostFacts struct {
	hostname       string
	swapAccounting bool
	capabilities   []string // bounding set, as CAP_…; nil when all are there
}

func readHostFacts(tree *cgroup.Tree) hostFacts {
	var f hostFacts
	f.hostname, _ = os.Hostname() // without one it stays empty
	f.swapAccounting = tree.SwapAccounting()
	f.capabilities = boundingSet()
	return f
}

// absBinary finds a program: a name by the PATH and the places where distributions put
// system programs, which a service's PATH may lack.
func absBinary(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, name); unix.Access(p, unix.X_OK) == nil && !strings.Contains(name, "/") {
			return p, nil
		}
	}
	return "", err
}

// runtimeVersion is the first line that the OCI runtime prints about itself, asked for once.
func (r *Runtime) runtimeVersion(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.binary != "" {
		return r.binary
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.ociPath, "--version").Output()
	if err != nil {
		return filepath.Base(r.ociPath)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	r.binary = strings.Replace(strings.TrimSpace(line), " version ", " ", 1)
	return r.binary
}
