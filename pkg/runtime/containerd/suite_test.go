package containerd

import (
	"testing"
	"time"

	"ecsd/pkg/runtime/runtimetest"
	"ecsd/test/containerdtest"
	"ecsd/test/testimage"
)

// TestRuntime runs what every runtime must do, on a real containerd.
func TestRuntime(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Fixture {
		r, _ := newMachine(t).agent()
		return runtimetest.Fixture{
			Runtime: r, ImageRef: testimage.Ref(t), MissingRef: "oci-archive:/does/not/exist.tar",
			Deadline: containerdtest.Patience(20 * time.Second),
		}
	})
}
