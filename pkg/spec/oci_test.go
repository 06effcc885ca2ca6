package spec

import (
	"math"
	"strings"
	"testing"
)

func TestStopSignal(t *testing.T) {
	for given, want := range map[string]string{"": "SIGTERM", "SIGQUIT": "SIGQUIT", "9": "9"} {
		if got := StopSignal(ContainerDefinition{}, ImageConfig{StopSignal: given}); got != want {
			t.Errorf("STOPSIGNAL %q: %s, want %s", given, got, want)
		}
	}
}

func TestDefaultUlimits(t *testing.T) {
	for hard, want := range map[uint64][2]int64{
		math.MaxUint64: {32768, 65536}, 1 << 20: {32768, 65536}, 40000: {32768, 40000}, 20000: {20000, 20000},
	} {
		got := DefaultUlimits(hard)
		if len(got) != 1 || got[0] != (Ulimit{Name: "nofile", SoftLimit: want[0], HardLimit: want[1]}) {
			t.Errorf("hard limit %d: %+v, want nofile %v", hard, got, want)
		}
	}
}

func TestContainerID(t *testing.T) {
	task := Task{ID: testTask, Definition: TaskDefinition{ContainerDefinitions: []ContainerDefinition{{Name: "a"}, {Name: "b"}}}}
	if id, ok := ContainerID(task, "b"); !ok || id != testTask+"-1" {
		t.Errorf("b is %q, %v", id, ok)
	}
	if id, ok := ContainerID(task, "c"); ok || id != "" {
		t.Errorf("c is %q, %v", id, ok)
	}
}

func TestHostname(t *testing.T) {
	task := func(mode, hostname string) Task {
		return Task{ID: testTask, Definition: TaskDefinition{
			NetworkMode: mode, ContainerDefinitions: []ContainerDefinition{{Name: "first"}, {Name: "web", Hostname: hostname}},
		}}
	}
	node := Host{Hostname: "node"}
	for _, test := range []struct {
		mode, hostname string
		host           Host
		want           string
	}{
		{"bridge", "", node, testTask + "-1"},
		{"bridge", "me", node, "me"},
		{"none", "", node, testTask + "-1"},
		{"host", "", node, "node"},
		{"host", "me", node, "me"},
		{"host", "", Host{}, testTask + "-1"},
		{"awsvpc", "", node, testTask},
	} {
		if got := Hostname(task(test.mode, test.hostname), "web", test.host); got != test.want {
			t.Errorf("%s, %q: %s, want %s", test.mode, test.hostname, got, test.want)
		}
	}
}

func TestChangeLabel(t *testing.T) {
	const base = "system_u:system_r:container_t:s0:c1,c2"
	for _, test := range []struct{ label, change, want string }{
		{base, "user:u", "u:system_r:container_t:s0:c1,c2"},
		{base, "role:r", "system_u:r:container_t:s0:c1,c2"},
		{base, "type=t", "system_u:system_r:t:s0:c1,c2"},
		{base, "level:s0:c3", "system_u:system_r:container_t:s0:c3"},
		{"", "type:t", "system_u:system_r:t:s0:c1,c2"},
		{base, "type:", ""},
		{base, "type", ""},
		{base, "colour:red", ""},
		{"not a label", "type:t", ""},
	} {
		if got, ok := changeLabel(base, test.label, test.change); got != test.want || ok != (test.want != "") {
			t.Errorf("%s of %q: %q, %v; want %q", test.change, test.label, got, ok, test.want)
		}
	}
}

// The quota of a task is in proportion to its cpu over whatever period, and never less
// than what the kernel takes.
func TestTaskResourcesQuota(t *testing.T) {
	for _, test := range []struct {
		cpu    string
		period uint64
		want   int64 // 0: no quota
	}{
		{"", 0, 0}, {"not a number", 0, 0}, {"0", 0, 0}, {"1024", 0, 100_000}, {"512", 0, 50_000}, {"3072", 10_000, 30_000}, {"128", 8_000, 1_000}, {"1", 0, 1_000},
		{"196608", 0, 19_200_000},
	} {
		r := TaskResources(Task{ID: testTask, Definition: TaskDefinition{CPU: test.cpu}}, Host{CPUPeriod: test.period})
		switch {
		case test.want == 0:
			if r.CPU.Quota != nil || r.CPU.Period != nil {
				t.Errorf("cpu %q: quota %d", test.cpu, *r.CPU.Quota)
			}
		case r.CPU.Quota == nil || *r.CPU.Quota != test.want:
			t.Errorf("cpu %q over %d µs: %+v, want quota %d", test.cpu, test.period, r.CPU, test.want)
		}
		if *r.CPU.Shares < minShares || *r.CPU.Shares > maxShares {
			t.Errorf("cpu %q: %d shares", test.cpu, *r.CPU.Shares)
		}
	}
}

// A long or broken string is refused without being repeated: it may be a secret.
func TestEnvironmentErrorsHideValues(t *testing.T) {
	const canary = "canary-7f3a"
	for _, value := range []string{canary + "\x00", canary + strings.Repeat("x", maxArgument)} {
		for what, img := range map[string]struct {
			c    ContainerDefinition
			host Host
			img  ImageConfig
		}{
			"definition": {c: ContainerDefinition{Environment: []KeyValuePair{{Name: "TOKEN", Value: value}}}},
			"host":       {host: Host{Env: map[string]string{"TOKEN": value}}},
			"image":      {img: ImageConfig{Env: []string{"TOKEN=" + value}}},
		} {
			img.c.Name, img.img.Cmd = "web", []string{"run"}
			_, err := OCI(Task{ID: testTask, Definition: TaskDefinition{ContainerDefinitions: []ContainerDefinition{img.c}}}, "web", img.img, img.host)
			if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "TOKEN") {
				t.Errorf("%s: %.200v", what, err)
			}
		}
	}
}

func BenchmarkOCI(b *testing.B) {
	task := Task{ID: testTask, Definition: TaskDefinition{ContainerDefinitions: []ContainerDefinition{{Name: "web"}}}}
	img, host := testImage(), testHost()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OCI(task, "web", img, host); err != nil {
			b.Fatal(err)
		}
	}
}
