package containerd

import (
	"sync"
	"testing"

	"ecsd/pkg/runtime"
)

// TestRestartChurn runs short containers again and again while their shim comes and goes
// with them, several tasks at a time.
func TestRestartChurn(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	image := m.pull(r)
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	var wg sync.WaitGroup
	for range 4 {
		tk := task("none", box("a", "exit", "0"), box("b", "exit", "1"))
		wg.Go(func() {
			fail := func(what string, err error) bool {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				return err != nil
			}
			if fail("create sandbox", r.CreateSandbox(t.Context(), tk)) {
				return
			}
			for _, name := range []string{"a", "b"} {
				if fail("create", r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: name, Image: image})) {
					return
				}
			}
			for round := range rounds {
				for _, name := range []string{"a", "b"} {
					if fail("start", r.StartContainer(t.Context(), tk.ID, name)) {
						return
					}
				}
				for _, name := range []string{"a", "b"} {
					c := m.exited(r, tk, name)
					if c.Restarts != round || c.Exit.Code == nil {
						t.Errorf("container %s in round %d: %+v", name, round, c)
					}
				}
			}
			m.remove(r, tk)
		})
	}
	wg.Wait()
}
