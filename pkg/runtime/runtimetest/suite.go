// Package runtimetest says what every runtime.Runtime must do, as tests. Run it on an
// implementation from that package's own tests:
//
//	func TestRuntime(t *testing.T) {
//		runtimetest.Run(t, func(t *testing.T) runtimetest.Fixture {
//			return runtimetest.Fixture{Runtime: newRuntime(t), ImageRef: testimage.Ref(t), MissingRef: "oci-archive:/does/not/exist.tar"}
//		})
//	}
//
// The fake runtime may do only what this suite proves of the real one: a behaviour on
// which a loop relies belongs here first.
//
// Containers run commands of the test image, /testbox: pause, ignore, exit N, after DUR N,
// write FILE TEXT, exists FILE, echo ARGS. Whatever a container does takes time; the suite
// waits by looking at List whenever an event comes, and now and then without one, until a
// deadline.
package runtimetest

import (
	"context"
	"testing"
	"time"

	"ecsd/pkg/runtime"
)

// Fixture is one runtime to try, with nothing on it, and what the suite must know of it.
type Fixture struct {
	Runtime runtime.Runtime
	// ImageRef is a reference to the test image that Pull can resolve.
	ImageRef string
	// MissingRef is a reference of which Pull must say that there is no such image.
	MissingRef string
	// Deadline bounds each wait; 0 means twenty seconds.
	Deadline time.Duration
	// NoBridge leaves out the tests on bridge networks, where the machine allows none.
	NoBridge bool
}

// Run runs the suite. newRuntime is called once for each test, and registers its own
// clean-up with t.
func Run(t *testing.T, newRuntime func(t *testing.T) Fixture) {
	for _, group := range [][]test{lifecycle, orders, faults, networks, watching, executing} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				f := newRuntime(t)
				if f.Deadline == 0 {
					f.Deadline = 20 * time.Second
				}
				if c.bridge && f.NoBridge {
					t.Skip("the machine allows no bridge network")
				}
				ctx, cancel := context.WithCancel(t.Context())
				t.Cleanup(cancel)
				b := &bench{T: t, f: f, r: f.Runtime, ctx: ctx, events: f.Runtime.Events(ctx)}
				t.Cleanup(b.sweep)
				c.run(b)
			})
		}
	}
}

// test is one of the suite's tests.
type test struct {
	name   string
	bridge bool // needs bridge networking
	run    func(*bench)
}
