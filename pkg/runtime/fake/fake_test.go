package fake_test

import (
	"testing"

	"ecsd/pkg/runtime/fake"
	"ecsd/pkg/runtime/runtimetest"
)

// TestRuntime holds the fake against what every runtime must do.
func TestRuntime(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Fixture {
		r := fake.New()
		r.NoImage("registry.test/missing")
		return runtimetest.Fixture{Runtime: r, ImageRef: "registry.test/box", MissingRef: "registry.test/missing"}
	})
}
